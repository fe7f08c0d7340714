"""Transposed copies of small matrices: a vector of elements from each row, turned in registers."""

from numba import types
from numba.core import config
from numba.extending import intrinsic

from numbaconv.jit import native
from numbaconv.lanes import _transposed
from numbaconv.pointers import shift
from numbaconv.target import VECTOR_BYTES
from numbaconv.vectors import Vectors, i64


@intrinsic
def _transpose_square(typing_context, target, target_step, source, source_step, rows, count):
    signature = types.void(target, types.int64, source, types.int64, types.int64, types.int64)

    def codegen(context, builder, signature, arguments):
        target, target_step, source, source_step, rows, count = arguments
        vectors = Vectors(builder, signature.args[0].dtype)
        read, written = vectors.first_lanes(count), vectors.first_lanes(rows)
        last = builder.sub(rows, i64(1))
        loaded = []
        for i in range(vectors.lanes):
            # Lanes beyond the last row are not stored: read that row once more for them.
            row = builder.select(builder.icmp_signed("<", i64(i), rows), i64(i), last)
            at = vectors.at(source, builder.mul(row, source_step))
            loaded.append(vectors.load_masked(at, read))
        end = builder.append_basic_block("transposed")
        for k, value in enumerate(_transposed(vectors, loaded)):
            at = vectors.at(target, builder.mul(target_step, i64(k)))
            vectors.store_masked(value, at, written)
            more = builder.append_basic_block("more")
            builder.cbranch(builder.icmp_signed(">", count, i64(k + 1)), more, end)
            builder.position_at_end(more)
        builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return signature, codegen


def _transpose_square_in_numpy(target, target_step, source, source_step, rows, count):
    lanes = VECTOR_BYTES // source.itemsize
    for k in range(min(count, lanes)):
        for i in range(min(rows, lanes)):
            target[k * target_step + i] = source[i * source_step + k]


if config.DISABLE_JIT:
    _transpose_square = _transpose_square_in_numpy


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
            _transpose_square(
                shift(target, k * target_step + i),
                target_step,
                shift(source, i * source_step + k),
                source_step,
                rows - i,
                count - k,
            )
            i += lanes
        k += lanes
