"""Arithmetic on tuples of registers, and the tensor cores by inline PTX.

The sums of a thread are a tuple and not a local array: an array stays in registers only if the
compiler has unrolled every loop around it before it looks, and around 64 sums it had not.
"""

import itertools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import cuda, types
from numba.core import cgutils
from numba.cuda.extending import intrinsic

from numbaconv.cuda.compiled_memory import SHARED, SharedVectors

float32, int32, int64 = types.float32, types.int32, types.int64
uint16, uint32 = types.uint16, types.uint32


def _ptx(builder, text, constraints, result, operands, convergent=False):
    function = ir.FunctionType(result, [value.type for value in operands])
    # A side effect, so that no copy of a loop leaves out lanes that the instruction needs.
    asm = ir.InlineAsm(function, text, constraints, side_effect=convergent)
    return builder.call(asm, operands, attrs=("convergent",) if convergent else ())


@intrinsic
def read_thread(typingctx):
    """Number of the thread in its block, read anew each time: nothing is kept of an earlier one."""

    def codegen(context, builder, sig, args):
        i32 = ir.IntType(32)
        return _ptx(builder, "mov.u32 $0, %tid.x;", "=r", i32, [], convergent=True)

    return int32(), codegen


def make_zeros(count, dtype):
    """Return the function that returns a tuple of zeros: sums that nothing is added to yet."""

    @intrinsic
    def zeros(typingctx):
        result = types.UniTuple(dtype, count)

        def codegen(context, builder, sig, args):
            return ir.Constant(context.get_value_type(result), None)

        return result(), codegen

    return zeros


def _fused(builder, dtype, a, b, c):
    if isinstance(dtype, types.Float):
        return builder.fma(a, b, c)
    return builder.add(c, builder.mul(a, b))


def make_outer(rows, columns):
    """Return the function ``(sums, a, b) -> sums + outer(a, b)``, row by row in a tuple."""

    @intrinsic
    def outer(typingctx, sums, a, b):
        def codegen(context, builder, sig, args):
            total, left, right = args
            for i in range(rows):
                x = builder.extract_value(left, i)
                for j in range(columns):
                    y = builder.extract_value(right, j)
                    old = builder.extract_value(total, i * columns + j)
                    new = _fused(builder, sums.dtype, x, y, old)
                    total = builder.insert_value(total, new, i * columns + j)
            return total

        return sums(sums, a, b), codegen

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
        def codegen(context, builder, sig, args):
            total = cgutils.unpack_tuple(builder, args[0])
            pointer = ir.PointerType(context.get_value_type(sums.dtype), SHARED)
            a, b = (SharedVectors(builder, builder.inttoptr(at, pointer), words) for at in args[1:])
            for k in range(depth):
                left = a.read(k * a_pitch, rows // words, down * words)
                right = b.read(k * b_pitch, columns // words, across * words)
                for i, x in enumerate(left):
                    for j, y in enumerate(right):
                        at = i * columns + j
                        total[at] = _fused(builder, sums.dtype, x, y, total[at])
            return cgutils.pack_array(builder, total)

        return sums(sums, int32, int32), codegen

    return multiply


def make_slide(row, width, taps):
    """Return the function that adds a row of taps to one row of sums: ``(sums, x, w)``.

    ``sums[row, c] += w[j] * x[c + j]`` for `width` columns.
    """

    @intrinsic
    def slide(typingctx, sums, x, w):
        def codegen(context, builder, sig, args):
            total = args[0]
            for c in range(width):
                at = row * width + c
                new = builder.extract_value(total, at)
                for j in range(taps):
                    left = builder.extract_value(args[2], j)
                    right = builder.extract_value(args[1], c + j)
                    new = _fused(builder, sums.dtype, left, right, new)
                total = builder.insert_value(total, new, at)
            return total

        return sums(sums, x, w), codegen

    return slide


def make_tap_sums(rows, taps, stride, dtype):
    """Return the function that adds the products of a patch with what lies under it.

    ``(sums, patch, at, pitch)``: to the sums of `rows` x `taps` taps, of 4 x 4 values and the tile
    from an address on, whose rows (and their phases, if `stride` along a row is 2) are `pitch`
    apart. They are read in vectors, each once.
    """
    down, across = stride
    lanes = 128 // int(dtype.bitwidth)
    vectors = -(-(3 + -(-taps // across)) // lanes)

    @intrinsic
    def tap_sums(typingctx, sums, patch, at, pitch):
        def codegen(context, builder, sig, args):
            total, values = (cgutils.unpack_tuple(builder, value) for value in args[:2])
            pointer = ir.PointerType(context.get_value_type(dtype), SHARED)
            base, i32 = builder.inttoptr(args[2], pointer), ir.IntType(32)
            for row in range(3 * down + rows):
                x = []
                for phase in range(across):
                    line = builder.mul(args[3], i32(row * across + phase))
                    line = SharedVectors(builder, builder.gep(base, [line]), lanes)
                    x.append(line.read(0, vectors, lanes))
                for i in range(4):
                    kh = row - i * down
                    for kw, j in itertools.product(range(taps if 0 <= kh < rows else 0), range(4)):
                        under, at = x[kw % across][j + kw // across], kh * taps + kw
                        value = values[4 * i + j]
                        total[at] = _fused(builder, dtype, value, under, total[at])
            return cgutils.pack_array(builder, total)

        return sums(sums, patch, int32, int32), codegen

    return tap_sums


def make_tap_products(rows, taps, stride, dtype):
    """Return the function that adds the products of one value with what lies under it.

    ``(sums, value, at, pitch, down, across)``: as in `make_tap_sums`, element by element; without a
    stride the taps lie `down` rows and `across` elements apart.
    """

    @intrinsic
    def tap_products(typingctx, sums, value, at, pitch, down, across):
        def codegen(context, builder, sig, args):
            total, i32 = cgutils.unpack_tuple(builder, args[0]), ir.IntType(32)
            pointer = ir.PointerType(context.get_value_type(dtype), SHARED)
            base, pitch = builder.inttoptr(args[2], pointer), args[3]
            for kh, kw in itertools.product(range(rows), range(taps)):
                if stride:
                    line, step = i32(kh * stride + kw % stride), i32(kw // stride)
                else:
                    line, step = builder.mul(args[4], i32(kh)), builder.mul(args[5], i32(kw))
                place = builder.add(builder.mul(pitch, line), step)
                x = builder.load(builder.gep(base, [place]))
                at = kh * taps + kw
                total[at] = _fused(builder, dtype, args[1], x, total[at])
            return cgutils.pack_array(builder, total)

        return sums(sums, dtype, int32, int32, int32, int32), codegen

    return tap_products


def make_row(rows, columns):
    """Return the function ``(sums, i) -> row i``, which picks it without an address."""

    @intrinsic
    def row(typingctx, sums, i):
        def codegen(context, builder, sig, args):
            result = ir.Constant(context.get_value_type(sig.return_type), ir.Undefined)
            for j in range(columns):
                value = builder.extract_value(args[0], j)
                for r in range(1, rows):
                    there = builder.icmp_signed("==", args[1], args[1].type(r))
                    other = builder.extract_value(args[0], r * columns + j)
                    value = builder.select(there, other, value)
                result = builder.insert_value(result, value, j)
            return result

        return types.UniTuple(sums.dtype, columns)(sums, int64), codegen

    return row


def _matrix_multiply(builder, instruction, c, a, b):
    """Emit ``c + a @ b`` over the fragments of a warp: lists of LLVM values."""
    f32 = ir.FloatType()
    names = [f"${i}" for i in range(4 + len(a) + len(b) + 4)]
    cuts = (0, 4, 4 + len(a), 4 + len(a) + len(b), len(names))
    groups = ("{" + ", ".join(names[i:j]) + "}" for i, j in itertools.pairwise(cuts))
    constraints = ",".join(["=f"] * 4 + ["r"] * (len(a) + len(b)) + ["f"] * 4)
    struct = ir.LiteralStructType([f32] * 4)
    text = f"{instruction} {', '.join(groups)};"
    done = _ptx(builder, text, constraints, struct, [*a, *b, *c], convergent=True)
    return [builder.extract_value(done, i) for i in range(4)]


_MMA = "mma.sync.aligned.{}.row.col.f32.{}.f32"
_MMA_TF32 = _MMA.format("m16n8k8", "tf32.tf32")
_MMA_HALF = _MMA.format("m16n8k16", "f16.f16")
_MMA_HALF_NARROW = _MMA.format("m16n8k8", "f16.f16")


def make_warp_multiply(rows, columns, dtype, narrow):
    """Return the function ``(sums, a, b) -> sums + a @ b`` of a warp, by tensor cores.

    Parameters
    ----------
    rows, columns : int
        Tiles of 16 and of 8 that the warp's sums have. A tile's four sums of each lane are
        (row, column) = (lane // 4, lane % 4 * 2), the next column, and both 8 rows below.
    dtype : {"tf32", "float16"}
        What the words hold: one or two elements along K, 8 words in all.
    narrow : bool
        Whether to take the words four at a time.
    """
    instructions: tuple[Any, ...]
    if dtype == "tf32":
        instructions = ((_MMA_TF32, slice(0, 4), slice(0, 2)),)
    elif not narrow:
        instructions = ((_MMA_HALF, slice(0, 4), slice(0, 2)),)
    else:
        instructions = (
            (_MMA_HALF_NARROW, slice(0, 2), slice(0, 1)),
            (_MMA_HALF_NARROW, slice(2, 4), slice(1, 2)),
        )

    @intrinsic
    def multiply(typingctx, sums, a, b):
        def codegen(context, builder, sig, args):
            total, left, right = (cgutils.unpack_tuple(builder, value) for value in args)
            for i in range(rows):
                for j in range(columns):
                    at = (i * columns + j) * 4
                    words_a, words_b = left[4 * i : 4 * i + 4], right[2 * j : 2 * j + 2]
                    c = total[at : at + 4]
                    for name, of_a, of_b in instructions:
                        c = _matrix_multiply(builder, name, c, words_a[of_a], words_b[of_b])
                    total[at : at + 4] = c
            return cgutils.pack_array(builder, total)

        return sums(sums, a, b), codegen

    return multiply


def make_load_matrix(count, gap):
    """Return the function that reads `count` times four 8 x 4 blocks of words, `gap` apart.

    Lanes 8i..8i+7 give the rows of block i; each lane gets of every block the word in row
    lane // 4, column lane % 4, which is where the tensor cores want it.
    """

    @intrinsic
    def load_matrix(typingctx, address):
        def codegen(context, builder, sig, args):
            i32 = ir.IntType(32)
            name = "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {$0, $1, $2, $3}, "
            struct = ir.LiteralStructType([i32] * 4)
            result = ir.Constant(ir.ArrayType(i32, 4 * count), ir.Undefined)
            for i in range(count):
                text = name + f"[$4+{i * gap * 4}];"
                constraints = "=r,=r,=r,=r,r,~{memory}"
                words = _ptx(builder, text, constraints, struct, args, convergent=True)
                for j in range(4):
                    word = builder.extract_value(words, j)
                    result = builder.insert_value(result, word, 4 * i + j)
            return result

        return types.UniTuple(uint32, 4 * count)(int32), codegen

    return load_matrix


def _convert(text, constraints, result, argument):
    @intrinsic
    def convert(typingctx, value):
        def codegen(context, builder, sig, args):
            return _ptx(builder, text, constraints, context.get_value_type(result), args)

        return result(argument), codegen

    return convert


to_tf32 = _convert("cvt.rna.tf32.f32 $0, $1;", "=r,f", uint32, float32)
to_half = _convert("cvt.rn.f16.f32 $0, $1;", "=h,f", uint16, float32)
from_half = _convert("cvt.f32.f16 $0, $1;", "=f,h", float32, uint16)


def _reinterpret(result, argument):
    @intrinsic
    def reinterpret(typingctx, value):
        def codegen(context, builder, sig, args):
            return builder.bitcast(args[0], context.get_value_type(result))

        return result(argument), codegen

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
