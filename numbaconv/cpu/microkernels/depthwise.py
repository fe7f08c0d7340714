"""depthwise_tile: rows of pixels times the filters of a vector of channels."""

import numpy as np
from numba import types
from numba.extending import intrinsic

from numbaconv.codegen.jit import native
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.codegen.vectors import Vectors, i64
from numbaconv.cpu.microkernels.accumulators import Accumulators, for_each_block


def _emit_depthwise_tile(vectors, mr, count, x, x_step, offsets, w, c, row_step, bias, last):
    builder = vectors.builder
    block = Accumulators(vectors, mr, 1, c, row_step, last)
    start = block.load_column(bias, 0)
    block.values = [[start] for _ in range(mr)]

    def step(k, values):
        pixels = vectors.at(x, builder.load(vectors.at(offsets, k)))
        weight = vectors.load(vectors.at(w, builder.mul(k, i64(vectors.lanes))))
        xs = [vectors.load(vectors.at(pixels, builder.mul(x_step, i64(i)))) for i in range(mr)]
        return [[vectors.multiply_add(weight, x, old)] for x, [old] in zip(xs, values, strict=True)]

    block.loop(count, step, f"depthwise_{mr}")
    block.store()


@intrinsic
def _depthwise_tile(typing_context, mr, count, x, x_step, offsets, w, c, row_step, bias, last):
    word = types.int64
    signature = types.void(word, word, x, word, offsets, w, c, word, bias, word)

    def codegen(context, builder, signature, arguments):
        mr, count, x, x_step, *rest = arguments
        vectors = Vectors(builder, signature.args[2].dtype)
        dense = i64(vectors.lanes)

        def emit(rows, _):
            # With a constant step the addresses of all pixels are one register and a constant.
            with builder.if_else(builder.icmp_signed("==", x_step, dense)) as (then, otherwise):
                with then:
                    _emit_depthwise_tile(vectors, rows, count, x, dense, *rest)
                with otherwise:
                    _emit_depthwise_tile(vectors, rows, count, x, x_step, *rest)

        for_each_block(builder, mr, i64(1), range(1, vectors.lanes + 1), [1], emit)
        return context.get_dummy_value()

    return signature, codegen


def _depthwise_tile_in_numpy(mr, count, x, x_step, offsets, w, c, row_step, bias, last):
    lanes = VECTOR_BYTES // c.itemsize
    weights = w[: count * lanes].reshape(count, lanes)[:, :last]
    for i in range(mr):
        pixels = np.stack([x[o + i * x_step : o + i * x_step + last] for o in offsets[:count]])
        with np.errstate(all="ignore"):
            total = bias[:last] + (weights * pixels).sum(0, dtype=c.dtype)
        c[i * row_step : i * row_step + last] = total


def _depthwise_tile_signature(dtype):
    i, p = types.int64, types.CPointer(dtype)
    return types.void(i, i, p, i, types.CPointer(i), p, p, i, p, i)


@native(_depthwise_tile_signature)
def depthwise_tile(mr, count, x, x_step, offsets, w, c, row_step, bias, last):
    """C[MR, lanes] = bias + sum over k of X[offsets[k]] * W[k], element by element.

    Parameters
    ----------
    mr : int
        Pixels, at most as many as a vector has lanes.
    count : int
        Taps k, at least 1.
    x, x_step, offsets : pointer, int, pointer
        Pixel i as tap k sees it is the vector at x[offsets[k] + i * x_step].
    w : pointer
        Weights, [count][lanes].
    c, row_step : pointer, int
        First pixel of C, and elements from one to the next.
    bias : pointer
        One value for each lane.
    last : int
        Lanes that are stored; of the bias only these are read.
    """
    _depthwise_tile(mr, count, x, x_step, offsets, w, c, row_step, bias, last)
