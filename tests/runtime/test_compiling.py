"""How kernels are compiled: how much for a first call, into what, and what the process notices."""

from __future__ import annotations

import ctypes
import gc
import itertools
import operator
import re
from typing import NamedTuple

import numpy as np
import pytest
from numba import types
from numba.core import cgutils, config
from numba.core.registry import cpu_target

from numbaconv.codegen import jit, objects, pipeline
from numbaconv.codegen.arguments import Elements
from numbaconv.codegen.jit import inline, native
from numbaconv.codegen.twins import emitted
from numbaconv.cpu.microkernels import matrix
from tests.conftest import Script

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")

COUNT = """
import numpy as np
import numbaconv as nc
from numba.core.codegen import CodeLibrary
from numbaconv.codegen import jit, pipeline

lowered, emitted, kernels = [], [], []
make, compile_lean = CodeLibrary.__init__, jit.compile_lean

def count(self, codegen, name):
    (lowered if isinstance(self, pipeline.IRLibrary) else emitted).append(name)
    make(self, codegen, name)

def keep(function, signature, symbol, *optimise):
    code = compile_lean(function, signature, symbol, *optimise)
    kernels.append((symbol, code))
    return code

CodeLibrary.__init__, jit.compile_lean = count, keep
y = nc.conv2d(np.ones((1, 3, 64, 64), np.float32), np.ones((8, 3, 3, 3), np.float32))
assert (y == 27).all()
print(len(kernels), len(lowered), len(emitted), sum(len(code) for _, code in kernels))
for symbol, code in kernels:
    for name in (b"Py", b"NRT_", b"numba_"):
        assert name not in code, (symbol, name)
"""


def test_what_a_first_call_compiles(run_script: Script, tmp_path):
    """No more than this: each function costs every user's first call. Objects know no Python."""
    variables = {"NUMBA_CACHE_DIR": str(tmp_path), "NUMBACONV_BUILT_AHEAD": "0"}
    output = run_script("-c", COUNT, **variables).stdout
    kernels, functions, by_numba, size = map(int, output.split())
    assert 1 <= kernels <= 10
    assert functions <= 82
    assert by_numba <= 10  # the parallel region, or in its place two kernels for teams of OpenMP
    assert size <= 130_000  # AVX-512 unrolls more than AVX2, whose objects have 60,000 bytes


NUMBERS = (types.int64, types.uint8, types.float32, types.float64, types.boolean)


@pytest.mark.parametrize("of", [operator.add, operator.floordiv, operator.lt, operator.neg, bool])
def test_operators_of_numbers_are_remembered_as_numba_types_them(of):
    context = cpu_target.typing_context
    context.refresh()
    function, arguments = context.resolve_value_type(of), 1 if of in (operator.neg, bool) else 2
    remembering = pipeline._Remembering(context)
    for kinds in itertools.product(NUMBERS, repeat=arguments):
        wanted = context.resolve_function_type(function, kinds, {})
        for _ in range(2):  # looked up, and remembered
            assert remembering.resolve_function_type(function, kinds, {}) == wanted


@inline
def double(x):
    return 2 * x


def _one_integer(dtype):
    return dtype(dtype)


def _make() -> native:
    @native(_one_integer)
    def doubles(x):
        """Helpers become part of it."""
        return double(double(x)) + double(1)

    return doubles


def _call(address: int, x: int) -> int:
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(address)(x)


def test_helpers_become_part_of_a_kernel():
    assert _call(_make().address(types.int64), 3) == 14


def test_two_objects_of_one_name():
    """Each is linked by itself."""
    signature = types.int64(types.int64)
    codes = [pipeline.compile_lean(each, signature, "same.name") for each in (_plus, _minus)]
    addresses = [objects._link("same.name", code) for code in codes]
    assert [_call(address, 5) for address in addresses] == [6, 4]


def _plus(x):
    return x + 1


def _minus(x):
    return x - 1


class PolynomialArguments(NamedTuple):
    x: Elements
    y: Elements
    count: int


def _emit_polynomial(builder, dtype, o):
    """y[i] = x[i] * x[i] + y[i]."""
    with cgutils.for_range(builder, o.count) as loop:
        x = builder.load(builder.gep(o.x, [loop.index]))
        place = builder.gep(o.y, [loop.index])
        builder.store(builder.fma(x, x, builder.load(place)), place)


def _compiled(function: native, optimise: pipeline.Optimisation) -> tuple[str, bytes, str]:
    """The symbol of a function for float32, its object, and its IR after LLVM's passes."""
    texts = []

    def watch(module, machine):
        optimise(module, machine)
        texts.append(str(module))

    kernel = function.kernel(types.float32)
    code = pipeline.compile_lean(function._source(), kernel.signature, kernel.symbol, watch)
    return kernel.symbol, code, texts[0]


def _calls(text: str) -> list[str]:
    return re.findall(r"call .*@(?!llvm\.)", text)


def test_tidy_takes_away_what_numba_wraps_around():
    """Calls, and memory for variables; what is computed stays."""

    @emitted(PolynomialArguments, _emit_polynomial)
    def polynomial(arguments):
        """Nobody calls it without the compiler."""

    numbers = np.random.default_rng(0).standard_normal((2, 37)).astype(np.float32)
    numbers[0, :4] = np.inf, np.nan, -0.0, 1e30
    results = []
    for optimise in (lambda module, machine: None, pipeline.tidy, pipeline._optimise):
        symbol, code, text = _compiled(polynomial, optimise)
        x, y = numbers.copy()
        function = ctypes.CFUNCTYPE(None, *3 * [ctypes.c_int64])
        function(objects._link(symbol, code))(x.ctypes.data, y.ctypes.data, x.size)
        results.append((y.tobytes(), "alloca" in text or bool(_calls(text))))
    assert results == [(results[0][0], True), (results[0][0], False), (results[0][0], False)]
    assert results[0][0] != numbers[1].tobytes()


def test_a_tidied_register_tile_calls_nothing():
    """Its loops are as they were emitted, in one function."""
    *_, text = _compiled(matrix.tile, pipeline.tidy)
    assert text.count("\ndefine ") == 1
    assert not _calls(text)
    assert "alloca" not in text


@pytest.mark.parametrize("on", [True, False])
def test_the_collector_is_as_it_was(on: bool):
    was = gc.isenabled()
    (gc.enable if on else gc.disable)()
    try:
        assert jit.on_large_stack(gc.isenabled) is False
        assert gc.isenabled() is on
        with pytest.raises(ZeroDivisionError):
            jit.on_large_stack(lambda: 1 // 0)
        assert gc.isenabled() is on
    finally:
        (gc.enable if was else gc.disable)()


def test_frozen_objects_stay_frozen():
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        jit.on_large_stack(list)
        assert gc.get_freeze_count() >= frozen > 0
    finally:
        gc.unfreeze()
