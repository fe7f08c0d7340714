"""Global memory of the device that is not there: exact allocations, and who wrote what."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np

BASE = 0x7F20_0000_0000  # where the device's memory begins: addresses need 64 bits
GUARD = 4096
ALIGNMENT = 512
NOBODYS, ALLOCATED, WRITTEN = range(3)
SIZES = (1, 2, 4, 8)


class FaultError(Exception):
    """A kernel, or a call of the driver, did what none may do."""


def _sparse(size: int, dtype: Any) -> Any:
    """Zeros whose pages exist only where they are touched."""
    no_reserve = 0x4000
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve
    return np.frombuffer(mmap.mmap(-1, size, flags=flags), dtype)


def _views(array: Any) -> dict[int, Any]:
    return {size: array.view(f"u{size}") for size in SIZES}


class Memory:
    """Exact allocations with guards between them; each byte knows whether it was ever written."""

    def __init__(self, size: int = 1 << 26, sparse: bool = False) -> None:
        self.size, self.sparse = size, sparse
        self._begin()
        if not sparse:
            self.data.view(np.uint32)[:] = 0x7FC0BEEF

    def _begin(self) -> None:
        self.top = GUARD
        self.huge: list[tuple[int, int]] = []  # ranges that count as written: zeros until then
        new = _sparse if self.sparse else np.zeros
        self.data, self.state, self.marks = (new(self.size, np.uint8) for _ in range(3))
        self.views, self.states, self.marked = map(_views, (self.data, self.state, self.marks))
        self.live: dict[int, int] = {}  # address -> bytes

    def allocate(self, size: int, skew: int = 0) -> int:
        """Address of so many bytes, `skew` from an aligned one."""
        start = self.top + skew
        self.top = -(-(start + size) // ALIGNMENT) * ALIGNMENT + GUARD
        if self.top > self.size:
            raise MemoryError("CUDA_ERROR_OUT_OF_MEMORY (of the interpreter)")
        self.state[start : start + size] = ALLOCATED
        self.data[start : start + size] = 0xA7
        self.live[BASE + start] = size
        return BASE + start

    def allocate_huge(self, size: int) -> int:
        """Reserve a range whose pages exist only where they are touched."""
        start = self.top
        self.top = -(-(start + size) // ALIGNMENT) * ALIGNMENT + GUARD
        assert self.sparse
        assert self.top <= self.size
        self.huge.append((start, start + size))
        return BASE + start

    def in_huge(self, offset: Any, count: int) -> Any:
        inside = np.zeros(offset.shape, bool)
        for first, last in self.huge:
            inside |= (offset >= first) & (offset + count <= last)
        return inside

    def free(self, address: int) -> None:
        size = self.live.pop(address)
        self.state[address - BASE : address - BASE + size] = NOBODYS

    def owner(self, address: int) -> int | None:
        """Where the allocation begins that an address lies in."""
        return next((a for a, size in self.live.items() if a <= address < a + max(size, 1)), None)

    def reset(self) -> None:
        """Forget everything; only if nothing is live."""
        if self.sparse:  # to clear what is huge would make it real
            self._begin()
            return
        self.state[: self.top] = NOBODYS
        self.top = GUARD

    def begin_launch(self) -> None:
        """Forget what the launch before wrote."""
        if self.sparse:
            self.marks = _sparse(self.size, np.uint8)
            self.marked = _views(self.marks)
        else:
            self.marks[: self.top] = 0

    def written_by_launch(self, address: int) -> bool:
        """Whether the last launch wrote to an allocation."""
        at = address - BASE
        return bool(self.marks[at : at + self.live[address]].any())

    def write(self, address: int, data: bytes) -> None:
        """Copy from the host."""
        at = address - BASE
        if not (self.state[at : at + len(data)] > NOBODYS).all():
            raise FaultError("copy outside an allocation")
        self.data[at : at + len(data)] = np.frombuffer(data, np.uint8)
        self.state[at : at + len(data)] = WRITTEN

    def read(self, address: int, size: int) -> bytes:
        """Copy to the host."""
        at = address - BASE
        state = self.state[at : at + size]
        if not (state > NOBODYS).all():
            raise FaultError("copy outside an allocation")
        if (state == ALLOCATED).any():
            missing = int((state == ALLOCATED).sum())
            raise FaultError(f"{missing} bytes copied to the host were never written")
        return self.data[at : at + size].tobytes()
