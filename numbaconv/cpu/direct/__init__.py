"""direct: read the input where it lies, or a halo tile of it; there is no patch matrix.

The output is cut into tasks (image, group, plane, block of rows, block of columns, part of the
output channels), shared out over the threads. A task copies its halo tile, unless it can read the
input in place, and then runs one of nine lowerings, which differ in what the lanes of a vector
are:

=====================  ==================================================  ======================
lowering               serves                                              lanes
=====================  ==================================================  ======================
dots                   few pixels, or few outputs of many channels         channels
depthwise_planes       depthwise layers, on rows that lie dense            columns of a plane
depthwise_maps         depthwise layers, on small maps that lie dense      channels
depthwise_interleaved  depthwise, channels innermost: photographs          channels of pixels
depthwise_channels     depthwise layers, channels innermost or many        channels
matrix_zones           dilated layers on short rows                        output channels
filter_rows            few output channels a group: filters, signals       pixels of a row
matrix_transposed      short rows, strides, channels last                  output channels
matrix                 the others: long rows                               pixels of a row
=====================  ==================================================  ======================

Adjoints that `lower_adjoint` serves have three more: `depthwise_phases`, of depthwise layers under
a stride, whose lanes are columns of a phase; `depthwise_outer`, of those under long strides, whose
lanes are taps; and `patch_phases`, of patches, whose lanes are pixels.

They are compared by `cost`, with the panels of `im2col`; `choice` has rules for what is not counted
well. A problem whose halo tiles would be nearly all padding, under a stray stride or dilation, goes
to those that copy none.

Read `choice`, `cost`, `counts`, `halo_counts`, `memory_counts`, `blocks` (how the output is cut
into tasks), `tasks` (which outputs a task covers, where it reads), `tap_lists` (taps without those
of padding), then a lowering.
Imports: what lies below it in `numbaconv.cpu`, and `im2col`.
"""

from collections.abc import Callable

import numpy as np

from numbaconv._imports import Later
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu.direct.choice import has_outer_products, joins_patches, joins_phases
from numbaconv.cpu.direct.cost import find_lowering, find_lowering_in_order
from numbaconv.cpu.lowering import Lowering
from numbaconv.problem.shape import ConvShape

LOWERINGS: dict[str, Callable[..., Lowering]] = {
    "dots": Later("numbaconv.cpu.direct.dots", "lower"),
    "depthwise_planes": Later("numbaconv.cpu.direct.depthwise_planes", "lower"),
    "depthwise_maps": Later("numbaconv.cpu.direct.depthwise_maps", "lower"),
    "depthwise_interleaved": Later("numbaconv.cpu.direct.depthwise_interleaved", "lower"),
    "depthwise_channels": Later("numbaconv.cpu.direct.depthwise_channels", "lower"),
    "matrix_zones": Later("numbaconv.cpu.direct.matrix_zones", "lower"),
    "filter_rows": Later("numbaconv.cpu.direct.filter_rows", "lower"),
    "filter_folds": Later("numbaconv.cpu.direct.filter_rows", "lower_folds"),
    "matrix_transposed": Later("numbaconv.cpu.direct.matrix_transposed", "lower"),
    "matrix": Later("numbaconv.cpu.direct.matrix", "lower"),
    "patch_matrix": Later("numbaconv.cpu.im2col.patch_matrix", "lower"),
}

_lower_phases: Callable[..., Lowering] = Later("numbaconv.cpu.direct.depthwise_phases", "lower")
_lower_outer: Callable[..., Lowering] = Later("numbaconv.cpu.direct.depthwise_outer", "lower")
_lower_patches: Callable[..., Lowering] = Later("numbaconv.cpu.direct.patch_phases", "lower")


def lower_as(name: str, s: ConvShape, dtype: np.dtype, threads: int) -> Lowering:
    """Return how one of the candidates of `choice` computes a problem."""
    return LOWERINGS[name](s, dtype.itemsize, threads)


def lower(s: ConvShape, dtype: np.dtype, threads: int) -> Lowering:
    """Return how the engine computes a problem.

    Parameters
    ----------
    s : ConvShape
        The problem.
    dtype : dtype
        In which it is computed.
    threads : int
        That may work on it.
    """
    name = find_lowering(s, VECTOR_BYTES // dtype.itemsize)
    return lower_as(name, s, dtype, threads)


def lower_in_order(s: ConvShape, dtype: np.dtype, threads: int) -> Lowering:
    """Return how the engine computes a problem, but by no dot products."""
    name = find_lowering_in_order(s, VECTOR_BYTES // dtype.itemsize)
    return lower_as(name, s, dtype, threads)


def lower_by_channels(s: ConvShape, dtype: np.dtype, threads: int) -> Lowering:
    """Return how lanes that are channels compute a depthwise problem."""
    return lower_as("depthwise_channels", s, dtype, threads)


def lower_adjoint(s: ConvShape, dtype: np.dtype, threads: int) -> Lowering | None:
    """Return how the engine computes the adjoint of a problem as a whole, where it does."""
    if joins_phases(s):
        return _lower_phases(s, dtype.itemsize, threads)
    if has_outer_products(s):
        return _lower_outer(s, dtype.itemsize, threads)
    return _lower_patches(s, dtype.itemsize, threads) if joins_patches(s) else None


def unavailable() -> str | None:
    """Why the engine cannot run here: it always can."""
    return None
