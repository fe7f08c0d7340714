"""
Spots and stripes
=================

Two substances spread and react: one feeds on the other. Gray and Scott's equations need nothing
but the Laplacian of each, which is a small filter, some thousand times.
"""

import matplotlib.pyplot as plt
import numpy as np

from numbaconv import ndimage


def grow(feed: float, kill: float, steps: int = 5000, size: int = 128) -> np.ndarray:
    """The second substance after so many steps, from a few drops."""
    rng = np.random.default_rng(0)
    u = np.ones((size, size), np.float32)
    v = np.zeros_like(u)
    for y, x in rng.integers(10, size - 10, (12, 2)):
        u[y - 8 : y + 8, x - 8 : x + 8] = 0.5
        v[y - 8 : y + 8, x - 8 : x + 8] = 0.25
    for _ in range(steps):
        reaction = u * v * v
        u += 0.16 * ndimage.laplace(u, mode="wrap") - reaction + feed * (1 - u)
        v += 0.08 * ndimage.laplace(v, mode="wrap") + reaction - (feed + kill) * v
    return v


# %%
# How fast it is fed and how fast it dies decides what grows.
rates = {"spots": (0.0367, 0.0649), "stripes": (0.046, 0.063), "holes": (0.039, 0.058)}

figure, all_axes = plt.subplots(1, 3, figsize=(10, 3.5), layout="constrained")
for axes, (name, (feed, kill)) in zip(all_axes, rates.items(), strict=True):
    axes.imshow(grow(feed, kill), cmap="magma")
    axes.set_title(f"{name}: feed {feed}, kill {kill}", fontsize=10)
    axes.axis("off")
plt.show()
