"""The register tile of depthwise layers on small maps: all sums of a plane at the same time.

    C[i, p] = bias + sum_kh,kw W[kh, kw] * X[i * stride + kh - size // 2, p * stride + kw]

Filters are square, of some `size`. The weights of one of their columns (or two, under a stride of
2) and the sums of all rows are in registers while the rows of the input go by. Each row is added to
just those sums whose windows hold it: the rows of the padding, a quarter of all under 7x7 on 7
rows, cost nothing. In a strip, whose rows come and go in a loop, they take their time.
"""

import itertools

from numbaconv.codegen.pipeline import tidy
from numbaconv.codegen.target import REGISTERS
from numbaconv.codegen.twins import emitted
from numbaconv.codegen.vectors import Vectors, i64, opaque
from numbaconv.cpu.blocking import SMALL_FILTERS, SMALL_STRIDES
from numbaconv.cpu.microkernels.accumulators import carried_loop, join
from numbaconv.cpu.microkernels.strip import (
    Shape,
    StripArguments,
    for_each_shape,
    strip_in_numpy,
)


class _SmallPlanes:
    """Emits the loops over planes and columns of the filter for one filter and vector."""

    def __init__(self, builder, dtype, shape, operands):
        self.builder, self.size, self.stride, self.o = builder, shape.kh, shape.stride, operands
        self.v = Vectors(builder, dtype, 2 if shape.half else 1)
        self.most = self.v.lanes  # rows, and columns

    def emit(self):
        """Loop over planes."""
        b, o = self.builder, self.o
        stored = self.v.first_lanes(o.last)
        # `first` is that of output row 0, whose window begins in the padding.
        first = b.add(o.first, b.mul(i64(self.size // 2), o.x_row))

        def plane(g, values):
            self.x = self.v.at(o.x, b.add(first, b.mul(g, o.x_plane)))
            self.w = self.v.at(o.w, b.mul(g, o.w_plane))
            c = self.v.at(o.c, b.mul(g, o.c_plane))
            bias = self.v.broadcast(self.v.at(o.bias, g))
            for i, value in self.existing(self.columns([bias] * self.most), o.rows):
                self.v.store_masked(value, self.v.at(c, b.mul(i64(i), o.c_row)), stored)
            return values

        carried_loop(b, o.planes, [], plane, "planes")

    def existing(self, rows, count):
        """Yield (i, row) of those `rows` that exist: `count` of them, at least one."""
        b = self.builder
        end = b.append_basic_block("rows_end")
        for i, row in enumerate(rows):
            if i > 0:
                following = b.append_basic_block("row")
                b.cbranch(b.icmp_signed("<", i64(i), count), following, end)
                b.position_at_end(following)
            yield i, row
        b.branch(end)
        b.position_at_end(end)

    def columns(self, sums):
        """Loop over the columns of the filter: one by one, or in pairs, which share their loads."""
        b = self.builder
        first, count = 0, 1
        if self.stride > 1 and self.most + 2 * self.size + 4 <= REGISTERS:
            # Tap 0 alone: the others lie at whole vectors then under a padding of 1.
            sums = self.rows(i64(0), 1, sums)
            first, count = 1, 2

        def column(number, values):
            k = b.add(b.mul(opaque(b, number), i64(count)), i64(first))
            return [self.rows(k, count, values[0])]

        return carried_loop(b, i64(self.size // count), [sums], column, "columns")[0]

    def rows(self, k, count, sums):
        """Add columns k .. k + count - 1 of the filter, row of the input by row."""
        b = self.builder
        masks, weights = self.load_masks(k), self.load_weights(k, count)
        column, after = self.v.at(self.x, k), []
        for j, _ in self.existing(range(self.most * self.stride), self.o.height):
            row = self.v.at(column, b.mul(i64(j), self.o.x_row))
            loaded = [self.v.load_masked(self.v.column(row, i), m) for i, m in enumerate(masks)]
            sums = self.add_row(j, loaded, weights, sums)
            after.append((sums, b.block))
        return [join(b, [(sums[i], block) for sums, block in after]) for i in range(self.most)]

    def add_row(self, j, loaded, weights, sums):
        """Add row j of the input, times weights[tap][kh], to the sums whose windows hold it."""
        sums = list(sums)
        for i, ws in enumerate(weights):
            pixels = self.every(loaded, i)
            for kh, w in enumerate(ws):
                row, between = divmod(j + self.size // 2 - kh, self.stride)
                if between == 0 and 0 <= row < self.most:
                    sums[row] = self.v.multiply_add(w, pixels, sums[row])
        return sums

    def load_weights(self, k, count):
        """[tap][kh]: the weights of `count` columns of the filter, broadcast."""
        at = [self.v.at(self.w, self.builder.add(k, i64(i))) for i in range(count)]
        rows = range(0, self.size**2, self.size)
        return [[self.v.broadcast(self.v.at(tap, i64(row))) for row in rows] for tap in at]

    def load_masks(self, k):
        """Lanes that tap k reads from the input, for each vector of a row."""
        words = self.v.at(self.o.masks, self.builder.mul(k, i64(self.stride)))
        return [self.v.load_mask(self.v.at(words, i64(i))) for i in range(self.stride)]

    def every(self, loaded, first):
        """Every stride-th element of a row, from `first` on."""
        if self.stride == 1:
            return loaded[0]
        return self.v.every_second(loaded, first)


def _shapes():
    sizes = itertools.product(SMALL_FILTERS, SMALL_STRIDES, (False, True))
    return (Shape(size, stride, 1, half) for size, stride, half in sizes)


def _emit_small_planes(builder, dtype, o):
    """Switch to the shape that is asked for."""

    def emit(shape):
        _SmallPlanes(builder, dtype, shape, o).emit()

    for_each_shape(builder, o, _shapes(), emit)


@emitted(StripArguments, _emit_small_planes, tidy)
def small_planes(o):
    """Do what `strip` does, of which it has all arguments, for these values of them.

    Attributes
    ----------
    kh, kw : int
        The same, one of SMALL_FILTERS.
    vectors, dilation, h_step : int
        1.
    rows, height : int
        At least 1; rows of C at most as many as a vector, or half of it, has lanes, and rows of X
        at most `stride` times that.
    h : int
        -(kh // 2), the padding.
    accumulate, nontemporal : int
        0.
    """
    strip_in_numpy(o)
