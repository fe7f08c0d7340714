"""What calls of `numbaconv.ndimage` and `numbaconv.signal` do as steps.

The public function itself runs once, on stand-ins for the arrays, in a thread that captures
(`runtime.capture`): what it would do to data becomes the steps. Where it does more than can be
written down, as on missing values, Python makes each call (`make`), as of gradients by spectra.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from numbaconv.njit import protocol
from numbaconv.njit.recipe import Array, Recipe, merge_axes
from numbaconv.njit.request import BASES, TARGET, RequestedCall, array_at, placeholder
from numbaconv.runtime.capture import Capture, Move, Run, address, assign, capture
from numbaconv.runtime.threads import limited_threads
from numbaconv.signal.streams import filtered

# With the state behind the results, which the caller's code takes apart.
LFILTER = "signal.lfilter"

# They filter the image once for each axis; the second time, if it is the output, it has changed.
_ADDED_UP = frozenset({"ndimage.gaussian_laplace", "ndimage.laplace"})

# Functions that do nothing to data but through `runtime.capture`, if their weights are real.
_CAPTURED = frozenset(
    f"ndimage.{name}"
    for name in (
        "convolve",
        "convolve1d",
        "correlate",
        "correlate1d",
        "gaussian_filter",
        "gaussian_filter1d",
        "gaussian_laplace",
        "laplace",
        "prewitt",
        "sobel",
        "uniform_filter",
        "uniform_filter1d",
    )
) | {LFILTER}


def _function(name: str) -> Callable[..., Any]:
    if name == LFILTER:
        return filtered
    module, attribute = name.split(".") if "." in name else ("grad", name)
    found: Callable[..., Any] = getattr(import_module(f"numbaconv.{module}"), attribute)
    return found


class _UncapturedError(Exception):
    """The steps of a call cannot be written down."""


def _is_captured(call: RequestedCall) -> bool:
    """Whether a call is of those that can be captured."""
    options = call.arguments
    missing = options.get("nan", "propagate") != "propagate" or options.get("mask") is not None
    overwrites = call.function in _ADDED_UP and _shares_memory(call)
    is_complex = np.asarray(options.get("weights")).dtype.kind == "c"
    return call.function in _CAPTURED and not (missing or overwrites or is_complex)


def _shares_memory(call: RequestedCall) -> bool:
    """Whether the output may share memory with the image."""
    return bool(call.arguments.get("shares_memory"))


def _apply(call: RequestedCall, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """What the public function returns for some arrays in the place of the placeholders."""
    options = {name: arrays.get(name, value) for name, value in call.arguments.items()}
    options.pop("shares_memory", None)
    return np.asarray(_function(call.function)(**options))


def plan(call: RequestedCall) -> Recipe:
    """Validate a call and write its steps down."""
    if not _is_captured(call):
        return _by_python(call, _rehearsed(call))
    with capture(max(call.threads, 1)) as written:
        stand_ins = {name: written.stand_in(array) for name, array in call.arrays.items()}
        result = _apply(call, stand_ins)
    if _shares_memory(call):
        del stand_ins["output"]  # the last: results are made in memory of their own, then moved
    try:
        return _Writer(call, written, stand_ins, result).recipe
    except _UncapturedError:
        return _by_python(call, result)


# --- Steps ------------------------------------------------------------------------------------


class _Writer:
    """Writes the operations of a capture down as steps.

    Attributes
    ----------
    recipe : Recipe
        The steps.
    """

    def __init__(
        self,
        call: RequestedCall,
        written: Capture,
        stand_ins: dict[str, np.ndarray],
        result: np.ndarray,
    ) -> None:
        threads = written.threads if written.uses_threads else 0
        self.recipe = Recipe(call, result.shape, threads)
        self._capture = written
        names = list(stand_ins)  # in the order of their blocks, which are the first
        origins = [(BASES[name], address(stand_ins[name])) for name in names]
        at = written.place(result) if result.size else None
        stored = result if at is not None and self._can_be_result(call, result, at) else None
        for number, block in enumerate(written.blocks[len(names) :], len(names)):
            if stored is not None and at is not None and number == at[0]:
                origins.append((TARGET, block.begin))
            else:
                memory = self.recipe.scratch((block.memory.size,), np.uint8)
                offset = memory.place[1]
                origins.append((memory.base, block.begin - offset))
        self._origins = origins
        for operation in written.operations:
            if isinstance(operation, Run):
                self._run(operation)
            else:
                self._move(operation)
        is_target = at is not None and origins[at[0]][0] == TARGET
        if result.size and not is_target:
            self._move(Move(self.recipe.result().view, result), self.recipe.result())

    def _can_be_result(self, call: RequestedCall, result: np.ndarray, at: tuple[int, int]) -> bool:
        """Whether an array that the call has made can lie in the result's memory."""
        plain = result.flags.c_contiguous and result.dtype == call.result and at[1] == 0
        return plain and not self.recipe.has_target and at[0] >= len(call.arrays)

    def _known(self, array: np.ndarray) -> Array:
        at = self._capture.place(array)
        if at is None:
            raise _UncapturedError
        return Array(array, *self._origins[at[0]])

    def _known_or_fixed(self, array: np.ndarray) -> Array:
        if self._capture.place(array) is None:
            return self.recipe.fixed(array)
        return self._known(array)

    def _run(self, run: Run) -> None:
        self.recipe.convolve(
            run.template,
            self._known(run.x),
            self._known_or_fixed(run.weights),
            self._known_or_fixed(run.bias),
            self._known(run.out),
            packed=run.packed.size > 0,
            add=None if run.add is None else self._known(run.add),
        )

    def _move(self, move: Move, target: Array | None = None) -> None:
        if not move.target.size:
            return
        target = self._known(move.target) if target is None else target
        if move.source is None:
            self.recipe.clear(target)
            return
        kinds = {move.source.dtype, move.target.dtype}
        if len(kinds) > 1 and any(dtype.kind in "bc" for dtype in kinds):
            raise _UncapturedError  # conversions of their own
        if move.adds and target.view.dtype.kind == "b":
            raise _UncapturedError
        source = np.broadcast_to(move.source, target.view.shape)
        if len(merge_axes(source.shape, source.strides, target.view.strides)) > protocol.MOVE_AXES:
            raise _UncapturedError
        kind = protocol.ADD if move.adds else protocol.COPY
        self.recipe.move(self._known(move.source), target, kind)


# --- By Python --------------------------------------------------------------------------------


def _rehearsed(call: RequestedCall) -> np.ndarray:
    """What a call returns for images of zeros, all of them valid."""
    arrays = {
        name: np.full(array.shape, name == "mask", array.dtype)
        for name, array in call.arrays.items()
    }
    for name, array in call.arrays.items():
        arrays[name].flags.writeable = array.flags.writeable
    return _apply(call, arrays)


def _by_python(call: RequestedCall, result: np.ndarray) -> Recipe:
    """The recipe of a filter that Python calls each time."""
    axes = next(iter(call.arrays.values())).ndim
    return by_python(call, result.shape if result.ndim == axes else (0,) * axes)  # SciPy's empty


def by_python(call: RequestedCall, shape: tuple[int, ...]) -> Recipe:
    """The recipe of a call that Python makes each time: of a filter, or of a gradient."""
    recipe = Recipe(call, shape)
    recipe.by_python = True
    return recipe


def make(call: RequestedCall, addresses: Sequence[int], shape: Sequence[int]) -> None:
    """Make a call; the result, of this shape, goes where the caller has room for it."""
    arrays = {name: array_at(addresses[BASES[name]], array) for name, array in call.arrays.items()}
    with limited_threads(call.threads):
        result = _apply(call, arrays)
    target = arrays.get("output")
    if target is None:
        target = array_at(addresses[TARGET], placeholder(shape[: result.ndim], call.result))
    if target is not result and result.size:
        assign(target, result)
