"""The phases of a strided convolution's adjoint: each is a convolution of stride 1.

The gradient of the input gathers, for each element p of the input, the products of all outputs o
and taps t that read it: p = o * stride - padding + t * dilation. Elements a stride apart are read
through the same taps, so they make a phase; inside a phase neighbouring elements are read from
neighbouring outputs, and the phase is a correlation of stride 1 of the output's gradient with its
taps in reverse order. No zeros are inserted, and none are multiplied.

For example stride 2, padding 1 under 3 taps: the elements 1, 3, 5, ... were read through the taps
0 and 2, the elements 0, 2, 4, ... through tap 1 alone.

Transposed convolution is the same sum with other names for what goes in and what comes out.
"""

import itertools
import math
from typing import NamedTuple

from numbaconv.problem.shape import ConvShape, Triple


class AxisPhase(NamedTuple):
    """One phase along one axis.

    Attributes
    ----------
    start, elements : int
        Elements start, start + stride, ...; how many.
    tap, apart, taps : int
        Taps tap, tap + apart, ...; how many.
    dilation, padding : int
        Of the correlation of stride 1 that computes them. The padding before is negative where
        the first outputs are not read at all.
    """

    start: int
    elements: int
    tap: int
    apart: int
    taps: int
    dilation: int
    padding: int


class Phase(NamedTuple):
    """One phase: a convolution from the gradient of the output to some elements of the input's.

    Attributes
    ----------
    shape : ConvShape
        The convolution. Its output strides are those of the whole result.
    origin : int
        Index of its first element in the result.
    taps, apart : tuple of 3 int
        First tap, and from one tap to the next, along each axis.
    """

    shape: ConvShape
    origin: int
    taps: Triple
    apart: Triple


def axis_phases(
    size: int, output: int, kernel: int, stride: int, dilation: int, padding: int
) -> list[AxisPhase]:
    """Return the phases of an axis that have any taps.

    Parameters
    ----------
    size, output : int
        Elements of the input and of the output of the convolution whose adjoint it is.
    kernel, stride, dilation, padding : int
        Of that convolution; `padding` is what comes before.
    """
    if output == 1:
        stride = size + padding + 1  # a step that is never taken: every tap by itself
    common = math.gcd(stride, dilation)
    apart, step = stride // common, dilation // common
    phases = []
    for tap in range(min(apart, kernel)):
        start = (tap * dilation - padding) % stride
        if start < size:
            taps = (kernel - 1 - tap) // apart + 1
            first = (start + padding - tap * dilation) // stride  # the output read through `tap`
            elements = (size - 1 - start) // stride + 1
            before = (taps - 1) * step - first
            phases.append(
                AxisPhase(start, elements, tap, apart, taps, step if taps > 1 else 1, before)
            )
    return phases


def find_phases(s: ConvShape) -> list[Phase]:
    """Return the phases of the adjoint of a convolution that have any taps.

    Parameters
    ----------
    s : ConvShape
        The convolution. Its result is what the phases read.
    """
    axes = (
        axis_phases(*axis)
        for axis in zip(s.size, s.output, s.kernel, s.stride, s.dilation, s.padding, strict=True)
    )
    steps = s.in_strides[2:]
    found = []
    for d, h, w in itertools.product(*axes):
        count = (d.elements, h.elements, w.elements)
        apart = [
            step * _distance(phase, stride)
            for step, phase, stride in zip(steps, (d, h, w), s.stride, strict=True)
        ]
        shape = ConvShape(
            s.n,
            s.groups,
            s.c_out,
            s.c_in,
            s.output,
            (d.taps, h.taps, w.taps),
            (1, 1, 1),
            (d.dilation, h.dilation, w.dilation),
            (d.padding, h.padding, w.padding),
            count,
            s.padding_mode,
            s.out_strides,
            (*s.in_strides[:2], apart[0], apart[1], apart[2]),
        )
        origin = sum(p.start * step for p, step in zip((d, h, w), steps, strict=True))
        first, between = (d.tap, h.tap, w.tap), (d.apart, h.apart, w.apart)
        found.append(Phase(shape, origin, first, between))
    return found


def _distance(phase: AxisPhase, stride: int) -> int:
    return stride if phase.elements > 1 else 1
