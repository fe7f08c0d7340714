"""Arrays beside pages that nobody may touch: an access outside kills the process.

    python -m tests.scripts.guarded BACKEND [NAME ...] [--random COUNT] [--gradients] [--seed SEED]

runs the named cases (all, if none is named and no random ones are asked for) and random problems
with every array at either end of its pages: input, weights, bias, `add`, `out`, results, scratch,
and what else comes from NumPy's and the library's allocators (`tests.robustness.guard_pages`).
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from typing import Any

import numpy as np

import numbaconv as nc
from numbaconv.cpu.direct import choice
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
    problem,
    transposed_options,
)
from tests.oracle.paths import TRANSFORMS
from tests.oracle.problems import Integer, choose, varied_case
from tests.robustness import guard_pages

# What small cases do not reach: channels by parts in place, sums of many blocks.
BY_PARTS = [c for c in LARGE if c.name in ("large_1d_by_parts", "zones_of_many_sums")]

# Those that kernels read in place, and of images that they convert.
DTYPES = ("float32", "float32", "float64", "int32", "int64")
CONVERTED = ("uint8", "int16", "float16")


def filler(dtype: np.dtype[Any]) -> Any:
    """What must not be left in a result."""
    return np.nan if dtype.kind == "f" else 77


def check_equal(result: Array, expected: Array, backend: str) -> None:
    """Compare results of integers, to which those of transforms are near."""
    result = np.rint(result) if backend in TRANSFORMS else result
    np.testing.assert_array_equal(result, expected)


def at_both_ends(what: str, run: Callable[[], None]) -> None:
    """Run with all memory beginning and then ending beside a page that nobody may touch."""
    for at_end in (False, True):
        print(f"{what} at_end={at_end}", end=" ", flush=True)  # a crash names it
        guard_pages.place(at_end)
        run()
        assert guard_pages.lent_blocks() == 0, "not given back"
        print("ok")


def copies(*arrays: Array | None) -> list[Array | None]:
    """The same arrays in memory of their own."""
    return [None if a is None else a.copy() for a in arrays]


def check(case: Case, dtype: str, backend: str, of_image: str | None = None) -> None:
    """Run a case at both ends of its pages; its image may have a dtype of its own."""
    arrays = integer_arrays(case, dtype)
    x = integer_arrays(case, of_image)[0] if of_image else arrays[0]
    expected = reference.conv_by_taps(x, *arrays[1:], **case.kwargs).astype(dtype)
    options = case.kwargs | {"backend": backend}

    def run() -> None:
        image, weight, bias = copies(x, *arrays[1:])
        out = np.full(expected.shape, filler(expected.dtype), dtype)
        nc.conv(image, weight, bias, **options, out=out)
        check_equal(out, expected, backend)
        add = expected.copy()
        nc.conv(image, weight, bias, **options, out=out, add=add)
        check_equal(out, expected + expected, backend)
        nc.conv(image, weight, bias, **options, out=add, add=add)
        check_equal(add, expected + expected, backend)
        layer = nc.prepare(weight, bias, **options)
        for _ in range(2):
            check_equal(layer(image), expected, backend)
        got = nc.conv(image, weight, bias, **options, out_dtype="uint8")
        np.testing.assert_array_equal(got, np.clip(expected, 0, 255))

    at_both_ends(f"{case.name} {of_image or ''} {dtype}", run)


def check_gradients(case: Case, dtype: str, backend: str) -> None:
    """Do the same with the gradients, the transposed convolution and the patches of a case."""
    rank = len(case.weight) - 2
    x, w, _ = integer_arrays(case, dtype)
    g, _, b = integer_arrays(gradient_case(case), dtype)
    of_input, of_weight = (getattr(nc.grad, f"conv{rank}d_{of}") for of in ("input", "weight"))
    spread, spread_options = getattr(nc, f"conv_transpose{rank}d"), transposed_options(case)
    options = case.kwargs
    by_input = reference.conv_input_by_taps(case.input, w, g, **options).astype(dtype)
    by_weight = reference.conv_weight_by_taps(x, case.weight, g, **options).astype(dtype)
    by_bias = 0 if b is None else b.reshape(-1, *(1,) * rank)

    def run() -> None:
        image, weight, gradient, bias = copies(x, w, g, b)
        got = of_input(case.input, weight, gradient, **options, backend=backend)
        check_equal(got, by_input, backend)
        got = of_weight(image, case.weight, gradient, **options, backend=backend)
        check_equal(got, by_weight, backend)
        check_patches(image, case)
        if spread_options:
            out = np.full(case.input, filler(x.dtype), dtype)
            spread(gradient, weight, bias, **spread_options, out=out, backend=backend)
            check_equal(out, by_input + by_bias, backend)
            last = np.moveaxis(gradient, -rank - 1, -1).copy()
            in_other_order = spread_options | {"data_format": "channels_last"}
            got = spread(last, weight, bias, **in_other_order, backend=backend)
            check_equal(np.moveaxis(got, -1, -rank - 1), by_input + by_bias, backend)
            add = by_input.copy()
            got = spread(gradient, weight, bias, **spread_options, add=add, backend=backend)
            check_equal(got, 2 * by_input + by_bias, backend)
            layer = nc.prepare_transposed(weight, bias, **spread_options, backend=backend)
            for _ in range(2):
                check_equal(layer(gradient, out=out), by_input + by_bias, backend)

    at_both_ends(f"gradients of {case.name} {dtype}", run)


def check_patches(image: Array, case: Case) -> None:
    """Write the patches of a case as columns, and add them up again."""
    kernel = case.weight[2:]
    names = ("dilation", "padding", "stride")
    options = {name: case.kwargs[name] for name in names if name in case.kwargs}
    columns = nc.im2col(image, kernel, **options)
    np.testing.assert_array_equal(columns, reference.im2col(image, kernel, **options))
    back = image.shape[-len(kernel) :], kernel
    if 0 in back[0]:
        return  # `col2im` refuses such an image
    sums = nc.col2im(columns, *back, **options)
    np.testing.assert_array_equal(sums, reference.col2im(columns, *back, **options))


def photograph(integer: Integer, name: str) -> Case:
    """Few channels, which come last, each under a filter of its own: few problems are like that."""
    channels = integer(1, 7)
    image = (integer(1, 2), integer(5, 20), integer(20, 170), channels)
    options = {"stride": integer(1, 2), "padding": (integer(0, 2), integer(0, 2))}
    weight = (channels, 1, integer(1, 5), integer(1, 5))
    return problem(name, image, weight, **options, groups=channels, data_format="channels_last")


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
    guard_pages.install()
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
        if number % 8 == 7 and not options.gradients:
            case = photograph(integer, f"photograph {options.seed}/{number}")
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
