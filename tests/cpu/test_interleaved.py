"""Interleaved channels: the tile beside its twin, and photographs cut in every way."""

from __future__ import annotations

import numpy as np
import pytest

import numbaconv as nc
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu.blocking import INTERLEAVED_ROWS
from numbaconv.cpu.direct import blocks
from numbaconv.cpu.direct.cost import CYCLES
from numbaconv.cpu.microkernels.interleaved import InterleavedTileArguments, interleaved_tile
from tests.cpu.emitted import run
from tests.oracle import reference


def aligned(integers: np.ndarray) -> np.ndarray:
    """Copy to float32 at a cache line, where stores past the caches must begin."""
    memory = np.zeros(integers.size + 16, np.float32)
    first = -memory.ctypes.data % 64 // 4
    memory[first : first + integers.size] = integers
    return memory[first : first + integers.size]


def draw(rng: np.random.Generator, rows: int) -> InterleavedTileArguments:
    """Draw a tile of integers: few vectors or many, of a period or of some."""
    lanes = VECTOR_BYTES // 4
    vectors, period, kd, kw = (int(rng.integers(1, most)) for most in (30, 5, 3, 5))
    kh = int(rng.choice([1, rows, rows + 3])) if rows > 1 else 1
    row = vectors * lanes + 20
    plane = row * (rows + kh)
    return InterleavedTileArguments(
        *(rows, vectors, period, kd, kh, kw),
        x=aligned(rng.integers(-4, 5, kd * plane + lanes)),
        x_plane=plane,
        x_row=row,
        columns=rng.integers(0, 20, kw),
        w=aligned(rng.integers(-4, 5, period * kd * kh * kw * lanes)),
        c=aligned(rng.integers(-4, 5, (rows + 1) * (vectors + 1) * lanes)),
        row_step=(vectors + 1) * lanes,
        bias=aligned(rng.integers(-4, 5, period * lanes)),
        nontemporal=int(rng.integers(2)),
        prefetches=int(rng.integers(2)),
    )


@pytest.mark.parametrize("rows", range(1, INTERLEAVED_ROWS + 1))
def test_tile_is_its_twin(rows: int):
    rng = np.random.default_rng(rows)
    for _ in range(30):
        tile = draw(rng, rows)
        expected = tile._replace(c=tile.c.copy())
        run(interleaved_tile, expected, twin=True)
        run(interleaved_tile, tile)
        np.testing.assert_array_equal(tile.c, expected.c)


# Heights and widths with and without an inside that is read in place; rows that are whole lines.
SIZES = [(3, 11, 3), (9, 96, 3), (21, 131, 3), (13, 160, 2), (6, 75, 7), (12, 160, 6)]


@pytest.mark.target
@pytest.mark.usefixtures("small_cache")
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_photographs_are_exact(size: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch):
    module = "numbaconv.cpu.direct.depthwise_interleaved"
    rng = np.random.default_rng(size)
    for name in CYCLES:
        if name.startswith("depthwise_interleaved"):
            monkeypatch.setitem(CYCLES, name, 0.0)
    for _ in range(8):
        monkeypatch.setattr(f"{module}._RESULTS_BYTES", int(rng.choice([1, 256, 4096])))
        monkeypatch.setattr(blocks, "PIXEL_ROWS_BYTES", int(rng.choice([2048, 1 << 18])))
        kernel = rng.choice([(1, 1), (1, 5), (2, 2), (3, 3), (5, 4), (9, 3)])
        dtype = rng.choice(["f4", "f8", "u1"])
        options = {
            "stride": int(rng.choice([1, 1, 2])),
            "dilation": tuple(rng.choice([(1, 1), (1, 1), (1, 2), (2, 1)]).tolist()),
            "padding": tuple(rng.integers(0, 5, 2).tolist()),
            "groups": size[2],
        }
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, options["dilation"], strict=True)]
        if any(r > n + 2 * p for r, n, p in zip(reach, size, options["padding"], strict=False)):
            continue
        x = rng.integers(0, 9, (2, *size)).astype(dtype)
        w = rng.integers(-4, 5, (size[2], 1, *kernel)).astype("f8" if dtype == "f8" else "f4")
        b = rng.integers(-4, 5, size[2]).astype(w.dtype)
        last = {"data_format": "channels_last", "backend": "direct"}
        first = np.moveaxis(x, -1, 1).astype("f8")
        expected = np.moveaxis(reference.conv(first, w.astype("f8"), b, **options), 1, -1)
        y = nc.conv2d(x, w, b, **options, **last)
        np.testing.assert_array_equal(y, expected)
        # What is added lies where the result goes.
        add = rng.integers(-4, 5, y.shape).astype(y.dtype)
        expected = np.maximum(expected + add, 0)
        y = nc.conv2d(x, w, b, **options, **last, add=add, out=add, activation="relu")
        np.testing.assert_array_equal(y, expected)
        assert nc.explain(x, w, b, **options, **last).lowering == "depthwise_interleaved"
