"""The gradient of the weights, second lowering: lanes over the pixels.

It serves groups of few input channels: first layers, image filters, depthwise layers. Each weight
is the sum of the products of two images, the gradient of the output and the input as one tap sees
it, which a halo tile makes neighbours in memory.

Loops of a task: groups; chunks of pixels, with their halo tile; register blocks of output
channels and of (channel, tap); the block's own loops over rows and columns of pixels.

Where a group has too few output channels to fill a block, its rows are taps too: a tap that lies
some elements behind another multiplies the same elements of the input by the gradient from so many
elements before. So the gradient is copied, at the distances of the halo tile and between zeros, and
both are one long row. Products with these zeros are NaN where the input is not finite. Then sums
are not, and those of that group are computed again, without them.
"""

import math
from typing import NamedTuple

from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import call, indices_at, pointer_at, shift
from numbaconv.cpu.gradients.weight_tasks import (
    GRADIENT_AT,
    gradient_index,
    locate_chunk,
    locate_part,
    read_blocks,
)
from numbaconv.cpu.job import AT, SHAPE, WorkerArguments, next_task
from numbaconv.cpu.microkernels.dot import DOT_COLUMNS, DOT_ROWS, DotArguments
from numbaconv.cpu.packing.halo import FillHaloArguments, read_halo
from numbaconv.cpu.packing.rows import fill, pad_rows
from numbaconv.problem.shape import kernel_taps, read_shape


@inline
def add_products(job, s, layout, chunk, gradient, halo, offsets, sums, channels, accumulate):
    """All weights of some output channels: blocks of MR channels x NT (channel, tap)s."""
    size = s.c_in * kernel_taps(s)
    for oc in range(0, channels, DOT_ROWS[-1]):
        for t in range(0, size, DOT_COLUMNS[-1]):
            call(
                job[GRADIENT_AT.dot],
                DotArguments(
                    channels=min(DOT_ROWS[-1], channels - oc),
                    taps=min(DOT_COLUMNS[-1], size - t),
                    rows=chunk.rows,
                    cols=chunk.cols,
                    g=shift(gradient, oc * s.out_strides[1]),
                    first=0,
                    g_channel=s.out_strides[1],
                    g_row=s.out_strides[3],
                    x=halo,
                    x_row=layout.pitch,
                    offsets=shift(offsets, t),
                    c=shift(sums, oc * size + t),
                    c_row=size,
                    accumulate=accumulate,
                ),
            )


@inline
def is_line(s):
    """Whether the filter has a single line of taps, which is cut into the rows of blocks."""
    return s.kernel[1] == 1


@inline
def zeros_beside(s, layout):
    """Zeros that the copy of a gradient has at each end: as far as the rows of a block reach."""
    if is_line(s):
        return (s.kernel[2] - 1) * s.dilation[2]
    return (min(DOT_ROWS[-1], s.kernel[1]) - 1) * s.dilation[1] * layout.pitch


@inline
def copy_gradient(copy, s, layout, chunk, gradient, lanes):
    """Copy a chunk of a channel's gradient between zeros."""
    zeros, pitch = zeros_beside(s, layout), layout.pitch
    row_step, cols = s.out_strides[3], chunk.cols
    inside = shift(copy, zeros)
    fill(copy, zeros, 0, lanes)
    pad_rows(inside, pitch, gradient, row_step, chunk.rows, 0, pitch, cols, 0, lanes)
    fill(shift(inside, chunk.rows * pitch), zeros, 0, lanes)


@inline
def add_blocks_of_taps(job, s, layout, chunk, copy, halo, offsets, sums, accumulate):
    """All weights of an output channel, from the copy of its gradient: blocks of taps x taps.

    The rows of a block are lines of the filter, or pieces of its only one. Where the rows of the
    tile are as long as the chunk's, all of them are one.
    """
    joins, line_only = chunk.cols == layout.cols, is_line(s)
    length = s.kernel[2]
    for first in range(0, s.c_in * kernel_taps(s), s.kernel[1] * length):
        line, t = 0, 0
        while line < s.kernel[1]:
            mr, nt = min(DOT_ROWS[-1], s.kernel[1] - line), min(DOT_COLUMNS[-1], length - t)
            down, across, c_row = s.dilation[1], 0, length
            if line_only:
                mr = min(DOT_ROWS[-1], -((t - length) // DOT_COLUMNS[-1]))
                nt = min(DOT_COLUMNS[-1], (length - t) // mr)
                down, across, c_row = 0, nt * s.dilation[2], nt
            rows, cols = chunk.rows + (mr - 1) * down, chunk.cols + (mr - 1) * across
            tap = first + line * length + t
            call(
                job[GRADIENT_AT.dot],
                DotArguments(
                    channels=mr,
                    taps=nt,
                    rows=1 if joins else rows,
                    cols=(rows - 1) * layout.pitch + cols if joins else cols,
                    g=copy,
                    first=zeros_beside(s, layout),
                    g_channel=-(down * layout.pitch + across),
                    g_row=layout.pitch,
                    x=halo,
                    x_row=layout.pitch,
                    offsets=shift(offsets, tap),
                    c=shift(sums, tap),
                    c_row=c_row,
                    accumulate=accumulate,
                ),
            )
            t += mr * nt if line_only else nt
            if t >= length:
                line, t = line + mr, 0


@inline
def are_finite(sums, count):
    """Whether so many sums are neither infinite nor NaN."""
    finite = True
    for i in range(count):
        finite = finite and -math.inf < sums[i] < math.inf
    return finite


class DotMemory(NamedTuple):
    """A worker's scratch: halo tiles of some groups, and the copy of a gradient."""

    halo: object
    copy: object


@inline
def dot_memory(scratch, s, b, layout):
    """Cut a worker's scratch into its parts."""
    return DotMemory(scratch, shift(scratch, b.together * s.c_in * layout.channel))


def dot_scratch(s, b, layout):
    """Elements of a worker's scratch."""
    size = b.together * s.c_in * layout.channel
    return size + b.rows * layout.pitch + 2 * zeros_beside(s, layout) if b.shifts else size


@inline
def fill_tiles(job, m, s, chunk, group, groups):
    """Copy what a chunk reads of some groups."""
    n = chunk.plane // s.output[0]
    call(
        job[AT.fill_halo],
        FillHaloArguments(
            target=m.halo,
            x=shift(pointer_at(job[AT.x], m.halo), n * s.in_strides[0]),
            job=job,
            channel0=group * s.c_in,
            channels=groups * s.c_in,
            d0=(chunk.plane - n * s.output[0]) * s.stride[0] - s.padding[0],
            h0=chunk.oh * s.stride[1] - s.padding[1],
            w0=chunk.ow * s.stride[2] - s.padding[2],
            rows=chunk.rows,
            cols=chunk.cols,
            kept=0,
            rotation=0,
        ),
    )


@inline
def add_group(job, m, s, layout, chunk, halo, gradient, sums, channels, accumulate, by_taps):
    """Add a chunk to the sums of some output channels of a group."""
    size, offsets = s.c_in * kernel_taps(s), indices_at(job[AT.table])
    if by_taps:
        for oc in range(channels):
            of = shift(gradient, oc * s.out_strides[1])
            copy_gradient(m.copy, s, layout, chunk, of, job[AT.lanes])
            of_sums = shift(sums, oc * size)
            add_blocks_of_taps(job, s, layout, chunk, m.copy, halo, offsets, of_sums, accumulate)
    else:
        add_products(job, s, layout, chunk, gradient, halo, offsets, sums, channels, accumulate)


@inline
def add_chunks(job, m, s, b, layout, part, first, count, sums, by_taps):
    """Compute the sums of a task's output channels in some groups, whose sums begin at `sums`."""
    gradient = pointer_at(job[GRADIENT_AT.gradient], sums)
    first_channel, channels = channels_of(s, b, part)
    size = s.c_in * kernel_taps(s)
    for i in range(part.chunk0, part.chunk1):
        c = locate_chunk(i, s, b)
        fill_tiles(job, m, s, c, first, count)
        at = gradient_index(s, c.plane, first * s.c_out + first_channel, c.oh, c.ow)
        for k in range(count):
            halo = shift(m.halo, k * s.c_in * layout.channel)
            of_group = shift(gradient, at + k * s.c_out * s.out_strides[1])
            of_sums, accumulate = shift(sums, k * s.c_out * size), i > part.chunk0
            add_group(job, m, s, layout, c, halo, of_group, of_sums, channels, accumulate, by_taps)


@inline
def channels_of(s, b, part):
    """The first output channel of a task in each group, and how many it has there."""
    first = part.oc0 * b.mr
    return first, min(part.oc1 * b.mr, s.c_out) - first


@native(WorkerArguments)
def dots_work(worker, job, like):
    """Do tasks until none is left: groups, as many as fit the scratch.

    Where rows of blocks are taps, each group whose sums are not finite is then computed again.
    """
    s, b, layout = read_shape(job, SHAPE), read_blocks(job), read_halo(job)
    sums = pointer_at(job[GRADIENT_AT.sums], like)
    scratch = shift(pointer_at(job[AT.scratch], like), worker * job[AT.scratch_size])
    m, size, by_taps = dot_memory(scratch, s, b, layout), s.c_in * kernel_taps(s), b.shifts != 0
    number, queue = next_task(job, b.tasks, worker, 0)
    while number < b.tasks:
        part = locate_part(number, s, b)
        first_channel, channels = channels_of(s, b, part)
        of_task = shift(sums, (part.slab * s.groups * s.c_out + first_channel) * size)
        for g in range(part.g0, part.g1, b.together):
            many = min(b.together, part.g1 - g)
            # All of these, and then each again whose sums are not finite: in one loop, as each call
            # of an inlined function is compiled anew.
            for again in range(1 + many if by_taps else 1):
                first, count = (g + again - 1, 1) if again > 0 else (g, many)
                of_first = shift(of_task, first * s.c_out * size)
                if again == 0 or not are_finite(of_first, channels * size):
                    whole = by_taps and again == 0
                    add_chunks(job, m, s, b, layout, part, first, count, of_first, whole)
        number, queue = next_task(job, b.tasks, worker, queue)
