"""Tasks of the direct backend: which outputs one covers, and where it reads the input."""

from typing import NamedTuple

from numbaconv.blocking import (
    BAND_ROWS,
    BAND_VECTORS,
    SMALL_FILTERS,
    STRIP_STRIDES,
    TILE_VECTORS,
    share,
)
from numbaconv.halo import Halo, read_halo
from numbaconv.jit import inline
from numbaconv.job import (
    ACTIVATE,
    ACTIVATION,
    BIAS,
    BLOCKS,
    FILL_HALO,
    INDEX_SIZE,
    INDICES,
    LANES,
    OUT,
    PACK_IN_TASK,
    PACK_TAPS_OUTER,
    PACKED,
    PANEL_SIZE,
    SCRATCH,
    SCRATCH_SIZE,
    TABLE,
    TABLE_SIZE,
    X,
)
from numbaconv.packing import block_rows, pack_block
from numbaconv.pointers import call, entries, indices_at, pointer_at, shift
from numbaconv.shape import ZEROS, kernel_taps
from numbaconv.target import VECTOR_BYTES

# Vectors of 16 bytes (SSE, NEON) are loaded whole, or lane by lane.
HAS_MASKS = VECTOR_BYTES > 16

# Below this many output channels a group, rows of one channel fill the register block better.
BAND_CHANNELS = 4

# Rows of fewer vectors of pixels are short: see `uses_transposed`.
SHORT_VECTORS = 14

# Multiply-adds that take as long as transposing a vector of results on its way to the output.
MOVE_COST = 10


class Blocks(NamedTuple):
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


BLOCKS_SIZE = len(Blocks._fields)


class Memory(NamedTuple):
    """The pointers of a worker: the problem's arrays, its own scratch and its own tables."""

    x: object
    weights: object
    bias: object
    out: object
    tile: object
    panel: object
    halo: object
    offsets: object
    offsets_in_place: object
    taps: object


class Panel(NamedTuple):
    """Weights of `width` output channels, from `channel` on.

    Attributes
    ----------
    weights : pointer
        [k][width], k = (input channel, tap), or (tap, input channel) with the taps outside.
    channel_step, tap_step : int
        Elements from one input channel, and from one tap, to the next.
    """

    weights: object
    channel_step: int
    tap_step: int
    channel: int
    width: int


class View(NamedTuple):
    """Where a task reads: a pointer to its first element, the offsets of taps, the layout."""

    x: object
    offsets: object
    layout: Halo


class Task(NamedTuple):
    """One block of the output: its first element and its extents."""

    n: int
    g: int
    od: int
    oh: int
    ow: int
    rows: int
    cols: int
    part: int
    groups: int


@inline
def uses_bands(s):
    """Few output channels a group, and rows that share input rows (stride or dilation is 1)."""
    return s.c_out < BAND_CHANNELS and (s.stride[1] == 1 or s.dilation[1] == 1)


@inline
def uses_folds(s):
    """Of bands, long filters along long rows: signals, and rows of an image.

    Under 20 taps few of the loads are saved: 17 taps ran at 0.9 of the speed of a band, 21 taps at
    1.1, 32 at 1.4, 64 at 1.6. On short rows the edges of blocks and the halo take more than that:
    512 columns under 31 taps ran at 0.9, 700 under 101 at 1.4.
    """
    single = s.kernel[1] == 1 and s.dilation[2] == 1
    long = s.kernel[2] >= 20 * s.stride[2] and s.output[2] * s.kernel[2] >= 20_000
    return uses_bands(s) and single and long


@inline
def uses_planes(s):
    """Depthwise, on rows that lie dense in memory, where masks can stand for the padding.

    Strips go down a plane, bands along its rows, which memory prefers: on planes that no cache
    holds, filters of 5x5 and more get bands (7x7 on 512 x 512: 1.6 times as fast). On smaller
    planes strips are 1.2 times as fast and more; 3x3 keeps 1.5 on 600 x 600, 0.9 to 1.0 on 1080 x
    1080.
    """
    depthwise = s.c_in == 1 and s.c_out == 1 and s.groups > 1
    dense = s.in_strides[4] == 1 and s.out_strides[4] == 1 and s.padding_mode == ZEROS
    stride = s.stride[1]
    regular = stride == s.stride[2] and (
        stride == 1 or (stride in STRIP_STRIDES and s.dilation[1] == 1 and s.dilation[2] == 1)
    )
    cached = kernel_taps(s) < 25 or s.output[1] * s.output[2] <= 1 << 17
    return depthwise and dense and regular and cached and HAS_MASKS and not uses_folds(s)


@inline
def has_half(cols, lanes):
    """Whether half a vector holds so many columns."""
    return 2 * cols <= lanes


@inline
def uses_small_planes(s, lanes):
    """Of planes, those whose rows all fit the registers, under the usual filters and padding.

    Against strips 1.4 times as fast on 7 x 7 under 5x5 and 7x7, 1.05 to 1.1 on 14 x 14, 1.0 to 1.2
    under 3x3 and with a stride of 2.
    """
    kd, kh, kw = s.kernel
    most = lanes // 2 if has_half(s.output[2], lanes) else lanes
    fits = max(s.output[1], s.output[2]) <= most and s.size[1] <= most * s.stride[1]
    # Input rows, and planes of a volume, are read without asking whether they are padding.
    filtered = kh == kw and kh in SMALL_FILTERS and s.padding[1] == kh // 2
    flat = kd == 1 and s.padding[0] == 0 and (s.output[0] - 1) * s.stride[0] < s.size[0]
    dense = s.dilation[1] == 1 and s.dilation[2] == 1
    return fits and filtered and flat and dense and uses_planes(s)


@inline
def uses_channels(s, lanes):
    """Depthwise, with channels enough to fill a vector, unless rows of pixels do better.

    They do so where the copy to lanes and back costs more than it saves: under filters of 5x5 and
    more on wide rows that are neighbours in memory (1.2 times as fast under 7x7 on 512 columns).
    """
    wide_rows = s.in_strides[4] == 1 and s.stride[2] == 1 and s.output[2] >= 64
    depthwise = s.c_in == 1 and s.c_out == 1 and s.groups >= lanes
    neighbours = s.out_strides[1] == 1 or s.out_strides[4] == 1  # not in a phase of a gradient
    large = kernel_taps(s) >= 25 and wide_rows
    folds = uses_folds(s) and s.in_strides[4] == 1
    return depthwise and neighbours and not large and not folds


@inline
def fills_lanes(s, lanes):
    """Whether the output channels of a group fill vectors."""
    filled = -(-s.c_out // lanes) * lanes
    return s.c_out >= lanes and 5 * filled <= 6 * s.c_out


@inline
def has_short_rows(s, lanes):
    """Whether output rows have less than SHORT_VECTORS vectors."""
    return s.output[2] < SHORT_VECTORS * lanes


@inline
def padded_columns(s):
    """Columns of a row of outputs, summed over a row of taps, that read padding (stride 1)."""
    count = 0
    for kw in range(s.kernel[2]):
        first = kw * s.dilation[2] - s.padding[2]
        inside = min(s.output[2], s.size[2] - first) - max(0, -first)
        count += s.output[2] - max(0, inside)
    return count


@inline
def uses_zones(s, lanes):
    """Dilated layers, with channels enough on both sides: up to 1.5 times as fast on short rows.

    With a dilation of 2 that was 0.9 to 1.1, and where less than a twentieth of the columns read
    padding (wide maps, or none) 0.85 to 1.0: rows, too, leave their taps out without zones.
    """
    dilated = s.kernel[2] > 1 and s.dilation[2] > 2 and s.stride[2] == 1
    fills = s.c_in >= 2 * lanes and s.c_out >= 2 * lanes and fills_lanes(s, lanes)
    zeros = s.padding_mode == ZEROS and has_short_rows(s, lanes)
    return dilated and fills and zeros and 20 * padded_columns(s) >= s.kernel[2] * s.output[2]


@inline
def uses_transposed(s, lanes):
    """Output channels that fill vectors, and rows of pixels that do not, or that lie apart.

    On short rows the product transposed is up to 1.3 times as fast (R5, R8, G1 of
    `benchmarks/layers.csv`), on longer ones down to 0.65 times (V2, S1, A2, A4). It computes no
    pixels but those of the output, yet moving a vector of its results takes as long as some ten
    multiply-adds: rows of pixels that waste less than that are stored straight (k = 9: 1.5 to 2
    times as fast, k = 27: 1.1 to 1.6 times, whole vectors under k = 576: 1.0 to 1.1 times). A tile
    of a single vector of channels loads a pixel for each multiply-add and is a ninth slower.
    """
    wasted = -s.output[2] % lanes
    k_size = s.c_in * kernel_taps(s)
    cost = MOVE_COST if s.c_out >= 2 * lanes else MOVE_COST + k_size // 9
    wasteful = k_size * wasted > cost * s.output[2]
    short_rows = has_short_rows(s, lanes) and wasteful and s.out_strides[4] == 1
    return fills_lanes(s, lanes) and (short_rows or s.out_strides[1] == 1)


def channel_parts(blocks, threads):
    """Parts of the output channels that make tasks enough of few blocks.

    Each part copies the halo tile anew: one a thread, or two where they come out unequal.
    """
    if blocks >= 2 * threads:
        return 1
    shares = threads if threads % blocks == 0 else 2 * threads
    return -(-shares // blocks)


@inline
def tile_size(lanes):
    """Elements of what is moved to the output in pieces: a tile, or a short row by channels."""
    return max(SHORT_VECTORS * lanes * TILE_VECTORS, BAND_ROWS[-1] * BAND_VECTORS[-1]) * lanes


@inline
def read_blocks(job):
    """Rebuild the blocks that `plan` wrote."""
    return Blocks(*entries(job, BLOCKS, BLOCKS_SIZE))


@inline
def open_memory(worker, job, like):
    """Collect a worker's pointers."""
    scratch = shift(pointer_at(job[SCRATCH], like), worker * job[SCRATCH_SIZE])
    offsets = indices_at(job[TABLE])
    return Memory(
        pointer_at(job[X], like),
        pointer_at(job[PACKED], like),
        pointer_at(job[BIAS], like),
        pointer_at(job[OUT], like),
        scratch,
        shift(scratch, tile_size(job[LANES])),
        shift(scratch, tile_size(job[LANES]) + job[PANEL_SIZE]),
        offsets,
        shift(offsets, job[TABLE_SIZE] // 2),
        shift(indices_at(job[INDICES]), worker * job[INDEX_SIZE]),
    )


@inline
def locate_task(number, s, b):
    """Decode a task number: parts of the channels run fastest, so that they share a halo tile."""
    rest = number // b.oc_parts
    part = number - rest * b.oc_parts
    plane = rest // (b.row_blocks * b.col_blocks)
    block = rest - plane * b.row_blocks * b.col_blocks
    row_block = block // b.col_blocks
    oh, oh_end = share(s.output[1], row_block, b.row_blocks)
    ow = block % b.col_blocks * b.cols
    row = plane // s.output[0]
    group_blocks = (s.groups + b.groups - 1) // b.groups
    n = row // group_blocks
    g = (row - n * group_blocks) * b.groups
    return Task(
        n,
        g,
        plane % s.output[0],
        oh,
        ow,
        oh_end - oh,
        min(b.cols, s.output[2] - ow),
        part,
        min(b.groups, s.groups - g),
    )


@inline
def can_read_in_place(s, t, channels, lanes, x_first):
    """Whether a task's reads, whole vectors included, stay inside the input and off its padding.

    Only filters read in place: each input row serves a task once or twice. The matrix product
    reads many channels side by side, each a stream of its own to the prefetcher; copied to a halo
    tile first it ran up to 1.5 times as fast (C1, B2 and A1 of `benchmarks/layers.csv`).
    """
    if not uses_bands(s) or s.stride[1] != 1 or s.stride[2] != 1 or s.in_strides[4] != 1:
        return False
    d = t.od * s.stride[0] - s.padding[0]
    h, w = t.oh - s.padding[1], t.ow - s.padding[2]
    last_d = d + (s.kernel[0] - 1) * s.dilation[0]
    last_h = h + t.rows - 1 + (s.kernel[1] - 1) * s.dilation[1]
    last_w = w + t.cols - 1 + (s.kernel[2] - 1) * s.dilation[2]
    inside = d >= 0 and h >= 0 and w >= 0
    inside = inside and last_d < s.size[0] and last_h < s.size[1] and last_w < s.size[2]
    last = (
        x_first
        + (channels - 1) * s.in_strides[1]
        + last_d * s.in_strides[2]
        + last_h * s.in_strides[3]
        + last_w
    )
    return inside and last + TILE_VECTORS * lanes <= s.n * s.in_strides[0]


@inline
def open_view(m, s, job, t, c0, channels):
    """Let a task read in place where it can, else copy its halo tile and read that."""
    image = t.n * s.in_strides[0]
    channel0 = t.g * s.c_in + c0
    d = t.od * s.stride[0] - s.padding[0]
    h = t.oh * s.stride[1] - s.padding[1]
    w = t.ow * s.stride[2] - s.padding[2]
    if can_read_in_place(s, t, channels, job[LANES], image + channel0 * s.in_strides[1]):
        at = image + channel0 * s.in_strides[1] + d * s.in_strides[2] + h * s.in_strides[3] + w
        steps = s.in_strides
        layout = Halo(0, 0, 1, 1, steps[3], 0, 0, s.dilation[0] * steps[2], steps[1])
        return View(shift(m.x, at), m.offsets_in_place, layout)
    call(
        job[FILL_HALO],
        (m.halo, shift(m.x, image), job, channel0, channels, d, h, w, t.rows, t.cols),
    )
    return View(m.halo, m.offsets, read_halo(job))


@inline
def open_panel(job, m, s, b, t, block, c0, channels):
    """Panel of a block of output channels: packed ahead, or packed here and now."""
    taps, width = kernel_taps(s), block_rows(s.c_out, b.mr, block)
    k_size = s.c_in * taps
    channel = t.g * s.c_out + block * b.mr
    outer, here = job[PACK_TAPS_OUTER], job[PACK_IN_TASK] != 0
    channel_step, tap_step = taps * width, width
    if outer != 0:
        channel_step, tap_step = width, (channels if here else s.c_in) * width
    if not here:
        weights = shift(m.weights, channel * k_size + c0 * channel_step)
        return Panel(weights, channel_step, tap_step, channel, width)
    source = shift(m.weights, channel * k_size + c0 * taps)
    pack_block(m.panel, source, k_size, width, channels, taps, outer, job[LANES])
    return Panel(m.panel, channel_step, tap_step, channel, width)


@inline
def out_index(s, t, channel):
    """Index of the first output of a task in a channel."""
    return (
        t.n * s.out_strides[0]
        + channel * s.out_strides[1]
        + t.od * s.out_strides[2]
        + t.oh * s.out_strides[3]
        + t.ow * s.out_strides[4]
    )


@inline
def finish_tile(job, target, step, rows, width, final):
    """Apply the activation, if there is one, to a tile whose sums are complete."""
    if final and job[ACTIVATION] != 0:
        call(job[ACTIVATE], (target, step, rows, width, job[ACTIVATION]))
