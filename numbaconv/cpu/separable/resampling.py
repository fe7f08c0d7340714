"""Filters between sampling rates, on the threads: each phase of the filter in turn.

A result has the samples around its own, at the coefficients of its phase. Results of one phase are
``stride`` samples apart. So a task splits a piece of a signal into as many rows, one sample in
`stride` each; in these all that neighbouring results of a phase read is side by side, and
`tap_sums` adds it up by whole vectors. The sums go out where results of this phase lie.
"""

import functools
from typing import Any, NamedTuple

import numba
import numpy as np

from numbaconv.codegen.integers import ceil_div, round_up
from numbaconv.codegen.jit import native
from numbaconv.codegen.pointers import CACHE_LINE, call, indices_at, pointer_at, shift
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu import blocking
from numbaconv.cpu.job import (
    AT,
    WorkerArguments,
    execute,
    new_template,
    next_task,
    places,
)
from numbaconv.cpu.launching import set_launch
from numbaconv.cpu.microkernels.tap_sums import SINGLE, WIDTHS, TapSumsArguments, tap_sums
from numbaconv.cpu.packing.conversion import (
    ReadRowArguments,
    WriteRowArguments,
    read_row,
    write_row,
)
from numbaconv.cpu.separable.planning import Template
from numbaconv.runtime.threads import thread_limit

_NONE = np.empty(0, np.int64)


class Phase(NamedTuple):
    """Results of the same coefficients.

    Attributes
    ----------
    first : int
        The first of them.
    begin : int
        The first sample that it reads.
    taps : tuple of float
        Coefficients, in the order of the samples.
    """

    first: int
    begin: int
    taps: tuple[float, ...]


class Cut(NamedTuple):
    """How signals are cut into tasks.

    Attributes
    ----------
    tasks, blocks : int
        Tasks, and those of one signal.
    block, turns : int
        Results of a phase that a task makes, and that a signal has at most.
    samples, results : int
        Those of a signal.
    stride, turn : int
        Samples, and results, from one result of a phase to the next.
    row, pitch : int
        Samples of a row, and elements from one row to the next.
    phases, phases_at : int
        Phases, and where in the table they begin: see `Entry`.
    """

    tasks: int
    blocks: int
    block: int
    turns: int
    samples: int
    results: int
    stride: int
    turn: int
    row: int
    pitch: int
    phases: int
    phases_at: int


class Entry(NamedTuple):
    """A phase in the table: its first result, its taps, where their offsets and weights begin."""

    first: int
    taps: int
    offsets: int
    weights: int


CUT: Cut = places(Cut, 0)
ENTRY: Entry = places(Entry, 0)
_ENTRY_SIZE = len(ENTRY)


@native(WorkerArguments)
def resample_work(worker, job, like):
    """Do tasks until none is left."""
    table, weights = indices_at(job[AT.table]), pointer_at(job[AT.packed], like)
    source, target = pointer_at(job[AT.x], like), pointer_at(job[AT.out], like)
    rows = shift(pointer_at(job[AT.scratch], like), worker * job[AT.scratch_size])
    sums = shift(rows, table[CUT.stride] * table[CUT.pitch])
    number, queue = next_task(job, table[CUT.tasks], worker, 0)
    while number < table[CUT.tasks]:
        signal, turn0 = number // table[CUT.blocks], number % table[CUT.blocks] * table[CUT.block]
        turns = table[CUT.turns] - turn0
        turns = turns if turns < table[CUT.block] else table[CUT.block]
        stride, begin = table[CUT.stride], turn0 * table[CUT.stride]
        for i in range(stride):
            left = (table[CUT.samples] - begin - i + stride - 1) // stride
            left = left if left < table[CUT.row] else table[CUT.row]
            call(
                job[AT.fill_halo],
                ReadRowArguments(
                    shift(rows, i * table[CUT.pitch]),
                    shift(source, signal * table[CUT.samples] + begin + i),
                    stride,
                    left,
                ),
            )
        for i in range(table[CUT.phases]):
            entry = shift(table, table[CUT.phases_at] + i * _ENTRY_SIZE)
            first = entry[ENTRY.first] + turn0 * table[CUT.turn]
            results = (table[CUT.results] - first + table[CUT.turn] - 1) // table[CUT.turn]
            results = results if results < turns else turns
            if results > 0:
                call(
                    job[AT.tile],
                    TapSumsArguments(
                        target=sums,
                        target_step=0,
                        source=rows,
                        source_step=0,
                        offsets=shift(table, entry[ENTRY.offsets]),
                        offset_step=0,
                        weights=shift(weights, entry[ENTRY.weights]),
                        taps=entry[ENTRY.taps],
                        kind=SINGLE,
                        rows=1,
                        vectors=(results + job[AT.lanes] - 1) // job[AT.lanes],
                        divides=0,
                        truncates=0,
                    ),
                )
                place = shift(target, signal * table[CUT.results] + first)
                call(job[AT.store], WriteRowArguments(sums, place, table[CUT.turn], results))
        number, queue = next_task(job, table[CUT.tasks], worker, queue)


class Rates(NamedTuple):
    """A change of rate: its phases, and how far apart their samples and results lie."""

    phases: tuple[Phase, ...]
    stride: int
    turn: int


@functools.lru_cache(maxsize=64)
def make_template(
    rates: Rates, signals: int, size: int, count: int, dtype: np.dtype[Any], threads: int
) -> Template:
    """The job of so many signals, complete but for its data. Its kernels are compiled."""
    stride, turn = rates.stride, rates.turn
    turns = ceil_div(count, turn)
    vector = VECTOR_BYTES // dtype.itemsize
    reach = max((phase.begin + len(phase.taps) - 1) // stride for phase in rates.phases)
    wide = WIDTHS[0] * vector
    # Rows and sums stay in the second-level cache, beside what they are read from and go to.
    block = blocking.CACHE_BYTES // (2 * dtype.itemsize * (stride + 1)) - reach
    block = min(block, ceil_div(turns * signals, blocking.TASKS_PER_THREAD * threads))
    block = min(round_up(max(block, 2 * wide), wide), round_up(turns, vector))
    blocks = ceil_div(turns, block)
    row = block + reach
    pitch = round_up(row, vector) + CACHE_LINE // dtype.itemsize
    table: list[int] = []
    weights: list[float] = []
    offsets_at = len(Cut._fields) + len(rates.phases) * _ENTRY_SIZE
    offsets: list[int] = []
    for phase in rates.phases:
        table += Entry(phase.first, len(phase.taps), offsets_at + len(offsets), len(weights))
        places_of = (divmod(phase.begin + i, stride) for i in range(len(phase.taps)))
        offsets += [lane * pitch + at for at, lane in places_of]
        weights += [1.0, *phase.taps]
    cut = Cut(
        tasks=signals * blocks,
        blocks=blocks,
        block=block,
        turns=turns,
        samples=size,
        results=count,
        stride=stride,
        turn=turn,
        row=row,
        pitch=pitch,
        phases=len(rates.phases),
        phases_at=len(Cut._fields),
    )
    element = numba.from_dtype(dtype)
    job: np.ndarray = new_template()
    set_launch(job, threads)
    job[AT.worker], job[AT.tile] = resample_work.address(element), tap_sums.address(element)
    job[AT.fill_halo] = read_row.address((element, element))
    job[AT.store] = write_row.address((element, element))
    job[AT.itemsize], job[AT.lanes] = dtype.itemsize, vector
    job[AT.workers] = max(1, min(threads, cut.tasks))
    job[AT.scratch_size] = (stride + 1) * pitch
    integers = np.array([*cut, *table, *offsets], np.int64)
    return Template(job, integers, np.array(weights, dtype)).linked()


def resample(x: np.ndarray, out: np.ndarray, rates: Rates) -> None:
    """Filter signals into the results of some phases; others stay as they are.

    Parameters
    ----------
    x, out : ndarray
        Contiguous, float32 or float64, of two axes; the second is time.
    rates : Rates
        No result reads a sample that is not there.
    """
    if not (x.size and out.size and rates.phases):
        return
    multiply_adds = out.size * max(len(phase.taps) for phase in rates.phases)
    threads = thread_limit(max(multiply_adds, 4 * x.size))
    template = make_template(rates, *x.shape, out.shape[1], x.dtype, threads)
    flat = x.reshape(-1), out.reshape(-1)
    execute(template, flat[0], template.weights, _NONE, _NONE, flat[1])
