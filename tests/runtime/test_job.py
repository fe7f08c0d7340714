"""Which worker is given which task."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest

from numbaconv.cpu.job import JOB_SIZE, QUEUE_SIZE, QUEUES, WORKERS, next_task


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
    job[WORKERS], job[QUEUES] = queues, counters.ctypes.data
    for worker in reversed(range(workers)):
        take_all(job, tasks, worker, taken)
    assert (taken == 1).all()
    assert not counters[queues * QUEUE_SIZE :].any(), "counted behind the last queue"
