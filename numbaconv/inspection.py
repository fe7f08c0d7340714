"""`explain` says what a call would do; `show_config` says where it would run."""

import platform
from typing import Any, NamedTuple

import llvmlite
import numba
import numpy as np

from numbaconv._version import __version__
from numbaconv.codegen import archives
from numbaconv.codegen.cache import cache_directory
from numbaconv.codegen.machines import machine
from numbaconv.codegen.objects import origins
from numbaconv.codegen.target import REGISTERS, VECTOR_BYTES
from numbaconv.cpu.blocking import TILE_ROWS, TILE_VECTORS
from numbaconv.cpu.direct.cost import costs
from numbaconv.cpu.execution import find_lowering
from numbaconv.cpu.gradients.adjoint import join_parts
from numbaconv.dispatch.backends import (
    AUTO,
    BACKENDS,
    CUDA,
    load_backend,
    requested_backend,
)
from numbaconv.dispatch.choice import Choice, choose, serving
from numbaconv.dispatch.gpu import Call, plan_on_device, refuse_on_cpu
from numbaconv.dispatch.gradients import (
    choose_parts,
    choose_weight_gradient,
    engines_of_parts,
    parts_for,
)
from numbaconv.dispatch.precision import find_precision
from numbaconv.errors import BackendUnavailableError
from numbaconv.problem.backward import check_transposed_weight
from numbaconv.problem.forward import check_weight
from numbaconv.problem.libraries import is_on_device, read_array
from numbaconv.problem.plan import (
    AdjointPlan,
    Options,
    Plan,
    WeightPlan,
    find_input_plan,
    find_plan,
    find_transposed_plan,
    find_weight_plan,
)
from numbaconv.problem.shape import CONSTANT, PADDING_MODES, ZEROS, ConvShape
from numbaconv.problem.validation import input_array
from numbaconv.runtime.threads import thread_limit


def _padding_words(s: ConvShape) -> str:
    """What the padding is: one word where all padded axes have the same."""
    axes = zip(s.padding, s.padding_mode, strict=True)
    padded = (before > 0 or mode != ZEROS for before, mode in axes)
    words = ["a constant" if mode == CONSTANT else PADDING_MODES[mode] for mode in s.padding_mode]
    used = {word for word, is_padded in zip(words, padded, strict=True) if is_padded}
    return ", ".join(words) if len(used) > 1 else min(used, default=PADDING_MODES[ZEROS])


class Explanation(NamedTuple):
    """What a call would do; ``str()`` puts it in words.

    Attributes
    ----------
    backend : str
        The backend that would run.
    source : str
        Where the choice comes from.
    reason : str
        Why this backend.
    lowering : str or None
        Which of the backend's algorithms: the module that computes it; on a GPU which kernel, and
        the predicted share of the peak. None where there is nothing to multiply, and on the CPU for
        gradients of weights.
    shape : ConvShape
        The problem as the kernels see it.
    out_shape : tuple of int
        Shape of the result.
    dtype : dtype
        Dtype of the result.
    cycles : dict of str to float or None
        Of ``direct``: the lowerings that were compared, the chosen one first, and the cycles that
        each is predicted to take on one thread. None where there was nothing to compare.
    """

    backend: str
    source: str
    reason: str
    lowering: str | None
    shape: ConvShape
    out_shape: tuple[int, ...]
    dtype: np.dtype
    cycles: dict[str, float] | None = None

    def __str__(self) -> str:
        s = self.shape
        m, n, k = s.gemm
        compared = ", ".join(f"{name} {count:.3g}" for name, count in (self.cycles or {}).items())
        return "\n".join(
            (
                f"backend   {self.backend}, from {self.source}",
                f"reason    {self.reason}",
                f"lowering  {self.lowering or 'none'}",
                *([f"cycles    {compared}, predicted"] if compared else []),
                f"result    {self.out_shape} {self.dtype}",
                f"input     {s.n} x {s.groups * s.c_in} channels, size {s.size}",
                f"kernel    {s.kernel}, stride {s.stride}, dilation {s.dilation}",
                f"groups    {s.groups}",
                f"padding   {s.padding} before, {_padding_words(s)}",
                f"product   {s.groups} x (M {m}, N {n}, K {k}), {s.flops / 1e9:.4g} GFLOP",
            )
        )


def explain(
    input: Any,
    weight: Any,
    bias: Any = None,
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
    out: Any = None,
    backend: str | None = None,
    stream: Any = None,
    precision: str | None = None,
    of: str = "forward",
    output_padding: Any = 0,
) -> Explanation:
    """Say which backend a call of `conv` would use, why, and the geometry of the problem.

    Parameters
    ----------
    input, weight, bias, stride, padding, dilation, groups
        As in `conv`, or in `conv_transpose2d`.
    padding_mode, padding_value, data_format, activation, out_dtype, out, backend, stream, precision
        As in `conv`. Nothing is computed, and `out` is not touched.
    of : {"forward", "transposed", "input", "weight"}
        What is explained: the convolution; the transposed convolution of `input`; the gradient of
        the convolution with respect to its input, or to its weights. Gradients have no
        `data_format` and no `activation`.
    output_padding
        Of a transposed convolution.

    Returns
    -------
    Explanation
        Print it, or read its attributes.

    Raises
    ------
    TypeError, ValueError, BackendUnavailableError
        As `conv` would raise.

    Examples
    --------
    >>> import numpy as np
    >>> import numbaconv as nc
    >>> choice = nc.explain(np.ones((1, 3, 32, 32)), np.ones((8, 3, 3, 3)), backend="im2col")
    >>> choice.backend, choice.source, choice.out_shape
    ('im2col', 'the argument backend=', (1, 8, 30, 30))
    """
    words = padding_mode, data_format, activation, padding_value, out_dtype
    options = stride, padding, dilation, groups, *words
    given = {"input": input, "weight": weight, "bias": bias}
    if of != "forward":
        arrays = {name: read_array(name, array) for name, array in given.items()}
        call = Call(arrays, backend, stream, precision)
        named = Options(*options)
        return _explain_backward(of, call, named, output_padding, backend, precision)
    if not isinstance(input, np.ndarray) and is_on_device(input):
        plan = plan_on_device(given, options, backend)[2]
        source = requested_backend(backend)[1]
        reason, how = "the arrays are on a GPU", _on_gpu(plan, precision)
        return Explanation(CUDA, source, reason, how, plan.shape, plan.out_shape, plan.result)
    plan = find_plan(
        input_array("input", read_array("input", input)),
        input_array("weight", read_array("weight", weight)),
        None if bias is None else input_array("bias", read_array("bias", bias)),
        options,
    )
    return _explain_convolution(plan, backend, stream, precision)


def _explain_convolution(
    plan: Plan, backend: str | None, stream: Any, precision: str | None
) -> Explanation:
    """Say the same of a planned convolution of arrays in host memory."""
    name, source = requested_backend(backend)
    if name != AUTO:
        load_backend(name, source)
        name, reason = serving(plan.simplest, plan.arithmetic.compute, name)
    else:
        (name, reason), source = choose(plan, precision), f"auto, {source}"
    lowering = cycles = None
    if name != CUDA:
        refuse_on_cpu(name, stream, precision)
        if plan.multiply_adds:
            lowering = find_lowering(plan, BACKENDS[name]).name
            cycles = _compared(plan) if name == "direct" else None
    else:
        lowering = _on_gpu(plan, precision)
    result = plan.shape, plan.out_shape, plan.result
    return Explanation(name, source, reason, lowering, *result, cycles)


def _compared(plan: Plan) -> dict[str, float] | None:
    """Return what the lowerings that `direct` compares are predicted to take, the least first."""
    s = plan.simplest
    found = costs(s, VECTOR_BYTES // plan.arithmetic.compute.itemsize)
    rows = s.n * s.groups * s.output[0] * s.output[1]
    cycles = {name: rows * found[name] for name in sorted(found, key=found.__getitem__)}
    return cycles if len(cycles) > 1 else None


def _on_gpu(plan: Plan | AdjointPlan | WeightPlan, precision: str | None) -> str | None:
    """Say which kernel of the cuda backend would run a plan."""
    words: str | None = BACKENDS[CUDA].describe(plan, find_precision(precision))
    return words


def _backward_plan(
    of: str, arrays: dict[str, Any], options: Options, output_padding: Any
) -> AdjointPlan | WeightPlan:
    """Return the plan of what `explain` is asked about."""
    shared = "data_format", "activation"  # with transposed convolutions
    own = "padding_mode", "padding_value", "out_dtype"
    for name in own if of == "transposed" else (*own, *shared):
        if getattr(options, name) != Options._field_defaults[name]:
            where = "of='forward'" + " and of='transposed'" * (name in shared)
            raise ValueError(f"{name} is for {where}, got {getattr(options, name)!r}")
    x, weight, bias = arrays.values()
    (check_transposed_weight if of == "transposed" else check_weight)(weight)
    rank, (stride, padding, dilation, groups, _, *words) = weight.ndim - 2, options
    if of == "transposed":
        transposed = stride, padding, output_padding, groups, dilation, *words[:2]
        return find_transposed_plan(rank, x, weight, bias, transposed)
    forward = find_plan(x, weight, bias, options)
    gradient = np.broadcast_to(np.zeros((), forward.result), forward.out_shape)
    if of == "input":
        return find_input_plan(rank, x.shape, weight, gradient, *options[:4])
    return find_weight_plan(rank, x, weight.shape, gradient, *options[:4])


def _explain_backward(
    of: str,
    call: Call,
    options: Options,
    output_padding: Any,
    backend: str | None,
    precision: str | None,
) -> Explanation:
    """Say the same of a transposed convolution or a gradient."""
    if of not in ("transposed", "input", "weight"):
        raise ValueError(f"of must be forward, transposed, input or weight; got {of!r}")
    plan = _backward_plan(of, call.arrays, options, output_padding)
    name, source = call.cpu_backend(), requested_backend(backend)[1]
    if name == AUTO:
        source = f"auto, {source}"
    choice, lowering = Choice(CUDA, "the arrays are on a GPU, or it was asked for"), None
    if name is not None and isinstance(plan, AdjointPlan):
        choice, lowering = _main_part(plan, name, precision)
    elif name is not None and isinstance(plan, WeightPlan):
        choice = choose_weight_gradient(plan, name)
    elif name is None:
        lowering = _on_gpu(plan, precision)
    chosen, reason = choice
    return Explanation(chosen, source, reason, lowering, plan.shape, plan.out_shape, plan.result)


def _main_part(plan: AdjointPlan, name: str, precision: str | None) -> tuple[Choice, str | None]:
    """Return which backend runs most of an adjoint, and how."""
    parts, threads = parts_for(plan, name), thread_limit(plan.multiply_adds)
    if not parts:
        return Choice("direct", "there is nothing to multiply"), None
    choices = choose_parts(plan, name, precision)
    main = max(range(len(parts)), key=lambda i: parts[i].shape.flops)
    backend, reason = choices[main]
    alike = sum(choice.backend == backend for choice in choices)
    joined, engines = join_parts(plan, engines_of_parts(plan, name, precision), threads)
    made_of = f"{alike} of {len(parts)} convolutions of stride 1 that it is made of"
    if joined[0].folded:
        made_of = "one product for all taps, whose results are added where they belong"
    reason = f"{reason} ({made_of})"
    main = main if len(joined) == len(parts) else 0
    lowering = engines[main].lower(joined[main].shape, plan.arithmetic.compute, threads).name
    return Choice(backend, reason), lowering


def _threading_layer() -> str:
    try:
        return str(numba.threading_layer())
    except ValueError:
        return f"{numba.config.THREADING_LAYER} (not started yet)"


def _backend_state(name: str) -> str:
    try:
        load_backend(name)
    except BackendUnavailableError as error:
        return str(error)
    return "available"


def _cache_state() -> str:
    try:
        return str(cache_directory())
    except OSError as reason:
        return f"none: {reason}"


def _kernels_in_use() -> str:
    return ", ".join(f"{n} {origin}" for origin, n in sorted(origins.items())) or "none yet"


def configuration() -> dict[str, str]:
    """Return what `show_config` prints, as a dict."""
    name, source = requested_backend()
    return {
        "numbaconv": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "numpy": np.__version__,
        "cpu target": machine().cpu,
        "vector": f"{VECTOR_BYTES} bytes ({VECTOR_BYTES // 4} lanes of float32), "
        f"{REGISTERS} registers",
        "register block": f"{TILE_ROWS} x {TILE_VECTORS} vectors",
        "threads": f"{numba.get_num_threads()} of {numba.config.NUMBA_NUM_THREADS}",
        "threading layer": _threading_layer(),
        "jit": "disabled" if numba.config.DISABLE_JIT else "enabled",
        "kernels built ahead": archives.state(),
        "cache": _cache_state(),
        "kernels in use": _kernels_in_use(),
        "backend asked for": f"{name}, from {source}",
        **{f"backend {name}": _backend_state(name) for name in BACKENDS},
        **BACKENDS[CUDA].configuration(),
    }


def show_config() -> None:
    """Print versions, the CPU target, threads and backends: what a bug report needs."""
    for key, value in configuration().items():
        print(f"{key:19} {value}")
