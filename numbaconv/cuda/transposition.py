"""The pass that brings channels together, where a product is faster with them: tile by tile.

Of each image it is the transposition of a matrix, a row for each channel and a column for each
pixel. A block reads a tile along the pixels, and writes it along the channels, so that both touch
neighbouring elements.
"""

from numba import cuda, types

from numbaconv.cuda.intrinsics import SIMULATED, int32, int64, load, quotient, store
from numbaconv.cuda.kernels import Source

SIDE = 4 if SIMULATED else 32  # of a tile
THREADS = 2 if SIMULATED else 256


def blocks(images: int, rows: int, columns: int) -> int:
    """Return how many blocks transpose a matrix of each image."""
    return images * -(-rows // SIDE) * -(-columns // SIDE)


def make_transpose(dtype: str) -> Source:
    """Return the kernel that transposes matrices: (x, y, rows, columns), which are those of `x`."""
    stored, pitch = getattr(types, dtype), SIDE + 1  # so that columns too lie in different banks
    size = SIDE * pitch
    held = types.uint32 if dtype == "uint16" else stored  # whole words

    def transpose(x, y, rows, columns):
        tile = cuda.shared.array(size, held)
        down = int32((rows + SIDE - 1) // SIDE)
        matrix = quotient(cuda.blockIdx.x, down)
        row = (cuda.blockIdx.x - matrix * down) * SIDE
        across = int32((columns + SIDE - 1) // SIDE)
        image = quotient(matrix, across)
        column = (matrix - image * across) * SIDE
        first = int64(image) * rows * columns
        for i in range(cuda.threadIdx.x, SIDE * SIDE, THREADS):
            r, c = i // SIDE, i % SIDE
            if row + r < rows and column + c < columns:
                at = first + (row + r) * columns + column + c
                tile[r * pitch + c] = load(x, at, stored)
        cuda.syncthreads()
        for i in range(cuda.threadIdx.x, SIDE * SIDE, THREADS):
            c, r = i // SIDE, i % SIDE
            if row + r < rows and column + c < columns:
                store(y, first + (column + c) * rows + row + r, stored(tile[r * pitch + c]))

    return Source(transpose, THREADS)
