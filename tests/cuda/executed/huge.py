"""Arrays of more than 2^31 elements: the last blocks of a grid are executed, in sparse memory.

    python -m tests.cuda.executed.huge

Every element of the input that these blocks read has a value that depends on its place, and the
outputs that they store are compared with the definition: small problems have no 64-bit addresses.
"""

from __future__ import annotations

import itertools
import sys
import warnings
from typing import Any

import numpy as np

from numbaconv.cuda import memory, toolkit
from numbaconv.cuda.convolution import Convolution, storage
from numbaconv.cuda.workspace import work_on
from numbaconv.problem.forward import memory_strides
from numbaconv.problem.shape import ZEROS, ConvShape
from tests.cuda.executed.device import GPU, installed, to_device
from tests.cuda.executed.memory import BASE, Memory

BYTES = 1 << 38
LAST_BLOCKS = 2


class Huge:
    """A flat array whose pages exist only where they are touched."""

    def __init__(self, count: int, dtype: np.dtype) -> None:
        address = GPU.memory.allocate_huge(count * dtype.itemsize)
        self.first = (address - BASE) // dtype.itemsize
        self.elements = GPU.memory.data.view(dtype)
        interface = {"data": (address, False), "shape": (count,), "typestr": dtype.str}
        self.shadow = np.asarray(memory._Memory(interface | {"version": 3}, self))

    def put(self, index: Any, values: Any) -> None:
        self.elements[self.first + index] = values

    def get(self, index: Any) -> Any:
        return self.elements[self.first + index]


def value(index: Any) -> Any:
    """Element of the input at a place: a small integer."""
    return (index * 2654435761 >> 7) % 7 - 3


def problem(
    n: int,
    c_in: int,
    size: tuple[int, int],
    c_out: int,
    kernel: int,
    last: bool = False,
    groups: int = 1,
) -> ConvShape:
    """A layer with as much padding as keeps its size."""
    pad, one, image = kernel // 2, (1, 1, 1), (1, *size)
    return ConvShape(
        n,
        groups,
        c_in // groups,
        c_out // groups,
        image,
        (1, kernel, kernel),
        one,
        one,
        (0, pad, pad),
        image,
        (ZEROS,) * 3,
        memory_strides(c_in, image, last),
        memory_strides(c_out, image, last),
    )


def outputs_of(conv: Convolution, block: int) -> tuple[int, Any, Any]:
    """Group, output channels and columns of a block."""
    s = conv.shape
    (tile,) = (tile for tile in conv.available if repr(tile) in conv.name)
    m_tiles, columns = -(-s.c_out // tile.bm), s.n * s.pixels
    column, row = divmod(block, m_tiles)
    group, across = divmod(column, -(-columns // tile.bn))
    channels = np.arange(row * tile.bm, min((row + 1) * tile.bm, s.c_out))
    return group, channels, np.arange(across * tile.bn, min((across + 1) * tile.bn, columns))


def expected(s: ConvShape, x: Huge, w: Any, bias: Any, place: tuple[int, Any, Any]) -> Any:
    """Fill what a block reads; (where its outputs lie, what they are)."""
    group, channels, columns = place
    image, pixel = np.divmod(columns, s.pixels)
    h, v = np.divmod(pixel, s.output[2])
    rows = group * s.c_out + channels
    total = np.tile(bias[rows][:, None], len(columns)).astype(float)
    for kh, kw in itertools.product(*map(range, s.kernel[1:])):
        at_h, at_v = h - s.padding[1] + kh, v - s.padding[2] + kw
        inside = (at_h >= 0) & (at_h < s.size[1]) & (at_v >= 0) & (at_v < s.size[2])
        for c in range(s.c_in):
            at = image * s.in_strides[0] + (group * s.c_in + c) * s.in_strides[1]
            at = at + at_h * s.in_strides[3] + at_v * s.in_strides[4]
            read = np.where(inside, value(at), 0)
            x.put(at[inside], read[inside])
            total += np.outer(w[rows, c, 0, kh, kw], read)
    at = image * s.out_strides[0] + h * s.out_strides[3] + v * s.out_strides[4]
    return rows[:, None] * s.out_strides[1] + at, total


def check(label: str, s: ConvShape, name: str) -> bool:
    """Execute the last blocks of a problem; whether all they store is right."""
    GPU.begin()
    dtype = np.dtype(name)
    conv = Convolution(s, storage(dtype), "ieee", toolkit.device())
    assert conv.splits == 1
    x, y = (Huge(s.n * strides[0], dtype) for strides in (s.in_strides, s.out_strides))
    rng = np.random.default_rng(0)
    w = rng.integers(-2, 3, (conv.rows, s.c_in, *s.kernel)).astype(dtype)
    rows = np.zeros((conv.rows, conv.pitch), dtype)
    order = np.moveaxis(w, 1, -1) if conv.channels_inside else w
    rows[:, : s.c_in * s.taps] = order.reshape(conv.rows, -1)
    bias = rng.integers(-2, 3, conv.rows).astype(conv.sum)
    weights, biases = to_device(rows.reshape(-1)), to_device(bias)
    places = [outputs_of(conv, conv.blocks - 1 - i) for i in range(LAST_BLOCKS)]
    wanted = [expected(s, x, w, bias, place) for place in places]
    GPU.only = conv.blocks - LAST_BLOCKS, conv.blocks
    try:
        with work_on({}, None) as workspace:
            operands = (memory.shadow("array", a) for a in (weights, biases))
            conv.run(x.shadow, *operands, y.shadow, workspace)
    finally:
        GPU.only = None
    different = sum(int((y.get(at) != total.astype(dtype)).sum()) for at, total in wanted)
    reach = max(int(at.max()) for at, _ in wanted) / 2**31
    print(f"{label}: stored up to {reach:.2f} x 2^31, {different} differ", flush=True)
    return different == 0


CASES = (
    ("many images", problem(600, 64, (250, 300), 64, 3), "float32"),
    ("channels last", problem(600, 64, (250, 300), 64, 3, last=True), "float32"),
    ("float16", problem(600, 64, (250, 300), 128, 3), "float16"),
    ("float16, channels last", problem(600, 64, (250, 300), 128, 3, last=True), "float16"),
    ("images of nearly 2^31", problem(2, 127, (4096, 4096), 127, 3), "float32"),
    ("the same, channels last", problem(2, 124, (4096, 4096), 124, 1, last=True), "float32"),
    ("groups", problem(300, 96, (250, 300), 192, 3, groups=3), "float32"),
    ("float64", problem(300, 64, (250, 300), 80, 3), "float64"),
)

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with installed():
        GPU.memory = Memory(BYTES, sparse=True)
        right = [check(*case) for case in CASES]
    print(f"{sum(right)} of {len(right)} are right")
    sys.exit(not all(right))
