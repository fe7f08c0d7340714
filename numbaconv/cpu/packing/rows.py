"""Copies of rows with their padding: by whole vectors where it is zeros, else element by element.

What a padded coordinate reads is `problem.padding_modes`' to say. The rows may have another type of
elements than the copies.
"""

from typing import NamedTuple

from numbaconv.codegen.arguments import Elements, Foreign, Indices
from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import keep_scalar, pointer_at, shift
from numbaconv.cpu.job import AT, SHAPE
from numbaconv.cpu.packing.conversion import move
from numbaconv.cpu.packing.lanes import (
    copy_even_lanes,
    copy_lanes,
    fill_lanes,
    pad_lanes,
    prefetch,
    split_lanes,
)
from numbaconv.cpu.packing.transpose import transpose_block
from numbaconv.problem.padding_modes import padded_index, steps_to
from numbaconv.problem.shape import ZEROS, read_shape

# Vectors of a row, at most, that are copied with their padding in one go, by masks. In wider rows
# the padding is set to zero by itself.
MOST_PADDED = 4


@inline
def fill(target, count, value, lanes):
    """Set `count` elements to a value."""
    j = 0
    while j < count:  # a range with a step divides by it first
        fill_lanes(shift(target, j), value, count - j)
        j += lanes


@inline
def copy_rows(target, target_step, source, step, row_step, rows, count, distance, lanes):
    """target[r * target_step + j] = source[r * row_step + j * step], j < count.

    What lies `distance` on from each vector that is read is asked for where elements are
    neighbours; 0: nothing is.
    """
    if row_step == 1:  # rows are channels, or phases, whose elements lie side by side
        transpose_block(target, target_step, source, step, count, rows, lanes)
        return
    for r in range(rows):
        row, copy = shift(source, r * row_step), shift(target, r * target_step)
        if step == 1:
            j = 0
            while j < count:
                if distance != 0:
                    prefetch(shift(row, j + distance))
                copy_lanes(shift(copy, j), shift(row, j), count - j)
                j += lanes
        elif step == 2:
            j = 0
            while j < count:
                if distance != 0:
                    prefetch(shift(row, 2 * j + distance))
                    prefetch(shift(row, 2 * j + lanes + distance))
                copy_even_lanes(shift(copy, j), shift(row, 2 * j), count - j)
                j += lanes
        else:
            for j in range(count):
                keep_scalar()
                move(copy, j, row, j * step)


@inline
def pad_rows(target, target_step, x, row_step, rows, first, count, size, distance, lanes):
    """Copy the elements first, first + 1, ... of some rows that are padded with zeros."""
    j = 0
    while j < count:
        for r in range(rows):
            copy, row = shift(target, r * target_step + j), shift(x, r * row_step)
            if distance != 0:
                prefetch(shift(row, first + j + distance))
            pad_lanes(copy, row, first + j, size, count - j)
        j += lanes


@inline
def split_rows(target, target_step, apart, x, row_step, rows, first, count, size, distance, lanes):
    """Copy the elements first, first + 2, ... of some rows, and `apart` from these those between.

    The rows are padded with zeros.
    """
    for r in range(rows):
        even, row = shift(target, r * target_step), shift(x, r * row_step)
        j = 0
        while j < count:
            if distance != 0:
                prefetch(shift(row, first + 2 * j + distance))
                prefetch(shift(row, first + 2 * j + lanes + distance))
            odd = shift(even, apart + j)
            split_lanes(shift(even, j), odd, row, first + 2 * j, size, count - j)
            j += lanes


class PaddedRows(NamedTuple):
    """Rows that are read with their padding.

    Attributes
    ----------
    x, at : pointer, int
        Element 0 of row 0 is x[at].
    step, row_step : int
        Elements of x from one element of a row, and from one row, to the next.
    rows, size : int
        Rows, and elements of each; one of size 0 is all padding, of what lies `outside`.
    mode : int
        What the padding is.
    outside, alternate : pointer, int
        Of what padding of zeros, or of another number, consists, by rows: that of row r is
        outside[r & alternate].
    prefetch_distance : int
        What lies so much further on will be needed soon; 0: nothing is asked for.
    """

    x: object
    at: int
    step: int
    row_step: int
    rows: int
    size: int
    mode: int
    outside: object
    alternate: int
    prefetch_distance: int


@inline
def copy_padded(target, target_step, source, apart, first, step, count, lanes):
    """Copy `count` elements `first, first + step, ...` of some padded rows.

    The j-th one copied of row r goes to target[r * target_step + j]. Each row begins `apart`
    elements further along than the one before: 1 for phases of one row, 0 for rows of their own.
    Inside the rows this is a plain (strided) copy; padding other than zeros goes element by
    element.
    """
    x, rows, size, distance = source.x, source.rows, source.size, source.prefetch_distance
    short = count <= MOST_PADDED * lanes
    dense = step * source.step == 1 and source.row_step > 1
    if short and dense and source.mode == ZEROS and size > 0:
        row = shift(x, source.at)
        pad_rows(
            target, target_step, row, source.row_step, rows, first, count, size, distance, lanes
        )
        return
    begin = min(steps_to(max(-first, 0), step), count)
    end = max(min(steps_to(size - apart * (rows - 1) - first, step), count), begin)
    at = source.at + (first + begin * step) * source.step
    copy_rows(
        shift(target, begin),
        target_step,
        shift(x, at),
        step * source.step,
        source.row_step + apart * source.step,
        rows,
        end - begin,
        distance,
        lanes,
    )
    if (source.mode <= ZEROS and apart == 0) or size == 0:
        for r in range(rows):
            value = source.outside[r & source.alternate]
            fill(shift(target, r * target_step), begin, value, lanes)
            fill(shift(target, r * target_step + end), count - end, value, lanes)
        return
    for edge in range(begin + count - end):
        j = edge if edge < begin else edge - begin + end
        for r in range(rows):
            keep_scalar()
            i = padded_index(first + j * step + r * apart, size, source.mode)
            if i >= 0:
                at = source.at + r * source.row_step + i * source.step
                move(target, r * target_step + j, x, at)
            else:
                target[r * target_step + j] = source.outside[r & source.alternate]


class CopyRunArguments(NamedTuple):
    """What `copy_run` takes.

    Attributes
    ----------
    target, target_step : pointer, int
        Where the first element goes; elements from one channel to the next.
    x, job : pointer
        Element 0 of the row in the first channel, to be converted; the job.
    channel, channels : int
        The first channel of the image, and how many.
    size : int
        Elements of the row; 0: it lies outside of the image.
    first, step, elements : int
        Element `first`, which may be padding, the `step`-th behind it, and so on: how many.
    """

    target: Elements
    target_step: int
    x: Foreign
    job: Indices
    channel: int
    channels: int
    size: int
    first: int
    step: int
    elements: int


@native(CopyRunArguments)
def copy_run(target, target_step, x, job, channel, channels, size, first, step, elements):
    """Copy elements of a padded row, of some channels."""
    s = read_shape(job, SHAPE)
    rows = PaddedRows(
        x=x,
        at=0,
        step=s.in_strides[4],
        row_step=s.in_strides[1],
        rows=channels,
        size=size,
        mode=s.padding_mode[2],
        outside=shift(pointer_at(job[AT.outside], target), channel & 1),
        alternate=1,
        prefetch_distance=job[AT.prefetch_distance],
    )
    copy_padded(target, target_step, rows, 0, first, step, elements, job[AT.lanes])
