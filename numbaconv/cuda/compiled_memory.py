"""Loads and stores as LLVM IR: by address, which in global memory has 64 bits, in shared 32."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.cuda.extending import intrinsic

from numbaconv.cuda.problem import HEADER

WIDE_BYTES = 16
GLOBAL, SHARED = 1, 3  # address spaces of NVVM
int32, int64 = types.int32, types.int64


def _lanes(dtype):
    return WIDE_BYTES * 8 // dtype.bitwidth


def _pointer(builder, address, llvm_type):
    space = GLOBAL if address.type.width == 64 else SHARED
    return builder.inttoptr(address, ir.PointerType(llvm_type, space))


@intrinsic
def shared_address(typingctx, array):
    """Address of a shared array, in bytes."""

    def codegen(context, builder, sig, args):
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        base = builder.addrspacecast(data, ir.PointerType(data.type.pointee, SHARED))
        return builder.ptrtoint(base, ir.IntType(32))

    return int32(array), codegen


def _unpack(context, builder, vector, count):
    i32 = ir.IntType(32)
    values = [builder.extract_element(vector, i32(i)) for i in range(count)]
    array = ir.Constant(ir.ArrayType(vector.type.element, count), ir.Undefined)
    for i, value in enumerate(values):
        array = builder.insert_value(array, value, i)
    return array


def _pack(builder, values):
    i32 = ir.IntType(32)
    vector = ir.Constant(ir.VectorType(values[0].type, len(values)), ir.Undefined)
    for i, value in enumerate(values):
        vector = builder.insert_element(vector, value, i32(i))
    return vector


@intrinsic
def move_on(typingctx, address, count, dtype):
    """Address of element `count` of the array at an address."""

    def codegen(context, builder, sig, args):
        size = args[0].type(dtype.dtype.bitwidth // 8)
        return builder.add(args[0], builder.mul(args[1], size))

    return address(address, address, dtype), codegen


@intrinsic
def load(typingctx, address, index, dtype):
    """Element `index` of the array at an address."""

    def codegen(context, builder, sig, args):
        base = _pointer(builder, args[0], context.get_value_type(sig.return_type))
        return builder.load(builder.gep(base, [args[1]]))

    return dtype.dtype(address, index, dtype), codegen


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

    return types.UniTuple(dtype.dtype, lanes)(int64, index, dtype), codegen


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
    """Set element `index` of the array at an address."""

    def codegen(context, builder, sig, args):
        base = _pointer(builder, args[0], args[2].type)
        builder.store(args[2], builder.gep(base, [args[1]]))
        return context.get_dummy_value()

    return types.void(address, address, value), codegen


@intrinsic
def store_wide(typingctx, address, index, values):
    """Set whole vectors of 128 bits from element `index` on; they are aligned."""
    lanes = _lanes(values.dtype)

    def codegen(context, builder, sig, args):
        elements = cgutils.unpack_tuple(builder, args[2])
        base = _pointer(builder, args[0], elements[0].type)
        for i in range(0, len(elements), lanes):
            vector = _pack(builder, elements[i : i + lanes])
            at = builder.gep(base, [builder.add(args[1], args[1].type(i))])
            at = builder.bitcast(at, ir.PointerType(vector.type, base.type.addrspace))
            builder.store(vector, at, align=WIDE_BYTES)
        return context.get_dummy_value()

    return types.void(address, address, values), codegen


@intrinsic
def is_aligned(typingctx, address):
    """Whether 128 bits can be stored at an address."""

    def codegen(context, builder, sig, args):
        rest = builder.and_(args[0], args[0].type(WIDE_BYTES - 1))
        return builder.icmp_unsigned("==", rest, rest.type(0))

    return types.boolean(address), codegen


@intrinsic
def store_apart(typingctx, address, apart, values):
    """Set elements from an address on, each `apart` from the one before."""

    def codegen(context, builder, sig, args):
        elements = cgutils.unpack_tuple(builder, args[2])
        at, step = _pointer(builder, args[0], elements[0].type), args[1]
        for value in elements:
            builder.store(value, at)
            at = builder.gep(at, [step])
        return context.get_dummy_value()

    return types.void(address, int32, values), codegen


class SharedVectors:
    """Vectors of 128 bits from a pointer to shared memory on, read by constant offsets."""

    def __init__(self, builder, base, lanes):
        self.builder, self.lanes, self.base = builder, lanes, base
        self.vector = ir.VectorType(base.type.pointee, lanes)

    def read(self, offset, count, gap):
        """Return the elements of `count` vectors, `gap` elements apart, as LLVM values."""
        builder, values = self.builder, []
        for i in range(count):
            at = builder.gep(self.base, [ir.IntType(32)(offset + i * gap)])
            at = builder.bitcast(at, ir.PointerType(self.vector, SHARED))
            loaded = builder.load(at, align=WIDE_BYTES)
            values += [
                builder.extract_element(loaded, ir.IntType(32)(j)) for j in range(self.lanes)
            ]
        return values


def make_read(count, gap, dtype):
    """Return the function that reads `count` times 128 bits of shared memory, `gap` apart.

    ``(address, index)``, an element's.
    """

    @intrinsic
    def read(typingctx, address, index):
        def codegen(context, builder, sig, args):
            base = _pointer(builder, args[0], context.get_value_type(dtype))
            vectors = SharedVectors(builder, builder.gep(base, [args[1]]), _lanes(dtype))
            return cgutils.pack_array(builder, vectors.read(0, count, gap))

        return types.UniTuple(dtype, count * _lanes(dtype))(int32, int32), codegen

    return read


def make_patch(rows, columns, dtype):
    """Return the function that reads rows x columns elements of shared memory.

    ``(address, at, row_step, column_step)``; row by row in a tuple.
    """

    @intrinsic
    def patch(typingctx, address, at, row_step, column_step):
        def codegen(context, builder, sig, args):
            base = _pointer(builder, args[0], context.get_value_type(dtype))
            values, index = [], args[1]
            for _ in range(rows):
                column = index
                for _ in range(columns):
                    values.append(builder.load(builder.gep(base, [column])))
                    column = builder.add(column, args[3])
                index = builder.add(index, args[2])
            return cgutils.pack_array(builder, values)

        return types.UniTuple(dtype, rows * columns)(int32, int32, int32, int32), codegen

    return patch
