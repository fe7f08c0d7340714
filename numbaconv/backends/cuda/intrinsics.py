"""What CUDA Python has no words for: wide loads and stores by address, and the tensor cores.

Kernels get the arrays in global memory as addresses, plain 64-bit integers: an array argument
would be seven parameters of a launch instead of one, and each costs time. `load` and `store` say
the element type, and tell the compiler that the address is global, so that no generic access is
left. In shared memory there are ordinary arrays; `read` and `write` move 128 bits of one.

In Numba's simulator an address is a flat NumPy array and each intrinsic a few lines of Python.
"""

import itertools

import numpy as np
from llvmlite import ir
from numba import cuda, types

from numbaconv.backends.cuda.problem import HEADER
from numbaconv.backends.cuda.toolkit import simulated

SIMULATED = simulated()
WIDE_BYTES = 16
GLOBAL, SHARED = 1, 3  # address spaces of NVVM

float32, float64 = types.float32, types.float64
int32, int64 = types.int32, types.int64
uint16, uint32 = types.uint16, types.uint32

# The simulator's shared arrays take no alignment, and need none.
SHARED_ALIGNMENT = None if SIMULATED else WIDE_BYTES

if SIMULATED:
    from numbaconv.backends.cuda.simulated import (
        bits_of_float,
        float_of_bits,
        from_half,
        load,
        load_header,
        load_wide,
        make_load_matrix,
        make_outer,
        make_patch,
        make_read,
        make_row,
        make_slide,
        make_warp_multiply,
        make_zeros,
        quotient,
        store,
        to_half,
        to_tf32,
        within,
        write,
    )
else:
    from numba.cuda.extending import intrinsic

    def _lanes(dtype):
        return WIDE_BYTES * 8 // dtype.bitwidth

    def _pointer(builder, address, llvm_type):
        return builder.inttoptr(address, ir.PointerType(llvm_type, GLOBAL))

    def _element(context, builder, array_type, array, index, llvm_type):
        """Pointer to an element of a shared array, in its own address space."""
        data = context.make_array(array_type)(context, builder, array).data
        base = builder.addrspacecast(data, ir.PointerType(data.type.pointee, SHARED))
        return builder.bitcast(builder.gep(base, [index]), ir.PointerType(llvm_type, SHARED))

    def _unpack(context, builder, vector, count):
        i32 = ir.IntType(32)
        values = [builder.extract_element(vector, i32(i)) for i in range(count)]
        array = ir.Constant(ir.ArrayType(vector.type.element, count), ir.Undefined)
        for i, value in enumerate(values):
            array = builder.insert_value(array, value, i)
        return array

    def _pack(builder, values, count):
        i32 = ir.IntType(32)
        vector = ir.Constant(ir.VectorType(values.type.element, count), ir.Undefined)
        for i in range(count):
            vector = builder.insert_element(vector, builder.extract_value(values, i), i32(i))
        return vector

    @intrinsic
    def load(typingctx, address, index, dtype):
        """Element `index` of the array at a global address."""

        def codegen(context, builder, sig, args):
            base = _pointer(builder, args[0], context.get_value_type(sig.return_type))
            return builder.load(builder.gep(base, [args[1]]))

        return dtype.dtype(int64, int64, dtype), codegen

    @intrinsic
    def load_wide(typingctx, address, index, dtype):
        """128 bits from element `index` on, as a tuple; they are aligned."""
        lanes = _lanes(dtype.dtype)

        def codegen(context, builder, sig, args):
            element = context.get_value_type(sig.return_type.dtype)
            at = builder.gep(_pointer(builder, args[0], element), [args[1]])
            vector = ir.VectorType(element, lanes)
            at = builder.bitcast(at, ir.PointerType(vector, GLOBAL))
            return _unpack(context, builder, builder.load(at, align=WIDE_BYTES), lanes)

        return types.UniTuple(dtype.dtype, lanes)(int64, int64, dtype), codegen

    @intrinsic
    def load_header(typingctx, address):
        """Return the header of a job as a tuple; what is not used of it is never loaded."""

        def codegen(context, builder, sig, args):
            i32 = ir.IntType(32)
            base = _pointer(builder, args[0], i32)
            values = ir.Constant(ir.ArrayType(i32, HEADER), ir.Undefined)
            for i in range(HEADER):
                value = builder.load(builder.gep(base, [i32(i)]))
                values = builder.insert_value(values, value, i)
            return values

        return types.UniTuple(int32, HEADER)(int64), codegen

    @intrinsic
    def store(typingctx, address, index, value):
        """Set element `index` of the array at a global address."""

        def codegen(context, builder, sig, args):
            base = _pointer(builder, args[0], args[2].type)
            builder.store(args[2], builder.gep(base, [args[1]]))
            return context.get_dummy_value()

        return types.void(int64, int64, value), codegen

    def make_read(count, gap):
        """Return the function that reads `count` times 128 bits of a shared array, `gap` apart."""

        @intrinsic
        def read(typingctx, array, index):
            lanes = _lanes(array.dtype)

            def codegen(context, builder, sig, args):
                element = context.get_value_type(array.dtype)
                vector = ir.VectorType(element, lanes)
                result = ir.Constant(ir.ArrayType(element, count * lanes), ir.Undefined)
                for i in range(count):
                    index = builder.add(args[1], ir.IntType(64)(i * gap))
                    at = _element(context, builder, sig.args[0], args[0], index, vector)
                    loaded = builder.load(at, align=WIDE_BYTES)
                    for j in range(lanes):
                        value = builder.extract_element(loaded, ir.IntType(32)(j))
                        result = builder.insert_value(result, value, i * lanes + j)
                return result

            return types.UniTuple(array.dtype, count * lanes)(array, int64), codegen

        return read

    @intrinsic
    def write(typingctx, array, index, values):
        """Set 128 bits of a shared array from element `index` on."""

        def codegen(context, builder, sig, args):
            vector = _pack(builder, args[2], sig.args[2].count)
            at = _element(context, builder, sig.args[0], *args[:2], vector.type)
            builder.store(vector, at, align=WIDE_BYTES)
            return context.get_dummy_value()

        return types.void(array, int64, values), codegen

    def _ptx(builder, text, constraints, result, operands, convergent=False):
        function = ir.FunctionType(result, [value.type for value in operands])
        # A side effect, so that no copy of a loop leaves out lanes that the instruction needs.
        asm = ir.InlineAsm(function, text, constraints, side_effect=convergent)
        return builder.call(asm, operands, attrs=("convergent",) if convergent else ())

    def make_zeros(count, dtype):
        """Return the function that returns a tuple of zeros: sums that nothing is added to yet."""

        @intrinsic
        def zeros(typingctx):
            result = types.UniTuple(dtype, count)

            def codegen(context, builder, sig, args):
                return ir.Constant(context.get_value_type(result), None)

            return result(), codegen

        return zeros

    def _fused(builder, dtype, a, b, c):
        if isinstance(dtype, types.Float):
            return builder.fma(a, b, c)
        return builder.add(c, builder.mul(a, b))

    def make_outer(rows, columns):
        """Return the function ``(sums, a, b) -> sums + outer(a, b)``, row by row in a tuple.

        Tuples and not a local array: an array stays in registers only if the compiler has
        unrolled every loop around it before it looks, and 64 sums it did not.
        """

        @intrinsic
        def outer(typingctx, sums, a, b):
            def codegen(context, builder, sig, args):
                total, left, right = args
                for i in range(rows):
                    x = builder.extract_value(left, i)
                    for j in range(columns):
                        y = builder.extract_value(right, j)
                        old = builder.extract_value(total, i * columns + j)
                        new = _fused(builder, sums.dtype, x, y, old)
                        total = builder.insert_value(total, new, i * columns + j)
                return total

            return sums(sums, a, b), codegen

        return outer

    def make_slide(row, width, taps):
        """Return the function that adds a row of taps to one row of sums: ``(sums, x, w)``.

        ``sums[row, c] += w[j] * x[c + j]`` for `width` columns.
        """

        @intrinsic
        def slide(typingctx, sums, x, w):
            def codegen(context, builder, sig, args):
                total = args[0]
                for c in range(width):
                    at = row * width + c
                    new = builder.extract_value(total, at)
                    for j in range(taps):
                        left = builder.extract_value(args[2], j)
                        right = builder.extract_value(args[1], c + j)
                        new = _fused(builder, sums.dtype, left, right, new)
                    total = builder.insert_value(total, new, at)
                return total

            return sums(sums, x, w), codegen

        return slide

    def make_patch(rows, columns):
        """Return the function that reads rows x columns elements of a shared array.

        ``(array, at, row_step, column_step)``; row by row in a tuple.
        """

        @intrinsic
        def patch(typingctx, array, at, row_step, column_step):
            def codegen(context, builder, sig, args):
                element = context.get_value_type(array.dtype)
                result = ir.Constant(context.get_value_type(sig.return_type), ir.Undefined)
                index = args[1]
                for i in range(rows):
                    column = index
                    for j in range(columns):
                        source = _element(context, builder, array, args[0], column, element)
                        result = builder.insert_value(
                            result, builder.load(source), i * columns + j
                        )
                        column = builder.add(column, args[3])
                    index = builder.add(index, args[2])
                return result

            result = types.UniTuple(array.dtype, rows * columns)
            return result(array, int64, int64, int64), codegen

        return patch

    def make_row(rows, columns):
        """Return the function ``(sums, i) -> row i``, which picks it without an address."""

        @intrinsic
        def row(typingctx, sums, i):
            def codegen(context, builder, sig, args):
                result = ir.Constant(context.get_value_type(sig.return_type), ir.Undefined)
                for j in range(columns):
                    value = builder.extract_value(args[0], j)
                    for r in range(1, rows):
                        there = builder.icmp_signed("==", args[1], args[1].type(r))
                        other = builder.extract_value(args[0], r * columns + j)
                        value = builder.select(there, other, value)
                    result = builder.insert_value(result, value, j)
                return result

            return types.UniTuple(sums.dtype, columns)(sums, int64), codegen

        return row

    def _matrix_multiply(builder, instruction, c, a, b):
        """Emit ``c + a @ b`` over the fragments of a warp: lists of LLVM values."""
        f32 = ir.FloatType()
        names = [f"${i}" for i in range(4 + len(a) + len(b) + 4)]
        cuts = (0, 4, 4 + len(a), 4 + len(a) + len(b), len(names))
        groups = ("{" + ", ".join(names[i:j]) + "}" for i, j in itertools.pairwise(cuts))
        constraints = ",".join(["=f"] * 4 + ["r"] * (len(a) + len(b)) + ["f"] * 4)
        struct = ir.LiteralStructType([f32] * 4)
        text = f"{instruction} {', '.join(groups)};"
        done = _ptx(builder, text, constraints, struct, [*a, *b, *c], convergent=True)
        return [builder.extract_value(done, i) for i in range(4)]

    _MMA = "mma.sync.aligned.{}.row.col.f32.{}.f32"
    _MMA_TF32 = _MMA.format("m16n8k8", "tf32.tf32")
    _MMA_HALF = _MMA.format("m16n8k16", "f16.f16")
    _MMA_HALF_NARROW = _MMA.format("m16n8k8", "f16.f16")

    def make_warp_multiply(rows, columns, dtype, narrow):
        """Return the function ``(sums, a, b) -> sums + a @ b`` of a warp, by tensor cores.

        Parameters
        ----------
        rows, columns : int
            Tiles of 16 and of 8 that the warp's sums have. A tile's four sums of each lane are
            (row, column) = (lane // 4, lane % 4 * 2), the next column, and both 8 rows below.
        dtype : {"tf32", "float16"}
            What the words hold: one or two elements along K, 8 words in all.
        narrow : bool
            Whether to take the words four at a time.
        """

        def add(builder, c, a, b):
            if dtype == "tf32":
                return _matrix_multiply(builder, _MMA_TF32, c, a, b)
            if not narrow:
                return _matrix_multiply(builder, _MMA_HALF, c, a, b)
            c = _matrix_multiply(builder, _MMA_HALF_NARROW, c, a[:2], b[:1])
            return _matrix_multiply(builder, _MMA_HALF_NARROW, c, a[2:], b[1:])

        @intrinsic
        def multiply(typingctx, sums, a, b):
            def codegen(context, builder, sig, args):
                def part(k, start, count):
                    return [builder.extract_value(args[k], start + i) for i in range(count)]

                total = args[0]
                for i in range(rows):
                    for j in range(columns):
                        at = (i * columns + j) * 4
                        c = add(builder, part(0, at, 4), part(1, 4 * i, 4), part(2, 2 * j, 2))
                        for e, value in enumerate(c):
                            total = builder.insert_value(total, value, at + e)
                return total

            return sums(sums, a, b), codegen

        return multiply

    def make_load_matrix(count, gap):
        """Return the function that reads `count` times four 8 x 4 blocks of words, `gap` apart.

        Lanes 8i..8i+7 give the rows of block i; each lane gets of every block the word in row
        lane // 4, column lane % 4, which is where the tensor cores want it.
        """

        @intrinsic
        def load_matrix(typingctx, array, index):
            def codegen(context, builder, sig, args):
                i32 = ir.IntType(32)
                base = _element(context, builder, sig.args[0], *args, i32)
                address = builder.ptrtoint(base, i32)
                text = "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {$0, $1, $2, $3}, [$4];"
                struct = ir.LiteralStructType([i32] * 4)
                result = ir.Constant(ir.ArrayType(i32, 4 * count), ir.Undefined)
                for i in range(count):
                    at = builder.add(address, i32(i * gap * 4))
                    constraints = "=r,=r,=r,=r,r,~{memory}"
                    words = _ptx(builder, text, constraints, struct, [at], convergent=True)
                    for j in range(4):
                        word = builder.extract_value(words, j)
                        result = builder.insert_value(result, word, 4 * i + j)
                return result

            return types.UniTuple(uint32, 4 * count)(array, int64), codegen

        return load_matrix

    def _convert(text, constraints, result, argument):
        @intrinsic
        def convert(typingctx, value):
            def codegen(context, builder, sig, args):
                return _ptx(builder, text, constraints, context.get_value_type(result), args)

            return result(argument), codegen

        return convert

    to_tf32 = _convert("cvt.rna.tf32.f32 $0, $1;", "=r,f", uint32, float32)
    to_half = _convert("cvt.rn.f16.f32 $0, $1;", "=h,f", uint16, float32)
    from_half = _convert("cvt.f32.f16 $0, $1;", "=f,h", float32, uint16)

    def _reinterpret(result, argument):
        @intrinsic
        def reinterpret(typingctx, value):
            def codegen(context, builder, sig, args):
                return builder.bitcast(args[0], context.get_value_type(result))

            return result(argument), codegen

        return reinterpret

    bits_of_float = _reinterpret(uint32, float32)
    float_of_bits = _reinterpret(float32, uint32)

    @cuda.jit(device=True, forceinline=True)
    def within(i, size):
        """Whether 0 <= i < size, in one comparison."""
        return np.uint32(i) < np.uint32(size)

    @cuda.jit(device=True, forceinline=True)
    def quotient(a, b):
        """a // b for numbers from 0 to 2**31, in 32 bits: 64 take several times as long."""
        return np.int32(np.uint32(a) // np.uint32(b))
