"""direct, fourth lowering: the product transposed, each lane of a vector an output channel.

Here MR pixels of a row stand in for MR channels, and vectors of channels for vectors of pixels. The
pixels are read one by one, so they may be few, which would fill a vector badly, and may lie at any
distance: under a stride, or with the channels last, they are read as they lie, padding aside, which
is left out. On maps at most MR / 2 wide two rows make one tile, so that each weight is loaded once
for both; on maps smaller still, in a batch, images take the place of columns. Results with the
channels last are stored as they are computed; others gather in a stage, a few tiles at a time, and
are transposed on their way out. Loops of a task: pc over input channels, KC at a time; ic over
blocks of NR output channels; rows, as many as the stage holds; columns, MR at a time; the tile's
own loops over channels and those taps that read more than padding.
"""

from typing import NamedTuple

from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import CACHE_LINE, call, shift
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu.blocking import TILE_ROWS, TILE_VECTORS, share
from numbaconv.cpu.direct.choice import (
    MOST_CACHED,
    asks_for_pixels,
    crowds_images,
    reads_pixels_in_place,
    takes_images,
)
from numbaconv.cpu.direct.matrix_blocks import lower_matrix
from numbaconv.cpu.direct.tap_lists import (
    columns_left_out,
    plane_taps,
    row_taps,
)
from numbaconv.cpu.direct.tasks import (
    locate_task,
    open_memory,
    open_panel,
    open_view,
    out_index,
    pairs_rows,
    read_blocks,
    rows_of_stage,
)
from numbaconv.cpu.finishing import NOT_FLAT, finish_tile
from numbaconv.cpu.job import AT, SHAPE, WorkerArguments, next_task
from numbaconv.cpu.lowering import Lowering
from numbaconv.cpu.microkernels.matrix_transposed import PixelTileArguments, first_half, pixel_tile
from numbaconv.cpu.packing.lanes import prefetch
from numbaconv.cpu.packing.results import move_rows
from numbaconv.problem.shape import kernel_taps, read_shape
from numbaconv.problem.simplest import with_images_innermost

# Taps by which pixels are prefetched, in a channel that comes later: no prefetcher of the hardware
# follows channels.
TAPS_AHEAD = 36

# Up to so many products a result, a stage is computed in so short a time that the stores wait for
# lines of an output that no cache keeps. Under a single tap they seldom do.
SHORT_PRODUCTS = 108


class Target(NamedTuple):
    """Where results go: the first, and elements from one row and from one pixel to the next."""

    first: object
    row_step: int
    step: int


@inline
def transposed_tiles(job, m, s, t, view, plane, panel, r, rows, target, accumulate):
    """Register tiles of the rows r, r + 1, ...

    The second half of a tile's pixels may be a row of its own under the same taps, a pitch behind
    the first in the view; in the output they are neighbours all the same. Columns that read padding
    alone, of a copy, have tiles of their own: but for the ends all pixels of a tile have one list.
    """
    lanes = job[AT.lanes]
    vectors = (panel.width + lanes - 1) // lanes
    bias = shift(m.bias, panel.channel)
    before, behind = job[AT.empty_before], job[AT.empty_behind]
    zones = 0, before, t.cols - behind, t.cols
    pairs = pairs_rows(s, t.cols) and before + behind == 0
    used = row_taps(plane, t.oh + r)
    left_out = columns_left_out(s)
    i = 0
    while i < rows:
        oh = t.oh + r + i
        if oh == used.until:
            used = row_taps(plane, oh)
        pair = pairs and i + 1 < rows and oh + 1 < used.until
        for zone in range(3):
            left = zones[zone]
            columns = zones[zone + 1] - left
            taps, channels = (used.taps, used.channels) if zone == 1 else (1, 1)
            column = taps // s.kernel[2]
            chunks = (columns + TILE_ROWS - 1) // TILE_ROWS
            for chunk in range(chunks):
                j, end = share(columns, chunk, chunks)
                j, end = left + j, left + end
                pixels = end - j
                first = view.first + (r + i) * view.layout.pitch + j * view.step
                in_tile = 2 * pixels if pair else pixels
                jump = view.layout.pitch if pair else first_half(pixels) * view.step
                first_taps = column * left_out[0] if t.ow + j == 0 else 0
                last_taps = column * left_out[1] if t.ow + end == s.output[2] else 0
                call(
                    job[AT.tile],
                    PixelTileArguments(
                        rows=in_tile,
                        vectors=vectors,
                        channels=channels,
                        taps=taps,
                        first_taps=first_taps,
                        last_taps=last_taps,
                        column_taps=column,
                        halves=pair,
                        table=used.first,
                        x=view.x,
                        first=first,
                        x_channel=view.layout.channel * used.together,
                        x_step=view.step,
                        jump=jump,
                        prefetch_distance=job[AT.prefetch_distance],
                        w=panel.weights,
                        w_channel=panel.channel_step * used.together,
                        c=shift(target.first, i * target.row_step + j * target.step),
                        row_step=target.step,
                        bias=bias,
                        accumulate=accumulate,
                        last=panel.width - (vectors - 1) * lanes,
                    ),
                )
        i += 2 if pair else 1


@inline
def ask_for_lines(out, channel_step, channels, pixels, line):
    """Ask for the lines that some neighbouring pixels of an output lie in, of each channel."""
    for channel in range(channels):
        row, j = shift(out, channel * channel_step), 0
        while j < pixels + line:  # the first one may be anywhere in its line
            prefetch(shift(row, j))
            j += line


@inline
def transposed_rows(job, m, s, t, view, plane, panel, r, rows, accumulate, final):
    """The rows r, r + 1, ... of a task on a block of output channels: straight, or by the stage."""
    lanes, width = job[AT.lanes], panel.width
    at = out_index(s, t, panel.channel) + r * s.out_strides[3]
    row_step, step, channel_step = s.out_strides[3], s.out_strides[4], s.out_strides[1]
    staged, pixels, stage_step = channel_step != 1, rows * t.cols, TILE_VECTORS * lanes
    target, together = Target(shift(m.out, at), row_step, step), 1
    if staged:
        target, together = Target(m.tile, t.cols * stage_step, stage_step), rows
        if job[AT.asks_for_results] != 0:
            line = lanes * CACHE_LINE // VECTOR_BYTES
            ask_for_lines(shift(m.out, at), channel_step, width, pixels, line)
        if accumulate:
            move_rows(
                m.tile, 0, stage_step, pixels, width, m.out, at, step, channel_step, True, lanes
            )
    transposed_tiles(job, m, s, t, view, plane, panel, r, rows, target, accumulate)
    i = 0
    while i < rows:  # those of a stage at once
        tile, place, count = shift(target.first, i * target.row_step), at + i * row_step, t.cols
        finish_tile(
            job,
            tile,
            target.step,
            together * count,
            width,
            final,
            place,
            step,
            channel_step,
            NOT_FLAT,
        )
        i += together
    if staged:
        move_rows(m.tile, 0, stage_step, pixels, width, m.out, at, step, channel_step, False, lanes)


@inline
def transposed_channels(job, m, s, b, t, c0, channels):
    """Some input channels of a task, for all of its output channels."""
    view = open_view(m, s, job, t, c0, channels, 0, 0)
    final = c0 + channels == s.c_in
    together = rows_of_stage(s, t.cols, job[AT.lanes])
    first, end = share(b.oc_blocks, t.part, b.oc_parts)
    for block in range(first, end):
        panel = open_panel(job, m, s, b, t, block, c0, channels)
        plane = plane_taps(view.table, s, t.od, panel.width < b.mr, channels)
        r = 0
        while r < t.rows:
            rows = min(together, t.rows - r)
            transposed_rows(job, m, s, t, view, plane, panel, r, rows, c0 > 0, final)
            r += together


@native(WorkerArguments)
def transposed_work(worker, job, like):
    """Do tasks until none is left."""
    s, b = read_shape(job, SHAPE), read_blocks(job)
    m = open_memory(worker, job, like)
    number, queue = next_task(job, b.tasks, worker, 0)
    while number < b.tasks:
        t = locate_task(number, s, b)
        for c0 in range(0, s.c_in, b.kc):
            transposed_channels(job, m, s, b, t, c0, min(b.kc, s.c_in - c0))
        number, queue = next_task(job, b.tasks, worker, queue)


def channels_ahead(s, apart, lanes):
    """How many channels later the pixels lie that a tile prefetches; 0: it does not.

    Where lines of many channels want the same places in the first-level cache, fewer: prefetched
    too early they would be gone when they are used.
    """
    if not asks_for_pixels(s, apart, lanes):
        return 0
    line, places = CACHE_LINE * lanes // VECTOR_BYTES, 64
    while apart % (2 * line) == 0 and places > 1:
        apart //= 2
        places //= 2
    return max(1, min(TAPS_AHEAD // kernel_taps(s), 4 * places // s.kernel[1]))


def waits_for_lines(s, itemsize):
    """Whether storing a stage waits for the lines of the output: see `SHORT_PRODUCTS`."""
    taps, size = kernel_taps(s), s.n * s.out_strides[0] * itemsize
    return taps > 1 and s.c_in * taps <= SHORT_PRODUCTS and size > MOST_CACHED


def lower(s, itemsize, threads):
    """Return how this lowering computes a problem."""
    lanes = VECTOR_BYTES // itemsize
    images = takes_images(s)
    if images:
        s = with_images_innermost(s)
    in_place = not crowds_images(s, lanes) if images else reads_pixels_in_place(s, lanes)
    parts = lower_matrix(s, itemsize, threads, True, in_place, False)
    apart = s.in_strides[1] if in_place else parts["layout"].channel
    return Lowering(
        "matrix_transposed",
        transposed_work,
        pixel_tile,
        prefetch_distance=channels_ahead(s, apart, lanes) * apart,
        asks_for_results=waits_for_lines(s, itemsize),
        problem=s,
        **parts,
    )
