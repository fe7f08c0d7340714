"""The register tiles of the product transposed: lanes are output channels, and pixels are rows.

`pixel_tile`: MR pixels of a row, a step apart (or two halves of them in two rows), times NV vectors
of output channels, for rows too short for vectors of pixels, for pixels that are no neighbours, and
for results with the channels last:

    C[i, oc] = bias[oc] + sum_c,t X[c, offset of t + i * step] * W[c, t, oc]    (or C[i, oc] += ...)

At the two ends of a row it leaves out the taps that read padding there.

`zone_tile`: the same for neighbouring pixels that are in cache, with nothing to leave out.
"""

from typing import NamedTuple

import numpy as np

from numbaconv.codegen.arguments import Elements, Indices
from numbaconv.codegen.jit import inline
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.codegen.twins import emitted
from numbaconv.codegen.vectors import Vectors, i64
from numbaconv.cpu.microkernels.accumulators import (
    Accumulators,
    for_each_tile,
    is_set,
    join,
    listed,
)

# Ends of a row that pixels of a tile are at: of the one row, or of the two in its halves. Of
# the two, the first ends with the pixel before the second half, which the other begins.
FIRST, LAST, FIRST_OF_SECOND, LAST_OF_FIRST = 1, 2, 4, 8
ALL_ENDS = FIRST | LAST | FIRST_OF_SECOND | LAST_OF_FIRST


@inline
def first_half(mr):
    """Pixels of the first half of a `pixel_tile`."""
    return (mr + 1) // 2


def ends_of_pixel(i, mr):
    """Ends of a row that pixel i of a tile can be at."""
    places = {FIRST: 0, LAST: mr - 1}
    if mr % 2 == 0:
        places |= {FIRST_OF_SECOND: mr // 2, LAST_OF_FIRST: mr // 2 - 1}
    return sum(bit for bit, place in places.items() if place == i)


class PixelTileArguments(NamedTuple):
    """What `pixel_tile` takes.

    Attributes
    ----------
    rows, vectors : int
        Pixels MR and vectors NV of channels of the block.
    channels, taps : int
        Channels; taps of each, at least 1.
    table : pointer
        Of each tap its offset in X, that in W, and the ends of a row at which it reads padding.
    x, first, x_channel, x_step : pointer, int, int, int
        Pixel i of a tap is x[first + offset + i * x_step] in the first half of the pixels; elements
        from one channel to the next.
    jump : int
        Pixels of the second half lie so much further on, where they are a row of their own, than
        those of the first; else than its first one.
    prefetch_distance : int
        How far ahead elements of X are asked for.
    w, w_channel : pointer, int
        Weights of all channels of the block, side by side at the offset of a tap; elements from one
        channel of X to the next.
    c, row_step : pointer, int
        First pixel of C, and elements from one to the next.
    bias : pointer
        One value for each channel; read only where `accumulate` is 0.
    accumulate : int
        1: add to C. 0: do not read C.
    last : int
        Lanes of the last vector that belong to C.
    ends : int
        Ends of a row that the tile has: there, taps that read padding are left out. In the table
        and here FIRST, LAST, or both; ALL_ENDS where the halves are rows of their own.
    """

    rows: int
    vectors: int
    channels: int
    taps: int
    table: Indices
    x: Elements
    first: int
    x_channel: int
    x_step: int
    jump: int
    prefetch_distance: int
    w: Elements
    w_channel: int
    c: Elements
    row_step: int
    bias: Elements
    accumulate: int
    last: int
    ends: int


class ZoneTileArguments(NamedTuple):
    """What `zone_tile` takes: all means the same as in `PixelTileArguments`."""

    rows: int
    vectors: int
    channels: int
    taps: int
    table: Indices
    x: Elements
    first: int
    x_channel: int
    jump: int
    w: Elements
    w_channel: int
    c: Elements
    row_step: int
    bias: Elements
    accumulate: int
    last: int


def _emit_pixel_tile(builder, dtype, o):
    """Switch to the register block of the size that is asked for."""
    vectors = Vectors(builder, dtype)
    o = o._replace(accumulate=is_set(builder, o.accumulate))

    def emit(rows, columns):
        _emit_block(vectors, rows, columns, o)

    for_each_tile(builder, o.rows, o.vectors, emit)


def _emit_zone_tile(builder, dtype, o):
    """The same, without what it does not need."""
    absent = {"x_step": i64(1), "prefetch_distance": None, "ends": None}
    _emit_pixel_tile(builder, dtype, PixelTileArguments(**o._asdict(), **absent))


def _emit_block(vectors, mr, nv, o):
    """Start, add tap by tap, store."""
    half = first_half(mr)
    block = Accumulators(vectors, mr, nv, o.c, o.row_step, o.last)
    block.start(o.accumulate, lambda i, j: block.load_column(o.bias, j))

    def step(entry, pointers, values):
        of_pixels, of_weights, *at_ends = entry
        pixel = vectors.at(pointers[0], of_pixels)
        pixels = list(_steps_on(vectors, pixel, o.x_step, half))
        pixels += _steps_on(vectors, vectors.at(pixel, o.jump), o.x_step, mr - half)
        if o.prefetch_distance is not None:
            for i in _prefetched(mr):
                vectors.prefetch(vectors.at(pixels[i], o.prefetch_distance))
        weights = vectors.at(pointers[1], of_weights)
        ws = [vectors.load(vectors.column(weights, j)) for j in range(nv)]

        def add(i):
            pixel = vectors.broadcast(pixels[i])
            pairs = zip(ws, values[i], strict=True)
            return [vectors.multiply_add(pixel, weight, old) for weight, old in pairs]

        left_out = None if o.ends is None else vectors.builder.and_(*at_ends, o.ends)
        return _add_tap(vectors.builder, values, left_out, add)

    size = 2 if o.ends is None else 3
    operands = (vectors.at(o.x, o.first), o.x_channel), (o.w, o.w_channel)
    block.loop_over_taps(o.channels, o.taps, o.table, size, operands, step, f"pixels_{mr}x{nv}")
    block.store()


def _prefetched(mr):
    """Pixels whose lines a tile prefetches: both ends of a row of many, one end of a few.

    A tile of few pixels has short steps, in which a prefetch takes a larger share.
    """
    if mr < 5:
        return ()
    return (0, mr - 1) if mr >= 8 else (mr - 1,)


def _steps_on(vectors, pointer, step, count):
    """Yield a pointer and those each a step further on: the CPU itself adds a step, or two."""
    builder = vectors.builder
    two, three = (builder.mul(step, i64(i)) for i in (2, 3))
    for i in range(count):
        if i > 0 and i % 3 == 0:
            pointer = vectors.at(pointer, three)
        yield vectors.at(pointer, (i64(0), step, two)[i % 3])


def _add_tap(builder, values, left_out, add):
    """Add a tap to the pixels of a tile, but to none at its ends where it is left out.

    Each of the ways that these can be has a branch of its own. Branches for each pixel the CPU
    would predict badly.
    """
    mr = len(values)
    outer = [i for i in range(mr) if left_out is not None and ends_of_pixel(i, mr)]
    new = [row if i in outer else add(i) for i, row in enumerate(values)]
    if not outer:
        return new
    ways = [FIRST, LAST, FIRST | LAST]
    if mr % 2 == 0:
        ways += [FIRST | FIRST_OF_SECOND, LAST | LAST_OF_FIRST, ALL_ENDS]
    merge, otherwise = (builder.append_basic_block(name) for name in ("added", "add_all"))
    switch = builder.switch(left_out, otherwise)
    branches = {0: otherwise}
    for way in ways:
        branches[way] = builder.append_basic_block(f"add_all_but_{way}")
        switch.add_case(i64(way), branches[way])
    sums = []
    for way, branch in branches.items():
        builder.position_at_end(branch)
        sums.append([values[i] if way & ends_of_pixel(i, mr) else add(i) for i in outer])
        builder.branch(merge)
    builder.position_at_end(merge)
    for i, *rows in zip(outer, *sums, strict=True):
        columns = zip(*rows, strict=True)
        new[i] = [join(builder, zip(c, branches.values(), strict=True)) for c in columns]
    return new


def _multiply_in_numpy(o, size):
    """What both tiles compute; the table has `size` integers for each tap."""
    width = (o.vectors - 1) * (VECTOR_BYTES // o.c.itemsize) + o.last
    half, each = first_half(o.rows), range(o.rows)
    at = [i * o.x_step if i < half else o.jump + (i - half) * o.x_step for i in each]
    of_pixels = [ends_of_pixel(i, o.rows) for i in each]
    rows = np.stack([o.c[i * o.row_step : i * o.row_step + width] for i in each])
    result = rows if o.accumulate else np.tile(o.bias[:width], (o.rows, 1))
    total = np.zeros_like(rows)
    entries = listed(o.channels, o.taps, o.table, size, o.x_channel, o.w_channel)
    for of_x, of_w, *at_ends in entries:
        left_out = at_ends[0] & o.ends if at_ends else 0
        added = [i for i in each if not left_out & of_pixels[i]]
        pixels = np.array([o.x[o.first + of_x + at[i]] for i in added], o.c.dtype)
        with np.errstate(all="ignore"):
            total[added] += pixels[:, None] * o.w[of_w : of_w + width]
    with np.errstate(all="ignore"):
        result = result + total
    for i in each:
        o.c[i * o.row_step : i * o.row_step + width] = result[i]


@emitted(PixelTileArguments, _emit_pixel_tile)
def pixel_tile(o):
    """C[MR, NV vectors] = bias + (or C +=) X[k] times W[k, NV vectors], k = (channel, tap)."""
    _multiply_in_numpy(o, 3)


@emitted(ZoneTileArguments, _emit_zone_tile)
def zone_tile(o):
    """As `pixel_tile`, of neighbouring pixels that are in cache, none of them padding.

    The table has the two offsets of each tap alone, and nothing is prefetched: steps are short.
    """
    absent = {"x_step": 1, "prefetch_distance": 0, "ends": 0}
    _multiply_in_numpy(PixelTileArguments(**o._asdict(), **absent), 2)
