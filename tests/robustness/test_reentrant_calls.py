"""Calls from what interrupts the first call: callbacks of the collector, finalizers, signals."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import numbaconv as nc
from numbaconv.dispatch.backends import BACKENDS

Script = Callable[..., subprocess.CompletedProcess[str]]

# `call` does a little of everything, `seen` has what went wrong in the midst of something else.
CALLS = """
import gc, signal, sys
import numpy as np, numbaconv as nc
x, w = np.ones((1, 1, 8, 8)), np.ones((1, 1, 3, 3))
many, few = np.ones((1, 2, 8, 8)), np.ones((1, 2, 3, 3))
outcomes, under_way = [], []
def call():
    assert nc.conv2d(x, w).max() == 9
    assert nc.conv2d(many, few, backend="im2col").max() == 18
    assert nc.conv_transpose2d(x, w).max() == 9
    assert nc.grad.conv2d_input(x.shape, w, np.ones((1, 1, 6, 6))).max() == 9
    assert nc.grad.conv2d_weight(x, w.shape, np.ones((1, 1, 6, 6))).max() == 36
left = int(sys.argv[1])
def interrupt():
    global left
    left -= 1
    if under_way or left > 0 or len(outcomes) > 100:
        return
    under_way.append(True)
    try:
        call()
        outcomes.append("right")
    except BaseException as error:
        outcomes.append(f"{type(error).__name__}: {error}")
    finally:
        under_way.clear()
def check(allowed):
    global left
    call()
    print(len(outcomes), set(outcomes), left)
    left = 1 << 40
    assert outcomes and all(o == "right" or allowed in o for o in outcomes), set(outcomes)
"""


# The chance that is taken first: in the midst of planning, of compiling, of loading. From there on
# all is compiled, and every call is right.
CHANCES = ("1", *(pytest.param(chance, marks=pytest.mark.stress) for chance in ("100", "1500")))


@pytest.mark.parametrize("chance", CHANCES)
def test_callback_of_the_collector(chance: str, run_script: Script, tmp_path: Path):
    """Right, or an error that says what it interrupts."""
    code = """
gc.callbacks.append(lambda phase, info: interrupt())
gc.set_threshold(50)
check("RuntimeError: a signal handler, finalizer or callback of the garbage collector")
"""
    for _ in range(2):
        run_script("-c", CALLS + code, chance, NUMBA_CACHE_DIR=str(tmp_path))


@pytest.mark.stress
@pytest.mark.parametrize("chance", ["1", "100", "1500"])
def test_finalizer(chance: str, run_script: Script, tmp_path: Path):
    code = """
class Cycle:
    def __init__(self): self.itself = self
    def __del__(self):
        Cycle()
        interrupt()
Cycle()
gc.set_threshold(50)
check("RuntimeError: a signal handler, finalizer or callback of the garbage collector")
"""
    for _ in range(2):
        run_script("-c", CALLS + code, chance, NUMBA_CACHE_DIR=str(tmp_path))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals of POSIX")
def test_signal_handler(run_script: Script, tmp_path: Path):
    """It waits until what is under way is compiled, so it is right every time."""
    code = """
nc.conv2d
signal.signal(signal.SIGALRM, lambda *_: interrupt())
signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
call()
signal.setitimer(signal.ITIMER_REAL, 0)
check("right")
"""
    for _ in range(2):
        run_script("-c", CALLS + code, "1", NUMBA_CACHE_DIR=str(tmp_path))


LATE = """
import gc, importlib.metadata, signal, sys, types
found = types.SimpleNamespace(read_text=lambda name: "[numba_extensions]")
importlib.metadata.distribution = lambda name: found  # as where the package is installed
import numpy as np, numbaconv as nc
x, w = np.ones((1, 8, 99, 99)), np.ones((8, 8, 3, 3))
late, heard = [], []
def begin(name):
    late.append(name)
    del heard[:]
    assert not gc.isenabled(), name
    signal.raise_signal(signal.SIGALRM)
    assert not heard, name
class Watch:
    def find_spec(self, name, *_):
        entry = "numbaconv.njit", "numbaconv.njit.overloads"  # that Numba imports: no kernels
        if name.startswith("numbaconv") and name not in entry:
            begin(name)
nc.conv2d
signal.signal(signal.SIGALRM, lambda number, frame: heard.append(number))
sys.meta_path.insert(0, Watch())
def check(call):
    before = len(late)
    call()
    assert len(late) > before and heard == [signal.SIGALRM], (late[before:], heard)
check(lambda: nc.explain(x, w))
for backend in ("im2col", "winograd", "fft"):
    check(lambda: nc.explain(x, w, backend=backend))
check(lambda: nc.grad.conv2d_input)
check(lambda: nc.ndimage.gaussian_filter)
check(lambda: nc.signal.lfilter)
from numbaconv.njit import overloads
check(overloads.init)
check(lambda: nc.tiled)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_no_half_of_a_late_import_is_seen(run_script: Script):
    """Neither by a callback of the collector nor by a handler, which is heard when it is done."""
    run_script("-c", LATE)


REFUSED = (
    "a signal handler, finalizer or callback of the garbage collector needs numbaconv in the midst "
    "of its import"
)

TELL = "import numbaconv.njit.overloads; numbaconv.njit.overloads.init()"  # as Numba does

# A finder that looks for nothing interrupts the import of the module in sys.argv[1], once.
INTERRUPTED = f"""
import sys
import numpy as np
x, w = np.ones((1, 1, 8, 8)), np.ones((1, 1, 3, 3))
outcomes = []
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1] and not outcomes:
            outcomes.append(None)
            try:
                outcomes[0] = nc.conv2d(x, w)
            except BaseException as error:
                outcomes[0] = error
sys.meta_path.insert(0, Interrupt())
import numbaconv as nc
exec(sys.argv[2])
(error,) = outcomes
assert isinstance(error, RuntimeError) and str(error).startswith({REFUSED!r}), repr(error)
assert "make such a call once before" in str(error)
assert nc.conv2d(x, w).max() == 9
"""


@pytest.mark.parametrize(
    ("module", "statement"),
    [
        ("numbaconv.problem.plan", "nc.conv2d"),
        ("numbaconv.cpu.job", "nc.conv2d(x, w)"),
        pytest.param("numbaconv.njit.layer_type", TELL, marks=pytest.mark.stress),
        pytest.param("numba.core.types", "nc.conv2d", marks=pytest.mark.stress),
        ("numba.core.types", "import numba"),  # the caller's own
        pytest.param("numbaconv.problem.plan", "import numbaconv.grad", marks=pytest.mark.stress),
        ("numbaconv.cpu.job", TELL),
    ],
)
def test_half_an_import_is_refused(module: str, statement: str, run_script: Script, tmp_path: Path):
    """And goes on when the error is caught."""
    run_script("-c", INTERRUPTED, module, statement, NUMBA_CACHE_DIR=str(tmp_path))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals of POSIX")
def test_signal_handler_in_the_midst_of_the_import(run_script: Script, tmp_path: Path):
    """It is heard when all is imported, and right every time."""
    code = """
signal.signal(signal.SIGALRM, lambda *_: interrupt())
signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
call()
signal.setitimer(signal.ITIMER_REAL, 0)
check("right")
"""
    run_script("-c", CALLS + code, "1", NUMBA_CACHE_DIR=str(tmp_path))


def test_half_a_cuda_module_is_refused(monkeypatch: pytest.MonkeyPatch):
    half = ModuleType("half")
    half.__spec__ = SimpleNamespace(_initializing=True)  # type: ignore[assignment]
    cuda = BACKENDS["cuda"]
    monkeypatch.setattr(cuda, "import_module", lambda name: half)
    monkeypatch.setattr(cuda, "unavailable", lambda: None)
    with pytest.raises(RuntimeError, match="interrupted its import"):
        nc.conv2d(np.ones((1, 1, 8, 8)), np.ones((1, 1, 3, 3)), backend="cuda")
