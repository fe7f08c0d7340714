"""How a block of a convolution brings its tiles: weights, and patches of the input.

Weights are taken 128 bits at a time along a row, or element by element.
"""

from typing import Any, NamedTuple

from numbaconv.cuda.device import device
from numbaconv.cuda.intrinsics import int32, int64, move_on
from numbaconv.cuda.kind import Kind
from numbaconv.cuda.patch_tiles import make_bring_patches, make_stage_patches
from numbaconv.cuda.placement import make_place, make_put, make_write_vector
from numbaconv.cuda.problem import PITCH


class Loader(NamedTuple):
    """How a kernel gets its tiles.

    Attributes
    ----------
    begin : device function
        (x, w, job, header, s, group, m0, n0, thread) -> what the others need of a block's place.
    look : device function
        (source, k, end) -> what the tables say of a thread's share of the step from `k` on along K;
        the block has nothing to sum from `end` on.
    bring : device function
        (into_a, into_b, source, found, k, thread): that share, into registers; or its copies to
        shared memory are begun, from addresses of the thread's first element in both tiles on.
    place : device function
        (thread) -> elements from the beginning of each tile in shared memory to the thread's first,
        [m][k] and [n][k] for tensor cores, else [k][m] and [k][n].
    stage : device function
        (a_to, b_to, fetched_a, fetched_b, thread): from registers to addresses as above.
    a_fetched, b_fetched : int
        Words that a thread brings of either.
    """

    begin: Any
    look: Any
    bring: Any
    place: Any
    stage: Any
    a_fetched: int
    b_fetched: int


def make_loader(kind: Kind) -> Loader:
    """Return the loader of a convolution: weights, and patches of the input."""
    words = kind.words
    begin_weights, bring_weights = make_bring_weights(kind)
    begin_patches, look_up, bring_patches = make_bring_patches(kind)
    place_weights, stage_weights = make_stage_weights(kind)
    place_patches, stage_patches = make_stage_patches(kind)

    @device
    def begin(x, w, job, header, s, group, m0, n0, thread):
        pitch = header[PITCH]
        weights = begin_weights(w, group * s.c_out + m0, s.c_out - m0, pitch, thread)
        return weights, begin_patches(x, job, s, group, n0, thread), s

    @device
    def look(source, k, end):
        _, patches, _ = source
        return look_up(patches, k)

    @device
    def bring(into_a, into_b, source, found, k, thread):
        weights, patches, s = source
        bring_weights(into_a, weights, k, thread)
        bring_patches(into_b, patches, s, found)

    @device
    def place(thread):
        return place_weights(thread), place_patches(thread)

    @device
    def stage(a_to, b_to, fetched_a, fetched_b, thread):
        stage_weights(a_to, fetched_a, thread)
        stage_patches(b_to, fetched_b)

    a_fetched, b_fetched = kind.weight_rounds * kind.unit, kind.patch_rounds * words
    return Loader(begin, look, bring, place, stage, a_fetched, b_fetched)


def make_bring_weights(kind: Kind) -> tuple[Any, Any]:
    """Return where a thread's share of a tile of the weights begins, and what brings it."""
    bm, threads, unit = kind.tile.bm, kind.tile.threads, kind.unit
    units = kind.depth // unit
    rounds, together = kind.weight_rounds, threads // units
    count = kind.words if unit > 1 else 1
    apart_there = together * (kind.tile.pitches(kind.words)[0] if kind.tile.tensor else 1)
    stored, put = kind.stored, make_put(kind, count)
    # Registers are written by those threads alone that have a row in the tile.
    all_bring = rounds * together == bm or not kind.asynchronous

    @device
    def begin(w, first, rows, pitch, thread):
        """Take rows first.. of the weights, of which there are `rows`."""
        row, k = thread // units, thread % units * unit
        at = move_on(w, int64(int32((first + row) * pitch + k)), stored)
        rows = int32(min(rows, bm) - row)
        return at, rows, int32(pitch - k) if rows > 0 else int32(0), int32(together * pitch)

    @device
    def bring(into, weights, k0, thread):
        """Bring a step from element k0 of the rows on."""
        at, rows, end, apart = weights
        for i in range(rounds):
            if all_bring or thread // units + i * together < bm:
                inside = k0 < end and (i == 0 or i * together < rows)
                put(into, i * count, i * apart_there, at, int32(k0 + i * apart), inside)

    return begin, bring


def make_stage_weights(kind: Kind) -> tuple[Any, Any]:
    """Return where a thread's share of the weights lies, and what writes it."""
    tile, shared = kind.tile, kind.shared
    bm, threads, tensor = tile.bm, tile.threads, tile.tensor
    units = kind.depth // kind.unit
    words = tile.bk // units
    rounds, together = kind.weight_rounds, threads // units
    pitch = tile.pitches(kind.words)[0]
    write_vector, place_of = make_write_vector(kind, pitch), make_place(kind, 0)
    all_write = rounds * together == bm
    apart = together * (pitch if tensor else 1)

    @device
    def place(thread):
        return place_of(thread // units, thread % units * words)

    @device
    def stage(to, fetched, thread):
        for i in range(rounds):
            if all_write or thread // units + i * together < bm:
                write_vector(move_on(to, i * apart, shared), fetched, i)

    return place, stage
