"""From the instructions of a basic block to a Python function over arrays, an element a thread.

Written from the PTX ISA manual: what it does not know, it refuses.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from tests.cuda.executed.instructions import Instruction, names_in, numpy_type, parse_address

SPECIAL = ("%tid.x", "%ntid.x", "%ctaid.x", "%nctaid.x", "%dynamic_smem_size")
SIGNS = {"add": "+", "sub": "-", "mul": "*", "and": "&", "or": "|", "xor": "^"}
COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
UNSIGNED = {"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}
UNORDERED = ("equ", "neu", "ltu", "leu", "gtu", "geu")
ROUNDINGS = {"rni": "np.rint", "rmi": "np.floor", "rzi": "np.trunc"}


class Translation:
    """The Python of one basic block.

    Parameters
    ----------
    program : Program
        Whose registers, labels and arrays the instructions name.

    Attributes
    ----------
    constants : dict
        What the function needs beside the machine, by name.
    """

    def __init__(self, program: Any) -> None:
        self.program = program
        self.lines: list[str] = []
        self.known: set[str] = set()
        self.written: list[str] = []
        self.constants: dict[str, Any] = {}
        self.text = ""  # of the instruction that is translated

    def block(self, block: list[Instruction]) -> str:
        """Source of ``block(M, idx)``, which returns what ends it."""
        end = "return None"
        for instruction in block:
            self.text = instruction.text
            try:
                end = self._instruction(instruction) or end
            except (ValueError, KeyError, IndexError, AssertionError) as error:
                raise NotImplementedError(f"{instruction.text}: {error}") from error
        for register in self.written:
            if register in self.program.exposed:
                self.lines.append(f"M.put({register!r}, {_name(register)}, idx)")
        body = "\n    ".join(["pass", *self.lines, end])
        return f"def block(M, idx):\n    {body}\n"

    # Operands and results.

    def _constant(self, value: Any, dtype: Any) -> str:
        value = np.array(value, dtype)
        for name, known in self.constants.items():
            if known.dtype == value.dtype and known.tobytes() == value.tobytes():
                return name
        name = f"c{len(self.constants)}"
        self.constants[name] = value[()]
        return name

    def _touch(self, register: str) -> None:
        """Say that an instruction reads or writes a register, other than by a product."""
        if register in self.program.accumulators:
            self.lines.append(f"M.touch({register!r}, idx, {self.text!r})")

    def _register(self, register: str) -> str:
        self._touch(register)
        return self._known(register)

    def _known(self, register: str) -> str:
        if register not in self.known:
            self.known.add(register)
            self.lines.append(f"{_name(register)} = M.get({register!r}, idx)")
        return _name(register)

    def source(self, operand: str, kind: str) -> str:
        """Return an operand as an array of a type of PTX."""
        want = numpy_type(kind)
        if operand in SPECIAL:
            return f"M.special({operand!r}, idx).view({want.str!r})"
        if operand.startswith("%"):
            own, value = numpy_type(self.program.types[operand]), self._register(operand)
            if own == want:
                return value
            if own.itemsize == want.itemsize:
                return f"{value}.view({want.str!r})"
            if own.kind in "ui" and want.itemsize < own.itemsize:
                return f"{value}.astype('u{want.itemsize}').view({want.str!r})"
            raise ValueError(f"operand {operand} as {kind}")
        if operand in self.program.shared:
            return self._constant(self.program.shared[operand], want)
        if operand == self.program.local:
            return self._constant(0, want)
        if operand[:2].lower() == "0f":
            value = np.array(int(operand[2:], 16), "u4").view("f4")
            return self._constant(
                value.astype(want) if want.kind == "f" else value.view(want), want
            )
        if operand[:2].lower() == "0d":
            return self._constant(np.array(int(operand[2:], 16), "u8").view("f8").view(want), want)
        if kind == "pred":
            return self._constant(bool(int(operand)), want)
        bits = int(operand, 0) & ((1 << (8 * want.itemsize)) - 1)
        return self._constant(np.array(bits, f"u{want.itemsize}").view(want), want)

    def put(self, register: str, value: str, kind: str, predicate: str | None) -> None:
        """Assign an array of a type of PTX to a register."""
        if register == "_":
            return
        own, have = numpy_type(self.program.types[register]), numpy_type(kind)
        if own != have:
            if own.itemsize == have.itemsize:
                value = f"({value}).view({own.str!r})"
            elif have.kind in "ui" and own.itemsize > have.itemsize:  # ld.s32 into 64 bits
                wide = f"{have.kind}{own.itemsize}"
                value = f"({value}).astype({wide!r}).view({own.str!r})"
            else:
                raise ValueError(f"{register} from {kind}")
        if predicate:
            value = f"np.where({predicate}, {value}, {self._register(register)})"
        self._touch(register)
        self._assign(register, value)

    def _assign(self, register: str, value: str) -> None:
        self.lines.append(f"{_name(register)} = {value}")
        self.known.add(register)
        if register not in self.written:
            self.written.append(register)

    # Instructions.

    def _instruction(self, i: Instruction) -> str | None:
        parts, a = i.op.split("."), i.arguments
        kind = parts[0]
        predicate = None
        if i.predicate:
            value = self._register(i.predicate)
            predicate = f"(~{value})" if i.negated else value
        if kind == "bra":
            return f"return ('bra', {self.program.labels[a[0]]}, {predicate})"
        if kind in ("ret", "exit"):
            return f"return ('ret', None, {predicate})"
        if kind == "bar":
            assert parts[1] == "sync"
            assert a == ["0"]
            assert predicate is None
            return "return ('bar', None, None)"
        if kind in ("ld", "st"):
            self._memory(i, parts, predicate)
        elif kind == "cp":
            self._copy(i, parts, predicate)
        elif kind == "ldmatrix":
            assert i.op == "ldmatrix.sync.aligned.m8n8.x4.shared.b16"
            assert predicate is None
            self.lines.append(f"_w = M.ldmatrix({self._address(a[1])}, idx, {i.text!r})")
            for k, register in enumerate(names_in(a[0])):
                self.put(register, f"_w[{k}]", "b32", None)
        elif kind == "fence":
            assert i.op == "fence.proxy.async.shared::cta"
            assert predicate is None
            self.lines.append("M.fence_proxy(idx)")
        elif kind == "wgmma":
            assert predicate is None
            self._warpgroup(i, parts)
        elif kind == "mma":
            assert predicate is None
            self._matrix_multiply(parts, [names_in(group) for group in a])
        else:
            for register, value, result in self._arithmetic(parts, a, i):
                self.put(register, value, result, predicate)
        return None

    def _copy(self, i: Instruction, parts: list[str], predicate: str | None) -> None:
        """cp.async: a copy, the end of a group, or the wait for groups."""
        assert parts[1] == "async"
        if parts[2] == "commit_group":
            assert predicate is None
            self.lines.append("M.commit_group(idx)")
        elif parts[2] == "wait_group":
            assert predicate is None
            self.lines.append(f"M.wait_group({int(i.arguments[0])}, idx)")
        else:
            to, at, size = i.arguments[:3]
            assert parts[2:] in (["ca", "shared", "global"], ["cg", "shared", "global"])
            assert int(size) in ((16,) if parts[2] == "cg" else (4, 8, 16))
            taken = self.source(i.arguments[3], "u32") if len(i.arguments) > 3 else size
            places = f"{self._address(to)}, {self._address(at)}, {size}, {taken}"
            self.lines.append(f"M.copy_async({places}, idx, {predicate}, {i.text!r})")

    def _matrix_multiply(self, parts: list[str], groups: list[list[str]]) -> None:
        assert parts[1:3] == ["sync", "aligned"]
        assert parts[4:6] == ["row", "col"]
        kinds = ("b32", "b32", "f32")
        operands = ", ".join(
            "(" + "".join(f"{self.source(r, kind)}, " for r in group) + ")"
            for group, kind in zip(groups[1:], kinds, strict=True)
        )
        self.lines.append(f"_d = M.mma({parts[3]!r}, {parts[-2]!r}, {operands}, idx)")
        for k, register in enumerate(groups[0]):
            self.put(register, f"_d[{k}]", "f32", None)

    def _warpgroup(self, i: Instruction, parts: list[str]) -> None:
        """wgmma: a product that begins, the end of a group, the wait for groups, or the fence."""
        assert parts[2:4] == ["sync", "aligned"]
        if parts[1] == "fence":
            self.lines.append("M.fence_registers(idx)")
        elif parts[1] == "commit_group":
            self.lines.append("M.commit_products(idx)")
        elif parts[1] == "wait_group":
            self.lines.append(f"M.wait_products({int(i.arguments[0])}, idx)")
        else:
            assert parts[1] == "mma_async"
            self._begin_product(i, *parts[4:])

    def _begin_product(self, i: Instruction, shape: str, sums: str, a: str, b: str) -> None:
        found = re.fullmatch(r"m64n(\d+)k(\d+)", shape)
        assert found
        columns, (registers, left, right, *flags) = int(found[1]), i.arguments
        # Sums are added to; neither factor is negated; and of those of 16 bits, K lies along rows.
        assert (sums, a, int(found[2])) in (("f32", "f16", 16), ("f32", "tf32", 8))
        assert a == b
        assert flags == ["1"] * 3 + ["0"] * 2 * (a == "f16")
        names = names_in(registers)
        assert len(names) == len(set(names)) == columns // 2
        values = ", ".join(f"{name!r}: {self._known(name)}" for name in names)
        tiles = ", ".join(self.source(descriptor, "u64") for descriptor in (left, right))
        self.lines.append(f"_d = M.wgmma({columns}, {a!r}, ({tiles}), {{{values}}}, idx)")
        for k, name in enumerate(names):
            self._assign(name, f"_d[{k}]")

    def _address(self, operand: str) -> str:
        register, offset = parse_address(operand)
        if register in self.program.shared:
            return self._constant(self.program.shared[register] + offset, "i8")
        narrow = self.program.types[register] == "b32"
        base = self._register(register) + (".astype('i8')" if narrow else ".view('i8')")
        return f"({base} + {offset})" if offset else base

    def _memory(self, i: Instruction, parts: list[str], predicate: str | None) -> None:
        (kind, space), last = parts[:2], parts[-1]
        count = next((int(p[1:]) for p in parts[2:] if re.fullmatch(r"v\d", p)), 1)
        extra = [p for p in parts[2:-1] if not re.fullmatch(r"v\d", p)]
        if extra not in ([], ["nc"], ["volatile"]):
            raise ValueError(extra)
        target, where = i.arguments if kind == "ld" else i.arguments[::-1]
        registers, dtype = names_in(target), numpy_type(last)
        assert len(registers) == count
        if space == "param":
            name = parse_address(where)[0]
            self.put(registers[0], f"M.param({name!r}).view({dtype.str!r})", last, predicate)
            return
        if space not in ("global", "shared", "local"):
            raise ValueError(f"space {space}")
        at = self._address(where)
        if kind == "ld":
            call = f"M.load_{space}({at}, {count}, {dtype.itemsize}, idx, {predicate}, {i.text!r})"
            self.lines.append(f"_v = {call}")
            for k, register in enumerate(registers):
                self.put(register, f"_v[{k}].view({dtype.str!r})", last, predicate)
            return
        values = ", ".join(f"({self.source(r, last)}).view('u{dtype.itemsize}')" for r in registers)
        self.lines.append(
            f"M.store_{space}({at}, ({values},), {dtype.itemsize}, idx, {predicate}, {i.text!r})"
        )

    def _arithmetic(
        self, parts: list[str], a: list[str], i: Instruction
    ) -> list[tuple[str, str, str]]:
        """(register, value, type) of what an instruction without memory computes."""
        kind, last = parts[0], parts[-1]
        if kind == "mov" and a[0].startswith("{"):
            return self._halves(last, a)
        if kind == "mov" and len(a) > 1 and a[1].startswith("{"):
            return [(a[0], self._whole(last, a), last)]
        if kind == "cvt":
            value, result = self._convert(parts, a)
        elif kind == "setp":
            value, result = self._compare(parts, a), "pred"
        elif kind == "mul" and parts[1] == "wide":
            value, result = self._wide_product(last, a)
        else:
            value, result = self._simple(parts, a, i), last
        return [(a[0], value, result)]

    def _halves(self, kind: str, a: list[str]) -> list[tuple[str, str, str]]:
        size = numpy_type(kind).itemsize
        value, part = self.source(a[1], kind), f"u{size // 2}"
        low, high = names_in(a[0])
        shift = f"np.uint{8 * size}({4 * size})"
        halves = (
            (low, f"({value}).astype({part!r})"),
            (high, f"(({value}) >> {shift}).astype({part!r})"),
        )
        return [(r, text, f"b{4 * size}") for r, text in halves if r not in ("%temp", "_")]

    def _whole(self, kind: str, a: list[str]) -> str:
        size = numpy_type(kind).itemsize
        low, high = (self.source(name, f"b{4 * size}") for name in names_in(a[1]))
        whole, shift = f"u{size}", f"np.uint{8 * size}({4 * size})"
        return f"(({low}).astype({whole!r}) | (({high}).astype({whole!r}) << {shift}))"

    def _wide_product(self, kind: str, a: list[str]) -> tuple[str, str]:
        wide = kind[0] + str(2 * int(kind[1:]))
        dtype = numpy_type(wide).str
        x, y = (f"{self.source(operand, kind)}.astype({dtype!r})" for operand in a[1:3])
        return f"({x} * {y})", wide

    def _simple(self, parts: list[str], a: list[str], i: Instruction) -> str:
        kind, last = parts[0], parts[-1]
        if kind == "selp":
            condition = self.source(a[3], "pred")
            return f"np.where({condition}, {self.source(a[1], last)}, {self.source(a[2], last)})"
        if kind in ("shl", "shr"):
            return self._shift(kind, last, a)
        if kind == "bfi":
            return self._insert_bits(last, a)
        x = [self.source(operand, last) for operand in a[1:]]
        if kind in ("mov", "cvta"):
            return x[0]
        if last[0] == "f":
            return self._float(parts, x, i)
        if kind in ("mul", "mad") and parts[1] == "hi":
            assert kind == "mul"
            if last[1:] == "64":  # whose product NumPy has no type for
                return f"mul_hi({x[0]}, {x[1]}, 64)"
            wide, own = numpy_type(last[0] + str(2 * int(last[1:]))).str, numpy_type(last).str
            product = f"{x[0]}.astype({wide!r}) * {x[1]}.astype({wide!r})"
            return f"(({product}) >> {last[1:]}).astype({own!r})"
        if kind in ("mul", "mad"):
            assert parts[1] == "lo"
            return f"({x[0]} * {x[1]})" if kind == "mul" else f"({x[0]} * {x[1]} + {x[2]})"
        if kind in SIGNS:
            return f"({x[0]} {SIGNS[kind]} {x[1]})"
        if kind in ("min", "max"):
            return f"np.{kind}imum({x[0]}, {x[1]})"
        if kind in ("div", "rem"):
            return f"int_{kind}({x[0]}, {x[1]})"
        one = {"neg": "(-{})", "not": "(~{})", "abs": "np.abs({})"}
        return one[kind].format(x[0])

    def _float(self, parts: list[str], x: list[str], i: Instruction) -> str:
        kind, last = parts[0], parts[-1]
        assert "sat" not in parts
        if kind in ("add", "sub", "mul"):
            assert "ftz" not in parts
            return f"({x[0]} {SIGNS[kind]} {x[1]})"
        if kind == "fma":
            name = "fma64" if last == "f64" else f"fma32_{parts[1]}"
            return f"{name}({x[0]}, {x[1]}, {x[2]})"
        if kind == "div":
            return f"({x[0]} / {x[1]})"
        if kind in ("min", "max"):
            return f"np.f{kind}({x[0]}, {x[1]})"
        if kind == "rcp":
            return f"({self._constant(1, numpy_type(last))} / {x[0]})"
        if kind == "copysign":
            return f"np.copysign({x[1]}, {x[0]})"
        one = {"sqrt": "np.sqrt({})", "ex2": "np.exp2({})", "neg": "(-{})", "abs": "np.abs({})"}
        return one[kind].format(x[0])

    def _shift(self, kind: str, last: str, a: list[str]) -> str:
        dtype = numpy_type(last)
        value, width = self.source(a[1], last), dtype.itemsize * 8
        if a[2].startswith("%"):
            return f"shift_{kind}({value}, {self.source(a[2], 'u32')}, {width})"
        count = int(a[2], 0)
        if count >= width:
            assert last[0] != "s"
            return f"({value} & {self._constant(0, dtype)})"
        return f"({value} {'<<' if kind == 'shl' else '>>'} {self._constant(count, dtype)})"

    def _insert_bits(self, last: str, a: list[str]) -> str:
        dtype, position, length = numpy_type(last), int(a[3], 0), int(a[4], 0)
        bits = ((1 << length) - 1) << position
        rest = ~bits & ((1 << (dtype.itemsize * 8)) - 1)
        mask, others = self._constant(bits, dtype), self._constant(rest, dtype)
        inserted = f"({self.source(a[1], last)} << {self._constant(position, dtype)}) & {mask}"
        return f"(({inserted}) | ({self.source(a[2], last)} & {others}))"

    def _compare(self, parts: list[str], a: list[str]) -> str:
        comparison, last = parts[1], parts[-1]
        assert parts[2:-1] in ([], ["ftz"])
        x, y = self.source(a[1], last), self.source(a[2], last)
        unordered = f"(np.isnan({x}) | np.isnan({y}))"
        if comparison == "nan":
            return unordered
        if comparison == "num":
            return f"~{unordered}"
        also = last[0] == "f" and comparison in UNORDERED
        comparison = comparison[:-1] if also else UNSIGNED.get(comparison, comparison)
        value = f"({x} {COMPARISONS[comparison]} {y})"
        if also:
            return f"({value} | {unordered})"
        if last[0] == "f" and comparison == "ne":
            return f"({value} & ~{unordered})"
        return value

    def _convert(self, parts: list[str], a: list[str]) -> tuple[str, str]:
        (to, source), modifiers = parts[-2:], parts[1:-2]
        if to == "tf32":
            assert modifiers == ["rna"]
            return f"cvt_tf32({self.source(a[1], 'f32')})", "b32"
        x, dtype = self.source(a[1], source), numpy_type(to).str
        if to[0] == source[0] == "f":
            if modifiers == ["sat"]:
                return f"cvt_sat({x})", to
            if modifiers and modifiers[0] in ROUNDINGS and modifiers[1:] in ([], ["ftz"]):
                return f"{ROUNDINGS[modifiers[0]]}({x})", to
            assert modifiers in (["rn"], [])
            return f"{x}.astype({dtype!r})", to
        if to[0] == "f":
            assert modifiers == ["rn"]
            return f"int_to_float({x}, {dtype!r})", to
        if source[0] == "f":
            assert modifiers == ["rzi"]
            return f"float_to_int({x}, {dtype!r})", to
        assert modifiers == []
        return f"{x}.astype({dtype!r})", to


def _name(register: str) -> str:
    return register[1:].replace(".", "_")
