"""What ``auto`` chooses."""

from typing import NamedTuple

import numpy as np

from numbaconv._imports import Later
from numbaconv.dispatch.precision import is_fast
from numbaconv.problem.plan import Plan
from numbaconv.problem.shape import ConvShape

_is_faster = {
    "fft": Later("numbaconv.cpu.fft", "is_faster"),
    "winograd": Later("numbaconv.cpu.winograd", "is_faster"),
}

# Of engines that leave some problems to `direct`.
_unserved = {
    "fft": Later("numbaconv.cpu.fft", "unserved"),
    "winograd": Later("numbaconv.cpu.winograd", "unserved"),
}


class Choice(NamedTuple):
    """A backend, and the reason in words."""

    backend: str
    reason: str


def choose_backend(s: ConvShape, dtype: np.dtype) -> Choice:
    """Return what ``auto`` chooses for a problem, computed in a dtype, in host memory.

    The choice is a function of the problem alone. `benchmarks/crossover.py` measures where
    transforms begin to pay, `benchmarks/choose.py` how good the choice among lowerings is.
    """
    if _is_faster["fft"](s, dtype):
        return Choice("fft", "a large filter: its transform costs less than its taps")
    return Choice("direct", "sums over the taps, by the lowering that is predicted to take least")


def choose_if_fast(usual: Choice, s: ConvShape, dtype: np.dtype, packs: bool = False) -> Choice:
    """Return the same for a caller who allows the errors of `winograd`, larger than those of sums.

    `packs` says that weights are used once, as those of gradients are. Weights of layers are used
    again and again, and a call without a layer is to have the same bits.
    """
    if usual.backend != "fft" and _is_faster["winograd"](s, dtype, packs):
        return Choice("winograd", "precision is fast: fewer products, with larger errors than sums")
    return usual


def choose(plan: Plan, precision: str | None = None) -> Choice:
    """Return what ``auto`` chooses for a planned convolution; the plan keeps it.

    The environment is only asked for a precision, which takes a microsecond, where it matters.
    """
    if plan.choice is None:
        problem = plan.simplest, plan.arithmetic.compute
        usual = choose_backend(*problem)
        plan.fast_choice = choose_if_fast(usual, *problem)
        plan.choice = usual  # the last: other threads see both then
    choice: Choice = plan.choice
    fast: Choice = plan.fast_choice
    return fast if fast.backend != choice.backend and is_fast(precision) else choice


def serving(s: ConvShape, dtype: np.dtype, name: str) -> Choice:
    """Return the backend that runs a problem for which one was asked."""
    unserved = _unserved[name](s, dtype) if name in _unserved else None
    if unserved is None:
        return Choice(name, "it was asked for")
    return Choice("direct", f"{name} was asked for, and leaves this to direct: {unserved}")
