"""The gradient of the weights, first lowering: lanes over the input channels.

For each tap it is a matrix product of the gradient of the output and the input as that tap sees
it, summed over pixels: C[oc, ic] = sum_p G[oc, p] * X[p + tap, ic]. The `pixel_tile` of the
convolutions does it, with our output channels as its pixels, and our pixels as its taps of a single
channel. It reads G where it lies, and X is laid out with the channels last.

Loops of a task: chunks of pixels; jr over tiles of NR input channels; the tile of X; ic over
register blocks of MR output channels; taps; the register tile's own loop over pixels.

Along an axis the tile of X holds all that the pixels' taps read, once, at its own distances; or,
where that is less, as under a large stride or dilation, for each tap the elements that it reads.
"""

from typing import NamedTuple

from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import call, indices_at, keep_scalar, pointer_at, shift
from numbaconv.cpu.gradients.weight_tasks import (
    GRADIENT_AT,
    gradient_index,
    locate_chunk,
    locate_part,
    read_blocks,
)
from numbaconv.cpu.job import AT, SHAPE, WorkerArguments, next_task
from numbaconv.cpu.microkernels.matrix_transposed import PixelTileArguments, first_half
from numbaconv.cpu.packing.lanes import copy_lanes
from numbaconv.cpu.packing.rows import fill
from numbaconv.cpu.packing.transpose import TransposeArguments
from numbaconv.cpu.packing.weights import block_rows
from numbaconv.problem.shape import kernel_taps, read_shape


class TileAxis(NamedTuple):
    """One axis of a tile of the input: some pieces of neighbouring elements.

    Attributes
    ----------
    pieces, length : int
        One piece for all taps, or one for each; elements of a piece.
    apart, step : int
        Elements of the input from one piece, and from one element of a piece, to the next.
    per_output, per_tap : int
        Elements of the tile from what one output, and one tap, reads to what the next does.
    """

    pieces: int
    length: int
    apart: int
    step: int
    per_output: int
    per_tap: int


class ProductMemory(NamedTuple):
    """The pointers of a worker: the problem's arrays, its own scratch and its own tables."""

    x: object
    gradient: object
    zeros: object
    sums: object
    tile: object
    places: object


@inline
def tile_axis(outputs, kernel, stride, dilation, patches):
    """Lay out one axis of a tile of the input."""
    span = (outputs - 1) * stride + (kernel - 1) * dilation + 1
    if patches != 0 or kernel * outputs < span:
        return TileAxis(kernel, outputs, dilation, stride, 1, outputs)
    return TileAxis(1, span, 0, 1, stride, dilation)


@inline
def tile_sizes(s, b):
    """Elements that the tile of the input takes; pixels in the lists of a chunk."""
    down = tile_axis(b.rows, s.kernel[1], s.stride[1], s.dilation[1], b.patches)
    across = tile_axis(b.cols, s.kernel[2], s.stride[2], s.dilation[2], b.patches)
    pixels = b.lists * b.planes * b.rows * b.cols
    places = b.planes * s.kernel[0] * down.pieces * down.length * across.pieces * across.length
    return places * b.nr, pixels


@inline
def copy_channels(job, tile, x, x_step, step, channels, count, nr):
    """tile[i][c] = x[c][i * step]: a piece of a row, channels last."""
    if x_step == 1:  # they are already
        for i in range(count):
            j = 0
            while j < channels:
                at = i * step + j
                copy_lanes(shift(tile, i * nr + j), shift(x, at), channels - j)
                j += job[AT.lanes]
    elif step == 1:
        piece = TransposeArguments(tile, nr, x, x_step, channels, count, job[AT.lanes])
        call(job[GRADIENT_AT.transpose], piece)
    else:
        for i in range(count):
            for c in range(channels):
                keep_scalar()
                tile[i * nr + c] = x[c * x_step + i * step]


@inline
def outputs_inside(first, count, stride, size):
    """Of some outputs, of which the first reads element `first`, those that read no padding.

    Returns the first of them, and the one behind the last.
    """
    begin = min(max(stride - 1 - first, 0) // stride, count)
    return begin, max(min((size - first + stride - 1) // stride, count), begin)


@inline
def fill_row(job, m, s, tile, of, w0, across, channels, inside, nr):
    """One row of the tile: pieces of an input row, zeros where they reach into the padding."""
    for piece in range(across.pieces):
        target = shift(tile, piece * across.length * nr)
        first = w0 + piece * across.apart
        begin, end = outputs_inside(first, across.length, across.step, s.size[2])
        if not inside:
            begin, end = across.length, across.length
        fill(target, begin * nr, 0, job[AT.lanes])
        if end > begin:
            x = shift(m.x, of + first + begin * across.step)
            inner = shift(target, begin * nr)
            copy_channels(job, inner, x, s.in_strides[1], across.step, channels, end - begin, nr)
        fill(shift(target, end * nr), (across.length - end) * nr, 0, job[AT.lanes])


@inline
def fill_tile(job, m, s, b, chunk, down, across, channel, channels):
    """Copy what a chunk reads of some input channels: [plane][kd][row][column][channel].

    Lanes without a channel are zeros: what lies there is multiplied too, and takes long if it is
    denormal.
    """
    if channels % job[AT.lanes] != 0:
        rows = chunk.planes * s.kernel[0] * down.pieces * down.length
        fill(m.tile, rows * across.pieces * across.length * b.nr, 0, job[AT.lanes])
    h0 = chunk.oh * s.stride[1] - s.padding[1]
    w0 = chunk.ow * s.stride[2] - s.padding[2]
    row = 0
    for plane in range(chunk.plane, chunk.plane + chunk.planes):
        n = plane // s.output[0]
        d0 = (plane - n * s.output[0]) * s.stride[0] - s.padding[0]
        for kd in range(s.kernel[0]):
            d = d0 + kd * s.dilation[0]
            for piece in range(down.pieces):
                for i in range(down.length):
                    h = h0 + piece * down.apart + i * down.step
                    inside = 0 <= d < s.size[0] and 0 <= h < s.size[1]
                    of = n * s.in_strides[0] + channel * s.in_strides[1]
                    of += d * s.in_strides[2] + h * s.in_strides[3]
                    tile = shift(m.tile, row * across.pieces * across.length * b.nr)
                    fill_row(job, m, s, tile, of, w0, across, channels, inside, b.nr)
                    row += 1


@inline
def columns_inside(s, b, chunk, kw):
    """The columns of a chunk that a tap multiplies: all, where there is one list of pixels."""
    if b.lists == 1:
        return 0, chunk.cols
    first = chunk.ow * s.stride[2] - s.padding[2] + kw * s.dilation[2]
    return outputs_inside(first, chunk.cols, s.stride[2], s.size[2])


@inline
def rows_inside(s, chunk, kd, kh):
    """The rows of a chunk whose pixels a tap multiplies."""
    d = chunk.plane % s.output[0] * s.stride[0] - s.padding[0] + kd * s.dilation[0]
    if chunk.planes == 1 and not 0 <= d < s.size[0]:
        return 0, 0
    first = chunk.oh * s.stride[1] - s.padding[1] + kh * s.dilation[1]
    return outputs_inside(first, chunk.rows, s.stride[1], s.size[1])


@inline
def set_places(m, s, b, chunk, down, across):
    """Write where the pixels of a chunk lie: in G, and in the tile as the first tap sees it.

    Each list is in the order of rows, so that the rows that a tap multiplies are a piece of it.
    """
    pitch = across.pieces * across.length
    plane = s.kernel[0] * down.pieces * down.length * pitch
    for each in range(b.lists):
        begin, end = columns_inside(s, b, chunk, each)
        k = each * b.planes * b.rows * b.cols
        for r in range(chunk.rows):
            for i in range(chunk.planes):
                at = gradient_index(s, chunk.plane + i, 0, chunk.oh + r, chunk.ow)
                place = i * plane + r * down.per_output * pitch
                for c in range(begin, end):
                    m.places[2 * k] = at + c
                    m.places[2 * k + 1] = (place + c * across.per_output) * b.nr
                    k += 1


@inline
def multiply_block(job, m, s, b, chunk, down, across, sums, rows, gradient, width, accumulate):
    """One register block of output channels times the tile, tap by tap.

    A tap leaves out the pixels for which it reads padding, as far as the lists tell them apart.
    """
    taps = kernel_taps(s)
    vectors = (width + job[AT.lanes] - 1) // job[AT.lanes]
    pitch = across.pieces * across.length
    tap = 0
    for kd in range(s.kernel[0]):
        for kh in range(s.kernel[1]):
            first_row, end_row = rows_inside(s, chunk, kd, kh)
            row = kd * down.pieces * down.length + kh * down.per_tap
            for kw in range(s.kernel[2]):
                begin, end = columns_inside(s, b, chunk, kw)
                of_row = chunk.planes * (end - begin)
                pixels = (end_row - first_row) * of_row
                at = min(kw, b.lists - 1) * b.planes * b.rows * b.cols + first_row * of_row
                c = shift(sums, tap * s.c_in)
                if pixels > 0:
                    call(
                        job[AT.tile],
                        PixelTileArguments(
                            rows=rows,
                            vectors=vectors,
                            channels=1,
                            taps=pixels,
                            first_taps=0,
                            last_taps=0,
                            column_taps=0,
                            halves=0,
                            table=shift(m.places, 2 * at),
                            x=gradient,
                            first=0,
                            x_channel=0,
                            x_step=s.out_strides[1],
                            jump=first_half(rows) * s.out_strides[1],
                            prefetch_distance=0,
                            w=shift(m.tile, (row * pitch + kw * across.per_tap) * b.nr),
                            w_channel=0,
                            c=c,
                            row_step=taps * s.c_in,
                            bias=m.zeros,
                            accumulate=accumulate,
                            last=width - (vectors - 1) * job[AT.lanes],
                        ),
                    )
                elif not accumulate:
                    for i in range(rows):
                        fill(shift(c, i * taps * s.c_in), width, 0, job[AT.lanes])
                tap += 1


@inline
def add_chunk(job, m, s, b, part, chunk, g, accumulate):
    """Add the products of a chunk of pixels to the sums of a task, or start them."""
    down = tile_axis(chunk.rows, s.kernel[1], s.stride[1], s.dilation[1], b.patches)
    across = tile_axis(chunk.cols, s.kernel[2], s.stride[2], s.dilation[2], b.patches)
    set_places(m, s, b, chunk, down, across)
    channel = g * s.c_out + part.oc0 * b.mr
    size = s.c_in * kernel_taps(s)
    sums = shift(m.sums, (part.slab * s.groups * s.c_out + channel) * size)
    for jr in range(part.ic0, part.ic1):
        width = min(b.nr, s.c_in - jr * b.nr)
        fill_tile(job, m, s, b, chunk, down, across, g * s.c_in + jr * b.nr, width)
        for block in range(part.oc0, part.oc1):
            row = (block - part.oc0) * b.mr
            c = shift(sums, row * size + jr * b.nr)
            gradient = shift(m.gradient, (channel + row) * s.out_strides[1])
            rows = block_rows(s.c_out, b.mr, block)
            multiply_block(job, m, s, b, chunk, down, across, c, rows, gradient, width, accumulate)


@native(WorkerArguments)
def products_work(worker, job, like):
    """Do tasks until none is left."""
    s, b = read_shape(job, SHAPE), read_blocks(job)
    m = ProductMemory(
        pointer_at(job[AT.x], like),
        pointer_at(job[GRADIENT_AT.gradient], like),
        pointer_at(job[GRADIENT_AT.zeros], like),
        pointer_at(job[GRADIENT_AT.sums], like),
        shift(pointer_at(job[AT.scratch], like), worker * job[AT.scratch_size]),
        shift(indices_at(job[AT.indices]), worker * job[AT.index_size]),
    )
    number, queue = next_task(job, b.tasks, worker, 0)
    while number < b.tasks:
        part = locate_part(number, s, b)
        for g in range(part.g0, part.g1):
            for i in range(part.chunk0, part.chunk1):
                chunk = locate_chunk(i, s, b)
                add_chunk(job, m, s, b, part, chunk, g, i > part.chunk0)
        number, queue = next_task(job, b.tasks, worker, queue)
