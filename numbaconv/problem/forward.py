"""The convolution that a call describes: its arguments, validated, as a `ConvShape`."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from numbaconv.problem.activations import ACTIVATIONS
from numbaconv.problem.layout import Layout
from numbaconv.problem.libraries import is_array_like
from numbaconv.problem.shape import ZEROS, ConvShape, Triple
from numbaconv.problem.validation import (
    check_addressable,
    check_array,
    check_padding_fits,
    input_array,
    integer,
    output_size,
    padding_codes,
    padding_pairs,
    per_axis,
)

CHANNELS_LAST_ADVICE = '; where they are the last axis, pass data_format="channels_last"'


class Problem(NamedTuple):
    """A validated call: the shape that kernels see, and the shape of the result."""

    shape: ConvShape
    out_shape: tuple[int, ...]
    batched: bool


def _check_input_axes(input_shape: tuple[int, ...], weight_shape: tuple[int, ...]) -> None:
    rank = len(weight_shape) - 2
    if len(input_shape) in (rank + 1, rank + 2):
        return
    without_channels = "; input[None, None] has them, and numbaconv.ndimage needs none"
    raise ValueError(
        f"input must have {rank + 2} axes, or {rank + 1} unbatched, for a weight of shape "
        f"{weight_shape}; got shape {input_shape}"
        f"{without_channels if len(input_shape) == rank else ''}"
    )


def _check_channels(
    image: tuple[int, ...], weight_shape: tuple[int, ...], groups: int, channels_last: bool
) -> None:
    c_in, (c_out, c_group) = image[-1 if channels_last else 0], weight_shape[:2]
    if c_in % groups:
        raise ValueError(f"groups = {groups} does not divide the {c_in} channels of input")
    if c_out % groups:
        raise ValueError(f"groups = {groups} does not divide the {c_out} output channels of weight")
    if c_group * groups != c_in:
        is_last = not channels_last and image[-1] == c_group * groups
        raise ValueError(
            f"weight has {c_group} input channels a group, shape {weight_shape}; input has "
            f"{c_in} channels in {groups} group(s), which makes {c_in // groups}"
            f"{CHANNELS_LAST_ADVICE if is_last else ''}"
        )


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
    zeros: int = ZEROS,
) -> Problem:
    """Validate shapes and options and return the problem.

    Parameters
    ----------
    layout : Layout
        Order of the axes of input and output.
    parts : int
        Real channels that stand for one channel: 2 for complex numbers.
    zeros : int
        The mode of axes that are padded with zeros: ZEROS, or CONSTANT for another number.
    """
    _check_input_axes(input_shape, weight_shape)
    rank, c_out, kernel = len(weight_shape) - 2, weight_shape[0], weight_shape[2:]
    batched = len(input_shape) == rank + 2
    n = input_shape[0] if batched else 1
    image = input_shape[1:] if batched else input_shape
    c_in, size = (image[-1], image[:-1]) if layout.channels_last else (image[0], image[1:])
    groups = integer("groups", groups, 1)
    _check_channels(image, weight_shape, groups, layout.channels_last)
    if 0 in kernel:
        raise ValueError(f"weight has an empty kernel, shape {weight_shape}")
    strides = per_axis("stride", stride, rank)
    dilations = per_axis("dilation", dilation, rank)
    modes = padding_codes(padding_mode, rank)
    pairs = padding_pairs(padding, size, kernel, strides, dilations)
    check_padding_fits(modes, pairs, size)
    modes = tuple(
        (zeros if mode == ZEROS else mode) if any(pair) else ZEROS
        for mode, pair in zip(modes, pairs, strict=True)
    )
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
        triple(modes, ZEROS),
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
    if not hasattr(weight, "shape") and is_array_like(weight):
        weight = input_array("weight", weight)
    known = hasattr(weight, "shape") and not isinstance(weight, (np.generic, type))
    if known and len(weight.shape) != rank + 2:
        advice = "; x[None] and weight[None, None] have channels, numbaconv.ndimage needs none"
        raise ValueError(
            f"weight must have {rank + 2} axes for {name}, (C_out, C_in/groups, *kernel); "
            f"got shape {weight.shape}{advice if len(weight.shape) == rank else ''}"
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


def check_add(add: Any, shape: tuple[int, ...], sums: np.dtype) -> None:
    """Refuse an array that cannot be added to sums of a dtype, for a result of a shape."""
    if add is None:
        return
    check_array("add", add)
    if add.shape != shape:
        raise ValueError(f"add has shape {add.shape}, the result has {shape}")
    if not np.can_cast(add.dtype, sums):
        raise TypeError(
            f"add has dtype {add.dtype}, which does not convert safely to {sums}, the dtype of the "
            f"sums"
        )


def check_activation(activation: Any) -> None:
    """Refuse what is no activation."""
    if not (activation is None or (isinstance(activation, str) and activation in ACTIVATIONS)):
        names = ", ".join(str(name) for name in ACTIVATIONS)
        raise ValueError(f"activation must be one of {names}; got {activation!r}")
