"""Every lowering that can compute a problem computes it, be it chosen or not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu import direct, execution
from numbaconv.cpu.direct.choice import APPLIES, candidates
from numbaconv.cpu.direct.cost import find_lowering, order_of_sums
from numbaconv.problem.activations import NONE
from numbaconv.problem.dtypes import arithmetic
from numbaconv.problem.layout import CHANNELS_FIRST, CHANNELS_LAST
from numbaconv.problem.shape import ConvShape
from tests.cpu.shapes import shape_of
from tests.oracle.reference import conv as reference

FLOAT = np.dtype(np.float32)
LANES = VECTOR_BYTES // 4

# (image, weight, options): channels first; those that are last move behind the axes.
PROBLEMS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "dense": ((2, 5, 9, 21), (18, 5, 3, 3), {"padding": 1}),
    "padded": ((2, 5, 3, 14), (18, 5, 3, 3), {"padding": (4, 11)}),
    "padded and strided": ((1, 40, 9, 10), (17, 40, 2, 3), {"stride": (1, 2), "padding": (0, 7)}),
    "padded volume": ((1, 3, 4, 3, 20), (33, 3, 2, 2, 2), {"padding": (2, 3, 9)}),
    "padded patches": ((2, 5, 6, 28), (18, 5, 1, 2), {"stride": (1, 2), "padding": (0, 8)}),
    "nothing but padding": ((1, 5, 2, 1), (9, 5, 2, 1), {"stride": (1, 99), "padding": (1, 50)}),
    "strided": ((2, 5, 12, 21), (7, 5, 3, 3), {"stride": 2, "padding": 1}),
    "dilated": ((1, 9, 13, 13), (17, 9, 3, 3), {"padding": 4, "dilation": 4}),
    "grouped": ((2, 6, 7, 18), (10, 3, 2, 3), {"groups": 2}),
    "few outputs": ((1, 19, 8, 35), (2, 19, 3, 5), {"padding": (1, 2)}),
    "signal": ((2, 3, 300), (5, 3, 21), {"padding": 10}),
    "strided signal": ((1, 2, 200), (3, 2, 9), {"stride": 2}),
    "pointwise": ((1, 17, 1, 11), (9, 17, 1, 1), {}),
    "pointwise images": ((3, 17, 5, 15), (9, 17, 1, 1), {}),
    "long pointwise": ((2, 1300, 40), (5, 1300, 1), {}),
    "strided pointwise": ((3, 18, 9, 13), (9, 18, 1, 1), {"stride": 2}),
    "depthwise, tall": ((1, 17, 30, 40), (17, 1, 11, 2), {"padding": 5, "groups": 17}),
    "depthwise, dilated strides": (
        (2, 17, 30, 19),
        (17, 1, 4, 3),
        {"stride": 2, "dilation": 4, "groups": 17},
    ),
    "grouped pointwise": ((1, 22, 13), (4, 11, 1), {"groups": 2}),
    "small maps": ((9, 33, 2, 2), (32, 33, 3, 3), {"padding": 1}),
    "strided small maps": ((5, 66, 3, 2), (34, 33, 3, 3), {"stride": 2, "padding": 1, "groups": 2}),
    "depthwise": ((2, 19, 10, 13), (19, 1, 3, 3), {"padding": 1, "groups": 19}),
    "depthwise, stride 3": ((2, 19, 20, 43), (19, 1, 4, 5), {"stride": 3, "groups": 19}),
    "strided depthwise": ((1, 6, 11, 23), (6, 1, 5, 5), {"stride": 2, "groups": 6}),
    "rows left out": ((3, 2, 38, 34), (2, 1, 1, 3), {"stride": (2, 4), "padding": 2, "groups": 2}),
    "depthwise signal": ((2, 5, 700), (5, 1, 9), {"padding": 4, "groups": 5}),
    "depthwise rows": ((1, 3, 5, 1, 530), (3, 1, 3, 1, 4), {"padding": (1, 0, 0), "groups": 3}),
    "multiplier": ((1, 3, 9, 20), (6, 1, 3, 3), {"padding": 1, "groups": 3}),
    "one channel": ((1, 1, 9, 40), (1, 1, 3, 3), {"padding": 1}),
    "volume": ((1, 4, 5, 6, 17), (9, 4, 3, 3, 3), {"padding": 1}),
    "depthwise volume": ((1, 9, 5, 6, 17), (9, 1, 3, 3, 3), {"padding": 1, "groups": 9}),
}


def convolve(
    name: str,
    s: ConvShape,
    x: np.ndarray,
    w: np.ndarray,
    size: int,
    bias: np.ndarray | None = None,
) -> np.ndarray:
    """The flat result of one lowering, which leaves no element as it was."""

    class Forced:
        @staticmethod
        def lower(s: ConvShape, dtype: np.dtype, threads: int) -> Any:
            return direct.lower_as(name, s, dtype, threads)

    template = execution.make_template(Forced, s, arithmetic(FLOAT), 1, NONE)  # type: ignore[arg-type]
    y = np.full(size, np.nan, FLOAT)
    bias = np.zeros(s.groups * s.c_out, FLOAT) if bias is None else bias
    execution.run(template, x.ravel(), w.ravel(), np.empty(0, FLOAT), bias, y)
    return y


@pytest.mark.parametrize("layout", [CHANNELS_FIRST, CHANNELS_LAST], ids=["first", "last"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_candidate_is_right(problem: str, layout: Any):
    """Small integers, so results are equal whatever the order of sums."""
    image, weight, options = PROBLEMS[problem]
    rng = np.random.default_rng(0)
    x = rng.integers(-8, 9, image).astype(FLOAT)
    w = rng.integers(-8, 9, weight).astype(FLOAT)
    expected = reference(x, w, None, **options)
    if layout.channels_last:
        x, expected = (np.ascontiguousarray(np.moveaxis(a, 1, -1)) for a in (x, expected))
    s = shape_of(x.shape, weight, **options, layout=layout)
    names = candidates(s, LANES)
    assert find_lowering(s, LANES) in names
    for name in names:
        y = convolve(name, s, x, w, expected.size).reshape(expected.shape)
        np.testing.assert_array_equal(y, expected, err_msg=name)


@pytest.mark.parametrize("layout", [CHANNELS_FIRST, CHANNELS_LAST], ids=["first", "last"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_lowerings_of_one_order_have_the_same_bits(problem: str, layout: Any):
    """All images of a batch may decide among them, and an image has the same bits in any batch."""
    image, weight, options = PROBLEMS[problem]
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal(image, FLOAT), rng.standard_normal(weight, FLOAT)
    bias = rng.standard_normal(weight[0], FLOAT)
    size = reference(x, w, None, **options).size
    if layout.channels_last:
        x = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    s = shape_of(x.shape, weight, **options, layout=layout)
    found: dict[str, np.ndarray] = {}
    for name in candidates(s, LANES):
        y = convolve(name, s, x, w, size, bias)
        expected = found.setdefault(order_of_sums(name, s, LANES), y)
        np.testing.assert_array_equal(y, expected, err_msg=name)


def test_every_lowering_is_a_candidate_somewhere():
    found = set()
    for image, weight, options in PROBLEMS.values():
        for layout in (CHANNELS_FIRST, CHANNELS_LAST):
            shape = (image[0], *image[2:], image[1]) if layout.channels_last else image
            found |= set(candidates(shape_of(shape, weight, **options, layout=layout), LANES))
    expected = set(APPLIES) - ({"depthwise_planes"} if VECTOR_BYTES == 16 else set())
    assert found == expected == set(direct.LOWERINGS) & expected


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("patch_matrix", "pointwise images"),
        ("patch_matrix", "long pointwise"),
        ("patch_matrix", "strided pointwise"),
        ("matrix_transposed", "small maps"),
        ("matrix_transposed", "strided small maps"),
    ],
)
def test_several_images_have_the_bits_of_one(name: str, problem: str):
    """A panel goes from one image on to the next; pixels of a tile may be one of many images."""
    image, weight, options = PROBLEMS[problem]
    rng = np.random.default_rng(1)
    x, w = rng.random(image, FLOAT), rng.random(weight, FLOAT)
    results = []
    for images in (x, *(each[None] for each in x)):
        s = shape_of(images.shape, weight, **options)
        size = s.n * s.out_strides[0]
        results.append(convolve(name, s, images, w, size))
    np.testing.assert_array_equal(results[0], np.concatenate(results[1:]))
