"""
How far a stack of layers sees
==============================

A detector of the first layer sees three by three pixels. One of the fifth sees eleven by eleven,
for it looks at those who look. The gradient of one output with respect to the input shows how much
each pixel counts.
"""

import matplotlib.pyplot as plt
import numpy as np

import numbaconv as nc

rng = np.random.default_rng(1)
channels, size = 16, 15
shape = (1, channels, size, size)
layers = [np.abs(rng.standard_normal((channels, channels, 3, 3))) for _ in range(5)]

# %%
# One output in the middle gets a gradient of one, and each layer hands it on to its input.
gradient = np.zeros(shape)
gradient[0, 0, size // 2, size // 2] = 1
fields = []
for weight in reversed(layers):
    gradient = nc.grad.conv2d_input(shape, weight, gradient, padding=1)
    fields.append(gradient[0].sum(0))

figure, all_axes = plt.subplots(1, 5, figsize=(11, 2.7), layout="constrained")
for depth, (axes, field) in enumerate(zip(all_axes, fields, strict=True), 1):
    axes.imshow(field, cmap="magma")
    width = int((field.sum(0) > 0).sum())
    axes.set_title(f"{depth} layer{'s' * (depth > 1)}: {width} x {width}", fontsize=10)
    axes.axis("off")
plt.show()
