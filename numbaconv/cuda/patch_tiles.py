"""What a thread brings of the patch matrix: the column of one pixel, some rows of it.

A window is where that pixel's begins, and a row's table entry what to add (`problem`).
"""

from typing import Any

from numbaconv.cuda.device import device, make_corner, padded_index
from numbaconv.cuda.intrinsics import (
    int32,
    int64,
    load_two,
    load_wide,
    move_on,
)
from numbaconv.cuda.kind import Kind
from numbaconv.cuda.placement import (
    halves,
    make_place,
    make_put,
    make_read_inside,
    make_spot,
    make_write_vector,
)
from numbaconv.cuda.problem import ENTRY, FAR, HEADER, MAPPED_ENTRY


def make_locate(kind: Kind) -> Any:
    """Return the function that finds the patch element, or vector, of a table entry.

    ``locate(found, entry, s)`` returns its index in the input from where the window is, and whether
    it is inside; `found` is what `device.make_corner` says of the window.
    """

    @device
    def locate(bits, entry, s):
        return entry[0], int32(entry[1] & ~bits) == 0  # in 32 bits, as Numba has to be told

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
        return load_two(table, int32(i * ENTRY))

    @device
    def pair(table, i):
        a, b, c, d = load_wide(table, int32(i * ENTRY), int32)
        return (a, b), (c, d)

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
    stored, bits = kind.stored, lanes.bit_length() - 1

    @device
    def begin(x, job, s, group, n0, thread):
        at, found = corner(n0 + thread % bn, group, s)
        table = begin_table(job, thread // bn * lanes // vector)
        return table, (move_on(x, at, stored), found)

    @device
    def read_entry(table, k0, i):
        return entry_at(table, (k0 >> bits) + i * (apart // lanes))

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
    locate, read_inside = make_locate(kind), make_read_inside(kind)

    @device
    def read(x, found, entry, s):
        at, inside = locate(found, entry, s)
        return read_inside(x, at, inside)

    @device
    def bring_halves(i, into, patches, s, entries):
        _, (x, found) = patches
        first, second = entries[i]
        low, high = read(x, found, first, s), read(x, found, second, s)
        into[i] = halves(low, high)

    return bring_halves


@device
def first_argument(into, i):
    """Return where all registers are."""
    return into


def make_stage_patches(kind: Kind) -> tuple[Any, Any]:
    """Return where a thread's share of the patches lies, and what writes it."""
    tile, words = kind.tile, kind.words
    bn, rounds = tile.bn, kind.patch_rounds
    write_vector = make_write_vector(kind, tile.pitches(words)[1])
    place_of, spot = make_place(kind, 1), make_spot(kind)

    @device
    def place(thread):
        return place_of(thread % bn, thread // bn * words)

    @device
    def stage(to, fetched):
        for i in range(rounds):
            write_vector(spot(to, i), fetched, i)

    return place, stage
