"""A convolution as several on parts of its output: images, or rows of one.

So its sums need no more memory at a time than those of a part, where they are not the result. Parts
read the input where it lies: what differs is where they begin, and the padding that they meet.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from numbaconv.codegen.integers import ceil_div
from numbaconv.problem.forward import memory_strides
from numbaconv.problem.shape import CIRCULAR, REFLECT, SYMMETRIC, ZEROS, ConvShape, Triple

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
    axis = next(i for i in range(3) if s.output[i] > 1 or i == 2)
    parts = min(ceil_div(image, most), s.output[axis])
    cuts = [part * s.output[axis] // parts for part in range(parts + 1)]
    for n in range(s.n):
        for first, end in pairwise(cuts):
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

    def along(values: Triple, value: int) -> Triple:
        d, h, w = (value if i == axis else old for i, old in enumerate(values))
        return d, h, w

    output = along(s.output, end - first)
    pixels, row = s.pixels, s.pixels // s.output[axis]
    piece = s._replace(
        n=1,
        size=along(s.size, size),
        stride=along(s.stride, s.stride[axis] if end - first > 1 else 1),
        padding=along(s.padding, skipped - read),
        padding_mode=along(s.padding_mode, mode),
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
