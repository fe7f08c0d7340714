"""Launches on several threads: the one parallel region, and how many of the workers it runs.

`job.launch` calls `launch_workers` through its address, so that what is decided here is compiled
once. Any number of workers does all tasks of a job, and who does a task does not change its bits.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import prange, types

from numbaconv.codegen.jit import inline, native, parallel
from numbaconv.codegen.pointers import call, indices_at, shift
from numbaconv.cpu.job import (
    AT,
    QUEUE_SIZE,
    LaunchArguments,
    WorkerArguments,
    places,
    size_within,
)
from numbaconv.runtime.contention import (
    LEAST_LOSS,
    adapts,
    begin_launch,
    cpu_time,
    end_launch,
    is_suspected,
    judge_by_clock,
    judge_by_cpu_time,
    now,
)
from numbaconv.runtime.shared_table import entry_table


class Notes(NamedTuple):
    """What stands in the cache line of a worker's queue; as `NOTE`, the places there.

    Attributes
    ----------
    taken : int
        Tasks that were taken off the queue: see `job.next_task`.
    ended : int
        When the worker had no more to do.
    ran : int
        For how long it ran until then, if that is counted.
    seconds, nanoseconds : int
        What C's `clock_gettime` writes.
    """

    taken: int
    ended: int
    ran: int
    seconds: int
    nanoseconds: int


NOTE: Notes = places(Notes, 0)
size_within(Notes, QUEUE_SIZE)


class RegionArguments(NamedTuple):
    """What `region` takes: the address of a worker, how many, and the address of the job."""

    worker: int
    workers: int
    job: int


@parallel(RegionArguments)
def region(worker, workers, job):
    """Call worker(i, job) for i < workers, each on a thread of its own.

    This is the one parallel region of the package. Which worker does what is the workers' own
    affair: see `job.next_task`.
    """
    for i in prange(workers):
        number: Any = np.int64(i)
        call(worker, WorkerArguments(number, job, 0))


@inline
def line_of(job, worker):
    """The cache line of a worker's queue."""
    return shift(indices_at(job[AT.queues]), worker * QUEUE_SIZE)


@native(WorkerArguments)
def timed_work(worker, job, like):
    """Do what a worker of the launch does, and note when it ended."""
    entry, line = entry_table(), line_of(job, worker)
    spare = shift(line, NOTE.seconds)
    began, ran = 0, 0
    if job[AT.counts_cpu_time] != 0:
        began, ran = now(entry, spare), -cpu_time(entry, spare)
    call(job[AT.launched], WorkerArguments(worker, job, 0))
    ended = now(entry, spare)
    line[NOTE.ended] = ended
    if began != 0:  # the clock of CPU time is slow, and little can be lost in a short time
        line[NOTE.ran] = (
            ran + cpu_time(entry, spare) if ended - began > LEAST_LOSS else ended - began
        )


@inline
def launch_timed(entry, job, worker, workers, begin):
    """Launch workers that take their times, and learn from these."""
    launched = indices_at(job)
    launched[AT.launched] = worker
    launched[AT.counts_cpu_time] = 1 if is_suspected(entry, begin) else 0
    call(launched[AT.region], RegionArguments(launched[AT.timed_work], workers, job))
    end = now(entry, shift(line_of(launched, 0), NOTE.seconds))
    first, ran = end, 0
    for i in range(workers):
        line = line_of(launched, i)
        first, ran = min(first, line[NOTE.ended]), ran + line[NOTE.ran]
    if launched[AT.counts_cpu_time] != 0:
        judge_by_cpu_time(entry, begin, end, ran)
    else:
        judge_by_clock(entry, first, end)


@inline
def launch_adaptively(job, worker, workers):
    """Launch as many workers as pay."""
    entry, launched = entry_table(), indices_at(job)
    begin = now(entry, shift(line_of(launched, 0), NOTE.seconds))
    usable = begin_launch(entry, workers, begin)
    if usable == 1:
        call(worker, WorkerArguments(0, job, 0))
    elif usable > launched[AT.workers]:  # there are too few lines for notes: workers that pack
        call(launched[AT.region], RegionArguments(worker, usable, job))
    else:
        launch_timed(entry, job, worker, usable, begin)
    end_launch(entry)


@native(LaunchArguments)
def launch_workers(job, worker, workers):
    """Run a job by at most so many of a worker."""
    if adapts():
        launch_adaptively(job, worker, workers)
    else:
        call(indices_at(job)[AT.region], RegionArguments(worker, workers, job))


def set_launch(job: np.ndarray, threads: int) -> None:
    """Write into a job what its launches on so many threads call."""
    if threads > 1:
        job[AT.region] = region.address(types.int64)
        job[AT.launch] = launch_workers.address(types.int64)
        job[AT.timed_work] = timed_work.address(types.int64)
