"""The implicit matrix product: weights times a patch matrix that exists only tile by tile.

Of one group, M = C_out, N = images x output pixels, K = C_in x taps. Each block of threads computes
BM x BN of the outputs, in steps of BK along K (`gemm_pipeline`).

`make_kernel` compiles all sizes and options into the code, since a register array must be indexed
by constants only.
"""

from typing import Any

from numba import cuda

from numbaconv.cuda.device import (
    device,
    image_pixels,
    make_finish,
    output_offset,
    read_shape,
    same,
)
from numbaconv.cuda.gemm_pipeline import make_accumulate
from numbaconv.cuda.gemm_tiles import make_loader
from numbaconv.cuda.gradient_tiles import make_gradient_loader
from numbaconv.cuda.intrinsics import (
    SHARED_ALIGNMENT,
    bits_of_float,
    flip,
    float_of_bits,
    int32,
    int64,
    load_header,
    make_load_matrix,
    make_multiply,
    make_row,
    make_warp_multiply,
    move_on,
    quotient,
    read_thread,
    store,
)
from numbaconv.cuda.kernels import Source
from numbaconv.cuda.kind import Kind
from numbaconv.cuda.placement import turned_place
from numbaconv.cuda.problem import DEPTH_END, SHAPE, SPLIT_TILES, SPLITS
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


def make_slices(kind: Kind) -> Any:
    """Return the function that lays out a slice of the block's sums, its rows, and its place.

    Slice i has the i-th row of every thread (or the i-th eight rows of every warp); row r of it
    is row `first(i) + r // run * gap + r % run` of the block's tile.
    """
    tile, words = kind.tile, kind.words
    TM, TN = tile.m, tile.n
    across, down = tile.bn // TN, tile.bm // TM
    pitch = tile.bn + words
    row_of = make_row(TM, TN)

    @device
    def lay_out(Cs, sums, i, thread):
        tx, ty = thread % across, thread // across
        values = row_of(sums, i)
        for j in range(TN):
            column = (j // words * across + tx) * words + j % words
            Cs[ty * pitch + column] = values[j]

    @device
    def tile_row(i, r):
        return (i // words * down + r) * words + i % words

    return lay_out, tile_row, same, TM, down


def make_tensor_slices(kind: Kind) -> Any:
    """Do what `make_slices` does for the fragments of a warp."""
    tile, words = kind.tile, kind.words
    WM, WN = tile.m, tile.n
    across, down = tile.bn // WN, tile.bm // WM
    pitch = tile.bn + words
    row_of = make_row(WM // 16, WN // 8 * 4)

    @device
    def lay_out(Cs, sums, i, thread):
        lane, warp = thread % WARP, thread // WARP
        at = (warp // across * 8 + lane // 4) * pitch + warp % across * WN + lane % 4 * 2
        upper, lower = i % 2 == 0, i // 2
        values = row_of(sums, lower)
        for j in range(WN // 8):
            for e in range(2):
                total = values[j * 4 + e] if upper else values[j * 4 + 2 + e]
                Cs[at + j * 8 + e] = bits_of_float(total)

    @device
    def tile_row(i, r):
        return r // 8 * WM + i * 8 + r % 8

    return lay_out, tile_row, float_of_bits, WM // 8, down * 8


def make_store(kind: Kind) -> Any:
    """Return the function that stores a block's sums, through shared memory.

    The threads then store whole rows of pixels, each a column of its own, whose place in the
    output it works out once; and the activation is compiled once instead of for every register.
    """
    bn, step = kind.tile.bn, kind.tile.threads // kind.tile.bn
    pitch = bn + kind.words
    make = make_tensor_slices if kind.tile.tensor else make_slices
    lay_out, tile_row, value_of, slices, rows = make(kind)
    finish = make_finish(kind.dtype, kind.partial)

    @device
    def store_sums(sums, Cs, y, bias, header, s, place, thread):
        group, m0, n0, part = place
        column = thread % bn
        inside = n0 + column < s.n * image_pixels(s)
        start = part + (output_offset(n0 + column, s) if inside else int64(0))
        for i in range(slices):
            lay_out(Cs, sums, i, thread)
            cuda.syncthreads()  # the slice is there
            for r in range(thread // bn, rows, step):
                m = m0 + tile_row(i, r)
                if inside and m < s.c_out:
                    channel = group * s.c_out + m
                    value = finish(value_of(Cs[r * pitch + column]), bias, channel, header)
                    store(y, start + channel * s.out_strides[1], value)
            cuda.syncthreads()  # the slice is stored

    return store_sums


def make_place(kind: Kind) -> Any:
    """Return the function that says which tile a block computes: (group, m0, n0, part)."""
    bm, bn = kind.tile.bm, kind.tile.bn

    @device
    def find_place(header, s):
        m_tiles = (s.c_out + bm - 1) // bm
        n_tiles = (s.n * image_pixels(s) + bn - 1) // bn
        columns = quotient(cuda.blockIdx.x, m_tiles)
        m0 = (cuda.blockIdx.x - columns * m_tiles) * bm
        rest = quotient(columns, n_tiles)
        n0 = (columns - rest * n_tiles) * bn
        group = quotient(rest, header[SPLITS])
        return group, m0, n0, rest - group * header[SPLITS]

    return find_place


def make_kernel(kind: Kind) -> Source:
    """Return the kernel of a kind, to be called with addresses: (x, w, bias, y, job).

    Notes
    -----
    The blocks are in one dimension, with the tiles along M innermost: they read the same patches.
    """
    tile, depth, shared = kind.tile, kind.depth, kind.shared
    size = kind.stages * sum(tile.sizes(kind.words))
    loader = (make_gradient_loader if kind.of_weights else make_loader)(kind)
    begin = loader.begin
    multiply = (make_tensor_multiply if tile.tensor else make_thread_multiply)(kind)
    accumulate = make_accumulate(kind, loader, *multiply)
    find_place, store_sums = make_place(kind), make_store(kind)

    def conv_gemm(x, w, bias, y, job):
        header = load_header(job)
        s = read_shape(header, SHAPE)
        tiles = cuda.shared.array(size, shared, SHARED_ALIGNMENT)
        thread = read_thread()
        group, m0, n0, part = find_place(header, s)
        # In 32 bits, which Numba has to be told each time: registers are what there is least of.
        k = int32(part * header[SPLIT_TILES] * depth)
        end = int32(min(k + header[SPLIT_TILES] * depth, header[DEPTH_END]))
        source = begin(x, w, job, header, s, group, m0, n0, thread)
        sums = accumulate(tiles, source, k, end, thread)

        # Read again and worked out again: kept from above they would need registers all the while.
        header = load_header(job)
        s, thread = read_shape(header, SHAPE), read_thread()
        group, m0, n0, part = find_place(header, s)
        place = (group, m0, n0, part * s.n * s.out_strides[0])
        store_sums(sums, tiles, y, bias, header, s, place, thread)

    return Source(conv_gemm, tile.threads, kind.blocks)
