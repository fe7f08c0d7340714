"""Calls of emitted functions, or of their twins, with arrays for pointers."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numba import from_dtype
from numba.core import config


def run(function: Any, arguments: Any, twin: bool = False) -> None:
    """Call a function through its address with a tuple of its arguments."""
    if twin or config.DISABLE_JIT:
        function.interpret(arguments)
        return
    dtype = next(a.dtype for a in arguments if isinstance(a, np.ndarray) and a.dtype.kind == "f")
    given = [a.ctypes.data if isinstance(a, np.ndarray) else a for a in arguments]
    prototype = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * len(given))
    prototype(function.address(from_dtype(dtype)))(*given)
