"""Gradients of weights whose cuts depend on padding, on few channels, and on what is not finite."""

import numpy as np
import pytest

import numbaconv as nc
from numbaconv.codegen.target import VECTOR_BYTES
from numbaconv.cpu.gradients import weight_tasks
from numbaconv.cpu.packing.weights import register_rows
from numbaconv.problem.plan import find_weight_plan
from numbaconv.problem.simplest import with_fewest_axes
from tests.cpu.shapes import shape_of
from tests.oracle import reference

DRAWS = 30


def draw_few_channels(rng: np.random.Generator):
    """A problem of groups of few channels: lanes are pixels, and rows of blocks may be taps."""
    high, wide = rng.integers(1, 10), rng.integers(1, 13)
    if rng.random() < 0.4:  # a line is no strip
        long = rng.integers(1, 25)
        high, wide = (1, long) if rng.random() < 0.5 else (long, 1)
    dilation = tuple(int(d) for d in rng.integers(1, 3, 2))
    # Maps wider than a chunk, whose last chunk is narrower, and maps of a few pixels.
    wider = int(rng.choice([0, 3, 20, 517]))
    reach = [(k - 1) * d + 1 for k, d in zip((high, wide), dilation, strict=True)]
    size = (reach[0] + int(rng.integers(0, 30 if wider < 99 else 5)), reach[1] + wider)
    groups, c_in, c_out = (int(rng.integers(1, most)) for most in (12, 3, 7))
    stride = (1, 1) if rng.random() < 0.7 else (2, int(rng.integers(1, 3)))
    # Without padding the input is read in place.
    padding = (0, 0) if rng.random() < 0.4 else tuple(int(rng.integers(0, r)) for r in reach)
    n = int(rng.integers(1, 3))
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return (n, groups * c_in, *size), (groups * c_out, c_in, int(high), int(wide)), options


def draw_padded(rng: np.random.Generator):
    """A problem of many channels whose taps often read padding: lists of pixels for each column."""
    kernel, dilation = rng.integers(1, 6, 3), rng.integers(1, 5, 3)
    kernel[0] = min(kernel[0], 3)
    stride, padding = rng.integers(1, 4, 3), (kernel - 1) * dilation
    padding = np.minimum(padding, rng.integers(0, 9, 3))
    least = np.maximum((kernel - 1) * dilation + 1 - 2 * padding, 1)
    size = least + rng.integers(0, 9, 3)
    pairs = (("stride", stride), ("padding", padding), ("dilation", dilation))
    options = {name: tuple(int(v) for v in values) for name, values in pairs}
    c_in, c_out, n = (int(rng.integers(1, most)) for most in (40, 40, 4))
    return (n, c_in, *map(int, size)), (c_out, c_in, *map(int, kernel)), options | {"groups": 1}


def draw_covered(rng: np.random.Generator):
    """A window that covers its map: its elements are channels of a product of the batch."""
    rank, groups = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    kernel = tuple(int(k) for k in rng.integers(1, 7, rank))
    n, c_in, c_out = (int(rng.integers(1, most)) for most in (30, 20, 20))
    ones = (1,) * rank
    options = {"stride": ones, "padding": (0,) * rank, "dilation": ones, "groups": groups}
    return (n, groups * c_in, *kernel), (groups * c_out, c_in, *kernel), options


@pytest.mark.skipif(VECTOR_BYTES < 64, reason="rows leave few lanes of short vectors over")
def test_draws_take_every_way():
    """What is drawn below is strips, or read in place or copied, with rows of blocks of either."""
    rng, ways = np.random.default_rng(3), set()
    for _ in range(10 * DRAWS):
        x_shape, w_shape, options = draw_few_channels(rng)
        s = with_fewest_axes(shape_of(x_shape, w_shape, **options))
        blocks = weight_tasks.cut(s, 4, 2, patches=False)
        ways.add((blocks.lowering, blocks.in_place, blocks.copies, blocks.shifts))
    dots = {(i, *of_rows) for i in (0, 1) for of_rows in ((0, 0), (1, 0), (1, 1))}
    assert ways == {(weight_tasks.DOTS, *each) for each in dots} | {(weight_tasks.STRIPS, 0, 0, 0)}


STRIPS = [
    # Group's inputs and outputs, size, kernel, stride, dilation, padding; strips or not.
    (1, 1, (14, 14), (3, 3), 1, 1, 1, True),
    (1, 1, (7, 7), (3, 2), 2, 1, 0, True),
    (3, 3, (40, 40), (2, 3), 1, 2, 1, True),
    (8, 64, (28, 28), (3, 3), 1, 1, 1, True),
    (4, 4, (14, 14), (3, 3), 1, 1, 1, True),
    (4, 4, (56, 56), (3, 3), 1, 1, 1, False),  # dots
    (3, 64, (224, 224), (3, 3), 1, 1, 1, False),
    (16, 16, (28, 28), (3, 3), 1, 1, 1, False),  # products
    (1, 1, (14, 14), (3, 3), 3, 1, 1, False),  # strides and lines that the tile has not
    (1, 1, (14, 14), (3, 3), 2, 2, 2, False),
    (1, 1, (14, 14), (1, 9), 1, 1, (0, 4), False),
    (1, 1, (14, 14), (9, 1), 1, 1, (4, 0), False),
]


@pytest.mark.skipif(VECTOR_BYTES < 64, reason="other vectors are filled by other channels")
@pytest.mark.parametrize("row", STRIPS, ids=str)
def test_planes_of_few_channels_are_strips(row):
    c_in, c_out, size, kernel, stride, dilation, padding, strips = row
    options = {"stride": stride, "dilation": dilation, "padding": padding, "groups": 5}
    s = shape_of((2, 5 * c_in, *size), (5 * c_out, c_in, *kernel), **options)
    lowering = weight_tasks.cut(s, 4, 2, patches=False).lowering
    assert (lowering == weight_tasks.STRIPS) == strips
    assert weight_tasks.cut(s, 4, 2, patches=True).lowering == weight_tasks.PRODUCTS


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize(
    "kernel", [(2, 2), (3, 5), (4, 4), (5, 6), (7, 7), (8, 3), (11, 4)], ids=str
)
@pytest.mark.parametrize("stride", [1, 2])
def test_strips(kernel: tuple[int, int], stride: int, dtype: str):
    """Blocks of all sizes, on maps from less than half a vector to several chunks of rows."""
    rng = np.random.default_rng(len(str(kernel)))
    for groups, c_in, c_out, size in [
        (3, 1, 1, (13, 12)),
        (2, 1, 3, (17, 37)),
        (1, 2, 2, (150, 16)),
        (2, lanes_of(dtype) // 2, 5, (12, 33)),
    ]:
        for dilation in (1, 2) if stride == 1 else (1,):
            options = {"stride": (stride,) * 2, "dilation": (dilation,) * 2, "groups": groups}
            options["padding"] = tuple(int(rng.integers(0, k)) for k in kernel)
            size = tuple(max(n, (k - 1) * dilation + 1) for n, k in zip(size, kernel, strict=True))
            x_shape, w_shape = (2, groups * c_in, *size), (groups * c_out, c_in, *kernel)
            x, g = operands(rng, (x_shape, output_shape(x_shape, w_shape, options)), dtype)
            expected = reference.conv_weight_by_taps(x, w_shape, g, **options)
            got = weight_gradient(x, w_shape, g, options)
            np.testing.assert_array_equal(got, expected, f"{x_shape}, {w_shape}, {options}")


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize("stride", [3, 16])
def test_columns_as_channels(stride: int, dtype: str):
    """Patches whose columns fill vectors, whether they overlap or not; padding above and below."""
    rng = np.random.default_rng(stride)
    most = max(1, (lanes_of(dtype) - 1) // 2)  # less than half a vector
    for c_in, c_out, wide in [(min(3, most), 17, 16), (1, 1, 48), (most, 40, 31)]:
        x_shape, w_shape = (2, c_in, 19, 2 * wide + 5), (c_out, c_in, 7, wide)
        options = {"stride": (2, stride), "padding": (3, 0), "dilation": (2, 1), "groups": 1}
        s = shape_of(x_shape, w_shape, **options)
        if 2 * c_in < lanes_of(dtype):
            assert weight_tasks.columns_as_channels(s, lanes_of(dtype)) is not None
        assert weight_tasks.columns_as_channels(s._replace(padding=(0, 0, 1)), 8) is None
        x, g = operands(rng, (x_shape, output_shape(x_shape, w_shape, options)), dtype)
        expected = reference.conv_weight_by_taps(x, w_shape, g, **options)
        np.testing.assert_array_equal(weight_gradient(x, w_shape, g, options), expected)


COLLIDING = [
    # Images, channels in and out, kernel, size, stride, dilation, padding.
    (2, 70, 33, (1, 1), (32, 32), 1, 1, 0),
    (1, 20, 31, (3, 3), (32, 64), 1, 1, 1),  # rows above and below read padding
    (1, 17, 24, (3, 5), (64, 32), (2, 1), (1, 3), (1, 6)),  # columns at the ends, too
    (1, 40, 29, (3, 1, 3), (4, 16, 16), 1, 1, (1, 0, 1)),  # chunks of several planes
]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize("row", COLLIDING, ids=str)
def test_channels_that_collide_are_copied(row, dtype: str):
    """Planes of the gradient whose elements are a multiple of 1024."""
    n, c_in, c_out, kernel, size, *steps = row
    names = ("stride", "dilation", "padding")
    options = {
        name: step if isinstance(step, tuple) else (step,) * len(size)
        for name, step in zip(names, steps, strict=True)
    }
    options["groups"] = 1
    x_shape, w_shape = (n, c_in, *size), (c_out, c_in, *kernel)
    rng = np.random.default_rng(n)
    x, g = operands(rng, (x_shape, output_shape(x_shape, w_shape, options)), dtype)
    assert g[0, 0].size % 1024 == 0
    s = with_fewest_axes(shape_of(x_shape, w_shape, **options))
    tall = register_rows(c_out) > weight_tasks.WAYS
    assert weight_tasks.cut(s, g.itemsize, 1, patches=False).copies == tall
    expected = reference.conv_weight_by_taps(x, w_shape, g, **options)
    np.testing.assert_array_equal(weight_gradient(x, w_shape, g, options), expected)


FEW_PIXELS = [
    # Images, groups, inputs and outputs of a group, kernel, size, stride, dilation, padding.
    (1, 1, 17, 150, (5,), (12,), 1, 1, 1),
    (2, 1, 40, 90, (3, 3), (4, 5), 1, 1, 0),  # a chunk of two images
    (1, 2, 11, 230, (3, 2), (9, 8), (2, 3), 2, (1, 2)),
    (1, 2, 13, 60, (3, 3, 3), (4, 4, 4), 2, 1, (0, 1, 1)),
]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize("row", FEW_PIXELS, ids=str)
def test_patches_of_few_pixels_are_written_out(row, dtype: str):
    n, groups, c_in, c_out, kernel, size, *steps = row
    names = ("stride", "dilation", "padding")
    options = {
        name: step if isinstance(step, tuple) else (step,) * len(size)
        for name, step in zip(names, steps, strict=True)
    }
    options["groups"] = groups
    x_shape, w_shape = (n, groups * c_in, *size), (groups * c_out, c_in, *kernel)
    rng = np.random.default_rng(n)
    x, g = operands(rng, (x_shape, output_shape(x_shape, w_shape, options)), dtype)
    s = with_fewest_axes(shape_of(x_shape, w_shape, **options))
    assert weight_tasks.cut(s, g.itemsize, 1, patches=False).patches
    expected = reference.conv_weight_by_taps(x, w_shape, g, **options)
    np.testing.assert_array_equal(weight_gradient(x, w_shape, g, options), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("draw", [draw_few_channels, draw_padded])
def test_exact_by_patches(draw, dtype: str):
    rng = np.random.default_rng(len(draw.__name__))
    for _ in range(DRAWS):
        x_shape, w_shape, options = draw(rng)
        x, g = operands(rng, (x_shape, output_shape(x_shape, w_shape, options)), dtype)
        expected = reference.conv_weight_by_taps(x, w_shape, g, **options)
        got = weight_gradient(x, w_shape, g, options | {"backend": "im2col"})
        np.testing.assert_array_equal(got, expected, f"{x_shape}, {w_shape}, {options}")


def lanes_of(dtype: str) -> int:
    return VECTOR_BYTES // np.dtype(dtype).itemsize


def test_windows_that_cover_their_map_are_products_of_the_batch():
    x, g = np.zeros((4, 6, 5, 7), np.float32), np.zeros((4, 8, 1, 1), np.float32)
    s = find_weight_plan(2, x, (8, 3, 5, 7), g, 1, 0, 1, 2).simplest
    assert (s.groups, s.c_in, s.taps, s.size) == (2, 3 * 5 * 7, 1, (1, 1, 1))
    assert find_weight_plan(2, x, (8, 3, 5, 6), g, (1, 2), 0, 1, 2).simplest.taps > 1


def operands(rng: np.random.Generator, shapes, dtype: str):
    return [rng.integers(-4, 5, shape).astype(dtype) for shape in shapes]


def output_shape(x_shape, w_shape, options):
    steps = (options[name] for name in ("stride", "padding", "dilation"))
    axes = zip(x_shape[2:], w_shape[2:], *steps, strict=True)
    sizes = ((n + 2 * p - (k - 1) * d - 1) // s + 1 for n, k, s, p, d in axes)
    return (x_shape[0], w_shape[0], *sizes)


def weight_gradient(x, w_shape, g, options):
    return getattr(nc.grad, f"conv{x.ndim - 2}d_weight")(x, w_shape, g, **options)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("draw", [draw_few_channels, draw_padded, draw_covered])
def test_exact(draw, dtype: str):
    rng = np.random.default_rng(len(draw.__name__))
    for _ in range(DRAWS):
        x_shape, w_shape, options = draw(rng)
        x, g = operands(rng, (x_shape, output_shape(x_shape, w_shape, options)), dtype)
        expected = reference.conv_weight_by_taps(x, w_shape, g, **options)
        got = weight_gradient(x, w_shape, g, options)
        np.testing.assert_array_equal(got, expected, f"{x_shape}, {w_shape}, {options}")


def test_rows_that_several_chunks_share_are_not_one_long_row():
    """Filters one column wide on dense rows: what lies beside a chunk is another's, not zeros."""
    rng = np.random.default_rng(8)
    x_shape, w_shape = (1, 2, 7, 518), (2, 1, 3, 1)
    options = {"stride": 1, "padding": 0, "dilation": 1, "groups": 2}
    assert weight_tasks.cut(shape_of(x_shape, w_shape, groups=2), 4, 2, patches=False).cols < 518
    x, g = operands(rng, (x_shape, (1, 2, 5, 518)), "float32")
    expected = reference.conv_weight_by_taps(
        x, w_shape, g, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=2
    )
    np.testing.assert_array_equal(weight_gradient(x, w_shape, g, options), expected)


def taps_off_padding(x_shape, w_shape, at, options):
    """Which taps, of all weights, read elements of the input for one output, and no padding."""
    inside = np.ones(w_shape, bool)
    for axis in (2, 3):
        stride, padding, dilation = (
            options[name][axis - 2] for name in ("stride", "padding", "dilation")
        )
        read = at[axis] * stride - padding + np.arange(w_shape[axis]) * dilation
        taps = (read >= 0) & (read < x_shape[axis])
        inside &= taps[:, None] if axis == 2 else taps
    return inside


def test_what_is_not_finite_stays_in_its_window():
    """The sums of other taps, and of other channels, are what they are without it.

    Where a gradient of the output that is not finite meets padding alone, it may be left out.
    """
    rng = np.random.default_rng(5)
    for _ in range(DRAWS):
        x_shape, w_shape, options = draw_few_channels(rng)
        x, g = operands(rng, (x_shape, output_shape(x_shape, w_shape, options)), "float32")
        for array in (x, g):
            at = tuple(int(rng.choice([0, n // 2, n - 1])) for n in array.shape)
            array[at] = 0
            without = reference.conv_weight_by_taps(x, w_shape, g, **options)
            array[at] = rng.choice([np.nan, np.inf, -np.inf])
            with np.errstate(all="ignore"):
                expected = reference.conv_weight_by_taps(x, w_shape, g, **options)
            got = weight_gradient(x, w_shape, g, options)
            if array is g:
                left_out = ~taps_off_padding(x_shape, w_shape, at, options) & np.isfinite(got)
                expected = np.where(left_out, without, expected)
            np.testing.assert_array_equal(got, expected, f"{x_shape}, {w_shape}, {options}")
            array[at] = 1


def test_same_bits_beside_what_is_not_finite():
    """The channels beside one that is not finite are added in the same order as alone."""
    rng = np.random.default_rng(6)
    x, g = rng.standard_normal((2, 2, 13, 14, 14), dtype=np.float32)
    options = {"padding": 1, "groups": 13}
    before = nc.grad.conv2d_weight(x, (13, 1, 3, 3), g, **options)
    x[:, 5] = np.nan
    after = nc.grad.conv2d_weight(x, (13, 1, 3, 3), g, **options)
    assert np.isnan(after[5]).all()
    np.testing.assert_array_equal(np.delete(before, 5, 0), np.delete(after, 5, 0))
