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
    steps : tuple of 3 int
        Elements from one cell to the next along each axis.
    block : int
        Elements from one row of tiles to the next.
    """

    steps: Triple
    block: int

    def at(self, place: tuple[int, ...]) -> int:
        """Where a cell lies."""
        return sum(i * step for i, step in zip(place, self.steps, strict=True))


def dense(extents: Triple, size: int, block: int = 0) -> Cells:
    """Return cells of some size that lie one behind the other, in planes and rows."""
    return Cells((extents[1] * extents[2] * size, extents[2] * size, size), block)


def _pass(
    outputs: Triple, axis: int, extents: list[int], source: Cells, target: Cells, is_row: bool
) -> list[int]:
    """Return a pass along an axis, of the lines through all places of the other axes."""
    places = [range(1 if i == axis else extent) for i, extent in enumerate(extents)]
    lines = [cells.at(place) for place in itertools.product(*places) for cells in (source, target)]
    fields = Pass(
        outputs=outputs[axis],
        lines=len(lines) // 2,
        source_step=source.steps[axis],
        target_step=target.steps[axis],
        source_block=source.block,
        target_block=target.block,
        is_row=int(is_row),
    )
    return [*fields, *lines]


def _transform(
    outputs: Triple,
    before: Triple,
    after: Triple,
    cells: tuple[Cells, Cells, Cells],
    has_rows: bool = False,
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
    has_rows : bool
        Whether a pass along the rows reads, or stores, rows of an image.
    """
    axes = [axis for axis in range(3) if outputs[axis] > 1]
    extents, found = list(before), []
    for axis in axes:
        source = cells[0] if axis == axes[0] else cells[1]
        target = cells[2] if axis == axes[-1] else cells[1]
        found.append(_pass(outputs, axis, extents, source, target, has_rows and axis == 2))
        extents[axis] = after[axis]
    return found


def input_passes(tiles: Tiles, b: Cut, halo: Halo, row: int, point: int) -> list[list[int]]:
    """Return the passes from halo tiles to the inputs' values at the points.

    Until the pass along the rows, lanes are columns of the image, and cells are whole rows.
    """
    m, (depth, height, _) = tiles.outputs, tiles.extents
    read = Cells((halo.depth, halo.pitch, 0), m[1] * halo.pitch)
    between = dense((depth, height, 1), b.rows * row, row)
    values = dense(tiles.extents, point, b.columns)
    return _transform(m, (depth, height, 1), tiles.extents, (read, between, values), has_rows=True)


def output_passes(tiles: Tiles, pitch: int, product: int) -> list[list[int]]:
    """Return the passes from the products of a channel to rows of results."""
    m = tiles.outputs
    products, between = dense(tiles.extents, product), dense(tiles.extents, pitch)
    results = dense((m[0], m[1], 1), m[2] * pitch)
    return _transform(m, tiles.extents, m, (products, between, results), has_rows=True)


def weight_passes(s: ConvShape, tiles: Tiles, panel: int, blocks: int) -> list[list[int]]:
    """Return the passes from the taps of a register block to its values at the points."""
    m = tiles.outputs
    taps, values = dense(s.kernel, panel), dense(tiles.extents, blocks * panel)
    return _transform(m, s.kernel, tiles.extents, (taps, values, values))
