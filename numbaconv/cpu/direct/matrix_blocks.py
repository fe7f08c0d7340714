"""Blocks of `matrix` and `matrix_transposed`: a task computes many output channels of some rows."""

import numpy as np

from numbaconv.codegen.integers import ceil_div, largest_divisor, round_up
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu import blocking
from numbaconv.cpu.blocking import MOST_SINGLE, TILE_ROWS, TILE_VECTORS, most_rows
from numbaconv.cpu.direct.blocks import (
    FEWEST_PIXELS,
    USUAL_COLUMNS,
    USUAL_PIXELS,
    MatrixBlocks,
    channel_parts,
    cut_evenly,
    even_blocks,
    fit_cache,
    halo_elements,
    more_rows,
    rows_of,
)
from numbaconv.cpu.direct.choice import (
    SHORT_VECTORS,
    adds_by_parts,
    adds_in_runs,
    cached_pixels,
    has_same_places,
)
from numbaconv.cpu.direct.tap_lists import empty_columns, empty_vectors, lists_lines, tap_table
from numbaconv.cpu.direct.tasks import tile_size
from numbaconv.cpu.lowering import Packing
from numbaconv.cpu.packing.halo import filler, halo_layout, tap_offsets, tap_offsets_in_place
from numbaconv.cpu.packing.weights import register_rows
from numbaconv.problem.shape import kernel_taps

# Input channels up to which wide rows are better than all channels at once: see `in_parts`.
MOST_IN_PARTS = 300

# Where channels are added by parts: channels of a part, at least, but so few that prefetchers
# follow each; and columns of a task, at most.
FEWEST_AT_ONCE, PART_COLUMNS = 20, 2048

# Of few outputs, where channels want the same places in the first-level cache; else twice as many.
FEWEST_IN_RUNS = 8


def even_rows(s, mr, threads):
    """Rows of register blocks of which there are as many for each thread, if that shares out well.

    A single small map is then cut by output channels, and not by rows of pixels, for which each
    thread needs all weights, and in plain calls packs them.
    """
    each = ceil_div(s.c_out, mr * threads)
    even = ceil_div(s.c_out, each * threads)
    by_channels, by_pixels = each * even / s.c_out, ceil_div(s.output[1], threads) / s.output[1]
    return even if 10 * even >= 7 * mr and by_channels <= 1.03 * by_pixels else mr


def shares_badly(blocks, threads, columns, tile):
    """Whether blocks of channels are too few for all threads, or leave some idle for long.

    Columns for each thread are better then, if that saves a seventh of the register tiles, which
    are so many columns wide. Less is lost again, as each thread reads all weights.
    """
    together = ceil_div(blocks, threads) * ceil_div(columns, tile)
    apart = blocks * ceil_div(columns, threads * tile)
    return blocks < threads or together >= 1.15 * apart


def in_parts(s, cols, itemsize):
    """Whether a row is better cut shorter, as it has its channels by parts and results to match.

    Each part of the channels reads and writes all results, which the cache does not hold beside a
    halo tile.
    """
    budget = blocking.CACHE_BYTES // itemsize
    most_halo = max(budget, 2 * budget - TILE_ROWS * s.c_in * kernel_taps(s))
    halo = s.c_in * halo_layout(s, 1, cols, itemsize).channel
    return s.c_in > MOST_IN_PARTS and s.c_out * cols > budget and halo > most_halo


def widest_columns(s, itemsize, threads, oc_blocks, tile):
    """Columns of a task, at most.

    Of a signal, or a pointwise layer, only columns can be shared out. A result that no cache holds
    is stored the faster the longer the runs of each channel are, up to a halo tile of half the
    budget and some more for what taps reach beyond; one that a cache holds is computed faster on
    smaller tiles.
    """
    oh, ow = s.output[1:]
    if oh > 1:
        return USUAL_COLUMNS
    budget = blocking.CACHE_BYTES // itemsize
    planes = s.n * s.groups * s.output[0]
    cached = planes * s.c_out * ow <= 16 * budget
    most_halo = budget // 8 if cached else budget * 5 // 8
    widest = USUAL_COLUMNS
    while s.c_in * halo_layout(s, 1, 2 * widest, itemsize).channel <= most_halo:
        widest *= 2
    while widest > FEWEST_PIXELS and in_parts(s, widest, itemsize):
        widest //= 2
    widest = min(widest, max(USUAL_PIXELS, ceil_div(planes * ow, threads)))
    if planes < threads and shares_badly(planes * oc_blocks, threads, ow, tile):
        widest = min(widest, ceil_div(ow, threads))
    return widest


def shares_channels(s, itemsize, threads, oc_blocks, tile):
    """Whether threads share the output channels of rows, whole ones that are fewer than threads.

    Parts of a row lie between each other in memory, so what a core asks for ahead of time lies in
    the part of another, which has to fetch it back. That takes long beside the work of short rows.
    """
    oh, ow = s.output[1:]
    planes = s.n * s.groups * s.output[0]
    if oh > 1 or planes >= threads or in_parts(s, ow, itemsize):
        return False
    short = ow < threads * USUAL_PIXELS
    return short and not shares_badly(planes * oc_blocks, threads, ow, tile)


def channels_of_panel(s, mr, itemsize):
    """Input channels at a time, equal parts, so that a panel of weights stays in cache."""
    panel = mr * s.c_in * kernel_taps(s) * itemsize
    channels = ceil_div(s.c_in, ceil_div(panel, blocking.CACHE_BYTES))
    listed = largest_divisor(s.c_in, MOST_SINGLE) if lists_lines(s) else 1
    return round_up(channels, listed)


def channels_of_part(s, lanes):
    """Input channels at a time where `adds_by_parts` holds: a multiple of those of a list."""
    if adds_in_runs(s, lanes):
        least = most = FEWEST_IN_RUNS if has_same_places(s, lanes) else 2 * FEWEST_IN_RUNS
    else:
        least, most = FEWEST_AT_ONCE, MOST_SINGLE
    return round_up(least, largest_divisor(s.c_in, most))


def cut(s, itemsize, threads, transposed, in_place):
    """Choose the blocks of a problem.

    Rows: pixels enough that a panel of weights is used often; then more while the halo tile stays
    within CACHE_BYTES and the threads have tasks enough.
    """
    lanes = VECTOR_BYTES // itemsize
    tile, mr = TILE_VECTORS * lanes, register_rows(s.c_out, most_rows(s.c_in * kernel_taps(s)))
    if transposed:
        tile, mr = TILE_ROWS, TILE_VECTORS * lanes
    oc_blocks = ceil_div(s.c_out, mr)
    widest = widest_columns(s, itemsize, threads, oc_blocks, tile)
    if transposed and s.out_strides[1] != 1:
        widest = min(widest, SHORT_VECTORS * lanes)  # of a stage
    by_parts, part = not transposed and adds_by_parts(s, lanes), channels_of_part(s, lanes)
    if by_parts:
        widest = min(PART_COLUMNS, blocking.CACHE_BYTES // ((part + s.c_out) * itemsize))
    pixels = USUAL_PIXELS
    if in_place and (cached := cached_pixels(s, lanes)) is not None:
        pixels, widest = min(pixels, cached), min(widest, cached)
    cols = cut_evenly(s, widest, 1 if transposed else tile, threads)
    if not (transposed or by_parts) and shares_channels(s, itemsize, threads, oc_blocks, tile):
        cols = s.output[2]
    col_blocks = ceil_div(s.output[2], cols)
    planes = s.n * s.groups * s.output[0] * col_blocks
    if by_parts:
        rows, kc = 1, part
    elif in_place:
        rows, kc = rows_of(s, cols, pixels), channels_of_panel(s, mr, itemsize)
    else:
        rows, kc = fit_cache(s, cols, mr, itemsize)
    rows = more_rows(s, rows, cols, kc, planes, threads, itemsize)
    fewest = ceil_div(s.output[1], rows)
    if planes * fewest < threads and not transposed:
        mr = even_rows(s, mr, threads)
        oc_blocks = ceil_div(s.c_out, mr)
    row_blocks = even_blocks(s, fewest, planes, threads, oc_blocks)
    rows = ceil_div(s.output[1], row_blocks)
    blocks = planes * row_blocks
    oc_parts = min(oc_blocks, channel_parts(blocks, threads))
    tasks = blocks * oc_parts
    return MatrixBlocks(mr, oc_blocks, oc_parts, rows, cols, row_blocks, col_blocks, kc, 1, tasks)


def packing_of(s, b, lanes, in_place):
    """How the weights are packed: by the tasks themselves where a panel serves one or two.

    In the order of lists, so that a tile reads them one behind the other.
    """
    if in_place and lists_lines(s):
        return Packing(b.mr, taps_outer=True)
    if b.tasks > 2 * b.oc_parts * s.groups:
        return Packing(b.mr)
    panel_size = round_up(b.mr * b.kc * kernel_taps(s) + b.mr, lanes)
    return Packing(b.mr, in_task=True, panel_size=panel_size)


def lower_matrix(s, itemsize, threads, transposed, in_place, inside_in_place):
    """What the two lowerings have in common: all but name, functions and prefetch.

    Parameters
    ----------
    transposed : bool
        Whether lanes are output channels.
    in_place, inside_in_place : bool
        Whether all tasks read the input where it lies; whether those do that meet no padding.
    """
    lanes = VECTOR_BYTES // itemsize
    b = cut(s, itemsize, threads, transposed, in_place)
    layout = halo_layout(s, b.rows, b.cols, itemsize)
    packing = packing_of(s, b, lanes, in_place)
    scratch_size = tile_size(lanes) + packing.panel_size
    tables = []
    if not in_place:
        scratch_size += halo_elements(b, layout, lanes)
        offsets = tap_offsets(s, layout, 1)
        tables.append(tap_table(s, offsets, layout.channel, b, transposed, False))
    if in_place or inside_in_place:
        offsets = tap_offsets_in_place(s)
        tables.append(tap_table(s, offsets, s.in_strides[1], b, transposed, True))
    empty = empty_columns(s) if transposed else empty_vectors(s, lanes)
    return {
        "blocks": b,
        "layout": layout,
        "packing": packing,
        "scratch_size": scratch_size,
        "table": np.concatenate(tables),
        "fill_halo": None if in_place else filler(s, layout, lanes),
        "taps_in_place": 0 if in_place or not inside_in_place else tables[0].size,
        "empty_columns": (0, 0) if in_place or b.col_blocks > 1 else empty,
    }
