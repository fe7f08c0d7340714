"""Prepared layers in compiled code: whatever holds one keeps it alive, and lets it go."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest
from numba.core.errors import TypingError
from numba.experimental import jitclass
from numba.typed import Dict, List

import numbaconv as nc

if numba.config.DISABLE_JIT:
    pytest.skip("there is no compiled code to call from", allow_module_level=True)

X = np.ones((1, 1, 5, 5))


def layer_of(value: float) -> Any:
    """A layer whose results are nine times `value`."""
    return nc.prepare(np.full((1, 1, 3, 3), float(value)))


LAYER = numba.typeof(layer_of(0))


def in_a_generator() -> Callable[[], Any]:
    @numba.njit
    def results(layer, x):
        while True:
            yield layer(x)

    generator = results(layer_of(1), X)
    next(generator)
    return lambda: next(generator)


def in_a_list() -> Callable[[], Any]:
    layers = List.empty_list(LAYER)
    layers.append(layer_of(1))
    call = numba.njit(lambda layers, x: layers[0](x))
    return lambda: call(layers, X)


def in_a_dict() -> Callable[[], Any]:
    layers = Dict.empty(numba.int64, LAYER)
    layers[7] = layer_of(1)
    call = numba.njit(lambda layers, x: layers[7](x))
    return lambda: call(layers, X)


@jitclass([("layer", LAYER)])
class Net:
    def __init__(self, layer):
        self.layer = layer

    def run(self, x):
        return self.layer(x)


def in_a_field() -> Callable[[], Any]:
    net = Net(layer_of(1))
    return lambda: net.run(X)


def in_a_closure() -> Callable[[], Any]:
    def caller(layer: Any) -> Any:
        return numba.njit(lambda x: layer(x))

    call = caller(layer_of(1))
    call(X)
    return lambda: call(X)


HOLDERS = [in_a_generator, in_a_list, in_a_dict, in_a_field, in_a_closure]


def other_layers() -> list[Any]:
    """What may lie where a layer was that is gone."""
    gc.collect()
    return [layer_of(100 + i) for i in range(20)]


@pytest.mark.parametrize("hold", HOLDERS, ids=lambda hold: hold.__name__)
def test_compiled_code_keeps_a_layer_alive(hold: Callable[[], Callable[[], Any]]):
    call = hold()
    others = other_layers()
    np.testing.assert_array_equal(call(), np.full((1, 1, 3, 3), 9.0))
    del others


def test_and_lets_it_go():
    """Every reference that compiled code takes it gives back."""

    @numba.njit
    def same(layer, layers):
        layers.append(layer)
        return layer, layers.pop()

    layers = List.empty_list(LAYER)
    layer = layer_of(1)
    gone = weakref.ref(layer)
    assert same(layer, layers) == (layer, layer)
    layers.append(layer)
    net = Net(layer)
    assert net.layer is layer
    del layer, layers, net
    gc.collect()
    assert gone() is None


def test_layers_in_tuples():
    @numba.njit
    def both(layers, x):
        return layers[0](x) + layers[1](x)

    y = both((layer_of(1), layer_of(2)), X)
    np.testing.assert_array_equal(y, np.full((1, 1, 3, 3), 27.0))


@numba.njit(nogil=True)
def total(layer, x):
    return layer(x).sum()


def test_threads_make_and_drop_layers():
    """The last reference may be given back by a thread that does not hold Python's lock."""
    wrong: list[Any] = []

    def work(number: int) -> None:
        for i in range(50):
            value = 50 * number + i
            found = total(layer_of(value), X)
            if found != 81 * value:
                wrong.append((value, found))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


UNTYPED = {
    "list": ("layer([1.0])", "prepared layer: input must be an array.*np.array"),
    "float16": ("layer(x.astype(np.float16))", "prepared layer: input .*float32 before"),
    "out": ("layer(x, 3)", "prepared layer: out must be an array"),
    "maybe": ("layer(x, add=x if x.size else None)", "prepared layer: add may be None"),
    "nothing": ("layer()", "missing a required argument: 'x'"),
    "too_much": ("layer(x, None, None, x)", "too many positional arguments"),
    "unknown": ("layer(x, bias=x)", "got an unexpected keyword argument 'bias'"),
    "by_name": ("layer.__call__(3.0)", "prepared layer: input must be an array"),
}


@pytest.mark.parametrize("make", [nc.prepare, nc.prepare_transposed])
@pytest.mark.parametrize("name", UNTYPED)
def test_what_cannot_be_typed_says_what_to_do(name: str, make: Callable[..., Any]):
    expression, message = UNTYPED[name]
    function = numba.njit(eval(f"lambda layer, x: {expression}", {"np": np}))
    # Numba's own first line says in which step it failed; the second is ours.
    with pytest.raises(TypingError, match=rf"^.*\n{message}"):
        function(make(np.ones((1, 1, 3, 3))), X)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda w: nc.prepare(w, padding=1), "prepare: make the layer outside"),
        (lambda w: nc.prepare_transposed(w), "prepare_transposed: make the layer outside"),
        (lambda w: nc.set_backend("direct"), "set_backend: choose outside"),
    ],
    ids=["prepare", "prepare_transposed", "set_backend"],
)
def test_what_stays_outside_says_so(call: Callable[..., Any], message: str):
    with pytest.raises(TypingError, match=rf"^.*\nnumbaconv\.{message}"):
        numba.njit(call)(np.ones((1, 1, 3, 3)))


@numba.njit
def in_all_ways(layer, x, out):
    method = layer.__call__
    return layer(x), layer.__call__(x), method(x, add=out), layer(out=out.copy(), x=x, add=out)


def test_all_ways_to_call_a_layer():
    layer, add = layer_of(1), np.full((1, 1, 3, 3), 2.0)
    for y, expected in zip(in_all_ways(layer, X, add), (9, 9, 11, 11), strict=True):
        np.testing.assert_array_equal(y, expected)
