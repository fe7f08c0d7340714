"""Weights in the order in which register tiles read them: panels of a few rows, k by k."""

from typing import NamedTuple

from numbaconv.codegen.arguments import Elements
from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import call, keep_scalar, pointer_at, shift
from numbaconv.cpu.blocking import TILE_ROWS
from numbaconv.cpu.job import AT, SHAPE, WorkerArguments, next_task
from numbaconv.cpu.packing.lanes import (
    fill_lanes,
    piece_columns,
    piece_rows,
    scatter_piece,
)
from numbaconv.cpu.packing.transpose import transpose_block
from numbaconv.problem.shape import kernel_taps, read_shape


@inline
def register_rows(c_out, most=TILE_ROWS):
    """Rows MR of a register block: the fewest blocks that hold c_out, made as equal as can be."""
    blocks = -(-c_out // most)
    return max(1, -(-c_out // max(1, blocks)))


@inline
def block_rows(c_out, mr, block):
    """Rows of the given block: mr, or what is left in the last."""
    return min(mr, c_out - block * mr)


@inline
def pack_block(packed, weights, step, rows, channels, taps, tap_step, lanes):
    """packed[k][i] = weights[i * step + k] for one register block.

    The order of k stays (channel, tap), which is a transposition, unless there is a `tap_step`:
    then it becomes (tap, channel), each tap so many elements behind the one before. Loop over rows,
    as many as a piece has; over k, a piece at a time; what is left of k goes element by element.
    """
    k_size = channels * taps
    if tap_step == 0 or taps == 1:
        transpose_block(packed, rows, weights, step, rows, k_size, lanes)
        return
    columns = piece_columns(lanes)
    whole = k_size - k_size % columns
    for i in range(0, rows, piece_rows(lanes)):
        tap, channel = 0, 0
        for k in range(0, whole, columns):
            scatter_piece(
                shift(packed, i),
                shift(weights, i * step + k),
                step,
                rows - i,
                tap,
                channel,
                taps,
                tap_step,
                rows,
            )
            tap += columns
            while tap >= taps:
                tap -= taps
                channel += 1
    for k in range(whole, k_size):
        channel = k // taps
        at = (k - channel * taps) * tap_step + channel * rows
        for i in range(rows):
            keep_scalar()
            packed[at + i] = weights[i * step + k]


class PackPanelArguments(NamedTuple):
    """What `pack_panel` takes.

    Attributes
    ----------
    packed : pointer
        The panel, [k][rows].
    weights, step : pointer, int
        Weights of its first output channel; elements from one output channel to the next.
    rows, channels, taps : int
        Output channels, input channels, and taps of each.
    tap_step : int
        0: k = (channel, tap). Else k = (tap, channel), each tap so many elements behind the last.
    lanes : int
        Lanes of a vector.
    """

    packed: Elements
    weights: Elements
    step: int
    rows: int
    channels: int
    taps: int
    tap_step: int
    lanes: int


@native(PackPanelArguments)
def pack_panel(packed, weights, step, rows, channels, taps, tap_step, lanes):
    """Pack one panel: see `pack_block`."""
    pack_block(packed, weights, step, rows, channels, taps, tap_step, lanes)


@native(WorkerArguments)
def pack_work(worker, job, like):
    """Write weights (C_out, K) as panels [group][register block][k][MR].

    The last block of a group has only the rows that are left, so nothing is padded: block b of a
    group starts at row b * MR of it, in both orders.
    """
    s = read_shape(job, SHAPE)
    weights, packed = pointer_at(job[AT.weights], like), pointer_at(job[AT.packed], like)
    taps = kernel_taps(s)
    k_size = s.c_in * taps
    mr = job[AT.pack_rows]
    blocks = (s.c_out + mr - 1) // mr
    tasks = s.groups * blocks
    task, queue = next_task(job, tasks, worker, 0)
    while task < tasks:
        g = task // blocks
        block = task - g * blocks
        first = (g * s.c_out + block * mr) * k_size
        rows = block_rows(s.c_out, mr, block)
        target, source = shift(packed, first), shift(weights, first)
        tap_step = s.c_in * rows if job[AT.pack_taps_outer] != 0 else 0
        call(
            job[AT.pack_panel],
            PackPanelArguments(target, source, k_size, rows, s.c_in, taps, tap_step, job[AT.lanes]),
        )
        if task == tasks - 1:  # vectors read on behind the weights: what lies there may be denormal
            fill_lanes(shift(target, rows * k_size), 0, -rows % job[AT.lanes])
        task, queue = next_task(job, tasks, worker, queue)
