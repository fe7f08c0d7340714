"""A kernel's PTX, parsed into basic blocks; each becomes a Python function over all threads."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.cuda.executed.arithmetic import HELPERS
from tests.cuda.executed.instructions import Instruction, names_in, split_arguments
from tests.cuda.executed.memory import FaultError
from tests.cuda.executed.translation import Translation

SHARED_ARRAY = re.compile(r"\.shared\s+\.align\s+(\d+)\s+\.b8\s+(\w+)\[(\d*)\]\s*;")
LOCAL_ARRAY = re.compile(r"\.local\s+\.align\s+\d+\s+\.b8\s+(\w+)\[(\d+)\]")
ENTRY = re.compile(r"\.visible\s+\.entry\s+(\w+)\s*\((.*?)\)(.*?)\{", re.S)
STATEMENT = re.compile(r"(?:@(!?)(%\w+)\s+)?([\w.:]+)\s*(.*?);$", re.S)
WRITES_NONE = ("st", "cp")
ENDS_A_BLOCK = ("bra", "ret", "exit", "bar")


class Program:
    """A parsed kernel.

    Attributes
    ----------
    shared, dynamic, static_shared
        Where each array of shared memory begins, where the one begins whose size the launch gives,
        and the bytes of all others.
    parameters, parameter_types
        Names and types of the parameters.
    max_threads
        Threads that a block may have, if the kernel says so.
    local, local_bytes
        Name and size of each thread's array in local memory, if there is one.
    types
        Types of the registers.
    blocks, labels, functions
        Instructions by basic block, the numbers of the labelled ones, and what they became.
    exposed
        Registers that outlive a block.
    accumulators
        Those to which products of warpgroups are added.
    """

    def __init__(self, ptx: str) -> None:
        self.ptx = ptx
        ptx = re.sub(r"//[^\n]*", "", ptx)
        self._place_shared(ptx)
        head = ENTRY.search(ptx)
        assert head, "no kernel"
        parameters = [p for p in head[2].split(",") if p.strip()]
        self.parameters = [p.split()[-1] for p in parameters]
        types = [re.search(r"\.(u64|b64|s64|u32|f32)", p) for p in parameters]
        self.parameter_types = [found[1] if found else "?" for found in types]
        bound = re.search(r"\.maxntid\s+(\d+)", head[3])
        self.max_threads = int(bound[1]) if bound else None
        arrays = LOCAL_ARRAY.findall(ptx)
        assert len(arrays) <= 1, "several local arrays"
        self.local, self.local_bytes = (arrays[0][0], int(arrays[0][1])) if arrays else (None, 0)
        assert "call" not in re.sub(r"_\w+", "", ptx), "a call"
        body = ptx[head.end() :]
        self.types = _register_types(body)
        self._parse_blocks(re.sub(r"\.local\s+\.align[^;]*;", "", body))
        self.exposed = self._exposed()
        self.accumulators = {
            register
            for block in self.blocks
            for instruction in block
            if instruction.op.startswith("wgmma.mma_async")
            for register in names_in(instruction.arguments[0])
        }
        self.functions = [self._compile(n) for n in range(len(self.blocks))]

    def _place_shared(self, ptx: str) -> None:
        self.shared: dict[str, int] = {}
        self.dynamic: int | None = None
        at = 0
        for align, name, size in SHARED_ARRAY.findall(ptx):
            at = -(-at // int(align)) * int(align)
            self.shared[name] = at
            if size:
                at += int(size)
            else:
                self.dynamic = at
        self.static_shared = at

    def shared_bytes(self, dynamic: int) -> int:
        """Shared memory of a block that is launched with so many bytes of it."""
        return (self.static_shared if self.dynamic is None else self.dynamic) + dynamic

    def _parse_blocks(self, body: str) -> None:
        body = re.sub(r"\.reg[^;]*;", "", body).replace("{.reg", "")
        self.blocks: list[list[Instruction]] = [[]]
        self.labels: dict[str, int] = {}
        # Statements end in ';', labels in ':'; braces that stand alone open scopes.
        for raw in re.split(r"(?<=[;])|(?<=:)\s", body):
            text = raw.strip()
            while text[:1] in ("{", "}") and text:
                text = text[1:].strip()
            if not text or text.startswith("."):
                continue
            if text.endswith(":"):
                if self.blocks[-1]:
                    self.blocks.append([])
                self.labels[text[:-1].strip()] = len(self.blocks) - 1
                continue
            found = STATEMENT.match(text)
            if not found:
                raise ValueError(f"cannot parse {text!r}")
            negated, predicate, op, rest = found.groups()
            arguments = split_arguments(rest)
            self.blocks[-1].append(Instruction(predicate, negated == "!", op, arguments, text))
            if op.split(".")[0] in ENDS_A_BLOCK:
                self.blocks.append([])
        if not self.blocks[-1]:
            self.blocks.pop()

    def _registers(self, instruction: Instruction) -> tuple[list[str], list[str]]:
        """Registers that an instruction writes, and those that it reads."""

        def find(text: str) -> list[str]:
            return [r for r in re.findall(r"%\w+(?:\.\w)?", text) if r in self.types]

        predicate = [instruction.predicate] if instruction.predicate else []
        if not instruction.arguments or instruction.op.split(".")[0] in (
            *WRITES_NONE,
            *ENDS_A_BLOCK,
        ):
            return [], [r for a in instruction.arguments for r in find(a)] + predicate
        written = find(instruction.arguments[0])
        read = [r for a in instruction.arguments[1:] for r in find(a)] + predicate
        changed = predicate or instruction.op.startswith("wgmma")
        return written, read + (written if changed else [])

    def _exposed(self) -> set[str]:
        exposed: set[str] = set()
        for block in self.blocks:
            seen: set[str] = set()
            for instruction in block:
                written, read = self._registers(instruction)
                exposed.update(r for r in read if r not in seen)
                seen.update(written)
        return exposed

    def _compile(self, number: int) -> Callable[..., Any]:
        translation = Translation(self)
        source = translation.block(self.blocks[number])
        scope: dict[str, Any] = {
            "np": np,
            "FaultError": FaultError,
            **translation.constants,
            **HELPERS,
        }
        exec(compile(source, f"<ptx block {number}>", "exec"), scope)
        return scope["block"]  # type: ignore[no-any-return]


def _register_types(body: str) -> dict[str, str]:
    types = {"%temp": "b32"}
    for kind, name, count in re.findall(r"\.reg\s+\.(\w+)\s+(%\w+)<(\d+)>", body):
        kind = kind if kind in ("pred", "f32", "f64") else "b" + kind[1:]
        types.update({f"{name}{i}": kind for i in range(int(count))})
    for kind, name in re.findall(r"\.reg\s+\.(\w+)\s+(%SPL?)\s*;", body):
        types[name] = "b" + kind[1:]
    return types
