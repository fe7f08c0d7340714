"""Fast convolution for NumPy and Numba.

There is one dispatcher, `conv`, and there are five backends that compute the same thing. Every
convolution is the weight matrix times the patch matrix; the backends differ in where the patch
matrix lives.

>>> import numpy as np
>>> import numbaconv as nc
>>> photo = np.random.default_rng(0).random((3, 64, 64), np.float32)
>>> edges = nc.conv2d(photo, np.ones((8, 3, 3, 3), np.float32), padding="same")
>>> edges.shape
(8, 64, 64)

Public is what ``__all__``, ``numbaconv.grad``, ``numbaconv.ndimage`` and ``numbaconv.signal`` name.
``import numbaconv`` itself imports neither these nor Numba: a public name that is touched imports
what it needs, and a call the kernels that it asks for (`_imports`).

The files beside this one are the public functions. A call goes through the folders in this order:

- ``njit``: calls from ``@njit`` code, planned once and then run without Python;
- ``problem``: the arguments are validated, and the call is described and planned as values;
- ``dispatch``: which backend runs the call;
- ``blocks``: arrays that are larger than memory, block by block;
- ``cpu``, ``cuda``: the engines, with the backends "direct", "im2col", "fft" and "winograd", or
  "cuda";
- ``runtime``: threads, memory that is used again, and what compiled callers share with Python;
- ``codegen``: how Python functions become machine code, and where that is kept.
"""

from typing import TYPE_CHECKING, Any

from numbaconv import _imports
from numbaconv._version import __version__
from numbaconv.codegen import sources as _sources  # noqa: F401 (a digest, of what is there now)

if TYPE_CHECKING:
    from numbaconv import grad, ndimage, signal
    from numbaconv.convolution import conv, conv1d, conv2d, conv3d
    from numbaconv.dispatch.backends import (
        available_backends,
        get_backend,
        set_backend,
        use_backend,
    )
    from numbaconv.errors import BackendUnavailableError
    from numbaconv.inspection import explain, show_config
    from numbaconv.patches import col2im, im2col
    from numbaconv.prepared import PreparedConv, prepare
    from numbaconv.prepared_transposed import PreparedTransposedConv, prepare_transposed
    from numbaconv.runtime.lent_memory import release_memory
    from numbaconv.tiling import tiled
    from numbaconv.transposed import conv_transpose1d, conv_transpose2d, conv_transpose3d

__all__ = [
    "BackendUnavailableError",
    "PreparedConv",
    "PreparedTransposedConv",
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
    "ndimage",
    "prepare",
    "prepare_transposed",
    "release_memory",
    "set_backend",
    "show_config",
    "signal",
    "tiled",
    "use_backend",
]

# The modules of the public names.
_MODULES: dict[str, tuple[str, ...]] = {
    "numbaconv.convolution": ("conv", "conv1d", "conv2d", "conv3d"),
    "numbaconv.dispatch.backends": (
        "available_backends",
        "get_backend",
        "set_backend",
        "use_backend",
    ),
    "numbaconv.errors": ("BackendUnavailableError",),
    "numbaconv.inspection": ("explain", "show_config"),
    "numbaconv.patches": ("col2im", "im2col"),
    "numbaconv.prepared": ("PreparedConv", "prepare"),
    "numbaconv.prepared_transposed": ("PreparedTransposedConv", "prepare_transposed"),
    "numbaconv.runtime.lent_memory": ("release_memory",),
    "numbaconv.tiling": ("tiled",),
    "numbaconv.transposed": ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
}
# `numba.typeof` of a layer looks for no entry point, so Numba is told when one can be made.
_LAYERS = ("numbaconv.prepared", "numbaconv.prepared_transposed")
_PUBLIC_MODULES = ("grad", "ndimage", "signal")
_LAZY = {name: module for module, names in _MODULES.items() for name in names} | {
    name: f"numbaconv.{name}" for name in _PUBLIC_MODULES
}

for _name in _LAZY.keys() & globals().keys():  # where this module is loaded again
    del globals()[_name]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _imports.import_at_once([_LAZY[name]])[_LAZY[name]]
    if _LAZY[name] in _LAYERS or not _imports.is_numba_told():
        overloads = "numbaconv.njit.overloads"
        _imports.import_at_once([overloads])[overloads].tell_compiler()
    found = module if name in _PUBLIC_MODULES else getattr(module, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
