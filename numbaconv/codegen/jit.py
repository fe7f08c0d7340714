"""How the package is compiled: three kinds of function.

`inline`
    A helper. It becomes part of the compiled functions that call it.
`kernel`
    An ordinary ``@njit`` function, called from Python: the way in.
`native`
    A function with a C signature, compiled for one element type at a time and called through
    its address. Numba compiles whatever a function calls into that function again; the register
    tiles, hundreds of blocks of vector code, behind an address are compiled once.

Both kinds of compiled function are kept on disk by `cache.KernelCache`.
"""

import functools
import os
from collections.abc import Callable
from typing import Any

from numba import njit
from numba.core import config
from numba.core.ccallback import CFunc
from numba.core.compiler_lock import global_compiler_lock
from numba.core.sigutils import normalize_signature
from numba.extending import register_jitable

from numbaconv.codegen.cache import KernelCache

# Division is C's (no ZeroDivisionError to carry around). No fastmath: NaN and Inf propagate.
_OPTIONS = {"error_model": "numpy"}

# A child that was forked while another thread compiles has its lock, which nobody gives back, and
# half of what it was at. So a fork waits until nobody compiles.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )

# Nobody calls a helper from Python or through its address, so it needs no wrappers: without them a
# first call takes 0.85 to 0.93 of the time.
inline: Callable[..., Any] = register_jitable(
    **_OPTIONS, no_cpython_wrapper=True, no_cfunc_wrapper=True
)


def kernel(parallel: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Decorate a function that Python calls: nopython, without the GIL, cached."""

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher = njit(nogil=True, parallel=parallel, **_OPTIONS)(function)
        if not config.DISABLE_JIT:
            dispatcher._cache = KernelCache(function)
        return dispatcher

    return decorate


class native:  # noqa: N801 (a decorator)
    """Decorate a function that is called through its address.

    Parameters
    ----------
    signature : callable
        Gives the Numba signature for an element type.
    """

    _compiling = False  # anywhere; changed under the compiler's lock

    def __init__(self, signature: Callable[[Any], Any]) -> None:
        self.signature = signature
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
        # Numba's own lock: with a second one, a thread that compiles a caller and one that compiles
        # what it calls could wait for each other.
        with global_compiler_lock:
            if dtype not in self._addresses:
                self._addresses[dtype] = self._compile_alone(dtype)
        return self._addresses[dtype]

    def _compile_alone(self, dtype: Any) -> Any:
        """Compile, unless this thread is at it already: LLVM would end the process."""
        if native._compiling:
            raise RuntimeError(
                "a signal handler needs a kernel that is not compiled yet, and has interrupted the "
                "compiler: make such a call once before signals may come"
            )
        native._compiling = True
        try:
            return self._compile(dtype)
        finally:
            native._compiling = False

    def _compile(self, dtype: Any) -> Any:
        if config.DISABLE_JIT:
            return self._function
        signature = normalize_signature(self.signature(dtype))
        compiled: Any = CFunc(self._function, signature, locals={}, options=dict(_OPTIONS))
        compiled._cache = KernelCache(self._function)
        compiled.compile()
        self._alive.append(compiled)
        return compiled.address
