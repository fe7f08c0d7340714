"""Formulas over vectors of floating elements, written with operators, emitted as LLVM IR."""

import functools

from llvmlite import ir

from numbaconv.codegen.vectors import Vectors


class Formula:
    """A vector in a formula: an operator emits its instruction, a number is a constant.

    Each operation is rounded by itself, as nothing is reordered or contracted; but `multiply_add`
    may be one instruction.
    """

    def __init__(self, vectors: Vectors, value):
        self.v, self.value = vectors, value

    def constant(self, number):
        """The same number in all lanes, rounded to the type of the elements."""
        element = ir.Constant(self.v.element, float(number))
        return Formula(self.v, ir.Constant(self.v.vector, [element] * self.v.lanes))

    def _other(self, other):
        return other if isinstance(other, Formula) else self.constant(other)

    def _emit(self, instruction, *operands):
        return Formula(self.v, instruction(*(each.value for each in operands)))

    def __add__(self, other):
        return self._emit(self.v.builder.fadd, self, self._other(other))

    def __sub__(self, other):
        return self._emit(self.v.builder.fsub, self, self._other(other))

    def __rsub__(self, other):
        return self._emit(self.v.builder.fsub, self._other(other), self)

    def __mul__(self, other):
        return self._emit(self.v.builder.fmul, self, self._other(other))

    def __truediv__(self, other):
        return self._emit(self.v.builder.fdiv, self, self._other(other))

    def __neg__(self):
        return self._emit(self.v.builder.fneg, self)

    __radd__, __rmul__ = __add__, __mul__

    def multiply_add(self, factor, summand):
        """Return self * factor + summand, in one instruction where the CPU has it."""
        factor, summand = self._other(factor), self._other(summand)
        return self._emit(self.v.multiply_add, self, factor, summand)

    def __abs__(self):
        return self._call("fabs")

    def with_sign_of(self, other):
        """The magnitude of this vector with the signs of another."""
        return self._call("copysign", other)

    def _call(self, name, *others):
        name = f"llvm.{name}.{self.v.suffix}"
        return Formula(self.v, self.v.call(name, self.v.vector, [self.value, *map(_value, others)]))

    def where_less(self, limit, then, otherwise):
        """`then` where this is less than a limit; `otherwise` where it is not, or is NaN."""
        condition = self.v.builder.fcmp_ordered("<", self.value, self._other(limit).value)
        return self._choose(condition, then, otherwise)

    def where_more(self, limit, then, otherwise):
        """`then` where this is more than a limit; `otherwise` where it is not, or is NaN."""
        condition = self.v.builder.fcmp_ordered(">", self.value, self._other(limit).value)
        return self._choose(condition, then, otherwise)

    def _choose(self, condition, then, otherwise):
        choices = self._other(then), self._other(otherwise)
        return self._emit(functools.partial(self.v.builder.select, condition), *choices)

    def at_least(self, limit):
        """Return this or a limit, whichever is more; NaN stays NaN."""
        return self.where_less(limit, limit, self)

    def at_most(self, limit):
        """Return this or a limit, whichever is less; NaN stays NaN."""
        return self.where_more(limit, limit, self)

    def scaled_by_bits(self, shifted, left):
        """Return this, a power of two, times 2^n: n are the low bits of `shifted`.

        `left` is the place where a number has its exponent. The result must be a normal number.
        """
        b, integers = self.v.builder, self.v.integers
        bits = b.shl(b.bitcast(shifted.value, integers), self.v.integer(left))
        bits = b.add(bits, b.bitcast(self.value, integers))
        return Formula(self.v, b.bitcast(bits, self.v.vector))

    def without_low_bits(self, count):
        """Return this with its last `count` bits cleared."""
        b, integers = self.v.builder, self.v.integers
        bits = b.and_(b.bitcast(self.value, integers), self.v.integer(-1 << count))
        return Formula(self.v, b.bitcast(bits, self.v.vector))

    def polynomial(self, coefficients):
        """The polynomial of these coefficients, the constant one first, by Estrin's scheme."""
        terms, power = list(coefficients), self
        while len(terms) > 1:
            pairs = [
                power.multiply_add(odd, even)
                for even, odd in zip(terms[::2], terms[1::2], strict=False)
            ]
            terms = pairs + terms[len(pairs) * 2 :]
            power = power * power
        return self._other(terms[0])


def _value(formula):
    return formula.value
