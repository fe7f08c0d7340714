"""Calls from compiled code: the same results, bit for bit, and the same errors as from Python."""

from __future__ import annotations

import functools
import importlib.util
import re
import sys
import threading
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numba.core.errors import TypingError

import numbaconv as nc
from tests.conftest import thinned
from tests.njit.arrays import LAYOUTS, same_bits
from tests.oracle.cases import BY_NAME, CASES, Array, Case, normal_arrays

if numba.config.DISABLE_JIT:
    pytest.skip("there is no compiled code to call from", allow_module_level=True)

LAYERS = ["omp", "workqueue", *(["tbb"] if importlib.util.find_spec("tbb") else [])]


@functools.cache
def caller(word: str | None = None, **literals: Any) -> Any:
    """Compiled function that passes strings as literals and all else as it comes."""
    mode = literals.get("padding_mode", "zeros")
    data_format = literals.get("data_format", "channels_first")
    activation, backend = literals.get("activation"), literals.get("backend")
    if word is None:

        @numba.njit
        def call(x, w, b, stride, padding, dilation, groups):
            return nc.conv(
                *(x, w, b, stride, padding, dilation, groups),
                padding_mode=mode,
                data_format=data_format,
                activation=activation,
                backend=backend,
            )
    else:

        @numba.njit
        def call(x, w, b, stride, padding, dilation, groups):
            return nc.conv(
                *(x, w, b, stride, word, dilation, groups),
                padding_mode=mode,
                data_format=data_format,
                activation=activation,
                backend=backend,
            )

    return call


def inside(x: Array, w: Array, b: Array | None, **options: Any) -> Array:
    """Call `conv` from compiled code; ints become tuples, and no bias zeros, to compile less."""
    rank = w.ndim - 2
    words = ("padding_mode", "data_format", "activation", "backend")
    literals = {k: v for k, v in options.items() if k in words}
    numbers = {"stride": 1, "padding": 0, "dilation": 1} | options
    word = numbers["padding"] if isinstance(numbers["padding"], str) else None
    stride, padding, dilation = (
        v if isinstance(v, tuple) else (0 if word and k == "padding" else v,) * rank
        for k, v in numbers.items()
        if k in ("stride", "padding", "dilation")
    )
    if b is None:
        b = np.zeros(w.shape[:1], w.dtype)
    groups = options.get("groups", 1)
    return caller(word, **literals)(x, w, b, stride, padding, dilation, groups)


# --- The same results -------------------------------------------------------------------------


@pytest.mark.parametrize("case", thinned(CASES, 3), ids=str)
def test_cases(case: Case, backend: str):
    arrays = normal_arrays(case)
    nc.set_backend(backend)
    same_bits(inside(*arrays, **case.kwargs), nc.conv(*arrays, **case.kwargs))


TYPICAL = [BY_NAME[name] for name in ("plain", "stride_2x1", "groups_3_bias", "depthwise_padded")]
CONVERTED = [BY_NAME[name] for name in ("groups_3_bias", "depthwise_padded")]


@pytest.mark.target
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", TYPICAL, ids=str)
def test_typical_cases(case: Case, dtype: str, backend: str):
    arrays = normal_arrays(case, dtype)
    nc.set_backend(backend)
    same_bits(inside(*arrays, **case.kwargs), nc.conv(*arrays, **case.kwargs))


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize("case", CONVERTED, ids=str)
def test_complex(case: Case, dtype: str, backend: str):
    arrays = normal_arrays(case, dtype)
    nc.set_backend(backend)
    same_bits(inside(*arrays, **case.kwargs), nc.conv(*arrays, **case.kwargs))


@pytest.mark.parametrize(
    "dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
)
def test_integers_wrap(dtype: str):
    rng = np.random.default_rng(0)
    x, w, b = (
        rng.integers(-1000, 1000, shape).astype(dtype)
        for shape in ((2, 3, 9, 8), (5, 3, 3, 3), (5,))
    )
    same_bits(inside(x, w, b, padding=1), nc.conv(x, w, b, padding=1))


MIXED = [
    ("float32", "float64", "float32"),
    ("float64", "int16", "float32"),
    ("complex64", "float32", "float32"),
    ("float64", "complex64", "float64"),
    ("int8", "uint8", "int8"),
]


@pytest.mark.parametrize("dtypes", MIXED, ids="-".join)
def test_mixed_dtypes_are_promoted(dtypes: tuple[str, str, str]):
    rng = np.random.default_rng(0)
    shapes = ((2, 3, 9, 8), (5, 3, 3, 3), (5,))
    x, w, b = (
        (10 * rng.standard_normal(shape)).astype(dtype)
        for shape, dtype in zip(shapes, dtypes, strict=True)
    )
    same_bits(inside(x, w, b), nc.conv(x, w, b))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("data_format", "dtype"), [("channels_first", "float32"), ("channels_last", "complex128")]
)
def test_strides_and_read_only_arrays(data_format: str, dtype: str, layout: str):
    shape = (2, 4, 9, 8) if data_format == "channels_first" else (2, 9, 8, 4)
    rng = np.random.default_rng(0)
    x, w = (LAYOUTS[layout](rng.standard_normal(s).astype(dtype)) for s in (shape, (6, 4, 3, 3)))
    b = rng.standard_normal(12).astype(dtype)[::2]
    for array in (x, w, b):
        array.flags.writeable = False
    expected = nc.conv(x, w, b, data_format=data_format)
    same_bits(inside(x, w, b, data_format=data_format), expected)


@numba.njit
def every_rank(signal, image, volume, w1, w2, w3):
    return (
        nc.conv1d(signal, w1),
        nc.conv2d(image, w2, None, 2, padding=1),
        nc.conv3d(volume, w3, dilation=(1, 2, 1), padding="same"),
        nc.conv2d(image, w2, padding=((1, 0), (0, 2))),
        nc.conv2d(image, w2, activation="relu"),
    )


def test_functions_of_each_rank_and_forms_of_arguments():
    rng = np.random.default_rng(0)
    shapes = ((3, 9), (3, 9, 8), (2, 3, 5, 6, 7), (2, 3, 3), (4, 3, 3, 3), (4, 3, 2, 3, 3))
    signal, image, volume, w1, w2, w3 = arrays = [rng.standard_normal(s) for s in shapes]
    results = every_rank(*arrays)
    same_bits(results[0], nc.conv1d(signal, w1))
    same_bits(results[1], nc.conv2d(image, w2, None, 2, padding=1))
    same_bits(results[2], nc.conv3d(volume, w3, dilation=(1, 2, 1), padding="same"))
    same_bits(results[3], nc.conv2d(image, w2, padding=((1, 0), (0, 2))))
    same_bits(results[4], nc.conv2d(image, w2, activation="relu"))


@numba.njit
def without_channels(x, w, b):
    return nc.conv2d(x, w, b, activation="silu"), nc.conv2d(x, w)


def test_no_input_channels_leave_the_bias():
    x, w, b = np.ones((2, 0, 5, 5)), np.ones((3, 0, 2, 2)), np.array([1.0, -2.0, 3.0])
    activated, zeros = without_channels(x, w, b)
    same_bits(activated, nc.conv2d(x, w, b, activation="silu"))
    same_bits(zeros, np.zeros((2, 3, 4, 4)))


def test_empty_batch():
    x, w, b = np.ones((0, 3, 5, 5)), np.ones((2, 3, 3, 3)), np.ones(2)
    same_bits(inside(x, w, b), np.empty((0, 2, 3, 3)))


@numba.njit
def store(x, w, out):
    return nc.conv2d(x, w, out=out)


@pytest.mark.parametrize("dtype", ["float32", "complex64", "int8", "uint16", "uint32"])
@pytest.mark.parametrize("layout", ["C", "A", "F"])
def test_out(layout: str, dtype: str):
    case = BY_NAME["plain"]
    if np.dtype(dtype).kind in "iu":
        x, w = ((100 * np.abs(a)).astype(dtype) for a in normal_arrays(case)[:2])
    else:
        x, w, _ = normal_arrays(case, dtype)
    out = LAYOUTS[layout](np.full(case.output, 99, dtype))
    returned = store(x, w, out)
    assert np.shares_memory(returned, out)
    same_bits(out, nc.conv2d(x, w))


def test_large_problems_on_several_threads(backend: str):
    """Large enough to be launched in parallel, and again after the number of threads changed."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 16, 61, 67)), rng.standard_normal((24, 16, 3, 3))
    before = numba.get_num_threads()
    nc.set_backend(backend)
    try:
        for threads in {before, 1}:
            numba.set_num_threads(threads)
            same_bits(inside(x, w, None), nc.conv(x, w))
            assert numba.get_num_threads() == threads
    finally:
        numba.set_num_threads(before)


# --- Patches ----------------------------------------------------------------------------------


@numba.njit
def patches(x, size, kernel, dilation, padding, stride):
    columns = nc.im2col(x, kernel, dilation, padding, stride)
    return columns, nc.col2im(columns, size, kernel, dilation, padding, stride)


@numba.njit
def padded_patches(x, size, kernel):
    columns = nc.im2col(x, kernel, padding="same")
    return columns, nc.col2im(columns, size, kernel, padding="same")


PATCHES = {
    "plain": ((2, 3, 9, 8), (3, 3), (1, 1), (0, 0), (1, 1)),
    "all_options": ((2, 3, 9, 8), (3, 2), (2, 1), (2, 1), (1, 2)),
    "unbatched": ((3, 9, 8), (3, 3), (1, 1), (1, 1), (1, 1)),
    "signal": ((2, 3, 17), (5,), (2,), (3,), (3,)),
    "volume": ((1, 2, 5, 6, 7), (2, 3, 3), (1, 2, 1), (1, 1, 0), (2, 1, 1)),
    "int_kernel": ((2, 3, 9, 8), 3, 1, 1, 2),
}


@pytest.mark.parametrize("dtype", ["float32", "complex128", "int8", "uint16"])
@pytest.mark.parametrize("name", PATCHES)
def test_patches(name: str, dtype: str):
    shape, *options = PATCHES[name]
    rank = len(options[0]) if isinstance(options[0], tuple) else 2
    x = (100 * np.random.default_rng(0).standard_normal(shape)).astype(dtype)
    columns, image = patches(x, shape[-rank:], *options)
    expected = nc.im2col(x, *options)
    same_bits(columns, expected)
    same_bits(image, nc.col2im(expected, shape[-rank:], *options))


def test_patches_of_words_and_strides():
    x = np.random.default_rng(0).standard_normal((9, 8, 3)).T
    columns, image = padded_patches(x, (8, 9), (3, 4))
    expected = nc.im2col(x, (3, 4), padding="same")
    same_bits(columns, expected)
    same_bits(image, nc.col2im(expected, (8, 9), (3, 4), padding="same"))


# --- Prepared layers --------------------------------------------------------------------------


@numba.njit
def two_layers(first, second, x):
    return second(first(x))


@numba.njit
def apply_into(layer, x, out):
    layer(x, out=out)


def test_layers_are_arguments(backend: str):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 15, 17)).astype(np.float32)
    w1, w2 = (rng.standard_normal(s).astype(np.float32) for s in ((8, 3, 3, 3), (5, 8, 3, 3)))
    first = nc.prepare(w1, w1[:, 0, 0, 0], padding=1, activation="relu", backend=backend)
    second = nc.prepare(w2, stride=2)
    nc.set_backend(backend)
    same_bits(two_layers(first, second, x), second(first(x)))
    out = np.empty((2, 8, 15, 17), np.float32)
    apply_into(first, x, out)
    same_bits(out, first(x))


def test_updated_layer():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((1, 3, 9, 9)), rng.standard_normal((4, 3, 3, 3))
    layer = nc.prepare(w)
    out = np.empty((1, 4, 7, 7))
    for scale in (1, 2, 3):
        layer.update(scale * w)
        apply_into(layer, x, out)
        same_bits(out, nc.conv2d(x, scale * w))


def test_layers_come_and_go():
    """A new layer at the place of an old one is not taken for it."""
    x = np.random.default_rng(0).standard_normal((1, 1, 9, 9))
    out = np.empty((1, 1, 7, 7))
    for i in range(50):
        w = np.full((1, 1, 3, 3), float(i))
        apply_into(nc.prepare(w), x, out)
        same_bits(out, nc.conv2d(x, w))


WEIGHT = np.random.default_rng(1).standard_normal((4, 3, 3, 3))
LAYER = nc.prepare(WEIGHT, padding="same")


@numba.njit
def global_layer(x):
    return LAYER(x)


def test_layer_is_a_global():
    x = np.random.default_rng(0).standard_normal((3, 9, 9))
    same_bits(global_layer(x), LAYER(x))


# --- The backend ------------------------------------------------------------------------------


@numba.njit
def named(x, w):
    return nc.conv2d(x, w, backend="IM2COL")


@numba.njit
def unnamed(x, w):
    return nc.conv2d(x, w)


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Backends for which steps were written down."""
    from numbaconv.njit import functions

    names: list[str] = []
    convolution = functions._convolution

    def note(call: Any, plan: Any, name: str, weights: Any) -> Any:
        names.append(name)
        return convolution(call, plan, name, weights)

    monkeypatch.setattr(functions, "_convolution", note)
    return names


def test_backend_is_chosen_as_outside(used: list[str], monkeypatch: pytest.MonkeyPatch):
    """Each choice is seen at the call, and the strongest wins."""
    shape = iter(range(11, 99))  # a new shape each time: a new record

    def chosen(function: Any = unnamed) -> str:
        used.clear()
        function(np.ones((1, 2, next(shape), 9)), np.ones((3, 2, 3, 3)))
        return used[-1]

    assert chosen() == "direct"  # what auto takes
    monkeypatch.setenv("NUMBACONV_BACKEND", "Im2col")
    assert chosen() == "im2col"
    monkeypatch.setenv("NUMBACONV_BACKEND", " im2col ")
    assert chosen() == "im2col"
    nc.set_backend("direct")
    assert chosen() == "direct"
    with nc.use_backend("im2col"):
        assert chosen() == "im2col"
        seen: list[str] = []
        thread = threading.Thread(target=lambda: seen.append(chosen()))
        thread.start()
        thread.join()
        assert seen == ["direct"]  # the context is this thread's
    assert chosen() == "direct"
    assert chosen(named) == "im2col"


def test_choice_is_seen_for_a_known_shape(used: list[str], monkeypatch: pytest.MonkeyPatch):
    x, w = np.ones((1, 2, 10, 101)), np.ones((3, 2, 3, 3))
    for name in ("direct", "im2col", "direct", "im2col"):
        monkeypatch.setenv("NUMBACONV_BACKEND", name)
        unnamed(x, w)
    assert used == ["direct", "im2col"]


def test_bad_environment(monkeypatch: pytest.MonkeyPatch):
    for name in ("fast", "much faster than that"):
        monkeypatch.setenv("NUMBACONV_BACKEND", name)
        with pytest.raises(ValueError, match=rf"NUMBACONV_BACKEND must be one of .*'{name}'"):
            unnamed(np.ones((1, 2, 9, 9)), np.ones((3, 2, 3, 3)))


@numba.njit
def on_cuda(x, w):
    return nc.conv2d(x, w, backend="cuda")


def test_cuda_is_unavailable():
    with pytest.raises(nc.BackendUnavailableError, match="compiled code"):
        on_cuda(np.ones((1, 2, 9, 9)), np.ones((3, 2, 3, 3)))


# --- Errors -----------------------------------------------------------------------------------

ONES = np.ones
BAD_CALLS: dict[str, tuple[Any, ...]] = {
    "channels": (ONES((1, 3, 9, 9)), ONES((4, 2, 3, 3))),
    "axes": (ONES((9, 9)), ONES((4, 2, 3, 3))),
    "bias": (ONES((1, 3, 9, 9)), ONES((4, 3, 3, 3)), ONES(5)),
    "kernel": (ONES((1, 3, 2, 9)), ONES((4, 3, 3, 3))),
    "stride": (ONES((1, 3, 9, 9)), ONES((4, 3, 3, 3)), None, 0),
    "strides": (ONES((1, 3, 9, 9)), ONES((4, 3, 3, 3)), None, (1, 1, 1)),
    "padding": (ONES((1, 3, 9, 9)), ONES((4, 3, 3, 3)), None, 1, (1, -1)),
    "groups": (ONES((1, 3, 9, 9)), ONES((4, 3, 3, 3)), None, 1, 0, 1, 2),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_errors_are_those_of_python(name: str):
    arguments = BAD_CALLS[name] + (None, 1, 0, 1, 1)[len(BAD_CALLS[name]) - 2 :]
    with pytest.raises(ValueError, match=r"\w") as outside:
        nc.conv(*arguments)
    for _ in range(2):
        with pytest.raises(ValueError, match=re.escape(str(outside.value))):
            caller()(*arguments)


@numba.njit
def wrong_rank(x, w):
    return nc.conv1d(x, w)


@numba.njit
def wrong_word(x, w):
    return nc.conv2d(x, w, padding="sane")


@numba.njit
def wrong_mode(x, w):
    return nc.conv2d(x, w, padding_mode="mirror")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (wrong_rank, "weight must have 3 axes for conv1d"),
        (wrong_word, "padding must be .*'sane'"),
        (wrong_mode, "padding_mode must be one of .*'mirror'"),
    ],
)
def test_literals_are_checked_at_the_call(function: Any, message: str):
    with pytest.raises(ValueError, match=message):
        function(np.ones((1, 3, 9, 9)), np.ones((4, 3, 3, 3)))


def test_out_is_checked():
    x, w = np.ones((2, 4, 9, 9)), np.ones((4, 4, 3, 3))
    with pytest.raises(ValueError, match="out has shape"):
        store(x, w, np.empty((2, 4, 7, 8)))
    with pytest.raises(TypeError, match="out has dtype float32"):
        store(x, w, np.empty((2, 4, 7, 7), np.float32))
    out = np.empty((2, 4, 7, 7))
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out is read-only"):
        store(x, w, out)


def test_overlap_is_refused_and_interleaving_is_not():
    memory = np.ones((2, 4, 9, 9, 2))
    x, w = memory[..., 0], np.ones((4, 4, 1, 1))
    with pytest.raises(ValueError, match="out overlaps input"):
        store(x, w, x)
    store(x, w, memory[..., 1])
    np.testing.assert_array_equal(memory[..., 1], 4)


@numba.njit
def caught(x, w):
    try:
        return nc.conv2d(x, w)
    except Exception:
        return np.zeros_like(x)


def test_errors_can_be_caught_in_compiled_code():
    x = np.ones((1, 3, 9, 9))
    assert caught(x, np.ones((2, 5, 3, 3))).shape == x.shape
    same_bits(caught(x, np.ones((2, 3, 3, 3))), nc.conv2d(x, np.ones((2, 3, 3, 3))))


IMAGE, KERNEL = np.ones((1, 3, 9, 9)), np.ones((4, 3, 3, 3))
UNTYPED: dict[str, tuple[str, tuple[Any, ...], str]] = {
    "list_input": ("nc.conv2d([[1.0]], b)", (IMAGE, KERNEL), "input must be an array.*np.array"),
    "bool_array": ("nc.conv2d(a, b)", (IMAGE > 0, KERNEL > 0), "weight are bool.*astype"),
    "float16": ("nc.conv2d(a, b)", (IMAGE.astype("f2"), KERNEL), "float16.*float32 before"),
    "float_stride": ("nc.conv2d(a, b, stride=1.0)", (IMAGE, KERNEL), "stride is float64.*int"),
    "bool_stride": ("nc.conv2d(a, b, stride=True)", (IMAGE, KERNEL), "stride is .*bool.*integer"),
    "list_stride": ("nc.conv2d(a, b, stride=[1, 1])", (IMAGE, KERNEL), "stride is .*tuple"),
    "array_stride": ("nc.conv2d(a, b, stride=b)", (IMAGE, KERNEL), "stride is array.*tuple"),
    "string": ("nc.conv2d(a, b, padding=c)", (IMAGE, KERNEL, "same"), "padding is .*literal"),
    "groups": ("nc.conv2d(a, b, groups=(1, 1.5))", (IMAGE, KERNEL), "groups is float64"),
    "mode": ("nc.conv2d(a, b, padding_mode=3)", (IMAGE, KERNEL), "padding_mode is .*literal"),
    "maybe": ("nc.conv2d(a, b, c if a.size else None)", (IMAGE, KERNEL, KERNEL), "bias may be"),
}


@pytest.mark.parametrize("name", UNTYPED)
def test_what_cannot_be_typed_says_what_to_do(name: str):
    expression, arguments, message = UNTYPED[name]
    names = ", ".join("abc"[: len(arguments)])
    function = numba.njit(eval(f"lambda {names}: {expression}", {"nc": nc, "np": np}))
    # Numba's own first line says in which step it failed; the second is ours.
    with pytest.raises(TypingError, match=rf"^.*\nnumbaconv\.conv2d: .*{message}"):
        function(*arguments)


# --- Callers ----------------------------------------------------------------------------------


@numba.njit(parallel=True)
def in_parallel_function(x, w):
    y, z = nc.conv2d(x, w), nc.conv_transpose2d(x, w)
    total = 0.0
    for i in numba.prange(y.shape[0]):
        total += y[i].sum()
    return y, z, total


def test_parallel_function_calls_from_its_serial_code():
    x, w = np.ones((4, 16, 50, 50)), np.ones((16, 16, 3, 3))
    y, z, total = in_parallel_function(x, w)
    same_bits(y, nc.conv2d(x, w))
    same_bits(z, nc.conv_transpose2d(x, w))
    assert total == y.sum()


@numba.njit(nogil=True)
def many(x, w, shapes):
    total = 0.0
    for i in range(shapes):
        total += nc.conv2d(x[:, :, : 9 + i], w).sum()
    return total


def race(width: int) -> None:
    """Have eight threads call with the same 60 shapes, which are new."""
    x, w = np.ones((1, 2, 80, width)), np.ones((2, 2, 3, 3))
    expected = sum(nc.conv2d(x[:, :, : 9 + i], w).sum() for i in range(60))
    results: list[float] = []
    threads = [
        threading.Thread(target=lambda: results.extend(many(x, w, 60) for _ in range(10)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 80


def test_threads_meet_new_shapes_at_once():
    race(9)


def test_more_shapes_than_are_kept(monkeypatch: pytest.MonkeyPatch):
    """Records are dropped and made again while several threads use them."""
    from numbaconv.njit import planner, protocol

    unnamed(IMAGE, KERNEL)  # loads the records
    monkeypatch.setattr(protocol, "MOST_RECORDS", 8)
    race(10)
    assert len(planner._records.by_key) <= 8
    race(11)
    many(np.ones((1, 2, 9, 12)), np.ones((2, 2, 3, 3)), 1)  # nobody else reads
    assert not planner._records.dropped


ON_A_LAYER = """
import os, sys, threading
import numba, numpy as np, numbaconv as nc
rng = np.random.default_rng(0)
x = rng.integers(-4, 4, (6, 16, 41, 43)).astype("f4")
w = rng.integers(-4, 4, (24, 16, 3, 3)).astype("f4")
expected = nc.conv2d(x, w)
@numba.njit(nogil=True)
def serial(x, w):
    return nc.conv2d(x, w)
@numba.njit(parallel=True)
def in_prange(x, w):
    y = np.empty((6, 24, 39, 41), np.float32)
    for i in numba.prange(6):
        y[i] = nc.conv2d(x[i], w)
    return y
@numba.njit
def nested(x, w):
    return in_prange(x, w)
def check():
    assert np.array_equal(serial(x, w), expected)
check()
for function in (in_prange, nested):
    for _ in range(5):
        assert np.array_equal(function(x, w), expected)
failures = []
def work():
    try:
        for i in range(20):
            check()
            assert np.array_equal(nc.conv2d(x, w), expected)
    except BaseException as failure:
        failures.append(repr(failure))
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failures, failures
assert numba.threading_layer() == os.environ["NUMBA_THREADING_LAYER"]
if hasattr(os, "fork"):
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            check()
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.parametrize(
    "layer", [LAYERS[0], *(pytest.param(layer, marks=pytest.mark.stress) for layer in LAYERS[1:])]
)
def test_prange_threads_and_fork(layer: str, run_script: Any):
    """A call in the body of a prange, threads that call at once, and a forked child."""
    if layer == "omp" and sys.platform == "darwin":
        pytest.skip("macOS wheels have no omp layer")
    run_script(
        *("-W", "ignore::DeprecationWarning", "-c", ON_A_LAYER),
        NUMBA_THREADING_LAYER=layer,
        NUMBA_NUM_THREADS="2",
    )


CACHED = """
import numba, numpy as np, numbaconv as nc
@numba.njit(cache=True)
def edges(x, w):
    return nc.conv2d(x, w, padding="same", padding_mode="reflect")
@numba.njit(cache=True)
def apply(layer, x):
    return layer(x)
@numba.njit(cache=True)
def spread(x, w):
    return nc.conv_transpose2d(x, w, stride=2, output_padding=1)
x, w = np.arange(48.0).reshape(3, 4, 4), np.ones((2, 3, 3, 3))
assert np.array_equal(edges(x, w), nc.conv2d(x, w, padding="same", padding_mode="reflect"))
assert np.array_equal(apply(nc.prepare(w), x), nc.conv2d(x, w))
expected = nc.conv_transpose2d(x, w[:1].repeat(3, 0), stride=2, output_padding=1)
assert np.array_equal(spread(x, w[:1].repeat(3, 0)), expected)
try:
    edges(x, w[:, :2])
except ValueError as error:
    assert "input channels" in str(error)
else:
    raise AssertionError("no error")
print(sum(f.stats.cache_hits[s] for f in (edges, apply, spread) for s in f.signatures))
"""


def test_cached_functions_run_in_another_process(run_script: Any, tmp_path: Path):
    script = tmp_path / "cached.py"
    script.write_text(CACHED)
    cache = str(tmp_path / "cache")
    hits = [run_script(str(script), NUMBA_CACHE_DIR=cache).stdout.strip() for _ in range(2)]
    assert hits == ["0", "4"]  # all signatures: two of edges, one of each of the others


def test_function_of_another_version(monkeypatch: pytest.MonkeyPatch):
    """One from a user's cache is refused before anything else of its request is read."""
    from numbaconv.njit import protocol

    same_bits(unnamed(IMAGE, KERNEL), nc.conv2d(IMAGE, KERNEL))
    monkeypatch.setattr(protocol, "THIS_LAYOUT", protocol.THIS_LAYOUT + 1)
    function = numba.njit(lambda x, w: nc.conv2d(x, w, activation="hardswish"))  # here alone
    with pytest.raises(RuntimeError, match="another version of numbaconv"):
        function(IMAGE, KERNEL)


def test_a_library_that_cannot_be_loaded_is_an_exception(run_script: Any):
    code = """
import sys, numba, numpy as np, numbaconv as nc
sys.modules["numbaconv.njit.planner"] = None
@numba.njit
def apply(x, w):
    return nc.conv2d(x, w)
for _ in range(2):
    try:
        apply(np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3)))
    except RuntimeError as error:
        assert "planner" in str(error), error
    else:
        raise AssertionError("no error")
del sys.modules["numbaconv.njit.planner"]
assert apply(np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3))).sum() == 36
"""
    run_script("-c", code)


def test_import_loads_nothing_of_it(run_script: Any):
    code = """
import sys, numbaconv
names = "call_site", "enter", "functions", "planner", "recipe", "request", "steps"
loaded = [name for name in names if "numbaconv.njit." + name in sys.modules]
assert not loaded, loaded
"""
    run_script("-c", code)


def test_without_the_compiler(run_script: Any):
    code = """
import numba, numpy as np, numbaconv as nc
@numba.njit
def f(x, w, layer):
    return nc.conv2d(x, w, padding="same"), layer(x), nc.im2col(x, 3), nc.conv_transpose2d(x, w)
x, w = np.arange(16.0).reshape(1, 1, 4, 4), np.ones((1, 1, 3, 3))
same, valid, columns, spread = f(x, w, nc.prepare(w))
assert same.shape == x.shape and valid.shape == (1, 1, 2, 2) and columns.shape == (1, 9, 4)
assert spread.shape == (1, 1, 6, 6)
"""
    run_script("-c", code, NUMBA_DISABLE_JIT="1")
