"""Matrices of minimal filtering, exactly; the passes that are emitted, beside their twins."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu.microkernels import minimal_filters
from numbaconv.cpu.microkernels.minimal_filters import Pass, PassArguments
from numbaconv.problem.points import POINTS, TAPS
from numbaconv.problem.toom_cook import matrices
from tests.conftest import Script
from tests.cpu.emitted import run


@pytest.mark.parametrize("m", POINTS)
def test_the_matrices_are_a_filter(m: int):
    """Output i is the sum of tap j times input i + j: an identity of rationals, term by term."""
    b, g, a = matrices(m)
    for i, j, k in itertools.product(range(m), range(TAPS), range(m + TAPS - 1)):
        term = sum(a[i][p] * g[p][j] * b[p][k] for p in range(len(b)))
        assert term == (k == i + j)


@pytest.mark.parametrize("twin", [False, True], ids=["emitted", "twin"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("m", POINTS)
@pytest.mark.parametrize(
    ("name", "is_row"),
    [("inputs", 0), ("inputs", 1), ("taps", 0), ("outputs", 0), ("outputs", 1)],
)
def test_passes_multiply_lines_by_a_matrix(name: str, m: int, is_row: int, dtype: str, twin: bool):
    function = {
        "inputs": minimal_filters.evaluate,
        "taps": minimal_filters.evaluate_taps,
        "outputs": minimal_filters.interpolate,
    }[name]
    matrix = np.array(getattr(matrices(m), name)).astype(float)
    size = 2 * VECTOR_BYTES // np.dtype(dtype).itemsize
    after, before = matrix.shape
    # Two rows of tiles, two lines; the second line goes before the first.
    rng = np.random.default_rng(m)
    source = rng.standard_normal(2 * 2 * before * size).astype(dtype)
    target = rng.standard_normal(2 * 2 * after * size).astype(dtype)
    line, block = before * size, 2 * before * size
    fields = Pass(m, 2, size, size, block, 2 * after * size, is_row)
    table = np.array([*fields, 0, after * size, line, 0])
    start = np.array([0.5], dtype)
    run(function, PassArguments(target, source, table, 2, 2, start), twin)
    for row, number in itertools.product(range(2), range(2)):
        read = source[row * block + number * line :][:line].astype(float)
        if name == "inputs" and is_row:
            cells = np.stack([read[i:][: m * size : m] for i in range(before)])
        else:
            cells = read.reshape(before, size)
        expected = matrix @ cells + (0.5 if name == "outputs" else 0.0)
        got = target.reshape(2, 2, -1)[row, 1 - number]
        interleaved = name == "outputs" and is_row
        got = got.reshape(size, after).T if interleaved else got.reshape(after, size)
        np.testing.assert_allclose(got, expected, rtol=0, atol=64 * np.finfo(dtype).eps)


# Without the compiler all that is multiplied goes through np.stack, in the functions' twins.
NOTHING_DENORMAL = """
import sys
import numpy as np
import numbaconv as nc
from numbaconv.cpu import winograd
from numbaconv.cpu.winograd import tiles

stack, least = np.stack, np.finfo(np.float32).smallest_normal

def checked(arrays, *more):
    whole = stack(arrays, *more)
    assert not ((whole != 0) & (abs(whole) < least)).any()
    return whole

winograd.LEAST_CHANNELS, tiles.MOST_TILES = 1, int(sys.argv[1])
size, kernel = (tuple(map(int, text.split("x"))) for text in sys.argv[2:])
rng = np.random.default_rng(1)
x = rng.standard_normal((2, 3, *size), np.float32)
w = rng.standard_normal((5, 3, *kernel), np.float32)
np.empty = lambda shape, *options, **more: np.full(shape, 1e-40, *options, **more)
np.stack = checked
nc.conv(x, w, backend="winograd")
"""


@pytest.mark.parametrize(
    ("most", "size", "kernel"),
    [(128, "11x30", "3x3"), (6, "11x30", "3x3"), (128, "45", "3"), (9, "9x5x8", "3x3x3")],
)
def test_nothing_denormal_is_multiplied(
    run_script: Script, tmp_path: Path, most: int, size: str, kernel: str
):
    """What happened to lie in scratch behind the tiles made calls five times as long."""
    script = tmp_path / "denormal.py"
    script.write_text(NOTHING_DENORMAL)
    run_script(str(script), str(most), size, kernel, NUMBA_DISABLE_JIT="1")
