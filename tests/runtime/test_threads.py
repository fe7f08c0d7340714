"""Several Python threads, forked children, and the caller's number of threads.

Each test is a process of its own: what goes wrong here aborts or hangs.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.conftest import Script

MIXED_CALLS = ("-m", "tests.scripts.mixed_calls")

# The wheel of TBB puts its library where the loader does not look by itself.
TBB = Path(sys.prefix) / "lib" / "libtbb.so.12"
LAYERS = {
    "omp": {"NUMBA_THREADING_LAYER": "omp"},
    "workqueue": {"NUMBA_THREADING_LAYER": "workqueue"},
    "tbb": {"NUMBA_THREADING_LAYER": "tbb", "LD_LIBRARY_PATH": str(TBB.parent)},
}


@pytest.fixture(params=LAYERS)
def layer(request: pytest.FixtureRequest) -> dict[str, str]:
    """Variables that choose each threading layer in turn."""
    if request.param == "omp" and sys.platform == "darwin":
        pytest.skip("macOS wheels have no omp layer")
    if request.param == "tbb" and not TBB.exists():
        pytest.skip("TBB is not installed")
    return LAYERS[request.param] | {"NUMBA_NUM_THREADS": "2"}


def test_threads_call_at_once(layer: dict[str, str], run_script: Script):
    run_script(*MIXED_CALLS, "threads", "--threads", "8", "--calls", "60", **layer)


@pytest.mark.stress
@pytest.mark.parametrize("width", ["2", "4"])
def test_sixteen_threads_of_a_thousand_calls(width: str, layer: dict[str, str], run_script: Script):
    variables = layer | {"NUMBA_NUM_THREADS": width}
    run_script(*MIXED_CALLS, "threads", timeout=3600, **variables)


@pytest.mark.parametrize(
    "way", ["pool", *(pytest.param(way, marks=pytest.mark.stress) for way in ("dask", "joblib"))]
)
def test_nested_in_other_pools(way: str, layer: dict[str, str], run_script: Script):
    if way != "pool" and not importlib.util.find_spec(way):
        pytest.skip(f"{way} is not installed")
    run_script("-W", "ignore", *MIXED_CALLS, way, "--threads", "4", "--calls", "84", **layer)


@pytest.mark.parametrize(
    "method",
    ["fork", *(pytest.param(m, marks=pytest.mark.stress) for m in ("forkserver", "spawn"))],
)
def test_child_processes_compute(method: str, layer: dict[str, str], run_script: Script):
    """A forked child inherits the parent's threads in name only."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    run_script("-W", "ignore::DeprecationWarning", *MIXED_CALLS, method, **layer)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_child_of_a_parent_that_launched_without_us(layer: dict[str, str], run_script: Script):
    """OpenMP's threads are those of a loop of the caller's own."""
    code = """
import os, signal, numba
from tests.scripts.mixed_calls import check
@numba.njit(parallel=True)
def total(n):
    s = 0
    for i in numba.prange(n):
        s += i
    return s
assert total(10) == 45
if not (child := os.fork()):
    signal.alarm(120)
    assert check(0) and check(4)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert check(0) and check(4)
"""
    run_script("-W", "ignore::DeprecationWarning", "-c", code, **layer)


# A small kernel, compiled by whoever comes first.
SMALL = """
import numpy as np
from numbaconv.problem.activations import ACTIVATIONS
from numbaconv.cpu.activation import activate_array
def compute():
    a = np.array([-1.0, 2.0], np.float32)
    activate_array(a, ACTIVATIONS["relu"])
    assert a.tolist() == [0, 2]
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_fork_while_another_thread_compiles(run_script: Script, tmp_path: Path):
    """The child has nobody to give the compiler's lock back, so the fork waits for it."""
    code = """
import os, signal, threading, time
from numba.core.compiler_lock import global_compiler_lock
begun = threading.Event()
def compile_for_a_while():
    with global_compiler_lock:
        begun.set()
        time.sleep(1)
threading.Thread(target=compile_for_a_while).start()
begun.wait()
if not (child := os.fork()):
    signal.alarm(120)
    compute()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
compute()
"""
    run_script("-W", "ignore", "-c", SMALL + code, NUMBA_CACHE_DIR=str(tmp_path))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals of POSIX")
def test_signal_handler_that_interrupts_the_compiler(run_script: Script, tmp_path: Path):
    """LLVM would end the process if it were entered again: the handler waits for what it needs."""
    code = """
import faulthandler, signal
from numba import types
from numbaconv.cpu.activation import relu
faulthandler.dump_traceback_later(200, exit=True)
handled = []
def handle(*_):
    handled.append(relu.address(types.float32))
signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
address = relu.address(types.float32)
signal.setitimer(signal.ITIMER_REAL, 0)
assert handled and set(handled) == {address}
compute()
"""
    variables = {"NUMBA_CACHE_DIR": str(tmp_path), "NUMBACONV_BUILT_AHEAD": "0"}
    run_script("-c", SMALL + code, **variables)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals of POSIX")
def test_signal_handler_launches(layer: dict[str, str], run_script: Script):
    """Also where launches take turns and the handler has interrupted the one whose turn it is."""
    code = """
import faulthandler, signal
from tests.scripts.mixed_calls import check
from numbaconv.runtime import threads
faulthandler.dump_traceback_later(200, exit=True)
assert check(0) and check(4)  # compiled now, and the layer is decided
handled = []
signal.signal(signal.SIGALRM, lambda *_: handled.append(check(0)))
with threads.launch_lock(2):
    signal.raise_signal(signal.SIGALRM)
assert handled == [True]
signal.signal(signal.SIGALRM, lambda *_: handled.append(check(4)))
signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
for _ in range(60):
    check(0)
signal.setitimer(signal.ITIMER_REAL, 0)
assert len(handled) > 2
"""
    run_script("-c", code, **layer)


def test_number_of_threads_is_the_callers(layer: dict[str, str], run_script: Script):
    """It is what it was after a call, even after one that was refused."""
    code = """
import numba, numbaconv as nc
from tests.scripts.mixed_calls import PROBLEMS, check
for threads in (1, 2):
    numba.set_num_threads(threads)
    for step in range(2 * len(PROBLEMS)):
        check(step)
        assert numba.get_num_threads() == threads
    try:
        nc.conv2d(*PROBLEMS[0][1], stride=0)
    except ValueError:
        assert numba.get_num_threads() == threads
"""
    run_script("-c", code, **layer)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads in Linux's /proc")
def test_no_thread_ends_where_jobs_have_fewer_tasks(run_script: Script):
    """OpenMP would end it and start another for the next job, which takes longer than either."""
    code = """
import os, numpy as np, numbaconv as nc
few = nc.prepare(np.ones((2, 1, 15, 15), "f4"), groups=2)  # a task for each channel
many = nc.prepare(np.ones((64, 64, 3, 3), "f4"))
planes, images = np.ones((1, 2, 64, 64), "f4"), np.ones((4, 64, 28, 28), "f4")
def threads():
    few(planes), many(images)
    return set(os.listdir("/proc/self/task"))
threads()
first = threads()
assert len(first) >= 4
assert all(threads() == first for _ in range(20))
"""
    run_script(
        *("-c", code),
        NUMBA_THREADING_LAYER="omp",
        NUMBA_NUM_THREADS="4",
        OMP_NUM_THREADS="4",
        NUMBACONV_ADAPTIVE_THREADS="0",
    )


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts CPU time in Linux's /proc")
def test_one_thread_means_one_thread(run_script: Script):
    """Under set_num_threads(1) only the caller works; under 2, another works too."""
    code = """
import os, numba, numpy as np
from tests.scripts.mixed_calls import check
def ticks():
    main, others = 0, 0
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/stat") as stat:
                fields = stat.read().rpartition(")")[2].split()
        except FileNotFoundError:
            continue  # a thread that has ended
        used = int(fields[11])
        if int(task) == os.getpid():
            main += used
        else:
            others += used
    return np.array([main, others])
def used(threads):
    numba.set_num_threads(threads)
    check(0)
    before = ticks()
    while (ticks() - before)[0] < 40:
        check(0)
    return ticks() - before
one, two = used(1), used(2)
assert one[1] <= 2, one
assert two[1] >= 10, two
"""
    run_script(
        *("-c", code),
        NUMBA_THREADING_LAYER="omp",
        NUMBA_NUM_THREADS="2",
        OMP_WAIT_POLICY="passive",
        OMP_NUM_THREADS="2",
        OPENBLAS_NUM_THREADS="1",  # NumPy's threads, which the oracle uses, go on to spin
        NUMBACONV_ADAPTIVE_THREADS="0",  # on a busy machine launches run on one thread
    )
