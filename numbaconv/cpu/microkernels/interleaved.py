"""The register tile of interleaved channels: MR neighbouring rows of a photograph.

Lanes are channels of neighbouring pixels. Those of a vector repeat after `period` vectors, so that
vectors a period apart have the same weights. Row i of C sees input row i + kh, and of that the
vectors at `columns[kw]`:

    C[i, v] = bias[p] + sum_kd,kh,kw W[p, kd, kh, kw] * X[kd, i + kh, columns[kw] + v]

for all lanes of vector v, where p = v % period. An input row is loaded once and serves all rows
whose windows hold it, and a weight serves all vectors of a register block. Loops: blocks of
vectors, so that a row is read in order; vectors of a period; the filter's planes, rows and columns.
"""

import functools
from typing import NamedTuple

import numpy as np
from numba.core import cgutils

from numbaconv.codegen.arguments import Elements, Indices
from numbaconv.codegen.pipeline import tidy
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.codegen.twins import emitted
from numbaconv.codegen.vectors import Vectors, i64
from numbaconv.cpu.blocking import INTERLEAVED_ROWS, INTERLEAVED_VECTORS
from numbaconv.cpu.microkernels.accumulators import carried_loop, for_each_block, is_set


class InterleavedTileArguments(NamedTuple):
    """What `interleaved_tile` takes.

    Attributes
    ----------
    rows : int
        Rows of C: 1 to INTERLEAVED_ROWS, and at most `kh` unless that is 1.
    vectors, period : int
        Vectors of a row, and after how many of them the channels of their lanes repeat.
    kd, kh, kw : int
        Planes, rows and columns of the filter. A filter of one row may be any list of taps: those
        are its columns.
    x, x_plane, x_row : pointer, int, int
        The element that tap (0, 0, 0) of the first output reads; elements from one plane of the
        filter to the next, and from what one row of C reads first to what the next one does.
    columns : pointer
        Elements from there to what each column of the filter reads.
    w : pointer
        Weights, [period][kd][kh][kw][lanes].
    c, row_step : pointer, int
        First row of C, whole vectors, and elements from one row to the next.
    bias : pointer
        [period][lanes].
    nontemporal : int
        1: C lies at whole vectors, and is stored past the caches.
    prefetches : int
        1: the tile asks for the rows that the next ones of C read first.
    """

    rows: int
    vectors: int
    period: int
    kd: int
    kh: int
    kw: int
    x: Elements
    x_plane: int
    x_row: int
    columns: Indices
    w: Elements
    c: Elements
    row_step: int
    bias: Elements
    nontemporal: int
    prefetches: int


class _Block:
    """Emits a register block: rows of vectors that lie a period apart."""

    def __init__(self, vectors, o, rows, columns):
        self.v, self.o, self.rows = vectors, o, rows
        step = vectors.builder.mul(o.period, i64(vectors.lanes))
        self.apart = [vectors.builder.mul(step, i64(n)) for n in range(columns)]

    def emit(self, vector, at, shares):
        """Start from the bias of a vector of the period, add all taps, store at element `at`."""
        v, b, o = self.v, self.v.builder, self.o
        taps = b.mul(b.mul(o.kd, o.kh), o.kw)
        x, w = v.at(o.x, at), v.at(o.w, b.mul(b.mul(vector, taps), i64(v.lanes)))
        start = v.load(v.at(o.bias, b.mul(vector, i64(v.lanes))))
        with b.if_then(is_set(b, o.prefetches)):
            self._prefetch(x)
        plane = functools.partial(self._shared_plane if shares else self._plane, x, w)
        values = [[start] * len(self.apart) for _ in range(self.rows)]
        values = carried_loop(b, o.kd, values, plane, "planes")
        with b.if_else(is_set(b, o.nontemporal)) as ways:
            for way, store in zip(ways, (v.store_nontemporal, v.store), strict=True):
                with way:
                    self._store(store, v.at(o.c, at), values)

    def _store(self, store, target, values):
        for i, row in enumerate(values):
            first = self.v.at(target, self.v.builder.mul(self.o.row_step, i64(i)))
            for value, apart in zip(row, self.apart, strict=True):
                store(value, self.v.at(first, apart))

    def _prefetch(self, x):
        """Ask for the rows behind those that the block reads, as many as it stores."""
        v, b, o = self.v, self.v.builder, self.o
        for i in range(self.rows):
            row = v.at(x, b.mul(b.add(o.kh, i64(self.rows - 1 + i)), o.x_row))
            for apart in self.apart:
                v.prefetch(v.at(row, apart))

    def _plane(self, x, w, kd, values):
        """Add a plane of a filter of one row, of which each row of C sees pixels of its own."""
        v, b, o = self.v, self.v.builder, self.o
        x, w = self._plane_at(x, w, kd)

        def column(k, values):
            pixels = v.at(x, b.load(v.at(o.columns, k)))
            weight, new = v.load(v.at(w, b.mul(k, i64(v.lanes)))), []
            for i, row in enumerate(values):
                first = v.at(pixels, b.mul(o.x_row, i64(i)))
                xs = [v.load(v.at(first, apart)) for apart in self.apart]
                pairs = zip(xs, row, strict=True)
                new.append([v.multiply_add(weight, x, old) for x, old in pairs])
            return new

        return carried_loop(b, o.kw, values, column, "taps")

    def _plane_at(self, x, w, kd):
        """Where a plane of the filter reads, and where its weights are."""
        b, o = self.v.builder, self.o
        weights = b.mul(b.mul(o.kh, o.kw), i64(self.v.lanes))
        return self.v.at(x, b.mul(kd, o.x_plane)), self.v.at(w, b.mul(kd, weights))

    def _shared_plane(self, x, w, kd, values):
        """Add a plane of the filter: rows that some rows of C see, that all see, that some see."""
        b, o, before = self.v.builder, self.o, self.rows - 1
        x, w = self._plane_at(x, w, kd)
        row = functools.partial(self._input_row, x, w)
        for j in range(before):
            values = row(range(j + 1), i64(j), values)

        def seen_by_all(j, values):
            return row(range(self.rows), b.add(j, i64(before)), values)

        values = carried_loop(b, b.sub(o.kh, i64(before)), values, seen_by_all, "rows")
        for j in range(before):
            values = row(range(j + 1, self.rows), b.add(o.kh, i64(j)), values)
        return values

    def _input_row(self, x, w, served, j, values):
        """Add input row j to the rows of C that are `served`, column by column of the filter."""
        v, b, o = self.v, self.v.builder, self.o
        row = v.at(x, b.mul(j, o.x_row))
        weights = b.mul(o.kw, i64(v.lanes))
        w_rows = {i: v.at(w, b.mul(b.sub(j, i64(i)), weights)) for i in served}

        def column(k, values):
            pixels = v.at(row, b.load(v.at(o.columns, k)))
            xs = [v.load(v.at(pixels, apart)) for apart in self.apart]
            new = list(values)
            for i in served:
                weight = v.load(v.at(w_rows[i], b.mul(k, i64(v.lanes))))
                pairs = zip(xs, values[i], strict=True)
                new[i] = [v.multiply_add(weight, x, old) for x, old in pairs]
            return new

        return carried_loop(b, o.kw, values, column, "columns")


def _emit_interleaved_tile(builder, dtype, o):
    """Switch to blocks of as many rows as are asked for, wide ones and then narrower ones."""
    vectors = Vectors(builder, dtype)

    def emit(rows, _):
        if rows == 1:
            _emit_rows(vectors, o, rows, shares=False)
            return
        with builder.if_else(builder.icmp_signed(">", o.kh, i64(1))) as ways:
            for way, shares in zip(ways, (True, False), strict=True):
                with way:
                    _emit_rows(vectors, o, rows, shares)

    for_each_block(builder, o.rows, i64(1), range(1, INTERLEAVED_ROWS + 1), [1], emit)


def _emit_rows(vectors, o, rows, shares):
    """Blocks of so many rows, which share what they read, or do not."""
    for section in _sections(vectors.builder, o):
        _emit_blocks(vectors, o, rows, shares, *section)


def _sections(builder, o):
    """Blocks of each width: that, where the first begins, and how many there are.

    Wide ones as far as they go, and one more where more than half of it is needed; then of half the
    width, and so on.
    """
    b, last = builder, builder.sub(o.period, i64(1))
    # Vectors that share weights: those of the last of the period are fewest.
    most, fewest = b.sdiv(b.add(o.vectors, last), o.period), b.sdiv(o.vectors, o.period)
    covered = i64(0)
    for width in INTERLEAVED_VECTORS:
        left = b.sub(most, covered)
        blocks = b.sdiv(b.add(left, i64(max(width // 2 - 1, 0))), i64(width))
        if width > 1:  # of single vectors some of a period may be missing
            blocks = b.select(b.icmp_signed(">=", fewest, i64(width)), blocks, i64(0))
        yield width, covered, b.select(b.icmp_signed(">", left, i64(0)), blocks, i64(0))
        covered = b.add(covered, b.mul(blocks, i64(width)))


def _emit_blocks(vectors, o, rows, shares, width, first, blocks):
    """Blocks side by side. The last of a row overlaps the one before, if it is not needed whole."""
    b = vectors.builder
    block, last = _Block(vectors, o, rows, width), b.sub(o.period, i64(1))
    with (
        cgutils.for_range(b, blocks) as block_loop,
        cgutils.for_range(b, o.period) as loop,
    ):
        count = b.sdiv(b.add(b.sub(o.vectors, loop.index), last), o.period)
        begin = b.add(first, b.mul(block_loop.index, i64(width)))
        end = b.sub(count, i64(width))
        begin = b.select(b.icmp_signed("<", begin, end), begin, end)
        with b.if_then(b.icmp_signed(">=", begin, i64(0))):
            at = b.add(b.mul(begin, o.period), loop.index)
            block.emit(loop.index, b.mul(at, i64(vectors.lanes)), shares)


@emitted(InterleavedTileArguments, _emit_interleaved_tile, tidy)
def interleaved_tile(o):
    """C[MR, vectors] = bias + the correlation of the rows with the weights, lane by lane."""
    lanes = VECTOR_BYTES // o.c.itemsize
    w = o.w[: o.period * o.kd * o.kh * o.kw * lanes].reshape(o.period, o.kd, o.kh, o.kw, lanes)
    with np.errstate(all="ignore"):
        for i in range(o.rows):
            for vector in range(o.vectors):
                phase, at = vector % o.period, vector * lanes
                total = o.bias[phase * lanes : (phase + 1) * lanes].copy()
                for kd, kh, kw in np.ndindex(o.kd, o.kh, o.kw):
                    begin = kd * o.x_plane + (i + kh) * o.x_row + o.columns[kw] + at
                    total += w[phase, kd, kh, kw] * o.x[begin : begin + lanes]
                begin = i * o.row_step + at
                o.c[begin : begin + lanes] = total
