"""Malformed calls of the whole public API, as a table.

A row changes one argument, or two that go together, of a call that is otherwise valid.
"""

from __future__ import annotations

import math
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

import numbaconv as nc


def array(*shape: int, dtype: DTypeLike = np.float32) -> Any:
    return np.ones(shape, dtype)


def choose_for_a_while(name: Any) -> None:
    with nc.use_backend(name):
        pass


def prepare_and_call(weight: Any, input: Any, bias: Any = None, **options: Any) -> None:
    nc.prepare(weight, bias, **options)(input)


def prepare_transposed_and_call(weight: Any, input: Any, bias: Any = None, **options: Any) -> None:
    nc.prepare_transposed(weight, bias, **options)(input)


def call_layer(x: Any, **options: Any) -> None:
    nc.prepare(array(6, 4, 3, 3))(x, **options)


def update_layer(weight: Any, bias: Any = None) -> None:
    nc.prepare(array(6, 4, 3, 3)).update(weight, bias)


def gradient_of(of: str, rank: int) -> dict[str, Any]:
    """Arguments of a gradient of the convolution of (2, 4, 9, 8, 7) with (6, 4, 3, 3, 3)."""
    size, weight_size = (2, 4, *(9, 8, 7)[:rank]), (6, 4, *(3, 3, 3)[:rank])
    gradient = array(2, 6, *(7, 6, 5)[:rank])
    if of == "input":
        return {"input_size": size, "weight": array(*weight_size), "grad_output": gradient}
    return {"input": array(*size), "weight_size": weight_size, "grad_output": gradient}


VALID: dict[str, dict[str, Any]] = {
    "conv1d": {"input": array(2, 4, 9), "weight": array(6, 4, 3)},
    "conv2d": {"input": array(2, 4, 9, 8), "weight": array(6, 4, 3, 3)},
    "conv3d": {"input": array(2, 4, 9, 8, 7), "weight": array(6, 4, 3, 3, 3)},
    "conv": {"input": array(2, 4, 9, 8), "weight": array(6, 4, 3, 3)},
    "explain": {"input": array(2, 4, 9, 8), "weight": array(6, 4, 3, 3)},
    "prepare": {"weight": array(6, 4, 3, 3), "input": array(2, 4, 9, 8)},
    "prepare_transposed": {"weight": array(6, 4, 3, 3), "input": array(2, 6, 7, 6)},
    "layer": {"x": array(2, 4, 9, 8)},
    "update": {"weight": array(6, 4, 3, 3)},
    "conv_transpose1d": {"input": array(2, 6, 7), "weight": array(6, 4, 3)},
    "conv_transpose2d": {"input": array(2, 6, 7, 6), "weight": array(6, 4, 3, 3)},
    "conv_transpose3d": {"input": array(2, 6, 7, 6, 5), "weight": array(6, 4, 3, 3, 3)},
    **{
        f"grad.conv{rank}d_{of}": gradient_of(of, rank)
        for rank in (1, 2, 3)
        for of in ("input", "weight")
    },
    "im2col": {"input": array(2, 4, 9, 8), "kernel_size": (3, 3)},
    "col2im": {"columns": array(2, 36, 42), "output_size": (9, 8), "kernel_size": (3, 3)},
    "set_backend": {"name": "auto"},
    "use_backend": {"name": "auto"},
}
FUNCTIONS: dict[str, Any] = {
    "prepare": prepare_and_call,
    "prepare_transposed": prepare_transposed_and_call,
    "layer": call_layer,
    "update": update_layer,
    "use_backend": choose_for_a_while,
}
FUNCTIONS |= {name: attrgetter(name)(nc) for name in VALID.keys() - FUNCTIONS.keys()}


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
NOT_ARRAYS = (None, 1, 1.5, "abc", np.float32(1), {"a": 1}, object())
NOT_NUMBERS = ("S2", "object", "datetime64[s]", "U3", [("a", "f4")])

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
        for value in (None, np.float32(1), VALID[function][name].astype(object))
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
    # add
    *(
        Bad(function, {"add": value}, TypeError)
        for function in ("conv2d", "layer", "conv_transpose2d")
        for value in NOT_ARRAYS
        if value is not None
    ),
    *(
        Bad("conv2d", {"add": array(2, 6, 7, 6, dtype=d)}, TypeError)
        for d in (*NOT_NUMBERS, "f8", "i4", "c8")
    ),
    *(
        Bad(function, {"add": array(*shape)}, ValueError)
        for function in ("conv2d", "layer")
        for shape in ((6, 7, 6), (1, 6, 7, 6), (2, 6, 1, 1), (6,), (), (2, 7, 6, 6), (2, 6, 7, 7))
    ),
    Bad("conv_transpose2d", {"add": array(2, 4, 9, 9)}, ValueError),
    Bad("conv_transpose2d", {"add": array(2, 4, 9, 8, dtype="f8")}, TypeError),
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
    *(
        Bad(function, {"padding_mode": value}, ValueError)
        for function in ("conv2d", "prepare", "explain")
        for value in (
            ("zeros",),
            ("zeros", "reflect", "zeros"),
            ("zeros", 1),
            (("zeros",), "zeros"),
        )
    ),
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

ADJOINTS = ("conv_transpose2d", "grad.conv2d_input", "grad.conv2d_weight")
GRADIENTS = ADJOINTS[1:]
# A size that does not go with the others may be blamed on any of them.
SIZES = "input_size|weight_size|input|weight|grad_output"

CALLS += [
    # What all of them take.
    *(
        Bad(function, {name: value}, error)
        for function in ADJOINTS
        for name in ("stride", "dilation")
        for value, error in STRIDES_AND_DILATIONS
    ),
    *(
        Bad(function, {"padding": value}, EITHER, f"padding|{SIZES}")
        for function in ADJOINTS
        for value, _ in PADDINGS
    ),
    *(Bad(f, {"groups": v}, TypeError) for f in ADJOINTS for v in (*NOT_INTEGERS, (1, 1))),
    *(Bad(f, {"groups": v}, ValueError) for f in ADJOINTS for v in (0, -1, 5, 2**70)),
    *(Bad(f, {"backend": v}, EITHER) for f in ADJOINTS for v in (1, True, b"direct", "", "gpu")),
    *(Bad(f, {"strides": 1}, TypeError) for f in ADJOINTS),
    *(
        Bad(function, {name: nested_in_itself()}, EITHER)
        for function in ADJOINTS
        for name in ("stride", "padding", "dilation", "groups")
    ),
    # Arrays.
    *(
        Bad(function, {name: value}, TypeError)
        for function in ADJOINTS
        for name, valid in VALID[function].items()
        if isinstance(valid, np.ndarray)
        for value in (*NOT_ARRAYS, *(np.zeros(valid.shape, d) for d in NOT_NUMBERS))
    ),
    *(
        Bad(function, {name: array(*(4,) * ndim)}, ValueError, SIZES)
        for function in VALID
        if function.startswith(("conv_transpose", "grad"))
        for name, valid in VALID[function].items()
        if isinstance(valid, np.ndarray)
        for ndim in (0, 1, valid.ndim + 1)
    ),
    # Shapes given as arguments.
    *(
        Bad(function, {name: value}, TypeError)
        for function, name in (
            ("grad.conv2d_input", "input_size"),
            ("grad.conv2d_weight", "weight_size"),
        )
        for value in (
            None,
            1,
            1.5,
            "abcd",
            {1: 1},
            (2, 4, 9, 8.0),
            (2, 4, 3, True),
            (6, 4, 3, None),
        )
    ),
    *(
        Bad("grad.conv2d_input", {"input_size": value}, ValueError, SIZES)
        for value in (
            (),
            (2,),
            (9, 8),
            (2, 4, 9, 8, 7),
            (2, 4, 9, -8),
            (2, 4, 9, 9),
            (2, 4, 10, 8),
            (2, 5, 9, 8),
            (1, 4, 9, 8),
            (3, 4, 9, 8),
            (4, 9, 8),
            (2, 4, 0, 8),
            (2, 4, 2**63, 8),
            (2**70, 4, 9, 8),
        )
    ),
    *(
        Bad("grad.conv2d_weight", {"weight_size": value}, ValueError, SIZES)
        for value in (
            (),
            (6, 4),
            (6, 4, 3),
            (6, 4, 3, 3, 3),
            (6, 4, 3, -3),
            (6, 4, 3, 4),
            (6, 4, 2, 3),
            (5, 4, 3, 3),
            (6, 5, 3, 3),
            (6, 4, 0, 3),
            (6, 4, 2**63, 3),
            (2**70, 4, 3, 3),
        )
    ),
    *(
        Bad("grad.conv2d_input", {"grad_output": array(*shape)}, ValueError, SIZES)
        for shape in ((2, 6, 7, 7), (2, 6, 6, 6), (2, 5, 7, 6), (1, 6, 7, 6), (6, 7, 6))
    ),
    *(
        Bad("grad.conv2d_weight", {"grad_output": array(*shape)}, ValueError, SIZES)
        for shape in ((2, 6, 7, 7), (2, 6, 6, 6), (2, 5, 7, 6), (1, 6, 7, 6), (6, 7, 6))
    ),
    # Transposed convolution alone.
    *(Bad("conv_transpose2d", {"output_padding": v}, TypeError) for v in NOT_INTEGERS),
    *(
        Bad("conv_transpose2d", {"output_padding": v}, ValueError)
        for v in (-1, 1, 2**70, (), (0,), (0, 0, 0), (0, 1), (-1, 0))
    ),
    *(Bad("conv_transpose2d", {"output_padding": v}, EITHER) for v in ((0, 0.5), (False, 0))),
    *(
        Bad(function, {name: value}, EITHER)
        for function in ("conv_transpose2d", "prepare_transposed")
        for name in ("padding", "data_format", "activation")
        for value in ("", "nonsense", True, 1.5)
    ),
    *(
        Bad(function, {"output_padding": 1, "padding": "same", "stride": 2}, ValueError)
        for function in ("conv_transpose2d", "prepare_transposed")
    ),
    *(Bad("prepare_transposed", {"weight": value}, TypeError) for value in NOT_ARRAYS),
    *(Bad("prepare_transposed", {"weight": array(*(4,) * n)}, ValueError) for n in (0, 2, 6)),
    *(Bad("prepare_transposed", {"bias": array(*s)}, ValueError) for s in ((3,), (), (4, 1))),
    *(Bad("prepare_transposed", {"groups": v}, EITHER) for v in (0, 4, 1.5, None, "1")),
    *(Bad("prepare_transposed", {"input": v}, TypeError, "input|x") for v in NOT_ARRAYS),
    *(
        Bad("prepare_transposed", {"input": array(*s)}, ValueError, "input|x|weight")
        for s in ((6,), (2, 5, 7, 6), (2, 6, 0, 6), (1, 2, 6, 7, 6))
    ),
    *(Bad("conv_transpose2d", {"padding": v}, ValueError) for v in (5, (0, 4), ((9, 0), (0, 0)))),
    *(Bad("conv_transpose2d", {"bias": v}, TypeError) for v in NOT_ARRAYS if v is not None),
    *(Bad("conv_transpose2d", {"bias": array(*s)}, ValueError) for s in ((3,), (6,), (), (4, 1))),
    *(
        Bad("conv_transpose2d", {"weight": array(*s)}, ValueError, "weight|input")
        for s in ((5, 4, 3, 3), (6, 4, 0, 3), (6, 4, 3, 0))
    ),
    *(
        Bad("conv_transpose2d", {"input": array(*s)}, ValueError, "weight|input")
        for s in ((2, 5, 7, 6), (2, 6, 0, 6), (6, 7, 0), (2, 0, 7, 6))
    ),
    Bad("conv_transpose2d", {"stride": 2**62}, ValueError),
    Bad("conv_transpose2d", {"dilation": 2**62}, ValueError),
    *(
        Bad("conv_transpose2d", {"out": value}, EITHER)
        for value in (1, "out", [1.0], array(2, 4, 9, 9), array(2, 4, 9, 8, dtype="f8"))
    ),
    # A prepared layer's own methods.
    *(Bad("layer", {"x": value}, TypeError, "x|input") for value in NOT_ARRAYS),
    *(Bad("layer", {"x": array(2, 4, 9, 8, dtype=d)}, TypeError, "x|input") for d in NOT_NUMBERS),
    *(Bad("layer", {"out": value}, TypeError) for value in (1, "out", [1.0], True)),
    *(
        Bad("layer", {"out": value}, EITHER)
        for value in (array(2, 6, 7, 7), array(6, 7, 6), array(2, 6, 7, 6, dtype="f8"))
    ),
    *(Bad("update", {"weight": value}, TypeError) for value in NOT_ARRAYS),
    *(Bad("update", {"weight": array(6, 4, 3, 3, dtype=d)}, TypeError) for d in NOT_NUMBERS),
    *(Bad("update", {"weight": array(*(4,) * ndim)}, ValueError) for ndim in (0, 1, 2, 6)),
    *(Bad("update", {"bias": value}, TypeError) for value in NOT_ARRAYS if value is not None),
    *(Bad("update", {"bias": array(*shape)}, ValueError) for shape in ((5,), (), (6, 1))),
    # What only GPUs use.
    *(
        Bad(function, {"precision": value}, EITHER)
        for function in ("conv2d", "prepare")
        for value in ("", "half", 1, True, b"ieee")
    ),
]
