"""Gradients that are layers themselves, with kernels that serve these.

Windows that cover their maps, fully connected layers among them. With images n, output channels k
and the elements e of a map, both gradients are matrix products:

    X'[n, e] = sum_k G[n, k] * W[k, e]          W'[k, e] = sum_n G[n, k] * X[n, e]

Each is a pointwise layer on a row of pixels e, whose weights are G. Of the first the input is W; of
the second it is X, whose images are its channels. So what is large is read where it lies, and G is
packed. Where G is larger, they are gradients as any others.

Weights of depthwise layers. Each is the sum of a map of G times the input as one tap sees it: G is
a filter as large as a map, and there are as many results as taps. Stride and dilation change
places, and images are planes, all of which the filter covers. Of small maps, lanes that run over
pixels are mostly idle, and such a layer has lanes that run over channels. It serves what
`weight_strips` does not.
"""

import math

import numpy as np

from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu import blocking
from numbaconv.cpu.gradients import weight_tasks
from numbaconv.cpu.gradients.adjoint_chain import (
    SINGLE_TAP,
    Chain,
    Part,
    PhaseTaps,
    make_chain,
    run,
)
from numbaconv.cpu.lowering import Engine
from numbaconv.problem.activations import NONE
from numbaconv.problem.plan import WeightPlan
from numbaconv.problem.shape import ConvShape
from numbaconv.problem.simplest import covered_map
from numbaconv.runtime import result_memory

# Cycles of maps as filters for one that an engine predicts, and of packing an element of G.
FILTER_CYCLES, PACKED_CYCLES = 1.3, 0.8


def input_product(s: ConvShape) -> Part | None:
    """Return the gradient of the input as a pointwise layer on the weights, or None."""
    pixels = single_pixels(s)
    if pixels is None or pixels.n > pixels.c_in:
        return None
    (image, channel, *_), elements = pixels.out_strides, pixels.c_in
    shape = _pointwise(pixels, pixels.c_out, pixels.n, elements, pixels.in_strides[0])
    return _part(shape, image, channel, exchanged=True)


def weight_product(s: ConvShape) -> Part | None:
    """Return the gradient of the weights as a pointwise layer on the images, or None."""
    pixels = single_pixels(s)
    if pixels is None or pixels.c_out > pixels.c_in:
        return None
    (image, channel, *_), elements = pixels.out_strides, pixels.c_in
    shape = _pointwise(pixels, pixels.n, pixels.c_out, pixels.in_strides[0], elements)
    return _part(shape, channel, image)


def single_pixels(s: ConvShape) -> ConvShape | None:
    """Return a problem whose windows cover their maps as one on single pixels, or None.

    All elements of a map are neighbours in memory.
    """
    s = covered_map(s)
    single = s.size == s.kernel == s.output == (1, 1, 1) and not max(s.padding)
    return s if single and s.groups == 1 and s.in_strides[1] == 1 else None


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
    alike = shape.c_out
    return Part(shape, 0, SINGLE_TAP, 0, channel_step, input_step, 0, alike, alike, exchanged)


def maps_as_filters(s: ConvShape) -> Part | None:
    """Return the gradient of depthwise weights as a layer whose filters are maps, or None.

    A chain packs taps backwards. These go back from the last one, so they keep their order.
    """
    (deep, high, wide), dense = s.output, s.out_strides[3:] == (s.output[2], 1)
    flat = s.size[0] == s.kernel[0] == deep == 1 and s.padding[0] == 0
    if s.groups == 1 or s.c_in > 1 or not dense or (s.n > 1 and not flat):
        return None
    steps, size, kernel, padding = s.in_strides, s.size, s.output, s.padding
    if s.n > 1:
        steps, size = (steps[0], steps[1], steps[0], *steps[3:]), (s.n, *size[1:])
        deep, kernel, padding = s.n, (s.n, high, wide), (0, *padding[1:])
    taps = s.taps
    _, h, w = s.kernel
    shape = s._replace(
        n=1,
        size=size,
        kernel=kernel,
        stride=s.dilation,
        dilation=s.stride,
        padding=padding,
        output=s.kernel,
        in_strides=steps,
        out_strides=(s.groups * s.c_out * taps, taps, h * w, w, 1),
    )
    apart = s.out_strides[1]
    plane = s.out_strides[0 if s.n > 1 else 2]
    order = PhaseTaps(
        deep, plane // wide, wide, deep, high, wide, deep - 1, high - 1, wide - 1, -1, -1, -1
    )
    channels = s.groups * s.c_out
    return Part(shape, 0, order, 0, apart, s.c_out * apart, 0, channels, channels)


def prefers_filters(s: ConvShape, part: Part, cycles: float, itemsize: int) -> bool:
    """Whether maps as filters are faster than `weight_dots`.

    `cycles` are what an engine predicts for a row of taps of a group; 0: it predicts nothing.
    """
    deep, high, _ = s.kernel
    packed = PACKED_CYCLES * s.c_out * part.shape.taps
    filtered = FILTER_CYCLES * cycles * deep * high + packed
    return cycles > 0 and filtered < weight_tasks.depthwise_cycles(s, itemsize)


def fits_cache(part: Part) -> bool:
    """Whether what a block of channels reads, of all images, stays in the cache."""
    s = part.shape
    return VECTOR_BYTES * (math.prod(s.size) + s.c_out * s.taps) <= blocking.CACHE_BYTES


def find_chain(plan: WeightPlan, part: Part, engine: Engine, threads: int) -> Chain:
    """Return the job of a gradient of the weights that is a layer; the plan keeps it."""
    chain = plan.jobs.get((engine, threads))
    if chain is None:
        chain = make_chain([part], [engine], plan.arithmetic, threads, NONE)
        plan.jobs[engine, threads] = chain
    return chain


def multiply(plan: WeightPlan, chain: Chain, x: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Return a planned gradient of the weights, flat, from flat arrays."""
    y = result_memory.empty(plan.out_size, plan.arithmetic.compute)
    run(chain, x, gradient, plan.no_bias, None, y)
    return y
