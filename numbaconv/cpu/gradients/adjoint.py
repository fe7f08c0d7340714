"""The adjoint of a convolution: gradients of inputs, and transposed convolutions.

The adjoint is a convolution of stride 1 for each phase of the stride; `adjoint_chain` runs them in
one launch.
"""

import numpy as np

from numbaconv.cpu.arrays import flat_bias, flat_input, flat_output, flat_weight
from numbaconv.cpu.gradients import adjoint_chain
from numbaconv.cpu.gradients.adjoint_chain import Part
from numbaconv.cpu.lowering import Engine
from numbaconv.problem.plan import AdjointPlan
from numbaconv.runtime.threads import thread_limit


def find_parts(plan: AdjointPlan) -> list[Part]:
    """Return the convolutions of an adjoint, none if there is nothing to add; the plan keeps them.

    They are its phases, or several as one.
    """
    if plan.parts is None:
        phases = plan.phases if plan.multiply_adds else []
        found = adjoint_chain.find_parts(plan.shape, phases, plan.arithmetic) if phases else []
        plan.parts = found
    parts: list[Part] = plan.parts
    return parts


def find_chain(plan: AdjointPlan, engines: tuple[Engine, ...], threads: int) -> adjoint_chain.Chain:
    """Return the jobs of the parts, each on its engine; the plan keeps them."""
    chain = plan.jobs.get((engines, threads))
    if chain is None:
        chain = adjoint_chain.make_chain(find_parts(plan), engines, plan.arithmetic, threads)
        plan.jobs[engines, threads] = chain
    return chain


def apply_adjoint(
    plan: AdjointPlan,
    engines: tuple[Engine, ...],
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Run a planned adjoint.

    Parameters
    ----------
    plan : AdjointPlan
        The plan of the call.
    engines : tuple of Engine
        The CPU engine of each of `find_parts`.
    x : ndarray
        Shape of the convolution's output.
    weight : ndarray
        Weights of the convolution. Complex ones are conjugated.
    bias : ndarray, optional
        One value for each channel of the result.
    out : ndarray, optional
        Where to store the result; checked already.
    """
    y, deliver = flat_output(plan, out)
    b = flat_bias(bias, plan)
    if plan.has_gaps or not plan.multiply_adds:
        y.reshape(*plan.sizes)[...] = b.reshape(-1, 1, 1, 1)
    if plan.multiply_adds:
        jobs = find_chain(plan, engines, thread_limit(plan.multiply_adds))
        adjoint_chain.run(jobs, flat_input(x, plan), flat_weight(weight, plan), b, y)
    return deliver(y, plan, out)
