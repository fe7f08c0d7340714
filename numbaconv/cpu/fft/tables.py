"""The passes of transforms, and their factors: computed in float64, kept by size and dtype."""

import functools

import numpy as np

from numbaconv.cpu.microkernels.transform import Pass


@functools.cache
def radices(n: int) -> tuple[int, ...]:
    """Return the radices of the passes of a transform of n = 2^i or 3 * 2^i values."""
    found: list[int] = []
    last = []
    if n % 3 == 0:
        n, last = n // 3, [3]
    while n > 1:
        found.append(4 if n % 4 == 0 else 2)
        n //= found[-1]
    return (*found, *last)


@functools.cache
def passes_of(n: int) -> tuple[Pass, ...]:
    """Return the passes of a transform of n values."""
    found, blocks, left, twiddles = [], 1, n, 0
    for radix in radices(n):
        left //= radix
        found.append(Pass(radix, blocks, left, twiddles))
        blocks *= radix
        twiddles += 2 * left * (radix - 1) if left > 1 else 0
    return tuple(found)


def listed_passes(n: int) -> list[int]:
    """Return the passes as transforms read them; none for a single value."""
    passes = passes_of(n)
    return [len(passes), *(value for each in passes for value in each)]


def roots(exponents: np.ndarray, n: int) -> np.ndarray:
    """Return exp(-2 pi i e / n) of some exponents e, each to the last bit of float64 or the next.

    The exponents are reduced in integers first: an angle of many turns has few exact digits.
    """
    return np.exp(-2j * np.pi / n * (exponents % n))


@functools.cache
def twiddles(n: int) -> np.ndarray:
    """Return the factors of all passes of a transform of n values, real and imaginary by turns."""
    parts = []
    for radix, _, apart, _ in passes_of(n):
        if apart > 1:
            parts.append(roots(np.outer(range(apart), range(1, radix)), apart * radix).ravel())
    return np.concatenate(parts or [np.empty(0, complex)]).view(float)


@functools.cache
def order(n: int) -> np.ndarray:
    """Return which frequency a transform of n values leaves at each place."""
    found = np.zeros(1, np.int64)
    step = 1
    for radix in radices(n):
        found = (found[:, None] + step * np.arange(radix)).ravel()
        step *= radix
    return found


def signal_twiddles(rows: int, columns: int, lanes: int) -> np.ndarray:
    """Return the factors between the two transforms that make one of rows * columns values.

    A signal is written row by row into a matrix, whose columns are transformed, then its rows:
    Bailey, "FFTs in external or hierarchical memory" (1990). In between, the value of frequency k
    of column j gets the factor exp(-2 pi i k j / n).

    Returns
    -------
    ndarray
        [block of rows][column][real, imaginary][row of the block].
    """
    n = rows * columns
    frequencies = order(rows).reshape(-1, 1, lanes)
    factors = roots(frequencies * np.arange(columns)[:, None], n)
    return np.stack((factors.real, factors.imag), axis=2).ravel()
