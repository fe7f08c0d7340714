"""Calls of filters in a user's ``@njit`` code: how they are typed; `call_site` has the code.

What a plan depends on is in the key: numbers as 64 bits, and coefficients element by element, since
the zeros, the symmetry and the rank of a kernel decide how it is computed. So a call with other
coefficients is planned anew.

Loaded when Numba first meets a filter in code that it compiles.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numba.cpython.unsafe.tuple import tuple_setitem
from numba.extending import overload, register_jitable
from numba.np.numpy_support import as_dtype
from numpy.lib.stride_tricks import as_strided

from numbaconv.njit import protocol
from numbaconv.njit.call_site import (
    do_stage,
    keep_alive,
    open_request,
    result_array,
    set_addresses,
)
from numbaconv.njit.kinds import given, is_none
from numbaconv.njit.protocol import REQUEST
from numbaconv.njit.request import BASES, VALUES, words_of

Kinds = dict[str, Any]  # Numba types or default values, by the names of arguments

# --- The types --------------------------------------------------------------------------------


def _array_dtype(where: str, kind: types.Array) -> np.dtype[Any]:
    try:
        dtype = as_dtype(kind.dtype)
    except NotImplementedError:
        dtype = np.dtype(object)
    if dtype.kind not in "biufc" or dtype == np.float16:
        raise TypingError(f"{where} has dtype {kind.dtype}, which is not supported")
    if kind.ndim > protocol.MOST_AXES:
        raise TypingError(f"{where} has {kind.ndim} axes; compiled code takes {protocol.MOST_AXES}")
    return dtype


def _form(function: str, name: str, kind: Any) -> tuple[Any, ...]:
    """The form (`request.Text`) of an argument, given as a type or a default value."""
    where = f"numbaconv.{function}: {name}"
    if isinstance(kind, types.Array) and name in VALUES:
        return "values", _array_dtype(where, kind).name, kind.ndim
    if isinstance(kind, types.Array) and name in BASES:
        return "array", _array_dtype(where, kind).name, kind.ndim, bool(kind.mutable)
    if is_none(kind) or isinstance(kind, (str, types.StringLiteral)):
        return "value", getattr(kind, "literal_value", kind if isinstance(kind, str) else None)
    if isinstance(kind, (types.BaseTuple, tuple)):
        return "tuple", tuple(_form(function, name, member) for member in kind)
    if isinstance(kind, (types.DType, types.NumberClass)):
        return "dtype", as_dtype(kind.dtype).name
    return _number_form(where, kind)


def _number_form(where: str, kind: Any) -> tuple[Any, ...]:
    if isinstance(kind, types.Number | types.Boolean):
        dtype = as_dtype(types.unliteral(kind))
    elif isinstance(kind, bool | int | float | complex):
        dtype = np.asarray(kind).dtype
    else:
        raise TypingError(f"{where} is {kind}; {_advice(kind)}")
    return ("int",) if dtype == np.int64 else ("scalar", dtype.name)


def _advice(kind: Any) -> str:
    if isinstance(kind, types.UnicodeType):
        return "pass a literal string, or a global one: Numba compiles for its value"
    if isinstance(kind, types.List | types.ListType):
        return "pass a tuple, or an array made with np.array"
    if isinstance(kind, types.Array):
        return "pass a number or a tuple"
    if isinstance(kind, types.Optional):
        return "what may be None at run time needs an if and an else, with a call in each"
    return "pass a number, a tuple or an array"


# --- Dtypes of results ------------------------------------------------------------------------


def _dtype_of(kind: Any) -> np.dtype[Any]:
    """The dtype of the array that NumPy makes of an argument."""
    if isinstance(kind, types.Array):
        return as_dtype(kind.dtype)
    if isinstance(kind, types.BaseTuple):
        return np.result_type(*map(_dtype_of, kind))
    if isinstance(kind, types.Type):
        return as_dtype(types.unliteral(kind))
    return np.asarray(kind).dtype


def _of_image(kinds: Kinds) -> np.dtype[Any]:
    """As `ndimage.arguments.find_output` says."""
    image, output = _dtype_of(kinds["input"]), kinds.get("output")
    is_complex = image.kind == "c" or (
        not is_none(kinds.get("weights")) and _dtype_of(kinds["weights"]).kind == "c"
    )
    if isinstance(output, types.Array):
        return as_dtype(output.dtype)
    if is_none(output):
        return np.promote_types(image, np.complex64) if is_complex else image
    if isinstance(output, types.DType | types.NumberClass):
        dtype = as_dtype(output.dtype)
        return np.promote_types(dtype, np.complex64) if is_complex else dtype
    try:
        return np.dtype(getattr(output, "literal_value", output))
    except TypeError as error:
        raise TypingError(f"output is {output}: pass an array or a dtype") from error


def _of_sums(kinds: Kinds) -> np.dtype[Any]:
    return np.result_type(_dtype_of(kinds["in1"]), _dtype_of(kinds["in2"]))


def _of_transforms(kinds: Kinds) -> np.dtype[Any]:
    """Integers are converted to float64, each array for itself."""
    dtypes = (_dtype_of(kinds[name]) for name in ("in1", "in2"))
    return np.result_type(*(np.dtype(float) if d.kind in "biu" else d for d in dtypes))


def _of_new_rate(kinds: Kinds) -> np.dtype[Any]:
    x, window = _dtype_of(kinds["x"]), kinds["window"]
    h = x if x.kind in "fc" else np.dtype(float)
    if isinstance(window, types.Array):
        h = as_dtype(window.dtype)
    return np.result_type(h, x, np.float32)


def _of_stream(kinds: Kinds) -> np.dtype[Any]:
    names = [name for name in ("b", "a", "x", "zi") if not is_none(kinds[name])]
    return np.result_type(*(_dtype_of(kinds[name]) for name in names))


_RESULTS: dict[str, Callable[[Kinds], np.dtype[Any]]] = {
    **dict.fromkeys(("convolve", "correlate", "convolve2d", "correlate2d"), _of_sums),
    **dict.fromkeys(("fftconvolve", "oaconvolve"), _of_transforms),
    "sepfir2d": lambda kinds: np.promote_types(_dtype_of(kinds["input"]), np.float32),
    "upfirdn": lambda k: np.result_type(_dtype_of(k["h"]), _dtype_of(k["x"]), np.float32),
    "resample_poly": _of_new_rate,
    "savgol_filter": lambda kinds: np.dtype(
        np.float32 if _dtype_of(kinds["x"]) == np.float32 else np.float64
    ),
    "lfilter": _of_stream,
}


def result_dtype(function: str, kinds: Kinds) -> np.dtype[Any]:
    """The dtype of a call's result."""
    module, _, name = function.partition(".")
    return _of_image(kinds) if module == "ndimage" else _RESULTS[name](kinds)


# --- Coefficients -----------------------------------------------------------------------------


def _room(values: Any) -> Any:
    """Integers of the key that an array of coefficients takes; none if it is not an array."""


@overload(_room)
def _room_in_compiled_code(values):
    if not isinstance(values, types.Array):
        return lambda values: 0
    words = words_of(as_dtype(values.dtype))
    return lambda values: values.ndim + values.size * words


def _if_plain(values: Any) -> Any:
    """Coefficients that are no array: a number, or a tuple of them; else None."""


@overload(_if_plain)
def _if_plain_in_compiled_code(values):
    if isinstance(values, types.Array):
        return lambda values: None
    return lambda values: values


def _write(memory: Any, at: Any, values: Any) -> Any:
    """Write an array of coefficients into a key; return what is behind it."""


@overload(_write)
def _write_in_compiled_code(memory, at, values):
    if not isinstance(values, types.Array):
        return lambda memory, at, values: at
    kind = as_dtype(values.dtype).kind

    def implementation(memory, at, values):
        for extent in values.shape:
            memory[at] = extent
            at += 1
        bits = memory.view(np.float64)
        for value in values.flat:
            if kind == "f":
                bits[at] = value
            elif kind == "c":
                bits[at], bits[at + 1] = value.real, value.imag
                at += 1
            else:
                memory[at] = np.int64(value)
            at += 1
        return at

    return implementation


def _memory(first: Any, second: Any, fixed: Any) -> Any:
    """Memory for a request with coefficients in its key; None where there are none."""


@overload(_memory)
def _memory_in_compiled_code(first, second, fixed):
    if not any(isinstance(values, types.Array) for values in (first, second)):
        return lambda first, second, fixed: None

    def implementation(first, second, fixed):
        memory = np.empty(fixed + _room(first) + _room(second), np.int64)
        _write(memory, _write(memory, fixed, first), second)
        return memory

    return implementation


# --- Calls ------------------------------------------------------------------------------------


@register_jitable
def _span(array):
    low = high = array.ctypes.data
    for axis in range(array.ndim):
        step = (array.shape[axis] - 1) * array.strides[axis]
        if step < 0:
            low += step
        else:
            high += step
    return low, high + array.itemsize


@register_jitable
def may_share_memory(x, y):
    """Whether the spans of two arrays meet; 0 or 1."""
    (a, b), (c, d) = _span(x), _span(y)
    return 1 if x.size > 0 and y.size > 0 and a < d and c < b else 0


@register_jitable
def split(whole, shape, axis):
    """Take results and the state behind them, along an axis, apart."""
    axis = axis + whole.ndim if axis < 0 else axis
    size = shape[axis]
    y = as_strided(whole, shape, whole.strides)
    behind = whole.reshape(-1)[size * (whole.strides[axis] // whole.itemsize) :]
    state = tuple_setitem(shape, axis, whole.shape[axis] - size)
    return y, as_strided(behind, state, whole.strides).copy()


def _integer_count(form: tuple[Any, ...]) -> int:
    """Integers of the key that an argument of a form takes, but coefficients."""
    kind, *details = form
    if kind == "array":
        return 2 * int(details[1])
    if kind == "tuple":
        return sum(map(_integer_count, details[0]))
    if kind == "scalar":
        return words_of(np.dtype(details[0]))
    return int(kind == "int")


@functools.lru_cache(maxsize=1024)
def performer(source: str, dtype: np.dtype[Any], axes: int, fixed: int) -> Callable[..., Any]:
    """Return the jitable function that makes the calls of one text.

    It takes the arrays of a call, `out` for the result, the other arguments, and coefficients. A
    request has `fixed` integers before these.
    """

    @register_jitable
    def perform(arrays, out, options, first, second):
        x, y, z = arrays
        memory = _memory(first, second, fixed)
        plain = _if_plain(first), _if_plain(second)
        request = open_request(source, (x, y, z, out, options, plain), memory)
        do_stage(request, protocol.FIND)
        result = result_array(out, request, axes, dtype)
        set_addresses(request, (x, y, z, None, result))
        do_stage(request, protocol.CARRY_OUT)
        keep_alive((x, y, z, result, options, memory))
        return result

    return perform  # type: ignore[no-any-return]  # Numba's decorator


def find(function: str, kinds: Kinds) -> Callable[..., Any]:
    """Return the `performer` of calls with these types, or raise what says what to change.

    Parameters
    ----------
    function : str
        Module and name, as "ndimage.sobel".
    kinds : dict
        Types or defaults of its arguments: arrays in the order of a request, then options, then
        coefficients.
    """
    kinds = {name: given(kind) for name, kind in kinds.items()}
    main = next(name for name in kinds if BASES.get(name) == 0)
    if not isinstance(kinds[main], types.Array):
        raise TypingError(
            f"numbaconv.{function}: {main} must be an array, got {kinds[main]}; make one with "
            "np.array"
        )
    forms = [(name, _form(function, name, kind)) for name, kind in kinds.items()]
    forms.sort(key=lambda form: form[1][0] == "values")  # arrays of coefficients end the key
    dtype = result_dtype(function, kinds)
    if dtype.kind not in "biufc" or dtype == np.float16:
        raise TypingError(f"numbaconv.{function}: compiled code has no results of {dtype}")
    source = repr((function, dtype.name, tuple(forms)))
    fixed = REQUEST.integers + sum(_integer_count(form) for _, form in forms)
    return performer(source, dtype, kinds[main].ndim, fixed)
