"""How the package is compiled: three kinds of function, written in Python.

`inline`
    A helper. It becomes part of the compiled functions that call it.
`kernel`
    An ordinary ``@njit`` function, called from Python: the way in.
`native`
    A function with a C signature, compiled for one element type at a time and called through
    its address, with a tuple of its class of arguments. Numba compiles whatever a function calls
    into that function again; the register tiles, hundreds of blocks of vector code, behind an
    address are compiled once.

Both kinds of compiled function are kept on disk by `cache.KernelCache`.
"""

import ctypes
import functools
import inspect
import os
from collections.abc import Callable
from typing import Any

from numba import njit, types
from numba.core import config
from numba.core.ccallback import CFunc
from numba.core.compiler_lock import global_compiler_lock
from numba.core.sigutils import normalize_signature
from numba.extending import register_jitable

from numbaconv.codegen.arguments import argument_types
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

# Nobody calls a helper from Python or through its address, so it needs no wrappers.
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
    arguments : type or callable
        Class of its arguments (see `arguments`): the names of its fields are the function's
        parameters. Or, of a function that has a result, what gives its Numba signature for an
        element type.
    """

    _compiling = False  # anywhere; changed under the compiler's lock

    def __init__(self, arguments: Any) -> None:
        self.arguments = arguments
        self._addresses: dict[Any, Any] = {}

    def __call__(self, function: Callable[..., Any]) -> Any:
        """Take the function."""
        functools.update_wrapper(self, function)
        self._function = function
        self._check_parameters()
        return self

    def _check_parameters(self) -> None:
        """Refuse a function whose parameters are not those that its callers will hand over."""
        names = tuple(inspect.signature(self._function).parameters)
        if isinstance(self.arguments, type) and names != self.arguments._fields:  # type: ignore[attr-defined]
            raise TypeError(f"{self._function.__qualname__} does not take {self.arguments}")

    def address(self, dtype: Any) -> Any:
        """Address of the function for a Numba element type (without JIT: what stands for it)."""
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

    def interpret(self, arguments: Any) -> None:
        """Run the function without the compiler."""
        self._check_class(arguments)
        self._function(*arguments)

    def _check_class(self, arguments: Any) -> None:
        """Refuse the arguments of another function."""
        if isinstance(self.arguments, type) and type(arguments) is not self.arguments:
            raise TypeError(f"{self._function.__qualname__} does not take {arguments}")

    def signature(self, dtype: Any) -> Any:
        """Numba signature for an element type."""
        if isinstance(self.arguments, type):
            return types.void(*argument_types(self.arguments, dtype))
        return self.arguments(dtype)

    def _source(self) -> Callable[..., Any]:
        """What Numba compiles."""
        return self._function

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
            return self.interpret
        source, signature = self._source(), normalize_signature(self.signature(dtype))
        compiled: Any = CFunc(source, signature, locals={}, options=dict(_OPTIONS))
        compiled._cache = KernelCache(source)
        compiled.compile()
        # Jobs and machine code have its address, also when this module is loaded again.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(compiled))
        return compiled.address
