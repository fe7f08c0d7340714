"""What the asv suites have in common.

They also run under the package of older commits: whatever that lacks is skipped.
"""

import contextlib
import functools
import os
from collections.abc import Callable
from typing import Any

from asv_runner.benchmarks.mark import SkipNotImplemented

from benchmarks.lib import rivals
from benchmarks.lib.layers import EVERY_ROW, LAYERS, Layer, arrays

BACKENDS = ("direct", "im2col", "fft", "winograd", "cuda")
SKIP_SLOW = bool(os.environ.get("ASV_SKIP_SLOW"))


def rows(few: str, table: dict[str, Layer] = LAYERS) -> tuple[str, ...]:
    """Pick the layers of a suite.

    Parameters
    ----------
    few : str
        Ids with spaces between.
    table : dict of str to Layer
        All that there are.

    Returns
    -------
    tuple of str
        The ids of every layer; the few if ASV_SKIP_SLOW is set.
    """
    return tuple(few.split()) if SKIP_SLOW else tuple(table)


def available_backends() -> tuple[str, ...]:
    """Name the backends that the installed package, if any, can run here."""
    try:
        import numbaconv as nc
    except ImportError:
        return ()
    return getattr(nc, "available_backends", tuple)()


def require(backend: str) -> None:
    """Skip the benchmark if the backend is absent."""
    if backend not in available_backends():
        raise SkipNotImplemented(f"no backend {backend}")


@functools.cache
def ready(backend: str, layer_id: str, prepared: bool = False) -> Callable[[], Any]:
    """Make the call of a layer on a backend, and do it once, so that it is compiled.

    It is remembered, because asv runs `setup` before every call that it times.

    Parameters
    ----------
    backend : str
        One of `BACKENDS`; if it is absent the benchmark is skipped.
    layer_id : str
        A row of the layer tables.
    prepared : bool
        Whether to pack the weights ahead; skipped where the package cannot.

    Returns
    -------
    callable
        Does the convolution.
    """
    require(backend)
    layer = EVERY_ROW[layer_id]
    try:
        call = rivals.numbaconv(prepared, backend=backend)(layer, *arrays(layer))
    except (ImportError, AttributeError) as error:  # no prepare, no conv3d
        raise SkipNotImplemented(str(error)) from error
    call.run()
    return call.run


def compile_all() -> None:
    """Fill the kernel cache, so that no later process compiles: a layer of each rank and kind."""
    for backend in available_backends():
        for layer_id in ("T1", "A1", "C3", "M1", "R9"):
            with contextlib.suppress(SkipNotImplemented):
                ready(backend, layer_id)
