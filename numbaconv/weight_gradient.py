"""Gradients of convolutions with respect to their weights: planning, and the launch."""

from typing import Any, NamedTuple

import numpy as np
from numba.core import config

from numbaconv import recycling, spare
from numbaconv.backends import weight_tasks
from numbaconv.backends.weight_dots import dots_work
from numbaconv.backends.weight_products import products_work, scratch_sizes
from numbaconv.backends.weight_tasks import finish_work
from numbaconv.blocking import TILE_ROWS
from numbaconv.dot import dot
from numbaconv.dtypes import Arithmetic, arithmetic
from numbaconv.halo import fill_halo, halo_layout, tap_offsets
from numbaconv.job import (
    FILL_HALO,
    HALO,
    INDEX_SIZE,
    LANES,
    SCRATCH_SIZE,
    SHAPE,
    TABLE,
    TILE,
    WORKER,
    WORKERS,
    new_template,
    set_entries,
)
from numbaconv.layout import flat_channels, narrowed
from numbaconv.microkernel import tile
from numbaconv.plan import Problem
from numbaconv.pointers import CACHE_LINE
from numbaconv.shape import ConvShape
from numbaconv.target import VECTOR_BYTES
from numbaconv.threads import thread_limit, turn
from numbaconv.transposition import transpose


class Template(NamedTuple):
    """A job without its data, the table that it points to, elements of sums and of scratch.

    With no sums beside the result, that takes them as they are.
    """

    job: np.ndarray
    table: np.ndarray
    sums: int
    scratch: int


def make_template(s: ConvShape, how: Arithmetic, threads: int, patches: bool) -> Template:
    """Return the job of a problem, complete but for its data."""
    itemsize, lanes = how.compute.itemsize, VECTOR_BYTES // how.compute.itemsize
    b = weight_tasks.cut(s, itemsize, threads, patches)
    job = new_template()
    set_entries(job, SHAPE, s.as_tuple())
    set_entries(job, weight_tasks.WEIGHT_BLOCKS, b)
    job[LANES] = lanes
    job[WORKERS] = max(1, min(threads, b.tasks))
    job[weight_tasks.FINISH] = finish_work.address(how.numba)
    job[weight_tasks.TRANSPOSE] = transpose.address(how.numba)
    if b.dots:
        halo = halo_layout(s, b.rows, b.cols, itemsize)
        set_entries(job, HALO, halo)
        job[SCRATCH_SIZE] = weight_tasks.dot_scratch(s, b, lanes)
        job[WORKER], job[weight_tasks.DOT] = dots_work.address(how.numba), dot.address(how.numba)
        job[FILL_HALO] = fill_halo.address(how.numba)
        table = tap_offsets(s, halo, s.c_in)
    else:
        packed, tile_of_x, pixels = scratch_sizes(s, b)
        job[SCRATCH_SIZE], job[INDEX_SIZE] = packed + tile_of_x, 2 * pixels
        job[WORKER], job[TILE] = products_work.address(how.numba), tile.address(how.numba)
        table = np.zeros(0, np.int64)
    job[TABLE] = table if config.DISABLE_JIT else table.ctypes.data
    in_place = b.slabs == 1 and (b.dots or s.taps == 1)
    sums = 0 if in_place else b.slabs * s.groups * s.c_out * s.c_in * s.taps
    scratch = int(job[WORKERS] * job[SCRATCH_SIZE]) + CACHE_LINE
    return Template(job, table, sums, scratch)


class WeightPlan:
    """What the gradient of a convolution's weights needs beside its data.

    Parameters
    ----------
    problem : Problem
        The convolution.
    result : dtype
        Dtype of the gradient.
    out_shape : tuple of int
        Shape of the weights.
    """

    def __init__(self, problem: Problem, result: np.dtype, out_shape: tuple[int, ...]) -> None:
        self.shape, self.batched = problem.shape, problem.batched
        self.result, self.out_shape = result, out_shape
        self.arithmetic = arithmetic(result)
        self.multiply_adds = self.shape.flops // 2
        self.zeros = np.zeros(TILE_ROWS, self.arithmetic.compute)
        self._templates: dict[tuple[bool, int], Template] = {}
        self.on_devices: dict[Any, Any] = {}  # what the cuda backend keeps of it

    def template(self, name: str, threads: int) -> Template:
        """Return the job on a backend: `im2col` writes out the patches of each chunk of pixels."""
        patches = name == "im2col"
        found = self._templates.get((patches, threads))
        if found is None:
            found = make_template(self.shape, self.arithmetic, threads, patches)
            self._templates[patches, threads] = found
        return found


def weight_gradient(
    plan: WeightPlan, name: str, input: np.ndarray, grad_output: np.ndarray
) -> np.ndarray:
    """Run a planned gradient on a backend, ``auto`` or one of the CPU."""
    s, how, c = plan.shape, plan.arithmetic, 1 if plan.batched else 0
    size = s.groups * s.c_out * s.c_in * s.taps
    if not plan.multiply_adds:
        return np.zeros(plan.out_shape, plan.result)
    template = plan.template(name, thread_limit(plan.multiply_adds))
    y, sums = recycling.empty(size, how.compute), spare.borrow(template.sums, how.compute)
    scratch = spare.borrow(template.scratch, how.compute)
    x, gradient = flat_channels(input, how, c), flat_channels(grad_output, how, c)
    with turn(int(template.job[WORKERS])):
        weight_tasks.run_sums(template.job, x, gradient, plan.zeros, sums, scratch, y)
    spare.give_back(sums)
    spare.give_back(scratch)
    if not how.is_complex:
        return narrowed(y, plan.result).reshape(plan.out_shape)
    return _complex_sums(y, plan)


def _complex_sums(y: np.ndarray, plan: WeightPlan) -> np.ndarray:
    """Combine the products of real and imaginary parts: gradient * conj(input)."""
    c_out, c_in, *kernel = plan.out_shape
    parts: Any = y.reshape(c_out, 2, c_in, 2, *kernel)
    result = np.empty(plan.out_shape, plan.result)
    with np.errstate(all="ignore"):  # what kernels do: inf and NaN are results like any other
        result.real = parts[:, 0, :, 0] + parts[:, 1, :, 1]
        result.imag = parts[:, 1, :, 0] - parts[:, 0, :, 1]
    return result
