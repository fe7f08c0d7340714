"""Transposed convolutions from compiled code: the oracle's results, with the bits of Python's."""

from __future__ import annotations

import re
from typing import Any

import numba
import numpy as np
import pytest
from numba.core.errors import TypingError

import numbaconv as nc
from tests.conftest import thinned
from tests.njit.arrays import LAYOUTS, same_bits
from tests.oracle.cases import BY_NAME, Array, Case, problem, transposed_options
from tests.oracle.gradient_cases import (
    FEW,
    GRADIENTS,
    bias_of,
    check_equal,
    exact_results,
    normal_operands,
    wrapping_operands,
)

if numba.config.DISABLE_JIT:
    pytest.skip("there is no compiled code to call from", allow_module_level=True)


@numba.njit
def spread1d(x, w, b, stride, padding, more, groups, dilation):
    return nc.conv_transpose1d(x, w, b, stride, padding, more, groups, dilation)


@numba.njit
def spread2d(x, w, b, stride, padding, more, groups, dilation):
    return nc.conv_transpose2d(x, w, b, stride, padding, more, groups, dilation)


@numba.njit
def spread3d(x, w, b, stride, padding, more, groups, dilation):
    return nc.conv_transpose3d(x, w, b, stride, padding, more, groups, dilation)


INSIDE = {3: spread1d, 4: spread2d, 5: spread3d}
OUTSIDE = {3: nc.conv_transpose1d, 4: nc.conv_transpose2d, 5: nc.conv_transpose3d}


def inside(x: Array, w: Array, b: Array | None, options: dict[str, Any]) -> Array:
    """Call from compiled code; no bias becomes zeros, to compile less."""
    if b is None:
        b = np.zeros(w.shape[1] * options["groups"], w.dtype)
    return INSIDE[w.ndim](x, w, b, *options.values())


SPREAD = [case for case in GRADIENTS if transposed_options(case) is not None]


@pytest.mark.parametrize("case", thinned(SPREAD, 3), ids=str)
def test_cases(case: Case, backend: str):
    o, options = normal_operands(case), transposed_options(case)
    nc.set_backend(backend)
    b = bias_of(case, o)
    same_bits(inside(o.g, o.w, b, options), OUTSIDE[o.w.ndim](o.g, o.w, b, **options))


@pytest.mark.target
@pytest.mark.parametrize("case", [c for c in FEW if c in SPREAD], ids=str)
def test_exact(case: Case, backend: str):
    o, _, _, expected = exact_results(case)
    nc.set_backend(backend)
    got = inside(o.g, o.w, bias_of(case, o), transposed_options(case))
    check_equal(got, expected, np.float32)


STRIDED, DEPTHWISE = BY_NAME["stride_3x2"], BY_NAME["depthwise_stride_2"]


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize("case", [STRIDED, DEPTHWISE], ids=str)
def test_complex(case: Case, dtype: str, backend: str):
    o, options = normal_operands(case, dtype), transposed_options(case)
    nc.set_backend(backend)
    same_bits(inside(o.g, o.w, None, options), OUTSIDE[o.w.ndim](o.g, o.w, **options))


@pytest.mark.parametrize(
    "dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
)
def test_integers_wrap(dtype: str):
    o, options = wrapping_operands(STRIDED, dtype), transposed_options(STRIDED)
    same_bits(inside(o.g, o.w, None, options), nc.conv_transpose2d(o.g, o.w, **options))


MIXED = [
    ("float32", "float64", "float32"),
    ("float64", "int16", "float32"),
    ("complex64", "float32", "float32"),
    ("float64", "complex64", "float64"),
    ("int8", "uint8", "int8"),
]


@pytest.mark.parametrize("dtypes", MIXED, ids="-".join)
def test_mixed_dtypes_are_promoted(dtypes: tuple[str, str, str]):
    o, options = normal_operands(STRIDED), transposed_options(STRIDED)
    b = np.ones(o.w.shape[1])
    x, w, b = ((10 * a).astype(d) for a, d in zip((o.g, o.w, b), dtypes, strict=True))
    same_bits(inside(x, w, b, options), nc.conv_transpose2d(x, w, b, **options))


@numba.njit
def store(x, w, b, out):
    return nc.conv_transpose2d(x, w, b, 2, dilation=2, out=out)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_strides_read_only_arrays_and_out(dtype: str, layout: str):
    rng = np.random.default_rng(0)
    shapes = ((2, 6, 5, 4), (6, 3, 3, 2))
    x, w = (LAYOUTS[layout](rng.standard_normal(s).astype(dtype)) for s in shapes)
    b = rng.standard_normal(6).astype(dtype)[::2]
    for array in (x, w, b):
        array.flags.writeable = False
    expected = nc.conv_transpose2d(x, w, b, 2, dilation=2)
    same_bits(store(x, w, b, None), expected)
    if layout != "broadcast":  # which cannot be written to
        out = LAYOUTS[layout](np.full(expected.shape, 99, dtype))
        assert np.shares_memory(store(x, w, b, out), out)
        same_bits(out, expected)


def test_out_of_small_integers():
    x, w = np.full((1, 2, 4, 5), 100, np.int8), np.full((2, 3, 3, 3), 7, np.int8)
    expected = nc.conv_transpose2d(x, w, None, 2, dilation=2)
    out = np.full(expected.shape, 99, np.int8)
    store(x, w, None, out)
    same_bits(out, expected)


@numba.njit
def every_rank(signal, image, volume, w1, w2, w3):
    return (
        nc.conv_transpose1d(signal, w1),
        nc.conv_transpose2d(image, w2, None, 2, padding=1, output_padding=1),
        nc.conv_transpose2d(image, w2, stride=(2, 3), padding=((1, 0), (0, 2)), backend="im2col"),
        nc.conv_transpose3d(volume, w3, dilation=(1, 2, 1), groups=3),
    )


def test_functions_of_each_rank_and_forms_of_arguments():
    rng = np.random.default_rng(0)
    shapes = ((3, 9), (3, 9, 8), (2, 3, 5, 6, 7), (3, 2, 3), (3, 4, 3, 3), (3, 4, 2, 3, 3))
    signal, image, volume, w1, w2, w3 = arrays = [rng.standard_normal(s) for s in shapes]
    results = every_rank(*arrays)
    same_bits(results[0], nc.conv_transpose1d(signal, w1))
    same_bits(results[1], nc.conv_transpose2d(image, w2, None, 2, padding=1, output_padding=1))
    pairs = {"stride": (2, 3), "padding": ((1, 0), (0, 2)), "backend": "im2col"}
    same_bits(results[2], nc.conv_transpose2d(image, w2, **pairs))
    same_bits(results[3], nc.conv_transpose3d(volume, w3, dilation=(1, 2, 1), groups=3))


@numba.njit
def plain(x, w):
    return nc.conv_transpose2d(x, w)


def test_backend_is_chosen_as_outside(monkeypatch: pytest.MonkeyPatch):
    from numbaconv.njit import functions

    names: list[str] = []
    engines = functions.engines_of_parts

    def note(plan: Any, name: str) -> Any:
        names.append(name)
        return engines(plan, name)

    monkeypatch.setattr(functions, "engines_of_parts", note)
    x, w = np.ones((1, 2, 9, 103)), np.ones((2, 3, 3, 3))
    plain(x, w)
    monkeypatch.setenv("NUMBACONV_BACKEND", "im2col")
    plain(x, w)
    nc.set_backend("direct")
    plain(x, w)
    with nc.use_backend("im2col"):
        plain(x, w)
    assert names == ["auto", "im2col", "direct"]  # the last one has a record
    monkeypatch.setenv("NUMBACONV_BACKEND", "cuda")
    nc.set_backend(None)
    with pytest.raises(nc.BackendUnavailableError, match="compiled code"):
        plain(x, w)


def test_large_problems_on_several_threads(backend: str):
    case = problem("large", (2, 24, 61, 67), (16, 24, 3, 3), stride=2, padding=1)
    o, options = normal_operands(case, np.float64), transposed_options(case)
    before = numba.get_num_threads()
    nc.set_backend(backend)
    try:
        for threads in {before, 1}:
            numba.set_num_threads(threads)
            same_bits(inside(o.g, o.w, None, options), nc.conv_transpose2d(o.g, o.w, **options))
    finally:
        numba.set_num_threads(before)


def test_nothing_to_add_up_leaves_the_bias():
    b = np.array([1.0, -2.0, 3.0])
    x, w = np.ones((2, 0, 4, 4)), np.ones((0, 3, 2, 2))
    same_bits(store(x, w, b, None), nc.conv_transpose2d(x, w, b, 2, dilation=2))
    x, w = np.ones((0, 2, 4, 4)), np.ones((2, 3, 2, 2))
    same_bits(store(x, w, b, None), nc.conv_transpose2d(x, w, b, 2, dilation=2))


# --- Errors -----------------------------------------------------------------------------------

W, G, B = (np.zeros(s, np.float32) for s in ((4, 3, 3, 3), (2, 4, 4, 5), (6,)))
REFUSED: dict[str, dict[str, Any]] = {
    "groups": {"input": G[:, :3]},
    "channels": {"input": np.zeros((2, 6, 4, 5), np.float32)},
    "axes": {"weight": W[0]},
    "empty_input": {"input": G[:, :, :0]},
    "empty_kernel": {"weight": W[..., :0]},
    "bias": {"bias": np.zeros(4, np.float32)},
    "large_padding": {"padding": 9},
    "negative_padding": {"padding": -1},
    "output_padding": {"output_padding": 2},
    "negative_output_padding": {"output_padding": -1},
    "output_paddings": {"output_padding": (1, 0, 0)},
    "huge_stride": {"stride": 2**60},
}


@pytest.mark.parametrize("name", REFUSED)
def test_errors_are_those_of_python(name: str):
    # In the order of the signature.
    arguments: dict[str, Any] = {"input": G, "weight": W, "bias": B, "stride": 2, "padding": 0}
    arguments |= {"output_padding": 0, "groups": 2, "dilation": 1}
    same_bits(spread2d(*arguments.values()), nc.conv_transpose2d(**arguments))
    arguments |= REFUSED[name]
    with pytest.raises(ValueError, match=r"\w") as outside:
        nc.conv_transpose2d(**arguments)
    for _ in range(2):
        with pytest.raises(ValueError, match=re.escape(str(outside.value))):
            spread2d(*arguments.values())


@numba.njit
def last_and_activated(x, w, b):
    return nc.conv_transpose2d(
        x, w, b, 3, padding="same", data_format="channels_last", activation="tanh"
    )


@numba.njit
def complex_and_last(x, w):
    return nc.conv_transpose2d(x, w, stride=2, padding="same_lower", data_format="channels_last")


@numba.njit
def apply(layer, x, out):
    return layer(x, out)


@pytest.mark.parametrize("kernel", [2, 3])
def test_words_formats_and_activations(kernel: int):
    """The smaller kernel leaves gaps."""
    rng = np.random.default_rng(0)
    shapes = ((2, 5, 7, 6), (6, 4, kernel, kernel), (4,))
    x, w, b = (rng.standard_normal(s).astype(np.float32) for s in shapes)
    options: dict[str, Any] = {"padding": "same", "data_format": "channels_last"}
    right = nc.conv_transpose2d(x, w, b, 3, **options, activation="tanh")
    same_bits(last_and_activated(x, w, b), right)
    same_bits(last_and_activated(x.astype(float)[..., ::-1], w, b), last_outside(x, w, b))
    x, w = x.astype(complex), w + 1j * w[::-1]
    options["padding"] = "same_lower"
    same_bits(complex_and_last(x, w), nc.conv_transpose2d(x, w, None, 2, **options))


def last_outside(x: Array, w: Array, b: Array) -> Array:
    x = x.astype(float)[..., ::-1]
    options: dict[str, Any] = {"padding": "same", "data_format": "channels_last"}
    return nc.conv_transpose2d(x, w, b, 3, **options, activation="tanh")


@pytest.mark.parametrize(
    ("shape", "stride"), [((6, 4, 3, 3), 2), ((6, 4, 2, 2), 3), ((9, 2, 3, 40), 17)], ids=str
)
def test_layers(shape: tuple[int, ...], stride: int):
    """Plain ones, with gaps, and with phases as channels; after an update with other weights."""
    rng = np.random.default_rng(0)
    w, b = rng.standard_normal(shape), rng.standard_normal(shape[1])
    layer = nc.prepare_transposed(w, b, stride, padding="same", activation="silu")
    for columns in (5, 4, 5):
        x = rng.standard_normal((2, shape[0], 3, columns))
        right = nc.conv_transpose2d(x, w, b, stride, "same", activation="silu")
        same_bits(apply(layer, x, None), right)
        out = np.empty_like(right)
        apply(layer, x, out)
        same_bits(out, right)
    layer.update(w - 1, b + 1)
    right = nc.conv_transpose2d(x, w - 1, b + 1, stride, "same", activation="silu")
    same_bits(apply(layer, x, None), right)


def test_layers_of_both_kinds_are_of_one_type():
    forward = nc.prepare(np.ones((2, 3, 3, 3)))
    back = nc.prepare_transposed(np.ones((2, 3, 3, 3)))
    assert numba.typeof(forward) == numba.typeof(back)
    x = np.arange(150.0).reshape(2, 3, 5, 5)
    for layer in (forward, back):
        x = apply(layer, x, None)
    same_bits(x, back(forward(np.arange(150.0).reshape(2, 3, 5, 5))))


def test_out_is_checked():
    x, w, b = np.ones((2, 4, 9, 9)), np.ones((4, 4, 1, 1)), np.zeros(4)
    with pytest.raises(ValueError, match="out has shape"):
        store(x, w, b, np.empty((2, 4, 7, 8)))
    with pytest.raises(TypeError, match="out has dtype float32"):
        store(x, w, b, np.empty((2, 4, 17, 17), np.float32))
    memory = np.ones((2, 4, 17, 17))
    with pytest.raises(ValueError, match="out overlaps input"):
        store(memory[:, :, :9, :9], w, b, memory)


UNTYPED = {
    "float16": ("nc.conv_transpose2d(a, b)", "f2", "float16.*float32 before"),
    "bool_array": ("nc.conv_transpose2d(a, b)", "?", "bool.*astype"),
    "float_stride": ("nc.conv_transpose2d(a, b, stride=0.5)", "f4", "stride is float64.*int"),
    "list": ("nc.conv_transpose2d(a, b, output_padding=[1, 1])", "f4", "output_padding is .*tuple"),
    "backend": ("nc.conv_transpose2d(a, b, backend=3)", "f4", "backend is .*literal"),
}


@pytest.mark.parametrize("name", UNTYPED)
def test_what_cannot_be_typed_says_what_to_do(name: str):
    expression, dtype, message = UNTYPED[name]
    function = numba.njit(eval(f"lambda a, b: {expression}", {"nc": nc}))
    x, w = np.ones((1, 2, 5, 5), dtype), np.ones((2, 2, 3, 3), dtype)
    with pytest.raises(TypingError, match=re.compile(f"numbaconv.*{message}", re.DOTALL)):
        function(x, w)
