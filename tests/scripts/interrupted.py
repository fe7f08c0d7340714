"""Ctrl-C at any moment: the next call is right.

python -m tests.scripts.interrupted calls | compiling [--count 100]
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import threading
import time
from contextlib import suppress

import numpy as np

import numbaconv as nc
from tests.oracle import reference

X = np.random.default_rng(0).integers(-4, 4, (1, 64, 120, 121)).astype(np.float32)
W = np.random.default_rng(1).integers(-4, 4, (67, 64, 3, 3)).astype(np.float32)
EXPECTED = reference.conv_by_taps(X, W)


def right(backend: str, dtype: type = np.float32) -> bool:
    y = nc.conv2d(X.astype(dtype), W.astype(dtype), backend=backend)
    return np.array_equal(y, EXPECTED)


def interrupt_after(seconds: float) -> None:
    """Press Ctrl-C later."""
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()


def press_until(heard: threading.Event, seconds: float) -> None:
    """Press Ctrl-C later, and again each second until it is heard.

    Python drops what is raised in a finalizer or in a callback from C: llvmlite has both, and runs
    them while it loads kernels.
    """
    time.sleep(seconds)
    while not heard.is_set():
        os.kill(os.getpid(), signal.SIGINT)
        heard.wait(1)


def interrupt_calls(count: int, rng: random.Random) -> None:
    """Interrupt a loop of calls, on both backends in turn."""
    for number in range(count):
        backend = ("direct", "im2col")[number % 2]
        heard = threading.Event()
        presses = threading.Thread(target=press_until, args=(heard, rng.uniform(0, 0.1)))
        with suppress(KeyboardInterrupt):
            presses.start()
            while True:
                nc.conv2d(X, W, backend=backend)
        heard.set()
        presses.join()
        assert right(backend)


def interrupt_compiling(count: int, rng: random.Random) -> None:
    """Interrupt the first call with a dtype until one gets through, and begin with another."""
    interrupts = 0
    for dtype in (np.float32, np.float64, np.int32, np.int64):
        for backend in ("direct", "im2col"):
            done = False
            while not done and interrupts < count:
                try:
                    interrupt_after(rng.uniform(0.05, 2))
                    done = right(backend, dtype)
                    time.sleep(60)  # until the interrupt, where it is still to come
                except KeyboardInterrupt:
                    interrupts += 1
            assert right(backend, dtype)
    print(f"{interrupts} while compiling")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("when", choices=("calls", "compiling"))
    parser.add_argument("--count", type=int, default=100)
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the parent ignores it
    ways = {"calls": interrupt_calls, "compiling": interrupt_compiling}
    ways[options.when](options.count, random.Random(0))
    print("right after every interrupt")


if __name__ == "__main__":
    main()
