"""Calls that are written down in place of being carried out, as those of a CUDA graph are.

In a thread that captures, functions run as always: they validate, plan, and take memory. But what
they do to the data of arrays goes into a list: jobs, and the few operations below. Whoever
captures carries the list out later, on other data of the same shapes. `numbaconv.njit` makes the
records of filters so.

Memory is *known* if it is an argument of the captured call, or was taken meanwhile. Arrays made of
data by anything but the functions below are elsewhere, and then `Capture.place` says so.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided


class Move(NamedTuple):
    """``target[...] = source``, or ``target += source`` if it adds, or zeros without a source."""

    target: np.ndarray
    source: np.ndarray | None
    adds: bool = False


class Run(NamedTuple):
    """A job on flat arrays: see `numbaconv.cpu.job.carry_out`. `template.job` is its template."""

    template: Any
    x: np.ndarray
    weights: np.ndarray
    packed: np.ndarray
    bias: np.ndarray
    out: np.ndarray
    add: np.ndarray | None = None


class Block(NamedTuple):
    """Memory that is known: its first address, the one behind it, and the array that holds it."""

    begin: int
    end: int
    memory: np.ndarray


def address(array: np.ndarray) -> int:
    """Address of an array's first element."""
    return int(array.__array_interface__["data"][0])


def span(array: np.ndarray) -> tuple[int, int]:
    """First byte of an array, and the one behind the last, counted from its address."""
    if not array.size:
        return 0, 0
    ends = [(n - 1) * step for n, step in zip(array.shape, array.strides, strict=True)]
    return sum(min(e, 0) for e in ends), sum(max(e, 0) for e in ends) + array.itemsize


class Capture:
    """What a thread has written down.

    Attributes
    ----------
    threads : int
        How many the call may use.
    uses_threads : bool
        Whether it asked for more than one.
    blocks : list of Block
        Known memory.
    operations : list
        `Move` and `Run`, in their order.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.uses_threads = False
        self.blocks: list[Block] = []
        self.operations: list[Move | Run] = []

    def new(self, nbytes: int) -> np.ndarray:
        """Known memory, of which nothing is touched; bytes."""
        memory = np.empty(max(nbytes, 1), np.uint8)
        begin = address(memory)
        self.blocks.append(Block(begin, begin + memory.size, memory))
        return memory

    def stand_in(self, like: np.ndarray) -> np.ndarray:
        """An array in known memory with the shape, strides and dtype of another, as an argument."""
        low, high = span(like)
        memory = self.new(high - low)[-low:]
        first = memory[: like.itemsize] if like.size else np.empty(like.itemsize, np.uint8)
        return as_strided(
            first.view(like.dtype), like.shape, like.strides, writeable=like.flags.writeable
        )

    def place(self, array: np.ndarray) -> tuple[int, int] | None:
        """The number of the block that an array is in, and its place there; None if in none."""
        at = address(array)
        for number, block in enumerate(self.blocks):
            if block.begin <= at < block.end:
                return number, at - block.begin
        return None


class _State(threading.local):
    capture: Capture | None = None


_state = _State()


def capturing() -> Capture | None:
    """The capture of this thread, if it has one."""
    return _state.capture


@contextmanager
def capture(threads: int) -> Iterator[Capture]:
    """Write down what this thread calls meanwhile; the calls may use so many threads."""
    before, _state.capture = _state.capture, Capture(threads)
    try:
        yield _state.capture
    finally:
        _state.capture = before


# --- Operations on data -----------------------------------------------------------------------


def assign(target: np.ndarray, source: np.ndarray) -> None:
    """``target[...] = source``, converted like C does."""
    written = _state.capture
    if written is not None:
        written.operations.append(Move(target, source))
        return
    np.copyto(target, source, casting="unsafe")


def clear(target: np.ndarray) -> None:
    """``target[...] = 0``."""
    written = _state.capture
    if written is not None:
        written.operations.append(Move(target, None))
        return
    target[...] = 0


def add(target: np.ndarray, source: np.ndarray) -> None:
    """``target += source``."""
    written = _state.capture
    if written is not None:
        written.operations.append(Move(target, source, adds=True))
        return
    target += source


def contiguous(x: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """An array in contiguous, aligned memory and of a dtype: a copy if it is not."""
    written = _state.capture
    if written is None or written.place(x) is None:
        return np.require(x, dtype, ("C", "A"))
    return x if x.dtype == dtype and x.flags.c_contiguous else _copy(written, x, dtype)


def converted(x: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """An array of a dtype: a copy if it has another."""
    written = _state.capture
    if written is None or x.dtype == dtype or written.place(x) is None:
        return x.astype(dtype, copy=False)
    return _copy(written, x, dtype)


def _copy(written: Capture, x: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    nbytes = x.size * dtype.itemsize
    copy = written.new(nbytes)[:nbytes].view(dtype).reshape(x.shape)
    assign(copy, x)
    return copy
