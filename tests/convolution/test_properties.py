"""Identities that hold for every convolution, on problems that hypothesis makes up.

All data are small integers: results are exact, so that identities are equalities.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import numbaconv as nc
from tests.oracle import reference
from tests.oracle.cases import Array
from tests.oracle.paths import BACKENDS
from tests.oracle.problems import MODES
from tests.oracle.strategies import Problem, backends, integers, problems

equal = np.testing.assert_array_equal


def test_the_strategy_reaches_every_mode_and_rank():
    """Whatever hypothesis draws, the identities below must not hold over nothing."""
    seen = set()

    @given(problems())
    def collect(p: Problem) -> None:
        modes = reference.per_axis(p.options["padding_mode"], p.w.ndim - 2)
        lengths = zip(p.options["padding"], p.x.shape[2:], strict=True)
        seen.update((mode, "mode") for mode in modes)
        seen.add((len(set(modes)) > 1, "by axis"))
        seen.add((any(max(pair) > 2 * size for pair, size in lengths), "long padding"))
        seen.add((p.w.ndim - 2, "rank"))
        seen.add((p.options["groups"], "groups"))
        seen.add((max(p.options["stride"]), "stride"))

    collect()
    wanted = [(m, "mode") for m in MODES] + [(r, "rank") for r in (1, 2, 3)]
    wanted += [(True, "by axis"), (True, "long padding")]
    assert {*wanted, (1, "groups"), (2, "groups"), (2, "stride")} <= seen


@pytest.mark.target
@given(problems(), backends)
def test_definition(p: Problem, backend: str):
    y = nc.conv(p.x, p.w, p.b, **p.options, backend=backend)
    equal(y, reference.conv(p.x, p.w, p.b, **p.options))


@given(problems())
def test_backends_agree(p: Problem):
    first, *others = (nc.conv(p.x, p.w, p.b, **p.options, backend=name) for name in BACKENDS)
    for other in others:
        equal(first, other)


@given(problems(), backends, st.integers(-3, 3), st.integers(-3, 3))
def test_linear_in_input_and_weight(p: Problem, backend: str, a: int, b: int):
    def conv(x: Array, w: Array) -> Array:
        return nc.conv(x, w, **p.options, backend=backend)

    x, w = np.roll(p.x, 1, -1), np.roll(p.w, 1, 0)
    a, b = p.x.dtype.type(a), p.x.dtype.type(b)
    equal(conv(a * p.x + b * x, p.w), a * conv(p.x, p.w) + b * conv(x, p.w))
    equal(conv(p.x, a * p.w + b * w), a * conv(p.x, p.w) + b * conv(p.x, w))


@given(problems(pad=0, modes=("zeros",)), backends)
def test_shifting_the_input_shifts_the_output(p: Problem, backend: str):
    """One stride less of the input along an axis is one output position less."""
    y = nc.conv(p.x, p.w, p.b, **p.options, backend=backend)
    for axis, step in enumerate(p.options["stride"], start=2):
        if y.shape[axis] < 2:
            continue
        rest = (*(slice(None) for _ in range(axis)), slice(step, None))
        shifted = nc.conv(p.x[rest], p.w, p.b, **p.options, backend=backend)
        equal(shifted, y[(*(slice(None) for _ in range(axis)), slice(1, None))])


@given(problems(), backends)
def test_groups_are_concatenated(p: Problem, backend: str):
    groups = p.options["groups"]
    alone = p.options | {"groups": 1}
    parts = [
        nc.conv(x, w, b, **alone, backend=backend)
        for x, w, b in zip(
            np.split(p.x, groups, 1),
            np.split(p.w, groups),
            [None] * groups if p.b is None else np.split(p.b, groups),
            strict=True,
        )
    ]
    equal(nc.conv(p.x, p.w, p.b, **p.options, backend=backend), np.concatenate(parts, 1))


@given(problems(), backends)
def test_padding_is_numpys_pad(p: Problem, backend: str):
    names = {"zeros": "constant", "replicate": "edge", "circular": "wrap"}
    modes = reference.per_axis(p.options["padding_mode"], p.w.ndim - 2)
    padded = p.x
    for axis, (pair, mode) in enumerate(zip(p.options["padding"], modes, strict=True), start=2):
        pairs = [pair if i == axis else (0, 0) for i in range(padded.ndim)]
        padded = np.pad(padded, pairs, names.get(mode, mode))
    unpadded = p.options | {"padding": 0, "padding_mode": "zeros"}
    equal(
        nc.conv(p.x, p.w, p.b, **p.options, backend=backend),
        nc.conv(padded, p.w, p.b, **unpadded, backend=backend),
    )


@given(problems(), backends)
def test_dilation_is_a_kernel_with_zeros_between(p: Problem, backend: str):
    dilation = p.options["dilation"]
    spread = [(k - 1) * d + 1 for k, d in zip(p.w.shape[2:], dilation, strict=True)]
    sparse = np.zeros((*p.w.shape[:2], *spread), p.w.dtype)
    sparse[(slice(None), slice(None), *(slice(None, None, d) for d in dilation))] = p.w
    equal(
        nc.conv(p.x, p.w, p.b, **p.options, backend=backend),
        nc.conv(p.x, sparse, p.b, **(p.options | {"dilation": 1}), backend=backend),
    )


@given(problems(), backends)
def test_stride_skips_outputs(p: Problem, backend: str):
    dense = nc.conv(p.x, p.w, p.b, **(p.options | {"stride": 1}), backend=backend)
    strided = nc.conv(p.x, p.w, p.b, **p.options, backend=backend)
    skips = (slice(None, None, s) for s in p.options["stride"])
    equal(strided, dense[(slice(None), slice(None), *skips)])


@given(problems(), backends)
def test_channels_last_is_a_transposition(p: Problem, backend: str):
    last = np.ascontiguousarray(np.moveaxis(p.x, 1, -1))
    y = nc.conv(last, p.w, p.b, **p.options, data_format="channels_last", backend=backend)
    equal(np.moveaxis(y, -1, 1), nc.conv(p.x, p.w, p.b, **p.options, backend=backend))


def modes_of(p: Problem) -> tuple[str, ...]:
    """The padding mode of each axis."""
    modes = p.options["padding_mode"]
    return (modes,) * (p.x.ndim - 2) if isinstance(modes, str) else modes


@given(problems(ranks=(1, 2)), backends)
def test_lower_ranks_are_three_dimensional_with_unit_extents(p: Problem, backend: str):
    units = (1,) * (5 - p.x.ndim)
    x = p.x.reshape(*p.x.shape[:2], *units, *p.x.shape[2:])
    w = p.w.reshape(*p.w.shape[:2], *units, *p.w.shape[2:])
    options = p.options | {
        "stride": (*units, *p.options["stride"]),
        "dilation": (*units, *p.options["dilation"]),
        "padding": (*((0, 0) for _ in units), *p.options["padding"]),
        "padding_mode": (*("zeros" for _ in units), *modes_of(p)),
    }
    y = nc.conv(p.x, p.w, p.b, **p.options, backend=backend)
    equal(nc.conv3d(x, w, p.b, **options, backend=backend).reshape(y.shape), y)


@given(problems(ranks=(1, 2), max_groups=1), backends)
def test_axes_can_change_places(p: Problem, backend: str):
    """Transposing every spatial axis of the problem transposes the result."""
    reverse = {name: p.options[name][::-1] for name in ("stride", "padding", "dilation")}
    reverse["padding_mode"] = modes_of(p)[::-1]

    def transpose(a: Array) -> Array:
        return a.transpose(0, 1, *range(a.ndim - 1, 1, -1))

    y = nc.conv(transpose(p.x), transpose(p.w), p.b, **(p.options | reverse), backend=backend)
    equal(transpose(y), nc.conv(p.x, p.w, p.b, **p.options, backend=backend))


@given(problems(modes=("zeros",), max_groups=1))
def test_im2col_is_its_definition(p: Problem):
    """Row (c, tap), column o: the padded input at o*stride + tap*dilation."""
    columns = nc.im2col(p.x, p.w.shape[2:], **p.patches)
    padded = np.pad(p.x, [(0, 0), (0, 0), *p.options["padding"]])
    out = reference.conv(p.x, p.w, **p.options).shape[2:]
    steps = list(zip(p.options["stride"], p.options["dilation"], strict=True))
    for row, tap in enumerate(itertools.product(*map(range, p.w.shape[2:]))):
        for column, position in enumerate(itertools.product(*map(range, out))):
            index = (o * s + k * d for o, k, (s, d) in zip(position, tap, steps, strict=True))
            taps = math.prod(p.w.shape[2:])
            equal(columns[:, row::taps, column], padded[(slice(None), slice(None), *index)])


@given(problems(modes=("zeros",)), st.integers(0, 2**32 - 1))
def test_col2im_is_the_adjoint_of_im2col(p: Problem, seed: int):
    """<im2col x, c> = <x, col2im c>."""
    kernel = p.w.shape[2:]
    columns = nc.im2col(p.x, kernel, **p.patches)
    c = integers(columns.shape, seed, p.x.dtype.name)
    image = nc.col2im(c, p.x.shape[2:], kernel, **p.patches)
    assert image.shape == p.x.shape
    assert np.sum(columns * c, dtype=float) == np.sum(p.x * image, dtype=float)


@given(problems(modes=("zeros",), max_groups=1), backends)
def test_convolution_is_weight_matrix_times_patch_matrix(p: Problem, backend: str):
    columns = nc.im2col(p.x, p.w.shape[2:], **p.patches)
    y = nc.conv(p.x, p.w, **p.options, backend=backend)
    equal(p.w.reshape(len(p.w), -1) @ columns, y.reshape(*y.shape[:2], -1))
