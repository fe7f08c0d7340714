"""Which taps of an axis read more than zero padding, and for which outputs.

Backends leave out the others: rows of them, or zones of the output.
"""

import functools
from typing import NamedTuple

from numbaconv.codegen.jit import inline
from numbaconv.problem.padding_modes import steps_to
from numbaconv.problem.shape import ZEROS


class Taps(NamedTuple):
    """Taps of an axis that read more than padding: from `begin` to before `end`."""

    begin: int
    end: int


@inline
def first_read(s, axis, output):
    """Where tap 0 of an output reads along an axis: before 0, in the padding, or inside."""
    return output * s.stride[axis] - s.padding[axis]


@inline
def taps_inside(s, axis, output):
    """Taps that read more than zero padding for an output of an axis."""
    first, step = first_read(s, axis, output), s.dilation[axis]
    begin = min(steps_to(max(-first, 0), step), s.kernel[axis])
    return Taps(begin, max(begin, min(steps_to(s.size[axis] - first, step), s.kernel[axis])))


@inline
def taps_until(s, axis, taps):
    """The first output of an axis that has other taps: one more before, or one less behind."""
    until = s.output[axis]
    if taps.begin > 0:
        inside = s.padding[axis] - (taps.begin - 1) * s.dilation[axis]
        until = min(until, steps_to(inside, s.stride[axis]))
    if taps.end > taps.begin:
        outside = s.size[axis] + s.padding[axis] - (taps.end - 1) * s.dilation[axis]
        until = min(until, steps_to(outside, s.stride[axis]))
    return until


@functools.lru_cache(maxsize=256)  # each lowering asks, of each axis
def axis_taps(s, axis):
    """List the runs of outputs under the same taps: the taps, and the first output behind."""
    if s.padding_mode[axis] != ZEROS:
        return ((Taps(0, s.kernel[axis]), s.output[axis]),)
    runs, first = [], 0
    while first < s.output[axis]:
        taps = taps_inside(s, axis, first)
        first = taps_until(s, axis, taps)
        runs.append((taps, first))
    return tuple(runs)


def taps_read(s, axis):
    """From the first tap of an axis that reads more than zero padding for any output to the last.

    One tap, if none does.
    """
    runs = [taps for taps, _ in axis_taps(s, axis) if taps.begin < taps.end]
    if not runs:
        return Taps(0, 1)
    return Taps(min(taps.begin for taps in runs), max(taps.end for taps in runs))
