"""Transposed convolutions of networks: prepared layers beside plain calls, in both formats.

    python benchmarks/transposed.py [--seconds 20]

CPU time of one thread, the least of many turns: what packing the weights in each call costs.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numba
import numpy as np
import typer

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numbaconv as nc


class Layer(NamedTuple):
    """A transposed convolution: shapes with the channels first, and options."""

    name: str
    input: tuple[int, ...]
    weight: tuple[int, ...]
    options: dict[str, Any]


LAYERS = (
    Layer("inverse STFT, hop 256", (1, 1026, 224), (1026, 1, 1024), {"stride": 256}),
    Layer("DCGAN, first", (16, 100, 1, 1), (100, 512, 4, 4), {}),
    Layer("DCGAN", (16, 512, 4, 4), (512, 256, 4, 4), {"stride": 2, "padding": 1}),
    Layer("DCGAN, one image", (1, 512, 4, 4), (512, 256, 4, 4), {"stride": 2, "padding": 1}),
    Layer("DCGAN, last", (8, 64, 32, 32), (64, 3, 4, 4), {"stride": 2, "padding": 1}),
    Layer("U-Net, up", (1, 128, 64, 64), (128, 64, 2, 2), {"stride": 2}),
    Layer(
        "super-resolution, last",
        (1, 56, 64, 64),
        (56, 1, 9, 9),
        {"stride": 4, "padding": 4, "output_padding": 3},
    ),
    Layer(
        "bilinear upsampling",
        (1, 21, 16, 16),
        (21, 1, 64, 64),
        {"stride": 32, "padding": 16, "groups": 21},
    ),
)


def calls(layer: Layer) -> dict[str, Callable[[], Any]]:
    """The ways to compute a layer."""
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(s).astype(np.float32) for s in (layer.input, layer.weight))
    last = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    function = getattr(nc, f"conv_transpose{w.ndim - 2}d")
    of_last = {**layer.options, "data_format": "channels_last"}
    first, second = (nc.prepare_transposed(w, **o) for o in (layer.options, of_last))
    return {
        "plain": lambda: function(x, w, **layer.options),
        "prepared": lambda: first(x),
        "plain, last": lambda: function(last, w, **of_last),
        "prepared, last": lambda: second(last),
    }


def measure(ways: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """The least CPU seconds of each, taken in turn."""
    best = dict.fromkeys(ways, np.inf)
    for call in ways.values():
        call()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name, call in ways.items():
            before = time.thread_time()
            call()
            best[name] = min(best[name], time.thread_time() - before)
    return best


def main(seconds: Annotated[float, typer.Option(help="For each layer.")] = 20.0) -> None:
    """Time transposed layers, plain and prepared, in both layouts."""
    numba.set_num_threads(1)
    print("| layer | plain, ms | prepared | | channels last | prepared | |")
    print("|:--|--:|--:|--:|--:|--:|--:|")
    for layer in LAYERS:
        plain, kept, last, last_kept = (1e3 * t for t in measure(calls(layer), seconds).values())
        times = f"{plain:.2f} | {kept:.2f} | {plain / kept:.2f}x"
        print(
            f"| {layer.name} | {times} | {last:.2f} | {last_kept:.2f} | {last / last_kept:.2f}x |"
        )


if __name__ == "__main__":
    typer.run(main)
