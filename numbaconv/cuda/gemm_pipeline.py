"""How the tiles of a block come to shared memory while others are multiplied.

Through registers, in two buffers:

    for each step of BK along K:
        fetch the next BM x BK weights and BK x BN patch elements into registers
        multiply the tiles that are in shared memory
        write what was fetched into the other buffer of shared memory, and meet

so that the loads of a step are on their way while the step before is computed, and one barrier a
step is enough: nobody writes the buffer that others still read.

Or without registers (cp.async, from capability 8.0 on), in three or four buffers:

    for each step of BK along K:
        wait for the copies of this step, which were begun two or three steps ago, and meet
        begin those of the step that goes to the buffer that was multiplied last
        multiply

What comes is the only difference between a convolution (`gemm_tiles`) and the gradient of its
weights (`gradient_tiles`).
"""

from typing import Any

from numba import cuda

from numbaconv.cuda.device import device
from numbaconv.cuda.gemm_tiles import Loader
from numbaconv.cuda.intrinsics import (
    commit,
    int32,
    make_wait,
    make_zeros,
    move_on,
    shared_address,
)
from numbaconv.cuda.kind import Kind
from numbaconv.cuda.tiles import WARP


def make_accumulate(kind: Kind, loader: Loader, place_reads: Any, multiply: Any) -> Any:
    """Return the function ``(tiles, source, k, end, thread)`` that returns a thread's sums.

    They are those from `k` to `end` along K, and all threads have met behind the last use of the
    tiles. `place_reads` and `multiply` are of `gemm.make_thread_multiply`.
    """
    tile = kind.tile
    make = _make_copying if kind.asynchronous else _make_fetching
    zeros = make_zeros(tile.m * tile.n // (WARP if tile.tensor else 1), kind.sum)
    return make(kind, loader, place_reads, multiply, zeros)


def make_addresses(kind: Kind, loader: Loader, place_reads: Any) -> Any:
    """Return the function that says where a thread writes and reads both tiles: four addresses.

    Worked out anew for each access they would be a third of the instructions beside the
    multiplications.
    """
    a_size, shared, place_writes = kind.tile.sizes(kind.words)[0], kind.shared, loader.place

    @device
    def addresses(tiles, thread):
        As = shared_address(tiles)
        Bs = move_on(As, a_size, shared)
        a_to, b_to = place_writes(thread)
        a_at, b_at = place_reads(thread)
        to = move_on(As, a_to, shared), move_on(Bs, b_to, shared)
        return to, (move_on(As, a_at, shared), move_on(Bs, b_at, shared))

    return addresses


def _make_fetching(kind: Kind, loader: Loader, place_reads: Any, multiply: Any, zeros: Any) -> Any:
    """Return the function of two buffers, which registers fill."""
    depth, shared, stage_size = kind.depth, kind.shared, sum(kind.tile.sizes(kind.words))
    addresses = make_addresses(kind, loader, place_reads)
    look, bring, stage = loader.look, loader.bring, loader.stage
    a_fetched, b_fetched = loader.a_fetched, loader.b_fetched

    @device
    def accumulate(tiles, source, k, end, thread):
        next_a = cuda.local.array(a_fetched, shared)
        next_b = cuda.local.array(b_fetched, shared)
        sums = zeros()
        bring(next_a, next_b, source, look(source, k, end), k, thread)
        (a_to, b_to), (a_at, b_at) = addresses(tiles, thread)
        other = int32(stage_size)
        stage(a_to, b_to, next_a, next_b, thread)
        cuda.syncthreads()  # the first tiles are there
        while k < end:
            k = int32(k + depth)
            more = k < end
            if more:
                bring(next_a, next_b, source, look(source, k, end), k, thread)
            sums = multiply(sums, a_at, b_at)
            if not more:  # a way out, which the assembler moves no store across
                break
            a_at, b_at = move_on(a_at, other, shared), move_on(b_at, other, shared)
            a_to, b_to = move_on(a_to, other, shared), move_on(b_to, other, shared)
            other = int32(-other)
            stage(a_to, b_to, next_a, next_b, thread)
            cuda.syncthreads()  # these tiles are read, the next ones are there
        cuda.syncthreads()  # the last tiles are read
        return sums

    return accumulate


def _make_copying(kind: Kind, loader: Loader, place_reads: Any, multiply: Any, zeros: Any) -> Any:
    """Return the function of several buffers, which copies fill that run by themselves."""
    depth, shared, stage_size = kind.depth, kind.shared, sum(kind.tile.sizes(kind.words))
    addresses = make_addresses(kind, loader, place_reads)
    look, bring = loader.look, loader.bring
    before = kind.stages - 1  # steps by which the copies are ahead
    last = before * stage_size
    wait = make_wait(before - 1)

    @device
    def accumulate(tiles, source, k, end, thread):
        sums = zeros()
        (a_to, b_to), (a_at, b_at) = addresses(tiles, thread)
        for i in range(before):
            ahead, to = int32(k + i * depth), int32(i * stage_size)
            if ahead < end:
                a, b = move_on(a_to, to, shared), move_on(b_to, to, shared)
                bring(a, b, source, look(source, ahead, end), ahead, thread)
            commit()
        at, to = int32(0), int32(last)
        while k < end:
            ahead = int32(k + before * depth)
            found = look(source, ahead, end)
            wait()
            cuda.syncthreads()  # these tiles are there, those of the step before are read
            if ahead < end:
                a, b = move_on(a_to, to, shared), move_on(b_to, to, shared)
                bring(a, b, source, found, ahead, thread)
            commit()  # an empty group too: they are counted
            sums = multiply(sums, move_on(a_at, at, shared), move_on(b_at, at, shared))
            to = at
            at = int32(at + stage_size) if at < last else int32(0)
            k = int32(k + depth)
        cuda.syncthreads()  # the last tiles are read
        return sums

    return accumulate
