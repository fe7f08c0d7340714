"""Kernels of a GPU: compiled once for a capability, kept on disk, and launched through `cuda.core`.

numba-cuda compiles to PTX, and `cuda.core` assembles that to machine code and loads it. Numba's own
way to launch would compile again in each process: its cache finds no kernel that closes over its
sizes. And it takes some tens of microseconds a launch, where this takes two.
"""

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from numbaconv.codegen import cache
from numbaconv.codegen.objects import origins
from numbaconv.cuda.toolkit import COMPILERS, device, package_version, simulated, version_of

Capability = tuple[int, int]


class Source(NamedTuple):
    """A kernel before it is compiled.

    Attributes
    ----------
    function : function
        In Python; its arguments are addresses.
    threads, blocks : int
        Of how many threads its blocks are at most, and how many of those a multiprocessor is to
        hold, which bounds the registers.
    features : str
        "a" if it has instructions of one capability alone, which the next does not have (`sm_90a`).
    """

    function: Callable[..., None]
    threads: int
    blocks: int = 1
    features: str = ""

    @property
    def arguments(self) -> int:
        """How many addresses it takes."""
        return int(self.function.__code__.co_argcount)


def to_ptx(source: Source, capability: Capability) -> str:
    """Compile a kernel with numba-cuda."""
    from numba import cuda, types

    ptx, _ = cuda.compile(
        source.function,
        types.void(*(types.int64,) * source.arguments),
        device=False,
        abi="numba",
        cc=(*capability, source.features) if source.features else capability,
        launch_bounds=(source.threads, source.blocks),
    )
    return str(ptx)


def find_features(ptx: str) -> str:
    """Return the `Source.features` that PTX was compiled for."""
    return re.findall(r"^\.target sm_\d+(\w*)", ptx, re.MULTILINE)[0]  # type: ignore[no-any-return]


def to_cubin(ptx: str, capability: Capability) -> bytes:
    """Assemble the machine code of a kernel."""
    from cuda.core import Program, ProgramOptions

    arch = "sm_{}{}".format(*capability) + find_features(ptx)
    return bytes(Program(ptx, "ptx", ProgramOptions(arch=arch)).compile("cubin").code)


def load(cubin: bytes, entry: str) -> Any:
    """Load machine code for all devices of its capability."""
    from cuda.core import ObjectCode

    return ObjectCode.from_cubin(cubin).get_kernel(entry)


@functools.cache
def _launcher() -> tuple[Any, Any]:
    from cuda.core import LaunchConfig, launch

    @functools.lru_cache(maxsize=1024)
    def configure(blocks: int, threads: int, shared: int) -> Any:
        return LaunchConfig(grid=blocks, block=threads, shmem_size=shared)

    return launch, configure


@functools.cache
def versions() -> tuple[Any, ...]:
    """What is installed that decides what a kernel is compiled to."""
    tools = [_version_of_tool(tool) for tool in ("nvvm", "nvJitLink")]
    return (package_version(), *tools, *cache.settings())


def _version_of_tool(name: str) -> Any:
    """Version of a compiler's wheel; of one that is installed otherwise, which file it is."""
    version = version_of(*COMPILERS[name])
    if version is not None:
        return version
    from cuda.pathfinder import load_nvidia_dynamic_lib

    try:
        path = load_nvidia_dynamic_lib(name).abs_path
        status = Path(str(path)).stat()
    except Exception:  # without nvJitLink the driver assembles
        return None
    return str(path), status.st_size, status.st_mtime_ns


class Kernel:
    """A kernel, made and compiled only where it is not on disk.

    Parameters
    ----------
    label : str
        What it does.
    make : function
        Returns its `Source`.
    *of
        The arguments of `make`, whose ``repr`` tells one kernel from another.

    Attributes
    ----------
    name : str
        The label, and what it was made of.
    module : str
        Where `make` is.
    """

    def __init__(self, label: str, make: Callable[..., Source], *of: Any) -> None:
        self.name = f"{label} {', '.join(map(str, of))}"
        self.module = make.__module__
        self._symbol = f"numbaconv.cuda.{label.replace(' ', '_')}"
        self._key = make.__module__, make.__qualname__, of
        self._make = functools.partial(make, *of)
        self._loaded: dict[Capability, Any] = {}

    @functools.cached_property
    def source(self) -> Source:
        """What is compiled."""
        return self._make()

    @functools.cached_property
    def _simulated(self) -> Any:
        from numba import cuda

        return cuda.jit(self.source.function)

    def code(self, capability: Capability) -> tuple[str, bytes]:
        """Return the name of the entry and the machine code: from the cache, or compiled now."""
        identity = repr((self._key, capability, *versions()))
        stored = cache.load(self._symbol, identity)
        origin = "from the cache"
        if stored is None:
            stored, origin = cache.make_once(
                self._symbol, identity, lambda: self._compile(capability)
            )
        origins[origin] += 1
        entry, _, cubin = stored.partition(b"\0")
        return entry.decode(), cubin

    def _compile(self, capability: Capability) -> bytes:
        ptx = to_ptx(self.source, capability)
        (entry,) = re.findall(r"\.visible\s+\.entry\s+(\w+)", ptx)
        return b"\0".join((entry.encode(), to_cubin(ptx, capability)))

    def _load(self, capability: Capability) -> Any:
        entry, cubin = self.code(capability)
        loaded = self._loaded[capability] = load(cubin, entry)
        return loaded

    def launch(
        self, blocks: int, threads: int, stream: Any, arguments: tuple[Any, ...], shared: int = 0
    ) -> None:
        """Launch it on the current device.

        Parameters
        ----------
        blocks, threads : int
            The grid, and a block of it.
        stream
            A stream of Numba.
        arguments : tuple
            Addresses.
        shared : int
            Bytes of shared memory beside what the kernel has.
        """
        if simulated():
            self._simulated[blocks, threads, stream, shared](*arguments)
            return
        capability = device().capability
        kernel = self._loaded.get(capability) or self._load(capability)
        start, configure = _launcher()
        start(stream, configure(blocks, threads, shared), kernel, *arguments)
