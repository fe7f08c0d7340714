"""Transposed convolutions: their words for padding, formats, activations, and prepared layers."""

from __future__ import annotations

import pickle
import random
import threading
from typing import Any

import numpy as np
import pytest

import numbaconv as nc
from tests.oracle import reference
from tests.oracle.cases import Array
from tests.oracle.problems import choose

FUNCTIONS = {1: nc.conv_transpose1d, 2: nc.conv_transpose2d, 3: nc.conv_transpose3d}
ACTIVATIONS = (
    *("relu", "relu6", "leaky_relu", "hardswish", "sigmoid", "tanh", "silu", "gelu", "gelu_tanh"),
    *("mish", "softplus"),
)
LAST: dict[str, Any] = {"data_format": "channels_last"}


def whole_numbers(shape: tuple[int, ...], seed: int, dtype: Any = np.float32) -> Array:
    """Sums of these are exact in any order."""
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(dtype)


def to_last(a: Array, rank: int) -> Array:
    return np.ascontiguousarray(np.moveaxis(a, -rank - 1, -1))


def draw(seed: int) -> tuple[Array, Array, Array | None, dict[str, Any]]:
    """Operands, channels first, and options whose padding is a word."""
    integer = random.Random(seed).randint
    rank = integer(1, 3)

    def each(most: int) -> tuple[int, ...]:
        return tuple(integer(1, most) for _ in range(rank))

    kernel, stride, dilation, size = each(5), each(5), each(3), each((40, 12, 5)[rank - 1])
    groups, inner, outer = choose(integer, (1, 1, 2, 3)), integer(1, 20), integer(1, 20)
    dtype = choose(integer, ("float32", "float32", "float64", "float16", "int16", "complex64"))
    x = whole_numbers((integer(1, 2), groups * inner, *size), seed, dtype)
    w = whole_numbers((groups * inner, outer, *kernel), seed + 1, dtype)
    b = whole_numbers((groups * outer,), seed + 2, dtype) if integer(0, 1) else None
    if dtype == "complex64":
        w = w + 1j * whole_numbers(w.shape, seed + 3)
    if not integer(0, 3):
        x = x[0]
    word = choose(integer, ("same", "same_lower", "valid"))
    options = {"stride": stride, "padding": word, "groups": groups, "dilation": dilation}
    return x, w.astype(dtype), b, options


def expected(x: Array, w: Array, b: Array | None, options: dict[str, Any]) -> Array:
    """What all input elements reach, cut or continued to the size that the word says."""
    rank = w.ndim - 2
    word, rest = options["padding"], {k: v for k, v in options.items() if k != "padding"}
    y = reference.conv_transpose(x, w, None, **rest)
    if word != "valid":
        axes = zip(x.shape[-rank:], w.shape[2:], rest["stride"], rest["dilation"], strict=True)
        for i, (n, k, s, d) in enumerate(axes, start=y.ndim - rank):
            lo, _ = reference.padding_pair(word, 0, n * s, k, s, d)
            y = np.moveaxis(y, i, 0)[lo : lo + n * s]
            y = np.concatenate([y, np.zeros((n * s - len(y), *y.shape[1:]), y.dtype)])
            y = np.moveaxis(y, 0, i)
    return y if b is None else y + b.reshape(-1, *(1,) * rank).astype(y.dtype)


@pytest.mark.parametrize("seed", range(32))
def test_words_formats_and_layers(seed: int, backend: str):
    """Plain and prepared calls, channels first and last, against the definition."""
    x, w, b, options = draw(seed)
    rank = w.ndim - 2
    exact = expected(x, w, b, options)
    dtype = reference.result_dtype(x, w, b)
    if dtype.kind == "f":
        options["activation"], exact = "relu", np.maximum(exact, 0)
    function = FUNCTIONS[rank]
    y = function(x, w, b, **options, backend=backend)
    np.testing.assert_array_equal(y, exact.astype(dtype), strict=True)
    last = function(to_last(x, rank), w, b, **options, **LAST, backend=backend)
    assert last.flags.c_contiguous
    np.testing.assert_array_equal(last, to_last(y, rank))
    view = function(np.moveaxis(to_last(x, rank), -1, -rank - 1), w, b, **options, backend=backend)
    np.testing.assert_array_equal(view, y)
    layer = nc.prepare_transposed(w, b, **options, **LAST, backend=backend)
    out = np.full_like(last, 77)
    for _ in range(2):
        assert layer(to_last(x, rank)).tobytes() == last.tobytes()
        assert layer(to_last(x, rank), out=out) is out
        assert out.tobytes() == last.tobytes()


def test_same_cuts_what_the_convolution_adds():
    """One element more is cut off at the end, as "same" adds one more there."""
    x, w = np.array([[1.0, 2.0]]), np.array([[[1.0, 10.0, 100.0]]])
    np.testing.assert_array_equal(
        nc.conv_transpose1d(x, w, stride=2, padding="same"), [[1, 10, 102, 20]]
    )
    np.testing.assert_array_equal(
        nc.conv_transpose1d(x, w, stride=2, padding="same_lower"), [[10, 102, 20, 200]]
    )
    np.testing.assert_array_equal(  # with gaps, which have the bias
        nc.conv_transpose1d(x, w, [5.0], stride=4, padding="same"), [[6, 15, 105, 5, 7, 25, 205, 5]]
    )


@pytest.mark.parametrize("word", ["same", "same_lower", "valid", "full"])
@pytest.mark.parametrize("seed", range(12))
def test_it_is_the_adjoint_of_the_convolution_with_the_same_word(seed: int, word: str):
    """<conv(x, w), g> = <x, conv_transpose(g, w)>, exact for small integers."""
    integer = random.Random(seed).randint
    kernel, stride, dilation = ((integer(1, 5), integer(1, 5)) for _ in range(3))
    reach = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
    output = [integer(1, 6) + (r if word == "full" else 0) for r in reach]
    w = whole_numbers((3, 2, *kernel), seed, float)
    options = {"stride": stride, "padding": word, "dilation": dilation}
    g = whole_numbers((2, 3, *output), seed + 1, float)
    spread = nc.conv_transpose2d(g, w, **options)
    x = whole_numbers(spread.shape, seed + 2, float)
    y = reference.conv(x, w, **options)
    assert y.shape == g.shape
    assert np.vdot(y, g) == np.vdot(x, spread)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    ("x", "w", "options"),
    [
        ((2, 7, 5, 9), (7, 5, 3, 3), {"stride": 2, "padding": 1}),
        ((2, 7, 5, 9), (7, 5, 2, 2), {"stride": 3}),  # with gaps
        ((1, 35, 9), (35, 1, 40), {"stride": 20}),  # phases as channels
        ((3, 5, 1, 1), (5, 7, 4, 4), {}),  # one product
        ((2, 9, 9, 7), (9, 1, 5, 5), {"stride": 2, "groups": 9}),
        ((2, 0, 3, 3), (0, 4, 2, 2), {}),
    ],
    ids=str,
)
def test_activations(activation: str, x: Any, w: Any, options: dict[str, Any]):
    """What a convolution that leaves its input as it is makes of the same sums."""
    rng = np.random.default_rng(0)
    rank = len(w) - 2
    x, w = (rng.standard_normal(s).astype(np.float32) for s in (x, w))
    b = rng.standard_normal(w.shape[1] * options.get("groups", 1)).astype(np.float32)
    plain = FUNCTIONS[rank](x, w, b, **options)
    unit = np.ones((b.size, *(1,) * (rank + 1)), np.float32)
    right = nc.conv(plain, unit, groups=b.size, activation=activation)
    y = FUNCTIONS[rank](x, w, b, **options, activation=activation)
    np.testing.assert_allclose(y, right, rtol=1e-6, atol=1e-7)
    last = FUNCTIONS[rank](to_last(x, rank), w, b, **options, activation=activation, **LAST)
    np.testing.assert_allclose(last, to_last(right, rank), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "kernel", "options"),
    [
        ((7, 6), (3, 3), {"stride": 2, "padding": 1}),
        ((5, 31), (2, 2), {"stride": 2}),
        ((4, 4), (4, 4), {"stride": 2, "padding": "same"}),
    ],
    ids=str,
)
def test_bits_of_both_formats(size: Any, kernel: Any, options: dict[str, Any]):
    """The panels of im2col are the same in both."""
    rng = np.random.default_rng(1)
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((2, 19, *size), (19, 17, *kernel)))
    first = nc.conv_transpose2d(x, w, **options, backend="im2col")
    last = nc.conv_transpose2d(to_last(x, 2), w, **options, **LAST, backend="im2col")
    assert to_last(first, 2).tobytes() == last.tobytes()


def test_nothing_to_add_up_leaves_the_activated_bias():
    b = np.array([1.0, -2.0, 3.0])
    for shape in ((2, 4, 4, 0), (0, 4, 4, 0)):
        y = nc.conv_transpose2d(np.ones(shape), np.ones((0, 3, 2, 2)), b, activation="relu", **LAST)
        np.testing.assert_array_equal(y, np.broadcast_to([1.0, 0.0, 3.0], (shape[0], 5, 5, 3)))


X, W = np.ones((2, 4, 4, 5), np.float32), np.ones((4, 3, 3, 3), np.float32)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"padding": "same", "output_padding": 1}, ValueError, r"output_padding must be 0.*'same'"),
        ({"padding": "sam"}, ValueError, r"padding must be .*same_lower"),
        ({"stride": 1, "padding": "full", "dilation": 3}, ValueError, r"padding.*leaves"),
        ({"data_format": "NHWC"}, ValueError, r"data_format"),
        ({"activation": "swish"}, ValueError, r"activation"),
        ({"activation": []}, ValueError, r"activation"),
        ({"input": np.ones((2, 4, 5, 4), np.float32)[:, :3]}, ValueError, r"weight has 4.*last"),
        ({"input": X[0, 0]}, ValueError, r"input must have shape"),
        ({"data_format": "channels_last"}, ValueError, r"weight has 4 input channels.*has 5$"),
        (
            {"input": X.astype(int), "weight": W.astype(int), "activation": "relu"},
            TypeError,
            "acti",
        ),
        ({"weight": W + 0j, "activation": "relu"}, TypeError, r"activation.*complex"),
    ],
)
def test_what_is_refused(change: dict[str, Any], error: Any, message: str):
    arguments: dict[str, Any] = {"input": X, "weight": W, "stride": 2, "padding": "same"}
    assert nc.conv_transpose2d(**arguments).shape == (2, 3, 8, 10)
    with pytest.raises(error, match=message):
        nc.conv_transpose2d(**(arguments | change))


# Prepared layers.


def packed_of(layer: Any) -> list[Array]:
    """What a layer has packed."""
    return [value for key, value in layer.weights.packed.items() if key[0] != "bias"]


def test_weights_are_packed_once_for_all_sizes():
    w = whole_numbers((32, 16, 4, 4), 0)
    layer = nc.prepare_transposed(w, stride=2, padding=1)
    rng = np.random.default_rng(0)
    layer(whole_numbers((1, 32, 9, 40), 1))
    packed = packed_of(layer)
    assert len(packed) == 1
    for _ in range(4):
        x = whole_numbers((int(rng.integers(1, 4)), 32, *map(int, rng.integers(9, 12, 1)), 40), 2)
        np.testing.assert_array_equal(layer(x), nc.conv_transpose2d(x, w, None, 2, 1))
    (same,) = packed_of(layer)
    assert same is packed[0]


def test_each_kernel_has_weights_in_its_own_order():
    """Sizes and backends under which they are read in several orders, each more than once."""
    w, b = whole_numbers((32, 16, 4, 4), 0), whole_numbers((16,), 1)
    layer = nc.prepare_transposed(w, b, stride=2, padding=1)
    for name in ("direct", "im2col", "fft") * 2:
        for size in ((1, 1), (5, 3), (9, 40)):
            x = whole_numbers((1, 32, *size), 2)
            with nc.use_backend(name):
                y = layer(x)
            right = reference.conv_transpose(x, w, b, 2, 1)
            np.testing.assert_array_equal(np.rint(y), right)
    assert len(packed_of(layer)) > 2


@pytest.mark.parametrize("shape", [((20, 1, 64), 32), ((20, 3, 5, 40), (2, 20)), ((9, 4, 5, 5), 5)])
def test_update_gives_new_weights_and_bias(shape: Any):
    """Of phases that are channels too, whose biases are copied beside the weights."""
    (c_in, c_out, *kernel), stride = shape
    rank = len(kernel)
    w, b = whole_numbers((c_in, c_out, *kernel), 0), whole_numbers((c_out,), 1)
    x = whole_numbers((2, c_in, *(1, 7)[-rank:]), 2)
    given = w.copy()
    layer = nc.prepare_transposed(given, b, stride)
    given += 1
    for weight, bias in ((w, b), (w + 1, b + 2), (w, None), (w.astype(float), b)):
        if weight is not w or bias is not b:
            layer.update(weight, bias)
        np.testing.assert_array_equal(
            layer(x), FUNCTIONS[rank](x, weight, bias, stride), strict=True
        )


def test_inputs_of_every_dtype_in_turn():
    w, b = whole_numbers((5, 7, 3, 3), 0), whole_numbers((7,), 1)
    layer = nc.prepare_transposed(w, b, 2, 1, 1)
    for dtype in ("float32", "float64", ">f4", "int8", "complex64", "float16", "bool") * 2:
        x = whole_numbers((2, 5, 4, 6), 3).astype(dtype)
        np.testing.assert_array_equal(layer(x), nc.conv_transpose2d(x, w, b, 2, 1, 1), strict=True)


def test_copies_and_words_of_a_layer():
    w = np.ones((6, 4, 3, 3), np.float32)
    layer = nc.prepare_transposed(w, stride=(2, 1), padding="same", activation="tanh")
    x = whole_numbers((1, 6, 5, 5), 0)
    other = pickle.loads(pickle.dumps(layer))
    assert other(x).tobytes() == layer(x).tobytes()
    for part in ("PreparedTransposedConv", "(6, 4, 3, 3)", "float32", "(2, 1)", "same", "tanh"):
        assert part in repr(other)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"weight": np.ones((4, 3))},
            ValueError,
            r"weight must have 3, 4 or 5.*C_in, C_out/groups",
        ),
        ({"groups": 3}, ValueError, r"groups = 3.*4 input channels"),
        ({"groups": 0}, ValueError, r"groups"),
        ({"bias": np.ones(4)}, ValueError, r"bias.*\(6,\)"),
        ({"output_padding": 2}, ValueError, r"output_padding"),
        ({"padding": "same", "output_padding": 1}, ValueError, r"output_padding"),
        ({"padding": -1}, ValueError, r"padding"),
        ({"stride": 0}, ValueError, r"stride"),
        ({"dilation": 1.5}, TypeError, r"dilation"),
        ({"data_format": 3}, ValueError, r"data_format"),
        ({"activation": "x"}, ValueError, r"activation"),
        ({"backend": "x"}, ValueError, r"backend"),
        ({"precision": "x"}, ValueError, r"precision"),
    ],
)
def test_layers_that_are_refused(change: dict[str, Any], error: Any, message: str):
    arguments: dict[str, Any] = {"weight": np.ones((4, 3, 3, 3)), "groups": 2, "stride": 2}
    nc.prepare_transposed(**arguments)
    with pytest.raises(error, match=message):
        nc.prepare_transposed(**(arguments | change))


def test_calls_of_layers_that_are_refused():
    layer = nc.prepare_transposed(W, stride=2)
    y = layer(X)
    with pytest.raises(ValueError, match="weight has 4 input channels, input has 3"):
        layer(X[:, :3])
    with pytest.raises(ValueError, match="out has shape"):
        layer(X, out=y[..., :-1])
    with pytest.raises(ValueError, match="stream is for backend 'cuda'"):
        layer(X, stream=1)
    with pytest.raises(nc.BackendUnavailableError, match="cuda"):
        nc.prepare_transposed(W, backend="cuda")(X)


def test_a_layer_on_several_threads_at_once():
    """The first calls, which pack and plan, among them."""
    w = whole_numbers((8, 2, 4, 24), 0)
    inputs = [whole_numbers((1, 8, 3 + i % 2, 9 + i), i) for i in range(6)]
    right = [nc.conv_transpose2d(x, w, None, (2, 17)) for x in inputs]
    for _ in range(5):
        layer, start = nc.prepare_transposed(w, stride=(2, 17)), threading.Barrier(6)
        wrong: list[int] = []

        def work(seed: int, layer: Any = layer, start: Any = start, wrong: Any = wrong) -> None:
            start.wait(60)
            for step in range(20):
                i = (seed + step) % len(inputs)
                if not np.array_equal(layer(inputs[i]), right[i]):
                    wrong.append(i)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


def test_explain():
    options: dict[str, Any] = {"stride": 2, "padding": "same", **LAST, "activation": "relu"}
    found = nc.explain(to_last(X, 2), W, **options, of="transposed")
    assert found.out_shape == (2, 8, 10, 3)
    assert "padding   (0, 0, 0) before" in str(found)
    with pytest.raises(ValueError, match="padding_mode is for of='forward'"):
        nc.explain(X, W, padding_mode="reflect", padding=1, of="transposed")
    with pytest.raises(ValueError, match="data_format"):
        nc.explain(to_last(X, 2), W, **LAST, of="weight")
