"""Convolutions of complex numbers, part by part of the output.

Kernels read real and imaginary parts as channels of their own, and store them so: see `arrays`. Of
the input, of what is added, and of the sums only a part is in memory in that order at a time.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from numbaconv.cpu import execution
from numbaconv.cpu.arrays import flat_bias, flat_weight
from numbaconv.cpu.execution import Template, make_template, packed_weights
from numbaconv.cpu.lowering import Engine
from numbaconv.cpu.pieces import PIECE_BYTES
from numbaconv.problem.activations import NONE
from numbaconv.problem.parts import Part, cut_apart
from numbaconv.problem.plan import Plan
from numbaconv.problem.shape import ConvShape, Triple
from numbaconv.problem.simplest import simplest
from numbaconv.runtime import result_memory
from numbaconv.runtime.capture import assign
from numbaconv.runtime.threads import thread_limit


class Planned(NamedTuple):
    """A part, and the job that computes it. Arrays of a call have the axes of `by_axes`."""

    part: Part
    template: Template

    def copy_of(self, flat: np.ndarray) -> np.ndarray:
        """Return a view of what the job reads; axis 2 has the real and the imaginary part."""
        s = self.part.shape
        return _apart(flat, s.n, s.groups * s.c_in, s.size)

    def sums_of(self, flat: np.ndarray) -> np.ndarray:
        """Return the same view of what the job stores, or adds."""
        s = self.part.shape
        return _apart(flat, s.n, s.groups * s.c_out, s.output)

    def stored(self, y: np.ndarray) -> np.ndarray:
        """Return a view of the part of an array that lies as the output does."""
        return _rows(y, self.part.images, self.part.axis, self.part.rows)

    def runs(self, x: np.ndarray, copy: np.ndarray) -> Iterator[tuple[np.ndarray, Any]]:
        """Yield views of the copy, and of what they are in the input; None: they lie outside."""
        part = self.part
        for run in part.runs:
            target = _rows(copy, slice(None), part.axis, run.target)
            source = None if run.source is None else _rows(x, part.images, part.axis, run.source)
            yield target, source


def by_axes(array: np.ndarray, plan: Plan) -> np.ndarray:
    """Return a view whose axes are images, channels and three spatial ones."""
    array = array if plan.batched else array[None]
    array = np.moveaxis(array, -1, 1) if plan.layout.channels_last else array
    return array[(slice(None), slice(None), *(None,) * (5 - array.ndim))]


def _apart(flat: np.ndarray, n: int, channels: int, size: Triple) -> np.ndarray:
    return flat[: n * channels * math.prod(size)].reshape(n, channels // 2, 2, *size)


def _rows(array: np.ndarray, images: slice, axis: int, rows: slice) -> np.ndarray:
    """Return a view of some rows of one of the last three axes, of some images."""
    index = [slice(None)] * array.ndim
    index[0], index[array.ndim - 3 + axis] = images, rows
    return array[tuple(index)]


class Parts(NamedTuple):
    """A convolution as parts, and the most elements that one of them reads, stores and adds."""

    parts: list[Planned]
    sizes: tuple[int, int, int]


def find_parts(plan: Plan, engine: Engine, threads: int) -> Parts:
    """Return the parts of a planned convolution on an engine; the plan keeps them."""
    key = "parts", engine, threads
    found: Parts | None = plan.jobs.get(key)
    if found is None:
        parts = _make_parts(plan, engine, threads)
        shapes = [planned.part.shape for planned in parts]
        read = max(s.n * s.groups * s.c_in * math.prod(s.size) for s in shapes)
        stored = max(s.n * s.groups * s.c_out * s.pixels for s in shapes)
        found = plan.jobs[key] = Parts(parts, (read, stored, stored * plan.adds))
    return found


def _make_parts(plan: Plan, engine: Engine, threads: int) -> list[Planned]:
    templates: dict[ConvShape, Template] = {}
    parts = []
    for part in cut_apart(plan.shape, PIECE_BYTES // plan.arithmetic.compute.itemsize):
        s = part.shape
        if s not in templates:
            problem = simplest(s), plan.arithmetic, threads, NONE
            templates[s] = make_template(engine, *problem, None, plan.outside, plan.adds)
        parts.append(Planned(part, templates[s]))
    return parts


def _take_apart(target: np.ndarray, x: np.ndarray) -> None:
    """Write real and imaginary parts beside each other."""
    is_complex = x.dtype.kind == "c"
    assign(target[:, :, 0], x.real if is_complex else x)
    assign(target[:, :, 1], x.imag if is_complex else np.zeros((), target.dtype))


def execute(
    plan: Plan,
    engine: Engine,
    input: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    out: np.ndarray | None,
    kept: dict[Any, Any] | None = None,
    add: np.ndarray | None = None,
) -> np.ndarray:
    """Run a planned convolution on an engine; the arguments are those of `execution.execute`."""
    if not plan.multiply_adds:
        return execution.execute(plan, engine, input, weight, bias, out, kept, add)
    result = out
    if result is None:
        result = result_memory.empty(plan.out_size // 2, plan.result).reshape(plan.out_shape)
    parts, sizes = find_parts(plan, engine, thread_limit(plan.multiply_adds))
    packs: dict[Any, Any] | None = {} if kept is None and len(parts) > 1 else kept
    flat = flat_weight(weight, plan) if packs is None else plan.not_packed
    copy, sums, added = (result_memory.empty(size, plan.arithmetic.compute) for size in sizes)
    b, x, y = flat_bias(bias, plan), by_axes(input, plan), by_axes(result, plan)
    r = None if add is None else by_axes(add, plan)
    for planned in parts:
        for target, source in planned.runs(x, planned.copy_of(copy)):
            if source is None:
                assign(target, plan.outside[:2].reshape(2, 1, 1, 1))
            else:
                _take_apart(target, source)
        if r is not None:
            _take_apart(planned.sums_of(added), planned.stored(r))
        packed, weights = plan.not_packed, flat
        if packs is not None:
            packed = weights = packed_weights(planned.template, weight, plan, packs)
        execution.run(planned.template, copy, weights, packed, b, sums, added)
        target, found = planned.stored(y), planned.sums_of(sums)
        with np.errstate(over="ignore", under="ignore"):
            assign(target.real, found[:, :, 0])
            assign(target.imag, found[:, :, 1])
    return result
