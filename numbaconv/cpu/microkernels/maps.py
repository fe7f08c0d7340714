"""The register tile of depthwise layers on small maps, whose lanes are channels.

Each output has a place in the map, where its window begins, and each tap of the window a distance
from there. So outputs may lie anywhere, under any stride, and the padding is part of the map:

    C[i, c] = bias[c] + sum_k X[starts[i] + taps[k], c] * W[k, c]

Loops: blocks of outputs, the widest first; taps.
"""

from typing import NamedTuple

import numpy as np
from numba.core import cgutils

from numbaconv.codegen.arguments import Elements, Indices
from numbaconv.codegen.pipeline import tidy
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.codegen.twins import emitted
from numbaconv.codegen.vectors import Vectors, i64
from numbaconv.cpu.blocking import MAP_OUTPUTS
from numbaconv.cpu.microkernels.accumulators import carried_loop


class MapSumsArguments(NamedTuple):
    """What `map_sums` takes.

    Attributes
    ----------
    x : pointer
        The map, a vector at each place.
    starts, outputs : pointer, int
        The place of each output, as an element of `x`; how many outputs.
    taps, many : pointer, int
        [taps][2]: elements from an output's place to what a tap reads, and where the tap's weights
        begin in `w`; how many taps, at least 1.
    w : pointer
        Weights: of each tap a vector.
    bias, channels : pointer, int
        One value for each channel; how many channels, at most as many as a vector has lanes.
    c : pointer
        Results, [outputs][lanes].
    """

    x: Elements
    starts: Indices
    outputs: int
    taps: Indices
    many: int
    w: Elements
    bias: Elements
    channels: int
    c: Elements


def _emit_map_sums(builder, dtype, o):
    """Blocks of each width, as far as they go."""
    b, v, done = builder, Vectors(builder, dtype), i64(0)
    bias = v.load_masked(o.bias, v.first_lanes(o.channels))
    for width in MAP_OUTPUTS:
        blocks = b.sdiv(b.sub(o.outputs, done), i64(width))
        with cgutils.for_range(b, blocks) as loop:
            _emit_block(v, o, width, b.add(done, b.mul(loop.index, i64(width))), bias)
        done = b.add(done, b.mul(blocks, i64(width)))


def _emit_block(v, o, width, first, bias):
    """Some outputs: their sums stay in registers while the taps go by."""
    b = v.builder
    starts = [v.at(o.starts, b.add(first, i64(i))) for i in range(width)]
    windows = [v.at(o.x, b.load(start)) for start in starts]

    def tap(k, values):
        entry = v.at(o.taps, b.mul(k, i64(2)))
        offset, weights = b.load(entry), b.load(v.at(entry, i64(1)))
        weight, pairs = v.load(v.at(o.w, weights)), zip(windows, values, strict=True)
        return [[v.multiply_add(weight, v.load(v.at(x, offset)), old)] for x, [old] in pairs]

    c = v.at(o.c, b.mul(first, i64(v.lanes)))
    sums = carried_loop(b, o.many, [[bias]] * width, tap, f"map_{width}")
    for i, [value] in enumerate(sums):
        v.store(value, v.column(c, i))


@emitted(MapSumsArguments, _emit_map_sums, tidy)
def map_sums(o):
    """C[outputs, lanes] = bias + sum over k of X[starts + taps[k]] * W[k], channel by channel."""
    lanes = VECTOR_BYTES // o.c.itemsize
    many = min(o.channels, lanes)
    for i in range(o.outputs):
        total = o.bias[:many].copy()
        for offset, k in o.taps[: 2 * o.many].reshape(-1, 2).tolist():
            at = o.starts[i] + offset
            with np.errstate(all="ignore"):
                total += o.w[k : k + many] * o.x[at : at + many]
        o.c[i * lanes : i * lanes + many] = total
