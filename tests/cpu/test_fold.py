"""Adjoints of few channels as one product that is folded: exact, and where each is taken."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numba import njit

import numbaconv as nc
from numbaconv.cpu.gradients import adjoint, adjoint_chain, fold
from numbaconv.cpu.gradients.adjoint_chain import Chain, Part
from numbaconv.runtime import threads
from tests.conftest import Script
from tests.oracle import reference


@pytest.fixture
def folded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every adjoint that can be folded be folded."""
    monkeypatch.setattr(fold, "cycles", lambda s, lanes: -1e30)
    monkeypatch.setattr(fold, "MOST_PRODUCTS", 1000)
    monkeypatch.setattr("numbaconv.problem.plan._adjoint_plans", {})


def integers(rng: np.random.Generator, *shape: int, dtype: Any = np.float32) -> np.ndarray:
    return rng.integers(-4, 5, shape).astype(dtype)


PROBLEMS = [
    ((2, 5, 17), (3, 4), {"stride": 3, "padding": 1, "output_padding": 2}),
    ((1, 6, 40), (2, 20), {"stride": 7, "padding": 6}),
    ((2, 5, 7, 19), (3, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
    ((1, 6, 8, 33), (2, 4, 4), {"stride": 2, "padding": 1}),
    ((2, 4, 6, 18), (1, 9, 9), {"stride": 4, "padding": 4, "output_padding": 3}),
    ((1, 3, 5, 5), (2, 2, 3), {"stride": (3, 5), "padding": 1}),  # elements that no tap reaches
    ((1, 3, 9, 9), (2, 3, 5), {"stride": 1, "padding": (1, 2)}),
    ((2, 8, 7, 7), (2, 5, 5), {"stride": 3, "padding": 2, "groups": 4}),
    ((1, 4, 3, 4, 21), (2, 3, 4, 2), {"stride": (2, 1, 2), "padding": 1}),
    ((1, 2, 4, 4), (1, 9, 9), {"stride": 2, "padding": 7}),  # all that is left is the middle
]


def is_folded(x: np.ndarray, w: np.ndarray, **options: Any) -> bool:
    return "one product" in nc.explain(x, w, of="transposed", **options).reason


@pytest.mark.usefixtures("folded")
@pytest.mark.parametrize(
    ("dtype", "serial_limit"),
    [("float32", 0), ("float32", 1 << 40), ("float64", 0), ("uint64", 0), ("complex64", 0)],
)
@pytest.mark.parametrize(("image", "weight", "options"), PROBLEMS)
def test_products_are_added_where_taps_read(
    image: tuple[int, ...],
    weight: tuple[int, ...],
    options: dict[str, Any],
    dtype: str,
    serial_limit: int,
    monkeypatch: pytest.MonkeyPatch,
):
    """With everything that may follow the sums, plain and prepared, on one thread and all."""
    monkeypatch.setattr(threads, "SERIAL_LIMIT", serial_limit)
    rng = np.random.default_rng(3)
    x, w = integers(rng, *image, dtype=dtype), integers(rng, image[1], *weight, dtype=dtype)
    assert is_folded(x, w, **options)
    channels = weight[0] * options.get("groups", 1)
    bias = integers(rng, channels, dtype=dtype)
    function = getattr(nc, f"conv_transpose{len(image) - 2}d")
    expected = reference.conv_transpose(x, w, bias, **options)
    np.testing.assert_array_equal(function(x, w, bias, **options), expected)
    layer = nc.prepare_transposed(w, bias, **options)
    for _ in range(2):
        np.testing.assert_array_equal(layer(x), expected)
    added = integers(rng, *expected.shape, dtype=dtype)
    found = function(x, w, bias, add=added, **options)
    np.testing.assert_array_equal(found, expected + added)
    if dtype.startswith("float"):
        found = function(x, w, bias, add=added, activation="relu", **options)
        np.testing.assert_array_equal(found, np.maximum(expected + added, 0))


@pytest.mark.usefixtures("folded")
def test_nan_and_infinity_stay_in_their_windows():
    x = np.ones((1, 3, 6, 30), np.float32)
    x[0, 1, 3, 17], x[0, 2, 0, 0] = np.nan, np.inf
    w = np.ones((3, 2, 3, 3), np.float32)
    assert is_folded(x, w, stride=2)
    y = nc.conv_transpose2d(x, w, stride=2)
    rows, columns = np.nonzero(np.isnan(y[0, 1]))
    assert (set(rows), set(columns)) == ({6, 7, 8}, {34, 35, 36})
    assert np.isinf(y[0, :, :3, :3]).all()
    assert np.isfinite(y[0]).sum() == y[0].size - 2 * 9 - 2 * 9


@pytest.mark.usefixtures("folded")
def test_gradients_of_the_input_and_compiled_callers():
    rng, options = np.random.default_rng(1), {"stride": 2, "padding": 1}
    size, w = (2, 3, 12, 35), integers(rng, 8, 3, 4, 4)
    g = nc.conv2d(integers(rng, *size), w, **options)
    expected = reference.conv_input(size, w, g, **options)
    np.testing.assert_array_equal(nc.grad.conv2d_input(size, w, g, **options), expected)

    @njit
    def compiled(g, w):
        return nc.grad.conv2d_input((2, 3, 12, 35), w, g, stride=2, padding=1)

    np.testing.assert_array_equal(compiled(g, w), expected)


def test_few_channels_are_folded_by_cost():
    """Of many channels phases fill register tiles; rows with the channels last are not dense."""
    x = np.ones((1, 64, 40, 40), np.float32)
    for channels, folds in ((1, True), (3, True), (64, False)):
        w = np.ones((64, channels, 4, 4), np.float32)
        assert is_folded(x, w, stride=2, padding=1) == folds
    last = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    w = np.ones((64, 2, 4, 4), np.float32)
    assert not is_folded(last, w, stride=2, padding=1, data_format="channels_last")


GUARDED = """
import sys
import numpy as np
import numbaconv as nc
from numbaconv.cpu.gradients import fold
from tests.robustness import guard_pages

fold.cycles, fold.MOST_PRODUCTS = lambda s, lanes: -1e30, 1000
guard_pages.install()
rng = np.random.default_rng(0)
for number in range(60):
    guard_pages.place(number % 2)
    integer = lambda least, most: int(rng.integers(least, most + 1))
    stride = integer(1, 5), integer(1, 6)
    kernel = integer(1, 6), integer(2, 20)
    size = integer(1, 6), integer(1, 40)
    x = rng.integers(-4, 5, (integer(1, 2), 3, *size)).astype(np.float32)
    w = rng.integers(-4, 5, (3, integer(1, 3), *kernel)).astype(np.float32)
    whole = nc.conv_transpose2d(x, w, stride=stride)
    y = np.zeros_like(whole)
    for kh, kw in np.ndindex(kernel):
        rows, columns = (slice(k, k + s * (n - 1) + 1, s) for k, s, n in
                         zip((kh, kw), stride, size))
        y[:, :, rows, columns] += np.einsum("nihw,io->nohw", x, w[:, :, kh, kw])
    assert np.array_equal(whole, y), number
"""


def test_nothing_outside_is_touched(run_script: Script):
    run_script("-c", GUARDED)


@pytest.mark.usefixtures("folded")
@pytest.mark.parametrize("backend", ["fft", "winograd"])
def test_transforms_that_are_asked_for_get_phases(backend: str, monkeypatch: pytest.MonkeyPatch):
    """A product has a single tap. The plan serves both ways."""
    chains: list[list[Part]] = []

    def make_chain(parts: list[Part], *rest: Any) -> Chain:
        chains.append(parts)
        return adjoint_chain.make_chain(parts, *rest)

    copy = SimpleNamespace(**vars(adjoint_chain) | {"make_chain": make_chain})
    monkeypatch.setattr(adjoint, "adjoint_chain", copy)
    rng, options = np.random.default_rng(5), {"stride": 1, "padding": 1}
    x, w = integers(rng, 2, 8, 20, 21), integers(rng, 8, 8, 3, 3)
    expected = reference.conv_transpose(x, w, None, **options)
    for _ in range(2):
        said = nc.explain(x, w, of="transposed", backend=backend, **options)
        assert said.backend == backend
        found = nc.conv_transpose2d(x, w, backend=backend, **options)
        np.testing.assert_array_equal(np.rint(found), expected)
        assert is_folded(x, w, **options)
        np.testing.assert_array_equal(nc.conv_transpose2d(x, w, **options), expected)
    assert [[part.folded for part in parts] for parts in chains] == [[False], [True]]


def test_far_padding_and_many_taps_are_not_folded(monkeypatch: pytest.MonkeyPatch):
    """Most of a row would lie before the result; products would take much memory."""
    monkeypatch.setattr(fold, "cycles", lambda s, lanes: -1e30)
    monkeypatch.setattr("numbaconv.problem.plan._adjoint_plans", {})
    x = np.ones((1, 4, 2**12), np.float32)
    assert is_folded(x, np.ones((4, 1, 3), np.float32), padding=3)
    for taps, padding in ((3, 2**11), (999, 4)):
        assert not is_folded(x, np.ones((4, 1, taps), np.float32), padding=padding)
