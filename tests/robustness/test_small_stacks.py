"""Threads of little stack: what takes more, compiling and loading kernels, is done elsewhere."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Script = Callable[..., subprocess.CompletedProcess[str]]

# The first calls of the process: of kernels, natives, parallel ones and small ones.
CALLS = """
import ctypes, threading
import numpy as np, numbaconv as nc
x, w = np.ones((1, 1, 8, 8)), np.ones((1, 1, 3, 3))
failed, done = [], []
def calls():
    try:
        empty, filled = np.ones((1, 0, 4, 4)), np.ones((2, 0, 4, 4))
        assert nc.conv2d(empty, filled, np.array([-1.0, 2.0]), activation="relu").max() == 2
        assert nc.conv2d(x, w).tolist() == np.full((1, 1, 6, 6), 9.0).tolist()
        assert nc.grad.conv2d_weight(x, w.shape, np.ones((1, 1, 6, 6))).max() == 36
        done.append(True)
    except BaseException as error:
        failed.append(error)
        raise
def made_by_python():
    threading.stack_size(65536)
    thread = threading.Thread(target=calls)
    thread.start()
    thread.join()
    assert threading.stack_size() == 65536
def made_elsewhere():
    library = ctypes.CDLL(None)
    callback = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(lambda _: calls())
    attributes, thread = ctypes.create_string_buffer(256), ctypes.c_ulong()
    assert library.pthread_attr_init(attributes) == 0
    assert library.pthread_attr_setstacksize(attributes, ctypes.c_size_t(65536)) == 0
    assert library.pthread_create(ctypes.byref(thread), attributes, callback, None) == 0
    assert library.pthread_join(thread, None) == 0
"""


@pytest.mark.skipif(sys.platform == "win32", reason="threads of POSIX")
@pytest.mark.parametrize(
    "way", [pytest.param("made_by_python", marks=pytest.mark.stress), "made_elsewhere"]
)
def test_first_calls_on_a_thread_of_64_kib(way: str, run_script: Script, tmp_path: Path):
    """The kernels are compiled there, and in the second process loaded."""
    for _ in range(2):
        run_script("-c", f"{CALLS}\n{way}()\nassert done, failed", NUMBA_CACHE_DIR=str(tmp_path))


ERRORS = """
import threading
import numpy as np, numbaconv as nc
from numbaconv.codegen import jit
def fail():
    raise MemoryError("none left")
def no_thread(thread):
    return False
for start in (jit._start, no_thread):
    jit._start = start
    for attempt in range(2):
        try:
            jit.on_large_stack(fail)
        except MemoryError as error:
            assert str(error) == "none left"
        else:
            raise AssertionError
    assert jit.on_large_stack(lambda: 5) == 5
"""


def test_what_a_compilation_raises_is_raised_where_it_was_asked_for(run_script: Script):
    """Also where no thread can be started."""
    run_script("-c", ERRORS)


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="no fork here")
def test_handler_that_forks_while_a_thread_compiles(run_script: Script):
    """The child has no such thread, and must not wait for it."""
    code = """
import os, signal, sys, time
from numbaconv.codegen import jit
main = os.getpid()
def handle(*_):
    global child
    child = os.fork()
def compilation():
    if os.getpid() == main:
        os.kill(main, signal.SIGUSR1)
        time.sleep(1)
    return os.getpid()
signal.signal(signal.SIGUSR1, handle)
signal.alarm(100)
result = jit.on_large_stack(compilation)
if os.getpid() != main:
    os._exit(0 if result else 1)
assert os.waitpid(child, 0)[1] == 0 and result == main
"""
    run_script("-W", "ignore::DeprecationWarning", "-c", code)
