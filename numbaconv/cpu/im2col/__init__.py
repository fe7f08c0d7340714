"""im2col: the patch matrix is written out, panel by panel, and multiplied by the weights.

Read `panels` (which pixels a panel holds), then `patch_matrix`, the one lowering. Imports: what
lies below it in `numbaconv.cpu`, and no other engine.
"""

from numbaconv.cpu.im2col.patch_matrix import lower

__all__ = ["lower", "unavailable"]


def unavailable() -> str | None:
    """Why the engine cannot run here: it always can."""
    return None
