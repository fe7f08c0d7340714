"""Arguments of filters: SciPy's rules, and its types of errors."""

import math
import operator
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from numbaconv.cpu.separable.borders import CONSTANT, MIRROR, NEAREST, REFLECT, WRAP
from numbaconv.cpu.separable.execution import new_array
from numbaconv.problem.dtypes import is_supported
from numbaconv.problem.validation import unmasked

MODES = {
    "reflect": REFLECT,
    "grid-mirror": REFLECT,
    "mirror": MIRROR,
    "nearest": NEAREST,
    "wrap": WRAP,
    "grid-wrap": WRAP,
    "constant": CONSTANT,
    "grid-constant": CONSTANT,
}
TRUNCATE, SATURATE = "truncate", "saturate"


def mode_code(mode: Any) -> int:
    """The number of a mode."""
    if not isinstance(mode, str) or mode not in MODES:
        raise RuntimeError(
            f"mode: boundary mode not supported: {mode!r}; there are {', '.join(MODES)}"
        )
    return MODES[mode]


def sequence(value: Any, count: int, name: str) -> list[Any]:
    """One value for each axis: a number or a name stands for all."""
    if isinstance(value, str) or not np.iterable(value):
        return [value] * count
    values = list(value)
    if len(values) != count:
        raise RuntimeError(
            f"{name}: sequence argument must have length equal to input rank, or to the number of "
            f"axes: {count}, not {len(values)}"
        )
    return values


def axis_index(axis: Any, ndim: int) -> int:
    """The place of an axis."""
    axis = operator.index(axis)
    if not -ndim <= axis < ndim:
        raise np.exceptions.AxisError(axis, ndim)
    return int(axis % ndim)


def axis_indices(axes: Any, ndim: int) -> tuple[int, ...]:
    """The places of some axes, or of all."""
    if axes is None:
        return tuple(range(ndim))
    if np.isscalar(axes):
        axes = (axes,)
    elif not isinstance(axes, Iterable):
        raise ValueError("axes must be an integer, iterable of integers, or None")
    places = [operator.index(axis) for axis in axes]
    for axis in places:
        if not -ndim <= axis < ndim:
            raise ValueError(f"specified axis: {axis} is out of range")
    indices = tuple(axis % ndim for axis in places)
    if len(set(indices)) != len(indices):
        raise ValueError("axes must be unique")
    return indices


def check_origin(origin: Any, size: int) -> int:
    """The origin of a kernel of so many elements along an axis."""
    if not -(size // 2) <= origin <= (size - 1) // 2:
        raise ValueError(
            f"Invalid origin; origin must satisfy -(size // 2) <= origin <= (size - 1) // 2, "
            f"which {origin} does not for {size} weights"
        )
    return operator.index(origin)


def check_rounding(rounding: Any) -> bool:
    """Whether integer results are rounded."""
    if rounding not in (TRUNCATE, SATURATE):
        raise ValueError(f"rounding must be {TRUNCATE!r} or {SATURATE!r}, not {rounding!r}")
    return bool(rounding == SATURATE)


def check_supported(*arrays: np.ndarray) -> None:
    """Refuse dtypes that there are no kernels for."""
    for a in arrays:
        if not is_supported(a.dtype):
            raise RuntimeError(f"array type {a.dtype!r} not supported")


def real_constant(cval: Any) -> float:
    """The constant outside of a real image."""
    return math.ldexp(cval, 0)  # takes what C's double may come from, and no text


def _new_output(image: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    if dtype.kind in "biufc":
        return new_array(image.shape, dtype)
    return np.empty(image.shape, dtype)  # to be refused


def find_output(output: Any, image: np.ndarray, is_complex: bool = False) -> np.ndarray:
    """The array of results: a new one, of the input's dtype or the one named, or the caller's."""
    if output is None:
        dtype = np.promote_types(image.dtype, np.complex64) if is_complex else image.dtype
        return _new_output(image, np.dtype(dtype.name))
    if isinstance(output, (type, np.dtype)):
        dtype = np.dtype(output)
        if is_complex and dtype.kind != "c":
            warnings.warn("promoting specified output dtype to complex", stacklevel=4)
            dtype = np.promote_types(dtype, np.complex64)
        return _new_output(image, dtype)
    if isinstance(output, str):
        dtype = np.dtype(output)
        if is_complex and dtype.kind != "c":
            raise RuntimeError("output must have complex dtype")
        if not issubclass(dtype.type, np.number):
            raise RuntimeError("output must have numeric dtype")
        return _new_output(image, dtype)
    out = unmasked("output", output)
    if out.shape != image.shape:
        raise RuntimeError(f"output shape not correct: {out.shape}, not {image.shape}")
    if is_complex and out.dtype.kind != "c":
        raise RuntimeError("output must have complex dtype")
    return out
