"""What a problem costs by each lowering, in cycles, and so which lowering serves it.

A lowering counts what it does for a row of outputs of one group of channels: steps of its register
tile, tiles, vectors that it copies, results that it moves. `CYCLES` has what one of each takes. The
sum is the cost; the cheapest lowering that applies is taken.

Threads are not counted. Images are only under a single tap, and rows only there and where a tap
crosses them, as elsewhere they may be images (see `problem.simplest`). Sums of one tap have one
order everywhere. So the order of sums is the same in any batch and on any number of threads.
"""

from collections.abc import Callable

from numbaconv.cpu.direct.choice import comparable, special_lowering
from numbaconv.cpu.direct.counts import (
    count_bands,
    count_matrix,
    count_panels,
    count_transposed,
    count_zones,
    image_of,
)
from numbaconv.cpu.direct.depthwise_counts import count_channels, count_interleaved, count_planes
from numbaconv.cpu.direct.halo_counts import Counts
from numbaconv.problem.shape import ConvShape

# Cycles of what is counted. `python benchmarks/choose.py --fit` measures and prints this table.
CYCLES: Counts = {
    # Of all lowerings: a cycle of a register tile, as `step` counts; tasks; vectors of weights or
    # pixels that come from beyond the second-level cache; pages that are looked up; pieces that are
    # transposed; results that are stored to a cache line of their own beyond that cache.
    "step": 1.0,
    "task": 224,
    "far_vector": 9.1,
    "page": 6,
    "transposed_piece": 17.8,
    "far_store": 8.72,
    # Copies to halo tiles, panels and zones: calls; channels that are copied by vectors; vectors
    # that are copied, with a mask for the padding, every second element of two, or split into two
    # phases; elements; those that are in a line of their own beyond the second-level cache, and
    # pixels whose channels are; vectors of padding; vectors of tiles that the first-level cache
    # does not hold.
    "halo.call": 68.2,
    "halo.channel": 4.31,
    "copied_vector": 4.38,
    "masked_vector": 3.72,
    "even_vector": 6.48,
    "split_vector": 11.6,
    "copied_element": 1.16,
    "far_element": 1.19,
    "halo.far": 4.73,
    "filled_vector": 2.8,
    "halo.vector": 1.9,
    # Vectors of results; tiles, and lists of channels of each; vectors of results that are moved to
    # the output, or by segments.
    "matrix.result": 1.86,
    "matrix.tile": 4.29,
    "matrix.round": 1.93,
    "matrix.moved": 12,
    "matrix.segment": 20.7,
    # Vectors of results, or those that are stored in several columns; tiles, and lists of
    # channels of each; lines of pixels that the first-level cache holds no longer, or the second;
    # pixels that push each other out of the first.
    "matrix_transposed.result": 1.27,
    "matrix_transposed.apart": 1.49,
    "matrix_transposed.tile": 48.1,
    "matrix_transposed.round": 2.9,
    "matrix_transposed.again": 1.78,
    "matrix_transposed.far": 4,
    "matrix_transposed.crowded": 0.4,
    # Vectors of results; calls for a row of the filter.
    "matrix_zones.result": 4.17,
    "matrix_zones.call": 68.2,
    # Vectors of results; tiles; vectors that are moved to the output; vectors of a row that is one
    # run of memory; runs of pixels under a tap, and their channels.
    "patch_matrix.result": 5.46,
    "patch_matrix.tile": 5.28,
    "patch_matrix.moved": 16.6,
    "patch_matrix.line": 5.13,
    "patch_matrix.run": 95.6,
    "patch_matrix.row": 4.64,
    # Cycles of register blocks; results, read and written for each input channel; bands of an
    # output channel, and calls for each input channel; vectors of results that are moved.
    "filter_rows.step": 1.61,
    "filter_rows.result": 7.55,
    "filter_rows.pass": 30.4,
    "filter_rows.call": 15.5,
    "filter_rows.moved": 11.2,
    # Products, loads, loads that are split into two phases or masked; results; strips of a plane;
    # rows of small planes.
    "depthwise_planes.product": 0.563,
    "depthwise_planes.load": 0.438,
    "depthwise_planes.split": 2.98,
    "depthwise_planes.masked": 0.3,
    "depthwise_planes.result": 5.12,
    "depthwise_planes.call": 7.64,
    "depthwise_planes.small_row": 8,
    # Taps of a tile; tiles; vectors of channels that are copied, transposed, or padding; results
    # that are transposed back.
    "depthwise_channels.step": 1.17,
    "depthwise_channels.call": 37.8,
    "depthwise_channels.copied": 5.46,
    "depthwise_channels.transposed": 7.94,
    "depthwise_channels.padding": 4.96,
    "depthwise_channels.moved": 6.41,
    # Cycles of register blocks; calls; vectors of results; rows that are copied, their vectors, and
    # vectors of padding; elements that are copied to a phase or for their outputs, once and again;
    # repeated weights.
    "depthwise_interleaved.step": 1.19,
    "depthwise_interleaved.call": 114,
    "depthwise_interleaved.result": 5.22,
    "depthwise_interleaved.row": 45.7,
    "depthwise_interleaved.copied": 0.0238,
    "depthwise_interleaved.padding": 7.32,
    "depthwise_interleaved.element": 0.925,
    "depthwise_interleaved.again": 0.349,
    "depthwise_interleaved.repeated": 2.07,
}


COUNTS: dict[str, Callable[[ConvShape, int], Counts]] = {
    "matrix": count_matrix,
    "matrix_transposed": count_transposed,
    "matrix_zones": count_zones,
    "patch_matrix": count_panels,
    "filter_rows": count_bands,
    "depthwise_planes": count_planes,
    "depthwise_channels": count_channels,
    "depthwise_interleaved": count_interleaved,
}


def count(name: str, s: ConvShape, lanes: int) -> Counts:
    """Return what a lowering does for a row of outputs of a group."""
    return COUNTS[name](image_of(s), lanes)


def costs(s: ConvShape, lanes: int) -> dict[str, float]:
    """Return the predicted cycles, for a row of outputs of a group, of each lowering compared.

    Where a rule of `choice` names the one that serves a problem, there is nothing to compare.
    """
    if (only := special_lowering(s, lanes)) is not None:
        return {only: 0.0}
    one = image_of(s)
    return {
        name: sum(CYCLES[what] * many for what, many in COUNTS[name](one, lanes).items())
        for name in comparable(s, lanes)
    }


def find_lowering(s: ConvShape, lanes: int) -> str:
    """Return the name of the lowering that serves a problem: the cheapest that applies."""
    found = costs(s, lanes)
    return min(found, key=found.__getitem__)
