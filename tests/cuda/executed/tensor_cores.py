"""mma.sync of a warp, and wgmma: the fragments that lanes hold, as the PTX ISA lays them out."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from tests.cuda.executed.arithmetic import EXPONENT, TF32_UNUSED
from tests.cuda.executed.memory import FaultError

WARP = 32
LANE = np.arange(WARP)
GROUP, MEMBER = LANE // 4, LANE % 4


def multiply(shape: str, dtype: str, a: list[Any], b: list[Any], c: list[Any]) -> list[Any]:
    """Add the product of two fragments to a third; each is registers of (warps, lanes)."""
    found = re.fullmatch(r"m16n8k(\d+)", shape)
    assert found, shape
    k, warps = int(found[1]), len(c[0])
    left, right = np.full((warps, 16, k), np.nan), np.full((warps, k, 8), np.nan)
    place = {"tf32": _place_tf32, "f16": _place_half}[dtype]
    place(left, right, a, b)
    sums = np.full((warps, 16, 8), np.nan)
    for i in range(4):
        sums[:, GROUP + 8 * (i >= 2), MEMBER * 2 + (i & 1)] = c[i]
    result = (left @ right + sums).astype("f4")
    return [
        np.ascontiguousarray(result[:, GROUP + 8 * (i >= 2), MEMBER * 2 + (i & 1)])
        for i in range(4)
    ]


def _place_tf32(left: Any, right: Any, a: list[Any], b: list[Any]) -> None:
    """Rows g of a0 and a2 and g + 8 of a1 and a3; columns t, and t + 4 from a2 on."""
    assert (left.shape[2], len(a), len(b)) == (8, 4, 2)
    for i in range(4):
        left[:, GROUP + 8 * (i in (1, 3)), MEMBER + 4 * (i >= 2)] = tf32_values(a[i])
    for i in range(2):
        right[:, MEMBER + 4 * i, GROUP] = tf32_values(b[i])


def tf32_values(register: Any) -> Any:
    """Return the numbers that are read of words."""
    finite = (register & EXPONENT) != EXPONENT
    if np.any(((register & TF32_UNUSED) != 0) & finite):
        raise FaultError("tf32 operand with bits that the tensor cores ignore")
    return (register & ~TF32_UNUSED).view("f4").astype("f8")


def _place_half(left: Any, right: Any, a: list[Any], b: list[Any]) -> None:
    """Register r holds elements 2r and 2r + 1."""
    assert (left.shape[2], len(a), len(b)) in ((16, 4, 2), (8, 2, 1))

    def value(register: Any, half: int) -> Any:
        return (register >> np.uint32(16 * half)).astype("u2").view("f2").astype("f8")

    for r, register in enumerate(a):
        for half in range(2):
            i = 2 * r + half
            row = GROUP + (0 if i < 2 or 4 <= i < 6 else 8)
            left[:, row, MEMBER * 2 + half + 8 * (i >= 4)] = value(register, half)
    for r, register in enumerate(b):
        for half in range(2):
            right[:, MEMBER * 2 + half + 8 * r, GROUP] = value(register, half)


def multiply_tiles(dtype: str, a: Any, b: Any, c: list[Any]) -> list[Any]:
    """Add the product of two tiles, words of (warpgroup, row, word), to registers of lanes.

    Of the 64 rows each warp has 16, and of those and the columns a lane has what it has of
    mma.sync. A register is (warpgroup, lane).
    """
    left, right = (_tile_values(dtype, tile) for tile in (a, b))
    product = left @ right.swapaxes(1, 2)
    warp, lane = np.divmod(np.arange(4 * WARP), WARP)
    found = []
    for i, register in enumerate(c):
        row = warp * 16 + lane // 4 + 8 * (i % 4 >= 2)
        column = i // 4 * 8 + lane % 4 * 2 + i % 2
        found.append((product[:, row, column] + register).astype("f4"))
    return found


def _tile_values(dtype: str, words: Any) -> Any:
    if dtype == "tf32":
        return tf32_values(words)
    return np.ascontiguousarray(words).view("f2").astype("f8")  # the low half of a word first
