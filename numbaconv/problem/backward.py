"""Validation for gradients and transposed convolution: the forward problem they belong to."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from numbaconv.codegen.integers import ceil_div
from numbaconv.problem.forward import (
    CHANNELS_LAST_ADVICE,
    Problem,
    check_bias,
    describe,
    memory_strides,
    triple,
)
from numbaconv.problem.layout import CHANNELS_FIRST, Layout
from numbaconv.problem.shape import ZEROS, ConvShape
from numbaconv.problem.validation import (
    LETTERS,
    Pairs,
    check_addressable,
    check_array,
    integer,
    padding_pairs,
    per_axis,
)

_SAME = ("same", "same_lower")


def sizes_argument(
    name: str, sizes: tuple[Any, ...], ranks: tuple[int, ...], what: str
) -> tuple[int, ...]:
    """Return a frozen shape, of one of the numbers of axes in `ranks`, as integers."""
    if len(sizes) not in ranks:
        raise ValueError(f"{name} must be {what}, got {sizes!r}")
    return tuple(integer(name, size, 0) for size in sizes)


def _check_axes(name: str, array: np.ndarray, ranks: tuple[int, ...], what: str) -> None:
    check_array(name, array)
    if array.ndim not in ranks:
        raise ValueError(f"{name} must have shape {what}, got {array.shape}")


def _refuse(name: str, axis: int, size: int, output: int, low: int, high: int, least: int) -> None:
    low = max(low, least)
    would = f"{low} to {high}" if low < high else f"{low}"
    fits = f"what fits is {would}" if low <= high else "no size fits"
    raise ValueError(
        f"{name} has {size} on spatial axis {axis}, which does not give the {output} of "
        f"grad_output there; {fits}"
    )


def _total_padding(padding: Any, pair: tuple[int, int], reach: int) -> int:
    return 2 * reach if padding == "full" else sum(pair)


def _check_input_size(
    size: Sequence[int],
    kernel: Sequence[int],
    output: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    padding: Any,
    pairs: Pairs,
) -> None:
    """Refuse sizes whose convolution has not the given output, and say which would do."""
    word = padding.lower() if isinstance(padding, str) else None
    axes = zip(size, kernel, output, strides, dilations, pairs, strict=True)
    for axis, (n, k, o, s, d, pair) in enumerate(axes):
        reach = (k - 1) * d
        low = (o - 1) * s + 1
        if word not in _SAME:
            low += reach - _total_padding(word, pair, reach)
        if not low <= n < low + s:
            _refuse("input_size", axis, n, o, low, low + s - 1, 0)


def _check_weight_size(
    size: Sequence[int],
    kernel: Sequence[int],
    output: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    padding: Any,
    pairs: Pairs,
) -> None:
    """Refuse kernels whose convolution has not the given output, and say which would do."""
    word = padding.lower() if isinstance(padding, str) else None
    axes = zip(size, kernel, output, strides, dilations, pairs, strict=True)
    for axis, (n, k, o, s, d, pair) in enumerate(axes):
        if word in _SAME:
            if o != ceil_div(n, s):
                raise ValueError(
                    f"grad_output has {o} on spatial axis {axis}, where padding {word!r} of an "
                    f"input of {n} makes it {ceil_div(n, s)}"
                )
            continue
        # The reach (k - 1) * d must lie in between, for (n + padding - reach - 1) // s + 1 == o.
        longest = o * s - n if word == "full" else n + sum(pair) - 1 - (o - 1) * s
        shortest = longest - s + 1
        if not max(shortest, 0) <= (k - 1) * d <= longest:
            low, high = ceil_div(max(shortest, 0), d) + 1, longest // d + 1
            _refuse("weight_size", axis, k, o, low, high, 1)


def _check_channels(
    c_in: int, c_out: int, weight: tuple[int, ...], groups: int, names: tuple[str, str, str]
) -> None:
    input_name, grad_name, weight_name = names
    if weight[0] % groups:
        raise ValueError(
            f"groups = {groups} does not divide the {weight[0]} output channels of {weight_name}"
        )
    if c_in != weight[1] * groups:
        raise ValueError(
            f"{input_name} has {c_in} channels; a weight of shape {weight} in {groups} group(s) "
            f"is for {weight[1] * groups}"
        )
    if c_out != weight[0]:
        raise ValueError(f"{grad_name} has {c_out} channels, {weight_name} makes {weight[0]}")
    if 0 in weight[2:]:
        raise ValueError(f"{weight_name} has an empty kernel, shape {weight}")


def _forward_problem(
    check_sizes: Any,
    names: tuple[str, str, str],
    input_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    grad_shape: tuple[int, ...],
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    parts: int,
) -> Problem:
    """Return the convolution that two gradients are of, after checking that its shapes agree."""
    rank = len(weight_shape) - 2
    groups = integer("groups", groups, 1)
    if len(grad_shape) != len(input_shape):
        raise ValueError(
            f"{names[0]} {input_shape} and {names[1]} {grad_shape} must both be batched or both not"
        )
    if grad_shape[: -rank - 1] != input_shape[: -rank - 1]:
        raise ValueError(f"{names[0]} has {input_shape[0]} images, {names[1]} has {grad_shape[0]}")
    c = -rank - 1
    _check_channels(input_shape[c], grad_shape[c], weight_shape, groups, names)
    size, kernel, output = input_shape[-rank:], weight_shape[2:], grad_shape[-rank:]
    strides, dilations = per_axis("stride", stride, rank), per_axis("dilation", dilation, rank)
    pairs = padding_pairs(padding, size, kernel, strides, dilations)
    check_sizes(size, kernel, output, strides, dilations, padding, pairs)
    return describe(
        input_shape,
        weight_shape,
        stride,
        padding,
        dilation,
        groups,
        "zeros",
        CHANNELS_FIRST,
        parts,
    )


def input_gradient_problem(
    rank: int,
    input_size: Any,
    weight: Any,
    grad_output: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    parts: int,
) -> Problem:
    """Validate the arguments of ``grad.conv*_input``."""
    letters = LETTERS[rank]
    both = (rank + 1, rank + 2)
    _check_axes("weight", weight, (rank + 2,), f"(C_out, C_in/groups, K{letters[0]}, ...)")
    _check_axes("grad_output", grad_output, both, f"(N, C_out, O{letters[0]}, ...) or without N")
    sizes = sizes_argument("input_size", input_size, both, f"(N, C_in, {letters}) or without N")
    return _forward_problem(
        _check_input_size,
        ("input_size", "grad_output", "weight"),
        sizes,
        weight.shape,
        grad_output.shape,
        stride,
        padding,
        dilation,
        groups,
        parts,
    )


def weight_gradient_problem(
    rank: int,
    input: Any,
    weight_size: Any,
    grad_output: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    parts: int,
) -> Problem:
    """Validate the arguments of ``grad.conv*_weight``."""
    letters = LETTERS[rank]
    both = (rank + 1, rank + 2)
    _check_axes("input", input, both, f"(N, C_in, {letters}) or without N")
    _check_axes("grad_output", grad_output, both, f"(N, C_out, O{letters[0]}, ...) or without N")
    what = f"(C_out, C_in/groups, K{letters[0]}, ...)"
    sizes = sizes_argument("weight_size", weight_size, (rank + 2,), what)
    return _forward_problem(
        _check_weight_size,
        ("input", "grad_output", "weight_size"),
        input.shape,
        sizes,
        grad_output.shape,
        stride,
        padding,
        dilation,
        groups,
        parts,
    )


def check_transposed_weight(weight: Any) -> None:
    """Refuse what cannot be the weight of any transposed convolution."""
    check_array("weight", weight)
    if not 3 <= weight.ndim <= 5:
        raise ValueError(
            f"weight must have 3, 4 or 5 axes (C_in, C_out/groups, *kernel), "
            f"got shape {weight.shape}"
        )


def check_transposed_bias(bias: Any, weight: np.ndarray, groups: int) -> None:
    """Refuse a bias that is not one value for each output channel."""
    check_bias(bias, np.empty((weight.shape[1] * groups, 0), np.float32))


def check_output_padding(
    padding: Any, output_padding: Any, strides: Sequence[int], dilations: Sequence[int]
) -> tuple[int, ...]:
    """Return the output padding along each axis, which says one of several sizes."""
    extra = per_axis("output_padding", output_padding, len(strides), 0)
    if isinstance(padding, str) and padding.lower() in _SAME and any(extra):
        raise ValueError(
            f"output_padding must be 0 under padding {padding!r}, which makes results of "
            f"size * stride; got {output_padding!r}"
        )
    for axis, (more, s, d) in enumerate(zip(extra, strides, dilations, strict=True)):
        if more >= max(s, d):
            raise ValueError(
                f"output_padding must be smaller than stride or dilation, {max(s, d)} on spatial "
                f"axis {axis}; got {more}"
            )
    return extra


def transposed_problem(
    rank: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
    layout: Layout,
    parts: int,
) -> Problem:
    """Validate the arguments of ``conv_transpose*``.

    Returns
    -------
    Problem
        The convolution whose adjoint it is: from the result to the input.
    """
    letters = LETTERS[rank]
    axes = f"(N, {letters}, C_in)" if layout.channels_last else f"(N, C_in, {letters})"
    _check_axes("input", input, (rank + 1, rank + 2), f"{axes} or without N")
    _check_axes("weight", weight, (rank + 2,), f"(C_in, C_out/groups, K{letters[0]}, ...)")
    batched = input.ndim == rank + 2
    image = input.shape[1:] if batched else input.shape
    c_in, size = (image[-1], image[:-1]) if layout.channels_last else (image[0], image[1:])
    kernel = weight.shape[2:]
    groups = integer("groups", groups, 1)
    if c_in % groups:
        raise ValueError(f"groups = {groups} does not divide the {c_in} channels of input")
    if weight.shape[0] != c_in:
        is_last = not layout.channels_last and image[-1] == weight.shape[0]
        raise ValueError(
            f"weight has {weight.shape[0]} input channels, input has {c_in}"
            f"{CHANNELS_LAST_ADVICE if is_last else ''}"
        )
    if 0 in kernel or 0 in size:
        name, shape = ("weight", weight.shape) if 0 in kernel else ("input", input.shape)
        raise ValueError(f"{name} has an empty spatial axis, shape {shape}")
    c_out = weight.shape[1] * groups
    check_transposed_bias(bias, weight, groups)
    strides, dilations = per_axis("stride", stride, rank), per_axis("dilation", dilation, rank)
    pairs, result = _transposed_sizes(padding, output_padding, size, kernel, strides, dilations)
    n = input.shape[0] if batched else 1
    check_addressable(f"stride {strides} with dilation {dilations}", n, c_out, *result)
    size3, result3 = triple(size, 1), triple(result, 1)
    shape = ConvShape(
        n,
        groups,
        parts * c_out // groups,
        parts * c_in // groups,
        result3,
        triple(kernel, 1),
        triple(strides, 1),
        triple(dilations, 1),
        triple([before for before, _ in pairs], 0),
        size3,
        (ZEROS,) * 3,
        memory_strides(parts * c_out, result3, layout.channels_last and parts == 1),
        memory_strides(parts * c_in, size3, layout.memory_last),
    )
    pixels = (*result, c_out) if layout.channels_last else (c_out, *result)
    return Problem(shape, (n, *pixels) if batched else pixels, batched)


def _transposed_sizes(
    padding: Any,
    output_padding: Any,
    size: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> tuple[Pairs, tuple[int, ...]]:
    """Return the padding and the size of a transposed convolution's result along each axis.

    The padding is that of the convolution whose adjoint it is. So under a word that makes outputs
    of ceil(size / stride), the result is of stride sizes: the largest of those that give the input.
    """
    extra = check_output_padding(padding, output_padding, strides, dilations)
    whole = [n * s for n, s in zip(size, strides, strict=True)]
    pairs = padding_pairs(padding, whole, kernel, strides, dilations)
    if isinstance(padding, str) and padding.lower() in _SAME:
        return pairs, tuple(whole)
    result = []
    for axis, (n, k, s, d, (before, after), more) in enumerate(
        zip(size, kernel, strides, dilations, pairs, extra, strict=True)
    ):
        result.append((n - 1) * s + (k - 1) * d + 1 + more - before - after)
        if result[-1] < 1:
            raise ValueError(
                f"padding {(before, after)} leaves a result of {result[-1]} on spatial axis {axis}"
            )
    return pairs, tuple(result)
