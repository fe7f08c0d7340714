"""Filters of images beside SciPy's and OpenCV's, in turn: `numbaconv.ndimage`, and `conv2d`.

``python benchmarks/filters.py --help``. OpenCV's Gaussian has the same radius and SciPy's border.
Every result is compared with SciPy's before it is timed.
"""

import contextlib
import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

if __name__ == "__main__":  # as a script, not as a module of the package `benchmarks`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import typer
from rich.console import Console
from scipy import ndimage

import numbaconv as nc
from benchmarks.lib import report
from benchmarks.lib.machine import describe
from benchmarks.lib.turns import Run, find_clock, in_turn

KERNELS = {n: np.random.default_rng(n).normal(size=(n, n)) for n in (3, 5, 9, 15, 31)}
FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "correlate1d": ([1, 2, 3, 2, 1], 0),
    "convolve1d": ([1, 2, 3, 2, 2], 1),
    "uniform_filter1d": (7, 0),
    "uniform_filter": (5,),
    "gaussian_filter1d": (2.0, 1),
    "gaussian_filter": (1.0,),
    "sobel": (),
    "prewitt": (0,),
    "laplace": (),
    "gaussian_laplace": (1.0,),
    "gaussian_gradient_magnitude": (1.0,),
    "correlate": (KERNELS[3],),
    "convolve": (KERNELS[5],),
}


class Row(NamedTuple):
    """A filter in the three libraries; OpenCV's is None where it has no such filter."""

    name: str
    ours: Run
    scipy: Run
    opencv: Run | None = None


def row(what: str, name: str, image: np.ndarray, *arguments: Any, **options: Any) -> Row:
    """A function of both modules of the same name, which stores into an array of its own."""

    def call(module: Any) -> Run:
        return functools.partial(
            getattr(module, name), image, *arguments, output=np.empty_like(image), **options
        )

    return Row(f"{name}, {what}", call(nc.ndimage), call(ndimage))


def gaussians(size: int) -> Iterator[Row]:
    """Gaussians, of images and of a volume."""
    rng = np.random.default_rng(0)
    floats = rng.random((size, size), np.float32)
    for image in (floats, (255 * floats).astype(np.uint8)):
        for sigma in (1, 3, 8):
            found = row(f"{image.dtype} sigma {sigma}", "gaussian_filter", image, sigma)
            yield found._replace(opencv=opencv_gaussian(image, sigma))
    side = max(16, size // 16)
    volume = rng.random((side, side * 5 // 4, side * 5 // 4), np.float32)
    yield row("volume float32 sigma 2", "gaussian_filter", volume, 2)
    photo = (255 * rng.random((size // 2, size, 3))).astype(np.uint8)
    found = row("photo uint8 sigma 2", "gaussian_filter", photo, 2, axes=(0, 1))
    yield found._replace(opencv=opencv_gaussian(photo, 2))


def functions(size: int) -> Iterator[Row]:
    """Every function."""
    floats = np.random.default_rng(0).random((size, size), np.float32)
    for image in (floats, (255 * floats).astype(np.uint8)):
        for name, arguments in FUNCTIONS.items():
            yield row(str(image.dtype), name, image, *arguments)


def kernels(size: int) -> Iterator[Row]:
    """Full kernels of several sizes."""
    image = np.random.default_rng(0).random((size, size), np.float32)
    for n, weights in KERNELS.items():
        found = row(f"float32 {n}x{n}", "correlate", image, weights)
        yield found._replace(opencv=opencv_filter(image, weights))


def photographs(size: int) -> Iterator[Row]:
    """`conv2d`, one filter for all channels, from several dtypes to float32."""
    rng = np.random.default_rng(0)
    for channels in (3, 1):
        shape = size // 2, size, channels
        for dtype, scale in ((np.uint8, 255), (np.uint16, 65535), (np.float32, 1)):
            image = (scale * rng.random(shape, np.float32)).astype(dtype)
            for n in (3, 5, 9):
                yield photograph(image, KERNELS[n].astype(np.float32) / scale)


def photograph(image: np.ndarray, weights: np.ndarray) -> Row:
    """`conv2d` of an image (H, W, channels), and the same correlation in the others."""
    channels, out = image.shape[2], np.empty(image.shape, np.float32)
    layer = nc.prepare(
        np.repeat(weights[None, None], channels, 0),
        padding="same",
        groups=channels,
        padding_mode="reflect",
        data_format="channels_last",
    )
    alike = functools.partial(
        ndimage.correlate, image, weights[..., None], output=out.copy(), mode="mirror"
    )
    name = f"conv2d, {channels} x {image.dtype} {len(weights)}x{len(weights)}"
    found = Row(name, lambda: layer(image, out=out), alike)
    with contextlib.suppress(ImportError):
        import cv2

        to, border, result = cv2.CV_32F, cv2.BORDER_REFLECT_101, out.copy()
        return found._replace(
            opencv=lambda: cv2.filter2D(image, to, weights, result, borderType=border)
        )
    return found


def bytes_to_bytes(size: int) -> Iterator[Row]:
    """A photograph (H, W, 3) of bytes under a kernel, and back to bytes: rounded and clipped."""
    photo = (255 * np.random.default_rng(0).random((size // 2, size, 3))).astype(np.uint8)
    for n in (3, 5, 7, 9):
        yield byte_photograph(photo, np.random.default_rng(n).normal(size=(n, n)) / n)


def byte_photograph(photo: np.ndarray, weights: np.ndarray) -> Row:
    """`ndimage.correlate` with saturation, the same in OpenCV, and in SciPy with NumPy."""
    out = np.empty_like(photo)

    def ours() -> np.ndarray:
        return nc.ndimage.correlate(photo, weights, out, "mirror", axes=(0, 1), rounding="saturate")

    def alike() -> np.ndarray:
        sums = ndimage.correlate(photo, weights[..., None], np.float32, "mirror")
        return np.clip(np.rint(sums, sums), 0, 255, sums).astype(np.uint8)

    found = Row(f"3 x uint8 {len(weights)}x{len(weights)} to uint8", ours, alike)
    with contextlib.suppress(ImportError):
        import cv2

        kernel, border, result = weights.astype(np.float32), cv2.BORDER_REFLECT_101, out.copy()
        return found._replace(
            opencv=lambda: cv2.filter2D(photo, -1, kernel, result, borderType=border)
        )
    return found


def opencv_gaussian(image: np.ndarray, sigma: float) -> Run | None:
    """OpenCV's Gaussian of the radius that SciPy takes."""
    with contextlib.suppress(ImportError):
        import cv2

        size, out = 2 * int(4 * sigma + 0.5) + 1, np.empty_like(image)
        border = cv2.BORDER_REFLECT
        return lambda: cv2.GaussianBlur(image, (size, size), sigma, out, sigma, border)
    return None


def opencv_filter(image: np.ndarray, weights: np.ndarray) -> Run | None:
    """OpenCV's correlation."""
    with contextlib.suppress(ImportError):
        import cv2

        out, kernel, border = np.empty_like(image), weights.astype(np.float32), cv2.BORDER_REFLECT
        return lambda: cv2.filter2D(image, -1, kernel, out, borderType=border)
    return None


def check(found: Row) -> None:
    """Compare the results of a filter with SciPy's."""
    got, expected = found.ours(), found.scipy()
    if found.name.endswith("to uint8"):  # sums next to a half may be rounded either way
        np.testing.assert_allclose(got.astype(int), expected, rtol=0, atol=1, err_msg=found.name)
        assert np.mean(got != expected) < 1e-4, found.name
    elif got.dtype.kind in "iu":
        np.testing.assert_array_equal(got, expected, err_msg=found.name)
    else:
        kernel = any(each in found.name for each in ("correlate", "convolve", "conv2d"))
        atol = 2e-4 if kernel else 2e-5
        np.testing.assert_allclose(got, expected, atol=atol, err_msg=found.name)


GROUPS = {
    "gaussians": gaussians,
    "functions": functions,
    "kernels": kernels,
    "photographs": photographs,
    "bytes": bytes_to_bytes,
}


def main(
    size: Annotated[int, typer.Option(help="Rows and columns of the images.")] = 2048,
    passes: Annotated[int, typer.Option(help="How often each call has its turn.")] = 3,
    seconds: Annotated[float, typer.Option(help="Length of a turn, at least.")] = 0.1,
    groups: Annotated[
        str, typer.Option(help="Of gaussians, functions, kernels, photographs, bytes.")
    ] = ",".join(GROUPS),
    names: Annotated[str, typer.Option(help="Only rows that contain this.")] = "",
    cpu: Annotated[bool, typer.Option("--cpu", help="CPU time, of one thread.")] = False,
) -> None:
    """Time filters beside SciPy's and OpenCV's."""
    console, clock = Console(), find_clock(cpu)
    header = ["milliseconds", "numbaconv", "SciPy", "OpenCV", "SciPy/nc", "OpenCV/nc"]
    lines = []
    for group in groups.split(","):
        for found in GROUPS[group](size):
            if names not in found.name:
                continue
            check(found)
            calls = [found.ours, found.scipy, found.opencv]
            ours, scipy, opencv = in_turn(calls, passes, seconds, clock)
            figures = [1e3 * ours, 1e3 * scipy, 1e3 * opencv, scipy / ours, opencv / ours]
            lines.append([found.name, *map(report.number, figures)])
    title = f"Filters, {size} x {size}{', CPU time of one thread' * cpu}"
    console.print(report.terminal(report.Sheet(title, header, lines)))
    console.print(describe())


if __name__ == "__main__":
    typer.run(main)
