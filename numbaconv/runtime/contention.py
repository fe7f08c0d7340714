"""On how many threads a launch runs where others want the cores: other processes, other launches.

A launch is done when its last worker is. Where another process holds a core, the system makes a
worker wait for a time slice now and then, milliseconds in a launch of microseconds: one thread
alone would be done before. So launches are timed. One whose workers end far apart raises a
suspicion: those that follow count the CPU time of their workers, which is what one thread would
have taken. If they lose more than they win, launches run on one worker for a while.

Threads that launch at the same time share the cores: see `begin_launch`.

All of it lies in the shared table. Threads write there at the same time, and at worst one of them
is not heard.
"""

import os
import time

from numba import config

from numbaconv.codegen.jit import inline
from numbaconv.codegen.pointers import add_ordered, call_for_integer, shift
from numbaconv.codegen.twins import stands_for
from numbaconv.runtime.environment import C_LIBRARY, variable
from numbaconv.runtime.shared_table import AT, ENTRY, address_of_function, entry_table

ENVIRONMENT_VARIABLE = "NUMBACONV_ADAPTIVE_THREADS"

# Nanoseconds that a launch must have lost to matter: less than a time slice of the system, and more
# than what interrupts take.
LEAST_LOSS = 1_000_000
# For how long after a loss CPU time is counted, and for how long launches have one worker, each as
# a multiple of what was lost. So losses that are too rare to be noticed cost at most a tenth, and
# trying again a twentieth.
SUSPICION, PAUSE = 10, 20
MOST_PAUSE = 1_000_000_000
MOST_CREDIT = 10_000_000  # for what launches won before
# For how long after launches met the cores count as shared: threads of a pool meet now and then.
SHARING = 2_000_000

_CLOCK = getattr(time, "CLOCK_MONOTONIC", 0)
_CPU_CLOCK = getattr(time, "CLOCK_THREAD_CPUTIME_ID", 0)  # 0 is the time of day
_SECOND = 1_000_000_000

if os.name == "posix" and _CPU_CLOCK:
    ENTRY[AT.clock_gettime] = address_of_function(C_LIBRARY.clock_gettime)
ENTRY[AT.cores] = config.NUMBA_NUM_THREADS
ENTRY[AT.adapts] = (
    ENTRY[AT.clock_gettime] != 0 and variable(ENVIRONMENT_VARIABLE.encode()).strip() != "0"
)


def forget() -> None:
    """Begin anew, in a forked child: the parent's other launches are not here."""
    for place in (AT.in_flight, AT.suspected_until, AT.alone_until, AT.owed, AT.sharers):
        ENTRY[place] = 0


@inline
def _adapts():
    return entry_table()[AT.adapts] != 0


@stands_for(_adapts)
def adapts():
    """Whether the number of threads follows how busy the machine is."""
    return False


# --- Clocks -----------------------------------------------------------------------------------


@inline
def _read_clock(entry, clock, spare):
    call_for_integer(entry[AT.clock_gettime], (clock, shift(spare, 0)))
    return spare[0] * _SECOND + spare[1]


@inline
def now(entry, spare):
    """Nanoseconds since some time in the past; `spare` are two integers that may be written."""
    return _read_clock(entry, _CLOCK, spare)


@inline
def cpu_time(entry, spare):
    """Nanoseconds that this thread has run. It takes a call of the system, up to a microsecond."""
    return _read_clock(entry, _CPU_CLOCK, spare)


# --- Decisions --------------------------------------------------------------------------------


@inline
def count_sharers(entry, begin, in_flight):
    """Launches that share the cores: so many are under way, or lately were."""
    if begin >= entry[AT.shared_until]:
        entry[AT.sharers] = 1
    if in_flight > 1:
        entry[AT.sharers] = max(entry[AT.sharers], in_flight)
        entry[AT.shared_until] = begin + SHARING
    return max(entry[AT.sharers], 1)


@inline
def begin_launch(entry, workers, begin):
    """Workers for a launch that was planned for so many; `end_launch` follows it.

    Launches share the cores, so a pool of threads keeps as many threads busy as there are cores,
    and starts few beside its own.
    """
    in_flight = add_ordered(entry, AT.in_flight, 1) + 1
    sharers = count_sharers(entry, begin, in_flight)
    if begin < entry[AT.alone_until]:
        return 1
    return max(1, min(workers, entry[AT.cores] // sharers))


@inline
def end_launch(entry):
    """Tell that a launch is over."""
    add_ordered(entry, AT.in_flight, -1)


@inline
def is_suspected(entry, begin):
    """Whether a launch that begins now has to count the CPU time of its workers."""
    return begin < entry[AT.suspected_until]


@inline
def judge_by_clock(entry, first, end):
    """Learn from a launch that ended then, and whose first worker had ended at `first`.

    Its workers may have had unequal tasks, so this is no more than a suspicion.
    """
    apart = end - first
    if apart > LEAST_LOSS:
        entry[AT.suspected_until], entry[AT.owed] = end + SUSPICION * apart, 0


@inline
def judge_by_cpu_time(entry, begin, end, ran):
    """Learn from a launch between two times, whose workers ran for so long in all."""
    lost = end - begin - ran
    owed = max(entry[AT.owed] + lost, -MOST_CREDIT)
    if owed > LEAST_LOSS:
        resume = end + min(PAUSE * owed, MOST_PAUSE)
        entry[AT.alone_until], entry[AT.owed] = resume, 0
        entry[AT.suspected_until] = resume + SUSPICION * owed
    else:
        entry[AT.owed] = owed
        if lost > LEAST_LOSS:
            entry[AT.suspected_until] = end + SUSPICION * lost
