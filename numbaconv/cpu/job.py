"""A job: what the workers of a convolution are given, as one array of integers.

Workers are compiled once for each element type and called through their address, so what they
need travels as addresses and sizes. A backend fills everything but the data into a template,
which is kept for the next call of the same problem; `run` adds the data and launches.

Each worker has a queue of its own, an equal run of the tasks, and helps with the others' when it is
done. So from call to call it reads and writes the same part of the arrays, which its core's cache
may still hold. With one queue for all, layers whose time goes into storing ran at 0.55 to 0.9 of
the speed (3 to 32 channels on 64 x 64 to 224 x 224 maps), others at 0.95 to 1.0.
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

# Addresses of functions, set in the template; 0 for those that the problem does not need. Without
# a PACKER the weights are read as they are.
TILE, BAND, FILL_HALO, ACTIVATE, PACKER, WORKER = range(6)
# Addresses of data, set by `run`. SCRATCH and INDICES are cut into a piece for each worker;
# SCRATCH begins at a cache line. QUEUES counts the tasks that were taken off each worker's queue.
X, WEIGHTS, PACKED, BIAS, OUT, SCRATCH, INDICES, QUEUES = range(6, 14)
# Address of a table of the backend's, set in the template.
TABLE = 14
# Sizes, set in the template: workers of each launch, elements of a worker's pieces, lanes of a
# vector; code of the activation.
PACK_WORKERS, WORKERS, SCRATCH_SIZE, INDEX_SIZE, LANES, ACTIVATION = range(15, 21)
# Rows of a panel of packed weights; 1: their order is k = (tap, channel), 0: (channel, tap);
# 1: where the weights come unpacked, each task packs those that it needs, into PANEL_SIZE
# elements of its scratch.
PACK_ROWS, PACK_TAPS_OUTER, PACK_IN_TASK, PANEL_SIZE = range(21, 25)
# Where in the table the taps of tasks begin that read the input in place; 0: none does, or, where
# there is no FILL_HALO, all do.
IN_PLACE = 25
# 1: results are stored past the caches where whole vectors of them are aligned.
STREAMS = 26
# How many elements ahead of time a tile asks for pixels; 0: it does not.
AHEAD = 27
# Where the backend's blocks, the layout of its halo tiles and the ConvShape begin.
BLOCKS, HALO, SHAPE = 28, 38, 47
# What gradients add: see `backends/chain.py` and `backends/weight_tasks.py`.
GRADIENT = SHAPE + SHAPE_SIZE
JOB_SIZE = GRADIENT + 20

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
    return np.zeros(jobs * job[WORKERS] * QUEUE_SIZE, np.int64)


@inline
def next_task(job, tasks, worker, queue):
    """Take a worker's next task: its number, or `tasks` if none is left, and the queue it was in.

    Queues are counted from the worker's own, which is 0. It begins there, and hands in the queue
    that it was given last. While weights are packed there may be more workers than queues: some
    then share one.
    """
    queues = job[WORKERS]
    while queue < queues:
        place = (worker + queue) % queues
        first, end = share(tasks, place, queues)
        number = first + fetch_add(shift(indices_at(job[QUEUES]), place * QUEUE_SIZE))
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
    job[QUEUES] = address_of(queues)
    job[WEIGHTS] = address_of(weights)
    job[PACKED] = address_of(packed)
    launch(job[PACKER], job[PACK_WORKERS], job)
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
        job[PACK_IN_TASK] = 0
    elif job[PACKER] == 0 or job[PACK_IN_TASK] != 0:
        packed = weights
    else:
        packed, _ = pack_weights(job, weights)
    queues = new_queues(job, 1)
    scratch = np.empty(job[WORKERS] * job[SCRATCH_SIZE] + CACHE_LINE, x.dtype)
    indices = np.empty(job[WORKERS] * job[INDEX_SIZE], np.int64)
    job[X] = address_of(x)
    job[PACKED] = address_of(packed)
    job[BIAS] = address_of(bias)
    job[OUT] = address_of(out)
    job[SCRATCH] = align(address_of(scratch))
    job[INDICES] = address_of(indices)
    job[QUEUES] = address_of(queues)
    launch(job[WORKER], job[WORKERS], job)
    # Only addresses were handed on: this use keeps the memory until the workers are done.
    return packed.size + scratch.size + indices.size + queues.size


@kernel()
def pack(template, weights):
    """Pack the weights of a problem for `run`."""
    return pack_weights(template.copy(), weights)
