"""Calls on Dask arrays, as lazy Dask arrays: nothing is computed here."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import dask.array as da
import numpy as np
from dask import delayed
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph

from numbaconv.blocks.calls import ByBlocks
from numbaconv.blocks.halos import Offset, Part, assembled, neighbours, parts_along, strips_of
from numbaconv.blocks.regions import Along, Axis, Read, merge, pieces
from numbaconv.problem.libraries import DASK, library_of
from numbaconv.runtime.threads import limited_threads

Reads = Sequence[Read]


def is_lazy(array: Any) -> bool:
    """Whether this is an array of Dask."""
    return library_of(array) == DASK


def call_lazily(function: Callable[..., Any], given: dict[str, Any], threads: int = 1) -> Any:
    """Call a public function, or a prepared layer, on a Dask array.

    Parameters
    ----------
    function : callable
        The function.
    given : dict
        All its arguments by name.
    threads : int
        On how many threads each block is computed.
    """
    describe = getattr(function, "by_blocks", None)
    if describe is None:
        name = getattr(function, "__name__", function)
        raise TypeError(f"{name} does not take Dask arrays: compute them before, or block by block")
    for name in ("out", "output", "stream"):
        value = given.get(name)
        is_dtype = (
            name == "output" and not isinstance(value, np.ndarray) and library_of(value) is None
        )
        if value is not None and not is_dtype:
            raise TypeError(f"{name} is not for Dask arrays: the result is a new one, and lazy")
    source = given[next(name for name in ("input", "x") if name in given)]
    if not is_lazy(source):
        raise TypeError("weights are a Dask array and the input is not: compute them")
    if any(math.isnan(n) for n in source.shape):
        raise ValueError("input has chunks of unknown size: call compute_chunk_sizes() on it")
    call: ByBlocks = describe(given)
    apart = _by_channels(function, given, call, threads)
    return _graph(call, source, threads) if apart is None else apart


def _graph(call: ByBlocks, source: Any, threads: int) -> Any:
    """The blocks of a call, each from its chunk and from strips of its neighbours."""
    for place, axis in enumerate(call.axes):
        source = _extended(source, place, axis.wrap)
    planned = [_along(*each) for each in zip(call.axes, source.chunks, strict=True)]
    source = source.rechunk(tuple(chunks for chunks, *_ in planned))
    shared = delayed(call, pure=False)  # one node of the graph: a worker gets its weights once
    whole = {name: _whole(array) for name, array in call.arrays.items()}
    lazy = {name: array for name, array in whole.items() if isinstance(array, Delayed)}
    names = tuple(lazy)
    arrays = {name: array for name, array in whole.items() if name not in lazy}
    token = da.core.tokenize(call, source.name, threads)
    name = f"{getattr(call.function, '__name__', 'layer')}-{token}"
    depths = [depths for _, _, depths, _ in planned]
    layer: dict[Any, Any] = {}
    for index in np.ndindex(source.numblocks):
        reads = [along[i] for (*_, along), i in zip(planned, index, strict=True)]
        parts = [
            parts_along(read.start, read.stop, chunks[i])
            for read, (chunks, *_), i in zip(reads, planned, index, strict=True)
        ]
        offsets = neighbours(parts)
        if any(map(any, depths)):
            layer[(f"strips-{token}", *index)] = strips_of, (source.name, *index), depths
        compute = partial(_compute_block, offsets, parts, reads, names, arrays, threads)
        layer[(name, *index)] = (
            compute,
            (source.name, *index),
            [
                (f"strips-{token}", *(i + d for i, d in zip(index, offset, strict=True)))
                for offset in offsets
            ],
            shared.key,
            [array.key for array in lazy.values()],
        )
    graph = HighLevelGraph.from_collections(name, layer, [source, shared, *lazy.values()])
    chunks = tuple(results for _, results, _, _ in planned)
    return da.Array(graph, name, chunks, dtype=call.dtype, meta=source._meta.astype(call.dtype))


def _compute_block(
    offsets: list[Offset],
    parts: list[list[Part]],
    reads: Reads,
    names: tuple[str, ...],
    arrays: dict[str, Any],
    threads: int,
    chunk: Any,
    strips: list[Any],
    call: ByBlocks,
    lazy: list[Any],
) -> Any:
    """Compute one block."""
    block = assembled(chunk, dict(zip(offsets, strips, strict=True)), parts)
    with limited_threads(threads):
        return call.run(block, reads, arrays | dict(zip(names, lazy, strict=True)))


def _whole(array: Any) -> Any:
    """An array that every block reads as a whole."""
    if not is_lazy(array):
        return array
    return array.rechunk(-1).to_delayed().item()


def _extended(source: Any, place: int, wrap: tuple[int, int]) -> Any:
    """A source with elements of its other end before and after."""
    if not any(wrap):
        return source
    size = source.shape[place]

    def part(start: int, stop: int) -> Any:
        return source[(slice(None),) * place + (slice(start, stop),)]

    parts = [part(*each) for each in pieces(-wrap[0], size + wrap[1], size)]
    return da.concatenate(parts, axis=place)


def _along(axis: Axis, chunks: tuple[int, ...]) -> tuple[Any, ...]:
    """Chunks of the source and of the result, depths of strips, reads from chunks' begins."""
    least = axis.least
    while True:
        merged = merge(chunks, least)
        cuts = [0, *accumulate(merged)]
        ends = [0, *(axis.boundary(place) for place in cuts[1:-1]), axis.result]
        reads = [axis.read(a, b) for a, b in pairwise(ends)]
        depths = _depths(cuts, reads)
        full = axis.result == 0 or all(a < b for a, b in pairwise(ends))
        if len(merged) == 1 or (full and max(depths) <= min(merged)):
            break
        least = max(2 * least, *depths)
    local = [read.within(start) for read, start in zip(reads, cuts, strict=False)]
    return merged, tuple(b - a for a, b in pairwise(ends)), depths, local


def _depths(cuts: list[int], reads: list[Read]) -> tuple[int, int]:
    """How far blocks read into the chunks before and after their own."""
    chunks = list(zip(pairwise(cuts), reads, strict=True))
    if len(chunks) == 1:
        return 0, 0
    before = max(start - read.start for (start, _), read in chunks)
    after = max(read.stop - stop for (_, stop), read in chunks)
    return max(before, 0), max(after, 0)


def _by_channels(
    function: Callable[..., Any], given: dict[str, Any], call: ByBlocks, threads: int
) -> Any:
    """A convolution whose channels are chunked, as convolutions of whole channels; else None.

    Chunked output channels are convolutions side by side, and so are groups. Chunked channels of
    one group are a sum, taken in pairs.
    """
    if "padding_mode" not in given or "weight" not in given:
        return None
    weight, x = given["weight"], given["input"]
    channels = next(i for i, a in enumerate(call.axes) if isinstance(a, Along) and not a.splits)
    if is_lazy(weight) and given["groups"] == 1 and weight.numblocks[0] > 1:
        return da.concatenate(
            [
                call_lazily(function, given | _rows(given, a, b), threads)
                for a, b in pairwise([0, *accumulate(weight.chunks[0])])
            ],
            axis=channels,
        )
    cuts = [0, *accumulate(x.chunks[channels])]
    rounds = given.get("out_dtype") is not None or call.dtype == np.float16
    if len(cuts) < 3 or rounds:
        return None

    def part(a: int, b: int) -> Any:
        return x[(slice(None),) * channels + (slice(a, b),)]

    groups = given["groups"]
    inner, outer = x.shape[channels] // groups, weight.shape[0] // groups
    if groups > 1:
        if any(cut % inner for cut in cuts):
            return None
        parts = [
            given
            | _rows(given, a // inner * outer, b // inner * outer)
            | {"input": part(a, b), "groups": (b - a) // inner}
            for a, b in pairwise(cuts)
        ]
        return da.concatenate([call_lazily(function, each, threads) for each in parts], channels)
    without = given | {"bias": None, "activation": None}
    sums = [
        call_lazily(function, without | {"input": part(a, b), "weight": weight[:, a:b]}, threads)
        for a, b in pairwise(cuts)
    ]
    while len(sums) > 1:
        sums = [a + b for a, b in zip(sums[::2], sums[1::2], strict=False)] + sums[len(sums) & ~1 :]
    if given["bias"] is None and given["activation"] is None:
        return sums[0]
    return _finished(function, sums[0], given, threads)


def _rows(given: dict[str, Any], a: int, b: int) -> dict[str, Any]:
    """Weight and bias of some output channels."""
    bias = given["bias"]
    return {"weight": given["weight"][a:b], "bias": None if bias is None else bias[a:b]}


def _finished(function: Callable[..., Any], y: Any, given: dict[str, Any], threads: int) -> Any:
    """Add the bias and apply the activation: a convolution under windows of one element."""
    rank = len(given["weight"].shape) - 2
    c_out = given["weight"].shape[0]
    neutral = {"stride": 1, "padding": 0, "dilation": 1, "groups": c_out}
    unit = np.ones((c_out, *(1,) * (rank + 1)), given["weight"].dtype)
    return call_lazily(function, given | neutral | {"input": y, "weight": unit}, threads)
