"""Layers: fixed weights, what is kept of them from call to call, and the options of the calls."""

import copy
import functools
import itertools
from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np

from numbaconv.cpu.arrays import flat_bias
from numbaconv.dispatch.gpu import layer_on_device, on_host, refuse_add
from numbaconv.foreign import call_foreign, is_foreign
from numbaconv.problem.libraries import is_on_device
from numbaconv.problem.plan import AnyPlan, array_key, keep
from numbaconv.problem.validation import base_array, input_array
from numbaconv.runtime.shared_table import kept

_Layer = TypeVar("_Layer", bound="Layer")


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
    ready : dict
        What computes from each kind of array, in calls that have nothing else but `out`.
    """

    def __init__(self, weight: np.ndarray, bias: np.ndarray | None) -> None:
        self.weight = np.array(weight, order="C")
        self.bias = None if bias is None else np.array(bias, order="C")
        self.ticket = next(_tickets)
        self.plans: dict[Any, Any] = {}
        self.packed: dict[Any, Any] = {}
        self.ready: dict[Any, Any] = {}

    def flat_bias(self, plan: AnyPlan) -> np.ndarray:
        """Return the bias as the kernels read it; it is kept."""
        key = "bias", plan.arithmetic
        if key not in self.packed:
            self.packed[key] = flat_bias(self.bias, plan)
        flat: np.ndarray = self.packed[key]
        return flat


_tickets: Iterator[int] = kept("tickets", itertools.count)


class Layer:
    """What all prepared layers are."""

    is_transposed = False
    on_device: str  # the function of the cuda backend that runs its plans
    maker: str  # the public function that validates the options and makes such layers

    def __init__(self, *_: Any, **__: Any) -> None:
        raise TypeError(f"{type(self).__name__} is made by numbaconv.{self.maker}")

    @classmethod
    def made(
        cls: type[_Layer],
        weight: np.ndarray,
        bias: np.ndarray | None,
        options: Any,
        backend: str | None,
        precision: str | None = None,
    ) -> _Layer:
        """Return a layer.

        Parameters
        ----------
        weight, bias : ndarray
            What `update` takes.
        options : NamedTuple
            What each call says beside its arrays.
        backend, precision : str, optional
            Of all calls.
        """
        layer = cls.__new__(cls)
        layer.__setstate__((weight, bias, options, backend, precision))
        return layer

    def _check(self, weight: np.ndarray, bias: np.ndarray | None) -> None:
        """Refuse arrays that cannot be the weights and the bias of any such layer."""
        raise NotImplementedError

    def _find_plan(self, x: np.ndarray, now: Weights, add: np.ndarray | None = None) -> Any:
        """Return the plan for an input, and what is added to its sums."""
        raise NotImplementedError

    def _run(
        self,
        x: np.ndarray,
        now: Weights,
        out: np.ndarray | None,
        stream: Any,
        add: np.ndarray | None,
    ) -> Any:
        """Compute from an array in host memory."""
        raise NotImplementedError

    def _run_on_array(self, x: np.ndarray, now: Weights, out: np.ndarray | None) -> Any:
        """Compute from an array of NumPy, in a call that has nothing else but `out`."""
        return self._run(x, now, out, None, None)

    def __call__(self, x: Any, out: Any = None, stream: Any = None, *, add: Any = None) -> Any:
        """Apply the layer to an input.

        Parameters
        ----------
        x : ndarray or array on a GPU
            As the input of the function whose layer this is, `numbaconv.conv` or
            `numbaconv.conv_transpose2d`. The first call with an array on a GPU copies the weights
            there, and they stay.
        out, stream, add : optional
            As in that function.

        Returns
        -------
        ndarray
            As that function returns.

        Raises
        ------
        TypeError, ValueError, BackendUnavailableError
            As that function raises.
        """
        now = self.weights
        if type(x) is np.ndarray:
            if stream is None and add is None and (out is None or type(out) is np.ndarray):
                return self._run_on_array(x, now, out)
        elif is_foreign(x):
            return call_foreign(self, {"x": x, "out": out, "stream": stream, "add": add})
        if not isinstance(x, np.ndarray) and is_on_device(x):
            refuse_add(add)
            find = functools.partial(self._find_plan, now=now)
            where = self.backend, stream, self.precision
            arrays = x, now.weight, now.bias, out
            return layer_on_device(self.on_device, find, *arrays, now.packed, *where)
        x, target = input_array("x", x), None if out is None else base_array("out", out)
        r = None if add is None else input_array("add", add)
        y = self._run(x, now, target, stream, r)
        return y if out is None else out

    def update(self, weight: np.ndarray, bias: np.ndarray | None = None) -> None:
        """Replace the weights and the bias; they are packed again at the next call.

        Calls that other threads have begun finish with the old weights.

        Parameters
        ----------
        weight : ndarray
            Its axes are those of the weight that the layer was made with.
        bias : ndarray, optional
            Shape (C_out,); None for no bias.

        Raises
        ------
        TypeError, ValueError
            If an array does not fit; the message names it.
        """
        weight = on_host("weight", weight)
        bias = None if bias is None else on_host("bias", bias)
        self._check(weight, bias)
        self.weights = Weights(weight, bias)
        # Compiled callers read the ticket at an address that stays the same.
        self._ticket = getattr(self, "_ticket", np.zeros(1, np.int64))
        self.ticket_address = self._ticket.ctypes.data
        self._ticket[0] = self.weights.ticket

    @property
    def options(self) -> Any:
        """What the layer was prepared with."""
        return self._options

    def changed(self: _Layer, **options: Any) -> _Layer:
        """Return the layer with other options; what was packed is packed for both."""
        other = copy.copy(self)
        other._options = self._options._replace(**options)
        other.weights = copy.copy(self.weights)
        other.weights.plans, other.weights.ready = {}, {}
        return other

    def with_weights(
        self: _Layer, weight: np.ndarray, bias: np.ndarray | None, **options: Any
    ) -> _Layer:
        """Return a layer with other weights and some other options."""
        changed = self._options._replace(**options)
        return self.made(weight, bias, changed, self.backend, self.precision)

    def plan(self, x: np.ndarray, now: Weights, add: np.ndarray | None = None) -> Any:
        """Return the plan for an input: an earlier call's, or one made now after validation."""
        key = (x.shape, x.dtype, x.flags.c_contiguous or x.strides, array_key(add))
        plan = now.plans.get(key)
        if plan is None:
            plan = self._find_plan(x, now, add)
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
        return f"{type(self).__name__}(weight {weight.shape} {weight.dtype}, {options})"
