"""The ways to compute a convolution and its adjoints: what the fuzzer and stress tests run.

A new way (a backend, a compiled caller) is one entry in `PATHS` or `GRADIENT_PATHS`; every such
test then runs it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import numbaconv as nc
from numbaconv.cpu import winograd
from tests.oracle import reference
from tests.oracle.cases import Array, Case, transposed_options
from tests.oracle.problems import OUT_LAYOUTS, Sample, choose

BACKENDS = ("direct", "im2col")  # whose sums of small integers are exact
TRANSFORMS = ("fft", "winograd")

# Few problems that are drawn have more channels.
winograd.LEAST_CHANNELS = 1


class Operation(NamedTuple):
    """What is computed, and its oracle."""

    operands: Callable[[Sample], tuple[Array | None, ...]]  # image, filter, maybe a bias
    oracle: Callable[..., Array]  # of a sample and its operands, or their absolute values
    terms: Callable[[Sample], int]  # products that are added up in an element of the result


def transposed_oracle(sample: Sample, g: Array, w: Array, b: Array | None) -> Array:
    """The gradient of the input, but that it conjugates no weights and takes a bias."""
    dtype = reference.result_dtype(g, w, b)  # the bias may widen what integers are added up in
    back, options = np.conj(w).astype(dtype), sample.options
    spread = reference.conv_input_by_taps(sample.case.input, back, g.astype(dtype), **options)
    return spread if b is None else spread + b.astype(spread.dtype).reshape(-1, *(1,) * sample.rank)


def spread_terms(sample: Sample) -> int:
    groups = sample.options["groups"]
    return sample.w.shape[0] // groups * math.prod(sample.w.shape[2:])


CONV = Operation(
    lambda s: s.operands,
    lambda s, x, w, b: reference.conv_by_taps(x, w, b, **s.options),
    lambda s: math.prod(s.w.shape[1:]),
)
OF_INPUT = Operation(
    lambda s: (s.g, s.w),
    lambda s, g, w: reference.conv_input_by_taps(s.case.input, w, g, **s.options),
    spread_terms,
)
OF_WEIGHT = Operation(
    lambda s: (s.x, s.g),
    lambda s, x, g: reference.conv_weight_by_taps(x, s.case.weight, g, **s.options),
    lambda s: math.prod(s.g.shape[: -1 - s.rank] + s.g.shape[-s.rank :]),
)
TRANSPOSED = Operation(lambda s: (s.g, s.w, s.b), transposed_oracle, spread_terms)
ACTIVATED = TRANSPOSED._replace(oracle=lambda *given: np.maximum(transposed_oracle(*given), 0))


def adding(operation: Operation) -> Operation:
    """The sums and another array, activated where they are real floats."""

    def operands(sample: Sample) -> tuple[Array | None, ...]:
        return *operation.operands(sample), sample.r

    def oracle(sample: Sample, *given: Array | None) -> Array:
        *factors, r = given
        sums = operation.oracle(sample, *factors)
        sums = sums + r.astype(sums.dtype)
        return np.maximum(sums, 0) if activation(operation, sample) else sums

    return Operation(operands, oracle, lambda sample: operation.terms(sample) + 1)


def activation(operation: Operation, sample: Sample) -> str | None:
    """Activation of the problems that add an array."""
    return "relu" if reference.result_dtype(*operation.operands(sample)).kind == "f" else None


ADDED, ADDED_TRANSPOSED = adding(CONV), adding(TRANSPOSED)


class Path(NamedTuple):
    """One way: its name, how it is run, which samples it takes, and what it computes."""

    name: str
    run: Callable[[Sample], Array]
    takes: Callable[[Sample], bool] = lambda sample: True
    operation: Operation = CONV
    sums: bool = True  # whether errors are those of sums, and not of transforms

    def __str__(self) -> str:
        return self.name


def plain_call(backend: str) -> Path:
    """The function of the sample's rank."""

    def run(sample: Sample) -> Array:
        function = getattr(nc, f"conv{sample.rank}d")
        return function(*sample.operands, **sample.options, backend=backend)

    return Path(backend, run, sums=backend not in TRANSFORMS)


def into_out(backend: str) -> Path:
    """The dispatcher, storing into an array of any layout that is full of NaN."""

    def run(sample: Sample) -> Array:
        out = sample.new_out(sample.case.output, *sample.operands)
        assert nc.conv(*sample.operands, **sample.options, out=out, backend=backend) is out
        return out

    return Path(f"{backend} into out", run, sums=backend not in TRANSFORMS)


def prepared(backend: str) -> Path:
    """A prepared layer, called a second time: with the weights that it has packed."""

    def run(sample: Sample) -> Array:
        layer = nc.prepare(sample.w, sample.b, **sample.options, backend=backend)
        layer(sample.x)
        return layer(sample.x)

    return Path(f"{backend} prepared", run, sums=backend not in TRANSFORMS)


def into(sample: Sample, dtype: np.dtype[Any], shape: tuple[int, ...]) -> dict[str, Array]:
    """What is added, maybe an `out`, or one array for both."""
    kind = sample.integer(0, 2)
    if kind == 0:
        return {"add": sample.r}
    out = choose(sample.integer, OUT_LAYOUTS)(np.full(shape, 77, dtype), sample.integer)
    if kind == 1:
        return {"add": sample.r, "out": out}
    out[...] = sample.r
    return {"add": out, "out": out}


def added(backend: str, is_layer: bool) -> Path:
    """With an array that is added, by a call or a prepared layer."""

    def run(sample: Sample) -> Array:
        options = sample.options | {"activation": activation(CONV, sample), "backend": backend}
        more = into(sample, reference.result_dtype(*sample.operands), sample.case.output)
        if is_layer:
            layer = nc.prepare(sample.w, sample.b, **options)
            layer(sample.x)  # the same weights, packed, serve calls that add and others
            return layer(sample.x, **more)
        return nc.conv(*sample.operands, **options, **more)

    name = f"{backend} adding{', prepared' if is_layer else ''}"
    return Path(name, run, operation=ADDED, sums=backend not in TRANSFORMS)


def added_transposed(backend: str, is_layer: bool) -> Path:
    def run(sample: Sample) -> Array:
        g, w, b = operands = TRANSPOSED.operands(sample)
        options = spelled(sample.case) | {"activation": activation(TRANSPOSED, sample)}
        more = into(sample, reference.result_dtype(*operands), sample.case.input)
        if is_layer:
            return nc.prepare_transposed(w, b, **options, backend=backend)(g, **more)
        function = getattr(nc, f"conv_transpose{sample.rank}d")
        return function(g, w, b, **options, **more, backend=backend)

    name = f"{backend} transposed, adding{', prepared' if is_layer else ''}"
    sums = backend not in TRANSFORMS
    return Path(name, run, has_transposed, ADDED_TRANSPOSED, sums)


def gradient_of_input(backend: str) -> Path:
    def run(sample: Sample) -> Array:
        function = getattr(nc.grad, f"conv{sample.rank}d_input")
        size = sample.case.input
        return function(size, sample.w, sample.g, **sample.options, backend=backend)

    sums = backend not in TRANSFORMS
    return Path(f"{backend} gradient of the input", run, operation=OF_INPUT, sums=sums)


def gradient_of_weight(backend: str) -> Path:
    def run(sample: Sample) -> Array:
        function = getattr(nc.grad, f"conv{sample.rank}d_weight")
        size = sample.case.weight
        return function(sample.x, size, sample.g, **sample.options, backend=backend)

    sums = backend not in TRANSFORMS
    return Path(f"{backend} gradient of the weight", run, operation=OF_WEIGHT, sums=sums)


def spelled(case: Case) -> dict[str, Any]:
    """Options of the transposed convolution, with a word for the padding where it says the same."""
    options, word = transposed_options(case), case.kwargs["padding"]
    rank = len(case.weight) - 2
    whole = [n * s for n, s in zip(case.output[-rank:], options["stride"], strict=True)]
    same = word in ("same", "same_lower") and case.input[-rank:] == tuple(whole)
    if same or word in ("valid", "full"):
        options["padding"] = word
    if same:
        del options["output_padding"]
    return options


def has_transposed(sample: Sample) -> bool:
    return transposed_options(sample.case) is not None


def activates(sample: Sample) -> bool:
    dtype = reference.result_dtype(*TRANSPOSED.operands(sample))
    return has_transposed(sample) and dtype.kind == "f"


def transposed(backend: str, into_out: bool) -> Path:
    def run(sample: Sample) -> Array:
        function = getattr(nc, f"conv_transpose{sample.rank}d")
        operands = TRANSPOSED.operands(sample)
        out = sample.new_out(sample.case.input, *operands) if into_out else None
        y = function(*operands, **spelled(sample.case), out=out, backend=backend)
        assert out is None or y is out
        return y

    where = " into out" if into_out else ""
    sums = backend not in TRANSFORMS
    return Path(f"{backend} transposed{where}", run, has_transposed, TRANSPOSED, sums)


def transposed_last(backend: str) -> Path:
    """With the channels last, in memory too or not, and activated."""

    def run(sample: Sample) -> Array:
        g, w, b = TRANSPOSED.operands(sample)
        channels = g.ndim - sample.rank - 1
        g = np.moveaxis(g, channels, -1)
        if sample.integer(0, 1):
            g = np.ascontiguousarray(g)
        options = spelled(sample.case) | {"data_format": "channels_last", "activation": "relu"}
        function = getattr(nc, f"conv_transpose{sample.rank}d")
        return np.moveaxis(function(g, w, b, **options, backend=backend), -1, channels)

    name = f"{backend} transposed, channels last and activated"
    return Path(name, run, activates, ACTIVATED, backend not in TRANSFORMS)


def transposed_layer(backend: str) -> Path:
    """A prepared layer, called a second time: with the weights that it has packed."""

    def run(sample: Sample) -> Array:
        g, w, b = TRANSPOSED.operands(sample)
        layer = nc.prepare_transposed(w, b, **spelled(sample.case), backend=backend)
        layer(g)
        return layer(g)

    sums = backend not in TRANSFORMS
    return Path(f"{backend} transposed, prepared", run, has_transposed, TRANSPOSED, sums)


PATHS = tuple(
    path
    for backend in (*BACKENDS, *TRANSFORMS)
    for path in (
        plain_call(backend),
        into_out(backend),
        prepared(backend),
        added(backend, is_layer=False),
        added(backend, is_layer=True),
    )
)
GRADIENT_PATHS = tuple(
    path
    for backend in (*BACKENDS, *TRANSFORMS)
    for path in (
        gradient_of_input(backend),
        gradient_of_weight(backend),
        transposed(backend, into_out=False),
        transposed(backend, into_out=True),
        transposed_last(backend),
        transposed_layer(backend),
        added_transposed(backend, is_layer=False),
        added_transposed(backend, is_layer=True),
    )
)
