"""Malformed calls: each is refused with a TypeError or ValueError that names the argument.

The message must name the argument, and say what was given: the value, its type, its shape or its
dtype. The calls are those of `malformed.py`.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import numpy as np
import pytest

import numbaconv as nc
from tests.oracle.malformed import CALLS, EITHER, FUNCTIONS, VALID, Bad, array


def says(message: str, value: Any) -> bool:
    """Whether a message tells what was given, in whole or by the part of it that is wrong."""
    if isinstance(value, np.ndarray):
        told = [str(value.dtype), str(value.shape), str(value.ndim), *map(str, value.shape)]
        told.append(type(value).__name__)
    else:
        told = [repr(value), str(value), type(value).__name__]
        if isinstance(value, list):  # told as the tuple that it has become
            told.append(repr(value).replace("[", "(").replace("]", ",)"))
    parts = value if isinstance(value, tuple) else ()
    return any(word in message for word in told) or any(says(message, part) for part in parts)


@pytest.mark.parametrize("function", VALID)
def test_the_unchanged_call_is_valid(function: str):
    FUNCTIONS[function](*VALID[function].values())


@pytest.mark.parametrize("bad", CALLS, ids=str)
def test_refused(bad: Bad):
    arguments = VALID[bad.function] | bad.changed
    if bad.function in ("set_backend", "use_backend"):
        arguments = {"": arguments["name"]}
    positional = [arguments.pop(name) for name in list(arguments)[: len(VALID[bad.function])]]
    with pytest.raises(bad.error) as refusal:
        FUNCTIONS[bad.function](*positional, **arguments)
    assert refusal.type in (TypeError, ValueError)
    message = str(refusal.value)
    first = next(iter(bad.changed))
    assert re.search(rf"\b(?:{bad.names or first})\b", message), message
    if first != "strides":  # Python's own message
        assert any(says(message, value) for value in bad.changed.values()), message


@pytest.mark.parametrize(
    ("input", "weight", "groups", "advice"),
    [
        (array(9, 8), array(6, 4, 3, 3), 1, r"input\[None, None\].*numbaconv\.ndimage"),
        (array(9, 8), array(3, 3), 1, r"x\[None\] and weight\[None, None\].*numbaconv\.ndimage"),
        (array(9, 8, 3), array(6, 3, 3, 3), 1, 'data_format="channels_last"'),
        (array(2, 9, 8, 6), array(6, 2, 3, 3), 3, 'data_format="channels_last"'),
    ],
)
def test_advice(input: Any, weight: Any, groups: int, advice: str):
    with pytest.raises(ValueError, match=advice):
        nc.conv2d(input, weight, groups=groups)


def test_the_table_is_large():
    assert len(CALLS) >= 1000
    for function in VALID:
        assert sum(bad.function == function for bad in CALLS) >= 5


def test_the_table_has_every_public_function():
    public = {name: getattr(nc, name) for name in nc.__all__}
    public |= {f"grad.{name}": getattr(nc.grad, name) for name in nc.grad.__all__}
    take_arguments = {
        name
        for name, value in public.items()
        if inspect.isfunction(value) and inspect.signature(value).parameters
    }
    methods, elsewhere = {"layer", "update"}, {"tiled"}  # see arrays/test_tiled.py
    assert take_arguments - elsewhere == VALID.keys() - methods


@pytest.mark.parametrize("function", ["conv2d", "prepare", "im2col"])
@pytest.mark.parametrize("name", ["stride", "padding", "dilation"])
@pytest.mark.parametrize("value", [10**5000, (1, 10**5000), -(10**5000)], ids=["int", "tuple", "-"])
def test_numbers_that_python_does_not_print(function: str, name: str, value: Any):
    with pytest.raises(ValueError, match=rf"\b{name}\b.*bits"):
        FUNCTIONS[function](*VALID[function].values(), **{name: value})


def test_out_whose_elements_share_memory_is_refused():
    shared = np.lib.stride_tricks.as_strided(array(42), (2, 6, 7, 6), (0, 0, 24, 4))
    with pytest.raises(ValueError, match=r"\bout\b.*itself"):
        nc.conv2d(**VALID["conv2d"], out=shared)
    sliding = np.lib.stride_tricks.as_strided(array(600), (2, 6, 7, 6), (1000, 164, 24, 4))
    with pytest.raises(ValueError, match=r"\bout\b.*itself"):
        nc.conv2d(**VALID["conv2d"], out=sliding)


@pytest.mark.parametrize("name", ["stride", "padding", "dilation", "groups", "padding_mode"])
def test_a_refusal_does_no_work(name: str):
    """Nothing reaches ``out`` before every argument has been looked at."""
    out = array(2, 6, 7, 6)
    with pytest.raises(EITHER, match=rf"\b{name}\b"):
        nc.conv2d(**VALID["conv2d"], out=out, **{name: 1.5})
    assert np.all(out == 1)


def test_refusals_are_the_same_on_every_backend(backend: str):
    for bad in CALLS:
        if bad.function == "conv2d" and "backend" not in bad.changed:
            with pytest.raises(bad.error):
                nc.conv2d(**(VALID["conv2d"] | bad.changed), backend=backend)


@pytest.mark.skipif(np.longdouble is np.float64, reason="longdouble is no type of its own")
def test_longdouble_is_refused():
    if np.finfo(np.longdouble).eps == np.finfo(np.float64).eps:
        pytest.skip("longdouble is float64 under another name")
    for dtype in (np.longdouble, np.clongdouble):
        with pytest.raises(TypeError, match=r"\binput\b[\s\S]*float64"):
            nc.conv2d(array(2, 4, 9, 8, dtype=dtype), array(6, 4, 3, 3))
