"""Random problems through every path, against the oracle.

    python -m tests.scripts.fuzz --count 100000 --seed 0 [--integers] [--gradients] [--guarded]

Results of integers, and of floats that hold small ones, must be equal; those of real data must
lie within the bound that is proven for any order of summation. On a failure the last lines say
what the problem was and how to run it alone. With all memory between forbidden pages, an access
outside ends the process, and the number before that is the problem's.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from numbaconv.cpu.direct import choice
from tests.oracle import reference
from tests.oracle.cases import Array
from tests.oracle.paths import GRADIENT_PATHS, PATHS, Operation, Path
from tests.oracle.problems import Sample, gradient_sample, sample


class Expected(NamedTuple):
    """What the oracle says, and how far a result may lie from it; None: not at all."""

    y: Array
    bound: Array | None
    dtype: np.dtype[Any]

    def of_transforms(self, operands: tuple[Array | None, ...]) -> Expected:
        """What is expected of transforms, whose errors are relative to the largest results.

        That is a usual error, with a margin of some ten; tests/convolution/test_fft.py has the
        bound that is proven.
        """
        if self.dtype.kind in "iu":
            return self
        x, w, *b = (0.0 if a is None else np.abs(a.astype(complex)) for a in operands)
        computed = np.result_type(self.dtype, np.float32)
        u = float(np.finfo(computed).eps) / 2
        scale = np.linalg.norm(w.ravel()) * x.max(initial=0) * np.sqrt(2)
        scale += max((np.max(each, initial=0) for each in b), default=0)
        bound = np.full(self.y.shape, 200 * u * scale)
        if self.bound is not None:
            bound = bound + self.bound
        elif self.dtype == np.float16:
            bound = bound + np.spacing(np.abs(self.y)).astype(float)
        return self._replace(bound=bound)

    def mismatch(self, y: Array) -> str | None:
        """Say what is wrong with a result, or None."""
        if y.shape != self.y.shape or y.dtype != self.dtype:
            return f"is {y.dtype}{list(y.shape)}, not {self.dtype}{list(self.y.shape)}"
        if self.bound is None:
            wrong = y != self.y
            return f"differs in {np.count_nonzero(wrong)} of {y.size}" if wrong.any() else None
        excess = np.abs(y - self.y) - self.bound
        return None if (excess <= 0).all() else f"is over the bound by {excess.max()}"


def expect(operation: Operation, sample: Sample) -> Expected:
    """Ask the oracle."""
    operands = operation.operands(sample)
    dtype = reference.result_dtype(*operands)
    y = operation.oracle(sample, *operands)
    if sample.exact:
        with np.errstate(over="ignore"):  # float16 ends at 65504
            return Expected(y.astype(dtype), None, dtype)
    wide = reference.ACCUMULATORS[dtype.name]
    magnitudes = [None if a is None else np.abs(a.astype(wide)) for a in operands]
    magnitude = operation.oracle(sample, *magnitudes)
    bound = reference.sum_bound(operation.terms(sample), dtype, magnitude, y)
    return Expected(y, bound, dtype)


def check(sample: Sample, paths: Iterable[Path]) -> None:
    """Compare every path's result with the oracle's."""
    expected: dict[Operation, Expected] = {}
    for path in paths:
        if path.takes(sample):
            if path.operation not in expected:
                expected[path.operation] = expect(path.operation, sample)
            right = expected[path.operation]
            if not path.sums:
                right = right.of_transforms(path.operation.operands(sample))
            wrong = right.mismatch(path.run(sample))
            assert wrong is None, f"the result of {path} {wrong}"


def fuzz(
    seed: int,
    start: int,
    count: int,
    integers_only: bool = False,
    gradients: bool = False,
    begin: Callable[[int], None] | None = None,
) -> int:
    """Check a range of problems; return how many went wrong, each reported as it is found.

    `begin`, if any, is called with the number of each before it is drawn.
    """
    draw, paths = (gradient_sample, GRADIENT_PATHS) if gradients else (sample, PATHS)
    flags = " --integers" * integers_only + " --gradients" * gradients + " --guarded" * bool(begin)
    failures = 0
    for number in range(start, start + count):
        if begin is not None:
            begin(number)
        problem = draw(seed, number, integers_only)
        try:
            check(problem, paths)
        except Exception as failure:
            failures += 1
            print(f"problem {number}: {problem.describe()}\n  {type(failure).__name__}: {failure}")
            print(f"  python -m tests.scripts.fuzz --seed {seed} --start {number} --count 1{flags}")
    return failures


def between_forbidden_pages() -> Callable[[int], None]:
    """Have all memory end where such a page begins, or of every other problem begin where one ends.

    Results go past the caches, and tiles ask for pixels ahead of time, as those of large problems.
    """
    from tests.robustness import guard_pages  # which compiles what it installs

    guard_pages.install()
    choice.last_level_caches = lambda threads: 0
    choice.MOST_CACHED = 0

    def begin(number: int) -> None:
        print(number, end=" ", flush=True)
        guard_pages.place(number % 2 == 0)

    return begin


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000, help="problems to check")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="number of the first problem")
    parser.add_argument("--integers", action="store_true", help="data whose results are exact")
    parser.add_argument(
        "--gradients", action="store_true", help="gradients and transposed convolutions"
    )
    parser.add_argument("--guarded", action="store_true", help="memory between forbidden pages")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    begin = between_forbidden_pages() if options.guarded else None
    drawn = options.seed, options.start, options.count, options.integers, options.gradients
    failures = fuzz(*drawn, begin)
    kind = "exact " * options.integers + "problems" + " of gradients" * options.gradients
    paths = len(GRADIENT_PATHS if options.gradients else PATHS)
    print(
        f"seed {options.seed}: {options.count} {kind} on {paths} paths, {failures} wrong, "
        f"{time.monotonic() - began:.0f} s"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
