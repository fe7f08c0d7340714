"""Time of a training step of a depthwise network: `numbaconv.torch` beside PyTorch's own layers.

``.venv/bin/python benchmarks/train_depthwise.py``, with PyTorch installed. Both networks begin with
the same weights and see the same pictures; their losses are compared before anything is timed.
"""

from __future__ import annotations

import contextlib
import copy
import statistics
import time
from typing import Any

with contextlib.suppress(ImportError):  # asv imports all modules here, in environments without it
    import torch

    import numbaconv.torch as ours


def network(layers: Any, channels: int = 48, blocks: int = 3) -> torch.nn.Module:
    """ConvNeXt's kind of block: 7 x 7 on each channel, then two pointwise products."""
    parts: list[torch.nn.Module] = [layers.Conv2d(3, channels, 4, stride=4)]
    for _ in range(blocks):
        parts += [
            layers.Conv2d(channels, channels, 7, padding=3, groups=channels),
            layers.Conv2d(channels, 2 * channels, 1),
            torch.nn.GELU(),
            layers.Conv2d(2 * channels, channels, 1),
        ]
    return torch.nn.Sequential(
        *parts, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(channels, 10)
    )


def step(model: torch.nn.Module, optimizer: Any, x: torch.Tensor, target: torch.Tensor) -> float:
    """One step of training; its loss."""
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(x), target)
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def main(steps: int = 9) -> None:
    """Print the times of a step, and their ratio."""
    torch.manual_seed(0)
    theirs = network(torch.nn)
    mine = network(ours)
    mine.load_state_dict(theirs.state_dict())
    x, target = torch.randn(8, 3, 128, 128), torch.randint(0, 10, (8,))
    runs = {"PyTorch": theirs, "numbaconv": mine}
    # A third way: only the depthwise layers are exchanged.
    both = copy.deepcopy(theirs)
    for i, layer in enumerate(both):
        if getattr(layer, "groups", 1) > 1:
            both[i] = mine[i]
    runs["numbaconv, depthwise layers only"] = copy.deepcopy(both)
    models = {name: (m, torch.optim.SGD(m.parameters(), 0.05)) for name, m in runs.items()}
    losses = {name: [step(*model, x, target) for _ in range(3)] for name, model in models.items()}
    for name, values in losses.items():
        torch.testing.assert_close(values, losses["PyTorch"], rtol=1e-3, atol=1e-4, msg=name)
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(steps):
        for name, model in models.items():  # in turn: all have the same neighbours
            begin = time.perf_counter()
            step(*model, x, target)
            times[name].append(time.perf_counter() - begin)
    base = statistics.median(times["PyTorch"])
    for name, values in times.items():
        middle = statistics.median(values)
        print(
            f"{name:34} {1e3 * middle:8.1f} ms a step   {base / middle:5.2f} times PyTorch's speed"
        )


if __name__ == "__main__":
    main()
