"""The register block of weight gradients of planes: strips of columns, walked from top to bottom.

    C[kh, kw] += sum_i,p G[i, p] * X[i * stride + kh, p * stride + kw * dilation]

It is `strip` where weights and results change places. The sums of a block of taps are in registers,
and so are the rows of G that meet a row of X: each is loaded once, where it lies, with masks that
keep the loads inside of the rows. Lanes run over the pixels p; those of a sum are added up at the
end of a plane.

Loops: planes, strips, rows. Above the first row of G and below its last, rows of X meet zeros
instead: such products are NaN where X is not finite. A single row of taps meets none.
"""

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir

from numbaconv.codegen.arguments import Elements
from numbaconv.codegen.integers import ceil_div
from numbaconv.codegen.pipeline import tidy
from numbaconv.codegen.pointers import CACHE_LINE
from numbaconv.codegen.target import REGISTERS
from numbaconv.codegen.twins import emitted
from numbaconv.codegen.vectors import I32, Vectors, i64, opaque
from numbaconv.cpu.microkernels.accumulators import carried_loop, join_blocks, where
from numbaconv.cpu.microkernels.dot import sums_of_lanes

# Rows of a block of taps, ascending, and its columns: a sum for each tap, a row of G for each row,
# and a vector of X are 31 registers at most, or 13 of 16.
SUM_BLOCKS = {3: 3, 5: 5, 7: 3} if REGISTERS >= 32 else {3: 3}
SUM_STRIDES = (1, 2)
MOST_SUM_ROWS = max(SUM_BLOCKS)
# All blocks, the smallest first that hold the same taps: the last column of seven has its own.
_CASES = ((3, 3), (5, 5), (7, 1), (7, 3)) if REGISTERS >= 32 else ((3, 3),)
# Cache lines behind those of a strip that are asked for: of the next strips of its rows.
_PREFETCHED = 4


class StripSumsArguments(NamedTuple):
    """What `strip_sums` takes.

    Attributes
    ----------
    down, across : int
        Rows and columns of the block of taps, at least one of each: no more than MOST_SUM_ROWS, and
        than SUM_BLOCKS has for the next number of rows.
    stride, dilation : int
        One of SUM_STRIDES; elements from one column of taps to the next: 1 under a stride of 2.
    half : int
        1: vectors have half the lanes, for maps that these cover.
    planes, rows, cols : int
        Planes, each with sums of its own; pixels of a plane of G.
    steps : int
        At least one. In step i the rows of X behind i * stride meet row i of G, and rows before it.
    g, g_row, g_plane : pointer, int, int
        The first gradient; elements from one row or plane to the next.
    x, first, x_row, x_plane : pointer, int, int, int
        The element that tap (0, 0) sees of pixel (0, 0) is x[first], which may lie in the padding;
        elements from one row or plane to the next.
    h, h_step, height : int
        Row j of X is row h + j * h_step of `height`; beyond these it is padding.
    w, width : int
        The column of that element, of so many; beyond these it is padding.
    zeros : pointer
        A vector of zeros.
    c, c_row, c_plane : pointer, int, int
        First sum; elements from one row or plane of sums to the next.
    """

    down: int
    across: int
    stride: int
    dilation: int
    half: int
    planes: int
    rows: int
    cols: int
    steps: int
    g: Elements
    g_row: int
    g_plane: int
    x: Elements
    first: int
    x_row: int
    x_plane: int
    h: int
    h_step: int
    height: int
    w: int
    width: int
    zeros: Elements
    c: Elements
    c_row: int
    c_plane: int


class _Block:
    """Emits the loops over planes, strips and rows for a block of one size."""

    def __init__(self, builder, dtype, rows, columns, stride, half, operands):
        self.builder, self.o = builder, operands
        self.rows, self.columns, self.stride, self.half = rows, columns, stride, half
        self.v = Vectors(builder, dtype, 2 if half else 1)
        self.under_way = ceil_div(rows, stride)
        self.ahead = i64(_PREFETCHED * CACHE_LINE * 8 // dtype.bitwidth)

    def emit(self):
        """Loop over planes."""
        b, o, v = self.builder, self.o, self.v
        self.strips = b.sdiv(b.add(o.cols, i64(v.lanes - 1)), i64(v.lanes))
        self.open_sums()

        def plane(k, values):
            self.g = v.at(o.g, b.mul(k, o.g_plane))
            self.x = v.at(o.x, b.add(o.first, b.mul(k, o.x_plane)))
            none = [[v.zero()] * self.columns for _ in range(self.rows)]
            sums = carried_loop(b, self.strips, none, self.strip, "strips")
            self.add_sums(v.at(o.c, b.mul(k, o.c_plane)), sums)
            return values

        carried_loop(b, o.planes, [], plane, "planes")

    def open_sums(self):
        """Of each piece of a row of sums that fits a vector, the lanes that belong to C."""
        b, o, v = self.builder, self.o, self.v
        self.width = min(self.columns, v.lanes)
        self.pieces = range(0, self.columns, self.width)
        across = [v.lanes_between(i64(0), b.sub(o.across, i64(first))) for first in self.pieces]
        none = ir.Constant(v.mask, [0] * v.lanes)
        inside = [b.icmp_signed("<", i64(i), o.down) for i in range(self.rows)]
        self.stored = [[b.select(row, piece, none) for row in inside] for piece in across]

    def add_sums(self, c, sums):
        """Add lanes up, as many rows at a time as a vector has sums of, and add these to C.

        All of C is read before any is stored: a load waits long for a store that it overlaps.
        """
        b, v = self.builder, self.v
        rows = [v.at(c, b.mul(self.o.c_row, i64(i))) for i in range(self.rows)]
        together = v.lanes // self.width
        for first, masks in zip(self.pieces, self.stored, strict=True):
            places = [v.at(row, i64(first)) for row in rows]
            old = [v.load_masked(*each) for each in zip(places, masks, strict=True)]
            new = []
            for i in range(0, self.rows, together):
                some = [row[first : first + self.width] for row in sums[i : i + together]]
                added = sums_of_lanes(v, [value for row in some for value in row])
                new += [self.row_of(added, k) for k in range(len(some))]
            for place, mask, before, more in zip(places, masks, old, new, strict=True):
                v.store_masked(v.add(before, more), place, mask)

    def row_of(self, added, k):
        """The k-th row of some sums, as the first lanes."""
        lanes = self.v.lanes
        moved = [(k * self.width + lane) % lanes for lane in range(lanes)]
        mask = ir.Constant(ir.VectorType(I32, lanes), moved)
        return self.builder.shuffle_vector(added, added, mask)

    def strip(self, s, sums):
        """Loop over the rows of a strip, with masks if one of its loads may leave a row."""
        b = self.builder
        inside = self.open_strip(b.mul(s, i64(self.v.lanes)))
        if self.half:  # its maps are narrower, so it always does
            return self.loop_over_rows(sums, self.strip_masks())
        ways = []
        with b.if_else(inside) as (then, otherwise):
            with then:
                ways.append((self.loop_over_rows(sums, {}), b.block))
            with otherwise:
                ways.append((self.loop_over_rows(sums, self.strip_masks()), b.block))
        return join_blocks(b, ways)

    def open_strip(self, p):
        """Place the strip at column p of G; return whether all of its vectors lie in their rows.

        A run of taps, as many as the stride, reads the same vectors, as many.
        """
        b, o, v = self.builder, self.o, self.v
        first = b.mul(p, i64(self.stride))
        self.left, self.column = b.sub(o.cols, p), b.add(o.w, first)
        self.g_at, self.x_at = v.at(self.g, p), v.at(self.x, first)
        self.runs = [b.mul(o.dilation, i64(tap)) for tap in range(0, self.columns, self.stride)]
        end = b.add(b.add(self.column, self.runs[-1]), i64(self.stride * v.lanes))
        whole = b.icmp_signed(">=", self.left, i64(v.lanes))
        within = b.icmp_signed(">=", self.column, i64(0)), b.icmp_signed("<=", end, o.width)
        return b.and_(whole, b.and_(*within))

    def strip_masks(self):
        """Return a mask for each vector: what lies in its row, and belongs to a pixel.

        A vector of X is known by its run and its number there, and that of G is None.
        """
        b, v = self.builder, self.v
        pixels = b.mul(self.left, i64(self.stride))
        masks: dict[Any, Any] = {None: self.lanes(i64(0), self.left)}
        for run, offset in enumerate(self.runs):
            for i in range(self.stride):
                at = i64(i * v.lanes)
                first = b.add(b.add(self.column, offset), at)
                ends = b.sub(self.o.width, first), b.sub(pixels, at)
                end = b.select(b.icmp_signed("<", *ends), *ends)
                masks[run, i] = self.lanes(b.neg(first), end)
        return masks

    def lanes(self, begin, end):
        """Mask of the lanes from `begin` to before `end`: before the vector, in it, or behind it.

        Half of what `lanes_between` takes: no begin is far behind a vector, no end far before it.
        """
        b, v = self.builder, self.v
        most, none = i64(v.lanes), i64(0)
        begin = v.splat32(b.select(b.icmp_signed(">", begin, none), begin, none))
        end = v.splat32(b.select(b.icmp_signed("<", end, most), end, most))
        numbers = ir.Constant(begin.type, list(range(v.lanes)))
        return b.and_(b.icmp_signed("<=", begin, numbers), b.icmp_signed("<", numbers, end))

    def loop_over_rows(self, sums, masks):
        """Add the products of all rows of a strip to the sums."""
        self.masks = masks
        start = [*sums, [self.v.zero()] * self.under_way]
        return carried_loop(self.builder, self.o.steps, start, self.step, "rows")[:-1]

    def load(self, at, vector):
        """Load a vector, which has a mask or lies in its row."""
        return self.v.load_masked(at, self.masks[vector]) if self.masks else self.v.load(at)

    def step(self, t, rows):
        """Load row t of G, or zeros behind the last, and multiply the next `stride` rows of X."""
        b, o, v = self.builder, self.o, self.v
        *sums, gs = rows
        t = opaque(b, t)
        g = v.at(self.g_at, b.mul(t, o.g_row))
        g = b.select(b.icmp_signed("<", t, o.rows), g, o.zeros)
        self.ask_for(g)
        gs = [self.load(g, None), *gs[:-1]]
        for q in range(self.stride):
            j = b.add(b.mul(t, i64(self.stride)), i64(q))
            x = v.at(self.x_at, b.mul(j, o.x_row))
            self.ask_for(x)
            inside = b.icmp_unsigned("<", b.add(o.h, b.mul(j, o.h_step)), o.height)
            sums = where(b, inside, sums, lambda sums, x=x, q=q: self.multiply(x, q, gs, sums))
        return [*sums, gs]

    def ask_for(self, row):
        """Ask for what the next strips read of a row; narrow maps lie one behind the other."""
        if not self.half:
            self.v.prefetch(self.v.at(row, self.ahead))

    def multiply(self, x, q, gs, sums):
        """Multiply a row of X, the q-th under the stride, by the rows of G that it meets."""
        v, new = self.v, [list(row) for row in sums]
        for run, offset in enumerate(self.runs):
            first = v.at(x, offset)
            loaded = [self.load(v.column(first, i), (run, i)) for i in range(self.stride)]
            for i, tap in enumerate(range(run * self.stride, self.columns)[: self.stride]):
                pixels = v.every(loaded, i)
                for g, kh in zip(gs, range(q, self.rows, self.stride), strict=False):
                    new[kh][tap] = v.multiply_add(g, pixels, new[kh][tap])
        return new


def _holds(builder, o, rows, columns):
    """Whether a block of so many rows and columns holds the taps."""
    down = builder.icmp_signed("<=", o.down, i64(rows))
    return builder.and_(down, builder.icmp_signed("<=", o.across, i64(columns)))


def _emit_strip_sums(builder, dtype, o):
    """Switch to the smallest block that holds the taps, and to the stride."""
    number = i64(0)
    for i, size in reversed([*enumerate(_CASES)]):
        number = builder.select(_holds(builder, o, *size), i64(i), number)
    for digit in (o.stride, o.half):
        number = builder.add(builder.mul(number, i64(4)), digit)
    end = builder.append_basic_block("sums_end")
    switch = builder.switch(number, end)
    for i, (rows, columns) in enumerate(_CASES):
        for stride in SUM_STRIDES:
            for half in range(2):
                case = builder.append_basic_block(f"sums_{rows}x{columns}")
                switch.add_case(i64((i * 4 + stride) * 4 + half), case)
                builder.position_at_end(case)
                _Block(builder, dtype, rows, columns, stride, half == 1, o).emit()
                builder.branch(end)
    builder.position_at_end(end)


@emitted(StripSumsArguments, _emit_strip_sums, tidy)
def strip_sums(o):
    """C[down, across] += sums over the pixels of planes of G times X as each tap sees it."""
    p = np.arange(o.cols)
    for k, kh, kw, i in np.ndindex(o.planes, o.down, o.across, o.rows):
        column = p * o.stride + kw * o.dilation
        inside = p[(o.w + column >= 0) & (o.w + column < o.width)]
        j = i * o.stride + kh
        if 0 <= o.h + j * o.h_step < o.height:
            x = o.x[k * o.x_plane + o.first + j * o.x_row + column[inside]]
            with np.errstate(all="ignore"):
                total = (o.g[k * o.g_plane + i * o.g_row + inside] * x).sum(dtype=o.c.dtype)
                o.c[k * o.c_plane + kh * o.c_row + kw] += total
