"""Rows on their way from the padded input to a tile, and from a tile to the output."""

from typing import NamedTuple

from numbaconv.codegen.arguments import Elements, Indices
from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import behind, call, keep_scalar, pointer_at, shift
from numbaconv.cpu.fft.columns import CALLED
from numbaconv.cpu.fft.layout import AT_TABLE
from numbaconv.cpu.finishing import NOT_FLAT, finish_tile
from numbaconv.cpu.job import AT, SHAPE
from numbaconv.cpu.microkernels.spectrum import MoveArguments
from numbaconv.cpu.packing.results import move_rows
from numbaconv.cpu.packing.rows import CopyRunArguments
from numbaconv.problem.padding_modes import padded_index
from numbaconv.problem.shape import read_shape
from numbaconv.problem.taps import first_read


class StoreRowArguments(NamedTuple):
    """What `store_row` takes.

    Attributes
    ----------
    job, row : pointer
        The job; the row, which is overwritten.
    image, channel, od, oh, ow : int
        Where the first result goes.
    step, results : int
        Every which element is a result, and how many there are.
    """

    job: Indices
    row: Elements
    image: int
    channel: int
    od: int
    oh: int
    ow: int
    step: int
    results: int


@native(StoreRowArguments)
def store_row(job, row, image, channel, od, oh, ow, step, results):
    """Finish every `step`-th element of a row, and store it to the output from (od, oh, ow) on."""
    s = read_shape(job, SHAPE)
    bias = pointer_at(job[AT.bias], row)[channel]
    if step > 1:
        for j in range(results):
            keep_scalar()
            row[j] = row[j * step]
    for j in range(results):
        row[j] += bias
    at = image * s.out_strides[0] + channel * s.out_strides[1] + od * s.out_strides[2]
    at += oh * s.out_strides[3] + ow * s.out_strides[4]
    finish_tile(job, row, results, 1, results, True, at, 0, s.out_strides[4], NOT_FLAT)
    out = pointer_at(job[AT.out], row)
    move_rows(row, 0, 0, 1, results, out, at, 0, s.out_strides[4], False, job[AT.lanes])


@inline
def copy_row(job, s, row, image, channel, in_d, in_h, first, step, count):
    """Copy `count` elements `first, first + step, ...` of a row of the padded input.

    `in_d` and `in_h` come from `padded_index`: where one is -1 the row lies outside.
    """
    at = image * s.in_strides[0] + channel * s.in_strides[1]
    at += in_d * s.in_strides[2] + in_h * s.in_strides[3]
    x, size = behind(job[AT.x], at, job[AT.in_size]), s.size[2] if in_d >= 0 and in_h >= 0 else 0
    call(job[AT.fill_halo], CopyRunArguments(row, 0, x, job, channel, 1, size, first, step, count))


@inline
def load_tile(job, table, s, tile, row, seen, image, channel, d, h, w):
    """Copy what the outputs of a tile read, the first of them (d, h, w), into a part of a tile.

    `tile` points at its first vector: of real parts, or of imaginary ones.
    """
    lanes = job[AT.lanes]
    columns, width = table[AT_TABLE.columns], 2 * job[AT.lanes]
    is_signal = table[AT_TABLE.is_signal] != 0
    d0, h0, first = first_read(s, 0, d), first_read(s, 1, h), first_read(s, 2, w)
    for r1 in range(table[AT_TABLE.rows]):
        in_h = padded_index(h0 if is_signal else h0 + r1, s.size[1], s.padding_mode[1])
        for r0 in range(table[AT_TABLE.depth]):
            in_d = padded_index(d0 + r0, s.size[0], s.padding_mode[0])
            begin = first + r1 * columns if is_signal else first
            copy_row(job, s, row, image, channel, in_d, in_h, begin, 1, columns)
            target = shift(tile, (r1 * table[AT_TABLE.pitch] + r0) * width)
            step, vectors = table[AT_TABLE.column], columns // lanes
            call(job[CALLED.move], MoveArguments(target, step, row, lanes, vectors, seen))


@inline
def collect_row(job, table, tile, row, seen, at, elements):
    """Copy so many elements of a row of a part of a tile to where they are neighbours."""
    lanes = job[AT.lanes]
    source, step = shift(tile, at * 2 * lanes), table[AT_TABLE.column]
    vectors = (elements + lanes - 1) // lanes
    call(job[CALLED.move], MoveArguments(row, lanes, source, step, vectors, seen))


@inline
def store_tile(job, table, s, tile, row, seen, image, channel, d, h, w):
    """Store the outputs of a part of a tile, the first of them (d, h, w)."""
    columns, step = table[AT_TABLE.columns], s.stride[2]
    count = min(table[AT_TABLE.output_2], s.output[2] - w)
    if table[AT_TABLE.is_signal] != 0:
        for r1 in range(table[AT_TABLE.rows]):
            begin = (r1 * columns + step - 1) // step
            end = min(((r1 + 1) * columns + step - 1) // step, count)
            if begin < end:
                collect_row(job, table, tile, row, seen, r1, columns)
                results = shift(row, begin * step - r1 * columns)
                place = image, channel, d, h, w + begin
                call(job[CALLED.store], StoreRowArguments(job, results, *place, step, end - begin))
        return
    for i in range(min(table[AT_TABLE.output_1], s.output[1] - h)):
        for j in range(min(table[AT_TABLE.output_0], s.output[0] - d)):
            at = i * s.stride[1] * table[AT_TABLE.pitch] + j * s.stride[0]
            collect_row(job, table, tile, row, seen, at, (count - 1) * step + 1)
            place = image, channel, d + j, h + i, w
            call(job[CALLED.store], StoreRowArguments(job, row, *place, step, count))
