"""`add=`: an array that is added to the sums, before the activation.

Random problems of every rank, option, layout and dtype add arrays in `tests.scripts.fuzz`; sums
that are rounded as they are stored do in `test_out_dtype.py`, parts of arrays in `tests.arrays`.
"""

from __future__ import annotations

import tracemalloc
from typing import Any, NamedTuple

import numba
import numpy as np
import pytest

import numbaconv as nc
from numbaconv import cuda
from numbaconv.codegen.target import VECTOR_BYTES
from tests.oracle.cases import Array

equal = np.testing.assert_array_equal

LAST = {"data_format": "channels_last"}


class Problem(NamedTuple):
    lowering: str
    backend: str
    input: tuple[int, ...]
    weight: tuple[int, ...]
    options: dict[str, Any]


# A problem for each way of storing a tile; the lowering is that of CPUs with AVX-512.
PROBLEMS = {
    "rows": Problem("matrix", "direct", (2, 24, 9, 200), (40, 24, 1, 1), {}),
    "flat rows": Problem("matrix", "direct", (1, 19, 13, 13), (33, 19, 3, 3), {}),
    "strided": Problem(
        "matrix", "direct", (1, 3, 61, 63), (33, 3, 7, 7), {"stride": 2, "padding": 3}
    ),
    "signal": Problem(
        "matrix", "direct", (2, 24, 1501), (33, 24, 3), {"padding": 16, "dilation": 16}
    ),
    "stages": Problem(
        "matrix_transposed", "direct", (2, 70, 14, 15), (90, 70, 3, 3), {"padding": 1}
    ),
    "pixels": Problem("matrix_transposed", "direct", (2, 14, 15, 70), (90, 70, 3, 3), LAST),
    "zones": Problem(
        "matrix_zones",
        "direct",
        (1, 64, 9, 9),
        (64, 64, 3, 3),
        {"padding": 6, "dilation": 6},
    ),
    "image": Problem("filter_rows", "direct", (1, 4, 90, 120), (1, 4, 9, 9), {"padding": 2}),
    "long": Problem("filter_folds", "direct", (1, 1, 20003), (1, 1, 101), {"padding": 50}),
    "small planes": Problem(
        "depthwise_planes", "direct", (2, 40, 14, 14), (40, 1, 3, 3), {"groups": 40}
    ),
    "planes": Problem("depthwise_planes", "direct", (2, 5, 57, 60), (5, 1, 7, 7), {"groups": 5}),
    "maps": Problem("depthwise_maps", "direct", (2, 40, 5, 6), (40, 1, 2, 5), {"groups": 40}),
    "channels": Problem(
        "depthwise_channels",
        "direct",
        (2, 9, 11, 64),
        (64, 1, 3, 3),
        {"groups": 64, "padding": 1, "stride": 2, **LAST},
    ),
    "strided channels": Problem(
        "depthwise_channels",
        "direct",
        (2, 40, 10, 11, 12),
        (40, 1, 3, 3, 3),
        {"groups": 40, "stride": 5, "padding": 1, "padding_mode": "reflect"},
    ),
    "photograph": Problem(
        "depthwise_interleaved", "direct", (1, 50, 61, 3), (3, 1, 3, 3), {"groups": 3, **LAST}
    ),
    "fully connected": Problem("dots", "direct", (3, 1000), (10, 1000, 1), LAST),
    "panels": Problem("patch_matrix", "im2col", (2, 30, 13, 14), (41, 30, 3, 3), {"padding": 1}),
    "panels in line": Problem("patch_matrix", "im2col", (1, 30, 400), (41, 30, 1), {}),
    "panels of pixels": Problem("patch_matrix", "im2col", (2, 13, 14, 30), (41, 30, 3, 3), LAST),
    "spectra": Problem("overlap_save", "fft", (1, 2, 80, 90), (3, 2, 21, 21), {"stride": (2, 1)}),
    "spectra of signals": Problem("overlap_save", "fft", (9000, 1), (2, 1, 601), LAST),
    "points": Problem("minimal_filtering", "winograd", (2, 40, 30, 31), (40, 40, 3, 3), {}),
    "points, last": Problem("minimal_filtering", "winograd", (2, 30, 31, 40), (40, 40, 3, 3), LAST),
}


def arrays(*shapes: tuple[int, ...]) -> list[Array]:
    rng = np.random.default_rng(0)
    return [rng.integers(-3, 4, shape).astype(np.float32) for shape in shapes]


@pytest.mark.target
@pytest.mark.parametrize("name", PROBLEMS)
def test_every_lowering(name: str):
    lowering, backend, shape, weight, options = PROBLEMS[name]
    x, w, b = arrays(shape, weight, weight[:1])
    options = options | {"backend": backend}
    if VECTOR_BYTES == 64:
        assert nc.explain(x, w, b, **options).lowering == lowering
    sums = np.rint(nc.conv(x, w, b, **options))
    r = np.random.default_rng(1).integers(-99, 100, sums.shape).astype(np.float32)
    expected = np.maximum(sums + r, 0)
    for add in (r, np.asfortranarray(r), r.astype(np.int16)):
        y = nc.conv(x, w, b, **options, activation="relu", add=add)
        equal(np.rint(y), expected)
    layer = nc.prepare(w, b, **options, activation="relu")
    both = r.copy()
    assert layer(x, add=both, out=both) is both
    equal(np.rint(both), expected)
    equal(np.rint(layer(x)), np.maximum(sums, 0))  # the same layer, without


@pytest.mark.parametrize("backend", ["direct", "im2col", "fft", "winograd"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "c8"])
def test_the_sums_are_rounded_before(backend: str, dtype: str):
    """To the last bit what NumPy adds, NaN and infinities included, each in its own place."""
    rng = np.random.default_rng(2)
    x, w, b = (rng.standard_normal(n).astype(dtype) for n in ((2, 5, 20, 33), (7, 5, 3, 3), 7))
    sums = nc.conv2d(x, w, b, padding=1, backend=backend)
    r = rng.standard_normal(sums.shape).astype(dtype)
    r.reshape(-1)[::97] = np.nan
    r.reshape(-1)[1::89] = np.inf
    r.reshape(-1)[2::83] = -0.0
    equal(nc.conv2d(x, w, b, padding=1, backend=backend, add=r), sums + r)
    if dtype != "c8":
        expected = np.maximum(sums + r, 0)
        y = nc.conv2d(x, w, b, padding=1, backend=backend, add=r, activation="relu")
        equal(y, expected)


def test_sums_of_nothing():
    x, w, b = np.zeros((2, 0, 5, 6), "f4"), np.zeros((3, 0, 3, 3), "f4"), np.arange(3, dtype="f4")
    (r,) = arrays((2, 3, 3, 4))
    expected = np.maximum(b[:, None, None] + r, 0)
    equal(nc.conv2d(x, w, b, activation="relu", add=r), expected)
    equal(nc.prepare(w, b, activation="relu")(x, add=r), expected)
    y = nc.conv2d(x, w, b, activation="relu", add=r, out_dtype=np.uint8)
    equal(y, expected.astype(np.uint8))
    last = np.ascontiguousarray(np.moveaxis(r, 1, -1))
    y = nc.conv2d(np.zeros((2, 5, 6, 0), "f4"), w, b, add=last, **LAST)
    equal(y, b + last)
    (r,) = arrays((2, 3, 7, 8))
    y = nc.conv_transpose2d(x, np.zeros((0, 3, 3, 3), "f4"), b, add=r, activation="relu")
    equal(y, np.maximum(b[:, None, None] + r, 0))
    assert nc.conv2d(x[:0], w, b, add=np.zeros((0, 3, 3, 4), "f4")).shape == (0, 3, 3, 4)


def test_elements_of_a_transposed_convolution_that_nothing_reaches():
    x, w, b = arrays((2, 3, 5, 6), (3, 4, 2, 2), (4,))
    sums = nc.conv_transpose2d(x, w, b, stride=(3, 4), output_padding=1)
    (r,) = arrays(sums.shape)
    options = {"stride": (3, 4), "output_padding": 1, "activation": "relu"}
    expected = np.maximum(sums + r, 0)
    equal(nc.conv_transpose2d(x, w, b, **options, add=r), expected)
    out = r.copy()
    equal(nc.prepare_transposed(w, b, **options)(x, add=out, out=out), expected)
    last = {name: np.ascontiguousarray(np.moveaxis(a, 1, -1)) for name, a in (("x", x), ("r", r))}
    y = nc.conv_transpose2d(last["x"], w, b, **options, **LAST, add=last["r"])
    equal(y, np.moveaxis(expected, 1, -1))


def test_integers_wrap_and_saturate():
    x, w = np.full((1, 4, 4), 100, np.int8), np.full((1, 1, 3, 3), 100, np.int8)
    r = np.full((1, 2, 2), 100, np.int8)
    equal(nc.conv2d(x, w, add=r), np.full((1, 2, 2), 90_100).astype(np.int8))
    equal(nc.conv2d(x, w, add=r, out_dtype=np.int32), np.full((1, 2, 2), 90_100))
    equal(nc.conv2d(x, w, add=r.astype(np.int32), out_dtype=np.uint16), np.full((1, 2, 2), 65535))
    # Sums that single precision holds, but not with what is added: they are not taken in it.
    large = np.full((1, 2, 2), 2**30 + 1, np.int32)
    equal(nc.conv2d(x, w, add=large, out_dtype=np.int32), large + 90_000)
    bits = np.array([[[True, False], [False, True]]])
    equal(nc.conv2d(x, w, add=bits, out_dtype=np.int32), 90_000 + bits)


def test_dtypes():
    x, w = arrays((1, 2, 9, 8), (3, 2, 3, 3))
    half = nc.conv2d(x.astype("f2"), w.astype("f2"))
    r = np.full(half.shape, 0.25, "f2")
    equal(nc.conv2d(x.astype("f2"), w.astype("f2"), add=r), half + r, strict=True)
    wide = nc.conv2d(x, w, out_dtype=np.float64, add=r.astype(np.float64) / 3)
    equal(wide, nc.conv2d(x.astype(float), w) + 0.25 / 3, strict=True)
    for dtype in ("f2", "i1", "u2", "?", ">f4"):
        equal(nc.conv2d(x, w, add=r.astype(dtype)), half.astype("f4") + r.astype(dtype))
    for dtype in ("f8", "c8", "i4"):
        with pytest.raises(TypeError, match=r"add has dtype .*, which does not convert safely"):
            nc.conv2d(x, w, add=r.astype(dtype))
    with pytest.raises(TypeError, match="add has dtype object, which is not supported"):
        nc.conv2d(x, w, add=r.astype(object))
    with pytest.raises(TypeError, match="add is a MaskedArray"):
        nc.conv2d(x, w, add=np.ma.masked_invalid(r))


def test_shapes_are_not_broadcast():
    x, w = arrays((2, 2, 9, 8), (3, 2, 3, 3))
    layer = nc.prepare(w)
    for shape in ((1, 3, 7, 6), (3, 7, 6), (2, 3, 1, 1), (), (2, 7, 6, 3)):
        for call in (lambda r: nc.conv2d(x, w, add=r), lambda r: layer(x, add=r)):
            with pytest.raises(
                ValueError, match=r"add has shape .*, the result has \(2, 3, 7, 6\)"
            ):
                call(np.zeros(shape, np.float32))
    one = np.broadcast_to(np.float32(3), (2, 3, 7, 6))  # of strides 0: that is the caller's word
    equal(layer(x, add=one), layer(x) + 3)


def test_out_may_be_what_is_added_and_overlap_it_in_no_other_way():
    x, w = arrays((2, 4, 9, 8), (4, 4, 3, 3))
    layer, memory = nc.prepare(w, padding=1), np.zeros((3, 4, 9, 8), np.float32)
    first, second = memory[:2], memory[1:]
    with pytest.raises(ValueError, match="out overlaps add in memory"):
        layer(x, add=first, out=second)
    with pytest.raises(ValueError, match="out overlaps add in memory"):
        nc.conv2d(x, w, padding=1, add=first[:, ::-1], out=first)
    wide, expected = np.ones((2, 4, 9, 16), np.float32), layer(x) + 1
    first[...] = 1
    assert layer(x, add=first, out=first) is first
    equal(first, expected)
    inside = wide[..., ::2]
    equal(layer(x, add=inside, out=inside), expected)
    equal(wide[..., 1::2], 1)
    equal(layer(x, add=wide[..., 1::2], out=inside), expected)  # between each other, not shared
    x = np.ascontiguousarray(x)
    with pytest.raises(ValueError, match="out overlaps input in memory"):
        layer(x, add=x, out=x)
    equal(layer(x, add=x), layer(x) + x)


def test_nothing_is_copied(monkeypatch: pytest.MonkeyPatch):
    x, w = arrays((1, 32, 200, 208), (32, 32, 3, 3))
    layer = nc.prepare(w, padding=1)
    out, add = layer(x), np.ones((1, 32, 200, 208), np.float32)
    layer(x, add=add, out=out)
    monkeypatch.setenv("NUMBACONV_KEEP_MB", "0")  # or NumPy would not see what is lent
    for given, most in ((add, add.nbytes // 8), (out, add.nbytes + 10_000)):
        tracemalloc.start()
        layer(x, add=given, out=out)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < most


def test_one_array_in_many_calls_of_several_threads():
    """Plans with and without what is added are kept apart, and so are those of its dtypes."""
    x, w = arrays((2, 8, 30, 31), (8, 8, 3, 3))
    layer = nc.prepare(w, padding=1)
    y = layer(x)
    for dtype in ("f4", "i1", "f2", "f4"):
        r = np.full(y.shape, 5, dtype)
        equal(layer(x, add=r), y + 5)
        equal(layer(x), y)
        equal(nc.conv2d(x, w, padding=1, add=r), y + 5)
    expected, fewer = layer(x, add=x), numba.get_num_threads()
    numba.set_num_threads(1)
    equal(layer(x, add=x), expected)
    numba.set_num_threads(fewer)


def test_the_cuda_backend_refuses(monkeypatch: pytest.MonkeyPatch):
    """Before it is asked for anything."""
    monkeypatch.setattr(cuda, "unavailable", lambda: None)
    x, w = arrays((2, 4, 9, 8), (4, 4, 3, 3))
    for function in (nc.conv2d, nc.conv_transpose2d):
        with pytest.raises(ValueError, match="add is for CPU backends: 'cuda' adds no array"):
            function(x, w, padding=1, backend="cuda", add=x)
    for layer in (nc.prepare(w, padding=1), nc.prepare_transposed(w, padding=1)):
        with nc.use_backend("cuda"), pytest.raises(ValueError, match="add is for CPU backends"):
            layer(x, add=x)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="there is no compiled code to call from")
def test_compiled_code_adds_the_same():
    x, w, b, r = arrays((2, 6, 13, 14), (8, 6, 3, 3), (8,), (2, 8, 13, 14))
    layer = nc.prepare(w, b, padding=1, activation="relu")

    @numba.njit
    def call(x, w, b, r):
        return nc.conv2d(x, w, b, padding=1, activation="relu", add=r)

    @numba.njit
    def into(layer, x, r, out):
        layer(x, out, r)
        return layer(x, add=r)

    @numba.njit
    def rounded(x, w, r, out):
        return nc.conv2d(x, w, padding=1, add=r, out_dtype=np.int8, out=out)

    @numba.njit
    def spread(x, w, b, r):
        return nc.conv_transpose2d(x, w, b, 3, activation="relu", add=r)

    @numba.njit
    def of_complex(x, w, r):
        return nc.conv2d(x, w, padding=1, data_format="channels_last", add=r)

    expected = nc.conv2d(x, w, b, padding=1, activation="relu", add=r)
    equal(call(x, w, b, r), expected)
    equal(call(x, w, b, np.asfortranarray(r)), expected)
    equal(call(x, w, b, r.astype(np.int8)), expected)
    for out in (np.empty_like(r), np.repeat(r, 2, 1)[:, ::2]):
        equal(into(layer, x, r, out), expected)
        equal(out, expected)
    out = r.copy()
    into(layer, x, out, out)
    equal(out, expected)
    equal(call(x[:, :0], w[:, :0], b, r), np.maximum(b[:, None, None] + r, 0))
    small = r.astype(np.int8)
    small_sums = nc.conv2d(x, w, padding=1, add=small, out_dtype=np.int8)
    equal(rounded(x, w, small, np.empty_like(small)), small_sums)
    rounded(x, w, small, small)
    equal(small, small_sums)
    wt = arrays((6, 3, 2, 2))[0]
    rt = arrays((2, 3, 38, 41))[0]
    equal(spread(x, wt, b[:3], rt), nc.conv_transpose2d(x, wt, b[:3], 3, activation="relu", add=rt))
    z = np.ascontiguousarray(np.moveaxis(x, 1, -1)) * (1 + 2j)
    rz = np.ascontiguousarray(np.moveaxis(r, 1, -1)) * 1j
    equal(of_complex(z, w, rz), nc.conv2d(z, w, padding=1, **LAST, add=rz))
    with pytest.raises(ValueError, match=r"add has shape \(2, 7, 13, 14\), the result has"):
        call(x, w, b, r[:, 1:])
    with pytest.raises(TypeError, match="add has dtype float64, which does not convert safely"):
        call(x, w, b, r.astype(float))
    memory = np.zeros((3, 8, 13, 14), np.float32)
    with pytest.raises(ValueError, match="out overlaps add in memory"):
        into(layer, x, memory[:2], memory[1:])
    with pytest.raises(numba.TypingError, match="add must be an array"):
        call(x, w, b, 1.0)
