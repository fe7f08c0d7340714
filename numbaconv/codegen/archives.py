"""Kernels that were built ahead: data of the package, an archive for each family of CPUs.

An archive is a zip file, uncompressed, as a wheel is compressed itself. An entry is what a file of
the cache is, code behind a checksum (see `cache`), but its code depends on less: on the family in
place of the host, and neither on Python's version nor on LLVM's. The archive's comment is the
digest of the sources that it was built from.
"""

import functools
import io
import os
import pkgutil
import zipfile
from typing import NamedTuple

from numba.core import config

from numbaconv.codegen import cache
from numbaconv.codegen.kernel import Kernel
from numbaconv.codegen.machines import FAMILIES, HOST, Machine, is_host, is_of, machine
from numbaconv.codegen.sources import DIGEST
from numbaconv.codegen.target import VECTOR_BYTES

FOLDER = "built_ahead"  # of the package
_VARIABLE = "NUMBACONV_BUILT_AHEAD"  # 0: none are used


class _Archive(NamedTuple):
    """The archive of a family, in memory."""

    name: str
    machine: Machine
    entries: zipfile.ZipFile


def file_name(name: str) -> str:
    """Name of the archive of a family."""
    return f"{name}.zip"


def identity(kernel: Kernel, built_for: Machine) -> str:
    """All that the code of a kernel depends on beside the package, in words.

    Functions that Python calls read its objects.
    """
    layout = tuple.__basicsize__, object.__basicsize__
    signature = str(kernel.signature)
    return repr((kernel.symbol, signature, kernel.refers_to, built_for, layout, cache.options()))


def _names() -> list[str]:
    """Names of the archives that this machine may use, the best first."""
    if config.DISABLE_JIT or os.environ.get(_VARIABLE) == "0":
        return []
    if not is_host():  # all code is for a CPU that the user named
        return [n for n, f in FAMILIES.items() if is_of(f) and machine()[1:] == f.machine[1:]]
    fits = (n for n, f in FAMILIES.items() if f.vector_bytes == VECTOR_BYTES and is_of(f))
    return [HOST, *fits]


def _read(name: str) -> zipfile.ZipFile | None:
    """Return an archive; None if there is none, or one that nobody can read."""
    try:
        content = pkgutil.get_data(__name__.partition(".")[0], f"{FOLDER}/{file_name(name)}")
        return None if content is None else zipfile.ZipFile(io.BytesIO(content))
    except Exception:  # no file, a loader without data, a damaged archive
        return None


@functools.cache
def _archives() -> list[_Archive]:
    """Return the archives for this machine that were built from these very sources."""
    found = []
    for name in _names():
        entries = _read(name)
        if entries is not None and entries.comment == DIGEST.encode():
            built_for = machine() if name == HOST else FAMILIES[name].machine
            found.append(_Archive(name, built_for, entries))
    return found


def find(kernel: Kernel) -> tuple[bytes, str] | None:
    """Return the code of a kernel and the family it was built for, or None."""
    for name, built_for, entries in _archives():
        try:
            content = entries.read(kernel.symbol)
        except Exception:  # not in it, or damaged
            continue
        code = cache.unpack(identity(kernel, built_for), content)
        if code is not None:
            return code, name
    return None


def write(kernels: dict[str, bytes]) -> bytes:
    """Return an archive of packed kernels, the same bytes for the same kernels."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_STORED) as archive:
        for symbol in sorted(kernels):
            entry = zipfile.ZipInfo(symbol)  # of 1980
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # else the builder's
            archive.writestr(entry, kernels[symbol])
        archive.comment = DIGEST.encode()
    return memory.getvalue()


def state() -> str:
    """Say which kernels there are, or why there are none: for `show_config`."""
    names = _names()
    if not names:
        return f"none with {_VARIABLE}=0, NUMBA_DISABLE_JIT, or such a NUMBA_CPU_NAME"
    there = [name for name in names if _read(name) is not None]
    if not there:
        return f"none for {' or '.join(names)}"
    used = [archive.name for archive in _archives()]
    return f"for {', '.join(used)}" if used else f"for {', '.join(there)}, from other sources"
