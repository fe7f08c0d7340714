"""Random calls of a filter, which SciPy answers too."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tests.oracle import reference

MODES = (
    "reflect",
    "mirror",
    "nearest",
    "wrap",
    "constant",
    "grid-mirror",
    "grid-wrap",
    "grid-constant",
)
# What the oracle calls them.
PAD = {
    "reflect": "symmetric",
    "mirror": "reflect",
    "nearest": "replicate",
    "wrap": "circular",
    "constant": "zeros",
}
INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "bool")
FLOATS = ("float32", "float64")
COMPLEX = ("complex64", "complex128")


def padded(x: np.ndarray, widths: list[tuple[int, int]], mode: str, value: float) -> np.ndarray:
    """An image with so much more along each axis, and `value` there if that is the mode.

    `numpy.pad` reflects in another way before version 2.0, where it does so more than once.
    """
    axes = [reference.Axis(n, 1, 1, 1, *pair) for n, pair in zip(x.shape, widths, strict=True)]
    return reference.pad(x[None, None], axes, PAD[mode], value)[0, 0]


class Call(NamedTuple):
    """A call: the function's name, the image, its other arguments and its options."""

    name: str
    image: np.ndarray
    arguments: tuple[Any, ...]
    options: dict[str, Any]

    def __str__(self) -> str:
        return (
            f"{self.name}({self.image.dtype}{self.image.shape} strides {self.image.strides}, "
            f"{self.arguments}, {self.options})"
        )


class Draw:
    """Draws of one seed."""

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed)
        self.numbers = np.random.default_rng(self.random.getrandbits(64))

    def choose(self, options: Any) -> Any:
        return self.random.choice(tuple(options))

    def one_in(self, n: int) -> bool:
        return self.random.randrange(n) == 0

    def shape(self) -> tuple[int, ...]:
        rank = self.choose((1, 2, 2, 2, 3, 3, 4, 5))
        most = {1: 300, 2: 50, 3: 14, 4: 7, 5: 5}[rank]
        shape = [self.random.randint(1, most) for _ in range(rank)]
        if self.one_in(4):
            shape[-1] = self.choose((3, 4, 70, 130))
        return tuple(shape)

    def image(self, dtypes: tuple[str, ...]) -> np.ndarray:
        """An image of any layout: reversed, transposed, with gaps, of swapped bytes."""
        shape, dtype = self.shape(), np.dtype(self.choose(dtypes))
        order = (
            self.random.sample(range(len(shape)), len(shape))
            if self.one_in(3)
            else range(len(shape))
        )
        steps = [self.choose((1, 1, 1, 1, 2, -1)) for _ in shape]
        whole = [shape[axis] * abs(steps[axis]) for axis in order]
        if dtype.kind == "b":
            values = self.numbers.random(whole) < 0.5
        elif dtype.kind in "iu":
            limits = np.iinfo(dtype)
            low, high = max(limits.min, -(2**31)), min(limits.max, 2**31)
            values = self.numbers.integers(low, high, whole, endpoint=True)
        else:
            values = self.numbers.normal(size=whole)
            if dtype.kind == "c":
                values = values + 1j * self.numbers.normal(size=whole)
        array = values.astype(dtype)
        if self.one_in(12):
            array = array.astype(dtype.newbyteorder())
        array = np.transpose(array, np.argsort(order))
        return array[tuple(slice(None, None, step) for step in steps)]

    def weights(self, shape: tuple[int, ...], integers: bool, is_complex: bool) -> np.ndarray:
        if integers:
            w = self.numbers.integers(-4, 5, shape).astype(self.choose((np.int64, np.float64)))
        else:
            w = self.numbers.normal(size=shape)
        if self.one_in(3):
            w[self.numbers.random(shape) < 0.4] = 0
        if w.ndim == 1 and self.one_in(2):
            w = w + w[::-1] if self.one_in(2) else w - w[::-1]
        return w + 1j * self.numbers.normal(size=shape) if is_complex else w

    def origin(self, size: int) -> int:
        return 0 if self.one_in(2) else self.random.randint(-(size // 2), (size - 1) // 2)

    def axes(self, rank: int) -> tuple[int, ...] | None:
        if self.one_in(2):
            return None
        axes = self.random.sample(range(rank), self.random.randint(1, rank))
        return tuple(axis - self.choose((0, rank)) for axis in axes)

    def for_axes(self, count: int, draw: Callable[[], Any]) -> Any:
        """One value for all axes, or one for each."""
        return draw() if self.one_in(2) else [draw() for _ in range(count)]

    def mode(self) -> str:
        return str(self.choose(MODES))


# Results that an integer dtype cannot hold are undefined in C: means alone stay within it.
MEANS = ("gaussian_filter", "gaussian_filter1d", "uniform_filter", "uniform_filter1d")
SUMS = (
    "correlate",
    "convolve",
    "correlate1d",
    "convolve1d",
    "sobel",
    "prewitt",
    "laplace",
    "gaussian_laplace",
    "gaussian_gradient_magnitude",
)


def draw_call(seed: str) -> Call:
    """A random call, defined in SciPy."""
    draw = Draw(seed)
    name = draw.choose((*MEANS, *SUMS))
    mean = name in MEANS
    image = draw.image((*INTEGERS, *FLOATS, *FLOATS, *COMPLEX))
    options: dict[str, Any] = {}
    is_complex = image.dtype.kind == "c"
    whole = image.dtype.kind in "biu"
    if whole and not mean:
        options["output"] = draw.choose(("int64", "float64", np.float32, np.dtype("float64")))
        if options["output"] == "int64":  # where sums are exact and fit
            image = (image.astype(np.int64) % 100).astype(image.dtype)
    elif not is_complex and not whole and draw.one_in(3):
        options["output"] = draw.choose((np.float64, "float32"))
    elif is_complex and draw.one_in(3):
        options["output"] = np.complex128
    if draw.one_in(2):
        cval = draw.choose((0, 1, 3.0, 2.5))
        options["cval"] = int(image.dtype.kind != "b") * cval
    arguments = draw_arguments(draw, name, image, options)
    return Call(name, image, arguments, options)


def draw_arguments(
    draw: Draw, name: str, image: np.ndarray, options: dict[str, Any]
) -> tuple[Any, ...]:
    """The arguments of one function; its options are added."""
    rank = image.ndim
    one_axis = name.endswith("1d") or name in ("sobel", "prewitt")
    if one_axis:
        options["axis"] = draw.random.randint(-rank, rank - 1)
        count = 1
    else:
        axes = draw.axes(rank)
        if axes is not None:
            options["axes"] = axes
        count = rank if axes is None else len(axes)
    single_mode = name.endswith("1d") or name in ("correlate", "convolve")
    options["mode"] = draw.mode()
    if not single_mode:
        options["mode"] = draw.for_axes(rank if one_axis else count, draw.mode)
    integers = image.dtype.kind in "biu"
    if name in ("correlate1d", "convolve1d"):
        size = draw.random.randint(1, draw.choose((4, 12, 60)))
        options["origin"] = draw.origin(size)
        return (draw.weights((size,), integers, complex_weights(draw, integers, options)),)
    if name in ("correlate", "convolve"):
        most = {1: 30, 2: 7, 3: 4}.get(count, 3)
        axes = sorted(axis % rank for axis in options.get("axes", range(rank)))
        # Twice the image's size beyond it, "reflect" makes SciPy read outside of the array.
        sizes = [min(most, 2 * image.shape[axis]) for axis in axes]
        shape = tuple(draw.random.randint(1, size) for size in sizes)
        options["origin"] = [draw.origin(n) for n in sorted_as(shape, options.get("axes"), rank)]
        return (draw.weights(shape, integers, complex_weights(draw, integers, options)),)
    if name == "uniform_filter1d":
        size = draw.random.randint(1, 20)
        options["origin"] = draw.origin(size)
        return (size,)
    if name == "uniform_filter":
        size = draw.random.randint(1, 9)
        options["origin"] = draw.for_axes(count, lambda: draw.origin(size))
        return (size if draw.one_in(2) else [size] * count,)
    if not name.startswith("gaussian"):
        return ()
    if draw.one_in(4):
        options["truncate"] = draw.choose((1.0, 2.5, 6.0))
    if name == "gaussian_filter1d":
        options["order"] = 0 if integers else draw.choose((0, 0, 1, 2, 3))
        return (draw.random.uniform(0.2, 6),)

    def sigma() -> float:
        return float(draw.random.choice((0, 0.4, 1, 2.3, 5)))

    if name == "gaussian_gradient_magnitude":
        return (sigma(),)
    if name == "gaussian_laplace":
        return (max(sigma(), 0.4),)
    if not integers:
        options["order"] = draw.for_axes(count, lambda: draw.choose((0, 0, 1, 2)))
    return (draw.for_axes(count, sigma),)


def complex_weights(draw: Draw, integers: bool, options: dict[str, Any]) -> bool:
    """Whether weights are complex; the output then is, too."""
    if integers or not draw.one_in(6):
        return False
    if "output" in options:
        options["output"] = np.complex128
    return True


def sorted_as(shape: tuple[int, ...], axes: tuple[int, ...] | None, rank: int) -> list[int]:
    """Sizes of weights, whose axes are the image's in its own order, in the order of `axes`."""
    if axes is None or len(axes) == rank:
        return list(shape)
    order = sorted(axis % rank for axis in axes)
    return [shape[order.index(axis % rank)] for axis in axes]
