"""C's own memory, for compiled code: found through the shared table, so no code has its address."""

import sys
from typing import NamedTuple

from numbaconv.codegen.jit import inline
from numbaconv.codegen.pointers import call, call_for_integer
from numbaconv.runtime.environment import C_LIBRARY
from numbaconv.runtime.shared_table import AT, ENTRY, address_of_function

ENTRY[AT.malloc] = address_of_function(C_LIBRARY.malloc)
ENTRY[AT.free] = address_of_function(C_LIBRARY.free)
if sys.platform == "linux":
    ENTRY[AT.madvise] = address_of_function(C_LIBRARY.madvise)


class FreeArguments(NamedTuple):
    """What C's `free` takes."""

    memory: int


@inline
def allocate(entry, nbytes):
    """Address of so many bytes; 0: no memory was left."""
    return call_for_integer(entry[AT.malloc], (nbytes,))


@inline
def free(entry, memory):
    """Give back what `allocate` gave; 0 is nothing."""
    call(entry[AT.free], FreeArguments(memory))
