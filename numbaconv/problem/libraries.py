"""Arrays that are not NumPy's: whose they are, and how they are read and handed back.

No library is imported: an array's class says where it comes from, and has imported its library
itself.
"""

import math
import sys
from typing import Any

import numpy as np

DASK = "dask"
_MODULES = {"torch": "torch", "jax": "jax", "jaxlib": "jax", DASK: DASK}


def is_on_device(array: Any) -> bool:
    """Whether an array says that it is on a GPU."""
    return hasattr(array, "__cuda_array_interface__") or hasattr(array, "__cuda_ndarray__")


def library_of(array: Any) -> str | None:
    """Name of the library whose array in host memory this is; None for NumPy's, and no array.

    What NumPy reads by itself counts as NumPy's: nested sequences, tables, pictures.
    """
    kind = type(array)
    if issubclass(kind, np.ndarray) or is_on_device(array):
        return None
    for base in kind.__mro__:
        library = _MODULES.get(base.__module__.partition(".")[0])
        if library == DASK and base.__name__ != "Array":
            return None
        if library is not None:
            return library if hasattr(array, "dtype") else None
    return kind.__module__.partition(".")[0] if hasattr(kind, "__dlpack__") else None


def is_lazy(array: Any) -> bool:
    """Whether this is an array of Dask, whose values are not computed yet."""
    return type(array) is not np.ndarray and library_of(array) == DASK


def check_sizes(name: str, array: Any) -> None:
    """Refuse a Dask array whose shape is not known."""
    if any(math.isnan(n) for n in array.shape):
        raise ValueError(f"{name} has chunks of unknown size: call compute_chunk_sizes() on it")


def is_array_like(array: Any) -> bool:
    """Whether NumPy reads this as an array: a sequence, or what has one to give."""
    if isinstance(array, (list, tuple)):
        return True
    gives = hasattr(array, "__array__") or hasattr(array, "__array_interface__")
    return gives and not isinstance(array, (type, np.generic))


def _refuse_gradients(name: str, array: Any, library: str) -> None:
    if getattr(array, "requires_grad", False) is True:
        raise TypeError(
            f"{name} requires gradients, which would be lost here: call the function of "
            f"numbaconv.torch, or pass {name}.detach()"
        )
    if library == "jax" and isinstance(array, sys.modules["jax"].core.Tracer):
        raise TypeError(
            f"{name} is traced by JAX (jit, grad, vmap) and has no values yet: call this outside "
            f"of the traced function, or in it through jax.pure_callback"
        )


def read_array(name: str, array: Any) -> Any:
    """Return another library's array as a NumPy array over the same memory, and others as given."""
    library = library_of(array)
    if library is None:
        return array
    if library == DASK:
        raise TypeError(f"{name} is a Dask array, which this takes only computed: {name}.compute()")
    _refuse_gradients(name, array, library)
    try:
        return np.from_dlpack(array)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        dtype = getattr(array, "dtype", "?")
        raise TypeError(
            f"{name}, an array of {library} of dtype {dtype}, cannot be read as a NumPy array: "
            f"{error}"
        ) from error


def target_array(name: str, array: Any) -> np.ndarray:
    """Return another library's array as a NumPy array that results can be stored in."""
    seen: Any = read_array(name, array)
    if not seen.flags.writeable:  # as older protocols say of all; `__array__` knows better
        other = np.asarray(array)
        if other.flags.writeable and other.ctypes.data == seen.ctypes.data:
            return other
        raise TypeError(
            f"{name} cannot be stored into: arrays of {library_of(array)} do not change"
        )
    return seen  # type: ignore[no-any-return]


def hand_back(result: np.ndarray, like: Any) -> Any:
    """Return a result as an array of the library that another is of, over the same memory."""
    if hasattr(like, "__array_namespace__"):
        return like.__array_namespace__().from_dlpack(result)
    return sys.modules[str(library_of(like))].from_dlpack(result)


def check_one_library(arrays: dict[str, Any]) -> None:
    """Refuse a call whose arrays are of several libraries."""
    found = {name: library_of(a) or "NumPy" for name, a in arrays.items() if a is not None}
    if len(set(found.values())) > 1:
        listed = ", ".join(f"{name} is of {library}" for name, library in found.items())
        raise TypeError(f"all arrays of a call must be of one library: {listed}")
