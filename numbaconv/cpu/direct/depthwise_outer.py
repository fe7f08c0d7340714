"""direct: adjoints of depthwise layers under long strides, as outer products.

Each element that is read adds a row of taps, times itself, to the row of the result around it:

    row[o * stride + t] += W[h, t] * X[j, o]          for all rows j that read the row of the result

Lanes are taps. The row lies in scratch, with all that taps reach beyond its ends; then it is
stored. Loops of a task (a block of rows of a plane): rows; rows of taps that reach it; vectors of
taps; elements, as many in a pass as do not overlap.

The problem of the job is the convolution whose adjoint it is: what is read has its `output`, what
is written its `size`.
"""

from typing import NamedTuple

import numpy as np

from numbaconv.codegen.integers import ceil_div
from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import entries, pointer_at, shift
from numbaconv.cpu.blocking import share
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
from numbaconv.cpu.packing.lanes import copy_lanes, multiply_add_lanes
from numbaconv.cpu.packing.rows import fill
from numbaconv.problem.shape import kernel_taps, read_shape


class OuterBlocks(NamedTuple):
    """How a problem is cut.

    Attributes
    ----------
    width : int
        Elements of a row with all that taps reach.
    row_blocks, tasks : int
        Blocks of rows of a plane, and tasks.
    """

    width: int
    row_blocks: int
    tasks: int


_BLOCKS_SIZE = size_within(OuterBlocks, MOST_BLOCKS)


@inline
def add_products(row, x, taps, count, s, lanes):
    """Add a row of elements, each times at most a vector of taps.

    Neighbours, whose vectors overlap, are in different passes: the load of one would wait until the
    store of the other is in the cache.
    """
    passes = (lanes - 1) // s.stride[2] + 1
    for first in range(passes):
        for o in range(first, s.output[2], passes):
            multiply_add_lanes(shift(row, o * s.stride[2]), taps, x[o * s.out_strides[4]], count)


@inline
def add_rows(row, x, w, s, d, h, lanes):
    """Add to row (d, h) of a plane the outer products that belong there."""
    for kd in range((d + s.padding[0]) % s.stride[0], s.kernel[0], s.stride[0]):
        deep = (d + s.padding[0] - kd) // s.stride[0]
        for kh in range((h + s.padding[1]) % s.stride[1], s.kernel[1], s.stride[1]):
            high = (h + s.padding[1] - kh) // s.stride[1]
            if 0 <= deep < s.output[0] and 0 <= high < s.output[1]:
                read = shift(x, deep * s.out_strides[2] + high * s.out_strides[3])
                taps = shift(w, (kd * s.kernel[1] + kh) * s.kernel[2])
                for first in range(0, s.kernel[2], lanes):
                    taps_of = shift(taps, first), s.kernel[2] - first
                    add_products(shift(row, first), read, *taps_of, s, lanes)


@native(WorkerArguments)
def outer_work(worker, job, like):
    """Do tasks until none is left."""
    s, b = read_shape(job, SHAPE), OuterBlocks(*entries(job, BLOCKS, _BLOCKS_SIZE))
    m, lanes = plane_memory(job, like), job[AT.lanes]
    row = shift(pointer_at(job[AT.scratch], like), worker * job[AT.scratch_size])
    cols = s.size[2]
    number, queue = next_task(job, b.tasks, worker, 0)
    while number < b.tasks:
        plane = number // b.row_blocks
        image = plane // s.groups
        g = plane - image * s.groups
        x = shift(m.x, image * s.out_strides[0] + g * s.out_strides[1])
        w = shift(m.weights, g * kernel_taps(s))
        begin, end = share(s.size[0] * s.size[1], number - plane * b.row_blocks, b.row_blocks)
        for flat in range(begin, end):
            d = flat // s.size[1]
            h = flat - d * s.size[1]
            fill(row, b.width, m.bias[g], lanes)
            add_rows(row, x, w, s, d, h, lanes)
            at = image * s.in_strides[0] + g * s.in_strides[1]
            at += d * s.in_strides[2] + h * s.in_strides[3]
            target, source = shift(m.out, at), shift(row, s.padding[2])
            j = 0
            while j < cols:
                copy_lanes(shift(target, j), shift(source, j), cols - j)
                j += lanes
            finish_tile(job, target, cols, 1, cols, True, at, cols, 1, NOT_FLAT)
        number, queue = next_task(job, b.tasks, worker, queue)


def lower(s, itemsize, threads):
    """Return how this lowering computes the adjoint of a problem."""
    reached = (s.output[2] - 1) * s.stride[2] + s.kernel[2]
    planes, rows = s.n * s.groups, s.size[0] * s.size[1]
    row_blocks = min(ceil_div(wanted_tasks(threads), planes), rows)
    width = max(reached, s.size[2] + s.padding[2])
    blocks = OuterBlocks(width, row_blocks, planes * row_blocks)
    table = np.zeros(0, np.int64)
    return Lowering("depthwise_outer", outer_work, None, blocks, table, scratch_size=width)
