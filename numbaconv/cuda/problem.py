"""What the kernels know of a problem: one array of 32-bit integers, laid out here.

It begins with the `ConvShape` and a few numbers of the launch; the table of the patch matrix's
rows follows. A row k of that matrix is one input channel under one tap of the kernel, and its
entry holds where that lies from the corner of any window: the offset in elements, and the steps in
depth, height and width that decide whether it is in the padding. So the kernels divide nothing per
element. The array is made once for each plan and device, and stays on the device.
"""

from typing import Any

import numpy as np

from numbaconv.problem.shape import ConvShape, pads_zeros

SHAPE = 0  # the integers of ConvShape.as_tuple
PITCH = 35  # elements from one row of the weights, or of the filter kernel's tile, to the next
SPLITS = 36  # parts into which the sums are split, each computed by blocks of its own
SPLIT_TILES = 37  # tiles along K of each part
ACTIVATION = 38
HAS_BIAS = 39
COLUMNS = 40  # the filter kernel's block: threads along a row,
ROWS = 41  # along a column,
PLANES = 42  # and planes that it works on at once
DEPTH_END = 43  # elements along K
ROW_TABLE = 44  # where the entries of the output's rows begin, in entries
SOURCE = 48  # of a weight gradient: the convolution, whose product is at SHAPE
HEADER = 84
ENTRY = 4  # integers of an entry: one load

# No window reaches so far, even together with another one: it marks what is not there.
NOWHERE = -(2**30)
FAR = NOWHERE // 2


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
    taps = np.indices(s.kernel, np.int64).reshape(3, -1) * np.array(s.dilation)[:, None]
    channel = np.arange(s.c_in)
    order = (
        (slice(None), slice(None), None) if channels_inside else (slice(None), None, slice(None))
    )
    d, h, w = np.broadcast_to(taps[order], _grid(s, channels_inside)).reshape(3, -1)
    c = np.broadcast_to(
        channel if channels_inside else channel[:, None], _grid(s, channels_inside)[1:]
    ).reshape(-1)
    _, c_step, d_step, h_step, w_step = s.in_strides
    offset = c * c_step
    if pads_zeros(s):  # otherwise the kernel finds the element, axis by axis
        offset = offset + d * d_step + h * h_step + w * w_step
    table = np.full((count, ENTRY), NOWHERE, np.int64)
    table[: c.size] = np.stack((offset, d, h, w), axis=1)
    return table[::vector].astype(np.int32)


def output_rows(s: ConvShape) -> np.ndarray:
    """Return the entries of the output's rows, over the whole batch.

    Each holds where the window of the row's first pixel begins in its image, the steps in depth and
    height, as in `patch_rows`, and the image.
    """
    image, d, h = np.indices((s.n, *s.output[:2]), np.int64).reshape(3, -1)
    d, h = d * s.stride[0] - s.padding[0], h * s.stride[1] - s.padding[1]
    offset = d * s.in_strides[2] + h * s.in_strides[3] - s.padding[2] * s.in_strides[4]
    return np.stack((offset, d, h, image), axis=1).astype(np.int32)


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
