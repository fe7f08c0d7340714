"""What an instruction computes where NumPy has no one word for it, from the PTX ISA manual."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.cuda.executed.memory import FaultError

EXPONENT = np.uint32(0x7F800000)  # of a float32: all ones in infinities and NaN
TF32_UNUSED = np.uint32(0x1FFF)  # bits that tensor cores do not read


def fma32_rn(a: Any, b: Any, c: Any) -> Any:
    return (a.astype("f8") * b.astype("f8") + c.astype("f8")).astype("f4")


def fma32_rm(a: Any, b: Any, c: Any) -> Any:
    wide = a.astype("f8") * b.astype("f8") + c.astype("f8")
    near = wide.astype("f4")
    return np.where(near.astype("f8") > wide, np.nextafter(near, np.float32(-np.inf)), near)


def fma64(a: Any, b: Any, c: Any) -> Any:
    """Through 64 bits of mantissa, which x86 has."""
    return (a.astype("g") * b.astype("g") + c.astype("g")).astype("f8")


def int_div(a: Any, b: Any) -> Any:
    if np.any(b == 0):
        raise FaultError("division by zero")
    if a.dtype.kind == "u":
        return a // b
    quotient = np.abs(a) // np.abs(b)
    return np.where((a < 0) != (b < 0), -quotient, quotient).astype(a.dtype)


def int_rem(a: Any, b: Any) -> Any:
    return a - int_div(a, b) * b


def mul_hi(a: Any, b: Any, width: int) -> Any:
    """Upper half of a product of two numbers of `width` bits."""
    product = np.asarray(a).astype(object) * np.asarray(b).astype(object)
    return np.asarray(product >> width).astype(a.dtype)


def cvt_tf32(x: Any) -> Any:
    bits = x.view("u4")
    rounded = (bits + np.uint32(0x1000)) & ~TF32_UNUSED
    return np.where((bits & EXPONENT) == EXPONENT, bits, rounded).astype("u4")


def cvt_sat(x: Any) -> Any:
    return np.where(np.isnan(x), np.float32(0), np.clip(x, 0, 1)).astype(x.dtype)


def float_to_int(x: Any, dtype: Any) -> Any:
    info = np.iinfo(dtype)
    y = np.trunc(np.nan_to_num(x.astype("f8"), nan=0.0, posinf=np.inf, neginf=-np.inf))
    big, small = y >= float(info.max), y <= float(info.min)
    inside = np.where(big | small, 0, y).astype(dtype)
    return np.where(big, info.max, np.where(small, info.min, inside)).astype(dtype)


def int_to_float(x: Any, dtype: Any) -> Any:
    return x.astype(dtype)


def shift_shl(a: Any, n: Any, width: int) -> Any:
    full = n >= width
    out = a << np.where(full, 0, n).astype(a.dtype)
    return np.where(full, np.zeros((), a.dtype), out).astype(a.dtype)


def shift_shr(a: Any, n: Any, width: int) -> Any:
    if a.dtype.kind == "i":
        return a >> np.minimum(n, width - 1).astype(a.dtype)
    full = n >= width
    out = a >> np.where(full, 0, n).astype(a.dtype)
    return np.where(full, np.zeros((), a.dtype), out).astype(a.dtype)


# By the names that translated code calls them.
HELPERS = {
    function.__name__: function
    for function in (
        fma32_rn,
        fma32_rm,
        fma64,
        int_div,
        int_rem,
        mul_hi,
        cvt_tf32,
        cvt_sat,
        float_to_int,
        int_to_float,
        shift_shl,
        shift_shr,
    )
}
