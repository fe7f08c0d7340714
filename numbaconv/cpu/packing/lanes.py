"""Copies by whole vectors that touch no element outside what is copied.

Each is an intrinsic, and below it the function in NumPy that says the same.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from numbaconv.codegen.jit import inline
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.codegen.twins import stands_for
from numbaconv.codegen.vectors import I32, Vectors, i64
from numbaconv.cpu.packing.reading import Reader

# Pieces are 32 bytes high and 16 wide. Rows of weights, or channels of an image, often lie a large
# power of two apart, where they share one or two sets of the first-level cache: sixteen push each
# other out of it, eight do not.
_HIGH_SHARE, _NARROW_SHARE = max(1, VECTOR_BYTES // 32), VECTOR_BYTES // 16


@inline
def piece_rows(lanes):
    """Rows of `transpose_piece`."""
    return lanes // _HIGH_SHARE


@inline
def piece_columns(lanes):
    """Columns of `transpose_piece`."""
    return lanes // _NARROW_SHARE


@intrinsic
def _prefetch(typing_context, pointer):
    signature = types.void(pointer)

    def codegen(context, builder, signature, arguments):
        Vectors(builder, signature.args[0].dtype).prefetch(arguments[0])
        return context.get_dummy_value()

    return signature, codegen


@stands_for(_prefetch)
def prefetch(pointer):
    """Ask for the cache line behind a pointer."""


def _rows_behind(vectors, base, step, count):
    """Pointers to rows `step` apart, from few registers: a base for four rows, and three steps."""
    builder = vectors.builder
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


def _piece_transposed(vectors, rows):
    """Columns of a piece: rows i, i + Q, ... side by side, then squares of Q x Q within these.

    Where the rows come straight from memory, laying them side by side is a part of loading them.
    """
    q = rows[0].type.count
    return squares_transposed(vectors, [_concatenated(vectors, rows[i::q]) for i in range(q)])


def squares_transposed(vectors, columns):
    """Of Q vectors, transpose each square of Q neighbouring lanes."""
    lanes, q = vectors.lanes, len(columns)
    half = q // 2
    masks = []
    for part in (0, half):
        places = [at + part + i for at in range(0, lanes, q) for i in range(half)]
        indices = [i for place in places for i in (place, lanes + place)]
        masks.append(ir.Constant(ir.VectorType(I32, lanes), indices))
    for _ in range(q.bit_length() - 1):
        pairs = zip(columns[:half], columns[half:], strict=True)
        columns = [vectors.builder.shuffle_vector(a, b, mask) for a, b in pairs for mask in masks]
    return columns


class Piece:
    """Emits the transposition of a piece: the rows are narrow vectors, the columns high ones."""

    def __init__(self, builder, dtype, source_dtype, source, source_step):
        self.builder = builder
        self.high = Vectors(builder, dtype, _HIGH_SHARE)
        self.narrow = Vectors(builder, dtype, _NARROW_SHARE)
        self.reader = Reader(builder, source_dtype, dtype, self.narrow)
        self.rows = _rows_behind(self.narrow, source, source_step, self.high.lanes)

    def emit(self, rows, columns, targets):
        """Store column j at `targets[j]`; of a piece at an edge there are fewer rows or columns."""
        self.columns = targets
        whole = self.builder.and_(
            self.builder.icmp_signed(">=", rows, i64(self.high.lanes)),
            self.builder.icmp_signed(">=", columns, i64(self.narrow.lanes)),
        )
        with self.builder.if_else(whole, likely=True) as (then, otherwise):
            with then:
                self._emit_whole()
            with otherwise:
                self._emit_part(rows, columns)

    def _emit_whole(self):
        """All rows and columns."""
        rows = [self.reader.load(row) for row in self.rows]
        for value, column in zip(_piece_transposed(self.high, rows), self.columns, strict=True):
            self.high.store(value, column)

    def _emit_part(self, rows, columns):
        """Only some of the rows and columns.

        No address beyond these is used, even where a mask is empty: outside of the process's memory
        it takes hundreds of cycles to find out that nothing is loaded.
        """
        high, narrow = self.high, self.narrow
        read, written = narrow.first_lanes(columns), high.first_lanes(rows)
        none = ir.Constant(high.mask, None)
        loaded = [
            self.reader.load_masked(self.builder.select(exists, row, self.rows[0]), read)
            for row, exists in self.first(rows, self.rows)
        ]
        values = _piece_transposed(high, loaded)
        for value, (column, exists) in zip(values, self.first(columns, self.columns), strict=True):
            place = self.builder.select(exists, column, self.columns[0])
            high.store_masked(value, place, self.builder.select(exists, written, none))

    def first(self, count, pointers):
        """Each pointer, and whether it is among the first `count`."""
        for i, pointer in enumerate(pointers):
            yield pointer, self.builder.icmp_signed("<", i64(i), count)


@intrinsic
def _transpose_piece(typing_context, target, target_step, source, source_step, rows, columns):
    signature = types.void(target, types.int64, source, *[types.int64] * 3)

    def codegen(context, builder, signature, arguments):
        target, target_step, source, source_step, rows, columns = arguments
        to, of = signature.args[0].dtype, signature.args[2].dtype
        piece = Piece(builder, to, of, source, source_step)
        targets = _rows_behind(piece.high, target, target_step, piece.narrow.lanes)
        piece.emit(rows, columns, targets)
        return context.get_dummy_value()

    return signature, codegen


@stands_for(_transpose_piece)
def transpose_piece(target, target_step, source, source_step, rows, columns):
    """target[j * target_step + i] = source[i * source_step + j] for i < rows, j < columns.

    As far as that is within `piece_rows` and `piece_columns`.
    """
    lanes = VECTOR_BYTES // target.itemsize
    rows, columns = min(rows, piece_rows(lanes)), min(columns, piece_columns(lanes))
    for j in range(columns):
        target[j * target_step : j * target_step + rows] = [
            source[i * source_step + j] for i in range(rows)
        ]


@intrinsic
def _scatter_piece(
    typing_context, target, source, source_step, rows, tap, channel, taps, tap_step, channel_step
):
    signature = types.void(target, source, *[types.int64] * 7)

    def codegen(context, builder, signature, arguments):
        target, source, source_step, rows, tap, channel, taps, tap_step, channel_step = arguments
        dtype = signature.args[0].dtype
        piece = Piece(builder, dtype, dtype, source, source_step)
        at = builder.add(builder.mul(tap, tap_step), builder.mul(channel, channel_step))
        back = builder.sub(channel_step, builder.mul(builder.sub(taps, i64(1)), tap_step))
        targets = []
        for _ in range(piece.narrow.lanes):
            targets.append(piece.high.at(target, at))
            tap = builder.add(tap, i64(1))
            wraps = builder.icmp_signed("==", tap, taps)
            at = builder.add(at, builder.select(wraps, back, tap_step))
            tap = builder.select(wraps, i64(0), tap)
        piece.emit(rows, i64(piece.narrow.lanes), targets)
        return context.get_dummy_value()

    return signature, codegen


@stands_for(_scatter_piece)
def scatter_piece(target, source, source_step, rows, tap, channel, taps, tap_step, channel_step):
    """Store the elements of some rows, at most `piece_rows`, side by side for each k.

    `piece_columns` elements k are read from each row. The first k is (channel, tap), of `taps` taps
    a channel, and goes to target[tap * tap_step + channel * channel_step].
    """
    lanes = VECTOR_BYTES // target.itemsize
    rows = min(rows, piece_rows(lanes))
    for k in range(piece_columns(lanes)):
        at = tap * tap_step + channel * channel_step
        target[at : at + rows] = [source[i * source_step + k] for i in range(rows)]
        tap += 1
        if tap == taps:
            tap, channel = 0, channel + 1


def _vectors_and_reader(builder, target, source):
    """Vectors behind a pointer, and what reads as many elements behind another."""
    vectors = Vectors(builder, target.dtype)
    return vectors, Reader(builder, source.dtype, target.dtype, vectors)


@intrinsic
def _copy_lanes(typing_context, target, source, count):
    signature = types.void(target, source, types.int64)

    def codegen(context, builder, signature, arguments):
        target, source, count = arguments
        vectors, reader = _vectors_and_reader(builder, *signature.args[:2])
        whole = builder.icmp_signed(">=", count, i64(vectors.lanes))
        with builder.if_else(whole, likely=True) as (then, otherwise):
            with then:
                vectors.store(reader.load(source), target)
            with otherwise:
                mask = vectors.first_lanes(count)
                vectors.store_masked(reader.load_masked(source, mask), target, mask)
        return context.get_dummy_value()

    return signature, codegen


@stands_for(_copy_lanes)
def copy_lanes(target, source, count):
    """Copy `count` elements, at most a vector."""
    count = min(count, VECTOR_BYTES // target.itemsize)
    target[:count] = source[:count]


@intrinsic
def _add_lanes(typing_context, target, source, count):
    signature = types.void(target, source, types.int64)

    def codegen(context, builder, signature, arguments):
        target, source, count = arguments
        vectors = Vectors(builder, signature.args[0].dtype)
        whole = builder.icmp_signed(">=", count, i64(vectors.lanes))
        with builder.if_else(whole, likely=True) as (then, otherwise):
            with then:
                sums = vectors.add(vectors.load(target), vectors.load(source))
                vectors.store(sums, target)
            with otherwise:
                mask = vectors.first_lanes(count)
                values = (vectors.load_masked(each, mask) for each in (target, source))
                vectors.store_masked(vectors.add(*values), target, mask)
        return context.get_dummy_value()

    return signature, codegen


@stands_for(_add_lanes)
def add_lanes(target, source, count):
    """Add `count` elements, at most a vector, to others."""
    count = min(count, VECTOR_BYTES // target.itemsize)
    target[:count] += source[:count]


@intrinsic
def _multiply_add_lanes(typing_context, target, source, factor, count):
    signature = types.void(target, source, target.dtype, types.int64)

    def codegen(context, builder, signature, arguments):
        target, source, factor, count = arguments
        vectors = Vectors(builder, signature.args[0].dtype)
        factor = vectors.splat(factor)
        whole = builder.icmp_signed(">=", count, i64(vectors.lanes))
        with builder.if_else(whole, likely=True) as (then, otherwise):
            with then:
                sums = vectors.load(target)
                sums = vectors.multiply_add(factor, vectors.load(source), sums)
                vectors.store(sums, target)
            with otherwise:
                mask = vectors.first_lanes(count)
                sums = vectors.load_masked(target, mask)
                sums = vectors.multiply_add(factor, vectors.load_masked(source, mask), sums)
                vectors.store_masked(sums, target, mask)
        return context.get_dummy_value()

    return signature, codegen


@stands_for(_multiply_add_lanes)
def multiply_add_lanes(target, source, factor, count):
    """Add `count` elements, at most a vector, times a factor to others."""
    count = min(count, VECTOR_BYTES // target.itemsize)
    with np.errstate(all="ignore"):
        target[:count] += factor * source[:count]


@intrinsic
def _fill_lanes(typing_context, target, value, count):
    signature = types.void(target, target.dtype, types.int64)

    def codegen(context, builder, signature, arguments):
        target, value, count = arguments
        vectors = Vectors(builder, signature.args[0].dtype)
        value = vectors.splat(value)
        whole = builder.icmp_signed(">=", count, i64(vectors.lanes))
        with builder.if_else(whole, likely=True) as (then, otherwise):
            with then:
                vectors.store(value, target)
            with otherwise:
                vectors.store_masked(value, target, vectors.first_lanes(count))
        return context.get_dummy_value()

    return signature, codegen


@stands_for(_fill_lanes)
def fill_lanes(target, value, count):
    """Set `count` elements, at most a vector, to a value."""
    target[: min(count, VECTOR_BYTES // target.itemsize)] = value


@intrinsic
def _copy_even_lanes(typing_context, target, source, count):
    signature = types.void(target, source, types.int64)

    def codegen(context, builder, signature, arguments):
        target, source, count = arguments
        vectors, reader = _vectors_and_reader(builder, *signature.args[:2])
        lanes = vectors.lanes
        reach = builder.sub(builder.shl(count, i64(1)), i64(1))  # up to the last even element
        beyond = builder.sub(reach, i64(lanes))
        none = builder.icmp_signed("<", beyond, i64(0))
        low = reader.load_masked(source, vectors.first_lanes(reach))
        high = reader.load_masked(
            vectors.column(source, 1), vectors.first_lanes(builder.select(none, i64(0), beyond))
        )
        vectors.store_masked(
            vectors.every_second((low, high), 0), target, vectors.first_lanes(count)
        )
        return context.get_dummy_value()

    return signature, codegen


@stands_for(_copy_even_lanes)
def copy_even_lanes(target, source, count):
    """Copy the elements 0, 2, 4, ... of the source: `count` of them, at most a vector."""
    count = min(count, VECTOR_BYTES // target.itemsize)
    target[:count] = source[: 2 * count : 2]


@intrinsic
def _pad_lanes(typing_context, target, row, first, size, count):
    signature = types.void(target, row, *[types.int64] * 3)

    def codegen(context, builder, signature, arguments):
        target, row, first, size, count = arguments
        vectors, reader = _vectors_and_reader(builder, *signature.args[:2])
        inside = vectors.lanes_between(builder.neg(first), builder.sub(size, first))
        value = reader.load_masked(vectors.at(row, first), inside)
        vectors.store_masked(value, target, vectors.first_lanes(count))
        return context.get_dummy_value()

    return signature, codegen


@stands_for(_pad_lanes)
def pad_lanes(target, row, first, size, count):
    """Copy the elements first, first + 1, ... of a row of `size`.

    It is `count` of them, at most a vector, and zero for what lies outside of the row.
    """
    for i in range(min(count, VECTOR_BYTES // target.itemsize)):
        target[i] = row[first + i] if 0 <= first + i < size else 0


@intrinsic
def _split_lanes(typing_context, even, odd, row, first, size, count):
    signature = types.void(even, odd, row, *[types.int64] * 3)

    def codegen(context, builder, signature, arguments):
        even, odd, row, first, size, count = arguments
        vectors, reader = _vectors_and_reader(builder, *signature.args[1:3])
        loaded = []
        for part in range(2):
            at = builder.add(first, i64(part * vectors.lanes))
            inside = vectors.lanes_between(builder.neg(at), builder.sub(size, at))
            loaded.append(reader.load_masked(vectors.at(row, at), inside))
        mask = vectors.first_lanes(count)
        for phase, target in enumerate((even, odd)):
            vectors.store_masked(vectors.every_second(loaded, phase), target, mask)
        return context.get_dummy_value()

    return signature, codegen


@stands_for(_split_lanes)
def split_lanes(even, odd, row, first, size, count):
    """Copy the elements first, first + 2, ... of a row of `size` to `even`, those between to `odd`.

    It is `count` of each, at most a vector, and zero for what lies outside of the row.
    """
    for i in range(min(count, VECTOR_BYTES // even.itemsize)):
        for target, at in ((even, first + 2 * i), (odd, first + 2 * i + 1)):
            target[i] = row[at] if 0 <= at < size else 0


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


@stands_for(_spread_lanes)
def spread_lanes(target, source, count):
    """Copy `count` elements, at most a vector, to the elements 0, 2, 4, ... of the target."""
    count = min(count, VECTOR_BYTES // target.itemsize)
    target[: 2 * count : 2] = source[:count]
