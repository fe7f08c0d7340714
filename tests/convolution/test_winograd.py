"""The engine `winograd`: results near the oracle's, tiles and their edges, who takes it."""

from __future__ import annotations

import functools
from typing import Any

import numba
import numpy as np
import pytest

import numbaconv as nc
from numbaconv.cpu import blocking, winograd
from numbaconv.cpu.winograd import tiles
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
    through,
    transposed,
)
from tests.oracle import reference
from tests.oracle.cases import Array
from tests.oracle.problems import MODES


def check(x: Array, w: Array, b: Array | None = None, **options: Any) -> Array:
    """Compare with the oracle: errors are below 64 u of the largest output."""
    y = nc.conv(x, w, b, backend="winograd", **options)
    expected = reference.conv_by_taps(x, w, b, **options)
    error = np.abs(y.astype(expected.dtype) - expected).max()
    scale = np.abs(expected).max()
    assert error <= least_error(y) * scale
    return y


@pytest.fixture(autouse=True)
def few_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Problems here are small."""
    monkeypatch.setattr(winograd, "LEAST_CHANNELS", 1)


@pytest.fixture
def small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks as small as can be: a small problem has many, in rows and in columns."""
    monkeypatch.setattr(tiles, "MOST_TILES", 3)
    monkeypatch.setattr(tiles, "PRODUCT_BYTES", 1)
    monkeypatch.setattr(blocking, "CACHE_BYTES", 1)
    for plans in ("_plans", "_adjoint_plans"):  # which may know the problem already
        monkeypatch.setattr(f"numbaconv.problem.plan.{plans}", {})


# Inputs, weights and options. Odd sizes: none divides a tile.
PROBLEMS: Problems = {
    "signal": ((2, 3, 131), (5, 3, 3), {"padding": 1}),
    "rows": ((1, 3, 9, 31), (5, 3, 1, 3), {}),
    "columns": ((2, 3, 19, 11), (5, 3, 3, 1), {"padding": (1, 0)}),
    "image": ((1, 3, 13, 15), (4, 3, 3, 3), {}),
    "image_same": ((3, 3, 13, 37), (7, 3, 3, 3), {"padding": "same"}),
    "image_full": ((2, 3, 9, 11), (7, 3, 3, 3), {"padding": "full"}),
    "image_one_tile": ((2, 3, 4, 5), (7, 3, 3, 3), {}),
    "image_many_channels": ((1, 40, 14, 14), (33, 40, 3, 3), {"padding": 1}),
    "groups": ((2, 6, 11, 21), (9, 2, 3, 3), {"groups": 3, "padding": ((0, 2), (2, 1))}),
    "volume": ((2, 3, 5, 7, 9), (4, 3, 3, 3, 3), {"padding": 1}),
    "volume_planes": ((2, 3, 3, 9, 11), (4, 3, 1, 3, 3), {}),
    "volume_deep": ((2, 3, 11, 3, 5), (4, 3, 3, 1, 1), {"padding": (1, 0, 0)}),
    "volume_skew": ((1, 3, 7, 4, 9), (4, 3, 3, 1, 3), {}),
}  # fmt: skip
EACH = pytest.mark.parametrize("name", PROBLEMS)


operands = functools.partial(operands_of, PROBLEMS)


@EACH
@pytest.mark.parametrize("size", ["chosen", "small"])
def test_definition(name: str, size: str, request: pytest.FixtureRequest):
    if size == "small":
        request.getfixturevalue("small_tasks")
    x, w, b, options = operands(name)
    assert nc.explain(x, w, b, **options, backend="winograd").lowering == "minimal_filtering"
    check(x, w, b, **options)


@pytest.mark.parametrize("outputs", [2, 4])
@pytest.mark.parametrize("name", ["signal", "image", "volume"])
def test_each_size_of_tiles(name: str, outputs: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tiles, "POINTS", {outputs: ()})
    monkeypatch.setattr("numbaconv.problem.plan._plans", {})
    tiles.best_tiles.cache_clear()
    x, w, b, options = operands(name)
    check(x, w, b, **options)
    tiles.best_tiles.cache_clear()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["signal", "image_same", "volume", "groups"])
def test_dtypes(name: str, dtype: str):
    x, w, b, options = operands(name, dtype)
    assert check(x, w, b, **options).dtype == dtype


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["signal", "image", "volume"])
def test_padding_modes(name: str, mode: str):
    x, w, b, options = operands(name)
    rank = x.ndim - 2
    check(x, w, b, **options | {"padding": ((3, 2),) * rank, "padding_mode": mode})


def test_options_that_are_applied_to_results():
    check_options_of_results(*operands("image_same"), "winograd")


@EACH
def test_prepared_layers_have_the_same_bits(name: str):
    check_prepared(*operands(name), "winograd", axis=2)  # of some, tiles have another size


@EACH
def test_an_image_has_the_same_bits_in_any_batch_on_any_threads(name: str, small_tasks: None):
    check_batches(*operands(name), "winograd")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@EACH
def test_what_is_not_finite_reaches_its_window_and_no_further_than_its_tiles(name: str, bad: float):
    """The documented weakness: other outputs of the same tiles become NaN too."""
    x, w, b, options = operands(name)
    x[(0,) * 2 + tuple(size // 2 for size in x.shape[2:])] = bad
    y = nc.conv(x, w, b, **options, backend="winograd")
    direct = nc.conv(x, w, b, **options, backend="direct")
    finite = np.isfinite(y)
    assert np.isfinite(direct)[finite].all()
    np.testing.assert_allclose(y[finite], direct[finite], rtol=0, atol=1e-4)
    wrong = ~finite & np.isfinite(direct)
    reach = 2 * max(tiles.POINTS)
    for axis, size in enumerate(x.shape[2:], 2):
        places = np.nonzero(wrong)[axis]
        assert np.all(np.abs(places - size // 2) <= reach)
    assert finite[1:].all()


@pytest.mark.parametrize(
    ("why", "dtype", "channels", "kernel", "options"),
    [
        ("integers", "int32", 16, 3, {}),
        ("stride 1", "float32", 16, 3, {"stride": 2}),
        ("dilation 1", "float32", 16, 3, {"dilation": 2}),
        ("kernels of 3", "float32", 16, 5, {}),
        ("kernels of 3", "float32", 16, 1, {}),
        ("channels", "float32", 4, 3, {}),
        ("padding", "float32", 16, 3, {"padding": 1000}),
    ],
)
def test_the_rest_is_left_to_direct(
    why: str,
    dtype: str,
    channels: int,
    kernel: int,
    options: Any,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(winograd, "LEAST_CHANNELS", 8)
    x, w = np.ones((1, channels, 40), dtype), np.ones((16, channels, kernel), dtype)
    said = nc.explain(x, w, **options, backend="winograd")
    assert said.backend == "direct"
    assert "winograd was asked for" in said.reason
    assert why in said.reason
    y = nc.conv1d(x, w, **options, backend="winograd")
    np.testing.assert_array_equal(y, nc.conv1d(x, w, **options, backend="direct"))


def test_auto_takes_it_only_if_precision_is_fast(monkeypatch: pytest.MonkeyPatch):
    x, w = normal((1, 64, 56, 56), np.float32), normal((64, 64, 3, 3), np.float32)
    explain = functools.partial(nc.explain, x, w, padding=1)
    assert explain().backend == explain(precision="ieee").backend == "direct"
    assert explain(precision="fast").backend == "winograd"
    expected = nc.conv2d(x, w, padding=1, backend="winograd")
    np.testing.assert_array_equal(nc.conv2d(x, w, padding=1, precision="fast"), expected)
    layer = nc.prepare(w, padding=1, precision="fast")
    np.testing.assert_array_equal(layer(x), expected)
    np.testing.assert_array_equal(through(layer, x), expected)
    monkeypatch.setenv("NUMBACONV_PRECISION", "Fast")
    assert explain().backend == "winograd"
    np.testing.assert_array_equal(nc.conv2d(x, w, padding=1), expected)
    assert explain(backend="direct").backend == "direct"
    assert nc.explain(x[:, :4], w[:4, :4]).backend == "direct"
    assert nc.explain(x, w, stride=2).backend == "direct"
    monkeypatch.setenv("NUMBACONV_PRECISION", "loose")
    with pytest.raises(ValueError, match="NUMBACONV_PRECISION must be one of ieee, tf32, fast"):
        nc.conv2d(x, w)


def test_inside_njit():
    x, w, _, _ = operands("image_same")
    check_inside_njit(x, w, "winograd")


# Transposed convolutions: of phases with 3 taps along an axis, or with 1. Of few output channels
# many phases are one convolution.
ADJOINTS: Problems = {
    "signal": ((2, 5, 131), (5, 3, 3), {"padding": 1}),
    "signal_joined": ((2, 9, 13), (9, 1, 48), {"stride": 16, "padding": 3}),
    "image": ((2, 7, 13, 37), (7, 4, 3, 3), {"padding": 1}),
    "image_groups": ((1, 9, 11, 21), (9, 2, 3, 3), {"groups": 3, "padding": (0, 2)}),
    "image_stride": ((1, 5, 9, 12), (5, 4, 6, 5), {"stride": 2, "output_padding": (1, 0)}),
    "image_skew": ((1, 5, 9, 12), (5, 4, 3, 2), {"stride": (1, 2)}),
    "image_blocks": ((1, 9, 8, 9), (9, 37, 3, 3), {"padding": 1}),
    "volume": ((2, 3, 5, 7, 9), (3, 4, 3, 3, 3), {"padding": 1}),
}  # fmt: skip
EACH_ADJOINT = pytest.mark.parametrize("name", ADJOINTS)

adjoint_operands = functools.partial(adjoint_operands_of, ADJOINTS)


@EACH_ADJOINT
def test_adjoints(name: str):
    x, w, b, options = adjoint_operands(name)
    said = nc.explain(x, w, b, **options, of="transposed", backend="winograd")
    assert (said.backend, said.lowering) == ("winograd", "minimal_filtering")
    y, _ = adjoint_error(x, w, b, options, "winograd")
    assert (y != transposed(x, w, b, **options, backend="direct")).any()


@pytest.mark.parametrize("dtype", FLOATS[1:])
def test_dtypes_of_adjoints(dtype: str):
    adjoint_error(*adjoint_operands("image", dtype), "winograd")


@EACH_ADJOINT
def test_an_adjoint_has_the_same_bits_in_any_batch_on_any_threads(name: str, small_tasks: None):
    check_batches(*adjoint_operands(name), "winograd", transposed)


def test_auto_takes_it_for_adjoints_only_if_precision_is_fast(monkeypatch: pytest.MonkeyPatch):
    x, w = normal((1, 64, 56, 56), np.float32), normal((64, 64, 3, 3), np.float32)
    explain = functools.partial(nc.explain, x, w, padding=1, of="transposed")
    assert explain().backend == explain(precision="ieee").backend == "direct"
    assert explain(precision="fast").backend == "winograd"
    expected = nc.conv_transpose2d(x, w, padding=1, backend="winograd")
    got = nc.conv_transpose2d(x, w, padding=1, precision="fast")
    np.testing.assert_array_equal(got, expected)
    got = nc.grad.conv2d_input(x.shape, w, x, padding=1, precision="fast")
    np.testing.assert_array_equal(got, expected)
    assert (nc.conv_transpose2d(x, w, padding=1) != expected).any()
    monkeypatch.setenv("NUMBACONV_PRECISION", "fast")
    np.testing.assert_array_equal(nc.conv_transpose2d(x, w, padding=1), expected)


@numba.njit
def spread(x, w, b):
    return nc.conv_transpose2d(x, w, b, padding=1, backend="winograd")


def test_adjoints_inside_njit():
    x, w, b, options = adjoint_operands("image")
    expected = nc.conv_transpose2d(x, w, b, **options, backend="winograd")
    for _ in range(2):
        np.testing.assert_array_equal(spread(x, w, b), expected)


def test_gradients_of_weights_are_those_of_direct():
    x, w, _, _ = operands("image")
    gradient = functools.partial(nc.grad.conv2d_weight, x, w.shape, normal((1, 4, 11, 13), "f4"))
    np.testing.assert_array_equal(gradient(backend="winograd"), gradient(backend="direct"))


def test_fast_gradients_count_that_their_weights_are_used_once():
    x, w = normal((1, 64, 24, 24), np.float32), normal((64, 64, 3, 3), np.float32)
    explain = functools.partial(nc.explain, x, w, padding=1, precision="fast")
    assert explain().backend == "winograd"
    assert explain(of="transposed").backend == "direct"


@pytest.mark.parametrize(
    ("channels", "sizes"),
    [(512, [(200,), (800,)]), (64, [(20, 20), (24, 24)]), (64, [(8, 8, 8)])],
)
def test_fast_chooses_the_same_for_any_batch(channels: int, sizes: list[tuple[int, ...]]):
    """Signals of a batch are rows of one problem, in its simplest form."""
    for size in sizes:
        w = np.zeros((channels, channels) + (3,) * len(size), np.float32)
        backends = {
            nc.explain(np.zeros((n, channels, *size), np.float32), w, precision="fast").backend
            for n in (1, 2, 16)
        }
        assert len(backends) == 1
