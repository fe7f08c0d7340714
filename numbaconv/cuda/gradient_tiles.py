"""How a block of a weight gradient brings its tiles to shared memory.

The gradient of the weights is the gradient of the output times the transposed patch matrix:
M = C_out, N = C_in x taps, and K runs over the output's pixels. Both factors are read along the
pixels, which lie together. A thread takes one pixel of each step (two neighbours of float16), and
looks up where its row begins, and what of its window is inside (`problem.output_rows`). It reads
that pixel in several rows of both factors: output channels of the one, and of the other input
channels under a tap, each a fixed step away (`problem.patch_rows`).
"""

from typing import Any

from numbaconv.cuda.device import device, image_pixels, read_shape
from numbaconv.cuda.gemm_tiles import Loader
from numbaconv.cuda.intrinsics import (
    int32,
    int64,
    load,
    load_wide,
    move_on,
    scaled,
    store,
)
from numbaconv.cuda.kind import Kind
from numbaconv.cuda.patch_tiles import make_locate, make_table
from numbaconv.cuda.placement import halves, make_place, make_put, make_read_inside
from numbaconv.cuda.problem import (
    HEADER,
    MAGIC,
    MAPPED_ENTRY,
    NOWHERE,
    PATCH_TABLE,
    ROW_TABLE,
    SHIFT,
    SOURCE,
)


def make_gradient_loader(kind: Kind) -> Loader:
    """Return the loader of a weight gradient: the output's gradient, and patches of the input."""
    tile = kind.tile
    bm, bk = tile.bm, tile.bk
    begin_pixels, find_pixel = make_find_pixel(kind)
    begin_table, entry_at, _ = make_table(kind)
    together = tile.threads // bk  # rows that the threads take at once
    a_rounds, b_rounds = -(-tile.bm // together), -(-tile.bn // together)
    make_bring = make_bring_halves if kind.dtype == "float16" else make_bring_pixel
    bring = make_bring(kind, entry_at, (together, a_rounds, b_rounds))
    place_a, stage_a = make_stage_pixel(kind, 0, together, a_rounds)
    place_b, stage_b = make_stage_pixel(kind, 1, together, b_rounds)

    @device
    def begin(x, w, job, header, s, group, m0, n0, thread):
        source = read_shape(header, SOURCE)
        row, pixels = thread // bk, int32(image_pixels(source))
        first_a = (group * source.c_out + m0 + row) * pixels
        first_b = group * source.c_in * source.in_strides[1]
        # Of addresses only what is a block's own: the rest stays where a launch puts its arguments.
        a = w, int32(first_a), int32(min(bm, source.c_out - m0) - row)
        table = move_on(job, int64(header[PATCH_TABLE]), int32)
        b = x, int32(first_b), begin_table(table, n0 + row)
        steps = pixels, int32(source.out_strides[0] - pixels)
        return a, b, steps, begin_pixels(job, header), int32(thread % bk), source

    @device
    def place(thread):
        return place_a(thread), place_b(thread)

    @device
    def stage(a_to, b_to, fetched_a, fetched_b, thread):
        stage_a(a_to, fetched_a, thread)
        stage_b(b_to, fetched_b, thread)

    return Loader(begin, make_look(kind, find_pixel), bring, place, stage, a_rounds, b_rounds)


def make_find_pixel(kind: Kind) -> tuple[Any, Any]:
    """Return how a thread's pixel is found: what is kept of the tables of pixels, and the function.

    ``find(a, b, k, pixels, steps, s)`` returns the address of pixel k in the thread's first row of
    the output's gradient, and the window in the input. Both arrays lie densely, channels first.
    """
    stored, mapped = kind.stored, kind.mapped

    @device
    def begin(job, header):
        rows = int32((HEADER + header[ROW_TABLE]) // MAPPED_ENTRY)
        return job, rows, header[MAGIC], header[SHIFT]

    @device
    def find_pixel(a, b, k, pixels, steps, s):
        (w, first_a, _), (x, first_b, _) = a, b
        job, rows, magic, shift = pixels
        row = scaled(k, magic, shift)
        offset, entry = load_wide(job, int32((rows + row) * (MAPPED_ENTRY // 2)), int64)
        column = load(job, int32(HEADER // 2 + k - row * s.output[2]), int64)
        at_a = move_on(w, (entry >> 32) * steps[1] + int32(first_a + k), stored)
        at_b = move_on(x, offset + int32(first_b + int32(column)), stored)
        return at_a, (at_b, int32(entry | (column >> 32)))

    @device
    def find_mapped(a, b, k, pixels, steps, s):
        (w, first_a, _), (x, first_b, _) = a, b
        job, rows, magic, shift = pixels
        row = scaled(k, magic, shift)
        entry = load_wide(job, int32((rows + row) * MAPPED_ENTRY), int32)
        w0 = int32((k - row * s.output[2]) * s.stride[2] - s.padding[2])
        image = int64(entry[0])
        at_a = move_on(w, image * steps[1] + int32(first_a + k), stored)
        at_b = move_on(x, image * s.in_strides[0] + first_b, stored)
        return at_a, (at_b, (entry[1], entry[2], w0))

    return begin, find_mapped if mapped else find_pixel


def make_look(kind: Kind, find_pixel: Any) -> Any:
    """Return the function that finds a thread's pixel, or its two neighbours of float16."""
    outside = (int32(NOWHERE),) * 3 if kind.mapped else int32(0)

    @device
    def find(source, k, end):
        a, b, steps, pixels, _, s = source
        if k >= end:
            return a[0], int32(0), (b[0], outside)
        at, window = find_pixel(a, b, k, pixels, steps, s)
        return at, a[2], window

    @device
    def look(source, k0, end):
        return find(source, int32(k0 + source[4]), end)

    @device
    def look_twice(source, k0, end):
        k = int32(k0 + source[4] * 2)
        return find(source, k, end), find(source, int32(k + 1), end)

    return look_twice if kind.dtype == "float16" else look


def make_bring_pixel(kind: Kind, entry_at: Any, rounds: tuple[int, ...]) -> Any:
    """Return the function that brings one pixel of a thread's rows of both factors."""
    together, a_rounds, b_rounds = rounds
    tile = kind.tile
    locate, put = make_locate(kind), make_put(kind, 1)
    aparts = [together * (pitch if tile.tensor else 1) for pitch in tile.pitches(kind.words)]
    a_apart, b_apart = aparts
    all_a, all_b = (
        count * together == size or not kind.asynchronous
        for count, size in ((a_rounds, tile.bm), (b_rounds, tile.bn))
    )
    bm, bn, bk = tile.bm, tile.bn, tile.bk

    @device
    def bring(into_a, into_b, source, found, k, thread):
        _, (_, _, table), (pixels, _), _, _, s = source
        at, rows, (x, window) = found
        for i in range(a_rounds):
            if all_a or thread // bk + i * together < bm:
                put(into_a, i, i * a_apart, at, int32(i * together * pixels), i * together < rows)
        for i in range(b_rounds):
            if all_b or thread // bk + i * together < bn:
                index, inside = locate(window, entry_at(table, i * together), s)
                put(into_b, i, i * b_apart, x, index, inside)

    return bring


def make_bring_halves(kind: Kind, entry_at: Any, rounds: tuple[int, ...]) -> Any:
    """Return the function that brings two neighbouring pixels of float16, into one register."""
    read, locate = make_read_inside(kind), make_locate(kind)
    together, a_rounds, b_rounds = rounds

    @device
    def pick(window, entry, s):
        index, inside = locate(window[1], entry, s)
        return read(window[0], index, inside)

    @device
    def bring(into_a, into_b, source, found, k, thread):
        _, (_, _, table), (pixels, _), _, _, s = source
        (low_a, low_rows, low), (high_a, high_rows, high) = found
        for i in range(a_rounds):
            index = int32(i * together * pixels)
            a = read(low_a, index, i * together < low_rows)
            b = read(high_a, index, i * together < high_rows)
            into_a[i] = halves(a, b)
        for i in range(b_rounds):
            entry = entry_at(table, i * together)
            a, b = pick(low, entry, s), pick(high, entry, s)
            into_b[i] = halves(a, b)

    return bring


def make_stage_pixel(kind: Kind, factor: int, together: int, rounds: int) -> tuple[Any, Any]:
    """Return where a thread's share of a factor (0 or 1) lies, and what writes it."""
    tile = kind.tile
    bk, size = tile.bk, (tile.bm, tile.bn)[factor]
    place_of = make_place(kind, factor)
    all_write = rounds * together == size
    apart = together * (tile.pitches(kind.words)[factor] if tile.tensor else 1)

    @device
    def place(thread):
        return place_of(thread // bk, thread % bk)

    @device
    def stage(to, fetched, thread):
        for i in range(rounds):
            if all_write or thread // bk + i * together < size:
                store(to, i * apart, fetched[i])

    return place, stage
