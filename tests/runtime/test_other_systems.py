"""Systems without fork, locks of POSIX, users and OpenMP, as Windows is: played by a process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from numbaconv.codegen import cache
from tests.conftest import Script
from tests.runtime.cached import cache_files

# Numba is imported before, and sees the system as it is.
OTHER_SYSTEM = """
import os, sys, types
import numba

asked = []

def locking(handle, mode, count):
    asked.append(os.lseek(handle, 0, os.SEEK_CUR))
    if len(asked) % 3:  # another process has it for two turns
        raise PermissionError(13, "Permission denied")

sys.modules["fcntl"] = None
sys.modules["msvcrt"] = types.SimpleNamespace(locking=locking, LK_NBLCK=2)
for name in ("geteuid", "getuid", "fork", "register_at_fork", "getloadavg", "sched_getaffinity"):
    if hasattr(os, name):
        delattr(os, name)
"""

CALLS = """
import threading
import numpy as np, numbaconv as nc

x = np.arange(2 * 64 * 64.0, dtype=np.float32).reshape(1, 2, 64, 64)
w = np.ones((16, 2, 5, 5), np.float32)
windows = np.lib.stride_tricks.sliding_window_view(x[0], (5, 5), axis=(1, 2))
expected = np.broadcast_to(windows.sum((0, 3, 4)), (1, 16, 60, 60))

def call():
    results.append(nc.conv2d(x, w))

results = []
threads = [threading.Thread(target=call) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(results) == 4 and all((y == expected).all() for y in results)

@numba.njit
def inside(x, w):
    return nc.conv2d(x, w)

assert (inside(x, w) == expected).all()
assert numba.threading_layer() == "workqueue"
assert nc.show_config() is None
"""


@pytest.mark.skipif(sys.platform == "win32", reason="it is that system")
def test_system_without_fork_locks_and_users(
    run_script: Script, tmp_path: Path, nothing_built_ahead: None
):
    """Calls are right, and the second process finds the kernels that the first stored."""
    settings = {"NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_THREADING_LAYER": "workqueue"}
    waited = "\nassert asked and len(asked) % 3 == 0 and len(set(asked)) > 1, asked"
    run_script("-c", OTHER_SYSTEM + CALLS + waited, **settings)
    stamps = {path: path.stat().st_mtime_ns for path in cache_files(tmp_path)}
    assert stamps
    run_script("-c", OTHER_SYSTEM + CALLS + "\nassert not asked, asked", **settings)
    assert {path: path.stat().st_mtime_ns for path in cache_files(tmp_path)} == stamps


def test_a_file_that_another_process_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Windows does not replace it: it stays as it is, and nothing is left beside it."""
    monkeypatch.setattr(cache, "cache_directory", lambda: tmp_path)
    cache.store("symbol", "identity", b"code")

    def refuse(path: Path, target: Path) -> None:
        raise PermissionError(13, "Access is denied", str(target))

    monkeypatch.setattr(Path, "replace", refuse)
    cache.store("symbol", "identity", b"code")
    assert cache.load("symbol", "identity") == b"code"
    assert len(list(tmp_path.iterdir())) == 1


def test_integers_of_32_bits_are_refused(run_script: Script):
    """As NumPy 1.26 has them under Windows: tables would be read past their ends."""
    code = "import numba, numpy\nnumpy.int_ = numpy.int32\nimport numbaconv\nnumbaconv.conv2d"
    with pytest.raises(AssertionError, match="ImportError: numbaconv needs integers of 64 bits"):
        run_script("-c", code)
