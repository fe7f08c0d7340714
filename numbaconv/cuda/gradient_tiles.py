"""How a block of a weight gradient brings its tiles to shared memory.

The gradient of the weights is the gradient of the output times the transposed patch matrix:
M = C_out, N = C_in x taps, and K runs over the output's pixels. Both factors are read along the
pixels, which lie together. A thread takes one pixel of each step (two neighbours of float16), and
looks up where its row begins (`problem.output_rows`). It reads that pixel in several rows of both
factors: output channels of the one, and of the other input channels under a tap, each a fixed step
away (`problem.patch_rows`).
"""

from typing import Any

from numbaconv.cuda.device import device, image_pixels, read_shape, same
from numbaconv.cuda.gemm_tiles import Loader, make_pick, table_entry
from numbaconv.cuda.intrinsics import (
    int32,
    int64,
    load,
    move_on,
    quotient,
    to_tf32,
    uint32,
)
from numbaconv.cuda.kind import Kind
from numbaconv.cuda.problem import DEPTH_END, NOWHERE, ROW_TABLE, SOURCE


def make_gradient_loader(kind: Kind) -> Loader:
    """Return the loader of a weight gradient: the output's gradient, and patches of the input."""
    tile = kind.tile
    bm, bk = tile.bm, tile.bk
    together = tile.threads // bk  # rows that the threads take at once
    a_rounds, b_rounds = -(-tile.bm // together), -(-tile.bn // together)
    fetch_pixel = make_fetch_pixel(kind, together, a_rounds, b_rounds)
    stage_a = make_stage_pixel(kind, 0, together, a_rounds)
    stage_b = make_stage_pixel(kind, 1, together, b_rounds)

    @device
    def begin(x, w, job, header, s, group, m0, n0, thread):
        source = read_shape(header, SOURCE)
        row = thread // bk
        first_a = (group * source.c_out + m0 + row) * image_pixels(source)
        rows = min(bm, source.c_out - m0) - row
        first_b = group * source.c_in * source.in_strides[1]
        place = int32(first_a), int32(rows), int32(first_b), int32(n0 + row), header[ROW_TABLE]
        return x, w, job, source, place, header[DEPTH_END]

    @device
    def stage(As, a_start, Bs, b_start, fetched_a, fetched_b, thread):
        stage_a(As, a_start, fetched_a, thread)
        stage_b(Bs, b_start, fetched_b, thread)

    return Loader(begin, fetch_pixel, stage, a_rounds, b_rounds)


def make_find_pixel(kind: Kind) -> Any:
    """Return the function that says where a thread's pixel lies in both factors.

    That is the address in the thread's first row of the output's gradient, how many rows there are,
    and the window in the input: past the end no row, and nowhere. Both arrays lie densely, channels
    first.
    """
    stored = kind.stored

    @device
    def find_pixel(x, w, job, k, end, place, s):
        if k >= end:
            return w, int32(0), (x, int32(NOWHERE), int32(NOWHERE), int32(NOWHERE))
        first_a, rows, first_b, _, table = place
        row = quotient(k, s.output[2])
        entry = table_entry(job, table + row)
        column = int32(k - row * s.output[2])
        image = entry[3]
        at_a = int32(first_a + k - image * image_pixels(s))
        at_b = int32(first_b + entry[0] + column * s.stride[2])
        a = move_on(w, int64(image) * s.out_strides[0] + at_a, stored)
        b = move_on(x, int64(image) * s.in_strides[0] + at_b, stored)
        return a, rows, (b, entry[1], entry[2], int32(column * s.stride[2] - s.padding[2]))

    return find_pixel


def make_fetch_pixel(kind: Kind, together: int, a_rounds: int, b_rounds: int) -> Any:
    """Return the function that fetches one pixel of a thread's rows of both factors."""
    bk, stored = kind.tile.bk, kind.stored
    pick, find_pixel = make_pick(kind), make_find_pixel(kind)

    @device
    def pick_gradient(a, row, rows, s):
        return load(a, int32(row * image_pixels(s)), stored) if row < rows else stored(0)

    if kind.dtype == "float16":

        @device
        def fetch(into_a, into_b, source, k0, thread):
            x, w, job, s, place, end = source
            k = k0 + thread % bk * 2
            low_a, low_rows, low = find_pixel(x, w, job, k, end, place, s)
            high_a, high_rows, high = find_pixel(x, w, job, k + 1, end, place, s)
            for i in range(a_rounds):
                a = pick_gradient(low_a, i * together, low_rows, s)
                b = pick_gradient(high_a, i * together, high_rows, s)
                into_a[i] = uint32(a) | (uint32(b) << uint32(16))
            for i in range(b_rounds):
                entry = table_entry(job, place[3] + i * together)
                a, b = pick(low, entry, s), pick(high, entry, s)
                into_b[i] = uint32(a) | (uint32(b) << uint32(16))

    else:
        convert = to_tf32 if kind.dtype == "tf32" else same

        @device
        def fetch(into_a, into_b, source, k0, thread):
            x, w, job, s, place, end = source
            a, rows, window = find_pixel(x, w, job, k0 + thread % bk, end, place, s)
            for i in range(a_rounds):
                into_a[i] = convert(pick_gradient(a, i * together, rows, s))
            for i in range(b_rounds):
                entry = table_entry(job, place[3] + i * together)
                into_b[i] = convert(pick(window, entry, s))

    return fetch


def make_stage_pixel(kind: Kind, factor: int, together: int, rounds: int) -> Any:
    """Return the function that writes what a thread fetched of a factor (0 or 1)."""
    tile = kind.tile
    bk, tensor, size = tile.bk, tile.tensor, (tile.bm, tile.bn)[factor]
    pitch = tile.pitches(kind.words)[factor]

    @device
    def stage(tile_of, start, fetched, thread):
        k = thread % bk
        for i in range(rounds):
            row = thread // bk + i * together
            if row < size:
                tile_of[start + (row * pitch + k if tensor else k * pitch + row)] = fetched[i]

    return stage
