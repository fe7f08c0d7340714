"""Calls from compiled code, beside the same from Python, PyTorch and `np.convolve`.

Everything is made and compiled when this module is imported: a `setup` would run before every
call. Each benchmark is one compiled loop, so a figure is the time of COUNT calls.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

COUNT = 1000
IMAGE, KERNEL = np.ones((1, 8, 8), np.float32), np.ones((1, 1, 3, 3), np.float32)
# Length of a signal and of a filter.
SIGNALS = ((64, 9), (1000, 31), (20000, 101))


def from_python(x: np.ndarray, w: np.ndarray) -> None:
    """Convolve COUNT times from Python."""
    import numbaconv as nc

    for _ in range(COUNT):
        nc.conv2d(x, w)


def from_pytorch() -> Callable[[], None]:
    """Return the same loop over PyTorch, where it is installed."""
    import torch

    x, w = torch.from_numpy(IMAGE[None]), torch.from_numpy(KERNEL)

    def loop() -> None:
        with torch.inference_mode():
            for _ in range(COUNT):
                torch.nn.functional.conv2d(x, w)

    return loop


def compiled() -> dict[str, Callable[..., Any]]:
    """Return the compiled loops."""
    import numbaconv as nc

    @numba.njit
    def inside(x, w):
        total = 0.0
        for _ in range(COUNT):
            total += nc.conv2d(x, w)[0, 0, 0]
        return total

    @numba.njit
    def inside_out(x, w):
        out = np.empty((1, 6, 6), np.float32)
        for _ in range(COUNT):
            nc.conv2d(x, w, out=out)
        return out

    layer = nc.prepare(KERNEL)

    @numba.njit
    def prepared(x, layer):
        total = 0.0
        for _ in range(COUNT):
            total += layer(x)[0, 0, 0]
        return total

    return {
        "python": lambda: from_python(IMAGE, KERNEL),
        "inside": lambda: inside(IMAGE, KERNEL),
        "inside, out=": lambda: inside_out(IMAGE, KERNEL),
        "inside, prepared": lambda: prepared(IMAGE, layer),
    }


def compiled_signals() -> dict[tuple[str, tuple[int, int]], Callable[..., Any]]:
    """Return the same full convolution of signals twice, for each size."""
    import numbaconv as nc

    @numba.njit
    def conv1d(x, w):
        return nc.conv1d(x, w, padding="full")

    @numba.njit
    def convolve(x, w):
        return np.convolve(x, w)

    calls: dict[tuple[str, tuple[int, int]], Callable[..., Any]] = {}
    for n, k in SIGNALS:
        x, w = np.ones(n, np.float32), np.ones(k, np.float32)
        calls["conv1d", (n, k)] = lambda x=x[None], w=w[None, None]: conv1d(x, w)
        calls["np.convolve", (n, k)] = lambda x=x, w=w: convolve(x, w)
    return calls


LOOPS, CONVOLUTIONS = {}, {}
with contextlib.suppress(Exception):  # a commit before there was such a thing
    LOOPS |= compiled()
    CONVOLUTIONS = compiled_signals()
    with contextlib.suppress(ImportError):
        LOOPS["PyTorch"] = from_pytorch()
    for _call in (*LOOPS.values(), *CONVOLUTIONS.values()):
        _call()


class Tiny:
    """A thousand convolutions of 8 x 8 pixels with 3 x 3."""

    version = "1"
    rounds = 1
    param_names = ("caller",)
    params = (("PyTorch", "python", "inside", "inside, out=", "inside, prepared"),)
    skip_params = tuple((name,) for name in params[0] if name not in LOOPS)

    def time_calls(self, caller: str) -> None:
        LOOPS[caller]()


class Signal:
    """A full convolution of a signal from compiled code."""

    version = "1"
    rounds = 1
    param_names = ("function", "size")
    params = (("conv1d", "np.convolve"), SIGNALS)
    skip_params = tuple(
        (name, size) for name in params[0] for size in SIGNALS if (name, size) not in CONVOLUTIONS
    )

    def time_call(self, function: str, size: tuple[int, int]) -> None:
        CONVOLUTIONS[function, size]()
