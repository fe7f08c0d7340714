"""The same calls in SciPy: random ones, and what one reads about its corners."""

from __future__ import annotations

import inspect
import platform
import warnings
from typing import Any

import numpy as np
import pytest

import numbaconv as nc
from tests.ndimage.draws import Call, draw_call

scipy_ndimage = pytest.importorskip("scipy.ndimage")

SEEDS = 24  # of so many calls each
CALLS = 100


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


FILTERS = sorted(set(nc.ndimage.__all__) - {"PreparedMask", "prepare_mask"})


@pytest.mark.parametrize("name", FILTERS)
def test_signature(name: str):
    """SciPy's parameters in its order, and others by keyword."""
    ours, theirs = (
        inspect.signature(getattr(module, name)).parameters
        for module in (nc.ndimage, scipy_ndimage)
    )
    more = [p for p in ours.values() if p.name in ("rounding", "nan", "mask", "min_weight")]
    parameters = [(p.name, p.kind, p.default) for p in ours.values() if p not in more]
    assert parameters == [(p.name, p.kind, p.default) for p in theirs.values()]
    assert {p.kind for p in more} <= {inspect.Parameter.KEYWORD_ONLY}


def smooth_difference(
    x: Any, axis: int, output: Any, mode: str, cval: float, shift: int, *, scale: float
) -> Any:
    """A derivative of one's own, in the form that both libraries take."""
    del output
    return scale * np.roll(np.asarray(x, float), shift, axis) - x + cval * (mode == "wrap")


def second_difference(m: Any) -> Any:
    """A derivative that stores into the output that it is given, with the library's own filter."""

    def derivative(x: Any, axis: int, output: Any, mode: str, cval: float) -> Any:
        return m.correlate1d(x, [1, -2, 1.5], axis, output, mode, cval)

    return derivative


@pytest.mark.parametrize("axes", [None, (0, 2), (1,), ()])
@pytest.mark.parametrize("output", [None, "float32", int])
def test_derivatives_of_ones_own(axes: Any, output: Any):
    x = np.random.default_rng(0).normal(size=(5, 6, 7)) * 10
    modes: Any = "mirror" if axes is None else ["wrap"] * len(axes)
    for name in ("generic_laplace", "generic_gradient_magnitude"):
        results = [
            getattr(m, name)(x, second_difference(m), output, modes, 1.0, axes=axes)
            for m in (scipy_ndimage, nc.ndimage)
        ]
        assert results[0].dtype == results[1].dtype
        np.testing.assert_allclose(results[1], results[0], rtol=1e-5)
        extra: Any = {"extra_arguments": (2,), "extra_keywords": {"scale": 0.5}, "axes": axes}
        results = [
            getattr(m, name)(x, smooth_difference, **extra) for m in (scipy_ndimage, nc.ndimage)
        ]
        np.testing.assert_allclose(results[1], results[0], rtol=1e-12)


def test_what_integers_cannot_hold_wraps_as_in_scipy():
    """C leaves it undefined; on x86-64 both do the same. On Arm what is negative becomes 0."""
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("SciPy's casts are this machine's")
    x = np.random.default_rng(0).integers(0, 256, (40, 60)).astype(np.uint8)
    for name, arguments in {
        "sobel": (), "prewitt": (0,), "laplace": (), "gaussian_laplace": (1,),
        "gaussian_gradient_magnitude": (1,), "correlate": (np.arange(-4, 5).reshape(3, 3),),
    }.items():  # fmt: skip
        # Roots of what has become negative are no numbers.
        outputs = (None, np.uint32) if "magnitude" in name else (None, np.int8, np.int16, np.uint32)
        for output in outputs:
            results = [
                getattr(m, name)(x, *arguments, output=output) for m in (scipy_ndimage, nc.ndimage)
            ]
            np.testing.assert_array_equal(results[1], results[0], err_msg=f"{name} {output}")


def test_bits_of_float64_are_those_of_scipy():
    """Where SciPy's compiler does not fuse multiply-adds: those of 64-bit Arm do."""
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("SciPy is compiled with fused multiply-adds")
    x = np.random.default_rng(0).normal(size=(30, 40))
    calls: dict[str, Any] = {
        "gaussian_filter": (1.5,),
        "gaussian_filter1d": (1.5, 0, 1),
        "correlate1d": (x[0, :7],),
        "correlate": (x[:5, :4],),
    }
    for name, arguments in calls.items():
        results = [getattr(m, name)(x, *arguments) for m in (scipy_ndimage, nc.ndimage)]
        np.testing.assert_array_equal(results[1], results[0])
