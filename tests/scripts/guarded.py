"""Arrays beside pages that nobody may touch: an access outside kills the process.

    python -m tests.scripts.guarded BACKEND [NAME ...] [--random COUNT] [--gradients] [--seed SEED]

runs the named cases (all, if none is named and no random ones are asked for) and random problems
with every array at either end of its pages: input, weights, bias, `add`, `out`, results and the
workspace.
"""

from __future__ import annotations

import argparse
import ctypes
import mmap
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np

import numbaconv as nc
from numbaconv.cpu.direct import choice
from numbaconv.runtime import result_memory
from numbaconv.runtime.shared_table import AT, ENTRY, address_of_function
from tests.oracle import reference
from tests.oracle.cases import (
    CASES,
    LARGE,
    SWEEPS,
    Array,
    Case,
    gradient_case,
    has_gradient,
    integer_arrays,
    transposed_options,
)
from tests.oracle.paths import TRANSFORMS
from tests.oracle.problems import choose, varied_case

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

# What small cases do not reach: channels by parts in place, sums of many blocks.
BY_PARTS = [c for c in LARGE if c.name in ("large_1d_by_parts", "zones_of_many_sums")]

# Those that kernels read in place, and of images that they convert.
DTYPES = ("float32", "float32", "float64", "int32", "int64")
CONVERTED = ("uint8", "int16", "float16")


def guarded(array: Array, at_end: bool) -> Array:
    """Return a copy of an array with a forbidden page right behind it, or right before it."""
    pages = -(-max(array.nbytes, 1) // mmap.PAGESIZE)
    memory = mmap.mmap(-1, (pages + 2) * mmap.PAGESIZE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (0, pages + 1):
        if LIBC.mprotect(base + page * mmap.PAGESIZE, mmap.PAGESIZE, 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    first = (pages + 1) * mmap.PAGESIZE - array.nbytes if at_end else mmap.PAGESIZE
    copy: Array = np.ndarray(array.shape, array.dtype, memory, first)
    copy[...] = array
    return copy


def filler(dtype: np.dtype[Any]) -> Any:
    """What must not be left in a result, nor be read from a workspace."""
    return np.nan if dtype.kind == "f" else 77


@contextmanager
def guarded_workspace(at_end: bool) -> Iterator[Any]:
    """Have C's memory for workspaces, and results, lie beside forbidden pages too.

    It has all bits set: NaN, or -1. Yields what allocates it.
    """
    alive: dict[int, Array] = {}
    malloc, free = int(ENTRY[AT.malloc]), int(ENTRY[AT.free])
    free_in_c = ctypes.CFUNCTYPE(None, ctypes.c_int64)(free)

    @ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
    def allocate(nbytes: int) -> int:
        block = guarded(np.full(nbytes, 255, np.uint8), at_end)
        alive[block.ctypes.data] = block
        return block.ctypes.data

    @ctypes.CFUNCTYPE(None, ctypes.c_int64)
    def release(address: int) -> None:
        if alive.pop(address, None) is None:
            free_in_c(address)

    def empty(size: int, dtype: Any) -> Array:
        return guarded(np.full(size, filler(np.dtype(dtype)), dtype), at_end)

    ENTRY[AT.malloc], ENTRY[AT.free] = map(address_of_function, (allocate, release))
    try:
        with mock.patch.object(result_memory, "empty", empty):  # results, workspaces of gradients
            yield allocate
    finally:
        ENTRY[AT.malloc], ENTRY[AT.free] = malloc, free
    assert not alive, "not given back"


def check_equal(result: Array, expected: Array, backend: str) -> None:
    """Compare results of integers, to which those of transforms are near."""
    result = np.rint(result) if backend in TRANSFORMS else result
    np.testing.assert_array_equal(result, expected)


def check(case: Case, dtype: str, backend: str, of_image: str | None = None) -> None:
    """Run a case at both ends of its pages; its image may have a dtype of its own."""
    x, weight, bias = integer_arrays(case, dtype)
    x = integer_arrays(case, of_image)[0] if of_image else x
    expected = reference.conv_by_taps(x, weight, bias, **case.kwargs).astype(dtype)
    for at_end in (False, True):
        # A crash names it.
        print(f"{case.name} {of_image or ''} {dtype} at_end={at_end}", end=" ", flush=True)
        out = guarded(np.full(expected.shape, filler(expected.dtype), dtype), at_end)
        arrays = [None if a is None else guarded(a, at_end) for a in (x, weight, bias)]
        with guarded_workspace(at_end):
            nc.conv(*arrays, **case.kwargs, out=out, backend=backend)
            check_equal(out, expected, backend)
            add = guarded(expected, at_end)
            nc.conv(*arrays, **case.kwargs, out=out, add=add, backend=backend)
            check_equal(out, expected + expected, backend)
            nc.conv(*arrays, **case.kwargs, out=add, add=add, backend=backend)
            check_equal(add, expected + expected, backend)
        print("ok")


def check_gradients(case: Case, dtype: str, backend: str) -> None:
    """Do the same with the gradients and the transposed convolution of a case."""
    rank = len(case.weight) - 2
    x, weight, _ = integer_arrays(case, dtype)
    g, _, bias = integer_arrays(gradient_case(case), dtype)
    of_input, of_weight = (getattr(nc.grad, f"conv{rank}d_{of}") for of in ("input", "weight"))
    spread, spread_options = getattr(nc, f"conv_transpose{rank}d"), transposed_options(case)
    options = case.kwargs
    by_input = reference.conv_input_by_taps(case.input, weight, g, **options).astype(dtype)
    by_weight = reference.conv_weight_by_taps(x, case.weight, g, **options).astype(dtype)
    by_bias = 0 if bias is None else bias.reshape(-1, *(1,) * rank)
    for at_end in (False, True):
        print(f"gradients of {case.name} {dtype} at_end={at_end}", end=" ", flush=True)
        gx, gw, gg, gb = (None if a is None else guarded(a, at_end) for a in (x, weight, g, bias))
        with guarded_workspace(at_end):
            got = of_input(case.input, gw, gg, **options, backend=backend)
            check_equal(got, by_input, backend)
            got = of_weight(gx, case.weight, gg, **options, backend=backend)
            check_equal(got, by_weight, backend)
            if spread_options:
                out = guarded(np.full(case.input, filler(x.dtype), dtype), at_end)
                spread(gg, gw, gb, **spread_options, out=out, backend=backend)
                check_equal(out, by_input + by_bias, backend)
                last = guarded(np.moveaxis(g, -rank - 1, -1), at_end)
                in_other_order = spread_options | {"data_format": "channels_last"}
                got = spread(last, gw, gb, **in_other_order, backend=backend)
                check_equal(np.moveaxis(got, -1, -rank - 1), by_input + by_bias, backend)
                add = guarded(by_input, at_end)
                got = spread(gg, gw, gb, **spread_options, add=add, backend=backend)
                check_equal(got, 2 * by_input + by_bias, backend)
                layer = nc.prepare_transposed(gw, gb, **spread_options, backend=backend)
                for _ in range(2):
                    check_equal(layer(gg, out=out), by_input + by_bias, backend)
        print("ok")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("backend")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--random", type=int, default=0, metavar="COUNT")
    parser.add_argument("--gradients", action="store_true", help="of the random problems")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0)
    options = parser.parse_args()

    problems = 0
    choice.last_level_caches = lambda threads: 0  # results go past the caches
    choice.MOST_CACHED = 0  # tiles ask for pixels ahead of time
    for case in (*CASES, *SWEEPS, *BY_PARTS):
        if case.name in options.names or not (options.names or options.random):
            check(case, "float32", options.backend)
            if has_gradient(case):
                check_gradients(case, "float32", options.backend)
            problems += 1
    for number in range(options.start, options.start + options.random):
        integer = random.Random(f"{options.seed}/{number}").randint
        case = varied_case(integer, f"{options.seed}/{number}", options.gradients)
        if options.gradients:
            check_gradients(case, choose(integer, DTYPES), options.backend)
        elif integer(0, 1):
            check(case, choose(integer, DTYPES), options.backend)
        else:
            check(case, "float32", options.backend, choose(integer, CONVERTED))
        problems += 1
    print(f"{options.backend}: {problems} problems, no access outside the arrays")


if __name__ == "__main__":
    main()
