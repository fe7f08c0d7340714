"""direct, sixth lowering: zones of the output under which the same taps read more than padding.

Where taps lie far apart a halo tile would be mostly halo, and many taps of an output read nothing
but padding: 43% of those of a 3x3 kernel with dilation 12 on a 33 x 33 map. A zone leaves these
out. Lanes are output channels, as in `direct_transposed`, so pixels are read one by one and a zone
may have any width. The rows that a task reads are copied, without padding, as
[kd][row][channel][column]: what a tap reads of all channels lies close together.

Loops of a task: pc over input channels, KC at a time; the copy; ic over blocks of NR output
channels; rows, one or two at a time; zones of columns; columns, MR at a time; the tile's own loops
over channels and taps. Weights have the taps outside: a zone reads those of its own, each tap's in
order, and none in between (with k = (channel, tap) deep layers ran at 0.8 to 0.9 of the speed).
"""

from typing import NamedTuple

import numpy as np

from numbaconv.backends.direct_tasks import (
    Blocks,
    channel_parts,
    finish_tile,
    locate_task,
    open_memory,
    open_panel,
    out_index,
    read_blocks,
    tile_size,
)
from numbaconv.blocking import CACHE_BYTES, TILE_ROWS, TILE_VECTORS, share
from numbaconv.channel_tiles import first_half, pixel_tile
from numbaconv.halo import odd_lines
from numbaconv.jit import inline, native
from numbaconv.job import (
    BLOCKS,
    HALO,
    INDEX_SIZE,
    LANES,
    PACK_IN_TASK,
    PACK_ROWS,
    PACK_TAPS_OUTER,
    PACKER,
    PANEL_SIZE,
    SCRATCH_SIZE,
    SHAPE,
    TILE,
    WORKER,
    next_task,
    set_entries,
    worker_signature,
)
from numbaconv.lanes import copy_lanes
from numbaconv.packing import move_rows, pack_work
from numbaconv.padding import copy_rows
from numbaconv.pointers import CACHE_LINE, call, entries, shift
from numbaconv.shape import kernel_taps, read_shape
from numbaconv.taps import Taps, first_read, taps_inside, taps_until
from numbaconv.target import VECTOR_BYTES

# Channels at a time. With 256, D1 of `benchmarks/layers.csv` ran at 0.97 of the speed, with 128 at
# 0.9, as each tile is moved from and to the output; other layers at 0.98 to 1.02.
MOST_CHANNELS = 512


class Rows(NamedTuple):
    """Layout of the copied rows.

    Attributes
    ----------
    channel, row, plane : int
        Elements from one channel, row or plane kd to the next.
    kh_step, r_step, first : int
        Tap kh of output row r of a task reads the copied row kh * kh_step + r * r_step + first.
        A task of all output rows copies all input rows; one of some copies those of its taps, tap
        by tap.
    """

    channel: int
    row: int
    plane: int
    kh_step: int
    r_step: int
    first: int


ROWS_SIZE = len(Rows._fields)


class Zone(NamedTuple):
    """Some pixels of a task under the same taps: `rows` rows from r on, `columns` from j on."""

    r: int
    rows: int
    j: int
    columns: int
    kd: Taps
    kh: Taps
    kw: Taps


def cut(s, itemsize, threads):
    """Choose the blocks of a problem.

    Rows: all, or so few that what their taps read stays in CACHE_BYTES. Output channels are shared
    out where there are no other tasks.
    """
    budget = CACHE_BYTES // itemsize
    kc = -(-s.c_in // -(-s.c_in // MOST_CHANNELS))
    row = s.kernel[0] * kc * odd_lines(s.size[2], itemsize)
    rows = s.output[1]
    if row * s.size[1] > budget:
        rows = max(1, min(rows, budget // (row * s.kernel[1])))
    row_blocks = -(-s.output[1] // rows)
    rows = -(-s.output[1] // row_blocks)
    row_blocks = -(-s.output[1] // rows)
    nr = TILE_VECTORS * VECTOR_BYTES // itemsize
    oc_blocks = -(-s.c_out // nr)
    blocks = s.n * s.groups * s.output[0] * row_blocks
    oc_parts = min(oc_blocks, channel_parts(blocks, threads))
    tasks = blocks * oc_parts
    return Blocks(nr, oc_blocks, oc_parts, rows, s.output[2], row_blocks, 1, kc, 1, tasks)


def layout_rows(s, b, itemsize):
    """Layout of the rows that a task copies."""
    channel = odd_lines(s.size[2], itemsize)
    row = b.kc * channel
    if b.row_blocks == 1:
        return Rows(channel, row, s.size[1] * row, s.dilation[1], s.stride[1], -s.padding[1])
    return Rows(channel, row, s.kernel[1] * b.rows * row, b.rows, 1, 0)


def plan(job, s, itemsize, threads):
    """Fill a job's blocks and sizes for a problem; return its number of tasks."""
    b = cut(s, itemsize, threads)
    lanes = VECTOR_BYTES // itemsize
    v = layout_rows(s, b, itemsize)
    set_entries(job, BLOCKS, b)
    set_entries(job, HALO, v)
    job[PACK_ROWS], job[PACK_TAPS_OUTER] = b.mr, 1
    if b.tasks <= 2 * b.oc_parts * s.groups:
        job[PACK_IN_TASK] = 1
        job[PANEL_SIZE] = b.mr * b.kc * kernel_taps(s)
    job[SCRATCH_SIZE] = tile_size(lanes) + job[PANEL_SIZE] + s.kernel[0] * v.plane
    job[INDEX_SIZE] = 2 * kernel_taps(s) + CACHE_LINE // 8  # none shares a line with another's
    job[LANES] = lanes
    return b.tasks


def make_table(s, itemsize, threads):
    """No offsets: those of the taps differ from zone to zone."""
    return np.zeros(0, np.int64)


def set_addresses(job, s, dtype):
    """Compile the functions that a problem needs and write their addresses into its job."""
    job[TILE], job[WORKER] = pixel_tile.address(dtype), zones_work.address(dtype)
    job[PACKER] = pack_work.address(dtype)


@inline
def copied_row(s, b, t, i):
    """Input row that is copied as row i: the i-th, or what a tap of an output row reads."""
    if b.row_blocks == 1:
        return i
    kh = i // b.rows
    return first_read(s, 1, t.oh + i - kh * b.rows) + kh * s.dilation[1]


@inline
def open_rows(job, m, s, b, t, v, kd, channel0, channels):
    """Copy what a task reads of some channels. Loops: kd; rows; channels; columns."""
    for depth in range(kd.begin, kd.end):
        d = first_read(s, 0, t.od) + depth * s.dilation[0]
        image = t.n * s.in_strides[0] + channel0 * s.in_strides[1] + d * s.in_strides[2]
        for i in range(v.plane // v.row):
            h = copied_row(s, b, t, i)
            if 0 <= h < s.size[1]:
                target = shift(m.halo, depth * v.plane + i * v.row)
                source = shift(m.x, image + h * s.in_strides[3])
                step, row_step = s.in_strides[4], s.in_strides[1]
                copy_rows(
                    target, v.channel, source, step, row_step, channels, s.size[2], 0, job[LANES]
                )


@inline
def move_zone(job, m, s, at, zone, width, gather):
    """Move a tile to the output (or back): row after row of the zone."""
    lanes = job[LANES]
    step = TILE_VECTORS * lanes
    for i in range(zone.rows):
        tile, to = shift(m.tile, i * zone.columns * step), at + i * s.out_strides[3]
        row_step, column_step = s.out_strides[4], s.out_strides[1]
        move_rows(
            tile, 0, step, zone.columns, width, m.out, to, row_step, column_step, gather, lanes
        )


@inline
def start_tile(job, tile, bias, pixels, width):
    """Set every pixel of a tile to the bias: there may be no tap to do it."""
    lanes = job[LANES]
    for i in range(pixels):
        j = 0
        while j < width:
            copy_lanes(shift(tile, i * TILE_VECTORS * lanes + j), shift(bias, j), width - j)
            j += lanes


@inline
def list_zone(m, s, v, zone, panel):
    """List the taps of a zone; return how many."""
    count = 0
    for kd in range(zone.kd.begin, zone.kd.end):
        for kh in range(zone.kh.begin, zone.kh.end):
            i = kh * v.kh_step + zone.r * v.r_step + v.first
            row = kd * v.plane + i * v.row + first_read(s, 2, zone.j)
            for kw in range(zone.kw.begin, zone.kw.end):
                tap = (kd * s.kernel[1] + kh) * s.kernel[2] + kw
                m.taps[2 * count] = row + kw * s.dilation[2]
                m.taps[2 * count + 1] = tap * panel.tap_step
                count += 1
    return count


@inline
def zone_tile(job, m, s, t, v, zone, panel, channels, more, final):
    """One register tile: the pixels of a zone x the output channels of a panel."""
    lanes = job[LANES]
    pixels, width, step = zone.rows * zone.columns, panel.width, TILE_VECTORS * lanes
    at = out_index(s, t, panel.channel) + zone.r * s.out_strides[3] + zone.j * s.out_strides[4]
    bias = shift(m.bias, panel.channel)
    taps = list_zone(m, s, v, zone, panel)
    if more:
        move_zone(job, m, s, at, zone, width, True)
    if taps > 0:
        vectors = (width + lanes - 1) // lanes
        jump = v.r_step * v.row if zone.rows == 2 else first_half(pixels)
        call(
            job[TILE],
            (
                pixels, vectors, channels, taps, m.taps, m.halo, v.channel, jump,
                panel.weights, panel.channel_step, m.tile, step, bias, more,
                width - (vectors - 1) * lanes,
            ),
        )  # fmt: skip
    elif not more:
        start_tile(job, m.tile, bias, pixels, width)
    finish_tile(job, m.tile, step, pixels, width, final)
    move_zone(job, m, s, at, zone, width, False)


@inline
def zones_of_rows(job, m, s, t, v, r, rows, kd, kh, panel, channels, more, final):
    """All zones of one or two rows, each in about equal pieces that fit the tile."""
    j = 0
    while j < t.cols:
        kw = taps_inside(s, 2, j)
        columns = taps_until(s, 2, kw) - j
        together = rows if rows * columns <= TILE_ROWS else 1
        pieces = (columns + TILE_ROWS - 1) // TILE_ROWS
        for i in range(rows // together):
            for piece in range(pieces):
                first, end = share(columns, piece, pieces)
                zone = Zone(r + i, together, j + first, end - first, kd, kh, kw)
                zone_tile(job, m, s, t, v, zone, panel, channels, more, final)
        j += columns


@inline
def zones_channels(job, m, s, b, t, c0, channels):
    """Some input channels of a task, for all of its output channels."""
    v = Rows(*entries(job, HALO, ROWS_SIZE))
    kd = taps_inside(s, 0, t.od)
    open_rows(job, m, s, b, t, v, kd, t.g * s.c_in + c0, channels)
    final = c0 + channels == s.c_in
    first, end = share(b.oc_blocks, t.part, b.oc_parts)
    for block in range(first, end):
        panel = open_panel(job, m, s, b, t, block, c0, channels)
        r = 0
        while r < t.rows:
            kh = taps_inside(s, 1, t.oh + r)
            rows = min(2, t.rows - r, taps_until(s, 1, kh) - t.oh - r)
            zones_of_rows(job, m, s, t, v, r, rows, kd, kh, panel, channels, c0 > 0, final)
            r += rows


@native(worker_signature)
def zones_work(worker, job, like):
    """Do tasks until none is left."""
    s, b = read_shape(job, SHAPE), read_blocks(job)
    m = open_memory(worker, job, like)
    number, turn = next_task(job, b.tasks, worker, 0)
    while number < b.tasks:
        t = locate_task(number, s, b)
        for c0 in range(0, s.c_in, b.kc):
            zones_channels(job, m, s, b, t, c0, min(b.kc, s.c_in - c0))
        number, turn = next_task(job, b.tasks, worker, turn)
