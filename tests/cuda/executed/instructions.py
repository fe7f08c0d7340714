"""Instructions of PTX and its types, as text gives them."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

_DTYPES = {
    "pred": "bool",
    **{f"{kind}{bits}": f"u{bits // 8}" for kind in "ub" for bits in (8, 16, 32, 64)},
    **{f"s{bits}": f"i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"f{bits}": f"f{bits // 8}" for bits in (16, 32, 64)},
}


def numpy_type(name: str) -> np.dtype:
    """Dtype of a type of PTX; one of bits alone is unsigned."""
    return np.dtype(_DTYPES[name])


class Instruction(NamedTuple):
    """One instruction: its predicate (None, or a register that may be negated), and the rest."""

    predicate: str | None
    negated: bool
    op: str
    arguments: list[str]
    text: str


def split_arguments(text: str) -> list[str]:
    """Split at commas outside of braces and brackets."""
    parts, depth, current = [], 0, ""
    for character in text:
        depth += (character in "{[") - (character in "}]")
        if character == "," and depth == 0:
            parts.append(current.strip())
            current = ""
        else:
            current += character
    return [*parts, current.strip()] if current.strip() else parts


def names_in(vector: str) -> list[str]:
    """Registers of ``{a, b}``, or the one alone."""
    return [name.strip() for name in vector.strip("{}").split(",")]


def parse_address(operand: str) -> tuple[str, int]:
    """Register or symbol, and offset, of ``[a+4]``."""
    found = re.match(r"(%?\w+)\s*(?:\+\s*(-?\d+))?$", operand.strip()[1:-1].strip())
    assert found, operand
    return found[1], int(found[2] or 0)
