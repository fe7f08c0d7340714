"""How a block brings its tiles to shared memory: fetched into registers, and written from there.

Weights are fetched 128 bits at a time along a row. Of the patch matrix a thread always fetches
the column of one pixel: `window` is where that begins, and a row's table entry what to add.
"""

from typing import Any, NamedTuple

from numbaconv.cuda.device import corner, device, padded_index, same
from numbaconv.cuda.intrinsics import (
    int32,
    load,
    load_wide,
    move_on,
    to_tf32,
    uint32,
    within,
    write,
)
from numbaconv.cuda.kind import Kind
from numbaconv.cuda.problem import ENTRY, FAR, HEADER, PITCH


class Loader(NamedTuple):
    """How a kernel gets its tiles.

    Attributes
    ----------
    begin : device function
        (x, w, job, header, s, group, m0, n0, thread) -> what `fetch` needs of a block's place.
    fetch : device function
        (into_a, into_b, source, k, thread): a thread's share of one step along K, in registers.
    stage : device function
        (As, a_start, Bs, b_start, fetched_a, fetched_b, thread): to buffers in shared memory that
        begin there, [m][k] and [n][k] for tensor cores, else [k][m] and [k][n].
    a_fetched, b_fetched : int
        Words that a thread fetches of either.
    """

    begin: Any
    fetch: Any
    stage: Any
    a_fetched: int
    b_fetched: int


def make_loader(kind: Kind) -> Loader:
    """Return the loader of a convolution: weights, and patches of the input."""
    bn, words, stored = kind.tile.bn, kind.words, kind.stored
    fetch_weights, fetch_patches = make_fetch_weights(kind), make_fetch_patches(kind)
    stage_weights, stage_patches = make_stage_weights(kind), make_stage_patches(kind)

    @device
    def begin(x, w, job, header, s, group, m0, n0, thread):
        at, d, h, w0 = corner(n0 + thread % bn, group, s)
        window = move_on(x, at, stored), d, h, w0
        return w, job, s, window, group * s.c_out + m0, s.c_out - m0, header[PITCH]

    @device
    def fetch(into_a, into_b, source, k, thread):
        w, job, s, window, first_row, rows, pitch = source
        fetch_weights(into_a, w, first_row, rows, k, pitch, thread)
        fetch_patches(into_b, job, window, s, k, thread)

    @device
    def stage(As, a_start, Bs, b_start, fetched_a, fetched_b, thread):
        stage_weights(As, a_start, fetched_a, thread)
        stage_patches(Bs, b_start, fetched_b, thread)

    return Loader(begin, fetch, stage, kind.weight_rounds * words, kind.patch_rounds * words)


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
                values = load_wide(w, int32(((first + row) * pitch + k) // halves), loaded)
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
    """Return the function that reads the patch element, or wide vector, of a table entry.

    A window is the address of its first tap, and the coordinates of that.
    """
    stored, loaded, words, mapped = kind.stored, kind.loaded, kind.words, kind.mapped
    halves = kind.lanes // words

    if kind.wide:

        @device
        def take(x, at):
            return load_wide(x, int32(at // halves), loaded)

        @device
        def nothing():
            zero = loaded(0)
            return (zero, zero) if words == 2 else (zero, zero, zero, zero)

    else:

        @device
        def take(x, at):
            return load(x, int32(at), stored)

        @device
        def nothing():
            return stored(0)

    @device
    def pick(window, entry, s):
        x, d0, h0, w0 = window
        d, h, w = int32(d0 + entry[1]), int32(h0 + entry[2]), int32(w0 + entry[3])
        at = entry[0]
        if mapped:
            if d < FAR:
                return nothing()
            d = padded_index(d, s.size[0], s.padding_mode[0])
            h = padded_index(h, s.size[1], s.padding_mode[1])
            w = padded_index(w, s.size[2], s.padding_mode[2])
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
    return load_wide(job, int32(HEADER + row * ENTRY), int32)


def make_unrolled(step: Any, last: int, first: int = 0) -> Any:
    """Return the function that calls ``step(i, ...)``, `i` from `first` to `last`, without a loop.

    The compiler unrolls no loop whose body is long, and then what the body writes at `i` of a local
    array has no register: with the padding modes of float16, half of what was fetched.
    """
    if last - first == 1:

        @device
        def once(into, job, window, s, k0, thread):
            step(first, into, job, window, s, k0, thread)

        return once
    middle = (first + last) // 2
    lower, upper = make_unrolled(step, middle, first), make_unrolled(step, last, middle)

    @device
    def both(into, job, window, s, k0, thread):
        lower(into, job, window, s, k0, thread)
        upper(into, job, window, s, k0, thread)

    return both


def make_fetch_patches(kind: Kind) -> Any:
    """Return the function that fetches a thread's share of a tile of the patch matrix.

    Those are the rows from `k0` on of the thread's column, a vector of channels at a time if they
    lie together.
    """
    bn, lanes, words, wide = kind.tile.bn, kind.lanes, kind.words, kind.wide
    step, rounds = kind.tile.threads // bn, kind.patch_rounds
    convert = to_tf32 if kind.dtype == "tf32" else same
    pick = make_pick(kind)

    if kind.dtype == "float16":

        @device
        def word(job, window, s, k, j):
            low = pick(window, table_entry(job, k + 2 * j), s)
            high = pick(window, table_entry(job, k + 2 * j + 1), s)
            return uint32(low) | (uint32(high) << uint32(16))

    else:

        @device
        def word(job, window, s, k, j):
            return convert(pick(window, table_entry(job, k + j), s))

    @device
    def first_row(k0, thread, i):
        return k0 + (thread // bn + i * step) * lanes

    if wide:

        @device
        def fetch_vector(i, into, job, window, s, k0, thread):
            """Take the channels of one vector of the thread's column."""
            entry = table_entry(job, first_row(k0, thread, i) // lanes)
            values = pick(window, entry, s)
            for j in range(words):
                into[i * words + j] = convert(values[j])

        return make_unrolled(fetch_vector, rounds)

    @device
    def fetch_word(i, into, job, window, s, k0, thread):
        """Take one word of the thread's column."""
        into[i] = word(job, window, s, first_row(k0, thread, i // words), i % words)

    return make_unrolled(fetch_word, rounds * words)


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
