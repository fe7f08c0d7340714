"""Tasks of the direct backend: which outputs one covers, and where it reads the input."""

from typing import NamedTuple

from numbaconv.codegen.jit import inline
from numbaconv.codegen.pointers import behind, call, entries, indices_at, pointer_at, shift
from numbaconv.cpu.blocking import (
    BAND_ROWS,
    BAND_VECTORS,
    INTERLEAVED_ROWS,
    STAGE_PIXELS,
    TILE_ROWS,
    TILE_VECTORS,
    share,
)
from numbaconv.cpu.direct.blocks import BLOCKS_SIZE, MatrixBlocks
from numbaconv.cpu.direct.choice import SHORT_VECTORS
from numbaconv.cpu.job import AT, BLOCKS
from numbaconv.cpu.packing.halo import FillHaloArguments, Halo, read_halo
from numbaconv.cpu.packing.rows import fill
from numbaconv.cpu.packing.weights import PackPanelArguments, block_rows
from numbaconv.problem.padding_modes import steps_to
from numbaconv.problem.shape import kernel_taps
from numbaconv.problem.taps import first_read


class TaskMemory(NamedTuple):
    """The pointers of a worker: the problem's arrays and table, and its own scratch."""

    x: object
    weights: object
    bias: object
    out: object
    tile: object
    panel: object
    halo: object
    table: object


class PlaneMemory(NamedTuple):
    """The pointers of a worker that goes by planes: the problem's arrays, the table of strips."""

    x: object
    weights: object
    bias: object
    out: object
    table: object


@inline
def plane_memory(job, like):
    """Return the pointers of a worker that goes by planes."""
    return PlaneMemory(
        pointer_at(job[AT.x], like),
        pointer_at(job[AT.packed], like),
        pointer_at(job[AT.bias], like),
        pointer_at(job[AT.out], like),
        indices_at(job[AT.table]),
    )


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
    """Where a task reads.

    Attributes
    ----------
    x, first : pointer, int
        What it reads; the element of it where the first output's taps begin, which before the
        input's first one would be padding.
    table : pointer
        Of the taps.
    layout : Halo
        Of what is read.
    step : int
        Elements from what one output of a row reads to what the next one does.
    rotation : int
        Places by which the planes kd are rotated: see `halo.plane_place`.
    copied : bool
        Whether that is a halo tile, and not the input itself.
    """

    x: object
    first: int
    table: object
    layout: Halo
    step: int
    rotation: int
    copied: bool


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
def tile_size(lanes):
    """Elements of what is moved to the output in pieces: a tile, or a short row by channels."""
    return max(SHORT_VECTORS * lanes * TILE_VECTORS, BAND_ROWS[-1] * BAND_VECTORS[-1]) * lanes


@inline
def pairs_rows(s, cols):
    """Whether two rows make a tile of pixels: they fit, and are neighbours in the output."""
    return s.out_strides[3] == cols * s.out_strides[4] and 2 * cols <= TILE_ROWS


@inline
def rows_of_stage(s, cols, lanes):
    """Rows that are moved at once: an even number if they are neighbours in the output, or one."""
    if s.out_strides[3] != cols * s.out_strides[4]:
        return 1
    return max(1, min(STAGE_PIXELS, SHORT_VECTORS * lanes) // (2 * cols) * 2)


@inline
def rows_share(s):
    """Whether neighbouring rows of results read the same rows of the input."""
    return s.stride[1] == 1 and s.dilation[1] == 1 and s.kernel[1] > 1


@inline
def rows_at_once(s):
    """Rows of results that an interleaved tile sums, at most."""
    return min(INTERLEAVED_ROWS, s.kernel[1]) if rows_share(s) else INTERLEAVED_ROWS


@inline
def off_padding(s, axis, first, count, unit):
    """Where those of `count` outputs begin and end that read no padding: multiples of a unit.

    All of them, if those are few.
    """
    read, reach = first_read(s, axis, first), (s.kernel[axis] - 1) * s.dilation[axis]
    begin = steps_to(max(-read, 0), s.stride[axis])
    begin = (begin + unit - 1) // unit * unit
    end = min(steps_to(max(s.size[axis] - reach - read, 0), s.stride[axis]), count)
    end = end if end == count else end // unit * unit
    return (begin, end) if end - begin >= 4 * unit else (0, count)


@inline
def read_blocks(job):
    """Rebuild the blocks that a lowering has."""
    return MatrixBlocks(*entries(job, BLOCKS, BLOCKS_SIZE))


@inline
def open_memory(worker, job, like):
    """Collect a worker's pointers."""
    scratch = shift(pointer_at(job[AT.scratch], like), worker * job[AT.scratch_size])
    return TaskMemory(
        pointer_at(job[AT.x], like),
        pointer_at(job[AT.packed], like),
        pointer_at(job[AT.bias], like),
        pointer_at(job[AT.out], like),
        scratch,
        shift(scratch, tile_size(job[AT.lanes])),
        shift(scratch, tile_size(job[AT.lanes]) + job[AT.panel_size]),
        indices_at(job[AT.table]),
    )


@inline
def locate_task(number, s, b):
    """Decode a task number: parts of the channels run fastest, so that they share a halo tile.

    Then come planes: what one reads is in cache still for the next.
    """
    above = number // b.oc_parts
    part = number - above * b.oc_parts
    rest = above // s.output[0] if s.output[0] > 1 else above
    od = above - rest * s.output[0]
    row = rest // (b.row_blocks * b.col_blocks)
    block = rest - row * b.row_blocks * b.col_blocks
    row_block = block // b.col_blocks
    oh, oh_end = share(s.output[1], row_block, b.row_blocks)
    ow = block % b.col_blocks * b.cols
    group_blocks = (s.groups + b.groups - 1) // b.groups
    n = row // group_blocks
    g = (row - n * group_blocks) * b.groups
    return Task(
        n,
        g,
        od,
        oh,
        ow,
        oh_end - oh,
        min(b.cols, s.output[2] - ow),
        part,
        min(b.groups, s.groups - g),
    )


@inline
def halo_extents(s, rows, cols):
    """Rows and columns of the padded input that a block of outputs reads."""
    reach_h = (s.kernel[1] - 1) * s.dilation[1]
    reach_w = (s.kernel[2] - 1) * s.dilation[2]
    return (rows - 1) * s.stride[1] + reach_h + 1, (cols - 1) * s.stride[2] + reach_w + 1


@inline
def pixels_read(s, t):
    """Whether a task reads no padding, and the elements from an image's first pixel to its last."""
    d, h, w = first_read(s, 0, t.od), first_read(s, 1, t.oh), first_read(s, 2, t.ow)
    height, width = halo_extents(s, t.rows, t.cols)
    last_d = d + (s.kernel[0] - 1) * s.dilation[0]
    last_h, last_w = h + height - 1, w + width - 1
    inside = d >= 0 and h >= 0 and w >= 0
    inside = inside and last_d < s.size[0] and last_h < s.size[1] and last_w < s.size[2]
    last = last_d * s.in_strides[2] + last_h * s.in_strides[3] + last_w * s.in_strides[4]
    return inside, last


@inline
def is_inside(s, job, t, channels, x_first):
    """Whether what a task reads, whole vectors included, is inside the input and off its padding.

    `x_first` is the index of its first channel's first element. The matrix product reads nothing
    behind a row whose channels are added at once: see `matrix.columns_again`.
    """
    vectors = TILE_VECTORS * job[AT.lanes]
    whole = job[AT.band] == 0 and channels == s.c_in and t.cols >= vectors
    behind = 0 if whole else vectors
    inside, last = pixels_read(s, t)
    last += x_first + (channels - 1) * s.in_strides[1]
    return inside and last + behind < s.n * s.in_strides[0]


@inline
def open_view(m, s, job, t, c0, channels, kept, rotation):
    """Let a task read in place where it can, else copy its halo tile and read that.

    The tile may have kept its first planes from the last task.
    """
    image, steps = t.n * s.in_strides[0], s.in_strides
    channel0 = t.g * s.c_in + c0
    first = image + channel0 * steps[1]
    d, h, w = first_read(s, 0, t.od), first_read(s, 1, t.oh), first_read(s, 2, t.ow)
    at = first + d * steps[2] + h * steps[3] + w * steps[4]
    always = job[AT.fill_halo] == 0
    if always or (job[AT.taps_in_place] != 0 and is_inside(s, job, t, channels, first)):
        pitch = s.stride[1] * steps[3]
        layout = Halo(0, 0, 1, 1, pitch, 0, 0, s.dilation[0] * steps[2], steps[1])
        step = s.stride[2] * steps[4]
        return View(m.x, at, shift(m.table, job[AT.taps_in_place]), layout, step, 0, False)
    call(
        job[AT.fill_halo],
        FillHaloArguments(
            target=m.halo,
            x=behind(job[AT.x], image, job[AT.in_size]),
            job=job,
            channel0=channel0,
            channels=channels,
            d0=d,
            h0=h,
            w0=w,
            rows=t.rows,
            cols=t.cols,
            kept=kept,
            rotation=rotation,
        ),
    )
    layout = read_halo(job)
    # As `clear_behind` does within the tile.
    fill(shift(m.halo, channels * layout.channel), 2 * job[AT.lanes], 0, job[AT.lanes])
    return View(m.halo, 0, m.table, layout, 1, rotation, True)


@inline
def open_panel(job, m, s, b, t, block, c0, channels):
    """Panel of a block of output channels: packed ahead, or packed here and now."""
    taps, width = kernel_taps(s), block_rows(s.c_out, b.mr, block)
    k_size = s.c_in * taps
    channel = t.g * s.c_out + block * b.mr
    outer, here = job[AT.pack_taps_outer] != 0, job[AT.packs_in_task] != 0
    channel_step, tap_step = taps * width, width
    if outer:
        # A line apart, or the taps of a channel would push each other out of the cache.
        channel_step = width
        tap_step = channels * width + job[AT.lanes] if here else s.c_in * width
    if not here:
        weights = shift(m.weights, channel * k_size + c0 * channel_step)
        return Panel(weights, channel_step, tap_step, channel, width)
    source = shift(m.weights, channel * k_size + c0 * taps)
    apart = tap_step if outer else 0
    call(
        job[AT.pack_panel],
        PackPanelArguments(m.panel, source, k_size, width, channels, taps, apart, job[AT.lanes]),
    )
    many = taps if outer else 1
    for i in range(many):  # what vectors read behind the weights: it may be denormal
        end = i * tap_step + (channels if outer else channels * taps) * width
        fill(shift(m.panel, end), min(-width % job[AT.lanes], b.mr), 0, job[AT.lanes])
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
