"""What a compiled caller and the library agree on: requests, records and steps."""

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
THIS_LAYOUT = 3


# The stages of a call. In between the caller makes the result's memory an array.
FIND, CARRY_OUT = range(2)


# What a stage returns: nothing (a native that fails returns 0: no memory was left), all is well,
# or from RAISED on the number of an exception.
NO_MEMORY, WELL, RAISED = range(3)


# What Python is asked.
MAKE, GET_BACKEND, CHECK_OVERLAP, TAKE_TURN, GIVE_TURN, WRONG_LAYOUT, CHECK_BOUND = range(7)


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
