"""The tests marked `target`, run again as other machines would run them.

Numba compiles for the CPU that the environment names: lanes and register blocks must follow. Each
run is a process of its own with a cache directory of its own.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT

TARGETS: dict[str, dict[str, str]] = {
    "one_thread": {"NUMBA_NUM_THREADS": "1"},
}
if platform.machine() in ("x86_64", "AMD64"):
    # With no features beside the name: Numba would otherwise add the host's, AVX-512 among them.
    TARGETS |= {
        "haswell": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ""},
        "generic": {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
    }
FILES = ("conv", "gradients", "inside", "inside_transposed", "long_runs", "patches", "properties")


def passed(report: str) -> int:
    """The number of tests that pytest's last line counts as passed."""
    return int(report.strip().splitlines()[-1].partition(" passed")[0].split()[-1])


@pytest.mark.parametrize("target", TARGETS)
def test_target(target: str, run_script: Any, tmp_path: Path):
    done = run_script(
        *("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "target"),
        *(str(ROOT / "tests" / f"test_{name}.py") for name in FILES),
        NUMBA_CACHE_DIR=str(tmp_path),
        **TARGETS[target],
    )
    assert passed(done.stdout) > 1000


@pytest.mark.parametrize("target", TARGETS)
def test_target_is_the_one_compiled_for(target: str, run_script: Any):
    """What `test_target` runs is another machine's code, not this one's again."""
    code = """
import numba
from numba.core.registry import cpu_target
print(cpu_target.target_context.codegen()._tm_features.count("+avx512") > 0)
print(numba.config.NUMBA_NUM_THREADS)
import numbaconv
numbaconv.show_config()
"""
    avx512, threads, *config = run_script("-c", code, **TARGETS[target]).stdout.splitlines()
    if target == "one_thread":
        assert threads == "1"
    else:
        assert avx512 == "False"
        assert target in "\n".join(config)


def test_without_the_compiler(run_script: Any, tmp_path: Path):
    """Interpreted, the same few results; what an intrinsic alone can do may be refused by name."""
    done = run_script(
        *("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "nojit"),
        *(str(ROOT / "tests" / f"test_{name}.py") for name in ("conv", "patches", "gradients")),
        NUMBA_DISABLE_JIT="1",
        NUMBA_CACHE_DIR=str(tmp_path),
    )
    assert passed(done.stdout) > 20
