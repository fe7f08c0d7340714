"""Coefficients of the functions that activations are made of, computed when one is compiled.

Polynomials and quotients that agree with a function at Chebyshev's nodes: their largest error is
within a small factor of that of the best ones (Trefethen, Approximation Theory and Approximation
Practice, chapters 4 and 16). All is computed in decimal arithmetic, and rounded at the end by
whoever uses it.
"""

import functools
import math
from decimal import Decimal, localcontext

_DIGITS = 80
_PI = Decimal(
    "3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534"
)
_LN2 = Decimal(
    "0.69314718055994530941723212145817656807550013436025525412068000949339362196969471560586332699"
)


def _in_digits(function):
    """Decorate what computes with so many digits, and is asked for the same again."""

    @functools.cache
    @functools.wraps(function)
    def computed(*arguments):
        with localcontext() as context:
            context.prec = _DIGITS
            return function(*arguments)

    return computed


def _nodes(low, high, count):
    """Chebyshev's nodes: where an approximation agrees with its function."""
    middle, half = (low + high) / 2, (high - low) / 2
    angles = (math.pi * (2 * i + 1) / (2 * count) for i in range(count))
    return [Decimal(middle + half * math.cos(angle)) for angle in angles]


def _powers(x, count):
    powers = [Decimal(1)]
    while len(powers) < count:
        powers.append(powers[-1] * x)
    return powers


def _solve(rows, right):
    """Solve linear equations: elimination with the largest pivot."""
    rows = [[*row, value] for row, value in zip(rows, right, strict=True)]
    size = len(rows)
    for i in range(size):
        pivot = max(range(i, size), key=lambda r: abs(rows[r][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for r in range(size):
            if r != i:
                factor = rows[r][i] / rows[i][i]
                rows[r] = [a - factor * b for a, b in zip(rows[r], rows[i], strict=True)]
    return [rows[i][size] / rows[i][i] for i in range(size)]


def _interpolate(function, low, high, count):
    nodes = _nodes(low, high, count)
    return _solve([_powers(x, count) for x in nodes], [function(x) for x in nodes])


def _series(x, terms):
    return sum(term * power for term, power in zip(terms, _powers(x, len(terms)), strict=True))


@_in_digits
def logarithm_of_2(bits):
    """ln(2) in two parts, of which the first has so many bits."""
    high = int(_LN2 * 2**bits) / 2**bits
    return high, float(_LN2 - Decimal(high))


@_in_digits
def exponential(count):
    """Coefficients of (e^r - 1 - r) / r^2 for abs(r) <= ln(2) / 2."""
    half = math.log(2) / 2 * 1.001  # r is rounded, and may be a little beyond
    terms = [1 / Decimal(math.factorial(k + 2)) for k in range(40)]
    return _interpolate(lambda r: _series(r, terms), -half, half, count)


@_in_digits
def logarithm(count):
    """Coefficients of (atanh(s) / s - 1) / s^2 by powers of s^2, for abs(s) <= 1/3."""
    terms = [1 / Decimal(2 * k + 3) for k in range(80)]
    return _interpolate(lambda square: _series(square, terms), 0, 1 / 9, count)


def hyperbolic_tangent(depth):
    """The quotient (tanh(x) / x - 1) / x^2 as two lists of coefficients, by powers of x^2.

    It is Lambert's continued fraction x / (1 + x^2 / (3 + x^2 / (5 + ...))), cut off after so many
    denominators: numbers are exact.
    """
    above, below = [[0], [1]], [[1], [1]]
    for k in range(1, depth):
        for parts in (above, below):
            shifted = [0, *parts[-2]]
            longest = max(len(parts[-1]), len(shifted))
            last, before = ([*p, *[0] * (longest - len(p))] for p in (parts[-1], shifted))
            parts.append([(2 * k + 1) * a + b for a, b in zip(last, before, strict=True)])
    p, q = above[-1], below[-1]
    size = max(len(p), len(q))
    difference = [a - b for a, b in zip(_padded(p, size), _padded(q, size), strict=True)]
    return _trimmed(difference[1:]), _trimmed(q)


def _padded(coefficients, size):
    return [*coefficients, *[0] * (size - len(coefficients))]


def _trimmed(coefficients):
    while coefficients[-1] == 0:
        coefficients = coefficients[:-1]
    return coefficients


def _tail(t):
    """e^(t^2/2) times the probability that a normal variable is above t >= 0 (Mills' ratio)."""
    root = (2 * _PI).sqrt()
    if t > 4:  # Laplace's continued fraction
        denominator = t
        for k in range(400, 0, -1):
            denominator = t + k / denominator
        return 1 / denominator / root
    term, total, odd = t, t, 1
    while term > Decimal(10) ** -_DIGITS:
        odd += 2
        term *= t * t / odd
        total += term
    return (t * t / 2).exp() / 2 - total / root


@_in_digits
def normal_tail(degree, longest, middle):
    """A quotient for e^(t^2/2) P(normal variable > t), 0 <= t <= longest: two lists.

    The denominator is one degree higher. Half of the nodes are below `middle`. All coefficients are
    positive, so nothing cancels.
    """
    count = 2 * degree + 2
    end = (longest - middle) / (longest + middle)
    nodes = [Decimal(middle) * (1 + y) / (1 - y) for y in _nodes(-1.0, end, count)]
    values = [_tail(t) for t in nodes]
    rows = []
    for t, value in zip(nodes, values, strict=True):
        powers = _powers(t, degree + 2)
        rows.append([*powers[:-1], *(-value * power for power in powers[1:])])
    solution = _solve(rows, values)
    return solution[: degree + 1], [Decimal(1), *solution[degree + 1 :]]


@_in_digits
def gelu_tanh_factors():
    """The two factors of 2 sqrt(2 / pi) (x + 0.044715 x^3)."""
    first = 2 * (2 / _PI).sqrt()
    return first, first * Decimal("0.044715")
