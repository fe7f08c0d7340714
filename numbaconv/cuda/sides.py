"""Where a call's arrays are: laid out for the kernels there, and how a result gets back.

Arrays on the host are laid out by NumPy and copied over; those on the device are laid out there, by
a kernel that copies (`memory.move`), and only if they must be.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from numbaconv.cuda import memory
from numbaconv.cuda.memory import ALIGNMENT, SIMULATED, download, upload
from numbaconv.cuda.workspace import Workspace, work_on
from numbaconv.problem.dtypes import Arithmetic


class Form(NamedTuple):
    """What an array is to its caller.

    Attributes
    ----------
    shape, dtype
        Its shape and dtype.
    batched, channels_last : bool
        Whether it has an axis for the batch, and its channels at the end.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    batched: bool = True
    channels_last: bool = False


Compute = Callable[[np.ndarray], None]  # fills the shadow of a dense array


def round_to_tf32(array: np.ndarray) -> None:
    """Round float32 to 10 bits of mantissa in place, ties away from zero, as a GPU does."""
    bits = array.view(np.uint32)
    finite = np.isfinite(array)
    np.add(bits, 0x1000, out=bits, where=finite)
    np.bitwise_and(bits, 0xFFFFE000, out=bits, where=finite)


class Host:
    """Arrays in host memory: laid out there, and then copied over."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    def copy(
        self, target: np.ndarray, source: np.ndarray, negate: bool = False, rounded: bool = False
    ) -> None:
        """Copy between arrays of any strides and dtypes; float32 may be rounded to tf32."""
        with np.errstate(over="ignore"):
            np.copyto(target, -source if negate else source, casting="unsafe")
        if rounded:
            round_to_tf32(target)

    def usable(self, array: np.ndarray) -> bool:
        """Whether a contiguous array of the right dtype can be taken as it is."""
        return bool(array.flags.aligned and array.dtype.isnative)

    def buffer(self, name: str, count: int, dtype: np.dtype, clear: bool = False) -> np.ndarray:
        """Allocate a flat array, of zeros if they are wanted."""
        return np.zeros(count, dtype) if clear else np.empty(count, dtype)

    def on_device(self, array: np.ndarray) -> np.ndarray:
        """Return the shadow of the copy on the device of an array that lies densely, flat."""
        return _flat_shadow(upload(array.reshape(-1), self.workspace.stream), array.size)

    def deliver(self, form: Form, how: Arithmetic, compute: Compute, out: Any) -> Any:
        """Compute on the device and return the result, in `out` or a new array."""
        size = flat_size(form.shape, how)
        result = self.workspace.allocate(size, how.compute)
        compute(_flat_shadow(result, size))
        flat = download(result, size, self.workspace.stream)
        if out is None:
            out = np.empty(form.shape, form.dtype)
        store_result(self, out, flat, form, how)
        return out


class Device:
    """Arrays on the device: what must be laid out is, by a kernel."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    def copy(
        self, target: np.ndarray, source: np.ndarray, negate: bool = False, rounded: bool = False
    ) -> None:
        """Copy between shadows of any strides and dtypes, as on the host; bools are bytes."""
        if source.dtype.kind == "b":
            source = source.view(np.uint8)
        memory.move(target, source, self.workspace.stream, negate, rounded)

    def usable(self, array: np.ndarray) -> bool:
        """Whether wide loads can read a contiguous array of the right dtype."""
        return memory.first_byte(array) % ALIGNMENT == 0 or SIMULATED

    def buffer(self, name: str, count: int, dtype: np.dtype, clear: bool = False) -> np.ndarray:
        """Return a flat array for the time of the call; see `Workspace.buffer`."""
        return self.workspace.buffer(name, count, dtype, clear)

    def on_device(self, array: np.ndarray) -> np.ndarray:
        """Return the shadow itself."""
        return array

    def deliver(self, form: Form, how: Arithmetic, compute: Compute, out: Any) -> Any:
        """Compute, and return a new device array; None for an `out`, the shadow of the caller's."""
        result = None
        if out is None:
            result = self.workspace.result(form.shape, form.dtype)
            out = memory.shadow("result", result)
        if out.dtype == how.convert and not how.is_complex and out.flags.c_contiguous:
            compute(out)
        else:
            y = self.buffer("output", flat_size(form.shape, how), how.compute)
            compute(y)
            store_result(self, out, y, form, how)
        return result


Side = Host | Device


def choose_side(on_device: bool, workspace: Workspace) -> Side:
    """Return the side of a call's arrays."""
    return Device(workspace) if on_device else Host(workspace)


def flat_size(shape: tuple[int, ...], how: Arithmetic) -> int:
    """Elements that the kernels see of an array."""
    return math.prod(shape) * (2 if how.is_complex else 1)


def _flat_shadow(array: Any, count: int) -> np.ndarray:
    view = memory.shadow("array", array)
    return view.reshape(-1)[:count]


def canonical(array: np.ndarray, batched: bool, channels_last: bool) -> np.ndarray:
    """View a caller's input or output as (N, C, *spatial)."""
    if not batched:
        array = array[None]
    return np.moveaxis(array, -1, 1) if channels_last else array


def spread_parts(side: Side, target: np.ndarray, source: np.ndarray) -> None:
    """Copy complex numbers to an array whose axis 2 has the real and the imaginary part."""
    side.copy(target[:, :, 0], source.real)
    if source.dtype.kind == "c":
        side.copy(target[:, :, 1], source.imag)


def prepare_input(
    side: Side, x: np.ndarray, how: Arithmetic, memory_last: bool = False, name: str = "input"
) -> np.ndarray:
    """Return an array (N, C, *spatial) as the kernels read it, dense on the device.

    What is laid out for them is called `name`.
    """
    n, channels, *size = x.shape
    in_memory = np.moveaxis(x, 1, -1) if memory_last else x
    if (
        x.dtype == how.convert
        and not how.is_complex
        and in_memory.flags.c_contiguous
        and side.usable(x)
    ):
        return side.on_device(in_memory)
    if how.is_complex:
        flat = side.buffer(name, 2 * x.size, how.compute, clear=x.dtype.kind != "c")
        spread_parts(side, flat.reshape(n, channels, 2, *size), x)
    else:
        flat = side.buffer(name, x.size, how.convert)
        side.copy(flat.reshape(in_memory.shape), in_memory)
    return side.on_device(flat)


def prepare_bias(side: Side, bias: np.ndarray, how: Arithmetic, dtype: np.dtype) -> np.ndarray:
    """Return a bias in the dtype of the sums, flat on the device."""
    if bias.dtype == dtype and not how.is_complex and bias.flags.c_contiguous and side.usable(bias):
        return side.on_device(bias)
    flat = side.buffer("bias", flat_size(bias.shape, how), dtype, clear=how.is_complex)
    if how.is_complex:
        spread_parts(side, flat.reshape(1, -1, 2), bias[None])
    else:
        side.copy(flat, bias)
    return side.on_device(flat)


def weight_rows(flat: np.ndarray, conv: Any, kernel: tuple[int, ...]) -> np.ndarray:
    """View flat weights of a `Convolution` as (rows, C_in, *kernel)."""
    s = conv.shape
    rows = flat.reshape(conv.rows, conv.pitch)[:, : s.c_in * s.taps]
    if conv.channels_inside:
        return np.moveaxis(rows.reshape(conv.rows, *kernel, s.c_in), -1, 1)
    return rows.reshape(conv.rows, s.c_in, *kernel)


def view_output(flat: np.ndarray, form: Form, how: Arithmetic) -> np.ndarray:
    """View the kernels' output as (N, C, *spatial), or with both parts as (N, C, 2, *spatial)."""
    shape = form.shape if form.batched else (1, *form.shape)
    if not form.channels_last:
        n, channels, *size = shape
    else:
        n, *size, channels = shape
    if how.is_complex:
        return flat.reshape(n, channels, 2, *size)
    if form.channels_last:
        return np.moveaxis(flat.reshape(n, *size, channels), -1, 1)
    return flat.reshape(n, channels, *size)


def store_result(side: Side, out: np.ndarray, y: np.ndarray, form: Form, how: Arithmetic) -> None:
    """Copy the kernels' output into the caller's."""
    source = view_output(y, form, how)
    target = canonical(out, form.batched, form.channels_last)
    if how.is_complex:
        side.copy(target.real, source[:, :, 0])
        side.copy(target.imag, source[:, :, 1])
    else:
        side.copy(target, source)


def to_host(array: Any) -> np.ndarray:
    """Copy a device array to a NumPy array."""
    view = memory.shadow("weight", array)
    with work_on({"weight": array}, None) as workspace:
        flat = workspace.allocate(view.size, view.dtype)
        memory.move(_flat_shadow(flat, view.size).reshape(view.shape), view, workspace.stream)
        return download(flat, view.size, workspace.stream).reshape(view.shape)
