"""Whether this environment has what compiles kernels without a GPU."""

from __future__ import annotations

import importlib.util
import os

import pytest


def require_compilers() -> None:
    """Skip the module that calls this where nothing can be compiled."""
    for package in ("numba_cuda", "cuda.bindings"):
        try:
            found = importlib.util.find_spec(package)
        except ModuleNotFoundError:
            found = None
        if found is None:
            pytest.skip(f"{package} is not installed", allow_module_level=True)
    if os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0"):
        pytest.skip("the simulator compiles nothing", allow_module_level=True)
