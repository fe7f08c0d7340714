"""Prepared layers: weights packed once, geometry kept for each shape of input."""

import itertools
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from numbaconv.arguments import (
    check_data_format,
    freeze,
    integer,
    padding_code,
    padding_pairs,
    per_axis,
)
from numbaconv.backends.cpu import Template
from numbaconv.conv import execute, packed_weights, resolve
from numbaconv.device import convolve_layer_on_device, find_precision, is_on_device, on_host
from numbaconv.dispatch import check_backend
from numbaconv.layout import flat_bias
from numbaconv.plan import Plan, check_activation, check_bias, check_weight, find_plan, keep

_tickets = itertools.count(1)
_layers: "WeakValueDictionary[int, PreparedConv]" = WeakValueDictionary()


class PreparedConv:
    """A convolution with fixed weights, made by `prepare`; call it with an input.

    The weights are a copy of what `prepare` was given: changing that array does not change the
    layer, `update` does. A layer may be called from several threads at once and can be pickled
    (the copy packs again on first use).

    Parameters
    ----------
    weight, bias, options, backend, precision
        From `prepare`.
    """

    def __init__(
        self,
        weight: np.ndarray,
        bias: np.ndarray | None,
        options: dict[str, Any],
        backend: str | None,
        precision: str | None = None,
    ) -> None:
        self._options = options
        self.backend = backend
        self._precision = precision
        self.update(weight, bias)

    def update(self, weight: np.ndarray, bias: np.ndarray | None = None) -> None:
        """Replace the weights and the bias; they are packed again at the next call.

        Not to be called while other threads call the layer.

        Parameters
        ----------
        weight : ndarray
            Shape (C_out, C_in/groups, *kernel).
        bias : ndarray, optional
            Shape (C_out,); None for no bias.

        Raises
        ------
        TypeError
            If one is not an array of a supported dtype.
        """
        weight, bias = on_host(weight), on_host(bias)
        check_weight(weight)
        check_bias(bias, weight)
        self._weight = np.array(weight, order="C")
        self._bias = None if bias is None else np.array(bias, order="C")
        self._plans: dict[Any, Plan] = {}
        self._packed: dict[Any, Any] = {}
        # Compiled callers know these weights by a number that is never used again, and find it
        # at an address that stays.
        self._ticket = getattr(self, "_ticket", np.zeros(1, np.int64))
        self.ticket_address = self._ticket.ctypes.data
        self._ticket[0] = ticket = next(_tickets)
        _layers[ticket] = self

    def __call__(self, x: Any, out: Any = None, stream: Any = None) -> Any:
        """Convolve an input.

        Parameters
        ----------
        x : ndarray or array on a GPU
            As the input of `numbaconv.conv`. The weights go to the GPU at the first such call, and
            stay there.
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
        if not isinstance(x, np.ndarray) and is_on_device(x):
            return convolve_layer_on_device(
                x,
                self._weight,
                self._bias,
                out,
                self._options,
                self._packed,
                self.backend,
                stream,
                self._precision,
            )
        plan = self.plan(x)
        name = resolve(plan, self.backend)
        weight, bias, packed = self._weight, self._bias, self._packed
        return execute(plan, name, x, weight, bias, out, packed, stream, self._precision)

    def plan(self, x: Any) -> Plan:
        """Return the plan for an input, kept from an earlier call or made after validation."""
        if not isinstance(x, np.ndarray):
            raise TypeError(f"x must be a numpy.ndarray, got {type(x).__name__}")
        key = (x.shape, x.dtype, x.flags.c_contiguous or x.strides)
        plan = self._plans.get(key)
        if plan is None:
            plan = find_plan(x, self._weight, self._bias, **self._options)
            keep(self._plans, key, plan)
        return plan

    def packed_weights(self, template: Template, plan: Plan) -> np.ndarray:
        """Return the weights packed for a job; the layer keeps them."""
        return packed_weights(template, self._weight, plan, self._packed)

    def flat_bias(self, plan: Plan) -> np.ndarray:
        """Return the bias as the kernels read it; the layer keeps it."""
        key = "bias", plan.arithmetic
        if key not in self._packed:
            self._packed[key] = flat_bias(self._bias, plan)
        flat: np.ndarray = self._packed[key]
        return flat

    @property
    def dtypes(self) -> tuple[np.dtype, ...]:
        """Dtypes of the weights and, if there is one, of the bias."""
        return tuple(a.dtype for a in (self._weight, self._bias) if a is not None)

    def __getstate__(self) -> tuple[Any, ...]:
        return self._weight, self._bias, self._options, self.backend, self._precision

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        weight, bias, self._options, self.backend, self._precision = state
        self.update(weight, bias)

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self._options.items())
        return f"PreparedConv(weight {self._weight.shape} {self._weight.dtype}, {options})"


def layer_of_ticket(number: int) -> PreparedConv:
    """Return the layer that a compiled caller has."""
    return _layers[number]


def prepare(
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    data_format: str = "channels_first",
    activation: str | None = None,
    backend: str | None = None,
    precision: str | None = None,
) -> PreparedConv:
    """Fix the weights of a convolution: they are packed once, not on every call.

    Parameters
    ----------
    weight, bias, stride, padding, dilation, groups
        As in `conv`.
    padding_mode, data_format, activation
        As in `conv`.
    backend : {"auto", "direct", "im2col", "cuda"}, optional
        Backend of all calls; by default each call is dispatched as `conv` would be.
    precision : {"ieee", "tf32"}, optional
        As in `conv`.

    Returns
    -------
    PreparedConv
        Call it as ``layer(x)`` or ``layer(x, out=y)``.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; what depends on the input's shape is checked at the call.

    Examples
    --------
    >>> import numpy as np
    >>> import numbaconv as nc
    >>> layer = nc.prepare(np.ones((8, 3, 3, 3), np.float32), padding=1, activation="relu")
    >>> layer(np.ones((1, 3, 32, 32), np.float32)).shape
    (1, 8, 32, 32)
    """
    options = {
        "stride": freeze("stride", stride),
        "padding": freeze("padding", padding),
        "dilation": freeze("dilation", dilation),
        "groups": freeze("groups", groups),
        "padding_mode": padding_mode,
        "data_format": data_format,
        "activation": activation,
    }
    check_data_format(data_format)
    padding_code(padding_mode)
    check_activation(activation)
    find_precision(precision)
    check_weight(weight := on_host(weight))
    rank = weight.ndim - 2
    ones = (1,) * rank
    padding_pairs(padding, ones, ones, ones, ones)
    per_axis("stride", stride, rank)
    per_axis("dilation", dilation, rank)
    if weight.shape[0] % integer("groups", groups, 1):
        raise ValueError(
            f"groups = {groups} does not divide the {weight.shape[0]} output channels of weight"
        )
    name = None if backend is None else check_backend(backend, "backend")
    return PreparedConv(weight, bias, options, name, precision)
