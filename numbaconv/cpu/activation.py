"""Functions applied to a tile of the output while it is still in the first-level cache.

Each is a kernel of its own, compiled where a call first asks for it. Here they are as NumPy says
them; `microkernels.activations` has the formulas that are compiled.
"""

import ctypes
import functools
import math
from typing import NamedTuple

import numpy as np
from numba import from_dtype
from numba.core import cgutils, config

from numbaconv.codegen.arguments import Elements
from numbaconv.codegen.formulas import Formula
from numbaconv.codegen.twins import emitted
from numbaconv.codegen.vectors import Vectors, i64, opaque
from numbaconv.cpu.microkernels import activations as formulas
from numbaconv.cpu.microkernels.accumulators import join
from numbaconv.problem.activations import ACTIVATIONS


class ActivateArguments(NamedTuple):
    """What activations take.

    Attributes
    ----------
    tile, row_step : pointer, int
        First element, and elements from one row to the next.
    rows, width : int
        Rows, and elements of each.
    """

    tile: Elements
    row_step: int
    rows: int
    width: int


# Vectors that go through a formula side by side: the steps of one wait for each other, and a CPU
# does not look ahead as far as from a formula's end to the next one's begin.
_TOGETHER = 2


def _emit(formula, builder, dtype, o):
    """Loop over rows and their vectors. Rows that follow each other are one."""
    v, wide = Vectors(builder, dtype), Vectors(builder, dtype, together=_TOGETHER)
    dense = builder.icmp_signed("==", o.row_step, o.width)
    rows = builder.select(dense, i64(1), o.rows)
    width = builder.select(dense, builder.mul(o.rows, o.width), o.width)
    with cgutils.for_range(builder, rows) as row:
        first = v.at(o.tile, builder.mul(row.index, o.row_step))
        several = builder.sub(width, builder.srem(width, i64(wide.lanes)))
        with cgutils.for_range_slice(builder, i64(0), several, i64(wide.lanes)) as (j, _):
            y = formula(Formula(wide, wide.load(v.at(first, j)))).value
            wide.store(y, _same_place(v, first, j))
        with cgutils.for_range_slice(builder, several, width, i64(v.lanes)) as (j, _):
            _emit_vector(formula, v, first, j, builder.sub(width, j))


def _same_place(v, first, j):
    """Address of element j, of which LLVM does not know that it is where y was loaded.

    Otherwise it would make of a choice between y and another value a store under a mask, which is
    slow.
    """
    return v.at(first, opaque(v.builder, j))


def _emit_vector(formula, v, first, j, left):
    """One vector, of which `left` lanes are there, or all: the formula is emitted once for both."""
    builder, place = v.builder, v.at(first, j)
    whole = builder.icmp_signed(">=", left, i64(v.lanes))
    mask = v.first_lanes(left)
    with builder.if_else(whole, likely=True) as (then, otherwise):
        with then:
            all_lanes, then_block = v.load(place), builder.block
        with otherwise:
            some_lanes, otherwise_block = v.load_masked(place, mask), builder.block
    y = join(builder, [(all_lanes, then_block), (some_lanes, otherwise_block)])
    y = formula(Formula(v, y)).value
    with builder.if_else(whole, likely=True) as (then, otherwise):
        with then:
            v.store(y, _same_place(v, first, j))
        with otherwise:
            v.store_masked(y, place, mask)


def _activation(definition):
    """Decorate the definition of an activation: it becomes the kernel, with this as its twin."""

    @functools.wraps(definition)
    def twin(o):
        for i in range(o.rows):
            row = o.tile[i * o.row_step :][: o.width]
            with np.errstate(all="ignore"):
                row[:] = definition(row.astype(np.float64))

    formula = getattr(formulas, definition.__name__)
    return emitted(ActivateArguments, functools.partial(_emit, formula))(twin)


@_activation
def relu(y):
    """max(y, 0)."""
    return np.maximum(y, 0)


@_activation
def relu6(y):
    """min(max(y, 0), 6)."""
    return np.clip(y, 0, 6)


@_activation
def leaky_relu(y):
    """Negative values times 0.01."""
    return np.where(y < 0, 0.01 * y, y)


@_activation
def hardswish(y):
    """Return y min(max(y + 3, 0), 6) / 6."""
    return np.maximum(y, -3) * np.clip(y + 3, 0, 6) / 6


@_activation
def sigmoid(y):
    """1 / (1 + e^-y)."""
    return 1 / (1 + np.exp(-y))


@_activation
def tanh(y):
    """Hyperbolic tangent."""
    return np.tanh(y)


@_activation
def silu(y):
    """Return y / (1 + e^-y)."""
    return np.maximum(y, _LEAST) / (1 + np.exp(-y))


@_activation
def gelu(y):
    """Return y P(normal variable < y)."""
    below = [math.erfc(-each / math.sqrt(2)) / 2 for each in y]
    return np.maximum(y, _LEAST) * below


@_activation
def gelu_tanh(y):
    """The approximation of gelu as y / (1 + e^-z), z = 2 sqrt(2 / pi) (y + 0.044715 y^3)."""
    y = np.maximum(y, _LEAST)
    return y / (1 + np.exp(-2 * math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))


@_activation
def mish(y):
    """Return y tanh(softplus(y))."""
    y = np.maximum(y, _LEAST)
    return y * np.tanh(np.logaddexp(y, 0))


@_activation
def softplus(y):
    """ln(1 + e^y)."""
    return np.logaddexp(y, 0)


_LEAST = -1e9  # what makes a limit of -inf times zero zero

_KERNELS = {
    ACTIVATIONS[kernel.__name__]: kernel
    for kernel in (
        relu,
        relu6,
        leaky_relu,
        hardswish,
        sigmoid,
        tanh,
        silu,
        gelu,
        gelu_tanh,
        mish,
        softplus,
    )
}


def kernel_of(code):
    """The function of an activation, None of NONE."""
    return _KERNELS.get(code)


@functools.cache
def _for_python(code, dtype):
    takes = ctypes.c_int64
    address = kernel_of(code).address(dtype)
    return ctypes.CFUNCTYPE(None, takes, takes, takes, takes)(address)


def activate_array(array, code):
    """Apply the activation to a 1-D contiguous array in place."""
    if config.DISABLE_JIT:
        kernel_of(code).interpret(ActivateArguments(array, 0, 1, array.size))
    else:
        _for_python(code, from_dtype(array.dtype))(array.ctypes.data, 0, 1, array.size)
