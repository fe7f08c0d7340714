"""The patch matrix as an array: `im2col` writes it, and `col2im` is the adjoint of `im2col`.

The im2col backend writes the same matrix panel by panel, and never holds the whole of it.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from numbaconv.blocks.calls import (
    ByBlocks,
    Spreading,
    goes_by_blocks,
    stand_in,
    zero_padded,
    zero_padded_windows,
)
from numbaconv.blocks.regions import Along, Read, Spread, Window
from numbaconv.foreign import call_foreign, is_foreign, lazily
from numbaconv.problem.dtypes import promoted
from numbaconv.problem.libraries import check_sizes, is_lazy
from numbaconv.problem.validation import (
    LETTERS,
    Pairs,
    check_addressable,
    check_array,
    input_array,
    integer,
    is_sequence,
    padding_pairs,
    per_axis,
)
from numbaconv.problem.validation import output_size as positions_along


def _kernel_axes(kernel_size: Any, array_rank: int, name: str) -> tuple[int, ...]:
    """Return the kernel as a tuple; for an int, of as many axes as the array has."""
    if is_sequence(kernel_size):
        rank = len(kernel_size)
    else:
        integer("kernel_size", kernel_size, 1)
        rank = array_rank
    if not 1 <= rank <= 3:
        raise ValueError(
            f"kernel_size must be for 1, 2 or 3 axes, got {kernel_size!r} for {name} which "
            f"makes it {rank}"
        )
    return per_axis("kernel_size", kernel_size, rank)


class Patches(NamedTuple):
    """A validated call: the sizes of the image, and where its patches lie.

    Attributes
    ----------
    n, c : int
        Images and channels.
    batched : bool
        Whether the caller's arrays have an axis for the batch.
    size, kernel, dilation, stride : tuple of int
        Along each spatial axis.
    pairs : tuple of (int, int)
        Padding before and after each spatial axis.
    positions : tuple of int
        Number of patches along each spatial axis.
    """

    n: int
    c: int
    batched: bool
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    dilation: tuple[int, ...]
    stride: tuple[int, ...]
    pairs: Pairs
    positions: tuple[int, ...]

    def _shape(self, *rest: int) -> tuple[int, ...]:
        return (self.n, *rest) if self.batched else rest

    @property
    def columns_shape(self) -> tuple[int, ...]:
        """Shape of the patch matrix as the caller has it."""
        return self._shape(self.c * math.prod(self.kernel), math.prod(self.positions))

    @property
    def maps_shape(self) -> tuple[int, ...]:
        """The same, with an axis for each spatial axis of positions."""
        return self._shape(self.c * math.prod(self.kernel), *self.positions)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of the image as the caller has it."""
        return self._shape(self.c, *self.size)

    @property
    def split_shape(self) -> tuple[int, ...]:
        """Shape of the patch matrix with an axis for each tap and position."""
        return (self.n, self.c, *self.kernel, *self.positions)

    @property
    def is_padded(self) -> bool:
        """Whether there is any padding."""
        return any(map(any, self.pairs))

    @property
    def padded_shape(self) -> tuple[int, ...]:
        """Shape of the padded batch."""
        axes = zip(self.size, self.pairs, strict=True)
        return (self.n, self.c, *(s + a + b for s, (a, b) in axes))

    @property
    def inside(self) -> tuple[slice, ...]:
        """Index of the image in the padded batch."""
        axes = zip(self.size, self.pairs, strict=True)
        return (slice(None), slice(None), *(slice(a, a + s) for s, (a, _) in axes))

    def reads(self, tap: tuple[int, ...]) -> tuple[Any, Any]:
        """Index of the positions at which a tap reads the image, and of what it reads there.

        The one is for an array of all positions, the other for the image. Elsewhere it reads zeros.
        """
        positions, image = [], []
        axes = zip(
            tap, self.dilation, self.stride, self.positions, self.size, self.pairs, strict=True
        )
        for t, d, step, count, size, (before, _) in axes:
            first = t * d - before  # what the first position reads
            begin = min(max(-(first // step), 0), count)
            end = max(min((size - 1 - first) // step + 1, count), begin)
            positions.append(slice(begin, end))
            start = first + begin * step if begin < end else 0
            image.append(slice(start, start + (end - begin) * step, step))
        both = slice(None), slice(None)
        return (*both, *positions), (*both, *image)


def im2col_patches(
    input: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> Patches:
    """Validate a call of `im2col`."""
    check_array("input", input)
    kernel = _kernel_axes(kernel_size, input.ndim - 2, f"an input of shape {input.shape}")
    rank = len(kernel)
    if input.ndim not in (rank + 1, rank + 2):
        raise ValueError(
            f"input must have shape (N, C, {LETTERS[rank]}) or (C, {LETTERS[rank]}) for the "
            f"kernel_size {kernel_size!r}; got shape {input.shape}"
        )
    strides = per_axis("stride", stride, rank)
    dilations = per_axis("dilation", dilation, rank)
    batched = input.ndim == rank + 2
    n, c, *size = input.shape if batched else (1, *input.shape)
    pairs = padding_pairs(padding, size, kernel, strides, dilations)
    positions = positions_along(size, kernel, strides, pairs, dilations, name="kernel_size")
    check_addressable("padding", n, c, math.prod(kernel), math.prod(positions))
    return Patches(n, c, batched, tuple(size), kernel, dilations, strides, pairs, positions)


def col2im_patches(
    columns: Any, output_size: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> Patches:
    """Validate a call of `col2im`."""
    check_array("columns", columns)
    promoted(columns=columns.dtype)
    if columns.ndim not in (2, 3):
        raise ValueError(
            f"columns must have shape (N, C * prod(kernel_size), L) or without N, "
            f"got shape {columns.shape}"
        )
    rank = next((len(v) for v in (output_size, kernel_size) if is_sequence(v)), 2)
    size = per_axis("output_size", output_size, rank)
    kernel = _kernel_axes(kernel_size, rank, f"an output_size of {output_size!r}")
    if len(kernel) != rank:
        raise ValueError(
            f"kernel_size {kernel_size!r} and output_size {output_size!r} must have as many axes"
        )
    strides = per_axis("stride", stride, rank)
    dilations = per_axis("dilation", dilation, rank)
    pairs = padding_pairs(padding, size, kernel, strides, dilations)
    positions = positions_along(size, kernel, strides, pairs, dilations, name="kernel_size")
    batched = columns.ndim == 3
    n, rows, count = columns.shape if batched else (1, *columns.shape)
    taps = math.prod(kernel)
    if rows % taps or count != math.prod(positions):
        raise ValueError(
            f"columns must have a multiple of {taps} rows (the taps of kernel_size) and "
            f"{math.prod(positions)} positions {positions}, got shape {columns.shape}"
        )
    p = Patches(n, rows // taps, batched, size, kernel, dilations, strides, pairs, positions)
    check_addressable("padding", *p.padded_shape)
    return p


def im2col(
    input: np.ndarray,
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
) -> np.ndarray:
    """Write the surroundings of each position as a column: the patch matrix.

    A convolution is then one matrix product, ``weight.reshape(C_out, -1) @ columns``.

    Parameters
    ----------
    input : ndarray
        Shape ``(N, C, *spatial)`` with 1 to 3 spatial axes, of any dtype that `conv` takes, or
        of bools. If
        `kernel_size` is a tuple, ``(C, *spatial)`` is taken too.
    kernel_size : int or tuple of int
        Size of a patch. The length of a tuple is the number of spatial axes. With an int the
        input is batched and has ``input.ndim - 2`` spatial axes.
    dilation, padding, stride
        As in `conv`, in all its forms; the padding is zeros.

    Returns
    -------
    ndarray
        Shape (N, C * prod(kernel_size), L), where L is the number of positions; without N for an
        unbatched input. Rows are in the order (channel, tap), as in
        ``torch.nn.functional.unfold``.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; the message names it.

    Examples
    --------
    >>> import numpy as np
    >>> import numbaconv as nc
    >>> image = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> nc.im2col(image, 3).shape  # 3 x 3 values around each of 2 x 2 positions
    (1, 9, 4)
    """
    if type(input) is not np.ndarray and is_foreign(input):
        if is_lazy(input):
            return _lazy_columns(input, kernel_size, dilation, padding, stride)
        return call_foreign(im2col, locals())  # type: ignore[no-any-return]
    x = input_array("input", input)
    p = im2col_patches(x, kernel_size, dilation, padding, stride)
    return _columns(x, p)


def col2im(
    columns: np.ndarray,
    output_size: Any,
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
) -> np.ndarray:
    """Add each column to the places that `im2col` reads it from: the adjoint of `im2col`.

    Parameters
    ----------
    columns : ndarray
        Shape (N, C * prod(kernel_size), L) or (C * prod(kernel_size), L).
    output_size : int or tuple of int
        Spatial size of the result, which is the spatial size of the input of that `im2col`.
    kernel_size, dilation, padding, stride
        As in `im2col`. If both sizes are ints, there are two spatial axes.

    Returns
    -------
    ndarray
        Shape ``(N, C, *output_size)``, or without N.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; the message names it.

    Examples
    --------
    >>> import numpy as np
    >>> import numbaconv as nc
    >>> image = np.ones((1, 4, 4))
    >>> nc.col2im(nc.im2col(image, (3, 3)), (4, 4), (3, 3))  # how many patches hold each element
    array([[[1., 2., 2., 1.],
            [2., 4., 4., 2.],
            [2., 4., 4., 2.],
            [1., 2., 2., 1.]]])
    """
    if type(columns) is not np.ndarray and is_foreign(columns):
        if is_lazy(columns):
            return _lazy_image(columns, output_size, kernel_size, dilation, padding, stride)
        return call_foreign(col2im, locals())  # type: ignore[no-any-return]
    columns = input_array("columns", columns)
    p = col2im_patches(columns, output_size, kernel_size, dilation, padding, stride)
    return _added_up(columns, p)


def _columns(x: np.ndarray, p: Patches) -> np.ndarray:
    """Write the columns of an image."""
    x = x if p.batched else x[np.newaxis]
    columns = (np.zeros if p.is_padded else np.empty)(p.split_shape, x.dtype.newbyteorder("="))
    for tap in np.ndindex(p.kernel):
        positions, image = p.reads(tap)
        columns[(slice(None), slice(None), *tap)][positions] = x[image]
    return columns.reshape(p.columns_shape)


def _added_up(columns: np.ndarray, p: Patches) -> np.ndarray:
    """Add columns, in any of their shapes, to an image of zeros."""
    split = columns.reshape(p.split_shape)
    result = np.zeros((p.n, p.c, *p.size), columns.dtype.newbyteorder("="))
    with np.errstate(all="ignore"):  # what kernels do: inf and NaN are results like any other
        for tap in np.ndindex(p.kernel):
            positions, image = p.reads(tap)
            result[image] += split[(slice(None), slice(None), *tap)][positions]
    return result.reshape(p.image_shape)


# --- Arrays of Dask: positions have an axis for each axis of the image, and these are cut ---------


def _lazy_columns(input: Any, *options: Any) -> np.ndarray:
    check_sizes("input", input)
    p = im2col_patches(stand_in(input), *options)
    maps: np.ndarray = lazily(_maps_of, {"input": input, "patches": p})
    return maps.reshape(p.columns_shape)


def _lazy_image(columns: Any, *options: Any) -> np.ndarray:
    check_sizes("columns", columns)
    p = col2im_patches(stand_in(columns), *options)
    maps = columns.reshape(p.maps_shape)
    return lazily(_image_of, {"input": maps, "patches": p})  # type: ignore[no-any-return]


class _Maps(ByBlocks):
    """`_maps_of`."""

    @classmethod
    def of(cls, function: Any, given: dict[str, Any]) -> "_Maps":
        p: Patches = given["patches"]
        sizes = p.size, p.positions, p.kernel, p.stride, p.dilation, p.pairs
        rows = Along(p.c, p.c * math.prod(p.kernel), splits=False)
        axes = [rows, *zero_padded_windows(*sizes)]
        images = [Along(p.n, p.n)] if p.batched else []
        dtype = given["input"].dtype.newbyteorder("=")
        return cls(function, {}, {"patches": p}, [*images, *axes], dtype)

    def run(self, block: Any, reads: Sequence[Read], arrays: dict[str, Any]) -> Any:
        """Write the patches of a block."""
        block, pads = zero_padded(block, reads, [isinstance(axis, Window) for axis in self.axes])
        p: Patches = self.options["patches"]
        options = p.kernel, p.dilation, tuple(pads[-len(p.kernel) :]), p.stride
        return self.function(block, im2col_patches(block, *options))


class _Image(Spreading):
    """`_image_of`."""

    @classmethod
    def of(cls, function: Any, given: dict[str, Any]) -> "_Image":
        p: Patches = given["patches"]
        each = zip(p.positions, p.size, p.kernel, p.dilation, p.stride, p.pairs, strict=True)
        spatial = [Spread(n, o, (k - 1) * d, s, lo) for n, o, k, d, s, (lo, _) in each]
        rows = Along(p.c * math.prod(p.kernel), p.c, splits=False)
        images = [Along(p.n, p.n)] if p.batched else []
        dtype = given["input"].dtype.newbyteorder("=")
        return cls(function, {}, {"patches": p}, [*images, rows, *spatial], dtype)

    def _whole(self, block: Any, pairs: Pairs, arrays: dict[str, Any]) -> Any:
        p: Patches = self.options["patches"]
        positions = block.shape[-len(pairs) :]
        each = zip(positions, p.kernel, p.dilation, p.stride, pairs, strict=True)
        size = tuple((n - 1) * s + (k - 1) * d + 1 - sum(pair) for n, k, d, s, pair in each)
        columns = block.reshape(*block.shape[: -len(pairs)], -1)
        return self.function(
            block, col2im_patches(columns, size, p.kernel, p.dilation, pairs, p.stride)
        )


@goes_by_blocks(_Maps.of)
def _maps_of(input: np.ndarray, patches: Patches) -> np.ndarray:
    """Patches as channels: `im2col` with an axis of positions for each axis of the image."""
    return _columns(input, patches).reshape(patches.maps_shape)


@goes_by_blocks(_Image.of)
def _image_of(input: np.ndarray, patches: Patches) -> np.ndarray:
    """Add up patches that are channels."""
    return _added_up(input, patches)
