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
    Counts,
    count_bands,
    count_matrix,
    count_panels,
    count_transposed,
    count_zones,
)
from numbaconv.cpu.direct.depthwise_counts import count_channels, count_interleaved, count_planes
from numbaconv.problem.shape import ConvShape

# Cycles of what is counted. `python benchmarks/choose.py --fit` measures and prints this table.
CYCLES: Counts = {
    # Of all lowerings: a cycle of a register tile, as `step` counts; tasks; channels, vectors and
    # elements that are copied to a halo tile or a panel, vectors of padding rows, rows that are
    # copied by elements, vectors that are split into two phases; rows, vectors of channels and
    # vectors of columns that are transposed, and what these take more where each comes from beyond
    # the second-level cache; vectors from there; weights that are packed tap by tap; pages that are
    # looked up.
    "step": 1.0,
    "task": 170,
    "copied_channel": 19,
    "copied_vector": 4.8,
    "copied_element": 0.73,
    "padded_vector": 1.2,
    "strided_row": 22,
    "split_vector": 9.2,
    "transposed_row": 110,
    "transposed_vector": 3,
    "transposed_result": 5.5,
    "transposed_far": 5,
    "far_vector": 17,
    "packed_by_tap": 0.9,
    "page": 4.5,
    # Vectors of results; tiles; vectors of results that are no neighbours in the output, or that
    # are moved there in segments.
    "matrix.result": 1.7,
    "matrix.tile": 2.3,
    "matrix.moved": 12,
    "matrix.segment": 5.3,
    # Vectors of results, those that are moved to the output, or stored in several columns of it;
    # lines of pixels that no cache holds; lines that the first-level cache holds no longer when
    # they are read again.
    "matrix_transposed.result": 1.9,
    "matrix_transposed.moved": 4.9,
    "matrix_transposed.apart": 3,
    "matrix_transposed.tile": 63,
    "matrix_transposed.line": 3.2,
    "matrix_transposed.again": 3.5,
    # Calls for a row of the filter.
    "matrix_zones.result": 4.6,
    "matrix_zones.moved": 3.2,
    "matrix_zones.call": 49,
    # Vectors of a row that is one run of memory; runs of pixels under a tap, and their channels.
    "patch_matrix.result": 2,
    "patch_matrix.tile": 3.1,
    "patch_matrix.moved": 14,
    "patch_matrix.line": 4.9,
    "patch_matrix.run": 56,
    "patch_matrix.row": 2.5,
    # Products and loads of vectors; results, read and written for each input channel; ends of rows
    # under each tap.
    "filter_rows.product": 0.54,
    "filter_rows.load": 0.42,
    "filter_rows.result": 3.3,
    "filter_rows.end": 11,
    "filter_rows.moved": 39,
    # Products, loads, loads that are split into two phases or masked; results, and those that are
    # read again for the next strip; strips of a plane; rows of small planes.
    "depthwise_planes.product": 0.57,
    "depthwise_planes.load": 0.42,
    "depthwise_planes.split": 1.3,
    "depthwise_planes.masked": 0.58,
    "depthwise_planes.result": 4.3,
    "depthwise_planes.again": 2.8,
    "depthwise_planes.call": 8.3,
    "depthwise_planes.small_row": 9.8,
    # Taps of a tile; tiles; vectors of channels that are copied, transposed, or padding; results
    # that are transposed back.
    "depthwise_channels.step": 1.4,
    "depthwise_channels.call": 66,
    "depthwise_channels.copied": 4.5,
    "depthwise_channels.transposed": 7.4,
    "depthwise_channels.padding": 1.8,
    "depthwise_channels.moved": 2,
    # Taps of a tile; vectors of results, and of pixels that are copied; rows of these, and vectors
    # of padding; elements of which each is copied for each of its outputs, or to a phase; repeated
    # weights.
    "depthwise_interleaved.step": 1.0,
    "depthwise_interleaved.result": 7.3,
    "depthwise_interleaved.copied": 3,
    "depthwise_interleaved.row": 7,
    "depthwise_interleaved.padding": 5,
    "depthwise_interleaved.element": 0.88,
    "depthwise_interleaved.repeated": 0.37,
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


def costs(s: ConvShape, lanes: int) -> dict[str, float]:
    """Return the predicted cycles, for a row of outputs of a group, of each lowering compared.

    Where a rule of `choice` names the one that serves a problem, there is nothing to compare.
    """
    if (only := special_lowering(s, lanes)) is not None:
        return {only: 0.0}
    return {
        name: sum(CYCLES[what] * count for what, count in COUNTS[name](s, lanes).items())
        for name in comparable(s, lanes)
    }


def find_lowering(s: ConvShape, lanes: int) -> str:
    """Return the name of the lowering that serves a problem: the cheapest that applies."""
    found = costs(s, lanes)
    return min(found, key=found.__getitem__)
