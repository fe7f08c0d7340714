"""Images of bytes, 16 bits and float16 under float32 weights, beside `astype` before the call.

Times are CPU times of one thread, of prepared layers into an `out`: the least of many turns, in
each of which both ways take their turn.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numba import set_num_threads

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numbaconv as nc
from benchmarks.lib.turns import least_in_turn

Problem = tuple[str, str, tuple[int, ...], tuple[int, ...], dict[str, Any]]

LAST = {"data_format": "channels_last"}
GRAY, PHOTO, MAP = (1, 1, 2048, 2048), (1, 3, 224, 224), (1, 32, 128, 128)
PROBLEMS: tuple[Problem, ...] = (
    ("gray, 3x3", "uint8", GRAY, (1, 1, 3, 3), {"padding": 1}),
    ("gray, 5x5", "uint8", GRAY, (1, 1, 5, 5), {"padding": 2}),
    ("gray, 5x5", "uint16", GRAY, (1, 1, 5, 5), {"padding": 2}),
    ("gray, 5x5", "float16", GRAY, (1, 1, 5, 5), {"padding": 2}),
    ("gray, 9x9", "uint8", GRAY, (1, 1, 9, 9), {"padding": 4}),
    ("first layer, 64 of 3x3", "uint8", PHOTO, (64, 3, 3, 3), {"padding": 1}),
    ("first layer, 32 of 3x3, stride 2", "uint8", PHOTO, (32, 3, 3, 3), {"stride": 2}),
    ("first layer, 64 of 7x7, stride 2", "uint8", PHOTO, (64, 3, 7, 7), {"stride": 2}),
    ("the same, channels last", "uint8", (1, 224, 224, 3), (64, 3, 7, 7), {"stride": 2, **LAST}),
    ("32 to 32 channels, 3x3", "uint8", MAP, (32, 32, 3, 3), {"padding": 1}),
    ("32 to 64 channels, 1x1", "uint8", MAP, (64, 32, 1, 1), {}),
    ("depthwise, 32 of 3x3", "uint8", MAP, (32, 1, 3, 3), {"padding": 1, "groups": 32}),
    ("signal, 64 taps", "int16", (1, 1, 1_000_000), (1, 1, 64), {}),
)


def main(turns: Annotated[int, typer.Option(min=1, help="Of both ways.")] = 40) -> None:
    """Time images as they are, and converted before the call."""
    set_num_threads(1)
    rng = np.random.default_rng(0)
    print("| image | | as it is | converted before | ratio |\n|:--|:--|--:|--:|--:|")
    for name, dtype, shape, weight, options in PROBLEMS:
        x = rng.integers(0, 200, shape).astype(dtype)
        layer = nc.prepare(rng.standard_normal(weight, np.float32), **options)
        out = layer(x)
        converted = layer(x.astype(np.float32))
        assert np.allclose(out, converted, rtol=1e-4, atol=1e-3)
        calls = [
            lambda x=x, layer=layer, out=out: layer(x, out),
            lambda x=x, layer=layer, out=out: layer(x.astype(np.float32), out),
        ]
        own, other = least_in_turn(calls, turns)
        print(f"| {name} | {dtype} | {own:.3g} | {other:.3g} | {other / own:.2f} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
