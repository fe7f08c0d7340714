"""Gradients and transposed convolutions: cases, operands, and results of integers."""

from __future__ import annotations

import functools
import zlib
from typing import Any, NamedTuple

import numpy as np

import numbaconv as nc
from tests.oracle import reference
from tests.oracle.cases import (
    CASES,
    REDUCED,
    Array,
    Case,
    has_gradient,
    problem,
    transposed_options,
)

OWN_CASES = (
    # Phases: taps that several share, that none has, and that skip.
    problem("stride_2_kernel_2", (2, 5, 12, 14), (7, 5, 2, 2), stride=2),
    problem("stride_2_kernel_4", (1, 5, 13, 15), (7, 5, 4, 4), stride=2, padding=1, bias=True),
    problem("stride_3_kernel_5", (1, 5, 17, 19), (7, 5, 5, 5), stride=3, padding=2),
    problem("stride_4_dilation_2", (1, 5, 29, 31), (7, 5, 5, 3), stride=4, dilation=2, padding=3),
    problem("stride_6_dilation_4", (1, 5, 29, 31), (7, 5, 4, 3), stride=6, dilation=4, bias=True),
    problem("stride_2_dilation_3", (1, 23, 21, 22), (19, 23, 3, 3), stride=2, dilation=3),
    problem("stride_2_unread_end", (1, 5, 14, 16), (7, 5, 3, 3), stride=2),
    problem("stride_5_unread_end", (1, 23, 19, 19), (19, 23, 3, 3), stride=5, bias=True),
    problem("stride_2_pairs", (2, 5, 13, 17), (7, 5, 3, 3), stride=2, padding=((2, 0), (0, 1))),
    problem("patches_4x4", (2, 3, 16, 20), (37, 3, 4, 4), stride=4, bias=True),
    # Depthwise: all phases at once, on rows of several vectors; and phases by themselves.
    problem("depthwise_stride_2", (2, 3, 9, 75), (3, 1, 5, 3), stride=2, groups=3, padding=(1, 2)),
    problem("depthwise_stride_3", (1, 7, 19, 59), (7, 1, 4, 5), stride=3, groups=7, bias=True),
    problem("depthwise_stride_1_4", (2, 5, 6, 90), (5, 1, 3, 7), stride=(1, 4), groups=5),
    problem("depthwise_stride_3_2", (2, 5, 9, 20), (5, 1, 3, 3), stride=(3, 2), groups=5),
    problem("depthwise_gaps", (2, 5, 9, 20), (5, 1, 2, 1), stride=2, groups=5, bias=True),
    problem("1d_depthwise_stride_3", (2, 5, 120), (5, 1, 4), stride=3, groups=5, padding=2),
    # Tiles of the input: several vectors of channels, several images or rows to a chunk.
    problem("channels_35_to_33", (1, 35, 9, 11), (33, 35, 3, 3), padding=1),
    problem("channels_67_pointwise", (2, 67, 7, 5), (19, 67, 1, 1)),
    problem("channels_11_pointwise_long", (2, 11, 13, 12), (9, 11, 1, 1)),  # lanes are pixels
    problem("one_pixel_wide", (2, 6, 37, 1), (4, 6, 5, 1), stride=(2, 1), padding=(2, 0)),
    problem("channels_33_stride_3", (2, 33, 17, 13), (5, 33, 3, 2), stride=3, padding=1),
    problem("channels_33_groups_3", (2, 99, 5, 7), (15, 33, 3, 3), groups=3, padding=1),
    problem("images_29_tiny", (29, 19, 3, 4), (5, 19, 2, 2)),
    problem("long_row", (1, 19, 1, 1301), (3, 19, 1, 3), padding=(0, 1)),
    problem("1d_long", (2, 9, 1301), (3, 9, 3), padding=2, dilation=2),
    problem("1d_long_one_channel", (1, 1, 2311), (3, 1, 5), padding=2),
    problem("3d_stride_2_odd", (2, 9, 5, 6, 7), (5, 9, 3, 3, 3), stride=2, padding=1, bias=True),
    problem("3d_depthwise_stride_2", (2, 5, 5, 6, 7), (5, 1, 3, 3, 3), stride=2, groups=5),
)
GRADIENTS = tuple(case for case in CASES if has_gradient(case)) + OWN_CASES
FEW = tuple(case for case in REDUCED if has_gradient(case)) + OWN_CASES[3:6]


class Operands(NamedTuple):
    """What the gradients of a case are made of."""

    x: Array
    w: Array
    b: Array | None
    g: Array


def draw_operands(case: Case, dtype: Any, draw: Any) -> Operands:
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))
    dtype = np.dtype(dtype)

    def array(shape: tuple[int, ...]) -> Array:
        values = draw(rng, shape)
        if dtype.kind == "c":
            values = values + 1j * draw(rng, shape)
        return np.asarray(values).astype(dtype)

    bias = array(case.weight[:1]) if case.bias else None
    return Operands(array(case.input), array(case.weight), bias, array(case.output))


def integer_operands(case: Case, dtype: Any = np.float32) -> Operands:
    least = 0 if np.dtype(dtype).kind == "u" else -4
    return draw_operands(case, dtype, lambda rng, s: rng.integers(least, 4, s, endpoint=True))


def normal_operands(case: Case, dtype: Any = np.float32) -> Operands:
    return draw_operands(case, dtype, lambda rng, shape: rng.standard_normal(shape))


def wrapping_operands(case: Case, dtype: Any) -> Operands:
    info = np.iinfo(dtype)
    return draw_operands(
        case, dtype, lambda rng, s: rng.integers(info.min, info.max, s, dtype, endpoint=True)
    )


def names(case: Case) -> tuple[Any, Any, Any]:
    """The functions of the case's rank: both gradients, and transposed convolution."""
    rank = len(case.weight) - 2
    gradients = (getattr(nc.grad, f"conv{rank}d_{of}") for of in ("input", "weight"))
    return (*gradients, getattr(nc, f"conv_transpose{rank}d"))


def bias_of(case: Case, o: Operands) -> Array | None:
    """A bias for the transposed convolution."""
    c = case.input[-len(case.weight) + 1]
    return (np.arange(c) % 7).astype(o.w.dtype) if case.bias else None


@functools.cache
def exact_results(case: Case) -> tuple[Operands, Array, Array, Array | None]:
    """Operands of integers, both gradients, and the transposed convolution where there is one."""
    o = integer_operands(case)
    options = transposed_options(case)
    return (
        o,
        reference.conv_input(case.input, o.w, o.g, **case.kwargs),
        reference.conv_weight(o.x, case.weight, o.g, **case.kwargs),
        options and reference.conv_transpose(o.g, o.w, bias_of(case, o), **options),
    )


def check_equal(got: Array, expected: Array, dtype: Any) -> None:
    assert got.shape == expected.shape
    assert got.dtype == dtype
    assert got.flags.c_contiguous
    np.testing.assert_array_equal(got, expected)


def check_close(got: Array, expected: Array, bound: Array) -> None:
    assert got.shape == expected.shape
    excess = np.abs(got - expected) - bound
    assert np.all(excess <= 0), f"over the bound by {excess.max()}"
