"""A call from compiled code as Python would have it.

Its arguments are rebuilt from a request. Arrays are placeholders, of the same shape and strides
with nothing behind them: enough to validate and to plan a call, and to say where it reads.
"""

import ast
import ctypes
import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from numbaconv.dispatch.backends import AUTO, load_backend, requested_backend
from numbaconv.errors import BackendUnavailableError
from numbaconv.njit.protocol import MOST_ARRAYS
from numbaconv.problem.validation import check_out
from numbaconv.runtime.shared_table import from_word

# Which of the arrays of a request an argument is.
TARGET = MOST_ARRAYS - 1
BASES = {
    **dict.fromkeys(("input", "columns", "in1", "x"), 0),
    **dict.fromkeys(("weight", "in2", "h", "hrow", "mask", "window", "zi"), 1),
    **dict.fromkeys(("bias", "hcol", "grad_output"), 2),
    "add": 3,
    **dict.fromkeys(("out", "output"), TARGET),
}

# Coefficients of filters: arrays whose elements are in the key.
VALUES = ("weights", "b", "a")


class Text(NamedTuple):
    """What the compiler knows of a call; `repr` of it, as a plain tuple, is the request's text.

    Attributes
    ----------
    function : str
        Name of the public function, or "layer".
    result : str
        Dtype of the result.
    arguments : tuple of (str, tuple)
        Name and form of each argument, in the order of the integers in the key. Forms are
        ("array", dtype, axes, writable), ("int",), ("tuple", forms), ("layer",) and ("value", the
        value), and of numbers that need not be integers ("scalar", dtype); for filters also
        ("dtype", name) and, of arrays whose elements are in the key, ("values", dtype, axes).
    """

    function: str
    result: str
    arguments: tuple[tuple[str, tuple[Any, ...]], ...]


@functools.lru_cache(maxsize=256)
def parse(text: str) -> Text:
    """Return what a text says."""
    return Text(*ast.literal_eval(text))


def placeholder(
    shape: Sequence[int], dtype: Any, strides: Sequence[int] | None = None, writable: bool = True
) -> np.ndarray:
    """Return an array without its memory: contiguous, or of the strides given."""
    dtype = np.dtype(dtype)
    if strides is None:
        steps = [dtype.itemsize]
        for extent in reversed(shape[1:]):
            steps.append(steps[-1] * max(extent, 1))
        strides = steps[::-1] if shape else ()
    return as_strided(np.empty(1, dtype), shape, strides, writeable=writable)


def words_of(dtype: np.dtype[Any]) -> int:
    """Integers of the key that an element takes."""
    return 2 if dtype.kind == "c" else 1


def elements(words: Sequence[int], dtype: np.dtype[Any]) -> np.ndarray:
    """Elements that are in a key: integers, or the bits of float64."""
    found = np.array(words, np.int64)
    if dtype.kind == "u":
        return found.view(np.uint64).astype(dtype)
    if dtype.kind == "f":
        return found.view(np.float64).astype(dtype)
    return (found.view(np.complex128) if dtype.kind == "c" else found).astype(dtype)


class RequestedCall:
    """A call as Python would have it.

    Attributes
    ----------
    arguments : dict
        By name; arrays are placeholders.
    arrays : dict
        Those of them that are arrays.
    """

    def __init__(self, text: str, integers: Sequence[int], word: int | None, threads: int) -> None:
        self.function, result, arguments = parse(text)
        self.result = np.dtype(result)
        self.threads = threads
        self._word = word
        self.arrays: dict[str, np.ndarray] = {}
        values = iter(integers)
        self.arguments = {name: self._rebuild(name, form, values) for name, form in arguments}

    def _rebuild(self, name: str, form: tuple[Any, ...], values: Iterator[int]) -> Any:
        kind, *details = form
        if kind == "value":
            return details[0]
        if kind == "int":
            return next(values)
        if kind == "tuple":
            return tuple(self._rebuild(name, entry, values) for entry in details[0])
        if kind == "layer":
            next(values)  # the ticket, which is in the key
            return ctypes.cast(next(values), ctypes.py_object).value  # the caller has a reference
        if kind == "dtype":
            return np.dtype(details[0])
        if kind == "scalar":
            dtype = np.dtype(details[0])
            number = elements([next(values) for _ in range(words_of(dtype))], dtype)[0]
            return number.item() if dtype.char in "?dD" else number
        if kind == "values":
            dtype, shape = np.dtype(details[0]), [next(values) for _ in range(details[1])]
            words = [next(values) for _ in range(math.prod(shape) * words_of(dtype))]
            return elements(words, dtype).reshape(shape)
        dtype, axes, writable = details
        shape, steps = ([next(values) for _ in range(axes)] for _ in range(2))
        self.arrays[name] = placeholder(shape, dtype, steps, writable)
        return self.arrays[name]

    def backend(self, argument: str | None, auto: str) -> str:
        """Return the backend of the call, which can run here; `auto` is what that word means."""
        if self._word is None or argument is not None:
            name, source = requested_backend(argument)
        else:
            name, source = from_word(self._word) or AUTO, requested_backend()[1]
        if name == AUTO:
            return auto
        if name == "cuda":
            raise BackendUnavailableError("backend 'cuda' cannot be called from compiled code")
        load_backend(name, source)
        return name


def array_at(address: int, like: np.ndarray) -> np.ndarray:
    """The array of a caller: of the shape and strides of a placeholder."""
    if not like.size:
        return like
    memory = (ctypes.c_char * like.itemsize).from_address(address)
    first = np.frombuffer(memoryview(memory), like.dtype)
    return as_strided(first, like.shape, like.strides, writeable=like.flags.writeable)


def check_overlap(call: RequestedCall, addresses: Sequence[int]) -> None:
    """Refuse an `out` that shares memory with another array."""
    arrays = {name: array_at(addresses[BASES[name]], array) for name, array in call.arrays.items()}
    out = arrays.pop("out")
    check_out(out, out.shape, out.dtype, arrays)
