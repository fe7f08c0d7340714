"""What lies beyond the ends of signals, however far beyond."""

from collections.abc import Callable
from typing import Any

import numpy as np

from numbaconv.cpu.separable.execution import new_array

MODES = (
    "constant",
    "wrap",
    "edge",
    "smooth",
    "symmetric",
    "reflect",
    "antisymmetric",
    "antireflect",
    "line",
)


def ends_of(x: np.ndarray, before: int, after: int, mode: str, constant: complex) -> np.ndarray:
    """So many samples before signals along the last axis, and then those behind them."""
    size = x.shape[-1]
    ends = new_array((*x.shape[:-1], before + after), x.dtype)
    places = np.concatenate([np.arange(-before, 0), np.arange(size, size + after)])
    ends[...] = constant if mode == "constant" else _SAMPLES[mode](x, places)
    return ends


def lazily_extended(x: Any, before: int, after: int, mode: str, constant: complex) -> Any:
    """An array of Dask with so many samples more, which few samples near the ends make."""
    size, near = x.shape[-1], max(before, after) + 2
    ends: Any = x if size < 2 * near else np.concatenate([x[..., :near], x[..., size - near :]], -1)
    ends = ends.rechunk({x.ndim - 1: -1})
    short = ends.shape[-1]
    parts = [x]
    for part, places in ((0, np.arange(-before, 0)), (1, np.arange(short, short + after))):
        if places.size:
            chunks = (*ends.chunks[:-1], (places.size,))
            beyond = ends.map_blocks(
                _beyond, places, mode, constant, size - 1, dtype=x.dtype, chunks=chunks
            )
            parts.insert(part and len(parts), beyond)
    return np.concatenate(parts, -1)


def _beyond(
    x: np.ndarray, places: np.ndarray, mode: str, constant: complex, steps: int
) -> np.ndarray:
    """Samples beyond the ends of signals, of which only what is near the ends is given."""
    if mode == "constant":
        return np.full((*x.shape[:-1], places.size), constant, x.dtype)
    if mode == "line":
        return _line(x, places, steps)
    return _SAMPLES[mode](x, places)


def _wrap(x: np.ndarray, places: np.ndarray) -> np.ndarray:
    return x[..., places % x.shape[-1]]


def _edge(x: np.ndarray, places: np.ndarray) -> np.ndarray:
    return x[..., np.clip(places, 0, x.shape[-1] - 1)]


def _symmetric(x: np.ndarray, places: np.ndarray) -> np.ndarray:
    size = x.shape[-1]
    inner = places % (2 * size)
    return x[..., np.where(inner < size, inner, 2 * size - 1 - inner)]


def _antisymmetric(x: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The mirror image with the edge sample, of the other sign."""
    signs = np.where(places // x.shape[-1] % 2, -1, 1).astype(x.dtype)
    return np.asarray(_symmetric(x, places) * signs)


def _reflect(x: np.ndarray, places: np.ndarray) -> np.ndarray:
    size = x.shape[-1]
    inner = places % max(2 * size - 2, 1)
    return x[..., np.where(inner < size, inner, 2 * size - 2 - inner)]


def _antireflect(x: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The signal turned by half a turn round each end in turn."""
    size, first, last = x.shape[-1], x[..., :1], x[..., -1:]
    period = max(2 * size - 2, 1)
    inner, turns = places % period, (places // period).astype(x.dtype)
    turned = np.where(inner < size, _reflect(x, places), 2 * last - _reflect(x, places))
    return np.asarray(turned + 2 * turns * (last - first))


def _smooth(x: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Straight on from the last two samples at each end."""
    return _straight(x, places, x[..., 1:2] - x[..., :1], x[..., -1:] - x[..., -2:-1])


def _line(x: np.ndarray, places: np.ndarray, steps: int | None = None) -> np.ndarray:
    """As the straight line through the first and the last sample rises, so many steps apart."""
    steps = x.shape[-1] - 1 if steps is None else steps
    rise = (x[..., -1:] - x[..., :1]) / max(steps, 1)
    return _straight(x, places, rise, rise)


def _straight(
    x: np.ndarray, places: np.ndarray, rise_before: np.ndarray, rise_after: np.ndarray
) -> np.ndarray:
    size = x.shape[-1]
    if size == 1:
        return _edge(x, places)
    steps = np.where(places < 0, places, places - size + 1).astype(x.dtype)
    return np.asarray(_edge(x, places) + steps * np.where(places < 0, rise_before, rise_after))


_SAMPLES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "wrap": _wrap,
    "edge": _edge,
    "smooth": _smooth,
    "symmetric": _symmetric,
    "reflect": _reflect,
    "antisymmetric": _antisymmetric,
    "antireflect": _antireflect,
    "line": _line,
}
