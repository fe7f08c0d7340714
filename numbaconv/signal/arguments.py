"""Arguments: SciPy's rules, and its types of errors."""

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from numbaconv.problem.dtypes import is_supported
from numbaconv.problem.libraries import check_sizes, is_lazy, read_array
from numbaconv.problem.validation import unmasked

MODES = ("full", "same", "valid")

# What each method runs on, as `numbaconv.conv` names it; None leaves the choice to "auto".
_BACKENDS = {"auto": None, "direct": "direct", "fft": "fft"}


def check_mode(mode: Any) -> str:
    """Which part of the full result is asked for."""
    if not isinstance(mode, str) or mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}; got {mode!r}")
    return mode


def backend_of(method: Any) -> str | None:
    """The backend on which a method runs."""
    if not isinstance(method, str) or method not in _BACKENDS:
        raise ValueError(f"method must be one of {', '.join(_BACKENDS)}; got {method!r}")
    return _BACKENDS[method]


def array_of(name: str, value: Any) -> Any:
    """An array: one of Dask as it is, of known shape."""
    if not is_lazy(value):
        return unmasked(name, value)
    check_sizes(name, value)
    return value


def numbers(name: str, value: Any) -> Any:
    """An array of a dtype that there are kernels for."""
    array = array_of(name, value)
    if not is_supported(array.dtype):
        raise TypeError(f"{name} has dtype {array.dtype}, which is not supported; scipy.signal is")
    return array


def coefficients(name: str, value: Any) -> np.ndarray:
    """Coefficients of a filter, whose values are needed now."""
    return numbers(name, read_array(name, value))  # type: ignore[no-any-return]


def two_of_one_rank(in1: Any, in2: Any) -> tuple[np.ndarray, np.ndarray]:
    """The two arrays of a convolution."""
    x, w = numbers("in1", in1), numbers("in2", in2)
    if x.ndim != w.ndim:
        raise ValueError(f"in1 and in2 must have as many axes, got {x.ndim} and {w.ndim}")
    return x, w


def must_swap(mode: str, shape1: Sequence[int], shape2: Sequence[int], axes: Iterable[int]) -> bool:
    """Whether the second of two arrays is the one that is slid over, as "valid" has it."""
    if mode != "valid":
        return False
    axes = tuple(axes)
    if all(shape1[i] >= shape2[i] for i in axes):
        return False
    if not all(shape2[i] >= shape1[i] for i in axes):
        raise ValueError(
            f"mode 'valid' needs in1 or in2 to be at least as large as the other along every axis, "
            f"got {tuple(shape1)} and {tuple(shape2)}"
        )
    return True


def convolved_axes(axes: Any, ndim: int) -> tuple[int, ...]:
    """The places of the axes that are convolved: all of them by default."""
    if axes is None:
        return tuple(range(ndim))
    given = axes if isinstance(axes, Iterable) else (axes,)
    try:
        places = [operator.index(axis) for axis in given]
    except TypeError:
        raise ValueError(f"axes must be an integer or integers, got {axes!r}") from None
    if not places:
        raise ValueError("axes must not be empty")
    for axis in places:
        if not -ndim <= axis < ndim:
            raise ValueError(f"axes: {axis} is out of range for {ndim} axes")
    indices = tuple(axis % ndim for axis in places)
    if len(set(indices)) != len(indices):
        raise ValueError(f"axes must be unique, got {axes!r}")
    return indices


def rate(name: str, value: Any) -> int:
    """A factor by which a rate is multiplied or divided."""
    factor = int(value)
    if factor < 1:
        raise ValueError(f"{name} must be at least 1, got {value!r}")
    return factor
