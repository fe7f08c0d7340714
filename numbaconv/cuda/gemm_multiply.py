"""How a block multiplies two tiles that are in shared memory: threads alone, or warps together."""

from typing import Any

from numbaconv.cuda.device import device
from numbaconv.cuda.intrinsics import (
    flip,
    int32,
    make_load_matrix,
    make_multiply,
    make_warp_multiply,
    move_on,
)
from numbaconv.cuda.kind import Kind
from numbaconv.cuda.placement import turned_place
from numbaconv.cuda.tiles import WARP

UNROLLED = 2  # rows of the tiles, where the next ones come to registers


def rows_unrolled(kind: Kind) -> int:
    """Return how many rows of the tiles a thread multiplies between two branches."""
    if not kind.asynchronous:
        return UNROLLED
    return kind.tile.bk // (2 if kind.of_weights else 1)


def make_thread_multiply(kind: Kind) -> tuple[Any, Any]:
    """Return where a thread begins to read two tiles, and what adds their product to its sums.

    These are device functions: ``place(thread)`` -> elements from the beginning of each tile, and
    ``multiply(sums, a_at, b_at)``, from those addresses on, with TM x TN sums.

    The rows and columns of a thread come in vectors that lie a whole row of threads apart, so
    that the lanes of a warp read neighbouring vectors. All rows are unrolled where copies bring
    the next tiles (half of them of a weight gradient, which has more addresses). Else two are: with
    four the registers did not suffice, and with all the assembler moved the loads of the next step
    behind the multiplications that are to hide them. It moves nothing across a loop.
    """
    tile, words, shared = kind.tile, kind.words, kind.shared
    unrolled = rows_unrolled(kind)
    across, rounds = tile.bn // tile.n, tile.bk // unrolled
    a_step, b_step = (unrolled * pitch for pitch in tile.pitches(words))
    add_product = make_multiply(tile, words, unrolled)

    @device
    def place(thread):
        return int32(thread // across * words), int32(thread % across * words)

    @device
    def multiply(sums, a_at, b_at):
        left = int32(rounds)
        while left > 0:  # which takes two instructions where Numba's `range` takes six
            sums = add_product(sums, a_at, b_at)
            a_at, b_at = move_on(a_at, a_step, shared), move_on(b_at, b_step, shared)
            left = int32(left - 1)
        return sums

    return place, multiply


def make_tensor_multiply(kind: Kind) -> tuple[Any, Any]:
    """Return where a warp begins to read two tiles, and what adds their product to its sums.

    A warp takes 8 words of K at a time. The lanes name the rows of the blocks that it reads: of
    the weights four of 8 x 4 words to a tile of 16 rows, of the patches four to two tiles of 8.
    """
    tile, shared = kind.tile, kind.shared
    bk, WM, WN = tile.bk, tile.m, tile.n
    across, vectors = tile.bn // WN, tile.bk // 4
    pitch = tile.pitches(kind.words)[0]
    read_weights = make_load_matrix(WM // 16, 16 * pitch)
    read_patches = make_load_matrix(WN // 16, 16 * pitch)
    add_product = make_warp_multiply(WM // 16, WN // 8, kind)

    @device
    def place(thread):
        lane, warp = thread % WARP, thread // WARP
        a_row = warp // across * WM + lane % 16
        b_row = warp % across * WN + lane % 8 + lane // 16 * 8
        a_at = a_row * pitch + turned_place(a_row, lane // 16 * 4, vectors)
        return int32(a_at), int32(b_row * pitch + turned_place(b_row, lane // 8 % 2 * 4, vectors))

    @device
    def multiply(sums, a_at, b_at):
        for i in range(0, bk, 8):
            a, b = flip(a_at, int32(i), shared), flip(b_at, int32(i), shared)
            sums = add_product(sums, read_weights(a), read_patches(b))
        return sums

    return place, multiply
