"""`out_dtype`: sums that are converted as they are stored, part by part of the output."""

from __future__ import annotations

import random
import tracemalloc
from typing import Any

import numba
import numpy as np
import pytest

import numbaconv as nc
from numbaconv.cpu import pieces
from numbaconv.problem import plan as plans
from numbaconv.problem.dtypes import SUPPORTED
from tests.oracle import reference
from tests.oracle.cases import Array, integer_arrays
from tests.oracle.paths import TRANSFORMS
from tests.oracle.problems import OUT_LAYOUTS, choose, varied_case

equal = np.testing.assert_array_equal

BACKENDS = ("direct", "im2col", *TRANSFORMS)
LAST = {"data_format": "channels_last"}


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small problems are cut into many parts, as large ones are."""
    monkeypatch.setattr(pieces, "PIECE_BYTES", 2000)
    monkeypatch.setattr(pieces, "TASK_ELEMENTS", 50)
    monkeypatch.setattr(plans, "_plans", {})  # which may know the problem already


def saturated(sums: Array, dtype: Any) -> Array:
    """The nearest number of an integer dtype, of two the even one; 0 of NaN."""
    limits = np.iinfo(dtype)
    whole = np.rint(sums) if sums.dtype.kind == "f" else sums
    exact = [0 if v != v else min(max(v, limits.min), limits.max) for v in whole.ravel().tolist()]
    return np.array([int(v) for v in exact], dtype).reshape(sums.shape)


def stored(sums: Array, dtype: str) -> Array:
    if np.dtype(dtype).kind in "iu":
        return saturated(sums, dtype)
    with np.errstate(over="ignore"):
        return sums.astype(dtype)


# Dtypes of the arrays and of the result, each pair compiled by itself.
PAIRS = (
    ("float32", "uint8"),
    ("float32", "int8"),
    ("float32", "float16"),
    ("float64", "float32"),
    ("float16", "uint8"),
    ("int8", "int32"),
    ("int8", "uint8"),
    ("uint8", "int64"),
    ("int64", "int16"),
)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("backend", BACKENDS)
def test_random_problems(backend: str):
    """Plain, prepared and into an `out`, of sums that are whole numbers: they are equal."""
    for number in range(24):
        integer = random.Random(f"out dtype/{number}").randint
        case = varied_case(integer, str(number))
        dtype, wanted = choose(integer, PAIRS)
        x, w, b = integer_arrays(case, dtype, 7)
        if dtype == "float32" and integer(0, 1):
            x = integer_arrays(case, "uint8", 7)[0]
        wide = [None if a is None else a.astype(int) for a in (x, w, b)]
        expected = stored(reference.conv_by_taps(*wide, **case.kwargs), wanted)
        options = case.kwargs | {"out_dtype": wanted, "backend": backend}
        out = choose(integer, OUT_LAYOUTS)(np.full_like(expected, 77), integer)
        layer = nc.prepare(w, b, **options)
        for y in (nc.conv(x, w, b, **options), layer(x), nc.conv(x, w, b, **options, out=out)):
            assert y.dtype == wanted
            equal(whole(y, backend), expected, err_msg=f"{number}: {case} {x.dtype} {wanted}")
        # What is added to the sums is added before they are rounded, or saturate.
        dtype = "int8" if dtype == "int64" else dtype
        r = integer_arrays(case._replace(input=case.output), dtype, 90)[0]
        sums = reference.conv_by_taps(*wide, **case.kwargs) + r.astype(int)
        out[...] = 77
        y = layer(x, add=choose(integer, OUT_LAYOUTS)(r, integer), out=out)
        equal(whole(y, backend), stored(sums, wanted), err_msg=f"{number}: {case} {r.dtype}")


def whole(y: Array, backend: str) -> Array:
    """Results; sums of transforms are near a whole number, and round to it, which no cast does."""
    return np.rint(y) if backend in TRANSFORMS and y.dtype.kind == "f" else y


EDGES = [-1e30, -300.5, -129, -128.5, -0.5, 0.5, 1.5, 2.5, 127.5, 128.5, 254.5, 255.5, 1e30]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rounding_is_half_to_even_and_saturates(dtype: str):
    x = np.array([[*EDGES, np.nan, np.inf, -np.inf]], dtype)
    w = np.ones((1, 1, 1), dtype)
    for wanted in (name for name in SUPPORTED if np.dtype(name).kind in "iu"):
        if x.itemsize == 8 or np.dtype(wanted).itemsize < 8:
            equal(nc.conv1d(x, w, out_dtype=wanted), saturated(x, wanted), err_msg=wanted)


def test_every_float16_is_the_nearest():
    """Those themselves, what lies between two of them, and what is just off the middle."""
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    finite = np.sort(halves[np.isfinite(halves)])
    middle = (finite[1:] + finite[:-1]) / 2
    beside = [np.nextafter(middle, side, dtype=np.float32) for side in (-np.inf, np.inf)]
    ends = np.array([65519.9, 65520, 1e30, -65520, np.nan, 2.0**-25, 2.0**-26, -0.0], np.float32)
    x = np.concatenate([halves, middle, *beside, ends])[None]
    y = nc.conv1d(x, np.ones((1, 1, 1), np.float32), out_dtype=np.float16)
    with np.errstate(all="ignore"):
        expected = (x * np.float32(1) + np.float32(0)).astype(np.float16)
    equal(y, expected)


def test_sums_do_not_wrap_before_they_are_stored():
    x, w = np.full((1, 4, 4), 200, np.uint8), np.full((1, 1, 3, 3), 100, np.int8)
    # int16 is what NumPy promotes the arrays to: it would wrap if it were not asked for.
    exact = {"int32": 180_000, "int64": 180_000, "int16": 32_767, "uint8": 255, "int8": 127}
    for wanted, value in exact.items():
        y = nc.conv2d(x, w, out_dtype=wanted)
        assert y.dtype == wanted
        assert (y == value).all()
    assert (nc.conv2d(x, -w, out_dtype="uint16") == 0).all()
    large = np.full((1, 4, 4), 2**32 - 1, np.uint32)
    y = nc.conv2d(large, np.ones((1, 1, 2, 2), np.uint32), out_dtype="uint32")
    assert (y == 2**32 - 1).all()
    y = nc.conv2d(large, np.ones((1, 1, 2, 2), np.uint32), out_dtype="uint64")
    assert (y == 4 * (2**32 - 1)).all()


def test_floats_are_summed_in_the_wider_dtype():
    rng = np.random.default_rng(0)
    # Their sums are exact in double precision, in any order, and not in single.
    x, w = (
        (1 + rng.integers(-(2**20), 2**20, shape) * 2.0**-22).astype(np.float32)
        for shape in ((1, 3, 9, 9), (2, 3, 3, 3))
    )
    assert (nc.conv2d(x, w) != nc.conv2d(x.astype(float), w.astype(float))).any()
    equal(nc.conv2d(x, w, out_dtype=float), nc.conv2d(x.astype(float), w.astype(float)))
    equal(nc.conv2d(x, w, out_dtype=complex), nc.conv2d(x.astype(complex), w))
    y = nc.conv2d(x.astype("c16") + 1j, w, out_dtype="c8")
    equal(y, nc.conv2d(x.astype("c16") + 1j, w).astype("c8"))
    whole = np.arange(9, dtype=np.int64).reshape(1, 9)
    assert nc.conv1d(whole, np.ones((1, 1, 1), int), out_dtype="f4").dtype == np.float32


def test_activation_and_bias_come_before_rounding():
    x = np.array([[[-3.0, 0.25, 2.75]]], np.float32)
    w, b = np.ones((2, 1, 1), np.float32), np.array([0.5, -300], np.float32)
    y = nc.conv1d(x, w, b, activation="relu", out_dtype="uint8")
    equal(y, [[[0, 1, 3], [0, 0, 0]]])
    nothing = nc.conv1d(x[:, :0], w[:, :0], b, out_dtype="int8")
    equal(nothing, np.broadcast_to(np.array([[[0], [-128]]]), (1, 2, 3)))
    nothing = nc.conv1d(np.zeros((2, 3, 0)), w[:, :0], b, out_dtype="int8", **LAST)
    equal(nothing, np.broadcast_to([0, -128], (2, 3, 2)))
    assert nc.conv1d(np.zeros((0, 1, 3)), w, b, out_dtype="int8").shape == (0, 2, 3)


@pytest.mark.usefixtures("small_pieces")
def test_the_same_bits_for_any_number_of_images():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((5, 3, 30, 31), np.float32), rng.standard_normal((4, 3, 3, 3), "f4")
    y = nc.conv2d(x, w, padding=1, out_dtype="float16")
    for i in range(5):
        equal(y[i], nc.conv2d(x[i], w, padding=1, out_dtype="float16"))


LARGE = [
    ("uint8", (1, 1, 2000, 2000), (1, 1, 3, 3), {"padding": 1}, "uint8"),
    ("float32", (1, 3, 700, 700), (3, 1, 5, 5), {"groups": 3}, "uint8"),
    ("uint8", (1, 1400, 1000, 3), (3, 1, 3, 3), {"padding": 1, "groups": 3, **LAST}, "uint8"),
    ("uint8", (40, 300, 301), (8, 40, 3, 3), {"padding": 1}, "int16"),
    ("int8", (1, 1, 2000, 2000), (1, 1, 3, 3), {}, "int8"),
    ("float32", (1, 1, 3_000_000), (1, 1, 31), {}, "int16"),
]


@pytest.mark.parametrize(("dtype", "shape", "weight", "options", "wanted"), LARGE, ids=str)
def test_no_array_of_the_sums(dtype, shape, weight, options, wanted, monkeypatch):
    x = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    w = np.ones(weight, "int8" if dtype == "int8" else np.float32)
    out = nc.conv(x, w, **options, out_dtype=wanted)
    monkeypatch.setenv("NUMBACONV_KEEP_MB", "0")  # or NumPy would not see what is lent
    tracemalloc.start()
    nc.conv(x, w, **options, out_dtype=wanted, out=out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * pieces.PIECE_BYTES // 2 < 4 * out.size


F = np.ones((1, 1, 5, 5), np.float32)


def test_refusals():
    w = F[:, :, :3, :3]
    with pytest.raises(TypeError, match="out_dtype float32 has no imaginary parts"):
        nc.conv2d(F + 1j, w, out_dtype=np.float32)
    for wrong in ("bool", "object", "datetime64[s]", np.longdouble):
        with pytest.raises(TypeError, match=r"out_dtype .* is not supported"):
            nc.conv2d(F, w, out_dtype=wrong)
    for wrong in ("number", 3, F):
        with pytest.raises(TypeError, match="out_dtype must be a dtype"):
            nc.prepare(w, out_dtype=wrong)
    with pytest.raises(TypeError, match="out has dtype float32, the result has uint8"):
        nc.conv2d(F, w, out_dtype=np.uint8, out=np.empty((1, 1, 3, 3), np.float32))
    with pytest.raises(TypeError, match="activation 'relu' needs a real floating dtype"):
        nc.conv2d(F.astype(int), w.astype(int), activation="relu", out_dtype=int)
    with pytest.raises(ValueError, match="out_dtype is for of='forward'"):
        nc.explain(F, w, out_dtype=np.uint8, of="weight")
    assert nc.explain(F, w, out_dtype=">i2").dtype == np.int16


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="there is no compiled code to call from")
def test_compiled_code_stores_the_same():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 255, (2, 3, 20, 21)).astype(np.uint8)
    w, b = rng.integers(-3, 4, (4, 3, 3, 3)).astype("f4"), np.ones(4, np.float32)
    layer = nc.prepare(w, b, padding=1, out_dtype=np.int8)

    @numba.njit
    def call(x, w, b):
        return nc.conv2d(x, w, b, padding=1, out_dtype=np.uint8)

    @numba.njit
    def into(x, w, b, out):
        return nc.conv2d(x, w, b, padding=1, out_dtype="int16", out=out)

    @numba.njit
    def through(layer, x):
        return layer(x)

    equal(call(x, w, b), nc.conv2d(x, w, b, padding=1, out_dtype=np.uint8))
    out = np.zeros((2, 4, 20, 42), np.int16)[..., ::2]
    into(x, w, b, out)
    equal(out, nc.conv2d(x, w, b, padding=1, out_dtype=np.int16))
    equal(through(layer, x), layer(x))
    equal(call(x[:, :0], w[:, :0], b), np.ones((2, 4, 20, 21)))

    @numba.njit
    def of_half(x, w):
        return nc.conv2d(x, w, out_dtype="float16")

    with pytest.raises(numba.TypingError, match="compiled code has no results of float16"):
        of_half(x, w)

    @numba.njit
    def by_name(x, w, name):
        return nc.conv2d(x, w, out_dtype=name)

    with pytest.raises(numba.TypingError, match="out_dtype is unicode_type; pass a literal"):
        by_name(x, w, "uint8")


def test_blocks_and_tiles_store_the_same():
    da = pytest.importorskip("dask.array")
    rng = np.random.default_rng(1)
    x = rng.integers(0, 200, (2, 4, 37, 29)).astype(np.uint8)
    w = rng.integers(-3, 4, (4, 4, 3, 2)).astype(np.float32)
    options: dict[str, Any] = {"padding": ((9, 2), (1, 12)), "padding_value": 1.5}
    expected = nc.conv2d(x, w, **options, out_dtype="uint8")
    for channels in (4, 2):  # parts of the channels are not rounded by themselves
        lazy = da.from_array(x, chunks=(1, channels, 8, 5))
        y = nc.conv2d(lazy, w, **options, out_dtype="uint8")
        assert y.dtype == np.uint8
        equal(y.compute(), expected)
    equal(nc.prepare(w, **options, out_dtype="uint8")(lazy).compute(), expected)
    y = nc.tiled(nc.conv2d, x, memory="20 MB", weight=w, **options, out_dtype="uint8")
    equal(y, expected)
