"""`tiled`: equal to the call on the whole array, within the memory, and it can be resumed."""

from __future__ import annotations

import threading
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numbaconv as nc
from numbaconv import tiling
from numbaconv.blocks.calls import arguments_of
from numbaconv.blocks.regions import Window

MODES = ("reflect", "mirror", "nearest", "wrap", "constant")


@pytest.fixture(autouse=True)
def no_scratch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small blocks, of small arrays."""
    monkeypatch.setattr(tiling, "_SCRATCH", 0)


def whole_numbers(rng: Any, *shape: int) -> np.ndarray:
    return rng.integers(-4, 5, shape).astype(np.float32)


class Counting:
    """An array that tells what is read and stored at once."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.reads: list[int] = []
        self.stored: list[int] = []

    def __getitem__(self, place: Any) -> np.ndarray:
        self.reads.append(self.array[place].nbytes)
        return self.array[place]

    def __setitem__(self, place: Any, value: np.ndarray) -> None:
        self.stored.append(value.nbytes)
        self.array[place] = value


@pytest.mark.parametrize(
    "mode",
    [
        *("zeros", "reflect", "replicate", "circular", "symmetric"),
        *(("zeros", "circular"), ("reflect", "zeros"), ("symmetric", "replicate")),
    ],
    ids=str,
)
@pytest.mark.parametrize("seed", range(6))
def test_random_convolutions(mode: str | tuple[str, ...], seed: int):
    rng = np.random.default_rng(seed)
    x, w = whole_numbers(rng, 3, 4, 37, 29), whole_numbers(rng, 6, 2, 3, 4)
    options = {
        "bias": whole_numbers(rng, 6),
        "stride": (int(rng.integers(1, 4)), int(rng.integers(1, 4))),
        "dilation": int(rng.integers(1, 4)),
        "padding": ((int(rng.integers(0, 9)), 2), (3, int(rng.choice([0, 5, 70])))),
        "padding_mode": mode,
        "groups": 2,
    }
    source = Counting(x)
    result = nc.tiled(nc.conv2d, source, memory="90 kB", weight=w, **options)
    assert len(source.reads) > 3
    np.testing.assert_array_equal(result, nc.conv2d(x, w, **options), strict=True)
    layer = nc.prepare(w, **options)
    np.testing.assert_array_equal(nc.tiled(layer, x, memory="90 kB"), result, strict=True)
    add = whole_numbers(rng, *result.shape)
    for function, more in ((layer, {}), (nc.conv2d, {"weight": w} | options)):
        added = nc.tiled(function, x, memory="120 kB", **more, add=Counting(add))
        np.testing.assert_array_equal(added, result + add, strict=True)


@pytest.mark.parametrize("mode", ["reflect", "symmetric", "edge"])
def test_a_block_reads_what_its_padding_is_made_of(mode: Any):
    """Every block of short axes, whose padding is shorter or several times as long."""
    sizes, paddings, reaches, strides = (1, 2, 5), (0, 1, 3, 9), (0, 2), (1, 2)
    for size, lo, hi, reach, stride in product(sizes, paddings, paddings, reaches, strides):
        source = np.arange(size)
        padded = np.pad(source, (lo, hi), mode)
        result = (len(padded) - reach - 1) // stride + 1
        window = Window(size, result, reach, stride, lo, hi, mirrors=True)
        for a, b in combinations(range(result + 1), 2):
            read = window.read(a, b)
            block = np.pad(source[read.start : read.stop], (read.before, read.after), mode)
            used = block[read.skip : read.skip + read.used]
            expected = padded[a * stride : (b - 1) * stride + reach + 1]
            np.testing.assert_array_equal(used, expected)


@pytest.mark.parametrize("seed", range(6))
def test_random_transposed_convolutions(seed: int):
    rng = np.random.default_rng(seed)
    x, w = whole_numbers(rng, 4, 23, 18), whole_numbers(rng, 4, 3, 3, 2)
    options = {
        "stride": int(rng.integers(1, 4)),
        "padding": (int(rng.integers(0, 5)), 1),
        "dilation": (int(rng.integers(1, 4)), 1),
        "bias": whole_numbers(rng, 3),
    }
    source = Counting(x)
    result = nc.tiled(nc.conv_transpose2d, source, memory="16 kB", weight=w, **options)
    assert len(source.reads) > 1
    np.testing.assert_array_equal(result, nc.conv_transpose2d(x, w, **options), strict=True)
    add = whole_numbers(rng, *result.shape)
    options |= {"weight": w, "add": add}
    added = nc.tiled(nc.conv_transpose2d, source, memory="24 kB", **options)
    np.testing.assert_array_equal(added, result + add, strict=True)


@pytest.mark.parametrize("mode", MODES)
def test_filters(mode: str):
    rng = np.random.default_rng(1)
    x = rng.integers(0, 200, (23, 31, 17), np.uint8)
    source = Counting(x)
    options = {"mode": mode, "output": np.int16, "cval": 3}
    result = nc.tiled(nc.ndimage.sobel, source, memory="40 kB", **options)
    assert len(source.reads) > 2
    np.testing.assert_array_equal(result, nc.ndimage.sobel(x, **options), strict=True)
    weights = rng.integers(-3, 4, (2, 5))
    kernel = {"weights": weights, "axes": (0, 2), "origin": (-1, 1), "mode": mode}
    signed = x.astype(np.int32)
    result = nc.tiled(nc.ndimage.convolve, signed, memory="100 kB", **kernel)
    np.testing.assert_array_equal(result, nc.ndimage.convolve(signed, **kernel), strict=True)


def test_memory_holds_what_is_read_and_stored():
    x = np.zeros((60, 70, 50), np.float32)
    for memory in (200_000, 400_000, 10_000_000):
        source, out = Counting(x), Counting(np.empty_like(x))
        nc.tiled(nc.ndimage.gaussian_filter, source, out, memory=memory, sigma=1)
        assert 2 * max(source.reads) + 2 * max(out.stored) < memory
        assert sum(out.stored) == x.nbytes
    assert len(source.reads) == 1
    with pytest.raises(ValueError, match="memory of 1000 bytes is too little"):
        nc.tiled(nc.conv, x[None], memory=1000, weight=np.ones((1, 1, 9, 9, 9)))


def test_blocks_are_whole_chunks_of_the_result():
    call = nc.ndimage.uniform_filter.by_blocks(
        arguments_of(nc.ndimage.uniform_filter, np.zeros((100, 100)), size=5)
    )
    extents = tiling._choose_extents(call, 8, 130_000, (32, 32))
    assert all(n % 32 == 0 or n == 100 for n in extents)
    assert extents != (100, 100)


def test_an_interrupted_call_goes_on(tmp_path: Path):
    x = np.random.default_rng(0).random((64, 64))
    expected = nc.ndimage.uniform_filter(x, 3)
    record = tmp_path / "blocks"
    out = np.lib.format.open_memmap(tmp_path / "out.npy", "w+", x.dtype, x.shape)

    class Breaks(Counting):
        def __getitem__(self, place: Any) -> np.ndarray:
            if len(self.reads) == 5:
                raise KeyboardInterrupt
            return super().__getitem__(place)

    options: Any = {"memory": "20 kB", "resume": record, "size": 3}
    with pytest.raises(KeyboardInterrupt):
        nc.tiled(nc.ndimage.uniform_filter, Breaks(x), out, **options)
    finished = len(record.read_text().splitlines()) - 1
    assert finished == 5
    source = Counting(x)
    nc.tiled(nc.ndimage.uniform_filter, source, out, **options | {"memory": "30 kB"})
    total = len(record.read_text().splitlines()) - 1
    assert len(source.reads) == total - finished
    np.testing.assert_array_equal(out, expected)
    nc.tiled(nc.ndimage.uniform_filter, source, out, **options)
    assert len(source.reads) == total - finished
    layers = [nc.prepare(np.full((1, 1, 1, 1), value)) for value in (1.0, 2.0)]
    calls = [layer.by_blocks({"x": x[None]}) for layer in layers]
    keys = {tiling._key(layer, call, x) for layer, call in zip(layers, calls, strict=True)}
    assert len(keys) == 2
    with pytest.raises(ValueError, match="of another call"):
        nc.tiled(nc.ndimage.uniform_filter, x, out, **options | {"size": 5})


def test_a_record_cut_short_loses_no_block(tmp_path: Path):
    """What a machine that failed left of the last line is no number of a block."""
    x = np.random.default_rng(0).random((64, 64))
    record = tmp_path / "blocks"
    options: Any = {"memory": "20 kB", "resume": record, "size": 3, "out": np.empty_like(x)}
    nc.tiled(nc.ndimage.uniform_filter, x, **options)
    lines = record.read_text().splitlines()
    assert len(lines) > 12
    record.write_text("\n".join(lines[:12])[:-1])  # "10" has become "1"
    source = Counting(x)
    nc.tiled(nc.ndimage.uniform_filter, source, **options)
    assert len(source.reads) == len(lines) - 1 - 10
    assert sorted(map(int, record.read_text().splitlines()[1:])) == list(range(len(lines) - 1))


@pytest.mark.parametrize(
    "content",
    [
        *("notes", "notes\nof a user\n", "[1]\n"),
        *('{"call": "x"}\n', '{"call": "x", "extents": [1]}\n?\n'),
    ],
)
def test_no_other_file_is_taken_for_a_record(content: str, tmp_path: Path):
    x, record = np.ones((8, 8)), tmp_path / "blocks"
    record.write_text(content)
    with pytest.raises(ValueError, match=r"resume: .*blocks is no record of finished blocks"):
        nc.tiled(nc.ndimage.sobel, x, np.empty_like(x), resume=record)
    assert record.read_text() == content


def test_a_record_cut_short_in_its_first_line_begins_anew(tmp_path: Path):
    x, record = np.random.default_rng(0).random((64, 64)), tmp_path / "blocks"
    out = np.empty_like(x)
    nc.tiled(nc.ndimage.sobel, x, out, memory="20 kB", resume=record)
    whole = record.read_text()
    record.write_text(whole[:20])
    out[:] = 0
    nc.tiled(nc.ndimage.sobel, x, out, memory="20 kB", resume=record)
    assert record.read_text() == whole
    np.testing.assert_array_equal(out, nc.ndimage.sobel(x))


@pytest.mark.parametrize("kind", ["zarr", "h5py"])
def test_stores(kind: str, tmp_path: Path):
    library = pytest.importorskip(kind)
    x = whole_numbers(np.random.default_rng(3), 40, 40)
    if kind == "zarr":
        make = {"dtype": x.dtype, "shape": x.shape, "chunks": (16, 16)}
        source = library.create_array(str(tmp_path / "in.zarr"), **make)
        out = library.create_array(str(tmp_path / "out.zarr"), **make)
    else:
        file = library.File(tmp_path / "all.h5", "w")
        source = file.create_dataset("in", x.shape, x.dtype, chunks=(16, 16))
        out = file.create_dataset("out", x.shape, x.dtype, chunks=(16, 16))
    source[:] = x
    nc.tiled(nc.ndimage.laplace, source, out, memory="16 kB")
    np.testing.assert_array_equal(out[:], nc.ndimage.laplace(x))


def test_refusals():
    x = np.ones((8, 8))
    with pytest.raises(TypeError, match="cannot be computed by blocks"):
        nc.tiled(np.sum, x)
    with pytest.raises(ValueError, match="memory"):
        nc.tiled(nc.ndimage.sobel, x, memory="much")
    with pytest.raises(ValueError, match="out has shape"):
        nc.tiled(nc.ndimage.sobel, x, np.ones((8, 9)))
    with pytest.raises(TypeError, match="out has dtype"):
        nc.tiled(nc.ndimage.sobel, x, np.ones((8, 8), np.float32))
    with pytest.raises(TypeError, match="sigma"):
        nc.tiled(nc.ndimage.gaussian_filter, x)
    for out in (x, x[::-1]):
        with pytest.raises(ValueError, match="out overlaps source"):
            nc.tiled(nc.ndimage.sobel, x, out)
    source = Counting(x)
    with pytest.raises(ValueError, match="out overlaps source"):
        nc.tiled(nc.ndimage.sobel, source, source)
    with pytest.raises(ValueError, match="resume needs an out"):
        nc.tiled(nc.ndimage.sobel, x, resume="blocks.txt")
    with pytest.raises(TypeError, match="source must have a shape and a dtype, got list"):
        nc.tiled(nc.ndimage.sobel, x.tolist())
    with pytest.raises(TypeError, match="out must have a shape and a dtype, got list"):
        nc.tiled(nc.ndimage.sobel, x, x.tolist())
    assert tiling._in_bytes(np.int64(1000)) == 1000
    assert tiling._in_bytes("1.5 GiB") == 3 * 2**29
    assert tiling._in_bytes("500 MB") == 500_000_000


def test_blocks_are_read_and_stored_while_others_are_computed():
    x = whole_numbers(np.random.default_rng(0), 60, 40)
    third_read, waited = threading.Event(), []

    class Source(Counting):
        def __getitem__(self, place: Any) -> np.ndarray:
            if len(self.reads) == 2:
                third_read.set()
            return super().__getitem__(place)

    class Target(Counting):
        def __setitem__(self, place: Any, value: np.ndarray) -> None:
            waited.append(third_read.wait(60))  # which begins after the first block was computed
            super().__setitem__(place, value)

    out = Target(np.empty_like(x))
    nc.tiled(nc.ndimage.sobel, Source(x), out, memory="16 kB")
    assert len(out.stored) > 3
    assert all(waited)
    np.testing.assert_array_equal(out.array, nc.ndimage.sobel(x))


def test_errors_of_storing_are_told():
    class Full(Counting):
        def __setitem__(self, place: Any, value: np.ndarray) -> None:
            raise OSError("no space left")

    x = whole_numbers(np.random.default_rng(0), 60, 40)
    with pytest.raises(OSError, match="no space left"):
        nc.tiled(nc.ndimage.sobel, x, Full(np.empty_like(x)), memory="16 kB")


def test_fresh_blocks_are_not_copied():
    kept: list[Any] = []

    class Source(Counting):
        def __getitem__(self, place: Any) -> np.ndarray:
            kept.append(super().__getitem__(place).copy())
            return kept[-1]

    x = whole_numbers(np.random.default_rng(0), 60, 40)
    call = nc.ndimage.sobel.by_blocks(arguments_of(nc.ndimage.sobel, x))
    block = tiling._read(Source(x), call, [axis.read(0, 20) for axis in call.axes])
    assert block is kept[0]
    view = tiling._read(x, call, [axis.read(0, 20) for axis in call.axes])
    assert not np.shares_memory(view, x)
