"""Problems as planning sees them."""

from __future__ import annotations

from typing import Any

from numbaconv.problem.forward import describe
from numbaconv.problem.layout import CHANNELS_FIRST, Layout
from numbaconv.problem.shape import ConvShape


def shape_of(
    image: tuple[int, ...],
    weight: tuple[int, ...],
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    layout: Layout = CHANNELS_FIRST,
    mode: str = "zeros",
) -> ConvShape:
    """The problem of a call with arrays of these shapes."""
    return describe(image, weight, stride, padding, dilation, groups, mode, layout).shape
