"""Layouts of integers that Python and machine code share: a NamedTuple class says what lies where.

A field takes one integer, or as many as its annotation says: ``Annotated[Any, 4]``. A tuple of the
class has the values of all fields (`integers`), or the places where they begin (`places`).
"""

from itertools import accumulate
from typing import Any

import numpy as np


def sizes(layout: Any) -> tuple[int, ...]:
    """Return how many integers each field takes."""
    hints = layout.__annotations__  # no text: `get_type_hints` takes long
    return tuple(getattr(hints[name], "__metadata__", (1,))[0] for name in layout._fields)


def size(layout: Any) -> int:
    """Return how many integers all fields take."""
    return sum(sizes(layout))


def places(layout: Any) -> Any:
    """Return the tuple of the places where the fields begin, one behind the other."""
    return layout(*accumulate(sizes(layout)[:-1], initial=0))


def integers(values: Any, length: int | None = None) -> np.ndarray:
    """Return the values of a tuple as an array; zeros fill it up to `length`."""
    layout = type(values)  # from Python 3.14 on, classes alone have annotations
    array = np.zeros(length or size(layout), np.int64)
    for value, place, room in zip(values, places(layout), sizes(layout), strict=True):
        if np.size(value) != room:
            raise ValueError(f"{layout.__name__} has room for {room} integers, not {value}")
        array[place : place + room] = value
    return array
