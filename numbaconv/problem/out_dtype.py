"""The dtype of a result that a caller asks for, and the one in which its sums are taken."""

from typing import Any

import numpy as np

from numbaconv.problem.dtypes import SUPPORTED


def frozen_dtype(out_dtype: Any) -> np.dtype | None:
    """Return what a caller passes as `out_dtype` as a dtype, in the machine's byte order."""
    if out_dtype is None:
        return None
    try:
        dtype: np.dtype = np.dtype(out_dtype)
    except (TypeError, ValueError):
        raise TypeError(f"out_dtype must be a dtype, got {out_dtype!r}") from None
    if dtype.name not in SUPPORTED:
        raise TypeError(f"out_dtype {dtype} is not supported; supported are {', '.join(SUPPORTED)}")
    native: np.dtype = dtype.newbyteorder("=")
    return native


def sums_dtype(promoted: np.dtype, wanted: np.dtype) -> np.dtype:
    """Return the dtype of the sums of arrays that promote to a dtype, for a result of another.

    Floats and complex numbers are summed in what the two promote to; floats for integers as if none
    was asked for; integers for integers in 32 bits at least, and in as many as either has.
    """
    if promoted.kind == "c" and wanted.kind != "c":
        raise TypeError(f"out_dtype {wanted} has no imaginary parts, and the sums are {promoted}")
    if wanted.kind not in "iu":
        return np.result_type(promoted, wanted)
    if promoted.kind not in "iu":
        return promoted
    if np.uint64 in (promoted, wanted):
        return np.dtype(np.uint64 if promoted.kind == wanted.kind else np.int64)
    return np.result_type(promoted, wanted, np.int32)
