"""From the arguments of a call to a plan: validated, described as a ConvShape, ready to run.

Validation and planning cost tens of microseconds and depend on shapes, dtypes and options only,
so the plan is kept for the next call with the same ones.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from numbaconv.activation import ACTIVATIONS
from numbaconv.arguments import (
    check_addressable,
    check_array,
    check_data_format,
    check_padding_fits,
    freeze,
    integer,
    output_size,
    padding_code,
    padding_pairs,
    per_axis,
    plain_word,
)
from numbaconv.backends import cpu
from numbaconv.dispatch import choose_backend, load_backend
from numbaconv.dtypes import Arithmetic, arithmetic
from numbaconv.layout import Layout, input_layout
from numbaconv.shape import ConvShape, Triple, one_row

_MOST_PLANS = 1024


class Problem(NamedTuple):
    """A validated call: the shape that kernels see, and the shape of the result."""

    shape: ConvShape
    out_shape: tuple[int, ...]
    batched: bool


class Plan:
    """What a call needs beside its data, for one set of shapes, dtypes and options.

    Attributes
    ----------
    shape : ConvShape
        The problem as the kernels see it.
    out_shape : tuple of int
        Shape of the result.
    result : dtype
        Dtype of the result.
    arithmetic : Arithmetic
        In which dtype it is computed.
    layout, layout_agrees : Layout, bool
        Order of the axes for the caller and in memory; whether they are the same.
    batched : bool
        Whether the input has an axis for the batch.
    auto, reason : str
        The backend that ``auto`` takes, and why.
    """

    def __init__(self, problem: Problem, result: np.dtype, layout: Layout, activation: int) -> None:
        self.shape, self.out_shape = problem.shape, problem.out_shape
        self.result = result
        self.arithmetic: Arithmetic = arithmetic(result)
        self.layout = layout
        self.layout_agrees = layout.channels_last == layout.memory_last
        self.batched = problem.batched
        self.activation = activation
        self.auto, self.reason = choose_backend(self.shape)
        self.multiply_adds = self.shape.flops // 2
        self.channels = self.shape.groups * self.shape.c_out
        self.out_size = self.shape.n * self.channels * self.shape.pixels
        self.no_bias = np.zeros(self.channels, self.arithmetic.compute)
        self.not_packed = np.empty(0, self.arithmetic.compute)
        self._templates: dict[tuple[str, int], cpu.Template] = {}
        self.on_devices: dict[Any, Any] = {}  # what the cuda backend keeps of it

    def template(self, name: str, threads: int) -> cpu.Template:
        """Return the job of this problem on a backend."""
        job = self._templates.get((name, threads))
        if job is None:
            job = cpu.make_template(
                load_backend(name), one_row(self.shape), self.arithmetic, threads, self.activation
            )
            self._templates[name, threads] = job
        return job


_plans: dict[Any, Plan] = {}


def keep(plans: dict[Any, Plan], key: Any, plan: Plan) -> None:
    """Keep a plan for the next call; memory must not grow with every new shape."""
    if len(plans) >= _MOST_PLANS:
        plans.clear()
    plans[key] = plan


def describe(
    input_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    padding_mode: Any,
    layout: Layout,
    parts: int = 1,
) -> Problem:
    """Validate shapes and options and return the problem.

    Parameters
    ----------
    layout : Layout
        Order of the axes of input and output.
    parts : int
        Real channels that stand for one channel: 2 for complex numbers.
    """
    rank = len(weight_shape) - 2
    if len(input_shape) not in (rank + 1, rank + 2):
        raise ValueError(
            f"input must have {rank + 2} axes, or {rank + 1} unbatched, for a weight of shape "
            f"{weight_shape}; got shape {input_shape}"
        )
    batched = len(input_shape) == rank + 2
    n = input_shape[0] if batched else 1
    image = input_shape[1:] if batched else input_shape
    c_in, size = (image[-1], image[:-1]) if layout.channels_last else (image[0], image[1:])
    c_out, c_group, kernel = weight_shape[0], weight_shape[1], weight_shape[2:]

    groups = integer("groups", groups, 1)
    if c_in % groups:
        raise ValueError(f"groups = {groups} does not divide the {c_in} channels of input")
    if c_out % groups:
        raise ValueError(f"groups = {groups} does not divide the {c_out} output channels of weight")
    if c_group * groups != c_in:
        raise ValueError(
            f"weight has {c_group} input channels a group, shape {weight_shape}; input has "
            f"{c_in} channels in {groups} group(s), which makes {c_in // groups}"
        )
    if 0 in kernel:
        raise ValueError(f"weight has an empty kernel, shape {weight_shape}")
    strides = per_axis("stride", stride, rank)
    dilations = per_axis("dilation", dilation, rank)
    mode = padding_code(padding_mode)
    pairs = padding_pairs(padding, size, kernel, strides, dilations)
    check_padding_fits(mode, pairs, size)
    output = output_size(size, kernel, strides, pairs, dilations)

    check_addressable("padding", n, c_out, *output)
    # A step that is never taken is one of 1: fewer kinds of problem, and no huge numbers.
    strides = tuple(1 if o == 1 else step for o, step in zip(output, strides, strict=True))
    dilations = tuple(1 if k == 1 else step for k, step in zip(kernel, dilations, strict=True))

    size3, output3 = triple(size, 1), triple(output, 1)
    in_channels, out_channels = c_in * parts, c_out * parts
    shape = ConvShape(
        n,
        groups,
        in_channels // groups,
        out_channels // groups,
        size3,
        triple(kernel, 1),
        triple(strides, 1),
        triple(dilations, 1),
        triple([before for before, _ in pairs], 0),
        output3,
        mode,
        memory_strides(in_channels, size3, layout.memory_last),
        memory_strides(out_channels, output3, layout.channels_last and parts == 1),
    )
    pixels = (*output, c_out) if layout.channels_last else (c_out, *output)
    return Problem(shape, (n, *pixels) if batched else pixels, batched)


def triple(values: Sequence[int], fill: int) -> Triple:
    """Return the values of the last axes as (depth, height, width)."""
    d, h, w = (fill,) * (3 - len(values)) + tuple(values)
    return d, h, w


def memory_strides(
    channels: int, size: Triple, channels_last: bool
) -> tuple[int, int, int, int, int]:
    """Steps of (n, c, d, h, w) in a contiguous array."""
    d, h, w = size
    if channels_last:
        return (d * h * w * channels, 1, h * w * channels, w * channels, channels)
    return (channels * d * h * w, d * h * w, h * w, w, 1)


def check_rank(name: str, weight: Any, rank: int) -> None:
    """Refuse a weight that is not for convolution along `rank` axes."""
    if isinstance(weight, np.ndarray) and weight.ndim != rank + 2:
        raise ValueError(
            f"weight must have {rank + 2} axes for {name}, (C_out, C_in/groups, *kernel); "
            f"got shape {weight.shape}"
        )


def check_weight(weight: Any) -> None:
    """Refuse what cannot be the weight of any convolution."""
    check_array("weight", weight)
    if not 3 <= weight.ndim <= 5:
        raise ValueError(
            f"weight must have 3, 4 or 5 axes (C_out, C_in/groups, *kernel), "
            f"got shape {weight.shape}"
        )


def check_bias(bias: Any, weight: np.ndarray) -> None:
    """Refuse a bias that is not one value for each output channel."""
    if bias is None:
        return
    check_array("bias", bias)
    if bias.shape != weight.shape[:1]:
        raise ValueError(f"bias must have shape (C_out,) = {weight.shape[:1]}, got {bias.shape}")


def check_activation(activation: Any) -> None:
    """Refuse what is no activation."""
    if not (activation is None or (isinstance(activation, str) and activation in ACTIVATIONS)):
        names = ", ".join(str(name) for name in ACTIVATIONS)
        raise ValueError(f"activation must be one of {names}; got {activation!r}")


def _new_plan(
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    padding_mode: Any,
    data_format: Any,
    activation: Any,
    layout: Layout,
) -> Plan:
    check_array("input", input)
    check_weight(weight)
    check_data_format(data_format)
    arrays = [input, weight]
    check_bias(bias, weight)
    if bias is not None:
        arrays.append(bias)
    result = np.result_type(*(a.dtype for a in arrays))
    check_activation(activation)
    if activation is not None and result.kind != "f":
        raise TypeError(f"activation {activation!r} needs a real floating dtype, got {result}")
    problem = describe(
        input.shape,
        weight.shape,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        layout,
        parts=2 if result.kind == "c" else 1,
    )
    return Plan(problem, result, layout, ACTIVATIONS[activation])


def find_plan(
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    padding_mode: Any,
    data_format: Any,
    activation: Any,
) -> Plan:
    """Return the plan of a call, kept from an earlier one or made after validation.

    Arrays come from `base_array`. A plan is made of the very values that it is kept under: asked
    twice, an option may give two answers (a list that another thread changes, an ``__index__``).
    """
    if type(stride) is not int:
        stride = freeze("stride", stride)
    if type(padding) is not int:
        padding = freeze("padding", padding)
    if type(dilation) is not int:
        dilation = freeze("dilation", dilation)
    if type(groups) is not int:
        groups = freeze("groups", groups)
    if type(padding_mode) is not str:
        padding_mode = plain_word(padding_mode)
    if type(data_format) is not str:
        data_format = plain_word(data_format)
    if activation is not None and type(activation) is not str:
        activation = plain_word(activation)
    # What is said beside it decides the layout of a contiguous input.
    layout = None if input.flags.c_contiguous else input_layout(input, weight, bias, data_format)
    key = (
        input.shape,
        input.dtype,
        weight.shape,
        weight.dtype,
        None if bias is None else (bias.shape, bias.dtype),
        stride,
        padding,
        dilation,
        groups,
        padding_mode if type(padding_mode) is str else repr(padding_mode),
        data_format if type(data_format) is str else repr(data_format),
        activation if activation is None or type(activation) is str else repr(activation),
        layout,
    )
    plan = _plans.get(key)
    if plan is None:
        plan = _new_plan(
            input,
            weight,
            bias,
            stride,
            padding,
            dilation,
            groups,
            padding_mode,
            data_format,
            activation,
            layout or input_layout(input, weight, bias, data_format),
        )
        keep(_plans, key, plan)
    return plan
