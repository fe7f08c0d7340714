"""How many workers launches get where others want the cores. All times are made up."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
import pytest

import numbaconv as nc
from numbaconv.codegen.pointers import indices_at
from numbaconv.cpu import execution
from numbaconv.cpu.job import AT as JOB
from numbaconv.runtime import contention, shared_table
from numbaconv.runtime.contention import LEAST_LOSS, MOST_PAUSE, PAUSE, SHARING, SUSPICION
from numbaconv.runtime.shared_table import AT, ENTRY
from tests.conftest import Script

if not contention.adapts() or numba.config.NUMBA_NUM_THREADS < 2:
    pytest.skip("launches have one worker, or are not timed", allow_module_level=True)

FIELDS = ("in_flight", "sharers", "shared_until", "suspected_until", "alone_until", "owed")
NEVER = 1 << 62
MS = 1_000_000


# --- Decisions --------------------------------------------------------------------------------


def judged(*launches: tuple[int, int, int], owed: int = 0) -> Any:
    """The table after launches that ended at 1000 ms: milliseconds taken, waited at the end, run.

    They are what `contention.judge` gets, in its own Python.
    """
    entry = np.zeros(shared_table.size(shared_table.Table), np.int64)
    entry[AT.owed] = owed * MS
    end = 1000 * MS
    for taken, waited, ran in launches:
        contention.judge(entry, end - taken * MS, end, end - waited * MS, ran * MS)
    return entry


@pytest.mark.parametrize("launch", [(40, 0, 0), (40, 1, 0), (40, 20, 40), (40, 30, 70)])
def test_a_launch_that_loses_nothing(launch: tuple[int, int, int]):
    """Its workers end together; or one has longer tasks, which one thread has too."""
    entry = judged(launch)
    assert entry[AT.suspected_until] == entry[AT.alone_until] == 0


def test_workers_that_end_far_apart_raise_a_suspicion():
    entry = judged((9, 8, 0), owed=70)
    assert entry[AT.suspected_until] == (1000 + 8 * SUSPICION) * MS
    assert entry[AT.alone_until] == entry[AT.owed] == 0


def test_a_loss_is_followed_by_launches_on_one_worker():
    entry = judged((9, 8, 2))
    assert entry[AT.alone_until] == (1000 + 7 * PAUSE) * MS
    assert entry[AT.suspected_until] == entry[AT.alone_until] + 7 * SUSPICION * MS
    assert entry[AT.owed] == 0


def test_no_loss_makes_a_long_pause():
    entry = judged((900, 890, 2))
    assert entry[AT.alone_until] == 1000 * MS + MOST_PAUSE


def test_small_losses_add_up():
    entry = judged((5, 0, 4))
    assert entry[AT.alone_until] == 0
    assert entry[AT.owed] == LEAST_LOSS
    entry = judged(*2 * [(5, 0, 4)])
    assert entry[AT.alone_until] == (1000 + 2 * PAUSE) * MS


def test_a_loss_of_less_than_was_won():
    """The others stay suspected."""
    entry = judged(*4 * [(3, 0, 5)], (9, 8, 2))
    assert entry[AT.alone_until] == 0
    assert entry[AT.owed] == -MS
    assert entry[AT.suspected_until] == (1000 + 7 * SUSPICION) * MS
    entry = judged(*900 * [(3, 0, 5)])
    assert entry[AT.owed] == -contention.MOST_CREDIT


@numba.njit
def _begin_launch(table: int, workers: int, begin: int) -> int:
    return contention.begin_launch(indices_at(table), workers, begin)


@pytest.mark.parametrize(
    ("cores", "in_flight", "workers"),
    [(2, 0, 2), (2, 1, 1), (2, 40, 1), (8, 0, 6), (8, 1, 4), (8, 2, 2), (8, 4, 1), (1, 0, 1)],
)
def test_launches_share_the_cores(cores: int, in_flight: int, workers: int):
    entry = judged()
    entry[AT.cores], entry[AT.in_flight] = cores, in_flight
    assert _begin_launch(entry.ctypes.data, 6, 5) == workers
    assert entry[AT.in_flight] == in_flight + 1


def test_launches_that_met_share_the_cores_for_a_while():
    entry = judged()
    entry[AT.cores] = 8
    begins = [(4, 5), (1, 6), (0, SHARING), (0, SHARING + 6), (1, SHARING + 7)]
    workers = []
    for in_flight, begin in begins:
        entry[AT.in_flight] = in_flight
        workers.append(_begin_launch(entry.ctypes.data, 8, begin))
    assert workers == [1, 1, 1, 8, 4]


def test_one_worker_for_a_while():
    entry = judged()
    entry[AT.cores], entry[AT.alone_until] = 8, 50
    assert _begin_launch(entry.ctypes.data, 6, 49) == 1
    entry[AT.in_flight] = 0
    assert _begin_launch(entry.ctypes.data, 6, 50) == 6


# --- Launches ---------------------------------------------------------------------------------


class Clock:
    """Stands for C's `clock_gettime`: milliseconds pass with each look, hardly any CPU time.

    Attributes
    ----------
    looks : int
        How often anybody looked at the time.
    time : int
        Nanoseconds.
    step : int
        Nanoseconds that pass with each look.
    met : callable
        Called when somebody looks.
    """

    def __init__(self) -> None:
        self.looks, self.time, self.step, self.cpu = 0, 1000 * MS, 0, 0
        self.met: Callable[[], object] = lambda: None
        self.lock = threading.Lock()
        kind = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
        self.function = kind(self._tell)

    def _tell(self, clock: int, place: int) -> int:
        with self.lock:
            if clock == contention.CPU_CLOCK:
                self.cpu += 1
                told = self.cpu
            else:
                self.looks += 1
                self.time += self.step
                told = self.time
        (ctypes.c_int64 * 2).from_address(place)[:] = divmod(told, contention.SECOND)
        self.met()
        return 0

    def looked(self) -> int:
        """How often anybody looked since this was asked last."""
        looks, self.looks = self.looks, 0
        return looks


# Looks at the time in launches of one worker, of two, and of two that are suspected.
ONE, TWO, SUSPECTED = 1, 4, 6


@pytest.fixture
def clock() -> Iterator[Clock]:
    """A made-up clock, and a table that knows of nothing yet; launches are planned for two."""
    made_up, before, threads = Clock(), ENTRY.copy(), numba.get_num_threads()
    numba.set_num_threads(2)
    image(RUN)  # compiled now
    for field in FIELDS:
        ENTRY[getattr(AT, field)] = 0
    ENTRY[AT.cores] = 2
    ENTRY[AT.clock_gettime] = shared_table.address_of_function(made_up.function)
    yield made_up
    for field in (*FIELDS, "cores", "clock_gettime"):
        ENTRY[getattr(AT, field)] = before[getattr(AT, field)]
    numba.set_num_threads(threads)


def numbers(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


X, W = numbers(1, 16, 30, 30), numbers(16, 16, 3, 3)
RUN = nc.prepare(W, padding=1)


def image(run: Any = RUN) -> Any:
    return run(X)


@numba.njit
def compiled(x, w):
    return nc.conv2d(x, w, padding=1)


def looks_of_calls(clock: Clock, calls: int) -> list[int]:
    """How often somebody looked at the time in each of so many calls."""
    clock.looked()
    return [clock.looked() for _ in range(calls) if image() is not None]


PROBLEMS: dict[str, Callable[[], Any]] = {
    "prepared": image,
    "direct": lambda: nc.conv2d(X, W, padding=1, backend="direct"),
    "im2col": lambda: nc.conv2d(X, W, padding=1, backend="im2col"),
    "depthwise": lambda: nc.conv2d(numbers(4, 67, 29, 31), numbers(67, 1, 3, 3), groups=67),
    "zones": lambda: nc.conv2d(
        numbers(1, 64, 15, 15), numbers(64, 64, 3, 3), dilation=6, padding=6
    ),
    "filter": lambda: nc.conv2d(numbers(1, 1, 257, 251), numbers(1, 1, 7, 7)),
    "chain": lambda: nc.conv_transpose2d(X, W, stride=2),
    "sums": lambda: nc.grad.conv2d_weight(X, W.shape, X, padding=1),
    "dots": lambda: nc.grad.conv2d_weight(
        numbers(2, 3, 60, 60), (8, 3, 5, 5), numbers(2, 8, 56, 56)
    ),
    "compiled": lambda: compiled(X, W),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_same_bits_by_one_worker(problem: str, clock: Clock):
    compute = PROBLEMS[problem]
    by_two = compute()
    compute()  # Python plans the first call from compiled code
    clock.looked()
    compute()
    launches, rest = divmod(clock.looked(), TWO)
    assert launches >= 1
    assert rest == 0
    ENTRY[AT.alone_until] = NEVER
    by_one = compute()
    assert clock.looked() == launches * ONE
    assert by_one.tobytes() == by_two.tobytes()
    assert ENTRY[AT.in_flight] == 0


def test_launches_that_lose_are_followed_by_some_on_one_worker(clock: Clock):
    """Until it is time to try again. There is no need for a second loss then."""
    clock.step = 3 * MS  # as if somebody had been held up at each step
    assert looks_of_calls(clock, 4) == [TWO, SUSPECTED, ONE, ONE]
    clock.time = int(ENTRY[AT.alone_until])
    assert looks_of_calls(clock, 2) == [SUSPECTED, ONE]


def test_launches_that_lose_nothing(clock: Clock):
    """Neither before a suspicion nor under one."""
    assert looks_of_calls(clock, 3) == 3 * [TWO]
    ENTRY[AT.suspected_until] = NEVER
    assert looks_of_calls(clock, 3) == 3 * [SUSPECTED]
    assert ENTRY[AT.alone_until] == 0


def test_more_workers_that_pack_than_queues(clock: Clock, monkeypatch: pytest.MonkeyPatch):
    """There is no line for the notes of each: they are not timed."""
    write_job = execution.write_job

    def write_for_one(*arguments: Any) -> Any:
        job = write_job(*arguments)
        job[JOB.workers] = 1
        return job

    x = numbers(1, 16, 31, 29)
    expected = nc.conv2d(x, W)
    monkeypatch.setattr(execution, "write_job", write_for_one)
    monkeypatch.setattr("numbaconv.problem.plan._plans", {})
    clock.looked()
    assert nc.prepare(W)(x).tobytes() == expected.tobytes()
    assert clock.looked() == ONE  # of those that pack
    assert ENTRY[AT.in_flight] == 0


def test_a_launch_beside_another_has_one_worker(clock: Clock):
    if numba.threading_layer() == "workqueue":
        pytest.skip("one launch waits for another here")
    under_way, go_on = threading.Event(), threading.Event()

    def stop() -> None:
        if clock.looks == 2:  # the launch has begun, and its first worker is done
            clock.met = lambda: None
            under_way.set()
            assert go_on.wait(60)

    def first() -> None:
        numba.set_num_threads(2)
        image()

    clock.looked()
    clock.met = stop
    thread = threading.Thread(target=first)
    thread.start()
    try:
        assert under_way.wait(60)
        before = clock.looks
        assert ENTRY[AT.in_flight] == 1
        image()
        assert ENTRY[AT.in_flight] == 1
    finally:
        go_on.set()
        thread.join()
    # The other launch had three looks left at most, of which the second worker may have had one.
    assert clock.looks == TWO + ONE
    assert before in (2, 3)
    assert ENTRY[AT.in_flight] == 0


def test_nothing_is_in_flight_after_calls_and_errors(clock: Clock):
    threads = [threading.Thread(target=lambda: [image() for _ in range(5)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ENTRY[AT.in_flight] == 0
    nothing = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(lambda nbytes: 0)
    malloc = int(ENTRY[AT.malloc])
    ENTRY[AT.malloc] = shared_table.address_of_function(nothing)
    try:
        with pytest.raises(MemoryError):
            image()
    finally:
        ENTRY[AT.malloc] = malloc
    with pytest.raises(ValueError, match="stride"):
        nc.conv2d(X, W, stride=0)
    assert ENTRY[AT.in_flight] == 0


# --- Processes --------------------------------------------------------------------------------

LOOKS = """
import ctypes, numba, numpy as np, numbaconv as nc
from numbaconv.runtime.shared_table import AT, ENTRY, address_of_function
looks = []
@ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
def clock(which, place):
    (ctypes.c_int64 * 2).from_address(place)[:] = 1, len(looks)
    looks.append(which)
    return 0
numba.set_num_threads(2)
x, w = np.ones((1, 16, 30, 30), np.float32), np.ones((16, 16, 3, 3), np.float32)
nc.conv2d(x, w)
ENTRY[AT.clock_gettime] = address_of_function(clock)
assert (nc.conv2d(x, w) == 144).all()
print(len(looks))
"""


@pytest.mark.parametrize("value", [None, "", "1", "0", " 0 "])
def test_variable_turns_it_off(value: str | None, run_script: Script):
    done = run_script("-c", LOOKS, NUMBACONV_ADAPTIVE_THREADS=value, NUMBA_NUM_THREADS="2")
    assert (int(done.stdout) == 0) == (value in ("0", " 0 "))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_begins_anew(run_script: Script):
    code = """
import os
from numbaconv.runtime import threads
from numbaconv.runtime.shared_table import AT, ENTRY
places = [AT.in_flight, AT.sharers, AT.suspected_until, AT.alone_until, AT.owed]
ENTRY[places] = 5
if not (child := os.fork()):
    os._exit(int(ENTRY[places].any()))
assert os.waitpid(child, 0)[1] == 0
assert (ENTRY[places] == 5).all()
"""
    run_script("-c", code)
