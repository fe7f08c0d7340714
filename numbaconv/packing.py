"""Weights in the order that the register tile reads them, and tiles moved to the output."""

from numbaconv.blocking import TILE_ROWS
from numbaconv.jit import inline, native
from numbaconv.job import COUNTER, LANES, PACK_TAPS_OUTER, PACKED, SHAPE, WEIGHTS, worker_signature
from numbaconv.lanes import copy_even_lanes, copy_lanes, spread_lanes, transpose_lanes
from numbaconv.pointers import fetch_add, indices_at, keep_scalar, pointer_at, shift
from numbaconv.shape import kernel_taps, read_shape


@inline
def register_rows(c_out):
    """Rows MR of a register block: the fewest blocks that hold c_out, made as equal as can be."""
    blocks = -(-c_out // TILE_ROWS)
    return max(1, -(-c_out // max(1, blocks)))


@inline
def block_rows(c_out, mr, block):
    """Rows of the given block: mr, or what is left in the last."""
    return min(mr, c_out - block * mr)


@inline
def pack_block(packed, weights, rows, channels, taps, taps_outer, lanes):
    """packed[k][i] = weights[i][k] for one register block, k = (channel, tap) or (tap, channel).

    Loop over k a vector at a time, over rows as many at a time, each such square transposed in
    registers; what is left of k goes element by element.
    """
    k_size = channels * taps
    # With (channel, tap) for k, k itself may be called the channel: there is one tap then.
    period = taps if taps_outer != 0 else 1
    tap_step, channel_step = channels * rows, rows
    whole = k_size - k_size % lanes
    for k in range(0, whole, lanes):
        channel = k // period
        i = 0
        while i < rows:
            transpose_lanes(
                shift(packed, i),
                shift(weights, i * k_size + k),
                k_size,
                min(lanes, rows - i),
                k - channel * period,
                channel,
                period,
                tap_step,
                channel_step,
            )
            i += lanes
    for k in range(whole, k_size):
        channel = k // period
        at = (k - channel * period) * tap_step + channel * channel_step
        for i in range(rows):
            keep_scalar()
            packed[at + i] = weights[i * k_size + k]


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
    mr = register_rows(s.c_out)
    blocks = -(-s.c_out // mr)
    task = fetch_add(indices_at(job[COUNTER]))
    while task < s.groups * blocks:
        g = task // blocks
        block = task - g * blocks
        first = (g * s.c_out + block * mr) * k_size
        rows = block_rows(s.c_out, mr, block)
        target, source = shift(packed, first), shift(weights, first)
        pack_block(target, source, rows, s.c_in, taps, job[PACK_TAPS_OUTER], job[LANES])
        task = fetch_add(indices_at(job[COUNTER]))


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
    elif column_step == 2 and row_step != 1:  # a phase of a gradient under stride 2
        for i in range(rows):
            source, target = shift(tile, first + i * tile_step), shift(out, at + i * row_step)
            j = 0
            while j < width:
                if gather:
                    copy_even_lanes(shift(source, j), shift(target, 2 * j), width - j)
                else:
                    spread_lanes(shift(target, 2 * j), shift(source, j), width - j)
                j += lanes
    else:  # channels_last: rows are neighbours in memory
        for j in range(width):
            source, target = shift(tile, first + j), shift(out, at + j * column_step)
            for i in range(rows):
                keep_scalar()
                if gather:
                    source[i * tile_step] = target[i * row_step]
                else:
                    target[i * row_step] = source[i * tile_step]
