"""Calls on Dask arrays, as lazy Dask arrays: nothing is computed here."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import dask.array as da
import numpy as np
from dask import delayed
from dask.highlevelgraph import HighLevelGraph

from numbaconv.blocks.calls import ByBlocks
from numbaconv.blocks.halos import Offset, Part, assembled, neighbours, parts_along, strips_of
from numbaconv.blocks.regions import Along, Axis, Read, merge, pieces
from numbaconv.problem.libraries import check_sizes, is_lazy, library_of
from numbaconv.runtime.threads import limited_threads

Reads = Sequence[Read]

SOURCES = ("input", "x", "grad_output")  # names of the argument that is cut, the first there is

_threads: ContextVar[int] = ContextVar("threads of a block", default=1)


@contextmanager
def block_threads(threads: int) -> Iterator[None]:
    """Let each block of the graphs that are made meanwhile run on so many threads.

    Parameters
    ----------
    threads : int
        At most as many as Numba has.
    """
    before = _threads.set(threads)
    try:
        yield
    finally:
        _threads.reset(before)


def call_lazily(function: Callable[..., Any], given: dict[str, Any]) -> Any:
    """Call a function that goes by blocks, or a prepared layer, on a Dask array.

    Parameters
    ----------
    function : callable
        The function.
    given : dict
        All its arguments by name.
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
    name = next(name for name in SOURCES if name in given)
    source = given[name]
    if not is_lazy(source):
        if name != "input" or not is_lazy(given.get("grad_output")):
            raise TypeError(f"another array is a Dask array and {name} is not: compute it")
        source = da.asarray(source)
    for name, array in given.items():
        if is_lazy(array):
            check_sizes(name, array)
    call: ByBlocks = describe(given)
    apart = _by_channels(function, given, call)
    return _graph(call, source) if apart is None else apart


def _graph(call: ByBlocks, source: Any) -> Any:
    """The blocks of a call, each from its chunks and from strips of their neighbours."""
    beside = [da.broadcast_to(da.asarray(array), source.shape) for array in call.beside.values()]
    sources = [_extended(array, call.axes) for array in (source, *beside)]
    planned = [_along(*each) for each in zip(call.axes, sources[0].chunks, strict=True)]
    chunks, results, depths = (tuple(along[i] for along in planned) for i in range(3))
    sources = [array.rechunk(chunks) for array in sources]
    cut = [da.asarray(array).rechunk(results) for array in call.cut.values()]
    lazy = {name: array for name, array in call.arrays.items() if is_lazy(array)}
    whole = [array.rechunk(-1).to_delayed().item() for array in lazy.values()]
    names, threads = (*call.beside, *call.cut, *lazy), _threads.get()
    alone = copy.copy(call)  # without arrays of Dask
    alone.arrays = {name: array for name, array in call.arrays.items() if name not in lazy}
    alone.beside, alone.cut = {}, {}
    shared = delayed(alone, pure=False)  # one node of the graph: a worker gets its weights once
    token = da.core.tokenize(alone, names, sources, cut, whole, threads)
    name = f"{getattr(call.function, '__name__', 'layer')}-{token}"
    ends = (0,) * len(call.sum_shape or ())
    layer: dict[Any, Any] = {}
    for index in np.ndindex(sources[0].numblocks):
        reads = [along[i] for (*_, along), i in zip(planned, index, strict=True)]
        parts = [
            parts_along(read.start, read.stop, along[i])
            for read, along, i in zip(reads, chunks, index, strict=True)
        ]
        offsets, strips = neighbours(parts), [f"strips-{i}-{token}" for i in range(len(sources))]
        if any(map(any, depths)):
            for array, strip in zip(sources, strips, strict=True):
                layer[(strip, *index)] = strips_of, (array.name, *index), depths
        near = [tuple(i + d for i, d in zip(index, offset, strict=True)) for offset in offsets]
        layer[(name, *index, *ends)] = (
            partial(_compute_block, offsets, parts, reads, names, threads),
            [(array.name, *index) for array in sources],
            [[(strip, *place) for place in near] for strip in strips],
            shared.key,
            [*((array.name, *index) for array in cut), *(array.key for array in whole)],
        )
    graph = HighLevelGraph.from_collections(name, layer, [*sources, shared, *cut, *whole])
    if call.sum_shape is None:
        return da.Array(graph, name, results, call.dtype, meta=source._meta.astype(call.dtype))
    return _added_up(graph, name, sources[0].numblocks, call)


def _added_up(graph: Any, name: str, numblocks: tuple[int, ...], call: ByBlocks) -> Any:
    """The sum of all blocks, as a tree; of half precision in single."""
    assert call.sum_shape is not None
    chunks = (*((1,) * count for count in numblocks), *((size,) for size in call.sum_shape))
    dtype = np.dtype(np.float32) if call.dtype == np.float16 else call.dtype
    parts = da.Array(graph, name, chunks, dtype)
    return parts.sum(axis=tuple(range(len(numblocks))), dtype=dtype).astype(call.dtype)


def _compute_block(
    offsets: list[Offset],
    parts: list[list[Part]],
    reads: Reads,
    names: tuple[str, ...],
    threads: int,
    chunks: list[Any],
    strips: list[list[Any]],
    call: ByBlocks,
    others: list[Any],
) -> Any:
    """Compute one block."""
    block, *beside = (
        assembled(chunk, dict(zip(offsets, near, strict=True)), parts)
        for chunk, near in zip(chunks, strips, strict=True)
    )
    arrays = call.arrays | dict(zip(names, [*beside, *others], strict=True))
    with limited_threads(threads):
        result = call.run(block, reads, arrays)
    return result if call.sum_shape is None else result.reshape((1,) * len(reads) + result.shape)


def _extended(source: Any, axes: Sequence[Axis]) -> Any:
    """A source with elements of its other end before and after, along axes that wrap around."""
    for place, axis in enumerate(axes):
        if any(axis.wrap):
            size, ahead = source.shape[place], (slice(None),) * place
            ranges = pieces(-axis.wrap[0], size + axis.wrap[1], size)
            parts = [source[(*ahead, slice(start, stop))] for start, stop in ranges]
            source = da.concatenate(parts, axis=place)
    return source


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


def _by_channels(function: Callable[..., Any], given: dict[str, Any], call: ByBlocks) -> Any:
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
                call_lazily(function, given | _rows(given, channels, a, b))
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
            | _rows(given, channels, a // inner * outer, b // inner * outer)
            | {"input": part(a, b), "groups": (b - a) // inner}
            for a, b in pairwise(cuts)
        ]
        return da.concatenate([call_lazily(function, each) for each in parts], channels)
    without = given | {"bias": None, "add": None, "activation": None}
    sums = [
        call_lazily(function, without | {"input": part(a, b), "weight": weight[:, a:b]})
        for a, b in pairwise(cuts)
    ]
    while len(sums) > 1:
        sums = [a + b for a, b in zip(sums[::2], sums[1::2], strict=False)] + sums[len(sums) & ~1 :]
    if all(given[name] is None for name in ("bias", "add", "activation")):
        return sums[0]
    return _finished(function, sums[0], given)


def _rows(given: dict[str, Any], channels: int, a: int, b: int) -> dict[str, Any]:
    """Weight, bias and what is added of some output channels; `channels` is their axis."""
    bias, add = given["bias"], given["add"]
    return {
        "weight": given["weight"][a:b],
        "bias": None if bias is None else bias[a:b],
        "add": None if add is None else add[(slice(None),) * channels + (slice(a, b),)],
    }


def _finished(function: Callable[..., Any], y: Any, given: dict[str, Any]) -> Any:
    """Add the bias and `add`, and activate: a convolution under windows of one element."""
    rank = len(given["weight"].shape) - 2
    c_out = given["weight"].shape[0]
    neutral = {"stride": 1, "padding": 0, "dilation": 1, "groups": c_out}
    unit = np.ones((c_out, *(1,) * (rank + 1)), given["weight"].dtype)
    return call_lazily(function, given | neutral | {"input": y, "weight": unit})
