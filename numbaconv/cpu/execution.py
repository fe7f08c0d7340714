"""A planned convolution on the CPU: flat arrays, a job, packed weights, and the launch."""

from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numba.core import config

from numbaconv.cpu import job as _job
from numbaconv.cpu.activation import activate_array
from numbaconv.cpu.arrays import flat_bias, flat_input, flat_output, flat_weight
from numbaconv.cpu.job import AT, SHAPE, new_template, set_entries
from numbaconv.problem.activations import NONE
from numbaconv.problem.dtypes import Arithmetic
from numbaconv.problem.plan import Plan
from numbaconv.problem.shape import ConvShape, one_row
from numbaconv.runtime.threads import thread_limit, turn

# Between the scratch of two workers. What one reads at a stride makes the hardware read on beyond
# the end, and the neighbour has to fetch its lines back before it can write them: without a gap
# pointwise layers of 16 to 64 channels on 20 x 20 took 1.1 to 1.2 times as long. It is not touched,
# so it costs addresses and no memory.
_GAP_BYTES = 1 << 15


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
    """

    job: np.ndarray
    table: np.ndarray
    order: tuple[int, ...]


def make_template(
    engine: ModuleType, shape: ConvShape, arithmetic: Arithmetic, threads: int, activation: int
) -> Template:
    """Return the job of a problem, complete but for its data."""
    itemsize = arithmetic.compute.itemsize
    job = new_template()
    set_entries(job, SHAPE, shape.as_tuple())
    job[AT.activation] = activation
    engine.set_addresses(job, shape, arithmetic.numba)
    tasks = engine.plan(job, shape, itemsize, threads)
    job[AT.workers] = max(1, min(threads, tasks))
    if job[AT.scratch_size]:
        job[AT.scratch_size] += _GAP_BYTES // itemsize
    job[AT.pack_workers] = threads
    table = engine.make_table(shape, itemsize, threads)
    job[AT.table] = table if config.DISABLE_JIT else table.ctypes.data
    order = (int(job[AT.pack_rows]), int(job[AT.pack_taps_outer])) if job[AT.packer] else ()
    return Template(job, table, order)


def pack(template: Template, weights: np.ndarray) -> np.ndarray:
    """Return flat weights in the order in which the problem's kernels read them."""
    if not template.order:
        return weights.copy()
    with turn(template.job[AT.pack_workers]):
        packed: np.ndarray = _job.pack(template.job, weights)[0]
        return packed


def run(
    template: Template,
    x: np.ndarray,
    weights: np.ndarray,
    packed: np.ndarray,
    bias: np.ndarray,
    out: np.ndarray,
) -> None:
    """Convolve flat arrays; `packed` is empty or comes from `pack`."""
    with turn(template.job[AT.workers]):
        _job.run(template.job, x, weights, packed, bias, out)


def find_template(plan: Plan, engine: ModuleType, threads: int) -> Template:
    """Return the job of a planned convolution on an engine; the plan keeps it."""
    template = plan.jobs.get((engine, threads))
    if template is None:
        template = make_template(
            engine, one_row(plan.shape), plan.arithmetic, threads, plan.activation
        )
        plan.jobs[engine, threads] = template
    return template


def execute(
    plan: Plan,
    engine: ModuleType,
    input: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    out: np.ndarray | None,
    kept: dict[Any, Any] | None = None,
) -> np.ndarray:
    """Run a planned convolution on an engine.

    `out` is checked. `kept` is where a prepared layer keeps its packed weights.
    """
    y, deliver = flat_output(plan, out)
    b = flat_bias(bias, plan)
    if plan.multiply_adds:
        template = find_template(plan, engine, thread_limit(plan.multiply_adds))
        x = flat_input(input, plan)
        if kept is None:
            run(template, x, flat_weight(weight, plan), plan.not_packed, b, y)
        else:
            packed = packed_weights(template, weight, plan, kept)
            run(template, x, packed, packed, b, y)
    elif y.size:  # no input channels: sums of nothing, so the bias is left
        fill_with_bias(y, b, plan)
    return deliver(y, plan, out)


def packed_weights(
    template: Template, weight: np.ndarray, plan: Plan, kept: dict[Any, np.ndarray]
) -> np.ndarray:
    """Return a layer's packed weights, packed now if they were not for this kind of job."""
    key = template.order, plan.arithmetic.convert.char
    packed = kept.get(key)
    if packed is None:
        packed = kept[key] = pack(template, flat_weight(weight, plan))
    return packed


def fill_with_bias(y: np.ndarray, bias: np.ndarray, plan: Plan) -> None:
    """Set every output to its channel's bias, activated."""
    bias = bias.copy()
    if plan.activation != NONE:
        activate_array(bias, plan.activation)
    s = plan.shape
    if s.out_strides[1] == 1 and s.out_strides[4] != 1:
        y.reshape(-1, plan.channels)[:] = bias
    else:
        y.reshape(s.n, plan.channels, s.pixels)[:] = bias[:, None]
