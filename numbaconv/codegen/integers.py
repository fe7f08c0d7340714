"""Integer arithmetic that Python's planning and compiled code share."""

from numbaconv.codegen.jit import inline


@inline
def ceil_div(a, b):
    """A / b, rounded up."""
    return -(-a // b)


@inline
def round_up(a, multiple):
    """The least multiple that is no less than a."""
    return -(-a // multiple) * multiple
