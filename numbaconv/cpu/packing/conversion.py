"""Rows between the caller's arrays, of any dtype, and scratch, which has the dtype of the sums."""

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from numbaconv.codegen.arguments import Elements, Foreign
from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import before_line, keep_scalar
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.codegen.twins import stands_for
from numbaconv.codegen.vectors import Vectors
from numbaconv.cpu.packing.reading import Half, converted, to_half


def _converted(context, builder, value, source, target):
    """A number in another type: of integers that are no wider, C's cast, as SciPy's is."""
    if isinstance(source, Half):
        return converted(builder, value, source, target)
    if isinstance(target, Half):
        single = converted(builder, value, source, types.float32)
        return to_half(builder, single)
    if not isinstance(source, types.Float) or not isinstance(target, types.Integer):
        return context.cast(builder, value, source, target)
    if target.bitwidth == 64 and not target.signed:
        return _unsigned(builder, value)
    # What an unsigned type of fewer bits cannot hold wraps, as signed numbers do.
    wide = 32 if target.bitwidth + (not target.signed) <= 32 else 64
    whole = builder.fptosi(value, ir.IntType(wide))
    narrow = ir.IntType(target.bitwidth)
    return whole if wide == target.bitwidth else builder.trunc(whole, narrow)


def _unsigned(builder, value):
    """uint64, of a negative number what wraps."""
    negative = builder.fcmp_ordered("<", value, ir.Constant(value.type, 0))
    magnitude = builder.select(negative, builder.fneg(value), value)
    whole = builder.fptoui(magnitude, ir.IntType(64))
    return builder.select(negative, builder.neg(whole), whole)


def _moving(convert):
    """An intrinsic that stores ``convert(source[j])`` as target[i]."""

    @intrinsic
    def move(typing_context, target, i, source, j):
        signature = types.void(target, types.int64, source, types.int64)

        def codegen(context, builder, signature, arguments):
            target, i, source, j = arguments
            to, _, of, _ = signature.args
            value = builder.load(builder.gep(source, [j]))
            new = convert(context, builder, value, of.dtype, to.dtype)
            builder.store(new, builder.gep(target, [i]))
            return context.get_dummy_value()

        return signature, codegen

    return move


def _rounded(context, builder, value, source, target):
    """The nearest integer, of two the even one; the nearest of the type; zero of NaN."""
    del context
    integer = ir.IntType(target.bitwidth)
    if target.bitwidth > 16:
        number = {32: "f32", 64: "f64"}[source.bitwidth]
        value = _intrinsic(builder, f"llvm.rint.{number}", value.type, value)
        letter = "s" if target.signed else "u"
        name = f"llvm.fpto{letter}i.sat.i{target.bitwidth}.{number}"
        return _intrinsic(builder, name, integer, value)
    # That intrinsic has no vectors of few bits; but their limits are floats.
    low, high = (ir.Constant(value.type, limit) for limit in (target.minval, target.maxval))
    if target.signed:
        zero = ir.Constant(value.type, 0)
        value = builder.select(builder.fcmp_ordered("ord", value, value), value, zero)
    value = builder.select(builder.fcmp_ordered(">", value, low), value, low)
    value = builder.select(builder.fcmp_ordered("<", value, high), value, high)
    # Added to a number whose last digit is one, it is rounded, and stands in the last bits.
    ones = ir.Constant(value.type, 1.5 * 2 ** {32: 23, 64: 52}[source.bitwidth])
    bits = builder.bitcast(builder.fadd(value, ones), ir.IntType(source.bitwidth))
    return builder.trunc(bits, integer)


def _intrinsic(builder, name, result, value):
    """Call an intrinsic of LLVM."""
    signature = ir.FunctionType(result, [value.type])
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), [value])


def _saturated(context, builder, value, source, target):
    """Of an integer the nearest that the type has."""
    del context
    limits = [(type_.minval, type_.maxval) for type_ in (source, target)]
    least, most = max(low for low, _ in limits), min(high for _, high in limits)
    compare = builder.icmp_signed if source.signed else builder.icmp_unsigned
    for limit, sign in ((least, "<"), (most, ">")):
        limit = ir.Constant(value.type, limit)
        value = builder.select(compare(sign, value, limit), limit, value)
    return converted(builder, value, source, target)


_move, _move_rounded = _moving(_converted), _moving(_rounded)
_move_saturated = _moving(_saturated)


@stands_for(_move)
def move(target, i, source, j):
    """target[i] = source[j], converted as C does: to integers by cutting the fraction off."""
    with np.errstate(all="ignore"):
        target[i] = source[j].astype(target.dtype)


@stands_for(_move_rounded)
def move_rounded(target, i, source, j):
    """target[i] = the integer next to source[j] that the type has, of two the even one."""
    value, limits = np.nan_to_num(np.rint(source[j])), np.iinfo(target.dtype)
    target[i] = min(max(int(value), limits.min), limits.max)


@stands_for(_move_saturated)
def move_saturated(target, i, source, j):
    """target[i] = the integer next to source[j], an integer, that the type has."""
    limits = np.iinfo(target.dtype)
    target[i] = min(max(int(source[j]), limits.min), limits.max)


@intrinsic
def _move_past_caches(typing_context, target, i, source, j):
    signature = types.void(target, types.int64, source, types.int64)

    def codegen(context, builder, signature, arguments):
        target, i, source, j = arguments
        to, of = signature.args[0].dtype, signature.args[2].dtype
        written = Vectors(builder, to)
        read = ir.VectorType(context.get_value_type(of), written.lanes)
        place = builder.bitcast(builder.gep(source, [j]), read.as_pointer())
        value = builder.load(place, align=of.bitwidth // 8)
        if of.bitwidth != to.bitwidth:
            convert = builder.fpext if of.bitwidth < to.bitwidth else builder.fptrunc
            value = convert(value, written.vector)
        written.store_nontemporal(value, written.at(target, i))
        return context.get_dummy_value()

    return signature, codegen


@stands_for(_move_past_caches)
def move_past_caches(target, i, source, j):
    """Move a vector of floats to an aligned place past the caches."""
    lanes = VECTOR_BYTES // target.itemsize
    target[i : i + lanes] = source[j : j + lanes]


@intrinsic
def _floats_of_vector(typing_context, target):
    signature = types.int64(target)

    def codegen(context, builder, signature, arguments):
        lanes = VECTOR_BYTES * 8 // signature.args[0].dtype.bitwidth
        return ir.Constant(ir.IntType(64), lanes)

    return signature, codegen


@stands_for(_floats_of_vector)
def floats_of_vector(target):
    """Elements behind a pointer that a vector holds."""
    return VECTOR_BYTES // target.itemsize


@inline
def floats_before_line(target):
    """Elements from a pointer to where a cache line begins."""
    return before_line(target) * floats_of_vector(target) // VECTOR_BYTES


class ReadRowArguments(NamedTuple):
    """What `read_row` takes.

    Attributes
    ----------
    target : pointer
        Where elements are copied to, side by side.
    source, step : pointer, int
        First element, and elements from one to the next.
    elements : int
        How many.
    """

    target: Elements
    source: Foreign
    step: int
    elements: int


@native(ReadRowArguments)
def read_row(target, source, step, elements):
    """Copy elements to scratch."""
    if step == 1:
        for j in range(elements):
            move(target, j, source, j)
    else:
        for j in range(elements):
            move(target, j, source, j * step)


class WriteRowArguments(NamedTuple):
    """What `write_row` takes.

    Attributes
    ----------
    source : pointer
        Elements side by side.
    target, step : pointer, int
        Where the first goes, and elements from one to the next.
    elements : int
        How many.
    """

    source: Elements
    target: Foreign
    step: int
    elements: int


@native(WriteRowArguments)
def write_row(source, target, step, elements):
    """Copy elements from scratch; to integers as C converts them."""
    if step == 1:
        for j in range(elements):
            move(target, j, source, j)
    else:
        for j in range(elements):
            move(target, j * step, source, j)


@native(WriteRowArguments)
def write_rounded_row(source, target, step, elements):
    """Copy elements from scratch to the nearest integers that the type has."""
    if step == 1:
        for j in range(elements):
            move_rounded(target, j, source, j)
    else:
        for j in range(elements):
            move_rounded(target, j * step, source, j)


@native(WriteRowArguments)
def write_saturated_row(source, target, step, elements):
    """Copy integers from scratch to the nearest that the type has."""
    if step == 1:
        for j in range(elements):
            move_saturated(target, j, source, j)
    else:
        for j in range(elements):
            move_saturated(target, j * step, source, j)


@native(WriteRowArguments)
def write_past_caches(source, target, step, elements):
    """Copy floats from scratch to neighbours, by whole vectors past the caches."""
    begin, lanes = floats_before_line(target), floats_of_vector(target)
    begin = begin if begin < elements else elements
    for j in range(begin):
        keep_scalar()
        move(target, j, source, j)
    j = begin
    while j + lanes <= elements:
        move_past_caches(target, j, source, j)
        j += lanes
    while j < elements:
        keep_scalar()
        move(target, j, source, j)
        j += 1


def usual_types(function: native) -> list[tuple[Any, Any]]:
    """The types of scratch and of arrays that are usual for a function here."""
    single, double, byte = types.float32, types.float64, types.uint8
    if function is write_rounded_row:
        return [(single, byte)]
    if function is write_saturated_row:
        return [(types.int32, byte)]
    pairs = [(single, single), (double, double)]
    if function is write_past_caches:
        return pairs
    rows = function in (read_row, write_row)  # of filters, which sum bytes in float64 too
    return [*pairs, (single, byte), *([(double, byte)] if rows else [])]
