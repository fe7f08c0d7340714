"""The model that chooses tiles: what it says of known layers, and what must hold of any.

    python -m pytest tests/cuda/test_cost.py

Its instructions are compared with the machine code in `test_ptx.py`. What it predicts for
the layers of `benchmarks/layers.csv` with 32 images is printed by

    python -m tests.cuda.test_cost
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cuda.installed import require_compilers

require_compilers()

import numbaconv as nc  # noqa: E402 (what it takes is here)
from benchmarks.lib.layers import read_layers  # noqa: E402
from numbaconv.cuda import cost, tiles  # noqa: E402
from numbaconv.cuda.convolution import (  # noqa: E402
    choose_product,
    find_block,
    gradient_kinds,
    product_kinds,
    product_of_weights,
    storage,
)
from numbaconv.cuda.toolkit import Device  # noqa: E402
from numbaconv.problem.forward import memory_strides  # noqa: E402
from tests.cuda.executed.device import installed, to_device  # noqa: E402
from tests.oracle.cases import problem  # noqa: E402

ROOT = Path(__file__).parents[2]
H100 = Device(0, "H100", (9, 0), 132)


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
        assert not gpu.launches
        assert gpu.allocations == 2


def report() -> None:
    """Print the choice for each layer that is a product."""
    for name, layer in read_layers(ROOT / "benchmarks" / "layers.csv").items():
        many = layer._replace(n=32)
        s = shape_of(many.input_shape, many.weight_shape, **many.conv_kwargs)
        if find_block(s, storage(np.dtype("float32"))) is None:
            for dtype in ("float32", "tf32", "float16"):
                print(f"{name:4} {dtype:8} {choose_product(s, dtype, H100)[0]}")
            print(f"{name:4} {'float32':8} gradient of its weights: {gradient(s)}")


if __name__ == "__main__":
    report()
