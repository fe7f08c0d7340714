"""Winograd's minimal filtering on a device: what it serves, how it is cut, and what it costs.

Along an axis with 3 taps a tile is m outputs, of m + 2 inputs; `problem.toom_cook` has the
mathematics. The values of all tiles at one point, over channels and tiles, are a matrix, and so are
those of the weights: so each point is a group of one pointwise convolution, which is computed as
any other (`Tiling.product`). Passes before and after it evaluate and interpolate
(`winograd_passes`).

Read `serves` (which problems), `tilings_of` (how one may be cut), then `plan_of` (what that costs).
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from numbaconv.cuda import cost
from numbaconv.cuda.toolkit import Device
from numbaconv.problem.dtypes import Arithmetic
from numbaconv.problem.forward import memory_strides
from numbaconv.problem.points import TAPS
from numbaconv.problem.shape import ZEROS, ConvShape, may_round, pads_zeros

OUTPUTS = (2, 4)  # what m may be, along all axes with 3 taps
# Values of inputs and products at the points that are in memory at once: 256 MB.
MOST_VALUES = 1 << 26


def extent_of(outputs: int) -> int:
    """Return the inputs of a tile, and its points, along an axis with so many outputs."""
    return outputs + TAPS - 1 if outputs > 1 else 1


class Tiling(NamedTuple):
    """How a problem is cut.

    Attributes
    ----------
    outputs : pair of int
        Of a tile, along height and width; 1 where the kernel has one tap.
    tiles : int
        Of the whole batch.
    parts : int
        Into which they are cut, one after the other in the same memory.
    product : ConvShape
        Of one part, as one row of an image: its groups are the points, and of each the groups of
        the problem; its pixels are tiles. In memory channels and tiles have the order that the
        channels and pixels of the problem's input and output have, so that the threads of a pass
        read and write neighbours.
    """

    outputs: tuple[int, int]
    tiles: int
    parts: int
    product: ConvShape

    @property
    def points(self) -> int:
        """Values of a tile of one channel."""
        return math.prod(map(extent_of, self.outputs))


def serves(s: ConvShape, how: Arithmetic) -> bool:
    """Whether a problem can be computed so: kernels of 3 along height, width or both, in float32.

    With one input channel a group there is nothing to sum at a point.
    """
    steps = zip(s.kernel, s.stride, s.dilation, strict=True)
    return (
        how.compute == np.float32
        and may_round(s, how.compute)
        and pads_zeros(s)
        and all(stride == 1 and (taps == 1 or apart == 1) for taps, stride, apart in steps)
        and s.kernel[0] == 1
        and set(s.kernel[1:]) in ({TAPS}, {1, TAPS})
        and s.c_in > 1
        and s.flops > 0
        and math.prod(s.size) > 0
    )


def tilings_of(s: ConvShape) -> Iterator[Tiling]:
    """Return how a problem may be cut that is served."""
    for m in OUTPUTS:
        down, across = (m if taps == TAPS else 1 for taps in s.kernel[1:])
        yield _tiling_of(s, down, across)


def _tiling_of(s: ConvShape, down: int, across: int) -> Tiling:
    tiles = s.n * s.output[0] * -(-s.output[1] // down) * -(-s.output[2] // across)
    groups = s.groups * extent_of(down) * extent_of(across)
    parts = -(-tiles * groups * (s.c_in + s.c_out) // MOST_VALUES)
    row, one = (1, 1, -(-tiles // parts)), (1, 1, 1)
    product = ConvShape(
        1,
        groups,
        s.c_in,
        s.c_out,
        row,
        one,
        one,
        one,
        (0, 0, 0),
        row,
        (ZEROS,) * 3,
        memory_strides(groups * s.c_in, row, s.in_strides[1] == 1),
        memory_strides(groups * s.c_out, row, s.out_strides[1] == 1),
    )
    return Tiling((down, across), tiles, parts, product)


class Plan(NamedTuple):
    """What computing a problem so is thought to cost.

    Attributes
    ----------
    tiling : Tiling
        How it is cut.
    product : cost.Prediction
        The product of one part.
    cycles : float
        Of a multiprocessor, for all of it, the transformation of the weights too.
    """

    tiling: Tiling
    product: cost.Prediction
    cycles: float

    def __str__(self) -> str:
        outputs = " x ".join(str(m) for m in self.tiling.outputs if m > 1)
        taps = " x ".join(str(TAPS) for m in self.tiling.outputs if m > 1)
        parts = "" if self.tiling.parts == 1 else f", in {self.tiling.parts} parts"
        return (
            f"winograd F({outputs}, {taps}){parts}: {self.cycles:.0f} cycles, at each of "
            f"{self.tiling.points} points a {self.product}"
        )


def plan_of(s: ConvShape, tiling: Tiling, product: cost.Prediction, device: Device) -> Plan:
    """Return what a problem costs that is cut, by the prediction for the product of a part.

    The passes take as long as what they read and write: of the weights once, of inputs and outputs
    in each part.
    """
    inputs, outputs = s.groups * s.c_in, s.groups * s.c_out
    moved = inputs * (s.n * math.prod(s.size) + tiling.points * tiling.tiles)
    moved += outputs * (s.n * s.pixels + tiling.points * tiling.tiles)
    moved += s.weights + s.weights // s.taps * tiling.points
    # Of the weights, and of each part two passes and a product; sums have one launch too.
    launches = 1 + 3 * tiling.parts - 1
    cycles = tiling.parts * product.cycles + cost.passes(launches, 4 * moved, device)
    return Plan(tiling, product, cycles)
