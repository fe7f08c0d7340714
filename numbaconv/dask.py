"""The functions that take Dask arrays, with one more argument: ``threads``, of each block.

``numbaconv.conv2d`` takes a Dask array as it is, and computes each block on one thread, which suits
schedulers that run a block on every core. These suit few workers with many cores each. Any other
array is taken too, as one Dask array of one chunk.

>>> import dask.array
>>> import numpy as np
>>> from numbaconv import dask as ncd
>>> image = dask.array.ones((1, 1000, 1000), chunks=500, dtype=np.float32)
>>> ncd.conv2d(image, np.ones((4, 1, 5, 5), np.float32), padding="same", threads=2).chunks
((4,), (500, 500), (500, 500))
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

try:
    import dask.array as da
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        'numbaconv.dask needs Dask: pip install "numbaconv[dask]"', name=missing.name
    ) from missing

from numbaconv import convolution, ndimage, transposed
from numbaconv.blocks.lazy import call_lazily, is_lazy

_RANKS = (1, 2, 3)
_NAMES = ("conv", *(f"conv{r}d" for r in _RANKS), *(f"conv_transpose{r}d" for r in _RANKS))
_FILTERS = tuple(name for name in nc.ndimage.__all__ if not name.startswith("generic"))

__all__ = [*_NAMES, *_FILTERS, "apply"]


def _explicit(function: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(input: Any, *args: Any, threads: int = 1, **kwargs: Any) -> Any:
        bound = signature.bind(input, *args, **kwargs)
        bound.apply_defaults()
        given = dict(bound.arguments)
        given |= given.pop("kwargs", {})
        if not is_lazy(input):
            given["input"] = da.asarray(input)
        return call_lazily(function, given, threads)

    return call


def apply(layer: Any, x: Any, threads: int = 1) -> Any:
    """Apply a prepared layer.

    Parameters
    ----------
    layer : PreparedConv
        From `numbaconv.prepare`.
    x : dask array
        As the layer's input.
    threads : int, optional
        On how many threads each block is computed.

    Returns
    -------
    dask array
        Lazy.
    """
    return call_lazily(layer, {"x": x if is_lazy(x) else da.asarray(x)}, threads)


globals().update({name: _explicit(function) for name, function in _FUNCTIONS.items()})
