"""Several Python threads, forked children, and the caller's number of threads.

Each test is a process of its own: what goes wrong here aborts or hangs.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import pytest

LAYERS = ["omp", "workqueue", *(["tbb"] if importlib.util.find_spec("tbb") else [])]

# Problems large enough for a parallel region, and their results, computed before any thread starts.
COMMON = """
import os, sys, threading
import numba, numpy as np, numbaconv as nc
rng = np.random.default_rng(0)
def integers(*shape, dtype="f4"):
    return rng.integers(-4, 4, shape, endpoint=True).astype(dtype)
problems = [
    (integers(1, 32, 57, 53), integers(61, 32, 3, 3), dict(padding=1)),
    (integers(4, 67, 29, 31), integers(67, 1, 3, 3), dict(groups=67)),
    (integers(1, 1, 257, 251), integers(1, 1, 7, 7), dict(padding="same")),
    (integers(1, 1, 9, 9), integers(3, 1, 3, 3), dict()),
]
from reference import conv_by_taps
expected = [conv_by_taps(x, w, **options) for x, w, options in problems]
def check(i, backend):
    x, w, options = problems[i]
    assert np.array_equal(nc.conv2d(x, w, **options, backend=backend), expected[i]), (i, backend)
"""

THREADS = """
failures = []
start = threading.Barrier(8)
def work(seed):
    try:
        start.wait(60)
        for step in range(25):
            check((seed + step) % 4, ("direct", "im2col")[(seed // 2 + step // 4) % 2])
    except BaseException as failure:
        failures.append(repr(failure))
        raise
threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failures, failures
assert numba.threading_layer() == os.environ["NUMBA_THREADING_LAYER"]
"""

# The child inherits the parent's threads in name only.
FORK = """
for backend in ("direct", "im2col"):
    for i in range(4):
        check(i, backend)
sys.stdout.flush()
children = []
for _ in range(2):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            for backend in ("direct", "im2col"):
                for i in range(4):
                    check(i, backend)
            status = 0
        finally:
            os._exit(status)
    children.append(child)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
for i in range(4):
    check(i, "direct")
"""


def layer_or_skip(layer: str) -> None:
    if layer == "omp" and sys.platform == "darwin":
        pytest.skip("macOS wheels have no omp layer")


@pytest.mark.parametrize("layer", LAYERS)
def test_threads_call_at_once(layer: str, run_script: Any):
    layer_or_skip(layer)
    run_script("-c", COMMON + THREADS, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="2")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("layer", LAYERS)
def test_forked_children_compute(layer: str, run_script: Any):
    layer_or_skip(layer)
    run_script(
        *("-W", "ignore::DeprecationWarning", "-c", COMMON + FORK),
        NUMBA_THREADING_LAYER=layer,
        NUMBA_NUM_THREADS="2",
    )


@pytest.mark.parametrize("layer", LAYERS)
def test_number_of_threads_is_the_callers(layer: str, run_script: Any):
    """It is what it was after a call, thread by thread, even after one that was refused."""
    layer_or_skip(layer)
    code = """
for threads in (1, 2):
    numba.set_num_threads(threads)
    for backend in ("direct", "im2col"):
        for i in range(4):
            check(i, backend)
            assert numba.get_num_threads() == threads
    try:
        nc.conv2d(problems[0][0], problems[0][1], stride=0)
    except ValueError:
        assert numba.get_num_threads() == threads
def other():
    numba.set_num_threads(1)
    check(0, "direct")
    seen.append(numba.get_num_threads())
seen = []
thread = threading.Thread(target=other)
thread.start()
thread.join()
assert seen == [1] and numba.get_num_threads() == 2
"""
    run_script("-c", COMMON + code, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="2")


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts CPU time in Linux's /proc")
def test_one_thread_means_one_thread(run_script: Any):
    """Under set_num_threads(1) only the caller works; under 2, another works too."""
    code = """
def ticks():
    main, others = 0, 0
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        used = int(fields[11])
        if int(task) == os.getpid():
            main += used
        else:
            others += used
    return np.array([main, others])
x, w, options = problems[0]
def used(threads):
    numba.set_num_threads(threads)
    nc.conv2d(x, w, **options)
    before = ticks()
    while (ticks() - before)[0] < 40:
        nc.conv2d(x, w, **options)
    return ticks() - before
one, two = used(1), used(2)
assert one[1] <= 2, one
assert two[1] >= 10, two
"""
    run_script(
        *("-c", COMMON + code),
        NUMBA_THREADING_LAYER="omp",
        NUMBA_NUM_THREADS="2",
        OMP_WAIT_POLICY="passive",
        OMP_NUM_THREADS="2",
    )
