"""direct, sixth lowering: zones of the output under which the same taps read more than padding.

Where taps lie far apart a halo tile would be mostly halo, and many taps of an output read nothing
but padding: 43% of those of a 3x3 kernel with dilation 12 on a 33 x 33 map. A zone leaves these
out. Lanes are output channels, as in `matrix_transposed`, so pixels are read one by one and a zone
may have any width. The rows that a task reads are copied, without padding, as
[kd][row][channel][column]: what a tap reads of all channels lies close together.

Loops of a task: pc over input channels, KC at a time; the copy; ic over blocks of NR output
channels; rows, one or two at a time; zones of columns; columns, MR at a time; rows of the filter;
the tile's own loops over the taps of such a row and over channels. Sums stay in the tile's order
until the last channels have been added. Weights have the taps outside, so each tap that a zone has
reads one run of them, and those in between are skipped.
"""

from typing import NamedTuple

import numpy as np

from numbaconv.codegen.integers import ceil_div, round_up
from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import call, entries, shift
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu import blocking
from numbaconv.cpu.blocking import TILE_ROWS, TILE_VECTORS, share
from numbaconv.cpu.direct.blocks import MatrixBlocks, channel_parts, wanted_tasks
from numbaconv.cpu.direct.tasks import (
    locate_task,
    open_memory,
    open_panel,
    out_index,
    read_blocks,
    tile_size,
)
from numbaconv.cpu.finishing import NOT_FLAT, finish_tile
from numbaconv.cpu.job import AT, HALO, MOST_HALO, SHAPE, WorkerArguments, next_task, size_within
from numbaconv.cpu.lowering import Lowering, Packing
from numbaconv.cpu.microkernels.matrix_transposed import ZoneTileArguments, first_half, zone_tile
from numbaconv.cpu.packing.lanes import copy_lanes
from numbaconv.cpu.packing.results import move_rows
from numbaconv.cpu.packing.rows import copy_rows
from numbaconv.problem.shape import kernel_taps, read_shape
from numbaconv.problem.taps import Taps, first_read, taps_inside, taps_until

# What a task with all rows of a plane keeps, at most: its rows and sums. Both stream past while the
# weights of some channels, which each tile reads, stay in the second-level cache.
MOST_BYTES = 2 << 20


class Rows(NamedTuple):
    """Layout of the copied rows, and of the sums behind them.

    Attributes
    ----------
    channel, row, plane : int
        Elements from one channel, row or plane kd to the next.
    kh_step, r_step, first : int
        Tap kh of output row r of a task reads the copied row kh * kh_step + r * r_step + first.
        A task of all output rows copies all input rows; one of some copies those of its taps, tap
        by tap.
    sums, end : int
        Where the sums begin and end: none where all channels are added at once.
    """

    channel: int
    row: int
    plane: int
    kh_step: int
    r_step: int
    first: int
    sums: int
    end: int


ROWS_SIZE = size_within(Rows, MOST_HALO)  # they lie in the place of a halo tile's layout


class Channels(NamedTuple):
    """Some input channels: the first, how many; whether there are sums already; or none to come."""

    first: int
    many: int
    accumulate: bool
    final: bool


class Zone(NamedTuple):
    """Some pixels of a task under the same taps: `rows` rows from r on, `columns` from j on."""

    r: int
    rows: int
    j: int
    columns: int
    kd: Taps
    kh: Taps
    kw: Taps


def panel_channels(s, nr, itemsize):
    """Input channels at a time: as many as a panel of weights has that CACHE_BYTES hold."""
    most = max(1, blocking.CACHE_BYTES * 5 // 8 // (nr * kernel_taps(s) * itemsize))
    return ceil_div(s.c_in, ceil_div(s.c_in, most))


def layout_rows(s, kc, rows, oc_blocks, lanes):
    """Layout of what a task of some output rows and blocks of output channels keeps."""
    channel = s.size[2] | 1  # odd, so that channels use all sets of a cache
    row = kc * channel
    if rows == s.output[1]:
        plane, steps = s.size[1] * row, (s.dilation[1], s.stride[1], -s.padding[1])
    else:
        plane, steps = s.kernel[1] * rows * row, (rows, 1, 0)
    sums = round_up(s.kernel[0] * plane, lanes)
    kept = 0 if kc == s.c_in else oc_blocks * rows * s.output[2] * TILE_VECTORS * lanes
    return Rows(channel, row, plane, *steps, sums, sums + kept)


def has_planes(s, kc, oc_blocks, lanes, threads):
    """Whether each task has all rows of a plane: what it keeps fits, and all threads are busy."""
    planes = s.n * s.groups * s.output[0]
    parts = min(oc_blocks, channel_parts(planes, threads))
    kept = layout_rows(s, kc, s.output[1], ceil_div(oc_blocks, parts), lanes).end
    blocks = planes * oc_blocks
    even = 7 * round_up(blocks, threads) <= 8 * blocks
    return even and kept * VECTOR_BYTES <= MOST_BYTES * lanes


def cut(s, itemsize, threads):
    """Choose the blocks of a problem.

    Where planes are few, tasks of whole planes have a part of the output channels. Each panel of
    weights then serves few tasks, all rows of them, and plain calls pack it as part of the task.
    Otherwise a task has as many rows as fit CACHE_BYTES, and the threads have tasks enough.
    """
    lanes = VECTOR_BYTES // itemsize
    nr = TILE_VECTORS * lanes
    oc_blocks = ceil_div(s.c_out, nr)
    kc = panel_channels(s, nr, itemsize)
    planes, rows = s.n * s.groups * s.output[0], s.output[1]
    if not has_planes(s, kc, oc_blocks, lanes, threads):
        each = layout_rows(s, kc, 1, oc_blocks, lanes).end
        wanted = ceil_div(wanted_tasks(threads), planes)
        in_cache = max(1, blocking.CACHE_BYTES // itemsize // each)
        row_blocks = max(min(rows, wanted), ceil_div(rows, in_cache))
        rows = ceil_div(rows, row_blocks)
    row_blocks = ceil_div(s.output[1], rows)
    blocks = planes * row_blocks
    oc_parts = min(oc_blocks, channel_parts(blocks, threads))
    tasks = blocks * oc_parts
    return MatrixBlocks(nr, oc_blocks, oc_parts, rows, s.output[2], row_blocks, 1, kc, 1, tasks)


def list_channels(s, b, layout):
    """List the channels, which the tile takes for taps: for panels of full width, and a last one.

    Of each there is its offset among the pixels and among the weights. The taps of a row of the
    filter are the tile's channels, at equal distances as those are.
    """
    channel = np.arange(b.kc)
    pixels = channel * layout.channel
    widths = b.mr, s.c_out - (b.oc_blocks - 1) * b.mr
    return np.concatenate([np.stack((pixels, channel * width), axis=1).ravel() for width in widths])


def lower(s, itemsize, threads):
    """Return how this lowering computes a problem."""
    lanes = VECTOR_BYTES // itemsize
    b = cut(s, itemsize, threads)
    layout = layout_rows(s, b.kc, b.rows, ceil_div(b.oc_blocks, b.oc_parts), lanes)
    packing = Packing(b.mr, taps_outer=True)
    if b.tasks <= 2 * b.oc_parts * s.groups:
        panel_size = (b.mr * b.kc + lanes) * kernel_taps(s)
        packing = packing._replace(in_task=True, panel_size=panel_size)
    return Lowering(
        "matrix_zones",
        zones_work,
        zone_tile,
        b,
        list_channels(s, b, layout),
        tile_size(lanes) + packing.panel_size + layout.end,
        layout=layout,
        packing=packing,
    )


@inline
def copied_row(s, b, t, i):
    """Input row that is copied as row i: the i-th, or what a tap of an output row reads."""
    if b.row_blocks == 1:
        return i
    kh = i // b.rows
    return first_read(s, 1, t.oh + i - kh * b.rows) + kh * s.dilation[1]


@inline
def open_rows(job, m, s, b, t, v, kd, c):
    """Copy what a task reads of some channels. Loops: kd; rows; channels; columns."""
    for depth in range(kd.begin, kd.end):
        d = first_read(s, 0, t.od) + depth * s.dilation[0]
        channel = t.g * s.c_in + c.first
        image = t.n * s.in_strides[0] + channel * s.in_strides[1] + d * s.in_strides[2]
        for i in range(v.plane // v.row):
            h = copied_row(s, b, t, i)
            if 0 <= h < s.size[1]:
                target = shift(m.halo, depth * v.plane + i * v.row)
                source = shift(m.x, image + h * s.in_strides[3])
                step, row_step = s.in_strides[4], s.in_strides[1]
                copy_rows(
                    target, v.channel, source, step, row_step, c.many, s.size[2], 0, job[AT.lanes]
                )


@inline
def store_zone(job, m, s, t, zone, panel, sums):
    """Finish a tile and move it to the output, row after row of the zone."""
    lanes = job[AT.lanes]
    step = TILE_VECTORS * lanes
    row_step, column_step = s.out_strides[4], s.out_strides[1]
    at = out_index(s, t, panel.channel) + zone.r * s.out_strides[3] + zone.j * row_step
    for i in range(zone.rows):
        tile, to = shift(sums, i * zone.columns * step), at + i * s.out_strides[3]
        rows, width = zone.columns, panel.width
        finish_tile(job, tile, step, rows, width, True, to, row_step, column_step, NOT_FLAT)
        move_rows(tile, 0, step, rows, width, m.out, to, row_step, column_step, False, lanes)


@inline
def start_tile(job, tile, bias, pixels, width):
    """Set every pixel of a tile to the bias: there may be no tap to do it."""
    lanes = job[AT.lanes]
    for i in range(pixels):
        j = 0
        while j < width:
            copy_lanes(shift(tile, i * TILE_VECTORS * lanes + j), shift(bias, j), width - j)
            j += lanes


@inline
def add_taps(job, m, s, b, v, zone, panel, c, sums):
    """Add the products of a zone's taps, a row of the filter at a time, to the sums of a tile."""
    lanes = job[AT.lanes]
    pixels, step = zone.rows * zone.columns, TILE_VECTORS * lanes
    bias = shift(m.bias, panel.channel)
    vectors = (panel.width + lanes - 1) // lanes
    jump = v.r_step * v.row if zone.rows == 2 else first_half(pixels)
    channels = shift(m.table, 2 * b.kc if panel.width < b.mr else 0)
    taps, accumulate = zone.kw.end - zone.kw.begin, c.accumulate
    column = first_read(s, 2, zone.j) + zone.kw.begin * s.dilation[2]
    for kd in range(zone.kd.begin, zone.kd.end):
        for kh in range(zone.kh.begin, zone.kh.end):
            row = kh * v.kh_step + zone.r * v.r_step + v.first
            tap = (kd * s.kernel[1] + kh) * s.kernel[2] + zone.kw.begin
            if taps > 0:
                # The tile takes the channels for taps, and the taps for channels.
                call(
                    job[AT.tile],
                    ZoneTileArguments(
                        rows=pixels,
                        vectors=vectors,
                        channels=taps,
                        taps=c.many,
                        table=channels,
                        x=m.halo,
                        first=kd * v.plane + row * v.row + column,
                        x_channel=s.dilation[2],
                        jump=jump,
                        w=shift(panel.weights, tap * panel.tap_step),
                        w_channel=panel.tap_step,
                        c=sums,
                        row_step=step,
                        bias=bias,
                        accumulate=accumulate,
                        last=panel.width - (vectors - 1) * lanes,
                    ),
                )
                accumulate = True
    if not accumulate:
        start_tile(job, sums, bias, pixels, panel.width)


@inline
def zones_of_rows(job, m, s, b, t, v, whole, panel, c, sums):
    """All zones of one or two `whole` rows, each in about equal pieces that fit the tile.

    Returns where the sums of the next rows lie.
    """
    step, rows = TILE_VECTORS * job[AT.lanes], whole.rows
    j = 0
    while j < t.cols:
        kw = taps_inside(s, 2, j)
        columns = taps_until(s, 2, kw) - j
        together = rows if rows * columns <= TILE_ROWS else 1
        pieces = (columns + TILE_ROWS - 1) // TILE_ROWS
        for i in range(rows // together):
            for piece in range(pieces):
                first, end = share(columns, piece, pieces)
                r, width = whole.r + i, end - first
                zone = Zone(r, together, j + first, width, whole.kd, whole.kh, kw)
                add_taps(job, m, s, b, v, zone, panel, c, sums)
                if c.final:
                    store_zone(job, m, s, t, zone, panel, sums)
                if v.sums < v.end:
                    sums = shift(sums, zone.rows * zone.columns * step)
        j += columns
    return sums


@inline
def zones_channels(job, m, s, b, t, v, c):
    """Some input channels of a task, for all of its output channels."""
    kd = taps_inside(s, 0, t.od)
    open_rows(job, m, s, b, t, v, kd, c)
    first, end = share(b.oc_blocks, t.part, b.oc_parts)
    sums = shift(m.halo, v.sums) if v.sums < v.end else m.tile
    for block in range(first, end):
        panel = open_panel(job, m, s, b, t, block, c.first, c.many)
        r = 0
        while r < t.rows:
            kh = taps_inside(s, 1, t.oh + r)
            rows = min(2, t.rows - r, taps_until(s, 1, kh) - t.oh - r)
            whole = Zone(r, rows, 0, t.cols, kd, kh, Taps(0, s.kernel[2]))
            sums = zones_of_rows(job, m, s, b, t, v, whole, panel, c, sums)
            r += rows


@native(WorkerArguments)
def zones_work(worker, job, like):
    """Do tasks until none is left."""
    s, b = read_shape(job, SHAPE), read_blocks(job)
    m, v = open_memory(worker, job, like), Rows(*entries(job, HALO, ROWS_SIZE))
    number, queue = next_task(job, b.tasks, worker, 0)
    while number < b.tasks:
        t = locate_task(number, s, b)
        for c0 in range(0, s.c_in, b.kc):
            many = min(b.kc, s.c_in - c0)
            c = Channels(c0, many, c0 > 0, c0 + many == s.c_in)
            zones_channels(job, m, s, b, t, v, c)
        number, queue = next_task(job, b.tasks, worker, queue)
