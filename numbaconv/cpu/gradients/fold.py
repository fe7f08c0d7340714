"""The adjoint of few channels as one matrix product, and the sum of what it multiplied (col2im).

    P[(c, t), o] = sum_k W[k, c, t] * G[k, o]          X'[c, p] = bias + sum of P[(c, t), o]

over all outputs o and taps t that read the element p. The product is a pointwise layer with an
output channel for each channel c and tap t: with full register tiles, where each phase by itself
would have a row or two. Its sums lie in scratch. Here they are added: elements a stride apart make
a phase, and of each phase a row is the sum of rows of P, each begun where its tap has it. Then the
phases of a row are interleaved.

Loops of a task (a block of rows of a plane of the result): rows; rows of taps that reach it, and
rows of the output that these read; blocks of taps, one for each phase.

Chellapilla, Puri and Simard (2006), section 3, have the product; Caffe's deconvolution layer is it
with col2im behind.
"""

import math
from typing import NamedTuple

import numpy as np

from numbaconv.codegen.integers import ceil_div
from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import (
    call,
    entries,
    indices_at,
    keep_scalar,
    pointer_at,
    shift,
)
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu import blocking
from numbaconv.cpu.blocking import WOVEN_ROWS, share
from numbaconv.cpu.finishing import NOT_FLAT, add_dense_rows, finish_tile
from numbaconv.cpu.job import (
    AT,
    BLOCKS,
    HALO,
    MOST_BLOCKS,
    SHAPE,
    WorkerArguments,
    next_task,
    size_within,
)
from numbaconv.cpu.lowering import Lowering
from numbaconv.cpu.microkernels.weave import WeaveArguments, weave
from numbaconv.cpu.packing.lanes import copy_lanes
from numbaconv.cpu.packing.rows import fill
from numbaconv.cpu.packing.transpose import TransposeArguments, transpose
from numbaconv.problem.shape import kernel_taps, read_shape


class FoldBlocks(NamedTuple):
    """How a problem is cut.

    Attributes
    ----------
    width : int
        Elements of a phase of a row.
    row_blocks, tasks : int
        Blocks of rows of a plane, and tasks.
    """

    width: int
    row_blocks: int
    tasks: int


_BLOCKS_SIZE = size_within(FoldBlocks, MOST_BLOCKS)
# Where in a job the addresses of functions lie.
TRANSPOSE, WEAVE = HALO, HALO + 1
# The table of a job: `weave` begins where it is told.
_PLACES = np.zeros(1, np.int64)


# The most channels of a group whose adjoint may be folded. Of more, phases fill register tiles.
MOST_CHANNELS = 12
# Products, at most, for each element of what is read and of the result.
MOST_PRODUCTS = 2
# Cycles of a vector of products that is added, of a row of them, and of a row of the result.
VECTOR_CYCLES, PIECE_CYCLES, ROW_CYCLES = 2, 15, 50


def serves(s):
    """Whether a problem's adjoint can be folded: dense rows, and taps that are neighbours.

    Without several channels to add there is no product, and it is not to take much memory.
    """
    few = s.c_in <= MOST_CHANNELS and s.c_out > 1
    dense = s.in_strides[4] == 1 and s.dilation == (1, 1, 1)
    near = s.padding[2] <= s.kernel[2]  # else most of a row would lie before the result
    arrays = s.c_out + s.c_in * math.prod(s.stride)  # as often as a channel of what is read
    return few and dense and near and s.taps > 1 and s.c_in * s.taps <= MOST_PRODUCTS * arrays


def cycles(s, lanes):
    """Predict the cycles that it takes to add the products of an image."""
    taps, rows = s.groups * s.c_in * s.taps, s.output[0] * s.output[1]
    pieces = taps * rows
    vectors = pieces * ceil_div(s.output[2], lanes)
    results = s.groups * s.c_in * s.size[0] * s.size[1]
    return VECTOR_CYCLES * vectors + PIECE_CYCLES * pieces + ROW_CYCLES * results


def lower(s, threads):
    """Return how the sums of a problem's products are added."""
    last, stride = s.size[2] - 1 + s.padding[2], s.stride[2]
    width = max(s.output[2] + ceil_div(s.kernel[2], stride) - 1, last // stride + 1)
    planes, rows = s.n * s.groups * s.c_in, s.size[0] * s.size[1]
    wanted = threads * blocking.TASKS_PER_THREAD if threads > 1 else 1
    row_blocks = min(ceil_div(wanted, planes), rows)
    blocks = FoldBlocks(width, row_blocks, planes * row_blocks)
    functions = (transpose, weave) if stride in WOVEN_ROWS else (transpose,)
    scratch = stride * width + VECTOR_BYTES  # `weave` reads whole vectors
    return Lowering("fold", fold_work, None, blocks, _PLACES, scratch, functions=functions)


@inline
def add_products(rows, width, products, s, d, h, lanes):
    """Add to the phases of row (d, h) all products that belong there."""
    pixels = s.output[0] * s.output[1] * s.output[2]
    for kd in range((d + s.padding[0]) % s.stride[0], s.kernel[0], s.stride[0]):
        deep = (d + s.padding[0] - kd) // s.stride[0]
        for kh in range((h + s.padding[1]) % s.stride[1], s.kernel[1], s.stride[1]):
            high = (h + s.padding[1] - kh) // s.stride[1]
            if 0 <= deep < s.output[0] and 0 <= high < s.output[1]:
                tap = (kd * s.kernel[1] + kh) * s.kernel[2]
                at = tap * pixels + (deep * s.output[1] + high) * s.output[2]
                for first in range(0, s.kernel[2], s.stride[2]):
                    target = shift(rows, first // s.stride[2])
                    phases = min(s.stride[2], s.kernel[2] - first)
                    source = shift(products, at + first * pixels)
                    add_dense_rows(target, width, source, pixels, phases, s.output[2], lanes)


@inline
def interleave_whole(job, target, source, width, stride, count):
    """target[i * stride + q] = source[q * width + i] for i < count."""
    lanes = job[AT.lanes]
    if stride == 1:
        i = 0
        while i < count:
            copy_lanes(shift(target, i), shift(source, i), count - i)
            i += lanes
    elif count > 0 and job[WEAVE] != 0:
        places = indices_at(job[AT.table])
        call(job[WEAVE], WeaveArguments(stride, 1, count, source, width, target, places))
    else:
        block = TransposeArguments(target, stride, source, width, stride, count, lanes)
        call(job[TRANSPOSE], block)


@inline
def move_cut(target, begin, end, rows, width, before, stride):
    """The same for the targets from `begin` to `end`, one by one."""
    for j in range(begin, end):
        keep_scalar()
        i = (before + j) // stride
        target[j] = rows[(before + j - i * stride) * width + i]


@inline
def interleave(job, target, size, rows, width, before, stride):
    """target[i * stride + q - before] = rows[q * width + i], where there is such a target.

    The groups i that are cut at the ends are copied one by one.
    """
    first = min(-before % stride, size)
    count = (size - first) // stride
    end = first + count * stride
    move_cut(target, 0, first, rows, width, before, stride)
    move_cut(target, end, size, rows, width, before, stride)
    interleave_whole(
        job, shift(target, first), shift(rows, (before + first) // stride), width, stride, count
    )


@native(WorkerArguments)
def fold_work(worker, job, like):
    """Do tasks until none is left."""
    s, b = read_shape(job, SHAPE), FoldBlocks(*entries(job, BLOCKS, _BLOCKS_SIZE))
    x, bias = pointer_at(job[AT.x], like), pointer_at(job[AT.bias], like)
    out = pointer_at(job[AT.out], like)
    rows = shift(pointer_at(job[AT.scratch], like), worker * job[AT.scratch_size])
    channels, lanes, stride = s.groups * s.c_in, job[AT.lanes], s.stride[2]
    products = kernel_taps(s) * s.output[0] * s.output[1] * s.output[2]
    number, queue = next_task(job, b.tasks, worker, 0)
    while number < b.tasks:
        plane = number // b.row_blocks
        image = plane // channels
        channel = plane - image * channels
        part = number - plane * b.row_blocks
        begin, end = share(s.size[0] * s.size[1], part, b.row_blocks)
        of_plane = image * s.in_strides[0] + channel * s.in_strides[1]
        for row in range(begin, end):
            d = row // s.size[1]
            h = row - d * s.size[1]
            fill(rows, stride * b.width, bias[channel], lanes)
            add_products(rows, b.width, shift(x, plane * products), s, d, h, lanes)
            at = of_plane + d * s.in_strides[2] + h * s.in_strides[3]
            interleave(job, shift(out, at), s.size[2], rows, b.width, s.padding[2], stride)
            finish_tile(
                job, shift(out, at), s.size[2], 1, s.size[2], True, at, s.size[2], 1, NOT_FLAT
            )
        number, queue = next_task(job, b.tasks, worker, queue)
