"""From the arguments of a call to a plan: validated, described as a ConvShape, ready to run.

Validation and planning cost tens of microseconds and depend on shapes, dtypes and options only,
so the plan is kept for the next call with the same ones. A plan is values: engines and backends
keep in it what they make of it (`jobs`, `on_devices`, `choice`), and it knows nothing of them.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from numbaconv.problem.activations import ACTIVATIONS, NONE
from numbaconv.problem.backward import (
    input_gradient_problem,
    transposed_problem,
    weight_gradient_problem,
)
from numbaconv.problem.dtypes import (
    Arithmetic,
    arithmetic,
    in_single,
    largest_of,
    promoted,
    source_of,
)
from numbaconv.problem.forward import (
    Problem,
    check_activation,
    check_add,
    check_bias,
    check_weight,
    describe,
)
from numbaconv.problem.layout import CHANNELS_FIRST, Layout, input_layout
from numbaconv.problem.out_dtype import frozen_dtype, sums_dtype
from numbaconv.problem.padding_value import constant_parts, frozen_value
from numbaconv.problem.phases import find_phases
from numbaconv.problem.shape import CONSTANT, EXACT, ZEROS
from numbaconv.problem.simplest import covered_map, simplest, with_fewest_axes
from numbaconv.problem.validation import (
    check_array,
    check_data_format,
    freeze,
    is_sequence,
    padding_codes,
    plain_modes,
    plain_word,
)

_MOST_PLANS = 1024

# Shapes of a flat output and of its bias, as they are broadcast together.
ByChannel = tuple[tuple[int, ...], tuple[int, ...]]


class Plan:
    """What a call needs beside its data, for one set of shapes, dtypes and options.

    Attributes
    ----------
    shape, simplest : ConvShape
        The problem; its simplest form, which the CPU engines see.
    out_shape : tuple of int
        Shape of the result.
    result : dtype
        Dtype of the result.
    arithmetic : Arithmetic
        In which dtype it is computed.
    sums : dtype
        What the sums are: of `result`, unless they are converted as they are stored.
    source : dtype or None
        Dtype of the input, if kernels convert its elements as they copy them.
    outside : ndarray
        What padding of zeros consists of: see `job.Header.outside`.
    adds : bool
        Whether an array is added to the sums.
    layout, layout_agrees : Layout, bool
        Order of the axes for the caller and in memory; whether they are the same.
    batched : bool
        Whether the input has an axis for the batch.
    choice, fast_choice : Choice or None
        What ``auto`` takes, once it was asked; the latter under ``precision="fast"``.
    by_channel : tuple of 2 tuple of int
        Shapes of the flat output and of the bias, as they are broadcast together.
    jobs, on_devices : dict
        What the CPU engines and the cuda backend keep of it.
    """

    def __init__(
        self,
        problem: Problem,
        result: np.dtype,
        sums: np.dtype,
        how: Arithmetic,
        layout: Layout,
        activation: int,
        source: np.dtype | None,
        outside: np.ndarray,
        adds: bool,
    ) -> None:
        self.shape, self.out_shape = problem.shape, problem.out_shape
        self.simplest = simplest(problem.shape)
        self.result, self.sums = result, sums
        self.arithmetic = how
        self.source, self.outside, self.adds = source, outside, adds
        self.layout = layout
        self.layout_agrees = layout.channels_last == layout.memory_last
        self.batched = problem.batched
        self.activation = activation
        self.choice: Any = None
        self.fast_choice: Any = None
        self.multiply_adds = self.shape.flops // 2
        self.channels = self.shape.groups * self.shape.c_out
        self.out_size = self.shape.n * self.channels * self.shape.pixels
        s = self.shape
        self.by_channel = _by_channel(s.n, self.channels, s.pixels, s.out_strides)
        self.no_bias = np.zeros(self.channels, self.arithmetic.compute)
        self.not_packed = np.empty(0, self.arithmetic.compute)
        self.jobs: dict[Any, Any] = {}
        self.on_devices: dict[Any, Any] = {}

    @property
    def converts_sums(self) -> bool:
        """Whether sums are converted to real numbers of another dtype as they are stored."""
        other = self.sums != self.result or self.shape.converts == EXACT
        return other and not self.arithmetic.is_complex


_plans: dict[Any, Plan] = {}
_adjoint_plans: dict[Any, Any] = {}


def keep(plans: dict[Any, Any], key: Any, plan: Any) -> None:
    """Keep a plan for the next call; memory must not grow with every new shape."""
    if len(plans) >= _MOST_PLANS:
        plans.clear()
    plans[key] = plan


def _by_channel(n: int, channels: int, pixels: int, strides: tuple[int, ...]) -> ByChannel:
    if strides[1] == 1 and strides[4] != 1:  # channels last
        return (n * pixels, channels), (channels,)
    return (n, channels, pixels), (channels, 1)


class Options(NamedTuple):
    """What a call of `conv` says beside its arrays, as the caller gave it."""

    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: Any = 1
    padding_mode: Any = "zeros"
    data_format: Any = "channels_first"
    activation: Any = None
    padding_value: Any = 0.0
    out_dtype: Any = None


class TransposedOptions(NamedTuple):
    """What a call of `conv_transpose` says beside its arrays, as the caller gave it."""

    stride: Any = 1
    padding: Any = 0
    output_padding: Any = 0
    groups: Any = 1
    dilation: Any = 1
    data_format: Any = "channels_first"
    activation: Any = None


def frozen(options: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the fields of `Options`, each read once, as values that can be part of a key.

    Read twice, an option may give two answers: a list that another thread changes, or an object
    with an ``__index__`` of its own.
    """
    stride, padding, dilation, groups, padding_mode, data_format, activation = options[:7]
    value, out_dtype = options[7:]
    if (
        type(stride) is type(padding) is type(dilation) is type(groups) is int
        and type(padding_mode) is type(data_format) is str
        and (activation is None or type(activation) is str)
        and type(value) is float
        and value == value
        and out_dtype is None
    ):
        return options
    if type(padding_mode) is not str:
        padding_mode = plain_modes(padding_mode)
    if type(data_format) is not str:
        check_data_format(data_format := plain_word(data_format))
    if activation is not None and type(activation) is not str:
        check_activation(activation := plain_word(activation))
    names = Options._fields[:4]
    numbers = (freeze(name, value) for name, value in zip(names, options[:4], strict=True))
    last = frozen_value(value), frozen_dtype(out_dtype)
    return *numbers, padding_mode, data_format, activation, *last


def _new_plan(
    input: Any, weight: Any, bias: Any, options: Options, layout: Layout, add: Any
) -> Plan:
    check_array("input", input)
    check_weight(weight)
    check_data_format(options.data_format)
    check_bias(bias, weight)
    promotes_to = result_dtype(input=input, weight=weight, bias=bias)
    result, sums = promotes_to, promotes_to
    if options.out_dtype is not None:
        result, sums = options.out_dtype, sums_dtype(promotes_to, options.out_dtype)
    activation = _activation_code(options.activation, sums)
    modes = padding_codes(options.padding_mode, weight.ndim - 2)
    value, said = options.padding_value, options.padding_mode
    how = arithmetic(sums)
    if sums.kind in "iu" and not isinstance(value, complex) and math.isfinite(value):
        how = in_single(how, _largest_sum(input, weight, value, bias, add))
    outside = constant_parts(value, modes, said, how, sums)
    problem = describe(
        input.shape,
        weight.shape,
        *options[:5],
        layout,
        parts=2 if how.is_complex else 1,
        zeros=ZEROS if value == 0 else CONSTANT,
    )
    check_add(add, problem.out_shape, sums)
    source = source_of(how, input.dtype)
    if source is not None:
        exact = sums.kind in "iu" and how.compute.kind == "f"
        shape = problem.shape._replace(converts=EXACT if exact else 1)
        problem = problem._replace(shape=shape)
    adds = add is not None
    return Plan(problem, result, sums, how, layout, activation, source, outside, adds)


def _largest_sum(input: Any, weight: Any, value: float, *added: Any) -> int:
    """Return what no sum of products of integers exceeds, for a value of the padding."""
    read = max(largest_of(input.dtype), abs(int(value)))
    terms = int(math.prod(weight.shape[1:]))
    rest = sum(largest_of(array.dtype) for array in added if array is not None)
    return read * largest_of(weight.dtype) * terms + rest


def _activation_code(activation: Any, sums: np.dtype) -> int:
    """Return the code of an activation, which needs sums of a real floating dtype."""
    check_activation(activation)
    if activation is not None and sums.kind != "f":
        raise TypeError(f"activation {activation!r} needs a real floating dtype, got {sums}")
    return ACTIVATIONS[activation]


def find_plan(
    input: Any, weight: Any, bias: Any, options: tuple[Any, ...], add: Any = None
) -> Plan:
    """Return the plan of a call, kept from an earlier one or made after validation.

    Arrays come from `base_array`. `options` are `Options`, or a plain tuple of the same fields,
    which is quicker to make. A plan is made of the very values that it is kept under.
    """
    options = frozen(options)
    # What is said beside it decides the layout of a contiguous input.
    layout = None
    if not input.flags.c_contiguous:
        layout = input_layout(input, weight, bias, Options(*options).data_format)
    key = (
        input.shape,
        input.dtype,
        weight.shape,
        weight.dtype,
        None if bias is None else array_key(bias),
        None if add is None else array_key(add),
        options,
        layout,
    )
    plan = _plans.get(key)
    if plan is None:
        named = Options(*options)
        layout = layout or input_layout(input, weight, bias, named.data_format)
        plan = _new_plan(input, weight, bias, named, layout, add)
        keep(_plans, key, plan)
    return plan


class AdjointPlan:
    """What the adjoint of a convolution needs beside its data.

    Parameters
    ----------
    problem : Problem
        The convolution. The adjoint reads what has the shape of its output and writes what has
        the shape of its input.
    result : dtype
        Dtype of the result.
    out_shape : tuple of int
        Shape of the result.
    layout : Layout
        Of what it reads, and of the result.
    activation : int
        Applied to the result.
    is_gradient : bool
        Whether it is a gradient: that conjugates complex weights, has no bias, and packs no weights
        for later calls.
    adds : bool
        Whether an array is added to the sums.
    """

    def __init__(
        self,
        problem: Problem,
        result: np.dtype,
        out_shape: tuple[int, ...],
        layout: Layout = CHANNELS_FIRST,
        activation: int = NONE,
        is_gradient: bool = True,
        adds: bool = False,
    ) -> None:
        s = problem.shape
        self.shape, self.batched = s, problem.batched
        self.result, self.out_shape = result, out_shape
        self.arithmetic = arithmetic(result)
        self.layout, self.activation, self.is_gradient = layout, activation, is_gradient
        self.adds = adds
        self.layout_agrees = layout.channels_last == layout.memory_last
        self.phases = find_phases(s)
        self.channels = s.groups * s.c_in
        self.multiply_adds = sum(phase.shape.flops for phase in self.phases) // 2
        elements = s.size[0] * s.size[1] * s.size[2]
        self.out_size = s.n * self.channels * elements
        self.has_gaps = sum(phase.shape.pixels for phase in self.phases) < elements
        self.by_channel = _by_channel(s.n, self.channels, elements, s.in_strides)
        self.no_bias = np.zeros(self.channels, self.arithmetic.compute)
        self.parts: Any = None  # the convolutions that the CPU engines make of the phases
        self.parts_of: dict[Any, Any] = {}  # by a backend that is asked for, and by its engines
        self.choices: dict[str, Any] = {}  # of backends, by the one that is asked for
        self.jobs: dict[Any, Any] = {}  # what the CPU engines keep of it
        self.on_devices: dict[Any, Any] = {}  # what the cuda backend keeps of it


class WeightPlan:
    """What the gradient of a convolution's weights needs beside its data.

    Parameters
    ----------
    problem : Problem
        The convolution.
    result : dtype
        Dtype of the gradient.
    out_shape : tuple of int
        Shape of the weights.
    """

    def __init__(self, problem: Problem, result: np.dtype, out_shape: tuple[int, ...]) -> None:
        self.shape, self.batched = problem.shape, problem.batched
        self.simplest = covered_map(with_fewest_axes(problem.shape))
        self.result, self.out_shape = result, out_shape
        self.arithmetic = arithmetic(result)
        self.multiply_adds = self.shape.flops // 2
        self.out_size = self.shape.weights
        self.no_bias = np.zeros(1, self.arithmetic.compute)
        self.choice: Any = None  # what ``auto`` takes
        self.layer: Any = ()  # that it is, and its engine; None: it is none
        self.jobs: dict[Any, Any] = {}  # what the CPU engines keep of it
        self.on_devices: dict[Any, Any] = {}  # what the cuda backend keeps of it


AnyPlan = Plan | AdjointPlan


def kept_plan(key: tuple[Any, ...], make: Any) -> Any:
    """Return the plan of a call, kept from an earlier one with the same key or made now."""
    plan = _adjoint_plans.get(key)
    if plan is None:
        plan = make()
        keep(_adjoint_plans, key, plan)
    return plan


def array_key(array: np.ndarray | None) -> tuple[Any, ...] | None:
    """Return what a plan depends on of an array."""
    return None if array is None else (array.shape, array.dtype)


def result_dtype(**arrays: np.ndarray | None) -> np.dtype:
    """Return the dtype that arrays promote to, after checking that each is supported."""
    given = {name: array for name, array in arrays.items() if array is not None}
    for name, array in given.items():
        check_array(name, array)
    return promoted(**{name: array.dtype for name, array in given.items()})


def frozen_options(**options: Any) -> dict[str, Any]:
    """Return options, read once, with values that can be part of a dict key."""
    return {name: freeze(name, value) for name, value in options.items()}


def frozen_sizes(name: str, sizes: Any) -> Any:
    """Return a shape, a tuple then, in a form that can be a dict key."""
    if not is_sequence(sizes):
        raise TypeError(f"{name} must be a tuple of ints, got {type(sizes).__name__}")
    return freeze(name, sizes)


def _find_backward(
    describe: Any,
    make: Any,
    rank: int,
    arrays: dict[str, Any],
    size: dict[str, Any],
    options: dict[str, Any],
) -> Any:
    """Return the plan of a call, kept from an earlier one or made after validation.

    Parameters
    ----------
    describe, make : callable
        What validates the arguments and makes a problem; the class of the plan.
    rank : int
        Number of spatial axes.
    arrays, size, options : dict
        Arrays or None; the size of the result, where it is given; what else there is, frozen.
    """

    def new() -> Any:
        result = result_dtype(**arrays)
        parts = 2 if result.kind == "c" else 1
        problem = describe(rank, **arrays, **size, **options, parts=parts)
        return make(problem, result, next(iter(size.values()), problem.out_shape))

    keys = *map(array_key, arrays.values()), *size.values(), *options.values()
    return kept_plan((describe, rank, *keys), new)


def find_input_plan(
    rank: int,
    input_size: Any,
    weight: Any,
    grad_output: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
) -> AdjointPlan:
    """Return the plan of a gradient of the input."""
    plan: AdjointPlan = _find_backward(
        input_gradient_problem,
        AdjointPlan,
        rank,
        {"weight": weight, "grad_output": grad_output},
        {"input_size": frozen_sizes("input_size", input_size)},
        frozen_options(stride=stride, padding=padding, dilation=dilation, groups=groups),
    )
    return plan


def find_weight_plan(
    rank: int,
    input: Any,
    weight_size: Any,
    grad_output: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
) -> WeightPlan:
    """Return the plan of a gradient of the weights."""
    plan: WeightPlan = _find_backward(
        weight_gradient_problem,
        WeightPlan,
        rank,
        {"input": input, "grad_output": grad_output},
        {"weight_size": frozen_sizes("weight_size", weight_size)},
        frozen_options(stride=stride, padding=padding, dilation=dilation, groups=groups),
    )
    return plan


def frozen_transposed(options: tuple[Any, ...]) -> TransposedOptions:
    """Return the options of a transposed convolution, read once, as parts of a key can be."""
    *numbers, data_format, activation = options
    check_data_format(data_format := plain_word(data_format))
    check_activation(activation := plain_word(activation))
    if not all(type(number) is int for number in numbers):
        names = TransposedOptions._fields[:5]
        numbers = [freeze(name, n) for name, n in zip(names, numbers, strict=True)]
    return TransposedOptions._make((*numbers, data_format, activation))


def find_transposed_plan(
    rank: int, input: Any, weight: Any, bias: Any, options: tuple[Any, ...], add: Any = None
) -> AdjointPlan:
    """Return the plan of a transposed convolution, kept from an earlier call or made.

    `options` are `TransposedOptions`.
    """
    check_array("input", input)
    check_array("weight", weight)
    options = frozen_transposed(options)
    # What is said beside it decides the layout of a contiguous input.
    layout = None
    if not input.flags.c_contiguous:
        layout = input_layout(input, weight, bias, options.data_format)

    def new() -> AdjointPlan:
        return _new_transposed(rank, input, weight, bias, options, layout, add)

    keys = map(array_key, (input, weight, bias, add))
    plan: AdjointPlan = kept_plan((transposed_problem, rank, *keys, options, layout), new)
    return plan


def _new_transposed(
    rank: int,
    input: Any,
    weight: Any,
    bias: Any,
    options: TransposedOptions,
    layout: Layout | None,
    add: Any,
) -> AdjointPlan:
    *numbers, data_format, activation = options
    result = result_dtype(input=input, weight=weight, bias=bias)
    layout = layout or input_layout(input, weight, bias, data_format)
    given = *numbers, layout, 2 if result.kind == "c" else 1
    problem = transposed_problem(rank, input, weight, bias, *given)
    code, shape = _activation_code(activation, result), problem.out_shape
    check_add(add, shape, result)
    adds = add is not None
    return AdjointPlan(problem, result, shape, layout, code, is_gradient=False, adds=adds)
