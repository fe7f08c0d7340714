"""Calls by blocks: what the result is, and how a block of it is computed."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from numbaconv.blocks.regions import Along, Axis, Read, Spread, Window
from numbaconv.problem.plan import (
    Options,
    TransposedOptions,
    find_input_plan,
    find_plan,
    find_transposed_plan,
    find_weight_plan,
)
from numbaconv.problem.validation import Pairs, input_array, padding_pairs, per_axis

_NUMPY_MODES: dict[str, Any] = {"reflect": "reflect", "replicate": "edge", "symmetric": "symmetric"}
_Function = TypeVar("_Function", bound=Callable[..., Any])


def stand_in(array: Any) -> np.ndarray:
    """An array of one element that has the shape and dtype of another: to plan with."""
    return np.broadcast_to(np.zeros((), array.dtype), array.shape)


class ByBlocks:
    """A call by blocks; axis by axis its result has as many as its source.

    Attributes
    ----------
    function : callable
        The public function, or the prepared layer.
    arrays : dict
        What else it reads as a whole: weight, bias.
    options : dict
        Its other arguments.
    axes : tuple
        Axes, in the order of the source's.
    dtype : dtype
        Of the result.
    beside : dict
        Arrays of the source's shape, of which a block reads what it reads of the source.
    cut : dict
        Arrays of the shape of `axes`' results, of which a block reads its own elements.
    sum_shape : tuple of int or None
        Shape of the result if it is the sum of what the blocks make.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        arrays: dict[str, Any],
        options: dict[str, Any],
        axes: Sequence[Axis],
        dtype: np.dtype[Any],
    ) -> None:
        self.function, self.arrays, self.options = function, arrays, options
        self.axes, self.dtype = tuple(axes), dtype
        self.beside: dict[str, Any] = {}
        self.cut: dict[str, Any] = {}
        self.sum_shape: tuple[int, ...] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result."""
        return tuple(axis.result for axis in self.axes)

    def run(self, block: Any, reads: Sequence[Read], arrays: dict[str, Any]) -> Any:
        """Compute a block of the result.

        Parameters
        ----------
        block : array
            What it reads of the source.
        reads : sequence of Read
            Along each axis.
        arrays : dict
            What it reads of all other arrays.
        """
        raise NotImplementedError


def _spatial(shape: tuple[int, ...], rank: int, channels_last: bool) -> tuple[slice, int]:
    """Where the spatial axes are, and which axis has the channels."""
    n = len(shape) - rank - 1
    return (slice(n, n + rank), n + rank) if channels_last else (slice(n + 1, n + 1 + rank), n)


def padded(
    block: Any, reads: Sequence[Read], windows: Sequence[bool], value: Any, dtype: Any
) -> tuple[Any, list[tuple[int, int]]]:
    """A block of at least one element, and what to add before and after along each axis.

    A block that reads nothing but padding becomes that, of the dtype where it is not zeros.
    """
    if all(n or not is_window for n, is_window in zip(block.shape, windows, strict=True)):
        return block, [(r.before, r.after) for r in reads]
    shape = [r.used if w else n for r, n, w in zip(reads, block.shape, windows, strict=True)]
    return np.full(shape, value, dtype if value else block.dtype), [(0, 0)] * len(reads)


def zero_padded(
    block: Any, reads: Sequence[Read], windows: Sequence[bool]
) -> tuple[Any, list[tuple[int, int]]]:
    """The same with zeros."""
    return padded(block, reads, windows, 0, block.dtype)


def zero_padded_windows(
    sizes: Sequence[int],
    results: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pairs: Sequence[tuple[int, int]],
) -> list[Axis]:
    """The spatial axes of a convolution that pads with zeros."""
    each = zip(sizes, results, kernel, strides, dilations, pairs, strict=True)
    return [Window(n, o, (k - 1) * d, s, lo, hi) for n, o, k, s, d, (lo, hi) in each]


def _steps(options: dict[str, Any], rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Stride and dilation of a call along each axis."""
    stride, dilation = (per_axis(name, options[name], rank) for name in ("stride", "dilation"))
    return stride, dilation


def _image_axes(
    shape: tuple[int, ...], channels_last: bool, spatial: Sequence[Axis], channels: int
) -> list[Axis]:
    """The axes of a source of some shape; the result has so many channels, each of all of its."""
    where, place = _spatial(shape, len(spatial), channels_last)
    axes: list[Axis] = [Along(n, n) for n in shape]
    axes[where] = spatial
    axes[place] = Along(shape[place], channels, splits=False)
    return axes


def per_axis_modes(padding_mode: Any, rank: int) -> tuple[str, ...]:
    """The padding mode of each axis."""
    return (padding_mode,) * rank if isinstance(padding_mode, str) else tuple(padding_mode)


class Planned(NamedTuple):
    """Axes of a call, and the dtypes of its result and of its sums."""

    axes: list[Axis]
    result: np.dtype[Any]
    sums: np.dtype[Any]


class WithWeights(ByBlocks):
    """A function of an input, weights and a bias, or a prepared layer of it.

    Attributes
    ----------
    sums : dtype
        Of its sums.
    """

    options_type: type[Options] | type[TransposedOptions]
    sums: np.dtype[Any]

    @classmethod
    def of(cls, function: Callable[..., Any], given: dict[str, Any]) -> ByBlocks:
        """Describe a call; `given` has all arguments by name."""
        arrays = {name: given.get(name) for name in ("weight", "bias")}
        options = {name: given[name] for name in cls.options_type._fields}
        more = {name: given[name] for name in ("backend", "precision") if name in given}
        planned, cut = cls._planned(given["input"], arrays, options, given["add"])
        return cls._of_planned(function, arrays, options | more, planned, cut)

    @classmethod
    def of_layer(cls, layer: Any, given: dict[str, Any]) -> ByBlocks:
        """Describe a call of a prepared layer."""
        now = layer.weights
        arrays = {"weight": now.weight, "bias": now.bias}
        options = layer.options._asdict()
        planned, cut = cls._planned(given["x"], arrays, options, given.get("add"))
        return cls._of_planned(layer, {}, options, planned, cut)  # it has its arrays

    @classmethod
    def _of_planned(
        cls, function: Any, arrays: Any, options: Any, planned: Planned, cut: Any
    ) -> ByBlocks:
        call = cls(function, arrays, options, planned.axes, planned.result)
        call.sums, call.cut = planned.sums, cut
        return call

    @classmethod
    def _planned(
        cls, x: Any, arrays: dict[str, Any], options: dict[str, Any], add: Any
    ) -> tuple[Planned, dict[str, Any]]:
        """Plan a call that may add an array, of which a block adds its own elements."""
        slices = isinstance(getattr(add, "dtype", None), np.dtype)  # of Dask, a file, ...
        if add is not None and (isinstance(add, np.ndarray) or not slices):
            add = input_array("add", add)
        given = x, arrays["weight"], arrays["bias"], add
        seen = (None if array is None else stand_in(array) for array in given)
        return cls._plan(options, *seen), {} if add is None else {"add": add}

    @classmethod
    def _plan(cls, options: dict[str, Any], x: Any, weight: Any, bias: Any, add: Any) -> Planned:
        """Plan a call with stand-ins for its arrays."""
        raise NotImplementedError

    def _apply(self, block: Any, arrays: dict[str, Any], **changed: Any) -> Any:
        """Call the function, or the layer, on a block with some other options."""
        if "weight" in arrays:
            return self.function(block, **arrays, **{**self.options, **changed})
        layer = self.function.changed(**changed)  # type: ignore[attr-defined]
        return layer(block, **arrays)


class Convolution(WithWeights):
    """`conv`, or a prepared layer."""

    options_type = Options

    @classmethod
    def _plan(cls, options: dict[str, Any], x: Any, weight: Any, bias: Any, add: Any) -> Planned:
        named = Options(**options)
        plan = find_plan(x, weight, bias, tuple(named), add)
        kernel = weight.shape[2:]
        rank, last = len(kernel), named.data_format == "channels_last"
        where, channels = _spatial(x.shape, rank, last)
        size, (strides, dilations) = x.shape[where], _steps(options, rank)
        pairs = padding_pairs(named.padding, size, kernel, strides, dilations)
        modes, spatial = per_axis_modes(named.padding_mode, rank), list[Axis]()
        for n, o, k, s, d, (lo, hi), mode in zip(
            size, plan.out_shape[where], kernel, strides, dilations, pairs, modes, strict=True
        ):
            if mode == "circular":
                spatial.append(Window(n + lo + hi, o, (k - 1) * d, s, 0, 0, wrap=(lo, hi)))
            else:
                spatial.append(Window(n, o, (k - 1) * d, s, lo, hi, mode != "zeros"))
        axes = _image_axes(x.shape, last, spatial, plan.out_shape[channels])
        return Planned(axes, plan.result, plan.sums)

    def run(self, block: Any, reads: Sequence[Read], arrays: dict[str, Any]) -> Any:
        """Convolve a block: with its own padding of zeros, or padded from what is near the end."""
        windows = [isinstance(axis, Window) for axis in self.axes]
        if all(n or not is_window for n, is_window in zip(block.shape, windows, strict=True)):
            block, pads = self._continued(block, reads)
        else:
            block, pads = padded(block, reads, windows, self.options["padding_value"], self.sums)
        pairs = tuple(pair for pair, is_window in zip(pads, windows, strict=True) if is_window)
        return self._apply(block, arrays, padding=pairs, padding_mode="zeros")

    def _continued(self, block: Any, reads: Sequence[Read]) -> tuple[Any, list[tuple[int, int]]]:
        """A block padded along the axes whose padding is of elements, and what zeros it lacks."""
        places = [i for i, axis in enumerate(self.axes) if isinstance(axis, Window)]
        modes = per_axis_modes(self.options["padding_mode"], len(places))
        zeros = [(r.before, r.after) for r in reads]
        for place, mode in zip(places, modes, strict=True):
            if mode not in _NUMPY_MODES:
                continue
            read, before = reads[place], (slice(None),) * place
            if any(zeros[place]):
                pads = [(0, 0)] * len(reads)
                pads[place] = zeros[place]
                block = np.pad(block, pads, mode=_NUMPY_MODES[mode])
            block = block[(*before, slice(read.skip, read.skip + read.used))]
            zeros[place] = 0, 0
        return block, zeros


class Spreading(ByBlocks):
    """What spreads each element of the source over elements of the result."""

    def run(self, block: Any, reads: Sequence[Read], arrays: dict[str, Any]) -> Any:
        """Compute what the block reaches, and keep what is the result's."""
        spread = [isinstance(axis, Spread) for axis in self.axes]
        inner = [r for r, is_spread in zip(reads, spread, strict=True) if is_spread]
        pairs = tuple((max(r.before, 0), max(r.after, 0)) for r in inner)
        rest = [(max(-r.before, 0), max(-r.after, 0)) for r in reads]
        whole = [r.used - sum(more) for r, more in zip(reads, rest, strict=True)]
        if not any(map(any, rest)):
            return self._whole(block, pairs, arrays)
        # Elements that no element of the source reaches have no products.
        channels = [isinstance(axis, Along) and not axis.splits for axis in self.axes]
        shape = [
            axis.result if has_channels else r.used
            for r, axis, has_channels in zip(reads, self.axes, channels, strict=True)
        ]
        y = np.empty(shape, self.dtype)
        y[...] = self._alone(block, arrays)
        if all(n > 0 for n, is_spread in zip(whole, spread, strict=True) if is_spread):
            place = tuple(slice(a, n - b) for (a, b), n in zip(rest, shape, strict=True))
            if "add" in arrays:
                arrays = arrays | {"add": arrays["add"][place]}
            y[place] = self._whole(block, pairs, arrays)
        return y

    def _whole(self, block: Any, pairs: Pairs, arrays: dict[str, Any]) -> Any:
        """All that a block reaches, but for so many elements at both ends."""
        raise NotImplementedError

    def _alone(self, block: Any, arrays: dict[str, Any]) -> Any:
        """What elements of each channel of the result are that no element of the source reaches."""
        return 0


class Transposed(WithWeights, Spreading):
    """A transposed convolution, or a prepared layer of one."""

    options_type = TransposedOptions

    @classmethod
    def _plan(cls, options: dict[str, Any], x: Any, weight: Any, bias: Any, add: Any) -> Planned:
        kernel, named = weight.shape[2:], TransposedOptions(**options)
        rank, last = len(kernel), named.data_format == "channels_last"
        plan = find_transposed_plan(rank, x, weight, bias, named, add)
        where, channels = _spatial(x.shape, rank, last)
        before = plan.shape.padding[-rank:]
        sizes = x.shape[where], plan.out_shape[where], kernel
        each = zip(*sizes, *_steps(options, rank), before, strict=True)
        spatial = [Spread(n, o, (k - 1) * d, s, lo) for n, o, k, s, d, lo in each]
        axes = _image_axes(x.shape, last, spatial, plan.out_shape[channels])
        return Planned(axes, plan.result, plan.result)

    def _whole(self, block: Any, pairs: Pairs, arrays: dict[str, Any]) -> Any:
        return self._apply(block, arrays, padding=pairs, output_padding=0)

    def _alone(self, block: Any, arrays: dict[str, Any]) -> Any:
        """The bias and what is added, activated."""
        is_layer, add = "weight" not in arrays, arrays.get("add")
        now = vars(self.function.weights) if is_layer else arrays  # type: ignore[attr-defined]
        weight = now["weight"]
        one_tap = np.zeros((*weight.shape[:2], *(1,) * (weight.ndim - 2)), weight.dtype)
        results = [1] * block.ndim if add is None else add.shape
        axes = zip(self.axes, block.shape, results, strict=True)
        x = np.zeros([o if isinstance(axis, Spread) else n for axis, n, o in axes], block.dtype)
        changed = {"stride": 1, "padding": 0, "output_padding": 0, "dilation": 1}
        if is_layer:
            layer = self.function.with_weights(one_tap, now["bias"], **changed)  # type: ignore[attr-defined]
            return layer(x, add=add)
        return self.function(x, one_tap, now["bias"], add=add, **{**self.options, **changed})


class InputGradient(Spreading):
    """The gradient of a convolution with respect to its input."""

    @classmethod
    def of(cls, function: Callable[..., Any], given: dict[str, Any]) -> "InputGradient":
        """Describe a call; `given` has all arguments by name."""
        weight, g, size = given["weight"], given["grad_output"], tuple(given["input_size"])
        rank, names = given["rank"], ("stride", "padding", "dilation", "groups")
        seen, options = (stand_in(weight), stand_in(g)), [given[name] for name in names]
        plan = find_input_plan(rank, size, *seen, *options)
        where, channels = _spatial(size, rank, False)
        kernel, (strides, dilations) = weight.shape[2:], _steps(given, rank)
        pairs = padding_pairs(given["padding"], size[where], kernel, strides, dilations)
        each = zip(g.shape[where], size[where], kernel, strides, dilations, pairs, strict=True)
        spatial = [Spread(n, o, (k - 1) * d, s, lo) for n, o, k, s, d, (lo, _) in each]
        axes = _image_axes(g.shape, False, spatial, size[channels])
        kept = {name: given[name] for name in ("rank", *names, "stream", "backend", "precision")}
        return cls(function, {"weight": weight}, kept, axes, plan.result)

    def _whole(self, block: Any, pairs: Pairs, arrays: dict[str, Any]) -> Any:
        size = [axis.result if isinstance(axis, Along) else 0 for axis in self.axes]
        size[: -len(pairs) - 1] = block.shape[: -len(pairs) - 1]
        for place, pair in enumerate(pairs, len(size) - len(pairs)):
            axis = self.axes[place]
            assert isinstance(axis, Spread)
            size[place] = (block.shape[place] - 1) * axis.stride + axis.reach + 1 - sum(pair)
        changed = {"input_size": tuple(size), "padding": pairs}
        return self.function(grad_output=block, **arrays, **{**self.options, **changed})


class WeightGradient(ByBlocks):
    """The gradient of a convolution with respect to its weight: a sum over the blocks."""

    @classmethod
    def of(cls, function: Callable[..., Any], given: dict[str, Any]) -> "WeightGradient":
        """Describe a call; `given` has all arguments by name."""
        x, g, size = given["input"], given["grad_output"], tuple(given["weight_size"])
        rank, names = given["rank"], ("stride", "padding", "dilation", "groups")
        options = [given[name] for name in names]
        plan = find_weight_plan(rank, stand_in(x), size, stand_in(g), *options)
        where, channels = _spatial(x.shape, rank, False)
        sizes, steps = (x.shape[where], size[2:]), _steps(given, rank)
        pairs = padding_pairs(given["padding"], *sizes, *steps)
        spatial = zero_padded_windows(sizes[0], g.shape[where], sizes[1], *steps, pairs)
        axes = _image_axes(x.shape, False, spatial, g.shape[channels])
        kept = ("rank", "weight_size", *names, "stream", "backend", "precision")
        call = cls(function, {}, {name: given[name] for name in kept}, axes, plan.result)
        call.cut, call.sum_shape = {"grad_output": g}, size
        return call

    def run(self, block: Any, reads: Sequence[Read], arrays: dict[str, Any]) -> Any:
        """Compute the part of a block: with zeros where it touches an end."""
        g, windows = arrays["grad_output"], [isinstance(axis, Window) for axis in self.axes]
        block, pads = zero_padded(block, reads, windows)
        pairs = tuple(pair for pair, is_window in zip(pads, windows, strict=True) if is_window)
        if self.dtype == np.float16:  # the sum is made in single precision, as within a block
            block, g = block.astype(np.float32), g.astype(np.float32)
        changed = {"input": block, "grad_output": g, "padding": pairs}
        return self.function(**{**self.options, **changed})


class Filter(ByBlocks):
    """A filter, which leaves the shape as it is."""

    def run(self, block: Any, reads: Sequence[Read], arrays: dict[str, Any]) -> Any:
        """Filter a block, and keep what its neighbours are not missing for."""
        return self._used(block, reads, arrays)

    def _used(self, block: Any, reads: Sequence[Read], changed: dict[str, Any]) -> Any:
        """What is used of a filtered block; some arguments are others."""
        y = self.function(block, **{**self.options, **changed})
        return y[tuple(slice(r.skip, r.skip + r.used) for r in reads)]


def arguments_of(function: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """All arguments of a call by name, with those that are not given."""
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    given = dict(bound.arguments)
    more: dict[str, Any] = given.pop("kwargs", {})
    return given | more


def goes_by_blocks(describe: Callable[..., ByBlocks]) -> Callable[[_Function], _Function]:
    """Decorate a public function: `describe(function, given)` makes a `ByBlocks` of a call."""

    def decorate(function: _Function) -> _Function:
        function.by_blocks = lambda given: describe(function, given)  # type: ignore[attr-defined]
        return function

    return decorate
