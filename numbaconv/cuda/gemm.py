"""The implicit matrix product: weights times a patch matrix that exists only tile by tile.

Of one group, M = C_out, N = images x output pixels, K = C_in x taps. Each block of threads computes
BM x BN of the outputs, in steps of BK along K. Their tiles come to shared memory while those of the
steps before are multiplied (`gemm_multiply`). Through registers, in two buffers:

    for each step of BK along K:
        fetch the next BM x BK weights and BK x BN patch elements into registers
        multiply the tiles that are in shared memory
        write what was fetched into the other buffer of shared memory, and meet

so that the loads of a step are on their way while the step before is computed, and one barrier a
step is enough: nobody writes the buffer that others still read.

Or without registers (cp.async, from capability 8.0 on), in three or four buffers:

    for each step of BK along K:
        wait for the copies of this step, which were begun two or three steps ago, and meet
        begin to multiply, if warpgroups do it
        begin the copies of the step that goes to the buffer that was multiplied last
        multiply, or wait until it is done

What comes is the only difference between a convolution (`gemm_tiles`) and the gradient of its
weights (`gradient_tiles`).

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
from numbaconv.cuda.gemm_multiply import Multiplier, make_multiplier
from numbaconv.cuda.gemm_tiles import Loader, make_loader
from numbaconv.cuda.gradient_tiles import make_gradient_loader
from numbaconv.cuda.intrinsics import (
    SIMULATED,
    bits_of_float,
    commit,
    float_of_bits,
    int32,
    int64,
    load_header,
    make_row,
    make_wait,
    make_zeros,
    move_on,
    quotient,
    read_thread,
    shared_address,
    store,
)
from numbaconv.cuda.kernels import Source
from numbaconv.cuda.kind import Kind
from numbaconv.cuda.problem import DEPTH_END, SHAPE, SPLIT_TILES, SPLITS
from numbaconv.cuda.tiles import WARP, WARPGROUP


def make_accumulate(kind: Kind, loader: Loader, multiplier: Multiplier) -> Any:
    """Return the function ``(tiles, source, k, end, thread)`` that returns a thread's sums.

    They are those from `k` to `end` along K, and all threads have met behind the last use of the
    tiles.
    """
    tile = kind.tile
    make = _make_copying if kind.asynchronous else _make_fetching
    zeros = make_zeros(tile.m * tile.n // (WARP if tile.tensor else 1), kind.sum)
    return make(kind, loader, multiplier, zeros)


def make_addresses(kind: Kind, loader: Loader, place_reads: Any) -> Any:
    """Return the function that says where a thread writes and reads both tiles: four addresses.

    Worked out anew for each access they would be a third of the instructions beside the
    multiplications.
    """
    a_size, shared, place_writes = kind.tile.sizes(kind.words)[0], kind.shared, loader.place

    @device
    def addresses(tiles, thread):
        As = shared_address(tiles)
        Bs = move_on(As, a_size, shared)
        a_to, b_to = place_writes(thread)
        a_at, b_at = place_reads(thread)
        to = move_on(As, a_to, shared), move_on(Bs, b_to, shared)
        return to, (move_on(As, a_at, shared), move_on(Bs, b_at, shared))

    return addresses


def _make_fetching(kind: Kind, loader: Loader, multiplier: Multiplier, zeros: Any) -> Any:
    """Return the function of two buffers, which registers fill."""
    depth, shared, stage_size = kind.depth, kind.shared, sum(kind.tile.sizes(kind.words))
    addresses = make_addresses(kind, loader, multiplier.place)
    look, bring, stage = loader.look, loader.bring, loader.stage
    a_fetched, b_fetched = loader.a_fetched, loader.b_fetched
    multiply = multiplier.finish

    @device
    def accumulate(tiles, source, k, end, thread):
        next_a = cuda.local.array(a_fetched, shared)
        next_b = cuda.local.array(b_fetched, shared)
        sums = zeros()
        bring(next_a, next_b, source, look(source, k, end), k, thread)
        (a_to, b_to), (a_at, b_at) = addresses(tiles, thread)
        other = int32(stage_size)
        stage(a_to, b_to, next_a, next_b, thread)
        cuda.syncthreads()  # the first tiles are there
        while k < end:
            k = int32(k + depth)
            more = k < end
            if more:
                bring(next_a, next_b, source, look(source, k, end), k, thread)
            sums = multiply(sums, a_at, b_at)
            if not more:  # a way out, which the assembler moves no store across
                break
            a_at, b_at = move_on(a_at, other, shared), move_on(b_at, other, shared)
            a_to, b_to = move_on(a_to, other, shared), move_on(b_to, other, shared)
            other = int32(-other)
            stage(a_to, b_to, next_a, next_b, thread)
            cuda.syncthreads()  # these tiles are read, the next ones are there
        cuda.syncthreads()  # the last tiles are read
        return sums

    return accumulate


def _make_copying(kind: Kind, loader: Loader, multiplier: Multiplier, zeros: Any) -> Any:
    """Return the function of several buffers, which copies fill that run by themselves."""
    depth, shared, stage_size = kind.depth, kind.shared, sum(kind.tile.sizes(kind.words))
    addresses = make_addresses(kind, loader, multiplier.place)
    look, bring = loader.look, loader.bring
    before = kind.stages - 1  # steps by which the copies are ahead
    last = before * stage_size
    wait = make_wait(before - 1)
    settle, begin, finish = multiplier.settle, multiplier.begin, multiplier.finish
    overlapped = begin is not None  # a constant, which the compiler decides by

    @device
    def accumulate(tiles, source, k, end, thread):
        sums = zeros()
        (a_to, b_to), (a_at, b_at) = addresses(tiles, thread)
        for i in range(before):
            ahead, to = int32(k + i * depth), int32(i * stage_size)
            if ahead < end:
                a, b = move_on(a_to, to, shared), move_on(b_to, to, shared)
                bring(a, b, source, look(source, ahead, end), ahead, thread)
            commit()
        at, to = int32(0), int32(last)
        while k < end:
            ahead = int32(k + before * depth)
            found = look(source, ahead, end)
            wait()
            if overlapped:
                settle(move_on(b_to, at, shared))
            cuda.syncthreads()  # these tiles are there, those of the step before are read
            if overlapped:
                sums = begin(sums, move_on(a_at, at, shared), move_on(b_at, at, shared))
            if ahead < end:
                a, b = move_on(a_to, to, shared), move_on(b_to, to, shared)
                bring(a, b, source, found, ahead, thread)
            commit()  # an empty group too: they are counted
            sums = finish(sums, move_on(a_at, at, shared), move_on(b_at, at, shared))
            to = at
            at = int32(at + stage_size) if at < last else int32(0)
            k = int32(k + depth)
        cuda.syncthreads()  # the last tiles are read
        return sums

    return accumulate


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


def make_lay_row(columns: int) -> Any:
    """Return the function that lays out a lane's sums of one row of its fragments.

    A fragment has two rows of it, `half` 0 and 1, of two neighbouring columns each.
    """

    @device
    def lay_row(Cs, at, values, half):
        for j in range(columns // 8):
            for e in range(2):
                total = values[j * 4 + 2 + e] if half else values[j * 4 + e]
                Cs[at + j * 8 + e] = bits_of_float(total)

    return lay_row


def make_tensor_slices(kind: Kind) -> Any:
    """Do what `make_slices` does for the fragments of a warp."""
    tile, words = kind.tile, kind.words
    WM, WN = tile.m, tile.n
    across, down = tile.bn // WN, tile.bm // WM
    pitch = tile.bn + words
    row_of, lay_row = make_row(WM // 16, WN // 8 * 4), make_lay_row(WN)

    @device
    def lay_out(Cs, sums, i, thread):
        lane, warp = thread % WARP, thread // WARP
        at = (warp // across * 8 + lane // 4) * pitch + warp % across * WN + lane % 4 * 2
        lay_row(Cs, at, row_of(sums, i // 2), i % 2)

    @device
    def tile_row(i, r):
        return r // 8 * WM + i * 8 + r % 8

    return lay_out, tile_row, float_of_bits, WM // 8, down * 8


def make_group_slices(kind: Kind) -> Any:
    """Do what `make_slices` does for warpgroups.

    Slice i has eight rows of two warps of those that lie side by side: more of them have no room.
    """
    tile, words = kind.tile, kind.words
    WM, WN = tile.m, tile.n
    across, blocks, pitch = tile.bn // WN, WM // 16, tile.bn + words
    row_of, lay_row = make_row(blocks, WN // 8 * 4), make_lay_row(WN)

    @device
    def lay_out(Cs, sums, i, thread):
        lane, warp = thread % WARP, thread // WARP
        group = warp // WARPGROUP
        if group // across == i // (4 * blocks) and warp % WARPGROUP // 2 == i // 2 % 2:
            at = (warp % 2 * 8 + lane // 4) * pitch + group % across * WN + lane % 4 * 2
            lay_row(Cs, at, row_of(sums, i // 4 % blocks), i % 2)

    @device
    def tile_row(i, r):
        return i // 2 * 32 + r // 8 * 16 + i % 2 * 8 + r % 8

    return lay_out, tile_row, float_of_bits, tile.bm // 16, 16


def find_slices(kind: Kind) -> Any:
    """Return which of the three functions above lays out the sums of a kind."""
    if kind.tile.together > 1:
        return make_group_slices
    return make_tensor_slices if kind.tile.tensor else make_slices


def make_store(kind: Kind) -> Any:
    """Return the function that stores a block's sums, through shared memory.

    The threads then store whole rows of pixels, each a column of its own, whose place in the
    output it works out once; and the activation is compiled once instead of for every register.
    """
    bn, step = kind.tile.bn, kind.tile.threads // kind.tile.bn
    pitch = bn + kind.words
    # The compiler does not know it of a thread's number, and the largest tile has no register left.
    one_row = kind.tile.together > 1 and step == 1
    lay_out, tile_row, value_of, slices, rows = find_slices(kind)(kind)
    finish = make_finish(kind.dtype, kind.partial, kind.of_weights, kind.tile.together > 1)

    @device
    def store_sums(sums, Cs, y, bias, header, s, place, thread):
        group, m0, n0, part = place
        column = thread if one_row else thread % bn
        inside = n0 + column < s.n * image_pixels(s)
        start = part + (output_offset(n0 + column, s) if inside else int64(0))
        for i in range(slices):
            lay_out(Cs, sums, i, thread)
            cuda.syncthreads()  # the slice is there
            r = int32(thread // bn)
            while inside and r < rows:
                m = m0 + tile_row(i, r)
                if m >= s.c_out:  # which the rows below are too
                    break
                channel = group * s.c_out + m
                value = finish(value_of(Cs[r * pitch + column]), bias, channel, header)
                store(y, start + channel * s.out_strides[1], value)
                r = int32(r + step)
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
    accumulate = make_accumulate(kind, loader, make_multiplier(kind))
    alignment = None if SIMULATED else kind.alignment  # the simulator takes none, and needs none
    find_place, store_sums = make_place(kind), make_store(kind)

    def conv_gemm(x, w, bias, y, job):
        header = load_header(job)
        s = read_shape(header, SHAPE)
        tiles = cuda.shared.array(size, shared, alignment)
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

    features = "a" if tile.together > 1 else ""
    return Source(conv_gemm, tile.threads, kind.blocks, features)
