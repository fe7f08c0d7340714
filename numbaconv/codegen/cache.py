"""Compiled kernels on disk: never the cause of an exception, never a stale or a foreign kernel.

Numba's own cache has faults for a package of several files (Numba 0.68): it notices an edit only
in the file of the cached function itself; an unwritable directory raises when the function is
decorated, and a damaged file when it is loaded; and of two processes that fill an empty cache at
once, each may give another kernel the number 1, so that the index of the one points at the code of
the other.

Here a kernel is one file, its checksum taken over the code and over all that the code depends on:
the whole package, versions, compiler options, signature and CPU. Damage, an edit and a mix-up are
then the same thing, a checksum that does not match, and any failure means "not cached". The files
are pickles, so only those are read that nobody but the user can have written.
"""

import functools
import hashlib
import os
import pickle
import stat
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import caching, config
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps
from numba.misc.appdirs import AppDirs

from numbaconv.codegen.sources import DIGEST, PACKAGE, package_digest

_CHECKSUM_SIZE = hashlib.sha256().digest_size
_ABANDONED_AFTER = 3600.0  # seconds: nobody takes that long to write a file

# What changes the code beside its source, signature and CPU.
_OPTIONS = ("OPT", "BOUNDSCHECK", "DEBUGINFO_DEFAULT", "LOOP_VECTORIZE", "SLP_VECTORIZE")


def _digest() -> str:
    """Digest of what is imported now; empty if the sources have changed since `numbaconv` was.

    Its functions are imported later than itself. Kernels that were stored before an edit would
    serve Python code from after it.
    """
    return DIGEST if package_digest() == DIGEST else ""


_DIGEST = _digest()


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


def _write(path: Path, content: bytes) -> None:
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


class KernelCache(caching.NullCache):
    """What Numba asks for a function's compiled code, and gives it to.

    Parameters
    ----------
    function : callable
        The Python function.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._name = f"{function.__module__}.{function.__qualname__}"

    @property
    def cache_path(self) -> str:
        """The directory, for Numba's statistics."""
        try:
            return str(cache_directory())
        except OSError:
            return ""

    def _identity(self, signature: Any, target_context: Any) -> str:
        """All that the code depends on but the sources, in words."""
        target = target_context.codegen().magic_tuple()
        versions = numba.__version__, llvmlite.__version__, sys.implementation.cache_tag
        options = [(name, getattr(config, name, None)) for name in _OPTIONS]
        options.append(("SVML", getattr(config, "USING_SVML", None)))
        return repr((self._name, signature, target, versions, options))

    def _path(self, identity: str) -> Path:
        name = f"{self._name}-{hashlib.sha256(identity.encode()).hexdigest()[:20]}.nbc"
        return cache_directory() / name

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the stored code of a signature, or None."""
        target_context.refresh()
        try:
            identity = self._identity(sig, target_context)
            content = _read(self._path(identity))
            checksum, payload = content[:_CHECKSUM_SIZE], content[_CHECKSUM_SIZE:]
            if checksum != _checksum(identity, payload):
                return None
            result = CompileResult._rebuild(target_context, *pickle.loads(payload))
            # Numba forgets to (0.68): what is compiled to call a loaded kernel, and stored, must
            # start the threads that the kernel needs, or the next process calls address 0.
            result.library._reload_init.update(result.reload_init)
            return result
        except Exception:  # no directory, no file, none that may be read
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Store the code of a signature if that is possible."""
        if data.lifted or data.library.has_dynamic_globals:
            return
        try:
            # An edit since the import: this code is not what the package gives now.
            if not _DIGEST or package_digest() != _DIGEST:
                return
            identity = self._identity(sig, data.target_context)
            payload = dumps(data._reduce())
            _write(self._path(identity), _checksum(identity, payload) + payload)
        except Exception:  # no directory, full disk
            return


def _checksum(identity: str, payload: bytes) -> bytes:
    return hashlib.sha256(b"\0".join((_DIGEST.encode(), identity.encode(), payload))).digest()
