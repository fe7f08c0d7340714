"""Public functions and layers as types of Numba: the error of a refused call says what to change.

It says so before all else.
"""

from collections.abc import Callable
from typing import Any

from numba import types
from numba.core.errors import TypingError
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import (
    AttributeTemplate,
    builtin_registry,
    infer_getattr,
    infer_global,
)
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

    def augment(self, other: Any) -> Any:
        """Return this type with the overloads of another of the same function.

        When this module is loaded again, the other's class is another of the same name.
        """
        alike = type(other).__qualname__ == type(self).__qualname__
        if alike and other.typing_key == self.typing_key:
            return type(other)(self.templates + other.templates)
        return None


class PublicCall(types.BoundFunction):
    """The type of the ``__call__`` of an object: a call of a public function that takes it first.

    Numba's own type collects reasons too, one level above those of the function.
    """

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Any:
        """Return the signature of a call, or raise what the function says against it."""
        function = context.resolve_value_type(self.template.function)
        return function.get_call_type(context, (self.this, *args), kws).as_method()


for _kind in (PublicFunction, PublicCall):
    register_model(_kind)(models.OpaqueModel)


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


def overload_public_call(kind: type, function: Callable[..., Any]) -> None:
    """Let compiled code call the objects of a type.

    Parameters
    ----------
    kind : type
        A Numba type.
    function : callable
        A public function that is overloaded already; its first argument is the object.
    """
    key = kind, "__call__"
    template = type("CallTemplate", (AttributeTemplate,), {"key": key, "function": function})

    @infer_getattr
    class Attributes(AttributeTemplate):
        key = kind

        def resolve___call__(self, this: Any) -> PublicCall:
            return PublicCall(template, this)

    @lower_builtin(kind, kind, types.VarArg(types.Any))  # layer(x)
    @lower_builtin(key, kind, types.VarArg(types.Any))  # layer.__call__(x)
    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function_type = context.typing_context.resolve_value_type(function)
        return context.get_function(function_type, signature)(builder, arguments)
