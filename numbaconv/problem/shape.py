"""ConvShape: one convolution problem as one immutable value, for every rank.

1-D and 2-D problems are 3-D ones with extents of one, so spatial tuples always have three
entries (depth, height, width). The value is plain integers: it can be hashed, printed, and
rebuilt inside compiled code from the integer array that crosses the Python boundary (one array
costs 0.1 us to pass, a tuple of tuples over 1 us).
"""

from typing import Any, NamedTuple

import numpy as np

from numbaconv.codegen.jit import inline

# CONSTANT is `zeros` with another number: see `padding_value`.
CONSTANT, ZEROS, REFLECT, REPLICATE, CIRCULAR, SYMMETRIC = range(-1, 5)
EXACT = 2
PADDING_MODES = ("zeros", "reflect", "replicate", "circular", "symmetric")

Triple = tuple[int, int, int]


def with_value(values: Any, place: int, value: int) -> Any:
    """Return a tuple with another value at a place."""
    return (*values[:place], value, *values[place + 1 :])


class ConvShape(NamedTuple):
    """Sizes, options and memory layout of a convolution.

    Attributes
    ----------
    n, groups : int
        Images in the batch; groups.
    c_in, c_out : int
        Channels *of one group*, in and out.
    size, kernel, stride, dilation, padding, output : tuple of 3 int
        Along depth, height and width. ``padding`` is what comes before the first element; what
        comes after the last one follows from ``output``.
    padding_mode : tuple of 3 int
        Of each axis, an index into ``PADDING_MODES``, or CONSTANT; ZEROS of an axis without
        padding.
    in_strides, out_strides : tuple of 5 int
        Steps of (n, channel, depth, height, width) in the flat input and output, in elements.
    converts : int
        1: elements of the input have another dtype than the sums. So no kernel can read them where
        they lie: they are converted as they are copied. EXACT: they are integers besides, which
        floating numbers sum without rounding; so no engine may round.
    """

    n: int
    groups: int
    c_in: int
    c_out: int
    size: Triple
    kernel: Triple
    stride: Triple
    dilation: Triple
    padding: Triple
    output: Triple
    padding_mode: Triple
    in_strides: tuple[int, int, int, int, int]
    out_strides: tuple[int, int, int, int, int]
    converts: int = 0

    @property
    def taps(self) -> int:
        """Elements of the kernel."""
        return int(kernel_taps(self))

    @property
    def weights(self) -> int:
        """Weights of all groups."""
        return self.groups * self.c_out * self.c_in * self.taps

    @property
    def pixels(self) -> int:
        """Output positions of one image."""
        return int(image_pixels(self))

    @property
    def gemm(self) -> Triple:
        """The product of one group as a matrix product (M, N, K)."""
        return self.c_out, self.n * self.pixels, self.c_in * self.taps

    @property
    def flops(self) -> int:
        """Floating-point operations, a multiplication and an addition counted as two."""
        m, n, k = self.gemm
        return 2 * self.groups * m * n * k

    def as_tuple(self) -> tuple[int, ...]:
        """Return all the integers in order: what `read_shape` reads."""
        fields = (field if isinstance(field, tuple) else (field,) for field in self)
        return tuple(value for field in fields for value in field)


# Integers of a shape: any has as many as an empty one.
_ZERO = (0, 0, 0)
_NO_STRIDES = (0, 0, 0, 0, 0)
SHAPE_SIZE = len(ConvShape(0, 0, 0, 0, *(_ZERO,) * 7, _NO_STRIDES, _NO_STRIDES).as_tuple())


@inline
def read_shape(a, i):
    """Rebuild a ConvShape from the integers that `ConvShape.as_tuple` put at a[i:]."""
    return ConvShape(
        a[i],
        a[i + 1],
        a[i + 2],
        a[i + 3],
        (a[i + 4], a[i + 5], a[i + 6]),
        (a[i + 7], a[i + 8], a[i + 9]),
        (a[i + 10], a[i + 11], a[i + 12]),
        (a[i + 13], a[i + 14], a[i + 15]),
        (a[i + 16], a[i + 17], a[i + 18]),
        (a[i + 19], a[i + 20], a[i + 21]),
        (a[i + 22], a[i + 23], a[i + 24]),
        (a[i + 25], a[i + 26], a[i + 27], a[i + 28], a[i + 29]),
        (a[i + 30], a[i + 31], a[i + 32], a[i + 33], a[i + 34]),
        a[i + 35],
    )


@inline
def kernel_taps(s):
    """Elements of the kernel (properties of a NamedTuple do not exist in compiled code)."""
    return s.kernel[0] * s.kernel[1] * s.kernel[2]


@inline
def image_pixels(s):
    """Output positions of one image."""
    return s.output[0] * s.output[1] * s.output[2]


def may_round(s: ConvShape, dtype: np.dtype) -> bool:
    """Whether the sums of a problem, which is computed in a dtype, may be rounded."""
    return dtype.kind == "f" and s.converts != EXACT


def is_pointwise(s: ConvShape) -> bool:
    """Whether each output reads the one pixel at its place."""
    return (*s.kernel, *s.stride, *s.padding) == (1,) * 6 + (0,) * 3 and s.size == s.output


@inline
def pads_zeros(s):
    """Whether all padding is zeros."""
    d, h, w = s.padding_mode
    return d == ZEROS and h == ZEROS and w == ZEROS
