"""A field with gaps, smoothed: the temperature of a sea between islands, seen through clouds.

The field is drawn at random. Land is a mask that all pictures of this sea share; clouds are NaN. A
Gaussian spreads each NaN over its whole window, and zeros in their place cool the sea around them.
Left out, with the other weights counting for more, they do neither. Where astropy is installed the
same is done with it, compared and timed.

    python examples/missing_data.py                 # saves missing_data.png
    python examples/missing_data.py --seed 7
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

from numbaconv import ndimage

try:
    from astropy.convolution import convolve
except ImportError:
    convolve = None

console = Console()

SIGMA = 6.0
RADIUS = int(4 * SIGMA + 0.5)
HEIGHT, WIDTH = 384, 512

# --- The sea ----------------------------------------------------------------------------------


def waves(draw: np.random.Generator, scale: float) -> np.ndarray:
    """Noise of one scale, between about -2 and 2; what leaves on one side enters on the other."""
    noise = ndimage.gaussian_filter(draw.normal(size=(HEIGHT, WIDTH)), scale, mode="wrap")
    return noise / noise.std()


def make_sea(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the temperature in degrees, where there is sea, and what a satellite sees of it."""
    draw = np.random.default_rng(seed)
    north = np.linspace(0, 1, HEIGHT)[:, None]
    temperature = 12 + 14 * north + 1.5 * waves(draw, 40) + 0.5 * waves(draw, 12)
    sea = waves(draw, 30) < 1.2
    clouds = waves(draw, 8) + 0.5 * waves(draw, 25) > 0.9
    seen = temperature + draw.normal(scale=0.8, size=temperature.shape)
    seen[clouds] = np.nan
    seen[~sea] = 45.0  # hot rocks, which are no water
    return temperature, sea, seen


# --- Four ways to smooth it -------------------------------------------------------------------


def naive(seen: np.ndarray, sea: np.ndarray) -> np.ndarray:
    """A Gaussian that takes everything for a number."""
    return ndimage.gaussian_filter(np.where(sea, seen, np.nan), SIGMA)


def zeros(seen: np.ndarray, sea: np.ndarray) -> np.ndarray:
    """Zeros for what is missing."""
    return ndimage.gaussian_filter(np.where(sea, np.nan_to_num(seen), 0), SIGMA)


def omitted(seen: np.ndarray, sea: np.ndarray) -> np.ndarray:
    """What is missing is left out; results of less than a tenth of the weights are missing too."""
    return ndimage.gaussian_filter(seen, SIGMA, nan="omit", mask=sea, min_weight=0.1)


def astropy(seen: np.ndarray, sea: np.ndarray) -> np.ndarray:
    """The kernel of the Gaussian, in two dimensions."""
    point = np.zeros((2 * RADIUS + 1,) * 2)
    point[RADIUS, RADIUS] = 1
    kernel = ndimage.gaussian_filter(point, SIGMA, mode="constant")
    wide = np.pad(np.where(sea, seen, np.nan), RADIUS, "symmetric")
    return convolve(wide, kernel)[RADIUS:-RADIUS, RADIUS:-RADIUS]


# --- Errors, times, and the picture -----------------------------------------------------------


def timed(function: Callable[..., np.ndarray], *arguments: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the result and the median time in milliseconds, compilation left out."""
    result = function(*arguments)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        function(*arguments)
        seconds.append(time.perf_counter() - start)
    return result, 1e3 * median(seconds)


def run(temperature: np.ndarray, sea: np.ndarray, seen: np.ndarray) -> dict[str, np.ndarray]:
    """Smooth, and print how far results are from the sea under the clouds."""
    results = {}
    table = Table("", title=f"{HEIGHT} x {WIDTH}, {np.isnan(seen[sea]).mean():.0%} under clouds")
    for heading in ("milliseconds", "sea with a result", "mean error, degrees"):
        table.add_column(heading, justify="right")
    ways = {"NaN spreads": naive, "zeros instead": zeros, 'nan="omit", mask=sea': omitted}
    if convolve is not None:
        ways["astropy"] = astropy
    for name, way in ways.items():
        results[name], milliseconds = timed(way, seen, sea)
        there = sea & ~np.isnan(results[name])
        error = np.abs(results[name] - temperature)[there].mean()
        table.add_row(name, f"{milliseconds:.1f}", f"{there.sum() / sea.sum():.0%}", f"{error:.2f}")
    console.print(table)
    if convolve is not None:
        difference = results.pop("astropy") - results['nan="omit", mask=sea']
        assert np.nanmax(np.abs(difference)) < 1e-10, "omitted values disagree with astropy"
    return results


def save_picture(seen: np.ndarray, sea: np.ndarray, results: dict[str, np.ndarray], path: Path):
    """Draw what was seen and what was made of it; land is grey, what is missing black."""
    plt.style.use("dark_background")
    figure, grid = plt.subplots(1, 4, figsize=(13, 2.9), layout="constrained")
    for axes, (title, field) in zip(grid, ({"seen": seen} | results).items(), strict=True):
        axes.set_title(title, loc="left", fontsize=11)
        axes.imshow(field, cmap="turbo", vmin=8, vmax=30, interpolation="nearest")
        axes.imshow(np.where(sea, np.nan, 0.5), cmap="gray", vmin=0, vmax=1)
        axes.set_axis_off()
    figure.savefig(path, dpi=100)
    if path.suffix == ".png":  # a palette of 256 colours: a quarter of the size
        picture = Image.open(path).convert("RGB").quantize(kmeans=1, dither=Image.Dither.NONE)
        picture.save(path, optimize=True)
    console.print(f"saved {path}")


def main(
    seed: Annotated[int, typer.Option(help="Which sea.")] = 3,
    output: Annotated[Path, typer.Option(help="Where the picture goes.")] = Path(
        "missing_data.png"
    ),
) -> None:
    """Smooth a sea between islands, seen through clouds."""
    temperature, sea, seen = make_sea(seed)
    save_picture(seen, sea, run(temperature, sea, seen), output)


if __name__ == "__main__":
    typer.run(main)
