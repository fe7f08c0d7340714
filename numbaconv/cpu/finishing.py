"""The end of a tile whose sums are complete: another array is added, then an activation applied.

Both are done where the tile lies, while it is in the first-level cache, by kernels of their own
that are compiled where a call first asks for them. So no microkernel knows of them.
"""

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from numbaconv.codegen.arguments import Elements
from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import CACHE_LINE, call, pointer_at, shift
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.codegen.twins import stands_for
from numbaconv.cpu.activation import ActivateArguments
from numbaconv.cpu.job import AT
from numbaconv.cpu.packing.lanes import add_lanes
from numbaconv.cpu.packing.results import move_rows

# What is added lies in another order than the tile where the tile is not stored as it lies. It is
# brought into the tile's order by so many rows and vectors at a time.
BLOCK_ROWS, BLOCK_VECTORS = 16, 4


@intrinsic
def _block_like(typing_context, pointer):
    signature = pointer(pointer)

    def codegen(context, builder, signature, arguments):
        dtype = signature.args[0].dtype
        element = context.get_value_type(dtype)
        count = BLOCK_ROWS * BLOCK_VECTORS * VECTOR_BYTES // (dtype.bitwidth // 8)
        block = cgutils.alloca_once(builder, ir.ArrayType(element, count))
        block.align = CACHE_LINE
        return builder.bitcast(block, element.as_pointer())

    return signature, codegen


@stands_for(_block_like)
def block_like(pointer):
    """Room for a block of elements on the stack."""
    return np.empty(BLOCK_ROWS * BLOCK_VECTORS * VECTOR_BYTES // pointer.itemsize, pointer.dtype)


@inline
def add_dense_rows(tile, tile_step, source, source_step, rows, width, lanes):
    """Add rows whose elements are neighbours. Rows that follow each other are one."""
    if tile_step == width and source_step == width:
        rows, width = 1, rows * width
    for i in range(rows):
        target, row = shift(tile, i * tile_step), shift(source, i * source_step)
        j = 0
        while j < width:
            add_lanes(shift(target, j), shift(row, j), width - j)
            j += lanes


@inline
def add_by_blocks(tile, tile_step, source, row_step, column_step, rows, width, block, lanes):
    """Add what lies at any steps, in blocks that are brought into the tile's order."""
    step = BLOCK_VECTORS * lanes
    for i in range(0, rows, BLOCK_ROWS):
        for j in range(0, width, step):
            high, wide = min(BLOCK_ROWS, rows - i), min(step, width - j)
            at = i * row_step + j * column_step
            move_rows(block, 0, step, high, wide, source, at, row_step, column_step, True, lanes)
            target = shift(tile, i * tile_step + j)
            add_dense_rows(target, tile_step, block, step, high, wide, lanes)


class Flat(NamedTuple):
    """Of a tile of flat pixels: pixel r * pitch + c is (r, c), and there is none for c >= cols.

    Attributes
    ----------
    first : int
        First flat pixel of the tile.
    cols, pitch : int
        Pixels that there are of each r; flat pixels of each. A pitch of 0: pixels are not flat.
    line_step : int
        Elements of the output from one r to the next.
    """

    first: int
    cols: int
    pitch: int
    line_step: int


NOT_FLAT = Flat(0, 0, 0, 0)


class AddArguments(NamedTuple):
    """What `add_tile` takes.

    Attributes
    ----------
    tile, tile_step : pointer, int
        First element, and elements from one row to the next.
    rows, width : int
        Rows, and elements of each.
    source : pointer
        What is added to the first element; of flat pixels to pixel (0, 0) of the first row.
    row_step, column_step : int
        Elements of it from one row of the tile, and from one element of a row, to the next.
    first, cols, pitch, line_step : int
        See `Flat`.
    lanes : int
        Lanes of a vector.
    """

    tile: Elements
    tile_step: int
    rows: int
    width: int
    source: Elements
    row_step: int
    column_step: int
    first: int
    cols: int
    pitch: int
    line_step: int
    lanes: int


@native(AddArguments)
def add_tile(
    tile,
    tile_step,
    rows,
    width,
    source,
    row_step,
    column_step,
    first,
    cols,
    pitch,
    line_step,
    lanes,
):
    """Add an array that lies as the output does to a tile: line by line, if its pixels are flat."""
    block, j = block_like(tile), 0
    while j < width:
        r, c, run = 0, 0, width
        if pitch > 0:
            r = (first + j) // pitch
            c = first + j - r * pitch
            run = min(cols - c, width - j)
        target, added = shift(tile, j), shift(source, r * line_step + c * column_step)
        if run <= 0:
            run = pitch - c
        elif column_step == 1:
            add_dense_rows(target, tile_step, added, row_step, rows, run, lanes)
        else:
            add_by_blocks(target, tile_step, added, row_step, column_step, rows, run, block, lanes)
        j += run


def adder():
    """Return `add_tile`: what imports this module late asks a function of it."""
    return add_tile


# One function, for all callers: each that there is costs every first call.
@inline
def finish_tile(job, tile, step, rows, width, final, at, row_step, column_step, flat):
    """Finish a tile, if its sums are complete: add what the job adds, then activate.

    Its element (i, j) is the output's element at + i * row_step + j * column_step, unless the
    pixels are flat: then pixel (0, 0) of the first row is element `at`.
    """
    if not final:
        return
    if job[AT.add_tile] != 0:
        source = shift(pointer_at(job[AT.add], tile), at)
        first, cols, pitch, line_step = flat
        call(
            job[AT.add_tile],
            AddArguments(
                tile,
                step,
                rows,
                width,
                source,
                row_step,
                column_step,
                first,
                cols,
                pitch,
                line_step,
                job[AT.lanes],
            ),
        )
    if job[AT.activate] != 0:
        call(job[AT.activate], ActivateArguments(tile, step, rows, width))
