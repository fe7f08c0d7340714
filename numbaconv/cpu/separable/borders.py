"""What a coordinate outside of an axis reads, however far outside: the patterns repeat.

The names are those of `scipy.ndimage`.
"""

from numbaconv.codegen.jit import inline

CONSTANT, NEAREST, WRAP, REFLECT, MIRROR = range(5)


@inline
def inner_index(i, size, mode):
    """Index that coordinate `i` of an axis reads, or -1: the constant."""
    if 0 <= i < size:
        return i
    if mode == CONSTANT:
        return -1
    if mode == NEAREST:
        return 0 if i < 0 else size - 1
    if mode == WRAP:
        return i % size
    edges = 1 if mode == REFLECT else 0  # an edge is repeated, or is not
    near = -i - edges if i < 0 else 2 * size - 2 + edges - i
    if 0 <= near < size:  # without a division
        return near
    period = 2 * size - 2 + 2 * edges
    if period == 0:
        return 0
    place = i % period
    return place if place < size else period - edges - place
