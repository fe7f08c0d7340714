"""The functions applied where an output is stored."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import numbaconv as nc
from tests.oracle import reference
from tests.oracle.cases import BY_NAME, REDUCED, Array, Case, integer_arrays, normal_arrays


def sigmoid(y: Array) -> Array:
    return 0.5 + 0.5 * np.tanh(y / 2)


def softplus(y: Array) -> Array:
    return np.maximum(y, 0) + np.log1p(np.exp(-np.abs(y)))


def normal(y: Array) -> Array:
    """Probability that a normal variable is below y."""
    return np.vectorize(math.erf, otypes=[float])(y / np.sqrt(2)) / 2 + 0.5


# Each as its definition in wide arithmetic. None is steeper than 1.2 except hardswish, at 1.5.
DEFINITIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda y: np.maximum(y, 0),
    "relu6": lambda y: np.clip(y, 0, 6),
    "silu": lambda y: y * sigmoid(y),
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "hardswish": lambda y: y * np.clip(y + 3, 0, 6) / 6,
    "leaky_relu": lambda y: np.where(y < 0, 0.01 * y, y),
    "gelu": lambda y: y * normal(y),
    "gelu_tanh": lambda y: y * sigmoid(2 * np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)),
    "mish": lambda y: y * np.tanh(softplus(y)),
    "softplus": softplus,
}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("activation", DEFINITIONS)
@pytest.mark.parametrize("case", REDUCED, ids=str)
def test_against_the_definition(case: Case, activation: str, dtype: str, backend: str):
    """Within the bound of the sum, as far as the function passes it on, and 8 more roundings."""
    operands = normal_arrays(case, dtype)
    y = nc.conv(*operands, **case.kwargs, activation=activation, backend=backend)
    expected = DEFINITIONS[activation](reference.conv(*operands, **case.kwargs))
    bound = 1.5 * reference.error_bound(*operands, **case.kwargs)
    bound += 8 * (reference.unit_roundoff(np.dtype(dtype)) * np.abs(expected) + 2.0**-53)
    assert y.shape == expected.shape
    assert y.dtype == dtype
    assert np.all(np.abs(y - expected) <= bound)


@pytest.mark.parametrize("activation", ["relu", "relu6"])
@pytest.mark.parametrize("case", REDUCED, ids=str)
def test_exact(case: Case, activation: str, backend: str):
    operands = integer_arrays(case)
    y = nc.conv(*operands, **case.kwargs, activation=activation, backend=backend)
    expected = DEFINITIONS[activation](reference.conv(*operands, **case.kwargs))
    assert np.any(expected == 0)
    assert np.any(expected > 0)
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("activation", DEFINITIONS)
def test_extremes(activation: str, backend: str):
    """Large arguments saturate without a NaN; NaN stays NaN."""
    x = np.array([[[-1e30, -200.0, -3, -0.0, 0, 3, 6, 200, 1e30, np.nan]]], np.float32)
    y = nc.conv1d(x, np.ones((1, 1, 1), np.float32), activation=activation, backend=backend)[0, 0]
    expected = DEFINITIONS[activation](x[0, 0].astype(np.float64))
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)
    assert np.isnan(y).tolist() == [False] * 9 + [True]


def test_applied_without_input_channels(backend: str):
    """Sums of nothing are the bias, and are outputs like any other."""
    x, w = np.zeros((2, 0, 5, 7), np.float32), np.zeros((2, 0, 3, 3), np.float32)
    b = np.array([-2, 8], np.float32)
    y = nc.conv2d(x, w, b, activation="relu6", backend=backend)
    assert np.unique(y[:, 0]).tolist() == [0]
    assert np.unique(y[:, 1]).tolist() == [6]


def test_after_the_bias_and_into_out(backend: str):
    case = BY_NAME["last_batch_bias"]
    x, w, b = integer_arrays(case)
    around = np.full((*case.output[:-1], 2 * case.output[-1]), np.nan, np.float32)
    out = around[..., ::2]
    nc.conv(x, w, b, **case.kwargs, activation="relu", out=out, backend=backend)
    np.testing.assert_array_equal(out, np.maximum(reference.conv(x, w, b, **case.kwargs), 0))
    assert np.all(np.isnan(around[..., 1::2]))


@pytest.mark.parametrize("dtype", ["int8", "uint32", "complex64"])
@pytest.mark.parametrize("activation", DEFINITIONS)
def test_only_of_real_floats(activation: str, dtype: str, backend: str):
    x, w, _ = integer_arrays(BY_NAME["worked_example"], dtype)
    with pytest.raises((TypeError, ValueError), match=rf"\bactivation\b[\s\S]*{dtype}"):
        nc.conv2d(x, w, activation=activation, backend=backend)


def test_unknown_names_list_the_known():
    x: Any = np.ones((1, 1, 4, 4), np.float32)
    with pytest.raises(ValueError, match=r"\bactivation\b") as refusal:
        nc.conv2d(x, x, activation="rel")
    for name in ("rel", *DEFINITIONS):
        assert name in str(refusal.value)
