"""The import of what the package is made of, when the first public name is needed."""

import gc
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
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
                "in the midst of its import: touch a function once before, such as numbaconv.conv2d"
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
def _interrupts_later() -> Iterator[None]:
    """Have Ctrl-C heard at the end: a half of Numba could not be imported again."""
    before = signal.getsignal(signal.SIGINT)
    heard: list[tuple[int, Any]] = []
    try:
        deferred = callable(before) and signal.signal(
            signal.SIGINT, lambda *given: heard.append(given)
        )
    except ValueError:  # not the main thread, in which signals are handled
        deferred = False
    try:
        yield
    finally:
        if deferred:
            signal.signal(signal.SIGINT, before)
        if heard and callable(before):
            before(*heard[-1])


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
    with _importing, _interrupts_later(), without_collector():
        return {name: import_module(name) for name in modules}
