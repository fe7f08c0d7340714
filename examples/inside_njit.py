"""Deblurring a photograph, wholly inside one compiled function.

A camera that shakes during the exposure records each point of the scene as a small scribble: the
picture is convolved with it. Richardson and Lucy's iteration [1, 2] undoes that: it blurs its
estimate, compares with what was recorded, and carries the differences back along the same
scribble, mirrored. Two convolutions and some arithmetic, again and again: all of it is one
``@njit`` function here, which also runs without Python's lock. SciPy does the same beside it.

    python examples/inside_njit.py      # times, and deblurred.png

[1] W. H. Richardson, "Bayesian-Based Iterative Method of Image Restoration", 1972.
[2] L. B. Lucy, "An iterative technique for the rectification of observed distributions", 1974.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import matplotlib.pyplot as plt
import numba
import numpy as np
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table
from scipy import ndimage, signal
from sklearn.datasets import load_sample_image

import numbaconv as nc

console = Console()

# --- Richardson and Lucy ----------------------------------------------------------------------

SMALL = np.float32(1e-3)  # keeps dark pixels from being divided by nothing


@numba.njit(parallel=True, nogil=True)
def deblur(photo: np.ndarray, blur: np.ndarray, iterations: int) -> np.ndarray:
    """Estimate what a photograph (C, H, W) was before a blur (KH, KW)."""
    channels = photo.shape[0]
    forward = np.empty((channels, 1, *blur.shape), photo.dtype)
    forward[:] = blur
    backward = forward[:, :, ::-1, ::-1]
    estimate, blurred, correction = photo.copy(), np.empty_like(photo), np.empty_like(photo)
    for _ in range(iterations):
        nc.conv2d(
            estimate,
            forward,
            padding="same",
            padding_mode="replicate",
            groups=channels,
            out=blurred,
        )
        ratio = photo / (blurred + SMALL)
        nc.conv2d(
            ratio,
            backward,
            padding="same",
            padding_mode="replicate",
            groups=channels,
            out=correction,
        )
        estimate *= correction
    return estimate


def deblur_in_scipy(
    photo: np.ndarray, blur: np.ndarray, iterations: int, correlate: Callable[..., np.ndarray]
) -> np.ndarray:
    """Compute the same in NumPy and SciPy, channel by channel."""
    estimate = photo.copy()
    for _ in range(iterations):
        blurred = np.stack([correlate(channel, blur) for channel in estimate])
        ratio = photo / (blurred + SMALL)
        estimate *= np.stack([correlate(channel, blur[::-1, ::-1]) for channel in ratio])
    return estimate


def correlate_directly(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Correlate with the edge pixels repeated, as `deblur` does."""
    return ndimage.correlate(image, kernel, mode="nearest")


def correlate_by_fft(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Correlate as fast as SciPy can."""
    half_h, half_w = kernel.shape[0] // 2, kernel.shape[1] // 2
    padded = np.pad(image, ((half_h, half_h), (half_w, half_w)), "edge")
    return signal.fftconvolve(padded, kernel[::-1, ::-1], mode="valid")


# --- The experiment ---------------------------------------------------------------------------


def scribble(size: int = 15) -> np.ndarray:
    """Return the path of a shaking camera, as a kernel that sums to one."""
    t = np.linspace(0, 1, 2000)
    half = size // 2
    y = half + half * 0.8 * np.sin(2.3 * np.pi * t) * (1 - 0.5 * t)
    x = half + half * 0.9 * np.cos(1.3 * np.pi * t)
    kernel, _, _ = np.histogram2d(y, x, bins=size, range=((-0.5, size - 0.5),) * 2)
    return (kernel / kernel.sum()).astype(np.float32)


def shake(photo: np.ndarray, blur: np.ndarray) -> np.ndarray:
    """Blur a photograph, with the noise of a sensor."""
    shaken = np.stack([correlate_directly(channel, blur) for channel in photo])
    noise = np.random.default_rng(0).normal(0, 0.002, photo.shape)
    return (shaken + noise).clip(0, 1).astype(np.float32)


def seconds_for(function: Callable[[], np.ndarray]) -> tuple[np.ndarray, float]:
    """Return a result and how long it took."""
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def measure(shaken: np.ndarray, blur: np.ndarray, iterations: int) -> np.ndarray:
    """Deblur, and time and check a few iterations beside SciPy."""
    few = 2
    _, compile_seconds = seconds_for(lambda: deblur(shaken, blur, 1))
    rows = {
        "one @njit function": lambda: deblur(shaken, blur, few),
        "scipy.signal.fftconvolve": lambda: deblur_in_scipy(shaken, blur, few, correlate_by_fft),
        "scipy.ndimage.correlate": lambda: deblur_in_scipy(shaken, blur, few, correlate_directly),
    }
    table = Table("", title=f"Richardson-Lucy, {shaken.shape[1:]} pixels, {blur.shape} blur")
    for heading in ("ms an iteration", "times as long", "largest difference"):
        table.add_column(heading, justify="right")
    expected, fastest = None, 0.0
    for name, function in rows.items():
        result, seconds = min((seconds_for(function) for _ in range(3)), key=lambda pair: pair[1])
        if expected is None:
            expected, fastest = result, seconds
        difference = np.abs(result - expected).max()
        table.add_row(
            name, f"{1e3 * seconds / few:.1f}", f"{seconds / fastest:.1f}", f"{difference:.1e}"
        )
        assert difference < 1e-3, f"{name} disagrees"
    console.print(table)
    console.print(f"compiled, or loaded from the cache, in {compile_seconds:.1f} s")
    result, seconds = seconds_for(lambda: deblur(shaken, blur, iterations))
    console.print(f"{iterations} iterations in {seconds:.2f} s")
    return result


def save_picture(pictures: dict[str, np.ndarray], blur: np.ndarray, path: Path) -> None:
    """Show what was recorded, what was recovered and what was there, and the blur in a corner."""
    plt.style.use("dark_background")
    figure, grid = plt.subplots(1, len(pictures), figsize=(12, 4.6), layout="constrained")
    for axes, (title, picture) in zip(grid, pictures.items(), strict=True):
        _, height, width = picture.shape
        detail = picture[:, height // 8 : height * 7 // 8, width // 4 : width * 3 // 4]
        axes.imshow(np.moveaxis(detail, 0, -1).clip(0, 1))
        axes.set_title(title, loc="left", fontsize=11)
        axes.set_axis_off()
    corner = grid[0].inset_axes((0.74, 0.76, 0.24, 0.22))
    corner.imshow(blur, cmap="magma")
    corner.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=100)
    if path.suffix == ".png":
        # A palette of 256 colours: a quarter of the size, and nobody sees it.
        picture = Image.open(path).convert("RGB").quantize(kmeans=1, dither=Image.Dither.NONE)
        picture.save(path, optimize=True)
    console.print(f"saved {path}")


def main(
    image: Annotated[Path | None, typer.Option(help="A photograph of your own.")] = None,
    output: Annotated[Path, typer.Option(help="Where the picture goes.")] = Path("deblurred.png"),
    iterations: Annotated[int, typer.Option(min=1, help="More recover finer detail.")] = 60,
) -> None:
    """Blur a photograph as a shaking camera does, and undo it in compiled code."""
    opened = Image.open(image) if image else Image.fromarray(load_sample_image("china.jpg"))
    photo = np.moveaxis(np.asarray(opened.convert("RGB"), np.float32) / 255, -1, 0).copy()
    blur = scribble()
    shaken = shake(photo, blur)
    restored = measure(shaken, blur, iterations)
    pictures = {"as the camera shook": shaken, "deblurred": restored, "the scene": photo}
    save_picture(pictures, blur, output)


if __name__ == "__main__":
    typer.run(main)
