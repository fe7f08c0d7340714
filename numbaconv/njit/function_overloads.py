"""What Numba is told of the convolutions, so that ``@njit`` code can call them.

All here is thin: `call_site.py` does the work, and is loaded when the first such call is compiled.
Numba knows no keyword-only arguments, so they can be passed by position too.
"""

import inspect
from collections.abc import Callable
from typing import Any

from numba import from_dtype
from numba.core.errors import TypingError
from numba.extending import typeof_impl

from numbaconv.convolution import conv, conv1d, conv2d, conv3d
from numbaconv.dispatch.backends import set_backend
from numbaconv.grad import (
    conv1d_input,
    conv1d_weight,
    conv2d_input,
    conv2d_weight,
    conv3d_input,
    conv3d_weight,
)
from numbaconv.layers import Layer
from numbaconv.njit import door
from numbaconv.njit.layer_type import WORDS, LayerType
from numbaconv.njit.public_function import overload_public, overload_public_call
from numbaconv.patches import col2im, im2col
from numbaconv.prepared import PreparedConv, prepare
from numbaconv.prepared_transposed import PreparedTransposedConv, prepare_transposed
from numbaconv.transposed import conv_transpose1d, conv_transpose2d, conv_transpose3d

# --- Functions --------------------------------------------------------------------------------

# Numba wants a function for the types and one for the values, both with the signature of what they
# stand for. There is one place for that: the public function.
_OVERLOAD = """
def typing({parameters}):
    from numbaconv.njit import call_site

    perform = call_site.find({function!r}, {given})

    def implementation({parameters}):
        return perform({arrays}, ({options},))

    return implementation
"""

# Order of the arrays in a request.
_ARRAYS = (("input", "columns"), ("weight",), ("bias", "grad_output"), ("add",), ("out",))
# Arguments for calls on a GPU.
_CUDA = ("stream", "precision")


def _make_callable(function: Callable[..., Any]) -> None:
    """Let compiled code call a public function."""
    signature = inspect.signature(function)
    names = [name for name in signature.parameters if name not in _CUDA]
    plain = [
        signature.parameters[name].replace(annotation=inspect.Parameter.empty) for name in names
    ]
    arrays = [next((name for name in some if name in names), "None") for some in _ARRAYS]
    source = _OVERLOAD.format(
        function=function.__name__,
        parameters=", ".join(map(str, plain)),
        given=", ".join(f"{name}={name}" for name in names),
        arrays=", ".join(arrays),
        options=", ".join(name for name in names if name not in (*arrays, *WORDS)),
    )
    namespace: dict[str, Any] = {}
    exec(compile(source, f"<{function.__name__} in compiled code>", "exec"), namespace)
    overload_public(function, namespace["typing"])


for _function in (
    conv,
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
    im2col,
    col2im,
    conv1d_input,
    conv2d_input,
    conv3d_input,
    conv1d_weight,
    conv2d_weight,
    conv3d_weight,
):
    _make_callable(_function)


def _refuse(function: Callable[..., Any], advice: str) -> None:
    """Have code that calls a function be told what to do, where Numba knows only that it cannot."""

    def typing(*_: Any, **__: Any) -> None:
        raise TypingError(f"numbaconv.{function.__name__}: {advice}")

    overload_public(function, typing)


for _maker in (prepare, prepare_transposed):
    _refuse(_maker, "make the layer outside, and pass it to the compiled function")
_refuse(set_backend, "choose outside of compiled code, or pass backend=, a literal string")


# --- Prepared layers --------------------------------------------------------------------------


# Not where the type is made: if that module alone is loaded again, the type remains the one that
# can be called.
@typeof_impl.register(PreparedConv)
@typeof_impl.register(PreparedTransposedConv)
def _type_of_layer(layer: Layer, context: Any) -> LayerType:
    dtypes = tuple(from_dtype(dtype) for dtype in layer.dtypes)
    return LayerType(dtypes, getattr(layer.options, "out_dtype", None))


def call_layer(layer: Layer, x: Any, out: Any = None, add: Any = None) -> Any:
    """Apply a layer: what ``layer(x)`` is in compiled code."""


def _type_call(layer, x, out=None, add=None):
    from numbaconv.njit import call_site

    perform = call_site.find("layer", input=x, add=add, out=out, layer=layer)

    def implementation(layer, x, out=None, add=None):
        return perform(x, None, None, add, out, (layer,))

    return implementation


overload_public(call_layer, _type_call)
overload_public_call(LayerType, call_layer)

door.install()
