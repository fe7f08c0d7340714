"""The register tile of long filters along one row: the row folded into rows of one vector each.

    C[p] = bias + sum_a,k W[a * lanes + k] * X[a * lanes + k + p]        (or C[p] += ...)

Vector i of C and vector i + a of X, both counted from the same element, meet in weight (a, k): for
a fixed k it is the correlation of two sequences of vectors. So a vector of X, once loaded, serves
as many vectors of C as there are weights (a, k), which stay in registers too. Tap by tap it would
serve one, and wait for loads that cross cache lines.
"""

from typing import NamedTuple

import numpy as np

from numbaconv.codegen.arguments import Elements
from numbaconv.codegen.pipeline import tidy
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.codegen.twins import emitted
from numbaconv.codegen.vectors import Vectors, i64
from numbaconv.cpu.blocking import FOLD_DEPTH, FOLD_VECTORS
from numbaconv.cpu.microkernels.accumulators import (
    Accumulators,
    for_each_block,
    is_set,
    side_by_side,
)


class FoldArguments(NamedTuple):
    """What `fold` takes.

    Attributes
    ----------
    depth, vectors : int
        Values of a, at most FOLD_DEPTH, and vectors NV of a block, one of FOLD_VECTORS.
    kw : int
        Values of k, at least 1 and at most the lanes of a vector.
    x : pointer
        What tap (0, 0) reads for the first element of C.
    w, w_step : pointer, int
        Tap (a, k) has the weight w[(a * lanes + k) * w_step].
    c : pointer
        First element of C.
    bias : pointer
        One value for all elements; read only where `accumulate` is 0.
    accumulate : int
        1: add to C. 0: do not read C.
    last : int
        Lanes of the last vector (of the last block) that belong to C.
    blocks : int
        Blocks, each of which begins NV vectors after the one before.
    """

    depth: int
    vectors: int
    kw: int
    x: Elements
    w: Elements
    w_step: int
    c: Elements
    bias: Elements
    accumulate: int
    last: int
    blocks: int


def _emit_fold(builder, dtype, o):
    """Switch to the register block of the size that is asked for."""
    vectors = Vectors(builder, dtype)
    o = o._replace(accumulate=is_set(builder, o.accumulate))

    def emit(depth, columns):
        _emit_blocks(vectors, depth, columns, o)

    for_each_block(builder, o.depth, o.vectors, range(1, FOLD_DEPTH + 1), FOLD_VECTORS, emit)


def _emit_blocks(vectors, depth, nv, o):
    """Register blocks side by side."""
    builder = vectors.builder
    with side_by_side(vectors, o.blocks, nv, o.last, o.x, o.c) as (stored, pixels, target):
        block = Accumulators(vectors, 1, nv, target, i64(0), stored)
        block.start(o.accumulate, lambda i, j: vectors.broadcast(o.bias))

        def step(k, values):
            first = vectors.at(pixels, k)
            taps = [builder.add(k, i64(a * vectors.lanes)) for a in range(depth)]
            ws = [vectors.broadcast(vectors.at(o.w, builder.mul(tap, o.w_step))) for tap in taps]
            [new] = values
            new = list(new)
            for j in range(nv + depth - 1):
                pixel = vectors.load(vectors.column(first, j))
                for i in range(max(0, j - depth + 1), min(j, nv - 1) + 1):
                    new[i] = vectors.multiply_add(ws[j - i], pixel, new[i])
            return [new]

        block.loop(o.kw, step, f"fold_{depth}x{nv}")
        block.store()


@emitted(FoldArguments, _emit_fold, tidy)
def fold(o):
    """C[NV vectors] = bias[0] + (or C +=) the correlation of X with taps (a, k) of W."""
    lanes = VECTOR_BYTES // o.c.itemsize
    width = (o.blocks * o.vectors - 1) * lanes + o.last
    total = o.c[:width].copy() if o.accumulate else np.full(width, o.bias[0], o.c.dtype)
    with np.errstate(all="ignore"):
        for k, a in np.ndindex(o.kw, o.depth):
            tap = a * lanes + k
            total += o.w[tap * o.w_step] * o.x[tap : tap + width]
    o.c[:width] = total
