"""What Python and compiled callers share: a table of integers, which machine code finds by name.

A user's ``@njit(cache=True)`` function is machine code that outlives the process, so it can hold
no address. It names SYMBOL, which is the table ENTRY, and calls what ENTRY[ENTER] points to. That
is Python at first (`njit.door`), which loads the rest; from then on it is `njit.enter.enter`.

This module is imported with the package, so it costs next to nothing.
"""

import ctypes
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

SYMBOL = "numbaconv_entry"

# Address of `njit.enter.enter`, and of what it asks Python with.
ENTER, ASK = range(2)
# Address of the table of records; number of callers that may be reading one.
RECORDS, READERS = range(2, 4)
# The choice of `set_backend` as a word; live choices of `use_backend`; addresses of the C
# library's getenv and of the name of the environment variable.
CHOICE, CONTEXTS, GETENV, VARIABLE = range(4, 8)
# Addresses of Numba's get_num_threads and of Python's PyGILState_GetThisThreadState; whether this
# is a forked child, which must not launch; whether launches take turns.
GET_NUM_THREADS, THREAD_STATE, FORKED, TURNS = range(8, 12)
# Of `lent_memory`. Addresses of malloc, free and, on Linux, madvise; of the function by which Numba
# counts references to memory of others, and of `take_back`; of the environment variable's name.
MALLOC, FREE, MADVISE, MANAGE, TAKE_BACK, KEEP_VARIABLE = range(12, 18)
# Bytes that may be kept and that are; number of the slot to be filled next; the slots.
KEEP_BYTES, KEPT_BYTES, NEXT_SLOT, RING, RING_SLOTS = 18, 19, 20, 21, 64

ENTRY = np.zeros(RING + RING_SLOTS, np.int64)
# Arrays from compiled code come back to the table, and the last of them may outlive this module.
ctypes.pythonapi.Py_IncRef(ctypes.py_object(ENTRY))

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


llvm.add_symbol(SYMBOL, ENTRY.__array_interface__["data"][0])


@intrinsic
def entry_table(typing_context):
    """The table of `entry`, found by its name when the machine code is loaded."""
    signature = types.CPointer(types.int64)()

    def codegen(context, builder, signature, arguments):
        table = builder.module.globals.get(SYMBOL)
        if table is None:
            table = ir.GlobalVariable(builder.module, ir.IntType(64), SYMBOL)
        return table

    return signature, codegen
