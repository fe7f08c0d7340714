"""The register tile of filters: MR neighbouring output rows of one channel.

Each input row is loaded once and serves every output row whose window holds it:

    C[i, p] = bias[0] + sum_kh,kw W[kh, kw] * X[i + kh][columns[kw] + p]        (or C[i, p] += ...)
"""

from typing import Any, NamedTuple

import numpy as np

from numbaconv.codegen.arguments import Elements, Indices
from numbaconv.codegen.pipeline import tidy
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.codegen.twins import emitted
from numbaconv.codegen.vectors import Vectors, i64
from numbaconv.cpu.blocking import BAND_ROWS, BAND_VECTORS
from numbaconv.cpu.microkernels.accumulators import (
    Accumulators,
    for_each_block,
    is_set,
    join,
    side_by_side,
)

_SMALL = 3  # Rows and columns of the filter whose weights stay in registers.


class _Band:
    """Emits the loops over rows and columns of the filter."""

    def __init__(self, vectors, o):
        self.v, self.o = vectors, o

    def input_row(self, j, rows, name):
        """Add input row `j` (an i64) to the output rows in `rows`, looping over kw."""
        v, builder = self.v, self.v.builder
        x_row = v.at(self.x, builder.mul(j, self.o.x_step))
        # Output row i sees input row j through kernel row j - i.
        w_rows = {
            i: v.at(self.o.w, builder.mul(builder.sub(j, i64(i)), self.o.w_step)) for i in rows
        }

        def step(k, values):
            pixels = v.at(x_row, builder.load(v.at(self.o.columns, k)))
            xs = [v.load(v.column(pixels, n)) for n in range(self.block.columns)]
            new = list(values)
            for i in rows:
                w = v.broadcast(v.at(w_rows[i], k))
                new[i] = [v.multiply_add(w, x, old) for x, old in zip(xs, values[i], strict=True)]
            return new

        self.block.loop(self.o.kw, step, name)

    def emit(self, block, x):
        """Add all rows to a block: switch on the filter's height."""
        self.block, self.x = block, x
        start, results = block.values, []
        builder = self.v.builder
        end = builder.append_basic_block("band_end")
        tall = builder.append_basic_block("tall")
        switch = builder.switch(self.o.kh, tall)
        for height in range(1, self.block.rows):
            case = builder.append_basic_block(f"short_{height}")
            switch.add_case(i64(height), case)
            builder.position_at_end(case)
            self.block.values = start
            self.short_kernel(height)
            results.append((self.block.values, builder.block))
            builder.branch(end)
        builder.position_at_end(tall)
        self.block.values = start
        self.tall_kernel()
        results.append((self.block.values, builder.block))
        builder.branch(end)
        builder.position_at_end(end)
        self.block.values = [
            [
                join(builder, [(values[i][j], block) for values, block in results])
                for j in range(self.block.columns)
            ]
            for i in range(self.block.rows)
        ]

    def short_kernel(self, kernel_height):
        """A kernel of fewer rows than the block: every input row is unrolled."""
        rows = self.block.rows
        for j in range(rows + kernel_height - 1):
            served = range(max(0, j - kernel_height + 1), min(j, rows - 1) + 1)
            self.input_row(i64(j), served, f"short_{j}")

    def tall_kernel(self):
        """A kernel of at least as many rows as the block: opening, a loop, closing."""
        rows, builder = self.block.rows, self.v.builder
        for j in range(rows - 1):
            self.input_row(i64(j), range(j + 1), f"open_{j}")
        self._full_rows()
        for j in range(rows - 1):
            self.input_row(builder.add(self.o.kh, i64(j)), range(j + 1, rows), f"close_{j}")

    def _full_rows(self):
        """Input rows rows-1 .. kh-1, each of which every output row sees."""
        rows, builder = self.block.rows, self.v.builder
        first = rows - 1

        def one_row(k, values):
            self.block.values = values
            self.input_row(builder.add(k, i64(first)), range(rows), "full")
            return self.block.values

        self.block.loop(builder.sub(self.o.kh, i64(first)), one_row, "full_rows")


class _SmallBand:
    """The same for a filter of 3x3, unrolled: its weights stay in registers."""

    def __init__(self, vectors, o):
        builder = vectors.builder
        self.v, self.x_step = vectors, o.x_step
        self.columns = [builder.load(vectors.at(o.columns, i64(k))) for k in range(_SMALL)]
        rows = [vectors.at(o.w, builder.mul(o.w_step, i64(j))) for j in range(_SMALL)]
        self.weights = [
            [vectors.broadcast(vectors.at(row, i64(k))) for k in range(_SMALL)] for row in rows
        ]

    def emit(self, block, x):
        """Add all rows to a block."""
        v = self.v
        for j in range(block.rows + _SMALL - 1):
            row = v.at(x, v.builder.mul(i64(j), self.x_step))
            for k, column in enumerate(self.columns):
                pixels = v.at(row, column)
                xs = [v.load(v.column(pixels, n)) for n in range(block.columns)]
                for i in range(max(0, j - _SMALL + 1), min(j, block.rows - 1) + 1):
                    w, pairs = self.weights[j - i][k], zip(xs, block.values[i], strict=True)
                    block.values[i] = [v.multiply_add(w, pixel, old) for pixel, old in pairs]


class BandArguments(NamedTuple):
    """What `band` takes.

    Attributes
    ----------
    rows, vectors : int
        Rows MR and vectors NV of a block, out of BAND_ROWS and BAND_VECTORS.
    kh, kw : int
        Rows and columns of the filter, at least 1.
    x, x_step, columns : pointer, int, pointer
        Input row j as column kw of the filter sees it begins at x[j * x_step + columns[kw]].
    w, w_step : pointer, int
        Filter, and elements from one of its rows to the next.
    c, row_step : pointer, int
        First row of C, and elements from one row to the next.
    bias : pointer
        One value for all rows; read only where `accumulate` is 0.
    accumulate : int
        1: add to C. 0: do not read C.
    last : int
        Lanes of the last vector of the last block that belong to C.
    blocks : int
        Blocks, each of which begins NV vectors after the one before, in X and in C.
    nontemporal : int
        1: all vectors of C are whole and aligned, and are stored past the caches.
    """

    rows: int
    vectors: int
    kh: int
    kw: int
    x: Elements
    x_step: int
    columns: Indices
    w: Elements
    w_step: int
    c: Elements
    row_step: int
    bias: Elements
    accumulate: int
    last: int
    blocks: int
    nontemporal: int


def _emit_band(builder, dtype, o):
    """Switch to the register block of the size that is asked for."""
    vectors = Vectors(builder, dtype)
    flags = is_set(builder, o.accumulate), is_set(builder, o.nontemporal)
    o = o._replace(accumulate=flags[0], nontemporal=flags[1])

    def emit(rows, columns):
        _emit_blocks(vectors, rows, columns, o)

    for_each_block(builder, o.rows, o.vectors, BAND_ROWS, BAND_VECTORS, emit)


def _emit_blocks(vectors, mr, nv, o):
    """Register blocks side by side, each one: start, the rows of the input, store."""
    builder = vectors.builder
    kinds: Any = (_SmallBand, _Band)
    small = [builder.icmp_signed("==", size, i64(_SMALL)) for size in (o.kh, o.kw)]
    with builder.if_else(builder.and_(*small)) as branches:
        for branch, kind in zip(branches, kinds, strict=True):
            with branch:
                rows = kind(vectors, o)
                with side_by_side(vectors, o.blocks, nv, o.last, o.x, o.c) as places:
                    stored, pixels, target = places
                    block = Accumulators(vectors, mr, nv, target, o.row_step, stored)
                    block.start(o.accumulate, lambda i, j: vectors.broadcast(o.bias))
                    rows.emit(block, pixels)
                    _store(builder, block, o.nontemporal)


def _store(builder, block, nontemporal):
    with builder.if_else(nontemporal, likely=False) as (then, otherwise):
        with then:
            block.store_nontemporal()
        with otherwise:
            block.store()


@emitted(BandArguments, _emit_band, tidy)
def band(o):
    """C[MR, NV vectors] = bias[0] + (or C +=) the correlation of MR + kh - 1 input rows with W."""
    width = (o.blocks * o.vectors - 1) * (VECTOR_BYTES // o.c.itemsize) + o.last
    for i in range(o.rows):
        row = o.c[i * o.row_step : i * o.row_step + width]
        total = row.copy() if o.accumulate else np.full(width, o.bias[0], o.c.dtype)
        with np.errstate(all="ignore"):
            for h in range(o.kh):
                for k in range(o.kw):
                    at = (i + h) * o.x_step + o.columns[k]
                    total += o.w[h * o.w_step + k] * o.x[at : at + width]
        row[:] = total
