"""Gradients and transposed convolutions on the CPU: which engines compute them."""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from numbaconv._imports import Later
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu import fft
from numbaconv.cpu.gradients import adjoint, as_layers, weight, weight_tasks
from numbaconv.cpu.gradients.adjoint import apply_adjoint, find_phase_parts
from numbaconv.cpu.gradients.adjoint_chain import Chain, Part
from numbaconv.cpu.gradients.weight import add_products
from numbaconv.cpu.lowering import Engine
from numbaconv.dispatch.backends import AUTO, BACKENDS, CUDA, load_backend, requested_backend
from numbaconv.dispatch.choice import Choice, choose_backend, choose_if_fast, serving
from numbaconv.dispatch.gpu import refuse_add, refuse_on_cpu, run_on_host
from numbaconv.dispatch.precision import is_fast
from numbaconv.problem.plan import AdjointPlan, WeightPlan
from numbaconv.problem.validation import check_out
from numbaconv.runtime.threads import thread_limit

_costs = Later("numbaconv.cpu.direct.cost", "costs")
_cycles_by = Later("numbaconv.cpu.direct.cost", "cycles_by")
_cycles_of_sums = Later("numbaconv.cpu.direct.cost", "cycles_of_sums")

_TRANSFORMS = "fft", "winograd"

# Takes no dot products, which add in another order than the other lowerings of `direct`.
_IN_ORDER = Engine(Later("numbaconv.cpu.direct", "lower_in_order"), BACKENDS["direct"].unavailable)

# Takes the lowering of `direct` whose lanes are channels.
_BY_CHANNELS = Engine(
    Later("numbaconv.cpu.direct", "lower_by_channels"), BACKENDS["direct"].unavailable
)


def find_parts(plan: AdjointPlan) -> list[Part]:
    """Return the convolutions of an adjoint, as `adjoint.find_parts` does, by predicted cycles."""
    return adjoint.find_parts(plan, _cycles_of_sums)


def parts_for(plan: AdjointPlan, name: str) -> list[Part]:
    """Return the convolutions of an adjoint when a backend is asked for.

    A product has a single tap, so transforms that are asked for get phases, if they serve any.
    """
    parts = find_parts(plan)
    if name not in _TRANSFORMS or not parts or not parts[0].folded:
        return parts
    if name not in plan.parts_of:
        phases, dtype = find_phase_parts(plan), plan.arithmetic.compute
        served = any(serving(part.shape, dtype, name).backend == name for part in phases)
        plan.parts_of[name] = phases if served else parts
    found: list[Part] = plan.parts_of[name]
    return found


def choose_parts(
    plan: AdjointPlan, name: str = AUTO, precision: str | None = None
) -> tuple[Choice, ...]:
    """Return the backend of each convolution of an adjoint when one is asked for; it is kept."""
    kept: tuple[tuple[Choice, ...], tuple[Choice, ...]] | None = plan.choices.get(name)
    if kept is None:
        dtype, shapes = plan.arithmetic.compute, [part.shape for part in parts_for(plan, name)]
        if name == AUTO:
            usual = tuple(choose_backend(s, dtype) for s in shapes)
            pairs = zip(usual, shapes, strict=True)
            fast = tuple(choose_if_fast(choice, s, dtype, packs=True) for choice, s in pairs)
            kept = usual, fast
        else:
            usual = tuple(serving(s, dtype, name) for s in shapes)
            kept = usual, usual
        plan.choices[name] = kept
    usual, fast = kept
    return fast if fast != usual and is_fast(precision) else usual


def choose_weight_gradient(plan: WeightPlan, name: str = AUTO) -> Choice:
    """Return the backend that computes a gradient of the weights when one is asked for."""
    s, dtype = plan.simplest, plan.arithmetic.compute
    if name == "im2col" or (name == "fft" and fft.serves_weight_gradient(s, dtype)):
        return Choice(name, "it was asked for")
    if name == AUTO:
        if plan.choice is None:
            plan.choice = Choice("direct", "a product of the gradient and the input's patches")
            if fft.is_faster_for_weights(s, dtype):
                plan.choice = Choice("fft", "many taps, many outputs: spectra cost less")
        choice: Choice = plan.choice
        return choice
    left = ", and leaves this to direct" if name == "fft" else ""
    return Choice("direct", f"{name} was asked for{left}")


def engines_of_parts(
    plan: AdjointPlan, name: str, precision: str | None = None
) -> tuple[Engine, ...]:
    """Return the engine of each convolution of an adjoint; ``auto`` chooses each by itself."""
    choices, parts = choose_parts(plan, name, precision), parts_for(plan, name)
    engines = tuple(
        _IN_ORDER if part.in_order and choice.backend == "direct" else BACKENDS[choice.backend]
        for part, choice in zip(parts, choices, strict=True)
    )
    if parts is not plan.parts:
        plan.parts_of[engines] = parts
    return engines


def convolve_transposed(
    plan: AdjointPlan,
    backend: str | None,
    input: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    out: np.ndarray | None,
    kept: dict[Any, Any],
    stream: Any,
    precision: str | None,
    add: np.ndarray | None,
) -> np.ndarray:
    """Run a planned transposed convolution; `kept` is where its layer keeps its packed weights."""
    arrays = {"input": input, "weight": weight, "bias": bias}
    if out is not None:
        check_out(out, plan.out_shape, plan.result, arrays | {"add": add})
    name, source = requested_backend(backend)
    if name != AUTO:
        load_backend(name, source)
    if name == CUDA:
        refuse_add(add)
        return run_on_host("apply_adjoint", plan, arrays, out, stream, precision, kept)
    if stream is not None or precision is not None:
        refuse_on_cpu(name, stream, precision)
    engines = engines_of_parts(plan, name, precision)
    return apply_adjoint(plan, engines, input, weight, bias, out, kept, add)


def _layer_of(plan: WeightPlan) -> tuple[Part, Engine] | None:
    """Return the layer that a gradient of the weights is, and its engine; None: sums are faster."""
    s, itemsize = plan.simplest, plan.arithmetic.compute.itemsize
    product, filters = as_layers.weight_product(s), as_layers.maps_as_filters(s)
    if product is not None:
        return product, BACKENDS["direct"]
    lanes = VECTOR_BYTES // itemsize
    if filters is None or weight_tasks.uses_strips(s, lanes) or not as_layers.fits_cache(filters):
        return None
    # `depthwise_maps` stands in its place where it is compared, and nothing where all is padding.
    compared = {"depthwise_channels", "depthwise_maps"} & set(_costs(filters.shape, lanes))
    cycles = _cycles_by("depthwise_channels", filters.shape, lanes) if compared else math.inf
    return (
        (filters, _BY_CHANNELS) if as_layers.prefers_filters(s, filters, cycles, itemsize) else None
    )


def find_layer(plan: WeightPlan, backend: str, threads: int) -> Chain | None:
    """Return the job of a gradient of the weights that a backend computes as a layer, or None."""
    if plan.layer == ():
        plan.layer = _layer_of(plan)
    if plan.layer is None or backend != "direct":
        return None
    part, engine = plan.layer
    return as_layers.find_chain(plan, part, engine, threads)


def _add_directly(plan: WeightPlan, x: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Return the sums of a planned gradient, flat, from flat arrays."""
    layer = find_layer(plan, "direct", thread_limit(plan.multiply_adds))
    if layer is None:
        return add_products(plan, x, gradient)
    return as_layers.multiply(plan, layer, x, gradient)


_SUMS: dict[str, Callable[[WeightPlan, np.ndarray, np.ndarray], np.ndarray]] = {
    "direct": _add_directly,
    "im2col": functools.partial(add_products, patches=True),
    "fft": fft.add_spectra,
}


def weight_gradient(
    plan: WeightPlan, name: str, input: np.ndarray, grad_output: np.ndarray
) -> np.ndarray:
    """Run a planned gradient of the weights on the CPU backend asked for, maybe ``auto``."""
    backend = choose_weight_gradient(plan, name).backend
    return weight.weight_gradient(plan, input, grad_output, _SUMS[backend])
