"""Transposed convolution: the adjoint of a convolution, used as a layer."""

from typing import Any

import numpy as np

from numbaconv.arguments import base_array, freeze
from numbaconv.grad import array_key, cpu_backend, kept_plan, result_dtype


def _conv_transpose(
    rank: int,
    input: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
    out: np.ndarray | None,
    backend: str | None,
) -> np.ndarray:
    from numbaconv import input_gradient
    from numbaconv.gradient_arguments import transposed_problem

    x, weight = base_array("input", input), base_array("weight", weight)
    bias = None if bias is None else base_array("bias", bias)
    target = None if out is None else base_array("out", out)
    stride, padding = freeze("stride", stride), freeze("padding", padding)
    output_padding = freeze("output_padding", output_padding)
    groups, dilation = freeze("groups", groups), freeze("dilation", dilation)

    def make() -> Any:
        result = result_dtype(input=x, weight=weight, bias=bias)
        problem = transposed_problem(
            rank,
            x,
            weight,
            bias,
            stride,
            padding,
            output_padding,
            groups,
            dilation,
            2 if result.kind == "c" else 1,
        )
        return input_gradient.AdjointPlan(problem, result, problem.out_shape)

    key = (
        "transpose",
        rank,
        array_key(x),
        array_key(weight),
        array_key(bias),
        stride,
        padding,
        output_padding,
        groups,
        dilation,
    )
    plan = kept_plan(key, make)
    name = cpu_backend(backend)
    arrays = {"input": x, "weight": weight, "bias": bias}
    input_gradient.check_adjoint_out(target, plan, arrays)
    # The adjoint conjugates complex weights, which a transposed convolution does not.
    weight = weight.conj() if weight.dtype.kind == "c" else weight
    y = input_gradient.apply_adjoint(plan, name, x, weight, bias, target)
    return y if out is None else out


def conv_transpose1d(
    input: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    *,
    out: np.ndarray | None = None,
    backend: str | None = None,
) -> np.ndarray:
    """Transposed convolution of signals: each input element spreads over the kernel's taps.

    Parameters
    ----------
    input : ndarray
        Shape (N, C_in, L) or (C_in, L). Strides, byte orders and dtypes as in `conv`.
    weight : ndarray
        Shape (C_in, C_out/groups, K): that of the convolution whose adjoint this is.
    bias : ndarray, optional
        Shape (C_out,), added to each output channel.
    stride : int or tuple of int
        Elements of the output from one input element to the next.
    padding : int, tuple of int, or tuple of (int, int)
        Elements that are cut off the output on both sides, or (before, after).
    output_padding : int or tuple of int
        Elements that the output has more at its end; less than stride or dilation. Convolutions of
        stride s make the same output of s different sizes: this says which of them is meant.
    groups : int
        Groups into which the channels are split.
    dilation : int or tuple of int
        Elements of the output from one tap to the next.
    out : ndarray, optional
        Array of the result's shape and dtype to store the result in. It must not overlap the
        input, weight or bias.
    backend : {"auto", "direct", "im2col"}, optional
        As in `conv`.

    Returns
    -------
    ndarray
        Shape (N, C_out, OL) or without N, where along each axis the output has
        (size - 1) * stride + dilation * (kernel - 1) + 1 + output_padding - padding.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; the message names it.
    BackendUnavailableError
        If the backend that was asked for cannot run here.

    Notes
    -----
    No zeros are inserted between the input's elements: each phase of the stride is a convolution
    of its own, with the taps that belong to it [1]_.

    References
    ----------
    .. [1] W. Shi et al., "Is the deconvolution layer the same as a convolutional layer?", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> import numbaconv as nc
    >>> x = np.ones((1, 1, 4), np.float32)
    >>> nc.conv_transpose1d(x, np.ones((1, 2, 3), np.float32), stride=2).shape
    (1, 2, 9)
    """
    return _conv_transpose(
        1,
        input,
        weight,
        bias,
        stride,
        padding,
        output_padding,
        groups,
        dilation,
        out,
        backend,
    )


def conv_transpose2d(
    input: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    *,
    out: np.ndarray | None = None,
    backend: str | None = None,
) -> np.ndarray:
    """Transposed convolution of images: each input element spreads over the kernel's taps.

    Parameters
    ----------
    input : ndarray
        Shape (N, C_in, H, W) or (C_in, H, W). Strides, byte orders and dtypes as in `conv`.
    weight : ndarray
        Shape (C_in, C_out/groups, KH, KW): that of the convolution whose adjoint this is.
    bias : ndarray, optional
        Shape (C_out,), added to each output channel.
    stride : int or tuple of int
        Elements of the output from one input element to the next.
    padding : int, tuple of int, or tuple of (int, int)
        Elements that are cut off the output on both sides, or (before, after).
    output_padding : int or tuple of int
        Elements that the output has more at its end; less than stride or dilation. Convolutions of
        stride s make the same output of s different sizes: this says which of them is meant.
    groups : int
        Groups into which the channels are split.
    dilation : int or tuple of int
        Elements of the output from one tap to the next.
    out : ndarray, optional
        Array of the result's shape and dtype to store the result in. It must not overlap the
        input, weight or bias.
    backend : {"auto", "direct", "im2col"}, optional
        As in `conv`.

    Returns
    -------
    ndarray
        Shape (N, C_out, OH, OW) or without N, where along each axis the output has
        (size - 1) * stride + dilation * (kernel - 1) + 1 + output_padding - padding.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; the message names it.
    BackendUnavailableError
        If the backend that was asked for cannot run here.

    Notes
    -----
    No zeros are inserted between the input's elements: each phase of the stride is a convolution
    of its own, with the taps that belong to it [1]_.

    References
    ----------
    .. [1] W. Shi et al., "Is the deconvolution layer the same as a convolutional layer?", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> import numbaconv as nc
    >>> x = np.ones((1, 1, 4, 4), np.float32)
    >>> nc.conv_transpose2d(x, np.ones((1, 2, 3, 3), np.float32), stride=2).shape
    (1, 2, 9, 9)
    """
    return _conv_transpose(
        2,
        input,
        weight,
        bias,
        stride,
        padding,
        output_padding,
        groups,
        dilation,
        out,
        backend,
    )


def conv_transpose3d(
    input: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    *,
    out: np.ndarray | None = None,
    backend: str | None = None,
) -> np.ndarray:
    """Transposed convolution of volumes: each input element spreads over the kernel's taps.

    Parameters
    ----------
    input : ndarray
        Shape (N, C_in, D, H, W) or (C_in, D, H, W). Strides, byte orders and dtypes as in `conv`.
    weight : ndarray
        Shape (C_in, C_out/groups, KD, KH, KW): that of the convolution whose adjoint this is.
    bias : ndarray, optional
        Shape (C_out,), added to each output channel.
    stride : int or tuple of int
        Elements of the output from one input element to the next.
    padding : int, tuple of int, or tuple of (int, int)
        Elements that are cut off the output on both sides, or (before, after).
    output_padding : int or tuple of int
        Elements that the output has more at its end; less than stride or dilation. Convolutions of
        stride s make the same output of s different sizes: this says which of them is meant.
    groups : int
        Groups into which the channels are split.
    dilation : int or tuple of int
        Elements of the output from one tap to the next.
    out : ndarray, optional
        Array of the result's shape and dtype to store the result in. It must not overlap the
        input, weight or bias.
    backend : {"auto", "direct", "im2col"}, optional
        As in `conv`.

    Returns
    -------
    ndarray
        Shape (N, C_out, OD, OH, OW) or without N, where along each axis the output has
        (size - 1) * stride + dilation * (kernel - 1) + 1 + output_padding - padding.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; the message names it.
    BackendUnavailableError
        If the backend that was asked for cannot run here.

    Notes
    -----
    No zeros are inserted between the input's elements: each phase of the stride is a convolution
    of its own, with the taps that belong to it [1]_.

    References
    ----------
    .. [1] W. Shi et al., "Is the deconvolution layer the same as a convolutional layer?", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> import numbaconv as nc
    >>> x = np.ones((1, 1, 4, 4, 4), np.float32)
    >>> nc.conv_transpose3d(x, np.ones((1, 2, 3, 3, 3), np.float32), stride=2).shape
    (1, 2, 9, 9, 9)
    """
    return _conv_transpose(
        3,
        input,
        weight,
        bias,
        stride,
        padding,
        output_padding,
        groups,
        dilation,
        out,
        backend,
    )
