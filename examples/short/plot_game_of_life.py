"""
The game of life, compiled
==========================

A cell lives on with two or three living neighbours, and is born with three. Counting neighbours is
a convolution. Here it runs inside a function that Numba compiles, on integers, on a world without
edges.
"""

import matplotlib.pyplot as plt
import numba
import numpy as np

import numbaconv as nc

neighbours = np.ones((1, 1, 3, 3), np.int64)
neighbours[0, 0, 1, 1] = 0


@numba.njit
def live(world: np.ndarray, generations: int) -> np.ndarray:
    """The world after so many generations."""
    for _ in range(generations):
        counts = nc.conv2d(world, neighbours, padding="same", padding_mode="circular")
        world = ((counts == 3) | ((counts == 2) & (world == 1))).astype(np.int64)
    return world


# %%
# A glider gun: it repeats itself every thirty generations, and each time a glider flies away.
gun = [
    "........................O...........",
    "......................O.O...........",
    "............OO......OO............OO",
    "...........O...O....OO............OO",
    "OO........O.....O...OO..............",
    "OO........O...O.OO....O.O...........",
    "..........O.....O.......O...........",
    "...........O...O....................",
    "............OO......................",
]
world = np.zeros((1, 1, 60, 80), np.int64)
world[0, 0, 4:13, 4:40] = [[cell == "O" for cell in row] for row in gun]

figure, all_axes = plt.subplots(1, 3, figsize=(11, 3), layout="constrained")
for axes, generations in zip(all_axes, [0, 60, 120], strict=True):
    axes.imshow(live(world, generations)[0, 0], cmap="binary")
    axes.set_title(f"generation {generations}", fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])
plt.show()
