"""
A stream, block by block
========================

A recorder hands over a block at a time. ``lfilter`` takes the end of the last block along in
``zi``, so that the blocks together are filtered as if they were one.
"""

import matplotlib.pyplot as plt
import numpy as np

from numbaconv import signal

rng = np.random.default_rng(0)
time = np.arange(2000) / 1000
wave = np.sin(2 * np.pi * 5 * time) * np.exp(-time)
noisy = wave + 0.3 * rng.standard_normal(time.size)

# %%
# A low-pass filter of 65 taps: a sinc under Hamming's window.
n = np.arange(-32, 33)
taps = 0.04 * np.sinc(0.04 * n) * np.hamming(65)
taps /= taps.sum()

state = np.zeros(len(taps) - 1)
blocks = []
for block in np.array_split(noisy, 7):
    smooth, state = signal.lfilter(taps, 1.0, block, zi=state)
    blocks.append(smooth)
assert np.allclose(np.concatenate(blocks), signal.lfilter(taps, 1.0, noisy))

# %%
# What is filtered comes 32 samples late: half the filter.
figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
axes.plot(time, noisy, color="0.8", label="recorded")
start = 0
for block in blocks:
    axes.plot(time[start : start + len(block)] - 0.032, block, linewidth=2)
    start += len(block)
axes.legend(loc="upper right")
axes.set_xlabel("seconds; each colour is a block")
plt.show()
