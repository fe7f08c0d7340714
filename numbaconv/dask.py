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
from collections.abc import Callable
from typing import Any

try:
    import dask.array as da
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        'numbaconv.dask needs Dask: pip install "numbaconv[dask]"', name=missing.name
    ) from missing

from numbaconv.blocks.calls import arguments_of
from numbaconv.blocks.lazy import call_lazily, is_lazy
from numbaconv.convolution import conv, conv1d, conv2d, conv3d
from numbaconv.ndimage.filters import (
    convolve,
    convolve1d,
    correlate,
    correlate1d,
    gaussian_filter,
    gaussian_filter1d,
    gaussian_gradient_magnitude,
    gaussian_laplace,
    laplace,
    prewitt,
    sobel,
    uniform_filter,
    uniform_filter1d,
)
from numbaconv.transposed import conv_transpose1d, conv_transpose2d, conv_transpose3d


def _explicit(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(input: Any, *args: Any, threads: int = 1, **kwargs: Any) -> Any:
        given = arguments_of(function, input, *args, **kwargs)
        if not is_lazy(input):
            given["input"] = da.asarray(input)
        return call_lazily(function, given, threads)

    return call


def apply(layer: Any, x: Any, threads: int = 1) -> Any:
    """Apply a prepared layer.

    Parameters
    ----------
    layer : PreparedConv or PreparedTransposedConv
        From `numbaconv.prepare` or `numbaconv.prepare_transposed`.
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


conv = _explicit(conv)
conv1d = _explicit(conv1d)
conv2d = _explicit(conv2d)
conv3d = _explicit(conv3d)
conv_transpose1d = _explicit(conv_transpose1d)
conv_transpose2d = _explicit(conv_transpose2d)
conv_transpose3d = _explicit(conv_transpose3d)
convolve = _explicit(convolve)
convolve1d = _explicit(convolve1d)
correlate = _explicit(correlate)
correlate1d = _explicit(correlate1d)
gaussian_filter = _explicit(gaussian_filter)
gaussian_filter1d = _explicit(gaussian_filter1d)
gaussian_gradient_magnitude = _explicit(gaussian_gradient_magnitude)
gaussian_laplace = _explicit(gaussian_laplace)
laplace = _explicit(laplace)
prewitt = _explicit(prewitt)
sobel = _explicit(sobel)
uniform_filter = _explicit(uniform_filter)
uniform_filter1d = _explicit(uniform_filter1d)
