"""Taps of the direct backend: sums leave out those that read nothing but zero padding.

On a 7 x 7 map that is a tenth of the taps of a padded 3x3 filter. Tiles take taps from a list,
of each its offset among the pixels and among the weights, so leaving some out costs nothing.
`tap_table` lists them for each plane of outputs, those of a row of the filter together, and says
which rows of the filter an output row has: what a tile takes is a piece of a list.
"""

import functools
from typing import NamedTuple

import numpy as np

from numbaconv.codegen.jit import inline
from numbaconv.codegen.pointers import shift
from numbaconv.cpu.microkernels.matrix_transposed import FIRST, FIRST_OF_SECOND, LAST, LAST_OF_FIRST
from numbaconv.problem.shape import ZEROS, kernel_taps, pads_zeros
from numbaconv.problem.taps import Taps, axis_taps, taps_inside

# Up to so many taps of all channels are one list: where k is short, as in first layers, beginning
# the taps of another channel takes long beside the few products of each.
MOST_LISTED = 256

# Entries of the lists of all planes, at most; else each plane has the one of all taps.
MOST_ENTRIES = 1 << 15


class PlaneTaps(NamedTuple):
    """The listed taps of an output plane.

    Attributes
    ----------
    rows : pointer
        Of each output row: the first row of the filter, how many, and the first output row with
        others.
    first : pointer
        The list: [kh][channel][kd][kw], of each tap its offsets among pixels and weights, and for
        pixel tiles the ends of a row at which it reads padding.
    each, step : int
        Taps for each kh, 0 if all read padding; elements of the list from one kh to the next.
    channels : int
        Channels that the tile loops over: 1 if the list has the taps of all, else all.
    """

    rows: object
    first: object
    each: int
    step: int
    channels: int


class RowTaps(NamedTuple):
    """What the tile takes: channels, the list of the taps, how many; the first row with others."""

    channels: int
    first: object
    taps: int
    until: int


def for_each_output(runs, entries):
    """Repeat the entries of each run for all of its outputs."""
    return np.repeat(entries, np.diff([0, *(until for _, until in runs)]), axis=0).ravel()


@inline
def lists_together(s, kc):
    """Whether a list has the taps of all channels.

    Rows of the filter then come before channels. That must not go by how many channels a halo tile
    has of a single row of outputs, which goes by threads and images: the bits would, too.
    """
    steady = s.kernel[1] == 1 or s.output[1] > 1
    return steady and kc == s.c_in and s.c_in * kernel_taps(s) <= MOST_LISTED


def ends_of_taps(s):
    """Ends of a row of outputs at which each column of the filter reads padding."""
    ends = np.zeros(s.kernel[2], np.int64)
    if s.padding_mode[2] == ZEROS:
        both = (0, FIRST | FIRST_OF_SECOND), (s.output[2] - 1, LAST | LAST_OF_FIRST)
        for output, bits in both:
            inside = taps_inside(s, 2, output)
            ends[: inside.begin] |= bits
            ends[inside.end :] |= bits
    return ends


def lists_each_plane(s, kc):
    """Whether planes have lists of their own."""
    channels = s.c_in if lists_together(s, kc) else 1
    return 4 * len(axis_taps(s, 0)) * channels * kernel_taps(s) <= MOST_ENTRIES


@functools.lru_cache(maxsize=64)  # planning asks for a problem some ten times
def leaves_out_padding(s):
    """Whether pixel tiles read no padding: taps that would are left out, and no row has no other.

    Of columns it is the first and the last output that leave taps out.
    """
    every, last = Taps(0, s.kernel[2]), s.output[2] - 1
    ends_only = last < 2 or taps_inside(s, 2, 1) == taps_inside(s, 2, last - 1) == every
    some = all(taps.end > taps.begin for axis in (0, 1) for taps, _ in axis_taps(s, axis))
    return pads_zeros(s) and ends_only and some and lists_each_plane(s, s.c_in)


def list_taps(s, depths, channels, channel_step, offsets, for_pixel_tiles):
    """List the taps of some planes kd, at least one: the entry of each."""
    numbers = np.arange(channels * kernel_taps(s)).reshape(channels, *s.kernel)
    listed = numbers[:, depths.begin : depths.end].transpose(2, 0, 1, 3).ravel()
    if not listed.size:
        listed = numbers[0, 0, 0, :1]
    channel, tap = np.divmod(listed, kernel_taps(s))
    entry = [offsets[tap] + channel * channel_step, listed]
    if for_pixel_tiles:
        entry.append(ends_of_taps(s)[tap % s.kernel[2]])
    return np.stack(entry, axis=1)


def tap_table(s, offsets, channel_step, b, for_pixel_tiles):
    """Table of a problem: rows of outputs, planes, and the lists.

    Parameters
    ----------
    offsets : ndarray
        Of the taps of a channel among the pixels, [kd][kh][kw]; `channel_step` is that of channels.
    b : Blocks
        How the problem is cut.

    Returns
    -------
    ndarray
        What `plane_taps` and `row_taps` read: three integers for each output row; four for each
        output plane, where its lists begin, for panels of full width and for a narrower last one,
        how many taps they have for each row of the filter, and how many integers; the lists.
    """
    down, runs = axis_taps(s, 1), axis_taps(s, 0)
    rows = [(min(t.begin, s.kernel[1] - 1), t.end - t.begin, until) for t, until in down]
    channels = s.c_in if lists_together(s, b.kc) else 1
    if not lists_each_plane(s, b.kc):
        runs = [(Taps(0, s.kernel[0]), s.output[0])]
    widths = (b.mr, s.c_out - (b.oc_blocks - 1) * b.mr)
    planes, lists, at = [], [], 3 * s.output[1] + 4 * s.output[0]
    for depths, _ in runs:
        listed = list_taps(s, depths, channels, channel_step, offsets, for_pixel_tiles)
        each = channels * (depths.end - depths.begin) * s.kernel[2]
        narrow = at + listed.size if widths[1] < widths[0] else at
        planes.append((at, narrow, each, each * listed.shape[1]))
        scales = (np.array((1, width, 1)[: listed.shape[1]]) for width in dict.fromkeys(widths))
        lists += [(listed * scale).ravel() for scale in scales]
        at = narrow + listed.size
    return np.concatenate((for_each_output(down, rows), for_each_output(runs, planes), *lists))


@inline
def plane_taps(table, s, od, narrow, kc, channels):
    """Read the taps of an output plane, for a panel of full width or a `narrow` one."""
    plane = shift(table, 3 * s.output[1] + 4 * od)
    first = shift(table, plane[1] if narrow else plane[0])
    return PlaneTaps(table, first, plane[2], plane[3], 1 if lists_together(s, kc) else channels)


@inline
def row_taps(plane, oh):
    """Read the taps of an output row, one at least: a tile starts its sums with a tap."""
    row = shift(plane.rows, 3 * oh)
    first, count = shift(plane.first, plane.step * row[0]), max(1, plane.each * row[1])
    return RowTaps(plane.channels, first, count, row[2])


@inline
def rows_until(table, oh):
    """The first output row whose taps are not those of row `oh`."""
    return table[3 * oh + 2]


@inline
def all_taps(plane, s):
    """All taps, for rows that are taken together."""
    count = max(1, plane.each * s.kernel[1])
    return RowTaps(plane.channels, plane.first, count, s.output[1])
