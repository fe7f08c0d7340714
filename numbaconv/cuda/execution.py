"""A planned convolution: from a caller's arrays to flat arrays on the device, and back."""

import functools
from typing import Any

import numpy as np

from numbaconv.cuda.convolution import Convolution, storage
from numbaconv.cuda.memory import settle
from numbaconv.cuda.sides import (
    Form,
    Host,
    Side,
    canonical,
    choose_side,
    prepare_bias,
    prepare_input,
    weight_rows,
)
from numbaconv.cuda.streams import LEGACY_STREAM, stream_of
from numbaconv.cuda.toolkit import device
from numbaconv.cuda.workspace import Workspace
from numbaconv.problem.plan import Plan
from numbaconv.problem.shape import CONSTANT


def prepare_weight(side: Side, w: np.ndarray, conv: Convolution) -> np.ndarray:
    """Return the weights as `conv` takes them, on the device."""
    rows = lay_out_weight(side, w, conv)
    return conv.finish_weight(rows, "weight at the points", side.workspace)


def lay_out_weight(side: Side, w: np.ndarray, conv: Convolution) -> np.ndarray:
    """Return the weights in rows of `conv.pitch`, dense on the device."""
    how, s = conv.storage, conv.shape
    k = s.c_in * s.taps
    if (
        w.dtype == how.convert
        and not how.is_complex
        and not (conv.channels_inside and s.taps > 1)
        and conv.pitch == k
        and not conv.rounded
        and w.flags.c_contiguous
        and side.usable(w)
    ):
        return side.on_device(w)
    dtype = how.compute if how.is_complex else how.convert
    clear = conv.pitch != k or (how.is_complex and w.dtype.kind != "c")
    flat = side.buffer("weight", conv.rows * conv.pitch, dtype, clear)
    kernel = w.shape[2:]
    target = weight_rows(flat, conv, kernel)
    if not how.is_complex:
        side.copy(target, w, rounded=conv.rounded)
        return side.on_device(flat)
    c_out, c_in = w.shape[:2]
    parts = target.reshape(c_out, 2, c_in, 2, *kernel)
    copy = functools.partial(side.copy, rounded=conv.rounded)
    copy(parts[:, 0, :, 0], w.real)
    copy(parts[:, 1, :, 1], w.real)
    if w.dtype.kind == "c":
        copy(parts[:, 1, :, 0], w.imag)
        copy(parts[:, 0, :, 1], w.imag, negate=True)
    return side.on_device(flat)


def find_convolution(plan: Plan, precision: str) -> Convolution:
    """Return the kernels of a plan on the current device, kept from an earlier call."""
    key = (device(), precision)
    found = plan.on_devices.get(key)
    if found is None:
        found = plan.on_devices[key] = Convolution(
            plan.shape, storage(plan.result), precision, device(), plan.activation
        )
    return found


def kept_weights(
    w: np.ndarray, bias: np.ndarray | None, conv: Convolution, kept: dict[Any, Any]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return a layer's weights and bias on the device, put there now if they were not."""
    key = ("cuda", conv.device, conv.storage, *conv.weight_form)
    if key not in kept:
        side = Host(Workspace(stream_of(LEGACY_STREAM)))
        b = None if bias is None else prepare_bias(side, bias, conv.storage, conv.sum)
        kept[key] = prepare_weight(side, w, conv), b
        settle()  # whatever stream the next call is on
    return kept[key]  # type: ignore[no-any-return]


def execute(
    plan: Plan,
    arrays: dict[str, Any],
    out: Any,
    precision: str,
    workspace: Workspace,
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
    precision : {"ieee", "tf32", "fast"}
        How float32 is multiplied.
    workspace : Workspace
        From `workspace.work_on`.
    kept : dict, optional
        Where a prepared layer keeps its weights, which are NumPy arrays on either side.
    """
    if CONSTANT in plan.shape.padding_mode:
        raise ValueError(
            "padding_value is for CPU backends: 'cuda' pads with zeros, or elements of the input"
        )
    if plan.sums != plan.result:
        raise ValueError(
            f"out_dtype {plan.result} of sums in {plan.sums} is for CPU backends: 'cuda' stores "
            "sums as they are"
        )
    conv = find_convolution(plan, precision)
    side, layout = choose_side(on_device, workspace), plan.layout
    images = canonical(arrays["input"], plan.batched, layout.channels_last)
    x = prepare_input(side, images, conv.storage, layout.memory_last)
    if kept is None:
        bias = arrays["bias"]
        w = prepare_weight(side, arrays["weight"], conv)
        b = None if bias is None else prepare_bias(side, bias, conv.storage, conv.sum)
    else:
        w, b = kept_weights(arrays["weight"], arrays["bias"], conv, kept)
    form = Form(plan.out_shape, plan.result, plan.batched, layout.channels_last)
    return side.deliver(form, conv.storage, lambda y: conv.run(x, w, b, y, workspace), out)
