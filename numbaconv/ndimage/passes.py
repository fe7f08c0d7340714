"""Which arithmetic a filter takes, and complex images as real ones."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from numbaconv.cpu.microkernels import tap_sums as taps
from numbaconv.cpu.separable.execution import Arithmetic, filter_image
from numbaconv.cpu.separable.planning import Kernel, Pass, listed_taps
from numbaconv.ndimage.arguments import check_supported, real_constant
from numbaconv.ndimage.large_kernels import correlate_large
from numbaconv.problem.dtypes import EXACT_IN_SINGLE, largest_of

Work = Sequence[Pass] | Kernel

SINGLE, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
_ROUNDING = 1 / EXACT_IN_SINGLE  # of float32, relative

# How far sums in float32 may be off whose integers are wanted. By twice that, a vector has to be
# summed again for each of its lanes.
MOST_MARGIN = 1 / 128


def _is_whole(values: Sequence[float]) -> bool:
    return all(float(value).is_integer() for value in values)


def fits_single(dtype: np.dtype[Any]) -> bool:
    """Whether float32 holds all numbers of a dtype."""
    return bool(np.can_cast(dtype, SINGLE))


class _Whole(NamedTuple):
    """Whole numbers: the largest that there may be, and whether some may be below zero."""

    largest: float
    signed: bool


def _held(dtype: np.dtype[Any]) -> _Whole:
    """What an array of integers may hold."""
    return _Whole(largest_of(dtype), dtype.kind == "i")


@functools.lru_cache(maxsize=256)
def _error(each: Pass | Kernel, largest: float) -> float:
    """A bound of how far sums in float32 are from SciPy's, of whole numbers up to a largest.

    Each weight is rounded, each product may be, and each sum to which a tap is added; pairs are
    exact. What SciPy's own sums are off is less than a thousandth of that. Comparing a fraction
    rounds too, and weights too small for float32 are zeros in it.
    """
    kind, _, weights = listed_taps(each) if isinstance(each, Pass) else (0, (), each.weights)
    sizes = np.abs(weights)
    sizes[1:] *= 1 if kind == taps.SINGLE else 2
    with np.errstate(over="ignore"):
        roundings = 2 * sizes.sum() + sizes.cumsum().sum()
        return float(_ROUNDING * (1.001 * roundings * largest + 1))


def _with_margins(
    source: np.dtype[Any], result: np.dtype[Any], work: Work, constant: float
) -> Work | None:
    """The work, with how far sums in float32 may be off; None if that is too far, or not known."""
    if source.kind == "f" or not constant.is_integer():
        return None
    values, stored = _held(source), _held(result)
    done: list[Any] = []
    for each in [work] if isinstance(work, Kernel) else work:
        values = _Whole(max(values.largest, abs(constant)), values.signed or constant < 0)
        error = _error(each, values.largest)
        if not error < MOST_MARGIN:
            return None
        done.append(each._replace(margin=error))
        sums = _Whole(
            sum(map(abs, each.weights)) * values.largest, values.signed or min(each.weights) < 0
        )
        wraps = sums.largest > stored.largest or sums.signed > stored.signed
        values = stored if wraps else sums
    return done[0] if isinstance(work, Kernel) else done


def find_arithmetic(
    source: np.dtype[Any], result: np.dtype[Any], work: Work, constant: float, rounds: bool
) -> tuple[Arithmetic, Work]:
    """How sums are computed, so that integers are SciPy's to the last one; and the work for that.

    SciPy computes in float64, and stores each pass in the result's dtype. Floating results that
    float32 holds are computed in it, if the image fits it too. Integer images under integer weights
    are exact in any order as long as the sums are, and so are means. Small integers under other
    weights are summed in float32 too, and again in float64 next to an integer.
    """
    if result.kind not in "biu":
        single = fits_single(source) and fits_single(result)
        return Arithmetic(SINGLE if single else DOUBLE), work
    if rounds:
        single = source.itemsize == 1 or (source.kind == "f" and fits_single(source))
        return Arithmetic(SINGLE if single else DOUBLE, rounds=True), work
    passes = [work] if isinstance(work, Kernel) else work
    divides = any(each.divisor != 1 for each in passes if isinstance(each, Pass))
    weights = [w for each in passes for w in each.weights]
    if source.kind == "f" or not _is_whole([*weights, constant]):
        marked = _with_margins(source, result, work, constant)
        how = Arithmetic(DOUBLE if marked is None else SINGLE, truncates=True)
        return how, work if marked is None else marked
    largest = max(largest_of(source), abs(constant))
    sums = [max(1.0, sum(map(abs, each.weights))) for each in passes]
    growth = max(sums, default=1) if divides else math.prod(sums)
    how = Arithmetic(SINGLE if largest * growth < EXACT_IN_SINGLE else DOUBLE, truncates=divides)
    return how, work


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
    how, work = find_arithmetic(image.dtype, output.dtype, work, constant, rounds)
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
