"""What every public function takes for an array: what NumPy reads, bools, masked arrays.

The table has all functions that take arrays; a test finds the one that is missing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import numbaconv as nc
from tests.robustness.test_hostile import CALLS as OPERATORS


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).integers(-4, 5, shape).astype(np.float64)


class Call(NamedTuple):
    """A function, its arrays by the names of their arguments, and its other arguments."""

    function: Callable[..., Any]
    arrays: dict[str, np.ndarray]
    options: dict[str, Any] = {}  # noqa: RUF012

    def __call__(self, **changed: Any) -> Any:
        return self.function(**{**self.arrays, **self.options, **changed})


def operands(rank: int) -> dict[str, np.ndarray]:
    size, kernel = (5, 6, 4)[:rank], (3, 2, 2)[:rank]
    return {"input": numbers(2, 4, *size), "weight": numbers(4, 4, *kernel), "bias": numbers(4)}


def layer(prepare: Callable[..., Any]) -> Callable[..., Any]:
    """Prepares a layer and calls it."""

    def call(x: Any, weight: Any, bias: Any) -> Any:
        return prepare(weight, bias)(x)

    return call


def explained(input: Any, weight: Any, bias: Any) -> np.ndarray:
    kinds = ("forward", "transposed", "input", "weight")
    return np.array([nc.explain(input, weight, bias, of=of).out_shape for of in kinds])


def gradients(rank: int) -> dict[str, Call]:
    x, w, _ = operands(rank).values()
    g = nc.conv(x, w)
    of_input, of_weight = (getattr(nc.grad, f"conv{rank}d_{of}") for of in ("input", "weight"))
    return {
        f"conv{rank}d_input": Call(
            of_input, {"weight": w, "grad_output": g}, {"input_size": x.shape}
        ),
        f"conv{rank}d_weight": Call(
            of_weight, {"input": x, "grad_output": g}, {"weight_size": w.shape}
        ),
    }


LAYER = {"x": operands(2)["input"], **{k: operands(2)[k] for k in ("weight", "bias")}}
CONVOLUTIONS: dict[str, Call] = {
    "conv": Call(nc.conv, operands(2)),
    **{f"conv{r}d": Call(getattr(nc, f"conv{r}d"), operands(r)) for r in (1, 2, 3)},
    **{
        f"conv_transpose{r}d": Call(getattr(nc, f"conv_transpose{r}d"), operands(r))
        for r in (1, 2, 3)
    },
    "prepare": Call(layer(nc.prepare), LAYER),
    "prepare_transposed": Call(layer(nc.prepare_transposed), LAYER),
    "explain": Call(explained, operands(2)),
    "grad": gradients(2)["conv2d_input"],
    **{name: call for rank in (1, 2, 3) for name, call in gradients(rank).items()},
}
PATCHES = {
    "im2col": Call(nc.im2col, {"input": numbers(2, 3, 5, 6)}, {"kernel_size": (2, 3)}),
    "col2im": Call(
        nc.col2im, {"columns": numbers(2, 6, 9)}, {"output_size": (4, 5), "kernel_size": (2, 3)}
    ),
}
IMAGE = {"input": numbers(7, 6)}
SMALL, LINE = numbers(3, 3), numbers(3)
PAIR = {"in1": numbers(6, 5), "in2": SMALL}


def derivative(image: Any, axis: int, output: Any, mode: Any, cval: Any) -> Any:
    return nc.ndimage.correlate1d(image, [1, -2, 1], axis, output, mode, cval)


FILTERS = {
    "convolve": Call(nc.ndimage.convolve, IMAGE | {"weights": SMALL}),
    "correlate": Call(nc.ndimage.correlate, IMAGE | {"weights": SMALL}),
    "convolve1d": Call(nc.ndimage.convolve1d, IMAGE | {"weights": LINE}),
    "correlate1d": Call(nc.ndimage.correlate1d, IMAGE | {"weights": LINE}),
    "gaussian_filter": Call(nc.ndimage.gaussian_filter, IMAGE, {"sigma": 1.0}),
    "gaussian_filter1d": Call(nc.ndimage.gaussian_filter1d, IMAGE, {"sigma": 1.0}),
    "gaussian_gradient_magnitude": Call(
        nc.ndimage.gaussian_gradient_magnitude, IMAGE, {"sigma": 1.0}
    ),
    "gaussian_laplace": Call(nc.ndimage.gaussian_laplace, IMAGE, {"sigma": 1.0}),
    "generic_gradient_magnitude": Call(
        nc.ndimage.generic_gradient_magnitude, IMAGE, {"derivative": derivative}
    ),
    "generic_laplace": Call(nc.ndimage.generic_laplace, IMAGE, {"derivative2": derivative}),
    "laplace": Call(nc.ndimage.laplace, IMAGE),
    "prewitt": Call(nc.ndimage.prewitt, IMAGE),
    "sobel": Call(nc.ndimage.sobel, IMAGE),
    "uniform_filter": Call(nc.ndimage.uniform_filter, IMAGE),
    "uniform_filter1d": Call(nc.ndimage.uniform_filter1d, IMAGE, {"size": 3}),
    "prepare_mask": Call(
        lambda mask: nc.ndimage.prepare_mask(mask).valid, {"mask": numbers(4, 4) > 0}
    ),
}
SIGNALS = {
    **{
        name: Call(getattr(nc.signal, name), PAIR)
        for name in (
            "convolve",
            "correlate",
            "convolve2d",
            "correlate2d",
            "fftconvolve",
            "oaconvolve",
        )
    },
    "sepfir2d": Call(nc.signal.sepfir2d, IMAGE | {"hrow": LINE, "hcol": LINE}),
    "upfirdn": Call(nc.signal.upfirdn, {"h": LINE, "x": numbers(9)}, {"up": 2}),
    "resample_poly": Call(nc.signal.resample_poly, {"x": numbers(9)}, {"up": 3, "down": 2}),
    "savgol_filter": Call(
        nc.signal.savgol_filter, {"x": numbers(9)}, {"window_length": 5, "polyorder": 2}
    ),
    "lfilter": Call(nc.signal.lfilter, {"b": LINE, "a": np.ones(1), "x": numbers(9)}),
}
# Functions of a name in several modules are told apart.
TABLE = {
    **CONVOLUTIONS,
    **PATCHES,
    **{f"ndimage.{name}": call for name, call in FILTERS.items()},
    **{f"signal.{name}": call for name, call in SIGNALS.items()},
}
EACH = [
    pytest.param(name, array, id=f"{name}, {array}")
    for name in TABLE
    for array in TABLE[name].arrays
]
WITHOUT_ARRAYS = {
    *("available_backends", "get_backend", "set_backend", "use_backend", "show_config"),
    *("release_memory", "tiled", "ndimage", "signal", "__version__"),
}


def test_every_function_is_in_the_table():
    functions = {name for name in nc.__all__ if not inspect.isclass(getattr(nc, name))}
    assert functions - WITHOUT_ARRAYS | set(nc.grad.__all__) == {*CONVOLUTIONS, *PATCHES}
    assert {n for n in nc.ndimage.__all__ if n != "PreparedMask"} == {*FILTERS}
    assert set(nc.signal.__all__) == {*SIGNALS}
    assert "prepare_transposed" in OPERATORS


class HasArray:
    """What tables and labelled arrays have."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        return self.array


class HasInterface:
    """What pictures have."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.__array_interface__ = array.__array_interface__


@pytest.mark.parametrize(("name", "array"), EACH)
def test_what_numpy_reads(name: str, array: str):
    call = TABLE[name]
    expected = np.asarray(call())
    for kind in (HasArray, HasInterface, np.ndarray.tolist):
        result = np.asarray(call(**{array: kind(call.arrays[array])}))
        np.testing.assert_array_equal(result, expected, strict=True)


HAVE_MASKS = [
    f"ndimage.{n}" for n in ("convolve", "correlate", "gaussian_filter", "uniform_filter")
]


@pytest.mark.parametrize(("name", "array"), EACH)
def test_masks_are_refused_where_they_would_be_ignored(name: str, array: str):
    if name in HAVE_MASKS and array == "input":
        return
    masked = np.ma.masked_less(TABLE[name].arrays[array], 0)
    with pytest.raises(TypeError, match=rf"\b{array}\b.*mask.*filled"):
        TABLE[name](**{array: masked})


@pytest.mark.parametrize("name", HAVE_MASKS)
def test_what_a_masked_array_masks_is_missing(name: str):
    call, valid = TABLE[name], numbers(7, 6) != 4
    if "weights" in call.arrays:
        call.arrays["weights"] = np.abs(SMALL) + 1
    data = np.where(valid, call.arrays["input"], np.nan)
    masked = np.ma.masked_array(data, ~valid)
    expected = call(input=data, mask=valid)
    assert np.isfinite(expected).all()
    np.testing.assert_array_equal(call(input=masked), expected)
    more = np.arange(6) < 5
    both = call(input=data, mask=valid & more)
    np.testing.assert_array_equal(call(input=masked, mask=more), both)
    np.testing.assert_array_equal(call(input=masked, mask=nc.ndimage.prepare_mask(more)), both)
    with pytest.raises(ValueError, match=r"mask of shape \(5,\) does not fit"):
        call(input=masked, mask=more[1:])
    none = np.ma.masked_array(call.arrays["input"])
    np.testing.assert_array_equal(call(input=none), call())


# bool.

TYPES = ("float32", "float64", "int8", "complex64")
COUNTED = [n for n in CONVOLUTIONS if n not in ("explain", "grad")]


@pytest.mark.parametrize("name", COUNTED)
def test_bool_counts_as_uint8_beside_another_dtype(name: str):
    call = TABLE[name]
    for i, array in enumerate(call.arrays):
        dtype = TYPES[(i + len(name)) % len(TYPES)]
        others = {n: np.abs(a).astype(dtype) for n, a in call.arrays.items()}
        mask = call.arrays[array] > 0
        expected = call(**{**others, array: mask.astype(np.uint8)})
        assert expected.dtype == np.result_type(np.uint8, dtype)
        for given in (mask, mask[::1].copy(order="F"), mask.tolist()):
            result = call(**{**others, array: given})
            np.testing.assert_array_equal(result, expected, strict=True)


@pytest.mark.parametrize("name", COUNTED)
def test_bools_alone_are_refused(name: str):
    call = TABLE[name]
    bools = {n: a > 0 for n, a in call.arrays.items()}
    names = " and ".join("input" if n == "x" else n for n in bools)
    with pytest.raises(TypeError, match=rf"{names} are bool.*astype\(np.uint8\)"):
        call(**bools)


def test_bools_without_bias_and_as_patches():
    x, w = numbers(1, 2, 5, 5) > 0, numbers(3, 2, 3, 3) > 0
    with pytest.raises(TypeError, match=r"input and weight are bool"):
        nc.conv2d(x, w)
    np.testing.assert_array_equal(
        nc.conv2d(x, w.astype(np.uint8)), nc.conv2d(x.astype(int), w.astype(int))
    )
    columns = nc.im2col(x, 3, padding=1)
    np.testing.assert_array_equal(columns, nc.im2col(x.astype(int), 3, padding=1) > 0, strict=True)
    with pytest.raises(TypeError, match=r"columns is bool.*columns\.astype"):
        nc.col2im(columns, (5, 5), 3, padding=1)
    as_bytes = np.array([[[0, 255, 2, 0, 1]]], np.uint8).view(bool)  # True is what is not zero
    np.testing.assert_array_equal(
        nc.conv1d(as_bytes, np.ones((1, 1, 2), np.float32)), [[[1, 2, 1, 1]]]
    )
