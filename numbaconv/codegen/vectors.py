"""Vector arithmetic in LLVM IR, on top of an llvmlite builder."""

from llvmlite import ir
from numba import types
from numba.core import cgutils

from numbaconv.codegen.target import REGISTERS, VECTOR_BYTES

I1, I32, I64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)


def i64(value):
    """Return a constant."""
    return ir.Constant(I64, value)


def opaque(builder, value):
    """Return an i64 of which LLVM knows nothing.

    A loop whose counter goes through here is neither unrolled nor peeled nor are its addresses
    rewritten: code that is written to fill the registers spills them after that.
    """
    identity = ir.FunctionType(value.type, [value.type])
    return builder.asm(identity, "", "=r,0", [value], side_effect=False)


class Vectors:
    """Vector arithmetic on one element type, on top of an llvmlite builder.

    `share` is 1 for whole vectors of the CPU, 2 for halves. `together` vectors are as one. Or
    vectors have so many `lanes`.
    """

    def __init__(self, builder, dtype, share=1, together=1, lanes=0):
        self.builder = builder
        self.is_float = isinstance(dtype, types.Float)
        self.lanes = lanes or together * VECTOR_BYTES // share // (dtype.bitwidth // 8)
        self.element = (
            {32: ir.FloatType(), 64: ir.DoubleType()}[dtype.bitwidth]
            if self.is_float
            else ir.IntType(dtype.bitwidth)
        )
        self.align = dtype.bitwidth // 8
        self.vector = ir.VectorType(self.element, self.lanes)
        self.mask = ir.VectorType(I1, self.lanes)
        self.integers = ir.VectorType(ir.IntType(dtype.bitwidth), self.lanes)
        letter = "f" if self.is_float else "i"
        self.suffix = f"v{self.lanes}{letter}{dtype.bitwidth}"

    def call(self, name, result, arguments):
        """Call an intrinsic of LLVM."""
        signature = ir.FunctionType(result, [a.type for a in arguments])
        function = cgutils.get_or_insert_function(self.builder.module, signature, name)
        return self.builder.call(function, arguments)

    def at(self, pointer, index):
        """Address of the element `index` behind a pointer."""
        return self.builder.gep(pointer, [index])

    def at_byte(self, pointer, count):
        """Address so many bytes behind a pointer."""
        return self.builder.gep(pointer, [count], source_etype=ir.IntType(8))

    def column(self, pointer, j):
        """Address of the j-th vector behind a pointer."""
        return self.at(pointer, i64(j * self.lanes))

    def splat(self, scalar):
        """Vector of one scalar in all lanes."""
        undefined = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, ir.Constant(I32, 0))
        zeros = ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, undefined, zeros)

    def broadcast(self, pointer):
        """Vector of the scalar behind a pointer in all lanes."""
        return self.splat(self.builder.load(pointer))

    def load(self, pointer):
        """Vector behind a pointer, which need not be aligned."""
        address = self.builder.bitcast(pointer, self.vector.as_pointer())
        return self.builder.load(address, align=self.align)

    def prefetch(self, pointer, write=False):
        """Ask for the cache line behind a pointer, which may point anywhere."""
        signature = ir.FunctionType(ir.VoidType(), [ir.PointerType(), I32, I32, I32])
        function = cgutils.get_or_insert_function(
            self.builder.module, signature, "llvm.prefetch.p0"
        )
        address = self.builder.bitcast(pointer, ir.PointerType())
        # For reading or writing, into all caches, of data.
        options = [ir.Constant(I32, value) for value in (int(write), 3, 1)]
        self.builder.call(function, [address, *options])

    def store(self, value, pointer):
        """Store a vector behind a pointer."""
        address = self.builder.bitcast(pointer, self.vector.as_pointer())
        self.builder.store(value, address, align=self.align)

    def store_nontemporal(self, value, pointer):
        """Store a vector behind an aligned pointer, past the caches: its line is not read first."""
        address = self.builder.bitcast(pointer, self.vector.as_pointer())
        instruction = self.builder.store(value, address, align=VECTOR_BYTES)
        hint = self.builder.module.add_metadata([ir.Constant(I32, 1)])
        instruction.set_metadata("nontemporal", hint)

    def splat32(self, integer):
        """Vector of the low half of an i64 in all lanes."""
        vector = ir.VectorType(I32, self.lanes)
        undefined = ir.Constant(vector, ir.Undefined)
        low = self.builder.trunc(integer, I32)
        first = self.builder.insert_element(undefined, low, ir.Constant(I32, 0))
        zeros = ir.Constant(vector, [0] * self.lanes)
        return self.builder.shuffle_vector(first, undefined, zeros)

    def first_lanes(self, count):
        """Mask of the first `count` (an i64) lanes."""
        counts = self.splat32(count)
        numbers = ir.Constant(counts.type, list(range(self.lanes)))
        return self.builder.icmp_unsigned("<", numbers, counts)

    def lanes_between(self, begin, end):
        """Mask of the lanes from `begin` to before `end` (i64, which may lie outside)."""
        none, all_lanes = i64(0), i64(self.lanes)
        limits = []
        for limit in (begin, end):
            least = self.builder.select(self.builder.icmp_signed(">", limit, none), limit, none)
            small = self.builder.icmp_signed("<", least, all_lanes)
            limits.append(self.builder.select(small, least, all_lanes))
        before, until = (self.first_lanes(limit) for limit in limits)
        return self.builder.and_(until, self.builder.not_(before))

    def load_mask(self, pointer):
        """Mask of the lanes whose bits are set in the i64 behind a pointer."""
        return self.as_mask(self.builder.load(pointer))

    def as_mask(self, word):
        """Mask of the lanes whose bits are set in an i64."""
        bits = self.builder.trunc(word, ir.IntType(self.lanes))
        return self.builder.bitcast(bits, self.mask)

    def load_by_word(self, pointer, word):
        """Lanes whose bits are set in the i64 behind `word`, zero in the others.

        CPUs with 32 vector registers have others for masks. Where a mask is a vector, and takes
        some steps to make, a branch loads whole vectors without one.
        """
        if REGISTERS >= 32:
            return self.load_masked(pointer, self.load_mask(word))
        builder, ways = self.builder, []
        with builder.if_else(self.is_whole(word), likely=True) as (then, otherwise):
            with then:
                ways.append((self.load(pointer), builder.block))
            with otherwise:
                ways.append((self.load_masked(pointer, self.load_mask(word)), builder.block))
        loaded = builder.phi(self.vector)
        for value, block in ways:
            loaded.add_incoming(value, block)
        return loaded

    def is_whole(self, word):
        """Whether the bits of all lanes are set in the i64 behind a pointer."""
        return self.builder.icmp_signed("==", self.builder.load(word), i64((1 << self.lanes) - 1))

    def load_masked(self, pointer, mask):
        """Lanes of the mask from behind a pointer, zero in the others; only those are read."""
        address = self.builder.bitcast(pointer, self.vector.as_pointer())
        arguments = [address, ir.Constant(I32, self.align), mask, self.zero()]
        return self.call(f"llvm.masked.load.{self.suffix}.p0", self.vector, arguments)

    def store_masked(self, value, pointer, mask):
        """Store the lanes of the mask; no others are written."""
        address = self.builder.bitcast(pointer, self.vector.as_pointer())
        arguments = [value, address, ir.Constant(I32, self.align), mask]
        self.call(f"llvm.masked.store.{self.suffix}.p0", ir.VoidType(), arguments)

    def shifted(self, low, high, count):
        """Of two vectors side by side, the one that begins `count` lanes behind the first."""
        places = ir.VectorType(I32, self.lanes)
        mask = ir.Constant(places, list(range(count, count + self.lanes)))
        return self.builder.shuffle_vector(low, high, mask)

    def part(self, value, first, count):
        """Some neighbouring lanes of a vector, from `first` on."""
        places = ir.Constant(ir.VectorType(I32, count), list(range(first, first + count)))
        return self.builder.shuffle_vector(value, value, places)

    def every_second(self, pair, first):
        """Every second element of two vectors side by side, from `first` (0 or 1) on."""
        picked = list(range(first, 2 * self.lanes, 2))
        mask = ir.Constant(ir.VectorType(I32, self.lanes), picked)
        return self.builder.shuffle_vector(*pair, mask)

    def every(self, parts, first):
        """Of n vectors side by side every n-th element, from `first` on."""
        if len(parts) == 1:
            return parts[0]
        if len(parts) % 2 == 0:
            pairs = zip(parts[::2], parts[1::2], strict=True)
            return self.every([self.every_second(pair, first % 2) for pair in pairs], first // 2)
        places = range(first, len(parts) * self.lanes, len(parts))
        return self._collected(parts, [divmod(place, self.lanes) for place in places])

    def interleaved(self, parts):
        """Of n vectors the first elements, the second ones, and so on: n vectors side by side."""
        count, lanes = len(parts), self.lanes
        if count == 1:
            return parts
        if count % 2 == 0:
            pairs = zip(self.interleaved(parts[::2]), self.interleaved(parts[1::2]), strict=True)
            masks = [[i // 2 + i % 2 * lanes for i in range(at, at + lanes)] for at in (0, lanes)]
            masks = [ir.Constant(ir.VectorType(I32, lanes), mask) for mask in masks]
            return [self.builder.shuffle_vector(*pair, mask) for pair in pairs for mask in masks]
        places = [divmod(i, count)[::-1] for i in range(count * lanes)]
        return [
            self._collected(parts, places[at : at + lanes]) for at in range(0, count * lanes, lanes)
        ]

    def _collected(self, parts, places):
        """Vector of the elements at some places, (part, lane) of each."""
        value = parts[0]
        for i, part in enumerate(parts[1:], start=1):
            picked = [
                self.lanes + at if of == i else at if of == 0 and i == 1 else lane
                for lane, (of, at) in enumerate(places)
            ]
            mask = ir.Constant(ir.VectorType(I32, self.lanes), picked)
            value = self.builder.shuffle_vector(value, part, mask)
        return value

    def integer(self, value):
        """Vector of one integer, as wide as an element, in all lanes."""
        return ir.Constant(self.integers, [value] * self.lanes)

    def constant(self, value):
        """Vector of one number in all lanes."""
        return ir.Constant(self.vector, [value] * self.lanes)

    def zero(self):
        """Vector of zeros."""
        return self.constant(0.0 if self.is_float else 0)

    def multiply_add(self, a, b, c):
        """Return a * b + c: one instruction where the CPU has it, wrapping for integers."""
        if self.is_float:
            # fmuladd and not fma: without the instruction, fma would call the C library.
            return self.call(f"llvm.fmuladd.{self.suffix}", self.vector, [a, b, c])
        return self.builder.add(self.builder.mul(a, b), c)

    def add(self, a, b):
        """Return a + b, of vectors or of their elements."""
        return self.builder.fadd(a, b) if self.is_float else self.builder.add(a, b)

    def truncate(self, value):
        """Round towards zero."""
        return self.call(f"llvm.trunc.{self.suffix}", self.vector, [value])

    def absolute(self, value):
        """Without the sign."""
        return self.call(f"llvm.fabs.{self.suffix}", self.vector, [value])
