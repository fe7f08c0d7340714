"""Five layers that tell a cat from a dog.

A network in plain NumPy on top of numbaconv's convolutions and their gradients (`layers.py`) learns
from the silhouettes of cats and dogs, 28 x 28 pixels each. Nobody tells it what a cat is. The
pictures that this saves show what it looks for: the first layer's detectors, the patches of images
that excite the later ones most, the maps of a cat and a dog, and the animals it gets wrong.

The images are the data of the package animal-mnist (MIT): 1000 silhouettes of each of ten animals.
It asks for TensorFlow, which nothing here needs. So install it without what it asks for:

    pip install --no-deps animal-mnist
    python examples/cats_and_dogs.py                # about a minute on two cores
    python examples/cats_and_dogs.py --all-animals  # all ten, some minutes
"""

import gzip
import pickle
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import typer
from layers import Convolution, Data, Linear, MaxPool, Network, Relu, shuffled, train
from rich.console import Console

import numbaconv as nc

console = Console()

ANIMALS = ("bear", "bird", "cat", "cow", "dog", "elephant", "giraffe", "horse", "sheep", "zebra")

# --- The images -------------------------------------------------------------------------------


PARTS_OF_ARRAYS = {
    "_reconstruct": np.empty(0).__reduce__()[0],  # wherever this NumPy keeps it
    "ndarray": np.ndarray,
    "dtype": np.dtype,
}


class ArrayUnpickler(pickle.Unpickler):
    """Reads NumPy arrays and nothing else: a pickle can otherwise run any code."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name in the pickle stands for."""
        if module.partition(".")[0] != "numpy" or name not in PARTS_OF_ARRAYS:
            raise pickle.UnpicklingError(f"an array has no need of {module}.{name}")
        return PARTS_OF_ARRAYS[name]


def silhouettes(animals: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Images from 0 to 1, (N, 1, 28, 28), and the index of each one's animal in `animals`."""
    package = find_spec("animal_mnist")  # found, but not imported: that would need TensorFlow
    if package is None or not package.submodule_search_locations:
        raise SystemExit("The images are missing: pip install --no-deps animal-mnist")
    folder = Path(package.submodule_search_locations[0], "data", "Animal_MNIST")
    arrays = []
    for name in ("animal_data_version_3.gz", "animal_label_version_3.gz"):
        with gzip.open(folder / name) as file:
            arrays.append(ArrayUnpickler(file).load())
    images, labels = arrays
    chosen = [np.flatnonzero(labels == ANIMALS.index(animal)) for animal in animals]
    pixels = images[np.concatenate(chosen)].astype(np.float32)[:, None] / 255
    return pixels, np.repeat(np.arange(len(animals)), [len(c) for c in chosen])


def near_duplicates(x: np.ndarray, most: float = 0.05) -> np.ndarray:
    """Which pairs of images differ by less than a share of what they show: (N, N), true or false.

    An image is compared with each other one and its mirror image, as it is and shifted by a pixel.
    All products that this needs are one convolution, with the images themselves as the detectors.
    """
    norms = (x**2).sum((1, 2, 3))
    together = norms[:, None] + norms
    alike = np.zeros_like(together)
    for other in (x, np.ascontiguousarray(x[..., ::-1])):
        np.maximum(alike, nc.conv2d(x, other, padding=1).max((2, 3)), out=alike)
    near = together - 2 * alike < most * together / 2  # |a - b|² = |a|² + |b|² - 2 a·b
    return near | near.T


def families(near: np.ndarray) -> np.ndarray:
    """Give all images that pairs link, in some steps, one number: the smallest of their indices."""
    numbers = np.arange(len(near))
    while True:
        smallest = np.where(near, numbers, len(near)).min(1)
        if np.array_equal(smallest, numbers):
            return numbers
        numbers = smallest


def learnt_and_held_out(x: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Data:
    """Hold out a fifth of the images, drawn at random: near-duplicates all, or none of them."""
    family = np.empty(len(x), int)
    twins = 0
    for animal in np.unique(labels):
        own = np.flatnonzero(labels == animal)
        near = near_duplicates(x[own])
        family[own] = own[families(near)]
        twins += np.count_nonzero(near.sum(1) > 1)  # each is near itself
    console.print(f"{twins} of {len(x)} images have a near-duplicate: kept on one side")
    drawn = rng.permutation(np.unique(family))
    held = np.isin(family, drawn[: len(drawn) // 5])
    return x[~held], labels[~held], x[held], labels[held]


# --- The network ------------------------------------------------------------------------------


def five_layers(classes: int, rng: np.random.Generator) -> Network:
    """Four layers of detectors, each seeing more of the image, and one of scores."""
    first = Convolution(1, 16, 5, rng, first=True)
    first.weight *= 0.2  # begins faint, so that what is seen in it later has been learnt
    return Network(
        *(first, Relu(), MaxPool()),
        *(Convolution(16, 32, 3, rng), Relu()),
        *(Convolution(32, 32, 3, rng), Relu(), MaxPool()),
        *(Convolution(32, 64, 3, rng), Relu()),
        Linear(64 * 7 * 7, classes, rng),
    )


def varied(x: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Any:
    """Batches of images that nobody drew: shifted by up to two pixels, half of them mirrored."""
    for images, targets in shuffled(x, labels, 2, rng):
        mirrored = rng.random(len(images)) < 0.5
        images[mirrored] = images[mirrored, ..., ::-1]
        yield images, targets


# --- What the layers look for -----------------------------------------------------------------


class View(NamedTuple):
    """The pixels that a position of a map sees: `size` of them, from `first + step * position`."""

    size: int
    step: int
    first: int


def views(network: Network) -> dict[int, View]:
    """The receptive field of each layer of detectors, by its index: a sum over those before it."""
    size, step, first = 1, 1, 0
    found = {}
    for index, layer in enumerate(network.layers):
        if isinstance(layer, Convolution):
            first -= layer.padding * step
            size += (layer.weight.shape[-1] - 1) * step
            found[index] = View(size, step, first)
        elif isinstance(layer, MaxPool):
            size, step = size + step, 2 * step
    return found


def maps_of(network: Network, x: np.ndarray, index: int) -> np.ndarray:
    """The maps behind the ReLU that follows a layer of detectors."""
    for layer in network.layers[: index + 2]:
        x = layer.forward(x)
    return x


def exciting_patches(network: Network, x: np.ndarray, index: int, count: int) -> np.ndarray:
    """The patches that excite each detector of a layer most, one an image: (C, count, S, S)."""
    maps = maps_of(network, x, index)
    n, c, _, width = maps.shape
    most = maps.max((2, 3)).argsort(0)[: -count - 1 : -1]  # (count, C), the strongest first
    places = maps.reshape(n, c, -1).argmax(2)[most, np.arange(c)]
    size, step, first = views(network)[index]
    padded = np.pad(x[:, 0], ((0, 0), (size, size), (size, size)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), (1, 2))
    rows, columns = (first + size + step * place for place in np.divmod(places, width))
    return windows[most, rows, columns].swapaxes(0, 1)


def surest(network: Network, x: np.ndarray, animal: int) -> np.ndarray:
    """The image of which the network is surest that it shows an animal: (H, W)."""
    scores = network.forward(x)
    others = np.delete(scores, animal, 1).max(1)
    return x[np.argmax(scores[:, animal] - others), 0]


# --- The pictures -----------------------------------------------------------------------------


def grid(part: Any, shape: tuple[int, int], pictures: Any, **style: Any) -> list[Any]:
    """Draw pictures in rows and columns, as many as there are, and return the places."""
    places = list(part.subplots(*shape, squeeze=False).flat)
    for axes in places:
        axes.set_axis_off()
    for axes, picture in zip(places, pictures, strict=False):
        axes.imshow(picture, **style)
    return places


def draw_detectors(network: Network, losses: list[float], accuracies: list[float]) -> Any:
    """Draw how the learning went, and what the first layer's detectors became."""
    figure = plt.figure(figsize=(10, 3.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.7))
    curve = left.subplots()
    epochs = np.arange(1, len(losses) + 1)
    curve.semilogy(epochs, losses, label="loss")
    curve.semilogy(epochs, 1 - np.array(accuracies), label="errors on held-out images, share")
    curve.set(xlabel="epoch")
    curve.legend(frameon=False)
    right.suptitle("the first layer's detectors: red adds brightness, blue takes it away")
    weight = network.layers[0].weight[:, 0]
    limit = np.abs(weight).max()
    grid(right, (2, 8), weight, cmap="RdBu_r", vmin=-limit, vmax=limit)
    return figure


def draw_patches(network: Network, x: np.ndarray) -> Any:
    """Draw what excites eight detectors of the second layer and of the third: six patches each."""
    figure = plt.figure(figsize=(10, 5.2), layout="constrained", facecolor="dimgrey")
    layers = list(views(network).items())[1:3]
    for part, (index, view), name in zip(
        figure.subfigures(1, 2), layers, ("second", "third"), strict=True
    ):
        part.suptitle(f"the {name} layer, which sees {view.size} x {view.size} pixels")
        patches = exciting_patches(network, x, index, 6)
        liveliest = patches.std((1, 2, 3)).argsort()[:-9:-1]
        grid(part, (8, 6), patches[liveliest].reshape(-1, view.size, view.size), cmap="gray")
    return figure


def draw_maps(network: Network, animals: dict[str, np.ndarray]) -> Any:
    """Draw for each animal its image and some maps of every layer of detectors."""
    figure = plt.figure(figsize=(10, 4.6), layout="constrained")
    rows = figure.subfigures(len(animals), 1)
    for row, (name, image) in zip(rows, animals.items(), strict=True):
        parts = row.subfigures(1, 5)
        grid(parts[0], (1, 1), image[None], cmap="gray")
        parts[0].suptitle(f"a {name}")
        for number, (part, index) in enumerate(zip(parts[1:], views(network), strict=True), 1):
            maps = maps_of(network, image[None, None], index)[0]
            strongest = maps.max((1, 2)).argsort()[:-10:-1]
            grid(part, (3, 3), maps[strongest], cmap="magma", vmin=0)
            part.suptitle(f"layer {number}")
    return figure


def draw_mistakes(
    network: Network, x: np.ndarray, labels: np.ndarray, animals: tuple[str, ...]
) -> Any:
    """Draw held-out images that the network gets wrong, with what it takes them for."""
    found = network.forward(x).argmax(1)
    wrong = np.flatnonzero(found != labels)[:16]
    figure = plt.figure(figsize=(10, 3.4), layout="constrained", facecolor="dimgrey")
    places = grid(figure, (2, 8), x[wrong, 0], cmap="gray")
    for axes, index in zip(places, wrong, strict=False):
        axes.set_title(
            f"a {animals[labels[index]]}, taken\nfor a {animals[found[index]]}", fontsize=9
        )
    return figure


def save(figure: Any, folder: Path, name: str) -> None:
    """Write a picture."""
    path = folder / f"cats_and_dogs_{name}.png"
    figure.savefig(path, dpi=90)
    plt.close(figure)
    console.print(f"saved {path}")


def main(
    epochs: Annotated[int, typer.Option(min=1, help="Times that every image is seen.")] = 20,
    seed: Annotated[int, typer.Option(help="Of weights, batches and held-out images.")] = 0,
    all_animals: Annotated[bool, typer.Option("--all-animals", help="All ten of them.")] = False,
    output: Annotated[Path, typer.Option(help="The folder where the pictures go.")] = Path(),
) -> None:
    """Train a network on silhouettes of animals, and show what it looks for."""
    start, cpu_start = time.perf_counter(), time.process_time()
    rng = np.random.default_rng(seed)
    animals = ANIMALS if all_animals else ("cat", "dog")
    data = learnt_and_held_out(*silhouettes(animals), rng)
    x, labels, held_x, held_labels = data
    network = five_layers(len(animals), rng)
    losses, accuracies, _ = train(
        network, data, epochs, 0.02, lambda: varied(x, labels, rng), console
    )
    console.print(
        f"{accuracies[-1]:.2%} of {len(held_x)} held-out images told right, "
        f"{time.perf_counter() - start:.0f} s with compilation, "
        f"{time.process_time() - cpu_start:.0f} s of CPU time"
    )
    output.mkdir(parents=True, exist_ok=True)
    plt.style.use("dark_background")
    save(draw_detectors(network, losses, accuracies), output, "detectors")
    save(draw_patches(network, held_x), output, "patches")
    sure = {name: surest(network, held_x, animals.index(name)) for name in ("cat", "dog")}
    save(draw_maps(network, sure), output, "maps")
    save(draw_mistakes(network, held_x, held_labels, animals), output, "mistakes")


if __name__ == "__main__":
    typer.run(main)
