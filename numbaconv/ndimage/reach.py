"""How far each filter looks along each axis, for what cuts an image into blocks."""

import inspect
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numbaconv.blocks.calls import ByBlocks, Filter, arguments_of, stand_in
from numbaconv.blocks.regions import Halo, Read
from numbaconv.cpu.separable.borders import WRAP
from numbaconv.ndimage.arguments import SATURATE, axis_index, axis_indices, mode_code, sequence
from numbaconv.ndimage.gaussian import gaussian_radius
from numbaconv.ndimage.missing import OMIT, fitting_mask, whole_numbers

Reach = dict[int, tuple[int, int]]  # elements before and after, by axis
Given = dict[str, Any]


def _window(size: int, origin: Any, turned: bool = False) -> tuple[int, int]:
    origin = operator.index(origin)
    before = size // 2 + (-origin - (size % 2 == 0) if turned else origin)
    return before, size - 1 - before


def of_line(given: Given, ndim: int) -> Reach:
    """`correlate1d`."""
    weights = np.asarray(given["weights"])
    return {axis_index(given["axis"], ndim): _window(weights.size, given["origin"])}


def of_turned_line(given: Given, ndim: int) -> Reach:
    """`convolve1d`."""
    weights = np.asarray(given["weights"])
    return {axis_index(given["axis"], ndim): _window(weights.size, given["origin"], turned=True)}


def of_box_line(given: Given, ndim: int) -> Reach:
    """`uniform_filter1d`."""
    return {axis_index(given["axis"], ndim): _window(int(given["size"]), given["origin"])}


def of_gaussian_line(given: Given, ndim: int) -> Reach:
    """`gaussian_filter1d`."""
    radius = gaussian_radius(given["sigma"], given["truncate"], given["radius"])
    return {axis_index(given["axis"], ndim): (radius, radius)}


def of_gaussian(given: Given, ndim: int) -> Reach:
    """`gaussian_filter`."""
    places = axis_indices(given["axes"], ndim)
    sigmas = sequence(given["sigma"], len(places), "sigma")
    radii = sequence(given.get("radius"), len(places), "radius")
    truncate = given.get("truncate", 4.0)
    sizes = [
        gaussian_radius(sigma, truncate, radius) if sigma > 1e-15 else 0
        for sigma, radius in zip(sigmas, radii, strict=True)
    ]
    return {axis: (size, size) for axis, size in zip(places, sizes, strict=True)}


def of_gaussian_derivatives(given: Given, ndim: int) -> Reach:
    """`gaussian_laplace`, `gaussian_gradient_magnitude`: all axes are smoothed."""
    truncate, radii = given.get("truncate", 4.0), np.ravel(np.asarray(given.get("radius"), object))
    sizes = [
        gaussian_radius(sigma, truncate, radius)
        for sigma in np.ravel(given["sigma"]).tolist()
        for radius in radii.tolist()
    ]
    most = max(sizes, default=0)
    return dict.fromkeys(range(ndim), (most, most))


def of_box(given: Given, ndim: int) -> Reach:
    """`uniform_filter`."""
    places = axis_indices(given["axes"], ndim)
    sizes = sequence(given["size"], len(places), "size")
    origins = sequence(given["origin"], len(places), "origin")
    return {
        axis: _window(max(int(size), 1), origin if size > 1 else 0)
        for axis, size, origin in zip(places, sizes, origins, strict=True)
    }


def of_neighbours(given: Given, ndim: int) -> Reach:
    """`sobel`, `prewitt`, `laplace`."""
    return dict.fromkeys(range(ndim), (1, 1))


def of_derivatives(name: str) -> Callable[[Given, int], Reach]:
    """`generic_laplace`, `generic_gradient_magnitude`: as far as the function that takes them."""

    def reach(given: Given, ndim: int) -> Reach:
        derivative, rest = given[name], (given["cval"], *given["extra_arguments"])
        describe = getattr(derivative, "by_blocks", None)
        if describe is None:
            raise TypeError(
                f"{name} may look at the whole image, which is cut into blocks here: pass a "
                "function of numbaconv.ndimage, such as sobel, or call this through "
                "dask.array.map_overlap with a depth of as much as it looks"
            )
        places, looks = axis_indices(given["axes"], ndim), dict.fromkeys(range(ndim), (0, 0))
        for axis, mode in zip(places, sequence(given["mode"], len(places), "mode"), strict=True):
            image, keywords = stand_in(given["input"]), given["extra_keywords"] or {}
            call = describe(arguments_of(derivative, image, axis, None, mode, *rest, **keywords))
            for place, along in enumerate(call.axes):
                before, after = looks[place]
                looks[place] = max(before, along.before), max(after, along.after)
        return looks

    return reach


def _of_kernel(given: Given, ndim: int, turned: bool) -> Reach:
    places = axis_indices(given["axes"], ndim)
    weights = np.asarray(given["weights"])
    origins = sequence(given["origin"], len(places), "origin")
    return {
        axis: _window(size, origin, turned)
        for axis, size, origin in zip(places, weights.shape, origins, strict=True)
    }


def of_kernel(given: Given, ndim: int) -> Reach:
    """`correlate`."""
    return _of_kernel(given, ndim, turned=False)


def of_turned_kernel(given: Given, ndim: int) -> Reach:
    """`convolve`."""
    return _of_kernel(given, ndim, turned=True)


def _wraps(given: Given, axes: list[int], ndim: int) -> dict[int, bool]:
    """Along which axes the image begins anew at its end."""
    mode = given.get("mode", "reflect")
    if isinstance(mode, str):
        return dict.fromkeys(range(ndim), mode_code(mode) == WRAP)
    modes = [mode_code(each) == WRAP for each in mode]
    if any(modes) and not all(modes) and len(modes) != len(axes):
        raise ValueError("mode: one mode for each axis is needed where some axes wrap")
    return dict(zip(axes, modes, strict=False))


class _OfValid(Filter):
    """A filter of an image some of whose values may be missing."""

    def run(self, block: Any, reads: Sequence[Read], arrays: dict[str, Any]) -> Any:
        """Filter the valid values of a block."""
        if self.dtype.kind not in "biu":
            return self._used(block, reads, arrays)
        # Of what the neighbours compute a result may be missing, which whole numbers do not hold.
        results = self._used(block, reads, arrays | {"output": np.float64})
        return whole_numbers(results, self.dtype, self.options["rounding"] == SATURATE)


def filters(
    reach: Callable[[Given, int], Reach], one_mode: bool = False
) -> Callable[[Any, Given], ByBlocks]:
    """Make the description of a filter by blocks of the function that says how far it looks.

    Parameters
    ----------
    reach : callable
        One of the functions above.
    one_mode : bool
        Whether each mode of a sequence is used for all axes, so that they cannot wrap apart.
    """

    def describe(function: Any, given: Given) -> ByBlocks:
        x, mask = given["input"], given.get("mask")
        options = {name: value for name, value in given.items() if name not in ("input", "mask")}
        if mask is not None and "mask" not in inspect.signature(function).parameters:
            raise TypeError("mask: derivatives have no mean, so that nothing may be missing")
        # All is validated, and nothing computed, on an image of no elements.
        dtype = function(np.zeros((0,) * len(x.shape), x.dtype), **options).dtype
        looks = reach(given, len(x.shape))
        wraps = _wraps(given, list(looks), len(x.shape))
        if one_mode and len(set(wraps.values())) > 1:
            raise ValueError("mode: all axes wrap, or none, where an image is cut into blocks")
        axes = []
        for axis, n in enumerate(x.shape):
            before, after = looks.get(axis, (0, 0))
            wrap = (before, after) if wraps.get(axis) else (0, 0)
            axes.append(Halo(n + sum(wrap), n, before, after, wrap))
        if mask is None and given.get("nan") != OMIT:
            return Filter(function, {}, options, axes, dtype)
        call = _OfValid(function, {}, options, axes, dtype)
        if mask is not None:
            call.beside = {"mask": fitting_mask(mask, x.shape)}
        return call

    return describe
