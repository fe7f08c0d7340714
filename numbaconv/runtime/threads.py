"""How many threads a call may use, and what keeps Numba's threading layers from being misused.

Two layers have a trap (Numba 0.68). Under OpenMP a forked child is killed at its first parallel
launch if its parent had launched before, and waits for ever if it launches without Numba: such a
child works on one thread. Under workqueue two Python threads that launch at once abort the process:
there one launch waits for another.
"""

import ctypes
import functools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numba
from llvmlite import binding as llvm

from numbaconv.codegen.target import HALVES_VECTORS
from numbaconv.runtime import contention
from numbaconv.runtime.capture import capturing
from numbaconv.runtime.shared_table import AT, ENTRY, kept

# Below this many multiply-adds a parallel region (1-2 us), and lines of memory that go from one
# core to another, cost more than a second core saves. The lower limit was measured on a Zen 4.
SERIAL_LIMIT = 200_000 if HALVES_VECTORS else 400_000

NO_LOCK = nullcontext()


class _State:
    """What must be known when this module is loaded again."""

    def __init__(self) -> None:
        # Reentrant, for a signal handler that convolves: handlers run never in the midst of a
        # launch.
        self.launch_lock = threading.RLock()
        self.launched = self.forked_after_launch = False


_state: _State = kept("threads", _State)


def _uses_openmp() -> bool:
    """Whether Numba has OpenMP's threads, which a caller's own ``prange`` may have started."""
    try:
        return bool(numba.threading_layer() == "omp")
    except ValueError:
        return False


def _after_fork() -> None:
    launched = _state.launched or _uses_openmp()
    _state.forked_after_launch = _state.forked_after_launch or launched
    _state.launch_lock = threading.RLock()  # another thread of the parent may have held it
    ENTRY[AT.forked] = _state.forked_after_launch
    ENTRY[AT.readers] = 0  # the parent's other threads are not here
    contention.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@functools.cache
def _count() -> Callable[[], int]:
    """Numba's get_num_threads without the locks around it, which take 0.6 us."""
    numba.get_num_threads()  # loads the threading layer, whose function it is
    return ctypes.PYFUNCTYPE(ctypes.c_int)(llvm.address_of_symbol("get_num_threads"))


def thread_limit(multiply_adds: int) -> int:
    """Threads for a problem of so many multiply-adds: the caller's limit, or 1 if it is small."""
    if multiply_adds < SERIAL_LIMIT or _state.forked_after_launch:
        return 1
    captured = capturing()
    if captured is not None:
        captured.uses_threads = True
        return captured.threads
    return int(_count()())


@contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """Let the calls of this thread use so many threads, or as many as there are."""
    before = numba.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    try:
        yield
    finally:
        numba.set_num_threads(before)


def launch_lock(threads: int) -> AbstractContextManager[object]:
    """Context of a launch on so many threads: a lock where launches are to be alone, or nothing."""
    if threads == 1:
        return NO_LOCK
    if not _state.launched:
        # The first launch decides the layer, so it is made alone.
        _state.launched = True
        return _state.launch_lock
    try:
        layer = numba.threading_layer()
    except ValueError:  # the first launch is under way in another thread
        return _state.launch_lock
    return _state.launch_lock if layer == "workqueue" else NO_LOCK


def note_launch() -> None:
    """Tell that compiled callers are going to launch."""
    _state.launched = True


def take_launch_lock() -> None:
    """Wait until no other launch of the package is running."""
    _state.launch_lock.acquire()


def give_launch_lock() -> None:
    """Let the next launch run."""
    _state.launch_lock.release()
