"""direct, seventh lowering: dot products of pixels and filters, each as long as k.

It serves pointwise layers whose channels are innermost on both sides, with few pixels or few
output channels: a fully connected layer on one image, a head with a single output, a depthwise
window as large as its map. Weights and pixels are read where they lie, and lanes run along k: none
is empty where outputs are few. Pixels may lie anywhere, so those that a stride leaves out cost
nothing.

Loops of a task: groups; output channels, NT at a time; rows of pixels; pixels, MR at a time; the
tile's own loop over k.
"""

from typing import NamedTuple

import numpy as np

from numbaconv.codegen.integers import ceil_div
from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import call, entries, indices_at, pointer_at, shift
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu import blocking
from numbaconv.cpu.blocking import share
from numbaconv.cpu.direct.blocks import wanted_tasks
from numbaconv.cpu.direct.choice import stays_cached
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


@inline
def pixels_of(s):
    """Pixels of all images."""
    return s.n * s.output[0] * s.output[1] * s.output[2]


def cut(s, itemsize, threads):
    """Choose the parts: pixels first, which share weights; then output channels; then groups.

    Pixels of a task stay in the second-level cache, where several blocks of output channels read
    them.
    """
    pixels, groups = pixels_of(s), s.groups
    work = pixels * s.c_out * groups * s.c_in
    wanted = max(1, min(wanted_tasks(threads), work // TASK_MULTIPLY_ADDS))
    blocks = ceil_div(s.c_out, DOT_COLUMNS[-1])
    if blocks > 1:
        wanted = max(wanted, ceil_div(pixels * s.c_in * itemsize, blocking.CACHE_BYTES))
    pixel_parts = min(wanted, ceil_div(pixels, FEWEST_PIXELS))
    channel_parts = min(ceil_div(wanted, pixel_parts), blocks)
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
    pixels = share(pixels_of(s), rest - part * b.pixel_parts, b.pixel_parts)
    return pixels, channels, share(s.groups, part, b.group_parts)


class Run(NamedTuple):
    """Pixels of one row.

    Attributes
    ----------
    pixels : int
        How many.
    x, out : int
        Where the first lies in the input, and in the output.
    """

    pixels: int
    x: int
    out: int


@inline
def run_of(s, pixel, end):
    """The pixels of a row from one on, of those before another."""
    row = pixel // s.output[2]
    col = pixel - row * s.output[2]
    plane = row // s.output[1]
    h = row - plane * s.output[1]
    n = plane // s.output[0]
    d = plane - n * s.output[0]
    return Run(
        min(end - pixel, s.output[2] - col),
        dot_index(s.in_strides, n, d, h, col),
        dot_index(s.out_strides, n, d, h, col),
    )


@inline
def dot_index(strides, n, d, h, w):
    """Where a pixel lies."""
    return n * strides[0] + d * strides[2] + h * strides[3] + w * strides[4]


@inline
def fill_with_bias(target, row_step, rows, bias, width):
    """Let each of some pixels begin with the bias."""
    for i in range(rows):
        row = shift(target, i * row_step)
        for j in range(width):
            row[j] = bias[j]


@inline
def multiply_run(job, s, run, x, weights, bias, out, first, c, nt, ahead):
    """The pixels of a run, by NT output channels from c on; `first` is the first of the group."""
    at = run.out + first + c
    target, row_step = shift(out, at), s.out_strides[4]
    fill_with_bias(target, row_step, run.pixels, shift(bias, c), nt)
    p = 0
    while p < run.pixels:
        mr = min(DOT_ROWS[-1], run.pixels - p)
        call(
            job[AT.tile],
            DotArguments(
                channels=mr,
                taps=nt,
                rows=1,
                cols=s.c_in,
                g=shift(x, run.x + p * s.in_strides[4]),
                first=0,
                g_channel=s.in_strides[4],
                g_row=0,
                x=shift(weights, c * s.c_in),
                x_row=0,
                offsets=indices_at(job[AT.table]),
                c=shift(target, p * row_step),
                c_row=row_step,
                accumulate=1,
                ahead=ahead,
            ),
        )
        p += mr
    finish_tile(job, target, row_step, run.pixels, nt, True, at, row_step, 1, NOT_FLAT)


@inline
def multiply_group(job, s, x, weights, bias, out, first, pixels, channels):
    """Some pixels, by some output channels, of a group that x, weights and bias were moved to.

    The first block of these asks for pixels that come from memory; the others find them in a cache.
    """
    c = channels[0]
    while c < channels[1]:
        nt = min(DOT_COLUMNS[-1], channels[1] - c)
        ahead = job[AT.prefetch_distance] if c == channels[0] else 0
        pixel = pixels[0]
        while pixel < pixels[1]:
            run = run_of(s, pixel, pixels[1])
            multiply_run(job, s, run, x, weights, bias, out, first, c, nt, ahead)
            pixel += run.pixels
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
    near = stays_cached(s, VECTOR_BYTES // itemsize, blocking.SECOND_LEVEL)
    return Lowering(
        "dots",
        dots_work,
        dot,
        cut(s, itemsize, threads),
        filters,
        scratch_size=0,
        prefetch_distance=0 if near else DOT_ROWS[-1] * s.in_strides[4],
    )
