"""What Python does for compiled callers: plan a new call, and keep it as a record.

`protocol.py` says what requests and records are; `request.py` reads a request, and `functions.py`
says what steps a call takes. Here records are written, published and dropped, and exceptions are
handed over.
"""

import ctypes
import functools
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import binding as llvm
from numba import types

from numbaconv.dispatch.backends import requested_backend
from numbaconv.layers import Weights
from numbaconv.njit import enter, filters, functions, protocol, steps
from numbaconv.njit.exceptions import report
from numbaconv.njit.protocol import RECORD, REQUEST
from numbaconv.njit.recipe import Recipe
from numbaconv.njit.request import RequestedCall, check_overlap
from numbaconv.runtime import lent_memory, threads
from numbaconv.runtime.environment import watch
from numbaconv.runtime.fields import integers
from numbaconv.runtime.shared_table import (
    AT,
    DOOR,
    ENTER,
    ENTRY,
    TABLE_SYMBOL,
    Callback,
    address_of_function,
    as_word,
    for_ever,
    kept,
)

# Place of manage_memory among NRT_api_functions, in Numba's nrt_external.h.
_MANAGE_MEMORY = 2

RequestArray = Any  # ctypes array of int64

# --- Records ----------------------------------------------------------------------------------


class _Kept(NamedTuple):
    """A record, its address, and what its steps have addresses of."""

    record: np.ndarray
    address: int
    parts: list[Any]


class _Records:
    """The records that compiled callers can find, and those that were dropped but may be in use.

    All is changed by the holder of the lock, in `_alone`. It is reentrant for a signal handler. So
    one that interrupts a change may add records, but it drops none: `depth` is not 1.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.depth = 0  # of changes, one in the midst of the other
        self.by_key: dict[bytes, _Kept] = {}
        self.keys_of: dict[int, list[bytes]] = {}  # by the ticket of a layer's weights
        self.gone: deque[int] = deque()  # tickets of weights that are no more
        self.dropped: deque[tuple[int, Any]] = deque()  # address of a record, or 0 for a table
        self.table = np.zeros(protocol.SLOTS, np.int64)


_records: _Records = kept(f"records of {TABLE_SYMBOL}, {protocol.THIS_LAYOUT}", _Records)


def _after_fork() -> None:
    _records.lock, _records.depth = threading.RLock(), 0  # another thread may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def _alone() -> Iterator[None]:
    """Change the records while no other thread does."""
    with _records.lock:
        _records.depth += 1
        try:
            yield
        finally:
            _records.depth -= 1


@functools.cache
def _native(function: Any) -> Callable[[int, int], int]:
    """Return a native of `enter`; calling it does not give Python's lock away."""
    take_two = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
    return take_two(function.address(types.int64))


def _insert(table: np.ndarray, records: Iterable[_Kept]) -> None:
    addresses = [record.address for record in records]
    counted = np.array([len(addresses), *addresses], np.int64)
    _native(enter.insert)(table.ctypes.data, counted.ctypes.data)


def _publish_table() -> None:
    """Let compiled callers search a table of the records that are left."""
    table = np.zeros(protocol.SLOTS, np.int64)
    _insert(table, list(_records.by_key.values()))
    _records.dropped.append((0, _records.table))
    _records.table = table
    _native(enter.publish)(table.ctypes.data, 0)


def _drop(keys: Iterable[bytes]) -> None:
    """Let compiled callers no longer find some records."""
    for key in keys:
        record = _records.by_key.pop(key, None)
        if record is not None:
            _records.dropped.append((record.address, record))
    _publish_table()


def _add(key: np.ndarray, recipe: Recipe, asks_threads: bool = False) -> None:
    """Let compiled callers find a record, which may be the one that asks for their threads."""
    name = key.tobytes()
    if name in _records.by_key:  # another thread was faster
        _publish_table()  # or a signal handler, in the midst of another change
        return
    if len(_records.by_key) >= protocol.MOST_RECORDS and _records.depth == 1:
        _records.keys_of.clear()
        _drop(list(_records.by_key))
    array = _write_question(key) if asks_threads else _write(key, recipe)
    record = _Kept(array, array.ctypes.data, recipe.kept)
    _records.by_key[name] = record
    if recipe.weights is not None:
        _die_with(recipe.weights, name)
    _insert(_records.table, [record])


# --- Layers that are gone ---------------------------------------------------------------------


def _die_with(weights: Weights, key: bytes) -> None:
    """Have a record dropped when a layer's weights are no more."""
    if weights.ticket not in _records.keys_of:
        _records.keys_of[weights.ticket] = []
        weakref.finalize(weights, _forget, weights.ticket).atexit = False
    _records.keys_of[weights.ticket].append(key)


def _forget(ticket: int) -> None:
    """Drop the records of weights that are no more, now or when who changes records is done.

    It waits for nobody: weights may be collected in the midst of anything, on any thread.
    """
    _records.gone.append(ticket)
    _sweep()


def _sweep() -> None:
    """Drop the records of weights that are no more, and free what was dropped."""
    while _records.depth == 0 and _records.lock.acquire(blocking=False):
        try:
            with _alone():
                if _records.depth == 1:
                    _drop_gone()
                    _free_dropped()
        finally:
            _records.lock.release()
        if not _records.gone:
            return


def _drop_gone() -> None:
    keys: list[bytes] = []
    while _records.gone:
        keys += _records.keys_of.pop(_records.gone.popleft(), ())
    if keys:
        _drop(keys)


def _free_dropped() -> None:
    """Free what was dropped, if nobody uses it any more."""
    for _ in range(len(_records.dropped)):
        address, thing = _records.dropped.popleft()
        if _native(enter.in_use)(address, 0):
            _records.dropped.append((address, thing))


# --- Answers ----------------------------------------------------------------------------------


def _request_at(address: int) -> RequestArray:
    header = (ctypes.c_int64 * REQUEST.integers).from_address(address)
    size = protocol.KEY + header[REQUEST.key_size]
    return (ctypes.c_int64 * size).from_address(address)


def _read(request: RequestArray) -> RequestedCall:
    text = ctypes.string_at(request[REQUEST.text]).decode()
    backend = None if request[REQUEST.backend_given] else request[REQUEST.backend]
    return RequestedCall(
        text, request[REQUEST.integers :], backend, request[REQUEST.usable_threads]
    )


def _write_question(key: np.ndarray) -> np.ndarray:
    """Return the record that says to look again with the number of threads."""
    record = np.concatenate([np.zeros(RECORD.key, np.int64), key])
    record[RECORD.key_size], record[RECORD.asks_threads] = len(key), 1
    return record


def _write(key: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Return the record of a call."""
    header = protocol.Record(
        users=0,
        asks_threads=0,
        asks_python=recipe.by_python,
        launches=recipe.launches,
        result_bytes=protocol.NO_RESULT if recipe.has_target else recipe.result_bytes,
        scratch_bytes=recipe.scratch_bytes,
        shape=recipe.shape + (0,) * (protocol.MOST_AXES - len(recipe.shape)),
        bounds=np.ravel(recipe.bounds()),
        carry_out=steps.carry_out.address(types.int64),
        steps=len(recipe.steps),
        first_step=RECORD.key + len(key),
        key_size=len(key),
        key=(),
    )
    return np.concatenate([integers(header), key, *recipe.steps])


def _make(request: RequestArray) -> None:
    """Plan a call and let compiled callers find its record."""
    recipe = functions.plan(_read(request))
    if recipe.launches:
        threads.note_launch()
    key = np.array(request[protocol.KEY :], np.int64)
    place = REQUEST.threads - protocol.KEY
    with _alone():
        if recipe.threads and not key[place]:
            _add(key, recipe, asks_threads=True)
            key[place] = recipe.threads
        _add(key, recipe)
    _sweep()


def _get_backend(request: RequestArray) -> None:
    request[REQUEST.backend] = as_word(requested_backend()[0])


def _check_overlap(request: RequestArray) -> None:
    addresses = request[REQUEST.addresses : REQUEST.addresses + protocol.MOST_ARRAYS]
    check_overlap(_read(request), addresses)


def _check_bound(request: RequestArray) -> None:
    lent_memory.check_bound()  # raises


def _refuse_layout(request: RequestArray) -> None:
    raise RuntimeError(
        "this compiled function is from Numba's cache and was compiled with another version of "
        "numbaconv: delete the cache files (__pycache__/*.nbi) beside its source and run again"
    )


def _call(request: RequestArray) -> None:
    """Make a call in Python: its result goes where the caller has room for it."""
    addresses = request[REQUEST.addresses : REQUEST.addresses + protocol.MOST_ARRAYS]
    shape = request[REQUEST.shape : REQUEST.shape + protocol.MOST_AXES]
    filters.make(_read(request), addresses, shape)


_ANSWERS: dict[int, Callable[[RequestArray], None]] = {
    protocol.MAKE: _make,
    protocol.GET_BACKEND: _get_backend,
    protocol.CHECK_OVERLAP: _check_overlap,
    protocol.TAKE_LAUNCH_LOCK: lambda request: threads.take_launch_lock(),
    protocol.GIVE_LAUNCH_LOCK: lambda request: threads.give_launch_lock(),
    protocol.WRONG_LAYOUT: _refuse_layout,
    protocol.CHECK_BOUND: _check_bound,
    protocol.CALL: _call,
}


@Callback
def _ask(question: int, address: int) -> int:
    """Answer a question of `enter.enter`."""
    try:
        _ANSWERS[question](address if question == protocol.WRONG_LAYOUT else _request_at(address))
    except BaseException as error:
        return report(address, error)
    return protocol.WELL


def load() -> None:
    """Compile what compiled callers enter by, or load it from the cache, and open the door."""
    lent_memory.ring()
    watch()
    ENTRY[AT.thread_state] = address_of_function(ctypes.pythonapi.PyGILState_GetThisThreadState)
    numba.get_num_threads()  # loads the threading layer, whose functions `steps.convolve` names
    ENTRY[AT.get_num_threads] = llvm.address_of_symbol("get_num_threads")
    get_api = ctypes.CFUNCTYPE(ctypes.c_void_p)(llvm.address_of_symbol("NRT_get_api"))
    ENTRY[AT.manage] = (ctypes.c_int64 * 3).from_address(get_api())[_MANAGE_MEMORY]
    ENTRY[AT.launches_alone] = numba.threading_layer() == "workqueue"
    ENTRY[AT.ask] = address_of_function(for_ever(_ask))
    for function in (enter.insert, enter.publish, enter.in_use):
        _native(function)  # not to be compiled by who has the lock
    with _alone():
        _drop(list(_records.by_key))  # another version of this module may have written them
    DOOR[ENTER] = enter.enter.address(types.int64)
