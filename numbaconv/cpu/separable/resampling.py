"""Filters between sampling rates, on the threads: each phase of the filter in turn.

A result has the samples around its own, at the coefficients of its phase. Results of one phase are
``stride`` samples apart. So a task splits a piece of a signal into as many rows, one sample in
`stride` each; in these all that neighbouring results of a phase read is side by side, and
`tap_sums` adds it up by whole vectors. The sums go to where results of this phase lie in a piece of
the results, which goes out as a whole.
"""

import functools
from typing import Any, NamedTuple

import numba
import numpy as np

from numbaconv.codegen.integers import ceil_div, round_up
from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import CACHE_LINE, call, fence, indices_at, pointer_at, shift
from numbaconv.codegen.target import VECTOR_BYTES, last_level_caches
from numbaconv.cpu import blocking
from numbaconv.cpu.job import (
    AT,
    WorkerArguments,
    execute,
    new_template,
    next_task,
    places,
    set_scratch,
)
from numbaconv.cpu.launching import set_launch
from numbaconv.cpu.microkernels.tap_sums import SINGLE, WIDTHS, TapSumsArguments, tap_sums
from numbaconv.cpu.packing.conversion import (
    ReadRowArguments,
    WriteRowArguments,
    read_row,
    write_past_caches,
    write_row,
)
from numbaconv.cpu.separable.planning import Template
from numbaconv.problem.padding_modes import steps_to
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
    before, after : int
        Samples of the ends: those before a signal and those behind it.
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
    before: int
    after: int
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


@inline
def read_part(job, table, row, first, source, begin, size):
    """Read what a row has of some samples, `size` from number `begin` on; `first` is the row's."""
    stride = table[CUT.stride]
    k, end = steps_to(max(begin - first, 0), stride), steps_to(begin + size - first, stride)
    end = end if end < table[CUT.row] else table[CUT.row]
    if k < end:
        at = shift(source, first + k * stride - begin)
        call(job[AT.fill_halo], ReadRowArguments(shift(row, k), at, stride, end - k))


@inline
def read_rows(job, table, rows, signal, begin):
    """Split samples into rows, the first of them number `begin`; those before a signal count."""
    before, after, samples = table[CUT.before], table[CUT.after], table[CUT.samples]
    x = shift(pointer_at(job[AT.x], rows), signal * samples)
    ends = shift(pointer_at(job[AT.bias], rows), signal * (before + after))
    for i in range(table[CUT.stride]):
        row, first = shift(rows, i * table[CUT.pitch]), begin + i
        read_part(job, table, row, first, ends, 0, before)
        read_part(job, table, row, first, x, before, samples)
        read_part(job, table, row, first, shift(ends, before), before + samples, after)


@inline
def sum_phase(job, table, entry, weights, rows, sums, target, results):
    """Make so many results of a phase."""
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
            exact=table,
            taps=entry[ENTRY.taps],
            kind=SINGLE,
            rows=1,
            vectors=(results + job[AT.lanes] - 1) // job[AT.lanes],
            divides=0,
            truncates=0,
        ),
    )
    call(job[AT.band], WriteRowArguments(sums, target, table[CUT.turn], results))


@native(WorkerArguments)
def resample_work(worker, job, like):
    """Do tasks until none is left."""
    table, weights = indices_at(job[AT.table]), pointer_at(job[AT.packed], like)
    rows = shift(pointer_at(job[AT.scratch], like), worker * job[AT.scratch_size])
    sums = shift(rows, table[CUT.stride] * table[CUT.pitch])
    piece, turn = shift(sums, table[CUT.pitch]), table[CUT.turn]
    if table[CUT.phases] < turn:
        for i in range(turn * table[CUT.block]):
            piece[i] = 0
    number, queue = next_task(job, table[CUT.tasks], worker, 0)
    while number < table[CUT.tasks]:
        signal, turn0 = number // table[CUT.blocks], number % table[CUT.blocks] * table[CUT.block]
        first = turn0 * turn
        results = min(table[CUT.results] - first, table[CUT.block] * turn)
        read_rows(job, table, rows, signal, turn0 * table[CUT.stride])
        for i in range(table[CUT.phases]):
            entry = shift(table, table[CUT.phases_at] + i * _ENTRY_SIZE)
            count = steps_to(results - entry[ENTRY.first], turn)
            if count > 0:
                target = shift(piece, entry[ENTRY.first])
                sum_phase(job, table, entry, weights, rows, sums, target, count)
        out = shift(pointer_at(job[AT.out], like), signal * table[CUT.results] + first)
        call(job[AT.store], WriteRowArguments(piece, out, 1, results))
        number, queue = next_task(job, table[CUT.tasks], worker, queue)
    fence()  # for stores past the caches


class Rates(NamedTuple):
    """A change of rate: its phases, and how far apart their samples and results lie.

    Samples count from `before` those of the signal.
    """

    phases: tuple[Phase, ...]
    stride: int
    turn: int
    before: int


@functools.lru_cache(maxsize=64)
def make_template(
    rates: Rates,
    sizes: tuple[int, int, int, int],
    dtype: np.dtype[Any],
    threads: int,
) -> Template:
    """The job of signals, complete but for its data. Its kernels are compiled.

    `sizes` are the signals, the samples of each, those beyond its ends, and its results.
    """
    signals, size, beyond, count = sizes
    stride, turn = rates.stride, rates.turn
    turns = ceil_div(count, turn)
    vector = VECTOR_BYTES // dtype.itemsize
    reach = max((phase.begin + len(phase.taps) - 1) // stride for phase in rates.phases)
    wide = WIDTHS[0] * vector
    # Rows and results stay in the second-level cache, beside what they are read from and go to.
    block = blocking.CACHE_BYTES // (2 * dtype.itemsize * (stride + 1 + turn)) - reach
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
        before=rates.before,
        after=beyond - rates.before,
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
    job[AT.band] = write_row.address((element, element))
    nbytes = signals * (size + count) * dtype.itemsize
    way_out = write_past_caches if nbytes > last_level_caches(threads) else write_row
    job[AT.store] = way_out.address((element, element))
    job[AT.itemsize], job[AT.lanes] = dtype.itemsize, vector
    job[AT.workers] = max(1, min(threads, cut.tasks))
    set_scratch(job, (stride + 1) * pitch + round_up(block * turn, vector))
    integers = np.array([*cut, *table, *offsets], np.int64)
    return Template(job, integers, np.array(weights, dtype)).linked()


def resample(x: np.ndarray, ends: np.ndarray, out: np.ndarray, rates: Rates) -> None:
    """Filter signals into the results of some phases; those of others are zero.

    Parameters
    ----------
    x, out : ndarray
        Contiguous, float32 or float64, of two axes; the second is time.
    ends : ndarray
        Of each signal the samples before it, and then those behind it.
    rates : Rates
        No result reads a sample that is not there.
    """
    if not (x.size and out.size):
        return
    multiply_adds = out.size * max(len(phase.taps) for phase in rates.phases)
    threads = thread_limit(max(multiply_adds, 4 * x.size))
    sizes = *x.shape, ends.shape[1], out.shape[1]
    template = make_template(rates, sizes, x.dtype, threads)
    x, ends, out = (each.reshape(-1) for each in (x, ends, out))
    execute(template, x, template.weights, _NONE, ends, out)
