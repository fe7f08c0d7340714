"""Integer arithmetic of planning.

Compiled code writes ``-(-a // b)`` out: each helper that a kernel calls costs compile time.
"""


def ceil_div(a: int, b: int) -> int:
    """Divide and round up."""
    return -(-a // b)


def round_up(a: int, multiple: int) -> int:
    """Return the least multiple that is no less than `a`."""
    return -(-a // multiple) * multiple


def largest_divisor(number: int, most: int) -> int:
    """Return the largest divisor of a positive number that is not above `most`."""
    return next(size for size in range(min(number, most), 0, -1) if number % size == 0)
