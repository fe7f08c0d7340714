"""Integers whose sums single precision holds exactly are computed in it, and wrap all the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import njit

import numbaconv as nc
from numbaconv.problem.plan import Options, find_plan

Array = np.ndarray[Any, Any]


def drawn(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> Array:
    """Integers of a dtype, most of them the largest and the smallest."""
    if dtype == "bool":
        return rng.random(shape) > 0.5
    limits = np.iinfo(dtype)
    ends = [limits.min, limits.max, limits.max - 1, 1]
    return rng.choice(ends, shape, p=(0.5, 0.2, 0.2, 0.1)).astype(dtype)


def sums(x: Array, w: Array, b: Array | None, padding: int, groups: int, value: int = 0) -> Array:
    """The definition, in 64 bits."""
    around = ((0, 0), (0, 0), (padding, padding), (padding, padding))
    wide = np.pad(x.astype(np.int64), around, constant_values=value)
    windows = np.lib.stride_tricks.sliding_window_view(wide, w.shape[2:], axis=(2, 3))
    parts = zip(np.split(windows, groups, 1), np.split(w.astype(np.int64), groups), strict=True)
    y: Array = np.concatenate([np.einsum("nchwij,ocij->nohw", *part) for part in parts], 1)
    return y if b is None else y + b.astype(np.int64)[:, None, None]


@njit
def compiled(x, w, b, padding, groups):
    return nc.conv2d(x, w, b, 1, padding, 1, groups)


PROBLEMS = {
    "dense": ((2, 64, 9, 8), (20, 64, 3, 3), 1, 1),
    "most": ((1, 1023, 5, 4), (9, 1023, 1, 1), 0, 1),
    "too many": ((1, 1025, 5, 4), (9, 1025, 1, 1), 0, 1),
    "depthwise": ((1, 8, 20, 17), (8, 1, 3, 3), 1, 8),
    "large filter": ((1, 1, 40, 41), (1, 1, 9, 9), 4, 1),
}


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize(
    "dtypes",
    [("int8", "int8", "int8"), ("uint8", "uint8", "uint8"), ("uint8", "int8", None)],
)
def test_results_are_exact_and_wrap(problem: str, dtypes: tuple[str, str, str | None]):
    rng = np.random.default_rng(1)
    image, weight, padding, groups = PROBLEMS[problem]
    x, w = drawn(rng, dtypes[0], image), drawn(rng, dtypes[1], weight)
    b = None if dtypes[2] is None else drawn(rng, dtypes[2], weight[:1])
    expected = sums(x, w, b, padding, groups)
    options: dict[str, Any] = {"padding": padding, "groups": groups}
    y = nc.conv2d(x, w, b, **options)
    np.testing.assert_array_equal(y, expected.astype(y.dtype))
    for backend in ("im2col", "fft", "winograd"):
        np.testing.assert_array_equal(nc.conv2d(x, w, b, backend=backend, **options), y)
    np.testing.assert_array_equal(nc.prepare(w, b, **options)(x), y)
    given = np.zeros(len(w), y.dtype) if b is None else b
    np.testing.assert_array_equal(compiled(x, w, given, padding, groups), y)
    np.testing.assert_array_equal(nc.conv2d(x, w, b, out_dtype="int32", **options), expected)
    saturated = nc.conv2d(x, w, b, out_dtype="uint8", **options)
    np.testing.assert_array_equal(saturated, expected.clip(0, 255))
    if padding:
        padded = nc.conv2d(x, w, b, padding_value=3, **options)
        np.testing.assert_array_equal(padded, sums(x, w, b, padding, groups, 3).astype(y.dtype))


@pytest.mark.parametrize(
    ("dtypes", "channels", "compute"),
    [
        (("int8", "int8"), 1024, "float32"),  # 1024 * 128 * 128 = 2^24
        (("int8", "int8"), 1025, "int32"),
        (("uint8", "uint8"), 258, "float32"),
        (("uint8", "uint8"), 259, "int32"),
        (("bool", "uint8"), 258, "float32"),
        (("int16", "int8"), 4, "float32"),
        (("int16", "int16"), 1, "int32"),
        (("int32", "int8"), 1, "int32"),
    ],
)
def test_single_precision_is_taken_while_it_is_exact(
    dtypes: tuple[str, str], channels: int, compute: str
):
    x, w = np.zeros((1, channels, 5), dtypes[0]), np.zeros((3, channels, 1), dtypes[1])
    plan = find_plan(x, w, None, Options())
    assert plan.arithmetic.compute == compute
    far = find_plan(x, w, None, Options(padding=1, padding_value=127))
    assert far.arithmetic.compute == compute
