"""Transforms of columns, beside numpy.fft; what is emitted, beside its twins."""

from __future__ import annotations

import numpy as np
import pytest

from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu.fft import tables
from numbaconv.cpu.fft.tiles import SIZES
from numbaconv.cpu.microkernels import spectrum, transform
from tests.cpu.emitted import run

DTYPES = ("float32", "float64")


def columns(n: int, dtype: str, step: int = 0) -> tuple[np.ndarray, int]:
    """Rows of random complex numbers, a vector wide, and elements from one to the next."""
    lanes = VECTOR_BYTES // np.dtype(dtype).itemsize
    rng = np.random.default_rng(n)
    step = step or 2 * lanes
    return rng.standard_normal(n * step).astype(dtype), step


def values(data: np.ndarray, n: int, step: int) -> np.ndarray:
    """Rows as complex numbers, in double precision."""
    lanes = VECTOR_BYTES // data.itemsize
    rows = data.astype(float).reshape(n, step)
    return rows[:, :lanes] + 1j * rows[:, lanes : 2 * lanes]


def transformed(function: object, data: np.ndarray, n: int, step: int, twin: bool) -> np.ndarray:
    """What a transform, or its twin, makes of rows."""
    data = data.copy()
    passes = np.array(tables.listed_passes(n))
    factors = np.append(tables.twiddles(n), 0.0).astype(data.dtype)
    run(function, transform.TransformArguments(data, step, passes, factors), twin)
    return data


@pytest.mark.parametrize("twin", [False, True], ids=["emitted", "twin"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [2, 3, 4, 6, 8, 12, 24, *SIZES])
def test_transforms_are_those_of_numpy(n: int, dtype: str, twin: bool):
    """The error of log2(n) stages is at most about 7 u each, relative to the 2-norm (Higham)."""
    data, step = columns(n, dtype, step=2 * VECTOR_BYTES // np.dtype(dtype).itemsize + 5)
    z, bound = values(data, n, step), 7 * np.log2(n) * np.finfo(dtype).eps / 2
    spectra = transformed(transform.forward, data, n, step, twin)
    expected = np.fft.fft(z, axis=0)[tables.order(n)]
    error = values(spectra, n, step) - expected
    assert np.linalg.norm(error) <= bound * np.linalg.norm(expected)
    back = transformed(transform.inverse, spectra, n, step, twin)
    error = values(back, n, step) / n - z
    assert np.linalg.norm(error) <= 2 * bound * np.linalg.norm(z)
    lanes = VECTOR_BYTES // data.itemsize
    between = (a.reshape(n, step)[:, 2 * lanes :] for a in (data, back))
    np.testing.assert_array_equal(*between)  # nothing else is written


def test_the_order_of_frequencies_is_one():
    for n in SIZES:
        assert sorted(tables.order(n)) == list(range(n))


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_axes_and_factors_between_make_a_long_transform(dtype: str):
    """As the columns and rows of a matrix, in which a signal is written row by row."""
    rows, cols, lanes = 32, 48, 4
    x = np.random.default_rng(0).standard_normal((rows, cols))
    between = tables.signal_twiddles(rows, cols, lanes).reshape(rows // lanes, cols, 2, lanes)
    between = between.transpose(0, 3, 1, 2).reshape(rows, cols, 2)
    half = np.fft.fft(x, axis=0)[tables.order(rows)] * (between[..., 0] + 1j * between[..., 1])
    got = np.fft.fft(half, axis=1)
    k = tables.order(rows)[:, None] + rows * np.arange(cols)
    np.testing.assert_allclose(got, np.fft.fft(x.ravel())[k], rtol=0, atol=1e-11)


@pytest.mark.parametrize("twin", [False, True], ids=["emitted", "twin"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("conjugate", [False, True])
def test_products_are_sums_over_channels(dtype: str, conjugate: bool, twin: bool):
    """Of two loads and three filters, out of memory with gaps; the weights as they are packed."""
    loads, filters, channels, together = 2, 3, 5, spectrum.TOGETHER
    rows = 2 * together
    data, step = columns(loads * channels * (rows + 1), dtype)
    size, gap = rows * step, step
    weights = columns(filters * channels * rows, dtype)[0]
    target = np.zeros(loads * filters * (size + gap), dtype)
    arguments = spectrum.ProductArguments(
        target=target,
        target_load=size + gap,
        target_filter=loads * (size + gap),
        x=data,
        x_load=channels * (size + gap),
        x_channel=size + gap,
        weights=weights,
        weights_step=filters * channels * together * step,
        loads=loads,
        filters=filters,
        channels=channels,
        rows=rows,
    )
    run(spectrum.product_by_conjugate if conjugate else spectrum.product, arguments, twin)
    x = values(data, loads * channels * (rows + 1), step)
    x = x.reshape(loads, channels, rows + 1, -1)[:, :, :rows]
    w = values(weights, filters * channels * rows, step)
    w = w.reshape(2, filters, channels, together, -1).transpose(1, 2, 0, 3, 4)
    w = w.reshape(filters, channels, rows, -1)
    expected = np.einsum("tcrl,fcrl->ftrl", x, w.conj() if conjugate else w)
    got = values(target, loads * filters * (rows + 1), step)
    got = got.reshape(filters, loads, rows + 1, -1)
    tolerance = 100 * np.finfo(dtype).eps
    np.testing.assert_allclose(got[:, :, :rows], expected, rtol=0, atol=tolerance)
    assert not got[:, :, rows:].any()


@pytest.mark.parametrize("twin", [False, True], ids=["emitted", "twin"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [None, np.nan, np.inf, -np.inf])
def test_moves_see_what_is_not_finite(dtype: str, bad: float | None, twin: bool):
    lanes = VECTOR_BYTES // np.dtype(dtype).itemsize
    source = np.arange(3.0 * (lanes + 2)).astype(dtype)
    source[1] = np.finfo(dtype).max
    if bad is not None:
        source[lanes + 3] = bad
    target, seen = np.zeros(3 * lanes, dtype), np.zeros(lanes, dtype)
    run(
        spectrum.move_vectors,
        spectrum.MoveArguments(target, lanes, source, lanes + 2, 3, seen),
        twin,
    )
    expected = source.reshape(3, lanes + 2)[:, :lanes].ravel()
    np.testing.assert_array_equal(target, expected)
    assert bool(np.isnan(seen).any()) == (bad is not None)
    if bad is None:
        assert not seen.any()
