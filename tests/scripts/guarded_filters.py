"""Filters of arrays beside pages that nobody may touch: an access outside kills the process.

    python -m tests.scripts.guarded_filters [--random COUNT] [--seed SEED] [--compiled | --signal]

makes random calls with image, output and scratch at either end of their pages.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import numbaconv as nc
from numbaconv.cpu.separable import planning
from tests.ndimage.draws import Call, draw_call
from tests.njit.arrays import compiled_draw, native
from tests.robustness import guard_pages
from tests.scripts.guarded import at_both_ends, filler
from tests.signal.draws import DRAWS as SIGNALS
from tests.signal.draws import draw_call as signal_call


def function_of(call: Call, is_compiled: bool) -> Callable[[np.ndarray, np.ndarray], Any]:
    """What makes a call for an image and an output."""
    if is_compiled:
        caller, (_, *weights) = compiled_draw(call, "output")
        return lambda image, out: caller(image, *weights, out)
    function = getattr(nc.ndimage, call.name)
    return lambda image, out: function(image, *call.arguments, **call.options | {"output": out})


def check(call: Call, is_compiled: bool) -> None:
    """Make a call at both ends of its pages; the results are the same."""
    function = getattr(nc.ndimage, call.name)
    make = function_of(call, is_compiled)
    expected = function(call.image, *call.arguments, **call.options)

    def run() -> None:
        image = call.image.copy(order="C")
        if call.image.ndim > 1 and call.image.strides[0] < call.image.strides[-1]:
            image = call.image.T.copy(order="C").T
        out = np.full(expected.shape, filler(expected.dtype), expected.dtype)
        make(image, out)
        np.testing.assert_array_equal(out, expected)

    at_both_ends(str(call), run)


def check_signal(name: str, seed: str) -> None:
    """The same with a function of `nc.signal`, of arrays in any order of their axes."""

    call = signal_call(name, seed)

    def copies() -> Iterator[Any]:
        return (a.copy("K") if isinstance(a, np.ndarray) else a for a in call.arguments)

    function = getattr(nc.signal, name)
    expected = function(*copies(), **call.options)

    def run() -> None:
        got = function(*copies(), **call.options)
        np.testing.assert_equal(got, expected)  # of lfilter, maybe two arrays

    at_both_ends(f"{name} of {seed!r}", run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--random", type=int, default=100, metavar="COUNT")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compiled", action="store_true", help="call from compiled code")
    parser.add_argument("--signal", action="store_true", help="functions of nc.signal")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    planning.last_level_caches = lambda threads: 0  # type: ignore[attr-defined]
    guard_pages.install()
    for number in range(options.random):
        seed = f"guarded {options.seed}/{number}"
        if options.signal:
            check_signal(list(SIGNALS)[number % len(SIGNALS)], seed)
            continue
        call = draw_call(seed)
        if options.compiled:
            call = call._replace(image=native(call.image))
        check(call, options.compiled)
    print(f"{options.random} filters, no access outside the arrays")


if __name__ == "__main__":
    main()
