"""What a coordinate outside of an axis reads, however far outside: the patterns repeat."""

from numbaconv.codegen.jit import inline
from numbaconv.problem.shape import CIRCULAR, REPLICATE, SYMMETRIC, ZEROS


@inline
def padded_index(i, size, mode):
    """Index that coordinate `i` of an axis (0 = first element) reads, or -1: the constant."""
    if 0 <= i < size:
        return i
    if mode <= ZEROS:  # CONSTANT too
        return -1
    if mode == REPLICATE:
        return 0 if i < 0 else size - 1
    if mode == CIRCULAR:
        return i % size
    edges = 1 if mode == SYMMETRIC else 0  # an edge is repeated, or is not
    near = -i - edges if i < 0 else 2 * size - 2 + edges - i
    if 0 <= near < size:  # without a division
        return near
    period = 2 * size - 2 + 2 * edges
    if period == 0:
        return 0
    place = i % period
    return place if place < size else period - edges - place


@inline
def steps_to(distance, step):
    """Steps to come so far, rounded up. Most steps are 1, and a division takes long."""
    return distance if step == 1 else (distance + step - 1) // step
