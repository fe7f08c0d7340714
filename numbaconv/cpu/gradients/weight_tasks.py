"""The gradient of the weights: how its sums are cut into tasks, and how the parts are put together.

Each weight's gradient is a sum over all pixels of all images. The pixels are cut into chunks that
fit the cache, and the chunks into slabs, each of which adds up sums of its own; at the end the
slabs are added in order. Chunks and slabs follow from the problem alone, so the bits of the result
do not depend on the number of threads. What the threads share are slabs and blocks of weights.

Three lowerings compute the sums: `weight_products`, lanes over the input channels, and for groups
of few input channels `weight_dots` and `weight_strips`, lanes over the pixels.
"""

import math
from typing import NamedTuple

from numbaconv.codegen.integers import ceil_div
from numbaconv.codegen.jit import from_python, inline, native
from numbaconv.codegen.pointers import (
    align,
    behind,
    call,
    data_in,
    entries,
    indices_at,
    pointer_at,
    shift,
    size_in,
)
from numbaconv.codegen.target import HALVES_VECTORS, REGISTERS, VECTOR_BYTES
from numbaconv.cpu import blocking
from numbaconv.cpu.blocking import TILE_VECTORS, cases, share
from numbaconv.cpu.job import (
    AT,
    COMPLETE,
    GRADIENT,
    JOB_SIZE,
    NO_MEMORY,
    QUEUE_SIZE,
    SHAPE,
    WorkerArguments,
    give_workspace,
    launch,
    next_task,
    no_memory,
    places,
    size_within,
    take_workspace,
)
from numbaconv.cpu.microkernels.dot import DOT_COLUMNS, DOT_ROWS
from numbaconv.cpu.microkernels.strip_sums import SUM_STRIDES
from numbaconv.cpu.packing.halo import axis_reach, halo_layout, has_padded_halo
from numbaconv.cpu.packing.transpose import TransposeArguments
from numbaconv.cpu.packing.weights import register_rows
from numbaconv.problem.shape import ConvShape, image_pixels, is_pointwise, kernel_taps, read_shape

# What computes the sums.
PRODUCTS, DOTS, STRIPS = range(3)
# How a problem is seen.
AS_IT_IS, EXCHANGED, BY_COLUMNS = range(3)
# Pixels of a chunk: sums are loaded and stored once for so many multiply-adds each.
MOST_PIXELS, LEAST_PIXELS = 512, 128
# Columns of taps, at most, that have lists of their own of a chunk's pixels, and the share of their
# pixels that must be padding.
MOST_LISTS, PADDED_SHARE = 7, 0.05
# Elements that the sums of all slabs may take, and pixels that a slab should have.
MOST_SUMS = 1 << 20
SLAB_PIXELS, MOST_SLABS = 384, 8
# Slabs times groups, at most: threads share the groups, while each slab copies rows around it anew.
# And chunks of a slab from which on slabs are about even, whatever the rows of a chunk.
SLABS_AND_GROUPS, MANY_CHUNKS = 64, 4
# Tasks for each thread, at the price of packing a chunk for each part of the channels.
TASKS_PER_THREAD = 2
# Cycles that transposing an element takes, and a vector's multiply-add of `weight_dots` and of a
# register tile.
TRANSPOSED, DOT_CYCLES, TILE_CYCLES = (0.6, 1.08, 1.0) if HALVES_VECTORS else (0.6, 0.8, 0.5)
# Of pointwise layers, `weight_dots` takes rows of so many pixels or more, which are worth adding up
# a vector's lanes, and so many input channels at most, which it copies.
DOT_PIXELS, MOST_DOT_CHANNELS = 128, 32
# Bytes that a chunk of `weight_dots` should take of the nearest cache, and pixels of a single row,
# where groups have few output channels: then all of it is read again by few register blocks. Of
# more channels it streams.
NEAR_BYTES, NEAR_PIXELS = 40 << 10, 1600
# Taps of a plane of the filter that are worth copying the gradient, for blocks of taps; and of a
# line that reads the input in place, so that otherwise nothing is copied.
LEAST_TAPS, LEAST_IN_PLACE = 9, 18
# Steps of a tap that the copy of a vector of the gradient takes.
COPIED_STEPS = 12
# Cycles of `weight_dots` for a vector that is copied, which AVX2 has slow masks for, for a register
# block, and for a row of one.
COPIED_CYCLES, BLOCK_CYCLES, ROW_CYCLES = 12 if VECTOR_BYTES == 32 else 5, 120, 10
# Rows of a chunk of strips, and of one of several channels at least. Rows of a filter that strips
# serve: where registers hold the sums of few taps, larger filters are faster as they are copied.
STRIP_ROWS, LEAST_STRIP_ROWS = 64, 16
MOST_STRIP_TAPS = math.inf if REGISTERS >= 32 else 3
# How much longer whole vectors may be than the columns of a filter that are channels, and how many
# vectors of taps there should be at least.
FILLED, LEAST_COLUMN_TAPS = 1.1, 4
# What share of a vector, over half, input channels may fill and be read as strips.
HALF_FILLED = 1.3
# Cycles that an element of the patch matrix takes, and one of the sums that are to be transposed;
# of more sums than so many, which come from memory.
WRITTEN, ORDERED = 3, 1
MOST_NEAR, ORDERED_FAR = 2 << 20, 3
# Lines so many bytes apart lie in one set of the nearest cache; lines that it holds at least.
PAGE, WAYS = 4096, 8
# Elements of the result that a task of `finish_work` puts together.
FINISHED = 4096


class GradientBlocks(NamedTuple):
    """How the gradient of a problem's weights is cut.

    Attributes
    ----------
    mr, oc_blocks : int
        Output channels of a register block; blocks of a group.
    nr, ic_blocks : int
        Input channels of a tile of the input; tiles of a group.
    planes, rows, cols : int
        Pixels of a chunk. More than one plane (n, od) only where all rows are in one chunk.
    row_blocks, col_blocks, chunks : int
        Chunks of a plane; of the problem.
    slabs : int
        Slabs that the chunks are shared out to.
    group_parts, oc_parts, ic_parts : int
        Parts of groups and channels, each a task of every slab.
    lowering : int
        PRODUCTS, DOTS or STRIPS: of `weight_products`, `weight_dots` or `weight_strips`.
    in_place : int
        1: `weight_dots` reads the input where it lies, and not from halo tiles.
    copies : int
        1: the gradient is copied: by `weight_dots`, so that rows are one long row; by
        `weight_products`, whose register blocks read channels that collide.
    shifts : int
        1: rows of the blocks of such copies are taps, as output channels are too few.
    together : int
        Groups whose halo tiles are copied together for `weight_dots`; tiles of the input that are
        for `weight_products`.
    patches : int
        1: what pixels read is written out (im2col); blocks are those of `patches_as_channels`.
    lists : int
        Lists of a chunk's pixels: one, or for each column of taps one of those for which it reads
        no padding.
    tasks : int
        Tasks of the problem.
    """

    mr: int
    oc_blocks: int
    nr: int
    ic_blocks: int
    planes: int
    rows: int
    cols: int
    row_blocks: int
    col_blocks: int
    chunks: int
    slabs: int
    group_parts: int
    oc_parts: int
    ic_parts: int
    lowering: int
    in_place: int
    copies: int
    shifts: int
    together: int
    patches: int
    lists: int
    tasks: int


class GradientHeader(NamedTuple):
    """What the job of a weight gradient has of its own; as `GRADIENT_AT`, where that lies.

    Behind it are the `GradientBlocks`. Of the `job.Header`, `x` is the input of the convolution,
    and `out` the gradient of its weights.

    Attributes
    ----------
    transpose, dot : int
        Addresses of these functions.
    finish : int
        Address of `finish_work`.
    seen_as : int
        AS_IT_IS; EXCHANGED, see `exchanged`; or BY_COLUMNS, see `columns_as_channels`.
    gradient : int
        Address of the gradient of the convolution's output.
    zeros : int
        Address of the zeros with which a register tile begins: one for each of its columns.
    sums : int
        Address of the sums of all slabs.
    """

    transpose: int
    dot: int
    finish: int
    seen_as: int
    gradient: int
    zeros: int
    sums: int


GRADIENT_AT: GradientHeader = places(GradientHeader, GRADIENT)
GRADIENT_BLOCKS = GRADIENT + len(GradientHeader._fields)
BLOCKS_SIZE = size_within(GradientBlocks, JOB_SIZE - GRADIENT_BLOCKS)


class Chunk(NamedTuple):
    """The pixels of a chunk: first plane, row and column, and how many."""

    plane: int
    oh: int
    ow: int
    planes: int
    rows: int
    cols: int


class Part(NamedTuple):
    """What a task computes: a slab, its chunks, and ranges of groups and blocks of channels."""

    slab: int
    chunk0: int
    chunk1: int
    g0: int
    g1: int
    oc0: int
    oc1: int
    ic0: int
    ic1: int


def uses_dots(s, lanes, patches):
    """Whether lanes run over the pixels, as where input channels fill not even half a vector.

    Pointwise layers do so too where that costs less. A halo tile must be worth it.
    """
    few = 2 * s.c_in < lanes or _dot_cycles(s, lanes) < _tile_cycles(s, lanes)
    return few and not patches and not has_padded_halo(s)


def uses_strips(s, lanes):
    """Whether planes are read as strips where they lie, whose taps a block of registers holds.

    Of few output channels, or of inputs that fill about half a vector: dots copy rows for the
    former, and tiles leave lanes of the latter idle. And on narrow maps of few channels, whose rows
    dots would copy next to each other.
    """
    (_, down, across), (_, high, wide) = s.stride, s.kernel
    steps = down == across and down in SUM_STRIDES and (down == 1 or max(s.dilation[1:]) == 1)
    dense = s.in_strides[4] == s.out_strides[4] == 1 and not has_padded_halo(s)
    if min(high, wide) == 1 or not steps or not dense or high > MOST_STRIP_TAPS:
        return False
    few = s.c_out < DOT_ROWS[-1]
    half = lanes <= 2 * s.c_in <= HALF_FILLED * lanes
    narrow = s.output[2] < 2 * lanes and s.c_out <= lanes and 2 * s.c_in < lanes
    return (few and s.c_in <= lanes) or half or narrow


def _lowering_of(s, lanes, patches):
    """What computes the sums of a problem: PRODUCTS, DOTS or STRIPS."""
    if not patches and uses_strips(s, lanes):
        return STRIPS
    return DOTS if uses_dots(s, lanes, patches) else PRODUCTS


def _dot_cycles(s, lanes):
    """Cycles of `weight_dots` for each pixel of a pointwise layer."""
    if kernel_taps(s) > 1 or s.output[2] < DOT_PIXELS or s.c_in > MOST_DOT_CHANNELS:
        return math.inf
    return DOT_CYCLES * s.c_in * s.c_out / lanes


def _tile_cycles(s, lanes):
    """Cycles of `weight_products` for each pixel of a pointwise layer."""
    return TILE_CYCLES * ceil_div(s.c_in, lanes) * s.c_out + TRANSPOSED * s.c_in


def exchanged(s, lanes):
    """Return a problem whose lanes are the channels that cost least, and whether they are outputs.

    In a pointwise layer input and gradient are alike, and either can be the one that is transposed:
    then the other's is the input of the problem. That leaves the result transposed.
    """
    if not is_pointwise(s):
        return s, False
    other = s._replace(
        c_in=s.c_out, c_out=s.c_in, in_strides=s.out_strides, out_strides=s.in_strides
    )
    costs = [min(_dot_cycles(p, lanes), _tile_cycles(p, lanes)) for p in (s, other)]
    costs[1] += 2 * TRANSPOSED * s.c_in * s.c_out / (s.n * image_pixels(s))
    return (other, True) if costs[1] < costs[0] else (s, False)


def as_seen(s, lanes, patches):
    """Return the problem that is summed, and how the one that is asked for is seen as it."""
    columns = None if patches else columns_as_channels(s, lanes)
    if columns is not None:
        return columns, BY_COLUMNS
    other, changed = exchanged(s, lanes)
    return other, EXCHANGED if changed else AS_IT_IS


def columns_as_channels(s, lanes):
    """Return a problem whose channels are the columns of the filter, or None if lanes gain nothing.

    Where no column reads padding, what they read of a row lies side by side, as channels that are
    innermost do. Channels and rows of the filter are then its taps, and its sums are in the order
    of the weights. That is for patches, whose columns fill vectors and whose channels are few.
    """
    (depth, high, wide), flat = s.kernel, s.size[0] == 1 and max(s.padding[0], s.padding[2]) == 0
    fills = ceil_div(wide, lanes) * lanes <= FILLED * wide and 2 * s.c_in < lanes
    dense = s.in_strides[4] == s.dilation[2] == 1 and s.groups == depth == 1
    if not (flat and fills and dense and s.c_in * high * wide >= LEAST_COLUMN_TAPS * lanes):
        return None
    image, channel, _, row, _ = s.in_strides
    return s._replace(
        c_in=wide,
        size=(s.c_in, *s.size[1:]),
        kernel=(s.c_in, high, 1),
        in_strides=(image, 1, channel, row, 1),
    )


@inline
def patches_as_channels(s):
    """Return the pointwise problem of the patch matrix, whose channels are (channel, tap).

    Its sums are in the order of the weights.
    """
    channels, one = s.c_in * kernel_taps(s), (1, 1, 1)
    return ConvShape(
        s.n,
        s.groups,
        channels,
        s.c_out,
        s.output,
        one,
        one,
        one,
        (0, 0, 0),
        s.output,
        s.padding_mode,
        s.in_strides,
        s.out_strides,
        s.converts,
    )


def depthwise_cycles(s, itemsize):
    """Cycles of `weight_dots` for a group of a depthwise layer, of all images."""
    lanes, (_, high, wide), (_, rows, cols) = VECTOR_BYTES // itemsize, s.kernel, s.output
    layout, taps = halo_layout(s, rows, cols, itemsize), high * wide
    vectors, phases = ceil_div(layout.pitch, lanes), layout.phases_h * layout.phases_w
    copied = phases * (rows + layout.rows) * vectors
    if _has_rows_of_taps(s):
        copied += s.c_out * rows * vectors
        blocks = s.c_out * ceil_div(high, DOT_ROWS[-1]) * ceil_div(wide, DOT_COLUMNS[-1])
        products = s.c_out * _rounded(high, DOT_ROWS) * _rounded(wide, DOT_COLUMNS)
        steps = products * ceil_div((rows + DOT_ROWS[-1]) * layout.pitch, lanes)
    else:
        blocks = ceil_div(s.c_out, DOT_ROWS[-1]) * ceil_div(taps, DOT_COLUMNS[-1])
        products = _rounded(s.c_out, DOT_ROWS) * _rounded(taps, DOT_COLUMNS)
        if s.c_out == 1:
            products *= 2  # as many loads as products, and most across two lines
        steps = rows * (products * ceil_div(cols, lanes) + ROW_CYCLES * blocks)
    planes = s.n * s.output[0] * s.kernel[0]
    return planes * (COPIED_CYCLES * copied + BLOCK_CYCLES * blocks + steps)


def _rounded(count, sizes):
    """Rows or columns that blocks of some sizes compute of so many."""
    return sum(many * size for many, size in cases(count, sizes))


def _dot_elements(s, rows, cols, itemsize):
    """Elements of the halo tile of a chunk, and of as many pixels for each of its channels."""
    return s.c_in * (halo_layout(s, rows, cols, itemsize).channel + rows * cols)


def _pixels_of_chunk(s, itemsize, lowering):
    """Planes, rows and columns of a chunk; for dots what it reads should fit the nearest cache."""
    _, oh, ow = s.output
    budget = blocking.CACHE_BYTES // itemsize
    if lowering == STRIPS:
        return 1, _rows_of_strips(s, budget), ow
    if lowering == DOTS:
        few = s.c_out < DOT_ROWS[-1]
        budget, most = (NEAR_BYTES // itemsize, NEAR_PIXELS // oh) if few else (budget, 1024)
        cols = ceil_div(ow, ceil_div(ow, max(most, 256)))
        rows, least = oh, max(1, axis_reach(s.kernel[1], s.stride[1], s.dilation[1]) if few else 1)
        while rows > least and _dot_elements(s, rows, cols, itemsize) > budget:
            rows = ceil_div(rows, 2)
        return 1, rows, cols
    most = min(max(budget // max(s.c_out, 1), LEAST_PIXELS), MOST_PIXELS)
    cols = ceil_div(ow, ceil_div(ow, most))
    rows = min(oh, max(1, most // cols))
    planes = max(1, most // (oh * ow)) if rows == oh and cols == ow else 1
    return min(planes, s.n * s.output[0]), rows, cols


def _rows_of_strips(s, budget):
    """Rows of a chunk: so many that their lines of a strip stay in the nearest cache.

    What all output channels of a group read should fit the budget.
    """
    rows, of_row = s.output[1], s.c_in * s.stride[1] * s.size[2]
    rows = rows if rows <= 2 * STRIP_ROWS else ceil_div(rows, ceil_div(rows, STRIP_ROWS))
    while s.c_out > 1 and rows > LEAST_STRIP_ROWS and 2 * rows * of_row > budget:
        rows = ceil_div(rows, 2)
    return rows


def _has_rows_of_taps(s):
    """Whether rows of the blocks of `weight_dots` are taps: where that is worth copying G."""
    _, high, wide = s.kernel
    apart = all(step == 1 for step in s.stride[1:])
    least = LEAST_TAPS if high > 1 or not _reads_in_place(s, s.output[2], False) else LEAST_IN_PLACE
    return s.c_out < DOT_ROWS[-1] and apart and wide > 1 and high * wide >= least


def _has_short_rows(s, cols, lanes):
    """Whether rows leave so many lanes over that it is worth copying G to a single row.

    A row's steps are those of its taps: the copy saves some for each, and takes as long as several.
    """
    apart, pitch = ceil_div(cols, lanes), cols + axis_reach(s.kernel[2], s.stride[2], s.dilation[2])
    saved = (apart - pitch / lanes) * s.c_in * kernel_taps(s)
    return s.output[1] > 1 and saved > COPIED_STEPS * ceil_div(pitch, lanes)


def _reads_in_place(s, cols, copies):
    """Whether the input is read where it lies: no tap reads padding, and elements are neighbours.

    Where the gradient is copied at the distances of the input's rows, a chunk takes all of each.
    """
    axes = zip(s.size, s.output, s.kernel, s.stride, s.dilation, strict=True)
    inside = all((out - 1) * step + (k - 1) * d < n for n, out, k, step, d in axes)
    single = s.stride[1] == s.stride[2] == s.in_strides[4] == 1
    whole = s.size[1] == 1 or (cols == s.output[2] and s.in_strides[3] == s.size[2])
    few = s.c_out <= DOT_ROWS[-1]
    return inside and max(s.padding) == 0 and single and few and (whole or not copies)


def _has_few_pixels(s, lanes):
    """Whether writing patches out takes less than bringing sums into the order of the weights.

    Cycles for each row of the patch matrix: it has padding, too, which taps by themselves leave
    out. The sums of columns that are channels are in order.
    """
    if s.in_strides[1] == 1:
        return False
    pixels = s.n * image_pixels(s)
    padded = pixels * (1 - math.prod(_share_inside(s, axis) for axis in range(3)))
    cycles = WRITTEN * pixels + TILE_CYCLES * padded * s.c_out / lanes
    near = s.groups * s.c_out * s.c_in * kernel_taps(s) <= MOST_NEAR
    return cycles < (ORDERED if near else ORDERED_FAR) * s.c_out


def _collides(s, rows, itemsize):
    """Whether channels of the gradient push each other out of the nearest cache.

    A register block reads a line of each of its rows again and again, and all lie in one set.
    """
    return rows > WAYS and s.out_strides[1] * itemsize % PAGE == 0


def _share_inside(s, axis):
    """Of all pairs of an output and a tap along an axis, the share that reads no padding."""
    size, outputs, stride = s.size[axis], s.output[axis], s.stride[axis]
    read = 0
    for tap in range(s.kernel[axis]):
        first = tap * s.dilation[axis] - s.padding[axis]
        begin, end = max(0, ceil_div(-first, stride)), ceil_div(size - first, stride)
        read += max(0, min(end, outputs) - begin)
    return read / (s.kernel[axis] * outputs)


def _lists_of_pixels(s):
    """Lists of a chunk's pixels: more than one where padding takes a good share of the columns."""
    taps = s.kernel[2]
    return taps if taps <= MOST_LISTS and _share_inside(s, 2) < 1 - PADDED_SHARE else 1


def cut(s, itemsize, threads, patches):
    """Choose the blocks of a problem. Only the parts depend on the threads."""
    lanes = VECTOR_BYTES // itemsize
    lowering = _lowering_of(s, lanes, patches)
    patches = lowering == PRODUCTS and kernel_taps(s) > 1 and (patches or _has_few_pixels(s, lanes))
    if patches:
        s = patches_as_channels(s)
    dots, by_pixels = lowering == DOTS, lowering != PRODUCTS
    planes, rows, cols = _pixels_of_chunk(s, itemsize, lowering)
    all_planes = s.n * s.output[0]
    plane_blocks, col_blocks = ceil_div(all_planes, planes), ceil_div(s.output[2], cols)
    sums = s.groups * s.c_out * s.c_in * kernel_taps(s)
    slabs = MOST_SLABS
    pixels = s.n * image_pixels(s)
    most = min(pixels // SLAB_PIXELS, MOST_SUMS // sums, SLABS_AND_GROUPS // s.groups)
    while slabs > max(most, 1):
        slabs //= 2
    row_blocks = ceil_div(s.output[1], rows)
    if planes == 1:
        # Slabs of as many chunks each, as near as rows allow.
        alike = all_planes * col_blocks
        most = min(s.output[1], ceil_div(MANY_CHUNKS * slabs, alike))
        while alike * row_blocks % slabs and row_blocks < most:
            row_blocks += 1
        rows = ceil_div(s.output[1], row_blocks)
        row_blocks = ceil_div(s.output[1], rows)
    chunks = plane_blocks * row_blocks * col_blocks
    slabs = min(slabs, chunks)

    mr = DOT_ROWS[-1] if by_pixels else register_rows(s.c_out)
    nr = min(TILE_VECTORS, ceil_div(s.c_in, lanes)) * lanes
    oc_blocks, ic_blocks = ceil_div(s.c_out, mr), 1 if by_pixels else ceil_div(s.c_in, nr)
    wanted = ceil_div(threads * TASKS_PER_THREAD, slabs) if threads > 1 else 1
    group_parts = min(s.groups, wanted) if by_pixels else s.groups
    ic_parts = min(ic_blocks, ceil_div(wanted, group_parts))
    oc_parts = min(oc_blocks, ceil_div(wanted, group_parts * ic_parts))
    shifts = _has_rows_of_taps(s)
    copies = shifts or _has_short_rows(s, cols, lanes) if dots else _collides(s, mr, itemsize)
    together = (
        max(1, NEAR_BYTES // itemsize // _dot_elements(s, rows, cols, itemsize)) if dots else 1
    )
    together = min(together, ceil_div(s.groups, group_parts))
    return GradientBlocks(
        mr,
        oc_blocks,
        nr,
        ic_blocks,
        planes,
        rows,
        cols,
        row_blocks,
        col_blocks,
        chunks,
        slabs,
        group_parts,
        oc_parts,
        ic_parts,
        lowering,
        int(dots and _reads_in_place(s, cols, copies)),
        int(copies),
        int(dots and shifts),
        together,
        int(patches),
        1 if by_pixels else _lists_of_pixels(s),
        slabs * group_parts * oc_parts * ic_parts,
    )


@inline
def read_blocks(job):
    """Rebuild the blocks that `plan` wrote."""
    return GradientBlocks(*entries(job, GRADIENT_BLOCKS, BLOCKS_SIZE))


@inline
def locate_part(number, s, b):
    """Decode a task number: slabs run slowest."""
    parts = b.group_parts * b.oc_parts * b.ic_parts
    slab = number // parts
    rest = number - slab * parts
    group_part = rest // (b.oc_parts * b.ic_parts)
    rest -= group_part * b.oc_parts * b.ic_parts
    oc_part = rest // b.ic_parts
    ic_part = rest - oc_part * b.ic_parts
    chunk0, chunk1 = share(b.chunks, slab, b.slabs)
    g0, g1 = share(s.groups, group_part, b.group_parts)
    oc0, oc1 = share(b.oc_blocks, oc_part, b.oc_parts)
    ic0, ic1 = share(b.ic_blocks, ic_part, b.ic_parts)
    return Part(slab, chunk0, chunk1, g0, g1, oc0, oc1, ic0, ic1)


@inline
def locate_chunk(number, s, b):
    """Decode a chunk number: planes, then rows, then columns."""
    in_planes = number // b.col_blocks
    ow = (number - in_planes * b.col_blocks) * b.cols
    plane = in_planes // b.row_blocks
    oh = (in_planes - plane * b.row_blocks) * b.rows
    plane *= b.planes
    return Chunk(
        plane,
        oh,
        ow,
        min(b.planes, s.n * s.output[0] - plane),
        min(b.rows, s.output[1] - oh),
        min(b.cols, s.output[2] - ow),
    )


@inline
def gradient_index(s, plane, channel, oh, ow):
    """Index of a pixel of a plane (n, od) in the gradient of the output."""
    n = plane // s.output[0]
    od = plane - n * s.output[0]
    return (
        n * s.out_strides[0]
        + channel * s.out_strides[1]
        + od * s.out_strides[2]
        + oh * s.out_strides[3]
        + ow
    )


@inline
def add_slabs(sums, size, apart, slabs):
    """Add the sums of the other slabs to those of the first, in order."""
    for slab in range(1, slabs):
        more = shift(sums, slab * apart)
        for i in range(size):
            sums[i] += more[i]


@inline
def summed_matrices(s, b, seen_as):
    """Matrices of the sums, and rows and columns of each, which the weights have transposed.

    Products leave [tap][input channel] for each output channel, others the order of the weights.
    What is exchanged is [input channel][output channel] for each group.
    """
    taps = kernel_taps(s)
    if seen_as == EXCHANGED:
        return s.groups, s.c_out, s.c_in
    if b.lowering != PRODUCTS or taps == 1 or b.patches != 0 or seen_as == BY_COLUMNS:
        return s.groups * s.c_out, 1, s.c_in * taps
    return s.groups * s.c_out, taps, s.c_in


@native(WorkerArguments)
def finish_work(worker, job, like):
    """Add the slabs up and bring the sums into the order of the weights.

    A task is some matrices, or some columns of one.
    """
    s, b = read_shape(job, SHAPE), read_blocks(job)
    sums, out = pointer_at(job[GRADIENT_AT.sums], like), pointer_at(job[AT.out], like)
    matrices, rows, columns = summed_matrices(s, b, job[GRADIENT_AT.seen_as])
    size = rows * columns
    each, parts = max(1, FINISHED // size), min(-(-size // FINISHED), columns)
    tasks = -(-matrices // each) * parts
    task, queue = next_task(job, tasks, worker, 0)
    while task < tasks:
        first = task // parts * each
        begin, end = share(columns, task - task // parts * parts, parts)
        for matrix in range(first, min(first + each, matrices)):
            source = shift(sums, matrix * size + begin)
            target = shift(out, matrix * size + begin * rows)
            for row in range(rows):
                add_slabs(shift(source, row * columns), end - begin, matrices * size, b.slabs)
            if rows == 1:
                for i in range(end - begin):
                    target[i] = source[i]
            else:
                call(
                    job[GRADIENT_AT.transpose],
                    TransposeArguments(
                        target, rows, source, columns, rows, end - begin, job[AT.lanes]
                    ),
                )
        task, queue = next_task(job, tasks, worker, queue)


@inline
def carry_out_sums(template, x, gradient, zeros, sums, sums_size, scratch, out):
    """Sum the products of flat arrays.

    Parameters
    ----------
    template : int
        Address of a job without its data.
    x, gradient, out : int
        Addresses of the input, of the gradient of the output, and of the result.
    zeros : int
        Address of the zeros with which a register tile begins.
    sums, sums_size : int
        Address of the sums of all slabs, and how many; 0: the result takes the sums as they are.
    scratch : int
        Address of the workers' memory.

    Returns
    -------
    int
        COMPLETE or NO_MEMORY.
    """
    space = take_workspace(template, JOB_SIZE, 1, 1, x)
    if no_memory(space):
        return NO_MEMORY
    job = indices_at(space.jobs)
    job[AT.queues], job[AT.indices] = space.queues, space.indices
    job[AT.x], job[GRADIENT_AT.gradient] = x, gradient
    if job[GRADIENT_AT.seen_as] == EXCHANGED:
        job[AT.x], job[GRADIENT_AT.gradient] = gradient, x
    job[AT.out], job[GRADIENT_AT.zeros] = out, zeros
    job[GRADIENT_AT.sums] = sums if sums_size > 0 else out
    job[AT.scratch] = align(scratch)
    launch(space.jobs, job[AT.worker], job[AT.workers])
    if sums_size > 0:
        job[AT.queues] = behind(space.queues, job[AT.workers] * QUEUE_SIZE, 8)
        launch(space.jobs, job[GRADIENT_AT.finish], job[AT.workers])
    give_workspace(space)
    return COMPLETE


@native(from_python)
def run_sums(given):
    """Sum the products of flat arrays: `carry_out_sums` for Python.

    It is given a template, the input, the gradient of the output, zeros for the tile, the sums,
    scratch and the result, which takes the sums as they are if `sums` is empty.
    """
    return carry_out_sums(
        data_in(given, 0),
        data_in(given, 1),
        data_in(given, 2),
        data_in(given, 3),
        data_in(given, 4),
        size_in(given, 4),
        data_in(given, 5),
        data_in(given, 6),
    )
