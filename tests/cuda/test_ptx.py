"""The kernels as machine code, without a GPU: compiled ahead for three generations of them.

    python -m pytest tests/cuda/test_ptx.py

What is read there cannot be seen in a result: that the sums stay in registers, that loads are wide
and the multiplications the ones that were meant. The binaries are those that a launch loads;
`nvdisasm` (``nvidia-cuda-nvdisasm``, or a toolkit on the path) shows their machine code.
NUMBACONV_PTX=all compiles every kind for each capability. What a step costs is printed by

    python -m tests.cuda.test_ptx
"""

from __future__ import annotations

import importlib.util
import math
import os
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from tests.cuda.installed import require_compilers

require_compilers()

from numbaconv.cuda import (  # noqa: E402 (what it takes is here)
    cost,
    filters,
    gemm_multiply,
    tiles,
    winograd_passes,
)
from numbaconv.cuda.convolution import (  # noqa: E402
    filter_gradient_kernel,
    filter_kernel,
    product_kernel,
    second_pass,
)
from numbaconv.cuda.filter_gradients import FilterGradient  # noqa: E402
from numbaconv.cuda.kernels import (  # noqa: E402
    Kernel,
    Source,
    find_features,
    to_cubin,
    to_ptx,
)
from numbaconv.cuda.kind import Kind  # noqa: E402
from numbaconv.cuda.memory import move_kernel  # noqa: E402
from numbaconv.cuda.toolkit import WGMMA_CAPABILITY  # noqa: E402
from tests.cuda.executed import compilation  # noqa: E402
from tests.cuda.executed.memory import FaultError  # noqa: E402

CAPABILITIES = ((7, 5), (8, 0), (9, 0))
REGISTERS = 65536  # of a multiprocessor
EVERYTHING = os.environ.get("NUMBACONV_PTX") == "all"


def find_tool(name: str) -> str | None:
    """Path of a tool of the toolkit, from its wheel or the path."""
    spec = importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations or () if spec else ():
        for path in Path(folder).glob(f"*/bin/{name}"):
            return str(path)
    return shutil.which(name)


NVDISASM = find_tool("nvdisasm")


class Compiled(NamedTuple):
    """A kernel's PTX, what the machine code takes, and that code where it can be read."""

    ptx: str
    takes: compilation.Resources
    code: str = ""

    def count(self, pattern: str) -> int:
        return len(re.findall(pattern, self.ptx))


def compile_kernel(kernel: Kernel, capability: tuple[int, int], folder: Path) -> Compiled:
    """Compile a kernel as a launch does, from PTX that may be kept from an earlier run."""
    ptx = compilation.ptx_of(kernel, capability)
    cubin = to_cubin(ptx, capability)
    takes = compilation.resources_of(cubin)
    if NVDISASM is None:
        return Compiled(ptx, takes)
    binary = folder / "kernel.cubin"
    binary.write_bytes(cubin)
    read = subprocess.run([NVDISASM, "-c", str(binary)], capture_output=True, text=True)
    assert read.returncode == 0, read.stderr
    return Compiled(ptx, takes, read.stdout)


@pytest.fixture(autouse=True)
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numba asks the driver for a capability when a device function is called."""
    device = SimpleNamespace(compute_capability=(9, 0))
    monkeypatch.setattr("numba.cuda.dispatcher.get_current_device", lambda: device)


def check_registers(compiled: Compiled, source: Source) -> None:
    """Nothing is in local memory, and as many blocks fit as are meant to."""
    assert "__local_depot" not in compiled.ptx  # no array left without registers
    assert compiled.count(r"\b(ld|st)\.local") == 0
    assert compiled.count(r"\bld\.(f|u|s|b)\d+") == 0  # every load says from where
    assert compiled.takes.local_bytes == 0  # and nothing was spilled
    assert not re.search(r"\b(LDL|STL)\b", compiled.code)
    assert compiled.takes.registers > 16
    assert compiled.takes.registers * source.threads * source.blocks <= REGISTERS


# wide, mapped, of_weights: a gradient of weights is of zero padding, channels first; mapped only
# for kernels of many taps.
OPTIONS = (
    (False, False, False),
    (False, True, False),
    (True, False, False),
    (True, True, False),
    (False, False, True),
    (False, True, True),
)


def kinds() -> list[Kind]:
    """What kernels there are: all, or every tile and every option at least once."""
    if EVERYTHING:
        return [
            Kind(tile, dtype, wide=wide, mapped=mapped, partial=partial, of_weights=of_weights)
            for dtype, group in tiles.TILES.items()
            for tile in (*group, *tiles.GROUPED * (group is tiles.TENSOR))
            for wide, mapped, of_weights in OPTIONS
            for partial in (False, True)
        ]
    return [
        *(Kind(tile, "float32", wide=i % 2 == 1) for i, tile in enumerate(tiles.SIMT)),
        Kind(tiles.SIMT[0], "float32", mapped=True),
        *(Kind(tile, "float64", partial=True) for tile in tiles.SIMT_DOUBLE),
        *(Kind(tile, "float16", wide=i % 2 == 1) for i, tile in enumerate(tiles.TENSOR[1:])),
        *(Kind(tile, "float16", mapped=True) for tile in tiles.TENSOR[4:]),
        *(Kind(tile, "tf32", wide=i % 2 == 0) for i, tile in enumerate(tiles.TENSOR[1:4])),
        Kind(tiles.SIMT[1], "int32"),
        *(
            Kind(tile, "float32", partial=i % 2 == 0, of_weights=True)
            for i, tile in enumerate(tiles.SIMT)
        ),
        Kind(tiles.SIMT[1], "float32", mapped=True, of_weights=True),
        Kind(tiles.SIMT_DOUBLE[0], "float64", of_weights=True),
        Kind(tiles.SIMT_DOUBLE[-1], "int64", of_weights=True),
        *(
            Kind(tile, ("tf32", "float16")[i % 2], partial=True, of_weights=True)
            for i, tile in enumerate(tiles.TENSOR[1:])
        ),
        Kind(tiles.TENSOR[0], "float16", wide=True),
        Kind(tiles.TENSOR[0], "tf32", partial=True),
        Kind(tiles.TENSOR[0], "float16", of_weights=True),
        *(
            Kind(tile, ("float16", "tf32")[i % 2], wide=True, partial=i % 4 < 2)
            for i, tile in enumerate(tiles.GROUPED)
        ),
        Kind(tiles.GROUPED[0], "tf32", wide=True, partial=True),
        *(
            Kind(tile, ("float16", "tf32")[i % 2], wide=True, mapped=True)
            for i, tile in enumerate(tiles.GROUPED[2:])
        ),
    ]


def name_of(kind: Kind) -> str:
    tile = "x".join(map(str, kind.tile[:5]))
    options = ("wide", "mapped", "partial", "of_weights")
    flags = "".join(f"-{flag}" for flag in options if getattr(kind, flag))
    return f"{kind.dtype}-{tile}{flags}"


def capabilities(index: int) -> tuple[tuple[int, int], ...]:
    """All of them, or one after the other."""
    return CAPABILITIES if EVERYTHING else (CAPABILITIES[index % len(CAPABILITIES)],)


CASES = [
    pytest.param(kind, capability, id=f"{name_of(kind)}-sm{capability[0]}{capability[1]}")
    for index, kind in enumerate(kinds())
    for capability in ((WGMMA_CAPABILITY,) if kind.tile.together > 1 else capabilities(index))
    if kind.fits and (kind.dtype != "tf32" or capability >= (8, 0))
]


class Step(NamedTuple):
    """The machine code of one step along K, as names of instructions."""

    before: list[str]
    multiplying: list[str]
    after: list[str]
    rounds: int

    @property
    def executed(self) -> int:
        """Instructions of a thread that takes every one."""
        return len(self.before) + len(self.after) + self.rounds * len(self.multiplying)

    def count(self, *names: str) -> int:
        """Instructions of some names among them."""
        once, often = (*self.before, *self.after), self.multiplying
        return sum(once.count(name) + self.rounds * often.count(name) for name in names)

    @property
    def multiplications(self) -> int:
        return self.count("FFMA", "HMMA", "HGMMA", "DFMA")


def find_step(code: str, kind: Kind) -> Step:
    """The innermost loop, or straight code, that multiplies, inside the loop over the steps."""
    names, targets, labels = [], [], {}
    for line in code.splitlines():
        label = re.match(r"\s*(\.L_x_\d+):", line)
        instruction = re.match(r"\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9]+)(.*)", line)
        if label:
            labels[label[1]] = len(names)
        elif instruction:
            names.append(instruction[1])
            target = re.search(r"BRA.*`\((\.L_x_\d+)\)", instruction[0])
            targets.append(target[1] if target else None)
    math = {"FFMA", "HMMA", "HGMMA", "DFMA"}
    loops = [
        (labels[target], i + 1)
        for i, target in enumerate(targets)
        if target in labels and labels[target] < i
    ]
    first, last = min(
        (
            loop
            for loop in loops
            if "LDG" in names[slice(*loop)]
            and "BAR" in names[slice(*loop)]
            and math & set(names[slice(*loop)])
        ),
        key=lambda loop: loop[0],
    )
    inner = [(a, b) for a, b in loops if first < a and b < last and math & set(names[a:b])]
    if inner:
        a, b = inner[0]
        rounds = kind.tile.bk // gemm_multiply.rows_unrolled(kind)
    else:
        where = [i for i in range(first, last) if names[i] in math]
        a, b, rounds = where[0], where[-1] + 1, 1
    return Step(names[first:a], names[a:b], names[b:last], rounds)


def copies_of(kind: Kind) -> int:
    """Asynchronous copies of a thread in a step, each without a register between."""
    if not kind.of_weights:
        return kind.weight_rounds + kind.patch_rounds * (1 if kind.wide else kind.lanes)
    together = kind.tile.threads // kind.tile.bk
    return sum(-(-size // together) for size in (kind.tile.bm, kind.tile.bn))


def check_copies(step: Step, kind: Kind) -> None:
    """The next tiles are copied as they lie, before these are multiplied."""
    assert step.count("STS") == 0
    assert "LDGSTS" not in (*step.multiplying, *step.after)
    if not kind.mapped:
        assert step.before.count("LDGSTS") == copies_of(kind)


def check_copies_beside(step: Step, kind: Kind) -> None:
    """The next tiles are copied while these are multiplied, by warpgroups that then wait."""
    assert step.multiplications == kind.tile.bk // 8 * kind.tile.m // 16
    assert step.count("STS") == (kind.patch_rounds if kind.rounded else 0)
    assert "LDGSTS" not in (*step.before, *step.multiplying)
    if not kind.mapped:
        assert step.after.count("LDGSTS") == copies_of(kind)
        copied = len(step.after) - step.after[::-1].index("LDGSTS")
        assert "WARPGROUP" not in step.after[:copied]
        assert step.after[copied:].count("WARPGROUP") == 1


def check_overlap(compiled: Compiled, kind: Kind) -> None:
    """The next tiles are loaded before these are multiplied, and stored after that.

    Not where a thread has so few sums that the compiler unrolls all of the step: there the
    assembler loads late, and other blocks on the multiprocessor have to hide it.
    """
    large = kind.tile.tensor or kind.tile.m * kind.tile.n >= 32
    if compiled.code and large and not kind.dtype.startswith("int"):
        step = find_step(compiled.code, kind)
        if kind.tile.together > 1:
            check_copies_beside(step, kind)
        elif kind.asynchronous:
            check_copies(step, kind)
        else:
            assert "LDG" in step.before
            assert "LDG" not in (*step.multiplying, *step.after)
            assert "STS" in step.after
            assert "STS" not in (*step.before, *step.multiplying)
        if not kind.mapped:  # what the choice of a tile is made with
            assert abs(cost.instructions(kind) / step.executed - 1) < 0.2


@pytest.mark.parametrize(("kind", "capability"), CASES)
def test_product(kind: Kind, capability: tuple[int, int], tmp_path: Path):
    kind = kind._replace(turing=capability < (8, 0))
    kernel = product_kernel(kind)
    compiled = compile_kernel(kernel, capability, tmp_path)
    check_registers(compiled, kernel.source)
    check_overlap(compiled, kind)
    assert compiled.count(r"ld\.global\.v[24]") > 0
    assert (compiled.count(r"cp\.async\.c[ag]") > 0) == kind.asynchronous
    if kind.tile.together > 1:
        check_warpgroups(compiled, kind)
    elif kind.tile.tensor:
        tile = kind.tile
        steps = (tile.m // 16) * (tile.n // 8) * (1 + kind.turing * (kind.dtype == "float16"))
        assert compiled.count(r"mma\.sync") % steps == 0
        assert compiled.count(r"mma\.sync") >= steps
        assert compiled.count(r"ldmatrix") > 0
        by_vectors = not kind.of_weights and not kind.asynchronous
        assert (compiled.count(r"st\.shared\.v4") > 0) == by_vectors
    else:
        assert compiled.count(r"ld\.shared\.v[24]") >= (kind.tile.m + kind.tile.n) // kind.words
        if kind.dtype.startswith("float"):
            bits = 32 if kind.dtype == "float32" else 64
            assert compiled.count(rf"fma\.rn\.f{bits}") >= kind.tile.m * kind.tile.n
    if kind.dtype in ("float32", "tf32", "float16"):
        assert compiled.count(r"\.f64") == 0  # nothing is widened on the way


def check_warpgroups(compiled: Compiled, kind: Kind) -> None:
    """The tensor cores read both tiles themselves, of what is fenced from them once a step."""
    assert compiled.count(r"(?m)^\.target sm_90a$") == 1
    shape = rf"m64n{kind.tile.n}k{kind.depth * 8 // kind.tile.bk}\.f32"
    products = kind.tile.bk // 8 * kind.tile.m // 16
    assert compiled.count(rf"wgmma\.mma_async\.sync\.aligned\.{shape}") == products
    assert compiled.count(r"fence\.proxy\.async") == 1
    assert compiled.count(r"ldmatrix|mma\.sync") == 0
    assert compiled.count(rf"\.shared \.align {kind.alignment} ") == 1


# Kernels of the largest tiles, and how many instructions their threads execute in a step at most.
# One copy or address more for each element would exceed any of them.
STEPS = (
    (Kind(tiles.SIMT[0], "float32"), 599),
    (Kind(tiles.SIMT[0], "float32", wide=True), 604),
    (Kind(tiles.SIMT[0], "float32", of_weights=True), 654),
    (Kind(tiles.TENSOR[1], "tf32"), 193),
    (Kind(tiles.TENSOR[1], "tf32", wide=True), 124),
    (Kind(tiles.TENSOR[1], "float16"), 170),
    (Kind(tiles.TENSOR[1], "float16", wide=True), 90),
    (Kind(tiles.TENSOR[0], "tf32", wide=True), 113),
    (Kind(tiles.TENSOR[0], "float16", wide=True), 80),
    (Kind(tiles.GROUPED[0], "tf32", wide=True), 103),
    (Kind(tiles.GROUPED[0], "float16", wide=True), 71),
    (Kind(tiles.GROUPED[2], "tf32", wide=True), 93),
    (Kind(tiles.GROUPED[2], "float16", wide=True), 61),
)


@pytest.mark.skipif(NVDISASM is None, reason="nvdisasm is not installed")
@pytest.mark.parametrize(
    ("kind", "most"), STEPS, ids=lambda x: name_of(x) if isinstance(x, Kind) else ""
)
def test_instructions_of_a_step(kind: Kind, most: int, tmp_path: Path):
    kernel = product_kernel(kind)
    compiled = compile_kernel(kernel, (9, 0), tmp_path)
    check_registers(compiled, kernel.source)
    check_overlap(compiled, kind)
    step = find_step(compiled.code, kind)
    assert step.executed <= most
    if kind.dtype == "float32":
        assert step.multiplications >= 0.78 * step.executed


# A thread of these has the most sums, and half of a multiprocessor's registers or a quarter for its
# block: what one more number spills. The assembler of each capability cuts them in its own way.
TIGHT = [
    Kind(tile, "float32", **{option: True} if option else {})
    for tile in tiles.SIMT[:2]
    for option in ("", "wide", "of_weights")
]


@pytest.mark.always
@pytest.mark.parametrize("kind", TIGHT, ids=name_of)
def test_nothing_is_spilled(kind: Kind, tmp_path: Path):
    kernel = product_kernel(kind)
    for capability in CAPABILITIES[1:]:
        check_registers(compile_kernel(kernel, capability, tmp_path), kernel.source)
    if not kind.wide:  # which 7.5 has no other way for
        kernel = product_kernel(kind._replace(turing=True))
        check_registers(compile_kernel(kernel, CAPABILITIES[0], tmp_path), kernel.source)


@pytest.mark.always
def test_ptx_for_two_capabilities_differs_in_its_target_alone():
    source = product_kernel(Kind(tiles.SIMT[-1], "float32")).source
    ampere, hopper = (to_ptx(source, capability) for capability in CAPABILITIES[1:])
    # Numba counts its functions, and names them by their numbers.
    hopper, ampere = (re.sub(r"_ZN\w+|smem_\d+", "", ptx) for ptx in (hopper, ampere))
    assert compilation.retargeted(hopper, (8, 0)) == ampere


@pytest.mark.always
def test_a_kernel_of_one_capability_is_for_no_other():
    kernel = product_kernel(Kind(tiles.GROUPED[-1], "float16", wide=True))
    ptx = compilation.ptx_of(kernel, WGMMA_CAPABILITY)
    assert find_features(ptx) == kernel.source.features == "a"
    with pytest.raises(FaultError, match="alone"):
        compilation.ptx_of(kernel, (8, 0))
    with pytest.raises(Exception, match=r"(?i)ptx"):
        to_cubin(ptx, (10, 0))


def test_buffers_fit():
    for dtype, group in tiles.TILES.items():
        for tile in (*group, *tiles.GROUPED * (group is tiles.TENSOR)):
            for wide, mapped, of_weights in OPTIONS:
                kind = Kind(tile, dtype, wide=wide, mapped=mapped, of_weights=of_weights)
                each = tile.shared_bytes(int(kind.shared.bitwidth) // 8)
                assert kind.stages * each <= tiles.SHARED_BYTES
                assert kind.stages >= 3 if kind.asynchronous else kind.stages == 2
                # As many as the registers are cut for fit, each with a KiB of the system's own.
                assert kind.blocks * (kind.stages * each + 1024) <= cost.SHARED_BYTES[9]
                assert kind._replace(turing=True).stages == 2


FILTERS = [
    filters.Filter("float32", 1, 3, False),
    filters.Filter("float16", 2, 3, False),
    filters.Filter("float32", 1, 1, True),
    filters.Filter("float64", 0, 0, False),
]


def check_sums(compiled: Compiled, dtype: str, vectors: bool, products: int) -> None:
    """Tiles are read in vectors, and nothing is widened on the way."""
    assert (compiled.count(r"ld\.shared\.v[24]") > 0) == vectors
    bits = 64 if dtype == "float64" else 32
    assert compiled.count(rf"fma\.rn\.f{bits}") >= products
    if dtype != "float64":
        assert compiled.count(r"\.f64") == 0


@pytest.mark.parametrize("kind", FILTERS, ids=str)
def test_filter(kind: filters.Filter, tmp_path: Path):
    capability = CAPABILITIES[FILTERS.index(kind) % len(CAPABILITIES)]
    kernel = filter_kernel(kind)
    compiled = compile_kernel(kernel, capability, tmp_path)
    check_registers(compiled, kernel.source)
    check_sums(compiled, kind.dtype, kind.stride > 0, filters.PATCH**2 * max(kind.rest, 1))


FILTER_GRADIENTS = [
    FilterGradient("float32", 3, 3, (1, 1), False),
    FilterGradient("float16", 3, 3, (2, 2), True),
    FilterGradient("float32", 7, 7, (1, 1), True),
    FilterGradient("float64", 5, 5, (1, 1), False),
    FilterGradient("float32", 1, 31, (0, 0), True),
]


@pytest.mark.parametrize("kind", FILTER_GRADIENTS, ids=str)
def test_filter_gradient(kind: FilterGradient, tmp_path: Path):
    capability = CAPABILITIES[FILTER_GRADIENTS.index(kind) % len(CAPABILITIES)]
    kernel = filter_gradient_kernel(kind)
    compiled = compile_kernel(kernel, capability, tmp_path)
    check_registers(compiled, kernel.source)
    at_once = filters.PATCH**2 if kind.stride[1] else 1
    check_sums(compiled, kind.dtype, kind.stride[1] > 0, at_once * kind.rows * kind.taps)


@pytest.mark.parametrize(
    ("source", "target"), [("float32", "float32"), ("uint8", "float16"), ("float16", "float32")]
)
def test_move(source: str, target: str, tmp_path: Path):
    kernel = move_kernel(source, target)
    check_registers(compile_kernel(kernel, (9, 0), tmp_path), kernel.source)


@pytest.mark.parametrize("outputs", [(2, 2), (4, 4), (1, 2)], ids=str)
def test_passes_of_winograd(outputs: tuple[int, int], tmp_path: Path):
    """Every value is loaded once and stored once, all of a tile in registers."""
    m = outputs[1]
    inputs = math.prod(n + 2 if n > 1 else 1 for n in outputs)
    taps, results = (9 if outputs[0] > 1 else 3), math.prod(outputs)
    for kernel, loads, stores in (
        (winograd_passes.evaluate_kernel(outputs), inputs, inputs),
        (winograd_passes.evaluate_taps_kernel(outputs), taps, inputs),
        (winograd_passes.interpolate_kernel(outputs), inputs + 1, results if m == 2 else 1),
    ):
        for capability in CAPABILITIES:
            compiled = compile_kernel(kernel, capability, tmp_path)
            check_registers(compiled, kernel.source)
            assert compiled.count(r"ld\.global\.f32") >= loads
            assert compiled.count(r"st\.global\.f32") >= stores
            assert compiled.count(r"\.f64") == 0


def test_second_pass(tmp_path: Path):
    kernel = second_pass("float16")
    check_registers(compile_kernel(kernel, (8, 0), tmp_path), kernel.source)


def report() -> None:
    """Print what a step of the largest tiles costs."""
    import tempfile

    cuda_dispatcher = importlib.import_module("numba.cuda.dispatcher")
    cuda_dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=(9, 0))
    print("kernel, capability: registers, and instructions of a step by what they do")
    for kind, _ in STEPS:
        with tempfile.TemporaryDirectory() as folder:
            compiled = compile_kernel(product_kernel(kind), (9, 0), Path(folder))
        step = find_step(compiled.code, kind)
        share = step.multiplications / step.executed
        reads, moves = step.count("LDS", "LDSM"), step.count("LDG", "LDGSTS", "STS")
        rest = step.executed - step.multiplications - reads - moves
        print(
            f"{name_of(kind):40} 9.0: {compiled.takes.registers:4} registers, {step.executed:4} "
            f"instructions: {step.multiplications} multiply ({share:.0%}), {reads} read shared "
            f"memory, {moves} copy, {rest} others",
            flush=True,
        )


if __name__ == "__main__":
    report()
