"""Kernels touch no byte outside the arrays that they are given."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from conftest import Script

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="guard pages are made by mprotect")

TARGETS = {
    "host": {},
    "haswell": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ""},
    "generic": {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
}


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_guard_pages(backend: str, target: str, run_script: Script, tmp_path: Path):
    done = run_script(
        str(Path(__file__).with_name("guarded.py")),
        backend,
        NUMBA_CACHE_DIR=str(tmp_path),
        **TARGETS[target],
    )
    assert "no access outside the arrays" in done.stdout
