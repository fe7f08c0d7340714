"""How a block brings its tiles to shared memory: through registers, or copied without.

Weights are taken 128 bits at a time along a row, or element by element. Of the patch matrix a
thread always takes the column of one pixel: a window is where that begins, and a row's table entry
what to add. Where an element lies, and whether there is one, is worked out here once for both ways
(`make_put`): into registers it is loaded, and written from there later, or its copy is begun.
"""

from typing import Any, NamedTuple

from numbaconv.cuda.device import device, make_corner, padded_index, same
from numbaconv.cuda.intrinsics import (
    flip,
    float_of_bits,
    int32,
    int64,
    load,
    load_wide,
    make_copy,
    make_read,
    move_on,
    store,
    store_wide,
    to_tf32,
    uint32,
)
from numbaconv.cuda.kind import Kind
from numbaconv.cuda.problem import ENTRY, FAR, HEADER, MAPPED_ENTRY, PITCH
from numbaconv.cuda.tiles import turned

turned_place = device(turned)


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
    settle : device function
        (a_to, b_to, thread): what is left to do, at those addresses, when the copies have come.
    stage : device function
        (a_to, b_to, fetched_a, fetched_b, thread): from registers to those addresses.
    a_fetched, b_fetched : int
        Words that a thread brings of either.
    """

    begin: Any
    look: Any
    bring: Any
    place: Any
    settle: Any
    stage: Any
    a_fetched: int
    b_fetched: int


def make_loader(kind: Kind) -> Loader:
    """Return the loader of a convolution: weights, and patches of the input."""
    words = kind.words
    begin_weights, bring_weights = make_bring_weights(kind)
    begin_patches, look_up, bring_patches = make_bring_patches(kind)
    place_weights, settle_weights, stage_weights = make_stage_weights(kind)
    place_patches, settle_patches, stage_patches = make_stage_patches(kind)

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
    def settle(a_to, b_to, thread):
        settle_weights(a_to, thread)
        settle_patches(b_to)

    @device
    def stage(a_to, b_to, fetched_a, fetched_b, thread):
        stage_weights(a_to, fetched_a, thread)
        stage_patches(b_to, fetched_b)

    a_fetched, b_fetched = kind.weight_rounds * kind.unit, kind.patch_rounds * words
    return Loader(begin, look, bring, place, settle, stage, a_fetched, b_fetched)


def make_put(kind: Kind, count: int) -> Any:
    """Return the function that brings `count` elements in shared memory, from a place on.

    ``put(into, i, at, array, index, inside)``: from that element of the array, or zeros. Into
    registers they are loaded, from the i-th on; else their copy is begun, to element `at` from an
    address on.
    """
    shared, stored, loaded = kind.shared, kind.stored, kind.loaded
    wide = count > 1
    halves = kind.lanes // kind.words if wide else 1
    convert = to_tf32 if kind.dtype == "tf32" else same
    if kind.asynchronous:
        copy = make_copy(loaded, count)

        @device
        def put_copy(into, i, at, array, index, inside):
            copy(move_on(into, at, shared), array, int32(index // halves), inside)

        return put_copy
    if wide:

        @device
        def put_vector(into, i, at, array, index, inside):
            if inside:
                values = load_wide(array, int32(index // halves), loaded)
                for j in range(count):
                    into[i + j] = convert(values[j])
            else:
                for j in range(count):
                    into[i + j] = 0

        return put_vector

    @device
    def put(into, i, at, array, index, inside):
        into[i] = convert(load(array, index, stored)) if inside else shared(0)

    return put


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


def make_write_vector(kind: Kind, apart: int) -> Any:
    """Return the function ``(to, fetched, i)`` that writes the i-th vector of what was fetched.

    It is written to an address: together for tensor cores, else its elements `apart`.
    """
    tensor, words = kind.tile.tensor, kind.words

    @device
    def write_vector(to, fetched, i):
        first = i * words
        if tensor:
            vector = fetched[first], fetched[first + 1], fetched[first + 2], fetched[first + 3]
            store_wide(to, int32(0), vector)
        else:
            for j in range(words):
                store(to, j * apart, fetched[first + j])

    return write_vector


def make_place(kind: Kind, factor: int) -> Any:
    """Return the function that says where an element of a tile (of factor 0 or 1) lies in it."""
    pitch, vectors = kind.tile.pitches(kind.words)[factor], kind.tile.bk // 4

    @device
    def place(row, k):
        return int32(k * pitch + row)

    @device
    def place_turned(row, k):
        return int32(row * pitch + turned_place(row, k, vectors))

    return place_turned if kind.tile.tensor else place


def make_round(kind: Kind) -> Any:
    """Return the function that rounds what was copied to an address, a vector, to tf32."""
    read = make_read(1, 0, uint32)

    @device
    def round_vector(to):
        a, b, c, d = read(to, int32(0))
        a, b = to_tf32(float_of_bits(a)), to_tf32(float_of_bits(b))
        c, d = to_tf32(float_of_bits(c)), to_tf32(float_of_bits(d))
        store_wide(to, int32(0), (a, b, c, d))

    @device
    def leave(to):
        pass

    return round_vector if kind.dtype == "tf32" and kind.asynchronous else leave


def make_stage_weights(kind: Kind) -> tuple[Any, Any, Any]:
    """Return where a thread's share of the weights lies, what rounds it and what writes it."""
    tile, shared = kind.tile, kind.shared
    bm, threads, tensor = tile.bm, tile.threads, tile.tensor
    units = kind.depth // kind.unit
    words = tile.bk // units
    rounds, together = kind.weight_rounds, threads // units
    pitch = tile.pitches(kind.words)[0]
    write_vector, round_vector = make_write_vector(kind, pitch), make_round(kind)
    place_of = make_place(kind, 0)
    all_write = rounds * together == bm
    apart = together * (pitch if tensor else 1)

    @device
    def place(thread):
        return place_of(thread // units, thread % units * words)

    @device
    def settle(to, thread):
        for i in range(rounds):
            if all_write or thread // units + i * together < bm:
                round_vector(move_on(to, i * apart, shared))

    @device
    def stage(to, fetched, thread):
        for i in range(rounds):
            if all_write or thread // units + i * together < bm:
                write_vector(move_on(to, i * apart, shared), fetched, i)

    return place, settle, stage


def make_locate(kind: Kind) -> Any:
    """Return the function that finds the patch element, or vector, of a table entry.

    ``locate(found, entry, s)`` returns its index in the input from where the window is, and whether
    it is inside; `found` is what `device.make_corner` says of the window.
    """

    @device
    def locate(bits, entry, s):
        # In 32 bits, as Numba has to be told.
        return int32(entry), int32(int32(entry >> 32) & ~bits) == 0

    @device
    def locate_mapped(corner, entry, s):
        d0, h0, w0 = corner
        d, h, w = int32(d0 + entry[1]), int32(h0 + entry[2]), int32(w0 + entry[3])
        if d < FAR:
            return int32(0), False
        d = padded_index(d, s.size[0], s.padding_mode[0])
        h = padded_index(h, s.size[1], s.padding_mode[1])
        w = padded_index(w, s.size[2], s.padding_mode[2])
        if d < 0 or h < 0 or w < 0:
            return int32(0), False
        at = entry[0] + d * s.in_strides[2] + h * s.in_strides[3] + w * s.in_strides[4]
        return int32(at), True

    return locate_mapped if kind.mapped else locate


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
        def once(into, patches, s, entries):
            step(first, into, patches, s, entries)

        return once
    middle = (first + last) // 2
    lower, upper = make_unrolled(step, middle, first), make_unrolled(step, last, middle)

    @device
    def both(into, patches, s, entries):
        lower(into, patches, s, entries)
        upper(into, patches, s, entries)

    return both


def make_gathered(read: Any, last: int, first: int = 0) -> Any:
    """Return the function that returns ``read(table, k, i)`` for `i` from `first` to `last`."""
    if last - first == 1:

        @device
        def one(table, k):
            return (read(table, k, first),)

        return one
    middle = (first + last) // 2
    lower, upper = make_gathered(read, middle, first), make_gathered(read, last, middle)

    @device
    def all_of_them(table, k):
        return lower(table, k) + upper(table, k)

    return all_of_them


def make_bring_patches(kind: Kind) -> tuple[Any, Any, Any]:
    """Return where a thread's share of a tile of patches begins, its entries, and what brings it.

    Those are rows of the thread's column, as many as fit in 128 bits at a time: read together if
    they are channels that lie together, else by pairs, whose entries are read together.
    """
    bn, lanes = kind.tile.bn, kind.lanes
    apart, rounds = kind.tile.threads // bn * lanes, kind.patch_rounds
    corner = make_corner(kind.mapped)
    begin_table, entry_at, pair_at = make_table(kind)
    vector = lanes if kind.wide else 1  # rows to an entry
    stored = kind.stored

    @device
    def begin(x, job, s, group, n0, thread):
        at, found = corner(n0 + thread % bn, group, s)
        table = begin_table(job, thread // bn * lanes // vector)
        return table, (move_on(x, at, stored), found)

    @device
    def read_entry(table, k0, i):
        return entry_at(table, (k0 + i * apart) // lanes)

    @device
    def read_pair(table, k0, i):
        return pair_at(table, k0 + 2 * i // lanes * apart + 2 * i % lanes)

    gathered = (
        make_gathered(read_entry, rounds)
        if kind.wide
        else make_gathered(read_pair, rounds * lanes // 2)
    )

    @device
    def look(patches, k0):
        return gathered(patches[0], k0)

    if kind.wide:
        return begin, look, make_unrolled(make_bring_vector(kind), rounds)
    bring_pair = make_bring_halves(kind) if kind.dtype == "float16" else make_bring_pair(kind)
    return begin, look, make_unrolled(bring_pair, rounds * lanes // 2)


def make_spot(kind: Kind) -> Any:
    """Return the function that says where the i-th vector of a thread's patches lies."""
    shared, bn = kind.shared, kind.tile.bn
    apart = kind.tile.threads // bn * kind.words
    pitch = kind.tile.pitches(kind.words)[1]

    @device
    def spot(to, i):
        return move_on(to, int32(i * apart * pitch), shared)

    @device
    def spot_turned(to, i):
        return flip(to, int32(i * apart), shared)

    return spot_turned if kind.tile.tensor else spot


def make_bring_vector(kind: Kind) -> Any:
    """Return the function that brings the channels of one vector."""
    words, put, locate = kind.words, make_put(kind, kind.words), make_locate(kind)
    spot = make_spot(kind) if kind.asynchronous else first_argument

    @device
    def bring_vector(i, into, patches, s, entries):
        _, (x, found) = patches
        at, inside = locate(found, entries[i], s)
        put(spot(into, i), i * words, 0, x, at, inside)

    return bring_vector


def make_bring_pair(kind: Kind) -> Any:
    """Return the function that brings two neighbouring rows."""
    put, locate, lanes = make_put(kind, 1), make_locate(kind), kind.lanes
    spot = make_spot(kind) if kind.asynchronous else first_argument
    apart = 1 if kind.tile.tensor else kind.tile.pitches(kind.words)[1]

    @device
    def bring_pair(i, into, patches, s, entries):
        _, (x, found) = patches
        first, second = entries[i]
        to, place = spot(into, 2 * i // lanes), 2 * i % lanes * apart
        at, inside = locate(found, first, s)
        put(to, 2 * i, place, x, at, inside)
        at, inside = locate(found, second, s)
        put(to, 2 * i + 1, place + apart, x, at, inside)

    return bring_pair


def make_bring_halves(kind: Kind) -> Any:
    """Return the function that brings two neighbouring rows of float16, into one register."""
    locate, stored = make_locate(kind), kind.stored

    @device
    def read(x, found, entry, s):
        at, inside = locate(found, entry, s)
        return load(x, at, stored) if inside else stored(0)

    @device
    def bring_halves(i, into, patches, s, entries):
        _, (x, found) = patches
        first, second = entries[i]
        low, high = read(x, found, first, s), read(x, found, second, s)
        into[i] = uint32(low) | (uint32(high) << uint32(16))

    return bring_halves


@device
def first_argument(into, i):
    """Return where all registers are."""
    return into


def make_stage_patches(kind: Kind) -> tuple[Any, Any, Any]:
    """Return where a thread's share of the patches lies, what rounds it, and what writes it."""
    tile, words = kind.tile, kind.words
    bn, rounds = tile.bn, kind.patch_rounds
    write_vector = make_write_vector(kind, tile.pitches(words)[1])
    round_vector, place_of, spot = make_round(kind), make_place(kind, 1), make_spot(kind)

    @device
    def place(thread):
        return place_of(thread % bn, thread // bn * words)

    @device
    def settle(to):
        for i in range(rounds):
            round_vector(spot(to, i))

    @device
    def stage(to, fetched):
        for i in range(rounds):
            write_vector(spot(to, i), fetched, i)

    return place, settle, stage
