"""Whether memory grows over many calls.

    python -m tests.scripts.growth [--count 1000000]

Calls of every kind in turn: plain, into an `out`, prepared, refused, on either backend, and now
and then a shape that has not been seen before.
"""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path

import numpy as np

import numbaconv as nc

PAGE_KIB = 4


def resident_kib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_KIB


X = np.ones((1, 2, 8, 8), np.float32)
W = np.ones((3, 2, 3, 3), np.float32)
LAYER = nc.prepare(W, padding=1)
OUT = np.empty((1, 3, 6, 6), np.float32)


def run(step: int) -> None:
    kind = step % 8
    if kind == 0:
        LAYER(X)
    elif kind == 1:
        nc.conv2d(X, W, out=OUT)
    elif kind == 2:
        with suppress(ValueError):
            nc.conv2d(X, W, stride=0)
    elif kind == 3:
        nc.conv2d(X.transpose(0, 1, 3, 2), W, backend="im2col")
    elif step % 80 == 4:  # a new shape
        x = np.ones((1, 2, 3 + step // 80 % 200, 3 + step // 16000 % 200), np.float32)
        LAYER(x)
        nc.conv2d(x, W)
    else:
        nc.conv2d(X, W, backend="direct")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1_000_000)
    count = parser.parse_args().count
    warm = count // 4  # by then the stores of plans have been full, and emptied, once
    for step in range(warm):
        run(step)
    before = resident_kib()
    for step in range(warm, count):
        run(step)
    grown = resident_kib() - before
    print(f"{count} calls: {before / 1024:.0f} MiB, then {grown / 1024:+.1f} MiB")
    assert grown < 8 * 1024, "memory grows"


if __name__ == "__main__":
    main()
