"""The order of the axes: a caller's, and that of the memory which kernels read."""

from typing import Any, NamedTuple

import numpy as np


class Layout(NamedTuple):
    """Order of the axes.

    Attributes
    ----------
    channels_last : bool
        For the caller, of input and output.
    memory_last : bool
        Of the input as the kernels read it.
    """

    channels_last: bool
    memory_last: bool


CHANNELS_FIRST, CHANNELS_LAST = Layout(False, False), Layout(True, True)


def input_layout(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, data_format: Any
) -> Layout:
    """Return the layout of an input: dense memory is read as it lies, whatever its axes' order."""
    channels_last = isinstance(data_format, str) and data_format == "channels_last"
    if "c" in (x.dtype.kind, weight.dtype.kind, "" if bias is None else bias.dtype.kind):
        return Layout(channels_last, False)
    if not x.flags.c_contiguous and x.ndim > 1 and weight.ndim - x.ndim in (0, 1):
        c = x.ndim - weight.ndim + 1
        other = np.moveaxis(x, -1, c) if channels_last else np.moveaxis(x, c, -1)
        if other.flags.c_contiguous:
            return Layout(channels_last, not channels_last)
    return CHANNELS_LAST if channels_last else CHANNELS_FIRST
