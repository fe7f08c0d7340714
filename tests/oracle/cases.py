"""Named convolution problems, shared by every backend.

Each is one change from the one before it or from the plain one of its section. Sizes are odd or
prime, so that no vector, register block or cache block divides them, and small enough for the
oracle (`test_reference.py` keeps every case under `MAX_FLOPS`).
"""

from __future__ import annotations

import math
import zlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.oracle import reference

MAX_FLOPS = 2_000_000

Array = NDArray[Any]


class Case(NamedTuple):
    """One problem: the shapes as they are passed, and the options."""

    name: str
    input: tuple[int, ...]
    weight: tuple[int, ...]
    kwargs: dict[str, Any]
    bias: bool = False

    def __str__(self) -> str:
        return self.name

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def channels_last(self) -> bool:
        return self.kwargs.get("data_format") == "channels_last"

    @property
    def output(self) -> tuple[int, ...]:
        """The result's shape."""
        rank = len(self.weight) - 2
        split = (lambda s: s[-1 - rank : -1]) if self.channels_last else (lambda s: s[-rank:])
        options = {k: self.kwargs[k] for k in ("stride", "padding", "dilation") if k in self.kwargs}
        axes = reference.axes_of(split(self.input), self.weight[2:], **options)
        batch = self.input[: len(self.input) - rank - 1]
        sizes = tuple(axis.out for axis in axes)
        c_out = self.weight[:1]
        return batch + (sizes + c_out if self.channels_last else c_out + sizes)

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * math.prod(self.output) * math.prod(self.weight[1:])


def has_gradient(case: Case) -> bool:
    """Gradients are of zero padding and channels first."""
    return not {"padding_mode", "data_format"} & case.kwargs.keys()


def gradient_case(case: Case) -> Case:
    """What the transposed convolution of a case takes: a gradient of the output, and its bias."""
    channels = case.input[-len(case.weight) + 1]
    return case._replace(name=f"{case.name}/back", input=case.output, weight=(channels,))


def transposed_options(case: Case) -> dict[str, Any] | None:
    """Options under which a transposed convolution brings the case's output to its input's size."""
    rank = len(case.weight) - 2
    options = {k: v for k, v in case.kwargs.items() if k != "groups"}
    axes = reference.axes_of(case.input[-rank:], case.weight[2:], **options)
    more = [
        axis.size - ((axis.out - 1) * axis.stride + axis.extent - axis.lo - axis.hi)
        for axis in axes
    ]
    if 0 in case.input[1:] or any(
        m >= max(a.stride, a.dilation) for m, a in zip(more, axes, strict=True)
    ):
        return None
    return {
        "stride": tuple(axis.stride for axis in axes),
        "padding": tuple((axis.lo, axis.hi) for axis in axes),
        "output_padding": tuple(more),
        "groups": case.kwargs.get("groups", 1),
        "dilation": tuple(axis.dilation for axis in axes),
    }


def problem(
    name: str, input: tuple[int, ...], weight: tuple[int, ...], *, bias: bool = False, **kwargs: Any
) -> Case:
    """Write a `Case` as one writes the call."""
    return Case(name, input, weight, kwargs, bias)


LAST: dict[str, Any] = {"data_format": "channels_last"}

MODE_PAIRS = (("zeros", "circular"), ("reflect", "zeros"), ("symmetric", "replicate"))
PADDED_LAYERS: tuple[Case, ...] = (
    problem("", (1, 5, 8, 13), (7, 5, 3, 3), bias=True),
    problem("_depthwise_last", (1, 6, 7, 11), (11, 1, 3, 3), groups=11, **LAST),
    problem("_one_channel", (1, 1, 7, 29), (1, 1, 5, 3)),
    problem("_depthwise", (1, 5, 8, 13), (5, 1, 3, 3), groups=5),
    problem("_photograph", (1, 6, 7, 3), (3, 1, 3, 3), groups=3, **LAST),
    problem("_channels", (1, 32, 4, 5), (32, 32, 3, 3), stride=(1, 2)),
)


def by_axis(modes: tuple[str, ...], layer: Case) -> Case:
    """A layer whose rows and columns are padded by different modes, some longer than itself."""
    padding = {"padding": ((3, 9), (7, 2)), "padding_mode": modes}
    return layer._replace(name="_".join(modes) + layer.name, kwargs=layer.kwargs | padding)


# Every kind of layer under every pair; `CASES` have some of them.
BY_AXIS = tuple(by_axis(modes, layer) for modes in MODE_PAIRS for layer in PADDED_LAYERS)

CASES: tuple[Case, ...] = (
    # The worked example, and problems with a single output or a single product.
    problem("worked_example", (1, 1, 4, 4), (1, 1, 3, 3)),
    problem("worked_example_padded", (1, 1, 4, 4), (1, 1, 3, 3), padding=1),
    problem("one_product", (1, 1, 1, 1), (1, 1, 1, 1)),
    problem("one_output", (1, 3, 3, 3), (5, 3, 3, 3)),
    problem("one_output_of_padding", (1, 2, 1, 1), (3, 2, 3, 3), padding=1),
    problem("kernel_is_input", (2, 3, 5, 7), (11, 3, 5, 7), bias=True),
    # A plain layer, then one change at a time.
    problem("plain", (1, 5, 27, 37), (7, 5, 3, 3)),
    problem("bias", (1, 5, 27, 37), (7, 5, 3, 3), bias=True),
    problem("batch_2", (2, 5, 13, 17), (7, 5, 3, 3)),
    problem("batch_5", (5, 3, 7, 11), (7, 3, 3, 3), bias=True),
    problem("batch_17_small_maps", (17, 5, 5, 5), (3, 5, 3, 3), padding=1),
    problem("unbatched", (5, 27, 37), (7, 5, 3, 3)),
    problem("unbatched_bias", (5, 13, 17), (7, 5, 3, 3), bias=True, padding=1),
    problem("channels_23_to_19", (1, 23, 11, 13), (19, 23, 3, 3)),
    problem("channels_23_to_19_padded", (1, 23, 11, 13), (19, 23, 3, 3), padding=1),
    problem("channels_1_to_19", (1, 1, 27, 37), (19, 1, 3, 3)),
    problem("channels_23_to_1", (1, 23, 27, 37), (1, 23, 3, 3)),
    problem("channels_67_to_3", (1, 67, 11, 13), (3, 67, 3, 3), padding=1),
    problem("channels_3_to_67", (1, 3, 11, 13), (67, 3, 3, 3), padding=1),
    problem("channels_2_to_45_rows_of_11", (1, 2, 31, 11), (45, 2, 3, 3), padding=1),
    problem("channels_2_to_45_rows_of_7", (1, 2, 29, 7), (45, 2, 3, 3), padding=1, bias=True),
    problem("channels_1_to_45_tall", (1, 1, 211, 9), (45, 1, 3, 3), padding=1),
    problem("channels_301_deep", (1, 301, 5, 7), (5, 301, 3, 3)),
    problem("channels_1201_deep", (1, 1201, 3, 5), (2, 1201, 3, 3)),
    problem("channels_2_to_515", (1, 2, 3, 5), (515, 2, 3, 3), padding=1, bias=True),
    problem("to_one_vector", (2, 6, 14, 14), (16, 6, 5, 5), bias=True),
    problem("rows_of_one_vector_and_some", (3, 1, 11, 28), (32, 1, 3, 3), padding=1, bias=True),
    problem("rows_of_three_tiles", (2, 3, 9, 83), (20, 3, 3, 3), padding=1, bias=True),
    problem("first_layer", (1, 3, 31, 29), (16, 3, 7, 7), stride=2, padding=3),
    problem("kernel_2x2", (1, 5, 27, 37), (7, 5, 2, 2)),
    problem("kernel_5x3", (1, 5, 19, 23), (7, 5, 5, 3)),
    problem("kernel_3x5", (1, 5, 19, 23), (7, 5, 3, 5)),
    problem("kernel_7x7", (1, 3, 17, 19), (5, 3, 7, 7)),
    problem("kernel_1x7", (1, 5, 27, 37), (7, 5, 1, 7)),
    problem("kernel_7x1", (1, 5, 27, 37), (7, 5, 7, 1)),
    problem("kernel_1x37_row", (1, 2, 27, 37), (3, 2, 1, 37)),
    problem("kernel_27x1_column", (1, 2, 27, 37), (3, 2, 27, 1)),
    problem("tall", (1, 3, 211, 3), (5, 3, 3, 3), padding=1),
    problem("wide", (1, 3, 3, 211), (5, 3, 3, 3), padding=1),
    problem("tall_one_column", (1, 3, 131, 1), (5, 3, 3, 1)),
    problem("wide_one_row", (1, 3, 1, 131), (5, 3, 1, 3)),
    problem("many_pixels", (1, 1, 97, 113), (2, 1, 3, 3), padding=1),
    # Stride.
    problem("stride_2", (1, 5, 27, 37), (7, 5, 3, 3), stride=2),
    problem("stride_2_padded", (1, 5, 27, 37), (7, 5, 3, 3), stride=2, padding=1),
    problem("stride_3", (1, 5, 27, 37), (7, 5, 3, 3), stride=3),
    problem("stride_2x1", (1, 5, 27, 37), (7, 5, 3, 3), stride=(2, 1)),
    problem("stride_1x2", (1, 5, 27, 37), (7, 5, 3, 3), stride=(1, 2)),
    problem("stride_3x2", (1, 5, 27, 37), (7, 5, 3, 3), stride=(3, 2), padding=(1, 2)),
    problem("stride_3x1_dilated", (1, 5, 27, 19), (7, 5, 3, 3), stride=(3, 1), dilation=(2, 1)),
    problem("stride_2x1_narrow", (1, 32, 9, 5), (5, 32, 3, 3), stride=(2, 1), padding=1),
    problem("stride_2_patches_wide", (1, 3, 6, 4200), (5, 3, 2, 2), stride=2),
    problem("stride_4_patches", (2, 3, 29, 53), (20, 3, 4, 4), stride=4),
    problem("stride_4_reach_1", (1, 3, 25, 31), (16, 3, 5, 7), stride=4, padding=3, bias=True),
    # Adjoints of these: phases that are channels, all in one run, then in two.
    problem("stride_20_patches", (2, 3, 10, 80), (9, 3, 5, 20), stride=(5, 20), bias=True),
    problem("stride_17_padded", (1, 2, 9, 150), (5, 2, 3, 40), stride=(2, 17), padding=(1, 9)),
    problem("stride_over_kernel", (1, 5, 27, 37), (7, 5, 2, 2), stride=5),
    problem("stride_over_input", (1, 5, 27, 37), (7, 5, 3, 3), stride=41),
    problem("stride_2_even_size", (1, 5, 26, 38), (7, 5, 3, 3), stride=2, padding=1),
    problem("stride_2_channels_23_to_19", (1, 23, 13, 17), (19, 23, 3, 3), stride=2, padding=1),
    # Dilation.
    problem("dilation_2", (1, 5, 27, 37), (7, 5, 3, 3), dilation=2),
    problem("dilation_2_padded", (1, 5, 27, 37), (7, 5, 3, 3), dilation=2, padding=2),
    problem("dilation_12", (1, 5, 27, 37), (7, 5, 3, 3), dilation=12, padding=12),
    problem(
        "dilation_6_slices_of_padding",
        (2, 301, 3, 4),
        (3, 301, 5, 5),
        dilation=6,
        padding=12,
        bias=True,
    ),
    problem("dilation_1x3", (1, 5, 27, 37), (7, 5, 3, 3), dilation=(1, 3)),
    problem("dilation_3x1", (1, 5, 27, 37), (7, 5, 3, 3), dilation=(3, 1)),
    problem("dilation_2_stride_2", (1, 5, 27, 37), (7, 5, 3, 3), dilation=2, stride=2),
    problem("dilation_4_stride_3", (1, 5, 27, 37), (7, 5, 3, 3), dilation=4, stride=3, padding=3),
    problem("dilation_2_stride_3", (1, 5, 27, 37), (7, 5, 3, 3), dilation=2, stride=3, padding=2),
    problem("dilation_of_one_tap", (1, 5, 27, 37), (7, 5, 1, 1), dilation=50),
    # Adjoints of it: phases of a single tap that read what lies a row or column further on.
    problem(
        "dilation_4_stride_3_on_48",
        (1, 5, 27, 48),
        (7, 5, 3, 3),
        dilation=4,
        stride=3,
        padding=3,
    ),
    # Zones: pieces of a zone, rows in pairs, windows that hold nothing but padding, more channels
    # than are added at a time, planes that are shared out by output channels and by rows.
    problem("zones", (1, 33, 9, 23), (41, 33, 1, 2), dilation=7, padding=(1, 5), bias=True),
    problem("zones_3x2", (1, 33, 9, 9), (41, 33, 3, 2), dilation=(4, 3), padding=((4, 4), (2, 1))),
    problem(
        "zones_stride_2x1", (1, 33, 13, 9), (41, 33, 3, 3), stride=(2, 1), dilation=3, padding=3
    ),
    problem("zones_groups", (2, 66, 5, 7), (82, 33, 1, 3), groups=2, dilation=4, padding=(0, 5)),
    problem("zones_of_padding", (1, 32, 3, 4), (32, 32, 2, 2), dilation=5, padding=8, bias=True),
    problem("zones_last", (1, 7, 9, 33), (41, 33, 2, 3), dilation=3, padding=3, **LAST),
    problem("zones_81_taps", (1, 33, 9), (33, 33, 81), dilation=3, padding=120, bias=True),
    problem("zones_one_block", (1, 33, 9, 11), (32, 33, 3, 3), dilation=5, padding=5, bias=True),
    problem(
        "zones_517_deep", (2, 517, 2, 5), (32, 517, 1, 2), dilation=3, padding=(0, 1), bias=True
    ),
    problem("zones_1d", (1, 34, 31), (32, 34, 3), dilation=11, padding=7),
    problem("zones_3d", (1, 32, 3, 4, 9), (32, 32, 2, 1, 2), dilation=(2, 1, 4), padding=(1, 0, 3)),
    # Pointwise.
    problem("pointwise", (1, 23, 13, 17), (19, 23, 1, 1)),
    problem("pointwise_batch", (3, 23, 7, 7), (19, 23, 1, 1), bias=True),
    problem("pointwise_batch_of_13x13", (3, 23, 13, 13), (19, 23, 1, 1), bias=True),
    problem("pointwise_stride_2", (1, 23, 13, 17), (19, 23, 1, 1), stride=2),
    problem("pointwise_padded", (1, 23, 11, 13), (19, 23, 1, 1), padding=1, bias=True),
    problem("pointwise_one_pixel", (3, 67, 1, 1), (41, 67, 1, 1), bias=True),
    problem("fully_connected", (1, 131, 1, 1), (38, 131, 1, 1), bias=True),
    problem("fully_connected_groups", (3, 68, 1, 1), (14, 34, 1, 1), groups=2),
    problem("fully_connected_maps", (9, 7, 3, 5), (37, 7, 3, 5), bias=True),
    problem("covered_groups", (5, 12, 4, 5), (12, 1, 4, 5), groups=12, bias=True),
    problem("covered_rows", (1, 3, 17, 5), (7, 3, 3, 5), stride=2, padding=(1, 0)),
    problem(
        "covered_rows_reflect", (1, 3, 9, 5), (7, 3, 3, 5), padding=(1, 0), padding_mode="reflect"
    ),
    problem("one_output_last", (2, 5, 7, 43), (1, 43, 1, 1), bias=True, **LAST),
    problem("pointwise_channels_last", (2, 13, 17, 23), (19, 23, 1, 1), **LAST),
    # Pointwise, in place: rows of whole vectors, then pixels one by one; then one that is copied.
    problem("pointwise_rows_of_128", (2, 23, 8, 16), (19, 23, 1, 1), bias=True),
    problem("pointwise_rows_of_2080", (1, 7, 40, 52), (9, 7, 1, 1)),
    problem("pointwise_1d_groups", (3, 34, 48), (38, 17, 1), groups=2, bias=True),
    problem("pointwise_3d", (1, 11, 2, 4, 8), (7, 11, 1, 1, 1)),
    problem("pointwise_to_channels", (2, 67, 7, 7), (41, 67, 1, 1), bias=True),
    problem("pointwise_300_to_channels", (1, 300, 5, 13), (32, 300, 1, 1)),
    problem("pointwise_64x64", (1, 5, 64, 64), (7, 5, 1, 1)),
    problem("pointwise_groups_3", (1, 21, 13, 17), (15, 7, 1, 1), groups=3),
    # Groups.
    problem("groups_2", (1, 6, 27, 37), (10, 3, 3, 3), groups=2),
    problem("groups_3_bias", (2, 9, 13, 17), (15, 3, 3, 3), groups=3, bias=True, padding=1),
    problem("groups_7_of_3_to_1", (1, 21, 13, 17), (7, 3, 3, 3), groups=7, padding=1),
    problem("groups_of_17_to_19", (1, 34, 7, 11), (38, 17, 3, 3), groups=2),
    problem("groups_strided_2", (1, 6, 27, 37), (10, 3, 3, 3), groups=2, stride=2, dilation=2),
    problem("depthwise", (1, 11, 27, 37), (11, 1, 3, 3), groups=11),
    problem("depthwise_padded", (1, 11, 27, 37), (11, 1, 3, 3), groups=11, padding=1),
    problem("depthwise_stride_2", (1, 11, 27, 37), (11, 1, 3, 3), groups=11, padding=1, stride=2),
    problem("depthwise_dilation_2", (1, 11, 27, 37), (11, 1, 3, 3), groups=11, dilation=2),
    problem("depthwise_1x7", (1, 5, 9, 101), (5, 1, 1, 7), groups=5, padding=(0, 3)),
    problem("depthwise_1x17", (1, 3, 2, 37), (3, 1, 1, 17), groups=3, padding=(0, 9)),
    problem("depthwise_7x7_bias", (2, 5, 19, 23), (5, 1, 7, 7), groups=5, padding=3, bias=True),
    problem("depthwise_batch_small", (3, 67, 7, 7), (67, 1, 3, 3), groups=67, padding=1),
    problem("depthwise_multiplier_3", (1, 7, 13, 17), (21, 1, 3, 3), groups=7, padding=1),
    problem("depthwise_multiplier_3_stride_2", (1, 7, 13, 17), (21, 1, 3, 3), groups=7, stride=2),
    # Strips: several, the last of half a vector; filters in two and three pieces; outputs whose
    # windows hold nothing but padding, whole vectors of it too; a single column and row.
    problem("depthwise_wide", (2, 3, 9, 131), (3, 1, 5, 5), groups=3, padding=2),
    problem("depthwise_4x6_stride_2", (1, 5, 21, 73), (5, 1, 4, 6), groups=5, padding=2, stride=2),
    problem("depthwise_stride_3", (2, 3, 20, 150), (3, 1, 5, 5), groups=3, padding=2, stride=3),
    problem(
        "depthwise_stride_4", (1, 3, 25, 290), (3, 1, 7, 7), groups=3, padding=(2, 3), stride=4
    ),
    problem("depthwise_9x2_stride_3", (1, 3, 25, 61), (3, 1, 9, 2), groups=3, stride=3, bias=True),
    problem("depthwise_2x3_stride_4", (1, 3, 14, 36), (3, 1, 2, 3), groups=3, padding=1, stride=4),
    problem("depthwise_8x6_stride_2", (1, 3, 14, 83), (3, 1, 8, 6), groups=3, padding=3, stride=2),
    problem("depthwise_7x7_strips", (1, 3, 9, 117), (3, 1, 7, 7), groups=3, padding=3),
    problem("depthwise_7x7_ragged", (1, 3, 9, 43), (3, 1, 7, 7), groups=3, padding=3),
    problem("depthwise_7x7_stride_2", (1, 3, 11, 49), (3, 1, 7, 7), groups=3, padding=3, stride=2),
    problem("depthwise_5x5_whole", (1, 3, 9, 64), (3, 1, 5, 5), groups=3, padding=2),
    problem("depthwise_three_strips", (1, 3, 5, 200), (3, 1, 3, 3), groups=3, padding=1),
    problem("depthwise_padding_19", (1, 3, 4, 75), (3, 1, 3, 5), groups=3, padding=(1, 19)),
    problem(
        "depthwise_5x5_stride_2_padding_17",
        (1, 3, 9, 151),
        (3, 1, 5, 5),
        groups=3,
        padding=(2, 17),
        stride=2,
    ),
    # Small planes: the whole vector and half of it, full and not; rows that no output row ends at;
    # columns of padding on one side only; planes of a volume. Then those that are strips after all.
    problem("depthwise_7x7_on_7", (2, 5, 7, 7), (5, 1, 7, 7), groups=5, padding=3, bias=True),
    problem("depthwise_5x5_on_8", (1, 5, 8, 8), (5, 1, 5, 5), groups=5, padding=2),
    problem("depthwise_7x7_on_9x3", (1, 5, 9, 3), (5, 1, 7, 7), groups=5, padding=3),
    problem("depthwise_5x5_on_16", (1, 3, 16, 16), (3, 1, 5, 5), groups=3, padding=2, bias=True),
    problem("depthwise_3x3_on_13x16", (1, 3, 13, 16), (3, 1, 3, 3), groups=3, padding=1),
    problem("depthwise_3x3_on_14", (1, 5, 14, 14), (5, 1, 3, 3), groups=5, padding=1, stride=2),
    problem("depthwise_5x5_on_15", (1, 5, 15, 15), (5, 1, 5, 5), groups=5, padding=2, stride=2),
    problem("depthwise_7x7_on_27", (1, 3, 27, 28), (3, 1, 7, 7), groups=3, padding=3, stride=2),
    problem(
        "depthwise_7x7_cropped", (1, 3, 11, 7), (3, 1, 7, 7), groups=3, padding=((3, 0), (1, 5))
    ),
    problem(
        "depthwise_3x3_extended", (1, 3, 5, 6), (3, 1, 3, 3), groups=3, padding=((1, 6), (4, 1))
    ),
    problem("depthwise_5x5_padding_1", (1, 3, 8, 8), (3, 1, 5, 5), groups=3, padding=1),
    problem(
        "depthwise_3x3_dilation_2", (1, 3, 8, 8), (3, 1, 3, 3), groups=3, padding=1, dilation=2
    ),
    problem("depthwise_3x3_uncut", (1, 3, 17, 9), (3, 1, 3, 3), groups=3, padding=((1, 0), (1, 0))),
    problem("depthwise_9x2", (1, 5, 23, 19), (5, 1, 9, 2), groups=5, padding=(2, 1), bias=True),
    problem("depthwise_padding_7", (1, 5, 6, 5), (5, 1, 3, 3), groups=5, padding=7, bias=True),
    problem("depthwise_1x1_stride_2", (2, 5, 7, 37), (5, 1, 1, 1), groups=5, stride=2),
    problem("depthwise_1x3_of_one", (1, 5, 1, 1), (5, 1, 1, 3), groups=5, padding=(0, 1)),
    problem(
        "depthwise_dilation_3x2", (1, 5, 8, 43), (5, 1, 5, 3), groups=5, padding=6, dilation=(3, 2)
    ),
    problem(
        "depthwise_67_reflect",
        (1, 67, 13, 9),
        (67, 1, 3, 3),
        groups=67,
        padding=1,
        padding_mode="reflect",
    ),
    problem(
        "depthwise_67_last", (2, 13, 9, 67), (67, 1, 3, 3), groups=67, padding=1, stride=2, **LAST
    ),
    problem("depthwise_last", (1, 27, 37, 11), (11, 1, 3, 3), groups=11, padding=1, **LAST),
    # Channels that fill no vectors, one behind the other: photographs, multipliers.
    problem(
        "photograph", (2, 27, 37, 3), (3, 1, 3, 5), groups=3, padding=(1, 2), bias=True, **LAST
    ),
    problem("photograph_valid", (1, 29, 37, 3), (3, 1, 3, 3), groups=3, **LAST),
    problem("photograph_stride_3x2", (1, 27, 37, 3), (3, 1, 5, 5), groups=3, stride=(3, 2), **LAST),
    problem("photograph_dilation_2", (1, 27, 37, 4), (4, 1, 3, 3), groups=4, dilation=2, **LAST),
    problem(
        "photograph_reflect",
        (1, 27, 37, 3),
        (3, 1, 3, 5),
        groups=3,
        padding=((1, 2), (3, 1)),
        padding_mode="reflect",
        **LAST,
    ),
    problem("stereo", (2, 301, 2), (2, 1, 7), groups=2, padding=3, **LAST),
    problem("colours_of_volume", (1, 7, 9, 11, 3), (3, 1, 2, 3, 3), groups=3, padding=1, **LAST),
    problem("multiplier_3_last", (1, 13, 17, 7), (21, 1, 3, 3), groups=7, padding=1, **LAST),
    problem(
        "multiplier_2_stride_2_last", (1, 13, 17, 5), (10, 1, 3, 3), groups=5, stride=2, **LAST
    ),
    # One channel.
    problem("one_channel_3x3", (1, 1, 61, 67), (1, 1, 3, 3), padding=1),
    problem("one_channel_15x15", (1, 1, 37, 41), (1, 1, 15, 15), padding=7),
    problem("one_channel_31x31", (1, 1, 41, 43), (1, 1, 31, 31), padding="valid"),
    problem("one_channel_31x31_same", (1, 1, 23, 19), (1, 1, 31, 31), padding="same"),
    problem("one_channel_4x6", (1, 1, 37, 41), (1, 1, 4, 6), padding="same"),
    problem("one_channel_5x5_batch", (3, 1, 29, 31), (1, 1, 5, 5), padding=2, bias=True),
    problem("one_channel_5x5_stride_2", (1, 1, 37, 41), (1, 1, 5, 5), padding=2, stride=2),
    problem("one_channel_5x5_dilation_3", (1, 1, 37, 41), (1, 1, 5, 5), padding=6, dilation=3),
    problem("one_channel_1x15", (1, 1, 37, 41), (1, 1, 1, 15), padding=(0, 7)),
    problem("one_channel_15x1", (1, 1, 37, 41), (1, 1, 15, 1), padding=(7, 0)),
    problem("one_channel_unbatched", (1, 37, 41), (1, 1, 5, 5), padding=2),
    # 3x3 has its weights in registers: rows and columns apart, channels that are added, rows left.
    problem("one_channel_3x3_apart", (1, 1, 23, 97), (1, 1, 3, 3), padding=3, dilation=(2, 3)),
    problem("three_channels_3x3", (2, 3, 10, 131), (3, 3, 3, 3), padding=1, bias=True),
    # Rows so wide that only the columns beside the padding are copied.
    problem("wide_rows", (1, 1, 11, 1361), (1, 1, 3, 3), padding=1, bias=True),
    problem("wide_rows_groups", (1, 4, 6, 1400), (4, 2, 3, 5), padding=(0, 19), groups=2),
    problem(
        "wide_rows_apart", (1, 1, 9, 1601), (1, 1, 3, 3), padding=((2, 1), (70, 3)), dilation=2
    ),
    problem("wide_rows_one_side", (2, 1, 5, 1327), (1, 1, 3, 4), padding=((0, 0), (0, 3))),
    problem(
        "wide_rows_reflected", (1, 1, 5, 1327), (1, 1, 3, 5), padding=2, padding_mode="reflect"
    ),
    # Rows of whole cache lines go past the caches where these are small.
    problem("lines", (2, 1, 10, 144), (2, 1, 3, 3), padding=1, bias=True),
    problem("lines_5x3_apart", (1, 1, 13, 96), (1, 1, 5, 3), padding=(6, 1), dilation=(3, 1)),
    problem("lines_wide", (1, 1, 7, 2064), (1, 1, 3, 3), padding=1),
    problem("lines_depthwise", (2, 5, 12, 48), (5, 1, 3, 3), padding=1, groups=5, bias=True),
    problem("lines_depthwise_wide", (1, 3, 9, 176), (3, 1, 5, 5), padding=2, groups=3),
    problem("lines_depthwise_7x3", (1, 3, 19, 32), (3, 1, 7, 3), padding=(3, 1), groups=3),
    problem("lines_depthwise_9x3", (1, 3, 19, 32), (3, 1, 9, 3), padding=(4, 1), groups=3),
    problem(
        "lines_depthwise_stride_2", (1, 5, 21, 64), (5, 1, 3, 3), padding=1, groups=5, stride=2
    ),
    # Every form of padding.
    problem("padding_1x0", (1, 5, 13, 17), (7, 5, 3, 3), padding=(1, 0)),
    problem("padding_0x2", (1, 5, 13, 17), (7, 5, 3, 3), padding=(0, 2)),
    problem("padding_pairs", (1, 5, 13, 17), (7, 5, 3, 3), padding=((1, 2), (3, 0))),
    problem("padding_before_only", (1, 5, 13, 17), (7, 5, 3, 3), padding=((2, 0), (2, 0))),
    problem("padding_after_only", (1, 5, 13, 17), (7, 5, 3, 3), padding=((0, 2), (0, 2))),
    problem("padding_over_kernel", (1, 5, 7, 11), (7, 5, 3, 3), padding=5),
    problem("padding_over_input", (1, 5, 3, 2), (7, 5, 3, 3), padding=4),
    problem("padding_valid", (1, 5, 13, 17), (7, 5, 3, 3), padding="valid"),
    problem("padding_same", (1, 5, 13, 17), (7, 5, 3, 3), padding="same"),
    problem("padding_same_4x6", (1, 5, 13, 17), (7, 5, 4, 6), padding="same"),
    problem("padding_same_lower_4x6", (1, 5, 13, 17), (7, 5, 4, 6), padding="same_lower"),
    problem("padding_same_stride_2", (1, 5, 13, 18), (7, 5, 3, 3), padding="same", stride=2),
    problem("padding_same_lower_odd", (1, 5, 13, 18), (7, 5, 3, 3), padding="same_lower", stride=2),
    problem("padding_same_stride_5", (1, 5, 13, 17), (7, 5, 2, 3), padding="same", stride=5),
    problem("padding_same_dilation_3", (1, 5, 13, 17), (7, 5, 4, 3), padding="same", dilation=3),
    problem("padding_full", (1, 5, 13, 17), (7, 5, 3, 5), padding="full"),
    problem("padding_full_dilation_2", (1, 5, 13, 17), (7, 5, 3, 3), padding="full", dilation=2),
    problem("padding_full_over_input", (1, 5, 2, 3), (7, 5, 7, 5), padding="full"),
    # Every padding mode.
    *(
        case
        for mode in ("reflect", "replicate", "circular", "symmetric")
        for case in (
            problem(mode, (1, 5, 13, 17), (7, 5, 3, 3), padding=1, padding_mode=mode),
            problem(
                f"{mode}_pairs_stride_2",
                (2, 5, 11, 13),
                (7, 5, 5, 3),
                padding=((3, 2), (0, 4)),
                padding_mode=mode,
                stride=2,
                bias=True,
            ),
            problem(
                f"{mode}_widest",
                (1, 2, 4, 5),
                (3, 2, 3, 3),
                padding=(3, 4) if mode == "reflect" else (4, 5),
                padding_mode=mode,
            ),
            problem(
                f"{mode}_repeated",
                (1, 2, 4, 1),
                (3, 2, 3, 3),
                padding=((11, 6), (9, 2)),
                padding_mode=mode,
            ),
            problem(
                f"{mode}_depthwise",
                (1, 5, 13, 17),
                (5, 1, 5, 5),
                padding=2,
                padding_mode=mode,
                groups=5,
            ),
        )
    ),
    problem(
        "reflect_same_last",
        (2, 13, 17, 5),
        (7, 5, 4, 3),
        padding="same",
        padding_mode="reflect",
        **LAST,
    ),
    problem(
        "replicate_over_input", (1, 2, 3, 1), (3, 2, 3, 3), padding=7, padding_mode="replicate"
    ),
    # A mode for each axis: each kind of layer under one pair.
    *(by_axis(MODE_PAIRS[i % 3], layer) for i, layer in enumerate(PADDED_LAYERS)),
    problem(
        "3d_mode_of_each_axis",
        (1, 2, 3, 4, 5),
        (3, 2, 2, 3, 3),
        padding=(4, 3, 6),
        padding_mode=("circular", "zeros", "reflect"),
    ),
    # Channels last.
    problem("last", (1, 27, 37, 5), (7, 5, 3, 3), **LAST),
    problem("last_batch_bias", (3, 11, 13, 5), (7, 5, 3, 3), padding=1, bias=True, **LAST),
    problem("last_unbatched", (27, 37, 5), (7, 5, 3, 3), **LAST),
    problem("last_17_stride_2", (1, 13, 21, 17), (7, 17, 3, 3), stride=2, padding=1, **LAST),
    problem("last_stride_2", (1, 27, 37, 5), (7, 5, 3, 3), stride=2, padding=1, **LAST),
    problem("last_groups_2", (1, 13, 17, 6), (10, 3, 3, 3), groups=2, **LAST),
    problem("last_one_channel", (2, 27, 37, 1), (1, 1, 3, 3), **LAST),
    problem("last_23_to_19", (1, 11, 13, 23), (19, 23, 3, 3), padding=1, **LAST),
    # Rows and planes under which some taps, or all, read nothing but padding: vectors of output
    # channels or of pixels, one list of taps for all channels or for each, in one or two widths.
    problem("taps_rows_of_7", (1, 31, 7, 7), (32, 31, 3, 3), padding=1, bias=True),
    problem("taps_rows_of_16", (1, 31, 5, 16), (32, 31, 3, 3), padding=1, bias=True),
    problem("taps_rows_of_7_5x5", (1, 3, 7, 7), (48, 3, 5, 5), padding=2, bias=True),
    problem("taps_rows_of_5_two_widths", (2, 11, 8, 5), (51, 11, 3, 3), padding=(2, 1)),
    problem(
        "taps_rows_of_padding", (1, 9, 5, 9), (32, 9, 3, 3), padding=((5, 4), (1, 1)), bias=True
    ),
    problem(
        "taps_stride_2_dilation_3", (1, 5, 9, 6), (32, 5, 4, 2), stride=2, padding=6, dilation=3
    ),
    problem("taps_down_rows_of_32", (1, 29, 9, 32), (11, 29, 3, 3), padding=1, bias=True),
    problem("taps_down_rows_of_padding", (1, 30, 4, 32), (11, 30, 3, 3), padding=((4, 3), (1, 1))),
    problem("taps_along_wide_rows", (1, 2, 5, 331), (9, 2, 3, 3), padding=1),
    problem("taps_patches_padded", (1, 3, 29, 29), (20, 3, 3, 3), stride=3, padding=2, bias=True),
    problem("taps_3d_rows_of_5", (1, 11, 3, 4, 5), (32, 11, 3, 3, 3), padding=1, bias=True),
    problem("taps_3d_listed_together", (1, 3, 5, 6, 7), (35, 3, 3, 3, 3), padding=(2, 1, 1)),
    problem("taps_3d_planes_of_padding", (1, 9, 3, 5, 5), (32, 9, 1, 3, 3), padding=1, bias=True),
    problem("taps_3d_down", (1, 10, 3, 2, 32), (7, 10, 3, 3, 3), padding=(2, 1, 1), bias=True),
    # Pixels at the ends of a row, under a padding wider than the filter, and in rows that are cut.
    problem("taps_ends_of_padding", (1, 9, 6, 20), (32, 9, 3, 5), padding=((1, 1), (6, 5))),
    problem("taps_ends_of_one_column", (2, 9, 7, 1), (32, 9, 3, 3), padding=1, bias=True),
    problem("taps_ends_of_parts", (1, 32, 113), (32, 32, 5), padding=2, bias=True),
    problem("taps_ends_of_parts_last", (1, 2, 1100, 1), (32, 1, 2, 3), padding=(0, 1), **LAST),
    # Pixels that the product transposed reads in place, at a stride, rows longer than a stage.
    problem("in_place_stride_2", (2, 9, 13, 13), (32, 9, 3, 3), stride=2, padding=1, bias=True),
    problem("in_place_stride_2_wide", (1, 8, 3, 490), (16, 8, 3, 3), stride=2, padding=1),
    problem("in_place_stride_3_and_2", (1, 9, 9, 40), (32, 9, 2, 3), stride=(3, 2), padding=(0, 1)),
    problem("in_place_3d_stride_2", (1, 8, 5, 6, 26), (32, 8, 3, 3, 3), stride=2, padding=1),
    problem("in_place_dilation_2", (1, 9, 9, 21), (32, 9, 3, 3), dilation=2, bias=True),
    problem("in_place_patches", (2, 13, 12, 12), (32, 13, 2, 2), stride=2),
    problem("in_place_last_stride_2", (2, 13, 13, 9), (32, 9, 3, 3), stride=2, padding=1, **LAST),
    problem("in_place_last_a_page_apart", (1, 2, 3, 1024), (32, 1024, 1, 1), **LAST),
    # One dimension.
    problem("1d", (1, 5, 101), (7, 5, 3)),
    problem("1d_one_tap", (2, 5, 101), (7, 5, 1)),
    problem("1d_bias_padded", (3, 5, 61), (7, 5, 3), padding=1, bias=True),
    problem("1d_unbatched", (5, 101), (7, 5, 3), padding="same"),
    problem("1d_stride_2", (1, 5, 101), (7, 5, 3), stride=2, padding=1, bias=True),
    problem("1d_stride_5", (1, 1, 503), (19, 1, 10), stride=5),
    problem("1d_stride_over_kernel", (1, 3, 101), (5, 3, 2), stride=7),
    problem("1d_dilation_16", (1, 5, 101), (7, 5, 3), dilation=16, padding=16),
    problem("1d_causal", (1, 7, 211), (7, 7, 2), padding=((1, 0),)),
    # Pieces that meet no padding are read in place, the first and the last are copied.
    problem("1d_in_place", (1, 5, 5003), (7, 5, 3), dilation=3, padding=4, bias=True),
    problem("1d_in_place_batch", (2, 3, 3001), (9, 3, 2)),
    problem("1d_in_place_rows_of_23", (1, 9, 24), (7, 9, 2)),
    problem("1d_in_place_groups", (1, 10, 2100), (8, 5, 5), groups=2, padding=2),
    problem("1d_lines", (2, 1, 4112), (1, 1, 9), padding=4),
    problem("1d_depthwise", (2, 11, 101), (11, 1, 5), groups=11, padding=2),
    problem("1d_fir_101", (1, 1, 997), (1, 1, 101), padding=50),
    # Folds: the last row of taps full, of one tap, or missing; phases; channels; depthwise.
    problem("1d_fir_128", (1, 1, 811), (1, 1, 128), padding=64, bias=True),
    problem("1d_fir_65_batch", (3, 1, 311), (1, 1, 65), padding=((64, 0),)),
    problem("1d_fir_148_stride_3", (1, 1, 1201), (1, 1, 148), padding=70, stride=3),
    problem("1d_fir_43_of_5_to_3", (2, 5, 487), (3, 5, 43), padding=21, bias=True),
    problem("1d_fir_43_last", (2, 487, 5), (2, 5, 43), padding="same", **LAST),
    problem("1d_fir_47_depthwise", (1, 3, 1231), (3, 1, 47), groups=3, padding=23),
    problem("1d_fir_53_reflect", (1, 1, 433), (1, 1, 53), padding=26, padding_mode="reflect"),
    problem("1d_groups_2", (1, 6, 101), (10, 3, 3), groups=2),
    problem("1d_last", (2, 101, 5), (7, 5, 3), padding=1, **LAST),
    problem("1d_last_unbatched", (101, 5), (7, 5, 4), padding="same_lower", **LAST),
    problem("1d_circular", (1, 5, 31), (7, 5, 7), padding=3, padding_mode="circular"),
    problem("1d_full", (1, 1, 31), (1, 1, 7), padding="full"),
    problem("1d_kernel_is_input", (1, 3, 67), (5, 3, 67)),
    # Three dimensions.
    problem("3d", (1, 3, 7, 9, 11), (5, 3, 3, 3, 3)),
    problem("3d_bias_padded", (2, 3, 5, 7, 9), (5, 3, 3, 3, 3), padding=1, bias=True),
    problem("3d_unbatched", (3, 7, 9, 11), (5, 3, 3, 3, 3)),
    problem("3d_stride_1x2x3", (1, 3, 9, 11, 13), (5, 3, 3, 3, 3), stride=(1, 2, 3), padding=1),
    problem("3d_dilation_3x2x1", (1, 3, 9, 9, 9), (5, 3, 3, 3, 3), dilation=(3, 2, 1)),
    problem("3d_kernel_1x3x3", (1, 3, 7, 9, 11), (5, 3, 1, 3, 3)),
    problem("3d_kernel_3x1x1", (1, 3, 7, 9, 11), (5, 3, 3, 1, 1)),
    problem("3d_kernel_2x3x4", (1, 3, 7, 9, 11), (5, 3, 2, 3, 4), padding="same"),
    problem("3d_pairs", (1, 2, 5, 7, 9), (3, 2, 3, 3, 3), padding=((1, 0), (0, 2), (3, 1))),
    problem("3d_groups_2", (1, 6, 5, 7, 9), (4, 3, 3, 3, 3), groups=2, padding=1),
    problem("3d_depthwise_flat", (1, 3, 4, 7, 7), (3, 1, 1, 3, 3), groups=3, padding=(0, 1, 1)),
    problem(
        "3d_depthwise_extended",
        (1, 3, 3, 7, 7),
        (3, 1, 1, 3, 3),
        groups=3,
        padding=((0, 2), (1, 1), (1, 1)),
        stride=(2, 1, 1),
    ),
    problem(
        "3d_depthwise_before",
        (1, 3, 3, 7, 7),
        (3, 1, 1, 3, 3),
        groups=3,
        padding=((1, 0), (1, 1), (1, 1)),
        stride=(2, 1, 1),
    ),
    problem("3d_depthwise", (1, 5, 7, 9, 11), (5, 1, 3, 3, 3), groups=5, padding=1),
    problem(
        "3d_depthwise_padding_3",
        (1, 5, 2, 9, 11),
        (5, 1, 3, 3, 3),
        groups=5,
        padding=(3, 1, 1),
        bias=True,
    ),
    problem("3d_one_channel_5x5x5", (1, 1, 9, 11, 13), (1, 1, 5, 5, 5), padding=2),
    # A halo tile keeps planes for the next task: batches, channels, rows, a stride, folds.
    problem("3d_few_channels", (2, 2, 7, 14, 19), (3, 2, 3, 3, 3), padding=1, bias=True),
    problem(
        "3d_few_channels_reflected",
        (1, 2, 6, 9, 11),
        (2, 2, 4, 3, 3),
        padding=1,
        padding_mode="reflect",
    ),
    problem(
        "3d_few_channels_stride", (1, 1, 9, 9, 17), (2, 1, 3, 3, 3), padding=1, stride=(1, 2, 2)
    ),
    problem("3d_planes_apart", (1, 1, 9, 5, 17), (1, 1, 3, 3, 3), padding=2, dilation=(2, 1, 1)),
    problem("3d_folds", (1, 1, 5, 2, 560), (1, 1, 2, 1, 41)),
    problem("3d_wide_rows", (1, 1, 4, 3, 1361), (1, 1, 2, 3, 3), padding=1),
    problem("3d_kernel_2x1x37", (1, 2, 2, 2, 561), (1, 2, 2, 1, 37), padding=(1, 0, 9)),
    problem("3d_pointwise", (1, 11, 5, 7, 9), (13, 11, 1, 1, 1)),
    problem("3d_last", (1, 7, 9, 11, 3), (5, 3, 3, 3, 3), padding=1, **LAST),
    problem("3d_reflect", (1, 2, 5, 7, 9), (3, 2, 3, 3, 3), padding=2, padding_mode="reflect"),
    # Padding as wide as a vector of two lanes, and taps that all read the same rows.
    problem(
        "3d_batch_one_zone",
        (2, 1, 4, 8, 1),
        (64, 1, 1, 1, 3),
        padding=((0, 0), (0, 0), (2, 2)),
        dilation=(1, 1, 2),
        stride=(4, 1, 1),
    ),
    problem("3d_one_slice", (1, 3, 1, 13, 17), (5, 3, 1, 3, 3), padding=(0, 1, 1)),
    # Nothing to do.
    problem("empty_batch", (0, 5, 13, 17), (7, 5, 3, 3), padding=1),
    problem("empty_batch_last_1d", (0, 13, 5), (7, 5, 3), bias=True, **LAST),
    problem("no_input_channels", (2, 0, 5, 7), (3, 0, 3, 3)),
    problem("no_input_channels_bias", (2, 0, 5, 7), (3, 0, 3, 3), bias=True),
    problem("no_output_channels", (2, 3, 5, 7), (0, 3, 3, 3)),
    problem("empty_axis_padded", (1, 2, 0, 5), (3, 2, 3, 3), padding=2, bias=True),
)

# Sizes on both sides of every vector and register block.
SWEEPS: tuple[Case, ...] = (
    *(
        problem(f"width_{w}", (1, 3, 5, w), (5, 3, 3, 3), padding=1, stride=1 + w % 2)
        for w in range(1, 71)
    ),
    *(problem(f"width_{w}_one_channel", (1, 1, 7, w + 4), (1, 1, 3, 5)) for w in range(1, 71)),
    *(problem(f"length_{w}", (1, 2, w), (3, 2, 3), padding=1, bias=True) for w in range(1, 71)),
    *(problem(f"c_out_{c}", (1, 3, 7, 9), (c, 3, 3, 3), bias=True) for c in range(1, 41)),
    *(problem(f"c_in_{c}", (1, c, 5, 9), (5, c, 3, 3), padding=1) for c in range(1, 41)),
)

# Enough work for several threads and cache blocks: `reference.conv_by_taps` is their oracle.
LARGE: tuple[Case, ...] = (
    problem("zones_in_blocks", (1, 530, 37, 43), (32, 530, 3, 3), dilation=(6, 5), padding=(6, 5)),
    problem("zones_of_many_sums", (4, 33, 89), (97, 33, 81), dilation=3, padding=120),
    problem("large_1d_by_parts", (1, 1201, 1100), (4, 1201, 2)),
    problem("large_3x3", (1, 67, 57, 53), (61, 67, 3, 3), padding=1, bias=True),
    problem("large_batch_small_maps", (19, 131, 7, 7), (137, 131, 3, 3), padding=1),
    problem("large_deep", (1, 523, 13, 11), (67, 523, 3, 3), padding=1),
    problem("large_small_map_to_33", (1, 19, 13, 13), (33, 19, 3, 3), padding=1, bias=True),
    problem("large_stride_2", (2, 67, 57, 53), (61, 67, 3, 3), padding=1, stride=2),
    problem("large_first_layer", (1, 3, 223, 227), (64, 3, 7, 7), padding=3, stride=2),
    problem("large_dilation_12", (1, 131, 33, 31), (67, 131, 3, 3), padding=12, dilation=12),
    problem("large_pointwise", (1, 257, 29, 31), (509, 257, 1, 1), bias=True),
    problem("large_pointwise_to_96", (1, 257, 13, 13), (96, 257, 1, 1), bias=True),
    problem("large_pointwise_by_slices", (1, 1301, 17, 19), (61, 1301, 1, 1)),
    problem("large_pointwise_from_memory", (7, 263, 29, 31), (53, 263, 1, 1), bias=True),
    problem("large_pointwise_stride_2", (2, 257, 29, 31), (131, 257, 1, 1), stride=2),
    problem("large_groups_32", (1, 128, 57, 53), (128, 4, 3, 3), padding=1, groups=32),
    problem("large_depthwise", (2, 67, 113, 109), (67, 1, 3, 3), padding=1, groups=67),
    problem("large_depthwise_stride_2", (1, 67, 113, 109), (67, 1, 5, 5), stride=2, groups=67),
    problem("large_one_channel_15x15", (1, 1, 521, 509), (1, 1, 15, 15), padding=7),
    problem("large_one_channel_3x3", (1, 1, 1021, 1019), (1, 1, 3, 3), padding="same"),
    problem("large_photograph", (1, 521, 509, 3), (3, 1, 5, 5), padding=2, groups=3, **LAST),
    problem("large_last", (2, 57, 53, 67), (61, 67, 3, 3), padding=1, **LAST),
    problem("large_reflect", (1, 67, 57, 53), (61, 67, 3, 3), padding=1, padding_mode="reflect"),
    problem("large_1d_fir_101", (1, 1, 100003), (1, 1, 101), padding=50),
    problem("large_1d_dilation_16", (1, 61, 8009), (67, 61, 3), padding=16, dilation=16),
    problem("large_pointwise_to_5", (1, 512, 14, 14), (5, 512, 1, 1), bias=True),
    problem("large_batch_of_28x28", (32, 1, 28, 28), (32, 1, 3, 3), padding=1, bias=True),
    problem("large_1d_stride_5", (1, 1, 40009), (127, 1, 10), stride=5),
    problem("large_3d", (1, 31, 13, 29, 27), (37, 31, 3, 3, 3), padding=1),
    problem("large_3d_one_channel", (1, 1, 41, 43, 47), (1, 1, 5, 5, 5), padding=2),
)

BY_NAME = {c.name: c for c in CASES}

# One of each kind, for tests that repeat a problem many times over.
REDUCED: tuple[Case, ...] = tuple(
    BY_NAME[name]
    for name in (
        "channels_23_to_19_padded",
        "groups_3_bias",
        "depthwise_stride_2",
        "depthwise_batch_small",
        "photograph",
        "zones",
        "zones_81_taps",
        "1d_fir_128",
        "one_channel_5x5_batch",
        "pointwise_batch",
        "last_batch_bias",
        "reflect_pairs_stride_2",
        "1d_bias_padded",
        "3d_bias_padded",
    )
)


def _fill(case: Case, draw: Any) -> tuple[Array, Array, Array | None]:
    bias = draw(case.weight[:1]) if case.bias else None
    return draw(case.input), draw(case.weight), bias


def integer_arrays(
    case: Case, dtype: Any = np.float32, largest: int = 4
) -> tuple[Array, Array, Array | None]:
    """Small integers, some of them zero, in any dtype: results in floats are then exact."""
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))
    dtype = np.dtype(dtype)
    least = 0 if dtype.kind == "u" else -largest

    def draw(shape: tuple[int, ...]) -> Array:
        values = rng.integers(least, largest, shape, endpoint=True)
        if dtype.kind == "c":
            return (values + 1j * rng.integers(least, largest, shape, endpoint=True)).astype(dtype)
        return values.astype(dtype)

    return _fill(case, draw)


def wrapping_arrays(case: Case, dtype: Any) -> tuple[Array, Array, Array | None]:
    """Integers over the whole range of their dtype: results wrap."""
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))
    info = np.iinfo(dtype)
    return _fill(
        case, lambda shape: rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
    )


def normal_arrays(case: Case, dtype: Any = np.float32) -> tuple[Array, Array, Array | None]:
    """Normally distributed real or complex numbers."""
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))
    dtype = np.dtype(dtype)

    def draw(shape: tuple[int, ...]) -> Array:
        values = rng.standard_normal(shape)
        if dtype.kind == "c":
            return (values + 1j * rng.standard_normal(shape)).astype(dtype)
        return values.astype(dtype)

    return _fill(case, draw)
