"""Blocks of `filter_rows`: a task computes a few output channels of one group, or of some."""

from numbaconv.codegen.integers import ceil_div
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu import blocking
from numbaconv.cpu.blocking import BAND_ROWS, TASKS_PER_THREAD, TILE_VECTORS
from numbaconv.cpu.direct.blocks import (
    USUAL_COLUMNS,
    USUAL_PIXELS,
    MatrixBlocks,
    cut_evenly,
    even_blocks,
    fit_cache,
    more_rows,
    wanted_tasks,
)
from numbaconv.cpu.direct.choice import reads_bands_in_place
from numbaconv.cpu.packing.halo import halo_layout

# Columns of a task of a signal. Longer tasks wait less often, at their end, for results that go
# past the caches.
LONGEST_COLUMNS = 1 << 14

# Vectors of a row in one call: with its rows they are still in the first-level cache when they are
# finished. A fold takes more.
MOST_VECTORS, MOST_FOLDED = 64, 256

# Vectors of a row, at least, that are worth reading in place if its ends have to be copied.
INSIDE_VECTORS = 80


def widest_columns(s, itemsize, threads, folds):
    """Columns of a task, at most.

    Of a row in pieces the two at its ends would be copied whole, and not the ends alone. Of a
    signal only columns can be shared out. Long tasks wait less often for results to go past the
    caches.
    """
    oh, ow = s.output[1:]
    planes = s.n * s.groups * s.output[0]
    widest = USUAL_COLUMNS
    if ow <= 3 * widest or (oh > 1 and reads_bands_in_place(s)):
        widest = ow
    if folds or oh == 1:
        longest = min(LONGEST_COLUMNS, blocking.CACHE_BYTES // itemsize // 2 // s.c_in)
        if folds:
            longest = MOST_FOLDED * VECTOR_BYTES // itemsize  # a call takes no more
        enough = planes * oh * ow // (threads * TASKS_PER_THREAD)
        widest = max(widest, min(longest, enough))
    if oh == 1:
        widest = min(widest, max(USUAL_PIXELS, ceil_div(planes * ow, threads)))
        if planes < threads:
            widest = min(widest, ceil_div(ow, threads))
    return widest


def cut_columns(s, itemsize, threads, folds):
    """Columns of a task: few under a tall filter: the halo tile then has rows for some blocks."""
    lanes = VECTOR_BYTES // itemsize
    widest = widest_columns(s, itemsize, threads, folds)
    cols = cut_evenly(s, widest, TILE_VECTORS * lanes, threads)
    tall = min(s.output[1], 4 * BAND_ROWS[-1])
    budget = blocking.CACHE_BYTES // itemsize
    while cols > 8 * lanes and halo_layout(s, tall, cols, itemsize).channel > budget:
        cols = ceil_div(cols, 8 * lanes) * 4 * lanes
    return cols


def groups_together(s, halo, tasks_of_a_group, threads, itemsize):
    """Groups of a task, where planes are small.

    What was just stored to a halo tile is slow to load again before it has left the store buffer,
    and the other groups' tiles give it time.
    """
    groups, room = 1, blocking.CACHE_BYTES // itemsize // 8
    while (
        2 * groups <= s.groups
        and 2 * groups * halo <= room
        and tasks_of_a_group * (s.groups // (2 * groups)) >= wanted_tasks(threads)
    ):
        groups *= 2
    return groups


def cut(s, itemsize, threads, folds):
    """Choose the blocks of a problem, whose rows are bands or folds."""
    cols = cut_columns(s, itemsize, threads, folds)
    col_blocks = ceil_div(s.output[2], cols)
    images = s.n * s.output[0] * col_blocks
    rows, kc = fit_cache(s, cols, s.c_out, itemsize)
    rows = more_rows(s, rows, cols, kc, images * s.groups, threads, itemsize)
    row_blocks = even_blocks(s, ceil_div(s.output[1], rows), images * s.groups, threads, 1)
    rows = ceil_div(s.output[1], row_blocks)
    groups = 1
    if kc == s.c_in and row_blocks == 1:
        halo = kc * halo_layout(s, rows, cols, itemsize).channel
        groups = groups_together(s, halo, images, threads, itemsize)
    tasks = images * ceil_div(s.groups, groups) * row_blocks
    return MatrixBlocks(s.c_out, 1, 1, rows, cols, row_blocks, col_blocks, kc, groups, tasks)
