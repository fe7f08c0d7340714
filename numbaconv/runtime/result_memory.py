"""Arrays for results, large ones in memory that is used again: see `lent_memory`."""

import numpy as np
from numba.core import config

from numbaconv.runtime import lent_memory
from numbaconv.runtime.capture import capturing
from numbaconv.runtime.lent_memory import LEAST_BYTES
from numbaconv.runtime.shared_table import AT, ENTRY


class _Loan:
    """Owns the memory of an array for as long as arrays refer to it.

    So such an array does not own its data (``flags.owndata``), and cannot be resized in place.
    """

    def __init__(self, address: int, size: int, dtype: np.dtype) -> None:
        self._address, self._take_back = address, lent_memory.ring().take_back
        self.__array_interface__ = {
            "version": 3,
            "data": (address, False),
            "shape": (size,),
            "typestr": dtype.str,
        }

    def __del__(self) -> None:
        self._take_back(self._address)


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
    captured = capturing()
    if captured is not None:
        return captured.new(nbytes)[:nbytes].view(dtype)
    if nbytes < LEAST_BYTES or config.DISABLE_JIT:
        return np.empty(size, dtype)
    ring = lent_memory.ring()
    most = ENTRY[AT.keep_bytes]
    if most < 0:
        lent_memory.check_bound()
    address = ring.lend(nbytes) if most else 0
    if not address:  # NumPy says what there is to say where no memory is left
        return np.empty(size, dtype)
    return np.asarray(_Loan(address, size, dtype))
