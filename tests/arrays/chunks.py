"""Random chunks, and comparisons of Dask arrays with whole ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

da = pytest.importorskip("dask.array")
dask = pytest.importorskip("dask")


def seeds(few: int, many: int) -> list[Any]:
    """So many draws; the others are `stress` tests."""
    return [
        seed if seed < few else pytest.param(seed, marks=pytest.mark.stress) for seed in range(many)
    ]


def whole_numbers(rng: Any, *shape: int) -> np.ndarray:
    """Sums of these are exact in any order."""
    return rng.integers(-4, 5, shape).astype(np.float32)


def random_chunks(rng: Any, n: int) -> tuple[int, ...]:
    cuts = np.unique(rng.integers(0, n + 1, rng.integers(0, 6)))
    return tuple(int(c) for c in np.diff([0, *cuts[(cuts > 0) & (cuts < n)], n]))


def chunked(rng: Any, x: np.ndarray) -> Any:
    return da.from_array(x, chunks=tuple(random_chunks(rng, n) for n in x.shape))


def check(lazy: Any, expected: np.ndarray, within: float | None = None) -> None:
    """Compare a lazy array with what it stands for; to the last bit unless an error is allowed."""
    assert isinstance(lazy, da.Array)
    assert lazy.dtype == expected.dtype
    assert lazy.shape == expected.shape
    with dask.config.set(scheduler="synchronous"):
        blocks = lazy.to_delayed()
        computed = dask.compute(*blocks.ravel())
    for place, block in zip(np.ndindex(blocks.shape), computed, strict=True):
        assert block.shape == tuple(c[i] for c, i in zip(lazy.chunks, place, strict=True))
        blocks[place] = block
    result = np.block(blocks.tolist())
    if within is None:
        np.testing.assert_array_equal(result, expected, strict=True)
    else:
        np.testing.assert_allclose(result, expected, rtol=within, atol=within, strict=True)
