"""Gradients and transposed convolutions of the cuda backend: in Numba's simulator, or on a GPU.

The commands are those of `test_convolution.py`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import numbaconv as nc
from tests.oracle import reference
from tests.oracle.cases import Array, Case, problem, transposed_options

if "cuda" not in nc.available_backends():
    pytest.skip("no CUDA device and no simulator", allow_module_level=True)

from numbaconv.cuda import convolution, toolkit
from numbaconv.cuda.problem import reciprocal
from tests.cuda.arrays import OnDevice, result_of
from tests.oracle.gradient_cases import (
    FEW,
    GRADIENTS,
    Operands,
    bias_of,
    integer_operands,
    names,
    normal_operands,
)

SIMULATED = toolkit.simulated()

TINY: tuple[Case, ...] = (
    problem("layer", (2, 3, 3, 4), (5, 3, 3, 3), bias=True, padding=1),
    problem("stride_2", (1, 3, 5, 4), (2, 3, 3, 3), stride=2, padding=1, bias=True),
    problem("stride_unread", (1, 2, 6, 5), (3, 2, 1, 2), stride=(3, 2), bias=True),
    problem("stride_dilation", (1, 2, 7, 5), (3, 2, 3, 2), stride=(2, 3), dilation=(3, 2)),
    problem("pairs", (1, 2, 3, 4), (3, 2, 3, 3), padding=((1, 2), (3, 0))),
    problem("groups", (2, 4, 3, 3), (6, 2, 2, 2), groups=2, padding=1),
    problem("unbatched", (3, 2, 3), (5, 3, 3, 3), padding="same"),
    problem("one_output", (1, 3, 3, 3), (5, 3, 3, 3)),
    problem("one_output_inside", (1, 4, 2, 2), (4, 4, 3, 3), padding=(1, 1), stride=2),
    problem("many_channels", (1, 17, 2, 1), (18, 17, 1, 1), bias=True),
    problem("1d", (2, 3, 9), (5, 3, 4), padding=2, stride=2, bias=True),
    problem("3d", (1, 2, 3, 4, 3), (3, 2, 2, 3, 2), padding=1, stride=(1, 2, 1), bias=True),
    problem("depthwise", (2, 2, 3, 5), (2, 1, 3, 5), groups=2, padding=(1, 2), bias=True),
    problem("depthwise_stride", (1, 2, 5, 4), (2, 1, 3, 3), groups=2, padding=1, stride=2),
    problem("depthwise_twice", (1, 2, 4, 5), (4, 1, 3, 3), groups=2, padding=2, dilation=(1, 2)),
    problem("one_channel", (1, 1, 5, 6), (1, 1, 3, 4), padding="same"),
    problem("empty_batch", (0, 5, 5, 4), (7, 5, 3, 3), padding=1),
    problem("no_input_channels", (2, 0, 5, 7), (3, 0, 3, 3)),
    problem("no_output_channels", (2, 3, 5, 7), (0, 3, 3, 3)),
)
SHORT = tuple(c for c in TINY if c.name in ("layer", "stride_2", "groups", "depthwise"))
EVERY = TINY if SIMULATED else (*TINY, *GRADIENTS)
SOME = SHORT if SIMULATED else (*TINY, *FEW)
OTHERS = [] if SIMULATED else ["int64", "uint8", "complex128"]
LAYER, STRIDED = SHORT[:2]


@pytest.fixture(autouse=True)
def fresh_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep nothing of a device that a test pretends to have."""
    monkeypatch.setattr("numbaconv.problem.plan._adjoint_plans", {})


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device with room, on which long sums are split."""
    device = toolkit.device()._replace(processors=4)
    monkeypatch.setattr("numbaconv.cuda.gradients.device", lambda: device)
    monkeypatch.setattr("numbaconv.cuda.cost.LEAST_STEPS", 1)
    monkeypatch.setattr("numbaconv.cuda.cost.LAUNCH", 0)


def results(case: Case, o: Operands, convert: Any = lambda a: a, **options: Any) -> list[Any]:
    """Both gradients, and the transposed convolution where there is one."""
    conv_input, conv_weight, conv_transpose = names(case)
    x, w, g = convert(o.x), convert(o.w), convert(o.g)
    found = [
        conv_input(case.input, w, g, **case.kwargs, **options),
        conv_weight(x, case.weight, g, **case.kwargs, **options),
    ]
    spread = transposed_options(case)
    if spread is not None:
        bias = bias_of(case, o)
        bias = None if bias is None else convert(bias)
        found.append(conv_transpose(g, w, bias, **spread, **options))
    return found


def exact(case: Case, o: Operands) -> list[Array]:
    spread = transposed_options(case)
    return [
        reference.conv_input(case.input, o.w, o.g, **case.kwargs),
        reference.conv_weight(o.x, case.weight, o.g, **case.kwargs),
        *(
            []
            if spread is None
            else [reference.conv_transpose(o.g, o.w, bias_of(case, o), **spread)]
        ),
    ]


def check_equal(got: list[Any], expected: list[Array], dtype: Any) -> None:
    for y, correct in zip(got, expected, strict=True):
        assert isinstance(y, np.ndarray)
        assert y.shape == correct.shape
        assert y.dtype == dtype
        np.testing.assert_array_equal(y, correct)


@pytest.mark.parametrize("case", EVERY, ids=str)
def test_exact(case: Case):
    o = integer_operands(case)
    check_equal(results(case, o, backend="cuda"), exact(case, o), "float32")


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", *OTHERS])
@pytest.mark.parametrize("case", SOME, ids=str)
def test_exact_in_other_dtypes(case: Case, dtype: str):
    o = integer_operands(case, dtype)
    check_equal(results(case, o, backend="cuda"), exact(case, o), dtype)


@pytest.mark.parametrize("case", SOME[1:3] if SIMULATED else SOME, ids=str)
def test_exact_of_complex_numbers(case: Case):
    o = integer_operands(case, "complex64")
    check_equal(results(case, o, backend="cuda"), exact(case, o), "complex64")


@pytest.mark.parametrize("name", ["x", "w", "g"])
def test_one_complex_factor(name: str):
    """What is real beside complex numbers counts as having imaginary parts of zero."""
    o = integer_operands(STRIDED)
    more = integer_operands(STRIDED, "complex64")
    o = o._replace(**{name: getattr(more, name)})
    for got, correct in zip(results(STRIDED, o, backend="cuda"), exact(STRIDED, o), strict=True):
        np.testing.assert_array_equal(got, correct)


@pytest.mark.parametrize("case", SOME, ids=str)
def test_exact_on_tensor_cores(case: Case):
    """Small integers have few enough bits for tf32."""
    o = integer_operands(case)
    check_equal(results(case, o, backend="cuda", precision="tf32"), exact(case, o), "float32")


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64"])
@pytest.mark.parametrize("case", [STRIDED] if SIMULATED else SOME, ids=str)
def test_random_under_the_bound(case: Case, dtype: str):
    o = normal_operands(case, dtype)
    wide = reference.ACCUMULATORS[dtype]
    magnitudes = Operands(
        *(None if a is None else np.abs(a.astype(wide)) for a in (o.x, o.w, o.b, o.g))
    )
    of_input = case.weight[0] // case.kwargs.get("groups", 1) * math.prod(case.weight[2:])
    of_weight = math.prod(case.output) // case.weight[0]
    terms = (of_input, of_weight, of_input + 1)
    every = zip(
        results(case, o, backend="cuda"), exact(case, o), exact(case, magnitudes), strict=True
    )
    for count, (got, correct, magnitude) in zip(terms, every, strict=False):
        bound = reference.sum_bound(count, o.g.dtype, magnitude, correct)
        assert got.dtype == dtype
        assert np.all(np.abs(got - correct) <= bound)


def test_tf32_rounds_factors():
    case = LAYER
    o = normal_operands(case)
    for got, ieee in zip(
        results(case, o, backend="cuda", precision="tf32"),
        results(case, o, backend="cuda"),
        strict=True,
    ):
        assert np.any(got != ieee)
        assert np.all(np.abs(got - ieee) <= 2.0**-7 * np.abs(ieee).max())


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("precision", ["ieee", "tf32"])
def test_where_nan_goes(precision: str):
    """Nothing is read past the last pixel, channel or tap and multiplied by zero."""
    case = problem("odd", (3, 2, 3, 4), (3, 2, 2, 2))
    o = integer_operands(case)
    for at in (0, -1):
        g = o.g.copy()
        g.flat[at] = np.nan
        poisoned = o._replace(g=g)
        got = results(case, poisoned, backend="cuda", precision=precision)
        check_equal(got, exact(case, poisoned), "float32")


def test_quotients_by_reciprocals():
    rng = np.random.default_rng(0)
    most = 2**31 - 1
    powers = [2**i + d for i in range(31) for d in (-1, 0, 1) if 0 < 2**i + d <= most]
    for divisor in (*powers, *rng.integers(1, most, 200).tolist(), *range(1, 300)):
        magic, shift = reciprocal(divisor)
        assert -(2**31) <= magic < 0
        assert shift < 64
        last = most // divisor * divisor
        for number in (0, divisor - 1, divisor, last - 1, last, most, int(rng.integers(most))):
            assert number * (magic & 0xFFFFFFFF) >> shift == number // divisor


# How the work is cut.


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32"])
def test_split_sums(dtype: str):
    """The parts are added up in the same order every time, and stored a stride apart."""
    case = problem("deep", (2, 2, 4, 9), (17, 2, 2, 1), stride=2, bias=True)
    o = integer_operands(case, dtype)
    got = results(case, o, backend="cuda")
    check_equal(got, exact(case, o), dtype)
    kept = [work for plan in plans() for work in plan.on_devices.values()]
    assert any(work.splits > 1 for work in kept if isinstance(work, convolution.WeightGradient))
    assert any(conv.splits > 1 for work in kept for _, conv in getattr(work, "phases", ()))
    for first, again in zip(got, results(case, o, backend="cuda"), strict=True):
        assert first.tobytes() == again.tobytes()


def plans() -> list[Any]:
    from numbaconv.problem import plan

    return list(plan._adjoint_plans.values())


def test_older_tensor_cores(monkeypatch: pytest.MonkeyPatch):
    device = toolkit.device()._replace(capability=(7, 5))
    monkeypatch.setattr("numbaconv.cuda.gradients.device", lambda: device)
    case = LAYER
    o = integer_operands(case, "float16")
    check_equal(results(case, o, backend="cuda"), exact(case, o), "float16")
    o = integer_operands(case)
    for i in range(3):
        with pytest.raises(nc.BackendUnavailableError, match=r"tf32.*8\.0"):
            calls(case, o)[i](backend="cuda", precision="tf32")


def calls(case: Case, o: Operands) -> list[Any]:
    """The three functions, each with its arrays."""
    conv_input, conv_weight, conv_transpose = names(case)
    return [
        lambda **more: conv_input(case.input, o.w, o.g, **case.kwargs, **more),
        lambda **more: conv_weight(o.x, case.weight, o.g, **case.kwargs, **more),
        lambda **more: conv_transpose(o.g, o.w, **transposed_options(case), **more),
    ]


def test_problems_too_large_are_refused():
    rows = np.broadcast_to(np.int8(0), (2**24 + 1, 2, 1))  # one would be a filter
    for backend in ("cuda", None):
        asked = {} if backend is None else {"backend": backend}
        with pytest.raises(nc.BackendUnavailableError, match="rows of pixels"):
            nc.grad.conv1d_weight(OnDevice(rows), (2, 2, 1), OnDevice(rows), **asked)
    long = np.broadcast_to(np.int8(0), (1, 2, 2**30))
    with pytest.raises(nc.BackendUnavailableError, match=str(2**31)):
        nc.grad.conv1d_input(long.shape, np.zeros((1, 2, 1), "i1"), long[:, :1], backend="cuda")


# Arrays on the device.


@pytest.mark.parametrize("dtype", ["float16", "float32", "complex64", "uint8"])
@pytest.mark.parametrize("case", [STRIDED] if SIMULATED else SOME, ids=str)
def test_arrays_on_the_device(case: Case, dtype: str):
    o = integer_operands(case, dtype)
    correct = exact(case, o)
    check_equal([result_of(y) for y in results(case, o, OnDevice)], correct, dtype)
    spread = transposed_options(case)
    out = OnDevice(np.full(case.input, 9, dtype))
    bias = bias_of(case, o)
    bias = None if bias is None else OnDevice(bias)
    conv_transpose = names(case)[2]
    got = conv_transpose(OnDevice(o.g), OnDevice(o.w), bias, **spread, out=out, backend="cuda")
    assert got is out
    check_equal([np.asarray(out.get())], correct[2:], dtype)


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_any_strides(dtype: str):
    case = STRIDED
    o = integer_operands(case, dtype)
    reversed_rows = o._replace(
        x=o.x[..., ::-1].copy()[..., ::-1],
        w=np.asfortranarray(o.w),
        g=np.repeat(o.g, 2, axis=-1)[..., ::2],
    )
    correct = exact(case, o)
    check_equal([result_of(y) for y in results(case, reversed_rows, OnDevice)], correct, dtype)
    check_equal(results(case, reversed_rows, backend="cuda"), correct, dtype)
    out = OnDevice(np.asfortranarray(np.zeros(case.input, dtype)))
    calls(case, o._replace(g=OnDevice(o.g), w=OnDevice(o.w)))[2](out=out)
    expected = reference.conv_transpose(o.g, o.w, **transposed_options(case))
    check_equal([np.array(out.get())], [expected], dtype)


def test_sides_are_kept_apart():
    case = LAYER
    o = integer_operands(case)
    there = o._replace(x=OnDevice(o.x), g=OnDevice(o.g))
    for call in calls(case, there)[::2]:
        with pytest.raises(TypeError, match=r"on a GPU is .*; in host memory is weight"):
            call()
    with pytest.raises(TypeError, match=r"on a GPU is grad_output; in host memory is input"):
        calls(case, there._replace(x=o.x))[1]()
    with pytest.raises(TypeError, match=r"on a GPU is out"):
        calls(case, o)[2](out=OnDevice(np.zeros(case.input, "f4")))
    for call in calls(case, there._replace(w=OnDevice(o.w))):
        with pytest.raises(TypeError, match=r"GPU.*direct.*CPU"):
            call(backend="direct")
        with nc.use_backend("im2col"), pytest.raises(TypeError, match="use_backend"):
            call()


def test_by_the_environment(monkeypatch: pytest.MonkeyPatch):
    case = LAYER
    o = normal_operands(case)
    monkeypatch.setenv("NUMBACONV_BACKEND", "CUDA")
    exactly = results(case, o)
    monkeypatch.setenv("NUMBACONV_PRECISION", "tf32")
    for ieee, rounded in zip(exactly, results(case, o), strict=True):
        assert np.any(ieee != rounded)
    assert all(plan.on_devices for plan in plans())


@pytest.mark.skipif(SIMULATED, reason="the simulator has no streams")
def test_streams():
    from numba import cuda

    case = STRIDED
    o = integer_operands(case)
    stream = cuda.stream()
    for given in (stream, int(stream), 0):
        check_equal(results(case, o, backend="cuda", stream=given), exact(case, o), "float32")
        got = results(case, o, OnDevice, stream=given)
        cuda.synchronize()
        check_equal([result_of(y) for y in got], exact(case, o), "float32")


# Formats, activations, words for padding, and layers of transposed convolutions.

UNREAD = next(case for case in TINY if case.name == "stride_unread")


@pytest.mark.parametrize("dtype", ["float32", "complex64", "float16"])
@pytest.mark.parametrize("case", [LAYER, STRIDED, UNREAD], ids=str)
def test_formats_activations_and_layers(case: Case, dtype: str):
    o, options = integer_operands(case, dtype), transposed_options(case)
    b, function = bias_of(case, o) - 2, nc.conv_transpose2d
    right = reference.conv_transpose(o.g, o.w, b, **options).astype(dtype)
    if dtype != "complex64":
        options["activation"], right = "relu", np.maximum(right, 0)
    g, right = np.ascontiguousarray(np.moveaxis(o.g, 1, -1)), np.moveaxis(right, 1, -1)
    options["data_format"] = "channels_last"
    layer = nc.prepare_transposed(o.w, b, **options, backend="cuda")
    for x in (g, OnDevice(g)):
        for call in (layer, lambda x: function(x, *weights(x, o.w, b), **options, backend="cuda")):
            got = call(x)
            got = got if isinstance(got, np.ndarray) else result_of(got)
            np.testing.assert_array_equal(got, right)
    kept = list(layer.weights.packed.values())
    layer(g)
    assert list(layer.weights.packed.values()) == kept


def weights(x: Any, *arrays: Array) -> Any:
    """Weights on the side of an input."""
    return arrays if isinstance(x, np.ndarray) else map(OnDevice, arrays)


def test_words_for_padding_and_bools():
    x = np.arange(6, dtype=np.float32).reshape(1, 1, 6)
    w = np.array([[[1, 10, 100]]], np.float32)
    for word in ("same", "same_lower"):
        right = nc.conv_transpose1d(x, w, None, 2, word)
        np.testing.assert_array_equal(
            nc.conv_transpose1d(x, w, None, 2, word, backend="cuda"), right
        )
    there = nc.conv_transpose1d(OnDevice(x % 2 > 0), OnDevice(w), None, 2)
    np.testing.assert_array_equal(result_of(there), nc.conv_transpose1d(x % 2 > 0, w, None, 2))
    there = nc.conv1d(OnDevice(x), OnDevice(w > 5), OnDevice(np.ones(1, bool)))
    np.testing.assert_array_equal(result_of(there), nc.conv1d(x, w > 5) + 1)
