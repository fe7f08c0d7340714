"""conv, conv1d, conv2d and conv3d on every backend, against the oracle."""

from __future__ import annotations

import functools
import tracemalloc
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest

import numbaconv as nc
from tests.oracle import reference
from tests.oracle.cases import (
    BY_AXIS,
    BY_NAME,
    CASES,
    LARGE,
    LAST,
    REDUCED,
    SWEEPS,
    Array,
    Case,
    integer_arrays,
    normal_arrays,
    problem,
    wrapping_arrays,
)
from tests.oracle.layouts import LAYOUTS, readonly

FLOATS = ("float16", "float32", "float64", "complex64", "complex128")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")

every_case = pytest.mark.parametrize("case", CASES, ids=str)
reduced_cases = pytest.mark.parametrize("case", REDUCED, ids=str)


def check_equal(y: Array, expected: Array, dtype: Any) -> None:
    """Check shape, dtype and every element of a result that no rounding touches."""
    assert y.shape == expected.shape
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, expected)


def check_exact(y: Array, x: Array, w: Array, b: Array | None, **options: Any) -> None:
    """Check a result against the oracle, element by element."""
    check_equal(y, reference.conv(x, w, b, **options), reference.result_dtype(x, w, b))


def check_bound(y: Array, x: Array, w: Array, b: Array | None, **options: Any) -> None:
    """Check every element's distance from the oracle."""
    check_close(y, reference.conv(x, w, b, **options), reference.error_bound(x, w, b, **options))
    assert y.dtype == reference.result_dtype(x, w, b)


def check_close(y: Array, expected: Array, bound: Array) -> None:
    """Check shape and bound; NaN is within no bound."""
    assert y.shape == expected.shape
    excess = np.abs(y - expected) - bound
    assert np.all(excess <= 0), f"over the bound by {excess.max()}"


@functools.cache
def integer_problem(case: Case) -> tuple[tuple[Array, Array, Array | None], Array]:
    """Operands and result, worked out once for all the tests that share them."""
    operands = integer_arrays(case)
    return operands, reference.conv(*operands, **case.kwargs)


@functools.cache
def normal_problem(
    case: Case, dtype: str
) -> tuple[tuple[Array, Array, Array | None], Array, Array]:
    """Operands, result and bound."""
    operands = normal_arrays(case, dtype)
    bound = reference.error_bound(*operands, **case.kwargs)
    return operands, reference.conv(*operands, **case.kwargs), bound


# Results.


@every_case
def test_exact(case: Case, backend: str):
    operands, expected = integer_problem(case)
    y = nc.conv(*operands, **case.kwargs, backend=backend)
    check_equal(y, expected, np.float32)


@pytest.mark.target
@pytest.mark.usefixtures("small_cache")
@every_case
def test_exact_in_small_blocks(case: Case, backend: str):
    operands, expected = integer_problem(case)
    y = nc.conv(*operands, **case.kwargs, backend=backend)
    check_equal(y, expected, np.float32)


@pytest.mark.target
@every_case
def test_exact_into_a_strided_out_of_nan(case: Case, backend: str):
    """Every element is stored once, from nothing but the operands, and nothing beside it."""
    operands, expected = integer_problem(case)
    around = np.full(tuple(2 * s + 1 for s in case.output), np.nan, np.float32)
    out = around[tuple(slice(1, None, 2) for _ in case.output)]
    assert nc.conv(*operands, **case.kwargs, out=out, backend=backend) is out
    check_equal(out, expected, np.float32)
    out[...] = np.nan
    assert np.all(np.isnan(around))


@pytest.mark.stress
@pytest.mark.target
@pytest.mark.usefixtures("small_cache")
@pytest.mark.parametrize("case", BY_AXIS, ids=str)
def test_exact_under_modes_by_axis(case: Case, backend: str):
    operands, expected = integer_problem(case)
    check_equal(nc.conv(*operands, **case.kwargs, backend=backend), expected, np.float32)


@pytest.mark.target
@pytest.mark.usefixtures("small_cache")
@pytest.mark.parametrize("name", ["lines", "lines_wide", "lines_depthwise", "1d_lines"])
@pytest.mark.parametrize("first", [0, 1, 5, 15, 16])
def test_exact_wherever_a_cache_line_begins(name: str, first: int, backend: str):
    """Stores past the caches need whole lines; what lies before and behind them is stored too."""
    case = BY_NAME[name]
    operands, expected = integer_problem(case)
    around = np.full(expected.size + 64, np.nan, np.float32)
    line = -around.ctypes.data % 64 // 4
    out = around[line + first :][: expected.size].reshape(expected.shape)
    nc.conv(*operands, **case.kwargs, out=out, backend=backend)
    check_equal(out, expected, np.float32)
    assert np.isnan(around[: line + first]).all()
    assert np.isnan(around[line + first + expected.size :]).all()


@pytest.mark.target
@pytest.mark.parametrize("case", SWEEPS, ids=str)
def test_exact_at_every_size(case: Case, backend: str):
    x, w, b = integer_arrays(case)
    y = nc.conv(x, w, b, **case.kwargs, backend=backend)
    check_exact(y, x, w, b, **case.kwargs)


@pytest.mark.target
@pytest.mark.parametrize("case", LARGE, ids=str)
def test_exact_large(case: Case, backend: str):
    x, w, b = integer_arrays(case)
    y = nc.conv(x, w, b, **case.kwargs, backend=backend)
    np.testing.assert_array_equal(y, reference.conv_by_taps(x, w, b, **case.kwargs))


@pytest.mark.nojit
@pytest.mark.parametrize(
    "case",
    [
        BY_NAME["worked_example_padded"],
        problem("tiny_layer", (2, 3, 4, 5), (2, 3, 3, 3), bias=True, padding=1),
        problem("tiny_depthwise", (1, 3, 4, 5), (3, 1, 3, 3), groups=3, stride=2, padding=1),
        problem("tiny_1d_reflect", (1, 2, 7), (3, 2, 3), padding=2, padding_mode="reflect"),
        problem("tiny_3d", (1, 2, 3, 3, 3), (2, 2, 2, 2, 2), dilation=2),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "complex64"])
def test_exact_tiny(case: Case, dtype: str, backend: str):
    x, w, b = integer_arrays(case, dtype)
    y = nc.conv(x, w, b, **case.kwargs, backend=backend)
    check_exact(y, x, w, b, **case.kwargs)


@pytest.mark.target
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@every_case
def test_random_under_the_bound(case: Case, dtype: str, backend: str):
    operands, expected, bound = normal_problem(case, dtype)
    y = nc.conv(*operands, **case.kwargs, backend=backend)
    assert y.dtype == dtype
    check_close(y, expected, bound)


@pytest.mark.parametrize("name", ["1d_bias_padded", "groups_3_bias", "3d_bias_padded"])
def test_each_rank_has_its_function(name: str, backend: str):
    case = BY_NAME[name]
    x, w, b = integer_arrays(case)
    function = {3: nc.conv1d, 4: nc.conv2d, 5: nc.conv3d}[w.ndim]
    check_exact(function(x, w, b, **case.kwargs, backend=backend), x, w, b, **case.kwargs)


def test_positional_order_is_pytorchs(backend: str):
    case = BY_NAME["groups_strided_2"]
    x, w, _ = integer_arrays(case)
    b = np.arange(10, dtype=np.float32)
    y = nc.conv2d(x, w, b, (2, 1), (0, 3), (1, 2), 2, backend=backend)
    check_exact(y, x, w, b, stride=(2, 1), padding=(0, 3), dilation=(1, 2), groups=2)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_numpy_integers_are_integers(rank: int, backend: str):
    shapes = (1, 4, 9, 9, 9)[: rank + 2], (2, 2, 3, 3, 3)[: rank + 2]
    x, w, b = integer_arrays(problem("numpy_integers", *shapes))
    options = {"stride": (2,) * rank, "padding": ((1, 2),) * rank, "dilation": 1, "groups": 2}
    given = {
        "stride": (np.int64(2),) * rank,
        "padding": ((np.int8(1), np.uint8(2)),) * rank,
        "dilation": np.int32(1),
        "groups": np.uint16(2),
    }
    y = nc.conv(x, w, b, **given, backend=backend)
    check_exact(y, x, w, b, **options)


def test_huge_stride_takes_the_first_window(backend: str):
    x, w, _ = integer_arrays(BY_NAME["plain"])
    y = nc.conv2d(x, w, stride=(2**33, 2**40), backend=backend)
    np.testing.assert_array_equal(y, reference.conv(x[..., :3, :3], w))


def test_operands_are_left_alone(backend: str):
    for case in REDUCED:
        operands = [a for a in integer_arrays(case) if a is not None]
        before = [a.copy() for a in operands]
        nc.conv(*operands, **case.kwargs, backend=backend)
        for a, b in zip(operands, before, strict=True):
            np.testing.assert_array_equal(a, b)


def test_activation_none_is_accepted_and_does_nothing(backend: str):
    x, w, b = integer_arrays(BY_NAME["bias"])
    check_exact(nc.conv2d(x, w, b, activation=None, backend=backend), x, w, b)


# Dtypes.


@pytest.mark.parametrize("dtype", [d for d in FLOATS if d != "float16"])
@reduced_cases
def test_float_dtypes_exact(case: Case, dtype: str, backend: str):
    x, w, b = integer_arrays(case, dtype)
    y = nc.conv(x, w, b, **case.kwargs, backend=backend)
    check_exact(y, x, w, b, **case.kwargs)


@pytest.mark.parametrize("dtype", FLOATS)
@reduced_cases
def test_float_dtypes_under_the_bound(case: Case, dtype: str, backend: str):
    x, w, b = normal_arrays(case, dtype)
    y = nc.conv(x, w, b, **case.kwargs, backend=backend)
    check_bound(y, x, w, b, **case.kwargs)


def test_float16_is_computed_in_float32(backend: str):
    """2048 + 1 is lost in float16, and 60000 + 60000 overflows it: only the sum is rounded."""
    x = np.array([[[2048, 1, 1, 1, 60000, 60000, -60000]]], np.float16)
    y = nc.conv1d(x, np.ones((1, 1, 7), np.float16), backend=backend)
    assert y.dtype == np.float16
    assert y.item() == np.float16(62048 + 3)
    y = nc.conv1d(x[..., :4], np.ones((1, 1, 4), np.float16), backend=backend)
    assert y.item() == np.float16(2051)
    y = nc.conv1d(x[..., 4:6], np.ones((1, 1, 2), np.float16), backend=backend)
    assert y.item() == np.inf


@pytest.mark.parametrize("dtype", INTEGERS)
@reduced_cases
def test_integers_wrap_as_numpys_do(case: Case, dtype: str, backend: str):
    x, w, b = wrapping_arrays(case, dtype)
    y = nc.conv(x, w, b, **case.kwargs, backend=backend)
    check_exact(y, x, w, b, **case.kwargs)


PROMOTIONS = [
    ("float32", "float64", None),
    ("float64", "float32", "float32"),
    ("float32", "float32", "float64"),
    ("float16", "float32", None),
    ("float16", "int8", "float16"),
    ("uint8", "float16", None),
    ("uint8", "float32", "float32"),
    ("int16", "float32", None),
    ("int32", "float32", None),
    ("uint8", "int8", None),
    ("uint8", "int8", "int32"),
    ("int8", "int64", "uint16"),
    ("uint32", "int32", None),
    ("uint64", "int64", None),
    ("float32", "complex64", None),
    ("complex64", "float32", None),
    ("complex64", "float32", "float64"),
    ("float64", "complex64", "float64"),  # what NumPy takes None for, as a dtype
    ("complex128", "float64", None),
    ("int32", "complex64", None),
    ("complex128", "int8", "complex64"),
]


@pytest.mark.parametrize(("input", "weight", "bias"), PROMOTIONS, ids=str)
@pytest.mark.parametrize("name", ["groups_3_bias", "photograph"])
def test_mixed_dtypes_promote(name: str, input: str, weight: str, bias: str | None, backend: str):
    case = BY_NAME[name]
    x, w, b = (integer_arrays(case, d or "f4", 3)[i] for i, d in enumerate((input, weight, bias)))
    b = b if bias else None
    y = nc.conv(x, w, b, **case.kwargs, backend=backend)
    check_exact(y, x, w, b, **case.kwargs)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int8"])
@pytest.mark.parametrize("prepared", [False, True])
def test_photographs_are_read_as_they_are(dtype: str, prepared: bool):
    """In any byte order and memory layout; a contiguous one without a copy."""
    case = Case("photograph", (1, 99, 200, 3), (3, 1, 3, 3), {"groups": 3, **LAST})
    x = integer_arrays(case, dtype, 9)[0]
    w = integer_arrays(case, "float32", 9)[1]
    layer = nc.prepare(w, **case.kwargs)
    call = layer if prepared else functools.partial(nc.conv, weight=w, **case.kwargs)
    y = call(x)
    check_exact(y, x, w, None, **case.kwargs)
    for form in (x.astype(x.dtype.newbyteorder()), x[:, ::-1, ::-1].copy()[:, ::-1, ::-1]):
        np.testing.assert_array_equal(call(form), y)
    tracemalloc.start()
    call(x, out=y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.size


@pytest.mark.parametrize("dtype", ["object", "datetime64[s]", "U1", "V4"])
@pytest.mark.parametrize("operand", ["input", "weight", "bias"])
def test_other_dtypes_are_refused(operand: str, dtype: str, backend: str):
    case = BY_NAME["bias"]
    operands = dict(zip(("input", "weight", "bias"), integer_arrays(case), strict=True))
    operands[operand] = np.zeros(operands[operand].shape, dtype)
    with pytest.raises(TypeError, match=rf"\b{operand}\b") as refusal:
        nc.conv(**operands, backend=backend)
    for name in (*FLOATS, *INTEGERS):
        assert name in str(refusal.value)


# Empty and degenerate problems.


def test_empty_batch_has_the_shape_of_its_problem(backend: str):
    x, w = np.zeros((0, 3, 8, 9), np.float32), np.zeros((5, 3, 3, 3), np.float64)
    y = nc.conv2d(x, w, padding=1, stride=2, backend=backend)
    assert y.shape == (0, 5, 4, 5)
    assert y.dtype == np.float64


@pytest.mark.parametrize("dtype", ["float32", "int16", "complex64"])
def test_no_input_channels_give_the_bias(dtype: str, backend: str):
    x, w = np.zeros((2, 0, 5, 7), dtype), np.zeros((3, 0, 3, 3), dtype)
    b = np.arange(1, 4).astype(dtype)
    out = np.full((2, 3, 3, 5), 99, dtype)
    y = nc.conv2d(x, w, b, out=out, backend=backend)
    np.testing.assert_array_equal(y, np.broadcast_to(b[:, None, None], y.shape))
    assert not nc.conv2d(x, w, out=out, backend=backend).any()


# out.


@reduced_cases
def test_out_is_filled_and_returned(case: Case, backend: str):
    x, w, b = integer_arrays(case, np.float64)
    out = np.full(case.output, np.nan)
    assert nc.conv(x, w, b, **case.kwargs, out=out, backend=backend) is out
    check_exact(out, x, w, b, **case.kwargs)


OUT_LAYOUTS: dict[str, Callable[[tuple[int, ...]], Array]] = {
    "fortran": lambda shape: np.empty(shape, np.float32, order="F"),
    "reversed": lambda shape: np.empty(shape, np.float32)[..., ::-1, ::-1],
    "transposed": lambda shape: np.empty(shape[::-1], np.float32).T,
    "every_third": lambda shape: np.empty((*shape[:-1], 3 * shape[-1]), np.float32)[..., ::3],
    "unaligned": lambda shape: np.ndarray(shape, np.float32, bytearray(4 * np.prod(shape) + 1), 1),
    "channels_inside": lambda shape: np.moveaxis(
        np.empty((shape[0], *shape[2:], shape[1]), np.float32), -1, 1
    ),
}


@pytest.mark.parametrize("layout", OUT_LAYOUTS)
@reduced_cases
def test_out_of_any_strides(case: Case, layout: str, backend: str):
    x, w, b = integer_arrays(case)
    out = OUT_LAYOUTS[layout](case.output)
    out[...] = np.nan
    assert nc.conv(x, w, b, **case.kwargs, out=out, backend=backend) is out
    check_exact(out, x, w, b, **case.kwargs)


def test_out_beside_an_operand_in_one_buffer(backend: str):
    """A common base is no overlap."""
    x, w, _ = integer_arrays(BY_NAME["plain"])
    buffer = np.zeros(x.size + 7 * 25 * 35, np.float32)
    beside, out = buffer[: x.size].reshape(x.shape), buffer[x.size :].reshape(1, 7, 25, 35)
    beside[...] = x
    nc.conv2d(beside, w, out=out, backend=backend)
    check_exact(out, x, w, None)


BAD_OUTS: dict[str, Callable[[Array, Array, Array], Any]] = {
    "too_small": lambda x, w, b: np.empty((1, 7, 13, 16), np.float32),
    "of_another_batch": lambda x, w, b: np.empty((2, 7, 13, 17), np.float32),
    "unbatched": lambda x, w, b: np.empty((7, 13, 17), np.float32),
    "channels_last": lambda x, w, b: np.empty((1, 13, 17, 7), np.float32),
    "flat": lambda x, w, b: np.empty(7 * 13 * 17, np.float32),
    "float64": lambda x, w, b: np.empty((1, 7, 13, 17), np.float64),
    "int32": lambda x, w, b: np.empty((1, 7, 13, 17), np.int32),
    "readonly": lambda x, w, b: readonly(np.empty((1, 7, 13, 17), np.float32)),
    "broadcast": lambda x, w, b: np.broadcast_to(np.empty(17, np.float32), (1, 7, 13, 17)),
    "list": lambda x, w, b: np.empty((1, 7, 13, 17), np.float32).tolist(),
    "the_input": lambda x, w, b: x,
    "view_of_the_input": lambda x, w, b: x[:, ::-1],
    "the_weight": lambda x, w, b: w.reshape(1, 7, 13, 17),
    "over_the_bias": lambda x, w, b: np.ndarray((1, 7, 13, 17), np.float32, b.base),
}


@pytest.mark.parametrize("name", BAD_OUTS)
def test_bad_out_is_refused_and_left_alone(name: str, backend: str):
    """A 7-channel 1x1 problem whose input and weight have as many elements as its output."""
    rng = np.random.default_rng(0)
    if name == "the_weight":
        x = rng.standard_normal((1, 221, 13, 17)).astype(np.float32)
        w = rng.standard_normal((7, 221, 1, 1)).astype(np.float32)
    else:
        x = rng.standard_normal((1, 7, 13, 17)).astype(np.float32)
        w = rng.standard_normal((7, 7, 1, 1)).astype(np.float32)
    b = np.ones(7 * 13 * 17, np.float32)[-7:]
    out = BAD_OUTS[name](x, w, b)
    before = np.array(out)
    with pytest.raises((TypeError, ValueError), match=r"\bout\b"):
        nc.conv2d(x, w, b, out=out, backend=backend)
    np.testing.assert_array_equal(np.array(out), before)


# Operands as they come.


@pytest.mark.parametrize("layout", LAYOUTS)
@reduced_cases
def test_operands_of_any_layout(case: Case, layout: str, backend: str):
    x, w, b = integer_arrays(case)
    arrange = LAYOUTS[layout]
    variants = [(arrange(x), w, b), (x, arrange(w), b)]
    variants.append((arrange(x), arrange(w), None if b is None else arrange(b)))
    for operands in variants:
        y = nc.conv(*operands, **case.kwargs, backend=backend)
        assert y.dtype.isnative
        check_exact(y, *operands, **case.kwargs)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int16", "complex64"])
@pytest.mark.parametrize("layout", ["spread", "swapped_bytes", "unaligned", "reversed"])
def test_layouts_in_other_dtypes(layout: str, dtype: str, backend: str):
    operands = integer_arrays(BY_NAME["batch_17_small_maps"], dtype, 2)
    x, w = (LAYOUTS[layout](a) for a in operands[:2] if a is not None)
    check_exact(nc.conv2d(x, w, padding=1, backend=backend), x, w, None, padding=1)


def test_overlapping_operands_are_no_aliasing(backend: str):
    """One image seen as its own sliding windows: the operands may share memory."""
    image = integer_arrays(BY_NAME["one_channel_3x3"])[0][0, 0]
    windows = np.lib.stride_tricks.sliding_window_view(image, (16, 16))[::7, ::9]
    x = windows.reshape(-1, 1, 16, 16)[:, :, ::2]
    w = x[:3, :, :3, :3]
    check_exact(nc.conv2d(x, w, backend=backend), x, w, None)


# NaN and infinity: exactly the outputs whose window reads the value show it.


RECEPTIVE = (
    "plain",
    "padding_same_4x6",
    "kernel_1x7",
    "stride_3x2",
    "dilation_2_stride_3",
    "pointwise_padded",
    "pointwise_stride_2",
    "groups_3_bias",
    "depthwise_padded",
    "depthwise_stride_2",
    "depthwise_dilation_2",
    "depthwise_wide",
    "depthwise_4x6_stride_2",
    "depthwise_9x2",
    "depthwise_67_last",
    "depthwise_multiplier_3",
    "depthwise_last",
    "one_channel_3x3",
    "one_channel_4x6",
    "one_channel_15x15",
    "one_channel_5x5_stride_2",
    "one_channel_5x5_dilation_3",
    "one_channel_1x15",
    "one_channel_15x1",
    "reflect_pairs_stride_2",
    "circular_depthwise",
    "replicate_depthwise",
    "symmetric",
    "last_stride_2",
    "batch_17_small_maps",
    "1d",
    "1d_fir_101",
    "1d_depthwise",
    "3d_stride_1x2x3",
    "3d_depthwise",
    "3d_one_channel_5x5x5",
)


def planted(x: Array, value: float, rng: np.random.Generator) -> list[Array]:
    """Copies of ``x`` with one element replaced: the first, the last, and one at random."""
    copies = []
    for index in (0, x.size - 1, int(rng.integers(x.size))):
        copy = x.copy()
        copy.flat[index] = value
        copies.append(copy)
    return copies


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("value", [np.nan, pytest.param(np.inf, marks=pytest.mark.target), -np.inf])
@pytest.mark.parametrize("case", [BY_NAME[name] for name in RECEPTIVE], ids=str)
def test_receptive_field_of_nan_and_infinity(case: Case, value: float, backend: str):
    """Some weights are zero: 0 * inf is NaN where, and only where, a window reads the infinity."""
    x, w, b = integer_arrays(case)
    for poisoned in planted(x, value, np.random.default_rng(7)):
        y = nc.conv(poisoned, w, b, **case.kwargs, backend=backend)
        check_exact(y, poisoned, w, b, **case.kwargs)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["plain", "groups_2", "one_channel_31x31", "1d", "3d"])
def test_nan_and_infinity_in_weight_and_bias(name: str, value: float, backend: str):
    """Without padding; with it, a zero of the padding may meet an infinite weight."""
    case = BY_NAME[name]
    x, w, _ = integer_arrays(case)
    b = np.ones(w.shape[0], np.float32)
    for poisoned in planted(w, value, np.random.default_rng(7)):
        y = nc.conv(x, poisoned, b, **case.kwargs, backend=backend)
        check_exact(y, x, poisoned, b, **case.kwargs)
    for poisoned in planted(b, value, np.random.default_rng(7)):
        y = nc.conv(x, w, poisoned, **case.kwargs, backend=backend)
        check_exact(y, x, w, poisoned, **case.kwargs)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("name", ["one_channel_3x3", "depthwise_padded", "padding_same"])
def test_receptive_field_in_other_dtypes(name: str, dtype: str, backend: str):
    case = BY_NAME[name]
    x, w, _ = integer_arrays(case, dtype)
    for poisoned in planted(x, np.inf, np.random.default_rng(7)):
        y = nc.conv(poisoned, w, **case.kwargs, backend=backend)
        check_exact(y, poisoned, w, None, **case.kwargs)


def test_subnormals_and_overflow_are_kept(backend: str):
    x = np.array([[[1e-40, 3e38, -3e38]]], np.float32)
    w = np.array([[[1.0]], [[2.0]]], np.float32)
    y = nc.conv1d(x, w, backend=backend)
    np.testing.assert_array_equal(y[0, 0], x[0, 0])
    np.testing.assert_array_equal(y[0, 1], [np.float32(1e-40) * 2, np.inf, -np.inf])


# The same bits.


@pytest.mark.target
@reduced_cases
def test_same_bits_for_any_batch(case: Case, backend: str):
    """An image's result depends on neither its batch nor its place there."""
    _, w, b = normal_arrays(case)
    shape = case.input[1:]
    x = np.random.default_rng(3).standard_normal((7, *shape)).astype(np.float32)
    together = nc.conv(x, w, b, **case.kwargs, backend=backend)
    for i in range(7):
        alone = nc.conv(x[i : i + 1], w, b, **case.kwargs, backend=backend)
        assert alone[0].tobytes() == together[i].tobytes()
        assert nc.conv(x[i], w, b, **case.kwargs, backend=backend).tobytes() == alone[0].tobytes()
        few = nc.conv(x[i:], w, b, **case.kwargs, backend=backend)
        assert few.tobytes() == together[i:].tobytes()


@pytest.mark.parametrize("case", LARGE, ids=str)
def test_same_bits_for_any_number_of_threads(case: Case, backend: str):
    x, w, b = normal_arrays(case)
    every_thread = numba.get_num_threads()
    y = nc.conv(x, w, b, **case.kwargs, backend=backend)
    again = nc.conv(x, w, b, **case.kwargs, backend=backend)
    try:
        numba.set_num_threads(1)
        serial = nc.conv(x, w, b, **case.kwargs, backend=backend)
    finally:
        numba.set_num_threads(every_thread)
    assert y.tobytes() == again.tobytes() == serial.tobytes()


@pytest.mark.parametrize("layout", ["spread", "reversed", "unaligned", "transposed"])
@reduced_cases
def test_same_bits_for_any_layout(case: Case, layout: str, backend: str):
    x, w, b = normal_arrays(case)
    y = nc.conv(x, w, b, **case.kwargs, backend=backend)
    laid_out, asked = LAYOUTS[layout](x), {**case.kwargs, "backend": backend}
    other = nc.conv(laid_out, w, b, **asked)
    if nc.explain(x, w, b, **asked).lowering == nc.explain(laid_out, w, b, **asked).lowering:
        assert y.tobytes() == other.tobytes()
    else:  # channels that are innermost in memory may be added up in another order
        assert layout == "transposed"
        np.testing.assert_allclose(y, other, rtol=1e-4, atol=1e-4)
