"""Between a caller's arrays and the flat arrays that kernels see.

Flat arrays are contiguous and of a real dtype. A copy is made only where the caller's memory
cannot be read as it lies. Complex numbers become two real channels each: the product
(a + ib)(c + id) = (ac - bd) + i(ad + bc) is a real convolution with twice the channels.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from numbaconv.dtypes import Arithmetic

if TYPE_CHECKING:
    from numbaconv.input_gradient import AdjointPlan
    from numbaconv.plan import Plan


class Layout(NamedTuple):
    """Order of the axes.

    Attributes
    ----------
    channels_last : bool
        For the caller, of input and output.
    memory_last : bool
        Of the input as the kernels read it.
    """

    channels_last: bool
    memory_last: bool


CHANNELS_FIRST, CHANNELS_LAST = Layout(False, False), Layout(True, True)


def input_layout(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, data_format: Any
) -> Layout:
    """Return the layout of an input: dense memory is read as it lies, whatever its axes' order."""
    channels_last = isinstance(data_format, str) and data_format == "channels_last"
    if "c" in (x.dtype.kind, weight.dtype.kind, "" if bias is None else bias.dtype.kind):
        return Layout(channels_last, False)
    if not x.flags.c_contiguous and x.ndim > 1 and weight.ndim - x.ndim in (0, 1):
        c = x.ndim - weight.ndim + 1
        other = np.moveaxis(x, -1, c) if channels_last else np.moveaxis(x, c, -1)
        if other.flags.c_contiguous:
            return Layout(channels_last, not channels_last)
    return CHANNELS_LAST if channels_last else CHANNELS_FIRST


def in_memory_order(x: np.ndarray, plan: "Plan | AdjointPlan") -> np.ndarray:
    """Return the view of an input whose axes are in the order of the kernels' memory."""
    layout = plan.layout
    if layout.channels_last == layout.memory_last:
        return x
    c = 1 if plan.batched else 0
    return np.moveaxis(x, c, -1) if layout.memory_last else np.moveaxis(x, -1, c)


def flat_input(x: np.ndarray, plan: "Plan | AdjointPlan") -> np.ndarray:
    """Return an input as the kernels read it."""
    how = plan.arithmetic
    if how.is_plain(x) and x.flags.c_contiguous and x.flags.aligned and plan.layout_agrees:
        return x.ravel()
    return flat_channels(in_memory_order(x, plan), how, 1 if plan.batched else 0)


def flat_channels(x: np.ndarray, how: Arithmetic, c: int) -> np.ndarray:
    """Return an array whose axis `c` has the channels, flat; complex channels become two each."""
    x = np.require(x, how.convert, ("C", "A"))
    if how.is_complex:
        return np.ascontiguousarray(np.stack((x.real, x.imag), axis=c + 1)).reshape(-1)
    return x.reshape(-1).view(how.compute)


def flat_weight(weight: np.ndarray, plan: "Plan | AdjointPlan") -> np.ndarray:
    """Return the weights as the kernels read them; a complex one becomes a 2 x 2 matrix."""
    how = plan.arithmetic
    if how.is_plain(weight) and weight.flags.c_contiguous and weight.flags.aligned:
        return weight.ravel()
    weight = np.require(weight, how.convert, ("C", "A"))
    if how.is_complex:
        c_out, c_in = weight.shape[:2]
        pairs = np.empty((c_out, 2, c_in, 2, *weight.shape[2:]), how.compute)
        pairs[:, 0, :, 0] = pairs[:, 1, :, 1] = weight.real
        pairs[:, 1, :, 0] = weight.imag
        pairs[:, 0, :, 1] = -weight.imag
        return pairs.reshape(-1)
    return weight.reshape(-1).view(how.compute)


def flat_bias(bias: np.ndarray | None, plan: "Plan | AdjointPlan") -> np.ndarray:
    """Return the bias as the kernels read it: zeros for none."""
    return plan.no_bias if bias is None else flat_channels(bias, plan.arithmetic, 0)


def takes_result(out: np.ndarray, plan: "Plan | AdjointPlan") -> bool:
    """Whether kernels can store straight into an array."""
    flags = out.flags
    return bool(out.dtype == plan.arithmetic.compute and flags.c_contiguous and flags.aligned)


def result_array(y: np.ndarray, plan: "Plan | AdjointPlan") -> np.ndarray:
    """Return the kernels' flat output as the caller's result."""
    how, dtype = plan.arithmetic, plan.result
    if how.is_complex:
        c = 1 if plan.batched else 0
        shape = plan.out_shape
        if plan.layout.channels_last:
            shape = (*shape[:c], shape[-1], *shape[c:-1])
        parts = y.reshape(*shape[: c + 1], 2, *shape[c + 1 :])
        result = np.empty(shape, dtype)
        result.real, result.imag = np.take(parts, 0, c + 1), np.take(parts, 1, c + 1)
        return (
            np.ascontiguousarray(np.moveaxis(result, c, -1))
            if plan.layout.channels_last
            else result
        )
    return narrowed(y, dtype).reshape(plan.out_shape)


def narrowed(y: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return real results in the caller's dtype."""
    if y.dtype == dtype:
        return y
    # float16 ends at 65504 and 6e-8: beyond is inf, as computed, or zero.
    with np.errstate(over="ignore", under="ignore"):
        return y.view(dtype) if y.itemsize == dtype.itemsize else y.astype(dtype)


def delivered(
    y: np.ndarray, plan: "Plan | AdjointPlan", out: np.ndarray | None, straight: bool
) -> np.ndarray:
    """Return flat results as the caller wants them: in `out`, where they are if `straight`."""
    if straight:
        return out  # type: ignore[return-value]
    result = result_array(y, plan)
    if out is None:
        return result
    np.copyto(out, result)
    return out
