"""The compiled kernels, executed without a GPU: some of each kind, and whether faults are found.

    python -m pytest tests/cuda/test_executed.py
    python -m tests.cuda.executed.run            # all of them

What is executed is the PTX that a launch compiles, instruction by instruction, by the host code as
it is (`tests/cuda/executed`). Compiling takes most of the time; the PTX is kept for the next run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cuda.installed import require_compilers

require_compilers()

from tests.cuda.executed import banks, mutants  # noqa: E402 (what it takes is here)
from tests.cuda.executed.cases import CASES  # noqa: E402
from tests.cuda.executed.device import Gpu, installed  # noqa: E402
from tests.cuda.executed.memory import FaultError  # noqa: E402

REDUCED = (
    mutants.FLOAT,
    mutants.WIDE,
    mutants.TF32,
    mutants.HALF,
    mutants.VALUES,
    mutants.FILTER,
    "kind float32 16x128x8x4x4 wide-mapped splits=3",
    "kind float64 32x64x8x4x2 mapped splits=1",
    "kind float16 128x256x8x64x64 wide splits=1",
    "kind int32 32x64x8x4x4 weights splits=3",
    "kind float16 128x384x8x32x128 wide splits=1",
    mutants.GROUPED,
    mutants.GROUPED_TF32,
    mutants.GROUPED_VALUES,
    "kind tf32 64x256x8x16x128 wide-mapped splits=3",
    "layer float16 64x256x8x16x128 ((2, 1, 16, 130), (13, 9), (3, 2)) splits=3",
    mutants.BROUGHT,
    "brought tf32 reflect",
    "winograd 2 image last=False",
    "winograd 2 groups last=True",
    "winograd 2 signal last=True",
    "winograd 4 valid last=False",
    "winograd 4 planes last=True",
    "winograd 2 backwards",
    "winograd 2 values",
    "winograd 4 values",
    "winograd parts last=False",
    "winograd parts last=True",
    "winograd second pass",
    "winograd transposition",
    "winograd layer",
    "winograd complex",
    "window (29,)",
    "window (30,)",
    "kind int64 16x128x8x4x2 wide splits=1",
    "kind float16 64x64x16x32x32 weights splits=1",
    "kind float16-turing 64x64x16x32x32 plain",
    "kind float32-turing 32x128x8x4x8 plain",
    "filter float16 stride=3 dilation=2 circular ((23, 19), (5, 4))",
    "filter float32 circular zeros",
    mutants.GRADIENT,
    "filter gradient float32 stride=2 dilation=1 (2, (23, 19), (5, 4))",
    "filter gradient int64 stride=1 dilation=1 (2, (150,), (25,))",
    "filter gradient infinite stride=1",
    "filter gradient infinite stride=3",
    "move float16 to float32",
    "move float16 to float16",
    "move uint8 to float16",
)


@pytest.fixture(scope="module", autouse=True)
def gpu() -> Iterator[Gpu]:
    with installed() as found:
        yield found


@pytest.mark.parametrize("name", REDUCED)
def test_equals_the_oracle(name: str):
    CASES[name]()


@pytest.mark.parametrize("form", [(56, 3, 1), (14, 3, 2)])
def test_a_filter_has_no_bank_conflicts(gpu: Gpu, monkeypatch: pytest.MonkeyPatch, form: Any):
    monkeypatch.setattr(gpu, "profile", True)
    found = [banks.measure_filter(*form, last) for last in (False, True)]
    for passes in (*found, banks.measure_filter_gradient(*form)):
        assert passes.pop("st.shared.f32") < 2
        assert set(passes.values()) == {1.0}


@pytest.mark.parametrize(("dtype", "tile", "option"), banks.PRODUCTS, ids=str)
def test_a_product_has_no_bank_conflicts(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch, dtype: str, tile: Any, option: str
):
    monkeypatch.setattr(gpu, "profile", True)
    found = banks.measure_product(dtype, tile, option)
    loops = ("cp.async", "ldmatrix", "wgmma", "ld.shared.v", "st.shared.v")
    for name, passes in found.items():
        assert passes == 1.0 or not name.startswith(loops)


def test_bringing_channels_together_has_no_bank_conflicts(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gpu, "profile", True)
    for dtype in ("uint16", "float32", "float64"):
        assert set(banks.measure_transposition(dtype).values()) == {1.0}


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.label)
def test_a_fault_is_found(mutant: mutants.Mutant):
    edited = []

    def edit(ptx: str) -> str:
        edited.append(mutant.edit(ptx))
        assert edited[-1] != ptx
        return edited[-1]

    with mutants.mutated(edit), pytest.raises((AssertionError, RuntimeError)) as found:
        CASES[mutant.case]()
    assert edited
    if found.type is not AssertionError:  # what a launch raised, whose error names the kernel
        assert isinstance(found.value.__cause__, FaultError)
