"""Functions in LLVM IR, each with a twin in Python or NumPy that says the same.

The twin carries the documentation, and runs in the function's place under
``NUMBA_DISABLE_JIT=1``.
"""

import functools
from collections.abc import Callable
from typing import Any

from numba import types
from numba.core import config
from numba.extending import intrinsic

from numbaconv.codegen.arguments import Elements, kinds_of
from numbaconv.codegen.jit import native
from numbaconv.codegen.pipeline import Optimisation


def stands_for(primitive: Any) -> Callable[[Callable[..., Any]], Any]:
    """Decorate the twin of an intrinsic: it documents it and, without the compiler, replaces it."""

    def decorate(twin: Callable[..., Any]) -> Any:
        return twin if config.DISABLE_JIT else functools.update_wrapper(primitive, twin)

    return decorate


class emitted(native):  # noqa: N801 (a decorator)
    """Decorate the twin of a native function that is emitted as LLVM IR.

    Parameters
    ----------
    arguments : type
        Class of its arguments, of which the twin takes a tuple.
    emit : callable
        ``emit(builder, dtype, o)`` emits what the function does; `o` are the arguments as LLVM
        values.
    optimise : callable, optional
        `pipeline.tidy`, for a kernel of many blocks whose loops are emitted as they are to run.
    """

    def __init__(
        self, arguments: Any, emit: Callable[..., None], optimise: Optimisation | None = None
    ) -> None:
        super().__init__(arguments, optimise)
        self._emit = emit

    def _check_parameters(self) -> None:
        """A twin takes its arguments as they come."""

    def interpret(self, arguments: Any) -> None:
        """Run the twin."""
        self._check_class(arguments)
        self._function(arguments)

    def _source(self) -> Callable[..., Any]:
        """A Python function of all parameters, for Numba, that makes them one tuple."""
        names = ", ".join(self.arguments._fields)
        name = self._function.__name__
        scope: dict[str, Any] = {"__name__": self._function.__module__, "arguments": self.arguments}
        scope["emit"] = _emitting(self.arguments, self._emit)
        exec(f"def {name}({names}):\n    emit(arguments({names}))\n", scope)
        source: Callable[..., Any] = scope[name]
        return source


def _emitting(arguments: Any, emit: Callable[..., None]) -> Any:
    """Return an intrinsic that takes a tuple of arguments and becomes what `emit` emits."""
    kinds = kinds_of(arguments)
    elements = next(i for i, name in enumerate(arguments._fields) if kinds[name] is Elements)

    @intrinsic
    def emit_here(typing_context, given):
        def codegen(context, builder, signature, values):
            members = range(len(arguments._fields))
            operands = arguments(*(builder.extract_value(values[0], i) for i in members))
            emit(builder, given[elements].dtype, operands)
            return context.get_dummy_value()

        return types.void(given), codegen

    return emit_here
