"""What the CPU backends share: templates of jobs, packed weights, and the launch."""

from types import ModuleType
from typing import NamedTuple

import numpy as np
from numba.core import config

from numbaconv import job as _job
from numbaconv.dtypes import Arithmetic
from numbaconv.job import (
    ACTIVATION,
    PACK_ROWS,
    PACK_TAPS_OUTER,
    PACK_WORKERS,
    PACKER,
    SCRATCH_SIZE,
    SHAPE,
    TABLE,
    WORKERS,
    new_template,
    set_entries,
)
from numbaconv.shape import ConvShape
from numbaconv.threads import turn

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
    backend: ModuleType, shape: ConvShape, arithmetic: Arithmetic, threads: int, activation: int
) -> Template:
    """Return the job of a problem, complete but for its data."""
    itemsize = arithmetic.compute.itemsize
    job = new_template()
    set_entries(job, SHAPE, shape.as_tuple())
    job[ACTIVATION] = activation
    backend.set_addresses(job, shape, arithmetic.numba)
    tasks = backend.plan(job, shape, itemsize, threads)
    job[WORKERS] = max(1, min(threads, tasks))
    if job[SCRATCH_SIZE]:
        job[SCRATCH_SIZE] += _GAP_BYTES // itemsize
    job[PACK_WORKERS] = threads
    table = backend.make_table(shape, itemsize, threads)
    job[TABLE] = table if config.DISABLE_JIT else table.ctypes.data
    order = (int(job[PACK_ROWS]), int(job[PACK_TAPS_OUTER])) if job[PACKER] else ()
    return Template(job, table, order)


def pack(template: Template, weights: np.ndarray) -> np.ndarray:
    """Return flat weights in the order in which the problem's kernels read them."""
    if not template.order:
        return weights.copy()
    with turn(template.job[PACK_WORKERS]):
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
    with turn(template.job[WORKERS]):
        _job.run(template.job, x, weights, packed, bias, out)
