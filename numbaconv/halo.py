"""Halo tiles: the part of the padded input that a block of output rows and columns reads.

A stride s splits rows (and columns) into s phases: phase q holds the padded rows q, q + s, ...
Inside a phase neighbouring outputs read neighbouring elements, so every tap is one offset from
which the register tile reads with unit stride. Layout: [channel][kd][phase h][phase w][row][column].

For example stride 2 under 3 taps: taps 0 and 2 read phase 0, at shifts 0 and 1; tap 1 reads
phase 1, at shift 0.
"""

from typing import NamedTuple

from numbaconv.jit import inline
from numbaconv.padding import copy_padded, fill_zero, padded_index
from numbaconv.pointers import shift


class Halo(NamedTuple):
    """Layout of a halo tile: elements from one row, plane, phase or channel to the next."""

    rows: int
    pitch: int
    phases_h: int
    phases_w: int
    plane: int
    phase: int
    depth: int
    channel: int


@inline
def axis_phases(kernel, stride, dilation):
    """Phases that the taps of an axis touch: tap t reads phase t % phases, in this numbering."""
    period, step = 1, dilation % stride
    while step != 0:
        period += 1
        step = (step + dilation) % stride
    return min(period, kernel)


@inline
def axis_reach(kernel, stride, dilation):
    """Elements of a phase that the last tap lies behind the first."""
    return (kernel - 1) * dilation // stride


@inline
def halo_layout(s, rows, cols):
    """Layout of the halo tile of a block of `rows` x `cols` outputs."""
    phases_h = axis_phases(s.kernel[1], s.stride[1], s.dilation[1])
    phases_w = axis_phases(s.kernel[2], s.stride[2], s.dilation[2])
    halo_rows = rows + axis_reach(s.kernel[1], s.stride[1], s.dilation[1])
    pitch = cols + axis_reach(s.kernel[2], s.stride[2], s.dilation[2])
    plane = halo_rows * pitch
    phase = phases_w * plane
    depth = phases_h * phase
    return Halo(halo_rows, pitch, phases_h, phases_w, plane, phase, depth, s.kernel[0] * depth)


@inline
def tap_offsets(offsets, s, halo, channels):
    """offsets[(c, kd, kh, kw)] = where a tap reads in a halo tile, for the output at its corner."""
    at = 0
    for c in range(channels):
        for kd in range(s.kernel[0]):
            for kh in range(s.kernel[1]):
                row = (
                    c * halo.channel
                    + kd * halo.depth
                    + kh % halo.phases_h * halo.phase
                    + kh * s.dilation[1] // s.stride[1] * halo.pitch
                )
                for kw in range(s.kernel[2]):
                    column = kw * s.dilation[2] // s.stride[2]
                    offsets[at] = row + kw % halo.phases_w * halo.plane + column
                    at += 1


@inline
def tap_offsets_in_place(offsets, s, channels):
    """The same offsets in the input itself (stride 1)."""
    at = 0
    for c in range(channels):
        for kd in range(s.kernel[0]):
            for kh in range(s.kernel[1]):
                row = (
                    c * s.in_strides[1]
                    + kd * s.dilation[0] * s.in_strides[2]
                    + kh * s.dilation[1] * s.in_strides[3]
                )
                for kw in range(s.kernel[2]):
                    offsets[at] = row + kw * s.dilation[2]
                    at += 1


@inline
def fill_halo(target, x, s, halo, channel0, channels, d0, h0, w0, rows, cols):
    """Copy the halo tile whose first element is the padded input's (d0, h0, w0).

    `x` points at the image. Loop over the layout's axes in order; each row is one padded copy.
    """
    reach_h = axis_reach(s.kernel[1], s.stride[1], s.dilation[1])
    count = cols + axis_reach(s.kernel[2], s.stride[2], s.dilation[2])
    stride_h, stride_w = s.stride[1], s.stride[2]
    for c in range(channels):
        for kd in range(s.kernel[0]):
            d = padded_index(d0 + kd * s.dilation[0], s.size[0], s.padding_mode)
            for qh in range(halo.phases_h):
                first_h = h0 + qh * s.dilation[1] % stride_h
                for qw in range(halo.phases_w):
                    first_w = w0 + qw * s.dilation[2] % stride_w
                    at = c * halo.channel + kd * halo.depth + qh * halo.phase + qw * halo.plane
                    for r in range(rows + reach_h):
                        h = padded_index(first_h + r * stride_h, s.size[1], s.padding_mode)
                        row = shift(target, at + r * halo.pitch)
                        if d < 0 or h < 0:
                            fill_zero(row, count)
                        else:
                            base = (
                                (channel0 + c) * s.in_strides[1]
                                + d * s.in_strides[2]
                                + h * s.in_strides[3]
                            )
                            copy_padded(
                                row,
                                x,
                                base,
                                s.in_strides[4],
                                first_w,
                                stride_w,
                                count,
                                s.size[2],
                                s.padding_mode,
                            )
