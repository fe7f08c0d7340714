"""Memory of large results, used again.

Memory that was freed goes back to the system sooner or later (in glibc blocks over 32 MB at once,
smaller ones when the top of the heap is large), and the next block comes as pages that the system
has to clear first. That takes longer than many a convolution: with memory used again a 3x3 filter
of a 4096 x 4096 image runs 1.7 times as fast, the first layer of wav2vec2 (65 MB of output) 2.1
times, one of WaveNet (11 MB) 1.6 times. So the memory of a large result goes back to a list here
when the result and all views of it are gone. ``NUMBACONV_KEEP_MB`` bounds what the list holds;
0 turns it off.
"""

from collections import deque

import numpy as np

from numbaconv.codegen.pointers import CACHE_LINE
from numbaconv.runtime.environment import variable

ENVIRONMENT_VARIABLE = "NUMBACONV_KEEP_MB"
_VARIABLE = ENVIRONMENT_VARIABLE.encode()
KEEP_MB = 256

# Smaller blocks cost little to clear, beside the 2 us that a loan takes.
LEAST_BYTES = 1 << 20

MOST_DIGITS = 18  # of a number of megabytes

# Oldest first. A deque, because its methods are atomic: memory comes back whenever the garbage
# collector likes, on any thread, also in the middle of `empty`.
_kept: deque[np.ndarray] = deque()


class _Loan:
    """Owns the memory of a result for as long as an array refers to it."""

    def __init__(self, memory: np.ndarray, size: int, dtype: np.dtype) -> None:
        self.memory = memory
        self.__array_interface__ = {
            "version": 3,
            "data": (memory.ctypes.data, False),
            "shape": (size,),
            "typestr": dtype.str,
        }

    def __del__(self) -> None:
        if _give_back is not None:  # None while the interpreter shuts down
            _give_back(self.memory)


def empty(size: int, dtype: np.dtype) -> np.ndarray:
    """Return a flat array like ``numpy.empty``, large ones from memory that was used before.

    Parameters
    ----------
    size : int
        Elements.
    dtype : dtype
        Of an element.

    Raises
    ------
    ValueError
        If ``NUMBACONV_KEEP_MB`` is no number of megabytes.
    """
    nbytes = size * dtype.itemsize
    if nbytes < LEAST_BYTES or keep_bytes() == 0:
        return np.empty(size, dtype)
    memory = _take(nbytes)
    if memory is None:
        memory = np.empty(nbytes + CACHE_LINE, np.uint8)
        memory = memory[-memory.ctypes.data % CACHE_LINE :][:nbytes]
    return np.asarray(_Loan(memory, size, dtype))


def keep_bytes() -> int:
    """Return how many bytes may be kept, from the environment or by default."""
    value = variable(_VARIABLE) or str(KEEP_MB)
    if not (value.isascii() and value.isdigit() and len(value) <= MOST_DIGITS):
        raise ValueError(f"{ENVIRONMENT_VARIABLE} must be a whole number of MB, got {value!r}")
    return int(value) << 20


def _take(nbytes: int) -> np.ndarray | None:
    """Take a block off the list that holds `nbytes` and wastes at most a quarter of them."""
    for _ in range(len(_kept)):
        try:
            memory = _kept.popleft()
        except IndexError:
            return None
        if nbytes <= memory.size <= nbytes + nbytes // 4:
            return memory
        _kept.append(memory)
    return None


def _give_back(memory: np.ndarray) -> None:
    """Put a block on the list, and drop the oldest ones beyond what may be kept."""
    try:
        room = keep_bytes()
    except ValueError:
        room = 0
    if memory.size <= room:
        _kept.append(memory)
    while sum(block.size for block in _kept.copy()) > room:
        try:
            _kept.popleft()
        except IndexError:
            return
