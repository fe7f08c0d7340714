"""Object code in this process: found in the cache or compiled, linked, and called by address."""

import ctypes
import functools
from collections import Counter

import llvmlite.binding as llvm

from numbaconv.codegen import archives, cache
from numbaconv.codegen.kernel import Kernel
from numbaconv.codegen.machines import machine, new_target_machine

origins: Counter[str] = Counter()  # of the kernels in this process
_linked: set[str] = set()  # symbols in the engine


def _new_engine() -> llvm.ExecutionEngine:
    """Return what links objects."""
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), new_target_machine())
    # Jobs and machine code have addresses in it, also when this module is loaded again.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine))
    return engine


@functools.cache
def _engine() -> llvm.ExecutionEngine:
    return _new_engine()


def _link(symbol: str, code: bytes) -> int:
    """Return the address of a function in object code, which stays for ever."""
    # LLVM does not promise which of two functions with one name an engine finds.
    engine = _new_engine() if symbol in _linked else _engine()
    _linked.add(symbol)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    return int(engine.get_function_address(symbol))


def address_of_code(kernel: Kernel) -> int:
    """Return the address of a kernel: built ahead, from the cache, or compiled and stored there."""
    code, origin = _find(kernel) or cache.make_once(
        kernel.symbol, _identity(kernel), kernel.to_code
    )
    origins[origin] += 1
    return _link(kernel.symbol, code)


def _identity(kernel: Kernel) -> str:
    return repr((kernel.symbol, kernel.signature, machine(), *cache.settings()))


def _find(kernel: Kernel) -> tuple[bytes, str] | None:
    """Return code that is there, and where it comes from."""
    built = archives.find(kernel)
    if built is not None:
        return built[0], f"built ahead for {built[1]}"
    code = cache.load(kernel.symbol, _identity(kernel))
    return None if code is None else (code, "from the cache")
