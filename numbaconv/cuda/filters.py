"""One input channel a group: image filters and depthwise layers.

As a matrix product these have next to no rows, so a kernel of their own computes them from a tile
of the input with its halo in shared memory. A block works on one or more planes (the output of
one channel of one image) at one depth; a thread computes a patch of 4 x 4 outputs. At stride and
dilation 1 it slides along the rows of its tile: 8 elements and 4 taps make 16 products, and a row
that was read serves all the output rows that it lies under.
"""

from typing import Any, NamedTuple

from numba import cuda

from numbaconv.cuda.device import (
    device,
    make_finish,
    padded_index,
    read_shape,
    sum_type,
)
from numbaconv.cuda.intrinsics import (
    SHARED_ALIGNMENT,
    from_half,
    int64,
    load,
    load_header,
    make_outer,
    make_patch,
    make_read,
    make_row,
    make_slide,
    make_zeros,
    quotient,
    store,
    uint16,
    within,
)
from numbaconv.cuda.kernels import Source
from numbaconv.cuda.problem import COLUMNS, PITCH, PLANES, ROWS, SHAPE
from numbaconv.problem.shape import ConvShape

PATCH = 4  # rows and columns of outputs that a thread computes
MOST_THREADS = 256
SHARED_BYTES = 48 * 1024
ENOUGH_BYTES = 40 * 1024  # with more, some devices hold one block a multiprocessor only
MOST_OUTPUTS = 4  # channels of a group, above which its matrix product has rows enough


class Filter(NamedTuple):
    """What a kernel is compiled for.

    Attributes
    ----------
    dtype : str
        Of the elements.
    unit : bool
        Whether stride and dilation along height and width are 1.
    """

    dtype: str
    unit: bool


class Block(NamedTuple):
    """Threads of a block: along a row, along a column, and planes."""

    columns: int
    rows: int
    planes: int

    @property
    def threads(self) -> int:
        """All of them."""
        return self.columns * self.rows * self.planes


def is_unit(s: ConvShape) -> bool:
    """Whether neighbouring outputs read neighbouring elements."""
    return (*s.stride[1:], *s.dilation[1:]) == (1, 1, 1, 1)


def tile_pitch(s: ConvShape, columns: int) -> int:
    """Elements of a row of the tile in shared memory; vectors may read past the last one used."""
    width = (columns * PATCH - 1) * s.stride[2] + (s.kernel[2] - 1) * s.dilation[2] + 1
    return -(-width // PATCH) * PATCH + PATCH


def shared_elements(s: ConvShape, block: Block) -> int:
    """Elements of the tile and the taps of all planes of a block."""
    height = (block.rows * PATCH - 1) * s.stride[1] + (s.kernel[1] - 1) * s.dilation[1] + 1
    taps = s.kernel[1] * -(-s.kernel[2] // PATCH) * PATCH
    return block.planes * (taps + height * tile_pitch(s, block.columns))


def choose_block(s: ConvShape, itemsize: int) -> Block | None:
    """Choose the block of a problem, or None if not even the smallest tile fits.

    Rows of 128 pixels, and as many of them and then as many planes as there are threads for. With
    the channels innermost in memory, planes before pixels: they are what lies together.
    """
    inside = s.in_strides[4] != 1 and s.groups > 1
    most = MOST_THREADS // 8 if inside else MOST_THREADS
    rows = _power(-(-s.output[1] // PATCH), 8)
    columns = _power(-(-s.output[2] // PATCH), max(most // rows, 1))
    planes = _power(s.n * s.groups * s.c_out, max(MOST_THREADS // (rows * columns), 1))
    while (
        planes * rows * columns > 1 and _bytes(s, (columns, rows, planes), itemsize) > ENOUGH_BYTES
    ):
        if planes > 1:
            planes //= 2
        elif rows > 1:
            rows //= 2
        else:
            columns //= 2
    block = Block(columns, rows, planes)
    return block if _bytes(s, block, itemsize) <= SHARED_BYTES else None


def _bytes(s: ConvShape, block: tuple[int, int, int], itemsize: int) -> int:
    return shared_elements(s, Block(*block)) * itemsize


def _power(count: int, most: int) -> int:
    """Smallest power of two that covers a count, but at most `most`."""
    return min(1 << max(count - 1, 0).bit_length(), most)


def blocks(s: ConvShape, block: Block) -> int:
    """Blocks of a problem."""
    across = -(-s.output[2] // (block.columns * PATCH))
    down = -(-s.output[1] // (block.rows * PATCH))
    return across * down * s.output[0] * -(-(s.n * s.groups * s.c_out) // block.planes)


def make_stage(dtype: str) -> Any:
    """Return the function that brings one depth of a plane's tile to shared memory."""
    total = sum_type(dtype)
    stored = uint16 if dtype == "float16" else total
    value_of = from_half if dtype == "float16" else total

    @device
    def stage(tile, start, pitch, x, base, corner, extent, first, step, s):
        """Fill `extent` rows and columns from `corner` on; the thread takes every `step`-th."""
        d, h0, w0 = corner
        for r in range(first[0], extent[0], step[0]):
            h = padded_index(h0 + r, s.size[1], s.padding_mode[1])
            row = base + d * s.in_strides[2] + h * s.in_strides[3]
            for c in range(first[1], extent[1], step[1]):
                value = total(0)
                w = padded_index(w0 + c, s.size[2], s.padding_mode[2])
                if d >= 0 and h >= 0 and w >= 0:
                    value = value_of(load(x, row + w * s.in_strides[4], stored))
                tile[start + r * pitch + c] = value

    @device
    def stage_taps(tile, start, pitch, w, base, first, step, s):
        """Copy one depth of a channel's taps, with rows that vectors can be read from."""
        for kh in range(first[0], s.kernel[1], step[0]):
            for kw in range(first[1], s.kernel[2], step[1]):
                at = base + kh * s.kernel[2] + kw
                tile[start + kh * pitch + kw] = value_of(load(w, at, stored))

    return stage, stage_taps


def make_slide_rows(dtype: str) -> Any:
    """Return the function that adds one depth of taps at stride and dilation 1."""
    lanes = 128 // sum_type(dtype).bitwidth
    read = make_read(PATCH // lanes, lanes)
    slide0, slide1, slide2, slide3 = (make_slide(i, PATCH, PATCH) for i in range(PATCH))
    single = make_patch(1, PATCH)
    one0, one1, one2, one3 = (make_slide_one(i) for i in range(PATCH))

    @device
    def add(sums, tile, at, pitch, taps, taps_pitch, s):
        KH, KW = s.kernel[1], s.kernel[2]
        whole = KW // PATCH * PATCH
        for r in range(KH + PATCH - 1):  # row r lies under output row i at tap r - i
            row, t = at + r * pitch, taps + r * taps_pitch
            low = read(tile, row)
            for kw in range(0, whole, PATCH):
                high = read(tile, row + kw + PATCH)
                x = low + high
                if within(r, KH):
                    sums = slide0(sums, x, read(tile, t + kw))
                if within(r - 1, KH):
                    sums = slide1(sums, x, read(tile, t + kw - taps_pitch))
                if within(r - 2, KH):
                    sums = slide2(sums, x, read(tile, t + kw - 2 * taps_pitch))
                if within(r - 3, KH):
                    sums = slide3(sums, x, read(tile, t + kw - 3 * taps_pitch))
                low = high
            for kw in range(whole, KW):
                x = single(tile, row + kw, 0, 1)
                if within(r, KH):
                    sums = one0(sums, x, tile[t + kw])
                if within(r - 1, KH):
                    sums = one1(sums, x, tile[t + kw - taps_pitch])
                if within(r - 2, KH):
                    sums = one2(sums, x, tile[t + kw - 2 * taps_pitch])
                if within(r - 3, KH):
                    sums = one3(sums, x, tile[t + kw - 3 * taps_pitch])
        return sums

    return add


def make_slide_one(row: int) -> Any:
    """Return the function that adds one tap to one row of sums."""
    slide = make_slide(row, PATCH, 1)

    @device
    def one(sums, x, tap):
        return slide(sums, x, (tap,))

    return one


def make_step_rows() -> Any:
    """Return the function that adds one depth of taps at any stride and dilation."""
    patch = make_patch(PATCH, PATCH)
    outer = make_outer(1, PATCH * PATCH)

    @device
    def add(sums, tile, at, pitch, taps, taps_pitch, s):
        for kh in range(s.kernel[1]):
            row = at + kh * s.dilation[1] * pitch
            for kw in range(s.kernel[2]):
                start = row + kw * s.dilation[2]
                x = patch(tile, start, s.stride[1] * pitch, s.stride[2])
                sums = outer(sums, (tile[taps + kh * taps_pitch + kw],), x)
        return sums

    return add


def make_kernel(kind: Filter) -> Source:
    """Return the kernel of a kind, to be called with addresses: (x, w, bias, y, job)."""
    total = sum_type(kind.dtype)
    zeros = make_zeros(PATCH * PATCH, total)
    pick = make_row(PATCH * PATCH, 1)
    stage, stage_taps = make_stage(kind.dtype)
    add = make_slide_rows(kind.dtype) if kind.unit else make_step_rows()
    finish = make_finish(kind.dtype)
    store_patch = make_store_patch(pick, finish)

    def conv_filter(x, w, bias, y, job):
        header = load_header(job)
        s = read_shape(header, SHAPE)
        columns, rows, planes = header[COLUMNS], header[ROWS], header[PLANES]
        tile = cuda.shared.array(0, total, SHARED_ALIGNMENT)
        tx, ty, tz = place_thread(cuda.threadIdx.x, columns, rows, planes, s)
        oh, ow, od, plane = place_block(cuda.blockIdx.x, columns, rows, planes, s)
        plane += tz
        channels = s.groups * s.c_out
        image = quotient(plane, channels)
        channel = plane - image * channels
        group = quotient(channel, s.c_out)

        height = (rows * PATCH - 1) * s.stride[1] + (s.kernel[1] - 1) * s.dilation[1] + 1
        width = (columns * PATCH - 1) * s.stride[2] + (s.kernel[2] - 1) * s.dilation[2] + 1
        pitch = header[PITCH]
        taps_pitch = (s.kernel[2] + PATCH - 1) // PATCH * PATCH
        each = s.kernel[1] * taps_pitch
        taps = tz * each
        mine = planes * each + tz * height * pitch
        base = int64(image) * s.in_strides[0] + group * s.in_strides[1]
        at = mine + ty * PATCH * s.stride[1] * pitch + tx * PATCH * s.stride[2]
        there = image < s.n

        sums = zeros()
        for kd in range(s.kernel[0]):
            d = od * s.stride[0] + kd * s.dilation[0] - s.padding[0]
            d = padded_index(d, s.size[0], s.padding_mode[0]) if there else -1
            corner = (d, oh * s.stride[1] - s.padding[1], ow * s.stride[2] - s.padding[2])
            cuda.syncthreads()  # the depth before is computed
            stage(tile, mine, pitch, x, base, corner, (height, width), (ty, tx), (rows, columns), s)
            if there:
                first_tap = (channel * s.kernel[0] + kd) * s.kernel[1] * s.kernel[2]
                stage_taps(tile, taps, taps_pitch, w, first_tap, (ty, tx), (rows, columns), s)
            cuda.syncthreads()  # this one is there
            sums = add(sums, tile, at, pitch, taps, taps_pitch, s)

        if there:
            start = int64(image) * s.out_strides[0] + channel * s.out_strides[1]
            start += od * s.out_strides[2]
            place = (oh + ty * PATCH, ow + tx * PATCH)
            store_patch(sums, y, bias, start, place, channel, header, s)

    return Source(conv_filter, MOST_THREADS)


def make_store_patch(pick: Any, finish: Any) -> Any:
    """Return the function that stores a thread's patch of outputs."""

    @device
    def store_patch(sums, y, bias, start, place, channel, header, s):
        for e in range(PATCH * PATCH):
            h, w = place[0] + e // PATCH, place[1] + e % PATCH
            if h < s.output[1] and w < s.output[2]:
                value = finish(pick(sums, e)[0], bias, channel, header)
                store(y, start + h * s.out_strides[3] + w * s.out_strides[4], value)

    return store_patch


@device
def place_thread(thread, columns, rows, planes, s):
    """Where a thread works in its block; what lies together in memory is nearest."""
    if s.in_strides[4] == 1:
        rest = quotient(thread, columns)
        plane = quotient(rest, rows)
        return thread - rest * columns, rest - plane * rows, plane
    rest = quotient(thread, planes)
    row = quotient(rest, columns)
    return rest - row * columns, row, thread - rest * planes


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
