"""Sums in float32 to integers: the fraction cut off, as that of the sum in float64 would be.

Sums of whole numbers by `tap_sums` are off by no more than a bound. What is nearer to an integer is
summed again, in float64, in the order in which SciPy adds.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.codegen.twins import emitted
from numbaconv.codegen.vectors import Vectors, i64
from numbaconv.cpu.microkernels.accumulators import carried_loop
from numbaconv.cpu.microkernels.tap_sums import (
    DIFFERENCES,
    SINGLE,
    SUMS,
    TapSumsArguments,
    emit_sums,
    row_of,
    sum_rows,
)


def _emit(builder, dtype, o):
    """Look at each vector of each row.

    Where an image is flat all sums are of one number, and next to an integer if the weights add up
    to one: the sum of the last number is remembered.
    """
    if dtype == types.float64:  # which `tap_sums` itself cuts off
        return
    v = Vectors(builder, dtype)
    weights = builder.bitcast(o.exact, ir.DoubleType().as_pointer())
    limit = v.splat(builder.fptrunc(builder.load(weights), v.element))
    last, sum_of_last = (cgutils.alloca_once_value(builder, v.constant(np.nan)) for _ in range(2))
    with cgutils.for_range(builder, o.rows) as rows:
        target, source, offsets = row_of(v, o, rows.index)
        with cgutils.for_range(builder, o.vectors) as columns:
            at = builder.mul(columns.index, i64(v.lanes))
            sums, pixels = v.at(target, at), v.at(source, at)
            near = _emit_whole(v, sums, limit)
            with builder.if_then(near, likely=False):
                number, differs = _emit_comparison(v, o, pixels, offsets)
                is_new = _any_set(v, builder.fcmp_unordered("une", number, builder.load(last)))
                with builder.if_else(builder.or_(is_new, differs)) as (new, old):
                    with new:
                        _emit_sums(v, o, weights, pixels, offsets, sums)
                        with builder.if_then(builder.not_(differs)):
                            builder.store(number, last)
                            builder.store(v.load(sums), sum_of_last)
                    with old:
                        v.store(builder.load(sum_of_last), sums)


def _emit_whole(v, target, limit):
    """Cut a vector off; return whether any sum was nearer to an integer other than zero.

    Its fraction is further from one half than a limit. Next to zero either side becomes zero.
    """
    builder, half = v.builder, v.constant(0.5)
    x = v.load(target)
    whole = v.truncate(x)
    v.store(whole, target)
    fraction = v.absolute(builder.fsub(v.absolute(builder.fsub(x, whole)), half))
    near = builder.fcmp_ordered(">", fraction, limit)
    return _any_set(v, builder.and_(near, builder.fcmp_ordered(">", v.absolute(x), half)))


def _any_set(v, mask):
    """Whether a mask has any lane."""
    bits = v.builder.bitcast(mask, ir.IntType(v.lanes))
    return v.builder.icmp_signed("!=", bits, ir.Constant(bits.type, 0))


def _emit_comparison(v, o, source, offsets):
    """The first number that a vector of sums reads, in all lanes; and whether any other differs."""
    builder = v.builder

    def row(t: Any) -> Any:
        return v.at(source, builder.load(v.at(offsets, t)))

    number = v.broadcast(row(i64(0)))
    bits = builder.bitcast(number, v.integers)

    def compare(t, values):
        other = builder.bitcast(v.load(row(t)), v.integers)
        return [[builder.or_(values[0][0], builder.xor(bits, other))]]

    single = builder.icmp_signed("==", o.kind, i64(SINGLE))
    entries = builder.select(single, o.taps, builder.add(builder.shl(o.taps, i64(1)), i64(1)))
    first = builder.fcmp_unordered("une", number, v.load(row(i64(0))))
    entries = builder.select(_any_set(v, first), i64(1), entries)  # that is enough
    [[differences]] = carried_loop(builder, entries, [[v.integer(0)]], compare, "comparison")
    return number, _any_set(v, builder.icmp_signed("!=", differences, v.integer(0)))


def _emit_sums(v, o, weights, source, offsets, target):
    """Store the sums of a vector, cut off: a case for each kind."""
    builder = v.builder
    wide, half = Vectors(builder, types.float64), ir.VectorType(v.element, v.lanes // 2)

    def load(pointer: Any) -> Any:
        address = builder.bitcast(pointer, half.as_pointer())
        return builder.fpext(builder.load(address, align=v.align), wide.vector)

    for kind in (SINGLE, SUMS, DIFFERENCES):
        with builder.if_then(builder.icmp_signed("==", o.kind, i64(kind))):
            sums = emit_sums(wide, 2, kind, o.taps, weights, source, offsets, load)
            for j, value in enumerate(sums):
                place = builder.bitcast(wide.column(target, j), half.as_pointer())
                builder.store(builder.fptrunc(wide.truncate(value), half), place, align=v.align)


@emitted(TapSumsArguments, _emit)
def cut_off(o):
    """Cut off the fractions of sums, which the target has."""
    lanes = VECTOR_BYTES // o.target.itemsize
    weights = o.exact[: o.taps + 2].view(np.float64)
    limit = weights[:1].astype(np.float32)
    for r in range(o.rows):
        target, source = o.target[r * o.target_step :], o.source[r * o.source_step :]
        offsets = o.offsets[r * o.offset_step :][: 2 * o.taps + 1]
        for j in range(0, o.vectors * lanes, lanes):
            with np.errstate(all="ignore"):  # behind a row lies anything
                x = target[j : j + lanes].copy()
                target[j : j + lanes] = np.trunc(x)
                fraction = np.abs(np.abs(x - np.trunc(x)) - np.float32(0.5))
                if ((fraction > limit) & (np.abs(x) > 0.5)).any():
                    rows = [source[at + j :][:lanes].astype(float) for at in offsets]
                    target[j : j + lanes] = np.trunc(sum_rows(o, weights, rows))
