"""What each lowering of depthwise layers does on a problem, for a row of outputs of one channel."""

import itertools
from math import gcd, prod
from typing import NamedTuple

from numbaconv.codegen.integers import ceil_div
from numbaconv.codegen.pointers import CACHE_LINE
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu import blocking
from numbaconv.cpu.blocking import (
    HOST_FIRST_LEVEL,
    MAP_OUTPUTS,
    strip_height,
    strip_vectors,
)
from numbaconv.cpu.direct.blocks import PIXEL_COLUMNS_UNIT, columns_of_pixels, rows_in_cache
from numbaconv.cpu.direct.choice import (
    CHANNEL_COLUMNS,
    PAGE_BYTES,
    has_half,
    is_one_row,
    is_window,
    map_places,
    period_of,
    places_apart,
    reads_in_place,
    uses_small_planes,
    with_equal_strides,
    with_taps_read,
    with_window,
)
from numbaconv.cpu.direct.counts import (
    AHEAD,
    LATENCY,
    LOADS,
    MULTIPLY_ADDS,
    itemsize,
    step,
    tap_shares,
)
from numbaconv.cpu.direct.halo_counts import Counts, ends_and_middle, is_large
from numbaconv.cpu.direct.tasks import halo_extents, off_padding, rows_at_once, rows_share
from numbaconv.cpu.microkernels.strip import SLIDES
from numbaconv.problem.shape import ConvShape, kernel_taps
from numbaconv.problem.taps import axis_taps, first_read


def strip_heights(rows: int, stride: int) -> list[int]:
    """List the heights of the strips whose sum is a filter of so many rows."""
    heights: list[int] = []
    while rows > 0:
        heights.append(strip_height(rows, stride))
        rows -= heights[-1]
    return heights


def masked_share(s: ConvShape, height: int, lanes: int) -> float:
    """Share of the loads of strips of a height that have masks.

    Vectors within the padding of an end have, for the taps under which they are cut. Strips of one
    vector, and those under a stride, have them at all of their edges.
    """
    vectors, stride = ceil_div(s.output[2], lanes), s.stride[2]
    wide = min(vectors, strip_vectors(height, stride))
    spanned = stride * wide
    if spanned == 1 or stride > 1:
        return float(min(spanned, 1 + stride) / spanned)
    kw, step = s.kernel[2], s.dilation[2]
    behind = vectors * lanes + (kw - 1) * step - s.padding[2] - s.size[2]
    cut = sum(
        min(kw, ceil_div(padding - vector * lanes, step))
        for padding in (s.padding[2], behind)
        for vector in range(min(vectors, ceil_div(padding, lanes)))
    )
    return float(min(1.0, cut / (kw * vectors)))


def count_small_planes(s: ConvShape, lanes: int) -> Counts:
    """Count for planes whose sums are in registers: each row meets just those that it belongs to.

    Half a vector takes half of a whole one.
    """
    _, kh, kw = s.kernel
    part = 0.5 if has_half(s.output[2], lanes) else 1.0
    rows = s.size[1] / s.output[1]  # that are read for a row of outputs
    return {
        "depthwise_planes.product": part * kh * kw,
        "depthwise_planes.load": part * kw * rows,
        "depthwise_planes.small_row": rows,
    }


def slides(s: ConvShape, lanes: int) -> bool:
    """Whether strips shift what a single row of taps reads, and load each vector once."""
    row = s.stride[2] == s.dilation[2] == strip_height(s.kernel[1], 1) == 1
    return SLIDES and row and s.kernel[2] <= lanes + 1


def count_planes(s: ConvShape, lanes: int) -> Counts:
    """Count for `depthwise_planes`."""
    if uses_small_planes(s, lanes):
        return count_small_planes(s, lanes)
    s = with_equal_strides(s)
    kd, kh, kw = s.kernel
    vectors, heights = ceil_div(s.output[2], lanes), strip_heights(kh, s.stride[1])
    depth = kd * tap_shares(s)[0].inside
    passes = depth * len(heights)
    beside = [ceil_div(vectors, strip_vectors(h, s.stride[1])) for h in heights]
    # One call is for all strips of an only row but those at its ends.
    calls = sum(min(many, 3) if is_one_row(s) else many for many in beside)
    apart = min(s.dilation[1], s.output[1])
    rows, above = (s.output[1] - 1) * s.stride[1] + (kh - 1) * s.dilation[1] + 1, s.padding[1]
    real = max(1, min(rows - above, s.size[1]))
    each = depth * vectors * kw * real / s.output[1]  # loads of a pass
    loads = each * len(heights)
    if slides(s, lanes):
        loads /= 2  # what a shift takes, beside a load across two cache lines
    counts: Counts = {
        # Each row that is read meets all rows of the filter, those of other outputs too.
        "depthwise_planes.product": each * kh / s.stride[1],
        "depthwise_planes.load": loads,
        "depthwise_planes.result": passes * vectors,
        "depthwise_planes.row": depth * sum(beside),
        "depthwise_planes.call": depth * calls * apart / s.output[1],
    }
    read = itemsize(lanes) * s.size[2] * s.output[1] * s.stride[1]
    if 2 * read > blocking.FIRST_LEVEL and not is_one_row(s):
        # Strips beside each other read the line between them, and results that are added to have
        # left the first-level cache in the meantime.
        row = vectors * VECTOR_BYTES / CACHE_LINE
        lines = sum(row * s.stride[1] + many for many in beside)
        counts["depthwise_planes.far"] = depth * lines
        counts["depthwise_planes.again"] = depth * (len(heights) - 1) * vectors
    if s.stride[2] > 1:  # each tap of a row read is picked out of `stride` vectors, two at a time
        shuffles = (s.stride[2] - 1).bit_length()
        counts["depthwise_planes.split"] = loads * shuffles / 2
    square = kh == kw and s.dilation[2] == 1 and len(heights) == 1
    masked = "masked" if square and kh > 1 else "cut"
    if not (square and kh == 3):
        weights = sum(many * h for many, h in zip(beside, heights, strict=True))
        counts["depthwise_planes.weight"] = depth * kw * weights
    shares = sum(masked_share(s, h, lanes) for h in heights)
    counts[f"depthwise_planes.{masked}"] = each * shares
    return counts


def tile_steps(pixels: float, lanes: int, taps: int) -> float:
    """Cycles of a tap on so many pixels of a row, in equal tiles of at most `lanes` pixels."""
    tiles = ceil_div(max(1, int(pixels)), lanes)
    return tiles * step(pixels / tiles, 1, taps)


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
    real = tap_shares(s)[0].inside * min(1, s.size[1] / halo_extents(s, height, cols)[0])
    return ceil_div(height, rows), copied, copied * real


def count_channels(s: ConvShape, lanes: int) -> Counts:
    """Count for `depthwise_channels`."""
    blocks = ceil_div(s.output[2], CHANNEL_COLUMNS)
    cols = ceil_div(s.output[2], blocks)
    width = halo_extents(s, 1, cols)[1]
    _, rows, real = halo_rows(s, cols, lanes, lanes)
    pixels = real * min(width, s.size[2])
    counts: Counts = {
        "depthwise_channels.step": kernel_taps(s) * tile_steps(cols, lanes, kernel_taps(s)),
        "depthwise_channels.call": ceil_div(cols, lanes),
        "depthwise_channels.padding": rows * width - pixels,
    }
    copy = "transposed" if s.in_strides[4] == 1 else "copied"
    counts[f"depthwise_channels.{copy}"] = pixels
    if s.groups > lanes and is_large(s, lanes):
        counts["depthwise_channels.far"] = pixels  # each is in a cache line, or page, of its own
    if s.out_strides[1] != 1:
        counts["depthwise_channels.moved"] = cols
    share = blocks * ceil_div(s.groups, lanes) / s.groups
    return {what: count * share for what, count in counts.items()}


def count_maps(s: ConvShape, lanes: int) -> Counts:
    """Count for `depthwise_maps`."""
    windows = s.output[2] if is_window(s) else 1
    whole = with_window(s)
    s = with_taps_read(whole)
    taps, pixels, outputs = kernel_taps(s), prod(s.size), prod(s.output)
    blocks, places = ceil_div(s.groups, lanes), map_places(s)
    apart = prod(places_apart(s, axis) for axis in (0, 1))  # rows of pixels that none reads
    steps, left = 0.0, outputs
    for width in MAP_OUTPUTS:
        steps += left // width * step(width, 1, taps)
        left %= width
    counts: Counts = {
        "depthwise_maps.step": taps * steps,
        "depthwise_maps.copied": pixels / apart,
        "depthwise_maps.moved": outputs,
        "depthwise_maps.weight": kernel_taps(whole),
        "depthwise_maps.padding": places / blocks,  # once: an image's blocks are one task
        "depthwise_maps.call": 1,
    }
    if places * VECTOR_BYTES > HOST_FIRST_LEVEL:
        counts["depthwise_maps.far"] = taps * outputs
    share = windows * blocks / (s.groups * s.output[0] * s.output[1])
    return {what: count * share for what, count in counts.items()}


class Segment(NamedTuple):
    """Outputs of an axis that are computed together.

    Attributes
    ----------
    many, outputs : int
        How many such segments there are, and how many outputs each has.
    read, real : int
        Elements that it reads, and how many of these are no padding.
    """

    many: int
    outputs: int
    read: int
    real: int

    @property
    def is_clean(self) -> bool:
        """Whether no padding is read."""
        return self.read == self.real


def segments_of(s: ConvShape, axis: int, first: int, count: int, most: int) -> list[Segment]:
    """Cut some outputs of an axis into equal blocks; of those in the middle one stands for all."""
    if count == 0:
        return []
    blocks, found = ceil_div(count, most), []
    size = ceil_div(count, blocks)
    for many, block in ends_and_middle(blocks):
        outputs = min(size, count - block * size)
        begin = first_read(s, axis, first + block * size)
        read = (outputs - 1) * s.stride[axis] + (s.kernel[axis] - 1) * s.dilation[axis] + 1
        real = max(0, min(begin + read, s.size[axis]) - max(begin, 0))
        found.append(Segment(many, outputs, read, real))
    return found


def edges_apart(s: ConvShape, axis: int, most: int, unit: int) -> list[Segment]:
    """Cut the outputs of an axis as `depthwise_interleaved` does where it reads in place.

    Those off the padding are apart from the others.
    """
    count = s.output[axis]
    begin, end = off_padding(s, axis, 0, count, unit)
    parts = ((0, begin), (begin, end - begin), (end, count - end))
    return [segment for first, many in parts for segment in segments_of(s, axis, first, many, most)]


def block_cycles(s: ConvShape, rows: int, vectors: int) -> float:
    """Cycles of a tap of a register block of `depthwise_interleaved`."""
    taps: int = kernel_taps(s)
    kh = s.kernel[1]
    shares = rows > 1 and rows_share(s)
    pixels = vectors * (rows + kh - 1) / kh if shares else vectors * rows
    weights = rows if shares else 1
    waits = LATENCY * min(1, taps * (rows * vectors + pixels) / AHEAD)
    return max(rows * vectors / MULTIPLY_ADDS, (pixels + weights) / LOADS, waits)


def rows_together(s: ConvShape, rows: int) -> list[tuple[int, int]]:
    """How many register blocks have how many rows, of so many in all."""
    most = rows_at_once(s)
    return [(rows // most, most), (min(1, rows % most), rows % most)]


def loses_lines(s: ConvShape, lanes: int) -> bool:
    """Whether each load of dilated taps in place finds its line gone from the first-level cache.

    The taps of a window lie as far apart as lines that want the same few places, or the image is
    larger than the next cache.
    """
    if rows_share(s):
        return False
    apart = s.dilation[2] * s.in_strides[4] * itemsize(lanes)
    places = HOST_FIRST_LEVEL // gcd(apart, PAGE_BYTES)
    return s.kernel[1] * s.kernel[2] > places or is_large(s, lanes)


def count_interleaved(s: ConvShape, lanes: int) -> Counts:
    """Count for `depthwise_interleaved`."""
    channels, taps = s.groups * s.c_out, kernel_taps(s)
    cols = columns_of_pixels(s, itemsize(lanes))
    row_blocks, _, _ = halo_rows(s, cols, channels, lanes)
    rows = ceil_div(s.output[1], row_blocks)
    in_place = s.stride[2] == s.c_out == 1 and reads_in_place(s)
    if in_place:
        down = edges_apart(s, 1, rows, 1)
        across = edges_apart(s, 2, cols, PIXEL_COLUMNS_UNIT)
    else:
        down = segments_of(s, 1, 0, s.output[1], rows)
        across = segments_of(s, 2, 0, s.output[2], cols)
    free = planes_off_padding(s) if in_place else 0.0
    planes, real_planes = s.kernel[0], s.kernel[0] * tap_shares(s)[0].inside
    counts = dict.fromkeys(
        ("step", "result", "call", "row", "copied", "padding", "element", "again"), 0.0
    )
    for high, wide in itertools.product(down, across):
        parts = high.many * wide.many
        vectors, period = ceil_div(wide.outputs * channels, lanes), period_of(s, lanes)
        each = vectors / min(period, vectors)  # vectors that share weights
        blocks = [(each // 4, 4), (1, each % 4)] if each > 4 else [(1, each)]
        steps = sum(
            n * m * block_cycles(s, r, v)
            for n, r in rows_together(s, high.outputs)
            for m, v in blocks
        )
        counts["step"] += parts * taps * steps * min(period, vectors)
        counts["call"] += parts * sum(n for n, _ in rows_together(s, high.outputs))
        counts["result"] += parts * high.outputs * vectors
        copied = parts * (1 - free * (high.is_clean and wide.is_clean))
        real = copied * real_planes * high.real
        counts["row"] += real
        counts["copied"] += real * wide.real * s.groups / lanes
        padding = real * (wide.read - wide.real) * ceil_div(s.groups, lanes)
        padding += (copied * planes * high.read - real) * wide.read * channels / lanes
        counts["padding"] += padding
        if s.stride[2] > 1 or s.c_out > 1:
            counts["element"] += real * wide.read * s.groups
            counts["again"] += real * wide.read * (channels - s.groups)
    counts = {what: count / s.output[1] for what, count in counts.items()}
    if in_place and loses_lines(s, lanes):
        counts["lost"] = taps * s.output[2] * channels / lanes
    # Once for all rows, of the image that is alone.
    counts["repeated"] = period_of(s, lanes) * lanes * (taps + 1) / (s.output[0] * s.output[1])
    return {f"depthwise_interleaved.{what}": n / s.groups for what, n in counts.items()}


def planes_off_padding(s: ConvShape) -> float:
    """Share of the planes of outputs for which no plane of the filter reads padding."""
    whole, first = 0, 0
    for taps, until in axis_taps(s, 0):
        whole += (until - first) * (taps.end - taps.begin == s.kernel[0])
        first = until
    return whole / s.output[0]
