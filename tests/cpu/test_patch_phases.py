"""Adjoints of patches: the microkernel beside its twin, and products cut and stored anyhow."""

from __future__ import annotations

import numpy as np
import pytest

import numbaconv as nc
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu.blocking import WOVEN_ROWS
from numbaconv.cpu.im2col import patch_matrix
from numbaconv.cpu.microkernels.weave import WeaveArguments, weave
from numbaconv.runtime import threads
from tests.cpu.emitted import run
from tests.oracle import reference

LANES = VECTOR_BYTES // 4

# Input, weight, stride and groups: filters that are woven, wider than a tile, cut by the stride, or
# lines; maps of less than a vector; channels in groups; elements between patches; volumes.
CASES = {
    "2x2": ((4, 32, 16, 16), (64, 32, 2, 2), 2, 1),
    "3x3": ((1, 4, 30, 33), (6, 4, 3, 3), 3, 1),
    "4x4": ((2, 5, 24, 36), (9, 5, 4, 4), 4, 1),
    "5x7": ((2, 3, 25, 42), (5, 3, 5, 7), (5, 7), 1),
    "8x8": ((3, 7, 32, 48), (17, 7, 8, 8), 8, 1),
    "16x16": ((2, 3, 64, 64), (20, 3, 16, 16), 16, 1),
    "2x32": ((1, 2, 4, 96), (3, 2, 2, 32), (2, 32), 1),
    "20x20": ((2, 3, 60, 60), (15, 3, 20, 20), 20, 1),
    "one column": ((1, 3, 40, 37), (15, 3, 2, 1), (2, 1), 1),
    "groups": ((2, 6, 20, 22), (8, 3, 2, 2), 2, 2),
    "apart": ((2, 6, 21, 25), (8, 6, 2, 3), (3, 4), 1),
    "signal": ((2, 8, 100), (12, 8, 4), 4, 1),
    "volume": ((2, 3, 10, 12, 14), (4, 3, 2, 2, 2), 2, 1),
    "planes": ((2, 3, 9, 12, 14), (4, 3, 1, 2, 2), (1, 2, 2), 1),
}


def integers(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-4, 5, shape).astype(np.float32)


@pytest.mark.parametrize("rows", WOVEN_ROWS)
def test_weave_is_its_twin(rows: int):
    rng = np.random.default_rng(rows)
    for width in (1, 3, LANES - 1, LANES, LANES + 1, 2 * LANES, 2 * LANES + 5):
        pieces, step = int(rng.integers(1, 4)), 3 * LANES
        places = rng.permutation(pieces) * rows * (width + 1) + 1
        woven = WeaveArguments(
            *(rows, pieces, width),
            source=integers(rng, (pieces * rows + 1) * step),
            step=step,
            target=integers(rng, pieces * rows * (width + 1) + 1),
            places=np.repeat(places, rows),
        )
        expected = woven._replace(target=woven.target.copy())
        run(weave, expected, twin=True)
        run(weave, woven)
        np.testing.assert_array_equal(woven.target, expected.target)


@pytest.mark.parametrize("serial_limit", [0, 1 << 40])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_patches_are_one_product(case: tuple, serial_limit: int, monkeypatch: pytest.MonkeyPatch):
    """On all threads or one; as a gradient, and as a layer with all that a tile's end has."""
    monkeypatch.setattr(threads, "SERIAL_LIMIT", serial_limit)
    size, shape, stride, groups = case
    rng, options = np.random.default_rng(0), {"stride": stride, "groups": groups}
    weight = integers(rng, *shape)
    g = integers(rng, *nc.conv(integers(rng, *size), weight, **options).shape)
    expected = reference.conv_input(size, weight, g, **options)
    gradient = {3: nc.grad.conv1d_input, 4: nc.grad.conv2d_input, 5: nc.grad.conv3d_input}
    np.testing.assert_array_equal(gradient[len(size)](size, weight, g, **options), expected)

    explained = nc.explain(integers(rng, *size), weight, **options, of="input")
    assert explained.lowering == "patch_phases"
    bias = integers(rng, size[1])
    layer = nc.prepare_transposed(weight, bias, activation="relu", **options)
    shape = layer(g).shape
    inside = (slice(None), slice(None), *map(slice, shape[2:]))
    sums = expected[inside] + bias.reshape(-1, *[1] * (len(shape) - 2))
    np.testing.assert_array_equal(layer(g), np.maximum(sums, 0))
    added = integers(rng, *shape)
    np.testing.assert_array_equal(layer(g, add=added), np.maximum(sums + added, 0))


@pytest.mark.usefixtures("small_cache")
@pytest.mark.parametrize("kw", [2, 5])
def test_sums_of_many_channels_are_cut(kw: int, monkeypatch: pytest.MonkeyPatch):
    """Slices of channels read their sums back from where they are woven or transposed to."""
    monkeypatch.setattr(patch_matrix, "MOST_K", 16)
    rng, size = np.random.default_rng(kw), (3, 4, 14, 8 * kw)
    weight, g = integers(rng, 61, 4, 2, kw), integers(rng, 3, 61, 7, 8)
    found = nc.grad.conv2d_input(size, weight, g, (2, kw))
    np.testing.assert_array_equal(found, reference.conv_input(size, weight, g, stride=(2, kw)))


@pytest.mark.parametrize(
    ("size", "options"), [(17, {}), (16, {"padding": 2}), (18, {"padding": 1})]
)
def test_elements_that_no_patch_covers_are_zeros(size: int, options: dict):
    """What is left at the end of a row, or padding, leaves patches to the phases."""
    rng = np.random.default_rng(size)
    x, weight = integers(rng, 2, 3, size, size), integers(rng, 5, 3, 4, 4)
    g = nc.conv2d(x, weight, stride=4, **options)
    found = nc.grad.conv2d_input(x.shape, weight, g, 4, **options)
    expected = reference.conv_input(x.shape, weight, g, stride=4, **options)
    np.testing.assert_array_equal(found, expected)
    assert nc.explain(x, weight, stride=4, of="input", **options).lowering != "patch_phases"


def test_bits_depend_on_no_batch_and_no_threads(monkeypatch: pytest.MonkeyPatch):
    rng, size = np.random.default_rng(5), (5, 8, 28, 28)
    weight = rng.standard_normal((24, 8, 4, 4)).astype(np.float32)
    g = rng.standard_normal((5, 24, 7, 7)).astype(np.float32)
    whole = nc.grad.conv2d_input(size, weight, g, 4)
    for i in range(5):
        one = nc.grad.conv2d_input((1, *size[1:]), weight, g[i : i + 1], 4)
        np.testing.assert_array_equal(one[0], whole[i])
    monkeypatch.setattr(threads, "SERIAL_LIMIT", 0)
    np.testing.assert_array_equal(nc.grad.conv2d_input(size, weight, g, 4), whole)
