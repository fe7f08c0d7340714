"""direct, first lowering: the weight matrix times the input, read at each tap's offset.

Loops of a task: pc over input channels, KC at a time; ic over register blocks of MR output
channels; jr over pixels, NR at a time; the tile's own loops over channels and taps. Pixels are
taken along the rows, or, where these are narrow, down columns of tiles; or all rows are one long
vector, in which case what is computed between two of them is dropped.
"""

from typing import NamedTuple

from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pipeline import lightly
from numbaconv.codegen.pointers import call, shift
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu.blocking import (
    CALL_COST,
    NARROW_TILES,
    SEGMENT_COST,
    SINGLES,
    TILE_VECTORS,
    share,
)
from numbaconv.cpu.direct.choice import (
    MOST_NEAR,
    adds_by_parts,
    adds_in_runs,
    reads_rows_in_place,
    reads_signals_in_place,
    stays_cached,
)
from numbaconv.cpu.direct.matrix_blocks import lower_matrix
from numbaconv.cpu.direct.tap_lists import all_taps, plane_taps, row_taps, rows_until
from numbaconv.cpu.direct.tasks import (
    Task,
    locate_task,
    open_memory,
    open_panel,
    open_view,
    out_index,
    read_blocks,
)
from numbaconv.cpu.finishing import NOT_FLAT, Flat, finish_tile
from numbaconv.cpu.job import AT, SHAPE, WorkerArguments, next_task
from numbaconv.cpu.lowering import Lowering
from numbaconv.cpu.microkernels.matrix import TileArguments, prefetching_tile, tile
from numbaconv.cpu.packing.results import move_rows
from numbaconv.problem.shape import kernel_taps, read_shape

# Tiles by which pixels that come from memory are prefetched.
TILES_AHEAD = 4

# Tiles of one call: many, as lines of C are asked for across them, but so few that their outputs
# are still in cache when they are finished.
MOST_TILES = 32


@inline
def move_segments(m, step, rows, s, at, p, width, pitch, cols, gather):
    """Move a tile of flat pixels p, p + 1, ... to the output (or back), row by row.

    Flat pixel r * pitch + c is output (r, c); those with c >= cols are junk and are dropped.
    """
    j = 0
    while j < width:
        r = (p + j) // pitch
        c = p + j - r * pitch
        run = min(cols - c, width - j)
        if run > 0:
            to = at + r * s.out_strides[3] + c * s.out_strides[4]
            row_step, column_step = s.out_strides[1], s.out_strides[4]
            move_rows(
                m.tile,
                j,
                step,
                rows,
                run,
                m.out,
                to,
                row_step,
                column_step,
                gather,
                step // TILE_VECTORS,
            )
            j += run
        else:
            j += pitch - c


class Pixels(NamedTuple):
    """Some pixels that follow one another: the first as a flat one and as (r, c), and how many."""

    first: int
    r: int
    c: int
    width: int


@inline
def multiply_pixels(job, m, s, view, used, panel, at, pixels, cols, accumulate, final):
    """MR channels x some flat pixels.

    One register tile, or several side by side where they are stored straight.
    """
    lanes, rows = job[AT.lanes], panel.width
    p, width = pixels.first, pixels.width
    vectors = min((width + lanes - 1) // lanes, TILE_VECTORS)
    nr = vectors * lanes
    straight = pixels.c + width <= cols and s.out_strides[4] == 1
    target, step = m.tile, TILE_VECTORS * lanes
    if straight:
        to = at + pixels.r * s.out_strides[3] + pixels.c
        target, step = shift(m.out, to), s.out_strides[1]
    elif accumulate:
        move_segments(m, step, rows, s, at, p, width, view.layout.pitch, cols, True)
    blocks = (width + nr - 1) // nr
    from_memory = not view.copied and vectors == TILE_VECTORS and job[AT.prefetching_tile] != 0
    call(
        job[AT.prefetching_tile if from_memory else AT.tile],
        TileArguments(
            rows=rows,
            vectors=vectors,
            channels=used.channels,
            taps=used.taps,
            table=used.first,
            a=panel.weights,
            a_channel=panel.channel_step * used.together,
            b=shift(view.x, view.first + p),
            b_channel=view.layout.channel * used.together,
            c=target,
            row_step=step,
            bias=shift(m.bias, panel.channel),
            accumulate=accumulate,
            last=width - (blocks * vectors - 1) * lanes,
            blocks=blocks,
            b_step=nr,
            c_step=nr,
            prefetch_distance=job[AT.prefetch_distance],
            wanted=view.x,
            wanted_step=0,
            lines=0,
        ),
    )
    flat = Flat(p, cols, view.layout.pitch, s.out_strides[3])
    row_step, column_step = s.out_strides[1], s.out_strides[4]
    finish_tile(job, target, step, rows, width, final, at, row_step, column_step, flat)
    if not straight:
        move_segments(m, step, rows, s, at, p, width, view.layout.pitch, cols, False)


@inline
def tile_width(s, left_of_row, left, lanes):
    """Pixels of the next tiles: as many whole ones as can be stored straight, else one tile.

    At the end of the last row, or of each if they go one by one, that is what remains of it.
    """
    nr = TILE_VECTORS * lanes
    if left_of_row < nr or s.out_strides[4] != 1:
        return min(nr, left)
    return min(left_of_row // nr * nr, MOST_TILES * nr)


@inline
def columns_again(width, c, at_once, lanes):
    """Columns before c that a row's last tile computes again, so that its vectors are whole ones.

    So it reads nothing beyond the row. Channels that are added by parts would be added twice.
    """
    short = -width % lanes
    return short if at_once and short <= c else 0


@inline
def multiply_along(job, m, s, t, view, plane, panel, flat, accumulate, final):
    """MR channels x the pixels of a task, NR at a time: all as one long row, or row by row."""
    at_once = final and not accumulate
    pitch = view.layout.pitch
    at, count = out_index(s, t, panel.channel), (t.rows - 1) * pitch + t.cols
    length = count if flat else t.cols
    used = all_taps(plane, s) if flat else row_taps(plane, t.oh)
    p, r, c, end = 0, 0, 0, length
    while p < count:
        width = tile_width(s, min(t.cols - c, end - p), end - p, job[AT.lanes])
        again = columns_again(width, c, at_once and c + width <= t.cols, job[AT.lanes])
        pixels = Pixels(first=p - again, r=r, c=c - again, width=width + again)
        multiply_pixels(job, m, s, view, used, panel, at, pixels, t.cols, accumulate, final)
        p += width
        c += width
        while c >= pitch:
            c -= pitch
            r += 1
        if c >= t.cols:  # the junk between two rows
            p += pitch - c
            c = 0
            r += 1
        if p >= end:
            end = min(count, p + length)
            if p < count and t.oh + r == used.until:
                used = row_taps(plane, t.oh + r)


@inline
def multiply_rows(job, m, s, t, view, used, panel, r, rows, accumulate, final):
    """MR channels x some rows under the same taps: NR columns of all, then the next ones.

    Columns at the ends that read padding alone have tiles of their own.
    """
    lanes, nr = job[AT.lanes], TILE_VECTORS * job[AT.lanes]
    at, p = out_index(s, t, panel.channel) + r * s.out_strides[3], r * view.layout.pitch
    begin, behind = job[AT.empty_before], t.cols - job[AT.empty_behind]
    c = 0
    while c < t.cols:
        inside = begin <= c < behind
        first, end = (begin, behind) if inside else (0, begin) if c < begin else (behind, t.cols)
        taps, channels = (used.taps, used.channels) if inside else (1, 1)
        width = min(nr, end - c)
        again = columns_again(width, c - first, final and not accumulate, lanes)
        c -= again
        width += again
        vectors = (width + lanes - 1) // lanes
        call(
            job[AT.tile],
            TileArguments(
                rows=panel.width,
                vectors=vectors,
                channels=channels,
                taps=taps,
                table=used.first,
                a=panel.weights,
                a_channel=panel.channel_step * used.together,
                b=shift(view.x, view.first + p + c),
                b_channel=view.layout.channel * used.together,
                c=shift(m.out, at + c),
                row_step=s.out_strides[1],
                bias=shift(m.bias, panel.channel),
                accumulate=accumulate,
                last=width - (vectors - 1) * lanes,
                blocks=rows,
                b_step=view.layout.pitch,
                c_step=s.out_strides[3],
                prefetch_distance=0,
                wanted=view.x,
                wanted_step=0,
                lines=0,
            ),
        )
        c += width


@inline
def multiply_down(job, m, s, t, view, plane, panel, accumulate, final):
    """MR channels x the pixels of a task, down its rows: those at the border by themselves."""
    used, r = all_taps(plane, s), 0
    apart = used.channels * plane.each * panel.width * min(t.cols, TILE_VECTORS * job[AT.lanes])
    while r < t.rows:
        end = t.rows
        if apart > CALL_COST * job[AT.lanes]:
            used = row_taps(plane, t.oh + r)
            end = min(end, used.until - t.oh)
        multiply_rows(job, m, s, t, view, used, panel, r, end - r, accumulate, final)
        r = end
    at, step = out_index(s, t, panel.channel), s.out_strides[1]
    for _ in range(t.rows):
        target = shift(m.out, at)
        finish_tile(job, target, step, panel.width, t.cols, final, at, step, 1, NOT_FLAT)
        at += s.out_strides[3]


@inline
def join_rows(s, view, t):
    """Return a task with its rows as one, if they lie behind one another and have the same taps.

    So they do, in the output and in a halo tile as wide as they are, where windows do not overlap:
    patches, and pointwise layers under a stride. It pays with a short k.
    """
    neighbours = view.layout.pitch == t.cols and s.out_strides[3] == t.cols * s.out_strides[4]
    if not neighbours or rows_until(view.table, t.oh) < t.oh + t.rows:
        return t
    return Task(t.n, t.g, t.od, t.oh, t.ow, 1, t.rows * t.cols, t.part, t.groups)


@inline
def multiply_channels(job, m, s, b, t, c0, channels):
    """Some input channels of a task, for all of its output channels."""
    view = open_view(m, s, job, t, c0, channels, 0, 0)
    t = join_rows(s, view, t)
    lanes, k_size = job[AT.lanes], channels * kernel_taps(s)
    width = t.cols - job[AT.empty_before] - job[AT.empty_behind]
    by_rows = t.rows * ((width + lanes - 1) // lanes)
    if width <= lanes:
        by_rows += t.rows // SINGLES
    saved = by_rows - ((t.rows - 1) * view.layout.pitch + t.cols + lanes - 1) // lanes
    narrow = t.cols < NARROW_TILES * TILE_VECTORS * lanes
    down = narrow and s.out_strides[4] == 1 and saved * k_size <= SEGMENT_COST * by_rows
    final = c0 + channels == s.c_in
    first, end = share(b.oc_blocks, t.part, b.oc_parts)
    for block in range(first, end):
        panel = open_panel(job, m, s, b, t, block, c0, channels)
        plane = plane_taps(view.table, s, t.od, panel.width < b.mr, channels)
        if down:
            multiply_down(job, m, s, t, view, plane, panel, c0 > 0, final)
        else:
            multiply_along(job, m, s, t, view, plane, panel, saved > 0, c0 > 0, final)


@native(WorkerArguments, lightly)
def multiply_work(worker, job, like):
    """Do tasks until none is left."""
    s, b = read_shape(job, SHAPE), read_blocks(job)
    m = open_memory(worker, job, like)
    number, queue = next_task(job, b.tasks, worker, 0)
    while number < b.tasks:
        t = locate_task(number, s, b)
        for c0 in range(0, s.c_in, b.kc):
            multiply_channels(job, m, s, b, t, c0, min(b.kc, s.c_in - c0))
        number, queue = next_task(job, b.tasks, worker, queue)


def lower(s, itemsize, threads):
    """Return how this lowering computes a problem."""
    lanes = VECTOR_BYTES // itemsize
    in_place, inside = reads_rows_in_place(s, lanes), reads_signals_in_place(s, lanes)
    near = stays_cached(s, lanes, MOST_NEAR) and not adds_by_parts(s, lanes)
    near = near or adds_in_runs(s, lanes)
    ahead = 0 if near else TILES_AHEAD * TILE_VECTORS * lanes
    return Lowering(
        "matrix",
        multiply_work,
        tile,
        prefetching_tile=prefetching_tile if ahead and (in_place or inside) else None,
        prefetch_distance=ahead,
        **lower_matrix(s, itemsize, threads, False, in_place, inside),
    )
