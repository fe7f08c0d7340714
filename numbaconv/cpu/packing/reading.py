"""Elements that are read in one type and used in another: numbers or vectors of them, in LLVM IR.

What is read is no wider than what is made of it, but for integers that wrap. float16, for which
Numba has no machine type, is read as its bits.
"""

import functools

import numpy as np
from llvmlite import ir
from numba import from_dtype, types
from numba.extending import models, register_model

from numbaconv.codegen.vectors import Vectors


class Half(types.Type):  # type: ignore[misc]  # Numba has no types
    """Type of float16 in memory."""

    bitwidth = 16


HALF = Half("half")


@register_model(Half)
class _HalfModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager, half):
        super().__init__(manager, half, ir.IntType(16))


def element_type(dtype):
    """Numba's type of the elements of an array in memory."""
    return HALF if dtype == np.float16 else from_dtype(dtype)


def _like(shape, element):
    """The type of as many elements as a value of the type `shape` has."""
    return ir.VectorType(element, shape.count) if isinstance(shape, ir.VectorType) else element


def _constant(of, value):
    """A value in all lanes of a type, or as the one number that it is."""
    lanes = isinstance(of, ir.VectorType)
    return ir.Constant(of, [value] * of.count if lanes else value)


def _from_half(builder, bits):
    """float32 of the bits of float16, exactly, by integers: not every CPU has an instruction."""
    integers = _like(bits.type, ir.IntType(32))
    floats = _like(bits.type, ir.FloatType())
    bits = builder.zext(bits, integers)

    constant = functools.partial(_constant, integers)
    exponent, fraction = (builder.and_(bits, constant(mask)) for mask in (0x7C00, 0x3FF))
    magnitude = builder.shl(builder.and_(bits, constant(0x7FFF)), constant(13))
    # The exponent counts from 127 and not from 15; that of NaN and infinity is the largest.
    special = builder.icmp_unsigned("==", exponent, constant(0x7C00))
    bias = builder.select(special, constant(224 << 23), constant(112 << 23))
    normal = builder.add(magnitude, bias)
    small = builder.fmul(builder.uitofp(fraction, floats), _constant(floats, 2.0**-24))
    is_small = builder.icmp_unsigned("==", exponent, constant(0))
    magnitude = builder.select(is_small, builder.bitcast(small, integers), normal)
    sign = builder.shl(builder.and_(bits, constant(0x8000)), constant(16))
    return builder.bitcast(builder.or_(magnitude, sign), floats)


def to_half(builder, value):
    """The bits of float16 of float32: the nearest number, of two the even one."""
    integers, floats = _like(value.type, ir.IntType(32)), value.type
    constant = functools.partial(_constant, integers)
    bits = builder.bitcast(value, integers)
    sign = builder.and_(bits, constant(0x80000000))
    bits = builder.xor(bits, sign)
    # Adding a number whose last bit is that of the smallest float16 rounds to a multiple of it.
    magic = (127 - 15 + 23 - 10 + 1) << 23
    small = builder.fadd(builder.bitcast(bits, floats), builder.bitcast(constant(magic), floats))
    small = builder.sub(builder.bitcast(small, integers), constant(magic))
    odd = builder.and_(builder.lshr(bits, constant(13)), constant(1))
    normal = builder.add(builder.add(bits, constant(0xFFF - (112 << 23))), odd)
    normal = builder.lshr(normal, constant(13))
    is_small = builder.icmp_unsigned("<", bits, constant(113 << 23))
    half = builder.select(is_small, small, normal)
    is_nan = builder.icmp_unsigned(">", bits, constant(255 << 23))
    special = builder.select(is_nan, constant(0x7E00), constant(0x7C00))
    is_special = builder.icmp_unsigned(">=", bits, constant((127 + 16) << 23))
    half = builder.select(is_special, special, half)
    half = builder.or_(half, builder.lshr(sign, constant(16)))
    return builder.trunc(half, _like(value.type, ir.IntType(16)))


def converted(builder, value, source, target):
    """A number, or a vector of numbers, of one type in another."""
    if source == target:
        return value
    if isinstance(source, Half):
        return converted(builder, _from_half(builder, value), types.float32, target)
    if isinstance(target, types.Float):
        element = ir.FloatType() if target.bitwidth == 32 else ir.DoubleType()
        if isinstance(source, types.Float):
            change = builder.fpext if source.bitwidth < target.bitwidth else builder.fptrunc
        else:
            change = builder.sitofp if source.signed else builder.uitofp
        return change(value, _like(value.type, element))
    if source.bitwidth == target.bitwidth:
        return value
    wider = builder.sext if source.signed else builder.zext
    change = wider if source.bitwidth < target.bitwidth else builder.trunc
    return change(value, _like(value.type, ir.IntType(target.bitwidth)))


class Reader:
    """Reads vectors of as many elements as those of `like` have, which may have another type."""

    def __init__(self, builder, source, target, like):
        self.builder, self.types, self.like = builder, (source, target), like
        self.stored = like if source == target else Vectors(builder, source, lanes=like.lanes)

    def load(self, pointer):
        """Vector behind a pointer, which need not be aligned."""
        return converted(self.builder, self.stored.load(pointer), *self.types)

    def load_masked(self, pointer, mask):
        """Lanes of the mask from behind a pointer, zero in the others; only those are read."""
        value = self.stored.load_masked(pointer, mask)
        return converted(self.builder, value, *self.types)
