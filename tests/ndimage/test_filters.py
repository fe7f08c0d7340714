"""What SciPy does not say, or says otherwise: float16, rounding, NaN, memory, threads."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import numbaconv as nc
from numbaconv.cpu import blocking
from numbaconv.cpu.separable import execution, planning
from numbaconv.cpu.separable.borders import REFLECT
from numbaconv.ndimage import kernels
from tests.conftest import Script
from tests.ndimage.draws import padded

ndimage = nc.ndimage


def padded_along(
    x: np.ndarray, axis: int, before: int, after: int, mode: str, cval: float
) -> np.ndarray:
    """An image with so much more along one axis."""
    widths = [(0, 0)] * x.ndim
    widths[axis] = before, after
    return padded(x, widths, mode, cval)


def by_definition(
    x: np.ndarray, weights: np.ndarray, axis: int, mode: str, cval: float, origin: int = 0
) -> np.ndarray:
    """Sums of products in float64, tap by tap."""
    before = len(weights) // 2 + origin
    after = len(weights) - 1 - before
    wide = padded_along(np.asarray(x, np.float64), axis, before, after, mode, cval)
    n = x.shape[axis]
    return sum(
        (w * np.take(wide, range(k, k + n), axis) for k, w in enumerate(weights)),
        np.zeros(x.shape),
    )


@pytest.mark.target
@pytest.mark.nojit
@pytest.mark.parametrize("mode", ["reflect", "mirror", "nearest", "wrap", "constant"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int16"])
def test_definition(mode: str, dtype: str):
    """Along each axis of a volume, kernels of either parity, longer than the image too."""
    rng = np.random.default_rng(0)
    x = rng.integers(-9, 9, (3, 5, 11)).astype(dtype)
    for axis in range(3):
        for size in (1, 2, 3, 8, 25):
            weights = rng.integers(-3, 4, size).astype(float)
            origin = int(rng.integers(-(size // 2), (size - 1) // 2 + 1))
            got = ndimage.correlate1d(x, weights, axis, None, mode, 2.0, origin)
            expected = by_definition(x, weights, axis, mode, 2.0, origin)
            np.testing.assert_array_equal(got, expected, err_msg=f"{axis} {size} {origin}")


@pytest.mark.target
@pytest.mark.nojit
def test_all_axes_in_one_walk():
    rng = np.random.default_rng(1)
    x = rng.integers(0, 9, (7, 9, 70)).astype(np.float32)
    got = ndimage.gaussian_filter(x, (1, 0.7, 2), mode=("wrap", "constant", "mirror"), cval=3.0)
    expected: Any = x
    for axis, (sigma, mode) in enumerate([(1, "wrap"), (0.7, "constant"), (2, "mirror")]):
        radius = int(4 * sigma + 0.5)
        weights = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
        expected = by_definition(expected, weights / weights.sum(), axis, mode, 3.0)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.target
@pytest.mark.nojit
def test_full_kernel():
    rng = np.random.default_rng(2)
    x, w = (
        rng.integers(-9, 9, (4, 6, 9)).astype(float),
        rng.integers(-3, 4, (2, 3, 4)).astype(float),
    )
    wide: Any = x
    for axis, n in enumerate(w.shape):
        wide = padded_along(wide, axis, n // 2, n - 1 - n // 2, "reflect", 0.0)
    windows = np.lib.stride_tricks.sliding_window_view(wide, w.shape)
    np.testing.assert_array_equal(ndimage.correlate(x, w), (windows * w).sum((3, 4, 5)))


def test_float16_is_computed_in_float32():
    x = np.random.default_rng(0).random((20, 30)).astype(np.float16)
    got = ndimage.gaussian_filter(x, 2)
    assert got.dtype == np.float16
    expected = ndimage.gaussian_filter(x.astype(np.float32), 2)
    np.testing.assert_array_equal(got, expected.astype(np.float16))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int32"])
def test_saturated_results_are_the_nearest_integers(dtype: str):
    rng, limits = np.random.default_rng(0), np.iinfo(dtype)
    x = rng.integers(max(limits.min, -(2**20)), min(limits.max, 2**20), (30, 40)).astype(dtype)
    w = rng.normal(size=5) * 2
    exact = ndimage.correlate1d(x.astype(float), w, 0)
    got = ndimage.correlate1d(x, w, 0, rounding="saturate")
    expected = np.clip(np.rint(exact), limits.min, limits.max)
    near_half = np.abs(exact - np.floor(exact) - 0.5) < 1e-3  # float32 may round it either way
    assert (np.abs(got - expected) <= near_half).all()
    assert (expected != np.clip(exact, limits.min, limits.max).astype(dtype)).any()


def test_saturation_rounds_half_to_even():
    x = np.array([1, 3, 5, 255, 0], np.uint8)
    got = ndimage.correlate1d(x, [0.5], rounding="saturate")
    assert got.tolist() == [0, 2, 2, 128, 0]
    assert ndimage.correlate1d(x, [-2.0], rounding="saturate").tolist() == [0] * 5
    assert ndimage.correlate1d(x, [3.0], rounding="saturate").tolist() == [3, 9, 15, 255, 0]


def test_means_are_rounded_once():
    x = np.full((9, 9), 1, np.uint8)
    x[4, 4] = 9
    assert ndimage.uniform_filter(x, 3)[4, 4] == 1  # 11 / 3 is 3, 5 / 3 is 1
    assert ndimage.uniform_filter(x, 3, rounding="saturate")[4, 4] == 2  # 17 / 9


@pytest.mark.parametrize("name", ["uniform_filter", "gaussian_filter", "sobel", "correlate"])
def test_nan_stays_within_its_window(name: str):
    x = np.zeros((40, 50), np.float32)
    x[20, 30] = np.nan
    weights = np.array([[1, 0, 1], [0, 0, 0], [1, 0, 1.0]])
    arguments: Any = {"uniform_filter": (5,), "gaussian_filter": (1,), "correlate": (weights,)}
    missing = np.argwhere(np.isnan(getattr(ndimage, name)(x, *arguments.get(name, ()))))
    reach = {"uniform_filter": 2, "gaussian_filter": 4}.get(name, 1)
    if name == "correlate":
        assert missing.tolist() == [[19, 29], [19, 31], [21, 29], [21, 31]]
    else:
        assert len(missing) == (2 * reach + 1) ** 2
        assert np.abs(missing - [20, 30]).max() == reach


@pytest.mark.parametrize("dtype", ["float32", "uint8", "complex64"])
def test_output_may_be_the_input(dtype: str):
    x = (100 * np.random.default_rng(0).random((20, 30))).astype(dtype)
    expected = ndimage.gaussian_filter(x, 1.5)
    y = x.copy()
    assert ndimage.gaussian_filter(y, 1.5, output=y) is y
    np.testing.assert_array_equal(y, expected)
    y = x.copy()
    ndimage.correlate(y[:, :-5], np.ones((3, 3)), output=y[:, 5:])
    np.testing.assert_array_equal(y[:, 5:], ndimage.correlate(x[:, :-5], np.ones((3, 3))))


@pytest.mark.parametrize("shape", [(0,), (0, 5), (3, 0, 4)])
def test_nothing_is_filtered_to_nothing(shape: tuple[int, ...]):
    x = np.zeros(shape, np.float32)
    assert ndimage.gaussian_filter(x, 2).shape == shape
    assert ndimage.correlate(x, np.ones((3,) * x.ndim)).shape == shape
    assert ndimage.laplace(x).shape == shape


def test_no_weights_but_nothing():
    x = np.full((5, 5), np.nan)
    assert (ndimage.correlate(x, np.zeros((3, 3))) == 0).all()


@pytest.mark.parametrize("most", [1000, 4000])
def test_small_blocks(most: int, monkeypatch: pytest.MonkeyPatch):
    """Strips, blocks of planes and rings of many tasks: the same bits as in one piece."""
    rng = np.random.default_rng(3)
    images = rng.random((40, 300), np.float32), rng.random((17, 19, 90), np.float32)
    photo = rng.integers(0, 255, (30, 200, 3)).astype(np.uint8)

    def results() -> list[np.ndarray]:
        planning.make_template.cache_clear()
        found = [
            ndimage.gaussian_filter(x, 1.5, mode=m) for x in images for m in ("wrap", "mirror")
        ]
        found += [ndimage.gaussian_filter(x, 1, mode="constant", cval=2.0) for x in images]
        found += [ndimage.correlate(x, np.ones((3,) * x.ndim), mode="nearest") for x in images]
        found += [ndimage.gaussian_filter1d(x, 1.5, output=float) for x in (*images, photo[..., 0])]
        return [*found, ndimage.gaussian_filter(photo, 2, axes=(0, 1))]

    expected = results()
    monkeypatch.setattr(blocking, "CACHE_BYTES", most)
    monkeypatch.setattr(planning, "LEAST_STRIP", 16)
    monkeypatch.setattr(planning, "READ_BYTES", most)
    monkeypatch.setattr(planning, "SUMS_BYTES", 2 * most)
    for got, wanted in zip(results(), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)
    planning.make_template.cache_clear()


def test_results_past_the_caches(monkeypatch: pytest.MonkeyPatch):
    """Rows of any alignment are stored whole."""
    monkeypatch.setattr(planning, "last_level_caches", lambda threads: 0)
    monkeypatch.setattr(planning, "LEAST_STRIP", 16)
    planning.make_template.cache_clear()
    x = np.random.default_rng(0).random((9, 45))
    for dtype in (np.float32, np.float64):
        for columns in (45, 33, 16):
            part = x[:, :columns]
            got = ndimage.correlate1d(part.astype(dtype), [1.0, 2, 1], output=dtype)
            expected = by_definition(part.astype(dtype), np.array([1, 2, 1]), 1, "reflect", 0.0)
            np.testing.assert_allclose(got, expected, rtol=1e-6)
    planning.make_template.cache_clear()


THREADS = """
import numba, numpy as np
from numbaconv import ndimage
rng = np.random.default_rng(0)
images = [rng.random((700, 800), np.float32), rng.random((40, 60, 70)), rng.random(500_000)]
images.append((255 * rng.random((400, 300, 3))).astype(np.uint8))
def filtered(x):
    return [ndimage.gaussian_filter(x, 2), ndimage.uniform_filter(x, 5), ndimage.sobel(x),
            ndimage.correlate(x, np.ones((3,) * x.ndim))]
many = [filtered(x) for x in images]
numba.set_num_threads(1)
for x, results in zip(images, many):
    for got, expected in zip(filtered(x), results, strict=True):
        assert (got == expected).all()
"""


def test_any_number_of_threads_gives_the_same_bits(run_script: Script):
    for threads in ("2", "5"):
        run_script("-c", THREADS, NUMBA_NUM_THREADS=threads)


PEAK = """
import numpy as np
from numbaconv import ndimage
from numbaconv.cpu.separable import planning
from tests.peak_memory import peak_bytes
planning.last_level_caches = lambda threads: 0  # small images compile what large ones need
def calls(x, y, photo, blurred):
    ndimage.gaussian_filter(x, 3, output=y)
    ndimage.sobel(x, output=y)
    ndimage.correlate(x, np.ones((5, 5)), output=y)
    ndimage.uniform_filter(photo, 7, output=blurred, axes=(0, 1))
    ndimage.gaussian_filter(photo, 2, output=blurred, axes=(0, 1))
    ndimage.gaussian_filter(photo, 2, output=blurred, axes=(0, 1), rounding="saturate")
def arrays(n):
    x, photo = np.ones((n, n), np.float32), np.ones((n, n, 3), np.uint8)
    return x, x.copy(), photo, photo.copy()
calls(*arrays(600))
given = arrays(4000)
before = peak_bytes()
calls(*given)
print((peak_bytes() - before) / given[0].nbytes)
"""


def test_no_array_between_the_axes(run_script: Script):
    """A call takes no memory of the image's size beside the arrays that it is given."""
    pytest.importorskip("resource")
    assert float(run_script("-c", PEAK).stdout) < 0.2


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_long_passes_have_walks_of_their_own_and_the_same_bits(
    dtype: str, monkeypatch: pytest.MonkeyPatch
):
    walks: list[int] = []
    make = execution.make_template

    def counted(problem: Any, threads: int) -> Any:
        walks.append(len(problem.work))
        return make(problem, threads)

    monkeypatch.setattr(execution, "make_template", counted)
    x = (np.random.default_rng(0).random((3, 40, 50)) * 255).astype(dtype)
    options: dict[str, Any] = {"mode": ("reflect", "wrap", "constant"), "rounding": "saturate"}
    options |= {"cval": 7} if dtype == "float64" else {}
    apart = nc.ndimage.gaussian_filter(x, (1, 40, 2), **options)
    assert walks == [1, 1, 1]  # the pass along the rows is long
    monkeypatch.setattr(execution, "MOST_TOGETHER", 1000)
    together = nc.ndimage.gaussian_filter(x, (1, 40, 2), **options)
    assert len(walks) < 6
    np.testing.assert_array_equal(apart, together, strict=True)


def test_passes_may_reach_far_beyond_the_image():
    """Rows of so many elements, as many as a pass along the other axis reads, are terabytes."""
    x = np.random.default_rng(0).random((7, 9))
    near = nc.ndimage.gaussian_filter(x, 1e5)
    np.testing.assert_allclose(near, x.mean(), rtol=1e-6)
    np.testing.assert_array_equal(nc.ndimage.uniform_filter(x, 100_001).shape, x.shape)


def test_plans_are_kept_by_what_they_depend_on():
    """The same call twice is planned once, other arguments anew."""
    planning.make_template.cache_clear()
    x = np.zeros((30, 30))
    for _ in range(3):
        ndimage.gaussian_filter(x, 1)
    assert planning.make_template.cache_info().misses == 1
    ndimage.gaussian_filter(x, 1, mode="wrap")
    ndimage.gaussian_filter(x.T, 1)
    ndimage.gaussian_filter(x.astype(np.float32), 1)
    assert planning.make_template.cache_info().misses == 4


def test_work_is_cut_for_each_thread():
    for rows, window, threads in ((2048, 9, 2), (2048, 65, 2), (40, 25, 8), (9, 3, 4)):
        block, blocks = planning.task_blocks(1, rows, window, threads)
        assert block * blocks >= rows > block * (blocks - 1)
        assert blocks <= math.ceil(rows / 8)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
def test_kernels_of_rank_one_are_passes(dtype: str):
    x = np.random.default_rng(0).normal(size=(40, 50)).astype(dtype)
    line, other = np.hanning(13)[1:-1], np.random.default_rng(1).uniform(0.5, 2, 6)
    kernel = np.outer(line, other)
    passes = kernels.factors(kernel, [1, -1], REFLECT, x.dtype)
    assert passes is not None
    assert [each.before for each in passes] == [6, 2]
    got = ndimage.correlate(x, kernel, origin=(1, -1))
    expected = ndimage.correlate1d(ndimage.correlate1d(x, line, 0, origin=1), other, 1, origin=-1)
    unit = np.finfo(dtype).eps
    np.testing.assert_allclose(
        got, expected, rtol=0, atol=8 * unit * kernel.sum() * np.abs(x).max()
    )


def test_kernels_that_are_no_passes():
    line = np.hanning(13)[1:-1]
    kernel = np.outer(line, line)
    single, double = np.dtype("float32"), np.dtype("float64")

    def factors(weights: np.ndarray, dtype: Any = double) -> Any:
        return kernels.factors(weights, [0, 0], REFLECT, dtype)

    assert factors(kernel) is not None
    rough = kernel.astype(np.float32).astype(float)
    assert factors(rough, single) is not None
    assert factors(rough) is None  # not exactly enough for a double image
    other = kernel.copy()
    other[2, 3] *= 1.001
    assert factors(other, single) is None
    other[2, 3] = 0
    assert factors(other, single) is None
    assert factors(kernel[:3, :3]) is None  # nine taps, or six
    other[2, 3] = np.nan
    assert factors(other) is None
    other[2, 3] = 0
    x = np.zeros((30, 30), np.float32)
    x[15, 15] = np.nan
    assert np.isnan(ndimage.correlate(x, other)).sum() == 120


def test_the_constant_around_kernels_of_rank_one():
    x = np.random.default_rng(0).normal(size=(20, 20))
    kernel = np.full((5, 7), 0.5)
    wide = np.pad(x, ((2, 2), (3, 3)), constant_values=3.0)
    windows = np.lib.stride_tricks.sliding_window_view(wide, kernel.shape)
    expected = (windows * kernel).sum((2, 3))
    got = ndimage.correlate(x, kernel, mode="constant", cval=3.0)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
