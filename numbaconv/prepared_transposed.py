"""Prepared layers of transposed convolutions: the weights of all phases are packed once."""

from typing import Any

import numpy as np

from numbaconv.blocks.calls import ByBlocks, Transposed
from numbaconv.dispatch.backends import check_backend
from numbaconv.dispatch.gpu import on_host
from numbaconv.dispatch.gradients import convolve_transposed
from numbaconv.dispatch.precision import find_precision
from numbaconv.layers import Layer, Weights
from numbaconv.problem.backward import (
    check_output_padding,
    check_transposed_bias,
    check_transposed_weight,
)
from numbaconv.problem.plan import AdjointPlan, find_transposed_plan, frozen_transposed
from numbaconv.problem.validation import (
    integer,
    padding_pairs,
    per_axis,
)


class PreparedTransposedConv(Layer):
    """A transposed convolution with fixed weights, made by `prepare_transposed`; call it.

    The layer has a copy of the weights. To change the array that `prepare_transposed` was given
    does not change the layer; `update` does. Several threads may call a layer at once. A layer can
    be pickled: the copy packs its weights at its first call.
    """

    is_transposed = True
    on_device = "apply_adjoint"
    maker = "prepare_transposed"

    def _check(self, weight: np.ndarray, bias: np.ndarray | None) -> None:
        check_transposed_weight(weight)
        check_transposed_bias(bias, weight, self._options.groups)

    def _find_plan(self, x: np.ndarray, now: Weights, add: np.ndarray | None = None) -> AdjointPlan:
        rank = now.weight.ndim - 2
        return find_transposed_plan(rank, x, now.weight, now.bias, self._options, add)

    def _run(
        self,
        x: np.ndarray,
        now: Weights,
        out: np.ndarray | None,
        stream: Any,
        add: np.ndarray | None,
    ) -> Any:
        plan = self.plan(x, now, add)
        arrays, where = (x, now.weight, now.bias, out), (stream, self.precision)
        return convolve_transposed(plan, self.backend, *arrays, now.packed, *where, add)

    def by_blocks(self, given: dict[str, Any]) -> ByBlocks:
        """Describe a call for what cuts it into blocks."""
        return Transposed.of_layer(self, given)


def prepare_transposed(
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    *,
    data_format: str = "channels_first",
    activation: str | None = None,
    backend: str | None = None,
    precision: str | None = None,
) -> PreparedTransposedConv:
    """Make a layer of a transposed convolution, whose weights are packed once, not in every call.

    Parameters
    ----------
    weight, bias, stride, padding, output_padding, groups, dilation
        As in `conv_transpose2d`; the number of spatial axes is ``weight.ndim - 2``.
    data_format, activation
        As in `conv_transpose2d`.
    backend : {"auto", "direct", "im2col", "fft", "winograd", "cuda"}, optional
        Backend of all calls. Without it the backend of each call is chosen as in `conv`.
    precision : {"ieee", "tf32", "fast"}, optional
        As in `conv`.

    Returns
    -------
    PreparedTransposedConv
        Call it as ``layer(x)``, ``layer(x, out=y)`` or ``layer(x, add=r)``; `update` gives it new
        weights.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; the message names it. What depends on the input's shape is
        checked when the layer is called.

    Examples
    --------
    >>> import numpy as np
    >>> import numbaconv as nc
    >>> w = np.ones((16, 8, 4, 4), np.float32)
    >>> layer = nc.prepare_transposed(w, stride=2, padding="same", activation="relu")
    >>> layer(np.ones((1, 16, 32, 32), np.float32)).shape
    (1, 8, 64, 64)
    """
    given = stride, padding, output_padding, groups, dilation, data_format, activation
    options = frozen_transposed(given)
    find_precision(precision)
    check_transposed_weight(weight := on_host("weight", weight))
    rank = weight.ndim - 2
    ones = (1,) * rank
    padding_pairs(options.padding, ones, ones, ones, ones)
    strides = per_axis("stride", options.stride, rank)
    dilations = per_axis("dilation", options.dilation, rank)
    check_output_padding(options.padding, options.output_padding, strides, dilations)
    if weight.shape[0] % integer("groups", options.groups, 1):
        raise ValueError(
            f"groups = {groups} does not divide the {weight.shape[0]} input channels of weight"
        )
    name = None if backend is None else check_backend(backend, "backend")
    return PreparedTransposedConv.made(weight, bias, options, name, precision)
