"""Prepared convolutions: weights are packed once, and a plan is kept for each kind of input."""

from typing import Any

import numpy as np

from numbaconv.blocks.calls import ByBlocks, Convolution
from numbaconv.dispatch.backends import check_backend, requested_backend
from numbaconv.dispatch.gpu import on_host
from numbaconv.dispatch.host import convolve, find_ready, resolve
from numbaconv.dispatch.precision import find_precision
from numbaconv.layers import Layer, Weights
from numbaconv.problem.forward import check_activation, check_bias, check_weight
from numbaconv.problem.padding_value import check_applies
from numbaconv.problem.plan import Options, Plan, find_plan, frozen, keep
from numbaconv.problem.validation import (
    check_data_format,
    integer,
    padding_codes,
    padding_pairs,
    per_axis,
)


class PreparedConv(Layer):
    """A convolution with fixed weights, made by `prepare`; call it with an input.

    The layer has a copy of the weights. To change the array that `prepare` was given does not
    change the layer; `update` does. Several threads may call a layer at once. A layer can be
    pickled: the copy packs its weights at its first call.
    """

    on_device = "execute"
    maker = "prepare"

    def _check(self, weight: np.ndarray, bias: np.ndarray | None) -> None:
        check_weight(weight)
        check_bias(bias, weight)

    def _find_plan(self, x: np.ndarray, now: Weights, add: np.ndarray | None = None) -> Plan:
        return find_plan(x, now.weight, now.bias, self._options, add)

    def _run(
        self,
        x: np.ndarray,
        now: Weights,
        out: np.ndarray | None,
        stream: Any,
        add: np.ndarray | None,
    ) -> Any:
        plan = self.plan(x, now, add)
        chosen = resolve(plan, self.backend, self.precision)
        weight, bias, packed = now.weight, now.bias, now.packed
        return convolve(plan, chosen, x, weight, bias, out, packed, stream, self.precision, add)

    def _run_on_array(self, x: np.ndarray, now: Weights, out: np.ndarray | None) -> Any:
        name, _ = requested_backend(self.backend)
        key = x.shape, x.dtype, x.flags.num, name
        try:
            ready = now.ready[key]
        except KeyError:
            arrays = x, now.weight, now.bias, now.packed
            ready = find_ready(self.plan(x, now), name, self.precision, *arrays)
            keep(now.ready, key, ready)
        y = None if ready is None else ready(x, out)
        return self._run(x, now, out, None, None) if y is None else y

    def by_blocks(self, given: dict[str, Any]) -> ByBlocks:
        """Describe a call for what cuts it into blocks."""
        return Convolution.of_layer(self, given)


def prepare(
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    padding_mode: str | tuple[str, ...] = "zeros",
    padding_value: complex = 0.0,
    data_format: str = "channels_first",
    activation: str | None = None,
    out_dtype: Any = None,
    backend: str | None = None,
    precision: str | None = None,
) -> PreparedConv:
    """Make a layer of fixed weights, which are packed once and not in every call.

    Parameters
    ----------
    weight, bias, stride, padding, dilation, groups
        As in `conv`.
    padding_mode, padding_value, data_format, activation, out_dtype
        As in `conv`.
    backend : {"auto", "direct", "im2col", "fft", "winograd", "cuda"}, optional
        Backend of all calls. Without it the backend of each call is chosen as in `conv`.
    precision : {"ieee", "tf32", "fast"}, optional
        As in `conv`.

    Returns
    -------
    PreparedConv
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
    >>> layer = nc.prepare(np.ones((8, 3, 3, 3), np.float32), padding=1, activation="relu")
    >>> layer(np.ones((1, 3, 32, 32), np.float32)).shape
    (1, 8, 32, 32)
    """
    words = padding_mode, data_format, activation, padding_value, out_dtype
    options = Options(*frozen((stride, padding, dilation, groups, *words)))
    check_data_format(data_format)
    check_activation(activation)
    find_precision(precision)
    check_weight(weight := on_host("weight", weight))
    rank = weight.ndim - 2
    ones = (1,) * rank
    modes = padding_codes(options.padding_mode, rank)
    check_applies(options.padding_value, modes, options.padding_mode)
    padding_pairs(padding, ones, ones, ones, ones)
    per_axis("stride", stride, rank)
    per_axis("dilation", dilation, rank)
    if weight.shape[0] % integer("groups", groups, 1):
        raise ValueError(
            f"groups = {groups} does not divide the {weight.shape[0]} output channels of weight"
        )
    name = None if backend is None else check_backend(backend, "backend")
    return PreparedConv.made(weight, bias, options, name, precision)
