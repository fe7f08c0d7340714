"""A convolution as several on parts of its output: images, or rows of one.

So its sums need no more memory at a time than those of a part, where they are not the result. Parts
read the input where it lies: what differs is where they begin, and the padding that they meet.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from numbaconv.codegen.integers import ceil_div
from numbaconv.problem.forward import memory_strides
from numbaconv.problem.shape import CIRCULAR, REFLECT, SYMMETRIC, ZEROS, ConvShape, with_value

_READ_BACK = REFLECT, SYMMETRIC, CIRCULAR  # modes that read what lies before, at the end


class Piece(NamedTuple):
    """A part of the output.

    Attributes
    ----------
    shape : ConvShape
        The convolution that computes it, into memory of its own.
    first_in, first_out : int
        Elements of input and output before the first of the part.
    runs, length : int
        Runs of neighbours in the output, as many elements each; in the part they lie one behind the
        other.
    step : int
        Elements of the output from one run to the next.
    """

    shape: ConvShape
    first_in: int
    first_out: int
    runs: int
    length: int
    step: int


def outermost_axis(s: ConvShape) -> int:
    """Return the first of the three axes along which there is more than one output, or the last."""
    return next(i for i in range(3) if s.output[i] > 1 or i == 2)


def equal_cuts(rows: int, parts: int) -> Iterator[tuple[int, int]]:
    """Yield where about equal parts of some rows begin and end."""
    return pairwise(part * rows // parts for part in range(parts + 1))


def cut_output(s: ConvShape, most: int, channels_last: bool) -> Iterator[Piece]:
    """Yield the parts of an output of about `most` elements each, or of one row where that is more.

    Whole images, if several fit, or some rows of the outermost axis that has any. How an image is
    cut does not depend on how many there are.
    """
    image = s.groups * s.c_out * s.pixels
    if image <= most:
        together = max(1, most // max(image, 1))
        for n in range(0, s.n, together):
            count = min(together, s.n - n)
            piece = s._replace(n=count)
            yield Piece(piece, n * s.in_strides[0], n * image, 1, count * image, 0)
        return
    axis = outermost_axis(s)
    parts = min(ceil_div(image, most), s.output[axis])
    for n in range(s.n):
        for first, end in equal_cuts(s.output[axis], parts):
            yield _rows(s, n, axis, first, end, channels_last)


def _rows(s: ConvShape, n: int, axis: int, first: int, end: int, channels_last: bool) -> Piece:
    """Return the rows from `first` to before `end` of an axis, in front of which lies none."""
    channels = s.groups * s.c_out
    read = first * s.stride[axis] - s.padding[axis]
    last = read + (end - 1 - first) * s.stride[axis] + (s.kernel[axis] - 1) * s.dilation[axis]
    size, mode, skipped = s.size[axis], s.padding_mode[axis], 0
    inside = last < size
    if size > 0 and read >= 0 and (inside or mode not in _READ_BACK):
        skipped = min(read, size - 1)
        size = (last + 1 if inside else size) - skipped
        mode = ZEROS if inside else mode

    output = with_value(s.output, axis, end - first)
    pixels, row = s.pixels, s.pixels // s.output[axis]
    piece = s._replace(
        n=1,
        size=with_value(s.size, axis, size),
        stride=with_value(s.stride, axis, s.stride[axis] if end - first > 1 else 1),
        padding=with_value(s.padding, axis, skipped - read),
        padding_mode=with_value(s.padding_mode, axis, mode),
        output=output,
        out_strides=memory_strides(channels, output, channels_last),
    )
    first_in = n * s.in_strides[0] + skipped * s.in_strides[2 + axis]
    length = (end - first) * row
    if channels_last:
        return Piece(
            piece, first_in, (n * pixels + first * row) * channels, 1, length * channels, 0
        )
    return Piece(piece, first_in, n * pixels * channels + first * row, channels, length, pixels)
