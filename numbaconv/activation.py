"""Functions applied to a tile of the output while it is still in the first-level cache."""

import math

from numbaconv.jit import inline

NONE, RELU, RELU6, SILU, SIGMOID, TANH, HARDSWISH = range(7)
ACTIVATIONS = {
    None: NONE,
    "relu": RELU,
    "relu6": RELU6,
    "silu": SILU,
    "sigmoid": SIGMOID,
    "tanh": TANH,
    "hardswish": HARDSWISH,
}


@inline
def activate(tile, row_step, rows, width, code):
    """Apply the activation to `rows` rows of `width` elements behind a pointer. NaN stays NaN."""
    if code == RELU:
        for i in range(rows):
            for j in range(width):
                y = tile[i * row_step + j]
                tile[i * row_step + j] = y if not y < 0 else 0
    elif code == RELU6:
        for i in range(rows):
            for j in range(width):
                y = tile[i * row_step + j]
                y = y if not y < 0 else 0
                tile[i * row_step + j] = y if not y > 6 else 6
    elif code == HARDSWISH:
        for i in range(rows):
            for j in range(width):
                y = tile[i * row_step + j]
                gate = min(max(y + 3, 0), 6)
                tile[i * row_step + j] = y * gate / 6
    elif code != NONE:
        for i in range(rows):
            for j in range(width):
                tile[i * row_step + j] = smooth(tile[i * row_step + j], code)


@inline
def smooth(y, code):
    """The activations that need the C library for each element."""
    if code == TANH:
        return math.tanh(y)
    sigmoid = 1 / (1 + math.exp(-y))
    return y * sigmoid if code == SILU else sigmoid
