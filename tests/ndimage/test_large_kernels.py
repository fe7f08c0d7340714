"""Full kernels of many taps, which are convolved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from numbaconv import ndimage
from numbaconv.ndimage import passes
from tests.ndimage.draws import PAD, Draw, padded

SHAPES: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((70,), (25,)),
    ((30, 41), (5, 5)),
    ((33, 20), (1, 26)),
    ((9, 8, 20), (3, 4, 5)),
    ((3, 17, 20), (6, 7)),
    ((2, 3, 20, 9), (5, 6)),
    ((11, 4, 20), (6, 1, 7)),
)


def by_definition(
    x: np.ndarray, w: np.ndarray, axes: tuple[int, ...], origin: Any, mode: str, cval: float
) -> np.ndarray:
    """Sums of products in float64, tap by tap."""
    widths = [(0, 0)] * x.ndim
    for axis, n, o in zip(axes, w.shape, origin, strict=True):
        widths[axis] = n // 2 + o, n - 1 - n // 2 - o
    wide = padded(x.astype(np.float64), widths, mode, cval)
    windows = np.lib.stride_tricks.sliding_window_view(wide, w.shape, axes)
    return np.asarray((windows * w).sum(tuple(range(x.ndim, windows.ndim))))


@pytest.mark.parametrize("mode", list(PAD))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_large_kernels(shape: Any, mode: str, monkeypatch: pytest.MonkeyPatch):
    """Images before the axes of the kernel; bytes and floats; of any origin."""
    done: list[bool] = []
    convolve = passes.correlate_large
    monkeypatch.setattr(passes, "correlate_large", lambda *a: done.append(convolve(*a)) or done[-1])
    size, window = shape
    draw = Draw(f"{shape} {mode}")
    x = draw.numbers.integers(-9, 9, size).astype(draw.choose(("float32", "int8", "float16")))
    axes = tuple(range(x.ndim - len(window), x.ndim))
    w = draw.numbers.integers(1, 5, window)
    origin = [draw.origin(n) for n in window]
    output = np.empty(size, np.float32)
    options: Any = {"mode": mode, "cval": 2.0, "axes": axes, "output": output}
    ndimage.correlate(x, w, origin=origin, **options)
    np.testing.assert_array_equal(output, by_definition(x, w, axes, origin, mode, 2.0))
    turned = [-o - (n % 2 == 0) for o, n in zip(origin, window, strict=True)]
    output[:] = 0
    ndimage.convolve(x, np.flip(w), origin=turned, **options)
    np.testing.assert_array_equal(output, by_definition(x, w, axes, origin, mode, 2.0))
    assert done == [True, True]


def test_which_kernels_are_not_convolved():
    """Zeros among the weights, under which NaN does not spread; arrays that would be copied."""
    x = np.random.default_rng(0).integers(0, 9, (40, 30)).astype(np.float32)
    w = np.ones((5, 5))
    w[0, 0] = 0
    x[20, 20] = np.nan
    assert np.isnan(ndimage.correlate(x, w)).sum() == 24
    x[20, 20] = 0
    w[0, 0] = 2
    expected = by_definition(x, w, (0, 1), (0, 0), "reflect", 0.0)
    np.testing.assert_array_equal(ndimage.correlate(x.T, w.T).T, expected)
    in_place = x.copy()
    ndimage.correlate(in_place, w, output=in_place)
    np.testing.assert_array_equal(in_place, expected)
    w[0, 0] = np.inf  # no product with what is added may make NaN of it
    got = ndimage.correlate(x + 1, w, mode="constant", cval=1.0)
    assert np.isinf(got).all()
