"""What Python and compiled callers share: a table of integers, which machine code finds by name.

A user's ``@njit(cache=True)`` function is machine code that outlives the process, so it can hold
no address. It names DOOR_SYMBOL, and calls what the first integer there points to. That is Python
at first (`njit.door`), which loads the rest; from then on it is `njit.enter.enter`.

Machine code goes on using what it has found when a module of the package is loaded again. So the
memory is never freed, a module that is loaded again finds it by its name, and so does what another
version of the package loads: the name of the table says which fields it has. Python's objects that
must be the same for all such modules are `kept`.

This module is imported with the public functions, so it costs next to nothing.
"""

import ctypes
import zlib
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from numbaconv.runtime.fields import places, size, sizes

RING_SLOTS = 64


class Table(NamedTuple):
    """What the library's own machine code reads. Addresses are written when it is loaded."""

    ask: int  # address of what asks Python
    records: int  # address of the table of records; from `njit.planner`
    readers: int  # compiled callers that search it now: each counts itself in and out
    choice: int  # of `set_backend`, as a word
    contexts: int  # live choices of `use_backend`
    variable: int  # NUMBACONV_BACKEND as a word; -1: only Python knows; whenever it changes
    get_num_threads: int  # address of Numba's function
    thread_state: int  # address of Python's PyGILState_GetThisThreadState
    forked: int  # whether this is a forked child, which must not launch; at the fork
    launches_alone: int  # whether one launch waits for another
    malloc: int  # addresses of C's functions, here and below
    free: int
    madvise: int  # 0 where there is none
    clock_gettime: int  # 0 where there is none
    omp_parallel: int  # addresses of functions of OpenMP, here and below: see `openmp`
    omp_thread: int
    omp_threads: int
    cores: int  # that launches share; at the import
    in_flight: int  # launches under way: each counts itself in and out
    sharers: int  # the most launches under way at once, lately: until `shared_until`
    shared_until: int  # nanoseconds of the clock, as those below
    suspected_until: int  # until when CPU time is counted
    alone_until: int  # until when a launch has one worker
    owed: int  # nanoseconds that launches lost; below 0: that they won
    manage: int  # address of what makes Numba count references to memory of others
    take_back: int  # address of `lent_memory.take_back`
    keep_bytes: int  # that may be kept, -1: NUMBACONV_KEEP_MB is no number; whenever it changes
    kept_bytes: int  # in the ring; by whoever changes the ring
    next_slot: int  # of the ring, to be filled; it only grows
    ring: Annotated[Any, RING_SLOTS]  # addresses of blocks, 0 for none; by exchanging


AT: Table = places(Table)

# Address of `njit.enter.enter`; address of the dict of `kept`. These never move.
DOOR_SYMBOL = "numbaconv_entry"
ENTER, OBJECTS = range(2)

_FIELDS = repr((Table._fields, sizes(Table))).encode()
TABLE_SYMBOL = f"numbaconv_table_{zlib.crc32(_FIELDS):x}"


def _integers_named(symbol: str, length: int) -> np.ndarray:
    """Return the integers that machine code finds by a name; new ones are zeros."""
    address = llvm.address_of_symbol(symbol)
    if address is None:
        memory = (ctypes.c_int64 * length)()
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(memory))
        address = ctypes.addressof(memory)
        llvm.add_symbol(symbol, address)
    return np.frombuffer(memoryview((ctypes.c_int64 * length).from_address(address)), np.int64)


DOOR = _integers_named(DOOR_SYMBOL, 2)
ENTRY = _integers_named(TABLE_SYMBOL, size(Table))


def for_ever(thing: Any) -> Any:
    """Return an object that is never freed from now on: machine code has its address."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
    return thing


if not DOOR[OBJECTS]:
    DOOR[OBJECTS] = id(for_ever({}))

_objects: dict[str, Any] = ctypes.cast(int(DOOR[OBJECTS]), ctypes.py_object).value


def kept(name: str, make: Callable[[], Any]) -> Any:
    """Return the object of a name, which is made once in a process, whatever is loaded again."""
    if name not in _objects:
        _objects.setdefault(name, make())
    return _objects[name]


# enter(address of a request, stage) and ask(question, address of a request).
Callback = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)


def as_word(name: str | None) -> int:
    """Return a backend's name, of at most seven characters, as an integer; 0 for none."""
    return int.from_bytes((name or "").encode(), "big")


def from_word(word: int) -> str:
    """Return the name that `as_word` made an integer of."""
    return word.to_bytes(8, "big").lstrip(b"\0").decode("latin-1")


def address_of_function(function: Any) -> int:
    """Address that a function or pointer of `ctypes` stands for."""
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _named_pointer(symbol: str) -> Any:
    """Return an intrinsic: the pointer to integers of a name, found when code is loaded."""

    @intrinsic
    def pointer(typing_context):
        signature = types.CPointer(types.int64)()

        def codegen(context, builder, signature, arguments):
            found = builder.module.globals.get(symbol)
            if found is None:
                found = ir.GlobalVariable(builder.module, ir.IntType(64), symbol)
            return found

        return signature, codegen

    return pointer


door = _named_pointer(DOOR_SYMBOL)
entry_table = _named_pointer(TABLE_SYMBOL)
