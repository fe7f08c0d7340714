"""What the blocks of an array take of their neighbours.

A chunk gives away the strips that its neighbours read, and a block is put together from its chunk
and from such strips, in one copy. What reads its own chunk alone is not copied.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from numbaconv.runtime import result_memory

Offset = tuple[int, ...]  # of a chunk from another, in chunks: -1, 0 or 1 along each axis


class Part(NamedTuple):
    """A range of what a block reads along an axis, which lies in one chunk.

    Attributes
    ----------
    side : int
        The chunk: the one before (-1), its own (0) or the one after (1).
    place : slice
        Where it lies there, or in a strip of it.
    target : slice
        Where it lies in what the block reads.
    """

    side: int
    place: slice
    target: slice


def parts_along(start: int, stop: int, chunk: int) -> list[Part]:
    """Return the parts of a range; it is counted from the begin of the block's own chunk.

    Parts of the chunk before are counted from its end, so that they lie in its last strip as they
    lie in the chunk.
    """
    before, after = min(stop, 0), max(start, chunk)
    ranges = (
        (-1, start, before, slice(start, before or None)),
        (0, max(start, 0), min(stop, chunk), slice(max(start, 0), min(stop, chunk))),
        (1, after, stop, slice(after - chunk, stop - chunk)),
    )
    return [Part(side, place, slice(a - start, b - start)) for side, a, b, place in ranges if a < b]


def neighbours(parts: Sequence[Sequence[Part]]) -> list[Offset]:
    """Return the offsets of the other chunks that a block reads."""
    offsets = product(*([part.side for part in along] for along in parts))
    return [offset for offset in offsets if any(offset)]


def strips_of(chunk: Any, depths: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Any]:
    """Return the strips of a chunk that its neighbours read, by axis and by the reader's side.

    `depths` is how far blocks read into the chunk before theirs, and into the one after.
    """
    strips = {}
    for axis, (before, after) in enumerate(depths):
        ahead = (slice(None),) * axis
        if after:
            strips[axis, 1] = chunk[(*ahead, slice(0, after))].copy()
        if before:
            strips[axis, -1] = chunk[(*ahead, slice(-before, None))].copy()
    return strips


def _empty(shape: tuple[int, ...], like: Any) -> Any:
    """Return a new array: of NumPy's in memory that is used again."""
    if type(like) is not np.ndarray:
        return np.empty_like(like, shape=shape)
    return result_memory.empty(math.prod(shape), like.dtype).reshape(shape)


def assembled(
    chunk: Any,
    strips: Mapping[Offset, Mapping[tuple[int, int], Any]],
    parts: Sequence[Sequence[Part]],
) -> Any:
    """Return what a block reads, put together from its chunk and strips of its neighbours."""
    if not strips:
        return chunk[tuple(along[0].place if along else slice(0) for along in parts)]
    shape = tuple(along[-1].target.stop for along in parts)
    block = _empty(shape, chunk)
    for each in product(*parts):
        offset = tuple(part.side for part in each)
        source = chunk
        if any(offset):
            axis = next(axis for axis, side in enumerate(offset) if side)
            source = strips[offset][axis, offset[axis]]
        place, target = tuple(part.place for part in each), tuple(part.target for part in each)
        block[target] = source[place]
    return block
