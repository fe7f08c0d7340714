"""The convolutions and FIR filters of `scipy.signal` under their own names.

Signatures, modes, dtypes and results are SciPy's.

>>> import numpy as np
>>> import numbaconv as nc
>>> nc.signal.convolve([1, 2, 3], [0, 1, 0.5])
array([0. , 1. , 2.5, 4. , 1.5])
>>> noisy = np.random.default_rng(0).normal(size=(2, 1000))
>>> low, state = nc.signal.lfilter(np.full(8, 1 / 8), 1, noisy, zi=np.zeros((2, 7)))
>>> low.shape, state.shape
((2, 1000), (2, 7))

- `convolutions`: two arrays of one rank;
- `streams`: filters that go on from block to block;
- `resampling`: other rates, by phases;
- `savitzky_golay`: polynomials in a window;
- `sums`: what all but the last are made of;
- `extension`: what lies beyond the ends of a signal;
- `arguments`: what the functions take, and refuse.
"""

from numbaconv.signal.convolutions import (
    convolve,
    convolve2d,
    correlate,
    correlate2d,
    fftconvolve,
    oaconvolve,
    sepfir2d,
)
from numbaconv.signal.resampling import resample_poly, upfirdn
from numbaconv.signal.savitzky_golay import savgol_filter
from numbaconv.signal.streams import lfilter

__all__ = [
    "convolve",
    "convolve2d",
    "correlate",
    "correlate2d",
    "fftconvolve",
    "lfilter",
    "oaconvolve",
    "resample_poly",
    "savgol_filter",
    "sepfir2d",
    "upfirdn",
]
