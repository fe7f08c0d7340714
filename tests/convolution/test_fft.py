"""The engine `fft`: results under a proven bound, tiles and their edges, what is not finite."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import numba
import numpy as np
import pytest

import numbaconv as nc
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu.fft import tiles
from numbaconv.cpu.fft import weight_gradient as weights
from tests.convolution.transforms import (
    FLOATS,
    Problems,
    adjoint_error,
    adjoint_operands_of,
    check_batches,
    check_inside_njit,
    check_options_of_results,
    check_prepared,
    least_error,
    normal,
    operands_of,
    transposed,
)
from tests.oracle import reference
from tests.oracle.cases import Array
from tests.oracle.problems import MODES

LANES = VECTOR_BYTES // 4


def norm_of(a: Array) -> float:
    return float(np.linalg.norm(a.astype(complex).ravel()))


def bound(x: Array, w: Array, y: Array, values: int = 1 << 20) -> float:
    """How far results may lie from the oracle's.

    A transform of n values has log2(n) stages of radix 2, each with a relative error of about 7 u:
    Higham, "Accuracy and Stability of Numerical Algorithms" (2002), theorem 24.2. Two transforms
    and one back, and the sum over channels, so are within (21 log2(n) + C_in + 10) u of |x| |w|,
    in 2-norms (Cauchy and Schwarz, over frequencies and channels). Padding that repeats what is
    there has at most four times the norm; two tiles share a transform.
    """
    computed = {"float16": np.float32, "complex64": np.float32}.get(y.dtype.name, y.real.dtype)
    u = np.finfo(computed).eps / 2
    norms = 4 * math.sqrt(2) * norm_of(x) * max(norm_of(each) for each in w)
    rounding = np.finfo(np.float16).eps * np.abs(y).max() if y.dtype == np.float16 else 0.0
    return float((21 * math.log2(values) + w.shape[1] + 10) * u * norms + rounding)


def check(x: Array, w: Array, b: Array | None = None, **options: Any) -> Array:
    """Compare with the oracle; no error of a transform is larger than a hundred thousandth."""
    y = nc.conv(x, w, b, backend="fft", **options)
    options.pop("activation", None)
    expected = reference.conv_by_taps(x, w, b, **options)
    error = np.abs(y.astype(expected.dtype) - expected).max()
    assert error <= bound(x, w, y)
    scale = np.abs(expected).max()
    assert error <= least_error(y) * scale
    return y


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tiles as small as can be: a small problem is cut into many."""
    monkeypatch.setattr(tiles, "SIZES", (16, 32))
    for kept in (tiles.best_tiles, weights.best_pieces):
        kept.cache_clear()
    for plans in ("_plans", "_adjoint_plans"):  # which may know the problem already
        monkeypatch.setattr(f"numbaconv.problem.plan.{plans}", {})
    yield
    for kept in (tiles.best_tiles, weights.best_pieces):
        kept.cache_clear()


# Inputs, weights and options. Odd sizes: none divides a tile. In the first group one axis after the
# other; then one channel, depthwise, dense layers with odd and even numbers of channels.
PROBLEMS: Problems = {
    "signal": ((1, 1, 701), (1, 1, 31), {}),
    "signal_odd_tiles": ((2, 1, 1403), (1, 1, 211), {"padding": "same"}),
    "signal_stride": ((1, 2, 701), (3, 2, 31), {"stride": 3, "padding": 7}),
    "signal_dilation": ((1, 1, 701), (1, 1, 31), {"dilation": 4, "padding": 20}),
    "signal_many_images": ((5, 1, 101), (1, 1, 31), {}),
    "rows": ((1, 1, 5, 301), (1, 1, 1, 31), {}),
    "columns": ((1, 1, 67, 41), (1, 1, 13, 1), {"padding": (6, 0)}),
    "image": ((1, 1, 67, 83), (1, 1, 9, 7), {}),
    "image_same": ((3, 1, 67, 83), (1, 1, 9, 8), {"padding": "same"}),
    "image_stride": ((1, 1, 67, 83), (1, 1, 9, 7), {"stride": (2, 3), "padding": 3}),
    "image_dilation": ((1, 1, 67, 83), (1, 1, 5, 3), {"dilation": (2, 5), "padding": 4}),
    "image_as_large": ((1, 1, 27, 23), (1, 1, 27, 23), {"padding": (0, 1)}),
    "volume": ((1, 1, 19, 23, 41), (1, 1, 5, 3, 7), {"padding": 2}),
    "volume_stride": ((1, 1, 19, 23, 41), (1, 1, 5, 3, 7), {"stride": (2, 1, 3)}),
    "volume_planes": ((2, 1, 3, 23, 41), (1, 1, 1, 3, 7), {}),
    "volume_deep": ((1, 1, 43, 5, 7), (1, 1, 11, 1, 1), {}),
    "depthwise": ((2, 3, 37, 41), (3, 1, 5, 7), {"groups": 3, "padding": 2}),
    "depthwise_two": ((1, 2, 37, 41), (4, 1, 5, 7), {"groups": 2}),
    "dense": ((2, 4, 37, 41), (6, 4, 5, 7), {"padding": 2}),
    "dense_odd": ((2, 3, 37, 41), (5, 3, 5, 7), {"padding": 2}),
    "to_one": ((1, 5, 37, 41), (1, 5, 5, 7), {}),
    "groups": ((2, 6, 37, 41), (9, 2, 5, 7), {"groups": 3}),
    "activation": ((2, 3, 37, 41), (5, 3, 5, 7), {}),
}  # fmt: skip
EACH = pytest.mark.parametrize("name", PROBLEMS)


operands = functools.partial(operands_of, PROBLEMS)


@EACH
@pytest.mark.parametrize("size", ["chosen", "small"])
def test_definition(name: str, size: str, request: pytest.FixtureRequest):
    if size == "small":
        request.getfixturevalue("small_tiles")
    x, w, b, options = operands(name)
    assert nc.explain(x, w, b, **options, backend="fft").lowering == "overlap_save"
    check(x, w, b, **options)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["signal_stride", "image_same", "volume", "groups"])
def test_dtypes(name: str, dtype: str, small_tiles: None):
    x, w, b, options = operands(name, dtype)
    assert check(x, w, b, **options).dtype == dtype


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["signal", "image", "volume"])
def test_padding_modes(name: str, mode: str, small_tiles: None):
    x, w, b, options = operands(name)
    rank = x.ndim - 2
    check(x, w, b, **options | {"padding": ((3, 5),) * rank, "padding_mode": mode})


@pytest.mark.parametrize("name", ["signal", "image", "volume"])
def test_padding_modes_by_axis(name: str, small_tiles: None):
    """The first axis goes around more than once."""
    x, w, b, options = operands(name)
    rank = x.ndim - 2
    pairs = ((x.shape[2] + 3, 2), (3, 5), (1, 4))[:rank]
    modes = ("circular", "zeros", "symmetric")[:rank]
    check(x, w, b, **options | {"padding": pairs, "padding_mode": modes})


def test_a_batch_of_signals_is_one_problem_and_pairs_no_two_of_them(small_tiles: None):
    """Images that are rows of one problem do not share a transform: large ones leave no error."""
    x = normal((4, 1, 101), np.float32)
    x[::2] *= 1e20
    w = normal((1, 1, 31), np.float32)
    y = nc.conv1d(x, w, backend="fft")
    expected = reference.conv_by_taps(x.astype(float), w.astype(float))
    for got, right in zip(y, expected, strict=True):
        np.testing.assert_allclose(got, right, rtol=0, atol=1e-5 * np.abs(right).max())


def test_options_that_are_applied_to_results(small_tiles: None):
    check_options_of_results(*operands("dense_odd"), "fft")


@EACH
def test_prepared_layers_have_the_same_bits(name: str, small_tiles: None):
    check_prepared(*operands(name), "fft", axis=-1)


@EACH
def test_an_image_has_the_same_bits_in_any_batch_on_any_threads(name: str, small_tiles: None):
    check_batches(*operands(name), "fft")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@EACH
def test_what_is_not_finite_stays_in_its_window(name: str, bad: float, small_tiles: None):
    """The same outputs as with direct sums, and the others as near as ever."""
    x, w, b, options = operands(name)
    rng = np.random.default_rng(3)
    x.reshape(-1)[rng.integers(0, x.size, 3)] = bad
    y = nc.conv(x, w, b, **options, backend="fft")
    direct = nc.conv(x, w, b, **options, backend="direct")
    np.testing.assert_array_equal(np.isnan(y), np.isnan(direct))
    infinite = np.isinf(direct)
    np.testing.assert_array_equal(y[infinite], direct[infinite])
    finite = np.isfinite(direct)
    np.testing.assert_allclose(y[finite], direct[finite], rtol=0, atol=1e-4)


def test_a_spectrum_that_overflows_is_not_used():
    """Results are finite, but their sum, which a spectrum has, is not."""
    x = np.full((1, 1, 64, 64), 3e36, np.float32)
    w = normal((1, 1, 5, 5), np.float32)
    expected = reference.conv_by_taps(x.astype(float), w.astype(float))
    y = nc.conv2d(x, w, backend="fft")
    np.testing.assert_allclose(y, expected, rtol=1e-4)


def test_weights_that_are_not_finite_are_summed():
    x, w = normal((1, 2, 40, 40), np.float32), normal((3, 2, 5, 5), np.float32)
    w[1, 0, 2, 2] = np.inf
    y, direct = (nc.conv2d(x, w, backend=name) for name in ("fft", "direct"))
    np.testing.assert_array_equal(np.isnan(y), np.isnan(direct))
    np.testing.assert_array_equal(y[:, 1], direct[:, 1])
    np.testing.assert_allclose(y[:, ::2], direct[:, ::2], rtol=0, atol=1e-4)


def test_inputs_over_many_decades_lose_their_small_results():
    """The documented weakness: errors are relative to the largest values of a tile."""
    x, w = np.ones((1, 1, 200), np.float32), np.full((1, 1, 9), 1e-3, np.float32)
    x[..., :100] = 1e12
    y = nc.conv1d(x, w, backend="fft")
    assert np.abs(y[..., 150:] - 9e-3).max() > 1e-3
    exact = nc.conv1d(x, w, backend="direct")
    np.testing.assert_allclose(exact[..., 150:], 9e-3, rtol=1e-5)


@pytest.mark.parametrize(
    ("why", "dtype", "size", "kernel", "options"),
    [
        ("integers", "int32", 40, 9, {}),
        ("integers", "uint8", 40, 9, {}),
        ("too large", "float32", 40, 2, {"dilation": 5_000_000, "padding": 4_999_990}),
        ("too large", "float32", 40, 1001, {"stride": 500, "padding": 10_000_000}),
        ("do not overlap", "float32", 40, 1, {}),
        ("do not overlap", "float32", 40, 8, {"stride": 8}),
        ("do not overlap", "float32", 40, 40, {}),
    ],
)
def test_the_rest_is_left_to_direct(why: str, dtype: str, size: int, kernel: int, options: Any):
    x, w = np.ones((1, 1, size), dtype), np.ones((1, 1, kernel), dtype)
    said = nc.explain(x, w, **options, backend="fft")
    assert said.backend == "direct"
    assert "fft was asked for" in said.reason
    assert why in said.reason
    y = nc.conv1d(x, w, **options, backend="fft")
    np.testing.assert_array_equal(y, nc.conv1d(x, w, **options, backend="direct"))


@pytest.mark.parametrize("name", ["signal_stride", "image_dilation", "volume", "dense_odd"])
def test_no_other_size_of_tiles_costs_less(name: str):
    x, w, _, options = operands(name)
    s = nc.explain(x, w, **options).shape
    most = {axis: s.output[axis] * s.stride[axis] + 300 for axis in range(3)}
    reach, cost = tiles.reaches(s), tiles.costs(s, LANES)
    sizes = tiles.shapes(s.kernel, reach, (most[0], most[1], most[2]), tiles.MOST_VALUES)
    every = [tiles.cut(s, *size) for size in sizes]
    best = tiles.cut(s, *tiles.find_size(s, LANES))
    assert len(every) > 2
    assert cost(best.inner, best.values, best.columns) == min(
        cost(each.inner, each.values, each.columns) for each in every
    )


@pytest.mark.parametrize(
    ("chosen", "input", "weight", "options"),
    [
        ("direct", (1, 1, 100_000), (1, 1, 63), {}),
        ("fft", (1, 1, 100_000), (1, 1, 2049), {}),
        ("direct", (1, 1, 512, 512), (1, 1, 7, 7), {}),
        ("fft", (1, 1, 512, 512), (1, 1, 63, 63), {}),
        ("direct", (1, 1, 64, 64, 64), (1, 1, 3, 3, 3), {}),
        ("fft", (1, 1, 96, 96, 96), (1, 1, 13, 13, 13), {}),
        ("fft", (1, 64, 64, 64), (64, 64, 31, 31), {"padding": "same"}),
        ("direct", (1, 512, 7, 7), (512, 512, 3, 3), {"padding": 1}),
        ("fft", (1, 1, 96, 96, 96), (1, 1, 7, 7, 7), {}),
        ("fft", (1, 1, 48, 48, 48), (1, 1, 7, 7, 7), {}),
        ("fft", (1, 64, 56, 56), (64, 1, 31, 31), {"groups": 64, "padding": 15}),
        ("fft", (1, 64, 28, 28), (64, 1, 31, 31), {"groups": 64, "padding": 15}),
        ("direct", (1, 64, 14, 14), (64, 1, 9, 9), {"groups": 64, "padding": 4}),
        ("direct", (1, 1, 1024, 1024), (1, 1, 9, 9), {}),
    ],
)
def test_auto_takes_it_for_large_filters(chosen: str, input: Any, weight: Any, options: Any):
    x, w = np.zeros(input, np.float32), np.zeros(weight, np.float32)
    assert nc.explain(x, w, **options).backend == chosen
    assert nc.explain(x.astype(np.int32), w.astype(np.int32), **options).backend != "fft"
    many = np.zeros((3, *input[1:]), np.float32)
    assert (nc.explain(many, w, **options).backend == "fft") == (chosen == "fft")


def test_inside_njit():
    x, w, _, _ = operands("dense_odd")
    check_inside_njit(x, w, "fft")


# Transposed convolutions: inputs, weights and options. Strides, odd numbers of channels, groups; of
# the one to one channel, phases of rows are computed together.
ADJOINTS: Problems = {
    "signal": ((2, 1, 701), (1, 1, 331), {"padding": 7}),
    "signal_stride": ((1, 3, 401), (3, 2, 307), {"stride": 2, "output_padding": 1}),
    "signal_joined": ((1, 1, 97), (1, 1, 320), {"stride": 16, "padding": 3}),
    "image": ((1, 2, 51, 60), (2, 3, 33, 33), {"padding": 16}),
    "image_stride": ((2, 1, 40, 41), (1, 2, 33, 33), {"stride": 2}),
    "image_groups": ((1, 6, 30, 41), (6, 2, 11, 13), {"groups": 3, "stride": (1, 2)}),
    "image_dilation": ((1, 1, 30, 41), (1, 1, 9, 7), {"dilation": (3, 2), "stride": (1, 2)}),
    "volume": ((1, 1, 20, 21, 22), (1, 1, 9, 9, 9), {"padding": 4}),
    "volume_stride": ((1, 2, 9, 10, 11), (2, 1, 9, 9, 9), {"stride": 2, "padding": 1}),
}  # fmt: skip
EACH_ADJOINT = pytest.mark.parametrize("name", ADJOINTS)


adjoint_operands = functools.partial(adjoint_operands_of, ADJOINTS)


def check_adjoint(x: Array, w: Array, b: Array, **options: Any) -> None:
    y, error = adjoint_error(x, w, b, options, "fft")
    assert error <= bound(x, w.reshape(1, w.shape[0], -1), y)


@EACH_ADJOINT
def test_adjoints(name: str):
    x, w, b, options = adjoint_operands(name)
    said = nc.explain(x, w, b, **options, of="transposed", backend="fft")
    assert (said.backend, said.lowering) == ("fft", "overlap_save")
    check_adjoint(x, w, b, **options)


@pytest.mark.parametrize("name", ["image_groups", "image_dilation", "volume_stride"])
def test_adjoints_in_small_tiles(name: str, small_tiles: None):
    x, w, b, options = adjoint_operands(name)
    check_adjoint(x, w, b, **options)


@pytest.mark.parametrize("dtype", ["float64", "complex64"])
def test_dtypes_of_adjoints(dtype: str):
    x, w, b, options = adjoint_operands("image_groups", dtype)
    check_adjoint(x, w, b, **options)


def test_adjoints_of_integers_are_sums():
    x, w = np.arange(64, dtype=np.int32).reshape(1, 1, 64), np.ones((1, 1, 40), np.int32)
    assert nc.explain(x, w, of="transposed", backend="fft").backend == "direct"
    by_sums = nc.conv_transpose1d(x, w, backend="direct")
    np.testing.assert_array_equal(nc.conv_transpose1d(x, w, backend="fft"), by_sums)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@EACH_ADJOINT
def test_what_is_not_finite_stays_in_its_window_of_an_adjoint(name: str, bad: float):
    x, w, b, options = adjoint_operands(name)
    x.reshape(-1)[np.random.default_rng(3).integers(0, x.size, 2)] = bad
    y, direct = (transposed(x, w, b, **options, backend=by) for by in ("fft", "direct"))
    np.testing.assert_array_equal(np.isnan(y), np.isnan(direct))
    infinite, finite = np.isinf(direct), np.isfinite(direct)
    np.testing.assert_array_equal(y[infinite], direct[infinite])
    np.testing.assert_allclose(y[finite], direct[finite], rtol=0, atol=1e-3)


@EACH_ADJOINT
def test_an_adjoint_has_the_same_bits_in_any_batch_on_any_threads(name: str):
    check_batches(*adjoint_operands(name), "fft", transposed)


@pytest.mark.parametrize(
    ("chosen", "input", "weight", "options"),
    [
        ("fft", (1, 1, 100_000), (1, 1, 2049), {}),
        ("fft", (1, 1, 50_000), (1, 1, 4097), {"stride": 2}),
        ("fft", (1, 1, 256, 256), (1, 1, 63, 63), {"stride": 2}),
        ("direct", (1, 64, 28, 28), (64, 32, 3, 3), {"stride": 2}),
    ],
)
def test_auto_takes_it_for_large_filters_of_adjoints(
    chosen: str, input: Any, weight: Any, options: Any
):
    x, w = np.zeros(input, np.float32), np.zeros(weight, np.float32)
    assert nc.explain(x, w, **options, of="transposed").backend == chosen
    spread = nc.explain(x, w, **options, of="transposed").out_shape
    y = np.broadcast_to(np.float32(0), spread)
    said = nc.explain(y, w, **options, of="input")
    assert (said.backend, said.out_shape) == (chosen, spread)


@numba.njit
def spread(x, w, b):
    return nc.conv_transpose2d(x, w, b, stride=2, backend="fft")


@numba.njit
def spread_by_auto(x, w):
    return nc.conv_transpose2d(x, w)


def test_adjoints_inside_njit():
    x, w, b, options = adjoint_operands("image_stride")
    expected = nc.conv_transpose2d(x, w, b, **options, backend="fft")
    for _ in range(2):
        np.testing.assert_array_equal(spread(x, w, b), expected)
    assert nc.explain(x, w, of="transposed").backend == "fft"
    np.testing.assert_array_equal(spread_by_auto(x, w), nc.conv_transpose2d(x, w, backend="fft"))


def weight_gradient(
    x: Array, w: Array, y: tuple[int, ...], backend: str, **options: Any
) -> tuple[Array, Array]:
    """Gradient of a weight, and the gradient of an output of the given shape."""
    g = normal(y, x.dtype, 4)
    function = getattr(nc.grad, f"conv{w.ndim - 2}d_weight")
    return function(x, w.shape, g, **options, backend=backend), g


def check_weight_gradient(name: str, dtype: Any = np.float32) -> None:
    """Compare with the oracle; a gradient is a convolution, and under the bound of one."""
    x, w, _, options = operands(name, dtype)
    assert nc.explain(x, w, **options, of="weight", backend="fft").backend == "fft"
    got, g = weight_gradient(x, w, nc.explain(x, w, **options).out_shape, "fft", **options)
    wide = np.result_type(dtype, np.float64)
    expected = reference.conv_weight_by_taps(x.astype(wide), w.shape, g.astype(wide), **options)
    error = np.abs(got - expected).max()
    filters = np.moveaxis(g, 1, 0).reshape(w.shape[0], len(x), -1)
    assert error <= bound(x, filters, got)
    scale = np.abs(expected).max()
    assert error <= (1e-3 if dtype == np.float16 else 64 * np.finfo(got.dtype).eps) * scale
    assert got.dtype == dtype


GRADIENTS = [name for name in PROBLEMS if name not in ("image_as_large", "activation")]


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_of_weights(name: str):
    check_weight_gradient(name)


@pytest.mark.parametrize("dtype", ["float64", "float16", "complex64"])
def test_dtypes_of_gradients_of_weights(dtype: str):
    check_weight_gradient("groups", dtype)


@pytest.fixture
def short_runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A few pieces a run, so that there are several and the last is not full."""
    monkeypatch.setattr(weights, "MOST_WINDOWS", 2_000)
    monkeypatch.setattr("numbaconv.problem.plan._adjoint_plans", {})
    weights.best_pieces.cache_clear()
    yield
    weights.best_pieces.cache_clear()


@pytest.mark.parametrize("name", ["signal_odd_tiles", "image_same", "volume", "dense", "groups"])
def test_gradients_of_weights_in_runs(name: str, small_tiles: None, short_runs: None):
    x, w, _, options = operands(name)
    pieces = weights.best_pieces(nc.explain(x, w, **options, of="weight").shape, LANES)
    assert len(x) * math.prod(pieces.counts) > pieces.terms
    check_weight_gradient(name)


@pytest.mark.parametrize(
    ("size", "weight", "options"),
    [
        ((3, 2, 3, 7, 7), (4, 2, 3, 3, 1), {"stride": (3, 3, 4), "dilation": (1, 3, 2)}),
        ((2, 3, 5, 90), (4, 3, 5, 7), {}),
        ((1, 1, 9, 300), (1, 1, 9, 30), {"stride": (1, 2)}),
    ],
    ids=str,
)
def test_gradients_of_weights_from_maps_of_one_row(
    size: Any, weight: Any, options: Any, monkeypatch: pytest.MonkeyPatch
):
    """Their pieces are signals, and their tiles have a signal's factors: none lie behind these."""

    def lower(*arguments: Any) -> Any:
        lowering = overlap_save_lower(*arguments)
        memory = np.full(lowering.table.size + (1 << 16), np.float64(3).view(np.int64))
        table = memory[: lowering.table.size]
        table[...] = lowering.table
        return lowering._replace(table=table)

    overlap_save_lower = weights.overlap_save.lower
    monkeypatch.setattr(weights.overlap_save, "lower", lower)
    monkeypatch.setattr("numbaconv.problem.plan._adjoint_plans", {})
    x, w = normal(size, np.float64, 1), np.zeros(weight)
    y = nc.explain(x, w, **options).out_shape
    assert nc.explain(x, w, **options, of="weight", backend="fft").backend == "fft"
    got, g = weight_gradient(x, w, y, "fft", **options)
    expected = reference.conv_weight_by_taps(x, weight, g, **options)
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["signal_odd_tiles", "depthwise_two", "dense_odd", "volume"])
def test_a_gradient_of_weights_has_the_same_bits_on_any_threads(name: str, short_runs: None):
    x, w, _, options = operands(name)
    shape = nc.explain(x, w, **options).out_shape
    expected, _ = weight_gradient(x, w, shape, "fft", **options)
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        got, _ = weight_gradient(x, w, shape, "fft", **options)
    finally:
        numba.set_num_threads(threads)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["input", "gradient"])
def test_what_is_not_finite_leaves_gradients_of_weights_to_sums(where: str, bad: float):
    x, w, _, options = operands("dense_odd")
    g = normal(nc.explain(x, w, **options).out_shape, np.float32)
    (x if where == "input" else g)[1, 2, 0, 0] = bad
    by_fft, direct = (
        nc.grad.conv2d_weight(x, w.shape, g, **options, backend=name) for name in ("fft", "direct")
    )
    assert not np.isfinite(direct).all()
    assert np.isfinite(direct).any()
    np.testing.assert_array_equal(by_fft, direct)


@pytest.mark.parametrize(
    ("chosen", "input", "weight", "options"),
    [
        ("fft", (1, 1, 300_000), (1, 1, 2049), {}),
        ("fft", (1, 1, 512, 512), (1, 1, 63, 63), {}),
        ("fft", (4, 16, 64, 64), (16, 16, 15, 15), {"padding": 7}),
        ("direct", (4, 64, 28, 28), (64, 64, 3, 3), {}),
        ("direct", (1, 1, 100_000), (1, 1, 65), {}),
    ],
)
def test_auto_takes_it_for_gradients_of_large_weights(
    chosen: str, input: Any, weight: Any, options: Any
):
    x, w = np.zeros(input, np.float32), np.zeros(weight, np.float32)
    assert nc.explain(x, w, **options, of="weight").backend == chosen
    x, w = x.astype(np.int32), w.astype(np.int32)
    for backend in ("auto", "fft"):
        said = nc.explain(x, w, **options, of="weight", backend=backend)
        assert said.backend == "direct"
