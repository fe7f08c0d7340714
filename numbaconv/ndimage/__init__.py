"""The linear filters of `scipy.ndimage` under their own names, on all cores and vectors.

Signatures, modes, origins, outputs, results and errors are SciPy's. One thing differs: float32 and
float16 images are computed in float32, and float16 is taken at all. Integer results are the same
numbers, cut off as SciPy does; ``rounding="saturate"`` rounds and clips instead.

>>> import numpy as np
>>> import numbaconv as nc
>>> photo = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
>>> soft = nc.ndimage.gaussian_filter(photo, 2, axes=(0, 1))
>>> soft.shape, soft.dtype
((48, 64, 3), dtype('uint8'))

- `filters`: the public functions;
- `arguments`: what they take, and refuse;
- `gaussian`: Gaussian kernels;
- `reach`: how far each filter looks;
- `passes`: the arithmetic, and complex images;
- `missing`: values that are left out;
- `large_kernels`: full kernels of many taps, as convolutions.
"""

from numbaconv.ndimage.filters import (
    convolve,
    convolve1d,
    correlate,
    correlate1d,
    gaussian_filter,
    gaussian_filter1d,
    gaussian_gradient_magnitude,
    gaussian_laplace,
    generic_gradient_magnitude,
    generic_laplace,
    laplace,
    prewitt,
    sobel,
    uniform_filter,
    uniform_filter1d,
)
from numbaconv.ndimage.missing import PreparedMask, prepare_mask

__all__ = [
    "PreparedMask",
    "convolve",
    "convolve1d",
    "correlate",
    "correlate1d",
    "gaussian_filter",
    "gaussian_filter1d",
    "gaussian_gradient_magnitude",
    "gaussian_laplace",
    "generic_gradient_magnitude",
    "generic_laplace",
    "laplace",
    "prepare_mask",
    "prewitt",
    "sobel",
    "uniform_filter",
    "uniform_filter1d",
]
