"""Which worker is given which task."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest

from numbaconv.cpu import job
from numbaconv.cpu.gradients import adjoint_chain, weight_tasks
from numbaconv.cpu.im2col.panels import PanelBlocks
from numbaconv.cpu.job import AT, JOB_SIZE, QUEUE_SIZE, next_task
from numbaconv.problem.shape import SHAPE_SIZE


@numba.njit
def take_all(job: Any, tasks: int, worker: int, taken: Any) -> None:
    """Do a worker's part: count each task that it is given."""
    number, queue = next_task(job, tasks, worker, 0)
    while number < tasks:
        taken[number] += 1
        number, queue = next_task(job, tasks, worker, queue)


@pytest.mark.parametrize(("queues", "workers"), [(1, 1), (1, 5), (2, 7), (3, 3), (4, 2), (5, 1)])
@pytest.mark.parametrize("tasks", [0, 1, 3, 13])
def test_each_task_is_taken_once(tasks: int, queues: int, workers: int):
    """Also if there are more workers than queues, as there may be while weights are packed."""
    counters = np.zeros((queues + workers) * QUEUE_SIZE, np.int64)
    job, taken = np.zeros(JOB_SIZE, np.int64), np.zeros(tasks, np.int64)
    job[AT.workers], job[AT.queues] = queues, counters.ctypes.data
    for worker in reversed(range(workers)):
        take_all(job, tasks, worker, taken)
    assert (taken == 1).all()
    assert not counters[queues * QUEUE_SIZE :].any(), "counted behind the last queue"


@pytest.mark.parametrize(
    ("workers", "apart"), [(1, 0), (2, 1 << 20), (16, 1 << 20), (64, 1 << 18), (512, 1 << 15)]
)
def test_scratch_of_workers_lies_apart(workers: int, apart: int):
    """By so much that the hardware reads none of a neighbour's, and by less where they are many."""
    header = job.new_template()
    header[AT.workers], header[AT.itemsize] = workers, 8
    job.set_scratch(header, 100)
    assert header[AT.scratch_size] == 100 + apart // 8
    job.set_scratch(header, 0)
    assert header[AT.scratch_size] == 0, "scratch that nobody uses"


def test_parts_of_a_job_do_not_overlap():
    assert tuple(AT) == tuple(range(job.BLOCKS))
    begins = [job.BLOCKS, job.HALO, job.SHAPE, job.GRADIENT, job.JOB_SIZE]
    sizes = [job.MOST_BLOCKS, job.MOST_HALO, SHAPE_SIZE, job.MOST_GRADIENT]
    for begin, size, end in zip(begins, sizes, begins[1:], strict=False):
        assert begin + size <= end
    assert weight_tasks.GRADIENT_BLOCKS + weight_tasks.BLOCKS_SIZE <= job.JOB_SIZE
    assert adjoint_chain.TAPS + adjoint_chain.TAPS_SIZE <= job.JOB_SIZE


def test_a_part_that_a_job_has_no_room_for():
    with pytest.raises(ImportError, match="PanelBlocks has 12 integers, a job has room for 11"):
        job.size_within(PanelBlocks, 11)
