"""The public convolutions: each finds the plan of its call and hands its data to a backend."""

from typing import Any

import numpy as np

from numbaconv.blocks.calls import Convolution, goes_by_blocks
from numbaconv.dispatch.gpu import convolve_on_device
from numbaconv.dispatch.host import convolve, resolve
from numbaconv.foreign import call_foreign, is_foreign
from numbaconv.problem.forward import check_rank
from numbaconv.problem.libraries import is_on_device
from numbaconv.problem.plan import find_plan
from numbaconv.problem.validation import base_array, input_array


@goes_by_blocks(Convolution.of)
def conv(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    padding_mode: str | tuple[str, ...] = "zeros",
    padding_value: complex = 0.0,
    data_format: str = "channels_first",
    activation: str | None = None,
    out_dtype: Any = None,
    add: Any = None,
    out: Any = None,
    backend: str | None = None,
    stream: Any = None,
    precision: str | None = None,
) -> Any:
    """Convolve an input with weights along one, two or three axes.

    This is a correlation, as in all neural-network libraries: the kernel is not flipped. The
    number of spatial axes is ``weight.ndim - 2``.

    Parameters
    ----------
    input : ndarray or array on a GPU
        Shape ``(N, C_in, *spatial)``, or ``(C_in, *spatial)`` for a single image; with
        ``data_format="channels_last"`` ``(N, *spatial, C_in)`` or ``(*spatial, C_in)``. Any strides
        and byte order. Dtypes: float16 (computed in float32), float32, float64, complex64,
        complex128, and all integers (exact; they wrap as NumPy's own arithmetic does). Input,
        weight and bias are promoted by `numpy.result_type`; bool counts as uint8 beside another
        dtype. Arrays on a GPU
        (``__cuda_array_interface__``: Numba, CuPy, PyTorch) are convolved there, by "cuda"; all
        arrays of the call must then be on the GPU. Arrays of other libraries in host memory
        (PyTorch, JAX) are read where they lie, and the result is of the same library. What NumPy
        reads as an array is taken too.
    weight : ndarray
        Shape ``(C_out, C_in/groups, *kernel)``.
    bias : ndarray, optional
        Shape (C_out,), added to each output channel.
    stride : int or tuple of int
        Steps from one output to the next, along all axes or each.
    padding : int, tuple of int, tuple of (int, int), or str
        Elements added on both sides: an int for all axes, an int for each axis, or a pair
        (before, after) for each axis. "valid" adds none. "same" adds what makes an output of
        ceil(size / stride), an odd element after; "same_lower" puts the odd element before.
        "full" makes every output that any input element reaches.
    dilation : int or tuple of int
        Steps from one tap of the kernel to the next.
    groups : int
        Groups into which the channels are split, each convolved by itself.
    padding_mode : {"zeros", "reflect", "replicate", "circular", "symmetric"}, or a tuple of them
        What is added: "zeros"; the mirror image without ("reflect") or with ("symmetric") the
        edge element; the edge element ("replicate"); the other end ("circular"). Patterns repeat,
        as in `numpy.pad`, so padding may be longer than the input. A tuple has one word for each
        axis. Products with
        added zeros may be left out. So where a weight is infinite or NaN and meets an added zero,
        the output may or may not be NaN.
    padding_value : number
        What is added instead of zeros, along axes whose padding mode is "zeros": a finite number,
        or NaN, of the dtype that is computed in. It fills what lies outside along any such axis,
        as in `numpy.pad`. "cuda" refuses it.
    data_format : {"channels_first", "channels_last"}
        Where the channels of input and output are. The order of the weight is the same for both.
    activation : str, optional
        Function applied to each output as it is stored: "relu", "relu6", "leaky_relu" (with the
        slope 0.01), "hardswish", "sigmoid", "tanh", "silu", "gelu" (by the error function),
        "gelu_tanh" (its approximation), "mish" or "softplus". Real floating dtypes only.
    out_dtype : dtype, optional
        Dtype of the result. Floats become integers rounded half to even, and what does not fit
        becomes the nearest integer that does, NaN 0. Integers are summed in 32 bits, or in the 64
        of an array or of `out_dtype`, before they become the nearest of `out_dtype`. Other sums
        are taken in what NumPy promotes them and `out_dtype` to. Complex sums have complex
        results. On "cuda" only results in the dtype of their sums.
    add : ndarray, optional
        Array of the result's shape, added to the sums before the activation and before they are
        rounded: the input of a residual block. Its shape is not broadcast. Any strides, and a dtype
        that converts safely (`numpy.can_cast`) to that of the sums, which is the result's unless
        `out_dtype` says another. "cuda" refuses it.
    out : ndarray, optional
        Array of the result's shape and dtype to store the result in. It must not overlap the
        input, weight or bias. It may be `add` itself, which is copied then, but may not overlap it
        otherwise.
    backend : {"auto", "direct", "im2col", "fft", "winograd", "cuda"}, optional
        Backend of this call. Without it `use_backend`, `set_backend` and the environment variable
        ``NUMBACONV_BACKEND`` decide, in this order.
    stream : optional
        CUDA stream to work on: of Numba, CuPy or PyTorch, or its handle. By default it is that of
        the first array. The streams of all arrays are waited for. CPU backends refuse it.
    precision : {"ieee", "tf32", "fast"}, optional
        How "cuda" multiplies float32: "ieee" as IEEE says, "tf32" on tensor cores with factors
        rounded to 10 bits of mantissa, "fast" so if the GPU can, or by Winograd's filtering where
        that is predicted to be faster. On the CPU "fast" lets "auto" take "winograd", whose errors
        are usually 1.4 to 2.7 times those of sums. Without it the variable
        ``NUMBACONV_PRECISION`` decides, else "ieee". CPU backends refuse "tf32".

    Returns
    -------
    ndarray
        Shape ``(N, C_out, *output)``, where along each axis
        output = (size + padding - dilation * (kernel - 1) - 1) // stride + 1, with `padding` the
        sum of both sides. The axes are in the order of `data_format`, and there is no N for an
        unbatched input. On a GPU if the arrays are there.

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
    if type(input) is not np.ndarray and is_foreign(input):
        return call_foreign(conv, locals())
    words = padding_mode, data_format, activation, padding_value, out_dtype
    options = stride, padding, dilation, groups, *words
    if not isinstance(input, np.ndarray) and is_on_device(input):
        arrays = {"input": input, "weight": weight, "bias": bias, "add": add, "out": out}
        return convolve_on_device(arrays, options, backend, stream, precision)
    x, w = input_array("input", input), input_array("weight", weight)
    b = None if bias is None else input_array("bias", bias)
    r = None if add is None else input_array("add", add)
    target = None if out is None else base_array("out", out)
    plan = find_plan(x, w, b, options, r)
    name = resolve(plan, backend, precision)
    y = convolve(plan, name, x, w, b, target, None, stream, precision, r)
    return y if out is None else out


@goes_by_blocks(Convolution.of)
def conv1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    padding_mode: str | tuple[str, ...] = "zeros",
    padding_value: complex = 0.0,
    data_format: str = "channels_first",
    activation: str | None = None,
    out_dtype: Any = None,
    add: Any = None,
    out: Any = None,
    backend: str | None = None,
    stream: Any = None,
    precision: str | None = None,
) -> Any:
    """Convolve signals, as `conv` along one axis.

    Parameters
    ----------
    input : ndarray
        Shape (N, C_in, L) or (C_in, L).
    weight : ndarray
        Shape (C_out, C_in/groups, K).
    bias, stride, padding, dilation, groups, padding_mode, padding_value
        As in `conv`.
    data_format, activation, out_dtype, add, out, backend, stream, precision
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
        padding_value=padding_value,
        data_format=data_format,
        activation=activation,
        out_dtype=out_dtype,
        add=add,
        out=out,
        backend=backend,
        stream=stream,
        precision=precision,
    )


@goes_by_blocks(Convolution.of)
def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    padding_mode: str | tuple[str, ...] = "zeros",
    padding_value: complex = 0.0,
    data_format: str = "channels_first",
    activation: str | None = None,
    out_dtype: Any = None,
    add: Any = None,
    out: Any = None,
    backend: str | None = None,
    stream: Any = None,
    precision: str | None = None,
) -> Any:
    """Convolve images, as `conv` along two axes.

    Parameters
    ----------
    input : ndarray
        Shape (N, C_in, H, W) or (C_in, H, W).
    weight : ndarray
        Shape (C_out, C_in/groups, KH, KW).
    bias, stride, padding, dilation, groups, padding_mode, padding_value
        As in `conv`.
    data_format, activation, out_dtype, add, out, backend, stream, precision
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
        padding_value=padding_value,
        data_format=data_format,
        activation=activation,
        out_dtype=out_dtype,
        add=add,
        out=out,
        backend=backend,
        stream=stream,
        precision=precision,
    )


@goes_by_blocks(Convolution.of)
def conv3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    padding_mode: str | tuple[str, ...] = "zeros",
    padding_value: complex = 0.0,
    data_format: str = "channels_first",
    activation: str | None = None,
    out_dtype: Any = None,
    add: Any = None,
    out: Any = None,
    backend: str | None = None,
    stream: Any = None,
    precision: str | None = None,
) -> Any:
    """Convolve volumes, as `conv` along three axes.

    Parameters
    ----------
    input : ndarray
        Shape (N, C_in, D, H, W) or (C_in, D, H, W).
    weight : ndarray
        Shape (C_out, C_in/groups, KD, KH, KW).
    bias, stride, padding, dilation, groups, padding_mode, padding_value
        As in `conv`.
    data_format, activation, out_dtype, add, out, backend, stream, precision
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
        padding_value=padding_value,
        data_format=data_format,
        activation=activation,
        out_dtype=out_dtype,
        add=add,
        out=out,
        backend=backend,
        stream=stream,
        precision=precision,
    )
