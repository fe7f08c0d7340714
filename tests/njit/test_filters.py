"""Filters in compiled code: the results of Python's calls to the last bit, and their errors."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import pytest
from numba.core.errors import TypingError

import numbaconv as nc
from tests.ndimage.draws import draw_call
from tests.njit.arrays import compiled, compiled_draw, same_bits

if numba.config.DISABLE_JIT:
    pytest.skip("there is no compiled code to call from", allow_module_level=True)

rng = np.random.default_rng(0)

# Most images are float32, so that the tests share kernels.


def calls_of_python(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of functions that Python is asked for from now on."""
    from numbaconv.njit import filters

    asked: list[str] = []
    make = filters.make

    def noted(call: Any, *rest: Any) -> None:
        asked.append(call.function)
        make(call, *rest)

    monkeypatch.setattr(filters, "make", noted)
    return asked


# --- Images -----------------------------------------------------------------------------------


@numba.njit(nogil=True)
def smooth(image, sigma):
    return nc.ndimage.gaussian_filter(image, sigma, mode="wrap")


@pytest.mark.parametrize("shape", [(1, 1), (7, 9), (300, 200)], ids=str)
@pytest.mark.parametrize("sigma", [0.0, 3.0])
def test_run_time_sigma(shape: tuple[int, ...], sigma: float) -> None:
    image = rng.random(shape, np.float32)
    expected = nc.ndimage.gaussian_filter(image, sigma, mode="wrap")
    for _ in range(2):
        same_bits(smooth(image, sigma), expected)


@numba.njit
def correlated(image, weights, output):
    return nc.ndimage.correlate(image, weights, output, mode="constant", cval=0.5)


def test_coefficients_and_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kernel is its own plan: with zeros, of rank one, symmetric; the output may be shared."""
    asked = calls_of_python(monkeypatch)
    image = rng.random((40, 30), np.float32)
    sparse = rng.random((3, 5))
    sparse[0] = 0
    for weights in (rng.random((3, 5)), sparse, np.ones((3, 5)), np.zeros((3, 5))):
        expected = nc.ndimage.correlate(image, weights, mode="constant", cval=0.5)
        output = np.full((60, 40), np.float32(7))[10:-10, 5:-5]
        same_bits(correlated(image, weights, output), expected)
        same_bits(output, expected)
        shared = image.copy()
        correlated(shared, weights, shared)
        same_bits(shared, expected)
    with pytest.raises(RuntimeError, match="output shape not correct"):
        correlated(shared[:1], weights, shared)
    assert asked == []


@numba.njit
def added_up(image, output):
    return nc.ndimage.laplace(image, output)


@numba.njit
def added_squares(image, output):
    return nc.ndimage.gaussian_gradient_magnitude(image, 1.0, output)


@pytest.mark.parametrize(
    ("caller", "name", "options"),
    [
        (added_up, "laplace", ()),
        pytest.param(
            added_squares, "gaussian_gradient_magnitude", (1.0,), marks=pytest.mark.stress
        ),
    ],
)
def test_sums_over_axes_in_the_image(caller: Any, name: str, options: tuple[float, ...]) -> None:
    """What is added for the second axis is of the image as the first one left it, as in SciPy."""
    image = rng.random((9, 8), np.float32)
    expected, found, scipys = image.copy(), image.copy(), image.copy()
    getattr(nc.ndimage, name)(expected, *options, expected)
    for _ in range(2):
        found[...] = image
        caller(found, found)
        same_bits(found, expected)
    ndimage = pytest.importorskip("scipy.ndimage")
    getattr(ndimage, name)(scipys, *options, scipys)
    np.testing.assert_allclose(found, scipys, rtol=1e-5, atol=1e-5)
    assert not np.allclose(found, getattr(nc.ndimage, name)(image, *options))
    rows = rng.random((10, 8), np.float32)
    expected = rows.copy()
    getattr(nc.ndimage, name)(expected[:-1], *options, expected[1:])  # an array beside it
    caller(rows[:-1], rows[1:])
    same_bits(rows, expected)


@numba.njit
def edges(image):
    return nc.ndimage.laplace(image, output=np.int16), nc.ndimage.sobel(image, 0, np.int16)


def test_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = calls_of_python(monkeypatch)
    image = rng.integers(0, 256, (20, 31, 3), np.uint8)[:, ::-2]
    found = edges(image)
    same_bits(found[0], nc.ndimage.laplace(image, output=np.int16))
    same_bits(found[1], nc.ndimage.sobel(image, 0, np.int16))
    assert asked == []


def test_missing_values() -> None:
    image = rng.random((12, 15), np.float32)
    image[image < 0.2] = np.nan
    mask = rng.random((12, 15)) < 0.7

    @numba.njit
    def mean(image, mask):
        return nc.ndimage.uniform_filter(image, 3, nan="omit", mask=mask, min_weight=0.3)

    for valid in (mask, ~mask):
        expected = nc.ndimage.uniform_filter(image, 3, nan="omit", mask=valid, min_weight=0.3)
        same_bits(mean(image, valid), expected)


@pytest.mark.stress  # Numba takes long to compile them
@pytest.mark.parametrize("name", ["generic_laplace", "generic_gradient_magnitude"])
def test_derivatives_of_ones_own(name: str) -> None:
    @numba.njit
    def second(image, axis, output, mode, cval, scale):
        weights = np.array([1.0, -2.0, 1.0]) * scale
        return nc.ndimage.correlate1d(image, weights, axis, output, "nearest", cval)

    source = f"""
def added(image, scale, output):
    return nc.ndimage.{name}(image, second, output, "nearest", 0.0, (scale,))
"""
    namespace: dict[str, Any] = {"nc": nc, "second": second}
    exec(source, namespace)
    added = numba.njit(namespace["added"])
    for dtype in (np.float64, np.int32):
        image = (10 * rng.random((9, 8))).astype(dtype)
        expected = np.empty_like(image)
        getattr(nc.ndimage, name)(
            image, second.py_func, expected, mode="nearest", extra_arguments=(2.0,)
        )
        same_bits(added(image, 2.0, np.empty_like(image)), expected)
        overwritten = image.copy()
        getattr(nc.ndimage, name)(
            overwritten, second.py_func, overwritten, mode="nearest", extra_arguments=(2.0,)
        )
        same_bits(added(image, 2.0, image), overwritten)


@pytest.mark.stress
@pytest.mark.parametrize("seed", range(150))
def test_random_images(seed: int) -> None:
    """The draws of the tests of parity with SciPy, from compiled code."""
    call = draw_call(f"compiled {seed}")
    caller, given = compiled_draw(call)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = getattr(nc.ndimage, call.name)(given[0], *call.arguments, **call.options)
        for _ in range(2):
            same_bits(caller(*given), expected)


# --- Signals ----------------------------------------------------------------------------------


@numba.njit(nogil=True)
def stream(taps, signals, blocks):
    """Filter signals block by block."""
    state = np.zeros((signals.shape[0], taps.size - 1), signals.dtype)
    out = np.empty_like(signals)
    step = signals.shape[1] // blocks
    for i in range(blocks):
        block = signals[:, i * step : (i + 1) * step]
        y, state = nc.signal.lfilter(taps, np.float32(1), block, zi=state)
        for channel, sample in np.ndindex(y.shape):
            out[channel, i * step + sample] = y[channel, sample]
    return out, state


@pytest.mark.stress  # docs/inside-njit.md has a shorter one
def test_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = calls_of_python(monkeypatch)
    taps = rng.random(9).astype(np.float32)
    signals = rng.random((3, 1200), np.float32)
    out, state = stream(taps, signals, 8)
    expected, now = [], np.zeros((3, 8), np.float32)
    for block in np.split(signals, 8, 1):
        y, now = nc.signal.lfilter(taps, np.float32(1), block, zi=now)
        expected.append(y)
    same_bits(out, np.concatenate(expected, 1))
    same_bits(state, now)
    assert asked == []
    short, _ = stream(taps, signals[:, :24], 8)  # blocks shorter than the filter
    assert np.allclose(short, nc.signal.lfilter(taps, np.float32(1), signals[:, :24]))
    with pytest.raises(ValueError, match=r"x is empty: \(3, 0\)"):
        stream(taps, signals[:, :0], 1)


@pytest.mark.stress
def test_stream_along_the_first_axis() -> None:
    @numba.njit
    def channels_last(taps, signals, state, axis):
        return nc.signal.lfilter(taps, 2, signals, axis, state)

    taps, signals, state = rng.random(4), rng.random((50, 2)), rng.random((3, 2))
    for axis in (0, -2):
        found = channels_last(taps, signals, state, axis)
        for a, b in zip(found, nc.signal.lfilter(taps, 2, signals, 0, state), strict=True):
            same_bits(a, b)


x, w = rng.random((6, 40)), rng.random((2, 5))
SIGNALS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "convolve": ({"in1": x, "in2": w}, {"mode": "same"}),
    "correlate": ({"in1": x, "in2": w}, {"method": "direct"}),
    "convolve2d": ({"in1": x, "in2": w}, {"boundary": "symm"}),
    "correlate2d": ({"in1": x, "in2": w}, {"mode": "valid"}),
    "fftconvolve": ({"in1": x, "in2": w[:1]}, {"axes": 1}),
    "oaconvolve": ({"in1": x, "in2": w[:1]}, {"axes": (1,)}),
    "sepfir2d": ({"input": x, "hrow": w[0], "hcol": w[1]}, {}),
    "upfirdn": ({"h": w[0], "x": x}, {"up": 2, "down": 3}),
    "resample_poly": ({"x": x}, {"up": 3, "down": 2, "axis": 1, "window": ("kaiser", 4.0)}),
    "savgol_filter": ({"x": x}, {"window_length": 5, "polyorder": 2}),
}


@pytest.mark.stress
@pytest.mark.parametrize("name", SIGNALS)
def test_signals(name: str) -> None:
    arrays, options = SIGNALS[name]
    caller = compiled("signal", name, list(arrays), options)
    for _ in range(2):
        same_bits(caller(*arrays.values()), getattr(nc.signal, name)(*arrays.values(), **options))


# --- Errors -----------------------------------------------------------------------------------


def test_errors_of_values() -> None:
    @numba.njit
    def box(image, size, origin):
        return nc.ndimage.uniform_filter(image, size, origin=origin)

    image = rng.random((5, 5), np.float32)
    with pytest.raises(ValueError, match="invalid origin: 7 of 3 elements"):
        box(image, 3, 7)
    same_bits(box(image, 3, 1), nc.ndimage.uniform_filter(image, 3, origin=1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: nc.ndimage.sobel([1.0, 2.0]), "input must be an array"),
        (lambda x: nc.ndimage.gaussian_filter(x, [1.0, 2.0]), "pass a tuple"),
    ],
)
def test_errors_of_types(call: Any, message: str) -> None:
    with pytest.raises(TypingError, match=rf"^.*\nnumbaconv\.ndimage\.\w+: .*{message}"):
        numba.njit(call)(np.ones((3, 3)))


# --- Threads, and SciPy's names ---------------------------------------------------------------


def test_threads() -> None:
    images = [rng.random((50 + i, 40), np.float32) for i in range(4)]
    expected = [nc.ndimage.gaussian_filter(image, 1.5, mode="wrap") for image in images]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(20):
            same = np.array_equal(smooth(images[i], 1.5), expected[i])
            wrong.extend([] if same else [i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.stress  # Numba takes long to compile it
def test_parallel_code() -> None:
    @numba.njit(parallel=True, nogil=True)
    def smooth_all(images, sigma):
        whole = nc.ndimage.gaussian_filter(images, sigma)
        each = np.empty_like(images)
        for i in numba.prange(len(images)):
            each[i] = nc.ndimage.gaussian_filter(images[i], sigma)
        return whole, each

    def check(stack: np.ndarray) -> None:
        for _ in range(20):
            whole, each = smooth_all(stack, 1.5)
            same_bits(whole, nc.ndimage.gaussian_filter(stack, 1.5))
            for image, found in zip(stack, each, strict=True):
                same_bits(found, nc.ndimage.gaussian_filter(image, 1.5))

    stacks = [rng.random((n, 70, 60)) for n in (3, 8)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(check, stacks))


@numba.njit(nogil=True)
def smooth_often(image, done):
    done[0] = -1
    for _ in range(50_000):
        nc.ndimage.gaussian_filter(image, 1.5, mode="wrap")
    done[0] = 1


def test_later_calls_need_no_lock() -> None:
    """They end while another thread holds it: this one, which waits without giving it away."""
    image, done = rng.random((8, 8), np.float32), np.zeros(1)
    smooth_often(image[:1, :1], done)
    smooth(image, 1.5)
    done[0] = 0
    word, interval = memoryview(done), sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        thread = threading.Thread(target=smooth_often, args=(image, done))
        thread.start()
        while word[0] == 0:
            time.sleep(0.001)
        end = time.perf_counter() + 60
        while word[0] != 1 and time.perf_counter() < end:
            pass
        assert word[0] == 1
    finally:
        sys.setswitchinterval(interval)
    thread.join()


SCIPY = """
{imports}
import numba, numpy as np

@numba.njit
def call(x):
    return scipy.ndimage.gaussian_filter(x, 1.5), scipy.signal.lfilter(np.ones(3), 1, x)

x = np.random.default_rng(0).random((20, 30))
found = call(x)
import numbaconv as nc
assert np.array_equal(found[0], nc.ndimage.gaussian_filter(x, 1.5))
assert np.array_equal(found[1], nc.signal.lfilter(np.ones(3), 1, x))
"""


@pytest.mark.stress
@pytest.mark.parametrize(
    "imports",
    [
        "import numbaconv; numbaconv.conv; import scipy.ndimage, scipy.signal",
        "import scipy.ndimage, scipy.signal, numbaconv; numbaconv.conv",
    ],
    ids=["numbaconv first", "SciPy first"],
)
def test_order_of_imports(imports: str) -> None:
    pytest.importorskip("scipy")
    source = SCIPY.format(imports=imports)
    subprocess.run([sys.executable, "-c", source], check=True, timeout=300)


def test_names_of_scipy() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")

    @numba.njit
    def edges(image):
        return ndimage.sobel(image, 0, np.int16)

    image = rng.integers(0, 256, (20, 16, 3), np.uint8)[:, :, ::-2]
    same_bits(edges(image), nc.ndimage.sobel(image, 0, np.int16))


def test_neither_imports_the_other() -> None:
    source = """
import sys
import numbaconv; numbaconv.conv
assert not {"scipy.ndimage", "scipy.signal"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", source], check=True, timeout=300)
