"""Errors of `winograd` beside those of sums, on layers of 3x3 and other small kernels.

Inputs and weights are normal; the exact results are sums in float64. Errors are in units of the
largest output times 2^-24, half the distance of float32's neighbours of 1.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import typer

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numbaconv as nc

UNIT = 2.0**-24

# Channels in and out, size and kernel.
LAYERS = (
    (16, 16, (56, 56), (3, 3)),
    (64, 64, (56, 56), (3, 3)),
    (128, 128, (56, 56), (3, 3)),
    (256, 256, (28, 28), (3, 3)),
    (512, 512, (28, 28), (3, 3)),
    (64, 64, (4096,), (3,)),
    (32, 32, (16, 16, 16), (3, 3, 3)),
)


class Errors(NamedTuple):
    """The largest error and the root of the mean square."""

    largest: float
    usual: float


def errors(y: np.ndarray, exact: np.ndarray) -> Errors:
    """Compare a result with the exact one."""
    unit = UNIT * float(np.abs(exact).max())
    difference = np.abs(y - exact)
    return Errors(float(difference.max()) / unit, float(np.sqrt(np.mean(difference**2))) / unit)


def measure(layer: tuple[int, int, tuple[int, ...], tuple[int, ...]]) -> dict[str, Errors]:
    """Return the errors of a layer on each backend."""
    c_in, c_out, size, kernel = layer
    rng = np.random.default_rng(c_in)
    x = rng.standard_normal((1, c_in, *size), np.float32)
    w = rng.standard_normal((c_out, c_in, *kernel), np.float32)
    exact = nc.conv(x.astype(float), w.astype(float), padding=1, backend="direct")
    return {
        name: errors(nc.conv(x, w, padding=1, backend=name), exact)
        for name in ("direct", "winograd")
    }


def main() -> None:
    """Print a table in Markdown."""
    print("| layer | sums: largest, usual | winograd: largest, usual | times |")
    print("|:--|--:|--:|--:|")
    for layer in LAYERS:
        c_in, c_out, size, kernel = layer
        found = measure(layer)
        sums, fewer = found["direct"], found["winograd"]
        shape = " x ".join(map(str, size))
        name = f"{c_in} to {c_out} on {shape}, {' x '.join(map(str, kernel))}"
        times = f"{fewer.largest / sums.largest:.1f}, {fewer.usual / sums.usual:.1f}"
        cells = (f"{each.largest:.1f}, {each.usual:.2f}" for each in (sums, fewer))
        print(f"| {name} | {' | '.join(cells)} | {times} |")


if __name__ == "__main__":
    typer.run(main)
