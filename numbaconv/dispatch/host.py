"""Calls whose arrays are NumPy's: on a CPU engine, or copied to a GPU and back."""

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from numbaconv import cpu
from numbaconv.cpu import fft
from numbaconv.cpu.gradients.weight import add_products
from numbaconv.dispatch.backends import AUTO, BACKENDS, CUDA, load_backend, requested_backend
from numbaconv.dispatch.choice import choose, choose_parts, choose_weight_gradient
from numbaconv.dispatch.gpu import convolve_on_host, refuse_on_cpu
from numbaconv.problem.plan import AdjointPlan, Plan, WeightPlan
from numbaconv.problem.validation import check_out


def resolve(plan: Plan, backend: str | None, precision: str | None) -> str:
    """Return the backend of a call, which can run here."""
    name, source = requested_backend(backend)
    if name == AUTO:
        return choose(plan, precision).backend
    load_backend(name, source)
    return name


def engines_of_parts(
    plan: AdjointPlan, name: str, precision: str | None = None
) -> tuple[ModuleType, ...]:
    """Return the engine of each convolution of an adjoint; ``auto`` chooses each by itself."""
    return tuple(BACKENDS[choice.backend] for choice in choose_parts(plan, name, precision))


_SUMS: dict[str, Callable[[WeightPlan, np.ndarray, np.ndarray], np.ndarray]] = {
    "direct": add_products,
    "im2col": functools.partial(add_products, patches=True),
    "fft": fft.add_spectra,
}


def weight_gradient(
    plan: WeightPlan, name: str, input: np.ndarray, grad_output: np.ndarray
) -> np.ndarray:
    """Run a planned gradient of the weights on the CPU backend asked for, maybe ``auto``."""
    backend = choose_weight_gradient(plan, name).backend
    return cpu.weight_gradient(plan, input, grad_output, _SUMS[backend])


def convolve(
    plan: Plan,
    backend: str,
    input: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    out: np.ndarray | None,
    kept: dict[Any, Any] | None = None,
    stream: Any = None,
    precision: str | None = None,
) -> np.ndarray:
    """Run a planned convolution. `kept` is where a prepared layer keeps its packed weights."""
    if out is not None:
        arrays = {"input": input, "weight": weight, "bias": bias}
        check_out(out, plan.out_shape, plan.result, arrays)
    if backend == CUDA:
        arrays = {"input": input, "weight": weight, "bias": bias}
        return convolve_on_host(plan, arrays, out, stream, precision, kept)
    if stream is not None or precision is not None:
        refuse_on_cpu(backend, stream, precision)
    return cpu.execute(plan, BACKENDS[backend], input, weight, bias, out, kept)
