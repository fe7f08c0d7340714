"""Arrays beside pages that nobody may touch: an access outside kills the process.

    python tests/guarded.py BACKEND [NAME ...]

runs the named cases (all, if none is named) with every array at either end of its pages.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

import numbaconv as nc
from cases import CASES, SWEEPS, Case, integer_arrays

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def guarded(array: np.ndarray, at_end: bool) -> np.ndarray:
    """Return a copy of an array with a forbidden page right behind it, or right before it."""
    pages = -(-max(array.nbytes, 1) // mmap.PAGESIZE)
    memory = mmap.mmap(-1, (pages + 2) * mmap.PAGESIZE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (0, pages + 1):
        if LIBC.mprotect(base + page * mmap.PAGESIZE, mmap.PAGESIZE, 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    first = (pages + 1) * mmap.PAGESIZE - array.nbytes if at_end else mmap.PAGESIZE
    copy: np.ndarray = np.ndarray(array.shape, array.dtype, memory, first)
    copy[...] = array
    return copy


@contextmanager
def announced(what: str) -> Iterator[None]:
    """Say what is running, so that a crash names it."""
    print(what, end=" ", flush=True)
    yield
    print("ok")


def check(case: Case, backend: str) -> None:
    """Run a case at both ends of its pages; the result must be that of ordinary memory."""
    x, weight, bias = integer_arrays(case, "float32")
    expected = nc.conv(x, weight, bias, **case.kwargs, backend=backend)
    for at_end in (False, True):
        with announced(f"{case.name} at_end={at_end}"):
            out = guarded(np.full(expected.shape, np.nan, np.float32), at_end)
            arrays = [None if a is None else guarded(a, at_end) for a in (x, weight, bias)]
            nc.conv(*arrays, **case.kwargs, out=out, backend=backend)
            np.testing.assert_array_equal(out, expected)


def check_gradients(case: Case, backend: str) -> None:
    """Do the same with the gradients of a case, which allocate their results themselves."""
    rank = len(case.weight) - 2
    x, weight, _ = integer_arrays(case, "float32")
    gradient = np.ones(case.output, np.float32)
    conv_input, conv_weight = (getattr(nc.grad, f"conv{rank}d_{of}") for of in ("input", "weight"))
    options = case.kwargs | {"backend": backend}
    of_input = conv_input(case.input, weight, gradient, **options)
    of_weight = conv_weight(x, case.weight, gradient, **options)
    for at_end in (False, True):
        with announced(f"gradients of {case.name} at_end={at_end}"):
            arrays = [guarded(a, at_end) for a in (x, weight, gradient)]
            got = conv_input(case.input, arrays[1], arrays[2], **options)
            np.testing.assert_array_equal(got, of_input)
            got = conv_weight(arrays[0], case.weight, arrays[2], **options)
            np.testing.assert_array_equal(got, of_weight)


if __name__ == "__main__":
    backend, *names = sys.argv[1:]
    for case in (*CASES, *SWEEPS):
        if not names or case.name in names:
            check(case, backend)
            if not {"padding_mode", "data_format"} & case.kwargs.keys():
                check_gradients(case, backend)
    print("no access outside the arrays")
