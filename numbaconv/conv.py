"""The public convolutions: find the plan of a call, hand its data to a backend."""

from typing import Any

import numpy as np

from numbaconv import recycling
from numbaconv.activation import NONE, activate_array
from numbaconv.arguments import base_array, check_out
from numbaconv.backends import cpu
from numbaconv.device import convolve_on_device, convolve_on_host, is_on_device, refuse_on_cpu
from numbaconv.dispatch import AUTO, CUDA, load_backend, requested_backend
from numbaconv.layout import delivered, flat_bias, flat_input, flat_weight, takes_result
from numbaconv.plan import Plan, check_rank, find_plan
from numbaconv.threads import thread_limit


def resolve(plan: Plan, backend: str | None) -> str:
    """Return the backend of a call, which can run here."""
    name, source = requested_backend(backend)
    if name == AUTO:
        return plan.auto
    load_backend(name, source)
    return name


def execute(
    plan: Plan,
    name: str,
    input: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    out: np.ndarray | None,
    kept: dict[Any, Any] | None = None,
    stream: Any = None,
    precision: str | None = None,
) -> np.ndarray:
    """Run a planned convolution of NumPy arrays.

    `kept` is where a prepared layer keeps its packed weights.
    """
    straight = False
    if out is not None:
        arrays = {"input": input, "weight": weight, "bias": bias}
        check_out(out, plan.out_shape, plan.result, arrays)
    if name == CUDA:
        arrays = {"input": input, "weight": weight, "bias": bias}
        return convolve_on_host(plan, arrays, out, stream, precision, kept)
    if stream is not None or precision is not None:
        refuse_on_cpu(name, stream, precision)
    if out is not None:
        straight = takes_result(out, plan)
    y = out.reshape(-1) if straight else recycling.empty(plan.out_size, plan.arithmetic.compute)  # type: ignore[union-attr]
    b = flat_bias(bias, plan)
    if plan.multiply_adds:
        template = plan.template(name, thread_limit(plan.multiply_adds))
        x = flat_input(input, plan)
        if kept is None:
            cpu.run(template, x, flat_weight(weight, plan), plan.not_packed, b, y)
        else:
            packed = packed_weights(template, weight, plan, kept)
            cpu.run(template, x, packed, packed, b, y)
    elif y.size:  # no input channels: sums of nothing, so the bias is left
        fill_with_bias(y, b, plan)
    return delivered(y, plan, out, straight)


def packed_weights(
    template: cpu.Template, weight: np.ndarray, plan: Plan, kept: dict[Any, np.ndarray]
) -> np.ndarray:
    """Return a layer's packed weights, packed now if they were not for this kind of job."""
    key = template.order, plan.arithmetic.convert.char
    packed = kept.get(key)
    if packed is None:
        packed = kept[key] = cpu.pack(template, flat_weight(weight, plan))
    return packed


def fill_with_bias(y: np.ndarray, bias: np.ndarray, plan: Plan) -> None:
    """Set every output to its channel's bias, activated."""
    bias = bias.copy()
    if plan.activation != NONE:
        activate_array(bias, plan.activation)
    s = plan.shape
    if s.out_strides[1] == 1 and s.out_strides[4] != 1:
        y.reshape(-1, plan.channels)[:] = bias
    else:
        y.reshape(s.n, plan.channels, s.pixels)[:] = bias[:, None]


def conv(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    data_format: str = "channels_first",
    activation: str | None = None,
    out: Any = None,
    backend: str | None = None,
    stream: Any = None,
    precision: str | None = None,
) -> Any:
    """Convolve an input with weights along one, two or three axes.

    As in all neural-network libraries this is a correlation: the kernel is not flipped. The
    number of axes is ``weight.ndim - 2``.

    Parameters
    ----------
    input : ndarray or array on a GPU
        Shape (N, C_in, *spatial), or (C_in, *spatial) for a single image; with
        ``data_format="channels_last"`` (N, *spatial, C_in) or (*spatial, C_in). Any strides and
        byte order. Dtypes: float16 (computed in float32), float32, float64, complex64,
        complex128, and all integers (exact, wrapping as NumPy's own arithmetic). Input, weight
        and bias are promoted by `numpy.result_type`. Arrays on a GPU (``__cuda_array_interface__``:
        Numba, CuPy, PyTorch) are convolved there, by "cuda"; then all arrays must be.
    weight : ndarray
        Shape (C_out, C_in/groups, *kernel).
    bias : ndarray, optional
        Shape (C_out,), added to each output channel.
    stride : int or tuple of int
        Steps from one output to the next, along all axes or each.
    padding : int, tuple of int, tuple of (int, int), or str
        Elements added on both sides: along all axes, each axis, or (before, after) each axis.
        "valid": none. "same": an output of ceil(size / stride), with the odd element after;
        "same_lower": with the odd element before. "full": every output that any input reaches.
    dilation : int or tuple of int
        Steps from one tap of the kernel to the next.
    groups : int
        Groups into which the channels are split, each convolved by itself.
    padding_mode : {"zeros", "reflect", "replicate", "circular", "symmetric"}
        What is added: zeros; the mirror image without or ("symmetric") with its edge; the edge
        element; the other end. Taps on added zeros may be left out: where such a tap's weight is
        infinite or NaN, the output may be NaN or not.
    data_format : {"channels_first", "channels_last"}
        Where the channels of input and output are. The order of the weight is the same for both.
    activation : {None, "relu", "relu6", "silu", "sigmoid", "tanh", "hardswish"}
        Function applied to each output as it is stored. Real floating dtypes only.
    out : ndarray, optional
        Array of the result's shape and dtype to store the result in. It must not overlap the
        input, weight or bias.
    backend : {"auto", "direct", "im2col", "cuda"}, optional
        Backend of this call. By default `use_backend`, `set_backend` and the environment variable
        ``NUMBACONV_BACKEND`` decide, in this order.
    stream : optional
        CUDA stream to work on, of Numba, CuPy or PyTorch, or its handle; by default that of the
        arrays. For "cuda" alone.
    precision : {"ieee", "tf32"}, optional
        How "cuda" multiplies float32: as IEEE says, or on tensor cores with factors rounded to 10
        bits of mantissa. By default the environment variable ``NUMBACONV_PRECISION`` decides, else
        "ieee". CPU backends refuse "tf32".

    Returns
    -------
    ndarray
        On a GPU for arrays there. Shape (N, C_out, *output), or as `data_format` and an unbatched
        input say, where along each axis
        output = (size + padding - dilation * (kernel - 1) - 1) // stride + 1.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; the message names it.
    BackendUnavailableError
        If the backend that was asked for cannot run here.

    Notes
    -----
    Each output is the weight matrix times its column of the patch matrix [1]_; the backends
    differ in where the patch matrix lives.

    References
    ----------
    .. [1] K. Chellapilla, S. Puri, P. Simard, "High Performance Convolutional Neural Networks for
       Document Processing", 2006, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> import numbaconv as nc
    >>> image = np.arange(16.0, dtype=np.float32).reshape(1, 4, 4)
    >>> box = np.ones((1, 1, 3, 3), np.float32)
    >>> nc.conv(image, box)
    array([[[45., 54.],
            [81., 90.]]], dtype=float32)
    >>> nc.conv(image, box, padding=1).shape
    (1, 4, 4)
    """
    if not isinstance(input, np.ndarray) and is_on_device(input):
        arrays = {"input": input, "weight": weight, "bias": bias, "out": out}
        options = {
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "groups": groups,
            "padding_mode": padding_mode,
            "data_format": data_format,
            "activation": activation,
        }
        return convolve_on_device(arrays, options, backend, stream, precision)
    x, w = base_array("input", input), base_array("weight", weight)
    b = None if bias is None else base_array("bias", bias)
    target = None if out is None else base_array("out", out)
    plan = find_plan(
        x,
        w,
        b,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        data_format,
        activation,
    )
    name = resolve(plan, backend)
    y = execute(plan, name, x, w, b, target, None, stream, precision)
    return y if out is None else out


def conv1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    data_format: str = "channels_first",
    activation: str | None = None,
    out: Any = None,
    backend: str | None = None,
    stream: Any = None,
    precision: str | None = None,
) -> Any:
    """Convolve signals: `conv` for an input (N, C_in, L) and a weight (C_out, C_in/groups, K).

    Parameters
    ----------
    input : ndarray
        Shape (N, C_in, L) or (C_in, L).
    weight : ndarray
        Shape (C_out, C_in/groups, K).
    bias, stride, padding, dilation, groups
        As in `conv`.
    padding_mode, data_format, activation, out, backend, stream, precision
        As in `conv`.

    Returns
    -------
    ndarray
        Shape (N, C_out, OL) or (C_out, OL).

    Raises
    ------
    TypeError, ValueError, BackendUnavailableError
        As in `conv`.
    """
    check_rank("conv1d", weight, 1)
    return conv(
        input,
        weight,
        bias,
        stride,
        padding,
        dilation,
        groups,
        padding_mode=padding_mode,
        data_format=data_format,
        activation=activation,
        out=out,
        backend=backend,
        stream=stream,
        precision=precision,
    )


def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    data_format: str = "channels_first",
    activation: str | None = None,
    out: Any = None,
    backend: str | None = None,
    stream: Any = None,
    precision: str | None = None,
) -> Any:
    """Convolve images: `conv` for an input (N, C_in, H, W).

    Parameters
    ----------
    input : ndarray
        Shape (N, C_in, H, W) or (C_in, H, W).
    weight : ndarray
        Shape (C_out, C_in/groups, KH, KW).
    bias, stride, padding, dilation, groups
        As in `conv`.
    padding_mode, data_format, activation, out, backend, stream, precision
        As in `conv`.

    Returns
    -------
    ndarray
        Shape (N, C_out, OH, OW) or (C_out, OH, OW).

    Raises
    ------
    TypeError, ValueError, BackendUnavailableError
        As in `conv`.
    """
    check_rank("conv2d", weight, 2)
    return conv(
        input,
        weight,
        bias,
        stride,
        padding,
        dilation,
        groups,
        padding_mode=padding_mode,
        data_format=data_format,
        activation=activation,
        out=out,
        backend=backend,
        stream=stream,
        precision=precision,
    )


def conv3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    data_format: str = "channels_first",
    activation: str | None = None,
    out: Any = None,
    backend: str | None = None,
    stream: Any = None,
    precision: str | None = None,
) -> Any:
    """Convolve volumes: `conv` for an input (N, C_in, D, H, W).

    Parameters
    ----------
    input : ndarray
        Shape (N, C_in, D, H, W) or (C_in, D, H, W).
    weight : ndarray
        Shape (C_out, C_in/groups, KD, KH, KW).
    bias, stride, padding, dilation, groups
        As in `conv`.
    padding_mode, data_format, activation, out, backend, stream, precision
        As in `conv`.

    Returns
    -------
    ndarray
        Shape (N, C_out, OD, OH, OW) or (C_out, OD, OH, OW).

    Raises
    ------
    TypeError, ValueError, BackendUnavailableError
        As in `conv`.
    """
    check_rank("conv3d", weight, 3)
    return conv(
        input,
        weight,
        bias,
        stride,
        padding,
        dilation,
        groups,
        padding_mode=padding_mode,
        data_format=data_format,
        activation=activation,
        out=out,
        backend=backend,
        stream=stream,
        precision=precision,
    )
