"""Transposed copies of matrices, a square of vectors at a time."""

from numba import types

from numbaconv.jit import native
from numbaconv.lanes import transpose_square
from numbaconv.pointers import shift


def _signature(dtype):
    i, p = types.int64, types.CPointer(dtype)
    return types.void(p, i, p, i, i, i, i)


@native(_signature)
def transpose(target, target_step, source, source_step, rows, count, lanes):
    """target[k * target_step + i] = source[i * source_step + k] for i < rows, k < count.

    Nothing else is read or written. Loops over squares of `lanes`, the lanes of a vector.
    """
    k = 0
    while k < count:  # a range with a step divides by it first
        i = 0
        while i < rows:
            transpose_square(
                shift(target, k * target_step + i),
                target_step,
                shift(source, i * source_step + k),
                source_step,
                min(rows - i, lanes),
                min(count - k, lanes),
            )
            i += lanes
        k += lanes
