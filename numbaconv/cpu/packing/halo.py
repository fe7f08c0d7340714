"""Halo tiles: the part of the padded input that a block of output rows and columns reads.

A stride s splits rows (and columns) into s phases: phase q holds the padded rows q, q + s, ...
Inside a phase neighbouring outputs read neighbouring elements, so every tap is one offset from
which the register tile reads with unit stride. The phases of a row are copied together, so that the
row is read once. Layout: [channel][kd][phase h][phase w][row][column].

For example stride 2 under 3 taps: taps 0 and 2 read phase 0, at shifts 0 and 1; tap 1 reads
phase 1, at shift 0.
"""

from typing import NamedTuple

import numpy as np

from numbaconv.codegen.arguments import Elements, Foreign, Indices
from numbaconv.codegen.integers import ceil_div
from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import CACHE_LINE, entries, pointer_at, shift
from numbaconv.cpu.job import AT, HALO, MOST_HALO, SHAPE, size_within
from numbaconv.cpu.packing.rows import (
    MOST_PADDED,
    PaddedRows,
    copy_padded,
    fill,
    pad_rows,
    split_rows,
)
from numbaconv.problem.padding_modes import padded_index, steps_to
from numbaconv.problem.shape import kernel_taps, pads_zeros, read_shape

# A channel of a halo tile is a few short rows, too few for the hardware to see a pattern.
PREFETCHED_CHANNELS = 2


class Halo(NamedTuple):
    """Layout of a halo tile.

    Attributes
    ----------
    rows : int
        Rows that a plane has more than the block of outputs.
    cols : int
        Columns of the block of outputs.
    phases_h, phases_w : int
        Phases of rows and columns.
    pitch, plane, phase, depth, channel : int
        Elements from one row, phase w, phase h, plane kd or channel to the next.
    """

    rows: int
    cols: int
    phases_h: int
    phases_w: int
    pitch: int
    plane: int
    phase: int
    depth: int
    channel: int


HALO_SIZE = size_within(Halo, MOST_HALO)


@inline
def axis_phase_count(kernel, stride, dilation):
    """Phases that the taps of an axis touch: tap t reads phase t % phases, in this numbering."""
    period, step = 1, dilation % stride
    while step != 0 and period < kernel:  # a stride may be huge, in padding that is
        period += 1
        step = (step + dilation) % stride
    return period


@inline
def axis_reach(kernel, stride, dilation):
    """Elements of a phase that the last tap lies behind the first."""
    return (kernel - 1) * dilation // stride


@inline
def phase_start(phase, stride, dilation):
    """Where a phase begins. Most layers have no phase but 0, and a division takes long."""
    return phase * dilation % stride if phase > 0 else 0


@inline
def odd_lines(count, itemsize):
    """Round up to an odd number of cache lines: neighbours then use all sets of a cache."""
    line = CACHE_LINE // itemsize
    return (count + line - 1) // line // 2 * 2 * line + line


@inline
def halo_layout(s, rows, cols, itemsize):
    """Layout of the halo tile of a block of `rows` x `cols` outputs."""
    phases_h = axis_phase_count(s.kernel[1], s.stride[1], s.dilation[1])
    phases_w = axis_phase_count(s.kernel[2], s.stride[2], s.dilation[2])
    reach = axis_reach(s.kernel[1], s.stride[1], s.dilation[1])
    pitch = cols + axis_reach(s.kernel[2], s.stride[2], s.dilation[2])
    plane = (rows + reach) * pitch
    phase = phases_w * plane
    depth = phases_h * phase
    channel = odd_lines(s.kernel[0] * depth, itemsize)
    return Halo(reach, cols, phases_h, phases_w, pitch, plane, phase, depth, channel)


def channel_sizes(s, cols, itemsize):
    """Return what gives the elements of a channel of tiles so many columns wide, by their rows."""
    none = halo_layout(s, 0, cols, itemsize)
    each = s.kernel[0] * none.phases_h * none.phases_w * none.pitch
    return lambda rows: odd_lines((rows + none.rows) * each, itemsize)


def is_far_out(s):
    """Whether an axis of the padded input is far longer than the input: no layer, a stray option.

    With padding of 12 a 3x3 filter of dilation 12 makes 31 columns of 7: that is not far.
    """
    axes = zip(s.size, s.kernel, s.stride, s.dilation, s.output, strict=True)
    return any((o - 1) * step + (k - 1) * d + 1 > 4 * n for n, k, step, d, o in axes)


def copies_padding(s, tile, blocks):
    """Whether halo tiles of so many elements a channel would be nearly all padding.

    They then take time, and memory, that neither input nor output explain.
    """
    read = kernel_taps(s) * s.output[0] * s.output[1] * s.output[2]
    return tile * blocks > 64 * (read + s.size[0] * s.size[1] * s.size[2])


def has_padded_halo(s):
    """Whether halo tiles of a usual size would be nearly all padding."""
    if not is_far_out(s):
        return False
    cols = min(s.output[2], 1024)
    rows = min(s.output[1], max(1, 1024 // cols))
    tile = s.kernel[0] * halo_layout(s, rows, cols, 4).depth
    blocks = s.output[0] * ceil_div(s.output[1], rows) * ceil_div(s.output[2], cols)
    return copies_padding(s, tile, blocks)


@inline
def splits_rows(s, halo):
    """Whether the phases w of a row begin one element after the other, and are copied together."""
    return halo.phases_w > 1 and s.dilation[2] % s.stride[2] == 1


@inline
def read_halo(job):
    """Rebuild the layout that a backend wrote into a job."""
    return Halo(*entries(job, HALO, HALO_SIZE))


@inline
def plane_place(s, halo, kd, rotation):
    """Where plane kd of a channel lies whose planes are rotated, as in a ring."""
    slot = kd + rotation
    return (slot - s.kernel[0] if slot >= s.kernel[0] else slot) * halo.depth


def tap_offsets(s, halo, channels):
    """Where the taps (c, kd, kh, kw) read in a halo tile, for the output at its corner."""
    c, kd, kh, kw = np.ogrid[:channels, : s.kernel[0], : s.kernel[1], : s.kernel[2]]
    rows = kh % halo.phases_h * halo.phase + kh * s.dilation[1] // s.stride[1] * halo.pitch
    columns = kw % halo.phases_w * halo.plane + kw * s.dilation[2] // s.stride[2]
    return (c * halo.channel + kd * halo.depth + rows + columns).ravel()


def tap_offsets_in_place(s):
    """Where the taps read in a channel of the input itself (stride 1)."""
    kd, kh, kw = np.ogrid[: s.kernel[0], : s.kernel[1], : s.kernel[2]]
    taps = (kd * s.dilation[0], kh * s.dilation[1], kw * s.dilation[2])
    return sum(tap * step for tap, step in zip(taps, s.in_strides[2:], strict=True)).ravel()


@inline
def copy_rows_of_channel(target, source, s, halo, together, split, first, count, lanes):
    """Copy some rows of a phase, or where they are `split` all phases w of them.

    `together` channels are copied at once where they are neighbours in memory, else 1.
    """
    for r in range(source.rows if split else 1):
        rows = PaddedRows(
            x=source.x,
            at=source.at + r * source.row_step,
            step=source.step,
            row_step=0 if split else 1 if together > 1 else source.row_step,
            rows=halo.phases_w if split else source.rows * together,
            size=source.size,
            mode=source.mode,
            outside=source.outside,
            alternate=source.alternate,
            prefetch_distance=source.prefetch_distance,
        )
        apart, step = 1 if split else 0, s.stride[2]
        target_step = halo.plane if split else halo.channel if together > 1 else halo.pitch
        row = shift(target, r * halo.pitch)
        copy_padded(row, target_step, rows, apart, first, step, count, lanes)


@inline
def rows_inside(s, first, rows):
    """Which of a phase's rows are the input's; the first of them is padded row `first`."""
    begin = min(steps_to(max(-first, 0), s.stride[1]), rows)
    return begin, max(min(steps_to(s.size[1] - first, s.stride[1]), rows), begin)


def copies_vectors(s, halo, lanes):
    """Whether rows are copied as vectors whose masks are the padding, as in most layers.

    Long rows under a stride of 1 are copied as fast without masks.
    """
    neighbours = s.in_strides[1] == 1 and s.c_in * s.groups > 1
    short = s.stride[2] == 1 and halo.pitch <= MOST_PADDED * lanes
    split = s.stride[2] == 2 and splits_rows(s, halo)
    dense = s.in_strides[4] == 1 and not neighbours
    return pads_zeros(s) and dense and (short or split)


@inline
def prefetch_distance(channel, channels, channel_step):
    """How far ahead of a channel's elements others are asked for: 0 at the last channels."""
    return PREFETCHED_CHANNELS * channel_step if channel + PREFETCHED_CHANNELS < channels else 0


@inline
def fill_vectors(target, x, s, halo, channels, corner, rows, count, kept, rotation, zero, lanes):
    """Copy a halo tile, rows by vectors. Loops: kd, phases of rows, channels, rows, vectors.

    `zero` is one of the elements' type.
    """
    d0, h0, w0 = corner
    stride, split = s.stride[1], s.stride[2] == 2
    pitch, size = halo.pitch, s.size[2]
    row_step, channel_step = stride * s.in_strides[3], s.in_strides[1]
    for kd in range(kept, s.kernel[0]):
        d = d0 + kd * s.dilation[0]
        place = plane_place(s, halo, kd, rotation)
        for q in range(halo.phases_h):
            h = h0 + phase_start(q, stride, s.dilation[1])
            begin, end = rows_inside(s, h, rows)
            if d < 0 or d >= s.size[0]:
                begin, end = rows, rows
            many = end - begin
            source = shift(x, d * s.in_strides[2] + (h + begin * stride) * s.in_strides[3])
            copy = shift(target, place + q * halo.phase)
            for c in range(channels):
                distance = prefetch_distance(c, channels, channel_step)
                inside = shift(copy, begin * halo.pitch)
                if split:
                    apart = halo.plane
                    split_rows(
                        *(inside, pitch, apart, source, row_step, many, w0, count, size),
                        *(distance, lanes),
                    )
                else:
                    pad_rows(
                        inside, pitch, source, row_step, many, w0, count, size, distance, lanes
                    )
                for w in range(halo.phases_w):
                    plane = shift(copy, w * halo.plane)
                    fill(plane, begin * halo.pitch, zero, lanes)
                    fill(shift(plane, end * halo.pitch), (rows - end) * halo.pitch, zero, lanes)
                source = shift(source, channel_step)
                copy = shift(copy, halo.channel)


@inline
def clear_behind(target, s, halo, channels, rows, count, lanes):
    """Set to zero what tiles read behind the rows and planes of a task, and nobody fills.

    What happens to lie there may be denormal, and such products take a hundred times as long.
    """
    planes = s.kernel[0] * halo.phases_h * halo.phases_w
    used, end, most = rows * halo.pitch, planes * halo.plane, 2 * lanes
    for c in range(channels):
        channel = shift(target, c * halo.channel)
        fill(shift(channel, end), min(most, halo.channel - end), 0, lanes)
        if used < halo.plane or count < halo.pitch:
            for p in range(planes):
                plane = shift(channel, p * halo.plane)
                fill(shift(plane, used), min(most, halo.plane - used), 0, lanes)
                for r in range(rows if count < halo.pitch else 0):
                    row = shift(plane, r * halo.pitch + count)
                    fill(row, min(most, halo.pitch - count), 0, lanes)


class FillHaloArguments(NamedTuple):
    """What `fill_halo` takes.

    Attributes
    ----------
    target, x, job : pointer
        The halo tile; the image, whose elements are converted; the job, with the problem and the
        layout of the tile.
    channel0, channels : int
        First channel of the image, and how many.
    d0, h0, w0 : int
        Where in the padded input the tile begins: minus the padding is the first.
    rows, cols : int
        Outputs that read the tile.
    kept : int
        So many of the first planes are there already, from the last tile.
    rotation : int
        Places by which the planes are rotated: see `plane_place`.
    """

    target: Elements
    x: Foreign
    job: Indices
    channel0: int
    channels: int
    d0: int
    h0: int
    w0: int
    rows: int
    cols: int
    kept: int
    rotation: int


@native(FillHaloArguments)
def fill_halo_by_vectors(
    target, x, job, channel0, channels, d0, h0, w0, rows, cols, kept, rotation
):
    """Do what `fill_halo` does, where `copies_vectors` holds."""
    s, halo = read_shape(job, SHAPE), read_halo(job)
    halo_rows, lanes = rows + halo.rows, job[AT.lanes]
    count = cols + halo.pitch - halo.cols
    clear_behind(target, s, halo, channels, halo_rows, count, lanes)
    image, corner = shift(x, channel0 * s.in_strides[1]), (d0, h0, w0)
    zero = pointer_at(job[AT.outside], target)[0]
    fill_vectors(
        target, image, s, halo, channels, corner, halo_rows, count, kept, rotation, zero, lanes
    )


@native(FillHaloArguments)
def fill_halo(target, x, job, channel0, channels, d0, h0, w0, rows, cols, kept, rotation):
    """Copy the halo tile whose first element is the padded input's (d0, h0, w0).

    Loop over the layout's axes in order: each row is one padded copy, of several channels at once
    where they are neighbours in memory, or of all its phases.
    """
    s, halo = read_shape(job, SHAPE), read_halo(job)
    halo_rows = rows + halo.rows
    count = cols + halo.pitch - halo.cols
    clear_behind(target, s, halo, channels, halo_rows, count, job[AT.lanes])
    neighbours = s.in_strides[1] == 1 and channels > 1
    c = 0
    while c < channels:
        together = min(job[AT.lanes], channels - c) if neighbours else 1
        split = splits_rows(s, halo) and together == 1
        phases_w = 1 if split else halo.phases_w
        distance = prefetch_distance(c, channels, s.in_strides[1])
        outside = shift(pointer_at(job[AT.outside], target), (channel0 + c) & 1)
        alternate = 1 if together > 1 else 0
        for kd in range(kept, s.kernel[0]):
            d = padded_index(d0 + kd * s.dilation[0], s.size[0], s.padding_mode[0])
            place = plane_place(s, halo, kd, rotation)
            for q in range(halo.phases_h * phases_w):
                qh = q // phases_w if q > 0 else 0
                qw = q - qh * phases_w
                first_h = h0 + phase_start(qh, s.stride[1], s.dilation[1])
                first_w = w0 + phase_start(qw, s.stride[2], s.dilation[2])
                at = c * halo.channel + place + qh * halo.phase + qw * halo.plane
                base = (channel0 + c) * s.in_strides[1] + d * s.in_strides[2]
                # Rows of the input itself are copied in one go, if channels are not; each padded
                # row by itself.
                begin, end = rows_inside(s, first_h, halo_rows)
                if together > 1:
                    begin, end = 0, 0
                for piece in range(1 + begin + halo_rows - end):
                    r, many = begin, end - begin
                    if piece > 0:
                        r, many = piece - 1 if piece <= begin else piece - 1 - begin + end, 1
                    h = padded_index(first_h + r * s.stride[1], s.size[1], s.padding_mode[1])
                    source = PaddedRows(
                        x=x,
                        at=base + h * s.in_strides[3],
                        step=s.in_strides[4],
                        row_step=s.stride[1] * s.in_strides[3],
                        rows=many,
                        size=s.size[2] if d >= 0 and h >= 0 else 0,
                        mode=s.padding_mode[2],
                        outside=outside,
                        alternate=alternate,
                        prefetch_distance=distance,
                    )
                    copy = shift(target, at + r * halo.pitch)
                    copy_rows_of_channel(
                        copy, source, s, halo, together, split, first_w, count, job[AT.lanes]
                    )
        c += together


def filler(s, halo, lanes):
    """The function that fills halo tiles of a layout: few problems need both to be compiled."""
    return fill_halo_by_vectors if copies_vectors(s, halo, lanes) else fill_halo
