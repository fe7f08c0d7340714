"""Compiled kernels on disk: never the cause of an exception, never a stale or a foreign kernel.

A kernel is one file: object code behind a checksum, which is taken over the code and over all that
the code depends on: the whole package, versions, compiler options, signature and CPU. Damage, an
edit and a mix-up are then the same thing, a checksum that does not match, and any failure means
"not cached". Code is run, so only those files are read that nobody but the user can have written.
"""

import functools
import hashlib
import os
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import config
from numba.misc.appdirs import AppDirs

from numbaconv.codegen import locks
from numbaconv.codegen.sources import DIGEST, PACKAGE, package_digest

_CHECKSUM_SIZE = hashlib.sha256().digest_size
_ABANDONED_AFTER = 3600.0  # seconds: nobody takes that long to write a file

# What changes the code beside its source, signature and CPU.
_OPTIONS = ("OPT", "BOUNDSCHECK", "DEBUGINFO_DEFAULT", "LOOP_VECTORIZE", "SLP_VECTORIZE")


_checked = 0  # modules of the package that were imported when its sources were last looked at
_is_unchanged = True  # since the import of `numbaconv`, as far as that is known


def _digest() -> str:
    """Digest of what is imported now; empty if the sources have changed since `numbaconv` was.

    Most of its modules are imported later than itself, some when they are first needed. Kernels
    that were stored before an edit would serve Python code from after it.
    """
    global _checked, _is_unchanged
    root = f"{PACKAGE.name}."
    imported = sum(name.startswith(root) for name in sys.modules.copy())
    if imported != _checked and _is_unchanged:
        _is_unchanged = package_digest() == DIGEST
        _checked = imported
    return DIGEST if _is_unchanged else ""


@functools.cache
def cache_directory() -> Path:
    """Return the directory of this copy of the package: made, and the user's own; or raise OSError.

    It lies in ``NUMBA_CACHE_DIR`` or, without that, in the user's directory for caches.
    """
    root = Path(config.CACHE_DIR or AppDirs(appname="numbaconv", appauthor=False).user_cache_dir)
    if not (config.CACHE_DIR or root.is_absolute()):
        raise OSError("the user has no home")
    copy = hashlib.sha256(str(PACKAGE).encode()).hexdigest()[:16]
    directory = (root / f"numbaconv-{copy}").absolute()
    _make_private(directory)
    if not _is_private(directory.lstat()):
        raise OSError(f"others can write to {directory}")
    _remove_abandoned(directory)
    return directory


def _make_private(directory: Path) -> None:
    """Make a directory, and those above that are missing, for this user alone."""
    if not directory.parent.exists():
        _make_private(directory.parent)
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)


def _is_private(status: os.stat_result) -> bool:
    """Whether only this user, or root, can have written a file or into a directory."""
    if not hasattr(os, "geteuid"):  # Windows: the user's profile is the user's
        return True
    foreign = status.st_uid not in (0, os.geteuid()) or stat.S_ISLNK(status.st_mode)
    return not (foreign or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def _remove_abandoned(directory: Path) -> None:
    """Remove what processes left that were killed while they wrote."""
    for path in directory.glob("*.tmp"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _ABANDONED_AFTER:
                path.unlink()


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        if not _is_private(os.fstat(file.fileno())):
            raise OSError(f"others can write to {path}")
        return file.read()


def write(path: Path, content: bytes) -> None:
    """Write a file that others see whole or not at all."""
    handle, name = tempfile.mkstemp(".tmp", dir=path.parent)  # for this user alone
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


def options() -> list[tuple[str, Any]]:
    """Settings of Numba that change what is compiled."""
    names = (*_OPTIONS, "USING_SVML")
    return [(name, getattr(config, name, None)) for name in names]


def settings() -> tuple[Any, ...]:
    """Versions and options that change what is compiled."""
    versions = numba.__version__, llvmlite.__version__, sys.implementation.cache_tag
    return (versions, options())


def _path(symbol: str, identity: str) -> Path:
    name = f"{symbol}-{hashlib.sha256(identity.encode()).hexdigest()[:20]}.nbc"
    return cache_directory() / name


@contextmanager
def alone(symbol: str, identity: str) -> Iterator[None]:
    """Keep other processes from compiling the same kernel for this directory meanwhile."""
    try:
        path = cache_directory() / "lock" if _digest() else None
    except OSError:
        path = None
    if path is None:  # nothing is kept, so there is nothing to wait for
        yield
        return
    place = int.from_bytes(hashlib.sha256(f"{symbol} {identity}".encode()).digest()[:4], "big")
    with locks.alone(path, place):
        yield


def pack(identity: str, code: bytes) -> bytes:
    """Return code behind its checksum."""
    return _checksum(identity, code) + code


def unpack(identity: str, content: bytes) -> bytes | None:
    """Return the code in what `pack` made; None if it is damaged, or is other code."""
    checksum, code = content[:_CHECKSUM_SIZE], content[_CHECKSUM_SIZE:]
    return code if _digest() and checksum == _checksum(identity, code) else None


def load(symbol: str, identity: str) -> bytes | None:
    """Return the stored code of a kernel, or None.

    Parameters
    ----------
    symbol : str
        Name of its function.
    identity : str
        All that the code depends on beside the package, in words.
    """
    try:
        return unpack(identity, _read(_path(symbol, identity)))
    except Exception:  # no directory, no file, none that may be read
        return None


def store(symbol: str, identity: str, code: bytes) -> None:
    """Store the code of a kernel if that is possible."""
    try:
        # An edit since the import: this code is not what the package gives now.
        if _digest() and package_digest() == DIGEST:
            write(_path(symbol, identity), pack(identity, code))
    except Exception:  # no directory, full disk
        return


def _checksum(identity: str, code: bytes) -> bytes:
    return hashlib.sha256(b"\0".join((DIGEST.encode(), identity.encode(), code))).digest()
