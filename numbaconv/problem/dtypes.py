"""Which element types are supported, and in which type each is computed."""

from typing import Any, NamedTuple

import numpy as np
from numba import types


class Arithmetic(NamedTuple):
    """How one result dtype is computed.

    Attributes
    ----------
    convert : dtype
        What the arrays are converted to.
    compute : dtype
        What the kernels see of them: signed integers, real parts.
    numba : Numba type
        The same, in Numba's words.
    is_complex : bool
        Whether each element counts as two real channels.
    """

    convert: np.dtype
    compute: np.dtype
    numba: Any
    is_complex: bool

    def is_plain(self, array: np.ndarray) -> bool:
        """Whether kernels can read an array's elements as they are."""
        return not self.is_complex and array.dtype == self.compute


def _arithmetic(convert: str, compute: str, is_complex: bool = False) -> Arithmetic:
    dtype = np.dtype(compute)
    return Arithmetic(np.dtype(convert), dtype, getattr(types, dtype.name), is_complex)


# Wrapping integer arithmetic modulo 2^n does not depend on the sign, and a wider type computes a
# narrower one exactly, so two integer kernels serve all eight types.
_TABLE = {
    "float16": _arithmetic("float32", "float32"),
    "float32": _arithmetic("float32", "float32"),
    "float64": _arithmetic("float64", "float64"),
    "complex64": _arithmetic("complex64", "float32", True),
    "complex128": _arithmetic("complex128", "float64", True),
    "int8": _arithmetic("int32", "int32"),
    "int16": _arithmetic("int32", "int32"),
    "int32": _arithmetic("int32", "int32"),
    "int64": _arithmetic("int64", "int64"),
    "uint8": _arithmetic("int32", "int32"),
    "uint16": _arithmetic("int32", "int32"),
    "uint32": _arithmetic("uint32", "int32"),
    "uint64": _arithmetic("uint64", "int64"),
}
SUPPORTED = tuple(_TABLE)


def check_dtype(name: str, array: Any) -> None:
    """Refuse an array of an unsupported dtype, naming the argument."""
    if array.dtype.name not in _TABLE:
        raise TypeError(
            f"{name} has dtype {array.dtype}, which is not supported; "
            f"supported are {', '.join(SUPPORTED)}"
        )


def arithmetic(dtype: np.dtype) -> Arithmetic:
    """Return how a (supported) result dtype is computed."""
    return _TABLE[dtype.name]


def source_of(how: Arithmetic, dtype: np.dtype) -> np.dtype | None:
    """Return the dtype of an input if kernels convert its elements as they copy them.

    None: the elements are theirs, or have the same bits. Complex numbers come apart before.
    """
    dtype = dtype.newbyteorder("=")
    return None if how.is_complex or dtype in (how.compute, how.convert) else dtype
