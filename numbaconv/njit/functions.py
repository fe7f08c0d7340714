"""What each function does as steps: the recipes of calls from compiled code.

A call is validated and planned by the code that serves Python; what `cpu.arrays` does to arrays
is written down as steps.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from numbaconv.cpu import complex_parts, pieces
from numbaconv.cpu.arrays import in_memory_order
from numbaconv.cpu.execution import find_template, packed_weights
from numbaconv.cpu.gradients import adjoint
from numbaconv.cpu.gradients import weight as weight_gradients
from numbaconv.dispatch.backends import AUTO, BACKENDS
from numbaconv.dispatch.choice import choose
from numbaconv.dispatch.gradients import choose_weight_gradient, engines_of_parts, find_layer
from numbaconv.layers import Weights
from numbaconv.njit import filters, protocol
from numbaconv.njit.recipe import Array, Recipe
from numbaconv.njit.request import RequestedCall
from numbaconv.patches import Patches, col2im_patches, im2col_patches
from numbaconv.problem.activations import NONE
from numbaconv.problem.dtypes import Arithmetic
from numbaconv.problem.forward import check_rank
from numbaconv.problem.plan import (
    AdjointPlan,
    AnyPlan,
    Options,
    Plan,
    TransposedOptions,
    WeightPlan,
    find_input_plan,
    find_plan,
    find_transposed_plan,
    find_weight_plan,
)
from numbaconv.runtime.threads import SERIAL_LIMIT

# --- Convolutions -----------------------------------------------------------------------------


def _plain_channels(recipe: Recipe, x: Array, how: Arithmetic, c: int) -> Array:
    """Array whose axis `c` has the channels, as kernels read it (`arrays.flat_channels`)."""
    if not how.is_complex:
        return recipe.contiguous(x, how.convert)
    shape = x.view.shape
    pairs = recipe.scratch((*shape[: c + 1], 2, *shape[c + 1 :]), how.compute)
    for part, target in zip(("real", "imag"), np.moveaxis(pairs.view, c + 1, 0), strict=True):
        recipe.move(x.part(part), pairs.of(target))
    return pairs


def _plain_input(recipe: Recipe, plan: AnyPlan, name: str = "input") -> Array:
    """Input as the kernels read it (compare `arrays.flat_input`)."""
    x = recipe.argument(name)
    x = x.of(in_memory_order(x.view, plan))
    if isinstance(plan, Plan) and plan.source is not None:
        return recipe.contiguous(x, plan.source)
    return _plain_channels(recipe, x, plan.arithmetic, 1 if plan.batched else 0)


def _plain_weight(recipe: Recipe, plan: AnyPlan, conjugate: bool = False) -> Array:
    """Weights as the kernels read them (compare `arrays.flat_weight`)."""
    weight, how = recipe.argument("weight"), plan.arithmetic
    if not how.is_complex:
        return recipe.contiguous(weight, how.convert)
    c_out, c_in, *kernel = weight.view.shape
    pairs = recipe.scratch((c_out, 2, c_in, 2, *kernel), how.compute)
    real, imag = weight.part("real"), weight.part("imag")
    plus, minus = (
        (protocol.NEGATE, protocol.COPY) if conjugate else (protocol.COPY, protocol.NEGATE)
    )
    recipe.move(real, pairs.of(pairs.view[:, 0, :, 0]))
    recipe.move(real, pairs.of(pairs.view[:, 1, :, 1]))
    recipe.move(imag, pairs.of(pairs.view[:, 1, :, 0]), plus)
    recipe.move(imag, pairs.of(pairs.view[:, 0, :, 1]), minus)
    return pairs


def _plain_bias(recipe: Recipe, plan: AnyPlan) -> Array:
    """Bias as the kernels read it, flat (compare `arrays.flat_bias`)."""
    if not recipe.has("bias"):
        return recipe.fixed(plan.no_bias)
    bias = _plain_channels(recipe, recipe.argument("bias"), plan.arithmetic, 0)
    return bias.of(bias.view.reshape(-1))


def _plain_output(recipe: Recipe, plan: AnyPlan | WeightPlan) -> Array:
    """Memory for the kernels' output: the result's own if they can store there."""
    result, how = recipe.result(), plan.arithmetic
    is_plain = how.convert == plan.result and not how.is_complex
    if is_plain and result.view.flags.c_contiguous:
        return result.of(result.view.reshape(-1).view(how.compute))
    return recipe.scratch((plan.out_size,), how.compute)


def _store_result(recipe: Recipe, plan: AnyPlan, y: Array) -> None:
    """Move the kernels' output to where the result is (compare `arrays.result_array`)."""
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


def _plain_add(recipe: Recipe, plan: AnyPlan, y: Array) -> Array | None:
    """What is added to the sums, flat, as kernels store them (compare `arrays.flat_add`)."""
    if not recipe.has("add"):
        return None
    given, how, c = recipe.argument("add"), plan.arithmetic, 1 if plan.batched else 0
    if how.is_complex and plan.layout.channels_last:
        given = given.of(np.moveaxis(given.view, -1, c))
    add = _plain_channels(recipe, given, how, c)
    add = add.of(add.view.reshape(-1).view(how.compute))
    return recipe.apart(add, y) if recipe.has("out") and add.base == given.base else add


def _fill_with_bias(
    recipe: Recipe, plan: AnyPlan, bias: Array, y: Array, add: Array | None
) -> None:
    """Set every output to the sum of no products (compare `execution.fill_with_bias`)."""
    sums = y if add else recipe.scratch((plan.channels,), plan.arithmetic.compute)
    if add is None:
        recipe.move(bias, sums)
    else:
        _give_each_channel(recipe, plan, bias, y)
        recipe.move(add, y, protocol.ADD)
    if plan.activation != NONE:
        recipe.activate(sums, plan.activation)
    if add is None:
        _give_each_channel(recipe, plan, sums, y)


def _give_each_channel(recipe: Recipe, plan: AnyPlan, values: Array, y: Array) -> None:
    """Set every output to the value of its channel."""
    result, each = plan.by_channel
    recipe.move(values.of(values.view.reshape(each)), y.of(y.view.reshape(result)))


def _begin(call: RequestedCall, plan: AnyPlan | WeightPlan) -> Recipe:
    """Return the recipe of a planned call, without steps."""
    if plan.result != call.result:
        raise TypeError(f"compiled for a result of {call.result}, now it is {plan.result}")
    threads = 0 if plan.multiply_adds < SERIAL_LIMIT else call.threads
    recipe = Recipe(call, plan.out_shape, threads)
    recipe.kept.append(plan)
    return recipe


def _convolution(call: RequestedCall, plan: Plan, name: str, weights: Weights | None) -> Recipe:
    """Return the recipe of a planned convolution; `weights` are those of a prepared layer."""
    recipe = _begin(call, plan)
    recipe.weights = weights
    bias = _plain_bias(recipe, plan) if weights is None else recipe.fixed(weights.flat_bias(plan))
    if plan.converts_sums:
        _store_pieces(recipe, plan, name, weights, bias)
        return recipe
    if plan.arithmetic.is_complex and plan.multiply_adds:
        _store_complex(recipe, plan, name, weights, bias)
        return recipe
    y = _plain_output(recipe, plan)
    add = _plain_add(recipe, plan, y)
    if plan.multiply_adds:
        template = find_template(plan, BACKENDS[name], max(recipe.threads, 1))
        x = _plain_input(recipe, plan)
        if weights is None:
            weight = _plain_weight(recipe, plan)
        else:
            weight = recipe.fixed(packed_weights(template, weights.weight, plan, weights.packed))
        recipe.convolve(template, x, weight, bias, y, weights is not None, add)
    elif plan.out_size:
        _fill_with_bias(recipe, plan, bias, y, add)
    _store_result(recipe, plan, y)
    return recipe


def _store_pieces(
    recipe: Recipe, plan: Plan, name: str, weights: Weights | None, bias: Array
) -> None:
    """Write down a convolution whose sums are converted (compare `pieces.execute`)."""
    result, compute = recipe.result(), plan.arithmetic.compute
    y = result.of(result.view.reshape(-1)) if result.view.flags.c_contiguous else None
    y = recipe.scratch((plan.out_size,), plan.result) if y is None else y
    add = _plain_add(recipe, plan, y)
    if plan.multiply_adds:
        found = pieces.find_pieces(plan, BACKENDS[name], max(recipe.threads, 1))
        x = _plain_input(recipe, plan)
        x = x.of(x.view.reshape(-1))
        weight = _plain_weight(recipe, plan) if weights is None else bias
        sums = recipe.scratch((max(piece.elements for piece in found),), compute)
        for piece in found:
            template = piece.template
            if weights is not None:
                packed = packed_weights(template, weights.weight, plan, weights.packed)
                weight = recipe.fixed(packed)
            read, stored = x.of(x.view[piece.first_in :]), y.of(y.view[piece.first_out :])
            recipe.convolve(template, read, weight, bias, sums, packed=weights is not None)
            added = None if add is None else add.of(add.view[piece.first_out :])
            recipe.convolve(piece.store, sums, sums, sums, stored, False, added)
    elif plan.out_size:
        _store_bias(recipe, plan, bias, y, add)
    if y.base != result.base:
        recipe.move(y.of(y.view.reshape(plan.out_shape)), result)


def _store_complex(
    recipe: Recipe, plan: Plan, name: str, weights: Weights | None, bias: Array
) -> None:
    """Write down a convolution of complex numbers (compare `complex_parts.execute`)."""
    parts, sizes = complex_parts.find_parts(plan, BACKENDS[name], max(recipe.threads, 1))
    copy, sums, added = (recipe.scratch((size,), plan.arithmetic.compute) for size in sizes)
    outside = recipe.fixed(plan.outside)
    x, y = _by_axes(recipe.argument("input"), plan), _by_axes(recipe.result(), plan)
    add = _by_axes(recipe.argument("add"), plan) if recipe.has("add") else None
    weight = _plain_weight(recipe, plan) if weights is None else bias
    for planned in parts:
        for target, source in planned.runs(x.view, planned.copy_of(copy.view)):
            if source is None:
                for i in range(2):
                    recipe.move(outside.of(outside.view[i : i + 1]), copy.of(target[:, :, i]))
            else:
                _take_apart(recipe, x.of(source), copy.of(target))
        if add is not None:
            given = add.of(planned.stored(add.view))
            _take_apart(recipe, given, added.of(planned.sums_of(added.view)))
        if weights is not None:
            packed = packed_weights(planned.template, weights.weight, plan, weights.packed)
            weight = recipe.fixed(packed)
        arrays = copy, weight, bias, sums
        recipe.convolve(planned.template, *arrays, packed=weights is not None, add=added)
        found, stored = planned.sums_of(sums.view), y.of(planned.stored(y.view))
        recipe.move(sums.of(found[:, :, 0]), stored.part("real"))
        recipe.move(sums.of(found[:, :, 1]), stored.part("imag"))


def _by_axes(array: Array, plan: Plan) -> Array:
    return array.of(complex_parts.by_axes(array.view, plan))


def _take_apart(recipe: Recipe, x: Array, target: Array) -> None:
    """Write real and imaginary parts beside each other (compare `complex_parts._take_apart`)."""
    for i, part in enumerate(("real", "imag")):
        recipe.move(x.part(part), target.of(target.view[:, :, i]))


def _store_bias(recipe: Recipe, plan: Plan, bias: Array, y: Array, add: Array | None) -> None:
    """Store what sums of no products are (compare `pieces._store_bias`)."""
    sums = recipe.scratch((plan.out_size,), plan.arithmetic.compute)
    _give_each_channel(recipe, plan, bias, sums)
    store = pieces.make_store(plan, 1, plan.out_size, 0, 1)
    recipe.convolve(store, sums, sums, sums, y, False, add)


def _options(call: RequestedCall) -> dict[str, Any]:
    """Return what a call's plan depends on."""
    return {name: v for name, v in call.arguments.items() if name not in ("out", "backend")}


def _conv(call: RequestedCall, rank: int | None = None) -> Recipe:
    options = _options(call)
    if rank is not None:
        check_rank(call.function, options["weight"], rank)
    x, weight, bias, add = (options.pop(name) for name in ("input", "weight", "bias", "add"))
    plan = find_plan(x, weight, bias, Options(**options), add)
    name = call.backend(call.arguments["backend"], choose(plan).backend)
    return _convolution(call, plan, name, None)


def _layer(call: RequestedCall) -> Recipe:
    layer = call.arguments["layer"]
    weights = layer.weights
    plan = layer.plan(call.arguments["input"], weights, call.arguments["add"])
    if layer.is_transposed:
        return _adjoint(call, plan, "input", call.backend(layer.backend, AUTO), weights)
    name = call.backend(layer.backend, choose(plan, layer.precision).backend)
    return _convolution(call, plan, name, weights)


def _adjoint(
    call: RequestedCall, plan: AdjointPlan, x: str, name: str, weights: Weights | None = None
) -> Recipe:
    """Return the recipe of a planned adjoint (compare `adjoint.apply_adjoint`).

    `weights` are those of a prepared layer.
    """
    recipe = _begin(call, plan)
    recipe.weights = weights
    y = _plain_output(recipe, plan)
    bias = _plain_bias(recipe, plan) if weights is None else recipe.fixed(weights.flat_bias(plan))
    add = _plain_add(recipe, plan, y)
    if plan.has_gaps or not plan.multiply_adds:
        _fill_with_bias(recipe, plan, bias, y, add)
    if plan.multiply_adds:
        engines = engines_of_parts(plan, name)
        chain = adjoint.find_chain(plan, engines, max(recipe.threads, 1))
        if weights is None:
            is_complex = call.arguments["weight"].dtype.kind == "c"
            weight = _plain_weight(recipe, plan, is_complex and not plan.is_gradient)
        else:
            given = weights.weight, weights.flat_bias(plan)
            weight = recipe.fixed(adjoint.packed_weights(chain, *given, plan, weights.packed))
        given_x = _plain_input(recipe, plan, x)
        recipe.apply_adjoint(chain, given_x, weight, bias, y, weights is not None, add)
    _store_result(recipe, plan, y)
    return recipe


def _conv_transpose(call: RequestedCall, rank: int) -> Recipe:
    options = _options(call)
    x, weight, bias, add = (options.pop(name) for name in ("input", "weight", "bias", "add"))
    plan = find_transposed_plan(rank, x, weight, bias, TransposedOptions(**options), add)
    # Each phase has its own choice.
    return _adjoint(call, plan, "input", call.backend(call.arguments["backend"], AUTO))


def _input_gradient(call: RequestedCall, rank: int) -> Recipe:
    plan = find_input_plan(rank, **_options(call))
    return _adjoint(call, plan, "grad_output", call.backend(call.arguments["backend"], AUTO))


def _weight_gradient(call: RequestedCall, rank: int) -> Recipe:
    """Return the recipe of the weights' gradient (compare `weight.weight_gradient`)."""
    plan = find_weight_plan(rank, **_options(call))
    asked = call.backend(call.arguments["backend"], AUTO)
    name = choose_weight_gradient(plan, asked).backend
    if plan.multiply_adds and name == "fft":  # its steps depend on the data
        return filters.by_python(call, plan.out_shape)
    recipe = _begin(call, plan)
    if not plan.multiply_adds:
        recipe.clear(recipe.result())
        return recipe
    how, channels = plan.arithmetic, 1 if plan.batched else 0
    given = (recipe.argument(array) for array in ("input", "grad_output"))
    x, gradient = (_plain_channels(recipe, array, how, channels) for array in given)
    y = _plain_output(recipe, plan)
    threads, patches = max(recipe.threads, 1), name == "im2col"
    layer = find_layer(plan, name, threads)
    if layer is None:
        recipe.sum_weights(weight_gradients.find_template(plan, threads, patches), x, gradient, y)
    else:
        recipe.apply_adjoint(layer, x, gradient, recipe.fixed(plan.no_bias), y)
    result = recipe.result()
    if how.is_complex:
        _combine_parts(recipe, y, result)
    elif y.base != result.base:
        recipe.move(y.of(y.view.reshape(plan.out_shape)), result)
    return recipe


def _combine_parts(recipe: Recipe, sums: Array, result: Array) -> None:
    """Combine products of real and imaginary parts (compare `weight._complex_sums`)."""
    c_out, c_in, *kernel = result.view.shape
    parts = sums.view.reshape(c_out, 2, c_in, 2, *kernel)
    real, imag = result.part("real"), result.part("imag")
    recipe.move(sums.of(parts[:, 0, :, 0]), real)
    recipe.move(sums.of(parts[:, 1, :, 1]), real, protocol.ADD)
    recipe.move(sums.of(parts[:, 0, :, 1]), imag, protocol.NEGATE)
    recipe.move(sums.of(parts[:, 1, :, 0]), imag, protocol.ADD)


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


def _im2col(call: RequestedCall) -> Recipe:
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


def _col2im(call: RequestedCall) -> Recipe:
    p = col2im_patches(**call.arguments)
    recipe = Recipe(call, p.image_shape)
    columns = recipe.contiguous(recipe.argument("columns"), call.result)
    padded = recipe.scratch(p.padded_shape, columns.view.dtype)
    recipe.clear(padded)
    # Tap by tap, in NumPy's order of adding.
    taps = (*range(2, 2 + len(p.kernel)), 0, 1, *range(2 + len(p.kernel), 2 + 2 * len(p.kernel)))
    windows = padded.of(_windows(padded.view, p).transpose(taps))
    split = columns.of(columns.view.reshape(p.split_shape).transpose(taps))
    recipe.move(split, windows, protocol.ADD)
    recipe.move(padded.of(padded.view[p.inside]), _with_batch(recipe.result(), p))
    return recipe


RECIPES: dict[str, Callable[[RequestedCall], Recipe]] = {
    "conv": _conv,
    "conv1d": functools.partial(_conv, rank=1),
    "conv2d": functools.partial(_conv, rank=2),
    "conv3d": functools.partial(_conv, rank=3),
    "conv_transpose1d": functools.partial(_conv_transpose, rank=1),
    "conv_transpose2d": functools.partial(_conv_transpose, rank=2),
    "conv_transpose3d": functools.partial(_conv_transpose, rank=3),
    **{f"conv{rank}d_input": functools.partial(_input_gradient, rank=rank) for rank in (1, 2, 3)},
    **{f"conv{rank}d_weight": functools.partial(_weight_gradient, rank=rank) for rank in (1, 2, 3)},
    "layer": _layer,
    "im2col": _im2col,
    "col2im": _col2im,
}


def plan(call: RequestedCall) -> Recipe:
    """Validate a call and write its steps down."""
    return RECIPES.get(call.function, filters.plan)(call)
