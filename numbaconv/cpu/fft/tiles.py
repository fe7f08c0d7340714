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
from collections.abc import Callable, Iterator
from typing import NamedTuple

from numbaconv.codegen.integers import ceil_div
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu.blocking import SECOND_LEVEL
from numbaconv.cpu.direct.cost import CYCLES, cycles_of_sums
from numbaconv.cpu.direct.counts import image_of
from numbaconv.problem.shape import ConvShape, Triple

# Values along an axis: blocks of rows fill vectors of up to 16 lanes.
SIZES = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)

# Values of a tile, at most: 8 MB of float32.
MOST_VALUES = 1 << 20

# Complex values of all channels of a tile, and of all spectra of the weights, at most: 256 MB for
# each thread, and 1 GB, of float32.
MOST_OF_TASK, MOST_OF_WEIGHTS = 1 << 25, 1 << 27

# Values of a tile that the second-level cache holds.
CACHED_VALUES = 1 << 15

# A plain call transforms the weights, and a layer finds them transformed; both have the same bits.
# So a choice for both counts this share of it.
WEIGHTS_SHARE = 0.3


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


def reaches(s: ConvShape) -> Triple:
    """Return how many elements behind its first one a window reads along each axis."""
    d, h, w = ((k - 1) * apart for k, apart in zip(s.kernel, s.dilation, strict=True))
    return d, h, w


def is_signal(kernel: Triple) -> bool:
    """Whether a kernel has one axis, the innermost: tiles are pieces of rows."""
    return kernel[:2] == (1, 1)


def cut(s: ConvShape, depth: int, rows: int, columns: int) -> Tiles:
    """Return the tiles of a size that the kernel fits in."""
    signal = is_signal(s.kernel)
    extents = (1, 1, rows * columns) if signal else (depth, rows, columns)
    axes = zip(extents, reaches(s), s.stride, s.output, strict=True)
    first, second, third = (min((n - reach - 1) // step + 1, o) for n, reach, step, o in axes)
    counts = (
        ceil_div(s.output[0], first),
        ceil_div(s.output[1], second),
        ceil_div(s.output[2], third),
    )
    outer = counts[0] * counts[1] if signal else counts[0] if depth == 1 else 1
    return Tiles(signal, depth, rows, columns, (first, second, third), counts, outer)


def shapes(kernel: Triple, reach: Triple, whole: Triple, most: int) -> Iterator[Triple]:
    """Yield depth, rows and columns that tiles may have.

    Parameters
    ----------
    kernel : tuple of 3 int
        Axes of one tap are not transformed.
    reach, whole : tuple of 3 int
        Elements that a tile must have more than, along each axis; elements that there are: the
        first size that holds them is the last to be tried.
    most : int
        Values of a tile.
    """
    if is_signal(kernel):
        pairs = sorted((r * c, r, c) for r in SIZES for c in (r, 2 * r) if c in SIZES)
        for values, rows, columns in pairs:
            if reach[2] < values <= most:
                yield 1, rows, columns
            if values >= whole[2]:
                return
        return
    axes = [
        [n for i, n in enumerate(SIZES) if n > behind and (i == 0 or SIZES[i - 1] < all_of_it)]
        for behind, all_of_it in zip(reach, whole, strict=True)
    ]
    if kernel[0] == 1:
        axes[0] = [1]
    for depth, rows, columns in itertools.product(*axes):
        if depth * rows * columns <= most:
            yield depth, rows, columns


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


def most_values(s: ConvShape) -> int:
    """Return how many values a tile may have, for its task and the spectra of the weights."""
    pairs = results_of_load(s)
    channels, weights = max(s.c_in, pairs, 1), max(s.groups * s.c_in * pairs, 1)
    return min(MOST_VALUES, MOST_OF_TASK // channels, MOST_OF_WEIGHTS // weights)


@functools.lru_cache(maxsize=512)  # of all sizes, for all problems
def value_cost(values: int, columns: int, signal: bool, lanes: int) -> float:
    """Return what the values of a tile cost on their way through a transform, in cycles."""
    way = CYCLES["overlap_save.moved"]
    way += CYCLES["overlap_save.between"] * signal
    way += CYCLES["overlap_save.far"] * (values > CACHED_VALUES)
    steps = CYCLES["overlap_save.step"] * math.log2(values)
    return values / lanes * (steps + way) + values / columns * CYCLES["overlap_save.row"]


def product_cost(values: int, lanes: int) -> float:
    """Return what it costs to add a product of the values of two tiles, in cycles."""
    return values / lanes * CYCLES["overlap_save.product"]


def costs(s: ConvShape, lanes: int) -> Callable[[int, int, int], float]:
    """Return what tells the cycles of one plane or row: of so many tiles, of values, in columns.

    Images may be rows of a problem (see `problem.simplest`), so nothing must depend on how many
    there are: not the share of the weights' spectra either.
    """
    pairs, signal, two = results_of_load(s), is_signal(s.kernel), 2 if pairs_tiles(s) else 1
    spectra, products, groups = s.c_in + pairs, s.c_in * pairs, s.groups

    def cost(inner: int, values: int, columns: int) -> float:
        loads = (inner + two - 1) // two
        transforms = loads * spectra + WEIGHTS_SHARE * products
        spent = transforms * value_cost(values, columns, signal, lanes)
        return groups * (spent + products * loads * product_cost(values, lanes))

    return cost


def counts_along(s: ConvShape, axis: int, extents: set[int]) -> dict[int, int]:
    """Return how many tiles of each extent there are along an axis."""
    reach, step, output = reaches(s)[axis], s.stride[axis], s.output[axis]
    return {n: ceil_div(output, (n - reach - 1) // step + 1) for n in extents}


def find_size(s: ConvShape, lanes: int) -> Triple | None:
    """Return depth, rows and columns of the tiles that cost least, or None if none can be."""
    axes = zip(s.output, s.stride, reaches(s), strict=True)
    d, h, w = ((o - 1) * step + reach + 1 for o, step, reach in axes)
    sizes = list(shapes(s.kernel, reaches(s), (d, h, w), most_values(s)))
    cost = costs(s, lanes)
    if is_signal(s.kernel):
        counts = counts_along(s, 2, {rows * columns for _, rows, columns in sizes})
        prices = [cost(counts[r * c], r * c, c) for _, r, c in sizes]
    else:
        of_d = {1: 1} if s.kernel[0] == 1 else counts_along(s, 0, {size[0] for size in sizes})
        of_h, of_w = (counts_along(s, axis, {size[axis] for size in sizes}) for axis in (1, 2))
        prices = [cost(of_d[d] * of_h[r] * of_w[c], d * r * c, c) for d, r, c in sizes]
    return sizes[prices.index(min(prices))] if sizes else None


def has_overlap(s: ConvShape) -> bool:
    """Whether windows overlap along any axis; else a transform saves nothing."""
    return any(reach >= step for reach, step in zip(reaches(s), s.stride, strict=True))


@functools.lru_cache(maxsize=256)
def best_tiles(s: ConvShape, lanes: int) -> Tiles | None:
    """Return the tiles that cost least, or None if the kernel does not fit in any.

    There are none either for a problem whose tiles would be nearly all padding, or results that a
    stride leaves out; and for one whose windows do not overlap, of which a tile saves nothing (such
    an axis may be images, besides).
    """
    if not has_overlap(s):
        return None
    size = find_size(s, lanes)
    if size is None:
        return None
    best = cut(s, *size)
    read_and_written = best.outer * best.values + math.prod(s.size) + s.pixels
    return best if math.prod(best.counts) * best.values <= 64 * read_and_written else None


def memory_cost(s: ConvShape, lanes: int) -> float:
    """Return what memory costs besides.

    That is where no second-level cache holds an image and its results, and for elements of a row
    that are no neighbours: each is copied by itself.
    """
    read, written = s.c_in * math.prod(s.size), s.c_out * math.prod(s.output)
    vectors = s.groups * (read + written) / lanes
    far = vectors * (vectors * VECTOR_BYTES > SECOND_LEVEL)
    apart = s.groups * (read * (s.in_strides[4] != 1) + written * (s.out_strides[4] != 1))
    return far * CYCLES["overlap_save.memory"] + apart * CYCLES["overlap_save.apart"]


def gain(s: ConvShape, lanes: int) -> float:
    """Return how many times as fast as sums transforms are, as predicted; 0 if they cannot be.

    That is so of one image: rows that no tap crosses may be images, too.
    """
    s = image_of(s)
    tiles = best_tiles(s, lanes)
    if tiles is None or s.flops == 0:
        return 0.0
    spent = tiles.outer * costs(s, lanes)(tiles.inner, tiles.values, tiles.columns)
    return cycles_of_sums(s, lanes) / (spent + memory_cost(s, lanes))
