"""A job: what the workers of a convolution are given, as one array of integers.

Workers are compiled once for each element type and called through their address, so what they
need travels as addresses and sizes. A backend fills everything but the data into a template,
which is kept for the next call of the same problem; `run` adds the data and launches.

Each worker has a queue of its own, an equal run of the tasks, and helps with the others' when it is
done. So from call to call it reads and writes the same part of the arrays, which its core's cache
may still hold.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import prange
from numba.core import config

from numbaconv.codegen.arguments import Elements, Indices
from numbaconv.codegen.jit import inline, kernel
from numbaconv.codegen.pointers import (
    CACHE_LINE,
    address_of,
    align,
    call,
    fetch_add,
    indices_at,
    shift,
)
from numbaconv.cpu.blocking import share
from numbaconv.problem.shape import SHAPE_SIZE


class Header(NamedTuple):
    """What all jobs begin with; as `AT`, the places where it lies: ``job[AT.lanes]``.

    Attributes
    ----------
    tile, band : int
        Addresses of register tiles. Those of functions are set in the template, and are 0 for what
        the problem does not need.
    fill_halo : int
        Address of the function that copies a halo tile.
    activate : int
        Address of `activation.activate`.
    packer : int
        Address of the worker that packs weights; 0: they are read as they are.
    worker : int
        Address of the worker that does the tasks.
    x, weights, packed, bias, out : int
        Addresses of the data, set by `run`.
    scratch : int
        Address of memory of the elements' type: a piece for each worker. It begins at a cache line.
    indices : int
        Address of memory for integers: a piece for each worker.
    queues : int
        Address of the counters of the tasks that were taken off each worker's queue.
    table : int
        Address of the engine's table, set in the template.
    pack_workers, workers : int
        Workers of the launch that packs, and of the one that does the tasks.
    scratch_size, index_size : int
        Elements of a worker's piece of `scratch`, and of its piece of `indices`.
    lanes : int
        Lanes of a vector.
    activation : int
        Number of the activation.
    pack_rows : int
        Rows of a panel of packed weights.
    pack_taps_outer : int
        1: their order is k = (tap, channel). 0: (channel, tap).
    pack_in_task : int
        1: weights that come unpacked are packed by each task that needs them.
    panel_size : int
        Elements of the scratch that a panel takes which a task has packed.
    taps_in_place : int
        Where in the table the taps begin for tasks that read the input in place. It is 0 if no task
        does, and if all do: then there is no `fill_halo`.
    nontemporal : int
        1: results are stored past the caches where whole vectors of them are aligned.
    prefetch_distance : int
        How many elements ahead of time a tile asks for pixels; 0: it does not.
    """

    tile: int
    band: int
    fill_halo: int
    activate: int
    packer: int
    worker: int
    x: int
    weights: int
    packed: int
    bias: int
    out: int
    scratch: int
    indices: int
    queues: int
    table: int
    pack_workers: int
    workers: int
    scratch_size: int
    index_size: int
    lanes: int
    activation: int
    pack_rows: int
    pack_taps_outer: int
    pack_in_task: int
    panel_size: int
    taps_in_place: int
    nontemporal: int
    prefetch_distance: int


def places(part: Any, first: int) -> Any:
    """The places of a part of a job, a class of named integers, that begins at `first`."""
    return part(*range(first, first + len(part._fields)))


AT: Header = places(Header, 0)

# Behind the header lie the engine's blocks, the layout of its halo tiles, the ConvShape, and what
# gradients add: see `gradients.adjoint_chain` and `gradients.weight_tasks`.
MOST_BLOCKS, MOST_HALO, MOST_GRADIENT = 11, 9, 24
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


def new_template():
    """An empty job. Without JIT its addresses are Python objects."""
    return np.zeros(JOB_SIZE, object if config.DISABLE_JIT else np.int64)


@inline
def new_queues(job, jobs):
    """Counters for so many jobs, one a worker: none of their tasks has been taken."""
    return np.zeros(jobs * job[AT.workers] * QUEUE_SIZE, np.int64)


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


@kernel(parallel=True)
def launch(worker, workers, job):
    """Call worker(i, job) for i < workers, each on a thread of its own; a single one right here.

    This is the one parallel region of the package. Which worker does what is the workers' own
    affair: see `next_task`.
    """
    if workers == 1:
        call(worker, WorkerArguments(0, address_of(job), 0))
    else:
        for i in prange(workers):
            number: Any = np.int64(i)
            call(worker, WorkerArguments(number, address_of(job), 0))


@inline
def pack_weights(job, weights):
    """Launch the packing of weights."""
    # Slack for the vector that ends the last panel.
    packed = np.empty(weights.size + CACHE_LINE, weights.dtype)
    queues = new_queues(job, 1)
    job[AT.queues] = address_of(queues)
    job[AT.weights] = address_of(weights)
    job[AT.packed] = address_of(packed)
    launch(job[AT.packer], job[AT.pack_workers], job)
    # Only its address was handed on: this use keeps the memory until the workers are done.
    return packed, queues.size


@kernel()
def run(template, x, weights, packed, bias, out):
    """Convolve flat arrays of one dtype: pack the weights unless they come packed, then work.

    Parameters
    ----------
    template : 1-D ndarray of int64
        From a backend's `plan`.
    x, weights, bias, out : 1-D contiguous ndarray
        `bias` has C_out entries, zeros for none.
    packed : 1-D contiguous ndarray
        From `pack`, or empty.
    """
    job = template.copy()
    if packed.size > 0:
        job[AT.pack_in_task] = 0
    elif job[AT.packer] == 0 or job[AT.pack_in_task] != 0:
        packed = weights
    else:
        packed, _ = pack_weights(job, weights)
    queues = new_queues(job, 1)
    scratch = np.empty(job[AT.workers] * job[AT.scratch_size] + CACHE_LINE, x.dtype)
    indices = np.empty(job[AT.workers] * job[AT.index_size], np.int64)
    job[AT.x] = address_of(x)
    job[AT.packed] = address_of(packed)
    job[AT.bias] = address_of(bias)
    job[AT.out] = address_of(out)
    job[AT.scratch] = align(address_of(scratch))
    job[AT.indices] = address_of(indices)
    job[AT.queues] = address_of(queues)
    launch(job[AT.worker], job[AT.workers], job)
    # Only addresses were handed on: this use keeps the memory until the workers are done.
    return packed.size + scratch.size + indices.size + queues.size


@kernel()
def pack(template, weights):
    """Pack the weights of a problem for `run`."""
    return pack_weights(template.copy(), weights)
