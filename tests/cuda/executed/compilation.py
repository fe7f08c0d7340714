"""From a kernel to its program: compiled to PTX as a launch would be, which is kept on disk."""

from __future__ import annotations

import ast
import functools
import getpass
import hashlib
import importlib.metadata
import inspect
import os
import re
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numbaconv
from numbaconv.cuda.kernels import Kernel, find_features, to_ptx
from tests.cuda.executed.memory import FaultError
from tests.cuda.executed.program import Program

PACKAGES = ("numbaconv.cuda.", "numbaconv.problem.")
# Imported by name, so that no statement says it: all kernels are made of these too.
INTRINSICS = ("numbaconv.cuda.compiled", "numbaconv.cuda.compiled_memory")
HOST = ("numbaconv.cuda.kernels", "numbaconv.cuda.toolkit")  # change no kernel, but `to_ptx`
SPECIFIC = (9, 0)  # what PTX of one capability alone is compiled for here
MOST_PROGRAMS = 40  # kept parsed


@functools.cache
def folder() -> Path:
    """Where PTX is kept: NUMBACONV_PTX_CACHE, or a folder of the user's for temporary files."""
    given = os.environ.get("NUMBACONV_PTX_CACHE")
    path = Path(given or Path(tempfile.gettempdir()) / f"numbaconv-ptx-{getpass.getuser()}")
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def source_of(module: str) -> Path:
    """Return the file of a module of numbaconv."""
    return Path(numbaconv.__file__).parent.joinpath(*module.split(".")[1:]).with_suffix(".py")


def modules_of(name: str) -> set[str]:
    """Return the modules that a kernel is made of: the one that makes it, and all they import."""
    found: set[str] = set()
    rest = [name, *INTRINSICS]
    while rest:
        name = rest.pop()
        if name in found or name in HOST or not name.startswith(PACKAGES):
            continue
        if source_of(name).exists():  # else it is what is imported from one
            found.add(name)
            for node in ast.walk(ast.parse(source_of(name).read_bytes())):
                if isinstance(node, ast.ImportFrom) and node.module:
                    rest += [node.module, *(f"{node.module}.{part.name}" for part in node.names)]
    return found


@functools.cache
def stamp(module: str) -> str:
    """Digest of all that PTX depends on beside the kernel's own key, which a module makes."""
    digest = hashlib.sha256(inspect.getsource(to_ptx).encode())
    for name in sorted(modules_of(module)):
        digest.update(source_of(name).read_bytes())
    for package in ("numba-cuda", "numba"):
        digest.update(importlib.metadata.version(package).encode())
    return digest.hexdigest()


@functools.lru_cache(maxsize=MOST_PROGRAMS)
def program_of(ptx: str) -> Program:
    """Return the program that PTX is."""
    return Program(ptx)


def ptx_of(kernel: Kernel, capability: tuple[int, int]) -> str:
    """Return the PTX of a kernel, kept from an earlier run or compiled as for a launch."""
    kept = (9, 0) if capability >= (8, 0) else capability  # kernels for 8.0 have another target
    key = stamp(kernel.module), kernel.name, kept
    name = hashlib.sha256(repr(key).encode()).hexdigest()[:24]
    path = folder() / f"{name}.ptx"
    if not path.exists():
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(to_ptx(kernel.source, kept))
        temporary.rename(path)
    return retargeted(path.read_text(), capability)


def retargeted(ptx: str, capability: tuple[int, int]) -> str:
    """Return PTX for another capability, as far as it may have one."""
    if find_features(ptx) and capability != SPECIFIC:
        raise FaultError(f"a kernel for {SPECIFIC} alone on {capability}")
    return re.sub(r"(?m)^\.target sm_\d+", ".target sm_{}{}".format(*capability), ptx)


class Resources(NamedTuple):
    """What a kernel takes of a multiprocessor, as its object says: each thread's."""

    registers: int
    local_bytes: int


def resources_of(cubin: bytes) -> Resources:
    """Return the most that one of the functions in an object takes: the kernel, slow divisions."""
    (sections,) = struct.unpack_from("<Q", cubin, 0x28)
    size, count, names = struct.unpack_from("<HHH", cubin, 0x3A)
    heads = [struct.unpack_from("<IIQQQQIIQQ", cubin, sections + i * size) for i in range(count)]
    found: list[tuple[int, int]] = []
    for name, _, _, _, start, length, *_ in heads:
        if cubin[heads[names][4] + name :].startswith(b".nv.info\0"):
            found += _attributes(cubin[start : start + length])
    of_registers, of_frames = 0x2F, 0x11
    most = {kind: max(v for k, v in found if k == kind) for kind in (of_registers, of_frames)}
    return Resources(most[of_registers], most[of_frames])


def _attributes(section: bytes) -> Iterator[tuple[int, int]]:
    """Kinds and values of attributes: (form, kind, 16 bits of value or size, symbol, value)."""
    with_size, at = 0x04, 0
    while at < len(section):
        form, kind, size = struct.unpack_from("<BBH", section, at)
        if form == with_size and size == 8:
            yield kind, struct.unpack_from("<II", section, at + 4)[1]
        at += 4 + (size if form == with_size else 0)
