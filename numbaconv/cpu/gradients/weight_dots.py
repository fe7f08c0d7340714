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

from typing import NamedTuple

from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import call, indices_at, pointer_at, shift
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu.gradients.weight_tasks import (
    GRADIENT_AT,
    gradient_index,
    locate_chunk,
    locate_part,
    read_blocks,
)
from numbaconv.cpu.job import AT, SHAPE, WorkerArguments, next_task
from numbaconv.cpu.microkernels.dot import DOT_COLUMNS, DOT_ROWS, DotArguments
from numbaconv.cpu.packing.halo import FillHaloArguments, Halo, axis_reach, halo_layout, read_halo
from numbaconv.cpu.packing.rows import fill, pad_rows
from numbaconv.problem.shape import kernel_taps, read_shape

# Rows of a tile begin at whole vectors if that makes them no longer than by one element in so many.
ALIGNED_SHARE = 8


@inline
def as_one_row(joins, rows, cols, apart):
    """Rows and columns of a chunk, whose rows lie so far apart: of one long row if that `joins`."""
    return (1, (rows - 1) * apart + cols) if joins else (rows, cols)


@inline
def add_products(job, s, layout, chunk, g, tile, sums, channels, copies, apart, accumulate):
    """All weights of a block of output channels: blocks of NT (channel, tap)s.

    Copies of the gradient are so far `apart`, with zeros between their rows. Rows are one long row
    where they lie as far apart as those of the tile, and nothing but such zeros is between them.
    """
    size, offsets = s.c_in * kernel_taps(s), indices_at(job[AT.table])
    g_channel, g_row = (apart, layout.pitch) if copies else (s.out_strides[1], s.out_strides[3])
    joins = g_row == layout.pitch and chunk.cols == (layout.cols if copies else g_row)
    rows, cols = as_one_row(joins, chunk.rows, chunk.cols, g_row)
    for t in range(0, size, DOT_COLUMNS[-1]):
        call(
            job[GRADIENT_AT.dot],
            DotArguments(
                channels=channels,
                taps=min(DOT_COLUMNS[-1], size - t),
                rows=rows,
                cols=cols,
                g=g,
                first=0,
                g_channel=g_channel,
                g_row=g_row,
                x=tile,
                x_row=layout.pitch,
                offsets=shift(offsets, t),
                c=shift(sums, t),
                c_row=size,
                accumulate=accumulate,
                ahead=0,
            ),
        )


@inline
def is_line(s):
    """Whether the filter has a single line of taps, which is cut into the rows of blocks."""
    return s.kernel[1] == 1


@inline
def zeros_beside(s, b, layout):
    """Zeros that the copy of a gradient has at each end: as far as the rows of a block reach."""
    if b.shifts == 0:
        return 0
    if is_line(s):
        return (s.kernel[2] - 1) * s.dilation[2]
    return (min(DOT_ROWS[-1], s.kernel[1]) - 1) * s.dilation[1] * layout.pitch


@inline
def copy_size(s, b, layout, lanes):
    """Elements of the copy of a channel's gradient: whole vectors, of a power of two of lanes."""
    return (b.rows * layout.pitch + 2 * zeros_beside(s, b, layout) + lanes - 1) & -lanes


@inline
def copy_gradient(copy, s, b, layout, chunk, gradient, lanes):
    """Copy a chunk of a channel's gradient between zeros."""
    zeros, pitch = zeros_beside(s, b, layout), layout.pitch
    row_step, cols = s.out_strides[3], chunk.cols
    inside = shift(copy, zeros)
    fill(copy, zeros, 0, lanes)
    pad_rows(inside, pitch, gradient, row_step, chunk.rows, 0, pitch, cols, 0, lanes)
    fill(shift(inside, chunk.rows * pitch), zeros, 0, lanes)


@inline
def add_blocks_of_taps(job, s, b, layout, chunk, copy, tile, sums, accumulate):
    """All weights of an output channel, from the copy of its gradient: blocks of taps x taps.

    The rows of a block are lines of the filter, or pieces of its only one. Where the rows of the
    tile are as long as the chunk's, all of them are one.
    """
    joins, line_only = chunk.cols == layout.cols, is_line(s)
    length, offsets = s.kernel[2], indices_at(job[AT.table])
    for first in range(0, s.c_in * kernel_taps(s), s.kernel[1] * length):
        line, t = 0, 0
        while line < s.kernel[1]:
            mr, nt = min(DOT_ROWS[-1], s.kernel[1] - line), min(DOT_COLUMNS[-1], length - t)
            down, across, c_row = s.dilation[1], 0, length
            if line_only:
                mr = min(DOT_ROWS[-1], -((t - length) // DOT_COLUMNS[-1]))
                nt = min(DOT_COLUMNS[-1], (length - t) // mr)
                down, across, c_row = 0, nt * s.dilation[2], nt
            high, wide = chunk.rows + (mr - 1) * down, chunk.cols + (mr - 1) * across
            rows, cols = as_one_row(joins, high, wide, layout.pitch)
            tap = first + line * length + t
            call(
                job[GRADIENT_AT.dot],
                DotArguments(
                    channels=mr,
                    taps=nt,
                    rows=rows,
                    cols=cols,
                    g=copy,
                    first=zeros_beside(s, b, layout),
                    g_channel=-(down * layout.pitch + across),
                    g_row=layout.pitch,
                    x=tile,
                    x_row=layout.pitch,
                    offsets=shift(offsets, tap),
                    c=shift(sums, tap),
                    c_row=c_row,
                    accumulate=accumulate,
                    ahead=0,
                ),
            )
            t += mr * nt if line_only else nt
            if t >= length:
                line, t = line + mr, 0


@inline
def are_finite(sums, count):
    """Whether so many sums are neither infinite nor NaN."""
    others = 0  # a number, and no chain of conditions: so vectors count
    for i in range(count):
        others += int(sums[i] - sums[i] != 0)
    return others == 0


class DotMemory(NamedTuple):
    """A worker's scratch: halo tiles of some groups, and copies of the gradient."""

    halo: object
    copy: object


def tile_layout(s, b, itemsize):
    """Layout of what the tile of a chunk is: a halo tile, or the input itself.

    Beside copies of the gradient rows begin at whole vectors, where these are few more.
    """
    if b.in_place:
        _, channel, depth, pitch, _ = s.in_strides
        if s.size[1] == 1:  # a row that is copied ends with its chunk
            pitch = b.cols + axis_reach(s.kernel[2], 1, s.dilation[2])
        return Halo(0, b.cols, 1, 1, pitch, 0, 0, s.dilation[0] * depth, channel)
    layout = halo_layout(s, b.rows, b.cols, itemsize)
    more = -layout.pitch % (VECTOR_BYTES // itemsize)
    if not b.copies or ALIGNED_SHARE * more > layout.pitch:
        return layout
    return halo_layout(s, b.rows, b.cols + more, itemsize)._replace(cols=b.cols)


@inline
def tile_size(s, b, layout):
    """Elements that a worker's halo tiles take."""
    return 0 if b.in_place != 0 else b.together * s.c_in * layout.channel


@inline
def dot_memory(scratch, s, b, layout):
    """Cut a worker's scratch into its parts."""
    return DotMemory(scratch, shift(scratch, tile_size(s, b, layout)))


def dot_scratch(s, b, layout, lanes):
    """Elements of a worker's scratch."""
    channels = (1 if b.shifts else DOT_ROWS[-1]) if b.copies else 0
    return tile_size(s, b, layout) + channels * copy_size(s, b, layout, lanes)


@inline
def find_tiles(job, m, s, b, chunk, group, groups):
    """Return the tiles of a chunk for some groups: a copy of what it reads, or the input itself."""
    x, n = pointer_at(job[AT.x], m.halo), chunk.plane // s.output[0]
    d = (chunk.plane - n * s.output[0]) * s.stride[0]
    if b.in_place != 0:
        at = n * s.in_strides[0] + group * s.c_in * s.in_strides[1]
        return shift(x, at + d * s.in_strides[2] + chunk.oh * s.in_strides[3] + chunk.ow)
    call(
        job[AT.fill_halo],
        FillHaloArguments(
            target=m.halo,
            x=shift(x, n * s.in_strides[0]),
            job=job,
            channel0=group * s.c_in,
            channels=groups * s.c_in,
            d0=d - s.padding[0],
            h0=chunk.oh * s.stride[1] - s.padding[1],
            w0=chunk.ow * s.stride[2] - s.padding[2],
            rows=chunk.rows,
            cols=chunk.cols,
            kept=0,
            rotation=0,
        ),
    )
    return m.halo


@inline
def add_group(job, m, s, b, layout, chunk, tile, gradient, sums, channels, accumulate, copies):
    """Add a chunk to the sums of some output channels of a group."""
    size, lanes = s.c_in * kernel_taps(s), job[AT.lanes]
    by_taps, apart = b.shifts != 0 and copies, copy_size(s, b, layout, lanes)
    step = 1 if by_taps else DOT_ROWS[-1]
    for oc in range(0, channels, step):
        g, many = shift(gradient, oc * s.out_strides[1]), min(step, channels - oc)
        of_sums = shift(sums, oc * size)
        if copies:
            for i in range(many):
                copy, of = shift(m.copy, i * apart), shift(g, i * s.out_strides[1])
                copy_gradient(copy, s, b, layout, chunk, of, lanes)
            g = m.copy
        if by_taps:
            add_blocks_of_taps(job, s, b, layout, chunk, g, tile, of_sums, accumulate)
        else:
            add_products(job, s, layout, chunk, g, tile, of_sums, many, copies, apart, accumulate)


@inline
def add_chunks(job, m, s, b, layout, part, first, count, sums, copies):
    """Compute the sums of a task's output channels in some groups, whose sums begin at `sums`."""
    gradient = pointer_at(job[GRADIENT_AT.gradient], sums)
    first_channel, channels = channels_of(s, b, part)
    size = s.c_in * kernel_taps(s)
    for i in range(part.chunk0, part.chunk1):
        c = locate_chunk(i, s, b)
        tiles = find_tiles(job, m, s, b, c, first, count)
        at = gradient_index(s, c.plane, first * s.c_out + first_channel, c.oh, c.ow)
        for k in range(count):
            tile = shift(tiles, k * s.c_in * layout.channel)
            g = shift(gradient, at + k * s.c_out * s.out_strides[1])
            of_sums, accumulate = shift(sums, k * s.c_out * size), i > part.chunk0
            add_group(job, m, s, b, layout, c, tile, g, of_sums, channels, accumulate, copies)


@inline
def channels_of(s, b, part):
    """The first output channel of a task in each group, and how many it has there."""
    first = part.oc0 * b.mr
    return first, min(part.oc1 * b.mr, s.c_out) - first


@native(WorkerArguments)
def dots_work(worker, job, like):
    """Do tasks until none is left: groups, as many as fit the scratch.

    Where the gradient is copied, each group whose sums are not finite is then computed again.
    """
    s, b, layout = read_shape(job, SHAPE), read_blocks(job), read_halo(job)
    sums = pointer_at(job[GRADIENT_AT.sums], like)
    scratch = shift(pointer_at(job[AT.scratch], like), worker * job[AT.scratch_size])
    m, size, copies = dot_memory(scratch, s, b, layout), s.c_in * kernel_taps(s), b.copies != 0
    number, queue = next_task(job, b.tasks, worker, 0)
    while number < b.tasks:
        part = locate_part(number, s, b)
        first_channel, channels = channels_of(s, b, part)
        of_task = shift(sums, (part.slab * s.groups * s.c_out + first_channel) * size)
        for g in range(part.g0, part.g1, b.together):
            many = min(b.together, part.g1 - g)
            # All of these, and then each again whose sums are not finite: in one loop, as each call
            # of an inlined function is compiled anew.
            for again in range(1 + many if copies else 1):
                first, count = (g + again - 1, 1) if again > 0 else (g, many)
                of_first = shift(of_task, first * s.c_out * size)
                if again == 0 or not are_finite(of_first, channels * size):
                    copied = copies and again == 0
                    add_chunks(job, m, s, b, layout, part, first, count, of_first, copied)
        number, queue = next_task(job, b.tasks, worker, queue)
