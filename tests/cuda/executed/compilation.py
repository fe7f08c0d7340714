"""From a kernel to its program: compiled to PTX as a launch would be, which is kept on disk."""

from __future__ import annotations

import functools
import getpass
import hashlib
import importlib.metadata
import os
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from numbaconv.cuda.kernels import Kernel, to_ptx
from tests.cuda.executed.program import Program

# What kernels are made of, in the package; host code does not change them.
SOURCES = (
    *(
        f"cuda/{name}.py"
        for name in (
            "compiled",
            "compiled_memory",
            "device",
            "emission",
            "filter_gradients",
            "filter_tiles",
            "filters",
            "gemm",
            "gemm_multiply",
            "gemm_tiles",
            "gradient_tiles",
            "intrinsics",
            "kernels",
            "kind",
            "passes",
            "patch_tiles",
            "placement",
            "problem",
            "tiles",
        )
    ),
    *(f"problem/{name}.py" for name in ("activations", "padding_modes", "shape")),
)
MOST_PROGRAMS = 40  # kept parsed


@functools.cache
def folder() -> Path:
    """Where PTX is kept: NUMBACONV_PTX_CACHE, or a folder of the user's for temporary files."""
    given = os.environ.get("NUMBACONV_PTX_CACHE")
    path = Path(given or Path(tempfile.gettempdir()) / f"numbaconv-ptx-{getpass.getuser()}")
    path.mkdir(mode=0o700, exist_ok=True)
    return path


@functools.cache
def stamp() -> str:
    """Digest of all that PTX depends on beside the kernel's own key."""
    import numbaconv

    root = Path(numbaconv.__file__).parent
    digest = hashlib.sha256()
    for name in SOURCES:
        digest.update((root / name).read_bytes())
    for package in ("numba-cuda", "numba"):
        digest.update(importlib.metadata.version(package).encode())
    return digest.hexdigest()


@functools.lru_cache(maxsize=MOST_PROGRAMS)
def program_of(ptx: str) -> Program:
    """Return the program that PTX is."""
    return Program(ptx)


def ptx_of(kernel: Kernel, capability: tuple[int, int]) -> str:
    """Return the PTX of a kernel, kept from an earlier run or compiled as for a launch."""
    if capability == (8, 0):
        capability = (9, 0)  # the kernels for the two differ in their target alone
    name = hashlib.sha256(repr((stamp(), kernel.name, capability)).encode()).hexdigest()[:24]
    path = folder() / f"{name}.ptx"
    if not path.exists():
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(to_ptx(kernel.source, capability))
        temporary.rename(path)
    return path.read_text()


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
