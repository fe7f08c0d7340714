"""What a job of the engine says, as a table: the tiles, where things lie, the passes."""

import itertools
from typing import NamedTuple

import numpy as np

from numbaconv.codegen.integers import ceil_div, round_up
from numbaconv.codegen.pointers import CACHE_LINE
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu.job import places
from numbaconv.cpu.microkernels.minimal_filters import Pass
from numbaconv.cpu.microkernels.toom_cook import TAPS
from numbaconv.cpu.packing.halo import Halo, halo_layout, odd_lines
from numbaconv.cpu.winograd.tiles import Cut, Tiles
from numbaconv.problem.shape import ConvShape, Triple

# Bytes of the halo tiles that are copied at once: they are still in the first-level cache when
# they are transformed.
HALO_BYTES = 1 << 14

# Channels by which the places of inputs at the points are prefetched.
CHANNELS_AHEAD = 2

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
    width : int
        Elements of a row of tiles, in whole vectors.
    result, result_channels : int
        Elements of the results of a channel, and channels whose results are stored at once.
    panel : int
        Elements of a block of weights at a point.
    taps : int
        Taps of the kernel.
    halo, cells, values, products, results, zeros : int
        Where in a worker's scratch the parts begin: halo tiles; a row of tiles between two passes;
        the inputs at all points, [point][channel][pitch]; the products [channel][point][pitch];
        the results [channel][row of a tile][pitch * outputs_2]; a bias of zeros.
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
    """Return the problem whose halo tiles are what tiles read.

    A tile is to it what a tap's window is to a convolution of stride m along the rows. Columns are
    then copied in m phases, and what lies at one place of neighbouring tiles are neighbours.
    """
    extents, outputs = tiles.extents, tiles.outputs
    return s._replace(kernel=(extents[0], s.kernel[1], extents[2]), stride=(1, 1, outputs[2]))


class Cells(NamedTuple):
    """Where the cells of a tile lie: cell i of an axis at i * step, from the m-th on at `again`."""

    steps: Triple
    again: Triple
    block: int

    def at(self, place: tuple[int, ...], outputs: Triple) -> int:
        """Place of a cell."""
        axes = zip(place, self.steps, self.again, outputs, strict=True)
        return sum(a + (i - m) * step if i >= m else i * step for i, step, a, m in axes)


def dense(extents: Triple, span: int, outputs: Triple, block: int) -> Cells:
    """Cells one behind the other, in rows and planes of some extents."""
    steps = extents[1] * extents[2] * span, extents[2] * span, span
    again = steps[0] * outputs[0], steps[1] * outputs[1], steps[2] * outputs[2]
    return Cells(steps, again, block)


def _pass(
    outputs: Triple,
    axis: int,
    lines: list[range],
    source: Cells,
    target: Cells,
    is_row: bool,
    ahead: int,
) -> list[int]:
    """Return a pass along an axis: it transforms the lines through some places of the others."""
    lines[axis] = range(1)
    found = []
    for place in itertools.product(*lines):
        found += [source.at(place, outputs), target.at(place, outputs)]
    step = Pass(
        outputs[axis],
        len(found) // 2,
        source.steps[axis],
        source.again[axis],
        target.steps[axis],
        source.block,
        target.block,
        int(is_row),
        ahead,
    )
    return [*step, *found]


def transform_passes(
    outputs: Triple,
    before: Triple,
    after: Triple,
    cells: tuple[Cells, Cells, Cells],
    is_inverse: bool,
    ahead: int = 0,
) -> list[list[int]]:
    """Return the passes of a transform, one for each axis with taps.

    Parameters
    ----------
    outputs : tuple of 3 int
        Outputs of a tile along each axis.
    before, after : tuple of 3 int
        Cells of each axis before, and after the transform.
    cells : tuple of 3 Cells
        Where the first pass reads, where passes leave what others read, where the last one writes.
    is_inverse : bool
        Whether a pass along the rows makes rows of outputs.
    ahead : int
        How far ahead the last pass asks for its cells.
    """
    axes = [axis for axis in range(3) if outputs[axis] > 1]
    extents, found = list(before), []
    for axis in axes:
        lines = [range(extent) for extent in extents]
        source = cells[0] if axis == axes[0] else cells[1]
        target = cells[2] if axis == axes[-1] else cells[1]
        is_row = is_inverse and axis == 2
        found.append(
            _pass(outputs, axis, lines, source, target, is_row, ahead if axis == axes[-1] else 0)
        )
        extents[axis] = after[axis]
    return found


def _all_passes(
    s: ConvShape, tiles: Tiles, b: Cut, halo: Halo, point: int, width: int, panel: int
) -> list[list[list[int]]]:
    """Return the passes of the inputs, of the outputs and of the weights."""
    m, extents = tiles.outputs, tiles.extents
    h = m[1]
    wraps = 1 if m[2] > 1 else halo.plane
    steps, again = (halo.depth, halo.pitch, halo.plane), (m[0] * halo.depth, h * halo.pitch, wraps)
    read = Cells(steps, again, h * halo.pitch)
    between = dense(extents, b.rows * width, m, width)
    values = dense(extents, point, m, b.columns)
    products = dense(extents, b.pitch, m, 0)
    # The cells of a row become one row of results, `m[2]` times as long.
    row = m[2] * b.pitch
    results = Cells((h * row, row, 0), (m[0] * h * row, h * row, 0), 0)
    taps, at_points = dense(s.kernel, s.c_in * b.mr, m, 0), dense(extents, panel, m, 0)
    taps = dense(s.kernel, panel, m, 0)
    return [
        transform_passes(
            m, extents, extents, (read, between, values), False, CHANNELS_AHEAD * b.pitch
        ),
        transform_passes(m, extents, m, (products, products, results), True),
        transform_passes(m, s.kernel, extents, (taps, at_points, at_points), False),
    ]


def make_table(s: ConvShape, tiles: Tiles, b: Cut, itemsize: int) -> tuple[np.ndarray, Halo]:
    """Return the table of a problem, and the layout of its halo tiles."""
    lanes, line = VECTOR_BYTES // itemsize, CACHE_LINE // itemsize
    problem = tile_problem(s, tiles)
    halo = halo_layout(problem, tiles.outputs[1] * b.rows, b.columns, itemsize)
    neighbours = s.in_strides[1] == 1
    halo_channels = max(HALO_BYTES // (halo.channel * itemsize), lanes if neighbours else 1)
    halo_channels = min(halo_channels, s.c_in)
    point = odd_lines(s.c_in * b.pitch, itemsize)
    width = round_up(b.columns, lanes)
    panel = round_up(s.c_in * b.mr, line)
    rows_of_tile = tiles.outputs[0] * tiles.outputs[1]
    result = rows_of_tile * tiles.outputs[2] * b.pitch
    result_channels = lanes if s.out_strides[1] == 1 and s.out_strides[4] != 1 else 1
    sizes = (
        halo_channels * halo.channel + 2 * lanes,
        tiles.points * b.rows * width,
        tiles.points * point,
        b.together * b.mr * tiles.points * b.pitch,
        result_channels * result,
        b.mr,
    )
    ends = list(itertools.accumulate(round_up(size, line) for size in sizes))
    passes = _all_passes(s, tiles, b, halo, point, width, panel)
    count = len(passes[0])
    begin = len(Layout._fields) + 3 * count
    flat = [step for transform in passes for step in transform]
    begins = [begin, *(begin + end for end in itertools.accumulate(map(len, flat)))][:-1]
    layout = Layout(
        0,
        0,
        s.groups * b.row_blocks * b.column_blocks * b.parts,
        *tiles.outputs,
        *tiles.counts,
        tiles.points,
        s.n * tiles.counts[0] * tiles.counts[1],
        *b,
        halo_channels,
        point,
        width,
        result,
        result_channels,
        panel,
        s.taps,
        0,
        *ends,
        count,
        *(len(Layout._fields) + i * count for i in range(3)),
    )
    table = [*layout, *begins, *itertools.chain.from_iterable(flat)]
    return np.array(table, np.int64), halo
