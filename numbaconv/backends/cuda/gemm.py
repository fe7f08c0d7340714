"""The implicit matrix product: weights times a patch matrix that exists only tile by tile.

Of one group, M = C_out, N = images x output pixels, K = C_in x taps. Each block of threads computes
BM x BN of the outputs:

    for each step of BK along K:
        fetch the next BM x BK weights and BK x BN patch elements into registers
        multiply the tiles that are in shared memory
        write what was fetched into the other buffer of shared memory, and meet

so that the loads of a step are on their way while the step before is computed, and one barrier a
step is enough: nobody writes the buffer that others still read. A thread always fetches the patch
elements of one pixel, whose place in the input it works out once; what a row of the patch matrix
adds to that comes from a table (`problem.patch_rows`).

`make_kernel` compiles all sizes and options into the code, since a register array must be indexed
by constants only.
"""

from typing import Any, NamedTuple

from numba import cuda

from numbaconv.backends.cuda.device import (
    compile_kernel,
    corner,
    device,
    image_pixels,
    make_finish,
    output_offset,
    padded_index,
    read_shape,
)
from numbaconv.backends.cuda.intrinsics import (
    SHARED_ALIGNMENT,
    bits_of_float,
    float_of_bits,
    float32,
    float64,
    int32,
    int64,
    load,
    load_header,
    load_wide,
    make_load_matrix,
    make_outer,
    make_read,
    make_row,
    make_warp_multiply,
    make_zeros,
    quotient,
    store,
    to_tf32,
    uint16,
    uint32,
    within,
    write,
)
from numbaconv.backends.cuda.problem import (
    ENTRY,
    FAR,
    HEADER,
    PITCH,
    SPLIT_TILES,
    SPLITS,
)
from numbaconv.backends.cuda.tiles import WARP, Tile


class Kind(NamedTuple):
    """What a kernel is compiled for.

    Attributes
    ----------
    tile : Tile
        Block tile.
    dtype : str
        Of the elements: "float32", "float64", "float16", "int32", "int64"; "tf32" is float32 on
        tensor cores.
    wide : bool
        Whether neighbouring channels are read together, 128 bits at a time.
    mapped : bool
        Whether padding reads elements of the input.
    partial : bool
        Whether a block stores only its part of the sums, for a second pass.
    narrow : bool
        Whether the tensor cores take half as many float16 at once (before capability 8.0).
    """

    tile: Tile
    dtype: str
    wide: bool = False
    mapped: bool = False
    partial: bool = False
    narrow: bool = False

    @property
    def stored(self) -> Any:
        """Numba type of an element in global memory; float16 counts as its bits."""
        return {"tf32": float32, "float16": uint16}.get(self.dtype) or _TYPES[self.dtype]

    @property
    def shared(self) -> Any:
        """Numba type of an element of the tiles in shared memory."""
        return uint32 if self.tile.tensor else self.stored

    @property
    def lanes(self) -> int:
        """Elements that are loaded at once."""
        return 128 // self.stored.bitwidth

    @property
    def words(self) -> int:
        """What they are in shared memory."""
        return 128 // self.shared.bitwidth

    @property
    def loaded(self) -> Any:
        """Numba type in which 128 bits are loaded."""
        return uint32 if self.dtype == "float16" else self.stored

    @property
    def sum(self) -> Any:
        """Numba type of the sums."""
        return float32 if self.tile.tensor else self.stored

    @property
    def blocks(self) -> int:
        """Blocks for a multiprocessor to hold: two, or four small ones, with 128 registers."""
        fits = self.dtype in ("float32", "int32") and not self.mapped
        return 512 // self.tile.threads if fits else 1

    @property
    def weight_rounds(self) -> int:
        """Vectors of the weights that a thread fetches for a step."""
        return -(-self.tile.bm * self.tile.bk // self.words // self.tile.threads)

    @property
    def patch_rounds(self) -> int:
        """Vectors of the patch matrix that a thread fetches for a step."""
        return self.tile.bk // self.words * self.tile.bn // self.tile.threads

    @property
    def depth(self) -> int:
        """Elements along K of one step."""
        return self.tile.bk * self.lanes // self.words


_TYPES = {"float32": float32, "float64": float64, "int32": int32, "int64": int64}


@device
def same(value):
    """The value itself."""
    return value


def make_fetch_weights(kind: Kind) -> Any:
    """Return the function that fetches a thread's share of a tile of the weights."""
    bm, threads, lanes, words = kind.tile.bm, kind.tile.threads, kind.lanes, kind.words
    vectors = kind.depth // lanes
    rounds = kind.weight_rounds
    loaded, halves = kind.loaded, lanes // words
    convert = to_tf32 if kind.dtype == "tf32" else same

    @device
    def fetch(into, w, first, rows, k0, pitch, thread):
        """Take rows first.. of the weights, of which there are `rows`, from element k0 on."""
        for i in range(rounds):
            v = thread + i * threads
            row, k = v // vectors, k0 + v % vectors * lanes
            if row < rows and row < bm and k < pitch:
                values = load_wide(w, ((first + row) * pitch + k) // halves, loaded)
                for j in range(words):
                    into[i * words + j] = convert(values[j])
            else:
                for j in range(words):
                    into[i * words + j] = 0

    return fetch


def make_stage_weights(kind: Kind) -> Any:
    """Return the function that writes what a thread fetched of the weights to shared memory."""
    tile, words = kind.tile, kind.words
    bm, threads, tensor = tile.bm, tile.threads, tile.tensor
    vectors = tile.bk // words
    rounds = kind.weight_rounds
    pitch = tile.pitches(words)[0]

    @device
    def stage(As, start, fetched, thread):
        """Write to the buffer that starts at `start`: [m][k] for tensor cores, else [k][m]."""
        for i in range(rounds):
            v = thread + i * threads
            row, k = v // vectors, v % vectors * words
            if row < bm:
                if tensor:
                    at = i * words
                    vector = (fetched[at], fetched[at + 1], fetched[at + 2], fetched[at + 3])
                    write(As, start + row * pitch + k, vector)
                else:
                    for j in range(words):
                        As[start + (k + j) * pitch + row] = fetched[i * words + j]

    return stage


def make_pick(kind: Kind) -> Any:
    """Return the function that reads the patch element, or wide vector, of a table entry."""
    stored, loaded, words, mapped = kind.stored, kind.loaded, kind.words, kind.mapped
    halves = kind.lanes // words

    if kind.wide:

        @device
        def take(x, at):
            return load_wide(x, at // halves, loaded)

        @device
        def nothing():
            zero = loaded(0)
            return (zero, zero) if words == 2 else (zero, zero, zero, zero)

    else:

        @device
        def take(x, at):
            return load(x, at, stored)

        @device
        def nothing():
            return stored(0)

    @device
    def pick(x, window, entry, s):
        at, d0, h0, w0 = window
        d, h, w = int32(d0 + entry[1]), int32(h0 + entry[2]), int32(w0 + entry[3])
        at += entry[0]
        if mapped:
            if d < FAR:
                return nothing()
            d = padded_index(d, s.size[0], s.padding_mode)
            h = padded_index(h, s.size[1], s.padding_mode)
            w = padded_index(w, s.size[2], s.padding_mode)
            if d < 0 or h < 0 or w < 0:
                return nothing()
            at += d * s.in_strides[2] + h * s.in_strides[3] + w * s.in_strides[4]
        elif not (within(d, s.size[0]) and within(h, s.size[1]) and within(w, s.size[2])):
            return nothing()
        return take(x, at)

    return pick


@device
def table_entry(job, row):
    """Entry of the table of rows."""
    return load_wide(job, HEADER + row * ENTRY, int32)


def make_fetch_patches(kind: Kind) -> Any:
    """Return the function that fetches a thread's share of a tile of the patch matrix."""
    bn, lanes, words, wide = kind.tile.bn, kind.lanes, kind.words, kind.wide
    step, rounds = kind.tile.threads // bn, kind.patch_rounds
    convert = to_tf32 if kind.dtype == "tf32" else same
    pick = make_pick(kind)

    if kind.dtype == "float16":

        @device
        def word(x, job, window, s, k, j):
            low = pick(x, window, table_entry(job, k + 2 * j), s)
            high = pick(x, window, table_entry(job, k + 2 * j + 1), s)
            return uint32(low) | (uint32(high) << uint32(16))

    else:

        @device
        def word(x, job, window, s, k, j):
            return convert(pick(x, window, table_entry(job, k + j), s))

    if wide:

        @device
        def fetch(into, x, job, window, s, k0, thread):
            """Take the rows from k0 on of the thread's column, a vector of channels at a time."""
            for i in range(rounds):
                k = k0 + (thread // bn + i * step) * lanes
                values = pick(x, window, table_entry(job, k // lanes), s)
                for j in range(words):
                    into[i * words + j] = convert(values[j])

    else:

        @device
        def fetch(into, x, job, window, s, k0, thread):
            """Take the rows from k0 on of the thread's column."""
            for i in range(rounds):
                k = k0 + (thread // bn + i * step) * lanes
                for j in range(words):
                    into[i * words + j] = word(x, job, window, s, k, j)

    return fetch


def make_stage_patches(kind: Kind) -> Any:
    """Return the function that writes what a thread fetched of the patches to shared memory."""
    tile, words = kind.tile, kind.words
    bn, tensor = tile.bn, tile.tensor
    step = tile.threads // bn
    rounds = kind.patch_rounds
    pitch = tile.pitches(words)[1]

    @device
    def stage(Bs, start, fetched, thread):
        """Write to the buffer that starts at `start`: [n][k] for tensor cores, else [k][n]."""
        column = thread % bn
        for i in range(rounds):
            k = (thread // bn + i * step) * words
            if tensor:
                at = i * words
                vector = (fetched[at], fetched[at + 1], fetched[at + 2], fetched[at + 3])
                write(Bs, start + column * pitch + k, vector)
            else:
                for j in range(words):
                    Bs[start + (k + j) * pitch + column] = fetched[i * words + j]

    return stage


def make_multiply(kind: Kind) -> Any:
    """Return the function that adds the product of two tiles to a thread's TM x TN sums.

    The rows and columns of a thread come in vectors that lie a whole row of threads apart, so
    that the lanes of a warp read neighbouring vectors.
    """
    tile, words = kind.tile, kind.words
    bk, TM, TN = tile.bk, tile.m, tile.n
    across, down = tile.bn // TN, tile.bm // TM
    a_pitch, b_pitch = tile.pitches(words)
    read_rows = make_read(TM // words, down * words)
    read_columns = make_read(TN // words, across * words)
    outer = make_outer(TM, TN)

    @device
    def multiply(sums, As, a_start, Bs, b_start, thread):
        a_at = a_start + thread // across * words
        b_at = b_start + thread % across * words
        for k in range(bk):
            regM = read_rows(As, a_at + k * a_pitch)
            regN = read_columns(Bs, b_at + k * b_pitch)
            sums = outer(sums, regM, regN)
        return sums

    return multiply


def make_tensor_multiply(kind: Kind) -> Any:
    """Return the function that adds the product of two tiles to a warp's WM x WN sums.

    A warp takes 8 words of K at a time. The lanes name the rows of the blocks that it reads: of
    the weights four of 8 x 4 words to a tile of 16 rows, of the patches four to two tiles of 8.
    """
    tile = kind.tile
    bk, WM, WN = tile.bk, tile.m, tile.n
    across = tile.bn // WN
    pitch = tile.pitches(kind.words)[0]
    read_weights = make_load_matrix(WM // 16, 16 * pitch)
    read_patches = make_load_matrix(WN // 16, 16 * pitch)
    add_product = make_warp_multiply(WM // 16, WN // 8, kind.dtype, kind.narrow)

    @device
    def multiply(sums, As, a_start, Bs, b_start, thread):
        lane, warp = thread % WARP, thread // WARP
        a_at = a_start + (warp // across * WM + lane % 16) * pitch + lane // 16 * 4
        b_row = warp % across * WN + lane % 8 + lane // 16 * 8
        b_at = b_start + b_row * pitch + lane // 8 % 2 * 4
        for step in range(bk // 8):
            a = read_weights(As, a_at + step * 8)
            b = read_patches(Bs, b_at + step * 8)
            sums = add_product(sums, a, b)
        return sums

    return multiply


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


def make_kernel(kind: Kind) -> Any:
    """Return the kernel of a kind, to be called with addresses: (x, w, bias, y, job).

    Notes
    -----
    The blocks are in one dimension, with the tiles along M innermost: they read the same patches.
    """
    tile, words, depth = kind.tile, kind.words, kind.depth
    bm, bn = tile.bm, tile.bn
    a_size, b_size = tile.sizes(words)
    a_both, b_both = 2 * a_size, 2 * b_size
    a_fetched, b_fetched = kind.weight_rounds * words, kind.patch_rounds * words
    shared = kind.shared
    fetch_weights, fetch_patches = make_fetch_weights(kind), make_fetch_patches(kind)
    stage_weights, stage_patches = make_stage_weights(kind), make_stage_patches(kind)
    multiply = (make_tensor_multiply if tile.tensor else make_multiply)(kind)
    store_sums = make_store(kind)
    zeros = make_zeros(tile.m * tile.n // (WARP if tile.tensor else 1), kind.sum)

    def conv_gemm(x, w, bias, y, job):
        header = load_header(job)
        s = read_shape(header, 0)
        As = cuda.shared.array(a_both, shared, SHARED_ALIGNMENT)
        Bs = cuda.shared.array(b_both, shared, SHARED_ALIGNMENT)
        next_a = cuda.local.array(a_fetched, shared)
        next_b = cuda.local.array(b_fetched, shared)
        sums = zeros()
        thread = cuda.threadIdx.x
        m_tiles = (s.c_out + bm - 1) // bm
        n_tiles = (s.n * image_pixels(s) + bn - 1) // bn
        columns = quotient(cuda.blockIdx.x, m_tiles)
        m0 = (cuda.blockIdx.x - columns * m_tiles) * bm
        rest = quotient(columns, n_tiles)
        n0 = (columns - rest * n_tiles) * bn
        group = quotient(rest, header[SPLITS])
        part = rest - group * header[SPLITS]
        window = corner(n0 + thread % bn, group, s)
        pitch = header[PITCH]
        first_row, rows = group * s.c_out + m0, s.c_out - m0
        k = part * header[SPLIT_TILES] * depth
        end = min(k + header[SPLIT_TILES] * depth, pitch)

        fetch_weights(next_a, w, first_row, rows, k, pitch, thread)
        fetch_patches(next_b, x, job, window, s, k, thread)
        stage_weights(As, 0, next_a, thread)
        stage_patches(Bs, 0, next_b, thread)
        cuda.syncthreads()  # the first tiles are there
        buffer = 0
        while k < end:
            k += depth
            more = k < end
            if more:
                fetch_weights(next_a, w, first_row, rows, k, pitch, thread)
                fetch_patches(next_b, x, job, window, s, k, thread)
            sums = multiply(sums, As, buffer * a_size, Bs, buffer * b_size, thread)
            buffer = 1 - buffer
            if more:
                stage_weights(As, buffer * a_size, next_a, thread)
                stage_patches(Bs, buffer * b_size, next_b, thread)
            cuda.syncthreads()  # these tiles are read, the next ones are there

        place = (group, m0, n0, part * s.n * s.out_strides[0])
        store_sums(sums, Bs, y, bias, header, s, place, thread)

    return compile_kernel(conv_gemm, tile.threads, kind.blocks)
