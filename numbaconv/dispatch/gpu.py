"""Calls that run on a GPU, up to the door of the cuda backend: arrays there, streams, precision.

Nothing of CUDA is imported here. An array is on a device if it says so itself, through
``__cuda_array_interface__`` (Numba, CuPy, PyTorch).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from numbaconv.dispatch.backends import AUTO, CUDA, load_backend, requested_backend
from numbaconv.dispatch.precision import TF32, find_precision
from numbaconv.problem.libraries import is_on_device, read_array
from numbaconv.problem.plan import AnyPlan, Plan, find_plan
from numbaconv.problem.validation import base_array, check_out, input_array


def refuse_on_cpu(name: str, stream: Any, precision: str | None) -> None:
    """Refuse options that a CPU backend cannot follow."""
    if stream is not None:
        raise ValueError(f"stream is for backend 'cuda'; this call runs on {name!r}")
    if precision is not None and find_precision(precision) == TF32:
        raise ValueError(
            f"precision {precision!r} is for backend 'cuda'; this call runs on {name!r}"
        )


def refuse_add(add: Any) -> None:
    """Refuse to add an array to the sums of the cuda backend."""
    if add is not None:
        raise ValueError("add is for CPU backends: 'cuda' adds no array to its sums")


def find_side(arrays: dict[str, Any]) -> bool:
    """Whether the arrays of a call are on a GPU; those on both sides are refused."""
    sides = {name: is_on_device(array) for name, array in arrays.items() if array is not None}
    there = any(sides.values())
    if there and not all(sides.values()):
        on_gpu, in_host = ([n for n in sides if sides[n] == side] for side in (True, False))
        raise TypeError(
            f"all arrays of a call must be on one side: on a GPU is {', '.join(on_gpu)}; "
            f"in host memory is {', '.join(in_host)}"
        )
    return there


def cuda_for(backend: str | None) -> Any:
    """Return the cuda backend for a call with arrays on a GPU, or refuse the one asked for."""
    name, source = requested_backend(backend)
    if name not in (AUTO, CUDA):
        raise TypeError(
            f"input is on a GPU, and backend {name!r}, asked for by {source}, runs on the CPU; "
            f"copy the arrays to the host, or choose 'cuda' or 'auto'"
        )
    return load_backend(CUDA, source)


def look_at(arrays: dict[str, Any], backend: str | None) -> tuple[Any, dict[str, Any]]:
    """Return the cuda backend and shadows if arrays are on a GPU, else None and the arrays."""
    if not find_side(arrays):
        return None, arrays
    module = cuda_for(backend)
    shadows = {
        name: None if array is None else module.shadow(name, array)
        for name, array in arrays.items()
    }
    return module, shadows


class Call:
    """A gradient or transposed convolution: where it runs, and its arrays as they are seen there.

    Parameters
    ----------
    arrays : dict
        The arrays by the names of their arguments; None for one that was not given.
    backend, stream, precision
        As the caller gave them.

    Attributes
    ----------
    arrays : dict
        The same; those on a GPU as shadows (`cuda.memory`).
    """

    def __init__(
        self, arrays: dict[str, Any], backend: str | None, stream: Any, precision: str | None
    ) -> None:
        self._given, self._asked = arrays, (backend, stream, precision)
        self._module, self.arrays = look_at(arrays, backend)
        self._on_device = self._module is not None
        if not self._on_device:
            self.arrays = {
                name: None if a is None else (base_array if name == "out" else input_array)(name, a)
                for name, a in self.arrays.items()
            }

    def cpu_backend(self) -> str | None:
        """Return the CPU backend, maybe ``auto``; None if it runs on a GPU."""
        backend, stream, precision = self._asked
        if self._on_device:
            return None
        name, source = requested_backend(backend)
        if name != AUTO:
            module = load_backend(name, source)
            if name == CUDA:
                self._module = module
                return None
        if stream is not None or precision is not None:
            refuse_on_cpu(name, stream, precision)
        return name

    def on_gpu(self, function: str, plan: Any, arrays: dict[str, Any], **more: Any) -> Any:
        """Run a function of the cuda backend on a plan and its arrays."""
        _, stream, asked = self._asked
        precision, run = find_precision(asked), getattr(self._module, function)
        with self._module.work_on(self._given if self._on_device else {}, stream) as workspace:
            return run(
                plan,
                arrays,
                precision=precision,
                workspace=workspace,
                on_device=self._on_device,
                **more,
            )


def plan_on_device(
    arrays: dict[str, Any], options: tuple[Any, ...], backend: str | None
) -> tuple[Any, dict[str, Any], Plan]:
    """Return the backend, the shadows and the plan of a call with arrays on a GPU."""
    module, shadows = look_at(arrays, backend)
    operands = (shadows["input"], shadows["weight"], shadows["bias"])
    return module, shadows, find_plan(*operands, options)


def convolve_on_device(
    arrays: dict[str, Any],
    options: tuple[Any, ...],
    backend: str | None,
    stream: Any,
    precision: str | None,
) -> Any:
    """Convolve arrays on a GPU, from what `conv` was given."""
    refuse_add(arrays.pop("add"))
    module, shadows, plan = plan_on_device(arrays, options, backend)
    out = shadows.pop("out")
    if out is not None:
        check_out(out, plan.out_shape, plan.result, shadows)
    precision = find_precision(precision)
    with module.work_on(arrays, stream) as workspace:
        result = module.execute(plan, shadows, out, precision, workspace, True)
    return arrays["out"] if out is not None else result


def layer_on_device(
    function: str,
    find: Callable[[Any], AnyPlan],
    x: Any,
    weight: np.ndarray,
    bias: np.ndarray | None,
    out: Any,
    kept: dict[Any, Any],
    backend: str | None,
    stream: Any,
    precision: str | None,
) -> Any:
    """Apply a prepared layer, whose weights the layer brings to the device, to an array there.

    `function` of the cuda backend runs the plan that `find` makes for the array's shadow.
    """
    find_side({"x": x, "out": out})
    module = cuda_for(backend)
    seen = module.shadow("x", x)
    plan = find(seen)
    target = None if out is None else module.shadow("out", out)
    if target is not None:
        check_out(target, plan.out_shape, plan.result, {"x": seen})
    arrays = {"input": seen, "weight": weight, "bias": bias}
    precision, run = find_precision(precision), getattr(module, function)
    with module.work_on({"x": x, "out": out}, stream) as workspace:
        result = run(plan, arrays, target, precision, workspace, True, kept)
    return out if out is not None else result


def run_on_host(
    function: str,
    plan: AnyPlan,
    arrays: dict[str, Any],
    out: np.ndarray | None,
    stream: Any,
    precision: str | None,
    kept: dict[Any, Any] | None,
) -> np.ndarray:
    """Run a function of the cuda backend on NumPy arrays: copied in and out."""
    module = load_backend(CUDA)
    precision, run = find_precision(precision), getattr(module, function)
    with module.work_on({}, stream) as workspace:
        result: np.ndarray = run(plan, arrays, out, precision, workspace, False, kept)
    return result


def on_host(name: str, array: Any) -> np.ndarray:
    """Return an array to be copied, of any library and any place, as a NumPy array."""
    if isinstance(array, np.ndarray) or not is_on_device(array):
        return input_array(name, read_array(name, array))
    there: np.ndarray = load_backend(CUDA, f"a {name} on a GPU").to_host(array)
    return there
