"""Kernels on disk and their launches: what is compiled when, and what the driver is asked for.

    python -m pytest tests/cuda/test_kernels.py

Once with launches executed (`tests/cuda/executed`), and once with all of numba-cuda and `cuda.core`
as they are, over a driver that computes nothing (`driver.c`). What a call costs the host there is
printed by

    python -m tests.cuda.test_kernels
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cuda.installed import require_compilers

require_compilers()

import numbaconv as nc  # noqa: E402 (what it takes is here)
from numbaconv.codegen import cache  # noqa: E402
from numbaconv.codegen.objects import origins  # noqa: E402
from numbaconv.cuda import kernels  # noqa: E402
from tests.cuda.executed.device import Gpu, installed  # noqa: E402
from tests.oracle import reference  # noqa: E402
from tests.oracle.cases import integer_arrays, problem  # noqa: E402

ROOT = Path(__file__).parents[2]
DRIVER = Path(__file__).with_name("driver.c")
CASE = problem("depthwise", (2, 3, 7, 9), (3, 1, 3, 3), bias=True, padding=1, groups=3)


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpu]:
    """A device that executes, whose kernels are kept on disk."""
    with installed() as found:
        monkeypatch.setattr(kernels, "cache", cache)
        monkeypatch.setattr(cache, "cache_directory", lambda: tmp_path)
        tmp_path.chmod(0o700)
        yield found
        monkeypatch.undo()


def compiled(gpu: Gpu, capability: tuple[int, int] = (9, 0)) -> int:
    """Convolve as a new process does, and return how many kernels were compiled for that."""
    gpu.begin(capability=capability)
    before = origins["compiled"]
    x, w, b = integer_arrays(CASE)
    y = nc.conv(x, w, b, **CASE.kwargs, backend="cuda")
    np.testing.assert_array_equal(y, reference.conv(x, w, b, **CASE.kwargs))
    assert gpu.launches
    return origins["compiled"] - before


def test_a_kernel_is_compiled_once_for_a_capability(gpu: Gpu, monkeypatch: pytest.MonkeyPatch):
    assert compiled(gpu) == 1
    assert compiled(gpu) == 0
    assert compiled(gpu, (7, 5)) == 1
    monkeypatch.setattr(kernels, "versions", lambda: ("another version",))
    assert compiled(gpu) == 1


@pytest.mark.parametrize("fault", ["damaged", "of another kernel", "written by others"])
def test_what_cannot_be_trusted_is_compiled_again(gpu: Gpu, tmp_path: Path, fault: str):
    assert compiled(gpu) == 1
    (path,) = tmp_path.glob("*.nbc")
    if fault == "damaged":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif fault == "of another kernel":
        assert compiled(gpu, (7, 5)) == 1
        (other,) = set(tmp_path.glob("*.nbc")) - {path}
        path.write_bytes(other.read_bytes())
    else:
        path.chmod(0o666)
    assert compiled(gpu) == 1
    if fault != "written by others":  # the file is the user's to replace
        assert compiled(gpu) == 0


def test_the_name_of_a_kernel_tells_it_from_all_others():
    """What is kept under one name must be one kernel."""
    kernel = kernels.Kernel("filter", kernels.Source, "float32", True)
    assert kernel.name == "filter float32, True"
    other = kernels.Kernel("filter", kernels.Source, "float32", False)
    assert kernel._key != other._key


# All as it is, over a driver that computes nothing.

SCRIPT = """
import ctypes, json, sys, time, warnings
import numpy as np
import numbaconv as nc
from numba import cuda
from numba.cuda import compiler
from numbaconv.codegen.objects import origins

warnings.simplefilter("ignore")
driver = ctypes.CDLL("libcuda.so.1")
if sys.argv[1] == "warm":
    def refuse(*arguments, **options):
        raise AssertionError("compiled")
    cuda.compile = compiler.compile_cuda = refuse

x, w = (cuda.to_device(np.ones(shape, "f4")) for shape in ((1, 8, 8, 8), (8, 8, 3, 3)))
out, stream = cuda.device_array((1, 8, 8, 8), "f4"), cuda.stream()
begin = time.perf_counter()
nc.conv2d(x, w, padding=1, out=out, stream=stream)
first = time.perf_counter() - begin
last = (ctypes.c_uint64 * 9).in_dll(driver, "last")
launch = list(last)

layer = nc.prepare(np.ones((8, 8, 3, 3), "f4"), padding=1)
small = np.ones((1, 1, 8, 8), "f4"), np.ones((1, 1, 3, 3), "f4")
calls = {
    "conv2d, with out": lambda: nc.conv2d(x, w, padding=1, out=out),
    "a layer, with out": lambda: layer(x, out=out),
    "conv2d": lambda: nc.conv2d(x, w, padding=1),
    "8x8 on the CPU": lambda: nc.conv2d(*small, padding=1),
}
best = dict.fromkeys(calls, 1.0)
for turn in range(int(sys.argv[2])):
    for name, call in calls.items():
        begin = time.perf_counter()
        for _ in range(20):
            call()
        best[name] = min(best[name], (time.perf_counter() - begin) / 20)
print(json.dumps({
    "launch": launch,
    "addresses": [a.device_ctypes_pointer.value for a in (x, w, out)],
    "stream": int(stream),
    "entry": (ctypes.c_char * 1024).in_dll(driver, "entry").value.decode(),
    "first": first,
    "origins": dict(origins),
    "best": best,
}))
"""


def build_driver(folder: Path) -> bool:
    """Build the driver if there is a compiler."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        return False
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", "libcuda.so.1", str(DRIVER), "-ldl"]
    return subprocess.run(command, cwd=folder, capture_output=True).returncode == 0


def call_driver(folder: Path, state: str, turns: int) -> dict[str, Any]:
    """Run the script in a process of its own, with the driver and a cache in a folder."""
    environment = os.environ | {
        "LD_LIBRARY_PATH": str(folder),
        "NUMBA_CACHE_DIR": str(folder / "cache"),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-c", SCRIPT, state, str(turns)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_driver_gets_what_was_kept(tmp_path: Path):
    if not build_driver(tmp_path):
        pytest.skip("no C compiler")
    cold = call_driver(tmp_path, "cold", 1)
    warm = call_driver(tmp_path, "warm", 40)
    for found in (cold, warm):
        grid, block, shared, stream, *addresses = found["launch"]
        assert (grid, block, shared, stream) == (1, 128, 0, found["stream"])
        x, w, out = found["addresses"]
        # Without a bias its argument is any address; the last is that of the job.
        assert addresses[:4] == [x, w, out, out]
        assert addresses[4] not in (0, x, w, out)
        assert "conv_gemm" in found["entry"]
    assert cold["origins"]["compiled"] >= 1
    assert "compiled" not in warm["origins"]
    best = warm["best"]
    # 27 us beside 5.5 on an idle core. Numba's dispatcher alone took more than the call.
    assert best["conv2d, with out"] < 8 * best["8x8 on the CPU"]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        if not build_driver(Path(name)):
            sys.exit("no C compiler")
        for state in ("cold", "warm"):
            found = call_driver(Path(name), state, 400)
            print(f"first call, {state} cache: {found['first']:.2f} s")
        for call, seconds in found["best"].items():
            print(f"{call}: {seconds * 1e6:.1f} us")
