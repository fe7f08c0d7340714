"""What each lowering of dense layers does on a problem: the counts that `cost` adds up.

All are for a row of outputs of one group of channels, and of one image: a batch is many of these,
in any lowering. Only where each output reads a single tap are images counted, as they are columns
there, and sums have one order everywhere.
"""

import functools

from numbaconv.codegen.integers import ceil_div
from numbaconv.codegen.pointers import CACHE_LINE
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu import blocking
from numbaconv.cpu.blocking import (
    BAND_ROWS,
    BAND_VECTORS,
    MOST_K,
    SEGMENT_COST,
    TILE_ROWS,
    TILE_VECTORS,
    most_rows,
)
from numbaconv.cpu.direct.blocks import USUAL_COLUMNS, USUAL_PIXELS
from numbaconv.cpu.direct.choice import (
    MOST_PAGES,
    PAGE_BYTES,
    cached_pixels,
    columns_in_line,
    pages_of_pixels,
    reads_bands_in_place,
    reads_pixels_in_place,
    reads_rows_in_place,
    reads_signals_in_place,
)
from numbaconv.cpu.im2col.panels import fills_zones
from numbaconv.cpu.packing.halo import axis_phase_count, axis_reach
from numbaconv.problem.shape import ConvShape, kernel_taps
from numbaconv.problem.simplest import SHORT_ROW
from numbaconv.problem.taps import Taps, axis_taps

Counts = dict[str, float]

# What a core does in a cycle: multiply-adds and loads of vectors; and the cycles that a sum waits
# for the one before it. So it is on x86 from Haswell and Zen on, and on the larger Arm cores.
MULTIPLY_ADDS, LOADS, LATENCY = 2, 2, 4

# Bytes of a first-level cache: 32 to 64 KiB.
FIRST_LEVEL = 48 << 10


@functools.lru_cache(maxsize=64)  # each lowering asks
def tap_shares(s: ConvShape) -> list[tuple[float, float]]:
    """Return two shares of the taps of each axis: those that read more than padding.

    Over all of its outputs, and for any of them.
    """
    shares = []
    for axis, (kernel, output) in enumerate(zip(s.kernel, s.output, strict=True)):
        runs = axis_taps(s, axis) if s.padding[axis] else [(Taps(0, kernel), output)]
        count, first = 0, 0
        for taps, until in runs:
            count += (until - first) * (taps.end - taps.begin)
            first = until
        reached = max(taps.end for taps, _ in runs) - min(taps.begin for taps, _ in runs)
        shares.append((count / (output * kernel), reached / kernel))
    return shares


def inside(s: ConvShape, axis: int) -> float:
    """Share of the taps of an axis, over all of its outputs, that read more than padding."""
    return tap_shares(s)[axis][0]


def reached(s: ConvShape, axis: int) -> float:
    """Share of the taps of an axis that read more than padding for any of its outputs."""
    return tap_shares(s)[axis][1]


def step(rows: float, vectors: int) -> float:
    """Cycles of a step of a register tile: its multiply-adds, its loads, or the wait for sums."""
    return max(rows * vectors / MULTIPLY_ADDS, (rows + vectors) / LOADS, LATENCY)


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


def crossed_pixels(s: ConvShape) -> int:
    """Pixels of a result along the axes that taps cross, and along its rows."""
    planes, rows, cols = s.output
    return cols * (rows if s.kernel[1] > 1 else 1) * (planes if s.kernel[0] > 1 else 1)


def itemsize(lanes: int) -> int:
    """Bytes of an element."""
    return VECTOR_BYTES // lanes


def task_rows(s: ConvShape, lanes: int) -> float:
    """Rows of outputs of a task, about: as many as its halo tile keeps in cache, and enough."""
    cols = min(s.output[2], USUAL_COLUMNS)
    enough = max(1, USUAL_PIXELS // cols)
    if not crosses_rows(s):
        return min(s.output[1], enough) if kernel_taps(s) == 1 else enough
    pitch = cols + axis_reach(s.kernel[2], s.stride[2], s.dilation[2])
    phases = phases_of(s, 1) * phases_of(s, 2)
    row = s.c_in * s.kernel[0] * phases * pitch * itemsize(lanes)
    in_cache = blocking.CACHE_BYTES // row - axis_reach(s.kernel[1], s.stride[1], s.dilation[1])
    return float(min(s.output[1], max(in_cache, enough)))


def phases_of(s: ConvShape, axis: int) -> int:
    """Phases of a stride that taps touch along an axis."""
    phases: int = axis_phase_count(s.kernel[axis], s.stride[axis], s.dilation[axis])
    return phases


def count_halo(s: ConvShape, lanes: int) -> Counts:
    """Count what a halo tile copies for a row of outputs, all channels of a group.

    Where rows are not copied by vectors, each row of padding is a call of its own.
    """
    cols = min(s.output[2], USUAL_COLUMNS)
    pitch = cols + axis_reach(s.kernel[2], s.stride[2], s.dilation[2])
    phases = phases_of(s, 2)
    many = task_rows(s, lanes)
    rows = s.kernel[0] * s.output[2] / cols
    real = rows * inside(s, 0)
    if crosses_rows(s):
        reach = axis_reach(s.kernel[1], s.stride[1], s.dilation[1])
        again = phases_of(s, 1) * (many + reach) / many
        rows *= again
        real *= min(again, s.size[1] / s.output[1] * ceil_div(s.output[1], int(many)))
    if s.in_strides[4] != 1 and s.in_strides[1] == 1 and s.c_in > 1:
        calls = rows * phases * ceil_div(s.c_in, lanes)
        return {"transposed_row": calls} | count_transposing(s, lanes, real * phases * pitch)
    rows, real, vectors = rows * s.c_in, real * s.c_in, ceil_div(pitch, lanes)
    counts: Counts = {
        "copied_channel": s.c_in * s.kernel[0] / many,
        "padded_vector": (rows - real) * phases * vectors,
    }
    if s.in_strides[4] == 1 and s.stride[2] == 1:
        return counts | {"copied_vector": real * vectors}
    if s.in_strides[4] == 1 and s.stride[2] == 2 and s.dilation[2] % 2 == 1 and phases == 2:
        return counts | {"split_vector": real * vectors}
    elements = real * min(phases * pitch, s.size[2])
    return {"strided_row": rows * phases, "copied_element": elements}


def count_transposing(s: ConvShape, lanes: int, pixels: float) -> Counts:
    """Count pixels whose channels are transposed; each of a large image is a line by itself."""
    vectors = pixels * ceil_div(s.c_in, lanes)
    far = s.in_strides[0] * itemsize(lanes) > blocking.SECOND_LEVEL
    return {
        "transposed_vector": vectors,
        "transposed_result": pixels * s.c_in / lanes,
        "transposed_far": vectors if far else 0,
    }


def far_weights(s: ConvShape, lanes: int, rows: float) -> float:
    """Vectors of weights that come from beyond the second-level cache, once for so many rows.

    At most for those of an image; under a single tap images are rows.
    """
    single = kernel_taps(s) == 1
    most = s.n * s.output[0] * s.output[1] if single else crossed_pixels(s) / s.output[2]
    size = s.c_in * kernel_taps(s) * s.c_out * reached(s, 0) * reached(s, 1) * reached(s, 2)
    far = max(0.0, size - blocking.SECOND_LEVEL / itemsize(lanes))
    return float(far / lanes / min(rows, most))


def count_packing(s: ConvShape) -> Counts:
    """Count weights that plain calls pack tap by tap, which takes longer than channel by channel.

    Prepared layers pack them once. So they count half.
    """
    taps, rows = kernel_taps(s), crossed_pixels(s) / s.output[2]
    return {"packed_by_tap": s.c_in * taps * s.c_out / rows / 2 if taps > 1 else 0}


def count_matrix(s: ConvShape, lanes: int) -> Counts:
    """Count for `matrix`."""
    k_size, cols, line = s.c_in * kernel_taps(s), s.output[2], columns_in_line(s)
    blocks = equal_parts(s.c_out, most_rows(k_size))
    tiles = sum(many for many, _ in blocks)
    vectors = ceil_div(line, lanes)
    pairs, single = vectors // 2 * cols / line, vectors % 2 * cols / line
    used = k_size * inside(s, 0) * inside(s, 1)
    counts: Counts = {}
    flat = (cols + axis_reach(s.kernel[2], s.stride[2], s.dilation[2])) / lanes
    saved = 2 * pairs + single - flat
    if crosses_rows(s) and s.output[1] > 1 and saved * k_size > SEGMENT_COST * (saved + flat):
        pairs, single, used = flat / 2, 0, k_size * inside(s, 0)
        counts["matrix.segment"] = flat * s.c_out
    results = (2 * pairs + single) * s.c_out
    counts["step"] = used * sum(
        many * (pairs * step(rows, 2) + single * step(rows, 1)) for many, rows in blocks
    )
    counts["matrix.tile"] = (pairs + single) * tiles
    counts["matrix.result"] = results
    if s.out_strides[4] != 1:
        counts["matrix.moved"] = results
    signal = reads_signals_in_place(s, lanes) and (kernel_taps(s) == 1 or cols > SHORT_ROW)
    if not (signal or reads_rows_in_place(s, lanes)):
        counts |= count_halo(s, lanes)
    elif kernel_taps(s) == 1 and pages_of_pixels(s, lanes) > MOST_PAGES:
        counts["page"] = pages_of_pixels(s, lanes) * (pairs + single) * tiles
    rows = task_rows(s, lanes)
    return counts | {"far_vector": far_weights(s, lanes, rows)} | {"task": 1 / rows}


def count_transposed(s: ConvShape, lanes: int) -> Counts:
    """Count for `matrix_transposed`."""
    k_size, cols = s.c_in * kernel_taps(s), s.output[2]
    channels = vectors_of_channels(s, lanes)
    blocks = sum(many for many, _ in channels)
    in_place = reads_pixels_in_place(s, lanes)
    used = k_size * inside(s, 0) * inside(s, 1) * (inside(s, 2) if in_place else 1)
    neighbours = s.out_strides[3] == cols * s.out_strides[4]
    crossed = crosses_rows(s) or kernel_taps(s) == 1
    if 2 * cols <= TILE_ROWS and neighbours and crossed and s.output[1] > 1:
        pixels = [(0.5, 2 * cols)]
    else:
        pixels = equal_parts(cols, TILE_ROWS)
    tiles = sum(many for many, _ in pixels) * blocks
    steps = sum(n * m * step(rows, vectors) for n, rows in pixels for m, vectors in channels)
    counts: Counts = {
        "step": used * steps,
        "matrix_transposed.tile": tiles,
        "matrix_transposed.result": cols * s.c_out / lanes,
    }
    if s.out_strides[1] != 1:
        counts["matrix_transposed.moved"] = cols * s.c_out / lanes
    elif blocks > 1:
        counts["matrix_transposed.apart"] = cols * s.c_out / lanes
    if not in_place:
        counts |= count_halo(s, lanes)
    elif s.in_strides[1] != 1:
        if kernel_taps(s) == 1 and pages_of_pixels(s, lanes) > MOST_PAGES:
            counts["page"] = pages_of_pixels(s, lanes) * tiles
        lines = s.c_in * s.kernel[0] * cols * min(1, s.stride[2] / lanes)
        read = s.c_in * s.kernel[0] * s.kernel[1] * CACHE_LINE
        if kernel_taps(s) > 1 and read >= FIRST_LEVEL:
            counts["matrix_transposed.again"] = lines * s.kernel[1] * blocks
        if s.in_strides[0] * itemsize(lanes) > blocking.CACHE_BYTES:
            counts["matrix_transposed.line"] = lines * min(s.kernel[1], s.stride[1])
    rows = task_rows(s, lanes)
    if in_place and (cached := cached_pixels(s, lanes)) is not None:
        rows = min(rows, cached / cols)
    return counts | {"far_vector": far_weights(s, lanes, rows)} | {"task": 1 / rows}


def count_zones(s: ConvShape, lanes: int) -> Counts:
    """Count for `matrix_zones`."""
    cols, channels = s.output[2], vectors_of_channels(s, lanes)
    blocks = sum(many for many, _ in channels)
    steps, calls, first = 0.0, 0.0, 0
    for taps, until in axis_taps(s, 2):
        width, many = until - first, taps.end - taps.begin
        if 2 * width <= TILE_ROWS and s.output[1] > 1:
            pixels = [(0.5, 2 * width)]
        else:
            pixels = equal_parts(width, TILE_ROWS)
        steps += many * sum(n * m * step(rows, v) for n, rows in pixels for m, v in channels)
        calls += blocks * sum(n for n, _ in pixels) if many else 0
        first = until
    rows_used = s.kernel[0] * s.kernel[1] * inside(s, 0) * inside(s, 1)
    copied = s.kernel[0] * inside(s, 0) * (s.size[1] / s.output[1] if crosses_rows(s) else 1)
    counts: Counts = {
        "step": steps * s.c_in * rows_used,
        "matrix_zones.call": calls * rows_used,
        "matrix_zones.result": cols * s.c_out / lanes,
    }
    if s.out_strides[1] != 1:
        counts["matrix_zones.moved"] = cols * s.c_out / lanes
    rows = s.output[1] if crosses_rows(s) else task_rows(s, lanes)
    pages = s.c_in * min(1, s.size[2] * itemsize(lanes) / PAGE_BYTES)
    if pages > MOST_PAGES:
        counts["page"] = pages * calls * rows_used
    if s.in_strides[1] == 1:
        counts |= count_transposing(s, lanes, copied * s.size[2])
    else:
        counts["copied_channel"] = s.c_in * s.kernel[0] / rows
        counts["copied_vector"] = copied * s.c_in * ceil_div(s.size[2], lanes)
    row = s.c_in * s.size[2] / lanes
    if row * VECTOR_BYTES > 2 * blocking.CACHE_BYTES:  # each block of channels reads it again
        counts["far_vector"] = copied * row * (1 + blocks)
    counts["far_vector"] = counts.get("far_vector", 0) + far_weights(s, lanes, rows)
    return counts | count_packing(s) | {"task": 1 / rows}


def count_panels(s: ConvShape, lanes: int) -> Counts:
    """Count for `patch_matrix`."""
    taps, cols, width = kernel_taps(s), s.output[2], TILE_VECTORS * lanes
    k_size = s.c_in * taps
    blocks = equal_parts(s.c_out, TILE_ROWS)
    # Pixels of an image are panel after panel; how many of these panels are cut by its ends.
    image = max(columns_in_line(s), crossed_pixels(s))
    together = image * (s.n if taps == 1 else 1)  # sums of one tap have one order everywhere
    zoned = s.kernel[0] == 1 and fills_zones(s, width)
    # Of one zone, taps that no pixel reads are left out.
    shares = inside if zoned else reached
    used = taps * shares(s, 1) * shares(s, 2)
    vectors = cols / lanes * max(1, lanes / together)
    cut = min(1, width / image) if image % width else 0
    if crosses_rows(s) and s.out_strides[3] != cols * s.out_strides[4]:
        cut = min(1, width / cols)
    if zoned or s.out_strides[4] != 1:
        cut = 1
    counts: Counts = {
        "step": s.c_in * used * vectors / 2 * sum(many * step(size, 2) for many, size in blocks),
        "patch_matrix.tile": vectors / 2 * sum(many for many, _ in blocks),
        "patch_matrix.result": vectors * s.c_out,
        "patch_matrix.moved": vectors * s.c_out * cut,
    }
    if taps == 1 and max(s.padding) == 0 and max(s.stride) == 1 and s.in_strides[4] == 1:
        counts["patch_matrix.line"] = s.c_in * vectors
    else:
        runs = taps * (1 + vectors / 2)  # those of padding are set to zero
        counts["patch_matrix.run"] = runs
        counts["patch_matrix.row"] = runs * s.c_in
        if s.in_strides[1] == 1:
            counts |= count_transposing(s, lanes, used * cols)
        elif s.in_strides[4] == 1 and s.stride[2] == 1:
            counts["copied_vector"] = s.c_in * used * vectors
        else:
            counts["copied_element"] = s.c_in * used * vectors * lanes
    room = blocking.CACHE_BYTES * 5 // 8 // itemsize(lanes) // min(k_size, MOST_K)
    rows = max(width, room) / cols
    return (
        counts | {"far_vector": far_weights(s, lanes, rows)} | count_packing(s) | {"task": 1 / rows}
    )


def count_bands(s: ConvShape, lanes: int) -> Counts:
    """Count for `filter_rows`."""
    vectors = ceil_div(s.output[2], lanes)
    kd, kh, kw = s.kernel
    height, phases_h, phases_w = min(BAND_ROWS[-1], s.output[1]), phases_of(s, 1), phases_of(s, 2)
    if not crosses_rows(s):
        height = BAND_ROWS[-1]
    sums = s.c_out * s.c_in * kd * inside(s, 0)
    counts: Counts = {
        "filter_rows.product": sums * vectors * kw * kh,
        "filter_rows.load": sums * vectors * kw * (phases_h * (height - 1) + kh) / height,
        "filter_rows.result": sums * vectors * phases_h * phases_w,
        "filter_rows.end": sums * kw * phases_h / height,
    }
    if s.out_strides[4] != 1:
        counts["filter_rows.moved"] = vectors * s.c_out
    if not (reads_bands_in_place(s) and vectors > 4 * BAND_VECTORS[-1]):
        counts |= count_halo(s, lanes)
    rows = task_rows(s, lanes)
    planes = s.c_in * s.kernel[0] * phases_h * phases_w * rows * s.output[2] * itemsize(lanes)
    together = min(s.groups, max(1, blocking.CACHE_BYTES // 8 // planes))
    return counts | {"task": 1 / rows / together}
