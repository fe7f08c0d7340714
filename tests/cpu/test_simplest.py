"""The simplest form of a problem: the same sums over the same memory, whatever its axes are named.

The oracle is the definition itself, as sets of addresses: which weight meets which element of the
input in which element of the output.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from numbaconv.dispatch.gradients import find_parts
from numbaconv.problem.layout import CHANNELS_FIRST, CHANNELS_LAST, Layout
from numbaconv.problem.plan import find_input_plan, find_weight_plan
from numbaconv.problem.shape import ConvShape
from numbaconv.problem.simplest import (
    SHORT_ROW,
    simplest,
    with_fewest_axes,
    with_images_innermost,
)
from tests.cpu.shapes import shape_of

Product = tuple[int, int, int]


def products(s: ConvShape) -> Iterator[Product]:
    """Addresses of output, weight and input of each product of the definition; padding aside."""
    taps = list(itertools.product(*map(range, s.kernel)))
    pixels = list(itertools.product(*map(range, s.output)))
    for n, g, oc in itertools.product(range(s.n), range(s.groups), range(s.c_out)):
        channel = g * s.c_out + oc
        for o in pixels:
            out = n * s.out_strides[0] + channel * s.out_strides[1]
            out += sum(i * step for i, step in zip(o, s.out_strides[2:], strict=True))
            for ic, (t, tap) in itertools.product(range(s.c_in), enumerate(taps)):
                options = zip(o, tap, s.stride, s.dilation, s.padding, strict=True)
                read = [i * step + k * d - p for i, k, step, d, p in options]
                if all(0 <= i < size for i, size in zip(read, s.size, strict=True)):
                    at = n * s.in_strides[0] + (g * s.c_in + ic) * s.in_strides[1]
                    at += sum(i * step for i, step in zip(read, s.in_strides[2:], strict=True))
                    yield out, (channel * s.c_in + ic) * len(taps) + t, at


def random_shape(draw: random.Random) -> ConvShape:
    """Small problems, most of which can be simplified in some way."""
    while True:
        rank = draw.choice((1, 2, 3))
        size = [draw.choice((1, 1, 2, 3, 4, 6)) for _ in range(rank)]
        kernel = [draw.choice((1, 1, n, min(n, 3))) for n in size]
        stride = [draw.choice((1, 1, 2, k)) for k in kernel]
        dilation = [draw.choice((1, 1, 2)) for _ in size]
        padding = [(draw.choice((0, 0, 1)), draw.choice((0, 0, 1))) for _ in size]
        groups, c_in, c_out = draw.choice((1, 1, 2)), draw.choice((1, 2)), draw.choice((1, 2))
        layout = draw.choice((CHANNELS_FIRST, CHANNELS_LAST))
        channels = groups * c_in
        image = (*size, channels) if layout.channels_last else (channels, *size)
        weight = groups * c_out, c_in, *kernel
        options: Any = stride, padding, dilation, groups, layout
        try:
            return shape_of((draw.choice((1, 1, 2, 3)), *image), weight, *options)
        except ValueError:  # a kernel larger than the padded image
            continue


@pytest.mark.parametrize("seed", range(400))
def test_the_products_are_the_same(seed: int):
    s = random_shape(random.Random(seed))
    form = simplest(s)
    assert sorted(products(form)) == sorted(products(s))
    assert form.n * form.in_strides[0] == s.n * s.in_strides[0]  # what may be read at all
    assert simplest(form) == form
    fewest = with_fewest_axes(s)
    assert sorted(products(fewest)) == sorted(products(s))
    assert (fewest.n, fewest.c_in, fewest.in_strides[:2]) == (s.n, s.c_in, s.in_strides[:2])
    assert with_fewest_axes(fewest) == fewest
    if fewest.size[0] == fewest.kernel[0] == fewest.output[0] == 1 and not fewest.padding[0]:
        images = with_images_innermost(fewest)
        assert sorted(products(images)) == sorted(products(s))
        assert images.n == 1
        assert images.output[2] == s.n or (s.n == images.kernel[2] == images.stride[2] == 1)


def with_axis(s: ConvShape, place: int) -> ConvShape:
    """A problem of two axes with one of extent one put in at a place."""
    names = "size", "kernel", "stride", "dilation", "padding", "output"
    fields = {}
    for name in names:
        axes = list(getattr(s, name)[1:])
        axes.insert(place, 0 if name == "padding" else 1)
        fields[name] = tuple(axes)
    steps = {}
    for name in ("in_strides", "out_strides"):
        axes = list(getattr(s, name)[3:])
        axes.insert(place, 7)  # a step that is never taken
        steps[name] = (*getattr(s, name)[:2], *axes)
    return s._replace(**fields, **steps)


@pytest.mark.parametrize("seed", range(60))
def test_an_axis_of_extent_one_makes_no_difference(seed: int):
    draw = random.Random(seed)
    s = random_shape(draw)
    while s.size[0] != 1 or s.kernel[0] != 1 or s.output[0] != 1 or s.padding[0] != 0:
        s = random_shape(draw)
    assert len({simplest(with_axis(s, place)) for place in range(3)}) == 1


@pytest.mark.parametrize("layout", [CHANNELS_FIRST, CHANNELS_LAST])
@pytest.mark.parametrize(
    ("image", "kernel", "padding"),
    [((1000,), (5,), (2,)), ((300,), (1,), (0,)), ((64,), (9,), (0,))],
)
def test_an_image_one_pixel_wide_is_a_signal(
    layout: Layout, image: tuple[int, ...], kernel: tuple[int, ...], padding: tuple[int, ...]
):
    def form(size: tuple[int, ...], taps: tuple[int, ...], pads: tuple[int, ...]) -> ConvShape:
        channels = (*size, 16) if layout.channels_last else (16, *size)
        return simplest(shape_of((2, *channels), (8, 16, *taps), 1, pads, layout=layout))

    signal = form(image, kernel, padding)
    one, none = (1,), (0,)
    assert form(image + one, kernel + one, padding + none) == signal
    assert form(one + image, one + kernel, none + padding) == signal
    assert form(image + one + one, kernel + one + one, padding + none + none) == signal


@pytest.mark.parametrize("groups", [1, 16])
def test_gradients_of_an_image_one_pixel_wide_are_those_of_a_signal(groups: int):
    """With the axis as it is they took up to 150 times as long."""
    rng = np.random.default_rng(1)
    w = rng.standard_normal((16, 16 // groups, 5)).astype(np.float32)
    x, y = rng.standard_normal((2, 16, 300)), rng.standard_normal((2, 16, 150))
    options = {"stride": 2, "padding": 2, "dilation": 1, "groups": groups}
    of_input = find_input_plan(1, x.shape, w, y, **options)
    of_weight = find_weight_plan(1, x, w.shape, y, **options)
    for place in (2, 3):
        images = [np.expand_dims(array, place) for array in (x, w, y)]
        names = ("stride", "padding", "dilation")
        both = {name: [options[name]] * 2 for name in names} | {"groups": groups}
        for name, alone in zip(names, (1, 0, 1), strict=True):
            both[name][place - 2] = alone
        image, kernel, result = images
        planned = find_input_plan(2, image.shape, kernel, result, **both)
        assert find_parts(planned) == find_parts(of_input)
        planned = find_weight_plan(2, image, kernel.shape, result, **both)
        assert planned.simplest == of_weight.simplest


@pytest.mark.parametrize("n", [1, 3])
def test_an_only_channel_is_neither_first_nor_last(n: int):
    first = simplest(shape_of((n, 1, 40, 50), (1, 1, 5, 3), padding=1))
    last = simplest(shape_of((n, 40, 50, 1), (1, 1, 5, 3), padding=1, layout=CHANNELS_LAST))
    assert first == last
    # Several outputs of it are, and only the output says where.
    several = simplest(shape_of((n, 40, 50, 1), (4, 1, 5, 3), padding=1, layout=CHANNELS_LAST))
    assert several.in_strides == first.in_strides
    assert several.out_strides[1] == 1


def test_a_window_that_covers_its_map_is_a_fully_connected_layer():
    layer = simplest(shape_of((64, 300, 1, 1), (40, 300, 1, 1)))
    assert simplest(shape_of((64, 12, 5, 5), (40, 12, 5, 5))) == layer
    assert simplest(shape_of((64, 300), (40, 300, 1), layout=CHANNELS_LAST)) == layer  # a signal
    assert (layer.n, layer.output) == (1, (1, 1, 64))


def test_pixels_of_a_pointwise_layer_are_one_row():
    s = simplest(shape_of((2, 8, 5, 6, 7), (3, 8, 1, 1, 1)))
    assert (s.n, s.size) == (1, (1, 2, 210))  # short: the images are its rows
    long = simplest(shape_of((2, 8, 20, 30), (3, 8, 1, 1)))
    assert (long.n, long.size) == (2, (1, 1, 600))
    assert long.size[2] > SHORT_ROW
    last = simplest(shape_of((2, 20, 30, 8), (3, 8, 1, 1), layout=CHANNELS_LAST))
    assert (last.n, last.size) == (1, (1, 1, 1200))


def test_rows_that_a_stride_leaves_out_are_steps():
    s = simplest(shape_of((1, 8, 9, 10), (3, 8, 1, 1), (4, 2)))
    assert (s.size, s.stride, s.in_strides[3]) == ((1, 3, 10), (1, 1, 2), 40)


def test_padding_that_is_not_zeros_keeps_its_axes():
    plain, reflected = (
        simplest(shape_of((1, 2, 6, 3), (4, 2, 2, 3), 1, ((1, 0), (0, 0)), mode=mode))
        for mode in ("zeros", "reflect")
    )
    assert plain.size == (1, 1, 18)
    assert reflected.size == (1, 6, 3)
