"""A convolutional network that learns to read digits.

Five layers in plain NumPy on top of numbaconv's convolutions and their gradients, trained by
gradient descent on scikit-learn's 1797 images of handwritten digits, 8 x 8 pixels each. Nobody
tells the first layer what to look for: its 5 x 5 detectors begin as noise and end as edges and
strokes, as the picture that this saves shows.

    python examples/train_digits.py                # about ten seconds on two cores
    python examples/train_digits.py --epochs 60
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import matplotlib.pyplot as plt
import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sklearn.datasets import load_digits

import numbaconv as nc

console = Console()

# --- Layers -----------------------------------------------------------------------------------
# Each has forward(x), and backward(g), which takes the gradient of the loss with respect to the
# layer's output, keeps the gradients of its own parameters, and returns that of its input.


class Convolution:
    """Detectors at every position: (N, C_in, H, W) to (N, C_out, H, W)."""

    def __init__(
        self, c_in: int, c_out: int, size: int, rng: np.random.Generator, first: bool = False
    ) -> None:
        self.padding, self.first = size // 2, first
        # He's initialisation keeps the variance of the maps from layer to layer.
        noise = rng.standard_normal((c_out, c_in, size, size), np.float32)
        self.weight = noise * np.float32(np.sqrt(2 / (c_in * size**2)))
        self.bias = np.zeros(c_out, np.float32)

    def forward(self, x: np.ndarray) -> np.ndarray:
        # A plain call: it packs the weights as they are now, and they change at every step.
        self.x = x
        return nc.conv2d(x, self.weight, self.bias, padding=self.padding)

    def backward(self, g: np.ndarray) -> np.ndarray | None:
        self.gradients = (
            nc.grad.conv2d_weight(self.x, self.weight.shape, g, padding=self.padding),
            g.sum((0, 2, 3)),
        )
        if self.first:  # nothing before it learns: the images stay as they are
            return None
        return nc.grad.conv2d_input(self.x.shape, self.weight, g, padding=self.padding)

    @property
    def parameters(self) -> tuple[np.ndarray, ...]:
        return self.weight, self.bias


class Relu:
    """What is negative becomes zero."""

    parameters = gradients = ()

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.active = x > 0
        return x * self.active

    def backward(self, g: np.ndarray) -> np.ndarray:
        return g * self.active


class MaxPool:
    """The largest of each 2 x 2 pixels: (N, C, H, W) to (N, C, H/2, W/2)."""

    parameters = gradients = ()
    places = ((0, 0), (0, 1), (1, 0), (1, 1))

    def forward(self, x: np.ndarray) -> np.ndarray:
        a, b, c, d = corners = [x[:, :, i::2, j::2] for i, j in self.places]
        largest = np.maximum(np.maximum(a, b), np.maximum(c, d))
        self.chosen = [corner == largest for corner in corners]
        return largest

    def backward(self, g: np.ndarray) -> np.ndarray:
        n, c, h, w = g.shape
        spread = np.empty((n, c, 2 * h, 2 * w), g.dtype)
        for (i, j), chosen in zip(self.places, self.chosen, strict=True):
            spread[:, :, i::2, j::2] = g * chosen
        return spread


class Linear:
    """A score for each class, from all values at once: (N, C, H, W) to (N, classes)."""

    def __init__(self, inputs: int, classes: int, rng: np.random.Generator) -> None:
        noise = rng.standard_normal((inputs, classes), np.float32)
        self.weight, self.bias = noise / np.float32(np.sqrt(inputs)), np.zeros(classes, np.float32)

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.shape, self.x = x.shape, x.reshape(len(x), -1)
        return self.x @ self.weight + self.bias

    def backward(self, g: np.ndarray) -> np.ndarray:
        self.gradients = self.x.T @ g, g.sum(0)
        return (g @ self.weight.T).reshape(self.shape)

    @property
    def parameters(self) -> tuple[np.ndarray, ...]:
        return self.weight, self.bias


class Network:
    """Layers one after the other, trained by gradient descent with momentum."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.layers: list[Any] = [
            *(Convolution(1, 16, 5, rng, first=True), Relu()),
            *(Convolution(16, 32, 3, rng), Relu(), MaxPool()),
            *(Convolution(32, 64, 3, rng), Relu(), MaxPool()),
            Linear(64 * 2 * 2, 10, rng),
        ]
        self.velocity = [np.zeros_like(p) for layer in self.layers for p in layer.parameters]

    def forward(self, x: np.ndarray) -> np.ndarray:
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def step(self, x: np.ndarray, labels: np.ndarray, rate: float) -> float:
        """One step downhill; returns the loss, the mean of -log(probability of the label)."""
        scores = self.forward(x)
        odds = np.exp(scores - scores.max(1, keepdims=True))
        probability = odds / odds.sum(1, keepdims=True)
        rows = np.arange(len(x))
        g = probability.copy()
        g[rows, labels] -= 1
        g /= len(x)
        for layer in reversed(self.layers):
            g = layer.backward(g)
        parameters = [p for layer in self.layers for p in layer.parameters]
        gradients = [d for layer in self.layers for d in layer.gradients]
        for p, d, v in zip(parameters, gradients, self.velocity, strict=True):
            v *= 0.9
            v -= np.float32(rate) * d
            p += v  # in place
        return float(-np.log(probability[rows, labels].clip(1e-12)).mean())

    def accuracy(self, x: np.ndarray, labels: np.ndarray) -> float:
        return float((self.forward(x).argmax(1) == labels).mean())


# --- Training ---------------------------------------------------------------------------------

BATCH = 32


def digits(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images and labels to learn from, and those held out: a fifth, drawn at random."""
    data = load_digits()
    images = (data.images / 16).astype(np.float32)[:, None]  # (N, 1, 8, 8), from 0 to 1
    order = rng.permutation(len(images))
    held, learnt = np.split(order, [len(order) // 5])
    return images[learnt], data.target[learnt], images[held], data.target[held]


def batches(
    x: np.ndarray, labels: np.ndarray, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All images in a random order, each shifted by up to a pixel: it stays the same digit."""
    order = rng.permutation(len(x))
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    for first in range(0, len(x), BATCH):
        chosen = order[first : first + BATCH]
        down, right = rng.integers(0, 3, 2)
        yield padded[chosen, :, down : down + 8, right : right + 8], labels[chosen]


def train(
    network: Network,
    data: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    epochs: int,
    rng: np.random.Generator,
) -> tuple[list[float], list[float], list[float]]:
    """Train, and return loss, held-out accuracy and seconds of each epoch."""
    x, labels, held_x, held_labels = data
    losses, accuracies, seconds = [], [], []
    columns = (TextColumn("{task.description:44}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        bar = progress.add_task("compiling", total=epochs)
        network.step(x[:BATCH], labels[:BATCH], 0.0)  # the last batch of an epoch is smaller
        for epoch in range(epochs):
            rate = 0.025 * (1 + np.cos(np.pi * epoch / epochs))  # slower and slower, to zero
            start = time.perf_counter()
            found = [network.step(*batch, rate) for batch in batches(x, labels, rng)]
            seconds.append(time.perf_counter() - start)
            losses.append(float(np.mean(found)))
            accuracies.append(network.accuracy(held_x, held_labels))
            text = f"loss {losses[-1]:.4f}, held-out images {accuracies[-1]:.2%}"
            progress.update(bar, description=text, advance=1)
    return losses, accuracies, seconds


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
        for images, targets in batches(x, labels, rng):
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
    network = Network(rng)
    losses, accuracies, seconds = train(network, data, epochs, rng)
    console.print(
        f"{accuracies[-1]:.2%} of {len(data[2])} held-out images read correctly, "
        f"{time.perf_counter() - start:.1f} s with compilation"
    )
    compare(data[0], data[1], seconds)
    save_picture(network, losses, accuracies, data[2][0], output)


if __name__ == "__main__":
    typer.run(main)
