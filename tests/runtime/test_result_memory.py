"""Memory of large results is used again, by one owner at a time, within a bound."""

import gc
import threading

import numpy as np
import pytest

import numbaconv as nc
from numbaconv.runtime import lent_memory, result_memory
from tests.runtime.ring import kept

LARGE = result_memory.LEAST_BYTES // 4
F4 = np.dtype(np.float32)


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.delenv(lent_memory.ENVIRONMENT_VARIABLE, raising=False)
    nc.release_memory()


def address(array):
    return array.__array_interface__["data"][0]


def test_memory_of_a_large_result_is_used_again():
    first = result_memory.empty(LARGE + 5, F4)
    where = address(first)
    del first
    assert address(result_memory.empty(LARGE, F4)) == where


def test_memory_stays_while_a_view_refers_to_it():
    first = result_memory.empty(LARGE, F4)
    view = first.reshape(2, -1)[1, ::3].view(np.int32)
    view[:] = 7
    del first
    second = result_memory.empty(LARGE, F4)
    second[:] = 0
    assert np.all(view == 7)


def test_small_results_are_plain_arrays():
    assert result_memory.empty(LARGE - 1, F4).base is None


def test_much_larger_memory_is_not_taken_for_a_smaller_result():
    first = result_memory.empty(2 * LARGE, F4)
    del first
    result_memory.empty(LARGE, F4)
    assert sorted(kept()) == [4 * LARGE, 8 * LARGE]


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setenv(lent_memory.ENVIRONMENT_VARIABLE, "100")
    arrays = [result_memory.empty(LARGE, F4) for _ in range(5)]
    del arrays
    assert sum(kept()) <= 100 << 20
    too_large = result_memory.empty(LARGE * 4, F4)
    del too_large
    assert sum(kept()) <= 100 << 20


def test_zero_turns_it_off(monkeypatch):
    monkeypatch.setenv(lent_memory.ENVIRONMENT_VARIABLE, "0")
    assert result_memory.empty(LARGE, F4).base is None
    assert not kept()


@pytest.mark.parametrize("value", ["-1", "many", "1.5", "²"])
def test_a_malformed_bound_is_named(monkeypatch, value):
    monkeypatch.setenv(lent_memory.ENVIRONMENT_VARIABLE, value)
    with pytest.raises(ValueError, match=lent_memory.ENVIRONMENT_VARIABLE):
        result_memory.empty(LARGE, F4)


def test_threads_never_share_memory():
    faults = []

    def work(number):
        for _ in range(20):
            array = result_memory.empty(LARGE, F4)
            array[:: LARGE // 100] = number
            gc.collect(0)
            if not np.all(array[:: LARGE // 100] == number):
                faults.append(number)
            del array

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


def test_a_large_convolution_is_right_in_used_memory():
    x = np.ones((1, 1, 2900, 2900), np.float32)
    w = np.ones((1, 1, 3, 3), np.float32)
    y = nc.conv2d(x, w)
    y[:] = np.nan
    where = address(y)
    del y
    y = nc.conv2d(x, w)
    assert address(y) == where
    assert np.all(y == 9)
    assert y.flags.writeable
    assert y.flags.c_contiguous
