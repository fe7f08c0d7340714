"""How the im2col backend cuts a problem, and which pixels a panel holds.

A panel is NR pixels in the order image, zone, row, column. Mostly there is one zone, the whole
output of all images; where many taps read nothing but padding, zones keep the pixels together
that can skip the same taps.
"""

import itertools
from typing import NamedTuple

import numpy as np

from numbaconv.codegen.integers import ceil_div
from numbaconv.codegen.jit import inline
from numbaconv.codegen.pointers import entries, indices_at, shift
from numbaconv.cpu.job import AT, BLOCKS, HALO, MOST_BLOCKS, MOST_HALO, places, size_within
from numbaconv.problem.shape import kernel_taps, pads_zeros
from numbaconv.problem.taps import axis_taps


class PanelBlocks(NamedTuple):
    """How a problem is cut.

    Attributes
    ----------
    mr, oc_blocks : int
        Rows of a register block, and how many blocks a group has.
    oc_parts : int
        Tasks that share the output channels of one pixel block.
    nr, panels : int
        Pixels of a panel; panels of a task.
    kc, together : int
        Rows of the patch matrix in a panel; how many of these are one list of the tile's.
    zones, zone_panels : int
        Zones of the output, and panels of all of them (of one image, if there are several zones).
    all_panels, pixel_blocks, tasks : int
        Panels of a group; tasks that they make; tasks of the problem.
    """

    mr: int
    oc_blocks: int
    oc_parts: int
    nr: int
    panels: int
    kc: int
    together: int
    zones: int
    zone_panels: int
    all_panels: int
    pixel_blocks: int
    tasks: int


BLOCKS_SIZE = size_within(PanelBlocks, MOST_BLOCKS)


@inline
def read_blocks(job):
    """Rebuild the blocks that `lower` made."""
    return PanelBlocks(*entries(job, BLOCKS, BLOCKS_SIZE))


class PanelLayout(NamedTuple):
    """What else a worker knows of panels; as `PANEL`, where it lies in a job.

    Attributes
    ----------
    taps : int
        Taps that a slice of KC rows can touch.
    joins : int
        1: panels that follow one another may be one piece of a row of the output.
    """

    taps: int
    joins: int


PANEL: PanelLayout = places(PanelLayout, HALO)
LAYOUT_SIZE = size_within(PanelLayout, MOST_HALO)


@inline
def zones_of(job, b):
    """The zones in a job's table, behind the lists of rows: what `make_zones` returned."""
    return shift(indices_at(job[AT.table]), 4 * b.together)


class Panel(NamedTuple):
    """The pixels of a panel: from (row, column) on, row by row through the columns of a zone.

    Rows are counted through all planes and images.
    """

    row: int
    column: int
    zone_first: int
    zone_columns: int
    width: int


class Pixel(NamedTuple):
    """A pixel's place: image, row of all its planes, column, and columns left in its zone."""

    n: int
    row: int
    column: int
    left: int


def _boundaries(s, axis):
    """Where, along an axis of the output, a tap begins or ceases to read more than padding."""
    return [0, *(until for _, until in axis_taps(s, axis))]


def fills_zones(s, nr):
    """Whether zones of a plane pay: many taps read padding alone, and zones fill their panels."""
    if not pads_zeros(s) or max(s.padding) < nr // 4:
        return False
    zones = len(axis_taps(s, 1)) * len(axis_taps(s, 2))
    return zones > 1 and zones * 2 * nr <= s.output[1] * s.output[2]


def make_zones(s, nr):
    """Cut the output into zones in all of whose pixels the same taps read only padding.

    Where taps lie far apart and padding is wide, whole panels then skip these taps: of a 3x3
    kernel with dilation 12 on a 33x33 map 43%. Elsewhere there is one zone, of all images.

    Returns
    -------
    ndarray
        Shape (zones, 5): first panel, first row, rows, first column, columns.
    """
    if s.output[0] > 1 or not fills_zones(s, nr):  # one, of all images
        rows = s.n * s.output[0] * s.output[1]
        return np.array([[0, 0, rows, 0, s.output[2]]])
    down, across = _boundaries(s, 1), _boundaries(s, 2)
    zones, panels = [], 0
    for top, bottom in itertools.pairwise(down):
        for left, right in itertools.pairwise(across):
            zones.append((panels, top, bottom - top, left, right - left))
            panels += ceil_div((bottom - top) * (right - left), nr)
    return np.array(zones)


@inline
def locate_panel(zones, zone_count, zone_panels, number, nr, s):
    """Find the pixels of a panel: images, then zones, then rows of the zone, then columns.

    `zones` points at what `make_zones` returned, `zone_panels` is the panels of all of them.
    """
    n = number // zone_panels
    number -= n * zone_panels
    zone = 5 * (zone_count - 1)
    while zones[zone] > number:
        zone -= 5
    first = (number - zones[zone]) * nr
    columns = zones[zone + 4]
    row = first // columns
    return Panel(
        n * s.output[0] * s.output[1] + zones[zone + 1] + row,
        zones[zone + 3] + first - row * columns,
        zones[zone + 3],
        columns,
        min(nr, zones[zone + 2] * columns - first),
    )


@inline
def locate(panel, j, s):
    """Place of pixel `j` of a panel."""
    at = panel.column - panel.zone_first + j
    down = at // panel.zone_columns
    at -= down * panel.zone_columns
    row = panel.row + down
    n = row // (s.output[0] * s.output[1])
    left = panel.zone_columns - at
    return Pixel(n, row - n * s.output[0] * s.output[1], panel.zone_first + at, left)


@inline
def out_index(pixel, channel, s):
    """Index of a pixel of a channel in the output."""
    od = pixel.row // s.output[1]
    return (
        pixel.n * s.out_strides[0]
        + channel * s.out_strides[1]
        + od * s.out_strides[2]
        + (pixel.row - od * s.output[1]) * s.out_strides[3]
        + pixel.column * s.out_strides[4]
    )


@inline
def are_neighbours(panel, s):
    """Whether the pixels of a panel lie side by side in the output."""
    first, last = locate(panel, 0, s), locate(panel, panel.width - 1, s)
    apart = out_index(last, 0, s) - out_index(first, 0, s)
    return s.out_strides[4] == 1 and first.n == last.n and apart == panel.width - 1


def are_lines(s):
    """Whether patches are the pixels of long rows, as they lie: of pointwise layers.

    In its simplest form such a layer has a row for each image. Phases of gradients may have more
    outputs than pixels, and begin elsewhere.
    """
    along = (
        s.size[1] == s.output[1] and s.size[2] == s.output[2] and s.stride[1] == s.stride[2] == 1
    )
    inside = s.padding[0] == 0 and s.padding[1] == 0 and s.padding[2] == 0 and s.output[0] == 1
    return kernel_taps(s) == 1 and along and inside and s.in_strides[4] == 1


@inline
def pixels_of(s):
    """Pixels of all images."""
    return s.n * s.output[0] * s.output[1] * s.output[2]


def most_taps(s, kc):
    """Taps that a slice of KC rows can touch."""
    return min(kc // s.c_in + 2, kernel_taps(s))
