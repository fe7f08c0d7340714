"""im2col and col2im against the oracle and PyTorch's unfold and fold."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest

import numbaconv as nc
from tests.oracle import reference

DTYPES = (
    *("float16", "float32", "float64", "complex64", "complex128"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)


class Patches(NamedTuple):
    """One im2col: the input's shape, the kernel, and the options."""

    name: str
    input: tuple[int, ...]
    kernel_size: tuple[int, ...]
    options: Mapping[str, Any] = MappingProxyType({})

    def __str__(self) -> str:
        return self.name

    @property
    def sizes(self) -> tuple[int, ...]:
        return self.input[-len(self.kernel_size) :]


CASES = (
    Patches("worked_example", (1, 1, 4, 4), (3, 3)),
    Patches("plain", (1, 3, 13, 17), (3, 3)),
    Patches("batch", (3, 2, 7, 11), (3, 3)),
    Patches("unbatched", (2, 7, 11), (3, 3)),
    Patches("pointwise", (2, 3, 7, 11), (1, 1)),
    Patches("kernel_5x2", (1, 3, 13, 17), (5, 2)),
    Patches("kernel_is_input", (2, 3, 5, 7), (5, 7)),
    Patches("stride_2", (1, 3, 13, 17), (3, 3), {"stride": 2}),
    Patches("stride_2x3", (1, 3, 13, 17), (3, 3), {"stride": (2, 3)}),
    Patches("stride_over_kernel", (1, 3, 13, 17), (2, 2), {"stride": 5}),
    Patches("dilation_2", (1, 3, 13, 17), (3, 3), {"dilation": 2}),
    Patches("dilation_1x3", (1, 3, 13, 17), (3, 3), {"dilation": (1, 3)}),
    Patches("padding_1", (1, 3, 13, 17), (3, 3), {"padding": 1}),
    Patches("padding_2x0", (1, 3, 13, 17), (3, 3), {"padding": (2, 0)}),
    Patches("padding_over_input", (1, 2, 2, 3), (3, 3), {"padding": 5}),
    Patches("padding_pairs", (1, 3, 13, 17), (3, 3), {"padding": ((1, 2), (3, 0))}),
    Patches("padding_valid", (1, 3, 13, 17), (3, 3), {"padding": "valid"}),
    Patches("padding_same", (1, 3, 13, 17), (4, 3), {"padding": "same", "stride": 2}),
    Patches("padding_same_lower", (1, 3, 13, 17), (4, 3), {"padding": "same_lower"}),
    Patches("padding_full", (1, 3, 5, 7), (3, 2), {"padding": "full", "dilation": 2}),
    Patches("everything", (2, 3, 13, 17), (3, 2), {"padding": 2, "stride": 3, "dilation": 2}),
    Patches("1d", (2, 3, 31), (5,), {"padding": 2, "stride": 2}),
    Patches("1d_unbatched", (3, 31), (5,), {"dilation": 3}),
    Patches("3d", (2, 3, 5, 7, 6), (3, 2, 3), {"padding": (1, 0, 2), "stride": (1, 2, 1)}),
    Patches("3d_unbatched", (3, 5, 7, 6), (3, 2, 3), {"dilation": (2, 1, 2)}),
    Patches("empty_batch", (0, 3, 7, 11), (3, 3), {"padding": 1}),
    Patches("no_channels", (2, 0, 7, 11), (3, 3), {"padding": 1}),
)

every_case = pytest.mark.parametrize("case", CASES, ids=str)
PLAIN = CASES[1]
BOTH_WAYS = next(c for c in CASES if c.name == "everything")


def integers(shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
    """Small integers, not all of them representable in a smaller dtype's sign."""
    dtype = np.dtype(dtype)
    least = 0 if dtype.kind == "u" else -9
    values = np.random.default_rng(len(shape)).integers(least, 9, shape)
    return (values * (1 - 2j) if dtype.kind == "c" else values).astype(dtype)


def check(got: Any, expected: Any) -> None:
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


@pytest.mark.target
@every_case
def test_im2col(case: Patches):
    x = integers(case.input)
    columns = nc.im2col(x, case.kernel_size, **case.options)
    check(columns, reference.im2col(x, case.kernel_size, **case.options))


@pytest.mark.target
@every_case
def test_col2im(case: Patches):
    columns = integers(
        reference.im2col(integers(case.input), case.kernel_size, **case.options).shape
    )
    image = nc.col2im(columns, case.sizes, case.kernel_size, **case.options)
    check(image, reference.col2im(columns, case.sizes, case.kernel_size, **case.options))


@pytest.mark.nojit
@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_tiny(dtype: str):
    x = integers((1, 2, 3, 4), dtype)
    columns = reference.im2col(x, (2, 2), padding=1)
    check(nc.im2col(x, (2, 2), padding=1), columns)
    check(
        nc.col2im(columns, (3, 4), (2, 2), padding=1),
        reference.col2im(columns, (3, 4), (2, 2), padding=1),
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype: str):
    x = integers(BOTH_WAYS.input, dtype)
    columns = reference.im2col(x, BOTH_WAYS.kernel_size, **BOTH_WAYS.options)
    check(nc.im2col(x, BOTH_WAYS.kernel_size, **BOTH_WAYS.options), columns)
    arguments = (columns, BOTH_WAYS.sizes, BOTH_WAYS.kernel_size)
    check(
        nc.col2im(*arguments, **BOTH_WAYS.options),
        reference.col2im(*arguments, **BOTH_WAYS.options),
    )


def test_col2im_wraps_integers():
    columns = np.full((1, 3, 5), 100, np.int8)
    assert nc.col2im(columns, (7,), (3,)).tolist() == [[[100, -56, 44, 44, 44, -56, 100]]]


@pytest.mark.parametrize("dtype", ["U1", "object"])
def test_other_dtypes_are_refused(dtype: str):
    with pytest.raises(TypeError, match=r"\binput\b[\s\S]*float32"):
        nc.im2col(np.zeros((1, 1, 4, 4), dtype), 3)
    with pytest.raises(TypeError, match=r"\bcolumns\b[\s\S]*float32"):
        nc.col2im(np.zeros((1, 9, 4), dtype), (4, 4), 3)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_int_kernel_size_takes_its_rank_from_the_input(rank: int):
    x = integers((2, 3, 5, 7, 6)[: rank + 2])
    kernel = (3,) * rank
    columns = reference.im2col(x, kernel, padding=1, stride=2)
    check(nc.im2col(x, 3, padding=1, stride=2), columns)
    sizes = x.shape[2:]
    image = reference.col2im(columns, sizes, kernel, padding=1, stride=2)
    check(nc.col2im(columns, sizes, 3, padding=1, stride=2), image)


def test_int_kernel_size_takes_a_three_dimensional_array_for_a_batch_of_signals():
    """Never for one unbatched image, which needs a tuple."""
    x = integers((2, 7, 11))
    check(nc.im2col(x, 3), reference.im2col(x, (3,)))
    check(nc.im2col(x, (3, 3)), reference.im2col(x, (3, 3)))


def test_sizes_may_be_arrays():
    x, sizes = np.arange(20.0).reshape(1, 4, 5), np.array([2, 3])
    columns = nc.im2col(x, (2, 3))
    np.testing.assert_array_equal(nc.im2col(x, sizes), columns)
    image = nc.col2im(columns, np.array([4, 5]), sizes)
    np.testing.assert_array_equal(image, nc.col2im(columns, (4, 5), (2, 3)))


def test_positional_order_is_pytorchs():
    x = integers(BOTH_WAYS.input)
    arguments = ((3, 2), (2, 1), (1, 2), (1, 3))  # kernel_size, dilation, padding, stride
    columns = reference.im2col(x, *arguments)
    check(nc.im2col(x, *arguments), columns)
    image = reference.col2im(columns, BOTH_WAYS.sizes, *arguments)
    check(nc.col2im(columns, BOTH_WAYS.sizes, *arguments), image)


def test_results_are_new_contiguous_arrays():
    for x in (integers((2, 3, 5, 7)), integers((1, 1, 1, 1))):
        columns = nc.im2col(x, 1)
        image = nc.col2im(columns, x.shape[2:], (1, 1))
        for result, operand in ((columns, x), (image, columns)):
            assert result.flags.c_contiguous
            assert result.flags.writeable
            assert not np.shares_memory(result, operand)


@pytest.mark.parametrize(
    "arrange",
    [
        np.asfortranarray,
        lambda a: np.repeat(a, 2, -1)[..., ::2],
        lambda a: a[..., ::-1].copy()[..., ::-1],
        lambda a: a.astype(">f4"),
        lambda a: np.frombuffer(b"\0" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape),
        lambda a: np.broadcast_to(a[:1], a.shape),
    ],
    ids=["fortran", "spread", "reversed", "swapped_bytes", "unaligned_readonly", "broadcast"],
)
def test_operands_of_any_layout(arrange: Any):
    x = arrange(integers(BOTH_WAYS.input))
    columns = nc.im2col(x, BOTH_WAYS.kernel_size, **BOTH_WAYS.options)
    assert columns.dtype.isnative
    np.testing.assert_array_equal(
        columns, reference.im2col(x, BOTH_WAYS.kernel_size, **BOTH_WAYS.options)
    )
    columns = arrange(columns)
    image = nc.col2im(columns, BOTH_WAYS.sizes, BOTH_WAYS.kernel_size, **BOTH_WAYS.options)
    expected = reference.col2im(
        columns, BOTH_WAYS.sizes, BOTH_WAYS.kernel_size, **BOTH_WAYS.options
    )
    np.testing.assert_array_equal(image, expected)


def test_nan_and_infinity_are_copied_once_for_each_window():
    x = np.ones((1, 1, 5, 5), np.float32)
    x[0, 0, 2, 2], x[0, 0, 0, 0] = np.nan, np.inf
    columns = nc.im2col(x, 3, padding=1)
    np.testing.assert_array_equal(columns, reference.im2col(x, (3, 3), padding=1))
    assert np.isnan(columns).sum() == 9
    assert np.isinf(columns).sum() == 4
    image = nc.col2im(columns, (5, 5), 3, padding=1)
    np.testing.assert_array_equal(image, reference.col2im(columns, (5, 5), (3, 3), padding=1))


def pytorch_has(case: Patches) -> bool:
    """PyTorch's unfold takes two axes, no pairs, no names and no empty array."""
    padding = case.options.get("padding", 0)
    pairs = isinstance(padding, tuple) and isinstance(padding[0], tuple)
    return len(case.sizes) == 2 and not (pairs or isinstance(padding, str) or 0 in case.input)


@pytest.mark.parametrize("case", [c for c in CASES if pytorch_has(c)], ids=str)
def test_against_pytorch(case: Patches):
    torch = pytest.importorskip("torch")
    x = integers(case.input)
    unfolded = torch.nn.functional.unfold(torch.from_numpy(x), case.kernel_size, **case.options)
    columns = nc.im2col(x, case.kernel_size, **case.options)
    check(columns, unfolded.numpy())
    folded = torch.nn.functional.fold(unfolded, case.sizes, case.kernel_size, **case.options)
    check(nc.col2im(columns, case.sizes, case.kernel_size, **case.options), folded.numpy())
