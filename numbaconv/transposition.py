"""Transposed copies of matrices."""

from numba import types

from numbaconv.jit import native
from numbaconv.packing import transpose_block


def _signature(dtype):
    i, p = types.int64, types.CPointer(dtype)
    return types.void(p, i, p, i, i, i, i)


@native(_signature)
def transpose(target, target_step, source, source_step, rows, count, lanes):
    """target[k * target_step + i] = source[i * source_step + k] for i < rows, k < count.

    Nothing else is read or written.
    """
    transpose_block(target, target_step, source, source_step, rows, count, lanes)
