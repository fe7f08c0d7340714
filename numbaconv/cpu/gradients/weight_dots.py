"""The gradient of the weights, second lowering: lanes over the pixels.

It serves groups of few input channels: first layers, image filters, depthwise layers. Each weight
is the sum of the products of two images, the gradient of the output and the input as one tap sees
it, which a halo tile makes neighbours in memory.

Loops of a task: groups; chunks of pixels, with their halo tile; register blocks of output
channels and of (channel, tap); the block's own loops over rows and columns of pixels.
"""

from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import call, indices_at, pointer_at, shift
from numbaconv.cpu.blocking import most_of
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
from numbaconv.problem.shape import kernel_taps, read_shape


@inline
def add_products(job, s, layout, chunk, gradient, halo, offsets, sums, channels, accumulate):
    """All weights of some output channels: blocks of MR channels x NT (channel, tap)s."""
    size = s.c_in * kernel_taps(s)
    oc = 0
    while oc < channels:
        mr = most_of(DOT_ROWS, channels - oc)
        t = 0
        while t < size:
            nt = most_of(DOT_COLUMNS, size - t)
            call(
                job[GRADIENT_AT.dot],
                DotArguments(
                    channels=mr,
                    taps=nt,
                    rows=chunk.rows,
                    cols=chunk.cols,
                    g=shift(gradient, oc * s.out_strides[1]),
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
            t += nt
        oc += mr


@native(WorkerArguments)
def dots_work(worker, job, like):
    """Do tasks until none is left."""
    s, b, layout = read_shape(job, SHAPE), read_blocks(job), read_halo(job)
    x, gradient = pointer_at(job[AT.x], like), pointer_at(job[GRADIENT_AT.gradient], like)
    halo = shift(pointer_at(job[AT.scratch], like), worker * job[AT.scratch_size])
    size, table = s.c_in * kernel_taps(s), indices_at(job[AT.table])
    number, queue = next_task(job, b.tasks, worker, 0)
    while number < b.tasks:
        part = locate_part(number, s, b)
        for g in range(part.g0, part.g1):
            channel = g * s.c_out + part.oc0 * b.mr
            channels = min(part.oc1 * b.mr, s.c_out) - part.oc0 * b.mr
            at = (part.slab * s.groups * s.c_out + channel) * size
            sums = shift(pointer_at(job[GRADIENT_AT.sums], like), at)
            for i in range(part.chunk0, part.chunk1):
                c = locate_chunk(i, s, b)
                n = c.plane // s.output[0]
                d = (c.plane - n * s.output[0]) * s.stride[0] - s.padding[0]
                h, w = c.oh * s.stride[1] - s.padding[1], c.ow * s.stride[2] - s.padding[2]
                image = shift(x, n * s.in_strides[0])
                call(
                    job[AT.fill_halo],
                    FillHaloArguments(
                        target=halo,
                        x=image,
                        job=job,
                        channel0=g * s.c_in,
                        channels=s.c_in,
                        d0=d,
                        h0=h,
                        w0=w,
                        rows=c.rows,
                        cols=c.cols,
                        kept=0,
                        rotation=0,
                    ),
                )
                source = shift(gradient, gradient_index(s, c.plane, channel, c.oh, c.ow))
                accumulate = i > part.chunk0
                add_products(job, s, layout, c, source, halo, table, sums, channels, accumulate)
        number, queue = next_task(job, b.tasks, worker, queue)
