"""What the kernels know of a problem: one array of 32-bit integers, laid out here.

It begins with the `ConvShape` and a few numbers of the launch; the table of the patch matrix's
rows follows. A row k of that matrix is one input channel under one tap of the kernel, and its
entry holds where that lies from the corner of any window, in elements, and a bit for the tap's
place along each axis. A window has the bits of the taps that are inside of the input: so whether an
element is in the padding is one operation, and the kernels divide nothing per element. Where
padding reads elements of the input, or the kernel is too long for the bits, the entry has the steps
in depth, height and width instead (a `mapped` kernel). The array is made once for each plan and
device, and stays on the device.
"""

from typing import Any

import numpy as np

from numbaconv.problem.shape import ConvShape, pads_zeros

SHAPE = 0  # the integers of ConvShape.as_tuple
PITCH = 35  # elements from one row of the weights to the next; of a filter's tile as in its `Halo`
SPLITS = 36  # parts into which the sums are split, each computed by blocks of its own
SPLIT_TILES = 37  # tiles along K of each part
ACTIVATION = 38
HAS_BIAS = 39
COLUMNS = 40  # the block of a filter's kernel: threads along a row,
ROWS = 41  # along a column,
PLANES = 42  # and planes that it works on at once
DEPTH_END = 43  # elements along K
# Of a weight gradient, whose tables begin with that of the output's columns: integers after the
# header before the entries of the patch matrix's rows, and those of the output's rows.
PATCH_TABLE, ROW_TABLE = 44, 45
WIDTH, HEIGHT, TILE = 44, 45, 46  # of a filter's tile, and from a plane's tile to the next
MAGIC, SHIFT = 46, 47  # of the division by the output's columns; see `reciprocal`
SOURCE = 48  # of a weight gradient: the convolution, whose product is at SHAPE
PRODUCT = 48  # of a pass of Winograd's: the product at the points, whose convolution is at SHAPE
HEADER = 84
MAPPED_ENTRY = 4  # integers of an entry with coordinates, or of the output's rows: one load
ENTRY = 2  # of one with bits
NEVER = -(2**31)  # a bit that no window has
MOST_BITS = 31  # of the taps along all axes together

# No window reaches so far, even together with another one: it marks what is not there.
NOWHERE = -(2**30)
FAR = NOWHERE // 2


def is_mapped(s: ConvShape) -> bool:
    """Whether the kernels look each element up by its coordinates."""
    return not pads_zeros(s) or sum(s.kernel) > MOST_BITS


def patch_rows(s: ConvShape, channels_inside: bool, count: int, vector: int) -> np.ndarray:
    """Return the entries of the rows of the patch matrix.

    Parameters
    ----------
    s : ConvShape
        The problem.
    channels_inside : bool
        Order of the rows: channel by channel (as the weights are), or tap by tap, so that
        neighbouring channels are read together.
    count : int
        Rows, of which those past the last one lie nowhere.
    vector : int
        Rows to an entry.
    """
    order = (
        (slice(None), slice(None), None) if channels_inside else (slice(None), None, slice(None))
    )
    taps = np.indices(s.kernel, np.int64).reshape(3, -1)
    places = np.broadcast_to(taps[order], _grid(s, channels_inside)).reshape(3, -1)
    channel = np.arange(s.c_in)
    c = np.broadcast_to(
        channel if channels_inside else channel[:, None], _grid(s, channels_inside)[1:]
    ).reshape(-1)
    steps = places * np.array(s.dilation)[:, None]
    offset = c * s.in_strides[1]
    if is_mapped(s):
        table = np.full((count, MAPPED_ENTRY), NOWHERE, np.int64)
        table[: c.size] = np.stack((offset, *steps), axis=1)
    else:
        offset = offset + np.array(s.in_strides[2:]) @ steps
        bits = (1 << (places + _first_bits(s)[:, None])).sum(0)
        table = np.tile(np.array((0, NEVER), np.int64), (count, 1))
        table[: c.size] = np.stack((offset, bits), axis=1)
    return table[::vector].astype(np.int32)


def _first_bits(s: ConvShape) -> np.ndarray:
    """Return the bit of the first tap along each axis."""
    return np.array((0, s.kernel[0], s.kernel[0] + s.kernel[1]))


def _bits_along(s: ConvShape, axis: int, first: np.ndarray) -> np.ndarray:
    """Return the bits of windows along an axis, by where their first taps lie."""
    taps = np.arange(s.kernel[axis])
    at = first[:, None] + taps * s.dilation[axis]
    inside = (at >= 0) & (at < s.size[axis])
    bits: np.ndarray = (inside << (taps + _first_bits(s)[axis])).sum(1)
    return bits


def output_rows(s: ConvShape) -> np.ndarray:
    """Return the entries of the output's rows, over the whole batch.

    Each holds where the window of the row's first pixel begins in the batch, in 64 bits, its bits
    along depth and height, and the image; if mapped the image, and the steps in depth and height as
    in `patch_rows`.
    """
    image, d, h = np.indices((s.n, *s.output[:2]), np.int64).reshape(3, -1)
    d, h = d * s.stride[0] - s.padding[0], h * s.stride[1] - s.padding[1]
    if is_mapped(s):
        return np.stack((image, d, h, image), axis=1).astype(np.int32)
    offset = image * s.in_strides[0] + d * s.in_strides[2] + h * s.in_strides[3]
    bits = _bits_along(s, 0, d) | _bits_along(s, 1, h)
    return np.stack((offset, bits | image << 32), axis=1).view(np.int32)


def output_columns(s: ConvShape) -> np.ndarray:
    """Return the entries of the output's columns: where the windows begin, and their bits.

    They are as many as the table of the patch matrix's rows needs to begin aligned; none if mapped.
    """
    if is_mapped(s):
        return np.zeros(0, np.int32)
    first = np.arange(s.output[2], dtype=np.int64) * s.stride[2] - s.padding[2]
    entries = np.stack((first * s.in_strides[4], _bits_along(s, 2, first)), axis=1)
    return np.pad(entries, ((0, s.output[2] % 2), (0, 0))).astype(np.int32)


def reciprocal(divisor: int) -> tuple[int, int]:
    """Return what divides numbers below 2**31: the quotient is ``number * magic >> shift``.

    The magic number has 32 bits, as a signed integer here. It is too large by less than one part in
    2**31, which changes no quotient.
    """
    shift = 31 + (divisor - 1).bit_length()
    magic = -(-(1 << shift) // divisor)
    return magic - (1 << 32), shift


def _grid(s: ConvShape, channels_inside: bool) -> tuple[int, int, int]:
    return (3, s.taps, s.c_in) if channels_inside else (3, s.c_in, s.taps)


def make_job(s: ConvShape, settings: dict[int, Any], table: np.ndarray | None = None) -> np.ndarray:
    """Return the array of a problem; `settings` are the entries of the header after the shape."""
    header = np.zeros(HEADER, np.int32)
    shape = s.as_tuple()
    header[SHAPE : SHAPE + len(shape)] = shape
    for entry, value in settings.items():
        header[entry] = value
    return header if table is None else np.concatenate((header, table.reshape(-1)))
