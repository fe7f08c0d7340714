"""The two register tiles that all convolution comes down to, emitted as LLVM IR.

`tile`: MR rows of weights times NV vectors of pixels, a matrix product whose second operand is
addressed through a table of offsets:

    C[i, p] = bias[i] + sum_k A[k, i] * B[offsets[k] + p]        (or C[i, p] += ...)

`band`: MR neighbouring output rows of one channel under one filter. Each input row is loaded once
and serves every output row whose window holds it:

    C[i, p] = bias[0] + sum_kh,kw W[kh, kw] * X[i + kh][columns[kw] + p]        (or C[i, p] += ...)

Both keep C in registers while their loop runs and are compiled for each register block up to the
largest that the CPU holds. Only the last of the NV vectors may be partial (`last` lanes of it are
stored); loads are always of whole vectors, so operands need a vector of slack behind them.

Under ``NUMBA_DISABLE_JIT=1`` both run as the NumPy expressions near the end of this file, which
also say what is computed.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from numbaconv.blocking import BAND_ROWS, BAND_VECTORS, TILE_ROWS, TILE_VECTORS
from numbaconv.jit import native
from numbaconv.target import VECTOR_BYTES

_I1, _I32, _I64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)


def _i64(value):
    return ir.Constant(_I64, value)


# Filters of this many columns run without a loop over them.
_COMMON_WIDTH = 3


class _Vectors:
    """Vector arithmetic on one element type, on top of an llvmlite builder."""

    def __init__(self, builder, dtype):
        self.builder = builder
        self.is_float = isinstance(dtype, types.Float)
        self.lanes = VECTOR_BYTES // (dtype.bitwidth // 8)
        self.element = (
            {32: ir.FloatType(), 64: ir.DoubleType()}[dtype.bitwidth]
            if self.is_float
            else ir.IntType(dtype.bitwidth)
        )
        self.align = dtype.bitwidth // 8
        self.vector = ir.VectorType(self.element, self.lanes)
        self.mask = ir.VectorType(_I1, self.lanes)
        letter = "f" if self.is_float else "i"
        self.suffix = f"v{self.lanes}{letter}{dtype.bitwidth}"

    def _intrinsic(self, name, result, arguments):
        signature = ir.FunctionType(result, [a.type for a in arguments])
        function = cgutils.get_or_insert_function(self.builder.module, signature, name)
        return self.builder.call(function, arguments)

    def at(self, pointer, index):
        return self.builder.gep(pointer, [index])

    def column(self, pointer, j):
        """Address of the j-th vector behind a pointer."""
        return self.at(pointer, _i64(j * self.lanes))

    def splat(self, scalar):
        undefined = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, ir.Constant(_I32, 0))
        zeros = ir.Constant(ir.VectorType(_I32, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, undefined, zeros)

    def broadcast(self, pointer):
        return self.splat(self.builder.load(pointer))

    def load(self, pointer):
        address = self.builder.bitcast(pointer, self.vector.as_pointer())
        return self.builder.load(address, align=self.align)

    def store(self, value, pointer):
        address = self.builder.bitcast(pointer, self.vector.as_pointer())
        self.builder.store(value, address, align=self.align)

    def first_lanes(self, count):
        """Mask of the first `count` (an i64) lanes."""
        count = self.builder.trunc(count, _I32)
        vector = ir.VectorType(_I32, self.lanes)
        first = self.builder.insert_element(
            ir.Constant(vector, ir.Undefined), count, ir.Constant(_I32, 0)
        )
        zeros = ir.Constant(vector, [0] * self.lanes)
        counts = self.builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)
        return self.builder.icmp_unsigned("<", ir.Constant(vector, list(range(self.lanes))), counts)

    def load_masked(self, pointer, mask):
        address = self.builder.bitcast(pointer, self.vector.as_pointer())
        arguments = [address, ir.Constant(_I32, self.align), mask, self.zero()]
        return self._intrinsic(f"llvm.masked.load.{self.suffix}.p0", self.vector, arguments)

    def store_masked(self, value, pointer, mask):
        address = self.builder.bitcast(pointer, self.vector.as_pointer())
        arguments = [value, address, ir.Constant(_I32, self.align), mask]
        self._intrinsic(f"llvm.masked.store.{self.suffix}.p0", ir.VoidType(), arguments)

    def zero(self):
        return ir.Constant(self.vector, [0.0 if self.is_float else 0] * self.lanes)

    def multiply_add(self, a, b, c):
        """a * b + c: one instruction where the CPU has it, wrapping for integers."""
        if self.is_float:
            # fmuladd and not fma: without the instruction, fma would call the C library.
            return self._intrinsic(f"llvm.fmuladd.{self.suffix}", self.vector, [a, b, c])
        return self.builder.add(self.builder.mul(a, b), c)


class _Accumulators:
    """The MR x NV block of C: loaded or set to the bias, carried by loops, stored at the end."""

    def __init__(self, vectors, rows, columns, c, row_step, last):
        self.v, self.rows, self.columns = vectors, rows, columns
        builder = vectors.builder
        self.pointers = [vectors.at(c, builder.mul(row_step, _i64(i))) for i in range(rows)]
        self.mask = vectors.first_lanes(last)
        self.values = []

    def start(self, accumulate, bias, bias_rows):
        """Read C where `accumulate` holds; else start from the bias and do not read C."""
        builder = self.v.builder
        with builder.if_else(accumulate) as (then, otherwise):
            with then:
                read = [[self._load(i, j) for j in range(self.columns)] for i in range(self.rows)]
                read_block = builder.block
            with otherwise:
                fresh = [
                    self.v.broadcast(self.v.at(bias, _i64(i if bias_rows else 0)))
                    for i in range(self.rows)
                ]
                fresh_block = builder.block
        self.values = [
            [
                self._join([(read[i][j], read_block), (fresh[i], fresh_block)])
                for j in range(self.columns)
            ]
            for i in range(self.rows)
        ]

    def _join(self, incoming):
        phi = self.v.builder.phi(self.v.vector)
        for value, block in incoming:
            phi.add_incoming(value, block)
        return phi

    def _load(self, i, j):
        pointer = self.v.column(self.pointers[i], j)
        if j == self.columns - 1:
            return self.v.load_masked(pointer, self.mask)
        return self.v.load(pointer)

    def store(self):
        for pointer, row in zip(self.pointers, self.values, strict=True):
            for j, value in enumerate(row[:-1]):
                self.v.store(value, self.v.column(pointer, j))
            self.v.store_masked(row[-1], self.v.column(pointer, self.columns - 1), self.mask)

    def loop(self, count, body, name):
        """Run `body(k, values) -> values` for k = 0 .. count - 1, count >= 1, C in registers."""
        builder = self.v.builder
        before = builder.block
        block = builder.append_basic_block(name)
        builder.branch(block)
        builder.position_at_end(block)
        k = builder.phi(_I64)
        k.add_incoming(_i64(0), before)
        carried = [[self._join([(old, before)]) for old in row] for row in self.values]
        new = body(k, carried)
        after = builder.add(k, _i64(1))
        k.add_incoming(after, builder.block)
        for phis, row in zip(carried, new, strict=True):
            for phi, value in zip(phis, row, strict=True):
                phi.add_incoming(value, builder.block)
        end = builder.append_basic_block(name + "_end")
        builder.cbranch(builder.icmp_signed("<", after, count), block, end)
        builder.position_at_end(end)
        self.values = new


def _for_each_block(builder, rows, columns, choices, columns_choices, emit):
    """Switch on (rows, columns) and let `emit(rows, columns)` fill each case."""
    stride = max(columns_choices) + 1
    end = builder.append_basic_block("blocks_end")
    selector = builder.add(builder.mul(rows, _i64(stride)), columns)
    switch = builder.switch(selector, end)
    for mr in choices:
        for nv in columns_choices:
            case = builder.append_basic_block(f"block_{mr}x{nv}")
            switch.add_case(_i64(mr * stride + nv), case)
            builder.position_at_end(case)
            emit(mr, nv)
            builder.branch(end)
    builder.position_at_end(end)


def _emit_tile(vectors, mr, nv, count, a, b, offsets, c, row_step, bias, accumulate, last):
    block = _Accumulators(vectors, mr, nv, c, row_step, last)
    block.start(accumulate, bias, bias_rows=True)
    builder = vectors.builder

    def step(k, values):
        pixels = vectors.at(b, builder.load(vectors.at(offsets, k)))
        weights = vectors.at(a, builder.mul(k, _i64(mr)))
        xs = [vectors.load(vectors.column(pixels, j)) for j in range(nv)]
        new = []
        for i, row in enumerate(values):
            w = vectors.broadcast(vectors.at(weights, _i64(i)))
            new.append([vectors.multiply_add(w, x, old) for x, old in zip(xs, row, strict=True)])
        return new

    block.loop(count, step, f"tile_{mr}x{nv}")
    block.store()


@intrinsic
def _tile(typing_context, mr, nv, count, a, b, offsets, c, row_step, bias, accumulate, last):
    i64 = types.int64
    signature = types.void(i64, i64, i64, a, b, offsets, c, i64, bias, types.boolean, i64)

    def codegen(context, builder, signature, arguments):
        mr, nv, *rest = arguments
        vectors = _Vectors(builder, signature.args[3].dtype)
        _for_each_block(
            builder,
            mr,
            nv,
            range(1, TILE_ROWS + 1),
            range(1, TILE_VECTORS + 1),
            lambda rows, columns: _emit_tile(vectors, rows, columns, *rest),
        )
        return context.get_dummy_value()

    return signature, codegen


class _Band:
    """Emits the loops of `band` for one register block."""

    def __init__(self, block, kw, static_kw, x, x_step, columns, w, w_step):
        self.static_kw = static_kw
        self.block, self.kw, self.x, self.x_step = block, kw, x, x_step
        self.columns, self.w, self.w_step = columns, w, w_step

    def input_row(self, j, rows, name):
        """Add input row `j` (an i64) to the output rows in `rows`, looping over kw."""
        v, builder = self.block.v, self.block.v.builder
        x_row = v.at(self.x, builder.mul(j, self.x_step))
        # Output row i sees input row j through kernel row j - i.
        w_rows = {i: v.at(self.w, builder.mul(builder.sub(j, _i64(i)), self.w_step)) for i in rows}

        def step(k, values):
            pixels = v.at(x_row, builder.load(v.at(self.columns, k)))
            xs = [v.load(v.column(pixels, n)) for n in range(self.block.columns)]
            new = list(values)
            for i in rows:
                w = v.broadcast(v.at(w_rows[i], k))
                new[i] = [v.multiply_add(w, x, old) for x, old in zip(xs, values[i], strict=True)]
            return new

        if self.static_kw is None:
            self.block.loop(self.kw, step, name)
        else:
            for k in range(self.static_kw):
                self.block.values = step(_i64(k), self.block.values)

    def emit(self, kh, start):
        """Switch on the filter's height, and store the block after each case."""
        builder = self.block.v.builder
        end = builder.append_basic_block("band_end")
        tall = builder.append_basic_block("tall")
        switch = builder.switch(kh, tall)
        for height in range(1, self.block.rows):
            case = builder.append_basic_block(f"short_{height}")
            switch.add_case(_i64(height), case)
            builder.position_at_end(case)
            self.block.values = start
            self.short_kernel(height)
            self.block.store()
            builder.branch(end)
        builder.position_at_end(tall)
        self.block.values = start
        self.tall_kernel(kh)
        self.block.store()
        builder.branch(end)
        builder.position_at_end(end)

    def short_kernel(self, kernel_height):
        """A kernel of fewer rows than the block: every input row is unrolled."""
        rows = self.block.rows
        for j in range(rows + kernel_height - 1):
            served = range(max(0, j - kernel_height + 1), min(j, rows - 1) + 1)
            self.input_row(_i64(j), served, f"short_{j}")

    def tall_kernel(self, kh):
        """A kernel of at least as many rows as the block: opening, a loop, closing."""
        rows, builder = self.block.rows, self.block.v.builder
        for j in range(rows - 1):
            self.input_row(_i64(j), range(j + 1), f"open_{j}")
        self._full_rows(kh)
        for j in range(rows - 1):
            self.input_row(builder.add(kh, _i64(j)), range(j + 1, rows), f"close_{j}")

    def _full_rows(self, kh):
        """Input rows rows-1 .. kh-1, each of which every output row sees."""
        rows, builder = self.block.rows, self.block.v.builder
        first = rows - 1

        def one_row(k, values):
            self.block.values = values
            self.input_row(builder.add(k, _i64(first)), range(rows), "full")
            return self.block.values

        self.block.loop(builder.sub(kh, _i64(first)), one_row, "full_rows")


def _emit_band(
    vectors,
    mr,
    nv,
    kh,
    kw,
    x,
    x_step,
    columns,
    w,
    w_step,
    c,
    row_step,
    bias,
    accumulate,
    last,
):
    """One register block, with loops over kw, or without for the commonest width.

    Three columns are too few to fill a pipeline between two branches.
    """
    builder = vectors.builder
    block = _Accumulators(vectors, mr, nv, c, row_step, last)
    block.start(accumulate, bias, bias_rows=False)
    start = block.values
    is_common = builder.icmp_signed("==", kw, _i64(_COMMON_WIDTH))
    with builder.if_else(is_common) as (then, otherwise):
        for branch, static_kw in ((then, _COMMON_WIDTH), (otherwise, None)):
            with branch:
                band = _Band(block, kw, static_kw, x, x_step, columns, w, w_step)
                band.emit(kh, start)


@intrinsic
def _band(
    typing_context,
    mr,
    nv,
    kh,
    kw,
    x,
    x_step,
    columns,
    w,
    w_step,
    c,
    row_step,
    bias,
    accumulate,
    last,
):
    i64 = types.int64
    signature = types.void(
        i64, i64, i64, i64, x, i64, columns, w, i64, c, i64, bias, types.boolean, i64
    )

    def codegen(context, builder, signature, arguments):
        mr, nv, *rest = arguments
        vectors = _Vectors(builder, signature.args[4].dtype)
        _for_each_block(
            builder,
            mr,
            nv,
            BAND_ROWS,
            BAND_VECTORS,
            lambda rows, columns: _emit_band(vectors, rows, columns, *rest),
        )
        return context.get_dummy_value()

    return signature, codegen


def _transposed(vectors, rows):
    """Transpose L vectors of L lanes: log2(L) rounds of interleaving row i with row i + L/2."""
    lanes = vectors.lanes
    low = [i // 2 + (i % 2) * lanes for i in range(lanes)]
    masks = [
        ir.Constant(ir.VectorType(_I32, lanes), [i + half for i in low]) for half in (0, lanes // 2)
    ]
    for _ in range(lanes.bit_length() - 1):
        pairs = zip(rows[: lanes // 2], rows[lanes // 2 :], strict=True)
        rows = [vectors.builder.shuffle_vector(a, b, mask) for a, b in pairs for mask in masks]
    return rows


@intrinsic
def _transpose_lanes(
    typing_context, target, source, source_step, rows, tap, channel, taps, tap_step, channel_step
):
    i64 = types.int64
    signature = types.void(target, source, i64, i64, i64, i64, i64, i64, i64)

    def codegen(context, builder, signature, arguments):
        target, source, source_step, rows, tap, channel, taps, tap_step, channel_step = arguments
        vectors = _Vectors(builder, signature.args[0].dtype)
        lanes = vectors.lanes
        mask = vectors.first_lanes(rows)
        final = builder.sub(rows, _i64(1))
        loaded = []
        for i in range(lanes):
            # Lanes beyond the last row are not stored: read that row once more for them.
            row = builder.select(builder.icmp_signed("<", _i64(i), rows), _i64(i), final)
            loaded.append(vectors.load(vectors.at(source, builder.mul(row, source_step))))
        for value in _transposed(vectors, loaded):
            at = builder.add(builder.mul(tap, tap_step), builder.mul(channel, channel_step))
            vectors.store_masked(value, vectors.at(target, at), mask)
            tap = builder.add(tap, _i64(1))
            wraps = builder.icmp_signed("==", tap, taps)
            tap = builder.select(wraps, _i64(0), tap)
            channel = builder.select(wraps, builder.add(channel, _i64(1)), channel)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _copy_lanes(typing_context, target, source, count):
    signature = types.void(target, source, types.int64)

    def codegen(context, builder, signature, arguments):
        target, source, count = arguments
        vectors = _Vectors(builder, signature.args[0].dtype)
        whole = builder.icmp_signed(">=", count, _i64(vectors.lanes))
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
        vectors = _Vectors(builder, signature.args[0].dtype)
        vectors.store_masked(vectors.zero(), target, vectors.first_lanes(count))
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _copy_even_lanes(typing_context, target, source, count):
    signature = types.void(target, source, types.int64)

    def codegen(context, builder, signature, arguments):
        target, source, count = arguments
        vectors = _Vectors(builder, signature.args[0].dtype)
        lanes = vectors.lanes
        reach = builder.sub(builder.shl(count, _i64(1)), _i64(1))  # up to the last even element
        beyond = builder.sub(reach, _i64(lanes))
        none = builder.icmp_signed("<", beyond, _i64(0))
        low = vectors.load_masked(source, vectors.first_lanes(reach))
        high = vectors.load_masked(
            vectors.column(source, 1), vectors.first_lanes(builder.select(none, _i64(0), beyond))
        )
        even = ir.Constant(ir.VectorType(_I32, lanes), list(range(0, 2 * lanes, 2)))
        value = builder.shuffle_vector(low, high, even)
        vectors.store_masked(value, target, vectors.first_lanes(count))
        return context.get_dummy_value()

    return signature, codegen


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


def _copy_lanes_in_numpy(target, source, count):
    count = min(count, VECTOR_BYTES // target.itemsize)
    target[:count] = source[:count]


def _tile_in_numpy(mr, nv, count, a, b, offsets, c, row_step, bias, accumulate, last):
    lanes = VECTOR_BYTES // c.itemsize
    width = (nv - 1) * lanes + last
    weights = a[: count * mr].reshape(count, mr)
    pixels = np.stack([b[o : o + width] for o in offsets[:count]])
    rows = np.stack([c[i * row_step : i * row_step + width] for i in range(mr)])
    start = rows if accumulate else np.broadcast_to(bias[:mr, None], rows.shape)
    with np.errstate(all="ignore"):
        result = start + (weights[:, :, None] * pixels[:, None, :]).sum(0, dtype=c.dtype)
    for i in range(mr):
        c[i * row_step : i * row_step + width] = result[i]


def _band_in_numpy(
    mr, nv, kh, kw, x, x_step, columns, w, w_step, c, row_step, bias, accumulate, last
):
    lanes = VECTOR_BYTES // c.itemsize
    width = (nv - 1) * lanes + last
    for i in range(mr):
        row = c[i * row_step : i * row_step + width]
        total = row.copy() if accumulate else np.full(width, bias[0], c.dtype)
        with np.errstate(all="ignore"):
            for h in range(kh):
                for k in range(kw):
                    at = (i + h) * x_step + columns[k]
                    total += w[h * w_step + k] * x[at : at + width]
        row[:] = total


def _tile_signature(dtype):
    i, p = types.int64, types.CPointer(dtype)
    return types.void(i, i, i, p, p, types.CPointer(i), p, i, p, i, i)


def _band_signature(dtype):
    i, p = types.int64, types.CPointer(dtype)
    return types.void(i, i, i, i, p, i, types.CPointer(i), p, i, p, i, p, i, i)


@native(_tile_signature)
def tile(mr, nv, count, a, b, offsets, c, row_step, bias, accumulate, last):
    """C[MR, NV vectors] = bias + (or C +=) A[count, MR] transposed times B at the offsets.

    Parameters
    ----------
    mr, nv : int
        Rows and vectors of the block.
    count : int
        Length of k, at least 1.
    a : pointer
        Weights, [count][mr].
    b, offsets : pointer
        Vector j of row k of B lies at b[offsets[k] + j * lanes].
    c, row_step : pointer, int
        First row of C, and elements from one row to the next.
    bias : pointer
        One value for each row; read only where `accumulate` is 0.
    accumulate : int
        1: add to C. 0: do not read C.
    last : int
        Lanes of the last vector that belong to C.
    """
    _tile(mr, nv, count, a, b, offsets, c, row_step, bias, accumulate != 0, last)


@native(_band_signature)
def band(mr, nv, kh, kw, x, x_step, columns, w, w_step, c, row_step, bias, accumulate, last):
    """C[MR, NV vectors] = bias[0] + (or C +=) the correlation of MR + kh - 1 input rows with W.

    Parameters
    ----------
    mr, nv, c, row_step, accumulate, last
        As in `tile`.
    kh, kw : int
        Rows and columns of the filter, at least 1.
    x, x_step, columns : pointer, int, pointer
        Input row j as column kw of the filter sees it begins at x[j * x_step + columns[kw]].
    w, w_step : pointer, int
        Filter, and elements from one of its rows to the next.
    bias : pointer
        One value for all rows.
    """
    _band(mr, nv, kh, kw, x, x_step, columns, w, w_step, c, row_step, bias, accumulate != 0, last)


# copy_lanes(target, source, count) copies `count` elements, at most a vector, and touches no others.
copy_lanes = _copy_lanes
# clear_lanes(target, count) sets them to zero.
clear_lanes = _clear_lanes
# copy_even_lanes(target, source, count) does so with the elements 0, 2, 4, ... of the source.
copy_even_lanes = _copy_even_lanes
# transpose_lanes reads one vector of elements k from each of `rows` rows, at most as many as the
# vector has lanes, and stores the rows' elements of each k side by side. The first k is
# (channel, tap), and k = (channel, tap) goes to target[tap * tap_step + channel * channel_step].
transpose_lanes = _transpose_lanes

if config.DISABLE_JIT:
    _tile, _band = _tile_in_numpy, _band_in_numpy
    copy_lanes, transpose_lanes = _copy_lanes_in_numpy, _transpose_lanes_in_numpy
    clear_lanes, copy_even_lanes = _clear_lanes_in_numpy, _copy_even_lanes_in_numpy
