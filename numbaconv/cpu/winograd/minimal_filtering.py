"""Convolutions of small kernels by Winograd's minimal filtering.

Loops, outermost first: tasks (group, rows of tiles, tiles of a row, part of the output channels),
shared out over the threads; runs of rows of one plane and input channels, whose halo tiles are
copied and transformed; blocks of output channels; points, at each of which the weights times the
inputs are a matrix product over the input channels; output channels, whose products are transformed
back and stored. So what a worker needs is the values of a task's tiles at the points.
"""

from typing import Any, NamedTuple

import numpy as np

from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import behind, call, indices_at, pointer_at, shift
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu.activation import ActivateArguments
from numbaconv.cpu.blocking import TILE_VECTORS, share
from numbaconv.cpu.finishing import AddArguments
from numbaconv.cpu.job import (
    AT,
    HALO,
    MOST_HALO,
    SHAPE,
    WorkerArguments,
    next_task,
    places,
    size_within,
)
from numbaconv.cpu.lowering import Lowering, Packing
from numbaconv.cpu.microkernels.matrix import TileArguments, tile
from numbaconv.cpu.microkernels.minimal_filters import (
    PassArguments,
    evaluate,
    evaluate_taps,
    interpolate,
)
from numbaconv.cpu.packing.halo import HALO_SIZE, FillHaloArguments, Halo, filler
from numbaconv.cpu.packing.results import move_rows
from numbaconv.cpu.packing.rows import copy_rows, fill
from numbaconv.cpu.packing.weights import block_rows, pack_block
from numbaconv.cpu.winograd.layout import AT_TABLE, PACKED_TOGETHER, make_table, tile_problem
from numbaconv.cpu.winograd.tiles import Tiles, cut
from numbaconv.problem.shape import ConvShape, read_shape


class Functions(NamedTuple):
    """Functions that workers call; as `CALLED`, where their addresses lie: behind the layout."""

    evaluate: Any
    evaluate_taps: Any
    interpolate: Any


CHANNEL = Halo._fields.index("channel")
CALLED: Functions = places(Functions, HALO + HALO_SIZE)
size_within(Functions, MOST_HALO - HALO_SIZE)


class Memory(NamedTuple):
    """The pointers of a worker: the problem's arrays, and its own scratch; see `layout.Layout`."""

    packed: object
    bias: object
    out: object
    halo: object
    cells: object
    values: object
    products: object
    results: object
    zeros: object


class Task(NamedTuple):
    """Which tiles and output channels a task has.

    Attributes
    ----------
    group : int
        The group.
    row, rows : int
        First row of tiles, counted through all images, and how many.
    column, columns : int
        First tile of a row, and how many.
    begin, end : int
        Register blocks of output channels.
    """

    group: int
    row: int
    rows: int
    column: int
    columns: int
    begin: int
    end: int


class Run(NamedTuple):
    """Rows of tiles of one plane: image, plane of tiles, first row, and how many."""

    image: int
    plane: int
    first: int
    rows: int


@inline
def find_memory(job, table, worker, like):
    """The pointers of a worker."""
    scratch = shift(pointer_at(job[AT.scratch], like), worker * job[AT.scratch_size])
    return Memory(
        pointer_at(job[AT.packed], like),
        pointer_at(job[AT.bias], like),
        pointer_at(job[AT.out], like),
        shift(scratch, table[AT_TABLE.halo]),
        shift(scratch, table[AT_TABLE.cells]),
        shift(scratch, table[AT_TABLE.values]),
        shift(scratch, table[AT_TABLE.products]),
        shift(scratch, table[AT_TABLE.results]),
        shift(scratch, table[AT_TABLE.zeros]),
    )


@inline
def locate_task(table, number):
    """Decode a task number: parts of the output channels run fastest."""
    rest, part = number // table[AT_TABLE.parts], number % table[AT_TABLE.parts]
    begin, end = share(table[AT_TABLE.blocks], part, table[AT_TABLE.parts])
    rest, column = rest // table[AT_TABLE.column_blocks], rest % table[AT_TABLE.column_blocks]
    group, block = rest // table[AT_TABLE.row_blocks], rest % table[AT_TABLE.row_blocks]
    row, column = block * table[AT_TABLE.rows], column * table[AT_TABLE.columns]
    rows = min(table[AT_TABLE.rows], table[AT_TABLE.all_rows] - row)
    columns = min(table[AT_TABLE.columns], table[AT_TABLE.count_2] - column)
    return Task(group, row, rows, column, columns, begin, end)


@inline
def find_run(table, t, done):
    """The rows of a task from the given one on that are of one plane."""
    each = table[AT_TABLE.count_1]
    above = (t.row + done) // each
    first = t.row + done - above * each
    image = above // table[AT_TABLE.count_0]
    plane = above - image * table[AT_TABLE.count_0]
    return Run(image, plane, first, min(each - first, t.rows - done))


@inline
def pass_of(table, passes, i):
    """Where the table has a pass of a transform."""
    return shift(table, table[table[passes] + i])


@inline
def read_inputs(job, table, s, m, t):
    """Transform all input channels of a task's tiles."""
    together = table[AT_TABLE.halo_channels]
    done = 0
    while done < t.rows:
        run = find_run(table, t, done)
        for c0 in range(0, s.c_in, together):
            channels = min(together, s.c_in - c0)
            copy_halo(job, table, s, m, t, run, c0, channels)
            for c in range(channels):
                halo = shift(m.halo, c * job[HALO + CHANNEL])
                at = (c0 + c) * table[AT_TABLE.pitch] + done * table[AT_TABLE.columns]
                evaluate_inputs(job, table, m, halo, shift(m.values, at), run.rows)
        done += run.rows


@inline
def evaluate_inputs(job, table, m, halo, values, rows):
    """Transform some rows of tiles of a channel."""
    last, lanes = table[AT_TABLE.passes] - 1, job[AT.lanes]
    source = halo
    for i in range(last + 1):
        target = values if i == last else m.cells
        vectors = table[AT_TABLE.width if i == last else AT_TABLE.row] // lanes
        step = pass_of(table, AT_TABLE.input_passes, i)
        call(job[CALLED.evaluate], PassArguments(target, source, step, rows, vectors, m.zeros))
        source = m.cells


@inline
def clear_behind(job, table, s, m, tiles, vectors):
    """Set to zero what the products read behind a task's last row of tiles, and nobody writes.

    What happens to lie there may be denormal, and such products take a hundred times as long.
    """
    written = tiles - table[AT_TABLE.columns] + table[AT_TABLE.width]
    count = vectors * job[AT.lanes] - written
    for point in range(table[AT_TABLE.points] if count > 0 else 0):
        for c in range(s.c_in):
            at = point * table[AT_TABLE.point] + c * table[AT_TABLE.pitch] + written
            fill(shift(m.values, at), count, 0, job[AT.lanes])


@inline
def copy_halo(job, table, s, m, t, run, c0, channels):
    """Copy what the tiles of a run read, for some input channels."""
    call(
        job[AT.fill_halo],
        FillHaloArguments(
            target=m.halo,
            x=behind(job[AT.x], run.image * s.in_strides[0], job[AT.in_size]),
            job=job,
            channel0=t.group * s.c_in + c0,
            channels=channels,
            d0=run.plane * table[AT_TABLE.outputs_0] - s.padding[0],
            h0=run.first * table[AT_TABLE.outputs_1] - s.padding[1],
            w0=t.column * table[AT_TABLE.outputs_2] - s.padding[2],
            rows=run.rows * table[AT_TABLE.outputs_1],
            cols=t.columns * table[AT_TABLE.outputs_2],
            kept=0,
            rotation=0,
        ),
    )


@inline
def multiply_panels(job, table, s, m, a, b, c, rows, vectors, blocks):
    """A register block of output channels times some panels of tiles, at a point."""
    lanes = job[AT.lanes]
    call(
        job[AT.tile],
        TileArguments(
            rows=rows,
            vectors=vectors,
            channels=s.c_in,
            taps=1,
            table=table,
            a=a,
            a_channel=rows,
            b=b,
            b_channel=table[AT_TABLE.pitch],
            c=c,
            row_step=table[AT_TABLE.pitch],
            bias=m.zeros,
            accumulate=0,
            last=lanes,
            blocks=blocks,
            b_step=vectors * lanes,
            c_step=vectors * lanes,
            prefetch_distance=0,
            wanted=b,
            wanted_step=0,
            lines=0,
        ),
    )


@inline
def multiply(job, table, s, m, t, first, end, vectors):
    """Multiply the inputs by the weights of some register blocks, point by point."""
    mr, points, pitch = table[AT_TABLE.mr], table[AT_TABLE.points], table[AT_TABLE.pitch]
    whole = vectors // TILE_VECTORS
    rest, at = vectors - whole * TILE_VECTORS, whole * TILE_VECTORS * job[AT.lanes]
    for point in range(points):
        b = shift(m.values, point * table[AT_TABLE.point])
        for block in range(first, end):
            place = (t.group * points + point) * table[AT_TABLE.blocks] + block
            a = shift(m.packed, place * table[AT_TABLE.panel])
            c = shift(m.products, point * table[AT_TABLE.product] + (block - first) * mr * pitch)
            rows = block_rows(s.c_out, mr, block)
            if whole > 0:
                multiply_panels(job, table, s, m, a, b, c, rows, TILE_VECTORS, whole)
            if rest > 0:
                multiply_panels(job, table, s, m, a, shift(b, at), shift(c, at), rows, rest, 1)


@inline
def write_outputs(job, table, s, m, t, first, channels, vectors):
    """Transform the products of some output channels back, and store them."""
    together = table[AT_TABLE.result_channels]
    for c0 in range(0, channels, together):
        channel, some = t.group * s.c_out + first + c0, min(together, channels - c0)
        for i in range(some):
            products = shift(m.products, (c0 + i) * table[AT_TABLE.pitch])
            results = shift(m.results, i * table[AT_TABLE.result])
            bias = shift(m.bias, channel + i)
            interpolate_outputs(job, table, m, results, products, bias, vectors)
        if job[AT.add_tile] != 0:
            visit_results(job, table, s, m, t, channel, some, True)
        for i in range(some):
            results = shift(m.results, i * table[AT_TABLE.result])
            activate_results(job, table, results, t.rows * table[AT_TABLE.columns])
        visit_results(job, table, s, m, t, channel, some, False)


@inline
def interpolate_outputs(job, table, m, results, products, bias, vectors):
    """Transform the products of a channel back."""
    last = table[AT_TABLE.passes] - 1
    source = products
    for i in range(last + 1):
        target, start = (results, bias) if i == last else (m.cells, m.zeros)
        step = pass_of(table, AT_TABLE.output_passes, i)
        call(job[CALLED.interpolate], PassArguments(target, source, step, 1, vectors, start))
        source = m.cells


@inline
def activate_results(job, table, results, tiles):
    """Apply the activation, if there is one, to the results of so many tiles of a channel."""
    rows = table[AT_TABLE.outputs_0] * table[AT_TABLE.outputs_1]
    width = table[AT_TABLE.outputs_2]
    if job[AT.activate] != 0:
        step = width * table[AT_TABLE.pitch]
        call(job[AT.activate], ActivateArguments(results, step, rows, width * tiles))


@inline
def visit_results(job, table, s, m, t, channel, channels, adds):
    """Store the results of some output channels, or add to them what the job adds.

    Loops over runs of rows of tiles, then their rows.
    """
    m0, m1, m2 = table[AT_TABLE.outputs_0], table[AT_TABLE.outputs_1], table[AT_TABLE.outputs_2]
    row, step = m2 * table[AT_TABLE.pitch], table[AT_TABLE.result]
    row_step, column_step, lanes = s.out_strides[1], s.out_strides[4], job[AT.lanes]
    ow = t.column * m2
    width = min(t.columns * m2, s.output[2] - ow)
    add = pointer_at(job[AT.add], m.out)
    done = 0
    while done < t.rows:
        run = find_run(table, t, done)
        od, oh = run.plane * m0, run.first * m1
        at = run.image * s.out_strides[0] + channel * s.out_strides[1] + ow * s.out_strides[4]
        for d in range(min(m0, s.output[0] - od)):
            plane = at + (od + d) * s.out_strides[2]
            for h in range(min(run.rows * m1, s.output[1] - oh)):
                block = h // m1
                i = d * m1 + h - block * m1
                first = i * row + (done + block) * table[AT_TABLE.columns] * m2
                to = plane + (oh + h) * s.out_strides[3]
                if adds:
                    call(
                        job[AT.add_tile],
                        AddArguments(
                            shift(m.results, first),
                            step,
                            channels,
                            width,
                            shift(add, to),
                            row_step,
                            column_step,
                            0,
                            0,
                            0,
                            0,
                            lanes,
                        ),
                    )
                else:
                    move_rows(
                        m.results,
                        first,
                        step,
                        channels,
                        width,
                        m.out,
                        to,
                        row_step,
                        column_step,
                        False,
                        lanes,
                    )
        done += run.rows


@native(WorkerArguments)
def work(worker, job, like):
    """Do tasks until none is left."""
    s, table = read_shape(job, SHAPE), indices_at(job[AT.table])
    m = find_memory(job, table, worker, like)
    fill(m.zeros, table[AT_TABLE.mr], 0, job[AT.lanes])
    # Vectors read behind rows: what lies there must not be denormal.
    fill(m.halo, table[AT_TABLE.values] - table[AT_TABLE.halo], 0, job[AT.lanes])
    tasks, together, mr = table[AT_TABLE.tasks], table[AT_TABLE.together], table[AT_TABLE.mr]
    number, queue = next_task(job, tasks, worker, 0)
    while number < tasks:
        t = locate_task(table, number)
        read_inputs(job, table, s, m, t)
        tiles = t.rows * table[AT_TABLE.columns]
        vectors = (tiles + job[AT.lanes] - 1) // job[AT.lanes]
        clear_behind(job, table, s, m, tiles, vectors)
        for first in range(t.begin, t.end, together):
            end = min(first + together, t.end)
            multiply(job, table, s, m, t, first, end, vectors)
            channels = min(end * mr, s.c_out) - first * mr
            write_outputs(job, table, s, m, t, first * mr, channels, vectors)
        number, queue = next_task(job, tasks, worker, queue)


@native(WorkerArguments)
def pack_points(worker, job, like):
    """Write the weights' values at the points: [group][point][register block][input channel][MR].

    Loops: register blocks; the weights of one as [tap][input channel][MR]; some of these at a time,
    which are transformed axis by axis.
    """
    s, table = read_shape(job, SHAPE), indices_at(job[AT.table])
    taps_of_block = shift(pointer_at(job[AT.scratch], like), worker * job[AT.pack_scratch])
    weights, packed = pointer_at(job[AT.weights], like), pointer_at(job[AT.packed], like)
    blocks, mr, taps = table[AT_TABLE.blocks], table[AT_TABLE.mr], table[AT_TABLE.taps]
    panel, points, lanes = table[AT_TABLE.panel], table[AT_TABLE.points], job[AT.lanes]
    tasks = s.groups * blocks
    fill(taps_of_block, taps * panel, 0, lanes)  # vectors read behind the last weight
    number, queue = next_task(job, tasks, worker, 0)
    while number < tasks:
        group, block = number // blocks, number % blocks
        rows = block_rows(s.c_out, mr, block)
        k_size, count = s.c_in * taps, s.c_in * rows
        source = shift(weights, (group * s.c_out + block * mr) * k_size)
        if job[AT.weights_in_panels] != 0:
            copy_rows(taps_of_block, panel, source, 1, count, taps, count, 0, lanes)
        else:
            pack_block(taps_of_block, source, k_size, rows, s.c_in, taps, panel, lanes)
        target = shift(packed, (group * points * blocks + block) * panel)
        for first in range(0, count, PACKED_TOGETHER):
            vectors = (min(PACKED_TOGETHER, count - first) + lanes - 1) // lanes
            place, read = shift(target, first), shift(taps_of_block, first)
            for i in range(table[AT_TABLE.passes]):
                step = pass_of(table, AT_TABLE.weight_passes, i)
                call(job[CALLED.evaluate_taps], PassArguments(place, read, step, 1, vectors, read))
                read = place
        number, queue = next_task(job, tasks, worker, queue)


class Tasks(NamedTuple):
    """The blocks of a job: the table has them, but for the number of tasks."""

    tasks: int


def lower(s: ConvShape, tiles: Tiles, dtype: np.dtype, threads: int) -> Lowering:
    """Return how tiles compute a problem."""
    b = cut(s, tiles, dtype.itemsize, threads)
    table, halo = make_table(s, tiles, b, dtype.itemsize)
    panel = int(table[AT_TABLE.panel])
    problem, lanes = tile_problem(s, tiles), VECTOR_BYTES // dtype.itemsize
    return Lowering(
        "minimal_filtering",
        work,
        tile,
        Tasks(int(table[AT_TABLE.tasks])),
        table,
        int(table[AT_TABLE.scratch]),
        layout=halo,
        fill_halo=filler(problem, halo, lanes),
        packing=Packing(b.mr, taps_outer=True),
        packer=pack_points,
        packed_size=s.groups * b.blocks * tiles.points * panel,
        pack_scratch=s.taps * panel,
        packed_order=(*tiles.outputs, *s.kernel),
        functions=Functions(evaluate, evaluate_taps, interpolate),
        problem=problem,
    )
