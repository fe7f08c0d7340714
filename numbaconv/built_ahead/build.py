"""Build kernels ahead: compile what is usual, for the host or for a machine that is not here.

Each archive is built by a process of its own:
``python -m numbaconv.built_ahead.build NAME FOLDER``. There all code is for that machine, and
Numba, of which only the front end is needed, works for a CPU without any name, so that the bytes do
not depend on where they are made.
"""

import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

# All else of the package is imported late, by `_build_here`: for the machine that it has chosen.
import numbaconv
from numbaconv.codegen import machines
from numbaconv.codegen.machines import FAMILIES, HOST

NAMES = (*FAMILIES, HOST)
DIRECTORY = Path(__file__).parent

# No kernels of the CPU are there.
_WITHOUT = (
    *("numbaconv.cuda", "numbaconv.cli", "numbaconv.__main__", "numbaconv.built_ahead"),
    *("numbaconv.dask", "numbaconv.torch", "numbaconv.blocks.lazy"),  # of libraries that few have
)


def build(names: list[str], directory: Path = DIRECTORY) -> list[Path]:
    """Build the archives of some families, as many at once as there are cores.

    Parameters
    ----------
    names : list of str
        Of `NAMES`.
    directory : Path, optional
        Where they are written: the place where they are looked for, by default.

    Returns
    -------
    list of Path
        The archives.

    Raises
    ------
    ValueError
        If a name is none of `NAMES`.
    RuntimeError
        If an archive could not be built; with what the process said.
    """
    for name in names:
        if name not in NAMES:
            raise ValueError(f"kernels are built for {', '.join(NAMES)}, not for {name!r}")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda name: _build_apart(name, directory), names))


def _build_apart(name: str, directory: Path) -> Path:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
    environment |= {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    environment |= {"NUMBA_DISABLE_INTEL_SVML": "1"}  # a library that few have
    command = [sys.executable, "-m", __name__, name, str(directory)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"kernels for {name} could not be built:\n{done.stderr}")
    return Path(done.stdout.strip())


def _build_here(name: str, directory: Path) -> Path:
    """Build an archive in this process, in which nothing else of the package was imported yet."""
    if not directory.is_dir():  # before minutes of compiling
        raise NotADirectoryError(f"no directory {directory}")
    machines.compile_for(machines.host() if name == HOST else FAMILIES[name].machine)
    _import_all()
    from numbaconv.codegen import archives, cache

    packed = {}
    for kernel in _usual_kernels():
        identity = archives.identity(kernel, machines.machine())
        packed[kernel.symbol] = cache.pack(identity, kernel.to_code())
    path = directory / archives.file_name(name)
    cache.write(path, archives.write(packed))
    path.chmod(0o644)  # a file of the package, for all
    return path


def _import_all() -> None:
    """Import all modules that have kernels: they register themselves."""
    for module in pkgutil.walk_packages(numbaconv.__path__, "numbaconv."):
        if not module.name.startswith(_WITHOUT):
            import_module(module.name)


def _usual_kernels() -> Iterator[Any]:
    """Yield all kernels, for float32 and float64 where they are made for elements.

    Those that convert are made for images of these, and of uint8.
    """
    from numbaconv.codegen import jit

    for function in jit.natives:
        for dtype in _usual_types(function):
            yield function.kernel(dtype)


def _usual_types(function: Any) -> list[Any]:
    from numba import types

    from numbaconv.codegen.arguments import Elements, kinds_of
    from numbaconv.cpu.packing.conversion import usual_types
    from numbaconv.njit.steps import step_signature

    if function.converts:
        return usual_types(function)
    kinds = kinds_of(function.arguments).values() if isinstance(function.arguments, type) else ()
    if function.arguments is step_signature:
        return [(dtype, dtype) for dtype in (types.float32, types.float64)]
    if Elements in kinds:
        return [types.float32, types.float64]
    return [types.int64]


if __name__ == "__main__":
    sys.stdout.write(f"{_build_here(sys.argv[1], Path(sys.argv[2]))}\n")
