"""Where a coordinate in the padding reads."""

from numbaconv.codegen.jit import inline
from numbaconv.problem.shape import CIRCULAR, REFLECT, REPLICATE, SYMMETRIC


@inline
def padded_index(i, size, mode):
    """Index that coordinate `i` of the padded axis (0 = first real element) reads, or -1: zero."""
    if 0 <= i < size:
        return i
    source = -1
    if mode == REFLECT:
        source = -i if i < 0 else 2 * (size - 1) - i
    elif mode == SYMMETRIC:
        source = -1 - i if i < 0 else 2 * size - 1 - i
    elif mode == REPLICATE:
        source = 0 if i < 0 else size - 1
    elif mode == CIRCULAR:
        source = i + size if i < 0 else i - size
    # A tile may reach past the padding that the problem has; nobody uses what is there.
    return source if 0 <= source < size else -1


@inline
def steps_to(distance, step):
    """Steps to come so far, rounded up. Most steps are 1, and a division takes long."""
    return distance if step == 1 else (distance + step - 1) // step
