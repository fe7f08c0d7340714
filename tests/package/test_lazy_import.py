"""`import numbaconv` is cheap; a public name that is touched imports what it needs."""

from __future__ import annotations

import os
import pkgutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import numbaconv as nc

Script = Callable[..., subprocess.CompletedProcess[str]]


def test_lazy_names_are_the_public_ones():
    assert {*nc._LAZY, "__version__"} == set(nc.__all__)
    assert nc._LAZY.keys().isdisjoint(
        {m.name for m in pkgutil.iter_modules(nc.__path__)} - {"grad", "ndimage", "signal"}
    )


def test_import_alone_imports_nothing_that_computes(run_script: Script):
    code = """
import sys, numbaconv
parts = {name.split(".")[1] for name in sys.modules if name.startswith("numbaconv.")}
assert parts == {"_imports", "_version", "codegen"}, parts
assert not {"numba", "numpy", "llvmlite"} & sys.modules.keys()
assert numbaconv.__version__ and set(dir(numbaconv)) >= set(numbaconv.__all__)
"""
    run_script("-c", code)


def test_what_a_convolution_does_not_need_is_not_imported(run_script: Script):
    code = """
import sys, numba
before = set(sys.modules)
import numbaconv
numbaconv.conv2d
new = set(sys.modules) - before
# No other calls, no filters, no bridge for compiled code, no kernels.
parts = {".".join(name.split(".")[1:3]) for name in new if name.startswith("numbaconv.")}
others = {"ndimage", "signal", "grad", "prepared", "tiling", "transposed", "inspection", "njit"}
engines = {f"cpu.{name}" for name in ("direct", "im2col", "fft", "winograd", "gradients")}
later = {"cpu.separable", "cpu.activation", "cpu.execution", "cpu.packing"}
assert parts.isdisjoint(others | engines | later), parts
assert new.isdisjoint({"decimal", "fractions", "concurrent.futures", "inspect"}), new
assert len(new) <= 60, sorted(new)
"""
    run_script("-c", WITH_ENTRY_POINT + code)


@pytest.mark.parametrize(
    "touch",
    [
        "nc.conv2d",
        "nc.grad.conv2d_input",
        "nc.ndimage.gaussian_filter",
        "nc.signal.lfilter",
        "from numbaconv import conv2d",
        "from numbaconv import *; conv2d, grad.conv2d_input",
    ],
)
@pytest.mark.parametrize("collects", [True, False])
def test_names_are_found_and_the_collector_is_as_before(
    touch: str, collects: bool, run_script: Script
):
    code = f"""
import gc, sys
import numbaconv as nc
if not {collects}:
    gc.disable()
class Watch:
    on = []
    def find_spec(self, *_):
        self.on.append(gc.isenabled())
sys.meta_path.insert(0, Watch())
{touch}
assert len(Watch.on) > 100 and not any(Watch.on)
assert gc.isenabled() == {collects}
"""
    run_script("-c", code)


def test_what_the_caller_froze_stays_frozen(run_script: Script):
    run_script(
        "-c",
        """
import gc, numbaconv as nc
gc.freeze()
frozen = gc.get_freeze_count()
nc.conv2d
assert gc.get_freeze_count() > 0.9 * frozen
""",
    )


def test_no_young_collection_goes_through_what_was_imported(run_script: Script):
    code = """
import gc, numbaconv as nc
sizes = []
gc.callbacks.append(lambda phase, _: phase == "start" and sizes.append(len(gc.get_objects(0))))
nc.conv2d
kept = [[] for _ in range(2000)]
assert sizes and max(sizes) < 5000, sizes
"""
    run_script("-c", code)


def test_wrong_names_are_the_usual_errors():
    with pytest.raises(
        AttributeError, match="module 'numbaconv' has no attribute 'conv4d'"
    ) as raised:
        nc.conv4d  # noqa: B018
    assert raised.value.name == "conv4d"
    assert raised.value.obj is nc
    with pytest.raises(ImportError, match="cannot import name 'conv4d' from 'numbaconv'"):
        from numbaconv import conv4d  # noqa: F401


def test_threads_that_touch_at_once(run_script: Script, tmp_path: Path):
    """They wait for the first, also in the midst of a compilation."""
    code = """
import sys, threading, time, numba, numpy as np, numbaconv as nc
half = threading.Event()
class Hold:
    def find_spec(self, name, *_):
        if name == "numbaconv.cpu.job":
            half.set()
            time.sleep(0.5)
sys.meta_path.insert(0, Hold())
x, w = np.ones((1, 1, 5, 5)), np.ones((1, 1, 3, 3))
compiled = numba.njit(lambda x, w: nc.conv2d(x, w).sum())
calls = [
    lambda: nc.conv2d(x, w).sum(),
    lambda: compiled(x, w),
    lambda: nc.grad.conv2d_weight(x, w.shape, x[..., :3, :3]).sum(),
    lambda: nc.im2col(x, 3).sum(),
] * 3
results, barrier = [], threading.Barrier(len(calls))
def run(i, call):
    barrier.wait()
    if i >= 4:  # the others are first, all at once
        half.wait()
    results.append(float(call()))
threads = [threading.Thread(target=run, args=call, daemon=True) for call in enumerate(calls)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(200)
assert results == [81.0] * len(calls), results
"""
    run_script("-c", code, timeout=300, NUMBA_CACHE_DIR=str(tmp_path))


# Numba finds no entry point without the metadata of an installed package; else this one, whichever
# package of the name is installed here.
UNINSTALLED = """
import sys, numba.core.entrypoints
numba.core.entrypoints._already_initialized = True
"""
WITH_ENTRY_POINT = """
import importlib.metadata, types
points = "[numba_extensions]\\ninit = numbaconv.njit.overloads:init"
found = types.SimpleNamespace(read_text=lambda name: points)
importlib.metadata.distribution = lambda name: found
"""
ON_THE_PATH = """
import importlib.metadata
def find_nothing(name):
    raise importlib.metadata.PackageNotFoundError(name)
importlib.metadata.distribution = find_nothing
"""
INSTALLED = """
import sys, importlib.metadata
point = importlib.metadata.EntryPoint("init", "numbaconv.njit.overloads:init", "numba_extensions")
importlib.metadata.entry_points = lambda: importlib.metadata.EntryPoints([point])
"""
CALLER = """
import numba, numpy as np, numbaconv as nc
@numba.njit(cache=True)
def convolve(x, w):
    return nc.conv2d(x, w)
assert "numbaconv.njit" not in sys.modules
assert convolve(np.ones((1, 1, 5, 5)), np.ones((1, 1, 3, 3))).sum() == 81
print(sum(convolve.stats.cache_hits.values()))
"""
BY_THE_ENTRY_POINT = """
assert "conv2d" not in vars(nc) or not convolve.stats.cache_hits
assert "numbaconv.njit.function_overloads" in sys.modules
"""
TOUCHED = """
import numbaconv, sys
numbaconv.conv2d
there = [name for name in sys.modules if name.startswith("numbaconv.njit.") and "_over" in name]
"""


def test_numba_is_told_in_time(run_script: Script):
    """When a name is touched, if no entry point does it later."""
    run_script("-c", WITH_ENTRY_POINT + TOUCHED + "assert not there")
    run_script("-c", WITH_ENTRY_POINT + UNINSTALLED + TOUCHED + "assert len(there) == 2")
    for prepare in ("prepare", "prepare_transposed"):
        layer = f"nc.{prepare}(numpy.ones((1, 1, 3)))"
        typeof = f"import numba, numbaconv as nc, numpy; numba.typeof({layer})"
        run_script("-c", WITH_ENTRY_POINT + typeof)
    run_script("-c", ON_THE_PATH + TOUCHED + "assert len(there) == 2")


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(UNINSTALLED + CALLER, marks=pytest.mark.stress, id="uninstalled"),
        pytest.param(INSTALLED + CALLER + BY_THE_ENTRY_POINT, id="installed"),
    ],
)
def test_compiled_code_is_the_first_to_touch(code: str, run_script: Script, tmp_path: Path):
    """Numba meets the name while it compiles, or loads machine code that names the door."""
    script = tmp_path / "caller.py"
    script.write_text(code)
    hits = [run_script(str(script), NUMBA_CACHE_DIR=str(tmp_path)).stdout for _ in range(3)]
    assert hits == ["0\n", "1\n", "1\n"]


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("thread", [False, True])
def test_interrupt_in_the_midst_of_the_import(thread: bool, run_script: Script):
    """It is heard at the end: half of Numba could not be imported again."""
    code = f"""
import os, signal, sys, threading
import numbaconv as nc

class Press:
    def find_spec(self, name, *_):
        if name == "numba.core.typing":
            os.kill(os.getpid(), signal.SIGINT)

def touch():
    try:
        nc.conv2d
    except KeyboardInterrupt:
        heard.append(True)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Press())
heard = []
if {thread}:  # then the main thread hears it, where nothing is half done
    toucher = threading.Thread(target=touch)
    toucher.start()
    while not heard:
        try:
            toucher.join()
        except KeyboardInterrupt:
            heard.append(True)
    toucher.join()
else:
    touch()
assert heard == [True], heard
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
import numpy as np
assert nc.conv2d(np.ones((1, 1, 3, 3)), np.ones((1, 1, 3, 3))).sum() == 9
"""
    run_script("-c", code)
