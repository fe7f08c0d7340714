"""direct: adjoints of patches, all phases together.

Where no two windows overlap, each element of the result has one tap. So the adjoint is one product:
the taps of all channels are its rows, and the pixels of what is read its columns,

    C[c, h * stride + kh, w * stride + kw] = bias[c] + sum_k W[k, (c, kh, kw)] * X[k, (h, w)]

Its loops are those of `im2col.patch_matrix`, over panels of pixels. A tile is computed in scratch.
Rows of it that are neighbouring columns of the filter are neighbours in a row of the result: they
are woven together there, or else transposed.

The problem of the job is the pointwise layer; where results go, the table and the layout say.
"""

from typing import Any, NamedTuple

import numpy as np

from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pipeline import lightly
from numbaconv.codegen.pointers import CACHE_LINE, call, indices_at, pointer_at, shift
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu.blocking import SECOND_LEVEL, TILE_ROWS, WOVEN_ROWS, share
from numbaconv.cpu.finishing import NOT_FLAT, finish_tile
from numbaconv.cpu.im2col import patch_matrix
from numbaconv.cpu.im2col.packing import PackArguments, pack_lines
from numbaconv.cpu.im2col.panels import PanelLayout, pixels_of, read_blocks
from numbaconv.cpu.job import (
    AT,
    HALO,
    MOST_HALO,
    SHAPE,
    WorkerArguments,
    next_task,
    places,
    size_within,
)
from numbaconv.cpu.lowering import Lowering, Packing
from numbaconv.cpu.microkernels.matrix import TileArguments, tile
from numbaconv.cpu.microkernels.weave import WeaveArguments, weave
from numbaconv.cpu.packing.lanes import prefetch
from numbaconv.cpu.packing.results import move_rows
from numbaconv.cpu.packing.weights import block_rows, register_rows
from numbaconv.problem.shape import read_shape

# Bytes of a result whose lines are asked for before a tile is computed.
FAR_RESULTS = 2 * SECOND_LEVEL


class PatchLayout(NamedTuple):
    """What a worker knows of panels, first, and where results go; as `PATCH`, where it lies.

    Attributes
    ----------
    taps, joins : int
        As in `PanelLayout`.
    kw : int
        Columns of the filter.
    group_step : int
        Elements of the result from one group to the next.
    rows, cols : int
        Of a plane of what is read.
    pack, weave : native
        Functions: `pack_lines`, and `weave` where that serves.
    """

    taps: int
    joins: int
    kw: int
    group_step: int
    rows: int
    cols: int
    pack: Any = None
    weave: Any = None


PATCH: PatchLayout = places(PatchLayout, HALO)
assert PatchLayout._fields[:2] == PanelLayout._fields
size_within(PatchLayout, MOST_HALO)


class PatchMemory(NamedTuple):
    """The pointers of a worker: the problem's arrays and table, and its own scratch."""

    packed: object
    bias: object
    out: object
    lists: object
    taps: object
    tile: object
    panels: object
    reads: object


@inline
def place_of_patch(job, s, pixel):
    """Where the first result of the patch of a pixel lies, and how many pixels its row has left."""
    n = pixel // s.output[2]
    at = pixel - n * s.output[2]
    line = at // job[PATCH.cols]
    column = at - line * job[PATCH.cols]
    d = line // job[PATCH.rows]
    h = line - d * job[PATCH.rows]
    place = n * s.out_strides[0] + d * s.out_strides[2] + h * s.out_strides[3]
    return place + column * s.out_strides[4], job[PATCH.cols] - column


@inline
def move_pieces(job, s, b, m, row, rows, j, run, at, final, gather):
    """A run of pixels of a tile, finished if it is `final`, to the result, or back.

    A piece is some neighbouring columns of the filter.
    """
    kw, step, i = job[PATCH.kw], s.out_strides[4], 0
    places, many = shift(m.taps, row), kw - row % kw
    while i < rows:
        many, source, to = min(many, rows - i), shift(m.tile, i * b.nr + j), at + places[i]
        finish_tile(job, source, b.nr, many, run, final, to, 1, step, NOT_FLAT)
        move_rows(source, 0, b.nr, many, run, m.out, to, 1, step, gather, job[AT.lanes])
        i += many
        many = kw


@inline
def move_tile(job, s, b, m, g, row, rows, first, width, final, gather):
    """A tile to the result, or back; `row` is the product's first, `first` the first pixel."""
    weaves = job[PATCH.weave] != 0 and not gather
    weaves = weaves and (not final or job[AT.add_tile] == job[AT.activate] == 0)
    j = 0
    while j < width:
        patch, left = place_of_patch(job, s, first + j)
        run, at = min(left, width - j), g * job[PATCH.group_step] + patch
        if weaves:
            kw, source, target = job[PATCH.kw], shift(m.tile, j), shift(m.out, at)
            places = shift(m.taps, row)
            pieces = WeaveArguments(kw, rows // kw, run, source, b.nr, target, places)
            call(job[PATCH.weave], pieces)
        else:
            move_pieces(job, s, b, m, row, rows, j, run, at, final, gather)
        j += run


@inline
def ask_for_patches(job, s, b, m, g, row, rows, first, width):
    """Ask for the lines of the result that a tile goes to, before it is computed."""
    kw, j, line = job[PATCH.kw], 0, CACHE_LINE * job[AT.lanes] // VECTOR_BYTES
    places = shift(m.taps, row)
    while j < width:
        patch, left = place_of_patch(job, s, first + j)
        run, i = min(left, width - j), 0
        length = run * s.out_strides[4]
        while i < rows:
            target, at = shift(m.out, g * job[PATCH.group_step] + patch + places[i]), 0
            while at < length:
                prefetch(shift(target, at))
                at += line
            i += kw
        j += run


@inline
def multiply_panel(job, s, b, m, g, block, panel, first, k0, k1):
    """One register block of rows times a panel: C[MR, NR] = or += A[MR, KC] B[KC, NR]."""
    rows, row = block_rows(s.c_out, b.mr, block), block * b.mr
    width, lanes = min(b.nr, pixels_of(s) - first), job[AT.lanes]
    vectors = (width + lanes - 1) // lanes
    channel, lists = g * s.c_out + row, shift(m.lists, 0 if rows == b.mr else 2 * b.together)
    if k0 > 0:
        move_tile(job, s, b, m, g, row, rows, first, width, False, True)
    if job[AT.asks_for_results] != 0:
        ask_for_patches(job, s, b, m, g, row, rows, first, width)
    call(
        job[AT.tile],
        TileArguments(
            rows=rows,
            vectors=vectors,
            channels=(k1 - k0) // b.together,
            taps=b.together,
            table=lists,
            a=shift(m.packed, channel * s.c_in + k0 * rows),
            a_channel=b.together * rows,
            b=panel,
            b_channel=b.together * b.nr,
            c=m.tile,
            row_step=b.nr,
            bias=shift(m.bias, channel),
            accumulate=k0 > 0,
            last=width - (vectors - 1) * lanes,
            blocks=1,
            b_step=0,
            c_step=0,
            prefetch_distance=0,
            wanted=panel,
            wanted_step=0,
            lines=0,
        ),
    )
    move_tile(job, s, b, m, g, row, rows, first, width, k1 == s.c_in, False)


@inline
def multiply_patches(task, job, s, b, m):
    """The panels of a task by its part of the register blocks, for one group."""
    rest = task // b.oc_parts
    g = rest // b.pixel_blocks
    begin = (rest - g * b.pixel_blocks) * b.panels
    panels = min(b.panels, b.all_panels - begin)
    block0, block1 = share(b.oc_blocks, task - rest * b.oc_parts, b.oc_parts)
    k0 = 0
    while k0 < s.c_in:
        k1 = min(k0 + b.kc, s.c_in)
        call(job[PATCH.pack], PackArguments(m.panels, job, m.reads, g, begin, panels, k0, k1))
        for block in range(block0, block1):
            for i in range(panels):
                panel, first = shift(m.panels, i * b.nr * b.kc), (begin + i) * b.nr
                multiply_panel(job, s, b, m, g, block, panel, first, k0, k1)
        k0 = k1


@native(WorkerArguments, lightly)
def patches_work(worker, job, like):
    """Do tasks until none is left."""
    s, b = read_shape(job, SHAPE), read_blocks(job)
    scratch = shift(pointer_at(job[AT.scratch], like), worker * job[AT.scratch_size])
    m = PatchMemory(
        pointer_at(job[AT.packed], like),
        pointer_at(job[AT.bias], like),
        pointer_at(job[AT.out], like),
        indices_at(job[AT.table]),
        shift(indices_at(job[AT.table]), 4 * b.together),
        scratch,
        shift(scratch, TILE_ROWS * b.nr),
        shift(indices_at(job[AT.indices]), worker * job[AT.index_size]),
    )
    task, queue = next_task(job, b.tasks, worker, 0)
    while task < b.tasks:
        multiply_patches(task, job, s, b, m)
        task, queue = next_task(job, b.tasks, worker, queue)


def product_of(s):
    """Return the pointwise layer, on rows of all pixels, that the adjoint of patches is."""
    pixels, (image, channel, *steps) = s.pixels, s.in_strides
    apart = [step * stride for step, stride in zip(steps, s.stride, strict=True)]
    row, ones = (1, 1, pixels), (1, 1, 1)
    return s._replace(
        c_in=s.c_out,
        c_out=s.c_in * s.taps,
        size=row,
        kernel=ones,
        stride=ones,
        dilation=ones,
        padding=(0, 0, 0),
        output=row,
        in_strides=(*s.out_strides[:2], pixels, pixels, 1),
        out_strides=(image, channel, *apart),
    )


def block_of(kw, rows):
    """Rows of a register block: about equal, and whole rows of the filter where they fit."""
    if kw > TILE_ROWS:
        return register_rows(kw)
    return register_rows(rows // kw, TILE_ROWS // kw) * kw


def list_taps(s):
    """List where, behind the first result of a patch, those of all channels and taps lie."""
    sizes = s.c_in, *s.kernel
    pairs = zip(np.ogrid[tuple(map(slice, sizes))], s.in_strides[1:], strict=True)
    return sum(numbers * step for numbers, step in pairs).ravel()


def lower(s, itemsize, threads):
    """Return how this lowering computes the adjoint of a problem.

    The table has the lists of a panel's rows, and where the results of a patch lie.
    """
    lanes, p, kw = VECTOR_BYTES // itemsize, product_of(s), s.kernel[2]
    b = patch_matrix.cut(p, itemsize, threads, block_of(kw, p.c_out))
    woven = kw == s.stride[2] and kw in WOVEN_ROWS
    return Lowering(
        "patch_phases",
        patches_work,
        tile,
        b,
        np.concatenate((patch_matrix.list_rows(p, b).ravel(), list_taps(s))),
        b.panels * b.nr * b.kc + TILE_ROWS * b.nr + lanes,
        index_size=b.panels,
        layout=PatchLayout(1, 0, kw, s.c_in * s.in_strides[1], *s.output[1:])[:-2],
        packing=Packing(b.mr),
        asks_for_results=s.n * s.in_strides[0] * itemsize >= FAR_RESULTS,
        functions=(pack_lines, weave) if woven else (pack_lines,),
        problem=p,
    )
