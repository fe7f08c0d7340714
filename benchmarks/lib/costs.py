"""Cycles of what lowerings count, fitted to times: the table `CYCLES` of `cpu/direct/cost.py`."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Beside what is counted: a call; vectors of inputs and outputs that no cache holds. They are the
# same for all lowerings, and no part of the table.
CALL, READ, WRITTEN = "a call", "vectors read", "vectors written"
LARGE = 1 << 21
"""Bytes of input and output from which these count."""
NEAR = 2.0
"""Lowerings that take so many times as long as the best count less."""


def counts_of(name: str, s: Any, lanes: int) -> dict[str, float]:
    """Return what a lowering counts for a whole problem."""
    from numbaconv.cpu.direct.cost import count

    rows = s.n * s.groups * s.output[0] * s.output[1]
    counts = {what: rows * many for what, many in count(name, s, lanes).items()}
    read, written = s.n * s.in_strides[0], s.n * s.out_strides[0]
    if 4 * (read + written) > LARGE:
        counts |= {READ: read / lanes, WRITTEN: written / lanes}
    return counts | {CALL: 1.0}


def fit(timed: Iterable[tuple[Any, dict[str, float]]], lanes: int) -> dict[str, float]:
    """Return the cycles of all that is counted, in units of a cycle of a register tile.

    Parameters
    ----------
    timed : iterable of (ConvShape, dict of str to float)
        Problems, and the seconds of each lowering with prepared weights.
    lanes : int
        Of a vector.
    """
    from scipy.optimize import least_squares, nnls

    from numbaconv.cpu.direct.cost import COUNTS, CYCLES

    rows, seconds, weights = [], [], []
    for s, times in timed:
        best = min(times.values())
        for name in COUNTS.keys() & times.keys():
            rows.append(counts_of(name, s, lanes))
            seconds.append(1e9 * times[name])
            weights.append(1.0 if times[name] <= NEAR * best else NEAR * best / times[name] / 2)
    names = sorted({what for row in rows for what in row})
    counted = np.array([[row.get(what, 0.0) for what in names] for row in rows])
    measured, weight = np.array(seconds), np.array(weights)
    first = nnls(counted / measured[:, None] * weight[:, None], weight)[0]

    def error(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = weight * np.log(counted @ np.exp(logs) / measured)
        return found

    def slope(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        each = counted * np.exp(logs)
        found: NDArray[np.float64] = weight[:, None] * each / each.sum(1)[:, None]
        return found

    logs = np.log(np.maximum(first, 1e-2))
    found = np.exp(least_squares(error, logs, slope, loss="soft_l1", f_scale=0.15).x)
    table = dict(zip(names, (found / found[names.index("step")]).tolist(), strict=True))
    return {what: table.get(what, CYCLES[what]) for what in CYCLES}
