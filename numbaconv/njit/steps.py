"""The steps of a record, carried out on the data of a request."""

from typing import NamedTuple

import numpy as np
from numba import carray, types

from numbaconv.codegen.arguments import Elements, Indices
from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import address_of, call, indices_at, pointer_at, shift
from numbaconv.cpu.activation import ActivateArguments
from numbaconv.cpu.gradients.adjoint_chain import run_chain
from numbaconv.cpu.job import JOB_SIZE
from numbaconv.cpu.job import run as run_job
from numbaconv.njit.protocol import (
    ACTIVATE,
    ADD,
    ADDRESSES,
    BIAS,
    CLEAR,
    COPY,
    COUNT,
    DENSE,
    DONE,
    EXTENTS,
    FIRST_STEP,
    FUNCTION,
    JOB,
    JOB_INTEGERS,
    KIND,
    MOST_ARRAYS,
    MOVE_AXES,
    NEGATE,
    NO_MEMORY,
    PACKED,
    PACKED_SIZE,
    SCRATCH,
    SCRATCH_BYTES,
    SOURCE,
    SOURCE_STEPS,
    STEP_SIZE,
    STEPS,
    TARGET,
    TARGET_SIZE,
    TARGET_STEPS,
    WEIGHT,
    WEIGHT_SIZE,
    WELL,
    WORKSPACE,
)
from numbaconv.runtime.lent_memory import give_back, lend
from numbaconv.runtime.shared_table import entry_table


class StepArguments(NamedTuple):
    """What the function of a step takes: the step, addresses, pointers for their types alone."""

    step: Indices
    bases: Indices
    source_like: Elements
    target_like: Elements


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
    call(step[ACTIVATE], ActivateArguments(target, 0, 1, step[COUNT], step[KIND]))
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
        call(step[FUNCTION], StepArguments(step, address_of(bases), 0, 0))
    give_back(entry, scratch)
    return WELL if bases[DONE] == record[STEPS] else NO_MEMORY
