"""The register block for weight gradients of few channels: products of rows, summed over pixels.

    C[i, t] = sum_r,p G[i, r, p] * X[r, offsets[t] + p]        (or C[i, t] += ...)

Lanes run over the pixels p of a row, and the lanes of an accumulator are added up at the end, in
a fixed order. The partial vector that ends a row is loaded under a mask, so no operand needs slack
behind it, and what lies there cannot get into the sums. Others are not: a masked load takes the
units that multiply, too.
"""

import functools
from typing import NamedTuple

import numpy as np
from llvmlite import ir

from numbaconv.codegen.arguments import Elements, Indices
from numbaconv.codegen.pipeline import tidy
from numbaconv.codegen.target import REGISTERS
from numbaconv.codegen.twins import emitted
from numbaconv.codegen.vectors import I32, Vectors, i64
from numbaconv.cpu.microkernels.accumulators import carried_loop, for_each_block, if_any, is_set

# Rows and columns of register blocks: 4 x 6 + 4 + 1 <= 32 registers, 3 x 3 + 3 + 1 <= 16. Each size
# is a case of its own, so there are few: of a block that is smaller than its case the last row, or
# column, is computed more than once.
DOT_ROWS, DOT_COLUMNS = ((1, 3, 4), (3, 6)) if REGISTERS >= 32 else ((1, 3), (3,))


class DotArguments(NamedTuple):
    """What `dot` takes.

    Attributes
    ----------
    channels, taps : int
        Rows and columns of the block, at least one of each, and no more than the last of DOT_ROWS
        and of DOT_COLUMNS.
    rows, cols : int
        Pixels, at least one of each.
    g, first, g_channel, g_row : pointer, int, int, int
        The first gradient is g[first]; elements from one channel, which may lie before, and one
        row to the next.
    x, x_row, offsets : pointer, int, pointer
        Pixel (r, p) as tap t sees it lies at x[offsets[t] + r * x_row + p].
    c, c_row : pointer, int
        First sum, and elements from one row of sums to the next.
    accumulate : int
        1: add to C. 0: do not read C.
    ahead : int
        How far behind each vector of G one is asked for that comes from memory; 0: none is.
    """

    channels: int
    taps: int
    rows: int
    cols: int
    g: Elements
    first: int
    g_channel: int
    g_row: int
    x: Elements
    x_row: int
    offsets: Indices
    c: Elements
    c_row: int
    accumulate: int
    ahead: int


def _emit_dot(builder, dtype, o):
    """Switch to the smallest block that holds the one that is asked for."""
    vectors = Vectors(builder, dtype)
    o = o._replace(accumulate=is_set(builder, o.accumulate))

    def emit(rows, columns):
        _emit_block(vectors, rows, columns, o)

    rows, columns = (
        _smallest(builder, sizes, count)
        for sizes, count in ((DOT_ROWS, o.channels), (DOT_COLUMNS, o.taps))
    )
    for_each_block(builder, rows, columns, DOT_ROWS, DOT_COLUMNS, emit)


def _smallest(builder, sizes, count):
    """The smallest of some ascending sizes that holds so many."""
    found = i64(sizes[-1])
    for size in sizes[-2::-1]:
        found = builder.select(builder.icmp_signed("<=", count, i64(size)), i64(size), found)
    return found


def _up_to(builder, i, count):
    """The number of a row or column, or of the last one if there are not so many."""
    if i == 0:
        return i64(0)
    inside = builder.icmp_signed("<", i64(i), count)
    return builder.select(inside, i64(i), builder.sub(count, i64(1)))


def _emit_block(vectors, mr, nt, o):
    """Loop over rows and vectors of pixels; add the lanes up, and store."""
    builder = vectors.builder
    values = [[vectors.zero()] * nt for _ in range(mr)]
    offsets = [builder.load(vectors.at(o.offsets, _up_to(builder, t, o.taps))) for t in range(nt)]
    taps = [vectors.at(o.x, offset) for offset in offsets]
    first = vectors.at(o.g, o.first)
    channels = [
        vectors.at(first, builder.mul(o.g_channel, _up_to(builder, i, o.channels)))
        for i in range(mr)
    ]
    lanes = i64(vectors.lanes)
    whole = builder.sdiv(o.cols, lanes)
    rest = builder.srem(o.cols, lanes)
    mask = vectors.first_lanes(rest)
    asks = builder.icmp_signed("!=", o.ahead, i64(0))

    def row(r, values):
        of_x, of_g = builder.mul(r, o.x_row), builder.mul(r, o.g_row)

        def step(j, values):
            p = builder.mul(j, lanes)
            operands = channels, builder.add(of_g, p), taps, builder.add(of_x, p)
            with builder.if_then(asks):
                for channel in channels:
                    vectors.prefetch(vectors.at(channel, builder.add(operands[1], o.ahead)))
            return _multiplied(vectors, values, *operands, vectors.load)

        def last(values):
            p = builder.mul(whole, lanes)
            operands = channels, builder.add(of_g, p), taps, builder.add(of_x, p)
            masked = functools.partial(vectors.load_masked, mask=mask)
            return _multiplied(vectors, values, *operands, masked)

        values = if_any(
            builder,
            whole,
            values,
            lambda values: carried_loop(builder, whole, values, step, "pixels"),
        )
        return if_any(builder, rest, values, last)

    values = carried_loop(builder, o.rows, values, row, "rows")
    for i in range(mr):
        of_row = builder.select(builder.icmp_signed("<", i64(i), o.channels), o.taps, i64(0))
        _store_sums(vectors, o, vectors.at(o.c, builder.mul(o.c_row, i64(i))), values[i], of_row)


def _multiplied(vectors, values, channels, at_g, taps, at_x, load):
    """Add the products of a vector of each channel and one of each tap to the values."""
    gs = [load(vectors.at(channel, at_g)) for channel in channels]
    new: list[list[ir.Value]] = [[] for _ in gs]
    for t, tap in enumerate(taps):
        pixels = load(vectors.at(tap, at_x))
        for i, gradient in enumerate(gs):
            new[i].append(vectors.multiply_add(gradient, pixels, values[i][t]))
    return new


def sums_of_lanes(vectors, values):
    """One vector of the sum of each vector's lanes, of which there are no more than lanes.

    Whatever their number, the lanes of a vector are added in the same order: halves of pairs of
    vectors lie side by side after the first step, quarters of four after the next.
    """
    width = vectors.lanes
    while width > 1:
        half = width // 2
        pieces = range(0, vectors.lanes, width)
        masks = [
            ir.Constant(
                ir.VectorType(I32, vectors.lanes),
                [
                    of * vectors.lanes + piece + part + i
                    for of in range(2)
                    for piece in pieces
                    for i in range(half)
                ],
            )
            for part in (0, half)
        ]
        pairs = [(values[i], values[min(i + 1, len(values) - 1)]) for i in range(0, len(values), 2)]
        values = [
            vectors.add(*(vectors.builder.shuffle_vector(*pair, mask) for mask in masks))
            for pair in pairs
        ]
        width = half
    return values[0]


def _store_sums(vectors, o, pointer, values, count):
    """Store the sums of the first vectors' lanes, as many as there are columns, or add them."""
    builder = vectors.builder
    for first in range(0, len(values), vectors.lanes):
        sums = sums_of_lanes(vectors, values[first : first + vectors.lanes])
        at = vectors.at(pointer, i64(first))
        mask = vectors.lanes_between(i64(0), builder.sub(count, i64(first)))
        with builder.if_else(o.accumulate) as (then, otherwise):
            with then:
                added = vectors.add(vectors.load_masked(at, mask), sums)
                vectors.store_masked(added, at, mask)
            with otherwise:
                vectors.store_masked(sums, at, mask)


@emitted(DotArguments, _emit_dot, tidy)
def dot(o):
    """C[MR, NT] = (or +=) the sums over pixels of MR channels of G times X at NT offsets."""
    for i in range(o.channels):
        for t in range(o.taps):
            at = i * o.c_row + t
            total = o.c[at] if o.accumulate else o.c.dtype.type(0)
            for r in range(o.rows):
                at_g, at_x = o.first + i * o.g_channel + r * o.g_row, o.offsets[t] + r * o.x_row
                with np.errstate(all="ignore"):
                    products = o.g[at_g : at_g + o.cols] * o.x[at_x : at_x + o.cols]
                    total = total + products.sum(dtype=o.c.dtype)
            o.c[at] = total
