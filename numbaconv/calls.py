"""What a call from compiled code runs: find the call's record, then carry out its steps.

A *request* is what the caller passes: integers on its stack that say everything about the call
but its data. A *record* is what Python made of the first such request (`records.py`): validated,
planned, and written down as steps. Later calls find it in a hash table, without Python.

A record may be dropped while other threads run. A thread counts itself as a reader while it uses
one, and what is dropped is freed when there is no reader.
"""

import numpy as np
from numba import carray, types

from numbaconv.backends.chain import run_chain
from numbaconv.entry import (
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
)
from numbaconv.jit import inline, native
from numbaconv.job import JOB_SIZE
from numbaconv.job import run as run_job
from numbaconv.loans import give_back, lend, managed, read_bound
from numbaconv.pointers import (
    add_ordered,
    address_of,
    call,
    call_for_integer,
    characters_at,
    entry_table,
    exchange_ordered,
    indices_at,
    load_ordered,
    pointer_at,
    shift,
)
from numbaconv.recycling import LEAST_BYTES

# --- Requests ---------------------------------------------------------------------------------

# These two never move: by them a function that another version compiled is told so.
LAYOUT, MESSAGE = range(2)
# Address of the text that says what the key's integers mean.
TEXT = 2
# Where the data lies, written for the second stage. The last array takes the result.
ADDRESSES, MOST_ARRAYS = 3, 4
# Shape of the result, written by the first stage.
RESULT, MOST_AXES = 7, 5
# Memory for the result unless the call has an `out`, written by the first stage: its address, and
# that of what counts references to it.
DATA, COUNTED = 12, 13
# Whether the call itself names the backend; number of integers in the key.
BACKEND_GIVEN, KEY_SIZE = 14, 15
# The key: digest of the text; the backend as a word; threads, 0 for not asked; what the call adds.
KEY, BACKEND, THREADS, INTEGERS = range(16, 20)

# Value of LAYOUT. Raise it when a request changes: functions in users' caches have the old one.
THIS_LAYOUT = 2

# The stages of a call. In between the caller makes the result's memory an array.
FIND, CARRY_OUT = range(2)

# What a stage returns: nothing (a native that fails returns 0: no memory was left), all is well,
# or from RAISED on the number of an exception.
NO_MEMORY, WELL, RAISED = range(3)

# What Python is asked.
MAKE, GET_BACKEND, CHECK_OVERLAP, TAKE_TURN, GIVE_TURN, WRONG_LAYOUT, CHECK_BOUND = range(7)

# --- Records ----------------------------------------------------------------------------------

# Whether to look again with the number of threads; whether its steps use more than one.
ASK_THREADS, LAUNCHES = range(2)
# Bytes of the result, NO_RESULT where the call has an `out`; bytes of scratch.
RESULT_BYTES, SCRATCH_BYTES, NO_RESULT = 2, 3, -1
# Shape of the result; first and last byte of each array, counted from its address.
SHAPE, BOUNDS = 4, 9
# Address of `carry_out`; number and place of the steps.
CARRY_OUT_ADDRESS, STEPS, FIRST_STEP = range(17, 20)
RECORD_KEY_SIZE, RECORD_KEY = 20, 21

# Slots of the table, and how many of them are used at most: a quarter, so that searches are short.
SLOTS = 4096
MOST_RECORDS = SLOTS // 4

# --- Steps ------------------------------------------------------------------------------------

# Address of the function, and its arguments. Data is a base and an offset in bytes.
FUNCTION, KIND, SOURCE, TARGET = 0, 1, 2, 4
EXTENTS, MOVE_AXES = 6, 8
SOURCE_STEPS, TARGET_STEPS = EXTENTS + MOVE_AXES, EXTENTS + 2 * MOVE_AXES
# Whether the elements of a row lie one behind the other, in the source and in the target.
DENSE = EXTENTS + 3 * MOVE_AXES
STEP_SIZE = DENSE + 1
# Of `convolve` and `spread`: further data, and the address of the jobs instead of a kind.
JOB, WEIGHT, PACKED, BIAS, WORKSPACE = 1, 6, 8, 10, 12
JOB_INTEGERS, WEIGHT_SIZE, PACKED_SIZE, TARGET_SIZE = range(14, 18)
# Of `activate_sums`: their number, and the address of the function.
COUNT, ACTIVATE = 6, 7
# Bases: the arrays of the call, then scratch, then none (the offset is an address). Behind them
# each step counts itself when it is done.
SCRATCH, NO_BASE, DONE = MOST_ARRAYS, MOST_ARRAYS + 1, MOST_ARRAYS + 2

# Kinds of `move`.
COPY, NEGATE, ADD, CLEAR = range(4)

_SPREAD = -7046029254386353131  # 2^64 / golden ratio: multiplying spreads bits to the high end


def _step_signature(dtypes):
    source, target = dtypes
    indices = types.CPointer(types.int64)
    return types.void(indices, indices, types.CPointer(source), types.CPointer(target))


@inline
def place(step, field, bases):
    """Address of a step's data."""
    return bases[step[field]] + step[field + 1]


@inline
def move_row(step, source, target, source_like, target_like):
    """Copy, negate, add or clear the elements of a row, each converted to the target's dtype."""
    last, kind = MOVE_AXES - 1, step[KIND]
    count = step[EXTENTS + last]
    source_step, target_step = step[SOURCE_STEPS + last], step[TARGET_STEPS + last]
    if kind == COPY and step[DENSE] != 0:  # LLVM can only vectorise what it sees to be dense
        elements, to = pointer_at(source, source_like), pointer_at(target, target_like)
        for i in range(count):
            to[i] = elements[i]
        return
    for i in range(count):
        to = pointer_at(target + i * target_step, target_like)
        if kind == CLEAR:
            to[0] = 0
        else:
            value = pointer_at(source + i * source_step, source_like)[0]
            if kind == NEGATE:
                to[0] = -value
            elif kind == ADD:
                to[0] = to[0] + value
            else:
                to[0] = value


@native(_step_signature)
def move(step, bases, source_like, target_like):
    """Move elements between arrays of any strides: row by row, in the order of the axes."""
    source, target = place(step, SOURCE, bases), place(step, TARGET, bases)
    rows = 1
    for axis in range(MOVE_AXES - 1):
        rows *= step[EXTENTS + axis]
    for row in range(rows):
        s, t, rest, axis = source, target, row, MOVE_AXES - 2
        while rest > 0:
            above = rest // step[EXTENTS + axis]
            i = rest - above * step[EXTENTS + axis]
            s += i * step[SOURCE_STEPS + axis]
            t += i * step[TARGET_STEPS + axis]
            rest = above
            axis -= 1
        move_row(step, s, t, source_like, target_like)
    bases[DONE] += 1


@inline
def array_at(step, field, bases, like, size):
    """A step's data as an array; size 1 is enough where only its address is used."""
    return carray(pointer_at(place(step, field, bases), like), (size,))


@native(_step_signature)
def convolve(step, bases, source_like, target_like):
    """Run a job, as `job.run` does for Python."""
    run_job(
        carray(indices_at(step[JOB]), (JOB_SIZE,)),
        array_at(step, SOURCE, bases, source_like, 1),
        array_at(step, WEIGHT, bases, source_like, step[WEIGHT_SIZE]),
        array_at(step, PACKED, bases, source_like, step[PACKED_SIZE]),
        array_at(step, BIAS, bases, source_like, 1),
        array_at(step, TARGET, bases, target_like, 1),
    )
    bases[DONE] += 1


@native(_step_signature)
def spread(step, bases, source_like, target_like):
    """Run a chain of jobs, as `chain.run` does for Python."""
    run_chain(
        carray(indices_at(step[JOB]), (step[JOB_INTEGERS],)),
        array_at(step, SOURCE, bases, source_like, 1),
        array_at(step, WEIGHT, bases, source_like, 1),
        array_at(step, PACKED, bases, source_like, step[PACKED_SIZE]),
        array_at(step, WORKSPACE, bases, source_like, 1),
        array_at(step, BIAS, bases, source_like, 1),
        array_at(step, TARGET, bases, target_like, step[TARGET_SIZE]),
    )
    bases[DONE] += 1


@native(_step_signature)
def activate_sums(step, bases, source_like, target_like):
    """Apply an activation to contiguous elements."""
    target = pointer_at(place(step, TARGET, bases), target_like)
    call(step[ACTIVATE], (target, 0, 1, step[COUNT], step[KIND]))
    bases[DONE] += 1


def _carry_out_signature(dtype):
    indices = types.CPointer(dtype)
    return types.int64(indices, indices)


@native(_carry_out_signature)
def carry_out(request, record):
    """Carry out the steps of a record on the data of a request."""
    entry = entry_table()
    scratch = lend(entry, record[SCRATCH_BYTES])
    if scratch == 0:
        return NO_MEMORY
    bases = np.zeros(DONE + 1, np.int64)
    for i in range(MOST_ARRAYS):
        bases[i] = request[ADDRESSES + i]
    bases[SCRATCH] = scratch
    for i in range(record[STEPS]):
        step = shift(record, record[FIRST_STEP] + i * STEP_SIZE)
        call(step[FUNCTION], (step, address_of(bases), 0, 0))
    give_back(entry, scratch)
    return WELL if bases[DONE] == record[STEPS] else NO_MEMORY


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
