"""Gradients of layers whose windows cover their maps, fully connected ones among them.

With images n, output channels k and the elements e of a map, both gradients are matrix products:

    X'[n, e] = sum_k G[n, k] * W[k, e]          W'[k, e] = sum_n G[n, k] * X[n, e]

Each is a pointwise layer on a row of pixels e, whose weights are G. Of the first the input is W; of
the second it is X, whose images are its channels. So what is large is read where it lies, and G is
packed. Where G is larger, they are gradients as any others.
"""

import numpy as np

from numbaconv.cpu.gradients.adjoint_chain import Chain, Part, PhaseTaps, make_chain, run
from numbaconv.cpu.lowering import Engine
from numbaconv.problem.activations import NONE
from numbaconv.problem.plan import WeightPlan
from numbaconv.problem.shape import ConvShape
from numbaconv.problem.simplest import covered_map
from numbaconv.runtime import result_memory


def input_product(s: ConvShape) -> Part | None:
    """Return the gradient of the input as a pointwise layer on the weights, or None."""
    s = covered_map(s)
    if not _is_product(s) or s.n > s.c_in:
        return None
    shape = _pointwise(s, s.c_out, s.n, s.c_in, s.in_strides[0])
    return _part(shape, s.out_strides[0], s.out_strides[1], exchanged=True)


def weight_product(s: ConvShape) -> Part | None:
    """Return the gradient of the weights as a pointwise layer on the images, or None."""
    s = covered_map(s)
    if not _is_product(s) or s.c_out > s.c_in:
        return None
    shape = _pointwise(s, s.n, s.c_out, s.in_strides[0], s.c_in)
    return _part(shape, s.out_strides[1], s.out_strides[0])


def _is_product(s: ConvShape) -> bool:
    """Whether maps are single pixels, all of whose channels are neighbours in memory."""
    single = s.size == s.kernel == s.output == (1, 1, 1) and not max(s.padding)
    return single and s.groups == 1 and s.in_strides[1] == 1


def _pointwise(s: ConvShape, c_in: int, c_out: int, in_step: int, out_step: int) -> ConvShape:
    """Return a pointwise layer on the elements of a map, whose channels lie so far apart."""
    row, ones = (1, 1, s.c_in), (1, 1, 1)
    return s._replace(
        n=1,
        c_in=c_in,
        c_out=c_out,
        size=row,
        stride=ones,
        dilation=ones,
        output=row,
        in_strides=(c_in * in_step, in_step, s.c_in, s.c_in, 1),
        out_strides=(c_out * out_step, out_step, s.c_in, s.c_in, 1),
    )


def _part(shape: ConvShape, channel_step: int, input_step: int, exchanged: bool = False) -> Part:
    """Return the only part of a chain, whose weights lie so far apart by their channels.

    A gradient has no bias: all its channels have the same zero.
    """
    tap = PhaseTaps(1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1)
    alike = shape.c_out
    return Part(shape, 0, tap, 0, channel_step, input_step, 0, alike, alike, exchanged)


def find_chain(plan: WeightPlan, engine: Engine, threads: int) -> Chain | None:
    """Return the job of a gradient of the weights that is a product, or None; the plan keeps it."""
    key = engine, threads
    if key not in plan.jobs:
        product = weight_product(plan.simplest)
        plan.jobs[key] = product and make_chain([product], [engine], plan.arithmetic, threads, NONE)
    chain: Chain | None = plan.jobs[key]
    return chain


def multiply(plan: WeightPlan, chain: Chain, x: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Return a planned gradient of the weights, flat, from flat arrays."""
    y = result_memory.empty(plan.out_size, plan.arithmetic.compute)
    run(chain, x, gradient, plan.no_bias, None, y)
    return y
