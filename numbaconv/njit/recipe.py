"""Writing down the steps of a call, for `steps.carry_out` to carry out.

NumPy's own views of placeholders (`request.placeholder`) say which elements a step reads and
writes.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import from_dtype

from numbaconv.codegen.integers import round_up
from numbaconv.cpu.activation import kernel_of
from numbaconv.cpu.gradients import adjoint_chain, weight
from numbaconv.cpu.launching import for_compiled_callers
from numbaconv.layers import Weights
from numbaconv.njit import protocol, steps
from numbaconv.njit.request import BASES, TARGET, RequestedCall, placeholder
from numbaconv.problem.dtypes import number_dtype
from numbaconv.problem.validation import check_out
from numbaconv.runtime.capture import address, span
from numbaconv.runtime.fields import integers


class Array(NamedTuple):
    """A view of a placeholder, and where its memory is."""

    view: np.ndarray
    base: int
    origin: int

    def of(self, view: np.ndarray) -> "Array":
        """Return another view of the same memory."""
        return self._replace(view=view)

    def part(self, name: str) -> "Array":
        """Return the real or imaginary ("imag") part; the latter of real numbers is a zero."""
        if name == "imag" and self.view.dtype.kind != "c":
            return Array(_ZERO, protocol.NO_BASE, 0)
        return self.of(getattr(self.view, name))

    @property
    def place(self) -> tuple[int, int]:
        """Base and offset in bytes of the first element."""
        return self.base, address(self.view) - self.origin


_ZERO = np.zeros((), np.float32)


def merge_axes(
    extents: Sequence[int], source: Sequence[int], target: Sequence[int]
) -> list[tuple[int, int, int]]:
    """Return (extent, source step, target step) of as few axes as reach the same elements."""
    merged: list[tuple[int, int, int]] = []
    for n, s, t in zip(extents, source, target, strict=True):
        if n == 1:
            continue
        if merged and merged[-1][1:] == (s * n, t * n):
            merged[-1] = (merged[-1][0] * n, s, t)
        else:
            merged.append((n, s, t))
    return merged or [(1, 0, 0)]


def moved_dtypes(source: np.dtype, target: np.dtype) -> tuple[np.dtype, np.dtype]:
    """Return what a move may take two dtypes for, so that fewer pairs of them are compiled.

    Bools are numbers of a byte. The sign of an integer matters where it becomes wider, or a float.
    """
    source, target = number_dtype(source), number_dtype(target)
    if target.kind == "u":
        target = np.dtype(f"i{target.itemsize}")
    if source.kind == "u" and target.kind == "i" and source.itemsize >= target.itemsize:
        source = np.dtype(f"i{source.itemsize}")
    return source, target


def _address_for(function: Any, source: np.dtype, target: np.dtype) -> int:
    """Address of a step's function for two dtypes."""
    found: int = function.address((from_dtype(source), from_dtype(target)))
    return found


class Recipe:
    """The steps of a call, as they are written down.

    Attributes
    ----------
    shape : tuple of int
        Shape of the result.
    threads : int
        Number that the steps are written for; 0: they use one, whatever the caller may use.
    scratch_bytes : int
        Memory that the steps need for the time of the call.
    steps : list of ndarray
        As `protocol` describes them.
    kept : list
        What must live as long as the record, since steps hold its address.
    weights : Weights or None
        Of the prepared layer that is called: the record lives no longer than they do.
    by_python : bool
        Whether there are no steps, and Python makes each call.
    """

    def __init__(self, call: RequestedCall, shape: tuple[int, ...], threads: int = 0) -> None:
        self.shape, self.threads = shape, threads
        self.scratch_bytes = 0
        self.steps: list[np.ndarray] = []
        self.kept: list[Any] = []
        self.weights: Weights | None = None
        self.by_python = False
        self._call = call
        out = call.arguments.get("out")
        if out is not None:
            check_out(out, shape, call.result, {})

    @property
    def launches(self) -> bool:
        """Whether steps use several threads."""
        return self.threads > 1

    @property
    def result_bytes(self) -> int:
        """Size of the result."""
        return math.prod(self.shape) * self._call.result.itemsize

    def has(self, name: str) -> bool:
        """Whether an array is passed."""
        return name in self._call.arrays

    @property
    def has_target(self) -> bool:
        """Whether the caller passes the array for the result."""
        return any(BASES[name] == TARGET for name in self._call.arrays)

    def argument(self, name: str) -> Array:
        """Return an array of the call."""
        view = self._call.arrays[name]
        return Array(view, BASES[name], address(view))

    def result(self) -> Array:
        """Return the array for the result."""
        for name in self._call.arrays:
            if BASES[name] == TARGET:
                return self.argument(name)
        view = placeholder(self.shape, self._call.result)
        return Array(view, TARGET, address(view))

    def fixed(self, array: np.ndarray) -> Array:
        """Return an array that is the same in each call."""
        self.kept.append(array)
        return Array(array, protocol.NO_BASE, 0)

    def scratch(self, shape: Sequence[int], dtype: Any) -> Array:
        """Return an array that lives for the time of the call."""
        view = placeholder(shape, dtype)
        array = Array(view, protocol.SCRATCH, address(view) - self.scratch_bytes)
        self.scratch_bytes += round_up(view.nbytes, 64)
        return array

    def bounds(self) -> list[tuple[int, int]]:
        """First and last byte of each array where `out` might overlap one, else zeros."""
        found = [(0, 0)] * protocol.MOST_ARRAYS
        if self.has("out"):
            for name, array in self._call.arrays.items():
                found[BASES[name]] = span(array)
        return found

    def _append(self, step: Any) -> None:
        self.steps.append(integers(step, protocol.STEP_SIZE))

    def move(self, source: Array, target: Array, kind: int = protocol.COPY) -> None:
        """Write down ``target[...] = source``, or ``-source``, ``+=`` or ``= 0``."""
        if target.view.dtype.kind == "c":
            for part in ("real", "imag"):
                self.move(source.part(part), target.part(part), kind)
            return
        view = np.broadcast_to(source.view, target.view.shape)
        if not view.size:
            return
        axes = merge_axes(view.shape, view.strides, target.view.strides)
        axes = [(1, 0, 0)] * (protocol.MOVE_AXES - len(axes)) + axes
        extents, source_steps, target_steps = zip(*axes, strict=True)
        dtypes = moved_dtypes(view.dtype, target.view.dtype)
        self._append(
            protocol.Move(
                function=_address_for(steps.move, *dtypes),
                source=source.place,
                target=target.place,
                kind=kind,
                extents=extents,
                source_steps=source_steps,
                target_steps=target_steps,
                dense=axes[-1][1:] == tuple(dtype.itemsize for dtype in dtypes),
            )
        )

    def clear(self, target: Array) -> None:
        """Write down ``target[...] = 0``."""
        self.move(target, target, protocol.CLEAR)

    def contiguous(self, source: Array, dtype: np.dtype) -> Array:
        """Return an array's elements, of a dtype, in contiguous memory: copied if they are not."""
        if source.view.dtype == dtype and source.view.flags.c_contiguous:
            return source
        target = self.scratch(source.view.shape, dtype)
        self.move(source, target)
        return target

    def activate(self, target: Array, code: int) -> None:
        """Write down an activation of contiguous elements in place."""
        dtype = target.view.dtype
        self._append(
            protocol.Activation(
                function=_address_for(steps.activate_sums, dtype, dtype),
                target=target.place,
                length=target.view.size,
                activate=kernel_of(code).address(from_dtype(dtype)),
            )
        )

    def apart(self, source: Array, target: Array) -> Array:
        """Return contiguous elements of an argument, or a copy where they are the target."""
        view, dtype = source.view, source.view.dtype
        self._append(
            protocol.Apart(
                function=_address_for(steps.keep_apart, dtype, dtype),
                source=source.place,
                target=target.place,
                copy=self.scratch(view.shape, dtype).place,
                length=view.size,
            )
        )
        return Array(view, protocol.APART, address(view))

    def _jobs(self, jobs: np.ndarray) -> int:
        """Return the address of jobs as compiled callers launch them."""
        self.kept.append(jobs := for_compiled_callers(jobs))
        return address(jobs)

    def convolve(
        self,
        template: Any,
        x: Array,
        weight: Array,
        bias: Array,
        y: Array,
        packed: bool,
        add: Array | None = None,
    ) -> None:
        """Write down the job of a template, on arrays as it reads and stores them."""
        self.kept.append(template)
        dtype = weight.view.dtype
        self._append(
            protocol.Convolution(
                function=_address_for(steps.convolve, dtype, dtype),
                source=x.place,
                target=y.place,
                job=self._jobs(template.job),
                weight=weight.place,
                packed=weight.place,
                bias=bias.place,
                add=(y if add is None else add).place,
                packed_size=weight.view.size if packed else 0,
            )
        )

    def apply_adjoint(
        self,
        jobs: adjoint_chain.Chain,
        x: Array,
        weight: Array,
        bias: Array,
        y: Array,
        packed: bool = False,
        add: Array | None = None,
    ) -> None:
        """Write down the jobs of an adjoint on contiguous arrays; the weights may be packed."""
        self.kept.append(jobs)
        if jobs.exchanged:
            x, weight = weight, x
        dtype = y.view.dtype
        panels = weight if packed else self.scratch((jobs.packed,), dtype)
        self._append(
            protocol.Adjoint(
                function=_address_for(steps.apply_adjoint, dtype, dtype),
                source=x.place,
                target=y.place,
                jobs=self._jobs(jobs.jobs),
                weight=weight.place,
                packed=panels.place,
                bias=bias.place,
                add=(y if add is None else add).place,
                packs=not packed,
                workspace=self.scratch((jobs.scratch,), dtype).place,
            )
        )

    def sum_weights(self, template: weight.Template, x: Array, gradient: Array, y: Array) -> None:
        """Write down the job of the gradient of weights on contiguous arrays."""
        self.kept.append(template)
        dtype = y.view.dtype
        self._append(
            protocol.WeightSums(
                function=_address_for(steps.sum_weights, dtype, dtype),
                source=x.place,
                target=y.place,
                job=self._jobs(template.job),
                gradient=gradient.place,
                zeros=self.fixed(template.no_bias).place,
                sums=self.scratch((template.sums,), dtype).place,
                scratch=self.scratch((template.scratch,), dtype).place,
                sums_size=template.sums,
            )
        )
