"""Calls that share the cores: beside a busy process, and from a pool of threads.

``python benchmarks/busy.py --help``. Each layer is timed alone and beside a process that loops: on
one thread, as planned, and by onnxruntime, in turn. Calls beside the process are timed for seconds
on end, as a few of them are held up for long; calls alone need less. At the end stand the ratios of
the calls beside the process, and what is wanted of them on two cores.

In front, ``NUMBA_THREADING_LAYER=workqueue`` gives the figures of another threading layer, and
``NUMBACONV_ADAPTIVE_THREADS=0`` those of launches that mind nobody.
"""

import contextlib
import math
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

if __name__ == "__main__":  # as a script, not as a module of the package `benchmarks`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numba as nb
import typer
from rich.console import Console

from benchmarks.lib import report, rivals
from benchmarks.lib.layers import Layer, arrays
from benchmarks.lib.machine import describe
from benchmarks.lib.worker import median_time

LAYERS = tuple(
    Layer(f"{c}", f"channels on {s} x {s}", 1, c, (s, s), c, (3, 3), padding=1)
    for c, s in ((64, 56), (32, 28), (16, 14))
)
PAUSE = 1e-3
"""Seconds between calls that are timed after a pause."""
ALONE = 0.2
"""Length of a turn of calls that nobody holds up, beside that of the others."""

SETTLE = 1.5
"""Seconds after which launches no longer remember the process."""

# What a call takes beside a process that holds one of two cores, at most.
WANTED = {"numbaconv alone": 2.2, "one thread alone": 1.3, "onnxruntime beside it": 1.0}

Run = Callable[[], Any]


def mean_time(run: Run, seconds: float) -> float:
    """Time calls back to back: what holds a few of them up counts."""
    calls, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        run()
        calls += 1
    return elapsed / calls


def after_pauses(run: Run, seconds: float) -> float:
    """Return the median time of a call that comes after a pause."""
    times = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        time.sleep(PAUSE)
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def ways(layer: Layer) -> dict[str, tuple[int, Run]]:
    """Return the calls that are timed, with weights that are packed ahead, and Numba's threads."""
    threads = nb.config.NUMBA_NUM_THREADS
    x, w = arrays(layer)
    run = rivals.numbaconv(prepared=True)(layer, x, w).run
    found = {"one thread": (1, run), "numbaconv": (threads, run)}
    with contextlib.suppress(ImportError):
        found["onnxruntime"] = threads, rivals.onnxruntime(threads)(layer, x, w).run
    return found


def in_turn(calls: Any, how: Callable[[Run, float], float], turns: Any) -> list[float]:
    """Time each call several times, in turn; return the means, in microseconds."""
    passes, seconds = turns
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(passes):
        for name, (threads, run) in calls.items():
            nb.set_num_threads(threads)
            run()
            times[name].append(how(run, seconds))
    return [1e6 * statistics.mean(each) for each in times.values()]


def beside(calls: Any, turns: Any) -> list[float]:
    """Time calls beside a process that only loops."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as loop:
        try:
            return in_turn(calls, mean_time, turns)
        finally:
            loop.kill()
            time.sleep(SETTLE)


def pool(layer: Layer, size: int, seconds: float) -> tuple[float, int]:
    """Call from so many Python threads; return microseconds a call, and the process's threads."""
    run = rivals.numbaconv(prepared=True)(layer, *arrays(layer)).run
    first = threading.Thread(target=run)  # compiles; the threads that it starts end with it
    first.start()
    first.join()
    counts, end = [0] * size, time.perf_counter() + seconds

    def work(number: int) -> None:
        while counts[number] == 0 or time.perf_counter() < end:  # once, on however busy a machine
            run()
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(size)]
    for thread in threads:
        thread.start()
    time.sleep(seconds / 2)
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else ["Threads: 0"]
    alive = next(int(line.split()[1]) for line in lines if line.startswith("Threads"))
    for thread in threads:
        thread.join()
    return 1e6 * seconds / sum(counts), alive


def verdict(alone: list[float], busy: list[float]) -> list[float]:
    """Return the ratios of `WANTED` from the times of a layer, each in the order of `ways`."""
    against = alone[1], alone[0], busy[2] if len(busy) > 2 else math.nan
    return [busy[1] / each for each in against]


def main(
    passes: Annotated[int, typer.Option(help="How often each call has its turn.")] = 2,
    seconds: Annotated[float, typer.Option(help="Length of a turn beside the process.")] = 3.0,
    size: Annotated[int, typer.Option(help="Python threads of the pool.")] = 16,
    layers: Annotated[int, typer.Option(help="How many of the layers.")] = len(LAYERS),
) -> None:
    """Time calls that share the cores: a minute and a half."""
    console, lines, ratios = Console(), [], []
    header = ["microseconds", "one thread", "numbaconv", "onnxruntime"]
    quiet, beside_it = (passes, ALONE * seconds), (passes, seconds)
    pools = [pool(layer, size, seconds) for layer in LAYERS[:layers]]  # before others start threads
    for layer, (each, threads) in zip(LAYERS, pools, strict=False):
        calls = ways(layer)
        figures = {
            "alone": in_turn(calls, median_time, quiet),
            "after 1 ms": in_turn(calls, after_pauses, quiet),
            "beside": beside(calls, beside_it),
            f"pool, {threads} threads": [math.nan, each],
        }
        for what, times in figures.items():
            cells = [report.number(t) for t in times]
            empty = [""] * (len(header) - 1 - len(cells))
            lines.append([f"{layer.id} {layer.what}, {what}", *cells, *empty])
        found = map(report.number, verdict(figures["alone"], figures["beside"]))
        ratios.append([f"{layer.id} {layer.what}", *found])
    ratios.append(["wanted, at most", *map(report.number, WANTED.values())])
    console.print(report.terminal(report.Sheet("Shared cores", header, lines)))
    against = ["a call beside the process /", *WANTED]
    console.print(report.terminal(report.Sheet("Beside a busy process", against, ratios)))
    with contextlib.suppress(ValueError):  # nothing was launched, as on one core
        console.print(f"Threading layer {nb.threading_layer()}")
    console.print(describe())


if __name__ == "__main__":
    typer.run(main)
