"""Calls from compiled code, beside the same from Python, PyTorch and `np.convolve`.

Everything is made and compiled when this module is imported: a `setup` would run before every
call. A figure is the time of a loop: of COUNT small calls, of SIGNAL_COUNT convolutions of signals,
of one call with a large result.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

COUNT = 1000
IMAGE, KERNEL = np.ones((1, 8, 8), np.float32), np.ones((1, 1, 3, 3), np.float32)
# Shapes of inputs and weights whose results take 0.8, 3 and 64 MB.
LARGE = {
    "64x56x56, 3x3x64": ((1, 64, 56, 56), (64, 64, 3, 3)),
    "64x112x112, 3x3x64": ((1, 64, 112, 112), (64, 64, 3, 3)),
    "4096x4096, 3x3": ((1, 1, 4096, 4096), (1, 1, 3, 3)),
}
# Length of a signal and of a filter.
SIGNALS = ((16, 3), (64, 9), (1000, 31), (20000, 101))
SIGNAL_COUNT = 20


def from_python(x: np.ndarray, w: np.ndarray) -> None:
    """Convolve COUNT times from Python."""
    import numbaconv as nc

    for _ in range(COUNT):
        nc.conv2d(x, w)


def transposed_from_python(x: np.ndarray, w: np.ndarray) -> None:
    """Make COUNT transposed convolutions from Python."""
    import numbaconv as nc

    for _ in range(COUNT):
        nc.conv_transpose2d(x, w)


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

    @numba.njit
    def transposed(x, w):
        total = 0.0
        for _ in range(COUNT):
            total += nc.conv_transpose2d(x, w)[0, 0, 0]
        return total

    return {
        "python": lambda: from_python(IMAGE, KERNEL),
        "python, transposed": lambda: transposed_from_python(IMAGE, KERNEL),
        "inside, transposed": lambda: transposed(IMAGE, KERNEL),
        "inside": lambda: inside(IMAGE, KERNEL),
        "inside, out=": lambda: inside_out(IMAGE, KERNEL),
        "inside, prepared": lambda: prepared(IMAGE, layer),
    }


def compiled_signals() -> dict[tuple[str, tuple[int, int]], Callable[..., Any]]:
    """Return the same full convolution of signals twice, for each size."""
    import numbaconv as nc

    @numba.njit
    def conv1d(x, w):
        total = 0.0
        for _ in range(SIGNAL_COUNT):
            total += nc.conv1d(x, w, padding="full")[0, 0]
        return total

    @numba.njit
    def convolve(x, w):
        total = 0.0
        for _ in range(SIGNAL_COUNT):
            total += np.convolve(x, w)[0]
        return total

    calls: dict[tuple[str, tuple[int, int]], Callable[..., Any]] = {}
    for n, k in SIGNALS:
        x, w = np.ones(n, np.float32), np.ones(k, np.float32)
        calls["conv1d", (n, k)] = lambda x=x[None], w=w[None, None]: conv1d(x, w)
        calls["np.convolve", (n, k)] = lambda x=x, w=w: convolve(x, w)
    return calls


def large_results() -> dict[tuple[str, str], Callable[..., Any]]:
    """Return the same calls from Python and from compiled code, for each size."""
    import numbaconv as nc

    @numba.njit
    def inside(x, w):
        return nc.conv2d(x, w, padding="same")

    calls: dict[tuple[str, str], Callable[..., Any]] = {}
    for size, (image, kernel) in LARGE.items():
        x, w = np.ones(image, np.float32), np.ones(kernel, np.float32)
        calls["python", size] = lambda x=x, w=w: nc.conv2d(x, w, padding="same")
        calls["inside", size] = lambda x=x, w=w: inside(x, w)
    return calls


LOOPS, CONVOLUTIONS, LARGE_RESULTS = {}, {}, {}
with contextlib.suppress(Exception):  # a commit before there was such a thing
    LOOPS |= compiled()
    CONVOLUTIONS = compiled_signals()
    LARGE_RESULTS = large_results()
    with contextlib.suppress(ImportError):
        LOOPS["PyTorch"] = from_pytorch()
    for _call in (*LOOPS.values(), *CONVOLUTIONS.values(), *LARGE_RESULTS.values()):
        _call()


class Tiny:
    """A thousand convolutions, or transposed ones, of 8 x 8 pixels with 3 x 3."""

    version = "1"
    rounds = 1
    param_names = ("caller",)
    params = (
        (
            "PyTorch",
            "python",
            "inside",
            "inside, out=",
            "inside, prepared",
            "python, transposed",
            "inside, transposed",
        ),
    )
    skip_params = tuple((name,) for name in params[0] if name not in LOOPS)

    def time_calls(self, caller: str) -> None:
        LOOPS[caller]()


class Signal:
    """Twenty full convolutions of a signal in compiled code."""

    version = "2"
    rounds = 1
    param_names = ("function", "size")
    params = (("conv1d", "np.convolve"), SIGNALS)
    skip_params = tuple(
        (name, size) for name in params[0] for size in SIGNALS if (name, size) not in CONVOLUTIONS
    )

    def time_call(self, function: str, size: tuple[int, int]) -> None:
        CONVOLUTIONS[function, size]()


class Large:
    """A call whose result takes much memory."""

    version = "1"
    rounds = 1
    param_names = ("caller", "size")
    params = (("python", "inside"), tuple(LARGE))
    skip_params = tuple(
        (name, size) for name in params[0] for size in LARGE if (name, size) not in LARGE_RESULTS
    )

    def time_call(self, caller: str, size: str) -> None:
        LARGE_RESULTS[caller, size]()
