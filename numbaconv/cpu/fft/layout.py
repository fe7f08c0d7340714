"""What a job of the engine says, as a table: the tiles, where things lie, passes and factors."""

import functools
from typing import NamedTuple

import numpy as np

from numbaconv.codegen.integers import ceil_div
from numbaconv.codegen.jit import inline
from numbaconv.codegen.pointers import behind, pointer_at
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.codegen.twins import stands_for
from numbaconv.cpu.fft import tables
from numbaconv.cpu.fft.tiles import Tiles, pairs_tiles, results_of_load
from numbaconv.cpu.job import places
from numbaconv.cpu.packing.halo import odd_lines
from numbaconv.problem.shape import ConvShape

# Bytes of the spectra of tiles that a task keeps, about: each spectrum of the weights then serves
# several tiles. It is worth more of them where it comes from memory. docs/decisions.md has how they
# were measured.
TASK_BYTES, DEEP_TASK_BYTES = 2 << 20, 8 << 20


class Layout(NamedTuple):
    """The beginning of a table; as `AT_TABLE`, the places there.

    A *load* is what one transform takes: two tiles, or one. A *column* of a tile in scratch is a
    vector wide: of each row of the matrix, a vector of real parts and one of imaginary parts. A
    *block* is as many rows of the matrix as a vector has lanes, transposed.

    Attributes
    ----------
    tasks : int
        How many there are.
    parts : int
        Tasks that share the output channels of the same loads.
    together, loads : int
        Loads of a task, and of an image.
    inner, inner_loads : int
        Tiles, and loads, of each of the planes or rows that do not overlap.
    pairs_tiles : int
        1: a load is two tiles. 0: a load is one tile, and the weights are of two output channels.
    pairs, most_pairs : int
        Spectra of results of a load, output channels of a group or pairs of them: of all tasks,
        and of one.
    is_signal, depth, rows, columns, output, count : int
        See `tiles.Tiles`; of the last two, one for each axis.
    pitch : int
        Rows of the matrix from one of the transform's rows to the next: `depth`, and one more where
        columns would otherwise lie a power of two apart.
    column, tile, slots : int
        Elements of a column and of a tile; tiles that a task has for each of its loads.
    block, block_step, blocks : int
        Elements of a block, and from one to the next in scratch; blocks of a tile.
    passes_0, passes_1, passes_2 : int
        Where in the table the passes along each axis begin.
    twiddles_0, twiddles_1, twiddles_2, between : int
        Where in the table their factors begin, and those between the transforms of a signal.
    """

    tasks: int
    parts: int
    together: int
    loads: int
    inner: int
    inner_loads: int
    pairs_tiles: int
    pairs: int
    most_pairs: int
    is_signal: int
    depth: int
    rows: int
    columns: int
    output_0: int
    output_1: int
    output_2: int
    count_0: int
    count_1: int
    count_2: int
    pitch: int
    column: int
    tile: int
    slots: int
    block: int
    block_step: int
    blocks: int
    passes_0: int
    passes_1: int
    passes_2: int
    twiddles_0: int
    twiddles_1: int
    twiddles_2: int
    between: int


AT_TABLE: Layout = places(Layout, 0)


@inline
def _factors_at(table, place, like):
    return pointer_at(behind(table, place, 8), like)


@stands_for(_factors_at)
def factors_at(table, place, like):
    """Factors behind the address of a table, which has them among its integers."""
    return table[place:].view(like.dtype)


@functools.lru_cache(maxsize=64)
def _factors(tiles: Tiles, dtype: np.dtype, lanes: int) -> tuple[np.ndarray, ...]:
    """Return the factors of a tile, as integers of 64 bits, of each axis and between."""
    found = [tables.twiddles(n) for n in (tiles.depth, tiles.rows, tiles.columns)]
    if tiles.is_signal:
        found.append(tables.signal_twiddles(tiles.rows, tiles.columns, lanes))
    else:
        found.append(np.empty(0))
    whole = [np.resize(each.astype(dtype), each.size + each.size % 2) for each in found]
    return tuple(each.view(np.int64) for each in whole)


def make_table(s: ConvShape, tiles: Tiles, dtype: np.dtype, threads: int) -> np.ndarray:
    """Return the table of a problem that is cut into tiles."""
    lanes = VECTOR_BYTES // dtype.itemsize
    pitch = tiles.depth + (tiles.depth > 1)
    column = odd_lines(tiles.rows * pitch * 2 * lanes, dtype.itemsize)
    tile = tiles.columns // lanes * column
    in_pairs = pairs_tiles(s)
    inner_loads = ceil_div(tiles.inner, 2) if in_pairs else tiles.inner
    loads, pairs = tiles.outer * inner_loads, results_of_load(s)
    tile_bytes, spectra = tile * dtype.itemsize, s.c_in * pairs
    kept = DEEP_TASK_BYTES if spectra * tile_bytes > DEEP_TASK_BYTES // 2 else TASK_BYTES
    together = min(loads, max(1, kept // (tile_bytes * max(s.c_in, pairs))))
    if spectra == 1:  # the one spectrum of the weights stays in cache
        together = 1
    tasks = s.n * s.groups * ceil_div(loads, together)
    parts = 1 if tasks >= threads else min(pairs, ceil_div(threads, tasks))
    axes = [tables.listed_passes(n) for n in (tiles.depth, tiles.rows, tiles.columns)]
    pieces = [*map(np.array, axes), *_factors(tiles, dtype, lanes)]
    begins = np.cumsum([len(Layout._fields), *(piece.size for piece in pieces)]).tolist()
    layout = Layout(
        tasks * parts,
        parts,
        together,
        loads,
        tiles.inner,
        inner_loads,
        int(in_pairs),
        pairs,
        ceil_div(pairs, parts),
        int(tiles.is_signal),
        tiles.depth,
        tiles.rows,
        tiles.columns,
        *tiles.outputs,
        *tiles.counts,
        pitch,
        column,
        tile,
        max(s.c_in, ceil_div(pairs, parts)),
        tiles.columns * 2 * lanes,
        odd_lines(tiles.columns * 2 * lanes, dtype.itemsize),
        tiles.depth * tiles.rows // lanes,
        *begins[:7],
    )
    return np.concatenate([np.array(layout), *pieces])
