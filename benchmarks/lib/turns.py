"""Calls that are timed in turn, so that a busy machine slows all of them alike."""

import contextlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import numba as nb

Run = Callable[[], Any]
Clock = Callable[[], float]


def find_clock(cpu: bool) -> Clock:
    """Return the clock: of the wall, or of the process, which is then held to one thread."""
    if not cpu:
        return time.perf_counter
    nb.set_num_threads(1)
    with contextlib.suppress(ImportError):
        import cv2

        cv2.setNumThreads(1)
    return time.process_time


def in_turn(calls: list[Run | None], passes: int, least: float, clock: Clock) -> list[float]:
    """The median seconds of each call: one or more of each in every pass."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(passes):
        for call, seconds in zip(calls, times, strict=True):
            end = time.perf_counter() + least
            while call is not None:
                start = clock()
                call()
                seconds.append(clock() - start)
                if time.perf_counter() > end:
                    break
    return [statistics.median(each) if each else float("nan") for each in times]


def least_in_turn(calls: list[Run], turns: int) -> list[float]:
    """The least CPU time of each call, in milliseconds: one of each in every turn."""
    found = [float("inf")] * len(calls)
    for _ in range(turns):
        for i, call in enumerate(calls):
            begin = time.process_time()
            call()
            found[i] = min(found[i], 1e3 * (time.process_time() - begin))
    return found
