"""
A large filter by products of spectra
=====================================

The camera moved while the shutter was open: a filter of 61 by 61 taps, most of them zero. Sums
take 3721 products a pixel. ``auto`` takes ``fft`` here, and ``explain`` says so.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_image

import numbaconv as nc

photo = load_sample_image("flower.jpg").transpose(2, 0, 1).astype(np.float32) / 255

t = np.linspace(0, 1, 2000)
path = np.round(30 + np.stack([24 * np.sin(2.2 * t), 28 * t - 14 + 9 * np.cos(7 * t)])).astype(int)
shake = np.zeros((61, 61), np.float32)
np.add.at(shake, tuple(path), 1 / t.size)

# %%
# Three channels, one filter each.
weight = np.broadcast_to(shake, (3, 1, 61, 61))
options = {"padding": "same", "padding_mode": "reflect", "groups": 3}
print(nc.explain(photo, weight, **options))
blurred = nc.conv2d(photo, weight, **options)

figure, (left, middle, right) = plt.subplots(
    1, 3, figsize=(11, 3), width_ratios=[3, 1.2, 3], layout="constrained"
)
left.imshow(photo.transpose(1, 2, 0))
middle.imshow(shake, cmap="gray_r")
right.imshow(blurred.transpose(1, 2, 0).clip(0, 1))
for axes, title in zip((left, middle, right), ("scene", "shake", "photograph"), strict=True):
    axes.set_title(title, fontsize=10)
    axes.axis("off")
plt.show()
