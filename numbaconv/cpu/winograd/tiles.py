"""Which tiles a problem is cut into, what that costs, and what a task computes.

Along an axis with 3 taps a tile is m outputs, of m + 2 inputs, by as many products; along any other
axis it is one. So a tile of 4 x 4 outputs takes 36 products, where sums take 144.

The choice of m depends on one image alone, and not on an axis that may be images: an image then has
the same bits in any batch.
"""

import functools
import itertools
import math
from typing import NamedTuple

from numbaconv.codegen.integers import ceil_div, round_up
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu import blocking
from numbaconv.cpu.blocking import TILE_VECTORS
from numbaconv.cpu.packing.halo import odd_lines
from numbaconv.cpu.packing.weights import register_rows
from numbaconv.problem.points import POINTS, TAPS
from numbaconv.problem.shape import ConvShape, Triple

# Multiply-adds that take as long as bringing one value of a transformed input tile to its place, or
# one of a tile of products back; as reading one weight at a point, for any number of tiles; and as
# bringing it there. docs/decisions.md has how they were measured.
INPUT_COST, OUTPUT_COST, WEIGHT_COST, PACK_COST = 14, 12, 16, 16

# `direct` does so many multiply-adds in the time of one here.
SUMS_RATE = 1.5

# Tiles of a task, at most: more of them use a weight no better.
MOST_TILES = 128

# Bytes of the products that are kept at once. Each time, all inputs at the points are read, which
# the second-level cache does not hold either.
PRODUCT_BYTES = 8 << 20

# Values at the points, of the inputs of the smallest task, at most: 128 MB of float32.
MOST_VALUES = 1 << 25


class Tiles(NamedTuple):
    """How a problem is cut.

    Attributes
    ----------
    outputs, extents : tuple of 3 int
        Outputs and inputs of a tile along each axis.
    counts : tuple of 3 int
        Tiles of an image along each axis.
    """

    outputs: Triple
    extents: Triple
    counts: Triple

    @property
    def points(self) -> int:
        """Points at which a tile's polynomials are multiplied."""
        return math.prod(self.extents)


def make_tiles(s: ConvShape, outputs: Triple) -> Tiles:
    """Return the tiles of so many outputs along each axis."""
    extents = tuple(m if m == 1 else m + TAPS - 1 for m in outputs)
    counts = tuple(ceil_div(o, m) for o, m in zip(s.output, outputs, strict=True))
    return Tiles(outputs, extents, counts)  # type: ignore[arg-type]


def cost(s: ConvShape, tiles: Tiles) -> int:
    """Return what the tiles of one image and group cost, in multiply-adds, without the weights."""
    transforms = INPUT_COST * s.c_in + OUTPUT_COST * s.c_out
    return math.prod(tiles.counts) * tiles.points * (s.c_in * s.c_out + transforms)


@functools.lru_cache(maxsize=256)
def best_tiles(s: ConvShape) -> Tiles | None:
    """Return the tiles that cost least, or None if their values would take too much memory."""
    d, h, w = (tuple(POINTS) if taps == TAPS else (1,) for taps in s.kernel)
    least = 2 * TILE_VECTORS * VECTOR_BYTES
    tiles = [make_tiles(s, outputs) for outputs in itertools.product(d, h, w)]
    fitting = [each for each in tiles if each.points * max(s.c_in, s.c_out) * least <= MOST_VALUES]
    return min(fitting, key=lambda each: cost(s, each), default=None)


def gain(s: ConvShape, packs: bool) -> float:
    """Return how many times as fast as sums these products are, as predicted.

    That is for one image, or where axes without taps may be images for one place on these: an image
    has the same bits in any batch. `packs` says whether each call brings the weights to the points.
    """
    tiles = best_tiles(s)
    if tiles is None or not s.n * s.pixels:
        return 0.0
    slices = math.prod(o for o, taps in zip(s.output, s.kernel, strict=True) if taps == 1)
    products = s.c_in * s.c_out
    of_weights = tiles.points * products * (WEIGHT_COST + PACK_COST * packs)
    spent = cost(s, tiles) + slices * of_weights
    return s.pixels * s.taps * products / (SUMS_RATE * spent)


class Cut(NamedTuple):
    """What a task computes.

    Attributes
    ----------
    rows, columns : int
        Rows of tiles, counted through all images, and tiles of a row.
    row_blocks, column_blocks : int
        How many such blocks there are.
    parts : int
        Tasks that share the output channels of the same tiles.
    mr, blocks, together : int
        Rows of a register block; blocks of a group; blocks whose products are kept at once.
    pitch : int
        Elements of a channel at one point: the tiles of a task, with a vector of slack.
    """

    rows: int
    columns: int
    row_blocks: int
    column_blocks: int
    parts: int
    mr: int
    blocks: int
    together: int
    pitch: int


def _task_cost(s: ConvShape, tiles: Tiles, columns: int, channels: int) -> int:
    """Return what a task of so many tiles and output channels costs, in multiply-adds."""
    products = s.c_in * channels * (columns + WEIGHT_COST)
    transforms = INPUT_COST * s.c_in + OUTPUT_COST * channels
    return tiles.points * (products + columns * transforms)


def cut(s: ConvShape, tiles: Tiles, itemsize: int, threads: int) -> Cut:
    """Choose what a task computes.

    The inputs of its tiles at one point stay in the second-level cache, where all output channels
    use them. Within that bound the tasks are those with which the threads are done first.
    """
    lanes = VECTOR_BYTES // itemsize
    most = blocking.CACHE_BYTES // (itemsize * s.c_in)
    most = min(max(most, TILE_VECTORS * lanes), MOST_TILES)
    column_blocks = ceil_div(tiles.counts[2], most)
    columns = ceil_div(tiles.counts[2], column_blocks)
    all_rows = s.n * tiles.counts[0] * tiles.counts[1]
    mr = register_rows(s.c_out)
    blocks = ceil_div(s.c_out, mr)

    def duration(choice: tuple[int, int]) -> int:
        rows, parts = choice
        tasks = s.groups * ceil_div(all_rows, rows) * column_blocks * parts
        channels = min(mr * ceil_div(blocks, parts), s.c_out)
        return ceil_div(tasks, threads) * _task_cost(
            s, tiles, round_up(rows * columns, TILE_VECTORS * lanes), channels
        )

    most_rows = min(max(1, most // columns), all_rows)
    sizes = range(most_rows, 0, -1), range(1, min(threads, blocks) + 1)
    rows, parts = min(itertools.product(*sizes), key=duration)
    used = (rows - 1) * columns + round_up(columns, lanes)
    pitch = odd_lines(round_up(used, lanes), itemsize)
    together = max(1, PRODUCT_BYTES // (tiles.points * pitch * itemsize * mr))
    return Cut(
        rows,
        columns,
        ceil_div(all_rows, rows),
        column_blocks,
        parts,
        mr,
        blocks,
        min(together, ceil_div(blocks, parts)),
        pitch,
    )
