"""Filters of arrays beside pages that nobody may touch: an access outside kills the process.

    python -m tests.scripts.guarded_filters [--random COUNT] [--seed SEED] [--compiled]

makes random calls with image, output and workspace at either end of their pages.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import numbaconv as nc
from numbaconv.cpu.separable import planning
from tests.ndimage.draws import Call, draw_call
from tests.njit.arrays import compiled_draw, native
from tests.scripts.guarded import filler, guarded, guarded_workspace


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
    for at_end in (False, True):
        print(f"{call} at_end={at_end}", end=" ", flush=True)  # a crash names it
        image = guarded(np.ascontiguousarray(call.image), at_end)
        if call.image.ndim > 1 and call.image.strides[0] < call.image.strides[-1]:
            image = guarded(np.ascontiguousarray(call.image.T), at_end).T
        out = guarded(np.full(expected.shape, filler(expected.dtype), expected.dtype), at_end)
        with guarded_workspace(at_end):
            make(image, out)
        np.testing.assert_array_equal(out, expected)
        print("ok")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--random", type=int, default=100, metavar="COUNT")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compiled", action="store_true", help="call from compiled code")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    planning.last_level_caches = lambda threads: 0  # type: ignore[attr-defined]
    for number in range(options.random):
        call = draw_call(f"guarded {options.seed}/{number}")
        if options.compiled:
            call = call._replace(image=native(call.image))
        check(call, options.compiled)
    print(f"{options.random} filters, no access outside the arrays")


if __name__ == "__main__":
    main()
