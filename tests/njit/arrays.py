"""What the tests of calls from compiled code share."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

import numbaconv as nc
from tests.ndimage.draws import Call
from tests.oracle.cases import Array

LAYOUTS = {
    "C": lambda a: a,
    "F": np.asfortranarray,
    "A": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "reversed": lambda a: np.ascontiguousarray(a[..., ::-1])[..., ::-1],
    "channels_last": lambda a: np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape),
    "fields": lambda a: np.rec.fromarrays([a, np.zeros(a.shape, "u1")])["f0"],  # odd strides
}


def same_bits(y: Array, expected: Array) -> None:
    assert y.shape == expected.shape
    assert y.dtype == expected.dtype
    assert np.ascontiguousarray(y).tobytes() == np.ascontiguousarray(expected).tobytes()


def _text(value: Any) -> str:
    """An option as a literal of compiled code: lists become tuples, and dtypes their names."""
    if isinstance(value, (list, tuple)):
        return f"({''.join(_text(each) + ', ' for each in value)})"
    if isinstance(value, (type, np.dtype)):
        return repr(np.dtype(value).name)
    return repr(value)


def compiled(module: str, name: str, arrays: list[str], options: dict[str, Any]) -> Any:
    """A compiled function of some arrays that makes one call, with literal options."""
    given = {name: name for name in arrays} | {key: _text(options[key]) for key in options}
    listed = ", ".join(f"{key}={text}" for key, text in given.items())
    source = f"def call({', '.join(arrays)}):\n    return nc.{module}.{name}({listed})"
    namespace: dict[str, Any] = {"nc": nc}
    exec(source, namespace)
    return numba.njit(namespace["call"])


def native(array: Array) -> Array:
    """The array in the byte order of the machine, which is all that compiled code takes."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def compiled_draw(call: Call, *more: str) -> tuple[Any, list[Array]]:
    """A compiled function that makes the call of a draw, and its arrays; `more` come behind."""
    given = {"input": native(call.image)}
    options = {key: value for key, value in call.options.items() if key not in more}
    first = next(iter(call.arguments), None)
    if isinstance(first, np.ndarray):
        given["weights"] = first
    elif call.arguments:
        options["size" if "uniform" in call.name else "sigma"] = first
    return compiled("ndimage", call.name, [*given, *more], options), list(given.values())
