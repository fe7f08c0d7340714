"""Imports that wait until something is needed: a public name, the kernels of a lowering.

All go through `import_at_once`. What interrupts a program at any time, a signal handler or a
callback of the garbage collector, sees no half of a module that is imported there.
"""

import functools
import gc
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module, metadata
from types import ModuleType
from typing import Any

_NEEDED = ("numpy", "llvmlite", "numba", "numbaconv")
_importing = threading.RLock()


def _is_half(module: ModuleType | None) -> bool:
    """Whether the code of a module has not run to its end."""
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


def _refuse_half_modules() -> None:
    """Raise an error where this very thread is in the midst of an import that is needed."""
    for name, module in list(sys.modules.items()):
        if not _is_half(module) or name.partition(".")[0] not in _NEEDED:
            continue
        if _is_half(import_module(name)):  # which waits where another thread is at it
            raise RuntimeError(
                "a signal handler, finalizer or callback of the garbage collector needs numbaconv "
                "in the midst of its import: make such a call once before"
            )


@contextmanager
def without_collector() -> Iterator[None]:
    """Keep the garbage collector from looking, again and again, through what is made meanwhile.

    Afterwards that counts as old: the next collection of young objects passes over it. Nor does a
    callback of the collector interrupt what is done meanwhile.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():  # else a program keeps objects frozen, and wants them so
            gc.freeze()
            gc.unfreeze()
        gc.enable()


@contextmanager
def _signals_later() -> Iterator[None]:
    """Have signals heard at the end, each once.

    A handler may call upon what is imported, and Ctrl-C leave a half of Numba, which could not be
    imported again.
    """
    if threading.current_thread() is not threading.main_thread():  # where signals are handled
        yield
        return
    heard: dict[int, Any] = {}
    found = {each: signal.getsignal(each) for each in signal.valid_signals()}
    handlers = {number: handler for number, handler in found.items() if callable(handler)}
    try:
        for each in handlers:
            signal.signal(each, heard.__setitem__)
        yield
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
        for number, frame in heard.items():
            handlers[signal.Signals(number)](number, frame)


def import_at_once(modules: Iterable[str]) -> dict[str, Any]:
    """Import modules, in one thread and without the garbage collector.

    The collector would go through the whole of Numba a few times.

    Parameters
    ----------
    modules : iterable of str
        Full names.

    Returns
    -------
    dict
        The modules by their names.
    """
    _refuse_half_modules()
    # Handlers are called without the lock: they may wait for a thread that imports something.
    with _signals_later(), _importing, without_collector():
        return {name: import_module(name) for name in modules}


class Later:
    """A function whose module is imported when it is first called.

    Parameters
    ----------
    module, name : str
        Full name of the module, and name of the function there.

    Attributes
    ----------
    function : callable
        What to call; once it was called, the function itself.
    """

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name
        self.function: Callable[..., Any] = self._import_and_call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def _import_and_call(self, *args: Any, **kwargs: Any) -> Any:
        self.function = self._find()
        return self.function(*args, **kwargs)

    def _find(self) -> Callable[..., Any]:
        module = sys.modules.get(self._module)
        if module is None or _is_half(module):
            module = import_at_once([self._module])[self._module]
        function: Callable[..., Any] = getattr(module, self._name)
        return function


def is_numba_told() -> bool:
    """Whether Numba will import by itself, before it compiles anything, what it is to know of us.

    It looks for the entry points of installed packages once.
    """
    entry_points = sys.modules.get("numba.core.entrypoints")
    has_looked = getattr(entry_points, "_already_initialized", entry_points is not None)
    return not has_looked and _has_entry_point()


@functools.cache
def _has_entry_point() -> bool:
    try:
        points = metadata.distribution("numbaconv").read_text("entry_points.txt")
    except metadata.PackageNotFoundError:  # only on the path
        return False
    return "numba_extensions" in (points or "")
