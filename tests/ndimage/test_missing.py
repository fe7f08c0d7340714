"""Missing values beside the definition in float64, and beside astropy where it is installed."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pytest

import numbaconv as nc
from tests.ndimage.draws import PAD, Draw, padded

ndimage = nc.ndimage


def definition(
    image: np.ndarray,
    valid: np.ndarray,
    weights: np.ndarray,
    mode: str,
    outside: float | None,
    origin: tuple[int, ...],
    min_weight: float,
) -> np.ndarray:
    """Correlate valid values in float64; `outside` is the constant, or None: missing."""
    pairs = [(n // 2 + o, n - 1 - n // 2 - o) for n, o in zip(weights.shape, origin, strict=True)]
    selected = np.where(valid, image, 0).astype(np.float64)
    values = padded(selected, pairs, mode, 0 if outside is None else outside)
    there = padded(valid, pairs, mode, outside is not None)
    taps = tuple(range(-weights.ndim, 0))
    windows = np.lib.stride_tricks.sliding_window_view(values, weights.shape)
    present = np.lib.stride_tricks.sliding_window_view(there, weights.shape)
    sums = (windows * weights).sum(taps)
    met = (present * weights).sum(taps)
    fraction = (present * np.abs(weights)).sum(taps) / np.abs(weights).sum()
    with np.errstate(all="ignore"):
        result = sums * weights.sum() / met
    result[(fraction == 0) | (fraction < min_weight - 1e-6)] = np.nan
    return result


def random_gaps(draw: Draw) -> tuple[np.ndarray, np.ndarray]:
    """An image, and where it is valid; elsewhere it holds whatever would spoil a sum."""
    image = draw.image(("float32", "float64", "float64", "uint8", "int16"))
    image = (image % 100).astype(image.dtype) if image.dtype.kind in "iu" else image.copy()
    valid = draw.numbers.random(image.shape) < draw.choose((0.02, 0.5, 0.9, 1.0))
    spoilt = draw.choose((np.nan, np.inf, -np.inf)) if image.dtype.kind == "f" else 99
    image[~valid] = spoilt
    return image, valid


@pytest.mark.parametrize("seed", range(12))
def test_random_gaps(seed: int):
    for number in range(12):
        draw = Draw(f"gaps/{seed}/{number}")
        image, valid = random_gaps(draw)
        most = {1: 30, 2: 7, 3: 4}.get(image.ndim, 3)
        shape = tuple(draw.random.randint(1, min(most, n)) for n in image.shape)
        weights = draw.numbers.uniform(0.1, 1, shape)
        if draw.one_in(3):
            weights[draw.numbers.random(shape) < 0.2] = 0
            weights.flat[0] = 1
        origin = tuple(draw.origin(n) for n in shape)
        mode = draw.choose(PAD)
        options: dict[str, Any] = {"mode": mode, "min_weight": draw.choose((0, 0, 0.3, 1))}
        outside: float | None = draw.choose((0.0, 1.5))
        options["cval"] = outside
        if mode == "constant" and draw.one_in(2):
            options |= {"cval": np.nan, "nan": "omit"}
            outside = None
        spoilt = image.dtype.kind == "f" and np.isnan(image[~valid]).all() and draw.one_in(2)
        if spoilt:
            options["nan"] = "omit"
        else:
            options["mask"] = ndimage.prepare_mask(valid) if draw.one_in(2) else valid
        if image.dtype.kind in "iu":
            options["output"] = draw.choose((np.float32, np.float64))
        expected = definition(image, valid, weights, mode, outside, origin, options["min_weight"])
        got = ndimage.correlate(image, weights, origin=origin, **options)
        unit = np.finfo(got.dtype).eps
        largest = float(np.abs(np.where(valid, image, 0).astype(float)).max()) + 1.5
        atol = 32 * unit * largest * weights.sum()
        np.testing.assert_allclose(got, expected, rtol=0, atol=atol, err_msg=f"{seed}/{number}")


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
@pytest.mark.parametrize("mode", PAD)
def test_named_filters_are_kernels(dtype: str, mode: str):
    """Boxes and Gaussians over gaps are those of their kernels, in up to four axes."""
    draw = np.random.default_rng(0)
    image = draw.normal(size=(7, 9, 6, 11)).astype(dtype)
    image[draw.random(image.shape) < 0.3] = np.nan
    point = np.zeros((7, 7, 7, 7))
    point[3, 3, 3, 3] = 1
    options: dict[str, Any] = {"nan": "omit", "mode": mode, "axes": (0, 1, 3)}
    for kernel, got in (
        (np.ones((3, 4, 1, 5)) / 60, ndimage.uniform_filter(image, (3, 4, 5), **options)),
        (
            ndimage.gaussian_filter(point, 0.8, radius=3, axes=(0, 1, 3))[:, :, 3:4],
            ndimage.gaussian_filter(image, 0.8, radius=3, **options),
        ),
    ):
        expected = ndimage.correlate(image, kernel, nan="omit", mode=mode)
        np.testing.assert_allclose(got, expected, rtol=0, atol=64 * np.finfo(dtype).eps)
    box = ndimage.uniform_filter(image, 3, nan="omit", mode=mode)
    assert np.isfinite(box).mean() > 0.99


def test_convolve_turns_the_weights_round():
    x = np.random.default_rng(0).normal(size=(9, 12))
    x[4, 5] = np.nan
    w = np.arange(1.0, 9).reshape(2, 4)
    expected = ndimage.correlate(x, w[::-1, ::-1], nan="omit", origin=(-1, -1))
    np.testing.assert_allclose(ndimage.convolve(x, w, nan="omit"), expected, rtol=1e-13)


def test_signed_weights():
    """Their part is that of the absolute values."""
    x = np.random.default_rng(0).normal(size=40)
    valid = np.random.default_rng(1).random(40) < 0.6
    w = np.array([-1.0, 5, 0.5])
    for least in (0.0, 0.5, 0.9, 1.0):
        expected = definition(x, valid, w, "reflect", 0, (0,), least)
        got = ndimage.correlate(x, w, mask=valid, min_weight=least)
        np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_where_nothing_is_missing_nothing_changes():
    x = np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32)
    w = np.random.default_rng(1).normal(size=(3, 5))
    for options in ({"nan": "omit"}, {"mask": np.ones(30, bool)}, {"nan": "omit", "min_weight": 1}):
        assert np.array_equal(ndimage.convolve(x, w, **options), ndimage.convolve(x, w))
        for name in ("gaussian_filter", "uniform_filter"):
            f = getattr(ndimage, name)
            assert np.array_equal(f(x, 3, **options), f(x, 3))


@pytest.mark.nojit
def test_masks_without_the_compiler():
    """Bools become parts of weights there too."""
    x = np.array([[1.0, 2, np.nan, 4], [5, 6, 7, 8]])
    valid = ~np.isnan(x)
    expected = definition(x, valid, np.ones((3, 3)) / 9, "reflect", 0, (0, 0), 0)
    np.testing.assert_allclose(ndimage.uniform_filter(x, nan="omit"), expected, rtol=1e-12)


def test_nan_that_is_valid_propagates():
    x = np.zeros((9, 9))
    x[2, 2] = x[7, 7] = np.nan
    mask = np.ones((9, 9), bool)
    mask[7, 7] = False
    got = ndimage.uniform_filter(x, 3, mask=mask)
    assert np.isnan(got).sum() == 9
    assert np.isnan(got[1:4, 1:4]).all()


def test_integers():
    x = np.array([10, 11, 255, 13, 13], np.uint8)
    mask = np.array([True, True, False, True, True])
    means = ndimage.uniform_filter(x, 3, mask=mask)
    assert means.dtype == np.uint8
    assert means.tolist() == [10, 10, 12, 13, 13]  # 10.33, 10.5, 12, 13, 13
    near = ndimage.uniform_filter(x, 3, mask=mask, rounding="saturate")
    assert near.tolist() == [10, 10, 12, 13, 13]
    large = ndimage.correlate(x, [30], mask=mask | True, rounding="saturate")
    assert large.tolist() == [255] * 5
    with pytest.raises(ValueError, match="cannot hold results that are missing"):
        ndimage.uniform_filter(x, 1, mask=mask)
    with pytest.raises(ValueError, match="cannot hold results that are missing"):
        ndimage.uniform_filter(x, 3, mask=mask & False)


def test_a_filter_that_does_nothing():
    x = np.array([1.0, 2, 3])
    got = ndimage.gaussian_filter(x, 0, mask=[True, False, True])
    np.testing.assert_array_equal(got, [1, np.nan, 3])


def test_in_place_and_other_outputs():
    x = np.random.default_rng(0).normal(size=(12, 15))
    x[3, 3:9] = np.nan
    expected = ndimage.gaussian_filter(x, 1, nan="omit")
    for out in (np.empty((15, 12)).T, np.empty((12, 15), ">f8"), np.empty((12, 15), np.float16)):
        got = ndimage.gaussian_filter(x, 1, output=out, nan="omit")
        assert got is out
        rtol = 2e-3 if out.dtype == np.float16 else 1e-12
        np.testing.assert_allclose(out, expected, rtol=rtol, atol=rtol)
    ndimage.gaussian_filter(x, 1, output=x, nan="omit")
    np.testing.assert_array_equal(x, expected)


def test_prepared_masks_are_computed_with_once(monkeypatch: pytest.MonkeyPatch):
    from numbaconv.ndimage import missing

    x = np.random.default_rng(0).normal(size=(20, 30))
    mask = np.random.default_rng(1).random((20, 30)) < 0.7
    prepared = ndimage.prepare_mask(mask)
    calls: list[Any] = []
    whole = missing._weights_of_valid
    monkeypatch.setattr(
        missing, "_weights_of_valid", lambda *given: (calls.append(0), whole(*given))[1]
    )
    expected = ndimage.gaussian_filter(x, 2, mask=mask)
    assert len(calls) == 1
    for image in (x, x, np.where(mask, x, np.nan)):
        got = ndimage.gaussian_filter(image, 2, mask=prepared, nan="omit")
        np.testing.assert_array_equal(got, expected)
    assert len(calls) == 2
    # What a factor depends on: weights, dtype, borders, shape.
    ndimage.gaussian_filter(x, 1, mask=prepared)
    ndimage.gaussian_filter(x.astype(np.float32), 2, mask=prepared)
    ndimage.gaussian_filter(x, 2, mask=prepared, mode="wrap")
    ndimage.gaussian_filter(x, 2, mask=prepared, min_weight=0.5)
    ndimage.gaussian_filter(np.stack([x, x]), 2, axes=(1, 2), mask=prepared)
    ndimage.gaussian_filter(x, 2, mask=prepared, nan="omit", mode="constant", cval=np.nan)
    assert len(calls) == 8
    row = ndimage.prepare_mask(mask[0])  # of images of any height
    for image in (x, x[:7], x):
        got = ndimage.uniform_filter(image, 3, mask=row)
        np.testing.assert_array_equal(got, ndimage.uniform_filter(image, 3, mask=mask[0]))
    spoilt = x.copy()
    spoilt[tuple(np.argwhere(mask)[100])] = np.nan
    expected = ndimage.gaussian_filter(x, 2, mask=mask & ~np.isnan(spoilt))
    ndimage.gaussian_filter(x, 2, mask=prepared)
    got = ndimage.gaussian_filter(spoilt, 2, mask=prepared, nan="omit")
    np.testing.assert_array_equal(got, expected)
    again = pickle.loads(pickle.dumps(prepared))
    assert np.array_equal(again.valid, mask)
    assert str(again) == f"PreparedMask((20, 30), {mask.sum()} valid)"


REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "nan must be": ("uniform_filter", {"nan": "ignore"}),
    "min_weight must be": ("gaussian_filter", {"sigma": 1, "min_weight": 1.5}),
    "does not fit": ("uniform_filter", {"mask": np.ones((2, 3), bool)}),
    "add up to zero": ("convolve", {"weights": [[1, -1]], "mask": np.zeros(5, bool)}),
    "up to zero have": ("convolve", {"weights": [[0, 0]], "mask": np.zeros(5, bool)}),
    "must be real": ("correlate", {"weights": [[1j]], "mask": np.zeros(5, bool)}),
    "order must be 0": ("gaussian_filter", {"sigma": 1, "order": 2, "mask": np.zeros(5, bool)}),
}


@pytest.mark.parametrize("words", REFUSED)
def test_refusals(words: str):
    name, options = REFUSED[words]
    with pytest.raises(ValueError, match=words):
        getattr(ndimage, name)(np.ones((4, 5)), **options)


def test_masks_are_of_bools():
    for make in (ndimage.prepare_mask, lambda mask: ndimage.uniform_filter(np.ones(3), mask=mask)):
        with pytest.raises(TypeError, match="mask must be of bools"):
            make([0, 1, 1])


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_astropy(rank: int, dtype: str):
    """Its results, for what it computes: odd kernels in up to three axes, in float64."""
    convolution = pytest.importorskip("astropy.convolution")
    draw = np.random.default_rng(rank)
    image = draw.normal(size=(23, 17, 14)[:rank]).astype(dtype)
    image[draw.random(image.shape) < 0.1] = np.nan
    image.reshape(-1)[:9] = np.nan
    kernel = draw.uniform(0.1, 1, (5, 3, 7)[:rank])
    atol = 16 * np.finfo(dtype).eps * kernel.sum() * 5
    modes: dict[str, dict[str, Any]] = {
        "fill": {"mode": "constant"},
        "wrap": {"mode": "wrap"},
        "extend": {"mode": "nearest"},
    }
    for boundary, options in modes.items():
        for normalised in (True, False):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                expected = convolution.convolve(
                    image, kernel, boundary, normalize_kernel=normalised
                )
            weights = kernel / kernel.sum() if normalised else kernel
            got = ndimage.convolve(image, weights, nan="omit", **options)
            np.testing.assert_allclose(got, expected, rtol=0, atol=atol)
