"""From a caller's arrays, on the host or on the device, to flat arrays on the device and back."""

import math
from typing import Any

import numpy as np

from numbaconv.backends.cuda import memory
from numbaconv.backends.cuda.convolution import Convolution
from numbaconv.backends.cuda.memory import ALIGNMENT, SIMULATED, allocate, download, upload
from numbaconv.backends.cuda.toolkit import device
from numbaconv.plan import Plan


class Host:
    """Arrays in host memory: laid out there, and then copied over."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def copy(self, target: np.ndarray, source: np.ndarray, negate: bool = False) -> None:
        """Copy between arrays of any strides and dtypes."""
        with np.errstate(over="ignore"):
            np.copyto(target, -source if negate else source, casting="unsafe")

    def usable(self, array: np.ndarray) -> bool:
        """Whether a contiguous array of the right dtype can be taken as it is."""
        return bool(array.flags.aligned and array.dtype.isnative)

    def buffer(self, count: int, dtype: np.dtype, clear: bool = False) -> np.ndarray:
        """Allocate a flat array, of zeros if they are wanted."""
        return np.zeros(count, dtype) if clear else np.empty(count, dtype)

    def on_device(self, array: np.ndarray) -> np.ndarray:
        """Return the shadow of a flat array's copy on the device."""
        return _flat_shadow(upload(array, self.stream), array.size)


class Device:
    """Arrays on the device: what must be laid out is, by a kernel."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def copy(self, target: np.ndarray, source: np.ndarray, negate: bool = False) -> None:
        """Copy between shadows of any strides and dtypes."""
        memory.move(target, source, self.stream, negate)

    def usable(self, array: np.ndarray) -> bool:
        """Whether wide loads can read a contiguous array of the right dtype."""
        return int(array.__array_interface__["data"][0]) % ALIGNMENT == 0 or SIMULATED

    def buffer(self, count: int, dtype: np.dtype, clear: bool = False) -> np.ndarray:
        """Allocate a flat array, of zeros if they are wanted."""
        result = _flat_shadow(allocate(count, dtype, self.stream), count)
        if clear:
            zero = _flat_shadow(upload(np.zeros(1, dtype), self.stream), 1)
            self.copy(result, np.broadcast_to(zero, result.shape))
        return result

    def on_device(self, array: np.ndarray) -> np.ndarray:
        """Return the shadow itself."""
        return array


Side = Host | Device


def _flat_shadow(array: Any, count: int) -> np.ndarray:
    view = memory.shadow("array", array)
    return view.reshape(-1)[:count]


def canonical(array: np.ndarray, plan: Plan) -> np.ndarray:
    """View a caller's input or output as (N, C, *spatial)."""
    if not plan.batched:
        array = array[None]
    return np.moveaxis(array, -1, 1) if plan.layout.channels_last else array


def spread_parts(side: Side, target: np.ndarray, source: np.ndarray) -> None:
    """Copy complex numbers to an array whose axis 2 has the real and the imaginary part."""
    side.copy(target[:, :, 0], source.real)
    if source.dtype.kind == "c":
        side.copy(target[:, :, 1], source.imag)


def prepare_input(side: Side, x: np.ndarray, plan: Plan, conv: Convolution) -> np.ndarray:
    """Return the input as the kernels read it, flat on the device."""
    how, x = conv.storage, canonical(x, plan)
    n, channels, *size = x.shape
    in_memory = np.moveaxis(x, 1, -1) if plan.layout.memory_last else x
    if (
        x.dtype == how.convert
        and not how.is_complex
        and in_memory.flags.c_contiguous
        and side.usable(x)
    ):
        return side.on_device(in_memory.reshape(-1))
    if how.is_complex:
        flat = side.buffer(2 * x.size, how.compute, clear=x.dtype.kind != "c")
        spread_parts(side, flat.reshape(n, channels, 2, *size), x)
    else:
        flat = side.buffer(x.size, how.convert)
        side.copy(flat.reshape(in_memory.shape), in_memory)
    return side.on_device(flat)


def prepare_weight(side: Side, w: np.ndarray, conv: Convolution) -> np.ndarray:
    """Return the weights as the kernels read them: rows of `conv.pitch`, flat on the device."""
    how, s = conv.storage, conv.shape
    k = s.c_in * s.taps
    if (
        w.dtype == how.convert
        and not how.is_complex
        and not (conv.channels_inside and s.taps > 1)
        and conv.pitch == k
        and w.flags.c_contiguous
        and side.usable(w)
    ):
        return side.on_device(w.reshape(-1))
    dtype = how.compute if how.is_complex else how.convert
    clear = conv.pitch != k or (how.is_complex and w.dtype.kind != "c")
    flat = side.buffer(conv.rows * conv.pitch, dtype, clear)
    rows, kernel = flat.reshape(conv.rows, conv.pitch)[:, :k], w.shape[2:]
    if conv.channels_inside:
        target = np.moveaxis(rows.reshape(conv.rows, *kernel, s.c_in), -1, 1)
    else:
        target = rows.reshape(conv.rows, s.c_in, *kernel)
    if not how.is_complex:
        side.copy(target, w)
        return side.on_device(flat)
    c_out, c_in = w.shape[:2]
    parts = target.reshape(c_out, 2, c_in, 2, *kernel)
    side.copy(parts[:, 0, :, 0], w.real)
    side.copy(parts[:, 1, :, 1], w.real)
    if w.dtype.kind == "c":
        side.copy(parts[:, 1, :, 0], w.imag)
        side.copy(parts[:, 0, :, 1], w.imag, negate=True)
    return side.on_device(flat)


def prepare_bias(side: Side, bias: np.ndarray, conv: Convolution) -> np.ndarray:
    """Return the bias in the type of the sums, flat on the device."""
    flat = side.buffer(conv.rows, conv.sum, clear=conv.storage.is_complex)
    if conv.storage.is_complex:
        spread_parts(side, flat.reshape(1, -1, 2), bias[None])
    else:
        side.copy(flat, bias)
    return side.on_device(flat)


def view_output(flat: np.ndarray, plan: Plan, conv: Convolution) -> np.ndarray:
    """View the kernels' output as (N, C, *spatial), or with both parts as (N, C, 2, *spatial)."""
    shape = plan.out_shape if plan.batched else (1, *plan.out_shape)
    if not plan.layout.channels_last:
        n, channels, *size = shape
    else:
        n, *size, channels = shape
    if conv.storage.is_complex:
        return flat.reshape(n, channels, 2, *size)
    if plan.layout.channels_last:
        return np.moveaxis(flat.reshape(n, *size, channels), -1, 1)
    return flat.reshape(n, channels, *size)


def store_result(side: Side, out: np.ndarray, y: np.ndarray, plan: Plan, conv: Convolution) -> None:
    """Copy the kernels' output into the caller's."""
    source, target = view_output(y, plan, conv), canonical(out, plan)
    if conv.storage.is_complex:
        side.copy(target.real, source[:, :, 0])
        side.copy(target.imag, source[:, :, 1])
    else:
        side.copy(target, source)


def find_convolution(plan: Plan, precision: str) -> Convolution:
    """Return the kernels of a plan on the current device, kept from an earlier call."""
    key = (device(), precision)
    found = plan.on_devices.get(key)
    if found is None:
        found = plan.on_devices[key] = Convolution(plan, precision, device())
    return found


def kept_weights(
    w: np.ndarray, bias: np.ndarray | None, conv: Convolution, kept: dict[Any, Any]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return a layer's weights and bias on the device, put there now if they were not."""
    key = ("cuda", conv.device, conv.storage, conv.channels_inside, conv.pitch)
    if key not in kept:
        side = Host(0)
        b = None if bias is None else prepare_bias(side, bias, conv)
        kept[key] = prepare_weight(side, w, conv), b
        memory.settle()  # whatever stream the next call is on
    return kept[key]  # type: ignore[no-any-return]


def execute(
    plan: Plan,
    arrays: dict[str, Any],
    out: Any,
    precision: str,
    stream: Any,
    on_device: bool,
    kept: dict[Any, Any] | None = None,
) -> Any:
    """Convolve validated arrays.

    Parameters
    ----------
    arrays : dict
        "input", "weight" and "bias": NumPy arrays or, if `on_device`, shadows of device arrays.
    out : ndarray, shadow or None
        Where the result goes; if None, a new array on the side of the input is returned.
    kept : dict, optional
        Where a prepared layer keeps its weights, which are NumPy arrays on either side.
    """
    conv = find_convolution(plan, precision)
    side = Device(stream) if on_device else Host(stream)
    x = prepare_input(side, arrays["input"], plan, conv)
    if kept is None:
        bias = arrays["bias"]
        w = prepare_weight(side, arrays["weight"], conv)
        b = None if bias is None else prepare_bias(side, bias, conv)
    else:
        w, b = kept_weights(arrays["weight"], arrays["bias"], conv, kept)
    if on_device:
        return _execute_on_device(side, plan, conv, (x, w, b), out, stream)
    result = allocate(plan.out_size, conv.storage.compute, stream)
    y = _flat_shadow(result, plan.out_size)
    conv.run(x, w, b, y, stream)
    flat = download(result, plan.out_size, stream)
    if out is None:
        out = np.empty(plan.out_shape, plan.result)
    store_result(side, out, flat, plan, conv)
    return out


def _execute_on_device(
    side: Side, plan: Plan, conv: Convolution, operands: Any, out: Any, stream: Any
) -> Any:
    """Return the new device array, or fill `out`."""
    result = None
    x, w, b = operands
    how = conv.storage
    if out is None:
        count = math.prod(plan.out_shape)
        result = allocate(count, plan.result, stream)
        out = _flat_shadow(result, count).reshape(plan.out_shape)
    if out.dtype == how.convert and not how.is_complex and out.flags.c_contiguous:
        conv.run(x, w, b, out.reshape(-1), stream)
    else:
        y = side.buffer(plan.out_size, how.compute)
        conv.run(x, w, b, y, stream)
        store_result(side, out, y, plan, conv)
    return None if result is None else _shaped(result, out.shape)


def _shaped(result: Any, shape: tuple[int, ...]) -> Any:
    count = math.prod(shape)
    return (result if result.size == count else result[:count]).reshape(shape)


def to_host(array: Any) -> np.ndarray:
    """Copy a device array to a NumPy array."""
    view = memory.shadow("weight", array)
    side = Device(memory.find_stream(None, {"weight": array}))
    flat = allocate(view.size, view.dtype, side.stream)
    side.copy(_flat_shadow(flat, view.size).reshape(view.shape), view)
    return download(flat, view.size, side.stream).reshape(view.shape)
