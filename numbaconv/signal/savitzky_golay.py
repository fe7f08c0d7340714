"""Polynomials fitted in a window that moves: see `numbaconv.signal`."""

import math
import operator
from typing import Any

import numpy as np

from numbaconv.ndimage.arguments import axis_index
from numbaconv.ndimage.filters import convolve1d
from numbaconv.problem.libraries import is_lazy
from numbaconv.signal.arguments import array_of

_MODES = ("mirror", "constant", "nearest", "wrap", "interp")


def savgol_filter(
    x: Any,
    window_length: int,
    polyorder: int,
    deriv: int = 0,
    delta: float = 1.0,
    axis: int = -1,
    mode: str = "interp",
    cval: float = 0.0,
) -> np.ndarray:
    """Smooth signals along an axis by polynomials, or take their derivatives.

    Parameters
    ----------
    x : array_like
        Signals of any rank.
    window_length : int
        Samples to which each polynomial is fitted by least squares.
    polyorder : int
        Degree of the polynomials, less than `window_length`.
    deriv : int, optional
        Which derivative is taken.
    delta : float, optional
        Distance of the samples, which derivatives count in.
    axis : int, optional
        Axis along which the samples follow each other.
    mode : {"interp", "mirror", "nearest", "wrap", "constant"}, optional
        What lies beyond the ends: see `numbaconv.ndimage`. With "interp" nothing does, and the
        polynomials of the first and the last whole window give the results at the ends.
    cval : float, optional
        The constant of mode "constant".

    Returns
    -------
    ndarray
        Of the shape of `x`; of float32 if `x` is, else of float64.

    Raises
    ------
    ValueError
        If the polynomial is not determined, the window is longer than the signal under "interp", or
        a mode is unknown.

    Notes
    -----
    The value of a fitted polynomial at one place of its window is a sum of the samples with fixed
    weights [1]_.

    References
    ----------
    .. [1] A. Savitzky, M. J. E. Golay, "Smoothing and Differentiation of Data by Simplified Least
       Squares Procedures", Analytical Chemistry 36, 1964.

    Examples
    --------
    >>> from numbaconv import signal
    >>> signal.savgol_filter([2, 2, 5, 2, 1, 0, 1, 4, 9], 5, 2).round(2)
    array([1.66, 3.17, 3.54, 2.86, 0.66, 0.17, 1.  , 4.  , 9.  ])
    """
    if mode not in _MODES:
        raise ValueError(f"mode must be one of {', '.join(_MODES)}; got {mode!r}")
    x = array_of("x", x)
    if x.dtype not in (np.float32, np.float64):
        x = x.astype(np.float64)
    axis = axis_index(axis, x.ndim)
    length, order, deriv = map(operator.index, (window_length, polyorder, deriv))
    if not 0 <= order < length:
        raise ValueError(f"polyorder must be less than window_length = {length}, got {order}")
    if deriv < 0:
        raise ValueError(f"deriv must be at least 0, got {deriv}")
    scale = 1 / delta**deriv
    middle = _values(length, order, deriv, np.array([(length - 1) / 2]))[0]
    weights = scale * middle[::-1]
    if mode != "interp":
        return convolve1d(x, weights, axis, mode=mode, cval=cval)
    size, half = x.shape[axis], length // 2
    if length > size:
        raise ValueError(f"window_length must be at most {size} under mode 'interp', got {length}")
    y = convolve1d(x, weights, axis, mode="constant")
    signals, results = np.moveaxis(x, axis, 0), np.moveaxis(y, axis, 0)
    begin, end = (
        np.tensordot(scale * _values(length, order, deriv, places), samples, 1).astype(y.dtype)
        for places, samples in (
            (np.arange(half), signals[:length]),
            (np.arange(length - half, length), signals[size - length :]),
        )
    )
    if is_lazy(y):
        return np.moveaxis(np.concatenate([begin, results[half : size - half], end]), 0, axis)
    results[:half], results[size - half :] = begin, end
    return y


def _values(length: int, order: int, deriv: int, places: np.ndarray) -> np.ndarray:
    """The weights of each sample in a derivative of the fitted polynomial, at some places.

    Powers are those of coordinates from -1 to 1, which keeps their matrix well-conditioned.
    """
    middle = (length - 1) / 2
    unit = max(middle, 1.0)
    powers = np.arange(order + 1)
    samples = ((np.arange(length) - middle) / unit)[:, None] ** powers
    falling = np.array([math.perm(p, deriv) for p in powers.tolist()], float)
    left = np.maximum(powers - deriv, 0)
    derivatives = falling * ((places - middle) / unit)[:, None] ** left / unit**deriv
    return np.asarray(derivatives @ np.linalg.pinv(samples))
