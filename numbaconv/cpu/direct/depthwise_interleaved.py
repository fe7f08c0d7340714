"""direct: each lane of a vector is a channel of a pixel; a vector may hold several pixels.

It serves depthwise layers whose channels are innermost and fill no vectors: photographs, channel
multipliers. The outputs of a row lie one behind the other, pixel after pixel, and so do the vectors
that sum them. The channels of a vector's lanes repeat after some vectors, the *period*: with three
channels and eight lanes every third vector has the same weights.

Loops of a task (image, plane, block of rows and columns): its halo tile is copied, each channel as
often as it has outputs, and converted if the image has another dtype; then rows; vectors of the
period; those that have the same weights, MR at a time; the tile's own loop over taps. A finished
row goes to the output at once, past the caches where these hold no results.
"""

from typing import NamedTuple

import numpy as np

from numbaconv.codegen.integers import ceil_div, round_up
from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import (
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
from numbaconv.cpu.direct.blocks import MatrixBlocks, columns_of_pixels, rows_in_cache
from numbaconv.cpu.direct.choice import exceeds_caches, period_of, reads_in_place
from numbaconv.cpu.direct.tasks import (
    halo_extents,
    locate_task,
    out_index,
    pixels_read,
    read_blocks,
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
from numbaconv.cpu.microkernels.depthwise import DepthwiseTileArguments, depthwise_tile
from numbaconv.cpu.packing.conversion import (
    ReadRowArguments,
    WriteRowArguments,
    read_row,
    write_past_caches,
    write_row,
)
from numbaconv.cpu.packing.rows import fill
from numbaconv.problem.padding_modes import padded_index
from numbaconv.problem.shape import kernel_taps, read_shape
from numbaconv.problem.taps import first_read


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
    read_row : int
        Elements of a row as it is read, before its channels are repeated or its columns split; 0 if
        it is read to where it belongs.
    """

    period: int
    phase: int
    row: int
    plane: int
    results: int
    read_row: int


_LAYOUT_SIZE = size_within(Interleaved, MOST_HALO)


class InterleavedMemory(NamedTuple):
    """The pointers of a worker: the problem's arrays, its own scratch, the offsets of the taps."""

    x: object
    weights: object
    bias: object
    results: object
    read: object
    halo: object
    offsets: object


def lay_out(s, rows, cols, lanes):
    """The layout of the halo tile of a block of outputs."""
    height, width = halo_extents(s, rows, cols)
    channels = s.groups * s.c_out
    phase = ceil_div(width, s.stride[2]) * channels
    row = s.stride[2] * phase
    changes = s.stride[2] > 1 or s.c_out > 1
    results, read_row = round_up(cols * channels, lanes), changes * width * s.groups
    return Interleaved(period_of(s, lanes), phase, row, height * row, results, read_row)


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
                value = source[at + g]
                for i in range(s.c_out):
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
def sum_row(job, m, s, row, offsets, period, vectors):
    """Sum a row of so many vectors; `row` is where its first output's taps begin."""
    lanes, taps = job[AT.lanes], kernel_taps(s)
    step = period * lanes
    for vector in range(min(period, vectors)):
        at = vector * lanes
        call(
            job[AT.tile],
            DepthwiseTileArguments(
                rows=(vectors - vector + period - 1) // period,
                taps=taps,
                x=shift(row, at),
                x_step=step,
                offsets=offsets,
                w=shift(m.weights, at * taps),
                c=shift(m.results, at),
                row_step=step,
                bias=shift(m.bias, at),
                last=lanes,
            ),
        )


@inline
def interleaved_task(job, m, tile, s, t):
    """All outputs of a task, row by row."""
    lanes, width = job[AT.lanes], t.cols * s.groups * s.c_out
    vectors = (width + lanes - 1) // lanes
    source, step, offsets = m.halo, s.stride[1] * tile.row, m.offsets
    if is_read_in_place(job, s, t):
        d, h, w = first_read(s, 0, t.od), first_read(s, 1, t.oh), first_read(s, 2, t.ow)
        at = t.n * s.in_strides[0] + d * s.in_strides[2] + h * s.in_strides[3]
        source, step = shift(m.x, at + w * s.in_strides[4]), s.stride[1] * s.in_strides[3]
        offsets = shift(offsets, job[AT.taps_in_place])
    else:
        fill_tile(job, m, tile, s, t)
    for r in range(t.rows):
        sum_row(job, m, s, shift(source, r * step), offsets, tile.period, vectors)
        at = out_index(s, t, 0) + r * s.out_strides[3]
        finish_tile(job, m.results, width, 1, width, True, at, width, 1, NOT_FLAT)
        target = behind(job[AT.out], at, job[AT.itemsize])
        call(job[AT.store], WriteRowArguments(m.results, target, 1, width))


@native(WorkerArguments)
def interleaved_work(worker, job, like):
    """Do tasks until none is left."""
    s, b, lanes = read_shape(job, SHAPE), read_blocks(job), job[AT.lanes]
    tile = Interleaved(*entries(job, HALO, _LAYOUT_SIZE))
    scratch = shift(pointer_at(job[AT.scratch], like), worker * job[AT.scratch_size])
    bias = shift(scratch, kernel_taps(s) * tile.period * lanes)
    results = shift(bias, tile.period * lanes)
    read = shift(results, tile.results)
    m = InterleavedMemory(
        pointer_at(job[AT.x], like),
        scratch,
        bias,
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
    tile = lay_out(s, b.rows, b.cols, lanes)
    repeated = (kernel_taps(s) + 1) * tile.period * lanes
    # A vector reads on behind the last row.
    halo = s.kernel[0] * tile.plane + lanes
    return Lowering(
        "depthwise_interleaved",
        interleaved_work,
        depthwise_tile,
        b,
        tap_offsets(s, tile),
        repeated + tile.results + tile.read_row + halo,
        layout=tile,
        fill_halo=read_row,
        taps_in_place=kernel_taps(s) * (s.stride[2] == s.c_out == 1 and reads_in_place(s)),
        store=write_past_caches if exceeds_caches(s, lanes, threads) else write_row,
    )
