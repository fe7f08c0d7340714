"""Kernels with one instruction changed, each of which the interpreter must find."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from numbaconv.cuda.kernels import Kernel
from tests.cuda.executed import compilation

FLOAT = "kind float32 128x128x8x8x8 plain splits=1"
WIDE = "kind float32 128x128x8x8x8 wide splits=1"
NINE_STEPS = "values float32 last=False"  # in four buffers: the last step is in the first
TF32 = "kind tf32 128x128x16x64x32 plain splits=1"
HALF = "kind float16 128x128x16x64x32 wide splits=1"
GROUPED = "kind float16 128x256x8x16x256 wide splits=1"
GROUPED_TF32 = "kind tf32 128x128x16x16x128 wide splits=1"  # two products a step
GROUPED_SMALL = "kind float16 64x256x8x16x128 wide splits=1"  # leaves memory of 48 KB
GROUPED_VALUES = "values tf32 64x128x16x16x128"
VALUES = "values tf32 last=False"
WIDE_VALUES = "values tf32 last=True"
BROUGHT = "brought float16 zeros"
FILTER = "filter float32 stride=1 dilation=1 zeros ((11, 37), (3, 3))"
GRADIENT = "filter gradient float32 stride=1 dilation=1 (3, (60, 70), (3, 3))"

BARRIER = r"bar\.sync\s+0;"
WIDE_LOAD = r"(ld\.global\.v4\.f32\s+\{[^}]*\}, \[%rd\d+)\]"
FMA = r"fma\.rn\.f32\s+(%f\d+), (%f\d+), (%f\d+), (%f\d+);"
SAME_FACTOR = r"fma.rn.f32 \1, \2, \2, \4;"
MMA_A = r"(mma\.sync\S+ \{[^}]*\}, \{)(%r\d+), (%r\d+), (%r\d+), (%r\d+)\}"
MMA_B = r"(mma\.sync\S+ \{[^}]*\}, \{[^}]*\}, \{)(%r\d+), (%r\d+)\}"
LOAD_MATRIX = r"(ldmatrix\S+ \{[^}]*\}, \[%r\d+)\+0\]"
PRODUCT = r"wgmma\.mma_async[^;]*;"
FACTORS = r"(wgmma\.mma_async\S+ \{[^}]*\}), (%rd\d+), (%rd\d+),"
WAIT_FOR_PRODUCTS = r"wgmma\.wait_group\.sync\.aligned 0;"
FENCE_PROXY = r"fence\.proxy\.async\.shared::cta;"
SUMS = r"wgmma\.mma_async\S+ \{(%f\d+),"
DESCRIBED = r"(or\.b64\s+%rd\d+, %rd\d+, )-9223371899415756800;"  # of rows of 64 bytes; then of 32
# The buffer of the products, and the one that is copied to while they are made.
COPIES_BESIDE = (
    r"(bar\.sync\s+0;\s+shl\.b32\s+%r\d+, (%r\d+), 2;[\s\S]*?"
    r"wgmma\.commit[\s\S]*?shl\.b32\s+%r\d+, )%r\d+, 2;"
)


class Mutant(NamedTuple):
    """A fault: in which case's kernel, and what the `number`-th match of a pattern becomes."""

    label: str
    case: str
    pattern: str
    replacement: str
    number: int = 0

    def edit(self, ptx: str) -> str:
        found = list(re.finditer(self.pattern, ptx))[self.number]
        return ptx[: found.start()] + found.expand(self.replacement) + ptx[found.end() :]


WAIT = r"cp\.async\.wait_group (\d);"
COPY = r"(cp\.async\.ca\S+ \[[^]]*\], \[[^]]*\], 4), %r\d+;"
WIDE_COPY = r"(cp\.async\.cg\S+ \[[^]]*\], \[[^]]*\], 16), %r\d+;"

MUTANTS = (
    Mutant("copies not waited for", FLOAT, WAIT, ""),
    Mutant("one group too few waited for", FLOAT, WAIT, "cp.async.wait_group 3;"),
    Mutant("one group too few waited for, on tensor cores", HALF, WAIT, "cp.async.wait_group 2;"),
    Mutant("a group not ended", FLOAT, r"cp\.async\.commit_group;", "", -1),
    Mutant("padding copied", FLOAT, COPY, r"\1;", 5),
    Mutant("vectors of padding copied", HALF, WIDE_COPY, r"\1;", 2),
    Mutant("a copy 16 bytes on", HALF, r"(cp\.async\.cg\S+ \[%r\d+)\]", r"\1+16]"),
    Mutant("barrier of the loop removed", FLOAT, BARRIER, ""),
    Mutant("barrier between the halves of a transposition removed", BROUGHT, BARRIER, ""),
    Mutant("barrier behind the loop removed", NINE_STEPS, BARRIER, "", 1),
    Mutant("barrier of the epilogue removed", FLOAT, BARRIER, "", -1),
    Mutant("first barrier removed", WIDE, BARRIER, ""),
    Mutant("barrier of the loop through registers removed", WIDE, BARRIER, "", 1),
    Mutant("one product with another factor", FLOAT, FMA, SAME_FACTOR, 40),
    Mutant("weights fetched past their end", WIDE, WIDE_LOAD, r"\1+1048576]"),
    Mutant("wide load moved by 4 bytes", WIDE, WIDE_LOAD, r"\1+4]"),
    Mutant(
        "shared store one word on",
        WIDE,
        r"st\.shared\.f32\s+\[(%rd\d+)\]",
        r"st.shared.f32 [\1+4]",
    ),
    Mutant("mma: a1 and a2 swapped", TF32, MMA_A, r"\1\2, \4, \3, \5}"),
    Mutant("mma: b0 and b1 swapped", HALF, MMA_B, r"\1\3, \2}"),
    Mutant("ldmatrix 16 bytes on", HALF, LOAD_MATRIX, r"\1+16]"),
    Mutant("ldmatrix 4 bytes on", HALF, LOAD_MATRIX, r"\1+4]"),
    Mutant(
        "tf32 rounding left out",
        VALUES,
        r"cvt\.rna\.tf32\.f32 (%r\d+), (%f\d+);",
        r"mov.b32 \1, \2;",
    ),
    Mutant(
        "tf32 rounding left out where patches are read",
        WIDE_VALUES,
        r"cvt\.rna\.tf32\.f32 (%r\d+), (%r\d+);",
        r"mov.b32 \1, \2;",
    ),
    Mutant("products not waited for", GROUPED, WAIT_FOR_PRODUCTS, ""),
    Mutant(
        "one group too few of products waited for",
        GROUPED,
        WAIT_FOR_PRODUCTS,
        "wgmma.wait_group.sync.aligned 1;",
    ),
    Mutant("a group of products not ended", GROUPED, r"wgmma\.commit_group\S+;", ""),
    Mutant(
        "a product behind the end of its group",
        GROUPED_TF32,
        rf"({PRODUCT})(\s*)(wgmma\.commit\S+;)",
        r"\3\2\1",
    ),
    Mutant(
        "sums touched before the wait",
        GROUPED,
        rf"({SUMS}[\s\S]*?)({WAIT_FOR_PRODUCTS})",
        r"\1mov.f32 \2, \2;\n\3",
    ),
    Mutant("sums not fenced", GROUPED, r"wgmma\.fence\S+;", ""),
    Mutant("sums touched behind their fence", GROUPED, f"({SUMS})", r"mov.f32 \2, \2;\n\1"),
    Mutant("writes not fenced", GROUPED, FENCE_PROXY, ""),
    Mutant(
        "writes fenced before they are there",
        GROUPED,
        rf"({WAIT})([\s\S]*?)({FENCE_PROXY})",
        r"\4\3\1",
    ),
    Mutant("barrier before products removed", GROUPED, BARRIER, ""),
    Mutant("copies to what is multiplied", GROUPED, COPIES_BESIDE, r"\1\2, 2;"),
    Mutant("factors of products swapped", GROUPED, FACTORS, r"\1, \3, \2,"),
    Mutant("a product of other words", GROUPED_TF32, FACTORS, r"\1, \2, \2,", 1),
    Mutant("another swizzling mode", GROUPED_TF32, DESCRIBED, r"\1-4611685880988368896;"),
    Mutant(
        "a tile that begins inside of the pattern",
        GROUPED_SMALL,
        r"(\.shared \.align )(\d+) (\.b8 \w+\[\d+\];)",
        r"\1 128 .b8 shift[128];\n.shared .align 16 \3",
    ),
    Mutant(
        "tf32 rounding left out in shared memory",
        GROUPED_VALUES,
        r"cvt\.rna\.tf32\.f32 (%r\d+), (%\w+);",
        r"mov.b32 \1, \2;",
    ),
    Mutant("barrier of the filter removed", FILTER, BARRIER, "", 1),
    Mutant("barrier of a filter's gradient removed", GRADIENT, BARRIER, ""),
    Mutant("barrier before its sums removed", GRADIENT, BARRIER, "", 2),
    Mutant("barrier behind its sums removed", GRADIENT, BARRIER, "", -1),
    Mutant("one of its products with another factor", GRADIENT, FMA, SAME_FACTOR, 100),
)


@contextlib.contextmanager
def mutated(edit: Callable[[str], str]) -> Iterator[None]:
    """Change every kernel but those that copy and add up."""
    real = compilation.ptx_of

    def changed(kernel: Kernel, capability: tuple[int, int]) -> str:
        ptx = real(kernel, capability)
        return ptx if kernel.name.startswith(("second pass", "copy")) else edit(ptx)

    compilation.ptx_of = changed
    try:
        yield
    finally:
        compilation.ptx_of = real
