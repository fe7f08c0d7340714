"""
Activations
===========

A layer may end in an activation. It is applied where the sums are stored, while they are in
registers or in the cache, and takes no pass over the memory of its own.
"""

import matplotlib.pyplot as plt
import numpy as np

import numbaconv as nc

x = np.linspace(-4, 4, 801)
identity = np.ones((1, 1, 1))

# %%
# A kernel of a single one leaves the input as it is, so that the activation alone is seen.
names = ["relu", "relu6", "leaky_relu", "sigmoid", "tanh", "silu", "gelu", "mish", "softplus"]

figure, all_axes = plt.subplots(3, 3, figsize=(9, 7), sharex=True, layout="constrained")
for axes, name in zip(all_axes.flat, names, strict=True):
    axes.axhline(0, color="0.8", linewidth=1)
    axes.axvline(0, color="0.8", linewidth=1)
    axes.plot(x, nc.conv1d(x[None, None], identity, activation=name)[0, 0], linewidth=2)
    axes.set_title(name, fontsize=10)
plt.show()
