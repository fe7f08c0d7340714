"""Arithmetic on tuples of registers, and the tensor cores by inline PTX.

The sums of a thread are a tuple and not a local array: an array stays in registers only if the
compiler has unrolled every loop around it before it looks, and around 64 sums it had not.
"""

import itertools
from typing import Any

import numpy as np
from numba import cuda, types
from numba.cuda.extending import intrinsic

from numbaconv.cuda.compiled_memory import read_vectors
from numbaconv.cuda.emission import emitted, lanes_of

float32, int32, int64 = types.float32, types.int32, types.int64
uint16, uint32 = types.uint16, types.uint32


@intrinsic
def read_thread(typingctx):
    """Number of the thread in its block, read anew each time: nothing is kept of an earlier one."""

    def emit(e):
        return e.assemble("mov.u32 $0, %tid.x;", "=r", int32, convergent=True)

    return int32(), emitted(emit)


def make_zeros(count, dtype):
    """Return the function that returns a tuple of zeros: sums that nothing is added to yet."""
    result = types.UniTuple(dtype, count)

    @intrinsic
    def zeros(typingctx):
        return result(), emitted(lambda e: e.zeros(result))

    return zeros


def make_outer(rows, columns):
    """Return the function ``(sums, a, b) -> sums + outer(a, b)``, row by row in a tuple."""

    @intrinsic
    def outer(typingctx, sums, a, b):
        def emit(e, *packed):
            total, left, right = map(e.unpack, packed)
            for i, j in itertools.product(range(rows), range(columns)):
                at = i * columns + j
                total[at] = e.fused(sums.dtype, left[i], right[j], total[at])
            return e.pack(total)

        return sums(sums, a, b), emitted(emit)

    return outer


def make_multiply(tile, words, depth):
    """Return the function that adds the product of `depth` rows of two tiles to a thread's sums.

    ``(sums, a_at, b_at) -> sums``, where the thread's first vectors are at those addresses.
    The loop over the rows is unrolled here: the addresses are then constants, and the assembler
    reads the next row while it multiplies. The compiler leaves it as a loop.
    """
    rows, columns = tile.m, tile.n
    across, down = tile.bn // columns, tile.bm // rows
    a_pitch, b_pitch = tile.pitches(words)

    @intrinsic
    def multiply(typingctx, sums, a_at, b_at):
        dtype = sums.dtype

        def emit(e, packed, a_at, b_at):
            total = e.unpack(packed)
            a, b = e.pointer(a_at, dtype), e.pointer(b_at, dtype)
            for k in range(depth):
                left = read_vectors(e, e.step(a, k * a_pitch), dtype, rows // words, down * words)
                right = e.step(b, k * b_pitch)
                right = read_vectors(e, right, dtype, columns // words, across * words)
                for i, x in enumerate(left):
                    for j, y in enumerate(right):
                        at = i * columns + j
                        total[at] = e.fused(dtype, x, y, total[at])
            return e.pack(total)

        return sums(sums, int32, int32), emitted(emit)

    return multiply


def make_slide(row, width, taps):
    """Return the function that adds a row of taps to one row of sums: ``(sums, x, w)``.

    ``sums[row, c] += w[j] * x[c + j]`` for `width` columns.
    """

    @intrinsic
    def slide(typingctx, sums, x, w):
        def emit(e, *packed):
            total, right, left = map(e.unpack, packed)
            for c, j in itertools.product(range(width), range(taps)):
                at = row * width + c
                total[at] = e.fused(sums.dtype, left[j], right[c + j], total[at])
            return e.pack(total)

        return sums(sums, x, w), emitted(emit)

    return slide


def make_tap_sums(rows, taps, stride, dtype):
    """Return the function that adds the products of a patch with what lies under it.

    ``(sums, patch, at, pitch)``: to the sums of `rows` x `taps` taps, of 4 x 4 values and the tile
    from an address on, whose rows (and their phases, if `stride` along a row is 2) are `pitch`
    apart. They are read in vectors, each once.
    """
    down, across = stride
    lanes = lanes_of(dtype)
    vectors = -(-(3 + -(-taps // across)) // lanes)

    @intrinsic
    def tap_sums(typingctx, sums, patch, at, pitch):
        def emit(e, packed, patch, at, pitch):
            total, values = e.unpack(packed), e.unpack(patch)
            for row in range(3 * down + rows):
                x = []
                for phase in range(across):
                    line = e.pointer(at, dtype, e.multiply(pitch, row * across + phase))
                    x.append(read_vectors(e, line, dtype, vectors, lanes))
                for i in range(4):
                    kh = row - i * down
                    for kw, j in itertools.product(range(taps if 0 <= kh < rows else 0), range(4)):
                        under, k = x[kw % across][j + kw // across], kh * taps + kw
                        total[k] = e.fused(dtype, values[4 * i + j], under, total[k])
            return e.pack(total)

        return sums(sums, patch, int32, int32), emitted(emit)

    return tap_sums


def make_tap_products(rows, taps, stride, dtype):
    """Return the function that adds the products of one value with what lies under it.

    ``(sums, value, at, pitch, down, across)``: as in `make_tap_sums`, element by element; without a
    stride the taps lie `down` rows and `across` elements apart.
    """

    @intrinsic
    def tap_products(typingctx, sums, value, at, pitch, down, across):
        def emit(e, packed, value, at, pitch, down, across):
            total = e.unpack(packed)
            for kh, kw in itertools.product(range(rows), range(taps)):
                if stride:
                    place = e.multiply(pitch, kh * stride + kw % stride)
                    place = e.add(place, kw // stride)
                else:
                    place = e.multiply(pitch, e.multiply(down, kh))
                    place = e.add(place, e.multiply(across, kw))
                k = kh * taps + kw
                total[k] = e.fused(dtype, value, e.read(e.pointer(at, dtype, place)), total[k])
            return e.pack(total)

        return sums(sums, dtype, int32, int32, int32, int32), emitted(emit)

    return tap_products


def make_transform(left, right):
    """Return the function ``values -> left @ values @ right^T``, of matrices of constants.

    The values are floating numbers, and lie row by row in a tuple, as do the results. Nothing is
    multiplied by the zeros of a matrix.
    """
    rows, columns = len(left[0]), len(right[0])
    count = len(left) * len(right)

    @intrinsic
    def transform(typingctx, values):
        def emit(e, packed):
            given = e.unpack(packed)
            down = [given[j::columns] for j in range(columns)]
            lines = [[e.weighted(row, column) for column in down] for row in left]
            return e.pack([e.weighted(row, line) for line in lines for row in right])

        given = types.UniTuple(values.dtype, rows * columns)
        return types.UniTuple(values.dtype, count)(given), emitted(emit)

    return transform


def make_row(rows, columns):
    """Return the function ``(sums, i) -> row i``, which picks it without an address."""

    @intrinsic
    def row(typingctx, sums, i):
        def emit(e, packed, number):
            values = e.unpack(packed)
            return e.pack([e.pick(values[j::columns], number) for j in range(columns)])

        return types.UniTuple(sums.dtype, columns)(sums, int64), emitted(emit)

    return row


def _matrix_multiply(e, instruction, c, a, b):
    """Emit ``c + a @ b`` over the fragments of a warp: lists of values."""
    names = [f"${i}" for i in range(4 + len(a) + len(b) + 4)]
    cuts = (0, 4, 4 + len(a), 4 + len(a) + len(b), len(names))
    groups = ("{" + ", ".join(names[i:j]) + "}" for i, j in itertools.pairwise(cuts))
    constraints = ",".join(["=f"] * 4 + ["r"] * (len(a) + len(b)) + ["f"] * 4)
    text = f"{instruction} {', '.join(groups)};"
    return e.assemble(text, constraints, float32, [*a, *b, *c], count=4, convergent=True)


_TO_TF32 = "cvt.rna.tf32.f32 $0, $1;"
_MMA = "mma.sync.aligned.{}.row.col.f32.{}.f32"
_MMA_TF32 = _MMA.format("m16n8k8", "tf32.tf32")
_MMA_HALF = _MMA.format("m16n8k16", "f16.f16")
_MMA_HALF_NARROW = _MMA.format("m16n8k8", "f16.f16")


def make_warp_multiply(rows, columns, kind):
    """Return the function ``(sums, a, b) -> sums + a @ b`` of a warp, by tensor cores.

    Parameters
    ----------
    rows, columns : int
        Tiles of 16 and of 8 that the warp's sums have. A tile's four sums of each lane are
        (row, column) = (lane // 4, lane % 4 * 2), the next column, and both 8 rows below.
    kind : Kind
        What the words hold: one or two elements along K, 8 words in all. Those of `b` are rounded
        here if the kind says so; on Turing they are taken four at a time.
    """
    instructions: tuple[Any, ...]
    if kind.dtype == "tf32":
        instructions = ((_MMA_TF32, slice(0, 4), slice(0, 2)),)
    elif not kind.turing:
        instructions = ((_MMA_HALF, slice(0, 4), slice(0, 2)),)
    else:
        instructions = (
            (_MMA_HALF_NARROW, slice(0, 2), slice(0, 1)),
            (_MMA_HALF_NARROW, slice(2, 4), slice(1, 2)),
        )

    @intrinsic
    def multiply(typingctx, sums, a, b):
        def emit(e, *packed):
            total, left, right = map(e.unpack, packed)
            if kind.rounded:
                right = [e.assemble(_TO_TF32, "=r,r", uint32, [word]) for word in right]
            for i, j in itertools.product(range(rows), range(columns)):
                at = (i * columns + j) * 4
                words_a, words_b = left[4 * i : 4 * i + 4], right[2 * j : 2 * j + 2]
                c = total[at : at + 4]
                for name, of_a, of_b in instructions:
                    c = _matrix_multiply(e, name, c, words_a[of_a], words_b[of_b])
                total[at : at + 4] = c
            return e.pack(total)

        return sums(sums, a, b), emitted(emit)

    return multiply


def make_load_matrix(count, gap):
    """Return the function that reads `count` times four 8 x 4 blocks of words, `gap` apart.

    Lanes 8i..8i+7 give the rows of block i; each lane gets of every block the word in row
    lane // 4, column lane % 4, which is where the tensor cores want it.
    """
    name = "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {$0, $1, $2, $3}, "
    constraints = "=r,=r,=r,=r,r,~{memory}"

    @intrinsic
    def load_matrix(typingctx, address):
        def emit(e, at):
            words = []
            for i in range(count):
                text = name + f"[$4+{i * gap * 4}];"
                words += e.assemble(text, constraints, uint32, [at], count=4, convergent=True)
            return e.pack(words)

        return types.UniTuple(uint32, 4 * count)(int32), emitted(emit)

    return load_matrix


# Bits of a descriptor of a tile in shared memory, by the bytes of its rows: how their vectors
# change places (the swizzling mode). Offsets and addresses in it count vectors of 16 bytes.
_MODES = {32: 3 << 62, 64: 2 << 62, 128: 1 << 62}
_STRIDE = 32  # first bit of the offset of the next eight rows,
_LEADING = 16  # and of one along the rows, which has no meaning in these modes: 1, by custom


def make_describe(words):
    """Return the function that describes a tile at an address, whose rows have so many words."""
    mode = _MODES[4 * words] | 8 * 4 * words // 16 << _STRIDE | 1 << _LEADING
    mode = np.int64(mode - (1 << 64 if mode >> 63 else 0))

    @cuda.jit(device=True, forceinline=True)
    def describe(address):
        return np.int64(address >> 4) | mode

    return describe


_WGMMA = {
    "float16": "wgmma.mma_async.sync.aligned.m64n{}k16.f32.f16.f16 {{{}}}, {}, {}, 1, 1, 1, 0, 0;",
    "tf32": "wgmma.mma_async.sync.aligned.m64n{}k8.f32.tf32.tf32 {{{}}}, {}, {}, 1, 1, 1;",
}


def _bound(count):
    """Constraints of `count` registers that an instruction changes: as results, and as operands."""
    return ["=f"] * count, [str(i) for i in range(count)]


def make_begin_products(kind):
    """Return the function ``(sums, a, b) -> sums`` that begins to add the product of two tiles.

    Descriptors name the tiles. A warpgroup takes 64 rows of `a` at a time by as many of `b` as a
    warp's tile has columns, 8 words along K at a time. Each warp has the sums of 16 rows, and a
    lane those that it has in `make_warp_multiply`. Nobody may touch them, or the tiles, before the
    function of `make_finish_products` has waited.
    """
    tile, text = kind.tile, _WGMMA[kind.dtype]
    vectors, blocks = range(0, tile.bk // 4, 2), range(tile.m // 16)
    next_block = 64 * tile.bk // 4  # in vectors

    @intrinsic
    def begin(typingctx, sums, a, b):
        def emit(e, *packed):
            total, (left, right) = e.unpack(packed[0]), packed[1:]
            each = len(total) // len(blocks)
            products: list[str] = []
            tiles: list[Any] = []
            for vector, block in itertools.product(vectors, blocks):
                names = ", ".join(f"${i}" for i in range(block * each, (block + 1) * each))
                factors = (f"${len(total) + len(tiles) + i}" for i in range(2))
                products.append(text.format(tile.n, names, *factors))
                tiles += [e.add(left, vector + block * next_block), e.add(right, vector)]
            lines = ["wgmma.fence.sync.aligned;", *products, "wgmma.commit_group.sync.aligned;"]
            changed, again = _bound(len(total))
            constraints = ",".join([*changed, *["l"] * len(tiles), *again, "~{memory}"])
            operands, count, code = [*tiles, *total], len(total), "\n\t".join(lines)
            return e.pack(e.assemble(code, constraints, float32, operands, count, convergent=True))

        return sums(sums, int64, int64), emitted(emit)

    return begin


def make_finish_products(kind):
    """Return the function ``sums -> sums`` that waits until what began is added to them."""

    @intrinsic
    def finish(typingctx, sums):
        def emit(e, packed):
            total = e.unpack(packed)
            changed, again = _bound(len(total))
            constraints = ",".join([*changed, *again, "~{memory}"])
            text = "wgmma.wait_group.sync.aligned 0;"
            done = e.assemble(text, constraints, float32, total, len(total), convergent=True)
            return e.pack(done)

        return sums(sums), emitted(emit)

    return finish


def _convert(text, constraints, result, argument):
    @intrinsic
    def convert(typingctx, value):
        def emit(e, x):
            return e.assemble(text, constraints, result, [x])

        return result(argument), emitted(emit)

    return convert


to_tf32 = _convert(_TO_TF32, "=r,f", uint32, float32)
to_half = _convert("cvt.rn.f16.f32 $0, $1;", "=h,f", uint16, float32)
from_half = _convert("cvt.f32.f16 $0, $1;", "=f,h", float32, uint16)


@intrinsic
def divide_nearly(typingctx, a, b):
    """A / b, which may be off by two units in the last place.

    The exact one has a call for numbers out of the ordinary. In a kernel that calls, the assembler
    lets no product of warpgroups run beside other instructions.
    """

    def emit(e, *operands):
        return e.assemble("div.full.f32 $0, $1, $2;", "=f,f,f", float32, operands)

    return float32(float32, float32), emitted(emit)


def _reinterpret(result, argument):
    @intrinsic
    def reinterpret(typingctx, value):
        return result(argument), emitted(lambda e, x: e.reinterpret(x, result))

    return reinterpret


bits_of_float = _reinterpret(uint32, float32)
float_of_bits = _reinterpret(float32, uint32)


@cuda.jit(device=True, forceinline=True)
def within(i, size):
    """Whether 0 <= i < size, in one comparison."""
    return np.uint32(i) < np.uint32(size)


@cuda.jit(device=True, forceinline=True)
def scaled(number, magic, shift):
    """Number * magic >> shift in 64 bits; the magic number has 32, and no sign."""
    product = np.uint64(np.uint32(number)) * np.uint64(np.uint32(magic))
    return np.int32(product >> np.uint64(np.uint32(shift)))


@cuda.jit(device=True, forceinline=True)
def quotient(a, b):
    """A // b for numbers from 0 to 2**31, in 32 bits: 64 take several times as long."""
    return np.int32(np.uint32(a) // np.uint32(b))
