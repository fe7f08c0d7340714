"""direct, third lowering: each lane of a vector is a channel.

It serves depthwise layers whose channels are innermost in memory, and those that `direct_planes`
does not take. Loops of a task (image, block of channels, plane, block of rows and columns): its
halo tile is copied with the channels innermost, transposed in registers unless the input lies so
already; then columns, MR at a time; rows; the tile's own loop over taps. The tile is transposed
back on its way to the output.
"""

from typing import NamedTuple

import numpy as np
from numba import types

from numbaconv.backends.direct_lowerings import copies_padding, is_far_out
from numbaconv.backends.direct_tasks import Blocks, finish_tile, locate_task, out_index, read_blocks
from numbaconv.blocking import CACHE_BYTES, TASKS_PER_THREAD, share
from numbaconv.channel_tiles import depthwise_tile
from numbaconv.jit import inline, native
from numbaconv.job import (
    BIAS,
    BLOCKS,
    FILL_HALO,
    LANES,
    OUT,
    PACKED,
    SCRATCH,
    SCRATCH_SIZE,
    SHAPE,
    TABLE,
    TILE,
    WORKER,
    X,
    next_task,
    set_entries,
    worker_signature,
)
from numbaconv.lanes import clear_lanes, copy_lanes
from numbaconv.packing import move_rows, transpose_block
from numbaconv.padding import padded_index
from numbaconv.pointers import call, indices_at, keep_scalar, pointer_at, shift
from numbaconv.shape import kernel_taps, read_shape
from numbaconv.target import VECTOR_BYTES

# Widest block of columns: its halo rows stay in the second-level cache under tall kernels too.
_COLUMNS = 256


class Memory(NamedTuple):
    """The pointers of a worker: the problem's arrays, its own scratch, the offsets of the taps."""

    x: object
    weights: object
    bias: object
    out: object
    tile: object
    taps: object
    halo: object
    offsets: object


@inline
def halo_extents(s, rows, cols):
    """Rows and columns of the padded input that a block of outputs reads."""
    reach_h = (s.kernel[1] - 1) * s.dilation[1]
    reach_w = (s.kernel[2] - 1) * s.dilation[2]
    return (rows - 1) * s.stride[1] + reach_h + 1, (cols - 1) * s.stride[2] + reach_w + 1


def halo_size(s, rows, cols, lanes):
    """Elements of a halo tile [kd][row][column][lane]."""
    height, width = halo_extents(s, rows, cols)
    return s.kernel[0] * height * width * lanes


def has_padded_halo(s):
    """Whether halo tiles, of single rows, would be nothing but padding, nearly."""
    if not is_far_out(s):
        return False
    cols = min(s.output[2], _COLUMNS)
    blocks = s.output[0] * s.output[1] * -(-s.output[2] // cols)
    return copies_padding(s, halo_size(s, 1, cols, 1), blocks)


def cut(s, itemsize, threads):
    """Choose the blocks of a problem: a vector of channels, rows while the halo stays in cache."""
    lanes = VECTOR_BYTES // itemsize
    budget = CACHE_BYTES // itemsize
    od, oh, ow = s.output
    col_blocks = -(-ow // _COLUMNS)
    cols = -(-ow // col_blocks)
    planes = s.n * -(-s.groups // lanes) * od * col_blocks
    wanted = threads * TASKS_PER_THREAD if threads > 1 else 1
    row_blocks = min(oh, -(-wanted // planes))
    while row_blocks < oh and halo_size(s, -(-oh // row_blocks), cols, lanes) > budget:
        row_blocks = min(oh, 2 * row_blocks)
    rows = -(-oh // row_blocks)
    row_blocks = -(-oh // rows)
    tasks = planes * row_blocks
    return Blocks(1, 1, 1, rows, cols, row_blocks, col_blocks, 1, lanes, tasks)


def plan(job, s, itemsize, threads):
    """Fill a job's blocks and sizes for a problem; return its number of tasks."""
    b = cut(s, itemsize, threads)
    lanes = VECTOR_BYTES // itemsize
    set_entries(job, BLOCKS, b)
    job[SCRATCH_SIZE] = (lanes + kernel_taps(s)) * lanes + halo_size(s, b.rows, b.cols, lanes)
    job[LANES] = lanes
    return b.tasks


def make_table(s, itemsize, threads):
    """Offsets of the taps in a halo tile."""
    b = cut(s, itemsize, threads)
    lanes = VECTOR_BYTES // itemsize
    height, width = halo_extents(s, b.rows, b.cols)
    kd, kh, kw = np.ogrid[: s.kernel[0], : s.kernel[1], : s.kernel[2]]
    row = kd * height + kh * s.dilation[1]
    return ((row * width + kw * s.dilation[2]) * lanes).ravel()


def set_addresses(job, s, dtype):
    """Compile the functions that a problem needs and write their addresses into its job."""
    job[FILL_HALO], job[TILE] = fill_channels.address(dtype), depthwise_tile.address(dtype)
    job[WORKER] = channels_work.address(dtype)


@inline
def fill_row(target, x, s, at, channels, w0, cols, lanes):
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
        i = padded_index(w0 + j, s.size[2], s.padding_mode)
        pixel = shift(target, j * lanes)
        clear_lanes(pixel, lanes)
        if i >= 0:
            for lane in range(channels):
                keep_scalar()
                pixel[lane] = x[at + i * s.in_strides[4] + lane * s.in_strides[1]]


def _fill_signature(dtype):
    i, p = types.int64, types.CPointer(dtype)
    return types.void(p, p, types.CPointer(i), i, i, i, i, i, i, i)


@native(_fill_signature)
def fill_channels(target, x, job, channel0, channels, d0, h0, w0, rows, cols):
    """Copy the halo tile [kd][row][column][lane] that begins at the padded input's (d0, h0, w0).

    `x` points at the image; `rows` x `cols` are the tile's. Loops over kd and rows.
    """
    s, lanes = read_shape(job, SHAPE), job[LANES]
    for kd in range(s.kernel[0]):
        d = padded_index(d0 + kd * s.dilation[0], s.size[0], s.padding_mode)
        for r in range(rows):
            h = padded_index(h0 + r, s.size[1], s.padding_mode)
            row = shift(target, (kd * rows + r) * cols * lanes)
            if d >= 0 and h >= 0:
                at = channel0 * s.in_strides[1] + d * s.in_strides[2] + h * s.in_strides[3]
                fill_row(row, x, s, at, channels, w0, cols, lanes)
            else:
                for j in range(cols):
                    clear_lanes(shift(row, j * lanes), lanes)


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
    lanes = job[LANES]
    height, width = halo_extents(s, b.rows, b.cols)
    d = t.od * s.stride[0] - s.padding[0]
    h = t.oh * s.stride[1] - s.padding[1]
    w = t.ow * s.stride[2] - s.padding[2]
    image = shift(m.x, t.n * s.in_strides[0])
    call(job[FILL_HALO], (m.halo, image, job, t.g, t.groups, d, h, w, height, width))
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
                job[TILE],
                (
                    pixels, kernel_taps(s), x, x_step, m.offsets, m.taps,
                    target, step, bias, t.groups,
                ),
            )  # fmt: skip
            finish_tile(job, target, step, pixels, t.groups, True)
            if s.out_strides[1] != 1:
                move_rows(
                    m.tile, 0, lanes, pixels, t.groups,
                    m.out, at, s.out_strides[4], s.out_strides[1], False, lanes,
                )  # fmt: skip


@native(worker_signature)
def channels_work(worker, job, like):
    """Do tasks until none is left."""
    s, b, lanes = read_shape(job, SHAPE), read_blocks(job), job[LANES]
    tile = shift(pointer_at(job[SCRATCH], like), worker * job[SCRATCH_SIZE])
    taps = shift(tile, lanes * lanes)
    m = Memory(
        pointer_at(job[X], like),
        pointer_at(job[PACKED], like),
        pointer_at(job[BIAS], like),
        pointer_at(job[OUT], like),
        tile,
        taps,
        shift(taps, kernel_taps(s) * lanes),
        indices_at(job[TABLE]),
    )
    number, turn = next_task(job, b.tasks, worker, 0)
    while number < b.tasks:
        channels_task(job, m, s, b, locate_task(number, s, b))
        number, turn = next_task(job, b.tasks, worker, turn)
