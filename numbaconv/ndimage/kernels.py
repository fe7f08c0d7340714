"""Full kernels: their place around each element, their taps, and those that are passes."""

import math
from typing import Any

import numpy as np

from numbaconv.cpu.separable.planning import Kernel, Pass
from numbaconv.ndimage.arguments import check_origin, sequence

# Weights that SciPy takes for nothing, so that NaN under them does not spread.
EPSILON = np.finfo(np.float64).eps

# How far products of factors may be from a kernel that is taken apart, relative to each weight, in
# units in the last place of the image's dtype: of the size of the error of sums.
TOLERANCE = 4


def window_of(
    image: np.ndarray, weights: Any, origin: Any, places: tuple[int, ...], turned: bool
) -> tuple[np.ndarray, list[int]]:
    """Real weights with all axes of an image, as they are correlated, and their origins.

    The axes of weights are those of the image in its own order, and origins in the caller's.
    """
    weights = np.asarray(weights, np.float64)
    origins = sequence(origin, len(places), "origin")
    if weights.ndim != len(places) or not weights.size:
        hint = f"; pass axes={places[:-1]}" if weights.ndim == len(places) - 1 > 0 else ""
        raise RuntimeError(
            f"weights: {weights.shape} must have an axis for each of {len(places)} axes, none empty"
            + hint
        )
    if len(places) < image.ndim:
        weights = np.expand_dims(weights, [i for i in range(image.ndim) if i not in places])
        given = dict(zip(places, origins, strict=True))
        origins = [given.get(i, 0) for i in range(image.ndim)]
    if turned:
        weights = np.flip(weights)
        origins = [-o - (n % 2 == 0) for o, n in zip(origins, weights.shape, strict=True)]
    checked = [check_origin(o, n) for o, n in zip(origins, weights.shape, strict=True)]
    return weights, checked


def kernel_of(weights: np.ndarray, origins: list[int], mode: int) -> Kernel | None:
    """The taps of weights that are not nothing; None if all are."""
    axes = tuple(i for i, n in enumerate(weights.shape) if n > 1)
    window = tuple(weights.shape[i] for i in axes)
    places = np.argwhere(np.abs(weights) > EPSILON)
    if not len(places):
        return None
    return Kernel(
        axes,
        tuple(map(tuple, places[:, axes].tolist())),
        tuple(weights[tuple(places.T)].tolist()),
        window,
        tuple(weights.shape[i] // 2 + origins[i] for i in axes),
        mode,
    )


def factors(
    weights: np.ndarray, origins: list[int], mode: int, dtype: np.dtype[Any]
) -> list[Pass] | None:
    """The passes of a kernel that is a product of one-dimensional ones, if they are less work.

    Of a kernel with zeros there are none: under these NaN does not spread.
    """
    axes = [i for i, n in enumerate(weights.shape) if n > 1]
    sizes = [weights.shape[i] for i in axes]
    if len(axes) < 2 or math.prod(sizes) < 2 * sum(sizes) or np.abs(weights).min() <= EPSILON:
        return None
    middle = np.unravel_index(np.abs(weights).argmax(), weights.shape)
    lines, product = [], np.array(weights[middle])
    for axis in axes:
        place: list[Any] = list(middle)
        place[axis] = slice(None)
        line = weights[tuple(place)]
        lines.append(line if axis == axes[0] else line / weights[middle])
        shape = [1] * weights.ndim
        shape[axis] = -1
        product = product * (line / weights[middle]).reshape(shape)
    unit = max(np.finfo(dtype).eps, EPSILON)
    if not (np.abs(product - weights) <= TOLERANCE * unit * np.abs(weights)).all():  # or NaN
        return None
    return [
        Pass(axis, tuple(line.tolist()), len(line) // 2 + origins[axis], mode)
        for axis, line in zip(axes, lines, strict=True)
    ]
