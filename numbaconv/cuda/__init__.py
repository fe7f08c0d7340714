"""The CUDA backend: the patch matrix is built tile by tile in a GPU's shared memory.

Everything that imports `numba.cuda` is in this package, and is imported when the first array is
convolved: asking whether the backend can run here (`unavailable`) needs none of it to work.
"""

from typing import Any

from numbaconv.cuda.toolkit import configuration, unavailable

__all__ = [
    "apply_adjoint",
    "configuration",
    "execute",
    "find_stream",
    "shadow",
    "to_host",
    "unavailable",
    "weight_gradient",
]


def execute(*arguments: Any, **options: Any) -> Any:
    """Run a planned convolution; see `numbaconv.cuda.execution.execute`."""
    from numbaconv.cuda import execution

    return execution.execute(*arguments, **options)


def apply_adjoint(*arguments: Any, **options: Any) -> Any:
    """Run a planned adjoint; see `numbaconv.cuda.gradients.apply_adjoint`."""
    from numbaconv.cuda import gradients

    return gradients.apply_adjoint(*arguments, **options)


def weight_gradient(*arguments: Any, **options: Any) -> Any:
    """Run a planned gradient; see `numbaconv.cuda.gradients.weight_gradient`."""
    from numbaconv.cuda import gradients

    return gradients.weight_gradient(*arguments, **options)


def to_host(array: Any) -> Any:
    """Copy a device array to a NumPy array."""
    from numbaconv.cuda import sides

    return sides.to_host(array)


def shadow(name: str, array: Any) -> Any:
    """Describe a device array; see `numbaconv.cuda.memory.shadow`."""
    from numbaconv.cuda import memory

    return memory.shadow(name, array)


def find_stream(stream: Any, arrays: dict[str, Any]) -> Any:
    """Return the stream of a call; see `numbaconv.cuda.memory.find_stream`."""
    from numbaconv.cuda import memory

    return memory.find_stream(stream, arrays)
