"""Which elements of a source a range of a result reads, along one axis.

All that is cut into blocks rests on this: a block of a result is the call on what it reads, padded
only where it touches an end of the axis.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from numbaconv.codegen.integers import ceil_div


class Read(NamedTuple):
    """What a block of a result reads along an axis.

    Attributes
    ----------
    start, stop : int
        Elements of the source.
    before, after : int
        Padding that the block has there, or what a transposed convolution cuts off its result.
    skip, used : int
        What is used of it: of the padded elements, or of a filter's result.
    """

    start: int
    stop: int
    before: int
    after: int
    skip: int
    used: int

    def within(self, start: int) -> "Read":
        """The same read of a part of the source that begins at `start`."""
        return self._replace(start=self.start - start, stop=self.stop - start)


class Along(NamedTuple):
    """An axis along which elements are computed each by itself, or, in one block, together."""

    size: int
    result: int
    splits: bool = True
    wrap: tuple[int, int] = (0, 0)

    @property
    def least(self) -> int:
        """Elements that a block of the source has at least."""
        return 1 if self.splits else max(self.size, 1)

    def boundary(self, place: int) -> int:
        """Where the result is cut if the source is cut at a place."""
        return place

    def read(self, a: int, b: int) -> Read:
        """What the range [a, b) of the result reads."""
        start, stop = (a, b) if self.splits else (0, self.size)
        return Read(start, stop, 0, 0, 0, stop - start)


class Window(NamedTuple):
    """An axis of a convolution.

    Attributes
    ----------
    size, result : int
        Elements of the source (with those that wrap around) and of the result.
    reach, stride : int
        Elements from the first tap to the last, and from one window to the next.
    lo, hi : int
        Padding before and after.
    mirrors : bool
        Whether the padding is made of elements near the end, not of zeros.
    wrap : tuple of int
        Elements that the source has before and after its own, from its other end.
    """

    size: int
    result: int
    reach: int
    stride: int
    lo: int
    hi: int
    mirrors: bool = False
    wrap: tuple[int, int] = (0, 0)

    @property
    def least(self) -> int:
        """Elements that a block of the source has at least, for its result not to be empty."""
        padding = max(self.lo, self.hi) + 1 if self.mirrors else 1
        return max(self.reach + self.stride, padding)

    def boundary(self, place: int) -> int:
        """Where the result is cut: between the windows whose middles are on either side.

        A result of as many elements is cut as the source is, also where windows lie to one side.
        """
        if self.stride == 1 and self.result == self.size:
            return place
        return min(max(ceil_div(place + self.lo - self.reach // 2, self.stride), 0), self.result)

    def read(self, a: int, b: int) -> Read:
        """What the range [a, b) of the result reads: the windows' elements."""
        begin = a * self.stride - self.lo
        end = (b - 1) * self.stride - self.lo + self.reach + 1
        start, stop = min(max(begin, 0), self.size), min(max(end, 0), self.size)
        if self.mirrors:
            start, stop = self._mirrored(begin, end, start, stop)
            before, after = max(-begin, 0), max(end - self.size, 0)
        elif start < stop:
            before, after = start - begin, end - stop
        else:  # nothing but padding
            before, after = end - begin, 0
        skip = begin - (start - before)
        return Read(start, stop, before, after, skip, end - begin)

    def _mirrored(self, begin: int, end: int, start: int, stop: int) -> tuple[int, int]:
        """What [begin, end) reads whose part inside is [start, stop): mirrored lies further in."""
        before, after = max(-begin, 0), max(end - self.size, 0)
        if max(before, after) >= self.size:  # the pattern repeats
            return 0, self.size
        return (
            min(start, self.size - after - 1) if after else start,
            max(stop, before + 1) if before else stop,
        )


class Spread(NamedTuple):
    """An axis of a transposed convolution, whose result it cuts by `lo` before and `hi` after."""

    size: int
    result: int
    reach: int
    stride: int
    lo: int
    wrap: tuple[int, int] = (0, 0)

    @property
    def least(self) -> int:
        """Elements that a block of the source has at least."""
        return ceil_div(self.reach, self.stride) + 2 + ceil_div(self.lo, self.stride)

    def boundary(self, place: int) -> int:
        """Where the result is cut."""
        return min(max(place * self.stride - self.lo + self.reach // 2, 0), self.result)

    def read(self, a: int, b: int) -> Read:
        """What reaches the range [a, b) of the result."""
        start = max(ceil_div(a + self.lo - self.reach, self.stride), 0)
        stop = min((b - 1 + self.lo) // self.stride + 1, self.size)
        if start >= stop:  # nothing does: what is next to it, all of whose result is cut off
            start = min(max(start - 1, 0), self.size - 1)
            stop = start + 1
        begin = start * self.stride - self.lo
        end = (stop - 1) * self.stride - self.lo + self.reach + 1
        return Read(start, stop, a - begin, end - b, 0, b - a)


class Halo(NamedTuple):
    """An axis of a filter, whose elements look `before` and `after`.

    With `wrap` the source has been extended at both ends by as much as is looked at.
    """

    size: int
    result: int
    before: int
    after: int
    wrap: tuple[int, int] = (0, 0)

    @property
    def least(self) -> int:
        """Elements that a block of the source has at least."""
        return max(self.before, self.after) + 1

    def boundary(self, place: int) -> int:
        """Where the result is cut."""
        return min(max(place - self.wrap[0], 0), self.result)

    def read(self, a: int, b: int) -> Read:
        """What the range [a, b) looks at; at an end also what the filter's mode reflects there."""
        a, b = a + self.wrap[0], b + self.wrap[0]
        start, stop = max(a - self.before, 0), min(b + self.after, self.size)
        if a < self.before:
            stop = max(stop, min(self.before + 1, self.size))
        if b + self.after > self.size:
            start = min(start, max(self.size - self.after - 1, 0))
        return Read(start, stop, 0, 0, a - start, b - a)


class Resampled(NamedTuple):
    """An axis of signals whose rate becomes `up / down` times what it was.

    Attributes
    ----------
    size, result : int
        Elements of the source and of the result.
    taps : int
        Coefficients at `up` times the rate of the source.
    up, down : int
        The factors.
    begin : int
        Where the signal begins in the source; a multiple of `step`.
    """

    size: int
    result: int
    taps: int
    up: int
    down: int
    begin: int = 0
    wrap: tuple[int, int] = (0, 0)

    @property
    def reach(self) -> int:
        """Elements that an element of the result reads."""
        return ceil_div(self.taps, self.up)

    @property
    def step(self) -> int:
        """Elements after which results fall on elements again: blocks begin so far apart."""
        return self.down // math.gcd(self.up, self.down)

    @property
    def least(self) -> int:
        """Elements that a block of the source has at least."""
        return self.reach + self.step + ceil_div(self.down, self.up)

    def boundary(self, place: int) -> int:
        """Where the result is cut: where the middle of the coefficients is on the place."""
        middle = (place - self.begin) * self.up + self.taps // 2
        return min(max(ceil_div(middle, self.down), 0), self.result)

    def read(self, a: int, b: int) -> Read:
        """What the range [a, b) of the result reads; of the block's own results, `skip` go before.

        One element after the last that is read makes sure that the block has so many results.
        """
        first = a * self.down // self.up + self.begin - self.reach + 1
        start = max(first // self.step * self.step, 0)
        stop = min((b - 1) * self.down // self.up + self.begin + 2, self.size)
        skip = a - (start - self.begin) * self.up // self.down
        return Read(start, stop, 0, 0, skip, b - a)


Axis = Along | Window | Spread | Halo | Resampled


def pieces(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    """Ranges of an axis, on whose ends it begins anew, that make up a range past its ends."""
    while start < stop:
        place = start % size
        count = min(size - place, stop - start)
        yield place, place + count
        start += count


def merge(chunks: Sequence[int], least: int) -> tuple[int, ...]:
    """Join neighbours until each has so many elements; what is left over joins the last."""
    merged: list[int] = []
    held = 0
    for chunk in chunks:
        held += chunk
        if held >= least:
            merged.append(held)
            held = 0
    if held or not merged:
        merged[-1:] = [sum(merged[-1:]) + held]
    return tuple(merged)
