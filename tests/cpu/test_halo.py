"""What lies in a halo tile that no task fills."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Script

# Without the compiler, so that functions of kernels can be called.
CLEARED = """
import sys
import numpy as np
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu.packing.halo import clear_behind, halo_layout
from tests.cpu.shapes import shape_of

lanes, channels = VECTOR_BYTES // 4, 2
stride, rows, cols = map(int, sys.argv[1:])
s = shape_of((1, channels, 40, 70), (4, channels, 3, 3), stride)
layout = halo_layout(s, 7, 30, 4)
filled = np.zeros((channels, layout.channel), bool)
planes = filled[:, : layout.depth].reshape(channels, -1, layout.plane)
width = layout.pitch - layout.cols + cols
places = planes.reshape(channels, planes.shape[1], -1, layout.pitch)
places[:, :, : rows + layout.rows, :width] = True
tile = np.where(filled, np.float32(1), np.float32(1e-40)).ravel()
clear_behind(tile, s, layout, channels, rows + layout.rows, width, lanes)
filled, behind = filled.ravel(), 0
for value, is_filled in zip(tile, filled, strict=True):
    behind = 0 if is_filled else behind + 1
    assert value == (1 if is_filled else 0) or behind > 2 * lanes
"""


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("rows", "cols"), [(7, 30), (4, 30), (7, 11), (3, 11)])
def test_what_tiles_read_behind_rows_is_zero(
    run_script: Script, tmp_path: Path, stride: int, rows: int, cols: int
):
    """Products with what happened to lie there, denormals, took a hundred times as long."""
    script = tmp_path / "cleared.py"
    script.write_text(CLEARED)
    run_script(str(script), str(stride), str(rows), str(cols), NUMBA_DISABLE_JIT="1")
