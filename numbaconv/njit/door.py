"""The first call from compiled code loads the rest of this folder, and is then carried out."""

import ctypes

from numbaconv.errors import BackendUnavailableError
from numbaconv.njit.protocol import RAISED, REQUEST
from numbaconv.runtime.shared_table import DOOR, ENTER, Callback, address_of_function, for_ever

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


@Callback
def _load_and_enter(request: int, stage: int) -> int:
    """Open the door, and go through it."""
    try:
        from numbaconv.njit import planner

        planner.load()
    except BaseException as error:
        return report(request, error)
    return int(Callback(int(DOOR[ENTER]))(request, stage))


def install() -> None:
    """Let compiled callers find the door."""
    DOOR[ENTER] = address_of_function(for_ever(_load_and_enter))
