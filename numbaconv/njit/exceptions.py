"""Exceptions for compiled callers: a number and a message, which their machine code raises."""

import ctypes

from numbaconv.errors import BackendUnavailableError
from numbaconv.njit.protocol import RAISED, REQUEST

# What compiled callers can raise, by number from RAISED on. Others become the last.
EXCEPTIONS = (ValueError, TypeError, BackendUnavailableError, MemoryError, RuntimeError)


def report(address: int, error: BaseException) -> int:
    """Leave an exception's message in a request and return its number."""
    number = next((i for i, cls in enumerate(EXCEPTIONS) if isinstance(error, cls)), None)
    message = str(error) if number is not None else f"{type(error).__name__}: {error}"
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(message))  # the caller's reference
    request = (ctypes.c_int64 * (REQUEST.message + 1)).from_address(address)
    request[REQUEST.message] = id(message)
    return RAISED + (len(EXCEPTIONS) - 1 if number is None else number)
