"""
Checkerboards of transposed layers
==================================

A transposed convolution with a stride of two doubles an image. If the stride does not divide the
kernel, neighbours get different numbers of terms, and flat regions come out as checkerboards.
"""

import matplotlib.pyplot as plt
import numpy as np

import numbaconv as nc

y, x = np.mgrid[-1:1:16j, -1:1:16j]
disc = np.where(x**2 + y**2 < 0.6, 1.0, 0.2)[None, None]

# %%
# Three taps under a stride of two overlap here and there; four overlap everywhere alike.
by_three = nc.conv_transpose2d(disc, np.full((1, 1, 3, 3), 4 / 9), stride=2, padding=1)
by_four = nc.conv_transpose2d(disc, np.full((1, 1, 4, 4), 4 / 16), stride=2, padding=1)

figure, all_axes = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
titles = ["16 x 16 pixels", "doubled by 3 x 3 taps", "doubled by 4 x 4 taps"]
for axes, image, title in zip(all_axes, [disc, by_three, by_four], titles, strict=True):
    axes.imshow(image[0, 0], cmap="viridis")
    axes.set_title(title, fontsize=10)
    axes.axis("off")
plt.show()
