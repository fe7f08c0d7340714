"""The model that chooses tiles: what it says of known layers, and what must hold of any.

    python -m pytest tests/cuda/test_cost.py

Its instructions are compared with the machine code in `test_ptx.py`. What it predicts for
the layers of `benchmarks/layers.csv` with 32 images is printed by

    python -m tests.cuda.test_cost
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cuda.installed import require_compilers

require_compilers()

import numbaconv as nc  # noqa: E402 (what it takes is here)
from benchmarks.lib.layers import read_layers  # noqa: E402
from numbaconv.cuda import cost, tiles, winograd  # noqa: E402
from numbaconv.cuda.convolution import (  # noqa: E402
    choose_product,
    choose_winograd,
    find_block,
    gradient_kinds,
    multiplied,
    product_kinds,
    product_of_weights,
    storage,
    winograd_plans,
)
from numbaconv.cuda.toolkit import Device  # noqa: E402
from numbaconv.problem.forward import memory_strides  # noqa: E402
from numbaconv.problem.shape import EXACT  # noqa: E402
from tests.cuda.executed.device import installed, to_device  # noqa: E402
from tests.oracle.cases import problem  # noqa: E402

ROOT = Path(__file__).parents[2]
H100 = Device(0, "H100", (9, 0), 132)
T4 = Device(0, "T4", (7, 5), 40)  # which has no tf32


def shape_of(images: tuple[int, ...], weight: tuple[int, ...], **options: Any) -> Any:
    case = problem("layer", images, weight, **options)
    arrays = (np.broadcast_to(np.float32(0), shape) for shape in (case.input, case.weight))
    return nc.explain(*arrays, **case.kwargs).shape


R9 = shape_of((32, 512, 7, 7), (512, 512, 3, 3), padding=1)
DEEP = shape_of((1, 512, 7, 7), (512, 512, 3, 3), padding=1)
LARGE = shape_of((64, 256, 28, 28), (256, 256, 3, 3), padding=1)
THIN = shape_of((64, 8, 64, 64), (16, 8, 3, 3), padding=1)
MIDDLE = shape_of((32, 256, 14, 14), (256, 256, 3, 3), padding=1)
PADDED = shape_of((8, 64, 28, 28), (64, 64, 3, 3), padding=1, padding_mode="reflect")
LAYERS = (R9, DEEP, LARGE, THIN)


def forward(s: Any, dtype: str = "float32", device: Device = H100) -> cost.Prediction:
    return cost.choose(s, product_kinds(s, dtype, device), device, s.taps)


def gradient(s: Any, dtype: str = "float32", device: Device = H100) -> cost.Prediction:
    kinds = gradient_kinds(s, dtype, device)
    return cost.choose(product_of_weights(s), kinds, device, s.taps)


def test_maps_of_49_pixels_take_the_largest_tile_and_splits():
    plan = forward(R9).plan
    assert plan.tile == tiles.SIMT[0]
    assert 132 < plan.tile.blocks(R9) * plan.splits <= 2 * 132
    assert forward(R9).share > 0.65


def test_what_else_is_chosen():
    assert forward(LARGE).plan == (tiles.SIMT[0], 1)
    last = LARGE._replace(in_strides=memory_strides(256, LARGE.size, True))
    assert forward(last, "float16").plan == (tiles.GROUPED[0], 1)
    for capability in ((8, 0), (10, 0)):
        device = H100._replace(capability=capability)
        assert forward(last, "float16", device).plan == (tiles.TENSOR[0], 1)
    assert forward(THIN).plan.tile.bm == 16
    assert forward(DEEP).plan.splits > 4
    assert gradient(R9).plan.splits > 1
    many = gradient(THIN).plan
    assert many.splits > 32
    assert many.tile.bm <= 32
    small = shape_of((1, 7, 5, 5), (7, 1, 3, 3), groups=7)
    assert gradient(small).plan.splits == 1


@pytest.mark.parametrize("choose", [forward, gradient])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "tf32", "int32"])
def test_a_prediction_is_plausible(choose: Any, dtype: str):
    for s in LAYERS:
        found = choose(s, dtype)
        assert 0 < found.share < 1
        assert found.cycles > cost.BEGIN
        # Twice the processors never make it slower, and hardly more than twice as fast.
        twice = choose(s, dtype, H100._replace(processors=264))
        assert found.cycles / 2 < 1.05 * twice.cycles  # rounds are whole
        assert twice.cycles <= 1.001 * found.cycles


def test_channels_are_brought_together_where_it_pays():
    for s, dtype, pays in (
        (MIDDLE, "float16", True),
        (LARGE, "float32", False),  # 128 bits are four rows there
        (THIN, "float16", False),
        (PADDED, "float32", True),  # what padding is, is found out once for a vector
    ):
        found, kind, seen = choose_product(s, dtype, H100)
        plain = forward(s, dtype)
        assert found.brought == kind.wide == (seen.in_strides[1] == 1) == pays
        assert found.cycles < plain.cycles if pays else found == plain
        assert found.share < 1
    last = LARGE._replace(in_strides=memory_strides(256, LARGE.size, True))
    assert not choose_product(last, "float16", H100)[0].brought  # they are together
    odd = shape_of((32, 257, 28, 28), (256, 257, 3, 3), padding=1)
    assert not choose_product(odd, "float16", H100)[0].brought  # no vectors


def fast(s: Any, device: Device, precision: str = "fast") -> winograd.Plan | None:
    how = storage(np.dtype("float32"))
    sums = choose_product(s, multiplied(how, precision, device), device)[0]
    found = choose_winograd(s, how, precision, device, sums)
    assert found is None or found.cycles < sums.cycles
    return found


def test_winograd_where_it_pays():
    for s in (R9, LARGE, MIDDLE):
        assert fast(s, T4) is not None
        assert fast(s, H100) is None  # tf32 is faster
        for precision in ("ieee", "tf32"):
            assert fast(s, T4 if precision == "ieee" else H100, precision) is None
    for s in (DEEP, THIN, PADDED):
        assert fast(s, T4) is None
    found = fast(LARGE, T4)
    assert found is not None
    assert found.cycles > found.tiling.parts * found.product.cycles
    assert str(found).startswith("winograd F(4 x 4, 3 x 3)")
    assert f"{found.cycles:.0f} cycles, at each of 36 points a product in tiles" in str(found)


def test_what_winograd_serves():
    float32 = storage(np.dtype("float32"))
    for images, weight in (
        ((32, 64, 9, 9), (64, 64, 3, 3)),
        ((32, 64, 99), (64, 64, 3)),
        ((32, 64, 9, 9, 9), (64, 64, 1, 3, 3)),
        ((32, 64, 9, 9), (64, 64, 1, 3)),
    ):
        s = shape_of(images, weight, padding=1)
        assert winograd.serves(s, float32)
        assert winograd.serves(s, storage(np.dtype("complex64")))
        for dtype in ("float16", "float64", "int32"):
            assert not winograd.serves(s, storage(np.dtype(dtype)))
        assert not winograd.serves(s._replace(converts=EXACT), float32)  # no sum may be rounded
    for images, weight, options in (
        ((32, 64, 9, 9), (64, 64, 3, 3), {"stride": 2}),
        ((32, 64, 9, 9), (64, 64, 3, 3), {"dilation": 2}),
        ((32, 64, 9, 9), (64, 64, 3, 3), {"padding": 1, "padding_mode": "reflect"}),
        ((32, 64, 9, 9), (64, 1, 3, 3), {"groups": 64}),
        ((32, 64, 9, 9), (64, 64, 1, 1), {}),
        ((32, 64, 9, 9), (64, 64, 5, 3), {}),
        ((32, 64, 9, 9, 9), (64, 64, 3, 3, 3), {}),
        ((0, 64, 9, 9), (64, 64, 3, 3), {}),
        ((1, 64, 0, 9), (64, 64, 3, 3), {"padding": 2}),
    ):
        assert not winograd.serves(shape_of(images, weight, **options), float32)


@pytest.mark.parametrize("s", [R9, LARGE, THIN, PADDED], ids=str)
def test_what_winograd_keeps_in_memory_is_bounded(s: Any):
    for tiling in winograd.tilings_of(s):
        product = tiling.product
        each = product.size[2]
        assert product.groups * (product.c_in + product.c_out) * each <= winograd.MOST_VALUES
        assert (tiling.parts - 1) * each < tiling.tiles <= tiling.parts * each
        least = math.prod(-(-o // m) for o, m in zip(s.output[1:], tiling.outputs, strict=True))
        assert tiling.tiles == s.n * least


def test_warpgroups_multiply_where_it_pays():
    """Such as under 64 channels, with a tile of 64 x 256, on capability 9.0 alone."""
    narrow = shape_of((32, 64, 56, 56), (64, 64, 3, 3), padding=1)
    last = narrow._replace(in_strides=memory_strides(64, narrow.size, True))
    for dtype in ("float16", "tf32"):
        found = forward(last, dtype)
        assert found.plan.tile in tiles.GROUPED
        assert "64 x 256 x 8 by wgmma" in str(found)
        for capability in ((8, 0), (8, 9), (10, 0), (12, 0)):
            other = forward(last, dtype, H100._replace(capability=capability)).plan.tile
            assert other not in tiles.GROUPED
        others = [kind for kind in product_kinds(last, dtype, H100) if kind.tile.together == 1]
        assert found.cycles < cost.choose(last, others, H100, last.taps).cycles
        assert gradient(narrow, dtype).plan.tile not in tiles.GROUPED
        first = product_kinds(narrow, dtype, H100)  # whose channels lie apart
        assert not {kind.tile for kind in first} & set(tiles.GROUPED)
    assert forward(last).plan.tile in tiles.SIMT


def test_the_cheapest_is_chosen():
    for s in LAYERS:
        best = forward(s)
        for kind in product_kinds(s, "float32", H100):
            cycles = cost.cost_of(s, kind, H100, s.taps)
            assert best.cycles <= min(cycles(1), cycles(best.plan.splits))


def test_explain_says_what_is_chosen():
    with installed() as gpu:
        x, w = (np.zeros(shape, "f4") for shape in ((32, 64, 7, 7), (64, 64, 3, 3)))
        on_gpu = nc.explain(to_device(x), to_device(w), padding=1).lowering
        copied = nc.explain(x, w, padding=1, backend="cuda").lowering
        assert on_gpu == copied
        assert str(on_gpu).startswith("product in tiles of ")
        assert "of the peak, as predicted and not measured" in str(on_gpu)
        for of in ("input", "weight"):
            assert "product" in str(nc.explain(x, w, padding=1, backend="cuda", of=of).lowering)
        rows = nc.explain(x, w[:, :1], padding=1, groups=64, backend="cuda").lowering
        assert rows is not None
        assert rows.startswith("filter, by blocks of ")
        one = nc.explain(x, w[:, :1], padding=1, groups=64, backend="cuda", of="weight").lowering
        assert str(one).startswith("gradient of a filter, by blocks of ")
        assert nc.explain(x[:0], w, backend="cuda").lowering is None
        gpu.capability = (7, 5)
        many = np.broadcast_to(x[:1, :1, :1, :1], (32, 64, 56, 56))
        for of in ("forward", "input"):
            options = {"padding": 1, "backend": "cuda", "of": of}
            said = str(nc.explain(many, w, **options, precision="fast").lowering)
            assert said.startswith("winograd F(")
            assert " cycles, at each of " in said
            assert str(nc.explain(many, w, **options).lowering).startswith("product")
        assert not gpu.launches
        assert gpu.allocations == 2


def report() -> None:
    """Print the choice for each layer that is a product; of Winograd's, times the speed of it."""
    how = storage(np.dtype("float32"))
    for name, layer in read_layers(ROOT / "benchmarks" / "layers.csv").items():
        many = layer._replace(n=32)
        s = shape_of(many.input_shape, many.weight_shape, **many.conv_kwargs)
        if find_block(s, how) is not None:
            continue
        for dtype in ("float32", "tf32", "float16"):
            print(f"{name:4} {dtype:8} {choose_product(s, dtype, H100)[0]}")
        print(f"{name:4} {'float32':8} gradient of its weights: {gradient(s)}")
        for device, dtype in ((T4, "float32"), (H100, "tf32")) if winograd.serves(s, how) else ():
            sums = choose_product(s, dtype, device)[0]
            for plan in winograd_plans(s, device):
                times = sums.cycles / plan.cycles
                print(f"{name:4} {times:.2f} times {dtype} on a {device.name}: {plan}")


if __name__ == "__main__":
    report()
