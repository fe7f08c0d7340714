"""What ``auto`` chooses."""

from typing import NamedTuple

import numpy as np

from numbaconv._imports import Later
from numbaconv.dispatch.precision import is_fast
from numbaconv.problem.plan import Plan
from numbaconv.problem.shape import ConvShape

_gets_zones = Later("numbaconv.cpu.direct.choice", "gets_zones")
_gets_panels = Later("numbaconv.cpu.direct.choice", "gets_panels")
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


def is_depthwise(s: ConvShape) -> bool:
    """One input and one output channel a group: image filters too."""
    return s.c_in == 1 and s.c_out == 1


def has_wide_halo(s: ConvShape) -> bool:
    """Whether taps lie so far apart that a row of a halo tile is mostly halo, little of it read.

    `benchmarks/choose.py` has such problems: its families with wide dilation. What counts as wide
    was read off them: as wide as the row where few output channels use what is copied, twice as
    wide under a stride in a batch, else four times.
    """
    reach = (s.kernel[2] - 1) * s.dilation[2] // s.stride[2]
    times = 1 if s.c_out < 16 else 2 if s.n > 1 and s.stride[2] > 1 else 4
    return s.c_in > 16 and s.dilation[2] >= 3 and reach >= times * s.output[2]


def choose_backend(s: ConvShape, dtype: np.dtype) -> Choice:
    """Return what ``auto`` chooses for a problem, computed in a dtype, in host memory.

    The choice is a function of the problem alone. `benchmarks/choose.py` measures how often it is
    within 5% of the better backend, `benchmarks/crossover.py` where transforms begin to pay.
    """
    if _is_faster["fft"](s, dtype):
        return Choice("fft", "a large filter: its transform costs less than its taps")
    return choose_sums(s)


def choose_if_fast(usual: Choice, s: ConvShape, dtype: np.dtype, packs: bool = False) -> Choice:
    """Return the same for a caller who allows errors a few times those of sums.

    `packs` says that weights are used once, as those of gradients are. Weights of layers are used
    again and again, and a call without a layer is to have the same bits.
    """
    if usual.backend != "fft" and _is_faster["winograd"](s, dtype, packs):
        return Choice("winograd", "precision is fast: fewer products, with larger errors than sums")
    return usual


def choose_sums(s: ConvShape) -> Choice:
    """Return what ``auto`` chooses among the backends that sum over the taps."""
    if is_depthwise(s):
        return Choice("direct", "one channel a group: rows of the image fill the register block")
    if _gets_zones(s):
        reason = "taps apart on short rows: those that read only padding are left out"
        return Choice("direct", reason)
    if has_wide_halo(s):
        reason = "taps far apart: packed panels hold what they read, and no more"
        return Choice("im2col", reason)
    if _gets_panels(s):
        return Choice("direct", "channels on many pages: pixels are packed once for all outputs")
    return Choice("direct", "the input where it lies, or a halo tile in cache: nothing to pack")


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
