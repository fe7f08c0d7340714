"""`tiled`: a function on what does not fit into memory, block by block, without Dask."""

import hashlib
import itertools
import json
import math
import os
import re
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from numbaconv.blocks.calls import ByBlocks, arguments_of
from numbaconv.blocks.regions import Read, pieces

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SIZE = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)
# What kernels take for themselves: tiles and packed weights of each thread.
_SCRATCH = 16 * 2**20

_SOURCE = ""  # among the names of the arrays that are read with it

Extents = tuple[int, ...]


def _in_bytes(memory: Any) -> int:
    """An amount of memory, such as "500 MB", "2 GiB" or a number of bytes."""
    if isinstance(memory, str) and (found := _SIZE.fullmatch(memory)):
        number, unit, binary = found.groups()
        factor = _UNITS[unit.lower()]
        if binary:
            factor = 1024 ** round(math.log(factor, 1000))
        return int(float(number) * factor)
    if isinstance(memory, (int, np.integer)) and not isinstance(memory, bool) and memory > 0:
        return int(memory)
    raise ValueError(f'memory must be a size such as "500 MB", or bytes, got {memory!r}')


def _reads(call: ByBlocks, place: Sequence[tuple[int, int]]) -> list[Read]:
    return [axis.read(a, b) for axis, (a, b) in zip(call.axes, place, strict=True)]


def _bytes_at_once(call: ByBlocks, itemsize: int, extents: Extents) -> int:
    """Most bytes that are in use with blocks of these extents."""
    longest = []
    for axis, n in zip(call.axes, extents, strict=True):
        # At an end of the axis and in its middle.
        middle = max((axis.result - n) // 2, 0)
        begins = {0, middle, max(axis.result - n, 0)}
        reads = [axis.read(a, min(a + n, axis.result)) for a in begins]
        longest.append(max(max(r.stop - r.start, r.skip + r.used) for r in reads))
    source, result = math.prod(longest), math.prod(extents)
    # The block, the next one, and a copy that is padded or of another dtype. The result and the one
    # before, with what a filter cuts off them, and one of another size whose memory is kept. Of
    # what is added also the block, the next one, and a copy.
    copied = max(itemsize, call.dtype.itemsize)
    added = 3 * call.dtype.itemsize * len(call.cut) * result
    return (2 * itemsize + copied) * source + 3 * call.dtype.itemsize * max(source, result) + added


def _choose_extents(call: ByBlocks, itemsize: int, memory: int, chunks: Any) -> Extents:
    """Extents of a block: the fewest elements read twice, within the memory.

    The axis is halved whose halo costs least; the first of equals, so that reads are long.
    """
    extents = [max(axis.result, 1) for axis in call.axes]
    while _bytes_at_once(call, itemsize, tuple(extents)) + _SCRATCH > memory:
        candidates = []
        for i, axis in enumerate(call.axes):
            half = -(-extents[i] // 2)
            if half == extents[i] or axis.least >= axis.size > 1:
                continue
            if chunks and half > chunks[i]:  # whole chunks are written once
                half = -(-half // chunks[i]) * chunks[i]
                half = half if half < extents[i] else half - chunks[i]
            read = axis.read(0, half)
            halo = (axis.least - 1) / max(read.stop - read.start, 1)
            candidates.append((round(halo, 1), i, half))
        if not candidates:
            raise ValueError(
                f"memory of {memory} bytes is too little: the smallest block takes "
                f"{_bytes_at_once(call, itemsize, tuple(extents)) + _SCRATCH}"
            )
        _, i, half = min(candidates)
        extents[i] = half
    return tuple(extents)


def _places(call: ByBlocks, extents: Extents) -> list[tuple[tuple[int, int], ...]]:
    """The blocks of the result, in its order."""
    along = [
        [(a, min(a + n, axis.result)) for a in range(0, axis.result, n)]
        for axis, n in zip(call.axes, extents, strict=True)
    ]
    return list(itertools.product(*along))


def _read_all(
    sources: dict[str, Any], call: ByBlocks, place: Sequence[tuple[int, int]]
) -> dict[str, np.ndarray]:
    """What the block of the result at a place reads of each array."""
    reads = _reads(call, place)
    blocks = {name: _read(source, call, reads) for name, source in sources.items()}
    own = tuple(slice(*each) for each in place)
    return blocks | {name: np.array(array[own]) for name, array in call.cut.items()}


def _read(source: Any, call: ByBlocks, reads: Sequence[Read]) -> np.ndarray:
    """What a block reads, in memory; of an axis that wraps around, piece by piece."""
    along = []
    for axis, read in zip(call.axes, reads, strict=True):
        size = axis.size - sum(axis.wrap)
        shift = axis.wrap[0]
        if any(axis.wrap):
            along.append(list(pieces(read.start - shift, read.stop - shift, size)))
        else:
            along.append([(read.start, read.stop)])
    if all(len(parts) == 1 for parts in along):
        (place,) = itertools.product(*along)
        block: np.ndarray = np.asarray(source[tuple(slice(*each) for each in place)])
        return block if block.flags.owndata else block.copy()  # a view has not been read
    block = np.empty([sum(b - a for a, b in parts) for parts in along], source.dtype)
    for place in itertools.product(*along):
        target = []
        for parts, each in zip(along, place, strict=True):
            at = sum(b - a for a, b in parts[: parts.index(each)])
            target.append(slice(at, at + each[1] - each[0]))
        block[tuple(target)] = source[tuple(slice(*each) for each in place)]
    return block


def _read_record(path: Path, head: str) -> list[str]:
    """Return the whole lines of a record, of which `head` is the first if there is no file yet."""
    if not path.exists():
        return [head]
    # A machine that failed may have left half a line.
    kept, _, half = path.read_text().rpartition("\n")
    if not kept and not head.startswith(half):
        raise ValueError("not even the first line is whole")
    return kept.splitlines() or [head]


class _Record:
    """The file that knows which blocks are finished."""

    def __init__(self, path: Any, key: str, extents: Extents) -> None:
        self.path, self.done = None if path is None else Path(path), set[int]()
        self.extents = extents
        if self.path is None:
            return
        try:
            lines = _read_record(self.path, json.dumps({"call": key, "extents": extents}))
            known, self.done = json.loads(lines[0]), set(map(int, lines[1:]))
            call, self.extents = known["call"], tuple(known["extents"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"resume: {self.path} is no record of finished blocks") from error
        if call != key:
            raise ValueError(f"resume: {self.path} is of another call; remove it to begin anew")
        self.path.write_text("\n".join([*lines, ""]))

    def add(self, number: int, out: Any) -> None:
        """Note a block that has been written."""
        if self.path is None:
            return
        if hasattr(out, "flush"):
            out.flush()
        with self.path.open("a") as file:
            file.write(f"{number}\n")
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def _progress(wanted: bool, done: int, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar on a terminal, if there is one and rich is installed."""
    if not (wanted and sys.stderr is not None and sys.stderr.isatty()):
        yield lambda: None
        return
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:
        yield lambda: None
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("blocks", total=total, completed=done)
        yield lambda: bar.advance(task)


def _check_source(source: Any) -> None:
    if not (hasattr(source, "shape") and hasattr(source, "dtype")):
        raise TypeError(f"source must have a shape and a dtype, got {type(source).__name__}")


def _check_out(out: Any, call: ByBlocks, source: Any, resume: Any) -> Any:
    if out is None:
        if resume is not None:
            raise ValueError("resume needs an out, which holds the blocks that are finished")
        return np.empty(call.shape, call.dtype)
    if not (hasattr(out, "shape") and hasattr(out, "dtype")):
        raise TypeError(f"out must have a shape and a dtype, got {type(out).__name__}")
    if tuple(out.shape) != call.shape:
        raise ValueError(f"out has shape {tuple(out.shape)}, the result has {call.shape}")
    if np.dtype(out.dtype) != call.dtype:
        raise TypeError(f"out has dtype {out.dtype}, the result has {call.dtype}")
    both = isinstance(out, np.ndarray) and isinstance(source, np.ndarray)
    if out is source or (both and np.may_share_memory(out, source)):
        raise ValueError("out overlaps source, which is still read when blocks are stored")
    return out


def tiled(
    function: Callable[..., Any],
    source: Any,
    out: Any = None,
    memory: Any = "1 GB",
    progress: bool = True,
    resume: Any = None,
    **options: Any,
) -> Any:
    """Apply a function to an array that memory does not hold, block by block.

    Parameters
    ----------
    function : callable
        A convolution or transposed convolution, a filter of `numbaconv.ndimage`,
        `numbaconv.signal.sepfir2d`, or a layer made by `prepare`.
    source : array_like
        What slices like a NumPy array and has a shape and a dtype: a memory map, an array of zarr
        or HDF5. While a block is computed, the next one is read and the last one stored, each on a
        thread of its own.
    out : array_like, optional
        What the result is stored into, block by block, of the result's shape and dtype; by default
        a new NumPy array, which `memory` does not count. It must not be the source.
    memory : str or int, optional
        Most memory for blocks, such as "500 MB" or a number of bytes. More of it means fewer
        elements that two blocks read.
    progress : bool, optional
        Whether a bar is shown, on terminals alone, if rich is installed.
    resume : path, optional
        File that keeps which blocks are finished. A call that was interrupted goes on where it was
        if it is made again with the same `out`; a finished call is not computed again.
    **options
        The function's other arguments, by name.

    Returns
    -------
    array
        `out`, or the new array.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or the smallest block takes more than `memory`.

    Notes
    -----
    The results are those of the function on the whole array. Sums may be taken in another order
    where other kernels are chosen for a block than for the whole.

    Examples
    --------
    >>> import numpy as np
    >>> import numbaconv as nc
    >>> volume = np.ones((64, 64, 64), np.float32)  # or a memory map
    >>> soft = nc.tiled(nc.ndimage.gaussian_filter, volume, memory="32 MB", sigma=2)
    >>> np.array_equal(soft, nc.ndimage.gaussian_filter(volume, 2))
    True
    """
    describe = getattr(function, "by_blocks", None)
    if describe is None:
        name = getattr(function, "__name__", function)
        raise TypeError(f"function {name} cannot be computed by blocks")
    limit = _in_bytes(memory)
    _check_source(source)
    call: ByBlocks = describe(arguments_of(function, source, **options))
    out = _check_out(out, call, source, resume)
    sources = {_SOURCE: source} | {
        name: np.broadcast_to(array, source.shape) for name, array in call.beside.items()
    }
    itemsize = sum(np.dtype(array.dtype).itemsize for array in sources.values())
    extents = _choose_extents(call, itemsize, limit, getattr(out, "chunks", None))
    record = _Record(resume, _key(function, call, source), extents)
    places = _places(call, record.extents)
    todo = [i for i in range(len(places)) if i not in record.done]
    with (
        _progress(progress, len(record.done), len(places)) as advance,
        ThreadPoolExecutor(1, "numbaconv-reader") as reader,
        ThreadPoolExecutor(1, "numbaconv-writer") as writer,
    ):

        def read(number: int) -> Future[dict[str, np.ndarray]]:
            return reader.submit(_read_all, sources, call, places[number])

        def store(number: int, result: np.ndarray) -> None:
            out[tuple(slice(*each) for each in places[number])] = result
            record.add(number, out)
            advance()

        ahead, stored = deque(map(read, todo[:1])), deque[Future[None]]()
        for number, following in itertools.zip_longest(todo, todo[1:]):
            blocks = ahead.popleft().result()
            if following is not None:
                ahead.append(read(following))
            local = [read.within(read.start) for read in _reads(call, places[number])]
            result = call.run(blocks.pop(_SOURCE), local, call.arrays | blocks)
            while stored:
                stored.popleft().result()
            stored.append(writer.submit(store, number, result))
            del blocks, result  # no more blocks at once than are counted
        for last in stored:
            last.result()
    return out


def _key(function: Any, call: ByBlocks, source: Any) -> str:
    """Digest of a call, but for the values of its source."""
    digest = hashlib.sha256()

    def tell(value: Any) -> None:
        if isinstance(value, np.ndarray):
            digest.update(f"{value.shape}{value.dtype}".encode() + value.tobytes())
        elif isinstance(value, tuple):
            for each in value:
                tell(each)
        else:
            digest.update(repr(value).encode())

    # A prepared layer is what it is pickled as.
    tell(getattr(function, "__name__", None) or function.__getstate__())
    tell((*sorted(call.arrays), *call.arrays.values()))
    tell(tuple(sorted(call.options)))
    tell(tuple(call.options[name] for name in sorted(call.options)))
    tell((call.axes, str(source.dtype), str(call.dtype), *sorted(call.cut)))
    return digest.hexdigest()
