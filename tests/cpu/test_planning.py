"""Planning, as values: how a problem is cut, what its job has room for. Nothing is compiled."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import numpy as np
import pytest

from numbaconv.codegen.integers import ceil_div, round_up
from numbaconv.codegen.pointers import CACHE_LINE
from numbaconv.codegen.target import VECTOR_BYTES, last_level_caches
from numbaconv.cpu import blocking, direct, im2col
from numbaconv.cpu.blocking import SHALLOW_ROWS, TILE_ROWS, TILE_VECTORS
from numbaconv.cpu.direct import (
    choice,
    cost,
    counts,
    depthwise_counts,
    depthwise_planes,
    matrix,
    matrix_blocks,
    matrix_transposed,
    tap_lists,
)
from numbaconv.cpu.direct.blocks import channel_parts, cut_evenly, even_blocks
from numbaconv.cpu.direct.choice import (
    FAR_DOT_PIXELS,
    FEW_BLOCKS,
    cached_pixels,
    comparable,
    crosses_lines,
)
from numbaconv.cpu.direct.depthwise_maps import locate_maps
from numbaconv.cpu.direct.dots import locate_dots, run_of
from numbaconv.cpu.direct.tap_lists import channels_together
from numbaconv.cpu.direct.tasks import locate_task
from numbaconv.cpu.fft.tiles import memory_cost
from numbaconv.cpu.gradients import weight_tasks
from numbaconv.cpu.gradients.adjoint_chain import Part, find_parts
from numbaconv.cpu.im2col import patch_matrix
from numbaconv.cpu.im2col.panels import locate_panel
from numbaconv.cpu.lowering import Lowering
from numbaconv.cpu.microkernels.matrix import asking_tile
from numbaconv.problem.dtypes import arithmetic
from numbaconv.problem.layout import CHANNELS_FIRST, CHANNELS_LAST, Layout
from numbaconv.problem.phases import find_phases
from numbaconv.problem.shape import ConvShape
from numbaconv.problem.simplest import simplest
from numbaconv.problem.taps import axis_taps
from tests.cpu.shapes import shape_of

FLOAT = np.dtype(np.float32)
LANES = VECTOR_BYTES // 4


def random_shape(draw: random.Random) -> ConvShape:
    """A problem of any kind: each lowering serves some of them."""
    if draw.random() < 0.15:  # dilated, on short rows
        size = draw.randint(13, 30)
        return shape_of((1, 128, size, size), (128, 128, 3, 3), padding=6, dilation=6)
    while True:
        rank = draw.choice((1, 2, 2, 3))
        groups, depthwise = draw.choice((1, 1, 2, 32)), draw.random() < 0.3
        c_in, c_out = draw.choice((1, 3, 32, 65)), draw.choice((1, 2, 3, 16, 33, 128))
        if depthwise:
            groups, c_in, c_out = draw.choice((3, 16, 33)), 1, 1
        size = tuple(draw.randint(1, {1: 3000, 2: 70, 3: 12}[rank]) for _ in range(rank))
        kernel = (draw.choice((1, 2, 3, 3, 5)),) * rank
        layout = draw.choice((CHANNELS_FIRST, CHANNELS_LAST))
        channels = c_in * groups
        image = (*size, channels) if layout.channels_last else (channels, *size)
        options = draw.choice((1, 1, 2)), draw.choice((0, 1)), draw.choice((1, 1, 3))
        weight = groups * c_out, c_in, *kernel
        try:
            return shape_of((draw.choice((1, 5)), *image), weight, *options, groups, layout)
        except ValueError:  # a kernel larger than the padded image
            continue


def outputs_of_direct(s: ConvShape, low: Lowering) -> np.ndarray:
    """How many tasks compute each output of (n, group, od, oh, ow), a part of the channels each."""
    counts = np.zeros((s.n, s.groups, *s.output), np.int64)
    for number in range(low.blocks.tasks):
        t = locate_task(number, s, low.blocks)
        rows, cols = slice(t.oh, t.oh + t.rows), slice(t.ow, t.ow + t.cols)
        counts[t.n, t.g : t.g + t.groups, t.od, rows, cols] += 1
    return counts


def outputs_of_maps(s: ConvShape, low: Lowering) -> np.ndarray:
    """The same of `depthwise_maps`, whose tasks are blocks of channels of some images."""
    counts = np.zeros((s.n, s.groups, math.prod(s.output)), np.int64)
    for number in range(low.blocks.tasks):
        part, blocks, images = locate_maps(number, low.blocks)
        first, many = low.table[4 * part :][:2]
        channels = slice(blocks[0] * LANES, blocks[1] * LANES)
        counts[slice(*images), channels, first : first + many] += 1
    return counts


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("seed", range(40))
def test_tasks_cover_the_output_once(seed: int, threads: int):
    s = random_shape(random.Random(seed))
    low = direct.lower(s, FLOAT, threads)
    if low.name == "depthwise_maps":
        assert (outputs_of_maps(s, low) == 1).all()
        return
    assert (outputs_of_direct(low.problem or s, low) == low.blocks.oc_parts).all()
    assert low.blocks.mr * (low.blocks.oc_blocks - 1) < s.c_out
    assert low.blocks.oc_parts <= low.blocks.oc_blocks


def test_every_lowering_is_drawn():
    shapes = [random_shape(random.Random(seed)) for seed in range(80)]
    names = {direct.lower(s, FLOAT, 2).name for s in shapes}
    expected = set(direct.LOWERINGS) - {"patch_matrix", "dots", "filter_folds"}
    if VECTOR_BYTES == 16:  # vectors without masks
        expected -= {"depthwise_planes"}
    assert names >= expected


def layer_of(pixels: int, c_in: int, c_out: int, groups: int) -> ConvShape:
    """A layer on a row of pixels whose channels lie side by side."""
    image, weight = (1, pixels, groups * c_in), (groups * c_out, c_in, 1)
    return shape_of(image, weight, groups=groups, layout=CHANNELS_LAST)


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize(
    "layer", [(1, 2048, 1000, 1), (500, 64, 1, 1), (64, 196, 1, 512), (3, 100, 7, 5), (1, 33, 1, 1)]
)
def test_dot_products_cover_the_output_once(layer: tuple[int, int, int, int], threads: int):
    assert direct.lower(layer_of(*layer), FLOAT, threads).name == "dots"
    check_dot_tasks(layer_of(*layer), threads)


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_dot_products_of_images_cover_the_output_once(threads: int):
    s = shape_of((3, 9, 13, 130), (20, 65, 1, 1), 2, groups=2, layout=CHANNELS_LAST)
    check_dot_tasks(simplest(s), threads)
    check_dot_tasks(layer_of(70_000, 64, 9, 1), threads)  # pixels that no cache holds


def check_dot_tasks(s: ConvShape, threads: int) -> None:
    """Each output is in one task, and the runs of a task are its pixels where they lie."""
    blocks = direct.lower_as("dots", s, FLOAT, threads).blocks
    size = s.n, *s.output
    counts = np.zeros((math.prod(size), s.groups, s.c_out), np.int64)
    for number in range(blocks.tasks):
        pixels, channels, groups = locate_dots(number, s, blocks)
        pixel = pixels[0]
        while pixel < pixels[1]:
            run = run_of(s, pixel, pixels[1])
            place = np.unravel_index(pixel, size)
            assert run.x == np.dot(place, (s.in_strides[0], *s.in_strides[2:]))
            assert run.out == np.dot(place, (s.out_strides[0], *s.out_strides[2:]))
            assert 0 < run.pixels <= s.output[2] - place[3]
            counts[pixel : pixel + run.pixels, slice(*groups), slice(*channels)] += 1
            pixel += run.pixels
        assert pixel == pixels[1]
    assert (counts == 1).all()


@pytest.mark.parametrize(
    ("vectors", "size", "dots"), [(0.5, 144, 1), (0.5, 49, 0), (3, 400, 0), (0.25, 49, 1)]
)
def test_gradients_of_pointwise_weights_take_dots_on_long_rows(
    vectors: float, size: int, dots: int
):
    channels = int(vectors * VECTOR_BYTES / 4)
    s = shape_of((1, channels, size), (96, channels, 1))
    expected = weight_tasks.DOTS if dots else weight_tasks.PRODUCTS
    assert weight_tasks.cut(s, 4, 2, patches=False).lowering == expected


@pytest.mark.parametrize(
    ("channels", "outputs", "kernel", "exchanges"),
    [(512, 24, 1, True), (24, 512, 1, False), (64, 64, 1, False), (512, 24, 3, False)],
)
def test_gradients_of_pointwise_weights_transpose_the_fewer_channels(
    channels: int, outputs: int, kernel: int, exchanges: bool
):
    s = shape_of((2, channels, 400), (outputs, channels, kernel))
    found, exchanged = weight_tasks.exchanged(s, VECTOR_BYTES // 4)
    assert exchanged == exchanges
    assert (found.c_in, found.c_out)[:: -1 if exchanges else 1] == (channels, outputs)


def test_groups_are_shared_before_rows_of_pixels_are():
    """Sums of gradients of weights: a slab copies the rows around its own anew."""
    many = weight_tasks.cut(
        shape_of((1, 96, 56, 56), (96, 1, 7, 7), padding=3, groups=96), 4, 2, patches=False
    )
    assert (many.slabs, many.rows) == (1, 56)
    few = weight_tasks.cut(
        shape_of((1, 2, 56, 56), (2, 1, 7, 7), padding=3, groups=2), 4, 2, patches=False
    )
    assert few.slabs == few.chunks == 8
    wide = shape_of((1, 24, 8, 12544), (24, 1, 5, 1), padding=(2, 0), groups=24)
    assert weight_tasks.cut(wide, 4, 2, patches=False).rows == 8


def test_packed_weights_serve_many_pixels():
    names = [direct.lower(layer_of(n, 2048, 1000, 1), FLOAT, 2).name for n in (1, 8, 9, 64)]
    assert names[:2] == ["dots", "dots"]
    assert "dots" not in names[2:]
    near = [direct.lower(layer_of(n, 256, 256, 1), FLOAT, 2).name for n in (4, 5)]
    assert near[0] == "dots" != near[1]
    channels = 100_001  # read in place; and a panel of them all would leave the cache
    wide = direct.lower_as("matrix_transposed", layer_of(64, channels, 1000, 1), FLOAT, 2)
    assert wide.fill_halo is None
    assert wide.blocks.kc < channels


def parts_of(s: ConvShape) -> list[Part]:
    phases = find_phases(s)
    return find_parts(s, phases, arithmetic(FLOAT))


def test_phases_along_a_row_are_channels():
    """The adjoint that ends a short-time Fourier transform is one product, not one a phase."""
    (part,) = parts_of(shape_of((1, 1, 256 * 50), (402, 1, 1024), stride=256))
    assert (part.shape.c_out, part.shape.taps, part.shape.output[2]) == (256, 4, 50)
    patches = parts_of(shape_of((8, 3, 224, 224), (384, 3, 16, 16), stride=16))
    assert [part.bias for part in patches] == [0, 1, 2] * 16  # for each phase of the rows
    assert all(part.copies == 16 for part in patches)
    one_a_row = parts_of(shape_of((2, 1, 10, 20), (7, 1, 2, 20), stride=(2, 20)))
    assert [part.copies for part in one_a_row] == [20, 20]  # the next row's follow in memory


def test_a_window_that_covers_its_map_has_one_product():
    (part,) = parts_of(shape_of((16, 512, 4, 4), (100, 512, 4, 4)))
    assert (part.shape.n, part.shape.c_in, part.shape.c_out) == (1, 100, 512 * 16)
    assert (part.copies, part.alike) == (512 * 16, 16)


@pytest.mark.parametrize("seed", range(40))
def test_parts_of_an_adjoint_write_each_element_once(seed: int):
    draw = random.Random(seed)
    channels, stride, kernel = draw.choice((1, 2, 3, 5)), draw.randint(1, 40), draw.randint(1, 60)
    size, padding = kernel + draw.randint(0, 150), draw.randint(0, kernel // 2)
    s = shape_of((2, channels, size), (7, channels, kernel), stride, padding)
    counts = np.zeros(s.n * s.in_strides[0], np.int64)
    for part in parts_of(s):
        extents = part.shape.n, part.shape.c_out, *part.shape.output
        at = np.zeros(extents, np.int64)
        for axis, step in enumerate(part.shape.out_strides):
            at += np.arange(extents[axis]).reshape(-1, *[1] * (4 - axis)) * step
        np.add.at(counts, part.origin + at.ravel(), 1)
    assert counts.max() == 1
    assert counts.sum() == sum(p.shape.pixels * s.n * channels for p in find_phases(s))


def test_stray_options_go_to_panels():
    """A halo tile would be nearly all padding: what taps read is copied, and no more."""
    image, weight = (1, 2, 5, 5), (3, 2, 3, 3)
    far = shape_of(image, weight, padding=2**20, dilation=2**20)
    assert direct.lower(far, FLOAT, 2).name in ("patch_matrix", "matrix_zones")
    assert not {"matrix", "filter_rows"} & set(comparable(far, LANES))
    near = shape_of(image, weight, padding=2, dilation=2)
    assert {"matrix", "filter_rows"} < set(comparable(near, LANES))


@pytest.fixture(autouse=True)
def usual_cycles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let everything take the cycles of a Zen 5, whatever the CPU is."""
    for what, cycles in cost.COLUMNS.items():
        monkeypatch.setitem(cost.CYCLES, what, cycles[cost.ZEN_5])


def chosen(image: tuple[int, ...], weight: tuple[int, ...], **options: Any) -> str:
    """The lowering of a problem in its simplest form."""
    return direct.lower(simplest(shape_of(image, weight, **options)), FLOAT, 2).name


# (image, weight, options): of each kind some problems on which the others take far longer.
SERVED: dict[str, list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]]] = {
    "matrix": [
        ((1, 16, 128, 128), (16, 16, 3, 3), {"padding": 1}),
        ((1, 3, 224, 224), (32, 3, 3, 3), {"stride": 2, "padding": 1}),
        ((8, 4, 5000), (16, 4, 1), {}),
        ((1, 64, 56, 56), (112, 64, 1, 1), {}),
        ((1, 64, 10, 10), (256, 64, 1, 1), {}),  # an image that the first-level cache holds
        ((1, 220, 28, 28), (32, 220, 1, 1), {}),  # channels on many pages that a cache holds
        ((1, 12, 100, 100), (256, 12, 1, 1), {}),  # few products beside the results
        ((1, 172, 110, 110), (3, 172, 1, 1), {}),  # few outputs of many channels
        ((1, 64, 30, 30), (16, 16, 3, 3), {"padding": 1, "groups": 4}),
        # Pixels that push each other out of the first-level cache; rows that the second has no room
        # for between two taps.
        ((1, 57, 57, 128), (7, 128, 5, 5), {"dilation": 8, "layout": CHANNELS_LAST}),
        ((1, 512, 26, 26, 26), (3, 512, 2, 2, 2), {"dilation": 12}),
        ((2, 528, 16, 14, 14), (32, 528, 1, 1, 1), {}),  # few register blocks, far pixels
        ((1, 192, 40, 40), (32, 192, 1, 1), {}),  # and those that a cache holds
    ],
    "matrix_transposed": [
        ((1, 512, 7, 7), (512, 512, 3, 3), {"padding": 1}),
        ((1, 64, 16, 28, 28), (64, 64, 3, 3, 3), {"stride": 2, "padding": 1}),
        ((1, 56, 56, 64), (64, 64, 3, 3), {"padding": 1, "layout": CHANNELS_LAST}),
        ((1, 10, 21, 21, 21), (3, 10, 2, 2, 2), {"stride": 3}),  # copies under such a stride
        # A single tap under a stride: it waits for no pixels, and vectors would read none whole.
        ((1, 192, 58, 58), (16, 192, 1, 1), {"stride": 2}),
        ((1, 1024, 5, 5), (360, 1024, 1, 1), {"stride": 2}),
        ((16, 1024, 14, 14), (512, 1024, 1, 1), {"stride": 2}),
        # Pixels of which a tile reads one line each at a time, and so they are not lost.
        ((1, 38, 38, 512), (24, 512, 3, 3), {"stride": 3, "padding": 1, "layout": CHANNELS_LAST}),
        # Windows that leave out most of the input.
        ((8, 20, 170, 170), (20, 1, 9, 9), {"stride": 9, "dilation": 16, "groups": 20}),
    ],
    "patch_matrix": [
        ((1, 640, 96, 96), (320, 640, 1, 1), {}),  # channels on many pages
        ((16, 640, 96, 96), (320, 640, 1, 1), {}),
        ((1, 64, 56, 56), (128, 64, 1, 1), {}),  # vectors that would lie across cache lines
        ((256, 512, 7, 7), (2048, 512, 1, 1), {}),  # lanes left over, pixels from memory
    ],
    "matrix_zones": [
        ((1, 64, 9, 9), (64, 64, 3, 3), {"padding": 6, "dilation": 6}),
        (
            (1, 19, 28, 28),
            (33, 19, 11, 11),
            {"padding": 80, "dilation": 16},
        ),  # many taps, few zones
        # A depthwise layer whose halo tiles would be padding.
        (
            (1, 23, 23, 124),
            (124, 1, 11, 11),
            {"padding": 80, "dilation": 16, "groups": 124, "layout": CHANNELS_LAST},
        ),
    ],
    "filter_rows": [
        ((1, 1, 512, 512), (1, 1, 9, 9), {"padding": 4}),
        ((1, 3, 300, 300), (2, 3, 5, 5), {"padding": 2}),
    ],
    "filter_folds": [
        ((1, 1, 20000), (1, 1, 101), {}),
        ((4, 64, 2000), (4, 16, 40), {"groups": 4}),
    ],
    "dots": [
        ((1, 2048, 1, 1), (1000, 2048, 1, 1), {}),
        ((1, 40, 40, 160), (4, 160, 1, 1), {"layout": CHANNELS_LAST}),
    ],
    "depthwise_planes": [
        ((1, 64, 56, 56), (64, 1, 3, 3), {"padding": 1, "groups": 64}),
        ((1, 4, 512, 512), (4, 1, 5, 5), {"padding": 2, "groups": 4}),
        ((1, 1, 512, 512), (1, 1, 3, 3), {"padding": 1}),
        ((1, 1, 28, 28), (1, 1, 3, 3), {"padding": 1}),
        ((2, 100, 3000), (100, 1, 5), {"padding": 2, "groups": 100, "stride": 2}),  # one row
        ((4, 100, 200), (100, 1, 5), {"padding": 2, "groups": 100, "stride": 3}),  # rows are planes
        ((1, 1, 88, 88), (1, 1, 3, 3), {"padding": 2, "dilation": 2}),
        ((1, 1, 200, 200), (1, 1, 2, 2), {"stride": 3}),
        ((1, 1, 40, 40, 40), (1, 1, 3, 3, 3), {"padding": 1}),
        ((1, 32, 90, 30), (32, 1, 3, 3), {"padding": 1, "groups": 32}),  # masks at both ends
        ((1, 512, 7, 7), (512, 1, 3, 3), {"padding": 1, "groups": 512}),  # planes in registers
    ],
    "depthwise_channels": [
        ((1, 14, 14, 512), (512, 1, 3, 3), {"padding": 1, "groups": 512, "layout": CHANNELS_LAST}),
        ((8, 10, 10, 72), (72, 1, 3, 3), {"stride": 2, "groups": 72, "layout": CHANNELS_LAST}),
        # Taps that lie a page apart.
        (
            (1, 16, 16, 512),
            (512, 1, 5, 5),
            {"dilation": 2, "groups": 512, "layout": CHANNELS_LAST},
        ),
    ],
    "depthwise_maps": [
        ((32, 128, 4, 4), (128, 1, 3, 3), {"groups": 128}),
        ((1, 112, 21, 21), (112, 1, 11, 11), {"stride": 2, "groups": 112}),
        ((1, 96, 56, 56), (96, 1, 3, 3), {"stride": 2, "dilation": 2, "padding": 2, "groups": 96}),
        ((1, 64, 12, 12, 12), (64, 1, 2, 2, 2), {"stride": 2, "groups": 64}),
        ((1, 64, 8, 14, 14), (64, 1, 3, 3, 3), {"stride": (1, 2, 2), "padding": 1, "groups": 64}),
        ((64, 512, 7, 7), (512, 1, 7, 7), {"groups": 512}),  # a window that covers its map
    ],
    "depthwise_interleaved": [
        ((1, 200, 300, 3), (3, 1, 3, 3), {"padding": 1, "groups": 3, "layout": CHANNELS_LAST}),
        # Channels that fill vectors, in images that the second-level cache does not hold.
        (
            (1, 15, 75, 100, 64),
            (64, 1, 3, 3, 3),
            {"padding": 1, "groups": 64, "layout": CHANNELS_LAST},
        ),
    ],
}


def plan_for_zen4(monkeypatch: pytest.MonkeyPatch, is_one: bool) -> None:
    """Have plans made as on a Zen 4 with vectors of 64 bytes, or as on other CPUs."""
    compared = cost.costs_in_order
    monkeypatch.setattr(
        cost, "costs_in_order", getattr(compared, "__wrapped__", compared)
    )  # none kept
    monkeypatch.setattr(choice, "HALVES_VECTORS", is_one)
    for module in choice, patch_matrix:
        monkeypatch.setattr(module, "ZEN", is_one)
    for module in choice, counts:
        monkeypatch.setattr(module, "MOST_PAGES", 3072 if is_one else 96)
    for module in counts, depthwise_counts:
        monkeypatch.setattr(module, "LATENCY", 2 if is_one else 4)
    near = 1 << 20 if is_one else choice.MOST_CACHED  # its second-level cache
    for module in choice, matrix:
        monkeypatch.setattr(module, "MOST_NEAR", near)
    for module in blocking, choice:
        monkeypatch.setattr(module, "SHALLOW_K", 64 if is_one else 12)


@pytest.mark.skipif(LANES < 16, reason="the table of costs is of AVX-512")
@pytest.mark.parametrize("name", SERVED)
def test_problems_are_served_by(name: str, monkeypatch: pytest.MonkeyPatch):
    plan_for_zen4(monkeypatch, False)
    assert [chosen(*image[:2], **image[2]) for image in SERVED[name]] == [name] * len(SERVED[name])


@pytest.mark.parametrize("outputs", [1, 4])
def test_pixels_of_an_only_channel_lie_dense(outputs: int):
    s = simplest(shape_of((40, 50, 1), (outputs, 1, 5, 3), layout=CHANNELS_LAST))
    assert "depthwise_interleaved" in choice.candidates(s, LANES)


def test_transforms_count_elements_that_are_no_neighbours():
    """Results with the channels last are stored one by one."""
    image, weight = (4, 300, 300), (8, 4, 15, 15)
    first, last = shape_of(image, weight), shape_of((300, 300, 4), weight, layout=CHANNELS_LAST)
    assert memory_cost(last, LANES) > 1.5 * memory_cost(first, LANES)


@pytest.mark.skipif(LANES < 16, reason="vectors as wide as cache lines")
@pytest.mark.parametrize("is_zen4", [False, True])
def test_costs_decide_on_small_maps_that_a_cache_keeps(
    is_zen4: bool, monkeypatch: pytest.MonkeyPatch
):
    """Panels serve others by a rule: the lanes that rows of 49 pixels leave over."""
    plan_for_zen4(monkeypatch, is_zen4)

    def rule(images: int) -> str | None:
        s = simplest(shape_of((images, 512, 7, 7), (2048, 512, 1, 1)))
        found: str | None = choice.special_lowering(s, LANES)
        return found

    assert {n: rule(n) for n in (2, 32, 256)} == {2: None, 32: None, 256: "patch_matrix"}


@pytest.mark.skipif(LANES < 16, reason="the table of costs is of AVX-512")
def test_pointwise_layers_on_a_zen4(monkeypatch: pytest.MonkeyPatch):
    """It reads pixels in place, by lower blocks up to a longer k, and asks for them sooner."""

    def lowered(*sizes: int) -> Lowering:
        n, c_in, size, c_out = sizes
        s = simplest(shape_of((n, c_in, size, size), (c_out, c_in, 1, 1)))
        return direct.lower(s, FLOAT, 2)

    many, few, single, full = (
        (1, 64, 80, 256),
        (1, 256, 56, 28),
        (1, 128, 64, 12),
        (32, 1024, 14, 256),
    )
    layers = many, few, single, full
    plan_for_zen4(monkeypatch, False)
    assert [lowered(*sizes).name for sizes in layers] == [
        "patch_matrix",
        "matrix",
        "matrix",
        "patch_matrix",
    ]
    assert lowered(*few).blocks.kc < 256
    plan_for_zen4(monkeypatch, True)
    assert [lowered(*sizes).name for sizes in layers] == ["matrix"] * 3 + ["patch_matrix"]
    assert (lowered(*few).blocks.kc, lowered(*many).blocks.mr) == (256, 8)
    assert lowered(*many).prefetching_tile is not None, "from beyond the second-level cache"
    assert lowered(*single).fill_halo is None, "few blocks read what pushes each other out"
    # What stays in cache is compared by costs, which are alike here.
    assert lowered(1, *full[1:]).name in ("matrix_transposed", "matrix_zones")
    # Long products ask for the next panels' pixels in the meantime, if there are blocks enough.
    long = 16, 512, 38
    assert lowered(*long, 64).prefetching_tile is asking_tile
    assert [lowered(*long, c_out).name for c_out in (40, 64)] == ["matrix", "patch_matrix"]
    assert lowered(16, 256, 38, 64).name == "matrix"


@pytest.mark.skipif(LANES < 16, reason="the sizes are those of AVX-512")
def test_few_outputs_add_their_channels_in_runs(monkeypatch: pytest.MonkeyPatch):
    """On a Zen 4: those that wait for pixels alone, and a block of them that come from memory."""

    def channels(c_in: int, size: int, c_out: int) -> int:
        s = simplest(shape_of((2, c_in, size, size), (c_out, c_in, 1, 1)))
        return matrix.lower(s, 4, 1).blocks.kc

    monkeypatch.setattr(matrix_blocks.blocking, "CACHE_BYTES", 1 << 19)
    plan_for_zen4(monkeypatch, True)
    monkeypatch.setattr(choice, "SECOND_LEVEL", 1 << 20)
    assert channels(256, 64, 4) == 8, "channels a multiple of a page apart"
    assert channels(16, 64, 1) == 8
    assert channels(256, 56, 1) == 16, "larger than the second-level cache"
    assert channels(250, 56, 1) == 20, "a list of ten channels"
    assert channels(256, 20, 1) == 256, "which that cache holds"
    assert channels(256, 64, 5) == 256, "products of five outputs hide what waits"
    assert channels(512, 112, 8) == 32, "from memory"
    plan_for_zen4(monkeypatch, False)
    assert channels(256, 64, 1) > 16


def test_images_whose_lines_push_each_other_out_are_copied():
    def copies(channels: int, size: int, layout: Layout) -> bool:
        image = (8, size, size, channels) if layout.channels_last else (8, channels, size, size)
        s = simplest(shape_of(image, (64, channels, 3, 3), padding=1, layout=layout))
        return matrix_transposed.lower(s, 4, 1).fill_halo is not None

    assert copies(1024, 2, CHANNELS_LAST)
    assert not copies(1000, 2, CHANNELS_LAST)
    assert not copies(1024, 2, CHANNELS_FIRST)


def test_vectors_cross_cache_lines_where_they_are_as_wide_and_read_in_place(
    monkeypatch: pytest.MonkeyPatch,
):
    plan_for_zen4(monkeypatch, False)
    s = simplest(shape_of((1, 64, 56, 56), (128, 64, 1, 1)))
    assert crosses_lines(s, LANES) == (VECTOR_BYTES == 64)
    assert not crosses_lines(s._replace(converts=1), LANES)


@pytest.mark.parametrize("seed", range(40))
def test_no_order_of_sums_goes_by_the_batch(seed: int):
    """Lowerings that add in one order may: they differ in what comes through the memory."""

    def order(s: ConvShape) -> str:
        return cost.order_of_sums(cost.find_lowering(s, LANES), s, LANES)

    draw = random.Random(seed)
    for _ in range(40):
        s = random_shape(draw)
        assert len({order(simplest(s._replace(n=n))) for n in (1, 2, 9)}) == 1, s


def test_images_that_are_rows_are_counted_as_one_alone():
    """Also what comes through the memory, which goes by how far images are apart."""
    one, *more = (
        counts.image_of(simplest(shape_of((n, 65, 185), (64, 65, 2), stride=2))) for n in (1, 2, 9)
    )
    assert all(image.in_strides[0] == one.in_strides[0] == 65 * 185 for image in more)
    assert all(image.out_strides[0] == one.out_strides[0] for image in more)
    rows = simplest(shape_of((1, 65, 90, 185), (64, 65, 1, 2)))
    assert counts.image_of(rows).in_strides[0] == 65 * 90 * 185, "they lie between channels"


def test_windows_of_pixels_apart_are_maps_in_no_batch():
    """Images of them are rows, which dot products serve."""
    options = {"stride": 3, "groups": LANES, "layout": CHANNELS_LAST}
    images = [(n, 28, 16 * LANES) for n in (1, 2, 9)]
    assert "depthwise_maps" not in {chosen(x, (LANES, 16, 1), **options) for x in images}


def test_strips_of_one_channel_go_by_no_batch():
    """Short signals of a batch are rows of one plane."""
    assert len({chosen((n, 1, 250), (1, 1, 31)) for n in (1, 2, 1000)}) == 1


@pytest.mark.parametrize("seed", range(20))
def test_dot_products_go_by_no_batch(seed: int):
    """They add in another order, be the images of a batch one row, rows, or neither."""
    draw = random.Random(seed)
    for _ in range(10):
        size = tuple(draw.choice((9, 10, 28, 301)) for _ in range(draw.choice((1, 2, 3))))
        c_in, c_out = (
            draw.choice((1, 2, 4, 8, 65)) * LANES,
            draw.choice((1, 2, 4, 6, 7, 12, 20, 64)),
        )
        groups, stride = draw.choice((1, 1, 2)), draw.choice((1, 2, 3))
        weight, options = (groups * c_out, c_in, *[1] * len(size)), {"layout": CHANNELS_LAST}
        images = [(n, *size, groups * c_in) for n in (1, 2, 9)]
        names = [chosen(x, weight, stride=stride, groups=groups, **options) for x in images]
        pixels = math.prod(ceil_div(extent, stride) for extent in size)
        assert len({name == "dots" for name in names}) == 1 or pixels <= FAR_DOT_PIXELS


def test_lanes_are_no_channels_of_one_channel():
    """Be there as few lanes as in a vector of 16 bytes of float64."""
    assert "depthwise_channels" not in comparable(shape_of((1, 1, 90, 90), (1, 1, 3, 3)), 2)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_dot_products_serve_few_outputs_under_any_stride(stride: int):
    options = {"stride": stride, "layout": CHANNELS_LAST}
    assert chosen((2, 301, 8 * LANES), (1, 8 * LANES, 1), **options) == "dots"


def test_pixels_of_dot_products_are_asked_for_where_no_cache_holds_them():
    near, far = (direct.lower_as("dots", layer_of(n, 512, 4, 1), FLOAT, 1) for n in (10, 50_000))
    assert near.prefetch_distance == 0 < far.prefetch_distance


def test_the_columns_are_of_five_kinds_of_cores():
    assert all(len(cycles) == 5 and min(cycles) >= 0 for cycles in cost.COLUMNS.values())
    assert cost.COLUMNS["step"] == (1, 1, 1, 1, 1)


@pytest.mark.parametrize(
    ("vector_bytes", "zen", "halves", "column"),
    [
        (64, False, False, cost.INTEL),
        (64, True, False, cost.ZEN_5),
        (64, True, True, cost.ZEN_4),
        (32, False, False, cost.BYTES_32),
        (16, False, False, cost.BYTES_16),
    ],
)
def test_each_kind_of_core_has_its_column(
    vector_bytes: int, zen: bool, halves: bool, column: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cost, "VECTOR_BYTES", vector_bytes)
    monkeypatch.setattr(cost, "ZEN", zen)
    monkeypatch.setattr(cost, "HALVES_VECTORS", halves)
    assert cost.column() == column


@pytest.mark.parametrize("seed", range(20))
def test_costs_are_positive_and_the_least_is_taken(seed: int):
    s = simplest(random_shape(random.Random(seed)))
    costs = cost.costs(s, LANES)
    assert cost.find_lowering(s, LANES) == min(costs, key=costs.__getitem__)
    if len(costs) > 1:
        assert "dots" in costs or list(costs) == comparable(s, LANES)
        assert all(0 < cycles < float("inf") for cycles in costs.values())


def test_images_of_small_maps_are_the_columns_of_tiles():
    """Where two rows of a map fill no half of a tile, and the sums keep their order."""

    def columns(
        n: int,
        c_in: int,
        size: int,
        layout: Layout = CHANNELS_FIRST,
        kernel: int = 3,
        **options: Any,
    ) -> int:
        image = (size, size, c_in) if layout.channels_last else (c_in, size, size)
        weight, options = (LANES, c_in, kernel, kernel), {"padding": 1, **options}
        low = direct.lower(shape_of((n, *image), weight, layout=layout, **options), FLOAT, 2)
        assert low.name == "matrix_transposed"
        assert low.problem is not None
        return low.problem.output[2]

    most = TILE_ROWS // 4
    assert columns(50, 512, most) == columns(50, 512, most, CHANNELS_LAST) == 50
    assert columns(50, 512, 2 * most, stride=2) == 50
    assert columns(50, 512, most + 1) == most + 1
    assert columns(2 * most, 512, most) == most  # as many pixels as two rows have
    # Images have the order of a list of all channels, so any number of them is taken; and so it is
    # where the map itself would be copied for its padding.
    assert columns(50, 28, most) == 50
    assert columns(most + 1, 28, most) == most + 1
    if most > 1:
        assert columns(most + 1, 512, most, kernel=7, padding=3) == most + 1
    # Short signals of a batch are rows of one image.
    rows = simplest(shape_of((50, 512, most), (LANES, 512, 3), padding=1))
    low = direct.lower(rows, FLOAT, 2)
    assert low.problem is not None
    assert (rows.n, rows.output[1], low.problem.output[2]) == (1, 50, 50)


@pytest.mark.parametrize("seed", range(60))
def test_few_zones_are_no_more_than_that(seed: int):
    draw = random.Random(seed)
    kernel, dilation, size = draw.randint(1, 40), draw.randint(1, 20), draw.randint(1, 60)
    padding, stride = draw.randint(0, 300), draw.randint(1, 3)
    if size + 2 * padding > (kernel - 1) * dilation:
        options = {"padding": padding, "dilation": dilation, "stride": stride}
        s = shape_of((1, 2, size), (2, 2, kernel), **options)
        zones = len(axis_taps(s, 2))
        assert choice.has_few_zones(s) <= (zones <= choice.MOST_ZONES)
        assert choice.has_few_zones(s) or 2 * zones > choice.MOST_ZONES  # two may begin at once


def test_single_taps_are_lists_of_channels():
    """Of as many as all parts of the channels are multiples of."""
    for c_in, kc, together in [(1000, 320, 20), (2048, 512, 32), (9216, 4608, 32), (265, 265, 5)]:
        s = shape_of((1, c_in, 3000), (64, c_in, 1))
        assert channels_together(s, kc) == together
        parts = {min(kc, c_in - c0) for c0 in range(0, c_in, kc)}
        assert all(part % together == 0 for part in parts)
    assert channels_together(shape_of((1, 512, 9, 9), (64, 512, 3, 3)), 512) == 1
    panels = im2col.lower(shape_of((1, 25088, 40), (64, 25088, 1)), FLOAT, 2).blocks
    assert panels.together == 32


def test_strides_that_copy_much_for_few_outputs_read_in_place():
    """Lanes that the outputs leave over cost less than splitting rows into phases."""

    def served(outputs: int, stride: int, layout: Layout = CHANNELS_FIRST, size: int = 19) -> str:
        image = (size, size, 256) if layout.channels_last else (256, size, size)
        s = shape_of((1, *image), (outputs, 256, 3, 3), stride=stride, padding=1, layout=layout)
        return direct.lower(s, FLOAT, 2).name

    few = LANES * 3 // 2
    assert served(few, 3) == served(few, 2) == "matrix_transposed"
    assert served(few, 3, CHANNELS_LAST) == "matrix_transposed"
    # No phases: nothing is split. With vectors of 16 bytes 19 columns fill them no better than six
    # outputs do, and both take as long.
    assert served(few, 1, size=19 if VECTOR_BYTES > 16 else 40) == "matrix"
    wide = shape_of((1, 32, 112, 112), (LANES + 1, 32, 5, 5), stride=2, padding=1)
    assert direct.lower(wide, FLOAT, 2).name == "matrix"  # rows waste less than lanes


def test_pixels_are_asked_for_where_no_hardware_does(monkeypatch: pytest.MonkeyPatch):
    def distance(image: tuple[int, ...], kernel: int, layout: Layout = CHANNELS_FIRST) -> int:
        channels = image[-1] if layout.channels_last else image[1]
        s = simplest(shape_of(image, (64, channels, kernel, kernel), layout=layout))
        return matrix_transposed.lower(s, 4, 1).prefetch_distance

    assert distance((1, 64, 9, 9), 3) == 4 * 81
    assert distance((1, 9, 9, 64), 3, CHANNELS_LAST) == 0
    assert distance((1, 64, 9, 9), 1) == distance((1, 64, 9, 9), 2) == 0  # in cache, few taps
    plan_for_zen4(monkeypatch, False)
    assert distance((1, 600, 71, 71), 1) == 36 * 71 * 71
    plan_for_zen4(monkeypatch, True)
    assert distance((1, 600, 71, 71), 1) == 0 < distance((1, 600, 71, 71), 2)


def test_channels_that_share_places_are_copied_unless_they_are_few(monkeypatch: pytest.MonkeyPatch):
    plan_for_zen4(monkeypatch, False)
    for channels, copies in (2, False), (6, False), (7, True):
        s = simplest(shape_of((1, channels, 64, 64), (24, channels, 1, 1)))
        assert (matrix.lower(s, 4, 1).fill_halo is not None) == copies


@pytest.mark.skipif(LANES < 8, reason="a halo is as wide as such rows")
def test_rows_of_one_vector_are_one_long_row_where_they_waste_no_more():
    """Tiles of two vectors read each weight half as often."""
    for cols, joined in (LANES - 1, True), (LANES, True), (2 * LANES, False):
        s = shape_of((1, 64, cols, cols), (33, 64, 3, 3), padding=1)
        assert ("matrix.segment" in counts.count_matrix(s, LANES)) == joined


def test_results_go_past_the_caches_beside_little_input_on_a_zen4_alone(
    monkeypatch: pytest.MonkeyPatch,
):
    side = 1024
    while 4 * side**2 <= last_level_caches(1):
        side *= 2
    s = shape_of((1, 1, side, side), (3, 1, 3, 3), padding=1)
    for zen4 in False, True:
        monkeypatch.setattr(choice, "HALVES_VECTORS", zen4)
        assert choice.nontemporal_results(s, LANES, 1) == zen4
        assert choice.nontemporal_results(
            shape_of((1, 1, side, side), (1, 1, 3, 3), padding=1), LANES, 1
        )


def test_threads_share_the_channels_of_a_short_row():
    """Parts of it would lie between each other in memory."""

    def cut(*sizes: int) -> tuple[int, int]:
        n, c_in, pixels, c_out = sizes
        b = matrix.lower(shape_of((n, c_in, pixels), (c_out, c_in, 1)), 4, 2).blocks
        return b.col_blocks, b.oc_parts

    assert cut(1, 64, 784, 6 * TILE_ROWS) == (1, 2)
    assert cut(1, 64, 3136, 6 * TILE_ROWS)[1] == 1
    assert cut(1, 64, 784, TILE_ROWS // 2) == (2, 1), "one block, and two threads"
    assert cut(2, 64, 784, 6 * TILE_ROWS)[1] == 1, "a row for each thread"


def test_images_of_a_pointwise_batch_are_read_in_place_if_they_fill_vectors():
    def in_place(n: int, pixels: int, c_out: int) -> bool:
        s = simplest(shape_of((n, 25, pixels), (c_out, 25, 1)))
        return bool(choice.reads_signals_in_place(s, LANES))

    assert in_place(2, 10 * LANES + 1, 32)
    assert not in_place(2, LANES + 1, 32), "nearly half of the lanes"
    assert not in_place(choice.MOST_CACHED // 4 // (250 * LANES), 10 * LANES + 1, 32), "from memory"


@pytest.mark.skipif(LANES < 8, reason="so narrow tiles cut the rows in two, which threads share")
def test_threads_share_output_channels_where_rows_come_out_unequal_or_lie_close():
    def cut(s: ConvShape, transposed: bool) -> tuple[int, int]:
        b = matrix_blocks.cut(s, 4, 2, transposed, transposed)
        return b.row_blocks, b.oc_parts

    def windows(n: int) -> ConvShape:  # as wide as their map: rows are images
        return simplest(shape_of((n, 128, 102, 19), (128, 128, 3, 19)))

    assert (cut(windows(7), True), cut(windows(8), True)) == ((1, 2), (2, 1))
    small, large = (
        shape_of((1, 1, size, size), (4 * SHALLOW_ROWS, 1, 3, 3), padding=1) for size in (28, 200)
    )
    assert cut(small, False) == (1, 2)
    assert cut(large, False)[0] > 1


def test_few_register_blocks_read_far_pixels_by_parts_of_the_channels(
    monkeypatch: pytest.MonkeyPatch,
):
    """Each page once; pixels that stay in cache are read by all channels at once."""
    plan_for_zen4(monkeypatch, False)

    def lowered(channels: int, blocks: int, pixels: int) -> Lowering:
        s = shape_of((1, channels, pixels), (blocks * TILE_ROWS, channels, 1))
        return direct.lower(s, FLOAT, 2)

    far = blocking.SECOND_LEVEL // 4 // 256
    for blocks in (1, FEW_BLOCKS):
        parts = [lowered(channels, blocks, far).blocks.kc for channels in (256, 264, 265)]
        assert parts == [32, 24, 20]  # multiples of what a list has
        assert lowered(256, blocks, far).prefetching_tile is not None
        near = lowered(128, blocks, 1000)
        assert (near.name, near.blocks.kc) == ("matrix", 128)
    assert lowered(256, FEW_BLOCKS + 1, far).name == "patch_matrix"
    # A large power of two apart: so few channels at a time share places all the same.
    assert lowered(256, 1, 1 << 16).fill_halo is None


def test_masks_are_counted_as_strips_have_them():
    """Each vector for the taps under which it is cut, be the padding wider than it or not."""
    for size, kw, dilation, padding in itertools.product(
        (128, 150), (3, 31), (1, 2, 16), (0, 1, 9, 40)
    ):
        if size + 2 * padding <= (kw - 1) * dilation:
            continue
        options = {"dilation": (1, dilation), "padding": (0, padding), "groups": 64}
        s = shape_of((1, 64, 20, size), (64, 1, 3, kw), **options)
        vectors = -(-s.output[2] // LANES)
        first = np.arange(vectors)[:, None] * LANES - padding + np.arange(kw) * dilation
        cut = np.minimum((first < 0).sum(1) + (first + LANES > size).sum(1), kw)
        if ((first < 0) & (first + LANES > size)).any():
            continue
        assert depthwise_counts.masked_share(s, 3, LANES) == pytest.approx(cut.sum() / first.size)


@pytest.mark.skipif(LANES < 8, reason="such vectors have no masks")
def test_rows_of_small_planes_cost_their_products():
    def cycles(size: int, kernel: int) -> float:
        image, weight = (1, 64, size, size), (64, 1, kernel, kernel)
        s = simplest(shape_of(image, weight, padding=kernel // 2, groups=64))
        return cost.cost_of("depthwise_planes", s, LANES)

    assert cycles(LANES - 2, 3) < cycles(LANES - 2, 5) < cycles(LANES - 2, 7)
    assert cycles(LANES // 2, 7) < cycles(LANES - 2, 7)  # half a vector


def test_lines_of_large_images_are_asked_for_by_nobody():
    """Of many channels, where they lie in rows: neither the tile asks for them nor the hardware."""

    def counted(channels: int, size: int) -> bool:
        s = simplest(shape_of((1, channels, size), (16, channels, 1), stride=2))
        return "matrix_transposed.unasked" in counts.count_transposed(s, LANES)

    assert counted(256, 5000)
    assert not counted(256, 2000)  # comes soon enough
    assert not counted(64, 20000)  # so few that the hardware follows them


@pytest.mark.skipif(VECTOR_BYTES == 16, reason="vectors without masks")
def test_filters_taller_than_a_strip_take_the_lanes_that_are_full(monkeypatch: pytest.MonkeyPatch):
    plan_for_zen4(monkeypatch, False)

    def served(channels: int, size: int, kernel: int) -> str:
        s = shape_of(
            (1, channels, size, size),
            (channels, 1, kernel, kernel),
            padding=kernel // 2,
            groups=channels,
        )
        return direct.lower(s, FLOAT, 2).name

    short = LANES * 3 // 4
    assert served(4 * LANES, short, 9) == "depthwise_maps"
    assert served(4 * LANES, short, 7) == "depthwise_planes"
    assert served(LANES * 9 // 8, LANES, 9) == "depthwise_planes"


@pytest.mark.skipif(VECTOR_BYTES == 16, reason="vectors without masks")
def test_strips_past_the_caches_store_whole_lines(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(choice, "last_level_caches", lambda threads: 0)
    past_caches = 0
    for width in range(64, 1024, 32):
        s = shape_of((1, 2, 8, width), (2, 1, 3, 3), padding=1, groups=2)
        low = depthwise_planes.lower(s, 4, 2)
        size = depthwise_planes._STRIP_SIZE
        firsts = low.table[1 : 1 + size * low.table[0] : size]
        begin_at_lines = (firsts % (CACHE_LINE // 4) == 0).all()
        assert not low.nontemporal or begin_at_lines
        past_caches += low.nontemporal
    assert past_caches or VECTOR_BYTES < CACHE_LINE


@pytest.mark.skipif(VECTOR_BYTES == 16, reason="vectors without masks")
def test_rows_of_large_planes_are_few():
    """A strip that goes down them reads few pages."""
    for size, whole in ((32, True), (2000, False)):
        s = shape_of((1, 4, size, size), (4, 1, 3, 3), padding=1, groups=4)
        rows = depthwise_planes.lower(s, 4, 1).blocks.rows
        assert (rows == size) == whole
        assert whole or rows * size * 4 <= 2 * depthwise_planes.BLOCK_BYTES


@pytest.mark.parametrize("seed", range(20))
def test_panels_cover_the_pixels_once(seed: int):
    s = random_shape(random.Random(seed))
    low = im2col.lower(s, FLOAT, 2)
    b, zones = low.blocks, low.table[4 * low.blocks.together :]
    widths = [
        locate_panel(zones, b.zones, b.zone_panels, i, b.nr, s).width for i in range(b.all_panels)
    ]
    assert sum(widths) == s.n * s.pixels
    assert max(widths) <= b.nr
    assert b.pixel_blocks * b.panels >= b.all_panels > (b.pixel_blocks - 1) * b.panels
    assert b.tasks == s.groups * b.pixel_blocks * b.oc_parts


@pytest.mark.parametrize("seed", range(40))
def test_a_lowering_is_a_function_of_the_problem(seed: int):
    s = random_shape(random.Random(seed))
    first, again = direct.lower(s, FLOAT, 2), direct.lower(s, FLOAT, 2)
    assert np.array_equal(first.table, again.table)
    assert first._replace(table=None) == again._replace(table=None)


def test_what_a_task_reads_again_fits_the_cache(monkeypatch: pytest.MonkeyPatch):
    """A halo tile of all channels, or of as many as there is room for."""
    s = shape_of((1, 512, 40, 40), (64, 512, 3, 3), stride=2, padding=3)
    for cache_bytes in (1 << 14, 1 << 18, 1 << 22):
        monkeypatch.setattr(blocking, "CACHE_BYTES", cache_bytes)
        b = matrix_blocks.cut(s, 4, 2, transposed=False, in_place=False)
        layout = matrix_blocks.halo_layout(s, b.rows, b.cols, 4)
        assert b.kc == 1 or b.kc * layout.channel * 4 <= 2 * cache_bytes
        assert b.kc < s.c_in or cache_bytes == 1 << 22


def test_tasks_for_all_threads():
    s = shape_of((1, 64, 56, 56), (64, 64, 3, 3), padding=1)
    for threads in (1, 2, 4, 8):
        assert direct.lower(s, FLOAT, threads).blocks.tasks >= threads


def test_weights_are_packed_by_the_task_that_needs_them_alone():
    deep = shape_of((1, 512, 7, 7), (512, 512, 3, 3), padding=1)
    wide = shape_of((8, 64, 56, 56), (64, 64, 3, 3), padding=1)
    assert direct.lower(deep, FLOAT, 2).packing.in_task
    assert direct.lower(deep, FLOAT, 2).packing.panel_size >= TILE_VECTORS * LANES
    assert not direct.lower(wide, FLOAT, 2).packing.in_task


def test_filters_read_weights_as_they_are():
    assert direct.lower(shape_of((1, 1, 64, 64), (1, 1, 3, 3)), FLOAT, 1).packing is None


def test_columns_are_cut_into_equal_parts_of_whole_units():
    signal = shape_of((1, 1, 10_002), (1, 1, 3))
    assert cut_evenly(signal, 4_000, 32, 1) == 3_360  # three parts of 3,334, in units of 32
    assert cut_evenly(signal, 4_000, 32, 2) == 2_528  # four: as many for each thread
    long = shape_of((1, 1, 2_306), (1, 1, 3))
    assert cut_evenly(long, 256, 32, 2) == 192  # of 72 units 36 for each thread, not 40 and 32
    image = shape_of((1, 1, 34, 34), (1, 1, 3, 3))
    assert cut_evenly(image, 1_024, 32, 2) == 32


def test_rows_are_cut_so_that_all_threads_end_together():
    s = shape_of((1, 64, 58, 58), (64, 64, 3, 3))  # 56 rows
    assert even_blocks(s, 3, planes=1, threads=2, oc_blocks=1) == 4
    assert even_blocks(s, 1, planes=2, threads=2, oc_blocks=1) == 1


def test_channels_are_parted_only_where_that_copies_little():
    """Three blocks of seven rows are six tasks of halves of the channels, or four blocks are."""
    for outputs, blocks in (16, 4), (64, 3):
        s = simplest(shape_of((7, 16, 112), (outputs, 16, 3), dilation=3))
        assert s.output[1] == 7
        assert even_blocks(s, 3, planes=1, threads=2, oc_blocks=2) == blocks


def test_output_channels_are_parted_where_blocks_are_few():
    assert [channel_parts(blocks, 4) for blocks in (1, 2, 3, 4, 7, 8)] == [4, 2, 3, 1, 2, 1]


@pytest.mark.parametrize(
    ("cols", "most"), [(1, 1), (7, 4), (LANES, 2), (5 * LANES + 1, 2), (112, 4)]
)
def test_strips_cover_a_row(cols: int, most: int):
    s = shape_of((3, cols + 2, cols + 2), (3, 1, 3, 3), groups=3)
    strips = depthwise_planes.cut_strips(s, LANES, most)
    assert [first for first, *_ in strips] == list(np.cumsum([0] + [w for _, w, *_ in strips[:-1]]))
    assert sum(width for _, width, *_ in strips) == cols
    assert all(vectors <= most and width <= vectors * LANES for _, width, vectors, _ in strips)


def test_register_block_fits_the_registers():
    assert TILE_ROWS * TILE_VECTORS + TILE_VECTORS + 1 <= blocking.REGISTERS


@pytest.mark.parametrize(("a", "b"), [(0, 3), (1, 3), (3, 3), (4, 3), (7, 1)])
def test_integers(a: int, b: int):
    assert ceil_div(a, b) == len(range(0, a, b))
    assert round_up(a, b) == next(m for m in range(a, a + b) if m % b == 0)


def test_pixels_of_a_task_stay_in_cache_beside_the_weights(monkeypatch: pytest.MonkeyPatch):
    """A page apart they are read in place then, and else copied; a stride leaves pages out."""
    monkeypatch.setattr(blocking, "CACHE_BYTES", 1 << 20)
    for images, c_out, stride, bound in (
        (1, 256, 1, 256),
        (9, 256, 1, 256),
        (1, 257, 1, None),
        (1, 256, 2, None),
    ):
        image, weight = (images, 31, 31, 1024), (c_out, 1024, 1, 1)
        s = simplest(shape_of(image, weight, stride, layout=CHANNELS_LAST))
        assert cached_pixels(s, LANES) == bound
        low = direct.lower_as("matrix_transposed", s, FLOAT, 1)
        assert (low.fill_halo is None) == (bound is not None)
        if bound is not None:
            assert bound // 2 < low.blocks.rows * low.blocks.cols <= bound


def test_every_problem_has_a_cost():
    """Of axes without elements too, far padding, and phases of gradients, whose padding is cut."""
    rng = random.Random(0)
    for _ in range(400):
        rank, groups = rng.randint(1, 3), rng.choice((1, 1, 2, 3, 64))
        channels, outputs = rng.choice((1, 1, 2, 16, 64)), rng.choice((1, 1, 2, 5, 70))
        size, kernel = (
            [rng.choice((1, 2, 3, 5, 8, 16, 33)) for _ in range(rank)] for _ in range(2)
        )
        size[0] = rng.choice((0, 1, 100, 224))
        last = rng.choice((False, True))
        image = (*size, groups * channels) if last else (groups * channels, *size)
        stride, dilation = (tuple(rng.choice((1, 1, 2, 7)) for _ in range(rank)) for _ in range(2))
        padding = tuple((rng.choice((0, 1, 40)), rng.choice((0, 2, 40))) for _ in range(rank))
        options = stride, padding, dilation, groups, Layout(last, last)
        weight = (groups * outputs, channels, *kernel)
        try:
            whole = shape_of((rng.choice((1, 2, 64)), *image), weight, *options)
        except ValueError:
            continue
        for s in (whole, *(phase.shape for phase in find_phases(whole))):
            if s.flops:
                cycles = cost.costs(simplest(s), 16)
                assert cycles
                assert all(0 <= each < math.inf for each in cycles.values())


def test_depthwise_layers_with_the_channels_last_take_these_together():
    s = shape_of((64, 7, 7, 512), (512, 1, 7, 7), layout=CHANNELS_LAST, groups=512)
    assert comparable(simplest(s), LANES) == ["depthwise_channels"]


@pytest.mark.parametrize(
    ("channels", "kernel", "in_place"),
    [(512, 3, False), (128, 3, True), (96, 3, True), (512, 1, True), (512, 7, False)],
)
def test_pixels_that_crowd_the_first_level_cache_are_copied(
    monkeypatch: pytest.MonkeyPatch, channels: int, kernel: int, in_place: bool
):
    """Pixels of 512 channels lie 2 KiB apart: 32 KiB hold 16 of them."""
    monkeypatch.setattr(tap_lists, "HOST_FIRST_LEVEL", 32 << 10)
    image, weight = (1, 14, 14, channels), (32, channels, kernel, kernel)
    s = shape_of(image, weight, padding=kernel // 2, layout=CHANNELS_LAST)
    assert choice.crowds_cache(simplest(s), LANES) != in_place
    assert not choice.crowds_cache(simplest(shape_of((1, channels, 14, 14), weight)), LANES)


@pytest.mark.skipif(LANES < 8, reason="by vectors of 16 bytes they are compared among themselves")
def test_outputs_of_a_channel_are_compared_with_products():
    """Each is copied as often as it has outputs, and under dilations tiles are wide."""
    options = {"layout": CHANNELS_LAST, "groups": 32, "stride": 3, "padding": 24, "dilation": 12}
    s = simplest(shape_of((1, 81, 29, 32), (128, 1, 5, 5), **options))
    cycles = cost.costs(s, LANES)
    assert {"depthwise_interleaved", "matrix", "matrix_transposed"} <= cycles.keys()
    assert min(cycles, key=cycles.__getitem__) != "depthwise_interleaved"


@pytest.mark.parametrize("layout", [CHANNELS_FIRST, CHANNELS_LAST])
def test_patches_whose_channels_would_be_transposed_have_no_halo_tile(layout: Layout):
    last = layout == CHANNELS_LAST
    image = (8, 28, 28, 64) if last else (8, 64, 28, 28)
    names = comparable(simplest(shape_of(image, (4, 64, 4, 4), stride=4, layout=layout)), LANES)
    assert "patch_matrix" in names
    assert ("matrix" in names) != last


def test_phases_of_depthwise_gradients_are_bands():
    s = shape_of((1, 64, 57, 57), (64, 1, 3, 3), stride=2, groups=64)
    phases = [simplest(phase.shape) for phase in find_phases(s) if phase.shape.taps == 4]
    assert [cost.special_lowering(phase, LANES) for phase in phases] == ["filter_rows"]
