"""Memory for scratch, packed weights and partial sums, kept from one call to the next.

What malloc has given back to the system comes again as pages that the system has to clear first:
for the 2 MB of weights of a 3x3 layer with 256 channels that takes longer than its gradient.
"""

from collections import deque

import numpy as np

from numbaconv.runtime import result_memory

MOST_BYTES = 8 << 20

# A deque, because its methods are atomic: calls may come from several threads.
_kept: deque[np.ndarray] = deque(maxlen=4)


def borrow(size: int, dtype: np.dtype) -> np.ndarray:
    """Return an array, from memory that was used before if that is large enough."""
    nbytes = size * dtype.itemsize
    if nbytes > MOST_BYTES:
        return result_memory.empty(size, dtype)
    try:
        memory = _kept.pop()
    except IndexError:
        memory = np.empty(0, np.uint8)
    if memory.size < nbytes:
        memory = np.empty(nbytes, np.uint8)
    return memory[:nbytes].view(dtype)


def give_back(array: np.ndarray) -> None:
    """Keep the memory of an array that `borrow` returned and nobody uses any more."""
    if isinstance(array.base, np.ndarray) and array.base.dtype == np.uint8:
        _kept.append(array.base)
