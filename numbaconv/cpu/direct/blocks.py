"""How the output of a problem is cut into tasks: the value, and the rules that lowerings share."""

from typing import NamedTuple

from numbaconv.codegen.integers import ceil_div, round_up
from numbaconv.cpu import blocking
from numbaconv.cpu.job import MOST_BLOCKS, size_within
from numbaconv.cpu.packing.halo import axis_reach, channel_sizes
from numbaconv.problem.shape import kernel_taps

# Pixels of a task: so many use a panel of weights often enough; so few, where they keep all input
# channels in cache.
USUAL_PIXELS, FEWEST_PIXELS = 400, 256

# Columns of a task, at most, where rows can be shared out too.
USUAL_COLUMNS = 1024

# Of channels that are innermost: bytes of the input rows that a row of outputs reads, at most: few
# for the second-level cache. The wider a task is, the longer runs the prefetchers of memory see.
PIXEL_ROWS_BYTES = 1 << 18

# Copying an element to a halo tile takes as long as so many multiply-adds.
COPIED = 64

# Columns of such a task are a multiple of this where there are more: rows of results then begin at
# cache lines if the output's do.
PIXEL_COLUMNS_UNIT = 16


class MatrixBlocks(NamedTuple):
    """How a problem is cut.

    Attributes
    ----------
    mr, oc_blocks, oc_parts : int
        Rows of a register block; blocks of a group; tasks that share them.
    rows, cols : int
        Outputs of a task, at most: all blocks of rows are equal, but for one row.
    row_blocks, col_blocks : int
        Blocks of an output plane.
    kc : int
        Input channels of a group in a halo tile.
    groups : int
        Groups of a task, more than one only with bands and all input channels at once.
    tasks : int
        Tasks of the problem.
    """

    mr: int
    oc_blocks: int
    oc_parts: int
    rows: int
    cols: int
    row_blocks: int
    col_blocks: int
    kc: int
    groups: int
    tasks: int


BLOCKS_SIZE = size_within(MatrixBlocks, MOST_BLOCKS)


def channel_parts(blocks, threads):
    """Parts of the output channels that make tasks enough of few blocks.

    Each part copies the halo tile anew: one a thread, or two where they come out unequal.
    """
    if blocks >= 2 * threads:
        return 1
    shares = threads if threads % blocks == 0 else 2 * threads
    return ceil_div(shares, blocks)


def even_blocks(s, fewest, planes, threads, oc_blocks):
    """Blocks of rows, `fewest` or some more, that take the least time on all threads.

    The thread that has the most tasks computes their rows, and copies the halo of each. Few blocks
    are left alone if equal parts of the output channels make more tasks of them, unless the copies,
    which each part makes anew, take half as long as the products.
    """
    oh, products = s.output[1], s.c_out * kernel_taps(s)
    parts = channel_parts(planes * fewest, threads)
    if parts > 1 and oc_blocks % parts == 0 and products > 2 * COPIED:
        return fewest
    halo = axis_reach(s.kernel[1], s.stride[1], s.dilation[1]) * COPIED / products

    def longest(blocks):
        return ceil_div(planes * blocks, threads) * (oh / blocks + halo)

    return min(range(fewest, min(oh, fewest + threads) + 1), key=longest)


def fit_cache(s, cols, mr, itemsize):
    """Rows of a task, at least, and the input channels that its halo tile has at a time.

    Channels by parts write and read each output once a part. All at once are faster on fewer rows,
    or on a larger halo tile, while that and a panel of weights fit the cache.
    """
    budget = blocking.CACHE_BYTES
    size, usual = channel_sizes(s, cols, itemsize), rows_of(s, cols, USUAL_PIXELS)
    channel = size(usual) * itemsize
    if s.c_in * channel <= budget:
        return usual, s.c_in
    most = 2 * budget - mr * s.c_in * kernel_taps(s) * itemsize  # beside a panel of weights
    fewest = rows_of(s, cols, FEWEST_PIXELS)
    if s.c_in * size(fewest) * itemsize <= min(budget, most):
        return fewest, s.c_in
    if s.c_in * channel <= most:
        return usual, s.c_in
    return usual, ceil_div(s.c_in, ceil_div(s.c_in, max(1, budget // channel)))


def rows_of(s, cols, pixels):
    """Rows of so many columns that have about so many pixels."""
    return min(s.output[1], max(1, pixels // cols))


def more_rows(s, rows, cols, kc, planes, threads, itemsize):
    """Twice the rows, and again, while the halo tile fits the cache and tasks are enough."""
    oh, budget = s.output[1], blocking.CACHE_BYTES // itemsize
    wanted, size = wanted_tasks(threads), channel_sizes(s, cols, itemsize)
    while rows < oh and kc * size(2 * rows) <= budget and planes * (oh // (2 * rows)) >= wanted:
        rows = min(oh, 2 * rows)
    return rows


def rows_in_cache(oh, planes, threads, budget, size):
    """Rows of a task: tasks enough for all threads, and a halo tile of at most `budget` elements.

    `size` gives the elements of the halo tile of so many rows of outputs.
    """
    blocks = min(oh, ceil_div(wanted_tasks(threads), planes))
    while blocks < oh and size(ceil_div(oh, blocks)) > budget:
        blocks = min(oh, 2 * blocks)
    return ceil_div(oh, blocks)


def wanted_tasks(threads):
    """Tasks that keep all threads busy to the end."""
    return threads * blocking.TASKS_PER_THREAD if threads > 1 else 1


def columns_of_pixels(s, itemsize):
    """Columns of a task of `depthwise_interleaved`, equal parts of a row."""
    ow, column = s.output[2], s.kernel[1] * s.groups * s.c_out * s.stride[2]
    widest = max(PIXEL_ROWS_BYTES // (itemsize * column), PIXEL_COLUMNS_UNIT)
    cols = ceil_div(ow, ceil_div(ow, widest))
    return min(ow, round_up(cols, PIXEL_COLUMNS_UNIT))


def cut_evenly(s, widest, unit, threads):
    """Columns of a task: about equal parts of a row, no wider than `widest`, of whole units.

    Of a signal there are some more parts, if the thread that has the most then has fewer columns.
    """
    oh, ow = s.output[1:]
    units, fewest = ceil_div(ow, unit), ceil_div(ow, widest)
    planes, most = s.n * s.groups * s.output[0], fewest
    if threads > 1 and oh == 1 and ow >= threads * USUAL_PIXELS:
        most += 2 * threads

    def longest(blocks):
        each = ceil_div(units, blocks)
        return ceil_div(planes * ceil_div(units, each), threads) * each

    return min(ow, ceil_div(units, min(range(fewest, most + 1), key=longest)) * unit)


def halo_elements(b, layout, lanes):
    """Elements of a halo tile. Vector loads of the last tap reach past its last row."""
    slack = layout.pitch + blocking.BAND_VECTORS[-1] * lanes
    return round_up(b.groups * b.kc * layout.channel + slack, lanes)
