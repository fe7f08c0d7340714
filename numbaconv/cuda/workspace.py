"""What a call works with: the device, the stream, and memory for the time of the call."""

import contextlib
import threading
import weakref
from collections import Counter
from typing import Any

import numpy as np
from numba import cuda

from numbaconv.cuda import memory
from numbaconv.cuda.streams import THREAD_STREAM, find_streams, wait_for
from numbaconv.cuda.toolkit import device_number, pointer_device, simulated
from numbaconv.runtime.lent_memory import also_release

_MOST_KEPT = 16  # streams


class Workspace:
    """A stream, and the memory that calls on it use, one after the other.

    What is laid out for the kernels of one call, and parts of split sums, lie where those of the
    call before did: work on one stream is done in its order. So only a larger call than any before
    allocates. Two calls never have the same memory, as it is lent (`work_on`).

    Attributes
    ----------
    stream
        A stream of Numba.
    given
        What the caller gave for it, for the time of the call.
    device : int
        Number of the device that is current when it is made.
    """

    def __init__(self, stream: Any) -> None:
        self.stream, self.device = stream, device_number()
        self.given: Any = None
        self._buffers: dict[str, Any] = {}

    def result(self, shape: tuple[int, ...], dtype: np.dtype) -> Any:
        """Allocate what the caller gets, which says that it is ready on the stream.

        It keeps the caller's stream: when it is copied, Numba uses that.
        """
        result = self.allocate(shape, dtype)
        if self.given is not None:
            result.given_stream = self.given
        return result

    def allocate(self, shape: int | tuple[int, ...], dtype: np.dtype) -> Any:
        """Allocate a device array of the stream, if need be in place of what is kept."""
        try:
            return memory.allocate(shape, dtype, self.stream)
        except MemoryError:
            release()
        return memory.allocate(shape, dtype, self.stream)

    def buffer(self, name: str, count: int, dtype: np.dtype, clear: bool = False) -> np.ndarray:
        """Return the shadow of a flat array, of zeros if they are wanted.

        What has the same name, in this call or a later one on this stream, lies in the same place.
        """
        size = max(count, 1) * dtype.itemsize
        array = self._buffers.get(name)
        if array is None or array.size < size:
            self._buffers[name] = array = None  # freed before more is taken
            self._buffers[name] = array = self.allocate(size, np.dtype(np.uint8))
        flat: np.ndarray = memory.shadow(name, array)[: count * dtype.itemsize].view(dtype)
        if clear:
            memory.clear(flat, self.stream)
        return flat

    @property
    def nbytes(self) -> int:
        """Bytes that it keeps."""
        return sum(int(array.size) for array in list(self._buffers.values()) if array is not None)


class _Shelf(dict[str, Any]):
    """Workspaces that no call has, by device and stream.

    A class of its own, as a plain dict takes no weak reference.
    """


_kept = _Shelf()
_of_thread = threading.local()  # for the stream that each thread has of its own
_of_threads: weakref.WeakValueDictionary[int, _Shelf] = weakref.WeakValueDictionary()


def _shelf(handle: int) -> _Shelf:
    if handle != THREAD_STREAM:
        return _kept
    shelf: _Shelf | None = getattr(_of_thread, "shelf", None)
    if shelf is None:
        shelf = _of_thread.shelf = _of_threads[threading.get_ident()] = _Shelf()
    return shelf


def release() -> int:
    """Free what is kept for calls to come, of all threads, and return its bytes.

    What a call has at the time is on no shelf, and is kept when that call gives it back.
    """
    shelves = [_kept, *(shelf for of in _of_threads.valuerefs() if (shelf := of()) is not None)]
    freed: Counter[int] = Counter()
    for shelf in shelves:
        freed += _empty(shelf)
    for number in freed:
        memory.free_pending(number)
    return freed.total()


def _empty(shelf: _Shelf) -> Counter[int]:
    """Drop what is on a shelf, and return its bytes on each device."""
    freed: Counter[int] = Counter()
    with contextlib.suppress(KeyError):  # it is empty
        while True:
            _, workspace = shelf.popitem()
            freed[workspace.device] += workspace.nbytes
    return freed


also_release(release)


def _place(stream: Any) -> tuple[_Shelf, str]:
    """Return where the workspace of a stream is kept, and under which key."""
    handle = int(stream)
    return _shelf(handle), f"{device_number()} {handle}"


def device_of(arrays: dict[str, Any]) -> int | None:
    """Return the device that arrays lie on, or None if nothing tells another than the current one.

    Parameters
    ----------
    arrays : dict
        Arrays on a device by the names of their arguments; None for one that was not given.

    Raises
    ------
    ValueError
        If they lie on several.
    """
    if simulated() or len(cuda.gpus) == 1:
        return None
    found: dict[str, int] = {}
    for name, array in arrays.items():
        at = 0 if array is None else array.__cuda_array_interface__["data"][0]
        number = pointer_device(at) if at else None  # an empty array lies nowhere
        if number is not None:
            found[name] = number
    if len(set(found.values())) > 1:
        places = ", ".join(f"{name} on GPU {number}" for name, number in found.items())
        raise ValueError(f"all arrays of a call must be on one GPU; got {places}")
    return next(iter(found.values()), None)


class work_on:  # noqa: N801 (called as a function; a generator would take 2 us more)
    """Lend what a call works with: on the device of its arrays, after what they wait for.

    Parameters
    ----------
    arrays : dict
        Arrays on a device by the names of their arguments; None for one that was not given. The
        stream of ``out`` waits for the call.
    stream : object, optional
        As in `streams.find_streams`.
    """

    def __init__(self, arrays: dict[str, Any], stream: Any) -> None:
        self._arrays, self._given = arrays, stream
        self._elsewhere: Any = None

    def __enter__(self) -> Workspace:
        number = device_of(self._arrays)
        if number is None or number == device_number():
            return self._take()
        self._elsewhere = cuda.gpus[number]
        self._elsewhere.__enter__()
        try:
            return self._take()
        except BaseException:
            self._elsewhere.__exit__(None, None, None)
            raise

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            self._give_back(kind is None)
        finally:
            if self._elsewhere is not None:
                self._elsewhere.__exit__(kind, error, trace)

    def _take(self) -> Workspace:
        self._stream, others, self._after = find_streams(self._given, self._arrays)
        for other in others:
            wait_for(self._stream, other)
        self._shelf, self._key = _place(self._stream)
        # Taken, so that a call in the midst of this one gets memory of its own.
        self._workspace = self._shelf.pop(self._key, None) or Workspace(self._stream)
        self._workspace.given = self._given
        return self._workspace

    def _give_back(self, done: bool) -> None:
        self._workspace.given = None
        if len(self._shelf) >= _MOST_KEPT:
            self._shelf.clear()
        self._shelf[self._key] = self._workspace
        if done and self._after is not None:
            wait_for(self._after, self._stream)
