"""What Numba is told when the package is imported, so that ``@njit`` code can call it.

Each function here has a signature and little more: `inside.py`, which does the work, is loaded
when the first such call is compiled. Overloads cannot have keyword-only arguments.
"""

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

# --- Functions --------------------------------------------------------------------------------


def _overload_conv(function: Callable[..., Any]) -> None:
    name = function.__name__

    @overload(function)
    def typing(
        input,
        weight,
        bias=None,
        stride=1,
        padding=0,
        dilation=1,
        groups=1,
        padding_mode="zeros",
        data_format="channels_first",
        activation=None,
        out=None,
        backend=None,
    ):
        from numbaconv import inside

        perform = inside.conv(
            name,
            input=input,
            weight=weight,
            bias=bias,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            padding_mode=padding_mode,
            data_format=data_format,
            activation=activation,
            out=out,
            backend=backend,
        )

        def implementation(
            input,
            weight,
            bias=None,
            stride=1,
            padding=0,
            dilation=1,
            groups=1,
            padding_mode="zeros",
            data_format="channels_first",
            activation=None,
            out=None,
            backend=None,
        ):
            return perform(input, weight, bias, out, (stride, padding, dilation, groups))

        return implementation


for _function in (conv, conv1d, conv2d, conv3d):
    _overload_conv(_function)


@overload(im2col)
def _im2col(input, kernel_size, dilation=1, padding=0, stride=1):
    from numbaconv import inside

    perform = inside.im2col(
        input=input, kernel_size=kernel_size, dilation=dilation, padding=padding, stride=stride
    )

    def implementation(input, kernel_size, dilation=1, padding=0, stride=1):
        return perform(input, None, None, None, (kernel_size, dilation, padding, stride))

    return implementation


@overload(col2im)
def _col2im(columns, output_size, kernel_size, dilation=1, padding=0, stride=1):
    from numbaconv import inside

    perform = inside.col2im(
        columns=columns,
        output_size=output_size,
        kernel_size=kernel_size,
        dilation=dilation,
        padding=padding,
        stride=stride,
    )

    def implementation(columns, output_size, kernel_size, dilation=1, padding=0, stride=1):
        sizes = (output_size, kernel_size, dilation, padding, stride)
        return perform(columns, None, None, None, sizes)

    return implementation


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

    perform = inside.layer(input=x, out=out, layer=layer)

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
