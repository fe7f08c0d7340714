"""Launches on several threads: the one parallel region, and how many of the workers it runs.

`job.launch` calls `launch_workers` through its address, so that what is decided here is compiled
once. Any number of workers does all tasks of a job, and who does a task does not change its bits.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import prange, types

from numbaconv.codegen.arguments import Indices
from numbaconv.codegen.jit import inline, native, parallel
from numbaconv.codegen.pointers import add_ordered, call, call_for_integer, indices_at, shift
from numbaconv.cpu.job import (
    AT,
    JOB_SIZE,
    QUEUE_SIZE,
    LaunchArguments,
    WorkerArguments,
    places,
    size_within,
)
from numbaconv.runtime import openmp
from numbaconv.runtime.contention import (
    CLOCK,
    CPU_CLOCK,
    LEAST_LOSS,
    adapts,
    begin_launch,
    judge,
    read_clock,
)
from numbaconv.runtime.shared_table import AT as TABLE
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


@parallel(LaunchArguments)
def region(worker, workers, job):
    """Call worker(i, job) for i < workers, each on a thread of its own.

    This is the one parallel region of the package. Which worker does what is the workers' own
    affair: see `job.next_task`.
    """
    for i in prange(workers):
        number: Any = np.int64(i)
        call(worker, WorkerArguments(number, job, 0))


_INT = (1 << 32) - 1  # functions that return an int leave the other half undefined


class MemberArguments(NamedTuple):
    """What a thread of a team takes."""

    job: Indices


@native(MemberArguments)
def member(job):
    """Do what falls to a thread of a team: one worker or none, all where it has no other thread."""
    entry = entry_table()
    number = call_for_integer(entry[TABLE.omp_thread], ()) & _INT
    threads = call_for_integer(entry[TABLE.omp_threads], ()) & _INT
    for i in range(number, job[AT.members], threads):
        call(job[AT.member_work], WorkerArguments(i, job, 0))


class TeamArguments(NamedTuple):
    """What `GOMP_parallel` takes."""

    function: int
    data: int
    threads: int
    flags: int


@native(LaunchArguments)
def team(worker, workers, job):
    """Do what `region` does, by a team of OpenMP itself: see `runtime.openmp`.

    The caller must not hold Python's lock, for which others would wait meanwhile.
    Teams are as large as those of Numba, all alike: OpenMP ends threads that a smaller one leaves
    out, and starts new ones for the next.
    """
    entry, launched = entry_table(), indices_at(job)
    launched[AT.member_work], launched[AT.members] = worker, workers
    threads = call_for_integer(entry[TABLE.get_num_threads], ()) & _INT
    call(entry[TABLE.omp_parallel], TeamArguments(launched[AT.member], job, threads, 0))


class TimedWorkArguments(NamedTuple):
    """What a worker takes, for one to which the type of elements does not matter."""

    worker: int
    job: Indices
    like: int


@native(TimedWorkArguments)
def timed_work(worker, job, like):
    """Do what a worker of the launch does, and note when it ended."""
    entry, line = entry_table(), shift(indices_at(job[AT.queues]), worker * QUEUE_SIZE)
    spare, began, ran = shift(line, NOTE.seconds), 0, 0
    if job[AT.counts_cpu_time] != 0:
        began, ran = read_clock(entry, CLOCK, spare), -read_clock(entry, CPU_CLOCK, spare)
    call(job[AT.launched], WorkerArguments(worker, job, 0))
    ended = read_clock(entry, CLOCK, spare)
    line[NOTE.ended] = ended
    if began != 0:
        # The CPU clock is slow, and in a short time little can be lost.
        late = ended - began > LEAST_LOSS
        line[NOTE.ran] = ran + read_clock(entry, CPU_CLOCK, spare) if late else ended - began


@inline
def launch_timed(entry, job, worker, workers, begin):
    """Launch workers that note their times, and learn from these."""
    launched = indices_at(job)
    launched[AT.launched] = worker
    launched[AT.counts_cpu_time] = 1 if begin < entry[TABLE.suspected_until] else 0
    call(launched[AT.region], LaunchArguments(launched[AT.timed_work], workers, job))
    notes = indices_at(launched[AT.queues])
    end = read_clock(entry, CLOCK, shift(notes, NOTE.seconds))
    first, ran = end, 0
    for i in range(0, workers * QUEUE_SIZE, QUEUE_SIZE):
        ended = notes[i + NOTE.ended]
        first = ended if ended < first else first
        ran += notes[i + NOTE.ran]
    judge(entry, begin, end, first, ran)


@native(LaunchArguments)
def launch_workers(worker, workers, job):
    """Run a job by as many of a worker as pay, and at most by so many."""
    entry, launched = entry_table(), indices_at(job)
    begin = read_clock(entry, CLOCK, shift(indices_at(launched[AT.queues]), NOTE.seconds))
    usable = begin_launch(entry, workers, begin)
    if usable == 1:
        call(worker, WorkerArguments(0, job, 0))
    elif usable > launched[AT.workers]:  # they pack, and have too few lines for notes
        call(launched[AT.region], LaunchArguments(worker, usable, job))
    else:
        launch_timed(entry, job, worker, usable, begin)
    add_ordered(entry, TABLE.in_flight, -1)


def set_launch(job: np.ndarray, threads: int) -> None:
    """Write into a job what its launches on so many threads call."""
    if threads > 1:
        if openmp.is_used():
            job[AT.launch] = job[AT.region] = team.address(types.int64)
            job[AT.member] = member.address(types.int64)
        else:
            job[AT.launch] = job[AT.region] = region.address(types.int64)
        if adapts():
            job[AT.launch] = launch_workers.address(types.int64)
            job[AT.timed_work] = timed_work.address(types.int64)


def for_compiled_callers(jobs: np.ndarray) -> np.ndarray:
    """Return jobs for callers that may hold Python's lock: `region` lets it go, `team` does not."""
    copies = jobs.copy()
    each = copies.reshape(-1, JOB_SIZE)
    each[:, AT.taken] = 0
    if each[:, AT.region].any() and openmp.is_used():
        lets_go = region.address(types.int64)
        for place in (AT.launch, AT.region):
            each[each[:, place] == team.address(types.int64), place] = lets_go
    return copies
