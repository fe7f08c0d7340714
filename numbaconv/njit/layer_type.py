"""The Numba type of a prepared layer."""

from typing import Any

from llvmlite import ir
from numba import from_dtype, types
from numba.core.imputils import lower_constant
from numba.extending import NativeValue, models, register_model, typeof_impl, unbox

from numbaconv.prepared import PreparedConv

# Arguments that Numba compiles for: no values travel.
WORDS = ("padding_mode", "data_format", "activation", "backend")


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
