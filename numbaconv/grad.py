"""Gradients of convolutions with respect to their input and their weights.

Both are convolutions again: ``docs/gradients.md`` explains them. Names and order of the arguments
are those of ``torch.nn.grad``.
"""

from typing import Any

import numpy as np

from numbaconv.blocks.calls import InputGradient, WeightGradient, goes_by_blocks
from numbaconv.cpu.gradients.adjoint import apply_adjoint
from numbaconv.dispatch.gpu import Call
from numbaconv.dispatch.gradients import engines_of_parts, weight_gradient
from numbaconv.foreign import call_foreign, is_foreign
from numbaconv.problem.plan import find_input_plan, find_weight_plan

__all__ = [
    "conv1d_input",
    "conv1d_weight",
    "conv2d_input",
    "conv2d_weight",
    "conv3d_input",
    "conv3d_weight",
]


@goes_by_blocks(InputGradient.of)
def _input_gradient(
    rank: int,
    input_size: Any,
    weight: np.ndarray,
    grad_output: np.ndarray,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    backend: str | None,
    stream: Any,
    precision: str | None,
) -> Any:
    if is_foreign(weight) or is_foreign(grad_output):
        return call_foreign(_input_gradient, locals())
    call = Call({"weight": weight, "grad_output": grad_output}, backend, stream, precision)
    weight, grad_output = call.arrays.values()
    options = stride, padding, dilation, groups
    plan = find_input_plan(rank, input_size, weight, grad_output, *options)
    name = call.cpu_backend()
    if name is None:
        arrays = {"input": grad_output, "weight": weight, "bias": None}
        return call.on_gpu("apply_adjoint", plan, arrays, out=None)
    return apply_adjoint(plan, engines_of_parts(plan, name, precision), grad_output, weight)


@goes_by_blocks(WeightGradient.of)
def _weight_gradient(
    rank: int,
    input: np.ndarray,
    weight_size: Any,
    grad_output: np.ndarray,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    backend: str | None,
    stream: Any,
    precision: str | None,
) -> Any:
    if is_foreign(input) or is_foreign(grad_output):
        return call_foreign(_weight_gradient, locals())
    call = Call({"input": input, "grad_output": grad_output}, backend, stream, precision)
    x, grad_output = call.arrays.values()
    options = stride, padding, dilation, groups
    plan = find_weight_plan(rank, x, weight_size, grad_output, *options)
    name = call.cpu_backend()
    if name is None:
        return call.on_gpu("weight_gradient", plan, call.arrays)
    return weight_gradient(plan, name, x, grad_output)


def conv1d_input(
    input_size: Any,
    weight: np.ndarray,
    grad_output: np.ndarray,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    backend: str | None = None,
    stream: Any = None,
    precision: str | None = None,
) -> Any:
    """Gradient of `conv1d` with respect to its input, as `conv2d_input` is of images.

    Parameters
    ----------
    input_size : tuple of int
        Shape of the input: (N, C_in, L) or (C_in, L).
    weight : ndarray
        Shape (C_out, C_in/groups, K).
    grad_output : ndarray
        Shape (N, C_out, OL) or (C_out, OL).
    stride, padding, dilation, groups, backend, stream, precision
        As in `conv2d_input`.

    Returns
    -------
    ndarray
        Shape `input_size`.

    Raises
    ------
    TypeError, ValueError, BackendUnavailableError
        As in `conv2d_input`.
    """
    options = stride, padding, dilation, groups
    where = backend, stream, precision
    return _input_gradient(1, input_size, weight, grad_output, *options, *where)


def conv1d_weight(
    input: np.ndarray,
    weight_size: Any,
    grad_output: np.ndarray,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    backend: str | None = None,
    stream: Any = None,
    precision: str | None = None,
) -> Any:
    """Gradient of `conv1d` with respect to its weight, as `conv2d_weight` is of images.

    Parameters
    ----------
    input : ndarray
        Shape (N, C_in, L) or (C_in, L).
    weight_size : tuple of int
        Shape of the weight: (C_out, C_in/groups, K).
    grad_output : ndarray
        Shape (N, C_out, OL) or (C_out, OL).
    stride, padding, dilation, groups, backend, stream, precision
        As in `conv2d_weight`.

    Returns
    -------
    ndarray
        Shape `weight_size`.

    Raises
    ------
    TypeError, ValueError, BackendUnavailableError
        As in `conv2d_weight`.
    """
    options = stride, padding, dilation, groups
    where = backend, stream, precision
    return _weight_gradient(1, input, weight_size, grad_output, *options, *where)


def conv2d_input(
    input_size: Any,
    weight: np.ndarray,
    grad_output: np.ndarray,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    backend: str | None = None,
    stream: Any = None,
    precision: str | None = None,
) -> Any:
    """Gradient of `conv2d` with respect to its input.

    Parameters
    ----------
    input_size : tuple of int
        Shape of the input: (N, C_in, H, W) or (C_in, H, W).
    weight : ndarray
        Shape (C_out, C_in/groups, KH, KW). A complex weight is conjugated.
    grad_output : ndarray
        Gradient with respect to the output, shape (N, C_out, OH, OW) or (C_out, OH, OW).
    stride, padding, dilation, groups
        Those of the convolution, which padded with zeros.
    backend : {"auto", "direct", "im2col", "fft", "winograd", "cuda"}, optional
        As in `conv`.
    stream, precision
        As in `conv`.

    Returns
    -------
    ndarray
        Shape `input_size`. The dtype is that of `weight` and `grad_output` promoted. On a GPU if
        the arrays are there.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; the message names it. If `input_size` fits no such
        convolution, the message gives the sizes that fit.
    BackendUnavailableError
        If the backend that was asked for cannot run here.

    Notes
    -----
    In each phase of the stride it is a convolution of stride 1: `grad_output` with the weights
    of that phase, flipped [1]_.

    References
    ----------
    .. [1] V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep learning", 2016,
       chapter 4.

    Examples
    --------
    >>> import numpy as np
    >>> import numbaconv as nc
    >>> weight, grad_output = np.ones((4, 3, 3, 3)), np.ones((2, 4, 8, 8))
    >>> nc.grad.conv2d_input((2, 3, 16, 16), weight, grad_output, stride=2, padding=1).shape
    (2, 3, 16, 16)
    """
    options = stride, padding, dilation, groups
    where = backend, stream, precision
    return _input_gradient(2, input_size, weight, grad_output, *options, *where)


def conv2d_weight(
    input: np.ndarray,
    weight_size: Any,
    grad_output: np.ndarray,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    backend: str | None = None,
    stream: Any = None,
    precision: str | None = None,
) -> Any:
    """Gradient of `conv2d` with respect to its weight.

    Parameters
    ----------
    input : ndarray
        Shape (N, C_in, H, W) or (C_in, H, W). A complex input is conjugated.
    weight_size : tuple of int
        Shape of the weight: (C_out, C_in/groups, KH, KW).
    grad_output : ndarray
        Gradient with respect to the output, shape (N, C_out, OH, OW) or (C_out, OH, OW).
    stride, padding, dilation, groups
        Those of the convolution, which padded with zeros.
    backend : {"auto", "direct", "im2col", "fft", "winograd", "cuda"}, optional
        As in `conv`.
    stream, precision
        As in `conv`.

    Returns
    -------
    ndarray
        Shape `weight_size`. The dtype is that of `input` and `grad_output` promoted. On a GPU if
        the arrays are there. The bits do not depend on the number of threads.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; the message names it. If `weight_size` fits no such
        convolution, the message gives the sizes that fit.
    BackendUnavailableError
        If the backend that was asked for cannot run here.

    Notes
    -----
    It is the matrix product of `grad_output` and the transposed patch matrix of `input`. Under
    ``fft``, which ``auto`` takes for large filters, it is a convolution of these two by spectra.

    Examples
    --------
    >>> import numpy as np
    >>> import numbaconv as nc
    >>> x, grad_output = np.ones((2, 3, 16, 16)), np.ones((2, 4, 8, 8))
    >>> nc.grad.conv2d_weight(x, (4, 3, 3, 3), grad_output, stride=2, padding=1).shape
    (4, 3, 3, 3)
    """
    options = stride, padding, dilation, groups
    where = backend, stream, precision
    return _weight_gradient(2, input, weight_size, grad_output, *options, *where)


def conv3d_input(
    input_size: Any,
    weight: np.ndarray,
    grad_output: np.ndarray,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    backend: str | None = None,
    stream: Any = None,
    precision: str | None = None,
) -> Any:
    """Gradient of `conv3d` with respect to its input, as `conv2d_input` is of images.

    Parameters
    ----------
    input_size : tuple of int
        Shape of the input: (N, C_in, D, H, W) or (C_in, D, H, W).
    weight : ndarray
        Shape (C_out, C_in/groups, KD, KH, KW).
    grad_output : ndarray
        Shape (N, C_out, OD, OH, OW) or (C_out, OD, OH, OW).
    stride, padding, dilation, groups, backend, stream, precision
        As in `conv2d_input`.

    Returns
    -------
    ndarray
        Shape `input_size`.

    Raises
    ------
    TypeError, ValueError, BackendUnavailableError
        As in `conv2d_input`.
    """
    options = stride, padding, dilation, groups
    where = backend, stream, precision
    return _input_gradient(3, input_size, weight, grad_output, *options, *where)


def conv3d_weight(
    input: np.ndarray,
    weight_size: Any,
    grad_output: np.ndarray,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    backend: str | None = None,
    stream: Any = None,
    precision: str | None = None,
) -> Any:
    """Gradient of `conv3d` with respect to its weight, as `conv2d_weight` is of images.

    Parameters
    ----------
    input : ndarray
        Shape (N, C_in, D, H, W) or (C_in, D, H, W).
    weight_size : tuple of int
        Shape of the weight: (C_out, C_in/groups, KD, KH, KW).
    grad_output : ndarray
        Shape (N, C_out, OD, OH, OW) or (C_out, OD, OH, OW).
    stride, padding, dilation, groups, backend, stream, precision
        As in `conv2d_weight`.

    Returns
    -------
    ndarray
        Shape `weight_size`.

    Raises
    ------
    TypeError, ValueError, BackendUnavailableError
        As in `conv2d_weight`.
    """
    options = stride, padding, dilation, groups
    where = backend, stream, precision
    return _weight_gradient(3, input, weight_size, grad_output, *options, *where)
