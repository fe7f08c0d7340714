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

# Input, weight, options, and whether lists have several channels: pixels a kilobyte apart and more,
# under a stride. Dilation and padding; patches, lines, volumes, groups. None: that is a matter of
# the CPU's registers.
CASES: dict[str, tuple[Any, Any, dict[str, Any], bool | None]] = {
    "3x3": ((2, 256, 13, 13), (9, 256, 3, 3), {"padding": 1, "stride": 2}, True),
    "no stride": ((1, 256, 8, 15), (16, 256, 3, 3), {"padding": 1}, False),
    "few channels": ((1, 40, 8, 15), (16, 40, 3, 3), {"padding": 1, "stride": 2}, False),
    "a stride of 3": ((1, 768, 11, 19), (5, 768, 3, 3), {"padding": 1, "stride": 3}, True),
    "patches": ((3, 512, 14, 28), (7, 512, 2, 2), {"stride": 2}, None),
    "dilation": (
        (1, 256, 9, 20),
        (9, 256, 3, 3),
        {"padding": 2, "stride": 2, "dilation": 2},
        True,
    ),
    "signal": ((2, 256, 60), (7, 256, 7), {"padding": 1, "stride": 2}, None),
    "volume": ((1, 256, 3, 5, 13), (4, 256, 3, 3, 3), {"padding": 1, "stride": 2}, True),
    "groups": ((2, 256, 9, 14), (8, 128, 3, 3), {"padding": 1, "stride": 2, "groups": 2}, True),
    "few columns": ((9, 256, 4, 4), (16, 256, 3, 3), {"padding": 1, "stride": 2}, None),
    "images that are copied": ((6, 512, 2, 2), (5, 512, 3, 3), {"padding": 1}, False),
}


@pytest.fixture(autouse=True)
def first_level_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """The choice counts what the cache of the machine holds."""
    monkeypatch.setattr("numbaconv.cpu.direct.tap_lists.HOST_FIRST_LEVEL", 32 << 10)
    monkeypatch.setattr("numbaconv.problem.plan._plans", {})


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
    sizes, options = ((1, 256, 13, 15), (40, 256, 3, 3)), {"padding": 1, "stride": 2}
    x, weight = (rng.integers(-4, 5, s).astype(np.float32) for s in sizes)
    found = nc.conv2d(last(x), weight, **options, data_format="channels_last")
    np.testing.assert_array_equal(in_numpy_order(found), reference.conv(x, weight, **options))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    "shape", [(5, 13, 13, 256), (20, 2, 2, 512), (9, 6, 6, 256), (4, 20, 20, 32)]
)
def test_bits_depend_on_no_batch_and_no_threads(
    shape: tuple, stride: int, monkeypatch: pytest.MonkeyPatch
):
    rng = np.random.default_rng(2)
    x = rng.standard_normal(shape).astype(np.float32)
    weight = rng.standard_normal((36, shape[-1], 3, 3)).astype(np.float32)
    options: dict[str, Any] = {"padding": 1, "stride": stride, "data_format": "channels_last"}
    whole = nc.conv2d(x, weight, **options)
    monkeypatch.setattr(threads, "SERIAL_LIMIT", 0)
    for image, expected in zip(x, whole, strict=True):
        np.testing.assert_array_equal(nc.conv2d(image, weight, **options), expected)
    np.testing.assert_array_equal(nc.prepare(weight, **options)(x), whole)
