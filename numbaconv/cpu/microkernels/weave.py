"""Rows woven together: the elements of a few rows in turn, as of the phases of a stride.

    C[p][j * rows + i] = B[p * rows + i][j]

Each piece p of so many rows has a place of its own in C. Loops: pieces; vectors of a row.
"""

from typing import NamedTuple

import numpy as np
from numba.core import cgutils

from numbaconv.codegen.arguments import Elements, Indices
from numbaconv.codegen.pipeline import tidy
from numbaconv.codegen.twins import emitted
from numbaconv.codegen.vectors import Vectors, i64
from numbaconv.cpu.blocking import WOVEN_ROWS


class WeaveArguments(NamedTuple):
    """What `weave` takes.

    Attributes
    ----------
    rows, pieces, width : int
        Rows of a piece, one of WOVEN_ROWS; pieces; elements of a row, at least 1.
    source, step : pointer, int
        First row, of which whole vectors are read; elements from one row to the next.
    target : pointer
        Where each piece of rows * width elements goes, at a place of its own.
    places : pointer
        The place of each row's first element. Those of the first rows of pieces are read.
    """

    rows: int
    pieces: int
    width: int
    source: Elements
    step: int
    target: Elements
    places: Indices


def _emit_weave(builder, dtype, o):
    """Switch to the number of rows that is asked for."""
    end = builder.append_basic_block("weave_end")
    switch = builder.switch(o.rows, end)
    for rows in WOVEN_ROWS:
        case = builder.append_basic_block(f"weave_{rows}")
        switch.add_case(i64(rows), case)
        builder.position_at_end(case)
        _emit_rows(Vectors(builder, dtype), rows, o)
        builder.branch(end)
    builder.position_at_end(end)


def _emit_rows(v, rows, o):
    """Loop over pieces, and the vectors of their rows."""
    builder, lanes = v.builder, i64(v.lanes)
    vectors = builder.udiv(builder.add(o.width, i64(v.lanes - 1)), lanes)
    with cgutils.for_range(builder, o.pieces) as piece, cgutils.for_range(builder, vectors) as loop:
        row, first = builder.mul(piece.index, i64(rows)), builder.mul(loop.index, lanes)
        source = v.at(v.at(o.source, builder.mul(row, o.step)), first)
        sources = [v.at(source, builder.mul(o.step, i64(i))) for i in range(rows)]
        woven = v.interleaved([v.load(source) for source in sources])
        place = builder.load(v.at(o.places, row))
        target = v.at(o.target, builder.add(place, builder.mul(first, i64(rows))))
        left = builder.mul(builder.sub(o.width, first), i64(rows))
        for i, value in enumerate(woven):
            _store(v, value, v.column(target, i), builder.sub(left, i64(i * v.lanes)))


def _store(v, value, target, left):
    """Store a vector, or so many of its lanes as are left, of the last one; behind it none."""
    builder = v.builder
    with builder.if_else(builder.icmp_signed(">=", left, i64(v.lanes)), likely=True) as ways:
        with ways[0]:
            v.store(value, target)
        with ways[1], builder.if_then(builder.icmp_signed(">", left, i64(0))):
            v.store_masked(value, target, v.first_lanes(left))


@emitted(WeaveArguments, _emit_weave, tidy)
def weave(o):
    """C[p][j * rows + i] = B[p * rows + i][j]."""
    for first in range(0, o.pieces * o.rows, o.rows):
        rows = [o.source[i * o.step :][: o.width] for i in range(first, first + o.rows)]
        o.target[o.places[first] :][: o.rows * o.width] = np.stack(rows, 1).ravel()
