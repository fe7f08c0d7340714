"""Draw the pictures of how-it-works.md and of lesson.md: ``python docs/draw.py``.

Those of the lesson are drawn from the variables that its own code leaves. The ladder is drawn by
``benchmarks/ladder.py --plot``, cats and dogs by ``examples/cats_and_dogs.py --output docs/img``.
Matplotlib is imported where it is used, because pytest imports this module too, and does without
it.
"""

import doctest
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

import numbaconv as nc
from numbaconv.problem.toom_cook import matrices

IMAGES = Path(__file__).parent / "img"
BLUE, ORANGE, GREEN, RED, GREY = "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#d9d9d9"

IMAGE = np.array([[0, 1, 4, 9], [6, 5, 6, 9], [4, 1, 0, 1], [4, 9, 6, 5]], np.float32)
DETECTORS = np.array(
    [[[1, 0, -1], [2, 0, -2], [1, 0, -1]], [[1, 2, 1], [0, 0, 0], [-1, -2, -1]]], np.float32
)


def cells(axes: Any, x: float, y: float, values: Any, colours: Any = "white", size: float = 1):
    """Draw a matrix as cells whose top left corner is (x, y); y grows downwards.

    `colours` is one colour, or a function of (row, column); None in `values` leaves a cell empty.
    """
    from matplotlib.patches import Rectangle

    for r, row in enumerate(values):
        for c, value in enumerate(row):
            colour = colours(r, c) if callable(colours) else colours
            corner = (x + c * size, y + r * size)
            axes.add_patch(Rectangle(corner, size, size, fc=colour, ec="black", lw=0.6, alpha=0.55))
            if value is not None:
                text = value if isinstance(value, str) else f"{value:g}"
                centre = (corner[0] + size / 2, corner[1] + size / 2)
                axes.text(*centre, text, ha="center", va="center", fontsize=9)


def frame(axes: Any, x: float, y: float, width: float, height: float, colour: str):
    """Draw a thick frame."""
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((x, y), width, height, fill=False, ec=colour, lw=2.5, zorder=4))


def arrow(axes: Any, start: tuple[float, float], end: tuple[float, float], bend: float = 0.0):
    """Draw an arrow."""
    style = {"arrowstyle": "-|>", "color": "black", "connectionstyle": f"arc3,rad={bend}"}
    axes.annotate("", end, start, arrowprops=style, zorder=5)


def canvas(width: float, height: float, size: tuple[float, float], panels: int = 1):
    """Make axes on which y grows downwards and a cell is square."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, grid = plt.subplots(1, panels, figsize=size, layout="constrained", squeeze=False)
    for axes in grid[0]:
        axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
        axes.set_axis_off()
    return figure, grid[0]


def save(figure: Any, name: str):
    """Write a picture."""
    from matplotlib import pyplot as plt

    figure.savefig(IMAGES / name, dpi=110)
    plt.close(figure)
    print(f"saved {IMAGES / name}")


def draw_patches():
    """Draw a 4 x 4 input under two 3 x 3 detectors as one matrix product."""
    patches = nc.im2col(IMAGE[None], (3, 3))
    weights = DETECTORS.reshape(2, 9)
    maps = nc.conv2d(IMAGE[None], DETECTORS[:, None])
    assert np.array_equal(weights @ patches, maps.reshape(2, 4))
    places = (BLUE, ORANGE, GREEN, RED)

    figure, (axes,) = canvas(24, 14.2, (9.5, 5.7))
    cells(axes, 2, 1.5, IMAGE, lambda r, c: BLUE if r < 3 and c < 3 else "white")
    frame(axes, 2, 1.5, 3, 3, BLUE)
    frame(axes, 3.05, 2.55, 2.95, 2.95, RED)
    note = "input, 4 x 4: a 3 x 3 detector\nfits in four places; the first\nand the last are framed"
    axes.text(4, 6, note, ha="center", va="top", fontsize=9)
    arrow(axes, (5.1, 1.6), (11.9, 1.6), -0.15)
    cells(axes, 12, 1, patches, lambda r, c: places[c])
    axes.text(14, 0.6, "patch matrix: each place a column", ha="center")
    cells(axes, 2, 11, weights, GREY)
    axes.text(6.5, 13.7, "weight matrix: each detector a row", ha="center")
    cells(axes, 12, 11, weights @ patches, lambda r, c: places[c])
    axes.text(14, 13.7, "their product", ha="center")
    axes.text(21, 2.8, "the same, as maps", ha="center")
    for i, (name, result) in enumerate(zip(("vertical", "horizontal"), maps, strict=True)):
        cells(axes, 20, 3.5 + 3.8 * i, result, lambda r, c: places[2 * r + c])
        axes.text(21, 6.1 + 3.8 * i, f"{name} edges, 2 x 2", ha="center", fontsize=9)
    arrow(axes, (16.2, 12), (20.8, 10.2), 0.25)
    save(figure, "patches.png")


def draw_tile():
    """Draw the register tile: MR weights of a step k times two vectors of pixels."""
    mr, lanes, shown = 6, 5, 6
    k = 3
    figure, (axes,) = canvas(25, 15.5, (9.5, 6))
    left, top = 7.5, 8
    cells(axes, left, 1, [[None] * 2 * lanes] * shown, lambda r, c: ORANGE if r == k else "white")
    cells(axes, 1, top, [[None] * shown] * mr, lambda r, c: BLUE if c == k else "white")
    cells(axes, left, top, [[None] * 2 * lanes] * mr, GREEN)
    for x in (left, left + lanes):
        frame(axes, x, top, lanes, mr, GREEN)
        frame(axes, x, 1 + k, lanes, 1, ORANGE)
    frame(axes, 1 + k, top, 1, mr, BLUE)
    axes.text(left + lanes, 0.5, "B: patches, NR pixels wide", ha="center")
    axes.text(4, top - 0.5, "A: weights", ha="center")
    axes.text(left + lanes, top + mr + 0.9, "C: MR x NR sums, in registers", ha="center")
    axes.text(6.9, 1.5 + k, "step k", ha="right", va="center")
    axes.text(1.5 + k, top + mr + 0.9, "step k", ha="center")
    arrow(axes, (left + lanes / 2, 2 + k), (left + lanes / 2, top))
    arrow(axes, (left + 1.5 * lanes, 2 + k), (left + 1.5 * lanes, top))
    for i in range(mr):
        arrow(axes, (2 + k, top + i + 0.5), (left, top + i + 0.5))
    notes = (
        (1.0 + k, "two loads of a vector each,\nat base + offset[k] and one vector on"),
        (top + 0.6, "MR weights, neighbours in memory;\neach is broadcast to a vector"),
        (top + 3.2, "for each i and j\nC[i, j] += A[k, i] * B[k, j]\nMR x 2 multiply-adds"),
    )
    for y, note in notes:
        axes.text(left + 2 * lanes + 0.5, y, note, va="top", fontsize=10)
    save(figure, "tile.png")


def draw_halo(axes: Any):
    """Draw a halo tile, and what two of its taps read for the same outputs."""
    rows, columns = 6, 8
    cells(
        axes, 1, 2, [[None] * columns] * rows,
        lambda r, c: GREY if r == 0 or c in (0, columns - 1) else "white",
    )  # fmt: skip
    frame(axes, 1, 3, 6, 1, BLUE)
    frame(axes, 3, 4.06, 6, 0.94, ORANGE)
    axes.set_title("halo tile", fontsize=11)
    axes.text(5, 1.5, "grey: padding", ha="center", fontsize=9)
    note = "one output row, as the taps\n(0, 0) and (1, 2) of 3 x 3 read it:\na shift of pitch + 2"
    axes.text(5, 8.6, note, ha="center", va="top", fontsize=9)


def draw_phases(axes: Any):
    """Draw a row under stride 2, split into two phases."""
    axes.set_title("stride phases", fontsize=11)
    colour = (BLUE, ORANGE)
    cells(axes, 0.5, 2, [[str(i) for i in range(9)]], lambda r, c: colour[c % 2])
    axes.text(5, 1.5, "a row of the input, stride 2", ha="center", fontsize=9)
    cells(axes, 0.5, 5, [[str(i) for i in range(0, 9, 2)]], BLUE)
    cells(axes, 0.5, 6.6, [[str(i) for i in range(1, 9, 2)]], ORANGE)
    arrow(axes, (3, 3.1), (3, 4.9))
    axes.text(5.8, 5.5, "phase 0: taps 0, 2", va="center", fontsize=9)
    axes.text(5.8, 7.1, "phase 1: tap 1", va="center", fontsize=9)
    note = "neighbouring outputs read\nneighbouring elements again"
    axes.text(5, 8.6, note, ha="center", va="top", fontsize=9)


def draw_band(axes: Any):
    """Draw how four output rows share the input rows that a 3 x 3 filter reads."""
    axes.set_title("band", fontsize=11)
    cells(axes, 0.5, 2, [[None] * 3] * 6, lambda r, c: ORANGE if r == 2 else "white")
    taps = [[None, f"kh {2 - i}" if i < 3 else None, None] for i in range(4)]
    cells(axes, 6.5, 3, taps, lambda r, c: GREEN if r < 3 else "white")
    for i in range(3):
        arrow(axes, (3.6, 4.5), (6.4, 3.5 + i))
    axes.text(2, 1.5, "input rows", ha="center", fontsize=9)
    axes.text(8, 1.5, "output rows", ha="center", fontsize=9)
    note = "an input row is loaded once and\nserves every output row whose\nwindow holds it"
    axes.text(5, 8.6, note, ha="center", va="top", fontsize=9)


def draw_lowerings():
    """Draw three ways to make ordinary data fit the register tiles."""
    figure, axes = canvas(10, 10.6, (9.5, 3.9), panels=3)
    for draw, panel in zip((draw_halo, draw_phases, draw_band), axes, strict=True):
        draw(panel)
    save(figure, "lowerings.png")


def names_of(page: str) -> dict[str, Any]:
    """Run the examples of a page, and return the variables that they leave."""
    names: dict[str, Any] = {}
    text = (IMAGES.parent / page).read_text("utf-8")
    for example in doctest.DocTestParser().get_examples(text):
        exec(example.source, names)
    return names


def draw_receptive(seen: list[np.ndarray]):
    """Draw what one place of the output sees of each layer before it, back to the image."""
    figure, axes = canvas(15, 15, (9.5, 2.7), panels=len(seen))
    titles = ["a place of the third layer", "of the second: 3 x 3", "of the first: 5 x 5"]
    for panel, back, title in zip(axes, seen, [*titles, "of the image: 7 x 7"], strict=True):
        ways = back[0] / back.max()
        panel.pcolormesh(np.arange(16), np.arange(16), ways, cmap="Blues", ec=GREY, lw=0.4)
        panel.set_title(title, fontsize=10)
    save(figure, "receptive.png")


def draw_learning(steps: list[np.ndarray], losses: list[float]):
    """Draw nine weights on their way from noise to an edge detector, and the loss."""
    from matplotlib import pyplot as plt

    figure = plt.figure(figsize=(9.5, 2.2), layout="constrained")
    *panels, curve = figure.subplots(1, 6, width_ratios=(1, 1, 1, 1, 1, 1.7))
    for panel, step in zip(panels, (0, 5, 20, 60, 150), strict=True):
        panel.imshow(steps[step], cmap="RdBu_r", vmin=-1.6, vmax=1.6)
        panel.set_axis_off()
        panel.set_title(f"step {step}", fontsize=10)
        for (row, column), weight in np.ndenumerate(steps[step]):
            panel.text(
                column, row, f"{weight.round(1) + 0:.1f}", ha="center", va="center", fontsize=8
            )
    curve.semilogy(losses)
    curve.set_title("loss", fontsize=10)
    save(figure, "learning.png")


def draw_lesson():
    """Draw what the code of the lesson computes."""
    names = names_of("lesson.md")
    draw_receptive(names["seen"])
    draw_learning(names["steps"], names["losses"])


def complex_text(z: complex) -> str:
    """Write a complex number whose parts are integers."""
    real, imag = round(z.real), round(z.imag)
    if imag == 0:
        return str(real)
    side = f"{'' if abs(imag) == 1 else abs(imag)}i"
    sign = "-" if imag < 0 else "+" if real else ""
    return f"{real or ''}{sign}{side}"


def draw_spectra():
    """Draw a convolution as a product of spectra: values and spectra below each other."""
    backwards = np.zeros((4, 4), np.float32)
    for i, j in np.ndindex(3, 3):
        backwards[-i, -j] = DETECTORS[0, i, j]
    spectra = [np.fft.fft2(each) for each in (IMAGE, backwards)]
    spectra.append(spectra[0] * spectra[1])
    back = np.fft.ifft2(spectra[2]).real.round() + 0.0
    figure, (axes,) = canvas(31, 17.5, (10.5, 6))
    names = ("input", "detector, backwards\naround the corner", "wrapped sums: 2 x 2 outputs")
    pairs = zip((IMAGE, backwards, back), spectra, names, (BLUE, ORANGE, GREEN), strict=True)
    for i, (matrix, spectrum, name, colour) in enumerate(pairs):
        x = 0.5 + 11 * i
        cells(axes, x, 2, matrix.tolist(), lambda r, c, v=matrix, k=colour: k if v[r, c] else GREY,
              1.5)  # fmt: skip
        cells(axes, x, 10.5, [[complex_text(z) for z in row] for row in spectrum], colour, 1.5)
        axes.text(x + 3, 1.5, name, ha="center", fontsize=10)
        start, end = (x + 3, 8.1), (x + 3, 10.4)
        arrow(axes, *((end, start) if i == 2 else (start, end)))
        axes.text(x + 3.3, 9.3, "inverse" if i == 2 else "transform", va="center", fontsize=9)
    frame(axes, 22.5, 2, 3, 3, RED)
    axes.text(9, 13.5, "x", ha="center", va="center", fontsize=16)
    axes.text(20, 13.5, "=", ha="center", va="center", fontsize=16)
    axes.text(15.5, 17.2, "value by value", ha="center", fontsize=10)
    save(figure, "spectra.png")


def fraction_text(value: Any) -> str:
    """Write a number whose denominator is a small power of two."""
    return str(Fraction(float(value)))


def draw_polynomials():
    """Draw a convolution as a product of polynomials' values, below what is evaluated."""
    inputs, taps, outputs = (np.array(each).astype(float) for each in matrices(2))
    values = [inputs @ IMAGE @ inputs.T, taps @ DETECTORS[0] @ taps.T]
    values.append(values[0] * values[1])
    back = outputs @ values[2] @ outputs.T
    figure, (axes,) = canvas(31, 17.5, (10.5, 6))
    names = ("input", "detector", "2 x 2 outputs")
    triples = zip((IMAGE, DETECTORS[0], back), values, names, (BLUE, ORANGE, GREEN), strict=True)
    for i, (matrix, at_points, name, colour) in enumerate(triples):
        x, size = 0.5 + 11 * i, 1.5 * len(matrix)
        texts = [[fraction_text(each) for each in row] for row in matrix]
        cells(axes, x + 3 - size / 2, 8 - size, texts, colour, 1.5)
        texts = [[fraction_text(each) for each in row] for row in at_points]
        cells(axes, x, 10.5, texts, colour, 1.5)
        axes.text(x + 3, 1.2, name, ha="center", fontsize=10)
        start, end = (x + 3, 8.1), (x + 3, 10.4)
        arrow(axes, *((end, start) if i == 2 else (start, end)))
        verb = "interpolate" if i == 2 else "evaluate"
        axes.text(x + 3.3, 9.3, verb, va="center", fontsize=9)
    axes.text(9, 13.5, "x", ha="center", va="center", fontsize=16)
    axes.text(20, 13.5, "=", ha="center", va="center", fontsize=16)
    axes.text(15.5, 17.2, "point by point: 16 products", ha="center", fontsize=10)
    save(figure, "polynomials.png")


if __name__ == "__main__":
    draw_lesson()
    draw_patches()
    draw_tile()
    draw_lowerings()
    draw_spectra()
    draw_polynomials()
