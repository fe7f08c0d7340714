"""Numba's simulator, as the tests run it."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from numbaconv.cuda import toolkit

if not toolkit.simulated():
    pytest.skip("of the simulator (NUMBA_ENABLE_CUDASIM=1)", allow_module_level=True)

from numba import cuda  # the simulator's kernels read `cuda` from their module
from numba.cuda.simulator import kernelapi

from tests.cuda import conftest

THREADS = 16


class SlowNumPy:
    """NumPy whose new arrays take long enough for every thread to ask for one."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def empty(self, shape: Any, dtype: Any) -> Any:
        time.sleep(0.01)
        return np.zeros(shape, dtype)


def test_threads_of_a_block_share_one_array(monkeypatch: pytest.MonkeyPatch):
    @cuda.jit
    def reverse(y):
        i = cuda.threadIdx.x
        shared = cuda.shared.array(THREADS, np.float32)
        shared[i] = i
        cuda.syncthreads()
        y[i] = shared[THREADS - 1 - i]

    for module in (kernelapi, conftest):
        monkeypatch.setattr(module, "np", SlowNumPy())
    y = np.empty(THREADS, np.float32)
    reverse[1, THREADS](y)
    np.testing.assert_array_equal(y, np.arange(THREADS, dtype=np.float32)[::-1])
