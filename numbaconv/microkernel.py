"""The register tile that layers of networks come down to, emitted as LLVM IR.

`tile`: MR rows of weights times NV vectors of pixels, a matrix product whose k = (channel, tap)
runs over all channels and a list of taps, each with its offset among the pixels:

    C[i, p] = bias[i] + sum_c,t A[c, t, i] * B[c, offset of t + p]        (or C[i, p] += ...)

It keeps C in registers while its loops run and is compiled for each register block up to the
largest that the CPU holds. Only the last of the NV vectors may be partial (`last` lanes of it are
stored); loads are always of whole vectors, so operands need a vector of slack behind them.

The other register tiles (`band`, `channel_tiles`, `fold`, `strip`, `small_planes`, `dot`) are made
of the same parts: `Accumulators`, and loops that carry them.

Under ``NUMBA_DISABLE_JIT=1`` it runs as the NumPy expressions near the end of this file, which also
say what is computed.
"""

from contextlib import contextmanager

import numpy as np
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from numbaconv.blocking import TILE_ROWS, TILE_VECTORS
from numbaconv.jit import native
from numbaconv.target import VECTOR_BYTES
from numbaconv.vectors import I64, Vectors, i64


class Accumulators:
    """The MR x NV block of C: loaded or set to the bias, carried by loops, stored at the end."""

    def __init__(self, vectors, rows, columns, c, row_step, last):
        self.v, self.rows, self.columns = vectors, rows, columns
        builder = vectors.builder
        self.pointers = [vectors.at(c, builder.mul(row_step, i64(i))) for i in range(rows)]
        self.mask = vectors.first_lanes(last)
        self.values = []

    def start(self, accumulate, fresh):
        """Read C where `accumulate` holds; else start from `fresh(i, j)` and do not read C."""
        builder = self.v.builder
        with builder.if_else(accumulate) as (then, otherwise):
            with then:
                read = self._block(lambda i, j: self.load_column(self.pointers[i], j))
                read_block = builder.block
            with otherwise:
                first = self._block(fresh)
                first_block = builder.block
        self.values = self._block(
            lambda i, j: join(builder, [(read[i][j], read_block), (first[i][j], first_block)])
        )

    def _block(self, value):
        return [[value(i, j) for j in range(self.columns)] for i in range(self.rows)]

    def load_column(self, row, j):
        """Vector j behind a pointer: of the last one only the lanes of C are read."""
        pointer = self.v.column(row, j)
        if j == self.columns - 1:
            return self.v.load_masked(pointer, self.mask)
        return self.v.load(pointer)

    def store(self):
        """Store C, of its last vectors only the lanes that belong to it."""
        for pointer, row in zip(self.pointers, self.values, strict=True):
            for j, value in enumerate(row[:-1]):
                self.v.store(value, self.v.column(pointer, j))
            self.v.store_masked(row[-1], self.v.column(pointer, self.columns - 1), self.mask)

    def stream(self):
        """Store C past the caches: all of its vectors are whole, and aligned."""
        for pointer, row in zip(self.pointers, self.values, strict=True):
            for j, value in enumerate(row):
                self.v.stream(value, self.v.column(pointer, j))

    def prefetch_next(self, step):
        """Ask for the lines of C `step` on, so that they arrive while this block is multiplied.

        One line a vector, that of its last lane: it begins in the line where another ends.
        """
        for pointer in self.pointers:
            following = self.v.at(pointer, step)
            for j in range(self.columns):
                last = i64((j + 1) * self.v.lanes - 1)
                self.v.prefetch(self.v.at(following, last), write=True)

    def loop_over_taps(self, channels, taps, table, size, operands, step, name):
        """Run `step(entry, pointers, values) -> values` for each tap of each channel.

        The entry of a tap is `size` integers of `table`. `operands` are pointers with the elements
        from one channel to the next; a step gets those of its channel.
        """
        v, builder = self.v, self.v.builder

        def channel(_, rows):
            *values, pointers = rows

            def tap(t, values):
                first = v.at(table, builder.mul(t, i64(size)))
                entry = [builder.load(v.at(first, i64(i))) for i in range(size)]
                return step(entry, pointers, values)

            values = carried_loop(builder, taps, values, tap, name)
            following = [v.at(p, apart) for p, (_, apart) in zip(pointers, operands, strict=True)]
            return [*values, following]

        # Carried along, pointers are there at once for the first channel, often the only one.
        start = [*self.values, [first for first, _ in operands]]
        *self.values, _ = carried_loop(builder, channels, start, channel, f"{name}_channels")

    def loop(self, count, body, name):
        """Run `body(k, values) -> values` for k = 0 .. count - 1, count >= 1, C in registers."""
        self.values = carried_loop(self.v.builder, count, self.values, body, name)


def join(builder, incoming):
    """Phi of the (value, block) pairs."""
    incoming = list(incoming)
    phi = builder.phi(incoming[0][0].type)
    for value, block in incoming:
        phi.add_incoming(value, block)
    return phi


def carried_loop(builder, count, values, body, name):
    """Run `body(k, values) -> values` for k = 0 .. count - 1, count >= 1; return the last values.

    The values, rows of vectors, stay in registers.
    """
    before = builder.block
    block = builder.append_basic_block(name)
    builder.branch(block)
    builder.position_at_end(block)
    k = builder.phi(I64)
    k.add_incoming(i64(0), before)
    carried = [[join(builder, [(old, before)]) for old in row] for row in values]
    new = body(k, carried)
    after = builder.add(k, i64(1))
    k.add_incoming(after, builder.block)
    for phis, row in zip(carried, new, strict=True):
        for phi, value in zip(phis, row, strict=True):
            phi.add_incoming(value, builder.block)
    end = builder.append_basic_block(name + "_end")
    builder.cbranch(builder.icmp_signed("<", after, count), block, end)
    builder.position_at_end(end)
    return new


def for_each_block(builder, rows, columns, choices, columns_choices, emit):
    """Switch on (rows, columns) and let `emit(rows, columns)` fill each case."""
    stride = max(columns_choices) + 1
    end = builder.append_basic_block("blocks_end")
    selector = builder.add(builder.mul(rows, i64(stride)), columns)
    switch = builder.switch(selector, end)
    for mr in choices:
        for nv in columns_choices:
            case = builder.append_basic_block(f"block_{mr}x{nv}")
            switch.add_case(i64(mr * stride + nv), case)
            builder.position_at_end(case)
            emit(mr, nv)
            builder.branch(end)
    builder.position_at_end(end)


def for_each_tile(builder, rows, columns, emit):
    """The same for each block up to the largest that the registers hold."""
    sizes = range(1, TILE_ROWS + 1), range(1, TILE_VECTORS + 1)
    for_each_block(builder, rows, columns, *sizes, emit)


@contextmanager
def side_by_side(vectors, blocks, nv, last, *pointers):
    """Loop over blocks of NV vectors: yields the lanes stored of a block's last, and its pointers.

    One call computes several blocks because a call costs as much as a few steps of k.
    """
    builder = vectors.builder
    final = builder.sub(blocks, i64(1))
    with cgutils.for_range(builder, blocks) as loop:
        first = builder.mul(loop.index, i64(nv * vectors.lanes))
        is_final = builder.icmp_signed("==", loop.index, final)
        stored = builder.select(is_final, last, i64(vectors.lanes))
        yield stored, *(vectors.at(pointer, first) for pointer in pointers)


def _emit_tiles(
    vectors, mr, nv, channels, taps, table, a, a_channel, b, b_channel, c, row_step, bias,
    accumulate, last, blocks, b_step, c_step, ahead,
):  # fmt: skip
    """Register blocks one after the other: a call costs as much as a few steps of k."""
    builder = vectors.builder
    with cgutils.for_range(builder, blocks) as loop:
        pixels = vectors.at(b, builder.mul(loop.index, b_step))
        target = vectors.at(c, builder.mul(loop.index, c_step))
        block = Accumulators(vectors, mr, nv, target, row_step, last)
        block.start(accumulate, lambda i, j: vectors.broadcast(vectors.at(bias, i64(i))))
        with builder.if_then(builder.icmp_signed(">", blocks, i64(1))):
            block.prefetch_next(c_step)
        _multiply_and_store(
            vectors, block, ahead, channels, taps, table, (a, a_channel), (pixels, b_channel)
        )


def _multiply_and_store(vectors, block, ahead, *operands):
    """Multiply a block by one of two loops: one asks for pixels ahead of time.

    Where they are in cache that would cost 0.01 to 0.1 of the time.
    """
    if block.columns < TILE_VECTORS:
        _multiply_tile(vectors, block, None, *operands)
        block.store()
        return
    start = block.values
    near = vectors.builder.icmp_signed("==", ahead, i64(0))
    with vectors.builder.if_else(near, likely=True) as branches:
        for branch, distance in zip(branches, (None, ahead), strict=True):
            with branch:
                block.values = start
                _multiply_tile(vectors, block, distance, *operands)
                block.store()


def _multiply_tile(vectors, block, ahead, channels, taps, table, a, b):
    mr, nv = block.rows, block.columns

    def step(entry, pointers, values):
        of_pixels, of_weights = entry
        weights = vectors.at(pointers[0], of_weights)
        pixels = vectors.at(pointers[1], of_pixels)
        if ahead is not None:
            for j in range(nv):
                vectors.prefetch(vectors.column(vectors.at(pixels, ahead), j))
        xs = [vectors.load(vectors.column(pixels, j)) for j in range(nv)]
        new = []
        for i, row in enumerate(values):
            w = vectors.broadcast(vectors.at(weights, i64(i)))
            new.append([vectors.multiply_add(w, x, old) for x, old in zip(xs, row, strict=True)])
        return new

    block.loop_over_taps(channels, taps, table, 2, (a, b), step, f"tile_{mr}x{nv}")


@intrinsic
def _tile(
    typing_context, mr, nv, channels, taps, table, a, a_channel, b, b_channel, c, row_step, bias,
    accumulate, last, blocks, b_step, c_step, ahead,
):  # fmt: skip
    word, flag = types.int64, types.boolean
    operands = table, a, word, b, word, c, word, bias, flag
    signature = types.void(*(word,) * 4, *operands, *(word,) * 5)

    def codegen(context, builder, signature, arguments):
        mr, nv, *rest = arguments
        vectors = Vectors(builder, signature.args[5].dtype)
        for_each_tile(builder, mr, nv, lambda *size: _emit_tiles(vectors, *size, *rest))
        return context.get_dummy_value()

    return signature, codegen


def listed(channels, taps, table, size, pixels_apart, weights_apart):
    """Places of pixels and weights of each (channel, tap), for what runs in NumPy."""
    for channel in range(channels):
        for pixels, weights, *more in table[: size * taps].reshape(taps, size):
            yield channel * pixels_apart + pixels, channel * weights_apart + weights, *more


def _tile_in_numpy(
    mr, nv, channels, taps, table, a, a_channel, b, b_channel, c, row_step, bias, accumulate, last,
    blocks, b_step, c_step, ahead,
):  # fmt: skip
    width = (nv - 1) * (VECTOR_BYTES // c.itemsize) + last
    places = list(listed(channels, taps, table, 2, b_channel, a_channel))
    weights = np.stack([a[at : at + mr] for _, at in places])
    for block in range(blocks):
        pixels = np.stack([b[at + block * b_step :][:width] for at, _ in places])
        rows = [c[block * c_step + i * row_step :][:width] for i in range(mr)]
        start = np.stack(rows) if accumulate else bias[:mr, None]
        with np.errstate(all="ignore"):
            result = start + (weights[:, :, None] * pixels[:, None, :]).sum(0, dtype=c.dtype)
        for row, values in zip(rows, result, strict=True):
            row[:] = values


def _tile_signature(dtype):
    i, p = types.int64, types.CPointer(dtype)
    return types.void(i, i, i, i, types.CPointer(i), p, i, p, i, p, i, p, i, i, i, i, i, i)


@native(_tile_signature)
def tile(
    mr, nv, channels, taps, table, a, a_channel, b, b_channel, c, row_step, bias, accumulate, last,
    blocks, b_step, c_step, ahead,
):  # fmt: skip
    """C[MR, NV vectors] = bias + (or C +=) A[k, MR] transposed times B[k], k = (channel, tap).

    Parameters
    ----------
    mr, nv : int
        Rows and vectors of a block.
    channels, taps : int
        Channels; taps of each, at least 1.
    table : pointer
        Of each tap its offset in B and that in A, side by side.
    a, a_channel : pointer, int
        Weights of all rows, side by side at the offset of a tap; elements from one channel to the
        next.
    b, b_channel : pointer, int
        Vector j of a tap lies at b[offset + j * lanes]; elements from one channel to the next.
    c, row_step : pointer, int
        First row of C, and elements from one row to the next.
    bias : pointer
        One value for each row; read only where `accumulate` is 0.
    accumulate : int
        1: add to C. 0: do not read C.
    last : int
        Lanes of the last vector that belong to C.
    blocks, b_step, c_step : int
        Blocks, and elements from one to the next, in B and in C.
    ahead : int
        How far ahead elements of B are asked for, where blocks are TILE_VECTORS wide; 0: none.
    """
    _tile(
        mr, nv, channels, taps, table, a, a_channel, b, b_channel, c, row_step, bias,
        accumulate != 0, last, blocks, b_step, c_step, ahead,
    )  # fmt: skip


if config.DISABLE_JIT:
    _tile = _tile_in_numpy
