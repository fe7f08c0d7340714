"""What the simulator needs before kernels of many threads run in it."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from numbaconv.cuda import toolkit


@pytest.fixture(autouse=True)
def one_shared_array(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give all threads of a simulated block one array for one line of the kernel.

    The simulator looks for the array, and makes and keeps one where there is none, without a lock.
    A thread that another interrupted in between had an array of its own, and the result was wrong.
    """
    if not toolkit.simulated():
        return
    from numba.cuda.simulator import kernelapi

    theirs = kernelapi.FakeCUDAShared.array

    def array(self: Any, shape: Any, dtype: Any, alignment: Any = None) -> Any:
        if shape == 0 or alignment is not None:
            return theirs(self, shape, dtype, alignment)
        if isinstance(dtype, kernelapi.types.Type):
            dtype = kernelapi.numpy_support.as_dtype(dtype)
        line = sys._getframe(1)
        key = (line.f_code.co_filename, line.f_lineno)
        return self._allocations.setdefault(key, np.empty(shape, dtype))  # in one step

    monkeypatch.setattr(kernelapi.FakeCUDAShared, "array", array)
