"""Raw pointers inside compiled code, and calls through addresses.

Numba indexes a ``CPointer`` without bounds checks and without the wrap-around of negative
indices, which would keep loops from being vectorised. Everything is validated before the first
pointer is made. Under ``NUMBA_DISABLE_JIT=1`` a pointer is an array view, and an address is the
array itself or what stands for the function.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from numbaconv.codegen.arguments import check_fields
from numbaconv.codegen.pipeline import inline
from numbaconv.codegen.twins import stands_for

# Bytes to which scratch is aligned: a vector that lies across two lines is loaded twice.
CACHE_LINE = 64


@intrinsic
def _address_of(typing_context, array):
    signature = types.int64(array)

    def codegen(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.ptrtoint(data, ir.IntType(64))

    return signature, codegen


@stands_for(_address_of)
def address_of(array):
    """Address of the first element of an array."""
    return array


# Words of a tuple's object before its items; of a NumPy array's object before the address of its
# data, and before that of its sizes (`PyArrayObject_fields` of NumPy's C API).
_ITEMS = tuple.__basicsize__ // 8
_DATA, _SIZES = object.__basicsize__ // 8, object.__basicsize__ // 8 + 2


@inline
def _data_in(given, i):
    return indices_at(given[_ITEMS + i])[_DATA]


@stands_for(_data_in)
def data_in(given, i):
    """Address of the data of array `i` of a tuple that Python gave: see `jit.from_python`."""
    return given[i]


@inline
def _size_in(given, i):
    return indices_at(indices_at(given[_ITEMS + i])[_SIZES])[0]


@stands_for(_size_in)
def size_in(given, i):
    """Elements of an array of one axis, of a tuple that Python gave."""
    return given[i].size


@inline
def _behind(address, count, size):
    return address + count * size


@stands_for(_behind)
def behind(address, count, size):
    """Address of what lies `count` elements, each of `size` bytes, behind an address."""
    return address[count:]


@intrinsic
def _pointer_at(typing_context, address, like):
    signature = like(types.int64, like)

    def codegen(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return signature, codegen


@stands_for(_pointer_at)
def pointer_at(address, like):
    """The pointer of an address, of the type of another pointer."""
    return address


@intrinsic
def _indices_at(typing_context, address):
    signature = types.CPointer(types.int64)(types.int64)

    def codegen(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return signature, codegen


@stands_for(_indices_at)
def indices_at(address):
    """The pointer to int64 of an address."""
    return address


@intrinsic
def _shift(typing_context, pointer, index):
    signature = pointer(pointer, types.int64)

    def codegen(context, builder, signature, arguments):
        return builder.gep(arguments[0], [arguments[1]])

    return signature, codegen


@stands_for(_shift)
def shift(pointer, index):
    """The pointer to the element `index` behind a pointer."""
    return pointer[index:]


@intrinsic
def _fetch_add(typing_context, counter):
    signature = types.int64(counter)

    def codegen(context, builder, signature, arguments):
        one = ir.Constant(ir.IntType(64), 1)
        return builder.atomic_rmw("add", arguments[0], one, "monotonic")

    return signature, codegen


@stands_for(_fetch_add)
def fetch_add(counter):
    """Add 1 to what is behind a pointer, which other threads may do too; return what was there."""
    counter[0] += 1
    return counter[0] - 1


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


@stands_for(_entries)
def entries(pointer, first, count):
    """`count` (a constant) elements behind a pointer, from `first` on, as a tuple."""
    return tuple(pointer[first : first + count])


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


@stands_for(_call)
def call(address, arguments):
    """Call the function at an address with a tuple of its arguments: see `arguments`."""
    address(arguments)


@intrinsic
def call_for_integer(typing_context, address, arguments):
    """Call a function that returns an int64 (or an int, in the low half)."""
    signature = types.int64(types.int64, arguments)

    def codegen(context, builder, signature, values):
        return _call_address(context, builder, signature, values, ir.IntType(64))

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


@stands_for(_keep_scalar)
def keep_scalar():
    """Keep LLVM from vectorising the loop that this stands in.

    A loop of a few turns gains nothing by that, and the versions that LLVM makes of each cost
    compile time.
    """


@intrinsic
def _align(typing_context, address):
    signature = types.int64(types.int64)

    def codegen(context, builder, signature, arguments):
        line = ir.Constant(ir.IntType(64), CACHE_LINE)
        past = builder.add(arguments[0], builder.sub(line, ir.Constant(ir.IntType(64), 1)))
        return builder.and_(past, builder.neg(line))

    return signature, codegen


@stands_for(_align)
def align(address):
    """Round an address up to where a cache line begins."""
    return address


@intrinsic
def _before_line(typing_context, pointer):
    signature = types.int64(pointer)

    def codegen(context, builder, signature, arguments):
        address = builder.ptrtoint(arguments[0], ir.IntType(64))
        return builder.and_(builder.neg(address), ir.Constant(ir.IntType(64), CACHE_LINE - 1))

    return signature, codegen


@stands_for(_before_line)
def before_line(pointer):
    """Bytes from a pointer to where a cache line begins."""
    return -pointer.ctypes.data % CACHE_LINE


@intrinsic
def _fence(typing_context):
    signature = types.void()

    def codegen(context, builder, signature, arguments):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return signature, codegen


@stands_for(_fence)
def fence():
    """Let stores past the caches end before what follows."""
