"""What a call from compiled code runs: find the call's record, then carry out its steps.

A *request* is what the caller passes: integers on its stack that say everything about the call
but its data. A *record* is what Python made of the first such request (`planner.py`): validated,
planned, and written down as steps. Later calls find it in a hash table, without Python.

A record may be dropped while other threads run. A thread counts itself as a reader while it
searches, and then as a user of the record that it found, until the call is done. What is dropped is
freed when nobody searches and nobody uses it.
"""

from numba import types

from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import (
    add_ordered,
    call_for_integer,
    exchange_ordered,
    indices_at,
    load_ordered,
    shift,
)
from numbaconv.njit.protocol import (
    CALL,
    CHECK_BOUND,
    CHECK_OVERLAP,
    FIND,
    GET_BACKEND,
    GIVE_LAUNCH_LOCK,
    KEY,
    MAKE,
    MOST_ARRAYS,
    MOST_AXES,
    NO_MEMORY,
    NO_RESULT,
    RECORD,
    REQUEST,
    SLOTS,
    TAKE_LAUNCH_LOCK,
    THIS_LAYOUT,
    WELL,
    WRONG_LAYOUT,
)
from numbaconv.runtime.lent_memory import LEAST_BYTES, lend, managed
from numbaconv.runtime.shared_table import AT, entry_table

_SPREAD = -7046029254386353131  # 2^64 / golden ratio: multiplying spreads bits to the high end

# --- The table of records ---------------------------------------------------------------------


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
    records = indices_at(load_ordered(entry, AT.records))
    key, size = shift(request, KEY), request[REQUEST.key_size]
    slot = first_slot(key, size)
    while True:
        address = load_ordered(records, slot)
        if address == 0:
            return 0
        record = indices_at(address)
        i = size if record[RECORD.key_size] != size else 0
        while i < size and record[RECORD.key + i] == key[i]:
            i += 1
        if i == size and record[RECORD.key_size] == size:
            return address
        slot = (slot + 1) & (SLOTS - 1)


@inline
def find_record(entry, request):
    """Return the address of a request's record, of which the caller is now a user, or 0."""
    add_ordered(entry, AT.readers, 1)
    address = search(entry, request)
    if address != 0:
        add_ordered(indices_at(address), RECORD.users, 1)
    add_ordered(entry, AT.readers, -1)
    return address


@inline
def leave(record):
    """Be no longer a user of a record."""
    add_ordered(record, RECORD.users, -1)


def _two_integers(dtype):
    return dtype(dtype, dtype)


@native(_two_integers)
def insert(table, counted):
    """Add records to a table: their number and addresses.

    Only for a thread that holds the lock of the records.
    """
    slots, records = indices_at(table), indices_at(counted)
    for i in range(1, 1 + records[0]):
        record = indices_at(records[i])
        slot = first_slot(shift(record, RECORD.key), record[RECORD.key_size])
        while slots[slot] != 0:
            slot = (slot + 1) & (SLOTS - 1)
        exchange_ordered(slots, slot, records[i])
    return WELL


@native(_two_integers)
def publish(table, unused):
    """Let compiled callers search this table from now on."""
    exchange_ordered(entry_table(), AT.records, table)
    return WELL


@native(_two_integers)
def in_use(record, unused):
    """Whether a caller may be using a record, or for 0 a table, that none can find any more."""
    if load_ordered(entry_table(), AT.readers) != 0:
        return 1
    return 0 if record == 0 else load_ordered(indices_at(record), RECORD.users)


# --- The call ---------------------------------------------------------------------------------


@inline
def ask(entry, question, request):
    """Let Python, under its lock, answer into the request."""
    return call_for_integer(entry[AT.ask], (question, request))


@inline
def set_backend_word(entry, request):
    """Write into a request's key which backend is asked for, as `backends.requested_backend`."""
    if request[REQUEST.backend_given] != 0:
        return WELL
    word = entry[AT.choice]
    if entry[AT.contexts] != 0:  # somewhere; only Python knows whether here
        word = -1
    elif word == 0:
        word = entry[AT.variable]
    request[REQUEST.backend] = word
    return ask(entry, GET_BACKEND, request) if word < 0 else WELL


@inline
def thread_count(entry):
    """Threads of the caller; 1 inside a parallel region, where Python knows no such thread."""
    if entry[AT.forked] != 0 or call_for_integer(entry[AT.thread_state], ()) == 0:
        return 1
    return call_for_integer(entry[AT.get_num_threads], ()) & 0xFFFF


@inline
def prepare_result(entry, request, record):
    """Tell the caller the result's shape and lend the memory for it."""
    nbytes = record[RECORD.result_bytes]
    if max(nbytes, record[RECORD.scratch_bytes]) >= LEAST_BYTES and entry[AT.keep_bytes] < 0:
        status = ask(entry, CHECK_BOUND, request)
        if status != WELL:
            return status
    for i in range(MOST_AXES):
        request[REQUEST.shape + i] = record[RECORD.shape + i]
    if nbytes == NO_RESULT:
        return WELL
    data = lend(entry, nbytes)
    if data == 0:
        return NO_MEMORY
    request[REQUEST.data], request[REQUEST.counted] = data, managed(entry, data)
    return WELL if request[REQUEST.counted] != 0 else NO_MEMORY


@inline
def find(entry, request):
    """Find a call's record, or have it made: the first stage.

    If all is well, the caller is the record's user until `perform` is done.
    """
    status = set_backend_word(entry, request)
    request[REQUEST.threads] = 0
    while status == WELL:
        address = find_record(entry, request)
        if address == 0:
            request[REQUEST.usable_threads] = thread_count(entry)
            status = ask(entry, MAKE, request)
        elif indices_at(address)[RECORD.asks_threads] != 0:
            leave(indices_at(address))
            request[REQUEST.threads] = thread_count(entry)
        else:
            request[REQUEST.record] = address
            status = prepare_result(entry, request, indices_at(address))
            if status != WELL:
                leave(indices_at(address))
            return status
    return status


@inline
def overlaps(request, record):
    """Whether the span of `out` meets that of another array."""
    out = MOST_ARRAYS - 1
    first = request[REQUEST.addresses + out] + record[RECORD.bounds + 2 * out]
    last = request[REQUEST.addresses + out] + record[RECORD.bounds + 2 * out + 1]
    found = False
    for i in range(out):
        address = request[REQUEST.addresses + i]
        a = address + record[RECORD.bounds + 2 * i]
        b = address + record[RECORD.bounds + 2 * i + 1]
        found = found or (a < last and first < b)
    return found


@inline
def perform(entry, request, record):
    """Carry out the steps of a record: the second stage."""
    if record[RECORD.asks_python] != 0:
        request[REQUEST.usable_threads] = thread_count(entry)
        status = ask(entry, CALL, request)
        leave(record)
        return status
    status = ask(entry, CHECK_OVERLAP, request) if overlaps(request, record) else WELL
    alone = record[RECORD.launches] != 0 and entry[AT.launches_alone] != 0
    if status == WELL and alone:
        status = ask(entry, TAKE_LAUNCH_LOCK, request)
    if status == WELL:
        status = call_for_integer(record[RECORD.carry_out], (request, record))
        if alone:
            ask(entry, GIVE_LAUNCH_LOCK, request)
    leave(record)
    return status


def _enter_signature(dtype):
    return dtype(types.CPointer(dtype), dtype)


@native(_enter_signature)
def enter(request, stage):
    """Do one stage of a call."""
    entry = entry_table()
    if request[REQUEST.layout] != THIS_LAYOUT:
        return ask(entry, WRONG_LAYOUT, request)
    if stage == FIND:
        return find(entry, request)
    return perform(entry, request, indices_at(request[REQUEST.record]))
