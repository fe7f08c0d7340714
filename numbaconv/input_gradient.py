"""The adjoint of a convolution: gradients of inputs, and transposed convolutions.

An `AdjointPlan` is to them what `plan.Plan` is to a convolution: what depends on shapes, dtypes
and options only, kept for the next call.
"""

from typing import Any

import numpy as np

from numbaconv import recycling
from numbaconv.arguments import check_out
from numbaconv.backends import chain
from numbaconv.dispatch import AUTO, choose_backend, load_backend
from numbaconv.dtypes import arithmetic
from numbaconv.layout import (
    CHANNELS_FIRST,
    delivered,
    flat_bias,
    flat_input,
    flat_weight,
    takes_result,
)
from numbaconv.phases import find_phases
from numbaconv.plan import Problem
from numbaconv.threads import thread_limit


class AdjointPlan:
    """What the adjoint of a convolution needs beside its data.

    Parameters
    ----------
    problem : Problem
        The convolution. The adjoint reads what has the shape of its output and writes what has
        the shape of its input.
    result : dtype
        Dtype of the result.
    out_shape : tuple of int
        Shape of the result.
    """

    def __init__(self, problem: Problem, result: np.dtype, out_shape: tuple[int, ...]) -> None:
        s = problem.shape
        self.shape, self.batched = s, problem.batched
        self.result, self.out_shape = result, out_shape
        self.arithmetic = arithmetic(result)
        self.layout, self.layout_agrees = CHANNELS_FIRST, True
        self.phases = find_phases(s)
        self.channels = s.groups * s.c_in
        self.sizes = (s.n, self.channels, *s.size)
        self.multiply_adds = sum(phase.shape.flops for phase in self.phases) // 2
        elements = s.size[0] * s.size[1] * s.size[2]
        self.out_size = s.n * self.channels * elements
        self.has_gaps = sum(phase.shape.pixels for phase in self.phases) < elements
        self.no_bias = np.zeros(self.channels, self.arithmetic.compute)
        self._chains: dict[tuple[str, int], chain.Chain] = {}
        self.on_devices: dict[Any, Any] = {}  # what the cuda backend keeps of it

    def chain(self, name: str, threads: int) -> chain.Chain:
        """Return the jobs on a backend; ``auto`` chooses one for each phase."""
        found = self._chains.get((name, threads))
        if found is None:
            names = [choose_backend(p.shape)[0] if name == AUTO else name for p in self.phases]
            found = chain.make_chain(
                self.phases,
                [load_backend(n) for n in names],
                self.shape.kernel,
                self.arithmetic,
                threads,
            )
            self._chains[name, threads] = found
        return found


def apply_adjoint(
    plan: AdjointPlan,
    name: str,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Run a planned adjoint on a backend.

    Parameters
    ----------
    plan : AdjointPlan
        The plan of the call.
    name : str
        ``auto`` or a CPU backend.
    x : ndarray
        Shape of the convolution's output.
    weight : ndarray
        Weights of the convolution. Complex ones are conjugated.
    bias : ndarray, optional
        One value for each channel of the result.
    out : ndarray, optional
        Where to store the result; checked already.
    """
    straight = out is not None and takes_result(out, plan)
    y = out.reshape(-1) if straight else recycling.empty(plan.out_size, plan.arithmetic.compute)  # type: ignore[union-attr]
    b = flat_bias(bias, plan)
    if plan.has_gaps or not plan.multiply_adds:
        y.reshape(*plan.sizes)[...] = b.reshape(-1, 1, 1, 1)
    if plan.multiply_adds:
        jobs = plan.chain(name, thread_limit(plan.multiply_adds))
        chain.run(jobs, flat_input(x, plan), flat_weight(weight, plan), b, y)
    return delivered(y, plan, out, straight)


def check_adjoint_out(out: Any, plan: AdjointPlan, arrays: dict[str, Any]) -> None:
    """Refuse an `out` that cannot take the result."""
    if out is not None:
        check_out(out, plan.out_shape, plan.result, arrays)
