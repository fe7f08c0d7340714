"""The activations as formulas over vectors.

Those of e^x share one method: x = n ln(2) + r with abs(r) <= ln(2) / 2, ln(2) in two parts of which
the first times n is exact (Cody and Waite, Software Manual for the Elementary Functions, chapter
6), and e^x = 2^n (1 + u), u by a polynomial in r. 1 + u is never rounded: sums with e^x take 2^n
and 2^n u one by one, so that each activation rounds as seldom as it can. Where 2^n leaves the
range, it is 2^-scale of that, and the result is scaled back at the end: what is denormal is rounded
once more and no further off.

Limits are those of the functions: of -inf silu, gelu and mish are zero. NaN stays NaN.
"""

from typing import NamedTuple

from numbaconv.cpu.microkernels import approximations


class _Format(NamedTuple):
    """What depends on the type of the elements.

    Attributes
    ----------
    digits : int
        Bits of a number, with the first.
    split : int
        Low bits of ln(2) that its first part leaves to the second: as many as n has.
    scale : int
        Powers are scaled by 2^-scale where they are large, or small.
    most, least : float
        Beyond `most` e^-x, times x or not, is zero; before `least` 1 + e^x is 1.
    exponential, tangent, logarithm : int
        Length of the approximations.
    tail : tuple
        What `approximations.normal_tail` takes.
    """

    digits: int
    split: int
    scale: int
    most: float
    least: float
    exponential: int
    tangent: int
    logarithm: int
    tail: tuple[int, float, float]


_FORMATS = {
    32: _Format(24, 9, 64, 110.0, -80.0, 5, 5, 6, (5, 15.0, 3.5)),
    64: _Format(53, 12, 512, 760.0, -700.0, 11, 8, 11, (10, 39.5, 4.5)),
}


def _format(x):
    return _FORMATS[8 * x.v.align]


class _Power:
    """e^x = 2^n (1 + u); with a rest, e^(x + rest).

    Attributes
    ----------
    n_bits : Formula
        A number whose low bits are n.
    u : Formula
        See the head of this file.
    """

    def __init__(self, x, rest=None):
        how = _format(x)
        self.digits = how.digits
        high, low = approximations.logarithm_of_2(how.digits - how.split)
        magic = 1.5 * 2.0 ** (how.digits - 1)  # the sum has no bits behind the point
        about = x if rest is None else x + rest
        self.n_bits = about.multiply_add(1 / (high + low), magic)
        n = self.n_bits - magic
        r = n.multiply_add(-low, n.multiply_add(-high, x))
        r = r if rest is None else r + rest
        coefficients = approximations.exponential(how.exponential)
        self.u = (r * r).multiply_add(r.polynomial(coefficients), r)

    def two_to_n(self, scale):
        """2^n times a power of two."""
        return scale.scaled_by_bits(self.n_bits, self.digits - 1)


def _one_plus(power, scale):
    """Return scale * (1 + e^x), rounded once where 1 matters."""
    two_to_n = power.two_to_n(scale)
    most = scale + two_to_n
    lost = scale - (most - two_to_n)
    return most + two_to_n.multiply_add(power.u, lost)


def _gated(x, z):
    """Return x / (1 + e^-z)."""
    how = _format(z)
    y = -z.at_least(-how.most).at_most(-how.least)
    scale = y.where_more(how.digits, 2.0**-how.scale, 1.0)
    return x * scale / _one_plus(_Power(y), scale)


def _small_exponential(x, rest=None):
    """e^x for x <= 0, times `scale` where it might be denormal; and what undoes that."""
    how = _format(x)
    far = -0.7 * how.scale
    power = _Power(x, rest)
    two_to_n = power.two_to_n(x.where_less(far, 2.0**how.scale, 1))
    return two_to_n.multiply_add(power.u, two_to_n), x.where_less(far, 2.0**-how.scale, 1)


def relu(y):
    """max(y, 0)."""
    return y.at_least(0)


def relu6(y):
    """min(max(y, 0), 6)."""
    return y.at_least(0).at_most(6)


def leaky_relu(y):
    """Negative values times 0.01."""
    return y.where_less(0, y * 0.01, y)


def hardswish(y):
    """Return y min(max(y + 3, 0), 6) / 6."""
    y = y.at_least(-3)
    return y * ((y + 3).at_most(6) / 6)


def sigmoid(y):
    """1 / (1 + e^-y)."""
    return _gated(y.constant(1), y)


def silu(y):
    """Return y / (1 + e^-y)."""
    return _gated(y.at_least(-_format(y).most), y)


def tanh(y):
    """1 - 2 / (e^2|y| + 1); where that would cancel, y + y^3 times a quotient in y^2."""
    how = _format(y)
    x = abs(y)
    power = _Power((x + x).at_most(0.8 * how.digits))
    two_to_n = power.two_to_n(x.constant(1))
    denominator = two_to_n.multiply_add(power.u, two_to_n + 1)
    square = x * x
    above, below = approximations.hyperbolic_tangent(how.tangent)
    above, below = square.polynomial(above), square.polynomial(below)
    limit = 0.625
    first = x.where_less(limit, x, 1)
    above = x.where_less(limit, x * square * above, -2)
    below = x.where_less(limit, below, denominator)
    return (first + above / below).with_sign_of(y)


def gelu_tanh(y):
    """Return y / (1 + e^-z), z = 2 sqrt(2 / pi) (y + 0.044715 y^3)."""
    y = y.at_least(-_format(y).most)
    first, third = approximations.gelu_tanh_factors()
    return _gated(y, y * (y * y).multiply_add(third, first))


def gelu(y):
    """max(y, 0) - |y| P(normal variable > |y|).

    The probability is e^(-t^2/2) times a quotient of polynomials in t; t^2 has twice the digits.
    """
    how = _format(y)
    t = abs(y).at_most(how.tail[1])
    high = t.without_low_bits((how.digits + 1) // 2)  # its square is exact
    rest = (t - high) * (t + high) * -0.5
    exponential, back = _small_exponential(high * high * -0.5, rest)
    above, below = (t.polynomial(each) for each in approximations.normal_tail(*how.tail))
    return y.at_least(0) - t * exponential * above / below * back


def mish(y):
    """Return y tanh(ln(1 + e^y)), as a quotient in e^-|y|."""
    how = _format(y)
    y = y.at_least(-how.most)
    scaled, back = _small_exponential(y.where_less(0, y, (-y).at_least(-how.digits)))
    e = scaled * back
    negative, positive = scaled * (e + 2), e.multiply_add(2, 1)
    above = y.where_less(0, negative, positive)
    below = y.where_less(0, (negative * back) + 2, (e * e).multiply_add(2, positive))
    return y * above / below * back


def softplus(y):
    """ln(1 + e^y) = max(y, 0) + ln(1 + e^-|y|), the logarithm as 2 atanh(s)."""
    how = _format(y)
    scaled, back = _small_exponential((-abs(y)).at_least(-how.most))
    e = scaled * back
    s = e / (e + 2)
    square, double = s * s, s + s
    series = square.polynomial(approximations.logarithm(how.logarithm))
    return y.at_least(0) + (double * square).multiply_add(series, double)
