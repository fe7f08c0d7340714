"""The register block for weight gradients of few channels: products of rows, summed over pixels.

    C[i, t] = sum_r,p G[i, r, p] * X[r, offsets[t] + p]        (or C[i, t] += ...)

Lanes run over the pixels p of a row, and the lanes of an accumulator are added up at the end, in
a fixed order. Partial vectors are loaded under a mask, so no operand needs slack behind it, and
what lies there cannot get into the sums.
"""

from typing import NamedTuple

import numpy as np
from llvmlite import ir

from numbaconv.codegen.arguments import Elements, Indices
from numbaconv.codegen.pipeline import tidy
from numbaconv.codegen.target import REGISTERS
from numbaconv.codegen.twins import emitted
from numbaconv.codegen.vectors import I32, Vectors, i64
from numbaconv.cpu.microkernels.accumulators import Accumulators, for_each_block, is_set

# Output channels x taps of a register block: 4 x 6 + 4 + 1 <= 32 registers, 2 x 6 + 2 + 1 <= 16.
# Each size below the block's is a case of its own, so there are few.
DOT_ROWS = (1, 4) if REGISTERS >= 32 else (1, 2)
DOT_COLUMNS = (1, 3, 6)


def _sum_of_lanes(vectors, value):
    """Add the upper half of the lanes to the lower one until one lane is left."""
    builder = vectors.builder
    half = vectors.lanes // 2
    while half:
        moved = [min(i + half, vectors.lanes - 1) for i in range(vectors.lanes)]
        mask = ir.Constant(ir.VectorType(I32, vectors.lanes), moved)
        value = vectors.add(value, builder.shuffle_vector(value, value, mask))
        half //= 2
    return builder.extract_element(value, ir.Constant(I32, 0))


class DotArguments(NamedTuple):
    """What `dot` takes.

    Attributes
    ----------
    channels, taps : int
        Rows and columns of the block, out of DOT_ROWS and DOT_COLUMNS.
    rows, cols : int
        Pixels, at least one of each.
    g, g_channel, g_row : pointer, int, int
        First gradient, and elements from one channel and one row to the next.
    x, x_row, offsets : pointer, int, pointer
        Pixel (r, p) as tap t sees it lies at x[offsets[t] + r * x_row + p].
    c, c_row : pointer, int
        First sum, and elements from one row of sums to the next.
    accumulate : int
        1: add to C. 0: do not read C.
    """

    channels: int
    taps: int
    rows: int
    cols: int
    g: Elements
    g_channel: int
    g_row: int
    x: Elements
    x_row: int
    offsets: Indices
    c: Elements
    c_row: int
    accumulate: int


def _emit_dot(builder, dtype, o):
    """Switch to the block of the size that is asked for."""
    vectors = Vectors(builder, dtype)
    o = o._replace(accumulate=is_set(builder, o.accumulate))

    def emit(rows, columns):
        _emit_block(vectors, rows, columns, o)

    for_each_block(builder, o.channels, o.taps, DOT_ROWS, DOT_COLUMNS, emit)


def _emit_block(vectors, mr, nt, o):
    """Loop over rows and vectors of pixels; add the lanes up, and store."""
    builder = vectors.builder
    block = Accumulators(vectors, mr, nt, o.c, o.c_row, o.cols)
    block.values = [[vectors.zero()] * nt for _ in range(mr)]
    taps = [vectors.at(o.x, builder.load(vectors.at(o.offsets, i64(t)))) for t in range(nt)]
    channels = [vectors.at(o.g, builder.mul(o.g_channel, i64(i))) for i in range(mr)]
    lanes = i64(vectors.lanes)
    count = builder.sdiv(builder.add(o.cols, i64(vectors.lanes - 1)), lanes)

    def row(r, values):
        block.values = values
        of_x, of_g = builder.mul(r, o.x_row), builder.mul(r, o.g_row)

        def step(j, values):
            p = builder.mul(j, lanes)
            mask = vectors.first_lanes(builder.sub(o.cols, p))
            at_x, at_g = builder.add(of_x, p), builder.add(of_g, p)
            gs = [vectors.load_masked(vectors.at(channel, at_g), mask) for channel in channels]
            new: list[list[ir.Value]] = [[] for _ in gs]
            for t, tap in enumerate(taps):
                pixels = vectors.load_masked(vectors.at(tap, at_x), mask)
                for i, gradient in enumerate(gs):
                    new[i].append(vectors.multiply_add(gradient, pixels, values[i][t]))
            return new

        block.loop(count, step, "pixels")
        return block.values

    block.loop(o.rows, row, "rows")
    _store_sums(vectors, block, o.accumulate)


def _store_sums(vectors, block, accumulate):
    """Store the sum of each accumulator's lanes, or add it to what is there."""
    builder = vectors.builder
    sums = [[_sum_of_lanes(vectors, value) for value in row] for row in block.values]
    with builder.if_else(accumulate) as (then, otherwise):
        for adds, branch in ((True, then), (False, otherwise)):
            with branch:
                for pointer, row_sums in zip(block.pointers, sums, strict=True):
                    for t, value in enumerate(row_sums):
                        at = vectors.at(pointer, i64(t))
                        old = builder.load(at) if adds else None
                        builder.store(vectors.add(old, value) if adds else value, at)


@emitted(DotArguments, _emit_dot, tidy)
def dot(o):
    """C[MR, NT] = (or +=) the sums over pixels of MR channels of G times X at NT offsets."""
    for i in range(o.channels):
        for t in range(o.taps):
            at = i * o.c_row + t
            total = o.c[at] if o.accumulate else o.c.dtype.type(0)
            for r in range(o.rows):
                at_g, at_x = i * o.g_channel + r * o.g_row, o.offsets[t] + r * o.x_row
                with np.errstate(all="ignore"):
                    products = o.g[at_g : at_g + o.cols] * o.x[at_x : at_x + o.cols]
                    total = total + products.sum(dtype=o.c.dtype)
            o.c[at] = total
