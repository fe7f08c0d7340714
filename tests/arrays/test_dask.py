"""Dask arrays: lazy, and equal to the call on the whole array, whatever their chunks."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import numbaconv as nc
from tests.arrays.chunks import check, chunked, seeds, whole_numbers

da = pytest.importorskip("dask.array")
dask = pytest.importorskip("dask")
MODES = ("zeros", "reflect", "replicate", "circular", "symmetric")
FILTER_MODES = ("reflect", "mirror", "nearest", "wrap", "constant")


def draw_convolution(rng: Any) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    rank = int(rng.integers(1, 4))
    kernel = rng.integers(1, 5, rank)
    dilation = rng.integers(1, 4, rank)
    stride = rng.integers(1, 5, rank)
    groups = int(rng.choice([1, 1, 2, 3]))
    most = (60, 24, 12)[rank - 1]
    size = (kernel - 1) * dilation + 1 + rng.integers(0, most, rank)
    mode = str(rng.choice(MODES))
    limit = 2 * size + 3 if mode != "zeros" else (kernel - 1) * dilation + 3
    each = tuple(map(str, rng.choice(MODES, rank))) if rng.integers(0, 3) == 0 else mode
    pairs = tuple((int(rng.integers(0, m + 1)), int(rng.integers(0, m + 1))) for m in limit)
    x = whole_numbers(rng, 2, 2 * groups, *size)
    w = whole_numbers(rng, 2 * groups, 2, *kernel)
    last = bool(rng.integers(0, 2))
    options = {
        "bias": whole_numbers(rng, 2 * groups) if rng.integers(0, 2) else None,
        "stride": tuple(map(int, stride)),
        "padding": str(rng.choice(["same", "valid", "full"]))
        if mode == "zeros" and rng.integers(0, 2)
        else pairs,
        "dilation": tuple(map(int, dilation)),
        "groups": groups,
        "padding_mode": each,
        "data_format": "channels_last" if last else "channels_first",
        "activation": "relu" if rng.integers(0, 2) else None,
        "backend": "direct",  # a block may be large enough for transforms, which round
    }
    if mode == "zeros" and rng.integers(0, 2):
        options["padding"] = str(rng.choice(["same", "valid", "full"]))
    if rng.integers(0, 3) == 0:
        x = x[0]
    return np.ascontiguousarray(np.moveaxis(x, -rank - 1, -1)) if last else x, w, options


def draw_add(rng: Any, result: np.ndarray) -> tuple[np.ndarray | None, Any]:
    """Mostly an array to be added to a result, and the same or, of any chunks, a lazy one."""
    if rng.integers(0, 4) == 0:
        return None, None
    add = whole_numbers(rng, *result.shape)
    return add, chunked(rng, add) if rng.integers(0, 2) else add


@pytest.mark.parametrize("seed", seeds(32, 256))
def test_random_convolutions(seed: int):
    rng = np.random.default_rng(seed)
    x, w, options = draw_convolution(rng)
    expected = nc.conv(x, w, **options)
    add, given = draw_add(rng, expected)
    expected = expected if add is None else nc.conv(x, w, **options, add=add)
    check(nc.conv(chunked(rng, x), w, **options, add=given), expected)


@pytest.mark.parametrize("seed", seeds(12, 96))
def test_random_layers_and_lazy_weights(seed: int):
    rng = np.random.default_rng(1000 + seed)
    x, w, options = draw_convolution(rng)
    expected = nc.conv(x, w, **options)
    add, given = draw_add(rng, expected)
    expected = expected if add is None else nc.conv(x, w, **options, add=add)
    check(nc.prepare(w, **options)(chunked(rng, x), add=given), expected)
    if options["bias"] is not None:
        options["bias"] = da.from_array(options["bias"])
    check(nc.conv(chunked(rng, x), chunked(rng, w), **options, add=given), expected)


@pytest.mark.parametrize("seed", seeds(20, 160))
def test_random_transposed_convolutions(seed: int):
    rng = np.random.default_rng(2000 + seed)
    rank = int(rng.integers(1, 4))
    kernel, stride, dilation = (rng.integers(1, 5, rank) for _ in range(3))
    size = rng.integers(1, (50, 16, 8)[rank - 1], rank)
    extra = [int(rng.integers(0, max(s, d))) for s, d in zip(stride, dilation, strict=True)]
    full = (size - 1) * stride + (kernel - 1) * dilation + 1
    pairs = []
    for n in full:
        lo = int(rng.integers(0, n))
        pairs.append((lo, int(rng.integers(0, n - lo))))
    options = {
        "bias": whole_numbers(rng, 4) if rng.integers(0, 2) else None,
        "stride": tuple(map(int, stride)),
        "padding": tuple(pairs),
        "output_padding": tuple(extra),
        "groups": 2,
        "dilation": tuple(map(int, dilation)),
        "activation": "softplus" if rng.integers(0, 3) == 0 else None,
    }
    if rng.integers(0, 3) == 0:
        options |= {"padding": str(rng.choice(["same", "same_lower", "valid"]))}
        options["output_padding"] = 0
    x, w = whole_numbers(rng, 2, 4, *size), whole_numbers(rng, 4, 2, *kernel)
    if rng.integers(0, 2):
        options["data_format"] = "channels_last"
        x = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    function = getattr(nc, f"conv_transpose{rank}d")
    expected = function(x, w, **options)
    add, given = draw_add(rng, expected)
    expected = expected if add is None else function(x, w, **options, add=add)
    check(function(chunked(rng, x), w, **options, add=given), expected)
    check(nc.prepare_transposed(w, **options)(chunked(rng, x), add=given), expected)


FILTERS: dict[str, Any] = {
    "correlate": lambda rng, x, mode: {
        "weights": rng.integers(-3, 4, rng.integers(1, 6, x.ndim)),
        "mode": mode,
        "cval": 3.0,
    },
    "correlate1d": lambda rng, x, mode: {
        "weights": [1, 2, -3, 4],
        "origin": int(rng.integers(-2, 2)),
        "axis": int(rng.integers(0, x.ndim)),
        "mode": mode,
    },
    "convolve1d": lambda rng, x, mode: {
        "weights": [1, 2, -3, 4],
        "origin": int(rng.integers(-1, 2)),
        "axis": int(rng.integers(0, x.ndim)),
        "mode": mode,
    },
    "uniform_filter": lambda rng, x, mode: {
        "size": int(rng.integers(1, 9)),
        "mode": [mode, *rng.choice(FILTER_MODES, x.ndim - 1)],
        "output": np.float64,
    },
    "uniform_filter1d": lambda rng, x, mode: {"size": 4, "origin": -1, "mode": mode},
    "gaussian_filter": lambda rng, x, mode: {
        "sigma": [float(rng.uniform(0.5, 4)) for _ in range(x.ndim)],
        "mode": [mode, *rng.choice(FILTER_MODES, x.ndim - 1)],
        "axes": tuple(map(int, rng.permutation(x.ndim))),
    },
    "gaussian_filter1d": lambda rng, x, mode: {"sigma": 2.0, "axis": 0, "mode": mode, "order": 1},
    "sobel": lambda rng, x, mode: {"mode": mode, "output": np.int16},
    "prewitt": lambda rng, x, mode: {"mode": mode, "axis": 0},
    "laplace": lambda rng, x, mode: {"mode": mode, "axes": (0,)},
    "gaussian_laplace": lambda rng, x, mode: {"sigma": 1.5, "mode": mode, "truncate": 3.0},
    "gaussian_gradient_magnitude": lambda rng, x, mode: {"sigma": 1.5, "mode": mode},
}
FILTERS["convolve"] = FILTERS["correlate"]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", FILTERS)
def test_random_filters(name: str, seed: int):
    rng = np.random.default_rng(3000 + seed)
    x = whole_numbers(rng, *rng.integers(1, 40, rng.integers(1, 3)))
    function = getattr(nc.ndimage, name)
    options = FILTERS[name](rng, x, FILTER_MODES[seed % 5])
    lazy, expected = function(chunked(rng, x), **options), function(x, **options)
    if "gaussian" not in name and "uniform" not in name:
        check(lazy, expected)
        return
    # Weights are no whole numbers: the order of sums may differ with the place in a block.
    assert (lazy.shape, lazy.dtype) == (expected.shape, expected.dtype)
    error = np.abs(lazy.compute(scheduler="synchronous") - expected).max(initial=0)
    assert error <= 64 * np.finfo(np.float32).eps * np.abs(x).max(initial=1)


def test_nothing_is_computed_and_chunks_stay():
    def fail(*_: Any) -> None:
        raise AssertionError("computed")

    x = da.map_blocks(fail, chunks=((1,), (1,), (40, 60), (50, 50)), dtype=np.float32)
    y = nc.conv2d(x, np.ones((4, 1, 5, 5), np.float32), padding="same")
    assert y.chunks == ((1,), (4,), (40, 60), (50, 50))
    assert nc.conv2d(x, np.ones((4, 1, 5, 5)), stride=2).dtype == np.float64
    assert nc.ndimage.gaussian_filter(x, 2).chunks == x.chunks
    assert nc.conv_transpose2d(x, np.ones((1, 1, 2, 2), np.float32), stride=2).shape[2:] == (
        200,
        200,
    )


def test_images_and_channels_in_chunks():
    rng = np.random.default_rng(5)
    x, w = whole_numbers(rng, 5, 7, 9, 8), whole_numbers(rng, 4, 7, 3, 3)
    lazy = nc.conv2d(da.from_array(x, chunks=(2, 2, 4, -1)), w, w[:, 0, 0, 0], activation="relu")
    check(lazy, nc.conv2d(x, w, w[:, 0, 0, 0], activation="relu"))
    assert lazy.numblocks == (3, 1, 2, 1)
    each = whole_numbers(rng, 7, 1, 3, 3)
    lazy = nc.conv2d(da.from_array(x, chunks=(5, 3, -1, -1)), each, groups=7)
    check(lazy, nc.conv2d(x, each, groups=7))
    assert lazy.chunks[1] == (3, 3, 1)
    lazy = nc.conv2d(da.from_array(x), da.from_array(w, chunks=(3, -1, -1, -1)))
    assert lazy.chunks[1] == (3, 1)
    check(lazy, nc.conv2d(x, w))


def test_blocks_run_on_one_thread(monkeypatch: pytest.MonkeyPatch):
    numba = pytest.importorskip("numba")
    seen: list[int] = []
    layer = nc.prepare(np.ones((1, 1, 3, 3), np.float32))
    plain = nc.blocks.calls.Convolution.run

    def run(self: Any, *given: Any) -> Any:
        seen.append(numba.get_num_threads())
        return plain(self, *given)

    monkeypatch.setattr(nc.blocks.calls.Convolution, "run", run)
    x = da.ones((1, 64, 64), chunks=32, dtype=np.float32)
    before = numba.get_num_threads()
    layer(x).compute(scheduler="threads")
    assert seen == [1] * 4
    from numbaconv import dask as explicit

    explicit.conv2d(x, np.ones((1, 1, 3, 3)), threads=2).compute(scheduler="synchronous")
    assert seen[4:] == [min(2, numba.config.NUMBA_NUM_THREADS)] * 4
    assert numba.get_num_threads() == before


def test_schedulers(run_script: Any):
    code = """
import dask, dask.array as da, numpy as np, numbaconv as nc
if __name__ == "__main__":
    x = np.arange(2 * 40 * 40, dtype=np.float32).reshape(2, 40, 40) % 7
    w = np.ones((3, 2, 3, 3), np.float32)
    expected = nc.conv2d(x, w, padding=1)
    layer = nc.prepare(w, padding=1)
    lazy = [layer(da.from_array(x, chunks=17))]
    lazy += [nc.conv2d(da.from_array(x, chunks=17), w, padding=1)]
    for scheduler in ("threads", "processes"):
        for y in dask.compute(*lazy, scheduler=scheduler, num_workers=2):
            np.testing.assert_array_equal(y, expected)
"""
    run_script("-c", code)


def test_a_call_is_pickled():
    call = nc.prepare(np.ones((1, 1, 3, 3))).by_blocks({"x": np.ones((1, 9, 9))})
    assert pickle.loads(pickle.dumps(call)).shape == (1, 7, 7)


def test_xarray():
    xr = pytest.importorskip("xarray")
    x = np.random.default_rng(0).random((6, 30, 40)).astype(np.float32)
    labelled = xr.DataArray(da.from_array(x, chunks=(2, 16, 16)), dims=("time", "y", "x"))
    result = xr.apply_ufunc(
        nc.ndimage.correlate1d, labelled, kwargs={"weights": [1, 2, 1]}, dask="allowed"
    )
    assert isinstance(result.data, da.Array)
    np.testing.assert_array_equal(result.compute(), nc.ndimage.correlate1d(x, [1, 2, 1]))


def test_refusals():
    x = da.ones((1, 1, 8, 8))
    w = np.ones((1, 1, 3, 3))
    with pytest.raises(TypeError, match="out is not for Dask arrays"):
        nc.conv2d(x, w, out=np.ones((1, 1, 6, 6)))
    with pytest.raises(TypeError, match="output is not for Dask arrays"):
        nc.ndimage.sobel(x, output=np.ones((1, 1, 8, 8)))
    with pytest.raises(ValueError, match="unknown size"):
        nc.ndimage.sobel(x[x > 0])
    with pytest.raises(ValueError, match="weight: the kernel reaches over 9"):
        nc.conv2d(x, np.ones((1, 1, 9, 9)))
    with pytest.raises(RuntimeError, match="mode"):
        nc.ndimage.sobel(x, mode="zeros")
    with pytest.raises(TypeError, match="derivative2 may look at the whole image"):
        nc.ndimage.generic_laplace(x, lambda image, *_: image)
    with pytest.raises(TypeError, match="h is a Dask array"):
        nc.signal.upfirdn(x.ravel(), x)
    with pytest.raises(TypeError, match="grad_output is not"):
        nc.grad.conv2d_input(x.shape, da.from_array(w), np.ones((1, 1, 6, 6)))
    with pytest.raises(ValueError, match="in1 has chunks of unknown size"):
        nc.signal.convolve(x[x > 0], w.ravel())
    with pytest.raises(TypeError, match="mask: derivatives have no mean"):
        nc.ndimage.gaussian_laplace(x, 1, mask=np.ones(x.shape, bool))
    with pytest.raises(ValueError, match="mask of shape"):
        nc.ndimage.convolve(x, w, mask=np.ones(3, bool))
    with pytest.raises(TypeError, match="mask is a Dask array"):
        nc.ndimage.convolve(np.ones((8, 8)), np.ones((3, 3)), mask=da.ones((8, 8), dtype=bool))
    with pytest.raises(TypeError, match="one library"):
        nc.conv2d(np.ones((1, 1, 8, 8)), da.from_array(w))
