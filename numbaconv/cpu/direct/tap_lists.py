"""Taps of the direct backend: sums leave out those that read nothing but zero padding.

On a 7 x 7 map that is a tenth of the taps of a padded 3x3 filter. Tiles take taps from a list,
of each its offset among the pixels and among the weights, so leaving some out costs nothing.
`tap_table` lists them for each plane of outputs. Rows of pixels take a piece of a list, where those
of a row of the filter are together. Pixel tiles have a list for all output rows under the same
taps, where those of a column of the filter are together: the ends of a row leave out the first
columns and the last.
"""

import functools
from math import gcd
from typing import NamedTuple

import numpy as np

from numbaconv.codegen.integers import ceil_div, largest_divisor
from numbaconv.codegen.jit import inline
from numbaconv.codegen.pointers import shift
from numbaconv.cpu.blocking import (
    HOST_FIRST_LEVEL,
    MOST_SINGLE,
    NARROW_TILES,
    TILE_ROWS,
    TILE_VECTORS,
)
from numbaconv.problem.padding_modes import steps_to
from numbaconv.problem.shape import ZEROS, kernel_taps, pads_zeros
from numbaconv.problem.taps import Taps, axis_taps, taps_inside

# Up to so many taps of all channels are one list: where k is short, as in first layers, beginning
# the taps of another channel takes long beside the few products of each.
MOST_LISTED = 256

# Lines so many bytes apart want the same place in a first-level cache; bytes of an element, for
# orders that are not to go by the dtype.
PLACE_BYTES, SINGLE_BYTES = 4096, 4

# Channels that lie side by side and make a list, at least.
FEWEST_SIDE_BY_SIDE = 8

# Entries of the lists of all planes, at most; else each plane has the one of all taps.
MOST_ENTRIES = 1 << 15


class PlaneTaps(NamedTuple):
    """The listed taps of an output plane.

    Attributes
    ----------
    rows : pointer
        Of each output row: the row of the filter that its taps begin with, or in the lists of pixel
        tiles how many rows the lists before its own have; how many rows; and the first output row
        with others.
    first : pointer
        The list [kh][channel][kd][kw], or those of pixel tiles, [kw][kh][channel][kd]: of each tap
        its offsets among pixels and weights.
    each, step : int
        Taps for each kh, 0 if all read padding; elements of the list for each kh.
    together, channels : int
        Channels whose taps a list has; how often the tile loops over such.
    """

    rows: object
    first: object
    each: int
    step: int
    together: int
    channels: int


class RowTaps(NamedTuple):
    """What the tile takes: channels of a list, how many such, it, its taps; the next other row."""

    together: int
    channels: int
    first: object
    taps: int
    until: int


def for_each_output(runs, entries):
    """Repeat the entries of each run for all of its outputs."""
    return np.repeat(entries, np.diff([0, *(until for _, until in runs)]), axis=0).ravel()


def places_for(*steps):
    """How many lines that lie multiples of so many bytes apart a first-level cache holds."""
    return HOST_FIRST_LEVEL // gcd(PLACE_BYTES, *steps)


def lines_of_channel(s):
    """Lines that a tile reads under all taps of a channel, with the channels side by side."""
    pixels, (kd, kh, kw) = min(s.output[2], TILE_ROWS), s.kernel
    return kd * kh * min(kw * pixels, (pixels - 1) * s.stride[2] + (kw - 1) * s.dilation[2] + 1)


def lists_lines(s):
    """Whether lists of pixels that are read in place have several channels, which lie side by side.

    A tile then reads what is in one cache line of each pixel step after step, and few lines at
    once. That pays under a stride, where neighbouring taps read other lines, if those of all taps
    would push each other out of the first-level cache. Elsewhere the order is (channel, tap), and
    so it is where images may be columns, as it must not go by the batch: see
    `simplest.with_images_innermost`.
    """
    rows = len(axis_taps(s, 0)) * len(axis_taps(s, 1))
    fits = 4 * rows * MOST_SINGLE * kernel_taps(s) <= MOST_ENTRIES
    strided = s.in_strides[1] == 1 and s.kernel[2] > 1 and s.stride[2] > 1 and pads_zeros(s)
    several = largest_divisor(s.c_in, MOST_SINGLE) >= FEWEST_SIDE_BY_SIDE
    crowded = lines_of_channel(s) > places_for(SINGLE_BYTES * s.in_strides[4])
    return strided and several and fits and crowded and 4 * s.output[2] > TILE_ROWS


def channels_together(s, kc, in_place=False):
    """Channels whose taps a list has, of KC at a time: all if these are few, else mostly 1.

    Rows of the filter come before the channels of a list. So that must not go by how many channels
    a halo tile has of a single row of outputs, which goes by threads and images: the bits would,
    too. A single tap has no order.
    """
    steady = s.kernel[1] == 1 or s.output[1] > 1
    if steady and kc == s.c_in and s.c_in * kernel_taps(s) <= MOST_LISTED:
        return s.c_in
    several = kernel_taps(s) == 1 or (in_place and lists_lines(s))
    return largest_divisor(gcd(kc, s.c_in), MOST_SINGLE) if several else 1


@inline
def columns_left_out(s):
    """Columns of the filter that the first pixel of a row leaves out, and the last: padding.

    None, if a column would be both.
    """
    if s.padding_mode[2] != ZEROS:
        return 0, 0
    first = taps_inside(s, 2, 0).begin
    last = s.kernel[2] - taps_inside(s, 2, s.output[2] - 1).end
    return (first, last) if first + last <= s.kernel[2] else (0, 0)


def fits_lists(s, kc, rows, in_place):
    """Whether planes, and so many kinds of output rows, have lists of their own."""
    channels = channels_together(s, kc, in_place)
    return 4 * len(axis_taps(s, 0)) * rows * channels * kernel_taps(s) <= MOST_ENTRIES


@functools.lru_cache(maxsize=64)  # planning asks for a problem some ten times
def leaves_out_padding(s):
    """Whether pixel tiles read no padding: taps that would are left out, and no row has no other.

    Of columns it is the first and the last output that leave taps out, the one the first taps and
    the other the last.
    """
    every, last = Taps(0, s.kernel[2]), s.output[2] - 1
    ends_only = last < 2 or taps_inside(s, 2, 1) == taps_inside(s, 2, last - 1) == every
    at_first, at_last = taps_inside(s, 2, 0), taps_inside(s, 2, last)
    outer = last == 0 or (at_first.end == s.kernel[2] and at_last.begin == 0)
    some = all(taps.end > taps.begin for axis in (0, 1) for taps, _ in axis_taps(s, axis))
    apart = outer and at_first.begin <= at_last.end
    fits = fits_lists(s, s.c_in, len(axis_taps(s, 1)), True)
    return pads_zeros(s) and ends_only and apart and some and fits


def list_taps(s, depths, heights, channels, channel_step, offsets, order, outer):
    """List the taps of some planes kd and rows kh, at least one: the entry of each.

    Weights are [channel][tap], or [tap][channel] where taps are `outer`.
    """
    numbers = np.arange(channels * kernel_taps(s)).reshape(channels, *s.kernel)
    used = numbers[:, depths.begin : depths.end, heights.begin : heights.end]
    listed = used.transpose(order).ravel()
    if not listed.size:
        listed = numbers[0, 0, 0, :1]
    channel, tap = np.divmod(listed, kernel_taps(s))
    weights = tap * s.c_in + channel if outer else listed
    return np.stack([offsets[tap] + channel * channel_step, weights], axis=1)


def tap_table(s, offsets, channel_step, b, for_pixel_tiles, in_place):
    """Table of a problem: rows of outputs, planes, and the lists.

    Parameters
    ----------
    offsets : ndarray
        Of the taps of a channel among the pixels, [kd][kh][kw]; `channel_step` is that of channels.
    b : Blocks
        How the problem is cut.
    for_pixel_tiles, in_place : bool
        Whether lists are those of pixel tiles; whether the input is read where it lies.

    Returns
    -------
    ndarray
        What `plane_taps` and `row_taps` read: three integers for each output row; five for each
        output plane, where its lists begin, for panels of full width and for a narrower last one,
        how many taps they have for each row of the filter, how many integers, and of how many
        channels; the lists.
    """
    down, runs = axis_taps(s, 1), axis_taps(s, 0)
    channels = channels_together(s, b.kc, in_place)
    if not fits_lists(s, b.kc, 1, in_place):
        runs = [(Taps(0, s.kernel[0]), s.output[0])]
    if for_pixel_tiles:
        if not fits_lists(s, b.kc, len(down), in_place):
            down = [(Taps(0, s.kernel[1]), s.output[1])]
        pieces, order = [row_of_filter(s, taps) for taps, _ in down], (3, 2, 0, 1)
        counts = [taps.end - taps.begin for taps in pieces]
        before = np.cumsum([0, *counts])
        rows = [(*each, until) for *each, (_, until) in zip(before, counts, down, strict=False)]
    else:
        pieces, order = [Taps(0, s.kernel[1])], (2, 0, 1, 3)
        rows = [(min(t.begin, s.kernel[1] - 1), t.end - t.begin, until) for t, until in down]
    outer = in_place and lists_lines(s)
    widths = (b.mr, s.c_out - (b.oc_blocks - 1) * b.mr)
    planes, lists, at = [], [], 3 * s.output[1] + 5 * s.output[0]
    for depths, _ in runs:
        each = channels * (depths.end - depths.begin) * s.kernel[2]
        listed = np.concatenate(
            [
                list_taps(s, depths, heights, channels, channel_step, offsets, order, outer)
                for heights in (pieces if each else pieces[:1])
            ]
        )
        narrow = at + listed.size if widths[1] < widths[0] else at
        planes.append((at, narrow, each, 2 * each, channels))
        lists += [(listed * (1, width)).ravel() for width in dict.fromkeys(widths)]
        at = narrow + listed.size
    return np.concatenate((for_each_output(down, rows), for_each_output(runs, planes), *lists))


def row_of_filter(s, taps):
    """Rows kh of the filter, or one of them if all read padding."""
    begin = min(taps.begin, s.kernel[1] - 1)
    return Taps(begin, max(taps.end, begin + 1))


@inline
def plane_taps(table, s, od, narrow, channels):
    """Read the taps of an output plane, for a panel of full width or a `narrow` one."""
    plane = shift(table, 3 * s.output[1] + 5 * od)
    first = shift(table, plane[1] if narrow else plane[0])
    return PlaneTaps(table, first, plane[2], plane[3], plane[4], channels // plane[4])


@inline
def row_taps(plane, oh):
    """Read the taps of an output row; of one that reads nothing but padding a tap of one channel.

    A tile starts its sums with a tap.
    """
    row = shift(plane.rows, 3 * oh)
    first, count = shift(plane.first, plane.step * row[0]), plane.each * row[1]
    channels = plane.channels if count > 0 else 1
    return RowTaps(plane.together, channels, first, max(1, count), row[2])


def empty_columns(s):
    """Columns of outputs at both ends of a row that read nothing but padding.

    They are there if a row has more padding than the taps reach.
    """
    if s.padding_mode[2] != ZEROS:
        return 0, 0
    cols, padding, stride = s.output[2], s.padding[2], s.stride[2]
    first = steps_to(max(padding - (s.kernel[2] - 1) * s.dilation[2], 0), stride)
    before = min(first, cols)
    return before, cols - max(before, min(steps_to(s.size[2] + padding, stride), cols))


def goes_down(s, lanes):
    """Whether `matrix` may take pixels down the columns of rows: narrow ones, stored straight."""
    return s.out_strides[4] == 1 and s.output[2] < NARROW_TILES * TILE_VECTORS * lanes


def empty_vectors(s, lanes):
    """As `empty_columns`: none, where the others fill as many vectors or rows go one by one."""
    cols, ends = s.output[2], empty_columns(s)
    fewer = ceil_div(cols - sum(ends), lanes) < ceil_div(cols, lanes)
    return ends if fewer and goes_down(s, lanes) else (0, 0)


@inline
def rows_until(table, oh):
    """The first output row whose taps are not those of row `oh`."""
    return table[3 * oh + 2]


@inline
def all_taps(plane, s):
    """All taps, for rows that are taken together."""
    count = max(1, plane.each * s.kernel[1])
    return RowTaps(plane.together, plane.channels, plane.first, count, s.output[1])
