"""One library in a process of its own: checks and times it on the rows that stand on stdin.

``compare.py`` starts this as ``python -m benchmarks.lib.worker`` with a `Job` as JSON on stdin, and
reads one JSON object a row from stdout. A library's idle threads may spin for a while after a
call; they end with the process and so do not slow the next library down.
"""

import json
import logging
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.lib.layers import EVERY_ROW, Layer, add_table, arrays

LOG = logging.getLogger(__name__)
TOLERANCE = {"float32": 1e-5, "float64": 1e-13}
"""Largest error allowed, as a share of the largest output. Every float32 algorithm keeps it, FFT
and Winograd included; TF32 and bfloat16 do not."""


class Job(NamedTuple):
    """What a worker is asked to do."""

    task: str
    """``reference``, ``machine``, or the name of a library in ``rivals.py``."""
    rows: list[str]
    folder: str
    """Where the reference results are, one .npy file for each row."""
    threads: int
    seconds: float
    """How long to time each row."""
    dtype: str = "float32"
    table: str = ""
    """A file of more rows."""
    cpu: bool = False
    """Whether the least CPU time of a call counts, and not the median of the wall's."""


def median_time(run: Callable[[], Any], seconds: float, at_least: int = 5) -> float:
    """Time a call that has been warmed up.

    Parameters
    ----------
    run : callable
        What is timed.
    seconds : float
        Calls go on for this long.
    at_least : int
        ... and until there are this many, unless that would take ten times as long.

    Returns
    -------
    float
        The median time of one call, in seconds.
    """
    times: list[float] = []
    total = 0.0
    while total < seconds or (len(times) < at_least and total < 10 * seconds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
        total += times[-1]
    return statistics.median(times)


def least_cpu_time(run: Callable[[], Any], seconds: float, at_least: int = 5) -> float:
    """Return the least CPU time of a call, in seconds, as `median_time` times it."""
    least, count, end = float("inf"), 0, time.perf_counter() + seconds
    while count < at_least or time.perf_counter() < end:
        start = time.process_time()
        run()
        least = min(least, time.process_time() - start)
        count += 1
    return least


def largest_error(y: Any, expected: Any) -> float:
    """Largest difference from the expected values, as a share of the largest of those.

    A wrong shape counts as infinite, and NaN stays NaN.
    """
    if y.shape != expected.shape:
        return float("inf")
    return float(np.abs(y - expected).max() / np.abs(expected).max())


def write_references(layers: list[Layer], job: Job) -> Iterator[dict[str, Any]]:
    """Convolve every layer by the definition, in float64, into the job's folder."""
    from benchmarks.lib.verify import reference

    for layer in layers:
        y = reference(layer, *arrays(layer, dtype=job.dtype))
        np.save(Path(job.folder, layer.id), y.astype(job.dtype))
        yield {"row": layer.id}


def measure_layers(layers: list[Layer], job: Job) -> Iterator[dict[str, Any]]:
    """Check, then time, the job's library on every layer."""
    from benchmarks.lib.rivals import OURS, RIVALS

    try:
        prepare = (RIVALS | OURS)[job.task](job.threads)
    except ImportError as error:
        yield {"absent": str(error)}
        return
    for layer in layers:
        try:
            yield {"row": layer.id} | measure_layer(prepare, layer, job)
        except Exception as error:
            LOG.exception("%s failed on %s", job.task, layer.id)
            yield {"row": layer.id, "failed": f"{type(error).__name__}: {error}"}


def measure_layer(prepare: Any, layer: Layer, job: Job) -> dict[str, Any]:
    """Check, then time, one layer; an empty answer where the library has no such convolution."""
    x, w = arrays(layer, dtype=job.dtype)
    call = prepare(layer, x, w)
    if call is None:
        return {}
    error = largest_error(call.to_numpy(call.run()), np.load(Path(job.folder, f"{layer.id}.npy")))
    if not error <= TOLERANCE[job.dtype]:
        return {"failed": f"wrong result: error {error:.1e} of the largest output"}
    measure = least_cpu_time if job.cpu else median_time
    return {"seconds": measure(call.run, job.seconds), "error": error}


def measure_machine(layers: list[Layer], job: Job) -> Iterator[dict[str, Any]]:
    """Measure the limits that the libraries are held against."""
    from benchmarks.lib.machine import copy_bandwidth, fma_rate

    yield {
        "fma": fma_rate(job.threads, job.dtype, cpu=job.cpu),
        "fma1": fma_rate(1, job.dtype, cpu=job.cpu),
        "copy": copy_bandwidth(job.threads),
    }


def main() -> None:
    """Read the job from stdin and write its answers to stdout, one line each."""
    job = Job(**json.load(sys.stdin))
    if job.table:
        add_table(Path(job.table))
    tasks = {"reference": write_references, "machine": measure_machine}
    layers = [EVERY_ROW[row] for row in job.rows]
    for answer in tasks.get(job.task, measure_layers)(layers, job):
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
