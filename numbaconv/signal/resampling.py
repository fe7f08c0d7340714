"""Filters between sampling rates, by phases: see `numbaconv.signal`."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numbaconv.blocks.calls import ByBlocks, goes_by_blocks
from numbaconv.blocks.regions import Along, Read, Resampled
from numbaconv.cpu.separable.execution import new_array
from numbaconv.cpu.separable.resampling import Phase, Rates, resample
from numbaconv.foreign import lazily
from numbaconv.ndimage.arguments import axis_index
from numbaconv.problem.libraries import is_lazy
from numbaconv.signal.arguments import coefficients, numbers, rate
from numbaconv.signal.extension import MODES, ends_of, lazily_extended

# What is taken from the signal, and added to the result, in place of something beyond its ends.
_BACKGROUNDS: dict[str, Callable[..., Any]] = {
    "mean": np.mean,
    "median": np.median,
    "minimum": np.min,
    "maximum": np.max,
}

# Windows that NumPy has; others are SciPy's to design.
_WINDOWS: dict[str, Callable[[int], Any]] = {
    "boxcar": np.ones,
    "hamming": np.hamming,
    "hann": np.hanning,
    "bartlett": np.bartlett,
    "blackman": np.blackman,
}


def upfirdn(
    h: Any,
    x: Any,
    up: int = 1,
    down: int = 1,
    axis: int = -1,
    mode: str = "constant",
    cval: float = 0,
) -> np.ndarray:
    """Insert zeros between samples, filter, and take each `down`-th result.

    Only results that are kept are computed, and no product with an inserted zero.

    Parameters
    ----------
    h : array_like
        Coefficients of the filter, one-dimensional.
    x : array_like
        Signals of any rank.
    up : int, optional
        Factor by which the rate grows: ``up - 1`` zeros follow each sample.
    down : int, optional
        Factor by which it is divided.
    axis : int, optional
        Axis of time.
    mode : str, optional
        What lies beyond the ends: "constant"; "wrap", "edge", "symmetric" or "reflect" as in
        `numpy.pad`; "antisymmetric", with the other sign; "antireflect", turned by half a turn;
        "smooth", straight on from the last two samples; "line", rising as the line through both
        ends does.
    cval : float, optional
        The constant.

    Returns
    -------
    ndarray
        Of ``((n - 1) * up + len(h) - 1) // down + 1`` elements along `axis`; of the dtype that `h`,
        `x` and float32 promote to.

    Raises
    ------
    ValueError
        If `h` is not one-dimensional or empty, a factor is less than 1, or the mode is unknown.
    TypeError
        If there are no kernels for a dtype.

    Notes
    -----
    Results ``up`` apart have the same coefficients, one phase of `h`, on samples ``down`` apart:
    each phase is a filter of its own [1]_.

    References
    ----------
    .. [1] P. P. Vaidyanathan, "Multirate Systems and Filter Banks", 1993, section 4.3.

    Examples
    --------
    >>> from numbaconv import signal
    >>> signal.upfirdn([0.5, 1, 0.5], [1, 2, 4], up=2)
    array([0.5, 1. , 1.5, 2. , 3. , 4. , 2. ])
    """
    h, x = coefficients("h", h), numbers("x", x)
    if h.ndim != 1 or not h.size:
        raise ValueError(f"h must have one axis and an element, got {h.shape}")
    up, down, axis = rate("up", up), rate("down", down), axis_index(axis, x.ndim)
    mode = mode.lower()
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}; got {mode!r}")
    dtype = np.result_type(h, x, np.float32)
    constant = math.ldexp(cval, 0)  # takes what C's double may come from
    signals = np.moveaxis(x.astype(dtype, copy=False), axis, -1)
    count = max(_length(h.size, x.shape[axis], up, down), 0)
    if is_lazy(x):
        y = _lazily(h.astype(dtype), signals, up, down, count, mode, constant)
        return np.moveaxis(y, -1, axis)
    rows = signals.reshape(math.prod(signals.shape[:-1]), signals.shape[-1])
    y = _by_phases(h.astype(dtype), rows, up, down, count, mode, constant)
    return np.moveaxis(y.reshape(*signals.shape[:-1], count), -1, axis)


def _length(taps: int, size: int, up: int, down: int) -> int:
    """Results of so many samples."""
    return ((size - 1) * up + taps - 1) // down + 1


def _by_phases(
    h: np.ndarray, x: np.ndarray, up: int, down: int, count: int, mode: str, constant: float
) -> np.ndarray:
    """Each result of signals along the last of two axes."""
    if x.dtype.kind == "c":
        rest = up, down, count, mode
        out = np.empty((x.shape[0], count), x.dtype)
        out.real = _by_phases(h.real, x.real, *rest, constant)
        out.imag = _by_phases(h.real, x.imag, *rest, 0)
        if h.imag.any():
            out.real -= _by_phases(h.imag, x.imag, *rest, 0)
            out.imag += _by_phases(h.imag, x.real, *rest, constant)
        return out
    y = new_array((x.shape[0], count), x.dtype)
    if not x.size:
        y[...] = 0
        return y
    reach = -(-h.size // up)  # samples that a result reads
    last = (count - 1) * down // up
    ends = ends_of(x, reach - 1, max(last + 1 - x.shape[1], 0), mode, constant)
    turn = up // math.gcd(up, down)  # results of one phase lie so far apart
    phases = []
    for first in range(min(turn, count)):
        sample, place = divmod(first * down, up)
        taps = h[place::up][::-1]
        if taps.size:
            phases.append(Phase(first, sample + reach - taps.size, tuple(taps.tolist())))
    rates = Rates(tuple(phases), turn * down // up, turn, reach - 1)
    resample(np.ascontiguousarray(x), ends, y, rates)
    return y


def _lazily(
    h: np.ndarray, x: Any, up: int, down: int, count: int, mode: str, constant: float
) -> Any:
    """Results of signals along the last axis of an array of Dask."""
    if not x.size:
        return np.zeros_like(x, shape=(*x.shape[:-1], count))
    axis, begin = Resampled(x.shape[-1], count, h.size, up, down), 0
    if mode != "constant" or constant:
        last = (count - 1) * down // up
        begin = -(-(axis.reach - 1) // axis.step) * axis.step
        x = lazily_extended(x, begin, max(last + 2 - axis.size, 0), mode, constant)
    axis = axis._replace(size=x.shape[-1], begin=begin)
    return lazily(_part, {"x": x, "h": h, "axis": axis})


class _ByBlocks(ByBlocks):
    """`_part`."""

    @classmethod
    def of(cls, function: Any, given: dict[str, Any]) -> "_ByBlocks":
        x, axis = given["x"], given["axis"]
        axes = [*(Along(n, n) for n in x.shape[:-1]), axis]
        return cls(function, {"h": given["h"]}, {"axis": axis}, axes, x.dtype)

    def run(self, block: Any, reads: Sequence[Read], arrays: dict[str, Any]) -> Any:
        """Compute the results of a block."""
        return self.function(block, arrays["h"], reads[-1], self.options["axis"])


@goes_by_blocks(_ByBlocks.of)
def _part(x: np.ndarray, h: np.ndarray, read: Read, axis: Resampled) -> np.ndarray:
    """Those results of signals with zeros beyond their ends that a block has."""
    return upfirdn(h, x, axis.up, axis.down)[..., read.skip : read.skip + read.used]


def resample_poly(
    x: Any,
    up: int,
    down: int,
    axis: int = 0,
    window: Any = ("kaiser", 5.0),
    padtype: str = "constant",
    cval: float | None = None,
) -> np.ndarray:
    """Change the sampling rate of signals by ``up / down``, without a delay.

    Parameters
    ----------
    x : array_like
        Signals of any rank.
    up, down : int
        Factors by which the rate is multiplied and divided.
    axis : int, optional
        Axis of time.
    window : str, tuple or array_like, optional
        The window of the low-pass filter, or an array or list of coefficients of a filter at ``up``
        times the rate. "kaiser" with its parameter, and the windows of NumPy, are computed here;
        SciPy, if it is installed, computes others.
    padtype : str, optional
        What lies beyond the ends: a mode of `upfirdn`; or "mean", "median", "minimum" or "maximum"
        of each signal.
    cval : float, optional
        The constant of "constant": by default 0.

    Returns
    -------
    ndarray
        Of ``ceil(n * up / down)`` elements along `axis`.

    Raises
    ------
    ValueError
        If a factor is no integer of at least 1, or an argument does not fit.
    TypeError
        If there are no kernels for a dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from numbaconv import signal
    >>> tone = np.sin(np.arange(200) / 5)
    >>> slower = signal.resample_poly(tone, 3, 2)
    >>> bool(abs(slower[60:240:3] - tone[40:160:2]).max() < 0.01)
    True
    """
    x = numbers("x", x)
    if up != int(up) or down != int(down):
        raise ValueError(f"up and down must be integers, got {up!r} and {down!r}")
    up, down = rate("up", up), rate("down", down)
    if cval is not None and padtype != "constant":
        raise ValueError(f"cval has no effect under padtype {padtype!r}")
    up, down = up // (common := math.gcd(up, down)), down // common
    if up == down == 1:
        return x if is_lazy(x) else np.array(x)
    if padtype not in _BACKGROUNDS and padtype not in MODES:
        words = ", ".join((*_BACKGROUNDS, *MODES))
        raise ValueError(f"padtype must be one of {words}; got {padtype!r}")
    axis = axis_index(axis, x.ndim)
    h, half = _low_pass(window, x.dtype, up, down)
    size = x.shape[axis]
    count = -(-size * up // down)
    # Zeros before the filter bring its middle to a result that is kept, those after it the last.
    before = down - half % down
    skipped = (half + before) // down
    needed = (count + skipped - 1) * down + 1 - (size - 1) * up
    after = max(needed - before - h.size, 0) if size else 0
    h = np.pad(h, (before, after))
    kept: list[Any] = [slice(None)] * x.ndim
    kept[axis] = slice(skipped, skipped + count)
    if padtype not in _BACKGROUNDS:
        y = upfirdn(h, x, up, down, axis, padtype, 0 if cval is None else cval)
        return y[tuple(kept)]  # type: ignore[no-any-return]
    background = _BACKGROUNDS[padtype](x, axis=axis, keepdims=True)
    y = upfirdn(h, x - background, up, down, axis)[tuple(kept)]
    y += background
    return y  # type: ignore[no-any-return]


def _low_pass(window: Any, dtype: np.dtype[Any], up: int, down: int) -> tuple[np.ndarray, int]:
    """The filter of a change of rate, and its middle."""
    if isinstance(window, (list, np.ndarray)):
        h = coefficients("window", window)
        if h.ndim != 1 or not h.size:
            raise ValueError(f"window must have one axis and an element, got {h.shape}")
        given = h.copy()
        given *= up
        return given, (h.size - 1) // 2
    cutoff = 1 / max(up, down)
    half = 10 * max(up, down)
    h = cutoff * np.sinc(cutoff * np.arange(-half, half + 1)) * _samples(window, 2 * half + 1)
    h = up * (h / h.sum())
    return h.astype(dtype if dtype.kind in "fc" else np.float64), half


def _samples(window: Any, count: int) -> np.ndarray:
    """So many samples of a window, symmetric."""
    if isinstance(window, str) and window in _WINDOWS:
        return np.asarray(_WINDOWS[window](count))
    if isinstance(window, tuple) and len(window) == 2 and window[0] == "kaiser":
        return np.kaiser(count, window[1])
    try:
        from scipy.signal import get_window
    except ImportError:
        raise ValueError(
            f"window: {window!r} needs SciPy; without it there are ('kaiser', beta) and "
            f"{', '.join(_WINDOWS)}, or an array of coefficients"
        ) from None
    return np.asarray(get_window(window, count, fftbins=False))
