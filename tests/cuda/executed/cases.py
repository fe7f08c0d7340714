"""What is executed: every kind of kernel, forced, and problems drawn at random.

Data are small integers, so that a result must equal the oracle's, but where a case says otherwise.
"""

from __future__ import annotations

import contextlib
import functools
import random
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import numbaconv as nc
from numbaconv.cuda import cost, tiles
from numbaconv.cuda.kind import Kind
from numbaconv.dispatch.gpu import on_host
from tests.cuda.arrays import OnDevice
from tests.cuda.executed.device import GPU
from tests.cuda.minimal import UNIT, minimal
from tests.oracle import reference
from tests.oracle.cases import Array, Case, integer_arrays, normal_arrays, problem
from tests.oracle.gradient_cases import integer_operands, names
from tests.oracle.problems import (
    MODES,
    Integer,
    backwards,
    choose,
    permuted,
    plain,
    random_case,
    stepped,
)

ACTIVATIONS = ("relu", "relu6", "silu", "sigmoid", "tanh", "hardswish")
LAYOUTS = (plain, permuted, stepped, backwards)
OPTIONS = ("plain", "mapped", "wide", "wide-mapped", "weights", "weights-mapped")
DTYPES = (
    *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
    *("bool", "float16", "float32", "float64"),
)


def check_equal(got: Any, expected: Array, dtype: Any, tolerance: Any = None) -> None:
    """Compare a result with the oracle's: equal, or within a bound."""
    got = np.asarray(got)
    assert got.shape == expected.shape
    assert got.dtype == np.dtype(dtype)
    if tolerance is not None:
        assert np.all(np.abs(got.astype(expected.dtype) - expected) <= tolerance)
        return
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(got, expected.astype(dtype))


def element(dtype: str) -> tuple[str, str | None]:
    """Dtype of the elements, and the precision to ask for."""
    return ("float32", "tf32") if dtype == "tf32" else (dtype, None)


def last_of(x: Array) -> Array:
    """Channels moved to the end, in memory too."""
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


def convolve(
    x: Array, w: Array, b: Array | None, *, last: bool = False, there: bool = False, **options: Any
) -> Array:
    """Call numbaconv with channels-first arrays; `there`: they are brought to the device before."""
    if last:
        x, options = last_of(x), options | {"data_format": "channels_last"}
    if there:
        there_arrays = [None if a is None else OnDevice(a) for a in (x, w, b)]
        y = nc.conv(*there_arrays, **options).copy_to_host()
    else:
        y = nc.conv(x, w, b, **options, backend="cuda")
    return np.moveaxis(y, -1, 1) if last else y


def launched(kind: str) -> list[str]:
    """Keys of the kernels of a kind that ran."""
    return [launch.key for launch in GPU.launches if launch.key.startswith(f"{kind} ")]


# Every kind of product, forced.


@contextlib.contextmanager
def forced(tile: tiles.Tile, splits: int) -> Iterator[None]:
    """Take one tile for whatever comes."""
    before = cost.choose
    found = cost.Prediction(tiles.Plan(tile, splits), 1.0, 1.0)
    cost.choose = lambda *arguments: found
    try:
        yield
    finally:
        cost.choose = before


def check_kind(
    name: str, dtype: str, tile: tiles.Tile, option: str, splits: int, turing: bool
) -> None:
    """Run a kernel of a kind on a problem that no tile divides."""
    GPU.begin(capability=(7, 5) if turing else (9, 0))
    what, precision = element(dtype)
    with forced(tile, splits):
        if option.startswith("weights"):
            run_weights(tile, what, precision, mapped=option.endswith("mapped"))
        else:
            run_kind(name, tile, option, what, precision)
    flags = {
        "wide": option.startswith("wide"),
        "mapped": option.endswith("mapped"),
        "partial": splits > 1,
        "turing": turing,
        "of_weights": option.startswith("weights"),
    }
    (key,) = launched("product")
    assert repr(tile) in key
    assert all(f"{flag}={value}" in key for flag, value in flags.items())


def run_kind(name: str, tile: tiles.Tile, option: str, dtype: str, precision: str | None) -> None:
    wide, mapped = option.startswith("wide"), option.endswith("mapped")
    number = zlib.crc32(name.encode())
    modes = (MODES[1 + number % 4], MODES[number // 4 % 5]) if mapped else "zeros"
    channels = 2 * (16 // np.dtype(dtype).itemsize) if wide else 5
    case = problem(
        name,
        (3, channels, 3 if mapped else 7, 11 if tile.bn > 64 else 5),
        (tile.bm + 3, channels, 3, 3),
        bias=True,
        padding=((5, 2) if mapped else (1, 2), (2, 0)),  # longer than the axis where mapped
        dilation=(1, 2) if mapped else (2, 1),
        padding_mode=modes,
    )
    x, w, b = integer_arrays(case, dtype, 2)
    y = convolve(x, w, b, last=wide, precision=precision, **case.kwargs)
    check_equal(y, reference.conv_by_taps(x, w, b, **case.kwargs), dtype)


def run_weights(tile: tiles.Tile, dtype: str, precision: str | None, mapped: bool) -> None:
    kernel = (2, 29) if mapped else (3, 3)  # the first has more taps along its axes than bits
    c_out, c_in = tile.bm + 3, -(-(tile.bn + 5) // (kernel[0] * kernel[1]))
    padding = (1, 12) if mapped else 1
    case = problem("weights", (2, c_in, 5, 7), (c_out, c_in, *kernel), padding=padding)
    o = integer_operands(case, dtype)
    options = {"backend": "cuda", "precision": precision}
    y = nc.grad.conv2d_weight(o.x, case.weight, o.g, padding=padding, **options)
    expected = reference.conv_weight_by_taps(o.x, case.weight, o.g, padding=padding)
    check_equal(y, expected, dtype)


def label_of(tile: tiles.Tile) -> str:
    """Sizes of a tile."""
    return "x".join(map(str, tile[:5]))


def kinds() -> Iterator[tuple[str, Callable[[], None]]]:
    for dtype, group in tiles.TILES.items():
        for tile in group + tiles.GROUPED * (group is tiles.TENSOR):
            label = label_of(tile)
            for option in OPTIONS:
                flags = {
                    "wide": option.startswith("wide"),
                    "mapped": option.endswith("mapped"),
                    "of_weights": option.startswith("weights"),
                }
                kind = Kind(tile, dtype, **flags)
                if not kind.fits:
                    continue
                for splits in (1, 3):
                    name = f"kind {dtype} {label} {option} splits={splits}"
                    arguments = (name, dtype, tile, option, splits, False)
                    yield name, functools.partial(check_kind, *arguments)
                # Vectors of neighbouring channels take no other way there, but float16's do.
                other = dtype == "float16" or (dtype != "tf32" and not kind.wide)
                if other and kind._replace(turing=True).fits:
                    name = f"kind {dtype}-turing {label} {option}"
                    yield name, functools.partial(check_kind, name, dtype, tile, option, 1, True)


# Layers on warpgroups, forced.

# Images, groups, channels of a group before and behind; size, kernel, stride, padding, dilation.
LAYERS = (
    ((3, 1, 24, 70), (7, 11), (3, 3), (1, 1), (1, 1), (1, 1)),
    ((2, 1, 16, 130), (13, 9), (3, 2), (2, 1), (1, 0), (1, 1)),
    ((1, 3, 8, 67), (9, 14), (3, 3), (1, 2), (2, 1), (2, 1)),
    ((5, 1, 8, 64), (17,), (5,), (3,), (2,), (1,)),
    ((2, 1, 8, 33), (4, 5, 6), (2, 3, 3), (1, 2, 1), (1, 1, 0), (1, 1, 2)),
    ((1, 1, 40, 128), (16, 16), (1, 1), (1, 1), (0, 0), (1, 1)),
    ((33, 2, 16, 5), (3, 3), (3, 3), (1, 1), (2, 2), (1, 1)),
)


def check_layer(name: str, dtype: str, tile: tiles.Tile, splits: int, layer: Any) -> None:
    """Run a layer, from arrays of either side, with a bias and an activation or without."""
    (images, groups, before, behind), size, kernel, *steps = layer
    integer = random.Random(name).randint
    GPU.begin()
    what, precision = element(dtype)
    options = dict(zip(("stride", "padding", "dilation"), steps, strict=True))
    shapes = (images, groups * before, *size), (groups * behind, before, *kernel)
    case = problem(name, *shapes, bias=True, groups=groups, **options)
    x, w, b = integer_arrays(case, what, 2)
    b, activation = (b, choose(integer, ACTIVATIONS)) if integer(0, 1) else (None, None)
    with forced(tile, splits):
        options = case.kwargs | {"precision": precision, "activation": activation}
        y = convolve(x, w, b, last=True, there=integer(0, 1) == 0, **options)
    expected = activated(reference.conv_by_taps(x, w, b, **case.kwargs), activation)
    check_equal(y, expected, what, tolerance_of(activation, what, expected))
    (key,) = launched("product")
    assert repr(tile) in key


def layers() -> Iterator[tuple[str, Callable[[], None]]]:
    for dtype in ("float16", "tf32"):
        for i, layer in enumerate(LAYERS):
            for j, tile in enumerate(tiles.GROUPED):
                splits = 1 + (i + j) % 2 * (1 + i % 3)
                name = f"layer {dtype} {label_of(tile)} {layer[:3]} splits={splits}"
                yield name, functools.partial(check_layer, name, dtype, tile, splits, layer)


# Channels that are brought together before.


@contextlib.contextmanager
def bringing() -> Iterator[None]:
    """Bring channels together wherever that is possible, as if it cost nothing."""
    before = cost.after_bringing
    cost.after_bringing = lambda found, *others: found._replace(cycles=0.0, brought=True)
    try:
        yield
    finally:
        cost.after_bringing = before


def check_brought(name: str, dtype: str, mode: str, there: bool) -> None:
    """A convolution and a transposed one, whose channels and pixels no tile divides."""
    GPU.begin(processors=1)
    what, precision = element(dtype)
    channels = 3 * 16 // np.dtype(what).itemsize  # of each of two groups
    case = problem(
        name,
        (3, 2 * channels, 5, 9),
        (6, channels, 3, 2),
        bias=True,
        stride=(2, 1),
        padding=(1, 2),
        groups=2,
        padding_mode=mode,
    )
    x, w, b = integer_arrays(case, what, 2)
    back = problem(name, case.output, (6, channels, 3, 2), stride=2, groups=2)
    g = np.ascontiguousarray(np.repeat(integer_arrays(back, what, 2)[0], channels, axis=1))
    spread = {"stride": (2, 1), "groups": 2, "precision": precision, "backend": "cuda"}
    v = integer_arrays(problem(name, x.shape, (6 * channels, 3, 3, 2), groups=2), what, 2)[1]
    with bringing():
        y = convolve(x, w, b, there=there, precision=precision, **case.kwargs)
        assert len(launched("transposition")) == 1
        z = nc.conv_transpose2d(g, v, **spread)
        assert len(launched("transposition")) == 3  # of two phases
    assert all("wide=True" in key for key in launched("product"))
    check_equal(y, reference.conv_by_taps(x, w, b, **case.kwargs), what)
    check_equal(z, reference.conv_transpose(g, v, stride=(2, 1), groups=2), what)


def brought() -> Iterator[tuple[str, Callable[[], None]]]:
    for dtype in ("float16", "tf32", "float32", "float64"):
        for mode, there in (("zeros", True), ("reflect", False)):
            name = f"brought {dtype} {mode}"
            yield name, functools.partial(check_brought, name, dtype, mode, there)


# Winograd's minimal filtering.

# Input, weight and options; no tile divides these sizes.
WINOGRAD: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "image": ((2, 3, 7, 9), (5, 3, 3, 3), {"padding": 1}),
    "groups": ((3, 8, 5, 6), (6, 4, 3, 3), {"groups": 2, "padding": ((0, 2), (2, 1))}),
    "valid": ((1, 19, 11, 5), (17, 19, 3, 3), {}),
    "signal": ((2, 3, 31), (5, 3, 3), {"padding": 2}),
    "columns": ((2, 4, 13, 3), (4, 4, 3, 1), {"padding": (1, 2)}),
    "planes": ((2, 3, 4, 6, 5), (5, 3, 1, 3, 3), {"padding": (1, 1, 0)}),
}


def check_launched(weights: int, inputs: int) -> None:
    """So many passes over weights and inputs ran, one product and one pass back for each input."""
    assert len(launched("evaluation of weights")) == weights
    for kernel in ("evaluation of inputs", "product", "interpolation"):
        assert len(launched(kernel)) == inputs


def check_winograd(name: str, form: str, outputs: int, last: bool) -> None:
    """Integers are exact with 2 outputs, whose matrices have halves; else values under a bound."""
    integer = random.Random(name).randint
    GPU.begin(capability=choose(integer, ((9, 0), (7, 5))))
    shape, weight, options = WINOGRAD[form]
    case = problem(name, shape, weight, bias=integer(0, 1) == 0, **options)
    exact = outputs == 2
    x, w, b = integer_arrays(case) if exact else normal_arrays(case)
    w = 4 * w
    activation = choose(integer, (None, "relu"))
    y = reference.conv_by_taps(x, w, b, **options)
    with minimal(outputs):
        got = convolve(x, w, b, last=last, precision="fast", activation=activation, **options)
    check_launched(1, 1)
    tolerance = None if exact else UNIT * np.abs(y).max()
    check_equal(got, activated(y, activation), "float32", tolerance)


def check_winograd_parts(name: str, last: bool) -> None:
    """Tiles by parts, the last one short; a layer transforms its weights once."""
    GPU.begin()
    shape, weight, options = WINOGRAD["groups"]
    x, w, b = integer_arrays(problem(name, shape, weight, bias=True, **options))
    w, y = 4 * w, reference.conv_by_taps(x, 4 * w, b, **options)
    form = {"data_format": "channels_last"} if last else {}
    layer = nc.prepare(w, b, **options, **form, backend="cuda", precision="fast")
    there = OnDevice(last_of(x) if last else x)
    with minimal(2, 16 * 14 * 8):  # 8 of 36 tiles
        for calls in (1, 2):
            got = layer(there).copy_to_host()
            check_launched(1, 5 * calls)
            check_equal(np.moveaxis(got, -1, 1) if last else got, y, "float32")


def check_winograd_layer(name: str) -> None:
    """A layer keeps weights for each way that its inputs are computed."""
    GPU.begin()
    shape, weight, options = WINOGRAD["groups"]
    x, w, b = integer_arrays(problem(name, shape, weight, bias=True, **options))
    layer = nc.prepare(3 * w, b, **options, backend="cuda", precision="fast")
    for count, way in enumerate((minimal(2), contextlib.nullcontext(), minimal(4)), start=1):
        expected = reference.conv_by_taps(x[:count], 3 * w, b, **options)
        with way:
            y = layer(x[:count])
        check_equal(y, expected, "float32", UNIT * np.abs(expected).max())
    assert len(launched("evaluation of weights")) == len(launched("interpolation")) == 2
    assert len(launched("product")) == len(layer.weights.packed) == 3


def check_winograd_backwards(name: str, outputs: int) -> None:
    """The gradient of an input, and a transposed convolution of several phases."""
    GPU.begin()
    shape, weight, options = WINOGRAD["groups"]
    case = problem(name, shape, weight, **options)
    o = integer_operands(case)
    with minimal(outputs):
        got = nc.grad.conv2d_input(shape, 4 * o.w, o.g, **options, backend="cuda", precision="fast")
        check_launched(1, 1)
        expected = reference.conv_input_by_taps(shape, 4 * o.w, o.g, **options)
        check_equal(got, expected, "float32", None if outputs == 2 else UNIT * abs(expected).max())
        back = problem(name, (1, 5, 4, 3), (5, 3, 6, 3), bias=True)._replace(weight=(3, 5, 6, 3))
        x, w, b = integer_arrays(back)
        w = 4 * np.ascontiguousarray(w.swapaxes(0, 1))
        expected = reference.conv_transpose(x, w, b, stride=(2, 1))
        tolerance = None if outputs == 2 else UNIT * abs(expected).max()
        options = {"stride": (2, 1), "backend": "cuda", "precision": "fast"}
        check_equal(nc.conv_transpose2d(x, w, b, **options), expected, "float32", tolerance)
        check_launched(3, 3)
        layer = nc.prepare_transposed(w, b, **options)
        for calls in (1, 2):  # of two phases, whose weights are kept
            check_equal(layer(x), expected, "float32", tolerance)
            check_launched(5, 3 + 2 * calls)


def check_winograd_values(name: str, outputs: int) -> None:
    """What is infinite or NaN reaches its window; of 4 outputs, others of the same tiles too."""
    GPU.begin()
    shape, weight, options = WINOGRAD["image"]
    x, w, b = normal_arrays(problem(name, shape, weight, bias=True, **options))
    x[0, 1, 3, 4], x[1, 2, 6, 8] = np.nan, np.inf
    with minimal(outputs):
        y = convolve(x, w, b, precision="fast", **options)
    with np.errstate(invalid="ignore"):
        expected = reference.conv(x, w, b, **options)
    odd = ~np.isfinite(expected)
    assert not np.isfinite(y[odd]).any()
    reached = np.argwhere(~np.isfinite(y) & ~odd)
    for image, _, *place in reached:
        near = np.argwhere(odd[image, 0])
        assert abs(near - place).max(axis=1).min() <= 2
    assert (len(reached) > 0) == (outputs == 4)
    finite = np.isfinite(y)
    assert np.all(abs(y[finite] - expected[finite]) <= UNIT * abs(expected[finite]).max())


def check_winograd_product(name: str, form: str, kernel: str, way: Any) -> None:
    """Its product may split its sums, or bring channels together before, as any other."""
    GPU.begin()
    shape, weight, options = WINOGRAD[form]
    x, w, b = integer_arrays(problem(name, shape, weight, bias=True, **options))
    with minimal(2), way():
        y = convolve(x, 4 * w, b, precision="fast", **options)
    check_launched(1, 1)
    assert launched(kernel)
    check_equal(y, reference.conv_by_taps(x, 4 * w, b, **options), "float32")


def check_winograd_complex(name: str) -> None:
    """Real and imaginary parts are channels."""
    GPU.begin()
    shape, weight, options = WINOGRAD["groups"]
    x, w, b = integer_arrays(problem(name, shape, weight, bias=True, **options), "complex64")
    with minimal(2):
        y = convolve(x, 4 * w, b, precision="fast", **options)
    check_launched(1, 1)
    check_equal(y, reference.conv_by_taps(x, 4 * w, b, **options), "complex64")


def winograds() -> Iterator[tuple[str, Callable[[], None]]]:
    for outputs in (2, 4):
        for form in WINOGRAD:
            for last in (False, True):
                name = f"winograd {outputs} {form} last={last}"
                yield name, functools.partial(check_winograd, name, form, outputs, last)
        name = f"winograd {outputs} backwards"
        yield name, functools.partial(check_winograd_backwards, name, outputs)
        name = f"winograd {outputs} values"
        yield name, functools.partial(check_winograd_values, name, outputs)
    for last in (False, True):
        name = f"winograd parts last={last}"
        yield name, functools.partial(check_winograd_parts, name, last)
    for form, kernel, way in (
        ("valid", "second pass", functools.partial(short_splits, 1)),
        ("groups", "transposition", bringing),
    ):
        name = f"winograd {kernel}"
        yield name, functools.partial(check_winograd_product, name, form, kernel, way)
    yield "winograd layer", functools.partial(check_winograd_layer, "winograd layer")
    yield "winograd complex", functools.partial(check_winograd_complex, "winograd complex")


# The kernel of filters.


def check_filter(
    name: str, dtype: str, stride: int, dilation: int, mode: Any, form: tuple[Any, ...]
) -> None:
    size, kernel, groups, multiplier, padding = form
    integer = random.Random(name).randint
    GPU.begin()
    case = problem(
        name,
        (2, groups, *size),
        (groups * multiplier, 1, *kernel),
        bias=True,
        stride=stride,
        dilation=dilation,
        padding=padding,
        groups=groups,
        padding_mode=mode,
    )
    x, w, b = integer_arrays(case, dtype, 2)
    y = convolve(x, w, b, last=integer(0, 2) == 0, there=integer(0, 1) == 0, **case.kwargs)
    assert launched("filter")
    check_equal(y, reference.conv_by_taps(x, w, b, **case.kwargs), dtype)


def filters() -> Iterator[tuple[str, Callable[[], None]]]:
    forms = (
        ((11, 37), (3, 3)),
        ((23, 19), (5, 4)),
        ((7, 8), (7, 7)),
        ((5, 9, 6), (3, 3, 2)),
        ((150,), (9,)),
    )
    for dtype in ("float32", "float64", "float16", "int32", "int64"):
        count = 0
        for stride, dilation in ((1, 1), (2, 1), (1, 2), (3, 2)):
            for mode in MODES:
                size, kernel = forms[(count + count // 5) % 5]
                padding = tuple(k // 2 * dilation for k in kernel)
                form = (size, kernel, (1, 3, 6)[count % 3], (1, 2, 4)[count % 3], padding)
                count += 1
                name = f"filter {dtype} stride={stride} dilation={dilation} {mode} {form[:2]}"
                arguments = name, dtype, stride, dilation, mode, form
                yield name, functools.partial(check_filter, *arguments)
        for modes in (("circular", "zeros"), ("reflect", "zeros", "symmetric")):
            size, kernel = forms[len(modes)]
            longer = tuple((s + 1, 1) for s in size)
            name = f"filter {dtype} {' '.join(modes)}"
            arguments = name, dtype, 1, 1, modes, (size, kernel, 2, 1, longer)
            yield name, functools.partial(check_filter, *arguments)


def check_filter_gradient(name: str, dtype: str, stride: int, dilation: int, form: Any) -> None:
    """The gradient of a filter's weights, in one part and in several."""
    images, size, kernel, groups, multiplier, processors = form
    integer = random.Random(name).randint
    GPU.begin(processors=processors)
    case = problem(
        name,
        (images, groups, *size),
        (groups * multiplier, 1, *kernel),
        stride=stride,
        dilation=dilation,
        padding=tuple(k // 2 * dilation + integer(0, 1) for k in kernel),
        groups=groups,
    )
    o = integer_operands(case, dtype)
    conv_weight = names(case)[1]
    y = conv_weight(o.x, case.weight, o.g, **case.kwargs, backend="cuda")
    assert launched("filter gradient")
    expected = reference.conv_weight_by_taps(o.x, case.weight, o.g, **case.kwargs)
    # Larger integers than float16 has are rounded.
    tolerance = np.abs(expected) * 2.0**-11 if dtype == "float16" else None
    check_equal(y, expected, dtype, tolerance)


def check_infinite_gradient(name: str, stride: int) -> None:
    """What is infinite or NaN comes out in the sums that have it, and in no others."""
    GPU.begin()
    size = (14, 14 * stride - 1)
    case = problem("odd", (3, 2, *size), (2, 1, 3, 3), padding=1, stride=(1, stride), groups=2)
    o = integer_operands(case, "float32")
    x, g = o.x.copy(), o.g.copy()
    x[1, 0, 13, -1], x[2, 1, 0, 0], g[0, 1, 3, 5] = np.inf, np.nan, np.inf
    y = nc.grad.conv2d_weight(x, case.weight, g, **case.kwargs, backend="cuda")
    assert launched("filter gradient")
    with np.errstate(invalid="ignore"):
        expected = reference.conv_weight_by_taps(x, case.weight, g, **case.kwargs)
    assert 0 < np.isfinite(expected).sum() < expected.size
    check_equal(y, expected, "float32")


def filter_gradients() -> Iterator[tuple[str, Callable[[], None]]]:
    forms = (
        (3, (11, 37), (3, 3), 3, 1, 1),
        (2, (23, 19), (5, 4), 2, 2, 132),
        (5, (9, 8), (7, 7), 1, 3, 4),
        (2, (5, 9, 6), (3, 3, 2), 2, 1, 4),
        (2, (150,), (25,), 3, 1, 132),
        (9, (7, 7), (3, 3), 4, 1, 1),
        (3, (60, 70), (3, 3), 9, 1, 1),  # several tiles to a block
    )
    for dtype in ("float32", "float64", "float16", "int32", "int64"):
        for number, form in enumerate(forms):
            steps = (
                ((1, 1), (2, 1), (3, 2)) if dtype in ("float32", "float16") else ((1, 1), (2, 1))
            )
            stride, dilation = steps[number % len(steps)] if number else (1, 1)
            name = f"filter gradient {dtype} stride={stride} dilation={dilation} {form[:3]}"
            arguments = name, dtype, stride, dilation, form
            yield name, functools.partial(check_filter_gradient, *arguments)
    for stride in (1, 2, 3):
        name = f"filter gradient infinite stride={stride}"
        yield name, functools.partial(check_infinite_gradient, name, stride)


# Problems drawn at random.


def begin_random(integer: Integer, dtype: str) -> None:
    capability = choose(integer, ((9, 0), (9, 0), (8, 0), (7, 5)))
    if dtype == "tf32":
        capability = max(capability, (8, 0))
    GPU.begin(capability=capability, processors=choose(integer, (1, 4, 132)))


def draw(integer: Integer, name: str, depthwise: bool = False, zeros: bool = False) -> Case:
    """A small problem of any form."""
    limits: dict[str, Any] = {"channels": (9, 39)}
    if depthwise:
        limits = {"channels": (1, 4), "max_groups": 8}
    return random_case(
        integer,
        name,
        modes=MODES[:1] if zeros or integer(0, 1) else MODES,
        longest={1: 40, 2: 13, 3: 6},
        widest_kernel={1: 5, 2: 5, 3: 3},
        pad=4,
        strides=3,
        **limits,
    )


def activated(y: Array, name: str | None) -> Array:
    """Apply an activation in wide arithmetic."""
    if name is None:
        return y
    with np.errstate(over="ignore"):
        return {
            "relu": lambda: np.maximum(y, 0),
            "relu6": lambda: np.clip(y, 0, 6),
            "hardswish": lambda: y * np.clip(y + 3, 0, 6) / 6,
            "tanh": lambda: np.tanh(y),
            "silu": lambda: y / (1 + np.exp(-y)),
            "sigmoid": lambda: 1 / (1 + np.exp(-y)),
        }[name]()


def tolerance_of(activation: str | None, dtype: str, expected: Array) -> Any:
    """Bound of what an activation rounds; None of those that keep integers."""
    if activation not in ("silu", "sigmoid", "tanh", "hardswish"):
        return None
    unit, least = {"float16": (1e-3, 1e-6), "float32": (4e-7, 1e-6)}.get(dtype, (1e-14, 1e-13))
    return 4 * unit * np.maximum(np.abs(expected), 1e-3) + least


def check_random(name: str, dtype: str, depthwise: bool) -> None:
    integer = random.Random(name).randint
    begin_random(integer, dtype)
    case, (what, precision) = draw(integer, name, depthwise), element(dtype)
    x, w, b = integer_arrays(case, what, 2)
    b = b if integer(0, 2) else None
    activation = None
    if np.dtype(what).kind == "f" and not integer(0, 2):
        activation = choose(integer, ACTIVATIONS)
    expected = activated(reference.conv_by_taps(x, w, b, **case.kwargs), activation)
    tolerance = tolerance_of(activation, what, expected)
    options = case.kwargs | {"activation": activation, "precision": precision}
    last, where = not integer(0, 2), integer(0, 2)
    if last:
        x, options = last_of(x), options | {"data_format": "channels_last"}
    if where == 0:
        y = nc.conv(x, w, b, **options, backend="cuda")
    else:
        there = [None if a is None else on_device(integer, a) for a in (x, w, b)]
        if where == 1:
            y = nc.conv(*there, **options).copy_to_host()
        else:
            shape = np.moveaxis(expected, 1, -1).shape if last else expected.shape
            out = on_device(integer, np.zeros(shape, what))
            nc.conv(*there, **options, out=out)
            y = out.get()
    check_equal(np.moveaxis(y, -1, 1) if last else y, expected, what, tolerance)


def on_device(integer: Integer, array: Array) -> OnDevice:
    """An array on the device in a random layout."""
    return OnDevice(choose(integer, LAYOUTS)(array, integer))


@contextlib.contextmanager
def short_splits(most: int) -> Iterator[None]:
    """Split sums that are shorter than it pays, as if a second pass cost nothing."""
    before = cost.LEAST_STEPS, cost.LAUNCH
    cost.LEAST_STEPS, cost.LAUNCH = most, 0
    try:
        yield
    finally:
        cost.LEAST_STEPS, cost.LAUNCH = before


def check_gradient(name: str, dtype: str, of: str) -> None:
    integer = random.Random(name).randint
    begin_random(integer, dtype)
    case, (what, precision) = draw(integer, name, not integer(0, 3), zeros=True), element(dtype)
    del case.kwargs["padding_mode"]
    o = integer_operands(case, what)
    there = bool(integer(0, 1))
    options = case.kwargs | {"precision": precision, "backend": None if there else "cuda"}
    x, w, g = ((on_device(integer, a) if there else a) for a in (o.x, o.w, o.g))
    conv_input, conv_weight, _ = names(case)
    with short_splits(choose(integer, (1, cost.LEAST_STEPS))):
        if of == "input":
            y = conv_input(case.input, w, g, **options)
            expected = reference.conv_input_by_taps(case.input, o.w, o.g, **case.kwargs)
        else:
            y = conv_weight(x, case.weight, g, **options)
            expected = reference.conv_weight_by_taps(o.x, case.weight, o.g, **case.kwargs)
    # Larger integers than float16 has are rounded.
    tolerance = np.abs(expected) * 2.0**-11 if what == "float16" else None
    check_equal(on_host("result", y), expected, what, tolerance)


def check_transposed(name: str, dtype: str) -> None:
    integer = random.Random(name).randint
    GPU.begin(processors=choose(integer, (1, 132)))
    case = draw(integer, name, zeros=True)
    rank = len(case.weight) - 2
    options = {k: case.kwargs[k] for k in ("stride", "dilation", "groups")}
    n, c_in, *size = case.input
    weight = (c_in, case.weight[0] // case.kwargs["groups"], *case.weight[2:])
    back = problem(name, (n, c_in, *size), weight, bias=True)._replace(
        weight=(weight[1] * options["groups"], *weight[1:])
    )
    x, _, b = integer_arrays(back, dtype, 2)
    w = integer_arrays(problem(name, (1, weight[1], *weight[2:]), weight), dtype, 2)[1]
    function = getattr(nc, f"conv_transpose{rank}d")
    y = function(x, w, b, **options, backend="cuda")
    check_equal(y, reference.conv_transpose(x, w, b, **options), dtype)


def at_random() -> Iterator[tuple[str, Callable[[], None]]]:
    usual = ("float32", "float64", "float16", "tf32", "int32")
    others = ("int64", "uint8", "int16", "uint32", "complex64", "complex128")
    for dtypes, count in ((usual, 16), (others, 8)):
        for i in range(count):
            for dtype in dtypes:
                name = f"conv {dtype} random {i}"
                yield name, functools.partial(check_random, name, dtype, False)
    for i in range(9):
        for dtype in ("float32", "float64", "float16", "int32"):
            name = f"depthwise {dtype} random {i}"
            yield name, functools.partial(check_random, name, dtype, True)
    for i in range(8):
        for dtype in (*usual, "complex64"):
            for of in ("input", "weight"):
                name = f"gradient {of} {dtype} random {i}"
                yield name, functools.partial(check_gradient, name, dtype, of)
    for i in range(6):
        for dtype in ("float32", "float16", "int32", "complex128"):
            name = f"transposed {dtype} random {i}"
            yield name, functools.partial(check_transposed, name, dtype)


# Values.


def check_values(name: str, dtype: str, last: bool, tile: tiles.Tile | None = None) -> None:
    """Normal values under a bound; then infinities and NaN, which come out where they should."""
    with forced(tile, 1) if tile else contextlib.nullcontext():
        check_chosen_values(name, dtype, last)


def check_chosen_values(name: str, dtype: str, last: bool) -> None:
    integer = random.Random(name).randint
    GPU.begin(processors=choose(integer, (1, 132)))
    what, precision = element(dtype)
    case = problem("values", (2, 8, 7, 9), (19, 8, 3, 3), bias=True, padding=1)
    x, w, b = (a.copy() for a in normal_arrays(case, what))
    expected = reference.conv(x, w, b, padding=1)
    magnitude = reference.conv(*(np.abs(a) for a in (x, w, b)), padding=1)
    unit = {"float16": 2.0**-10, "tf32": 2.0**-9, "float32": 2.0**-19}.get(dtype, 2.0**-48)
    options = {"last": last, "padding": 1, "precision": precision}
    check_equal(convolve(x, w, b, **options), expected, what, unit * magnitude)
    w[3, 2, 1, 1], w[5, :, 0, 0], x[1, 4, 3, 3] = np.inf, np.nan, -np.inf
    y = convolve(x, w, b, **options)
    with np.errstate(invalid="ignore"):
        expected = reference.conv(x, w, b, padding=1)
        # An odd weight under which there is only padding may give NaN, or not (`nc.conv` says so).
        zeros = reference.conv_by_taps(np.zeros_like(x), w, None, padding=1)
    free = np.isnan(zeros) & ~np.isnan(expected)
    assert free.any()
    assert not free.all()
    np.testing.assert_array_equal(np.isnan(y)[~free], np.isnan(expected)[~free])
    infinite = ~free & np.isinf(expected)
    np.testing.assert_array_equal(np.isinf(y)[~free], np.isinf(expected)[~free])
    np.testing.assert_array_equal(y[infinite], expected[infinite])


def check_unaligned(dtype: str, skew: int) -> None:
    """Arrays of the caller that begin at no multiple of 16 bytes."""
    GPU.begin()
    case = problem("unaligned", (2, 8, 9, 9), (13, 8, 3, 3), bias=True, padding=1)
    o = integer_operands(case, dtype)
    b = integer_arrays(case, dtype, 2)[2]
    GPU.skew = skew
    there = [OnDevice(a) for a in (last_of(o.x), o.w, b)]
    out = OnDevice(np.zeros((2, 9, 9, 13), dtype))
    x, g = OnDevice(o.x), OnDevice(o.g)
    GPU.skew = 0
    nc.conv(*there, padding=1, data_format="channels_last", out=out)
    expected = reference.conv_by_taps(o.x, o.w, b, padding=1)
    check_equal(np.moveaxis(out.get(), -1, 1), expected, dtype)
    y = nc.grad.conv2d_weight(x, case.weight, g, padding=1).copy_to_host()
    check_equal(y, reference.conv_weight_by_taps(o.x, case.weight, o.g, padding=1), dtype)


def check_window(kernel: tuple[int, ...], mapped: bool) -> None:
    """Kernels of as many taps along their axes as there are bits, and of one more."""
    GPU.begin()
    size = tuple(k - 3 for k in kernel)
    case = problem(
        f"window {kernel}",
        (2, 3, *size),
        (5, 3, *kernel),
        bias=True,
        padding=tuple(k - 1 for k in kernel),
    )
    x, w, b = integer_arrays(case, "float32", 2)
    y = convolve(x, w, b, **case.kwargs)
    check_equal(y, reference.conv_by_taps(x, w, b, **case.kwargs), "float32")
    (key,) = launched("product")
    assert f"mapped={mapped}" in key
    o = integer_operands(case, "float32")
    padding = case.kwargs["padding"]
    gradient = names(case)[1](x, case.weight, o.g, padding=padding, backend="cuda")
    expected = reference.conv_weight_by_taps(x, case.weight, o.g, padding=padding)
    check_equal(gradient, expected, "float32")
    key = launched("product")[-1]
    assert f"mapped={mapped}" in key
    assert "of_weights=True" in key


def check_move(name: str, source: str, target: str) -> None:
    """Copy between arrays of any strides, converting."""
    from numbaconv.cuda import memory

    integer = random.Random(name).randint
    GPU.begin()
    shape = tuple(integer(1, 6) for _ in range(integer(1, 6)))
    least = 0 if source[0] in "ub" else -3
    values = np.array([integer(least, 3) for _ in range(int(np.prod(shape)))]).astype(source)
    values = values.reshape(shape)
    x, y = on_device(integer, values), on_device(integer, np.zeros(shape, target))
    for negate in (False, True)[: 1 + source.startswith("float")]:
        memory.move(memory.shadow("y", y), memory.shadow("x", x), 0, negate)
        check_equal(y.get(), -values if negate else values, target)


def others() -> Iterator[tuple[str, Callable[[], None]]]:
    for dtype in ("float32", "tf32", "float16", "float64"):
        for last in (False, True):
            name = f"values {dtype} last={last}"
            yield name, functools.partial(check_values, name, dtype, last)
    for dtype in ("tf32", "float16"):
        for tile in tiles.GROUPED:
            name = f"values {dtype} {label_of(tile)}"
            yield name, functools.partial(check_values, name, dtype, True, tile)
    for dtype in ("float16", "float32", "float64"):
        for skew in sorted({np.dtype(dtype).itemsize, 8}):
            name = f"unaligned {dtype} by {skew}"
            yield name, functools.partial(check_unaligned, dtype, skew)
    for kernel, mapped in (((29,), False), ((30,), True), ((14, 16), False), ((15, 16), True)):
        yield f"window {kernel}", functools.partial(check_window, kernel, mapped)
    for source in DTYPES:
        for target in sorted({"float16", "float32", "float64", "int32", "int64", source}):
            name = f"move {source} to {target}"
            yield name, functools.partial(check_move, name, source, target)


TABLES = (kinds, layers, brought, winograds, filters, filter_gradients, at_random, others)
CASES: dict[str, Callable[[], None]] = {name: check for table in TABLES for name, check in table()}
