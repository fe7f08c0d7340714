"""Where a padded coordinate reads from, and copies of padded rows."""

from numbaconv.jit import inline
from numbaconv.pointers import shift
from numbaconv.shape import CIRCULAR, REFLECT, REPLICATE, SYMMETRIC


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
def copy_padded(target, x, base, x_step, first, step, count, size, mode):
    """Copy `count` elements `first, first + step, ...` of a padded row to `target`.

    The row lies at x[base + i * x_step] for 0 <= i < size; a row of size 0 is all padding, zero.
    Inside the row the loop is a plain (strided) copy; the padding goes element by element.
    """
    begin = min(max(-first + step - 1, 0) // step, count)
    end = max(min((size - first + step - 1) // step, count), begin)
    source = shift(x, base + (first + begin * step) * x_step)
    inside = shift(target, begin)
    stride = step * x_step
    if stride == 1:
        for j in range(end - begin):
            inside[j] = source[j]
    else:
        for j in range(end - begin):
            inside[j] = source[j * stride]
    for edge in range(begin + count - end):
        j = edge if edge < begin else edge - begin + end
        i = padded_index(first + j * step, size, mode)
        if i >= 0:
            target[j] = x[base + i * x_step]
        else:
            target[j] = 0
