"""Memory of large results of compiled callers is used again, by one owner at a time, bounded."""

from __future__ import annotations

import threading
from typing import Any

import numba
import numpy as np
import pytest

import numbaconv as nc
from numbaconv.runtime import lent_memory, shared_table
from tests.oracle.cases import Array
from tests.runtime.ring import kept

if numba.config.DISABLE_JIT:
    pytest.skip("there is no compiled code to call from", allow_module_level=True)

ONE = np.ones((1, 1, 1, 1), np.float32)
MB = 1 << 20


@numba.njit(nogil=True)
def apply(x, w):
    return nc.conv2d(x, w)


def result(megabytes: float, value: float = 1) -> Array:
    """A result of so many megabytes, each element `value`."""
    return apply(np.full((1, 1, 1, int(megabytes * MB / 4)), value, np.float32), ONE)


def address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(lent_memory.ENVIRONMENT_VARIABLE, raising=False)
    nc.release_memory()
    assert kept() == []


def test_memory_is_used_again():
    y = result(3)
    where = address(y)
    assert where % 64 == 0
    y[:] = np.nan
    del y
    y = result(2.5, 7)
    assert address(y) == where
    assert np.all(y == 7)
    assert y.flags.writeable


def test_memory_stays_while_a_view_refers_to_it():
    y = result(3, 7)
    view = y.reshape(2, -1)[1, ::3]
    del y
    result(3, 0)
    assert np.all(view == 7)


def test_much_larger_memory_is_not_taken_for_a_smaller_result():
    result(8)
    result(4)
    assert sorted(kept()) == [4 * MB, 8 * MB]


def test_small_results_are_not_kept():
    result(0.9)
    assert kept() == []


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(lent_memory.ENVIRONMENT_VARIABLE, "10")
    arrays = [result(size) for size in (3, 4, 5, 6)]
    for _ in range(4):
        del arrays[0]
    assert kept() == [6 * MB]  # the last one; 5 + 6 are too much
    del arrays
    result(11)
    assert kept() == [6 * MB]


def test_more_blocks_than_slots():
    arrays = [result(1 + i / 1024) for i in range(shared_table.RING_SLOTS + 9)]
    sizes = [array.nbytes for array in arrays]
    while arrays:
        del arrays[0]
    assert sorted(kept()) == sizes[9:]


@pytest.mark.parametrize("value", ["-1", "many", "1.5", " 3", "²", "9" * 30])
def test_a_malformed_bound_is_named(monkeypatch: pytest.MonkeyPatch, value: str):
    monkeypatch.setenv(lent_memory.ENVIRONMENT_VARIABLE, value)
    with pytest.raises(ValueError, match=lent_memory.ENVIRONMENT_VARIABLE):
        result(2)
    result(0.5)


@pytest.mark.parametrize(
    ("value", "megabytes"), [("", 256), (" ", 256), ("007", 7), ("9" * 18, 1 << 40)]
)
def test_bounds_are_read_as_outside(monkeypatch: pytest.MonkeyPatch, value: str, megabytes: int):
    monkeypatch.setenv(lent_memory.ENVIRONMENT_VARIABLE, value)
    result(2)
    assert shared_table.ENTRY[shared_table.AT.keep_bytes] == megabytes * MB


def test_scratch_is_used_again():
    x, w = np.ones((1, 4, 300, 300), np.complex64), np.ones((4, 4, 1, 1), np.complex64)
    y = numba.njit(lambda x, w: nc.conv2d(x, w))(x, w)
    np.testing.assert_array_equal(y, 4)
    assert len(kept()) == 1  # the scratch
    del y
    assert len(kept()) == 2


def test_threads_never_share_memory():
    faults: list[Any] = []

    def work(number: int) -> None:
        try:
            for i in range(60):
                y = result(1 + (i % 5) / 2, number)
                again = result(1 + (i % 3), number + 0.5)
                if not (np.all(y == number) and np.all(again == number + 0.5)):
                    faults.append(number)
                del y, again
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    kept()  # their sum is right


OUTLIVES = """
import os, sys, numba, numpy as np, numbaconv as nc
@numba.njit
def apply(x, w):
    return nc.conv2d(x, w)
x, w = np.ones((1, 1, 1, 1 << 20), np.float32), np.ones((1, 1, 1, 1), np.float32)
class Last:
    def __del__(self, exit=os._exit):
        del self.array  # after all modules are gone
        exit(0)
last = Last()
last.array, last.itself = apply(x, w), last
sys.last = np.last = last
if hasattr(os, "fork"):
    y = apply(x, w)
    del y
    child = os.fork()
    if child == 0:
        os._exit(0 if apply(x, w).sum() == 1 << 20 else 1)
    assert os.waitpid(child, 0)[1] == 0
"""


def test_an_array_may_outlive_the_module_and_a_child_may_lend(run_script: Any):
    run_script("-W", "ignore::DeprecationWarning", "-c", OUTLIVES)
