"""Feature detectors on a photograph.

A feature detector looks at each pixel and its surroundings. This example first works one
convolution by hand, then runs edge, checkerboard and corner detectors over a photograph with
every backend that can run here, and saves what they saw as a picture.

    python examples/features.py                             # every backend, features.png
    NUMBACONV_BACKEND=im2col python examples/features.py    # this backend alone
"""

import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Annotated

import matplotlib.pyplot as plt
import numpy as np
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table
from scipy import ndimage
from sklearn.datasets import load_sample_image

import numbaconv as nc

console = Console()
np.set_printoptions(formatter={"float": lambda value: f"{value:3g}"})

# --- The detectors ----------------------------------------------------------------------------

HALF = 4  # every detector looks this far to each side: 9 x 9 pixels
Y, X = np.mgrid[-HALF : HALF + 1, -HALF : HALF + 1]
GAUSSIAN = np.exp(-(X**2 + Y**2) / (2 * 1.5**2))


def unit(detector: np.ndarray) -> np.ndarray:
    """Scale a detector so that its weights' absolute values sum to one."""
    return (detector / np.abs(detector).sum()).astype(np.float32)


def edge_detector(degrees: float) -> np.ndarray:
    """Bright on one side, dark on the other: Sobel's detector, smoother and at any angle."""
    angle = np.deg2rad(degrees)
    return unit((X * np.cos(angle) + Y * np.sin(angle)) * GAUSSIAN)


EDGES = np.stack([edge_detector(degrees) for degrees in (0, 45, 90, 135)])
CHECKERBOARD = unit(X * Y * GAUSSIAN)
DETECTORS = np.stack([*EDGES, CHECKERBOARD])[:, None]  # (C_out, C_in, KH, KW) = (5, 1, 9, 9)
NEIGHBOURS = np.stack([unit(GAUSSIAN)] * 3)[:, None]  # the same average three times: (3, 1, 9, 9)


def first_layer(image: np.ndarray) -> np.ndarray:
    """Edges in four directions and checkerboards: (1, H, W) to (5, H, W)."""
    return nc.conv2d(image, DETECTORS, padding="same", padding_mode="reflect")


def first_layer_of_scipy(image: np.ndarray) -> np.ndarray:
    """Compute the same with SciPy, detector by detector, to check and time against."""
    return np.stack([ndimage.correlate(image[0], d[0], mode="mirror") for d in DETECTORS])


def second_layer(maps: np.ndarray) -> np.ndarray:
    """Corners, out of the edge maps: around a corner the edges run in more than one direction.

    This is Harris's detector. Averaging over each pixel's neighbours is a depthwise convolution:
    each map has a filter of its own.
    """
    dx, dy = maps[0], maps[2]
    products = np.stack([dx * dx, dy * dy, dx * dy])
    xx, yy, xy = nc.conv2d(products, NEIGHBOURS, padding="same", groups=3)
    return (xx * yy - xy * xy) / (xx + yy + 1e-6)


# --- One convolution by hand ------------------------------------------------------------------


def show_worked_example() -> None:
    """Print a 4 x 4 input, its patch matrix and the product that is the convolution."""
    image = np.array([[0, 1, 4, 9], [6, 5, 6, 9], [4, 1, 0, 1], [4, 9, 6, 5]], np.float32)
    detector = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]], np.float32)
    weights = detector.reshape(1, 9)  # one row for each detector
    patches = nc.im2col(image[None], (3, 3))  # (9, 4): one column for each place it fits
    output = nc.conv2d(image[None], detector[None, None])[0]
    assert np.array_equal(weights @ patches, output.reshape(1, 4))

    console.rule("A 4 x 4 input under a 3 x 3 detector")
    console.print("input", image, "detector", detector, sep="\n")
    table = Table(title="im2col: each surrounding written out as a column", show_footer=True)
    table.add_column("weight", "product", justify="right")
    places = ("top left", "top right", "bottom left", "bottom right")
    for place, value in zip(places, output.flat, strict=True):
        table.add_column(place, f"[bold]{value:g}", justify="right")
    for weight, row in zip(weights[0], patches, strict=True):
        table.add_row(*(f"{value:g}" for value in (weight, *row)))
    console.print(table)
    console.print("the product is the 2 x 2 output", output, sep="\n")
    padded = nc.conv2d(image[None], detector[None, None], padding=1)[0]
    console.print("with padding=1 nothing shrinks: 4 x 4 again", padded, sep="\n")


# --- The photograph ---------------------------------------------------------------------------

WHY_IM2COL_TAKES_LONGER = (
    "im2col first copies the 81 pixels around each pixel into a column. In layer 1 five detectors "
    "use such a column, in layer 2 one, so most of its time goes into copying. In a layer of many "
    "detectors the copy is a small part."
)


def timed(function: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the result and the median time in milliseconds, compilation left out."""
    result = function(x)
    seconds = []
    for _ in range(9):
        start = time.perf_counter()
        function(x)
        seconds.append(time.perf_counter() - start)
    return result, 1e3 * median(seconds)


def detect(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Run both layers with each backend, print the times, and check one against the other."""
    forced = os.environ.get("NUMBACONV_BACKEND")
    table = Table("backend", title="The detectors on the photograph")
    for heading in ("layer 1, ms", "layer 2, ms", "largest difference from SciPy"):
        table.add_column(heading, justify="right")
    expected, scipy_ms = timed(first_layer_of_scipy, image)
    table.add_row("[dim]scipy.ndimage", f"[dim]{scipy_ms:.2f}")
    for name in [forced] if forced else nc.available_backends():
        # With the variable set, the calls find the backend there by themselves.
        with nullcontext() if forced else nc.use_backend(name):
            maps, first_ms = timed(first_layer, image)
            corners, second_ms = timed(second_layer, maps)
        difference = np.abs(maps - expected).max()
        table.add_row(name, f"{first_ms:.2f}", f"{second_ms:.2f}", f"{difference:.1e}")
        assert difference < 1e-5, f"{name} disagrees with SciPy"
        if name == "im2col":
            table.caption = WHY_IM2COL_TAKES_LONGER
    console.print(table)
    return maps, corners


# --- The picture ------------------------------------------------------------------------------

COLOURS = np.array([[1.0, 0.36, 0.30], [1.0, 0.80, 0.25], [0.20, 0.75, 1.0], [0.55, 0.9, 0.45]])


def colour_by_direction(edges: np.ndarray) -> np.ndarray:
    """Brightness is how strong the edge is, colour which detector saw it best."""
    strength = np.abs(edges) / np.percentile(np.abs(edges), 98.5)
    share = strength**12 / (strength**12).sum(axis=0).clip(1e-12)
    brightness = strength.max(axis=0).clip(0, 1) ** 0.8
    return np.einsum("dhw,dc,hw->hwc", share, COLOURS, brightness).clip(0, 1)


def save_picture(photo: Image.Image, maps: np.ndarray, corners: np.ndarray, path: Path) -> None:
    """Photograph and edges on top, the single feature maps with their detectors below."""
    width, height = photo.size
    plt.style.use("dark_background")
    figure = plt.figure(figsize=(12, 12 * height / width * 0.75 + 0.6), layout="constrained")
    grid = figure.subplot_mosaic("AABB;AABB;CDEF")
    figure.get_layout_engine().set(w_pad=0.05, h_pad=0.05)
    shown = [
        ("A", photo, "photograph", None, "black"),
        ("B", colour_by_direction(maps[:4]), "edges, coloured by direction", None, "black"),
        ("C", np.abs(maps[0]), "vertical edges", EDGES[0], COLOURS[0]),
        ("D", np.abs(maps[2]), "horizontal edges", EDGES[2], COLOURS[2]),
        ("E", np.sqrt(corners.clip(0)), "corners, found in the edge maps", None, "black"),
        ("F", np.abs(maps[4]), "checkerboards", CHECKERBOARD, "white"),
    ]
    for key, picture, title, detector, colour in shown:
        axes = grid[key]
        axes.set_title(title, loc="left", fontsize=11)
        axes.set_axis_off()
        limit = None if key in "AB" else np.percentile(picture, 99.5)
        axes.imshow(picture, cmap="magma", vmin=None if limit is None else 0, vmax=limit)
        if detector is not None:
            corner = axes.inset_axes((0.77, 0.66, 0.21, 0.32))
            corner.imshow(detector, cmap="RdBu_r")
            corner.set(xticks=[], yticks=[])
            corner.spines[:].set(color=colour, linewidth=2.5)
    figure.savefig(path, dpi=100)
    if path.suffix == ".png":
        # A palette of 256 colours: a quarter of the size, and nobody sees it.
        picture = Image.open(path).convert("RGB").quantize(kmeans=1, dither=Image.Dither.NONE)
        picture.save(path, optimize=True)
    console.print(f"saved {path}")


def main(
    image: Annotated[Path | None, typer.Option(help="A photograph of your own.")] = None,
    output: Annotated[Path, typer.Option(help="Where the picture goes.")] = Path("features.png"),
) -> None:
    """Work one convolution by hand, then detect edges, checkerboards and corners."""
    show_worked_example()
    photo = Image.open(image) if image else Image.fromarray(load_sample_image("china.jpg"))
    pixels = np.asarray(photo.convert("L"), np.float32)[None] / 255
    maps, corners = detect(pixels)
    save_picture(photo.convert("RGB"), maps, corners, output)


if __name__ == "__main__":
    typer.run(main)
