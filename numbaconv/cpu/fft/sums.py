"""Sums over the taps of a tile, one by one: for tiles that are not finite."""

from typing import NamedTuple

from numbaconv.codegen.arguments import Elements, Indices
from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.pointers import call, indices_at
from numbaconv.cpu.fft.columns import CALLED
from numbaconv.cpu.fft.layout import AT_TABLE
from numbaconv.cpu.fft.rows import StoreRowArguments, copy_row
from numbaconv.cpu.job import AT, SHAPE
from numbaconv.cpu.packing.rows import fill
from numbaconv.problem.padding_modes import padded_index
from numbaconv.problem.shape import kernel_taps, read_shape
from numbaconv.problem.taps import first_read


class SumOutputsArguments(NamedTuple):
    """What `sum_outputs` takes.

    Attributes
    ----------
    job, weights : pointer
        The job; the weights as they are, [output channel][input channel][tap].
    sums, row : pointer
        Room for as many elements as a tile has columns, twice.
    image, channel : int
        Image and output channel.
    d, h, w : int
        First output of the tile.
    """

    job: Indices
    weights: Elements
    sums: Elements
    row: Elements
    image: int
    channel: int
    d: int
    h: int
    w: int


@inline
def add_row(sums, row, weight, count):
    """Add a row times a weight to the sums."""
    for j in range(count):
        sums[j] += row[j] * weight


@native(SumOutputsArguments)
def sum_outputs(job, weights, sums, row, image, channel, d, h, w):
    """Compute and store the outputs of a tile of one channel."""
    s, table = read_shape(job, SHAPE), indices_at(job[AT.table])
    taps, first_channel = kernel_taps(s), channel // s.c_out * s.c_in
    end_w = min(w + table[AT_TABLE.output_2], s.output[2])
    for od in range(d, min(d + table[AT_TABLE.output_0], s.output[0])):
        for oh in range(h, min(h + table[AT_TABLE.output_1], s.output[1])):
            for ow in range(w, end_w, table[AT_TABLE.columns]):
                count = min(table[AT_TABLE.columns], end_w - ow)
                fill(sums, count, 0, job[AT.lanes])
                for k in range(s.c_in * taps):
                    c, tap = k // taps, k % taps
                    kd, kh = tap // (s.kernel[1] * s.kernel[2]), tap // s.kernel[2] % s.kernel[1]
                    at_d = first_read(s, 0, od) + kd * s.dilation[0]
                    at_h = first_read(s, 1, oh) + kh * s.dilation[1]
                    first = first_read(s, 2, ow) + tap % s.kernel[2] * s.dilation[2]
                    in_d = padded_index(at_d, s.size[0], s.padding_mode[0])
                    in_h = padded_index(at_h, s.size[1], s.padding_mode[1])
                    of = first_channel + c
                    copy_row(job, s, row, image, of, in_d, in_h, first, s.stride[2], count)
                    add_row(sums, row, weights[channel * s.c_in * taps + k], count)
                place = image, channel, od, oh, ow
                call(job[CALLED.store], StoreRowArguments(job, sums, *place, 1, count))
