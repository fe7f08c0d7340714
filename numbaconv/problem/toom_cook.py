"""Matrices of Winograd's minimal filtering: m outputs of a filter of 3 taps by m + 2 products.

The input and the taps are the coefficients of polynomials. Their values at m + 1 points, and their
leading coefficients (the value "at infinity"), are multiplied, and from the products the outputs
are interpolated (Toom-Cook; for filters S. Winograd, "Arithmetic complexity of computations", 1980,
for layers A. Lavin and S. Gray, "Fast algorithms for convolutional neural networks", 2016, section
4):

    outputs = A^T ((G taps) * (B^T inputs))

All entries are exact rationals. The rounding errors depend on the points (B. Barabasz et al.,
"Error analysis and improving the accuracy of Winograd convolution for deep neural networks", 2020):
`points.POINTS` are those with the least error among symmetric ones of small numerators and
denominators, see docs/decisions.md. Symmetric points p and -p share their sums over even and over
odd powers.
"""

import functools
from fractions import Fraction
from typing import NamedTuple

from numbaconv.problem.points import POINTS, TAPS

Matrix = tuple[tuple[Fraction, ...], ...]


class Matrices(NamedTuple):
    """The three matrices, of exact rationals; rows of B^T and G, columns of A^T are points.

    Attributes
    ----------
    inputs : tuple of tuple
        B^T, shape (m + 2, m + 2).
    taps : tuple of tuple
        G, shape (m + 2, 3).
    outputs : tuple of tuple
        A^T, shape (m, m + 2).
    """

    inputs: Matrix
    taps: Matrix
    outputs: Matrix


def points_of(m: int) -> tuple[Fraction, ...]:
    """Return the finite points of so many outputs: 0, then each with its negative behind it."""
    signed = (sign * Fraction(*point) for point in POINTS[m] for sign in (1, -1))
    return (Fraction(0), *signed)


def _with_roots(roots: list[Fraction]) -> list[Fraction]:
    """Return the coefficients of the monic polynomial with these roots, the constant one first."""
    found = [Fraction(1)]
    for root in roots:
        found = [
            low - root * high
            for low, high in zip([Fraction(0), *found], [*found, Fraction(0)], strict=True)
        ]
    return found


def _value(coefficients: list[Fraction], point: Fraction) -> Fraction:
    """Return a polynomial's value."""
    return sum((c * point**i for i, c in enumerate(coefficients)), Fraction(0))


@functools.cache
def matrices(m: int) -> Matrices:
    """Return the matrices for m outputs."""
    points = points_of(m)
    inputs, taps, columns = [], [], []
    for point in points:
        others = _with_roots([other for other in points if other != point])
        inputs.append((*others, Fraction(0)))
        taps.append(tuple(point**i / _value(others, point) for i in range(TAPS)))
        columns.append([point**i for i in range(m)])
    inputs.append(tuple(_with_roots(list(points))))
    taps.append(tuple(Fraction(int(i == TAPS - 1)) for i in range(TAPS)))
    columns.append([Fraction(int(i == m - 1)) for i in range(m)])
    return Matrices(tuple(inputs), tuple(taps), tuple(zip(*columns, strict=True)))
