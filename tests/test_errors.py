"""Malformed calls: each is refused with a TypeError or ValueError that names the argument.

A row changes one argument, or two that go together, of a call that is otherwise valid. The
message must name the argument, and say what was given: the value, its type, its shape or its dtype.
"""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import DTypeLike

import numbaconv as nc


def array(*shape: int, dtype: DTypeLike = np.float32) -> Any:
    return np.ones(shape, dtype)


def choose_for_a_while(name: Any) -> None:
    with nc.use_backend(name):
        pass


def prepare_and_call(weight: Any, input: Any, bias: Any = None, **options: Any) -> None:
    nc.prepare(weight, bias, **options)(input)


VALID: dict[str, dict[str, Any]] = {
    "conv1d": {"input": array(2, 4, 9), "weight": array(6, 4, 3)},
    "conv2d": {"input": array(2, 4, 9, 8), "weight": array(6, 4, 3, 3)},
    "conv3d": {"input": array(2, 4, 9, 8, 7), "weight": array(6, 4, 3, 3, 3)},
    "conv": {"input": array(2, 4, 9, 8), "weight": array(6, 4, 3, 3)},
    "explain": {"input": array(2, 4, 9, 8), "weight": array(6, 4, 3, 3)},
    "prepare": {"weight": array(6, 4, 3, 3), "input": array(2, 4, 9, 8)},
    "im2col": {"input": array(2, 4, 9, 8), "kernel_size": (3, 3)},
    "col2im": {"columns": array(2, 36, 42), "output_size": (9, 8), "kernel_size": (3, 3)},
    "set_backend": {"name": "auto"},
    "use_backend": {"name": "auto"},
}
FUNCTIONS = {name: getattr(nc, name) for name in VALID}
FUNCTIONS |= {"prepare": prepare_and_call, "use_backend": choose_for_a_while}


class Bad(NamedTuple):
    """One malformed call."""

    function: str
    changed: dict[str, Any]
    error: type[Exception] | tuple[type[Exception], ...]
    names: str = ""  # what the message must name, if not the first changed argument

    def __str__(self) -> str:
        changes = ", ".join(f"{name}={brief(value)}" for name, value in self.changed.items())
        return f"{self.function}({changes})"


def brief(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    if type(value) is object:
        return "object()"  # its repr has an address, which differs from process to process
    return repr(value)[:40].replace(" ", "")


def nested_in_itself() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


EITHER = (TypeError, ValueError)
NOT_INTEGERS = (
    True,
    np.True_,
    1.5,
    1.0,
    math.nan,
    math.inf,
    "1",
    None,
    1 + 0j,
    b"1",
    {1: 1},
)
NOT_ARRAYS = (None, 1, 1.5, "abc", np.float32(1), [[1.0, 2.0]], [[1], [2, 3]], {"a": 1}, object())
NOT_NUMBERS = ("bool", "object", "datetime64[s]", "U3", [("a", "f4")])

STRIDES_AND_DILATIONS = (
    *((value, TypeError) for value in NOT_INTEGERS),
    ([[1]], EITHER),
    (0, ValueError),
    (-1, ValueError),
    (-(2**70), ValueError),
    ((), ValueError),
    ((1,), ValueError),
    ((1, 1, 1), ValueError),
    ((1, 0), ValueError),
    ((-2, 1), ValueError),
    ((True, 1), TypeError),
    ((1, 1.0), TypeError),
    ((1, math.nan), TypeError),
    ((1, None), TypeError),
    ((1, "1"), TypeError),
    (((1, 1), (1, 1)), TypeError),
)
PADDINGS = (
    *((value, TypeError) for value in NOT_INTEGERS if not isinstance(value, str)),
    ([[1]], EITHER),
    ("1", ValueError),
    ("samish", ValueError),
    ("", ValueError),
    (-1, ValueError),
    (2**62, ValueError),
    (2**63, ValueError),
    (2**70, ValueError),
    ((), ValueError),
    ((1,), ValueError),
    ((1, 1, 1), ValueError),
    ((1, -1), ValueError),
    ((1, True), TypeError),
    ((1, 1.5), TypeError),
    ((1, "same"), TypeError),
    (((1, 1),), ValueError),
    (((1, 1), (1, 1), (1, 1)), ValueError),
    (((1, 1, 1), (1, 1, 1)), ValueError),
    (((1,), (1,)), ValueError),
    (((1, 1), (0, -1)), ValueError),
    (((1, 1), (0, False)), TypeError),
    (((1, 1), (0, 0.5)), TypeError),
    (((1, 1), (0, math.nan)), TypeError),
    (((1, 1), 1), EITHER),
    ((((1, 1), (1, 1)),), EITHER),
)

CALLS: list[Bad] = [
    # stride, dilation and padding, wherever they are taken.
    *(
        Bad(function, {name: value}, error)
        for function in ("conv2d", "im2col", "col2im")
        for name in ("stride", "dilation")
        for value, error in STRIDES_AND_DILATIONS
    ),
    *(
        Bad(function, {"padding": value}, error, "padding|columns")
        for function in ("conv2d", "im2col", "col2im")
        for value, error in PADDINGS
    ),
    Bad("conv1d", {"stride": (1, 1)}, ValueError),
    Bad("conv1d", {"dilation": (1, 1)}, ValueError),
    Bad("conv1d", {"padding": (1, 1)}, ValueError),
    Bad("conv1d", {"padding": ((1, 1), (1, 1))}, ValueError),
    Bad("conv3d", {"stride": (1, 1)}, ValueError),
    Bad("conv3d", {"padding": ((1, 1), (1, 1))}, ValueError),
    Bad("conv", {"stride": (1, 1, 1)}, ValueError),
    Bad("explain", {"stride": 0}, ValueError),
    Bad("explain", {"padding": "samish"}, ValueError),
    Bad("explain", {"dilation": True}, TypeError),
    # groups
    *(Bad("conv2d", {"groups": value}, TypeError) for value in (*NOT_INTEGERS, (1, 1))),
    *(Bad("conv2d", {"groups": value}, ValueError) for value in (0, -1, -4, 2**70)),
    Bad("conv2d", {"groups": 3}, ValueError),
    Bad("conv2d", {"groups": 4, "weight": array(6, 1, 3, 3)}, ValueError),
    Bad("conv2d", {"groups": 8, "weight": array(8, 1, 3, 3)}, ValueError),
    Bad("conv2d", {"groups": 2}, ValueError, "groups|weight|input"),
    Bad("explain", {"groups": 3}, ValueError),
    # input, weight, bias
    *(
        Bad(function, {name: value}, TypeError)
        for function in ("conv1d", "conv2d", "conv3d", "conv", "explain")
        for name in ("input", "weight")
        for value in (None, [[1.0, 2.0]], np.float32(1), VALID[function][name].astype(object))
    ),
    *(
        Bad("conv2d", {name: value}, TypeError)
        for name in ("input", "weight", "bias")
        for value in NOT_ARRAYS
        if not (name == "bias" and value is None)
    ),
    *(Bad("conv2d", {"input": array(2, 4, 9, 8, dtype=d)}, TypeError) for d in NOT_NUMBERS),
    *(Bad("conv2d", {"weight": array(6, 4, 3, 3, dtype=d)}, TypeError) for d in NOT_NUMBERS),
    *(Bad("conv2d", {"bias": np.zeros(6, d)}, TypeError) for d in NOT_NUMBERS),
    *(Bad("conv2d", {"input": array(*(4,) * ndim)}, ValueError) for ndim in (0, 1, 2, 5, 6)),
    *(Bad("conv2d", {"weight": array(*(4,) * ndim)}, ValueError) for ndim in (0, 1, 3, 5)),
    *(Bad("conv1d", {"input": array(*(4,) * ndim)}, ValueError) for ndim in (0, 1, 4)),
    *(Bad("conv1d", {"weight": array(*(4,) * ndim)}, ValueError) for ndim in (0, 1, 2, 4)),
    *(Bad("conv3d", {"input": array(*(4,) * ndim)}, ValueError) for ndim in (0, 3, 6)),
    *(Bad("conv3d", {"weight": array(*(4,) * ndim)}, ValueError) for ndim in (0, 4, 6)),
    *(Bad("conv", {"weight": array(*(4,) * ndim)}, ValueError) for ndim in (0, 1, 2, 6)),
    Bad("conv", {"input": array(4, 9)}, ValueError),
    Bad("conv2d", {"input": array(2, 5, 9, 8)}, ValueError, "input|weight"),
    Bad("conv2d", {"input": array(5, 9, 8)}, ValueError, "input|weight"),
    Bad("conv2d", {"input": array(2, 0, 9, 8)}, ValueError, "input|weight"),
    Bad("conv2d", {"weight": array(6, 3, 3, 3)}, ValueError, "input|weight"),
    Bad("conv2d", {"data_format": "channels_last"} | VALID["conv2d"], ValueError, "input|weight"),
    Bad("conv2d", {"weight": array(6, 4, 0, 3)}, ValueError),
    Bad("conv2d", {"weight": array(6, 4, 3, 0)}, ValueError),
    *(
        Bad("conv2d", {"bias": array(*shape)}, ValueError)
        for shape in ((5,), (7,), (), (6, 1), (0,))
    ),
    Bad("conv2d", {"bias": array(1, 6, 1, 1)}, ValueError),
    # A kernel larger than the padded input.
    Bad("conv2d", {"weight": array(6, 4, 10, 3)}, ValueError, "weight|kernel"),
    Bad("conv2d", {"weight": array(6, 4, 3, 9)}, ValueError, "weight|kernel"),
    Bad("conv2d", {"weight": array(6, 4, 12, 3), "padding": 1}, ValueError, "weight|kernel"),
    Bad("conv2d", {"dilation": 5}, ValueError, "weight|kernel|dilation"),
    Bad("conv2d", {"dilation": (1, 2**62)}, ValueError, "weight|kernel|dilation"),
    Bad("conv2d", {"dilation": 2**63}, ValueError, "weight|kernel|dilation"),
    Bad("conv2d", {"dilation": 2**70}, ValueError, "weight|kernel|dilation"),
    Bad("conv2d", {"input": array(2, 4, 0, 8)}, ValueError, "input|weight|kernel"),
    Bad("conv1d", {"weight": array(6, 4, 10)}, ValueError, "weight|kernel"),
    Bad("conv3d", {"weight": array(6, 4, 3, 3, 8)}, ValueError, "weight|kernel"),
    Bad("im2col", {"kernel_size": (10, 3)}, ValueError, "kernel_size|kernel"),
    Bad("im2col", {"dilation": (1, 4)}, ValueError, "kernel_size|kernel|dilation"),
    # padding_mode
    *(Bad("conv2d", {"padding_mode": value}, EITHER) for value in (None, 0, True, b"zeros", [])),
    *(Bad("conv2d", {"padding_mode": value}, ValueError) for value in ("", "constant", "wrap")),
    Bad("conv2d", {"padding_mode": "reflect", "padding": 8}, ValueError, "padding"),
    Bad("conv2d", {"padding_mode": "reflect", "padding": ((0, 0), (0, 8))}, ValueError, "padding"),
    Bad("conv2d", {"padding_mode": "reflect", "padding": (9, 0)}, ValueError, "padding"),
    Bad("conv2d", {"padding_mode": "circular", "padding": 9}, ValueError, "padding"),
    Bad(
        "conv2d", {"padding_mode": "circular", "padding": ((10, 0), (0, 0))}, ValueError, "padding"
    ),
    Bad("conv2d", {"padding_mode": "symmetric", "padding": 9}, ValueError, "padding"),
    Bad("conv2d", {"padding_mode": "symmetric", "padding": (0, 9)}, ValueError, "padding"),
    *(
        Bad(
            "conv2d",
            {"padding_mode": mode, "padding": 4, "input": array(2, 4, 0, 8)},
            ValueError,
            "padding|input",
        )
        for mode in ("reflect", "replicate", "circular", "symmetric")
    ),
    # data_format, activation, backend, out, and what is no argument at all.
    *(Bad("conv2d", {"data_format": value}, EITHER) for value in (None, 1, True, [])),
    *(Bad("conv2d", {"data_format": value}, ValueError) for value in ("", "NCHW", "channels")),
    *(Bad("conv2d", {"activation": value}, EITHER) for value in ("", "nonsense", 1, True, max)),
    *(Bad("conv2d", {"backend": value}, TypeError) for value in (1, True, b"direct", ["direct"])),
    *(Bad("conv2d", {"backend": value}, ValueError) for value in ("", "gpu", "direct2")),
    *(Bad("explain", {"backend": value}, EITHER) for value in (1, "", "gpu")),
    *(Bad("conv2d", {"out": value}, TypeError) for value in (1, "out", [1.0], True)),
    *(
        Bad("conv2d", {"out": value}, EITHER)
        for value in (array(2, 6, 7, 7), array(6, 7, 6), array(2, 6, 7, 6, dtype="f8"))
    ),
    Bad("conv2d", {"strides": 1}, TypeError),
    # Sequences that hold themselves, and arrays where a word belongs.
    *(
        Bad(function, {name: nested_in_itself()}, EITHER)
        for function in ("conv2d", "prepare")
        for name in ("stride", "padding", "dilation", "groups")
    ),
    *(
        Bad(function, {name: np.array(["zeros", "channels_last"])}, EITHER)
        for function in ("conv2d", "prepare")
        for name in ("padding_mode", "data_format", "activation", "backend")
    ),
    # A prepared layer, refused when it is made or when it is first called.
    *(
        Bad("prepare", {name: value}, TypeError)
        for name in ("stride", "padding", "dilation", "groups")
        for value in (True, 1.5, None, math.nan)
    ),
    *(
        Bad("prepare", {name: -1}, ValueError)
        for name in ("stride", "padding", "dilation", "groups")
    ),
    *(Bad("prepare", {name: 0}, ValueError) for name in ("stride", "dilation", "groups")),
    *(Bad("prepare", {name: (1, 1, 1)}, ValueError) for name in ("stride", "padding", "dilation")),
    *(Bad("prepare", {"weight": value}, TypeError) for value in NOT_ARRAYS),
    *(Bad("prepare", {"weight": array(6, 4, 3, 3, dtype=d)}, TypeError) for d in NOT_NUMBERS),
    *(Bad("prepare", {"weight": array(*(4,) * ndim)}, ValueError) for ndim in (0, 2, 6)),
    *(Bad("prepare", {"bias": value}, TypeError) for value in NOT_ARRAYS if value is not None),
    *(Bad("prepare", {"bias": array(*shape)}, ValueError) for shape in ((5,), (), (6, 1))),
    *(Bad("prepare", {"input": value}, TypeError, "input|x") for value in NOT_ARRAYS),
    *(
        Bad("prepare", {"input": array(*shape)}, ValueError, "input|x|weight")
        for shape in ((4,), (9, 8), (2, 5, 9, 8), (2, 4, 2, 8), (1, 2, 4, 9, 8))
    ),
    *(
        Bad("prepare", {name: value}, EITHER)
        for name in ("padding_mode", "data_format", "activation", "backend")
        for value in ("", "nonsense", 1, True, [])
    ),
    # im2col
    *(Bad("im2col", {"input": value}, TypeError) for value in NOT_ARRAYS),
    *(Bad("im2col", {"input": array(2, 4, 9, 8, dtype=d)}, TypeError) for d in NOT_NUMBERS),
    *(Bad("im2col", {"input": array(*(9,) * ndim)}, ValueError) for ndim in (0, 1, 2, 5)),
    *(
        Bad("im2col", {"kernel_size": 3, "input": array(*(9,) * ndim)}, ValueError, "input")
        for ndim in (0, 1, 2, 6)
    ),
    *(Bad(f, {"kernel_size": v}, TypeError) for f in ("im2col", "col2im") for v in NOT_INTEGERS),
    *(
        Bad("im2col", {"kernel_size": value}, ValueError)
        for value in (0, -1, 2**70, (), (3, 0), (3, -1), (1, 1, 1, 1), (2**62, 1), (2**70, 1))
    ),
    *(Bad("im2col", {"kernel_size": v}, TypeError) for v in ((3, 3.0), (True, 3), (3, None))),
    # col2im
    *(Bad("col2im", {"columns": value}, TypeError) for value in NOT_ARRAYS),
    *(Bad("col2im", {"columns": array(2, 36, 42, dtype=d)}, TypeError) for d in NOT_NUMBERS),
    *(
        Bad("col2im", {"columns": array(*shape)}, ValueError)
        for shape in ((), (36,), (1, 2, 36, 42), (2, 36, 41), (2, 36, 43), (2, 36, 0))
    ),
    *(Bad("col2im", {"columns": array(*s)}, ValueError) for s in ((2, 35, 42), (2, 1, 42))),
    *(
        Bad("col2im", {"output_size": value}, TypeError)
        for value in (None, 1.5, "98", (9, 8.0), (True, 8), (9, math.nan), (9, "8"), (9, None))
    ),
    *(
        Bad("col2im", {"output_size": value}, ValueError, "output_size|columns|kernel")
        for value in ((), (9,), (9, 8, 7), (-9, 8), (9, -8), (9, 9), (2, 8), (2**70, 8))
    ),
    *(
        Bad("col2im", {"kernel_size": value}, ValueError, "kernel_size|columns")
        for value in (0, -3, 2, (), (3,), (3, 0), (3, -3), (3, 3, 3), (4, 3), (2**62, 3))
    ),
    # Backends.
    *(
        Bad(function, {"name": value}, TypeError, "name|backend")
        for function in ("set_backend", "use_backend")
        for value in (1, 1.5, True, b"direct", ["direct"], ("direct",), object)
    ),
    *(
        Bad(function, {"name": value}, ValueError, "name|backend")
        for function in ("set_backend", "use_backend")
        for value in ("", "gpu", "direct im2col", "cpu", "NONE")
    ),
]


def says(message: str, value: Any) -> bool:
    """Whether a message tells what was given, in whole or by the part of it that is wrong."""
    if isinstance(value, np.ndarray):
        told = [str(value.dtype), str(value.shape), str(value.ndim), *map(str, value.shape)]
        told.append(type(value).__name__)
    else:
        told = [repr(value), str(value), type(value).__name__]
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


def test_the_table_is_large_and_without_repetition():
    assert len(CALLS) >= 300
    for function in VALID:
        assert sum(bad.function == function for bad in CALLS) >= 5


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
