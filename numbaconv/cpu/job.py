"""A job: what the workers of a convolution are given, as one array of integers.

Workers are compiled once for each element type and called through their address, so what they
need travels as addresses and sizes. A backend fills everything but the data into a template,
which is kept for the next call of the same problem; `carry_out` adds the data and launches.

Each worker has a queue of its own, an equal run of the tasks, and helps with the others' when it is
done. So from call to call it reads and writes the same part of the arrays, which its core's cache
may still hold.
"""

from typing import Any, NamedTuple

import numpy as np
from numba.core import config

from numbaconv.codegen.arguments import Elements, Indices
from numbaconv.codegen.jit import from_python, inline, native
from numbaconv.codegen.pointers import (
    CACHE_LINE,
    align,
    behind,
    call,
    data_in,
    exchange_ordered,
    fetch_add,
    indices_at,
    shift,
    size_in,
)
from numbaconv.codegen.twins import stands_for
from numbaconv.cpu.blocking import share
from numbaconv.problem.shape import SHAPE_SIZE
from numbaconv.runtime.c_memory import allocate, free
from numbaconv.runtime.capture import Run, capturing
from numbaconv.runtime.lent_memory import give_back, lend
from numbaconv.runtime.shared_table import entry_table
from numbaconv.runtime.threads import NO_LOCK, launch_lock


class Header(NamedTuple):
    """What all jobs begin with; as `AT`, the places where it lies: ``job[AT.lanes]``.

    What calls write stands first, in as few cache lines as it takes: the others stay in the caches
    of all cores.

    Attributes
    ----------
    taken : int
        1: a call has the template itself, not a copy: see `take_job`.
    x, weights, packed, bias, add, out : int
        Addresses of the data, set by `carry_out`.
    scratch : int
        Address of memory of the elements' type: a piece for each worker. It begins at a cache line.
    indices : int
        Address of memory for integers: a piece for each worker.
    queues : int
        Address of the counters of the tasks that were taken off each worker's queue.
    packs_in_task : int
        1: the weights of this call come unpacked, and each task packs those that it needs.
    member_work, members : int
        Address of the worker that a team is to run, and how many of it.
    launched : int
        Address of the worker that is launched, for `timed_work`.
    counts_cpu_time : int
        1: in this launch the CPU time of each worker is counted.
    tile, prefetching_tile, band : int
        Addresses of register tiles. Those of functions are set in the template, and are 0 for what
        the problem does not need.
    cut_off : int
        Address of the function that makes integers of sums.
    fill_halo : int
        Address of the function that copies a halo tile.
    add_tile : int
        Address of the function that adds an array to a tile.
    activate : int
        Address of the activation.
    store : int
        Address of the function that stores a row of results in another dtype.
    packer : int
        Address of the worker that packs weights; 0: they are read as they are, or tasks pack them.
    pack_panel : int
        Address of the function that packs a panel.
    worker : int
        Address of the worker that does the tasks.
    launch, region, timed_work : int
        Addresses of what launches on several threads call: see `launching`. `launch` is
        `launch_workers`, or `region` itself.
    member : int
        Address of what each thread of a team calls.
    outside : int
        Address of three elements, set in the template: of what padding of zeros consists. That of
        channel c is element c & 1 (complex numbers are two channels each), so any two channels in a
        row have theirs side by side.
    table : int
        Address of the engine's table, set in the template.
    pack_workers, workers : int
        Workers of the launch that packs, and of the one that does the tasks.
    scratch_size, index_size : int
        Elements of a worker's piece of `scratch`, and of its piece of `indices`.
    itemsize, in_size : int
        Bytes of an element, and of one of the input where that has a dtype of its own.
    lanes : int
        Lanes of a vector.
    pack_rows : int
        Rows of a panel of packed weights.
    pack_taps_outer : int
        1: their order is k = (tap, channel). 0: (channel, tap).
    weights_in_panels : int
        1: an engine's own packer gets weights in panels of `pack_rows`, k = (tap, channel).
    pack_in_task : int
        1: weights that come unpacked are packed by each task that needs them.
    panel_size : int
        Elements of the scratch that a panel takes which a task has packed.
    packed_size, pack_scratch : int
        Elements of packed weights, with slack; and of scratch of each worker that packs.
    taps_in_place : int
        Where in the table the taps begin for tasks that read the input in place. It is 0 if no task
        does, and if all do: then there is no `fill_halo`.
    nontemporal : int
        1: results are stored past the caches where whole vectors of them are aligned.
    prefetch_distance : int
        How many elements ahead of time a tile asks for pixels; 0: it does not.
    asks_for_results : int
        1: lines of the output are asked for before the results that go there are computed.
    empty_before, empty_behind : int
        Columns of a row's first and last outputs that read nothing but padding, and have tiles of
        their own. Only where a task has whole rows.
    """

    taken: int
    x: int
    weights: int
    packed: int
    bias: int
    add: int
    out: int
    scratch: int
    indices: int
    queues: int
    packs_in_task: int
    member_work: int
    members: int
    launched: int
    counts_cpu_time: int
    tile: int
    prefetching_tile: int
    band: int
    cut_off: int
    fill_halo: int
    add_tile: int
    activate: int
    store: int
    packer: int
    pack_panel: int
    worker: int
    launch: int
    region: int
    timed_work: int
    member: int
    outside: int
    table: int
    pack_workers: int
    workers: int
    scratch_size: int
    index_size: int
    itemsize: int
    in_size: int
    lanes: int
    pack_rows: int
    pack_taps_outer: int
    weights_in_panels: int
    pack_in_task: int
    panel_size: int
    packed_size: int
    pack_scratch: int
    taps_in_place: int
    nontemporal: int
    prefetch_distance: int
    asks_for_results: int
    empty_before: int
    empty_behind: int


def places(part: Any, first: int) -> Any:
    """The places of a part of a job, a class of named integers, that begins at `first`."""
    return part(*range(first, first + len(part._fields)))


AT: Header = places(Header, 0)

# Behind the header lie the engine's blocks, the layout of its halo tiles, the ConvShape, and what
# gradients add: see `gradients.adjoint_chain` and `gradients.weight_tasks`.
MOST_BLOCKS, MOST_HALO, MOST_GRADIENT = 12, 12, 29
BLOCKS = len(Header._fields)
HALO = BLOCKS + MOST_BLOCKS
SHAPE = HALO + MOST_HALO
GRADIENT = SHAPE + SHAPE_SIZE
JOB_SIZE = GRADIENT + MOST_GRADIENT


def size_within(part: Any, most: int) -> int:
    """The integers of a part of a job, of which there is room for so many; checked at import."""
    size = len(part._fields)
    if size > most:
        raise ImportError(f"{part.__name__} has {size} integers, a job has room for {most}")
    return size


# From one queue's counter to the next: a cache line, so that workers do not wait for each other.
QUEUE_SIZE = CACHE_LINE // 8


class WorkerArguments(NamedTuple):
    """What a worker takes: its number, the job, and a pointer that only says the element type."""

    worker: int
    job: Indices
    like: Elements


@inline
def set_entries(job, first, values):
    """Write a tuple of integers (a ConvShape, a backend's blocks) into a job."""
    for i in range(len(values)):
        job[first + i] = values[i]


# Outside of most images.
_ZEROS = np.zeros(3)


def new_template():
    """A job with nothing but zeros outside. Without JIT its addresses are Python objects."""
    job = np.zeros(JOB_SIZE, object if config.DISABLE_JIT else np.int64)
    job[AT.outside] = _ZEROS if config.DISABLE_JIT else _ZEROS.ctypes.data
    return job


# Between the scratch of two workers, and between all of them. What one reads at a stride makes the
# hardware read on beyond the end, and the neighbour has to fetch its lines back before it can write
# them; a Zen 4 reads on by some thirty strides, across pages. The gaps are not touched, so they
# cost addresses and no memory, but memory of more than 32 MB would be new in each call.
_GAP_BYTES, _GAPS_BYTES = 1 << 20, 16 << 20


def set_scratch(job: np.ndarray, size: int) -> None:
    """Write into a job how many elements of scratch each of its workers has for itself."""
    workers = int(job[AT.workers])
    gap = min(_GAP_BYTES, _GAPS_BYTES // workers) if size and workers > 1 else 0
    job[AT.scratch_size] = size + gap // int(job[AT.itemsize])


@inline
def next_task(job, tasks, worker, queue):
    """Take a worker's next task: its number, or `tasks` if none is left, and the queue it was in.

    Queues are counted from the worker's own, which is 0. It begins there, and hands in the queue
    that it was given last. While weights are packed there may be more workers than queues: some
    then share one.
    """
    queues = job[AT.workers]
    while queue < queues:
        place = (worker + queue) % queues
        first, end = share(tasks, place, queues)
        number = first + fetch_add(shift(indices_at(job[AT.queues]), place * QUEUE_SIZE))
        if number < end:
            return number, queue
        queue += 1
    return tasks, queue


class LaunchArguments(NamedTuple):
    """What launches take: the address of a worker, how many, and the address of the job."""

    worker: int
    workers: int
    job: int


@inline
def launch(job, worker, workers):
    """Run a job, of which this is the address, by so many of a worker; a single one right here."""
    if workers == 1:
        call(worker, WorkerArguments(0, job, 0))
    else:
        call(indices_at(job)[AT.launch], LaunchArguments(worker, workers, job))


# --- Memory of a call -------------------------------------------------------------------------

# What functions that Python calls return.
NO_MEMORY, COMPLETE = range(2)


class Workspace(NamedTuple):
    """Memory of one call: the addresses of its parts. `queues` is 0 if no memory was left.

    Attributes
    ----------
    queues : int
        Counters of two launches, which are zeros.
    jobs : int
        Copies of the templates: behind the counters, so that none of these is in a line with them.
    indices, scratch : int
        The workers' pieces. `scratch` need not begin at a cache line.
    packed : int
        Packed weights.
    """

    queues: Any
    jobs: Any
    indices: Any
    scratch: Any
    packed: Any


@inline
def _take_workspace(templates, integers, scratch, packed, like):
    entry = entry_table()
    given = indices_at(templates)
    counters = 2 * (integers // JOB_SIZE) * given[AT.workers] * QUEUE_SIZE
    indices = given[AT.workers] * given[AT.index_size]
    queues = allocate(entry, 8 * (counters + integers + indices))
    elements = allocate(entry, scratch * given[AT.itemsize])
    panels = lend(entry, packed * given[AT.itemsize])
    if queues == 0 or elements == 0 or panels == 0:
        free(entry, queues)
        free(entry, elements)
        if panels != 0:
            give_back(entry, panels)
        return Workspace(0, 0, 0, 0, 0)
    words = indices_at(queues)
    for i in range(counters):
        words[i] = 0
    for i in range(integers):
        words[counters + i] = given[i]
    jobs = queues + 8 * counters
    return Workspace(queues, jobs, jobs + 8 * integers, elements, panels)


@stands_for(_take_workspace)
def take_workspace(templates, integers, scratch, packed, like):
    """Memory for a call of jobs that are templates yet.

    Parameters
    ----------
    templates, integers : int
        Address of the templates, which lie one behind the other, and their size.
    scratch, packed : int
        Elements of these parts; at least 1.
    like : int
        Address of elements, for their type where addresses are arrays.
    """
    counters = 2 * (integers // JOB_SIZE) * templates[AT.workers] * QUEUE_SIZE
    return Workspace(
        np.zeros(counters, np.int64),
        templates.copy(),
        np.empty(templates[AT.workers] * templates[AT.index_size], np.int64),
        np.empty(scratch, like.dtype),
        np.empty(packed, like.dtype),
    )


@inline
def _give_workspace(space):
    entry = entry_table()
    free(entry, space.queues)
    free(entry, space.scratch)
    give_back(entry, space.packed)


@stands_for(_give_workspace)
def give_workspace(space):
    """Give back the memory of a call."""


@inline
def _no_memory(space):
    return space.queues == 0


@stands_for(_no_memory)
def no_memory(space):
    """Whether there was none for a call."""
    return False


@inline
def _take_job(template, space):
    if exchange_ordered(indices_at(template), AT.taken, 1) == 0:
        return template
    return space.jobs


@stands_for(_take_job)
def take_job(template, space):
    """The job of a call: the template itself, or its copy while another call has it.

    What a call writes there, the next one writes again. The rest of a copy would be new to the
    other cores, and they would wait for it: a microsecond.
    """
    return space.jobs


@inline
def _give_job(job):
    exchange_ordered(indices_at(job), AT.taken, 0)


@stands_for(_give_job)
def give_job(job):
    """Give back the job of a call."""


@inline
def size_of_packed(weights):
    """Elements that so many packed weights take: with slack for the vector that ends a panel."""
    return weights + CACHE_LINE


# --- The way in -------------------------------------------------------------------------------


@inline
def carry_out(template, x, weights, packed, packed_size, bias, add, out):
    """Convolve: pack the weights unless they come packed, then work.

    Parameters
    ----------
    template : int
        Address of a job without its data.
    x, weights, packed, bias, add, out : int
        Addresses of contiguous elements of one dtype. `bias` has C_out of them, zeros for none.
        `add` lies as `out` does, in other memory; of jobs that add nothing it is not read.
    packed_size : int
        0: the weights do not come packed.

    Returns
    -------
    int
        COMPLETE or NO_MEMORY.
    """
    given = indices_at(template)
    packs = packed_size == 0 and given[AT.packer] != 0 and given[AT.pack_in_task] == 0
    panels = given[AT.packed_size] if packs else 1
    scratch = given[AT.workers] * given[AT.scratch_size] + CACHE_LINE
    if packs:
        scratch = max(scratch, given[AT.pack_workers] * given[AT.pack_scratch] + CACHE_LINE)
    # Weights, not x: images of filters have dtypes of their own.
    space = take_workspace(template, JOB_SIZE, scratch, panels, weights)
    if no_memory(space):
        return NO_MEMORY
    at = take_job(template, space)
    job = indices_at(at)
    job[AT.queues] = space.queues
    job[AT.x], job[AT.bias], job[AT.add], job[AT.out] = x, bias, add, out
    job[AT.scratch], job[AT.indices] = align(space.scratch), space.indices
    job[AT.packs_in_task] = 0 if packed_size > 0 else job[AT.pack_in_task]
    if packed_size > 0:
        job[AT.packed] = packed
    elif packs:
        job[AT.weights], job[AT.packed] = weights, space.packed
        launch(at, job[AT.packer], job[AT.pack_workers])
        job[AT.queues] = behind(space.queues, job[AT.workers] * QUEUE_SIZE, 8)
    else:
        job[AT.packed] = weights
    launch(at, job[AT.worker], job[AT.workers])
    give_job(at)
    give_workspace(space)
    return COMPLETE


@native(from_python)
def run(given):
    """Convolve flat arrays: `carry_out` for Python.

    It is given a template, x, weights, packed, bias, add and out. `packed` is empty, or from
    `pack`.
    """
    return carry_out(
        data_in(given, 0),
        data_in(given, 1),
        data_in(given, 2),
        data_in(given, 3),
        size_in(given, 3),
        data_in(given, 4),
        data_in(given, 5),
        data_in(given, 6),
    )


@native(from_python)
def pack(given):
    """Pack the weights of a problem for `run`.

    It is given a template, weights, and an array of `packed_size` elements.
    """
    template, weights = data_in(given, 0), data_in(given, 1)
    needs = indices_at(template)
    scratch = needs[AT.pack_workers] * needs[AT.pack_scratch] + CACHE_LINE
    space = take_workspace(template, JOB_SIZE, scratch, 1, weights)
    if no_memory(space):
        return NO_MEMORY
    job = indices_at(space.jobs)
    job[AT.scratch] = align(space.scratch)
    job[AT.queues], job[AT.weights], job[AT.packed] = space.queues, weights, data_in(given, 2)
    launch(space.jobs, job[AT.packer], job[AT.pack_workers])
    give_workspace(space)
    return COMPLETE


def check_complete(status: int) -> None:
    """Raise MemoryError if a function above, or one like them, had no memory."""
    if status != COMPLETE:
        raise MemoryError("no memory for the scratch of a convolution")


def execute(
    template: Any,
    x: np.ndarray,
    weights: np.ndarray,
    packed: np.ndarray,
    bias: np.ndarray,
    out: np.ndarray,
    add: np.ndarray | None = None,
) -> None:
    """Carry out the job of a template, or write it down where this thread captures.

    The arrays are flat: see `run`. `add` is None where the job adds nothing.
    """
    captured = capturing()
    if captured is not None:
        captured.operations.append(Run(template, x, weights, packed, bias, out, add))
        return
    given = template.job, x, weights, packed, bias, out if add is None else add, out
    packs = packed.size == 0 and template.job[AT.packer] != 0
    launches = (AT.workers, AT.pack_workers) if packs else (AT.workers,)
    run_given(given, max(template.job[at] for at in launches))


def run_given(given: tuple[np.ndarray, ...], workers: int) -> None:
    """Call `run`, which launches so many workers."""
    lock = launch_lock(workers)
    if lock is NO_LOCK:  # to enter a context takes as long as a small layer's tasks
        check_complete(run.call(given))
        return
    with lock:
        check_complete(run.call(given))
