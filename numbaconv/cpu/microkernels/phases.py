"""The register tile of depthwise adjoints under a stride: whole rows of all phases of the columns.

    C[i * high + q - top, j * stride + p - left] =
        bias + sum_m,n W[q + m * high, p + n * stride] * X[i - m, j - n]

A group (i, j) has one element of each phase (q, p), which all read the same X, each through taps of
its own. So a vector of X, once loaded, serves all phases; and as the sums of all columns are in
registers at the same time they are interleaved there, and rows are stored whole. Loops: groups of
rows from top to bottom; m; n.
"""

import functools
from typing import NamedTuple

import numpy as np

from numbaconv.codegen.arguments import Elements, Indices
from numbaconv.codegen.pipeline import tidy
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.codegen.twins import emitted
from numbaconv.codegen.vectors import Vectors, i64, opaque
from numbaconv.cpu.blocking import PHASE_STRIDES, phase_vectors
from numbaconv.cpu.microkernels.accumulators import carried_loop, where


class PhaseArguments(NamedTuple):
    """What `phase_rows` takes.

    Attributes
    ----------
    high, stride : int
        Phases of rows and of columns: the stride one of PHASE_STRIDES, and high that or 1.
    vectors : int
        Vectors of X in a strip, at most `phase_vectors`; each is `stride` vectors of C.
    kh, kw : int
        Rows of the filter, at least `high`, and columns, at least `stride`.
    x, x_row, height : pointer, int, int
        X, elements from one row to the next, and its rows. All others are zeros.
    first, groups, column : int
        First group i, and how many; the j of the first lane.
    masks : pointer
        [n][vectors] for the vectors of X, then [vectors * stride] for those of C: bit b of an entry
        says that lane b is read, or stored. Between the first vector of C and the last `stride` all
        bits are set.
    w : pointer
        W[a, b] = w[a * kw + b].
    c, c_row, rows : pointer, int, int
        C, elements from one row to the next, and its rows: others are not stored.
    top, left : int
        What is subtracted from rows and columns.
    bias : pointer
        One value.
    """

    high: int
    stride: int
    vectors: int
    kh: int
    kw: int
    x: Elements
    x_row: int
    height: int
    first: int
    groups: int
    column: int
    masks: Indices
    w: Elements
    c: Elements
    c_row: int
    rows: int
    top: int
    left: int
    bias: Elements


class _Phases:
    """Emits the loops for one number of phases and vectors."""

    def __init__(self, builder, dtype, high, stride, vectors, operands):
        self.builder, self.o = builder, operands
        self.high, self.stride, self.vectors = high, stride, vectors
        self.v = Vectors(builder, dtype)

    def emit(self):
        """Loop over groups of rows."""
        b, o = self.builder, self.o
        self.bias = self.v.broadcast(o.bias)
        self.whole_m, self.rest_m = (f(o.kh, i64(self.high)) for f in (b.udiv, b.urem))
        self.whole_n, self.rest_n = (f(o.kw, i64(self.stride)) for f in (b.udiv, b.urem))
        self.open_stores()
        self.x = self.v.at(o.x, o.column)
        self.c = self.v.at(o.c, b.sub(b.mul(o.column, i64(self.stride)), o.left))
        carried_loop(b, o.groups, [], self.group, "groups")

    def open_stores(self):
        """Load the masks of the vectors of C that may be cut, and whether they are."""
        b, v = self.builder, self.v
        steps = b.add(self.whole_n, b.zext(b.icmp_signed(">", self.rest_n, i64(0)), i64(0).type))
        words = v.at(self.o.masks, b.mul(steps, i64(self.vectors)))
        count = self.vectors * self.stride
        self.cut = {}
        for i in sorted({0, *range(count - self.stride, count)}):
            word = v.at(words, i64(i))
            self.cut[i] = v.load_mask(word), v.is_whole(word)

    def group(self, t, values):
        """All sums of a group of rows; store the rows."""
        b = self.builder
        i = b.add(self.o.first, opaque(b, t))
        sums = [[self.bias] * self.vectors for _ in range(self.high * self.stride)]

        def row(m, sums):
            return self.input_row(i, opaque(b, m), self.high, sums)

        sums = carried_loop(b, self.whole_m, sums, row, "rows")
        for left in range(1, self.high):
            last = functools.partial(self.input_row, i, self.whole_m, left)
            sums = where(b, b.icmp_signed("==", self.rest_m, i64(left)), sums, last)
        for q in range(self.high):
            self.store(b.sub(b.add(b.mul(i, i64(self.high)), i64(q)), self.o.top), q, sums)
        return values

    def input_row(self, i, m, high, sums):
        """Add row i - m of X, if there is one, to the first `high` phases of rows."""
        b, o = self.builder, self.o
        at = b.sub(i, m)
        x = self.v.at(self.x, b.mul(at, o.x_row))
        first = b.mul(m, i64(self.high))
        rows = [b.mul(b.add(first, i64(q)), o.kw) for q in range(high)]
        weights = [self.v.at(o.w, row) for row in rows]
        taps = functools.partial(self.columns, x, weights)
        return where(b, b.icmp_unsigned("<", at, o.height), sums, taps)

    def columns(self, x, weights, sums):
        """Loop over n."""
        b = self.builder

        def column(n, sums):
            return self.taps(x, weights, opaque(b, n), self.stride, sums)

        sums = carried_loop(b, self.whole_n, sums, column, "columns")
        for left in range(1, self.stride):

            def last(sums, left=left):
                return self.taps(x, weights, self.whole_n, left, sums)

            sums = where(b, b.icmp_signed("==", self.rest_n, i64(left)), sums, last)
        return sums

    def taps(self, x, weights, n, count, sums):
        """Add a row, n elements before, to the first `count` phases of columns of some rows."""
        b, v = self.builder, self.v
        words = v.at(self.o.masks, b.mul(n, i64(self.vectors)))
        before = v.at(x, b.neg(n))
        xs = [v.load_by_word(v.column(before, j), v.at(words, i64(j))) for j in range(self.vectors)]
        first, sums = b.mul(n, i64(self.stride)), list(sums)
        for q, row in enumerate(weights):
            for p in range(count):
                w = v.broadcast(v.at(row, b.add(first, i64(p))))
                place = q * self.stride + p
                pairs = zip(xs, sums[place], strict=True)
                sums[place] = [v.multiply_add(w, pixels, old) for pixels, old in pairs]
        return sums

    def store(self, row, q, sums):
        """Interleave the phases of a row, and store it if it is one of C."""
        b, v = self.builder, self.v
        phases = sums[q * self.stride : (q + 1) * self.stride]
        values = [
            value for parts in zip(*phases, strict=True) for value in v.interleaved(list(parts))
        ]
        with b.if_then(b.icmp_unsigned("<", row, self.o.rows)):
            target = v.at(self.c, b.mul(row, self.o.c_row))
            for i, value in enumerate(values):
                self.store_vector(i, value, v.column(target, i))

    def store_vector(self, i, value, target):
        """Store a vector of a row: without a mask if it is whole."""
        if i not in self.cut:
            self.v.store(value, target)
            return
        mask, whole = self.cut[i]
        with self.builder.if_else(whole) as (then, otherwise):
            with then:
                self.v.store(value, target)
            with otherwise:
                self.v.store_masked(value, target, mask)


def _emit_phase_rows(builder, dtype, o):
    """Switch to the phases and vectors that are asked for."""
    end = builder.append_basic_block("phases_end")
    number = builder.add(builder.mul(o.high, i64(8)), o.stride)
    number = builder.add(builder.mul(number, i64(8)), o.vectors)
    switch = builder.switch(number, end)
    for stride in PHASE_STRIDES:
        for high in (1, stride):
            for vectors in range(1, phase_vectors(stride, high) + 1):
                case = builder.append_basic_block("phases")
                switch.add_case(i64((high * 8 + stride) * 8 + vectors), case)
                builder.position_at_end(case)
                _Phases(builder, dtype, high, stride, vectors, o).emit()
                builder.branch(end)
    builder.position_at_end(end)


@emitted(PhaseArguments, _emit_phase_rows, tidy)
def phase_rows(o):
    """C[rows, a strip of columns] = bias + the adjoint of a correlation under a stride with W."""
    lanes = VECTOR_BYTES // o.c.itemsize
    wide, steps = o.vectors * lanes, -(-o.kw // o.stride)
    bits = o.masks[: (steps + o.stride) * o.vectors, None] >> np.arange(lanes) & 1
    read, written = bits[: steps * o.vectors].reshape(steps, -1) == 1, bits[steps * o.vectors :]
    (columns,) = np.nonzero(written.ravel())
    for i, q in np.ndindex(o.groups, o.high):
        row = (o.first + i) * o.high + q - o.top
        if not 0 <= row < o.rows:
            continue
        total = np.full((wide, o.stride), o.bias[0], o.c.dtype)
        for a, b in np.ndindex(o.kh, o.kw):
            j, (n, p) = o.first + i - a // o.high, divmod(b, o.stride)
            if a % o.high == q and 0 <= j < o.height:
                at = np.where(read[n], j * o.x_row + o.column - n + np.arange(wide), 0)
                pixels = np.where(read[n], o.x[at], o.c.dtype.type(0))
                with np.errstate(all="ignore"):
                    total[:, p] += o.w[a * o.kw + b] * pixels
        first = row * o.c_row + o.column * o.stride - o.left
        o.c[first + columns] = total.ravel()[columns]
