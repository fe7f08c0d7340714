"""Memory that compiled callers borrow: for results, and for scratch while a call lasts.

Large blocks are used again when they come back, for the reason that `result_memory` gives and under
the same bound, but apart from those of Python's callers: this works without Python's lock. Blocks
wait in a ring. Slots are emptied and filled by exchanging, so whoever gets an address out of one
owns that block: nobody waits for anybody, and a forked child finds no lock that is held.
"""

from typing import NamedTuple

from numba import types

from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import (
    CACHE_LINE,
    add_ordered,
    align,
    call,
    call_for_integer,
    characters_at,
    exchange_ordered,
    indices_at,
    load_ordered,
)
from numbaconv.runtime.result_memory import KEEP_MB, LEAST_BYTES, MOST_DIGITS
from numbaconv.runtime.shared_table import (
    FREE,
    GETENV,
    KEEP_BYTES,
    KEEP_VARIABLE,
    KEPT_BYTES,
    MADVISE,
    MALLOC,
    MANAGE,
    NEXT_SLOT,
    RING,
    RING_SLOTS,
    TAKE_BACK,
    entry_table,
)

# In the cache line before a block's data: its bytes, and the address that malloc gave.
SIZE, ORIGIN = range(2)

# From here on NumPy asks Linux for large pages, which are cleared faster, and so do we: in new
# memory a 3x3 filter of a 4096 x 4096 image took 12 ms with them and 40 without.
_LARGE_PAGES_FROM, _PAGE, _MADV_HUGEPAGE = 1 << 22, 4096, 14

_ZERO, _NINE = ord("0"), ord("9")
_MOST_MB = 1 << 40  # so that the bytes fit 64 bits


class FreeArguments(NamedTuple):
    """What C's `free` takes."""

    memory: int


@inline
def header(data):
    """What is known of a block."""
    return indices_at(data - CACHE_LINE)


@inline
def drop(entry, data):
    """Free a block that was in the ring; 0 is none."""
    if data != 0:
        add_ordered(entry, KEPT_BYTES, -header(data)[SIZE])
        call(entry[FREE], FreeArguments(header(data)[ORIGIN]))


@inline
def take(entry, nbytes):
    """Take a block out of the ring that holds `nbytes` and wastes at most a quarter; 0: none."""
    for slot in range(RING, RING + RING_SLOTS):
        if load_ordered(entry, slot) == 0:
            continue
        data = exchange_ordered(entry, slot, 0)
        if data != 0:
            size = header(data)[SIZE]
            if nbytes <= size <= nbytes + nbytes // 4:
                add_ordered(entry, KEPT_BYTES, -size)
                return data
            # Another thread may have used the slot in the meantime.
            drop(entry, exchange_ordered(entry, slot, data))
    return 0


@inline
def lend(entry, nbytes):
    """Address of a block, at a cache line; 0: no memory was left."""
    data = take(entry, nbytes) if nbytes >= LEAST_BYTES else 0
    if data != 0:
        return data
    origin = call_for_integer(entry[MALLOC], (nbytes + 2 * CACHE_LINE,))
    if origin == 0:
        return 0
    if nbytes >= _LARGE_PAGES_FROM and entry[MADVISE] != 0:
        page = (origin + _PAGE - 1) // _PAGE * _PAGE
        call_for_integer(entry[MADVISE], (page, origin + nbytes - page, _MADV_HUGEPAGE))
    data = align(origin + CACHE_LINE)
    header(data)[SIZE], header(data)[ORIGIN] = nbytes, origin
    return data


@inline
def give_back(entry, data):
    """Free a block that was lent or, if it is large, keep it in the place of the oldest."""
    size, keep = header(data)[SIZE], entry[KEEP_BYTES]
    if size < LEAST_BYTES or size > keep:
        call(entry[FREE], FreeArguments(header(data)[ORIGIN]))
    else:
        add_ordered(entry, KEPT_BYTES, size)
        slot = add_ordered(entry, NEXT_SLOT, 1) % RING_SLOTS
        drop(entry, exchange_ordered(entry, RING + slot, data))
    if size >= LEAST_BYTES:
        oldest = entry[NEXT_SLOT]
        for number in range(oldest, oldest + RING_SLOTS):
            if load_ordered(entry, KEPT_BYTES) <= keep:
                break
            drop(entry, exchange_ordered(entry, RING + number % RING_SLOTS, 0))


def _take_back_signature(dtype):
    return types.void(dtype)


@native(_take_back_signature)
def take_back(data):
    """Give back the memory of an array: called by Numba when nothing refers to it any more."""
    give_back(entry_table(), data)


@inline
def managed(entry, data):
    """Hand a block to Numba, which counts references to it; 0: no memory was left."""
    counted = call_for_integer(entry[MANAGE], (data, entry[TAKE_BACK]))
    if counted == 0:
        give_back(entry, data)
    return counted


@inline
def read_bound(entry):
    """Read how much may be kept from the environment; whether that is a number.

    As `result_memory.keep_bytes` does.
    """
    address = call_for_integer(entry[GETENV], (entry[KEEP_VARIABLE],))
    megabytes, i = KEEP_MB, 0
    if address != 0:
        text = characters_at(address)
        while _ZERO <= text[i] <= _NINE:
            megabytes = min((megabytes if i else 0) * 10 + text[i] - _ZERO, _MOST_MB)
            i += 1
        if text[i] != 0 or i > MOST_DIGITS:
            return False
    entry[KEEP_BYTES] = megabytes << 20
    return True
