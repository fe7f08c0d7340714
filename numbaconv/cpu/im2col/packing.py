"""Panels are filled: with patches, tap by tap, or along the rows of a pointwise layer.

There is a function for either. A worker calls one through its address, for a slice of k of all
panels of a task.
"""

from typing import Any, NamedTuple

from numbaconv.codegen.arguments import Elements, Indices
from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pipeline import lightly
from numbaconv.codegen.pointers import behind, call, pointer_at, shift
from numbaconv.cpu.im2col.panels import (
    LAYOUT_SIZE,
    PANEL,
    locate,
    locate_panel,
    pixels_of,
    read_blocks,
    zones_of,
)
from numbaconv.cpu.job import AT, HALO, MOST_HALO, SHAPE, places, size_within
from numbaconv.cpu.packing.lanes import copy_lanes, fill_lanes, prefetch
from numbaconv.cpu.packing.rows import CopyRunArguments
from numbaconv.problem.padding_modes import padded_index
from numbaconv.problem.shape import ZEROS, read_shape


class Functions(NamedTuple):
    """What workers call beside the tile; as `CALLED`, the place of its address in a job.

    Attributes
    ----------
    pack : int
        `pack_patches` or `pack_lines`.
    """

    pack: Any


CALLED: Functions = places(Functions, HALO + LAYOUT_SIZE)
size_within(Functions, MOST_HALO - LAYOUT_SIZE)


class PackArguments(NamedTuple):
    """What the functions here take.

    Attributes
    ----------
    panels : pointer
        Where the first panel goes; the others behind it.
    job, reads : pointer
        The job; which taps of a panel read more than padding is written to `reads`.
    group, begin, panel_count : int
        The panels `begin`, `begin + 1`, ... of a group: how many.
    k0, k1 : int
        Rows of the patch matrix, k0 .. k1 - 1.
    """

    panels: Elements
    job: Indices
    reads: Indices
    group: int
    begin: int
    panel_count: int
    k0: int
    k1: int


@inline
def pack_run(job, target, b, s, g, pixel, run, tap, c0, c1):
    """Write what the pixels of a run read through a tap, for channels c0 .. c1 - 1.

    Returns 1 if that is more than zeros of padding, else 0.
    """
    kw = tap % s.kernel[2]
    kh = tap // s.kernel[2] % s.kernel[1]
    kd = tap // (s.kernel[1] * s.kernel[2])
    od = pixel.row // s.output[1]
    oh = pixel.row - od * s.output[1]
    mode_d, mode_h, mode = s.padding_mode
    d = padded_index(od * s.stride[0] + kd * s.dilation[0] - s.padding[0], s.size[0], mode_d)
    h = padded_index(oh * s.stride[1] + kh * s.dilation[1] - s.padding[1], s.size[1], mode_h)
    first = pixel.column * s.stride[2] + kw * s.dilation[2] - s.padding[2]
    padding = first >= s.size[2] or first + (run - 1) * s.stride[2] < 0
    inside = d >= 0 and h >= 0 and not (padding and mode <= ZEROS)
    at = (
        pixel.n * s.in_strides[0]
        + (g * s.c_in + c0) * s.in_strides[1]
        + d * s.in_strides[2]
        + h * s.in_strides[3]
    )
    size = s.size[2] if inside else 0
    call(
        job[AT.fill_halo],
        CopyRunArguments(
            target=target,
            target_step=b.nr,
            x=behind(job[AT.x], at, job[AT.in_size]),
            job=job,
            channel=g * s.c_in + c0,
            channels=c1 - c0,
            size=size,
            first=first,
            step=s.stride[2],
            elements=run,
        ),
    )
    return 1 if inside or min(s.padding_mode) < ZEROS else 0


@inline
def pack_panel(job, target, s, b, g, panel, k0, k1, reads):
    """target[(k - k0) * nr + j] = element k = (tap, c) of the patch of pixel j of the panel.

    Loops: taps; runs of pixels in one row; channels; pixels. A tap that reads only padding is
    marked in `reads`, unless it is the first of the first slice, of which none reads more: every
    output is to be stored.
    """
    tap0, tap1 = k0 // s.c_in, (k1 - 1) // s.c_in + 1
    any_read = 0
    for i in range(tap1 - tap0):
        tap = tap1 - 1 - i
        c0, c1 = max(0, k0 - tap * s.c_in), min(s.c_in, k1 - tap * s.c_in)
        row = shift(target, (tap * s.c_in + c0 - k0) * b.nr)
        read = 0
        j = 0
        while j < panel.width:
            pixel = locate(panel, j, s)
            run = min(pixel.left, panel.width - j)
            read |= pack_run(job, shift(row, j), b, s, g, pixel, run, tap, c0, c1)
            j += run
        any_read |= read
        reads[tap - tap0] = 1 if tap == k0 == 0 and any_read == 0 else read


@inline
def clear_ends(pixels, b, width, many, lanes):
    """Set to zero what the tile reads of a panel behind its pixels, in `many` rows.

    What happens to lie there may be denormal, and such products take a hundred times as long.
    """
    behind = -width % lanes
    if behind > 0:
        for k in range(many):
            fill_lanes(shift(pixels, k * b.nr + width), 0, behind)


@native(PackArguments, lightly)
def pack_patches(panels, job, reads, group, begin, panel_count, k0, k1):
    """Write panels of any layer."""
    s, b = read_shape(job, SHAPE), read_blocks(job)
    zones, taps = zones_of(job, b), job[PANEL.taps]
    for i in range(panel_count):
        panel = locate_panel(zones, b.zones, b.zone_panels, begin + i, b.nr, s)
        pixels = shift(panels, i * b.nr * b.kc)
        pack_panel(job, pixels, s, b, group, panel, k0, k1, shift(reads, i * taps))
        clear_ends(pixels, b, panel.width, k1 - k0, job[AT.lanes])


@native(PackArguments)
def pack_lines(panels, job, reads, group, begin, panel_count, k0, k1):
    """Write panels of a pointwise layer whose elements are not converted: see `are_lines`.

    A channel is read through all panels before the next: these are longer runs of memory, and each
    page is looked up once. Loops: rows; channels; panels; vectors.
    """
    s, b, lanes = read_shape(job, SHAPE), read_blocks(job), job[AT.lanes]
    image = pointer_at(job[AT.x], panels)
    pixels, apart = s.output[2], b.nr * b.kc
    first = begin * b.nr
    left = min(panel_count * b.nr, pixels_of(s) - first)
    j = 0
    while j < left:
        row = (first + j) // pixels
        at, n = first + j - row * pixels, row // s.output[1]
        run, panel = min(pixels - at, left - j), j // b.nr
        at += n * s.in_strides[0] + (row - n * s.output[1]) * s.in_strides[3]
        x = shift(image, at + (group * s.c_in + k0) * s.in_strides[1])
        ahead = job[AT.prefetch_distance]
        for k in range(k1 - k0):
            source, target = shift(x, k * s.in_strides[1]), shift(panels, panel * apart + k * b.nr)
            column, i = j - panel * b.nr, 0
            while i < run:
                width, v = min(b.nr - column, run - i), 0
                while v < width:
                    prefetch(shift(source, ahead + i + v))
                    copy_lanes(shift(target, column + v), shift(source, i + v), width - v)
                    v += lanes
                target = shift(target, apart)
                i += width
                column = 0
        j += run
    width = left - (panel_count - 1) * b.nr
    clear_ends(shift(panels, (panel_count - 1) * apart), b, width, k1 - k0, lanes)
    for i in range(panel_count):
        reads[i * job[PANEL.taps]] = 1
