"""The tasks of a walk.

Loops of a task: the rows of a block of planes and a strip of lanes, a few at a time. For these the
rows that they need and that are not there yet are read into the ring, through the pass along the
planes; then come the pass along the rows, the pass along the lanes, and the way out.
"""

from typing import NamedTuple

from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import behind, call, indices_at, pointer_at, shift
from numbaconv.cpu.job import AT, WorkerArguments, next_task
from numbaconv.cpu.microkernels.tap_sums import TapSumsArguments
from numbaconv.cpu.separable.borders import CONSTANT, inner_index
from numbaconv.cpu.separable.rows import ReadRowArguments, WriteRowArguments, fill
from numbaconv.cpu.separable.walk import (
    AXIS_SIZE,
    CONSTANT_AT,
    LANE_TAPS,
    PLANE_TAPS,
    ROW_TAPS,
    read_axis,
    read_taps,
    read_walk,
)

# In the place of an element at which a plane begins: it is the constant's.
_OUTSIDE = -(1 << 62)


class Part(NamedTuple):
    """What a task writes.

    Attributes
    ----------
    out : int
        Element of the output at which its planes begin.
    blocks : int
        Planes.
    row0, row1 : int
        Its rows.
    lane0, lanes : int
        Its first lane, and how many.
    """

    out: int
    blocks: int
    row0: int
    row1: int
    lane0: int
    lanes: int


class Scratch(NamedTuple):
    """Memory of a worker: rows `pitch` apart, the planes of the ring `ring_plane`.

    Attributes
    ----------
    ring : pointer
        Rows that the pass along the rows reads.
    bundle : pointer
        A row of each plane.
    rows, results : pointer
        What the passes along the rows and the lanes store.
    bases, lists : pointer
        The element at which each plane begins, and lists of offsets.
    """

    ring: object
    bundle: object
    rows: object
    results: object
    bases: object
    lists: object


@inline
def row_width(w, part):
    """Lanes of a row in scratch: with those that the taps of a sum reach."""
    return part.lanes + w.lane_before + w.lane_after


@inline
def locate(table, w, number, bases):
    """What a task writes; the planes that it reads are written to `bases`."""
    strip, rest = number % w.strips, number // w.strips
    row_block, rest = rest % w.row_blocks, rest // w.row_blocks
    out, blocks, planes = 0, 1, 1
    bases[0] = 0
    for i in range(w.axes):
        axis = read_axis(table, w.axes_at + i * AXIS_SIZE)
        first, rest = rest % axis.blocks * axis.block, rest // axis.blocks
        out += first * axis.out_step
        if axis.block > 1:
            blocks = min(axis.block, axis.size - first)
        for k in range(axis.window - 1, -1, -1):
            index = inner_index(first - axis.before + k, axis.size, axis.mode)
            for plane in range(planes):
                base = bases[plane]
                if index < 0:
                    base = _OUTSIDE
                elif base != _OUTSIDE:
                    base += index * axis.in_step
                bases[k * planes + plane] = base
        planes *= axis.window
    row0, lane0 = row_block * w.row_block, strip * w.strip
    row1, lanes = min(row0 + w.row_block, w.rows), min(w.strip, w.lanes - lane0)
    return Part(out, blocks, row0, row1, lane0, lanes)


@inline
def read_lanes(job, w, target, base, first, count, constant):
    """Read some lanes of a row, from `first` on, with what lies outside of it."""
    begin, end = max(first, 0), min(first + count, w.lanes)
    call(
        job[AT.fill_halo],
        ReadRowArguments(
            shift(target, begin - first),
            behind(job[AT.x], base + begin * w.lane_in, w.in_size),
            w.lane_in,
            end - begin,
        ),
    )
    for edge in range(count - end + begin):
        j = edge if edge < begin - first else edge + end - begin
        pixel = (first + j) // w.pixel
        inside = inner_index(pixel, w.lanes // w.pixel, w.lane_mode)
        if inside < 0:
            target[j] = constant
        else:
            lane = first + j + (inside - pixel) * w.pixel
            if begin <= lane < end:
                target[j] = target[lane - first]
            else:
                call(
                    job[AT.fill_halo],
                    ReadRowArguments(
                        shift(target, j),
                        behind(job[AT.x], base + lane * w.lane_in, w.in_size),
                        1,
                        1,
                    ),
                )


@inline
def read_ring_row(job, table, w, part, scratch, weights, row, slot):
    """Bring a row of all planes into the ring."""
    constant, width = weights[CONSTANT_AT], row_width(w, part)
    index = inner_index(row, w.rows, w.row_mode)
    taps = read_taps(table, PLANE_TAPS)
    for i in range(w.planes):
        target = shift(scratch.ring, i * w.ring_plane + slot * w.pitch)
        if taps.taps > 0:
            target = shift(scratch.bundle, i * w.pitch)
        base = scratch.bases[i]
        if base == _OUTSIDE or index < 0:
            fill(target, width, constant)
        else:
            at = base + index * w.row_in
            read_lanes(job, w, target, at, part.lane0 - w.lane_before, width, constant)
    if taps.taps > 0 and index < 0:
        for i in range(part.blocks):
            fill(shift(scratch.ring, i * w.ring_plane + slot * w.pitch), width, constant)
    elif taps.taps > 0:
        call(
            job[AT.tile],
            TapSumsArguments(
                target=shift(scratch.ring, slot * w.pitch),
                target_step=w.ring_plane,
                source=scratch.bundle,
                source_step=w.pitch,
                offsets=shift(table, taps.offsets),
                offset_step=0,
                weights=shift(weights, taps.weights),
                taps=taps.taps,
                kind=taps.kind,
                rows=part.blocks,
                vectors=(width + job[AT.lanes] - 1) // job[AT.lanes],
                divides=taps.divides,
                truncates=taps.truncates,
            ),
        )


@inline
def list_row_taps(table, w, taps, lists, first, rows):
    """Write the offsets of the pass along the rows: a list for each row of sums.

    `first` is the row that the first tap of the first sum reads, counted from the task's first.
    """
    for r in range(rows):
        for t in range(taps.entries):
            at = taps.offsets + 3 * t
            slot = (first + r + table[at + 1]) % w.ring
            offset = table[at] * w.ring_plane + slot * w.pitch + table[at + 2]
            lists[r * taps.entries + t] = offset


@inline
def restore_constant(w, part, rows, count, constant):
    """Set what lies outside of rows to the constant: passes along other axes have changed it."""
    width, before = row_width(w, part), max(0, w.lane_before - part.lane0)
    end = min(width, w.lanes - part.lane0 + w.lane_before)
    for r in range(count):
        fill(shift(rows, r * w.pitch), before, constant)
        fill(shift(rows, r * w.pitch + end), width - end, constant)


@inline
def finish_rows(job, table, w, part, scratch, weights, plane, row, rows):
    """Compute and store some rows of a plane."""
    source = shift(scratch.ring, plane * w.ring_plane)
    along_rows, along_lanes = read_taps(table, ROW_TAPS), read_taps(table, LANE_TAPS)
    vector = job[AT.lanes]
    width = row_width(w, part) if along_lanes.taps > 0 else part.lanes
    if along_rows.taps > 0:
        call(
            job[AT.tile],
            TapSumsArguments(
                target=scratch.rows,
                target_step=w.pitch,
                source=source,
                source_step=0,
                offsets=scratch.lists,
                offset_step=along_rows.entries,
                weights=shift(weights, along_rows.weights),
                taps=along_rows.taps,
                kind=along_rows.kind,
                rows=rows,
                vectors=(width + vector - 1) // vector,
                divides=along_rows.divides,
                truncates=along_rows.truncates,
            ),
        )
        source = scratch.rows
    if along_lanes.taps > 0:
        if w.lane_mode == CONSTANT:
            restore_constant(w, part, source, rows, weights[CONSTANT_AT])
        call(
            job[AT.tile],
            TapSumsArguments(
                target=scratch.results,
                target_step=w.pitch,
                source=source,
                source_step=w.pitch,
                offsets=shift(table, along_lanes.offsets),
                offset_step=0,
                weights=shift(weights, along_lanes.weights),
                taps=along_lanes.taps,
                kind=along_lanes.kind,
                rows=rows,
                vectors=(part.lanes + vector - 1) // vector,
                divides=along_lanes.divides,
                truncates=along_lanes.truncates,
            ),
        )
        source = scratch.results
    at = part.out + plane * w.block_out + row * w.row_out + part.lane0 * w.lane_out
    for r in range(rows):
        target = behind(job[AT.out], at + r * w.row_out, w.out_size)
        source_row = shift(source, r * w.pitch)
        call(job[AT.store], WriteRowArguments(source_row, target, w.lane_out, part.lanes))


@inline
def do_task(job, table, w, part, scratch, weights):
    """Go down the rows of a task."""
    taps = read_taps(table, ROW_TAPS)
    fresh, row = 0, part.row0
    while row < part.row1:
        rows = min(w.step, part.row1 - row)
        needed = row - part.row0 + rows + w.row_window - 1
        while fresh < needed:
            at = part.row0 - w.row_before + fresh
            read_ring_row(job, table, w, part, scratch, weights, at, fresh % w.ring)
            fresh += 1
        list_row_taps(table, w, taps, scratch.lists, row - part.row0, rows)
        for plane in range(part.blocks):
            finish_rows(job, table, w, part, scratch, weights, plane, row, rows)
        row += rows


@native(WorkerArguments)
def walk_work(worker, job, like):
    """Do tasks until none is left."""
    table = indices_at(job[AT.table])
    w, weights = read_walk(table), pointer_at(job[AT.packed], like)
    memory = shift(pointer_at(job[AT.scratch], like), worker * job[AT.scratch_size])
    indices = shift(indices_at(job[AT.indices]), worker * job[AT.index_size])
    row_lists = shift(indices, w.planes)
    rows = shift(memory, w.ring_planes * w.ring_plane)
    results = shift(rows, w.step * w.pitch)
    bundle = shift(results, w.step * w.pitch)
    scratch = Scratch(memory, bundle, rows, results, indices, row_lists)
    number, queue = next_task(job, w.tasks, worker, 0)
    while number < w.tasks:
        part = locate(table, w, number, indices)
        do_task(job, table, w, part, scratch, weights)
        number, queue = next_task(job, w.tasks, worker, queue)
