"""
Edges of a photograph
=====================

Two detectors of three by three pixels look at each pixel and its surroundings. One finds edges
between left and right, the other between top and bottom. Together they know which way an edge
runs.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import hsv_to_rgb
from sklearn.datasets import load_sample_image

from numbaconv import ndimage

gray = load_sample_image("china.jpg").mean(2).astype(np.float32)

# %%
# The functions are named as in SciPy, and so are their arguments.
down = ndimage.sobel(gray, axis=0)
across = ndimage.sobel(gray, axis=1)

# %%
# The direction becomes the colour, the strength the brightness.
strength = np.hypot(down, across)
direction = np.arctan2(down, across) / (2 * np.pi) % 1
coloured = hsv_to_rgb(
    np.stack([direction, np.ones_like(direction), np.minimum(strength / 400, 1)], axis=-1)
)

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
left.imshow(gray, cmap="gray")
left.set_title("what the camera saw")
right.imshow(coloured)
right.set_title("edges, coloured by direction")
for axes in (left, right):
    axes.axis("off")
plt.show()
