"""Depthwise layers by `depthwise_maps`: any kind, parts, packed weights, adjoints."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import numbaconv as nc
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu import blocking, direct, execution
from numbaconv.cpu.direct.choice import has_maps, map_places, with_taps_read, with_window
from numbaconv.cpu.direct.depthwise_counts import count_maps
from numbaconv.problem.activations import NONE
from numbaconv.problem.dtypes import arithmetic
from numbaconv.problem.shape import ConvShape
from numbaconv.problem.simplest import simplest
from tests.cpu.shapes import shape_of
from tests.oracle import reference

LANES = VECTOR_BYTES // 4


class Maps:
    """An engine that computes every problem by maps."""

    @staticmethod
    def lower(s: ConvShape, dtype: np.dtype, threads: int) -> Any:
        return direct.lower_as("depthwise_maps", s, dtype, threads)


def integers(rng: np.random.Generator, *shape: int, dtype: str = "f4") -> np.ndarray:
    return rng.integers(-4, 5, shape).astype(dtype)


def convolve(
    s: ConvShape, x: np.ndarray, w: np.ndarray, bias: np.ndarray, packs: bool, threads: int = 1
) -> np.ndarray:
    """The flat result, with weights as they are or packed, which leaves no element as it was."""
    template = execution.make_template(Maps, s, arithmetic(x.dtype), threads, NONE)  # type: ignore[arg-type]
    y = np.full(s.n * s.out_strides[0], np.nan, x.dtype)
    packed = execution.pack(template, w.ravel()) if packs else np.empty(0, x.dtype)
    execution.run(template, x.ravel(), w.ravel(), packed, bias, y)
    return y


def draw(rng: np.random.Generator) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]:
    """Draw shapes and options: maps of any rank, channels that fill no vector, gaps, padding."""
    rank, channels = int(rng.integers(1, 4)), int(rng.integers(1, 2 * LANES + 3))
    size = rng.integers(1, (40, 10, 6)[rank - 1], rank)
    names = ("stride", "padding", "dilation")
    options = {name: tuple(rng.integers(name != "padding", 4, rank).tolist()) for name in names}
    shape, weight = (int(rng.integers(1, 4)), channels, *size.tolist()), (channels, 1)
    return shape, (*weight, *rng.integers(1, 5, rank).tolist()), options | {"groups": channels}


@pytest.mark.target
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("packs", [False, True], ids=["plain", "packed"])
@pytest.mark.parametrize("cache", [1 << 20, 1 << 10], ids=["whole", "parts"])
def test_maps_of_any_kind(dtype: str, packs: bool, cache: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(blocking, "CACHE_BYTES", cache)
    rng, found = np.random.default_rng(3), 0
    while found < 40:
        shape, weight, options = draw(rng)
        try:
            s = shape_of(shape, weight, **options)
        except ValueError:  # a window larger than the padded map
            continue
        if not has_maps(s, VECTOR_BYTES // np.dtype(dtype).itemsize):
            continue
        found += 1
        x, w = integers(rng, *shape, dtype=dtype), integers(rng, *weight, dtype=dtype)
        bias = integers(rng, s.groups, dtype=dtype)
        expected = reference.conv(x, w, bias, **options)
        y = convolve(s, x, w, bias, packs).reshape(expected.shape)
        np.testing.assert_array_equal(y, expected, err_msg=str((shape, weight, options)))


def test_an_image_has_the_same_bits_in_any_batch_on_any_threads():
    rng = np.random.default_rng(4)
    for size, kernel in (5, 3), (7, 7):  # a map, a window that covers it
        x = rng.standard_normal((5, 3 * LANES + 1, size, size)).astype(np.float32)
        w = rng.standard_normal((x.shape[1], 1, kernel, kernel)).astype(np.float32)
        bias, results = np.zeros(x.shape[1], np.float32), []
        for threads, packs in (1, False), (1, True), (2, False), (3, True):
            whole = simplest(shape_of(x.shape, w.shape, groups=x.shape[1]))
            results.append(convolve(whole, x, w, bias, packs, threads))
        one = simplest(shape_of(x[:1].shape, w.shape, groups=x.shape[1]))
        results.append(np.concatenate([convolve(one, i, w, bias, True) for i in x]))
        for result in results[1:]:
            np.testing.assert_array_equal(result, results[0])


def test_a_window_that_covers_its_map_is_a_map_in_any_batch():
    for n in (1, 2, 64):
        s = simplest(shape_of((n, 64, 7, 7), (64, 1, 7, 7), groups=64))
        assert direct.lower(s, np.dtype(np.float32), 2).name == "depthwise_maps"
        assert with_window(s).n == n


def test_windows_of_nothing_but_padding_are_the_bias():
    rng = np.random.default_rng(7)
    x, w, bias = integers(rng, 1, 5, 4, 1), integers(rng, 5, 1, 1, 2), integers(rng, 5)
    options = {"stride": (1, 3), "padding": (0, 2), "dilation": (1, 3), "groups": 5}
    s = shape_of(x.shape, w.shape, **options)
    for _ in range(5):
        y = convolve(s, x, w, bias, packs=True).reshape(5, -1)
        np.testing.assert_array_equal(y, np.broadcast_to(bias[:, None], y.shape))


def test_the_places_of_an_image_are_counted_once():
    """All blocks of channels have one map, in turn, whose padding is filled with zeros once."""
    s = shape_of((1, 2 * LANES, 8, 9), (2 * LANES, 1, 3, 3), padding=1, groups=2 * LANES)
    rows = s.groups * s.output[1]
    assert rows * count_maps(s, LANES)["depthwise_maps.padding"] == pytest.approx(map_places(s))


def test_pixels_that_no_window_reads_have_no_place():
    dense = shape_of((1, 8, 40, 40), (8, 1, 3, 3), stride=2, dilation=2, groups=8)
    gaps = shape_of((1, 8, 20, 20), (8, 1, 3, 3), groups=8)
    assert map_places(dense) == map_places(gaps) == 20 * 20


@pytest.mark.parametrize(
    ("size", "kernel", "dilation", "padding", "places"),
    [
        ((14, 14), (7, 7), 16, 48, 14 * 14),  # the tap in the middle alone
        ((6, 6), (5, 3), 4, 8, 14 * 22),  # the first row of taps and the last one are left out
        ((9, 9), (3, 3), 7, 4, 3 * 3),  # what is left begins inside the input
    ],
)
def test_taps_that_read_only_padding_have_no_place(
    size: tuple[int, ...], kernel: tuple[int, ...], dilation: int, padding: int, places: int
):
    rng, options = np.random.default_rng(9), {"dilation": dilation, "padding": padding, "groups": 9}
    s = shape_of((2, 9, *size), (9, 1, *kernel), **options)
    assert map_places(with_taps_read(s)) == places
    assert has_maps(s, LANES)
    x, w, bias = integers(rng, 2, 9, *size), integers(rng, 9, 1, *kernel), integers(rng, 9)
    expected = reference.conv(x, w, bias, **options)
    for packs in (True, False):
        y = convolve(s, x, w, bias, packs).reshape(expected.shape)
        np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(
    ("shape", "weight", "options"),
    [
        ((3, 40, 5, 5), (40, 1, 3, 3), {"padding": 1, "groups": 40}),
        ((3, 33, 6, 4), (33, 1, 3, 2), {"groups": 33}),
        ((2, 40, 9, 9), (40, 1, 3, 3), {"padding": 2, "dilation": 2, "groups": 40}),
    ],
)
def test_adjoints(shape: tuple[int, ...], weight: tuple[int, ...], options: dict[str, Any]):
    """<conv(x), g> = <x, adjoint(g)>, for integers exactly, in a plain call and in a layer."""
    rng = np.random.default_rng(5)
    x, w = integers(rng, *shape), integers(rng, *weight)
    y = reference.conv(x, w, None, **options)
    g = integers(rng, *y.shape)
    expected = float((y * g).sum())
    by_input = nc.grad.conv2d_input(x.shape, w, g, **options)
    assert float((by_input * x).sum()) == expected
    layer = nc.prepare_transposed(w, **options)
    np.testing.assert_array_equal(layer(g), by_input)


@pytest.mark.target
def test_windows_of_an_adjoint():
    """Each input of a group's five outputs is a window of five, among weights that are packed."""
    rng = np.random.default_rng(6)
    x, w = integers(rng, 20, 160, 1, 1), integers(rng, 160, 1, 1, 1)
    expected = (x * w[:, 0]).reshape(20, 32, 5).sum(2)
    y = nc.conv2d(x, w.reshape(32, 5, 1, 1), groups=32)
    np.testing.assert_array_equal(y[:, :, 0, 0], expected)
    g, v = integers(rng, 20, 160, 1, 1), integers(rng, 160, 1, 1, 1)
    back = nc.grad.conv2d_input((20, 32, 1, 1), v, g, groups=32)
    np.testing.assert_array_equal(back[:, :, 0, 0], (g * v[:, 0]).reshape(20, 32, 5).sum(2))
    layer = nc.prepare_transposed(v, groups=32)
    np.testing.assert_array_equal(layer(g), back)
