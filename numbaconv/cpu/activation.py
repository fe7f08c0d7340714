"""Functions applied to a tile of the output while it is still in the first-level cache."""

import ctypes
import functools
import math
from typing import NamedTuple

from numba import from_dtype
from numba.core import config

from numbaconv.codegen.arguments import Elements
from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import shift
from numbaconv.problem.activations import HARDSWISH, RELU, RELU6, SILU, TANH


@inline
def hard_gate(y):
    """min(max(y + 3, 0), 6) / 6, NaN for NaN."""
    if y <= -3:
        return 0.0
    if y >= 3:
        return 1.0
    return (y + 3) / 6


@inline
def smooth(y, code):
    """The activations that need the C library for each element."""
    if code == TANH:
        return math.tanh(y)
    sigmoid = 1 / (1 + math.exp(-y))
    return y * sigmoid if code == SILU else sigmoid


class ActivateArguments(NamedTuple):
    """What `activate` takes.

    Attributes
    ----------
    tile, row_step : pointer, int
        First element, and elements from one row to the next.
    rows, width : int
        Rows, and elements of each.
    code : int
        Number of the activation.
    """

    tile: Elements
    row_step: int
    rows: int
    width: int
    code: int


@native(ActivateArguments)
def activate(tile, row_step, rows, width, code):
    """Apply the activation to some rows behind a pointer. NaN stays NaN."""
    for i in range(rows):
        row = shift(tile, i * row_step)
        if code == RELU:
            for j in range(width):
                if row[j] < 0:
                    row[j] = 0
        elif code == RELU6:
            for j in range(width):
                if row[j] < 0:
                    row[j] = 0
                elif row[j] > 6:
                    row[j] = 6
        elif code == HARDSWISH:
            for j in range(width):
                row[j] = row[j] * hard_gate(row[j])
        else:
            for j in range(width):
                row[j] = smooth(row[j], code)


@functools.cache
def _activate_for_python(dtype):
    takes = ctypes.c_int64
    return ctypes.CFUNCTYPE(None, takes, takes, takes, takes, takes)(activate.address(dtype))


def activate_array(array, code):
    """Apply the activation to a 1-D contiguous array in place."""
    if config.DISABLE_JIT:
        activate.interpret(ActivateArguments(array, 0, 1, array.size, code))
    else:
        apply = _activate_for_python(from_dtype(array.dtype))
        apply(array.ctypes.data, 0, 1, array.size, code)
