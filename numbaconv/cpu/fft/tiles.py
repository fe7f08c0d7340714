"""How a problem is cut into tiles that are transformed, and what that costs.

Of a tile of `extents` elements along each axis, the last ``(kernel - 1) * dilation`` come out as
sums that wrap around; the others are outputs. So tiles overlap by that much ("overlap-save"). A
tile is as many elements as its transform has values, whatever the rank:

- volumes: depth x rows x columns;
- images: rows x columns, a plane at a time;
- signals: a piece of one row, which is written row by row into a matrix (see
  `tables.signal_twiddles`).

The choice depends on the problem alone, and not on how many images there are: an image then has the
same bits in any batch.
"""

import functools
import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

from numbaconv.codegen.integers import ceil_div
from numbaconv.problem.shape import ConvShape, Triple

# Values along an axis: blocks of rows fill vectors of up to 16 lanes.
SIZES = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)

# Values of a tile, at most: 8 MB of float32.
MOST_VALUES = 1 << 20

# Complex values of all channels of a tile, and of all spectra of the weights, at most: 256 MB for
# each thread, and 1 GB, of float32.
MOST_OF_TASK, MOST_OF_WEIGHTS = 1 << 25, 1 << 27

# Floating-point operations, as transforms count them (5 n log2 n), that take as long as a value's
# way between memory and a tile, with a transposition; as the calls for a row of a tile; as the
# factors between the transforms of a signal; as a complex multiply-add; and as bringing a value of
# the weights' spectra to and from memory. docs/decisions.md has how they were measured.
MOVE_COST, ROW_COST, BETWEEN_COST, PRODUCT_COST, WEIGHT_COST = 30, 600, 20, 12, 30

# A value costs more on each of its ways where the second-level cache does not hold a tile.
CACHED_VALUES, MISS_COST = 1 << 15, 12

# `direct` does so many floating-point operations in the time of one of these, about.
SUMS_RATE = 2.0


class Tiles(NamedTuple):
    """How a problem is cut.

    Attributes
    ----------
    is_signal : bool
        Whether a tile is a piece of one row.
    depth, rows, columns : int
        The axes of the transform. A signal's tile is rows x columns long.
    outputs : tuple of 3 int
        Outputs of a tile along each axis of the problem.
    counts : tuple of 3 int
        Tiles along each axis.
    outer : int
        Tiles that do not overlap: planes of images, rows of signals.
    """

    is_signal: bool
    depth: int
    rows: int
    columns: int
    outputs: Triple
    counts: Triple
    outer: int

    @property
    def values(self) -> int:
        """Values of a tile."""
        return self.depth * self.rows * self.columns

    @property
    def extents(self) -> Triple:
        """Elements of the input that a tile has along each axis of the problem."""
        return (1, 1, self.values) if self.is_signal else (self.depth, self.rows, self.columns)

    @property
    def inner(self) -> int:
        """Tiles of a plane of images, or of a row of signals."""
        return math.prod(self.counts) // self.outer


def cut(s: ConvShape, is_signal: bool, depth: int, rows: int, columns: int) -> Tiles | None:
    """Return the tiles of a size, or None if the kernel does not fit in one."""
    extents = (1, 1, rows * columns) if is_signal else (depth, rows, columns)
    axes = zip(extents, s.kernel, s.dilation, s.stride, s.output, strict=True)
    outputs = []
    for extent, k, d, step, o in axes:
        reach = (k - 1) * d
        if reach >= extent:
            return None
        outputs.append(min((extent - reach - 1) // step + 1, o))
    first, second, third = outputs
    counts = (
        ceil_div(s.output[0], first),
        ceil_div(s.output[1], second),
        ceil_div(s.output[2], third),
    )
    outer = counts[0] * counts[1] if is_signal else counts[0] if depth == 1 else 1
    return Tiles(is_signal, depth, rows, columns, (first, second, third), counts, outer)


def candidates(s: ConvShape) -> Iterator[Tiles]:
    """Yield the tiles that a problem could be cut into."""
    depths = (1,) if s.kernel[0] == 1 else SIZES
    is_signal, pairs = s.kernel[:2] == (1, 1), results_of_load(s)
    channels, weights = max(s.c_in, pairs), s.groups * s.c_in * pairs
    for depth, rows, columns in itertools.product(depths, SIZES, SIZES):
        values = depth * rows * columns
        if values > MOST_VALUES or (is_signal and columns not in (rows, 2 * rows)):
            continue
        if values * channels > MOST_OF_TASK or values * weights > MOST_OF_WEIGHTS:
            continue
        tiles = cut(s, is_signal, depth, rows, columns)
        if tiles is not None:
            yield tiles


def pairs_tiles(s: ConvShape) -> bool:
    """Whether two tiles share a transform; else two output channels do.

    The weights are real. So the transform of ``a + ib`` times theirs is that of both results: the
    real part belongs to tile a, the imaginary one to tile b. As well ``v + iw`` are the weights of
    two output channels: half as many spectra of weights, for twice as many of tiles.
    """
    return s.c_out == 1


def results_of_load(s: ConvShape) -> int:
    """Return how many spectra the results of a group have, of one transform of its input."""
    return 1 if pairs_tiles(s) else ceil_div(s.c_out, 2)


def cost(s: ConvShape, tiles: Tiles) -> float:
    """Return what one plane or row costs, in floating-point operations as transforms count them.

    Images may be rows of a problem (see `problem.simplest`), so nothing must depend on how many
    there are: not the share of the weights' spectra either.
    """
    loads = ceil_div(tiles.inner, 2) if pairs_tiles(s) else tiles.inner
    pairs, n = results_of_load(s), tiles.values
    each = 5 * math.log2(n) + MOVE_COST + ROW_COST / tiles.columns
    each += BETWEEN_COST * tiles.is_signal + MISS_COST * (n > CACHED_VALUES)
    transforms = loads * (s.c_in + pairs) * each
    products = loads * s.c_in * pairs * PRODUCT_COST
    weights = s.c_in * pairs * (each + WEIGHT_COST)
    return s.groups * n * (transforms + products + weights)


@functools.lru_cache(maxsize=256)
def best_tiles(s: ConvShape) -> Tiles | None:
    """Return the tiles that cost least, or None if the kernel does not fit in any.

    There are none either for a problem whose tiles would be nearly all padding, or results that a
    stride leaves out; and for one whose windows do not overlap, of which a tile saves nothing (such
    an axis may be images, besides).
    """
    axes = zip(s.kernel, s.dilation, s.stride, strict=True)
    if all((k - 1) * d < step for k, d, step in axes):
        return None
    best = min(candidates(s), key=lambda tiles: cost(s, tiles), default=None)
    if best is None:
        return None
    read_and_written = best.outer * best.values + math.prod(s.size) + s.pixels
    return best if math.prod(best.counts) * best.values <= 64 * read_and_written else None


def gain(s: ConvShape) -> float:
    """Return how many times as fast as sums transforms are, as predicted; 0 if they cannot be."""
    tiles = best_tiles(s)
    if tiles is None or s.flops == 0:
        return 0.0
    return s.flops / (s.n * tiles.outer) / (SUMS_RATE * cost(s, tiles))
