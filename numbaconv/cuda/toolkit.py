"""The one door to `numba.cuda`: what is installed, what device there is, and why it cannot be used.

Importing this module imports nothing of CUDA; `unavailable` says in words what is missing, and
whatever goes wrong inside the CUDA packages is a reason there, never a traceback.
"""

import functools
import importlib.metadata
import os
import re
from typing import Any, NamedTuple

import numpy as np

LEAST_CAPABILITY = (7, 5)  # the oldest that the CUDA 13 toolkit compiles for; has mma for float16
TF32_CAPABILITY = (8, 0)
WGMMA_CAPABILITY = (9, 0)  # alone: later ones do not have it
TOO_NEW_NUMPY = (2, 5)  # numba-cuda 0.30
# The wheels that the compilers are in, of CUDA 13 and 12; ptxas comes with nvcc.
COMPILERS = {
    "nvvm": ("nvidia-nvvm", "nvidia-cuda-nvcc-cu12"),
    "ptxas": ("nvidia-cuda-nvcc", "nvidia-cuda-nvcc-cu12"),
    "nvJitLink": ("nvidia-nvjitlink", "nvidia-nvjitlink-cu12"),
    "nvrtc": ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12"),
}
INSTALL = 'pip install "numbaconv[cuda12]" or "numbaconv[cuda13]"'


class Device(NamedTuple):
    """What the choice of kernels depends on, and its number: what lies there is nowhere else."""

    number: int
    name: str
    capability: tuple[int, int]
    processors: int


@functools.cache
def simulated() -> bool:
    """Whether kernels run in Numba's simulator, as Python threads (``NUMBA_ENABLE_CUDASIM=1``).

    Numba asks when it is imported.
    """
    return os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")


def version_of(*names: str) -> str | None:
    """Version of the first of some packages that is installed."""
    for name in names:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def package_version() -> str | None:
    """Version of numba-cuda, if it is installed."""
    return version_of("numba-cuda")


def _missing_package() -> str | None:
    if package_version() is None:
        return f"the package numba-cuda is not installed; {INSTALL}"
    version = re.match(r"(\d+)\.(\d+)", np.__version__)  # of a release, a candidate or a build
    if version is not None and tuple(map(int, version.groups())) >= TOO_NEW_NUMPY:
        newest = _dotted(TOO_NEW_NUMPY)
        return (
            f"numba-cuda compiles nothing under NumPy {np.__version__}, it needs "
            f'NumPy < {newest}; pip install "numpy<{newest}"'
        )
    return None


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


@functools.cache
def unavailable() -> str | None:
    """Why no CUDA kernel can run here, or None."""
    reason = _missing_package()
    if reason is not None:
        return reason
    try:
        from numba import cuda
    except Exception as error:  # a broken installation fails in ways of its own
        return f"numba-cuda {package_version()} cannot be imported ({_first_line(error)})"
    if simulated():
        return None
    try:
        if not cuda.is_available():
            return "no CUDA device: the driver is missing, or it sees no GPU"
        found = device()
    except Exception as error:
        return f"no CUDA device: {_first_line(error)}"
    if found.capability < LEAST_CAPABILITY:
        return (
            f"{found.name} has compute capability {_dotted(found.capability)}; "
            f"needed is {_dotted(LEAST_CAPABILITY)}"
        )
    return None


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def device() -> Device:
    """Return the current device."""
    if simulated():
        # Tensor cores are simulated too. One processor: no grid leaves it idle unless a test
        # asks for a split.
        return Device(0, "simulator", (9, 0), 1)
    return _device(device_number())


def device_number() -> int:
    """Return the number of the current device."""
    if simulated():
        return 0
    number = _current()
    if number is None:  # no context yet, which this makes
        from numba import cuda

        number = int(cuda.get_current_device().id)
    return number


def _current() -> int | None:
    """Return the device of this thread's context; None without one."""
    error, number = _driver().cuCtxGetDevice()  # 0.1 us, where Numba takes 5
    return None if error else int(number)


@functools.cache
def _driver() -> Any:
    from cuda.bindings import driver

    return driver


def pointer_device(address: int) -> int | None:
    """Return the number of the device that an address lies on; None of what no device has."""
    driver = _driver()
    attribute = driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    error, number = driver.cuPointerGetAttribute(attribute, driver.CUdeviceptr(address))
    return int(number) if not error and number >= 0 else None


@functools.cache
def _device(number: int) -> Device:
    from numba import cuda

    found = cuda.gpus[number]
    name = found.name.decode() if isinstance(found.name, bytes) else str(found.name)
    major, minor = found.compute_capability
    return Device(number, name, (int(major), int(minor)), int(found.MULTIPROCESSOR_COUNT))


def configuration() -> dict[str, Any]:
    """Return what `show_config` says of CUDA."""
    compilers = {tool: version_of(*wheels) for tool, wheels in COMPILERS.items()}
    facts = {
        "numba-cuda": package_version() or "not installed",
        "cuda toolkit": ", ".join(
            f"{tool} {version or 'of no wheel'}" for tool, version in compilers.items()
        ),
    }
    reason = unavailable()
    if reason is not None:
        return facts | {"cuda device": f"none: {reason}"}
    found = device()
    facts["cuda device"] = (
        f"{found.name}, compute capability {_dotted(found.capability)}, "
        f"{found.processors} multiprocessors"
    )
    if not simulated():
        from numba import cuda

        facts["cuda runtime"] = _dotted(cuda.runtime.get_version())
    return facts
