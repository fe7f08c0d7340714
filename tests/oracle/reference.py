"""The definition of convolution in plain loops: the oracle every test compares with.

Nothing comes from the package under test: sizes, padding, promotion and error bounds are worked
out here a second time, slowly. ``test_reference.py`` checks this file against values worked out by
hand, SciPy and PyTorch.

Along one axis, output position ``o`` and tap ``k`` read the element ``o*stride - lo + k*dilation``.
An element outside the input is supplied by the padding mode; under ``zeros`` it is never read, so
padding contributes nothing even where a weight is infinite.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# The type in which the oracle adds up: wider than the result wherever the machine has such a type.
ACCUMULATORS = {
    "float16": np.dtype(np.float64),
    "float32": np.dtype(np.float64),
    "float64": np.dtype(np.longdouble),
    "complex64": np.dtype(np.complex128),
    "complex128": np.dtype(np.clongdouble),
}


class Axis(NamedTuple):
    """One spatial axis of a problem."""

    size: int
    kernel: int
    stride: int
    dilation: int
    lo: int
    hi: int

    @property
    def extent(self) -> int:
        """Elements from the first tap to the last, both included."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def out(self) -> int:
        """Output positions: as many as fit, counted one by one."""
        last_start = self.size + self.lo + self.hi - self.extent
        return sum(1 for _ in range(0, last_start + 1, self.stride))


def per_axis(value: Any, rank: int) -> tuple[Any, ...]:
    """One entry for each axis."""
    return value if isinstance(value, tuple) else (value,) * rank


def padding_pair(
    padding: Any, axis: int, size: int, kernel: int, stride: int, dilation: int
) -> tuple[int, int]:
    """Elements added before and after one axis, for every form of ``padding``."""
    if padding == "valid":
        return 0, 0
    if padding == "full":
        return (kernel - 1) * dilation, (kernel - 1) * dilation
    if padding in ("same", "same_lower"):
        covered = (math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1
        total = max(covered - size, 0)
        less, more = total // 2, total - total // 2
        return (less, more) if padding == "same" else (more, less)
    entry = padding[axis] if isinstance(padding, tuple) else padding
    return entry if isinstance(entry, tuple) else (entry, entry)


def axes_of(
    sizes: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
) -> list[Axis]:
    """Every spatial axis of a problem, first to last."""
    rank = len(sizes)
    steps = zip(sizes, kernel, per_axis(stride, rank), per_axis(dilation, rank), strict=True)
    return [
        Axis(size, k, s, d, *padding_pair(padding, i, size, k, s, d))
        for i, (size, k, s, d) in enumerate(steps)
    ]


def source(position: int, size: int, mode: str) -> int | None:
    """The element that stands at ``position``, which may lie outside ``range(size)``."""
    if 0 <= position < size:
        return position
    before = position < 0
    if mode == "zeros":
        return None
    if mode == "replicate":  # a a|a b c d|d d
        return 0 if before else size - 1
    # What is repeated for ever, and where in it the first element stands.
    inner = list(range(size))
    repeated = {
        "circular": inner,  # c d|a b c d|a b
        "reflect": inner + inner[-2:0:-1],  # c b|a b c d|c b
        "symmetric": inner + inner[::-1],  # b a|a b c d|d c
    }[mode]
    return repeated[position % len(repeated)]


def window(axis: Axis, position: int, mode: str = "zeros") -> list[tuple[int, int]]:
    """(tap, element) for each tap of one window that reads an element."""
    start = position * axis.stride - axis.lo
    reads = ((k, source(start + k * axis.dilation, axis.size, mode)) for k in range(axis.kernel))
    return [(tap, element) for tap, element in reads if element is not None]


def result_dtype(*arrays: Array | None) -> np.dtype[Any]:
    """The dtype of a result: NumPy's own promotion of the operands'."""
    return np.result_type(*(a.dtype.newbyteorder("=") for a in arrays if a is not None))


def conv(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    padding_mode: str | tuple[str, ...] = "zeros",
    padding_value: complex = 0,
    data_format: str = "channels_first",
) -> Array:
    """Correlate ``input`` with ``weight``, one output position at a time.

    Returns
    -------
    ndarray
        In the result's dtype for integers, where arithmetic wraps; otherwise in its accumulator,
        unrounded.
    """
    dtype = result_dtype(input, weight, bias)
    dtype = ACCUMULATORS.get(dtype.name, dtype)
    rank = weight.ndim - 2
    x, w = input.astype(dtype), weight.astype(dtype)
    if data_format == "channels_last":
        x = np.moveaxis(x, -1, -1 - rank)
    batched = x.ndim == rank + 2
    if not batched:
        x = x[np.newaxis]

    n, _, *sizes = x.shape
    c_out, c_group, *kernel = w.shape
    axes = axes_of(tuple(sizes), tuple(kernel), stride, padding, dilation)
    modes = per_axis(padding_mode, rank)
    if padding_value != 0:
        x = pad(x, axes, padding_mode, padding_value)
        axes = axes_of(x.shape[2:], tuple(kernel), stride, 0, dilation)
    windows = [
        [window(axis, o, mode) for o in range(axis.out)]
        for axis, mode in zip(axes, modes, strict=True)
    ]
    y = np.zeros((n, c_out, *(axis.out for axis in axes)), dtype)
    everything = (slice(None), slice(None))
    for position in itertools.product(*(range(axis.out) for axis in axes)):
        reads = [on_axis[o] for on_axis, o in zip(windows, position, strict=True)]
        taps = np.ix_(*(np.array([tap for tap, _ in r], np.intp) for r in reads))
        elements = np.ix_(*(np.array([element for _, element in r], np.intp) for r in reads))
        terms = c_group * math.prod(map(len, reads))
        seen = x[(*everything, *elements)].reshape(n, groups, 1, terms)
        used = w[(*everything, *taps)].reshape(groups, c_out // groups, terms)
        y[(*everything, *position)] = (seen * used).sum(-1, dtype=dtype).reshape(n, c_out)
    if bias is not None:
        y += bias.astype(dtype).reshape(c_out, *(1,) * rank)

    y = y if batched else y[0]
    return np.moveaxis(y, -1 - rank, -1) if data_format == "channels_last" else y


def pad(
    x: Array, axes: list[Axis], padding_mode: str | tuple[str, ...], padding_value: complex = 0
) -> Array:
    """Add to the spatial axes what `padding_mode` supplies, axis by axis."""
    modes = per_axis(padding_mode, len(axes))
    for i, (axis, mode) in enumerate(zip(axes, modes, strict=True), start=2):
        if axis.lo or axis.hi:
            wanted = range(-axis.lo, axis.size + axis.hi)
            reads = [source(position, axis.size, mode) for position in wanted]
            inside = [element is not None for element in reads]
            shape = (*x.shape[:i], len(reads), *x.shape[i + 1 :])
            padded = np.full(shape, padding_value, x.dtype)
            at = (slice(None),) * i
            padded[(*at, inside)] = np.take(x, [e for e in reads if e is not None], i)
            x = padded
    return x


def reads_of(axes: list[Axis]) -> Iterator[tuple[tuple[int, ...], Any, Any]]:
    """(position, taps, elements) of every output: its windows, as indices of weight and input."""
    windows = [[window(axis, o) for o in range(axis.out)] for axis in axes]
    for position in itertools.product(*(range(axis.out) for axis in axes)):
        reads = [on_axis[o] for on_axis, o in zip(windows, position, strict=True)]
        taps = np.ix_(*(np.array([tap for tap, _ in r], np.intp) for r in reads))
        elements = np.ix_(*(np.array([element for _, element in r], np.intp) for r in reads))
        yield position, taps, elements


def conv_input(
    input_size: tuple[int, ...],
    weight: Array,
    grad_output: Array,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Array:
    """Gradient of `conv` with respect to its input: each output's goes back to what it read.

    With complex numbers it is the adjoint, as PyTorch has it: the weights are conjugated.
    """
    dtype = result_dtype(weight, grad_output)
    dtype = ACCUMULATORS.get(dtype.name, dtype)
    rank = weight.ndim - 2
    c_out, c_group, *kernel = weight.shape
    w = weight.astype(dtype).conj().reshape(groups, c_out // groups, c_group, *kernel)
    batched = len(input_size) == rank + 2
    n = input_size[0] if batched else 1
    gradient = grad_output.astype(dtype).reshape(
        n, groups, c_out // groups, *grad_output.shape[-rank:]
    )
    sizes = tuple(input_size[-rank:])
    x = np.zeros((n, groups, c_group, *sizes), dtype)
    axes = axes_of(sizes, tuple(kernel), stride, padding, dilation)
    everything = (slice(None), slice(None), slice(None))
    for position, taps, elements in reads_of(axes):
        used = w[(*everything, *taps)]  # (g, oc, ic, *taps)
        flat = used.reshape(groups, c_out // groups, math.prod(used.shape[2:]))
        sent = (gradient[(*everything, *position)][..., None] * flat).sum(2, dtype=dtype)
        x[(*everything, *elements)] += sent.reshape(n, groups, *used.shape[2:])
    return x.reshape(input_size)


def conv_weight(
    input: Array,
    weight_size: tuple[int, ...],
    grad_output: Array,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Array:
    """Gradient of `conv` with respect to its weight; a complex input is conjugated."""
    dtype = result_dtype(input, grad_output)
    dtype = ACCUMULATORS.get(dtype.name, dtype)
    rank = len(weight_size) - 2
    c_out, c_group, *kernel = weight_size
    n = input.shape[0] if input.ndim == rank + 2 else 1
    sizes = input.shape[-rank:]
    x = input.astype(dtype).conj().reshape(n, groups, 1, c_group, *sizes)
    gradient = grad_output.astype(dtype).reshape(
        n, groups, c_out // groups, *grad_output.shape[-rank:]
    )
    w = np.zeros((groups, c_out // groups, c_group, *kernel), dtype)
    axes = axes_of(sizes, tuple(kernel), stride, padding, dilation)
    everything = (slice(None),) * 3
    for position, taps, elements in reads_of(axes):
        seen = x[(*everything, slice(None), *elements)]  # (n, g, 1, ic, *taps)
        by = gradient[(*everything, *position)].reshape(
            n, groups, c_out // groups, *(1,) * (rank + 1)
        )
        w[(*everything, *taps)] += (seen * by).sum(0, dtype=dtype)
    return w.reshape(weight_size)


def transposed_size(
    size: int, kernel: int, stride: int, dilation: int, pads: tuple[int, int], more: int
) -> int:
    """Elements of a transposed convolution's output along one axis."""
    furthest = (size - 1) * stride + (kernel - 1) * dilation  # where the last element's last tap is
    return furthest + 1 - sum(pads) + more


def conv_transpose(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Array:
    """Spread each element of ``input`` over the taps of ``weight``, one input element at a time."""
    dtype = result_dtype(input, weight, bias)
    dtype = ACCUMULATORS.get(dtype.name, dtype)
    rank = weight.ndim - 2
    c_in, c_group, *kernel = weight.shape
    batch, sizes = input.shape[: -rank - 1], input.shape[-rank:]
    n = math.prod(batch)
    x = input.astype(dtype).reshape(n, groups, c_in // groups, *sizes)
    w = weight.astype(dtype).reshape(groups, c_in // groups, c_group, *kernel)
    strides, dilations = per_axis(stride, rank), per_axis(dilation, rank)
    more = per_axis(output_padding, rank)
    pads = [padding_pair(padding, i, 0, 0, 0, 0) for i in range(rank)]
    axes = list(zip(sizes, kernel, strides, dilations, pads, more, strict=True))
    out = [transposed_size(*axis) for axis in axes]
    # Uncut: everything that an element reaches, before the padding is taken off.
    reached = [size + sum(pair) for size, pair in zip(out, pads, strict=True)]
    y = np.zeros((n, groups, c_group, *reached), dtype)
    everything = (slice(None),) * 3
    for position in itertools.product(*map(range, sizes)):
        spread = np.einsum("ngi,gio...->ngo...", x[(*everything, *position)], w)
        steps = zip(position, kernel, strides, dilations, strict=True)
        places = tuple(slice(p * s, p * s + (k - 1) * d + 1, d) for p, k, s, d in steps)
        y[(*everything, *places)] += spread
    cut = (slice(lo, lo + size) for (lo, _), size in zip(pads, out, strict=True))
    y = y[(*everything, *cut)].reshape(*batch, groups * c_group, *out)
    return y if bias is None else y + bias.astype(dtype).reshape(-1, *(1,) * rank)


def reads_by_taps(axes: list[Axis]) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """(tap, elements) of every tap: what all windows read by it, as slices of the padded input."""
    for tap in itertools.product(*(range(axis.kernel) for axis in axes)):
        starts = [k * axis.dilation for k, axis in zip(tap, axes, strict=True)]
        yield (
            tap,
            tuple(
                slice(start, start + (axis.out - 1) * axis.stride + 1, axis.stride)
                for start, axis in zip(starts, axes, strict=True)
            ),
        )


def conv_by_taps(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    padding_mode: str | tuple[str, ...] = "zeros",
    padding_value: complex = 0,
    data_format: str = "channels_first",
) -> Array:
    """Compute `conv` with the loop over taps outside: fast enough for large or many problems."""
    rank = weight.ndim - 2
    dtype = result_dtype(input, weight, bias)
    dtype = ACCUMULATORS.get(dtype.name, dtype)
    w = weight.astype(dtype)
    batched = input.ndim == rank + 2
    x = input if batched else input[np.newaxis]
    x = np.moveaxis(x, -1, 1) if data_format == "channels_last" else x
    n, _, *sizes = x.shape
    c_out, c_group, *kernel = w.shape
    axes = axes_of(tuple(sizes), tuple(kernel), stride, padding, dilation)
    x = pad(x.astype(dtype), axes, padding_mode, padding_value)
    out = tuple(axis.out for axis in axes)
    y = np.zeros((n, groups, c_out // groups, math.prod(out)), dtype)
    for tap, reads in reads_by_taps(axes):
        seen = x[(slice(None), slice(None), *reads)].reshape(n, groups, c_group, math.prod(out))
        y += w[(slice(None), slice(None), *tap)].reshape(groups, c_out // groups, c_group) @ seen
    y = y.reshape(n, c_out, *out)
    if bias is not None:
        y += bias.astype(dtype).reshape(c_out, *(1,) * rank)
    y = np.moveaxis(y, 1, -1) if data_format == "channels_last" else y
    return y if batched else y[0]


def conv_input_by_taps(
    input_size: tuple[int, ...],
    weight: Array,
    grad_output: Array,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Array:
    """Compute `conv_input` with the loop over taps outside."""
    rank = weight.ndim - 2
    dtype = result_dtype(weight, grad_output)
    dtype = ACCUMULATORS.get(dtype.name, dtype)
    c_out, c_group, *kernel = weight.shape
    w = weight.astype(dtype).conj().reshape(groups, c_out // groups, c_group, *kernel)
    sizes = tuple(input_size[-rank:])
    n = input_size[0] if len(input_size) == rank + 2 else 1
    axes = axes_of(sizes, tuple(kernel), stride, padding, dilation)
    out = tuple(axis.out for axis in axes)
    gradient = grad_output.astype(dtype).reshape(n, groups, c_out // groups, math.prod(out))
    x = np.zeros((n, groups, c_group, *(a.size + a.lo + a.hi for a in axes)), dtype)
    for tap, reads in reads_by_taps(axes):
        sent = np.swapaxes(w[(..., *tap)], 1, 2) @ gradient
        x[(..., *reads)] += sent.reshape(n, groups, c_group, *out)
    inside = (slice(axis.lo, axis.lo + axis.size) for axis in axes)
    return x[(..., *inside)].reshape(input_size)


def conv_weight_by_taps(
    input: Array,
    weight_size: tuple[int, ...],
    grad_output: Array,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Array:
    """Compute `conv_weight` with the loop over taps outside."""
    rank = len(weight_size) - 2
    dtype = result_dtype(input, grad_output)
    dtype = ACCUMULATORS.get(dtype.name, dtype)
    c_out, c_group, *kernel = weight_size
    n = input.shape[0] if input.ndim == rank + 2 else 1
    sizes = input.shape[-rank:]
    axes = axes_of(sizes, tuple(kernel), stride, padding, dilation)
    pixels = math.prod(axis.out for axis in axes)
    x = pad(input.astype(dtype).conj().reshape(n, groups * c_group, *sizes), axes, "zeros")
    gradient = grad_output.astype(dtype).reshape(n, groups, c_out // groups, pixels)
    w = np.zeros((groups, c_out // groups, c_group, *kernel), dtype)
    for tap, reads in reads_by_taps(axes):
        seen = x[(..., *reads)].reshape(n, groups, c_group, pixels)
        w[(..., *tap)] = (gradient @ np.swapaxes(seen, 2, 3)).sum(0, dtype=dtype)
    return w.reshape(weight_size)


def gamma(n: int, unit: float) -> float:
    """Higham's gamma: the relative error of ``n`` roundings, in any order, of size ``unit``."""
    return n * unit / (1 - n * unit)


def unit_roundoff(dtype: np.dtype[Any]) -> float:
    """Half the distance from 1 to the next number."""
    return float(np.finfo(dtype).eps) / 2


def error_bound(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    oracle: Callable[..., Array] = conv,
    **options: Any,
) -> NDArray[np.floating[Any]]:
    """How far a correct result may lie from `conv`, whatever the order of its additions.

    With K products to an output, ``|y - exact| <= gamma(K + 2) * (|x| conv |w| + |b|)``; the
    oracle's own error, the same with its smaller unit, is added.

    Notes
    -----
    Complex: computed from real products, each component is a sum of 2K of them, so n = 2K + 4.
    Four products to a complex one leave at most sqrt(2) times the bound above, the three-product
    (Gauss) form at most sqrt(1 + 3**2); 4 covers both.

    float16: computed in float32, then rounded once more, to within a half unit of the stored
    value or half the smallest subnormal.
    """
    dtype = result_dtype(input, weight, bias)
    wide = ACCUMULATORS[dtype.name]
    magnitudes = [None if a is None else np.abs(a.astype(wide)) for a in (input, weight, bias)]
    magnitude = oracle(*magnitudes, **options)
    # Only the rounding to float16 asks for the result itself.
    exact = oracle(input, weight, bias, **options) if dtype == np.float16 else magnitude
    return sum_bound(math.prod(weight.shape[1:]), dtype, magnitude, exact)


def sum_bound(
    terms: int, dtype: np.dtype[Any], magnitude: Array, exact: Array
) -> NDArray[np.floating[Any]]:
    """How far sums of `terms` products may lie from the oracle's, as `error_bound` has it.

    `magnitude` is the oracle's result for absolute values, `exact` the result itself.
    """
    wide = ACCUMULATORS[dtype.name]
    n, constant = (2 * terms + 4, 4.0) if dtype.kind == "c" else (terms + 2, 1.0)
    computed_in = np.dtype(np.float32) if dtype == np.float16 else dtype
    g = gamma(n, unit_roundoff(computed_in)) + gamma(n, unit_roundoff(wide))
    bound = constant * g * np.abs(magnitude)
    if dtype == np.float16:
        half = np.finfo(np.float16)
        bound = bound + unit_roundoff(dtype) * (np.abs(exact) + bound)
        bound += float(half.smallest_subnormal) / 2
    return bound


def patch_reads(
    axes: list[Axis], padding_mode: str = "zeros"
) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """(column, tap, element) of every entry of the patch matrix that reads an element."""
    kernel = [axis.kernel for axis in axes]
    positions = itertools.product(*(range(axis.out) for axis in axes))
    for column, position in enumerate(positions):
        reads = [window(axis, o, padding_mode) for axis, o in zip(axes, position, strict=True)]
        for per_axis_reads in itertools.product(*reads):
            tap = 0
            for extent, (k, _) in zip(kernel, per_axis_reads, strict=True):
                tap = tap * extent + k
            yield column, tap, tuple(element for _, element in per_axis_reads)


def im2col(
    input: Array,
    kernel_size: tuple[int, ...],
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
    *,
    padding_mode: str | tuple[str, ...] = "zeros",
) -> Array:
    """The patch matrix: one column an output position, one row a channel and tap."""
    rank = len(kernel_size)
    batched = input.ndim == rank + 2
    x = input if batched else input[np.newaxis]
    n, c, *sizes = x.shape
    axes = axes_of(tuple(sizes), kernel_size, stride, padding, dilation)
    taps, length = math.prod(kernel_size), math.prod(axis.out for axis in axes)
    columns = np.zeros((n, c, taps, length), input.dtype.newbyteorder("="))
    for column, tap, element in patch_reads(axes, padding_mode):
        columns[:, :, tap, column] = x[(slice(None), slice(None), *element)]
    columns = columns.reshape(n, c * taps, length)
    return columns if batched else columns[0]


def col2im(
    columns: Array,
    output_size: tuple[int, ...],
    kernel_size: tuple[int, ...],
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
) -> Array:
    """The adjoint of `im2col`: every entry is added to the element it was read from."""
    batched = columns.ndim == 3
    cols = columns if batched else columns[np.newaxis]
    n, rows, length = cols.shape
    taps = math.prod(kernel_size)
    axes = axes_of(output_size, kernel_size, stride, padding, dilation)
    cols = cols.reshape(n, rows // taps, taps, length)
    image = np.zeros((n, rows // taps, *output_size), columns.dtype.newbyteorder("="))
    for column, tap, element in patch_reads(axes):
        image[(slice(None), slice(None), *element)] += cols[:, :, tap, column]
    return image if batched else image[0]
