"""Kernels touch no byte outside the arrays that they are given."""

from __future__ import annotations

import sys

import pytest

from tests.conftest import Script, other_targets
from tests.convolution.test_winograd import PROBLEMS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="guard pages are made by mprotect")

GUARDED = ("-m", "tests.scripts.guarded")


@pytest.mark.slow
@pytest.mark.parametrize(
    "target", ["host", *(pytest.param(each, marks=pytest.mark.stress) for each in other_targets())]
)
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
def test_guard_pages_around_filters(run_script: Script):
    done = run_script("-W", "ignore", "-m", "tests.scripts.guarded_filters", "--random", "150")
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


@pytest.mark.parametrize("array", ["out", "workspace"])
def test_an_access_outside_is_noticed(array: str, run_script: Script):
    """The guards themselves work: one element too far ends the process."""
    code = f"""
import ctypes, numpy as np
from tests.scripts import guarded
if {array!r} == "out":
    y = guarded.guarded(np.zeros(5), at_end=True)
    address = y.ctypes.data
else:
    context = guarded.guarded_workspace(at_end=True)
    address = context.__enter__()(5 * 8)
ctypes.c_double.from_address(address + 4 * 8).value
print("inside", flush=True)
ctypes.c_double.from_address(address + 5 * 8).value
"""
    with pytest.raises(AssertionError, match=r"exit -\d+\s+inside"):
        run_script("-c", code)
