"""What SciPy does not say: streams, NaN, windows without it, what is not computed."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

import numbaconv as nc
from numbaconv.cpu.separable import resampling as rows
from numbaconv.signal import arguments, resampling

signal = nc.signal


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_stream_in_blocks_is_the_whole(dtype: str, axis: int):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(3, 200)).astype(dtype)
    x = x if axis == 1 else np.ascontiguousarray(x.T)
    b, one = draw.normal(size=17).astype(dtype), np.ones(1, dtype)
    expected = signal.lfilter(b, one, x, axis)
    state = np.zeros((3, 16) if axis == 1 else (16, 3), dtype)
    blocks, at = [], 0
    for size in (1, 5, 16, 17, 40, 121):  # shorter than the state, and longer
        part = np.take(x, range(at, at + size), axis)
        y, state = signal.lfilter(b, one, part, axis, zi=state)
        blocks.append(y)
        at += size
    assert at == 200
    assert state.base is None  # a state keeps no block alive
    got = np.concatenate(blocks, axis)
    np.testing.assert_allclose(got, expected, rtol=0, atol=100 * np.finfo(dtype).eps)


@pytest.mark.parametrize("spoilt", [np.nan, np.inf])
def test_samples_that_are_no_numbers_stay_with_their_results(spoilt: float):
    """Whatever the rates: a result has a sample only where it has a coefficient for it."""
    h = np.arange(1.0, 31)
    for up, down in ((1, 1), (3, 2), (2, 3), (7, 5), (1, 4), (5, 1)):
        for at in (0, 20, 39):
            x, one = np.zeros(40), np.zeros(40)
            x[at], one[at] = spoilt, 1
            reached = signal.upfirdn(h, one, up, down) != 0
            np.testing.assert_array_equal(np.isfinite(signal.upfirdn(h, x, up, down)), ~reached)


@pytest.mark.parametrize("rates", [(3, 2), (2, 3), (160, 147), (4, 6), (5, 1), (1, 5)])
def test_only_products_that_count_are_made(rates: tuple[int, int], monkeypatch: Any):
    """As many as there are coefficients in all results."""
    up, down = rates
    given: list[Any] = []
    monkeypatch.setattr(resampling, "resample", lambda x, ends, y, rates: given.append((y, rates)))
    x, h = np.ones(4000), np.ones(20 * max(rates) + 1)
    signal.upfirdn(h, x, up, down)
    ((y, found),) = given
    made = sum(len(p.taps) * y[0, p.first :: found.turn].size for p in found.phases)
    assert made == pytest.approx(y.size * h.size / up, rel=0.02)
    assert len(found.phases) == found.turn
    assert found.turn / found.stride == up / down


@pytest.fixture(params=["results in cache", "results past the caches"])
def where_results_go(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    if request.param == "results past the caches":
        monkeypatch.setattr(rows, "last_level_caches", lambda threads: 0)
    rows.make_template.cache_clear()
    yield
    rows.make_template.cache_clear()


@pytest.mark.usefixtures("where_results_go")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_any_number_of_threads_resamples_to_the_same_bits(dtype: str):
    """Also where a signal is cut into many tasks, of which the last are short."""
    import numba

    h = np.random.default_rng(0).normal(size=61).astype(dtype)
    for shape, up, down in (((1, 60011), 3, 2), ((3, 9001), 2, 7), ((40, 50), 5, 3)):
        x = np.random.default_rng(1).normal(size=shape).astype(dtype)
        expected = np.array([_upsampled(row, up, h)[::down] for row in x])
        results = []
        before = numba.get_num_threads()
        try:
            for threads in (1, before):
                numba.set_num_threads(threads)
                results.append(signal.upfirdn(h, x, up, down))
        finally:
            numba.set_num_threads(before)
        assert np.array_equal(results[0], results[1])
        atol = 64 * np.finfo(dtype).eps * np.abs(h).sum()
        np.testing.assert_allclose(results[0], expected, rtol=0, atol=atol)


def _upsampled(row: np.ndarray, up: int, h: np.ndarray) -> np.ndarray:
    """All that a filter makes of samples with zeros between them."""
    zeros = np.zeros((row.size - 1) * up + 1, row.dtype)
    zeros[::up] = row
    return np.convolve(zeros, h)


def test_methods_have_one_place(monkeypatch: pytest.MonkeyPatch):
    """`method` is honoured: it names what `conv` runs on. Other functions leave it open."""
    x = np.ones(20)
    monkeypatch.setitem(arguments._BACKENDS, "fft", "im2col")
    seen = []

    def conv(*given: Any, backend: Any, **options: Any) -> np.ndarray:
        seen.append(backend)
        return np.asarray(nc.conv(*given, backend=backend, **options))

    monkeypatch.setattr("numbaconv.signal.sums.conv", conv)
    for call in (
        lambda: signal.convolve(x, x, method="fft"),
        lambda: signal.correlate(x, x, method="direct"),
        lambda: signal.convolve(x, x),
        lambda: signal.fftconvolve(x, x),
        lambda: signal.oaconvolve(x, x),
    ):
        call()
    assert seen == ["im2col", "direct", None, None, None]


def test_integers_are_exact_and_bools_are_or():
    x, w = np.array([2**52 + 1, 3], np.int64), np.array([1, 2], np.int64)
    for method in ("direct", "fft", "auto"):
        got = signal.convolve(x, w, method=method)
        assert got.tolist() == [2**52 + 1, 2**53 + 5, 6]
    assert signal.convolve(x.astype("u1"), w.astype("u1") * 100).dtype == np.uint8
    bits = np.array([[True, False], [False, False]])
    assert np.array_equal(signal.convolve(bits, bits | True, "same"), [[True, True], [True, True]])


@pytest.mark.parametrize(
    ("dtype", "value"), [("int64", 2**62 + 1), ("int64", -(2**63)), ("uint64", 2**64 - 1)]
)
def test_integers_beyond_the_edge_are_exact(dtype: str, value: int):
    x, w = np.ones((2, 2), dtype), np.ones((1, 2), dtype)
    y = nc.signal.convolve2d(x, w, fillvalue=value)
    assert y.dtype == dtype
    assert int(y[0, 0]) % 2**64 == (value + 1) % 2**64  # sums wrap


@pytest.mark.parametrize("value", [2**64, 2**2000, -1, np.inf, np.nan, 1 + 1j, None, "3", [1, 2]])
def test_a_constant_that_the_result_cannot_hold(value: Any):
    x = np.ones((2, 2), np.uint64)
    with pytest.raises(ValueError, match="fillvalue"):
        nc.signal.convolve2d(x, x, fillvalue=value)


def test_numbers_and_five_axes():
    assert signal.convolve(3, 2) == 6
    assert signal.correlate(3, 2j) == -6j
    assert signal.fftconvolve(3.0, 2) == 6.0
    assert signal.fftconvolve([], [1.0]).shape == (0,)
    draw = np.random.default_rng(0)
    x, w = (draw.integers(0, 9, (3, 4, 2, 3, 4)), draw.integers(0, 9, (2, 2, 2, 1, 3)))
    expected = np.zeros([m + n - 1 for m, n in zip(x.shape, w.shape, strict=True)], int)
    for place in np.ndindex(w.shape):
        index = tuple(slice(p, p + n) for p, n in zip(place, x.shape, strict=True))
        expected[index] += w[place] * x
    assert np.array_equal(signal.convolve(x, w), expected)


def test_resampling_without_scipy(monkeypatch: pytest.MonkeyPatch):
    """The usual window needs no SciPy; another says so."""
    x = np.sin(np.arange(300.0) / 9)
    expected = signal.resample_poly(x, 3, 2)
    monkeypatch.setitem(sys.modules, "scipy.signal", None)
    assert np.array_equal(signal.resample_poly(x, 3, 2), expected)
    with pytest.raises(ValueError, match="needs SciPy"):
        signal.resample_poly(x, 3, 2, window="parzen")


def test_samples_far_beyond_the_ends():
    """Patterns repeat, however short the signal is."""
    x = np.arange(1.0, 4)
    for mode, expected in {
        "wrap": [3, 1, 2, 3, 1, 2, 3, 1, 2],
        "symmetric": [3, 3, 2, 1, 1, 2, 3, 3, 2],
        "antisymmetric": [3, -3, -2, -1, 1, 2, 3, -3, -2],
        "reflect": [1, 2, 3, 2, 1, 2, 3, 2, 1],
        "antireflect": [-3, -2, -1, 0, 1, 2, 3, 4, 5],
        "edge": [1, 1, 1, 1, 1, 2, 3, 3, 3],
        "smooth": [-3, -2, -1, 0, 1, 2, 3, 4, 5],
        "line": [-3, -2, -1, 0, 1, 2, 3, 4, 5],
    }.items():
        # A filter of nine taps whose middle result reads all of them, one at a time.
        for tap in range(9):
            h = np.zeros(9)
            h[8 - tap] = 1
            y = signal.upfirdn(h, np.r_[x], mode=mode)
            assert y[4] == expected[tap], (mode, tap)
