"""Convolutions whose arrays are NumPy's: on a CPU engine, or copied to a GPU and back."""

from collections.abc import Callable
from typing import Any

import numpy as np

from numbaconv._imports import Later
from numbaconv.dispatch.backends import AUTO, BACKENDS, CUDA, load_backend, requested_backend
from numbaconv.dispatch.choice import choose
from numbaconv.dispatch.gpu import refuse_add, refuse_on_cpu, run_on_host
from numbaconv.problem.plan import Plan
from numbaconv.problem.validation import check_out

# Calls on a GPU need none of these.
_execute = Later("numbaconv.cpu.execution", "execute")
_ready = Later("numbaconv.cpu.ready", "Ready")
_is_plain = Later("numbaconv.cpu.ready", "is_plain")
_execute_pieces = Later("numbaconv.cpu.pieces", "execute")
_execute_complex = Later("numbaconv.cpu.complex_parts", "execute")


def resolve(plan: Plan, backend: str | None, precision: str | None) -> str:
    """Return the backend of a call, which can run here."""
    name, source = requested_backend(backend)
    if name == AUTO:
        return choose(plan, precision).backend
    load_backend(name, source)
    return name


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
    add: np.ndarray | None = None,
) -> np.ndarray:
    """Run a planned convolution. `kept` is where a prepared layer keeps its packed weights."""
    if out is not None:
        arrays = {"input": input, "weight": weight, "bias": bias, "add": add}
        check_out(out, plan.out_shape, plan.result, arrays)
    if backend == CUDA:
        refuse_add(add)
        arrays = {"input": input, "weight": weight, "bias": bias}
        return run_on_host("execute", plan, arrays, out, stream, precision, kept)
    if stream is not None or precision is not None:
        refuse_on_cpu(backend, stream, precision)
    run = _execute
    if plan.converts_sums:
        run = _execute_pieces
    elif plan.arithmetic.is_complex:
        run = _execute_complex
    engine = BACKENDS[backend]
    y: np.ndarray = run.function(plan, engine, input, weight, bias, out, kept, add)
    return y


def find_ready(
    plan: Plan,
    backend: str,
    precision: str | None,
    input: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    kept: dict[Any, Any],
) -> Callable[[np.ndarray, np.ndarray | None], np.ndarray | None] | None:
    """Return what computes from arrays of the kind of `input` in later calls; None: `convolve`.

    Parameters
    ----------
    plan, backend, precision
        Plan of the calls; the backend that is asked for, maybe ``auto``; the layer's precision.
    input, weight, bias, kept
        As `convolve` takes them.
    """
    if backend == CUDA or precision is not None or not _is_plain.function(plan, input):
        return None
    if backend == AUTO:
        backend = choose(plan).backend
        if plan.fast_choice.backend != backend:  # the environment is asked in each call
            return None
    ready: Callable[[np.ndarray, np.ndarray | None], np.ndarray | None]
    ready = _ready.function(plan, BACKENDS[backend], weight, bias, kept)
    return ready
