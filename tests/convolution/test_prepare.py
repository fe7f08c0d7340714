"""Prepared layers: the bits of a plain call, without packing the weights each time."""

from __future__ import annotations

import gc
import pickle
import threading
import weakref
from typing import Any

import numba
import numpy as np
import pytest

import numbaconv as nc
from numbaconv.cpu import job, ready
from numbaconv.cpu.job import AT
from tests.conftest import thinned
from tests.oracle import reference
from tests.oracle.cases import (
    BY_NAME,
    CASES,
    LARGE,
    REDUCED,
    Array,
    Case,
    integer_arrays,
    normal_arrays,
)
from tests.oracle.layouts import LAYOUTS, unaligned


def check(y: Array, x: Array, w: Array, b: Array | None, **options: Any) -> None:
    assert y.dtype == reference.result_dtype(x, w, b)
    np.testing.assert_array_equal(y, reference.conv(x, w, b, **options))


@pytest.mark.parametrize("case", thinned(CASES, 2), ids=str)
def test_exact_each_time(case: Case, backend: str):
    x, w, b = integer_arrays(case)
    layer = nc.prepare(w, b, **case.kwargs, backend=backend)
    first, second = layer(x), layer(x)
    check(first, x, w, b, **case.kwargs)
    assert first.tobytes() == second.tobytes()
    assert not np.shares_memory(first, second)
    out = np.full(case.output, np.nan, np.float32)
    assert layer(x, out=out) is out
    np.testing.assert_array_equal(out, first)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "complex64", "int16"])
@pytest.mark.parametrize("case", REDUCED, ids=str)
def test_same_bits_as_a_plain_call(case: Case, dtype: str, backend: str):
    x, w, b = (normal_arrays if dtype != "int16" else integer_arrays)(case, dtype)
    plain = nc.conv(x, w, b, **case.kwargs, backend=backend)
    layer = nc.prepare(w, b, **case.kwargs, backend=backend)
    assert layer(x).tobytes() == plain.tobytes() == layer(x).tobytes()


@pytest.mark.parametrize("case", LARGE, ids=str)
def test_same_bits_large(case: Case, backend: str):
    x, w, b = normal_arrays(case)
    plain = nc.conv(x, w, b, **case.kwargs, backend=backend)
    assert nc.prepare(w, b, **case.kwargs, backend=backend)(x).tobytes() == plain.tobytes()


def test_one_layer_for_inputs_of_every_kind(backend: str):
    """Shapes, batches, dtypes and memory orders in turn, each more than once."""
    _, w, b = integer_arrays(BY_NAME["bias"])
    layer = nc.prepare(w, b, padding=1, backend=backend)
    rng = np.random.default_rng(0)
    inputs = [
        rng.integers(-4, 4, (*batch, 5, *size)).astype(dtype)
        for dtype in ("float32", "float64", ">f4", "int8", "complex64", "float16")
        for size in ((3, 3), (7, 11), (11, 7), (1, 29))
        for batch in ((), (1,), (3,))
    ]
    for x in inputs + inputs[::-1]:
        check(layer(x), x, w, b, padding=1)


@pytest.mark.parametrize("sizes", [(3, 9), (9, 3)])
def test_a_map_as_large_as_the_window_and_a_larger_one(sizes: tuple[int, int], backend: str):
    """The first is one product over all elements, whose weights are packed in another order."""
    draw = np.random.default_rng(3)
    w = draw.integers(-4, 5, (8, 5, 3, 3)).astype(np.float32)
    layer = nc.prepare(w, backend=backend)
    for size in (*sizes, *sizes):
        x = draw.integers(-4, 5, (2, 5, size, size)).astype(np.float32)
        check(layer(x), x, w, None)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_operands_of_any_layout(layout: str, backend: str):
    x, w, b = (
        LAYOUTS[layout](a) for a in integer_arrays(BY_NAME["groups_3_bias"]) if a is not None
    )
    layer = nc.prepare(w, b, groups=3, padding=1, backend=backend)
    check(layer(x), x, w, b, groups=3, padding=1)
    contiguous = np.ascontiguousarray(x, x.dtype.newbyteorder("="))
    check(layer(contiguous), x, w, b, groups=3, padding=1)


@pytest.mark.parametrize("case", REDUCED, ids=str)
def test_weights_are_a_copy_until_updated(case: Case, backend: str):
    x, w, b = integer_arrays(case)
    kept = w.copy()
    layer = nc.prepare(w, b, **case.kwargs, backend=backend)
    w *= 2
    check(layer(x), x, kept, b, **case.kwargs)
    w += 1
    check(layer(x), x, kept, b, **case.kwargs)
    layer.update(w, b)
    check(layer(x), x, w, b, **case.kwargs)
    layer.update(w)
    check(layer(x), x, w, None, **case.kwargs)
    layer.update(w.astype(np.float64), b)
    check(layer(x), x, w.astype(np.float64), b, **case.kwargs)


def test_activation(backend: str):
    x, w, b = integer_arrays(BY_NAME["bias"])
    y = nc.prepare(w, b, activation="relu", backend=backend)(x)
    np.testing.assert_array_equal(y, np.maximum(reference.conv(x, w, b), 0))


@pytest.mark.parametrize("case", REDUCED, ids=str)
def test_pickled_layers_compute_the_same(case: Case, backend: str):
    x, w, b = normal_arrays(case)
    layer = nc.prepare(w, b, **case.kwargs, backend=backend)
    unused = pickle.loads(pickle.dumps(layer))
    y = layer(x)
    used = pickle.loads(pickle.dumps(layer))
    assert unused(x).tobytes() == used(x).tobytes() == y.tobytes()


def test_called_by_several_threads_at_once(backend: str):
    """The first calls, which pack and plan, among them."""
    _, w, b = integer_arrays(BY_NAME["bias"])
    sizes = [(5 + i, 31 - i) for i in range(6)]
    inputs = [
        np.random.default_rng(i).integers(-4, 4, (1, 5, *s)).astype("f4")
        for i, s in enumerate(sizes)
    ]
    expected = [reference.conv(x, w, b, padding=1) for x in inputs]
    for _ in range(5):
        layer = nc.prepare(w, b, padding=1, backend=backend)
        start, wrong = threading.Barrier(6), []

        def work(seed: int, layer: Any = layer, start: Any = start, wrong: Any = wrong) -> None:
            start.wait(60)
            for step in range(30):
                i = (seed * step) % len(inputs)
                if not np.array_equal(layer(inputs[i]), expected[i]):
                    wrong.append(i)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


def test_each_call_is_dispatched_unless_the_layer_says(monkeypatch: pytest.MonkeyPatch):
    x, w, b = integer_arrays(BY_NAME["bias"])
    anywhere, here = nc.prepare(w, b), nc.prepare(w, b, backend="DIRECT")
    for name in ("im2col", "direct", "im2col"):
        with nc.use_backend(name):
            check(anywhere(x), x, w, b)
    monkeypatch.setenv("NUMBACONV_BACKEND", "nonsense")
    check(here(x), x, w, b)
    with pytest.raises(ValueError, match="NUMBACONV_BACKEND"):
        anywhere(x)


def test_memory_of_every_kind_in_turn(backend: str):
    """Of one shape and dtype: some can be read where it lies, some not."""
    x, w, b = integer_arrays(BY_NAME["bias"])
    layer = nc.prepare(w, b, backend=backend)
    inputs = [x, unaligned(x), np.asfortranarray(x), x[..., ::-1], x.astype(">f4"), x.copy()]
    inputs[-1].flags.writeable = False
    for each in inputs + inputs[::-1]:
        check(layer(each), each, w, b)


def test_every_call_checks_out(backend: str):
    """Those too that follow a call which has found all else."""
    draw = np.random.default_rng(0).integers
    memory = draw(-4, 4, 2 * 5 * 9 * 9).astype("f4")
    x, w = memory[: 5 * 9 * 9].reshape(1, 5, 9, 9), draw(-4, 4, (5, 5, 1, 1)).astype("f4")
    layer, expected = nc.prepare(w, backend=backend), reference.conv(x, w)
    for out in (
        np.empty_like(x),
        np.empty((1, 5, 9, 18), "f4")[..., ::2],
        memory[405:].reshape(x.shape),
    ):
        for _ in range(2):
            out[...] = np.nan
            assert layer(x, out=out) is out
            np.testing.assert_array_equal(out, expected)
    fixed = np.empty_like(x)
    fixed.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        layer(x, out=fixed)
    for out in (x, memory[100:505].reshape(x.shape)):
        with pytest.raises(ValueError, match="out overlaps input"):
            layer(x, out=out)
    with pytest.raises(TypeError, match="out has dtype"):
        layer(x, out=np.empty(x.shape))
    with pytest.raises(ValueError, match="out has shape"):
        layer(x, out=np.empty((1, 5, 9, 8), "f4"))


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="threads are of compiled code")
def test_each_call_follows_the_limit_of_threads(monkeypatch: pytest.MonkeyPatch):
    x, w = np.ones((1, 16, 40, 40), np.float32), np.ones((16, 16, 3, 3), np.float32)
    layer, launched = nc.prepare(w), []
    before = numba.get_num_threads()
    with monkeypatch.context() as patch:
        run = job.run_given
        patch.setattr(ready, "run_given", lambda *a: (launched.append(a[1]), run(*a)))
        try:
            for limit in (before, 1, before, 1):
                numba.set_num_threads(limit)
                check(layer(x), x, w, None)
        finally:
            numba.set_num_threads(before)
    assert launched == [before, 1, before, 1]


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="jobs have the addresses of tables")
def test_a_layer_keeps_the_tables_of_its_jobs():
    """Two threads that plan at once make two templates of a job, of which the plan keeps one."""
    x, w = np.ones((1, 17, 41, 39), np.float32), np.ones((16, 17, 3, 3), np.float32)
    layer = nc.prepare(w)
    layer(x)
    jobs = layer.plan(x, layer.weights).jobs
    tables = [weakref.ref(template.table) for template in jobs.values()]
    jobs.clear()
    gc.collect()
    assert tables
    assert all(table() is not None for table in tables)
    check(layer(x), x, w, None)


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="threads are of compiled code")
def test_a_call_that_packs_on_several_threads_launches_so_many(monkeypatch: pytest.MonkeyPatch):
    """Its sums may be a single task; a threading layer may still want one launch at a time."""
    monkeypatch.setattr("numbaconv.runtime.threads.SERIAL_LIMIT", 0)
    monkeypatch.setattr("numbaconv.problem.plan._plans", {})
    x, w = np.ones((1, 8, 5, 5), np.float32), np.ones((8, 8, 3, 3), np.float32)
    launched, run = [], job.run_given
    monkeypatch.setattr(job, "run_given", lambda *a: (launched.append(a[1]), run(*a)))
    layer = nc.prepare(w, backend="im2col")
    layer(x)
    (template,) = layer.plan(x, layer.weights).jobs.values()
    if template.job[AT.pack_workers] == 1:
        pytest.skip("there is one thread")
    assert template.job[AT.workers] == 1
    nc.conv2d(x, w, backend="im2col")
    assert launched[-1] == template.job[AT.pack_workers] > 1


def test_bad_out_is_refused(backend: str):
    x, w, b = integer_arrays(BY_NAME["bias"])
    layer = nc.prepare(w, b, backend=backend)
    for out in (np.empty((1, 7, 25, 34), "f4"), np.empty((1, 7, 25, 35)), x, "out"):
        with pytest.raises((TypeError, ValueError), match=r"\bout\b"):
            layer(x, out=out)


def test_says_what_it_is():
    text = repr(nc.prepare(np.ones((6, 4, 3, 3), np.float32), stride=(2, 1), padding="same"))
    for part in ("(6, 4, 3, 3)", "float32", "(2, 1)", "same"):
        assert part in text


@pytest.mark.parametrize(
    ("kind", "maker"),
    [(nc.PreparedConv, "prepare"), (nc.PreparedTransposedConv, "prepare_transposed")],
)
def test_says_who_makes_it(kind: type, maker: str):
    for arguments, options in (((), {}), ((np.ones((1, 1, 3, 3)),), {"padding": 1})):
        with pytest.raises(TypeError, match=rf"{kind.__name__} is made by numbaconv\.{maker}$"):
            kind(*arguments, **options)
