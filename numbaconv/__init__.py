"""Fast convolution for NumPy and Numba.

There is one dispatcher, `conv`, and there are three backends that compute the same thing. Every
convolution is the weight matrix times the patch matrix; the backends differ in where the patch
matrix lives.

>>> import numpy as np
>>> import numbaconv as nc
>>> photo = np.random.default_rng(0).random((3, 64, 64), np.float32)
>>> edges = nc.conv2d(photo, np.ones((8, 3, 3, 3), np.float32), padding="same")
>>> edges.shape
(8, 64, 64)

Public is what ``__all__`` and ``numbaconv.grad`` name. The files beside this one are the public
functions. A call goes through the folders in this order:

- ``njit``: calls from ``@njit`` code, planned once and then run without Python;
- ``problem``: the arguments are validated, and the call is described and planned as values;
- ``dispatch``: which backend runs the call;
- ``cpu``, ``cuda``: the engines, with the backends "direct" and "im2col", or "cuda";
- ``runtime``: threads, memory that is used again, and what compiled callers share with Python;
- ``codegen``: how Python functions become machine code, and where that is kept.
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
from numbaconv.runtime.lent_memory import release_memory
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
    "release_memory",
    "set_backend",
    "show_config",
    "use_backend",
]
