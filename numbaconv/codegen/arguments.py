"""Arguments of functions that are called through their address: a NamedTuple class a function.

Its fields are the order, the names, the types and the documentation of the arguments. The function
is declared with the class (`jit.native`, `twins.emitted`) and called with one of its tuples:
``call(job[AT.tile], TileArguments(rows=4, ...))``. A tuple without one of the fields, a plain
tuple, or a pointer in the place of an integer is refused when the caller is compiled. An address
itself does not say what it takes: only the runs without the compiler compare the classes.

Numba compiles no condition (``a if b else c``, ``a and b``) inside a call of more than 15 keywords:
such values are named before the call.
"""

from typing import Annotated, Any, get_type_hints

from numba import types
from numba.core.errors import TypingError

# What a field's annotation may be, beside `int`: a pointer to elements of the type that a function
# is compiled for, to integers, or, where a function is compiled for a pair of types, to elements of
# the second.
Elements = Annotated[Any, "pointer to elements"]
Indices = Annotated[Any, "pointer to int64"]
Foreign = Annotated[Any, "pointer to elements of another type"]


def kinds_of(arguments: Any) -> dict[str, Any]:
    """The annotation of each field of a class of arguments."""
    return get_type_hints(arguments, include_extras=True)


def argument_types(arguments: Any, dtype: Any) -> tuple[Any, ...]:
    """Numba's types of the fields of a class of arguments, for an element type or a pair."""
    kinds = kinds_of(arguments)
    elements, foreign = dtype if isinstance(dtype, tuple) else (dtype, dtype)
    known = {
        int: types.int64,
        Elements: types.CPointer(elements),
        Indices: types.CPointer(types.int64),
        Foreign: types.CPointer(foreign),
    }
    return tuple(known[kinds[field]] for field in arguments._fields)


def check_fields(given: Any) -> None:
    """Refuse what is no tuple of arguments, or has a pointer where there is to be none.

    A pointer may come as the integer that is its address.
    """
    if not isinstance(given, types.BaseNamedTuple):
        raise TypingError(f"arguments of a call through an address need a class, not {given}")
    kinds = kinds_of(given.instance_class)
    for field, member in zip(given.fields, given, strict=True):
        if not isinstance(member, types.CPointer):
            continue
        kind = kinds[field]
        if kind is int or (kind is Indices and member.dtype != types.int64):
            raise TypingError(f"{given.instance_class.__name__}.{field} cannot be a {member}")
