"""The Numba type of a prepared layer.

A native value owns a reference to its layer, as one of an array owns its memory: wherever compiled
code keeps the value, in a list, a generator or a field, the layer is alive.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import lower_constant
from numba.extending import NativeValue, box, models, register_model, unbox

from numbaconv.layers import Layer
from numbaconv.runtime.shared_table import for_ever

# Arguments that Numba compiles for: no values travel.
WORDS = ("padding_mode", "data_format", "activation", "out_dtype", "backend")


class LayerType(types.Type):
    """Type of a prepared layer.

    Parameters
    ----------
    dtypes : tuple of Numba type
        Of the weights and the bias.
    out_dtype : dtype or None
        Of its results, if it was asked for.
    """

    def __init__(self, dtypes: tuple[Any, ...], out_dtype: Any = None) -> None:
        self.dtypes, self.out_dtype = dtypes, out_dtype
        result = "" if out_dtype is None else f" into {out_dtype}"
        super().__init__(name=f"PreparedConv({', '.join(map(str, dtypes))}{result})")


def is_layer(kind: Any) -> bool:
    """Whether a type is that of a layer, also one from before this module was loaded again."""
    return bool(type(kind).__qualname__ == LayerType.__qualname__)


@register_model(LayerType)
class _LayerModel(models.StructModel):
    def __init__(self, manager: Any, layer_type: LayerType) -> None:
        members = [
            # Counts references; it owns one to the Python object. Null: the layer lives for ever.
            ("owner", types.MemInfoPointer(types.voidptr)),
            ("layer", types.voidptr),  # the Python object
            ("ticket", types.CPointer(types.int64)),  # where the number of its weights is
        ]
        super().__init__(manager, layer_type, members)


@unbox(LayerType)
def _unbox_layer(layer_type: LayerType, value: ir.Value, c: Any) -> NativeValue:
    layer = cgutils.create_struct_proxy(layer_type)(c.context, c.builder)
    address = c.pyapi.object_getattr_string(value, "ticket_address")
    layer.ticket = c.builder.inttoptr(c.pyapi.long_as_longlong(address), layer.ticket.type)
    c.pyapi.decref(address)
    layer.layer = c.builder.bitcast(value, layer.layer.type)
    layer.owner = c.pyapi.nrt_meminfo_new_from_pyobject(layer.layer, layer.layer)
    return NativeValue(layer._getvalue())


@box(LayerType)
def _box_layer(layer_type: LayerType, value: ir.Value, c: Any) -> ir.Value:
    """Return the Python object itself."""
    layer = cgutils.create_struct_proxy(layer_type)(c.context, c.builder, value=value)
    boxed = c.builder.bitcast(layer.layer, c.pyapi.pyobj)
    c.pyapi.incref(boxed)
    c.context.nrt.decref(c.builder, layer_type, value)
    return boxed


@lower_constant(LayerType)
def _freeze_layer(context: Any, builder: Any, layer_type: LayerType, layer: Layer) -> Any:
    """Build a global layer into a function: that function cannot be cached on disk."""
    for_ever(layer)  # Numba does not say when code is gone
    frozen = cgutils.create_struct_proxy(layer_type)(context, builder)
    frozen.owner = cgutils.get_null_value(frozen.owner.type)
    for member, address in (("layer", id(layer)), ("ticket", layer.ticket_address)):
        place = context.add_dynamic_addr(builder, address, info="PreparedConv")
        setattr(frozen, member, builder.bitcast(place, getattr(frozen, member).type))
    return frozen._getvalue()
