"""How a block multiplies two tiles that are in shared memory: threads alone, or warps together."""

from typing import Any, NamedTuple

from numbaconv.cuda.device import device
from numbaconv.cuda.intrinsics import (
    fence_proxy,
    flip,
    float_of_bits,
    int32,
    make_begin_products,
    make_describe,
    make_finish_products,
    make_load_matrix,
    make_multiply,
    make_read,
    make_warp_multiply,
    move_on,
    store_wide,
    to_tf32,
)
from numbaconv.cuda.kind import Kind
from numbaconv.cuda.placement import make_spot, turned_place
from numbaconv.cuda.tiles import WARP, WARPGROUP

UNROLLED = 2  # rows of the tiles, where the next ones come to registers


class Multiplier(NamedTuple):
    """How a block multiplies two tiles that are in shared memory.

    Attributes
    ----------
    place : device function
        (thread) -> elements from the beginning of each tile to what the thread reads first.
    finish : device function
        (sums, a_at, b_at) -> sums: add the product of two tiles, from those addresses on.
    settle : device function, optional
        (b_to): what a thread does with its own share of the patches, from that address on, when
        that is there and before the block meets.
    begin : device function, optional
        (sums, a_at, b_at) -> sums: begin to add the product, which `finish` then waits for. Between
        them nobody may touch the sums, or the tiles.
    """

    place: Any
    finish: Any
    settle: Any = None
    begin: Any = None


def make_multiplier(kind: Kind) -> Multiplier:
    """Return how the blocks of a kind multiply."""
    if kind.tile.together > 1:
        return make_group_multiplier(kind)
    make = make_tensor_multiply if kind.tile.tensor else make_thread_multiply
    return Multiplier(*make(kind))


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


def make_group_multiplier(kind: Kind) -> Multiplier:
    """Return how warpgroups multiply two tiles, which tensor cores read by themselves (`wgmma`).

    A warpgroup takes 64 rows of the weights, or several times as many, by N of the patches. While
    they are multiplied, its threads begin the copies of a later step.
    """
    tile = kind.tile
    across, pitch = tile.bn // tile.n, tile.pitches(kind.words)[0]
    describe, add_products = make_describe(tile.bk), make_begin_products(kind)
    wait_for_products = make_finish_products(kind)

    @device
    def place(thread):
        group = thread // (WARPGROUP * WARP)
        row, column = group // across, group % across
        return int32(row * WARPGROUP * tile.m * pitch), int32(column * tile.n * pitch)

    @device
    def begin(sums, a_at, b_at):
        return add_products(sums, describe(a_at), describe(b_at))

    @device
    def finish(sums, a_at, b_at):
        return wait_for_products(sums)

    return Multiplier(place, finish, make_settle(kind), begin)


def make_settle(kind: Kind) -> Any:
    """Return the function that lets tensor cores read a thread's share, which it rounds if need be.

    Weights come as tf32; patches lie as they were copied.
    """
    rounds, shared = (kind.patch_rounds if kind.rounded else 0), kind.shared
    spot, read = make_spot(kind), make_read(1, 0, shared)

    @device
    def settle(b_to):
        for i in range(rounds):
            at = spot(b_to, i)
            a, b, c, d = read(at, int32(0))
            vector = (
                to_tf32(float_of_bits(a)),
                to_tf32(float_of_bits(b)),
                to_tf32(float_of_bits(c)),
                to_tf32(float_of_bits(d)),
            )
            store_wide(at, int32(0), vector)
        fence_proxy()

    return settle
