"""All memory beside pages that nobody may touch: an access outside ends the process.

`install` gives NumPy an allocator of its own, and the library too, for its scratch and for large
results. A block ends where such a page begins, or begins where one ends: `place` says which, for
the blocks that follow. So one element too far is noticed wherever memory comes from: arrays of
tests, temporaries, packed weights, tables. What nobody has written is NaN, or -1.

    page of this module | forbidden | pages of the block | forbidden

The allocators are compiled, as NumPy and workers call them without Python's lock. NumPy asks them
for the arrays of the thread that has installed them, and of contexts that are copied from its own.
"""

from __future__ import annotations

import ctypes
import mmap

from numba import cfunc, njit, types
from numpy._core.multiarray import _ARRAY_API

import numbaconv as nc
from numbaconv.codegen.pointers import add_ordered, indices_at
from numbaconv.runtime.shared_table import AT, ENTRY, for_ever

PAGE = mmap.PAGESIZE
NOBODY, READ_WRITE = 0, mmap.PROT_READ | mmap.PROT_WRITE
PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS

# C's functions. Addresses are integers here, and sizes.
integer = types.int64
mmap_ = types.ExternalFunction("mmap", integer(*[integer] * 4, types.int32, integer))
mprotect = types.ExternalFunction("mprotect", types.int32(integer, integer, types.int32))
munmap = types.ExternalFunction("munmap", types.int32(integer, integer))
memset = types.ExternalFunction("memset", integer(integer, types.int32, integer))
memcpy = types.ExternalFunction("memcpy", integer(integer, integer, integer))

# What the allocators are told, and what they count.
_state = (ctypes.c_int64 * 2)()
STATE = ctypes.addressof(_state)
AT_END, LENT = range(2)

SIZE, LENGTH = range(2)  # in this module's page of a block: its bytes, and those of all pages


@njit
def new_block(nbytes, filler):
    """Address of a block of so many bytes; 0: no memory was left."""
    span = (max(nbytes, 1) + PAGE - 1) // PAGE * PAGE
    length = span + 3 * PAGE
    base = mmap_(0, length, NOBODY, PRIVATE, -1, 0)
    if base == -1:
        return 0
    first = base + 2 * PAGE
    if mprotect(base, PAGE, READ_WRITE) != 0 or mprotect(first, span, READ_WRITE) != 0:
        munmap(base, length)
        return 0
    header = indices_at(base)
    header[SIZE], header[LENGTH] = nbytes, length
    if filler != 0:
        memset(first, filler, span)
    return first + (span - max(nbytes, 1)) * indices_at(STATE)[AT_END]


@njit
def header_of(block):
    """Address of this module's page of a block."""
    return block // PAGE * PAGE - 2 * PAGE


@njit
def end_block(block):
    """Have nobody touch a block any more."""
    if block != 0:
        munmap(header_of(block), indices_at(header_of(block))[LENGTH])


@cfunc(integer(integer, integer))
def numpy_malloc(context, nbytes):
    return new_block(nbytes, 0xFF)


@cfunc(integer(integer, integer, integer))
def numpy_calloc(context, count, size):
    return new_block(count * size, 0)


@cfunc(integer(integer, integer, integer))
def numpy_realloc(context, block, nbytes):
    moved = new_block(nbytes, 0xFF)
    if block != 0 and moved != 0:
        memcpy(moved, block, min(nbytes, indices_at(header_of(block))[SIZE]))
        end_block(block)
    return moved


@cfunc(types.void(integer, integer, integer))
def numpy_free(context, block, nbytes):
    end_block(block)


@cfunc(integer(integer))
def library_malloc(nbytes):
    block = new_block(nbytes, 0xFF)
    if block != 0:
        add_ordered(indices_at(STATE), LENT, 1)
    return block


@cfunc(types.void(integer))
def library_free(block):
    if block != 0:
        add_ordered(indices_at(STATE), LENT, -1)
    end_block(block)


class _Handler(ctypes.Structure):
    """NumPy's ``PyDataMem_Handler``."""

    _fields_ = (
        ("name", ctypes.c_char * 127),
        ("version", ctypes.c_uint8),
        ("context", ctypes.c_void_p),
        *((name, ctypes.c_void_p) for name in ("malloc", "calloc", "realloc", "free")),
    )


# Place of the function in the table of NumPy's C API, where it stays.
_SET_HANDLER = 304


def _set_handler(handler: _Handler) -> None:
    """Have NumPy ask a handler for the memory of new arrays."""
    python = ctypes.pythonapi
    pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
    table = pointer(("PyCapsule_GetPointer", python))(_ARRAY_API, None)
    address = ctypes.cast(table, ctypes.POINTER(ctypes.c_void_p))[_SET_HANDLER]
    new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
    capsule = new(("PyCapsule_New", python))(
        ctypes.addressof(handler), for_ever(b"mem_handler"), None
    )
    ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(address)(capsule)


def install() -> None:
    """Have new arrays, scratch and results lie between forbidden pages, until the process ends."""
    nc.release_memory()  # that C's allocator gave
    allocators = (numpy_malloc, numpy_calloc, numpy_realloc, numpy_free)
    addresses = (allocator.address for allocator in allocators)
    _set_handler(for_ever(_Handler(b"guard pages", 1, None, *addresses)))
    ENTRY[AT.malloc], ENTRY[AT.free] = library_malloc.address, library_free.address


def place(at_end: bool) -> None:
    """Say at which end of its pages a new block lies."""
    _state[AT_END] = at_end


def lent_blocks() -> int:
    """Return how many blocks the library has and does not keep for its next call."""
    nc.release_memory()
    return _state[LENT]
