"""`padding_value`: what is added instead of zeros, beside `numpy.pad` axis by axis."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import numba
import numpy as np
import pytest

import numbaconv as nc
from tests.oracle import reference
from tests.oracle.cases import Array, Case, integer_arrays
from tests.oracle.paths import TRANSFORMS
from tests.oracle.problems import OUT_LAYOUTS, choose, random_case, respelled

equal = np.testing.assert_array_equal

IN_NUMPY = {
    "zeros": "constant",
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
    "symmetric": "symmetric",
}
BACKENDS = ("direct", "im2col", *TRANSFORMS)
DTYPES = ("float32", "float32", "float64", "float16", "complex64", "int8", "int32", "uint64")

# Channels and sizes by which all lowerings come that copy what they read.
KINDS: tuple[dict[str, Any], ...] = (
    {},
    {"max_groups": 1, "channels": (40, 40), "longest": {1: 40, 2: 9, 3: 4}},
    {"max_groups": 40, "channels": (1, 1), "longest": {1: 90, 2: 20, 3: 5}},
    {"max_groups": 3, "channels": (1, 3), "longest": {1: 200, 2: 70, 3: 9}},
    {"ranks": (1,), "channels": (2, 2), "widest_kernel": {1: 90}, "longest": {1: 900}, "pad": 60},
)


def padded(x: Array, case: Case, value: complex, dtype: Any, order: int = 1) -> Array:
    """The input with its padding, in the dtype that is computed in: one axis after the other."""
    options, rank = case.kwargs, len(case.weight) - 2
    x = x.astype(dtype)
    first = x.ndim - rank - (options.get("data_format") == "channels_last")
    sizes = x.shape[first : first + rank]
    names = ("stride", "padding", "dilation")
    axes = reference.axes_of(sizes, case.weight[2:], *(options[name] for name in names))
    modes = reference.per_axis(options["padding_mode"], rank)
    for i in range(rank)[::order]:
        pairs = [(0, 0)] * x.ndim
        pairs[first + i] = axes[i].lo, axes[i].hi
        constant = {"constant_values": value} if modes[i] == "zeros" else {}
        x = np.pad(x, pairs, IN_NUMPY[modes[i]], **constant)  # type: ignore[call-overload]
    return x


def draw(seed: str) -> tuple[Case, Array, Array, Array | None, complex]:
    integer = random.Random(seed).randint
    kind = choose(integer, KINDS)
    case = respelled(random_case(integer, seed, **kind), integer)
    rank = len(case.weight) - 2
    modes = [*reference.per_axis(case.kwargs["padding_mode"], rank)]
    modes[integer(0, rank - 1)] = "zeros"
    case.kwargs["padding_mode"] = tuple(modes)
    dtype = choose(integer, DTYPES)
    x, w, b = integer_arrays(case, dtype)
    return case, x, w, b, 2 - 3j if dtype == "complex64" else choose(integer, (1, 3, 2.0))


def definition(x: Array, w: Array, b: Array | None, case: Case, value: complex) -> Array:
    dtype = reference.result_dtype(x, w, b)
    wide = reference.ACCUMULATORS.get(dtype.name, dtype)
    x, unpadded = padded(x, case, value, wide), {**case.kwargs, "padding": 0}
    del unpadded["padding_mode"]
    return reference.conv_by_taps(x, w, b, **unpadded).astype(dtype)


@pytest.mark.target
@pytest.mark.parametrize("backend", BACKENDS)
def test_random_problems(backend: str):
    """Plain, prepared and into an `out`; results of transforms are rounded to integers."""
    for number in range(30):
        case, x, w, b, value = draw(f"padding value/{number}")
        expected = definition(x, w, b, case, value)
        options = case.kwargs | {"padding_value": value, "backend": backend}
        layer = nc.prepare(w, b, **options)
        integer = random.Random(number).randint
        out = choose(integer, OUT_LAYOUTS)(np.full_like(expected, 77), integer)
        for y in (nc.conv(x, w, b, **options), layer(x), nc.conv(x, w, b, **options, out=out)):
            got = np.rint(y) if backend in TRANSFORMS and y.dtype.kind in "fc" else y
            equal(got, expected, err_msg=f"{number}: {case} {x.dtype}")


def test_the_order_of_axes_does_not_matter():
    """Corners are the same, whichever axis `numpy.pad` takes first."""
    for modes in itertools.product(IN_NUMPY, repeat=2):
        options = {"stride": 1, "dilation": 1, "padding": ((2, 5), (4, 1)), "padding_mode": modes}
        case = Case("corners", (1, 1, 3, 4), (1, 1, 1, 1), options)
        x = np.arange(1.0, 13).reshape(case.input)
        expected = padded(x, case, -1, x.dtype)
        equal(padded(x, case, -1, x.dtype, order=-1), expected)
        if "zeros" in modes:
            equal(nc.conv(x, np.ones((1, 1, 1, 1)), **options, padding_value=-1), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_marks_what_reads_beyond_the_image(backend: str):
    x, w = np.ones((1, 2, 9, 40), np.float32), np.ones((8, 2, 3, 3), np.float32)
    y = nc.conv2d(x, w, padding=1, padding_value=np.nan, backend=backend)
    inside = np.isfinite(y)
    assert inside[:, :, 1:-1, 1:-1].all()
    assert inside.sum() == 8 * 7 * 38
    np.testing.assert_allclose(y[inside], 18, rtol=1e-5)


def test_a_value_of_zero_is_no_value():
    """The same plan: nothing of what zeros allow is lost."""
    x, w = np.ones((1, 8, 9, 9), np.float32), np.ones((8, 1, 3, 3), np.float32)
    options = {"padding": 1, "groups": 8}
    plain = nc.explain(x, w, **options)
    for zero in (0, -0.0, np.float32(0), 0j, np.array(0)):
        assert nc.explain(x, w, **options, padding_value=zero) == plain
        mode = {"padding_mode": "reflect"}  # beside which only zero is nothing
        nc.conv2d(x, w, **options, **mode, padding_value=zero)
    assert "a constant" in str(nc.explain(x, w, **options, padding_value=1))
    assert "zeros" in str(nc.explain(x, w, groups=8, padding_value=1))  # nothing is padded


F, U = np.ones((1, 1, 5, 5), np.float32), np.ones((1, 1, 5, 5), np.uint8)
REFUSED = [
    (F, math.inf, "float32, and not infinite; got inf", ValueError),
    (F, 1e39, "float32, and not infinite; got 1e+39", ValueError),
    (F, 1j, "float32, and not infinite; got 1j", ValueError),
    (F.astype("c8"), complex(1, math.inf), "complex64, and not infinite", ValueError),
    (U, 0.5, "dtype, uint8, and not infinite; got 0.5", ValueError),
    (U, 256, "dtype, uint8, and not infinite; got 256", ValueError),
    (U, -1, "dtype, uint8, and not infinite; got -1", ValueError),
    (U, math.nan, "dtype, uint8, and not infinite; got nan", ValueError),
    (F, 1 << 20_000, "an integer of 20001 bits", ValueError),
    (F, True, "must be a number, got True of type bool", TypeError),
    (F, "1", "must be a number, got '1' of type str", TypeError),
    (F, None, "must be a number, got None", TypeError),
    (F, np.ones(1), "must be a number, got array", TypeError),
]


@pytest.mark.parametrize(("x", "value", "message", "error"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_number_of_the_computation_is_refused(x, value, message, error):
    w = x[:, :, :3, :3]
    with pytest.raises(error, match="padding_value") as raised:
        nc.conv2d(x, w, padding=1, padding_value=value)
    assert message in str(raised.value)
    with pytest.raises(error, match="padding_value"):
        nc.prepare(w, padding=1, padding_value=value)(x)


def test_a_value_that_no_axis_takes_is_refused():
    for mode in ("reflect", ("circular", "symmetric")):
        with pytest.raises(ValueError, match="is for axes whose padding_mode is 'zeros'; got 2"):
            nc.conv2d(F, F[:, :, :3, :3], padding=1, padding_mode=mode, padding_value=2)
        with pytest.raises(ValueError, match="is for axes whose padding_mode is 'zeros'"):
            nc.prepare(F[:, :, :3, :3], padding=1, padding_mode=mode, padding_value=2)
    with pytest.raises(ValueError, match="padding_value is for of='forward'"):
        nc.explain(F, F[:, :, :3, :3], padding_value=2, of="input")


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="there is no compiled code to call from")
def test_compiled_code_takes_any_number():
    @numba.njit
    def call(x, w, value):
        return nc.conv2d(x, w, padding=((1, 0), (2, 1)), padding_value=value)

    @numba.njit
    def by_axis(x, w):
        modes = ("zeros", "reflect")
        return nc.conv2d(x, w, padding=1, padding_mode=modes, padding_value=2)

    layer = nc.prepare(F[:, :, :3, :3], padding=1, padding_value=0.5)
    through_layer = numba.njit(lambda x: layer(x))
    x, w = F + np.arange(5, dtype=np.float32), F[:, :, :3, :3]
    for value in (2, 0.1, np.float32(0.1), math.nan, 0.1, math.nan):
        expected = nc.conv2d(x, w, padding=((1, 0), (2, 1)), padding_value=value)
        equal(call(x, w, value), expected)
    complex_x = x + 1j * x
    expected = nc.conv2d(complex_x, w, padding=((1, 0), (2, 1)), padding_value=1 - 2j)
    equal(call(complex_x, w, 1 - 2j), expected)
    modes = ("zeros", "reflect")
    expected = nc.conv2d(x, w, padding=1, padding_mode=modes, padding_value=2)
    equal(by_axis(x, w), expected)
    equal(through_layer(x), layer(x))
    with pytest.raises(ValueError, match="padding_value must be a number of the computation's"):
        call(x, w, math.inf)
    with pytest.raises(numba.TypingError, match="padding_value is"):
        call(x, w, "1")


def test_blocks_have_the_value_outside():
    """Dask's blocks and `tiled`: also blocks that read nothing but padding."""
    da = pytest.importorskip("dask.array")
    rng = np.random.default_rng(0)
    for number in range(12):
        x = rng.integers(0, 200, (2, 3, 23, 17)).astype(("u1", "f4")[number % 2])
        w = rng.integers(-3, 4, (4, 3, 3, 2)).astype(np.float32)
        modes = ("zeros", choose(random.Random(number).randint, tuple(IN_NUMPY)))
        options = {"padding": ((9, 2), (1, 12)), "padding_mode": modes, "padding_value": 1.5}
        expected = nc.conv2d(x, w, **options)
        lazy = da.from_array(x, chunks=(1, 3, 8, 5))
        equal(nc.conv2d(lazy, w, **options).compute(), expected)
        equal(nc.prepare(w, **options)(lazy).compute(), expected)


def test_tiles_have_the_value_outside():
    rng = np.random.default_rng(1)
    x = rng.integers(0, 200, (3, 900, 700)).astype(np.uint8)
    w = rng.integers(-3, 4, (2, 3, 3, 3)).astype(np.float32)
    options = {"padding": ((700, 2), (1, 3)), "padding_value": 7}
    y = nc.tiled(nc.conv2d, x, memory="22 MB", weight=w, **options)
    equal(y, nc.conv2d(x, w, **options))
