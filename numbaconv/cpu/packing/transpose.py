"""Transposed copies of a block, in pieces that fit the registers."""

from typing import NamedTuple

from numbaconv.codegen.arguments import Elements
from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import shift
from numbaconv.cpu.packing.lanes import piece_columns, piece_rows, transpose_piece


@inline
def transpose_block(target, target_step, source, source_step, rows, columns, lanes):
    """target[j * target_step + i] = source[i * source_step + j], piece by piece.

    Loop over strips of pieces, along those rows, of the source or of the target, that lie further
    apart. The last of a strip, and the last strip, begin earlier where so they are whole.
    """
    i, j = 0, 0
    last_row, last_column = max(rows - piece_rows(lanes), 0), max(columns - piece_columns(lanes), 0)
    while i < rows and j < columns:
        row, column = min(i, last_row), min(j, last_column)
        transpose_piece(
            shift(target, column * target_step + row),
            target_step,
            shift(source, row * source_step + column),
            source_step,
            rows - row,
            columns - column,
        )
        if source_step > target_step:
            j += piece_columns(lanes)
            if j >= columns:
                i, j = i + piece_rows(lanes), 0
        else:
            i += piece_rows(lanes)
            if i >= rows:
                i, j = 0, j + piece_columns(lanes)


class TransposeArguments(NamedTuple):
    """What `transpose` takes.

    Attributes
    ----------
    target, target_step : pointer, int
        First element, and elements from one column of the source to the next.
    source, source_step : pointer, int
        First element, and elements from one row of the source to the next.
    rows, columns : int
        Those of the source.
    lanes : int
        Lanes of a vector.
    """

    target: Elements
    target_step: int
    source: Elements
    source_step: int
    rows: int
    columns: int
    lanes: int


@native(TransposeArguments)
def transpose(target, target_step, source, source_step, rows, columns, lanes):
    """target[j * target_step + i] = source[i * source_step + j] for i < rows, j < columns.

    Nothing else is read or written.
    """
    transpose_block(target, target_step, source, source_step, rows, columns, lanes)
