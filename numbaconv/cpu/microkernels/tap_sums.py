"""The register block of separable filters: rows of sums over a list of taps.

    target[r, j] = sum_t weights[1 + t] * source[r, offsets[r, t] + j]

Whatever axis a filter runs along, its taps are rows that begin elsewhere, so this one kernel serves
every axis. The taps of a symmetric (antisymmetric) kernel come in pairs, whose sum (difference) is
multiplied once, in the order in which SciPy adds. In float64 no multiply-add is fused: results are
then SciPy's to the last bit, and what it truncates to integers is the same.

Whole vectors are read and written: source and target are scratch, with room behind each row.
"""

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from numbaconv.codegen.arguments import Elements, Indices
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.codegen.twins import emitted
from numbaconv.codegen.vectors import Vectors, i64
from numbaconv.cpu.microkernels.accumulators import carried_loop, is_set

# Vectors of a block. A multiply-add takes four cycles, and two begin in each: eight sums keep a CPU
# busy. 8 sums + a weight + pixels <= 16 registers.
WIDTHS = (8, 4, 2, 1)

# How taps are listed: one by one, or the middle one and then pairs.
SINGLE, SUMS, DIFFERENCES = range(3)


class TapSumsArguments(NamedTuple):
    """What `tap_sums` takes, and `cut_off` after it.

    Attributes
    ----------
    target, target_step : pointer, int
        First sum, and elements from one row to the next.
    source, source_step : pointer, int
        What offsets count from, and elements from one row to the next.
    offsets, offset_step : pointer, int
        An offset for each tap, and integers from one row's list to the next one's.
    weights : pointer
        The divisor, then a weight for each tap, or for the middle one and each pair.
    exact : pointer
        The bits of float64, for `cut_off` alone: of one half less what sums may be off, then of the
        weights as above.
    taps : int
        Taps, or pairs; at least one.
    kind : int
        SINGLE, SUMS or DIFFERENCES.
    rows, vectors : int
        Rows, and vectors of each; at least one.
    divides, truncates : int
        1: sums are divided; are truncated to integers.
    """

    target: Elements
    target_step: int
    source: Elements
    source_step: int
    offsets: Indices
    offset_step: int
    weights: Elements
    exact: Indices
    taps: int
    kind: int
    rows: int
    vectors: int
    divides: int
    truncates: int


def _emit(builder, dtype, o):
    """A case for each kind."""
    v = Vectors(builder, dtype)
    o = o._replace(divides=is_set(builder, o.divides), truncates=is_set(builder, o.truncates))
    sections = _sections(builder, o.vectors)
    for kind in (SINGLE, SUMS, DIFFERENCES):
        with builder.if_then(builder.icmp_signed("==", o.kind, i64(kind))):
            for width, first, count in sections:
                _emit_blocks(v, width, first, count, kind, o)


def _sections(builder, vectors):
    """Blocks of each width: where the first begins, and how many there are.

    Wide ones as far as they go, and one more where more than half of it is needed; then of half the
    width, and so on. The last block of a row overlaps the one before, if there is one.
    """
    sections, covered = [], i64(0)
    for width in WIDTHS:
        left = builder.sub(vectors, covered)
        spare = i64(max(0, width // 2 - 1))
        count = builder.sdiv(builder.add(left, spare), i64(width))
        count = builder.select(builder.icmp_signed(">=", vectors, i64(width)), count, i64(0))
        count = builder.select(builder.icmp_signed(">", left, i64(0)), count, i64(0))
        sections.append((width, covered, count))
        covered = builder.add(covered, builder.mul(count, i64(width)))
    return sections


def _emit_blocks(v, width, first, count, kind, o):
    """Blocks side by side; of each all rows, so that what they share stays in cache."""
    builder = v.builder
    last = builder.sub(o.vectors, i64(width))
    with cgutils.for_range(builder, count) as columns:
        begin = builder.add(first, builder.mul(columns.index, i64(width)))
        inside = builder.icmp_signed("<", begin, last)
        at = builder.mul(builder.select(inside, begin, last), i64(v.lanes))
        with cgutils.for_range(builder, o.rows) as rows:
            target, source, offsets = row_of(v, o, rows.index)
            sums = emit_sums(v, width, kind, o.taps, o.weights, v.at(source, at), offsets)
            sums = _finished(v, sums, o)
            for j, value in enumerate(sums):
                v.store(value, v.column(v.at(target, at), j))


def row_of(v, o, r):
    """Where a row's sums are stored, what they read, and its list of offsets."""
    pointers = (o.target, o.target_step), (o.source, o.source_step), (o.offsets, o.offset_step)
    return [v.at(pointer, v.builder.mul(r, step)) for pointer, step in pointers]


def emit_sums(v, width, kind, taps, weights, source, offsets, load=None):
    """The sums of one block, in the order in which SciPy adds; `load` reads vectors."""
    builder, load = v.builder, load or v.load

    def pixels(place: Any) -> list[Any]:
        row = v.at(source, builder.load(v.at(offsets, place)))
        return [load(v.column(row, j)) for j in range(width)]

    def one(t, values):
        weight = v.broadcast(v.at(weights, builder.add(t, i64(1))))
        pairs = zip(pixels(t), values[0], strict=True)
        return [[_multiply_add(v, weight, x, value) for x, value in pairs]]

    def two(t, values):
        weight = v.broadcast(v.at(weights, builder.add(t, i64(2))))
        place = builder.add(builder.shl(t, i64(1)), i64(1))
        left, right = pixels(place), pixels(builder.add(place, i64(1)))
        meet = builder.fadd if kind == SUMS else builder.fsub
        met = [meet(a, b) for a, b in zip(left, right, strict=True)]
        return [[_multiply_add(v, weight, x, c) for x, c in zip(met, values[0], strict=True)]]

    if kind == SINGLE:
        return carried_loop(builder, taps, [[v.zero()] * width], one, "taps")[0]
    middle = v.broadcast(v.at(weights, i64(1)))
    start = [builder.fmul(middle, x) for x in pixels(i64(0))]
    return carried_loop(builder, taps, [start], two, "pairs")[0]


def _multiply_add(v, a, b, c):
    """Fused in float32 alone: see above."""
    if v.element == ir.DoubleType():
        return v.builder.fadd(c, v.builder.fmul(a, b))
    return v.multiply_add(a, b, c)


def _finished(v, sums, o):
    """The sums, divided and truncated where that is asked for."""
    divisor = v.broadcast(o.weights)
    sums = _where(v, o.divides, sums, lambda x: v.builder.fdiv(x, divisor))
    return _where(v, o.truncates, sums, v.truncate)


def _where(v, flag, values, change):
    """The values, changed where a flag is set."""
    builder = v.builder
    before = builder.block
    with builder.if_then(flag):
        changed = [change(value) for value in values]
        inside = builder.block
    joined = []
    for value, new in zip(values, changed, strict=True):
        phi = builder.phi(v.vector)
        phi.add_incoming(value, before)
        phi.add_incoming(new, inside)
        joined.append(phi)
    return joined


def sum_rows(o, weights, rows):
    """The twin of `emit_sums`."""
    if o.kind == SINGLE:
        return sum(weights[1 + t] * rows[t] for t in range(o.taps))
    sign, total = 1 if o.kind == SUMS else -1, weights[1] * rows[0]
    for t in range(1, o.taps + 1):
        total = total + weights[1 + t] * (rows[2 * t - 1] + sign * rows[2 * t])
    return total


@emitted(TapSumsArguments, _emit)
def tap_sums(o):
    """Store rows of sums over taps."""
    count = o.vectors * (VECTOR_BYTES // o.target.itemsize)
    with np.errstate(all="ignore"):
        for r in range(o.rows):
            source, offsets = o.source[r * o.source_step :], o.offsets[r * o.offset_step :]
            rows = [source[at : at + count] for at in offsets[: 2 * o.taps + 1]]
            total = sum_rows(o, o.weights, rows)
            if o.divides:
                total = total / o.weights[0]
            if o.truncates:
                total = np.trunc(total)
            o.target[r * o.target_step : r * o.target_step + count] = total
