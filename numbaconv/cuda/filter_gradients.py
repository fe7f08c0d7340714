"""The gradient of weights with one input channel a group: depthwise layers and image filters.

As a matrix product it has a single row, and most of a tile of it would be padding. Here a block
goes through some tiles of one channel, in all images, and brings each to shared memory as the
convolution does (`filter_tiles`). A thread has a patch of 4 x 4 pixels of the output's gradient,
and in registers the sums of all taps (of some rows of them, where there are many). A row of the
tile and a row of the patch make four products for each tap of a row. In the end the block adds up
the sums of its threads, always in the same order.
"""

from typing import Any, NamedTuple

from numba import cuda

from numbaconv.cuda.device import device, make_finish, read_shape, stored_as, sum_type
from numbaconv.cuda.filter_tiles import (
    MOST_OUTPUTS,
    MOST_THREADS,
    PATCH,
    TOGETHER,
    Block,
    choose_block,
    halo_of,
    make_stage,
    patch_place,
    spans,
    stage_place,
    vector_stride,
)
from numbaconv.cuda.intrinsics import (
    SHARED_ALIGNMENT,
    int32,
    int64,
    load,
    load_header,
    make_read,
    make_row,
    make_slide,
    make_tap_products,
    make_tap_sums,
    make_zeros,
    move_on,
    quotient,
    shared_address,
    store,
    store_apart,
)
from numbaconv.cuda.kernels import Source
from numbaconv.cuda.problem import (
    COLUMNS,
    HEIGHT,
    PITCH,
    PLANES,
    ROWS,
    SOURCE,
    SPLIT_TILES,
    SPLITS,
    TILE,
    WIDTH,
)
from numbaconv.cuda.tiles import WARP
from numbaconv.problem.shape import ConvShape

MOST_SUMS = 50  # registers of a thread: 7 x 7 taps of float32, 5 x 5 of float64
ENOUGH_BLOCKS = 8  # for a multiprocessor


class FilterGradient(NamedTuple):
    """What a kernel is compiled for.

    Attributes
    ----------
    dtype : str
        Of the elements.
    rows, taps : int
        Rows of taps whose sums a thread has, and taps of a row.
    stride : pair of int
        Along a column and a row, if rows are read in vectors; else zeros.
    partial : bool
        Whether a block stores only its part of the sums, for a second pass.
    """

    dtype: str
    rows: int
    taps: int
    stride: tuple[int, int]
    partial: bool


class Plan(NamedTuple):
    """How a gradient is computed: a block, the rows of taps of each, and the parts of the sums."""

    block: Block
    rows: int
    splits: int
    tiles: int  # of a part


def plan_of(s: ConvShape, itemsize: int, processors: int) -> Plan | None:
    """Return how the gradient of a convolution's weights is computed; None where as a product."""
    most = MOST_SUMS * 4 // itemsize
    if s.c_in != 1 or s.c_out > MOST_OUTPUTS or not 0 < s.kernel[2] <= min(most, WARP) or not s.n:
        return None
    chunks = -(-s.kernel[1] // min(s.kernel[1], most // s.kernel[2]))
    rows = -(-s.kernel[1] // chunks)
    block = choose_block(s, s.n, lambda b, size: shared_elements(s, b, rows) * itemsize <= size)
    return None if block is None else split(s, block, rows, processors)


def split(s: ConvShape, block: Block, rows: int, processors: int) -> Plan:
    """Split the tiles of each channel over as many blocks as keep the device busy."""
    across, down = spans(s, block)
    tiles = across * down * s.output[0] * -(-s.n // block.planes)
    wanted = -(-ENOUGH_BLOCKS * processors // max(sums(s, rows), 1))
    each = -(-tiles // min(max(wanted, 1), max(tiles, 1)))
    return Plan(block, rows, max(-(-tiles // max(each, 1)), 1), each)


def sums(s: ConvShape, rows: int) -> int:
    """Sums that blocks compute: of each channel, depth and chunk of so many rows of taps."""
    return s.groups * s.c_out * s.kernel[0] * -(-s.kernel[1] // rows)


def kind_of(s: ConvShape, dtype: str, plan: Plan) -> FilterGradient:
    """Return the kernel of a problem."""
    stride = (s.stride[1], s.stride[2]) if vector_stride(s) else (0, 0)
    return FilterGradient(dtype, plan.rows, s.kernel[2], stride, plan.splits > 1)


def shared_elements(s: ConvShape, block: Block, rows: int) -> int:
    """Elements of the tiles of a block, or of the sums that its threads add up."""
    tiles = block.planes * halo_of(s, block, rows).size
    return max(tiles, s.kernel[2] * (block.threads + WARP + 1))


def settings(s: ConvShape, plan: Plan) -> dict[int, int]:
    """Return the entries of a job's header."""
    halo = halo_of(s, plan.block, plan.rows)
    return {
        COLUMNS: plan.block.columns,
        ROWS: plan.block.rows,
        PLANES: plan.block.planes,
        WIDTH: halo.width,
        HEIGHT: halo.height,
        PITCH: halo.pitch,
        TILE: halo.size,
        SPLITS: plan.splits,
        SPLIT_TILES: plan.tiles,
    }


def make_kernel(kind: FilterGradient) -> Source:
    """Return the kernel of a kind, to be called with addresses: (x, gradient, bias, y, job)."""
    total, across = sum_type(kind.dtype), kind.stride[1]
    stored, _ = stored_as(kind.dtype)
    zeros = make_zeros(kind.rows * kind.taps, total)
    stage = make_stage(kind.dtype, across, False)
    add, add_up = make_add(kind), make_add_up(kind)
    phases, rows = max(across, 1), kind.rows

    def conv_filter_gradient(x, g, bias, y, job):
        header = load_header(job)
        s = read_shape(header, SOURCE)
        columns, down, planes = header[COLUMNS], header[ROWS], header[PLANES]
        halo = header[WIDTH], header[HEIGHT], header[PITCH]
        values = cuda.local.array(TOGETHER, total)
        places = cuda.local.array(TOGETHER, int32)
        shared = shared_address(cuda.shared.array(0, total, SHARED_ALIGNMENT))
        thread = cuda.threadIdx.x
        part, channel, kd, kh = find_sums(cuda.blockIdx.x, rows, s)
        group = channel if s.c_out == 1 else quotient(channel, s.c_out)

        plane, first, step = stage_place(thread, columns, down, planes, s)
        tile_to = move_on(shared, int32(plane * header[TILE]), total)
        tx, ty, tz = patch_place(thread, columns, down, planes, s)
        at = tz * header[TILE] + ty * PATCH * s.stride[1] * phases * halo[2]
        at = move_on(shared, int32(at + tx * PATCH * (1 if across else s.stride[2])), total)

        each = zeros()
        tile = int32(part * header[SPLIT_TILES])
        end = int32(tile + header[SPLIT_TILES])
        while tile < end:
            oh, ow, od, image = find_tile(tile, columns, down, planes, s)
            d = od * s.stride[0] + kd * s.dilation[0] - s.padding[0]
            h = oh * s.stride[1] + kh * s.dilation[1] - s.padding[1]
            corner = (d if image + plane < s.n else -1, h, ow * s.stride[2] - s.padding[2])
            base = int64(image + plane) * s.in_strides[0] + group * s.in_strides[1]
            cuda.syncthreads()  # the tile before is read
            stage(tile_to, halo, x, base, corner, first, step, s, values, places)
            cuda.syncthreads()  # this one is there
            if image + tz < s.n:
                of_patch = int64(image + tz) * s.out_strides[0] + channel * s.out_strides[1]
                of_patch += od * s.out_strides[2]
                place = (oh + ty * PATCH, ow + tx * PATCH)
                each = add(each, move_on(g, of_patch, stored), place, at, halo[2], s)
            tile = int32(tile + 1)
        cuda.syncthreads()  # the last tile is read

        s = read_shape(load_header(job), SOURCE)  # kept from above it would need registers
        part, channel, kd, kh = find_sums(cuda.blockIdx.x, rows, s)
        row = (channel * s.kernel[0] + kd) * s.kernel[1] + kh
        row += int64(part) * s.groups * s.c_out * s.kernel[0] * s.kernel[1]
        add_up(each, shared, y, row, min(rows, s.kernel[1] - kh), job)

    return Source(conv_filter_gradient, MOST_THREADS)


@device
def find_sums(block, rows, s):
    """Which part of which sums a block computes: (part, channel, depth, first row of taps)."""
    chunks = quotient(s.kernel[1] + rows - 1, rows)
    rest = quotient(block, chunks)
    kh = (block - rest * chunks) * rows
    block = quotient(rest, s.kernel[0])
    kd = rest - block * s.kernel[0]
    channels = s.groups * s.c_out
    part = quotient(block, channels)
    return part, block - part * channels, kd, kh


@device
def find_tile(tile, columns, rows, planes, s):
    """First output row and column of a tile, its depth and its first image."""
    across = quotient(s.output[2] + columns * PATCH - 1, columns * PATCH)
    down = quotient(s.output[1] + rows * PATCH - 1, rows * PATCH)
    rest = quotient(tile, across)
    column = tile - rest * across
    tile = quotient(rest, down)
    row = rest - tile * down
    image = quotient(tile, s.output[0])
    return row * rows * PATCH, column * columns * PATCH, tile - image * s.output[0], image * planes


def make_add(kind: FilterGradient) -> Any:
    """Return the function that adds the products of a thread's patch to its sums.

    In a patch that reaches over the output's end the gradient counts as zero there. What lies under
    it may be infinite, and would make a NaN: then only the pixels that there are, are taken.
    """
    total = sum_type(kind.dtype)
    stored, value_of = stored_as(kind.dtype)
    down, across = kind.stride
    add_pixel = make_tap_products(kind.rows, kind.taps, across, total)

    @device
    def add_pixels(each, g, place, at, pitch, s):
        """Add pixel by pixel, whatever stride and dilation."""
        step = s.stride[1] * pitch * (across or 1)
        side = int32(1 if across else s.stride[2])
        for e in range(PATCH * PATCH):
            i, j = e // PATCH, e % PATCH
            h, w = place[0] + i, place[1] + j
            if h < s.output[1] and w < s.output[2]:
                value = value_of(
                    load(g, int32(h * s.out_strides[3] + w * s.out_strides[4]), stored)
                )
                x_at = move_on(at, int32(i * step + j * side), total)
                each = add_pixel(
                    each, value, x_at, pitch, int32(s.dilation[1]), int32(s.dilation[2])
                )
        return each

    if not across:
        return add_pixels
    lanes = 128 // int(total.bitwidth)
    add_patch = make_tap_sums(kind.rows, kind.taps, kind.stride, total)
    pixels = make_each(make_pixel(total, stored, value_of), PATCH * PATCH)
    most = -(-kind.taps // across)
    elements = (1 + -(-(most - 1) // PATCH)) * PATCH  # of a phase of a row, in whole vectors
    read = make_read(elements // lanes, lanes, total)
    nothing, dot = make_zeros(elements, total), make_slide(0, 1, elements)
    lines = ((PATCH - 1) * down + kind.rows) * across
    is_float = kind.dtype.startswith("float")

    @device
    def is_finite(at, pitch):
        found = (total(0),)
        for line in range(lines):
            found = dot(found, read(at, int32(line * pitch)), nothing())
        return found[0] == total(0)

    @device
    def add(each, g, place, at, pitch, s):
        inside = place[0] + PATCH <= s.output[1] and place[1] + PATCH <= s.output[2]
        if is_float and not inside and not is_finite(at, pitch):
            return add_pixels(each, g, place, at, pitch, s)
        return add_patch(each, pixels(g, place, s), at, pitch)

    return add


def make_each(function: Any, last: int, first: int = 0) -> Any:
    """Return the function that calls ``function(i, ...)`` for `first` to `last`: a tuple."""
    if last - first == 1:

        @device
        def once(g, place, s):
            return (function(first, g, place, s),)

        return once
    middle = (first + last) // 2
    lower, upper = make_each(function, middle, first), make_each(function, last, middle)

    @device
    def both(g, place, s):
        return lower(g, place, s) + upper(g, place, s)

    return both


def make_pixel(total: Any, stored: Any, value_of: Any) -> Any:
    """Return the function that reads element `e` of a patch of the output's gradient."""

    @device
    def pixel(e, g, place, s):
        h, w = place[0] + e // PATCH, place[1] + e % PATCH
        value = total(0)
        if h < s.output[1] and w < s.output[2]:
            value = value_of(load(g, int32(h * s.out_strides[3] + w * s.out_strides[4]), stored))
        return value

    return pixel


def make_add_up(kind: FilterGradient) -> Any:
    """Return the function that adds up the sums of a block's threads and stores them.

    A row of taps at a time: every sum of all threads, then of 32 parts of them.
    """
    total, taps = sum_type(kind.dtype), kind.taps
    pick_row = make_row(kind.rows, taps)
    stored = total if kind.partial else stored_as(kind.dtype)[0]
    finish = make_finish(kind.dtype, kind.partial)
    apart = WARP + 1

    @device
    def add_up(each, shared, y, row, rows, job):
        thread, threads = int32(cuda.threadIdx.x), int32(cuda.blockDim.x)
        header = load_header(job)
        parts = move_on(shared, int32(taps * threads), total)
        y = move_on(y, row * taps, stored)
        for kh in range(rows):
            store_apart(move_on(shared, thread, total), threads, pick_row(each, kh))
            cuda.syncthreads()  # the threads' sums are there
            for i in range(thread, taps * WARP, threads):
                kw, lane = i // WARP, i % WARP
                value = total(0)
                for other in range(lane, threads, WARP):
                    value = total(value + load(shared, int32(kw * threads + other), total))
                store(parts, int32(kw * apart + lane), value)
            cuda.syncthreads()  # the parts are there
            for kw in range(thread, taps, threads):
                value = total(0)
                for lane in range(WARP):
                    value = total(value + load(parts, int32(kw * apart + lane), total))
                store(y, int32(kh * taps + kw), finish(value, y, 0, header))
            # The next row's sums may be written: nobody reads these after the barrier above. Its
            # parts come after another barrier.

    return add_up
