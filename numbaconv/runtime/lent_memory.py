"""Memory of large results and of scratch, used again: lent to Python's and to compiled callers.

Memory that was freed goes back to the system sooner or later (in glibc blocks over 32 MB at once,
smaller ones when the top of the heap is large), and the next block comes as pages that the system
has to clear first. That takes longer than many a convolution: with memory used again a 3x3 filter
of a 4096 x 4096 image runs 1.7 times as fast, the first layer of wav2vec2 (65 MB of output) 2.1
times, one of WaveNet (11 MB) 1.6 times.

So a large block waits in a ring until the next call that it fits. ``NUMBACONV_KEEP_MB`` bounds what
waits there. All works without Python's lock. Slots are emptied and filled by exchanging, so whoever
gets an address out of one owns that block: nobody waits for anybody, memory may come back on any
thread, in the midst of anything, and a forked child finds no lock that is held.
"""

import ctypes
from collections.abc import Callable
from typing import Any, NamedTuple

from numba import types

from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import (
    CACHE_LINE,
    add_ordered,
    align,
    call_for_integer,
    exchange_ordered,
    indices_at,
    load_ordered,
)
from numbaconv.runtime.c_memory import allocate, free
from numbaconv.runtime.environment import tell_of, variable, watch
from numbaconv.runtime.shared_table import (
    AT,
    ENTRY,
    RING_SLOTS,
    TABLE_SYMBOL,
    entry_table,
    kept,
)

ENVIRONMENT_VARIABLE = "NUMBACONV_KEEP_MB"
KEEP_MB = 256
_MOST_DIGITS = 18  # of a number of megabytes
_MOST_MB = 1 << 40  # so that the bytes fit 64 bits

# Smaller blocks cost little to clear, beside what a loan takes.
LEAST_BYTES = 1 << 20

# In the cache line before a block's data: its bytes, and the address that malloc gave.
SIZE, ORIGIN = range(2)

# From here on NumPy asks Linux for large pages, which are cleared faster, and so do we: in new
# memory a 3x3 filter of a 4096 x 4096 image took 12 ms with them and 40 without.
_LARGE_PAGES_FROM, _PAGE, _MADV_HUGEPAGE = 1 << 22, 4096, 14


# --- The ring ---------------------------------------------------------------------------------


@inline
def header(data):
    """What is known of a block."""
    return indices_at(data - CACHE_LINE)


@inline
def drop(entry, data):
    """Free a block that was in the ring, 0 is none; return its bytes."""
    if data == 0:
        return 0
    size = header(data)[SIZE]
    add_ordered(entry, AT.kept_bytes, -size)
    free(entry, header(data)[ORIGIN])
    return size


@inline
def take(entry, nbytes):
    """Take a block out of the ring that holds `nbytes` and wastes at most a quarter; 0: none."""
    for slot in range(AT.ring, AT.ring + RING_SLOTS):
        if load_ordered(entry, slot) == 0:
            continue
        data = exchange_ordered(entry, slot, 0)
        if data != 0:
            size = header(data)[SIZE]
            if nbytes <= size <= nbytes + nbytes // 4:
                add_ordered(entry, AT.kept_bytes, -size)
                return data
            # Another thread may have used the slot in the meantime.
            drop(entry, exchange_ordered(entry, slot, data))
    return 0


@inline
def shrink(entry, most):
    """Free blocks, the oldest first, until at most so many bytes are kept; return what it freed."""
    freed = 0
    oldest = entry[AT.next_slot]
    for number in range(oldest, oldest + RING_SLOTS):
        if load_ordered(entry, AT.kept_bytes) <= most:
            break
        freed += drop(entry, exchange_ordered(entry, AT.ring + number % RING_SLOTS, 0))
    return freed


@inline
def lend(entry, nbytes):
    """Address of a block, at a cache line; 0: no memory was left."""
    data = take(entry, nbytes) if nbytes >= LEAST_BYTES else 0
    if data != 0:
        return data
    origin = allocate(entry, nbytes + 2 * CACHE_LINE)
    if origin == 0:
        return 0
    if nbytes >= _LARGE_PAGES_FROM and entry[AT.madvise] != 0:
        page = (origin + _PAGE - 1) // _PAGE * _PAGE
        call_for_integer(entry[AT.madvise], (page, origin + nbytes - page, _MADV_HUGEPAGE))
    data = align(origin + CACHE_LINE)
    header(data)[SIZE], header(data)[ORIGIN] = nbytes, origin
    return data


@inline
def give_back(entry, data):
    """Free a block that was lent or, if it is large, keep it in the place of the oldest."""
    size, most = header(data)[SIZE], entry[AT.keep_bytes]
    if size < LEAST_BYTES or size > most:
        free(entry, header(data)[ORIGIN])
    else:
        add_ordered(entry, AT.kept_bytes, size)
        slot = add_ordered(entry, AT.next_slot, 1) % RING_SLOTS
        drop(entry, exchange_ordered(entry, AT.ring + slot, data))
        shrink(entry, most)


@inline
def managed(entry, data):
    """Hand a block to Numba, which counts references to it; 0: no memory was left."""
    counted = call_for_integer(entry[AT.manage], (data, entry[AT.take_back]))
    if counted == 0:
        give_back(entry, data)
    return counted


# --- What Python calls ------------------------------------------------------------------------


def _one_integer(dtype):
    return dtype(dtype)


def _no_result(dtype):
    return types.void(dtype)


@native(_one_integer)
def lend_block(nbytes):
    """Address of a block of memory; 0: no memory was left."""
    return lend(entry_table(), nbytes)


@native(_no_result)
def take_back(data):
    """Give back a block when nothing refers to it any more: Numba calls it too."""
    give_back(entry_table(), data)


@native(_one_integer)
def shrink_to(most):
    """Free what is kept beyond so many bytes; return what it freed."""
    return shrink(entry_table(), most)


class Ring(NamedTuple):
    """The functions above, for Python."""

    lend: Any
    take_back: Any
    shrink: Any


_rings: list[Ring] = kept(f"ring of {TABLE_SYMBOL}", list)  # empty until it is needed


def ring() -> Ring:
    """Return what lends memory; the first call compiles it, or loads it from the cache."""
    return _rings[0] if _rings else _load()


def _load() -> Ring:
    integer = types.int64
    ENTRY[AT.take_back] = take_back.address(integer)
    # They keep Python's lock: they are done before it could be handed over.
    one = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
    nothing = ctypes.PYFUNCTYPE(None, ctypes.c_int64)
    loaded = Ring(
        one(lend_block.address(integer)),
        nothing(take_back.address(integer)),
        one(shrink_to.address(integer)),
    )
    _rings.append(loaded)
    watch()
    return loaded


# --- The bound --------------------------------------------------------------------------------


def _bound(value: str) -> int:
    """Return how many bytes may be kept; -1 if that is no number of megabytes."""
    value = value if value and not value.isspace() else str(KEEP_MB)
    if not (value.isascii() and value.isdigit() and len(value) <= _MOST_DIGITS):
        return -1
    return min(int(value), _MOST_MB) << 20


def _set_bound(value: str) -> None:
    ENTRY[AT.keep_bytes] = _bound(value)
    if _rings:
        _rings[0].shrink(max(_bound(value), 0))


tell_of(ENVIRONMENT_VARIABLE, _set_bound)


def check_bound() -> None:
    """Raise what is to be said of a bound that is no number."""
    value = variable(ENVIRONMENT_VARIABLE.encode())
    _set_bound(value)
    if _bound(value) < 0:
        raise ValueError(f"{ENVIRONMENT_VARIABLE} must be a whole number of MB, got {value!r}")


_others: list[Callable[[], int]] = []


def also_release(release: Callable[[], int]) -> None:
    """Let a function that frees memory, and returns how many bytes, be called to release it."""
    _others.append(release)


def release_memory() -> int:
    """Give the memory that is kept for results, and on GPUs, back to the system.

    The memory of a result over 1 MB is kept for the next result when no array refers to it any
    more: at most ``NUMBACONV_KEEP_MB`` megabytes (256) of it. Arrays that are alive keep theirs.
    On GPUs it is what calls lay out for their kernels, which a running call keeps.

    Returns
    -------
    int
        Number of bytes that were freed.

    Examples
    --------
    >>> import numpy as np
    >>> import numbaconv as nc
    >>> _ = nc.release_memory()
    >>> y = nc.conv2d(np.ones((1, 1000, 1000), np.float32), np.ones((1, 1, 1, 1), np.float32))
    >>> del y
    >>> nc.release_memory()
    4000000
    """
    own = int(_rings[0].shrink(0)) if _rings else 0
    return own + sum(release() for release in _others)
