"""Adjoints of depthwise layers under a stride, as a whole.

The tile of short strides beside its twin; planes cut anyhow; outer products under long strides.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import numbaconv as nc
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu.blocking import PHASE_STRIDES, phase_vectors
from numbaconv.cpu.direct.choice import HAS_MASKS
from numbaconv.cpu.direct.depthwise_phases import list_strips
from numbaconv.cpu.microkernels.phases import PhaseArguments, phase_rows
from numbaconv.runtime import threads
from tests.cpu.emitted import run
from tests.cpu.shapes import shape_of
from tests.oracle import reference

LANES = VECTOR_BYTES // 4
HIGH = [(high, stride) for stride in PHASE_STRIDES for high in (1, stride)]


def integers(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-4, 5, shape).astype(np.float32)


def draw(rng: np.random.Generator, high: int, stride: int, vectors: int) -> PhaseArguments:
    """Draw a tile in the middle of C: masks cut its first vector and its last `stride`."""
    kh, kw = (int(rng.integers(least, least + 5)) for least in (high, stride))
    width, height, rows = vectors * LANES, int(rng.integers(1, 7)), int(rng.integers(1, 9))
    read = rng.random((-(-kw // stride), width)) < 0.8
    written = np.ones(vectors * stride * LANES, bool)
    written[: rng.integers(LANES)] = False
    written[written.size - rng.integers(stride * LANES) :] = False
    bits = np.concatenate([mask.reshape(-1, LANES) for mask in (read, written)])
    x_row, c_row = width + 32, width * stride + 32
    return PhaseArguments(
        *(high, stride, vectors, kh, kw),
        x=integers(rng, height * x_row),
        x_row=x_row,
        height=height,
        first=int(rng.integers(3)),
        groups=int(rng.integers(1, 5)),
        column=16,
        masks=(bits * (np.int64(1) << np.arange(LANES))).sum(1),
        w=integers(rng, kh * kw),
        c=integers(rng, rows * c_row),
        c_row=c_row,
        rows=rows,
        top=int(rng.integers(4)),
        left=16 * stride - 16,
        bias=integers(rng, 1),
    )


@pytest.mark.skipif(not HAS_MASKS, reason="no adjoint is computed so")
@pytest.mark.parametrize(("high", "stride"), HIGH)
def test_tile_is_its_twin(high: int, stride: int):
    rng = np.random.default_rng(stride)
    for vectors in range(1, phase_vectors(stride, high) + 1):
        for _ in range(20):
            tile = draw(rng, high, stride, vectors)
            expected = tile._replace(c=tile.c.copy())
            run(phase_rows, expected, twin=True)
            run(phase_rows, tile)
            np.testing.assert_array_equal(tile.c, expected.c)


@pytest.mark.parametrize(("cols", "padding"), [(15, 0), (75, 2), (333, 7)])
def test_strips_write_each_column_once(cols: int, padding: int):
    s = shape_of((1, 1, 9, cols), (1, 1, 3, 5), 3, padding)
    table, written = list_strips(s, LANES), []
    for first, vectors, at in table[1 : 1 + 3 * table[0]].reshape(-1, 3):
        words = table[at + 2 * vectors :][: vectors * 3]
        (stored,) = np.nonzero((words[:, None] >> np.arange(LANES) & 1).ravel())
        written += list(stored + first * 3 - padding)
    assert written == list(range(cols))


@pytest.mark.usefixtures("small_cache")
@pytest.mark.parametrize("serial_limit", [0, 1 << 40])
@pytest.mark.parametrize("n", [1, 7])
@pytest.mark.parametrize("stride", [2, 3, 4])
def test_planes_are_cut(stride: int, n: int, serial_limit: int, monkeypatch: pytest.MonkeyPatch):
    """Few planes into blocks of rows, many into blocks of planes, on all threads or one."""
    monkeypatch.setattr(threads, "SERIAL_LIMIT", serial_limit)
    rng, options = np.random.default_rng(stride), {"stride": stride, "padding": 1, "groups": 3}
    size, weight = (n, 3, 37, 131), integers(rng, 3, 1, 5, 4)
    g = nc.conv2d(integers(rng, *size), weight, **options)
    found = nc.grad.conv2d_input(size, weight, g, **options)
    np.testing.assert_array_equal(found, reference.conv_input(size, weight, g, **options))


def test_nan_stays_in_its_windows():
    g = np.ones((1, 2, 8, 30), np.float32)
    g[0, 1, 3, 17] = np.nan
    found = nc.grad.conv2d_input((1, 2, 17, 61), np.ones((2, 1, 3, 3), np.float32), g, 2, groups=2)
    rows, columns = np.nonzero(np.isnan(found[0, 1]))
    assert not np.isnan(found[0, 0]).any()
    assert (set(rows), set(columns)) == ({6, 7, 8}, {34, 35, 36})


@pytest.mark.skipif(not HAS_MASKS, reason="phases are by themselves")
def test_explain_names_the_lowering():
    x, w = np.ones((1, 3, 20, 20), np.float32), np.ones((3, 1, 3, 3), np.float32)
    found = nc.explain(x, w, stride=2, groups=3, of="transposed")
    assert found.lowering == "depthwise_phases"


LONG = [
    ((2, 5, 7, 9), (8, 8), {"stride": 5, "padding": 1, "output_padding": 1}),
    ((1, 6, 8, 8), (64, 64), {"stride": 32, "padding": 16}),
    ((2, 4, 6, 5), (4, 5), {"stride": 7}),  # elements that no tap reaches
    ((1, 3, 9, 40), (3, 40), {"stride": (1, 9), "padding": (1, 39)}),
    ((2, 8, 20), (16,), {"stride": 5, "padding": 2}),
    ((1, 4, 5, 4, 3), (3, 4, 12), {"stride": (2, 1, 6), "padding": 1}),
]


@pytest.mark.parametrize("serial_limit", [0, 1 << 40])
@pytest.mark.parametrize(("image", "kernel", "options"), LONG)
def test_outer_products_are_added_to_their_rows(
    image: tuple[int, ...],
    kernel: tuple[int, ...],
    options: dict[str, Any],
    serial_limit: int,
    monkeypatch: pytest.MonkeyPatch,
):
    """With a bias, an array that is added, and an activation; plain and prepared."""
    monkeypatch.setattr(threads, "SERIAL_LIMIT", serial_limit)
    rng, options = np.random.default_rng(4), options | {"groups": image[1]}
    x, w, bias = integers(rng, *image), integers(rng, image[1], 1, *kernel), integers(rng, image[1])
    assert nc.explain(x, w, of="transposed", **options).lowering == "depthwise_outer"
    expected = reference.conv_transpose(x, w, bias, **options)
    added = integers(rng, *expected.shape)
    layer = nc.prepare_transposed(w, bias, activation="relu", **options)
    function = getattr(nc, f"conv_transpose{len(kernel)}d")
    np.testing.assert_array_equal(function(x, w, bias, **options), expected)
    for _ in range(2):
        np.testing.assert_array_equal(layer(x, add=added), np.maximum(expected + added, 0))


def test_nan_stays_in_its_windows_under_long_strides():
    x = np.ones((1, 2, 4, 9), np.float32)
    x[0, 1, 2, 5] = np.nan
    y = nc.conv_transpose2d(x, np.ones((2, 1, 7, 7), np.float32), stride=6, groups=2)
    rows, columns = np.nonzero(np.isnan(y[0, 1]))
    assert not np.isnan(y[0, 0]).any()
    assert (set(rows), set(columns)) == (set(range(12, 19)), set(range(30, 37)))
