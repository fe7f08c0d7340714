"""What each lowering of depthwise layers does on a problem, for a row of outputs of one channel."""

from numbaconv.codegen.integers import ceil_div
from numbaconv.cpu import blocking
from numbaconv.cpu.blocking import STRIP_ROWS, most_of, strip_vectors
from numbaconv.cpu.direct.blocks import columns_of_pixels, rows_in_cache
from numbaconv.cpu.direct.choice import (
    CHANNEL_COLUMNS,
    period_of,
    reads_in_place,
    uses_small_planes,
)
from numbaconv.cpu.direct.counts import Counts, inside, itemsize, step
from numbaconv.cpu.direct.tasks import halo_extents
from numbaconv.problem.shape import ConvShape, kernel_taps
from numbaconv.problem.taps import axis_taps


def strip_heights(rows: int) -> list[int]:
    """List the heights of the strips whose sum is a filter of so many rows."""
    heights = []
    while rows > 0:
        heights.append(most_of(STRIP_ROWS, rows))
        rows -= heights[-1]
    return heights


def count_planes(s: ConvShape, lanes: int) -> Counts:
    """Count for `depthwise_planes`."""
    if uses_small_planes(s, lanes):
        return {"depthwise_planes.small_row": 1}
    kd, kh, kw = s.kernel
    vectors, heights, depth = ceil_div(s.output[2], lanes), strip_heights(kh), kd * inside(s, 0)
    passes = depth * len(heights)
    strips = depth * sum(ceil_div(vectors, strip_vectors(h, s.stride[1])) for h in heights)
    apart = min(s.dilation[1], s.output[1])
    loads = passes * vectors * kw
    counts: Counts = {
        "depthwise_planes.product": depth * inside(s, 1) * vectors * kw * kh,
        "depthwise_planes.load": loads * s.stride[1],
        "depthwise_planes.result": passes * vectors,
        "depthwise_planes.again": max(0, passes - 1) * vectors,
        "depthwise_planes.call": strips * apart / s.output[1],
    }
    if s.stride[2] == 2:
        counts["depthwise_planes.split"] = loads
    reach = (kw - 1) * s.dilation[2]
    if vectors <= 2 and max(s.padding[2], reach - s.padding[2]) > 0:  # masks at both ends
        counts["depthwise_planes.masked"] = loads * s.stride[1]
    return counts


def tile_steps(pixels: float, lanes: int) -> float:
    """Cycles of a tap on so many pixels of a row, in equal tiles of at most `lanes` pixels."""
    tiles = ceil_div(max(1, int(pixels)), lanes)
    return tiles * step(pixels / tiles, 1)


def halo_rows(s: ConvShape, cols: int, channels: int, lanes: int) -> tuple[int, float, float]:
    """Count for a halo tile of all channels of a pixel, rows as `rows_in_cache` has them.

    Returns
    -------
    int, float, float
        Blocks of rows; rows of a tile for a row of outputs, and how many of them are no padding.
    """
    kd, height = s.kernel[0], s.output[1]
    width = halo_extents(s, 1, cols)[1]

    def size(rows: int) -> int:
        return int(kd * halo_extents(s, rows, cols)[0] * width * channels)

    rows = rows_in_cache(height, 1, 1, blocking.CACHE_BYTES // itemsize(lanes), size)
    copied = kd * halo_extents(s, rows, cols)[0] / rows
    real = inside(s, 0) * min(1, s.size[1] / halo_extents(s, height, cols)[0])
    return ceil_div(height, rows), copied, copied * real


def count_channels(s: ConvShape, lanes: int) -> Counts:
    """Count for `depthwise_channels`."""
    blocks = ceil_div(s.output[2], CHANNEL_COLUMNS)
    cols = ceil_div(s.output[2], blocks)
    width = halo_extents(s, 1, cols)[1]
    _, rows, real = halo_rows(s, cols, lanes, lanes)
    pixels = real * min(width, s.size[2])
    counts: Counts = {
        "depthwise_channels.step": kernel_taps(s) * tile_steps(cols, lanes),
        "depthwise_channels.call": ceil_div(cols, lanes),
        "depthwise_channels.padding": rows * width - pixels,
    }
    if s.in_strides[4] == 1:
        counts["depthwise_channels.transposed"] = pixels
    else:
        counts["depthwise_channels.copied"] = pixels
        if s.groups > lanes and s.in_strides[0] * itemsize(lanes) > blocking.SECOND_LEVEL:
            counts["far_vector"] = pixels  # each is in a cache line, or page, of its own
    if s.out_strides[1] != 1:
        counts["depthwise_channels.moved"] = cols
    share = blocks * ceil_div(s.groups, lanes) / s.groups
    return {what: count * share for what, count in counts.items()}


def share_in_place(s: ConvShape, row_blocks: int, col_blocks: int) -> float:
    """Share of the tasks of `depthwise_interleaved` that lie off the padding, and copy nothing.

    Of the others the edges are copied: what that takes, for a whole task, is in the constants.
    """
    if s.stride[2] > 1 or s.c_out > 1 or not reads_in_place(s):
        return 0.0
    share, first = 0, 0
    for taps, until in axis_taps(s, 0):
        share += (until - first) * (taps.end - taps.begin == s.kernel[0])
        first = until
    free = share / s.output[0]
    for axis, blocks in ((1, row_blocks), (2, col_blocks)):
        if s.padding[axis] > 0:
            free *= max(0, blocks - 2) / blocks
    return free


def count_interleaved(s: ConvShape, lanes: int) -> Counts:
    """Count for `depthwise_interleaved`."""
    channels, taps = s.groups * s.c_out, kernel_taps(s)
    cols = columns_of_pixels(s, itemsize(lanes))
    blocks = ceil_div(s.output[2], cols)
    width = halo_extents(s, 1, cols)[1]
    row_blocks, rows, real = halo_rows(s, cols, channels, lanes)
    vectors = ceil_div(cols * channels, lanes)
    calls = min(period_of(s, lanes), vectors)
    copied = 1 - share_in_place(s, row_blocks, blocks)
    pixels = real * min(width, s.size[2])
    counts: Counts = {
        "depthwise_interleaved.step": taps * calls * tile_steps(vectors / calls, lanes),
        "depthwise_interleaved.result": vectors,
        "depthwise_interleaved.copied": copied * pixels * channels / lanes,
        "depthwise_interleaved.row": copied * rows,
        "depthwise_interleaved.padding": copied * (rows * width - pixels) * channels / lanes,
    }
    if s.stride[2] > 1 or s.c_out > 1:
        counts["depthwise_interleaved.element"] = pixels * channels
    counts = {what: blocks * count for what, count in counts.items()}
    # Once for all rows, of the image that is alone.
    repeated = channels * (taps + 1) / (s.output[0] * s.output[1])
    counts["depthwise_interleaved.repeated"] = repeated
    return {what: count / s.groups for what, count in counts.items()}
