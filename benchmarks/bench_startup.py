"""What a process waits for before its first result, in CPU seconds: load changes these least.

Each figure is of a process of its own. Where kernels come from is the second parameter: compiled,
with an empty cache; cached, by an earlier process; or built ahead, as a wheel has them.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from asv_runner.benchmarks.mark import SkipNotImplemented

from benchmarks.lib.suite import SKIP_SLOW

# Options of a first call: shapes of input and weight, and keywords.
PROBLEMS = {
    "layer": "conv2d, (1, 3, 64, 64), (8, 3, 3, 3)",
    "layer, small map": "conv2d, (1, 128, 7, 7), (32, 128, 3, 3), padding=1",
    "layer, pointwise": "conv2d, (1, 64, 28, 28), (64, 64, 1, 1)",
    "layer, dilated": "conv2d, (1, 32, 16, 16), (32, 32, 3, 3), padding=4, dilation=4",
    "depthwise": "conv2d, (1, 8, 64, 64), (8, 1, 3, 3), padding=1, groups=8",
    "image": "conv2d, (1, 1, 64, 64), (1, 1, 3, 3)",
    "signal": "conv1d, (1, 1, 4000), (1, 1, 101)",
    "im2col": "conv2d, (1, 3, 64, 64), (8, 3, 3, 3), backend='im2col'",
    "transposed": "conv_transpose2d, (1, 128, 7, 7), (128, 32, 3, 3)",
    "gradient of the weights": "weight_gradient, (1, 8, 32, 32), (8, 8, 3, 3)",
    "inside @njit": "compiled, (1, 3, 64, 64), (8, 3, 3, 3)",
}
FEW = ("layer",) if SKIP_SLOW else tuple(PROBLEMS)
DTYPES = ("float32",) if SKIP_SLOW else ("float32", "float64")
SOURCES = ("compiled", "cached", "built ahead")

FIRST_CALL = """
import time
import numpy as np
import numba
import numbaconv as nc

conv1d, conv2d, conv_transpose2d = nc.conv1d, nc.conv2d, nc.conv_transpose2d

def weight_gradient(x, w):
    return nc.grad.conv2d_weight(x, w.shape, nc.conv2d(x, w))

@numba.njit
def compiled(x, w):
    return nc.conv2d(x, w)

def call(function, x, w, **options):
    x, w = np.ones(x, "{dtype}"), np.ones(w, "{dtype}")
    begin = time.process_time()
    function(x, w, **options)
    print(time.process_time() - begin)

call({problem})
"""

COUNT = """
from numba.core.codegen import CodeLibrary
make, count = CodeLibrary.__init__, 0
def counting(*arguments):
    global count
    count += 1
    make(*arguments)
CodeLibrary.__init__ = counting
"""

# What is imported before, and what is timed.
IMPORTS = {
    "numba": ("", "import numba"),
    "numbaconv after numba": ("import numba", "import numbaconv"),
    "conv2d after numba": ("import numba", "import numbaconv; numbaconv.conv2d"),
}
IMPORT = """
import time
{before}
begin = time.process_time()
{what}
print(time.process_time() - begin)
"""


version = "2"


def run(code: str, **variables: str) -> list[float]:
    """Run code in a process of its own; return the numbers that it prints."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env=os.environ | variables, capture_output=True, text=True, check=True
    )
    return [float(number) for number in done.stdout.split()]


class Import:
    """Import of Numba; of the package after it; and with what a public name imports."""

    unit = "CPU seconds"
    param_names = ("what",)
    params = tuple(IMPORTS)

    def track_import(self, what: str) -> float:
        """Take the least of five."""
        before, timed = IMPORTS[what]
        return min(run(IMPORT.format(before=before, what=timed))[0] for _ in range(5))


class FirstCall:
    """The first call of a process, after the import."""

    unit = "CPU seconds"
    timeout = 600
    param_names = ("problem", "kernels", "dtype")
    params = (FEW, SOURCES, DTYPES)

    def setup_cache(self) -> str:
        """Build kernels in a copy of the package, if this commit can; return where it is."""
        import numbaconv

        here, package = Path.cwd(), Path(numbaconv.__file__).parent
        shutil.copytree(package, here / "numbaconv")
        if (package / "built_ahead").exists():
            folder = str(here / "numbaconv" / "built_ahead")
            code = "import sys; from pathlib import Path; from numbaconv.built_ahead import build;"
            code += "build.build(['host'], Path(sys.argv[1]))"
            environment = os.environ | {"PYTHONPATH": str(here)}
            subprocess.run([sys.executable, "-c", code, folder], env=environment, check=True)
        return str(here)

    setup_cache.timeout = 600

    def track_first_call(self, copy: str, problem: str, kernels: str, dtype: str) -> float:
        """Call once."""
        code = FIRST_CALL.format(problem=PROBLEMS[problem], dtype=dtype)
        with tempfile.TemporaryDirectory() as cache:
            variables = {"NUMBA_CACHE_DIR": cache, "NUMBACONV_BUILT_AHEAD": "0"}
            if kernels == "built ahead":
                if not Path(copy, "numbaconv", "built_ahead", "host.zip").exists():
                    raise SkipNotImplemented("this commit builds none")
                variables |= {"PYTHONPATH": copy, "NUMBACONV_BUILT_AHEAD": "1"}
            elif kernels == "cached":
                run(code, **variables)
            return run(code, **variables)[0]


class Compiled:
    """How much is compiled for a first call."""

    timeout = 600
    param_names = ("problem", "dtype")
    params = (FEW, DTYPES)

    def track_functions(self, problem: str, dtype: str) -> float:
        """Count what Numba makes of functions, helpers among them."""
        code = COUNT + FIRST_CALL.format(problem=PROBLEMS[problem], dtype=dtype) + "print(count)"
        with tempfile.TemporaryDirectory() as cache:
            return run(code, NUMBA_CACHE_DIR=cache, NUMBACONV_BUILT_AHEAD="0")[-1]

    track_functions.unit = "functions"

    def track_bytes(self, problem: str, dtype: str) -> float:
        """Add up the kernels in the cache."""
        code = FIRST_CALL.format(problem=PROBLEMS[problem], dtype=dtype)
        with tempfile.TemporaryDirectory() as cache:
            run(code, NUMBA_CACHE_DIR=cache, NUMBACONV_BUILT_AHEAD="0")
            return float(sum(p.stat().st_size for p in Path(cache).rglob("*") if p.is_file()))

    track_bytes.unit = "bytes"
