"""The number of which padding of zeros consists instead: the option `padding_value`."""

import cmath
import functools
import math
from collections.abc import Sequence
from numbers import Complex, Integral, Real
from operator import index
from typing import Any

import numpy as np

from numbaconv.problem.dtypes import Arithmetic
from numbaconv.problem.shape import ZEROS


def frozen_value(value: Any) -> int | float | complex:
    """Return a number, read once, in a form that can be part of a key: one form of each number.

    NaN is unlike itself: each is one object, which a tuple finds equal to itself.
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Complex):
        raise TypeError(
            f"padding_value must be a number, got {value!r} of type {type(value).__name__}"
        )
    if isinstance(value, Integral):
        bits = index(value).bit_length()
        if bits > 128:  # Python prints no number of more than 4300 digits
            raise ValueError(f"padding_value is out of range: an integer of {bits} bits")
        return index(value)
    if isinstance(value, Real):
        return math.nan if math.isnan(value) else float(value)
    number = complex(value)
    if number.imag == 0:
        return frozen_value(number.real)
    return _kept_nan(repr(number)) if cmath.isnan(number) else number


@functools.lru_cache(maxsize=64)
def _kept_nan(text: str) -> complex:
    return complex(text)


def check_applies(value: complex, modes: Sequence[int], padding_mode: Any) -> None:
    """Refuse a value that no axis would be padded with."""
    if value != 0 and ZEROS not in modes:
        raise ValueError(
            f"padding_value is for axes whose padding_mode is 'zeros'; got {value!r} beside "
            f"padding_mode {padding_mode!r}"
        )


def constant_parts(
    value: complex, modes: Sequence[int], padding_mode: Any, how: Arithmetic, sums: np.dtype
) -> np.ndarray:
    """Return what kernels read of a frozen value, after checking it: see `job.Header.outside`.

    Parameters
    ----------
    value : int, float or complex
        The value.
    modes, padding_mode : tuple of int, str or tuple of str
        The padding mode of each axis; what the caller said.
    how, sums : Arithmetic, dtype
        How the sums are computed, and their dtype.
    """
    if value == 0:
        return np.zeros(3, how.compute)
    check_applies(value, modes, padding_mode)
    dtype = how.convert if sums.kind in "fc" else sums
    if not _is_number_of(value, dtype):
        raise ValueError(
            f"padding_value must be a number of the computation's dtype, {dtype}, and not "
            f"infinite; got {value!r}"
        )
    if how.is_complex:
        return np.array([value.real, value.imag, value.real], how.compute)
    return np.full(3, value, how.convert).view(how.compute)


def _is_number_of(value: complex, dtype: np.dtype) -> bool:
    """Whether a dtype has a number, rounded if it is a float, and it is not infinite."""
    if dtype.kind in "iu":
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        limits = np.iinfo(dtype)
        return whole and limits.min <= int(value.real) <= limits.max
    if dtype.kind == "f" and isinstance(value, complex):
        return False
    most = float(np.finfo(dtype).max)
    return all(not abs(part) > most for part in (value.real, value.imag))
