"""A GPU that is not there: numbaconv's host code runs as it is, its kernels in the interpreter.

What of `numba.cuda` touches a driver is replaced (`installed`): allocations, copies, streams,
events and launches. Kernels are compiled to PTX by numba-cuda, as a launch would, and executed by
`machine`.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from numbaconv.cuda import kernels
from tests.cuda.executed import compilation, machine
from tests.cuda.executed.memory import FaultError, Memory
from tests.cuda.executed.streams import Event, Order, Stream


class Launched(NamedTuple):
    """A launch that was executed: of which kernel, on which device and stream."""

    key: str
    blocks: int
    threads: int
    device: int
    stream: int


class Configuration(NamedTuple):
    """What `cuda.core.LaunchConfig` is."""

    grid: int
    block: int
    shmem_size: int


class Gpu:
    """All that there is of the device, or of several of one model.

    Attributes
    ----------
    capability, processors, count
        What the devices are, and how many.
    memory, order
        The memory, one for all devices, and the order of what happens in it.
    launches : list
        What was launched.
    allocations : int
        How often memory was allocated.
    skew : int
        Bytes that new allocations are away from an aligned address.
    only : pair of int, optional
        The blocks of a grid to execute.
    profile : bool
        Whether bank conflicts are counted, and kept with what else `notes` has of the last launch.
    """

    def __init__(self) -> None:
        self.memory = Memory()
        self.profile = False
        self.only: tuple[int, int] | None = None
        self._reset()

    def begin(self, **facts: Any) -> None:
        """Take another device, on which nothing has happened; `facts` are of `_reset`."""
        forget_plans()
        self._reset(**facts)

    def _reset(self, capability: tuple[int, int] = (9, 0), processors: int = 132) -> None:
        self.capability, self.processors, self.count = capability, processors, 1
        self.order = Order()
        self.homes: dict[int, int] = {}  # allocation -> its device
        self.launches: list[Launched] = []
        self.allocations, self.skew, self.handles = 0, 0, 1000
        self.never_written: set[tuple[str, str]] = set()
        self.notes: Any = None
        gc.collect()
        if not self.memory.live:
            self.memory.reset()

    def allocate(self, size: int) -> int:
        address = self.memory.allocate(max(size, 1), self.skew)
        self.homes[address] = self.order.device
        self.allocations += 1
        return address

    def free(self, address: int) -> None:
        if address in self.memory.live:
            self.memory.free(address)
            self.homes.pop(address, None)
            self.order.forget(address)

    def device_of(self, address: int) -> int | None:
        owner = self.memory.owner(address)
        return None if owner is None else self.homes[owner]

    def stream(self) -> Stream:
        """Return a new stream, for which the default stream waits."""
        self.handles += 1
        return Stream(self.order, self.handles, blocking=True)

    def launch(
        self, stream: Any, configuration: Configuration, kernel: Any, *addresses: int
    ) -> None:
        """Execute a launch, as it is and in its order."""
        blocks, threads, dynamic = configuration
        key, program = kernel
        assert program.parameter_types == ["u64"] * len(addresses)
        owners = {self.memory.owner(int(address)) for address in addresses} - {None}
        for owner in owners:
            if self.homes[owner] != self.order.device:
                raise FaultError(
                    f"memory of device {self.homes[owner]} on device {self.order.device}"
                )
        launch = machine.Launch(program, int(blocks), int(threads), addresses, int(dynamic))
        try:
            self.notes = machine.execute(launch, self.memory, self.profile, self.only)
            written = [a for a in owners if self.memory.written_by_launch(a)]
            self.order.submit(stream, owners, written)
        except FaultError as fault:
            raise FaultError(f"{fault} [kernel {key}, {blocks} x {threads}]") from None
        self.never_written |= {(key, text) for text in self.notes.never_written}
        launched = Launched(key, blocks, threads, self.order.device, int(stream))
        self.launches.append(launched)


GPU = Gpu()


class DeviceArray:
    """What `cuda.device_array` returns; as there, a view forgets its stream."""

    __cuda_ndarray__ = True

    def __init__(
        self,
        shape: Any,
        dtype: Any = float,
        strides: Any = None,
        order: str = "C",
        stream: Any = 0,
        owner: DeviceArray | None = None,
    ) -> None:
        self.shape = (shape,) if isinstance(shape, int) else tuple(shape)
        self.dtype, self.ndim = np.dtype(dtype), len(self.shape)
        self.size = int(np.prod(self.shape))
        self.nbytes = self.size * self.dtype.itemsize
        self.strides = tuple(
            int(np.prod(self.shape[i + 1 :])) * self.dtype.itemsize for i in range(self.ndim)
        )
        self.stream, self.owner = stream, owner
        self.address = owner.address if owner else GPU.allocate(self.nbytes)

    def __del__(self) -> None:
        if self.owner is None and hasattr(self, "address"):
            GPU.free(self.address)

    @property
    def device_ctypes_pointer(self) -> Any:
        return SimpleNamespace(value=self.address)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "strides": None,
            "data": (self.address if self.size else 0, False),
            "typestr": self.dtype.str,
            "stream": int(self.stream) if self.stream != 0 else None,
            "version": 3,
        }

    def _root(self) -> int:
        return self.owner._root() if self.owner else self.address

    def copy_to_device(self, array: Any, stream: Any = 0) -> None:
        if isinstance(array, DeviceArray):
            data = GPU.memory.read(array.address, array.nbytes)
            GPU.order.submit(stream, reads=[array._root()], writes=[self._root()])
        else:
            array = np.ascontiguousarray(array)
            data = array.tobytes()
            GPU.order.submit(stream, writes=[self._root()])
            GPU.order.synchronize(stream)  # memory that is not pinned: the copy has begun
        assert (array.dtype, array.size) == (self.dtype, self.size)
        GPU.memory.write(self.address, data)

    def copy_to_host(self, into: Any = None, stream: Any = 0) -> Any:
        if into is None:
            into = np.empty(self.shape, self.dtype)
        assert into.nbytes == self.nbytes
        stream = stream or self.stream
        GPU.order.submit(stream, reads=[self._root()])
        GPU.order.synchronize(stream)
        data = GPU.memory.read(self.address, into.nbytes)
        into.reshape(-1).view(np.uint8)[:] = np.frombuffer(data, np.uint8)
        return into

    def reshape(self, *shape: Any) -> DeviceArray:
        shape = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple) else shape
        assert int(np.prod(shape)) == self.size
        return DeviceArray(shape, self.dtype, owner=self)

    def __getitem__(self, part: slice) -> DeviceArray:
        assert self.ndim == 1
        assert part.step is None
        assert not part.start
        return DeviceArray(part.stop, self.dtype, owner=self)


def to_device(array: Any, stream: Any = 0) -> DeviceArray:
    """Copy to the current device."""
    there = DeviceArray(array.shape, array.dtype, stream=stream)
    if array.size:
        there.copy_to_device(array, stream)
    return there


class Devices:
    """What `cuda.gpus` is."""

    def __len__(self) -> int:
        return GPU.count

    def __getitem__(self, number: int) -> Any:
        return _use(number)


@contextlib.contextmanager
def _use(number: int) -> Iterator[None]:
    before, GPU.order.device = GPU.order.device, number
    try:
        yield
    finally:
        GPU.order.device = before


def _compile(kernel: kernels.Kernel, capability: tuple[int, int]) -> bytes:
    """Compile a kernel: to its name, and PTX in place of machine code."""
    return b"\0".join((kernel.name.encode(), compilation.ptx_of(kernel, capability).encode()))


def _load(ptx: bytes, name: str) -> tuple[str, Any]:
    return name, compilation.program_of(ptx.decode())


PENDING = SimpleNamespace(deallocations=[])  # memory is freed here as soon as it can be

# Nothing is kept on disk: what is compiled here no device could run.
NO_CACHE = SimpleNamespace(
    load=lambda symbol, identity: None,
    make_once=lambda symbol, identity, make: (make(), "compiled"),
    settings=tuple,
)


@contextlib.contextmanager
def installed() -> Iterator[Gpu]:
    """Replace the driver, for as long as this lasts."""
    from numba import cuda

    from numbaconv.cuda import toolkit, workspace

    with pytest.MonkeyPatch.context() as patch:
        api = {
            "get_current_device": lambda: SimpleNamespace(
                id=GPU.order.device,
                compute_capability=GPU.capability,
                MULTIPROCESSOR_COUNT=GPU.processors,
            ),
            "is_available": lambda: True,
            "device_array": DeviceArray,
            "device_array_like": lambda a: DeviceArray(a.shape, a.dtype),
            "to_device": to_device,
            "current_context": lambda: SimpleNamespace(memory_manager=PENDING),
            "synchronize": lambda: GPU.order.synchronize_all(),
            "stream": lambda: GPU.stream(),
            "external_stream": lambda handle: Stream(GPU.order, handle),
            "default_stream": lambda: Stream(GPU.order, 0),
            "legacy_default_stream": lambda: Stream(GPU.order, 1),
            "per_thread_default_stream": lambda: Stream(GPU.order, 2),
            "event": lambda timing=True: Event(GPU.order),
            "gpus": Devices(),
        }
        for name, replacement in api.items():
            patch.setattr(cuda, name, replacement)
        dispatcher = importlib.import_module("numba.cuda.dispatcher")
        patch.setattr(
            dispatcher,
            "get_current_device",
            lambda: SimpleNamespace(compute_capability=GPU.capability),
        )
        patch.setattr(toolkit, "_device", _describe)
        patch.setattr(workspace, "pointer_device", GPU.device_of)
        patch.setattr(toolkit, "_current", lambda: GPU.order.device)
        patch.setattr(kernels, "cache", NO_CACHE)
        patch.setattr(kernels.Kernel, "_compile", _compile)
        patch.setattr(kernels, "load", _load)
        patch.setattr(kernels, "_launcher", lambda: (GPU.launch, Configuration))
        toolkit.unavailable.cache_clear()
        GPU.begin()
        try:
            yield GPU
        finally:
            GPU.begin()
            toolkit.unavailable.cache_clear()


def _describe(number: int) -> Any:
    from numbaconv.cuda import toolkit

    return toolkit.Device(number, "interpreter", GPU.capability, GPU.processors)


def forget_plans() -> None:
    """Forget what numbaconv keeps of a device."""
    from numbaconv.cuda import convolution, memory, streams, workspace
    from numbaconv.problem import plan

    plan._plans.clear()
    plan._adjoint_plans.clear()
    memory._move_jobs.clear()
    memory._zeros.cache_clear()
    for kernels_of in (
        convolution.product_kernel,
        convolution.filter_gradient_kernel,
        convolution.filter_kernel,
        convolution.second_pass,
        convolution.transpose_kernel,
        memory.move_kernel,
    ):
        kernels_of.cache_clear()
    streams._stream_of_handle.cache_clear()
    workspace.release()
