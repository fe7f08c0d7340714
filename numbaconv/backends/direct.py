"""direct: read the input where it lies, or a halo tile of it; there is no patch matrix.

The output is cut into tasks (image, group, plane, block of rows, block of columns, part of the
output channels), shared out over the threads. A task copies its halo tile, unless it can read the
input in place, and then runs one of six lowerings: `direct_multiply` on long rows of pixels,
`direct_transposed` on short ones and where long ones would have to be copied, `direct_zones` if
short ones are dilated; `direct_filter` where a group has few output channels; for depthwise layers
`direct_planes`, or `direct_channels` where the channels are innermost in memory. Where a halo tile
would be nothing but padding, the work is `im2col`'s.
"""

import numpy as np

from numbaconv.activation import NONE, activate
from numbaconv.backends import direct_channels, direct_planes, direct_zones, im2col
from numbaconv.backends.direct_filter import MOST_FOLDED, filter_work
from numbaconv.backends.direct_lowerings import (
    SHORT_VECTORS,
    has_padded_halo,
    reads_in_place,
    reads_inside_in_place,
    stays_cached,
    streams_bands,
    uses_bands,
    uses_channels,
    uses_folds,
    uses_planes,
    uses_transposed,
    uses_zones,
)
from numbaconv.backends.direct_multiply import multiply_work
from numbaconv.backends.direct_taps import tap_table
from numbaconv.backends.direct_tasks import Blocks, channel_parts, tile_size
from numbaconv.backends.direct_transposed import transposed_work
from numbaconv.band import band
from numbaconv.blocking import (
    BAND_ROWS,
    BAND_VECTORS,
    CACHE_BYTES,
    TASKS_PER_THREAD,
    TILE_ROWS,
    TILE_VECTORS,
    most_rows,
)
from numbaconv.channel_tiles import pixel_tile
from numbaconv.fold import fold
from numbaconv.halo import axis_reach, fill_halo, halo_layout, tap_offsets, tap_offsets_in_place
from numbaconv.job import (
    ACTIVATE,
    ACTIVATION,
    AHEAD,
    BAND,
    BLOCKS,
    FILL_HALO,
    HALO,
    IN_PLACE,
    LANES,
    PACK_IN_TASK,
    PACK_ROWS,
    PACKER,
    PANEL_SIZE,
    SCRATCH_SIZE,
    STREAMS,
    TILE,
    WORKER,
    set_entries,
)
from numbaconv.microkernel import tile
from numbaconv.packing import pack_work, register_rows
from numbaconv.pointers import CACHE_LINE
from numbaconv.shape import kernel_taps
from numbaconv.target import VECTOR_BYTES

# Pixels of a task: so many use a panel of weights often enough; so few, where they keep all input
# channels in cache.
USUAL_PIXELS, FEWEST_PIXELS = 400, 256

# Columns of a task, at most, where rows can be shared out too.
USUAL_COLUMNS = 1024

# Columns of a task that computes bands of a signal: 1.05 to 1.2 times as fast as USUAL_COLUMNS, and
# 1.3 times where results go past the caches, for which each task waits at its end.
LONGEST_COLUMNS = 1 << 14

# How far ahead pixels are asked for, where rows are multiplied and they come from memory, and where
# the product is transposed, in a channel that comes later: no prefetcher of the hardware follows
# channels. So layers are 1.0 to 1.25 times as fast from memory, from cache 0.99 to 1.04; 18 taps
# ahead they are 0.99 times as fast in the mean.
TILES_AHEAD, TAPS_AHEAD = 4, 36

# Input channels up to which wide rows are better than all channels at once: see `in_parts`.
MOST_IN_PARTS = 300


def even_blocks(s, fewest, planes, threads, oc_blocks):
    """Blocks of rows, `fewest` or some more, that take the least time on all threads.

    The thread that has the most tasks computes their rows, and copies the halo of each: an element
    takes as long as some 64 multiply-adds. Few blocks are left alone if equal parts of the output
    channels make more tasks of them.
    """
    oh = s.output[1]
    parts = channel_parts(planes * fewest, threads)
    if parts > 1 and oc_blocks % parts == 0:
        return fewest
    halo = axis_reach(s.kernel[1], s.stride[1], s.dilation[1]) * 64 / (s.c_out * kernel_taps(s))

    def longest(blocks):
        return -(-planes * blocks // threads) * (oh / blocks + halo)

    return min(range(fewest, min(oh, fewest + threads) + 1), key=longest)


def fit_cache(s, cols, mr, itemsize):
    """Rows of a task, at least, and the input channels that its halo tile has at a time.

    Channels by parts write and read each output once a part. All at once are 1.03 to 1.1 times as
    fast (R4, R7, B2, U1 of `benchmarks/layers.csv`, while these were copied) on fewer rows, or on a
    larger halo tile, while that and a panel of weights fit the cache; beyond, 0.9 to 1.0 times.
    """
    panel = mr * s.c_in * kernel_taps(s) * itemsize
    usual, fewest = (
        min(s.output[1], max(1, pixels // cols)) for pixels in (USUAL_PIXELS, FEWEST_PIXELS)
    )
    if reads_in_place(s, VECTOR_BYTES // itemsize):
        return usual, s.c_in
    halo, small_halo = (
        halo_layout(s, rows, cols, itemsize).channel * itemsize for rows in (usual, fewest)
    )
    if s.c_in * halo <= CACHE_BYTES:
        return usual, s.c_in
    if s.c_in * small_halo <= min(CACHE_BYTES, 2 * CACHE_BYTES - panel):
        return fewest, s.c_in
    if s.c_in * halo <= 2 * CACHE_BYTES - panel:
        return usual, s.c_in
    channels = max(1, CACHE_BYTES // halo)
    return usual, -(-s.c_in // -(-s.c_in // channels))


def even_rows(s, mr, threads):
    """Rows of register blocks of which there are as many for each thread, if that shares out well.

    A single small map is then cut by output channels, and not by rows of pixels, for which each
    thread needs all weights, and in plain calls packs them: plain calls are 1.02 to 1.08 times as
    fast, prepared layers 1.0 to 1.06. Where a thread's share would be larger than by pixels (33
    channels on 20 x 20) they are 0.94 times as fast.
    """
    each = -(-s.c_out // (mr * threads))
    even = -(-s.c_out // (each * threads))
    by_channels, by_pixels = each * even / s.c_out, -(-s.output[1] // threads) / s.output[1]
    return even if 10 * even >= 7 * mr and by_channels <= 1.03 * by_pixels else mr


def shares_badly(blocks, threads, columns, tile):
    """Whether blocks of channels are too few for all threads, or leave some idle for long.

    Columns for each thread are better then, if that saves a seventh of the register tiles, which
    are so many columns wide: with 3 blocks for two threads up to 1.28 times as fast, with 5 up to
    1.17. Less is lost again, as each thread reads all weights, and in plain calls packs them.
    """
    together = -(-blocks // threads) * -(-columns // tile)
    apart = blocks * -(-columns // (threads * tile))
    return blocks < threads or together >= 1.15 * apart


def in_parts(s, cols, itemsize):
    """Whether a row is better cut shorter, as it has its channels by parts and results to match.

    Each part of the channels reads and writes all results, which the cache does not hold beside a
    halo tile: layers of 320 to 1280 channels on 500 to 4096 pixels are 1.03 to 1.1 times as fast on
    rows so short that all channels fit at once, or nearly; with 192 or 256 channels 0.97 to 1.02.
    """
    budget = CACHE_BYTES // itemsize
    most_halo = max(budget, 2 * budget - TILE_ROWS * s.c_in * kernel_taps(s))
    halo = s.c_in * halo_layout(s, 1, cols, itemsize).channel
    return s.c_in > MOST_IN_PARTS and s.c_out * cols > budget and halo > most_halo


def widest_columns(s, itemsize, threads, oc_blocks, tile):
    """Columns of a task, at most."""
    budget = CACHE_BYTES // itemsize
    od, oh, ow = s.output
    planes = s.n * s.groups * od
    widest = USUAL_COLUMNS
    if uses_bands(s):
        # Of a row in pieces the two at its ends would be copied whole, and not the ends alone.
        if ow <= 3 * widest or (oh > 1 and reads_inside_in_place(s, VECTOR_BYTES // itemsize)):
            widest = ow
        if uses_folds(s) or oh == 1:
            if uses_folds(s):
                longest = MOST_FOLDED * VECTOR_BYTES // itemsize  # a call takes no more
            else:
                longest = min(LONGEST_COLUMNS, budget // 2 // s.c_in)  # of a halo tile
            enough = planes * oh * ow // (threads * TASKS_PER_THREAD)
            widest = max(widest, min(longest, enough))
    elif oh == 1:
        # A result that no cache holds is stored the faster the longer the runs of each channel are
        # (A2: 1.3 times as fast), up to a halo tile of half the budget and some more for what taps
        # reach beyond. One that a cache holds is computed 1.0 to 1.2 times as fast on smaller tiles
        # (pointwise layers of 16 to 32 channels).
        cached = planes * s.c_out * ow <= 16 * budget
        most_halo = budget // 8 if cached else budget * 5 // 8
        while s.c_in * halo_layout(s, 1, 2 * widest, itemsize).channel <= most_halo:
            widest *= 2
        while widest > FEWEST_PIXELS and in_parts(s, widest, itemsize):
            widest //= 2
    if oh == 1:  # a pointwise layer or a signal: only columns can be shared out
        widest = min(widest, max(USUAL_PIXELS, -(-planes * ow // threads)))
        if planes < threads and shares_badly(planes * oc_blocks, threads, ow, tile):
            widest = min(widest, -(-ow // threads))
    return widest


def cut_columns(s, itemsize, threads, oc_blocks, transposed):
    """Columns of a task: equal parts of a row, of whole vectors where these are of pixels."""
    lanes = VECTOR_BYTES // itemsize
    oh, ow = s.output[1:]
    tile = TILE_ROWS if transposed else TILE_VECTORS * lanes
    widest = widest_columns(s, itemsize, threads, oc_blocks, tile)
    if transposed and s.out_strides[1] != 1:
        widest = min(widest, SHORT_VECTORS * lanes)  # of a stage
    blocks = -(-ow // widest)
    if oh == 1 and ow >= threads * USUAL_PIXELS:  # as many for each thread
        blocks = -(-blocks // threads) * threads
    unit = 1 if transposed else tile
    cols = min(ow, -(-ow // (blocks * unit)) * unit)
    if uses_bands(s):
        # Under a tall filter fewer, so that the halo tile has rows for a few register blocks.
        tall = min(oh, 4 * BAND_ROWS[-1])
        budget = CACHE_BYTES // itemsize
        while cols > 8 * lanes and halo_layout(s, tall, cols, itemsize).channel > budget:
            cols = -(-cols // (8 * lanes)) * 4 * lanes
    return cols


def cut(s, itemsize, threads):
    """Choose the blocks of a problem.

    Rows: pixels enough that a panel of weights is used often; then more while the halo tile stays
    within CACHE_BYTES and the threads have tasks enough.

    Small planes of bands: several groups a task. What was just stored to a halo tile is slow to
    load again before it has left the store buffer, and the other groups' tiles give it time.
    """
    lanes = VECTOR_BYTES // itemsize
    budget = CACHE_BYTES // itemsize
    od, oh, ow = s.output
    transposed = uses_transposed(s, lanes)
    mr = register_rows(s.c_out, most_rows(s.c_in * kernel_taps(s)))
    if transposed:
        mr = TILE_VECTORS * lanes
    oc_blocks = -(-s.c_out // mr)
    cols = cut_columns(s, itemsize, threads, oc_blocks, transposed)
    col_blocks = -(-ow // cols)
    rows, kc = fit_cache(s, cols, mr, itemsize)
    groups = 1
    wanted = threads * TASKS_PER_THREAD if threads > 1 else 1
    planes = s.n * s.groups * od * col_blocks
    while (
        rows < oh
        and kc * halo_layout(s, 2 * rows, cols, itemsize).channel <= budget
        and planes * (oh // (2 * rows)) >= wanted
    ):
        rows = min(oh, 2 * rows)
    fewest = -(-oh // rows)
    if planes * fewest < threads and not transposed:
        mr = even_rows(s, mr, threads)
        oc_blocks = -(-s.c_out // mr)
    row_blocks = even_blocks(s, fewest, planes, threads, oc_blocks)
    rows = -(-oh // row_blocks)
    if uses_bands(s) and kc == s.c_in and row_blocks == 1:
        halo = kc * halo_layout(s, rows, cols, itemsize).channel
        while (
            2 * groups <= s.groups
            and 2 * groups * halo <= budget // 8
            and s.n * od * col_blocks * (s.groups // (2 * groups)) >= wanted
        ):
            groups *= 2
        planes = s.n * -(-s.groups // groups) * od * col_blocks
    blocks = planes * row_blocks
    oc_parts = min(oc_blocks, channel_parts(blocks, threads))
    return Blocks(
        mr,
        oc_blocks,
        oc_parts,
        rows,
        cols,
        row_blocks,
        col_blocks,
        kc,
        groups,
        blocks * oc_parts,
    )


def own_plan(s, lanes):
    """Return the lowering of a problem if it is one that has a plan of its own, else None."""
    if uses_planes(s):
        return direct_planes
    if uses_channels(s, lanes):
        return im2col if direct_channels.has_padded_halo(s) else direct_channels
    if uses_zones(s, lanes):
        return direct_zones
    return im2col if has_padded_halo(s) and not reads_in_place(s, lanes) else None


def channels_ahead(s, apart, lanes):
    """How many channels later the pixels lie that a tile of the product transposed asks for.

    Where lines of many channels want the same places in the first-level cache, fewer: asked for
    too early they would be gone when they are used (64 x 64 pixels under a stride of 2: 0.86).
    """
    line, places = CACHE_LINE * lanes // VECTOR_BYTES, 64
    while apart % (2 * line) == 0 and places > 1:
        apart //= 2
        places //= 2
    return max(1, min(TAPS_AHEAD // kernel_taps(s), 4 * places // s.kernel[1]))


def elements_ahead(s, halo, lanes):
    """How far ahead a tile asks for the pixels that it will need."""
    if uses_transposed(s, lanes):
        apart = s.in_strides[1] if reads_in_place(s, lanes) else halo.channel
        return channels_ahead(s, apart, lanes) * apart
    return 0 if stays_cached(s, lanes) else TILES_AHEAD * TILE_VECTORS * lanes


def plan(job, s, itemsize, threads):
    """Fill a job's blocks and sizes for a problem; return its number of tasks."""
    own = own_plan(s, VECTOR_BYTES // itemsize)
    if own:
        return own.plan(job, s, itemsize, threads)
    b = cut(s, itemsize, threads)
    halo = halo_layout(s, b.rows, b.cols, itemsize)
    lanes = VECTOR_BYTES // itemsize
    set_entries(job, BLOCKS, b)
    set_entries(job, HALO, halo)
    job[PACK_ROWS] = b.mr
    if not uses_bands(s) and b.tasks <= 2 * b.oc_parts * s.groups:
        # Each panel is for one or two tasks: never written to memory, it is still in cache.
        job[PACK_IN_TASK] = 1
        job[PANEL_SIZE] = -(-(b.mr * b.kc * kernel_taps(s) + b.mr) // lanes) * lanes
    job[SCRATCH_SIZE] = tile_size(lanes) + job[PANEL_SIZE]
    if not reads_in_place(s, lanes):
        # Vector loads of the last tap reach past the last row.
        slack = halo.pitch + BAND_VECTORS[-1] * lanes
        job[SCRATCH_SIZE] += -(-(b.groups * b.kc * halo.channel + slack) // lanes) * lanes
        if reads_inside_in_place(s, lanes):
            job[IN_PLACE] = make_table(s, itemsize, threads).size // 2
    job[AHEAD] = elements_ahead(s, halo, lanes)
    if uses_bands(s) and job[ACTIVATION] == NONE:
        job[STREAMS] = streams_bands(s, lanes, threads)
    job[LANES] = lanes
    return b.tasks


def make_table(s, itemsize, threads):
    """Offsets of the taps for bands, else lists of taps: in what a task copies, and in place."""
    own = own_plan(s, VECTOR_BYTES // itemsize)
    if own:
        return own.make_table(s, itemsize, threads)
    b = cut(s, itemsize, threads)
    always = reads_in_place(s, VECTOR_BYTES // itemsize)
    ways = []
    if not always:
        halo = halo_layout(s, b.rows, b.cols, itemsize)
        ways.append((tap_offsets(s, halo, 1), halo.channel))
    if always or reads_inside_in_place(s, VECTOR_BYTES // itemsize):
        ways.append((tap_offsets_in_place(s), s.in_strides[1]))
    if uses_bands(s):
        return np.concatenate([offsets for offsets, _ in ways])
    transposed = uses_transposed(s, VECTOR_BYTES // itemsize)
    return np.concatenate([tap_table(s, *way, b, transposed) for way in ways])


def set_addresses(job, s, dtype):
    """Compile the functions that a problem needs and write their addresses into its job."""
    if job[ACTIVATION] != NONE:
        job[ACTIVATE] = activate.address(dtype)
    lanes = VECTOR_BYTES * 8 // dtype.bitwidth
    own = own_plan(s, lanes)
    if own:
        own.set_addresses(job, s, dtype)
        return
    if not reads_in_place(s, lanes):
        job[FILL_HALO] = fill_halo.address(dtype)
    if uses_bands(s):
        job[BAND], job[WORKER] = band.address(dtype), filter_work.address(dtype)
        if uses_folds(s):
            job[TILE] = fold.address(dtype)
        return
    job[PACKER] = pack_work.address(dtype)
    if uses_transposed(s, lanes):
        job[TILE], job[WORKER] = pixel_tile.address(dtype), transposed_work.address(dtype)
    else:
        job[TILE], job[WORKER] = tile.address(dtype), multiply_work.address(dtype)


def has_zones(s):
    """Whether zones serve a problem, its dtype aside: for `auto`, with the lanes of float32."""
    return uses_zones(s, VECTOR_BYTES // 4)


def unavailable() -> str | None:
    """Why the backend cannot run here: it always can."""
    return None
