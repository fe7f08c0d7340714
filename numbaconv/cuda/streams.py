"""Streams: on which one a call works, and who waits for whom.

An array says on which stream it is ready. A call waits for those of all its arrays, on the device
and not on the host; the stream of an `out` that has another one then waits for the call.
"""

import functools
import sys
from typing import Any

from numba import cuda

from numbaconv.cuda.toolkit import device_number, simulated

# Handles with a meaning. The default stream, 0, is the legacy one in Numba; an array's interface
# must not say 0.
DEFAULT_STREAM, LEGACY_STREAM, THREAD_STREAM = 0, 1, 2


def find_streams(stream: Any, arrays: dict[str, Any]) -> tuple[Any, list[Any], Any]:
    """Return the stream to work on, the others that arrays are ready on, and that of ``out``.

    The last is None if it is the first, or nothing.

    Parameters
    ----------
    stream : object, optional
        As the caller gave it: Numba's, any object with a handle in ``ptr`` (CuPy) or
        ``cuda_stream`` (PyTorch) or with ``__cuda_stream__``, or the handle. Without one it is the
        first array's own.
    arrays : dict
        Those of the call that are on a device; None for one that was not given.
    """
    if simulated():
        return 0, [], None
    ready = {}
    for name, array in arrays.items():
        handle = None if array is None else own_handle(array)
        if handle is not None:
            ready[name] = handle
    own = next(iter(ready.values())) if ready else LEGACY_STREAM
    chosen = own if stream is None else _handle_of(stream)
    others = {handle: stream_of(handle) for handle in ready.values() if handle != chosen}
    return stream_of(chosen), list(others.values()), others.get(ready.get("out", chosen))


def own_handle(array: Any) -> int | None:
    """Return the handle of the stream that an array is ready on; PyTorch says it elsewhere."""
    handle: Any
    if hasattr(array, "__cuda_ndarray__"):  # Numba's, whose interface takes a microsecond
        handle = None if array.stream == 0 else array.stream
    elif type(array).__module__.partition(".")[0] == "torch":
        handle = sys.modules["torch"].cuda.current_stream(array.device).cuda_stream
    else:
        handle = (getattr(array, "__cuda_array_interface__", None) or {}).get("stream")
    return None if handle is None else int(handle) or LEGACY_STREAM


def _handle_of(stream: Any) -> int:
    if hasattr(stream, "__cuda_stream__"):
        stream = stream.__cuda_stream__()[1]
    for attribute in ("ptr", "cuda_stream"):
        stream = getattr(stream, attribute, stream)
    if not isinstance(stream, int):
        raise TypeError(
            f"stream must be a CUDA stream of Numba, CuPy or PyTorch or its handle, "
            f"got {type(stream).__name__}"
        )
    return int(stream) or LEGACY_STREAM


def stream_of(handle: int) -> Any:
    """Return the current device's stream of a handle."""
    return _stream_of_handle(handle, device_number())


@functools.lru_cache(maxsize=256)
def _stream_of_handle(handle: int, number: int) -> Any:
    if handle == LEGACY_STREAM:
        return cuda.legacy_default_stream()
    if handle == THREAD_STREAM:
        return cuda.per_thread_default_stream()
    return cuda.external_stream(handle)


def wait_for(stream: Any, other: Any) -> None:
    """Let what is put on a stream from now on wait for what is on another one now."""
    event = cuda.event(timing=False)
    event.record(other)
    event.wait(stream)
