"""Which arithmetic a filter takes, and complex images as real ones."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numbaconv.cpu.separable.execution import Arithmetic, filter_image
from numbaconv.cpu.separable.planning import Kernel, Pass
from numbaconv.ndimage.arguments import check_supported, real_constant
from numbaconv.ndimage.large_kernels import correlate_large

Work = Sequence[Pass] | Kernel

SINGLE, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
_EXACT = 1 << 24  # integers below are exact in float32


def _is_whole(values: Sequence[float]) -> bool:
    return all(float(value).is_integer() for value in values)


def fits_single(dtype: np.dtype[Any]) -> bool:
    """Whether float32 holds all numbers of a dtype."""
    return bool(np.can_cast(dtype, SINGLE))


def _largest(dtype: np.dtype[Any]) -> int:
    if dtype.kind == "b":
        return 1
    limits = np.iinfo(dtype)
    return max(-int(limits.min), int(limits.max))


def find_arithmetic(
    source: np.dtype[Any], result: np.dtype[Any], work: Work, constant: float, rounds: bool
) -> Arithmetic:
    """How sums are computed, so that integers are SciPy's to the last one.

    SciPy computes in float64, and stores each pass in the result's dtype. Floating results that
    float32 holds are computed in it, if the image fits it too. Integer images under integer weights
    are exact in any order as long as the sums are, and so are means.
    """
    if result.kind not in "biu":
        return Arithmetic(SINGLE if fits_single(source) and fits_single(result) else DOUBLE)
    if rounds and source.itemsize == 1:
        return Arithmetic(SINGLE, rounds=True)
    if rounds:
        single = source.kind == "f" and fits_single(source)
        return Arithmetic(SINGLE if single else DOUBLE, rounds=True)
    passes = [work] if isinstance(work, Kernel) else work
    divides = any(each.divisor != 1 for each in passes if isinstance(each, Pass))
    weights = [w for each in passes for w in each.weights]
    if source.kind == "f" or not _is_whole([*weights, constant]):
        return Arithmetic(DOUBLE, truncates=True)
    largest = max(_largest(source), abs(constant))
    sums = [max(1.0, sum(map(abs, each.weights))) for each in passes]
    growth = max(sums, default=1) if divides else math.prod(sums)
    return Arithmetic(SINGLE if largest * growth < _EXACT else DOUBLE, truncates=divides)


def check_arrays(image: np.ndarray, output: np.ndarray) -> None:
    """Refuse arrays that no filter takes together."""
    check_supported(image, output)
    if not output.flags.writeable:
        raise ValueError("output array is read-only.")
    if (image.dtype.kind == "c") != (output.dtype.kind == "c"):
        raise RuntimeError("output must have complex dtype, as the input has, or neither")


def apply(
    image: np.ndarray,
    output: np.ndarray,
    work: Work,
    cval: Any,
    rounds: bool = False,
    ordered: bool = True,
) -> np.ndarray:
    """Filter an image, real or complex, under real weights.

    Sums in float64 are SciPy's to the last bit, unless they need not be `ordered` as its are.
    """
    check_arrays(image, output)
    if image.dtype.kind == "c":
        apply(image.real, output.real, work, np.real(cval), rounds, ordered)
        apply(image.imag, output.imag, work, np.imag(cval), rounds, ordered)
        return output
    constant = real_constant(cval)
    how = find_arithmetic(image.dtype, output.dtype, work, constant, rounds)
    if isinstance(work, Kernel) and output.dtype.kind == "f":
        any_order = how.compute == SINGLE or not ordered
        if any_order and correlate_large(image, output, work, constant, how.compute):
            return output
    filter_image(image, output, work, constant, how)
    return output


def apply_complex_weights(
    image: np.ndarray,
    weights: np.ndarray,
    output: np.ndarray,
    cval: Any,
    filtered: Callable[..., np.ndarray],
) -> np.ndarray:
    """Filter under complex weights: ``filtered(image, weights, output, cval)`` under real ones."""
    if np.may_share_memory(image, output):
        image = image.copy()
    if image.dtype.kind != "c":
        if np.iscomplexobj(cval):
            raise ValueError("Cannot provide a complex-valued cval when the input is real.")
        filtered(image, weights.real, output.real, cval)
        filtered(image, weights.imag, output.imag, cval)
        return output
    real, imaginary = np.real(cval), np.imag(cval)
    filtered(image.real, weights.real, output.real, real)
    output.real -= filtered(image.imag, weights.imag, None, imaginary)
    filtered(image.real, weights.imag, output.imag, real)
    output.imag += filtered(image.imag, weights.real, None, imaginary)
    return output
