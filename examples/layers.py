"""Layers, networks of them, and gradient descent: NumPy on top of numbaconv.

`train_digits.py` and `cats_and_dogs.py` build their networks from what is here. There is nothing
else in between: no graph, no tape, no framework. Each layer has forward(x), and backward(g), which
takes the gradient of the loss with respect to the layer's output, keeps the gradients of its own
parameters, and returns that of its input.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import numbaconv as nc

BATCH = 32

# Images and labels to learn from, then those held out.
Data = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


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

    def __init__(self, *layers: Any) -> None:
        self.layers = layers
        self.velocity = [np.zeros_like(p) for layer in layers for p in layer.parameters]

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


def shuffled(
    x: np.ndarray, labels: np.ndarray, shift: int, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All images in a random order, in batches, each shifted by up to `shift` pixels."""
    order = rng.permutation(len(x))
    height, width = x.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (shift, shift), (shift, shift)))
    for first in range(0, len(x), BATCH):
        chosen = order[first : first + BATCH]
        down, right = rng.integers(0, 2 * shift + 1, 2)
        yield padded[chosen, :, down : down + height, right : right + width], labels[chosen]


def train(
    network: Network,
    data: Data,
    epochs: int,
    rate: float,
    batches: Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]],
    console: Console,
) -> tuple[list[float], list[float], list[float]]:
    """Train, from `rate` downhill, and return loss, held-out accuracy and seconds of each epoch."""
    x, labels, held_x, held_labels = data
    losses, accuracies, seconds = [], [], []
    columns = (TextColumn("{task.description:44}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        bar = progress.add_task("compiling", total=epochs)
        network.step(x[:BATCH], labels[:BATCH], 0.0)  # the last batch of an epoch is smaller
        for epoch in range(epochs):
            slower = (1 + np.cos(np.pi * epoch / epochs)) / 2  # and slower, from one to zero
            start = time.perf_counter()
            found = [network.step(*batch, slower * rate) for batch in batches()]
            seconds.append(time.perf_counter() - start)
            losses.append(float(np.mean(found)))
            accuracies.append(network.accuracy(held_x, held_labels))
            text = f"loss {losses[-1]:.4f}, held-out images {accuracies[-1]:.2%}"
            progress.update(bar, description=text, advance=1)
    return losses, accuracies, seconds
