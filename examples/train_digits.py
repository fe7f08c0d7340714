"""A convolutional network that learns to read digits.

Three layers of detectors and one of scores, in plain NumPy on top of numbaconv's convolutions and
their gradients (`layers.py`), are trained by gradient descent on scikit-learn's 1797 images of
handwritten digits, 8 x 8 pixels each. Nobody tells the first layer what to look for: its 5 x 5
detectors begin as noise and end as edges and strokes, as the picture that this saves shows.

    python examples/train_digits.py                # about ten seconds on two cores
    python examples/train_digits.py --epochs 60
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import matplotlib.pyplot as plt
import numpy as np
import typer
from layers import Convolution, Data, Linear, MaxPool, Network, Relu, shuffled, train
from rich.console import Console
from sklearn.datasets import load_digits

import numbaconv as nc

console = Console()

# --- The network and its images ---------------------------------------------------------------


def layers_for_digits(rng: np.random.Generator) -> Network:
    """From 8 x 8 pixels to ten scores; `layers.py` has each layer, forward and backward."""
    return Network(
        *(Convolution(1, 16, 5, rng, first=True), Relu()),
        *(Convolution(16, 32, 3, rng), Relu(), MaxPool()),
        *(Convolution(32, 64, 3, rng), Relu(), MaxPool()),
        Linear(64 * 2 * 2, 10, rng),
    )


def digits(rng: np.random.Generator) -> Data:
    """Images and labels to learn from, and those held out: a fifth, drawn at random."""
    data = load_digits()
    images = (data.images / 16).astype(np.float32)[:, None]  # (N, 1, 8, 8), from 0 to 1
    order = rng.permutation(len(images))
    held, learnt = np.split(order, [len(order) // 5])
    return images[learnt], data.target[learnt], images[held], data.target[held]


# --- The same in PyTorch, to compare the time -------------------------------------------------


def torch_epoch(x: np.ndarray, labels: np.ndarray) -> Callable[[], None] | None:
    """Return a function that trains the same network for an epoch in PyTorch, if it is there."""
    try:
        import torch
    except ImportError:
        return None
    nn = torch.nn
    network = nn.Sequential(
        *(nn.Conv2d(1, 16, 5, padding=2), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(64 * 2 * 2, 10)),
    )
    descent = torch.optim.SGD(network.parameters(), lr=0.025, momentum=0.9)
    loss_of, rng = nn.CrossEntropyLoss(), np.random.default_rng(0)

    def epoch() -> None:
        for images, targets in shuffled(x, labels, 1, rng):
            descent.zero_grad()
            loss = loss_of(network(torch.from_numpy(images)), torch.from_numpy(targets))
            loss.backward()
            descent.step()
            loss.item()

    return epoch


def compare(x: np.ndarray, labels: np.ndarray, seconds: list[float]) -> None:
    """Print the time per epoch, and PyTorch's."""
    console.print(f"numbaconv: {np.median(seconds):.3f} s per epoch")
    epoch = torch_epoch(x, labels)
    if epoch is None:
        return
    epoch()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        epoch()
        times.append(time.perf_counter() - start)
    console.print(f"PyTorch:   {np.median(times):.3f} s per epoch")


# --- The picture ------------------------------------------------------------------------------


def save_picture(
    network: Network,
    losses: list[float],
    accuracies: list[float],
    image: np.ndarray,
    path: Path,
) -> None:
    """Loss and accuracy; the first layer's detectors; one image and the maps they make of it."""
    # The weights change no more: packed once.
    first = network.layers[0]
    layer = nc.prepare(first.weight, first.bias, padding=first.padding, activation="relu")
    maps = layer(image)
    plt.style.use("dark_background")
    figure = plt.figure(figsize=(12, 6.4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.9))
    curve, digit = left.subplots(2, 1)
    epochs = np.arange(1, len(losses) + 1)
    curve.semilogy(epochs, losses, label="loss")
    curve.semilogy(epochs, 1 - np.array(accuracies), label="errors on held-out images, share")
    curve.set(xlabel="epoch", title="learning")
    curve.legend(frameon=False)
    digit.imshow(image[0], cmap="gray")
    digit.set(title="an image it has not learnt from", xticks=[], yticks=[])
    top, bottom = right.subfigures(2, 1)
    top.suptitle("what the first layer's detectors became")
    bottom.suptitle("where they see it in the image")
    limit = np.abs(first.weight).max()
    for part, pictures, style in (
        (top, first.weight[:, 0], {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}),
        (bottom, maps, {"cmap": "magma", "vmin": 0, "vmax": maps.max()}),
    ):
        for axes, picture in zip(part.subplots(2, 8).flat, pictures, strict=True):
            axes.imshow(picture, **style)
            axes.set_axis_off()
    figure.savefig(path, dpi=100)
    console.print(f"saved {path}")


def main(
    epochs: Annotated[int, typer.Option(min=1, help="Times that every image is seen.")] = 30,
    seed: Annotated[int, typer.Option(help="Of weights, batches and held-out images.")] = 0,
    output: Annotated[Path, typer.Option(help="Where the picture goes.")] = Path("digits.png"),
) -> None:
    """Train a network on handwritten digits and show what it learnt."""
    start = time.perf_counter()
    rng = np.random.default_rng(seed)
    data = digits(rng)
    network = layers_for_digits(rng)
    losses, accuracies, seconds = train(
        # Shifted by a pixel it stays the same digit.
        network,
        data,
        epochs,
        0.05,
        lambda: shuffled(data[0], data[1], 1, rng),
        console,
    )
    console.print(
        f"{accuracies[-1]:.2%} of {len(data[2])} held-out images read correctly, "
        f"{time.perf_counter() - start:.1f} s with compilation"
    )
    compare(data[0], data[1], seconds)
    save_picture(network, losses, accuracies, data[2][0], output)


if __name__ == "__main__":
    typer.run(main)
