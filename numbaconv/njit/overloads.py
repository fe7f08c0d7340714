"""Numba's entry point: where it is told of what ``@njit`` code can call.

Numba calls `init` before a process compiles anything, or loads a compiled function, if the package
is installed. If it is only on the path, `numbaconv` does so when a public name is touched.
"""

from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from numbaconv._imports import import_at_once

_MODULES = ("numbaconv.njit.function_overloads", "numbaconv.njit.filter_overloads")


def init() -> None:
    """Make the public functions known to Numba."""
    import_at_once(_MODULES)


def tell_compiler() -> None:
    """Make them known also where Numba compiles just now what has touched a name.

    It has looked for new ones before. The names may have been imported by another thread meanwhile.
    """
    init()
    if global_compiler_lock.is_locked():  # by this thread
        cpu_target.typing_context.refresh()
        cpu_target.target_context.refresh()
