"""For a fixed backend, an image's result has the same bits whatever is computed beside it."""

from __future__ import annotations

import pytest

from tests.conftest import Script

SCRIPT = ("-m", "tests.scripts.same_bits")


@pytest.mark.parametrize("count", ["6", pytest.param("2000", marks=pytest.mark.stress)])
def test_same_bits(count: str, run_script: Script):
    done = run_script(*SCRIPT, "--count", count, timeout=3600, NUMBA_NUM_THREADS="4")
    assert "on 4 threads: the same bits" in done.stdout
