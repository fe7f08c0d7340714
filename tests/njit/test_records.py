"""Records of compiled callers: dropped with their layer, found again after modules are reloaded."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import numba
import numpy as np
import pytest

import numbaconv as nc

if numba.config.DISABLE_JIT:
    pytest.skip("there is no compiled code to call from", allow_module_level=True)

X = np.ones((1, 1, 5, 5))


@numba.njit(nogil=True)
def call(layer, x):
    return layer(x)


def layer_of(value: float) -> Any:
    return nc.prepare(np.full((1, 1, 3, 3), float(value)))


def count() -> int:
    from numbaconv.njit import planner

    assert not planner._records.dropped
    return len(planner._records.by_key)


def test_records_die_with_their_layer():
    call(layer_of(0), X)
    before = count()
    layers = [layer_of(i) for i in range(5)]
    arrays = []
    for layer in layers:
        for n in (5, 6, 7):
            call(layer, np.ones((1, 1, n, 5)))
        arrays.append(weakref.ref(layer.weights.weight))
    assert count() == before + 15
    del layers, layer
    gc.collect()
    assert count() == before
    assert not any(array() is not None for array in arrays)


def test_a_large_layer_asks_for_threads_and_dies():
    x = np.ones((1, 8, 100, 100))
    layer = nc.prepare(np.ones((8, 8, 3, 3)))
    before = count()
    call(layer, x)
    assert count() == before + 2
    del layer
    assert count() == before


def test_records_of_replaced_weights_are_dropped():
    layer = layer_of(1)
    call(layer, X)
    before = count()
    for value in range(2, 6):
        layer.update(np.full((1, 1, 3, 3), float(value)))
        assert call(layer, X)[0, 0, 0, 0] == 9 * value
    assert count() == before


def test_layers_in_cycles_die_anywhere():
    """What collects memory may do so in the midst of a call that makes a record."""
    call(layer_of(0), X)
    before = count()
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for value in range(200):
            layer = layer_of(value)
            layer.itself = layer
            assert call(layer, X)[0, 0, 0, 0] == 9 * value
    finally:
        gc.set_threshold(*threshold)
    del layer
    gc.collect()
    assert count() == before


def test_a_layer_is_updated_while_compiled_code_calls_it():
    """Each result is of one set of weights, old or new."""
    x = np.ones((1, 4, 20, 20), np.float32)
    weights = [np.full((c, 4, k, k), c, np.float32) for c, k in ((1, 1), (300, 3), (7, 5))]
    expected = {nc.conv2d(x, w).shape: nc.conv2d(x, w) for w in weights}
    layer = nc.prepare(weights[0])
    wrong: list[Any] = []
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            y = call(layer, x)
            if not np.array_equal(y, expected[y.shape]):
                wrong.append(y.shape)

    call(layer, x)
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for i in range(300):
        layer.update(weights[i % 3])
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong


RELOADED = """
import importlib, itertools, os, random, sys
import numba, numpy as np, numbaconv as nc

@numba.njit(nogil=True)
def convolve(x, w):
    return nc.conv2d(x, w)

@numba.njit(nogil=True)
def call(layer, x):
    return layer(x)

layer = nc.prepare(np.ones((1, 1, 3, 3)), padding=1)
sizes, one = itertools.count(9), np.ones((1, 1, 1, 1))

def check():
    for backend in ("direct", "im2col"):
        os.environ["NUMBACONV_BACKEND"] = backend
        for n in (9, 9, next(sizes)):
            x = np.full((1, 1, n, 400), 2.0)
            assert (convolve(x, one) == 2).all()
            assert call(layer, x)[0, 0, 1, 1] == 18
    for _ in range(2):  # in memory that is used again
        assert (convolve(np.full((1, 1, 9, 150_000), 3.0), one) == 3).all()

check()
names = [m for m in sys.modules if m.split(".")[0] == "numbaconv" and ".cuda" not in m]
order = {
    "as imported": names,
    "backwards": names[::-1],
    "at random": random.Random(0).sample(names, len(names)),
}[sys.argv[1]]
for name in order:
    importlib.reload(sys.modules[name])
    check()
if sys.argv[1] == "as imported":
    convolve, call = numba.njit(convolve.py_func), numba.njit(call.py_func)
    layer = nc.prepare(np.ones((1, 1, 3, 3)), padding=1)
    check()  # functions that are compiled now
    for name in names:
        del sys.modules[name]
    check()
    import numbaconv as nc  # as new
    check()
    layer = nc.prepare(np.ones((1, 1, 3, 3)), padding=1)
    convolve, call = numba.njit(convolve.py_func), numba.njit(call.py_func)
    check()
"""


@pytest.mark.parametrize(
    "order",
    [
        *(pytest.param(each, marks=pytest.mark.stress) for each in ("as imported", "backwards")),
        "at random",
    ],
)
def test_modules_are_reloaded(order: str, run_script: Any):
    """What machine code has found once it finds again."""
    run_script("-W", "ignore", "-c", RELOADED, order)


CHANGED = """
import os, threading, time
import numba, numpy as np, numbaconv as nc

@numba.njit(nogil=True)
def work(x, w, n):
    total = 0.0
    for i in range(n):
        total += nc.conv2d(x, w)[0, 0, 0, 0]
    return total

x, w = np.ones((1, 1, 5, 5)), np.ones((1, 1, 3, 3))
work(x, w, 1)
end, wrong = time.monotonic() + 20, []

def loop():
    while time.monotonic() < end:
        if work(x, w, 1000) != 9000:
            wrong.append(1)

threads = [threading.Thread(target=loop) for _ in range(2)]
for thread in threads:
    thread.start()
while time.monotonic() < end:
    for i in range(100):
        os.environ[f"FILLS_{i}"] = "x" * i
    for i in range(100):
        del os.environ[f"FILLS_{i}"]
for thread in threads:
    thread.join()
assert not wrong
"""


@pytest.mark.slow
def test_the_environment_changes_while_compiled_code_runs(run_script: Any):
    """C's getenv reads what `os.environ` frees: compiled code does not call it."""
    run_script("-c", CHANGED)
