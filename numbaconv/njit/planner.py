"""What Python does for compiled callers: plan a new call, and keep it as a record.

`protocol.py` says what requests and records are; `request.py` reads a request, and `functions.py`
says what steps a call takes. Here records are written and published, and exceptions handed over.
"""

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import binding as llvm
from numba import types

from numbaconv.dispatch.backends import ENVIRONMENT_VARIABLE, requested_backend
from numbaconv.errors import BackendUnavailableError
from numbaconv.njit import enter, functions, protocol, steps
from numbaconv.njit.recipe import Recipe
from numbaconv.njit.request import Call, check_overlap
from numbaconv.runtime import lent_memory, result_memory, threads
from numbaconv.runtime.environment import C_LIBRARY
from numbaconv.runtime.shared_table import (
    ASK,
    ENTER,
    ENTRY,
    FREE,
    GET_NUM_THREADS,
    GETENV,
    KEEP_VARIABLE,
    MADVISE,
    MALLOC,
    MANAGE,
    RECORDS,
    TAKE_BACK,
    THREAD_STATE,
    TURNS,
    VARIABLE,
    Callback,
    address_of_function,
    as_word,
)

# Place of manage_memory among NRT_api_functions, in Numba's nrt_external.h.
_MANAGE_MEMORY = 2

# What compiled callers can raise, by number from protocol.RAISED on. Others become the last.
EXCEPTIONS = (ValueError, TypeError, BackendUnavailableError, MemoryError, RuntimeError)

Request = Any  # ctypes array of int64

_lock = threading.RLock()  # reentrant, for a signal handler
_records: dict[bytes, tuple[np.ndarray, Recipe | None]] = {}
_dropped: list[Any] = []


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()  # another thread of the parent may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _request_at(address: int) -> Request:
    header = (ctypes.c_int64 * protocol.INTEGERS).from_address(address)
    return (ctypes.c_int64 * (protocol.KEY + header[protocol.KEY_SIZE])).from_address(address)


def _read(request: Request) -> Call:
    text = ctypes.string_at(request[protocol.TEXT]).decode()
    backend = None if request[protocol.BACKEND_GIVEN] else request[protocol.BACKEND]
    return Call(text, request[protocol.INTEGERS :], backend, request[protocol.THREADS])


def _write(request: Request, recipe: Recipe | None) -> np.ndarray:
    """Return a record; without a recipe, the one that says to ask for the number of threads."""
    key = request[protocol.KEY :]
    record = np.zeros(protocol.RECORD_KEY + len(key), np.int64)
    record[protocol.RECORD_KEY_SIZE] = len(key)
    record[protocol.RECORD_KEY :] = key
    if recipe is None:
        record[protocol.ASK_THREADS] = 1
        return record
    record[protocol.LAUNCHES] = recipe.launches
    record[protocol.RESULT_BYTES] = protocol.NO_RESULT if recipe.has("out") else recipe.result_bytes
    record[protocol.SCRATCH_BYTES] = recipe.scratch_bytes
    record[protocol.SHAPE : protocol.SHAPE + len(recipe.shape)] = recipe.shape
    bounds = np.ravel(recipe.bounds())
    record[protocol.BOUNDS : protocol.BOUNDS + len(bounds)] = bounds
    record[protocol.CARRY_OUT_ADDRESS] = steps.carry_out.address(types.int64)
    record[protocol.STEPS] = len(recipe.steps)
    record[protocol.FIRST_STEP] = len(record)
    return np.concatenate([record, *recipe.steps])


def _make(request: Request) -> None:
    """Plan a call and publish its record."""
    recipe = functions.plan(_read(request))
    if recipe is not None and recipe.launches:
        threads.note_launch()
    record = _write(request, recipe)
    key = bytes(memoryview(request)[protocol.KEY :])
    with _lock:
        if key in _records:  # another thread was faster
            return
        if len(_records) >= protocol.MOST_RECORDS:
            _update_table(0)
            _dropped.append(dict(_records))
            _records.clear()
        _records[key] = record, recipe
        readers = _update_table(record.ctypes.data)
        if not readers:
            _dropped.clear()


def _get_backend(request: Request) -> None:
    request[protocol.BACKEND] = as_word(requested_backend()[0])


def _check_overlap(request: Request) -> None:
    addresses = request[protocol.ADDRESSES : protocol.ADDRESSES + protocol.MOST_ARRAYS]
    check_overlap(_read(request), addresses)


def _check_bound(request: Request) -> None:
    result_memory.keep_bytes()  # raises: compiled code has found what is no number


def _refuse_layout(request: Request) -> None:
    raise RuntimeError(
        "this compiled function is from Numba's cache and was compiled with another version of "
        "numbaconv: delete the cache files (__pycache__/*.nbi) beside its source and run again"
    )


_ANSWERS: dict[int, Callable[[Request], None]] = {
    protocol.MAKE: _make,
    protocol.GET_BACKEND: _get_backend,
    protocol.CHECK_OVERLAP: _check_overlap,
    protocol.TAKE_TURN: lambda request: threads.take_turn(),
    protocol.GIVE_TURN: lambda request: threads.give_turn(),
    protocol.WRONG_LAYOUT: _refuse_layout,
    protocol.CHECK_BOUND: _check_bound,
}


def report(address: int, error: BaseException) -> int:
    """Leave an exception's message in a request and return its number."""
    number = next((i for i, cls in enumerate(EXCEPTIONS) if isinstance(error, cls)), None)
    message = str(error) if number is not None else f"{type(error).__name__}: {error}"
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(message))  # the caller's reference
    header = (ctypes.c_int64 * protocol.TEXT).from_address(address)
    header[protocol.MESSAGE] = id(message)
    return protocol.RAISED + (len(EXCEPTIONS) - 1 if number is None else number)


@Callback
def _ask(question: int, address: int) -> int:
    """Answer a question of `enter.enter`."""
    try:
        _ANSWERS[question](address if question == protocol.WRONG_LAYOUT else _request_at(address))
    except BaseException as error:
        return report(address, error)
    return protocol.WELL


def _update_table(address: int) -> int:
    return int(Callback(enter.update_table.address(types.int64))(address, 0))


_table = np.zeros(protocol.SLOTS, np.int64)
_variable = ENVIRONMENT_VARIABLE.encode() + b"\0"
_keep_variable = result_memory.ENVIRONMENT_VARIABLE.encode() + b"\0"


def load() -> None:
    """Compile what compiled callers enter by, or load it from the cache, and open the door."""
    ENTRY[GETENV] = address_of_function(C_LIBRARY.getenv)
    ENTRY[VARIABLE] = address_of_function(ctypes.c_char_p(_variable))
    ENTRY[THREAD_STATE] = address_of_function(ctypes.pythonapi.PyGILState_GetThisThreadState)
    numba.get_num_threads()  # loads the threading layer, whose functions `steps.convolve` names
    ENTRY[GET_NUM_THREADS] = llvm.address_of_symbol("get_num_threads")
    ENTRY[MALLOC] = address_of_function(C_LIBRARY.malloc)
    ENTRY[FREE] = address_of_function(C_LIBRARY.free)
    if sys.platform == "linux":
        ENTRY[MADVISE] = address_of_function(C_LIBRARY.madvise)
    get_api = ctypes.CFUNCTYPE(ctypes.c_void_p)(llvm.address_of_symbol("NRT_get_api"))
    ENTRY[MANAGE] = (ctypes.c_int64 * 3).from_address(get_api())[_MANAGE_MEMORY]
    ENTRY[TAKE_BACK] = lent_memory.take_back.address(types.int64)
    ENTRY[KEEP_VARIABLE] = address_of_function(ctypes.c_char_p(_keep_variable))
    ENTRY[TURNS] = numba.threading_layer() == "workqueue"
    ENTRY[RECORDS] = _table.ctypes.data
    ENTRY[ASK] = address_of_function(_ask)
    enter.update_table.address(types.int64)
    ENTRY[ENTER] = enter.enter.address(types.int64)
