"""Convolutions of arrays of any rank, as those that `numbaconv.conv` has kernels for.

Along some axes two arrays are convolved. The others are paired as NumPy broadcasts: an axis that
only one array has is one of images or of filters, and one that both have is one of groups.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from numbaconv.blocks import regions
from numbaconv.blocks.calls import ByBlocks, goes_by_blocks
from numbaconv.convolution import conv
from numbaconv.foreign import lazily
from numbaconv.problem.libraries import is_lazy

_MOST_AXES = 3  # along which `conv` convolves


class Window(NamedTuple):
    """Which elements of a full convolution are asked for along an axis."""

    first: int
    size: int


def window(mode: str, size1: int, size2: int) -> Window:
    """The elements that a mode asks for; of "valid" the first array is the larger."""
    if mode == "full":
        return Window(0, size1 + size2 - 1)
    if mode == "same":
        return Window((size2 - 1) // 2, size1)
    return Window(size2 - 1, size1 - size2 + 1)


def along(axis: int, index: slice) -> tuple[Any, ...]:
    """An index along one axis."""
    return (*(slice(None),) * axis, index)


class _ByBlocks(ByBlocks):
    """`convolved`: blocks of the first array, under the whole of the second."""

    @classmethod
    def of(cls, function: Any, given: dict[str, Any]) -> "_ByBlocks":
        x, w, windows = given["x"], given["w"], given["windows"]
        axes: list[regions.Axis] = []
        for axis, (n, k) in enumerate(zip(x.shape, w.shape, strict=True)):
            if axis in windows:
                first, count = windows[axis]
                lo, hi = k - 1 - first, first + count - n
                axes.append(regions.Window(n, count, k - 1, 1, lo, hi))
            else:
                axes.append(regions.Along(n, max(n, k), splits=k == 1))
        options = {"backend": given["backend"]}
        return cls(function, {"w": w}, options, axes, np.result_type(x.dtype, w.dtype))

    def run(self, block: Any, reads: Sequence[regions.Read], arrays: dict[str, Any]) -> Any:
        """Convolve a block."""
        w, windows = arrays["w"], {}
        for axis, (kind, read) in enumerate(zip(self.axes, reads, strict=True)):
            if isinstance(kind, regions.Window):
                windows[axis] = Window(kind.reach - read.before, read.used - kind.reach)
        return self.function(block, w, windows, self.options["backend"])


@goes_by_blocks(_ByBlocks.of)
def convolved(
    x: np.ndarray, w: np.ndarray, windows: dict[int, Window], backend: str | None = None
) -> np.ndarray:
    """Convolve two arrays of one rank.

    Parameters
    ----------
    x, w : ndarray
        None of them empty. Axes without a window are paired: equal, or 1 in either. The result is
        lazy if an array is one of Dask.
    windows : dict
        What is asked for along each axis that is convolved.
    backend : str, optional
        Backend of `numbaconv.conv`.

    Returns
    -------
    ndarray
        Of the dtype that both promote to. Sums of bools are whether any product is true.
    """
    if is_lazy(x) or is_lazy(w):
        if not is_lazy(x) or (is_lazy(w) and w.size > x.size):
            x, w = w, x
        given = {"x": x, "w": w, "windows": windows, "backend": backend}
        return lazily(convolved, given)  # type: ignore[no-any-return]
    dtype = np.result_type(x, w)
    if dtype == np.bool_:
        counts = convolved(x.astype(np.int32), w.astype(np.int32), windows, backend)
        return np.asarray(counts != 0)
    if x.dtype.kind != "c" == dtype.kind:
        x, w = w, x
    if w.dtype.kind != "c" == dtype.kind:
        # Two real convolutions: as a complex number the real array would make four.
        parts = [convolved(part, w, windows, backend) for part in (x.real, x.imag)]
        out = np.empty(parts[0].shape, dtype)
        out.real, out.imag = parts
        return out
    x, w = (a.astype(dtype) if a.dtype == np.bool_ else a for a in (x, w))
    if w.size > x.size:
        x, w = w, x
    spatial = []
    for axis, (first, count) in windows.items():
        if w.shape[axis] > 1:
            spatial.append(axis)
        else:
            x = x[along(axis, slice(first, first + count))]
    if not spatial:
        return np.asarray(x * w)
    if len(spatial) > _MOST_AXES:
        return _tap_by_tap(x, w, {axis: windows[axis] for axis in spatial}, backend)
    return _arranged(x, w, {axis: windows[axis] for axis in spatial}, backend)


def _tap_by_tap(
    x: np.ndarray, w: np.ndarray, windows: dict[int, Window], backend: str | None
) -> np.ndarray:
    """Add up, over the taps along one axis, what the other axes make."""
    axis, *others = windows
    first, count = windows[axis]
    rest = {other: windows[other] for other in others}
    total: np.ndarray | None = None
    for tap in range(w.shape[axis]):
        begin, end = max(first - tap, 0), min(first + count - tap, x.shape[axis])
        if begin >= end:
            continue
        part = convolved(
            x[along(axis, slice(begin, end))], w[along(axis, slice(tap, tap + 1))], rest, backend
        )
        if total is None:
            shape = list(part.shape)
            shape[axis] = count
            total = np.zeros(shape, part.dtype)
        total[along(axis, slice(begin + tap - first, end + tap - first))] += part
    assert total is not None  # every element of a full convolution has a product
    return total


def _arranged(
    x: np.ndarray, w: np.ndarray, windows: dict[int, Window], backend: str | None
) -> np.ndarray:
    """Arrange images, groups, filters and spatial axes as `conv` has them, and back."""
    pairs = []
    for axis, (first, count) in windows.items():
        low, high, size = first - w.shape[axis] + 1, first + count, x.shape[axis]
        x = x[along(axis, slice(max(low, 0), min(high, size)))]
        w = np.flip(w, axis)
        pairs.append((max(-low, 0), max(high - size, 0)))
    others = [axis for axis in range(x.ndim) if axis not in windows]
    images = [axis for axis in others if w.shape[axis] == 1]
    groups = [axis for axis in others if x.shape[axis] == w.shape[axis] > 1]
    filters = [axis for axis in others if x.shape[axis] == 1 < w.shape[axis]]
    order = [*images, *groups, *filters, *windows]
    x, w = x.transpose(order), w.transpose(order)
    sizes = x.shape[: len(images)], x.shape[len(images) : len(images) + len(groups)]
    n, g = map(math.prod, sizes)
    paired = *sizes[0], *w.shape[len(images) : len(others)]
    y = conv(
        x.reshape(n, g, *x.shape[len(others) :]),
        w.reshape(-1, 1, *w.shape[len(others) :]),
        padding=tuple(pairs),
        groups=g,
        backend=backend,
    )
    return np.asarray(y.reshape(*paired, *y.shape[2:]).transpose(np.argsort(order)))
