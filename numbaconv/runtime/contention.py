"""On how many threads a launch runs where others want the cores: other processes, other launches.

A launch is done when its last worker is. Where another process holds a core, the system makes a
worker wait for a time slice now and then, milliseconds in a launch of microseconds: one thread
alone would be done before. So launches are timed. One whose workers end far apart raises a
suspicion: those that follow count the CPU time of their workers, which is what one thread would
have taken. If they lose more than they win, launches run on one worker for a while.

Launches of several Python threads share the cores: see `begin_launch`.

All of it lies in the shared table. Threads write there at the same time, and at worst one of them
is not heard.
"""

import os
import time

from numba import config

from numbaconv.codegen.jit import inline
from numbaconv.codegen.pointers import add_ordered, call_for_integer, shift
from numbaconv.runtime.environment import C_LIBRARY, variable
from numbaconv.runtime.shared_table import AT, ENTRY, address_of_function

ENVIRONMENT_VARIABLE = "NUMBACONV_ADAPTIVE_THREADS"

# Nanoseconds that a launch must have lost to matter: less than a time slice of the system, and more
# than what most interrupts take.
LEAST_LOSS = 1_000_000
# For how long after a loss CPU time is counted, and for how long launches have one worker, each as
# a multiple of what was lost. So losses that are too rare to be noticed cost at most a tenth, and
# trying again a twentieth.
SUSPICION, PAUSE = 10, 20
MOST_PAUSE = 1_000_000_000
MOST_CREDIT = 10_000_000  # for what launches won before
# For how long after launches met the cores count as shared: threads of a pool meet now and then.
SHARING = 2_000_000

# Clocks of C: one that only grows, and that of the time for which the thread has run. The second
# takes a call of the system, up to a microsecond.
CLOCK = getattr(time, "CLOCK_MONOTONIC", 0)
CPU_CLOCK = getattr(time, "CLOCK_THREAD_CPUTIME_ID", 0)  # 0 would be the time of day
SECOND = 1_000_000_000

if os.name == "posix" and CPU_CLOCK:
    ENTRY[AT.clock_gettime] = address_of_function(C_LIBRARY.clock_gettime)
ENTRY[AT.cores] = config.NUMBA_NUM_THREADS

_wanted = variable(ENVIRONMENT_VARIABLE.encode()).strip() != "0"


def adapts() -> bool:
    """Whether the number of threads follows what is found here."""
    return _wanted and bool(ENTRY[AT.clock_gettime]) and not config.DISABLE_JIT


def forget() -> None:
    """Begin anew, in a forked child: the parent's other launches are not here."""
    for place in (AT.in_flight, AT.sharers, AT.suspected_until, AT.alone_until, AT.owed):
        ENTRY[place] = 0


@inline
def read_clock(entry, clock, spare):
    """Nanoseconds of a clock; `spare` are two integers that may be written."""
    call_for_integer(entry[AT.clock_gettime], (clock, shift(spare, 0)))
    return spare[0] * SECOND + spare[1]


# Without `min` and `max`, each of which Numba compiles as a function of its own: these helpers are
# part of every user's first call.


@inline
def begin_launch(entry, workers, begin):
    """Workers for a launch that was planned for so many. When it is over, `in_flight` falls again.

    Launches that are under way at once, or lately were, share the cores: so a pool of threads keeps
    as many threads busy as there are cores, and starts few beside its own.
    """
    sharers = add_ordered(entry, AT.in_flight, 1) + 1
    if sharers > 1:
        entry[AT.shared_until] = begin + SHARING
    if begin < entry[AT.shared_until]:
        if sharers < entry[AT.sharers]:
            sharers = entry[AT.sharers]
        entry[AT.sharers] = sharers
    else:
        entry[AT.sharers] = 1
    if begin < entry[AT.alone_until] or 2 * sharers > entry[AT.cores]:
        return 1
    share = entry[AT.cores] // sharers
    return share if share < workers else workers


@inline
def judge(entry, begin, end, first, ran):
    """Learn from a launch between two times, whose first worker had ended at `first`.

    `ran` is how long its workers ran in all, or 0 where that was not counted. Workers may end far
    apart because their tasks are unequal, so without it there is no more than a suspicion.
    """
    if ran == 0:
        if end - first > LEAST_LOSS:
            entry[AT.suspected_until] = end + SUSPICION * (end - first)
            entry[AT.owed] = 0
        return
    lost = end - begin - ran
    owed = entry[AT.owed] + lost
    if owed > LEAST_LOSS:
        pause = PAUSE * owed
        entry[AT.alone_until] = end + (pause if pause < MOST_PAUSE else MOST_PAUSE)
        entry[AT.suspected_until] = entry[AT.alone_until] + SUSPICION * owed
        owed = 0
    elif lost > LEAST_LOSS:
        entry[AT.suspected_until] = end + SUSPICION * lost
    entry[AT.owed] = owed if owed > -MOST_CREDIT else -MOST_CREDIT
