"""Planned gradients and transposed convolutions: their kernels, and the arrays of a call.

The gradient of an input, and a transposed convolution, are convolutions of stride 1: one for each
phase of the stride (`numbaconv.problem.phases`), which stores every stride-th element of the
result. The gradient of a weight is one product, with sums over the pixels
(`convolution.WeightGradient`).
"""

import functools
from typing import Any

import numpy as np

from numbaconv.cuda import memory
from numbaconv.cuda.convolution import Convolution, WeightGradient, refuse, storage
from numbaconv.cuda.sides import (
    Form,
    Host,
    Side,
    canonical,
    choose_side,
    prepare_bias,
    prepare_input,
    weight_rows,
)
from numbaconv.cuda.streams import LEGACY_STREAM, stream_of
from numbaconv.cuda.toolkit import Device, device
from numbaconv.cuda.workspace import Workspace
from numbaconv.problem.activations import NONE
from numbaconv.problem.dtypes import Arithmetic
from numbaconv.problem.forward import memory_strides
from numbaconv.problem.phases import Phase
from numbaconv.problem.plan import AdjointPlan, WeightPlan
from numbaconv.problem.shape import ZEROS, ConvShape


class Adjoint:
    """The adjoint of a convolution on one device.

    Parameters
    ----------
    plan : AdjointPlan
        The plan of the call.
    precision, where
        As in `convolution.Work`.
    """

    def __init__(self, plan: AdjointPlan, precision: str, where: Device) -> None:
        refuse(plan.shape, precision, where)
        self.plan, self.storage, self.device = plan, storage(plan.result), where
        self.phases = [
            (phase, Convolution(phase.shape, self.storage, precision, where, plan.activation))
            for phase in (plan.phases if plan.multiply_adds else ())
        ]
        # Elements that nothing was read from, and everything where there is nothing to multiply.
        self.has_gaps = plan.has_gaps or not self.phases
        activates = self.has_gaps and plan.activation != NONE
        self.alone = _bias_alone(plan, self.storage, precision, where) if activates else None
        self.sum = np.dtype("float32") if plan.result == np.float16 else self.storage.compute
        zeros = memory.upload(np.zeros(plan.channels, self.sum))
        self.no_bias = memory.shadow("bias", zeros)[: plan.channels]
        memory.settle()

    def run(
        self,
        x: np.ndarray,
        weights: list[np.ndarray],
        bias: Any,
        y: np.ndarray,
        workspace: Workspace,
    ) -> None:
        """Compute from shadows of dense arrays into one; without a bias it is None."""
        if self.has_gaps:
            every = self.no_bias if bias is None else bias
            if self.alone is not None:
                every = workspace.buffer("bias alone", every.size, y.dtype)
                count = self.alone.rows * self.alone.pitch  # at least as many as channels
                zeros = workspace.buffer("zeros", count, y.dtype, clear=True)
                self.alone.run(zeros, zeros, bias, every, workspace)
            result, each = self.plan.by_channel
            target = y.reshape(result)
            source = np.broadcast_to(every.reshape(each), target.shape)
            memory.move(target, source, workspace.stream)
        flat = y.reshape(-1)
        for (phase, conv), w in zip(self.phases, weights, strict=True):
            conv.run(x, w, bias, flat[phase.origin :], workspace)


def _bias_alone(plan: AdjointPlan, how: Arithmetic, precision: str, where: Device) -> Convolution:
    """Return the convolution of single zeros, which stores the bias, activated."""
    one, channels = (1, 1, 1), plan.channels
    steps = memory_strides(channels, one, False)
    pointwise = (one, one, one, one, (0, 0, 0), one, (ZEROS,) * 3)
    s = ConvShape(1, channels, 1, 1, *pointwise, steps, steps)
    return Convolution(s, how, precision, where, plan.activation)


def taps_of_phase(w: np.ndarray, phase: Phase) -> np.ndarray:
    """View weights (C_out, C_in, *kernel) as the (groups, C_in, C_out, *taps) of a phase."""
    groups = phase.shape.groups
    w = w[(slice(None), slice(None), *(None,) * (5 - w.ndim))]
    w = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    taps = (slice(first, None, apart) for first, apart in zip(phase.taps, phase.apart, strict=True))
    return w[(slice(None),) * 3 + tuple(taps)][..., ::-1, ::-1, ::-1].swapaxes(1, 2)


def prepare_phase(
    side: Side, w: np.ndarray, number: int, form: tuple[Phase, Convolution], conjugate: bool
) -> np.ndarray:
    """Return the weights of phase `number` as its convolution takes them, on the device."""
    rows = lay_out_phase(side, w, number, form, conjugate)
    return form[1].finish_weight(rows, f"weight {number} at the points", side.workspace)


def lay_out_phase(
    side: Side, w: np.ndarray, number: int, form: tuple[Phase, Convolution], conjugate: bool
) -> np.ndarray:
    """Return the weights of phase `number` in rows of its pitch, dense on the device."""
    phase, conv = form
    how, s = conv.storage, conv.shape
    complex_weight = w.dtype.kind == "c"
    dtype = how.compute if how.is_complex else how.convert
    clear = conv.pitch != s.c_in * s.taps or (how.is_complex and not complex_weight)
    flat = side.buffer(f"weight {number}", conv.rows * conv.pitch, dtype, clear)
    target, taps = weight_rows(flat, conv, s.kernel), taps_of_phase(w, phase)
    copy = functools.partial(side.copy, rounded=conv.rounded)
    if not how.is_complex:
        copy(target.reshape(s.groups, s.c_out, s.c_in, *s.kernel), taps)
        return side.on_device(flat)
    parts = target.reshape(s.groups, s.c_out // 2, 2, s.c_in // 2, 2, *s.kernel)
    copy(parts[:, :, 0, :, 0], taps.real)
    copy(parts[:, :, 1, :, 1], taps.real)
    if complex_weight:
        copy(parts[:, :, 0, :, 1], taps.imag, negate=not conjugate)
        copy(parts[:, :, 1, :, 0], taps.imag, negate=conjugate)
    return side.on_device(flat)


def prepare_weights(side: Side, arrays: dict[str, Any], adjoint: Adjoint) -> tuple[Any, Any]:
    """Return the weights of each phase, and the bias, as the kernels read them, on the device."""
    conjugates = adjoint.plan.is_gradient
    weights = [
        prepare_phase(side, arrays["weight"], number, form, conjugates)
        for number, form in enumerate(adjoint.phases)
    ]
    bias = arrays["bias"]
    b = None if bias is None else prepare_bias(side, bias, adjoint.storage, adjoint.sum)
    return weights, b


def kept_weights(arrays: dict[str, Any], adjoint: Adjoint, kept: dict[Any, Any]) -> Any:
    """Return the same of a layer, put on the device now if they were not."""
    forms = tuple(
        (phase.taps, phase.apart, phase.shape.kernel, *conv.weight_form)
        for phase, conv in adjoint.phases
    )
    key = ("cuda", adjoint.device, adjoint.storage, forms)
    if key not in kept:
        side = Host(Workspace(stream_of(LEGACY_STREAM)))
        kept[key] = prepare_weights(side, arrays, adjoint)
        memory.settle()  # whatever stream the next call is on
    return kept[key]


def apply_adjoint(
    plan: AdjointPlan,
    arrays: dict[str, Any],
    out: Any,
    precision: str,
    workspace: Workspace,
    on_device: bool,
    kept: dict[Any, Any] | None = None,
) -> Any:
    """Run a planned adjoint.

    Parameters
    ----------
    plan : AdjointPlan
        The plan of the call.
    arrays : dict
        "input" (of the shape of the convolution's output), "weight" and "bias": NumPy arrays or, if
        `on_device`, shadows of device arrays.
    out : ndarray, shadow or None
        Where the result goes; if None, a new array on the side of the arrays is returned.
    precision, workspace, on_device
        As in `execution.execute`.
    kept : dict, optional
        Where a prepared layer keeps its weights, which are NumPy arrays on either side.
    """
    key = (device(), precision)
    found = plan.on_devices.get(key)
    if found is None:
        found = plan.on_devices[key] = Adjoint(plan, precision, device())
    side, how, layout = choose_side(on_device, workspace), found.storage, plan.layout
    images = canonical(arrays["input"], plan.batched, layout.channels_last)
    x = prepare_input(side, images, how, layout.memory_last)
    if kept is None:
        weights, b = prepare_weights(side, arrays, found)
    else:
        weights, b = kept_weights(arrays, found, kept)
    form = Form(plan.out_shape, plan.result, plan.batched, layout.channels_last)
    return side.deliver(form, how, lambda y: found.run(x, weights, b, y, workspace), out)


def real_problem(s: ConvShape) -> ConvShape:
    """Return the real convolution whose weight gradient is that of complex numbers.

    `s` has two real channels for each complex one. A complex product is the sum of two real ones,
    so that each image becomes two: the real parts g of the output's gradient go with the parts
    (x, -y) of the input, the imaginary ones with (y, x), and what comes out is both parts.
    """
    c_out = s.c_out // 2
    strides = memory_strides(s.groups * c_out, s.output, False)
    return s._replace(n=2 * s.n, c_out=c_out, out_strides=strides)


def real_operands(side: Side, x: np.ndarray, g: np.ndarray, how: Arithmetic) -> Any:
    """Return the operands of `real_problem`, flat on the device."""
    n, c_in, *size = x.shape
    inputs = side.buffer("input", 4 * x.size, how.compute, clear=x.dtype.kind != "c")
    parts = inputs.reshape(n, 2, c_in, 2, *size)
    side.copy(parts[:, 0, :, 0], x.real)
    side.copy(parts[:, 1, :, 1], x.real)
    if x.dtype.kind == "c":
        side.copy(parts[:, 0, :, 1], x.imag, negate=True)
        side.copy(parts[:, 1, :, 0], x.imag)
    gradients = side.buffer("gradient", 2 * g.size, how.compute, clear=g.dtype.kind != "c")
    halves = gradients.reshape(n, 2, *g.shape[1:])
    side.copy(halves[:, 0], g.real)
    if g.dtype.kind == "c":
        side.copy(halves[:, 1], g.imag)
    return side.on_device(inputs), side.on_device(gradients)


def weight_gradient(
    plan: WeightPlan, arrays: dict[str, Any], precision: str, workspace: Workspace, on_device: bool
) -> Any:
    """Run a planned gradient of weights.

    Parameters
    ----------
    plan : WeightPlan
        The plan of the call.
    arrays : dict
        "input" and "grad_output": NumPy arrays or, if `on_device`, shadows of device arrays.
    precision, workspace, on_device
        As in `execution.execute`.
    """
    how = storage(plan.result)
    side = choose_side(on_device, workspace)
    form = Form(plan.out_shape, plan.result)
    if not plan.multiply_adds:
        return side.deliver(form, how, lambda y: memory.clear(y, workspace.stream), None)
    key = (device(), precision)
    found = plan.on_devices.get(key)
    if found is None:
        s = real_problem(plan.shape) if how.is_complex else plan.shape
        found = plan.on_devices[key] = WeightGradient(s, how, precision, device())
    x, g = (canonical(arrays[name], plan.batched, False) for name in ("input", "grad_output"))
    if how.is_complex:
        x, g = real_operands(side, x, g, how)
    else:
        x, g = prepare_input(side, x, how), prepare_input(side, g, how, name="gradient")
    return side.deliver(form, how, lambda y: found.run(x, g, None, y, workspace), None)
