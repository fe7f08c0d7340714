"""direct: each lane of a vector is a channel, of maps that are copied as a whole.

It serves depthwise layers whose planes lie dense. Loops of a task (some blocks of channels, some
images, a part of the outputs): blocks of channels; images; the map, copied with the channels
innermost, transposed in registers, to places among those of the padding; the tile's own loops over
outputs and taps; the results, transposed back. Pixels that no window reads have no place.
"""

from math import prod
from typing import Any, NamedTuple

import numpy as np

from numbaconv.codegen.integers import ceil_div
from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import call, entries, indices_at, pointer_at, shift
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu import blocking
from numbaconv.cpu.blocking import share
from numbaconv.cpu.direct.blocks import wanted_tasks
from numbaconv.cpu.direct.choice import map_extent, places_apart, with_taps_read, with_window
from numbaconv.cpu.finishing import NOT_FLAT, finish_tile
from numbaconv.cpu.job import (
    AT,
    BLOCKS,
    HALO,
    MOST_BLOCKS,
    MOST_HALO,
    WorkerArguments,
    next_task,
    size_within,
)
from numbaconv.cpu.lowering import Lowering, Packing
from numbaconv.cpu.microkernels.maps import MapSumsArguments, map_sums
from numbaconv.cpu.packing.lanes import piece_columns
from numbaconv.cpu.packing.maps import FillMapArguments, ReadMapArguments, fill_map, read_map
from numbaconv.cpu.packing.rows import fill
from numbaconv.cpu.packing.transpose import TransposeArguments, transpose
from numbaconv.problem.shape import kernel_taps
from numbaconv.problem.taps import first_read, taps_read

# Of a part of the outputs, in the table of a job: its first output, and how many; its first piece,
# and how many.
_OUTPUT, _OUTPUTS, _PIECE, _PIECES, _PART_SIZE = range(5)


# Copying a pixel to a map takes as long as so many of its taps.
COPIED = 4


class MapBlocks(NamedTuple):
    """How a problem is cut.

    Attributes
    ----------
    images, channels, parts : int
        Those of the problem, and parts of an image's outputs.
    channel_blocks, channel_parts, image_parts : int
        Vectors of channels; equal parts of these, and of the images.
    tasks : int
        All combinations.
    """

    images: int
    channels: int
    parts: int
    channel_blocks: int
    channel_parts: int
    image_parts: int
    tasks: int


class MapLayout(NamedTuple):
    """What a worker has in scratch, what lies where in the table, and how far arrays are apart.

    Attributes
    ----------
    map_size, outputs : int
        Elements of a map; outputs of a part, at most.
    taps, starts, pieces : int
        Where the taps begin, the places of outputs, and the pieces of planes.
    many_taps, weights : int
        Taps that read more than padding, and weights of a channel.
    x_image, x_plane, y_image, y_plane : int
        Elements from one image, and from one channel, to the next, of input and output.
    """

    map_size: int
    outputs: int
    taps: int
    starts: int
    pieces: int
    many_taps: int
    weights: int
    x_image: int
    x_plane: int
    y_image: int
    y_plane: int


# Where a job has the address of `transpose`: behind the layout.
_TRANSPOSE = HALO + len(MapLayout._fields)
_BLOCKS_SIZE, _LAYOUT_SIZE = size_within(MapBlocks, MOST_BLOCKS), size_within(MapLayout, MOST_HALO)


class MapMemory(NamedTuple):
    """The pointers of a worker: the problem's arrays and table, and its own scratch."""

    x: object
    weights: object
    bias: object
    out: object
    table: object
    map: object
    results: object
    taps: object


def cut_part(s, itemsize, threads):
    """Planes and rows of the outputs of a part: the thread with the most parts takes least time.

    Parts are whole planes, or rows of one. The second-level cache holds the map of each. More parts
    are shared out better, but what their windows have in common is copied for each.
    """
    budget = blocking.CACHE_BYTES // VECTOR_BYTES
    (depth, height, width), units = s.output, s.n * ceil_div(s.groups, VECTOR_BYTES // itemsize)

    def places(part: Any) -> int:
        return prod(map_extent(s, axis, many) for axis, many in enumerate((*part, width)))

    def longest(part: Any) -> Any:
        parts = ceil_div(depth, part[0]) * ceil_div(height, part[1])
        each = COPIED * places(part) + prod(part) * width * kernel_taps(s)
        return ceil_div(units * parts, threads) * each

    cuts = [(ceil_div(depth, many), height) for many in range(1, depth + 1)]
    cuts += [(1, ceil_div(height, many)) for many in range(2, height + 1)]
    fitting = [part for part in cuts if places(part) <= budget] or cuts[-1:]
    return min(fitting[: 2 * threads], key=longest)


def places_along(s, axis, first, outputs):
    """Of each element of an axis its place in the map of some outputs, or -1."""
    at = np.arange(s.size[axis]) - first_read(s, axis, first)
    place, between = np.divmod(at, places_apart(s, axis))
    extent = map_extent(s, axis, outputs)
    return np.where((between == 0) & (place >= 0) & (place < extent), place, -1)


def list_pieces(s, firsts, outputs, extents, lanes):
    """The pieces of planes of which some outputs read anything, and the places of their pixels."""
    axes = [places_along(s, axis, firsts[axis], outputs[axis]) for axis in range(3)]
    d, h, w = np.ix_(*axes)
    places = np.where((d < 0) | (h < 0) | (w < 0), -1, (d * extents[1] + h) * extents[2] + w)
    places, wide = places.ravel(), piece_columns(lanes)
    begins = np.minimum(np.arange(0, places.size, wide), places.size - wide)
    pixels = places[begins[:, None] + np.arange(wide)]
    read = (pixels >= 0).any(1)
    nowhere = prod(extents)
    return np.column_stack((begins, np.where(pixels < 0, nowhere, pixels) * lanes))[read]


def list_taps(whole, s, extents, lanes):
    """Of each tap that is read: its distance from an output's place, and its weights."""
    kd, kh, kw = np.ix_(*(np.arange(taps) for taps in s.kernel))
    d, h, w = (s.dilation[axis] // places_apart(s, axis) for axis in range(3))
    distance = (kd * d * extents[1] + kh * h) * extents[2] + kw * w
    before = [taps_read(whole, axis).begin for axis in range(3)]
    number = ((kd + before[0]) * whole.kernel[1] + kh + before[1]) * whole.kernel[2]
    number = number + kw + before[2]
    return np.column_stack((distance.ravel(), number.ravel())) * lanes


def list_starts(s, outputs, extents, lanes):
    """The places of the outputs of a part."""
    steps = (s.stride[axis] // places_apart(s, axis) for axis in range(3))
    d, h, w = np.ix_(*(np.arange(n) * step for n, step in zip(outputs, steps, strict=True)))
    return ((d * extents[1] + h) * extents[2] + w).ravel() * lanes


def list_parts(s, planes, rows, extents, lanes):
    """The entries of all parts of the outputs, and the pieces of planes that each copies."""
    parts, pieces, count = [], [], 0
    for d in range(0, s.output[0], planes):
        for h in range(0, s.output[1], rows):
            outputs = min(planes, s.output[0] - d), min(rows, s.output[1] - h), s.output[2]
            found = list_pieces(s, (d, h, 0), outputs, extents, lanes)
            first = (d * s.output[1] + h) * s.output[2]
            parts.append((first, prod(outputs), count, len(found)))
            pieces.append(found.ravel())
            count += len(found)
    return np.array(parts), np.concatenate(pieces)


def make_table(whole, s, planes, rows, lanes):
    """The parts of the outputs, the taps, the places of outputs, the pieces; and their layout.

    `s` is the `whole` problem without taps that read nothing but padding.
    """
    outputs = planes, rows, s.output[2]
    extents = [map_extent(s, axis, n) for axis, n in enumerate(outputs)]
    parts, pieces = list_parts(s, planes, rows, extents, lanes)
    taps, starts = list_taps(whole, s, extents, lanes), list_starts(s, outputs, extents, lanes)
    layout = MapLayout(
        map_size=(prod(extents) + 1) * lanes,  # the last place is for what has none
        outputs=starts.size,
        taps=parts.size,
        starts=parts.size + taps.size,
        pieces=parts.size + taps.size + starts.size,
        many_taps=len(taps),
        weights=int(kernel_taps(whole)),
        x_image=s.in_strides[0],
        x_plane=s.in_strides[1],
        y_image=s.out_strides[0],
        y_plane=s.out_strides[1],
    )
    return np.concatenate((parts.ravel(), taps.ravel(), starts, pieces)), layout, len(parts)


def cut(s, parts, itemsize, threads):
    """Choose the parts: of channels first, as each has weights to transpose, then of images."""
    blocks = ceil_div(s.groups, VECTOR_BYTES // itemsize)
    wanted = ceil_div(wanted_tasks(threads), parts)
    channel_parts = min(blocks, wanted)
    image_parts = min(s.n, ceil_div(wanted, channel_parts))
    tasks = parts * channel_parts * image_parts
    return MapBlocks(s.n, s.groups, parts, blocks, channel_parts, image_parts, tasks)


@inline
def locate_maps(number, b):
    """Decode a task: its part of the outputs, its blocks of channels, its images."""
    rest = number // b.parts
    images = rest // b.channel_parts
    blocks = share(b.channel_blocks, rest - images * b.channel_parts, b.channel_parts)
    return number - rest * b.parts, blocks, share(b.images, images, b.image_parts)


@inline
def map_part(job, m, layout, part, taps, g, channels, n, ahead):
    """A part of the outputs of some channels of an image; the next ones are so far ahead."""
    lanes = job[AT.lanes]
    outputs, at = part[_OUTPUTS], n * layout.y_image + g * layout.y_plane + part[_OUTPUT]
    call(
        job[AT.fill_halo],
        FillMapArguments(
            target=m.map,
            x=shift(m.x, n * layout.x_image + g * layout.x_plane),
            x_plane=layout.x_plane,
            channels=channels,
            ahead=ahead,
            table=shift(m.table, layout.pieces + part[_PIECE] * (1 + piece_columns(lanes))),
            pieces=part[_PIECES],
        ),
    )
    call(
        job[AT.tile],
        MapSumsArguments(
            x=m.map,
            starts=shift(m.table, layout.starts),
            outputs=outputs,
            taps=shift(m.table, layout.taps),
            many=layout.many_taps,
            w=taps,
            bias=shift(m.bias, g),
            channels=channels,
            c=m.results,
        ),
    )
    step = layout.y_plane
    finish_tile(job, m.results, lanes, outputs, channels, True, at, 1, step, NOT_FLAT)
    call(job[AT.band], ReadMapArguments(m.results, outputs, channels, shift(m.out, at), step))


@inline
def transpose_weights(job, target, weights, layout, g, channels):
    """target[k][lane] = the weight of tap k for each of some channels."""
    count, lanes = layout.weights, job[AT.lanes]
    source = shift(weights, g * count)
    call(
        job[_TRANSPOSE],
        TransposeArguments(target, lanes, source, count, channels, count, lanes),
    )


@inline
def maps_task(job, m, layout, b, number):
    """Blocks of channels, and some images of each."""
    part, blocks, images = locate_maps(number, b)
    lanes, at = job[AT.lanes], shift(m.table, part * _PART_SIZE)
    fill(m.map, layout.map_size, 0, lanes)  # the padding, which is elsewhere in another part
    for block in range(blocks[0], blocks[1]):
        g = block * lanes
        channels, taps = min(lanes, b.channels - g), m.taps
        if job[AT.packs_in_task] != 0:
            transpose_weights(job, taps, m.weights, layout, g, channels)
        else:
            taps = shift(m.weights, g * layout.weights)
        for n in range(images[0], images[1]):
            ahead = layout.x_image
            if n + 1 == images[1]:
                ahead = lanes * layout.x_plane - (n - images[0]) * layout.x_image
            map_part(job, m, layout, at, taps, g, channels, n, ahead)


@native(WorkerArguments)
def maps_work(worker, job, like):
    """Do tasks until none is left."""
    b = MapBlocks(*entries(job, BLOCKS, _BLOCKS_SIZE))
    layout, lanes = MapLayout(*entries(job, HALO, _LAYOUT_SIZE)), job[AT.lanes]
    scratch = shift(pointer_at(job[AT.scratch], like), worker * job[AT.scratch_size])
    results = shift(scratch, layout.map_size)
    m = MapMemory(
        pointer_at(job[AT.x], like),
        pointer_at(job[AT.packed], like),
        pointer_at(job[AT.bias], like),
        pointer_at(job[AT.out], like),
        indices_at(job[AT.table]),
        scratch,
        results,
        shift(results, (layout.outputs + piece_columns(lanes)) * lanes),
    )
    number, queue = next_task(job, b.tasks, worker, 0)
    while number < b.tasks:
        maps_task(job, m, layout, b, number)
        number, queue = next_task(job, b.tasks, worker, queue)


@native(WorkerArguments)
def pack_maps(worker, job, like):
    """Write the weights of each block of channels as [tap][lane]."""
    b = MapBlocks(*entries(job, BLOCKS, _BLOCKS_SIZE))
    layout, lanes = MapLayout(*entries(job, HALO, _LAYOUT_SIZE)), job[AT.lanes]
    weights, packed = pointer_at(job[AT.weights], like), pointer_at(job[AT.packed], like)
    number, queue = next_task(job, b.channel_blocks, worker, 0)
    while number < b.channel_blocks:
        g = number * lanes
        channels, target = min(lanes, b.channels - g), shift(packed, g * layout.weights)
        if channels < lanes:  # numbers that happen to lie there may be denormal
            fill(target, layout.weights * lanes, 0, lanes)
        transpose_weights(job, target, weights, layout, g, channels)
        number, queue = next_task(job, b.channel_blocks, worker, queue)


def lower(s, itemsize, threads):
    """Return how this lowering computes a problem."""
    lanes, whole = VECTOR_BYTES // itemsize, with_window(s)
    s = with_taps_read(whole)
    planes, rows = cut_part(s, itemsize, threads)
    table, layout, parts = make_table(whole, s, planes, rows, lanes)
    b, count = cut(s, parts, itemsize, threads), kernel_taps(whole)
    results = layout.outputs + piece_columns(lanes)
    return Lowering(
        "depthwise_maps",
        maps_work,
        map_sums,
        b,
        table,
        layout.map_size + (results + count) * lanes,
        layout=layout,
        fill_halo=fill_map,
        band=read_map,
        packing=Packing(rows=0, in_task=True),
        packer=pack_maps,
        packed_size=b.channel_blocks * lanes * count,
        packed_order=(lanes, count),
        functions=(transpose,),
    )
