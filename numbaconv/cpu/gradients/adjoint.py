"""The adjoint of a convolution: gradients of inputs, and transposed convolutions.

The adjoint is a convolution of stride 1 for each phase of the stride; `adjoint_chain` runs them in
one launch.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu.arrays import flat_add, flat_bias, flat_input, flat_output, flat_weight
from numbaconv.cpu.execution import fill_with_bias
from numbaconv.cpu.gradients import adjoint_chain, fold
from numbaconv.cpu.gradients.adjoint_chain import Part
from numbaconv.cpu.gradients.as_layers import input_product, single_pixels
from numbaconv.cpu.lowering import Engine
from numbaconv.problem.dtypes import Arithmetic
from numbaconv.problem.phases import find_phases
from numbaconv.problem.plan import AdjointPlan
from numbaconv.problem.shape import ConvShape
from numbaconv.problem.simplest import with_fewest_axes
from numbaconv.runtime.threads import thread_limit


def find_parts(plan: AdjointPlan, cycles_of: Callable[[ConvShape, int], float]) -> list[Part]:
    """Return the convolutions of an adjoint, none if there is nothing to add; the plan keeps them.

    They are its phases, or several as one; a gradient may be a single product, and so may the
    adjoint of few channels be, which is folded then. `cycles_of` predicts what a convolution takes.
    """
    if plan.parts is None:
        s = with_fewest_axes(plan.shape)
        plan.parts = _parts_of(plan, s, cycles_of) if plan.multiply_adds else []
    parts: list[Part] = plan.parts
    return parts


def find_phase_parts(plan: AdjointPlan) -> list[Part]:
    """Return the phases of an adjoint, which `find_parts` may have as one product."""
    s = with_fewest_axes(plan.shape)
    return adjoint_chain.find_parts(s, find_phases(s), plan.arithmetic)


def _parts_of(
    plan: AdjointPlan, s: ConvShape, cycles_of: Callable[[ConvShape, int], float]
) -> list[Part]:
    product = input_product(s) if plan.is_gradient else None
    if product is not None:
        found = [product]
    elif _folds(s, plan.arithmetic, cycles_of):
        found = [adjoint_chain.product_part(s)]
    else:
        found = adjoint_chain.find_parts(s, find_phases(s), plan.arithmetic)
    # How many images there are decides whether windows that cover their maps are a product.
    in_order = plan.is_gradient and single_pixels(s) is not None
    return [part._replace(in_order=in_order) for part in found]


def _folds(
    s: ConvShape, arithmetic: Arithmetic, cycles_of: Callable[[ConvShape, int], float]
) -> bool:
    """Whether a product of an image that is folded is predicted to take less than its phases.

    Phases that are the channels of one convolution have full register tiles already.
    """
    if not fold.serves(s):
        return False
    one, lanes = s._replace(n=1), VECTOR_BYTES // arithmetic.compute.itemsize
    phases = adjoint_chain.find_parts(one, find_phases(one), arithmetic)
    if any(phase.copies for phase in phases):
        return False
    alike = Counter(phase.shape for phase in phases)
    apart = sum(many * cycles_of(shape, lanes) for shape, many in alike.items())
    product = adjoint_chain.product_part(one).shape
    folded = cycles_of(product, lanes) + fold.cycles(one, lanes)
    return bool(folded < apart)


def join_parts(
    plan: AdjointPlan, engines: tuple[Engine, ...], threads: int
) -> tuple[list[Part], tuple[Engine, ...]]:
    """Return what `find_parts` found as the engines compute it, and the engine of each part.

    All are one where they have one engine, and it computes the adjoint as a whole.
    """
    parts, lower = plan.parts_of.get(engines, plan.parts), engines[0].lower_adjoint
    if lower is not None and set(engines) == {engines[0]}:
        s = with_fewest_axes(plan.shape)
        whole = lower(s, plan.arithmetic.compute, threads)
        if whole is not None:
            part = adjoint_chain.whole_part(s, whole.problem)
            return [part], (engines[0]._replace(lower=lower),)
    return parts, engines


def find_chain(plan: AdjointPlan, engines: tuple[Engine, ...], threads: int) -> adjoint_chain.Chain:
    """Return the jobs of the parts, each on its engine; the plan keeps them."""
    chain = plan.jobs.get((engines, threads))
    if chain is None:
        parts, engines_of = join_parts(plan, engines, threads)
        folded = with_fewest_axes(plan.shape) if parts[0].folded else None
        chain = adjoint_chain.make_chain(
            parts, engines_of, plan.arithmetic, threads, plan.activation, plan.adds, folded
        )
        plan.jobs[engines, threads] = chain
    return chain


def apply_adjoint(
    plan: AdjointPlan,
    engines: tuple[Engine, ...],
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    out: np.ndarray | None = None,
    kept: dict[Any, Any] | None = None,
    add: np.ndarray | None = None,
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
        Weights of the convolution.
    bias : ndarray, optional
        One value for each channel of the result.
    out : ndarray, optional
        Where to store the result; checked already.
    kept : dict, optional
        Where a prepared layer keeps its packed weights.
    add : ndarray, optional
        What is added to the sums; checked already.
    """
    y, deliver = flat_output(plan, out)
    b, r = flat_bias(bias, plan), flat_add(add, plan, y)
    if plan.has_gaps or not plan.multiply_adds:
        fill_with_bias(y, b, plan, r)
    if plan.multiply_adds:
        chain = find_chain(plan, engines, thread_limit(plan.multiply_adds))
        flat = flat_input(x, plan)
        if kept is None:
            adjoint_chain.run(chain, flat, _flat_weight(weight, plan), b, r, y)
        else:
            packed = packed_weights(chain, weight, b, plan, kept)
            adjoint_chain.run_packed(chain, flat, packed, b, r, y)
    return deliver(y, plan, out)


def packed_weights(
    chain: adjoint_chain.Chain,
    weight: np.ndarray,
    bias: np.ndarray,
    plan: AdjointPlan,
    kept: dict[Any, Any],
) -> np.ndarray:
    """Return a layer's packed weights, packed now if they were not for this kind of chain.

    `bias` is flat.
    """
    key = chain.order, plan.arithmetic.convert.char
    packed: np.ndarray | None = kept.get(key)
    if packed is None:
        packed = kept[key] = adjoint_chain.pack(chain, _flat_weight(weight, plan), bias)
    return packed


def _flat_weight(weight: np.ndarray, plan: AdjointPlan) -> np.ndarray:
    """Return the weights as the kernels read them, whose adjoint conjugates complex ones."""
    back = weight.dtype.kind == "c" and not plan.is_gradient
    return flat_weight(weight.conj() if back else weight, plan)
