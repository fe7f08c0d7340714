"""The register tile whose rows are pixels: taps that its ends leave out, beside the twin's."""

from __future__ import annotations

import numpy as np
import pytest

import numbaconv as nc
from numbaconv.codegen.pointers import CACHE_LINE
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu.blocking import TILE_ROWS, TILE_VECTORS
from numbaconv.cpu.microkernels.matrix_transposed import PixelTileArguments, first_half, pixel_tile
from tests.cpu.emitted import run


def draw(rng: np.random.Generator, rows: int) -> PixelTileArguments:
    """Draw a tile of integers: lists of taps of which the ends leave out some, or all."""
    lanes, vectors = VECTOR_BYTES // 4, int(rng.integers(1, TILE_VECTORS + 1))
    first, between, last = rng.integers(0, 4, 3)
    taps, channels, step = max(1, first + between + last), rng.integers(1, 4), rng.integers(1, 5)
    first, last = (first, last) if first + last <= taps else (0, 0)
    column, weights = rng.integers(0, taps + 1), taps * vectors * lanes
    table = np.stack([rng.integers(0, 20, taps), np.arange(taps) * vectors * lanes], axis=1)
    integers = [rng.integers(-4, 5, n) for n in (900, channels * weights, 900, 64)]
    x, w, c, bias = (a.astype(np.float32) for a in integers)
    far = first_half(rows) * step
    return PixelTileArguments(
        *(rows, vectors, channels, taps, first, last, column),
        halves=rows % 2 == 0 and rng.integers(2),
        table=table.ravel(),
        x=x,
        first=rng.integers(0, 9),
        x_channel=rng.integers(1, 200),
        x_step=step,
        jump=rng.choice([far, far + 30]),
        prefetch_distance=rng.integers(0, 2) * 50,
        w=w,
        w_channel=weights,
        c=c,
        row_step=vectors * lanes,
        bias=bias,
        accumulate=rng.integers(2),
        last=rng.integers(1, lanes + 1),
    )


@pytest.mark.parametrize("rows", range(1, TILE_ROWS + 1))
def test_tile_is_its_twin(rows: int):
    rng = np.random.default_rng(rows)
    for _ in range(30):
        tile = draw(rng, rows)
        numbers = (int(a) if np.ndim(a) == 0 else a for a in tile)
        tile = PixelTileArguments(*numbers)
        expected = tile._replace(c=tile.c.copy())
        run(pixel_tile, expected, twin=True)
        run(pixel_tile, tile)
        np.testing.assert_array_equal(tile.c, expected.c)


def test_packed_weights_begin_at_a_cache_line():
    for channels in range(40, 60, 3):
        weight = np.ones((64, channels, 3, 3), np.float32)
        layer = nc.prepare(weight, padding=1)
        layer(np.ones((1, channels, 28, 28), np.float32))
        packed = [a for a in layer.weights.packed.values() if a.size >= weight.size]
        assert packed
        assert all(a.ctypes.data % CACHE_LINE == 0 for a in packed)
