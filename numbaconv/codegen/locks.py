"""Locks between processes: bytes of a file, which the system gives back when their owner dies.

These are record locks, which network file systems know too. A process that cannot have one goes on
without: the locks save work, and nothing else depends on them.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# A byte is asked for so often. An owner that lives and does nothing, as when it is stopped, holds
# others up for so long.
_POLL = 0.02  # seconds
WAIT = 120.0

_BYTES = 1 << 30  # of the file that there may be locks on; none is ever written

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

    def _try_lock(handle: int, place: int) -> bool:
        os.lseek(handle, place, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
        except PermissionError:
            return False
        return True

else:

    def _try_lock(handle: int, place: int) -> bool:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except (BlockingIOError, PermissionError):
            return False
        return True


@contextmanager
def alone(path: Path, number: int) -> Iterator[None]:
    """Wait until no other process is in here with the same file and number, at most `WAIT`.

    The threads of one process do not wait for each other. Only one of them may be in here: when it
    closes the file, the system takes all of the process's locks on that.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        yield
        return
    try:
        end = time.monotonic() + WAIT
        with suppress(OSError):  # a file system without locks
            while not _try_lock(handle, number % _BYTES) and time.monotonic() < end:
                time.sleep(_POLL)
        yield
    finally:
        os.close(handle)
