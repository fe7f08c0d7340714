"""Gradients and transposed convolutions on every backend, against the oracle."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given

import numbaconv as nc
from numbaconv.dispatch.gradients import find_layer
from numbaconv.problem.plan import find_weight_plan
from tests.oracle import reference
from tests.oracle.cases import (
    BY_NAME,
    LARGE,
    SWEEPS,
    Array,
    Case,
    has_gradient,
    problem,
    transposed_options,
)
from tests.oracle.gradient_cases import (
    FEW,
    GRADIENTS,
    Operands,
    bias_of,
    check_close,
    check_equal,
    draw_operands,
    exact_results,
    integer_operands,
    names,
    normal_operands,
    wrapping_operands,
)
from tests.oracle.layouts import LAYOUTS
from tests.oracle.strategies import Problem, backends, integers, problems

FLOATS = ("float16", "float32", "float64", "complex64", "complex128")
# One of each sign, and of two sizes; the others take longer to compile than to test.
INTEGERS = (
    "int16",
    "uint64",
    *(
        pytest.param(dtype, marks=pytest.mark.stress)
        for dtype in ("int8", "int32", "int64", "uint8", "uint16", "uint32")
    ),
)


every_case = pytest.mark.parametrize("case", GRADIENTS, ids=str)
few_cases = pytest.mark.parametrize("case", FEW, ids=str)


# Results.


def test_cases_are_enough():
    assert len(GRADIENTS) > 100
    assert sum(transposed_options(case) is not None for case in GRADIENTS) > 100
    assert {len(case.weight) for case in GRADIENTS} == {3, 4, 5}


def check_exact(case: Case, backend: str) -> None:
    """Check both gradients and the transposed convolution of a case."""
    o, of_input, of_weight, spread = exact_results(case)
    conv_input, conv_weight, conv_transpose = names(case)
    got = conv_input(case.input, o.w, o.g, **case.kwargs, backend=backend)
    check_equal(got, of_input, np.float32)
    got = conv_weight(o.x, case.weight, o.g, **case.kwargs, backend=backend)
    check_equal(got, of_weight, np.float32)
    if spread is not None:
        options = transposed_options(case)
        out = np.full(spread.shape, np.nan, np.float32)
        got = conv_transpose(o.g, o.w, bias_of(case, o), **options, out=out, backend=backend)
        assert got is out
        check_equal(got, spread, np.float32)


@pytest.mark.target
@every_case
def test_exact(case: Case, backend: str):
    check_exact(case, backend)


@pytest.mark.target
@pytest.mark.parametrize(
    "small_cache", [2_000, pytest.param(20_000, marks=pytest.mark.stress)], indirect=True
)
@every_case
def test_exact_in_small_blocks(case: Case, backend: str, small_cache: None):
    check_exact(case, backend)


@pytest.mark.target
@pytest.mark.parametrize("case", [c for c in SWEEPS if "one_channel" not in c.name], ids=str)
def test_exact_at_every_size(case: Case):
    o, of_input, of_weight, _ = exact_results(case)
    conv_input, conv_weight, _ = names(case)
    check_equal(conv_input(case.input, o.w, o.g, **case.kwargs), of_input, np.float32)
    check_equal(conv_weight(o.x, case.weight, o.g, **case.kwargs), of_weight, np.float32)


LONG = ("zones_in_blocks", "zones_of_many_sums")


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=pytest.mark.stress) if case.name in LONG else case
        for case in LARGE
        if has_gradient(case)
    ],
    ids=str,
)
def test_adjoint_identities_large(case: Case, backend: str):
    """<conv(x, w), g> = <x, conv_input(g)> = <w, conv_weight(g)>; exact, for small integers."""
    draw = lambda rng, s: rng.integers(-1, 1, s, endpoint=True)  # noqa: E731
    o = draw_operands(case, np.float64, draw)
    conv_input, conv_weight, _ = names(case)
    y = reference.conv_by_taps(o.x, o.w, **case.kwargs)
    of_input = conv_input(case.input, o.w, o.g, **case.kwargs, backend=backend)
    of_weight = conv_weight(o.x, case.weight, o.g, **case.kwargs, backend=backend)
    assert np.vdot(y, o.g) == np.vdot(o.x, of_input) == np.vdot(o.w, of_weight)
    single = [a.astype(np.float32) for a in o[:2]] + [o.g.astype(np.float32)]
    got = conv_weight(single[0], case.weight, single[2], **case.kwargs, backend=backend)
    check_equal(got, of_weight, np.float32)
    got = conv_input(case.input, single[1], single[2], **case.kwargs, backend=backend)
    check_equal(got, of_input, np.float32)


@pytest.mark.parametrize("dtype", FLOATS)
@few_cases
def test_random_under_the_bound(case: Case, dtype: str, backend: str):
    o = normal_operands(case, dtype)
    wide = reference.ACCUMULATORS[dtype]
    x, w, g = (np.abs(a.astype(wide)) for a in (o.x, o.w, o.g))
    conv_input, conv_weight, conv_transpose = names(case)
    rank = len(case.weight) - 2

    got = conv_input(case.input, o.w, o.g, **case.kwargs, backend=backend)
    exact = reference.conv_input(case.input, o.w, o.g, **case.kwargs)
    magnitude = reference.conv_input(case.input, w, g, **case.kwargs)
    terms = case.weight[0] // case.kwargs.get("groups", 1) * math.prod(case.weight[2:])
    check_close(got, exact, reference.sum_bound(terms, o.g.dtype, magnitude, exact))
    assert got.dtype == dtype

    got = conv_weight(o.x, case.weight, o.g, **case.kwargs, backend=backend)
    exact = reference.conv_weight(o.x, case.weight, o.g, **case.kwargs)
    magnitude = reference.conv_weight(x, case.weight, g, **case.kwargs)
    images = math.prod(case.output[: -rank - 1])
    products = images * math.prod(case.output[-rank:])
    check_close(got, exact, reference.sum_bound(products, o.g.dtype, magnitude, exact))
    assert got.dtype == dtype

    options = transposed_options(case)
    got = conv_transpose(o.g, o.w, **options, backend=backend)
    exact = reference.conv_transpose(o.g, o.w, **options)
    magnitude = reference.conv_transpose(g, w, **options)
    check_close(got, exact, reference.sum_bound(terms, o.g.dtype, magnitude, exact))
    assert got.dtype == dtype


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", ["channels_23_to_19_padded", "stride_3x2", "depthwise_stride_2"])
def test_integers_wrap(name: str, dtype: str, backend: str):
    case = BY_NAME[name]
    o = wrapping_operands(case, dtype)
    conv_input, conv_weight, conv_transpose = names(case)
    with np.errstate(over="ignore"):
        of_input = reference.conv_input(case.input, o.w, o.g, **case.kwargs)
        of_weight = reference.conv_weight(o.x, case.weight, o.g, **case.kwargs)
    check_equal(conv_input(case.input, o.w, o.g, **case.kwargs, backend=backend), of_input, dtype)
    got = conv_weight(o.x, case.weight, o.g, **case.kwargs, backend=backend)
    check_equal(got, of_weight, dtype)
    got = conv_transpose(o.g, o.w, **transposed_options(case), backend=backend)
    check_equal(got, of_input, dtype)


def test_dtypes_promote(backend: str):
    case = BY_NAME["stride_2_padded"]
    o = integer_operands(case)
    w, g = o.w.astype(np.int16), o.g.astype(np.float64)
    got = nc.grad.conv2d_input(case.input, w, g, **case.kwargs, backend=backend)
    check_equal(got, exact_results(case)[1], np.float64)
    got = nc.grad.conv2d_weight(o.x.astype(np.int8), case.weight, g, **case.kwargs, backend=backend)
    check_equal(got, exact_results(case)[2], np.float64)
    got = nc.conv_transpose2d(g, w, np.ones(5, np.complex64), backend=backend)
    assert got.dtype == np.complex128


@pytest.mark.nojit
@pytest.mark.parametrize(
    "case",
    [
        problem("tiny_layer", (2, 3, 4, 5), (2, 3, 3, 3), padding=1),
        problem("tiny_stride_2", (1, 9, 5, 6), (3, 9, 3, 3), stride=2, padding=1),
        problem("tiny_depthwise", (1, 3, 4, 5), (3, 1, 3, 3), groups=3, stride=2, padding=1),
        problem("tiny_1d", (2, 2, 7), (3, 2, 3), padding=2, dilation=2),
        problem("tiny_3d", (1, 2, 3, 3, 3), (2, 2, 2, 2, 2), stride=2),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["float32", "int32", "complex64"])
def test_exact_tiny(case: Case, dtype: str, backend: str):
    o = integer_operands(case, dtype)
    conv_input, conv_weight, conv_transpose = names(case)
    of_input = reference.conv_input(case.input, o.w, o.g, **case.kwargs)
    check_equal(conv_input(case.input, o.w, o.g, **case.kwargs, backend=backend), of_input, dtype)
    got = conv_weight(o.x, case.weight, o.g, **case.kwargs, backend=backend)
    check_equal(got, reference.conv_weight(o.x, case.weight, o.g, **case.kwargs), dtype)
    options = transposed_options(case)
    got = conv_transpose(o.g, o.w, **options, backend=backend)
    check_equal(got, reference.conv_transpose(o.g, o.w, **options), dtype)


@pytest.mark.parametrize(("c_in", "c_out"), [(1, 2), (2, 1), (3, 40), (40, 3)])
@pytest.mark.parametrize("long", [3, 301])
def test_single_taps_whose_stride_and_padding_make_as_many_outputs(
    c_in: int, c_out: int, long: int
):
    """There are as many outputs as inputs, and yet no output is at the place of its input."""
    padding = ((0, long - 1),)
    case = problem("ends", (3, c_in, long), (c_out, c_in, 1), stride=2, padding=padding)
    assert case.output == (3, c_out, long)
    o = integer_operands(case)
    expected = reference.conv_weight(o.x, case.weight, o.g, **case.kwargs)
    got = nc.grad.conv1d_weight(o.x, case.weight, o.g, **case.kwargs)
    check_equal(got, expected, np.float32)


@pytest.mark.target
@pytest.mark.parametrize("images", [1, 5, 61, 130])
@pytest.mark.parametrize(
    ("c_out", "shape"), [(1, (64, 1)), (7, (3, 4, 5)), (70, (65, 1)), (61, (5, 1))]
)
def test_windows_that_cover_their_maps(images: int, c_out: int, shape: tuple[int, ...]):
    """Their gradients are products of matrices, of which any may be the largest."""
    rng = np.random.default_rng(images)
    x, w, g = (
        rng.integers(-9, 9, size).astype(np.float32)
        for size in ((images, *shape), (c_out, *shape), (images, c_out) + (1,) * (len(shape) - 1))
    )
    flat, rank = g.reshape(images, c_out), len(shape) - 1
    by_input, by_weight = (getattr(nc.grad, f"conv{rank}d_{of}") for of in ("input", "weight"))
    expected = flat @ w.reshape(c_out, -1)
    np.testing.assert_array_equal(by_input(x.shape, w, g), expected.reshape(x.shape))
    expected = flat.T @ x.reshape(images, -1)
    np.testing.assert_array_equal(by_weight(x, w.shape, g), expected.reshape(w.shape))


def test_an_image_of_a_covering_window_has_the_same_bits_in_any_batch():
    rng = np.random.default_rng(0)
    for c_out, elements in ((1, 500), (40, 90), (1000, 40), (4097, 50)):
        w = rng.standard_normal((c_out, elements, 1), "f4")
        g = rng.standard_normal((130, c_out, 1), "f4")
        together = nc.grad.conv1d_input((130, elements, 1), w, g)
        for images in (1, 2, 7, 9, 16, 33, 64, 129):
            alone = nc.grad.conv1d_input((images, elements, 1), w, g[:images])
            np.testing.assert_array_equal(alone, together[:images])


DEPTHWISE = [  # whose weights' gradients are layers with maps as filters, or not
    problem("small_maps", (1, 40, 7, 7), (40, 1, 5, 5), groups=40, stride=3, padding=2),
    problem("strides", (8, 33, 14, 13), (33, 1, 3, 3), groups=33, stride=3, padding=1),
    problem("uneven", (2, 20, 11, 13), (20, 1, 5, 3), groups=20, stride=(2, 1), dilation=(1, 2)),
    problem("volume", (1, 24, 6, 5, 7), (24, 1, 3, 3, 3), groups=24, stride=(1, 2, 1), padding=1),
    problem("volumes", (2, 24, 1, 9, 5), (24, 1, 1, 2, 1), groups=24, stride=3, padding=(1, 0, 0)),
    problem("signals", (4, 24, 40), (24, 1, 9), groups=24, stride=2, padding=3),
    problem("large_maps", (1, 24, 199, 201), (24, 1, 3, 3), groups=24, padding=1),
]


@pytest.mark.target
@pytest.mark.parametrize("case", DEPTHWISE, ids=str)
def test_maps_as_filters(case: Case):
    o, rank = integer_operands(case), len(case.weight) - 2
    got = getattr(nc.grad, f"conv{rank}d_weight")(o.x, case.weight, o.g, **case.kwargs)
    check_equal(got, reference.conv_weight(o.x, case.weight, o.g, **case.kwargs), np.float32)


def is_layer(case: Case) -> bool:
    """Whether a gradient of depthwise weights is a layer with maps as filters."""
    o, rank = integer_operands(case), len(case.weight) - 2
    options = {"stride": 1, "padding": 0, "dilation": 1} | case.kwargs
    del options["groups"]
    plan = find_weight_plan(rank, o.x, case.weight, o.g, *options.values(), groups=case.input[1])
    return find_layer(plan, "direct", 1) is not None


@pytest.mark.parametrize("case", DEPTHWISE, ids=str)
def test_maps_are_filters_where_they_are_small(case: Case):
    assert is_layer(case) == (case.name not in ("volumes", "large_maps"))


def test_maps_of_many_images_are_no_filters():
    """What a block of channels reads of them leaves the cache."""
    assert not is_layer(
        problem("many", (3000, 16, 5, 5), (16, 1, 5, 5), groups=16, stride=3, padding=2)
    )


# Identities.


@pytest.mark.target
@given(problems(modes=("zeros",)), backends)
def test_adjoint_identities(p: Problem, backend: str):
    options = {k: v for k, v in p.options.items() if k != "padding_mode"}
    rank = p.w.ndim - 2
    y = reference.conv(p.x, p.w, **options)
    g = integers(y.shape, 7, p.x.dtype.name)
    of_input = getattr(nc.grad, f"conv{rank}d_input")(p.x.shape, p.w, g, **options, backend=backend)
    of_weight = getattr(nc.grad, f"conv{rank}d_weight")(
        p.x, p.w.shape, g, **options, backend=backend
    )
    np.testing.assert_array_equal(of_input, reference.conv_input(p.x.shape, p.w, g, **options))
    np.testing.assert_array_equal(of_weight, reference.conv_weight(p.x, p.w.shape, g, **options))
    total = np.vdot(y.astype("f8"), g.astype("f8"))
    assert total == np.vdot(p.x.astype("f8"), of_input.astype("f8"))
    assert total == np.vdot(p.w.astype("f8"), of_weight.astype("f8"))


@few_cases
def test_central_differences(case: Case, backend: str):
    """The slope of sum(sin(conv(x, w))), along random directions."""
    o = normal_operands(case, np.float64)
    conv_input, conv_weight, _ = names(case)

    def loss(x: Array, w: Array) -> float:
        return float(np.sin(nc.conv(x, w, **case.kwargs, backend=backend)).sum())

    x, w = o.x / 8, o.w / 8
    g = np.cos(nc.conv(x, w, **case.kwargs, backend=backend))
    of_input = conv_input(case.input, w, g, **case.kwargs, backend=backend)
    of_weight = conv_weight(x, case.weight, g, **case.kwargs, backend=backend)
    rng = np.random.default_rng(1)
    dx, dw = rng.standard_normal(case.input), rng.standard_normal(case.weight)
    h = 1e-5 / max(1, math.sqrt(math.prod(case.weight[1:])))

    def slope(dx: Any, dw: Any) -> float:
        # Two steps, combined so that the error of third order drops out (Richardson).
        one = (loss(x + h * dx, w + h * dw) - loss(x - h * dx, w - h * dw)) / (2 * h)
        two = (loss(x + 2 * h * dx, w + 2 * h * dw) - loss(x - 2 * h * dx, w - 2 * h * dw)) / (
            4 * h
        )
        return (4 * one - two) / 3

    for gradient, direction, measured in (
        (of_input, dx, slope(dx, 0)),
        (of_weight, dw, slope(0, dw)),
    ):
        scale = np.linalg.norm(gradient) * np.linalg.norm(direction)
        assert abs(measured - np.vdot(gradient, direction)) <= 1e-7 * scale


def test_transposed_convolution_is_the_gradient_of_the_input(backend: str):
    o = normal_operands(BY_NAME["stride_2_padded"])
    spread = nc.conv_transpose2d(o.g, o.w, stride=2, padding=1, backend=backend)
    gradient = nc.grad.conv2d_input((1, 5, 27, 37), o.w, o.g, 2, 1, backend=backend)
    assert spread.tobytes() == gradient.tobytes()


# Threads.


@pytest.mark.parametrize(
    "case",
    [c for c in LARGE if has_gradient(c)]
    + [problem("many_images", (32, 17, 15, 15), (19, 17, 3, 3), padding=1)],
    ids=str,
)
def test_same_bits_for_any_number_of_threads(case: Case):
    o = normal_operands(case)
    conv_weight = names(case)[1]
    results = set()
    before = numba.get_num_threads()
    try:
        for threads in range(1, numba.config.NUMBA_NUM_THREADS + 1):
            numba.set_num_threads(threads)
            for backend in ("direct", "im2col"):
                of_weight = conv_weight(o.x, case.weight, o.g, **case.kwargs, backend=backend)
                results.add((backend, of_weight.tobytes()))
    finally:
        numba.set_num_threads(before)
    assert len(results) <= 2
    assert {name for name, _ in results} == {"direct", "im2col"}


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pointwise_weights_of_unequal_channels(groups: int, dtype: str):
    """The fewer are transposed, inputs or outputs; many weights are finished in parts."""
    rng = np.random.default_rng(groups)
    for c_in, c_out, (n, h, w) in (
        (310, 23, (2, 21, 37)),
        (23, 310, (2, 5, 3)),
        (12, 5, (1, 9, 99)),
    ):
        x = rng.integers(-9, 9, (n, groups * c_in, h, w)).astype(dtype)
        g = rng.integers(-9, 9, (n, groups * c_out, h, w)).astype(dtype)
        expected = np.einsum(
            "ngihw,ngohw->goi", x.reshape(n, groups, c_in, h, w), g.reshape(n, groups, c_out, h, w)
        )
        size = groups * c_out, c_in, 1, 1
        got = nc.grad.conv2d_weight(x, size, g, groups=groups)
        np.testing.assert_array_equal(got, expected.reshape(size))


def test_same_bits_with_many_threads(run_script: Any):
    code = """
import hashlib, numpy as np, numbaconv as nc
rng = np.random.default_rng(0)
for x, w, options in (
    ((3, 67, 29, 31), (61, 67, 3, 3), dict(padding=1)),
    ((1, 131, 14, 14), (137, 131, 3, 3), dict(padding=1)),
    ((1, 40, 4001), (37, 40, 3), dict(stride=2)),
    ((2, 67, 57, 53), (67, 1, 3, 3), dict(groups=67, padding=1)),
    ((2, 301, 31, 29), (19, 301, 1, 1), dict()),
    ((1, 1, 521, 509), (1, 1, 5, 5), dict()),
    ((2, 67, 14, 13), (67, 1, 5, 5), dict(groups=67, padding=2)),
    ((5, 7, 33, 31), (3, 7, 33, 31), dict()),
):
    x, w = rng.standard_normal(x, "f4"), rng.standard_normal(w, "f4")
    g = rng.standard_normal(nc.conv(x, w, **options).shape, "f4")
    gradient = getattr(nc.grad, f"conv{x.ndim - 2}d_weight")(x, w.shape, g, **options)
    print(hashlib.sha256(gradient.tobytes()).hexdigest())
"""
    printed = {run_script("-c", code, NUMBA_NUM_THREADS=n).stdout for n in ("1", "2", "7")}
    assert len(printed) == 1
    assert len(set(printed.pop().split())) == 8


# Arrays.


@pytest.mark.parametrize("layout", LAYOUTS)
def test_operands_of_any_layout(layout: str, backend: str):
    case = BY_NAME["groups_3_bias"]
    o = Operands(*(LAYOUTS[layout](a) for a in integer_operands(case) if a is not None))
    got = nc.grad.conv2d_input(case.input, o.w, o.g, **case.kwargs, backend=backend)
    np.testing.assert_array_equal(got, reference.conv_input(case.input, o.w, o.g, **case.kwargs))
    got = nc.grad.conv2d_weight(o.x, case.weight, o.g, **case.kwargs, backend=backend)
    np.testing.assert_array_equal(got, reference.conv_weight(o.x, case.weight, o.g, **case.kwargs))
    bias = LAYOUTS[layout](np.arange(9, dtype=np.float32))
    got = nc.conv_transpose2d(o.g, o.w, bias, **case.kwargs, backend=backend)
    np.testing.assert_array_equal(got, reference.conv_transpose(o.g, o.w, bias, **case.kwargs))


def test_nothing_else_is_read_or_written(backend: str):
    """Operands and result amid NaN."""
    case = BY_NAME["stride_3x2"]
    o, of_input, _, _ = exact_results(case)
    w, g = LAYOUTS["spread"](o.w), LAYOUTS["spread"](o.g)
    around = np.full((3, 5, 29, 75), np.nan, np.float32)
    out = around[1:2, :, 1:-1, 1:-1:2]
    nc.conv_transpose2d(g, w, **transposed_options(case), out=out, backend=backend)
    np.testing.assert_array_equal(out, of_input)
    out[...] = np.nan
    assert np.all(np.isnan(around))


def test_nan_and_infinity_reach_what_they_are_part_of(backend: str):
    """And no other sum: neither through padding nor from the neighbouring row."""
    for channels in (1, 17):
        x = np.ones((1, channels, 5, 6), np.float32)
        x[0, 0, 2, 5] = np.inf
        g = np.ones((1, 2, 3, 4), np.float32)
        got = nc.grad.conv2d_weight(x, (2, channels, 3, 3), g, backend=backend)
        np.testing.assert_array_equal(got, reference.conv_weight(x, got.shape, g))
        assert np.isinf(got).sum() == 6
        w = np.ones((2, channels, 3, 3), np.float32)
        g[0, 1, 2, 3] = np.nan
        got = nc.grad.conv2d_input(x.shape, w, g, backend=backend)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(reference.conv_input(x.shape, w, g)))


def test_empty(backend: str):
    x, w = np.zeros((0, 3, 5, 7), np.float32), np.ones((4, 3, 3, 3), np.float32)
    g = np.zeros((0, 4, 3, 5), np.float32)
    assert nc.grad.conv2d_input(x.shape, w, g, backend=backend).shape == x.shape
    of_weight = nc.grad.conv2d_weight(x, w.shape, g, backend=backend)
    check_equal(of_weight, np.zeros(w.shape), np.float32)
    assert nc.conv_transpose2d(g, w, backend=backend).shape == (0, 3, 5, 7)
    spread = nc.conv_transpose2d(
        np.zeros((2, 0, 3, 5), np.float32), w[:0], np.arange(3, dtype=np.float32), backend=backend
    )
    assert np.all(spread == np.arange(3)[:, None, None])


# PyTorch.


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@few_cases
def test_against_pytorch(case: Case, dtype: str, backend: str):
    torch = pytest.importorskip("torch")
    if any(isinstance(v, str) for v in case.kwargs.values()):
        pytest.skip("PyTorch's padding is numbers")
    o = integer_operands(case, dtype)
    rank = len(case.weight) - 2
    conv_input, conv_weight, conv_transpose = names(case)
    x, w = (torch.from_numpy(a).requires_grad_() for a in (o.x, o.w))
    conv = getattr(torch.nn.functional, f"conv{rank}d")
    conv(x, w, **case.kwargs).backward(torch.from_numpy(o.g))
    got = conv_input(case.input, o.w, o.g, **case.kwargs, backend=backend)
    check_equal(got, x.grad.resolve_conj().numpy(), dtype)
    got = conv_weight(o.x, case.weight, o.g, **case.kwargs, backend=backend)
    check_equal(got, w.grad.resolve_conj().numpy(), dtype)
    options = transposed_options(case)
    padding = options["padding"]
    if any(lo != hi for lo, hi in padding):
        return
    options["padding"] = tuple(lo for lo, _ in padding)
    theirs = getattr(torch.nn.functional, f"conv_transpose{rank}d")
    expected = theirs(torch.from_numpy(o.g), w.detach(), **options).numpy()
    check_equal(conv_transpose(o.g, o.w, **options, backend=backend), expected, dtype)


def test_positional_order_is_pytorchs():
    o = integer_operands(BY_NAME["groups_strided_2"])
    got = nc.grad.conv2d_input(o.x.shape, o.w, o.g, 2, 0, 2, 2)
    np.testing.assert_array_equal(got, exact_results(BY_NAME["groups_strided_2"])[1])
    got = nc.grad.conv2d_weight(o.x, o.w.shape, o.g, 2, 0, 2, 2)
    np.testing.assert_array_equal(got, exact_results(BY_NAME["groups_strided_2"])[2])
    got = nc.conv_transpose2d(o.g, o.w, None, 2, 0, 0, 2, 2)
    expected = reference.conv_transpose(o.g, o.w, None, 2, 0, 0, 2, 2)
    np.testing.assert_array_equal(got, expected)


# What is refused.

X, W, G = (np.zeros(s, np.float32) for s in ((2, 6, 9, 11), (4, 3, 3, 3), (2, 4, 4, 5)))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"input_size": (2, 6, 8, 11)}, ValueError, r"input_size.*9 to 10"),
        ({"input_size": (2, 6, 9, 13)}, ValueError, r"input_size.*11 to 12"),
        ({"input_size": (2, 5, 9, 11)}, ValueError, r"input_size.*5 channels.*6"),
        ({"input_size": (1, 6, 9, 11)}, ValueError, r"input_size.*images"),
        ({"input_size": (6, 9, 11)}, ValueError, r"input_size.*batched"),
        ({"input_size": (9, 11)}, ValueError, r"input_size.*\(N, C_in, H, W\)"),
        ({"input_size": (2, 6, 9, 11.0)}, TypeError, r"input_size"),
        ({"input_size": (2, 6, -9, 11)}, ValueError, r"input_size"),
        ({"input_size": 9}, TypeError, r"input_size.*tuple"),
        ({"input_size": (2, 6, 9, 11), "padding": 9}, ValueError, r"input_size.*no size"),
        ({"padding": "same"}, ValueError, r"input_size.*7 to 8"),
        ({"padding": "full"}, ValueError, r"input_size.*5 to 6"),
        ({"weight": W[0]}, ValueError, r"weight"),
        ({"weight": W.astype("U1")}, TypeError, r"weight.*<U1"),
        ({"weight": "W"}, TypeError, r"weight"),
        ({"grad_output": G[..., 0]}, ValueError, r"batched|grad_output"),
        ({"grad_output": G[:, :3]}, ValueError, r"grad_output.*3 channels.*4"),
        ({"stride": 0}, ValueError, r"stride"),
        ({"stride": 1.5}, TypeError, r"stride"),
        ({"dilation": (1, 1, 1)}, ValueError, r"dilation"),
        ({"groups": 3}, ValueError, r"groups"),
        ({"backend": "fast"}, ValueError, r"backend"),
        ({"backend": "cuda"}, nc.BackendUnavailableError, r"cuda"),
    ],
)
def test_input_gradient_refuses(change: dict[str, Any], error: Any, message: str):
    arguments = {"input_size": X.shape, "weight": W, "grad_output": G, "stride": 2, "groups": 2}
    nc.grad.conv2d_input(**arguments)
    with pytest.raises(error, match=message):
        nc.grad.conv2d_input(**(arguments | change))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"weight_size": (4, 3, 5, 3)}, ValueError, r"weight_size.*2 to 3"),
        ({"weight_size": (4, 3, 3, 1)}, ValueError, r"weight_size.*2 to 3"),
        ({"weight_size": (4, 2, 3, 3)}, ValueError, r"input.*6 channels.*4"),
        ({"weight_size": (5, 3, 3, 3)}, ValueError, r"groups = 2.*5"),
        ({"weight_size": (6, 3, 3, 3)}, ValueError, r"grad_output has 4 channels.*6"),
        ({"weight_size": (4, 3, 0, 3)}, ValueError, r"weight_size.*empty"),
        ({"weight_size": (4, 3, 3)}, ValueError, r"weight_size.*\(C_out, C_in/groups"),
        ({"weight_size": "4333"}, TypeError, r"weight_size"),
        ({"input": X[0]}, ValueError, r"batched"),
        ({"input": X.astype(object)}, TypeError, r"input.*object"),
        ({"padding": 4}, ValueError, r"weight_size.*10 to 11"),
        ({"padding": "same"}, ValueError, r"grad_output has 4.*5"),
        ({"padding": "full"}, ValueError, r"weight_size.*no size"),
        ({"stride": 9}, ValueError, r"weight_size.*no size"),
        ({"grad_output": None}, TypeError, r"grad_output"),
    ],
)
def test_weight_gradient_refuses(change: dict[str, Any], error: Any, message: str):
    arguments = {"input": X, "weight_size": W.shape, "grad_output": G, "stride": 2, "groups": 2}
    nc.grad.conv2d_weight(**arguments)
    with pytest.raises(error, match=message):
        nc.grad.conv2d_weight(**(arguments | change))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"input": G[:, :3]}, ValueError, r"groups"),
        ({"input": np.zeros((2, 6, 4, 5), np.float32)}, ValueError, r"weight has 4.*input has 6"),
        ({"input": G[:, :, :0]}, ValueError, r"input has an empty spatial axis"),
        ({"weight": W[..., :0]}, ValueError, r"weight has an empty spatial axis"),
        ({"bias": np.zeros(4, np.float32)}, ValueError, r"bias.*\(6,\)"),
        ({"padding": "some"}, ValueError, r"padding"),
        ({"padding": 9}, ValueError, r"padding.*leaves"),
        ({"padding": -1}, ValueError, r"padding"),
        ({"output_padding": 2}, ValueError, r"output_padding.*smaller"),
        ({"output_padding": -1}, ValueError, r"output_padding"),
        ({"output_padding": (1, 0, 0)}, ValueError, r"output_padding"),
        ({"stride": 2**60}, ValueError, r"stride"),
        ({"out": np.zeros((2, 6, 9, 12), np.float32)}, ValueError, r"out has shape"),
        ({"out": np.zeros((2, 6, 9, 11))}, TypeError, r"out has dtype"),
        ({"backend": "cuda"}, nc.BackendUnavailableError, r"cuda"),
    ],
)
def test_transposed_convolution_refuses(change: dict[str, Any], error: Any, message: str):
    arguments = {"input": G, "weight": W, "stride": 2, "groups": 2}
    assert nc.conv_transpose2d(**arguments).shape == (2, 6, 9, 11)
    with pytest.raises(error, match=message):
        nc.conv_transpose2d(**(arguments | change))


@pytest.mark.parametrize("size", range(4, 14))
@pytest.mark.parametrize("padding", [0, 1, ((2, 0),), "valid", "full", "same", "same_lower"])
def test_the_sizes_named_are_those_that_fit(size: int, padding: Any):
    """What an error says would fit, does, and its neighbours do not."""
    kernel, options = 3, {"stride": 3, "padding": padding, "dilation": 2}
    x, w = np.zeros((1, 1, size), np.float32), np.zeros((1, 1, kernel), np.float32)
    (axis,) = reference.axes_of((size,), (kernel,), **options)
    if axis.extent > size + axis.lo + axis.hi:
        return
    g = np.zeros((1, 1, axis.out), np.float32)

    def fits(call: Any) -> bool:
        try:
            call()
        except ValueError:
            return False
        return True

    for n in range(1, 20):
        (other,) = reference.axes_of((n,), (kernel,), **options)
        right = other.extent <= n + other.lo + other.hi and other.out == axis.out
        assert fits(lambda n=n: nc.grad.conv1d_input((1, 1, n), w, g, **options)) == right
        (other,) = reference.axes_of((size,), (n,), **options)
        right = other.extent <= size + other.lo + other.hi and other.out == axis.out
        assert fits(lambda n=n: nc.grad.conv1d_weight(x, (1, 1, n), g, **options)) == right
