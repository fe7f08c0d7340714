"""The register tile of depthwise layers on small maps: all sums of a plane at the same time.

    C[i, p] = bias + sum_kh,kw W[kh, kw] * X[i * stride + kh - size // 2, p * stride + kw]

Filters are square, of some `size`. The weights of one of their columns (or two, under a stride of
2) and the sums of all rows are in registers while the rows of the input go by. Each row is added to
just those sums whose windows hold it: the rows of the padding, a quarter of all under 7x7 on 7
rows, cost nothing. In a strip, whose rows come and go in a loop, they take their time.
"""

import itertools
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.core import config
from numba.extending import intrinsic

from numbaconv.blocking import SMALL_FILTERS, STRIP_STRIDES
from numbaconv.jit import native
from numbaconv.microkernel import carried_loop, join
from numbaconv.target import REGISTERS, VECTOR_BYTES
from numbaconv.vectors import Vectors, i64, opaque


class _Operands(NamedTuple):
    """The arguments of `small_planes` from `planes` on, as LLVM values."""

    planes: Any
    rows: Any
    cols: Any
    x: Any
    first: Any
    x_row: Any
    x_plane: Any
    height: Any
    masks: Any
    w: Any
    c: Any
    c_row: Any
    c_plane: Any
    bias: Any


class _SmallPlanes:
    """Emits the loops over planes and columns of the filter for one filter and vector."""

    def __init__(self, builder, dtype, size, stride, half, operands):
        self.builder, self.size, self.stride, self.o = builder, size, stride, operands
        self.v = Vectors(builder, dtype, 2 if half else 1)
        self.most = self.v.lanes  # rows, and columns

    def emit(self):
        """Loop over planes."""
        b, o = self.builder, self.o
        stored = self.v.first_lanes(o.cols)

        def plane(g, values):
            self.x = self.v.at(o.x, b.add(o.first, b.mul(g, o.x_plane)))
            self.w = self.v.at(o.w, b.mul(g, i64(self.size**2)))
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

        def column(turn, values):
            k = b.add(b.mul(opaque(b, turn), i64(count)), i64(first))
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


@intrinsic
def _small_planes(typing_context, size, stride, half, operands):
    signature = types.void(size, stride, half, operands)

    def codegen(context, builder, signature, arguments):
        size, stride, half, values = arguments
        dtype = signature.args[3][_Operands._fields.index("x")].dtype
        fields = range(len(_Operands._fields))
        operands = _Operands(*(builder.extract_value(values, i) for i in fields))
        end = builder.append_basic_block("small_planes_end")
        shape = builder.add(builder.mul(stride, i64(2)), half)
        switch = builder.switch(builder.add(builder.mul(size, i64(8)), shape), end)
        for size, stride, half in itertools.product(SMALL_FILTERS, STRIP_STRIDES, range(2)):
            case = builder.append_basic_block("small_planes")
            switch.add_case(i64(8 * size + 2 * stride + half), case)
            builder.position_at_end(case)
            _SmallPlanes(builder, dtype, size, stride, half, operands).emit()
            builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return signature, codegen


def _small_planes_in_numpy(size, stride, half, operands):
    o = _Operands(*operands)
    lanes = VECTOR_BYTES // o.c.itemsize // (2 if half else 1)
    bits = o.masks[: size * stride].reshape(size, -1, 1) >> np.arange(lanes) & 1
    inside = bits.reshape(size, -1)[:, : o.cols * stride : stride] == 1
    for g, i in np.ndindex(o.planes, o.rows):
        total = np.full(o.cols, o.bias[g], o.c.dtype)
        for kh, k in np.ndindex(size, size):
            j = i * stride + kh - size // 2
            if 0 <= j < o.height:
                at = o.first + g * o.x_plane + j * o.x_row + k + stride * np.arange(o.cols)
                pixels = np.where(inside[k], o.x[np.where(inside[k], at, 0)], o.c.dtype.type(0))
                with np.errstate(all="ignore"):
                    total += o.w[(g * size + kh) * size + k] * pixels
        o.c[g * o.c_plane + i * o.c_row :][: o.cols] = total


def _small_planes_signature(dtype):
    i, p = types.int64, types.CPointer(dtype)
    return types.void(i, i, i, i, i, i, p, i, i, i, i, types.CPointer(i), p, p, i, i, p)


@native(_small_planes_signature)
def small_planes(
    size,
    stride,
    half,
    planes,
    rows,
    cols,
    x,
    first,
    x_row,
    x_plane,
    height,
    masks,
    w,
    c,
    c_row,
    c_plane,
    bias,
):
    """C[planes, rows, cols] = bias + the correlation of X with W, padded by size // 2 rows.

    Parameters
    ----------
    size, stride : int
        Rows and columns of the filters, one of SMALL_FILTERS; their stride along both axes.
    half : int
        1: a row of C is half a vector at most. 0: it is one.
    planes, rows, cols : int
        Planes, each with a filter of its own; rows and columns of one: both at least 1, and at most
        the lanes of such a vector.
    x, first, x_row, x_plane : pointer, int, int, int
        The element that column 0 of a filter reads for C[0, 0] in input row 0 is x[first], which
        may lie in the padding; elements from one row or plane to the next.
    height : int
        Rows of X, at least 1 and at most `stride` times the lanes.
    masks : pointer
        [column][stride], for the vectors that a row of C spans in X: bit i of an entry says that
        this column of the filter reads lane i of that vector from the input, and not a zero.
    w : pointer
        Filters, [plane][size][size].
    c, c_row, c_plane : pointer, int, int
        First element of C, and elements from one row or plane to the next.
    bias : pointer
        One value for each plane.
    """
    image = x, first, x_row, x_plane, height, masks
    _small_planes(size, stride, half, (planes, rows, cols, *image, w, c, c_row, c_plane, bias))


if config.DISABLE_JIT:
    _small_planes = _small_planes_in_numpy
