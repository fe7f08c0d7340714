"""How the package is compiled: three kinds of function, written in Python.

`inline`
    A helper. It becomes part of the compiled functions that call it.
`native`
    A function with a C signature, compiled for one element type at a time and called through
    its address, with a tuple of its class of arguments. Whatever a function calls is compiled into
    that function again; the register tiles, hundreds of blocks of vector code, behind an address
    are compiled once. Python calls some of them too, with arrays: see `from_python`.
`parallel`
    A native function with a ``prange``.

`pipeline` compiles a native function, or `objects` finds it on disk: both on a thread with stack
enough, see `on_large_stack`.
"""

import ctypes
import functools
import os
import threading
from collections.abc import Callable
from typing import Any

import numba
from numba import types
from numba.core import config
from numba.core.compiler_lock import global_compiler_lock
from numba.core.sigutils import normalize_signature
from numba.core.typing.templates import signature as numba_signature

from numbaconv._imports import without_collector
from numbaconv.codegen.arguments import Foreign, argument_types, kinds_of
from numbaconv.codegen.cache import cache_directory
from numbaconv.codegen.kernel import Kernel
from numbaconv.codegen.notice import notice
from numbaconv.codegen.objects import address_of_code
from numbaconv.codegen.pipeline import (
    Optimisation,
    compile_lean,
    compile_parallel,
    inline,
    start_numba,
)

__all__ = ["from_python", "inline", "native", "on_large_stack", "parallel"]

# LLVM takes some hundred KiB of stack, and ends the process where there is less. A thread may have
# 64 KiB (`threading.stack_size`), one of macOS has 512. So much address space costs nothing.
_STACK_BYTES = 16 << 20
_LOOK_AFTER = 0.25  # seconds from one look at what the compiler is at to the next
_starting = threading.RLock()  # held while `threading.stack_size` is not the caller's
_compiling = False  # whether this package is; changed under the compiler's lock

# A child that was forked while another thread compiles has its lock, which nobody gives back, and
# half of what it was at. So a fork waits until nobody compiles.
if hasattr(os, "register_at_fork"):
    for _lock in (global_compiler_lock, _starting):
        os.register_at_fork(
            before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
        )


def _start(thread: threading.Thread) -> bool:
    """Start a thread with a large stack; False if no thread can be started any more."""
    with _starting:
        before = threading.stack_size(_STACK_BYTES)
        try:
            thread.start()
        except RuntimeError:  # the interpreter shuts down, or a limit is reached
            return False
        finally:
            threading.stack_size(before)
    return True


def _compile_alone(compilation: Callable[[], Any]) -> Any:
    """Run a compilation, unless this thread is at one already: LLVM would end the process."""
    global _compiling
    with global_compiler_lock:
        if _compiling:
            raise RuntimeError(
                "a signal handler, finalizer or callback of the garbage collector needs a kernel "
                "that is not compiled yet, and has interrupted the compiler: make such a call once "
                "before"
            )
        _compiling = True
        try:
            return compilation()
        finally:
            _compiling = False


def on_large_stack(compilation: Callable[[], Any]) -> Any:
    """Run a compilation on a thread of its own and wait for it: the caller's stack may be small.

    A thread that has the compiler's lock goes on itself, as the other would wait for that.
    """
    # From before the thread starts: Python holds locks then, for which a callback of the collector
    # that starts another would wait.
    with without_collector():
        return _on_large_stack(compilation)


def _on_large_stack(compilation: Callable[[], Any]) -> Any:
    outcome: list[tuple[Any, BaseException | None]] = []

    def run() -> None:
        try:
            outcome.append((_compile_alone(compilation), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run, name="numbaconv compiler")
    if global_compiler_lock.is_locked() or not _start(thread):
        return _compile_alone(compilation)
    while thread.is_alive():  # in a child that a signal handler forks meanwhile it is not
        thread.join(_LOOK_AFTER)
        notice.look(cache_directory)
    if not outcome:
        return _compile_alone(compilation)
    result, error = outcome.pop()
    if error is not None:
        raise error
    return result


natives: list[Any] = []  # all that there are


class native:  # noqa: N801 (a decorator)
    """Decorate a function that is called through its address.

    Parameters
    ----------
    arguments : type or callable
        Class of its arguments (see `arguments`): the names of its fields are the function's
        parameters. Or, of a function that has a result, what gives its Numba signature for an
        element type.
    optimise : callable, optional
        The passes that LLVM runs on it, of `pipeline`: `lightly`, or `tidy`. By default all.
    """

    _refers_to = ""  # see `Kernel`

    def __init__(self, arguments: Any, optimise: Optimisation | None = None) -> None:
        self.arguments, self._optimise = arguments, optimise
        self._addresses: dict[Any, Any] = {}

    def __call__(self, function: Callable[..., Any]) -> Any:
        """Take the function."""
        functools.update_wrapper(self, function)
        self._function = function
        self._check_parameters()
        natives.append(self)
        return self

    def _check_parameters(self) -> None:
        """Refuse a function whose parameters are not those that its callers will hand over."""
        code = self._function.__code__
        names = code.co_varnames[: code.co_argcount]
        if isinstance(self.arguments, type) and names != self.arguments._fields:  # type: ignore[attr-defined]
            raise TypeError(f"{self._function.__qualname__} does not take {self.arguments}")

    @property
    def converts(self) -> bool:
        """Whether it is compiled for a pair of element types."""
        return isinstance(self.arguments, type) and Foreign in kinds_of(self.arguments).values()

    def address(self, dtype: Any) -> Any:
        """Address of the function for a Numba element type (without JIT: what stands for it)."""
        try:
            return self._addresses[dtype]
        except KeyError:
            pass
        if config.DISABLE_JIT:
            return self.interpret
        return on_large_stack(functools.partial(self._find, dtype))

    @functools.cached_property
    def call(self) -> Callable[[tuple[Any, ...]], int]:
        """What calls a function of the signature `from_python`, without Python's lock."""
        if config.DISABLE_JIT:
            return self._function
        prototype = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.py_object)
        return prototype(self.address(types.int64))

    def _find(self, dtype: Any) -> Any:
        """Compile under Numba's own lock, unless another thread was faster.

        With a second lock, a thread that compiles a caller and one that compiles what it calls
        could wait for each other.
        """
        if dtype not in self._addresses:
            self._addresses[dtype] = address_of_code(self.kernel(dtype))
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

    def kernel(self, dtype: Any) -> Kernel:
        """What is compiled for an element type."""
        arguments, result = normalize_signature(self.signature(dtype))
        signature = numba_signature(result, *arguments)
        symbol = f"{self._function.__module__}.{self._function.__qualname__}.{dtype}"
        symbol = "".join(each if each.isalnum() or each in "._" else "-" for each in symbol)
        compilation = functools.partial(self._to_code, self._source(), signature, symbol)
        return Kernel(symbol, signature, self._refers_to, compilation)

    def _to_code(self, source: Callable[..., Any], signature: Any, symbol: str) -> bytes:
        return compile_lean(source, signature, symbol, self._optimise)


class parallel(native):  # noqa: N801 (a decorator)
    """Decorate a native function with a ``prange``."""

    _refers_to = f"Numba {numba.__version__}"

    def address(self, dtype: Any) -> Any:
        """Address of the function, once the threads that it needs are there."""
        if dtype not in self._addresses and not config.DISABLE_JIT:
            start_numba()
        return super().address(dtype)

    def _to_code(self, source: Callable[..., Any], signature: Any, symbol: str) -> bytes:
        return compile_parallel(source, signature, symbol)


def from_python(dtype: Any) -> Any:
    """Signature of a native function that Python calls, by `native.call`, with a tuple of arrays.

    It reads the objects themselves (`pointers.data_in`), and returns an integer.
    """
    return types.int64(types.CPointer(types.int64))
