"""GNU's OpenMP, called without Numba, where Numba's threads are its threads.

A parallel loop of Numba asks the system whether this is a forked child, allocates a schedule, and
waits for all threads twice. A region of OpenMP itself takes half of that time, with the same
threads. Forked children do not come here: see `threads`.
"""

import ctypes
import functools
import importlib

import numba
from llvmlite import binding as llvm
from numba.core import config

from numbaconv.runtime.shared_table import AT, ENTRY, address_of_function

# GOMP_parallel(function, data, threads, flags) is what GCC makes of ``#pragma omp parallel``.
_FUNCTIONS = {
    AT.omp_parallel: "GOMP_parallel",
    AT.omp_thread: "omp_get_thread_num",
    AT.omp_threads: "omp_get_num_threads",
}


@functools.cache
def is_used() -> bool:
    """Whether Numba's threads, which it starts, are those of GNU's OpenMP."""
    if config.DISABLE_JIT:
        return False
    numba.get_num_threads()  # starts them, which decides the layer
    if numba.threading_layer() != "omp":
        return False
    omppool = importlib.import_module("numba.np.ufunc.omppool")  # where there is no OpenMP, none
    if omppool.openmp_vendor != "GNU":
        return False
    library = ctypes.CDLL(omppool.__file__)  # finds what that is linked to
    for place, name in _FUNCTIONS.items():
        ENTRY[place] = address_of_function(getattr(library, name))
    ENTRY[AT.get_num_threads] = llvm.address_of_symbol("get_num_threads")
    return True
