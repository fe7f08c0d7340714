"""The oracle against values worked out by hand, NumPy, SciPy and PyTorch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.oracle import reference
from tests.oracle.cases import (
    BY_NAME,
    CASES,
    LARGE,
    MAX_FLOPS,
    SWEEPS,
    Case,
    gradient_case,
    has_gradient,
    integer_arrays,
    normal_arrays,
)

IDENTITY = np.ones((1, 1, 1))
RAMP = np.array([[[1.0, 2.0, 3.0, 4.0]]])


def correlate(x: list[float], w: list[float], **options: object) -> list[float]:
    return reference.conv(np.array([[x]]), np.array([[w]]), **options)[0, 0].tolist()


def test_worked_example():
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    w = np.array([[[[1.0, 0, 2], [0, 0, 0], [0, 3, 0]]]])
    # x[0,0] + 2 x[0,2] + 3 x[2,1] = 0 + 4 + 27, and each step right or down adds 6 or 24.
    assert reference.conv(x, w).tolist() == [[[[31, 37], [55, 61]]]]


def test_worked_example_padded():
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    expected = [[10, 18, 24, 18], [27, 45, 54, 39], [51, 81, 90, 63], [42, 66, 72, 50]]
    assert reference.conv(x, np.ones((1, 1, 3, 3)), padding=1).tolist() == [[expected]]


def test_correlates_without_flipping():
    assert correlate([1, 2, 3, 4], [1, 10]) == [21, 32, 43]


def test_stride_dilation_and_bias():
    assert correlate([1, 2, 3, 4, 5, 6], [1, 10], stride=2) == [21, 43, 65]
    assert correlate([1, 2, 3, 4, 5, 6], [1, 10], dilation=3) == [41, 52, 63]
    assert correlate([1, 2, 3, 4, 5, 6], [1, 10], dilation=3, stride=2) == [41, 63]
    assert correlate([1, 2], [1, 10], bias=np.array([100.0])) == [121]


def test_channels_and_groups():
    x = np.array([[[1.0, 2], [3, 4]]])
    w = np.array([[[1.0], [10]], [[100], [1000]]])
    assert reference.conv(x, w).tolist() == [[[31, 42], [3100, 4200]]]
    assert reference.conv(x, w[:, :1], groups=2).tolist() == [[[1, 2], [300, 400]]]


def test_channels_last_and_unbatched():
    x = np.array([[1.0, 3], [2, 4]])  # two pixels of two channels
    w = np.array([[[1.0], [10]]])
    assert reference.conv(x, w, data_format="channels_last").tolist() == [[31], [42]]
    assert reference.conv(x.T, w).tolist() == [[31, 42]]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("zeros", [0, 0, 1, 2, 3, 4, 0, 0]),
        ("reflect", [3, 2, 1, 2, 3, 4, 3, 2]),
        ("replicate", [1, 1, 1, 2, 3, 4, 4, 4]),
        ("circular", [3, 4, 1, 2, 3, 4, 1, 2]),
        ("symmetric", [2, 1, 1, 2, 3, 4, 4, 3]),
    ],
)
def test_padding_modes(mode: str, expected: list[float]):
    assert reference.conv(RAMP, IDENTITY, padding=2, padding_mode=mode)[0, 0].tolist() == expected


@pytest.mark.parametrize(
    ("mode", "numpy_mode"),
    [
        ("zeros", "constant"),
        ("reflect", "reflect"),
        ("replicate", "edge"),
        ("circular", "wrap"),
        ("symmetric", "symmetric"),
    ],
)
def test_padding_modes_are_numpys(mode: str, numpy_mode: str):
    for size, lo, hi in itertools.product((1, 2, 4), range(10), range(10)):
        x = RAMP[..., :size]
        padded = reference.conv(x, IDENTITY, padding=((lo, hi),), padding_mode=mode)[0, 0]
        np.testing.assert_array_equal(padded, np.pad(x[0, 0], (lo, hi), numpy_mode))


@pytest.mark.parametrize(
    ("padding", "size", "kernel", "stride", "dilation", "expected"),
    [
        ("valid", 5, 3, 1, 1, (0, 0)),
        (2, 5, 3, 1, 1, (2, 2)),
        ((0, 4), 5, 3, 1, 1, (4, 4)),
        (((0, 0), (1, 3)), 5, 3, 1, 1, (1, 3)),
        ("full", 5, 3, 2, 2, (4, 4)),
        ("same", 5, 3, 1, 1, (1, 1)),
        ("same", 5, 4, 1, 1, (1, 2)),
        ("same_lower", 5, 4, 1, 1, (2, 1)),
        ("same", 6, 3, 2, 1, (0, 1)),
        ("same_lower", 6, 3, 2, 1, (1, 0)),
        ("same", 5, 3, 2, 1, (1, 1)),
        ("same", 5, 1, 3, 1, (0, 0)),
        ("same", 9, 3, 1, 4, (4, 4)),
    ],
)
def test_padding_forms(
    padding: object, size: int, kernel: int, stride: int, dilation: int, expected: tuple[int, int]
):
    assert reference.padding_pair(padding, 1, size, kernel, stride, dilation) == expected


@pytest.mark.parametrize("stride", range(1, 5))
@pytest.mark.parametrize("size", range(1, 9))
@pytest.mark.parametrize("padding", ["same", "same_lower"])
def test_same_keeps_the_size(padding: str, size: int, stride: int):
    for kernel, dilation in itertools.product(range(1, 6), range(1, 4)):
        (axis,) = reference.axes_of((size,), (kernel,), stride, padding, dilation)
        assert axis.out == -(-size // stride)


def test_integers_wrap():
    x, w = np.array([[[100, 100]]], np.int8), np.array([[[1, 1]]], np.int8)
    assert reference.conv(x, w).tolist() == [[[200 - 256]]]
    assert reference.conv(x, w).dtype == np.int8
    x, w = np.array([[[2**40]]], np.int64), np.array([[[2**30]]], np.int64)
    assert reference.conv(x, w).tolist() == [[[0]]]
    x, w = np.array([[[2**63]]], np.uint64), np.array([[[3]]], np.uint64)
    assert reference.conv(x, w).tolist() == [[[2**63]]]


def test_promotion():
    f2, f4, i1, i4, c8 = (np.zeros((1, 1, 1), t) for t in ("f2", ">f4", "i1", "i4", "c8"))
    assert reference.result_dtype(f2, i1) == np.float16
    assert reference.result_dtype(f4, i1) == np.float32
    assert reference.result_dtype(f4, i4) == np.float64
    assert reference.result_dtype(f4, f2, c8) == np.complex64
    assert reference.result_dtype(i1, i4, None) == np.int32
    assert reference.result_dtype(f4).isnative


def test_nan_and_infinity_stay_in_their_windows():
    x = np.array([[[1.0, np.inf, 2, 3, np.nan, 4]]])
    w = np.array([[[1.0, 0, -1]]])
    with np.errstate(invalid="ignore"):
        y = reference.conv(x, w, padding=1)[0, 0]
    # windows: (.,1,inf) (1,inf,2) (inf,2,3) (2,3,nan) (3,nan,4) (nan,4,.)
    np.testing.assert_array_equal(y, [-np.inf, np.nan, np.inf, np.nan, np.nan, np.nan])


def test_padding_is_never_multiplied():
    w = np.array([[[np.inf, 1, np.nan]]])
    y = reference.conv(np.ones((1, 1, 1)), w, padding=1)
    assert y.tolist() == [[[1]]]


def test_im2col_by_hand():
    x = np.arange(1.0, 10).reshape(1, 3, 3)
    expected = [[1, 2, 4, 5], [2, 3, 5, 6], [4, 5, 7, 8], [5, 6, 8, 9]]
    assert reference.im2col(x, (2, 2)).tolist() == expected
    two = np.stack([RAMP[0, 0], 10 * RAMP[0, 0]])[np.newaxis]
    expected = [[0, 1, 2], [2, 3, 4], [0, 10, 20], [20, 30, 40]]
    got = reference.im2col(two, (2,), dilation=2, padding=1)[:, :, :3]
    assert got.tolist() == [[[0, 1, 2], [2, 3, 4], [0, 10, 20], [20, 30, 40]]] == [expected]


def test_col2im_by_hand():
    columns = np.array([[1.0, 2, 3], [10, 20, 30]])  # two taps at three positions
    assert reference.col2im(columns, (4,), (2,)).tolist() == [[1, 12, 23, 30]]
    assert reference.col2im(columns, (2,), (2,), padding=1).tolist() == [[12, 23]]


def test_bound_holds_and_is_tight_enough_to_fail():
    case = BY_NAME["channels_23_to_19_padded"]
    x, w, _ = normal_arrays(case, np.float32)
    exact = reference.conv(x, w, padding=1)
    bound = reference.error_bound(x, w, padding=1)
    columns = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
    windows = np.lib.stride_tricks.sliding_window_view(columns, (3, 3), axis=(2, 3))
    single = np.einsum("nchwij,ocij->nohw", windows, w, dtype=np.float32)
    assert single.dtype == np.float32
    assert np.any(single != exact)
    assert np.all(np.abs(single - exact) <= bound)
    assert np.mean(np.abs(single * np.float32(1 + 1e-3) - exact) > bound) > 0.5
    half = np.abs(exact.astype(np.float16) - exact)
    assert np.all(half <= reference.error_bound(x.astype(np.float16), w, padding=1) + half)


def test_bound_of_float16_allows_the_last_rounding_and_no_more():
    x, w = np.full((1, 1, 1), 1.0, np.float16), np.full((1, 1, 1), 1.0, np.float16)
    bound = reference.error_bound(x, w).item()
    assert 2**-11 < bound < 2**-10


def test_cases_are_small_named_apart_and_of_the_stated_shape():
    names = [c.name for c in CASES + SWEEPS + LARGE]
    assert len(set(names)) == len(names)
    assert len(CASES) >= 120
    for case in CASES + SWEEPS:
        assert case.flops <= MAX_FLOPS, case


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_two_oracles_agree(case: Case):
    x, w, b = integer_arrays(case)
    y = reference.conv(x, w, b, **case.kwargs)
    assert y.shape == case.output
    np.testing.assert_array_equal(reference.conv_by_taps(x, w, b, **case.kwargs), y)


@pytest.mark.parametrize("case", [c for c in CASES[::2] if has_gradient(c)], ids=str)
def test_the_oracles_of_gradients_agree(case: Case):
    x, w, _ = integer_arrays(case, np.complex64)
    g = integer_arrays(gradient_case(case), np.complex64)[0]
    of_input = reference.conv_input(case.input, w, g, **case.kwargs)
    of_weight = reference.conv_weight(x, case.weight, g, **case.kwargs)
    by_taps = reference.conv_input_by_taps(case.input, w, g, **case.kwargs)
    np.testing.assert_array_equal(by_taps, of_input)
    by_taps = reference.conv_weight_by_taps(x, case.weight, g, **case.kwargs)
    np.testing.assert_array_equal(by_taps, of_weight)


def pytorch_has(case: Case) -> bool:
    """PyTorch's functions have no modes, layouts or pairs, and refuse an empty array."""
    padding = case.kwargs.get("padding", 0)
    pairs = isinstance(padding, tuple) and isinstance(padding[0], tuple)
    options = {"padding_mode", "data_format"} & case.kwargs.keys()
    return not (options or pairs or isinstance(padding, str) or 0 in case.input + case.weight)


@pytest.mark.parametrize("case", [c for c in CASES if pytorch_has(c)], ids=str)
def test_against_pytorch(case: Case):
    torch = pytest.importorskip("torch")
    x, w, b = (None if a is None else torch.from_numpy(a) for a in integer_arrays(case, np.float64))
    y = getattr(torch.nn.functional, f"conv{w.ndim - 2}d")(x, w, b, **case.kwargs)
    expected = reference.conv(*integer_arrays(case, np.float64), **case.kwargs)
    np.testing.assert_array_equal(y.numpy(), expected)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("mode", ["valid", "same", "full"])
def test_against_scipy(rank: int, mode: str):
    signal = pytest.importorskip("scipy.signal")
    rng = np.random.default_rng(rank)
    x = rng.integers(-9, 9, (7, 8, 9)[:rank]).astype(float)
    w = rng.integers(-9, 9, (3, 5, 3)[:rank]).astype(float)
    y = reference.conv(x[np.newaxis], w[np.newaxis, np.newaxis], padding=mode)[0]
    np.testing.assert_array_equal(y, signal.correlate(x, w, mode, method="direct"))


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("padding", [0, (2, 1)])
@pytest.mark.parametrize("stride", [1, (2, 3)])
def test_patches_against_pytorch(dilation: int, padding: object, stride: object):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).integers(-9, 9, (2, 3, 7, 8)).astype(float)
    options = {"dilation": dilation, "padding": padding, "stride": stride}
    columns = reference.im2col(x, (3, 2), **options)
    unfolded = torch.nn.functional.unfold(torch.from_numpy(x), (3, 2), **options)
    np.testing.assert_array_equal(columns, unfolded.numpy())
    folded = torch.nn.functional.fold(unfolded, (7, 8), (3, 2), **options)
    np.testing.assert_array_equal(reference.col2im(columns, (7, 8), (3, 2), **options), folded)
