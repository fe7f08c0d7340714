"""
A signal with gaps
==================

NaN marks what is missing. A plain filter spreads each over its whole window, and zeros in their
place pull the result down. ``nan="omit"`` leaves them out and lets the other weights count for
more.
"""

import matplotlib.pyplot as plt
import numpy as np

from numbaconv import ndimage

rng = np.random.default_rng(3)
time = np.linspace(0, 6, 400)
truth = 2 + np.sin(time) + 0.3 * np.sin(4 * time)
measured = truth + 0.25 * rng.standard_normal(time.size)
measured[[60, 68, 250, 330]] = np.nan
measured[150:185] = np.nan

# %%
# The gap is wider than the kernel reaches. ``min_weight`` says how much of the kernel has to lie on
# values: where less does, the result is missing as well.
sigma = 5
omitted = ndimage.gaussian_filter(measured, sigma, nan="omit", min_weight=0.2)
zeroed = ndimage.gaussian_filter(np.nan_to_num(measured), sigma)
plain = ndimage.gaussian_filter(measured, sigma)

figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
axes.plot(time, measured, ".", color="0.7", label="measured")
axes.plot(time, zeroed, color="tab:red", label="missing values as zeros")
axes.plot(time, omitted, color="tab:blue", label='nan="omit"')
axes.plot(time, plain, color="black", linewidth=3, label="plain")
axes.legend(loc="lower left")
plt.show()
