"""direct, second lowering: rows of one channel fill the register block.

It serves groups of few output channels: image filters and depthwise layers. Loops of a task: the
columns at the padding and those between, if these are worth reading in place; pc over input
channels, KC at a time; output channels; output rows, MR at a time; columns, a few vectors at a
time; input channels, kd and phases; the band's own loops over kh and kw.
"""

from typing import NamedTuple

import numpy as np

from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import before_line, call, fence, shift
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu.blocking import (
    BAND_ROWS,
    BAND_VECTORS,
    FOLD_DEPTH,
    FOLD_VECTORS,
    most_of,
    share,
)
from numbaconv.cpu.direct.blocks import (
    halo_elements,
)
from numbaconv.cpu.direct.choice import nontemporal_bands, reads_bands_in_place
from numbaconv.cpu.direct.filter_blocks import INSIDE_VECTORS, MOST_FOLDED, MOST_VECTORS, cut
from numbaconv.cpu.direct.tasks import (
    Task,
    View,
    locate_task,
    open_memory,
    open_view,
    out_index,
    read_blocks,
    tile_size,
)
from numbaconv.cpu.finishing import NOT_FLAT, finish_tile
from numbaconv.cpu.job import AT, SHAPE, WorkerArguments, next_task
from numbaconv.cpu.lowering import Lowering
from numbaconv.cpu.microkernels.band import BandArguments, band
from numbaconv.cpu.microkernels.fold import FoldArguments, fold
from numbaconv.cpu.packing.halo import (
    filler,
    halo_layout,
    plane_place,
    tap_offsets,
    tap_offsets_in_place,
)
from numbaconv.cpu.packing.results import move_rows
from numbaconv.problem.shape import kernel_taps, read_shape
from numbaconv.problem.taps import first_read


class Columns(NamedTuple):
    """The columns of one call.

    Attributes
    ----------
    rows, vectors, blocks : int
        Rows and vectors of a block; blocks side by side.
    last : int
        Lanes of the last vector that belong to the result.
    target, step : pointer, int
        Where the result goes; elements from one row to the next.
    nontemporal : bool
        Whether it is stored past the caches.
    """

    rows: int
    vectors: int
    blocks: int
    last: int
    target: object
    step: int
    nontemporal: bool


@inline
def filter_tiles(job, s, view, weights, channels, at, columns, bias, accumulate):
    """MR output rows x some blocks of columns: all input channels, kd and phases of rows."""
    height, width = s.kernel[1], s.kernel[2]
    layout, phases = view.layout, view.layout.phases_h
    # Rows that share input rows are a dilation apart; a stride has phases instead.
    x_step = layout.pitch * s.dilation[1] if s.stride[1] == 1 else layout.pitch
    for c in range(channels):
        for kd in range(s.kernel[0]):
            for q in range(phases):
                plane = plane_place(s, layout, kd, view.rotation)
                x = view.first + at + c * layout.channel + plane + q * layout.phase
                w = ((c * s.kernel[0] + kd) * height + q) * width
                add = accumulate or c + kd + q > 0
                call(
                    job[AT.band],
                    BandArguments(
                        rows=columns.rows,
                        vectors=columns.vectors,
                        kh=(height - q + phases - 1) // phases,
                        kw=width,
                        x=shift(view.x, x),
                        x_step=x_step,
                        columns=view.table,
                        w=shift(weights, w),
                        w_step=width * phases,
                        c=columns.target,
                        row_step=columns.step,
                        bias=bias,
                        accumulate=add,
                        last=columns.last,
                        blocks=columns.blocks,
                        nontemporal=columns.nontemporal,
                    ),
                )


@inline
def fold_taps(job, kernel, x, w, w_step, columns, bias, accumulate):
    """All taps of one channel, phase and row: as rows of one vector each, FOLD_DEPTH at a time.

    The last of these rows may be partial: its columns have one tap more than the others.
    """
    lanes = job[AT.lanes]
    depth = (kernel + lanes - 1) // lanes
    parts = (depth + FOLD_DEPTH - 1) // FOLD_DEPTH
    for part in range(parts):
        a0, a1 = share(depth, part, parts)
        whole = kernel - (depth - 1) * lanes if part == parts - 1 else lanes
        for k in (0, whole):
            rows, taps = (a1 - a0, whole) if k == 0 else (a1 - a0 - 1, lanes - whole)
            if rows > 0 and taps > 0:
                first = a0 * lanes + k
                call(
                    job[AT.tile],
                    FoldArguments(
                        depth=rows,
                        vectors=columns.vectors,
                        kw=taps,
                        x=shift(x, first),
                        w=shift(w, first * w_step),
                        w_step=w_step,
                        c=columns.target,
                        bias=bias,
                        accumulate=accumulate or first > 0,
                        last=columns.last,
                        blocks=columns.blocks,
                    ),
                )


@inline
def fold_tiles(job, s, view, weights, channels, at, columns, bias, accumulate):
    """Some blocks of columns of one output row: all input channels, kd and phases of columns."""
    layout, width = view.layout, s.kernel[2]
    for c in range(channels):
        for kd in range(s.kernel[0]):
            for q in range(layout.phases_w):
                plane = plane_place(s, layout, kd, view.rotation)
                x = shift(view.x, view.first + at + c * layout.channel + plane + q * layout.plane)
                w = shift(weights, (c * s.kernel[0] + kd) * width + q)
                taps = (width - q + layout.phases_w - 1) // layout.phases_w
                add = accumulate or c + kd + q > 0
                fold_taps(job, taps, x, w, layout.phases_w, columns, bias, add)


@inline
def next_columns(job, target, left):
    """How many of what is left of a row come next: those before a cache line begins, or all."""
    before = before_line(target) * job[AT.lanes] // VECTOR_BYTES if job[AT.nontemporal] != 0 else 0
    return min(before, left) if before > 0 else left


@inline
def filter_rows(job, m, s, t, view, weights, channels, channel, r, rows, accumulate, final):
    """`rows` output rows, a dilation apart: their columns, a few vectors at a time."""
    lanes = job[AT.lanes]
    folds = job[AT.tile] != 0
    first = 0
    row_step, column_step = s.dilation[1] * s.out_strides[3], s.out_strides[4]
    bias = shift(m.bias, channel)
    while first < t.cols:
        at = out_index(s, t, channel) + r * s.out_strides[3] + first * column_step
        target, step = shift(m.out, at), row_step
        cols = next_columns(job, target, t.cols - first)
        left = (cols + lanes - 1) // lanes
        vectors = most_of(FOLD_VECTORS, left) if folds else most_of(BAND_VECTORS, left)
        most = MOST_FOLDED if folds else MOST_VECTORS
        blocks = min(max(cols // (vectors * lanes), 1), most // vectors)
        if column_step != 1:
            target, step, blocks = m.tile, BAND_VECTORS[-1] * lanes, 1
        width = min(blocks * vectors * lanes, cols)
        if column_step != 1 and accumulate:
            move_rows(target, 0, step, rows, width, m.out, at, row_step, column_step, True, lanes)
        corner = r * view.layout.pitch + first
        last = width - (blocks * vectors - 1) * lanes
        nontemporal = job[AT.nontemporal] != 0 and last == lanes and before_line(target) == 0
        columns = Columns(rows, vectors, blocks, last, target, step, nontemporal)
        if folds:
            fold_tiles(job, s, view, weights, channels, corner, columns, bias, accumulate)
        else:
            filter_tiles(job, s, view, weights, channels, corner, columns, bias, accumulate)
        finish_tile(job, target, step, rows, width, final, at, row_step, column_step, NOT_FLAT)
        if column_step != 1:
            move_rows(target, 0, step, rows, width, m.out, at, row_step, column_step, False, lanes)
        first += width


@inline
def filter_group(job, m, s, t, view, g, c0, channels):
    """Some input channels of a group: output channels one at a time, rows MR at a time."""
    apart = s.dilation[1]
    final = c0 + channels == s.c_in
    for oc in range(s.c_out):
        channel = g * s.c_out + oc
        weights = shift(m.weights, (channel * s.c_in + c0) * kernel_taps(s))
        for residue in range(min(apart, t.rows)):
            r = residue
            while r < t.rows:
                left = (t.rows - r + apart - 1) // apart
                rows = 1 if job[AT.tile] != 0 else most_of(BAND_ROWS, left)
                filter_rows(job, m, s, t, view, weights, channels, channel, r, rows, c0 > 0, final)
                r += rows * apart


@inline
def columns_of(t, first, until):
    """Some columns of a task."""
    return Task(t.n, t.g, t.od, t.oh, t.ow + first, t.rows, until - first, t.part, t.groups)


@inline
def rotates_planes(s, b):
    """Whether a halo tile may keep the planes that the next task reads too, all but the last."""
    return s.kernel[0] > 1 and s.stride[0] == 1 and s.dilation[0] == 1 and b.kc == s.c_in


@inline
def filter_task(job, m, s, b, t, kept):
    """All groups of a task, KC input channels at a time, out of one halo tile.

    Returns whether there is one.
    """
    rotation = t.od % s.kernel[0] if rotates_planes(s, b) else 0
    copied = False
    for c0 in range(0, s.c_in, b.kc):
        channels = min(b.kc, s.c_in - c0)
        view = open_view(m, s, job, t, c0, channels * t.groups, kept, rotation)
        copied = view.copied
        for i in range(t.groups):
            first = view.first + i * s.c_in * view.layout.channel
            group = View(view.x, first, view.table, view.layout, view.step, view.rotation, copied)
            filter_group(job, m, s, t, group, t.g + i, c0, channels)
    return copied


@inline
def cut_at_padding(job, s, t):
    """Where the columns of a task begin, and end, that meet no padding; or nowhere, if few do.

    Those in between are whole vectors. They are read in place, and only the others copied.
    """
    lanes = job[AT.lanes]
    first = -first_read(s, 2, t.ow)
    begin = max(0, (first + lanes - 1) // lanes * lanes)
    reach = s.size[2] + first - (s.kernel[2] - 1) * s.dilation[2]
    end = t.cols if t.cols <= reach else begin + (reach - begin) // lanes * lanes
    enough = end - begin >= INSIDE_VECTORS * lanes
    return (begin, end) if job[AT.taps_in_place] != 0 and enough else (0, 0)


@native(WorkerArguments)
def filter_work(worker, job, like):
    """Do tasks until none is left."""
    s, b = read_shape(job, SHAPE), read_blocks(job)
    m = open_memory(worker, job, like)
    number, queue = next_task(job, b.tasks, worker, 0)
    held = -1  # the task whose planes the halo tile holds
    while number < b.tasks:
        t = locate_task(number, s, b)
        begin, end = cut_at_padding(job, s, t)
        follows = rotates_planes(s, b) and t.od > 0 and number == held + 1
        kept = s.kernel[0] - 1 if follows and begin == end else 0
        for first, until in ((0, begin), (begin, end), (end, t.cols)):
            if first < until:
                copied = filter_task(job, m, s, b, columns_of(t, first, until), kept)
                held = number if copied else -1
        number, queue = next_task(job, b.tasks, worker, queue)
    if job[AT.nontemporal] != 0:
        fence()


def lower_rows(name, s, itemsize, threads, folds):
    """What bands and folds have in common; a fold is the tile of a job, which a band has not."""
    lanes = VECTOR_BYTES // itemsize
    b = cut(s, itemsize, threads, folds)
    layout = halo_layout(s, b.rows, b.cols, itemsize)
    tables = [tap_offsets(s, layout, 1)]
    if reads_bands_in_place(s):
        tables.append(tap_offsets_in_place(s))
    return Lowering(
        name,
        filter_work,
        fold if folds else None,
        b,
        np.concatenate(tables),
        tile_size(lanes) + halo_elements(b, layout, lanes),
        layout=layout,
        fill_halo=filler(s, layout, lanes),
        band=band,
        taps_in_place=tables[0].size if len(tables) > 1 else 0,
        nontemporal=not folds and nontemporal_bands(s, lanes, threads),
    )


def lower(s, itemsize, threads):
    """Return how this lowering computes a problem."""
    return lower_rows("filter_rows", s, itemsize, threads, folds=False)


def lower_folds(s, itemsize, threads):
    """Return how it does so a row at a time, its taps folded."""
    return lower_rows("filter_folds", s, itemsize, threads, folds=True)
