"""Threads, float64 and memory held against their limits: ``python benchmarks/limits.py --help``.

Unlike the targets of ``compare.py`` these need no other library: numbaconv is held against itself,
and against the sizes of the arrays.
"""

import ctypes
import datetime
import math
import shlex
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

if __name__ == "__main__":  # as a script, not as a module of the package `benchmarks`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numba as nb
import numpy as np
import typer
from rich.console import Console
from rich.progress import track

from benchmarks.lib import report, rivals
from benchmarks.lib.layers import Layer, arrays, select
from benchmarks.lib.machine import describe
from benchmarks.lib.worker import TOLERANCE, largest_error, median_time

QUICK = ("R3", "R9", "V1", "M3", "X1", "I2", "A1", "C1")
PER_THREAD = 0.95
"""Speed on all threads, as a share of that of one thread times their number."""
LONG = 1e-3
"""Seconds; calls that take no longer on all threads need not scale."""
DOUBLE = 0.5
"""Speed in float64, as a share of that in float32."""
SHARE, ROOM = 0.1, 2 << 20
"""Memory of a direct call beyond its arrays: a share of theirs, and bytes for each thread."""


class Figures(NamedTuple):
    """What was measured on a layer: seconds of a call, and bytes of extra memory."""

    layer: Layer
    threads: int
    seconds: float
    one_thread: float
    double: float
    extra: float

    @property
    def scaling(self) -> float:
        """Speed on all threads over that on one."""
        return self.one_thread / self.seconds

    @property
    def double_ratio(self) -> float:
        """Speed in float64 over that in float32."""
        return self.seconds / self.double

    @property
    def allowed(self) -> float:
        """Bytes of extra memory that a call may take."""
        return SHARE * 4 * self.layer.elements + ROOM * self.threads

    @property
    def room(self) -> float:
        """Memory allowed over memory taken."""
        return self.allowed / max(self.extra, 1)


def peak_growth(run: Callable[[], Any]) -> float:
    """Return the bytes by which this process grows, at most, during a call (Linux; else NaN)."""
    clear = Path("/proc/self/clear_refs")
    if not clear.exists():
        return math.nan

    def status(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))

    if hasattr(ctypes.CDLL(None), "malloc_trim"):  # else the call may use what lies free
        ctypes.CDLL(None).malloc_trim(0)
    clear.write_text("5")  # the peak counts from now on
    before = status("VmRSS")
    run()
    return max(0, status("VmHWM") - before)


def extra_memory(nc: Any, layer: Layer) -> float:
    """Bytes that a plain call of the direct backend takes beside input, weight and output."""
    x, w = arrays(layer)
    y = np.zeros(layer.output_shape, x.dtype)
    y.fill(1)  # so that its pages are there
    conv = getattr(nc, f"conv{layer.rank}d")
    kwargs = layer.conv_kwargs | {"backend": "direct", "out": y}
    conv(x, w, **kwargs)  # what is kept for the next call, kernels above all, is not the call's
    return peak_growth(lambda: conv(x, w, **kwargs))


def measure(nc: Any, layer: Layer, prepared: bool, passes: int, seconds: float) -> Figures:
    """Time a layer on all threads, on one, and in float64, in turn, several times over."""
    prepare = rivals.numbaconv(prepared)
    threads = nb.config.NUMBA_NUM_THREADS
    calls = {dtype: prepare(layer, *arrays(layer, dtype=dtype)).run for dtype in TOLERANCE}
    error = largest_error(calls["float32"](), calls["float64"]())
    if not error <= TOLERANCE["float32"]:
        raise SystemExit(f"float32 and float64 differ by {error:.1e} on {layer.id}")
    cases = ((threads, "float32"), (1, "float32"), (threads, "float64"))
    times: dict[tuple[int, str], list[float]] = {case: [] for case in cases}
    for _ in range(passes):
        for count, dtype in cases:
            nb.set_num_threads(count)
            times[count, dtype].append(median_time(calls[dtype], seconds, at_least=3))
    nb.set_num_threads(threads)
    medians = (statistics.median(times[case]) for case in cases)
    return Figures(layer, threads, *medians, extra_memory(nc, layer))


def tabulate(measured: list[Figures]) -> report.Sheet:
    """Write the figures, a line for each layer."""
    header = ["row", "GFLOP/s", "one thread", "ratio", "float64", "ratio", "extra MB", "allowed"]

    def line(f: Figures) -> list[str]:
        speeds = [f.layer.flops / t / 1e9 for t in (f.seconds, f.one_thread, f.double)]
        cells = [speeds[0], speeds[1], f.scaling, speeds[2], f.double_ratio]
        name = f"{f.layer.id} {f.layer.what}"
        return [name, *map(report.number, [*cells, f.extra / 1e6, f.allowed / 1e6])]

    title = f"Limits: {measured[0].threads} threads, float32, and memory of direct"
    return report.Sheet(title, header, [line(f) for f in measured])


def verdicts(measured: list[Figures]) -> Iterator[str]:
    """Say of each limit how many rows keep it, and which do not."""
    threads = measured[0].threads
    scaling = PER_THREAD * threads
    for figure, least, name in (
        ("scaling", scaling, f"{threads} threads at least {scaling:.2g}x one, calls over 1 ms"),
        ("double_ratio", DOUBLE, f"float64 at least {DOUBLE:g}x float32"),
        ("room", 1, "extra memory as allowed"),
    ):
        counted = [f for f in measured if f.seconds > LONG or figure != "scaling"]
        values = {f.layer.id: getattr(f, figure) for f in counted}
        values = {row: value for row, value in values.items() if not math.isnan(value)}
        misses = sorted((value, row) for row, value in values.items() if value < least)
        kept = f"{name}: {len(values) - len(misses)} of {len(values)} rows"
        listed = ", ".join(f"{row} {report.number(value)}" for value, row in misses)
        yield f"{kept}; not {listed}" if misses else kept


def main(
    rows: Annotated[str, typer.Option(help="Rows by id, such as R3,V1.")] = "",
    prepared: Annotated[bool, typer.Option(help="Time prepared layers, not plain calls.")] = False,
    passes: Annotated[int, typer.Option(min=1, help="Turns that each case gets.")] = 3,
    seconds: Annotated[float, typer.Option(help="Time for each case in each pass.")] = 0.1,
    quick: Annotated[bool, typer.Option(help=f"{', '.join(QUICK)} alone, one pass.")] = False,
    markdown: Annotated[Path | None, typer.Option(help="Write the table.")] = None,
) -> None:
    """Measure what a second thread brings, what float64 costs, and what memory a call takes."""
    import numbaconv as nc

    if quick:
        passes = 1
    try:
        names = [row.strip() for row in rows.split(",") if row.strip()] or (QUICK if quick else ())
        layers = select(names)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    console = Console(width=None if sys.stdout.isatty() else 150)
    measured = [
        measure(nc, layer, prepared, passes, seconds)
        for layer in track(layers, "measuring", console=console)
    ]
    sheet = tabulate(measured)
    console.print(report.terminal(sheet))
    lines = [
        *verdicts(measured),
        describe(),
        f"{datetime.date.today().isoformat()}, {passes} passes",
        shlex.join(["python", "benchmarks/limits.py", *sys.argv[1:]]),
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if markdown:
        text = "\n".join(f"- {line}" for line in lines)
        markdown.write_text(f"{text}\n\n{report.markdown_table(sheet)}\n")


if __name__ == "__main__":
    typer.run(main)
