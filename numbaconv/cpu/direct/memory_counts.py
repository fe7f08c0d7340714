"""What a problem brings through the memory: counts that go by how many images there are.

Lines of the input are counted that no cache keeps, for a row of outputs of one group. How long each
takes goes by who reads it: prefetchers of the hardware follow rows and ask for what lies between
them too; a tile that reads pixels in place gets just the lines that it asks for.
"""

import functools
from typing import NamedTuple

from numbaconv.codegen.pointers import CACHE_LINE
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu import blocking
from numbaconv.cpu.direct.choice import (
    has_images,
    reads_bands_in_place,
    reads_pixels_in_place,
    reads_rows_in_place,
    reads_signals_in_place,
)
from numbaconv.cpu.direct.depthwise_counts import strip_heights
from numbaconv.cpu.direct.halo_counts import Counts
from numbaconv.problem.shape import ConvShape

# Bytes of input and output of which next to none come from further away than usual.
MOST_KEPT = 2 * blocking.SECOND_LEVEL

# Lines between rows that prefetchers ask for, at most, for each line that is used.
MOST_BETWEEN = 6


def used_lines(s: ConvShape, lanes: int) -> float:
    """Lines of an image that are read. Runs that lie apart begin and end within one."""
    line = CACHE_LINE * lanes / VECTOR_BYTES
    apart = [max(1, step / kernel) for step, kernel in zip(s.stride, s.kernel, strict=True)]
    rows = s.size[0] * s.size[1] / (apart[0] * apart[1])
    channels = s.groups * s.c_in
    if s.in_strides[1] == 1 and channels > 1:
        behind = s.in_strides[4] * apart[2] - channels
        return rows * s.size[2] / apart[2] * (channels + min(behind, line)) / line
    step, row = s.in_strides[4] * apart[2], s.size[2] * s.in_strides[4]
    if step > line:
        return channels * rows * row / step
    behind = s.in_strides[3] * apart[1] - row
    return channels * rows * (row + (line if behind >= line else 0)) / line


def copies_input(name: str, s: ConvShape, lanes: int) -> bool:
    """Whether a lowering of dense layers copies what it reads to halo tiles."""
    if name == "matrix":
        return not (reads_rows_in_place(s, lanes) or reads_signals_in_place(s, lanes))
    if name == "matrix_transposed":
        return not (has_images(s) or reads_pixels_in_place(s, lanes))
    return name in ("filter_rows", "filter_folds") and not reads_bands_in_place(s)


class Lines(NamedTuple):
    """Lines of an image, for a row of outputs of a group, that come through the memory.

    Attributes
    ----------
    used, spanned : float
        Those that are read; those that prefetchers ask for.
    again : float
        Those that each strip but the first reads once more, as no cache keeps a plane of the image:
        of the plane, and of the results that it adds to.
    """

    used: float
    spanned: float
    again: float


@functools.lru_cache(maxsize=8)  # each lowering asks
def memory_lines(s: ConvShape, lanes: int) -> Lines | None:
    """Return the lines of an image that come through the memory; None: caches keep it."""
    size = s.n * (s.in_strides[0] + s.out_strides[0]) * VECTOR_BYTES / lanes
    if size <= MOST_KEPT:
        return None
    line = CACHE_LINE * lanes / VECTOR_BYTES
    share = (1 - MOST_KEPT / size) / (s.groups * s.output[0] * s.output[1])
    used = used_lines(s, lanes)
    spanned = min(s.in_strides[0] / line, MOST_BETWEEN * used)
    far = 2 * s.size[1] * s.size[2] * VECTOR_BYTES > blocking.SECOND_LEVEL * lanes
    again = far * (s.in_strides[0] + 2 * s.out_strides[0]) / line
    return Lines(share * used, share * spanned, share * again)


def count_memory(name: str, s: ConvShape, lanes: int) -> Counts:
    """Count lines of the input that come through the memory, for a row of outputs of a group."""
    lines = memory_lines(s, lanes)
    if lines is None:
        return {}
    if name == "matrix_transposed" and not copies_input(name, s, lanes):
        return {"matrix_transposed.memory": lines.used}
    if name == "depthwise_planes":
        strips = len(strip_heights(s.kernel[1], s.stride[1]))
        return {"depthwise_planes.memory": lines.spanned + (strips - 1) * lines.again}
    if copies_input(name, s, lanes):
        dense = s.in_strides[1] != 1 and s.in_strides[4] * s.stride[2] == 1
        return {"halo.memory" if dense else "halo.memory_apart": lines.spanned}
    return {f"{name}.memory": lines.spanned}
