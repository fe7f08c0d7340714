"""direct, third lowering: each lane of a vector is a channel.

It serves depthwise layers whose channels are innermost in memory, and those that `depthwise_planes`
does not take. Loops of a task (image, block of channels, plane, block of rows and columns): its
halo tile is copied with the channels innermost, transposed in registers unless the input lies so
already; then columns, MR at a time; rows; the tile's own loop over taps. The tile is transposed
back on its way to the output.
"""

from typing import NamedTuple

import numpy as np

from numbaconv.codegen.arguments import Elements, Foreign, Indices
from numbaconv.codegen.integers import ceil_div
from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import behind, call, indices_at, keep_scalar, pointer_at, shift
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu import blocking
from numbaconv.cpu.blocking import share
from numbaconv.cpu.direct.blocks import MatrixBlocks, rows_in_cache
from numbaconv.cpu.direct.choice import CHANNEL_COLUMNS
from numbaconv.cpu.direct.tasks import (
    halo_extents,
    locate_task,
    out_index,
    read_blocks,
)
from numbaconv.cpu.finishing import NOT_FLAT, finish_tile
from numbaconv.cpu.job import AT, SHAPE, WorkerArguments, next_task
from numbaconv.cpu.lowering import Lowering
from numbaconv.cpu.microkernels.depthwise import DepthwiseTileArguments, depthwise_tile
from numbaconv.cpu.packing.conversion import move
from numbaconv.cpu.packing.lanes import copy_lanes, fill_lanes
from numbaconv.cpu.packing.results import move_rows
from numbaconv.cpu.packing.transpose import transpose_block
from numbaconv.problem.padding_modes import padded_index
from numbaconv.problem.shape import kernel_taps, read_shape
from numbaconv.problem.taps import first_read


class ChannelMemory(NamedTuple):
    """The pointers of a worker: the problem's arrays, its own scratch, the offsets of the taps."""

    weights: object
    bias: object
    out: object
    tile: object
    taps: object
    halo: object
    offsets: object


def halo_size(s, rows, cols, lanes):
    """Elements of a halo tile [kd][row][column][lane]."""
    height, width = halo_extents(s, rows, cols)
    return s.kernel[0] * height * width * lanes


def cut(s, itemsize, threads):
    """Choose the blocks of a problem: a vector of channels, rows while the halo stays in cache."""
    lanes = VECTOR_BYTES // itemsize
    budget = blocking.CACHE_BYTES // itemsize
    od, oh, ow = s.output
    col_blocks = ceil_div(ow, CHANNEL_COLUMNS)
    cols = ceil_div(ow, col_blocks)
    planes = s.n * ceil_div(s.groups, lanes) * od * col_blocks
    rows = rows_in_cache(oh, planes, threads, budget, lambda rows: halo_size(s, rows, cols, lanes))
    row_blocks = ceil_div(oh, rows)
    tasks = planes * row_blocks
    return MatrixBlocks(1, 1, 1, rows, cols, row_blocks, col_blocks, 1, lanes, tasks)


def tap_offsets(s, b, lanes):
    """Offsets of the taps in a halo tile."""
    height, width = halo_extents(s, b.rows, b.cols)
    kd, kh, kw = np.ogrid[: s.kernel[0], : s.kernel[1], : s.kernel[2]]
    row = kd * height + kh * s.dilation[1]
    return ((row * width + kw * s.dilation[2]) * lanes).ravel()


@inline
def fill_row(target, x, s, at, channels, w0, cols, outside, lanes):
    """target[column][lane] = the padded input row at x[at], from column w0 on."""
    begin = min(max(-w0, 0), cols)
    end = max(min(s.size[2] - w0, cols), begin)
    if s.in_strides[4] == 1:
        inside, source = shift(target, begin * lanes), shift(x, at + w0 + begin)
        transpose_block(inside, lanes, source, s.in_strides[1], channels, end - begin, lanes)
    else:
        for j in range(begin, end):
            source = shift(x, at + (w0 + j) * s.in_strides[4])
            copy_lanes(shift(target, j * lanes), source, channels)
    for edge in range(begin + cols - end):
        j = edge if edge < begin else edge - begin + end
        i = padded_index(w0 + j, s.size[2], s.padding_mode[2])
        pixel = shift(target, j * lanes)
        fill_lanes(pixel, outside, lanes)
        if i >= 0:
            for lane in range(channels):
                keep_scalar()
                move(pixel, lane, x, at + i * s.in_strides[4] + lane * s.in_strides[1])


class FillChannelsArguments(NamedTuple):
    """What `fill_channels` takes.

    Attributes
    ----------
    target, x, job : pointer
        The halo tile; the image, whose elements are converted; the job, with the problem.
    channel0, channels : int
        First channel of the image, and how many: at most a vector has lanes.
    d0, h0, w0 : int
        Where in the padded input the tile begins: minus the padding is the first.
    rows, cols : int
        Those of the tile.
    """

    target: Elements
    x: Foreign
    job: Indices
    channel0: int
    channels: int
    d0: int
    h0: int
    w0: int
    rows: int
    cols: int


@native(FillChannelsArguments)
def fill_channels(target, x, job, channel0, channels, d0, h0, w0, rows, cols):
    """Copy the halo tile [kd][row][column][lane]. Loops over kd and rows."""
    s, lanes = read_shape(job, SHAPE), job[AT.lanes]
    # The same for all channels: complex numbers, of which channels are parts, are not depthwise.
    outside = pointer_at(job[AT.outside], target)[0]
    for kd in range(s.kernel[0]):
        d = padded_index(d0 + kd * s.dilation[0], s.size[0], s.padding_mode[0])
        for r in range(rows):
            h = padded_index(h0 + r, s.size[1], s.padding_mode[1])
            row = shift(target, (kd * rows + r) * cols * lanes)
            if d >= 0 and h >= 0:
                at = channel0 * s.in_strides[1] + d * s.in_strides[2] + h * s.in_strides[3]
                fill_row(row, x, s, at, channels, w0, cols, outside, lanes)
            else:
                for j in range(cols):
                    fill_lanes(shift(row, j * lanes), outside, lanes)


@inline
def transpose_weights(m, s, t, lanes):
    """taps[k][lane] = the weight of tap k for each channel of a task."""
    count = kernel_taps(s)
    transpose_block(m.taps, lanes, shift(m.weights, t.g * count), count, t.groups, count, lanes)


@inline
def channels_task(job, m, s, b, t):
    """All outputs of a task: columns, MR of a row at a time, down all its rows.

    That way the halo rows under a tile stay in the first-level cache however wide the task is.
    """
    lanes = job[AT.lanes]
    height, width = halo_extents(s, b.rows, b.cols)
    d, h, w = first_read(s, 0, t.od), first_read(s, 1, t.oh), first_read(s, 2, t.ow)
    image = behind(job[AT.x], t.n * s.in_strides[0], job[AT.in_size])
    call(
        job[AT.fill_halo],
        FillChannelsArguments(
            target=m.halo,
            x=image,
            job=job,
            channel0=t.g,
            channels=t.groups,
            d0=d,
            h0=h,
            w0=w,
            rows=height,
            cols=width,
        ),
    )
    transpose_weights(m, s, t, lanes)
    bias, x_step = shift(m.bias, t.g), s.stride[2] * lanes
    chunks = (t.cols + lanes - 1) // lanes
    for chunk in range(chunks):
        j, end = share(t.cols, chunk, chunks)
        pixels = end - j
        for r in range(t.rows):
            x = shift(m.halo, (r * s.stride[1] * width + j * s.stride[2]) * lanes)
            at = out_index(s, t, t.g) + r * s.out_strides[3] + j * s.out_strides[4]
            target, step = m.tile, lanes
            if s.out_strides[1] == 1:
                target, step = shift(m.out, at), s.out_strides[4]
            call(
                job[AT.tile],
                DepthwiseTileArguments(
                    rows=pixels,
                    taps=kernel_taps(s),
                    x=x,
                    x_step=x_step,
                    offsets=m.offsets,
                    w=m.taps,
                    c=target,
                    row_step=step,
                    bias=bias,
                    last=t.groups,
                ),
            )
            row_step, channel_step = s.out_strides[4], s.out_strides[1]
            finish_tile(
                job, target, step, pixels, t.groups, True, at, row_step, channel_step, NOT_FLAT
            )
            if channel_step != 1:
                move_rows(
                    m.tile,
                    0,
                    lanes,
                    pixels,
                    t.groups,
                    m.out,
                    at,
                    row_step,
                    channel_step,
                    False,
                    lanes,
                )


@native(WorkerArguments)
def channels_work(worker, job, like):
    """Do tasks until none is left."""
    s, b, lanes = read_shape(job, SHAPE), read_blocks(job), job[AT.lanes]
    tile = shift(pointer_at(job[AT.scratch], like), worker * job[AT.scratch_size])
    taps = shift(tile, lanes * lanes)
    m = ChannelMemory(
        pointer_at(job[AT.packed], like),
        pointer_at(job[AT.bias], like),
        pointer_at(job[AT.out], like),
        tile,
        taps,
        shift(taps, kernel_taps(s) * lanes),
        indices_at(job[AT.table]),
    )
    number, queue = next_task(job, b.tasks, worker, 0)
    while number < b.tasks:
        channels_task(job, m, s, b, locate_task(number, s, b))
        number, queue = next_task(job, b.tasks, worker, queue)


def lower(s, itemsize, threads):
    """Return how this lowering computes a problem."""
    lanes = VECTOR_BYTES // itemsize
    b = cut(s, itemsize, threads)
    return Lowering(
        "depthwise_channels",
        channels_work,
        depthwise_tile,
        b,
        tap_offsets(s, b, lanes),
        (lanes + kernel_taps(s)) * lanes + halo_size(s, b.rows, b.cols, lanes),
        fill_halo=fill_channels,
    )
