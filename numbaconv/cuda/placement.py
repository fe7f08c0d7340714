"""Where elements of the tiles lie in shared memory, and how they get there.

Where an element comes from, and whether there is one, is worked out once for both ways
(`make_put`): into registers it is loaded, and written to its place later; or its copy is begun.
"""

from typing import Any

from numbaconv.cuda.device import device, same
from numbaconv.cuda.intrinsics import (
    flip,
    int32,
    int64,
    load,
    load_wide,
    make_copy,
    move_on,
    store,
    store_wide,
    to_tf32,
    uint32,
)
from numbaconv.cuda.kind import Kind
from numbaconv.cuda.tiles import turned

turned_place = device(turned)


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


def make_read_inside(kind: Kind) -> Any:
    """Return the function ``(array, index, inside)`` that loads an element, or returns zero."""
    stored = kind.stored

    @device
    def read_inside(array, index, inside):
        return load(array, index, stored) if inside else stored(0)

    return read_inside


@device
def halves(low, high):
    """Return two float16 as one word."""
    return uint32(low) | (uint32(high) << uint32(16))


def make_put(kind: Kind, count: int) -> Any:
    """Return the function that brings `count` elements in shared memory, from a place on.

    ``put(into, i, at, array, index, inside)``: from that element of the array, or zeros. Into
    registers they are loaded, from the i-th on; else their copy is begun, to element `at` from an
    address on.
    """
    shared, stored, loaded = kind.shared, kind.stored, kind.loaded
    convert = to_tf32 if kind.dtype == "tf32" else same
    if kind.asynchronous:
        copy = make_copy(stored, count * kind.lanes // kind.words)

        @device
        def put_copy(into, i, at, array, index, inside):
            copy(move_on(into, at, shared), array, index, inside)

        return put_copy
    if count > 1:

        @device
        def put_vector(into, i, at, array, index, inside):
            if inside:
                values = load_wide(move_on(array, int64(index), stored), int32(0), loaded)
                for j in range(count):
                    into[i + j] = convert(values[j])
            else:
                for j in range(count):
                    into[i + j] = 0

        return put_vector

    read_inside = make_read_inside(kind)

    @device
    def put(into, i, at, array, index, inside):
        value = read_inside(array, index, inside)
        into[i] = convert(value)  # behind the choice, which is then one predicate

    return put


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
