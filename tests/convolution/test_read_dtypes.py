"""Inputs of another dtype than the sums: kernels convert what they copy, and nothing as a whole."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import numbaconv as nc
from tests.oracle import reference
from tests.oracle.cases import Array, integer_arrays
from tests.oracle.paths import TRANSFORMS
from tests.oracle.problems import LAYOUTS, choose, varied_case

BACKENDS = ("direct", "im2col", *TRANSFORMS)

# Of the input, and of the weights: each pair is converted by machine code of its own.
PAIRS = (
    ("uint8", "float32"),
    ("uint8", "float32"),
    ("uint16", "float32"),
    ("int16", "float32"),
    ("float16", "float32"),
    ("float16", "float16"),
    ("float32", "float64"),
    ("int8", "int32"),
)
MORE_PAIRS = (
    ("int8", "float32"),
    ("uint32", "float64"),
    ("int64", "float32"),
    ("uint64", "float32"),
    ("float16", "float64"),
    ("uint8", "int64"),
    ("int16", "uint16"),
    ("uint32", "int64"),
    ("uint8", "complex64"),
)


def check_random_problems(backend: str, pairs: Any, count: int) -> None:
    """Results are equal to the definition; those of transforms when they are rounded."""
    for number in range(count):
        integer = random.Random(f"dtypes/{number}").randint
        case = varied_case(integer, str(number))
        of_input, of_weight = choose(integer, pairs)
        x = choose(integer, LAYOUTS)(integer_arrays(case, of_input)[0], integer)
        _, w, b = integer_arrays(case, of_weight)
        dtype = reference.result_dtype(x, w, b)
        expected = reference.conv_by_taps(x, w, b, **case.kwargs).astype(dtype)
        y = nc.conv(x, w, b, **case.kwargs, backend=backend)
        assert y.dtype == dtype
        got = np.rint(y) if backend in TRANSFORMS and dtype.kind in "fc" else y
        np.testing.assert_array_equal(got, expected, err_msg=f"{number}: {x.dtype} {w.dtype}")


@pytest.mark.target
@pytest.mark.parametrize("backend", BACKENDS)
def test_random_problems(backend: str):
    check_random_problems(backend, PAIRS, 50)


@pytest.mark.stress  # each pair is compiled
@pytest.mark.parametrize("backend", BACKENDS)
def test_random_problems_of_more_dtypes(backend: str):
    check_random_problems(backend, PAIRS + MORE_PAIRS, 1500)


def test_every_float16_is_converted_exactly():
    """Vectors and single elements; infinities and NaN too."""
    x = np.arange(1 << 16, dtype=np.uint16).view(np.float16).reshape(1, 1, -1)
    expected = x.astype(np.float32)
    ones = np.ones((1, 1, 1), np.float32)
    for stride in (1, 2, 3):
        y = nc.conv1d(x, ones, stride=stride, backend="direct")
        np.testing.assert_array_equal(y, expected[:, :, ::stride])
    edges = {"padding": ((40, 0),), "padding_mode": "circular"}
    y = nc.conv1d(x[:, :, -50:], ones, **edges)
    np.testing.assert_array_equal(y[0, 0, :40], expected[0, 0, -40:])
    last = np.moveaxis(x.reshape(1, 256, 256), 1, -1)
    y = nc.conv1d(last, np.ones((256, 1, 1), "f4"), groups=256, data_format="channels_last")
    np.testing.assert_array_equal(y, last.astype(np.float32))


def layer(*weight: int, **options: Any) -> Callable[[Array], Any]:
    rng = np.random.default_rng(0)
    w = rng.standard_normal(weight).astype(np.float32)
    return nc.prepare(w, **options)


LAST = {"data_format": "channels_last"}
LARGE = {
    "gray": ((1, 1, 900, 901), (1, 1, 3, 3), {"padding": 1}),
    "gray into few": ((1, 1, 500, 501), (3, 1, 5, 5), {"padding": 2}),
    "first layer": ((1, 3, 400, 401), (4, 3, 3, 3), {"padding": 1, "stride": 2}),
    "dense": ((1, 32, 200, 201), (16, 32, 3, 3), {"padding": 1}),
    "dilated": ((1, 32, 90, 91), (32, 32, 3, 3), {"padding": 12, "dilation": 12}),
    "pointwise": ((1, 32, 200, 208), (16, 32, 1, 1), {}),
    "wide pointwise": ((4, 16, 40, 40), (16, 16, 1, 1), {}),
    "depthwise": ((1, 32, 200, 201), (32, 1, 3, 3), {"padding": 1, "groups": 32}),
    "wide depthwise": ((1, 4, 500, 501), (4, 1, 5, 5), {"groups": 4}),
    "photograph": ((1, 500, 501, 3), (3, 1, 3, 3), {"padding": 1, "groups": 3, **LAST}),
    "last": ((1, 200, 201, 32), (16, 32, 3, 3), {"padding": 1, **LAST}),
    "last pointwise": ((1, 200, 201, 32), (16, 32, 1, 1), LAST),
    "last depthwise": ((1, 200, 201, 32), (32, 1, 3, 3), {"groups": 32, **LAST}),
    "one output": ((1, 300, 301, 32), (1, 32, 1, 1), LAST),
    "matrix": ((4000, 64), (1, 64, 1), LAST),
    "signal": ((1, 1, 600_000), (1, 1, 31), {}),
}


def peak_of(call: Callable[[], Any]) -> int:
    """Bytes that NumPy takes in a call that was made before."""
    call()
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("dtype", ["uint8", "float16"])
@pytest.mark.parametrize("name", LARGE)
def test_no_array_of_the_input(name: str, dtype: str):
    """By all backends, and the sums are those of an input that is converted before."""
    shape, weight, options = LARGE[name]
    x = np.random.default_rng(1).integers(0, 200, shape).astype(dtype)
    for backend in BACKENDS if dtype == "uint8" else ("direct",):
        call = layer(*weight, **options, backend=backend)
        y = call(x)
        assert peak_of(lambda: call(x, out=y)) < x.nbytes / 8, backend  # noqa: B023
        bound = 1e-4 if backend in TRANSFORMS else 2e-6
        whole = call(x.astype(np.float32))
        np.testing.assert_allclose(y, whole, rtol=bound, atol=bound * np.abs(whole).max())
