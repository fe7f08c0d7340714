"""Write the patches of a block of pixels into panels, then multiply by the weights.

The patch matrix of a whole layer is never there: each worker owns room for the panels of one
block of pixels and a slice of k, which stays in its second-level cache while every register
block of output channels is multiplied with it.

Loops, outermost first: tasks (group, pixel block, part of the output channels), shared out over
the threads; pc over k = (tap, channel), KC at a time; packing of the panels; ic over register
blocks of MR output channels; jr over panels of NR pixels; runs of taps that read more than
padding; the tile's own loop over k.
"""

from math import gcd
from typing import NamedTuple

import numpy as np

from numbaconv.codegen.integers import ceil_div, largest_divisor, round_up
from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pipeline import lightly
from numbaconv.codegen.pointers import CACHE_LINE, call, indices_at, pointer_at, shift
from numbaconv.codegen.target import VECTOR_BYTES, ZEN
from numbaconv.cpu import blocking
from numbaconv.cpu.blocking import (
    MOST_K,
    MOST_SINGLE,
    TASKS_PER_THREAD,
    TILE_ROWS,
    TILE_VECTORS,
    share,
)
from numbaconv.cpu.finishing import NOT_FLAT, finish_tile
from numbaconv.cpu.im2col.packing import (
    CALLED,
    Functions,
    PackArguments,
    pack_lines,
    pack_patches,
)
from numbaconv.cpu.im2col.panels import (
    PANEL,
    PanelBlocks,
    PanelLayout,
    are_lines,
    are_neighbours,
    locate,
    locate_panel,
    make_zones,
    most_taps,
    out_index,
    read_blocks,
    zones_of,
)
from numbaconv.cpu.job import (
    AT,
    SHAPE,
    WorkerArguments,
    next_task,
)
from numbaconv.cpu.lowering import Lowering, Packing
from numbaconv.cpu.microkernels.matrix import TileArguments, asking_tile, tile
from numbaconv.cpu.packing.results import move_rows
from numbaconv.cpu.packing.rows import copy_run
from numbaconv.cpu.packing.weights import block_rows, register_rows
from numbaconv.problem.shape import kernel_taps, read_shape

# Channels by which pixels from beyond the second-level cache are asked for ahead of time.
CHANNELS_AHEAD = 4


class PanelMemory(NamedTuple):
    """The pointers of a worker: the problem's arrays, its own scratch and its own tables."""

    x: object
    packed: object
    bias: object
    out: object
    panels: object
    tile: object
    lists: object
    zones: object
    reads: object


def cut(s, itemsize, threads, mr=0):
    """Choose the blocks of a problem; `mr` may say the rows of a register block.

    KC x NC values fill five eighths of CACHE_BYTES, as the pixels that they are copied from pass
    through the cache too; there is at least one panel, and k is cut only beyond MOST_K. A task has
    fewer panels where there would be too few tasks for the threads; then a part of the output
    channels, at the price of packing the panels for each part.
    """
    k_size = s.c_in * kernel_taps(s)
    nr = TILE_VECTORS * (VECTOR_BYTES // itemsize)
    kc = ceil_div(k_size, ceil_div(k_size, MOST_K))
    if kc < k_size:
        kc = round_up(kc, largest_divisor(s.c_in, MOST_SINGLE))
    zones = make_zones(s, nr)
    zone_panels = int(zones[-1, 0]) - (-int(zones[-1, 2] * zones[-1, 4]) // nr)
    all_panels = zone_panels * (1 if len(zones) == 1 else s.n)
    in_cache = max(1, blocking.CACHE_BYTES * 5 // 8 // itemsize // (kc * nr))
    panels = min(in_cache, all_panels)
    if threads > 1:
        panels = max(1, min(panels, all_panels * s.groups // (threads * TASKS_PER_THREAD)))
    mr = mr or register_rows(s.c_out)
    oc_blocks = ceil_div(s.c_out, mr)
    oc_parts = 1
    if threads > 1 and ceil_div(all_panels, panels) * s.groups < threads:
        oc_parts = min(oc_blocks, threads)
        panels = min(in_cache, all_panels)
    pixel_blocks = ceil_div(all_panels, panels)
    return PanelBlocks(
        mr,
        oc_blocks,
        oc_parts,
        nr,
        panels,
        kc,
        largest_divisor(gcd(kc, s.c_in), MOST_SINGLE),
        len(zones),
        zone_panels,
        all_panels,
        pixel_blocks,
        s.groups * pixel_blocks * oc_parts,
    )


@inline
def move_pixels(m, b, rows, s, channel, panel, gather):
    """Move a tile from scratch to the output (or back), in runs of pixels that are neighbours."""
    j = 0
    while j < panel.width:
        p = locate(panel, j, s)
        run = min(p.left, panel.width - j)
        at = out_index(p, channel, s)
        row_step, column_step = s.out_strides[1], s.out_strides[4]
        lanes = b.nr // TILE_VECTORS
        move_rows(m.tile, j, b.nr, rows, run, m.out, at, row_step, column_step, gather, lanes)
        j += run


@inline
def finish_panels(job, s, b, channel, panel, panels, straight, tile, step, rows):
    """Finish a tile: at once if it lies as the output does, else each run of neighbours."""
    j, width = 0, (panels - 1) * b.nr + panel.width
    row_step, column_step = s.out_strides[1], s.out_strides[4]
    while j < width:
        p = locate(panel, j, s)
        run = width if straight else min(p.left, width - j)
        at = out_index(p, channel, s)
        finish_tile(job, shift(tile, j), step, rows, run, True, at, row_step, column_step, NOT_FLAT)
        j += run


@inline
def panels_in_line(job, s, b, number, left):
    """How many panels from one on, of `left`, are one piece of a row of the output: at least 1.

    Only those of pointwise layers: others may have taps of their own.
    """
    if job[PANEL.joins] == 0:
        return 1
    first, pixels = number * b.nr, s.output[2]
    return max(1, min(left, (pixels - (first - first // pixels * pixels)) // b.nr))


class Slice(NamedTuple):
    """Rows of the patch matrix, k0 .. k1 - 1, that panels have at a time."""

    k0: int
    k1: int


class Wanted(NamedTuple):
    """Pixels that are packed next, for tiles to ask for while they multiply.

    Attributes
    ----------
    first : pointer
        Where they begin in the first channel of the next slice of k.
    lines : int
        Cache lines of each channel, or 0: nothing is left to ask for.
    asked, channels : int
        Channels that were asked for; of how many.
    """

    first: object
    lines: int
    asked: int
    channels: int


@inline
def find_wanted(job, m, s, b, g, begin, k1):
    """What is packed after a slice of k that ends at k1: the next one, or the next task's first."""
    ends = k1 == s.c_in
    then, k = (begin + b.panels, 0) if ends else (begin, k1)
    if job[AT.prefetching_tile] == 0 or then >= b.all_panels:
        return Wanted(m.x, 0, 0, 0)
    first = then * b.nr
    row = first // s.output[2]
    n = row // s.output[1]
    at = n * s.in_strides[0] + (row - n * s.output[1]) * s.in_strides[3] + first - row * s.output[2]
    panels = min(b.panels, b.all_panels - then)
    lines = panels * b.nr * job[AT.itemsize] // CACHE_LINE + 1  # the first may begin anywhere
    channels = min(b.kc, s.c_in - k)
    return Wanted(shift(m.x, at + (g * s.c_in + k) * s.in_strides[1]), lines, 0, channels)


@inline
def asked_more(wanted, channels):
    """What is wanted when so many channels more were asked for."""
    asked = wanted.asked + channels
    lines = wanted.lines if asked < wanted.channels else 0
    return Wanted(wanted.first, lines, asked, wanted.channels)


@inline
def multiply_panels(job, m, s, b, g, block, panel, panels, pixels, reads, of, wanted):
    """One register block of output channels times a panel: C[MR, NR] = or += A[MR, KC] B[KC, NR].

    Or times several, `panel` and those behind it, that are in line. The tile is stored straight to
    the output where its pixels are neighbours there, and through a small tile in scratch where they
    are not or the output is channels_last.
    """
    k0, k1 = of
    rows = block_rows(s.c_out, b.mr, block)
    channel = g * s.c_out + block * b.mr
    k_size = s.c_in * kernel_taps(s)
    lanes = b.nr // TILE_VECTORS
    vectors = (panel.width + lanes - 1) // lanes
    whole, accumulate = vectors == TILE_VECTORS, k0 > 0
    straight = panels > 1 or are_neighbours(panel, s)
    target, step = m.tile, b.nr
    if straight:
        step = s.out_strides[1]
        target = shift(m.out, out_index(locate(panel, 0, s), channel, s))
    elif accumulate:
        move_pixels(m, b, rows, s, channel, panel, True)
    weights = shift(m.packed, channel * k_size)
    bias = shift(m.bias, channel)
    lists = shift(m.lists, 0 if rows == b.mr else 2 * b.together)
    tap0, tap1 = k0 // s.c_in, (k1 - 1) // s.c_in + 1
    tap = tap0
    while tap < tap1:
        run = tap
        while run < tap1 and reads[run - tap0] != 0:
            run += 1
        if run > tap:
            ka, kb = max(k0, tap * s.c_in), min(k1, run * s.c_in)
            call(
                job[AT.prefetching_tile if wanted.lines > 0 and whole else AT.tile],
                TileArguments(
                    rows=rows,
                    vectors=vectors,
                    channels=(kb - ka) // b.together,
                    taps=b.together,
                    table=lists,
                    a=shift(weights, ka * rows),
                    a_channel=b.together * rows,
                    b=shift(pixels, (ka - k0) * b.nr),
                    b_channel=b.together * b.nr,
                    c=target,
                    row_step=step,
                    bias=bias,
                    accumulate=accumulate,
                    last=panel.width - (vectors - 1) * lanes,
                    blocks=panels,
                    b_step=b.nr * b.kc,
                    c_step=b.nr,
                    prefetch_distance=0,
                    wanted=shift(wanted.first, wanted.asked * s.in_strides[1]),
                    wanted_step=s.in_strides[1],
                    lines=wanted.lines,
                ),
            )
            accumulate = True
        tap = run + 1
    if k1 == k_size:
        finish_panels(job, s, b, channel, panel, panels, straight, target, step, rows)
    if not straight:
        move_pixels(m, b, rows, s, channel, panel, False)


@inline
def run_task(task, job, m, s, b):
    """All register blocks of one part of the channels, for one group and one block of panels."""
    rest = task // b.oc_parts
    part = task - rest * b.oc_parts
    g = rest // b.pixel_blocks
    begin = (rest - g * b.pixel_blocks) * b.panels
    panels = min(b.panels, b.all_panels - begin)
    k_size = s.c_in * kernel_taps(s)
    taps = job[PANEL.taps]
    block0, block1 = share(b.oc_blocks, part, b.oc_parts)
    k0 = 0
    while k0 < k_size:
        k1 = min(k0 + b.kc, k_size)
        call(job[CALLED.pack], PackArguments(m.panels, job, m.reads, g, begin, panels, k0, k1))
        of, wanted = Slice(k0, k1), find_wanted(job, m, s, b, g, begin, k1)
        for block in range(block0, block1):
            i = 0
            while i < panels:
                panel = locate_panel(m.zones, b.zones, b.zone_panels, begin + i, b.nr, s)
                many = panels_in_line(job, s, b, begin + i, panels - i)
                pixels, reads = shift(m.panels, i * b.nr * b.kc), shift(m.reads, i * taps)
                multiply_panels(job, m, s, b, g, block, panel, many, pixels, reads, of, wanted)
                wanted = asked_more(wanted, many * ((k1 - k0) // b.together))
                i += many
        k0 = k1


@native(WorkerArguments, lightly)
def work(worker, job, like):
    """Do tasks until none is left."""
    s = read_shape(job, SHAPE)
    b = read_blocks(job)
    scratch = shift(pointer_at(job[AT.scratch], like), worker * job[AT.scratch_size])
    m = PanelMemory(
        pointer_at(job[AT.x], like),
        pointer_at(job[AT.packed], like),
        pointer_at(job[AT.bias], like),
        pointer_at(job[AT.out], like),
        scratch,
        shift(scratch, b.panels * b.nr * b.kc),
        indices_at(job[AT.table]),
        zones_of(job, b),
        shift(indices_at(job[AT.indices]), worker * job[AT.index_size]),
    )
    task, queue = next_task(job, b.tasks, worker, 0)
    while task < b.tasks:
        run_task(task, job, m, s, b)
        task, queue = next_task(job, b.tasks, worker, queue)


def list_rows(s, b):
    """List rows of a panel as taps of the tile: offsets among pixels, and among weights.

    For register blocks of full height, then for the last one.
    """
    heights = b.mr, s.c_out - (b.oc_blocks - 1) * b.mr
    return np.stack([np.outer(np.arange(b.together), (b.nr, height)) for height in heights])


def lower(s, itemsize, threads):
    """Return how this lowering computes a problem.

    The table has the lists of a panel's rows, and the zones.
    """
    lanes = VECTOR_BYTES // itemsize
    b = cut(s, itemsize, threads)
    zones = make_zones(s, TILE_VECTORS * lanes)
    taps, lines = most_taps(s, b.kc), are_lines(s)
    in_lines = lines and s.converts == 0
    far = kernel_taps(s) == 1 and s.n * s.in_strides[0] * itemsize > blocking.SECOND_LEVEL
    return Lowering(
        "patch_matrix",
        work,
        tile,
        b,
        np.concatenate((list_rows(s, b).ravel(), zones.ravel())),
        b.panels * b.nr * b.kc + TILE_ROWS * b.nr,
        index_size=b.panels * taps,
        layout=PanelLayout(taps, int(lines and s.out_strides[4] == 1)),
        prefetching_tile=asking_tile if far and in_lines and ZEN else None,
        fill_halo=None if in_lines else copy_run,
        packing=Packing(b.mr, taps_outer=True),
        prefetch_distance=CHANNELS_AHEAD * s.in_strides[1] if far else 0,
        functions=Functions(pack_lines if in_lines else pack_patches),
    )
