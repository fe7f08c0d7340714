"""The register tiles of the product transposed: lanes are output channels, and pixels are rows.

`pixel_tile`: MR pixels of a row, a step apart (or two halves of them in two rows), times NV vectors
of output channels, for rows too short for vectors of pixels, for pixels that are no neighbours, and
for results with the channels last:

    C[i, oc] = bias[oc] + sum_c,t X[c, offset of t + i * step] * W[c, t, oc]    (or C[i, oc] += ...)

At the two ends of a row it leaves out the taps that read padding there. They are the first and the
last of the list, so each of three loops has pixels of its own.

`zone_tile`: the same for neighbouring pixels that are in cache, with nothing to leave out.
"""

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from numbaconv.codegen.arguments import Elements, Indices
from numbaconv.codegen.jit import inline
from numbaconv.codegen.pipeline import tidy
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.codegen.twins import emitted
from numbaconv.codegen.vectors import Vectors, i64, opaque
from numbaconv.cpu.blocking import TILE_ROWS
from numbaconv.cpu.microkernels.accumulators import (
    UNROLLED,
    Accumulators,
    for_each_tile,
    is_set,
    listed,
)

# The weights of a block seldom fit the first-level cache, so those of a few steps later are asked
# for: by tall blocks alone, whose steps have loads to spare.
STEPS_AHEAD, ROWS_TO_PREFETCH = 8, 8


@inline
def first_half(mr):
    """Pixels of the first half of a `pixel_tile`."""
    return (mr + 1) // 2


class PixelTileArguments(NamedTuple):
    """What `pixel_tile` takes.

    Attributes
    ----------
    rows, vectors : int
        Pixels MR and vectors NV of channels of the block.
    channels, taps : int
        Channels; taps of each, at least 1.
    first_taps, last_taps : int
        Of these, how many of the first ones the first pixel leaves out, and of the last ones the
        last pixel.
    column_taps : int
        Taps of a column of the filter: as many of the first ones, and of the last ones.
    halves : int
        1: each half of the pixels is a row of its own, with a first and a last pixel.
    table : pointer
        Of each tap its offset in X, and that in W, side by side.
    x, first, x_channel, x_step : pointer, int, int, int
        Pixel i of a tap is x[first + offset + i * x_step] in the first half of the pixels; elements
        from one channel to the next.
    jump : int
        Pixels of the second half lie so much further on, where they are a row of their own, than
        those of the first; else than its first one.
    prefetch_distance : int
        How far ahead elements of X are asked for; 0: none.
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
    """

    rows: int
    vectors: int
    channels: int
    taps: int
    first_taps: int
    last_taps: int
    column_taps: int
    halves: int
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
    _emit_pixel_tile(builder, dtype, PixelTileArguments(**o._asdict(), **_ABSENT, x_step=i64(1)))


# What a zone tile has not.
_ABSENT: dict[str, Any] = dict.fromkeys(
    ("first_taps", "last_taps", "column_taps", "halves", "prefetch_distance")
)


def _emit_block(vectors, mr, nv, o):
    """Start, add tap by tap, store."""
    block = Accumulators(vectors, mr, nv, o.c, o.row_step, o.last)
    block.start(o.accumulate, lambda i, j: block.load_column(o.bias, j))
    first = vectors.at(o.x, o.first)
    second = vectors.at(first, o.jump)
    operands = (first, o.x_channel), (second, o.x_channel), (o.w, o.w_channel)
    at = _multiples(vectors, o.x_step)
    # The ends of a row take few taps, and code that is seldom used is to compile fast.
    runs = [
        (count, _step(vectors, mr, nv, at, left_out), 1 if left_out else UNROLLED)
        for count, left_out in _runs(vectors, mr, o)
    ]
    before = None if o.prefetch_distance is None else _prefetch(vectors, mr, o)
    block.loop_over_taps(o.channels, o.table, runs, operands, f"pixels_{mr}x{nv}", before)
    block.store()


def _runs(vectors, mr, o):
    """Pieces of the list of taps: how many of each, and the pixels that leave them out."""
    if o.halves is None:
        return [(o.taps, ())]
    builder, half = vectors.builder, first_half(mr)
    between = builder.sub(builder.sub(o.taps, o.first_taps), o.last_taps)
    if mr % 2:
        return [(o.first_taps, (0,)), (between, ()), (o.last_taps, (mr - 1,))]
    halves = is_set(builder, o.halves)
    return [
        *_of_end(builder, halves, o.first_taps, (0,), (0, half)),
        (between, ()),
        *_of_end(builder, halves, o.last_taps, (mr - 1,), (half - 1, mr - 1)),
    ]


def _of_end(builder, halves, count, one, both):
    """Runs of the taps that pixels at an end leave out: of a row, or of one in each half."""
    none = i64(0)
    return [
        (builder.select(halves, none, count), one),
        (builder.select(halves, count, none), both),
    ]


def _step(vectors, mr, nv, at, left_out):
    """Add a tap to all pixels but those that leave it out."""
    half = first_half(mr)

    def step(of_pixels, of_weights, pointers, values):
        halves = [vectors.at(pointer, of_pixels) for pointer in pointers[:2]]
        weights = vectors.at(pointers[2], of_weights)
        ws = [vectors.load(vectors.column(weights, j)) for j in range(nv)]
        if mr >= ROWS_TO_PREFETCH:
            later = vectors.at(weights, i64(STEPS_AHEAD * nv * vectors.lanes))
            for j in range(nv):
                vectors.prefetch(vectors.column(later, j))
        new = list(values)
        for i in range(mr):
            if i not in left_out:
                pixel = vectors.broadcast(at(halves[i // half], i % half))
                pairs = zip(ws, values[i], strict=True)
                new[i] = [vectors.multiply_add(pixel, weight, old) for weight, old in pairs]
        return new

    return step


def _multiples(vectors, step):
    """What gives the address of an element some steps behind a pointer.

    The CPU itself multiplies by 1, 2, 4 and 8, so it needs the odd multiples, in bytes, alone.
    """
    if isinstance(step, ir.Constant):
        return lambda pointer, count: vectors.at(pointer, i64(count * step.constant))
    builder = vectors.builder
    odd = {
        count: opaque(builder, builder.mul(step, i64(count * vectors.align)))
        for count in range(1, first_half(TILE_ROWS), 2)
    }

    def at(pointer, count):
        if count == 0:
            return pointer
        power = count & -count
        return vectors.at_byte(pointer, builder.mul(odd[count // power], i64(power)))

    return at


def _ask(vectors, pointer, table, t):
    """Prefetch the pixel of a tap."""
    offset = vectors.builder.load(vectors.at(table, vectors.builder.mul(t, i64(2))))
    vectors.prefetch(vectors.at(pointer, offset))


def _prefetch(vectors, mr, o):
    """Ask for the pixels of a later channel: of each row those at both ends, or at the last alone.

    A tile of few pixels has short steps, in which a prefetch takes a larger share.
    """
    if mr < 5:
        return None
    builder = vectors.builder
    to_last = builder.mul(o.x_step, i64(mr - 1 - first_half(mr)))
    last_column = vectors.at(o.table, builder.mul(builder.sub(o.taps, o.column_taps), i64(2)))

    def before(pointers):
        wanted = builder.icmp_signed("!=", o.prefetch_distance, i64(0))
        with builder.if_then(wanted, likely=False):
            first, second = (vectors.at(p, o.prefetch_distance) for p in pointers[:2])
            last = vectors.at(second, to_last)
            with cgutils.for_range(builder, o.column_taps) as loop:
                if mr >= 8:
                    _ask(vectors, first, o.table, loop.index)
                _ask(vectors, last, last_column, loop.index)

    return before


def _multiply_in_numpy(o):
    """What both tiles compute."""
    width = (o.vectors - 1) * (VECTOR_BYTES // o.c.itemsize) + o.last
    half, each = first_half(o.rows), range(o.rows)
    at = [i * o.x_step if i < half else o.jump + (i - half) * o.x_step for i in each]
    firsts, lasts = ({0, half}, {half - 1, o.rows - 1}) if o.halves else ({0}, {o.rows - 1})
    rows = np.stack([o.c[i * o.row_step : i * o.row_step + width] for i in each])
    result = rows if o.accumulate else np.tile(o.bias[:width], (o.rows, 1))
    total = np.zeros_like(rows)
    entries = listed(o.channels, o.taps, o.table, o.x_channel, o.w_channel)
    for k, (of_x, of_w) in enumerate(entries):
        tap = k % o.taps
        left_out = firsts if tap < o.first_taps else set()
        left_out = left_out | lasts if tap >= o.taps - o.last_taps else left_out
        added = [i for i in each if i not in left_out]
        pixels = np.array([o.x[o.first + of_x + at[i]] for i in added], o.c.dtype)
        with np.errstate(all="ignore"):
            total[added] += pixels[:, None] * o.w[of_w : of_w + width]
    with np.errstate(all="ignore"):
        result = result + total
    for i in each:
        o.c[i * o.row_step : i * o.row_step + width] = result[i]


@emitted(PixelTileArguments, _emit_pixel_tile, tidy)
def pixel_tile(o):
    """C[MR, NV vectors] = bias + (or C +=) X[k] times W[k, NV vectors], k = (channel, tap)."""
    _multiply_in_numpy(o)


@emitted(ZoneTileArguments, _emit_zone_tile, tidy)
def zone_tile(o):
    """As `pixel_tile`, of neighbouring pixels that are in cache, none of them padding.

    Nothing is prefetched: steps are short.
    """
    absent = dict.fromkeys(_ABSENT, 0)
    _multiply_in_numpy(PixelTileArguments(**o._asdict(), **absent, x_step=1))
