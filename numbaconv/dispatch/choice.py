"""What ``auto`` chooses."""

from typing import Any, NamedTuple

import numpy as np

from numbaconv.cpu import fft, winograd
from numbaconv.cpu.direct.choice import gets_zones
from numbaconv.cpu.gradients.adjoint import find_parts
from numbaconv.dispatch.backends import AUTO
from numbaconv.dispatch.precision import is_fast
from numbaconv.problem.plan import AdjointPlan, Plan, WeightPlan
from numbaconv.problem.shape import ConvShape

# Engines that leave some problems to `direct`.
_CHOOSY: dict[str, Any] = {"fft": fft, "winograd": winograd}


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
    if fft.is_faster(s, dtype):
        return Choice("fft", "a large filter: its transform costs less than its taps")
    return choose_sums(s)


def choose_if_fast(usual: Choice, s: ConvShape, dtype: np.dtype) -> Choice:
    """Return the same for a caller who allows errors a few times those of sums."""
    if usual.backend != "fft" and winograd.is_faster(s, dtype):
        return Choice("winograd", "precision is fast: fewer products, with larger errors than sums")
    return usual


def choose_sums(s: ConvShape) -> Choice:
    """Return what ``auto`` chooses among the backends that sum over the taps."""
    if is_depthwise(s):
        return Choice("direct", "one channel a group: rows of the image fill the register block")
    if gets_zones(s):
        reason = "taps apart on short rows: those that read only padding are left out"
        return Choice("direct", reason)
    if has_wide_halo(s):
        reason = "taps far apart: packed panels hold what they read, and no more"
        return Choice("im2col", reason)
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
    engine = _CHOOSY.get(name)
    unserved = engine and engine.unserved(s, dtype)
    if unserved is None:
        return Choice(name, "it was asked for")
    return Choice("direct", f"{name} was asked for, and leaves this to direct: {unserved}")


def choose_parts(plan: AdjointPlan, name: str = AUTO) -> tuple[Choice, ...]:
    """Return the backend of each convolution of an adjoint when one is asked for; it is kept."""
    choices: tuple[Choice, ...] | None = plan.choices.get(name)
    if choices is None:
        choices = tuple(_choose_part(part.shape, plan, name) for part in find_parts(plan))
        plan.choices[name] = choices
    return choices


def _choose_part(s: ConvShape, plan: AdjointPlan, name: str) -> Choice:
    dtype = plan.arithmetic.compute
    if name == AUTO:
        return choose_backend(s, dtype)
    if name == "winograd":
        return Choice("direct", "winograd was asked for, and leaves adjoints to direct")
    return serving(s, dtype, name)


def choose_weight_gradient(plan: WeightPlan, name: str = AUTO) -> Choice:
    """Return the backend that computes a gradient of the weights when one is asked for."""
    s, dtype = plan.simplest, plan.arithmetic.compute
    if name == "im2col" or (name == "fft" and fft.serves_weight_gradient(s, dtype)):
        return Choice(name, "it was asked for")
    if name == AUTO:
        if plan.choice is None:
            plan.choice = Choice("direct", "a product of the gradient and the input's patches")
            if fft.is_faster_for_weights(s, dtype):
                plan.choice = Choice("fft", "many taps, many outputs: spectra cost less")
        choice: Choice = plan.choice
        return choice
    left = ", and leaves this to direct" if name == "fft" else ""
    return Choice("direct", f"{name} was asked for{left}")
