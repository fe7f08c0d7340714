"""The passes of a problem's transforms: which cells each one reads and writes."""

import itertools
from typing import NamedTuple

from numbaconv.cpu.microkernels.minimal_filters import Pass
from numbaconv.cpu.packing.halo import Halo
from numbaconv.cpu.winograd.tiles import Cut, Tiles
from numbaconv.problem.shape import ConvShape, Triple


class Cells(NamedTuple):
    """Where the cells of a tile lie.

    Attributes
    ----------
    steps, again : tuple of 3 int
        Along each axis cell i lies at i * step; from the m-th on, they begin anew at `again`.
    block : int
        Elements from one row of tiles to the next.
    """

    steps: Triple
    again: Triple
    block: int

    def at(self, place: tuple[int, ...], outputs: Triple) -> int:
        """Where a cell lies."""
        axes = zip(place, self.steps, self.again, outputs, strict=True)
        return sum(a + (i - m) * step if i >= m else i * step for i, step, a, m in axes)


def dense(extents: Triple, size: int, outputs: Triple, block: int = 0) -> Cells:
    """Return cells of some size that lie one behind the other, in planes and rows."""
    d, h, w = extents[1] * extents[2] * size, extents[2] * size, size
    return Cells((d, h, w), (d * outputs[0], h * outputs[1], w * outputs[2]), block)


def _pass(
    outputs: Triple, axis: int, extents: list[int], source: Cells, target: Cells, is_row: bool
) -> list[int]:
    """Return a pass along an axis, of the lines through all places of the other axes."""
    places = [range(1 if i == axis else extent) for i, extent in enumerate(extents)]
    lines = [
        cells.at(place, outputs)
        for place in itertools.product(*places)
        for cells in (source, target)
    ]
    fields = Pass(
        outputs=outputs[axis],
        lines=len(lines) // 2,
        source_step=source.steps[axis],
        again=source.again[axis],
        target_step=target.steps[axis],
        source_block=source.block,
        target_block=target.block,
        interleaves=int(is_row),
    )
    return [*fields, *lines]


def _transform(
    outputs: Triple,
    before: Triple,
    after: Triple,
    cells: tuple[Cells, Cells, Cells],
    makes_rows: bool = False,
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
    makes_rows : bool
        Whether a pass along the rows brings the outputs of a row together.
    """
    axes = [axis for axis in range(3) if outputs[axis] > 1]
    extents, found = list(before), []
    for axis in axes:
        source = cells[0] if axis == axes[0] else cells[1]
        target = cells[2] if axis == axes[-1] else cells[1]
        found.append(_pass(outputs, axis, extents, source, target, makes_rows and axis == 2))
        extents[axis] = after[axis]
    return found


def input_passes(tiles: Tiles, b: Cut, halo: Halo, width: int, point: int) -> list[list[int]]:
    """Return the passes from halo tiles to the inputs' values at the points."""
    m = tiles.outputs
    # Columns are split into m phases: column m of a tile is column 0 of the next one.
    wraps = 1 if m[2] > 1 else halo.plane
    steps = halo.depth, halo.pitch, halo.plane
    again = m[0] * halo.depth, m[1] * halo.pitch, wraps
    read = Cells(steps, again, m[1] * halo.pitch)
    between = dense(tiles.extents, b.rows * width, m, width)
    values = dense(tiles.extents, point, m, b.columns)
    return _transform(m, tiles.extents, tiles.extents, (read, between, values))


def output_passes(tiles: Tiles, pitch: int) -> list[list[int]]:
    """Return the passes from the products of a channel, in place, to rows of results."""
    m = tiles.outputs
    products = dense(tiles.extents, pitch, m)
    results = dense((m[0], m[1], 1), m[2] * pitch, m)
    return _transform(m, tiles.extents, m, (products, products, results), makes_rows=True)


def weight_passes(s: ConvShape, tiles: Tiles, panel: int, blocks: int) -> list[list[int]]:
    """Return the passes from the taps of a register block to its values at the points."""
    m = tiles.outputs
    taps, values = dense(s.kernel, panel, m), dense(tiles.extents, blocks * panel, m)
    return _transform(m, s.kernel, tiles.extents, (taps, values, values))
