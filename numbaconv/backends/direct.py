"""direct: read the input where it lies, or a halo tile of it; there is no patch matrix.

Loops, outermost first: tasks (image, group, output plane, block of rows, block of columns, part
of the output channels), shared out over the threads; pc over input channels, KC at a time; the
halo tile is copied, unless the task can read the input in place; then one of two lowerings:

- `multiply_block`: ic over register blocks of MR output channels; jr over pixels, NR at a time;
  the tile's own loop over k = (channel, tap), each at its offset.
- `filter_block`, where a group has so few output channels that rows of one channel fill the
  register block better: loops over output channels, MR rows and a few vectors of columns; over
  input channels, kd and phases; the band's own loops over kh and kw.
"""

from typing import NamedTuple

from numbaconv.activation import NONE, activate
from numbaconv.blocking import (
    BAND_ROWS,
    BAND_VECTORS,
    CACHE_BYTES,
    TASKS_PER_THREAD,
    TILE_ROWS,
    TILE_VECTORS,
)
from numbaconv.halo import Halo, fill_halo, halo_layout, tap_offsets, tap_offsets_in_place
from numbaconv.jit import inline, native
from numbaconv.job import (
    ACTIVATION,
    BAND,
    BIAS,
    BLOCKS,
    COUNTER,
    INDEX_SIZE,
    INDICES,
    LANES,
    OUT,
    PACKED,
    SCRATCH,
    SCRATCH_SIZE,
    SHAPE,
    TILE,
    X,
    set_entries,
    worker_signature,
)
from numbaconv.packing import block_rows, gather_rows, register_rows, scatter_rows
from numbaconv.pointers import call, fetch_add, indices_at, pointer_at, shift
from numbaconv.shape import kernel_taps, read_shape
from numbaconv.target import VECTOR_BYTES

# Below this many output channels a group, rows of one channel fill the register block better.
BAND_CHANNELS = 4


class Blocks(NamedTuple):
    """How a problem is cut.

    Attributes
    ----------
    mr, oc_blocks, oc_parts : int
        Rows of a register block; blocks of a group; tasks that share them.
    rows, cols : int
        Outputs of a task.
    row_blocks, col_blocks : int
        Blocks of an output plane.
    kc : int
        Input channels in a halo tile.
    bands : int
        1: `filter_block`; 0: `multiply_block`.
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
    bands: int
    tasks: int


class Memory(NamedTuple):
    """The pointers of a worker: the problem's arrays, its own scratch and its own tables."""

    x: object
    weights: object
    bias: object
    out: object
    halo: object
    tile: object
    offsets: object
    offsets_in_place: object
    tile_address: object
    band_address: object


class View(NamedTuple):
    """Where a task reads: a pointer to its first element, row pitch and the offsets of taps."""

    x: object
    pitch: int
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


@inline
def uses_bands(s):
    """Few output channels a group, and rows that share input rows (stride or dilation is 1)."""
    return s.c_out < BAND_CHANNELS and (s.stride[1] == 1 or s.dilation[1] == 1)


@inline
def cut(s, itemsize, threads):
    """Choose the blocks of a problem.

    Rows: at least about 400 pixels, so that a panel of weights is used often; then more while the
    halo tile stays within CACHE_BYTES and the threads have tasks enough. Where even the fewest
    rows of all channels are too much, fewer channels at a time.
    """
    lanes = VECTOR_BYTES // itemsize
    budget = CACHE_BYTES // itemsize
    bands = 1 if uses_bands(s) else 0
    od, oh, ow = s.output
    widest = 1024 if bands else 512
    col_blocks = -(-ow // widest)
    cols = min(ow, -(-ow // col_blocks // (4 * lanes)) * 4 * lanes)
    col_blocks = -(-ow // cols)
    least = min(oh, max(1, 400 // cols))
    kc = s.c_in
    if kc * halo_layout(s, least, cols).channel > budget:
        kc = max(1, min(kc, budget // halo_layout(s, least, cols).channel))
        kc = -(-s.c_in // -(-s.c_in // kc))
    planes = s.n * s.groups * od * col_blocks
    wanted = threads * TASKS_PER_THREAD if threads > 1 else 1
    rows = least
    while (
        rows < oh
        and kc * halo_layout(s, 2 * rows, cols).channel <= budget
        and planes * (oh // (2 * rows)) >= wanted
    ):
        rows = min(oh, 2 * rows)
    row_blocks = -(-oh // rows)
    rows = -(-oh // row_blocks)
    row_blocks = -(-oh // rows)
    mr = register_rows(s.c_out)
    oc_blocks = -(-s.c_out // mr)
    blocks = planes * row_blocks
    oc_parts = 1
    if threads > 1 and blocks < 2 * threads and not bands:
        oc_parts = min(oc_blocks, -(-wanted // blocks))
    return Blocks(
        mr, oc_blocks, oc_parts, rows, cols, row_blocks, col_blocks, kc, bands, blocks * oc_parts
    )


@inline
def locate_task(number, s, b):
    """Decode a task number: parts of the channels run fastest, so that they share a halo tile."""
    rest = number // b.oc_parts
    part = number - rest * b.oc_parts
    plane = rest // (b.row_blocks * b.col_blocks)
    block = rest - plane * b.row_blocks * b.col_blocks
    oh = block // b.col_blocks * b.rows
    ow = block % b.col_blocks * b.cols
    image = plane // s.output[0]
    return Task(
        image // s.groups,
        image % s.groups,
        plane % s.output[0],
        oh,
        ow,
        min(b.rows, s.output[1] - oh),
        min(b.cols, s.output[2] - ow),
        part,
    )


@inline
def can_read_in_place(s, t, channels, lanes, x_first):
    """Whether a task's reads, whole vectors included, stay inside the input and off its padding."""
    if s.stride[1] != 1 or s.stride[2] != 1 or s.in_strides[4] != 1:
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
def open_view(m, s, b, t, c0, channels, lanes):
    """Let a task read in place where it can, else copy its halo tile and read that."""
    image = t.n * s.in_strides[0]
    channel0 = t.g * s.c_in + c0
    d = t.od * s.stride[0] - s.padding[0]
    h = t.oh * s.stride[1] - s.padding[1]
    w = t.ow * s.stride[2] - s.padding[2]
    if can_read_in_place(s, t, channels, lanes, image + channel0 * s.in_strides[1]):
        at = image + channel0 * s.in_strides[1] + d * s.in_strides[2] + h * s.in_strides[3] + w
        layout = Halo(
            0,
            s.in_strides[3],
            1,
            1,
            0,
            0,
            s.dilation[0] * s.in_strides[2],
            s.in_strides[1],
        )
        return View(shift(m.x, at), s.in_strides[3], m.offsets_in_place, layout)
    layout = halo_layout(s, b.rows, b.cols)
    fill_halo(m.halo, shift(m.x, image), s, layout, channel0, channels, d, h, w, t.rows, t.cols)
    return View(m.halo, layout.pitch, m.offsets, layout)


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
def move_segments(m, step, rows, s, at, p, width, pitch, cols, gather):
    """Scatter a tile of flat pixels p, p + 1, ... to the output (or gather it), row by row.

    Flat pixel r * pitch + c is output (r, c); those with c >= cols are junk and are dropped.
    """
    j = 0
    while j < width:
        r = (p + j) // pitch
        c = p + j - r * pitch
        run = min(max(cols, c + 1) - c, width - j)
        if c < cols:
            to = at + r * s.out_strides[3] + c * s.out_strides[4]
            if gather:
                gather_rows(
                    m.tile, j, step, rows, run, m.out, to, s.out_strides[1], s.out_strides[4]
                )
            else:
                scatter_rows(
                    m.tile, j, step, rows, run, m.out, to, s.out_strides[1], s.out_strides[4]
                )
        else:
            run = pitch - c
        j += run


@inline
def multiply_pixels(m, s, t, view, weights, rows, count, channel, p, end, more, activation, lanes):
    """One register tile: MR channels x the NR flat pixels from p on. Returns the next pixel."""
    width = min(TILE_VECTORS * lanes, end - p)
    vectors = -(-width // lanes)
    r = p // view.pitch
    c = p - r * view.pitch
    at = out_index(s, t, channel)
    straight = c + width <= t.cols and s.out_strides[4] == 1
    if straight:
        target = shift(m.out, at + r * s.out_strides[3] + c)
        step = s.out_strides[1]
    else:
        target = m.tile
        step = TILE_VECTORS * lanes
        if more:
            move_segments(m, step, rows, s, at, p, width, view.pitch, t.cols, True)
    last = width - (vectors - 1) * lanes
    call(
        m.tile_address,
        (
            rows,
            vectors,
            count,
            weights,
            shift(view.x, p),
            view.offsets,
            target,
            step,
            shift(m.bias, channel),
            more,
            last,
        ),
    )
    activate(target, step, rows, width, activation)
    if not straight:
        move_segments(m, step, rows, s, at, p, width, view.pitch, t.cols, False)
    p += width
    column = p % view.pitch
    return p if column < t.cols else p - column + view.pitch


@inline
def multiply_block(m, s, b, t, view, c0, channels, activation, lanes):
    """Output channels of a task: register blocks, then pixels.

    The rows are one long vector with the pitch of the view, junk between them, where that takes
    fewer vectors than row by row.
    """
    taps = kernel_taps(s)
    block0 = t.part * b.oc_blocks // b.oc_parts
    block1 = (t.part + 1) * b.oc_blocks // b.oc_parts
    flat = (t.rows - 1) * view.pitch + t.cols
    by_rows = t.rows * -(-t.cols // lanes)
    length = flat if -(-flat // lanes) < by_rows else t.cols
    for block in range(block0, block1):
        rows = block_rows(s.c_out, b.mr, block)
        channel = t.g * s.c_out + block * b.mr
        weights = shift(m.weights, channel * s.c_in * taps + c0 * taps * rows)
        p = 0
        while p < flat:
            end = min(flat, p + length)
            while p < end:
                p = multiply_pixels(
                    m,
                    s,
                    t,
                    view,
                    weights,
                    rows,
                    channels * taps,
                    channel,
                    p,
                    end,
                    c0 > 0,
                    activation,
                    lanes,
                )


@inline
def filter_tile(m, s, view, weights, channels, rows, vectors, at, target, step, bias, more, last):
    """MR output rows x some vectors of columns: all input channels, kd and phases of rows."""
    height, width = s.kernel[1], s.kernel[2]
    for c in range(channels):
        for kd in range(s.kernel[0]):
            for q in range(view.layout.phases_h):
                x = c * view.layout.channel + kd * view.layout.depth + q * view.layout.phase
                call(
                    m.band_address,
                    (
                        rows,
                        vectors,
                        (height - q + view.layout.phases_h - 1) // view.layout.phases_h,
                        width,
                        shift(view.x, x + at),
                        view.pitch * (s.dilation[1] if s.stride[1] == 1 else 1),
                        view.offsets,
                        shift(weights, ((c * s.kernel[0] + kd) * height + q) * width),
                        width * view.layout.phases_h,
                        target,
                        step,
                        bias,
                        more or c + kd + q > 0,
                        last,
                    ),
                )


@inline
def filter_rows(m, s, t, view, weights, channels, channel, r, rows, apart, more, activation, lanes):
    """`rows` output rows, `apart` from each other: their columns, a few vectors at a time."""
    width_max = BAND_VECTORS[-1] * lanes
    first = 0
    while first < t.cols:
        vectors = min(-(-(t.cols - first) // lanes), BAND_VECTORS[-1])
        vectors = 2 if vectors == 3 else vectors
        width = min(vectors * lanes, t.cols - first)
        at = out_index(s, t, channel) + r * s.out_strides[3] + first * s.out_strides[4]
        straight = s.out_strides[4] == 1
        if straight:
            target = shift(m.out, at)
            step = apart * s.out_strides[3]
        else:
            target = m.tile
            step = width_max
            if more:
                gather_rows(
                    target,
                    0,
                    step,
                    rows,
                    width,
                    m.out,
                    at,
                    apart * s.out_strides[3],
                    s.out_strides[4],
                )
        filter_tile(
            m,
            s,
            view,
            weights,
            channels,
            rows,
            vectors,
            r * view.pitch + first,
            target,
            step,
            shift(m.bias, channel),
            more,
            width - (vectors - 1) * lanes,
        )
        activate(target, step, rows, width, activation)
        if not straight:
            scatter_rows(
                target,
                0,
                step,
                rows,
                width,
                m.out,
                at,
                apart * s.out_strides[3],
                s.out_strides[4],
            )
        first += width


@inline
def filter_block(m, s, t, view, c0, channels, activation, lanes):
    """Output channels of a task, one at a time; rows that share input rows, MR at a time.

    Under a dilation d those rows are d apart.
    """
    apart = s.dilation[1]
    k_size = s.c_in * kernel_taps(s)
    for oc in range(s.c_out):
        channel = t.g * s.c_out + oc
        weights = shift(m.weights, channel * k_size + c0 * kernel_taps(s))
        for residue in range(min(apart, t.rows)):
            r = residue
            while r < t.rows:
                left = (t.rows - r + apart - 1) // apart
                rows = 4 if left >= 4 else (2 if left >= 2 else 1)
                filter_rows(
                    m,
                    s,
                    t,
                    view,
                    weights,
                    channels,
                    channel,
                    r,
                    rows,
                    apart,
                    c0 > 0,
                    activation,
                    lanes,
                )
                r += rows * apart


@inline
def run_task(number, m, s, b, activation, lanes):
    """All input channels of a task, KC at a time; the activation comes with the last of them."""
    t = locate_task(number, s, b)
    for c0 in range(0, s.c_in, b.kc):
        channels = min(b.kc, s.c_in - c0)
        code = activation if c0 + channels == s.c_in else NONE
        view = open_view(m, s, b, t, c0, channels, lanes)
        if b.bands:
            filter_block(m, s, t, view, c0, channels, code, lanes)
        else:
            multiply_block(m, s, b, t, view, c0, channels, code, lanes)


@inline
def read_blocks(job):
    """Rebuild the blocks that `plan` wrote."""
    i = BLOCKS
    return Blocks(
        job[i],
        job[i + 1],
        job[i + 2],
        job[i + 3],
        job[i + 4],
        job[i + 5],
        job[i + 6],
        job[i + 7],
        job[i + 8],
        job[i + 9],
    )


@inline
def tile_size(lanes):
    """Elements of the tile that is moved to the output in pieces."""
    return max(TILE_ROWS * TILE_VECTORS, BAND_ROWS[-1] * BAND_VECTORS[-1]) * lanes


@native(worker_signature)
def work(worker, job, like):
    """Prepare the tables, then take tasks off the common counter until none is left."""
    s = read_shape(job, SHAPE)
    b = read_blocks(job)
    scratch = shift(pointer_at(job[SCRATCH], like), worker * job[SCRATCH_SIZE])
    indices = shift(indices_at(job[INDICES]), worker * job[INDEX_SIZE])
    lanes = job[LANES]
    m = Memory(
        pointer_at(job[X], like),
        pointer_at(job[PACKED], like),
        pointer_at(job[BIAS], like),
        pointer_at(job[OUT], like),
        shift(scratch, tile_size(lanes)),
        scratch,
        indices,
        shift(indices, b.kc * kernel_taps(s)),
        job[TILE],
        job[BAND],
    )
    tap_offsets(m.offsets, s, halo_layout(s, b.rows, b.cols), b.kc)
    tap_offsets_in_place(m.offsets_in_place, s, b.kc)
    counter = indices_at(job[COUNTER])
    number = fetch_add(counter)
    while number < b.tasks:
        run_task(number, m, s, b, job[ACTIVATION], lanes)
        number = fetch_add(counter)


@inline
def plan(job, s, itemsize, threads):
    """Fill a job's blocks and sizes for a problem; return its number of tasks."""
    b = cut(s, itemsize, threads)
    set_entries(job, BLOCKS, b)
    lanes = VECTOR_BYTES // itemsize
    halo = halo_layout(s, b.rows, b.cols)
    # Vector loads of the last tap reach past the last row.
    slack = halo.pitch + BAND_VECTORS[-1] * lanes
    job[SCRATCH_SIZE] = tile_size(lanes) + b.kc * halo.channel + slack
    job[INDEX_SIZE] = 2 * b.kc * kernel_taps(s)
    job[LANES] = lanes
    return b.tasks


def unavailable() -> str | None:
    """Why the backend cannot run here: it always can."""
    return None
