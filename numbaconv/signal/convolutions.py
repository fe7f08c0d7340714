"""Convolutions of two arrays of one rank: see `numbaconv.signal`."""

from collections.abc import Sequence
from numbers import Complex
from typing import Any

import numpy as np

from numbaconv.blocks.calls import goes_by_blocks
from numbaconv.cpu.separable.borders import REFLECT
from numbaconv.cpu.separable.planning import Pass
from numbaconv.foreign import takes_foreign
from numbaconv.ndimage import reach
from numbaconv.ndimage.arguments import find_output
from numbaconv.ndimage.passes import apply, apply_complex_weights
from numbaconv.problem.libraries import is_lazy
from numbaconv.signal.arguments import (
    backend_of,
    check_mode,
    coefficients,
    convolved_axes,
    must_swap,
    numbers,
    two_of_one_rank,
)
from numbaconv.signal.sums import along, convolved, window

# What `numpy.pad` calls what lies outside.
_BOUNDARIES = {
    "fill": "constant",
    "pad": "constant",
    "wrap": "wrap",
    "circular": "wrap",
    "symm": "symmetric",
    "symmetric": "symmetric",
}


def convolve(in1: Any, in2: Any, mode: str = "full", method: str = "auto") -> np.ndarray:
    """Convolve two arrays of the same rank.

    Parameters
    ----------
    in1, in2 : array_like
        Arrays with as many axes. Beyond them are zeros.
    mode : {"full", "valid", "same"}, optional
        "full": every element that a product reaches. "valid": those in whose sum the smaller array
        lies inside of the other; one of them must be at least as large along every axis.
        "same": as many as `in1` has, from the middle of "full".
    method : {"auto", "direct", "fft"}, optional
        How the sums are made: results are the same up to rounding. Integers are exact.

    Returns
    -------
    ndarray
        Of the dtype that both promote to; integers wrap. Sums of bools are whether any product is
        true.

    Raises
    ------
    ValueError
        If the arrays have different ranks or none of them fits into the other, one of them is
        empty, or a word is unknown.
    TypeError
        If there are no kernels for a dtype.

    See Also
    --------
    numbaconv.conv : Many images, channels and filters at once, with strides.
    numbaconv.ndimage.convolve : Results of the image's size and dtype, and other borders.

    Examples
    --------
    >>> from numbaconv import signal
    >>> signal.convolve([1, 2, 3], [0, 1, 0.5], mode="same")
    array([1. , 2.5, 4. ])
    """
    x, w = two_of_one_rank(in1, in2)
    check_mode(mode)
    backend = backend_of(method)
    if x.ndim == 0:
        return _product(x, w)  # type: ignore[no-any-return]
    for name, array in (("in1", x), ("in2", w)):
        if array.size == 0:
            raise ValueError(f"{name} is empty: {array.shape}")
    return _along_axes(x, w, mode, tuple(range(x.ndim)), backend)


def correlate(in1: Any, in2: Any, mode: str = "full", method: str = "auto") -> np.ndarray:
    """Correlate two arrays of the same rank: `convolve` with the second turned round.

    Parameters are those of `convolve`. If `in2` is complex, it is conjugated.

    Returns
    -------
    ndarray
        As from `convolve`.

    Examples
    --------
    >>> from numbaconv import signal
    >>> signal.correlate([1, 2, 3], [0, 1, 0.5])
    array([0.5, 2. , 3.5, 3. , 0. ])
    """
    x, w = two_of_one_rank(in1, in2)
    return convolve(x, np.flip(_conjugate(w)), mode, method)


def fftconvolve(in1: Any, in2: Any, mode: str = "full", axes: Any = None) -> np.ndarray:
    """Convolve two arrays along some axes, by transforms or by sums, whichever are faster.

    Parameters
    ----------
    in1, in2 : array_like
        Arrays with as many axes. Axes that are not convolved are paired as NumPy broadcasts.
    mode : {"full", "valid", "same"}, optional
        As for `convolve`.
    axes : int or sequence of int, optional
        Axes along which the arrays are convolved: by default all of them.

    Returns
    -------
    ndarray
        Floating or complex: integers are converted to float64, and float16 to float32. It is empty
        if an array is.

    Raises
    ------
    ValueError, TypeError
        As for `convolve`; or if the other axes do not fit each other.

    Examples
    --------
    >>> import numpy as np
    >>> from numbaconv import signal
    >>> channels = np.arange(8.0).reshape(2, 4)
    >>> signal.fftconvolve(channels, [[1.0, 1.0], [1.0, -1.0]], axes=1)
    array([[ 0.,  1.,  3.,  5.,  3.],
           [ 4.,  1.,  1.,  1., -7.]])
    """
    x, w = two_of_one_rank(in1, in2)
    check_mode(mode)
    if x.ndim == 0:
        return _product(x, w)  # type: ignore[no-any-return]
    if x.size == 0 or w.size == 0:
        return np.empty(0)
    places = [axis for axis in convolved_axes(axes, x.ndim) if x.shape[axis] != 1 != w.shape[axis]]
    for axis in set(range(x.ndim)).difference(places):
        if len({x.shape[axis], w.shape[axis], 1}) > 2:
            raise ValueError(
                f"in1 and in2 of shapes {x.shape} and {w.shape} do not fit on axis {axis}"
            )
    if places:
        x, w = (_floating(each) for each in (x, w))
    return _along_axes(x, w, mode, tuple(places), backend_of("auto"))


def oaconvolve(in1: Any, in2: Any, mode: str = "full", axes: Any = None) -> np.ndarray:
    """Convolve two arrays along some axes, as `fftconvolve` does, whatever their sizes.

    Parameters are those of `fftconvolve`.

    Returns
    -------
    ndarray
        As from `fftconvolve`.

    Examples
    --------
    >>> from numbaconv import signal
    >>> signal.oaconvolve([1.0, 2.0, 3.0], [0.0, 1.0, 0.5])
    array([0. , 1. , 2.5, 4. , 1.5])
    """
    return fftconvolve(in1, in2, mode, axes)


def convolve2d(
    in1: Any, in2: Any, mode: str = "full", boundary: str = "fill", fillvalue: Any = 0
) -> np.ndarray:
    """Convolve two images.

    Parameters
    ----------
    in1, in2 : array_like
        Two-dimensional.
    mode : {"full", "valid", "same"}, optional
        As for `convolve`.
    boundary : {"fill", "wrap", "symm"}, optional
        What lies beyond `in1`: `fillvalue`, its other end, or its mirror image with the edge.
    fillvalue : scalar, optional
        The value of "fill".

    Returns
    -------
    ndarray
        Of the dtype that both promote to; integers wrap.

    Raises
    ------
    ValueError
        If an array is not two-dimensional or empty, none fits into the other, a word is unknown, or
        the result's dtype cannot hold `fillvalue`.
    TypeError
        If there are no kernels for a dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from numbaconv import signal
    >>> signal.convolve2d(np.eye(3, dtype=int), [[1, 2]], mode="same", boundary="wrap")
    array([[1, 2, 0],
           [0, 1, 2],
           [2, 0, 1]])
    """
    x, w = _two_images(in1, in2)
    check_mode(mode)
    if must_swap(mode, x.shape, w.shape, (0, 1)):
        x, w = w, x
    return _bounded(x, w, mode, boundary, fillvalue)


def correlate2d(
    in1: Any, in2: Any, mode: str = "full", boundary: str = "fill", fillvalue: Any = 0
) -> np.ndarray:
    """Correlate two images: `convolve2d` with the second turned round.

    Parameters are those of `convolve2d`. If `in2` is complex, it is conjugated.

    Returns
    -------
    ndarray
        As from `convolve2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from numbaconv import signal
    >>> signal.correlate2d(np.eye(3, dtype=int), [[1, 2]])
    array([[2, 1, 0, 0],
           [0, 2, 1, 0],
           [0, 0, 2, 1]])
    """
    x, w = _two_images(in1, in2)
    check_mode(mode)
    if must_swap(mode, x.shape, w.shape, (0, 1)):
        return np.flip(_bounded(w, np.flip(_conjugate(x)), mode, boundary, fillvalue))
    turned = np.flip(_conjugate(w))
    return _bounded(x, turned, mode, boundary, fillvalue, [n // 2 for n in w.shape])


def _of_rows_and_columns(given: dict[str, Any], _: int) -> reach.Reach:
    """How far `sepfir2d` looks along each axis."""
    lengths = (np.size(coefficients(name, given[name])) for name in ("hcol", "hrow"))
    return {axis: (length // 2, length // 2) for axis, length in enumerate(lengths)}


@goes_by_blocks(reach.filters(_of_rows_and_columns))
@takes_foreign
def sepfir2d(input: Any, hrow: Any, hcol: Any) -> np.ndarray:
    """Convolve the rows and the columns of an image with a kernel each.

    Beyond its edges the image is mirrored, with the edge element.

    Parameters
    ----------
    input : array_like
        Two-dimensional.
    hrow, hcol : array_like
        Kernels of odd length along the rows and along the columns; complex ones of complex images.

    Returns
    -------
    ndarray
        Of the input's shape; of float32 or complex64 where that holds the input, else of float64 or
        complex128.

    Raises
    ------
    ValueError
        If an array has another rank, or a kernel an even length.
    TypeError
        If an array for a kernel has more digits than the result, or is complex and the image real.

    Examples
    --------
    >>> import numpy as np
    >>> from numbaconv import signal
    >>> signal.sepfir2d(np.eye(3), [1, 2, 1], [0, 1, 0])
    array([[3., 1., 0.],
           [1., 2., 1.],
           [0., 1., 3.]])
    """
    x = numbers("input", input)
    if x.ndim != 2:
        raise ValueError(f"input must have two axes, got {x.ndim}")
    dtype = np.promote_types(x.dtype, np.float32)
    rows, columns = _taps("hrow", hrow, dtype), _taps("hcol", hcol, dtype)
    image: np.ndarray = x.astype(dtype, copy=False)
    if rows.dtype.kind == columns.dtype.kind == "f":
        return apply(image, find_output(None, image), [_turned(columns, 0), _turned(rows, 1)], 0.0)
    for axis, taps in ((1, rows), (0, columns)):

        def filtered(part: Any, real: Any, out: Any, cval: Any, axis: int = axis) -> np.ndarray:
            return apply(part, find_output(out, part), [_turned(real, axis)], cval)

        image = apply_complex_weights(image, taps, find_output(None, image), 0.0, filtered)
    return image


def _taps(name: str, kernel: Any, dtype: np.dtype[Any]) -> np.ndarray:
    """A kernel for an image of a dtype. What is no array has the digits that this has."""
    taps = coefficients(name, kernel)
    if taps.ndim != 1 or taps.size % 2 == 0:
        raise ValueError(f"{name} must have one axis of odd length, got {taps.shape}")
    if not np.can_cast(taps.dtype, dtype, "safe" if hasattr(kernel, "dtype") else "same_kind"):
        raise TypeError(f"{name} has dtype {taps.dtype}, which {dtype} does not hold")
    return taps.astype(np.complex128 if taps.dtype.kind == "c" else np.float64)


def _turned(taps: np.ndarray, axis: int) -> Pass:
    """The pass of a convolution along an axis."""
    return Pass(axis, tuple(taps[::-1].tolist()), taps.size // 2, REFLECT)


def _product(x: np.ndarray, w: np.ndarray) -> Any:
    """The product of two numbers."""
    product = x * w
    return product if is_lazy(product) else np.asarray(product)[()]


def _conjugate(w: np.ndarray) -> np.ndarray:
    return w.conj() if w.dtype.kind == "c" else w


def _floating(x: np.ndarray) -> np.ndarray:
    """An array as transforms take it."""
    if x.dtype == np.float16:
        return x.astype(np.float32)
    return x.astype(np.float64) if x.dtype.kind in "biu" else x


def _along_axes(
    x: np.ndarray, w: np.ndarray, mode: str, axes: tuple[int, ...], backend: str | None
) -> np.ndarray:
    """Convolve along some axes what is not empty, and pair the others."""
    if must_swap(mode, x.shape, w.shape, axes):
        x, w = w, x
    if mode == "same":  # also of an axis of filters, which has as many elements as `in1`
        for axis in range(x.ndim):
            if axis not in axes and x.shape[axis] == 1 < w.shape[axis]:
                middle = (w.shape[axis] - 1) // 2
                w = w[along(axis, slice(middle, middle + 1))]
    windows = {axis: window(mode, x.shape[axis], w.shape[axis]) for axis in axes}
    return convolved(x, w, windows, backend)


def _two_images(in1: Any, in2: Any) -> tuple[np.ndarray, np.ndarray]:
    x, w = numbers("in1", in1), numbers("in2", in2)
    for name, array in (("in1", x), ("in2", w)):
        if array.ndim != 2 or not array.size:
            raise ValueError(f"{name} must have two axes, none empty, got {array.shape}")
    return x, w


def _fill_value(value: Any, dtype: np.dtype[Any]) -> Any:
    """A constant as the result's dtype has it; integers keep all their digits."""
    number = np.ravel(value).tolist()[0] if np.size(value) == 1 else None
    if not isinstance(number, Complex):
        raise ValueError(f"fillvalue must be one number, got {value!r}")
    real: Any = number.real
    try:
        if dtype.kind == "c":
            return complex(number)
        if number.imag == 0 and dtype.kind not in "iu":
            return float(real)
        if number.imag == 0 and np.iinfo(dtype).min <= real <= np.iinfo(dtype).max:
            return int(real)
    except OverflowError:
        pass
    raise ValueError(f"fillvalue: {dtype} does not hold {value!r}")


def _bounded(
    x: np.ndarray,
    w: np.ndarray,
    mode: str,
    boundary: Any,
    fillvalue: Any,
    middle: Sequence[int] | None = None,
) -> np.ndarray:
    """Convolve an image that goes on beyond its edges with a kernel.

    `middle` is where "same" begins in the full result.
    """
    if not isinstance(boundary, str) or boundary not in _BOUNDARIES:
        raise ValueError(f"boundary must be one of {', '.join(_BOUNDARIES)}; got {boundary!r}")
    dtype = np.result_type(x, w)
    constant = _fill_value(fillvalue, dtype)
    windows = {axis: window(mode, x.shape[axis], w.shape[axis]) for axis in (0, 1)}
    if mode == "same" and middle is not None:
        windows = {axis: windows[axis]._replace(first=middle[axis]) for axis in (0, 1)}
    how = _BOUNDARIES[boundary]
    if how == "constant" and constant == 0:
        return convolved(x, w, windows)
    beyond = []
    for axis, (first, count) in windows.items():
        before = max(w.shape[axis] - 1 - first, 0)
        beyond.append((before, max(first + count - x.shape[axis], 0)))
        windows[axis] = windows[axis]._replace(first=first + before)
    options = {"constant_values": constant} if how == "constant" else {}
    return convolved(_padded(x.astype(dtype, copy=False), beyond, how, options), w, windows)


def _padded(x: Any, beyond: list[tuple[int, int]], how: str, options: dict[str, Any]) -> Any:
    """An image with more elements beyond its edges."""
    if is_lazy(x) and any(max(pair) > n for pair, n in zip(beyond, x.shape, strict=True)):
        # Dask's pad does not repeat patterns, and such an image is small.
        shape = tuple(n + sum(pair) for pair, n in zip(beyond, x.shape, strict=True))
        return x.rechunk(-1).map_blocks(np.pad, beyond, how, **options, dtype=x.dtype, chunks=shape)
    return np.pad(x, beyond, how, **options)  # type: ignore[call-overload]
