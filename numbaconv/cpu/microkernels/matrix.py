"""The register tile that layers of networks come down to.

MR rows of weights times NV vectors of pixels, a matrix product whose k = (channel, tap) runs over
all channels and a list of taps, each with its offset among the pixels:

    C[i, p] = bias[i] + sum_c,t A[c, t, i] * B[c, offset of t + p]        (or C[i, p] += ...)

It keeps C in registers while its loops run and is emitted for each register block up to the
largest that the CPU holds. Only the last of the NV vectors may be partial (`last` lanes of it are
stored); loads are always of whole vectors, so operands need a vector of slack behind them.
"""

import functools
from typing import NamedTuple

import numpy as np
from numba.core import cgutils

from numbaconv.codegen.arguments import Elements, Indices
from numbaconv.codegen.pipeline import tidy
from numbaconv.codegen.pointers import CACHE_LINE
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.codegen.twins import emitted
from numbaconv.codegen.vectors import Vectors, i64
from numbaconv.cpu.blocking import TILE_ROWS, TILE_VECTORS
from numbaconv.cpu.microkernels.accumulators import (
    UNROLLED,
    Accumulators,
    for_each_block,
    for_each_tile,
    is_set,
    listed,
)


class TileArguments(NamedTuple):
    """What `tile` takes.

    Attributes
    ----------
    rows, vectors : int
        Rows MR and vectors NV of a block.
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
    prefetch_distance : int
        How far ahead elements of B are asked for, by `prefetching_tile` alone.
    wanted, wanted_step, lines : pointer, int, int
        What `asking_tile` alone asks for before the taps of a channel: so many cache lines;
        elements from there to what it asks for before the next channel's, or the next block's.
    """

    rows: int
    vectors: int
    channels: int
    taps: int
    table: Indices
    a: Elements
    a_channel: int
    b: Elements
    b_channel: int
    c: Elements
    row_step: int
    bias: Elements
    accumulate: int
    last: int
    blocks: int
    b_step: int
    c_step: int
    prefetch_distance: int
    wanted: Elements
    wanted_step: int
    lines: int


def _emit_tile(builder, dtype, o):
    """Switch to the register block of the size that is asked for."""
    vectors, o = _prepared(builder, dtype, o)
    for_each_tile(builder, o.rows, o.vectors, functools.partial(_emit_blocks, vectors, o=o))


def _emit_whole_blocks(builder, dtype, o, **asks):
    """The same for blocks of whole width, whose loops ask for pixels: in cache that costs time."""
    vectors, o = _prepared(builder, dtype, o)
    emit = functools.partial(_emit_blocks, vectors, o=o, **asks)
    for_each_block(builder, o.rows, o.vectors, range(1, TILE_ROWS + 1), [TILE_VECTORS], emit)


def _prepared(builder, dtype, o):
    return Vectors(builder, dtype), o._replace(accumulate=is_set(builder, o.accumulate))


def _emit_blocks(vectors, mr, nv, o, prefetches=False, asks=False):
    """Register blocks one after the other: a call costs as much as a few steps of k."""
    builder = vectors.builder
    with cgutils.for_range(builder, o.blocks) as loop:
        pixels = vectors.at(o.b, builder.mul(loop.index, o.b_step))
        target = vectors.at(o.c, builder.mul(loop.index, o.c_step))
        block = Accumulators(vectors, mr, nv, target, o.row_step, o.last)
        block.start(o.accumulate, lambda i, j: vectors.broadcast(vectors.at(o.bias, i64(i))))
        following = builder.add(loop.index, i64(1))
        with builder.if_then(builder.icmp_signed("<", following, o.blocks)):
            block.prefetch_next(o.c_step)
        o = o._replace(b=pixels)
        if asks:
            channels = builder.mul(loop.index, o.channels)
            o = o._replace(wanted=vectors.at(o.wanted, builder.mul(channels, o.wanted_step)))
        _multiply(vectors, block, o, prefetches, asks)
        block.store()


def _multiply(vectors, block, o, prefetches, asks):
    mr, nv = block.rows, block.columns

    def step(of_pixels, of_weights, pointers, values):
        weights = vectors.at(pointers[0], of_weights)
        pixels = vectors.at(pointers[1], of_pixels)
        if prefetches:
            ahead = vectors.at(pixels, o.prefetch_distance)
            for j in range(nv):
                vectors.prefetch(vectors.column(ahead, j))
        xs = [vectors.load(vectors.column(pixels, j)) for j in range(nv)]
        new = []
        for i, row in enumerate(values):
            w = vectors.broadcast(vectors.at(weights, i64(i)))
            new.append([vectors.multiply_add(w, x, old) for x, old in zip(xs, row, strict=True)])
        return new

    def ask(pointers):
        with cgutils.for_range(vectors.builder, o.lines) as loop:
            line = vectors.builder.mul(loop.index, i64(CACHE_LINE // vectors.align))
            vectors.prefetch(vectors.at(pointers[2], line))

    operands, before = [(o.a, o.a_channel), (o.b, o.b_channel)], None
    if asks:
        operands, before = [*operands, (o.wanted, o.wanted_step)], ask
    runs = [(o.taps, step, UNROLLED)]
    block.loop_over_taps(o.channels, o.table, runs, operands, f"tile_{mr}x{nv}", before)


def _multiply_in_numpy(o):
    width = (o.vectors - 1) * (VECTOR_BYTES // o.c.itemsize) + o.last
    places = list(listed(o.channels, o.taps, o.table, o.b_channel, o.a_channel))
    weights = np.stack([o.a[at : at + o.rows] for _, at in places])
    for block in range(o.blocks):
        pixels = np.stack([o.b[at + block * o.b_step :][:width] for at, _ in places])
        rows = [o.c[block * o.c_step + i * o.row_step :][:width] for i in range(o.rows)]
        start = np.stack(rows) if o.accumulate else o.bias[: o.rows, None]
        with np.errstate(all="ignore"):
            result = start + (weights[:, :, None] * pixels[:, None, :]).sum(0, dtype=o.c.dtype)
        for row, values in zip(rows, result, strict=True):
            row[:] = values


@emitted(TileArguments, _emit_tile, tidy)
def tile(o):
    """C[MR, NV vectors] = bias + (or C +=) A[k, MR] transposed times B[k], k = (channel, tap)."""
    _multiply_in_numpy(o)


@emitted(TileArguments, functools.partial(_emit_whole_blocks, prefetches=True), tidy)
def prefetching_tile(o):
    """Do what `tile` does for blocks of TILE_VECTORS, and ask for its own pixels ahead of time."""
    _multiply_in_numpy(o)


@emitted(TileArguments, functools.partial(_emit_whole_blocks, asks=True), tidy)
def asking_tile(o):
    """Do what `tile` does for blocks of TILE_VECTORS, and ask for what is wanted later.

    That is few lines for many products, as a core waits for few lines of memory at once.
    """
    _multiply_in_numpy(o)
