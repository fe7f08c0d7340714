"""Convolutions as products of spectra, tile by tile.

Loops, outermost first: tasks (image, group, some loads, part of the output channels), shared out
over the threads; loads and their input channels, each copied and transformed along the columns;
blocks of rows, of which each is transposed and transformed for all channels, multiplied by the
weights' spectra, summed over the channels, and goes back the same way; the columns of the results.
So what a worker needs is the tiles of a task, and there is never a transform of a whole array.

A tile of which an element, or a result, is not finite is summed tap by tap: in a spectrum NaN and
infinity would spread over the whole tile.
"""

from typing import NamedTuple

import numpy as np

from numbaconv.codegen.integers import round_up
from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import (
    CACHE_LINE,
    align,
    behind,
    call,
    indices_at,
    keep_scalar,
    pointer_at,
    shift,
)
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu.blocking import share
from numbaconv.cpu.fft.columns import (
    CALLED,
    TransformColumnsArguments,
    functions,
    read_block,
    write_block,
)
from numbaconv.cpu.fft.layout import AT_TABLE, make_table
from numbaconv.cpu.fft.rows import load_tile, store_row, store_tile
from numbaconv.cpu.fft.sums import SumOutputsArguments, sum_outputs
from numbaconv.cpu.fft.tiles import Tiles
from numbaconv.cpu.job import AT, SHAPE, WorkerArguments, next_task
from numbaconv.cpu.lowering import Lowering
from numbaconv.cpu.microkernels.spectrum import TOGETHER, MoveArguments, ProductArguments
from numbaconv.cpu.packing.rows import copy_run, fill
from numbaconv.problem.shape import ConvShape, kernel_taps, read_shape


class Memory(NamedTuple):
    """The pointers of a worker: the spectra of the weights, and its own scratch.

    Attributes
    ----------
    spectra : pointer
        [group][block of rows][some columns][pair of output channels][input channel][column][row].
    tiles, blocks : pointer
        Tiles of a task, and a block of each load and input channel.
    results : pointer
        A block of each result and load.
    row, sums : pointer
        Room for a row of a tile, twice.
    seen : pointer
        A vector for each load: see `spectrum.move_vectors`.
    """

    spectra: object
    tiles: object
    blocks: object
    results: object
    row: object
    sums: object
    seen: object


class Load(NamedTuple):
    """A load: image, group, its tile, and the next one or -1."""

    image: int
    group: int
    tile: int
    next: int


@inline
def spectra_at(job, s, like):
    """Where the spectra of the weights lie: behind the weights, at a cache line."""
    weights = s.groups * s.c_out * s.c_in * kernel_taps(s)
    return pointer_at(align(behind(job[AT.packed], weights, job[AT.itemsize])), like)


@inline
def find_memory(job, table, s, worker, like):
    """The pointers of a worker."""
    tiles = shift(pointer_at(job[AT.scratch], like), worker * job[AT.scratch_size])
    together, block = table[AT_TABLE.together], table[AT_TABLE.block_step]
    blocks = shift(tiles, together * table[AT_TABLE.slots] * table[AT_TABLE.tile])
    results = shift(blocks, together * s.c_in * block)
    row = shift(results, together * table[AT_TABLE.most_pairs] * block)
    sums = shift(row, table[AT_TABLE.columns])
    seen = shift(sums, table[AT_TABLE.columns])
    return Memory(spectra_at(job, s, like), tiles, blocks, results, row, sums, seen)


@inline
def slot(m, table, t, i):
    """Tile `i` of a load of a task."""
    return shift(m.tiles, (t * table[AT_TABLE.slots] + i) * table[AT_TABLE.tile])


@inline
def first_output(table, tile):
    """The first output of a tile, along each axis."""
    rest, w = tile // table[AT_TABLE.count_2], tile % table[AT_TABLE.count_2]
    d, h = rest // table[AT_TABLE.count_1], rest % table[AT_TABLE.count_1]
    return d * table[AT_TABLE.output_0], h * table[AT_TABLE.output_1], w * table[AT_TABLE.output_2]


@inline
def find_load(table, image, group, number):
    """What a load consists of. Tiles of different planes, or rows, do not share one."""
    outer = number // table[AT_TABLE.inner_loads]
    place = number - outer * table[AT_TABLE.inner_loads]
    following = -1
    if table[AT_TABLE.pairs_tiles] != 0:
        place = 2 * place
        following = outer * table[AT_TABLE.inner] + place + 1
        if place + 1 >= table[AT_TABLE.inner]:
            following = -1
    return Load(image, group, outer * table[AT_TABLE.inner] + place, following)


@inline
def read_load(job, table, s, m, load, t):
    """Copy all channels of a load, and transform their columns."""
    lanes = job[AT.lanes]
    seen = shift(m.seen, t * lanes)
    fill(seen, lanes, 0, lanes)
    for c in range(s.c_in):
        tile, channel = slot(m, table, t, c), load.group * s.c_in + c
        if load.next < 0:
            fill(tile, table[AT_TABLE.tile], 0, lanes)
        for part in range(1 if load.next < 0 else 2):
            number = load.tile if part == 0 else load.next
            d, h, w = first_output(table, number)
            vectors = shift(tile, part * lanes)
            load_tile(job, table, s, vectors, m.row, seen, load.image, channel, d, h, w)
        call(job[CALLED.columns], TransformColumnsArguments(job, tile, CALLED.forward))


@inline
def multiply(job, table, s, m, group, loads, begin, end):
    """Multiply the spectra of some loads by those of some pairs, block by block."""
    block, size = table[AT_TABLE.block_step], 2 * TOGETHER * job[AT.lanes]
    of_group = table[AT_TABLE.blocks] * table[AT_TABLE.pairs] * s.c_in * table[AT_TABLE.block]
    spectra = shift(m.spectra, group * of_group + begin * s.c_in * size)
    for number in range(table[AT_TABLE.blocks]):
        for i in range(loads * s.c_in):
            t = i // s.c_in
            tile = slot(m, table, t, i - t * s.c_in)
            read_block(job, table, shift(m.blocks, i * block), tile, number)
        call(
            job[CALLED.product],
            ProductArguments(
                target=m.results,
                target_load=block,
                target_filter=loads * block,
                x=m.blocks,
                x_load=s.c_in * block,
                x_channel=block,
                weights=shift(spectra, number * (of_group // table[AT_TABLE.blocks])),
                weights_step=table[AT_TABLE.pairs] * s.c_in * size,
                loads=loads,
                filters=end - begin,
                channels=s.c_in,
                rows=table[AT_TABLE.columns],
            ),
        )
        for i in range((end - begin) * loads):
            pair = i // loads
            tile = slot(m, table, i - pair * loads, pair)
            write_block(job, table, tile, shift(m.results, i * block), number)


@inline
def write_load(job, table, s, m, load, t, begin, end):
    """Transform the columns of the results of a load back, and store them."""
    lanes = job[AT.lanes]
    seen = shift(m.seen, t * lanes)
    for pair in range(begin, end):
        tile = slot(m, table, t, pair - begin)
        call(job[CALLED.columns], TransformColumnsArguments(job, tile, CALLED.inverse))
        for part in range(2):
            number, channel = load.tile, pair
            if table[AT_TABLE.pairs_tiles] == 0:
                channel = 2 * pair + part
            elif part == 1:
                number = load.next
            if channel < s.c_out and number >= 0:
                d, h, w = first_output(table, number)
                vectors, of = shift(tile, part * lanes), load.group * s.c_out + channel
                store_tile(job, table, s, vectors, m.row, seen, load.image, of, d, h, w)


@inline
def is_finite(seen, lanes):
    """Whether all elements were that went through a vector of `move_vectors`."""
    total = seen[0]
    for i in range(1, lanes):
        keep_scalar()
        total += seen[i]
    return total == 0


@inline
def sum_load(job, table, s, m, load, begin, end, like):
    """Compute the outputs of a load tap by tap."""
    channels = 1 if table[AT_TABLE.pairs_tiles] != 0 else 2
    weights = pointer_at(job[AT.packed], like)
    for part in range(2):
        number = load.tile if part == 0 else load.next
        if number >= 0:
            d, h, w = first_output(table, number)
            for channel in range(channels * begin, min(channels * end, s.c_out)):
                of = load.group * s.c_out + channel
                call(
                    job[CALLED.sum_outputs],
                    SumOutputsArguments(job, weights, m.sums, m.row, load.image, of, d, h, w),
                )


@native(WorkerArguments)
def work(worker, job, like):
    """Do tasks until none is left."""
    s, table = read_shape(job, SHAPE), indices_at(job[AT.table])
    m = find_memory(job, table, s, worker, like)
    together, tasks = table[AT_TABLE.together], table[AT_TABLE.tasks]
    each = -(-table[AT_TABLE.loads] // together)
    number, queue = next_task(job, tasks, worker, 0)
    while number < tasks:
        rest, part = number // table[AT_TABLE.parts], number % table[AT_TABLE.parts]
        begin, end = share(table[AT_TABLE.pairs], part, table[AT_TABLE.parts])
        channels, first = rest // each, rest % each * together
        image, group = channels // s.groups, channels % s.groups
        loads = min(together, table[AT_TABLE.loads] - first)
        for t in range(loads):
            load = find_load(table, image, group, first + t)
            read_load(job, table, s, m, load, t)
        multiply(job, table, s, m, group, loads, begin, end)
        for t in range(loads):
            load = find_load(table, image, group, first + t)
            write_load(job, table, s, m, load, t, begin, end)
            if not is_finite(shift(m.seen, t * job[AT.lanes]), job[AT.lanes]):
                sum_load(job, table, s, m, load, begin, end, like)
        number, queue = next_task(job, tasks, worker, queue)


@inline
def place_line(row, line, taps, dilation, around, first, columns, scale, lanes):
    """Write the elements from `first` on of a line of a kernel, which lies backwards in a row.

    Its first tap is element 0, and the next ones come `around` the end.
    """
    fill(row, columns, 0, lanes)
    if first == 0:
        row[0] = line[0] * scale
    begin = max(1, (around - first - columns) // dilation + 1)
    for tap in range(begin, min(taps, (around - first) // dilation + 1)):
        keep_scalar()
        row[around - tap * dilation - first] = line[tap] * scale


@inline
def place_taps(job, table, s, tile, kernel, row, seen):
    """Write a kernel into a part of a tile that is zero.

    It is divided by the number of values: the transforms there and back multiply by that.
    """
    lanes, columns, step = job[AT.lanes], table[AT_TABLE.columns], table[AT_TABLE.column]
    values = table[AT_TABLE.depth] * table[AT_TABLE.rows] * columns
    scale = 1 / values
    is_signal, pieces, around = table[AT_TABLE.is_signal] != 0, 1, columns
    if is_signal:
        pieces, around = table[AT_TABLE.rows], values
    for number in range(s.kernel[0] * s.kernel[1]):
        kd, kh = number // s.kernel[1], number % s.kernel[1]
        line = shift(kernel, number * s.kernel[2])
        d = 0 if kd == 0 else table[AT_TABLE.depth] - kd * s.dilation[0]
        h = 0 if kh == 0 else table[AT_TABLE.rows] - kh * s.dilation[1]
        for piece in range(pieces):
            first, dilation = piece * columns, s.dilation[2]
            place_line(row, line, s.kernel[2], dilation, around, first, columns, scale, lanes)
            target = shift(tile, ((h + piece) * table[AT_TABLE.pitch] + d) * 2 * lanes)
            call(job[CALLED.move], MoveArguments(target, step, row, lanes, columns // lanes, seen))


@native(WorkerArguments)
def pack_spectra(worker, job, like):
    """Copy the weights, and behind them write their spectra: see `Memory`."""
    s, table = read_shape(job, SHAPE), indices_at(job[AT.table])
    tile = shift(pointer_at(job[AT.scratch], like), worker * job[AT.pack_scratch])
    block = shift(tile, table[AT_TABLE.tile])
    row = shift(block, table[AT_TABLE.block])
    seen = shift(row, table[AT_TABLE.columns])
    spectra, copies = spectra_at(job, s, like), pointer_at(job[AT.packed], like)
    weights, taps = pointer_at(job[AT.weights], like), kernel_taps(s)
    pairs, in_pair = table[AT_TABLE.pairs], 2 - table[AT_TABLE.pairs_tiles]
    blocks, lanes = table[AT_TABLE.blocks], job[AT.lanes]
    size, together = 2 * TOGETHER * lanes, table[AT_TABLE.columns] // TOGETHER
    tasks = s.groups * pairs * s.c_in
    number, queue = next_task(job, tasks, worker, 0)
    while number < tasks:
        rest, c = number // s.c_in, number % s.c_in
        group, pair = rest // pairs, rest % pairs
        fill(tile, table[AT_TABLE.tile], 0, lanes)
        for part in range(min(in_pair, s.c_out - pair * in_pair)):
            at = ((group * s.c_out + pair * in_pair + part) * s.c_in + c) * taps
            for tap in range(taps):
                copies[at + tap] = weights[at + tap]
            place_taps(job, table, s, shift(tile, part * lanes), shift(weights, at), row, seen)
        call(job[CALLED.columns], TransformColumnsArguments(job, tile, CALLED.forward))
        for i in range(blocks):
            read_block(job, table, block, tile, i)
            for j in range(together):
                at = ((group * blocks + i) * together + j) * pairs + pair
                target, source = shift(spectra, (at * s.c_in + c) * size), shift(block, j * size)
                move = MoveArguments(target, lanes, source, lanes, 2 * TOGETHER, seen)
                call(job[CALLED.move], move)
        number, queue = next_task(job, tasks, worker, queue)


class Tasks(NamedTuple):
    """The blocks of a job: the table has them, but for the number of tasks."""

    tasks: int


def lower(s: ConvShape, tiles: Tiles, dtype: np.dtype, threads: int) -> Lowering:
    """Return how tiles of a size compute a problem."""
    table = make_table(s, tiles, dtype, threads)
    at = AT_TABLE
    line, lanes = CACHE_LINE // dtype.itemsize, VECTOR_BYTES // dtype.itemsize
    tile, block, step = (int(table[i]) for i in (at.tile, at.block, at.block_step))
    kept = int(table[at.slots]) * tile + (s.c_in + int(table[at.most_pairs])) * step + lanes
    scratch = int(table[at.together]) * kept
    spectra = s.groups * int(table[at.pairs]) * s.c_in * int(table[at.blocks]) * block
    return Lowering(
        "overlap_save",
        work,
        None,
        Tasks(int(table[at.tasks])),
        table,
        round_up(scratch + 2 * tiles.columns, line),
        fill_halo=copy_run,
        packer=pack_spectra,
        packed_size=s.groups * s.c_out * s.c_in * s.taps + spectra,
        pack_scratch=round_up(tile + block + tiles.columns + lanes, line),
        packed_order=(*tiles.extents, tiles.rows, *s.dilation),
        functions=functions(store_row, sum_outputs),
    )
