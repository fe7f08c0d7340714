"""Gradients from compiled code: the oracle's results, with the bits of Python's."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest
from numba.core.errors import TypingError

import numbaconv as nc
from tests.njit.arrays import LAYOUTS, same_bits
from tests.oracle.cases import BY_NAME, Array, Case, problem
from tests.oracle.gradient_cases import (
    FEW,
    GRADIENTS,
    check_equal,
    exact_results,
    names,
    normal_operands,
    wrapping_operands,
)

if numba.config.DISABLE_JIT:
    pytest.skip("there is no compiled code to call from", allow_module_level=True)


def compiled(function: Any) -> Any:
    """Compiled function that calls a public one by position."""

    @numba.njit(nogil=True)
    def call(a, b, c, stride, padding, dilation, groups):
        return function(a, b, c, stride, padding, dilation, groups)

    return call


INSIDE = {getattr(nc.grad, name): compiled(getattr(nc.grad, name)) for name in nc.grad.__all__}


def inside(function: Any, a: Any, b: Any, c: Any, case: Case) -> Array:
    """Call a gradient from compiled code; ints become tuples, to compile less."""
    rank = len(case.weight) - 2
    options = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1} | case.kwargs
    *each, groups = (options[name] for name in ("stride", "padding", "dilation", "groups"))
    each = [v if isinstance(v, tuple) else (v,) * rank for v in each]
    return INSIDE[function](a, b, c, *each, groups)


def check(case: Case, o: Any) -> None:
    """Both gradients from compiled code have the bits of Python's."""
    of_input, of_weight, _ = names(case)
    expected = of_input(case.input, o.w, o.g, **case.kwargs)
    same_bits(inside(of_input, case.input, o.w, o.g, case), expected)
    expected = of_weight(o.x, case.weight, o.g, **case.kwargs)
    same_bits(inside(of_weight, o.x, case.weight, o.g, case), expected)


# Words are literals, for which each caller is compiled anew.
OF_NUMBERS = [case for case in GRADIENTS if not isinstance(case.kwargs.get("padding"), str)]


@pytest.mark.parametrize(
    "case",
    [case if case in FEW else pytest.param(case, marks=pytest.mark.stress) for case in OF_NUMBERS],
    ids=str,
)
def test_cases(case: Case, backend: str):
    nc.set_backend(backend)
    check(case, normal_operands(case))


@pytest.mark.target
@pytest.mark.parametrize("case", FEW, ids=str)
def test_exact(case: Case):
    o, for_input, for_weight, _ = exact_results(case)
    of_input, of_weight, _ = names(case)
    check_equal(inside(of_input, case.input, o.w, o.g, case), for_input, np.float32)
    check_equal(inside(of_weight, o.x, case.weight, o.g, case), for_weight, np.float32)


STRIDED, DEPTHWISE = BY_NAME["stride_3x2"], BY_NAME["depthwise_stride_2"]


@pytest.mark.parametrize("case", [STRIDED, DEPTHWISE], ids=str)
def test_complex(case: Case):
    check(case, normal_operands(case, "complex64"))


@pytest.mark.parametrize("dtype", ["uint8", pytest.param("int64", marks=pytest.mark.stress)])
def test_integers_wrap(dtype: str):
    check(STRIDED, wrapping_operands(STRIDED, dtype))


@pytest.mark.parametrize(
    "case",
    [
        problem("covered", (5, 7, 3, 5), (3, 7, 3, 5)),
        problem("small_maps", (3, 40, 7, 7), (40, 1, 5, 5), groups=40, padding=2, stride=2),
    ],
    ids=str,
)
def test_gradients_that_are_layers(case: Case):
    check(case, normal_operands(case))


def test_several_threads():
    case = problem("large", (2, 67, 57, 53), (61, 67, 3, 3), padding=1)
    check(case, normal_operands(case))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_operands_of_any_layout(layout: str):
    o = normal_operands(STRIDED)
    rearranged = o._replace(**{name: LAYOUTS[layout](getattr(o, name)) for name in "xwg"})
    check(STRIDED, rearranged)


def test_no_images_make_zeros():
    x, g = np.ones((0, 3, 8, 8)), np.ones((0, 4, 6, 6))
    call = INSIDE[nc.grad.conv2d_weight]
    got = call(x, (4, 3, 3, 3), g, (1, 1), (0, 0), (1, 1), 1)
    same_bits(got, np.zeros((4, 3, 3, 3)))


def test_a_detector_is_learned_in_compiled_code():
    """Gradient descent on the sum of squares finds the detector that made the maps."""

    @numba.njit
    def learn(images, maps, size, steps, rate):
        detector = np.zeros(size)
        for _ in range(steps):
            error = nc.conv2d(images, detector) - maps
            detector -= rate * nc.grad.conv2d_weight(images, size, error)
        return detector

    rng = np.random.default_rng(0)
    images, edge = rng.standard_normal((4, 1, 12, 12)), np.array([[[[1.0, 0, -1]] * 3]])
    learned = learn(images, nc.conv2d(images, edge), edge.shape, 100, 1e-3)
    np.testing.assert_allclose(learned, edge, atol=1e-6)


def test_errors_are_those_of_python():
    w, g = np.ones((4, 3, 3, 3)), np.ones((2, 4, 8, 8))
    arguments = (2, 3, 99, 16), w, g
    with pytest.raises(ValueError, match="input_size") as raised:
        nc.grad.conv2d_input(*arguments, stride=2)
    with pytest.raises(ValueError, match="input_size") as again:
        INSIDE[nc.grad.conv2d_input](*arguments, (2, 2), (0, 0), (1, 1), 1)
    assert str(again.value) == str(raised.value)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (np.array([2, 3, 16, 16]), "input_size is array.*; pass a tuple"),
        (16, "input_size .*; pass a tuple"),
    ],
)
def test_sizes_are_tuples(size: Any, message: str):
    @numba.njit
    def call(size, w, g):
        return nc.grad.conv2d_input(size, w, g)

    with pytest.raises(TypingError, match=rf"^.*\nnumbaconv\.grad\.conv2d_input: {message}"):
        call(size, np.ones((4, 3, 3, 3)), np.ones((2, 4, 14, 14)))


def test_gradients_of_large_weights_by_spectra():
    """`auto`, and on request: the bits of Python's, and what is not finite is summed."""

    @numba.njit(nogil=True)
    def asked(x, size, g):
        return nc.grad.conv2d_weight(x, size, g, backend="fft")

    rng = np.random.default_rng(0)
    x, size = rng.standard_normal((2, 3, 90, 90), np.float32), (4, 3, 31, 31)
    g = rng.standard_normal((2, 4, 60, 60), np.float32)
    options = (1, 1), (0, 0), (1, 1), 1
    for dtype in (np.float32, np.complex64):
        images, gradient = x.astype(dtype), g.astype(dtype)
        expected = nc.grad.conv2d_weight(images, size, gradient)
        summed = nc.grad.conv2d_weight(images, size, gradient, backend="direct")
        assert (expected != summed).any()
        same_bits(INSIDE[nc.grad.conv2d_weight](images, size, gradient, *options), expected)
        same_bits(
            asked(images, size, gradient[..., ::-1]),
            nc.grad.conv2d_weight(images, size, gradient[..., ::-1]),
        )
        images[0, 1, 40, 40] = np.nan
        got = asked(images, size, gradient)
        same_bits(got, nc.grad.conv2d_weight(images, size, gradient, backend="direct"))
        assert np.isnan(got[:, 1]).any()
        assert np.isfinite(got[:, ::2]).all()
    with nc.use_backend("direct"):
        got = INSIDE[nc.grad.conv2d_weight](x, size, g, *options)
        same_bits(got, nc.grad.conv2d_weight(x, size, g))
    got = asked(x[:, :, :8, :8], (4, 3, 3, 3), g[:, :, :6, :6])
    wanted = nc.grad.conv2d_weight(x[:, :, :8, :8], (4, 3, 3, 3), g[:, :, :6, :6], backend="fft")
    same_bits(got, wanted)
