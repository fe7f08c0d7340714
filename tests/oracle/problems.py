"""Random convolution problems: one generator for hypothesis, the fuzzer and the stress tests.

A problem is a `Case` as `cases.py` has them, so that its arrays come from there too. Every choice
is an integer asked of one function, which hypothesis can shrink and `random.Random` can repeat.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tests.oracle import reference
from tests.oracle.cases import (
    Array,
    Case,
    gradient_case,
    integer_arrays,
    normal_arrays,
    problem,
    wrapping_arrays,
)

Integer = Callable[[int, int], int]  # a number from the first to the second, both included

MODES = ("zeros", "reflect", "replicate", "circular", "symmetric")
WORDS = ("valid", "same", "same_lower", "full")
FLOATS = ("float32", "float64", "float16", "complex64", "complex128")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")

# By rank: the longest axis that is drawn, and the largest kernel.
LONGEST = {1: 150, 2: 40, 3: 9}
WIDEST_KERNEL = {1: 9, 2: 5, 3: 3}


def choose(integer: Integer, options: Sequence[Any]) -> Any:
    return options[integer(0, len(options) - 1)]


def fits(axis: reference.Axis, mode: str) -> bool:
    """Whether the kernel lies within the padded axis, and the padding has something to read."""
    return axis.out > 0 and (mode == "zeros" or axis.size > 0 or axis.lo == axis.hi == 0)


def random_axis(
    integer: Integer,
    mode: str,
    padding: str | None,
    longest: int,
    widest_kernel: int,
    pad: int,
    dilations: int,
    strides: int,
) -> reference.Axis:
    """An axis of a problem that is valid, its size as drawn or the next that fits.

    One in eight is short, and its padding may be several times as long.
    """
    if integer(0, 7) == 7:
        longest, pad = min(longest, 3), 3 * pad
    kernel, dilation = integer(1, widest_kernel), integer(1, dilations)
    stride = integer(1, strides)
    pair = integer(0, pad), integer(0, pad)
    size = integer(1, longest)
    while True:
        lo, hi = (
            reference.padding_pair(padding, 0, size, kernel, stride, dilation) if padding else pair
        )
        axis = reference.Axis(size, kernel, stride, dilation, lo, hi)
        if fits(axis, mode):
            return axis
        size += 1


def random_case(
    integer: Integer,
    name: str = "random",
    *,
    ranks: Sequence[int] = (1, 2, 3),
    modes: Sequence[str] = MODES,
    values: Sequence[int] = (0,),
    words: Sequence[str | None] = (None,),
    max_groups: int = 3,
    channels: tuple[int, int] = (4, 9),
    fewest_channels: int = 1,
    longest: dict[int, int] | None = None,
    widest_kernel: dict[int, int] | None = None,
    pad: int = 3,
    dilations: int = 3,
    strides: int = 4,
) -> Case:
    """A valid problem with a batch axis, channels first, and every option spelled out.

    Parameters
    ----------
    values
        What is added instead of zeros.
    words
        Forms of padding to draw from; None stands for (before, after) pairs.
    channels
        Largest numbers of input and output channels of a group.
    longest, widest_kernel
        By rank: limits of the input's axes and the kernel's.
    pad, dilations, strides
        Largest of each, on every axis.
    """
    rank = choose(integer, ranks)
    mode, word = choose(integer, modes), choose(integer, words)
    by_axis = (mode, *(choose(integer, modes) for _ in range(rank - 1)))
    each = by_axis if integer(0, 2) == 2 else (mode,) * rank
    limit = (longest or LONGEST)[rank]
    widest = (widest_kernel or WIDEST_KERNEL)[rank]
    sizes = limit, widest, pad, dilations, strides
    axes = [random_axis(integer, axis_mode, word, *sizes) for axis_mode in each]
    groups = integer(1, max_groups)
    c_in, c_out = (integer(min(fewest_channels, most), most) for most in channels)
    value = choose(integer, values) if "zeros" in each else 0
    more = {"padding_value": value} if value else {}
    return problem(
        name,
        (integer(1, 3), groups * c_in, *(axis.size for axis in axes)),
        (groups * c_out, c_in, *(axis.kernel for axis in axes)),
        bias=bool(integer(0, 1)),
        stride=tuple(axis.stride for axis in axes),
        padding=word or tuple((axis.lo, axis.hi) for axis in axes),
        dilation=tuple(axis.dilation for axis in axes),
        groups=groups,
        padding_mode=each if len(set(each)) > 1 else mode,
        **more,
    )


def respelled(case: Case, integer: Integer, last: bool = True) -> Case:
    """Give the same problem in another form: unbatched, maybe channels last, shorter options."""
    shape, options = case.input, dict(case.kwargs)
    for name in ("stride", "dilation", "padding"):
        value = options[name]
        if isinstance(value, str):
            continue
        if name == "padding" and all(lo == hi for lo, hi in value) and integer(0, 1):
            value = tuple(lo for lo, _ in value)
        if len(set(value)) == 1 and not isinstance(value[0], tuple) and integer(0, 1):
            value = value[0]
        options[name] = value
    if not integer(0, 3):
        shape = shape[1:]
    if last and not integer(0, 2):
        c = len(shape) - (len(case.weight) - 1)
        shape = (*shape[:c], *shape[c + 1 :], shape[c])
        options["data_format"] = "channels_last"
    return case._replace(input=shape, kwargs=options)


def varied_case(integer: Integer, name: str, of_gradient: bool = False) -> Case:
    """A problem of any kind and form: six in sixteen of many channels, depthwise or long filters.

    Those that have gradients are padded with zeros and have their channels first.
    """
    kind = integer(0, 15)
    longest = None
    limits: dict[str, Any] = {"max_groups": choose(integer, (1, 1, 3))}
    if kind == 0:
        limits["channels"] = (40, 40)
        longest = {1: 20, 2: 9, 3: 4}
    elif kind == 1:
        limits = {"max_groups": 40, "channels": (1, 2)}
    elif kind == 2:
        limits = {"max_groups": 1, "channels": (1, 1)}
        longest = {1: 1000, 2: 90, 3: 15}
    elif kind == 3:
        limits["channels"] = (3, 70)
    elif kind == 4:  # dilated, channels enough for zones
        limits |= {"channels": (50, 70), "fewest_channels": 32, "dilations": 7, "strides": 2}
        longest = {1: 20, 2: 9, 3: 4}
        limits["pad"] = 9
    elif kind == 5:  # long filters of signals
        limits |= {"ranks": (1,), "channels": (2, 3), "dilations": 1, "strides": 3}
        limits |= {"widest_kernel": {1: 150}, "pad": 60}
        longest = {1: 2500}
    if of_gradient:
        limits["modes"] = ("zeros",)
    else:
        limits["values"] = (0, 0, 1, 3)
    case = random_case(integer, name, words=(None, None, None, *WORDS), longest=longest, **limits)
    if of_gradient:
        del case.kwargs["padding_mode"]
    if not integer(0, 199):
        case = case._replace(input=(0, *case.input[1:]))
    return respelled(case, integer, last=not of_gradient)


# Layouts in memory. Each takes an array and returns an equal one, except that `broadcast` repeats
# its first element along an axis.


def plain(a: Array, integer: Integer) -> Array:
    return a


def permuted(a: Array, integer: Integer) -> Array:
    order = list(range(a.ndim))
    for i in range(a.ndim - 1, 0, -1):
        j = integer(0, i)
        order[i], order[j] = order[j], order[i]
    memory = np.empty([a.shape[i] for i in order], a.dtype)
    view = memory.transpose(np.argsort(order))
    view[...] = a
    return view


def stepped(a: Array, integer: Integer) -> Array:
    steps = [integer(1, 3) for _ in a.shape]
    memory = np.zeros([n * step + 1 for n, step in zip(a.shape, steps, strict=True)], a.dtype)
    view = memory[
        tuple(slice(1, 1 + n * step, step) for n, step in zip(a.shape, steps, strict=True))
    ]
    view[...] = a
    return view


def backwards(a: Array, integer: Integer) -> Array:
    turn = tuple(slice(None, None, choose(integer, (1, -1))) for _ in a.shape)
    return a[turn].copy()[turn]


def unaligned(a: Array, integer: Integer) -> Array:
    memory = np.zeros(a.nbytes + 1, np.uint8)
    view = memory[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


def swapped(a: Array, integer: Integer) -> Array:
    return a.astype(a.dtype.newbyteorder())


def read_only(a: Array, integer: Integer) -> Array:
    a = a.copy()
    a.flags.writeable = False
    return a


def broadcast(a: Array, integer: Integer) -> Array:
    axis = integer(0, a.ndim - 1)
    return np.broadcast_to(np.take(a, [0], axis), a.shape) if a.shape[axis] else a


OUT_LAYOUTS = (plain, permuted, stepped, backwards, unaligned)
LAYOUTS = (plain, plain, plain, *OUT_LAYOUTS, swapped, read_only, broadcast)


class Sample(NamedTuple):
    """A problem with its operands, ready to be called."""

    case: Case
    x: Array
    w: Array
    b: Array | None
    g: Array | None  # a gradient of the output, for problems of gradients
    r: Array  # what is added to the sums; of problems of gradients, to the transposed ones
    kind: str  # of the data: "integers", "wrapping" or "normal"
    integer: Integer  # for what is drawn later, such as an `out`

    @property
    def operands(self) -> tuple[Array, Array, Array | None]:
        return self.x, self.w, self.b

    @property
    def options(self) -> dict[str, Any]:
        return self.case.kwargs

    @property
    def rank(self) -> int:
        return self.w.ndim - 2

    @property
    def exact(self) -> bool:
        """Whether the result must be equal to the oracle's, not merely close."""
        return self.kind != "normal"

    def new_out(self, shape: tuple[int, ...], *operands: Array | None) -> Array:
        """An `out` of operands in a random layout, filled with what must not stay."""
        dtype = reference.result_dtype(*operands)
        out = choose(self.integer, OUT_LAYOUTS)(np.empty(shape, dtype), self.integer)
        out[...] = np.nan if dtype.kind in "fc" else 77
        return out

    def describe(self) -> str:
        """The problem in one line."""

        def array(a: Array | None) -> str:
            return "None" if a is None else f"{a.dtype.str}{list(a.shape)} strides {a.strides}"

        options = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        gradient = "" if self.g is None else f" gradient {array(self.g)}"
        gradient += f" add {array(self.r)}"
        operands = ", ".join(map(array, self.operands))
        return f"conv({operands}, {options}){gradient} {self.kind}"


ARRAYS = {"integers": integer_arrays, "wrapping": wrapping_arrays, "normal": normal_arrays}


def random_dtypes(integer: Integer, count: int, integers_only: bool) -> tuple[str, list[str]]:
    """The kind of the data, and the dtype of each array: mostly the same."""
    dtype = choose(integer, FLOATS + INTEGERS if integer(0, 3) == 0 else ("float32", "float64"))
    if dtype in INTEGERS:
        kind = choose(integer, ("integers", "wrapping"))
    else:
        kind = "integers" if integers_only or not integer(0, 3) else "normal"
    dtypes = [dtype] * count
    if kind == "integers" and not integer(0, 7):
        dtypes = [choose(integer, FLOATS + INTEGERS) for _ in range(count)]
        if reference.result_dtype(*(np.empty(0, d) for d in dtypes)).name not in FLOATS + INTEGERS:
            dtypes = [dtype] * count
    return kind, dtypes


def random_add(
    integer: Integer, case: Case, shape: tuple[int, ...], kind: str, dtype: np.dtype[Any]
) -> Array:
    """An array to be added to sums of a dtype: of that, or mostly one that converts safely."""
    known = {"integers": FLOATS + INTEGERS, "wrapping": INTEGERS, "normal": FLOATS}[kind]
    safe = [name for name in known if np.can_cast(name, dtype)]
    drawn = choose(integer, safe) if integer(0, 1) else dtype
    like = case._replace(name=f"{case.name}/add", input=shape)
    return choose(integer, LAYOUTS)(ARRAYS[kind](like, drawn)[0], integer)


def sample(seed: int, number: int, integers_only: bool = False) -> Sample:
    """Return problem `number` of a seed: the same on every machine and in any order."""
    integer = random.Random(f"{seed}/{number}").randint
    case = varied_case(integer, f"{seed}/{number}")
    kind, dtypes = random_dtypes(integer, 3, integers_only)
    drawn = [ARRAYS[kind](case, d)[i] for i, d in enumerate(dtypes)]
    x, w, b = (None if a is None else choose(integer, LAYOUTS)(a, integer) for a in drawn)
    r = random_add(integer, case, case.output, kind, reference.result_dtype(x, w, b))
    return Sample(case, x, w, b, None, r, kind, integer)


def gradient_sample(seed: int, number: int, integers_only: bool = False) -> Sample:
    """The same for a problem that has gradients; its bias is the transposed convolution's."""
    name = f"{seed}/{number}/gradients"
    integer = random.Random(name).randint
    case = varied_case(integer, name, of_gradient=True)
    kind, dtypes = random_dtypes(integer, 4, integers_only)
    back = gradient_case(case)
    drawn = [ARRAYS[kind](case, d)[i] for i, d in enumerate(dtypes[:2])]
    drawn += [ARRAYS[kind](back, d)[i] for i, d in zip((2, 0), dtypes[2:], strict=True)]
    x, w, b, g = (None if a is None else choose(integer, LAYOUTS)(a, integer) for a in drawn)
    r = random_add(integer, case, case.input, kind, reference.result_dtype(g, w, b))
    return Sample(case, x, w, b, g, r, kind, integer)
