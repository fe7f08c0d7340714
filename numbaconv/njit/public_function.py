"""Public functions as types of Numba: the error of a refused call begins with what to change."""

from collections.abc import Callable
from typing import Any

from numba import types
from numba.core.errors import TypingError
from numba.core.typing.templates import builtin_registry, infer_global
from numba.extending import models, overload, register_model


class PublicFunction(types.Function):
    """The type of a public function.

    Numba collects what every overload says against a call, and begins with a list of the types.
    These functions have one overload, so that what it says is the reason.
    """

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Any:
        """Return the signature of a call, or raise what the overload says against it."""
        try:
            return super().get_call_type(context, args, kws)
        except TypingError:
            for template in self.templates:
                template(context).apply(args, kws)  # raises the reason by itself
            raise


register_model(PublicFunction)(models.OpaqueModel)


def overload_public(function: Callable[..., Any], typing: Callable[..., Any]) -> None:
    """Let compiled code call a function, as `numba.extending.overload` does.

    Parameters
    ----------
    function : callable
        What compiled code calls.
    typing : callable
        Takes the types of the arguments, and returns an implementation or raises a TypingError.
    """
    overload(function)(typing)
    _, known = builtin_registry.globals.pop()  # what `overload` has just added
    infer_global(function, PublicFunction(known.templates))
