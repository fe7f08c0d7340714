"""What is kept for results, as the shared table has it."""

from __future__ import annotations

import ctypes

from numbaconv.runtime.shared_table import AT, ENTRY, RING_SLOTS


def kept() -> list[int]:
    """Bytes of each block in the ring."""
    slots = ENTRY[AT.ring : AT.ring + RING_SLOTS]
    sizes = [ctypes.c_int64.from_address(int(data) - 64).value for data in slots if data]
    assert sum(sizes) == ENTRY[AT.kept_bytes]
    return sizes
