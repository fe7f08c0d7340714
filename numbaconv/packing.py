"""Weights in the order that the register tile reads them, and tiles moved to the output."""

from numbaconv.blocking import TILE_ROWS
from numbaconv.jit import inline, native
from numbaconv.job import COUNTER, PACKED, SHAPE, WEIGHTS, worker_signature
from numbaconv.pointers import fetch_add, indices_at, pointer_at, shift
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
def pack_block(packed, weights, rows, k_size):
    """packed[k][i] = weights[i][k] for one register block.

    Loop over k 16 at a time, so that each row's cache line is read once while it is near.
    """
    for k0 in range(0, k_size, 16):
        past = min(k0 + 16, k_size)
        for i in range(rows):
            for k in range(k0, past):
                packed[k * rows + i] = weights[i * k_size + k]


@native(worker_signature)
def pack_work(worker, job, like):
    """Write weights (C_out, K) as panels [group][register block][k][MR].

    The last block of a group has only the rows that are left, so nothing is padded: block b of a
    group starts at row b * MR of it, in both orders.
    """
    s = read_shape(job, SHAPE)
    weights, packed = pointer_at(job[WEIGHTS], like), pointer_at(job[PACKED], like)
    k_size = s.c_in * kernel_taps(s)
    mr = register_rows(s.c_out)
    blocks = -(-s.c_out // mr)
    task = fetch_add(indices_at(job[COUNTER]))
    while task < s.groups * blocks:
        g = task // blocks
        block = task - g * blocks
        first = (g * s.c_out + block * mr) * k_size
        pack_block(
            shift(packed, first), shift(weights, first), block_rows(s.c_out, mr, block), k_size
        )
        task = fetch_add(indices_at(job[COUNTER]))


@inline
def move_rows(tile, first, tile_step, rows, width, out, at, row_step, column_step, gather):
    """out[at + i * row_step + j * column_step] = tile[i][first + j], or back where `gather`."""
    target = shift(out, at)
    source = shift(tile, first)
    if gather:
        for i in range(rows):
            for j in range(width):
                source[i * tile_step + j] = target[i * row_step + j * column_step]
    elif column_step == 1:
        for i in range(rows):
            for j in range(width):
                target[i * row_step + j] = source[i * tile_step + j]
    else:
        for j in range(width):
            for i in range(rows):
                target[i * row_step + j * column_step] = source[i * tile_step + j]
