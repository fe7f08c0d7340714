"""Layers of integers beside PyTorch, where it is installed: CPU time of one thread, least of turns.

python benchmarks/integers.py
"""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numba import set_num_threads
from rich.console import Console

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numbaconv as nc
from benchmarks.lib.turns import least_in_turn

DTYPES = ("int8", "uint8", "int16", "int32", "int64")
# Shapes of image and weight, groups, padding.
LAYERS = {
    "64 to 64 channels, 3x3": ((1, 64, 56, 56), (64, 64, 3, 3), 1, 1),
    "256 to 64 channels, 1x1": ((1, 256, 56, 56), (64, 256, 1, 1), 1, 0),
    "3 to 32 channels, 3x3": ((1, 3, 112, 112), (32, 3, 3, 3), 1, 1),
    "depthwise, 64 of 3x3": ((1, 64, 56, 56), (64, 1, 3, 3), 64, 1),
    "one channel, 5x5": ((1, 1, 512, 512), (1, 1, 5, 5), 1, 2),
}


def torch_call(x: Any, w: Any, groups: int, padding: int) -> Callable[[], Any] | None:
    """Return the same convolution by PyTorch, or None."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    image, weight = torch.from_numpy(x), torch.from_numpy(w)
    convolve = torch.nn.functional.conv2d
    return lambda: convolve(image, weight, padding=padding, groups=groups)


def main(turns: Annotated[int, typer.Option(help="Turns of each call.")] = 20) -> None:
    """Print a table: milliseconds, and how many times as fast as PyTorch."""
    set_num_threads(1)
    rng, console = np.random.default_rng(0), Console()
    console.print("| layer | | numbaconv | PyTorch | ratio |\n|:--|:--|--:|--:|--:|", markup=False)
    for name, (image, weight, groups, padding) in LAYERS.items():
        for dtype in DTYPES:
            x, w = (rng.integers(0, 100, shape).astype(dtype) for shape in (image, weight))
            other = torch_call(x, w, groups, padding)
            calls = [functools.partial(nc.conv2d, x, w, padding=padding, groups=groups)]
            own = calls[0]()
            if other is not None:
                assert (other().numpy() == own).all(), (name, dtype)
                calls.append(other)
            times = least_in_turn(calls, turns)
            figures = f"{times[0]:.3g} | " + (
                f"{times[1]:.3g} | {times[1] / times[0]:.2f}" if len(times) > 1 else "- | -"
            )
            console.print(f"| {name} | {dtype} | {figures} |", markup=False, soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
