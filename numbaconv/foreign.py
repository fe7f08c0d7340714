"""The door for arrays of other libraries.

A public function asks `is_foreign` of what is not plainly a NumPy array, and hands its whole call
over to `call_foreign`. That calls it again with NumPy's view of the same memory, or, for Dask's
arrays, makes a graph of calls on their blocks.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from numbaconv.blocks.calls import arguments_of
from numbaconv.problem.libraries import (
    check_one_library,
    hand_back,
    is_lazy,
    library_of,
    read_array,
    target_array,
)

_ARRAYS = (
    *("input", "x", "weight", "weights", "bias", "add", "grad_output", "columns"),
    *("out", "output"),
)
_TARGETS = ("out", "output")
_Function = TypeVar("_Function", bound=Callable[..., Any])


def is_foreign(array: Any) -> bool:
    """Whether a call with this array is to be handed over."""
    return library_of(array) is not None


def _is_array(value: Any) -> bool:
    """Whether an argument is an array, and not a dtype or a list of numbers."""
    return isinstance(value, np.ndarray) or is_foreign(value)


def call_foreign(function: Callable[..., Any], given: dict[str, Any]) -> Any:
    """Call a public function with arrays of another library; the result is of that library.

    Parameters
    ----------
    function : callable
        The function itself, or a prepared layer.
    given : dict
        All its arguments by name.
    """
    if any(map(is_lazy, given.values())):
        return lazily(function, given)
    arrays = {name: given[name] for name in _ARRAYS if _is_array(given.get(name))}
    check_one_library(arrays)
    views = {
        name: (target_array if name in _TARGETS else read_array)(name, array)
        for name, array in arrays.items()
    }
    result = function(**{**given, **views})
    for name in _TARGETS:
        if name in arrays:
            return arrays[name]
    return hand_back(result, next(iter(arrays.values())))


def lazily(function: Callable[..., Any], given: dict[str, Any]) -> Any:
    """Call a function that goes by blocks on a Dask array: see `numbaconv.blocks.lazy`."""
    from numbaconv.blocks.lazy import call_lazily

    return call_lazily(function, given)


def takes_foreign(function: _Function) -> _Function:
    """Decorate a function whose first argument is an image: other libraries' are taken too."""

    @functools.wraps(function)
    def call(input: Any, *args: Any, **kwargs: Any) -> Any:
        if type(input) is np.ndarray or not is_foreign(input):
            return function(input, *args, **kwargs)
        return call_foreign(call, arguments_of(call, input, *args, **kwargs))

    return call  # type: ignore[return-value]
