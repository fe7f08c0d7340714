"""The register block for weight gradients of few channels: products of rows, summed over pixels.

    C[i, t] = sum_r,p G[i, r, p] * X[r, offsets[t] + p]        (or C[i, t] += ...)

Lanes run over the pixels p of a row, and the lanes of an accumulator are added up at the end, in
a fixed order. Partial vectors are loaded under a mask, so no operand needs slack behind it, and
what lies there cannot get into the sums.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from numbaconv.codegen.jit import native
from numbaconv.codegen.target import REGISTERS
from numbaconv.codegen.vectors import I32, Vectors, i64
from numbaconv.cpu.microkernels.accumulators import Accumulators, for_each_block

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


def _emit_dot(vectors, mr, nt, rows, cols, g, g_channel, g_row, x, x_row, offsets, c, c_row, add):
    builder = vectors.builder
    block = Accumulators(vectors, mr, nt, c, c_row, cols)
    block.values = [[vectors.zero()] * nt for _ in range(mr)]
    taps = [vectors.at(x, builder.load(vectors.at(offsets, i64(t)))) for t in range(nt)]
    channels = [vectors.at(g, builder.mul(g_channel, i64(i))) for i in range(mr)]
    lanes = i64(vectors.lanes)
    count = builder.sdiv(builder.add(cols, i64(vectors.lanes - 1)), lanes)

    def row(r, values):
        block.values = values
        of_x, of_g = builder.mul(r, x_row), builder.mul(r, g_row)

        def step(j, values):
            p = builder.mul(j, lanes)
            mask = vectors.first_lanes(builder.sub(cols, p))
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

    block.loop(rows, row, "rows")
    sums = [[_sum_of_lanes(vectors, value) for value in row] for row in block.values]
    with builder.if_else(add) as (then, otherwise):
        for more, branch in ((True, then), (False, otherwise)):
            with branch:
                for pointer, row_sums in zip(block.pointers, sums, strict=True):
                    for t, value in enumerate(row_sums):
                        at = vectors.at(pointer, i64(t))
                        old = builder.load(at) if more else None
                        builder.store(vectors.add(old, value) if more else value, at)


@intrinsic
def _dot(typing_context, mr, nt, rows, cols, g, g_channel, g_row, x, x_row, offsets, c, c_row, add):
    word = types.int64
    signature = types.void(
        word, word, word, word, g, word, word, x, word, offsets, c, word, types.boolean
    )

    def codegen(context, builder, signature, arguments):
        mr, nt, *rest = arguments
        vectors = Vectors(builder, signature.args[4].dtype)
        for_each_block(
            builder,
            mr,
            nt,
            DOT_ROWS,
            DOT_COLUMNS,
            lambda rows, columns: _emit_dot(vectors, rows, columns, *rest),
        )
        return context.get_dummy_value()

    return signature, codegen


def _dot_in_numpy(mr, nt, rows, cols, g, g_channel, g_row, x, x_row, offsets, c, c_row, add):
    for i in range(mr):
        for t in range(nt):
            total = c[i * c_row + t] if add else c.dtype.type(0)
            for r in range(rows):
                at_g, at_x = i * g_channel + r * g_row, offsets[t] + r * x_row
                with np.errstate(all="ignore"):
                    products = g[at_g : at_g + cols] * x[at_x : at_x + cols]
                    total = total + products.sum(dtype=c.dtype)
            c[i * c_row + t] = total


if config.DISABLE_JIT:
    _dot = _dot_in_numpy


def _signature(dtype):
    i, p = types.int64, types.CPointer(dtype)
    return types.void(i, i, i, i, p, i, i, p, i, types.CPointer(i), p, i, i)


@native(_signature)
def dot(mr, nt, rows, cols, g, g_channel, g_row, x, x_row, offsets, c, c_row, accumulate):
    """C[MR, NT] = (or +=) the sums over rows x cols pixels of G's channels times X at NT offsets.

    Parameters
    ----------
    mr, nt : int
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
    _dot(
        mr, nt, rows, cols, g, g_channel, g_row, x, x_row, offsets, c, c_row, accumulate != 0
    )  # fmt: skip
