"""What SciPy refuses is refused, with an error of the same type."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import numbaconv as nc

scipy_ndimage = pytest.importorskip("scipy.ndimage")

X = np.arange(24.0).reshape(2, 3, 4)
W = np.ones((3, 3, 3))
READ_ONLY = np.zeros_like(X)
READ_ONLY.flags.writeable = False

CALLS: dict[str, Callable[[Any], Any]] = {
    "no weights": lambda m: m.correlate1d(X, []),
    "weights of two axes": lambda m: m.correlate1d(X, np.ones((3, 3))),
    "a single weight without axes": lambda m: m.convolve1d(X, 3.0),
    "axis outside": lambda m: m.correlate1d(X, [1, 2], axis=3),
    "axis that is no integer": lambda m: m.correlate1d(X, [1, 2], axis=1.5),
    "axis of a scalar": lambda m: m.sobel(np.array(3.0)),
    "unknown mode": lambda m: m.correlate1d(X, [1, 2], mode="symmetric"),
    "mode of another type": lambda m: m.gaussian_filter1d(X, 1, mode=3),
    "modes of one axis": lambda m: m.uniform_filter1d(X, 3, mode=["reflect"]),
    "modes too few": lambda m: m.gaussian_filter(X, 1, mode=["reflect", "wrap"]),
    "modes of a kernel": lambda m: m.correlate(X, W, mode=["reflect"] * 3),
    "origin outside": lambda m: m.correlate1d(X, [1, 2, 3], origin=2),
    "origin outside, before": lambda m: m.correlate1d(X, [1, 2, 3], origin=-2),
    "origin of a kernel": lambda m: m.convolve(X, W, origin=(0, 2, 0)),
    "origins too few": lambda m: m.convolve(X, W, origin=(0, 1)),
    "origin that is no integer": lambda m: m.correlate1d(X, [1, 2, 3], origin=0.5),
    "origin of a box": lambda m: m.uniform_filter1d(X, 3, origin=2),
    "size of a box": lambda m: m.uniform_filter1d(X, 0),
    "size that is no integer": lambda m: m.uniform_filter1d(X, 2.5),
    "sizes too few": lambda m: m.uniform_filter(X, (3, 3)),
    "kernel of another rank": lambda m: m.correlate(X, np.ones((3, 3))),
    "kernel of other axes": lambda m: m.correlate(X, np.ones((3, 3)), axes=(0,)),
    "empty kernel": lambda m: m.correlate(X, np.ones((3, 0, 3))),
    "axes twice": lambda m: m.gaussian_filter(X, 1, axes=(0, 0)),
    "axes outside": lambda m: m.gaussian_filter(X, 1, axes=(0, 3)),
    "axes that are no integers": lambda m: m.gaussian_filter(X, 1, axes=(0.5,)),
    "axes of another type": lambda m: m.gaussian_filter(X, 1, axes=object()),
    "sigmas too few": lambda m: m.gaussian_filter(X, (1, 2)),
    "sigmas of some axes": lambda m: m.gaussian_gradient_magnitude(X, (1, 2), axes=(0, 2)),
    "sigma that is no number": lambda m: m.gaussian_filter1d(X, "wide"),
    "negative order": lambda m: m.gaussian_filter1d(X, 1, order=-1),
    "negative radius": lambda m: m.gaussian_filter1d(X, 1, radius=-1),
    "radius that is no integer": lambda m: m.gaussian_filter1d(X, 1, radius=1.5),
    "output of another shape": lambda m: m.sobel(X, output=np.zeros((2, 3))),
    "output that is read-only": lambda m: m.sobel(X, output=READ_ONLY),
    "output of a name that is no dtype": lambda m: m.sobel(X, output="single precision"),
    "output of a dtype without numbers": lambda m: m.sobel(X, output="bool"),
    "complex output of a real image": lambda m: m.correlate(X, W, output=np.complex64),
    "real output of a complex image": lambda m: m.sobel(1j * X, output=np.zeros(X.shape)),
    "real output of complex weights": lambda m: m.correlate(X, 1j * W, output="float64"),
    "complex constant": lambda m: m.correlate1d(X, [1, 2], mode="constant", cval=1j),
    "complex constant, complex weights": lambda m: m.correlate1d(X, [1j, 2], cval=1j),
    "constant that is no number": lambda m: m.correlate1d(X, [1, 2], cval="zero"),
    "weights that are no numbers": lambda m: m.correlate1d(X, ["a", "b"]),
    "image of objects": lambda m: m.correlate1d(X.astype(object), [1, 2]),
    "image of text": lambda m: m.gaussian_filter(np.array(["a", "b"]), 1),
    "image of dates": lambda m: m.sobel(np.zeros(5, "M8[s]")),
    "image of long doubles": lambda m: m.correlate1d(X.astype(np.longdouble), [1, 2]),
}


def refusal(call: Callable[[Any], Any], module: Any) -> BaseException:
    """The error of a call."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(Exception) as raised:  # noqa: PT011 (its type is what is asked for)
            call(module)
    return raised.value


@pytest.mark.parametrize("name", CALLS)
def test_the_same_error(name: str):
    if name == "image of long doubles" and np.longdouble is np.float64:
        pytest.skip("no longer than double")
    expected, got = (refusal(CALLS[name], module) for module in (scipy_ndimage, nc.ndimage))
    assert isinstance(got, type(expected)), (got, expected)
    assert str(got)


def test_colours_are_told_to_pass_axes():
    with pytest.raises(RuntimeError, match=r"3 axes, none empty; pass axes=\(0, 1\)$"):
        nc.ndimage.correlate(np.ones((8, 8, 3)), np.ones((3, 3)))
    with pytest.raises(RuntimeError, match=r"1 axes, none empty$"):
        nc.ndimage.correlate(np.ones(8), np.ones((3, 3)))


def test_rounding_is_one_of_two():
    for name, arguments in {"gaussian_filter": (1,), "correlate": (W,), "sobel": ()}.items():
        with pytest.raises(ValueError, match="rounding must be 'truncate' or 'saturate', not 'up'"):
            getattr(nc.ndimage, name)(X, *arguments, rounding="up")


def test_nothing_is_written_before_a_refusal():
    out = np.full(X.shape, 7.0)
    with pytest.raises(RuntimeError, match="mode"):
        nc.ndimage.gaussian_filter(X, 1, output=out, mode="none")
    with pytest.raises(RuntimeError, match="not supported"):
        nc.ndimage.correlate(X.astype(object), W, output=out)
    assert (out == 7).all()
