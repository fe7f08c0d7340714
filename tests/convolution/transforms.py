"""What the tests of engines that transform share: operands, and what holds of each of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

import numbaconv as nc
from tests.oracle import reference
from tests.oracle.cases import Array

FLOATS = ("float32", "float64", "float16", "complex64", "complex128")

# By name: shapes of inputs and weights, and options.
Problems = dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]]


def normal(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> Array:
    rng, dtype = np.random.default_rng(seed), np.dtype(dtype)
    x = rng.standard_normal(shape)
    if dtype.kind == "c":
        x = x + 1j * rng.standard_normal(shape)
    return x.astype(dtype)


def operands_of(
    problems: Problems, name: str, dtype: Any = np.float32
) -> tuple[Array, Array, Array, dict[str, Any]]:
    """Input, weights, bias and options of a problem."""
    x, w, options = problems[name]
    return normal(x, dtype), normal(w, dtype, 1), normal((w[0],), dtype, 2), options


def adjoint_operands_of(
    problems: Problems, name: str, dtype: Any = np.float32
) -> tuple[Array, Array, Array, dict[str, Any]]:
    """The same of a transposed convolution."""
    x, w, options = problems[name]
    channels = w[1] * options.get("groups", 1)
    return normal(x, dtype), normal(w, dtype, 1), normal((channels,), dtype, 2), options


def transposed(x: Array, weight: Array, bias: Array | None = None, **options: Any) -> Array:
    return getattr(nc, f"conv_transpose{weight.ndim - 2}d")(x, weight, bias, **options)


def least_error(y: Array) -> float:
    """An error, in the largest outputs, that no result of a usual transform has."""
    return 1e-3 if y.dtype == np.float16 else 32 * float(np.finfo(y.dtype).eps)


def check_options_of_results(
    x: Array, w: Array, b: Array, options: dict[str, Any], backend: str
) -> None:
    """Activation, `out` and the place of channels change nothing of an image's sums."""
    conv = functools.partial(nc.conv2d, weight=w, bias=b, **options, backend=backend)
    plain = conv(x)
    np.testing.assert_array_equal(conv(x, activation="relu"), np.maximum(plain, 0))
    out = np.full_like(plain, np.nan)
    assert conv(x, out=out) is out
    np.testing.assert_array_equal(out, plain)
    last = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    got = conv(last, data_format="channels_last")
    np.testing.assert_array_equal(np.moveaxis(got, -1, 1), plain)


def check_prepared(
    x: Array, w: Array, b: Array, options: dict[str, Any], backend: str, axis: int
) -> None:
    """A layer has the bits of plain calls, for an input that is longer along an axis too."""
    layer = nc.prepare(w, b, **options, backend=backend)
    expected = nc.conv(x, w, b, **options, backend=backend)
    for _ in range(2):
        np.testing.assert_array_equal(layer(x), expected)
    larger = np.concatenate([x, x, x], axis)
    expected = nc.conv(larger, w, b, **options, backend=backend)
    np.testing.assert_array_equal(layer(larger), expected)


def check_batches(
    x: Array,
    w: Array,
    b: Array,
    options: dict[str, Any],
    backend: str,
    function: Callable[..., Array] = nc.conv,
) -> None:
    """An image has the same bits beside others, large ones among them, and on one thread."""
    conv = functools.partial(function, weight=w, bias=b, **options, backend=backend)
    expected = conv(x)
    batch = np.concatenate([1e9 * x, x, x[:1]])
    np.testing.assert_array_equal(conv(batch)[len(x) : 2 * len(x)], expected)
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        np.testing.assert_array_equal(conv(x), expected)
    finally:
        numba.set_num_threads(threads)


def adjoint_error(
    x: Array, w: Array, b: Array, options: dict[str, Any], backend: str
) -> tuple[Array, float]:
    """A transposed convolution, and how far it is from the oracle: not far.

    It is the gradient of an input as well.
    """
    y = transposed(x, w, b, **options, backend=backend)
    options = {name: value for name, value in options.items() if name != "output_padding"}
    wide = np.result_type(x.dtype, np.float64)
    expected = reference.conv_input_by_taps(y.shape, w.conj().astype(wide), x, **options)
    expected = expected + b.reshape(-1, *(1,) * (w.ndim - 2))
    error = np.abs(y.astype(wide) - expected).max()
    assert error <= least_error(y) * np.abs(expected).max()
    gradient = getattr(nc.grad, f"conv{w.ndim - 2}d_input")
    got = gradient(y.shape, w.conj(), x, **options, backend=backend)
    bare = transposed(x, w, **options, backend=backend)
    axes = range(2, w.ndim)
    more = tuple(y.shape[axis] - bare.shape[axis] for axis in axes)
    bare = transposed(x, w, **options, output_padding=more, backend=backend)
    np.testing.assert_array_equal(got, bare)
    return y, float(error)


@numba.njit
def through(layer, x):
    return layer(x)


def check_inside_njit(x: Array, w: Array, backend: str) -> None:
    """Compiled code that names the engine, or is called while it is asked for, uses it."""

    @numba.njit
    def convolved(x, w):
        return nc.conv2d(x, w, padding=2, backend=backend)

    expected = nc.conv2d(x, w, padding=2, backend=backend)
    np.testing.assert_array_equal(convolved(x, w), expected)
    layer = nc.prepare(w, padding=2, backend=backend)
    for _ in range(2):
        np.testing.assert_array_equal(through(layer, x), expected)
    with nc.use_backend(backend):
        np.testing.assert_array_equal(through(nc.prepare(w, padding=2), x), expected)
