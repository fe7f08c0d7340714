"""Whether an image's result has the same bits whatever is computed beside it, and how.

    python -m tests.scripts.same_bits [--count 1000] [--seed 0]

Real data, whose rounding shows the order of additions: for a fixed backend the order must not
depend on the batch, the number of threads, the place in memory or the repetition.
"""

from __future__ import annotations

import argparse
import random
from typing import Any

import numba
import numpy as np

import numbaconv as nc
from tests.oracle.cases import BY_NAME, LARGE, Array, Case, normal_arrays, problem
from tests.oracle.paths import BACKENDS, TRANSFORMS
from tests.oracle.problems import choose, random_case

# Besides random problems: some that are cut into tasks and blocks.
NAMED = (
    *LARGE,
    BY_NAME["channels_1201_deep"],
    BY_NAME["one_channel_31x31_same"],
    # How many channels a halo tile has goes by threads and images: rows of 1000 and of 512 outputs.
    problem("one_row_of_a_tall_filter", (1, 30, 9, 1000), (16, 30, 2, 1), dilation=(8, 1)),
)


def moved(a: Array, offset: int) -> Array:
    """A copy that begins `offset` elements past a boundary of 64 bytes."""
    memory = np.empty(a.nbytes + 64 + offset * a.itemsize, np.uint8)
    first = -memory.ctypes.data % 64 + offset * a.itemsize
    copy = memory[first : first + a.nbytes].view(a.dtype).reshape(a.shape)
    copy[...] = a
    return copy


def batch_of(case: Case, n: int) -> Case:
    return case._replace(input=(n, *case.input[1:]))


def same(y: Array, expected: Array, what: str) -> None:
    bits = np.ascontiguousarray(y).view(np.uint8) == np.ascontiguousarray(expected).view(np.uint8)
    assert bits.all(), f"other bits {what}"


def check(case: Case, dtype: str, backend: str, threads: int) -> None:
    """Compare with the batch, computed on all threads, what is computed in other ways."""
    x, w, b = normal_arrays(case, dtype)

    def conv(x: Array, w: Array = w, b: Array | None = b, add: Array | None = None) -> Array:
        return nc.conv(x, w, b, **case.kwargs, add=add, backend=backend)

    numba.set_num_threads(threads)
    expected = conv(x)
    same(conv(x), expected, "when repeated")
    layer = nc.prepare(w, b, **case.kwargs, backend=backend)
    same(layer(x), expected, "from a prepared layer")
    r = expected[::-1].copy()
    added = conv(x, add=r)
    if dtype != "float16":  # whose sums are rounded once
        same(added, expected + r, "than by a sum of two arrays")
    same(layer(x, add=r), added, "from a prepared layer that adds")
    for i in range(len(x)):
        same(conv(x[i]), expected[i], "unbatched")
        same(conv(x[i : i + 1]), expected[i : i + 1], "in a batch of one")
        same(conv(x[i], add=r[i]), added[i], "adding, unbatched")
    same(conv(np.concatenate((x[1:], x, x))), np.concatenate((expected[1:], expected, expected)),
         "in a larger batch")  # fmt: skip
    for offset in (1, 3):
        arrays: list[Any] = [None if a is None else moved(a, offset) for a in (x, w, b)]
        same(conv(*arrays), expected, f"{offset} elements further in memory")
    for fewer in range(1, threads):
        numba.set_num_threads(fewer)
        same(conv(x), expected, f"on {fewer} threads")
        same(conv(x, add=r), added, f"adding, on {fewer} threads")
    numba.set_num_threads(threads)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    threads = numba.config.NUMBA_NUM_THREADS

    def run(case: Case, dtype: str) -> None:
        for backend in (*BACKENDS, *TRANSFORMS):
            try:
                check(case, dtype, backend, threads)
            except AssertionError as failure:
                raise AssertionError(f"{case!r} {dtype} {backend}: {failure}") from None

    for case in NAMED:
        run(batch_of(case, 2), "float32")
    for number in range(options.count):
        integer = random.Random(f"{options.seed}/{number}").randint
        case = random_case(integer, f"{options.seed}/{number}", channels=(20, 20))
        run(case, choose(integer, ("float32", "float32", "float64", "complex64", "float16")))
    print(f"{options.count + len(NAMED)} problems on {threads} threads: the same bits")


if __name__ == "__main__":
    main()
