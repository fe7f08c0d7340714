"""Streams and events of the device that is not there: who waits for whom.

Work is executed at once, in the order in which the host asks for it. What would be wrong if it ran
later is found by counting: each stream counts its work, and knows how far the others were when it
waited for them. To touch memory that another stream wrote, and that this one did not wait for, is a
`FaultError`. A stream of another library counts as one that the default stream does not wait for,
which is the strictest.
"""

from __future__ import annotations

import time
from typing import Any

from tests.cuda.executed.memory import FaultError

DEFAULT, LEGACY, PER_THREAD = 0, 1, 2  # handles with a meaning; the first two are one stream
Place = tuple[int, int]  # a stream: its device, and its handle
Clock = dict[Place, int]  # of each stream, how much of its work is known to be done


def _join(clock: Clock, other: Clock) -> None:
    for place, count in other.items():
        clock[place] = max(clock.get(place, 0), count)


class Order:
    """What is known of the order of all work, and of who touched which allocation."""

    def __init__(self) -> None:
        self.device = 0  # the current one
        self.clocks: dict[Place, Clock] = {}
        self.blocking: set[Place] = set()
        self.host: Clock = {}
        self.homes: dict[int, int] = {}  # handle -> device, of streams that have one
        self.writes: dict[int, Place] = {}
        self.written: dict[int, int] = {}
        self.reads: dict[int, Clock] = {}

    def _place(self, stream: Any) -> Place:
        handle = int(stream)
        if handle in (DEFAULT, LEGACY):
            return self.device, LEGACY
        if self.homes.setdefault(handle, self.device) != self.device and handle != PER_THREAD:
            raise FaultError(
                f"a stream of device {self.homes[handle]} used on device {self.device}"
            )
        return self.device, handle

    def _clock(self, place: Place) -> Clock:
        clock = self.clocks.setdefault(place, {})
        legacy = (place[0], LEGACY)
        if place == legacy:
            for other in self.blocking:
                if other[0] == place[0]:
                    _join(clock, self.clocks.get(other, {}))
        elif place in self.blocking:
            _join(clock, self.clocks.get(legacy, {}))
        return clock

    def submit(self, stream: Any, reads: Any = (), writes: Any = ()) -> None:
        """Put work on a stream that touches some allocations, given by their addresses."""
        place = self._place(stream)
        clock = self._clock(place)
        _join(clock, self.host)
        clock[place] = clock.get(place, 0) + 1
        for address in {*reads, *writes}:
            self._check_write(clock, address)
        for address in writes:
            self._check_reads(clock, address)
        for address in writes:
            self.writes[address], self.written[address] = place, clock[place]
            self.reads.pop(address, None)
        for address in set(reads) - set(writes):
            self.reads.setdefault(address, {})[place] = clock[place]

    def _check_write(self, clock: Clock, address: int) -> None:
        writer = self.writes.get(address)
        if writer is not None and clock.get(writer, 0) < self.written[address]:
            raise FaultError(f"{address:#x} is used before stream {writer} has written it")

    def _check_reads(self, clock: Clock, address: int) -> None:
        for reader, count in self.reads.get(address, {}).items():
            if clock.get(reader, 0) < count:
                raise FaultError(f"{address:#x} is written before stream {reader} has read it")

    def synchronize(self, stream: Any) -> None:
        """Let the host wait for a stream."""
        _join(self.host, self._clock(self._place(stream)))

    def synchronize_all(self) -> None:
        """Let the host wait for the current device."""
        for place, clock in self.clocks.items():
            if place[0] == self.device:
                _join(self.host, clock)

    def forget(self, address: int) -> None:
        """Free an allocation, for which the driver waits."""
        for table in (self.writes, self.written, self.reads):
            table.pop(address, None)


class Stream:
    """What `cuda.stream` and `cuda.external_stream` return."""

    def __init__(self, order: Order, handle: int, blocking: bool = False) -> None:
        self.order, self.handle = order, handle
        if blocking or handle == PER_THREAD:
            order.blocking.add((order.device, handle))

    def __int__(self) -> int:
        return self.handle

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.handle

    def synchronize(self) -> None:
        self.order.synchronize(self)


class Event:
    """What `cuda.event` returns."""

    def __init__(self, order: Order) -> None:
        self.order, self.clock, self.time = order, Clock(), 0.0

    def record(self, stream: Any = 0) -> None:
        self.clock = dict(self.order._clock(self.order._place(stream)))
        self.time = time.perf_counter()

    def wait(self, stream: Any = 0) -> None:
        _join(self.order._clock(self.order._place(stream)), self.clock)

    def synchronize(self) -> None:
        _join(self.order.host, self.clock)

    def elapsed_time(self, end: Event) -> float:
        """Milliseconds; never none, as something has run between them."""
        return max(end.time - self.time, 1e-6) * 1e3
