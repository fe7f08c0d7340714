"""Ways for an array to lie in memory: copies and views with the values that they are given."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.oracle.cases import Array


def readonly(a: Array) -> Array:
    a = a.view()
    a.flags.writeable = False
    return a


def unaligned(a: Array) -> Array:
    """Copy to one byte past an aligned address."""
    copy = np.ndarray(a.shape, a.dtype, bytearray(a.nbytes + 17), 1)
    copy[...] = a
    assert a.size == 0 or not copy.flags.aligned
    return copy


def spread(a: Array) -> Array:
    """Every second element, along each axis, of an array of NaN or large integers."""
    gap = np.nan if a.dtype.kind in "fc" else np.iinfo(a.dtype).max
    around = np.full(tuple(2 * s + 1 for s in a.shape), gap, a.dtype)
    inside = around[tuple(slice(1, None, 2) for _ in a.shape)]
    inside[...] = a
    return inside


def reversed_axes(a: Array) -> Array:
    """The same values behind negative strides."""
    flip = (slice(None, None, -1),) * a.ndim
    return np.ascontiguousarray(a[flip])[flip]


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "readonly": readonly,
    "fortran": np.asfortranarray,
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "reversed": reversed_axes,
    "spread": spread,
    "broadcast": lambda a: np.broadcast_to(a[..., :1], a.shape),
    "broadcast_first": lambda a: np.broadcast_to(a[:1], a.shape),
    "constant": lambda a: np.broadcast_to(a[(0,) * a.ndim], a.shape),
    "swapped_bytes": lambda a: a.astype(a.dtype.newbyteorder("S")),
    "unaligned": unaligned,
    "unaligned_swapped": lambda a: unaligned(a.astype(a.dtype.newbyteorder("S"))),
    "from_bytes": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
}
