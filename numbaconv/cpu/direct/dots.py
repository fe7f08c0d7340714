"""direct, seventh lowering: dot products of pixels and filters, each as long as k.

It serves pointwise layers whose channels are innermost on both sides, with few pixels or few
output channels: a fully connected layer on one image, a head with a single output, a depthwise
window as large as its map. There is nothing to share that would pay for packing: weights and
pixels are read once, where they lie, and lanes run along k.

Loops of a task: groups; output channels, NT at a time; pixels, MR at a time; the tile's own loop
over k.
"""

from typing import NamedTuple

import numpy as np

from numbaconv.codegen.integers import ceil_div
from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import call, entries, indices_at, pointer_at, shift
from numbaconv.cpu.blocking import share
from numbaconv.cpu.direct.blocks import wanted_tasks
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
from numbaconv.cpu.microkernels.dot import DOT_COLUMNS, DOT_ROWS, DotArguments, dot
from numbaconv.problem.shape import read_shape

# Multiply-adds of a task, about, where there are tasks enough: they hide what it costs to take one.
TASK_MULTIPLY_ADDS = 1 << 15

# Pixels of a task, at least: a group's next elements are then read while its lines are in cache.
FEWEST_PIXELS = 8


class DotBlocks(NamedTuple):
    """How the output is cut: parts of the pixels, of a group's output channels, and of the groups.

    Attributes
    ----------
    pixel_parts, channel_parts, group_parts : int
        Equal parts of each.
    tasks : int
        All combinations.
    """

    pixel_parts: int
    channel_parts: int
    group_parts: int
    tasks: int


BLOCKS_SIZE = size_within(DotBlocks, MOST_BLOCKS)


def cut(s, threads):
    """Choose the parts: pixels first, which share weights; then output channels; then groups."""
    pixels, groups = s.output[2], s.groups
    work = pixels * s.c_out * groups * s.c_in
    wanted = max(1, min(wanted_tasks(threads), work // TASK_MULTIPLY_ADDS))
    pixel_parts = min(wanted, ceil_div(pixels, FEWEST_PIXELS))
    channel_parts = min(ceil_div(wanted, pixel_parts), ceil_div(s.c_out, DOT_COLUMNS[-1]))
    group_parts = min(ceil_div(wanted, pixel_parts * channel_parts), groups)
    tasks = pixel_parts * channel_parts * group_parts
    return DotBlocks(pixel_parts, channel_parts, group_parts, tasks)


@inline
def locate_dots(number, s, b):
    """Decode a task: the first and the end of its pixels, output channels of a group, and groups.

    Parts of the channels run fastest, so that they share pixels.
    """
    rest = number // b.channel_parts
    channels = share(s.c_out, number - rest * b.channel_parts, b.channel_parts)
    part = rest // b.pixel_parts
    pixels = share(s.output[2], rest - part * b.pixel_parts, b.pixel_parts)
    return pixels, channels, share(s.groups, part, b.group_parts)


@inline
def fill_with_bias(target, row_step, rows, bias, width):
    """Let each of some pixels begin with the bias."""
    for i in range(rows):
        row = shift(target, i * row_step)
        for j in range(width):
            row[j] = bias[j]


@inline
def multiply_group(job, s, x, weights, bias, out, first, pixels, channels):
    """Some pixels, by some output channels, of a group that x, weights and bias were moved to.

    The group's first output is element `first`.
    """
    rows = pixels[1] - pixels[0]
    c = channels[0]
    while c < channels[1]:
        nt = min(DOT_COLUMNS[-1], channels[1] - c)
        at = first + pixels[0] * s.out_strides[4] + c
        target = shift(out, at)
        fill_with_bias(target, s.out_strides[4], rows, shift(bias, c), nt)
        p = 0
        while p < rows:
            mr = min(DOT_ROWS[-1], rows - p)
            call(
                job[AT.tile],
                DotArguments(
                    channels=mr,
                    taps=nt,
                    rows=1,
                    cols=s.c_in,
                    g=shift(x, (pixels[0] + p) * s.in_strides[4]),
                    first=0,
                    g_channel=s.in_strides[4],
                    g_row=0,
                    x=shift(weights, c * s.c_in),
                    x_row=0,
                    offsets=indices_at(job[AT.table]),
                    c=shift(target, p * s.out_strides[4]),
                    c_row=s.out_strides[4],
                    accumulate=1,
                ),
            )
            p += mr
        finish_tile(
            job, target, s.out_strides[4], rows, nt, True, at, s.out_strides[4], 1, NOT_FLAT
        )
        c += nt


@native(WorkerArguments)
def dots_work(worker, job, like):
    """Do tasks until none is left."""
    s, b = read_shape(job, SHAPE), DotBlocks(*entries(job, BLOCKS, BLOCKS_SIZE))
    x, weights = pointer_at(job[AT.x], like), pointer_at(job[AT.packed], like)
    bias, out = pointer_at(job[AT.bias], like), pointer_at(job[AT.out], like)
    number, queue = next_task(job, b.tasks, worker, 0)
    while number < b.tasks:
        pixels, channels, groups = locate_dots(number, s, b)
        for g in range(groups[0], groups[1]):
            multiply_group(
                job,
                s,
                shift(x, g * s.c_in),
                shift(weights, g * s.c_out * s.c_in),
                shift(bias, g * s.c_out),
                out,
                g * s.c_out,
                pixels,
                channels,
            )
        number, queue = next_task(job, b.tasks, worker, queue)


def lower(s, itemsize, threads):
    """Return how this lowering computes a problem."""
    filters = np.arange(DOT_COLUMNS[-1], dtype=np.int64) * s.c_in
    return Lowering("dots", dots_work, dot, cut(s, threads), filters, scratch_size=0)
