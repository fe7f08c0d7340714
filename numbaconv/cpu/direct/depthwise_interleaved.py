"""direct: each lane of a vector is a channel of a pixel; a vector may hold several pixels.

It serves depthwise layers whose channels are innermost and fill no vectors: photographs, channel
multipliers. The outputs of a row lie one behind the other, pixel after pixel, and so do the vectors
that sum them. The channels of a vector's lanes repeat after some vectors, the *period*: with three
channels and eight lanes every third vector has the same weights.

Loops of a task (image, plane, block of rows and columns): its halo tile is copied, each channel as
often as it has outputs, and converted if the image has another dtype; then rows, up to four at a
time; the tile's own loops. Finished rows go to the output at once, past the caches where these hold
no results.
"""

from typing import NamedTuple

import numpy as np

from numbaconv.codegen.integers import ceil_div, round_up
from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import (
    CACHE_LINE,
    before_line,
    behind,
    call,
    entries,
    fence,
    indices_at,
    keep_scalar,
    pointer_at,
    shift,
)
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu import blocking
from numbaconv.cpu.direct.blocks import (
    PIXEL_COLUMNS_UNIT,
    MatrixBlocks,
    columns_of_pixels,
    rows_in_cache,
)
from numbaconv.cpu.direct.choice import exceeds_caches, period_of, reads_in_place
from numbaconv.cpu.direct.tasks import (
    Task,
    halo_extents,
    locate_task,
    off_padding,
    out_index,
    pixels_read,
    read_blocks,
    rows_at_once,
    rows_share,
)
from numbaconv.cpu.finishing import NOT_FLAT, finish_tile
from numbaconv.cpu.job import (
    AT,
    HALO,
    MOST_HALO,
    SHAPE,
    WorkerArguments,
    next_task,
    size_within,
)
from numbaconv.cpu.lowering import Lowering
from numbaconv.cpu.microkernels.interleaved import InterleavedTileArguments, interleaved_tile
from numbaconv.cpu.packing.conversion import (
    ReadRowArguments,
    WriteRowArguments,
    read_row,
    write_row,
)
from numbaconv.cpu.packing.rows import fill
from numbaconv.problem.padding_modes import padded_index
from numbaconv.problem.shape import kernel_taps, read_shape
from numbaconv.problem.taps import first_read

# Bytes of a row of results, which go to the output before the next ones are summed: few for the
# first-level cache.
_RESULTS_BYTES = 1 << 12


class Interleaved(NamedTuple):
    """The layout of a halo tile [kd][row][phase of the stride][column][output channel].

    Attributes
    ----------
    period : int
        Vectors after which the channels of their lanes repeat.
    phase, row, plane : int
        Elements from one phase, row and plane to the next.
    results : int
        Elements of a row of results: whole vectors.
    pixels : int
        Those of a row of results, at most.
    read_row : int
        Elements of a row as it is read, before its channels are repeated or its columns split; 0 if
        it is read to where it belongs.
    past_caches : int
        1: neither image nor result stays in the caches.
    """

    period: int
    phase: int
    row: int
    plane: int
    results: int
    pixels: int
    read_row: int
    past_caches: int


_LAYOUT_SIZE = size_within(Interleaved, MOST_HALO)


class InterleavedMemory(NamedTuple):
    """The pointers of a worker: the problem's arrays, its own scratch, the offsets of the taps."""

    x: object
    weights: object
    bias: object
    out: object
    results: object
    read: object
    halo: object
    offsets: object


def lay_out(s, rows, cols, lanes, past_caches=False):
    """The layout of the halo tile of a block of outputs."""
    height, width = halo_extents(s, rows, cols)
    channels = s.groups * s.c_out
    phase = ceil_div(width, s.stride[2]) * channels
    row = s.stride[2] * phase
    changes = s.stride[2] > 1 or s.c_out > 1
    fitting = _RESULTS_BYTES * lanes // (VECTOR_BYTES * channels)
    pixels = min(cols, round_up(max(fitting, 1), PIXEL_COLUMNS_UNIT))
    results, read_row = round_up(pixels * channels, lanes), changes * width * s.groups
    return Interleaved(
        period_of(s, lanes), phase, row, height * row, results, pixels, read_row, int(past_caches)
    )


def cut(s, itemsize, threads):
    """Choose the blocks of a problem.

    They are as wide as the first-level cache holds the rows that one row of outputs reads, and as
    high as the second-level cache holds the halo tile.
    """
    lanes = VECTOR_BYTES // itemsize
    budget = blocking.CACHE_BYTES // itemsize
    od, oh, ow = s.output
    cols = columns_of_pixels(s, itemsize)
    col_blocks = ceil_div(ow, cols)
    planes = s.n * od * col_blocks

    def halo_size(rows):
        return s.kernel[0] * lay_out(s, rows, cols, lanes).plane

    rows = rows_in_cache(oh, planes, threads, budget, halo_size)
    row_blocks = ceil_div(oh, rows)
    tasks = planes * row_blocks
    return MatrixBlocks(1, 1, 1, rows, cols, row_blocks, col_blocks, 1, s.groups, tasks)


def tap_offsets(s, tile):
    """Offsets of the taps in a halo tile, and behind them those in the input."""
    kd, kh, kw = np.ogrid[: s.kernel[0], : s.kernel[1], : s.kernel[2]]
    column, phase = np.divmod(kw * s.dilation[2], s.stride[2])
    row = kd * tile.plane + kh * s.dilation[1] * tile.row
    copied = row + phase * tile.phase + column * s.groups * s.c_out
    steps = [dilation * step for dilation, step in zip(s.dilation, s.in_strides[2:], strict=True)]
    return np.concatenate((copied.ravel(), (kd * steps[0] + kh * steps[1] + kw * steps[2]).ravel()))


@inline
def repeat_weights(m, weights, bias, s, period, lanes):
    """Write the weights of each vector of a period, [vector][tap][lane], and the bias of each."""
    taps, channels = kernel_taps(s), s.groups * s.c_out
    channel = 0
    for vector in range(period):
        for lane in range(lanes):
            m.bias[vector * lanes + lane] = bias[channel]
            for k in range(taps):
                keep_scalar()
                m.weights[(vector * taps + k) * lanes + lane] = weights[channel * taps + k]
            channel = channel + 1 if channel + 1 < channels else 0


@inline
def read_pixels(job, s, target, at, pixels):
    """Read neighbouring pixels, the first of which begins at element `at` of the input."""
    source = behind(job[AT.x], at, job[AT.in_size])
    call(job[AT.fill_halo], ReadRowArguments(target, source, 1, pixels * s.groups))


@inline
def read_padded_row(job, s, target, at, w0, cols):
    """target[column][channel] = the padded row that begins at element `at`, from column w0 on."""
    begin = min(max(-w0, 0), cols)
    end = max(min(s.size[2] - w0, cols), begin)
    if end > begin:
        inside = at + (w0 + begin) * s.groups
        read_pixels(job, s, shift(target, begin * s.groups), inside, end - begin)
    for edge in range(begin + cols - end):
        j = edge if edge < begin else edge - begin + end
        i = padded_index(w0 + j, s.size[2], s.padding_mode[2])
        pixel = shift(target, j * s.groups)
        if i >= 0:
            read_pixels(job, s, pixel, at + i * s.groups, 1)
        else:
            fill(pixel, s.groups, pointer_at(job[AT.outside], target)[0], job[AT.lanes])


@inline
def spread_row(tile, s, target, source, cols):
    """Copy the columns of a row to their phases, each channel as often as it has outputs."""
    channels = s.groups * s.c_out
    for phase in range(s.stride[2]):
        pixel, at = shift(target, phase * tile.phase), phase * s.groups
        for _ in range(phase, cols, s.stride[2]):
            for g in range(s.groups):
                keep_scalar()
                value = source[at + g]
                pixel[g * s.c_out] = value
                for i in range(1, s.c_out):
                    keep_scalar()
                    pixel[g * s.c_out + i] = value
            pixel, at = shift(pixel, channels), at + s.stride[2] * s.groups


@inline
def fill_tile(job, m, tile, s, t):
    """Copy the halo tile of a task."""
    d0, h0, w0 = first_read(s, 0, t.od), first_read(s, 1, t.oh), first_read(s, 2, t.ow)
    rows, cols = halo_extents(s, t.rows, t.cols)
    for kd in range(s.kernel[0]):
        d = padded_index(d0 + kd * s.dilation[0], s.size[0], s.padding_mode[0])
        for r in range(rows):
            h = padded_index(h0 + r, s.size[1], s.padding_mode[1])
            target = shift(m.halo, kd * tile.plane + r * tile.row)
            if d < 0 or h < 0:
                fill(target, tile.row, pointer_at(job[AT.outside], target)[0], job[AT.lanes])
                continue
            at = t.n * s.in_strides[0] + d * s.in_strides[2] + h * s.in_strides[3]
            read = target if tile.read_row == 0 else m.read
            read_padded_row(job, s, read, at, w0, cols)
            if tile.read_row != 0:
                spread_row(tile, s, target, read, cols)


@inline
def is_read_in_place(job, s, t):
    """Whether what a task reads, whole vectors included, is input and no padding."""
    inside, last = pixels_read(s, t)
    end = t.n * s.in_strides[0] + last + s.groups + job[AT.lanes]
    return job[AT.taps_in_place] != 0 and inside and end <= s.n * s.in_strides[0]


@inline
def tile_kernel(s, rows):
    """The filter as a tile sees it: all taps are columns where no rows share what they read."""
    return s.kernel if rows_share(s) and rows > 1 else (1, 1, kernel_taps(s))


@inline
def finish_rows(job, results, step, s, rows, width, first, is_moved):
    """Finish rows of results; move them to the output, from its element `first` on."""
    for i in range(rows):
        row, at = shift(results, i * step), first + i * s.out_strides[3]
        finish_tile(job, row, width, 1, width, True, at, width, 1, NOT_FLAT)
        if is_moved:
            target = behind(job[AT.out], at, job[AT.itemsize])
            call(job[AT.store], WriteRowArguments(row, target, 1, width))


@inline
def goes_past_caches(job, tile, s, target):
    """Whether rows of results are stored past the caches: whole lines, to which nothing is done."""
    line = job[AT.lanes] * CACHE_LINE // VECTOR_BYTES
    final = job[AT.add_tile] == 0 and job[AT.activate] == 0
    whole = before_line(target) == 0 and s.out_strides[3] % line == 0
    return tile.past_caches != 0 and final and whole


@inline
def interleaved_part(job, m, tile, s, t):
    """The outputs of a part of a task, some rows at a time."""
    lanes, channels, first = job[AT.lanes], s.groups * s.c_out, out_index(s, t, 0)
    x, plane, row, offsets = m.halo, tile.plane, tile.row, m.offsets
    if is_read_in_place(job, s, t):
        d, h, w = first_read(s, 0, t.od), first_read(s, 1, t.oh), first_read(s, 2, t.ow)
        at = t.n * s.in_strides[0] + d * s.in_strides[2] + h * s.in_strides[3]
        x, offsets = shift(m.x, at + w * s.in_strides[4]), shift(offsets, job[AT.taps_in_place])
        plane, row = s.dilation[0] * s.in_strides[2], s.in_strides[3]
    else:
        fill_tile(job, m, tile, s, t)
    r, whole = 0, tile.period * lanes // channels  # pixels that are whole vectors
    while r < t.rows:
        rows, begin = min(rows_at_once(s), t.rows - r), 0
        kernel = tile_kernel(s, rows)
        while begin < t.cols:
            at = first + r * s.out_strides[3] + begin * channels
            results, step = shift(m.out, at), s.out_strides[3]
            pixels = min(tile.pixels, t.cols - begin)
            is_moved = pixels < whole
            if is_moved:
                results, step = m.results, tile.results
            else:
                pixels -= pixels % whole
            width = pixels * channels
            call(
                job[AT.tile],
                InterleavedTileArguments(
                    rows,
                    (width + lanes - 1) // lanes,
                    tile.period,
                    kd=kernel[0],
                    kh=kernel[1],
                    kw=kernel[2],
                    x=shift(x, r * s.stride[1] * row + begin * channels),
                    x_plane=plane,
                    x_row=s.stride[1] * row,
                    columns=offsets,
                    w=m.weights,
                    c=results,
                    row_step=step,
                    bias=m.bias,
                    nontemporal=int(not is_moved and goes_past_caches(job, tile, s, results)),
                    prefetches=tile.past_caches,
                ),
            )
            finish_rows(job, results, step, s, rows, width, at, is_moved)
            begin += pixels
        r += rows


@inline
def interleaved_task(job, m, tile, s, t):
    """All outputs of a task: what is inside of the image apart from its edges, which are copied."""
    top, bottom, left, right = 0, t.rows, 0, t.cols
    if job[AT.taps_in_place] != 0:
        top, bottom = off_padding(s, 1, t.oh, t.rows, 1)
        left, right = off_padding(s, 2, t.ow, t.cols, PIXEL_COLUMNS_UNIT)
    rows, cols = (0, top, bottom, t.rows), (0, left, right, t.cols)
    for i in range(3):
        for j in range(3):
            height, width = rows[i + 1] - rows[i], cols[j + 1] - cols[j]
            if height > 0 and width > 0:
                oh, ow = t.oh + rows[i], t.ow + cols[j]
                part = Task(t.n, t.g, t.od, oh, ow, height, width, t.part, t.groups)
                interleaved_part(job, m, tile, s, part)


@native(WorkerArguments)
def interleaved_work(worker, job, like):
    """Do tasks until none is left."""
    s, b, lanes = read_shape(job, SHAPE), read_blocks(job), job[AT.lanes]
    tile = Interleaved(*entries(job, HALO, _LAYOUT_SIZE))
    scratch = shift(pointer_at(job[AT.scratch], like), worker * job[AT.scratch_size])
    bias = shift(scratch, kernel_taps(s) * tile.period * lanes)
    results = shift(bias, tile.period * lanes)
    read = shift(results, rows_at_once(s) * tile.results)
    m = InterleavedMemory(
        pointer_at(job[AT.x], like),
        scratch,
        bias,
        pointer_at(job[AT.out], like),
        results,
        read,
        shift(read, tile.read_row),
        indices_at(job[AT.table]),
    )
    weights, biases = pointer_at(job[AT.packed], like), pointer_at(job[AT.bias], like)
    repeat_weights(m, weights, biases, s, tile.period, lanes)
    number, queue = next_task(job, b.tasks, worker, 0)
    while number < b.tasks:
        interleaved_task(job, m, tile, s, locate_task(number, s, b))
        number, queue = next_task(job, b.tasks, worker, queue)
    fence()  # for stores past the caches


def lower(s, itemsize, threads):
    """Return how this lowering computes a problem."""
    lanes = VECTOR_BYTES // itemsize
    b = cut(s, itemsize, threads)
    past_caches = exceeds_caches(s, lanes, threads)
    tile = lay_out(s, b.rows, b.cols, lanes, past_caches)
    repeated = (kernel_taps(s) + 1) * tile.period * lanes
    # A vector reads on behind the last row.
    halo = s.kernel[0] * tile.plane + lanes
    return Lowering(
        "depthwise_interleaved",
        interleaved_work,
        interleaved_tile,
        b,
        tap_offsets(s, tile),
        repeated + rows_at_once(s) * tile.results + tile.read_row + halo,
        layout=tile,
        fill_halo=read_row,
        taps_in_place=kernel_taps(s) * (s.stride[2] == s.c_out == 1 and reads_in_place(s)),
        store=write_row,
    )
