"""The steps of a record, carried out on the data of a request."""

from typing import NamedTuple

from numba import types

from numbaconv.codegen.arguments import Elements, Indices
from numbaconv.codegen.integers import round_up
from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import CACHE_LINE, call, indices_at, pointer_at, shift
from numbaconv.cpu.activation import ActivateArguments
from numbaconv.cpu.gradients.adjoint_chain import carry_out_chain
from numbaconv.cpu.gradients.weight_tasks import carry_out_sums
from numbaconv.cpu.job import carry_out as carry_out_job
from numbaconv.njit.protocol import (
    ACTIVATION,
    ADD,
    ADJOINT,
    APART,
    APART_STEP,
    CLEAR,
    CONVOLUTION,
    COPY,
    DONE,
    MOST_ARRAYS,
    MOVE,
    MOVE_AXES,
    NEGATE,
    NO_BASE,
    NO_MEMORY,
    RECORD,
    REQUEST,
    SCRATCH,
    STEP_SIZE,
    WEIGHT_SUMS,
    WELL,
)
from numbaconv.runtime.lent_memory import give_back, lend
from numbaconv.runtime.shared_table import entry_table

# Of the bases, which lie before the scratch: whole cache lines.
BASES_BYTES = round_up(8 * (DONE + 1), CACHE_LINE)


class StepArguments(NamedTuple):
    """What the function of a step takes: the step, addresses, pointers for their types alone."""

    step: Indices
    bases: Indices
    source_like: Elements
    target_like: Elements


def step_signature(dtypes):
    """Signature of a step for the dtypes of its source and its target."""
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


@native(step_signature)
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


@native(step_signature)
def convolve(step, bases, source_like, target_like):
    """Run a job, as `job.run` does for Python."""
    bases[DONE] += carry_out_job(
        step[CONVOLUTION.job],
        place(step, CONVOLUTION.source, bases),
        place(step, CONVOLUTION.weight, bases),
        place(step, CONVOLUTION.packed, bases),
        step[CONVOLUTION.packed_size],
        place(step, CONVOLUTION.bias, bases),
        place(step, CONVOLUTION.add, bases),
        place(step, CONVOLUTION.target, bases),
    )


@native(step_signature)
def apply_adjoint(step, bases, source_like, target_like):
    """Run a chain of jobs, as `adjoint_chain.run` does for Python."""
    bases[DONE] += carry_out_chain(
        step[ADJOINT.jobs],
        place(step, ADJOINT.source, bases),
        place(step, ADJOINT.weight, bases),
        place(step, ADJOINT.packed, bases),
        place(step, ADJOINT.workspace, bases),
        place(step, ADJOINT.bias, bases),
        place(step, ADJOINT.add, bases),
        place(step, ADJOINT.target, bases),
        step[ADJOINT.packs] != 0,
        True,
    )


@native(step_signature)
def sum_weights(step, bases, source_like, target_like):
    """Compute the gradient of weights, as `weight_tasks.run_sums` does for Python."""
    bases[DONE] += carry_out_sums(
        step[WEIGHT_SUMS.job],
        place(step, WEIGHT_SUMS.source, bases),
        place(step, WEIGHT_SUMS.gradient, bases),
        place(step, WEIGHT_SUMS.zeros, bases),
        place(step, WEIGHT_SUMS.sums, bases),
        step[WEIGHT_SUMS.sums_size],
        place(step, WEIGHT_SUMS.scratch, bases),
        place(step, WEIGHT_SUMS.target, bases),
    )


@native(step_signature)
def activate_sums(step, bases, source_like, target_like):
    """Apply an activation to contiguous elements."""
    target = pointer_at(place(step, ACTIVATION.target, bases), target_like)
    call(step[ACTIVATION.activate], ActivateArguments(target, 0, 1, step[ACTIVATION.length]))
    bases[DONE] += 1


@native(step_signature)
def keep_apart(step, bases, source_like, target_like):
    """Let jobs that store to the target before they add find what they add elsewhere."""
    source, copy = place(step, APART_STEP.source, bases), place(step, APART_STEP.copy, bases)
    bases[APART] = source
    if source == place(step, APART_STEP.target, bases):
        elements, to = pointer_at(source, source_like), pointer_at(copy, source_like)
        for i in range(step[APART_STEP.length]):
            to[i] = elements[i]
        bases[APART] = copy
    bases[DONE] += 1


def _carry_out_signature(dtype):
    indices = types.CPointer(dtype)
    return types.int64(indices, indices)


@native(_carry_out_signature)
def carry_out(request, record):
    """Carry out the steps of a record on the data of a request."""
    entry = entry_table()
    memory = lend(entry, BASES_BYTES + record[RECORD.scratch_bytes])
    if memory == 0:
        return NO_MEMORY
    bases = indices_at(memory)
    for i in range(MOST_ARRAYS):
        bases[i] = request[REQUEST.addresses + i]
    bases[SCRATCH], bases[NO_BASE], bases[APART], bases[DONE] = memory + BASES_BYTES, 0, 0, 0
    for i in range(record[RECORD.steps]):
        step = shift(record, record[RECORD.first_step] + i * STEP_SIZE)
        # All kinds of step begin with their function.
        call(step[MOVE.function], StepArguments(step, memory, 0, 0))
    done = bases[DONE]
    give_back(entry, memory)
    return WELL if done == record[RECORD.steps] else NO_MEMORY
