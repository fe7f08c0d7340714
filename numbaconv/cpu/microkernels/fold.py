"""The register tile of long filters along one row: the row folded into rows of one vector each.

    C[p] = bias + sum_a,k W[a * lanes + k] * X[a * lanes + k + p]        (or C[p] += ...)

Vector i of C and vector i + a of X, both counted from the same element, meet in weight (a, k): for
a fixed k it is the correlation of two sequences of vectors. So a vector of X, once loaded, serves
as many vectors of C as there are weights (a, k), which stay in registers too. Tap by tap it would
serve one, and wait for loads that cross cache lines.
"""

import numpy as np
from numba import types
from numba.core import config
from numba.extending import intrinsic

from numbaconv.codegen.jit import native
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.codegen.vectors import Vectors, i64
from numbaconv.cpu.blocking import FOLD_DEPTH, FOLD_VECTORS
from numbaconv.cpu.microkernels.accumulators import Accumulators, for_each_block, side_by_side


def _emit_folds(vectors, depth, nv, kw, x, w, w_step, c, bias, accumulate, last, blocks):
    builder = vectors.builder
    with side_by_side(vectors, blocks, nv, last, x, c) as (stored, pixels, target):
        block = Accumulators(vectors, 1, nv, target, i64(0), stored)
        block.start(accumulate, lambda i, j: vectors.broadcast(bias))

        def step(k, values):
            first = vectors.at(pixels, k)
            taps = [builder.add(k, i64(a * vectors.lanes)) for a in range(depth)]
            ws = [vectors.broadcast(vectors.at(w, builder.mul(tap, w_step))) for tap in taps]
            [new] = values
            new = list(new)
            for j in range(nv + depth - 1):
                pixel = vectors.load(vectors.column(first, j))
                for i in range(max(0, j - depth + 1), min(j, nv - 1) + 1):
                    new[i] = vectors.multiply_add(ws[j - i], pixel, new[i])
            return [new]

        block.loop(kw, step, f"fold_{depth}x{nv}")
        block.store()


@intrinsic
def _fold(typing_context, depth, nv, kw, x, w, w_step, c, bias, accumulate, last, blocks):
    word = types.int64
    signature = types.void(word, word, word, x, w, word, c, bias, types.boolean, word, word)

    def codegen(context, builder, signature, arguments):
        depth, nv, *rest = arguments
        vectors = Vectors(builder, signature.args[3].dtype)
        for_each_block(
            builder,
            depth,
            nv,
            range(1, FOLD_DEPTH + 1),
            FOLD_VECTORS,
            lambda rows, columns: _emit_folds(vectors, rows, columns, *rest),
        )
        return context.get_dummy_value()

    return signature, codegen


def _fold_in_numpy(depth, nv, kw, x, w, w_step, c, bias, accumulate, last, blocks):
    lanes = VECTOR_BYTES // c.itemsize
    width = (blocks * nv - 1) * lanes + last
    total = c[:width].copy() if accumulate else np.full(width, bias[0], c.dtype)
    with np.errstate(all="ignore"):
        for k, a in np.ndindex(kw, depth):
            tap = a * lanes + k
            total += w[tap * w_step] * x[tap : tap + width]
    c[:width] = total


def _signature(dtype):
    i, p = types.int64, types.CPointer(dtype)
    return types.void(i, i, i, p, p, i, p, p, i, i, i)


@native(_signature)
def fold(depth, nv, kw, x, w, w_step, c, bias, accumulate, last, blocks):
    """C[NV vectors] = bias[0] + (or C +=) the correlation of X with taps (a, k) of W.

    Parameters
    ----------
    depth, nv : int
        Values of a, at most FOLD_DEPTH, and vectors of a block, one of FOLD_VECTORS.
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
    _fold(depth, nv, kw, x, w, w_step, c, bias, accumulate != 0, last, blocks)


if config.DISABLE_JIT:
    _fold = _fold_in_numpy
