"""Gradients of convolutions with respect to their input and their weights.

Both are convolutions again: see ``docs/gradients.md``. Names and arguments are those of
``torch.nn.grad``.
"""

from typing import Any

import numpy as np

from numbaconv import input_gradient, weight_gradient
from numbaconv.arguments import check_array, freeze
from numbaconv.device import Call
from numbaconv.gradient_arguments import input_gradient_problem, weight_gradient_problem
from numbaconv.plan import keep

__all__ = [
    "conv1d_input",
    "conv1d_weight",
    "conv2d_input",
    "conv2d_weight",
    "conv3d_input",
    "conv3d_weight",
]

_plans: dict[Any, Any] = {}


def kept_plan(key: tuple[Any, ...], make: Any) -> Any:
    """Return the plan of a call, kept from an earlier one with the same key or made now."""
    plan = _plans.get(key)
    if plan is None:
        plan = make()
        keep(_plans, key, plan)
    return plan


def array_key(array: np.ndarray | None) -> tuple[Any, ...] | None:
    """Return what a plan depends on of an array."""
    return None if array is None else (array.shape, array.dtype)


def result_dtype(**arrays: np.ndarray | None) -> np.dtype:
    """Return the dtype that arrays promote to, after checking that each is supported."""
    given = {name: array for name, array in arrays.items() if array is not None}
    for name, array in given.items():
        check_array(name, array)
    return np.result_type(*(array.dtype for array in given.values()))


def frozen_options(**options: Any) -> dict[str, Any]:
    """Return options, read once, with values that can be part of a dict key."""
    return {name: freeze(name, value) for name, value in options.items()}


def frozen_sizes(name: str, sizes: Any) -> Any:
    """Return a shape in a form that can be a dict key."""
    if not isinstance(sizes, (tuple, list, np.ndarray)):
        raise TypeError(f"{name} must be a tuple of ints, got {type(sizes).__name__}")
    return freeze(name, sizes)


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
    call = Call({"weight": weight, "grad_output": grad_output}, backend, stream, precision)
    weight, grad_output = call.arrays.values()
    input_size = frozen_sizes("input_size", input_size)
    options = frozen_options(stride=stride, padding=padding, dilation=dilation, groups=groups)

    def make() -> Any:
        result = result_dtype(weight=weight, grad_output=grad_output)
        problem = input_gradient_problem(
            rank,
            input_size,
            weight,
            grad_output,
            **options,
            parts=2 if result.kind == "c" else 1,
        )
        return input_gradient.AdjointPlan(problem, result, input_size)

    key = "input", rank, input_size, array_key(weight), array_key(grad_output), *options.values()
    plan = kept_plan(key, make)
    name = call.cpu_backend()
    if name is None:
        arrays = {"input": grad_output, "weight": weight, "bias": None}
        return call.on_gpu("apply_adjoint", plan, arrays, out=None)
    return input_gradient.apply_adjoint(plan, name, grad_output, weight)


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
    call = Call({"input": input, "grad_output": grad_output}, backend, stream, precision)
    x, grad_output = call.arrays.values()
    weight_size = frozen_sizes("weight_size", weight_size)
    options = frozen_options(stride=stride, padding=padding, dilation=dilation, groups=groups)

    def make() -> Any:
        result = result_dtype(input=x, grad_output=grad_output)
        problem = weight_gradient_problem(
            rank,
            x,
            weight_size,
            grad_output,
            **options,
            parts=2 if result.kind == "c" else 1,
        )
        return weight_gradient.WeightPlan(problem, result, weight_size)

    key = "weight", rank, array_key(x), weight_size, array_key(grad_output), *options.values()
    plan = kept_plan(key, make)
    name = call.cpu_backend()
    if name is None:
        return call.on_gpu("weight_gradient", plan, call.arrays)
    return weight_gradient.weight_gradient(plan, name, x, grad_output)


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
    """Gradient of `conv1d` with respect to its input.

    Parameters
    ----------
    input_size : tuple of int
        Shape of the input: (N, C_in, L) or (C_in, L).
    weight : ndarray
        Shape (C_out, C_in/groups, K). A complex one is conjugated.
    grad_output : ndarray
        Gradient with respect to the output, shape (N, C_out, OL) or (C_out, OL).
    stride, padding, dilation, groups
        As the convolution had them; padding was with zeros.
    backend : {"auto", "direct", "im2col", "cuda"}, optional
        As in `conv`.
    stream, precision
        As in `conv`.

    Returns
    -------
    ndarray
        On a GPU for arrays there. Shape `input_size`, dtype of `weight` and `grad_output` promoted.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; for a size that no such convolution has, the message says
        which it could have.
    BackendUnavailableError
        If the backend that was asked for cannot run here.

    Notes
    -----
    The input's gradient is the convolution of the output's gradient with the flipped weights, of
    stride 1 in each phase of the stride [1]_.

    References
    ----------
    .. [1] V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep learning", 2016,
       chapter 4.
    """
    return _input_gradient(
        1,
        input_size,
        weight,
        grad_output,
        stride,
        padding,
        dilation,
        groups,
        backend,
        stream,
        precision,
    )


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
    """Gradient of `conv1d` with respect to its weight.

    Parameters
    ----------
    input : ndarray
        Shape (N, C_in, L) or (C_in, L). A complex one is conjugated.
    weight_size : tuple of int
        Shape of the weight: (C_out, C_in/groups, K).
    grad_output : ndarray
        Gradient with respect to the output, shape (N, C_out, OL) or (C_out, OL).
    stride, padding, dilation, groups
        As the convolution had them; padding was with zeros.
    backend : {"auto", "direct", "im2col", "cuda"}, optional
        As in `conv`.
    stream, precision
        As in `conv`.

    Returns
    -------
    ndarray
        On a GPU for arrays there. Shape `weight_size`, dtype of `input` and `grad_output` promoted.
        The bits do not depend on the number of threads.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; for a size that no such convolution has, the message says
        which it could have.
    BackendUnavailableError
        If the backend that was asked for cannot run here.
    """
    return _weight_gradient(
        1,
        input,
        weight_size,
        grad_output,
        stride,
        padding,
        dilation,
        groups,
        backend,
        stream,
        precision,
    )


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
        Shape (C_out, C_in/groups, KH, KW). A complex one is conjugated.
    grad_output : ndarray
        Gradient with respect to the output, shape (N, C_out, OH, OW) or (C_out, OH, OW).
    stride, padding, dilation, groups
        As the convolution had them; padding was with zeros.
    backend : {"auto", "direct", "im2col", "cuda"}, optional
        As in `conv`.
    stream, precision
        As in `conv`.

    Returns
    -------
    ndarray
        On a GPU for arrays there. Shape `input_size`, dtype of `weight` and `grad_output` promoted.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; for a size that no such convolution has, the message says
        which it could have.
    BackendUnavailableError
        If the backend that was asked for cannot run here.

    Notes
    -----
    The input's gradient is the convolution of the output's gradient with the flipped weights, of
    stride 1 in each phase of the stride [1]_.

    References
    ----------
    .. [1] V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep learning", 2016,
       chapter 4.
    """
    return _input_gradient(
        2,
        input_size,
        weight,
        grad_output,
        stride,
        padding,
        dilation,
        groups,
        backend,
        stream,
        precision,
    )


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
        Shape (N, C_in, H, W) or (C_in, H, W). A complex one is conjugated.
    weight_size : tuple of int
        Shape of the weight: (C_out, C_in/groups, KH, KW).
    grad_output : ndarray
        Gradient with respect to the output, shape (N, C_out, OH, OW) or (C_out, OH, OW).
    stride, padding, dilation, groups
        As the convolution had them; padding was with zeros.
    backend : {"auto", "direct", "im2col", "cuda"}, optional
        As in `conv`.
    stream, precision
        As in `conv`.

    Returns
    -------
    ndarray
        On a GPU for arrays there. Shape `weight_size`, dtype of `input` and `grad_output` promoted.
        The bits do not depend on the number of threads.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; for a size that no such convolution has, the message says
        which it could have.
    BackendUnavailableError
        If the backend that was asked for cannot run here.
    """
    return _weight_gradient(
        2,
        input,
        weight_size,
        grad_output,
        stride,
        padding,
        dilation,
        groups,
        backend,
        stream,
        precision,
    )


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
    """Gradient of `conv3d` with respect to its input.

    Parameters
    ----------
    input_size : tuple of int
        Shape of the input: (N, C_in, D, H, W) or (C_in, D, H, W).
    weight : ndarray
        Shape (C_out, C_in/groups, KD, KH, KW). A complex one is conjugated.
    grad_output : ndarray
        Gradient with respect to the output, shape (N, C_out, OD, OH, OW) or (C_out, OD, OH, OW).
    stride, padding, dilation, groups
        As the convolution had them; padding was with zeros.
    backend : {"auto", "direct", "im2col", "cuda"}, optional
        As in `conv`.
    stream, precision
        As in `conv`.

    Returns
    -------
    ndarray
        On a GPU for arrays there. Shape `input_size`, dtype of `weight` and `grad_output` promoted.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; for a size that no such convolution has, the message says
        which it could have.
    BackendUnavailableError
        If the backend that was asked for cannot run here.

    Notes
    -----
    The input's gradient is the convolution of the output's gradient with the flipped weights, of
    stride 1 in each phase of the stride [1]_.

    References
    ----------
    .. [1] V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep learning", 2016,
       chapter 4.
    """
    return _input_gradient(
        3,
        input_size,
        weight,
        grad_output,
        stride,
        padding,
        dilation,
        groups,
        backend,
        stream,
        precision,
    )


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
    """Gradient of `conv3d` with respect to its weight.

    Parameters
    ----------
    input : ndarray
        Shape (N, C_in, D, H, W) or (C_in, D, H, W). A complex one is conjugated.
    weight_size : tuple of int
        Shape of the weight: (C_out, C_in/groups, KD, KH, KW).
    grad_output : ndarray
        Gradient with respect to the output, shape (N, C_out, OD, OH, OW) or (C_out, OD, OH, OW).
    stride, padding, dilation, groups
        As the convolution had them; padding was with zeros.
    backend : {"auto", "direct", "im2col", "cuda"}, optional
        As in `conv`.
    stream, precision
        As in `conv`.

    Returns
    -------
    ndarray
        On a GPU for arrays there. Shape `weight_size`, dtype of `input` and `grad_output` promoted.
        The bits do not depend on the number of threads.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; for a size that no such convolution has, the message says
        which it could have.
    BackendUnavailableError
        If the backend that was asked for cannot run here.
    """
    return _weight_gradient(
        3,
        input,
        weight_size,
        grad_output,
        stride,
        padding,
        dilation,
        groups,
        backend,
        stream,
        precision,
    )
