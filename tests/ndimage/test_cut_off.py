"""Integers that are sums in float32, or of float64 next to an integer: all are SciPy's."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
import pytest

from numbaconv import ndimage
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu.microkernels.cut_off import cut_off
from numbaconv.cpu.microkernels.tap_sums import DIFFERENCES, SINGLE, TapSumsArguments, tap_sums
from numbaconv.cpu.separable.planning import Pass
from numbaconv.ndimage import passes
from tests.cpu.emitted import run

scipy_ndimage = pytest.importorskip("scipy.ndimage")

SMALL = [np.dtype(name) for name in ("uint8", "int8", "bool")]


def draw_image(rng: np.random.Generator) -> np.ndarray:
    """Draw noise, something flat, a slope, few levels, or flat parts."""
    shape = tuple(rng.integers(1, (40, 150))) if rng.integers(3) else (7, 9, 70)
    dtype = SMALL[rng.integers(3)]
    low, high = (0, 2) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max + 1)
    noise = rng.integers(low, high, shape)
    slope = (np.arange(shape[-1]) + 3 * np.arange(shape[-2])[:, None]) % (high - low) + low
    images = [
        noise,
        np.full(shape, noise.flat[0]),
        np.broadcast_to(slope, shape),
        np.where(noise % 7 == 0, low, high - 1),
        np.where(np.cumsum(noise % 11 == 0, axis=-1) % 3 == 0, noise.flat[0], noise // 2),
    ]
    return images[rng.integers(len(images))].astype(dtype)


def draw_weights(rng: np.random.Generator, shape: Any) -> np.ndarray:
    """Draw weights whose sums often are integers, or nearly: fractions that may add up to one."""
    taps = int(np.prod(shape))
    kinds = [
        rng.random(taps),
        rng.integers(-4, 5, taps) / 8,
        rng.integers(1, 5, taps) / 3,
        rng.normal(size=taps) / 4,
        np.nextafter(rng.integers(-2, 3, taps).astype(float), np.inf),
    ]
    weights = kinds[rng.integers(len(kinds))]
    if rng.integers(2) and weights.sum() > 0.1:
        weights = weights / weights.sum()
    if rng.integers(2):
        weights = weights + weights[::-1] * rng.choice([-1, 1])
    return weights.reshape(shape)


def draw_call(rng: np.random.Generator) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """Draw a function, its arguments and its options."""
    x = draw_image(rng)
    options: dict[str, Any] = {
        "mode": str(rng.choice(["reflect", "nearest", "wrap", "constant"])),
        "cval": float(rng.choice([0, 3, -2, 0.5])) if x.dtype.kind != "b" else 0.0,
        "output": [None, "int16", "int64", "uint8"][rng.integers(4)],
    }
    name = str(rng.choice(["correlate1d", "correlate", "gaussian_filter", "gaussian_laplace"]))
    if name == "correlate1d":
        options["axis"] = int(rng.integers(x.ndim))
        return name, (x, draw_weights(rng, rng.integers(1, 20))), options
    if name == "correlate":
        return name, (x, draw_weights(rng, rng.integers(1, 6 - x.ndim, x.ndim))), options
    if name == "gaussian_filter":
        options["order"] = int(rng.integers(3)) if rng.integers(3) == 0 else 0
    return name, (x, float(rng.uniform(0.4, 5))), options


@pytest.mark.parametrize("seed", range(8))
def test_integers_are_those_of_scipy(seed: int):
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("SciPy's casts and sums are this machine's")
    rng = np.random.default_rng(seed)
    for _ in range(40):
        name, arguments, options = draw_call(rng)
        expected = getattr(scipy_ndimage, name)(*arguments, **options)
        got = getattr(ndimage, name)(*arguments, **options)
        what = f"{name} {arguments} {options}"
        np.testing.assert_array_equal(got.view(np.uint8), expected.view(np.uint8), err_msg=what)


@pytest.mark.stress
@pytest.mark.parametrize("seed", range(1000, 1100))
def test_many_integers_are_those_of_scipy(seed: int):
    test_integers_are_those_of_scipy(seed)


def tile_of(rng: np.random.Generator, kind: int) -> TapSumsArguments:
    """Rows of sums of small integers under weights that add up to one, often of flat parts."""
    taps, rows, vectors = (int(n) for n in rng.integers(1, (6, 4, 12)))
    entries, listed = (taps, taps) if kind == SINGLE else (2 * taps + 1, taps + 1)
    weights = rng.random(listed) + 0.1
    weights /= weights[0] + (1 if kind == SINGLE else 2) * weights[1:].sum()
    width = vectors * VECTOR_BYTES // 4
    source = np.where(rng.random(rows * width + 400) < 0.02, 7.0, rng.integers(1, 99))
    return TapSumsArguments(
        target=np.zeros(rows * width, np.float32),
        target_step=width,
        source=source.astype(np.float32),
        source_step=width,
        offsets=rng.integers(0, 300, entries),
        offset_step=0,
        weights=np.array([1.0, *weights], np.float32),
        exact=np.array([0.5 - 0.02, *weights]).view(np.int64),
        taps=taps,
        kind=kind,
        rows=rows,
        vectors=vectors,
        divides=0,
        truncates=0,
    )


@pytest.mark.parametrize("kind", range(3))
def test_cut_off_is_its_twin(kind: int):
    rng, changed = np.random.default_rng(kind), 0
    for _ in range(60):
        tile = tile_of(rng, kind)
        run(tap_sums, tile)
        expected = tile._replace(target=tile.target.copy())
        run(cut_off, expected, twin=True)
        truncated = np.trunc(tile.target)
        run(cut_off, tile)
        np.testing.assert_array_equal(tile.target, expected.target)
        changed += (tile.target != truncated).sum()
    assert changed > 5 or kind == DIFFERENCES  # of a flat part they are the middle weight's


def test_sums_are_off_by_less_than_their_margin():
    rng, share = np.random.default_rng(0), 0.0
    for _ in range(300):
        weights = draw_weights(rng, rng.integers(1, 40))
        x = rng.choice([0, 255], (len(weights), 64)) - rng.integers(0, 3, (len(weights), 1))
        off = rounded_sums(weights, x) - weights @ x
        margin = passes._error(Pass(0, tuple(weights.tolist()), 0, 0), 257)
        share = max(share, float(np.abs(off).max()) / margin)
        assert share < 1
    assert share > 0.02


def rounded_sums(weights: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Sums in float32, each product rounded too."""
    total = np.zeros(x.shape[1], np.float32)
    for weight, row in zip(weights.astype(np.float32), x.astype(np.float32), strict=True):
        total += weight * row
    return total.astype(np.float64)


def test_what_is_too_far_off_is_computed_in_float64():
    flat = [Pass(0, (0.3, 0.7), 1, 0)]
    single, double = np.dtype(np.float32), np.dtype(np.float64)
    for dtype, constant, expected in (
        (np.uint8, 0.0, single),
        (np.int8, -3.0, single),
        (np.uint8, 0.5, double),
        (np.uint8, 1e9, double),
        (np.uint16, 0.0, double),
        (np.int32, 0.0, double),
        (np.float32, 0.0, double),
    ):
        how, _ = passes.find_arithmetic(np.dtype(dtype), np.dtype(int), flat, constant, False)
        assert how.compute == expected, (dtype, constant)
    wild = [Pass(0, (1e30, np.inf, np.nan), 1, 0)]
    how, _ = passes.find_arithmetic(np.dtype(np.uint8), np.dtype(int), wild, 0.0, False)
    assert how.compute == double
