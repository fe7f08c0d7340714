"""Convolutions of PyTorch tensors on the CPU, with gradients: operators, and modules.

`conv1d`, `conv2d`, `conv3d` and their transposes take the arguments of `torch.nn.functional`. They
are custom operators: autograd differentiates them once, and `torch.compile` knows their shapes.
`Conv1d`, `Conv2d` and `Conv3d` are modules that take the ``state_dict`` of PyTorch's own. Dtypes
are those of `numbaconv.conv`, one for all tensors of a call. Second derivatives are refused.

>>> import torch
>>> import numbaconv.torch
>>> image = torch.ones(1, 1, 4, 4, requires_grad=True)
>>> numbaconv.torch.conv2d(image, torch.ones(1, 1, 3, 3)).sum().backward()
>>> image.grad[0, 0]
tensor([[1., 2., 2., 1.],
        [2., 4., 4., 2.],
        [2., 4., 4., 2.],
        [1., 2., 2., 1.]])
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

try:
    import torch
    from torch import Tensor
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        'numbaconv.torch needs PyTorch: pip install "numbaconv[torch]"', name=missing.name
    ) from missing

import numbaconv as nc
from numbaconv.problem.validation import padding_pairs

__all__ = [
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
]

_GEOMETRY = "int[] stride, int[] padding, int[] dilation, int groups"


def _operator(name: str, schema: str) -> Any:
    """Decorate the function of an operator, which reads and makes NumPy arrays."""

    def decorate(function: Any) -> Any:
        def run(*given: Any) -> Tensor:
            seen = [_array(value) if isinstance(value, Tensor) else value for value in given]
            return torch.from_numpy(function(*seen))

        return torch.library.custom_op(
            f"numbaconv::{name}", run, mutates_args=(), device_types="cpu", schema=schema
        )

    return decorate


def _array(tensor: Tensor) -> np.ndarray:
    try:
        array: np.ndarray = tensor.detach().resolve_conj().resolve_neg().numpy()
    except TypeError as error:
        raise TypeError(f"numbaconv has no kernels for tensors of {tensor.dtype}") from error
    return array


def _pairs(padding: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Padding as the operators have it, flat, by axis."""
    return tuple(zip(padding[::2], padding[1::2], strict=True))


@_operator("convolution", f"(Tensor input, Tensor weight, Tensor? bias, {_GEOMETRY}) -> Tensor")
def _convolution(
    x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> Any:
    return nc.conv(x, weight, bias, stride, _pairs(padding), dilation, groups)


@_operator(
    "convolution_input_gradient",
    f"(SymInt[] input_size, Tensor weight, Tensor grad_output, {_GEOMETRY}) -> Tensor",
)
def _input_gradient(
    size: Any, weight: Any, grad: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> Any:
    function = getattr(nc.grad, f"conv{weight.ndim - 2}d_input")
    return function(size, weight, grad, stride, _pairs(padding), dilation, groups)


@_operator(
    "convolution_weight_gradient",
    f"(Tensor input, SymInt[] weight_size, Tensor grad_output, {_GEOMETRY}) -> Tensor",
)
def _weight_gradient(
    x: Any, size: Any, grad: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> Any:
    function = getattr(nc.grad, f"conv{len(size) - 2}d_weight")
    return function(x, size, grad, stride, _pairs(padding), dilation, groups)


@_operator(
    "transposed_convolution",
    "(Tensor input, Tensor weight, Tensor? bias, int[] stride, int[] padding, "
    "int[] output_padding, int[] dilation, int groups) -> Tensor",
)
def _transposed(x: Any, weight: Any, bias: Any, stride: Any, padding: Any, *rest: Any) -> Any:
    extra, dilation, groups = rest
    function = getattr(nc, f"conv_transpose{weight.ndim - 2}d")
    return function(x, weight, bias, stride, _pairs(padding), extra, groups, dilation)


# Shapes, for tensors without values.


@_convolution.register_fake
def _(
    x: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> Tensor:
    rank = weight.dim() - 2
    axes = zip(x.shape[-rank:], weight.shape[2:], stride, _pairs(padding), dilation, strict=True)
    output = [(n + a + b - (k - 1) * d - 1) // s + 1 for n, k, s, (a, b), d in axes]
    return x.new_empty((*x.shape[: -rank - 1], weight.shape[0], *output))


@_transposed.register_fake
def _(
    x: Tensor,
    weight: Tensor,
    bias: Any,
    stride: Any,
    padding: Any,
    extra: Any,
    dilation: Any,
    groups: int,
) -> Tensor:
    rank = weight.dim() - 2
    axes = zip(
        x.shape[-rank:], weight.shape[2:], stride, _pairs(padding), extra, dilation, strict=True
    )
    output = [(n - 1) * s + (k - 1) * d + 1 + e - a - b for n, k, s, (a, b), e, d in axes]
    return x.new_empty((*x.shape[: -rank - 1], weight.shape[1] * groups, *output))


@_input_gradient.register_fake
def _(size: Any, weight: Tensor, grad: Tensor, *geometry: Any) -> Tensor:
    return grad.new_empty(size)


@_weight_gradient.register_fake
def _(x: Tensor, size: Any, grad: Tensor, *geometry: Any) -> Tensor:
    return grad.new_empty(size)


# Gradients: those of a convolution by operators of their own, those of a transposed one by these
# and the convolution whose adjoint it is.


def _bias_gradient(grad: Tensor, rank: int) -> Tensor:
    channels = grad.dim() - rank - 1
    return grad.sum([axis for axis in range(grad.dim()) if axis != channels])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, _, *ctx.geometry = inputs
    ctx.save_for_backward(x, weight)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, weight = ctx.saved_tensors
    by_input, by_weight, by_bias, *_ = ctx.needs_input_grad
    return (
        _input_gradient(list(x.shape), weight, grad, *ctx.geometry) if by_input else None,
        _weight_gradient(x, list(weight.shape), grad, *ctx.geometry) if by_weight else None,
        _bias_gradient(grad, weight.dim() - 2) if by_bias else None,
        *(None,) * len(ctx.geometry),
    )


def _differentiate_transposed(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, weight = ctx.saved_tensors
    stride, padding, extra, dilation, groups = ctx.geometry
    rank = weight.dim() - 2
    # What output_padding added at the end, no input element reaches, unless padding cut it off.
    seen, pairs = grad, []
    for axis, ((before, after), more) in enumerate(zip(_pairs(padding), extra, strict=True)):
        if more > after:
            at = grad.dim() - rank + axis
            seen = seen.narrow(at, 0, seen.shape[at] - (more - after))
        pairs += [before, max(after - more, 0)]
    geometry = stride, pairs, dilation, groups
    by_input, by_weight, by_bias, *_ = ctx.needs_input_grad
    return (
        _convolution(seen, weight.conj(), None, *geometry) if by_input else None,
        _weight_gradient(seen, list(weight.shape), x, *geometry).conj() if by_weight else None,
        _bias_gradient(grad, rank) if by_bias else None,
        *(None,) * 5,
    )


def _refuse_second(ctx: Any, *_: Any) -> Any:
    raise RuntimeError(
        "numbaconv.torch has no second derivatives: the gradient of a convolution was "
        "differentiated again (create_graph=True); use torch.nn.functional for that layer"
    )


_convolution.register_autograd(_differentiate, setup_context=_keep)
_transposed.register_autograd(_differentiate_transposed, setup_context=_keep)
for _gradient in (_input_gradient, _weight_gradient):
    _gradient.register_autograd(_refuse_second)


def _each(value: Any, rank: int) -> list[int]:
    """An int for all axes, or one for each."""
    return [value] * rank if isinstance(value, int) else list(value)


def _flat_padding(
    padding: Any, x: Tensor, weight: Tensor, strides: list[int], dilations: list[int]
) -> list[int]:
    """Any form of padding as PyTorch and numbaconv have it, flat: before, after, by axis."""
    rank = weight.dim() - 2
    if isinstance(padding, str):
        axes = zip(x.shape[-rank:], weight.shape[2:], strides, dilations, strict=True)
        pairs: list[Any] = []
        for n, k, s, d in axes:
            pairs += padding_pairs(padding, [n], [k], [s], [d])
        return [p for pair in pairs for p in pair]
    if isinstance(padding, int):
        return [padding] * (2 * rank)
    return [p for e in padding for p in ((e, e) if isinstance(e, int) else e)]


def _check(rank: int, **tensors: Any) -> None:
    """Refuse what is no tensor, of another dtype than the others, or elsewhere."""
    given = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    for name, tensor in given.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}")
        if tensor.device.type not in ("cpu", "meta"):
            raise ValueError(f"{name} is on {tensor.device}; numbaconv.torch computes on the CPU")
    if len({tensor.dtype for tensor in given.values()}) > 1:
        listed = ", ".join(f"{name} {tensor.dtype}" for name, tensor in given.items())
        raise TypeError(f"all tensors of a call must have one dtype: {listed}")
    if given["weight"].dim() != rank + 2:
        raise ValueError(f"weight must have {rank + 2} axes, got {tuple(given['weight'].shape)}")


def _conv(
    rank: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> Tensor:
    _check(rank, input=input, weight=weight, bias=bias)
    strides, dilations = _each(stride, rank), _each(dilation, rank)
    flat = _flat_padding(padding, input, weight, strides, dilations)
    result: Tensor = _convolution(input, weight, bias, strides, flat, dilations, groups)
    return result


def _conv_transpose(
    rank: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> Tensor:
    _check(rank, input=input, weight=weight, bias=bias)
    if isinstance(padding, str):
        raise TypeError(f"padding must be an int, a tuple or pairs, got {padding!r}")
    strides, dilations = _each(stride, rank), _each(dilation, rank)
    flat = _flat_padding(padding, input, weight, strides, dilations)
    extra = _each(output_padding, rank)
    result: Tensor = _transposed(input, weight, bias, strides, flat, extra, dilations, groups)
    return result


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve signals, as `torch.nn.functional.conv1d`; see `conv2d`."""
    return _conv(1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve images, as `torch.nn.functional.conv2d`, with gradients.

    Parameters
    ----------
    input : Tensor
        Shape (N, C_in, H, W) or (C_in, H, W), on the CPU.
    weight : Tensor
        Shape (C_out, C_in/groups, KH, KW).
    bias : Tensor, optional
        Shape (C_out,).
    stride, padding, dilation, groups
        As in `numbaconv.conv`; `padding` in all its forms.

    Returns
    -------
    Tensor
        Shape (N, C_out, OH, OW) or without N.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; the message names it.
    RuntimeError
        In the backward pass, if it is itself differentiated.
    """
    return _conv(2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve volumes, as `torch.nn.functional.conv3d`; see `conv2d`."""
    return _conv(3, input, weight, bias, stride, padding, dilation, groups)


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """Transposed convolution of signals, as PyTorch's; see `conv_transpose2d`."""
    options = stride, padding, output_padding, groups, dilation
    return _conv_transpose(1, input, weight, bias, *options)


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """Transposed convolution of images, as `torch.nn.functional.conv_transpose2d`, with gradients.

    Parameters
    ----------
    input : Tensor
        Shape (N, C_in, H, W) or (C_in, H, W), on the CPU.
    weight : Tensor
        Shape (C_in, C_out/groups, KH, KW).
    bias : Tensor, optional
        Shape (C_out,).
    stride, padding, output_padding, groups, dilation
        As in `numbaconv.conv_transpose2d`.

    Returns
    -------
    Tensor
        Shape (N, C_out, OH, OW) or without N.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As in `conv2d`.
    """
    options = stride, padding, output_padding, groups, dilation
    return _conv_transpose(2, input, weight, bias, *options)


def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """Transposed convolution of volumes, as PyTorch's; see `conv_transpose2d`."""
    options = stride, padding, output_padding, groups, dilation
    return _conv_transpose(3, input, weight, bias, *options)


def _apply(module: Any, rank: int, x: Tensor) -> Tensor:
    padding = module.padding
    if module.padding_mode != "zeros":
        flat = _flat_padding(padding, x, module.weight, module.stride, module.dilation)
        # PyTorch lists the last axis first.
        turned = [p for pair in reversed(_pairs(flat)) for p in pair]
        x, padding = torch.nn.functional.pad(x, turned, mode=module.padding_mode), 0
    options = module.stride, padding, module.dilation, module.groups
    return _conv(rank, x, module.weight, module.bias, *options)


class Conv1d(torch.nn.Conv1d):
    """`torch.nn.Conv1d`, computed by numbaconv: the same arguments, parameters and state_dict."""

    def forward(self, input: Tensor) -> Tensor:
        """Convolve."""
        return _apply(self, 1, input)


class Conv2d(torch.nn.Conv2d):
    """`torch.nn.Conv2d`, computed by numbaconv: the same arguments, parameters and state_dict."""

    def forward(self, input: Tensor) -> Tensor:
        """Convolve."""
        return _apply(self, 2, input)


class Conv3d(torch.nn.Conv3d):
    """`torch.nn.Conv3d`, computed by numbaconv: the same arguments, parameters and state_dict."""

    def forward(self, input: Tensor) -> Tensor:
        """Convolve."""
        return _apply(self, 3, input)
