"""What is kept for results: one bound for Python's and compiled callers, and given back at once."""

from __future__ import annotations

import os
from typing import Any

import numba
import numpy as np
import pytest

import numbaconv as nc
from tests.runtime.ring import kept

if numba.config.DISABLE_JIT:
    pytest.skip("nothing is kept without the compiler", allow_module_level=True)

ONE = np.ones((1, 1, 1, 1), np.float32)
MB = 1 << 20


@numba.njit
def compiled(x, w):
    return nc.conv2d(x, w)


CALLERS = [nc.conv2d, compiled]


def result(call: Any, megabytes: float) -> Any:
    return call(np.ones((1, 1, 1, int(megabytes * MB / 4)), np.float32), ONE)


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUMBACONV_KEEP_MB", raising=False)
    nc.release_memory()


def test_memory_of_one_caller_serves_the_other():
    where = set()
    for call in (*CALLERS, *CALLERS):
        y = result(call, 3)
        where.add(y.__array_interface__["data"][0])
        assert not y.flags.owndata
        assert y.flags.writeable
        del y
    assert len(where) == 1


def test_the_bound_is_for_both(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NUMBACONV_KEEP_MB", "10")
    arrays = [result(call, size) for size in (3, 4) for call in CALLERS]
    while arrays:
        del arrays[0]
    assert kept() == [4 * MB, 4 * MB]


@pytest.mark.parametrize("call", CALLERS)
def test_a_lower_bound_holds_at_once(call: Any, monkeypatch: pytest.MonkeyPatch):
    arrays = [result(call, size) for size in (2, 3, 4)]
    while arrays:
        del arrays[0]
    for bound, left in (("8", [3 * MB, 4 * MB]), ("3", []), ("0", [])):
        monkeypatch.setenv("NUMBACONV_KEEP_MB", bound)
        assert kept() == left


def test_release():
    arrays = [result(call, 2) for call in CALLERS]
    assert nc.release_memory() == 0  # they are alive
    del arrays
    assert nc.release_memory() == 4 * MB
    assert kept() == []
    assert nc.release_memory() == 0


def test_gradients_leave_nothing_behind():
    x, g = np.ones((2, 64, 60, 60), np.float32), np.ones((2, 64, 58, 58), np.float32)
    nc.grad.conv2d_weight(x, (64, 64, 3, 3), g)
    nc.conv_transpose2d(g, np.ones((64, 64, 3, 3), np.float32))
    nc.release_memory()
    assert kept() == []


def test_a_hook_does_not_fail_what_sets_a_variable():
    for value in ("x", "", "\udcff", "9" * 40):
        os.environ["NUMBACONV_KEEP_MB"] = value
        os.environ["NUMBACONV_BACKEND"] = value
    del os.environ["NUMBACONV_KEEP_MB"], os.environ["NUMBACONV_BACKEND"]
    result(nc.conv2d, 2)
    assert kept() == [2 * MB]
