"""Halo tiles: the part of the padded input that a block of output rows and columns reads.

A stride s splits rows (and columns) into s phases: phase q holds the padded rows q, q + s, ...
Inside a phase neighbouring outputs read neighbouring elements, so every tap is one offset from
which the register tile reads with unit stride. The phases of a row are copied together, all of it
read once: under a stride of 2 layers are 1.01 to 1.1 times as fast as with a copy for each phase,
with few channels a group 1.3 times; under a stride of 4 1.05 to 1.15 times. Layout:
[channel][kd][phase h][phase w][row][column].

For example stride 2 under 3 taps: taps 0 and 2 read phase 0, at shifts 0 and 1; tap 1 reads
phase 1, at shift 0.
"""

from typing import NamedTuple

import numpy as np
from numba import types

from numbaconv.jit import inline, native
from numbaconv.job import HALO, LANES, SHAPE
from numbaconv.padding import (
    MOST_PADDED,
    clear,
    copy_padded,
    pad_rows,
    padded_index,
    split_rows,
    steps_to,
)
from numbaconv.pointers import CACHE_LINE, entries, shift
from numbaconv.shape import ZEROS, read_shape

# A channel of a halo tile is a few short rows, too few for the hardware to see a pattern: U1, V2
# and V3 of `benchmarks/layers.csv` run 1.01 times as fast with these, A1 1.02 times.
CHANNELS_AHEAD = 2


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


HALO_SIZE = len(Halo._fields)


@inline
def axis_phases(kernel, stride, dilation):
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
    phases_h = axis_phases(s.kernel[1], s.stride[1], s.dilation[1])
    phases_w = axis_phases(s.kernel[2], s.stride[2], s.dilation[2])
    reach = axis_reach(s.kernel[1], s.stride[1], s.dilation[1])
    pitch = cols + axis_reach(s.kernel[2], s.stride[2], s.dilation[2])
    plane = (rows + reach) * pitch
    phase = phases_w * plane
    depth = phases_h * phase
    channel = odd_lines(s.kernel[0] * depth, itemsize)
    return Halo(reach, cols, phases_h, phases_w, pitch, plane, phase, depth, channel)


@inline
def splits_rows(s, halo):
    """Whether the phases w of a row begin one element after the other, and are copied together."""
    return halo.phases_w > 1 and s.dilation[2] % s.stride[2] == 1


@inline
def read_halo(job):
    """Rebuild the layout that a backend wrote into a job."""
    return Halo(*entries(job, HALO, HALO_SIZE))


@inline
def plane_place(s, halo, kd, turn):
    """Where plane kd of a channel lies whose planes are turned, as in a ring."""
    slot = kd + turn
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


def _signature(dtype):
    i, p = types.int64, types.CPointer(dtype)
    return types.void(p, p, types.CPointer(i), i, i, i, i, i, i, i, i, i)


@inline
def copy_rows_of_channel(
    target, x, at, job, s, halo, rows, together, split, first, count, size, ahead
):
    """Copy some rows of a phase, or where they are `split` all phases w of them.

    `together` channels are copied at once where they are neighbours in memory, else 1; `size` is
    that of the rows, or 0 where they are padding.
    """
    row_step = s.stride[1] * s.in_strides[3]
    for r in range(rows if split else 1):
        copy_padded(
            shift(target, r * halo.pitch),
            halo.plane if split else halo.channel if together > 1 else halo.pitch,
            x,
            at + r * row_step,
            s.in_strides[4],
            0 if split else 1 if together > 1 else row_step,
            halo.phases_w if split else rows * together,
            1 if split else 0,
            first,
            s.stride[2],
            count,
            size,
            s.padding_mode,
            ahead,
            job[LANES],
        )


@inline
def rows_inside(s, first, rows):
    """Which of a phase's rows are the input's; the first of them is padded row `first`."""
    begin = min(steps_to(max(-first, 0), s.stride[1]), rows)
    return begin, max(min(steps_to(s.size[1] - first, s.stride[1]), rows), begin)


@inline
def copies_vectors(s, halo, count, lanes):
    """Whether rows are copied as vectors whose masks are the padding, as in most layers.

    A loop that does nothing else makes layers 1.0 to 1.02 times as fast, 3-D ones under a stride of
    2 1.1 times. Long rows under a stride of 1 are copied as fast without masks.
    """
    dense = s.in_strides[4] == 1
    short = s.stride[2] == 1 and count <= MOST_PADDED * lanes
    split = s.stride[2] == 2 and splits_rows(s, halo)
    return s.padding_mode == ZEROS and dense and (short or split)


@inline
def fill_vectors(target, x, s, halo, channels, d0, h0, w0, rows, count, kept, turn, lanes):
    """Copy a halo tile, rows by vectors. Loops: kd, phases of rows, channels, rows, vectors."""
    stride, split = s.stride[1], s.stride[2] == 2
    row_step, channel_step = stride * s.in_strides[3], s.in_strides[1]
    for kd in range(kept, s.kernel[0]):
        d = d0 + kd * s.dilation[0]
        place = plane_place(s, halo, kd, turn)
        for q in range(halo.phases_h):
            h = h0 + phase_start(q, stride, s.dilation[1])
            begin, end = rows_inside(s, h, rows)
            if d < 0 or d >= s.size[0]:
                begin, end = rows, rows
            many = end - begin
            source = shift(x, d * s.in_strides[2] + (h + begin * stride) * s.in_strides[3])
            copy = shift(target, place + q * halo.phase)
            for c in range(channels):
                ahead = CHANNELS_AHEAD * channel_step if c + CHANNELS_AHEAD < channels else 0
                inside = shift(copy, begin * halo.pitch)
                if split:
                    split_rows(
                        inside, halo.pitch, halo.plane, source, row_step,
                        many, w0, count, s.size[2], lanes,
                    )  # fmt: skip
                else:
                    pad_rows(
                        inside, halo.pitch, source, row_step,
                        many, w0, count, s.size[2], ahead, lanes,
                    )  # fmt: skip
                for w in range(halo.phases_w):
                    plane = shift(copy, w * halo.plane)
                    clear(plane, begin * halo.pitch, lanes)
                    clear(shift(plane, end * halo.pitch), (rows - end) * halo.pitch, lanes)
                source = shift(source, channel_step)
                copy = shift(copy, halo.channel)


@native(_signature)
def fill_halo(target, x, job, channel0, channels, d0, h0, w0, rows, cols, kept, turn):
    """Copy the halo tile whose first element is the padded input's (d0, h0, w0).

    The first planes may be `kept` from the last tile, in places by which all are turned.
    `x` points at the image. Rows go by vectors, or, in general, in a loop over the layout's axes in
    order: each row is one padded copy, of several channels at once where they are neighbours in
    memory, or of all its phases.
    """
    s, halo = read_shape(job, SHAPE), read_halo(job)
    halo_rows = rows + halo.rows
    count = cols + halo.pitch - halo.cols
    neighbours = s.in_strides[1] == 1 and channels > 1
    if not neighbours and copies_vectors(s, halo, count, job[LANES]):
        image = shift(x, channel0 * s.in_strides[1])
        fill_vectors(
            target, image, s, halo, channels, d0, h0, w0, halo_rows, count, kept, turn, job[LANES]
        )
        return
    c = 0
    while c < channels:
        together = min(job[LANES], channels - c) if neighbours else 1
        split = splits_rows(s, halo) and together == 1
        phases_w = 1 if split else halo.phases_w
        ahead = CHANNELS_AHEAD * s.in_strides[1] if c + CHANNELS_AHEAD < channels else 0
        for kd in range(kept, s.kernel[0]):
            d = padded_index(d0 + kd * s.dilation[0], s.size[0], s.padding_mode)
            place = plane_place(s, halo, kd, turn)
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
                    h = padded_index(first_h + r * s.stride[1], s.size[1], s.padding_mode)
                    copy_rows_of_channel(
                        shift(target, at + r * halo.pitch),
                        x,
                        base + h * s.in_strides[3],
                        job,
                        s,
                        halo,
                        many,
                        together,
                        split,
                        first_w,
                        count,
                        s.size[2] if d >= 0 and h >= 0 else 0,
                        ahead,
                    )
        c += together
