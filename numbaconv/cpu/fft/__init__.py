"""fft: convolutions with large filters, as products of spectra.

The output is cut into tiles. A tile of the padded input is transformed, multiplied by the transform
of the weights, and transformed back. Per output that takes a number of operations that grows with
the logarithm of the tile, and not with the number of taps.

Read `tiles` (how a problem is cut, and what that costs), `layout` (what a job says of it),
`columns` (the transform of a tile), `overlap_save`, the one lowering, `weight_gradient`, which
makes problems for it, then `microkernels.transform` and `tables`, its factors. Imports: what lies
below it in `numbaconv.cpu`, `gradients` among it, and `direct`, which gets what this engine cannot
serve.
"""

import numpy as np

from numbaconv._imports import Later
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu import direct
from numbaconv.cpu.fft.tiles import best_tiles, gain, has_overlap
from numbaconv.cpu.lowering import Lowering
from numbaconv.problem.shape import ConvShape, may_round

__all__ = [
    "add_spectra",
    "is_faster",
    "is_faster_for_weights",
    "lower",
    "serves_weight_gradient",
    "unavailable",
    "unserved",
]

_lower = Later("numbaconv.cpu.fft.overlap_save", "lower")
add_spectra = Later("numbaconv.cpu.fft.weight_gradient", "add_spectra")
best_pieces = Later("numbaconv.cpu.fft.weight_gradient", "best_pieces")

# `auto` takes the engine where it is predicted to be so many times as fast as sums.
LEAST_GAIN = 1.1

# Floating-point operations of a lane that sums do in a cycle.
SUMS_RATE = 4

# Smaller kernels are never worth it. So for most problems nothing is predicted.
LEAST_TAPS = 64


def is_faster(s: ConvShape, dtype: np.dtype) -> bool:
    """Whether the engine is predicted to be faster than sums, by a tenth or more."""
    if s.taps < LEAST_TAPS or not may_round(s, dtype):
        return False
    return gain(s, VECTOR_BYTES // dtype.itemsize) >= LEAST_GAIN


def serves_weight_gradient(s: ConvShape, dtype: np.dtype) -> bool:
    """Whether the engine can compute the gradient of a problem's weights."""
    if dtype.kind != "f" or s.flops == 0 or not has_overlap(s):
        return False
    return best_pieces(s, VECTOR_BYTES // dtype.itemsize) is not None


def is_faster_for_weights(s: ConvShape, dtype: np.dtype) -> bool:
    """The same as `is_faster`, of the gradient of a problem's weights."""
    if s.taps < LEAST_TAPS or not serves_weight_gradient(s, dtype):
        return False
    lanes = VECTOR_BYTES // dtype.itemsize
    pieces = best_pieces(s, lanes)
    return pieces is not None and s.flops >= LEAST_GAIN * SUMS_RATE * lanes * pieces.cost


def unserved(s: ConvShape, dtype: np.dtype) -> str | None:
    """Why the engine leaves a problem to `direct`, or None."""
    if not may_round(s, dtype):
        return "integers are exact: they are summed"
    if best_tiles(s, VECTOR_BYTES // dtype.itemsize) is None:
        return "kernel, stride or spectra are too large, or windows do not overlap"
    return None


def lower(s: ConvShape, dtype: np.dtype, threads: int) -> Lowering:
    """Return how the engine computes a problem; what it does not serve, `direct` computes."""
    tiles = best_tiles(s, VECTOR_BYTES // dtype.itemsize) if may_round(s, dtype) else None
    if tiles is None:
        return direct.lower(s, dtype, threads)
    lowering: Lowering = _lower(s, tiles, dtype, threads)
    return lowering


def unavailable() -> str | None:
    """Why the engine cannot run here: it always can."""
    return None
