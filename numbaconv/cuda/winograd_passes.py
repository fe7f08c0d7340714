"""The passes of Winograd's minimal filtering: to values at the points, and from products back.

A thread of each takes one tile of a channel (of the weights, the taps of one input channel under
one output channel) at a time, in a grid-stride loop, and transforms it in registers. Threads are
neighbours where their values at a point are neighbours in memory: along the tiles, or the channels.
The values of one tile lie as far apart as the matrices of the points.
"""

import functools
from typing import Any

import numpy as np
from numba import cuda

from numbaconv.cuda import passes
from numbaconv.cuda.device import device, make_finish, read_shape
from numbaconv.cuda.intrinsics import (
    float32,
    int32,
    int64,
    load_header,
    make_gather,
    make_row,
    make_transform,
    move_on,
    quotient,
    store,
    store_apart,
    within,
)
from numbaconv.cuda.kernels import Kernel, Source
from numbaconv.cuda.memory import address, argument, launch, settle, upload
from numbaconv.cuda.passes import THREADS
from numbaconv.cuda.problem import ACTIVATION, HAS_BIAS, PITCH, PRODUCT, SHAPE, make_job
from numbaconv.cuda.winograd import Tiling, extent_of
from numbaconv.cuda.workspace import Workspace
from numbaconv.problem.points import TAPS
from numbaconv.problem.shape import ConvShape
from numbaconv.problem.toom_cook import Matrices, Matrix, matrices

Outputs = tuple[int, int]
BLOCKS = 2  # for a multiprocessor to hold: 128 registers for the 36 values of a tile
ALL = int32(-1)  # rows or columns are inside
_IDENTITY: Matrix = ((1,),)  # type: ignore[assignment]
_ALONE = Matrices(_IDENTITY, _IDENTITY, _IDENTITY)  # of an axis with one tap


def _matrices(outputs: Outputs) -> tuple[Matrices, Matrices]:
    down, across = (matrices(m) if m > 1 else _ALONE for m in outputs)
    return down, across


def make_find_tile(outputs: Outputs) -> Any:
    """Return the function that says where a tile begins: image, and output coordinates."""
    down, across = outputs

    @device
    def find_tile(tile, s):
        columns = int32((s.output[2] + across - 1) // across)
        rows = int32((s.output[1] + down - 1) // down)
        line = quotient(tile, columns)
        plane = quotient(line, rows)
        image = quotient(plane, s.output[0])
        h, w = (line - plane * rows) * down, (tile - line * columns) * across
        return image, plane - image * s.output[0], h, w

    return find_tile


@device
def find_item(i, channels, tiles, strides):
    """Channel and tile of an element of a matrix of both, in the order that they have in memory."""
    if strides[1] == 1:
        tile = quotient(i, channels)
        return int32(i) - tile * channels, tile
    channel = quotient(i, tiles)
    return channel, int32(i) - channel * tiles


def make_inside(extent: int) -> Any:
    """Return the function that has a bit for each of `extent` places that is inside of an axis."""

    @device
    def inside(first, size):
        bits = int32(0)
        for i in range(extent):
            if within(first + i, size):
                bits |= int32(1) << int32(i)
        return int32(bits)

    return inside


def make_evaluate(outputs: Outputs) -> Source:
    """Return the kernel that evaluates the tiles of an input: (x, values, first, count, job).

    It takes `count` tiles from the first on. What the product has room for besides gets the values
    of a tile too, and nothing reads what comes of them.
    """
    down, across = _matrices(outputs)
    extents = tuple(map(extent_of, outputs))
    find_tile, gather = make_find_tile(outputs), make_gather(*extents, float32)
    rows_inside, columns_inside = (make_inside(extent) for extent in extents)
    transform = make_transform(down.inputs, across.inputs)

    def evaluate(x, values, first, count, job):
        header = load_header(job)
        s, product = read_shape(header, SHAPE), read_shape(header, PRODUCT)
        channels, tiles, strides = s.groups * s.c_in, product.size[2], product.in_strides
        for i in range(cuda.grid(1), channels * tiles, cuda.gridsize(1)):
            channel, tile = find_item(i, channels, tiles, strides)
            image, d, h, w = find_tile(int32(first + tile if tile < count else 0), s)
            d, h, w = d - s.padding[0], h - s.padding[1], w - s.padding[2]
            plane = move_on(x, int64(image) * s.in_strides[0] + channel * s.in_strides[1], float32)
            at = d * s.in_strides[2] + h * s.in_strides[3] + w * s.in_strides[4]
            rows = rows_inside(h, s.size[1]) if within(d, s.size[0]) else int32(0)
            columns = columns_inside(w, s.size[2])
            found = gather(plane, at, s.in_strides[3], s.in_strides[4], rows, columns)
            to = move_on(values, int64(channel) * strides[1] + tile * strides[4], float32)
            store_apart(to, channels * strides[1], transform(found))

    return Source(evaluate, THREADS, BLOCKS)


def make_evaluate_taps(outputs: Outputs) -> Source:
    """Return the kernel that evaluates weights: (w, values, job).

    They lie densely, row by row; a row of values has the pitch of the product's weights, and zeros
    behind its channels.
    """
    down, across = _matrices(outputs)
    rows, columns = (TAPS if m > 1 else 1 for m in outputs)
    taps, gather = rows * columns, make_gather(rows, columns, float32)
    transform = make_transform(down.taps, across.taps)

    def evaluate_taps(w, values, job):
        header = load_header(job)
        s, pitch = read_shape(header, SHAPE), header[PITCH]
        count = s.groups * s.c_out * pitch
        for i in range(cuda.grid(1), count, cuda.gridsize(1)):
            row = quotient(i, pitch)
            channel = int32(i) - row * pitch
            there = ALL if channel < s.c_in else int32(0)
            of_row = move_on(w, int64(row) * s.c_in * taps, float32)
            found = gather(of_row, channel * taps, columns, 1, there, there)
            store_apart(move_on(values, int64(i), float32), count, transform(found))

    return Source(evaluate_taps, THREADS, BLOCKS)


def make_interpolate(outputs: Outputs) -> Source:
    """Return the kernel that makes outputs of products: (products, bias, y, first, count, job).

    It adds the bias and activates. What tiles have beyond the output is not stored.
    """
    down, across = _matrices(outputs)
    rows, columns = map(extent_of, outputs)
    high, wide = outputs
    find_tile, gather = make_find_tile(outputs), make_gather(rows, columns, float32)
    transform = make_transform(down.outputs, across.outputs)
    pick, finish = make_row(high * wide, 1), make_finish("float32")

    def interpolate(products, bias, y, first, count, job):
        header = load_header(job)
        s, product = read_shape(header, SHAPE), read_shape(header, PRODUCT)
        channels, tiles, strides = s.groups * s.c_out, product.size[2], product.out_strides
        apart = channels * strides[1]
        for i in range(cuda.grid(1), channels * tiles, cuda.gridsize(1)):
            channel, tile = find_item(i, channels, tiles, strides)
            if tile < count:
                at = move_on(products, int64(channel) * strides[1] + tile * strides[4], float32)
                found = transform(gather(at, 0, apart * columns, apart, ALL, ALL))
                image, d, h, w = find_tile(int32(first + tile), s)
                to = int64(image) * s.out_strides[0] + channel * s.out_strides[1]
                to += d * s.out_strides[2] + h * s.out_strides[3] + w * s.out_strides[4]
                for k in range(high * wide):
                    row, column = k // wide, k % wide
                    if h + row < s.output[1] and w + column < s.output[2]:
                        value = finish(pick(found, k)[0], bias, channel, header)
                        store(y, to + row * s.out_strides[3] + column * s.out_strides[4], value)

    return Source(interpolate, THREADS, BLOCKS)


evaluate_kernel = functools.cache(functools.partial(Kernel, "evaluation of inputs", make_evaluate))
evaluate_taps_kernel = functools.cache(
    functools.partial(Kernel, "evaluation of weights", make_evaluate_taps)
)
interpolate_kernel = functools.cache(functools.partial(Kernel, "interpolation", make_interpolate))


class Passes:
    """The passes of a problem on one device.

    Parameters
    ----------
    s : ConvShape
        What is computed.
    tiling : Tiling
        How it is cut.
    product : convolution.Convolution
        What computes the product of a part.
    activation : int
        Applied where the result is stored.
    """

    def __init__(self, s: ConvShape, tiling: Tiling, product: Any, activation: int) -> None:
        self.shape, self.tiling, self.product = s, tiling, product
        numbers = enumerate(tiling.product.as_tuple(), start=PRODUCT)
        settings = dict(numbers) | {ACTIVATION: activation, PITCH: product.pitch}
        self.jobs = [
            upload(make_job(s, settings | {HAS_BIAS: has_bias})) for has_bias in (False, True)
        ]
        settle()

    @property
    def weight_form(self) -> tuple[Any, ...]:
        """What decides how the values of weights lie on the device."""
        return self.tiling.outputs, *self.product.weight_form

    def weights(self, w: np.ndarray, name: str, workspace: Workspace) -> np.ndarray:
        """Return the values of dense weights at the points, in the buffer of a name."""
        count = self.product.rows * self.product.pitch
        values = workspace.buffer(name, count, w.dtype)
        arguments = address(w), address(values), argument(self.jobs[0])
        kernel = evaluate_taps_kernel(self.tiling.outputs)
        self._launch(kernel, count // self.tiling.points, arguments, workspace)
        return values

    def run(self, x: Any, w: Any, bias: Any, y: np.ndarray, workspace: Workspace) -> None:
        """Compute as `convolution.Work.run` does, from weights that are values at the points."""
        s, tiling, job = self.shape, self.tiling, argument(self.jobs[bias is not None])
        each = tiling.product.size[2]
        inputs, outputs = s.groups * s.c_in * each, s.groups * s.c_out * each
        values = workspace.buffer("values at the points", tiling.points * inputs, y.dtype)
        products = workspace.buffer("products at the points", tiling.points * outputs, y.dtype)
        result = address(y)
        to_points = address(x), address(values)
        from_points = address(products), result if bias is None else address(bias), result
        for first in range(0, tiling.tiles, each):
            part = first, min(each, tiling.tiles - first), job
            kernel = evaluate_kernel(tiling.outputs)
            self._launch(kernel, inputs, (*to_points, *part), workspace)
            self.product.run(values, w, None, products, workspace)
            kernel = interpolate_kernel(tiling.outputs)
            self._launch(kernel, outputs, (*from_points, *part), workspace)

    def _launch(
        self, kernel: Kernel, count: int, arguments: tuple[Any, ...], workspace: Workspace
    ) -> None:
        """Launch a pass that takes so many tiles of channels."""
        launch(kernel, *passes.grid(count), workspace.stream, arguments, self.shape)
