"""FIR filters of signals that arrive in blocks: see `numbaconv.signal`."""

from typing import Any

import numpy as np

from numbaconv.ndimage.arguments import axis_index
from numbaconv.problem.libraries import is_lazy
from numbaconv.problem.validation import unmasked
from numbaconv.runtime.capture import add, converted
from numbaconv.signal.arguments import array_of
from numbaconv.signal.sums import Window, along, convolved


def lfilter(b: Any, a: Any, x: Any, axis: int = -1, zi: Any = None) -> Any:
    """Filter signals along an axis with an FIR filter, from a state to a state.

    Parameters
    ----------
    b : array_like
        Coefficients, one-dimensional: ``y[n] = (b[0] x[n] + b[1] x[n - 1] + ...) / a[0]``.
    a : array_like
        One number, by which the coefficients are divided.
    x : array_like
        Signals of any rank.
    axis : int, optional
        Axis of time.
    zi : array_like, optional
        State before the first sample: of the shape of `x`, but with ``len(b) - 1`` elements along
        `axis`, which are added to the first results. Other axes may be 1. By default zeros, and no
        state is returned.

    Returns
    -------
    y : ndarray
        Result of the shape of `x`, of the dtype that all arrays promote to. A plain integer as `a`
        counts as int64, so that float32 signals become float64: pass ``np.float32(1)``.
    zf : ndarray
        State after the last sample, if `zi` was given: the `zi` of the next block.

    Raises
    ------
    NotImplementedError
        If `a` has more than one coefficient, which is work for `scipy.signal.lfilter`, or the
        arrays promote to a dtype that is neither float32, float64, complex64 nor complex128.
    ValueError
        If an array has the wrong shape.

    Notes
    -----
    The state is that of the transposed direct form: what the samples so far add to each of the next
    ``len(b) - 1`` results [1]_.

    References
    ----------
    .. [1] A. V. Oppenheim, R. W. Schafer, "Discrete-Time Signal Processing", section 6.3.

    Examples
    --------
    A stream of two channels, in blocks, is filtered as if it were whole:

    >>> import numpy as np
    >>> from numbaconv import signal
    >>> x = np.arange(20.0).reshape(2, 10)
    >>> b, state = [0.5, 0.25, 0.25], np.zeros((2, 2))
    >>> blocks = []
    >>> for block in np.split(x, 5, axis=1):
    ...     y, state = signal.lfilter(b, 1, block, zi=state)
    ...     blocks.append(y)
    >>> np.array_equal(np.concatenate(blocks, 1), signal.lfilter(b, 1, x))
    True
    """
    y = filtered(b, a, x, axis, zi)
    if zi is None:
        return y
    size = np.shape(x)[axis]
    return y[along(axis % y.ndim, slice(size))], y[along(axis % y.ndim, slice(size, None))].copy()


def filtered(b: Any, a: Any, x: Any, axis: int, zi: Any) -> np.ndarray:
    """Filter signals as `lfilter` does; behind the results the state after them, if `zi` is given.

    Parameters are those of `lfilter`.
    """
    b, a = np.atleast_1d(unmasked("b", b)), np.atleast_1d(unmasked("a", a))
    x = array_of("x", x)
    for name, coefficients in (("b", b), ("a", a)):
        if coefficients.ndim != 1 or not coefficients.size:
            raise ValueError(f"{name} must have one axis and an element, got {coefficients.shape}")
    if a.size > 1:
        raise NotImplementedError(
            f"a must have one coefficient, got {a.size}: filters with feedback are work for "
            "scipy.signal.lfilter"
        )
    if x.ndim == 0:
        raise ValueError("x must have an axis")
    axis = axis_index(axis, x.ndim)
    if not x.size:
        raise ValueError(f"x is empty: {x.shape}")
    size, memory = x.shape[axis], b.size - 1
    arrays = [b, a, x]
    if zi is not None:
        zi = _state(array_of("zi", zi), x.shape, axis, memory)
        arrays.append(zi)
    dtype = np.result_type(*arrays)
    if dtype.char not in "fdFD":
        raise NotImplementedError(f"arrays that promote to dtype {dtype} are not supported")
    shape = [1] * x.ndim
    shape[axis] = b.size
    taps = (b.astype(dtype) / a.astype(dtype)).reshape(shape)
    x = converted(x, dtype)
    if zi is None:
        return convolved(x, taps, {axis: Window(0, size)})
    y = convolved(x, taps, {axis: Window(0, size + memory)})
    if is_lazy(y) or is_lazy(zi):
        begin, rest = y[along(axis, slice(memory))], y[along(axis, slice(memory, None))]
        return np.concatenate([begin + zi, rest], axis)
    add(y[along(axis, slice(memory))], zi)
    return y


def _state(zi: np.ndarray, shape: tuple[int, ...], axis: int, memory: int) -> np.ndarray:
    """A state as an array of its whole shape."""
    whole = *shape[:axis], memory, *shape[axis + 1 :]
    if zi.ndim != len(shape) or zi.shape[axis] != memory:
        raise ValueError(f"zi must have the shape {whole}, got {zi.shape}")
    try:
        return np.broadcast_to(zi, whole)
    except ValueError:
        raise ValueError(f"zi must have the shape {whole}, got {zi.shape}") from None
