"""What arrays cost that are cut into blocks: Dask beside one call, `tiled` beside a plain copy.

``.venv/bin/python benchmarks/large_arrays.py dask``, ``tiled`` or ``workers``. The last wants
`distributed` and counts what two local workers send each other.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import numbaconv as nc

with contextlib.suppress(ImportError):  # asv imports all modules here, in environments without it
    import dask.array as da


def least(function: Callable[[], Any], times: int = 5) -> float:
    """Shortest of some runs, in milliseconds."""
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        function()
        taken.append(time.perf_counter() - begin)
    return 1e3 * min(taken)


def dask(n: int = 8192, chunk: int = 1024) -> None:
    """Time one call, and the same by Dask's threads, on an image in chunks."""
    rng = np.random.default_rng(0)
    image = rng.random((1, n, n), np.float32)
    lazy, out = da.from_array(image, chunks=(1, chunk, chunk), name="image"), np.empty_like(image)
    w = rng.random((1, 1, 15, 15), np.float32)
    functions: dict[str, Any] = {
        "conv2d 15x15": lambda x: nc.conv2d(x, w, padding="same"),
        "conv2d 5x5": lambda x: nc.conv2d(x, w[..., :5, :5], padding="same"),
        "gaussian sigma 3": lambda x: nc.ndimage.gaussian_filter(x, 3, axes=(1, 2)),
    }
    for name, function in functions.items():
        function(image[:, :chunk, :chunk])
        result = function(lazy)
        build = least(lambda function=function: function(lazy))
        whole = least(lambda function=function: function(image))
        blocks = least(lambda result=result: da.store(result, out, lock=False, scheduler="threads"))
        print(
            f"{name:18} one call {whole:6.0f} ms, Dask {blocks:6.0f} ms "
            f"({blocks / whole - 1:+.0%}), its graph {build:.0f} ms"
        )


def _anonymous() -> int:
    """Memory of the process that is no file's, on Linux."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return 1024 * int(line.split()[1])
    return 0


def tiled(memory: str = "500 MB") -> None:
    """Send 3 GB of float32 through less memory, from one file into another."""
    shape = (750, 1000, 1000)
    nc.ndimage.gaussian_filter(np.ones((8, 8, 8), np.float32), 1)
    base, peak, done = _anonymous(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], _anonymous())

    with tempfile.TemporaryDirectory() as folder:
        source, out = (
            np.lib.format.open_memmap(Path(folder) / name, "w+", np.float32, shape)
            for name in ("source.npy", "out.npy")
        )
        slab = np.random.default_rng(0).random((25, *shape[1:]), np.float32)
        for start in range(0, shape[0], 25):
            source[start : start + 25] = slab

        def copy() -> None:
            for start in range(0, shape[0], 25):
                out[start : start + 25] = np.array(source[start : start + 25])

        copied = least(copy, 2)
        threading.Thread(target=watch, daemon=True).start()
        options: Any = {"memory": memory, "sigma": 1}
        taken = least(lambda: nc.tiled(nc.ndimage.gaussian_filter, source, out, **options), 2)
        done.set()
        print(
            f"3 GB through {memory}: {taken / 1e3:.1f} s, a copy {copied / 1e3:.1f} s, "
            f"most memory {(peak[0] - base) / 1e6:.0f} MB"
        )


def workers(n: int = 4096, chunk: int = 512, halo: int = 16) -> None:
    """Count what two workers send each other, beside what neighbours need."""
    from distributed import Client, LocalCluster, wait

    def sent(dask_worker: Any) -> int:
        return int(dask_worker.transfer_outgoing_bytes_total)

    options: Any = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        x = da.random.default_rng(0).random((1, n, n), chunks=(1, chunk, chunk), dtype=np.float32)
        x = x.persist()
        wait(x)
        weight = np.ones((1, 1, 2 * halo + 1, 2 * halo + 1), np.float32)
        nc.conv2d(x, weight, padding="same").sum().compute()
        total = sum(client.run(sent).values())
    needed = ((chunk + 2 * halo) ** 2 - chunk**2) * (n // chunk) ** 2 * 4
    print(f"sent {total / 1e6:.1f} MB; halos {needed / 1e6:.1f} MB of {4 * n * n / 1e6:.1f} MB")


if __name__ == "__main__":
    {"dask": dask, "tiled": tiled, "workers": workers}[sys.argv[1]]()
