"""The same calls in SciPy: random ones, and what one reads about its corners."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import numbaconv as nc
from tests.ndimage.draws import Call, draw_call

scipy_ndimage = pytest.importorskip("scipy.ndimage")

SEEDS = 24  # of so many calls each
CALLS = 15


def growth(call: Call) -> float:
    """How far sums may be from one another: terms of either sign, of the largest size."""
    weights = 1.0
    if call.arguments and isinstance(call.arguments[0], np.ndarray):
        weights = float(np.abs(call.arguments[0]).sum())
    elif call.name.startswith("gaussian"):
        weights = 40.0  # derivatives at a small sigma
    elif call.name in ("sobel", "prewitt", "laplace"):
        weights = 2.0 * 4.0**call.image.ndim
    values = call.image.astype(np.complex128 if call.image.dtype.kind == "c" else np.float64)
    largest = max(float(np.abs(values).max()), abs(call.options.get("cval", 0)))
    return weights * largest


def check(call: Call) -> None:
    """Compare with SciPy: integers exactly, others as far as rounding explains."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        expected = getattr(scipy_ndimage, call.name)(call.image, *call.arguments, **call.options)
        got = getattr(nc.ndimage, call.name)(call.image, *call.arguments, **call.options)
    assert got.dtype == expected.dtype, call
    if expected.dtype.kind in "biu":
        np.testing.assert_array_equal(
            got.view(np.uint8), expected.view(np.uint8), err_msg=str(call)
        )
        return
    single = np.result_type(call.image.dtype, np.float16).itemsize // (
        2 if call.image.dtype.kind == "c" else 1
    ) <= 4 or expected.dtype in (np.float32, np.complex64)
    unit = float(np.finfo(np.float32 if single else np.float64).eps)
    atol = 8 * unit * growth(call)
    if call.name == "gaussian_gradient_magnitude":
        atol = np.sqrt(unit) * growth(call) * 0.1 if not single else atol * 40
    np.testing.assert_allclose(got, expected, rtol=0, atol=atol, err_msg=str(call))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_calls(seed: int):
    for number in range(CALLS):
        check(draw_call(f"{seed}/{number}"))


@pytest.mark.stress
@pytest.mark.parametrize("seed", range(1000, 1100))
def test_many_random_calls(seed: int):
    for number in range(50):
        check(draw_call(f"{seed}/{number}"))
