"""winograd: convolutions with 3 taps an axis, by fewer multiplications.

A tile of outputs is a product of polynomials, and so as few products as these have coefficients:
the polynomials are evaluated at some points, their values multiplied, and the outputs interpolated.
All tiles and channels together, the values at a point are matrices, and their product is that of
the register tile.

Read `tiles` (how a problem is cut, and what that costs), `layout` (what a job says of it),
`minimal_filtering`, the one lowering, then `microkernels.minimal_filters` and
`problem.toom_cook`, its matrices. Imports: what lies below it in `numbaconv.cpu`, and
`direct`, which gets what this engine cannot serve.
"""

import numpy as np

from numbaconv._imports import Later
from numbaconv.cpu import direct
from numbaconv.cpu.lowering import Lowering
from numbaconv.cpu.packing.halo import is_far_out
from numbaconv.cpu.winograd.tiles import best_tiles, gain
from numbaconv.problem.points import TAPS
from numbaconv.problem.shape import ConvShape, may_round

_lower = Later("numbaconv.cpu.winograd.minimal_filtering", "lower")

# Under `precision="fast"` `auto` takes the engine where it is predicted to be so many times as fast
# as sums.
LEAST_GAIN = 1.2

# With fewer channels, in or out, transforms cost more than products save.
LEAST_CHANNELS = 8


def is_faster(s: ConvShape, dtype: np.dtype, packs: bool = False) -> bool:
    """Whether the engine is predicted to be faster than sums, by a fifth or more."""
    return unserved(s, dtype) is None and gain(s, packs) >= LEAST_GAIN


def unserved(s: ConvShape, dtype: np.dtype) -> str | None:
    """Why the engine leaves a problem to `direct`, or None."""
    if not may_round(s, dtype):
        return "integers are exact: they are summed"
    axes = zip(s.kernel, s.stride, s.dilation, strict=True)
    if any(step != 1 or (taps > 1 and apart != 1) for taps, step, apart in axes):
        return "its tiles need stride 1 and dilation 1"
    if s.taps == 1 or any(taps not in (1, TAPS) for taps in s.kernel):
        return "its tiles are for kernels of 3 along an axis, or 1"
    if min(s.c_in, s.c_out) < LEAST_CHANNELS:
        return f"fewer than {LEAST_CHANNELS} channels: transforms cost more than they save"
    if is_far_out(s):
        return "nearly all that its tiles read is padding"
    if best_tiles(s) is None:
        return "so many channels take too much memory at the points of a tile"
    return None


def lower(s: ConvShape, dtype: np.dtype, threads: int) -> Lowering:
    """Return how the engine computes a problem; what it does not serve, `direct` computes."""
    tiles = None if unserved(s, dtype) else best_tiles(s)
    if tiles is None:
        return direct.lower(s, dtype, threads)
    lowering: Lowering = _lower(s, tiles, dtype, threads)
    return lowering


def unavailable() -> str | None:
    """Why the engine cannot run here: it always can."""
    return None
