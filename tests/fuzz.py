"""Random problems through every path, against the oracle.

    python tests/fuzz.py --count 100000 --seed 0

Results of integers, and of floats that hold small ones, must be equal; those of real data must
lie within the bound that is proven for any order of summation. On a failure the last lines say
what the problem was and how to run it alone.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable

import numpy as np

import reference
from cases import Array
from paths import PATHS, Path
from problems import Sample, samples


def mismatch(sample: Sample, y: Array, expected: Array, bound: Array | None) -> str | None:
    """Say what is wrong with a result, or None."""
    dtype = reference.result_dtype(*sample.operands)
    if y.shape != sample.case.output or y.dtype != dtype:
        return f"is {y.dtype}{list(y.shape)}, not {dtype}{list(sample.case.output)}"
    if bound is None:
        wrong = y != expected
        return f"differs in {np.count_nonzero(wrong)} of {y.size}" if wrong.any() else None
    excess = np.abs(y - expected) - bound
    return None if (excess <= 0).all() else f"is over the bound by {excess.max()}"


def check(sample: Sample, paths: Iterable[Path] = PATHS) -> None:
    """Compare every path's result with the oracle's."""
    expected = reference.conv_by_taps(*sample.operands, **sample.options)
    bound = None
    if sample.exact:
        with np.errstate(over="ignore"):  # float16 ends at 65504
            expected = expected.astype(reference.result_dtype(*sample.operands))
    else:
        bound = reference.error_bound(
            *sample.operands, oracle=reference.conv_by_taps, **sample.options
        )
    for path in paths:
        if path.takes(sample):
            wrong = mismatch(sample, path.run(sample), expected, bound)
            assert wrong is None, f"the result of {path} {wrong}"


def fuzz(seed: int, start: int, count: int, integers_only: bool = False) -> int:
    """Check a range of problems; return how many went wrong, each reported as it is found."""
    failures = 0
    for number, sample in enumerate(samples(seed, start, count, integers_only), start):
        try:
            check(sample)
        except Exception as failure:
            failures += 1
            integers = " --integers" if integers_only else ""
            print(f"problem {number}: {sample.describe()}\n  {type(failure).__name__}: {failure}")
            print(f"  python tests/fuzz.py --seed {seed} --start {number} --count 1{integers}")
    return failures


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000, help="problems to check")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="number of the first problem")
    parser.add_argument("--integers", action="store_true", help="data whose results are exact")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    failures = fuzz(options.seed, options.start, options.count, options.integers)
    kind = "exact problems" if options.integers else "problems"
    print(
        f"seed {options.seed}: {options.count} {kind} on {len(PATHS)} paths, {failures} wrong, "
        f"{time.monotonic() - began:.0f} s"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
