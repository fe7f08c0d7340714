"""
A detector learns to find edges
===============================

Nobody has to write a detector down. Gradient descent starts with noise, compares what the detector
answers with what it should answer, and takes a small step downhill, many times.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_image

import numbaconv as nc

gray = load_sample_image("china.jpg").mean(2)[None, None, ::3, ::3]
gray = (gray - gray.mean()) / gray.std()
wanted = nc.conv2d(gray, np.array([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])[None, None])

# %%
# The teacher is Sobel's detector. Its answers are shown, its weights are not.
rng = np.random.default_rng(0)
detector = 0.5 * rng.standard_normal((1, 1, 3, 3))
seen, losses = [], []
for _ in range(1000):
    seen.append(detector[0, 0].copy())
    error = nc.conv2d(gray, detector) - wanted
    losses.append((error**2).mean())
    by_weight = nc.grad.conv2d_weight(gray, detector.shape, 2 * error / error.size)
    detector -= 0.1 * by_weight

figure = plt.figure(figsize=(10, 4.5), layout="constrained")
grid = figure.add_gridspec(2, 5)
for column, step in enumerate([0, 10, 50, 200, 999]):
    axes = figure.add_subplot(grid[0, column])
    axes.imshow(seen[step], cmap="RdBu", vmin=-2, vmax=2)
    axes.set_title(f"step {step}", fontsize=10)
    axes.axis("off")
axes = figure.add_subplot(grid[1, :])
axes.semilogy(losses)
axes.set_xlabel("step")
axes.set_ylabel("mean squared error")
plt.show()
