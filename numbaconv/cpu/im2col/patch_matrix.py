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
from numbaconv.codegen.pointers import behind, call, entries, indices_at, pointer_at, shift
from numbaconv.codegen.target import VECTOR_BYTES
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
from numbaconv.cpu.im2col.panels import (
    are_neighbours,
    locate,
    locate_panel,
    make_zones,
    out_index,
)
from numbaconv.cpu.job import (
    AT,
    BLOCKS,
    MOST_BLOCKS,
    SHAPE,
    WorkerArguments,
    next_task,
    size_within,
)
from numbaconv.cpu.lowering import Lowering, Packing
from numbaconv.cpu.microkernels.matrix import TileArguments, tile
from numbaconv.cpu.packing.lanes import copy_lanes, fill_lanes
from numbaconv.cpu.packing.results import move_rows
from numbaconv.cpu.packing.rows import CopyRunArguments, copy_run
from numbaconv.cpu.packing.weights import block_rows, register_rows
from numbaconv.problem.padding_modes import padded_index
from numbaconv.problem.shape import ZEROS, kernel_taps, read_shape


class PanelBlocks(NamedTuple):
    """How a problem is cut.

    Attributes
    ----------
    mr, oc_blocks : int
        Rows of a register block, and how many blocks a group has.
    oc_parts : int
        Tasks that share the output channels of one pixel block.
    nr, panels : int
        Pixels of a panel; panels of a task.
    kc, together : int
        Rows of the patch matrix in a panel; how many of these are one list of the tile's.
    zones, zone_panels : int
        Zones of the output, and panels of all of them (of one image, if there are several zones).
    all_panels, pixel_blocks, tasks : int
        Panels of a group; tasks that they make; tasks of the problem.
    """

    mr: int
    oc_blocks: int
    oc_parts: int
    nr: int
    panels: int
    kc: int
    together: int
    zones: int
    zone_panels: int
    all_panels: int
    pixel_blocks: int
    tasks: int


BLOCKS_SIZE = size_within(PanelBlocks, MOST_BLOCKS)


class PanelMemory(NamedTuple):
    """The pointers of a worker: the problem's arrays, its own scratch and its own tables.

    `x` is for elements that are not converted.
    """

    x: object
    packed: object
    bias: object
    out: object
    panels: object
    tile: object
    lists: object
    zones: object
    reads: object


def cut(s, itemsize, threads):
    """Choose the blocks of a problem.

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
    mr = register_rows(s.c_out)
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
def pack_run(job, target, b, s, g, pixel, run, tap, c0, c1):
    """Write what the pixels of a run read through a tap, for channels c0 .. c1 - 1.

    Returns 1 if that is more than zeros of padding, else 0.
    """
    kw = tap % s.kernel[2]
    kh = tap // s.kernel[2] % s.kernel[1]
    kd = tap // (s.kernel[1] * s.kernel[2])
    od = pixel.row // s.output[1]
    oh = pixel.row - od * s.output[1]
    mode_d, mode_h, mode = s.padding_mode
    d = padded_index(od * s.stride[0] + kd * s.dilation[0] - s.padding[0], s.size[0], mode_d)
    h = padded_index(oh * s.stride[1] + kh * s.dilation[1] - s.padding[1], s.size[1], mode_h)
    first = pixel.column * s.stride[2] + kw * s.dilation[2] - s.padding[2]
    padding = first >= s.size[2] or first + (run - 1) * s.stride[2] < 0
    inside = d >= 0 and h >= 0 and not (padding and mode <= ZEROS)
    at = (
        pixel.n * s.in_strides[0]
        + (g * s.c_in + c0) * s.in_strides[1]
        + d * s.in_strides[2]
        + h * s.in_strides[3]
    )
    size = s.size[2] if inside else 0
    call(
        job[AT.fill_halo],
        CopyRunArguments(
            target=target,
            target_step=b.nr,
            x=behind(job[AT.x], at, job[AT.in_size]),
            job=job,
            channel=g * s.c_in + c0,
            channels=c1 - c0,
            size=size,
            first=first,
            step=s.stride[2],
            elements=run,
        ),
    )
    return 1 if inside or min(s.padding_mode) < ZEROS else 0


@inline
def pack_panel(job, target, s, b, g, panel, k0, k1, reads):
    """target[(k - k0) * nr + j] = element k = (tap, c) of the patch of pixel j of the panel.

    Loops: taps; runs of pixels in one row; channels; pixels. A tap that reads only padding is
    marked in `reads`, unless it is the first of a slice of which none reads more: every output
    is to be stored.
    """
    tap0, tap1 = k0 // s.c_in, (k1 - 1) // s.c_in + 1
    any_read = 0
    for i in range(tap1 - tap0):
        tap = tap1 - 1 - i
        c0, c1 = max(0, k0 - tap * s.c_in), min(s.c_in, k1 - tap * s.c_in)
        row = shift(target, (tap * s.c_in + c0 - k0) * b.nr)
        read = 0
        j = 0
        while j < panel.width:
            pixel = locate(panel, j, s)
            run = min(pixel.left, panel.width - j)
            read |= pack_run(job, shift(row, j), b, s, g, pixel, run, tap, c0, c1)
            j += run
        any_read |= read
        reads[tap - tap0] = 1 if tap == tap0 and any_read == 0 else read


@inline
def are_lines(s):
    """Whether patches are the pixels of long rows, as they lie: of pointwise layers.

    In its simplest form such a layer has a row for each image. Phases of gradients may have more
    outputs than pixels, and begin elsewhere.
    """
    along = (
        s.size[1] == s.output[1] and s.size[2] == s.output[2] and s.stride[1] == s.stride[2] == 1
    )
    inside = s.padding[0] == 0 and s.padding[1] == 0 and s.padding[2] == 0 and s.output[0] == 1
    return kernel_taps(s) == 1 and along and inside and s.in_strides[4] == 1


@inline
def pack_lines(m, s, b, g, begin, panels, k0, k1, lanes):
    """Write the panels begin, begin + 1, ... of a pointwise layer, for channels k0 .. k1 - 1.

    A channel is read through all panels before the next: these are longer runs of memory, and each
    page is looked up once. Loops: rows; channels; panels; vectors.
    """
    pixels, apart = s.output[2], b.nr * b.kc
    first, count = begin * b.nr, min(panels * b.nr, pixels_of(s) - begin * b.nr)
    j = 0
    while j < count:
        row = (first + j) // pixels
        at, n = first + j - row * pixels, row // s.output[1]
        run, panel = min(pixels - at, count - j), j // b.nr
        at += n * s.in_strides[0] + (row - n * s.output[1]) * s.in_strides[3]
        x = shift(m.x, at + (g * s.c_in + k0) * s.in_strides[1])
        for k in range(k1 - k0):
            source, target = (
                shift(x, k * s.in_strides[1]),
                shift(m.panels, panel * apart + k * b.nr),
            )
            column, i = j - panel * b.nr, 0
            while i < run:
                width, v = min(b.nr - column, run - i), 0
                while v < width:
                    copy_lanes(shift(target, column + v), shift(source, i + v), width - v)
                    v += lanes
                target = shift(target, apart)
                i += width
                column = 0
        j += run


@inline
def pixels_of(s):
    """Pixels of all images."""
    return s.n * s.output[0] * s.output[1] * s.output[2]


@inline
def clear_ends(pixels, b, width, many, lanes):
    """Set to zero what the tile reads of a panel behind its pixels, in `many` rows.

    What happens to lie there may be denormal, and such products take a hundred times as long.
    """
    behind = -width % lanes
    if behind > 0:
        for k in range(many):
            fill_lanes(shift(pixels, k * b.nr + width), 0, behind)


@inline
def pack_panels(job, m, s, b, g, begin, panels, k0, k1):
    """Write the panels begin, begin + 1, ... of a task, for k from k0 to k1 - 1."""
    taps, lanes = most_taps(s, b.kc), job[AT.lanes]
    if are_lines(s) and s.converts == 0:
        pack_lines(m, s, b, g, begin, panels, k0, k1, lanes)
        width = pixels_of(s) - (begin + panels - 1) * b.nr
        last = shift(m.panels, (panels - 1) * b.nr * b.kc)
        clear_ends(last, b, min(width, b.nr), k1 - k0, lanes)
        for i in range(panels):
            m.reads[i * taps] = 1
        return
    for i in range(panels):
        panel = locate_panel(m.zones, b.zones, b.zone_panels, begin + i, b.nr, s)
        pixels, reads = shift(m.panels, i * b.nr * b.kc), shift(m.reads, i * taps)
        pack_panel(job, pixels, s, b, g, panel, k0, k1, reads)
        clear_ends(pixels, b, panel.width, k1 - k0, lanes)


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
def panels_in_line(s, b, number, left):
    """How many panels from one on, of `left`, are one piece of a row of the output: at least 1.

    Only those of pointwise layers: others may have taps of their own.
    """
    pixels = s.output[2]
    if not are_lines(s) or s.out_strides[4] != 1:
        return 1
    first = number * b.nr
    return max(1, min(left, (pixels - (first - first // pixels * pixels)) // b.nr))


@inline
def multiply_panels(job, m, s, b, g, block, panel, panels, pixels, reads, k0, k1):
    """One register block of output channels times a panel: C[MR, NR] = or += A[MR, KC] B[KC, NR].

    Or times several, `panel` and those behind it, that are in line. The tile is stored straight to
    the output where its pixels are neighbours there, and through a small tile in scratch where they
    are not or the output is channels_last.
    """
    rows = block_rows(s.c_out, b.mr, block)
    channel = g * s.c_out + block * b.mr
    k_size = s.c_in * kernel_taps(s)
    lanes = b.nr // TILE_VECTORS
    vectors = (panel.width + lanes - 1) // lanes
    accumulate = k0 > 0
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
                job[AT.tile],
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
    taps = most_taps(s, b.kc)
    block0, block1 = share(b.oc_blocks, part, b.oc_parts)
    k0 = 0
    while k0 < k_size:
        k1 = min(k0 + b.kc, k_size)
        pack_panels(job, m, s, b, g, begin, panels, k0, k1)
        for block in range(block0, block1):
            i = 0
            while i < panels:
                panel = locate_panel(m.zones, b.zones, b.zone_panels, begin + i, b.nr, s)
                many = panels_in_line(s, b, begin + i, panels - i)
                pixels, reads = shift(m.panels, i * b.nr * b.kc), shift(m.reads, i * taps)
                multiply_panels(job, m, s, b, g, block, panel, many, pixels, reads, k0, k1)
                i += many
        k0 = k1


@inline
def most_taps(s, kc):
    """Taps that a slice of KC rows can touch."""
    return min(kc // s.c_in + 2, kernel_taps(s))


@native(WorkerArguments)
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
        shift(indices_at(job[AT.table]), 4 * b.together),
        shift(indices_at(job[AT.indices]), worker * job[AT.index_size]),
    )
    task, queue = next_task(job, b.tasks, worker, 0)
    while task < b.tasks:
        run_task(task, job, m, s, b)
        task, queue = next_task(job, b.tasks, worker, queue)


@inline
def read_blocks(job):
    """Rebuild the blocks that `lower` made."""
    return PanelBlocks(*entries(job, BLOCKS, BLOCKS_SIZE))


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
    return Lowering(
        "patch_matrix",
        work,
        tile,
        b,
        np.concatenate((list_rows(s, b).ravel(), zones.ravel())),
        b.panels * b.nr * b.kc + TILE_ROWS * b.nr,
        index_size=b.panels * most_taps(s, b.kc),
        fill_halo=copy_run,
        packing=Packing(b.mr, taps_outer=True),
    )
