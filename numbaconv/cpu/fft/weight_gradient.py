"""Gradients of the weights as products of spectra.

Such a gradient is a convolution itself: of the input, by the gradient of the output as a filter
that is as large as a map, with as many results as the kernel has taps. Stride and dilation change
places. A map that is too large for a tile is cut into pieces. The products of all pieces of all
images are added up while they are spectra, as those of input channels are; so there is one
transform back for each pair of channels. `overlap_save` computes all that: here a problem becomes
one for it.

The terms of the sum are cut into runs that follow from the problem alone, and runs are added in
order. So bits do not depend on the number of threads.
"""

import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from numbaconv.codegen.integers import ceil_div
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu import execution
from numbaconv.cpu.fft import overlap_save, tiles
from numbaconv.cpu.fft.tiles import Tiles
from numbaconv.cpu.gradients.weight import add_products
from numbaconv.problem.activations import NONE
from numbaconv.problem.plan import WeightPlan
from numbaconv.problem.shape import ZEROS, ConvShape, Triple, with_value
from numbaconv.runtime import result_memory
from numbaconv.runtime.threads import thread_limit

# Elements of the copied windows of a run, at most, if it has more than one term: 64 MB of float32.
MOST_WINDOWS = 1 << 24


class Pieces(NamedTuple):
    """How a problem is cut.

    Attributes
    ----------
    pixels, counts : tuple of 3 int
        Outputs of a piece, and pieces of an image, along each axis.
    terms : int
        Pieces of a run, of one image or of several.
    tiles : Tiles
        What a run is transformed in.
    cost : float
        Of the whole, in cycles as `tiles.value_cost` counts.
    """

    pixels: Triple
    counts: Triple
    terms: int
    tiles: Tiles
    cost: float


def window(s: ConvShape, pixels: Triple) -> Triple:
    """Return how many elements the outputs of a piece read along each axis."""
    axes = zip(pixels, s.stride, tiles.reaches(s), strict=True)
    d, h, w = ((p - 1) * step + reach + 1 for p, step, reach in axes)
    return d, h, w


def problem_of_run(s: ConvShape, pixels: Triple, terms: int) -> ConvShape:
    """Return the convolution that adds up some terms.

    Its input is [input channel][group][term][window], its weights are [output channel][term]
    [piece], its output is the gradient. Input channels are images, or planes or rows of one image
    where there is such an axis: these share the spectra of the weights.
    """
    extents, size = window(s, pixels), math.prod(window(s, pixels))
    image = s.groups * terms * size
    shape = ConvShape(
        n=s.c_in,
        groups=s.groups,
        c_in=terms,
        c_out=s.c_out,
        size=extents,
        kernel=pixels,
        stride=s.dilation,
        dilation=s.stride,
        padding=(0, 0, 0),
        output=s.kernel,
        padding_mode=(ZEROS, ZEROS, ZEROS),
        in_strides=(image, size, extents[1] * extents[2], extents[2], 1),
        out_strides=(s.taps, s.c_in * s.taps, s.kernel[1] * s.kernel[2], s.kernel[2], 1),
    )
    axis = 1 if tiles.is_signal(pixels) else 0
    if extents[axis] > 1:
        return shape
    return shape._replace(
        n=1,
        size=with_value(extents, axis, s.c_in),
        stride=with_value(shape.stride, axis, 1),
        dilation=with_value(shape.dilation, axis, 1),
        output=with_value(s.kernel, axis, s.c_in),
        in_strides=with_value(shape.in_strides, 2 + axis, image),
        out_strides=with_value(shape.out_strides, 2 + axis, s.taps),
    )


def candidates(s: ConvShape) -> Iterator[tuple[Triple, Triple]]:
    """Yield sizes of tiles, and outputs of a piece whose windows fill them.

    A piece of one row is the kernel of a signal, and gets the tiles of one. One output channel
    alone would leave half of each transform empty. Its taps are cut in two, and the two tiles share
    one.
    """
    signal, whole = tiles.is_signal(s.kernel) or tiles.is_signal(s.output), window(s, s.output)
    part = ceil_div(s.kernel[2], 2 if s.c_out == 1 else 1)
    down = (0, 0) if signal else tiles.reaches(s)[:2]
    needed = (*down, (part - 1) * s.dilation[2])
    kernel = (1, 1, s.kernel[2]) if signal else s.kernel
    for size in tiles.shapes(kernel, needed, whole, tiles.MOST_VALUES):
        extents = (1, 1, size[1] * size[2]) if signal else size
        axes = zip(extents, needed, s.stride, s.output, strict=True)
        d, h, w = (min((n - behind - 1) // step + 1, o) for n, behind, step, o in axes)
        if tiles.is_signal((d, h, w)) == signal:
            yield size, (d, h, w)


def cut(s: ConvShape, size: Triple, pixels: Triple, lanes: int) -> Pieces:
    """Return the pieces of a size, and what they cost."""
    d, h, w = (ceil_div(o, p) for o, p in zip(s.output, pixels, strict=True))
    pieces, extent = s.n * d * h * w, math.prod(window(s, pixels))
    values, pairs = math.prod(size), tiles.results_of_load(s)
    most = (
        MOST_WINDOWS // (s.groups * s.c_in * extent),
        tiles.MOST_OF_TASK // values,
        tiles.MOST_OF_WEIGHTS // (values * s.groups * pairs),
    )
    runs = ceil_div(pieces, max(1, min(most)))
    terms = ceil_div(pieces, runs)
    run = problem_of_run(s, pixels, terms)
    of_run = tiles.cut(run, *size)
    each = tiles.value_cost(values, size[2], of_run.is_signal, lanes)
    loads = run.n * of_run.outer * ceil_div(of_run.inner, 2 if tiles.pairs_tiles(s) else 1)
    transforms = pieces * (loads + pairs) + runs * loads * pairs
    products = pieces * loads * pairs * tiles.product_cost(values, lanes)
    cost = s.groups * (transforms * each + products)
    return Pieces(pixels, (d, h, w), terms, of_run, cost)


@functools.lru_cache(maxsize=256)
def best_pieces(s: ConvShape, lanes: int) -> Pieces | None:
    """Return the pieces that cost least, or None if the kernel does not fit in any tile."""
    found = (cut(s, size, pixels, lanes) for size, pixels in candidates(s))
    return min(found, key=lambda pieces: pieces.cost, default=None)


def boxes(s: ConvShape, pieces: Pieces, run: int) -> Iterator[tuple[int, Triple]]:
    """Yield image and first output of each term of a run."""
    d, h, w = pieces.counts
    each = d * h * w
    first = run * pieces.terms
    for number in range(first, min(first + pieces.terms, s.n * each)):
        image, place = divmod(number, each)
        at = place // (h * w), place // w % h, place % w
        begin = tuple(i * p for i, p in zip(at, pieces.pixels, strict=True))
        yield image, (begin[0], begin[1], begin[2])


def copy_box(target: np.ndarray, source: np.ndarray, begin: Triple) -> None:
    """Copy what a box shares with an image; the last three axes are those of both."""
    to: list[Any] = [...]
    of: list[Any] = [...]
    for first, extent, size in zip(begin, target.shape[-3:], source.shape[-3:], strict=True):
        start = min(max(first, 0), size)
        end = max(min(first + extent, size), start)
        to.append(slice(start - first, end - first))
        of.append(slice(start, end))
    target[tuple(to)] = source[tuple(of)]


def copy_run(
    s: ConvShape, pieces: Pieces, run: int, images: np.ndarray, gradients: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return input and weights of a run's convolution; a last run may end with zeros.

    Parameters
    ----------
    images : ndarray
        [image][group][input channel][d][h][w].
    gradients : ndarray
        [image][output channel of all groups][d][h][w].
    """
    extents = window(s, pieces.pixels)
    windows = np.zeros((s.c_in, s.groups, pieces.terms, *extents), images.dtype)
    filters = np.zeros((s.groups * s.c_out, pieces.terms, *pieces.pixels), images.dtype)
    for i, (image, begin) in enumerate(boxes(s, pieces, run)):
        axes = zip(begin, s.stride, s.padding, strict=True)
        d, h, w = (first * step - before for first, step, before in axes)
        copy_box(windows[:, :, i].swapaxes(0, 1), images[image], (d, h, w))
        copy_box(filters[:, i], gradients[image], begin)
    return windows.reshape(-1), filters.reshape(-1)


def find_template(plan: WeightPlan, pieces: Pieces, threads: int) -> execution.Template:
    """Return the job of a run; the plan keeps it."""
    template = plan.jobs.get(("fft", threads))
    if template is None:
        s, how = problem_of_run(plan.simplest, pieces.pixels, pieces.terms), plan.arithmetic
        lowering = overlap_save.lower(s, pieces.tiles, how.compute, threads)
        job = execution.write_job(lowering, s, how, threads, NONE, how.compute)
        template = execution.Template(job, lowering.table, (), how.compute)
        plan.jobs["fft", threads] = template
    return template


def is_finite(array: np.ndarray) -> bool:
    """Whether all elements are finite, and so is their sum."""
    with np.errstate(all="ignore"):
        return bool(np.isfinite(array.sum()))


def add_spectra(plan: WeightPlan, x: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Return the sums of a planned gradient, flat, from flat arrays.

    What is not finite is left to sums of products: in a spectrum it would spread over all taps.
    """
    s, dtype = plan.simplest, plan.arithmetic.compute
    pieces = best_pieces(s, VECTOR_BYTES // dtype.itemsize)
    if pieces is None or not (is_finite(x) and is_finite(gradient)):
        return add_products(plan, x, gradient)
    template = find_template(plan, pieces, thread_limit(plan.multiply_adds))
    images = x.reshape(s.n, s.groups, s.c_in, *s.size)
    gradients = gradient.reshape(s.n, s.groups * s.c_out, *s.output)
    no_bias, not_packed = np.zeros(s.groups * s.c_out, dtype), np.empty(0, dtype)
    y = result_memory.empty(s.weights, dtype)
    for run in range(ceil_div(s.n * math.prod(pieces.counts), pieces.terms)):
        part = y if run == 0 else result_memory.empty(s.weights, dtype)
        windows, filters = copy_run(s, pieces, run, images, gradients)
        execution.run(template, windows, filters, not_packed, no_bias, part)
        if run > 0:
            y += part
    return y if is_finite(y) else add_products(plan, x, gradient)
