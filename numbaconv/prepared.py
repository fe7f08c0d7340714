"""Prepared layers: weights are packed once, and a plan is kept for each shape of input."""

import copy
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from numbaconv.blocks.calls import Convolution
from numbaconv.cpu.arrays import flat_bias
from numbaconv.cpu.execution import Template, packed_weights
from numbaconv.dispatch.backends import check_backend
from numbaconv.dispatch.gpu import convolve_layer_on_device, on_host
from numbaconv.dispatch.host import convolve, resolve
from numbaconv.dispatch.precision import find_precision
from numbaconv.foreign import call_foreign, is_foreign
from numbaconv.problem.forward import check_activation, check_bias, check_weight
from numbaconv.problem.libraries import is_on_device
from numbaconv.problem.padding_value import check_applies
from numbaconv.problem.plan import Options, Plan, find_plan, frozen, keep
from numbaconv.problem.validation import (
    Pairs,
    base_array,
    check_data_format,
    input_array,
    integer,
    padding_codes,
    padding_pairs,
    per_axis,
)
from numbaconv.runtime.shared_table import kept


class Weights:
    """The weights of a layer, and what its calls keep of them.

    Attributes
    ----------
    weight, bias : ndarray
        Copies of what the layer was given.
    ticket : int
        By which compiled callers know these weights; no other weights ever get it.
    plans : dict
        The plan of each kind of input.
    packed : dict
        The weights packed for the kernels of each kind of job, and the weights on each device.
    """

    def __init__(self, weight: np.ndarray, bias: np.ndarray | None) -> None:
        self.weight = np.array(weight, order="C")
        self.bias = None if bias is None else np.array(bias, order="C")
        self.ticket = next(_tickets)
        self.plans: dict[Any, Plan] = {}
        self.packed: dict[Any, Any] = {}

    def packed_for(self, template: Template, plan: Plan) -> np.ndarray:
        """Return the weights packed for a job; they are kept."""
        return packed_weights(template, self.weight, plan, self.packed)

    def flat_bias(self, plan: Plan) -> np.ndarray:
        """Return the bias as the kernels read it; it is kept."""
        key = "bias", plan.arithmetic
        if key not in self.packed:
            self.packed[key] = flat_bias(self.bias, plan)
        flat: np.ndarray = self.packed[key]
        return flat


_tickets: Iterator[int] = kept("tickets", itertools.count)


class PreparedConv:
    """A convolution with fixed weights, made by `prepare`; call it with an input.

    The layer has a copy of the weights. To change the array that `prepare` was given does not
    change the layer; `update` does. Several threads may call a layer at once. A layer can be
    pickled: the copy packs its weights at its first call.

    Parameters
    ----------
    weight, bias, options, backend, precision
        From `prepare`.
    """

    def __init__(
        self,
        weight: np.ndarray,
        bias: np.ndarray | None,
        options: Options,
        backend: str | None,
        precision: str | None = None,
    ) -> None:
        self._options = options
        self.backend = backend
        self.precision = precision
        self.update(weight, bias)

    def update(self, weight: np.ndarray, bias: np.ndarray | None = None) -> None:
        """Replace the weights and the bias; they are packed again at the next call.

        Calls that other threads have begun finish with the old weights.

        Parameters
        ----------
        weight : ndarray
            Shape ``(C_out, C_in/groups, *kernel)``.
        bias : ndarray, optional
            Shape (C_out,); None for no bias.

        Raises
        ------
        TypeError, ValueError
            If an array does not fit; the message names it.
        """
        weight = on_host("weight", weight)
        bias = None if bias is None else on_host("bias", bias)
        check_weight(weight)
        check_bias(bias, weight)
        self.weights = Weights(weight, bias)
        # Compiled callers read the ticket at an address that stays the same.
        self._ticket = getattr(self, "_ticket", np.zeros(1, np.int64))
        self.ticket_address = self._ticket.ctypes.data
        self._ticket[0] = self.weights.ticket

    def __call__(self, x: Any, out: Any = None, stream: Any = None) -> Any:
        """Convolve an input.

        Parameters
        ----------
        x : ndarray or array on a GPU
            As the input of `numbaconv.conv`. The first call with an array on a GPU copies the
            weights there, and they stay.
        out, stream : optional
            As in `numbaconv.conv`.

        Returns
        -------
        ndarray
            As `numbaconv.conv` returns.

        Raises
        ------
        TypeError, ValueError, BackendUnavailableError
            As `numbaconv.conv` raises.
        """
        if type(x) is not np.ndarray and is_foreign(x):
            return call_foreign(self, {"x": x, "out": out, "stream": stream})
        now = self.weights
        if not isinstance(x, np.ndarray) and is_on_device(x):
            return convolve_layer_on_device(
                x,
                now.weight,
                now.bias,
                out,
                self._options,
                now.packed,
                self.backend,
                stream,
                self.precision,
            )
        x, target = input_array("x", x), None if out is None else base_array("out", out)
        plan = self.plan(x, now)
        chosen = resolve(plan, self.backend, self.precision)
        weight, bias, packed = now.weight, now.bias, now.packed
        y = convolve(plan, chosen, x, weight, bias, target, packed, stream, self.precision)
        return y if out is None else out

    def by_blocks(self, given: dict[str, Any]) -> Convolution:
        """Describe a call for what cuts it into blocks."""
        return Convolution.of_layer(self, given)

    @property
    def options(self) -> Options:
        """What the layer was prepared with."""
        return self._options

    def padded(self, pairs: Pairs) -> "PreparedConv":
        """Return the layer with another padding, of zeros; what was packed is packed for both."""
        other = copy.copy(self)
        other._options = self._options._replace(padding=pairs, padding_mode="zeros")
        other.weights = copy.copy(self.weights)
        other.weights.plans = {}
        return other

    def plan(self, x: np.ndarray, now: Weights) -> Plan:
        """Return the plan for an input: an earlier call's, or one made now after validation."""
        key = (x.shape, x.dtype, x.flags.c_contiguous or x.strides)
        plan = now.plans.get(key)
        if plan is None:
            plan = find_plan(x, now.weight, now.bias, self._options)
            keep(now.plans, key, plan)
        return plan

    @property
    def dtypes(self) -> tuple[np.dtype, ...]:
        """Dtypes of the weights and, if there is one, of the bias."""
        now = self.weights
        return tuple(a.dtype for a in (now.weight, now.bias) if a is not None)

    def __getstate__(self) -> tuple[Any, ...]:
        now = self.weights
        return now.weight, now.bias, self._options, self.backend, self.precision

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        weight, bias, self._options, self.backend, self.precision = state
        self.update(weight, bias)

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self._options._asdict().items())
        weight = self.weights.weight
        return f"PreparedConv(weight {weight.shape} {weight.dtype}, {options})"


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
        Call it as ``layer(x)`` or ``layer(x, out=y)``; `update` gives it new weights.

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
    return PreparedConv(weight, bias, options, name, precision)
