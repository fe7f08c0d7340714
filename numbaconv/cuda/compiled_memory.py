"""Loads and stores by address, which in global memory has 64 bits, in shared memory 32."""

from numba import types
from numba.cuda.extending import intrinsic

from numbaconv.cuda.emission import WIDE_BYTES, emitted, lanes_of
from numbaconv.cuda.problem import HEADER

int32, int64 = types.int32, types.int64


@intrinsic
def shared_address(typingctx, array):
    """Address of a shared array, in bytes."""
    return int32(array), emitted(lambda e, value: e.shared_address(array, value))


@intrinsic
def move_on(typingctx, address, count, dtype):
    """Address of element `count` of the array at an address."""
    size = dtype.dtype.bitwidth // 8

    def emit(e, at, index, _):
        return e.add(at, e.multiply(index, size))

    return address(address, address, dtype), emitted(emit)


@intrinsic
def flip(typingctx, address, count, dtype):
    """Address that differs by the bits of `count` elements, which is a power of two."""
    size = dtype.dtype.bitwidth // 8

    def emit(e, at, index, _):
        return e.flip(at, e.multiply(index, size))

    return address(address, address, dtype), emitted(emit)


@intrinsic
def load(typingctx, address, index, dtype):
    """Element `index` of the array at an address."""

    def emit(e, at, i, _):
        return e.read(e.pointer(at, dtype.dtype, i))

    return dtype.dtype(address, index, dtype), emitted(emit)


@intrinsic
def load_wide(typingctx, address, index, dtype):
    """128 bits from element `index` on, as a tuple; they are aligned."""
    element = dtype.dtype

    def emit(e, at, i, _):
        return e.pack(e.read_wide(e.pointer(at, element, i), element))

    return types.UniTuple(element, lanes_of(element))(int64, index, dtype), emitted(emit)


@intrinsic
def load_two(typingctx, address, index):
    """Two integers of 32 bits, from one of an even number on, in one load."""

    def emit(e, at, i):
        return e.pack(e.read_wide(e.pointer(at, int32, i), int32, 8))

    return types.UniTuple(int32, 2)(int64, int32), emitted(emit)


@intrinsic
def load_header(typingctx, address):
    """Return the header of a job as a tuple; what is not used of it is never loaded."""

    def emit(e, at):
        return e.pack([e.read(e.pointer(at, int32, i)) for i in range(HEADER)])

    return types.UniTuple(int32, HEADER)(int64), emitted(emit)


@intrinsic
def store(typingctx, address, index, value):
    """Set element `index` of the array at an address."""

    def emit(e, at, i, element):
        e.write(e.pointer(at, value, i), element)

    return types.void(address, address, value), emitted(emit)


@intrinsic
def store_wide(typingctx, address, index, values):
    """Set whole vectors of 128 bits from element `index` on; they are aligned."""
    lanes = lanes_of(values.dtype)

    def emit(e, at, i, packed):
        first, elements = e.pointer(at, values.dtype, i), e.unpack(packed)
        for k in range(0, len(elements), lanes):
            e.write_wide(e.step(first, k), elements[k : k + lanes])

    return types.void(address, address, values), emitted(emit)


@intrinsic
def store_apart(typingctx, address, apart, values):
    """Set elements from an address on, each `apart` from the one before."""

    def emit(e, at, step, packed):
        place = e.pointer(at, values.dtype)
        for value in e.unpack(packed):
            e.write(place, value)
            place = e.step(place, step)

    return types.void(address, int32, values), emitted(emit)


@intrinsic
def is_aligned(typingctx, address):
    """Whether 128 bits can be stored at an address."""
    return types.boolean(address), emitted(lambda e, at: e.divides(WIDE_BYTES, at))


def read_vectors(e, first, dtype, count, gap):
    """Return the elements of `count` vectors of shared memory, `gap` elements apart."""
    return [x for i in range(count) for x in e.read_wide(e.step(first, i * gap), dtype)]


def make_read(count, gap, dtype):
    """Return the function that reads `count` times 128 bits of shared memory, `gap` apart.

    ``(address, index)``, an element's.
    """

    @intrinsic
    def read(typingctx, address, index):
        def emit(e, at, i):
            return e.pack(read_vectors(e, e.pointer(at, dtype, i), dtype, count, gap))

        return types.UniTuple(dtype, count * lanes_of(dtype))(int32, int32), emitted(emit)

    return read


def make_patch(rows, columns, dtype):
    """Return the function that reads rows x columns elements of shared memory.

    ``(address, at, row_step, column_step)``; row by row in a tuple.
    """

    @intrinsic
    def patch(typingctx, address, at, row_step, column_step):
        def emit(e, address, index, down, across):
            values = []
            for _ in range(rows):
                column = index
                for _ in range(columns):
                    values.append(e.read(e.pointer(address, dtype, column)))
                    column = e.add(column, across)
                index = e.add(index, down)
            return e.pack(values)

        return types.UniTuple(dtype, rows * columns)(int32, int32, int32, int32), emitted(emit)

    return patch


def make_gather(rows, columns, dtype):
    """Return the function that reads rows x columns elements of global memory, or zeros.

    ``(address, at, row_step, column_step, rows_inside, columns_inside)``; row by row in a tuple. An
    element is zero where the bit of its row or column is not set: then the one at the address,
    which must be there, is read in its place, so that nothing branches.
    """

    @intrinsic
    def gather(typingctx, address, at, row_step, column_step, rows_inside, columns_inside):
        def emit(e, address, at, down, across, rows_inside, columns_inside):
            first, zero, values = e.pointer(address, dtype), e.zeros(dtype), []
            for i in range(rows):
                for j in range(columns):
                    inside = e.both(e.bit(rows_inside, i), e.bit(columns_inside, j))
                    index = e.add(at, e.add(e.multiply(down, i), e.multiply(across, j)))
                    value = e.read(e.step(first, e.either(inside, index, 0)))
                    values.append(e.either(inside, value, zero))
            return e.pack(values)

        of = types.UniTuple(dtype, rows * columns)
        return of(int64, int32, int32, int32, int32, int32), emitted(emit)

    return gather


def make_copy(dtype, count):
    """Return the function that begins to copy `count` elements to an address in shared memory.

    ``(to, address, index, inside)``: from element `index` of the array at an address in global
    memory, or zeros. They are there, for the same thread, when `make_wait` has waited for their
    group, which `commit` ends.
    """
    size = count * dtype.bitwidth // 8
    cache = "cg" if size == WIDE_BYTES else "ca"
    text = f"cp.async.{cache}.shared.global [$0], [$1], {size}, $2;"

    @intrinsic
    def copy(typingctx, to, address, index, inside):
        def emit(e, to, at, i, inside):
            place = e.address(e.pointer(at, dtype, i))
            e.perform(text, "r,l,r,~{memory}", [to, place, e.either(inside, size, 0)])

        return types.void(int32, int64, int32, types.boolean), emitted(emit)

    return copy


@intrinsic
def commit(typingctx):
    """End a group of copies."""
    return types.void(), emitted(lambda e: e.perform("cp.async.commit_group;"))


@intrinsic
def fence_proxy(typingctx):
    """Let tensor cores that read shared memory by themselves see what this thread wrote to it."""
    return types.void(), emitted(lambda e: e.perform("fence.proxy.async.shared::cta;"))


def make_wait(pending):
    """Return the function that waits for all groups of the thread's copies but the last few."""

    @intrinsic
    def wait(typingctx):
        return types.void(), emitted(lambda e: e.perform(f"cp.async.wait_group {pending};"))

    return wait
