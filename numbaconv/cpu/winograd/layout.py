"""What a job of the engine says, as a table: the tiles, where things lie, the passes."""

import itertools
import math
from typing import NamedTuple

import numpy as np

from numbaconv.codegen.integers import round_up
from numbaconv.codegen.pointers import CACHE_LINE
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu.job import places
from numbaconv.cpu.packing.halo import Halo, halo_layout, odd_lines
from numbaconv.cpu.winograd.passes import input_passes, output_passes, weight_passes
from numbaconv.cpu.winograd.tiles import Cut, Tiles
from numbaconv.problem.shape import ConvShape

# Bytes of the halo tiles that are copied at once: they are still in the first-level cache when
# they are transformed.
HALO_BYTES = 1 << 14

# Values of a block of weights that are transformed at once, for each tap.
PACKED_TOGETHER = 256


class Layout(NamedTuple):
    """The beginning of a table; as `AT_TABLE`, the places there.

    Attributes
    ----------
    offset_b, offset_a : int
        Offsets of the one tap that the register tile sees: zeros.
    tasks : int
        How many there are.
    outputs_0, outputs_1, outputs_2 : int
        Outputs of a tile along each axis.
    count_0, count_1, count_2 : int
        Tiles of an image along each axis.
    points : int
        Points of a tile.
    all_rows, rows, columns, row_blocks, column_blocks, parts, mr, blocks, together, pitch : int
        See `tiles.Cut`; `all_rows` are the rows of tiles of all images.
    halo_channels : int
        Channels whose halo tiles are copied at once.
    point : int
        Elements of all input channels at a point.
    product : int
        Elements of the products of all output channels that are kept at a point.
    row, width : int
        Elements of a row of the image, and of a row of tiles, in whole vectors.
    result, result_channels : int
        Elements of the results of a channel, and channels whose results are stored at once.
    panel : int
        Elements of a block of weights at a point.
    taps : int
        Taps of the kernel.
    halo, cells, values, products, results, zeros : int
        Where in a worker's scratch the parts begin: halo tiles; what lies between two passes, of
        the rows of a channel or of its products; the inputs at all points,
        [point][channel][pitch]; the products, the same; the results
        [channel][row of a tile][pitch * outputs_2]; a bias of zeros.
    scratch : int
        Elements of scratch.
    passes : int
        Passes of a transform: axes with taps.
    input_passes, output_passes, weight_passes : int
        Where the places of the passes of each transform begin.
    """

    offset_b: int
    offset_a: int
    tasks: int
    outputs_0: int
    outputs_1: int
    outputs_2: int
    count_0: int
    count_1: int
    count_2: int
    points: int
    all_rows: int
    rows: int
    columns: int
    row_blocks: int
    column_blocks: int
    parts: int
    mr: int
    blocks: int
    together: int
    pitch: int
    halo_channels: int
    point: int
    product: int
    row: int
    width: int
    result: int
    result_channels: int
    panel: int
    taps: int
    halo: int
    cells: int
    values: int
    products: int
    results: int
    zeros: int
    scratch: int
    passes: int
    input_passes: int
    output_passes: int
    weight_passes: int


AT_TABLE: Layout = places(Layout, 0)


def tile_problem(s: ConvShape, tiles: Tiles) -> ConvShape:
    """Return the problem whose halo tiles are what tiles read: all planes of a tile at once."""
    return s._replace(kernel=(tiles.extents[0], *s.kernel[1:]))


class Sizes(NamedTuple):
    """Sizes of what a worker has: see `Layout`."""

    halo_channels: int
    point: int
    product: int
    row: int
    width: int
    result: int
    result_channels: int
    panel: int


def _sizes(s: ConvShape, tiles: Tiles, b: Cut, halo: Halo, itemsize: int) -> Sizes:
    lanes, line = VECTOR_BYTES // itemsize, CACHE_LINE // itemsize
    # Channels that are neighbours in memory are copied, or stored, by vectors of them.
    fewest = lanes if s.in_strides[1] == 1 else 1
    stored = lanes if s.out_strides[1] == 1 and s.out_strides[4] != 1 else 1
    return Sizes(
        halo_channels=min(max(HALO_BYTES // (halo.channel * itemsize), fewest), s.c_in),
        point=odd_lines(s.c_in * b.pitch, itemsize),
        product=odd_lines(b.together * b.mr * b.pitch, itemsize),
        row=round_up(halo.pitch, lanes),
        width=round_up(b.columns, lanes),
        result=math.prod(tiles.outputs) * b.pitch,
        result_channels=stored,
        panel=round_up(s.c_in * b.mr, line),
    )


def _scratch(tiles: Tiles, b: Cut, halo: Halo, sizes: Sizes, itemsize: int) -> list[int]:
    """Where the parts of a worker's scratch begin, and its size."""
    m, (depth, height, _) = tiles.outputs, tiles.extents
    # The vectors of a row of tiles read so much behind a row, at most.
    behind = (m[2] + 1) * VECTOR_BYTES // itemsize
    parts = (
        sizes.halo_channels * halo.channel + behind,
        max(depth * height * b.rows * sizes.row + behind, tiles.points * b.pitch),
        tiles.points * sizes.point,
        tiles.points * sizes.product,
        sizes.result_channels * sizes.result,
        b.mr,
    )
    whole = (round_up(part, CACHE_LINE // itemsize) for part in parts)
    return list(itertools.accumulate(whole, initial=0))


def make_table(s: ConvShape, tiles: Tiles, b: Cut, itemsize: int) -> tuple[np.ndarray, Halo]:
    """Return the table of a problem, and the layout of its halo tiles."""
    rows, columns = tiles.outputs[1] * b.rows, tiles.outputs[2] * b.columns
    halo = halo_layout(tile_problem(s, tiles), rows, columns, itemsize)
    sizes = _sizes(s, tiles, b, halo, itemsize)
    passes = (
        *input_passes(tiles, b, halo, sizes.row, sizes.point),
        *output_passes(tiles, b.pitch, sizes.product),
        *weight_passes(s, tiles, sizes.panel, b.blocks),
    )
    begin, count = len(Layout._fields), len(passes) // 3
    ends = itertools.accumulate(map(len, passes), initial=begin + len(passes))
    layout = Layout._make(
        [
            0,
            0,
            s.groups * b.row_blocks * b.column_blocks * b.parts,
            *tiles.outputs,
            *tiles.counts,
            tiles.points,
            s.n * tiles.counts[0] * tiles.counts[1],
            *b,
            *sizes,
            s.taps,
            *_scratch(tiles, b, halo, sizes, itemsize),
            count,
            *range(begin, begin + 3 * count, count),
        ]
    )
    table = [*layout, *list(ends)[:-1], *itertools.chain.from_iterable(passes)]
    return np.array(table, np.int64), halo
