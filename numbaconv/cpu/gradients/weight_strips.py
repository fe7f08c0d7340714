"""The gradient of the weights, third lowering: lanes over the pixels of strips, nothing is copied.

It serves depthwise layers, filters of images and groups of few channels: see `uses_strips`. Each
plane of the gradient of the output meets each plane of the input of its group, and `strip_sums`
reads both where they lie.

Loops of a task: chunks of rows; groups; output channels; planes and blocks of the filter's taps;
rows, as many apart as the dilation; then the tile's loops over input channels, or over all groups
of one, strips and rows.

Where a chunk begins and ends the tile multiplies by zeros, which is NaN where the input is not
finite. Groups whose sums are not finite are computed again, from blocks of a single row of taps.
"""

from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import call, pointer_at, shift
from numbaconv.cpu.blocking import share
from numbaconv.cpu.gradients.weight_dots import are_finite, channels_of
from numbaconv.cpu.gradients.weight_tasks import (
    GRADIENT_AT,
    gradient_index,
    locate_chunk,
    locate_part,
    read_blocks,
)
from numbaconv.cpu.job import AT, SHAPE, WorkerArguments, next_task
from numbaconv.cpu.microkernels.strip_sums import (
    MOST_SUM_ROWS,
    SUM_BLOCKS,
    StripSumsArguments,
)
from numbaconv.cpu.packing.rows import fill
from numbaconv.problem.shape import kernel_taps, read_shape

# Columns of a block by its rows.
_COLUMNS = tuple(
    next(columns for most, columns in SUM_BLOCKS.items() if rows <= most)
    for rows in range(1, MOST_SUM_ROWS + 1)
)


@inline
def add_block(job, s, chunk, x, g, sums, planes, kh, down, kw, across):
    """Add the products of a chunk to the sums of a block of taps, for some planes.

    Planes are the groups of a depthwise layer, or the input channels of a group: these have the
    plane of G in common.
    """
    zeros, taps = pointer_at(job[GRADIENT_AT.zeros], x), kernel_taps(s)
    half, apart = int(2 * chunk.cols <= job[AT.lanes]), s.dilation[1]
    g_plane, c_plane = (0, taps) if s.c_in > 1 else (s.c_out * s.out_strides[1], s.c_out * taps)
    w = chunk.ow * s.stride[2] - s.padding[2] + kw * s.dilation[2]
    for q in range(min(apart, chunk.rows)):
        h = (chunk.oh + q) * s.stride[1] - s.padding[1] + kh * apart
        rows, ahead = -((q - chunk.rows) // apart), apart * s.stride[1]
        steps = min(rows + (down - 1) // s.stride[1], -((h - s.size[1]) // ahead))
        if steps > 0:
            call(
                job[GRADIENT_AT.dot],
                StripSumsArguments(
                    down=down,
                    across=across,
                    stride=s.stride[2],
                    dilation=s.dilation[2],
                    half=half,
                    planes=planes,
                    rows=rows,
                    cols=chunk.cols,
                    steps=steps,
                    g=shift(g, q * s.out_strides[3]),
                    g_row=apart * s.out_strides[3],
                    g_plane=g_plane,
                    x=x,
                    first=h * s.in_strides[3] + w,
                    x_row=apart * s.in_strides[3],
                    x_plane=s.in_strides[1],
                    h=h,
                    h_step=apart,
                    height=s.size[1],
                    w=w,
                    width=s.size[2],
                    zeros=zeros,
                    c=shift(sums, kh * s.kernel[2] + kw),
                    c_row=s.kernel[2],
                    c_plane=c_plane,
                ),
            )


@inline
def add_planes(job, s, chunk, x, g, sums, planes, exact):
    """Add a chunk to all sums of some planes: planes of the filter, blocks of its taps."""
    n = chunk.plane // s.output[0]
    d0 = (chunk.plane - n * s.output[0]) * s.stride[0] - s.padding[0]
    pieces = s.kernel[1] if exact else -(-s.kernel[1] // MOST_SUM_ROWS)
    for kd in range(s.kernel[0]):
        d = d0 + kd * s.dilation[0]
        if 0 <= d < s.size[0]:
            of_x = shift(x, n * s.in_strides[0] + d * s.in_strides[2])
            of_sums = shift(sums, kd * s.kernel[1] * s.kernel[2])
            for piece in range(pieces):
                kh, end = share(s.kernel[1], piece, pieces)
                most = _COLUMNS[end - kh - 1]
                for kw in range(0, s.kernel[2], most):
                    across = min(most, s.kernel[2] - kw)
                    add_block(job, s, chunk, of_x, g, of_sums, planes, kh, end - kh, kw, across)


@inline
def add_chunks(job, s, b, part, first, groups, sums, exact):
    """Compute the sums of a task's output channels in some groups, which begin at `sums`."""
    x, gradient = pointer_at(job[AT.x], sums), pointer_at(job[GRADIENT_AT.gradient], sums)
    first_channel, channels = channels_of(s, b, part)
    size = s.c_in * kernel_taps(s)
    fill(sums, groups * channels * size, 0, job[AT.lanes])
    planes, steps = (s.c_in, groups) if s.c_in > 1 else (groups, 1)
    for i in range(part.chunk0, part.chunk1):
        c = locate_chunk(i, s, b)
        for group in range(first, first + steps):
            of_x = shift(x, group * s.c_in * s.in_strides[1])
            for oc in range(channels):
                channel = group * s.c_out + first_channel + oc
                g = shift(gradient, gradient_index(s, c.plane, channel, c.oh, c.ow))
                of_sums = shift(sums, ((group - first) * s.c_out + oc) * size)
                add_planes(job, s, c, of_x, g, of_sums, planes, exact)


@native(WorkerArguments)
def strips_work(worker, job, like):
    """Do tasks until none is left: some groups, or some output channels of one."""
    s, b = read_shape(job, SHAPE), read_blocks(job)
    all_sums, size = pointer_at(job[GRADIENT_AT.sums], like), s.c_in * kernel_taps(s)
    number, queue = next_task(job, b.tasks, worker, 0)
    while number < b.tasks:
        part = locate_part(number, s, b)
        first_channel, channels = channels_of(s, b, part)
        first = (part.slab * s.groups + part.g0) * s.c_out + first_channel
        sums, groups, of_group = shift(all_sums, first * size), part.g1 - part.g0, channels * size
        # All of these, and then each again whose sums are not finite: in one loop, as each call
        # of an inlined function is compiled anew.
        again = 0
        while again <= groups:
            each = shift(sums, max(again - 1, 0) * of_group)
            some = groups if again == 0 else 1
            if again == 0 or not are_finite(each, of_group):
                add_chunks(job, s, b, part, part.g0 + max(again - 1, 0), some, each, again > 0)
            if again == 0 and are_finite(sums, groups * of_group):
                again = groups
            again += 1
        number, queue = next_task(job, b.tasks, worker, queue)
