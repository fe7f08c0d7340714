"""What arrays cost that are cut into blocks: Dask beside one call, `tiled` beside a plain copy.

``.venv/bin/python benchmarks/large_arrays.py dask``, ``tiled`` or ``workers``, each with `--help`.
The last wants `distributed` and counts what two local workers send each other.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import typer

import numbaconv as nc

with contextlib.suppress(ImportError):  # asv imports all modules here, in environments without it
    import dask.array as da

app = typer.Typer(add_completion=False, help=__doc__)


def least(function: Callable[[], Any], times: int = 5, clock: Any = time.perf_counter) -> float:
    """Shortest of some runs, in milliseconds."""
    taken = []
    for _ in range(times):
        begin = clock()
        function()
        taken.append(clock() - begin)
    return 1e3 * min(taken)


@app.command()
def dask(n: int = 8192, chunk: int = 1024, depth: int = 12) -> None:
    """Time one call, and the same by Dask's threads, on an image in chunks.

    Three lines say what Dask takes by itself: to store chunks as they are, copies of them, and
    copies with what their neighbours lend them. Beside the clock's time is that of all cores
    together, which tells more where others use the machine.
    """
    rng = np.random.default_rng(0)
    image = rng.random((1, n, n), np.float32)
    lazy, out = da.from_array(image, chunks=(1, chunk, chunk), name="image"), np.empty_like(image)
    w = rng.random((1, 1, 15, 15), np.float32)
    copies: Any = {
        "chunks as they are": lambda: lazy,
        "chunks copied": lambda: lazy.map_blocks(np.copy),
        "with neighbours": lambda: lazy.map_overlap(np.copy, (0, depth, depth), boundary="none"),
    }
    functions: dict[str, Any] = {
        "conv2d 15x15": lambda x: nc.conv2d(x, w, padding="same"),
        "conv2d 5x5": lambda x: nc.conv2d(x, w[..., :5, :5], padding="same"),
        "gaussian sigma 3": lambda x: nc.ndimage.gaussian_filter(x, 3, axes=(1, 2)),
    }

    def both(function: Callable[[], Any]) -> str:
        wall, cores = (least(function, clock=c) for c in (time.perf_counter, time.process_time))
        return f"{wall:5.0f} ms ({cores:4.0f} of all cores)"

    def stored(result: Any) -> str:
        return both(lambda: da.store(result, out, lock=False, scheduler="threads"))

    for name, make in copies.items():
        print(f"{name:18} Dask alone {stored(make())}")
    for name, function in functions.items():
        function(image[:, :chunk, :chunk])
        result = function(lazy)
        build = least(lambda function=function: function(lazy))
        whole = both(lambda function=function: function(image))
        print(f"{name:18} one call {whole}, Dask {stored(result)}, its graph {build:.0f} ms")


def _anonymous() -> int:
    """Memory of the process that is no file's, on Linux."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return 1024 * int(line.split()[1])
    return 0


def _forget(path: Path) -> None:
    """Have the system write a file out and drop its pages, as if the disk had not been read."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@app.command()
def tiled(gigabytes: float = 1.0, memory: str = "200 MB") -> None:
    """Send float32 through less memory, from one file into another, beside a copy and a kernel.

    The files are dropped from the system's memory before each run, and written out in it.
    """
    shape = (int(250 * gigabytes), 1000, 1000)
    slab = np.random.default_rng(0).random((25, *shape[1:]), np.float32)
    smooth, options = nc.ndimage.gaussian_filter, {"sigma": 1}
    smooth(slab, **options)
    kernel = shape[0] / 25 * least(lambda: smooth(slab, **options))
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("source.npy", "out.npy")]
        for path in paths:
            array = np.lib.format.open_memmap(path, "w+", np.float32, shape)
            for start in range(0, shape[0], 25):
                array[start : start + 25] = slab
            del array

        def timed(work: Callable[[Any, Any], Any]) -> float:
            for path in paths:
                _forget(path)
            begin = time.perf_counter()
            source, out = (
                np.load(path, mmap_mode=m) for path, m in zip(paths, ("r", "r+"), strict=True)
            )
            work(source, out)
            del source, out
            for path in paths:
                _forget(path)
            return time.perf_counter() - begin

        def copy(source: Any, out: Any) -> None:
            for start in range(0, shape[0], 25):
                out[start : start + 25] = np.array(source[start : start + 25])

        def blocks(source: Any, out: Any) -> None:
            base, peak, done = _anonymous(), [0], threading.Event()

            def watch() -> None:
                while not done.wait(0.005):
                    peak[0] = max(peak[0], _anonymous() - base)

            threading.Thread(target=watch, daemon=True).start()
            nc.tiled(smooth, source, out, memory=memory, progress=False, **options)
            done.set()
            most.append(peak[0])

        most: list[int] = []
        for _ in range(3):
            copied, taken = timed(copy), timed(blocks)
            print(
                f"{gigabytes:g} GB through {memory}: {taken:.1f} s, a copy {copied:.1f} s, "
                f"the kernel alone {kernel / 1e3:.1f} s, most memory {most[-1] / 1e6:.0f} MB"
            )


@app.command()
def workers(n: int = 4096, chunk: int = 512, halo: int = 16) -> None:
    """Count what two workers send each other, beside what neighbours need.

    Once as `distributed` is set, and once so that it moves few whole chunks: without stealing, and
    not taking tasks that it has not timed yet for long ones.
    """
    from dask import config
    from distributed import Client, LocalCluster, wait

    def sent(dask_worker: Any) -> int:
        return int(dask_worker.transfer_outgoing_bytes_total)

    where = "distributed.scheduler."
    settled = {where + "work-stealing": False, where + "unknown-task-duration": "1ms"}
    weight = np.ones((1, 1, 2 * halo + 1, 2 * halo + 1), np.float32)
    needed = ((chunk + 2 * halo) ** 2 - chunk**2) * (n // chunk) ** 2 * 4
    options: Any = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    for name, settings in (("as it is set", {}), ("settled", settled)):
        with config.set(settings), LocalCluster(**options) as cluster, Client(cluster) as client:
            random = da.random.default_rng(0).random
            x = random((1, n, n), chunks=(1, chunk, chunk), dtype=np.float32).persist()
            wait(x)
            for _ in range(2):  # the scheduler has timed the tasks then
                before = sum(client.run(sent).values())
                nc.conv2d(x, weight, padding="same").sum().compute()
                total = sum(client.run(sent).values()) - before
                print(
                    f"{name:13} sent {total / 1e6:.1f} MB; halos {needed / 1e6:.1f} MB "
                    f"of {4 * n * n / 1e6:.1f} MB"
                )


if __name__ == "__main__":
    app()
