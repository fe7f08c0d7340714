"""The register tile of depthwise layers whose lanes are channels.

Pixels of a row, MR side by side, each lane a channel of its own. Nothing is shared between lanes,
so any stride reads whole vectors:

    C[i, c] = bias[c] + sum_k X[offsets[k] + i * x_step + c] * W[k, c]

Loops: blocks of MR = lanes pixels and then those that are left, taps.
"""

from typing import NamedTuple

import numpy as np
from numba.core import cgutils

from numbaconv.codegen.arguments import Elements, Indices
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.codegen.twins import emitted
from numbaconv.codegen.vectors import Vectors, i64
from numbaconv.cpu.microkernels.accumulators import Accumulators, for_each_block


class DepthwiseTileArguments(NamedTuple):
    """What `depthwise_tile` takes.

    Attributes
    ----------
    rows : int
        Pixels.
    taps : int
        Taps k, at least 1.
    x, x_step, offsets : pointer, int, pointer
        Pixel i as tap k sees it is the vector at x[offsets[k] + i * x_step].
    w : pointer
        Weights, [taps][lanes].
    c, row_step : pointer, int
        First pixel of C, and elements from one to the next.
    bias : pointer
        One value for each lane.
    last : int
        Lanes that are stored; of the bias only these are read.
    """

    rows: int
    taps: int
    x: Elements
    x_step: int
    offsets: Indices
    w: Elements
    c: Elements
    row_step: int
    bias: Elements
    last: int


def _emit_depthwise_tile(builder, dtype, o):
    """Loop over whole blocks, then switch to the register block of what is left."""
    vectors = Vectors(builder, dtype)
    most = i64(vectors.lanes)
    blocks = builder.sdiv(o.rows, most)
    done = builder.mul(blocks, most)
    with cgutils.for_range(builder, blocks) as loop:
        _emit_dense_or_not(vectors, vectors.lanes, _from(vectors, o, builder.mul(loop.index, most)))
    rest = _from(vectors, o, done)

    def emit(rows, _):
        _emit_dense_or_not(vectors, rows, rest)

    left = builder.sub(o.rows, done)
    for_each_block(builder, left, i64(1), range(1, vectors.lanes), [1], emit)


def _from(vectors, o, pixel):
    """The arguments, from a pixel on."""
    step = vectors.builder.mul
    return o._replace(
        x=vectors.at(o.x, step(o.x_step, pixel)), c=vectors.at(o.c, step(o.row_step, pixel))
    )


def _emit_dense_or_not(vectors, rows, o):
    """A block whose pixels are vectors side by side, or one whose pixels lie anywhere.

    With a constant step the addresses of all pixels are one register and a constant.
    """
    builder, dense = vectors.builder, i64(vectors.lanes)
    with builder.if_else(builder.icmp_signed("==", o.x_step, dense)) as (then, otherwise):
        with then:
            _emit_block(vectors, rows, o._replace(x_step=dense))
        with otherwise:
            _emit_block(vectors, rows, o)


def _emit_block(vectors, mr, o):
    """Start from the bias, loop over taps, store."""
    builder = vectors.builder
    block = Accumulators(vectors, mr, 1, o.c, o.row_step, o.last)
    start = block.load_column(o.bias, 0)
    block.values = [[start] for _ in range(mr)]

    def step(k, values):
        pixels = vectors.at(o.x, builder.load(vectors.at(o.offsets, k)))
        weight = vectors.load(vectors.at(o.w, builder.mul(k, i64(vectors.lanes))))
        xs = [vectors.load(vectors.at(pixels, builder.mul(o.x_step, i64(i)))) for i in range(mr)]
        return [[vectors.multiply_add(weight, x, old)] for x, [old] in zip(xs, values, strict=True)]

    block.loop(o.taps, step, f"depthwise_{mr}")
    block.store()


@emitted(DepthwiseTileArguments, _emit_depthwise_tile)
def depthwise_tile(o):
    """C[MR, lanes] = bias + sum over k of X[offsets[k]] * W[k], element by element."""
    lanes = VECTOR_BYTES // o.c.itemsize
    weights = o.w[: o.taps * lanes].reshape(o.taps, lanes)[:, : o.last]
    for i in range(o.rows):
        places = [at + i * o.x_step for at in o.offsets[: o.taps]]
        pixels = np.stack([o.x[at : at + o.last] for at in places])
        with np.errstate(all="ignore"):
            total = o.bias[: o.last] + (weights * pixels).sum(0, dtype=o.c.dtype)
        o.c[i * o.row_step : i * o.row_step + o.last] = total
