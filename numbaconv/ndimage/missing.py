"""Missing values: they are left out, and the rest of the weights counts for more.

A result is the sum over the values that are there, times all weights over those of these values:
normalised convolution [1]_. What is missing is selected away, never multiplied, so that NaN there
reaches nothing.

References
----------
.. [1] H. Knutsson, C.-F. Westin, "Normalized and Differential Convolution", CVPR 1993.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from numbaconv.cpu.separable.borders import CONSTANT
from numbaconv.cpu.separable.execution import new_array
from numbaconv.cpu.separable.planning import Kernel, Pass
from numbaconv.ndimage.passes import DOUBLE, SINGLE, Work, apply, check_arrays, fits_single
from numbaconv.problem.libraries import is_lazy, read_array
from numbaconv.problem.validation import unmasked

PROPAGATE, OMIT = "propagate", "omit"

# Weights whose sum is less, as a part of that of their absolute values, have no mean.
_LEAST_SUM = 1e-8

_NO_MEAN = "weights that add up to zero have no mean: missing values cannot be left out"

_MOST_KEPT = 8  # factors of a prepared mask


class PreparedMask:
    """A mask that many images have, made by `prepare_mask`; pass it as `mask`.

    It keeps the factors of the last few filters. Several threads may use one.

    Parameters
    ----------
    mask : ndarray
        True where values are valid.
    """

    def __init__(self, mask: np.ndarray) -> None:
        self.valid = mask
        self.kept: dict[Any, np.ndarray] = {}

    def __repr__(self) -> str:
        return f"PreparedMask({self.valid.shape}, {np.count_nonzero(self.valid)} valid)"


def prepare_mask(mask: Any) -> PreparedMask:
    """Make a mask that filters compute with once, and not for every image.

    Parameters
    ----------
    mask : array_like of bool
        True where values are valid. It is copied.

    Returns
    -------
    PreparedMask
        Pass it as `mask` to `gaussian_filter`, `uniform_filter`, `correlate` or `convolve`.

    Raises
    ------
    TypeError
        If the mask is not of bools.

    Examples
    --------
    >>> import numpy as np
    >>> from numbaconv import ndimage
    >>> sea = ndimage.prepare_mask([True, True, False, True])
    >>> ndimage.uniform_filter(np.array([1.0, 2.0, 99.0, 4.0]), 3, mask=sea)
    array([1.33333333, 1.5       , 3.        , 4.        ])
    """
    return PreparedMask(np.array(bools_of(read_array("mask", mask))))


class Gaps(NamedTuple):
    """Which values of an image are missing.

    Attributes
    ----------
    valid : ndarray
        True where they are not.
    edges : bool
        Whether what lies outside is missing too.
    min_weight : float
        The part of the weights that a result needs.
    kept : dict
        Factors of earlier calls, by what they depend on beside `valid`.
    """

    valid: np.ndarray
    edges: bool
    min_weight: float
    kept: dict[Any, np.ndarray]


def bools_of(mask: Any) -> Any:
    """A mask as an array; one of Dask as it is."""
    bools: np.ndarray = mask if is_lazy(mask) else unmasked("mask", mask)
    if bools.dtype != np.bool_:
        raise TypeError(f"mask must be of bools, True where values are valid, got {bools.dtype}")
    return bools


def fitting_mask(mask: Any, shape: tuple[int, ...]) -> Any:
    """A mask that can be broadcast to an image of a shape; one of Dask as it is."""
    valid = mask.valid if isinstance(mask, PreparedMask) else bools_of(mask)
    ahead = len(shape) - valid.ndim
    if ahead < 0 or any(n not in (1, m) for n, m in zip(valid.shape, shape[ahead:], strict=True)):
        raise ValueError(f"mask of shape {valid.shape} does not fit an image of {tuple(shape)}")
    return valid


def _valid(mask: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Which values of an image of a shape a mask says are valid."""
    return np.broadcast_to(fitting_mask(read_array("mask", mask), shape), shape)


def find_mask(input: Any, mask: Any) -> tuple[np.ndarray, Any]:
    """The image of an input, and the mask, which leaves out too what a masked array masks."""
    if not isinstance(input, np.ma.MaskedArray):
        return np.asarray(input), mask
    own = ~np.ma.getmaskarray(input)
    if mask is not None:
        own &= _valid(mask, own.shape)
    return np.asarray(input), own


def find_gaps(
    image: np.ndarray, outside: tuple[Any, bool], nan: Any, mask: Any, min_weight: Any
) -> Gaps | None:
    """The missing values of an image; None if there are none.

    `outside` is the constant, and whether any border is constant.
    """
    if nan not in (PROPAGATE, OMIT):
        raise ValueError(f"nan must be {PROPAGATE!r} or {OMIT!r}, not {nan!r}")
    if not 0 <= min_weight <= 1:
        raise ValueError(f"min_weight must be between 0 and 1, got {min_weight!r}")
    kept: dict[Any, np.ndarray] = {}
    valid = None
    if mask is not None:
        valid = _valid(mask, image.shape)
        kept = mask.kept if isinstance(mask, PreparedMask) else kept
        valid = None if valid.all() else valid
    constant, is_constant = outside
    edges = False
    if nan == OMIT and image.dtype.kind in "fc":
        nans = np.isnan(image)
        if (nans if valid is None else nans & valid).any():
            valid, kept = ~nans if valid is None else valid & ~nans, {}
    if nan == OMIT:
        edges = is_constant and bool(np.isnan(constant))
    if valid is None and not edges:
        return None
    if valid is None:
        valid = np.broadcast_to(np.True_, image.shape)
    return Gaps(valid, edges, float(min_weight), kept)


def apply_to_valid(
    image: np.ndarray,
    output: np.ndarray,
    work: Work | None,
    cval: Any,
    rounds: bool,
    gaps: Gaps,
) -> np.ndarray:
    """Filter the valid values of an image under real weights: zeros, where there is no work."""
    check_arrays(image, output)
    if work is None:
        raise ValueError(_NO_MEAN)
    whole = output.dtype.kind in "biu"
    single = not whole and fits_single(image.real.dtype) and fits_single(output.real.dtype)
    dtype = SINGLE if single else DOUBLE
    factors = _factors(work, dtype, gaps)
    if whole:
        _check_none_missing(factors, output.dtype)
    compute = np.result_type(dtype, np.complex64) if image.dtype.kind == "c" else dtype
    selected = np.where(gaps.valid, image, np.zeros((), image.dtype))
    sums = output if output.dtype == compute else new_array(output.shape, compute)
    _filter(selected, sums, work, 0.0 if gaps.edges else cval)
    with np.errstate(all="ignore"):
        np.multiply(sums, factors, out=sums)
        if whole and rounds:
            _round(sums, output.dtype)
        if sums is not output:
            np.copyto(output, sums, casting="unsafe")
    return output


def whole_numbers(results: np.ndarray, dtype: np.dtype[Any], rounds: bool) -> np.ndarray:
    """Floating results as whole numbers, of which none may be missing."""
    _check_none_missing(results, dtype)
    if rounds:
        results = results.copy()
        _round(results, dtype)
    with np.errstate(all="ignore"):
        return results.astype(dtype)


def _check_none_missing(results: np.ndarray, dtype: np.dtype[Any]) -> None:
    if np.isnan(results).any():
        raise ValueError(
            f"output of dtype {dtype} cannot hold results that are missing: give a floating output"
        )


def _round(results: np.ndarray, dtype: np.dtype[Any]) -> None:
    """Round results in place, and clip them to what a dtype holds."""
    limits = np.iinfo(dtype)
    np.clip(np.rint(results, out=results), limits.min, limits.max, out=results)


def _factors(work: Work, dtype: np.dtype[Any], gaps: Gaps) -> np.ndarray:
    """All weights over those of the values that are there; NaN where a result is missing."""
    listed = work if isinstance(work, Kernel) else tuple(work)
    key = listed, dtype, gaps.valid.shape, gaps.edges, gaps.min_weight
    kept = gaps.kept.get(key)
    if kept is not None:
        return kept
    total, absolute = _sums_of_weights(work)
    if not abs(total) > _LEAST_SUM * absolute:
        raise ValueError(_NO_MEAN)
    there = factors = _weights_of_valid(work, dtype, gaps)
    missing = there == 0
    if gaps.min_weight:
        fraction = there / total
        if total != absolute:
            fraction = _weights_of_valid(_absolute(work), dtype, gaps) / absolute
        taps = sum(len(each.weights) for each in _listed(work))
        missing |= fraction < gaps.min_weight - taps * np.finfo(dtype).eps
    with np.errstate(all="ignore"):
        np.divide(dtype.type(total), there, out=factors)
    factors[missing] = np.nan
    if len(gaps.kept) >= _MOST_KEPT:
        gaps.kept.clear()
    gaps.kept[key] = factors
    return factors


def _weights_of_valid(work: Work, dtype: np.dtype[Any], gaps: Gaps) -> np.ndarray:
    """The sum of the weights that meet valid values."""
    there = new_array(gaps.valid.shape, dtype)
    _filter(gaps.valid, there, work, 0.0 if gaps.edges else 1.0)
    return there


def _filter(image: np.ndarray, out: np.ndarray, work: Work, constant: Any) -> None:
    if isinstance(work, Kernel) or work:
        apply(image, out, work, constant, ordered=False)
    else:
        out[...] = image


def _listed(work: Work) -> list[Pass | Kernel]:
    return [work] if isinstance(work, Kernel) else list(work)


def _sums_of_weights(work: Work) -> tuple[float, float]:
    """The sum of all weights, and that of their absolute values."""
    total = absolute = 1.0
    for each in _listed(work):
        divisor = each.divisor if isinstance(each, Pass) else 1
        total *= math.fsum(each.weights) / divisor
        absolute *= math.fsum(map(abs, each.weights)) / divisor
    return total, absolute


def _absolute(work: Work) -> Work:
    """The same with the absolute values of the weights."""
    if isinstance(work, Kernel):
        return work._replace(weights=tuple(map(abs, work.weights)))
    return [each._replace(weights=tuple(map(abs, each.weights))) for each in work]


def has_constant_border(work: Work) -> bool:
    """Whether a constant lies outside along any axis."""
    return any(each.mode == CONSTANT for each in _listed(work))
