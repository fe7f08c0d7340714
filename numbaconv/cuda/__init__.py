"""The CUDA backend: the patch matrix is built tile by tile in a GPU's shared memory.

Everything that imports `numba.cuda` is in this package, and is imported when the first array is
convolved: asking whether the backend can run here (`unavailable`) needs none of it to work.
"""

from importlib import import_module
from typing import Any

from numbaconv.cuda.toolkit import configuration, unavailable

__all__ = [
    "apply_adjoint",
    "configuration",
    "describe",
    "execute",
    "shadow",
    "to_host",
    "unavailable",
    "weight_gradient",
    "work_on",
]


_whole: dict[str, Any] = {}


def _module(name: str) -> Any:
    """Import a module of this package, whole."""
    if name in _whole:
        return _whole[name]
    module = import_module(f"{__name__}.{name}")
    if getattr(module.__spec__, "_initializing", False):
        raise RuntimeError(
            "a signal handler, finalizer or callback of the garbage collector needs backend "
            "'cuda', and has interrupted its import: make such a call once before"
        )
    _whole[name] = module
    return module


def execute(*arguments: Any, **options: Any) -> Any:
    """Run a planned convolution; see `numbaconv.cuda.execution.execute`."""
    return _module("execution").execute(*arguments, **options)


def apply_adjoint(*arguments: Any, **options: Any) -> Any:
    """Run a planned adjoint; see `numbaconv.cuda.gradients.apply_adjoint`."""
    return _module("gradients").apply_adjoint(*arguments, **options)


def weight_gradient(*arguments: Any, **options: Any) -> Any:
    """Run a planned gradient; see `numbaconv.cuda.gradients.weight_gradient`."""
    return _module("gradients").weight_gradient(*arguments, **options)


def describe(*arguments: Any) -> Any:
    """Say how a plan would run; see `numbaconv.cuda.explanation.describe`."""
    return _module("explanation").describe(*arguments)


def to_host(array: Any) -> Any:
    """Copy a device array to a NumPy array."""
    return _module("sides").to_host(array)


def shadow(name: str, array: Any) -> Any:
    """Describe a device array; see `numbaconv.cuda.memory.shadow`."""
    return _module("memory").shadow(name, array)


def work_on(arrays: dict[str, Any], stream: Any) -> Any:
    """Lend what a call works with; see `numbaconv.cuda.workspace.work_on`."""
    return _module("workspace").work_on(arrays, stream)
