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

import numpy as np
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from numbaconv.codegen.jit import native
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.codegen.vectors import Vectors, i64
from numbaconv.cpu.blocking import TILE_VECTORS
from numbaconv.cpu.microkernels.accumulators import Accumulators, for_each_tile, listed


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
