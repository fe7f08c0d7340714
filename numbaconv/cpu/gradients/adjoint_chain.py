"""Several convolutions of one input into one output, in one launch: the phases of an adjoint.

The jobs of the phases lie one behind the other. The workers of a launch do their share of each
in turn, with no barrier between: phases write to different elements.

Of few output channels, phases that are neighbours along the rows are the channels of one
convolution: see `join_phases`.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numba.core import config

from numbaconv.codegen.integers import round_up
from numbaconv.codegen.jit import from_python, inline, native
from numbaconv.codegen.pointers import (
    CACHE_LINE,
    align,
    behind,
    call,
    data_in,
    entries,
    indices_at,
    keep_scalar,
    pointer_at,
    shift,
    size_in,
)
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu import execution
from numbaconv.cpu.blocking import BAND_CHANNELS
from numbaconv.cpu.gradients import fold
from numbaconv.cpu.job import (
    AT,
    COMPLETE,
    GRADIENT,
    JOB_SIZE,
    NO_MEMORY,
    QUEUE_SIZE,
    SHAPE,
    WorkerArguments,
    check_complete,
    give_workspace,
    launch,
    next_task,
    no_memory,
    places,
    set_entries,
    size_of_packed,
    size_within,
    take_workspace,
)
from numbaconv.cpu.lowering import Engine
from numbaconv.cpu.packing.lanes import copy_lanes
from numbaconv.cpu.packing.rows import copy_rows
from numbaconv.cpu.packing.transpose import TransposeArguments, transpose
from numbaconv.cpu.packing.weights import block_rows, pack_work
from numbaconv.problem.activations import NONE
from numbaconv.problem.dtypes import Arithmetic
from numbaconv.problem.phases import Phase, find_phases
from numbaconv.problem.shape import ConvShape, Triple, read_shape
from numbaconv.problem.simplest import covered_map, simplest
from numbaconv.runtime import result_memory
from numbaconv.runtime.threads import launch_lock

# Elements that a packing task reads, about.
PACKED_ELEMENTS = 16384
# Fewer elements than this are packed faster by one thread than brought from one core to another
# (row M1 of `benchmarks/compare.py --backward`).
SERIAL_PACKING = 8192


# Without the compiler an array view stands for a pointer, and it cannot be walked backwards.
BACKWARDS = not config.DISABLE_JIT


class PhaseTaps(NamedTuple):
    """Which taps of the whole kernel a phase has: kernel, taps, first tap, steps, for each axis.

    The shape in a job is what its engine says the problem is; of that the kernel may be another.
    """

    kd: int
    kh: int
    kw: int
    taps_d: int
    taps_h: int
    taps_w: int
    first_d: int
    first_h: int
    first_w: int
    apart_d: int
    apart_h: int
    apart_w: int


SINGLE_TAP = PhaseTaps(1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1)


class ChainHeader(NamedTuple):
    """What the jobs of a chain have of their own; as `CHAIN_AT`, where that lies.

    Behind it are the `PhaseTaps` of a job's phase.

    Attributes
    ----------
    jobs : int
        Of the first job: jobs of the chain.
    chain : int
        Of the first job: address of `chain_work`.
    called : int
        Of the first job: the place in each job of the address that is called.
    transpose : int
        Address of `transpose`.
    packer, natural : int
        Address of an engine's own packer, which packs what `pack_phases` has written, and how many
        elements behind the packed weights that lies; 0: none.
    origin : int
        Index of the first output.
    rows : int
        Rows of its packed blocks.
    first, channel_step, input_step : int
        Where in the kernel the first output channel begins; elements from one output channel, and
        from one input channel, to the next.
    bias, copies, alike : int
        Where the bias lies if some channels in a row are `alike` and have the same, and how many
        channels there are; copies of 0: each has its own; alike of 0: they have none. In a job
        without data `bias` is the number of the first element.
    copied : int
        Where the copies lie: behind its packed weights.
    fold : int
        Address of the worker that adds what the others have multiplied: of the last job of a chain
        that folds, which does nothing else.
    products : int
        Of the first job: where in the scratch these products lie; 0: the chain does not fold.
    """

    jobs: int
    chain: int
    called: int
    transpose: int
    packer: int
    natural: int
    origin: int
    rows: int
    first: int
    channel_step: int
    input_step: int
    bias: int
    copies: int
    alike: int
    copied: int
    fold: int
    products: int


CHAIN_AT: ChainHeader = places(ChainHeader, GRADIENT)
TAPS = GRADIENT + len(ChainHeader._fields)
TAPS_SIZE = size_within(PhaseTaps, JOB_SIZE - TAPS)


@inline
def read_taps(job):
    """Rebuild the taps that `make_chain` wrote."""
    return PhaseTaps(*entries(job, TAPS, TAPS_SIZE))


@inline
def pack_taps(t, target, source, rows, channel_step, tap_step):
    """target[tap * tap_step + i] = source[i * channel_step + tap of the kernel], taps backwards."""
    tap = 0
    for kd in range(t.taps_d):
        d = t.first_d + (t.taps_d - 1 - kd) * t.apart_d
        for kh in range(t.taps_h):
            h = t.first_h + (t.taps_h - 1 - kh) * t.apart_h
            for kw in range(t.taps_w):
                w = t.first_w + (t.taps_w - 1 - kw) * t.apart_w
                of = (d * t.kh + h) * t.kw + w
                for i in range(rows):
                    keep_scalar()
                    target[tap * tap_step + i] = source[i * channel_step + of]
                tap += 1


@inline
def pack_phase_block(job, s, t, weights, packed, g, c, block):
    """One input channel of one register block of a group."""
    taps, all_taps = t.taps_d * t.taps_h * t.taps_w, t.kd * t.kh * t.kw
    rows = block_rows(s.c_out, job[CHAIN_AT.rows], block)
    tap_step, channel_step = rows, taps * rows
    if job[AT.pack_taps_outer] != 0:
        tap_step, channel_step = s.c_in * rows, rows
    first = block * job[CHAIN_AT.rows]
    target = shift(packed, (g * s.c_out + first) * s.c_in * taps + c * channel_step)
    at = (g * s.c_in + c) * job[CHAIN_AT.input_step] + first * job[CHAIN_AT.channel_step]
    source = shift(weights, job[CHAIN_AT.first] + at)
    if rows == 1 and t.apart_w < 0:  # map by map, in their order
        size, apart, lanes = t.taps_h * t.taps_w, t.kh * t.kw, job[AT.lanes]
        for kd in range(t.taps_d):
            of_map = shift(target, kd * size)
            copy_rows(of_map, size, shift(source, kd * apart), 1, apart, 1, size, 0, lanes)
    elif taps == all_taps and rows == 1:  # all of them, backwards
        for tap in range(taps):
            keep_scalar()
            target[tap * tap_step] = source[taps - 1 - tap]
    elif taps == all_taps and BACKWARDS:
        last = shift(target, (taps - 1) * tap_step)
        backwards = TransposeArguments(last, -tap_step, source, all_taps, rows, taps, job[AT.lanes])
        call(job[CHAIN_AT.transpose], backwards)
    else:
        pack_taps(t, target, source, rows, job[CHAIN_AT.channel_step], tap_step)


@inline
def pack_neighbours(job, s, weights, packed, first, end):
    """Pack some input channels of a single tap that are neighbours in memory: a transposition."""
    apart = job[CHAIN_AT.channel_step]
    for channel in range(0, s.c_out, job[CHAIN_AT.rows]):
        rows = min(job[CHAIN_AT.rows], s.c_out - channel)
        target = shift(packed, channel * s.c_in + first * rows)
        source = shift(weights, job[CHAIN_AT.first] + channel * apart + first)
        block = TransposeArguments(target, rows, source, apart, rows, end - first, job[AT.lanes])
        call(job[CHAIN_AT.transpose], block)


@inline
def pack_outputs(job, s, weights, packed, first, end):
    """Pack some input channels of a single tap whose output channels are neighbours in memory."""
    lanes = job[AT.lanes]
    for g in range(first // s.c_in, (end - 1) // s.c_in + 1):
        c0, c1 = max(first - g * s.c_in, 0), min(end - g * s.c_in, s.c_in)
        for channel in range(0, s.c_out, job[CHAIN_AT.rows]):
            rows = min(job[CHAIN_AT.rows], s.c_out - channel)
            target = shift(packed, (g * s.c_out + channel) * s.c_in)
            source = shift(weights, g * s.c_in * job[CHAIN_AT.input_step] + channel)
            for c in range(c0, c1):
                copy, row = shift(target, c * rows), shift(source, c * job[CHAIN_AT.input_step])
                j = 0
                while j < rows:
                    copy_lanes(shift(copy, j), shift(row, j), rows - j)
                    j += lanes


@inline
def pack_channels(job, like, first, end):
    """Write the weights of some of the C_in channels of a phase as panels [group][block][k][rows].

    And copies of the bias, with the first of them, where some channels in a row have the same.
    """
    s, t = read_shape(job, SHAPE), read_taps(job)
    weights, packed = pointer_at(job[AT.weights], like), pointer_at(job[AT.packed], like)
    packed = shift(packed, job[CHAIN_AT.natural])
    blocks = -(-s.c_out // job[CHAIN_AT.rows])
    if first == 0 and job[CHAIN_AT.copies] != 0:
        bias = pointer_at(job[CHAIN_AT.bias], like)
        copies = pointer_at(job[AT.bias], like)
        for i in range(job[CHAIN_AT.copies]):
            if job[CHAIN_AT.alike] > 0:
                copies[i] = bias[i // job[CHAIN_AT.alike]]
            else:  # products have no bias: what adds them has it
                copies[i] = 0
    if s.groups == job[CHAIN_AT.input_step] == 1:
        pack_neighbours(job, s, weights, packed, first, end)
        return
    if t.kd * t.kh * t.kw == job[CHAIN_AT.channel_step] == 1:
        pack_outputs(job, s, weights, packed, first, end)
        return
    for channel in range(first, end):
        g = channel // s.c_in
        for block in range(blocks):
            pack_phase_block(job, s, t, weights, packed, g, channel - g * s.c_in, block)


@native(WorkerArguments)
def pack_phases(worker, job, like):
    """Pack the weights (C_in, C_out, taps) of an adjoint for all jobs of a chain.

    A phase convolves from the C_in channels of the output's gradient to the C_out of the input's.
    A task is some of the C_in channels, whose weights are read in the order of memory. All phases
    take theirs while a cache holds them: those of one lie between those of the others.
    """
    s = read_shape(job, SHAPE)
    of_channel = max(job[CHAIN_AT.input_step], s.c_out)  # the step is 1 where neighbours are packed
    channels, each = s.groups * s.c_in, max(1, PACKED_ELEMENTS // of_channel)
    tasks = -(-channels // each)
    task, queue = next_task(job, tasks, worker, 0)
    while task < tasks:
        for j in range(job[CHAIN_AT.jobs]):
            packed, end = shift(job, j * JOB_SIZE), min(task * each + each, channels)
            if packed[CHAIN_AT.fold] == 0:
                pack_channels(packed, like, task * each, end)
        task, queue = next_task(job, tasks, worker, queue)


@native(WorkerArguments)
def chain_work(worker, job, like):
    """Do a worker's share of each job of a chain, of which `job` is the first.

    Jobs with nothing to call are left out.
    """
    for j in range(job[CHAIN_AT.jobs]):
        each = shift(job, j * JOB_SIZE)
        if each[job[CHAIN_AT.called]] != 0:
            call(each[job[CHAIN_AT.called]], WorkerArguments(worker, each, 0))


@inline
def pack_again(space, jobs):
    """Let engines pack what `pack_phases` wrote for them, if any of a chain has a packer."""
    count, found = jobs[CHAIN_AT.jobs], False
    for j in range(count):
        job = indices_at(behind(space.jobs, j * JOB_SIZE, 8))
        job[AT.weights] = behind(job[AT.packed], job[CHAIN_AT.natural], job[AT.itemsize])
        found = found or job[CHAIN_AT.packer] != 0
    if found:
        counters = indices_at(space.queues)
        for i in range(count * jobs[AT.workers] * QUEUE_SIZE):
            counters[i] = 0
        jobs[CHAIN_AT.called] = CHAIN_AT.packer
        launch(space.jobs, jobs[CHAIN_AT.chain], jobs[AT.pack_workers])


@inline
def carry_out_chain(templates, x, weights, packed, scratch, bias, add, out, packs, works):
    """Pack the weights of all jobs if the call `packs`, and convolve if it `works`.

    `packed` is memory for the packed weights of all jobs, `scratch` for all workers' pieces. A call
    that does not pack finds the weights there, and the copies of the bias, from one that did.
    """
    first = indices_at(templates)
    count = first[CHAIN_AT.jobs]
    space = take_workspace(templates, count * JOB_SIZE, 1, 1, x)
    if no_memory(space):
        return NO_MEMORY
    jobs = indices_at(space.jobs)
    counters, itemsize, at = jobs[AT.workers] * QUEUE_SIZE, jobs[AT.itemsize], 0
    folds = jobs[CHAIN_AT.products] != 0
    products = behind(align(scratch), jobs[CHAIN_AT.products], itemsize)
    for j in range(count):
        job = indices_at(behind(space.jobs, j * JOB_SIZE, 8))
        job[AT.queues] = behind(space.queues, j * counters, 8)
        job[AT.x], job[AT.weights], job[AT.bias] = x, weights, bias
        job[AT.packed] = behind(packed, at, itemsize)
        job[AT.out] = behind(out, job[CHAIN_AT.origin], itemsize)
        job[AT.add] = behind(add, job[CHAIN_AT.origin], itemsize)
        job[AT.scratch], job[AT.indices] = align(scratch), space.indices
        if folds and job[CHAIN_AT.fold] != 0:
            job[AT.x] = products
        elif folds:
            job[AT.out] = products
        if job[CHAIN_AT.copies] != 0:
            job[CHAIN_AT.bias] = behind(bias, job[CHAIN_AT.bias], itemsize)
            job[AT.bias] = behind(job[AT.packed], job[CHAIN_AT.copied], itemsize)
        at += job[AT.packed_size]
    if packs:
        launch(space.jobs, jobs[AT.packer], jobs[AT.pack_workers])
        pack_again(space, jobs)
    if works:
        for j in range(count):
            job = indices_at(behind(space.jobs, j * JOB_SIZE, 8))
            job[AT.queues] = behind(space.queues, (count + j) * counters, 8)
        jobs[CHAIN_AT.called] = AT.worker
        launch(space.jobs, jobs[CHAIN_AT.chain], jobs[AT.workers])
        if folds:
            jobs[CHAIN_AT.called] = CHAIN_AT.fold
            launch(space.jobs, jobs[CHAIN_AT.chain], jobs[AT.workers])
    give_workspace(space)
    return COMPLETE


@native(from_python)
def run_chain(given):
    """Run a chain on flat arrays: `carry_out_chain` for Python, which gives what that takes.

    Without weights `packed` has them already. Without an input they are packed, and that is all.
    """
    return carry_out_chain(
        data_in(given, 0),
        data_in(given, 1),
        data_in(given, 2),
        data_in(given, 3),
        data_in(given, 4),
        data_in(given, 5),
        data_in(given, 6),
        data_in(given, 7),
        size_in(given, 2) > 0,
        size_in(given, 1) > 0,
    )


class Chain(NamedTuple):
    """The jobs of a chain without their data.

    Attributes
    ----------
    jobs, tables : ndarray, list of ndarray
        The jobs, and the tables that they point to.
    workers : int
        Workers of the larger launch.
    packed, scratch : int
        Elements of packed weights and of scratch.
    order : tuple
        What the order of packed weights depends on.
    exchanged : bool
        Whether that is so of its part, then the only one.
    """

    jobs: np.ndarray
    tables: list[np.ndarray]
    workers: int
    packed: int
    scratch: int
    order: tuple[Any, ...]
    exchanged: bool


class Part(NamedTuple):
    """What one job of a chain computes: a phase, or several as channels.

    Attributes
    ----------
    shape, origin : ConvShape, int
        The convolution, and the index of its first element in the result.
    taps : PhaseTaps
        Those of the phase, the first of several.
    first, channel_step, input_step : int
        Where its weights lie: see `ChainHeader`.
    bias, copies, alike : int
        Where its bias lies: see `ChainHeader`.
    exchanged : bool
        Whether weights and input have changed places: it convolves the weights.
    in_order : bool
        Whether it is to add in the order of most lowerings, as parts of other batches do.
    folded : bool
        Whether it multiplies, and what it multiplied is added afterwards: see `fold`.
    """

    shape: ConvShape
    origin: int
    taps: PhaseTaps
    first: int
    channel_step: int
    input_step: int
    bias: int = 0
    copies: int = 0
    alike: int = 0
    exchanged: bool = False
    in_order: bool = False
    folded: bool = False

    @property
    def weights(self) -> tuple[Any, ...]:
        """Which weights it has, and which copies of the bias."""
        s = self.shape
        return s.groups, s.c_in, s.c_out, s.kernel, *self[2:]


def find_parts(s: ConvShape, phases: Sequence[Phase], arithmetic: Arithmetic) -> list[Part]:
    """Return the parts of the adjoint of a convolution, whose phases are given.

    A window that covers its map has a phase for each element. Together they are one product, and
    the elements of a channel are output channels that are alike.
    """
    covered = covered_map(s)
    if covered is s:
        lanes = VECTOR_BYTES // arithmetic.compute.itemsize
        return list(join_phases(phases, s.kernel, s.in_strides[4], lanes))
    (phase,) = find_phases(covered)
    taps = PhaseTaps(1, 1, 1, 1, 1, 1, *phase.taps, *phase.apart)
    alike, channels = s.taps, covered.c_in
    shape = simplest(phase.shape)
    copies = s.groups * channels
    return [Part(shape, 0, taps, 0, 1, channels, 0, copies, alike)]


def product_part(s: ConvShape) -> Part:
    """Return the product of an adjoint that is folded: its channels are channels and taps."""
    ones, channels, pixels = (1, 1, 1), s.c_in * s.taps, math.prod(s.output)
    _, h, w = s.output
    shape = s._replace(
        c_in=s.c_out,
        c_out=channels,
        size=s.output,
        kernel=ones,
        stride=ones,
        padding=(0, 0, 0),
        in_strides=s.out_strides,
        out_strides=(s.groups * channels * pixels, pixels, h * w, w, 1),
    )
    copies = s.groups * channels
    return Part(simplest(shape), 0, SINGLE_TAP, 0, 1, channels, 0, copies, 0, folded=True)


def whole_part(s: ConvShape, product: ConvShape | None) -> Part:
    """Return the part of an adjoint that an engine computes as a whole: all phases, all taps.

    Or as a product, whose output channels are the taps of all channels: those of one are alike. A
    chain packs taps backwards. The others go back from the last one, so they keep their order.
    """
    if product is not None:
        channels = product.c_out
        return Part(s, 0, SINGLE_TAP, 0, 1, channels, 0, s.groups * channels, s.taps)
    d, h, w = s.kernel
    taps = PhaseTaps(*s.kernel, *s.kernel, d - 1, h - 1, w - 1, -1, -1, -1)
    return Part(s, 0, taps, 0, s.taps, s.c_in * s.taps)


def _follows(phase: Phase, first: Phase, place: int, step: int) -> bool:
    """Whether a phase has the next columns, `step` apart, and taps, at some distance."""
    d, h, w = first.taps
    next_taps = phase.taps == (d, h, w + place)
    return next_taps and phase.shape == first.shape and phase.origin == first.origin + place * step


def join_phases(phases: Sequence[Phase], kernel: Triple, step: int, lanes: int) -> Iterator[Part]:
    """Yield the parts of a chain; `step` is the distance of neighbours in a row of the result.

    Along a row, phases read the same outputs under neighbouring taps and write neighbouring
    elements. Where a phase has few output channels, too few to fill a register block, a whole
    vector of phases are the output channels of one convolution, of each channel by itself.
    """
    all_taps, i = math.prod(kernel), 0
    while i < len(phases):
        first = phases[i]
        shape = first.shape
        taps = PhaseTaps(*kernel, *shape.kernel, *first.taps, *first.apart)
        input_step = shape.c_out * all_taps
        run = 1
        while i + run < len(phases) and _follows(phases[i + run], first, run, step):
            run += 1
        if shape.groups == 1 and shape.c_out < BAND_CHANNELS and run >= lanes:
            steps = shape.out_strides
            joined = shape._replace(c_out=run, out_strides=(steps[0], step, *steps[2:]))
            for channel in range(shape.c_out):
                origin, at = first.origin + channel * steps[1], channel * all_taps
                yield Part(joined, origin, taps, at, 1, input_step, channel, run, run)
            i += run
            continue
        # Taps are found by their axes, so a phase of several keeps them.
        form = simplest(shape) if shape.taps == 1 else shape
        yield Part(form, first.origin, taps, 0, all_taps, input_step)
        i += 1


def _make_job(part: Part, template: execution.Template, arithmetic: Arithmetic) -> np.ndarray:
    """Return the job of a part: what its engine made of it, and what a chain adds."""
    job, element = template.job, arithmetic.numba
    # Unless the chain is to write panels, it writes the weights in their natural order: blocks of
    # one row. Engines without a packer read them so. Packers of their own find them behind the
    # memory that they write to.
    if job[AT.packer] not in (0, pack_work.address(element)):
        job[CHAIN_AT.packer] = job[AT.packer]
        job[CHAIN_AT.natural] = job[AT.packed_size]
        job[AT.packed_size] += size_of_packed(part.shape.weights)
        job[AT.weights_in_panels] = int(job[AT.pack_rows] > 0)
    job[CHAIN_AT.rows] = job[AT.pack_rows] or 1
    job[AT.pack_in_task] = 0
    job[AT.packer] = pack_phases.address(element)
    job[CHAIN_AT.transpose] = transpose.address(element)
    job[CHAIN_AT.origin], job[CHAIN_AT.first] = part.origin, part.first
    job[CHAIN_AT.channel_step] = part.channel_step
    job[CHAIN_AT.input_step] = part.input_step
    job[CHAIN_AT.bias], job[CHAIN_AT.copies] = part.bias, part.copies
    job[CHAIN_AT.alike] = part.alike
    set_entries(job, TAPS, part.taps)
    return job


def _fold_job(
    s: ConvShape, arithmetic: Arithmetic, threads: int, activation: int, adds: bool
) -> np.ndarray:
    """Return the job that adds the products of an adjoint. It packs nothing."""
    lowering = fold.lower(s, threads)
    job = execution.write_job(
        lowering, s, arithmetic, threads, activation, arithmetic.compute, adds
    )
    job[AT.packed_size] = 0
    job[CHAIN_AT.fold], job[AT.worker] = job[AT.worker], 0
    return job


def make_chain(
    parts: Sequence[Part],
    engines: Sequence[Engine],
    arithmetic: Arithmetic,
    threads: int,
    activation: int,
    adds: bool = False,
    folded: ConvShape | None = None,
) -> Chain:
    """Return the jobs of some parts, each on its engine, complete but for their data.

    `folded` is the problem whose adjoint it is, if the only part is its product.
    """
    finish = (activation, adds) if folded is None else (NONE, False)
    templates = [
        execution.make_template(engine, part.shape, arithmetic, threads, finish[0], adds=finish[1])
        for part, engine in zip(parts, engines, strict=True)
    ]
    pairs = zip(parts, templates, strict=True)
    each = [_make_job(part, template, arithmetic) for part, template in pairs]
    if folded is not None:
        each.append(_fold_job(folded, arithmetic, threads, activation, adds))
    for entry in (AT.workers, AT.scratch_size, AT.index_size, AT.pack_scratch):
        # Workers are not in the same job at the same time, so their pieces must be of one size.
        largest = max(job[entry] for job in each)
        for job in each:
            job[entry] = largest
    weights = int(sum(job[AT.packed_size] for job in each)) - size_of_packed(0) * len(parts)
    for job in each:
        job[CHAIN_AT.copied] = job[AT.packed_size]
        job[AT.packed_size] += job[CHAIN_AT.copies]
    packed = int(sum(job[AT.packed_size] for job in each))
    jobs = np.concatenate(each)
    if weights < SERIAL_PACKING:
        jobs[AT.pack_workers] = 1
    pieces = AT.workers, AT.scratch_size, AT.pack_workers, AT.pack_scratch
    workers, size, packers, pack_size = (int(jobs[entry]) for entry in pieces)
    scratch = max(workers * size, packers * pack_size)
    if folded is not None:
        jobs[CHAIN_AT.products] = scratch = round_up(scratch, CACHE_LINE) + CACHE_LINE
        scratch += parts[0].shape.n * parts[0].shape.out_strides[0]
    jobs[CHAIN_AT.jobs] = len(each)
    jobs[CHAIN_AT.chain] = chain_work.address(arithmetic.numba)
    tables = [template.table for template in templates]
    order = tuple((part.weights, t.order) for part, t in zip(parts, templates, strict=True))
    threads, exchanged = max(workers, packers), parts[0].exchanged
    return Chain(jobs, tables, threads, packed, scratch + CACHE_LINE, order, exchanged)


def run(chain: Chain, x: Any, weights: Any, bias: Any, add: Any, out: Any) -> None:
    """Run a chain on flat arrays; `add` is None if it adds nothing."""
    if chain.exchanged:
        x, weights = weights, x
    packed = result_memory.empty(chain.packed, weights.dtype)
    with launch_lock(chain.workers):
        _run(chain, x, weights, packed, bias, add, out)


def pack(chain: Chain, weights: Any, bias: Any) -> np.ndarray:
    """Return flat weights, and copies of the bias, as `run_packed` takes them."""
    packed = execution.from_a_cache_line(chain.packed, weights.dtype)
    with launch_lock(chain.workers):
        _run(chain, _NOTHING, weights, packed, bias, None, _NOTHING)
    return packed


def run_packed(chain: Chain, x: Any, packed: np.ndarray, bias: Any, add: Any, out: Any) -> None:
    """Run a chain on flat arrays and packed weights."""
    with launch_lock(chain.workers):
        _run(chain, x, _NOTHING, packed, bias, add, out)


_NOTHING = np.empty(0)


def _run(
    chain: Chain, x: Any, weights: Any, packed: np.ndarray, bias: Any, add: Any, out: Any
) -> None:
    scratch = result_memory.empty(chain.scratch, packed.dtype)
    given = chain.jobs, x, weights, packed, scratch, bias, out if add is None else add, out
    check_complete(run_chain.call(given))
