"""direct, sixth lowering: small planes, of which the registers hold all sums.

It serves depthwise layers on maps of up to 16 rows and columns, or as many as a vector has lanes.
Like `direct_planes`, whose blocks it has, it reads the input in place. Loops of a task (some planes
that are neighbours): the tile's own, over planes, columns of the filter and rows.
"""

from numbaconv.backends.direct_planes import make_masks, plan, read_lanes
from numbaconv.backends.direct_tasks import (
    finish_tile,
    has_half,
    locate_task,
    out_index,
    read_blocks,
)
from numbaconv.jit import inline, native
from numbaconv.job import (
    BIAS,
    LANES,
    OUT,
    PACKED,
    SHAPE,
    TABLE,
    TILE,
    WORKER,
    X,
    next_task,
    worker_signature,
)
from numbaconv.pointers import call, indices_at, pointer_at, shift
from numbaconv.shape import kernel_taps, read_shape
from numbaconv.small_planes import small_planes
from numbaconv.target import VECTOR_BYTES

__all__ = ["make_table", "plan", "set_addresses"]


def set_addresses(job, dtype):
    """Compile the functions that a problem needs and write their addresses into its job."""
    job[TILE], job[WORKER] = small_planes.address(dtype), small_planes_work.address(dtype)


def make_table(s, itemsize, threads):
    """The masks of the planes."""
    lanes = VECTOR_BYTES // itemsize
    half = has_half(s.output[2], lanes)
    return make_masks(read_lanes(s, (0, s.output[2], 1, half), lanes))


@inline
def small_planes_task(job, s, t, like):
    """All planes of a task."""
    x, out = pointer_at(job[X], like), pointer_at(job[OUT], like)
    x = shift(x, t.n * s.in_strides[0] + t.g * s.in_strides[1])
    first = t.od * s.stride[0] * s.in_strides[2] - s.padding[2]
    call(
        job[TILE],
        (
            s.kernel[1], s.stride[1], has_half(t.cols, job[LANES]), t.groups, t.rows, t.cols,
            x, first, s.in_strides[3], s.in_strides[1], s.size[1], indices_at(job[TABLE]),
            shift(pointer_at(job[PACKED], like), t.g * kernel_taps(s)),
            shift(out, out_index(s, t, t.g)), s.out_strides[3], s.out_strides[1],
            shift(pointer_at(job[BIAS], like), t.g),
        ),
    )  # fmt: skip
    for g in range(t.g, t.g + t.groups):
        target = shift(out, out_index(s, t, g))
        finish_tile(job, target, s.out_strides[3], t.rows, t.cols, True)


@native(worker_signature)
def small_planes_work(worker, job, like):
    """Do tasks until none is left."""
    s, b = read_shape(job, SHAPE), read_blocks(job)
    number, turn = next_task(job, b.tasks, worker, 0)
    while number < b.tasks:
        small_planes_task(job, s, locate_task(number, s, b), like)
        number, turn = next_task(job, b.tasks, worker, turn)
