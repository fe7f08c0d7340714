"""
What lies beyond the edge
=========================

A kernel on the border looks at pixels that do not exist. A *padding mode* makes them up. Networks
and image filters use the same words for different things: ``reflect`` of the convolutions is
``mirror`` of the filters.
"""

import matplotlib.pyplot as plt
import numpy as np

import numbaconv as nc

signal = np.array([4.0, 1.0, 3.0, 6.0, 2.0, 5.0])
width = 4

# %%
# A kernel of a single one, moved to the side, reads one made-up element. All nine positions of it
# show what a mode puts around the signal.
one_at = np.eye(2 * width + 1)


def by_convolution(mode: str) -> np.ndarray:
    """The signal with `width` elements on both sides, as `conv1d` sees them."""
    detectors = one_at[:, None, :]
    moved = nc.conv1d(signal[None, None], detectors, padding=width, padding_mode=mode)[0]
    return np.r_[moved[:width, 0], moved[width], moved[-width:, -1]]


def by_filter(mode: str) -> np.ndarray:
    """The same, as the filters see them."""
    moved = [nc.ndimage.correlate1d(signal, one, mode=mode) for one in one_at]
    return np.r_[[m[0] for m in moved[:width]], moved[width], [m[-1] for m in moved[-width:]]]


# %%
# Modes in one row are one and the same.
rows = [
    ("zeros", "constant", "zeros"),
    ("replicate", "nearest", "the last element again"),
    ("reflect", "mirror", "mirrored at the last element"),
    ("symmetric", "reflect", "mirrored behind the last element"),
    ("circular", "wrap", "from the other end"),
]

figure, all_axes = plt.subplots(len(rows), 1, figsize=(8, 8), sharex=True, layout="constrained")
places = np.arange(-width, len(signal) + width)
inside = (places >= 0) & (places < len(signal))
for axes, (ours, scipys, words) in zip(all_axes, rows, strict=True):
    seen = by_convolution(ours)
    assert np.array_equal(seen, by_filter(scipys))
    axes.bar(places, seen, color=np.where(inside, "tab:blue", "tab:orange"))
    axes.set_title(f'"{ours}" of conv1d, "{scipys}" of ndimage: {words}', fontsize=10, loc="left")
    axes.set_yticks([])
plt.show()
