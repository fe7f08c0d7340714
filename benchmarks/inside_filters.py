"""Small filters in `@njit` code, beside the same calls from Python, in turn.

``python benchmarks/inside_filters.py``: CPU time of one thread, of a call in a loop. Images have
8 x 8 pixels of float32; `lfilter` has blocks of two channels of 64 samples, 9 taps and a state.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

if __name__ == "__main__":  # as a script, not as a module of the package `benchmarks`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numba
import numpy as np
import typer
from rich.console import Console

from benchmarks.lib import report
from benchmarks.lib.machine import describe
from benchmarks.lib.turns import find_clock, in_turn
from numbaconv import ndimage, signal

COUNT = 200  # calls of a loop

IMAGE, KERNEL = np.ones((8, 8), np.float32), np.ones((3, 3))
BLOCK, TAPS, ONE = np.ones((2, 64), np.float32), np.ones(9, np.float32), np.float32(1)


def gaussian_filter(image, count):
    """Blur an image."""
    for _ in range(count):
        ndimage.gaussian_filter(image, 1.5)


def correlate(image, count):
    """Correlate an image with 3 x 3 weights."""
    for _ in range(count):
        ndimage.correlate(image, KERNEL)


def sobel(image, count):
    """Take the derivative of an image."""
    for _ in range(count):
        ndimage.sobel(image)


def lfilter(block, count):
    """Filter a stream, block by block."""
    state = np.zeros((2, 8), np.float32)
    for _ in range(count):
        _, state = signal.lfilter(TAPS, ONE, block, zi=state)


LOOPS: dict[Callable[..., Any], np.ndarray] = {
    gaussian_filter: IMAGE,
    correlate: IMAGE,
    sobel: IMAGE,
    lfilter: BLOCK,
}


def main(
    passes: Annotated[int, typer.Option(help="How often each loop has its turn.")] = 5,
    seconds: Annotated[float, typer.Option(help="Length of a turn, at least.")] = 0.2,
) -> None:
    """Time small filters in compiled code and from Python."""
    console, clock, lines = Console(), find_clock(cpu=True), []
    for loop, array in LOOPS.items():
        inside = numba.njit(loop)
        inside(array, 1)
        calls = [lambda run=run, x=array: run(x, COUNT) for run in (inside, loop)]
        figures = [1e6 / COUNT * each for each in in_turn(calls, passes, seconds, clock)]
        lines.append([loop.__name__, *map(report.number, figures)])
    header = ["microseconds", "in @njit", "from Python"]
    console.print(report.terminal(report.Sheet("Small filters", header, lines)))
    console.print(describe())


if __name__ == "__main__":
    typer.run(main)
