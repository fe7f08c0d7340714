"""Device memory, seen as NumPy sees memory.

`shadow` makes a NumPy array whose address, shape and strides are those of an array on the device.
Its elements must never be touched, but everything that only looks at the shape works: transposing
and splitting axes, `.real` and `.imag`, flags, and the test for overlap. So the validation and the
layout code of the package serve both sides, and what must be copied is copied by one kernel from
one shadow to another.
"""

import contextlib
import functools
import math
from typing import Any

import numpy as np
from numba import cuda

from numbaconv.cuda import passes
from numbaconv.cuda.kernels import Kernel
from numbaconv.cuda.toolkit import device_number, simulated

SIMULATED = simulated()
ALIGNMENT = 16  # what wide loads need, and every allocation has


class _Memory:
    """Holds an interface for `np.asarray`, and the memory's owner for as long."""

    def __init__(self, interface: dict[str, Any], owner: Any) -> None:
        self.__array_interface__ = interface
        self.owner = owner


def first_byte(array: np.ndarray) -> int:
    """Return the address of a shadow's first element."""
    base: Any = array.base  # of a shadow that is no view: NumPy would describe its memory anew
    whole = base if type(base) is _Memory else array
    return int(whole.__array_interface__["data"][0])


def shadow(name: str, array: Any) -> np.ndarray:
    """Return the shadow of an array on the device; `name` is its argument in errors."""
    if SIMULATED and isinstance(array, type(allocate(1, np.dtype("u1")))):
        return array._ary  # type: ignore[no-any-return]  # simulated memory can be looked at
    interface = array.__cuda_array_interface__
    if interface.get("mask") is not None:
        raise TypeError(f"{name} has a mask, which is not supported")
    # What is in both interfaces means the same, and NumPy does not look at the rest.
    view = np.asarray(_Memory(interface, array))
    if not view.dtype.isnative:
        raise TypeError(f"{name} has the byte order of another machine; on a GPU it must be native")
    if not view.flags.aligned:
        itemsize = view.dtype.itemsize
        raise ValueError(f"{name} must begin at a multiple of its itemsize, {itemsize} bytes")
    return view


def allocate(shape: int | tuple[int, ...], dtype: np.dtype, stream: Any = 0) -> Any:
    """Allocate a device array; a full device is a MemoryError and stays usable."""
    shape = max(shape, 1) if isinstance(shape, int) else shape
    try:
        return cuda.device_array(shape, dtype, stream=stream)
    except Exception as error:
        if "OUT_OF_MEMORY" not in str(error) and not isinstance(error, MemoryError):
            raise
        size = math.prod(np.atleast_1d(shape).tolist()) * np.dtype(dtype).itemsize
        raise MemoryError(f"the device has no {size} bytes left for a convolution") from error


def free_pending(number: int) -> None:
    """Free the arrays of a device that nothing refers to any more, which Numba puts off.

    The driver waits for what still runs with them.
    """
    if SIMULATED:
        return
    with cuda.gpus[number]:
        # Another library's memory manager may put nothing off.
        pending = getattr(cuda.current_context().memory_manager, "deallocations", None)
        if pending is not None:
            with contextlib.suppress(IndexError):  # another thread has freed the last
                pending.clear()


def upload(array: np.ndarray, stream: Any = 0) -> Any:
    """Copy a flat host array to the device."""
    target = allocate(array.size, array.dtype, stream)
    if array.size:
        target.copy_to_device(array, stream=stream)
    return target


def download(source: Any, count: int, stream: Any = 0) -> np.ndarray:
    """Copy a flat device array to the host, and wait for it."""
    result = np.empty(max(count, 1), source.dtype)
    source.copy_to_host(result, stream=stream)
    if stream:  # without one, the copy has waited
        stream.synchronize()
    return result[:count]


def settle() -> None:
    """Wait until what was uploaded is there for every stream."""
    if not SIMULATED:
        cuda.synchronize()


def address(array: np.ndarray) -> Any:
    """Return a shadow's lowest address, as kernels take it."""
    if SIMULATED:
        return _simulated_memory(array)
    first = first_byte(array)
    return first if array.flags.c_contiguous else first - passes.start(array) * array.itemsize


def _simulated_memory(array: np.ndarray) -> Any:
    """Return a flat simulated array over all that an array spans, so that bounds are checked."""
    low, high = np.lib.array_utils.byte_bounds(array) if array.size else (0, 0)
    count = (high - low) // array.itemsize
    flat = np.empty(0, array.dtype)
    if count:
        interface = {"data": (low, False), "shape": (count,), "typestr": array.dtype.str}
        flat = np.asarray(_Memory(interface | {"version": 3}, array))
    if array.dtype == np.float16:
        flat = flat.view(np.uint16)
    return type(allocate(1, np.dtype("u1")))(flat)


move_kernel = functools.cache(functools.partial(Kernel, "copy", passes.make_move))


_move_jobs: dict[Any, Any] = {}
_MOST_JOBS = 1024


def move(
    target: np.ndarray,
    source: np.ndarray,
    stream: Any,
    negate: bool = False,
    rounded: bool = False,
) -> None:
    """Copy from one shadow to another, converting; float32 may be rounded to tf32."""
    if not target.size:
        return
    key = (
        device_number(),
        target.shape,
        target.strides,
        source.strides,
        target.itemsize,
        source.itemsize,
    )
    job = _move_jobs.get((key, negate))
    if job is None:
        if len(_move_jobs) >= _MOST_JOBS:
            _move_jobs.clear()
        job = upload(passes.move_job(target, source, negate))
        settle()
        _move_jobs[key, negate] = job
    kernel = move_kernel(source.dtype.name, "tf32" if rounded else target.dtype.name)
    arguments = (address(source), address(target), argument(job))
    blocks, threads = passes.grid(target.size)
    launch(kernel, blocks, threads, stream, arguments, f"shape {target.shape}")


@functools.cache
def _zeros(number: int) -> Any:
    """Return the bytes of a zero of any dtype, on the current device."""
    zeros = upload(np.zeros(16, np.uint8))
    settle()
    return zeros


def clear(target: np.ndarray, stream: Any) -> None:
    """Set a shadow to zeros."""
    zero = shadow("zero", _zeros(device_number())).view(target.dtype)
    move(target, np.broadcast_to(zero[:1], target.shape), stream)


def argument(array: Any) -> Any:
    """Return the address of one of our own device arrays."""
    return array if SIMULATED else int(array.device_ctypes_pointer.value or 0)


def launch(
    kernel: Kernel,
    blocks: int,
    threads: int,
    stream: Any,
    arguments: tuple[Any, ...],
    problem: Any,
    shared: int = 0,
) -> None:
    """Launch a kernel; an error names it and the problem."""
    try:
        kernel.launch(blocks, threads, stream, arguments, shared)
    except Exception as error:
        raise RuntimeError(
            f"the CUDA kernel {kernel.name!r} failed on {problem}, launched with {blocks} blocks "
            f"of {threads} threads: {error}"
        ) from error
