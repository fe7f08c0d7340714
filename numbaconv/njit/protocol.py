"""What a compiled caller and the library agree on: requests, records and steps.

Each is an array of integers, whose fields a class names in their order. ``REQUEST``, ``RECORD``,
... are the places of the fields: ``request[REQUEST.text]``.
"""

from typing import Annotated, Any, NamedTuple

from numbaconv.runtime.fields import places, size

# Arrays of a call (`request.BASES` has their order; the last takes the result); axes of a result.
MOST_ARRAYS, MOST_AXES = 5, 5

# --- Requests ---------------------------------------------------------------------------------


class Request(NamedTuple):
    """A call, on the stack of its caller. Where nothing else is said, the caller writes a field."""

    layout: int  # THIS_LAYOUT of the version that compiled the caller. It never moves
    message: int  # a Python string, when a stage raises. By these two an old caller is told so
    text: int  # address of what says what the key's integers mean: `request.Text`
    addresses: Annotated[Any, MOST_ARRAYS]  # of the arrays' data, for the second stage
    shape: Annotated[Any, MOST_AXES]  # of the result, from the first stage
    data: int  # memory for the result, unless the call has an `out`; from the first stage
    counted: int  # what counts references to that memory; from the first stage
    record: int  # address of the record, from the first stage for the second
    usable_threads: int  # threads that the call may use, when Python is asked to plan it
    backend_given: int  # whether the call itself names the backend
    key_size: int  # integers of the key, which begins with the next field
    digest: int  # of the text
    backend: int  # which backend is asked for, as a word; from the first stage
    threads: int  # that the steps are written for, 0 for any number; from the first stage
    integers: Annotated[Any, 0]  # of the arguments: as many as `Text.arguments` says


REQUEST: Request = places(Request)

# The key is what two requests for the same record have in common.
KEY = REQUEST.digest

# Value of `layout`. Raise it when a request changes: functions in users' caches have the old one.
THIS_LAYOUT = 4

# The stages of a call. In between the caller makes the result's memory an array.
FIND, CARRY_OUT = range(2)

# What a stage returns: nothing (a native that fails returns 0: no memory was left), all is well,
# or from RAISED on the number of an exception.
NO_MEMORY, WELL, RAISED = range(3)

# What Python is asked.
(
    MAKE,
    GET_BACKEND,
    CHECK_OVERLAP,
    TAKE_LAUNCH_LOCK,
    GIVE_LAUNCH_LOCK,
    WRONG_LAYOUT,
    CHECK_BOUND,
    CALL,
) = range(8)

# --- Records ----------------------------------------------------------------------------------


class Record(NamedTuple):
    """What Python made of the first request of a key. It writes all but `users`, once."""

    users: int  # calls that carry the record out: each counts itself in and out
    asks_threads: int  # 1: no steps; look again with the number of threads in the key
    asks_python: int  # 1: no steps; Python makes each call
    launches: int  # whether steps use several threads
    result_bytes: int  # of the result; NO_RESULT where the call has an `out`
    scratch_bytes: int  # of memory for the time of the call
    shape: Annotated[Any, MOST_AXES]  # of the result
    bounds: Annotated[Any, 2 * MOST_ARRAYS]  # first and last byte of each array, from its address
    carry_out: int  # address of `steps.carry_out`
    steps: int  # how many there are
    first_step: int  # place of the first one, behind the key
    key_size: int  # integers of the key
    key: Annotated[Any, 0]  # of the request


RECORD: Record = places(Record)

NO_RESULT = -1

# Slots of the table of records, and how many of them are used: a quarter, so searches are short.
SLOTS = 4096
MOST_RECORDS = SLOTS // 4

# --- Steps ------------------------------------------------------------------------------------

# Data of a step: a base, and the bytes from there.
Place = Annotated[tuple[int, int], 2]

# Bases: the arrays of the call, then scratch, then none (the bytes are an address), then what
# `Apart` says. Behind them each step counts itself when it is done.
SCRATCH, NO_BASE, APART, DONE = range(MOST_ARRAYS, MOST_ARRAYS + 4)

# Kinds of `steps.move`, and axes that it moves along: those of `im2col`.
COPY, NEGATE, ADD, CLEAR = range(4)
MOVE_AXES = 8

# A step is written once, by `recipe`. All kinds begin with the address of the function that
# carries them out; its name is in the description of the class.


class Move(NamedTuple):
    """`steps.move`: elements of one array to another."""

    function: int
    source: Place
    target: Place
    kind: int  # COPY, NEGATE, ADD or CLEAR
    extents: Annotated[Any, MOVE_AXES]  # elements along each axis
    source_steps: Annotated[Any, MOVE_AXES]  # bytes from one element to the next
    target_steps: Annotated[Any, MOVE_AXES]
    dense: int  # whether elements of a row lie one behind the other, in source and target


class Convolution(NamedTuple):
    """`steps.convolve`: a job."""

    function: int
    source: Place
    target: Place
    job: int  # address
    weight: Place
    packed: Place
    bias: Place
    add: Place  # of a job that adds nothing, anywhere
    packed_size: int  # elements; 0: the weights do not come packed


class Adjoint(NamedTuple):
    """`steps.apply_adjoint`: the jobs of an adjoint."""

    function: int
    source: Place
    target: Place
    jobs: int  # address
    weight: Place
    packed: Place
    bias: Place
    add: Place  # of jobs that add nothing, anywhere
    workspace: Place
    packs: int  # 0: the weights come packed


class WeightSums(NamedTuple):
    """`steps.sum_weights`: the gradient of weights."""

    function: int
    source: Place
    target: Place
    job: int  # address
    gradient: Place
    zeros: Place
    sums: Place
    scratch: Place
    sums_size: int  # elements; 0: the target takes the sums as they are


class Activation(NamedTuple):
    """`steps.activate_sums`: contiguous elements, in place."""

    function: int
    target: Place
    length: int  # elements
    activate: int  # address of its kernel


class Apart(NamedTuple):
    """`steps.keep_apart`: the base APART becomes the source, or a copy where it is the target."""

    function: int
    source: Place
    target: Place
    copy: Place  # room for it
    length: int  # elements


MOVE: Move = places(Move)
CONVOLUTION: Convolution = places(Convolution)
ADJOINT: Adjoint = places(Adjoint)
WEIGHT_SUMS: WeightSums = places(WeightSums)
ACTIVATION: Activation = places(Activation)
APART_STEP: Apart = places(Apart)

STEP_SIZE = max(map(size, (Move, Convolution, Adjoint, WeightSums, Activation, Apart)))
