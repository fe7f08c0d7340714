"""What Numba is told when the package is imported, so that ``@njit`` code can call it.

All here is thin: `inside.py`, which does the work, is loaded when the first such call is compiled.
Numba knows no keyword-only arguments, so they can be passed by position too.
"""

import inspect
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import from_dtype, types
from numba.core.imputils import lower_builtin, lower_constant
from numba.extending import (
    NativeValue,
    models,
    overload,
    overload_method,
    register_model,
    typeof_impl,
    unbox,
)

from numbaconv.conv import conv, conv1d, conv2d, conv3d
from numbaconv.patches import col2im, im2col
from numbaconv.prepared import PreparedConv
from numbaconv.transpose import conv_transpose1d, conv_transpose2d, conv_transpose3d

# --- Functions --------------------------------------------------------------------------------

# Numba wants a function for the types and one for the values, both with the signature of what they
# stand for. There is one place for that: the public function.
_OVERLOAD = """
def typing({parameters}):
    from numbaconv import inside

    perform = inside.find({function!r}, {given})

    def implementation({parameters}):
        return perform({arrays}, ({options},))

    return implementation
"""

# Order of the arrays in a request.
_ARRAYS = (("input", "columns"), ("weight",), ("bias",), ("out",))
# Arguments that Numba compiles for: no values travel.
WORDS = ("padding_mode", "data_format", "activation", "backend")
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
    overload(function)(namespace["typing"])


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
):
    _make_callable(_function)


# --- Prepared layers --------------------------------------------------------------------------


class LayerType(types.Type):
    """Type of a prepared layer; its value is the address of its ticket.

    Parameters
    ----------
    dtypes : tuple of Numba type
        Of the weights and the bias.
    """

    def __init__(self, dtypes: tuple[Any, ...]) -> None:
        self.dtypes = dtypes
        super().__init__(name=f"PreparedConv({', '.join(map(str, dtypes))})")


@typeof_impl.register(PreparedConv)
def _typeof_layer(layer: PreparedConv, context: Any) -> LayerType:
    return LayerType(tuple(from_dtype(dtype) for dtype in layer.dtypes))


@register_model(LayerType)
class _LayerModel(models.PrimitiveModel):
    def __init__(self, manager: Any, layer_type: LayerType) -> None:
        super().__init__(manager, layer_type, ir.IntType(64))


@unbox(LayerType)
def _unbox_layer(layer_type: LayerType, value: ir.Value, c: Any) -> NativeValue:
    address = c.pyapi.object_getattr_string(value, "ticket_address")
    native = c.pyapi.long_as_longlong(address)
    c.pyapi.decref(address)
    return NativeValue(native)


_frozen: list[PreparedConv] = []


@lower_constant(LayerType)
def _freeze_layer(context: Any, builder: Any, layer_type: LayerType, layer: PreparedConv) -> Any:
    """Build a global layer into a function: that function cannot be cached on disk."""
    _frozen.append(layer)
    address = context.add_dynamic_addr(builder, layer.ticket_address, info="PreparedConv")
    return builder.ptrtoint(address, ir.IntType(64))


@overload_method(LayerType, "__call__")
def _call_layer(layer, x, out=None):
    from numbaconv import inside

    perform = inside.find("layer", input=x, out=out, layer=layer)

    def implementation(layer, x, out=None):
        return perform(x, None, None, out, (layer,))

    return implementation


@lower_builtin(LayerType, LayerType, types.VarArg(types.Any))
def _lower_call(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Make the call of a layer a call of its method, as Numba types it."""
    method = context.typing_context.resolve_getattr(signature.args[0], "__call__")
    return context.get_function(method, signature)(builder, arguments)


def init() -> None:
    """Make the functions above known: importing this module has done it.

    Numba calls it by its entry point, in whatever process it compiles; so does `numbaconv`.
    """
