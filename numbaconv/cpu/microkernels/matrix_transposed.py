"""The register tiles whose lanes are channels; in `microkernel.tile` they are pixels.

`pixel_tile`: MR pixels of a row, a step apart (or two halves of them in two rows), times NV vectors
of output channels, for rows too short for vectors of pixels, for pixels that are no neighbours, and
for results with the channels last:

    C[i, oc] = bias[oc] + sum_c,t X[c, offset of t + i * step] * W[c, t, oc]    (or C[i, oc] += ...)

At the two ends of a row it leaves out the taps that read padding there.

`zone_tile`: the same for neighbouring pixels that are in cache, with nothing to leave out.

`depthwise_tile`: MR neighbouring pixels of a row, each lane a channel of its own. Nothing is
shared between lanes, so any stride reads whole vectors:

    C[i, c] = bias[c] + sum_k X[offsets[k] + i * x_step + c] * W[k, c]
"""

import numpy as np
from numba import types
from numba.core import config
from numba.extending import intrinsic

from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.codegen.vectors import Vectors, i64
from numbaconv.cpu.microkernels.accumulators import (
    Accumulators,
    for_each_tile,
    join,
    listed,
)
from numbaconv.cpu.microkernels.depthwise import _depthwise_tile, _depthwise_tile_in_numpy

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


def _emit_pixel_tile(
    vectors, mr, nv, channels, taps, table, x, first, x_channel, x_step, jump, ahead,
    w, w_channel, c, row_step, bias, accumulate, last, ends,
):  # fmt: skip
    half = first_half(mr)
    block = Accumulators(vectors, mr, nv, c, row_step, last)
    block.start(accumulate, lambda i, j: block.load_column(bias, j))

    def step(entry, pointers, values):
        of_pixels, of_weights, *at_ends = entry
        pixel = vectors.at(pointers[0], of_pixels)
        pixels = list(_steps_on(vectors, pixel, x_step, half))
        pixels += _steps_on(vectors, vectors.at(pixel, jump), x_step, mr - half)
        if ahead is not None:
            for i in _asked_ahead(mr):
                vectors.prefetch(vectors.at(pixels[i], ahead))
        weights = vectors.at(pointers[1], of_weights)
        ws = [vectors.load(vectors.column(weights, j)) for j in range(nv)]

        def add(i):
            pixel = vectors.broadcast(pixels[i])
            pairs = zip(ws, values[i], strict=True)
            return [vectors.multiply_add(pixel, weight, old) for weight, old in pairs]

        left_out = None if ends is None else vectors.builder.and_(*at_ends, ends)
        return _add_tap(vectors.builder, values, left_out, add)

    size = 2 if ends is None else 3
    operands = (vectors.at(x, first), x_channel), (w, w_channel)
    block.loop_over_taps(channels, taps, table, size, operands, step, f"pixels_{mr}x{nv}")
    block.store()


def _asked_ahead(mr):
    """Pixels whose lines a tile asks for ahead: of few, whose steps are short, that takes longer.

    Under AVX2, where 6 are the most, asking for both ends took 1.08 times as long.
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

    Each of the ways that these can be has a branch of its own: with a branch for each pixel tiles
    of 8 pixels took 1.1 times as long, as the CPU's predictions failed.
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


@intrinsic
def _pixel_tile(
    typing_context, mr, nv, channels, taps, table, x, first, x_channel, x_step, jump, ahead,
    w, w_channel, c, row_step, bias, accumulate, last, ends,
):  # fmt: skip
    word, flag = types.int64, types.boolean
    operands = table, x, *(word,) * 5, w, word, c, word, bias, flag
    signature = types.void(*(word,) * 4, *operands, word, word)

    def codegen(context, builder, signature, arguments):
        mr, nv, *rest = arguments
        vectors = Vectors(builder, signature.args[5].dtype)
        for_each_tile(builder, mr, nv, lambda *size: _emit_pixel_tile(vectors, *size, *rest))
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _zone_tile(
    typing_context, mr, nv, channels, taps, table, x, first, x_channel, jump, w, w_channel, c,
    row_step, bias, accumulate, last,
):  # fmt: skip
    word, flag = types.int64, types.boolean
    operands = table, x, word, word, word, w, word, c, word, bias, flag
    signature = types.void(*(word,) * 4, *operands, word)

    def codegen(context, builder, signature, arguments):
        mr, nv, channels, taps, table, x, first, x_channel, jump, *rest = arguments
        vectors = Vectors(builder, signature.args[5].dtype)
        operands = channels, taps, table, x, first, x_channel, i64(1), jump, None, *rest, None
        for_each_tile(builder, mr, nv, lambda *size: _emit_pixel_tile(vectors, *size, *operands))
        return context.get_dummy_value()

    return signature, codegen


def _pixel_tile_in_numpy(
    mr, nv, channels, taps, table, x, first, x_channel, x_step, jump, ahead,
    w, w_channel, c, row_step, bias, accumulate, last, ends, size=3,
):  # fmt: skip
    width = (nv - 1) * (VECTOR_BYTES // c.itemsize) + last
    half = first_half(mr)
    at = [i * x_step if i < half else jump + (i - half) * x_step for i in range(mr)]
    of_pixels = [ends_of_pixel(i, mr) for i in range(mr)]
    rows = np.stack([c[i * row_step : i * row_step + width] for i in range(mr)])
    result = rows if accumulate else np.tile(bias[:width], (mr, 1))
    total = np.zeros_like(rows)
    for of_x, of_w, *at_ends in listed(channels, taps, table, size, x_channel, w_channel):
        left_out = at_ends[0] & ends if at_ends else 0
        added = [i for i in range(mr) if not left_out & of_pixels[i]]
        pixels = np.array([x[first + of_x + at[i]] for i in added], c.dtype)
        with np.errstate(all="ignore"):
            total[added] += pixels[:, None] * w[of_w : of_w + width]
    with np.errstate(all="ignore"):
        result = result + total
    for i in range(mr):
        c[i * row_step : i * row_step + width] = result[i]


def _zone_tile_in_numpy(
    mr, nv, channels, taps, table, x, first, x_channel, jump, w, w_channel, c, row_step, bias,
    accumulate, last,
):  # fmt: skip
    _pixel_tile_in_numpy(
        mr, nv, channels, taps, table, x, first, x_channel, 1, jump, 0, w, w_channel, c, row_step,
        bias, accumulate, last, 0, size=2,
    )  # fmt: skip


def _pixel_tile_signature(dtype):
    i, p = types.int64, types.CPointer(dtype)
    return types.void(i, i, i, i, types.CPointer(i), p, i, i, i, i, i, p, i, p, i, p, i, i, i)


@native(_pixel_tile_signature)
def pixel_tile(
    mr, nv, channels, taps, table, x, first, x_channel, x_step, jump, ahead,
    w, w_channel, c, row_step, bias, accumulate, last, ends,
):  # fmt: skip
    """C[MR, NV vectors] = bias + (or C +=) X[k] times W[k, NV vectors], k = (channel, tap).

    Parameters
    ----------
    mr, nv : int
        Pixels and vectors of channels of the block.
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
    ahead : int
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
    _pixel_tile(
        mr, nv, channels, taps, table, x, first, x_channel, x_step, jump, ahead,
        w, w_channel, c, row_step, bias, accumulate != 0, last, ends,
    )  # fmt: skip


def _zone_tile_signature(dtype):
    i, p = types.int64, types.CPointer(dtype)
    return types.void(i, i, i, i, types.CPointer(i), p, i, i, i, p, i, p, i, p, i, i)


@native(_zone_tile_signature)
def zone_tile(
    mr, nv, channels, taps, table, x, first, x_channel, jump, w, w_channel, c, row_step, bias,
    accumulate, last,
):  # fmt: skip
    """As `pixel_tile`, of neighbouring pixels that are in cache, none of them padding.

    The table has the two offsets of each tap alone. Without the rest, dilated layers run 1.1 times
    as fast under AVX2, whose steps are short, and 1.0 times under AVX-512.
    """
    _zone_tile(
        mr, nv, channels, taps, table, x, first, x_channel, jump, w, w_channel, c, row_step, bias,
        accumulate != 0, last,
    )  # fmt: skip


if config.DISABLE_JIT:
    _pixel_tile, _zone_tile = _pixel_tile_in_numpy, _zone_tile_in_numpy
    _depthwise_tile = _depthwise_tile_in_numpy
