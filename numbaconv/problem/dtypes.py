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

EXACT_IN_SINGLE = 1 << 24  # float32 holds integers exactly up to here

# Every call asks, and NumPy makes a dtype's name anew each time.
_CHARS = frozenset(c for c in np.typecodes["All"] if np.dtype(c).name in (*SUPPORTED, "bool"))


def is_supported(dtype: np.dtype) -> bool:
    """Whether arrays of a dtype are taken; bools are, beside others."""
    return dtype.char in _CHARS


def check_dtype(name: str, array: Any) -> None:
    """Refuse an array of an unsupported dtype, naming the argument."""
    if not is_supported(array.dtype):
        raise TypeError(
            f"{name} has dtype {array.dtype}, which is not supported; "
            f"supported are {', '.join(SUPPORTED)}"
        )


def number_dtype(dtype: np.dtype) -> np.dtype:
    """Return the dtype of an array's numbers: bools are 0 and 1 of uint8."""
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype


def promoted(**dtypes: np.dtype) -> np.dtype:
    """Return what the dtypes of arrays, by their names, promote to; bools count as uint8."""
    if all(dtype.kind == "b" for dtype in dtypes.values()):
        names = " and ".join(dtypes)
        raise TypeError(
            f"{names} {'are' if len(dtypes) > 1 else 'is'} bool, and so would be the sums: say in "
            f"which numbers to count, for instance {next(iter(dtypes))}.astype(np.uint8)"
        )
    return np.result_type(*map(number_dtype, dtypes.values()))


def arithmetic(dtype: np.dtype) -> Arithmetic:
    """Return how a (supported) result dtype is computed."""
    return _TABLE[dtype.name]


def in_single(how: Arithmetic, largest: int) -> Arithmetic:
    """Return how integers are computed whose sums, and their parts, are at most so large.

    Single precision multiplies and adds several times as fast.
    """
    if how.compute.kind == "f" or largest > EXACT_IN_SINGLE:
        return how
    return _TABLE["float32"]


def largest_of(dtype: np.dtype) -> int:
    """Return the largest magnitude of an integer dtype, or of bools."""
    limits = np.iinfo(number_dtype(dtype))
    return max(-int(limits.min), int(limits.max))


def source_of(how: Arithmetic, dtype: np.dtype) -> np.dtype | None:
    """Return the dtype of an input if kernels convert its elements as they copy them.

    None: the elements are theirs, or have the same bits. Complex numbers come apart before.
    """
    dtype = number_dtype(dtype).newbyteorder("=")
    return None if how.is_complex or dtype in (how.compute, how.convert) else dtype
