"""Transposed convolution: the adjoint of a convolution, used as a layer."""

from typing import Any

import numpy as np

from numbaconv.blocks.calls import Transposed, goes_by_blocks
from numbaconv.cpu.gradients.adjoint import apply_adjoint
from numbaconv.dispatch.gpu import Call, refuse_add
from numbaconv.dispatch.gradients import engines_of_parts
from numbaconv.foreign import call_foreign, is_foreign
from numbaconv.problem.plan import TransposedOptions, find_transposed_plan
from numbaconv.problem.validation import check_out


def _conv_transpose(
    rank: int,
    input: Any,
    weight: Any,
    bias: Any,
    *options: Any,
    add: Any,
    out: Any,
    backend: str | None,
    stream: Any,
    precision: str | None,
) -> Any:
    given = {"input": input, "weight": weight, "bias": bias, "add": add, "out": out}
    where = {"backend": backend, "stream": stream, "precision": precision}
    if type(input) is not np.ndarray and is_foreign(input):
        named = dict(zip(TransposedOptions._fields, options, strict=True))
        return call_foreign(_FUNCTIONS[rank], given | named | where)
    call = Call(given, **where)
    arrays = dict(call.arrays)
    target = arrays.pop("out")
    x, weight, bias, add = arrays.values()
    plan = find_transposed_plan(rank, x, weight, bias, options, add)
    name = call.cpu_backend()
    if target is not None:
        check_out(target, plan.out_shape, plan.result, arrays)
    if name is None:
        refuse_add(arrays.pop("add"))
        result = call.on_gpu("apply_adjoint", plan, arrays, out=target)
        return result if out is None else out
    engines = engines_of_parts(plan, name, precision)
    result = apply_adjoint(plan, engines, x, weight, bias, target, add=add)
    return result if out is None else out


@goes_by_blocks(Transposed.of)
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
    data_format: str = "channels_first",
    activation: str | None = None,
    add: Any = None,
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
    bias, stride, padding, output_padding, groups, dilation
        As in `conv_transpose2d`.
    data_format, activation, add, out, backend, stream, precision
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
    options = stride, padding, output_padding, groups, dilation, data_format, activation
    where = {"backend": backend, "stream": stream, "precision": precision}
    return _conv_transpose(1, input, weight, bias, *options, add=add, out=out, **where)


@goes_by_blocks(Transposed.of)
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
    data_format: str = "channels_first",
    activation: str | None = None,
    add: Any = None,
    out: np.ndarray | None = None,
    backend: str | None = None,
    stream: Any = None,
    precision: str | None = None,
) -> Any:
    """Transposed convolution of images: each input element spreads over the kernel's taps.

    Parameters
    ----------
    input : ndarray
        Shape (N, C_in, H, W) or (C_in, H, W); with ``data_format="channels_last"`` (N, H, W, C_in)
        or (H, W, C_in). Strides, byte orders and dtypes as in `conv`.
    weight : ndarray
        Shape (C_in, C_out/groups, KH, KW): that of the convolution whose adjoint this is. It is the
        same for both formats.
    bias : ndarray, optional
        Shape (C_out,), added to each output channel.
    stride : int or tuple of int
        Elements of the output from one input element to the next.
    padding : int, tuple of int, tuple of (int, int), or str
        Elements that are cut off the output on both sides: an int for all axes, an int for each
        axis, or a pair (before, after) for each axis. It is the padding of the convolution whose
        adjoint this is, and so are the words. "same" makes an output of size * stride: what is cut
        off is what "same" adds to an input of that size, an odd element after; "same_lower" cuts
        the odd element off before. "valid" cuts nothing off. "full" cuts
        dilation * (kernel - 1) off on both sides.
    output_padding : int or tuple of int
        Elements that are added to the end of the output; fewer than stride or dilation. A
        convolution of stride s makes outputs of the same size from inputs of s sizes, and this
        says which of these sizes the result has. Under "same" it must be 0.
    groups : int
        Groups into which the channels are split.
    dilation : int or tuple of int
        Elements of the output from one tap to the next.
    data_format : {"channels_first", "channels_last"}
        Where the channels of input and output are, as in `conv`.
    activation : str, optional
        Function applied to each output as it is stored, as in `conv`.
    add : ndarray, optional
        Array of the result's shape, added to the sums before the activation, as in `conv`.
    out : ndarray, optional
        Array of the result's shape and dtype to store the result in. It must not overlap the
        input, weight or bias. It may be `add` itself.
    backend : {"auto", "direct", "im2col", "fft", "winograd", "cuda"}, optional
        As in `conv`.
    stream, precision
        As in `conv`.

    Returns
    -------
    ndarray
        Shape (N, C_out, OH, OW) or without N, where along each axis the output has
        (size - 1) * stride + dilation * (kernel - 1) + 1 + output_padding - padding, with `padding`
        the sum of both sides; size * stride under "same". The axes are in the order of
        `data_format`.

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
    >>> nc.conv_transpose2d(x, np.ones((1, 2, 3, 3), np.float32), stride=2, padding="same").shape
    (1, 2, 8, 8)
    """
    options = stride, padding, output_padding, groups, dilation, data_format, activation
    where = {"backend": backend, "stream": stream, "precision": precision}
    return _conv_transpose(2, input, weight, bias, *options, add=add, out=out, **where)


@goes_by_blocks(Transposed.of)
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
    data_format: str = "channels_first",
    activation: str | None = None,
    add: Any = None,
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
    bias, stride, padding, output_padding, groups, dilation
        As in `conv_transpose2d`.
    data_format, activation, add, out, backend, stream, precision
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
    options = stride, padding, output_padding, groups, dilation, data_format, activation
    where = {"backend": backend, "stream": stream, "precision": precision}
    return _conv_transpose(3, input, weight, bias, *options, add=add, out=out, **where)


_FUNCTIONS = {1: conv_transpose1d, 2: conv_transpose2d, 3: conv_transpose3d}
