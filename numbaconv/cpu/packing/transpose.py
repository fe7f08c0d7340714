"""Copies of a block, transposed."""

from numba import types

from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import shift
from numbaconv.cpu.packing.lanes import piece_columns, piece_rows, transpose_piece


@inline
def transpose_block(target, target_step, source, source_step, rows, columns, lanes):
    """target[j * target_step + i] = source[i * source_step + j], piece by piece.

    Loop over strips of pieces, along those rows, of the source or of the target, that lie further
    apart.
    """
    i, j = 0, 0
    while i < rows and j < columns:
        transpose_piece(
            shift(target, j * target_step + i),
            target_step,
            shift(source, i * source_step + j),
            source_step,
            rows - i,
            columns - j,
        )
        if source_step > target_step:
            j += piece_columns(lanes)
            if j >= columns:
                i, j = i + piece_rows(lanes), 0
        else:
            i += piece_rows(lanes)
            if i >= rows:
                i, j = 0, j + piece_columns(lanes)


def _signature(dtype):
    i, p = types.int64, types.CPointer(dtype)
    return types.void(p, i, p, i, i, i, i)


@native(_signature)
def transpose(target, target_step, source, source_step, rows, count, lanes):
    """target[k * target_step + i] = source[i * source_step + k] for i < rows, k < count.

    Nothing else is read or written.
    """
    transpose_block(target, target_step, source, source_step, rows, count, lanes)
