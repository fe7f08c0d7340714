"""The register tile of depthwise layers: a strip of columns of a plane, walked from top to bottom.

    C[i, p] = bias + sum_kh,kw W[kh, kw] * X[i * stride + kh, p * stride + kw * dilation]

(or C[i, p] += ...). The sums of all output rows whose windows hold an input row are in registers
at the same time: the row is loaded once, serves all of them, and finishes one. The input is read
where it lies, with masks that keep the loads inside of it: columns of the padding are zeros, rows
of the padding add nothing.
"""

import functools
import itertools
from typing import NamedTuple

import numpy as np
from llvmlite import ir

from numbaconv.codegen.arguments import Elements, Indices
from numbaconv.codegen.integers import ceil_div
from numbaconv.codegen.pipeline import tidy
from numbaconv.codegen.pointers import CACHE_LINE
from numbaconv.codegen.target import REGISTERS, VECTOR_BYTES
from numbaconv.codegen.twins import emitted
from numbaconv.codegen.vectors import Vectors, i64, opaque
from numbaconv.cpu.blocking import STRIP_ROWS, strip_vectors
from numbaconv.cpu.microkernels.accumulators import carried_loop, is_set, where

# Wide strips prefetch the rows that follow: no hardware foresees that after some columns of a row
# come those of the next, maybe on another page. Where a plane has no more rows than that, they
# prefetch those of a strip further right. Maps that one vector covers are in cache.
_PREFETCHED_ROWS = 8
_PREFETCHED_STRIPS = 2
_PREFETCHED_VECTORS = 2
_LINE_VECTORS = max(1, CACHE_LINE // VECTOR_BYTES)

# Whether taps of a single row are shifted from what was loaded before: see `_SlidingStrip`.
SLIDES = VECTOR_BYTES == 64


class StripArguments(NamedTuple):
    """What the functions of `STRIPS` and `small_planes` take.

    Attributes
    ----------
    kh, stride : int
        Rows of the filter, one of STRIP_ROWS[stride], and its stride along both axes.
    vectors, half : int
        Vectors of the strip, at most `strip_vectors`. With `half` it is one of half the lanes.
    kw, dilation : int
        Columns of the filter, at least 1, and elements from one to the next.
    rows, planes : int
        Rows of the result, at least 1; planes, each with a filter of its own.
    x, first, x_row, x_plane : pointer, int, int, int
        The element that tap (0, 0) of output (0, 0) reads is x[first], which may lie in the
        padding; elements from one row or plane to the next.
    h, h_step, height : int
        Input row j is row h + j * h_step of `height`; beyond these it is padding.
    masks : pointer
        [kw][stride * vectors], for the vectors of a row that the strip spans: bit i of an entry
        says that tap kw reads lane i of that vector from the input, and not a zero. Vectors
        between the first and the last `stride` have all bits set, and are loaded whole. Then two
        taps: from the first of them on, the first vector has all bits set under each tap; before
        the second, the last vector.
    w, w_plane : pointer, int
        Filters, [kh][kw], and elements from one plane's to the next.
    c, c_row, c_plane : pointer, int, int
        First element of C, and elements from one row or plane to the next.
    bias : pointer
        One value for each plane; read only where `accumulate` is 0.
    accumulate : int
        1: add to C. 0: do not read C.
    last : int
        Lanes of the last vector that belong to C.
    nontemporal : int
        1: all vectors of C are whole and aligned, and are stored past the caches.
    """

    kh: int
    stride: int
    vectors: int
    half: int
    kw: int
    dilation: int
    rows: int
    planes: int
    x: Elements
    first: int
    x_row: int
    x_plane: int
    h: int
    h_step: int
    height: int
    masks: Indices
    w: Elements
    w_plane: int
    c: Elements
    c_row: int
    c_plane: int
    bias: Elements
    accumulate: int
    last: int
    nontemporal: int


class Shape(NamedTuple):
    """What is compiled for: a filter's rows and stride, the vectors of a strip, the half of one."""

    kh: int
    stride: int
    vectors: int
    half: bool

    @property
    def under_way(self):
        """Output rows whose windows hold the same input row."""
        return ceil_div(self.kh, self.stride)


def _shapes(stride, heights):
    for kh in heights:
        for vectors in range(1, strip_vectors(kh, stride) + 1):
            yield Shape(kh, stride, vectors, half=False)
        yield Shape(kh, stride, 1, half=True)


class _Strip:
    """Emits the loops over planes, rows and columns of the filter for one shape."""

    def __init__(self, builder, dtype, shape, operands):
        self.builder, self.shape, self.o = builder, shape, operands
        self.v = Vectors(builder, dtype, 2 if shape.half else 1)
        self.spanned = shape.stride * shape.vectors
        self.edges = sorted({0, *range(self.spanned - shape.stride, self.spanned)})
        self.keeps_words = REGISTERS < 32 and shape.stride > 1
        whole = ir.Constant(self.v.mask, [1] * self.v.lanes)
        self.stored = [whole] * (shape.vectors - 1) + [self.v.first_lanes(operands.last)]

    def emit(self):
        """Loop over planes."""
        b, o, under_way = self.builder, self.o, self.shape.under_way
        self.open_strip()
        flat = b.icmp_signed("<=", b.mul(o.rows, o.planes), i64(_PREFETCHED_ROWS))
        right = i64(_PREFETCHED_STRIPS * self.spanned * self.v.lanes)
        self.ahead = b.select(flat, right, b.mul(o.x_row, i64(_PREFETCHED_ROWS)))

        def planes(g, values):
            self.x = self.v.at(o.x, b.add(o.first, b.mul(g, o.x_plane)))
            self.w = self.v.at(o.w, b.mul(g, o.w_plane))
            self.c = self.v.at(o.c, b.mul(g, o.c_plane))
            self.bias = self.v.broadcast(self.v.at(o.bias, g))
            self.open_plane()
            start = [self.fresh(i64(0))] * under_way
            steps = b.add(o.rows, i64(under_way - 1))
            carried_loop(b, steps, start, self.step_of_rows, "rows")
            return values

        carried_loop(b, o.planes, [], planes, "planes")

    def c_at(self, i, j):
        """Where vector j of output row i lies."""
        return self.v.column(self.v.at(self.c, self.builder.mul(i, self.o.c_row)), j)

    def open_strip(self):
        """Load what all planes need: the taps under which the first vector, or the last, is cut.

        Under a stride so many columns of the filter are a run: how many are left, and runs.
        """
        b = self.builder
        if self.shape.stride > 1:
            stride = i64(self.shape.stride)
            self.left, self.runs = b.urem(self.o.kw, stride), b.udiv(self.o.kw, stride)
            return
        at = self.v.at(self.o.masks, b.mul(self.o.kw, i64(self.spanned)))
        first_end, last_begin = b.load(at), b.load(self.v.at(at, i64(1)))
        self.both_cut = b.icmp_signed(">", first_end, last_begin)
        self.low = b.select(self.both_cut, last_begin, first_end)
        self.high = b.select(self.both_cut, first_end, last_begin)

    def open_plane(self):
        """Load what all rows of a plane need: nothing, in general."""

    def fresh(self, i):
        """Values that output row i starts from: the bias, or what C holds."""
        b = self.builder
        adds = is_set(b, self.o.accumulate)
        add = b.and_(adds, b.icmp_signed("<", i, self.o.rows))
        fresh = [[self.bias] * self.shape.vectors]

        def read():
            if self.shape.vectors >= _PREFETCHED_VECTORS:
                later = b.add(i, i64(_PREFETCHED_ROWS))
                for j in range(0, self.shape.vectors, _LINE_VECTORS):
                    self.v.prefetch(self.c_at(later, j))
            return [[self.v.load_masked(self.c_at(i, j), m) for j, m in enumerate(self.stored)]]

        return self.where(add, fresh, read)[0]

    def step_of_rows(self, t, values):
        """Read `stride` input rows and store the output row that they finish."""
        b, shape = self.builder, self.shape
        t = opaque(b, t)
        for q in range(min(shape.stride, shape.kh)):
            values = self.input_row(t, q, values)
        done = b.sub(t, i64(shape.under_way - 1))
        with b.if_then(b.icmp_signed(">=", done, i64(0))):
            self.store(done, values[-1])
        return [self.fresh(b.add(t, i64(1))), *values[:-1]]

    def store(self, i, values):
        """Store output row i."""
        nontemporal = is_set(self.builder, self.o.nontemporal)
        with self.builder.if_else(nontemporal, likely=False) as (then, otherwise):
            with then:
                for j, value in enumerate(values):
                    self.v.store_nontemporal(value, self.c_at(i, j))
            with otherwise:
                for j, (value, mask) in enumerate(zip(values, self.stored, strict=True)):
                    self.v.store_masked(value, self.c_at(i, j), mask)

    def input_row(self, t, q, values):
        """Add input row t * stride + q to the rows under way that see it, if it is no padding."""
        b, shape = self.builder, self.shape
        j = b.add(b.mul(t, i64(shape.stride)), i64(q))
        row = self.v.at(self.x, b.mul(j, self.o.x_row))
        inside = b.icmp_unsigned("<", b.add(self.o.h, b.mul(j, self.o.h_step)), self.o.height)
        if shape.vectors >= _PREFETCHED_VECTORS:
            self.prefetch_input(self.v.at(row, self.ahead))
        return self.where(inside, values, lambda: self.row_taps(row, q, values))

    def prefetch_input(self, row):
        """Ask for the lines that the strip reads of a row: those of the first tap, and the last."""
        b, lines = self.builder, range(0, self.spanned, _LINE_VECTORS)
        reach = b.mul(b.sub(self.o.kw, i64(1)), self.o.dilation)
        last = b.add(reach, i64(self.spanned * self.v.lanes - 1))
        for at in [*(self.v.column(row, i) for i in lines), self.v.at(row, last)]:
            self.v.prefetch(at)

    def row_taps(self, row, q, values):
        """Loop over the filter's columns."""
        kw = self.o.kw
        if self.shape.stride > 1:
            return self.runs_of_taps(row, q, values)
        if self.shape.vectors == 1:
            return self.columns(row, q, i64(0), kw, values, self.edges)
        # A masked load takes about as long as a multiply-add more, so only taps that read padding
        # have masks.
        b, first, last = self.builder, self.edges[:1], self.edges[-1:]
        for begin, end, condition, masked in (
            (i64(0), self.low, None, first),
            (self.low, self.high, self.both_cut, self.edges),
            (self.low, self.high, b.not_(self.both_cut), []),
            (self.high, kw, None, last),
        ):
            some = b.icmp_signed("<", begin, end)
            some = some if condition is None else b.and_(some, condition)
            loop = functools.partial(self.columns, row, q, begin, end, values, masked)
            values = self.where(some, values, loop)
        return values

    def columns(self, row, q, begin, end, values, masked):
        """Loop over columns begin .. end - 1 of the filter, of which there are some.

        Of the vectors of a row those that are `masked` may read padding.
        """
        b = self.builder

        def column(i, values):
            return self.taps(row, q, b.add(begin, opaque(b, i)), 1, values, masked)

        return carried_loop(b, b.sub(end, begin), values, column, "columns")

    def runs_of_taps(self, row, q, values):
        """Add what columns are left over; loop over runs of `stride`, which share their loads."""
        b, stride = self.builder, self.shape.stride

        def run(i, values):
            k = b.add(b.mul(opaque(b, i), i64(stride)), self.left)
            return self.taps(row, q, k, stride, values, self.edges)

        for left in range(1, stride):
            first = functools.partial(self.taps, row, q, i64(0), left, values, self.edges)
            values = self.where(b.icmp_signed("==", self.left, i64(left)), values, first)
        loop = functools.partial(carried_loop, b, self.runs, values, run, "runs")
        return self.where(b.icmp_signed(">", self.runs, i64(0)), values, loop)

    def taps(self, row, q, k, count, values, masked):
        """Add `count` columns of the filter, from k on: they read the same vectors."""
        offset = self.builder.mul(k, self.o.dilation) if self.shape.stride == 1 else k
        row = self.v.at(row, offset)
        loaded = self.load_row(row, self.load_masks(k, masked))
        ks = [self.builder.add(k, i64(i)) for i in range(count)]
        return self.multiply_add(q, loaded, ks, values)

    def where(self, condition, values, change):
        """Values after `change()` where a condition holds, else as they are."""
        return where(self.builder, condition, values, lambda values: change())

    def multiply_add(self, q, loaded, ks, values):
        """Add columns ks of the filter times a row to the rows under way that see it as row q."""
        for i, k in enumerate(ks):
            xs = self.every(loaded, i)
            for a in range(self.shape.under_way):
                kh = a * self.shape.stride + q
                if kh < self.shape.kh:
                    w, sums = self.weight(kh, k), zip(xs, values[a], strict=True)
                    new = [self.v.multiply_add(w, x, old) for x, old in sums]
                    values = [*values[:a], new, *values[a + 1 :]]
        return values

    def weight(self, kh, k):
        """Return a weight, broadcast."""
        return self.load_weight(kh, k)

    def load_weight(self, kh, k):
        """Broadcast a weight."""
        at = self.builder.add(self.builder.mul(self.o.kw, i64(kh)), k)
        return self.v.broadcast(self.v.at(self.w, at))

    def load_masks(self, k, masked):
        """Lanes that tap k reads from the input, for each of the vectors that are `masked`.

        Under a stride, which has more of these, as the words behind pointers if registers are few:
        but not in a `_SquareStrip`, whose masks are loaded once.
        """
        words = self.v.at(self.o.masks, self.builder.mul(k, i64(self.spanned)))
        words = {i: self.v.at(words, i64(i)) for i in masked}
        if self.keeps_words:
            return words
        return {i: self.v.load_mask(word) for i, word in words.items()}

    def load_row(self, row, masks):
        """The vectors of a row that the strip spans: whole, but for those that have masks."""
        columns = [self.v.column(row, i) for i in range(self.spanned)]
        return [
            self.load(at, masks[i]) if i in masks else self.v.load(at)
            for i, at in enumerate(columns)
        ]

    def load(self, at, mask):
        """Load lanes of a vector: `load_masks` says what its mask is."""
        if self.keeps_words:
            return self.v.load_by_word(at, mask)
        return self.v.load_masked(at, mask)

    def every(self, loaded, first):
        """Every stride-th element of a row, from `first` on."""
        stride = self.shape.stride
        runs = [loaded[i : i + stride] for i in range(0, len(loaded), stride)]
        return [self.v.every(run, first) for run in runs]


class _SlidingStrip(_Strip):
    """The same for a single row of neighbouring taps, at most one more than a vector has lanes.

    Each vector of the row is loaded once, and what a tap reads is shifted from two neighbours: of
    the loads for each tap nearly all would cross a cache line, which takes a Zen 4 as long as two
    multiply-adds. Elsewhere shifts take as long as these loads.
    """

    def serves(self):
        """Whether it serves a filter of so many columns."""
        b, most = self.builder, i64(self.v.lanes + 1)
        dense = b.icmp_signed("==", self.o.dilation, i64(1))
        return b.and_(dense, b.icmp_signed("<=", self.o.kw, most))

    def open_strip(self):
        """Load the masks of the vectors that the first tap reads, and of the one behind them."""
        b, o, lanes = self.builder, self.o, self.v.lanes
        self.masks = self.load_masks(i64(0), self.edges)
        last = b.add(b.mul(b.sub(o.kw, i64(1)), i64(self.spanned)), i64(self.spanned - 1))
        word = b.load(self.v.at(o.masks, last))  # of the last tap: it reads kw - 1 lanes further
        self.masks[self.spanned] = self.v.as_mask(b.lshr(word, b.sub(i64(lanes + 1), o.kw)))

    def row_taps(self, row, q, values):
        """All columns of the filter: each behind a way out."""
        columns = [self.v.column(row, i) for i in range(self.spanned + 1)]
        loaded = [
            self.load(at, self.masks[i]) if i in self.masks else self.v.load(at)
            for i, at in enumerate(columns)
        ]
        return self.taps_from(0, q, loaded, values)

    def taps_from(self, k, q, loaded, values):
        """Add column k of the filter, and all behind it."""
        if k == self.v.lanes + 1:
            return values
        xs = [self.v.shifted(*pair, k) for pair in itertools.pairwise(loaded)]
        values = self.multiply_add(q, xs, [i64(k)], values)
        more = self.builder.icmp_signed(">", self.o.kw, i64(k + 1))
        return self.where(more, values, lambda: self.taps_from(k + 1, q, loaded, values))


class _SquareStrip(_Strip):
    """The same for a filter as wide as it is high, without dilation: its columns are unrolled.

    Its masks stay in registers. With a stride of 2 taps 1 and 2, 3 and 4, .. share their loads,
    which lie at whole vectors then under a padding of 1. Of a 3x3 filter, which is what most
    depthwise layers have, the weights stay in registers too.
    """

    def serves(self):
        """Whether it serves a filter of so many columns."""
        b, side = self.builder, i64(self.shape.kh)
        dense = b.icmp_signed("==", self.o.dilation, i64(1))
        return b.and_(dense, b.icmp_signed("==", self.o.kw, side))

    def open_strip(self):
        """Load the masks of the taps, or runs of taps, that read the same vectors."""
        self.keeps_words = False
        kh, stride = self.shape.kh, self.shape.stride
        begins = [0, *range(kh % stride, kh, stride)] if kh % stride else range(0, kh, stride)
        self.loads = [list(range(*ends)) for ends in itertools.pairwise([*begins, kh])]
        self.masks = {ks[0]: self.load_masks(i64(ks[0]), self.edges) for ks in self.loads}

    def open_plane(self):
        """Load the weights of a 3x3 filter."""
        self.weights = {}
        if self.shape.kh == 3:
            taps = itertools.product(range(3), repeat=2)
            self.weights = {(kh, k): self.load_weight(kh, i64(k)) for kh, k in taps}

    def weight(self, kh, k):
        """Return a weight, loaded before if they all stay in registers."""
        return self.weights[kh, k] if self.weights else self.load_weight(kh, i64(k))

    def row_taps(self, row, q, values):
        """All columns of the filter."""
        for ks in self.loads:
            loaded = self.load_row(self.v.at(row, i64(ks[0])), self.masks[ks[0]])
            values = self.multiply_add(q, loaded, ks, values)
        return values


def _special(shape, slides):
    """Which strip serves some filters of a shape better, if any does.

    Unrolling 5x5 and 7x7 pays where a strip is one vector, and not where it is wider.
    """
    if shape.kh == 1:
        return _SlidingStrip if slides else None
    return _SquareStrip if shape.kh == 3 or shape.vectors == 1 else None


def _emit_shape(builder, dtype, shape, o, slides):
    """Emit one shape; `slides` says whether strips of a single row of taps may be sliding ones."""
    special, general = _special(shape, slides), _Strip(builder, dtype, shape, o)
    if special is None:
        general.emit()
        return
    better = special(builder, dtype, shape, o)
    with builder.if_else(better.serves()) as (then, otherwise):
        with then:
            better.emit()
        with otherwise:
            general.emit()


def for_each_shape(builder, o, shapes, emit):
    """Switch on the shape that the arguments have, and let `emit(shape)` fill each case."""
    end = builder.append_basic_block("strips_end")
    selector = i64(0)
    for field in Shape._fields:
        selector = builder.add(builder.mul(selector, i64(8)), getattr(o, field))
    switch = builder.switch(selector, end)
    for shape in shapes:
        number = 0
        for digit in shape:
            number = number * 8 + int(digit)
        case = builder.append_basic_block("strip")
        switch.add_case(i64(number), case)
        builder.position_at_end(case)
        emit(shape)
        builder.branch(end)
    builder.position_at_end(end)


def strip_in_numpy(o):
    """Stand in for `strip` and `small_planes` under NUMBA_DISABLE_JIT=1."""
    lanes = VECTOR_BYTES // o.c.itemsize // (2 if o.half else 1)
    width = (o.vectors - 1) * lanes + o.last
    bits = o.masks[: o.kw * o.vectors * o.stride].reshape(o.kw, -1, 1) >> np.arange(lanes) & 1
    inside = bits.reshape(o.kw, -1)[:, : width * o.stride : o.stride] == 1
    for g, i in np.ndindex(o.planes, o.rows):
        row = o.c[g * o.c_plane + i * o.c_row :][:width]
        total = row.copy() if o.accumulate else np.full(width, o.bias[g], o.c.dtype)
        for a, k in np.ndindex(o.kh, o.kw):
            j = i * o.stride + a
            if 0 <= o.h + j * o.h_step < o.height:
                at = o.first + g * o.x_plane + j * o.x_row + k * o.dilation
                index = np.where(inside[k], at + o.stride * np.arange(width), 0)
                pixels = np.where(inside[k], o.x[index], o.c.dtype.type(0))
                with np.errstate(all="ignore"):
                    total += o.w[g * o.w_plane + a * o.kw + k] * pixels
        row[:] = total


def _strip(name, stride, heights, slides=False):
    """Return the function for some heights of a filter: it switches to what is asked for."""

    def emit(builder, dtype, o):
        def emit_shape(shape):
            _emit_shape(builder, dtype, shape, o, slides)

        for_each_shape(builder, o, _shapes(stride, heights), emit_shape)

    def strip(o):
        """C[planes, rows, a strip] = bias + (or C +=) the correlation of X with W."""
        strip_in_numpy(o)

    strip.__name__ = strip.__qualname__ = name
    return emitted(StripArguments, emit, tidy)(strip)


def _strips():
    """Yield the function for each (stride, height).

    One for all heights of a stride of 1 or 2, under which tall filters are sums of several; of
    others each has its own, as they compile for as long as all heights of those. So have filters of
    one or two rows under no stride, which alone may slide.
    """
    for stride, heights in STRIP_ROWS.items():
        if stride < 3:
            strip = _strip(f"strip_{stride}", stride, heights)
            yield from (((stride, kh), strip) for kh in heights)
        else:
            for kh in heights:
                yield (stride, kh), _strip(f"strip_{stride}_{kh}", stride, (kh,))
    yield (1, 1), _strip("strip_1_1", 1, (1,), SLIDES)


STRIPS = dict(_strips())
