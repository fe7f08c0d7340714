"""The transform of a tile: of its columns, then of its rows, block by block.

The columns of a tile lie one behind the other (see `layout`), so each stays in the first-level
cache for its transform. Transposed, a block of rows is a column of its own: it is transformed, and
what is done to its spectrum can be done at once.
"""

from typing import Any, NamedTuple

from numbaconv.codegen.arguments import Elements, Indices
from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import call, indices_at, shift
from numbaconv.cpu.fft.layout import AT_TABLE, factors_at
from numbaconv.cpu.job import AT, HALO, MOST_HALO, places, size_within
from numbaconv.cpu.microkernels.spectrum import (
    TOGETHER,
    ProductArguments,
    move_vectors,
    product,
    product_by_conjugate,
)
from numbaconv.cpu.microkernels.transform import TransformArguments, forward, inverse
from numbaconv.cpu.packing.transpose import transpose_block


class TransposeBlocksArguments(NamedTuple):
    """What `transpose_blocks` takes.

    Attributes
    ----------
    target, target_step : pointer, int
        The first square of vectors, and elements from there to the next.
    source, source_step : pointer, int
        The same of the source.
    squares, lanes : int
        How many there are, and their side.
    """

    target: Elements
    target_step: int
    source: Elements
    source_step: int
    squares: int
    lanes: int


@native(TransposeBlocksArguments)
def transpose_blocks(target, target_step, source, source_step, squares, lanes):
    """Transpose squares of rows, the real parts and the imaginary ones by themselves."""
    for i in range(squares):
        to, of = shift(target, i * target_step), shift(source, i * source_step)
        for part in range(2):
            at = part * lanes
            transpose_block(shift(to, at), 2 * lanes, shift(of, at), 2 * lanes, lanes, lanes, lanes)


class Functions(NamedTuple):
    """Functions that workers call; as `CALLED`, where their addresses lie in a job."""

    forward: Any
    inverse: Any
    columns: Any
    product: Any
    product_by_conjugate: Any
    move: Any
    transpose: Any
    store: Any
    sum_outputs: Any


CALLED: Functions = places(Functions, HALO)
size_within(Functions, MOST_HALO)


@inline
def transform(job, table, which, data, step, passes, twiddles):
    """Transform one column in place, by the function at a place of the job."""
    if table[passes] == 0:
        return
    factors = factors_at(job[AT.table], twiddles, data)
    call(job[which], TransformArguments(data, step, shift(table, passes), factors))


class TransformColumnsArguments(NamedTuple):
    """What `transform_columns` takes.

    Attributes
    ----------
    job, tile : pointer
        The job; the tile.
    which : int
        The place in the job of `forward` or of `inverse`.
    """

    job: Indices
    tile: Elements
    which: int


@native(TransformColumnsArguments)
def transform_columns(job, tile, which):
    """Transform a tile along the depth and along the rows, in either direction."""
    table = indices_at(job[AT.table])
    width, pitch = 2 * job[AT.lanes], table[AT_TABLE.pitch]
    is_deep, is_inverse = table[AT_TABLE.depth] > 1, which == CALLED.inverse
    for c in range(table[AT_TABLE.columns] // job[AT.lanes]):
        column = shift(tile, c * table[AT_TABLE.column])
        for turn in range(2):  # along the depth first, and on the way back last
            if (turn == 0) != is_inverse:
                passes, factors = table[AT_TABLE.passes_0], table[AT_TABLE.twiddles_0]
                for h in range(table[AT_TABLE.rows] if is_deep else 0):
                    line = shift(column, h * pitch * width)
                    transform(job, table, which, line, width, passes, factors)
            else:
                passes, factors = table[AT_TABLE.passes_1], table[AT_TABLE.twiddles_1]
                for d in range(table[AT_TABLE.depth]):
                    line = shift(column, d * width)
                    transform(job, table, which, line, pitch * width, passes, factors)


def functions(store, sum_outputs):
    """The functions of `CALLED`, of which the last two are given."""
    return Functions(
        forward,
        inverse,
        transform_columns,
        product,
        product_by_conjugate,
        move_vectors,
        transpose_blocks,
        store,
        sum_outputs,
    )


@inline
def rows_of_block(table, number, lanes):
    """Number of the first row of the matrix that a block has."""
    each = table[AT_TABLE.depth] // lanes
    if each == 0:
        return number * lanes
    return number // each * table[AT_TABLE.pitch] + number % each * lanes


@inline
def multiply_between(job, table, which, block, number):
    """Multiply a block of a signal by the factors between its two transforms."""
    if table[AT_TABLE.is_signal] != 0:
        factors = factors_at(job[AT.table], table[AT_TABLE.between], block)
        factors = shift(factors, number * table[AT_TABLE.block])
        step, rows = 2 * TOGETHER * job[AT.lanes], table[AT_TABLE.columns]
        product_of_one = ProductArguments(block, 0, 0, block, 0, 0, factors, step, 1, 1, 1, rows)
        call(job[which], product_of_one)


@inline
def read_block(job, table, block, tile, number):
    """Transpose a block out of a tile and transform it: it then is a part of the spectrum."""
    lanes = job[AT.lanes]
    rows = shift(tile, rows_of_block(table, number, lanes) * 2 * lanes)
    squares, square = table[AT_TABLE.columns] // lanes, 2 * lanes * lanes
    step = table[AT_TABLE.column]
    call(job[CALLED.transpose], TransposeBlocksArguments(block, square, rows, step, squares, lanes))
    multiply_between(job, table, CALLED.product, block, number)
    passes, factors = table[AT_TABLE.passes_2], table[AT_TABLE.twiddles_2]
    transform(job, table, CALLED.forward, block, 2 * lanes, passes, factors)


@inline
def write_block(job, table, tile, block, number):
    """Transform a block back and transpose it into a tile."""
    lanes = job[AT.lanes]
    passes, factors = table[AT_TABLE.passes_2], table[AT_TABLE.twiddles_2]
    transform(job, table, CALLED.inverse, block, 2 * lanes, passes, factors)
    multiply_between(job, table, CALLED.product_by_conjugate, block, number)
    rows = shift(tile, rows_of_block(table, number, lanes) * 2 * lanes)
    squares, square = table[AT_TABLE.columns] // lanes, 2 * lanes * lanes
    step = table[AT_TABLE.column]
    call(job[CALLED.transpose], TransposeBlocksArguments(rows, step, block, square, squares, lanes))
