"""How the package is compiled: three kinds of function, and a cache that cannot do harm.

`inline`
    A helper. It becomes part of the compiled functions that call it.
`kernel`
    An ordinary ``@njit`` function, called from Python: the way in.
`native`
    A function with a C signature, compiled for one element type at a time and called through
    its address. Numba compiles whatever a function calls into that function again; the register
    tiles, hundreds of blocks of vector code, behind an address are compiled once.

Numba's own cache has three faults for a package of several files (Numba 0.68): it notices an
edit only in the file of the cached function itself, an unwritable directory raises when the
function is decorated, and a damaged file raises when it is loaded. Here the stamp is a digest of
the whole package, every stored kernel carries a checksum, and any failure means "not cached".
"""

import functools
import hashlib
import os
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit
from numba.core import caching, config
from numba.core.ccallback import CFunc
from numba.core.sigutils import normalize_signature
from numba.extending import register_jitable

# Division is C's (no ZeroDivisionError to carry around). No fastmath: NaN and Inf propagate.
_OPTIONS = {"error_model": "numpy"}

inline: Callable[..., Any] = register_jitable(**_OPTIONS)


@functools.cache
def package_digest() -> str:
    """Digest of all the package's sources: what a cached kernel depends on."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    # Seen: a kernel stored by a process of the CUDA simulator crashes the others that load it.
    digest.update(os.environ.get("NUMBA_ENABLE_CUDASIM", "").encode())
    return digest.hexdigest()


class _CheckedImpl(caching.CompileResultCacheImpl):
    """Stores a kernel as (checksum, pickle) and refuses one whose bytes have changed."""

    def reduce(self, data: Any) -> tuple[str, bytes]:
        """Return what is stored."""
        payload = caching.dumps(super().reduce(data))
        return hashlib.sha256(payload).hexdigest(), payload

    def rebuild(self, target_context: Any, reduced_data: tuple[str, bytes]) -> Any:
        """Return what was stored, or raise."""
        checksum, payload = reduced_data
        if hashlib.sha256(payload).hexdigest() != checksum:
            raise ValueError("checksum of a cached kernel does not match")
        return super().rebuild(target_context, pickle.loads(payload))


class _SafeCache(caching.FunctionCache):
    """A function cache whose failures are misses, stamped with the digest of the package."""

    _impl_class = _CheckedImpl

    def __init__(self, py_func: Callable[..., Any]) -> None:
        super().__init__(py_func)
        self._cache_file._source_stamp = package_digest()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return a stored function, or None."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # whatever a damaged file makes pickle raise
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Store a function if that is possible."""
        try:
            super().save_overload(sig, data)
        except OSError:  # full disk, directory gone
            return
        except Exception:  # a damaged index: write a new one
            try:
                Path(self._cache_file._index_path).unlink()
                super().save_overload(sig, data)
            except Exception:
                return


def _make_cached(compiled: Any, function: Callable[..., Any]) -> None:
    try:
        compiled._cache = _SafeCache(function)
    except Exception:  # no writable directory: compile in every process
        return


def kernel(parallel: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Decorate a function that Python calls: nopython, without the GIL, cached."""

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher = njit(nogil=True, parallel=parallel, **_OPTIONS)(function)
        if not config.DISABLE_JIT:
            _make_cached(dispatcher, function)
        return dispatcher

    return decorate


class native:  # noqa: N801 (a decorator)
    """Decorate a function that is called through its address.

    Parameters
    ----------
    signature : callable
        Gives the Numba signature for an element type.
    """

    _lock = threading.Lock()

    def __init__(self, signature: Callable[[Any], Any]) -> None:
        self._signature = signature
        self._addresses: dict[Any, Any] = {}
        self._alive: list[Any] = []

    def __call__(self, function: Callable[..., Any]) -> "native":
        """Take the function."""
        functools.update_wrapper(self, function)
        self._function = function
        return self

    def address(self, dtype: Any) -> Any:
        """Address of the function for a Numba element type (without JIT: the function itself)."""
        try:
            return self._addresses[dtype]
        except KeyError:
            pass
        with self._lock:
            if dtype not in self._addresses:
                self._addresses[dtype] = self._compile(dtype)
        return self._addresses[dtype]

    def _compile(self, dtype: Any) -> Any:
        if config.DISABLE_JIT:
            return self._function
        signature = normalize_signature(self._signature(dtype))
        compiled = CFunc(self._function, signature, locals={}, options=dict(_OPTIONS))
        _make_cached(compiled, self._function)
        compiled.compile()
        self._alive.append(compiled)
        return compiled.address
