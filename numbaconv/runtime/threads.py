"""How many threads a call may use, and what keeps Numba's threading layers from being misused.

Two layers have a trap (Numba 0.68). Under OpenMP a forked child is killed at its first parallel
launch if its parent had launched before: such a child works on one thread. Under workqueue two
Python threads that launch at once abort the process: there launches take turns.
"""

import ctypes
import functools
import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numba
from llvmlite import binding as llvm

from numbaconv.runtime.shared_table import ENTRY, FORKED, READERS

# Below this many multiply-adds a parallel region (1-2 us) costs more than a second core saves.
SERIAL_LIMIT = 400_000

# Reentrant, for a signal handler that convolves: handlers run never in the midst of a launch.
_turns = threading.RLock()
_no_turn = nullcontext()
_launched = False
_forked_after_launch = False


def _after_fork() -> None:
    global _forked_after_launch, _turns
    _forked_after_launch = _forked_after_launch or _launched
    _turns = threading.RLock()  # another thread of the parent may have held it
    ENTRY[FORKED] = _forked_after_launch
    ENTRY[READERS] = 0  # the parent's other threads are not here


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@functools.cache
def _count() -> Callable[[], int]:
    """Numba's get_num_threads without the locks around it, which take 0.6 us."""
    numba.get_num_threads()  # loads the threading layer, whose function it is
    return ctypes.PYFUNCTYPE(ctypes.c_int)(llvm.address_of_symbol("get_num_threads"))


def thread_limit(multiply_adds: int) -> int:
    """Threads for a problem of so many multiply-adds: the caller's limit, or 1 if it is small."""
    if multiply_adds < SERIAL_LIMIT or _forked_after_launch:
        return 1
    return int(_count()())


def turn(threads: int) -> AbstractContextManager[object]:
    """Context of a launch on so many threads: a lock where the layer wants turns, else nothing."""
    global _launched
    if threads == 1:
        return _no_turn
    if not _launched:
        # The first launch decides the layer, so it is made alone.
        _launched = True
        return _turns
    try:
        layer = numba.threading_layer()
    except ValueError:  # the first launch is under way in another thread
        return _turns
    return _turns if layer == "workqueue" else _no_turn


def note_launch() -> None:
    """Tell that compiled callers are going to launch."""
    global _launched
    _launched = True


def take_turn() -> None:
    """Wait until no other launch of the package is running."""
    _turns.acquire()


def give_turn() -> None:
    """Let the next launch run."""
    _turns.release()
