"""What comes out of a `prange` whose body makes a call that is refused: docs/inside-njit.md."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

CODE = """
import numba, numpy as np, numbaconv as nc

@numba.njit(parallel=True)
def strided(x, w, strides, done):
    for i in numba.prange(len(strides)):
        done[i] = nc.conv1d(x, w, stride=strides[i])[0, 0]

@numba.njit
def outermost(x, w, strides, done):
    strided(x, w, strides, done)
    done[0] = 77

x, w, strides, done = np.ones((1, 8)), np.ones((1, 1, 3)), np.ones(4, np.int64), np.zeros(4)
strided(x, w, strides, done)
assert done.tolist() == [3] * 4
strides[2] = 0
done[:] = 0
try:
    outermost(x, w, strides, done)
except SystemError as error:
    assert isinstance(error.__cause__, ValueError) and "stride" in str(error.__cause__)
    print("a SystemError")
assert done.tolist() == [77, 3, 0, 0]
"""


def test_a_refused_call(run_script: Callable[..., subprocess.CompletedProcess[str]]):
    """On one thread, the one that enters the loop, so that it meets the error."""
    assert run_script("-c", CODE, NUMBA_NUM_THREADS="1").stdout == "a SystemError\n"
