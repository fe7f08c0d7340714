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

# Rows whose sums are under way at once: these and a product's factors fit 16 registers.
TOGETHER = 4


class ProductArguments(NamedTuple):
    """What products take.

    Attributes
    ----------
    target, target_load, target_filter : pointer, int, int
        Spectrum of the first result, and elements from there to that of the next load, and of the
        next filter.
    x, x_load, x_channel : pointer, int, int
        Spectrum of the first channel of the first load, and elements from there to that of the next
        load, and of the next channel.
    weights, weights_step : pointer, int
        Spectra of the weights, [filter][channel][row] of `TOGETHER` rows, and elements from there
        to those of the next rows.
    loads, filters, channels : int
        At least one of each.
    rows : int
        Rows of a spectrum, a multiple of `TOGETHER`.
    """

    target: Elements
    target_load: int
    target_filter: int
    x: Elements
    x_load: int
    x_channel: int
    weights: Elements
    weights_step: int
    loads: int
    filters: int
    channels: int
    rows: int


def _emit_product(conjugate, builder, dtype, o):
    """Loop over blocks of rows, filters and loads, then over the channels, with sums in registers.

    So the weights are read in order, and each serves all loads from the first-level cache. There
    the rows of all channels stay for all filters.
    """
    v = Vectors(builder, dtype)
    size = i64(2 * TOGETHER * v.lanes)
    of_filter = builder.mul(o.channels, size)

    def row(pointer: Any, i: int) -> Any:
        return v.load(v.column(pointer, 2 * i)), v.load(v.column(pointer, 2 * i + 1))

    def step(pointer: Any, count: Any, size: Any) -> Any:
        return v.at(pointer, builder.mul(count, size))

    with cgutils.for_range(builder, builder.sdiv(o.rows, i64(TOGETHER))) as block:
        first = builder.mul(block.index, size)
        weights = step(o.weights, block.index, o.weights_step)
        with cgutils.for_range(builder, o.filters) as filters:
            weights = step(weights, filters.index, of_filter)
            targets = step(v.at(o.target, first), filters.index, o.target_filter)
            with cgutils.for_range(builder, o.loads) as loads:
                inputs = step(v.at(o.x, first), loads.index, o.x_load)

                def add_channel(c, values, weights=weights, inputs=inputs):
                    x, w = step(inputs, c, o.x_channel), step(weights, c, size)
                    return [
                        list(multiplied(v, row(x, i), row(w, i), conjugate, values[i]))
                        for i in range(TOGETHER)
                    ]

                zeros = [[v.zero(), v.zero()] for _ in range(TOGETHER)]
                target = step(targets, loads.index, o.target_load)
                sums = carried_loop(builder, o.channels, zeros, add_channel, "channels")
                for i, parts in enumerate(sums):
                    for part, value in enumerate(parts):
                        v.store(value, v.column(target, 2 * i + part))


def _product_twin(o, conjugate):
    """Do what the emitted functions do."""
    lanes = VECTOR_BYTES // o.target.itemsize
    size = 2 * TOGETHER * lanes

    def spectrum(pointer: Any) -> Any:
        parts = pointer[:size].reshape(TOGETHER, 2, lanes)
        return parts[:, 0] + 1j * parts[:, 1]

    with np.errstate(all="ignore"):
        for block, f, t in np.ndindex(o.rows // TOGETHER, o.filters, o.loads):
            total = 0
            for c in range(o.channels):
                at = block * o.weights_step + (f * o.channels + c) * size
                weights = spectrum(o.weights[at:])
                x = spectrum(o.x[t * o.x_load + c * o.x_channel + block * size :])
                total = total + x * (weights.conj() if conjugate else weights)
            target = o.target[t * o.target_load + f * o.target_filter + block * size :]
            parts = target[:size].reshape(TOGETHER, 2, lanes)
            parts[:, 0], parts[:, 1] = total.real, total.imag


@emitted(ProductArguments, lambda builder, dtype, o: _emit_product(False, builder, dtype, o))
def product(o):
    """Store sums over channels of spectra times weights; one may replace the only spectrum."""
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
