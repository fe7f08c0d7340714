"""The convolutions that are timed, as data.

``layers.csv`` has the layers that users meet, ``tiny.csv`` small calls, and ``sweep.csv`` problems
that others chose: two of each shape list that oneDNN's benchmark driver is tested with, their
batches cut so that a call stays small. ``cliffs.csv`` has problems of kinds on which an earlier
version fell far behind, ``large.csv`` filters of hundreds to ten thousands of taps. These three are
read only where they are asked for.

The first letter of a row's id is its kind:

===  ==========================  ===  ==========================
R    ResNet-50                   X    grouped (ResNeXt)
V    VGG                         D    dilated
G    GoogLeNet                   T    odd sizes
S    speech, 2-D                 B    batches of 32
U    diffusion U-Net             I    images, one filter
M    depthwise                   A    audio, 1-D
Q    tiny calls                  C    volumes, 3-D
P    a peer's problems (sweep)   K    cliffs
L    large filters
===  ==========================  ===  ==========================

Each row stands for two more problems, its gradients: ``R3-input`` and ``R3-weight``.
"""

import csv
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

TABLES = Path(__file__).resolve().parents[1]


PerAxis = int | tuple[int, ...]


class Layer(NamedTuple):
    """One convolution problem.

    Stride, padding and dilation are one number for every spatial axis alike, or one an axis.
    """

    id: str
    what: str
    n: int
    c_in: int
    size: tuple[int, ...]
    c_out: int
    kernel: tuple[int, ...]
    stride: PerAxis = 1
    padding: PerAxis = 0
    dilation: PerAxis = 1
    groups: int = 1

    @property
    def gradient(self) -> str:
        """``input`` or ``weight`` where that gradient is the problem, else empty."""
        return self.id.partition("-")[2]

    @property
    def kind(self) -> str:
        """Family of the row: the first letter of its id, or which gradient it is."""
        return self.gradient or self.id[0]

    @property
    def rank(self) -> int:
        """Number of spatial axes."""
        return len(self.size)

    def per_axis(self, option: str) -> tuple[int, ...]:
        """Stride, padding or dilation along each spatial axis."""
        value = getattr(self, option)
        return value if isinstance(value, tuple) else (value,) * self.rank

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(N, C_in, *size)."""
        return (self.n, self.c_in, *self.size)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """(C_out, C_in/groups, *kernel)."""
        return (self.c_out, self.c_in // self.groups, *self.kernel)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """(N, C_out, *output size), of the convolution."""
        options = map(self.per_axis, ("stride", "padding", "dilation"))
        axes = zip(self.size, self.kernel, *options, strict=True)
        sizes = ((n + 2 * p - (k - 1) * d - 1) // s + 1 for n, k, s, p, d in axes)
        return (self.n, self.c_out, *sizes)

    @property
    def result_shape(self) -> tuple[int, ...]:
        """Shape of what is computed: that of the output, or of what the gradient is of."""
        shapes = {"input": self.input_shape, "weight": self.weight_shape}
        return shapes.get(self.gradient, self.output_shape)

    @property
    def reduction(self) -> int:
        """Number of products summed into one output element (K)."""
        return math.prod(self.weight_shape[1:])

    @property
    def flops(self) -> int:
        """Floating-point operations of the definition: two for each product."""
        return 2 * math.prod(self.output_shape) * self.reduction

    @property
    def elements(self) -> int:
        """Elements of input, weight and output: what has to cross memory at least once."""
        return sum(map(math.prod, (self.input_shape, self.weight_shape, self.output_shape)))

    @property
    def conv_kwargs(self) -> dict[str, PerAxis]:
        """Keyword arguments, named as in numbaconv and in ``torch.nn.functional``."""
        return {name: getattr(self, name) for name in ("stride", "padding", "dilation", "groups")}


def arrays(layer: Layer, seed: int = 0, dtype: str = "float32") -> tuple[Any, Any]:
    """Make the input and the weight of a layer, uniform in [-1, 1).

    Parameters
    ----------
    layer : Layer
        The problem.
    seed : int
        The same seed gives the same arrays in every process.
    dtype : str
        ``"float32"`` or ``"float64"``.

    Returns
    -------
    x, w : ndarray
        C-contiguous arrays of shapes `layer.input_shape` and `layer.weight_shape`.
    """
    rng = np.random.default_rng(seed)
    return _uniform(rng, layer.input_shape, dtype), _uniform(rng, layer.weight_shape, dtype)


def output_gradient(layer: Layer, dtype: str = "float32") -> Any:
    """Make a gradient of the output, of shape `layer.output_shape`, uniform in [-1, 1)."""
    return _uniform(np.random.default_rng(1), layer.output_shape, dtype)


def _uniform(rng: Any, shape: tuple[int, ...], dtype: str) -> Any:
    array = rng.random(shape, dtype="float32")
    array *= 2  # in place: the memory suites would see a copy
    array -= 1
    return array.astype(dtype, copy=False)


def read_layers(path: Path) -> dict[str, Layer]:
    """Read a table of layers.

    Parameters
    ----------
    path : Path
        A file with the columns of `Layer`; extents such as ``56x56`` become tuples.

    Returns
    -------
    dict of str to Layer
        The rows by id, in upper case, in the file's order.

    Raises
    ------
    ValueError
        If a column, an entry or every row is missing, an entry is no number, or an id has a '-',
        which marks gradients.
    """

    def extents(text: str) -> tuple[int, ...]:
        return tuple(map(int, text.split("x")))

    def parse(row: dict[str, str]) -> Layer:
        if None in row or None in row.values() or "-" in row["id"]:
            raise ValueError(f"{path}, row {row['id']}: an entry a column, and no '-' in the id")
        fields: dict[str, Any] = {**row, "id": row["id"].upper()}
        for name in Layer._fields[2:]:
            whole = name in ("size", "kernel") or "x" in row[name]
            fields[name] = extents(row[name]) if whole else int(row[name])
        return Layer(**fields)

    with path.open(newline="") as file:
        table = csv.DictReader(file)
        if missing := set(Layer._fields) - set(table.fieldnames or ()):
            raise ValueError(f"{path} has no column {', '.join(sorted(missing))}")
        layers = {layer.id: layer for layer in map(parse, table)}
    if not layers:
        raise ValueError(f"{path} has no rows")
    return layers


LAYERS: dict[str, Layer] = {}
GRADIENTS: dict[str, Layer] = {}
EVERY_ROW: dict[str, Layer] = {}


def add_table(path: Path) -> list[str]:
    """Add the rows of a table, and their gradients, to those that are known; return their ids."""
    found = read_layers(path)
    LAYERS.update(found)
    GRADIENTS.update(
        {
            f"{row}-{of}": layer._replace(id=f"{row}-{of}", what=f"{layer.what}, gradient of {of}")
            for row, layer in found.items()
            for of in ("input", "weight")
        }
    )
    EVERY_ROW.update(LAYERS | GRADIENTS)
    return list(found)


for _name in ("layers.csv", "tiny.csv"):
    add_table(TABLES / _name)


def select(
    rows: Iterable[str] = (), kinds: Iterable[str] = (), backward: bool = False
) -> list[Layer]:
    """Pick layers by id and by kind.

    Parameters
    ----------
    rows, kinds : iterable of str
        Ids and first letters. With neither, every layer is picked.
    backward : bool
        Whether to return both gradients of each layer instead.

    Returns
    -------
    list of Layer
        The picked layers, in the order of the tables.

    Raises
    ------
    ValueError
        If an id or a kind is in no table.
    """
    rows, kinds = {r.upper() for r in rows}, {k.upper() for k in kinds}
    unknown = rows - LAYERS.keys() | kinds - {layer.kind for layer in LAYERS.values()}
    if unknown:
        raise ValueError(f"no such row or kind: {', '.join(sorted(unknown))}")
    everything = not rows and not kinds
    layers = [la for la in LAYERS.values() if everything or la.id in rows or la.kind in kinds]
    if not backward:
        return layers
    return [GRADIENTS[f"{layer.id}-{of}"] for layer in layers for of in ("input", "weight")]
