"""Dask arrays under patches, gradients, signals and masks: equal to the call on the whole array."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import numbaconv as nc
from numbaconv.signal.extension import MODES
from tests.arrays.chunks import check, chunked, da, seeds, whole_numbers

FILTER_MODES = ("reflect", "mirror", "nearest", "wrap", "constant")


def draw_problem(rng: Any) -> tuple[np.ndarray, np.ndarray, dict[str, Any], int]:
    """An input, weights, options and groups."""
    rank, groups = int(rng.integers(1, 4)), int(rng.choice([1, 2]))
    kernel, dilation, stride = (rng.integers(1, n, rank) for n in (5, 4, 4))
    size = (kernel - 1) * dilation + 1 + rng.integers(0, (40, 16, 8)[rank - 1], rank)
    options = {
        "stride": tuple(map(int, stride)),
        "padding": tuple((int(lo), int(hi)) for lo, hi in rng.integers(0, 3, (rank, 2))),
        "dilation": tuple(map(int, dilation)),
    }
    x, w = whole_numbers(rng, 2, 2 * groups, *size), whole_numbers(rng, 4 * groups, 2, *kernel)
    return (x if rng.integers(0, 3) else x[0]), w, options, groups


@pytest.mark.parametrize("seed", seeds(16, 200))
def test_random_gradients(seed: int):
    rng = np.random.default_rng(seed)
    x, w, options, groups = draw_problem(rng)
    rank, options = w.ndim - 2, {**options, "groups": groups}
    g = whole_numbers(rng, *nc.conv(x, w, **options).shape)
    of_input, of_weight = (getattr(nc.grad, f"conv{rank}d_{of}") for of in ("input", "weight"))
    expected = of_input(x.shape, w, g, **options)
    check(of_input(x.shape, w, chunked(rng, g), **options), expected)
    check(of_input(x.shape, chunked(rng, w), chunked(rng, g), **options), expected)
    expected = of_weight(x, w.shape, g, **options)
    check(of_weight(chunked(rng, x), w.shape, chunked(rng, g), **options), expected)
    check(of_weight(x, w.shape, chunked(rng, g), **options), expected)


def test_sums_of_half_precision_are_made_in_single():
    ones = np.ones((1, 1, 3 * 2049), np.float16)  # which holds 2048 and 2050, but not 2049
    lazy = nc.grad.conv1d_weight(da.from_array(ones, chunks=2049), (1, 1, 1), ones)
    expected = nc.grad.conv1d_weight(ones, (1, 1, 1), ones)
    np.testing.assert_array_equal(lazy.compute(), expected, strict=True)


@pytest.mark.parametrize("seed", seeds(16, 200))
def test_random_patches(seed: int):
    rng = np.random.default_rng(1000 + seed)
    x, w, options, _ = draw_problem(rng)
    kernel, size = w.shape[2:], x.shape[2 - w.ndim :]
    columns = nc.im2col(x, kernel, **options)
    check(nc.im2col(chunked(rng, x), kernel, **options), columns)
    columns = whole_numbers(rng, *columns.shape)
    image = nc.col2im(columns, size, kernel, **options)
    check(nc.col2im(chunked(rng, columns), size, kernel, **options), image)


@pytest.mark.parametrize("seed", seeds(12, 150))
def test_random_convolutions_of_signals(seed: int):
    rng = np.random.default_rng(2000 + seed)
    ndim = int(rng.integers(1, 4))
    most = (60, 25, 10)[ndim - 1]
    x = whole_numbers(rng, *rng.integers(1, most, ndim))
    w = whole_numbers(rng, *rng.integers(1, (9, 6, 4)[ndim - 1], ndim))
    if seed % 3 == 0:
        x, w = x.astype(np.int16), w.astype(np.int8)
    if seed % 4 == 0:
        w = w + 1j * whole_numbers(rng, *w.shape)
    for mode in ("full", "same", "valid"):
        if mode == "valid" and any(n < k for n, k in zip(x.shape, w.shape, strict=True)):
            continue
        for function in (nc.signal.convolve, nc.signal.correlate):
            expected = function(x, w, mode, "direct")
            check(function(chunked(rng, x), w, mode, "direct"), expected)
            check(function(x, chunked(rng, w), mode, "direct"), expected)
        expected = nc.signal.fftconvolve(x, w, mode)
        check(nc.signal.oaconvolve(chunked(rng, x), chunked(rng, w), mode), expected)


def test_other_axes_are_paired_and_methods_chosen():
    rng = np.random.default_rng(0)
    x, w = whole_numbers(rng, 3, 1, 200), whole_numbers(rng, 3, 2, 50)
    expected = nc.signal.fftconvolve(x, w, axes=2)
    check(nc.signal.fftconvolve(chunked(rng, x), w, axes=2), expected)
    long, taps = rng.normal(size=3000), rng.normal(size=401)
    lazy = nc.signal.convolve(da.from_array(long, chunks=500), taps, "same", "fft")
    check(lazy, nc.signal.convolve(long, taps, "same"), within=1e-11)
    assert lazy.chunks == ((500,) * 6,)
    many = whole_numbers(rng, 3, 4, 3, 5), whole_numbers(rng, 2, 2, 2, 2)
    check(nc.signal.convolve(chunked(rng, many[0]), many[1]), nc.signal.convolve(*many))


@pytest.mark.parametrize("seed", seeds(6, 60))
def test_random_images_with_boundaries(seed: int):
    rng = np.random.default_rng(3000 + seed)
    x, w = whole_numbers(rng, *rng.integers(1, 25, 2)), whole_numbers(rng, *rng.integers(1, 9, 2))
    for boundary in ("fill", "wrap", "symm"):
        for mode in ("full", "same"):
            for function in (nc.signal.convolve2d, nc.signal.correlate2d):
                expected = function(x, w, mode, boundary, 3)
                check(function(chunked(rng, x), w, mode, boundary, 3), expected)
    if min(np.subtract(x.shape, w.shape)) >= 0:
        expected = nc.signal.correlate2d(w, x, "valid")
        check(nc.signal.correlate2d(chunked(rng, w), x, "valid"), expected)
    rows, columns = (whole_numbers(rng, 2 * int(rng.integers(0, 5)) + 1) for _ in range(2))
    check(nc.signal.sepfir2d(chunked(rng, x), rows, columns), nc.signal.sepfir2d(x, rows, columns))


@pytest.mark.parametrize("seed", seeds(18, 180))
def test_random_signals(seed: int):
    rng = np.random.default_rng(4000 + seed)
    x, axis = whole_numbers(rng, *rng.integers(1, 70, 2)), int(rng.integers(0, 2))
    b = whole_numbers(rng, int(rng.integers(1, 9)))
    shape = list(x.shape)
    shape[axis] = b.size - 1
    state, one = whole_numbers(rng, *shape), np.float32(1)
    check(nc.signal.lfilter(b, one, chunked(rng, x), axis), nc.signal.lfilter(b, one, x, axis))
    expected = nc.signal.lfilter(b, one, x, axis, state)
    given = chunked(rng, state) if state.size and seed % 2 else state
    for lazy, whole in zip(
        nc.signal.lfilter(b, one, chunked(rng, x), axis, given), expected, strict=True
    ):
        check(lazy, whole)

    h, mode = whole_numbers(rng, int(rng.integers(1, 30))), MODES[seed % len(MODES)]
    up, down = (int(n) for n in rng.integers(1, 6, 2))
    constant = 2.0 if mode == "constant" else 0.0
    y = x + 1j * x[::-1].astype(np.float32) if seed % 5 == 0 else x
    expected = nc.signal.upfirdn(h, y, up, down, axis, mode, constant)
    lazy = nc.signal.upfirdn(h, chunked(rng, y), up, down, axis, mode, constant)
    check(lazy, expected, within=1e-4 if mode == "line" else None)
    kind = ("mean", "median", "minimum", "maximum", *MODES)[seed % (4 + len(MODES))]
    expected = nc.signal.resample_poly(x, up, down, axis, padtype=kind)
    check(nc.signal.resample_poly(chunked(rng, x), up, down, axis, padtype=kind), expected, 1e-4)

    mode = (*FILTER_MODES[1:], "interp")[seed % 5]
    length = int(rng.integers(2, min(11, x.shape[axis] + 1))) if x.shape[axis] > 1 else 1
    options: Any = {"deriv": seed % 2, "axis": axis, "mode": mode, "cval": 2.0}
    order = min(2, length - 1)
    expected = nc.signal.savgol_filter(x, length, order, **options)
    check(nc.signal.savgol_filter(chunked(rng, x), length, order, **options), expected, 1e-4)


@pytest.mark.parametrize("seed", seeds(15, 150))
def test_random_missing_values(seed: int):
    rng = np.random.default_rng(5000 + seed)
    x = whole_numbers(rng, *rng.integers(1, 30, rng.integers(1, 3)))
    valid, box = rng.random(x.shape) < 0.8, rng.integers(1, 4, rng.integers(1, 5, x.ndim))
    x[rng.random(x.shape) < 0.1] = np.nan
    mode = FILTER_MODES[seed % 5]
    options: Any = {"mode": mode, "min_weight": 0.4 * (seed % 2), "nan": "omit"}
    if seed % 3 == 0:
        options["cval"] = np.nan
    for mask in (None, valid):
        for function, given in (
            (nc.ndimage.correlate, box),
            (nc.ndimage.convolve, box),
            (nc.ndimage.uniform_filter, 3),
            (nc.ndimage.gaussian_filter, 1.2),
        ):
            expected = function(x, given, mask=mask, **options)
            for each in [None] if mask is None else [valid, chunked(rng, valid)]:
                lazy = function(chunked(rng, x), given, mask=each, **options)
                check(lazy, expected, within=1e-5)


def test_masks_of_whole_numbers():
    rng = np.random.default_rng(0)
    x, line = whole_numbers(rng, 20, 30).astype(np.int16), np.ones(30, bool)
    line[[3, 4, 5, 20]] = False  # in the block that begins there nothing is seen before
    masks = line, da.from_array(line, chunks=7), nc.ndimage.prepare_mask(line)
    options: Any = {"weights": np.ones((3, 5)), "rounding": "saturate"}
    expected = nc.ndimage.correlate(x, mask=line, **options)
    for mask in masks:
        check(nc.ndimage.correlate(da.from_array(x, chunks=5), mask=mask, **options), expected)
    lazy = nc.ndimage.correlate(da.from_array(x, chunks=5), [[1]], mask=line)
    with pytest.raises(ValueError, match="cannot hold results that are missing"):
        lazy.compute()
    tiled = nc.tiled(nc.ndimage.correlate, x, memory="17 MB", mask=line, **options)
    np.testing.assert_array_equal(tiled, expected)


@pytest.mark.parametrize("mode", FILTER_MODES)
def test_derivatives_by_functions_of_known_reach(mode: str):
    rng = np.random.default_rng(0)
    x = whole_numbers(rng, 23, 31)
    for derivative, options in (
        (nc.ndimage.sobel, {}),
        (nc.ndimage.prewitt, {"axes": (1,), "output": np.float64}),
    ):
        for function in (nc.ndimage.generic_laplace, nc.ndimage.generic_gradient_magnitude):
            expected = function(x, derivative, mode=mode, **options)
            check(function(chunked(rng, x), derivative, mode=mode, **options), expected)


def test_nothing_is_computed():
    def fail(*_: Any) -> None:
        raise AssertionError("computed")

    def image(*shape: int) -> Any:
        return da.map_blocks(fail, chunks=tuple((n // 2, n // 2) for n in shape), dtype=np.float32)

    x, line, ones = image(40, 60), image(100), np.ones((3, 3), np.float32)
    assert nc.signal.convolve(x, ones, "same").chunks == x.chunks
    assert nc.signal.convolve2d(x, ones, "same", "symm").shape == x.shape
    assert nc.signal.sepfir2d(x, ones[0], ones[0]).chunks == x.chunks
    assert nc.signal.lfilter([1, 2], np.float32(1), x).chunks == x.chunks
    causal = nc.conv1d(line[None], ones[None, :1], padding=((2, 0),))
    assert causal.chunks == ((1,), *line.chunks)
    assert nc.signal.savgol_filter(x, 5, 2).shape == x.shape
    assert nc.signal.resample_poly(line, 3, 2, padtype="line").shape == (150,)
    assert nc.ndimage.correlate(x, ones, mask=image(40, 60) > 0).chunks == x.chunks
    batch = image(2, 2, 40, 60)
    assert nc.im2col(batch, 3).shape == (2, 18, 38 * 58)
    assert nc.col2im(nc.im2col(batch, 3), (40, 60), 3).shape == batch.shape
    gradient = nc.grad.conv2d_weight(batch, (4, 2, 3, 3), image(2, 4, 38, 58))
    assert (gradient.shape, gradient.dtype) == ((4, 2, 3, 3), np.float32)


def test_threads_of_all_functions(monkeypatch: pytest.MonkeyPatch):
    numba = pytest.importorskip("numba")
    from numbaconv import dask as explicit
    from numbaconv.signal import sums

    seen: list[int] = []
    plain = sums._ByBlocks.run

    def run(self: Any, *given: Any) -> Any:
        seen.append(numba.get_num_threads())
        return plain(self, *given)

    monkeypatch.setattr(sums._ByBlocks, "run", run)
    x, taps = da.ones(90, chunks=30), np.ones(5)
    with explicit.block_threads(2):
        lazy = nc.signal.convolve(x, taps)
    lazy.compute(scheduler="synchronous")
    nc.signal.convolve(x, taps).compute(scheduler="synchronous")
    assert seen == [min(2, numba.config.NUMBA_NUM_THREADS)] * 3 + [1] * 3
    columns = explicit.im2col(np.ones((1, 1, 9)), 3)
    assert isinstance(columns, da.Array)
