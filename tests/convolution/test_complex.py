"""Complex problems: of input, sums and what is added, parts alone are copied in another order."""

from __future__ import annotations

import random
import tracemalloc
from itertools import product
from typing import Any

import numba
import numpy as np
import pytest

import numbaconv as nc
from numbaconv.cpu import complex_parts
from numbaconv.problem import parts
from numbaconv.problem import plan as plans
from numbaconv.problem.padding_modes import padded_index
from numbaconv.problem.shape import CIRCULAR, CONSTANT, REFLECT, REPLICATE, SYMMETRIC, ZEROS
from tests.oracle import reference
from tests.oracle.cases import Array, integer_arrays
from tests.oracle.paths import TRANSFORMS
from tests.oracle.problems import LAYOUTS, OUT_LAYOUTS, choose, varied_case

equal = np.testing.assert_array_equal

BACKENDS = ("direct", "im2col", *TRANSFORMS)
LAST = {"data_format": "channels_last"}


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small problems are cut into many parts, as large ones are."""
    monkeypatch.setattr(complex_parts, "PIECE_BYTES", 400)
    monkeypatch.setattr(parts, "LEAST_EXTENTS", 0)
    monkeypatch.setattr(plans, "_plans", {})  # which may know the problem already


# Of the input, of the weights, and of the result.
TYPES = (
    ("complex64", "complex64", None),
    ("complex64", "float32", None),
    ("float32", "complex64", None),
    ("complex64", "complex64", "complex128"),
)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("backend", BACKENDS)
def test_random_problems(backend: str):
    """Plain, prepared, into an `out` and with something added: whole numbers are equal."""
    for number in range(25):
        integer = random.Random(f"complex/{number}").randint
        case = varied_case(integer, str(number))
        of_input, of_weight, wanted = choose(integer, TYPES)
        x = choose(integer, LAYOUTS)(integer_arrays(case, of_input)[0], integer)
        _, w, b = integer_arrays(case, of_weight)
        expected = reference.conv_by_taps(x, w, b, **case.kwargs)
        add = integer_arrays(case, of_input)[0].ravel()
        add = np.resize(add, expected.shape) if integer(0, 1) else None
        expected = (expected if add is None else expected + add).astype(wanted or "complex64")
        options = case.kwargs | {"out_dtype": wanted, "backend": backend}
        out = choose(integer, OUT_LAYOUTS)(np.full_like(expected, 77), integer)
        layer = nc.prepare(w, b, **options)
        results = (
            nc.conv(x, w, b, **options, add=add),
            nc.conv(x, w, b, **options, add=add, out=out),
            layer(x, add=add),
        )
        assert results[1] is out
        for y in results:
            assert y.dtype == expected.dtype
            got = np.rint(y) if backend in TRANSFORMS else y
            equal(got, expected, err_msg=f"{number}: {case.kwargs}")


@pytest.mark.usefixtures("small_parts")
def test_values_that_are_not_finite_stay_in_their_windows():
    for mode in ("zeros", "reflect", "circular"):
        x = np.ones((1, 1, 40, 9), np.complex64)
        x[0, 0, 20, 4] = complex(np.nan, 0)
        w = np.ones((1, 1, 3, 3), np.complex64)
        y = nc.conv2d(x, w, padding=1, padding_mode=mode)[0, 0]
        inside = np.zeros((40, 9), bool)
        inside[19:22, 3:6] = True
        equal(np.isnan(y), inside)


@pytest.mark.usefixtures("small_parts")
def test_padding_with_a_number_where_rows_lie_outside():
    x = np.ones((1, 2, 30, 4), np.complex64)
    padded = np.full((1, 2, 38, 7), 2 - 3j, np.complex64)
    padded[:, :, 5:35, 2:6] = x
    w = np.arange(36, dtype=np.complex64).reshape(3, 2, 3, 2)
    options: Any = {"padding": ((5, 3), (2, 1)), "padding_value": 2 - 3j}
    equal(nc.conv2d(x, w, **options), nc.conv2d(padded, w))


@pytest.mark.usefixtures("small_parts")
def test_rows_far_apart_and_windows_wider_than_the_map():
    """What such a part reads is no more than the map."""
    rng = np.random.default_rng(0)
    x = rng.integers(-5, 5, (1, 1, 6, 80)) + 1j * rng.integers(-5, 5, (1, 1, 6, 80))
    w = rng.integers(-5, 5, (1, 1, 2, 2)) + 0j
    for options in (
        {"padding": (200, 0), "stride": (90, 1)},
        {"padding": (300, 1), "dilation": (300, 1)},
    ):
        equal(nc.conv2d(x, w, **options), reference.conv_by_taps(x, w, None, **options))
        plan = plans.find_plan(x, w, None, tuple(plans.Options(**options)))
        assert max(part.shape.size[1] for part in parts.cut_apart(plan.shape, 50)) <= 6


LARGE: list[tuple[str, str, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ("uint8", "complex64", (1, 1, 1600, 1600), (1, 1, 3, 3), {"padding": 1}),
    ("float32", "complex64", (1, 1, 1600, 1600), (1, 1, 5, 5), {}),
    ("complex64", "float32", (1, 1600, 1600, 1), (1, 1, 3, 3), {"padding": 1, **LAST}),
    ("complex64", "complex64", (8, 500, 500), (2, 8, 3, 3), {"padding_mode": "reflect"}),
    ("complex64", "complex64", (1, 1, 3_000_000), (1, 1, 65), {"padding_mode": "circular"}),
]


@pytest.mark.parametrize(("dtype", "of_weight", "shape", "weight", "options"), LARGE, ids=str)
def test_no_array_of_the_input(dtype, of_weight, shape, weight, options, monkeypatch):
    """Nor of the result beside the caller's."""
    rng = np.random.default_rng(0)
    x, w = rng.integers(0, 100, shape).astype(dtype), np.ones(weight, of_weight)
    options = {"padding": 1} | options
    out = nc.conv(x, w, **options)
    monkeypatch.setenv("NUMBACONV_KEEP_MB", "0")  # or NumPy would not see what is lent
    for source in (x, np.flip(x)):
        tracemalloc.start()
        nc.conv(source, w, **options, out=out)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 3 * complex_parts.PIECE_BYTES < 8 * x.size / 4


def test_rows_of_a_copy():
    """The runs are what `padded_index` says of each row."""
    modes = (CONSTANT, ZEROS, REFLECT, REPLICATE, CIRCULAR, SYMMETRIC)
    for size, mode, begin, count in product((1, 2, 5), modes, range(-12, 9), range(1, 15)):
        rows = np.full(count, -9)
        for run in parts._runs(begin, count, size, mode):
            assert (rows[run.target] == -9).all()
            rows[run.target] = -1 if run.source is None else np.arange(size)[run.source]
        equal(rows, [padded_index(row, size, mode) for row in range(begin, begin + count)])


def test_large_kernels_have_parts_of_several_extents():
    """Or parts would read, and transform, mostly what their neighbours do."""
    options = {"padding": 64, "backend": "fft"}
    x, w = np.zeros((1, 1, 2000, 500), np.complex64), np.zeros((1, 1, 129, 129), np.complex64)
    plan = plans.find_plan(x, w, None, tuple(plans.Options(padding=64)))
    found = list(parts.cut_apart(plan.shape, 100_000))
    assert len(found) == 3
    assert sum(part.shape.size[1] for part in found) == 2000 + 2 * 64 + 2 * 128
    assert nc.explain(x, w, **options).backend == "fft"


@pytest.mark.usefixtures("small_parts")
@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="there is no compiled code to call from")
def test_compiled_code_has_the_same_bits():
    @numba.njit
    def call(x, w, b, r, out):
        y = nc.conv2d(x, w, b, 1, (4, 2), 1, 2, padding_value=1 - 2j, add=r)
        z = nc.conv2d(x, w, b, 1, (4, 2), 1, 2, padding_mode="reflect", out=out)
        return y, z

    @numba.njit
    def through(layer, x):
        return layer(x)

    rng = np.random.default_rng(0)

    def draw(*shape: int) -> Array:
        return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)

    x, w, b, r = draw(2, 4, 20, 9), draw(6, 2, 3, 2), draw(6), draw(2, 6, 26, 12)
    for image in (x, x.real.astype(np.float32), x[..., ::-1]):
        out = np.empty((2, 6, 26, 24), complex)[..., ::2]
        options = (1, (4, 2), 1, 2)
        y, z = call(image, w, b, r, out)
        equal(y, nc.conv2d(image, w, b, *options, padding_value=1 - 2j, add=r))
        equal(z, nc.conv2d(image, w, b, *options, padding_mode="reflect"))
        equal(out, z)
    layer = nc.prepare(w, b, groups=2, padding=1)
    equal(through(layer, x), layer(x))
