"""im2col: write the patches of a block of pixels into panels, then multiply by the weights.

The patch matrix of a whole layer is never there: each worker owns room for the panels of one
block of pixels and a slice of k, which stays in its second-level cache while every register
block of output channels is multiplied with it.

Loops, outermost first: tasks (group, pixel block, part of the output channels), shared out over
the threads; pc over k, KC at a time; packing of the panels; ic over register blocks of MR output
channels; jr over panels of NR pixels; the tile's own loop over k.
"""

from typing import NamedTuple

import numpy as np

from numbaconv.activation import NONE, activate
from numbaconv.blocking import CACHE_BYTES, TASKS_PER_THREAD, TILE_ROWS, TILE_VECTORS
from numbaconv.jit import inline, native
from numbaconv.job import (
    ACTIVATE,
    ACTIVATION,
    BIAS,
    BLOCKS,
    COUNTER,
    INDEX_SIZE,
    INDICES,
    OUT,
    PACKED,
    PACKER,
    SCRATCH,
    SCRATCH_SIZE,
    SHAPE,
    TABLE,
    TABLE_SIZE,
    TILE,
    WORKER,
    X,
    set_entries,
    worker_signature,
)
from numbaconv.microkernel import tile
from numbaconv.packing import block_rows, move_rows, pack_work, register_rows
from numbaconv.padding import padded_index
from numbaconv.pointers import call, fetch_add, indices_at, pointer_at, shift
from numbaconv.shape import image_pixels, kernel_taps, read_shape
from numbaconv.target import VECTOR_BYTES

NAME = "im2col"


class Blocks(NamedTuple):
    """How a problem is cut.

    Attributes
    ----------
    mr, oc_blocks : int
        Rows of a register block, and how many blocks a group has.
    oc_parts : int
        Tasks that share the output channels of one pixel block.
    nr, panels : int
        Pixels of a panel; panels of a task.
    kc : int
        Rows of the patch matrix in a panel.
    pixel_blocks, tasks : int
        Blocks of pixels of a group; tasks of the problem.
    """

    mr: int
    oc_blocks: int
    oc_parts: int
    nr: int
    panels: int
    kc: int
    pixel_blocks: int
    tasks: int


class Memory(NamedTuple):
    """The pointers of a worker: the problem's arrays, its own scratch and its own tables."""

    x: object
    packed: object
    bias: object
    out: object
    panels: object
    tile: object
    offsets: object
    lanes: object


@inline
def cut(s, itemsize, threads):
    """Choose the blocks of a problem.

    KC x NC values fill CACHE_BYTES, with k cut only beyond 1024 (each cut reads C once more) and
    at least one panel. Fewer panels a task where there would be too few tasks for the threads;
    then parts of the output channels, at the price of packing the panels for each part.
    """
    k_size = s.c_in * kernel_taps(s)
    pixels = s.n * image_pixels(s)
    nr = TILE_VECTORS * (VECTOR_BYTES // itemsize)
    pieces = -(-k_size // 1280)
    kc = -(-k_size // pieces)
    panels = max(1, CACHE_BYTES // itemsize // (kc * nr))
    all_panels = -(-pixels // nr)
    wanted = threads * TASKS_PER_THREAD
    if threads > 1:
        panels = max(1, min(panels, all_panels * s.groups // wanted))
    panels = min(panels, all_panels)
    pixel_blocks = -(-all_panels // panels)
    mr = register_rows(s.c_out)
    oc_blocks = -(-s.c_out // mr)
    oc_parts = 1
    if threads > 1 and pixel_blocks * s.groups < threads:
        oc_parts = min(oc_blocks, threads)
        panels = min(all_panels, max(1, CACHE_BYTES // itemsize // (kc * nr)))
        pixel_blocks = -(-all_panels // panels)
    tasks = s.groups * pixel_blocks * oc_parts
    return Blocks(mr, oc_blocks, oc_parts, nr, panels, kc, pixel_blocks, tasks)


@inline
def locate_pixels(lanes, nr, s, first, width):
    """For each pixel of a panel: offset of its image, and where its patch begins on each axis."""
    od, oh, ow = s.output
    for j in range(width):
        row = (first + j) // ow
        plane = row // oh
        n = plane // od
        w = first + j - row * ow
        h = row - plane * oh
        d = plane - n * od
        lanes[j] = n * s.in_strides[0]
        lanes[nr + j] = d * s.stride[0] - s.padding[0]
        lanes[2 * nr + j] = h * s.stride[1] - s.padding[1]
        lanes[3 * nr + j] = w * s.stride[2] - s.padding[2]


@inline
def locate_tap(lanes, nr, s, kd, kh, kw, width):
    """lanes[4 * nr + j] = offset of the element that pixel j reads through a tap, or -1: zero."""
    for j in range(width):
        d = padded_index(lanes[nr + j] + kd * s.dilation[0], s.size[0], s.padding_mode)
        h = padded_index(lanes[2 * nr + j] + kh * s.dilation[1], s.size[1], s.padding_mode)
        w = padded_index(lanes[3 * nr + j] + kw * s.dilation[2], s.size[2], s.padding_mode)
        at = lanes[j] + d * s.in_strides[2] + h * s.in_strides[3] + w * s.in_strides[4]
        lanes[4 * nr + j] = at if d >= 0 and h >= 0 and w >= 0 else -1


@inline
def is_run(at, first, past):
    """Whether the pixels [first, past) read neighbouring elements, none of them padding."""
    run = at[first] >= 0
    for j in range(first + 1, past):
        run &= at[j] == at[first] + j - first
    return run


@inline
def pack_tap(panel, nr, step, x, channel_step, channels, at, width):
    """Write one tap's row of the panel for each channel, a vector of pixels at a time."""
    vector = nr // TILE_VECTORS
    for v in range(0, width, vector):
        past = min(v + vector, width)
        if is_run(at, v, past):
            for c in range(channels):
                source = shift(x, c * channel_step + at[v])
                target = shift(panel, c * step * nr + v)
                for j in range(past - v):
                    target[j] = source[j]
        else:
            for c in range(channels):
                source = shift(x, c * channel_step)
                target = shift(panel, c * step * nr)
                for j in range(v, past):
                    if at[j] >= 0:
                        target[j] = source[at[j]]
                    else:
                        target[j] = 0


@inline
def pack_panel(panel, nr, x, s, g, first, width, k0, k1, lanes):
    """panel[(k - k0) * nr + j] = element k = (c, kd, kh, kw) of the patch of pixel first + j.

    Loop over taps, for each find where the pixels read; loop over channels, which all read there.
    """
    locate_pixels(lanes, nr, s, first, width)
    taps = kernel_taps(s)
    channel_step = s.in_strides[1]
    for tap in range(taps):
        c0 = max(0, -((tap - k0) // taps))
        c1 = min(s.c_in, (k1 - 1 - tap) // taps + 1)
        if c1 > c0:
            kw = tap % s.kernel[2]
            kh = tap // s.kernel[2] % s.kernel[1]
            kd = tap // (s.kernel[2] * s.kernel[1])
            locate_tap(lanes, nr, s, kd, kh, kw, width)
            row = shift(panel, (c0 * taps + tap - k0) * nr)
            channels = shift(x, (g * s.c_in + c0) * channel_step)
            pack_tap(row, nr, taps, channels, channel_step, c1 - c0, shift(lanes, 4 * nr), width)


@inline
def move_pixels(tile_at, nr, rows, out, s, channel, first, width, gather):
    """Scatter a tile from scratch to the output (or gather it), in runs within one image."""
    pixels = image_pixels(s)
    j = 0
    while j < width:
        n = (first + j) // pixels
        pixel = first + j - n * pixels
        run = min(pixels - pixel, width - j)
        at = n * s.out_strides[0] + channel * s.out_strides[1] + pixel * s.out_strides[4]
        row_step, column_step = s.out_strides[1], s.out_strides[4]
        move_rows(tile_at, j, nr, rows, run, out, at, row_step, column_step, gather)
        j += run


@inline
def multiply_panel(job, m, s, b, g, block, begin, first, width, k0, k1):
    """One register block of output channels times one panel: C[MR, NR] = or += A[MR, KC] B[KC, NR].

    The tile is stored straight to the output where its pixels are neighbours there, and through
    a small tile in scratch where they belong to several images or the output is channels_last.
    """
    rows = block_rows(s.c_out, b.mr, block)
    channel = g * s.c_out + block * b.mr
    k_size = s.c_in * kernel_taps(s)
    pixels = image_pixels(s)
    lanes = b.nr // TILE_VECTORS
    vectors = -(-width // lanes)
    last = width - (vectors - 1) * lanes
    more = k0 > 0
    n = first // pixels
    pixel = first - n * pixels
    straight = s.out_strides[4] == 1 and pixel + width <= pixels
    if straight:
        step = s.out_strides[1]
        target = shift(m.out, n * s.out_strides[0] + channel * step + pixel)
    else:
        step = b.nr
        target = m.tile
        if more:
            move_pixels(target, b.nr, rows, m.out, s, channel, first, width, True)
    weights = shift(m.packed, channel * k_size + k0 * rows)
    panel = shift(m.panels, (first - begin) * b.kc)
    bias = shift(m.bias, channel)
    call(
        job[TILE],
        (
            rows, vectors, k1 - k0, weights, panel, m.offsets, target, step, bias, more, last
        ),
    )  # fmt: skip
    if k1 == k_size and job[ACTIVATION] != NONE:
        call(job[ACTIVATE], (target, step, rows, width, job[ACTIVATION]))
    if not straight:
        move_pixels(target, b.nr, rows, m.out, s, channel, first, width, False)


@inline
def run_task(task, job, m, s, b):
    """All register blocks of one part of the channels, for one group and one block of pixels."""
    rest = task // b.oc_parts
    part = task - rest * b.oc_parts
    g = rest // b.pixel_blocks
    begin = (rest - g * b.pixel_blocks) * b.panels * b.nr
    end = min(begin + b.panels * b.nr, s.n * image_pixels(s))
    k_size = s.c_in * kernel_taps(s)
    block0 = part * b.oc_blocks // b.oc_parts
    block1 = (part + 1) * b.oc_blocks // b.oc_parts
    for k0 in range(0, k_size, b.kc):
        k1 = min(k0 + b.kc, k_size)
        for first in range(begin, end, b.nr):
            panel = shift(m.panels, (first - begin) * b.kc)
            width = min(b.nr, end - first)
            pack_panel(panel, b.nr, m.x, s, g, first, width, k0, k1, m.lanes)
        for block in range(block0, block1):
            for first in range(begin, end, b.nr):
                width = min(b.nr, end - first)
                multiply_panel(job, m, s, b, g, block, begin, first, width, k0, k1)


@native(worker_signature)
def work(worker, job, like):
    """Take tasks off the common counter until none is left."""
    s = read_shape(job, SHAPE)
    b = read_blocks(job)
    scratch = shift(pointer_at(job[SCRATCH], like), worker * job[SCRATCH_SIZE])
    indices = shift(indices_at(job[INDICES]), worker * job[INDEX_SIZE])
    m = Memory(
        pointer_at(job[X], like),
        pointer_at(job[PACKED], like),
        pointer_at(job[BIAS], like),
        pointer_at(job[OUT], like),
        scratch,
        shift(scratch, b.panels * b.nr * b.kc),
        indices_at(job[TABLE]),
        indices,
    )
    counter = indices_at(job[COUNTER])
    task = fetch_add(counter)
    while task < b.tasks:
        run_task(task, job, m, s, b)
        task = fetch_add(counter)


@inline
def read_blocks(job):
    """Rebuild the blocks that `plan` wrote."""
    i = BLOCKS
    return Blocks(
        job[i],
        job[i + 1],
        job[i + 2],
        job[i + 3],
        job[i + 4],
        job[i + 5],
        job[i + 6],
        job[i + 7],
    )


@inline
def plan(job, s, itemsize, threads):
    """Fill a job's blocks and sizes for a problem; return its number of tasks."""
    b = cut(s, itemsize, threads)
    set_entries(job, BLOCKS, b)
    job[SCRATCH_SIZE] = b.panels * b.nr * b.kc + TILE_ROWS * b.nr
    job[INDEX_SIZE] = 5 * b.nr
    job[TABLE_SIZE] = b.kc
    return b.tasks


def make_table(s, itemsize, threads):
    """Offsets of the rows of a panel."""
    b = cut(s, itemsize, threads)
    return np.arange(b.kc) * b.nr


def set_addresses(job, s, dtype):
    """Compile the functions that a problem needs and write their addresses into its job."""
    job[TILE], job[WORKER] = tile.address(dtype), work.address(dtype)
    job[PACKER] = pack_work.address(dtype)
    if job[ACTIVATION] != NONE:
        job[ACTIVATE] = activate.address(dtype)


def unavailable() -> str | None:
    """Why the backend cannot run here: it always can."""
    return None
