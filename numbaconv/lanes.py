"""Copies by whole vectors that touch no element outside what is copied.

`copy_lanes(target, source, count)`
    Copies `count` elements, at most a vector.
`copy_even_lanes(target, source, count)`
    Copies the elements 0, 2, 4, ... of the source.
`spread_lanes(target, source, count)`
    Copies `count` elements, at most a vector, to the elements 0, 2, 4, ... of the target.
`clear_lanes(target, count)`
    Sets elements to zero.
`transpose_lanes(target, source, source_step, rows, tap, channel, taps, tap_step, channel_step)`
    Reads one vector of elements k from each of `rows` rows, at most as many as a vector has
    lanes, and stores the rows' elements of each k side by side. The first k is (channel, tap),
    of `taps` taps a channel, and goes to target[tap * tap_step + channel * channel_step].
`transpose_square(target, target_step, source, source_step, rows, columns)`
    target[j * target_step + i] = source[i * source_step + j] for i < rows, j < columns, both at
    most the lanes of a vector.
`transpose_piece(target, target_step, source, source_step)`
    The same for exactly `piece_rows` rows and `piece_columns` columns, in fewer instructions.

The functions in NumPy below say the same, and run under ``NUMBA_DISABLE_JIT=1``.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from numbaconv.jit import inline
from numbaconv.target import VECTOR_BYTES
from numbaconv.vectors import I32, Vectors, i64, opaque

# Vectors that `transpose_lanes` prefetches ahead: rows of weights are more streams than hardware
# follows.
_AHEAD = 8

# Pieces are 32 bytes high and 16 wide. Rows of weights, or channels of an image, often lie a large
# power of two apart, where they share one or two sets of the first-level cache: sixteen push each
# other out of it, eight do not. Packing rows 18 KB apart takes 0.8 of the time so, 8 KB apart 0.65.
_SHARE = max(1, VECTOR_BYTES // 32)


@inline
def piece_rows(lanes):
    """Rows of `transpose_piece`."""
    return lanes // _SHARE


@inline
def piece_columns(lanes):
    """Columns of `transpose_piece`."""
    return max(1, lanes * 16 // VECTOR_BYTES)


def _transposed(vectors, rows):
    """Transpose L vectors of L lanes: log2(L) rounds of interleaving row i with row i + L/2."""
    lanes = vectors.lanes
    low = [i // 2 + (i % 2) * lanes for i in range(lanes)]
    masks = [
        ir.Constant(ir.VectorType(I32, lanes), [i + half for i in low]) for half in (0, lanes // 2)
    ]
    for _ in range(lanes.bit_length() - 1):
        pairs = zip(rows[: lanes // 2], rows[lanes // 2 :], strict=True)
        rows = [vectors.builder.shuffle_vector(a, b, mask) for a, b in pairs for mask in masks]
    return rows


@intrinsic
def _transpose_lanes(
    typing_context, target, source, source_step, rows, tap, channel, taps, tap_step, channel_step
):
    signature = types.void(target, source, *[types.int64] * 7)

    def codegen(context, builder, signature, arguments):
        target, source, source_step, rows, tap, channel, taps, tap_step, channel_step = arguments
        vectors = Vectors(builder, signature.args[0].dtype)
        lanes = vectors.lanes
        mask = vectors.first_lanes(rows)
        final = builder.sub(rows, i64(1))
        loaded = []
        for i in range(lanes):
            # Lanes beyond the last row are not stored: read that row once more for them.
            row = builder.select(builder.icmp_signed("<", i64(i), rows), i64(i), final)
            pointer = vectors.at(source, builder.mul(row, source_step))
            loaded.append(vectors.load(pointer))
            vectors.prefetch(vectors.at(pointer, i64(_AHEAD * lanes)))
        for value in _transposed(vectors, loaded):
            at = builder.add(builder.mul(tap, tap_step), builder.mul(channel, channel_step))
            vectors.store_masked(value, vectors.at(target, at), mask)
            tap = builder.add(tap, i64(1))
            wraps = builder.icmp_signed("==", tap, taps)
            tap = builder.select(wraps, i64(0), tap)
            channel = builder.select(wraps, builder.add(channel, i64(1)), channel)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _transpose_square(typing_context, target, target_step, source, source_step, rows, columns):
    signature = types.void(target, types.int64, source, *[types.int64] * 3)

    def codegen(context, builder, signature, arguments):
        target, target_step, source, source_step, rows, columns = arguments
        vectors = Vectors(builder, signature.args[0].dtype)
        read, none = vectors.first_lanes(columns), ir.Constant(vectors.mask, None)
        written = vectors.first_lanes(rows)
        loaded = []
        for i in range(vectors.lanes):
            mask = builder.select(builder.icmp_signed("<", i64(i), rows), read, none)
            pointer = vectors.at(source, builder.mul(source_step, i64(i)))
            loaded.append(vectors.load_masked(pointer, mask))
        for j, value in enumerate(_transposed(vectors, loaded)):
            mask = builder.select(builder.icmp_signed("<", i64(j), columns), written, none)
            pointer = vectors.at(target, builder.mul(target_step, i64(j)))
            vectors.store_masked(value, pointer, mask)
        return context.get_dummy_value()

    return signature, codegen


def _rows_behind(vectors, base, step, count):
    """Pointers to rows `step` apart, from few registers: a base for four rows, and three steps."""
    builder = vectors.builder
    step = opaque(builder, step)
    steps = [builder.mul(step, i64(i)) for i in range(5)]
    rows: list[Any] = []
    while len(rows) < count:
        rows += [base, *(vectors.at(base, steps[i]) for i in (1, 2, 3))]
        base = vectors.at(base, steps[4])
    return rows[:count]


def _concatenated(vectors, parts):
    """One vector of parts of equal length."""
    while len(parts) > 1:
        indices = list(range(2 * parts[0].type.count))
        mask = ir.Constant(ir.VectorType(I32, len(indices)), indices)
        pairs = zip(parts[::2], parts[1::2], strict=True)
        parts = [vectors.builder.shuffle_vector(a, b, mask) for a, b in pairs]
    return parts[0]


def _transposed_within(vectors, rows):
    """Transpose the squares of Q x Q that lie side by side in Q rows: row i meets row i + Q/2."""
    lanes, q = vectors.lanes, len(rows)
    half = q // 2
    masks = []
    for part in (0, half):
        places = [at + part + i for at in range(0, lanes, q) for i in range(half)]
        indices = [i for place in places for i in (place, lanes + place)]
        masks.append(ir.Constant(ir.VectorType(I32, lanes), indices))
    for _ in range(q.bit_length() - 1):
        pairs = zip(rows[:half], rows[half:], strict=True)
        rows = [vectors.builder.shuffle_vector(a, b, mask) for a, b in pairs for mask in masks]
    return rows


@intrinsic
def _transpose_piece(typing_context, target, target_step, source, source_step):
    signature = types.void(target, types.int64, source, types.int64)

    def codegen(context, builder, signature, arguments):
        target, target_step, source, source_step = arguments
        vectors = Vectors(builder, signature.args[0].dtype, _SHARE)
        q = 16 // vectors.align
        piece = ir.VectorType(vectors.element, q).as_pointer()
        rows = _rows_behind(vectors, source, source_step, vectors.lanes)
        rows = [builder.load(builder.bitcast(row, piece), align=vectors.align) for row in rows]
        # Loads place rows i, i + Q, ... side by side; what is left are squares of Q x Q.
        columns = _transposed_within(
            vectors, [_concatenated(vectors, rows[i::q]) for i in range(q)]
        )
        places = _rows_behind(vectors, target, target_step, q)
        for column, place in zip(columns, places, strict=True):
            vectors.store(column, place)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _copy_lanes(typing_context, target, source, count):
    signature = types.void(target, source, types.int64)

    def codegen(context, builder, signature, arguments):
        target, source, count = arguments
        vectors = Vectors(builder, signature.args[0].dtype)
        whole = builder.icmp_signed(">=", count, i64(vectors.lanes))
        with builder.if_else(whole, likely=True) as (then, otherwise):
            with then:
                vectors.store(vectors.load(source), target)
            with otherwise:
                mask = vectors.first_lanes(count)
                vectors.store_masked(vectors.load_masked(source, mask), target, mask)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _clear_lanes(typing_context, target, count):
    signature = types.void(target, types.int64)

    def codegen(context, builder, signature, arguments):
        target, count = arguments
        vectors = Vectors(builder, signature.args[0].dtype)
        vectors.store_masked(vectors.zero(), target, vectors.first_lanes(count))
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _copy_even_lanes(typing_context, target, source, count):
    signature = types.void(target, source, types.int64)

    def codegen(context, builder, signature, arguments):
        target, source, count = arguments
        vectors = Vectors(builder, signature.args[0].dtype)
        lanes = vectors.lanes
        reach = builder.sub(builder.shl(count, i64(1)), i64(1))  # up to the last even element
        beyond = builder.sub(reach, i64(lanes))
        none = builder.icmp_signed("<", beyond, i64(0))
        low = vectors.load_masked(source, vectors.first_lanes(reach))
        high = vectors.load_masked(
            vectors.column(source, 1), vectors.first_lanes(builder.select(none, i64(0), beyond))
        )
        even = ir.Constant(ir.VectorType(I32, lanes), list(range(0, 2 * lanes, 2)))
        value = builder.shuffle_vector(low, high, even)
        vectors.store_masked(value, target, vectors.first_lanes(count))
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _spread_lanes(typing_context, target, source, count):
    signature = types.void(target, source, types.int64)

    def codegen(context, builder, signature, arguments):
        target, source, count = arguments
        vectors = Vectors(builder, signature.args[0].dtype)
        lanes = vectors.lanes
        value = vectors.load_masked(source, vectors.first_lanes(count))
        half = lanes // 2
        even = ir.Constant(vectors.mask, [i % 2 == 0 for i in range(lanes)])
        for part in range(2):
            moved = [part * half + i // 2 for i in range(lanes)]
            mask = ir.Constant(ir.VectorType(I32, lanes), moved)
            spread = builder.shuffle_vector(value, value, mask)
            left = builder.sub(builder.shl(count, i64(1)), i64(part * lanes))
            none = builder.icmp_signed("<", left, i64(0))
            written = vectors.first_lanes(builder.select(none, i64(0), left))
            written = builder.and_(written, even)
            vectors.store_masked(spread, vectors.column(target, part), written)
        return context.get_dummy_value()

    return signature, codegen


def _spread_lanes_in_numpy(target, source, count):
    count = min(count, VECTOR_BYTES // target.itemsize)
    target[: 2 * count : 2] = source[:count]


def _clear_lanes_in_numpy(target, count):
    target[: min(count, VECTOR_BYTES // target.itemsize)] = 0


def _copy_even_lanes_in_numpy(target, source, count):
    count = min(count, VECTOR_BYTES // target.itemsize)
    target[:count] = source[: 2 * count : 2]


def _transpose_lanes_in_numpy(
    target, source, source_step, rows, tap, channel, taps, tap_step, channel_step
):
    lanes = min(VECTOR_BYTES // target.itemsize, len(source))
    for k in range(lanes):
        at = tap * tap_step + channel * channel_step
        target[at : at + rows] = [source[i * source_step + k] for i in range(rows)]
        tap += 1
        if tap == taps:
            tap, channel = 0, channel + 1


def _transpose_square_in_numpy(target, target_step, source, source_step, rows, columns):
    for j in range(columns):
        target[j * target_step : j * target_step + rows] = [
            source[i * source_step + j] for i in range(rows)
        ]


def _transpose_piece_in_numpy(target, target_step, source, source_step):
    lanes = VECTOR_BYTES // target.itemsize
    rows, columns = piece_rows(lanes), piece_columns(lanes)
    _transpose_square_in_numpy(target, target_step, source, source_step, rows, columns)


def _copy_lanes_in_numpy(target, source, count):
    count = min(count, VECTOR_BYTES // target.itemsize)
    target[:count] = source[:count]


if config.DISABLE_JIT:
    copy_lanes, clear_lanes = _copy_lanes_in_numpy, _clear_lanes_in_numpy
    copy_even_lanes, transpose_lanes = _copy_even_lanes_in_numpy, _transpose_lanes_in_numpy
    transpose_square, spread_lanes = _transpose_square_in_numpy, _spread_lanes_in_numpy
    transpose_piece = _transpose_piece_in_numpy
else:
    copy_lanes, clear_lanes = _copy_lanes, _clear_lanes
    copy_even_lanes, transpose_lanes = _copy_even_lanes, _transpose_lanes
    transpose_square, spread_lanes = _transpose_square, _spread_lanes
    transpose_piece = _transpose_piece
