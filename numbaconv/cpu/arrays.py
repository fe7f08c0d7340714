"""Between a caller's arrays and the flat arrays that kernels see.

Flat arrays are contiguous and of a real dtype. A copy is made only where the caller's memory
cannot be read as it lies. Complex numbers become two real channels each: the product
(a + ib)(c + id) = (ac - bd) + i(ad + bc) is a real convolution with twice the channels.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from numbaconv.problem.dtypes import Arithmetic
from numbaconv.problem.plan import AnyPlan
from numbaconv.runtime import result_memory
from numbaconv.runtime.capture import contiguous

Deliver = Callable[[np.ndarray, AnyPlan, Any], np.ndarray]


def in_memory_order(x: np.ndarray, plan: AnyPlan) -> np.ndarray:
    """Return the view of an input whose axes are in the order of the kernels' memory."""
    layout = plan.layout
    if layout.channels_last == layout.memory_last:
        return x
    c = 1 if plan.batched else 0
    return np.moveaxis(x, c, -1) if layout.memory_last else np.moveaxis(x, -1, c)


def flat_input(x: np.ndarray, plan: AnyPlan, reads: np.dtype | None = None) -> np.ndarray:
    """Return an input as the kernels read it: in a dtype of its own, if they read that."""
    how = plan.arithmetic
    if reads is not None and reads != how.compute:
        return contiguous(in_memory_order(x, plan), reads).reshape(-1)
    if how.is_plain(x) and x.flags.c_contiguous and x.flags.aligned and plan.layout_agrees:
        return x.ravel()
    return flat_channels(in_memory_order(x, plan), how, 1 if plan.batched else 0)


def flat_channels(x: np.ndarray, how: Arithmetic, c: int) -> np.ndarray:
    """Return an array whose axis `c` has the channels, flat; complex channels become two each."""
    if how.is_plain(x) and x.flags.c_contiguous and x.flags.aligned:
        return x.ravel()
    x = contiguous(x, how.convert)
    if how.is_complex:
        return np.ascontiguousarray(np.stack((x.real, x.imag), axis=c + 1)).reshape(-1)
    return x.reshape(-1).view(how.compute)


def flat_weight(weight: np.ndarray, plan: AnyPlan) -> np.ndarray:
    """Return the weights as the kernels read them; a complex one becomes a 2 x 2 matrix."""
    how = plan.arithmetic
    if how.is_plain(weight) and weight.flags.c_contiguous and weight.flags.aligned:
        return weight.ravel()
    weight = contiguous(weight, how.convert)
    if how.is_complex:
        c_out, c_in = weight.shape[:2]
        pairs = np.empty((c_out, 2, c_in, 2, *weight.shape[2:]), how.compute)
        pairs[:, 0, :, 0] = pairs[:, 1, :, 1] = weight.real
        pairs[:, 1, :, 0] = weight.imag
        pairs[:, 0, :, 1] = -weight.imag
        return pairs.reshape(-1)
    return weight.reshape(-1).view(how.compute)


def flat_bias(bias: np.ndarray | None, plan: AnyPlan) -> np.ndarray:
    """Return the bias as the kernels read it: zeros for none."""
    return plan.no_bias if bias is None else flat_channels(bias, plan.arithmetic, 0)


def flat_add(add: np.ndarray | None, plan: AnyPlan, y: np.ndarray) -> np.ndarray | None:
    """Return what is added to the sums, as kernels store them; None for nothing.

    It is in other memory than `y`, which kernels may store to before they add.
    """
    if add is None:
        return None
    c = 1 if plan.batched else 0
    if plan.arithmetic.is_complex and plan.layout.channels_last:
        add = np.moveaxis(add, -1, c)
    flat = flat_channels(add, plan.arithmetic, c)
    if not np.may_share_memory(flat, y):
        return flat
    copy = result_memory.empty(flat.size, flat.dtype)
    copy[...] = flat
    return copy


def result_array(y: np.ndarray, plan: AnyPlan) -> np.ndarray:
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


def flat_output(plan: AnyPlan, out: np.ndarray | None) -> tuple[np.ndarray, Deliver]:
    """Return where kernels store the output, flat, and the function that hands it to the caller.

    That is `out` itself where kernels can store straight into it.
    """
    how = plan.arithmetic
    if out is None:
        return result_memory.empty(plan.out_size, how.compute), as_new
    if out.dtype == how.compute and out.flags.c_contiguous and out.flags.aligned:
        return out.reshape(-1), as_it_is
    return result_memory.empty(plan.out_size, how.compute), as_copied


def as_new(y: np.ndarray, plan: AnyPlan, out: Any) -> np.ndarray:
    """Return the flat output as a new array of the result's shape."""
    return result_array(y, plan)


def as_it_is(y: np.ndarray, plan: AnyPlan, out: Any) -> Any:
    """Return `out`, which is where the kernels stored."""
    return out


def as_copied(y: np.ndarray, plan: AnyPlan, out: Any) -> Any:
    """Return `out` after the flat output is copied to it."""
    np.copyto(out, result_array(y, plan))
    return out
