"""Filters on the CPU: passes or a full kernel over an image, in as few walks as can be."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba.core import config

from numbaconv.cpu.job import execute
from numbaconv.cpu.separable.borders import CONSTANT
from numbaconv.cpu.separable.planning import (
    Kernel,
    Pass,
    Problem,
    make_template,
    most_passes,
)
from numbaconv.runtime import result_memory
from numbaconv.runtime.capture import assign
from numbaconv.runtime.threads import thread_limit

_NONE = np.empty(0, np.int64)

# Taps of a pass, at most, that is made in one walk with others. A ring has as many rows as one pass
# reaches, of all lanes that another does: it soon is larger than any cache.
MOST_TOGETHER = 256


class Arithmetic(NamedTuple):
    """How sums are computed.

    Attributes
    ----------
    compute : dtype
        float32 or float64.
    truncates : bool
        Whether what a pass stores is an integer, the fraction cut off; then passes have one order.
    rounds : bool
        Whether integers of the output are the nearest ones.
    """

    compute: np.dtype[Any]
    truncates: bool = False
    rounds: bool = False


def new_array(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """An array whose memory may have been used before."""
    return result_memory.empty(math.prod(shape), dtype).reshape(shape)


def readable(x: np.ndarray) -> np.ndarray:
    """An array as kernels read it: native, aligned, steps of whole elements; bool as bytes."""
    if not (x.dtype.isnative and x.flags.aligned):
        x = np.require(x, x.dtype.newbyteorder("="), "A")
    if x.dtype == np.float16:
        x = x.astype(np.float32)
    whole = all(step % x.itemsize == 0 for step in x.strides)
    if not whole or config.DISABLE_JIT:
        x = np.ascontiguousarray(x)
    return x.view(np.uint8) if x.dtype == np.bool_ else x


def is_writable(out: np.ndarray) -> bool:
    """Whether kernels can store straight into an array."""
    plain = out.dtype.isnative and out.flags.aligned and out.dtype != np.float16
    whole = all(step % out.itemsize == 0 for step in out.strides)
    return plain and whole and not (config.DISABLE_JIT and not out.flags.c_contiguous)


def filter_image(
    x: np.ndarray,
    out: np.ndarray,
    work: Sequence[Pass] | Kernel,
    constant: float,
    how: Arithmetic,
) -> None:
    """Filter `x` into `out`, an array of its shape that may be `x` itself."""
    if x.size == 0:
        return
    source = readable(x)
    target = out
    if not is_writable(out) or np.may_share_memory(source, out):
        dtype = how.compute if out.dtype == np.float16 else out.dtype.newbyteorder("=")
        target = new_array(out.shape, dtype)
    bytes_of = target.view(np.uint8) if target.dtype == np.bool_ else target
    if isinstance(work, Kernel):
        _walk(source, bytes_of, work, constant, how)
    else:
        _walks(source, bytes_of, work, constant, how)
    if target is not out:
        with np.errstate(over="ignore", under="ignore"):
            assign(out, target)


def stays_within(each: Pass, x: np.dtype[Any], out: np.dtype[Any], constant: float) -> bool:
    """Whether a pass has only results that an integer dtype holds; others wrap when stored."""
    limits = np.iinfo(out)
    mean = min(each.weights) >= 0 and sum(each.weights) <= each.divisor * (1 + 1e-9)
    return mean and np.can_cast(x, out) and limits.min <= constant <= limits.max


def _walks(
    x: np.ndarray, out: np.ndarray, passes: Sequence[Pass], constant: float, how: Arithmetic
) -> None:
    """Several walks, where one cannot make all passes; each stores what the next reads.

    One walk makes passes in the order of the axes. The caller's order counts where each pass
    truncates, and then also what wraps between two; and where a constant lies outside that sums of
    it are not.
    """
    constants = constant != 0 and any(each.mode == CONSTANT for each in passes)
    left = list(passes)
    if not (how.truncates or constants):
        left.sort(key=lambda each: each.axis)
    between = out.dtype if how.truncates else how.compute
    while left:
        most, count = len(left), 1
        if most > 2:
            most = most_passes(_problem(x, out, (), constant, how), left)
        while count < most and left[count].axis > left[count - 1].axis:
            if max(len(each.weights) for each in left[: count + 1]) > MOST_TOGETHER:
                break
            if how.truncates and not stays_within(left[count - 1], x.dtype, out.dtype, constant):
                break
            count += 1
        now, left = tuple(left[:count]), left[count:]
        target = new_array(x.shape, between) if left else out
        _walk(x, target, now, constant, how._replace(rounds=how.rounds and not left))
        x = target


def _problem(
    x: np.ndarray,
    out: np.ndarray,
    work: tuple[Pass, ...] | Kernel,
    constant: float,
    how: Arithmetic,
) -> Problem:
    return Problem(
        x.shape,
        tuple(step // x.itemsize for step in x.strides),
        tuple(step // out.itemsize for step in out.strides),
        x.dtype,
        out.dtype,
        how.compute,
        work,
        constant,
        how.truncates,
        how.rounds,
    )


def _walk(
    x: np.ndarray,
    out: np.ndarray,
    work: tuple[Pass, ...] | Kernel,
    constant: float,
    how: Arithmetic,
) -> None:
    multiply_adds = x.size * (
        len(work.weights) if isinstance(work, Kernel) else sum(len(each.weights) for each in work)
    )
    threads = thread_limit(max(multiply_adds, 4 * x.size))
    template = make_template(_problem(x, out, work, constant, how), threads)
    if config.DISABLE_JIT:
        x, out = x.reshape(-1), out.reshape(-1)
    execute(template, x, template.weights, _NONE, _NONE, out)
