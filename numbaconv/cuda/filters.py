"""One input channel a group: image filters and depthwise layers.

As a matrix product these have next to no rows, so a kernel of their own computes them from a tile
of the input with its halo in shared memory (`filter_tiles`). A thread slides along the rows of its
patch: 8 elements and 4 taps make 16 products, and a row that was read serves all the output rows
that it lies under.
"""

from typing import Any, NamedTuple

from numba import cuda

from numbaconv.cuda.device import (
    device,
    make_finish,
    padded_index,
    read_shape,
    same,
    stored_as,
    sum_type,
)
from numbaconv.cuda.filter_tiles import (
    MOST_THREADS,
    PATCH,
    TOGETHER,
    Block,
    halo_of,
    make_stage,
    patch_place,
    spans,
    stage_place,
    vector_stride,
)
from numbaconv.cuda.filter_tiles import choose_block as choose_block_of
from numbaconv.cuda.intrinsics import (
    SHARED_ALIGNMENT,
    int32,
    int64,
    is_aligned,
    load,
    load_header,
    make_outer,
    make_patch,
    make_read,
    make_row,
    make_slide,
    make_zeros,
    move_on,
    quotient,
    shared_address,
    store,
    store_wide,
    to_half,
    within,
)
from numbaconv.cuda.kernels import Source
from numbaconv.cuda.problem import (
    ACTIVATION,
    COLUMNS,
    HAS_BIAS,
    HEIGHT,
    PITCH,
    PLANES,
    ROWS,
    SHAPE,
    TILE,
    WIDTH,
)
from numbaconv.problem.activations import NONE
from numbaconv.problem.shape import ConvShape, pads_zeros

BLOCKS = {32: 2}


class Filter(NamedTuple):
    """What a kernel is compiled for.

    Attributes
    ----------
    dtype : str
        Of the elements.
    stride : int
        Along a row, if rows are read in vectors; else 0.
    rest : int
        Taps of a row beyond whole vectors of every phase of the stride.
    mapped : bool
        Whether padding reads elements of the input.
    """

    dtype: str
    stride: int
    rest: int
    mapped: bool


def kind_of(s: ConvShape, dtype: str) -> Filter:
    """Return the kernel of a problem."""
    stride = vector_stride(s)
    rest = s.kernel[2] % (PATCH * stride) if stride else 0
    return Filter(dtype, stride, rest, not pads_zeros(s))


def taps_pitch(s: ConvShape) -> int:
    """Return the elements of a row of taps in shared memory: whole vectors of every phase."""
    stride = max(vector_stride(s), 1)
    return -(-s.kernel[2] // (PATCH * stride)) * PATCH * stride


def taps_size(s: ConvShape) -> int:
    """Return the elements from a plane's taps to the next: an odd number of vectors.

    Eight planes are read together where the channels are nearest.
    """
    vectors = s.kernel[1] * taps_pitch(s) // PATCH
    return (vectors | 1) * PATCH


def shared_elements(s: ConvShape, block: Block) -> int:
    """Elements of the tiles and the taps of all planes of a block."""
    return block.planes * (taps_size(s) + halo_of(s, block, s.kernel[1]).size)


def choose_block(s: ConvShape, itemsize: int) -> Block | None:
    """Choose the block of a problem, or None if not even the smallest tile fits."""
    planes = s.n * s.groups * s.c_out
    return choose_block_of(
        s, planes, lambda block, most: shared_elements(s, block) * itemsize <= most
    )


def blocks(s: ConvShape, block: Block) -> int:
    """Blocks of a problem."""
    across, down = spans(s, block)
    return across * down * s.output[0] * -(-(s.n * s.groups * s.c_out) // block.planes)


def settings(s: ConvShape, block: Block) -> dict[int, int]:
    """Return the entries of a job's header."""
    halo = halo_of(s, block, s.kernel[1])
    return {
        COLUMNS: block.columns,
        ROWS: block.rows,
        PLANES: block.planes,
        WIDTH: halo.width,
        HEIGHT: halo.height,
        PITCH: halo.pitch,
        TILE: halo.size,
    }


def make_stage_taps(kind: Filter) -> Any:
    """Return the function that brings one depth of a channel's taps to shared memory."""
    total = sum_type(kind.dtype)
    stored, value_of = stored_as(kind.dtype)
    stride = max(kind.stride, 1)

    @device
    def stage_taps(to, w, base, pitch, first, step, s):
        """Fill rows of `pitch` elements, with zeros behind the taps of every phase."""
        each = quotient(pitch, stride)
        i, end = int32(first), int32(s.kernel[1] * pitch)
        while i < end:
            row = quotient(i, pitch)
            rest = int32(i - row * pitch)
            phase = quotient(rest, each)
            kw = int32((rest - phase * each) * stride + phase)
            value = total(0)
            if kw < s.kernel[2]:
                value = value_of(load(w, base + row * s.kernel[2] + kw, stored))
            store(to, i, value)
            i = int32(i + step)

    return stage_taps


def make_slide_rows(kind: Filter) -> Any:
    """Return the function that adds one depth of taps, row by row of the tile."""
    total, stride = sum_type(kind.dtype), kind.stride
    lanes = 128 // int(total.bitwidth)
    read = make_read(PATCH // lanes, lanes, total)
    add_whole = make_slide_under(kind, PATCH)

    def make_phase(phase: int) -> Any:
        taps = -(-max(kind.rest - phase, 0) // stride)
        add_rest = make_slide_under(kind, max(taps, 1))

        @device
        def add_phase(sums, row, t, r, tap_step, s):
            low = read(row, int32(0))
            whole = quotient(s.kernel[2], PATCH * stride) * PATCH
            for kw in range(0, whole, PATCH):
                high = read(row, int32(kw + PATCH))
                sums = add_whole(sums, low + high, t, int32(kw), r, tap_step, s)
                low = high
            if taps:
                x = low + read(row, int32(whole + PATCH)) if taps > 1 else low
                sums = add_rest(sums, x, t, int32(whole), r, tap_step, s)
            return sums

        return add_phase

    first = make_phase(0)
    second = make_phase(stride - 1)

    @device
    def add(sums, at, pitch, taps, tap_pitch, s):
        down = int32(s.stride[1] * tap_pitch)
        for r in range(s.kernel[1] + (PATCH - 1) * s.stride[1]):
            row = move_on(at, int32(r * stride * pitch), total)
            t = move_on(taps, int32(r * tap_pitch), total)
            sums = first(sums, row, t, r, down, s)
            if stride > 1:
                row, t = move_on(row, pitch, total), move_on(t, tap_pitch // stride, total)
                sums = second(sums, row, t, r, down, s)
        return sums

    return add


def make_slide_under(kind: Filter, taps: int) -> Any:
    """Return the function that adds so many taps of each row that lies over row r of the tile.

    That is row r - i * stride of the taps, for output row i.
    """
    total = sum_type(kind.dtype)
    lanes = 128 // int(total.bitwidth)
    read = make_read(-(-taps // lanes), lanes, total)
    slide0, slide1, slide2, slide3 = (make_slide(i, PATCH, taps) for i in range(PATCH))

    @device
    def add(sums, x, t, kw, r, down, s):
        KH, stride = s.kernel[1], s.stride[1]
        if within(r, KH):
            sums = slide0(sums, x, read(t, kw))
        if within(r - stride, KH):
            sums = slide1(sums, x, read(t, int32(kw - down)))
        if within(r - 2 * stride, KH):
            sums = slide2(sums, x, read(t, int32(kw - 2 * down)))
        if within(r - 3 * stride, KH):
            sums = slide3(sums, x, read(t, int32(kw - 3 * down)))
        return sums

    return add


def make_step_rows(kind: Filter) -> Any:
    """Return the function that adds one depth of taps at any stride and dilation."""
    total = sum_type(kind.dtype)
    patch = make_patch(PATCH, PATCH, total)
    outer = make_outer(1, PATCH * PATCH)

    @device
    def add(sums, at, pitch, taps, tap_pitch, s):
        down, across = int32(s.stride[1] * pitch), int32(s.stride[2])
        for kh in range(s.kernel[1]):
            row = int32(kh * s.dilation[1] * pitch)
            for kw in range(s.kernel[2]):
                x = patch(at, int32(row + kw * s.dilation[2]), down, across)
                tap = load(taps, int32(kh * tap_pitch + kw), total)
                sums = outer(sums, (tap,), x)
        return sums

    return add


def make_kernel(kind: Filter) -> Source:
    """Return the kernel of a kind, to be called with addresses: (x, w, bias, y, job)."""
    total = sum_type(kind.dtype)
    zeros = make_zeros(PATCH * PATCH, total)
    stage, stage_taps = make_stage(kind.dtype, kind.stride, kind.mapped), make_stage_taps(kind)
    add = make_slide_rows(kind) if kind.stride else make_step_rows(kind)
    store_patch = make_store_patch(kind.dtype)
    phases = max(kind.stride, 1)
    columns_apart = PATCH if kind.stride else 0

    def conv_filter(x, w, bias, y, job):
        header = load_header(job)
        s = read_shape(header, SHAPE)
        columns, rows, planes = header[COLUMNS], header[ROWS], header[PLANES]
        halo = header[WIDTH], header[HEIGHT], header[PITCH]
        pitch = halo[2]
        channels = s.groups * s.c_out
        tap_pitch = (s.kernel[2] + PATCH * phases - 1) // (PATCH * phases) * PATCH * phases
        each = int32((s.kernel[1] * tap_pitch // PATCH | 1) * PATCH)
        values = cuda.local.array(TOGETHER, total)
        places = cuda.local.array(TOGETHER, int32)
        shared = shared_address(cuda.shared.array(0, total, SHARED_ALIGNMENT))
        tiles = move_on(shared, int32(planes * each), total)
        oh, ow, od, first_plane = place_block(cuda.blockIdx.x, columns, rows, planes, s)

        tz, first, step = stage_place(cuda.threadIdx.x, columns, rows, planes, s)
        image = quotient(first_plane + tz, channels)
        channel = first_plane + tz - image * channels
        base = int64(image) * s.in_strides[0] + quotient(channel, s.c_out) * s.in_strides[1]
        there = image < s.n
        tile_to = move_on(tiles, int32(tz * header[TILE]), total)
        taps_to = move_on(shared, int32(tz * each), total)

        tx, ty, tz = patch_place(cuda.threadIdx.x, columns, rows, planes, s)
        taps = move_on(shared, int32(tz * each), total)
        at = tz * header[TILE] + ty * PATCH * s.stride[1] * phases * pitch
        at = int32(at + tx * (columns_apart or PATCH * s.stride[2]))
        at = move_on(tiles, at, total)

        sums = zeros()
        for kd in range(s.kernel[0]):
            d = od * s.stride[0] + kd * s.dilation[0] - s.padding[0]
            d = padded_index(d, s.size[0], s.padding_mode[0]) if there else -1
            corner = (d, oh * s.stride[1] - s.padding[1], ow * s.stride[2] - s.padding[2])
            cuda.syncthreads()  # the depth before is computed
            stage(tile_to, halo, x, base, corner, first, step, s, values, places)
            if there:
                first_tap = (channel * s.kernel[0] + kd) * s.kernel[1] * s.kernel[2]
                stage_taps(taps_to, w, first_tap, tap_pitch, first, step, s)
            cuda.syncthreads()  # this one is there
            sums = add(sums, at, pitch, taps, tap_pitch, s)

        # Read again: kept from above it would need registers all the while.
        header = load_header(job)
        s = read_shape(header, SHAPE)
        channels = s.groups * s.c_out
        image = quotient(first_plane + tz, channels)
        if image < s.n:
            channel = first_plane + tz - image * channels
            start = int64(image) * s.out_strides[0] + channel * s.out_strides[1]
            start += od * s.out_strides[2]
            place = (oh + ty * PATCH, ow + tx * PATCH)
            store_patch(sums, y, bias, start, place, channel, header, s)

    return Source(conv_filter, MOST_THREADS, BLOCKS.get(int(total.bitwidth), 1))


def make_store_patch(dtype: str) -> Any:
    """Return the function that stores a thread's patch of outputs.

    Without an activation a row is stored at once where it can be. With one it is element by
    element, so that the activation is compiled once.
    """
    total = sum_type(dtype)
    stored, _ = stored_as(dtype)
    is_wide = dtype != "float16"
    convert = to_half if dtype == "float16" else same
    finish = make_finish(dtype)
    pick_row, pick = make_row(PATCH, PATCH), make_row(PATCH, 1)
    pick_any = make_row(PATCH * PATCH, 1)

    @device
    def store_patch(sums, y, bias, start, place, channel, header, s):
        y = move_on(y, start, stored)
        if header[ACTIVATION] == NONE:
            store_rows(sums, y, bias, place, channel, header, s)
            return
        for e in range(PATCH * PATCH):
            h, w = place[0] + e // PATCH, place[1] + e % PATCH
            if h < s.output[1] and w < s.output[2]:
                value = finish(pick_any(sums, e)[0], bias, channel, header)
                store(y, int32(h * s.out_strides[3] + w * s.out_strides[4]), value)

    @device
    def store_rows(sums, y, bias, place, channel, header, s):
        h, w = place
        has_bias = header[HAS_BIAS] != 0
        b = load(bias, channel, total) if has_bias else total(0)
        step = s.out_strides[4]
        whole = is_wide and step == 1 and w + PATCH <= s.output[2]
        for i in range(PATCH):
            if h + i < s.output[1]:
                values = add_bias(pick_row(sums, i), b, has_bias)
                at = move_on(y, int64((h + i) * s.out_strides[3] + w * step), stored)
                if whole and is_aligned(at):
                    store_wide(at, int32(0), values)
                else:
                    for j in range(PATCH):
                        if w + j < s.output[2]:
                            store(at, int32(j * step), pick(values, j)[0])

    @device
    def add_bias(row, b, has_bias):
        if has_bias:
            row = (total(row[0] + b), total(row[1] + b), total(row[2] + b), total(row[3] + b))
        return convert(row[0]), convert(row[1]), convert(row[2]), convert(row[3])

    return store_patch


@device
def place_block(block, columns, rows, planes, s):
    """First output row and column, the depth and the first plane of a block."""
    across = quotient(s.output[2] + columns * PATCH - 1, columns * PATCH)
    down = quotient(s.output[1] + rows * PATCH - 1, rows * PATCH)
    rest = quotient(block, across)
    column = block - rest * across
    block = quotient(rest, down)
    row = rest - block * down
    plane = quotient(block, s.output[0])
    return row * rows * PATCH, column * columns * PATCH, block - plane * s.output[0], plane * planes
