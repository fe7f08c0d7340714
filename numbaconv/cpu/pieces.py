"""Convolutions whose sums are converted as they are stored: part by part of the output.

The sums of a part are stored to memory that is lent for that. They are finished there, while they
are in cache, and go to the result, by a job of their own.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import from_dtype

from numbaconv.codegen.integers import ceil_div
from numbaconv.codegen.jit import native
from numbaconv.codegen.pointers import behind, call, entries, pointer_at, shift
from numbaconv.cpu import execution, job
from numbaconv.cpu.arrays import flat_add, flat_bias, flat_input, flat_weight
from numbaconv.cpu.blocking import share
from numbaconv.cpu.execution import (
    Template,
    make_template,
    packed_weights,
    write_job,
)
from numbaconv.cpu.finishing import NOT_FLAT, finish_tile
from numbaconv.cpu.job import AT, BLOCKS, MOST_BLOCKS, WorkerArguments, next_task, size_within
from numbaconv.cpu.lowering import Engine, Lowering
from numbaconv.cpu.packing.conversion import (
    WriteRowArguments,
    write_rounded_row,
    write_row,
    write_saturated_row,
)
from numbaconv.cpu.packing.reading import element_type
from numbaconv.problem.activations import NONE
from numbaconv.problem.pieces import cut_output
from numbaconv.problem.plan import Plan
from numbaconv.problem.simplest import simplest
from numbaconv.runtime import result_memory
from numbaconv.runtime.threads import thread_limit

# Bytes of the sums of a part: they stay in a second-level cache, and keep some threads busy.
PIECE_BYTES = 1 << 20

# Elements that a task stores, at most.
TASK_ELEMENTS = 1 << 14


class Runs(NamedTuple):
    """What a job stores.

    Attributes
    ----------
    runs, length : int
        Runs of neighbours, as many elements each; among the sums they lie one behind the other.
    step : int
        Elements of the result from one run to the next.
    itemsize : int
        Bytes of an element of the result.
    parts, tasks : int
        Tasks that share a run; all tasks.
    """

    runs: int
    length: int
    step: int
    itemsize: int
    parts: int
    tasks: int


RUNS_SIZE = size_within(Runs, MOST_BLOCKS)


@native(WorkerArguments)
def store_work(worker, job, like):
    """Finish and store runs until none is left: `x` of the job are the sums."""
    b = Runs(*entries(job, BLOCKS, RUNS_SIZE))
    sums = pointer_at(job[AT.x], like)
    number, queue = next_task(job, b.tasks, worker, 0)
    while number < b.tasks:
        run = number // b.parts
        first, end = share(b.length, number - run * b.parts, b.parts)
        at, count = run * b.step + first, end - first
        row = shift(sums, run * b.length + first)
        finish_tile(job, row, count, 1, count, True, at, count, 1, NOT_FLAT)
        target = behind(job[AT.out], at, b.itemsize)
        call(job[AT.store], WriteRowArguments(row, target, 1, count))
        number, queue = next_task(job, b.tasks, worker, queue)


class Stored(NamedTuple):
    """A part of a convolution, and how it is stored.

    Attributes
    ----------
    template, store : Template
        The jobs that compute its sums, and that store them.
    first_in, first_out : int
        Elements of the input, and of the result, before its first.
    elements : int
        Its sums.
    """

    template: Template
    store: Template
    first_in: int
    first_out: int
    elements: int


def _function(plan: Plan) -> Any:
    """What stores a row of sums in another dtype.

    Where none was asked for, floating numbers hold sums of integers, which wrap.
    """
    if plan.result.kind not in "iu" or plan.result == plan.sums:
        return write_row
    return write_rounded_row if plan.arithmetic.compute.kind == "f" else write_saturated_row


def make_store(plan: Plan, runs: int, length: int, step: int, threads: int) -> Template:
    """Return the job that finishes so many runs of sums and stores them in a plan's result."""
    how = plan.arithmetic
    parts = ceil_div(length, TASK_ELEMENTS)
    blocks = Runs(runs, length, step, plan.result.itemsize, parts, runs * parts)
    table = np.zeros(0, np.int64)
    lowering = Lowering("pieces", store_work, None, blocks, table, 0)
    finish = plan.activation, how.compute, plan.adds
    written = write_job(lowering, plan.shape, how, threads, *finish)
    function = _function(plan)
    written[AT.store] = function.address((from_dtype(how.convert), element_type(plan.result)))
    return Template(written, table, (), how.compute)


def find_pieces(plan: Plan, engine: Engine, threads: int) -> list[Stored]:
    """Return the parts of a planned convolution on an engine; the plan keeps them."""
    key = "pieces", engine, threads
    pieces: list[Stored] | None = plan.jobs.get(key)
    if pieces is None:
        pieces = plan.jobs[key] = _make_pieces(plan, engine, threads)
    return pieces


def _make_pieces(plan: Plan, engine: Engine, threads: int) -> list[Stored]:
    most = PIECE_BYTES // plan.arithmetic.compute.itemsize
    templates: dict[Any, Template] = {}  # those of images are the same, and of rows inside them
    pieces = []
    for piece in cut_output(plan.shape, most, plan.layout.channels_last):
        s, runs = piece.shape, (piece.runs, piece.length, piece.step)
        if s not in templates:
            problem = simplest(s), plan.arithmetic, threads, NONE
            templates[s] = make_template(engine, *problem, plan.source, plan.outside)
        if runs not in templates:
            templates[runs] = make_store(plan, *runs, threads)
        elements = piece.runs * piece.length
        firsts = piece.first_in, piece.first_out
        pieces.append(Stored(templates[s], templates[runs], *firsts, elements))
    return pieces


def execute(
    plan: Plan,
    engine: Engine,
    input: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    out: np.ndarray | None,
    kept: dict[Any, Any] | None = None,
    add: np.ndarray | None = None,
) -> np.ndarray:
    """Run a planned convolution on an engine; the arguments are those of `execution.execute`."""
    if out is not None and out.flags.c_contiguous and out.flags.aligned and out.dtype.isnative:
        y = out.reshape(-1)
    else:
        y = result_memory.empty(plan.out_size, plan.result)
    b, r = flat_bias(bias, plan), flat_add(add, plan, y)
    if plan.multiply_adds:
        _store_pieces(plan, engine, input, weight, b, y, kept, r)
    elif y.size:  # no input channels: sums of nothing, so the bias is left
        _store_bias(plan, b, y, r)
    result = y.reshape(plan.out_shape)
    if out is None:
        return result
    if not np.may_share_memory(y, out):
        np.copyto(out, result)
    return out


def _store_pieces(
    plan: Plan,
    engine: Engine,
    input: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    y: np.ndarray,
    kept: dict[Any, Any] | None,
    add: np.ndarray | None,
) -> None:
    """Compute and store all parts. Weights that come unpacked are packed for all of them."""
    pieces = find_pieces(plan, engine, thread_limit(plan.multiply_adds))
    packs: dict[Any, Any] | None = {} if kept is None and len(pieces) > 1 else kept
    x = flat_input(input, plan, pieces[0].template.reads)
    sums = result_memory.empty(max(piece.elements for piece in pieces), plan.arithmetic.compute)
    flat = flat_weight(weight, plan) if packs is None else plan.not_packed
    for piece in pieces:
        packed, weights = plan.not_packed, flat
        if packs is not None:
            packed = weights = packed_weights(piece.template, weight, plan, packs)
        execution.run(piece.template, x[piece.first_in :], weights, packed, bias, sums)
        added = None if add is None else add[piece.first_out :]
        job.execute(piece.store, sums, sums, sums, sums, y[piece.first_out :], added)


def _store_bias(plan: Plan, bias: np.ndarray, y: np.ndarray, add: np.ndarray | None) -> None:
    """Store what sums of no products are."""
    result, each = plan.by_channel
    sums = np.empty(result, plan.arithmetic.compute)
    sums[...] = bias.reshape(each)
    flat = sums.reshape(-1)
    job.execute(make_store(plan, 1, flat.size, 0, 1), flat, flat, flat, flat, y, add)
