"""The same calls in SciPy: random ones."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import numpy as np
import pytest

import numbaconv as nc
from tests.signal.draws import DRAWS, Call, draw_call

scipy_signal = pytest.importorskip("scipy.signal")

CALLS = 40  # of each function


def largest_sum(call: Call) -> float:
    """How large sums of products can be."""
    arrays = [np.asarray(a) for a in call.arguments if isinstance(a, np.ndarray | list)]
    size = 1.0
    if call.name in ("resample_poly", "savgol_filter"):
        size = 40.0 * max(call.options.get("delta", 1), 1 / call.options.get("delta", 1)) ** 2
        if call.name == "savgol_filter":
            size *= 100  # SciPy finds the weights by powers of the samples' numbers
        arrays += [w for w in [call.options.get("window")] if isinstance(w, np.ndarray)]
    elif call.name != "sepfir2d":
        repeats = call.options.get("boundary", "fill") != "fill"  # then sums are over the larger
        arrays.sort(key=np.size, reverse=repeats)
        size = float(np.abs(arrays[0].astype(complex)).sum()) + 1
        arrays = arrays[1:]
    for each in arrays:
        size *= float(np.abs(each.astype(complex)).max()) + 4 * call.name.startswith("res") + 1
    # Straight lines go on from the ends, up to as far as a filter reaches.
    return size * (100 if call.options.get("mode") in ("smooth", "line", "antireflect") else 1)


def check(call: Call) -> None:
    """Compare with SciPy: integers exactly, others as far as rounding explains."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        expected = getattr(scipy_signal, call.name)(*call.arguments, **call.options)
        got = getattr(nc.signal, call.name)(*call.arguments, **call.options)
    if isinstance(expected, tuple):
        assert len(got) == len(expected), call
    else:
        expected, got = (expected,), (got,)
    for a, b in zip(expected, got, strict=True):
        assert a.dtype == b.dtype, (call, a.dtype, b.dtype)
        assert a.shape == b.shape, (call, a.shape, b.shape)
        if a.dtype.kind in "biu":
            np.testing.assert_array_equal(b, a, err_msg=str(call))
            continue
        values = (*call.arguments, call.options.get("window"), a)
        single = any(np.asarray(each).dtype.char in "fF" for each in values)
        unit = float(np.finfo(np.float32 if single else np.float64).eps)
        atol = 16 * unit * largest_sum(call)
        np.testing.assert_allclose(b, a, rtol=0, atol=atol, err_msg=str(call))


@pytest.mark.parametrize("name", DRAWS)
def test_random_calls(name: str):
    for number in range(CALLS):
        check(draw_call(name, str(number)))


@pytest.mark.stress
@pytest.mark.parametrize("block", range(10))
@pytest.mark.parametrize("name", DRAWS)
def test_many_random_calls(name: str, block: int):
    for number in range(100):
        check(draw_call(name, f"{block}/{number}"))


@pytest.mark.parametrize("name", nc.signal.__all__)
def test_signature(name: str):
    """SciPy's parameters, in its order."""
    if name == "sepfir2d":
        assert list(inspect.signature(nc.signal.sepfir2d).parameters) == ["input", "hrow", "hcol"]
        return
    ours, theirs = (
        [
            (p.name, p.kind, p.default)
            for p in inspect.signature(getattr(module, name)).parameters.values()
        ]
        for module in (nc.signal, scipy_signal)
    )
    assert ours == theirs


def test_every_function_is_drawn():
    assert set(DRAWS) == set(nc.signal.__all__)


def test_draws_differ():
    calls: list[Any] = [str(draw_call(name, "0")) for name in DRAWS]
    assert len(set(calls)) == len(calls)
