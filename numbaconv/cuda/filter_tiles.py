"""Tiles of the input with their halo, in shared memory, for kernels of one channel a group.

A block works on some rows and columns of one or more planes (one channel of one image); a thread
has a patch of 4 x 4 pixels of the output. Its four columns read neighbours, in vectors of 128 bits:
at stride 2 the even columns of the tile lie together, and the odd ones after them, so that a row is
two rows of stride 1, each under every second tap. Other strides and dilations read the elements of
a plain row one by one.
"""

from typing import Any, NamedTuple

from numbaconv.cuda.device import device, padded_index, stored_as, sum_type
from numbaconv.cuda.intrinsics import (
    int32,
    load,
    move_on,
    quotient,
    store,
    within,
)
from numbaconv.cuda.tiles import SHARED_BYTES
from numbaconv.problem.shape import ConvShape

PATCH = 4  # rows and columns of outputs that a thread has
MOST_THREADS = 256
MOST_ROWS = 8  # of threads
MOST_OUTPUTS = 4  # channels of a group, above which its matrix product has rows enough
ENOUGH_BYTES = 40 * 1024  # with more, some devices hold one block a multiprocessor only
BANKS = 32
TURN = 8  # threads whose vectors are read together
MOST_STRIDE = 2  # along a row that is read in vectors
TOGETHER = 4  # elements that a thread fetches before it stores the first


class Block(NamedTuple):
    """Threads of a block: along a row, along a column, and planes."""

    columns: int
    rows: int
    planes: int

    @property
    def threads(self) -> int:
        """All of them."""
        return self.columns * self.rows * self.planes


class Halo(NamedTuple):
    """A plane's tile in shared memory, in elements.

    Attributes
    ----------
    width, height : int
        Of what is brought there.
    pitch : int
        From a row to the next, or from the even columns of a row to the odd ones.
    size : int
        From a plane to the next.
    """

    width: int
    height: int
    pitch: int
    size: int


def vector_stride(s: ConvShape) -> int:
    """Return the stride along a row if it is read in vectors; 0 if element by element."""
    return s.stride[2] if s.stride[2] <= MOST_STRIDE and s.dilation[1:] == (1, 1) else 0


def channels_nearest(s: ConvShape) -> bool:
    """Whether the neighbour of an element in memory is that of the next channel."""
    return s.in_strides[4] != 1 and s.groups > 1


def halo_of(s: ConvShape, block: Block, tap_rows: int) -> Halo:
    """Return the tile of a plane, under so many rows of taps.

    Neighbouring threads are those of a row and then of the next plane; with the channels innermost
    in memory, of eight planes first. Planes lie so far apart that the vectors that eight threads
    read together are of different banks.
    """
    stride = vector_stride(s)
    height = (block.rows * PATCH - 1) * s.stride[1] + (tap_rows - 1) * s.dilation[1] + 1
    if stride:
        taps = -(-s.kernel[2] // stride)
        each = (block.columns + -(-(taps - 1) // PATCH)) * PATCH  # what vectors read of a phase
        pitch = each
        if stride == MOST_STRIDE and block.columns * PATCH >= BANKS:
            pitch += (BANKS // 2 - each) % BANKS  # both phases are written at once
        width, row = stride * each, stride * pitch
    else:
        width = (block.columns * PATCH - 1) * s.stride[2] + (s.kernel[2] - 1) * s.dilation[2] + 1
        pitch = row = width
    size = height * row
    vectors = max(TURN // block.planes, 1) if channels_nearest(s) else block.columns
    return Halo(width, height, pitch, size + (vectors * PATCH - size) % BANKS)


def choose_block(s: ConvShape, planes: int, fits: Any) -> Block | None:
    """Choose the block of a problem, or None if not even the smallest tile fits.

    Rows of 128 pixels, and as many of them and then as many planes as there are threads for. With
    the channels innermost in memory, planes before pixels: they are what lies together.

    Parameters
    ----------
    s : ConvShape
        The problem.
    planes : int
        How many there are.
    fits : callable
        Says whether a block has at most so many bytes.
    """
    most = MOST_THREADS // 8 if channels_nearest(s) else MOST_THREADS
    rows = -(-s.output[1] // PATCH)
    rows = -(-rows // -(-rows // MOST_ROWS)) if rows else 1  # as many in each block
    columns = min(_cover(-(-s.output[2] // PATCH)), _cover(max(most // rows, 1) + 1) // 2)
    together = min(_cover(planes), _cover(MOST_THREADS // (rows * columns) + 1) // 2)
    block = Block(columns, rows, together)
    while block.threads > 1 and not fits(block, ENOUGH_BYTES):
        if block.planes > 1:
            block = block._replace(planes=block.planes // 2)
        elif block.rows > 1:
            block = block._replace(rows=-(-block.rows // 2))
        else:
            block = block._replace(columns=block.columns // 2)
    return block if fits(block, SHARED_BYTES) else None


def _cover(count: int) -> int:
    """Smallest power of two that is no less."""
    return 1 << max(count - 1, 0).bit_length()


def spans(s: ConvShape, block: Block) -> tuple[int, int]:
    """Blocks along a row and along a column of a plane."""
    return -(-s.output[2] // (block.columns * PATCH)), -(-s.output[1] // (block.rows * PATCH))


def make_stage(dtype: str, stride: int, mapped: bool) -> Any:
    """Return the function that brings one depth of a plane's tile to shared memory.

    Parameters
    ----------
    dtype : str
        Of the elements, which float16 are not in the tile.
    stride : int
        From `vector_stride`.
    mapped : bool
        Whether padding reads elements of the input.
    """
    total = sum_type(dtype)
    stored, value_of = stored_as(dtype)

    @device
    def fetch(x, at, there, h, w, s):
        if mapped:
            h = padded_index(h, s.size[1], s.padding_mode[1])
            w = padded_index(w, s.size[2], s.padding_mode[2])
            at = int32(h * s.in_strides[3] + w * s.in_strides[4])
        value = total(0)
        if there and within(h, s.size[1]) and within(w, s.size[2]):
            value = value_of(load(x, at, stored))
        return value

    @device
    def stage(to, halo, x, base, corner, first, step, s, values, places):
        """Fill a tile from `corner` on; the thread takes every `step`-th element.

        `values` and `places` are arrays of the thread, of `TOGETHER` elements: the simulator knows
        local arrays of kernels alone.
        """
        width, height, pitch = halo
        d, h0, w0 = corner
        there = within(d, s.size[0])
        x = move_on(x, base + d * s.in_strides[2] if there else base, stored)
        down, r = quotient(step, width), quotient(first, width)
        across, w = int32(step - down * width), int32(w0 + first - r * width)
        h, bottom, right = int32(h0 + r), int32(h0 + height), int32(w0 + width)
        at = int32(h * s.in_strides[3] + w * s.in_strides[4])
        ahead = int32(down * s.in_strides[3] + across * s.in_strides[4])
        back = int32(s.in_strides[3] - width * s.in_strides[4])
        place = int32(first)
        end = int32(height * pitch * max(stride, 1))
        while h < bottom:
            for i in range(TOGETHER):
                values[i] = fetch(x, at, there, h, w, s)
                if stride == MOST_STRIDE:
                    c = int32(w - w0)
                    place = int32(((h - h0) * stride + (c & 1)) * pitch + (c >> 1))
                places[i] = place
                h, w = int32(h + down), int32(w + across)
                at, place = int32(at + ahead), int32(place + step)
                if w >= right:
                    h, w, at = int32(h + 1), int32(w - width), int32(at + back)
            for i in range(TOGETHER):
                if places[i] < end:
                    store(to, places[i], values[i])

    return stage


nearest = device(channels_nearest)


@device
def stage_place(thread, columns, rows, planes, s):
    """Which plane of the block a thread brings elements of, its first, and the step to the next.

    What lies together in memory is fetched by neighbours.
    """
    each = int32(columns * rows)
    near = min(planes, TURN) if nearest(s) else 1
    rest = quotient(thread, near)
    group = quotient(rest, each)
    return int32(group * near + thread - rest * near), int32(rest - group * each), each


@device
def patch_place(thread, columns, rows, planes, s):
    """Column, row and plane of the block in which a thread's patch lies."""
    if nearest(s):
        near = min(planes, TURN)
        rest = quotient(thread, near)
        line = quotient(rest, columns)
        group = quotient(line, rows)
        plane = int32(group * near + thread - rest * near)
        return int32(rest - line * columns), int32(line - group * rows), plane
    rest = quotient(thread, columns)
    row = quotient(rest, planes)
    return int32(thread - rest * columns), row, int32(rest - row * planes)
