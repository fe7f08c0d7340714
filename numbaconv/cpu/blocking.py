"""Block sizes, each with the arithmetic that gives it.

BLIS's words: a register block is MR x NR values of C; cache blocks bound what a task reads.
"""

from numbaconv.codegen.jit import inline
from numbaconv.codegen.target import (
    HALVES_VECTORS,
    REGISTERS,
    first_level_cache,
    second_level_cache,
)

# Register block of `matrix.tile`: MR x NV accumulators, NV vectors of pixels and one
# broadcast weight must fit: MR * NV + NV + 1 <= registers. Two vectors load least for each
# multiply-add of the shapes that fit: 14 x 2 on 32 registers, 6 x 2 on 16.
TILE_VECTORS = 2
TILE_ROWS = (REGISTERS - 1) // TILE_VECTORS - 1

# With a very short k, storing C takes longer than the multiply-adds. Blocks of fewer rows let more
# of the two go on side by side: they are fewer streams of stores, and the CPU sees the next block's
# multiply-adds while it still stores. That holds for `direct`; `im2col` stores one block at a time.
# What higher blocks save are loads, which weigh less on a Zen 4.
SHALLOW_K, SHALLOW_ROWS = 64 if HALVES_VECTORS else 12, min(8, TILE_ROWS)

# Channels whose single taps are one list, at most: a tile's loop over channels takes longer to come
# round than a step of its loop over taps.
MOST_SINGLE = 32

# `matrix`: one long row of all pixels wastes least, but its tiles are moved to the output in
# segments. That takes as long as so many multiply-adds for each vector.
SEGMENT_COST = 20

# `matrix`: a tile of a single vector loads a weight for each multiply-add. So many take as long as
# one vector more would in tiles of two, which one long row of all pixels has.
SINGLES = 3

# Rows of fewer tiles are narrow: pixels are taken down their columns, as one call then computes all
# rows.
NARROW_TILES = 5

# A call for some rows of a column with taps of their own takes as long as so many multiply-adds of
# vectors: rows at the border of a short k have all taps, those that read padding too.
CALL_COST = 150

# `matrix_transposed`: pixels that are moved to the output at once, where a row has fewer: whole
# cache lines of each channel, and ragged ends only once.
STAGE_PIXELS = 64

# `patch_matrix`: longer products are cut into slices of k: each cut reads C once more.
MOST_K = 1280

# Register blocks of `band.band`: 4 x 4 + 4 + 1 <= 32 registers, 4 x 2 + 2 + 1 <= 16. Each height
# below the block's is a case of its own, and costs compile time.
BAND_ROWS = (1, 2, 4)
BAND_VECTORS = (1, 2, 4) if REGISTERS >= 32 else (1, 2)

# Below this many output channels a group, rows of one channel fill the register block better.
BAND_CHANNELS = 4

# Register block of `interleaved.interleaved_tile`: 4 x 4 + 4 + 1 <= 32, 4 x 2 + 2 + 1 <= 16.
INTERLEAVED_ROWS = 4
INTERLEAVED_VECTORS = (4, 2, 1) if REGISTERS >= 32 else (2, 1)

# Register blocks of `fold.fold`: 16 + 4 + 1 <= 32 registers, 8 + 4 + 1 <= 16. Of the loads, 19 for
# 64 multiply-adds, nearly all cross a cache line, which takes two cycles.
FOLD_DEPTH = 4
FOLD_VECTORS = (1, 2, 4, 8, 16) if REGISTERS >= 32 else (1, 2, 4, 8)

# Register blocks of `strip`, for each stride: heights of a filter. Taller filters are sums of
# these, which read and write the results once more each. Under a stride there are fewer products
# for each result, so there are all heights.
STRIP_ROWS = {1: (1, 3, 5, 7), 2: range(1, 8), 3: range(1, 8), 4: range(1, 8)}
MOST_STRIP_ROWS = 7

# Filters of `plane.small_planes`: 16 sums + 7 weights + 1 <= 32 registers, 8 + 7 + 1 <= 16.
SMALL_FILTERS = (3, 5, 7)
SMALL_STRIDES = (1, 2)

# Outputs of a register block of `maps.map_sums`: each has a register for its place in the map, of
# which a core of x86 has few.
MAP_OUTPUTS = (8, 4, 2, 1)

# Strides of `phases.phase_rows`: the sums of a group, of one vector for each phase, fit registers.
PHASE_STRIDES = (2, 3, 4) if REGISTERS >= 32 else (2, 3)

# Rows that `weave.weave` makes one of: as many vectors are in registers, and a power of two of them
# takes the fewest shuffles. They are rows of one register block.
WOVEN_ROWS = tuple(rows for rows in (2, 3, 4, 8) if rows <= TILE_ROWS)


@inline
def most_of(sizes, left):
    """Largest of the ascending `sizes` that is no more than what is left, or 1."""
    most = 1
    for size in sizes:
        if size <= left:
            most = size
    return most


def cases(count, sizes):
    """How many blocks have which of some ascending sizes: the last one the least that will do."""
    whole, left = divmod(count, sizes[-1])
    last = next(size for size in sizes if size >= left)
    return [(whole, sizes[-1]), (min(1, left), last)]


@inline
def share(count, part, parts):
    """Where the given one of about equal parts of `count` begins, and where it ends."""
    return part * count // parts, (part + 1) * count // parts


def most_rows(k_size):
    """Rows of the largest register block of `direct` for a product over k."""
    return SHALLOW_ROWS if k_size <= SHALLOW_K else TILE_ROWS


@inline
def strip_height(rows, stride):
    """Rows of the highest strip for a filter of so many."""
    most = min(rows, MOST_STRIP_ROWS)
    return most if stride > 1 else max(1, (most - 1) // 2 * 2 + 1)


@inline
def strip_vectors(kh, stride):
    """Vectors of the widest strip: the sums of all rows under way, pixels and one weight must fit.

    Four at most, as many vectors of pixels as `band` has.
    """
    return min(4, (REGISTERS - 1) // ((kh + stride - 1) // stride + 1))


@inline
def phase_vectors(stride, high):
    """Vectors of the widest strip of `phases.phase_rows`: sums, pixels and a weight must fit."""
    return max(1, min(2, (REGISTERS - 1) // (stride * high + 1)))


# What a task reads again and again (a halo tile or patch panels) is to stay in the second-level
# cache beside the weights that stream past: half of it.
SECOND_LEVEL = second_level_cache()
CACHE_BYTES = SECOND_LEVEL // 2

# Bytes of a usual first-level cache, and of the one there is: of lines a power of two apart it
# holds so few that its very size matters.
FIRST_LEVEL = 48 << 10
HOST_FIRST_LEVEL = first_level_cache()


# Tasks for each thread: enough that the last one running is a small part of the whole.
TASKS_PER_THREAD = 4
