"""Gaussian kernels."""

import functools
import numbers
from typing import Any

import numpy as np


def gaussian_radius(sigma: Any, truncate: Any, radius: Any) -> int:
    """Elements on either side of the middle."""
    size = int(truncate * float(sigma) + 0.5) if radius is None else radius
    if not isinstance(size, numbers.Integral) or size < 0:
        raise ValueError("Radius must be a nonnegative integer.")
    return int(size)


def listed_weights(sigma: Any, order: Any, radius: int) -> tuple[float, ...]:
    """Samples as `gaussian_weights` has them; those of the last few calls are kept."""
    try:
        return _kept_weights(sigma, order, radius)
    except TypeError:  # an array of one number is no key
        return tuple(gaussian_weights(sigma, order, radius).tolist())


@functools.lru_cache(maxsize=128, typed=True)
def _kept_weights(sigma: Any, order: Any, radius: int) -> tuple[float, ...]:
    return tuple(gaussian_weights(sigma, order, radius).tolist())


def gaussian_weights(sigma: Any, order: Any, radius: int) -> np.ndarray:
    """Samples of a derivative of the Gaussian, as they are correlated.

    The samples of the Gaussian itself add up to 1. The n-th derivative is q_n(x) times these, with
    q_0 = 1 and q_n+1 = q_n' - x / sigma^2 q_n.
    """
    if order < 0:
        raise ValueError("order must be non-negative")
    x = np.arange(-radius, radius + 1)
    variance = sigma * sigma
    samples: np.ndarray = np.exp(-0.5 / variance * x**2)
    samples = samples / samples.sum()
    if order == 0:
        return samples
    # Coefficients by powers of x; in the very order of SciPy's sums, whose bits are kept.
    powers = np.arange(order + 1)
    step = np.diag(powers[1:], 1) + np.diag(np.ones(order) / -variance, -1)
    q = np.zeros(order + 1)
    q[0] = 1
    for _ in range(order):
        q = step.dot(q)
    derivative: np.ndarray = (x[:, None] ** powers).dot(q) * samples
    return derivative[::-1]
