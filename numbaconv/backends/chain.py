"""Several convolutions of one input into one output, in one launch: the phases of an adjoint.

The jobs of the phases lie one behind the other. The workers of a launch do their share of each
in turn, with no barrier between: phases write to different elements.
"""

from typing import Any, NamedTuple

import numpy as np

from numbaconv.backends import cpu
from numbaconv.dtypes import Arithmetic
from numbaconv.jit import inline, kernel, native
from numbaconv.job import (
    BIAS,
    COUNTER,
    GRADIENT,
    INDEX_SIZE,
    INDICES,
    JOB_SIZE,
    LANES,
    OUT,
    PACK_TAPS_OUTER,
    PACK_WORKERS,
    PACKED,
    PACKER,
    SCRATCH,
    SCRATCH_SIZE,
    SHAPE,
    WEIGHTS,
    WORKER,
    WORKERS,
    X,
    launch,
    worker_signature,
)
from numbaconv.packing import block_rows, register_rows
from numbaconv.phases import Phase
from numbaconv.pointers import (
    address_of,
    call,
    fetch_add,
    indices_at,
    keep_scalar,
    pointer_at,
    shift,
)
from numbaconv.shape import kernel_taps, read_shape
from numbaconv.threads import turn
from numbaconv.transposition import transpose

# In the first job: jobs of the chain; address of `chain_work`; which address of each job to call.
JOBS, CHAIN, CALLED = GRADIENT, GRADIENT + 1, GRADIENT + 2
# In each job: address of `transpose`, index of its first output, rows of its packed blocks, and
# the `Taps` of its phase.
TRANSPOSE, ORIGIN, ROWS, TAPS = GRADIENT + 3, GRADIENT + 4, GRADIENT + 5, GRADIENT + 6

# Input channels that a packing task takes.
PACK_CHANNELS = 32


class Taps(NamedTuple):
    """Which taps of the whole kernel a phase has: kernel, first tap, steps, for each axis."""

    kd: int
    kh: int
    kw: int
    first_d: int
    first_h: int
    first_w: int
    apart_d: int
    apart_h: int
    apart_w: int


@inline
def read_taps(job):
    """Rebuild the taps that `make_chain` wrote."""
    i = TAPS
    return Taps(
        job[i],
        job[i + 1],
        job[i + 2],
        job[i + 3],
        job[i + 4],
        job[i + 5],
        job[i + 6],
        job[i + 7],
        job[i + 8],
    )


@inline
def source_tap(t, s, tap):
    """Tap of the whole kernel that the phase's tap `tap` is: they run in opposite directions."""
    kw = tap % s.kernel[2]
    kh = tap // s.kernel[2] % s.kernel[1]
    kd = tap // (s.kernel[1] * s.kernel[2])
    d = t.first_d + (s.kernel[0] - 1 - kd) * t.apart_d
    h = t.first_h + (s.kernel[1] - 1 - kh) * t.apart_h
    w = t.first_w + (s.kernel[2] - 1 - kw) * t.apart_w
    return (d * t.kh + h) * t.kw + w


@inline
def pack_channel(job, s, t, target, source, rows, tap_step):
    """One input channel of a block: target[tap * tap_step + i] = source[i][tap of the kernel].

    `source` holds the whole kernels of `rows` output channels, one behind the other.
    """
    taps, all_taps = kernel_taps(s), t.kd * t.kh * t.kw
    if taps == all_taps:  # all of them, backwards
        at = shift(target, (taps - 1) * tap_step)
        call(job[TRANSPOSE], (at, -tap_step, source, all_taps, rows, taps, job[LANES]))
    else:
        for tap in range(taps):
            at, of = tap * tap_step, source_tap(t, s, tap)
            for i in range(rows):
                keep_scalar()
                target[at + i] = source[i * all_taps + of]


@native(worker_signature)
def pack_phase(worker, job, like):
    """Write the weights (C_in, C_out, taps) of an adjoint as panels [group][block][k][rows].

    The phase convolves from the C_in channels of the output's gradient to the C_out of the
    input's. A task is some of the C_in channels of one block.
    """
    s, t = read_shape(job, SHAPE), read_taps(job)
    weights, packed = pointer_at(job[WEIGHTS], like), pointer_at(job[PACKED], like)
    taps, all_taps = kernel_taps(s), t.kd * t.kh * t.kw
    blocks = -(-s.c_out // job[ROWS])
    pieces = -(-s.c_in // PACK_CHANNELS)
    task = fetch_add(indices_at(job[COUNTER]))
    while task < s.groups * blocks * pieces:
        panel = task // pieces
        first = (task - panel * pieces) * PACK_CHANNELS
        g = panel // blocks
        block = panel - g * blocks
        rows = block_rows(s.c_out, job[ROWS], block)
        tap_step, channel_step = rows, taps * rows
        if job[PACK_TAPS_OUTER] != 0:
            tap_step, channel_step = s.c_in * rows, rows
        target = shift(packed, (g * s.c_out + block * job[ROWS]) * s.c_in * taps)
        for c in range(first, min(first + PACK_CHANNELS, s.c_in)):
            of = ((g * s.c_in + c) * s.c_out + block * job[ROWS]) * all_taps
            source = shift(weights, of)
            pack_channel(job, s, t, shift(target, c * channel_step), source, rows, tap_step)
        task = fetch_add(indices_at(job[COUNTER]))


@native(worker_signature)
def chain_work(worker, jobs, like):
    """Do a worker's share of each job of a chain."""
    for j in range(jobs[JOBS]):
        job = shift(jobs, j * JOB_SIZE)
        call(job[jobs[CALLED]], (worker, job, 0))


@kernel()
def run_chain(templates, x, weights, bias, out):
    """Pack the weights of all jobs, then convolve: flat arrays of one dtype, as in `job.run`."""
    jobs = templates.copy()
    count = jobs[JOBS]
    counters = np.zeros(2 * count, np.int64)
    packed = np.empty(weights.size, weights.dtype)
    scratch = np.empty(jobs[WORKERS] * jobs[SCRATCH_SIZE], x.dtype)
    indices = np.empty(jobs[WORKERS] * jobs[INDEX_SIZE], np.int64)
    at = 0
    for j in range(count):
        job = jobs[j * JOB_SIZE : (j + 1) * JOB_SIZE]
        job[COUNTER] = address_of(counters[j:])
        job[X] = address_of(x)
        job[WEIGHTS] = address_of(weights)
        job[PACKED] = address_of(packed[at:])
        job[BIAS] = address_of(bias)
        job[OUT] = address_of(out[job[ORIGIN] :])
        job[SCRATCH] = address_of(scratch)
        job[INDICES] = address_of(indices)
        s = read_shape(job, SHAPE)
        at += s.groups * s.c_out * s.c_in * kernel_taps(s)
    jobs[CALLED] = PACKER
    launch(jobs[CHAIN], jobs[PACK_WORKERS], jobs)
    for j in range(count):
        jobs[j * JOB_SIZE + COUNTER] = address_of(counters[count + j :])
    jobs[CALLED] = WORKER
    launch(jobs[CHAIN], jobs[WORKERS], jobs)
    # Only addresses were handed on: this use keeps the memory until the workers are done.
    return packed.size + scratch.size + indices.size + counters.size


class Chain(NamedTuple):
    """The jobs of a chain without their data, and the tables that their addresses point to."""

    jobs: np.ndarray
    tables: list[np.ndarray]


def make_chain(
    phases: list[Phase],
    backends: list[Any],
    kernel: tuple[int, int, int],
    arithmetic: Arithmetic,
    threads: int,
) -> Chain:
    """Return the jobs of some phases, each on its backend, complete but for their data."""
    templates = [
        cpu.make_template(backend, phase.shape, arithmetic, threads, 0)
        for backend, phase in zip(backends, phases, strict=True)
    ]
    for (job, _), phase in zip(templates, phases, strict=True):
        # A backend without a packer reads the weights in their natural order: blocks of one row.
        job[ROWS] = register_rows(phase.shape.c_out) if job[PACKER] else 1
        job[PACKER] = pack_phase.address(arithmetic.numba)
        job[TRANSPOSE] = transpose.address(arithmetic.numba)
        job[ORIGIN] = phase.origin
        job[TAPS : TAPS + 9] = (*kernel, *phase.taps, *phase.apart)
    for entry in (WORKERS, SCRATCH_SIZE, INDEX_SIZE):
        # Workers are not in the same job at the same time, so their pieces must be of one size.
        largest = max(job[entry] for job, _ in templates)
        for job, _ in templates:
            job[entry] = largest
    jobs = np.concatenate([job for job, _ in templates])
    jobs[JOBS] = len(phases)
    jobs[CHAIN] = chain_work.address(arithmetic.numba)
    return Chain(jobs, [table for _, table in templates])


def run(chain: Chain, x: Any, weights: Any, bias: Any, out: Any) -> None:
    """Run a chain on flat arrays."""
    with turn(int(chain.jobs[PACK_WORKERS])):
        run_chain(chain.jobs, x, weights, bias, out)
