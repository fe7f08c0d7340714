"""Planes of channels as maps, whose lanes are the channels, and maps as planes again.

A map has a vector for each pixel. Planes lie dense, so each is one row, and pieces of the rows of
all channels are transposed in registers; where the pixels of a piece go is up to a table.
"""

from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from numba.core import cgutils

from numbaconv.codegen.arguments import Elements, Indices
from numbaconv.codegen.pipeline import tidy
from numbaconv.codegen.pointers import CACHE_LINE
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.codegen.twins import emitted
from numbaconv.codegen.vectors import Vectors, i64
from numbaconv.cpu.packing.lanes import Piece, piece_columns, piece_rows, squares_transposed


class FillMapArguments(NamedTuple):
    """What `fill_map` takes.

    Attributes
    ----------
    target : pointer
        The map, [place][lanes].
    x, x_plane, channels : pointer, int, int
        Plane of the first channel, dense; elements from one channel to the next; how many channels,
        at most as many as a vector has lanes.
    ahead : int
        Elements from these planes to those that are copied next, whose lines are asked for.
    table, pieces : pointer, int
        [pieces][1 + `piece_columns`]: the first element of a piece in its plane, and the places of
        its pixels, as elements of the map; how many pieces.
    """

    target: Elements
    x: Elements
    x_plane: int
    channels: int
    ahead: int
    table: Indices
    pieces: int


@contextmanager
def _parts_of_channels(v, channels):
    """Loop over as many channels as a transposition has rows: the first, and how many are left.

    Planes may lie where caches have room for few lines at once.
    """
    b, high = v.builder, piece_rows(v.lanes)
    with cgutils.for_range(b, b.sdiv(b.add(channels, i64(high - 1)), i64(high))) as loop:
        done = b.mul(loop.index, i64(high))
        yield done, b.sub(channels, done)


def _emit_fill_map(builder, dtype, o):
    """Loop over parts of the channels, and over pieces."""
    b, v = builder, Vectors(builder, dtype)
    wide = piece_columns(v.lanes)
    size = wide * piece_rows(v.lanes)
    with _parts_of_channels(v, o.channels) as (done, channels):
        x, target = v.at(o.x, b.mul(done, o.x_plane)), v.at(o.target, done)
        with cgutils.for_range(b, o.pieces) as loop:
            entry = v.at(o.table, b.mul(loop.index, i64(1 + wide)))
            first, *places = (b.load(v.at(entry, i64(i))) for i in range(1 + wide))
            later = v.at(x, b.add(o.ahead, b.mul(loop.index, i64(size))))
            for line in range(0, size * v.align, CACHE_LINE):
                v.prefetch(v.at_byte(later, i64(line)))
            piece = Piece(b, dtype, dtype, v.at(x, first), o.x_plane)
            piece.emit(channels, i64(wide), [v.at(target, place) for place in places])


@emitted(FillMapArguments, _emit_fill_map, tidy)
def fill_map(o):
    """Copy the pixels of some planes to their places. What no piece goes to is left as it is."""
    lanes = VECTOR_BYTES // o.target.itemsize
    many, wide = min(o.channels, lanes), piece_columns(lanes)
    planes = np.arange(many) * o.x_plane
    for first, *places in o.table[: o.pieces * (1 + wide)].reshape(-1, 1 + wide).tolist():
        for i, place in enumerate(places):
            o.target[place : place + many] = o.x[planes + first + i]


class ReadMapArguments(NamedTuple):
    """What `read_map` takes.

    Attributes
    ----------
    c, pixels, channels : pointer, int, int
        A map without gaps, [pixels][lanes], and `piece_columns` rows of slack; how many channels.
    y, y_plane : pointer, int
        Where the pixels of the first channel go; elements from one channel to the next.
    """

    c: Elements
    pixels: int
    channels: int
    y: Elements
    y_plane: int


def _emit_read_map(builder, dtype, o):
    """Loop over parts of the channels, and over pieces, of which the last may overlap another."""
    b, v = builder, Vectors(builder, dtype)
    wide = piece_columns(v.lanes)
    last = b.sub(o.pixels, i64(wide))
    fits = b.icmp_signed(">=", last, i64(0))
    last = b.select(fits, last, i64(0))
    pieces = b.sdiv(b.add(o.pixels, i64(wide - 1)), i64(wide))
    with _parts_of_channels(v, o.channels) as (done, channels):
        c, y = v.at(o.c, done), v.at(o.y, b.mul(done, o.y_plane))
        with cgutils.for_range(b, pieces) as loop:
            at = b.mul(loop.index, i64(wide))
            at = b.select(b.icmp_signed("<", at, last), at, last)
            _emit_read_piece(
                b, dtype, v.at(c, b.mul(at, i64(v.lanes))), v.at(y, at), o, channels, fits
            )


def _emit_read_piece(b, dtype, c, y, o, channels, fits):
    """Some pixels of as many channels as a transposition has rows, or of fewer."""
    lanes = Vectors(b, dtype).lanes
    high, wide = piece_rows(lanes), piece_columns(lanes)
    v, narrow = Vectors(b, dtype, lanes=high), Vectors(b, dtype, lanes=wide)
    loaded = [v.load(v.at(c, i64(i * lanes))) for i in range(wide)]
    columns = squares_transposed(v, loaded)
    planes = [
        (v.part(columns[lane % wide], lane // wide * wide, wide), b.mul(o.y_plane, i64(lane)))
        for lane in range(high)
    ]
    whole = b.and_(fits, b.icmp_signed(">=", channels, i64(high)))
    with b.if_else(whole, likely=True) as (then, otherwise):
        with then:
            for value, plane in planes:
                narrow.store(value, v.at(y, plane))
        with otherwise:
            written = narrow.first_lanes(o.pixels)
            for lane, (value, plane) in enumerate(planes):
                with b.if_then(b.icmp_signed("<", i64(lane), channels)):
                    narrow.store_masked(value, v.at(y, plane), written)


@emitted(ReadMapArguments, _emit_read_map, tidy)
def read_map(o):
    """Copy the pixels of a map to planes."""
    lanes = VECTOR_BYTES // o.c.itemsize
    pixels = o.c[: o.pixels * lanes].reshape(-1, lanes)
    for channel in range(min(o.channels, lanes)):
        o.y[channel * o.y_plane :][: o.pixels] = pixels[:, channel]
