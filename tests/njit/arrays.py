"""What the tests of calls from compiled code share."""

from __future__ import annotations

import numpy as np

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
