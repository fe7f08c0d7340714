"""For a fixed backend, an image's result has the same bits whatever is computed beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import numbaconv as nc
from numbaconv.cpu.blocking import TILE_ROWS
from numbaconv.cpu.direct import choice
from numbaconv.cpu.direct.choice import FEW_BLOCKS
from tests.conftest import Script

SCRIPT = ("-m", "tests.scripts.same_bits")


@pytest.mark.parametrize("count", ["6", pytest.param("2000", marks=pytest.mark.stress)])
def test_same_bits(count: str, run_script: Script):
    done = run_script(*SCRIPT, "--count", count, timeout=3600, NUMBA_NUM_THREADS="4")
    assert "on 4 threads: the same bits" in done.stdout


@pytest.mark.parametrize("seed", range(8))
def test_channels_added_by_parts_give_the_same_bits(seed: int, monkeypatch: pytest.MonkeyPatch):
    """As all at once, at ends of rows and of images, under an activation and in several groups."""
    draw = np.random.default_rng(seed)
    n, groups, channels = (int(v) for v in draw.integers((1, 1, 33), (4, 3, 140)))
    outputs, pixels = int(draw.integers(4, FEW_BLOCKS * TILE_ROWS)), int(draw.integers(257, 3000))
    x = draw.standard_normal((n, groups * channels, pixels), np.float32)
    w = draw.standard_normal((groups * outputs, channels, 1), np.float32)
    bias = draw.standard_normal(groups * outputs, np.float32)
    options: dict[str, Any] = {"groups": groups, "activation": "relu"}
    with nc.use_backend("im2col"):
        expected = nc.conv1d(x, w, bias, **options)
    monkeypatch.setattr(choice, "MOST_PAGES", 0)
    monkeypatch.setattr(choice, "SECOND_LEVEL", 0)
    monkeypatch.setattr("numbaconv.problem.plan._plans", {})
    with nc.use_backend("direct"):
        assert nc.explain(x, w, bias, groups=groups).lowering == "matrix"
        assert np.array_equal(nc.conv1d(x, w, bias, **options), expected)
