"""How far activations that need the exponential function are off, over all exponents.

A filter of a single 1 hands each input to the activation as it is. An error is counted in units in
the last place of the exact value.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, localcontext

import numpy as np
import pytest

import numbaconv as nc
from tests.oracle.cases import Array

pytestmark = pytest.mark.target

# Units in the last place. Those of gelu_tanh are for values of the cubic from 0 on; below, the
# exponential of a rounded number is further off the larger that is.
BOUNDS = {
    "sigmoid": 2.0,
    "tanh": 2.0,
    "silu": 2.0,
    "softplus": 3.0,
    "mish": 5.0,
    "gelu": 8.0,
    "gelu_tanh": 3.0,
}
SLOPE = 3.0  # and so many units more for each unit of the cubic below 0
FACTOR = 2 * math.sqrt(2 / math.pi)


def cubic(x: Array) -> Array:
    return FACTOR * (x + 0.044715 * x**3)


def bound(name: str, x: Array) -> Array:
    """Units in the last place that are allowed."""
    steepness = np.maximum(-cubic(x), 0) if name == "gelu_tanh" else np.zeros_like(x)
    return BOUNDS[name] + SLOPE * steepness


def applied(name: str, x: Array) -> Array:
    """An activation of numbers."""
    return nc.conv1d(x[None, None], np.ones((1, 1, 1), x.dtype), activation=name)[0, 0]


# --- float32 beside float64 --------------------------------------------------------------------


def sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def mish(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    less, more = e * (e + 2), 1 + 2 * e
    return x * np.where(x < 0, less / (less + 2), more / (more + 2 * e * e))


def normal(x: Array) -> Array:
    return np.array([math.erfc(-each / math.sqrt(2)) / 2 for each in x])


WIDE: dict[str, Callable[[Array], Array]] = {
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "silu": lambda x: x * sigmoid(x),
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    "mish": mish,
    "gelu": lambda x: x * normal(x),
    "gelu_tanh": lambda x: x * sigmoid(cubic(x)),
}


def all_exponents() -> Array:
    """Numbers whose bits are some thousand apart: each sign and exponent has thousands of them."""
    x = np.arange(0, 1 << 32, 1999, dtype=np.uint64).astype(np.uint32).view(np.float32)
    return x[np.isfinite(x)]


@pytest.mark.parametrize("name", BOUNDS)
def test_float32(name: str):
    x = all_exponents()
    assert x.size > 2_000_000
    y = applied(name, x)
    wide = x.astype(np.float64)
    with np.errstate(all="ignore"):
        expected = np.where(np.abs(wide) < 500, WIDE[name](np.clip(wide, -500, 500)), 0)
        unit = np.spacing(np.abs(expected).astype(np.float32)).astype(np.float64)
        far = np.abs(y - expected) / unit > bound(name, wide)
    far &= np.abs(wide) < 500
    assert not far.any(), (x[far][:5], y[far][:5], expected[far][:5])
    np.testing.assert_array_equal(y[x <= -500], -1 if name == "tanh" else 0)
    ones = name in ("sigmoid", "tanh")
    np.testing.assert_array_equal(y[x >= 500], 1 if ones else x[x >= 500])


# --- float64 beside decimal arithmetic ---------------------------------------------------------

PI = Decimal(
    "3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803"
)


def decimal_normal(x: Decimal) -> Decimal:
    """Probability that a normal variable is below x."""
    t, density = abs(x), (-x * x / 2).exp() / (2 * PI).sqrt()
    if t < 9:
        term, total, k = t, t, 1
        while term > Decimal("1e-90"):
            k += 2
            term *= t * t / k
            total += term
        return Decimal("0.5") + (density * total if x > 0 else -density * total)
    denominator = t
    for k in range(150, 0, -1):
        denominator = t + k / denominator
    tail = density / denominator
    return 1 - tail if x > 0 else tail


def decimal_tanh(x: Decimal) -> Decimal:
    e = (2 * x).exp()
    return (e - 1) / (e + 1)


def decimal_gelu_tanh(x: Decimal) -> Decimal:
    z = 2 * (2 / PI).sqrt() * (x + Decimal("0.044715") * x**3)
    return x / (1 + (-z).exp()) if x > -30 else x * z.exp()


EXACT: dict[str, Callable[[Decimal], Decimal]] = {
    "sigmoid": lambda x: 1 / (1 + (-x).exp()),
    "tanh": decimal_tanh,
    "silu": lambda x: x / (1 + (-x).exp()),
    "softplus": lambda x: (1 + x.exp()).ln() if x > -60 else x.exp() - (2 * x).exp() / 2,
    "mish": lambda x: x * (1 - 2 / ((1 + x.exp()) ** 2 + 1)) if x > -60 else x * x.exp(),
    "gelu": lambda x: x * decimal_normal(x),
    "gelu_tanh": decimal_gelu_tanh,
}


def some_doubles() -> Array:
    rng = np.random.default_rng(7)
    near = rng.uniform(-3, 3, 1000)
    wide = rng.uniform(-760, 50, 600)
    small = rng.choice([-1, 1], 500) * 2.0 ** rng.uniform(-60, 4, 500)
    ends = np.concatenate([np.linspace(-746, -706, 41), [-40, -39.5, -38.4, -37.5, 36.7, 19.1]])
    return np.concatenate([near, wide, small, ends])


@pytest.mark.parametrize("name", BOUNDS)
def test_float64(name: str):
    x = some_doubles()
    y = applied(name, x)
    allowed = bound(name, x)
    with localcontext() as context:
        context.prec = 100
        for given, got, most in zip(x.tolist(), y.tolist(), allowed.tolist(), strict=True):
            exact = EXACT[name](Decimal(given))
            unit = Decimal(float(np.spacing(abs(float(exact)))))
            assert abs(Decimal(got) - exact) <= Decimal(most) * unit, (given, got, float(exact))


# --- Ends --------------------------------------------------------------------------------------

LIMITS = {  # at -inf and +inf
    "relu": (0, np.inf),
    "relu6": (0, 6),
    "leaky_relu": (-np.inf, np.inf),
    "hardswish": (0, np.inf),
    "sigmoid": (0, 1),
    "tanh": (-1, 1),
    "silu": (0, np.inf),
    "softplus": (0, np.inf),
    "mish": (0, np.inf),
    "gelu": (0, np.inf),
    "gelu_tanh": (0, np.inf),
}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("name", LIMITS)
def test_ends(name: str, dtype: str):
    """Infinite arguments have the limit, and so have the largest; NaN stays NaN."""
    largest = np.finfo(dtype).max
    x = np.array([-np.inf, -largest, largest, np.inf, np.nan, 0, -0.0], dtype)
    y = applied(name, x)
    low, high = LIMITS[name]
    assert y[[0, 3]].tolist() == [low, high]
    assert np.isnan(y).tolist() == [False] * 4 + [True] + [False] * 2
    if np.isfinite([low, high]).all():
        assert y[[1, 2]].tolist() == [low, high]
    at_zero = {"sigmoid": 0.5, "softplus": math.log(2)}.get(name, 0)
    assert y[[5, 6]].tolist() == [np.dtype(dtype).type(at_zero)] * 2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["tanh", "silu", "gelu", "gelu_tanh", "mish", "leaky_relu"])
def test_smallest(name: str, dtype: str):
    """Of numbers near the smallest, denormal ones among them, the slope at zero counts alone."""
    smallest = np.finfo(dtype).smallest_subnormal
    x = np.array([1, -1, 3, 5, -1e6, 1 << 23, -(1 << 25), 1 << 60], dtype) * smallest
    slopes = {"tanh": 1, "mish": 0.6}
    slope = np.array(slopes.get(name, 0.5), dtype)
    expected = x * slope
    if name == "leaky_relu":
        expected = np.where(x < 0, x * np.array(0.01, dtype), x)
    assert np.all(np.abs(applied(name, x) - expected) <= np.maximum(smallest, np.spacing(abs(x))))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["sigmoid", "tanh", "softplus"])
def test_no_steps_down(name: str, dtype: str):
    """What grows, grows beyond its error: from one end to the other nothing falls back."""
    y = applied(name, np.linspace(-800, 60, 200_001).astype(dtype)).astype(np.float64)
    eps = np.finfo(dtype).eps
    assert np.all(np.diff(y) >= -2 * eps * np.abs(y[1:]))
    assert y[0] == (-1 if name == "tanh" else 0)
    assert y[-1] == (60 if name == "softplus" else 1)


@pytest.mark.parametrize("size", [1, 7, 8, 9, 15, 17, 33])
@pytest.mark.parametrize("name", LIMITS)
def test_each_lane(name: str, size: int):
    """Ends of rows, of fewer lanes than a vector, have the same bits and touch nothing else."""
    x = np.random.default_rng(size).standard_normal((3, 1, 64)).astype(np.float32)
    w = np.ones((1, 1, 1), np.float32)
    whole = nc.conv1d(x, w, activation=name)
    out = np.full((3, 1, 2 * size), 7, np.float32)
    nc.conv1d(x[..., :size], w, activation=name, out=out[..., :size])
    np.testing.assert_array_equal(out[..., :size], whole[..., :size])
    assert np.all(out[..., size:] == 7)
