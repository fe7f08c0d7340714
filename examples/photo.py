"""A photograph in, photographs out: blur, unsharp mask, edges, emboss.

Each takes the (H, W, 3) bytes of the photograph as they are, in one call or two of
`numbaconv.ndimage`. Where OpenCV is installed the same is done with it, compared and timed.

    python examples/photo.py                        # saves photo.png
    python examples/photo.py --image mine.jpg
"""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated

import matplotlib.pyplot as plt
import numpy as np
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_sample_image

from numbaconv import ndimage

try:
    import cv2
except ImportError:
    cv2 = None

console = Console()

SIGMA = 3.0
RADIUS = 6
Y, X = np.mgrid[-RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1]
GAUSSIAN = np.exp(-(X**2 + Y**2) / (2 * 2.0**2))

# The photograph, and once more what a blur takes away.
UNSHARP = 2.0 * ((X == 0) & (Y == 0)) - GAUSSIAN / GAUSSIAN.sum()
EMBOSS = np.array([[-2.0, -1, 0], [-1, 1, 1], [0, 1, 2]])

# --- The filters ------------------------------------------------------------------------------


def blur(photo: np.ndarray) -> np.ndarray:
    """Smooth rows and columns, each colour by itself."""
    return ndimage.gaussian_filter(photo, SIGMA, axes=(0, 1), rounding="saturate")


def sharpen(photo: np.ndarray) -> np.ndarray:
    """Unsharp mask, as one kernel; what goes beyond black and white is clipped."""
    return ndimage.correlate(photo, UNSHARP, axes=(0, 1), rounding="saturate")


def emboss(photo: np.ndarray) -> np.ndarray:
    """Light from the upper left."""
    return ndimage.correlate(photo, EMBOSS, axes=(0, 1), rounding="saturate")


def edges(photo: np.ndarray) -> np.ndarray:
    """How fast green changes, down and across: differences need a sign, so they are int16."""
    green = photo[..., 1]
    down, across = (ndimage.sobel(green, axis, output=np.int16) for axis in (0, 1))
    return np.hypot(down, across, dtype=np.float32)


# --- The same with OpenCV ---------------------------------------------------------------------


def blur_opencv(photo: np.ndarray) -> np.ndarray:
    """OpenCV takes another radius unless it is told."""
    size = 2 * int(4 * SIGMA + 0.5) + 1
    return cv2.GaussianBlur(photo, (size, size), SIGMA, borderType=cv2.BORDER_REFLECT)


def sharpen_opencv(photo: np.ndarray) -> np.ndarray:
    """One kernel."""
    return cv2.filter2D(photo, -1, UNSHARP, borderType=cv2.BORDER_REFLECT)


def emboss_opencv(photo: np.ndarray) -> np.ndarray:
    """One kernel."""
    return cv2.filter2D(photo, -1, EMBOSS, borderType=cv2.BORDER_REFLECT)


def edges_opencv(photo: np.ndarray) -> np.ndarray:
    """Derivatives by both axes."""
    green, border = np.ascontiguousarray(photo[..., 1]), cv2.BORDER_REFLECT
    down = cv2.Sobel(green, cv2.CV_16S, 0, 1, borderType=border)
    across = cv2.Sobel(green, cv2.CV_16S, 1, 0, borderType=border)
    return np.hypot(down, across, dtype=np.float32)


FILTERS = {
    "blur": (blur, blur_opencv),
    "unsharp mask": (sharpen, sharpen_opencv),
    "edges": (edges, edges_opencv),
    "emboss": (emboss, emboss_opencv),
}

# --- Times, and the picture -------------------------------------------------------------------


def timed(function: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the result and the median time in milliseconds, compilation left out."""
    result = function(x)
    seconds = []
    for _ in range(9):
        start = time.perf_counter()
        function(x)
        seconds.append(time.perf_counter() - start)
    return result, 1e3 * median(seconds)


def run(photo: np.ndarray) -> dict[str, np.ndarray]:
    """Filter, print the times, and compare with OpenCV."""
    table = Table("filter", title=f"A photograph of {photo.shape[1]} x {photo.shape[0]} pixels")
    for heading in ("numbaconv, ms", "OpenCV, ms", "largest difference"):
        table.add_column(heading, justify="right")
    results = {}
    for name, (ours, theirs) in FILTERS.items():
        results[name], milliseconds = timed(ours, photo)
        cells = ["-", "-"]
        if cv2 is not None:
            expected, theirs_milliseconds = timed(theirs, photo)
            difference = np.abs(results[name].astype(float) - expected).max()
            assert difference <= 2, f"{name} disagrees with OpenCV"  # it blurs in fixed point
            cells = [f"{theirs_milliseconds:.2f}", f"{difference:g}"]
        table.add_row(name, f"{milliseconds:.2f}", *cells)
    console.print(table)
    return results


def save_picture(photo: np.ndarray, results: dict[str, np.ndarray], path: Path) -> None:
    """Draw the photograph and what became of it: the middle of each, so that details are seen."""
    plt.style.use("dark_background")
    rows, columns = photo.shape[0] // 4, photo.shape[1] // 4
    middle = np.s_[rows : 3 * rows, columns : 3 * columns]
    figure = plt.figure(figsize=(12, 4.4), layout="constrained")
    grid = figure.subplot_mosaic("AABC;AADE")
    shown = {"photograph": photo} | results
    for axes, (title, picture) in zip(grid.values(), shown.items(), strict=True):
        axes.set_title(title, loc="left", fontsize=11)
        axes.imshow(picture[middle], cmap="magma", vmax=None if picture.ndim == 3 else 600)
        axes.set_axis_off()
    figure.savefig(path, dpi=100)
    if path.suffix == ".png":  # a palette of 256 colours: a quarter of the size
        picture = Image.open(path).convert("RGB").quantize(kmeans=1, dither=Image.Dither.NONE)
        picture.save(path, optimize=True)
    console.print(f"saved {path}")


def main(
    image: Annotated[Path | None, typer.Option(help="A photograph of your own.")] = None,
    output: Annotated[Path, typer.Option(help="Where the picture goes.")] = Path("photo.png"),
) -> None:
    """Blur, sharpen and emboss a photograph, and find its edges."""
    photo = Image.open(image) if image else Image.fromarray(load_sample_image("china.jpg"))
    pixels = np.asarray(photo.convert("RGB"))
    save_picture(pixels, run(pixels), output)


if __name__ == "__main__":
    typer.run(main)
