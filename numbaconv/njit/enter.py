"""What a call from compiled code runs: find the call's record, then carry out its steps.

A *request* is what the caller passes: integers on its stack that say everything about the call
but its data. A *record* is what Python made of the first such request (`records.py`): validated,
planned, and written down as steps. Later calls find it in a hash table, without Python.

A record may be dropped while other threads run. A thread counts itself as a reader while it uses
one, and what is dropped is freed when there is no reader.
"""

import numpy as np
from numba import types

from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import (
    add_ordered,
    call_for_integer,
    characters_at,
    exchange_ordered,
    indices_at,
    load_ordered,
    shift,
)
from numbaconv.njit.protocol import (
    ADDRESSES,
    ASK_THREADS,
    BACKEND,
    BACKEND_GIVEN,
    BOUNDS,
    CARRY_OUT,
    CARRY_OUT_ADDRESS,
    CHECK_BOUND,
    CHECK_OVERLAP,
    COUNTED,
    DATA,
    FIND,
    GET_BACKEND,
    GIVE_TURN,
    KEY,
    KEY_SIZE,
    LAUNCHES,
    LAYOUT,
    MAKE,
    MOST_ARRAYS,
    MOST_AXES,
    NO_MEMORY,
    NO_RESULT,
    RECORD_KEY,
    RECORD_KEY_SIZE,
    RESULT,
    RESULT_BYTES,
    SCRATCH_BYTES,
    SHAPE,
    SLOTS,
    TAKE_TURN,
    THIS_LAYOUT,
    THREADS,
    WELL,
    WRONG_LAYOUT,
)
from numbaconv.runtime.lent_memory import lend, managed, read_bound
from numbaconv.runtime.result_memory import LEAST_BYTES
from numbaconv.runtime.shared_table import (
    ASK,
    CHOICE,
    CONTEXTS,
    FORKED,
    GET_NUM_THREADS,
    GETENV,
    READERS,
    RECORDS,
    THREAD_STATE,
    TURNS,
    VARIABLE,
    entry_table,
)

# --- Requests ---------------------------------------------------------------------------------


# --- Records ----------------------------------------------------------------------------------


# --- Steps ------------------------------------------------------------------------------------


_SPREAD = -7046029254386353131  # 2^64 / golden ratio: multiplying spreads bits to the high end


# --- Lookup -----------------------------------------------------------------------------------


@inline
def first_slot(key, size):
    """Slot of the table at which the search for a key begins."""
    mixed = size
    for i in range(size):
        mixed = (mixed ^ key[i]) * _SPREAD
    return (mixed >> 40) & (SLOTS - 1)


@inline
def search(entry, request):
    """Return the address of a request's record, or 0."""
    records = indices_at(entry[RECORDS])
    key, size = shift(request, KEY), request[KEY_SIZE]
    slot = first_slot(key, size)
    while True:
        address = load_ordered(records, slot)
        if address == 0:
            return 0
        record = indices_at(address)
        i = size if record[RECORD_KEY_SIZE] != size else 0
        while i < size and record[RECORD_KEY + i] == key[i]:
            i += 1
        if i == size and record[RECORD_KEY_SIZE] == size:
            return address
        slot = (slot + 1) & (SLOTS - 1)


def _update_signature(dtype):
    return dtype(dtype)


@native(_update_signature)
def update_table(address):
    """Add a record to the table or, with 0, remove all; return the number of readers left.

    Only for a thread that holds the lock of the records.
    """
    entry = entry_table()
    records = indices_at(entry[RECORDS])
    if address == 0:
        for slot in range(SLOTS):
            exchange_ordered(records, slot, 0)
    else:
        record = indices_at(address)
        slot = first_slot(shift(record, RECORD_KEY), record[RECORD_KEY_SIZE])
        while records[slot] != 0:
            slot = (slot + 1) & (SLOTS - 1)
        exchange_ordered(records, slot, address)
    return load_ordered(entry, READERS)


# --- The call ---------------------------------------------------------------------------------


@inline
def ask(entry, question, request):
    """Let Python, under its lock, answer into the request."""
    return call_for_integer(entry[ASK], (question, request))


@inline
def environment_word(entry):
    """The value of the environment variable as `entry.as_word` would have it; -1: too long."""
    address = call_for_integer(entry[GETENV], (entry[VARIABLE],))
    word = np.int64(0)
    if address != 0:
        text = characters_at(address)
        i = 0
        while text[i] != 0 and i < 7:
            word = word * 256 + np.int64(text[i])
            i += 1
        if text[i] != 0:
            word = np.int64(-1)
    return word


@inline
def set_backend_word(entry, request):
    """Write into a request's key which backend is asked for, as `dispatch.requested_backend`."""
    if request[BACKEND_GIVEN] != 0:
        return WELL
    word = entry[CHOICE]
    if entry[CONTEXTS] != 0:  # somewhere; only Python knows whether here
        word = -1
    elif word == 0:
        word = environment_word(entry)
    request[BACKEND] = word
    return ask(entry, GET_BACKEND, request) if word < 0 else WELL


@inline
def thread_count(entry):
    """Threads of the caller; 1 inside a parallel region, where Python knows no such thread."""
    if entry[FORKED] != 0 or call_for_integer(entry[THREAD_STATE], ()) == 0:
        return 1
    return call_for_integer(entry[GET_NUM_THREADS], ()) & 0xFFFF


@inline
def overlaps(request, record):
    """Whether the span of `out` meets that of another array."""
    out = MOST_ARRAYS - 1
    first = request[ADDRESSES + out] + record[BOUNDS + 2 * out]
    last = request[ADDRESSES + out] + record[BOUNDS + 2 * out + 1]
    found = False
    for i in range(out):
        address = request[ADDRESSES + i]
        a, b = address + record[BOUNDS + 2 * i], address + record[BOUNDS + 2 * i + 1]
        found = found or (a < last and first < b)
    return found


@inline
def perform(entry, request, record):
    """Carry out a record: the second stage."""
    status = WELL
    if overlaps(request, record):
        status = ask(entry, CHECK_OVERLAP, request)
    turns = record[LAUNCHES] != 0 and entry[TURNS] != 0
    if status == WELL and turns:
        status = ask(entry, TAKE_TURN, request)
    if status == WELL:
        status = call_for_integer(record[CARRY_OUT_ADDRESS], (request, record))
        if turns:
            ask(entry, GIVE_TURN, request)
    return status


@inline
def prepare_result(entry, request, record):
    """Tell the caller the result's shape and lend the memory for it: the first stage."""
    nbytes = record[RESULT_BYTES]
    if max(nbytes, record[SCRATCH_BYTES]) >= LEAST_BYTES and not read_bound(entry):
        status = ask(entry, CHECK_BOUND, request)
        if status != WELL:
            return status
    for i in range(MOST_AXES):
        request[RESULT + i] = record[SHAPE + i]
    if nbytes == NO_RESULT:
        return WELL
    data = lend(entry, nbytes)
    if data == 0:
        return NO_MEMORY
    request[DATA], request[COUNTED] = data, managed(entry, data)
    return WELL if request[COUNTED] != 0 else NO_MEMORY


def _enter_signature(dtype):
    return dtype(types.CPointer(dtype), dtype)


@native(_enter_signature)
def enter(request, stage):
    """Do one stage of a call."""
    entry = entry_table()
    if request[LAYOUT] != THIS_LAYOUT:
        return ask(entry, WRONG_LAYOUT, request)
    if stage == FIND:
        request[THREADS] = 0
        status = set_backend_word(entry, request)
        if status != WELL:
            return status
    while True:
        add_ordered(entry, READERS, 1)
        address = search(entry, request)
        if address == 0:
            add_ordered(entry, READERS, -1)
            status = ask(entry, MAKE, request)
            if status != WELL:
                return status
        else:
            record = indices_at(address)
            again = record[ASK_THREADS] != 0
            if again:
                request[THREADS] = thread_count(entry)
            elif stage == CARRY_OUT:
                status = perform(entry, request, record)
            else:
                status = prepare_result(entry, request, record)
            add_ordered(entry, READERS, -1)
            if not again:
                return status
