"""What a call would do on a device, in words; nothing is compiled or computed."""

from numbaconv.cuda import cost
from numbaconv.cuda.convolution import (
    choose_product,
    choose_winograd,
    find_block,
    find_gradient_plan,
    gradient_kinds,
    multiplied,
    product_of_weights,
    storage,
)
from numbaconv.cuda.filter_tiles import Block
from numbaconv.cuda.gradients import real_problem
from numbaconv.cuda.toolkit import device
from numbaconv.problem.dtypes import Arithmetic
from numbaconv.problem.plan import AdjointPlan, Plan, WeightPlan
from numbaconv.problem.shape import ConvShape


def describe(plan: Plan | AdjointPlan | WeightPlan, precision: str) -> str | None:
    """Say which kernel would run a plan on the current device; None if there is nothing to do.

    Of an adjoint, it is the phase with most to do.
    """
    if not plan.multiply_adds:
        return None
    how, s = storage(plan.result), plan.shape
    if isinstance(plan, WeightPlan):
        s = real_problem(s) if how.is_complex else s
        found = find_gradient_plan(s, how, device())
        if found is not None:
            parts = "" if found.splits == 1 else f", the sums in {found.splits} parts"
            return f"gradient of a filter, {_blocks(found.block)}{parts}"
        kinds = gradient_kinds(s, multiplied(how, precision, device()), device())
        return str(cost.choose(product_of_weights(s), kinds, device(), s.taps))
    if isinstance(plan, AdjointPlan):
        s = max((phase.shape for phase in plan.phases), key=lambda shape: shape.flops)
    return _describe_convolution(s, how, precision)


def _blocks(block: Block) -> str:
    planes = f", {block.planes} planes at once" if block.planes > 1 else ""
    return f"by blocks of {block.columns} x {block.rows} threads{planes}"


def _describe_convolution(s: ConvShape, how: Arithmetic, precision: str) -> str:
    block = find_block(s, how)
    if block is not None:
        return f"filter, {_blocks(block)}"
    sums = choose_product(s, multiplied(how, precision, device()), device())[0]
    return str(choose_winograd(s, how, precision, device(), sums) or sums)
