"""How a block of a weight gradient brings its tiles to shared memory.

The gradient of the weights is the gradient of the output times the transposed patch matrix:
M = C_out, N = C_in x taps, and K runs over the output's pixels. Both factors are read along the
pixels, which lie together. A thread takes one pixel of each step (two neighbours of float16), and
looks up where its row begins (`problem.output_rows`). It reads that pixel in several rows of both
factors: output channels of the one, and of the other input channels under a tap, each a fixed step
away (`problem.patch_rows`).
"""

from typing import Any

from numbaconv.backends.cuda.device import device, image_pixels, read_shape, same
from numbaconv.backends.cuda.gemm_tiles import Loader, make_pick, table_entry
from numbaconv.backends.cuda.intrinsics import int32, int64, load, quotient, to_tf32, uint32
from numbaconv.backends.cuda.kind import Kind
from numbaconv.backends.cuda.problem import DEPTH_END, NOWHERE, ROW_TABLE, SOURCE


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
        first_a = (group * source.c_out + m0 + row) * source.out_strides[1]
        rows = min(bm, source.c_out - m0) - row
        first_b = group * source.c_in * source.in_strides[1]
        place = first_a, rows, first_b, n0 + row, header[ROW_TABLE]
        return x, w, job, source, place, header[DEPTH_END]

    @device
    def stage(As, a_start, Bs, b_start, fetched_a, fetched_b, thread):
        stage_a(As, a_start, fetched_a, thread)
        stage_b(Bs, b_start, fetched_b, thread)

    return Loader(begin, fetch_pixel, stage, a_rounds, b_rounds)


@device
def find_pixel(job, k, end, place, s):
    """Where pixel k lies in a thread's first row of the output's gradient, and its window.

    Past the end, they lie at -1 and nowhere.
    """
    if k >= end:
        return int64(-1), (int64(0), int32(NOWHERE), int32(NOWHERE), int32(NOWHERE))
    first_a, _, first_b, _, table = place
    row = quotient(k, s.output[2])
    entry = table_entry(job, table + row)
    column = k - row * s.output[2]
    image = entry[3]
    at_a = int64(image) * s.out_strides[0] + (first_a + k - image * image_pixels(s))
    w = column * s.stride[2]
    at_b = int64(image) * s.in_strides[0] + (first_b + entry[0] + w * s.in_strides[4])
    return int64(at_a), (int64(at_b), entry[1], entry[2], int32(w - s.padding[2]))


def make_fetch_pixel(kind: Kind, together: int, a_rounds: int, b_rounds: int) -> Any:
    """Return the function that fetches one pixel of a thread's rows of both factors."""
    bk, stored = kind.tile.bk, kind.stored
    pick = make_pick(kind)

    @device
    def pick_gradient(w, at, there):
        return load(w, at, stored) if there else stored(0)

    if kind.dtype == "float16":

        @device
        def fetch(into_a, into_b, source, k0, thread):
            x, w, job, s, place, end = source
            k = k0 + thread % bk * 2
            at_low, low = find_pixel(job, k, end, place, s)
            at_high, high = find_pixel(job, k + 1, end, place, s)
            for i in range(a_rounds):
                there, step = i * together < place[1], i * together * s.out_strides[1]
                a = pick_gradient(w, at_low + step, there and at_low >= 0)
                b = pick_gradient(w, at_high + step, there and at_high >= 0)
                into_a[i] = uint32(a) | (uint32(b) << uint32(16))
            for i in range(b_rounds):
                entry = table_entry(job, place[3] + i * together)
                a, b = pick(x, low, entry, s), pick(x, high, entry, s)
                into_b[i] = uint32(a) | (uint32(b) << uint32(16))

    else:
        convert = to_tf32 if kind.dtype == "tf32" else same

        @device
        def fetch(into_a, into_b, source, k0, thread):
            x, w, job, s, place, end = source
            at, window = find_pixel(job, k0 + thread % bk, end, place, s)
            for i in range(a_rounds):
                there = i * together < place[1] and at >= 0
                value = pick_gradient(w, at + i * together * s.out_strides[1], there)
                into_a[i] = convert(value)
            for i in range(b_rounds):
                entry = table_entry(job, place[3] + i * together)
                into_b[i] = convert(pick(x, window, entry, s))

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
