"""Random calls of functions of `scipy.signal`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tests.ndimage.draws import COMPLEX, FLOATS, INTEGERS, Draw

MODES = ("full", "same", "valid")


class Call(NamedTuple):
    """A call: the function's name, its arrays and other arguments, and its options."""

    name: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]

    def __str__(self) -> str:
        shown = (
            f"{a.dtype}{a.shape} strides {a.strides}" if isinstance(a, np.ndarray) else repr(a)
            for a in self.arguments
        )
        return f"{self.name}({', '.join(shown)}, {self.options})"


def array(draw: Draw, shape: tuple[int, ...], dtypes: tuple[str, ...]) -> np.ndarray:
    """An array of any layout. Small integers: SciPy's transforms have to be exact."""
    dtype = np.dtype(draw.choose(dtypes))
    steps = [draw.choose((1, 1, 1, 2, -1)) for _ in shape]
    order = draw.random.sample(range(len(shape)), len(shape))
    whole = [shape[axis] * abs(steps[axis]) for axis in order]
    if dtype.kind in "biu":
        values = draw.numbers.integers(0 if dtype.kind != "i" else -9, 9, whole)
    else:
        values = draw.numbers.normal(size=whole)
        if dtype.kind == "c":
            values = values + 1j * draw.numbers.normal(size=whole)
    result = np.transpose(values.astype(dtype), np.argsort(order))
    if draw.one_in(12):
        result = result.astype(dtype.newbyteorder())
    return result[tuple(slice(None, None, step) for step in steps)]


def two_shapes(draw: Draw, mode: str, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of two arrays, one inside of the other where that is asked for."""
    most = {1: 200, 2: 24, 3: 9, 4: 5}[rank]
    a = [draw.random.randint(1, most) for _ in range(rank)]
    if mode == "valid":
        b = [draw.random.randint(1, n) for n in a]
    else:
        b = [draw.random.randint(1, draw.choose((4, most))) for _ in range(rank)]
    return (tuple(b), tuple(a)) if draw.one_in(4) else (tuple(a), tuple(b))


ALL = (*INTEGERS[:8], *FLOATS, *FLOATS, *COMPLEX)


def draw_convolve(draw: Draw, name: str) -> Call:
    mode = draw.choose(MODES)
    shapes = two_shapes(draw, mode, draw.choose((1, 1, 2, 2, 3, 4)))
    arrays = tuple(array(draw, shape, ALL) for shape in shapes)
    method = draw.choose(("direct", "auto", "fft"))
    if {a.dtype.kind for a in arrays} <= set("iu") and method != "direct":
        arrays = tuple(a.astype(np.int64) for a in arrays)  # what they hold is defined
    return Call(name, arrays, {"mode": mode, "method": method})


def draw_convolve2d(draw: Draw, name: str) -> Call:
    mode = draw.choose(MODES)
    shapes = two_shapes(draw, mode, 2)
    arrays = tuple(array(draw, shape, ALL) for shape in shapes)
    boundary = draw.choose(("fill", "wrap", "symm", "circular", "symmetric", "pad"))
    return Call(
        name, arrays, {"mode": mode, "boundary": boundary, "fillvalue": draw.choose((0, 3))}
    )


def draw_fftconvolve(draw: Draw, name: str) -> Call:
    mode = draw.choose(MODES)
    rank = draw.choose((1, 2, 2, 3, 4))
    a, b = (list(shape) for shape in two_shapes(draw, mode, rank))
    options: dict[str, Any] = {"mode": mode}
    if draw.one_in(2):
        axes = draw.random.sample(range(rank), draw.random.randint(1, rank))
        options["axes"] = [axis - draw.choose((0, rank)) for axis in axes]
        for axis in set(range(rank)).difference(axes):
            one, both = draw.one_in(3), draw.one_in(2)
            b[axis] = a[axis] = max(a[axis], b[axis])
            if one:
                (a if both else b)[axis] = 1
    return Call(name, (array(draw, tuple(a), ALL), array(draw, tuple(b), ALL)), options)


def draw_sepfir2d(draw: Draw, name: str) -> Call:
    shape = draw.random.randint(1, 40), draw.random.randint(1, 40)
    image = array(draw, shape, (*FLOATS, *COMPLEX))
    # A kernel that is longer than the image makes SciPy read and write outside of its memory.
    dtypes = ("float32", "complex64") if image.dtype.kind == "c" else ("float32",)
    kernels: list[Any] = [
        array(draw, (2 * draw.random.randint(0, min((n - 1) // 2, 5)) + 1,), dtypes)
        for n in shape[::-1]
    ]
    kernels = [kernel.tolist() if draw.one_in(4) else kernel for kernel in kernels]
    return Call(name, (image.astype(image.dtype.newbyteorder("=")), *kernels), {})


def signals(draw: Draw, dtypes: tuple[str, ...], least: int = 1) -> tuple[np.ndarray, int]:
    """Signals of up to three axes, and the axis of time."""
    rank = draw.choose((1, 2, 2, 3))
    axis = draw.random.randrange(rank)
    shape = [draw.random.randint(1, 5) for _ in range(rank)]
    shape[axis] = draw.random.randint(least, draw.choose((least + 8, 400)))
    return array(draw, tuple(shape), dtypes), axis - draw.choose((0, rank))


EXTENSIONS = (
    "constant", "wrap", "edge", "smooth", "symmetric", "reflect", "antisymmetric", "antireflect",
    "line",
)  # fmt: skip


def draw_upfirdn(draw: Draw, name: str) -> Call:
    x, axis = signals(draw, ALL)
    h = array(draw, (draw.random.randint(1, draw.choose((5, 80))),), ALL)
    rates = {"up": draw.random.randint(1, 7), "down": draw.random.randint(1, 7)}
    # Beyond two turns SciPy continues some modes otherwise.
    far = h.size // rates["up"] + rates["down"] + 1 >= x.shape[axis]
    mode = "constant" if far else draw.choose(EXTENSIONS)
    return Call(name, (h, x), {**rates, "axis": axis, "mode": mode, "cval": draw.choose((0, 2.5))})


def draw_resample_poly(draw: Draw, name: str) -> Call:
    x, axis = signals(draw, (*FLOATS, *COMPLEX, "int16"), least=60)
    options: dict[str, Any] = {"axis": axis}
    if draw.one_in(3):
        options["window"] = array(draw, (draw.random.randint(1, 40),), FLOATS)
    elif draw.one_in(2):
        options["window"] = draw.choose(("hann", "hamming", ("kaiser", 8.0), "boxcar", "parzen"))
    options["padtype"] = draw.choose((*EXTENSIONS, "mean", "median", "minimum", "maximum"))
    if x.dtype.kind == "c" and options["padtype"] in ("median", "minimum", "maximum"):
        options["padtype"] = "mean"
    if options["padtype"] == "constant" and draw.one_in(2):
        options["cval"] = 1.5
    return Call(name, (x, draw.random.randint(1, 7), draw.random.randint(1, 5)), options)


def draw_savgol(draw: Draw, name: str) -> Call:
    length = draw.random.randint(1, 25)
    mode = draw.choose(("interp", "mirror", "nearest", "wrap", "constant"))
    x, axis = signals(draw, (*FLOATS, "int16", "uint8"), least=length)
    arguments = x, length, draw.random.randint(0, min(length - 1, 5))
    options = {"deriv": draw.choose((0, 0, 1, 2)), "delta": draw.choose((1.0, 0.5))}
    return Call(name, arguments, {**options, "axis": axis, "mode": mode, "cval": 1.5})


def draw_lfilter(draw: Draw, name: str) -> Call:
    floats = (*FLOATS, *COMPLEX)
    x, axis = signals(draw, (*floats, "int16"))
    b = array(draw, (draw.random.randint(1, draw.choose((4, 70))),), floats)
    a = array(draw, (1,), FLOATS) + np.float32(3)
    options: dict[str, Any] = {"axis": axis}
    if draw.one_in(2):
        shape = [n if draw.one_in(2) else 1 for n in x.shape]
        shape[axis] = b.size - 1
        options["zi"] = array(draw, tuple(shape), floats)
    return Call(name, (b, a, x), options)


DRAWS: dict[str, Callable[[Draw, str], Call]] = {
    "convolve": draw_convolve,
    "correlate": draw_convolve,
    "convolve2d": draw_convolve2d,
    "correlate2d": draw_convolve2d,
    "fftconvolve": draw_fftconvolve,
    "oaconvolve": draw_fftconvolve,
    "sepfir2d": draw_sepfir2d,
    "upfirdn": draw_upfirdn,
    "resample_poly": draw_resample_poly,
    "savgol_filter": draw_savgol,
    "lfilter": draw_lfilter,
}


def draw_call(name: str, seed: str) -> Call:
    """A random call of a function, defined in SciPy."""
    return DRAWS[name](Draw(f"{name}/{seed}"), name)
