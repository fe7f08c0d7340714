"""How a block brings its tiles to shared memory: fetched into registers, and written from there.

Weights are fetched 128 bits at a time along a row. Of the patch matrix a thread always fetches
the column of one pixel: a window is where that begins, and a row's table entry what to add.
"""

from typing import Any, NamedTuple

from numbaconv.cuda.device import device, make_corner, padded_index, same
from numbaconv.cuda.intrinsics import (
    int32,
    int64,
    load,
    load_wide,
    move_on,
    store,
    store_wide,
    to_tf32,
    uint32,
)
from numbaconv.cuda.kind import Kind
from numbaconv.cuda.problem import ENTRY, FAR, HEADER, MAPPED_ENTRY, PITCH


class Loader(NamedTuple):
    """How a kernel gets its tiles.

    Attributes
    ----------
    begin : device function
        (x, w, job, header, s, group, m0, n0, thread) -> what `fetch` needs of a block's place.
    fetch : device function
        (into_a, into_b, source, k, end): a thread's share of the step from `k` on along K, in
        registers; the block has nothing to sum from `end` on.
    place : device function
        (thread) -> elements from the beginning of each tile in shared memory to the thread's first,
        [m][k] and [n][k] for tensor cores, else [k][m] and [k][n].
    stage : device function
        (a_to, b_to, fetched_a, fetched_b, thread): to those addresses in shared memory.
    a_fetched, b_fetched : int
        Words that a thread fetches of either.
    """

    begin: Any
    fetch: Any
    place: Any
    stage: Any
    a_fetched: int
    b_fetched: int


def make_loader(kind: Kind) -> Loader:
    """Return the loader of a convolution: weights, and patches of the input."""
    words = kind.words
    begin_weights, fetch_weights = make_fetch_weights(kind)
    begin_patches, fetch_patches = make_fetch_patches(kind)
    place_weights, stage_weights = make_stage_weights(kind)
    place_patches, stage_patches = make_stage_patches(kind)

    @device
    def begin(x, w, job, header, s, group, m0, n0, thread):
        pitch = header[PITCH]
        weights = begin_weights(w, group * s.c_out + m0, s.c_out - m0, pitch, thread)
        return weights, begin_patches(x, job, s, group, n0, thread), s

    @device
    def fetch(into_a, into_b, source, k, end):
        weights, patches, s = source
        fetch_weights(into_a, weights, k)
        fetch_patches(into_b, patches, s, k)

    @device
    def place(thread):
        return place_weights(thread), place_patches(thread)

    @device
    def stage(a_to, b_to, fetched_a, fetched_b, thread):
        stage_weights(a_to, fetched_a, thread)
        stage_patches(b_to, fetched_b)

    a_fetched, b_fetched = kind.weight_rounds * words, kind.patch_rounds * words
    return Loader(begin, fetch, place, stage, a_fetched, b_fetched)


def make_fetch_weights(kind: Kind) -> tuple[Any, Any]:
    """Return where a thread's share of a tile of the weights begins, and what fetches it."""
    bm, threads, lanes, words = kind.tile.bm, kind.tile.threads, kind.lanes, kind.words
    vectors = kind.depth // lanes
    rounds, together = kind.weight_rounds, threads // vectors
    stored, loaded, halves = kind.stored, kind.loaded, lanes // words
    convert = to_tf32 if kind.dtype == "tf32" else same

    @device
    def begin(w, first, rows, pitch, thread):
        """Take rows first.. of the weights, of which there are `rows`."""
        row, k = thread // vectors, thread % vectors * lanes
        at = move_on(w, int64(int32((first + row) * pitch + k)), stored)
        rows = int32(min(rows, bm) - row)
        return at, rows, int32(pitch - k) if rows > 0 else int32(0), int32(together * pitch)

    @device
    def fetch(into, weights, k0):
        """Fetch a step from element k0 of the rows on."""
        at, rows, end, apart = weights
        for i in range(rounds):
            if k0 < end and (i == 0 or i * together < rows):
                values = load_wide(at, int32((k0 + i * apart) // halves), loaded)
                for j in range(words):
                    into[i * words + j] = convert(values[j])
            else:
                for j in range(words):
                    into[i * words + j] = 0

    return begin, fetch


def make_write_vector(kind: Kind, apart: int) -> Any:
    """Return the function ``(to, at, fetched, i)`` that writes the i-th vector of what was fetched.

    It is written at element `at` from an address on: together for tensor cores, else its elements
    `apart`. All of these are constants, so that one address serves a thread for all it writes.
    """
    tensor, words = kind.tile.tensor, kind.words

    @device
    def write_vector(to, at, fetched, i):
        first = i * words
        if tensor:
            vector = fetched[first], fetched[first + 1], fetched[first + 2], fetched[first + 3]
            store_wide(to, at, vector)
        else:
            for j in range(words):
                store(to, at + j * apart, fetched[first + j])

    return write_vector


def make_stage_weights(kind: Kind) -> tuple[Any, Any]:
    """Return where a thread writes what it fetched of the weights, and what writes it."""
    tile, words = kind.tile, kind.words
    bm, threads, tensor = tile.bm, tile.threads, tile.tensor
    vectors = tile.bk // words
    rounds, together = kind.weight_rounds, threads // vectors
    pitch = tile.pitches(words)[0]
    write_vector = make_write_vector(kind, pitch)
    all_write = rounds * together == bm
    apart = together * (pitch if tensor else 1)

    @device
    def place(thread):
        row, k = thread // vectors, thread % vectors * words
        return int32(row * pitch + k if tensor else k * pitch + row)

    @device
    def stage(to, fetched, thread):
        for i in range(rounds):
            if all_write or thread // vectors + i * together < bm:
                write_vector(to, i * apart, fetched, i)

    return place, stage


def make_take(kind: Kind) -> tuple[Any, Any]:
    """Return what reads the element, or wide vector, at an offset, and what stands for padding."""
    stored, loaded, words = kind.stored, kind.loaded, kind.words
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

    return take, nothing


def make_pick(kind: Kind) -> Any:
    """Return the function that reads the patch element, or wide vector, of a table entry.

    ``pick(window, entry, s)``, where a window is an address and what `device.make_corner` found
    there.
    """
    take, nothing = make_take(kind)

    @device
    def pick(window, entry, s):
        x, bits = window
        if int32(int32(entry >> 32) & ~bits) != 0:  # in 32 bits, as Numba has to be told
            return nothing()
        return take(x, int32(entry))

    @device
    def pick_mapped(window, entry, s):
        x, (d0, h0, w0) = window
        d, h, w = int32(d0 + entry[1]), int32(h0 + entry[2]), int32(w0 + entry[3])
        if d < FAR:
            return nothing()
        d = padded_index(d, s.size[0], s.padding_mode[0])
        h = padded_index(h, s.size[1], s.padding_mode[1])
        w = padded_index(w, s.size[2], s.padding_mode[2])
        if d < 0 or h < 0 or w < 0:
            return nothing()
        return take(x, entry[0] + d * s.in_strides[2] + h * s.in_strides[3] + w * s.in_strides[4])

    return pick_mapped if kind.mapped else pick


def make_table(kind: Kind) -> tuple[Any, Any, Any]:
    """Return how the table of rows is read: a thread's first entry, one, and two at once.

    ``begin(job, row)`` returns the address of row `row`; ``entry(table, i)`` reads the entry `i`
    further on, and ``pair(table, i)`` that and the next, where `i` is even.
    """

    @device
    def begin(job, row):
        return move_on(job, int64(HEADER + row * ENTRY), int32)

    @device
    def entry(table, i):
        return load(table, int32(i), int64)

    @device
    def pair(table, i):
        return load_wide(table, int32(i), int64)

    if not kind.mapped:
        return begin, entry, pair

    @device
    def begin_mapped(job, row):
        return move_on(job, int64(HEADER + row * MAPPED_ENTRY), int32)

    @device
    def entry_mapped(table, i):
        return load_wide(table, int32(i * MAPPED_ENTRY), int32)

    @device
    def pair_mapped(table, i):
        return entry_mapped(table, i), entry_mapped(table, i + 1)

    return begin_mapped, entry_mapped, pair_mapped


def make_unrolled(step: Any, last: int, first: int = 0) -> Any:
    """Return the function that calls ``step(i, ...)``, `i` from `first` to `last`, without a loop.

    The compiler unrolls no loop whose body is long, and then what the body writes at `i` of a local
    array has no register: with the padding modes of float16, half of what was fetched.
    """
    if last - first == 1:

        @device
        def once(into, patches, s, k0):
            step(first, into, patches, s, k0)

        return once
    middle = (first + last) // 2
    lower, upper = make_unrolled(step, middle, first), make_unrolled(step, last, middle)

    @device
    def both(into, patches, s, k0):
        lower(into, patches, s, k0)
        upper(into, patches, s, k0)

    return both


def make_fetch_patches(kind: Kind) -> tuple[Any, Any]:
    """Return where a thread's share of a tile of the patch matrix begins, and what fetches it.

    Those are rows of the thread's column, as many as fit in 128 bits at a time: read together if
    they are channels that lie together.
    """
    bn, lanes, words, stored = kind.tile.bn, kind.lanes, kind.words, kind.stored
    apart, rounds = kind.tile.threads // bn * lanes, kind.patch_rounds
    convert = to_tf32 if kind.dtype == "tf32" else same
    pick, corner = make_pick(kind), make_corner(kind.mapped)
    begin_table, entry_at, pair_at = make_table(kind)
    vector = lanes if kind.wide else 1  # rows to an entry

    @device
    def begin(x, job, s, group, n0, thread):
        at, found = corner(n0 + thread % bn, group, s)
        table = begin_table(job, thread // bn * lanes // vector)
        return table, (move_on(x, at, stored), found)

    @device
    def fetch_vector(i, into, patches, s, k0):
        """Take the channels of one vector."""
        table, window = patches
        values = pick(window, entry_at(table, (k0 + i * apart) // lanes), s)
        for j in range(words):
            into[i * words + j] = convert(values[j])

    @device
    def fetch_pair(i, into, patches, s, k0):
        """Take two neighbouring rows, whose entries are read together."""
        table, window = patches
        first, second = pair_at(table, k0 + 2 * i // lanes * apart + 2 * i % lanes)
        low, high = pick(window, first, s), pick(window, second, s)
        if halved:
            into[i] = uint32(low) | (uint32(high) << uint32(16))
        else:
            into[2 * i], into[2 * i + 1] = convert(low), convert(high)

    halved = kind.dtype == "float16"
    if kind.wide:
        return begin, make_unrolled(fetch_vector, rounds)
    return begin, make_unrolled(fetch_pair, rounds * lanes // 2)


def make_stage_patches(kind: Kind) -> tuple[Any, Any]:
    """Return where a thread writes what it fetched of the patches, and what writes it."""
    tile, words = kind.tile, kind.words
    bn, tensor = tile.bn, tile.tensor
    rounds = kind.patch_rounds
    pitch = tile.pitches(words)[1]
    write_vector = make_write_vector(kind, pitch)
    apart = tile.threads // bn * words * (1 if tensor else pitch)

    @device
    def place(thread):
        column, k = thread % bn, thread // bn * words
        return int32(column * pitch + k if tensor else k * pitch + column)

    @device
    def stage(to, fetched):
        for i in range(rounds):
            write_vector(to, i * apart, fetched, i)

    return place, stage
