"""The intrinsics as Numba's CUDA simulator runs them: a thread is a Python thread.

An address is a flat array. What the lanes of a warp exchange goes through a dict between two
barriers of the block, which is right as long as all of its warps get there together.
"""

import threading
from typing import Any

import numpy as np

from numbaconv.cuda.problem import HEADER
from numbaconv.cuda.tiles import WARP, WARPGROUP, turned

_words: dict[int, Any] = {}


def _warp_values(value):
    """Return what all lanes of this thread's warp passed, and this thread's lane."""
    thread: Any = threading.current_thread()
    _words[thread.thread_id] = value
    thread.syncthreads()
    first = thread.thread_id // WARP * WARP
    values = [_words[first + lane] for lane in range(WARP)]
    thread.syncthreads()
    return values, thread.thread_id - first


def read_thread():
    """Number of the thread in its block."""
    thread: Any = threading.current_thread()
    return thread.thread_id


def within(i, size):
    """Whether 0 <= i < size."""
    return 0 <= i < size


def quotient(a, b):
    """A // b."""
    return a // b


def scaled(number, magic, shift):
    """Number * magic >> shift in 64 bits; the magic number has 32, and no sign."""
    return int(number) * (int(magic) & 0xFFFFFFFF) >> int(shift)


class _Later:
    """A flat array from some element on, maybe one before its first, as an address would be."""

    def __init__(self, array, start):
        self.array, self.start, self.dtype = array, start, array.dtype

    def __getitem__(self, index):
        return self.array[self.start + index]

    def __setitem__(self, index, value):
        self.array[self.start + index] = value


def shared_address(array):
    """Address of a shared array."""
    return _Later(array, 0)


def move_on(address, count, dtype):
    """Address of element `count` of the array at an address."""
    if isinstance(address, _Later):
        return _Later(address.array, address.start + count)
    return _Later(address, count)


def flip(address, count, dtype):
    """Address that differs by the bits of `count` elements, which is a power of two."""
    return _Later(address.array, address.start ^ count)


def load(address, index, dtype):
    """Element `index` of a flat array; `dtype` may be wider than the array's."""
    wanted = np.dtype(str(dtype))
    each = wanted.itemsize // address.dtype.itemsize
    if each <= 1:
        return address[index]
    stored = np.array([address[index * each + i] for i in range(each)], address.dtype)
    return stored.view(wanted)[0]


def load_header(address):
    """Return the header of a job as a tuple."""
    return tuple(int(address[i]) for i in range(HEADER))


def load_two(address, index):
    """Two integers, from one of an even number on."""
    return address[index], address[index + 1]


def _lanes(array):
    return 16 // array.dtype.itemsize


def load_wide(address, index, dtype):
    """128 bits from element `index` on; `dtype` may be wider than the array's."""
    wanted = np.dtype(str(dtype))
    first = index * (wanted.itemsize // address.dtype.itemsize)
    stored = np.array([address[first + i] for i in range(_lanes(address))], address.dtype)
    return tuple(stored.view(wanted))


def store(address, index, value):
    """Set element `index` of a flat array."""
    address[index] = value


def make_read(count, gap, dtype):
    """Reads `count` times 128 bits of a shared array, `gap` elements apart."""

    def read(address, index):
        lanes = _lanes(address)
        return tuple(address[index + i * gap + j] for i in range(count) for j in range(lanes))

    return read


def is_aligned(address):
    """Whether 128 bits can be stored at an address: anywhere, here."""
    return True


def store_wide(address, index, values):
    """Set whole vectors of 128 bits from element `index` on."""
    for i, value in enumerate(values):
        address[index + i] = value


def store_apart(address, apart, values):
    """Set elements from an address on, each `apart` from the one before."""
    for i, value in enumerate(values):
        address[i * apart] = value


def make_copy(dtype, count):
    """(to, address, index, inside): copies `count` elements, at once, or zeros."""
    wanted = np.dtype(str(dtype))

    def copy(to, address, index, inside):
        found = [load(address, index + i, dtype) if inside else 0 for i in range(count)]
        for i, value in enumerate(np.array(found, wanted).view(to.dtype)):
            to[i] = value

    return copy


def commit():
    """Nothing is left to do."""


def fence_proxy():
    """Nothing reads by itself."""


def make_wait(pending):
    """Nothing to wait for."""
    return commit


def make_zeros(count, dtype):
    """Returns `count` zeros."""
    return lambda: (np.dtype(str(dtype)).type(0),) * count


def make_outer(rows, columns):
    """(sums, a, b) -> sums + outer(a, b)."""

    def outer(sums, a, b):
        with np.errstate(over="ignore", invalid="ignore"):
            products = (a[i] * b[j] for i in range(rows) for j in range(columns))
            return tuple(c + product for c, product in zip(sums, products, strict=True))

    return outer


def make_multiply(tile, words, depth):
    """(sums, a_at, b_at): adds the product of `depth` rows of two tiles to the sums."""
    a_pitch, b_pitch = tile.pitches(words)
    read_rows = make_read(tile.m // words, tile.bm // tile.m * words, None)
    read_columns = make_read(tile.n // words, tile.bn // tile.n * words, None)
    outer = make_outer(tile.m, tile.n)

    def multiply(sums, a_at, b_at):
        for k in range(depth):
            regM, regN = read_rows(a_at, k * a_pitch), read_columns(b_at, k * b_pitch)
            sums = outer(sums, regM, regN)
        return sums

    return multiply


def make_slide(row, width, taps):
    """(sums, x, w): adds a row of taps to one row of sums."""

    def slide(sums, x, w):
        sums = list(sums)
        for c in range(width):
            for j in range(taps):
                sums[row * width + c] = sums[row * width + c] + w[j] * x[c + j]
        return tuple(sums)

    return slide


def make_tap_sums(rows, taps, stride, dtype):
    """(sums, patch, at, pitch): adds the products of 4 x 4 values with what lies under them."""
    down, across = stride

    def tap_sums(sums, patch, at, pitch):
        sums = list(sums)
        for i, j, kh, kw in np.ndindex(4, 4, rows, taps):
            line = (i * down + kh) * across + kw % across
            x = at[line * pitch + j + kw // across]
            sums[kh * taps + kw] = sums[kh * taps + kw] + patch[4 * i + j] * x
        return tuple(sums)

    return tap_sums


def make_tap_products(rows, taps, stride, dtype):
    """(sums, value, at, pitch, down, across): adds the products of one value."""

    def tap_products(sums, value, at, pitch, down, across):
        sums = list(sums)
        for kh, kw in np.ndindex(rows, taps):
            place = kh * down * pitch + kw * across
            if stride:
                place = (kh * stride + kw % stride) * pitch + kw // stride
            sums[kh * taps + kw] = sums[kh * taps + kw] + value * at[place]
        return tuple(sums)

    return tap_products


def make_patch(rows, columns, dtype):
    """(address, at, row_step, column_step): reads rows x columns elements."""

    def patch(array, at, row_step, column_step):
        return tuple(
            array[at + i * row_step + j * column_step] for i in range(rows) for j in range(columns)
        )

    return patch


def make_gather(rows, columns, dtype):
    """(address, at, row_step, column_step, rows_inside, columns_inside): reads rows x columns."""
    zero = np.dtype(str(dtype)).type(0)

    def gather(address, at, row_step, column_step, rows_inside, columns_inside):
        return tuple(
            address[at + i * row_step + j * column_step]
            if rows_inside >> i & columns_inside >> j & 1
            else zero
            for i in range(rows)
            for j in range(columns)
        )

    return gather


def _weighted(factors, values) -> Any:
    pairs = zip(factors, values, strict=True)
    return sum(float(factor) * value for factor, value in pairs if factor)


def make_transform(left, right):
    """(values) -> left @ values @ right^T, leaving out the zeros of the matrices."""
    columns = len(right[0])

    def transform(values):
        down = [values[j::columns] for j in range(columns)]
        lines = [[_weighted(row, column) for column in down] for row in left]
        return tuple(_weighted(row, line) for line in lines for row in right)

    return transform


def make_row(rows, columns):
    """(sums, i) -> row i."""
    return lambda sums, i: sums[i * columns : (i + 1) * columns]


def make_load_matrix(count, gap):
    """Reads `count` times four 8 x 4 blocks of words, whose rows the lanes give."""

    def load_matrix(address):
        rows, lane = _warp_values(address)
        return tuple(
            rows[8 * block + lane // 4][lane % 4 + i * gap]
            for i in range(count)
            for block in range(4)
        )

    return load_matrix


def make_warp_multiply(rows, columns, kind):
    """(sums, a, b) -> sums + a @ b over a warp's tiles of 16 x 8."""
    storage = np.float32 if kind.dtype == "tf32" else np.float16

    def multiply(sums, a, b):
        if kind.rounded:
            b = tuple(to_tf32(float_of_bits(word)) for word in b)
        values, lane = _warp_values((a, b))
        # Lane 4 r + t has row r (and r + 8) of a, column r of b; words t and t + 4 along K.
        A = np.array([v[0] for v in values], np.uint32).reshape(8, 4, rows, 2, 2)
        B = np.array([v[1] for v in values], np.uint32).reshape(8, 4, columns, 2)
        A = A.transpose(2, 4, 0, 3, 1)
        left = np.ascontiguousarray(A).reshape(rows * 16, 8).view(storage).astype(np.float32)
        right = np.ascontiguousarray(B.transpose(2, 0, 3, 1)).reshape(columns * 8, 8)
        right = right.view(storage).astype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            product = left @ right.T
        m, n = lane // 4, lane % 4 * 2
        return tuple(
            sums[(i * columns + j) * 4 + e] + product[i * 16 + m + e // 2 * 8, j * 8 + n + e % 2]
            for i in range(rows)
            for j in range(columns)
            for e in range(4)
        )

    return multiply


def make_describe(words):
    """(address) -> what names a tile: the address itself, here."""
    return lambda address: address


def make_begin_products(kind):
    """(sums, a, b) -> sums + a @ b, at once: of each 16 rows of this thread's warp, two."""
    storage = np.float32 if kind.dtype == "tf32" else np.float16
    blocks, columns, words = kind.tile.m // 16, kind.tile.n, kind.tile.bk

    def values(tile: Any, rows: Any) -> Any:
        places = [[i * words + turned(i, k, words // 4) for k in range(words)] for i in rows]
        found = np.array(tile.array[tile.start + np.array(places)], np.uint32)
        return found.view(storage).astype(np.float32)

    def begin(sums, a, b):
        warp, lane = divmod(read_thread() % (WARPGROUP * WARP), WARP)
        first = [64 * block + warp * 16 + lane // 4 for block in range(blocks)]
        rows = [row + lower for row in first for lower in (0, 8)]
        with np.errstate(over="ignore", invalid="ignore"):
            product = values(a, rows) @ values(b, range(columns)).T
        return tuple(
            sums[(i * columns // 8 + j) * 4 + e]
            + product[2 * i + e // 2, 8 * j + lane % 4 * 2 + e % 2]
            for i in range(blocks)
            for j in range(columns // 8)
            for e in range(4)
        )

    return begin


def make_finish_products(kind):
    """(sums) -> sums: there is nothing to wait for."""
    return lambda sums: sums


def to_tf32(value):
    """Round to 10 bits of mantissa, ties away from zero; the word."""
    word = int(np.array([value], np.float32).view(np.uint32)[0])
    if word & 0x7F800000 == 0x7F800000:  # infinity and NaN stay what they are
        return np.uint32(word)
    return np.uint32((word + 0x1000) & 0xFFFFE000)


def to_half(value):
    """Round to float16; its bits."""
    with np.errstate(over="ignore"):
        return np.array([value], np.float32).astype(np.float16).view(np.uint16)[0]


def from_half(bits):
    """Value of a float16's bits."""
    return np.float32(np.array([bits], np.uint16).view(np.float16)[0])


def divide_nearly(a, b):
    """A / b."""
    return np.float32(a / b)


def bits_of_float(value):
    """Bits of a float32."""
    return np.float32(value).view(np.uint32)


def float_of_bits(word):
    """The float32 of some bits."""
    return np.uint32(word).view(np.float32)
