"""Filters in compiled code: the results of Python's calls to the last bit, and their errors."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import warnings
from typing import Any

import numba
import numpy as np
import pytest
from numba.core.errors import TypingError

import numbaconv as nc
from tests.ndimage.draws import draw_call
from tests.njit.arrays import same_bits

if numba.config.DISABLE_JIT:
    pytest.skip("there is no compiled code to call from", allow_module_level=True)

rng = np.random.default_rng(0)


def _text(value: Any) -> str:
    """An option as a literal of compiled code: lists become tuples, and dtypes their names."""
    if isinstance(value, (list, tuple)):
        return f"({''.join(_text(each) + ', ' for each in value)})"
    if isinstance(value, (type, np.dtype)):
        return repr(np.dtype(value).name)
    return repr(value)


def compiled(module: str, name: str, arrays: list[str], options: dict[str, Any]) -> Any:
    """A compiled function of some arrays that makes one call, with literal options."""
    given = [*arrays, *(f"{key}={_text(value)}" for key, value in options.items())]
    source = f"def call({', '.join(arrays)}):\n    return nc.{module}.{name}({', '.join(given)})"
    namespace: dict[str, Any] = {"nc": nc}
    exec(source, namespace)
    return numba.njit(namespace["call"])


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
    image = rng.random((40, 30))
    sparse = rng.random((3, 5))
    sparse[0] = 0
    for weights in (rng.random((3, 5)), sparse, np.ones((3, 5)), np.zeros((3, 5))):
        expected = nc.ndimage.correlate(image, weights, mode="constant", cval=0.5)
        output = np.full((60, 40), 7.0)[10:-10, 5:-5]
        same_bits(correlated(image, weights, output), expected)
        same_bits(output, expected)
        shared = image.copy()
        correlated(shared, weights, shared)
        same_bits(shared, expected)
    assert asked == []


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
    image = rng.random((12, 15))
    image[image < 0.2] = np.nan
    mask = rng.random((12, 15)) < 0.7

    @numba.njit
    def mean(image, mask):
        return nc.ndimage.uniform_filter(image, 3, nan="omit", mask=mask, min_weight=0.3)

    for valid in (mask, ~mask):
        expected = nc.ndimage.uniform_filter(image, 3, nan="omit", mask=valid, min_weight=0.3)
        same_bits(mean(image, valid), expected)


@pytest.mark.stress  # Numba takes long to compile it
def test_derivatives_of_ones_own() -> None:
    @numba.njit
    def second(image, axis, output, mode, cval, scale):
        weights = np.array([1.0, -2.0, 1.0]) * scale
        return nc.ndimage.correlate1d(image, weights, axis, output, "nearest", cval)

    @numba.njit
    def added(image, scale):
        return nc.ndimage.generic_laplace(image, second, mode="nearest", extra_arguments=(scale,))

    image = rng.random((9, 8))
    expected = nc.ndimage.generic_laplace(
        image, second.py_func, mode="nearest", extra_arguments=(2.0,)
    )
    same_bits(added(image, 2.0), expected)


@pytest.mark.stress
@pytest.mark.parametrize("seed", range(150))
def test_random_images(seed: int) -> None:
    """The draws of the tests of parity with SciPy, from compiled code."""
    call = draw_call(f"compiled {seed}")
    image = call.image.astype(call.image.dtype.newbyteorder("="), copy=False)
    options = dict(call.options)
    arrays, given = ["input"], [image]
    first = next(iter(call.arguments), None)
    if isinstance(first, np.ndarray):
        arrays, given = ["input", "weights"], [image, first]
    elif call.arguments:
        options["size" if "uniform" in call.name else "sigma"] = first
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = getattr(nc.ndimage, call.name)(image, *call.arguments, **call.options)
        caller = compiled("ndimage", call.name, arrays, options)
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
        block = slice(i * step, (i + 1) * step)
        y, state = nc.signal.lfilter(taps, np.float32(1), signals[:, block], zi=state)
        out[:, block] = y
    return out, state


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


@pytest.mark.parametrize(
    "name",
    [
        name if name == "upfirdn" else pytest.param(name, marks=pytest.mark.stress)
        for name in SIGNALS
    ],
)
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

    image = rng.random((5, 5))
    with pytest.raises(ValueError, match="invalid origin: 7 of 3 elements"):
        box(image, 3, 7)
    same_bits(box(image, 3, 1), nc.ndimage.uniform_filter(image, 3, origin=1))
    with pytest.raises(ValueError, match=r"x is empty: \(3, 0\)"):
        stream(rng.random(9).astype(np.float32), np.zeros((3, 0), np.float32), 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: nc.ndimage.sobel([1.0, 2.0]), "input must be an array"),
        (lambda x: nc.ndimage.gaussian_filter(x, [1.0, 2.0]), "pass a tuple"),
    ],
)
def test_errors_of_types(call: Any, message: str) -> None:
    with pytest.raises(TypingError, match=message):
        numba.njit(call)(np.ones((3, 3)))


# --- Threads, and SciPy's names ---------------------------------------------------------------


def test_threads() -> None:
    images = [rng.random((50 + i, 40), np.float32) for i in range(4)]
    expected = [nc.ndimage.gaussian_filter(image, 1.5, mode="wrap") for image in images]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(50):
            same = np.array_equal(smooth(images[i], 1.5), expected[i])
            wrong.extend([] if same else [i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


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


@pytest.mark.parametrize(
    "imports",
    [
        "import numbaconv; numbaconv.conv; import scipy.ndimage, scipy.signal",
        pytest.param(
            "import scipy.ndimage, scipy.signal, numbaconv; numbaconv.conv",
            marks=pytest.mark.stress,
        ),
    ],
    ids=["numbaconv first", "SciPy first"],
)
def test_names_of_scipy(imports: str) -> None:
    pytest.importorskip("scipy")
    source = SCIPY.format(imports=imports)
    subprocess.run([sys.executable, "-c", source], check=True, timeout=300)


def test_neither_imports_the_other() -> None:
    source = """
import sys
import numbaconv; numbaconv.conv
assert not {"scipy.ndimage", "scipy.signal"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", source], check=True, timeout=300)
