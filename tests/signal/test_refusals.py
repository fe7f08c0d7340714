"""What SciPy refuses is refused, with an error of the same type; and what it should refuse."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import numbaconv as nc

scipy_signal = pytest.importorskip("scipy.signal")

X, Y, W = np.arange(12.0).reshape(3, 4), np.arange(9.0), np.ones((2, 2))

CALLS: dict[str, Callable[[Any], Any]] = {
    "ranks": lambda s: s.convolve(X, Y),
    "ranks, correlated": lambda s: s.correlate(X, 3),
    "empty": lambda s: s.convolve(Y, []),
    "empty image": lambda s: s.convolve(X[:0], W),
    "no mode": lambda s: s.convolve(Y, Y, "most"),
    "no mode, correlated": lambda s: s.correlate(X, W, 2),
    "no method": lambda s: s.convolve(Y, Y, method="slow"),
    "neither inside": lambda s: s.convolve(X, np.ones((4, 2)), "valid"),
    "no transform's mode": lambda s: s.fftconvolve(X, W, "most"),
    "no axes": lambda s: s.fftconvolve(X, W, axes=()),
    "an axis twice": lambda s: s.oaconvolve(X, W, axes=(0, 0)),
    "an axis outside": lambda s: s.fftconvolve(X, W, axes=2),
    "an axis that is no integer": lambda s: s.fftconvolve(X, W, axes=0.5),
    "axes that do not fit": lambda s: s.fftconvolve(X, W, axes=0),
    "neither inside along axes": lambda s: s.fftconvolve(X, np.ones((4, 2)), "valid", (0, 1)),
    "three axes": lambda s: s.convolve2d(X[None], W[None]),
    "no image's mode": lambda s: s.convolve2d(X, W, "most"),
    "no boundary": lambda s: s.convolve2d(X, W, boundary="mirror"),
    "neither inside, images": lambda s: s.correlate2d(X, np.ones((4, 2)), "valid"),
    "a complex constant": lambda s: s.convolve2d(X, W, fillvalue=1j),
    "two constants": lambda s: s.convolve2d(X, W, fillvalue=[1, 2]),
    "a constant that is a word": lambda s: s.convolve2d(X, W, fillvalue="zero"),
    "a constant below": lambda s: s.convolve2d(X.astype("u1"), W.astype("u1"), fillvalue=-1),
    "an even kernel": lambda s: s.sepfir2d(X, Y[:2], Y[:1]),
    "a signal as image": lambda s: s.sepfir2d(Y, Y[:1], Y[:1]),
    "kernels of more digits": lambda s: s.sepfir2d(X.astype("f4"), Y[:1], Y[:1]),
    "no coefficients": lambda s: s.upfirdn([], Y),
    "coefficients of two axes": lambda s: s.upfirdn(W, Y),
    "no rate": lambda s: s.upfirdn(Y, Y, 0),
    "no rate down": lambda s: s.upfirdn(Y, Y, 1, -1),
    "no extension": lambda s: s.upfirdn(Y, Y, mode="mirror"),
    "an extension that is no word": lambda s: s.upfirdn(Y, Y, mode=3),
    "a complex value outside": lambda s: s.upfirdn(Y, Y, cval=1j),
    "objects": lambda s: s.upfirdn(Y, Y.astype(object)),
    "a broken rate": lambda s: s.resample_poly(Y, 2.5, 1),
    "no new rate": lambda s: s.resample_poly(Y, 1, 0),
    "no padtype": lambda s: s.resample_poly(Y, 2, 1, padtype="mode"),
    "cval of no constant": lambda s: s.resample_poly(Y, 2, 1, padtype="mean", cval=1),
    "a window of two axes": lambda s: s.resample_poly(Y, 2, 1, window=W),
    "no window": lambda s: s.resample_poly(Y, 2, 1, window="glass"),
    "a high order": lambda s: s.savgol_filter(Y, 5, 5),
    "a long window": lambda s: s.savgol_filter(Y, 11, 2),
    "no savgol mode": lambda s: s.savgol_filter(Y, 5, 2, mode="reflect"),
    "no b": lambda s: s.lfilter([], 1, Y),
    "b of two axes": lambda s: s.lfilter(W, 1, Y),
    "no a": lambda s: s.lfilter([1.0], [], Y),
    "a number as x": lambda s: s.lfilter([1.0], 1, 3.0),
    "an empty x": lambda s: s.lfilter([1.0], 1, Y[:0]),
    "axis outside": lambda s: s.lfilter([1.0], 1, Y, axis=1),
    "integers": lambda s: s.lfilter([1, 2], 1, np.arange(5)),
    "a state of another rank": lambda s: s.lfilter([1.0, 2.0], 1, X, zi=[1.0]),
    "a state of another length": lambda s: s.lfilter([1.0, 2.0], 1, Y, zi=[1.0, 2.0]),
    "a state that is stretched": lambda s: s.lfilter([1.0, 2.0, 3.0], 1, Y, zi=[1.0]),
    "states of other channels": lambda s: s.lfilter([1.0, 2.0], 1, X, zi=np.ones((2, 1))),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_same_error(name: str):
    errors = []
    for module in (scipy_signal, nc.signal):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(Exception) as raised:  # noqa: PT011 (its type is what is asked for)
                CALLS[name](module)
        errors.append(raised.value)
    assert isinstance(errors[1], type(errors[0])), errors
    assert str(errors[1])


def test_feedback_is_work_for_scipy():
    with pytest.raises(NotImplementedError, match=r"scipy\.signal\.lfilter"):
        nc.signal.lfilter([1.0], [1.0, 0.5], Y)


@pytest.mark.parametrize("dtype", [object, np.longdouble, "U3", "M8[s]"])
def test_dtypes_without_kernels(dtype: Any):
    if dtype is np.longdouble and np.longdouble is np.float64:
        pytest.skip("no longer than double")
    with pytest.raises(TypeError, match="in2 has dtype"):
        nc.signal.convolve(Y, np.zeros(3, dtype))


def test_kernels_that_are_longer_than_the_image():
    """SciPy reads and writes outside of its memory: here mirror images repeat."""
    x = np.random.default_rng(0).normal(size=(3, 5))
    h = np.random.default_rng(1).normal(size=17)
    wide = np.pad(x, ((0, 0), (8, 8)), "symmetric")
    expected = np.array([np.convolve(row, h, "valid") for row in wide])
    np.testing.assert_allclose(nc.signal.sepfir2d(x, h, [1.0]), expected, rtol=1e-12, atol=1e-12)
