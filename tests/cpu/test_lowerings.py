"""Which lowering each layer of the benchmarks gets, on each kind of CPU.

A turned comparison in `direct.choice` changes no result, and shows in no test but this.
"""

from __future__ import annotations

import csv
import platform
from pathlib import Path

import numpy as np
import pytest

import numbaconv as nc
from tests.conftest import ROOT, Script

LAYERS = ROOT / "benchmarks" / "layers.csv"

NAMES = {
    "K": "patch_matrix",
    "M": "matrix",
    "T": "matrix_transposed",
    "Z": "matrix_zones",
    "F": "filter_rows",
    "L": "filter_folds",
    "P": "depthwise_planes",
    "C": "depthwise_channels",
    "D": "depthwise_maps",
    "I": "depthwise_interleaved",
}

# A column for each target: three with vectors of 64 bytes, then those with 32 and 16. A letter for
# float32 and float64 with the channels first, then for both with the channels last.
TARGETS = ("skylake-avx512", "znver5", "znver4", "haswell", "generic")
TABLE = """
R1   MMTT  MMTT  MMTT  MMTT  MMTT
R2   KKTT  MMTT  MMTT  MMTT  MMTT
R3   TTTT  TMTT  TMTT  MMTT  MMTT
R4   TTTT  TTTT  TTTT  TTTT  TTTT
R5   TTTT  TTTT  TTTT  TTTT  TMTT
R6   KKTT  MMZZ  MMTT  MMTT  MMZZ
R7   KKTK  TMTZ  ZMTZ  KKTK  MKTK
R8   TTTT  TTTT  TTTT  TTTT  TMTT
R9   TTTT  TTTT  TTTT  TTTZ  ZZZZ
V1   MMTT  MMTT  MMTT  MMTT  MMTT
V2   TTTT  MMTT  MMTT  MMTT  MMTT
V3   TTTT  TMTZ  TTTT  ZMTT  MMZZ
G1   TTTT  TTTT  TTTT  TTTT  TTTT
S1   MMTT  MMTT  MMTT  MMTT  MMTT
U1   TTTT  MMTT  TTTT  MMTT  MMTT
M1   PPCI  PPCC  PPII  DDII  DDII
M2   PPCC  PPCC  PPCI  PPCI  DDII
M3   PPCI  PPII  PPII  DDCI  DDII
X1   MMMT  MMMT  MMMT  MMMT  MMTT
D1   ZZZZ  ZZZZ  ZZZZ  ZZZZ  ZZZZ
T1   MMTT  MMTT  MMTT  MMTT  MMTT
B1   TTTT  TTTT  TTTT  TTTT  TMTT
B2   KKTT  KKTT  KKTT  KKTK  MKTT
I1   PPPP  PPPP  PPPP  FFFF  FFFF
I2   PPPP  PPPP  PPPP  FFFF  FFFF
I3   FFFF  FFFF  FFFF  FFFF  FFFF
I4   FFFF  PPPP  PPPP  FFFF  FFFF
I5   PPII  PPII  PPII  FFII  FFII
A1   MMTT  MMTT  MMTT  MMTT  MMTT
A2   MMTT  MMTT  MMTT  MMTT  MMTT
A3   LLLL  LLLL  LLLL  LLLL  LLLL
A4   MMTT  MMTT  MMTT  MMTT  MMTT
C1   TTTT  MMTT  MMTZ  MMTT  MMTT
C2   TTTT  TMTT  TTTT  TMTT  MMTT
C3   PPPP  PPPP  PPPP  FFFF  FFFF
"""

# The choice counts what a cache holds, so all machines are told of the same caches.
SCRIPT = """
import csv, pathlib, sys

SIZES = {"index0": "48K", "index2": "2048K"}
read_text = pathlib.Path.read_text

def told(path, *args, **kwargs):
    told = SIZES.get(path.parent.name) if path.match("cache/*/size") else None
    return read_text(path, *args, **kwargs) if told is None else told

pathlib.Path.read_text = told

import numpy as np
from numbaconv.cpu import direct
from numbaconv.problem.forward import describe
from numbaconv.problem.layout import CHANNELS_FIRST, CHANNELS_LAST
from numbaconv.problem.simplest import simplest

def numbers(text):
    return tuple(map(int, text.split("x")))

for row in csv.DictReader(open(sys.argv[1])):
    n, c_in, c_out, stride, padding, dilation, groups = (
        int(row[name])
        for name in ("n", "c_in", "c_out", "stride", "padding", "dilation", "groups")
    )
    size, kernel = numbers(row["size"]), numbers(row["kernel"])
    weight = c_out, c_in // groups, *kernel
    names = []
    for layout in CHANNELS_FIRST, CHANNELS_LAST:
        image = (n, *size, c_in) if layout.channels_last else (n, c_in, *size)
        options = stride, padding, dilation, groups, "zeros", layout
        s = simplest(describe(image, weight, *options).shape)
        names += [direct.lower(s, np.dtype(t), 2).name for t in ("float32", "float64")]
    print(row["id"], *names)
"""


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="the targets are those of x86-64"
)
@pytest.mark.parametrize("target", TARGETS)
def test_lowering_of_each_layer(target: str, run_script: Script, tmp_path: Path):
    script = tmp_path / "lower.py"
    script.write_text(SCRIPT)
    done = run_script(str(script), str(LAYERS), NUMBA_CPU_NAME=target, NUMBA_CPU_FEATURES="")
    column = 1 + TARGETS.index(target)
    rows = [line.split() for line in TABLE.strip().splitlines()]
    expected = {row[0]: [NAMES[letter] for letter in row[column]] for row in rows}
    lines = [line.split() for line in done.stdout.splitlines()]
    assert {name: found for name, *found in lines} == expected


def test_every_layer_is_in_the_table():
    with LAYERS.open() as file:
        names = [row["id"] for row in csv.DictReader(file)]
    assert names == [line.split()[0] for line in TABLE.strip().splitlines()]


@pytest.mark.parametrize(
    ("backend", "expected"), [("direct", "filter_rows"), ("im2col", "patch_matrix")]
)
def test_explain_names_the_lowering(backend: str, expected: str):
    image, box = np.ones((1, 2000, 2000), np.float32), np.ones((1, 1, 15, 15), np.float32)
    found = nc.explain(image, box, backend=backend)
    assert found.lowering == expected
    assert f"lowering  {expected}" in str(found)


def test_nothing_to_multiply_has_no_lowering():
    image, weight = np.ones((0, 64, 64), np.float32), np.ones((1, 0, 3, 3), np.float32)
    assert nc.explain(image, weight).lowering is None
