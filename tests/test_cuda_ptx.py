"""The kernels as machine code, without a GPU: compiled ahead for three generations of them.

    python -m pytest tests/test_cuda_ptx.py

What is read there cannot be seen in a result: that the sums stay in registers, that loads are wide
and the multiplications the ones that were meant. `ptxas` comes from a wheel (``nvidia-cuda-nvcc``)
or a toolkit on the path. NUMBACONV_PTX=all compiles every kind for each capability.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

for package in ("numba_cuda", "cuda.bindings"):
    try:
        found = importlib.util.find_spec(package)
    except ModuleNotFoundError:
        found = None
    if found is None:
        pytest.skip(f"{package} is not installed", allow_module_level=True)
if os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0"):
    pytest.skip("the simulator compiles nothing", allow_module_level=True)

from numba import cuda, types  # noqa: E402 (what it takes is here)

from numbaconv.backends.cuda import filters, gemm, passes, tiles  # noqa: E402
from numbaconv.backends.cuda.kind import Kind  # noqa: E402

CAPABILITIES = ((7, 5), (8, 0), (9, 0))
REGISTERS = 65536  # of a multiprocessor
EVERYTHING = os.environ.get("NUMBACONV_PTX") == "all"


def find_ptxas() -> str | None:
    """Path of the assembler, from its wheel or the path."""
    spec = importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations or () if spec else ():
        for path in Path(folder).glob("*/bin/ptxas"):
            return str(path)
    return shutil.which("ptxas")


PTXAS = find_ptxas()


class Compiled(NamedTuple):
    """A kernel's PTX, and what the assembler says of it."""

    ptx: str
    report: str

    def count(self, pattern: str) -> int:
        return len(re.findall(pattern, self.ptx))

    @property
    def registers(self) -> int:
        return int(re.search(r"Used (\d+) registers", self.report)[1])


def compile_kernel(
    kernel: Any, arguments: int, capability: tuple[int, int], bounds: Any, folder: Path
) -> Compiled:
    signature = types.void(*(types.int64,) * arguments)
    ptx, _ = cuda.compile(
        kernel.py_func,
        signature,
        device=False,
        cc=capability,
        abi="numba",
        launch_bounds=bounds,
    )
    if PTXAS is None:
        return Compiled(ptx, "")
    source = folder / "kernel.ptx"
    source.write_text(ptx)
    command = [PTXAS, "-v", f"-arch=sm_{capability[0]}{capability[1]}", str(source)]
    done = subprocess.run(
        [*command, "-o", str(folder / "kernel.cubin")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return Compiled(ptx, done.stderr)


@pytest.fixture(autouse=True)
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numba asks the driver for a capability when a device function is called."""
    device = SimpleNamespace(compute_capability=(9, 0))
    monkeypatch.setattr("numba.cuda.dispatcher.get_current_device", lambda: device)


def check_registers(compiled: Compiled, threads: int, blocks: int) -> None:
    assert "__local_depot" not in compiled.ptx  # no array left without registers
    assert compiled.count(r"\b(ld|st)\.local") == 0
    assert compiled.count(r"\bld\.(f|u|s|b)\d+") == 0  # every load says from where
    if not compiled.report:
        return
    assert "0 bytes spill stores, 0 bytes spill loads" in compiled.report
    assert compiled.registers * threads * blocks <= REGISTERS


def kinds() -> list[Kind]:
    """What kernels there are: all, or every tile and every option at least once."""
    groups = {
        "float32": tiles.SIMT,
        "int32": tiles.SIMT,
        "float64": tiles.SIMT_DOUBLE,
        "int64": tiles.SIMT_DOUBLE,
        "tf32": tiles.TENSOR,
        "float16": tiles.TENSOR,
    }
    if EVERYTHING:
        return [
            Kind(tile, dtype, wide=wide, mapped=mapped, partial=partial)
            for dtype, group in groups.items()
            for tile in group
            for wide in (False, True)
            for mapped in (False, True)
            for partial in (False, True)
        ]
    return [
        *(Kind(tile, "float32", wide=i % 2 == 1) for i, tile in enumerate(tiles.SIMT)),
        Kind(tiles.SIMT[0], "float32", mapped=True),
        *(Kind(tile, "float64", partial=True) for tile in tiles.SIMT_DOUBLE),
        *(Kind(tile, "float16", wide=i % 2 == 1) for i, tile in enumerate(tiles.TENSOR)),
        *(Kind(tile, "tf32", wide=i % 2 == 0) for i, tile in enumerate(tiles.TENSOR[:3])),
        Kind(tiles.SIMT[1], "int32"),
    ]


def name_of(kind: Kind) -> str:
    tile = "x".join(map(str, kind.tile[:5]))
    flags = "".join(f"-{flag}" for flag in ("wide", "mapped", "partial") if getattr(kind, flag))
    return f"{kind.dtype}-{tile}{flags}"


def capabilities(index: int) -> tuple[tuple[int, int], ...]:
    """All of them, or one after the other."""
    return CAPABILITIES if EVERYTHING else (CAPABILITIES[index % len(CAPABILITIES)],)


CASES = [
    pytest.param(kind, capability, id=f"{name_of(kind)}-sm{capability[0]}{capability[1]}")
    for index, kind in enumerate(kinds())
    for capability in capabilities(index)
    if kind.dtype != "tf32" or capability >= (8, 0)
]


@pytest.mark.parametrize(("kind", "capability"), CASES)
def test_product(kind: Kind, capability: tuple[int, int], tmp_path: Path):
    kind = kind._replace(narrow=capability < (8, 0))
    threads = kind.tile.threads
    kernel = gemm.make_kernel(kind)
    compiled = compile_kernel(kernel, 5, capability, (threads, kind.blocks), tmp_path)
    check_registers(compiled, threads, kind.blocks)
    assert compiled.count(r"ld\.global\.v[24]") > 0
    if kind.tile.tensor:
        tile = kind.tile
        steps = (tile.m // 16) * (tile.n // 8) * (1 + kind.narrow * (kind.dtype == "float16"))
        assert compiled.count(r"mma\.sync") % steps == 0
        assert compiled.count(r"mma\.sync") >= steps
        assert compiled.count(r"ldmatrix") > 0
        assert compiled.count(r"st\.shared\.v4") > 0
    else:
        assert compiled.count(r"ld\.shared\.v[24]") >= (kind.tile.m + kind.tile.n) // kind.words
        if kind.dtype.startswith("float"):
            bits = 32 if kind.dtype == "float32" else 64
            assert compiled.count(rf"fma\.rn\.f{bits}") >= kind.tile.m * kind.tile.n
    if kind.dtype in ("float32", "tf32", "float16"):
        assert compiled.count(r"\.f64") == 0  # nothing is widened on the way


FILTERS = [("float32", True), ("float32", False), ("float16", True), ("float64", False)]


@pytest.mark.parametrize(("dtype", "unit"), FILTERS)
def test_filter(dtype: str, unit: bool, tmp_path: Path):
    capability = CAPABILITIES[FILTERS.index((dtype, unit)) % len(CAPABILITIES)]
    kernel = filters.make_kernel(filters.Filter(dtype, unit))
    compiled = compile_kernel(kernel, 5, capability, filters.MOST_THREADS, tmp_path)
    check_registers(compiled, filters.MOST_THREADS, 1)
    if unit:
        assert compiled.count(r"ld\.shared\.v4") > 0
    if dtype != "float64":
        assert compiled.count(r"fma\.rn\.f32") >= filters.PATCH**2
        assert compiled.count(r"\.f64") == 0


@pytest.mark.parametrize(
    ("source", "target"), [("float32", "float32"), ("uint8", "float16"), ("float16", "float32")]
)
def test_move(source: str, target: str, tmp_path: Path):
    compiled = compile_kernel(passes.make_move(source, target), 3, (9, 0), 256, tmp_path)
    check_registers(compiled, passes.THREADS, 2)


def test_second_pass(tmp_path: Path):
    compiled = compile_kernel(passes.make_second_pass("float16"), 5, (8, 0), 256, tmp_path)
    check_registers(compiled, passes.THREADS, 2)
