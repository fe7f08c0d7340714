"""A planned convolution on the CPU: flat arrays, a job, packed weights, and the launch."""

from typing import Any, NamedTuple

import numba
import numpy as np
from numba.core import config

from numbaconv._imports import Later
from numbaconv.codegen.pointers import CACHE_LINE
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu import job as _job
from numbaconv.cpu.arrays import (
    flat_add,
    flat_bias,
    flat_input,
    flat_output,
    flat_weight,
)
from numbaconv.cpu.job import (
    AT,
    BLOCKS,
    HALO,
    SHAPE,
    check_complete,
    new_template,
    set_entries,
    set_scratch,
)
from numbaconv.cpu.launching import set_launch
from numbaconv.cpu.lowering import Engine, Lowering
from numbaconv.cpu.packing.reading import element_type
from numbaconv.cpu.packing.weights import pack_panel, pack_work
from numbaconv.problem.activations import NONE
from numbaconv.problem.dtypes import Arithmetic
from numbaconv.problem.plan import AnyPlan, Plan
from numbaconv.problem.shape import ConvShape
from numbaconv.runtime.threads import launch_lock, thread_limit

activate_array = Later("numbaconv.cpu.activation", "activate_array")
kernel_of = Later("numbaconv.cpu.activation", "kernel_of")
adder = Later("numbaconv.cpu.finishing", "adder")


class Template(NamedTuple):
    """A job without its data.

    Attributes
    ----------
    job : ndarray
        The job.
    table : ndarray
        The table that its address of one points to.
    order : tuple of int
        What the order of packed weights depends on; empty: they are read as they are.
    reads : dtype
        In which it reads the input.
    outside : ndarray or None
        What lies outside of the input; None: zeros.
    """

    job: np.ndarray
    table: np.ndarray
    order: tuple[int, ...]
    reads: np.dtype
    outside: np.ndarray | None = None


def write_job(
    lowering: Lowering,
    s: ConvShape,
    arithmetic: Arithmetic,
    threads: int,
    activation: int,
    reads: np.dtype,
    adds: bool = False,
) -> np.ndarray:
    """Return the job of a lowered problem, complete but for its data.

    The functions that it names are compiled. `adds` says whether an array is added to the sums.
    """
    job: np.ndarray = new_template()
    packing = lowering.packing
    set_entries(job, SHAPE, (lowering.problem or s).as_tuple())
    set_entries(job, BLOCKS, lowering.blocks)
    set_entries(job, HALO, lowering.layout)
    functions = {
        AT.worker: lowering.worker,
        AT.tile: lowering.tile,
        AT.prefetching_tile: lowering.prefetching_tile,
        AT.band: lowering.band,
        AT.fill_halo: lowering.fill_halo,
        AT.store: lowering.store,
        AT.packer: lowering.packer or (pack_work if packing and not packing.in_task else None),
        AT.pack_panel: None if packing is None or lowering.packer else pack_panel,
        AT.add_tile: adder() if adds else None,
        AT.activate: None if activation == NONE else kernel_of(activation),
        **dict(enumerate(lowering.functions, HALO + len(lowering.layout))),
    }
    element = arithmetic.numba
    converted = {AT.fill_halo: element_type(reads), AT.store: element}
    for place, function in functions.items():
        if function is not None:
            pair = element, converted.get(place)
            job[place] = function.address(pair if function.converts else element)
    itemsize = arithmetic.compute.itemsize
    set_launch(job, threads)
    job[AT.itemsize], job[AT.in_size] = itemsize, reads.itemsize
    job[AT.lanes] = VECTOR_BYTES // itemsize
    job[AT.pack_workers], job[AT.workers] = threads, max(1, min(threads, lowering.blocks.tasks))
    set_scratch(job, lowering.scratch_size)
    job[AT.index_size] = lowering.index_size
    job[AT.packed_size] = _job.size_of_packed(lowering.packed_size or s.weights)
    job[AT.pack_scratch] = lowering.pack_scratch
    job[AT.taps_in_place] = lowering.taps_in_place
    job[AT.prefetch_distance] = lowering.prefetch_distance
    job[AT.asks_for_results] = lowering.asks_for_results
    job[AT.empty_before], job[AT.empty_behind] = lowering.empty_columns
    job[AT.nontemporal] = lowering.nontemporal and activation == NONE and not adds
    if packing is not None:
        order = AT.pack_rows, AT.pack_taps_outer, AT.pack_in_task, AT.panel_size
        for place, value in zip(order, packing, strict=True):
            job[place] = value
    job[AT.table] = lowering.table if config.DISABLE_JIT else lowering.table.ctypes.data
    return job


def make_template(
    engine: Engine,
    s: ConvShape,
    arithmetic: Arithmetic,
    threads: int,
    activation: int,
    source: np.dtype | None = None,
    outside: np.ndarray | None = None,
    adds: bool = False,
) -> Template:
    """Return the job of a problem on an engine, complete but for its data.

    Where the problem converts, it reads an input of the dtype `source`. `outside` is what padding
    of zeros consists of instead. `adds` says whether an array is added to the sums.
    """
    lowering = engine.lower(s, arithmetic.compute, threads)
    reads = arithmetic.compute if source is None else source
    job = write_job(lowering, s, arithmetic, threads, activation, reads, adds)
    if outside is not None:
        job[AT.outside] = outside if config.DISABLE_JIT else outside.ctypes.data
    order = lowering.packed_order
    if lowering.packing is not None and lowering.packer is None:
        order = *lowering.packing[:2], s.taps
    return Template(job, lowering.table, order, reads, outside)


def pack(template: Template, weights: np.ndarray) -> np.ndarray:
    """Return flat weights in the order in which the problem's kernels read them."""
    if not template.order:
        return weights.copy()
    job = template.job
    if job[AT.packer] == 0:  # calls that bring their weights need no worker that packs
        job[AT.packer] = pack_work.address(numba.from_dtype(weights.dtype))
    with launch_lock(job[AT.pack_workers]):
        packed = from_a_cache_line(job[AT.packed_size], weights.dtype)
        check_complete(_job.pack.call((job, weights, packed)))
        return packed


def run(
    template: Template,
    x: np.ndarray,
    weights: np.ndarray,
    packed: np.ndarray,
    bias: np.ndarray,
    out: np.ndarray,
    add: np.ndarray | None = None,
) -> None:
    """Convolve flat arrays; `packed` is empty or comes from `pack`."""
    _job.execute(template, x, weights, packed, bias, out, add)


def find_lowering(plan: Plan, engine: Engine) -> Lowering:
    """Return how an engine computes a planned convolution."""
    threads = thread_limit(plan.multiply_adds)
    lowering: Lowering = engine.lower(plan.simplest, plan.arithmetic.compute, threads)
    return lowering


def find_template(plan: Plan, engine: Engine, threads: int) -> Template:
    """Return the job of a planned convolution on an engine; the plan keeps it."""
    template = plan.jobs.get((engine, threads))
    if template is None:
        problem = plan.simplest, plan.arithmetic, threads, plan.activation
        template = make_template(engine, *problem, plan.source, plan.outside, plan.adds)
        plan.jobs[engine, threads] = template
    return template


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
    """Run a planned convolution on an engine.

    `out` is checked. `kept` is where a prepared layer keeps its packed weights.
    """
    y, deliver = flat_output(plan, out)
    b, r = flat_bias(bias, plan), flat_add(add, plan, y)
    if plan.multiply_adds:
        template = find_template(plan, engine, thread_limit(plan.multiply_adds))
        x = flat_input(input, plan, template.reads)
        if kept is None:
            run(template, x, flat_weight(weight, plan), plan.not_packed, b, y, r)
        else:
            packed = packed_weights(template, weight, plan, kept)
            run(template, x, packed, packed, b, y, r)
    elif y.size:  # no input channels: sums of nothing, so the bias is left
        fill_with_bias(y, b, plan, r)
    return deliver(y, plan, out)


def from_a_cache_line(size: int, dtype: Any) -> np.ndarray:
    """Return an empty array that begins at a cache line.

    Those of NumPy begin 16 bytes behind one where they are large, and every vector that tiles load
    from it would lie across two lines.
    """
    nbytes = int(size) * np.dtype(dtype).itemsize
    memory = np.empty(nbytes + CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % CACHE_LINE
    return memory[start : start + nbytes].view(dtype)


def packed_weights(
    template: Template, weight: np.ndarray, plan: Plan, kept: dict[Any, np.ndarray]
) -> np.ndarray:
    """Return a layer's packed weights, packed now if they were not for this kind of job."""
    key = template.order, plan.arithmetic.convert.char
    packed = kept.get(key)
    if packed is None:
        packed = kept[key] = pack(template, flat_weight(weight, plan))
    return packed


def fill_with_bias(
    y: np.ndarray, bias: np.ndarray, plan: AnyPlan, add: np.ndarray | None = None
) -> None:
    """Set every output to the sum of no products: its channel's bias and what is added, activated.

    Without anything to add, all outputs of a channel are the same.
    """
    result, each = plan.by_channel
    with np.errstate(all="ignore"):
        sums = bias.copy() if add is None else bias.reshape(each) + add.reshape(result)
    if plan.activation != NONE:
        activate_array(sums.reshape(-1), plan.activation)
    y.reshape(result)[...] = sums.reshape(each if add is None else result)
