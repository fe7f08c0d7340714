"""direct: adjoints of depthwise layers under a stride, all phases together.

The input is read in place, and rows of the result are written whole. Loops of a task (some planes
that are neighbours, a block of groups of rows): planes; columns, a strip of groups at a time; the
tile's own loops over groups of rows and taps.

The problem of the job is the convolution whose adjoint it is: what is read has its `output`, what
is written its `size`.
"""

from typing import NamedTuple

import numpy as np

from numbaconv.codegen.integers import ceil_div, round_up
from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import call, entries, shift
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu import blocking
from numbaconv.cpu.blocking import phase_vectors, share
from numbaconv.cpu.direct.blocks import wanted_tasks
from numbaconv.cpu.direct.tasks import plane_memory
from numbaconv.cpu.finishing import NOT_FLAT, finish_tile
from numbaconv.cpu.job import (
    AT,
    BLOCKS,
    MOST_BLOCKS,
    SHAPE,
    WorkerArguments,
    next_task,
    size_within,
)
from numbaconv.cpu.lowering import Lowering
from numbaconv.cpu.microkernels.phases import PhaseArguments, phase_rows
from numbaconv.problem.shape import kernel_taps, read_shape

# Entries of a strip in the table of a job, after the number of strips: its first group of columns,
# its vectors, and where its masks begin in the table.
_FIRST, _VECTORS, _MASKS, _STRIP_SIZE = range(4)


class PhaseBlocks(NamedTuple):
    """How a problem is cut.

    Attributes
    ----------
    planes, plane_blocks : int
        Planes of a task, at most, and blocks of them.
    row_blocks, tasks : int
        Blocks of groups of rows, and tasks.
    """

    planes: int
    plane_blocks: int
    row_blocks: int
    tasks: int


_BLOCKS_SIZE = size_within(PhaseBlocks, MOST_BLOCKS)


@inline
def groups_of(s, axis):
    """The first group of an axis, and how many there are: one has an element of each phase."""
    first = s.padding[axis] // s.stride[axis]
    return first, (s.size[axis] - 1 + s.padding[axis]) // s.stride[axis] - first + 1


def cut(s, itemsize, threads):
    """Choose the blocks of a problem.

    Planes as `depthwise_planes.cut` has them; groups of rows only if there are too few planes.
    """
    planes, wanted = s.n * s.groups, wanted_tasks(threads)
    budget = blocking.CACHE_BYTES // itemsize
    most = min(planes // wanted, budget // 4 // (s.size[1] * s.size[2]))
    each = min(planes, ceil_div(planes, round_up(ceil_div(planes, max(1, most)), threads)))
    blocks = ceil_div(planes, each)
    groups = groups_of(s, 1)[1]
    row_blocks = min(ceil_div(wanted, blocks), ceil_div(groups, 4 * s.kernel[1]))
    return PhaseBlocks(each, blocks, row_blocks, blocks * row_blocks)


def list_strips(s, lanes):
    """The strips of columns, about equal, and their masks."""
    stride, cols = s.stride[2], s.size[2]
    first, groups = groups_of(s, 2)
    vectors = ceil_div(groups, lanes)
    count = ceil_div(vectors, phase_vectors(stride, s.stride[1]))
    n = np.arange(ceil_div(s.kernel[2], stride))[:, None]
    strips, masks, at = [count], [], 1 + count * _STRIP_SIZE
    for i in range(count):
        begin, end = share(vectors, i, count)
        group = first + begin * lanes
        read = group + np.arange((end - begin) * lanes) - n
        written = group * stride - s.padding[2] + np.arange((end - begin) * lanes * stride)
        inside = (read >= 0) & (read < s.output[2]), (written >= 0) & (written < cols)
        words = np.concatenate([mask.reshape(-1, lanes) for mask in inside])
        masks.append((words * (np.int64(1) << np.arange(lanes))).sum(1))
        strips += [group, end - begin, at]
        at += masks[-1].size
    return np.concatenate([np.array(strips), *masks])


@inline
def phases_plane(job, m, s, plane, first, groups):
    """Some groups of rows of a plane: all strips of columns."""
    image = plane // s.groups
    g = plane - image * s.groups
    x = shift(m.x, image * s.out_strides[0] + g * s.out_strides[1])
    at = image * s.in_strides[0] + g * s.in_strides[1]
    for i in range(m.table[0]):
        strip = shift(m.table, 1 + i * _STRIP_SIZE)
        call(
            job[AT.tile],
            PhaseArguments(
                high=s.stride[1],
                stride=s.stride[2],
                vectors=strip[_VECTORS],
                kh=s.kernel[1],
                kw=s.kernel[2],
                x=x,
                x_row=s.out_strides[3],
                height=s.output[1],
                first=first,
                groups=groups,
                column=strip[_FIRST],
                masks=shift(m.table, strip[_MASKS]),
                w=shift(m.weights, g * kernel_taps(s)),
                c=shift(m.out, at),
                c_row=s.in_strides[3],
                rows=s.size[1],
                top=s.padding[1],
                left=s.padding[2],
                bias=shift(m.bias, g),
            ),
        )
    step, begin = s.in_strides[3], max(first * s.stride[1] - s.padding[1], 0)
    rows = min((first + groups) * s.stride[1] - s.padding[1], s.size[1]) - begin
    at += begin * step
    finish_tile(job, shift(m.out, at), step, rows, s.size[2], True, at, step, 1, NOT_FLAT)


@native(WorkerArguments)
def phases_work(worker, job, like):
    """Do tasks until none is left."""
    s, b = read_shape(job, SHAPE), PhaseBlocks(*entries(job, BLOCKS, _BLOCKS_SIZE))
    m = plane_memory(job, like)
    first, groups = groups_of(s, 1)
    number, queue = next_task(job, b.tasks, worker, 0)
    while number < b.tasks:
        block = number // b.row_blocks
        begin, end = share(groups, number - block * b.row_blocks, b.row_blocks)
        for plane in range(block * b.planes, min((block + 1) * b.planes, s.n * s.groups)):
            phases_plane(job, m, s, plane, first + begin, end - begin)
        number, queue = next_task(job, b.tasks, worker, queue)


def lower(s, itemsize, threads):
    """Return how this lowering computes the adjoint of a problem."""
    table = list_strips(s, VECTOR_BYTES // itemsize)
    blocks = cut(s, itemsize, threads)
    return Lowering("depthwise_phases", phases_work, phase_rows, blocks, table, scratch_size=0)
