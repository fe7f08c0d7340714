"""Integer arithmetic of planning.

Compiled code writes ``-(-a // b)`` out: each helper that a kernel calls costs compile time.
"""

import numpy as np

# Tables of offsets are arrays of NumPy's own integer, and compiled code reads them as int64.
if np.dtype(np.int_).itemsize < 8:
    raise ImportError(
        f"numbaconv needs integers of 64 bits, and those of NumPy {np.__version__} have 32 here: "
        "it takes Python of 64 bits, and NumPy 2 or newer where that is for Windows"
    )


def ceil_div(a: int, b: int) -> int:
    """Divide and round up."""
    return -(-a // b)


def round_up(a: int, multiple: int) -> int:
    """Return the least multiple that is no less than `a`."""
    return -(-a // multiple) * multiple


def largest_divisor(number: int, most: int) -> int:
    """Return the largest divisor of a positive number that is not above `most`."""
    return next(size for size in range(min(number, most), 0, -1) if number % size == 0)
