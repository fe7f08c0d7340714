"""What the CPU backends share: templates of jobs, packed weights, and the launch."""

from types import ModuleType

import numpy as np

from numbaconv import job as _job
from numbaconv.dtypes import Arithmetic
from numbaconv.job import (
    ACTIVATION,
    BAND,
    PACK_WORKERS,
    PACKER,
    SHAPE,
    TILE,
    WORKER,
    WORKERS,
    new_template,
    set_entries,
)
from numbaconv.microkernel import band, tile
from numbaconv.packing import pack_work
from numbaconv.shape import ConvShape
from numbaconv.threads import turn


def make_template(
    backend: ModuleType, shape: ConvShape, arithmetic: Arithmetic, threads: int, activation: int
) -> np.ndarray:
    """Return the job of a problem, complete but for its data."""
    job = new_template()
    dtype = arithmetic.numba
    set_entries(job, SHAPE, shape.as_tuple())
    tasks = backend.plan(job, shape, arithmetic.compute.itemsize, threads)
    job[TILE] = tile.address(dtype)
    job[BAND] = band.address(dtype) if backend.uses_bands(shape) else 0
    job[PACKER] = 0 if backend.uses_bands(shape) else pack_work.address(dtype)
    job[WORKER] = backend.work.address(dtype)
    job[PACK_WORKERS] = threads if shape.groups * shape.c_out > 1 else 1
    job[WORKERS] = max(1, min(threads, tasks))
    job[ACTIVATION] = activation
    return job


def pack(template: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return flat weights in the order in which the problem's kernels read them."""
    if not template[PACKER]:
        return weights.copy()
    with turn(template[PACK_WORKERS]):
        return _job.pack(template, weights)[0]


def run(
    template: np.ndarray,
    x: np.ndarray,
    weights: np.ndarray,
    packed: np.ndarray,
    bias: np.ndarray,
    out: np.ndarray,
) -> None:
    """Convolve flat arrays; `packed` is empty or comes from `pack`."""
    with turn(template[WORKERS]):
        _job.run(template, x, weights, packed, bias, out)
