"""The one file that knows llvmlite: what a device function is made of, as values of LLVM.

`compiled_memory` and `compiled` say with it what CUDA Python has no words for. A successor of
numba-cuda that emits something else needs another `Emitter`, and nothing more.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

WIDE_BYTES = 16
GLOBAL, SHARED = 1, 3  # address spaces of NVVM
_INT = ir.IntType(32)


def lanes_of(dtype: Any) -> int:
    """Elements of 128 bits."""
    return WIDE_BYTES * 8 // int(dtype.bitwidth)


def emitted(emit: Callable[..., Any]) -> Callable[..., Any]:
    """Return the code generator of an intrinsic of Numba, from ``emit(emitter, *arguments)``."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = emit(Emitter(context, builder), *args)
        return context.get_dummy_value() if value is None else value

    return codegen


class Emitter:
    """Emits instructions where a builder stands; numbers may stand for 32-bit constants."""

    def __init__(self, context: Any, builder: Any) -> None:
        self._context, self._builder = context, builder

    # Values.

    def _value(self, number: Any, like: Any = _INT) -> Any:
        return like(number) if isinstance(number, int) else number

    def add(self, a: Any, b: Any) -> Any:
        """Add; the second may be a number."""
        return self._builder.add(a, self._value(b, a.type))

    def multiply(self, a: Any, b: Any) -> Any:
        """Multiply; the second may be a number."""
        return self._builder.mul(a, self._value(b, a.type))

    def flip(self, a: Any, b: Any) -> Any:
        """Exclusive or; the second may be a number."""
        return self._builder.xor(a, self._value(b, a.type))

    def either(self, condition: Any, a: Any, b: Any) -> Any:
        """Return one of two values; numbers may stand for 32-bit constants."""
        return self._builder.select(condition, self._value(a), self._value(b))

    def both(self, a: Any, b: Any) -> Any:
        """Whether two conditions hold."""
        return self._builder.and_(a, b)

    def bit(self, bits: Any, i: int) -> Any:
        """Whether a bit is set."""
        return self._builder.icmp_signed("!=", self._builder.and_(bits, bits.type(1 << i)), _INT(0))

    def fused(self, dtype: Any, a: Any, b: Any, c: Any) -> Any:
        """Return ``a * b + c``, of floating numbers rounded once."""
        if isinstance(dtype, types.Float):
            return self._builder.fma(a, b, c)
        return self._builder.add(c, self._builder.mul(a, b))

    def weighted(self, factors: Sequence[float], values: Sequence[Any]) -> Any:
        """Return the sum of floating numbers times constants, of which one is not zero.

        What is multiplied by zero is left out.
        """
        total = None
        for factor, value in zip(factors, values, strict=True):
            if factor:
                constant = value.type(float(factor))
                if total is None:
                    total = self._builder.fmul(constant, value)
                else:
                    total = self._builder.fma(constant, value, total)
        return total

    def divides(self, power: int, value: Any) -> Any:
        """Whether a power of two divides a value."""
        rest = self._builder.and_(value, value.type(power - 1))
        return self._builder.icmp_unsigned("==", rest, rest.type(0))

    def pick(self, values: Sequence[Any], i: Any) -> Any:
        """Return the i-th of some values, without an address."""
        found = values[0]
        for number, value in enumerate(values[1:], start=1):
            there = self._builder.icmp_signed("==", i, i.type(number))
            found = self._builder.select(there, value, found)
        return found

    def reinterpret(self, value: Any, dtype: Any) -> Any:
        """Return the same bits as another type."""
        return self._builder.bitcast(value, self._context.get_value_type(dtype))

    def zeros(self, dtype: Any) -> Any:
        """Return a zero, or a tuple of them."""
        return ir.Constant(self._context.get_value_type(dtype), None)

    def unpack(self, value: Any) -> list[Any]:
        """Return the elements of a tuple."""
        return list(cgutils.unpack_tuple(self._builder, value))

    def pack(self, values: Sequence[Any]) -> Any:
        """Return a tuple of values of one type."""
        return cgutils.pack_array(self._builder, values)

    # Memory: addresses are integers, in global memory of 64 bits, in shared memory of 32.

    def shared_address(self, array_type: Any, array: Any) -> Any:
        """Return the address of a shared array."""
        data = self._context.make_array(array_type)(self._context, self._builder, array).data
        base = self._builder.addrspacecast(data, ir.PointerType(data.type.pointee, SHARED))
        return self._builder.ptrtoint(base, _INT)

    def pointer(self, address: Any, dtype: Any, index: Any = 0) -> Any:
        """Return the pointer to an element of a type, `index` elements from an address on."""
        space = GLOBAL if address.type.width == 64 else SHARED
        element = ir.PointerType(self._context.get_value_type(dtype), space)
        return self.step(self._builder.inttoptr(address, element), index)

    def address(self, pointer: Any) -> Any:
        """Return the address that a pointer to global memory is."""
        return self._builder.ptrtoint(pointer, ir.IntType(64))

    def step(self, pointer: Any, index: Any) -> Any:
        """Return the pointer to a further element."""
        return self._builder.gep(pointer, [self._value(index)])

    def read(self, pointer: Any) -> Any:
        """Load an element."""
        return self._builder.load(pointer)

    def write(self, pointer: Any, value: Any) -> None:
        """Store an element."""
        self._builder.store(value, pointer)

    def _vector(self, pointer: Any, lanes: int) -> Any:
        vector = ir.VectorType(pointer.type.pointee, lanes)
        return self._builder.bitcast(pointer, ir.PointerType(vector, pointer.type.addrspace))

    def read_wide(self, pointer: Any, dtype: Any, size: int = WIDE_BYTES) -> list[Any]:
        """Load 128 bits, or fewer, which are aligned, as elements."""
        lanes = size * 8 // int(dtype.bitwidth)
        vector = self._builder.load(self._vector(pointer, lanes), align=size)
        return [self._builder.extract_element(vector, _INT(i)) for i in range(lanes)]

    def write_wide(self, pointer: Any, values: Sequence[Any]) -> None:
        """Store 128 bits, which are aligned."""
        vector = ir.Constant(ir.VectorType(values[0].type, len(values)), ir.Undefined)
        for i, value in enumerate(values):
            vector = self._builder.insert_element(vector, value, _INT(i))
        self._builder.store(vector, self._vector(pointer, len(values)), align=WIDE_BYTES)

    # PTX.

    def assemble(
        self,
        text: str,
        constraints: str,
        result: Any,
        operands: Sequence[Any] = (),
        count: int = 0,
        convergent: bool = False,
    ) -> Any:
        """Emit an instruction of PTX, and return its result.

        Parameters
        ----------
        text, constraints : str
            As LLVM takes them.
        result
            Type of the result, or of each of `count` results, of which a list is returned.
        operands : sequence
            Values.
        count : int
            How many results there are, if not one alone.
        convergent : bool
            Whether all lanes of a warp must take it together, so that no copy of a loop leaves
            out some.
        """
        of = self._context.get_value_type(result)
        of = ir.LiteralStructType([of] * count) if count else of
        function = ir.FunctionType(of, [value.type for value in operands])
        asm = ir.InlineAsm(function, text, constraints, side_effect=convergent)
        attributes = ("convergent",) if convergent else ()
        done = self._builder.call(asm, list(operands), attrs=attributes)
        if not count:
            return done
        return [self._builder.extract_value(done, i) for i in range(count)]

    def perform(
        self, text: str, constraints: str = "~{memory}", operands: Sequence[Any] = ()
    ) -> None:
        """Emit an instruction of PTX that has no result and touches memory."""
        function = ir.FunctionType(ir.VoidType(), [value.type for value in operands])
        asm = ir.InlineAsm(function, text, constraints, side_effect=True)
        self._builder.call(asm, list(operands))
