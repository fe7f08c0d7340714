"""Transposed convolution: the adjoint of a convolution, used as a layer."""

from typing import Any

import numpy as np

from numbaconv.device import Call
from numbaconv.grad import array_key, frozen_options, kept_plan, result_dtype
from numbaconv.gradient_arguments import transposed_problem
from numbaconv.input_gradient import AdjointPlan, apply_adjoint, check_adjoint_out


def find_transposed_plan(
    rank: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
) -> AdjointPlan:
    """Return the plan of a call, kept from an earlier one or made after validation."""
    options = frozen_options(
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        groups=groups,
        dilation=dilation,
    )

    def make() -> AdjointPlan:
        result = result_dtype(input=input, weight=weight, bias=bias)
        problem = transposed_problem(
            rank,
            input,
            weight,
            bias,
            **options,
            parts=2 if result.kind == "c" else 1,
        )
        return AdjointPlan(problem, result, problem.out_shape)

    key = "transpose", rank, array_key(input), array_key(weight), array_key(bias), *options.values()
    plan: AdjointPlan = kept_plan(key, make)
    return plan


def _conv_transpose(
    rank: int,
    input: Any,
    weight: Any,
    bias: Any,
    *options: Any,
    out: Any,
    backend: str | None,
    stream: Any,
    precision: str | None,
) -> Any:
    given = {"input": input, "weight": weight, "bias": bias, "out": out}
    call = Call(given, backend, stream, precision)
    arrays = dict(call.arrays)
    target = arrays.pop("out")
    plan = find_transposed_plan(rank, *arrays.values(), *options)
    name = call.cpu_backend()
    check_adjoint_out(target, plan, arrays)
    if name is None:
        result = call.on_gpu("apply_adjoint", plan, arrays, out=target, conjugate=False)
        return result if out is None else out
    # The adjoint conjugates complex weights, which a transposed convolution does not.
    x, weight, bias = arrays.values()
    weight = weight.conj() if weight.dtype.kind == "c" else weight
    result = apply_adjoint(plan, name, x, weight, bias, target)
    return result if out is None else out


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
    stream: Any = None,
    precision: str | None = None,
) -> Any:
    """Transposed convolution of signals, as `conv_transpose2d` is of images.

    Parameters
    ----------
    input : ndarray
        Shape (N, C_in, L) or (C_in, L).
    weight : ndarray
        Shape (C_in, C_out/groups, K).
    bias, stride, padding, output_padding, groups, dilation, out, backend, stream, precision
        As in `conv_transpose2d`.

    Returns
    -------
    ndarray
        Shape (N, C_out, OL) or (C_out, OL).

    Raises
    ------
    TypeError, ValueError, BackendUnavailableError
        As in `conv_transpose2d`.
    """
    options = stride, padding, output_padding, groups, dilation
    where = {"out": out, "backend": backend, "stream": stream, "precision": precision}
    return _conv_transpose(1, input, weight, bias, *options, **where)


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
    stream: Any = None,
    precision: str | None = None,
) -> Any:
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
    backend : {"auto", "direct", "im2col", "cuda"}, optional
        As in `conv`.
    stream, precision
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
    options = stride, padding, output_padding, groups, dilation
    where = {"out": out, "backend": backend, "stream": stream, "precision": precision}
    return _conv_transpose(2, input, weight, bias, *options, **where)


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
    stream: Any = None,
    precision: str | None = None,
) -> Any:
    """Transposed convolution of volumes, as `conv_transpose2d` is of images.

    Parameters
    ----------
    input : ndarray
        Shape (N, C_in, D, H, W) or (C_in, D, H, W).
    weight : ndarray
        Shape (C_in, C_out/groups, KD, KH, KW).
    bias, stride, padding, output_padding, groups, dilation, out, backend, stream, precision
        As in `conv_transpose2d`.

    Returns
    -------
    ndarray
        Shape (N, C_out, OD, OH, OW) or (C_out, OD, OH, OW).

    Raises
    ------
    TypeError, ValueError, BackendUnavailableError
        As in `conv_transpose2d`.
    """
    options = stride, padding, output_padding, groups, dilation
    where = {"out": out, "backend": backend, "stream": stream, "precision": precision}
    return _conv_transpose(3, input, weight, bias, *options, **where)
