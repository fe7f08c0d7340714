"""direct, fourth lowering: the product transposed, each lane of a vector an output channel.

Rows of a map that are shorter than two vectors of pixels fill them badly; here MR pixels of a row
stand in for MR channels, and vectors of channels for vectors of pixels. On maps at most MR / 2
wide two rows make one tile, so that each weight is loaded once for both. Results with the channels
last are stored as they are computed. Loops of a task: pc over input channels, KC at a time; ic
over blocks of NR output channels; rows; columns, MR at a time; the tile's own loop over
k = (channel, tap).
"""

from numbaconv.backends.direct_tasks import (
    finish_tile,
    locate_task,
    open_memory,
    open_view,
    out_index,
    read_blocks,
    task_weights,
)
from numbaconv.blocking import TILE_ROWS, TILE_VECTORS
from numbaconv.channel_tiles import first_half
from numbaconv.jit import inline, native
from numbaconv.job import COUNTER, LANES, SHAPE, TILE, worker_signature
from numbaconv.packing import block_rows, move_rows
from numbaconv.pointers import call, fetch_add, indices_at, shift
from numbaconv.shape import kernel_taps, read_shape


@inline
def transposed_pixels(
    job, m, s, t, view, weights, width, count, channel, r, j, pixels, jump, more, final
):
    """One register tile: `pixels` from (r, j) on x `width` output channels.

    The second half of the pixels lies `jump` behind the first in the view; in the output they
    are neighbours all the same.
    """
    lanes = job[LANES]
    vectors = (width + lanes - 1) // lanes
    at = out_index(s, t, channel) + r * s.out_strides[3] + j * s.out_strides[4]
    row_step, column_step = s.out_strides[4], s.out_strides[1]
    straight = column_step == 1
    target, step = m.tile, TILE_VECTORS * lanes
    if straight:
        target, step = shift(m.out, at), row_step
    elif more:
        move_rows(m.tile, 0, step, pixels, width, m.out, at, row_step, column_step, True, lanes)
    x, bias = shift(view.x, r * view.layout.pitch + j), shift(m.bias, channel)
    last = width - (vectors - 1) * lanes
    call(
        job[TILE],
        (
            pixels, vectors, count, x, jump, view.offsets, weights, width,
            target, step, bias, more, last,
        ),
    )  # fmt: skip
    finish_tile(job, target, step, pixels, width, final)
    if not straight:
        move_rows(m.tile, 0, step, pixels, width, m.out, at, row_step, column_step, False, lanes)


@inline
def rows_of_tile(s, t):
    """Two rows to a tile where both fit and lie behind one another in the output, else one."""
    neighbours = s.out_strides[3] == t.cols * s.out_strides[4]
    return 2 if neighbours and 2 * t.cols <= TILE_ROWS else 1


@inline
def transposed_channels(job, m, s, b, t, c0, channels):
    """Some input channels of a task, for all of its output channels."""
    view = open_view(m, s, job, t, c0, channels)
    count = channels * kernel_taps(s)
    final = c0 + channels == s.c_in
    chunks = (t.cols + TILE_ROWS - 1) // TILE_ROWS
    together = rows_of_tile(s, t)
    for block in range(
        t.part * b.oc_blocks // b.oc_parts, (t.part + 1) * b.oc_blocks // b.oc_parts
    ):
        width = block_rows(s.c_out, b.mr, block)
        channel = t.g * s.c_out + block * b.mr
        weights = task_weights(job, m, s, b, t, block, width, c0, channels)
        r = 0
        while r < t.rows:
            pair = together == 2 and r + 1 < t.rows
            for chunk in range(chunks):
                j = chunk * t.cols // chunks
                pixels = (chunk + 1) * t.cols // chunks - j
                jump = view.layout.pitch if pair else first_half(pixels)
                transposed_pixels(
                    job, m, s, t, view, weights, width, count, channel, r, j,
                    2 * pixels if pair else pixels, jump, c0 > 0, final,
                )  # fmt: skip
            r += 2 if pair else 1


@native(worker_signature)
def transposed_work(worker, job, like):
    """Take tasks off the common counter until none is left."""
    s, b = read_shape(job, SHAPE), read_blocks(job)
    m = open_memory(worker, job, like)
    number = fetch_add(indices_at(job[COUNTER]))
    while number < b.tasks:
        t = locate_task(number, s, b)
        for c0 in range(0, s.c_in, b.kc):
            transposed_channels(job, m, s, b, t, c0, min(b.kc, s.c_in - c0))
        number = fetch_add(indices_at(job[COUNTER]))
