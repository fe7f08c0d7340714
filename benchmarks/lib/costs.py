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
SHARPNESS, HELD, MOST_LOST = 0.06, 0.05, 4.0
"""Of `rank`: by what ratio of costs, about, a choice is sure; how much cycles are held where they
were; and beyond what loss a lowering is no worse."""


def counts_of(name: str, s: Any, lanes: int) -> dict[str, float]:
    """Return what a lowering counts for a whole problem."""
    from numbaconv.cpu.direct.cost import count

    rows = s.n * s.groups * s.output[0] * s.output[1]
    counts = {what: rows * many for what, many in count(name, s, lanes).items()}
    read, written = s.n * s.in_strides[0], s.n * s.out_strides[0]
    for kernel, stride in zip(s.kernel[:2], s.stride[:2], strict=True):
        read *= min(1, kernel / stride)  # rows and planes that no tap reads
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

    rows, seconds, weights, problem = [], [], [], []
    for number, (s, times) in enumerate(timed):
        best = min(times.values())
        for name in COUNTS.keys() & times.keys():
            rows.append(counts_of(name, s, lanes))
            seconds.append(1e9 * times[name])
            problem.append(number)
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
    logs = least_squares(error, logs, slope, loss="soft_l1", f_scale=0.15).x
    found = np.exp(rank(logs, counted, measured, np.array(problem)))
    table = dict(zip(names, (found / found[names.index("step")]).tolist(), strict=True))
    return {what: table.get(what, CYCLES[what]) for what in CYCLES}


def rank(
    logs: NDArray[np.float64],
    counted: NDArray[np.float64],
    measured: NDArray[np.float64],
    problem: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Move the logarithms of fitted cycles a little, so that the choice loses less.

    What a problem loses is smooth if the cheapest lowering is taken not always, but the more often
    the cheaper it is beside the others.

    Parameters
    ----------
    logs : ndarray
        Of the cycles of all that is counted.
    counted, measured : ndarray
        What each lowering of each problem counts, and its time.
    problem : ndarray
        The number of its problem.
    """
    from scipy.optimize import minimize

    many = int(problem.max()) + 1
    best = np.full(many, np.inf)
    np.minimum.at(best, problem, measured)
    lost = np.minimum(np.log(measured / best[problem]), np.log(MOST_LOST))

    def loss(moved: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        cycles = np.exp(moved)
        costs = counted @ cycles
        chances = -np.log(costs) / SHARPNESS
        most = np.full(many, -np.inf)
        np.maximum.at(most, problem, chances)
        taken = np.exp(chances - most[problem])
        taken /= np.bincount(problem, taken, many)[problem]
        expected = np.bincount(problem, taken * lost, many)
        slope = -taken * (lost - expected[problem]) / (SHARPNESS * costs)
        away = moved - logs
        total = expected.mean() + HELD * (away**2).mean()
        return float(total), (slope @ counted) * cycles / many + 2 * HELD * away / len(away)

    found: NDArray[np.float64] = minimize(loss, logs, jac=True, method="L-BFGS-B").x
    return found
