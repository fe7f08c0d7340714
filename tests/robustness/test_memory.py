"""Kernels touch no byte outside the arrays that they are given."""

from __future__ import annotations

import sys

import pytest

from tests.conftest import Script, other_targets, stress_targets
from tests.convolution.test_winograd import PROBLEMS

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="guard pages are made by Linux's mmap and mprotect"
)

GUARDED = ("-m", "tests.scripts.guarded")


@pytest.mark.slow
@pytest.mark.parametrize("target", ["host", *stress_targets()])
def test_guard_pages(backend: str, target: str, run_as: Script):
    done = run_as(target, *GUARDED, backend)
    assert "no access outside the arrays" in done.stdout


kinds = pytest.mark.parametrize("kind", [(), ("--gradients",)], ids=["forward", "gradients"])


@pytest.mark.slow
@kinds
def test_guard_pages_around_random_problems(
    kind: tuple[str, ...], backend: str, run_script: Script
):
    done = run_script(*GUARDED, backend, "--random", "60", *kind)
    assert "60 problems, no access outside the arrays" in done.stdout


@pytest.mark.slow
def test_guard_pages_around_minimal_filtering(run_script: Script):
    """Few of the problems that are drawn have kernels of 3 and stride 1."""
    code = """
from tests.convolution.test_winograd import PROBLEMS
from tests.oracle.cases import problem
from tests.scripts.guarded import check
for name, (x, w, options) in PROBLEMS.items():
    check(problem(name, x, w, **{"padding": 0, **options}), "float32", "winograd")
"""
    done = run_script("-c", code)
    assert done.stdout.count("ok") == 2 * len(PROBLEMS)


@pytest.mark.slow
@pytest.mark.parametrize("of", [(), ("--signal",)], ids=["ndimage", "signal"])
def test_guard_pages_around_filters(of: tuple[str, ...], run_script: Script):
    script = ("-W", "ignore", "-m", "tests.scripts.guarded_filters")
    done = run_script(*script, "--random", "150", *of)
    assert "150 filters, no access outside the arrays" in done.stdout


@pytest.mark.stress  # each call is compiled
@pytest.mark.parametrize("target", ["host", *other_targets()])
def test_guard_pages_around_filters_of_compiled_code(target: str, run_as: Script):
    script = ("-W", "ignore", "-m", "tests.scripts.guarded_filters")
    done = run_as(target, *script, "--compiled", "--random", "30", timeout=1200)
    assert "30 filters, no access outside the arrays" in done.stdout


@pytest.mark.stress
@pytest.mark.parametrize("target", ["host", *other_targets()])
@kinds
def test_guard_pages_around_many_random_problems(
    kind: tuple[str, ...], backend: str, target: str, run_as: Script
):
    done = run_as(target, *GUARDED, backend, "--random", "5000", *kind, timeout=3600)
    assert "5000 problems, no access outside the arrays" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", [(), ("--gradients",)], ids=["forward", "gradients"])
@pytest.mark.parametrize("target", ["host", *stress_targets()])
@pytest.mark.parametrize("count", ["20", pytest.param("3000", marks=pytest.mark.stress)])
def test_fuzz_between_guard_pages(kind: tuple[str, ...], target: str, count: str, run_as: Script):
    """Arrays of any layout and dtype, on all paths, and whatever else is allocated on the way."""
    fuzz = ("-m", "tests.scripts.fuzz", "--guarded", "--seed", "4")
    assert " 0 wrong" in run_as(target, *fuzz, "--count", count, *kind, timeout=7200).stdout


@pytest.mark.parametrize("memory", ["an array", "scratch"])
@pytest.mark.parametrize("at_end", [False, True], ids=["start", "end"])
def test_an_access_outside_is_noticed(memory: str, at_end: bool, run_script: Script):
    """The guards themselves work: one element too far ends the process."""
    code = f"""
import ctypes, numpy as np
from tests.robustness import guard_pages
guard_pages.install()
guard_pages.place({at_end})
array = np.empty(5)
scratch = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(guard_pages.library_malloc.address)(40)
first = array.ctypes.data if {memory!r} == "an array" else scratch
for inside in (0, 4):
    assert ctypes.c_double.from_address(first + 8 * inside).value != 0  # NaN
print("inside", flush=True)
ctypes.c_char.from_address(first + (40 if {at_end} else -1)).value
"""
    with pytest.raises(AssertionError, match=r"exit -\d+\s+inside"):
        run_script("-c", code)
