"""Taps of the direct backend: sums leave out those that read nothing but zero padding.

On a 7 x 7 map that is a tenth of the taps of a padded 3x3 filter. Tiles take taps from a list,
of each its offset among the pixels and among the weights, so leaving some out costs nothing:
`list_taps` writes those of a plane of outputs, of which `row_taps` picks those of a row.
"""

from typing import NamedTuple

from numbaconv.jit import inline
from numbaconv.job import INDEX_SIZE
from numbaconv.padding import steps_to
from numbaconv.pointers import CACHE_LINE, shift
from numbaconv.shape import ZEROS, kernel_taps

# Before a list: which planes kd and how many channels it is of.
HEADER = 3

# A worker has two, for blocks of output channels of full width, and for one that is narrower.
LISTS = 2

# Up to so many taps of all channels are one list: where k is short, as in first layers, beginning
# the taps of another channel takes long beside the few products of each.
MOST_LISTED = 256


class Taps(NamedTuple):
    """Taps of an axis that read more than padding: from `begin` to before `end`."""

    begin: int
    end: int


class PlaneTaps(NamedTuple):
    """The listed taps of an output plane.

    Attributes
    ----------
    table : pointer
        The list, those of a row of the filter together: [kh][channel][kd][kw].
    each : int
        Taps for each kh; 0 if all read padding.
    channels : int
        Channels that the tile loops over: 1 if the list has the taps of all, else all.
    """

    table: object
    each: int
    channels: int


class RowTaps(NamedTuple):
    """What the tile takes: channels, the list of the taps, how many; the first row with others."""

    channels: int
    table: object
    taps: int
    until: int


@inline
def first_read(s, axis, output):
    """Where tap 0 of an output reads along an axis: before 0, in the padding, or inside."""
    return output * s.stride[axis] - s.padding[axis]


@inline
def taps_inside(s, axis, output):
    """Taps that read more than padding for an output of an axis."""
    if s.padding_mode != ZEROS:
        return Taps(0, s.kernel[axis])
    first, step = first_read(s, axis, output), s.dilation[axis]
    begin = min(steps_to(max(-first, 0), step), s.kernel[axis])
    return Taps(begin, max(begin, min(steps_to(s.size[axis] - first, step), s.kernel[axis])))


@inline
def taps_until(s, axis, taps):
    """The first output of an axis that has other taps: one more before, or one less behind."""
    until = s.output[axis]
    if s.padding_mode == ZEROS and taps.begin > 0:
        inside = s.padding[axis] - (taps.begin - 1) * s.dilation[axis]
        until = min(until, steps_to(inside, s.stride[axis]))
    if s.padding_mode == ZEROS and taps.end > taps.begin:
        outside = s.size[axis] + s.padding[axis] - (taps.end - 1) * s.dilation[axis]
        until = min(until, steps_to(outside, s.stride[axis]))
    return until


@inline
def add_tap(table, count, pixels, weights):
    """Write an entry of a list: the offsets of a tap."""
    table[2 * count] = pixels
    table[2 * count + 1] = weights


@inline
def no_lists(job, memory):
    """Note that a worker's lists are still to be written."""
    for i in range(LISTS):
        memory[i * (job[INDEX_SIZE] // LISTS)] = -1


@inline
def list_taps(job, memory, s, view, od, panel, narrow, channels):
    """List the taps of an output plane, unless that list is there already."""
    depths = taps_inside(s, 0, od)
    together = channels if channels * kernel_taps(s) <= MOST_LISTED else 1
    header = shift(memory, job[INDEX_SIZE] // LISTS if narrow else 0)
    table = shift(header, HEADER)
    if header[0] != depths.begin or header[1] != depths.end or header[2] != together:
        header[0], header[1], header[2] = depths.begin, depths.end, together
        write_list(table, s, view, depths, together, panel)
    each = together * (depths.end - depths.begin) * s.kernel[2]
    return PlaneTaps(table, each, channels // together)


@inline
def write_list(table, s, view, depths, channels, panel):
    """Write the taps of some planes kd and channels, at least one."""
    add_tap(table, 0, view.offsets[0], 0)
    count = 0
    for kh in range(s.kernel[1]):
        for c in range(channels):
            for kd in range(depths.begin, depths.end):
                for kw in range(s.kernel[2]):
                    tap = (kd * s.kernel[1] + kh) * s.kernel[2] + kw
                    pixels = c * view.layout.channel + view.offsets[tap]
                    add_tap(table, count, pixels, c * panel.channel_step + tap * panel.tap_step)
                    count += 1


@inline
def row_taps(listed, s, oh):
    """Pick the taps of an output row from the list of its plane.

    There is one at least, if only of padding: a tile starts its sums with a tap.
    """
    taps, each = taps_inside(s, 1, oh), listed.each
    first = shift(listed.table, 2 * each * min(taps.begin, s.kernel[1] - 1))
    count = max(1, each * (taps.end - taps.begin))
    return RowTaps(listed.channels, first, count, taps_until(s, 1, taps))


@inline
def all_taps(listed, s):
    """All taps, for rows that are taken together."""
    return RowTaps(listed.channels, listed.table, max(1, listed.each * s.kernel[1]), s.output[1])


def lists_size(channels, taps):
    """Elements of a worker's lists, with a cache line between those of two workers."""
    return LISTS * (HEADER + 2 * max(taps, min(channels * taps, MOST_LISTED)) + CACHE_LINE // 8)
