"""What it takes to copy the halo tiles of tasks: counts that `cost` adds up.

They follow the loops of `packing.halo`: rows of an image are copied by vectors, transposed, or
element by element; padding is filled. A call copies all input rows of a phase of a channel, one row
of padding, or one row of channels that are neighbours in memory.
"""

from math import prod
from typing import NamedTuple

from numbaconv.codegen.integers import ceil_div
from numbaconv.codegen.pointers import CACHE_LINE
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu import blocking
from numbaconv.cpu.direct.blocks import MatrixBlocks
from numbaconv.cpu.packing.halo import axis_reach, copies_vectors, halo_layout, splits_rows
from numbaconv.cpu.packing.lanes import piece_columns, piece_rows
from numbaconv.problem.padding_modes import steps_to
from numbaconv.problem.shape import ConvShape

Counts = dict[str, float]


def transposed_pieces(rows: int, columns: int, lanes: int) -> int:
    """Pieces in which a block is transposed, whole ones or not."""
    high: int = piece_rows(lanes)
    wide: int = piece_columns(lanes)
    return ceil_div(rows, high) * ceil_div(columns, wide)


def ends_and_middle(blocks: int) -> list[tuple[int, int]]:
    """List blocks that stand for all, and for how many: those at the ends, and one in between."""
    found = (1, 0), (blocks - 2, blocks // 2), (min(1, blocks - 1), blocks - 1)
    return [(many, block) for many, block in found if many > 0]


class Extent(NamedTuple):
    """What the halo tiles of an axis hold in a phase of it, all together.

    Attributes
    ----------
    all, real : int
        Elements; those that are no padding.
    vectors, pieces, filled : int
        Vectors of the real ones, pieces that are as high, and vectors of padding beside them: each
        tile has its own.
    """

    all: int
    real: int
    vectors: int
    pieces: int
    filled: int


def extent_of(s: ConvShape, axis: int, count: int, blocks: int, lanes: int) -> Extent:
    """Return what halo tiles of so many outputs hold. Those between the ends count as one does."""
    step = s.stride[axis]
    length = count + axis_reach(s.kernel[axis], step, s.dilation[axis])
    real = vectors = pieces = filled = 0
    for many, block in ends_and_middle(blocks):
        first = block * count * step - s.padding[axis]
        begin = min(steps_to(max(-first, 0), step), length)
        end = max(min(steps_to(s.size[axis] - first, step), length), begin)
        real += many * (end - begin)
        vectors += many * ceil_div(end - begin, lanes)
        pieces += many * ceil_div(end - begin, piece_rows(lanes))
        filled += many * (ceil_div(begin, lanes) + ceil_div(length - end, lanes))
    return Extent(blocks * length, real, vectors, pieces, filled)


def is_large(s: ConvShape, lanes: int) -> bool:
    """Whether the second-level cache does not hold an image."""
    return s.groups * s.c_in * prod(s.size) * VECTOR_BYTES > blocking.SECOND_LEVEL * lanes


def count_halo(s: ConvShape, lanes: int, b: MatrixBlocks, planes: float, blocks: float) -> Counts:
    """Count what halo tiles copy for a row of outputs, all channels of a group.

    Parameters
    ----------
    planes : float
        How many planes of the filter read more than padding, about.
    blocks : float
        How often a tile is read: once for each block of output channels.
    """
    halo = halo_layout(s, b.rows, b.cols, VECTOR_BYTES // lanes)
    down = extent_of(s, 1, b.rows, b.row_blocks, lanes)
    across = extent_of(s, 2, b.cols, b.col_blocks, lanes)
    tiles, phases = b.row_blocks * b.col_blocks, halo.phases_h * halo.phases_w
    rows = s.kernel[0] * down.all * halo.phases_h  # of a block of columns, and a channel
    real = planes * down.real * halo.phases_h
    padding = (rows - real) * b.col_blocks
    each = s.c_in / s.output[1]
    whole = ceil_div(halo.pitch, lanes)
    vectors = each * rows * halo.phases_w * across.all / lanes
    counts: Counts = {}
    far = is_large(s, lanes)
    size = b.groups * b.kc * halo.channel * VECTOR_BYTES // lanes
    if size > blocking.FIRST_LEVEL:
        counts["halo.vector"] = vectors
    if size > blocking.CACHE_BYTES:  # so much of it leaves the second-level cache again
        counts["far_vector"] = vectors * blocks * min(1, size / blocking.CACHE_BYTES - 1)
    kc = min(b.kc, s.c_in)
    if s.in_strides[1] == 1 and kc > 1:  # each slice of channels reads their lines again
        slices = s.c_in / kc
        together = slices * ceil_div(kc, lanes)
        columns = slices * ceil_div(kc, piece_columns(lanes))
        pieces = real * halo.phases_w * across.pieces * columns
        return counts | {
            "halo.call": rows * b.col_blocks * halo.phases_w * together / s.output[1],
            "transposed_piece": pieces / s.output[1],
            "halo.far": far * real * halo.phases_w * across.real * together / s.output[1],
            "filled_vector": each * halo.phases_w * (real * across.filled + padding * whole),
        }
    if copies_vectors(s, halo, lanes):
        what = "split_vector" if halo.phases_w > 1 else "masked_vector"
        return counts | {
            "halo.channel": each * tiles * s.kernel[0] * halo.phases_h,
            what: each * real * b.col_blocks * whole,
            "filled_vector": each * padding * halo.phases_w * halo.pitch / lanes,
        }
    if splits_rows(s, halo):
        copied = (across.all - across.real) * halo.phases_w
        counts["halo.call"] = each * rows * b.col_blocks
        counts["filled_vector"] = each * padding * halo.phases_w * whole
        if s.in_strides[4] == 1:
            pieces = across.pieces * ceil_div(halo.phases_w, piece_columns(lanes))
            counts["transposed_piece"] = each * real * pieces
        else:
            copied = across.all * halo.phases_w
            if far and s.in_strides[4] * VECTOR_BYTES >= CACHE_LINE * lanes:
                counts["far_element"] = each * real * halo.phases_w * across.real
        return counts | {"copied_element": each * real * copied}
    calls = s.kernel[0] * phases * tiles + padding * halo.phases_w
    counts["halo.call"] = each * calls
    counts["filled_vector"] = each * halo.phases_w * (real * across.filled + padding * whole)
    step = s.stride[2] * s.in_strides[4]
    what = {1: "copied_vector", 2: "even_vector"}.get(step, "copied_element")
    many = across.vectors if step <= 2 else across.real
    # Where one phase is all that is read, lines are those of its elements.
    apart = step if halo.phases_w == 1 else s.in_strides[4]
    if far and apart * VECTOR_BYTES >= CACHE_LINE * lanes:
        counts["far_element"] = each * real * halo.phases_w * many
    return counts | {what: each * real * halo.phases_w * many}
