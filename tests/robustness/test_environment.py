"""Whatever the environment says: right, or one clear error."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import Script

# Both register tiles, of one dtype: little to compile.
CALLS = """
import numpy as np, numbaconv as nc
from tests.oracle import reference
from tests.oracle.cases import BY_NAME, integer_arrays
for name in ("batch_5", "depthwise_stride_2"):
    case = BY_NAME[name]
    arrays = integer_arrays(case)
    y = nc.conv(*arrays, **case.kwargs, backend="direct")
    assert np.array_equal(y, reference.conv_by_taps(*arrays, **case.kwargs)), name
"""
SMALL = """
import numpy as np, numbaconv as nc
y = nc.conv2d(np.ones((1, 1, 4, 4), "f4"), np.ones((1, 1, 3, 3), "f4"))
assert y.tolist() == [[[[9, 9], [9, 9]]]]
"""


@pytest.mark.parametrize("variable", ["NUMBA_BOUNDSCHECK=1", "NUMBA_OPT=0"])
@pytest.mark.stress
def test_compiler_options(variable: str, run_script: Script, tmp_path: Path):
    """Right under the option, and without it again: the kernels of one are not the other's."""
    name, value = variable.split("=")
    cache = {"NUMBA_CACHE_DIR": str(tmp_path)}
    run_script("-c", CALLS, **{name: value}, **cache)
    stored = {path: path.read_bytes() for path in tmp_path.rglob("*.nbc")}
    assert stored
    run_script("-c", SMALL, **cache)
    assert all(path.read_bytes() == content for path, content in stored.items())
    assert len(list(tmp_path.rglob("*.nbc"))) > len(stored)


def test_without_the_compiler(run_script: Script):
    run_script("-c", SMALL, NUMBA_DISABLE_JIT="1")


# A result of more than a megabyte, whose memory is kept for the next one.
LARGE = """
import numpy as np, numbaconv as nc
x, w = np.ones((1, 1, 700, 700), "f4"), np.ones((1, 1, 3, 3), "f4")
for _ in range(3):
    assert np.all(nc.conv2d(x, w) == 9)
    assert np.all(nc.grad.conv2d_input(x.shape, w, x[..., 2:, 2:])[..., 2:-2, 2:-2] == 9)
"""


@pytest.mark.parametrize("value", ["0", "1", "", "0005", "999999999999999999"])
def test_memory_to_keep(value: str, run_script: Script):
    run_script("-c", LARGE, NUMBACONV_KEEP_MB=value)


@pytest.mark.parametrize("value", ["-1", "1.5", "many", "1e3", " 1", "\u00b2", "9" * 5000])
def test_memory_to_keep_that_is_no_number(value: str, run_script: Script):
    with pytest.raises(AssertionError, match=r"ValueError: NUMBACONV_KEEP_MB must be a whole num"):
        run_script("-c", LARGE, NUMBACONV_KEEP_MB=value)


# What Numba itself refuses, and what only this package reads.
@pytest.mark.parametrize(
    ("variable", "error"),
    [
        ("NUMBA_NUM_THREADS=0", "ValueError.*threads"),
        ("NUMBA_NUM_THREADS=-1", "ValueError.*threads"),
        ("NUMBA_THREADING_LAYER=nonsense", "ValueError.*nonsense"),
        ("NUMBACONV_BACKEND=gpu", "ValueError.*NUMBACONV_BACKEND.*direct.*gpu"),
        ("NUMBACONV_BACKEND=direct im2col", "ValueError.*NUMBACONV_BACKEND"),
        ("NUMBACONV_BACKEND=cuda", "BackendUnavailableError.*NUMBACONV_BACKEND"),
    ],
)
def test_refused_with_one_clear_error(variable: str, error: str, run_script: Script):
    name, value = variable.split("=")
    code = LARGE if "LAYER" in name else SMALL  # on one thread no layer is needed
    with pytest.raises(AssertionError) as failure:
        run_script("-c", code, **{name: value})
    *_, last = failure.value.args[0].split("assert")[0].strip().splitlines()
    assert re.search(error, last), last


@pytest.mark.parametrize(
    "variable",
    [
        "NUMBACONV_BACKEND=",
        "NUMBACONV_BACKEND= Direct ",
        "NUMBACONV_BACKEND=IM2COL",
        "NUMBA_NUM_THREADS=1000",
    ],
)
def test_taken_as_it_is_meant(variable: str, run_script: Script):
    name, value = variable.split("=")
    run_script("-c", SMALL, **{name: value})


@pytest.mark.parametrize("value", ["many", ""])
def test_number_of_threads_that_is_no_number(value: str, run_script: Script):
    """Numba warns, once, and takes all cores."""
    done = run_script("-W", "default", "-c", SMALL, NUMBA_NUM_THREADS=value)
    assert done.stderr.count("RuntimeWarning") <= 1, done.stderr
