"""Products of spectra, and rows of vectors on their way to the columns of a transform and back.

As in `transform`, a vector of real parts lies before one of imaginary parts.
"""

from typing import Any, NamedTuple

import numpy as np
from numba.core import cgutils

from numbaconv.codegen.arguments import Elements
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.codegen.twins import emitted
from numbaconv.codegen.vectors import Vectors, i64
from numbaconv.cpu.microkernels.accumulators import carried_loop
from numbaconv.cpu.microkernels.transform import multiplied

# Vectors of sums that are under way at once: these and a product's factors fit 16 registers.
TOGETHER = 4


class ProductArguments(NamedTuple):
    """What products take.

    Attributes
    ----------
    target : pointer
        Spectrum of the sum over channels.
    x, x_step : pointer, int
        Spectrum of the first channel, and elements from one channel to the next.
    weights, weight_step : pointer, int
        The same of the weights.
    channels : int
        At least one.
    rows : int
        Rows of a spectrum, a multiple of `TOGETHER`.
    """

    target: Elements
    x: Elements
    x_step: int
    weights: Elements
    weight_step: int
    channels: int
    rows: int


def _emit_product(conjugate, builder, dtype, o):
    """Loop over blocks of rows, then over the channels, with the sums in registers."""
    v = Vectors(builder, dtype)
    blocks = builder.sdiv(o.rows, i64(TOGETHER))
    with cgutils.for_range(builder, blocks) as block:
        first = builder.mul(block.index, i64(2 * TOGETHER * v.lanes))

        def row(pointer: Any, i: int) -> Any:
            return v.load(v.column(pointer, 2 * i)), v.load(v.column(pointer, 2 * i + 1))

        def add_channel(c, values, first=first):
            x = v.at(v.at(o.x, builder.mul(c, o.x_step)), first)
            weights = v.at(v.at(o.weights, builder.mul(c, o.weight_step)), first)
            return [
                list(multiplied(v, row(x, i), row(weights, i), conjugate, values[i]))
                for i in range(TOGETHER)
            ]

        zeros = [[v.zero(), v.zero()] for _ in range(TOGETHER)]
        target = v.at(o.target, first)
        for i, sums in enumerate(carried_loop(builder, o.channels, zeros, add_channel, "channels")):
            for part, value in enumerate(sums):
                v.store(value, v.column(target, 2 * i + part))


def _product_twin(o, conjugate):
    """Do what the emitted functions do."""
    lanes = VECTOR_BYTES // o.target.itemsize
    shape = o.rows, 2, lanes
    size = 2 * o.rows * lanes

    def spectrum(pointer: Any) -> Any:
        parts = pointer[:size].reshape(shape)
        return parts[:, 0] + 1j * parts[:, 1]

    with np.errstate(all="ignore"):
        total = 0
        for c in range(o.channels):
            weights = spectrum(o.weights[c * o.weight_step :])
            x = spectrum(o.x[c * o.x_step :])
            total = total + x * (weights.conj() if conjugate else weights)
        target = o.target[:size].reshape(shape)
        target[:, 0], target[:, 1] = total.real, total.imag


@emitted(ProductArguments, lambda builder, dtype, o: _emit_product(False, builder, dtype, o))
def product(o):
    """Store the sum over channels of spectra times weights; it may replace the only spectrum."""
    _product_twin(o, conjugate=False)


@emitted(ProductArguments, lambda builder, dtype, o: _emit_product(True, builder, dtype, o))
def product_by_conjugate(o):
    """Store the same with the conjugates of the weights."""
    _product_twin(o, conjugate=True)


class MoveArguments(NamedTuple):
    """What `move_vectors` takes.

    Attributes
    ----------
    target, target_step : pointer, int
        Where the first vector goes, and elements from there to the next.
    source, source_step : pointer, int
        The same of where they come from.
    vectors : int
        How many there are.
    seen : pointer
        A vector that stays zero as long as all elements are finite; others make it NaN.
    """

    target: Elements
    target_step: int
    source: Elements
    source_step: int
    vectors: int
    seen: Elements


def _emit_move(builder, dtype, o):
    v = Vectors(builder, dtype)
    seen = cgutils.alloca_once(builder, v.vector)
    builder.store(v.load(o.seen), seen)
    with cgutils.for_range(builder, o.vectors) as vectors:
        value = v.load(v.at(o.source, builder.mul(vectors.index, o.source_step)))
        v.store(value, v.at(o.target, builder.mul(vectors.index, o.target_step)))
        builder.store(v.multiply_add(value, v.zero(), builder.load(seen)), seen)
    v.store(builder.load(seen), o.seen)


@emitted(MoveArguments, _emit_move)
def move_vectors(o):
    """Copy vectors, and see whether all elements are finite."""
    lanes = VECTOR_BYTES // o.target.itemsize
    with np.errstate(all="ignore"):
        for i in range(o.vectors):
            value = o.source[i * o.source_step :][:lanes]
            o.target[i * o.target_step :][:lanes] = value
            o.seen[:lanes] += value * 0
