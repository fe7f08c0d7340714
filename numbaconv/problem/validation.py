"""Validation: what a caller passes becomes plain integers here, or an error that names it.

All of it is done with Python's exact integers before any memory is touched.
"""

import math
from collections.abc import Sequence
from operator import index
from typing import Any

import numpy as np

from numbaconv.codegen.integers import ceil_div
from numbaconv.problem.dtypes import check_dtype
from numbaconv.problem.libraries import is_array_like, is_on_device, library_of
from numbaconv.problem.shape import PADDING_MODES, ZEROS

DATA_FORMATS = ("channels_first", "channels_last")
PADDING_WORDS = ("valid", "same", "same_lower", "full")
_LARGEST = 2**62
_MOST_PADDING = 2**40  # more fits no array; with this, all that kernels compute fits 64 bits

_MOST_ELEMENTS = 2**56  # their size in bytes fits 64 bits

Pairs = tuple[tuple[int, int], ...]

LETTERS = {1: "L", 2: "H, W", 3: "D, H, W"}  # the spatial axes by their number, for errors


def integer(name: str, value: Any, least: int) -> int:
    """Return a value as an int of at least `least`."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be an integer, got the bool {value}")
    try:
        number = index(value)
    except TypeError:
        raise TypeError(
            f"{name} must be an integer, got {value!r} of type {type(value).__name__}"
        ) from None
    if number.bit_length() > 128:  # Python prints no number of more than 4300 digits
        raise ValueError(f"{name} is out of range: an integer of {number.bit_length()} bits")
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    if number > _LARGEST:
        raise ValueError(f"{name} must be at most {_LARGEST}, got {number}")
    return number


def is_sequence(value: Any) -> bool:
    """Whether an option has an entry for each axis."""
    return isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim > 0)


def per_axis(name: str, value: Any, rank: int, least: int = 1) -> tuple[int, ...]:
    """Return an int, or a sequence of one int for each axis, as a tuple."""
    if not is_sequence(value):
        return (integer(name, value, least),) * rank
    if len(value) != rank:
        raise ValueError(
            f"{name} must be an int or have one entry for each of {rank} axes, "
            f"got {len(value)} entries: {value!r}"
        )
    return tuple(integer(name, entry, least) for entry in value)


def freeze(name: str, value: Any, depth: int = 2) -> Any:
    """Return an option in a form that can be a dict key and cannot hide a bool or a float.

    No option nests sequences more than `depth` times: pairs in a tuple.
    """
    if type(value) is str or value is None or (type(value) is int and abs(value) <= _LARGEST):
        return value
    if not is_sequence(value):
        return integer(name, value, -_LARGEST)
    if not depth:
        raise ValueError(f"{name} is nested too deeply, down to {value!r}")
    return tuple(freeze(name, entry, depth - 1) for entry in value)


def _same(size: int, kernel: int, stride: int, dilation: int, lower: bool) -> tuple[int, int]:
    output = ceil_div(size, stride)
    total = max((output - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    small, large = total // 2, total - total // 2
    return (large, small) if lower else (small, large)


def padding_pairs(
    padding: Any,
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> Pairs:
    """Return any form of `padding` as (before, after) for each axis."""
    pairs = _padding_pairs(padding, size, kernel, stride, dilation)
    largest = max(map(max, pairs))
    if largest > _MOST_PADDING:
        raise ValueError(f"padding must be at most {_MOST_PADDING}, got {largest}")
    return pairs


def _padding_pairs(
    padding: Any,
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> Pairs:
    rank = len(kernel)
    if isinstance(padding, str):
        word = padding.lower()
        if word == "valid":
            return ((0, 0),) * rank
        if word == "full":
            return tuple(((k - 1) * d,) * 2 for k, d in zip(kernel, dilation, strict=True))
        if word in ("same", "same_lower"):
            axes = zip(size, kernel, stride, dilation, strict=True)
            return tuple(_same(*axis, lower=word == "same_lower") for axis in axes)
        raise ValueError(
            f"padding must be an int, a tuple, (before, after) pairs or one of "
            f"{', '.join(PADDING_WORDS)}; got {padding!r}"
        )
    if is_sequence(padding) and any(is_sequence(entry) for entry in padding):
        if len(padding) != rank or not all(is_sequence(e) and len(e) == 2 for e in padding):
            raise ValueError(
                f"padding must have one (before, after) pair for each of {rank} axes, "
                f"got {padding!r}"
            )
        return tuple((integer("padding", a, 0), integer("padding", b, 0)) for a, b in padding)
    return tuple((p, p) for p in per_axis("padding", padding, rank, 0))


def padding_code(padding_mode: Any) -> int:
    """Return the number of the padding mode of an axis."""
    if not isinstance(padding_mode, str) or padding_mode not in PADDING_MODES:
        raise ValueError(
            f"padding_mode must be one of {', '.join(PADDING_MODES)}, or one of them for each "
            f"axis; got {padding_mode!r}"
        )
    return PADDING_MODES.index(padding_mode)


def padding_codes(padding_mode: Any, rank: int) -> tuple[int, ...]:
    """Return the number of the padding mode of each axis."""
    if not isinstance(padding_mode, (tuple, list)) or not padding_mode:
        return (padding_code(padding_mode),) * rank
    if len(padding_mode) != rank:
        raise ValueError(
            f"padding_mode must be one word or have one for each of {rank} axes, "
            f"got {len(padding_mode)}: {padding_mode!r}"
        )
    return tuple(map(padding_code, padding_mode))


def check_padding_fits(modes: Sequence[int], pairs: Pairs, size: Sequence[int]) -> None:
    """Refuse to continue an axis that has no element."""
    for axis, (mode, (before, after), n) in enumerate(zip(modes, pairs, size, strict=True)):
        if mode != ZEROS and n == 0 and max(before, after) > 0:
            raise ValueError(
                f"padding {(before, after)} of axis {axis} has nothing to read for padding_mode "
                f"{PADDING_MODES[mode]!r}: input has no elements there"
            )


def output_size(
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    pairs: Pairs,
    dilation: Sequence[int],
    name: str = "weight",
) -> tuple[int, ...]:
    """Return the size of the output along each axis; `name` is what errors blame."""
    result = []
    axes = zip(size, kernel, stride, pairs, dilation, strict=True)
    for axis, (n, k, s, (before, after), d) in enumerate(axes):
        padded, extent = n + before + after, (k - 1) * d + 1
        if extent > padded:
            raise ValueError(
                f"{name}: the kernel reaches over {extent} elements on axis {axis} "
                f"(size {k}, dilation {d}), more than the padded input has: {padded}"
            )
        result.append((padded - extent) // s + 1)
    return tuple(result)


def check_addressable(name: str, *extents: int) -> None:
    """Refuse a result of so many elements that not even its size fits an index."""
    if math.prod(extents) > _MOST_ELEMENTS:
        raise ValueError(f"{name} makes a result of {' x '.join(map(str, extents))} elements")


def _kind(value: Any) -> str:
    there = " on a GPU while input is in host memory" if is_on_device(value) else ""
    return type(value).__name__ + there


def base_array(name: str, array: Any) -> np.ndarray:
    """Return an array as an ndarray proper, over the same memory.

    What a subclass says of itself (its shape, say) need not be true of its memory, which is what
    kernels work on.
    """
    if type(array) is np.ndarray:
        return array
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a numpy.ndarray, got {_kind(array)}")
    return unmasked(name, array)


def unmasked(name: str, value: Any) -> np.ndarray:
    """Return what NumPy makes an array of, but refuse a mask, which would be ignored."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"{name} is a {type(value).__name__}, whose mask would be ignored: pass an ndarray, "
            f"for instance {name}.filled(0)"
        )
    return np.asarray(value)


def input_array(name: str, array: Any) -> np.ndarray:
    """Return what a caller passes as an array to be read; NumPy reads what is like an array."""
    if type(array) is np.ndarray:
        return array
    if (library := library_of(array)) is not None:
        raise TypeError(
            f"all arrays of a call must be of one library: {name} is of {library}, others are not"
        )
    if isinstance(array, np.ndarray) or not is_array_like(array):
        return base_array(name, array)
    try:
        return np.asarray(array)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} cannot be read as an array: {error}") from error


def check_array(name: str, array: Any) -> None:
    """Refuse what is not a NumPy array of a supported dtype."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a numpy.ndarray, got {_kind(array)}")
    check_dtype(name, array)


def plain_word(word: Any) -> Any:
    """Return a subclass's string as a str proper, which says the same each time it is asked."""
    return str.__str__(word) if isinstance(word, str) else word


def plain_modes(padding_mode: Any) -> Any:
    """Return one padding mode, or one for each axis, as plain strings that can be part of a key."""
    if not isinstance(padding_mode, (tuple, list)) or not padding_mode:
        padding_code(padding_mode := plain_word(padding_mode))
        return padding_mode
    modes = tuple(map(plain_word, padding_mode))
    padding_codes(modes, len(modes))
    return modes


def check_data_format(data_format: Any) -> bool:
    """Return whether the format is channels_last."""
    if not isinstance(data_format, str) or data_format not in DATA_FORMATS:
        raise ValueError(
            f"data_format must be one of {', '.join(DATA_FORMATS)}; got {data_format!r}"
        )
    return bool(data_format == "channels_last")


def check_out(out: Any, shape: tuple[int, ...], dtype: np.dtype, inputs: dict[str, Any]) -> None:
    """Refuse an `out` that cannot take the result. What is added may be that very memory."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a numpy.ndarray, got {_kind(out)}")
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}, the result has {shape}")
    if out.dtype != dtype:
        raise TypeError(f"out has dtype {out.dtype}, the result has {dtype}")
    if not out.flags.writeable:
        raise ValueError("out is read-only")
    if not out.flags.c_contiguous and _overlaps_itself(out):
        raise ValueError(f"out overlaps itself in memory: strides {out.strides}")
    for name, array in inputs.items():
        if array is None or (name == "add" and _is_same_memory(out, array)):
            continue
        if np.may_share_memory(out, array) and _overlap(out, array):
            raise ValueError(f"out overlaps {name} in memory")


def _is_same_memory(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether each element of two arrays of one shape is the same in memory."""
    same = a.dtype == b.dtype and a.strides == b.strides
    return same and a.__array_interface__["data"][0] == b.__array_interface__["data"][0]


def _overlaps_itself(a: np.ndarray) -> bool:
    """Whether some axis steps by less than the axes of smaller steps cover."""
    covered = a.itemsize
    for step, n in sorted(zip(map(abs, a.strides), a.shape, strict=True)):
        if n > 1 and step < covered:
            return True
        covered += step * (n - 1)
    return False


def _overlap(a: np.ndarray, b: np.ndarray) -> bool:
    try:
        return bool(np.shares_memory(a, b, max_work=10_000))  # type: ignore[arg-type]  # NumPy's stub allows only 0 and -1
    except np.exceptions.TooHardError:
        return True  # cannot be excluded
