"""Fast convolution for NumPy and Numba.

One dispatcher, `conv`, and three backends that compute the same thing: every convolution is the
weight matrix times the patch matrix, and the backends differ in where the patch matrix lives.

>>> import numpy as np
>>> import numbaconv as nc
>>> photo = np.random.default_rng(0).random((3, 64, 64), np.float32)
>>> edges = nc.conv2d(photo, np.ones((8, 3, 3, 3), np.float32), padding="same")
>>> edges.shape
(8, 64, 64)
"""

from numbaconv import grad
from numbaconv._version import __version__
from numbaconv.convolution import conv, conv1d, conv2d, conv3d
from numbaconv.dispatch.backends import available_backends, get_backend, set_backend, use_backend
from numbaconv.errors import BackendUnavailableError
from numbaconv.inspection import explain, show_config
from numbaconv.njit.overloads import init as _init
from numbaconv.patches import col2im, im2col
from numbaconv.prepared import prepare
from numbaconv.transposed import conv_transpose1d, conv_transpose2d, conv_transpose3d

_init()

__all__ = [
    "BackendUnavailableError",
    "__version__",
    "available_backends",
    "col2im",
    "conv",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "explain",
    "get_backend",
    "grad",
    "im2col",
    "prepare",
    "set_backend",
    "show_config",
    "use_backend",
]
