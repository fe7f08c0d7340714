"""From a kernel to its program: compiled to PTX as a launch would be, which is kept on disk."""

from __future__ import annotations

import functools
import getpass
import hashlib
import importlib.metadata
import os
import struct
import tempfile
from pathlib import Path
from typing import Any

from tests.cuda.executed.program import Program

# What kernels are made of, in the package; host code does not change them.
SOURCES = (
    *(
        f"cuda/{name}.py"
        for name in (
            "compiled",
            "compiled_memory",
            "device",
            "filters",
            "gemm",
            "gemm_tiles",
            "gradient_tiles",
            "intrinsics",
            "kind",
            "passes",
            "problem",
            "tiles",
        )
    ),
    *(f"problem/{name}.py" for name in ("activations", "padding_modes", "shape")),
)
MOST_PROGRAMS = 40  # kept parsed
_programs: dict[Any, Program] = {}


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


def program_of(
    kernel: Any, key: str, arguments: int, capability: tuple[int, int], lto: bool = False
) -> Program:
    """Return the program of a kernel with so many addresses as its arguments."""
    if capability == (8, 0):
        capability = (9, 0)  # the kernels for the two differ in their target alone
    full = key, arguments, capability, lto
    if full not in _programs:
        if len(_programs) >= MOST_PROGRAMS:
            _programs.clear()
        _programs[full] = Program(_ptx_of(kernel, full))
    return _programs[full]


def _ptx_of(kernel: Any, full: tuple[str, int, tuple[int, int], bool]) -> str:
    _, arguments, capability, lto = full
    name = hashlib.sha256(repr((stamp(), full)).encode()).hexdigest()[:24]
    path = folder() / f"{name}.ptx"
    if not path.exists():
        compile_to = lto_ptx if lto else ptx
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(compile_to(kernel, arguments, capability))
        temporary.rename(path)
    return path.read_text()


def ptx(kernel: Any, arguments: int, capability: tuple[int, int]) -> str:
    """PTX as numba-cuda makes it where nvJitLink is missing."""
    from numba import cuda, types

    options = kernel.targetoptions
    assert not any(options.get(name) for name in ("fastmath", "debug", "link"))
    text, _ = cuda.compile(
        kernel.py_func,
        types.void(*(types.int64,) * arguments),
        device=False,
        cc=capability,
        abi="numba",
        launch_bounds=options.get("launch_bounds"),
    )
    return str(text)


# Where nvJitLink is installed, as the extras cuda12 and cuda13 do, a launch compiles to LTO-IR,
# and for 9.0 with the instructions that no later device has (sm_90a).


def _target(capability: tuple[int, int]) -> tuple[Any, ...]:
    return (*capability, "a" if capability >= (9, 0) else "")


def library(kernel: Any, arguments: int, capability: tuple[int, int]) -> Any:
    """Return the library that a launch makes of a kernel."""
    from numba import types
    from numba.cuda.compiler import compile_cuda, kernel_fixup
    from numba.cuda.cudadrv import nvvm

    compiled = compile_cuda(
        kernel.py_func,
        types.void,
        (types.int64,) * arguments,
        debug=False,
        lineinfo=False,
        forceinline=False,
        fastmath=False,
        nvvm_options={"fastmath": False, "opt": 3},
        cc=capability,
        max_registers=None,
        lto=True,
    )
    name = compiled.fndesc.llvm_func_name
    function = compiled.library.get_function(name)
    compiled.library._entry_name = name
    kernel_fixup(function, False)
    nvvm.set_launch_bounds(function, kernel.targetoptions.get("launch_bounds"))
    return compiled.library


def lto_ptx(kernel: Any, arguments: int, capability: tuple[int, int]) -> str:
    """PTX as nvJitLink makes it of LTO-IR."""
    text = library(kernel, arguments, capability).get_lto_ptx(_target(capability))
    return str(text).replace("\0", "")


def lto_cubin(kernel: Any, arguments: int, capability: tuple[int, int]) -> bytes:
    """Machine code as nvJitLink makes it of LTO-IR."""
    code = library(kernel, arguments, capability).get_cubin(_target(capability))
    return bytes(code.code)


def registers_of(cubin: bytes) -> int:
    """Registers of the one kernel in an object, as its section of attributes says."""
    (sections,) = struct.unpack_from("<Q", cubin, 0x28)
    size, count, names = struct.unpack_from("<HHH", cubin, 0x3A)
    heads = [struct.unpack_from("<IIQQQQIIQQ", cubin, sections + i * size) for i in range(count)]
    found = []
    for name, _, _, _, start, length, *_ in heads:
        if cubin[heads[names][4] + name :].startswith(b".nv.info\0"):
            found += _register_counts(cubin[start : start + length])
    assert len(found) == 1
    return found[0]


def _register_counts(attributes: bytes) -> list[int]:
    """Numbers of registers among attributes: (form, kind, 16 bits of value or size, value)."""
    with_size, of_registers = 0x04, 0x2F
    found, at = [], 0
    while at < len(attributes):
        form, kind, size = struct.unpack_from("<BBH", attributes, at)
        if (form, kind) == (with_size, of_registers):
            found.append(struct.unpack_from("<II", attributes, at + 4)[1])
        at += 4 + (size if form == with_size else 0)
    return found
