"""
Sharpen a photograph: bytes in, bytes out
=========================================

A sum of bytes need not fit a byte. SciPy cuts off its fraction and lets it wrap around: white
turns black. ``rounding="saturate"`` rounds, and stops at black and white.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_image

from numbaconv import ndimage

photo = load_sample_image("flower.jpg")[100:360, 160:480]

# %%
# The photograph, plus twice what its blur takes away: what is sharp counts three times.
y, x = np.mgrid[-4:5, -4:5]
gaussian = np.exp(-(x**2 + y**2) / (2 * 1.5**2))
unsharp = 3.0 * ((x == 0) & (y == 0)) - 2.0 * gaussian / gaussian.sum()

wrapped = ndimage.correlate(photo, unsharp, axes=(0, 1))
saturated = ndimage.correlate(photo, unsharp, axes=(0, 1), rounding="saturate")

figure, all_axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
titles = ["photograph", "sharpened, as SciPy casts", 'sharpened, rounding="saturate"']
for axes, image, title in zip(all_axes, [photo, wrapped, saturated], titles, strict=True):
    axes.imshow(image)
    axes.set_title(title, fontsize=10)
    axes.axis("off")
plt.show()
