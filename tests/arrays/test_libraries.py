"""Arrays of other libraries: read without a copy, and the result is of the same library."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import numbaconv as nc

RNG = np.random.default_rng(7)
X = RNG.integers(-4, 5, (2, 4, 9, 8)).astype(np.float32)
W = RNG.integers(-4, 5, (6, 4, 3, 3)).astype(np.float32)
G = RNG.integers(-4, 5, (2, 6, 7, 6)).astype(np.float32)
B = np.arange(6, dtype=np.float32)
layer = nc.prepare(W, B, padding=1)

CALLS: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "conv2d": (nc.conv2d, {"input": X, "weight": W, "bias": B}, {"padding": "same"}),
    "transposed": (nc.conv_transpose2d, {"input": G, "weight": W}, {"stride": 2}),
    "layer": (layer, {"x": X}, {}),
    "adding": (nc.conv2d, {"input": X, "weight": W, "add": G}, {"activation": "relu"}),
    "layer adding": (nc.prepare(W, B), {"x": X, "add": G}, {}),
    "im2col": (nc.im2col, {"input": X}, {"kernel_size": 3}),
    "col2im": (nc.col2im, {"columns": nc.im2col(X, 3)}, {"output_size": (9, 8), "kernel_size": 3}),
    "input gradient": (
        nc.grad.conv2d_input,
        {"weight": W, "grad_output": G},
        {"input_size": X.shape},
    ),
    "weight gradient": (
        nc.grad.conv2d_weight,
        {"input": X, "grad_output": G},
        {"weight_size": W.shape},
    ),
    "gaussian": (nc.ndimage.gaussian_filter, {"input": X}, {"sigma": 2.0}),
    "correlate": (nc.ndimage.correlate, {"input": X[0], "weights": W[0]}, {"mode": "wrap"}),
    "gradient magnitude": (
        nc.ndimage.gaussian_gradient_magnitude,
        {"input": X},
        {"sigma": 1.0, "truncate": 3.0},
    ),
}
EVERY_CALL = pytest.mark.parametrize("call", CALLS)


class Shelf:
    """A library of its own, with no more than DLPack and a namespace."""

    class Array:
        def __init__(self, values: np.ndarray) -> None:
            self.values = values

        def __dlpack__(self, **options: Any) -> Any:
            return self.values.__dlpack__(**options)

        def __dlpack_device__(self) -> Any:
            return self.values.__dlpack_device__()

        @property
        def shape(self) -> tuple[int, ...]:
            return self.values.shape

        def __array_namespace__(self) -> Any:
            return Shelf

    @staticmethod
    def from_dlpack(array: Any) -> Shelf.Array:
        return Shelf.Array(np.from_dlpack(array))


Shelf.Array.__module__ = "shelf.arrays"


@EVERY_CALL
def test_a_library_that_has_dlpack(call: str):
    function, arrays, options = CALLS[call]
    given = {name: Shelf.Array(a) for name, a in arrays.items()}
    result = function(**given, **options)
    assert type(result) is Shelf.Array
    np.testing.assert_array_equal(result.values, function(**arrays, **options), strict=True)


def test_libraries_are_not_mixed():
    for x, w in ((Shelf.Array(X), W), (X, Shelf.Array(W))):
        with pytest.raises(TypeError, match=r"one library.*(weight|shelf)"):
            nc.conv2d(x, w)
    with pytest.raises(TypeError, match=r"one library.*grad_output"):
        nc.grad.conv2d_weight(X, W.shape, Shelf.Array(G))


def test_out_is_the_callers_own():
    out = np.zeros((2, 6, 7, 6), np.float32)
    given = Shelf.Array(out)
    x, w = Shelf.Array(X), Shelf.Array(W)
    try:
        assert nc.conv2d(x, w, out=given) is given
    except TypeError as error:  # NumPy 1.26 and 2.0 read nothing but what cannot be written
        assert "cannot be stored into" in str(error)  # noqa: PT017
        return
    np.testing.assert_array_equal(out, nc.conv2d(X, W))


def test_out_that_cannot_change():
    out = np.zeros((2, 6, 7, 6), np.float32)
    out.flags.writeable = False

    class Fixed(Shelf.Array):
        def __dlpack__(self, **options: Any) -> Any:
            if "max_version" not in options:
                raise BufferError("old")
            return super().__dlpack__(**options)

        def __array__(self, *_: Any, **__: Any) -> np.ndarray:
            return self.values

    Fixed.__module__ = "shelf.arrays"
    with pytest.raises(TypeError, match="out"):
        nc.conv2d(Shelf.Array(X), Shelf.Array(W), out=Fixed(out))
    assert not out.any()


@pytest.mark.parametrize("value", [[], [[1.0, 2.0]], [[1], [2, 3]], ["a"]], ids=repr)
@pytest.mark.parametrize("call", ["conv2d", "transposed", "layer", "im2col", "col2im"])
def test_sequences_that_are_no_such_array(call: str, value: Any):
    function, arrays, options = CALLS[call]
    for name in arrays:
        with pytest.raises((TypeError, ValueError), match="x|input" if name == "x" else name):
            function(**{**arrays, name: value}, **options)
    with pytest.raises((TypeError, ValueError), match="weight"):
        nc.prepare(value)


class Table:
    """What NumPy reads, as tables and pictures are read."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        return self.values


@EVERY_CALL
@pytest.mark.parametrize("kind", [Table, np.ndarray.tolist], ids=["table", "nested list"])
def test_what_numpy_reads(call: str, kind: Any):
    function, arrays, options = CALLS[call]
    result = function(**{name: kind(a) for name, a in arrays.items()}, **options)
    assert type(result) is np.ndarray
    np.testing.assert_allclose(result, function(**arrays, **options), rtol=1e-5, atol=1e-5)


def test_pictures_tables_and_labelled_arrays():
    picture = RNG.integers(0, 256, (12, 16), np.uint8)
    expected = nc.ndimage.sobel(picture, output=np.int16)
    if pil := _installed("PIL.Image"):
        np.testing.assert_array_equal(
            nc.ndimage.sobel(pil.fromarray(picture), output=np.int16), expected
        )
    if pandas := _installed("pandas"):
        np.testing.assert_array_equal(
            nc.ndimage.sobel(pandas.DataFrame(picture), output=np.int16), expected
        )
    if xarray := _installed("xarray"):
        np.testing.assert_array_equal(nc.conv2d(xarray.DataArray(X), W), nc.conv2d(X, W))


def _installed(name: str) -> Any:
    try:
        return pytest.importorskip(name)
    except pytest.skip.Exception:
        return None


@EVERY_CALL
def test_torch(call: str):
    torch = pytest.importorskip("torch")
    function, arrays, options = CALLS[call]
    given = {name: torch.from_numpy(a.copy()) for name, a in arrays.items()}
    result = function(**given, **options)
    assert type(result) is torch.Tensor
    np.testing.assert_array_equal(result.numpy(), function(**arrays, **options), strict=True)


def test_tensors_that_are_refused():
    torch = pytest.importorskip("torch")
    x, w = torch.from_numpy(X.copy()), torch.from_numpy(W.copy())
    with pytest.raises(TypeError, match=r"input requires gradients.*numbaconv\.torch"):
        nc.conv2d(x.clone().requires_grad_(), w)
    with pytest.raises(TypeError, match=r"weight requires gradients.*numbaconv\.torch"):
        nc.conv2d(x, torch.nn.Parameter(w))
    with pytest.raises(TypeError, match=r"input is of torch, weight is of NumPy"):
        nc.conv2d(x, W)
    with pytest.raises(TypeError, match=r"input.*bfloat16"):
        nc.conv2d(x.bfloat16(), w.bfloat16())
    with pytest.raises(TypeError, match="input"):
        nc.conv2d(x.to("meta"), w)
    with pytest.raises(ValueError, match="weight must have 3 axes for conv1d"):
        nc.conv1d(x, w)


def test_a_tensor_takes_the_result_and_its_memory_is_read():
    torch = pytest.importorskip("torch")
    x, w, out = torch.from_numpy(X.copy()), torch.from_numpy(W.copy()), torch.zeros(2, 6, 7, 6)
    assert nc.conv2d(x, w, out=out) is out
    np.testing.assert_array_equal(out.numpy(), nc.conv2d(X, W))
    with pytest.raises(ValueError, match="out overlaps input"):
        nc.conv2d(x, w[:4, :, 1:2, 1:2], out=x)
    # Any strides, as NumPy's.
    turned = nc.conv2d(x.transpose(2, 3), w)
    np.testing.assert_array_equal(turned.numpy(), nc.conv2d(X.swapaxes(2, 3), W))
    assert isinstance(nc.prepare(w)(X), np.ndarray)
    assert nc.explain(x, w).out_shape == (2, 6, 7, 6)


@EVERY_CALL
def test_jax(call: str):
    jax = pytest.importorskip("jax")
    function, arrays, options = CALLS[call]
    given = {name: jax.numpy.asarray(a) for name, a in arrays.items()}
    result = function(**given, **options)
    assert isinstance(result, jax.Array)
    np.testing.assert_array_equal(np.asarray(result), function(**arrays, **options), strict=True)


def test_traced_and_unchangeable_arrays_of_jax():
    jax = pytest.importorskip("jax")
    x, w = jax.numpy.asarray(X), jax.numpy.asarray(W)
    with pytest.raises(TypeError, match=r"input is traced by JAX.*pure_callback"):
        jax.jit(nc.conv2d)(x, w)
    with pytest.raises(TypeError, match="traced"):
        jax.grad(lambda w: nc.conv2d(x, w).sum())(w)
    with pytest.raises(TypeError, match="out cannot be stored into"):
        nc.conv2d(x, w, out=jax.numpy.zeros((2, 6, 7, 6)))
    called = jax.jit(
        lambda x: jax.pure_callback(
            lambda x: nc.conv2d(np.asarray(x), W), jax.ShapeDtypeStruct((2, 6, 7, 6), x.dtype), x
        )
    )
    np.testing.assert_array_equal(np.asarray(called(x)), nc.conv2d(X, W))


def test_no_library_is_imported(run_script: Any):
    code = """
import sys, numpy as np, numbaconv as nc
nc.conv2d([[[1.0, 2.0], [3.0, 4.0]]], [[[[1.0]]]])
nc.ndimage.laplace([1.0, 2.0])
assert not {"torch", "jax", "dask", "zarr", "xarray"} & sys.modules.keys()
"""
    run_script("-c", code)
