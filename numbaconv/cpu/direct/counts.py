"""What each lowering of dense layers does on a problem: the counts that `cost` adds up.

All are for a row of outputs of one group of channels, and of one image: a batch is many of these,
in any lowering. Only where each output reads a single tap are images counted, as they are columns
there, and sums have one order everywhere.
"""

import functools
import itertools
from collections import Counter
from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from numbaconv.codegen.integers import ceil_div
from numbaconv.codegen.pointers import CACHE_LINE
from numbaconv.codegen.target import HALVES_VECTORS, VECTOR_BYTES
from numbaconv.cpu import blocking
from numbaconv.cpu.blocking import (
    BAND_ROWS,
    BAND_VECTORS,
    CALL_COST,
    FOLD_DEPTH,
    FOLD_VECTORS,
    MOST_K,
    SEGMENT_COST,
    SINGLES,
    TILE_ROWS,
    TILE_VECTORS,
    cases,
    most_rows,
)
from numbaconv.cpu.direct import filter_blocks, matrix_blocks
from numbaconv.cpu.direct.blocks import MatrixBlocks
from numbaconv.cpu.direct.choice import (
    MOST_CACHED,
    MOST_PAGES,
    PAGE_BYTES,
    asks_for_pixels,
    columns_in_line,
    has_few_zones,
    has_images,
    pages_of_pixels,
    reads_bands_in_place,
    reads_pixels_in_place,
    reads_rows_in_place,
    reads_signals_in_place,
    stays_cached,
    wants_same_places,
)
from numbaconv.cpu.direct.filter_blocks import INSIDE_VECTORS
from numbaconv.cpu.direct.halo_counts import Counts, count_halo, is_large, transposed_pieces
from numbaconv.cpu.direct.tap_lists import (
    channels_together,
    empty_columns,
    empty_vectors,
    goes_down,
)
from numbaconv.cpu.direct.tasks import pairs_rows, rows_of_stage
from numbaconv.cpu.im2col.panels import fills_zones
from numbaconv.cpu.microkernels.dot import DOT_COLUMNS, DOT_ROWS
from numbaconv.cpu.packing.halo import axis_phase_count, axis_reach
from numbaconv.problem.padding_modes import steps_to
from numbaconv.problem.shape import ZEROS, ConvShape, kernel_taps, with_value
from numbaconv.problem.simplest import SHORT_ROW
from numbaconv.problem.taps import axis_taps

# What a core does in a cycle: multiply-adds and loads of vectors; and the cycles that a sum waits
# for the one before it. So it is on x86 from Haswell and Zen on, and on the larger Arm cores. Where
# vectors are halved a cycle stands for two of the core's.
MULTIPLY_ADDS, LOADS, LATENCY = 2, 2, 2 if HALVES_VECTORS else 4

# Cycles that a vector takes from the second-level cache, of 64 bytes.
WEIGHT_CYCLES = 2 * VECTOR_BYTES / CACHE_LINE

# Instructions that a core has under way, about: 224 to 512.
AHEAD = 256

# Lines that the prefetchers of the hardware follow at once, about; and bytes of an input that come
# soon enough without them.
MOST_STREAMS, MOST_QUICK = 72, 3 << 20

# Images whose pixels are a tile, about: what one costs must not depend on how many there are.
USUAL_IMAGES = 8

# Pixels of a row that may be those of any number of images, and rows that may be images.
LONG_ROW, SOME_ROWS = 896, 16

# Taps of an axis of which it is counted what they read.
MOST_ASKED = 32


# Elements from one image, channel, plane, row and pixel to the next.
Steps = tuple[int, int, int, int, int]


class Share(NamedTuple):
    """Shares of the taps of an axis that read more than padding.

    Attributes
    ----------
    inside : float
        Over all outputs.
    reached : float
        For any of them.
    """

    inside: float
    reached: float


@functools.lru_cache(maxsize=64)  # each lowering asks
def tap_shares(s: ConvShape) -> list[Share]:
    """Return the share of each axis. Of very many taps some stand for all."""
    shares = []
    for axis, kernel in enumerate(s.kernel):
        if s.padding[axis] == 0 or s.padding_mode[axis] != ZEROS:
            shares.append(Share(1.0, 1.0))
            continue
        size, output, stride = s.size[axis], s.output[axis], s.stride[axis]
        count, reached, every = 0, 0, ceil_div(kernel, MOST_ASKED)
        for tap in range(0, kernel, every):
            first = tap * s.dilation[axis] - s.padding[axis]  # what it reads for the first output
            outputs = min(output, steps_to(max(0, size - first), stride))
            outputs -= min(output, steps_to(max(0, -first), stride))
            count += outputs
            reached += outputs > 0
        asked = ceil_div(kernel, every)
        shares.append(Share(count / (output * asked), max(1, reached) / asked))
    return shares


def step(rows: float, vectors: int, steps: float) -> float:
    """Cycles of one of some steps of a register tile: multiply-adds, loads, or the wait for sums.

    While sums of one tile wait, a core computes the next, as far as it sees ahead.
    """
    seen = steps * (rows * vectors + rows + vectors) / AHEAD
    return max(rows * vectors / MULTIPLY_ADDS, (rows + vectors) / LOADS, LATENCY * min(1, seen))


def weight_step(s: ConvShape, rows: float, vectors: int, steps: float) -> float:
    """Cycles of one of some steps whose vectors are weights.

    A tile of few pixels waits for weights that no first-level cache holds until it comes again.
    """
    size = s.c_in * kernel_taps(s) * vectors * VECTOR_BYTES
    waits = WEIGHT_CYCLES * vectors if size > blocking.FIRST_LEVEL else 0
    return max(step(rows, vectors, steps), waits)


def equal_parts(count: int, most: int) -> list[tuple[float, int]]:
    """How many blocks have how many: the fewest blocks, equal but for the last."""
    blocks = ceil_div(count, most)
    size = ceil_div(count, blocks)
    last = count - (blocks - 1) * size
    return [(blocks, size)] if last == size else [(blocks - 1, size), (1, last)]


def vectors_of_channels(s: ConvShape, lanes: int) -> list[tuple[int, int]]:
    """How many blocks of output channels have how many vectors."""
    blocks = ceil_div(s.c_out, TILE_VECTORS * lanes)
    last = s.c_out - (blocks - 1) * TILE_VECTORS * lanes
    return [(blocks - 1, TILE_VECTORS), (1, ceil_div(last, lanes))]


def crosses_rows(s: ConvShape) -> bool:
    """Whether taps cross rows, which then are no images."""
    return s.kernel[1] > 1


def joins_rows(s: ConvShape) -> bool:
    """Whether `matrix` joins the rows of a halo tile: windows do not overlap, nor read padding."""
    apart = axis_reach(s.kernel[2], s.stride[2], s.dilation[2]) == 0
    neighbours = s.out_strides[3] == s.output[2] * s.out_strides[4]
    return apart and neighbours and tap_shares(s)[1].inside == 1


def stores_far(s: ConvShape, lanes: int) -> bool:
    """Whether results of a pixel are stored by parts, and no cache holds it in the meantime."""
    size = s.groups * s.c_out * prod(s.output) * itemsize(lanes)
    return s.out_strides[1] == 1 and size > blocking.SECOND_LEVEL


def crossed_pixels(s: ConvShape) -> int:
    """Pixels of a result along the axes that taps cross, and along its rows."""
    planes, rows, cols = s.output
    return cols * (rows if s.kernel[1] > 1 else 1) * (planes if s.kernel[0] > 1 else 1)


def itemsize(lanes: int) -> int:
    """Bytes of an element."""
    return VECTOR_BYTES // lanes


def phases_of(s: ConvShape, axis: int) -> int:
    """Phases of a stride that taps touch along an axis."""
    phases: int = axis_phase_count(s.kernel[axis], s.stride[axis], s.dilation[axis])
    return phases


def count_tasks(s: ConvShape, lanes: int, b: MatrixBlocks) -> Counts:
    """Count tasks for a row of outputs, and weights that each reads from beyond the cache."""
    rows = b.rows * min(1, b.cols / s.output[2])
    return {"task": 1 / rows} | far_weights(s, lanes, rows)


def added(counts: Counts, more: Counts) -> Counts:
    """Add counts to others, and return these."""
    for what, count in more.items():
        counts[what] = counts.get(what, 0) + count
    return counts


def image_of(s: ConvShape) -> ConvShape:
    """Return what is counted of a batch: one image, or all under a single tap.

    Rows that no tap crosses, all of which are read, may be images: one is counted, and so far apart
    as if it were alone, unless rows lie between channels.
    """
    images = s.kernel[1] == s.stride[1] == 1 and s.padding[1] == 0
    if kernel_taps(s) == 1 or (s.n == 1 and not images):
        return s
    if not images:
        return s._replace(n=1)
    one = s._replace(n=1, size=with_value(s.size, 1, 1), output=with_value(s.output, 1, 1))
    channels = s.groups * s.c_in
    if channels > 1 and s.in_strides[3] < s.in_strides[1]:
        return one
    read = channels * s.size[0] * s.size[2]
    written = s.groups * s.c_out * s.output[0] * s.output[2]
    return one._replace(
        in_strides=with_value(s.in_strides, 0, read),
        out_strides=with_value(s.out_strides, 0, written),
    )


def in_any_batch(s: ConvShape) -> ConvShape:
    """Return what stands for a pointwise layer, whatever its batch is.

    Its images may be one long row, of which many pixels are counted, or some of its rows.
    """
    one = s.output[:2] == (1, 1)
    cols = s.output[2]
    long = one and all(steps[0] == cols * steps[4] for steps in (s.in_strides, s.out_strides))
    rows, cols = (1, LONG_ROW) if long else (SOME_ROWS, cols)

    def steps_of(steps: Steps) -> Steps:
        row = cols * steps[4] if long else steps[0] if one else steps[3]
        return rows * row, steps[1], rows * row, row, steps[4]

    size = 1, rows, cols
    return s._replace(
        n=1,
        size=size,
        output=size,
        in_strides=steps_of(s.in_strides),
        out_strides=steps_of(s.out_strides),
    )


def far_weights(s: ConvShape, lanes: int, rows: float) -> Counts:
    """Count vectors of weights from beyond the second-level cache, once for so many rows.

    At most for those of an image; under a single tap images are rows. Those that no cache keeps are
    counted as well.
    """
    single = kernel_taps(s) == 1
    most = s.n * s.output[0] * s.output[1] if single else crossed_pixels(s) / s.output[2]
    size = s.c_in * kernel_taps(s) * s.c_out
    if size * itemsize(lanes) <= blocking.SECOND_LEVEL:
        return {}
    for share in tap_shares(s):
        size *= share.reached

    def beyond(cache: int) -> float:
        return float(max(0.0, size - cache / itemsize(lanes)) / lanes / min(rows, most))

    return {
        "far_vector": beyond(blocking.SECOND_LEVEL),
        "memory_vector": beyond(MOST_CACHED),
    }


def parts_of_row(s: ConvShape, ends: tuple[int, int], most: int) -> tuple[int, int]:
    """Columns of a row without those of its ends, one at least; parts of the ends, of so many."""
    return max(1, s.output[2] - sum(ends)), sum(ceil_div(columns, most) for columns in ends)


def count_matrix(s: ConvShape, lanes: int) -> Counts:
    """Count for `matrix`."""
    depth, height, _ = tap_shares(s)
    taps, cols = kernel_taps(s), s.output[2]
    inside, empty = parts_of_row(s, empty_vectors(s, lanes), lanes)
    in_place = reads_rows_in_place(s, lanes)
    b = matrix_blocks.cut(s, itemsize(lanes), 1, False, in_place)
    parts = ceil_div(s.c_in, b.kc)
    line = b.rows * cols if joins_rows(s) else columns_in_line(s)
    if empty:
        line = inside
    k_size = s.c_in * taps
    blocks = equal_parts(s.c_out, most_rows(k_size))
    tiles = sum(many for many, _ in blocks)
    vectors = ceil_div(line, lanes)
    pairs, single = vectors // 2 * inside / line, vectors % 2 * inside / line
    used = k_size * depth.inside * height.inside
    counts: Counts = {}
    flat = (cols + axis_reach(s.kernel[2], s.stride[2], s.dilation[2])) / lanes
    saved = 2 * pairs + single + (1 / SINGLES if inside <= lanes else 0) - flat
    if crosses_rows(s) and b.rows > 1 and saved * b.kc * taps > SEGMENT_COST * (saved + flat):
        pairs, single, empty, used = flat / 2, 0, 0, k_size * depth.inside
        counts["matrix.segment"] = flat * s.c_out * (2 * parts - 1)
    elif goes_down(s, lanes):
        # Rows of a column are computed together, those at the padding too, if that is short.
        apart = b.kc * taps / s.kernel[1] * most_rows(k_size) * min(cols, TILE_VECTORS * lanes)
        used = used if apart > CALL_COST * lanes else k_size * depth.inside
    results = (2 * pairs + single + empty) * s.c_out
    counts["step"] = used * sum(
        many * (pairs * step(rows, 2, used) + single * step(rows, 1, used)) for many, rows in blocks
    )
    counts["matrix.tile"] = (pairs + single + empty) * tiles * parts
    counts["matrix.round"] = (pairs + single) * tiles * s.c_in / channels_together(s, b.kc)
    counts["matrix.result"] = results * parts
    if s.out_strides[4] != 1:
        moved = (2 * parts - 1) * ceil_div(cols, TILE_VECTORS * lanes)
        if s.out_strides[1] == 1:
            pieces = sum(
                many * transposed_pieces(rows, TILE_VECTORS * lanes, lanes) for many, rows in blocks
            )
            counts["transposed_piece"] = moved * pieces
        else:
            counts["matrix.moved"] = moved * TILE_VECTORS * s.c_out
        if stores_far(s, lanes):
            counts["far_store"] = cols * tiles
    copied = 0.0 if in_place else 1.0
    if reads_signals_in_place(s, lanes) and (taps == 1 or cols > SHORT_ROW):
        copied = min(1, 2 / b.col_blocks) if s.padding[2] > 0 else 0.0  # the tasks at both ends
    if copied > 0:
        halo = count_halo(s, lanes, b, s.kernel[0] * depth.inside, tiles)
        added(counts, {what: copied * count for what, count in halo.items()})
    elif taps == 1 and pages_of_pixels(s, lanes) > MOST_PAGES:
        counts["page"] = pages_of_pixels(s, lanes) * (pairs + single) * tiles
    return added(counts, count_tasks(s, lanes, b))


def lines_in_row(s: ConvShape, lanes: int, tiles: float) -> float:
    """Lines of a channel that tiles of a row of outputs read, channels outermost."""
    step_of = s.stride[2] * s.in_strides[4] * itemsize(lanes)
    return s.output[2] * min(1, step_of / CACHE_LINE) + tiles / 2


def bytes_of_pixel(s: ConvShape, lanes: int) -> int:
    """Bytes of the lines in which the channels of a group lie that a pixel has."""
    run = s.c_in * itemsize(lanes)
    if s.in_strides[1] != 1:
        return run
    return run + min(CACHE_LINE, s.in_strides[4] * itemsize(lanes) - run)


def lines_of_pixels(
    s: ConvShape, lanes: int, parts: list[tuple[float, int]]
) -> tuple[float, float]:
    """Return lines that tiles of a row of outputs read in place, and how many a tile reads in turn.

    Channels outermost, these are pieces of rows; channels innermost, pixels.
    """
    kd, kh, kw = s.kernel
    if s.in_strides[1] != 1:
        tiles = sum(many for many, _ in parts)
        return s.c_in * kd * kh * lines_in_row(s, lanes, tiles), s.c_in * kd * kh
    run, lines = s.c_in * itemsize(lanes), bytes_of_pixel(s, lanes) / CACHE_LINE
    pixels = [
        (many, min(kw * rows, (rows - 1) * s.stride[2] + (kw - 1) * s.dilation[2] + 1))
        for many, rows in parts
    ]
    most = kd * kh * max(wide for _, wide in pixels) if run > CACHE_LINE else 0
    return kd * kh * lines * sum(many * wide for many, wide in pixels), most


def is_unasked(s: ConvShape, lanes: int, in_turn: float) -> bool:
    """Whether no prefetcher asks for lines, so many in turn, of a large image."""
    return in_turn > MOST_STREAMS and not stays_cached(s, lanes, MOST_QUICK)


def count_lines(s: ConvShape, lanes: int, parts: list[tuple[float, int]], blocks: int) -> Counts:
    """Count lines of pixels that tiles of a row of outputs read in place.

    Channels outermost, each tile reads all channels under all taps, so it finds no line in the
    first-level cache that another tile left, nor in the second where that has no room for all rows
    from the first tap to the last. Of other lines those count that come from further away, as no
    tap above has read them: from memory, or from a cache where nobody asks for them. Under a single
    tap each block of outputs reads lines again that the second-level cache has no room for.
    """
    lines, in_turn = lines_of_pixels(s, lanes, parts)
    outermost, several = s.in_strides[1] != 1, kernel_taps(s) > 1
    counts: Counts = {}
    image = s.c_in * prod(s.size) * itemsize(lanes)
    weights = s.c_in * s.c_out * itemsize(lanes)
    if outermost and several and image >= blocking.FIRST_LEVEL:
        window = image * min(1, ((s.kernel[1] - 1) * s.dilation[1] + 1) / s.size[1])
        level = "far" if window > blocking.SECOND_LEVEL else "again"
        counts[f"matrix_transposed.{level}"] = lines * blocks
    for share, stride, kernel in zip(tap_shares(s)[:2], s.stride[:2], s.kernel[:2], strict=True):
        lines *= share.inside * min(1, stride / kernel)
    if outermost and not several and image + weights > blocking.CACHE_BYTES:
        counts["matrix_transposed.reread"] = lines * (blocks - 1)
    if not (stays_cached(s, lanes) or (outermost and several)):
        counts["matrix_transposed.once"] = lines
    elif is_unasked(s, lanes, in_turn) and not asks_for_pixels(s, s.in_strides[1], lanes):
        counts["matrix_transposed.unasked"] = lines
    return counts


def count_transposed(s: ConvShape, lanes: int) -> Counts:
    """Count for `matrix_transposed`."""
    depth, height, width = tap_shares(s)
    k_size, cols = s.c_in * kernel_taps(s), s.output[2]
    channels = vectors_of_channels(s, lanes)
    blocks = sum(many for many, _ in channels)
    images = has_images(s)
    in_place = images or reads_pixels_in_place(s, lanes)
    b = matrix_blocks.cut(s, itemsize(lanes), 1, True, in_place)
    parts = ceil_div(s.c_in, b.kc)
    used = k_size * depth.inside * height.inside * (width.inside if in_place else 1)
    crossed = crosses_rows(s) or kernel_taps(s) == 1
    inside, empty = parts_of_row(s, (0, 0) if in_place else empty_columns(s), TILE_ROWS)
    if images:
        pixels = [(cols / USUAL_IMAGES, USUAL_IMAGES)]
    elif pairs_rows(s, cols) and crossed and s.output[1] > 1 and not empty:
        pixels = [(0.5, 2 * cols)]
    else:
        pixels = equal_parts(inside, TILE_ROWS)
    tiles = sum(many for many, _ in pixels) * blocks
    steps: Counts = {"step": 0.0, "single": 0.0}
    for (n, rows), (m, v) in itertools.product(pixels, channels):
        steps["single" if v == 1 else "step"] += n * m * weight_step(s, rows, v, used)
    counts: Counts = {
        "matrix_transposed.step": used * steps["step"],
        "matrix_transposed.single": used * steps["single"],
        "matrix_transposed.tile": (tiles + empty * blocks) * parts,
        "matrix_transposed.round": tiles * s.c_in / channels_together(s, b.kc, in_place),
        "matrix_transposed.result": cols * s.c_out / lanes * parts,
    }
    if s.out_strides[1] != 1:
        together = min(rows_of_stage(s, b.cols, lanes), b.rows)
        most = min(s.c_out, TILE_VECTORS * lanes)
        pieces = blocks * b.col_blocks * transposed_pieces(together * b.cols, most, lanes)
        counts["transposed_piece"] = pieces / together * (2 * parts - 1)
    elif blocks > 1:
        counts["matrix_transposed.apart"] = cols * s.c_out / lanes
    if stores_far(s, lanes):
        counts["far_store"] = cols * blocks
    if not in_place:
        added(counts, count_halo(s, lanes, b, s.kernel[0] * depth.inside, blocks))
    elif not images:
        if s.in_strides[1] != 1 and kernel_taps(s) == 1 and pages_of_pixels(s, lanes) > MOST_PAGES:
            counts["page"] = pages_of_pixels(s, lanes) * tiles
        added(counts, count_lines(s, lanes, pixels, blocks))
        if wants_same_places(s, lanes):
            counts["matrix_transposed.lost"] = used * cols * blocks
    return added(counts, count_tasks(s, lanes, b))


def count_zones(s: ConvShape, lanes: int) -> Counts:
    """Count for `matrix_zones`."""
    depth, height, _ = tap_shares(s)
    cols, channels = s.output[2], vectors_of_channels(s, lanes)
    blocks = sum(many for many, _ in channels)
    steps, calls, moved = 0.0, 0.0, 0.0
    width = min(s.c_out, TILE_VECTORS * lanes)
    runs = axis_taps(s, 2)
    ends = itertools.pairwise([0, *(until for _, until in runs)])
    kinds = Counter(
        (until - first, taps.end - taps.begin)
        for (first, until), (taps, _) in zip(ends, runs, strict=True)
    )
    for (columns, many), zones in kinds.items():
        if 2 * columns <= TILE_ROWS and s.output[1] > 1:
            pixels = [(0.5, 2 * columns)]
        else:
            pixels = equal_parts(columns, TILE_ROWS)
        used = many * s.c_in
        each = sum(n * m * weight_step(s, rows, v, used) for n, rows in pixels for m, v in channels)
        steps += zones * many * each
        calls += zones * blocks * sum(n for n, _ in pixels) if many else 0
        for n, part in equal_parts(columns, TILE_ROWS):  # rows of a pair are stored one by one
            moved += zones * blocks * n * transposed_pieces(part, width, lanes)
    rows_used = s.kernel[0] * s.kernel[1] * depth.inside * height.inside
    copied = s.kernel[0] * depth.inside * (s.size[1] / s.output[1] if crosses_rows(s) else 1)
    counts: Counts = {
        "matrix_zones.step": steps * s.c_in * rows_used,
        "matrix_zones.call": calls * rows_used,
        "matrix_zones.result": cols * s.c_out / lanes,
    }
    if s.out_strides[1] != 1:
        counts["transposed_piece"] = moved
    elif stores_far(s, lanes):
        counts["far_store"] = cols * blocks
    rows = s.output[1] if crosses_rows(s) else zone_rows(s, lanes)
    pages = s.c_in * min(1, s.size[2] * itemsize(lanes) / PAGE_BYTES)
    if pages > MOST_PAGES:
        counts["page"] = pages * calls * rows_used
    if s.in_strides[1] == 1:
        pieces = copied * transposed_pieces(s.size[2], s.c_in, lanes)
        added(counts, {"transposed_piece": pieces})
    else:
        counts["halo.channel"] = copied * s.c_in
        counts["copied_vector"] = copied * s.c_in * ceil_div(s.size[2], lanes)
    row = s.c_in * s.size[2] / lanes
    if row * VECTOR_BYTES > 2 * blocking.CACHE_BYTES:  # each block of channels reads it again
        counts["far_vector"] = copied * row * (1 + blocks)
    return added(counts, {"task": 1 / rows} | far_weights(s, lanes, rows))


def zone_rows(s: ConvShape, lanes: int) -> float:
    """Rows of a task of `matrix_zones` whose taps cross none: what it copies stays in cache."""
    row = max(1, s.c_in * s.kernel[0] * s.size[2]) * itemsize(lanes)
    return min(s.output[1], max(1, blocking.CACHE_BYTES // row))


def count_panels(s: ConvShape, lanes: int) -> Counts:
    """Count for `patch_matrix`."""
    taps, cols, width = kernel_taps(s), s.output[2], TILE_VECTORS * lanes
    k_size = s.c_in * taps
    blocks = equal_parts(s.c_out, TILE_ROWS)
    parts = ceil_div(k_size, MOST_K)
    # Pixels of an image are panel after panel; how many of these panels are cut by its ends.
    image = max(columns_in_line(s), crossed_pixels(s))
    if taps == 1 and s.out_strides[2] == image * s.out_strides[4]:
        image *= s.output[0]  # planes lie one behind the other
    together = image * (s.n if taps == 1 else 1)  # sums of one tap have one order everywhere
    depth, height, across = tap_shares(s)
    zoned = s.kernel[0] == 1 and has_few_zones(s) and fills_zones(s, width)
    # Of one zone, taps that no pixel reads are left out.
    plane = height.reached * across.reached
    if zoned:
        plane = height.inside * across.inside
    planes = 1 + width / (s.output[1] * cols)  # that the pixels of a panel are in
    used = taps * plane * min(depth.reached, depth.inside * planes)
    k_used = s.c_in * used
    vectors = cols / lanes * max(1, lanes / together)
    if taps == 1:  # the last vector of all pixels is not full
        pixels = s.n * prod(s.output)
        vectors = cols * ceil_div(pixels, lanes) / pixels
    cut = min(1, width / image) if image % width else 0
    if crosses_rows(s) and s.out_strides[3] != cols * s.out_strides[4]:
        cut = min(1, width / cols)
    if zoned or s.out_strides[4] != 1:
        cut = 1
    each = sum(many * step(size, 2, k_used) for many, size in blocks)
    counts: Counts = {
        "patch_matrix.step": k_used * vectors / 2 * each,
        "patch_matrix.tile": vectors / 2 * sum(many for many, _ in blocks) * parts,
        "patch_matrix.result": vectors * s.c_out * parts,
    }
    if s.out_strides[4] != 1 and s.out_strides[1] == 1:
        pieces = sum(many * transposed_pieces(size, width, lanes) for many, size in blocks)
        counts["transposed_piece"] = vectors / 2 * pieces * (2 * parts - 1)
        if stores_far(s, lanes):
            counts["far_store"] = cols * sum(many for many, _ in blocks)
    else:
        counts["patch_matrix.moved"] = vectors * s.c_out * cut * (2 * parts - 1)
    if taps == 1 and max(s.padding) == 0 and max(s.stride) == 1 and s.in_strides[4] == 1:
        counts["patch_matrix.line"] = s.c_in * vectors
    else:
        ends = 1 + vectors / 2  # runs of pixels in one row, in one panel
        runs = taps * ends  # those of padding are set to zero
        counts["patch_matrix.run"] = runs
        counts["patch_matrix.row"] = runs * s.c_in
        counts["filled_vector"] = (taps - used) * s.c_in * vectors
        lines, in_turn = lines_of_pixels(s, lanes, [(vectors / TILE_VECTORS, width)])
        if is_unasked(s, lanes, in_turn):
            counts["patch_matrix.far"] = lines * used / taps
        step_of = s.in_strides[4] * s.stride[2]
        if s.in_strides[1] == 1 and s.c_in > 1:
            run = max(1, round(cols / ends))
            counts["patch_matrix.piece"] = used * ends * transposed_pieces(run, s.c_in, lanes)
        elif step_of == 1:
            counts["copied_vector"] = s.c_in * used * vectors
        elif step_of == 2:
            counts["even_vector"] = s.c_in * used * vectors
        else:
            counts["copied_element"] = s.c_in * used * vectors * lanes
    room = blocking.CACHE_BYTES * 5 // 8 // itemsize(lanes) // min(k_size, MOST_K)
    rows = max(width, room) / cols
    return counts | {"task": 1 / rows} | far_weights(s, lanes, rows)


def count_dots(s: ConvShape, lanes: int) -> Counts:
    """Count for `dots`. A block that is smaller than its case computes all of that.

    At the end of a tile the lanes of its sums are added, by halves.
    """
    vectors, halvings = ceil_div(s.c_in, lanes), lanes.bit_length() - 1
    rows, columns = cases(s.output[2], DOT_ROWS), cases(s.c_out, DOT_COLUMNS)
    tiles = [(n * m, step(high, wide, vectors)) for n, high in rows for m, wide in columns]
    return {
        "dots.step": vectors * sum(many * each for many, each in tiles),
        "dots.halving": halvings * sum(many for many, _ in tiles),
    }


def descending(count: int, sizes: Sequence[int]) -> list[tuple[int, int]]:
    """How many blocks have which of some ascending sizes: as many of the largest as can be."""
    found = []
    for size in reversed(sizes):
        many, count = divmod(count, size)
        if many:
            found.append((many, size))
    return found


def moved_results(s: ConvShape, lanes: int, name: str, b: MatrixBlocks) -> Counts:
    """Count results of rows that are moved to the output, as they are no neighbours there."""
    if s.out_strides[4] == 1:
        return {}
    counts: Counts = {f"{name}.moved": ceil_div(b.cols, lanes) * b.col_blocks * s.c_out}
    if stores_far(s, lanes):
        counts["far_store"] = s.output[2] * s.c_out
    return counts


def count_bands(s: ConvShape, lanes: int) -> Counts:
    """Count for `filter_rows`."""
    depth = tap_shares(s)[0]
    kd, kh, kw = s.kernel
    phases_h = phases_of(s, 1)
    b = filter_blocks.cut(s, itemsize(lanes), 1, False)
    apart = min(s.dilation[1], b.rows)
    each, more = divmod(b.rows, apart)
    bands = [(apart - more, each), (more, each + 1)] if more else [(apart, each)]
    heights = [
        (many * n, height) for many, rows in bands for n, height in descending(rows, BAND_ROWS)
    ]
    vectors = ceil_div(b.cols, lanes)
    widths = descending(vectors, BAND_VECTORS)
    sums = s.c_out * s.c_in * kd * depth.inside * b.col_blocks / b.rows
    taps = kh * kw

    def cycles(height: int, width: int) -> float:
        products, loads = height * width * taps, (phases_h * (height - 1) + kh) * kw * width
        waits = LATENCY * taps * min(1, (products + loads) / AHEAD)
        return max(products / MULTIPLY_ADDS, (loads + height * taps) / LOADS, waits)

    ends = padded_ends(s) / b.col_blocks if reads_middle_in_place(s, lanes, b) else 0
    passes = sum(many for many, _ in heights) * (len(widths) + ends)
    counts: Counts = {
        "filter_rows.step": sums * sum(m * n * cycles(h, w) for m, h in heights for n, w in widths),
        "filter_rows.result": sums * sum(m * h for m, h in heights) * vectors * phases_h,
        "filter_rows.pass": s.c_out * b.col_blocks / b.rows * passes,
        "filter_rows.call": sums * passes * phases_h,
    }
    added(counts, moved_results(s, lanes, "filter_rows", b))
    return added(counts, tiles_of_rows(s, lanes, b))


def padded_ends(s: ConvShape) -> int:
    """How many ends of a row read padding."""
    last = (s.output[2] - 1) * s.stride[2] + (s.kernel[2] - 1) * s.dilation[2] - s.padding[2]
    return (s.padding[2] > 0) + (last >= s.size[2])


def reads_middle_in_place(s: ConvShape, lanes: int, b: MatrixBlocks) -> bool:
    """Whether tasks of `filter_rows` copy no more than the ends of their rows."""
    return reads_bands_in_place(s) and b.cols - padded_ends(s) * lanes >= INSIDE_VECTORS * lanes


@functools.lru_cache(maxsize=64)  # bands and folds mostly have the same blocks
def tiles_of_rows(s: ConvShape, lanes: int, b: MatrixBlocks) -> Counts:
    """Count the tasks of `filter_rows`, and what they copy to halo tiles."""
    counts: Counts = {"task": 1 / b.rows / b.groups * b.col_blocks}
    kd, kh, _ = s.kernel
    if reads_middle_in_place(s, lanes, b):
        tiles = padded_ends(s) * s.c_in * kd * tap_shares(s)[0].inside / b.rows
        rows = b.rows + (kh - 1) * s.dilation[1]
        return counts | {"halo.call": tiles, "masked_vector": 2 * tiles * rows}
    halo = count_halo(s, lanes, b, kd * tap_shares(s)[0].inside, s.c_out)
    kept = kd if kd > 1 and s.stride[0] == s.dilation[0] == 1 and b.kc == s.c_in else 1
    return added(counts, {what: count / kept for what, count in halo.items()})


def folds_of(taps: int, lanes: int) -> list[tuple[float, int, int]]:
    """How many calls of the fold have how many rows of so many taps each.

    The last row may be partial: its columns have one tap more than the others.
    """
    depth = ceil_div(taps, lanes)
    whole = taps - (depth - 1) * lanes
    *others, (many, rows) = equal_parts(depth, FOLD_DEPTH)
    full = [(n, high, lanes) for n, high in [*others, (many - 1, rows)]]
    found = [*full, (1, rows, whole), (1, rows - 1, lanes - whole)]
    return [fold for fold in found if all(fold)]


def count_folds(s: ConvShape, lanes: int) -> Counts:
    """Count for `filter_folds`."""
    kw, phases = s.kernel[2], phases_of(s, 2)
    b = filter_blocks.cut(s, itemsize(lanes), 1, True)
    vectors = ceil_div(b.cols, lanes)
    widths = descending(vectors, FOLD_VECTORS)
    dense = s.out_strides[4] == 1  # others are moved block by block
    pieces = len(widths) if dense else sum(many for many, _ in widths)
    pieces += padded_ends(s) / b.col_blocks if reads_middle_in_place(s, lanes, b) else 0
    kinds = [(kw % phases, kw // phases + 1), (phases - kw % phases, kw // phases)]
    folds = [
        (many * n, rows, taps)
        for many, each in kinds
        if many and each
        for n, rows, taps in folds_of(each, lanes)
    ]
    crossed = 1 + VECTOR_BYTES / CACHE_LINE  # cycles of a load that may lie across cache lines

    def cycles(rows: int, taps: int, width: int) -> float:
        products, loads = rows * width, crossed * (rows + width - 1) + rows
        waits = LATENCY * rows * min(1, taps * (products + loads) / AHEAD)
        return taps * max(products / MULTIPLY_ADDS, loads / LOADS, waits)

    planes = s.kernel[0] * tap_shares(s)[0].inside
    sums = s.c_out * s.c_in * planes * b.col_blocks
    calls = sums * sum(n for n, _, _ in folds)
    counts: Counts = {
        "filter_folds.step": sums
        * sum(n * m * cycles(rows, taps, w) for n, rows, taps in folds for m, w in widths),
        "filter_folds.result": calls * vectors,
        "filter_folds.call": calls * pieces,
        "filter_folds.pass": s.c_out * b.col_blocks * pieces,
    }
    if is_large(s, lanes):
        counts["filter_folds.far"] = (s.c_in * s.kernel[0] + s.c_out) * s.output[2] / lanes
    added(counts, moved_results(s, lanes, "filter_folds", b))
    return added(counts, tiles_of_rows(s, lanes, b))
