"""direct, fifth lowering: strips of columns of one plane. It serves depthwise layers.

The input is read in place: there is no halo tile, and nothing to pack. Loops of a task (some
planes that are neighbours, a block of rows): columns, a strip at a time; rows a dilation apart; kd;
rows of the filter, as many as the tile has sums for; the tile's own loops over planes, rows and kw.
Of a plane that is one row, strips side by side are a plane to the tile, each strip a row of it. On
small maps there is one strip, and a tile that has the sums of all rows in registers.
"""

import itertools

import numpy as np

from numbaconv.codegen.integers import ceil_div, round_up
from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import (
    CACHE_LINE,
    before_line,
    call,
    fence,
    shift,
)
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu import blocking
from numbaconv.cpu.blocking import share, strip_height, strip_vectors
from numbaconv.cpu.direct.blocks import MatrixBlocks, wanted_tasks
from numbaconv.cpu.direct.choice import (
    has_half,
    holds_plane,
    is_one_row,
    nontemporal_planes,
    uses_small_planes,
    with_equal_strides,
)
from numbaconv.cpu.direct.tasks import locate_task, out_index, plane_memory, read_blocks
from numbaconv.cpu.finishing import NOT_FLAT, finish_tile
from numbaconv.cpu.job import AT, SHAPE, WorkerArguments, next_task
from numbaconv.cpu.lowering import Lowering
from numbaconv.cpu.microkernels.plane import small_planes
from numbaconv.cpu.microkernels.strip import STRIPS, StripArguments
from numbaconv.problem.shape import kernel_taps, read_shape

# Entries of a strip in the table of a job, after the number of strips: its first column, how many,
# vectors, 1 for half a vector; how many strips like it lie side by side and are its rows, or 0;
# where its masks begin in the table.
_FIRST, _WIDTH, _VECTORS, _HALF, _BESIDE, _MASKS, _STRIP_SIZE = range(7)

# Of a large plane, what a strip reads going down a block of rows: wide rows lie on pages of their
# own, and a core has the addresses of few pages at hand.
BLOCK_BYTES = 1 << 16


def cut(s, itemsize, threads):
    """Choose the blocks of a problem.

    Planes: so few that the threads have tasks enough, each as many, and that the next strip, or an
    activation, finds them in cache. More tasks cost more than an equal end saves: a task takes 0.1
    us beside its strips, a plane of 7 x 7 as long. Rows: all, unless there are too few planes, or
    the second-level cache does not hold a plane and its results.
    """
    planes = s.n * s.groups * s.output[0]
    wanted = wanted_tasks(threads)
    budget = blocking.CACHE_BYTES // itemsize
    most = min(planes // wanted, budget // 8 // (s.output[1] * s.output[2]))
    parts = ceil_div(s.groups, max(1, most))
    groups = ceil_div(s.groups, min(s.groups, round_up(parts, threads)))
    least = min(s.output[1], 4 * s.kernel[1])
    row = s.size[2] * s.stride[1]
    few = max(least, BLOCK_BYTES // itemsize // row)
    most = s.output[1] if holds_plane(s, VECTOR_BYTES // itemsize) else few
    enough = min(ceil_div(wanted, planes), s.output[1] // least)
    row_blocks = max(ceil_div(s.output[1], most), enough)
    rows = ceil_div(s.output[1], row_blocks)
    row_blocks = ceil_div(s.output[1], rows)
    tasks = s.n * ceil_div(s.groups, groups) * s.output[0] * row_blocks
    return MatrixBlocks(1, 1, 1, rows, s.output[2], row_blocks, 1, 1, groups, tasks)


def cut_strips(s, lanes, most):
    """(first column, columns, vectors, half) of each strip.

    Strips have at most so many vectors and are about equal, or as wide as that if they are taken
    side by side; half a vector takes what is left, if that is enough.
    """
    cols = s.output[2]
    whole, left = divmod(cols, lanes)
    half = left > 0 and has_half(left, lanes)
    if left and not half:
        whole += 1
    count = ceil_div(whole, most)
    strips = []
    for i in range(count):
        beside = i * most, min(whole, (i + 1) * most)
        first, end = beside if is_one_row(s) else share(whole, i, count)
        width = min(end * lanes, cols) - first * lanes
        strips.append((first * lanes, width, end - first, 0))
    if half:
        strips.append((whole * lanes, left, 1, 1))
    return strips


def join_strips(strips, keys, lanes):
    """Join neighbours of full width with the same masks: (first, its key, how many) of each run."""

    def alike(pair):
        (_, width, vectors, _), key = pair
        return key if width == vectors * lanes else pair

    for _, run in itertools.groupby(zip(strips, keys, strict=True), alike):
        (strip, key), *others = run
        yield strip, key, 1 + len(others)


def mask_key(s, strip, lanes):
    """What strips that have the same masks have in common: most read no padding."""
    first, _, vectors, half = strip
    begin = first * s.stride[2] - s.padding[2]
    reach = (s.kernel[2] - 1) * s.dilation[2] + vectors * s.stride[2] * lanes
    return (vectors, half) if begin >= 0 and begin + reach <= s.size[2] else strip


def read_lanes(s, strip, lanes):
    """[kw][vector][lane]: whether a tap reads a lane of a strip from the input, not the padding."""
    first, _, vectors, half = strip
    wide = lanes // 2 if half else lanes
    kw, vector, lane = np.ogrid[: s.kernel[2], : vectors * s.stride[2], :wide]
    at = first * s.stride[2] - s.padding[2] + kw * s.dilation[2] + vector * wide + lane
    return (at >= 0) & (at < s.size[2])


def make_masks(inside):
    """The masks of a strip, as the tile reads them, and the two taps between its edges."""
    words = (inside * (np.int64(1) << np.arange(inside.shape[2]))).sum(2)
    cut = ~inside.all(2)
    first, last = np.flatnonzero(cut[:, 0]), np.flatnonzero(cut[:, -1])
    first_end = first[-1] + 1 if first.size else 0
    return np.append(words, (first_end, last[0] if last.size else len(cut)))


def list_strips(s, lanes):
    """The strips and their masks.

    Strips are as wide as the registers allow; narrower under a padding wider than a vector, so that
    no vectors but those at their edges are cut.
    """
    stride = s.stride[2]
    widest = strip_vectors(strip_height(s.kernel[1], stride), stride)
    for most in (widest, max(1, 2 // stride)):
        strips = cut_strips(s, lanes, most)
        keys = [mask_key(s, strip, lanes) for strip in strips]
        owners = dict(zip(keys, strips, strict=True))
        inside = {key: read_lanes(s, strip, lanes) for key, strip in owners.items()}
        if all(read[:, 1:-stride].all() for read in inside.values()):
            break
    masks = {key: make_masks(read) for key, read in inside.items()}
    runs = [(strip, key, 0) for strip, key in zip(strips, keys, strict=True)]
    if is_one_row(s):
        runs = list(join_strips(strips, keys, lanes))
    sizes = [1 + len(runs) * _STRIP_SIZE, *(mask.size for mask in masks.values())]
    begins = dict(zip(masks, np.cumsum(sizes), strict=False))
    entries = [(*strip, many, begins[key]) for strip, key, many in runs]
    return np.concatenate(([len(runs)], *entries, *masks.values()))


def begin_at_lines(table, itemsize):
    """Whether strips begin at cache lines, if rows do: then each line is stored at once."""
    first = table[1 : 1 + table[0] * _STRIP_SIZE].reshape(-1, _STRIP_SIZE)[:, _FIRST]
    return bool((first * itemsize % CACHE_LINE == 0).all())


@inline
def planes_pass(job, m, s, t, strip, residue, kd, kh, height):
    """Some rows of the filter, in one plane of its depth, for one strip of a task's planes."""
    apart = s.dilation[1]
    d = t.od * s.stride[0] - s.padding[0] + kd * s.dilation[0]
    h = (t.oh + residue) * s.stride[1] - s.padding[1] + kh * apart
    x = shift(m.x, t.n * s.in_strides[0] + t.g * s.in_strides[1])
    first = d * s.in_strides[2] + h * s.in_strides[3]
    first += strip[_FIRST] * s.stride[2] - s.padding[2]
    taps = kernel_taps(s)
    w = shift(m.weights, t.g * taps + (kd * s.kernel[1] + kh) * s.kernel[2])
    out = shift(m.out, out_index(s, t, t.g) + residue * s.out_strides[3] + strip[_FIRST])
    input_rows = s.size[1] if 0 <= d < s.size[0] else 0
    nontemporal = job[AT.nontemporal] != 0 and before_line(out) == 0
    rows, x_row, h_step = (t.rows - residue + apart - 1) // apart, apart * s.in_strides[3], apart
    c_row, wide = apart * s.out_strides[3], strip[_VECTORS] * job[AT.lanes]
    if strip[_BESIDE] > 0:
        rows, x_row, h_step, c_row = strip[_BESIDE], wide, 0, wide
    call(
        job[AT.tile],
        StripArguments(
            kh=height,
            stride=s.stride[1],
            vectors=strip[_VECTORS],
            half=strip[_HALF],
            kw=s.kernel[2],
            dilation=s.dilation[2],
            rows=rows,
            planes=t.groups,
            x=x,
            first=first,
            x_row=x_row,
            x_plane=s.in_strides[1],
            h=h,
            h_step=h_step,
            height=input_rows,
            masks=shift(m.table, strip[_MASKS]),
            w=w,
            w_plane=taps,
            c=out,
            c_row=c_row,
            c_plane=s.out_strides[1],
            bias=shift(m.bias, t.g),
            accumulate=kd + kh > 0,
            last=strip[_WIDTH] - (strip[_VECTORS] - 1) * job[AT.lanes],
            nontemporal=nontemporal,
        ),
    )


@inline
def planes_task(job, m, s, t):
    """All strips of a task; of each, rows a dilation apart, kd, rows of the filter."""
    for i in range(m.table[0]):
        strip = shift(m.table, 1 + i * _STRIP_SIZE)
        for residue in range(min(s.dilation[1], t.rows)):
            for kd in range(s.kernel[0]):
                kh = 0
                while kh < s.kernel[1]:
                    height = strip_height(s.kernel[1] - kh, s.stride[1])
                    planes_pass(job, m, s, t, strip, residue, kd, kh, height)
                    kh += height
    for g in range(t.g, t.g + t.groups):
        at, step = out_index(s, t, g), s.out_strides[3]
        finish_tile(job, shift(m.out, at), step, t.rows, t.cols, True, at, step, 1, NOT_FLAT)


@native(WorkerArguments)
def planes_work(worker, job, like):
    """Do tasks until none is left."""
    s, b = read_shape(job, SHAPE), read_blocks(job)
    m = plane_memory(job, like)
    number, queue = next_task(job, b.tasks, worker, 0)
    while number < b.tasks:
        planes_task(job, m, s, locate_task(number, s, b))
        number, queue = next_task(job, b.tasks, worker, queue)
    if job[AT.nontemporal] != 0:
        fence()


def lower(s, itemsize, threads):
    """Return how this lowering computes a problem."""
    lanes, s = VECTOR_BYTES // itemsize, with_equal_strides(s)
    small = uses_small_planes(s, lanes)
    table = list_strips(s, lanes)
    past_caches = not small and nontemporal_planes(s, lanes, threads)
    return Lowering(
        "depthwise_planes",
        planes_work,
        small_planes if small else STRIPS[s.stride[1], strip_height(s.kernel[1], s.stride[1])],
        cut(s, itemsize, threads),
        table,
        scratch_size=0,
        nontemporal=past_caches and begin_at_lines(table, itemsize),
        problem=s,
    )
