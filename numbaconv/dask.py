"""The functions that take Dask arrays, with one more argument: ``threads``, of each block.

``numbaconv.conv2d`` takes a Dask array as it is, and computes each block on one thread, which suits
schedulers that run a block on every core. These suit few workers with many cores each. Any other
array is taken too, as a Dask array. `block_threads` says the same of all functions, also those of
`numbaconv.grad` and `numbaconv.signal`.

>>> import dask.array
>>> import numpy as np
>>> import numbaconv as nc
>>> from numbaconv import dask as ncd
>>> image = dask.array.ones((1, 1000, 1000), chunks=500, dtype=np.float32)
>>> ncd.conv2d(image, np.ones((4, 1, 5, 5), np.float32), padding="same", threads=2).chunks
((4,), (500, 500), (500, 500))
>>> with ncd.block_threads(2):
...     soft = nc.signal.oaconvolve(image[0], np.ones((5, 5)), mode="same")
>>> soft.chunks
((500, 500), (500, 500))
"""

import functools
from collections.abc import Callable
from typing import Any

try:
    import dask.array as da
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        'numbaconv.dask needs Dask: pip install "numbaconv[dask]"', name=missing.name
    ) from missing

from numbaconv import convolution, patches, transposed
from numbaconv.blocks.calls import arguments_of
from numbaconv.blocks.lazy import SOURCES, block_threads
from numbaconv.ndimage import filters
from numbaconv.problem.libraries import is_lazy


def _explicit(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, threads: int = 1, **kwargs: Any) -> Any:
        given = arguments_of(function, *args, **kwargs)
        if not any(map(is_lazy, given.values())):
            name = next(name for name in (*SOURCES, "in1", "columns") if name in given)
            given[name] = da.asarray(given[name])
        with block_threads(threads):
            return function(**given)

    return call


def apply(layer: Any, x: Any, threads: int = 1, *, add: Any = None) -> Any:
    """Apply a prepared layer.

    Parameters
    ----------
    layer : PreparedConv or PreparedTransposedConv
        From `numbaconv.prepare` or `numbaconv.prepare_transposed`.
    x : dask array
        As the layer's input.
    threads : int, optional
        On how many threads each block is computed.
    add : array, optional
        As in the layer's calls.

    Returns
    -------
    dask array
        Lazy.
    """
    with block_threads(threads):
        return layer(x if is_lazy(x) else da.asarray(x), add=add)


conv = _explicit(convolution.conv)
conv1d = _explicit(convolution.conv1d)
conv2d = _explicit(convolution.conv2d)
conv3d = _explicit(convolution.conv3d)
conv_transpose1d = _explicit(transposed.conv_transpose1d)
conv_transpose2d = _explicit(transposed.conv_transpose2d)
conv_transpose3d = _explicit(transposed.conv_transpose3d)
im2col = _explicit(patches.im2col)
col2im = _explicit(patches.col2im)
convolve = _explicit(filters.convolve)
convolve1d = _explicit(filters.convolve1d)
correlate = _explicit(filters.correlate)
correlate1d = _explicit(filters.correlate1d)
gaussian_filter = _explicit(filters.gaussian_filter)
gaussian_filter1d = _explicit(filters.gaussian_filter1d)
gaussian_gradient_magnitude = _explicit(filters.gaussian_gradient_magnitude)
gaussian_laplace = _explicit(filters.gaussian_laplace)
generic_gradient_magnitude = _explicit(filters.generic_gradient_magnitude)
generic_laplace = _explicit(filters.generic_laplace)
laplace = _explicit(filters.laplace)
prewitt = _explicit(filters.prewitt)
sobel = _explicit(filters.sobel)
uniform_filter = _explicit(filters.uniform_filter)
uniform_filter1d = _explicit(filters.uniform_filter1d)
