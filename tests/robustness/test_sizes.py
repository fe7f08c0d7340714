"""Sizes at and over every limit: right, or a ValueError or MemoryError before any work."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

import numbaconv as nc
from tests.conftest import Script
from tests.oracle import reference

# Arrays that name more elements than there is memory: one element, repeated by strides of zero.
HUGE = """
import resource
import numpy as np, numbaconv as nc
from tests.peak_memory import peak_bytes
def huge(*shape, dtype="f4"):
    return np.broadcast_to(np.ones((1,) * len(shape), dtype), shape)
def refused(function, *arguments, **options):
    try:
        y = function(*arguments, **options)
    except (ValueError, MemoryError) as refusal:
        assert str(refusal), "an error without a message"
        used = peak_bytes() - before
        assert used < 200e6, f"refused after using {used / 1e6} MB"
    else:
        raise AssertionError(f"gave a result of shape {y.shape}")
x, w = np.ones((1, 1, 8), "f4"), np.ones((1, 1, 3), "f4")
nc.conv1d(x, w)
nc.conv1d(x, w, backend="im2col")
before = peak_bytes()
resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))  # refuses what would be swapped
"""

REFUSED = (
    # More than memory, less than 64 bits.
    "nc.conv1d, huge(1, 1, 2**40), w",
    "nc.conv1d, huge(1, 1, 2**40, dtype='i1'), huge(1, 1, 3, dtype='i1')",
    "nc.conv1d, huge(2**36, 1, 8), w",
    "nc.conv1d, x, huge(2**36, 1, 3)",
    "nc.conv1d, huge(1, 2**35, 8), huge(1, 2**35, 3)",
    "nc.conv1d, huge(1, 2**35, 8), huge(2**35, 1, 3), groups=2**35",
    "nc.conv1d, huge(1, 1, 2**36), huge(1, 1, 2**36)",
    "nc.conv1d, x, w, padding=2**39",
    "nc.conv1d, x, w, padding=2**39, padding_mode='replicate'",
    "nc.conv1d, x, w, dilation=2**38, padding='full'",
    "nc.conv1d, huge(1, 1, 2**40, dtype='c16'), huge(1, 1, 3, dtype='c16')",
    # Products that overflow 64 bits.
    "nc.conv1d, huge(2**30, 1, 2**29), huge(2**30, 1, 1)",
    "nc.conv1d, huge(1, 2**31, 2**28), huge(2**31, 2**29, 1), groups=4",
    "nc.conv2d, huge(1, 1, 2**30, 2**30), huge(2**30, 1, 1, 1)",
    "nc.conv3d, huge(1, 1, 1, 1, 1), huge(1, 1, 1, 1, 1), padding=2**39",
    "nc.conv3d, huge(1, 1, 1, 1, 1), huge(1, 1, 2, 2, 2), dilation=2**39, padding='full'",
    "nc.conv3d, huge(1, 1, 2**20, 2**20, 2**20), huge(1, 1, 2**19, 2**19, 2**19)",
    # The patch matrix.
    "nc.im2col, huge(1, 1, 2**38), 2**20",
    "nc.im2col, huge(1, 1, 2**20, 2**20), (2**19, 2**19)",
    "nc.im2col, x, 3, 1, 2**39",
    "nc.col2im, huge(1, 3, 6), (2**60,), (3,), 1, 0, 2**59",
    "nc.col2im, huge(1, 9, 2**36), (2**18 + 2, 2**18 + 2), (3, 3)",
    "nc.col2im, huge(2**40, 3, 6), (8,), (3,)",
)


@pytest.mark.skipif(sys.platform != "linux", reason="limits as Linux has them")
@pytest.mark.parametrize("backend", ["direct", "im2col"])
def test_refused_before_any_work(backend: str, run_script: Script):
    lines = (f"refused({arguments})" for arguments in REFUSED)
    run_script("-c", HUGE + "\n".join(lines), NUMBACONV_BACKEND=backend)


def small(*shape: int) -> Any:
    return np.random.default_rng(len(shape)).integers(-2, 2, shape, endpoint=True).astype("f4")


@pytest.mark.parametrize("shape", [(40_001,), (1, 33_000), (33_000, 1), (190, 190)], ids=str)
def test_kernels_of_more_than_two_to_the_fifteen_taps(shape: tuple[int, ...], backend: str):
    """An integer of 16 bits is nowhere enough."""
    x, w = small(2, 1, *(n + 4 for n in shape)), small(3, 1, *shape)
    y = nc.conv(x, w, backend=backend)
    np.testing.assert_array_equal(y, reference.conv_by_taps(x, w))


def test_taps_that_lie_far_apart(backend: str):
    x, w = small(1, 2, 100_000), small(3, 2, 3)
    options = {"dilation": 40_000, "padding": 20_000, "stride": 3}
    y = nc.conv1d(x, w, **options, backend=backend)
    np.testing.assert_array_equal(y, reference.conv_by_taps(x, w, **options))


# Over 2**31 elements. Pages of zeros that nobody writes to take no memory; a result takes 8 GiB.
LONG_INPUT = """
import numpy as np, numbaconv as nc
size = 2**31 + 5000
x = np.zeros((1, 1, size), np.float32)
marked = [0, 1, 2**31 - 2, 2**31 - 1, 2**31, 2**31 + 1, 2**31 + 4000, size - 1]
x[0, 0, marked] = np.arange(1, len(marked) + 1)
w = np.array([[[1, 2, 4, 8]]], np.float32)
y = nc.conv1d(x, w, stride=4, padding=2)
expected = np.zeros_like(y)
for value, at in enumerate(marked, 1):
    for tap in range(4):
        o, rest = divmod(at + 2 - tap, 4)
        if rest == 0 and 0 <= o < y.shape[-1]:
            expected[0, 0, o] += value * w[0, 0, tap]
assert np.array_equal(y, expected)
"""
LONG_OUTPUT = """
import numpy as np, numbaconv as nc
x = np.arange(1, 1001, dtype=np.float32).reshape(1, 1, 1000)
w = np.array([[[1, 2, 4]]], np.float32)
y = nc.conv1d(x, w, padding=((2**31, 2),))
assert y.shape == (1, 1, 2**31 + 1000)
end = nc.conv1d(x, w, padding=2)
assert np.array_equal(y[..., -1002:], end)
assert not y[..., :-1002].any()
"""
MANY_CHANNELS = """
import numpy as np, numbaconv as nc
rng = np.random.default_rng(0)
x = rng.integers(-4, 4, (1, 3, 46_001)).astype(np.float32)
w = rng.integers(-4, 4, (47_000, 3, 1)).astype(np.float32)
y = nc.conv1d(x, w)
assert y.size > 2**31
for c in (0, 1, 45_690, 46_683, 46_684, 46_999):
    assert np.array_equal(y[0, c], np.tensordot(w[c, :, 0], x[0], 1)), c
"""


@pytest.mark.stress
@pytest.mark.parametrize("code", [LONG_INPUT, LONG_OUTPUT, MANY_CHANNELS], ids=["in", "out", "c"])
def test_more_than_two_to_the_thirty_one_elements(code: str, backend: str, run_script: Script):
    run_script("-c", code, timeout=1800, NUMBACONV_BACKEND=backend)
