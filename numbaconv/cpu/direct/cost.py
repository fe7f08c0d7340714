"""What a problem costs by each lowering, in cycles, and so which lowering serves it.

A lowering counts what it does for a row of outputs of one group of channels: steps of its register
tile, tiles, vectors that it copies, results that it moves. `CYCLES` has what one of each takes. The
sum is the cost; the cheapest lowering that applies is taken.

Threads are not counted. Images are only under a single tap, and rows only there and where a tap
crosses them, as elsewhere they may be images (see `problem.simplest`); but what comes through the
memory goes by how many there are. So one image decides on the order of sums, and all images only
on who adds in that order (`order_of_sums`). Sums of one tap have one order everywhere, but as dot
products, which no batch decides on (`in_any_batch`). So the order of sums is the same in any batch
and on any number of threads.
"""

import functools
from collections.abc import Callable

from numbaconv.codegen.target import HALVES_VECTORS, VECTOR_BYTES, ZEN
from numbaconv.cpu.direct.choice import (
    MOST_DOT_OUTPUTS,
    comparable,
    fills_dots,
    special_lowering,
    uses_small_planes,
)
from numbaconv.cpu.direct.counts import (
    count_bands,
    count_dots,
    count_folds,
    count_matrix,
    count_panels,
    count_transposed,
    count_zones,
    image_of,
    in_any_batch,
    phases_of,
)
from numbaconv.cpu.direct.depthwise_counts import (
    count_channels,
    count_interleaved,
    count_maps,
    count_planes,
)
from numbaconv.cpu.direct.halo_counts import Counts
from numbaconv.cpu.direct.memory_counts import count_memory, memory_lines
from numbaconv.problem.shape import ConvShape, kernel_taps

# The columns of the table below: vectors of 64 bytes that a core executes at once, Intel's and
# AMD's, or that it halves; vectors of 32 bytes; of 16.
INTEL, ZEN_5, ZEN_4, BYTES_32, BYTES_16 = range(5)

# Cycles of what is counted, those of a register tile being one.
# `python benchmarks/choose.py --fit` measures and prints a column.
COLUMNS: dict[str, tuple[float, float, float, float, float]] = {
    # A cycle of a register tile of `matrix`, as `step` counts. Of all lowerings: tasks; vectors of
    # weights or pixels that come from beyond the second-level cache, and what it takes more if no
    # cache keeps them; pages that are looked up; pieces that are transposed; results that are
    # stored to a cache line of their own beyond that cache.
    "step": (1, 1, 1, 1, 1),
    "task": (324, 446, 174, 275, 382),
    "far_vector": (4.27, 2.14, 2.05, 3.13, 2.19),
    "memory_vector": (8.2, 7, 8.3, 14.5, 6.75),
    "page": (5.23, 0.647, 1.69, 1.44, 3.34),
    "transposed_piece": (35.8, 26.2, 16, 42.2, 41.3),
    "far_store": (3.62, 4.39, 2.14, 2.41, 4.49),
    # Lines of an input that no cache keeps: those that are copied to halo tiles, by vectors or not,
    # and those that each lowering reads where they lie, or copies in its own way.
    "halo.memory": (18.2, 11.4, 9, 15.8, 15.1),
    "halo.memory_apart": (6.33, 12.9, 7.11, 12.4, 12.1),
    "dots.memory": (4.84, 3.32, 2.48, 4.34, 3.46),
    "matrix.memory": (5.76, 3.94, 5.04, 8.82, 3.39),
    "matrix_transposed.memory": (17.3, 14.2, 8.04, 14.1, 20.9),
    "matrix_zones.memory": (21.8, 13.3, 17.6, 30.8, 19.6),
    "patch_matrix.memory": (11.5, 21.9, 11.8, 20.7, 17.1),
    "filter_rows.memory": (10.9, 11, 6.05, 10.6, 12.2),
    "filter_folds.memory": (17.2, 14.8, 5.47, 9.57, 11.1),
    "depthwise_planes.memory": (3.21, 5.91, 5.29, 9.26, 6.18),
    "depthwise_maps.memory": (6.9, 6.65, 5.29, 9.26, 6.59),
    "depthwise_channels.memory": (20.8, 7.58, 5.63, 9.85, 7.9),
    "depthwise_interleaved.memory": (5.64, 6.05, 0.427, 0.747, 6.04),
    # Copies to halo tiles, panels and zones: calls; channels that are copied by vectors; vectors
    # that are copied, with a mask for the padding, every second element of two, or split into two
    # phases; elements; those that are in a line of their own beyond the second-level cache, and
    # pixels whose channels are; vectors of padding; vectors of tiles that the first-level cache
    # does not hold.
    "halo.call": (145, 89.9, 76.5, 122, 85.6),
    "halo.channel": (13.2, 12, 0.829, 6.84, 12.3),
    "copied_vector": (2.01, 1.39, 3, 0.591, 1.61),
    "masked_vector": (7.31, 2.02, 4.54, 13.5, 4.93),
    "even_vector": (7.23, 7.5, 6.84, 25.8, 24.2),
    "split_vector": (20.3, 13.4, 12.1, 31.5, 25.4),
    "copied_element": (1.89, 1.13, 0.862, 0.848, 1.28),
    "far_element": (3.78, 3.12, 2.16, 6.54, 3.19),
    "halo.far": (2.12, 1.52, 3.38, 3.18, 1.7),
    "filled_vector": (5.19, 4.12, 1.32, 1.92, 4.27),
    "halo.vector": (0.779, 0.504, 0.286, 0.000999, 0.462),
    # Cycles of register blocks; halvings of the lanes of a tile's sums.
    "dots.step": (2.21, 1.37, 1.06, 1.22, 0.672),
    "dots.halving": (36.3, 29.8, 17.5, 20, 42.3),
    # Vectors of results; tiles, and lists of channels of each; vectors of results that are moved to
    # the output, or by segments.
    "matrix.result": (3.52, 3.82, 1.16, 2.88, 1.61),
    "matrix.tile": (23.5, 18.3, 5.74, 13.8, 26.1),
    "matrix.round": (0.28, 0.224, 1.03, 0.851, 0.236),
    "matrix.moved": (14.6, 12, 12, 12, 12.5),
    "matrix.segment": (22, 19.6, 26.1, 38.6, 23.9),
    # Cycles of register tiles, and of those of a single vector of outputs; vectors of results, or
    # those that are stored in several columns; tiles, and lists of channels of each; lines of
    # pixels that the first-level cache holds no longer, or the second; pixels of a channel that
    # push each other out; lines that each block of outputs reads again, and those from beyond the
    # second-level cache that nobody asks for, or that no cache keeps.
    "matrix_transposed.step": (0.843, 1, 1, 1, 0.967),
    "matrix_transposed.single": (1.33, 1, 1, 1, 1.27),
    "matrix_transposed.result": (0.0916, 0.0765, 0.001, 0.000999, 0.0787),
    "matrix_transposed.apart": (1.16, 0.974, 1.14, 0.001, 0.919),
    "matrix_transposed.tile": (80.1, 133, 51.9, 74.2, 43.1),
    "matrix_transposed.round": (2.94, 3.06, 0.327, 0.983, 3.78),
    "matrix_transposed.again": (0.556, 0.499, 0.21, 0.39, 0.502),
    "matrix_transposed.far": (0.763, 0.613, 2.01, 3.92, 0.641),
    "matrix_transposed.lost": (1.31, 1.08, 0.883, 0.595, 1.13),
    "matrix_transposed.reread": (0.377, 0.249, 0.792, 1.39, 0.359),
    "matrix_transposed.unasked": (0.641, 0.539, 6, 6.81, 0.683),
    "matrix_transposed.once": (1.11, 0.816, 4.36, 3.64, 0.831),
    # Cycles of register tiles; vectors of results; calls for a row of the filter.
    "matrix_zones.step": (1.01, 1, 1, 1, 0.975),
    "matrix_zones.result": (4.28, 4.1, 4.86, 4.12, 4.27),
    "matrix_zones.call": (138, 178, 63.5, 152, 75.1),
    # Cycles of register tiles; vectors of results; tiles; vectors that are moved to the output;
    # vectors of a row that is one run of memory; runs of pixels under a tap, their channels, pieces
    # that are transposed, and lines that nobody asks for.
    "patch_matrix.step": (0.858, 1, 1, 1, 1.08),
    "patch_matrix.result": (8, 17.7, 5.28, 13.6, 16.9),
    "patch_matrix.tile": (9.17, 7.34, 5.52, 8.11, 7.5),
    "patch_matrix.moved": (48.7, 26.4, 24.5, 37.8, 24.8),
    "patch_matrix.line": (5.02, 3.22, 3.33, 4.26, 1.95),
    "patch_matrix.run": (196, 127, 60, 143, 144),
    "patch_matrix.row": (6.66, 3.07, 3.39, 10.7, 3.75),
    "patch_matrix.piece": (23.7, 16.7, 12.2, 21, 14.4),
    "patch_matrix.far": (5.12, 5.24, 3.83, 7.66, 5.3),
    # Cycles of register blocks; results, read and written for each input channel; bands of an
    # output channel, and calls for each input channel; vectors of results that are moved.
    "filter_rows.step": (1.1, 1.24, 1.17, 1.36, 1.22),
    "filter_rows.result": (7.57, 6.1, 3.4, 4.93, 5.97),
    "filter_rows.pass": (69.5, 52.2, 32.2, 37.8, 46.3),
    "filter_rows.call": (43.9, 34.7, 14.3, 28.6, 21.5),
    "filter_rows.moved": (20.4, 9.35, 11.2, 28, 10.7),
    # The same of folds, where a call is for some vectors of taps of an input channel; vectors that
    # come from beyond the second-level cache.
    "filter_folds.step": (0.908, 1.02, 0.613, 1.14, 0.508),
    "filter_folds.result": (4.97, 3.04, 2.15, 1.64, 2.68),
    "filter_folds.call": (74.5, 70.2, 21.4, 42.4, 71.5),
    "filter_folds.pass": (93.6, 76.8, 35, 28.6, 75.5),
    "filter_folds.moved": (20.7, 16.8, 5.87, 14.6, 17.3),
    "filter_folds.far": (0.429, 0.353, 1.86, 3.23, 0.339),
    # Products, weights, and rows of strips; loads, those that are split into two phases, have masks
    # in registers, or masks of each tap; results; lines of pixels, and results, that come from
    # beyond the first-level cache; strips of a plane; rows that small planes read.
    "depthwise_planes.product": (0.374, 0.356, 0.288, 0.676, 0.372),
    "depthwise_planes.weight": (0.302, 0.323, 0.08, 1.02, 0.338),
    "depthwise_planes.row": (4.87, 7.56, 1.2, 6.11, 7.9),
    "depthwise_planes.load": (0.524, 0.364, 0.574, 0.00101, 0.38),
    "depthwise_planes.split": (0.15, 0.127, 0.31, 0.286, 0.133),
    "depthwise_planes.masked": (0.586, 0.738, 0.0864, 0.464, 0.771),
    "depthwise_planes.cut": (0.745, 0.454, 0.338, 2.77, 0.474),
    "depthwise_planes.result": (2.15, 3.78, 1.77, 5.39, 3.95),
    "depthwise_planes.far": (0.447, 0.459, 0.569, 1.84, 0.48),
    "depthwise_planes.again": (0.839, 0.738, 6.73, 2, 0.771),
    "depthwise_planes.call": (22.6, 22.4, 5.58, 33.5, 23.4),
    "depthwise_planes.small_row": (8.64, 5.62, 3.21, 7.24, 5.87),
    # Taps of a tile; tiles; vectors of channels that are copied, transposed, or padding, and those
    # that come from beyond the second-level cache; results that are transposed back.
    "depthwise_channels.step": (1.01, 1.35, 1.41, 0.699, 1.06),
    "depthwise_channels.call": (179, 29.2, 93.9, 129, 30.7),
    "depthwise_channels.copied": (2.5, 2.35, 1.81, 2.66, 2.86),
    "depthwise_channels.transposed": (7.57, 9.69, 4.93, 5.51, 5.37),
    "depthwise_channels.padding": (5.03, 3.56, 2.74, 4.87, 4.45),
    "depthwise_channels.far": (4.05, 2.75, 2.51, 0.412, 2.67),
    "depthwise_channels.moved": (16.6, 11.4, 4.5, 2.61, 8.24),
    # Steps of register blocks; those whose map the first-level cache does not hold; pixels that are
    # copied, taps whose weights are, places that are filled with zeros, and results that are
    # transposed back; maps.
    "depthwise_maps.step": (1.04, 1.1, 1.4, 1.06, 0.561),
    "depthwise_maps.far": (0.243, 0.241, 0.08, 0.001, 0.176),
    "depthwise_maps.copied": (9.59, 4.65, 4.2, 3.25, 3.41),
    "depthwise_maps.weight": (0.561, 0.489, 0.5, 0.3, 0.511),
    "depthwise_maps.padding": (0.592, 0.413, 1.5, 1, 0.439),
    "depthwise_maps.moved": (22.6, 12.7, 4.2, 3.7, 5.75),
    "depthwise_maps.call": (23.8, 21.1, 80, 25, 22),
    # Cycles of register blocks; calls; vectors of results; rows that are copied, their vectors, and
    # vectors of padding; elements that are copied to a phase or for their outputs, once and again;
    # loads whose lines the first-level cache has lost; repeated weights.
    "depthwise_interleaved.step": (1.66, 1.04, 1.26, 1.92, 0.91),
    "depthwise_interleaved.call": (40.2, 27.9, 97.7, 83.7, 29.1),
    "depthwise_interleaved.result": (10.3, 7.81, 4.1, 5.29, 6.14),
    "depthwise_interleaved.row": (28.2, 19.4, 29.7, 25.4, 20.2),
    "depthwise_interleaved.copied": (0.0255, 0.021, 1.06, 0.943, 0.0219),
    "depthwise_interleaved.padding": (12.5, 7.71, 5.86, 4.09, 7.07),
    "depthwise_interleaved.element": (2.39, 1.19, 0.884, 0.848, 1.23),
    "depthwise_interleaved.again": (1.23, 1.19, 0.257, 0.397, 1.25),
    "depthwise_interleaved.lost": (0.689, 0.848, 1.96, 0.59, 0.802),
    "depthwise_interleaved.repeated": (0.983, 0.537, 0.503, 0.848, 0.559),
    # Transforms: of vectors of values, a halving; a way between memory and a tile, with a
    # transposition; factors between the transforms of a signal; what is added to a way where the
    # second-level cache does not hold a tile, and to elements where it does not hold an image;
    # elements of a row that are no neighbours; a complex multiply-add. Calls for a row of a tile.
    "overlap_save.step": (3.04, 2.5, 0.93, 1.34, 2.61),
    "overlap_save.moved": (18.2, 15, 23.9, 16.5, 15.7),
    "overlap_save.between": (12.1, 10, 10.8, 9.27, 10.5),
    "overlap_save.far": (7.29, 6, 1.05, 4.63, 6.27),
    "overlap_save.memory": (14.6, 12, 12, 9, 12.5),
    "overlap_save.apart": (2.8, 2.3, 1.7, 1.7, 2.3),
    "overlap_save.product": (10.9, 9, 5.04, 4.58, 9.41),
    "overlap_save.row": (22.8, 18.8, 17, 56.7, 19.6),
}


def column() -> int:
    """Return which column of the table is that of the CPU, or of one most like it."""
    if VECTOR_BYTES < 64:
        return BYTES_32 if VECTOR_BYTES == 32 else BYTES_16
    return ZEN_4 if HALVES_VECTORS else ZEN_5 if ZEN else INTEL


_COLUMN = column()
CYCLES: Counts = {what: cycles[_COLUMN] for what, cycles in COLUMNS.items()}


Costs = dict[str, float]

COUNTS: dict[str, Callable[[ConvShape, int], Counts]] = {
    "dots": count_dots,
    "matrix": count_matrix,
    "matrix_transposed": count_transposed,
    "matrix_zones": count_zones,
    "patch_matrix": count_panels,
    "filter_rows": count_bands,
    "filter_folds": count_folds,
    "depthwise_planes": count_planes,
    "depthwise_channels": count_channels,
    "depthwise_maps": count_maps,
    "depthwise_interleaved": count_interleaved,
}


# What dot products are compared with: others are not near where channels lie side by side.
RIVALS = ("matrix_transposed", "patch_matrix", "matrix")


def count(name: str, s: ConvShape, lanes: int) -> Counts:
    """Return what a lowering does for a row of outputs of a group."""
    return COUNTS[name](image_of(s), lanes) | count_memory(name, s, lanes)


def cycles_of(counts: Counts) -> float:
    """Return the cycles of what is counted."""
    return sum(CYCLES[what] * many for what, many in counts.items())


def cost_of(name: str, one: ConvShape, lanes: int) -> float:
    """Return the predicted cycles of a lowering for a row of outputs of what is counted."""
    return cycles_of(COUNTS[name](one, lanes))


def cycles_by(name: str, s: ConvShape, lanes: int) -> float:
    """Return the predicted cycles of a lowering for a row of outputs of a group, whoever serves."""
    return cost_of(name, image_of(s), lanes)


def with_memory(found: Costs, s: ConvShape, lanes: int) -> Costs:
    """Add to costs what the memory takes."""
    if memory_lines(s, lanes) is None:
        return found
    return {name: cost + cycles_of(count_memory(name, s, lanes)) for name, cost in found.items()}


def costs_of_dots(s: ConvShape, lanes: int) -> Costs:
    """Return what dot products and the others cost in any batch, if none of these costs less.

    They add in another order than the others do, so no batch may decide on them.
    """
    if not fills_dots(s, lanes) or s.c_out > MOST_DOT_OUTPUTS:
        return {}
    one = in_any_batch(s)

    def cost(name: str) -> float:
        return cost_of(name, one, lanes) + cycles_of(count_memory(name, one, lanes))

    found = {"dots": cost("dots")}
    for name in RIVALS:
        found[name] = cost(name)
        if found[name] < found["dots"]:
            return {}
    return found


def costs(s: ConvShape, lanes: int) -> Costs:
    """Return the predicted cycles, for a row of outputs of a group, of each lowering compared.

    Where a rule of `choice` names the one that serves a problem, there is nothing to compare.
    """
    if (only := special_lowering(s, lanes)) is not None:
        return {only: 0.0}
    return costs_of_dots(s, lanes) or with_memory(costs_in_order(image_of(s), lanes), s, lanes)


@functools.lru_cache(maxsize=64)  # who compares with sums asks, then who lowers them
def costs_in_order(one: ConvShape, lanes: int) -> Costs:
    """Return the costs, of what is counted, of all but dot products, and of no memory."""
    return {name: cost_of(name, one, lanes) for name in comparable(one, lanes)}


def order_of_sums(name: str, s: ConvShape, lanes: int) -> str:
    """Return the order in which a lowering adds the products of an output, as a word.

    Those alike give the same bits. Under a single tap all add channel by channel, but dot products.
    Of one channel most add tap by tap in the order of the filter. Some put rows of the filter
    before its planes, or columns before its rows, go phase by phase, or add long rows by pieces.
    """
    kd, kh, _ = s.kernel
    if name == "dots":
        return name
    if kernel_taps(s) == 1:
        return "channels"
    others = {
        "matrix": kd > 1 and kh > 1,
        "matrix_transposed": sum(extent > 1 for extent in s.kernel) > 1,
        "filter_rows": phases_of(s, 1) > 1,
        "filter_folds": True,
        "depthwise_planes": uses_small_planes(s, lanes),
    }
    return name if s.c_in > 1 or others.get(name, False) else "taps"


def cycles_of_sums(s: ConvShape, lanes: int) -> float:
    """Return the predicted cycles of all rows and groups by the lowering that serves a problem.

    Those of one image as often as there are images: what transforms take goes by no batch either.
    """
    only, one = special_lowering(s, lanes), image_of(s)
    rows = s.n * s.groups * s.output[0] * s.output[1]
    if only is not None:
        return rows * cost_of(only, one, lanes)
    found = costs_of_dots(s, lanes) or with_memory(costs_in_order(one, lanes), one, lanes)
    return rows * min(found.values())


def find_lowering(s: ConvShape, lanes: int) -> str:
    """Return the name of the lowering that serves a problem: the cheapest that applies."""
    only: str | None = special_lowering(s, lanes)
    if only is not None:
        return only
    return "dots" if costs_of_dots(s, lanes) else _cheapest_in_order(s, lanes)


def find_lowering_in_order(s: ConvShape, lanes: int) -> str:
    """Return the name of the cheapest lowering but dot products, which add in another order."""
    only: str | None = special_lowering(s, lanes)
    return _cheapest_in_order(s, lanes) if only in (None, "dots") else only


def _cheapest_in_order(s: ConvShape, lanes: int) -> str:
    """Return the cheapest lowering, all but dot products.

    One image decides on the order of sums, and so do all images on who adds in that order.
    """
    one = image_of(s)
    found = costs_in_order(one, lanes)
    name = _cheapest(with_memory(found, one, lanes))
    if s == one:
        return name
    order = order_of_sums(name, s, lanes)
    alike = {n: cost for n, cost in found.items() if order_of_sums(n, s, lanes) == order}
    return _cheapest(with_memory(alike, s, lanes))


def _cheapest(found: Costs) -> str:
    return min(found, key=found.__getitem__)
