"""The time and memory of a call follow inputs, outputs and taps, however much padding there is."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import numbaconv as nc

Script = Callable[..., subprocess.CompletedProcess[str]]


def read(i: int, size: int, mode: str) -> int | None:
    """Index that a padded coordinate reads; None for a zero."""
    if mode == "replicate":
        return min(max(i, 0), size - 1)
    return i if 0 <= i < size else None


def convolved(
    x: Any, w: Any, stride: Any, pairs: Any, dilation: Any, groups: int, mode: str
) -> Any:
    """The definition, in plain loops over places and taps."""
    size, kernel = x.shape[2:], w.shape[2:]
    axes = list(zip(size, kernel, stride, pairs, dilation, strict=True))
    output = [(n + a + b - (k - 1) * d - 1) // s + 1 for n, k, s, (a, b), d in axes]
    y = np.zeros((x.shape[0], w.shape[0], *output))
    c_out, c_in = w.shape[0] // groups, w.shape[1]
    for place in itertools.product(*map(range, output)):
        for tap in itertools.product(*map(range, kernel)):
            at = [
                read(j * s + t * d - a, n, mode)
                for j, t, (n, _, s, (a, _), d) in zip(place, tap, axes, strict=True)
            ]
            if None in at:
                continue
            for g in range(groups):
                part = x[(slice(None), slice(g * c_in, (g + 1) * c_in), *at)]
                rows = slice(g * c_out, (g + 1) * c_out)
                y[(slice(None), rows, *place)] += part @ w[(rows, slice(None), *tap)].T
    return y


# Kernel, stride, padding and dilation of an axis of 5 elements: each has a few outputs.
FAR = 2**28
AXES = {
    "stride": (3, FAR // 2, (FAR, FAR), 1),
    "stride_of_no_power": (3, FAR // 2 - 7, (FAR + 3, FAR), 3),
    "larger": (3, 2**35 + 1, (2**36, 2**36), 1),
    "dilation": (3, 1, (FAR, FAR), FAR),
    "dilation_and_stride": (4, 3, (FAR, 2 * FAR + 9), FAR),
    "both": (3, FAR, (2 * FAR, 2 * FAR), FAR),
    "both_not_alike": (3, FAR, (2 * FAR, 2 * FAR), FAR + 1),
    "far_dilation_some_stride": (3, 2**20, (2**38, 2**38 + 2**20), 2**38),
    "nothing_but_padding": (2, FAR - 1, (3 * FAR, FAR), 2),
    "dilation_past_all": (2, 2, (FAR, 20), FAR),
}
# Channels in, channels out, groups, whether the channels are last: the lowerings of the backends.
CHANNELS = {
    "image": (1, 1, 1, False),
    "layer": (3, 20, 1, False),
    "layer_last": (40, 40, 1, True),
    "depthwise": (20, 20, 20, False),
    "depthwise_last": (20, 20, 20, True),
    "groups": (6, 4, 2, False),
}


def problem(axes: tuple[str, ...], channels: str) -> tuple[Any, Any, dict[str, Any], bool]:
    kernel, stride, pairs, dilation = zip(*(AXES[axis] for axis in axes), strict=True)
    c_in, c_out, groups, last = CHANNELS[channels]
    rng = np.random.default_rng(0)
    x = rng.integers(-4, 5, (2, c_in, *(5 for _ in axes))).astype(np.float64)
    w = rng.integers(-4, 5, (c_out, c_in // groups, *kernel)).astype(np.float64)
    options = {"stride": stride, "padding": pairs, "dilation": dilation, "groups": groups}
    return x, w, options, last


def check_forwards(axes: tuple[str, ...], channels: str, backend: str, mode: str) -> None:
    x, w, options, last = problem(axes, channels)
    expected = convolved(x, w, *options.values(), mode)
    options |= {"padding_mode": mode, "backend": backend}
    if last:
        options["data_format"] = "channels_last"
        x, expected = np.moveaxis(x, 1, -1), np.moveaxis(expected, 1, -1)
    np.testing.assert_array_equal(nc.conv(x, w, **options), expected)
    np.testing.assert_array_equal(nc.prepare(w, **options)(x), expected)


def check_backwards(axes: tuple[str, ...], channels: str, backend: str) -> None:
    x, w, options, _ = problem(axes, channels)
    options["padding"] = options.pop("padding")
    y = convolved(
        x, w, *(options[name] for name in ("stride", "padding", "dilation", "groups")), ""
    )
    g = np.random.default_rng(1).integers(-4, 5, y.shape).astype(np.float64)
    rank = len(axes)
    by_input = getattr(nc.grad, f"conv{rank}d_input")(x.shape, w, g, **options, backend=backend)
    by_weight = getattr(nc.grad, f"conv{rank}d_weight")(x, w.shape, g, **options, backend=backend)
    # Both are the adjoint of the convolution, which is linear in each of its operands.
    rng = np.random.default_rng(2)
    for _ in range(3):
        u = rng.integers(-4, 5, x.shape).astype(np.float64)
        v = rng.integers(-4, 5, w.shape).astype(np.float64)
        ordered = [options[name] for name in ("stride", "padding", "dilation", "groups")]
        assert (convolved(u, w, *ordered, "") * g).sum() == (u * by_input).sum()
        assert (convolved(x, v, *ordered, "") * g).sum() == (v * by_weight).sum()


def check_patches(axes: tuple[str, ...]) -> None:
    x, w, options, _ = problem(axes, "layer")
    options.pop("groups")
    columns = nc.im2col(x, w.shape[2:], **options)
    y = convolved(x, w, *(options[name] for name in ("stride", "padding", "dilation")), 1, "")
    product = w.reshape(len(w), -1) @ columns
    np.testing.assert_array_equal(product.reshape(y.shape), y)
    if len(axes) > 1:  # col2im refuses a padded image of more elements than an index has
        return
    g = np.random.default_rng(1).integers(-4, 5, columns.shape).astype(np.float64)
    back = nc.col2im(g, x.shape[2:], w.shape[2:], **options)
    assert (back * x).sum() == (columns * g).sum()


PLACES = [(axis,) for axis in AXES] + [
    ("stride", "dilation"),
    ("dilation", "dilation"),
    ("dilation", "stride"),
    ("both", "dilation_and_stride"),
    ("stride", "dilation", "stride_of_no_power"),
    ("dilation", "both_not_alike", "dilation"),
]


def check_all(check: str, backend: str) -> None:
    """What a process of its own does: a call that takes for ever could not be interrupted."""
    for axes in PLACES:
        if check == "patches":
            check_patches(axes)
            continue
        for channels in CHANNELS:
            if check == "backwards":
                check_backwards(axes, channels, backend)
            else:
                check_forwards(axes, channels, backend, check)


@pytest.mark.parametrize("check", ["zeros", "replicate", "backwards"])
def test_far_padding(check: str, backend: str, run_script: Script):
    pytest.importorskip("resource")
    code = """
import sys
from tests.peak_memory import peak_bytes
from tests.robustness import test_far_padding as tests
before = peak_bytes()
tests.check_all(*sys.argv[1:])
grown = peak_bytes() - before
assert grown < 500e6, grown  # most of them for the compiler
"""
    run_script("-c", code, check, backend, timeout=1200)


def test_far_padding_of_patches():
    check_all("patches", "")


def test_ordinary_layers_keep_their_lowering():
    """Padding that layers have is not far: dilated ones of segmentation, signals and small maps."""
    layers = [
        ((1, 256, 33, 33), (64, 256, 3, 3), 36, 36),
        ((1, 64, 7, 7), (64, 64, 3, 3), 12, 12),
        ((1, 16, 16, 16), (16, 16, 3, 3), 24, 24),
        ((1, 1, 64, 64), (1, 1, 15, 15), 7, 1),
        ((1, 8, 1000), (8, 8, 2), 512, 512),
    ]
    for x, w, padding, dilation in layers:
        options: Any = {"padding": padding, "dilation": dilation, "backend": "direct"}
        found = nc.explain(np.empty(x), np.empty(w), **options)
        assert found.cycles.keys() & {"filter_rows", "matrix"}  # which have a halo tile
