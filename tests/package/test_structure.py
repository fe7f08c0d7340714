"""How the source is written, and what is checked of it when it is compiled."""

from __future__ import annotations

import ast
import inspect
import pydoc
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple

import numba
import numpy as np
import pytest
from numba.core.errors import TypingError

from numbaconv.codegen import pointers
from numbaconv.codegen.arguments import Elements, Indices
from numbaconv.codegen.jit import native
from numbaconv.codegen.pointers import address_of, call, indices_at
from numbaconv.codegen.target import VECTOR_BYTES, probed_vector_unit, vector_unit
from numbaconv.cpu.activation import ActivateArguments, relu
from numbaconv.cpu.packing import lanes
from numbaconv.cpu.packing.transpose import TransposeArguments, transpose
from tests.conftest import ROOT

MOST_PARAMETERS = 12

# Functions that take more, each with its reason at the place. At most six.
EXCEPTIONS: set[str] = set()


def long_functions() -> Iterator[str]:
    for path in sorted((ROOT / "numbaconv").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, (ast.FunctionDef, ast.Lambda)):
                continue
            if len(node.args.posonlyargs) + len(node.args.args) > MOST_PARAMETERS:
                yield f"{path.relative_to(ROOT)}:{getattr(node, 'name', 'lambda')}"


def test_functions_take_few_parameters():
    assert set(long_functions()) == EXCEPTIONS
    assert len(EXCEPTIONS) <= 6


class Given(NamedTuple):
    numbers: Indices
    values: Elements
    count: int


def test_parameters_are_the_fields_of_the_arguments():
    def misses_one(numbers: Any, values: Any) -> None: ...

    def has_another_order(values: Any, numbers: Any, count: Any) -> None: ...

    for function in (misses_one, has_another_order):
        with pytest.raises(TypeError, match="does not take"):
            native(Given)(function)


def test_types_of_arguments():
    signature = native(Given).signature(numba.float32)
    i, f = numba.types.int64, numba.types.float32
    assert signature.args == (numba.types.CPointer(i), numba.types.CPointer(f), i)


def test_a_call_through_an_address():
    """What `call` compiles to is the function's own call."""

    @numba.njit
    def transposed(address: Any, source: Any, target: Any) -> None:
        rows, columns = source.shape
        arguments = TransposeArguments(
            target=address_of(target),
            target_step=rows,
            source=address_of(source),
            source_step=columns,
            rows=rows,
            columns=columns,
            lanes=VECTOR_BYTES // 8,
        )
        call(address, arguments)

    source, target = np.arange(6.0).reshape(2, 3), np.zeros((3, 2))
    transposed(transpose.address(numba.float64), source, target)
    np.testing.assert_array_equal(target, source.T)


def refusal(function: Any, *arguments: Any) -> str:
    """What Numba says that refuses to compile a function."""
    with pytest.raises((TypingError, TypeError)) as refused:
        numba.njit(function)(*arguments)
    return str(refused.value)


def test_a_wrong_arity_is_refused():
    address, a = relu.address(numba.float64), np.ones(3)

    def too_few(address: Any, a: Any) -> None:
        call(address, ActivateArguments(tile=address_of(a), row_step=0, rows=1))

    def too_many(address: Any, a: Any) -> None:
        call(address, ActivateArguments(address_of(a), 0, 1, 3, 1))

    def misspelt(address: Any, a: Any) -> None:
        call(address, ActivateArguments(address_of(a), step=0, rows=1, width=3))

    assert "missing a required argument: 'width'" in refusal(too_few, address, a)
    assert "too many positional arguments" in refusal(too_many, address, a)
    assert "missing a required argument: 'row_step'" in refusal(misspelt, address, a)


def test_a_plain_tuple_is_refused():
    def plain(address: Any, a: Any) -> None:
        call(address, (address_of(a), 0, 1, a.size))

    assert "need a class" in refusal(plain, relu.address(numba.float64), np.ones(3))


def test_a_pointer_in_the_place_of_an_integer_is_refused():
    def swapped(address: Any, a: Any) -> None:
        call(address, ActivateArguments(0, indices_at(address_of(a)), 1, a.size))

    assert "ActivateArguments.row_step" in refusal(swapped, relu.address(numba.float64), np.ones(3))


@pytest.mark.parametrize("module", [pointers, lanes], ids=lambda module: module.__name__)
def test_primitives_are_documented(module: ModuleType):
    """Each intrinsic in the place that its twin documents."""
    primitives = [
        value
        for name, value in vars(module).items()
        if hasattr(value, "__wrapped__") and not name.startswith("_")
    ]
    assert len(primitives) >= 9
    for primitive in primitives:
        assert inspect.getdoc(primitive).splitlines()[0] in pydoc.render_doc(primitive)


def test_help_of_an_intrinsic():
    assert "Copy `count` elements, at most a vector." in pydoc.render_doc(lanes.copy_lanes)


def test_registers_by_the_features_of_the_host_are_those_of_the_compiler():
    assert vector_unit() == probed_vector_unit()
