"""`add=`: an array that is added to the sums, before the activation.

Random problems of every rank, option, layout and dtype add arrays in `tests.scripts.fuzz`; what is
rounded as it is stored does in `test_out_dtype.py`.
"""

from __future__ import annotations

import tracemalloc
from typing import Any

import numba
import numpy as np
import pytest

import numbaconv as nc
from tests.oracle.cases import Array
from tests.oracle.paths import BACKENDS, TRANSFORMS

equal = np.testing.assert_array_equal

LAST = {"data_format": "channels_last"}

# A problem for each way of storing a tile: backend, input, weight, options, the lowering.
PROBLEMS: dict[str, tuple[Any, ...]] = {
    "rows": ("direct", (2, 24, 9, 200), (40, 24, 1, 1), {}, "matrix"),
    "tiles beside each other": ("direct", (1, 19, 13, 13), (33, 19, 3, 3), {}, "matrix"),
    "strided": ("direct", (1, 3, 61, 63), (33, 3, 7, 7), {"stride": 2, "padding": 3}, "matrix"),
    "signal": ("direct", (2, 24, 1501), (33, 24, 3), {"padding": 16, "dilation": 16}, "matrix"),
    "stages": ("direct", (2, 70, 14, 15), (90, 70, 3, 3), {"padding": 1}, "matrix_transposed"),
    "pixels": ("direct", (2, 14, 15, 70), (90, 70, 3, 3), LAST, "matrix_transposed"),
    "zones": (
        *("direct", (1, 130, 33, 33), (70, 130, 3, 3)),
        *({"padding": 12, "dilation": 12}, "matrix_zones"),
    ),
    "image": ("direct", (1, 1, 90, 201), (3, 1, 5, 5), {"padding": 2}, "filter_rows"),
    "long filter": ("direct", (1, 1, 5003), (1, 1, 101), {"padding": 50}, "filter_folds"),
    "planes": ("direct", (2, 40, 14, 14), (40, 1, 3, 3), {"groups": 40}, "depthwise_planes"),
    "wide planes": ("direct", (2, 5, 57, 60), (5, 1, 7, 7), {"groups": 5}, "depthwise_planes"),
    "channels": (
        *("direct", (2, 9, 11, 40), (40, 1, 3, 3), {"groups": 40, **LAST}),
        "depthwise_channels",
    ),
    "photograph": (
        *("direct", (1, 50, 61, 3), (3, 1, 3, 3), {"groups": 3, **LAST}),
        "depthwise_interleaved",
    ),
    "fully connected": ("direct", (3, 1000), (10, 1000, 1), LAST, "dots"),
    "panels": ("im2col", (2, 30, 13, 14), (41, 30, 3, 3), {"padding": 1}, "patch_matrix"),
    "panels in line": ("im2col", (1, 30, 400), (41, 30, 1), {}, "patch_matrix"),
    "panels of pixels": ("im2col", (2, 13, 14, 30), (41, 30, 3, 3), LAST, "patch_matrix"),
    "spectra": ("fft", (1, 2, 80, 90), (3, 2, 21, 21), {"stride": (2, 1)}, "overlap_save"),
    "spectra of signals": ("fft", (1, 1, 9000), (2, 1, 601), LAST | {}, "overlap_save"),
    "minimal filters": ("winograd", (2, 40, 30, 31), (40, 40, 3, 3), {}, "minimal_filtering"),
    "minimal filters, last": ("winograd", (2, 30, 31, 40), (40, 40, 3, 3), LAST, "minimal_filtering"),
}


def arrays(shape: tuple[int, ...], weight: tuple[int, ...]) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(0)
    x, w, b = (rng.integers(-3, 4, n).astype("f4") for n in (shape, weight, weight[:1]))
    return x, w, b


@pytest.mark.target
@pytest.mark.parametrize("name", PROBLEMS)
def test_every_lowering(name: str):
    backend, shape, weight, options, lowering = PROBLEMS[name]
    x, w, b = arrays(shape, weight)
    options = options | {"backend": backend}
    if not numba.config.DISABLE_JIT and name != "spectra of signals":
        found = nc.explain(x, w, b, **options).lowering
        assert found == lowering or nc.show_config is None, found
    sums = np.rint(nc.conv(x, w, b, **options))
    r = np.random.default_rng(1).integers(-99, 100, sums.shape).astype("f4")
    expected = np.maximum(sums + r, 0)
    for add in (r, np.asfortranarray(r), r.astype("i2")):
        equal(np.rint(nc.conv(x, w, b, **options, activation="relu", add=add)), expected)
    layer = nc.prepare(w, b, **options, activation="relu")
    both = r.copy()
    assert layer(x, add=both, out=both) is both
    equal(np.rint(both), expected)
    equal(np.rint(layer(x)), np.maximum(sums, 0))  # the same layer, without
