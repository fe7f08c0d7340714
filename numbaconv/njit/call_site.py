"""Calls in a user's ``@njit`` code: how they are typed, and the machine code they become.

That code is small: it writes a request (`protocol.py`) on its stack, enters twice through one
address, and makes the array for the result in between. All else is behind the address
(`enter.py`), compiled once.

Loaded when Numba first meets one of the package's functions in code that it compiles.
"""

import functools
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.core.imputils import impl_ret_new_ref
from numba.extending import intrinsic, overload, register_jitable
from numba.np import arrayobj
from numba.np.numpy_support import as_dtype

from numbaconv.codegen.pipeline import reload_hooks
from numbaconv.codegen.pointers import call_for_integer
from numbaconv.errors import BackendUnavailableError
from numbaconv.njit import protocol
from numbaconv.njit.door import install_once
from numbaconv.njit.kinds import given, is_none
from numbaconv.njit.layer_type import WORDS, is_layer
from numbaconv.njit.protocol import REQUEST
from numbaconv.njit.request import BASES, parse
from numbaconv.problem.dtypes import SUPPORTED, is_supported, promoted
from numbaconv.problem.out_dtype import frozen_dtype
from numbaconv.runtime.shared_table import ENTER, door

INT64 = ir.IntType(64)

# --- The machine code -------------------------------------------------------------------------


def _integers(
    context: Any, builder: ir.IRBuilder, kind: types.Type, value: ir.Value
) -> Iterator[ir.Value]:
    """Yield the integers of a value: what its form in `request.Text` takes from the key."""
    if isinstance(kind, types.Array):
        array = context.make_array(kind)(context, builder, value)
        for extents in (array.shape, array.strides):
            yield from cgutils.unpack_tuple(builder, extents, kind.ndim)
    elif isinstance(kind, types.BaseTuple):
        members = cgutils.unpack_tuple(builder, value, len(kind))
        for member_kind, member in zip(kind, members, strict=True):
            yield from _integers(context, builder, member_kind, member)
    elif isinstance(kind, (types.Integer, types.Boolean)):
        yield context.cast(builder, value, kind, types.int64)
    elif isinstance(kind, types.Float):
        number = context.cast(builder, value, kind, types.float64)
        yield builder.bitcast(number, INT64)
    elif isinstance(kind, types.Complex):
        number = context.make_complex(builder, kind, value)
        for part in (number.real, number.imag):
            yield from _integers(context, builder, kind.underlying_float, part)
    elif is_layer(kind):
        layer = cgutils.create_struct_proxy(kind)(context, builder, value=value)
        yield builder.load(layer.ticket)
        yield builder.ptrtoint(layer.layer, INT64)


def _key_digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little", signed=True)


@intrinsic(prefer_literal=True)
def open_request(typing_context, text, arguments, memory):
    """Write a request on the stack of the caller: all but the addresses of the arrays.

    Or in memory, an array of integers; the last ones of the key are there already.
    """
    signature = types.CPointer(types.int64)(text, arguments, memory)
    source = text.literal_value
    call = parse(source)
    # Filters of images have no backends.
    backend_given = call.function.startswith("ndimage.") or any(
        name == "backend" and form != ("value", None) for name, form in call.arguments
    )

    def codegen(context, builder, signature, values):
        reload_hooks(context.active_code_library).add(install_once)
        integers = list(_integers(context, builder, signature.args[1], values[1]))
        size = REQUEST.integers + len(integers)
        key_size = ir.Constant(INT64, size - protocol.KEY)
        if isinstance(memory, types.Array):
            array = context.make_array(memory)(context, builder, values[2])
            request = array.data
            key_size = builder.sub(array.nitems, ir.Constant(INT64, protocol.KEY))
        else:
            request = cgutils.alloca_once(builder, INT64, size=ir.Constant(INT64, size))
        text_pointer = context.insert_const_string(builder.module, source)
        fields = {
            REQUEST.layout: protocol.THIS_LAYOUT,
            REQUEST.message: 0,
            REQUEST.text: builder.ptrtoint(text_pointer, INT64),
            REQUEST.backend_given: int(backend_given),
            REQUEST.key_size: key_size,
            REQUEST.digest: _key_digest(source),
            REQUEST.backend: 0,
            REQUEST.threads: 0,
            **dict(enumerate(integers, REQUEST.integers)),
        }
        for field, value in fields.items():
            value = value if isinstance(value, ir.Value) else ir.Constant(INT64, value)
            builder.store(value, builder.gep(request, [ir.Constant(INT64, field)]))
        return request

    return signature, codegen


@intrinsic
def set_addresses(typing_context, request, arrays):
    """Write the addresses of a tuple of arrays (or None) into a request."""
    signature = types.void(request, arrays)

    def codegen(context, builder, signature, values):
        members = cgutils.unpack_tuple(builder, values[1], len(signature.args[1]))
        for i, (kind, member) in enumerate(zip(signature.args[1], members, strict=True)):
            address = ir.Constant(INT64, 0)
            if isinstance(kind, types.Array):
                data = context.make_array(kind)(context, builder, member).data
                address = builder.ptrtoint(data, INT64)
            field = ir.Constant(INT64, REQUEST.addresses + i)
            builder.store(address, builder.gep(values[0], [field]))
        return context.get_dummy_value()

    return signature, codegen


@intrinsic(prefer_literal=True)
def lent_array(typing_context, request, axes, dtype):
    """Make the memory that the first stage lent an array of so many axes."""
    array_type = types.Array(dtype.dtype, axes.literal_value, "C")
    signature = array_type(request, axes, dtype)

    def codegen(context, builder, signature, values):
        def field(number: int) -> ir.Value:
            return builder.load(builder.gep(values[0], [ir.Constant(INT64, number)]))

        array = context.make_array(array_type)(context, builder)
        element = array.data.type.pointee
        itemsize = ir.Constant(INT64, context.get_abi_sizeof(element))
        shape = [field(REQUEST.shape + axis) for axis in range(array_type.ndim)]
        strides = [itemsize]
        for extent in reversed(shape[1:]):
            strides.insert(0, builder.mul(strides[0], extent))
        arrayobj.populate_array(
            array,
            data=builder.inttoptr(field(REQUEST.data), array.data.type),
            shape=shape,
            strides=strides,
            itemsize=itemsize,
            meminfo=builder.inttoptr(field(REQUEST.counted), cgutils.voidptr_t),
        )
        return impl_ret_new_ref(context, builder, array_type, array._getvalue())

    return signature, codegen


@intrinsic
def keep_alive(typing_context, values):
    """Use arrays and layers: only addresses were handed on, and Numba frees what is not used."""
    signature = types.void(values)

    def codegen(context, builder, signature, values):
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def take_message(typing_context, request):
    """Take the message of an exception out of a request."""
    signature = types.unicode_type(request)

    def codegen(context, builder, signature, values):
        python = context.get_python_api(builder)
        lock = python.gil_ensure()
        field = builder.gep(values[0], [ir.Constant(INT64, REQUEST.message)])
        message = builder.inttoptr(builder.load(field), python.pyobj)
        native = python.to_native_value(types.unicode_type, message)
        python.decref(message)
        python.gil_release(lock)
        return native.value

    return signature, codegen


@register_jitable
def do_stage(request, stage):
    """Have the library do one stage of a call; raise what it reports."""
    status = call_for_integer(door()[ENTER], (request, stage))
    if status == protocol.WELL:
        return
    if status == protocol.NO_MEMORY:
        raise MemoryError("no memory for a convolution")
    message = take_message(request)
    if status == protocol.RAISED:
        raise ValueError(message)
    if status == protocol.RAISED + 1:
        raise TypeError(message)
    if status == protocol.RAISED + 2:
        raise BackendUnavailableError(message)
    if status == protocol.RAISED + 3:
        raise MemoryError(message)
    raise RuntimeError(message)


def result_array(out: Any, request: Any, axes: Any, dtype: Any) -> Any:
    """Return the array that takes the result: `out`, or a new one if that is None."""


@overload(result_array, prefer_literal=True)
def _result_array(out, request, axes, dtype):
    if isinstance(out, types.Array):
        return lambda out, request, axes, dtype: out
    return lambda out, request, axes, dtype: lent_array(request, axes, dtype)


@functools.lru_cache(maxsize=1024)
def performer(source: str, axes: int) -> Callable[..., Any]:
    """Return the jitable function that makes the calls of one text; `axes` are the result's.

    It takes the arrays of a call, `out` for the result, and the other arguments.
    """
    dtype = np.dtype(parse(source).result)

    @register_jitable
    def perform(x, weight, bias, add, out, options):
        request = open_request(source, (x, weight, bias, add, out, options), None)
        do_stage(request, protocol.FIND)
        y = result_array(out, request, axes, dtype)
        set_addresses(request, (x, weight, bias, add, y))
        do_stage(request, protocol.CARRY_OUT)
        keep_alive((x, weight, bias, add, y, options))
        return y

    return perform  # type: ignore[no-any-return]  # Numba's decorator


# --- The types --------------------------------------------------------------------------------


def public_name(function: str) -> str:
    """Return what users call a function, for errors."""
    if function == "layer":
        return "prepared layer"
    of_gradients = function.endswith(("_input", "_weight"))
    return f"numbaconv.{'grad.' if of_gradients else ''}{function}"


def _form(function: str, name: str, kind: Any) -> tuple[Any, ...]:
    """Return the form (`request.Text`) of an argument, given as a type or a default value."""
    if isinstance(kind, types.StringLiteral):
        return "value", kind.literal_value
    if is_none(kind) or isinstance(kind, str):
        return "value", kind if isinstance(kind, str) else None
    if name == "out_dtype" and isinstance(kind, (types.DType, types.NumberClass)):
        return "value", as_dtype(kind.dtype).name
    if name in BASES:
        return "array", as_dtype(kind.dtype).name, kind.ndim, bool(kind.mutable)
    if is_layer(kind):
        return ("layer",)
    if name in WORDS and isinstance(kind, (tuple, types.BaseTuple)):
        return "value", tuple(_form(function, name, member)[1] for member in kind)
    if name in WORDS:
        raise TypingError(
            f"{public_name(function)}: {name} is {kind}; pass a literal string, or a global one"
            f"{', or a dtype' if name == 'out_dtype' else ''}: Numba compiles for its value"
        )
    if name == "padding_value" and isinstance(kind, (float, types.Float, types.Complex)):
        return "scalar", "float64" if isinstance(kind, float) else as_dtype(kind).name
    return _number_form(function, name, kind)


def _number_form(function: str, name: str, kind: Any) -> tuple[Any, ...]:
    is_bool = isinstance(kind, (bool, types.Boolean))
    if isinstance(kind, (int, types.Integer)) and not is_bool:
        return ("int",)
    if isinstance(kind, types.BaseTuple):
        return "tuple", tuple(_number_form(function, name, member) for member in kind)
    if isinstance(kind, types.UnicodeType):
        advice = "pass a literal string, or a global one: Numba compiles for its value"
    elif isinstance(kind, (types.List, types.ListType, types.Array)):
        advice = "pass a tuple"
    elif isinstance(kind, types.Float):
        advice = "convert it with int()"
    elif isinstance(kind, types.Optional):
        advice = "what may be None at run time needs an if and an else, with a call in each"
    else:
        advice = "pass an integer or a tuple of integers"
    raise TypingError(f"{public_name(function)}: {name} is {kind}; {advice}")


def _check_array(function: str, name: str, kind: Any) -> None:
    """Refuse at compile time what is no array that compiled code can convolve."""
    where = f"{public_name(function)}: {name}"
    if isinstance(kind, types.Optional):
        raise TypingError(
            f"{where} may be None at run time; call with it in an if, and without it in an else"
        )
    if not isinstance(kind, types.Array):
        raise TypingError(f"{where} must be an array, got {kind}; make one with np.array")
    try:
        dtype = as_dtype(kind.dtype)
    except NotImplementedError:
        dtype = None
    if dtype is None or not is_supported(dtype):
        raise TypingError(
            f"{where} has dtype {kind.dtype}, which is not supported; "
            f"convert it with .astype to one of {', '.join(SUPPORTED)}"
        )
    if dtype == np.float16:
        raise TypingError(
            f"{where} has dtype float16, which Numba has no machine type for; "
            f"convert it to float32 before the compiled code"
        )


def _result_dtype(function: str, dtypes: dict[str, np.dtype]) -> np.dtype:
    """Return the dtype of a result; `im2col` moves elements of any."""
    if function == "im2col":
        return dtypes["input"]
    try:
        return promoted(**dtypes)
    except TypeError as error:
        raise TypingError(f"{public_name(function)}: {error}") from None


def describe(
    function: str, arguments: dict[str, Any], more_dtypes: dict[str, np.dtype] | None = None
) -> str:
    """Return the text of a call, or raise a TypingError that says what to change.

    Parameters
    ----------
    function : str
        Name in `functions.RECIPES`.
    arguments : dict
        Numba types, or defaults, by name.
    more_dtypes : dict of dtype, optional
        Of arrays that are not among the arguments, by their names.
    """
    arguments = {name: given(kind) for name, kind in arguments.items()}
    arrays = {
        name: kind
        for name, kind in arguments.items()
        if name in BASES and not (name in ("bias", "add", "out") and is_none(kind))
    }
    for name, kind in arrays.items():
        _check_array(function, name, kind)
    promoted_arrays = {name: kind for name, kind in arrays.items() if name not in ("add", "out")}
    dtypes = {name: as_dtype(kind.dtype) for name, kind in promoted_arrays.items()}
    forms = {name: _form(function, name, kind) for name, kind in arguments.items()}
    result = _wanted(function, forms, arguments.get("layer"))
    if result is None:
        result = _result_dtype(function, dtypes | (more_dtypes or {}))
    return repr((function, result.name, tuple(forms.items())))


def _wanted(function: str, forms: dict[str, tuple[Any, ...]], layer: Any) -> np.dtype[Any] | None:
    """Return the dtype of the result that a call asks for."""
    asked = forms["out_dtype"][1] if "out_dtype" in forms else getattr(layer, "out_dtype", None)
    try:
        wanted = frozen_dtype(asked)
    except TypeError as error:
        raise TypingError(f"{public_name(function)}: {error}") from None
    if wanted == np.float16:
        raise TypingError(f"{public_name(function)}: compiled code has no results of float16")
    return wanted


def _rank(*sizes: Any) -> int | None:
    """Return the number of spatial axes that tuples among `sizes` say there are."""
    return next((len(size) for size in sizes if isinstance(size, types.BaseTuple)), None)


def _length(function: str, name: str, kind: Any) -> int:
    """Return the number of entries of a size."""
    if not isinstance(kind, types.BaseTuple):
        raise TypingError(f"{public_name(function)}: {name} is {kind}; pass a tuple of integers")
    return len(kind)


def _result_axes(function: str, arguments: dict[str, Any]) -> int:
    """Return the number of axes of a call's result."""
    if function == "im2col":
        image = arguments["input"].ndim
        return 2 if _rank(arguments["kernel_size"]) == image - 1 else 3
    if function == "col2im":
        rank = _rank(arguments["output_size"], arguments["kernel_size"]) or 2
        return rank + int(arguments["columns"].ndim) - 1
    for name in ("input_size", "weight_size"):  # of gradients
        if name in arguments:
            return _length(function, name, arguments[name])
    return int(arguments["input"].ndim)


def find(function: str, **arguments: Any) -> Callable[..., Any]:
    """Return the `performer` of calls of a public function, or "layer", with these types."""
    layer = arguments.get("layer")
    kinds = () if layer is None else layer.dtypes
    dtypes = {name: as_dtype(kind) for name, kind in zip(("weight", "bias"), kinds, strict=False)}
    # The integers of a key are in the order in which `perform` passes what they come from.
    order = sorted(arguments, key=lambda name: BASES.get(name, protocol.MOST_ARRAYS))
    source = describe(function, {name: arguments[name] for name in order}, dtypes)
    return performer(source, _result_axes(function, arguments))
