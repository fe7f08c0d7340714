"""Weights in the order that the register tile reads them, and tiles moved to the output."""

from numbaconv.blocking import TILE_ROWS
from numbaconv.jit import inline, native
from numbaconv.job import (
    LANES,
    PACK_ROWS,
    PACK_TAPS_OUTER,
    PACKED,
    SHAPE,
    WEIGHTS,
    next_task,
    worker_signature,
)
from numbaconv.lanes import (
    copy_even_lanes,
    copy_lanes,
    piece_columns,
    piece_rows,
    scatter_piece,
    spread_lanes,
    transpose_piece,
)
from numbaconv.pointers import keep_scalar, pointer_at, shift
from numbaconv.shape import kernel_taps, read_shape


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
def transpose_block(target, target_step, source, source_step, rows, columns, lanes):
    """target[j * target_step + i] = source[i * source_step + j], piece by piece.

    Loop over strips of pieces, along those rows, of the source or of the target, that lie further
    apart.
    """
    i, j = 0, 0
    while i < rows and j < columns:
        transpose_piece(
            shift(target, j * target_step + i),
            target_step,
            shift(source, i * source_step + j),
            source_step,
            rows - i,
            columns - j,
        )
        if source_step > target_step:
            j += piece_columns(lanes)
            if j >= columns:
                i, j = i + piece_rows(lanes), 0
        else:
            i += piece_rows(lanes)
            if i >= rows:
                i, j = 0, j + piece_columns(lanes)


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


@native(worker_signature)
def pack_work(worker, job, like):
    """Write weights (C_out, K) as panels [group][register block][k][MR].

    The last block of a group has only the rows that are left, so nothing is padded: block b of a
    group starts at row b * MR of it, in both orders.
    """
    s = read_shape(job, SHAPE)
    weights, packed = pointer_at(job[WEIGHTS], like), pointer_at(job[PACKED], like)
    taps = kernel_taps(s)
    k_size = s.c_in * taps
    mr = job[PACK_ROWS]
    blocks = (s.c_out + mr - 1) // mr
    tasks = s.groups * blocks
    task, turn = next_task(job, tasks, worker, 0)
    while task < tasks:
        g = task // blocks
        block = task - g * blocks
        first = (g * s.c_out + block * mr) * k_size
        rows = block_rows(s.c_out, mr, block)
        target, source = shift(packed, first), shift(weights, first)
        tap_step = s.c_in * rows if job[PACK_TAPS_OUTER] != 0 else 0
        pack_block(target, source, k_size, rows, s.c_in, taps, tap_step, job[LANES])
        task, turn = next_task(job, tasks, worker, turn)


@inline
def move_rows(tile, first, tile_step, rows, width, out, at, row_step, column_step, gather, lanes):
    """out[at + i * row_step + j * column_step] = tile[i][first + j], or back where `gather`."""
    if column_step == 1:
        for i in range(rows):
            source, target = shift(tile, first + i * tile_step), shift(out, at + i * row_step)
            j = 0
            while j < width:  # a range with a step divides by it first
                if gather:
                    copy_lanes(shift(source, j), shift(target, j), width - j)
                else:
                    copy_lanes(shift(target, j), shift(source, j), width - j)
                j += lanes
    elif row_step == 1:  # channels_last, or a tile whose rows are pixels
        inside, outside = shift(tile, first), shift(out, at)
        if gather:
            transpose_block(inside, tile_step, outside, column_step, width, rows, lanes)
        else:
            transpose_block(outside, column_step, inside, tile_step, rows, width, lanes)
    elif column_step == 2:  # a phase of a gradient under stride 2
        for i in range(rows):
            source, target = shift(tile, first + i * tile_step), shift(out, at + i * row_step)
            j = 0
            while j < width:
                if gather:
                    copy_even_lanes(shift(source, j), shift(target, 2 * j), width - j)
                else:
                    spread_lanes(shift(target, 2 * j), shift(source, j), width - j)
                j += lanes
    else:
        for j in range(width):
            source, target = shift(tile, first + j), shift(out, at + j * column_step)
            for i in range(rows):
                keep_scalar()
                if gather:
                    source[i * tile_step] = target[i * row_step]
                else:
                    target[i * row_step] = source[i * tile_step]
