"""Raw pointers inside compiled code, and calls through addresses.

Numba indexes a ``CPointer`` without bounds checks and without the wrap-around of negative
indices, which would keep loops from being vectorised. Everything is validated before the first
pointer is made. Under ``NUMBA_DISABLE_JIT=1`` a pointer is an array view and an address is the
array or the function itself.

`entries(pointer, first, count)` are `count` (a constant) elements as a tuple.

`before_line(pointer)` are the bytes from a pointer to where a cache line begins; `fence()` lets
stores past the caches end before what follows.

`keep_scalar()` in a loop keeps LLVM from vectorising it. A loop of a few turns gains nothing by
that, and the versions that LLVM makes of each cost compile time: on the machine where it was tried
a cold first call went from 5.3 s to 4.6 s.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from numbaconv.codegen.arguments import check_fields

# Bytes to which scratch is aligned: a vector that lies across two lines is loaded twice.
CACHE_LINE = 64


@intrinsic
def _address_of(typing_context, array):
    signature = types.int64(array)

    def codegen(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.ptrtoint(data, ir.IntType(64))

    return signature, codegen


@intrinsic
def _pointer_at(typing_context, address, like):
    signature = like(types.int64, like)

    def codegen(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return signature, codegen


@intrinsic
def _indices_at(typing_context, address):
    signature = types.CPointer(types.int64)(types.int64)

    def codegen(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return signature, codegen


@intrinsic
def _shift(typing_context, pointer, index):
    signature = pointer(pointer, types.int64)

    def codegen(context, builder, signature, arguments):
        return builder.gep(arguments[0], [arguments[1]])

    return signature, codegen


@intrinsic
def _fetch_add(typing_context, counter):
    signature = types.int64(counter)

    def codegen(context, builder, signature, arguments):
        one = ir.Constant(ir.IntType(64), 1)
        return builder.atomic_rmw("add", arguments[0], one, "monotonic")

    return signature, codegen


@intrinsic(prefer_literal=True)
def _entries(typing_context, pointer, first, count):
    if not isinstance(count, types.IntegerLiteral):
        return None
    size = count.literal_value
    signature = types.UniTuple(types.int64, size)(pointer, types.int64, count)

    def codegen(context, builder, signature, arguments):
        begin = builder.gep(arguments[0], [arguments[1]])
        places = [builder.gep(begin, [ir.Constant(ir.IntType(64), i)]) for i in range(size)]
        return cgutils.pack_array(builder, [builder.load(place) for place in places])

    return signature, codegen


def _call_address(context, builder, signature, values, result):
    members = [
        context.cast(
            builder,
            builder.extract_value(values[1], i),
            member,
            member if isinstance(member, types.CPointer) else types.int64,
        )
        for i, member in enumerate(signature.args[1])
    ]
    function = ir.FunctionType(result, [m.type for m in members])
    return builder.call(builder.inttoptr(values[0], function.as_pointer()), members)


@intrinsic
def _call(typing_context, address, arguments):
    check_fields(arguments)
    signature = types.void(types.int64, arguments)

    def codegen(context, builder, signature, values):
        _call_address(context, builder, signature, values, ir.VoidType())
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def call_for_integer(typing_context, address, arguments):
    """Call a function that returns an int64 (or an int, in the low half)."""
    signature = types.int64(types.int64, arguments)

    def codegen(context, builder, signature, values):
        return _call_address(context, builder, signature, values, ir.IntType(64))

    return signature, codegen


@intrinsic
def characters_at(typing_context, address):
    """The bytes at an address."""
    signature = types.CPointer(types.uint8)(types.int64)

    def codegen(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return signature, codegen


@intrinsic
def load_ordered(typing_context, pointer, index):
    """Read pointer[index], in one order with all other ordered operations."""
    signature = types.int64(pointer, types.int64)

    def codegen(context, builder, signature, arguments):
        return builder.load_atomic(builder.gep(arguments[0], [arguments[1]]), "seq_cst", 8)

    return signature, codegen


@intrinsic
def exchange_ordered(typing_context, pointer, index, value):
    """Replace pointer[index] and return what was there, as `load_ordered` orders it."""
    signature = types.int64(pointer, types.int64, types.int64)

    def codegen(context, builder, signature, arguments):
        target = builder.gep(arguments[0], [arguments[1]])
        return builder.atomic_rmw("xchg", target, arguments[2], "seq_cst")

    return signature, codegen


@intrinsic
def add_ordered(typing_context, pointer, index, value):
    """Add to pointer[index] and return what was there, as `load_ordered` orders it."""
    signature = types.int64(pointer, types.int64, types.int64)

    def codegen(context, builder, signature, arguments):
        target = builder.gep(arguments[0], [arguments[1]])
        return builder.atomic_rmw("add", target, arguments[2], "seq_cst")

    return signature, codegen


@intrinsic
def _keep_scalar(typing_context):
    signature = types.void()

    def codegen(context, builder, signature, arguments):
        function = ir.FunctionType(ir.VoidType(), [])
        builder.asm(function, "", "", [], side_effect=True)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _align(typing_context, address):
    signature = types.int64(types.int64)

    def codegen(context, builder, signature, arguments):
        line = ir.Constant(ir.IntType(64), CACHE_LINE)
        past = builder.add(arguments[0], builder.sub(line, ir.Constant(ir.IntType(64), 1)))
        return builder.and_(past, builder.neg(line))

    return signature, codegen


@intrinsic
def _before_line(typing_context, pointer):
    signature = types.int64(pointer)

    def codegen(context, builder, signature, arguments):
        address = builder.ptrtoint(arguments[0], ir.IntType(64))
        return builder.and_(builder.neg(address), ir.Constant(ir.IntType(64), CACHE_LINE - 1))

    return signature, codegen


@intrinsic
def _fence(typing_context):
    signature = types.void()

    def codegen(context, builder, signature, arguments):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return signature, codegen


def _before_line_in_python(pointer):
    return -pointer.ctypes.data % CACHE_LINE


def _fence_in_python():
    pass


def _address_of_in_python(array):
    return array


def _align_in_python(address):
    return address


def _pointer_at_in_python(address, like):
    return address


def _indices_at_in_python(address):
    return address


def _shift_in_python(pointer, index):
    return pointer[index:]


def _call_in_python(address, arguments):
    address(arguments)


def _entries_in_python(pointer, first, count):
    return tuple(pointer[first : first + count])


def _fetch_add_in_python(counter):
    counter[0] += 1
    return counter[0] - 1


def _keep_scalar_in_python():
    pass


if config.DISABLE_JIT:
    address_of, pointer_at = _address_of_in_python, _pointer_at_in_python
    indices_at, shift, call = _indices_at_in_python, _shift_in_python, _call_in_python
    fetch_add, keep_scalar, align = _fetch_add_in_python, _keep_scalar_in_python, _align_in_python
    entries, before_line, fence = _entries_in_python, _before_line_in_python, _fence_in_python
else:
    address_of, pointer_at, indices_at = _address_of, _pointer_at, _indices_at
    shift, call, fetch_add, keep_scalar = _shift, _call, _fetch_add, _keep_scalar
    align, entries, before_line, fence = _align, _entries, _before_line, _fence
