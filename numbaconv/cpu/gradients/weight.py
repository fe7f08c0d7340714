"""Gradients of convolutions with respect to their weights: planning, and the launch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba.core import config

from numbaconv.codegen.pointers import CACHE_LINE
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu.arrays import flat_channels, narrowed
from numbaconv.cpu.gradients import weight_tasks
from numbaconv.cpu.gradients.weight_dots import dot_scratch, dots_work, tile_layout
from numbaconv.cpu.gradients.weight_products import (
    fill_patches,
    products_scratch,
    products_work,
    seen_by_products,
    tile_sizes,
    tiles_together,
)
from numbaconv.cpu.gradients.weight_strips import strips_work
from numbaconv.cpu.gradients.weight_tasks import (
    BY_COLUMNS,
    DOTS,
    EXCHANGED,
    GRADIENT_AT,
    PRODUCTS,
    STRIPS,
    finish_work,
)
from numbaconv.cpu.job import (
    AT,
    HALO,
    SHAPE,
    check_complete,
    new_template,
    set_entries,
    set_scratch,
)
from numbaconv.cpu.launching import set_launch
from numbaconv.cpu.microkernels.dot import dot
from numbaconv.cpu.microkernels.matrix_transposed import pixel_tile
from numbaconv.cpu.microkernels.strip_sums import strip_sums
from numbaconv.cpu.packing.halo import filler, tap_offsets
from numbaconv.cpu.packing.transpose import transpose
from numbaconv.problem.dtypes import Arithmetic
from numbaconv.problem.plan import WeightPlan
from numbaconv.problem.shape import ConvShape
from numbaconv.runtime import result_memory
from numbaconv.runtime.threads import launch_lock, thread_limit


class Template(NamedTuple):
    """A job without its data, the table that it points to, elements of sums and of scratch.

    With no sums beside the result, that takes them as they are. `no_bias` are the zeros with which
    a register tile begins.
    """

    job: np.ndarray
    table: np.ndarray
    no_bias: np.ndarray
    sums: int
    scratch: int


def make_template(s: ConvShape, how: Arithmetic, threads: int, patches: bool) -> Template:
    """Return the job of a problem, complete but for its data."""
    itemsize, lanes = how.compute.itemsize, VECTOR_BYTES // how.compute.itemsize
    s, seen_as = weight_tasks.as_seen(s, lanes, patches)
    b = weight_tasks.cut(s, itemsize, threads, patches)
    if b.lowering == PRODUCTS:
        seen = seen_by_products(s, b)
        b = b._replace(together=tiles_together(seen, b, itemsize))
    job = new_template()
    set_entries(job, SHAPE, s.as_tuple())
    set_entries(job, weight_tasks.GRADIENT_BLOCKS, b)
    set_launch(job, threads)
    job[AT.itemsize], job[AT.lanes] = itemsize, lanes
    job[AT.workers] = max(1, min(threads, b.tasks))
    job[GRADIENT_AT.finish] = finish_work.address(how.numba)
    job[GRADIENT_AT.seen_as] = seen_as
    job[GRADIENT_AT.transpose] = transpose.address(how.numba)
    table = np.zeros(0, np.int64)
    if b.lowering == STRIPS:
        job[AT.worker] = strips_work.address(how.numba)
        job[GRADIENT_AT.dot] = strip_sums.address(how.numba)
    elif b.lowering == DOTS:
        halo = tile_layout(s, b, itemsize)
        set_entries(job, HALO, halo)
        set_scratch(job, dot_scratch(s, b, halo, lanes))
        job[AT.worker], job[GRADIENT_AT.dot] = dots_work.address(how.numba), dot.address(how.numba)
        if not b.in_place:
            job[AT.fill_halo] = filler(s, halo, lanes).address((how.numba, how.numba))
        table = tap_offsets(s, halo, s.c_in)
    else:
        set_scratch(job, products_scratch(seen, b, lanes))
        job[AT.index_size] = 2 * tile_sizes(seen, b)[1]
        job[AT.worker] = products_work.address(how.numba)
        if b.patches:
            job[AT.pack_panel] = fill_patches.address(how.numba)
        job[AT.tile] = pixel_tile.address(how.numba)
    job[AT.table] = table if config.DISABLE_JIT else table.ctypes.data
    ordered = b.lowering != PRODUCTS or s.taps == 1 or b.patches or seen_as == BY_COLUMNS
    in_place = b.slabs == 1 and ordered and seen_as != EXCHANGED
    sums = 0 if in_place else b.slabs * s.groups * s.c_out * s.c_in * s.taps
    scratch = int(job[AT.workers] * job[AT.scratch_size]) + CACHE_LINE
    no_bias = np.zeros(b.nr, how.compute)
    return Template(job, table, no_bias, sums, scratch)


def find_template(plan: WeightPlan, threads: int, patches: bool) -> Template:
    """Return the job of a planned gradient; the plan keeps it."""
    template = plan.jobs.get((patches, threads))
    if template is None:
        template = make_template(plan.simplest, plan.arithmetic, threads, patches)
        plan.jobs[patches, threads] = template
    return template


def add_products(
    plan: WeightPlan, x: np.ndarray, gradient: np.ndarray, patches: bool = False
) -> np.ndarray:
    """Return the sums of a planned gradient, flat, from flat arrays.

    With `patches` each chunk of pixels is written out as patches.
    """
    dtype = plan.arithmetic.compute
    template = find_template(plan, thread_limit(plan.multiply_adds), patches)
    sizes = plan.out_size, template.sums, template.scratch
    y, sums, scratch = (result_memory.empty(elements, dtype) for elements in sizes)
    with launch_lock(int(template.job[AT.workers])):
        given = template.job, x, gradient, template.no_bias, sums, scratch, y
        check_complete(weight_tasks.run_sums.call(given))
    return y


def weight_gradient(
    plan: WeightPlan,
    input: np.ndarray,
    grad_output: np.ndarray,
    add_up: Callable[[WeightPlan, np.ndarray, np.ndarray], np.ndarray] = add_products,
) -> np.ndarray:
    """Run a planned gradient, whose sums a function adds up."""
    how, c = plan.arithmetic, 1 if plan.batched else 0
    if not plan.multiply_adds:
        return np.zeros(plan.out_shape, plan.result)
    y = add_up(plan, flat_channels(input, how, c), flat_channels(grad_output, how, c))
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
