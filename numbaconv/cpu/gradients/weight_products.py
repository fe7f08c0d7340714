"""The gradient of the weights, first lowering: lanes over the input channels.

For each tap it is a matrix product of the gradient of the output and the input as that tap sees
it, summed over pixels: C[oc, ic] = sum_p G[oc, p] * X[p + tap, ic]. The `pixel_tile` of the
convolutions does it, with our output channels as its pixels, and our pixels as its taps of a single
channel. It reads G where it lies, and X is laid out with the channels last. Where channels of G
collide in the nearest cache, each register block's are copied first, for several tiles of X.

Loops of a task: chunks of pixels; tiles of X that lie side by side, of NR input channels each;
ic over register blocks of MR output channels; jr over these tiles; taps; the register tile's own
loop over pixels.

Where pixels are few, or `im2col` was asked for, channels and taps are the channels of the patch
matrix, of which the tile of X is a piece: then sums are in the order of the weights.

Along an axis the tile of X holds all that the pixels' taps read, once, at its own distances; or,
where that is less, as under a large stride or dilation, for each tap the elements that it reads.
"""

from typing import NamedTuple

from numbaconv.codegen.arguments import Elements, Indices
from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pipeline import lightly
from numbaconv.codegen.pointers import call, indices_at, keep_scalar, pointer_at, shift
from numbaconv.cpu import blocking
from numbaconv.cpu.gradients.weight_tasks import (
    GRADIENT_AT,
    gradient_index,
    locate_chunk,
    locate_part,
    patches_as_channels,
    read_blocks,
)
from numbaconv.cpu.job import AT, SHAPE, WorkerArguments, next_task
from numbaconv.cpu.microkernels.matrix_transposed import PixelTileArguments, first_half
from numbaconv.cpu.packing.lanes import copy_lanes
from numbaconv.cpu.packing.rows import fill, pad_rows
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
    copy: object
    tile: object
    places: object


@inline
def copy_step(b, lanes):
    """Elements from one channel of the copy of a block's gradient to the next.

    Whole vectors, and one more: channels a power of two apart would collide again.
    """
    return ((b.planes * b.rows * b.cols + lanes - 1) & -lanes) + lanes


@inline
def tile_axis(outputs, kernel, stride, dilation):
    """Lay out one axis of a tile of the input."""
    span = (outputs - 1) * stride + (kernel - 1) * dilation + 1
    if kernel * outputs < span:
        return TileAxis(kernel, outputs, dilation, stride, 1, outputs)
    return TileAxis(1, span, 0, 1, stride, dilation)


@inline
def seen_by_products(s, b):
    """The problem that is multiplied: that of the patches, where they are written out."""
    seen = s
    if b.patches != 0:
        seen = patches_as_channels(s)
    return seen


@inline
def tile_sizes(s, b):
    """Elements that the tile of the input takes; pixels in the lists of a chunk."""
    down = tile_axis(b.rows, s.kernel[1], s.stride[1], s.dilation[1])
    across = tile_axis(b.cols, s.kernel[2], s.stride[2], s.dilation[2])
    pixels = b.lists * b.planes * b.rows * b.cols
    places = b.planes * s.kernel[0] * down.pieces * down.length * across.pieces * across.length
    return places * b.nr, pixels


def tiles_together(s, b, itemsize):
    """Tiles of the input that a copy of the gradient serves: all, or as many as the cache holds."""
    return max(1, min(blocking.CACHE_BYTES // itemsize // tile_sizes(s, b)[0], b.ic_blocks))


@inline
def copy_size(b, lanes):
    """Elements of what a worker copies of the gradient, or of the patch matrix for a tile."""
    return max(b.copies * b.mr, b.patches * b.nr) * copy_step(b, lanes)


def products_scratch(s, b, lanes):
    """Elements of a worker's scratch."""
    return copy_size(b, lanes) + b.together * tile_sizes(s, b)[0]


@inline
def copy_place(chunk, row, plane):
    """Where the pixels of a row of a chunk lie in the copy of a channel of the gradient."""
    return (row * chunk.planes + plane) * chunk.cols


@inline
def copy_block(copy, s, b, chunk, gradient, rows, lanes):
    """Copy a chunk of the gradient of a register block's channels, each by itself.

    Rows that lie one behind the other are one long row.
    """
    apart, dense = copy_step(b, lanes), chunk.planes == 1 and s.out_strides[3] == chunk.cols
    lines, length = (1, chunk.rows * chunk.cols) if dense else (chunk.rows, chunk.cols)
    for r in range(lines):
        for p in range(chunk.planes):
            source = shift(gradient, gradient_index(s, chunk.plane + p, 0, chunk.oh + r, chunk.ow))
            target = shift(copy, copy_place(chunk, r, p))
            for i in range(rows):
                j = 0
                while j < length:
                    at = i * s.out_strides[1] + j
                    copy_lanes(shift(target, i * apart + j), shift(source, at), length - j)
                    j += lanes


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
def fill_row(job, s, tile, x, of, w0, across, channels, inside, nr):
    """One row of the tile: pieces of an input row, zeros where they reach into the padding."""
    for piece in range(across.pieces):
        target = shift(tile, piece * across.length * nr)
        first = w0 + piece * across.apart
        begin, end = outputs_inside(first, across.length, across.step, s.size[2])
        if not inside:
            begin, end = across.length, across.length
        fill(target, begin * nr, 0, job[AT.lanes])
        if end > begin:
            inner, read = shift(target, begin * nr), shift(x, of + first + begin * across.step)
            copy_channels(job, inner, read, s.in_strides[1], across.step, channels, end - begin, nr)
        fill(shift(target, end * nr), (across.length - end) * nr, 0, job[AT.lanes])


@inline
def fill_tile(job, s, b, chunk, down, across, x, target, channels):
    """Copy what a chunk reads of some input channels: [plane][kd][row][column][channel].

    Lanes without a channel are zeros: what lies there is multiplied too, and takes long if it is
    denormal.
    """
    if channels % job[AT.lanes] != 0:
        rows = chunk.planes * s.kernel[0] * down.pieces * down.length
        fill(target, rows * across.pieces * across.length * b.nr, 0, job[AT.lanes])
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
                    of = n * s.in_strides[0] + d * s.in_strides[2] + h * s.in_strides[3]
                    tile = shift(target, row * across.pieces * across.length * b.nr)
                    fill_row(job, s, tile, x, of, w0, across, channels, inside, b.nr)
                    row += 1


@inline
def copy_patch_row(target, row, first, step, size, count, lanes):
    """Copy the elements first, first + step, ... of a row of `size`, padded with zeros."""
    if step == 1:
        pad_rows(target, 0, row, 0, 1, first, count, size, 0, lanes)
        return
    for c in range(count):
        keep_scalar()
        target[c] = 0
        if 0 <= first + c * step < size:
            target[c] = row[first + c * step]


class FillPatchesArguments(NamedTuple):
    """What `fill_patches` takes.

    Attributes
    ----------
    job : pointer
        The job.
    x : pointer
        The group's input.
    rows, tile : pointer
        Where rows of the patch matrix go, and their transposition.
    number : int
        The chunk.
    first, width : int
        The first (channel, tap) of the tile, and how many it has.
    """

    job: Indices
    x: Elements
    rows: Elements
    tile: Elements
    number: int
    first: int
    width: int


@native(FillPatchesArguments, lightly)
def fill_patches(job, x, rows, tile, number, first, width):
    """Copy what a chunk reads through some (channel, tap)s of a group, which become channels.

    Each (channel, tap) is a row of the patch matrix. These are written out and then transposed.
    Lanes without one are zeros, as those of `fill_tile`.
    """
    s, b = read_shape(job, SHAPE), read_blocks(job)
    chunk = locate_chunk(number, s, b)
    _, high, wide = s.kernel
    taps, lanes, apart = kernel_taps(s), job[AT.lanes], copy_step(b, job[AT.lanes])
    pixels = chunk.planes * chunk.rows * chunk.cols
    for i in range(width):
        channel = (first + i) // taps
        tap = first + i - channel * taps
        line = tap // wide
        kd, kw = line // high, tap - line * wide
        w = chunk.ow * s.stride[2] - s.padding[2] + kw * s.dilation[2]
        target = shift(rows, i * apart)
        for plane in range(chunk.plane, chunk.plane + chunk.planes):
            n = plane // s.output[0]
            d = (plane - n * s.output[0]) * s.stride[0] - s.padding[0] + kd * s.dilation[0]
            of = n * s.in_strides[0] + channel * s.in_strides[1] + d * s.in_strides[2]
            for r in range(chunk.rows):
                h = (chunk.oh + r) * s.stride[1] - s.padding[1] + (line - kd * high) * s.dilation[1]
                row, size = x, 0
                if 0 <= d < s.size[0] and 0 <= h < s.size[1]:
                    row, size = shift(x, of + h * s.in_strides[3]), s.size[2]
                copy_patch_row(target, row, w, s.stride[2], size, chunk.cols, lanes)
                target = shift(target, chunk.cols)
    if width < b.nr:
        fill(tile, pixels * b.nr, 0, lanes)
    call(
        job[GRADIENT_AT.transpose],
        TransposeArguments(tile, b.nr, rows, apart, width, pixels, lanes),
    )


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
    """Write where a chunk's pixels lie: in G or its copy, and in the tile as the first tap sees it.

    Each list is in the order of rows, so that the rows that a tap multiplies are a piece of it.
    """
    pitch = across.pieces * across.length
    plane = s.kernel[0] * down.pieces * down.length * pitch
    for each in range(b.lists):
        begin, end = columns_inside(s, b, chunk, each)
        k = each * b.planes * b.rows * b.cols
        for r in range(chunk.rows):
            for i in range(chunk.planes):
                at = copy_place(chunk, r, i)
                if b.copies == 0:
                    at = gradient_index(s, chunk.plane + i, 0, chunk.oh + r, chunk.ow)
                place = i * plane + r * down.per_output * pitch
                for c in range(begin, end):
                    m.places[2 * k] = at + c
                    m.places[2 * k + 1] = (place + c * across.per_output) * b.nr
                    k += 1


@inline
def multiply_block(job, m, s, b, chunk, axes, tile, sums, rows, gradient, width, accumulate):
    """One register block of output channels times the tile, tap by tap.

    A tap leaves out the pixels for which it reads padding, as far as the lists tell them apart.
    """
    taps, (down, across) = kernel_taps(s), axes
    vectors = (width + job[AT.lanes] - 1) // job[AT.lanes]
    x_step = copy_step(b, job[AT.lanes]) if b.copies != 0 else s.out_strides[1]
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
                            x_step=x_step,
                            jump=first_half(rows) * x_step,
                            prefetch_distance=0,
                            w=shift(tile, (row * pitch + kw * across.per_tap) * b.nr),
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
def add_chunk(job, m, s, b, part, number, g, accumulate):
    """Add the products of a chunk of pixels to the sums of a task, or start them."""
    given, s = s, seen_by_products(s, b)
    chunk = locate_chunk(number, given, b)
    group = shift(m.x, g * given.c_in * given.in_strides[1])
    down = tile_axis(chunk.rows, s.kernel[1], s.stride[1], s.dilation[1])
    across = tile_axis(chunk.cols, s.kernel[2], s.stride[2], s.dilation[2])
    set_places(m, s, b, chunk, down, across)
    channel = g * s.c_out + part.oc0 * b.mr
    size = s.c_in * kernel_taps(s)
    sums = shift(m.sums, (part.slab * s.groups * s.c_out + channel) * size)
    tile_size, _ = tile_sizes(s, b)
    for first in range(part.ic0, part.ic1, b.together):
        end = min(first + b.together, part.ic1)
        for jr in range(first, end):
            width = min(b.nr, s.c_in - jr * b.nr)
            tile = shift(m.tile, (jr - first) * tile_size)
            if b.patches != 0:
                call(
                    job[AT.pack_panel],
                    FillPatchesArguments(job, group, m.copy, tile, number, jr * b.nr, width),
                )
            else:
                of_tile = shift(group, jr * b.nr * s.in_strides[1])
                fill_tile(job, given, b, chunk, down, across, of_tile, tile, width)
        for block in range(part.oc0, part.oc1):
            row, rows = (block - part.oc0) * b.mr, block_rows(s.c_out, b.mr, block)
            gradient = shift(m.gradient, (channel + row) * s.out_strides[1])
            if b.copies != 0:
                copy_block(m.copy, s, b, chunk, gradient, rows, job[AT.lanes])
                gradient = m.copy
            for jr in range(first, end):
                c = shift(sums, row * size + jr * b.nr)
                width = min(b.nr, s.c_in - jr * b.nr)
                tile = shift(m.tile, (jr - first) * tile_size)
                multiply_block(
                    job, m, s, b, chunk, (down, across), tile, c, rows, gradient, width, accumulate
                )


@native(WorkerArguments, lightly)
def products_work(worker, job, like):
    """Do tasks until none is left."""
    s, b = read_shape(job, SHAPE), read_blocks(job)
    scratch = shift(pointer_at(job[AT.scratch], like), worker * job[AT.scratch_size])
    m = ProductMemory(
        pointer_at(job[AT.x], like),
        pointer_at(job[GRADIENT_AT.gradient], like),
        pointer_at(job[GRADIENT_AT.zeros], like),
        pointer_at(job[GRADIENT_AT.sums], like),
        scratch,
        shift(scratch, copy_size(b, job[AT.lanes])),
        shift(indices_at(job[AT.indices]), worker * job[AT.index_size]),
    )
    number, queue = next_task(job, b.tasks, worker, 0)
    while number < b.tasks:
        part = locate_part(number, s, b)
        for g in range(part.g0, part.g1):
            for i in range(part.chunk0, part.chunk1):
                add_chunk(job, m, s, b, part, i, g, i > part.chunk0)
        number, queue = next_task(job, b.tasks, worker, queue)
