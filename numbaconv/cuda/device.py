"""Device functions that the kernels share: where a window begins, and what a sum becomes."""

import math
from typing import Any

from numba import cuda

from numbaconv.cuda.intrinsics import (
    SIMULATED,
    divide_nearly,
    float32,
    float64,
    from_half,
    int32,
    int64,
    load,
    quotient,
    to_half,
    uint16,
    within,
)
from numbaconv.cuda.problem import ACTIVATION, HAS_BIAS, NOWHERE
from numbaconv.problem import padding_modes, shape
from numbaconv.problem.activations import (
    GELU,
    GELU_TANH,
    HARDSWISH,
    LEAKY_RELU,
    MISH,
    NONE,
    RELU,
    RELU6,
    SIGMOID,
    SOFTPLUS,
    TANH,
)


def device(function: Any) -> Any:
    """Decorate a function that kernels call: always inlined, so that arrays stay in registers."""
    if SIMULATED:
        return function
    return cuda.jit(device=True, forceinline=True)(function)


# The definitions that the CPU backends use, compiled for this target.
padded_index = device(padding_modes.padded_index)
read_shape = device(shape.read_shape)
image_pixels = device(shape.image_pixels)


@device
def position(n, s):
    """Image and output coordinates of column n of the patch matrix."""
    pixels = image_pixels(s)
    image = quotient(n, pixels)
    p = n - image * pixels
    plane = s.output[1] * s.output[2]
    d = quotient(p, plane)
    p -= d * plane
    h = quotient(p, s.output[2])
    return image, d, h, p - h * s.output[2]


@device
def axis_bits(first, axis, bit, s):
    """Bits, from `bit` on, of the taps along an axis that lie in the input."""
    bits = int32(0)
    for i in range(s.kernel[axis]):
        if within(first + i * s.dilation[axis], s.size[axis]):
            bits |= int32(1) << int32(bit + i)
    return int32(bits)


def make_corner(mapped: bool) -> Any:
    """Return the function that says where a window begins: its element in the input, and its bits.

    Those are of the taps that lie inside (`problem`). If `mapped`, the coordinates of its first tap
    stand for them, and the element is that of the image. Nothing is there past the last window.
    """
    if mapped:

        @device
        def find_image(n, group, s):
            if n >= s.n * image_pixels(s):
                return int64(0), (int32(NOWHERE), int32(NOWHERE), int32(NOWHERE))
            image, d, h, w = position(n, s)
            at = int64(image) * s.in_strides[0] + group * s.c_in * s.in_strides[1]
            d = int32(d * s.stride[0] - s.padding[0])
            h = int32(h * s.stride[1] - s.padding[1])
            return int64(at), (d, h, int32(w * s.stride[2] - s.padding[2]))

        return find_image

    @device
    def find_window(n, group, s):
        if n >= s.n * image_pixels(s):
            return int64(0), int32(0)
        image, d, h, w = position(n, s)
        d = d * s.stride[0] - s.padding[0]
        h = h * s.stride[1] - s.padding[1]
        w = w * s.stride[2] - s.padding[2]
        at = int64(image) * s.in_strides[0] + group * s.c_in * s.in_strides[1]
        at += d * s.in_strides[2] + h * s.in_strides[3] + w * s.in_strides[4]
        bits = axis_bits(d, 0, 0, s) | axis_bits(h, 1, s.kernel[0], s)
        return int64(at), int32(bits | axis_bits(w, 2, s.kernel[0] + s.kernel[1], s))

    return find_window


@device
def output_offset(n, s):
    """Where pixel n of the first channel lies in the output."""
    image, d, h, w = position(n, s)
    at = d * s.out_strides[2] + h * s.out_strides[3] + w * s.out_strides[4]
    return int64(image) * s.out_strides[0] + at


@device
def divide(a, b):
    """Return a / b."""
    return a / b


def make_activate(total: Any, nearly: bool = False) -> Any:
    """Return the function that applies an activation to a number of a type, and widens nothing.

    If `nearly`, it divides without a call, see `divide_nearly`.
    """
    zero, one, two, three, six = (total(number) for number in (0, 1, 2, 3, 6))
    slope, least, half, root = total(0.01), total(-1000), total(0.5), total(math.sqrt(0.5))
    first = total(2 * math.sqrt(2 / math.pi))
    third = total(2 * math.sqrt(2 / math.pi) * 0.044715)
    ratio = divide_nearly if nearly else divide

    @device
    def activate(y, code):
        if code == RELU:
            return zero if y < zero else y
        if code == RELU6:
            return zero if y < zero else (six if y > six else y)
        if code == LEAKY_RELU:
            return y * slope if y < zero else y
        if code == TANH:
            return math.tanh(y)
        y = least if y < least else y  # -inf times 0 is to be 0
        if code == HARDSWISH:
            gate = y + three
            return y * ratio(zero if gate < zero else (six if gate > six else gate), six)
        if code == GELU:
            return y * (half * math.erfc(-y * root))
        z = y * (first + third * y * y) if code == GELU_TANH else y
        e = math.exp(z if z < zero else -z)
        if code == SOFTPLUS:
            return (zero if y < zero else y) + math.log1p(e)
        if code == MISH:
            above = e * (e + two) if y < zero else one + two * e
            return y * ratio(above, above + (two if y < zero else two * e * e))
        gate = ratio(e if z < zero else one, one + e)
        return gate if code == SIGMOID else y * gate

    return activate


@device
def same(value):
    """Return the value itself."""
    return value


def sum_type(dtype: str) -> Any:
    """Numba type in which elements of a dtype are added up."""
    return {"float64": float64, "int32": int32, "int64": int64}.get(dtype, float32)


def stored_as(dtype: str) -> tuple[Any, Any]:
    """Numba type of elements of a dtype in memory, and what makes a number to add up of one."""
    total = sum_type(dtype)
    return (uint16, from_half) if dtype == "float16" else (total, total)


def make_finish(
    dtype: str, partial: bool = False, plain: bool = False, nearly: bool = False
) -> Any:
    """Return the function that turns a sum into what is stored.

    Parameters
    ----------
    dtype : str
        Of the result, or "tf32".
    partial : bool
        Whether a second pass will add the bias and activate: then the sum is stored as it is.
    plain : bool
        Whether there is neither bias nor activation. The code for them takes registers.
    nearly : bool
        As in `make_activate`.
    """
    total = sum_type(dtype)
    activate = make_activate(total, nearly)
    convert = to_half if dtype == "float16" else same

    @device
    def leave(value, bias, channel, header):
        return value

    @device
    def add_bias(value, bias, channel, header):
        return total(value + load(bias, channel, total)) if header[HAS_BIAS] else value

    @device
    def finish(value, bias, channel, header):
        value = add_bias(value, bias, channel, header)
        if header[ACTIVATION] != NONE:
            value = activate(value, header[ACTIVATION])
        return convert(value)

    @device
    def convert_only(value, bias, channel, header):
        return convert(value)

    if partial:
        return leave
    if plain:
        return convert_only
    return add_bias if dtype.startswith("int") else finish
