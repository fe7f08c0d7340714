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
    ACTIVATION,
    ADD,
    CLEAR,
    CONVOLUTION,
    COPY,
    DONE,
    MOST_ARRAYS,
    MOVE,
    MOVE_AXES,
    NEGATE,
    NO_MEMORY,
    RECORD,
    REQUEST,
    SCRATCH,
    SPREAD,
    STEP_SIZE,
    WELL,
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
    last, kind = MOVE_AXES - 1, step[MOVE.kind]
    count = step[MOVE.extents + last]
    source_step, target_step = step[MOVE.source_steps + last], step[MOVE.target_steps + last]
    if kind == COPY and step[MOVE.dense] != 0:  # LLVM can only vectorise what it sees to be dense
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
    source, target = place(step, MOVE.source, bases), place(step, MOVE.target, bases)
    rows = 1
    for axis in range(MOVE_AXES - 1):
        rows *= step[MOVE.extents + axis]
    for row in range(rows):
        s, t, rest, axis = source, target, row, MOVE_AXES - 2
        while rest > 0:
            above = rest // step[MOVE.extents + axis]
            i = rest - above * step[MOVE.extents + axis]
            s += i * step[MOVE.source_steps + axis]
            t += i * step[MOVE.target_steps + axis]
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
        carray(indices_at(step[CONVOLUTION.job]), (JOB_SIZE,)),
        array_at(step, CONVOLUTION.source, bases, source_like, 1),
        array_at(step, CONVOLUTION.weight, bases, source_like, step[CONVOLUTION.weight_size]),
        array_at(step, CONVOLUTION.packed, bases, source_like, step[CONVOLUTION.packed_size]),
        array_at(step, CONVOLUTION.bias, bases, source_like, 1),
        array_at(step, CONVOLUTION.target, bases, target_like, 1),
    )
    bases[DONE] += 1


@native(_step_signature)
def spread(step, bases, source_like, target_like):
    """Run a chain of jobs, as `adjoint_chain.run` does for Python."""
    run_chain(
        carray(indices_at(step[SPREAD.jobs]), (step[SPREAD.job_integers],)),
        array_at(step, SPREAD.source, bases, source_like, 1),
        array_at(step, SPREAD.weight, bases, source_like, 1),
        array_at(step, SPREAD.packed, bases, source_like, step[SPREAD.packed_size]),
        array_at(step, SPREAD.workspace, bases, source_like, 1),
        array_at(step, SPREAD.bias, bases, source_like, 1),
        array_at(step, SPREAD.target, bases, target_like, step[SPREAD.target_size]),
    )
    bases[DONE] += 1


@native(_step_signature)
def activate_sums(step, bases, source_like, target_like):
    """Apply an activation to contiguous elements."""
    target = pointer_at(place(step, ACTIVATION.target, bases), target_like)
    length, code = step[ACTIVATION.length], step[ACTIVATION.code]
    call(step[ACTIVATION.activate], ActivateArguments(target, 0, 1, length, code))
    bases[DONE] += 1


def _carry_out_signature(dtype):
    indices = types.CPointer(dtype)
    return types.int64(indices, indices)


@native(_carry_out_signature)
def carry_out(request, record):
    """Carry out the steps of a record on the data of a request."""
    entry = entry_table()
    scratch = lend(entry, record[RECORD.scratch_bytes])
    if scratch == 0:
        return NO_MEMORY
    bases = np.zeros(DONE + 1, np.int64)
    for i in range(MOST_ARRAYS):
        bases[i] = request[REQUEST.addresses + i]
    bases[SCRATCH] = scratch
    for i in range(record[RECORD.steps]):
        step = shift(record, record[RECORD.first_step] + i * STEP_SIZE)
        # All kinds of step begin with their function.
        call(step[MOVE.function], StepArguments(step, address_of(bases), 0, 0))
    give_back(entry, scratch)
    return WELL if bases[DONE] == record[RECORD.steps] else NO_MEMORY
