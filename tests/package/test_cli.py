"""The command line: what it prints, and that nothing is left to compile after a warm-up."""

from __future__ import annotations

import os
import subprocess
import sys

from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu.direct.choice import HAS_MASKS

# Run after a warm-up in the same process, so that what it has compiled can be seen.
AFTER_WARMUP = """
import importlib, pkgutil
from itertools import chain
from numba import types
from numbaconv.cli import app
from numbaconv.codegen.jit import native
from numbaconv.cpu import direct, fft, gradients, im2col, winograd
from numbaconv.cpu.microkernels.strip import STRIPS
strips = {f"strip_{stride}": strip for (stride, _), strip in STRIPS.items() if stride < 3}
app(["warmup"], standalone_mode=False)
for engine in (direct, fft, gradients, im2col, winograd):
    for module in pkgutil.iter_modules(engine.__path__, engine.__name__ + "."):
        functions = {**vars(importlib.import_module(module.name)), **strips}
        for name, function in functions.items():
            if not isinstance(function, native):
                continue
            each = (d if isinstance(d, tuple) else (d,) for d in function._addresses)
            # Those that Python calls are compiled for no elements.
            if not {types.float64, types.int64}.intersection(chain.from_iterable(each)):
                print("missing", name)
"""


def output(*arguments: str) -> str:
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=True, env=environment
    )
    return done.stdout


def test_info():
    printed = output("-m", "numbaconv", "info")
    for line in ("numbaconv", "numba", "backend", "threads"):
        assert line in printed


def test_warmup_refuses_what_is_no_dtype():
    command = [sys.executable, "-m", "numbaconv", "warmup", "float32", "float31"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "'float31' is none of" in done.stderr


def test_warmup_compiles_every_common_kernel():
    printed = output("-c", AFTER_WARMUP)
    assert "compiled for float32, float64" in printed
    missing = {line.split()[1] for line in printed.splitlines() if line.startswith("missing")}
    # How depthwise layers are computed depends on the vectors of the CPU, and on the layout.
    planes = {"planes_work", "small_planes", "strip_1", "strip_2", "phases_work", "phase_rows"}
    channels = {"channels_work", "fill_channels", "depthwise_tile"}
    # Of arrays that no cache holds.
    large = {"write_past_caches", "prefetching_tile", "asking_tile"}
    wide = VECTOR_BYTES == 64  # else channels of float64 that are last mostly go another way
    assert missing <= large | (set() if wide else channels if HAS_MASKS else planes)
