"""Object code in this process: found in the cache or compiled, linked, and called by address."""

import ctypes
import functools
from collections.abc import Callable

import llvmlite.binding as llvm

from numbaconv.codegen import cache
from numbaconv.codegen.notice import notice
from numbaconv.codegen.target import cpu_features, cpu_name

_linked: set[str] = set()  # symbols in the engine


def _new_engine() -> llvm.ExecutionEngine:
    """Return what links objects, with the models of code that Numba emits it in."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=cpu_name(), features=cpu_features(), reloc="static", codemodel="jitdefault", jit=True
    )
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
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


def address_of_code(symbol: str, signature: object, compile_it: Callable[[], bytes]) -> int:
    """Return the address of a kernel, from the cache or compiled now and stored there.

    Parameters
    ----------
    symbol : str
        Name of its C function.
    signature : Signature
        Of Numba: types of its arguments and of its result.
    compile_it : callable
        Returns its object code.
    """
    target = llvm.get_process_triple(), cpu_name(), cpu_features()
    identity = repr((symbol, signature, target, *cache.settings()))
    code = cache.load(symbol, identity)
    if code is None:
        notice.begin(symbol.removeprefix("numbaconv."))
        try:
            with cache.alone(symbol, identity):
                code = cache.load(symbol, identity)  # from the process that this one waited for
                if code is None:
                    code = compile_it()
                    cache.store(symbol, identity, code)
        finally:
            notice.end()
    return _link(symbol, code)
