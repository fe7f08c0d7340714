"""What each function does as steps: the recipes of calls from compiled code.

A call is validated and planned by the code that serves Python; what `layout` does to arrays is
written down as steps.
"""

import functools
from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import as_strided

from numbaconv import calls
from numbaconv.activation import NONE
from numbaconv.blocking import SERIAL_LIMIT
from numbaconv.layout import in_memory_order
from numbaconv.patches import Patches, col2im_patches, im2col_patches
from numbaconv.plan import Plan, check_rank, find_plan
from numbaconv.prepared import PreparedConv
from numbaconv.recipe import Array, Recipe
from numbaconv.request import Call

# --- Convolutions -----------------------------------------------------------------------------


def _plain_input(recipe: Recipe, plan: Plan) -> Array:
    """Input as the kernels read it (compare `layout.flat_input`)."""
    x = recipe.argument("input")
    x = x.of(in_memory_order(x.view, plan))
    if not plan.arithmetic.is_complex:
        return recipe.contiguous(x)
    c = 2 if plan.batched else 1
    shape = x.view.shape
    parts = recipe.scratch((*shape[:c], 2, *shape[c:]), plan.arithmetic.compute)
    for i, part in enumerate((x.view.real, x.view.imag)):
        recipe.move(x.of(part), parts.of(np.moveaxis(parts.view, c, 0)[i]))
    return parts


def _plain_weight(recipe: Recipe, plan: Plan) -> Array:
    """Weights as the kernels read them (compare `layout.flat_weight`)."""
    weight = recipe.argument("weight")
    if not plan.arithmetic.is_complex:
        return recipe.contiguous(weight)
    c_out, c_in, *kernel = weight.view.shape
    pairs = recipe.scratch((c_out, 2, c_in, 2, *kernel), plan.arithmetic.compute)
    real, imag = weight.of(weight.view.real), weight.of(weight.view.imag)
    recipe.move(real, pairs.of(pairs.view[:, 0, :, 0]))
    recipe.move(real, pairs.of(pairs.view[:, 1, :, 1]))
    recipe.move(imag, pairs.of(pairs.view[:, 1, :, 0]))
    recipe.move(imag, pairs.of(pairs.view[:, 0, :, 1]), calls.NEGATE)
    return pairs


def _plain_bias(recipe: Recipe, plan: Plan) -> Array:
    """Bias as the kernels read it (compare `layout.flat_bias`)."""
    if not recipe.has("bias"):
        return recipe.fixed(plan.no_bias)  # the recipe keeps the plan
    bias = recipe.contiguous(recipe.argument("bias"))
    return bias.of(bias.view.view(plan.arithmetic.compute))


def _plain_output(recipe: Recipe, plan: Plan) -> Array:
    """Memory for the kernels' output: the result's own if they can store there."""
    result = recipe.result()
    compute = plan.arithmetic.compute
    if plan.arithmetic.is_complex:
        return recipe.scratch((plan.out_size,), compute)
    if result.view.flags.c_contiguous:
        return result.of(result.view.reshape(-1).view(compute))
    return recipe.scratch((plan.out_size,), compute)


def _store_result(recipe: Recipe, plan: Plan, y: Array) -> None:
    """Move the kernels' output to where the result is (compare `layout.result_array`)."""
    result = recipe.result()
    if y.base == result.base:
        return
    if not plan.arithmetic.is_complex:
        recipe.move(y.of(y.view.reshape(plan.out_shape)), result)
        return
    c = 1 if plan.batched else 0
    target = result.view
    if plan.layout.channels_last:
        target = np.moveaxis(target, -1, c)
    shape = target.shape
    parts = np.moveaxis(y.view.reshape(*shape[: c + 1], 2, *shape[c + 1 :]), c + 1, 0)
    recipe.move(y.of(parts[0]), result.of(target.real))
    recipe.move(y.of(parts[1]), result.of(target.imag))


def _fill_with_bias(recipe: Recipe, plan: Plan, bias: Array, y: Array) -> None:
    """Set every output to its channel's bias, activated (compare `conv.fill_with_bias`)."""
    sums = recipe.scratch((plan.channels,), plan.arithmetic.compute)
    recipe.move(bias, sums)
    if plan.activation != NONE:
        recipe.activate(sums, plan.activation)
    s = plan.shape
    if s.out_strides[1] == 1 and s.out_strides[4] != 1:
        recipe.move(sums, y.of(y.view.reshape(-1, plan.channels)))
    else:
        column = sums.of(sums.view[:, None])
        recipe.move(column, y.of(y.view.reshape(s.n, plan.channels, s.pixels)))


def _convolution(call: Call, plan: Plan, name: str, layer: PreparedConv | None) -> Recipe | None:
    """Return the recipe of a planned convolution; None: ask for the number of threads first."""
    threads = call.threads if plan.multiply_adds >= SERIAL_LIMIT else 1
    if threads == 0:
        return None
    if plan.result != call.result:
        raise TypeError(f"compiled for a result of {call.result}, now it is {plan.result}")
    recipe = Recipe(call, plan.out_shape, launches=threads > 1)
    recipe.kept.append(plan)
    y = _plain_output(recipe, plan)
    # What is the layer's own, it keeps; without the layer nobody comes with its ticket.
    bias = _plain_bias(recipe, plan) if layer is None else recipe.fixed(layer.flat_bias(plan))
    if plan.multiply_adds:
        template = plan.template(name, threads)
        x = _plain_input(recipe, plan)
        if layer is None:
            weight = _plain_weight(recipe, plan)
        else:
            weight = recipe.fixed(layer.packed_weights(template, plan))
        recipe.convolve(template, x, weight, bias, y, packed=layer is not None)
    elif plan.out_size:
        _fill_with_bias(recipe, plan, bias, y)
    _store_result(recipe, plan, y)
    return recipe


def _conv(call: Call, rank: int | None = None) -> Recipe | None:
    arguments = dict(call.arguments)
    backend = arguments.pop("backend")
    arguments.pop("out")
    if rank is not None:
        check_rank(call.function, arguments["weight"], rank)
    plan = find_plan(**arguments)
    return _convolution(call, plan, call.backend(plan, backend), None)


def _layer(call: Call) -> Recipe | None:
    layer = call.arguments["layer"]
    plan = layer.plan(call.arguments["input"])
    return _convolution(call, plan, call.backend(plan, layer.backend), layer)


# --- Patches ----------------------------------------------------------------------------------


def _windows(padded: np.ndarray, p: Patches) -> np.ndarray:
    """View of what each tap reads for each position: (N, C, *kernel, *positions)."""
    n, c, *steps = padded.strides
    taps = [step * d for step, d in zip(steps, p.dilation, strict=True)]
    positions = [step * s for step, s in zip(steps, p.stride, strict=True)]
    shape = (*padded.shape[:2], *p.kernel, *p.positions)
    return as_strided(padded, shape, (n, c, *taps, *positions))


def _with_batch(array: Array, p: Patches) -> Array:
    return array if p.batched else array.of(array.view[np.newaxis])


def _im2col(call: Call) -> Recipe:
    p = im2col_patches(**call.arguments)
    recipe = Recipe(call, p.columns_shape)
    x = _with_batch(recipe.argument("input"), p)
    padded = x
    if p.is_padded:
        padded = recipe.scratch(p.padded_shape, x.view.dtype)
        recipe.clear(padded)
        recipe.move(x, padded.of(padded.view[p.inside]))
    columns = recipe.result()
    split = columns.view.reshape(p.split_shape)
    recipe.move(padded.of(_windows(padded.view, p)), columns.of(split))
    return recipe


def _col2im(call: Call) -> Recipe:
    p = col2im_patches(**call.arguments)
    recipe = Recipe(call, p.image_shape)
    columns = recipe.contiguous(recipe.argument("columns"))
    padded = recipe.scratch(p.padded_shape, columns.view.dtype)
    recipe.clear(padded)
    # Tap by tap, in NumPy's order of adding.
    taps = (*range(2, 2 + len(p.kernel)), 0, 1, *range(2 + len(p.kernel), 2 + 2 * len(p.kernel)))
    windows = padded.of(_windows(padded.view, p).transpose(taps))
    split = columns.of(columns.view.reshape(p.split_shape).transpose(taps))
    recipe.move(split, windows, calls.ADD)
    recipe.move(padded.of(padded.view[p.inside]), _with_batch(recipe.result(), p))
    return recipe


RECIPES: dict[str, Callable[[Call], Recipe | None]] = {
    "conv": _conv,
    "conv1d": functools.partial(_conv, rank=1),
    "conv2d": functools.partial(_conv, rank=2),
    "conv3d": functools.partial(_conv, rank=3),
    "layer": _layer,
    "im2col": _im2col,
    "col2im": _col2im,
}


def plan(call: Call) -> Recipe | None:
    """Validate a call and write its steps down; None: they depend on the number of threads."""
    return RECIPES[call.function](call)
