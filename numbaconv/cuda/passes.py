"""The kernels before and after the convolution, element by element in a grid-stride loop.

`make_move` copies between arrays of any strides and dtypes, which is how what does not lie as the
kernels read it gets there; `make_second_pass` adds up the parts of split sums, always in the same
order, so that a result has the same bits each time.
"""

from typing import Any

import numpy as np
from numba import cuda, types

from numbaconv.cuda.device import (
    device,
    image_pixels,
    make_finish,
    output_offset,
    read_shape,
    same,
    sum_type,
)
from numbaconv.cuda.intrinsics import (
    SIMULATED,
    float32,
    float_of_bits,
    from_half,
    int32,
    int64,
    load,
    load_header,
    quotient,
    store,
    to_half,
    to_tf32,
    uint16,
)
from numbaconv.cuda.kernels import Source
from numbaconv.cuda.problem import SHAPE, SPLITS

THREADS = 256
MOST_BLOCKS = 4096
MOST_AXES = 6
SIGN_OF_HALF = 0x8000
COUNT, TO_START, FROM_START, NEGATE, EXTENT = range(5)
TO_STEP = EXTENT + MOST_AXES
FROM_STEP = TO_STEP + MOST_AXES
MOVE_ENTRIES = FROM_STEP + MOST_AXES


def grid(count: int) -> tuple[int, int]:
    """Blocks and threads for so many elements, which the threads take in turn."""
    if SIMULATED:  # where each thread takes as long to start as thousands elsewhere
        return 1, 2
    return min(max(-(-count // THREADS), 1), MOST_BLOCKS), THREADS


@device
def first_and_step():
    """Return the first element of a thread, and the step to its next."""
    step = int64(cuda.gridDim.x) * cuda.blockDim.x
    return int64(cuda.blockIdx.x) * cuda.blockDim.x + cuda.threadIdx.x, step


def move_job(target: np.ndarray, source: np.ndarray, negate: bool) -> np.ndarray:
    """Return what `make_move`'s kernel knows: the shape and both arrays' strides in elements."""
    job = np.zeros(MOVE_ENTRIES, np.int64)
    axes = target.ndim
    job[COUNT], job[NEGATE] = target.size, negate
    job[TO_START], job[FROM_START] = start(target), start(source)
    job[EXTENT : EXTENT + MOST_AXES] = (1,) * (MOST_AXES - axes) + target.shape
    for steps, array in ((TO_STEP, target), (FROM_STEP, source)):
        last = steps + MOST_AXES
        job[last - axes : last] = np.array(array.strides, np.int64) // array.itemsize
    return job


def start(array: np.ndarray) -> int:
    """Elements from the lowest address of an array to its first element."""
    back = ((n - 1) * -step for n, step in zip(array.shape, array.strides, strict=True) if step < 0)
    return sum(back) // array.itemsize if array.size else 0


def _stored(dtype: str) -> Any:
    return uint16 if dtype == "float16" else getattr(types, dtype)


def make_move(source: str, target: str) -> Source:
    """Return the kernel that copies from one dtype, or to "tf32", to another: (x, y, job)."""
    read_type = _stored(source)
    write_type = float32 if target == "tf32" else _stored(target)
    if source == target:
        convert = same
    elif target == "tf32":
        widen = from_half if source == "float16" else float32

        @device
        def convert(value):
            return float_of_bits(to_tf32(widen(value)))

    elif target == "float16":
        widen = from_half if source == "float16" else float32

        @device
        def convert(value):
            return to_half(widen(value))

    elif source == "float16":

        @device
        def convert(value):
            return write_type(from_half(value))

    else:
        convert = write_type
    if source == "float16":  # what is read are its bits

        @device
        def negative(value):
            return uint16(value ^ uint16(SIGN_OF_HALF))

    else:

        @device
        def negative(value):
            return read_type(-value)

    def move(x, y, job):
        first, step = first_and_step()
        for i in range(first, load(job, COUNT, int64), step):
            at_x, at_y = load(job, FROM_START, int64), load(job, TO_START, int64)
            rest = i
            for axis in range(MOST_AXES - 1, -1, -1):
                extent = load(job, EXTENT + axis, int64)
                outer = rest // extent
                index = rest - outer * extent
                at_x += index * load(job, FROM_STEP + axis, int64)
                at_y += index * load(job, TO_STEP + axis, int64)
                rest = outer
            value = load(x, at_x, read_type)
            if load(job, NEGATE, int64) != 0:
                value = negative(value)
            store(y, at_y, convert(value))

    return Source(move, THREADS)


def make_second_pass(dtype: str) -> Source:
    """Return the kernel that adds up the parts of the sums: (parts, w, bias, y, job).

    The parts lie densely, in the order of the output's axes in memory.
    """
    total = sum_type(dtype)
    finish = make_finish(dtype)

    def second_pass(parts, w, bias, y, job):
        header = load_header(job)
        s = read_shape(header, SHAPE)
        channels, pixels = s.groups * s.c_out, image_pixels(s)
        count = int64(s.n) * channels * pixels
        first, step = first_and_step()
        for i in range(first, count, step):
            value = total(0)
            for part in range(header[SPLITS]):
                value = total(value + load(parts, part * count + i, total))
            if s.out_strides[1] == 1:
                n = quotient(i, channels)
                channel = int32(i) - n * channels
            else:
                row = quotient(i, pixels)
                image = quotient(row, channels)
                channel = row - image * channels
                n = image * pixels + int32(i) - row * pixels
            at = output_offset(n, s) + int64(channel) * s.out_strides[1]
            store(y, at, finish(value, bias, channel, header))

    return Source(second_pass, THREADS)
