"""im2col: the patch matrix is written out, panel by panel, and multiplied by the weights.

Read `panels` (which pixels a panel holds), `packing` (how one is filled), then `patch_matrix`, the
one lowering. Imports: what lies below it in `numbaconv.cpu`, and no other engine.
"""

import numpy as np

from numbaconv._imports import Later
from numbaconv.cpu.lowering import Lowering
from numbaconv.problem.shape import ConvShape

_lower = Later("numbaconv.cpu.im2col.patch_matrix", "lower")


def lower(s: ConvShape, dtype: np.dtype, threads: int) -> Lowering:
    """Return how the engine computes a problem: there is one way."""
    lowering: Lowering = _lower(s, dtype.itemsize, threads)
    return lowering


def unavailable() -> str | None:
    """Why the engine cannot run here: it always can."""
    return None
