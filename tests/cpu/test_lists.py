"""Lists of taps with the channels last: several channels of a tap, then the next tap."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import numbaconv as nc
from numbaconv.cpu.direct.tap_lists import lists_lines
from numbaconv.problem.layout import CHANNELS_LAST
from numbaconv.problem.simplest import simplest
from numbaconv.runtime import threads
from tests.cpu.shapes import shape_of
from tests.oracle import reference

# Input, weight, options, and whether lists have several channels: multiples of 32, divisors that
# are smaller, primes; strides, dilation and padding on two sides; lines, volumes, groups.
CASES: dict[str, tuple[Any, Any, dict[str, Any], bool | None]] = {
    "64 channels": ((2, 64, 9, 10), (35, 64, 3, 3), {"padding": 1}, True),
    "40 channels": ((1, 40, 8, 15), (16, 40, 3, 3), {"padding": 1}, True),
    "37 channels": ((1, 37, 8, 15), (16, 37, 3, 3), {"padding": 1}, False),
    "stride": ((1, 96, 20, 19), (24, 96, 3, 3), {"padding": 1, "stride": 3}, True),
    "patches": ((3, 64, 12, 12), (40, 64, 2, 2), {"stride": 2}, True),
    "dilation": ((1, 64, 14, 14), (33, 64, 3, 3), {"padding": 2, "dilation": 2}, True),
    "signal": ((2, 64, 50), (20, 64, 5), {"padding": 2}, True),
    "volume": ((1, 32, 5, 6, 7), (17, 32, 3, 3, 3), {"padding": 1}, True),
    "groups": ((2, 128, 7, 8), (64, 64, 3, 3), {"padding": 1, "groups": 2}, True),
    "few columns": ((9, 64, 2, 2), (16, 64, 3, 3), {"padding": 1}, None),
    "images that are copied": ((6, 512, 2, 2), (5, 512, 3, 3), {"padding": 1}, None),
}


def last(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(array, 1, -1))


def in_numpy_order(array: np.ndarray) -> np.ndarray:
    return np.moveaxis(array, -1, 1)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_sums_are_exact(case: tuple, monkeypatch: pytest.MonkeyPatch):
    """Packed ahead or not, on one thread or all, cut into parts or not; by the one lowering."""
    size, shape, options, listed = case
    rng = np.random.default_rng(len(size))
    x, weight = (rng.integers(-4, 5, s).astype(np.float32) for s in (size, shape))
    s = simplest(shape_of(last(x).shape, shape, layout=CHANNELS_LAST, **options))
    assert listed is None or lists_lines(s) is listed
    expected = reference.conv(x, weight, **options)
    for limit in (0, 1 << 40):
        monkeypatch.setattr(threads, "SERIAL_LIMIT", limit)
        how = options | {"data_format": "channels_last"}
        for found in (nc.conv(last(x), weight, **how), nc.prepare(weight, **how)(last(x))):
            np.testing.assert_array_equal(in_numpy_order(found), expected)


@pytest.mark.usefixtures("small_cache")
def test_channels_in_parts_are_whole_lists():
    rng = np.random.default_rng(1)
    x, weight = (rng.integers(-4, 5, s).astype(np.float32) for s in ((1, 96, 9, 9), (40, 96, 3, 3)))
    found = nc.conv2d(last(x), weight, padding=1, data_format="channels_last")
    np.testing.assert_array_equal(in_numpy_order(found), reference.conv(x, weight, padding=1))


@pytest.mark.parametrize("shape", [(5, 7, 7, 64), (20, 2, 2, 512), (4, 20, 20, 32), (3, 9, 30, 40)])
def test_bits_depend_on_no_batch_and_no_threads(shape: tuple, monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(2)
    x = rng.standard_normal(shape).astype(np.float32)
    weight = rng.standard_normal((36, shape[-1], 3, 3)).astype(np.float32)
    options: dict[str, Any] = {"padding": 1, "data_format": "channels_last"}
    whole = nc.conv2d(x, weight, **options)
    monkeypatch.setattr(threads, "SERIAL_LIMIT", 0)
    for image, expected in zip(x, whole, strict=True):
        np.testing.assert_array_equal(nc.conv2d(image, weight, **options), expected)
    np.testing.assert_array_equal(nc.prepare(weight, **options)(x), whole)
