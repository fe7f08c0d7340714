"""What is not what it says it is, or changes while it is looked at: right, or refused by name."""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import numbaconv as nc
from tests.conftest import Script
from tests.oracle import reference
from tests.oracle.cases import integer_arrays
from tests.oracle.problems import fits, random_case

X = np.arange(162, dtype=np.float32).reshape(1, 2, 9, 9)
W = np.arange(54, dtype=np.float32).reshape(3, 2, 3, 3)
B = np.arange(3, dtype=np.float32)
G = np.ones((1, 3, 7, 7), np.float32)
C = np.ones((1, 18, 49), np.float32)

# Every function that takes arrays, called with its arrays wrapped.
Wrap = Callable[[np.ndarray], Any]
CALLS: dict[str, Callable[[Wrap], np.ndarray]] = {
    "conv2d": lambda of: nc.conv2d(of(X), of(W), of(B)),
    "prepare": lambda of: nc.prepare(of(W), of(B))(of(X)),
    "conv_transpose2d": lambda of: nc.conv_transpose2d(of(G), of(W), of(B[:2])),
    "prepare_transposed": lambda of: nc.prepare_transposed(of(W), of(B[:2]))(of(G)),
    "conv2d_input": lambda of: nc.grad.conv2d_input(X.shape, of(W), of(G)),
    "conv2d_weight": lambda of: nc.grad.conv2d_weight(of(X), W.shape, of(G)),
    "im2col": lambda of: nc.im2col(of(X), 3),
    "col2im": lambda of: nc.col2im(of(C), (9, 9), 3),
}
INTO: dict[str, Callable[[Any], Any]] = {
    "conv2d": lambda out: nc.conv2d(X, W, out=out),
    "prepare": lambda out: nc.prepare(W)(X, out=out),
    "conv_transpose2d": lambda out: nc.conv_transpose2d(X, W.transpose(1, 0, 2, 3), out=out),
}
every_call = pytest.mark.parametrize("name", CALLS)


class Liar(np.ndarray):
    """Says that it is large."""

    shape = property(lambda self: (1, 2, 9000, 9000)[-self.ndim :])  # type: ignore[assignment]

    def reshape(self, *shape: Any, **options: Any) -> Any:
        return np.zeros(1, self.dtype)


@every_call
def test_subclasses_are_taken_for_their_memory(name: str):
    y = CALLS[name](lambda a: a.view(Liar))
    assert type(y) is np.ndarray
    np.testing.assert_array_equal(y, CALLS[name](lambda a: a))


@pytest.mark.parametrize("name", INTO)
def test_out_of_a_subclass_is_filled_and_returned(name: str):
    expected = INTO[name](None)
    out = np.empty_like(expected).view(Liar)
    assert INTO[name](out) is out
    np.testing.assert_array_equal(np.asarray(out), expected)
    with pytest.raises(ValueError, match=r"\bout\b"):
        INTO[name](np.empty((1, 1), np.float32).view(Liar))


@every_call
def test_masks_are_not_ignored(name: str):
    with pytest.raises(TypeError, match=r"MaskedArray.*mask.*filled"):
        CALLS[name](np.ma.asarray)


@pytest.mark.parametrize("name", INTO)
def test_masked_out_is_refused(name: str):
    with pytest.raises(TypeError, match=r"\bout\b.*mask"):
        INTO[name](np.ma.asarray(INTO[name](None)))


class Changing:
    """An integer that is another one each time it is asked for."""

    def __init__(self, *values: int) -> None:
        self.values = list(values)

    def __index__(self) -> int:
        return self.values.pop(0) if len(self.values) > 1 else self.values[0]


class Word(str):
    """A string that says, where it is printed, that it is another one."""

    def __repr__(self) -> str:
        return "zeros"


@pytest.mark.parametrize("option", ["stride", "padding", "dilation"])
def test_an_option_is_asked_once(option: str):
    """And no plan is left behind under a value that it was not made for."""
    first = {"stride": 1, "padding": 0, "dilation": 1}[option]
    x, g = X[:, :, :8], G[:, :, :6]
    calls: list[Callable[[Any], np.ndarray]] = [
        lambda value: nc.conv2d(x, W, **{option: value}),
        lambda value: nc.conv_transpose2d(g, W, **{option: value}),
        lambda value: nc.grad.conv2d_input(x.shape, W, g, **{option: value}),
        lambda value: nc.grad.conv2d_weight(x, W.shape, g, **{option: value}),
    ]
    for call in calls:
        changed = call(Changing(first, 2, 3, 1, 2))
        np.testing.assert_array_equal(changed, call(first))


def test_a_word_is_what_it_is():
    x = X[:, :, :, :7]
    y = nc.conv2d(x, W, padding=1, padding_mode=Word("reflect"))
    np.testing.assert_array_equal(y, nc.conv2d(x, W, padding=1, padding_mode="reflect"))
    zeros = nc.conv2d(x, W, padding=1, padding_mode="zeros")
    np.testing.assert_array_equal(zeros, reference.conv_by_taps(x, W, padding=1))


def test_errors_of_floats_are_not_raised():
    """Overflow, underflow and NaN are results, whatever the caller has NumPy raise."""
    large, small = np.full(X.shape, 6e4, np.float16), np.full(X.shape, 1e-6, np.float16)
    w, g = np.full(W.shape, 1e-4, np.float16), np.full(G.shape, 1e-6, np.float16)
    infinite = np.full(X.shape, complex(np.inf, np.inf), np.complex64)
    with np.errstate(all="raise"):
        assert np.isinf(nc.conv2d(large, W.astype(np.float16) + 1)).all()
        assert not nc.conv2d(small, w).any()
        assert not nc.grad.conv2d_weight(small, W.shape, g).any()
        assert np.isnan(nc.grad.conv2d_weight(infinite, W.shape, G.astype(infinite.dtype))).any()
        assert np.isinf(nc.col2im(np.full(C.shape, 6e4, np.float16), (9, 9), 3)).any()


def test_axes_of_no_elements():
    """Right where there is a result, else refused; as the oracle has it."""
    results = refusals = 0
    for number in range(300):
        integer = random.Random(number).randint
        case = random_case(integer, longest={1: 9, 2: 6, 3: 4}, channels=(2, 3))
        x, w, b = integer_arrays(case)
        empty = integer(1, 7)
        x = x[:0] if empty & 1 else x
        if empty & 2:
            x, w = x[:, :0], w[:, :0]
        if empty & 4:
            axis = integer(2, x.ndim - 1)
            x = x[(slice(None),) * axis + (slice(0),)]
        options = case.kwargs
        geometry = {name: options[name] for name in ("stride", "padding", "dilation")}
        axes = reference.axes_of(x.shape[2:], w.shape[2:], **geometry)
        modes = reference.per_axis(options["padding_mode"], len(axes))
        if all(map(fits, axes, modes)):
            y = nc.conv(x, w, b, **options)
            np.testing.assert_array_equal(y, reference.conv_by_taps(x, w, b, **options))
            results += 1
        else:
            with pytest.raises(ValueError, match=r"weight|padding"):
                nc.conv(x, w, b, **options)
            refusals += 1
    assert results > 100
    assert refusals > 50


def test_copies_of_a_layer():
    layer = nc.prepare(W, B, padding=1)
    y = layer(X)
    for again in (copy.copy(layer), copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        layer.update(W + 1, None)
        np.testing.assert_array_equal(again(X), y)


def test_a_layer_is_updated_while_others_call_it(run_script: Script):
    """Each result is of one set of weights, old or new, and nothing is read that is gone."""
    code = """
import sys, threading, time
import numpy as np, numbaconv as nc
sys.setswitchinterval(1e-6)  # threads take turns between any two bytecodes
x = np.ones((1, 4, 20, 20), np.float32)
weights = [np.full((c, 4, k, k), c, np.float32) for c, k in ((1, 1), (300, 3), (7, 5))]
expected = {nc.conv2d(x, w).shape: nc.conv2d(x, w) for w in weights}
layer = nc.prepare(weights[0])
end = time.monotonic() + 3
wrong = []
def call():
    while time.monotonic() < end:
        y = layer(x)
        if not np.array_equal(y, expected[y.shape]):
            wrong.append(y.shape)
threads = [threading.Thread(target=call) for _ in range(3)]
for thread in threads:
    thread.start()
updates = 0
while time.monotonic() < end:
    layer.update(weights[updates % 3])
    updates += 1
for thread in threads:
    thread.join()
assert updates > 100 and not wrong, (updates, wrong[:3])
"""
    run_script("-c", code)
