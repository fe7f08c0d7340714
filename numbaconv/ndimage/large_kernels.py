"""Large full kernels are convolutions, whose register tiles read each pixel once for many sums.

A pixel of the walks of `cpu.separable` is loaded for each product.
"""

import math
from typing import Any

import numpy as np

from numbaconv._imports import Later
from numbaconv.cpu.separable.borders import CONSTANT, MIRROR, NEAREST, REFLECT, WRAP
from numbaconv.cpu.separable.execution import readable
from numbaconv.cpu.separable.planning import Kernel

convolve = Later("numbaconv.dispatch.host", "convolve")
find_plan = Later("numbaconv.problem.plan", "find_plan")

# Fewer taps take about as long in a walk, whose kernels compile sooner.
LEAST_TAPS = 25

MOST_AXES = 3

PADDING_MODES = {
    CONSTANT: "zeros",
    NEAREST: "replicate",
    WRAP: "circular",
    REFLECT: "symmetric",
    MIRROR: "reflect",
}


def is_large(kernel: Kernel, constant: float) -> bool:
    """Whether a kernel is convolved: it has all its taps, and they are finite.

    Products with zero are left out as SciPy does, and those with padding of zeros here.
    """
    taps = math.prod(kernel.window)
    finite = all(map(math.isfinite, (*kernel.weights, constant)))
    return len(kernel.weights) == taps >= LEAST_TAPS and finite


def correlate_large(
    image: np.ndarray, out: np.ndarray, kernel: Kernel, constant: float, compute: np.dtype[Any]
) -> bool:
    """Correlate an image with a large kernel into `out`; False if a walk has to do it.

    That is so where arrays would be copied, and where colours lie behind the kernel's axes: as
    channels they take no less time. Axes before those of the kernel are images.
    """
    if not is_large(kernel, constant):
        return False
    first, last = kernel.axes[0], kernel.axes[-1] + 1
    dense = image.flags.c_contiguous and out.flags.c_contiguous
    fits = last == image.ndim <= first + MOST_AXES and image.size
    plain = out.dtype == compute and not np.may_share_memory(image, out)
    if not (dense and fits and plain):
        return False
    windows = dict(zip(kernel.axes, zip(kernel.window, kernel.before, strict=True), strict=True))
    sizes = [windows.get(axis, (1, 0)) for axis in range(first, last)]
    shape = -1, 1, *image.shape[first:]
    weights = np.array(kernel.weights, compute).reshape(1, 1, *(size for size, _ in sizes))
    x = readable(image).reshape(shape)
    pairs = tuple((before, size - 1 - before) for size, before in sizes)
    value = constant if kernel.mode == CONSTANT else 0.0
    words = PADDING_MODES[kernel.mode], "channels_first", None, value, None
    plan = find_plan(x, weights, None, (1, pairs, 1, 1, *words))
    convolve(plan, "direct", x, weights, None, out.reshape(shape))
    return True
