"""The filters of `scipy.ndimage` that are sums: see `numbaconv.ndimage`."""

import operator
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from numbaconv.blocks.calls import goes_by_blocks
from numbaconv.cpu.separable.borders import CONSTANT
from numbaconv.cpu.separable.planning import Pass
from numbaconv.foreign import takes_foreign
from numbaconv.ndimage import reach
from numbaconv.ndimage.arguments import (
    MODES,
    TRUNCATE,
    axis_index,
    axis_indices,
    check_origin,
    check_rounding,
    find_output,
    mode_code,
    sequence,
)
from numbaconv.ndimage.gaussian import gaussian_radius, listed_weights
from numbaconv.ndimage.kernels import factors, kernel_of, window_of
from numbaconv.ndimage.missing import (
    PROPAGATE,
    apply_to_valid,
    find_gaps,
    find_mask,
    has_constant_border,
)
from numbaconv.ndimage.passes import apply, apply_complex_weights
from numbaconv.problem.validation import unmasked
from numbaconv.runtime.capture import add, assign, clear


def _take_root(out: np.ndarray) -> None:
    """Take the root in place, cut off in integers."""
    # By itself NumPy goes by float16 from bytes, which takes longer than all else.
    dtype = np.float32 if out.dtype == np.uint8 else None
    np.sqrt(out, out, dtype=dtype, casting="unsafe")


def _real_pass(weights: tuple[float, ...], axis: int, mode: Any, origin: Any) -> Pass:
    """A pass under real weights."""
    before = len(weights) // 2 + check_origin(origin, len(weights))
    return Pass(axis, weights, before, mode_code(mode))


@goes_by_blocks(reach.filters(reach.of_line))
@takes_foreign
def correlate1d(
    input: Any,
    weights: Any,
    axis: int = -1,
    output: Any = None,
    mode: str = "reflect",
    cval: Any = 0.0,
    origin: int = 0,
    *,
    rounding: str = TRUNCATE,
) -> np.ndarray:
    """Correlate each line along an axis with weights.

    Parameters
    ----------
    input : array_like
        Image of any rank.
    weights : array_like
        One-dimensional.
    axis : int, optional
        Axis along which the weights lie.
    output : ndarray or dtype, optional
        Where results are stored, or their dtype: by default the input's, also of integers.
    mode : str, optional
        What lies outside of the image, of `reflect`, `mirror`, `nearest`, `wrap`, `constant`.
    cval : scalar, optional
        The constant of mode `constant`.
    origin : int, optional
        How far the weights are shifted to the left.
    rounding : {"truncate", "saturate"}, optional
        How integers are stored: cut off, as SciPy does, or rounded half to even and clipped.

    Returns
    -------
    ndarray
        Result of the input's shape.

    Raises
    ------
    RuntimeError
        If there are no weights, the mode is unknown, an output has the wrong shape, or there are no
        kernels for a dtype: SciPy's errors.
    ValueError
        If the origin lies outside of the weights.

    Examples
    --------
    >>> from numbaconv import ndimage
    >>> ndimage.correlate1d([2, 8, 0, 4, 1, 9, 9, 0], weights=[1, 3])
    array([ 8, 26,  8, 12,  7, 28, 36,  9])
    """
    image, weights = unmasked("input", input), unmasked("weights", weights)
    rounds = check_rounding(rounding)
    is_complex = "c" in image.dtype.kind + weights.dtype.kind
    out = find_output(output, image, is_complex)
    if weights.dtype.kind == "c":

        def filtered(x: Any, w: Any, y: Any, constant: Any) -> np.ndarray:
            return correlate1d(x, w, axis, y, mode, constant, origin, rounding=rounding)

        return apply_complex_weights(image, weights.conj(), out, cval, filtered)
    weights = np.asarray(weights, np.float64)
    if weights.ndim != 1 or not weights.size:
        raise RuntimeError("weights: no filter weights given")
    listed = tuple(weights.tolist())
    work = [_real_pass(listed, axis_index(axis, image.ndim), mode, origin)]
    return apply(image, out, work, cval, rounds)


@goes_by_blocks(reach.filters(reach.of_turned_line))
@takes_foreign
def convolve1d(
    input: Any,
    weights: Any,
    axis: int = -1,
    output: Any = None,
    mode: str = "reflect",
    cval: Any = 0.0,
    origin: int = 0,
    *,
    rounding: str = TRUNCATE,
) -> np.ndarray:
    """Convolve each line along an axis with weights: `correlate1d` with the weights turned round.

    Parameters are those of `correlate1d`.

    Returns
    -------
    ndarray
        Result of the input's shape.

    Examples
    --------
    >>> from numbaconv import ndimage
    >>> ndimage.convolve1d([2, 8, 0, 4, 1, 9, 9, 0], weights=[1, 3])
    array([14, 24,  4, 13, 12, 36, 27,  0])
    """
    weights = unmasked("weights", weights)[::-1]
    origin = -origin
    if not weights.shape[0] & 1:
        origin -= 1
    if weights.dtype.kind == "c":
        weights = weights.conj()  # `correlate1d` does so too
    return correlate1d(input, weights, axis, output, mode, cval, origin, rounding=rounding)


@goes_by_blocks(reach.filters(reach.of_gaussian_line))
@takes_foreign
def gaussian_filter1d(
    input: Any,
    sigma: Any,
    axis: int = -1,
    order: int = 0,
    output: Any = None,
    mode: str = "reflect",
    cval: Any = 0.0,
    truncate: float = 4.0,
    *,
    radius: int | None = None,
    rounding: str = TRUNCATE,
) -> np.ndarray:
    """Smooth each line along an axis with a Gaussian, or with a derivative of it.

    Parameters are those of `gaussian_filter`, for one axis.

    Returns
    -------
    ndarray
        Result of the input's shape.

    Examples
    --------
    >>> from numbaconv import ndimage
    >>> ndimage.gaussian_filter1d([1.0, 2.0, 3.0, 4.0, 5.0], 1)
    array([1.42704095, 2.06782203, 3.        , 3.93217797, 4.57295905])
    """
    weights = listed_weights(sigma, order, gaussian_radius(sigma, truncate, radius))
    return correlate1d(input, weights, axis, output, mode, cval, 0, rounding=rounding)


@goes_by_blocks(reach.filters(reach.of_gaussian))
@takes_foreign
def gaussian_filter(
    input: Any,
    sigma: Any,
    order: Any = 0,
    output: Any = None,
    mode: Any = "reflect",
    cval: Any = 0.0,
    truncate: float = 4.0,
    *,
    radius: Any = None,
    axes: Any = None,
    rounding: str = TRUNCATE,
    nan: str = PROPAGATE,
    mask: Any = None,
    min_weight: float = 0.0,
) -> np.ndarray:
    """Smooth an image of any rank with a Gaussian.

    Up to 256 taps, all axes are smoothed in one walk over the image, without an array between them.

    Parameters
    ----------
    input : array_like
        Image.
    sigma : float or sequence of float
        Standard deviation, along all axes or along each.
    order : int or sequence of int, optional
        0: smooth. n: the n-th derivative of the Gaussian.
    output : ndarray or dtype, optional
        Where results are stored, or their dtype: by default the input's, also of integers.
    mode : str or sequence of str, optional
        What lies outside of the image, of `reflect`, `mirror`, `nearest`, `wrap`, `constant`.
    cval : scalar, optional
        The constant of mode `constant`.
    truncate : float, optional
        Standard deviations at which the Gaussian ends.
    radius : int or sequence of int, optional
        Elements on either side of the middle, in place of `truncate`.
    axes : int or tuple of int, optional
        Axes that are smoothed: by default all of them.
    rounding : {"truncate", "saturate"}, optional
        How integers are stored: cut off after each axis, as SciPy does, or rounded half to even and
        clipped, once.
    nan, mask, min_weight
        As for `correlate`. Derivatives have no mean: nothing may be missing.

    Returns
    -------
    ndarray
        Result of the input's shape.

    Raises
    ------
    RuntimeError, ValueError
        As SciPy does: see `correlate1d`.

    Examples
    --------
    >>> import numpy as np
    >>> from numbaconv import ndimage
    >>> image = np.arange(50, step=2).reshape(5, 5)
    >>> ndimage.gaussian_filter(image, sigma=1)
    array([[ 4,  6,  8,  9, 11],
           [10, 12, 14, 15, 17],
           [20, 22, 24, 25, 27],
           [29, 31, 33, 34, 36],
           [35, 37, 39, 40, 42]])
    """
    image, mask = find_mask(input, mask)
    rounds = check_rounding(rounding)
    out = find_output(output, image)
    places = axis_indices(axes, image.ndim)
    settings = zip(
        places,
        sequence(order, len(places), "order"),
        sequence(sigma, len(places), "sigma"),
        sequence(mode, len(places), "mode"),
        sequence(radius, len(places), "radius"),
        strict=True,
    )
    work = []
    for axis, axis_order, axis_sigma, axis_mode, axis_radius in settings:
        if axis_sigma > 1e-15:
            size = gaussian_radius(axis_sigma, truncate, axis_radius)
            weights = listed_weights(axis_sigma, axis_order, size)
            work.append(_real_pass(weights, axis, axis_mode, 0))
    missing = nan, mask, min_weight
    return _apply_or_copy(image, out, work, cval, rounds, missing, derives=bool(np.any(order)))


def _apply_or_copy(
    image: np.ndarray,
    out: np.ndarray,
    work: list[Pass],
    cval: Any,
    rounds: bool,
    missing: tuple[Any, Any, Any],
    derives: bool = False,
) -> np.ndarray:
    """Make passes, if there are any. `missing` are the options `nan`, `mask` and `min_weight`."""
    gaps = find_gaps(image, (cval, has_constant_border(work)), *missing)
    if gaps is not None:
        if derives:
            raise ValueError("order must be 0 where values are missing")
        return apply_to_valid(image, out, work, cval, rounds, gaps)
    if work:
        return apply(image, out, work, cval, rounds)
    assign(out, image)
    return out


def _box(size: int, axis: int, mode: Any, origin: Any) -> Pass:
    """The pass of a mean."""
    if not 0 <= size // 2 + origin < size:
        raise ValueError(f"invalid origin: {origin} of {size} elements")
    before = size // 2 + operator.index(origin)
    return Pass(axis, (1.0,) * operator.index(size), before, mode_code(mode), int(size))


@goes_by_blocks(reach.filters(reach.of_box_line))
@takes_foreign
def uniform_filter1d(
    input: Any,
    size: int,
    axis: int = -1,
    output: Any = None,
    mode: str = "reflect",
    cval: Any = 0.0,
    origin: int = 0,
    *,
    rounding: str = TRUNCATE,
) -> np.ndarray:
    """Take the mean of `size` neighbours along an axis.

    The other parameters are those of `correlate1d`. NaN stays within its window.

    Returns
    -------
    ndarray
        Result of the input's shape.

    Examples
    --------
    >>> from numbaconv import ndimage
    >>> ndimage.uniform_filter1d([2, 8, 0, 4, 1, 9, 9, 0], size=3)
    array([4, 3, 4, 1, 4, 6, 6, 3])
    """
    image = unmasked("input", input)
    rounds = check_rounding(rounding)
    axis = axis_index(axis, image.ndim)
    if size < 1:
        raise RuntimeError(f"size: incorrect filter size: {size}")
    out = find_output(output, image, image.dtype.kind == "c")
    return apply(image, out, [_box(size, axis, mode, origin)], cval, rounds)


@goes_by_blocks(reach.filters(reach.of_box))
@takes_foreign
def uniform_filter(
    input: Any,
    size: Any = 3,
    output: Any = None,
    mode: Any = "reflect",
    cval: Any = 0.0,
    origin: Any = 0,
    *,
    axes: Any = None,
    rounding: str = TRUNCATE,
    nan: str = PROPAGATE,
    mask: Any = None,
    min_weight: float = 0.0,
) -> np.ndarray:
    """Take the mean of a box around each element.

    Parameters
    ----------
    input : array_like
        Image of any rank.
    size : int or sequence of int, optional
        Elements of the box, along all axes or along each.
    output, mode, cval
        As for `gaussian_filter`.
    origin : int or sequence of int, optional
        How far the box is shifted to the left.
    axes, rounding
        As for `gaussian_filter`.
    nan, mask, min_weight
        As for `correlate`.

    Returns
    -------
    ndarray
        Result of the input's shape. NaN stays within its box.

    Examples
    --------
    >>> import numpy as np
    >>> from numbaconv import ndimage
    >>> ndimage.uniform_filter(np.eye(4), 3, mode="constant").round(2)
    array([[0.22, 0.22, 0.11, 0.  ],
           [0.22, 0.33, 0.22, 0.11],
           [0.11, 0.22, 0.33, 0.22],
           [0.  , 0.11, 0.22, 0.22]])
    """
    image, mask = find_mask(input, mask)
    rounds = check_rounding(rounding)
    out = find_output(output, image, image.dtype.kind == "c")
    places = axis_indices(axes, image.ndim)
    settings = zip(
        places,
        sequence(size, len(places), "size"),
        sequence(mode, len(places), "mode"),
        sequence(origin, len(places), "origin"),
        strict=True,
    )
    work = [
        _box(int(axis_size), axis, axis_mode, axis_origin)
        for axis, axis_size, axis_mode, axis_origin in settings
        if axis_size > 1
    ]
    return _apply_or_copy(image, out, work, cval, rounds, (nan, mask, min_weight))


def _edges(
    input: Any,
    axis: int,
    output: Any,
    mode: Any,
    cval: Any,
    smooth: tuple[float, ...],
    rounding: str,
) -> np.ndarray:
    """A difference along one axis, smoothed along all others."""
    image = unmasked("input", input)
    rounds = check_rounding(rounding)
    axis = axis_index(axis, image.ndim)
    out = find_output(output, image)
    modes = [mode_code(each) for each in sequence(mode, image.ndim, "mode")]
    work = [Pass(axis, (-1.0, 0.0, 1.0), 1, modes[axis])]
    work += [Pass(i, smooth, 1, modes[i]) for i in range(image.ndim) if i != axis]
    return apply(image, out, work, cval, rounds)


@goes_by_blocks(reach.filters(reach.of_neighbours))
@takes_foreign
def sobel(
    input: Any,
    axis: int = -1,
    output: Any = None,
    mode: Any = "reflect",
    cval: Any = 0.0,
    *,
    rounding: str = TRUNCATE,
) -> np.ndarray:
    """Take the difference of an element's two neighbours along an axis, smoothed along the others.

    Weights are [-1, 0, 1] along the axis and [1, 2, 1] along all others, not normalised: a uint8
    image wraps. Ask for a signed `output`, or for ``rounding="saturate"``.

    Parameters are those of `correlate1d`; `mode` may be a sequence, one for each axis.

    Returns
    -------
    ndarray
        Result of the input's shape.

    Examples
    --------
    >>> import numpy as np
    >>> from numbaconv import ndimage
    >>> ndimage.sobel(np.array([[0, 0, 10, 10]] * 3, np.uint8), output=np.int16)
    array([[ 0, 40, 40,  0],
           [ 0, 40, 40,  0],
           [ 0, 40, 40,  0]], dtype=int16)
    """
    return _edges(input, axis, output, mode, cval, (1.0, 2.0, 1.0), rounding)


@goes_by_blocks(reach.filters(reach.of_neighbours))
@takes_foreign
def prewitt(
    input: Any,
    axis: int = -1,
    output: Any = None,
    mode: Any = "reflect",
    cval: Any = 0.0,
    *,
    rounding: str = TRUNCATE,
) -> np.ndarray:
    """Take differences as `sobel` does, with [1, 1, 1] along the other axes.

    Returns
    -------
    ndarray
        Result of the input's shape.
    """
    return _edges(input, axis, output, mode, cval, (1.0, 1.0, 1.0), rounding)


class _Derivatives(NamedTuple):
    """What is added up along the axes: what a function returns, or the squares of that."""

    function: Callable[..., np.ndarray]
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    squares: bool

    def along(self, image: np.ndarray, axis: int, out: Any, mode: Any, cval: Any) -> np.ndarray:
        """Return what the function makes of an axis; `out` is its output, or the dtype of one."""
        return self.function(image, axis, out, mode, cval, *self.arguments, **self.keywords)


def _added_up(
    input: Any, work: _Derivatives, output: Any, mode: Any, cval: Any, axes: Any
) -> np.ndarray:
    """Add up derivatives along the axes; of squares, take the root of the sum."""
    image = unmasked("input", input)
    out = find_output(output, image)
    if out is not output:
        clear(out)  # for functions that do not store into it
    places = axis_indices(axes, image.ndim)
    if not places:
        assign(out, image)
        return out
    modes = sequence(mode, len(places), "mode")
    work.along(image, places[0], out, modes[0], cval)
    if work.squares:
        np.multiply(out, out, out)
    for axis, axis_mode in zip(places[1:], modes[1:], strict=True):
        part = work.along(image, axis, out.dtype, axis_mode, cval)
        if work.squares:
            np.multiply(part, part, part)
        add(out, part)
    if work.squares:
        _take_root(out)
    return out


@goes_by_blocks(reach.filters(reach.of_derivatives("derivative2"), one_mode=True))
@takes_foreign
def generic_laplace(
    input: Any,
    derivative2: Callable[..., np.ndarray],
    output: Any = None,
    mode: Any = "reflect",
    cval: Any = 0.0,
    extra_arguments: tuple[Any, ...] = (),
    extra_keywords: dict[str, Any] | None = None,
    *,
    axes: Any = None,
) -> np.ndarray:
    """Add up second derivatives, which a function takes, along the axes.

    Parameters
    ----------
    input : array_like
        Image of any rank.
    derivative2 : callable
        ``derivative2(input, axis, output, mode, cval, *extra_arguments, **extra_keywords)``; its
        output is an array or a dtype. With a Dask image a function of this module, of which is
        known how far it looks.
    output, mode, cval
        As for `gaussian_filter`.
    extra_arguments, extra_keywords
        Passed on to `derivative2`.
    axes
        As for `gaussian_filter`.

    Returns
    -------
    ndarray
        Result of the input's shape.
    """
    work = _Derivatives(derivative2, extra_arguments, extra_keywords or {}, squares=False)
    return _added_up(input, work, output, mode, cval, axes)


@goes_by_blocks(reach.filters(reach.of_derivatives("derivative"), one_mode=True))
@takes_foreign
def generic_gradient_magnitude(
    input: Any,
    derivative: Callable[..., np.ndarray],
    output: Any = None,
    mode: Any = "reflect",
    cval: Any = 0.0,
    extra_arguments: tuple[Any, ...] = (),
    extra_keywords: dict[str, Any] | None = None,
    *,
    axes: Any = None,
) -> np.ndarray:
    """Take the root of the sum of squares of derivatives, which a function takes, along the axes.

    Parameters are those of `generic_laplace`, with `derivative` in the place of `derivative2`; what
    it returns is overwritten.

    Returns
    -------
    ndarray
        Result of the input's shape.
    """
    work = _Derivatives(derivative, extra_arguments, extra_keywords or {}, squares=True)
    return _added_up(input, work, output, mode, cval, axes)


@goes_by_blocks(reach.filters(reach.of_neighbours))
@takes_foreign
def laplace(
    input: Any, output: Any = None, mode: Any = "reflect", cval: Any = 0.0, *, axes: Any = None
) -> np.ndarray:
    """Add up second differences, [1, -2, 1], along the axes.

    Parameters are those of `gaussian_filter`.

    Returns
    -------
    ndarray
        Result of the input's shape.

    Examples
    --------
    >>> import numpy as np
    >>> from numbaconv import ndimage
    >>> ndimage.laplace(np.arange(5) ** 2)
    array([ 1,  2,  2,  2, -7])
    """

    def derivative2(x: Any, axis: int, out: Any, axis_mode: Any, constant: Any) -> np.ndarray:
        return correlate1d(x, [1, -2, 1], axis, out, axis_mode, constant)

    return generic_laplace(input, derivative2, output, mode, cval, axes=axes)


def _sigmas(sigma: Any, places: tuple[int, ...], ndim: int) -> Any:
    """Sigma of each axis, 0 for those that are not filtered."""
    sigmas = [0] * ndim
    for axis, each in zip(places, sequence(sigma, len(places), "sigma"), strict=True):
        sigmas[axis] = each
    return sigmas


def _gaussian_derivative(order: int, **options: Any) -> Callable[..., np.ndarray]:
    """A function that takes a derivative of some order along an axis, and smooths all others."""

    def derivative(
        x: Any, axis: int, out: Any, mode: Any, cval: Any, sigma: Any, **keywords: Any
    ) -> np.ndarray:
        orders = [0] * x.ndim
        orders[axis] = order
        return gaussian_filter(x, sigma, orders, out, mode, cval, **keywords)

    return derivative


@goes_by_blocks(reach.filters(reach.of_gaussian_derivatives, one_mode=True))
@takes_foreign
def gaussian_laplace(
    input: Any,
    sigma: Any,
    output: Any = None,
    mode: Any = "reflect",
    cval: Any = 0.0,
    *,
    axes: Any = None,
    **kwargs: Any,
) -> np.ndarray:
    """Add up second derivatives of a Gaussian along the axes.

    Parameters are those of `gaussian_filter`, to which others are passed on.

    Returns
    -------
    ndarray
        Result of the input's shape.
    """
    image = unmasked("input", input)
    places = axis_indices(axes, image.ndim)
    sigmas = _sigmas(sigma, places, image.ndim)
    return generic_laplace(
        image, _gaussian_derivative(2), output, mode, cval, (sigmas,), kwargs, axes=axes
    )


@goes_by_blocks(reach.filters(reach.of_gaussian_derivatives, one_mode=True))
@takes_foreign
def gaussian_gradient_magnitude(
    input: Any,
    sigma: Any,
    output: Any = None,
    mode: Any = "reflect",
    cval: Any = 0.0,
    *,
    axes: Any = None,
    **kwargs: Any,
) -> np.ndarray:
    """Take the root of the sum of squares of first derivatives of a Gaussian along the axes.

    Parameters are those of `gaussian_filter`, to which others are passed on.

    Returns
    -------
    ndarray
        Result of the input's shape.
    """
    return generic_gradient_magnitude(
        input, _gaussian_derivative(1), output, mode, cval, (sigma,), kwargs, axes=axes
    )


def _correlate(
    input: Any,
    weights: Any,
    output: Any,
    mode: Any,
    cval: Any,
    origin: Any,
    axes: Any,
    rounding: str,
    missing: tuple[Any, Any, Any],
    turned: bool,
) -> np.ndarray:
    """Correlate an image with weights, or, where they are turned round, convolve.

    `missing` are the options `nan`, `mask` and `min_weight`.
    """
    nan, mask, min_weight = missing
    image, mask = find_mask(input, mask)
    weights = unmasked("weights", weights)
    rounds = check_rounding(rounding)
    is_constant = isinstance(mode, str) and MODES.get(mode) == CONSTANT
    gaps = find_gaps(image, (cval, is_constant), nan, mask, min_weight)
    if weights.dtype.kind == "c":
        if gaps is not None:
            raise ValueError("weights must be real where values are missing")
        none = PROPAGATE, None, 0.0

        def filtered(x: Any, w: Any, y: Any, constant: Any) -> np.ndarray:
            return _correlate(x, w, y, mode, constant, origin, axes, rounding, none, turned)

        out = find_output(output, image, is_complex=True)
        weights = weights if turned else weights.conj()
        return apply_complex_weights(image, weights, out, cval, filtered)
    places = axis_indices(axes, image.ndim)
    weights, origins = window_of(image, weights, origin, places, turned)
    out = find_output(output, image, image.dtype.kind == "c")
    if not isinstance(mode, str) and isinstance(mode, Iterable):
        raise RuntimeError("mode: a sequence of modes is not supported")
    code = mode_code(mode)
    floats = image.dtype.kind in "fc" and out.dtype.kind in "fc"
    # What a pass makes of a constant is another.
    borders = not is_constant or (not np.any(cval) if gaps is None else gaps.edges)
    passes = factors(weights, origins, code, image.dtype) if floats and borders else None
    work = passes or kernel_of(weights, origins, code)
    if gaps is not None:
        return apply_to_valid(image, out, work, cval, rounds, gaps)
    if work is None:
        clear(out)
        return out
    return apply(image, out, work, cval, rounds)


@goes_by_blocks(reach.filters(reach.of_kernel))
@takes_foreign
def correlate(
    input: Any,
    weights: Any,
    output: Any = None,
    mode: str = "reflect",
    cval: Any = 0.0,
    origin: Any = 0,
    *,
    axes: Any = None,
    rounding: str = TRUNCATE,
    nan: str = PROPAGATE,
    mask: Any = None,
    min_weight: float = 0.0,
) -> np.ndarray:
    """Correlate an image of any rank with weights: the sum of products around each element.

    Parameters
    ----------
    input : array_like
        Image.
    weights : array_like
        Of the image's rank, or with as many axes as `axes` has. Complex weights are conjugated.
        Under a weight of zero NaN does not spread.
    output : ndarray or dtype, optional
        Where results are stored, or their dtype: by default the input's, also of integers.
    mode : str, optional
        What lies outside of the image, of `reflect`, `mirror`, `nearest`, `wrap`, `constant`.
    cval : scalar, optional
        The constant of mode `constant`.
    origin : int or sequence of int, optional
        How far the weights are shifted to the left.
    axes : tuple of int, optional
        Axes along which the weights lie: by default all of them.
    rounding : {"truncate", "saturate"}, optional
        How integers are stored: cut off, as SciPy does, or rounded half to even and clipped.
    nan : {"propagate", "omit"}, optional
        "omit": NaN is a missing value. It is left out, and the other weights grow by what all
        weights are over theirs. NaN as `cval` makes what lies outside missing, too. Where nothing
        is missing, results are those of "propagate" to the last bit.
    mask : array_like of bool or PreparedMask, optional
        True where values are valid; others are missing, whatever they are. It is broadcast. What a
        masked array masks is missing too. With a Dask image it may be a Dask array.
    min_weight : float, optional
        The part of the weights, by their absolute values, that has to meet values. Results with
        less are NaN, and those without any always.

    Returns
    -------
    ndarray
        Result of the input's shape.

    Raises
    ------
    RuntimeError, ValueError
        As SciPy does: see `correlate1d`. Or if values are missing, and the weights are complex or
        add up to zero, or an integer output would have to hold a missing result.

    Examples
    --------
    >>> import numpy as np
    >>> from numbaconv import ndimage
    >>> image = np.arange(25).reshape(5, 5)
    >>> ndimage.correlate(image, [[0, 1, 0], [1, 1, 1], [0, 1, 0]])
    array([[  6,  10,  15,  20,  24],
           [ 26,  30,  35,  40,  44],
           [ 51,  55,  60,  65,  69],
           [ 76,  80,  85,  90,  94],
           [ 96, 100, 105, 110, 114]])
    """
    missing = nan, mask, min_weight
    return _correlate(
        input, weights, output, mode, cval, origin, axes, rounding, missing, turned=False
    )


@goes_by_blocks(reach.filters(reach.of_turned_kernel))
@takes_foreign
def convolve(
    input: Any,
    weights: Any,
    output: Any = None,
    mode: str = "reflect",
    cval: Any = 0.0,
    origin: Any = 0,
    *,
    axes: Any = None,
    rounding: str = TRUNCATE,
    nan: str = PROPAGATE,
    mask: Any = None,
    min_weight: float = 0.0,
) -> np.ndarray:
    """Convolve an image of any rank with weights: `correlate` with the weights turned round.

    Parameters are those of `correlate`. Complex weights are not conjugated.

    Returns
    -------
    ndarray
        Result of the input's shape.

    Examples
    --------
    >>> import numpy as np
    >>> from numbaconv import ndimage
    >>> ndimage.convolve([1, 0, 0, 2], [1, 2, 3], mode="constant")
    array([2, 3, 2, 4])
    """
    missing = nan, mask, min_weight
    return _correlate(
        input, weights, output, mode, cval, origin, axes, rounding, missing, turned=True
    )
