"""Discrete Fourier transforms of columns: every lane of a vector is a column of its own.

A column has n rows. A row is a vector of real parts, and behind it one of imaginary parts. The
forward transform decimates in frequency and leaves the spectrum in the order in which its passes
come to it; the inverse one decimates in time, from that order back. So nothing is ever reordered:
what is done to a spectrum, one frequency at a time, does not ask for the order.

A pass of radix r takes blocks of r * m rows and makes r blocks of m rows of each. Four is the
radix: its four complex values and their temporaries fit 16 registers. Passes of two and of three
are for the sizes that are no power of four.
"""

import math
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from numbaconv.codegen.arguments import Elements, Indices
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.codegen.twins import emitted
from numbaconv.codegen.vectors import Vectors, i64

# Radices of passes, and of those among them that may be followed by another.
RADICES, TWIDDLED = (4, 2, 3), (4, 2)


class Pass(NamedTuple):
    """A pass, as a list of passes has it.

    Attributes
    ----------
    radix, blocks, apart : int
        The radix; blocks; rows from one value of a butterfly to the next. The last pass of a
        transform, which alone has values that are neighbours, has no twiddles.
    twiddles : int
        Where the factors of the pass begin: of each row of a block, of each value but the first,
        the real part and the imaginary one.
    """

    radix: int
    blocks: int
    apart: int
    twiddles: int


class TransformArguments(NamedTuple):
    """What transforms take.

    Attributes
    ----------
    data, step : pointer, int
        The first row, and elements from one row to the next.
    passes : pointer
        How many there are, then each `Pass`.
    twiddles : pointer
        Their factors.
    """

    data: Elements
    step: int
    passes: Indices
    twiddles: Elements


class _Complex:
    """Arithmetic on pairs of vectors, the real and the imaginary parts."""

    def __init__(self, vectors, inverse):
        self.v, self.builder, self.inverse = vectors, vectors.builder, inverse

    def load(self, row):
        return self.v.load(row), self.v.load(self.v.column(row, 1))

    def store(self, z, row):
        self.v.store(z[0], row)
        self.v.store(z[1], self.v.column(row, 1))

    def add(self, a, b):
        return tuple(self.builder.fadd(x, y) for x, y in zip(a, b, strict=True))

    def subtract(self, a, b):
        return tuple(self.builder.fsub(x, y) for x, y in zip(a, b, strict=True))

    def turn(self, z):
        """A quarter of a turn in the direction of the transform: times -i, or i in an inverse."""
        real, imag = z
        if self.inverse:
            return self.builder.fneg(imag), real
        return imag, self.builder.fneg(real)

    def scale(self, z, factor):
        constant = ir.Constant(self.v.vector, [factor] * self.v.lanes)
        return tuple(self.builder.fmul(part, constant) for part in z)

    def twiddle(self, z, place):
        """Times the factor behind a pointer; times its conjugate in an inverse transform."""
        real, imag = (self.v.broadcast(self.v.at(place, i64(i))) for i in range(2))
        return multiplied(self.v, z, (real, imag), conjugate=self.inverse)


def multiplied(v, a, b, conjugate=False, added=None):
    """Return a * b, or a * conj(b); `added` to it."""
    builder = v.builder
    (ar, ai), (br, bi) = a, b
    real, imag = (builder.fmul(ar, br), builder.fmul(ai, br))
    if added is not None:
        real, imag = v.multiply_add(ar, br, added[0]), v.multiply_add(ai, br, added[1])
    minus = builder.fneg(ai if not conjugate else ar)
    if conjugate:
        return v.multiply_add(ai, bi, real), v.multiply_add(minus, bi, imag)
    return v.multiply_add(minus, bi, real), v.multiply_add(ar, bi, imag)


def _butterfly(c, radix, z):
    """Return the transform of a few values."""
    if radix == 2:
        return [c.add(*z), c.subtract(*z)]
    if radix == 3:
        first, second, third = z
        both = c.add(second, third)
        middle = c.add(first, c.scale(both, -0.5))
        side = c.turn(c.scale(c.subtract(second, third), math.sqrt(0.75)))
        return [c.add(first, both), c.add(middle, side), c.subtract(middle, side)]
    even, odd = c.add(z[0], z[2]), c.add(z[1], z[3])
    even_side, odd_side = c.subtract(z[0], z[2]), c.turn(c.subtract(z[1], z[3]))
    return [
        c.add(even, odd),
        c.add(even_side, odd_side),
        c.subtract(even, odd),
        c.subtract(even_side, odd_side),
    ]


def _emit_values(c, radix, rows, twiddles):
    """One butterfly. `twiddles` is None, or points at its factors."""
    z = [c.load(row) for row in rows]
    places = [None if twiddles is None else c.v.at(twiddles, i64(2 * i)) for i in range(radix - 1)]
    if c.inverse and twiddles is not None:
        z[1:] = [c.twiddle(value, place) for value, place in zip(z[1:], places, strict=True)]
    z = _butterfly(c, radix, z)
    if not c.inverse and twiddles is not None:
        z[1:] = [c.twiddle(value, place) for value, place in zip(z[1:], places, strict=True)]
    for value, row in zip(z, rows, strict=True):
        c.store(value, row)


def _emit_pass(c, radix, is_last, entry, o):
    """All butterflies of a pass."""
    v, builder = c.v, c.builder
    apart = builder.mul(entry.apart, o.step)
    block = builder.mul(apart, i64(radix))
    factors = v.at(o.twiddles, entry.twiddles)
    with cgutils.for_range(builder, entry.blocks) as blocks:
        begin = v.at(o.data, builder.mul(blocks.index, block))
        with cgutils.for_range(builder, i64(1) if is_last else entry.apart) as rows:
            first = v.at(begin, builder.mul(rows.index, o.step))
            pointers = [v.at(first, builder.mul(apart, i64(i))) for i in range(radix)]
            place = v.at(factors, builder.mul(rows.index, i64(2 * radix - 2)))
            _emit_values(c, radix, pointers, None if is_last else place)


def _emit(inverse, builder, dtype, o):
    """Loop over the passes, a case for each kind."""
    c = _Complex(Vectors(builder, dtype), inverse)
    count = builder.load(o.passes)
    with cgutils.for_range(builder, count) as passes:
        number = passes.index
        if inverse:
            number = builder.sub(builder.sub(count, i64(1)), number)
        at = builder.add(builder.mul(number, i64(len(Pass._fields))), i64(1))
        places = [c.v.at(o.passes, builder.add(at, i64(i))) for i in range(len(Pass._fields))]
        entry = Pass(*(builder.load(place) for place in places))
        is_last = builder.icmp_signed("==", entry.apart, i64(1))
        for last in (True, False):
            for radix in RADICES if last else TWIDDLED:
                kind = builder.icmp_signed("==", entry.radix, i64(radix))
                with builder.if_then(
                    builder.and_(kind, is_last if last else builder.not_(is_last))
                ):
                    _emit_pass(c, radix, last, entry, o)


def _columns(o):
    """Rows of a transform as complex numbers, and where they lie."""
    lanes = VECTOR_BYTES // o.data.itemsize
    passes = [Pass(*o.passes[1 + 4 * i : 5 + 4 * i]) for i in range(o.passes[0])]
    n = math.prod(each.radix for each in passes)
    rows = [o.data[r * o.step : r * o.step + 2 * lanes] for r in range(n)]
    return passes, rows, np.array([row[:lanes] + 1j * row[lanes:] for row in rows])


def _twin(o, inverse):
    """Do what the emitted function does, pass by pass."""
    with np.errstate(all="ignore"):
        passes, rows, z = _columns(o)
        lanes, sign = z.shape[1], 1 if inverse else -1
        for each in reversed(passes) if inverse else passes:
            radix, m = each.radix, each.apart
            size = 2 * m * (radix - 1)
            factors = np.ones((m, radix), z.dtype)
            if m > 1:
                parts = o.twiddles[each.twiddles : each.twiddles + size].reshape(m, radix - 1, 2)
                factors[:, 1:] = parts[..., 0] - sign * 1j * parts[..., 1]
            k = np.arange(radix)
            matrix = np.exp(sign * 2j * np.pi * np.outer(k, k) / radix).astype(z.dtype)
            blocks = z.reshape(each.blocks, radix, m, lanes)
            scale = factors.T[None, :, :, None]
            if inverse:
                blocks = np.einsum("ij,bjml->biml", matrix, blocks * scale)
            else:
                blocks = np.einsum("ij,bjml->biml", matrix, blocks) * scale
            z = blocks.reshape(z.shape)
        for row, values in zip(rows, z, strict=True):
            row[:lanes], row[lanes:] = values.real, values.imag


@emitted(TransformArguments, lambda builder, dtype, o: _emit(False, builder, dtype, o))
def forward(o):
    """Transform columns, in place: the spectrum is in the order of the passes."""
    _twin(o, inverse=False)


@emitted(TransformArguments, lambda builder, dtype, o: _emit(True, builder, dtype, o))
def inverse(o):
    """Transform spectra in the order of the passes back, in place, n times as large as they were.

    The passes are those of the forward transform.
    """
    _twin(o, inverse=True)
