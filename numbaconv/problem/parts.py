"""A convolution as several on copies of parts of its input: images, or rows of one.

So a copy in another order needs no more memory at a time than that of a part. Rows outside of the
input are copied too, as what they consist of: a part has no padding along the axis that is cut.
Copies and outputs have their channels first.
"""

from collections.abc import Iterator
from typing import NamedTuple

from numbaconv.codegen.integers import ceil_div
from numbaconv.problem.forward import memory_strides
from numbaconv.problem.padding_modes import padded_index
from numbaconv.problem.pieces import equal_cuts, outermost_axis
from numbaconv.problem.shape import ZEROS, ConvShape, with_value

# Rows of a part, in extents of the kernel, at least: each reads those of its neighbours again.
LEAST_EXTENTS = 4


class Run(NamedTuple):
    """Neighbouring rows of a copy, and what they are.

    That is as many rows of the input, or one for all; None: they lie outside.
    """

    target: slice
    source: slice | None


class Part(NamedTuple):
    """A part of a convolution.

    Attributes
    ----------
    shape : ConvShape
        The convolution that computes it, from a copy to memory of its own.
    images : slice
        Its images.
    axis : int
        The spatial axis, of three, that is cut.
    rows : slice
        Its rows of the output along that axis.
    runs : tuple of Run
        The rows of the copy.
    """

    shape: ConvShape
    images: slice
    axis: int
    rows: slice
    runs: tuple[Run, ...]


def cut_apart(s: ConvShape, most: int) -> Iterator[Part]:
    """Yield the parts of a convolution that read and store about `most` elements each.

    Whole images, if several fit, or some rows of the outermost axis that has any. How an image is
    cut does not depend on how many there are.
    """
    d, h, w = s.size
    image = s.groups * max(s.c_out * s.pixels, s.c_in * d * h * w)
    axis = outermost_axis(s)
    rows, size = s.output[axis], s.size[axis]
    extent = (s.kernel[axis] - 1) * s.dilation[axis] + 1
    least = max(1, LEAST_EXTENTS * extent // s.stride[axis])
    count = min(ceil_div(image, most), max(1, rows // least))
    if count == 1:
        together = max(1, most // max(image, 1))
        whole = (Run(slice(0, size), slice(0, size)),)
        for n in range(0, s.n, together):
            images = slice(n, min(n + together, s.n))
            piece = s._replace(n=images.stop - n)
            yield Part(piece, images, axis, slice(0, rows), whole)
        return
    for n in range(s.n):
        for first, end in equal_cuts(rows, count):
            shape, runs = _rows(s, axis, first, end)
            yield Part(shape, slice(n, n + 1), axis, slice(first, end), runs)


def _rows(s: ConvShape, axis: int, first: int, end: int) -> tuple[ConvShape, tuple[Run, ...]]:
    """The problem of the output rows from `first` to before `end`, and what it reads."""
    size, stride = s.size[axis], s.stride[axis]
    begin = first * stride - s.padding[axis]
    count = (end - 1 - first) * stride + (s.kernel[axis] - 1) * s.dilation[axis] + 1
    padding, mode = 0, ZEROS
    if count <= size:
        runs = tuple(_runs(begin, count, size, s.padding_mode[axis]))
    else:  # far apart, or mostly padding: all rows are fewer
        runs = (Run(slice(0, size), slice(0, size)),)
        count, padding, mode = size, -begin, s.padding_mode[axis]

    output = with_value(s.output, axis, end - first)
    taken = with_value(s.size, axis, count)
    shape = s._replace(
        n=1,
        size=taken,
        stride=with_value(s.stride, axis, stride if end - first > 1 else 1),
        padding=with_value(s.padding, axis, padding),
        padding_mode=with_value(s.padding_mode, axis, mode),
        output=output,
        in_strides=memory_strides(s.groups * s.c_in, taken, False),
        out_strides=memory_strides(s.groups * s.c_out, output, False),
    )
    return shape, runs


def _runs(begin: int, count: int, size: int, mode: int) -> Iterator[Run]:
    """Yield the runs of so many rows from row `begin`, which may lie outside."""
    end = begin + count
    first, last = min(max(begin, 0), end), max(min(end, size), begin)
    yield from _outside(begin, range(begin, first), size, mode)
    if first < last:
        yield Run(slice(first - begin, last - begin), slice(first, last))
    yield from _outside(begin, range(max(first, last), end), size, mode)


def _outside(begin: int, rows: range, size: int, mode: int) -> Iterator[Run]:
    """Yield the runs of rows that all lie outside."""
    places = [padded_index(row, size, mode) for row in rows]
    first = 0
    while first < len(places):
        at, end = places[first], first + 1
        after = places[end] if end < len(places) else at
        step = after - at if min(at, after) >= 0 and abs(after - at) == 1 else 0
        while end < len(places) and places[end] == places[end - 1] + step:
            end += 1
        source = None
        if at >= 0:
            stop = at + step * (end - first) if step else at + 1
            source = slice(at, stop if stop >= 0 else None, step or 1)
        yield Run(slice(rows[first] - begin, rows[first] - begin + end - first), source)
        first = end
