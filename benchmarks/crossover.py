"""Where transforms begin to pay: ``python benchmarks/crossover.py --help``."""

import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

os.environ.setdefault("NUMBA_NUM_THREADS", "1")  # before Numba is imported
if __name__ == "__main__":  # as a script, not as a module of the package `benchmarks`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

import numbaconv as nc

BACKENDS = ("direct", "fft")


class Family(NamedTuple):
    """Problems that differ in their kernel alone."""

    name: str
    size: tuple[int, ...]
    channels: int
    widths: tuple[int, ...]  # of the kernel, along each axis
    groups: int = 1


FAMILIES = (
    Family("signal, 300,000 samples", (300_000,), 1, (33, 65, 129, 257, 513, 1025, 2049)),
    Family("image, 1024 x 1024", (1024, 1024), 1, (5, 7, 9, 11, 15, 21, 31)),
    Family("volume, 96 x 96 x 96", (96, 96, 96), 1, (3, 5, 7, 9, 11)),
    Family("16 to 16 channels, 128 x 128", (128, 128), 16, (5, 7, 9, 11, 15, 21, 31)),
    Family("64 depthwise, 28 x 28", (28, 28), 64, (7, 9, 11, 15, 21), 64),
    Family("64 depthwise, 56 x 56", (56, 56), 64, (7, 9, 11, 15, 21), 64),
)


class Point(NamedTuple):
    """One problem: taps, milliseconds of each backend, and what `auto` takes."""

    taps: int
    times: tuple[float, ...]
    auto: str


def cpu_time(run: Callable[[], Any], calls: int) -> float:
    """Least CPU time of a call, in milliseconds."""
    run()
    least = math.inf
    for _ in range(calls):
        began = time.process_time()
        run()
        least = min(least, time.process_time() - began)
    return 1e3 * least


def measure(family: Family, width: int, calls: int) -> Point:
    """Time the backends on a problem."""
    rng, rank, c = np.random.default_rng(0), len(family.size), family.channels
    x = rng.standard_normal((1, c, *family.size)).astype(np.float32)
    w = rng.standard_normal((c, c // family.groups, *(width,) * rank)).astype(np.float32)
    options = {"groups": family.groups, "padding": "same" if family.groups > 1 else 0}
    times = [
        cpu_time(lambda name=name: nc.conv(x, w, **options, backend=name), calls)
        for name in BACKENDS
    ]
    return Point(width**rank, tuple(times), nc.explain(x, w, **options).backend)


def plot(found: dict[str, list[Point]], path: Path) -> None:
    """Draw a panel for each family."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import NullFormatter

    rows = math.ceil(len(found) / 3)
    figure, grid = plt.subplots(rows, 3, figsize=(11, 3 * rows), layout="constrained")
    for axes, (name, points) in zip(grid.flat, found.items(), strict=True):
        taps = [point.taps for point in points]
        for i, backend in enumerate(BACKENDS):
            axes.loglog(taps, [point.times[i] for point in points], "o-", ms=3, label=backend)
        taken = [point for point in points if point.auto == "fft"]
        if taken:
            axes.axvspan(taken[0].taps, taps[-1], color="tab:orange", alpha=0.12)
        axes.set(title=name, xlabel="taps")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3)
    for axes in grid[:, 0]:
        axes.set_ylabel("ms of CPU time, one thread")
    grid[0, 0].legend(frameon=False)
    figure.savefig(path, dpi=110)


def main(
    calls: Annotated[int, typer.Option(min=1, help="Calls of each, of which the best counts.")] = 3,
    picture: Annotated[Path | None, typer.Option("--plot", help="Write a picture.")] = None,
) -> None:
    """Time `direct` and `fft` over growing kernels, and say which of them `auto` takes."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    found = {}
    for family in FAMILIES:
        points = found[family.name] = [measure(family, width, calls) for width in family.widths]
        sheet = Table("taps", "direct, ms", "fft, ms", "direct/fft", "auto", title=family.name)
        for taps, (direct, fft), auto in points:
            row = str(taps), f"{direct:.2f}", f"{fft:.2f}", f"{direct / fft:.2f}", auto
            sheet.add_row(*row)
        console.print(sheet)
    if picture:
        plot(found, picture)


if __name__ == "__main__":
    typer.run(main)
