"""Filters in compiled code that are made of others there.

`lfilter` returns one or two arrays, and two functions call a derivative of the user's own.
"""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numba.extending import overload, register_jitable

from numbaconv.ndimage.filters import generic_gradient_magnitude, generic_laplace
from numbaconv.njit.kinds import given, is_none

# --- Streams ----------------------------------------------------------------------------------


def _lfilter(b, a, x, axis=-1, zi=None):
    from numbaconv.njit import filter_site

    perform = filter_site.find("signal.lfilter", {"x": x, "zi": zi, "axis": axis, "b": b, "a": a})
    split = filter_site.split
    if is_none(zi):

        def filtered(b, a, x, axis=-1, zi=None):
            return perform((x, None, None), None, (axis,), b, a)

        return filtered

    def continued(b, a, x, axis=-1, zi=None):
        return split(perform((x, zi, None), None, (axis,), b, a), x.shape, axis)

    return continued


# --- Derivatives of the user's own ------------------------------------------------------------


def _new_output(image: Any, output: Any) -> Any:
    """The array of results: the caller's, or one of zeros."""


@overload(_new_output)
def _new_output_in_compiled_code(image, output):
    if isinstance(output, types.Array):

        def checked(image, output):
            if output.shape != image.shape:
                raise RuntimeError("output shape not correct")
            return output

        return checked
    if is_none(output):
        return lambda image, output: np.zeros(image.shape, image.dtype)
    if isinstance(output, types.StringLiteral):
        dtype = np.dtype(output.literal_value)
        return lambda image, output: np.zeros(image.shape, dtype)
    return lambda image, output: np.zeros(image.shape, output)


def _places(image: Any, axes: Any) -> Any:
    """The places of some axes, or of all."""


@overload(_places)
def _places_in_compiled_code(image, axes):
    if is_none(axes):
        return lambda image, axes: np.arange(image.ndim)
    if isinstance(axes, types.Integer):
        return lambda image, axes: _checked_places(np.array([axes]), image.ndim)
    return lambda image, axes: _checked_places(np.array(axes), image.ndim)


@register_jitable
def _checked_places(axes, rank):
    for i in range(axes.size):
        if not -rank <= axes[i] < rank:
            raise ValueError(f"specified axis: {axes[i]} is out of range")
        axes[i] %= rank
        for j in range(i):
            if axes[j] == axes[i]:
                raise ValueError("axes must be unique")
    return axes


def _one_mode(mode: Any) -> str:
    word = getattr(mode, "literal_value", given(mode))
    if not isinstance(word, str):
        raise TypingError(f"mode is {mode}; pass a literal string, one for all axes")
    return word


# Loops, since Numba takes seconds to compile the errors of one assignment of an array to a slice.


@register_jitable
def _store(result, part, squares, adds):
    for index in np.ndindex(result.shape):
        value = part[index] * part[index] if squares else part[index]
        result[index] = result[index] + value if adds else value


@register_jitable
def _take_root(result):
    for index in np.ndindex(result.shape):
        result[index] = np.sqrt(result[index])


def _added_up(squares: bool, mode: Any) -> Callable[..., Any]:
    """The implementation of `filters._added_up` for a mode."""
    word = _one_mode(mode)

    @register_jitable
    def add_up(image, derivative, output, cval, extra_arguments, axes):
        result, places = _new_output(image, output), _places(image, axes)
        if places.size == 0:
            _store(result, image, False, False)
            return result
        part = np.empty(image.shape, result.dtype)
        for i in range(places.size):
            derivative(image, places[i], part, word, cval, *extra_arguments)
            _store(result, part, squares, i > 0)
        if squares:
            _take_root(result)
        return result

    return add_up  # type: ignore[no-any-return]


def _check_keywords(keywords: Any) -> None:
    if not is_none(keywords):
        raise TypingError("extra_keywords cannot be passed in compiled code: use extra_arguments")


# The two functions differ in this and in the name of their derivative, which Numba wants to see in
# the signature.
_DERIVATIVES = """
def typing({parameters}):
    check_keywords(extra_keywords)
    add_up = added_up({squares}, mode)

    def implementation({parameters}):
        return add_up(input, {derivative}, output, cval, extra_arguments, axes)

    return implementation
"""


def _of_derivatives(function: Callable[..., Any], squares: bool) -> Callable[..., Any]:
    """The typing function of a public function that adds up derivatives."""
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in inspect.signature(function).parameters.values()
    ]
    source = _DERIVATIVES.format(
        parameters=", ".join(map(str, parameters)), squares=squares, derivative=parameters[1].name
    )
    namespace: dict[str, Any] = {"check_keywords": _check_keywords, "added_up": _added_up}
    exec(compile(source, f"<{function.__name__} in compiled code>", "exec"), namespace)
    typing: Callable[..., Any] = namespace["typing"]
    return typing


# Typing functions for `overload`, by module and name.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "signal.lfilter": _lfilter,
    "ndimage.generic_laplace": _of_derivatives(generic_laplace, squares=False),
    "ndimage.generic_gradient_magnitude": _of_derivatives(generic_gradient_magnitude, squares=True),
}
