"""The cuda backend: in Numba's simulator, or on a GPU.

Without a GPU, in a process of its own and with tiny tiles:

    NUMBA_ENABLE_CUDASIM=1 python -m pytest tests/cuda

With one, the same tests and every case of the shared table:

    python -m pytest tests/cuda
    bash tests/cuda/sanitize.sh
"""

from __future__ import annotations

import os
import pickle
from typing import Any

import numpy as np
import pytest

import numbaconv as nc
from numbaconv.problem.activations import ACTIVATIONS
from tests.oracle import reference
from tests.oracle.cases import (
    BY_NAME,
    CASES,
    LARGE,
    LAST,
    Array,
    Case,
    integer_arrays,
    normal_arrays,
    problem,
)

if "cuda" not in nc.available_backends():
    pytest.skip("no CUDA device and no simulator", allow_module_level=True)

from numbaconv.cuda import convolution, cost, kernels, tiles, toolkit
from numbaconv.cuda.kind import Kind
from numbaconv.problem import plan as plans
from tests.cuda.arrays import OnDevice, result_of
from tests.cuda.minimal import UNIT, minimal

SIMULATED = toolkit.simulated()
pytestmark = pytest.mark.usefixtures("fresh_plans")

# In the simulator the whole table would take an hour; these few have something of each option.
TINY: tuple[Case, ...] = (
    problem("layer", (2, 3, 4, 5), (7, 3, 3, 3), bias=True, padding=1),
    problem("many_channels", (1, 9, 3, 4), (19, 9, 1, 1), bias=True),
    problem("groups", (2, 6, 4, 3), (10, 3, 3, 3), groups=2, padding=1, bias=True),
    problem("stride_dilation", (1, 2, 9, 8), (3, 2, 3, 2), stride=(2, 3), dilation=(3, 2)),
    problem("pairs", (1, 2, 4, 5), (3, 2, 3, 3), padding=((1, 2), (3, 0))),
    problem("unbatched", (3, 4, 5), (5, 3, 3, 3), padding="same", bias=True),
    problem("last", (2, 4, 3, 3), (5, 3, 3, 3), padding=1, bias=True, **LAST),
    problem("last_wide", (1, 2, 3, 16), (6, 8, 3, 2), groups=2, padding=1, **LAST),
    problem(
        "last_wide_reflect", (1, 3, 2, 8), (3, 8, 3, 1), padding=1, padding_mode="reflect", **LAST
    ),
    *(
        problem(
            "_".join(np.atleast_1d(mode)),
            *((1, 2, 4, 5), (3, 2, 3, 3)),
            padding=((2, 1), (0, 3)) if isinstance(mode, str) else ((1, 6), (8, 0)),
            padding_mode=mode,
        )
        for mode in (
            *("reflect", "replicate", "circular", "symmetric"),
            *(("zeros", "circular"), ("reflect", "zeros")),
        )
    ),
    problem("1d", (2, 3, 11), (5, 3, 4), padding=2, stride=2, bias=True),
    problem("1d_last", (11, 4), (5, 4, 3), padding=1, **LAST),
    problem("3d", (1, 2, 3, 4, 3), (3, 2, 2, 3, 2), padding=1, stride=(1, 2, 1), bias=True),
    problem("depthwise", (2, 2, 5, 9), (2, 1, 3, 5), groups=2, padding=1, bias=True),
    problem("depthwise_large", (1, 3, 9, 18), (3, 1, 4, 4), groups=3, padding="same"),
    problem("depthwise_stride", (1, 2, 9, 7), (2, 1, 3, 3), groups=2, padding=1, stride=2),
    problem("depthwise_twice", (1, 3, 5, 6), (6, 1, 3, 5), groups=3, padding=2, dilation=(1, 2)),
    problem("depthwise_last", (1, 5, 6, 3), (3, 1, 3, 3), groups=3, padding=1, **LAST),
    problem(
        "depthwise_reflect", (1, 2, 5, 6), (2, 1, 5, 5), groups=2, padding=2, padding_mode="reflect"
    ),
    problem("depthwise_3d", (1, 2, 3, 4, 5), (2, 1, 3, 3, 3), groups=2, padding=1, bias=True),
    problem("one_channel", (1, 1, 11, 10), (1, 1, 7, 6), padding="same"),
    problem("one_channel_1d", (1, 1, 37), (1, 1, 9), padding=4),
    problem("one_channel_many_out", (1, 1, 5, 6), (9, 1, 3, 3), padding=1),
    BY_NAME["worked_example_padded"],
    BY_NAME["one_product"],
    BY_NAME["empty_batch"],
    BY_NAME["no_input_channels_bias"],
    BY_NAME["no_output_channels"],
)
FEW = tuple(
    case
    for case in TINY
    if case.name
    in ("layer", "groups", "last_wide", "reflect", "1d", "depthwise", "depthwise_stride")
)

OTHERS: list[str] = [] if SIMULATED else ["int64", "uint8", "uint64", "complex128"]
EVERY = TINY if SIMULATED else (*TINY, *CASES)
SOME = FEW if SIMULATED else TINY


@pytest.fixture
def fresh_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep nothing of a device that a test pretends to have."""
    monkeypatch.setattr("numbaconv.problem.plan._plans", {})


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Change what is known of the device."""

    def change(**facts: Any) -> None:
        device = toolkit.device()._replace(**facts)
        monkeypatch.setattr("numbaconv.cuda.execution.device", lambda: device)

    return change


def check_equal(y: Any, x: Array, w: Array, b: Array | None, **options: Any) -> None:
    expected = reference.conv(x, w, b, **options)
    assert isinstance(y, np.ndarray)
    assert y.shape == expected.shape
    assert y.dtype == reference.result_dtype(x, w, b)
    np.testing.assert_array_equal(y, expected)


# Results.


@pytest.mark.parametrize("case", EVERY, ids=str)
def test_exact(case: Case):
    x, w, b = integer_arrays(case)
    check_equal(nc.conv(x, w, b, **case.kwargs, backend="cuda"), x, w, b, **case.kwargs)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "uint32", "complex64", *OTHERS])
@pytest.mark.parametrize("case", SOME, ids=str)
def test_exact_in_other_dtypes(case: Case, dtype: str):
    x, w, b = integer_arrays(case, dtype, 2)
    check_equal(nc.conv(x, w, b, **case.kwargs, backend="cuda"), x, w, b, **case.kwargs)


@pytest.mark.parametrize("case", SOME, ids=str)
def test_exact_on_tensor_cores(case: Case):
    """Small integers have few enough bits for tf32."""
    x, w, b = integer_arrays(case)
    y = nc.conv(x, w, b, **case.kwargs, backend="cuda", precision="tf32")
    check_equal(y, x, w, b, **case.kwargs)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64"])
@pytest.mark.parametrize("case", SOME[:2] if SIMULATED else SOME, ids=str)
def test_random_under_the_bound(case: Case, dtype: str):
    x, w, b = normal_arrays(case, dtype)
    y = nc.conv(x, w, b, **case.kwargs, backend="cuda")
    bound = reference.error_bound(x, w, b, **case.kwargs)
    assert np.all(np.abs(y - reference.conv(x, w, b, **case.kwargs)) <= bound)


@pytest.mark.parametrize("case", FEW[:3], ids=str)
def test_tf32_rounds_its_factors_and_nothing_else(case: Case):
    """Each factor to 11 significant bits, so each product to within 2**-10 or so."""
    x, w, b = normal_arrays(case)
    y = nc.conv(x, w, b, **case.kwargs, backend="cuda", precision="tf32")
    expected = reference.conv(x, w, b, **case.kwargs)
    magnitudes = (None if a is None else np.abs(a) for a in (x, w, b))
    magnitude = reference.conv(*magnitudes, **case.kwargs)
    error = np.abs(y - expected)
    assert np.all(error <= 2.0**-9 * magnitude)
    assert error.max() > 2.0**-16 * magnitude.max()  # it was not IEEE float32


def test_float16_is_added_up_in_float32():
    x = np.array([[[2048, 1, 1, 1, 60000, 60000, -60000]]], np.float16)
    y = nc.conv1d(x, np.ones((1, 1, 7), np.float16), backend="cuda")
    assert y.item() == np.float16(62048 + 3)
    two = np.concatenate((x, x), axis=1)
    y = nc.conv1d(two, np.ones((1, 2, 7), np.float16) / 2, backend="cuda")
    assert y.item() == np.float16(62048 + 3)
    y = nc.conv1d(x[..., 4:6], np.ones((1, 1, 2), np.float16), backend="cuda")
    assert y.item() == np.inf


@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if name])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("name", ["pairs", "one_channel_1d"])
def test_activations(name: str, dtype: str, activation: str):
    case = next(c for c in TINY if c.name == name)
    x, w, b = normal_arrays(case, dtype)
    y = nc.conv(x, w, b, **case.kwargs, activation=activation, backend="cuda")
    expected = nc.conv(x, w, b, **case.kwargs, activation=activation, backend="direct")
    unit = reference.unit_roundoff(np.dtype(dtype))
    bound = 2 * 1.5 * reference.error_bound(x, w, b, **case.kwargs) + 16 * unit
    assert y.dtype == dtype
    assert np.all(np.abs(y.astype("f8") - expected) <= bound)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("value", [np.inf] if SIMULATED else [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("precision", ["ieee", "tf32"])
@pytest.mark.parametrize(
    "name", ["stride_dilation", "replicate", "depthwise", "one_channel", "last_wide"]
)
def test_receptive_field_of_nan_and_infinity(name: str, precision: str, value: float):
    case = next(c for c in TINY if c.name == name)
    x, w, b = integer_arrays(case)
    for at in (0, x.size - 1):
        poisoned = x.copy()
        poisoned.flat[at] = value
        y = nc.conv(poisoned, w, b, **case.kwargs, backend="cuda", precision=precision)
        check_equal(y, poisoned, w, b, **case.kwargs)


@pytest.mark.skipif(SIMULATED, reason="too long for the simulator")
@pytest.mark.parametrize("precision", ["ieee", "tf32"])
@pytest.mark.parametrize("case", LARGE, ids=str)
def test_exact_large(case: Case, precision: str):
    x, w, b = integer_arrays(case)
    y = nc.conv(x, w, b, **case.kwargs, backend="cuda", precision=precision)
    np.testing.assert_array_equal(y, reference.conv_by_taps(x, w, b, **case.kwargs))


# How the work is cut.


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32"])
def test_split_sums(dtype: str, pretend: Any, monkeypatch: pytest.MonkeyPatch):
    """On a device with room, the sums of a small deep problem are split; the bits stay."""
    pretend(processors=64)
    monkeypatch.setattr("numbaconv.cuda.cost.LAUNCH", 0)
    case = problem("deep", (1, 301, 1, 3), (3, 301, 1, 1), bias=True)
    x, w, b = integer_arrays(case, dtype, 1 if dtype == "float16" else 3)
    y = nc.conv(x, w, b, backend="cuda")
    plan = next(iter(plans._plans.values()))
    assert next(iter(plan.on_devices.values())).splits > 1
    check_equal(y, x, w, b)
    assert nc.conv(x, w, b, backend="cuda").tobytes() == y.tobytes()
    if dtype.startswith("float"):
        y = nc.conv(x, w, b, activation="relu", backend="cuda")
        np.testing.assert_array_equal(y, np.maximum(reference.conv(x, w, b), 0))


def test_older_tensor_cores(pretend: Any):
    """Before compute capability 8.0 a multiplication takes half as many float16, and no tf32."""
    pretend(capability=(7, 5))
    case = FEW[0]
    x, w, b = integer_arrays(case, "float16", 2)
    check_equal(nc.conv(x, w, b, **case.kwargs, backend="cuda"), x, w, b, **case.kwargs)
    x, w, b = integer_arrays(case)
    with pytest.raises(nc.BackendUnavailableError, match=r"tf32.*8\.0"):
        nc.conv(x, w, b, **case.kwargs, backend="cuda", precision="tf32")


@pytest.mark.parametrize(("capability", "dtype"), [((7, 5), "float32"), ((8, 0), "tf32")])
def test_fast_is_what_the_device_has(pretend: Any, capability: tuple[int, int], dtype: str):
    pretend(capability=capability)
    case = FEW[0]
    x, w, b = integer_arrays(case)
    y = nc.conv(x, w, b, **case.kwargs, backend="cuda", precision="fast")
    check_equal(y, x, w, b, **case.kwargs)
    (plan,) = plans._plans.values()
    (conv,) = plan.on_devices.values()
    assert conv.dtype == dtype


@pytest.mark.skipif(not SIMULATED, reason="the other tests of tests/cuda execute it")
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_channels_brought_together(dtype: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "numbaconv.cuda.cost.after_bringing",
        lambda found, *others: found._replace(cycles=0.0, brought=True),
    )
    case = problem("together", (2, 8, 3, 5), (5, 8, 2, 2), bias=True)
    x, w, b = integer_arrays(case, dtype, 1)
    check_equal(nc.conv(x, w, b, backend="cuda"), x, w, b)
    (plan,) = plans._plans.values()
    (conv,) = plan.on_devices.values()
    assert conv.transposition is not None


MINIMAL = (
    problem("layer", (2, 3, 5, 4), (6, 3, 3, 3), bias=True, padding=1),
    problem("groups", (1, 4, 4, 7), (6, 2, 3, 3), groups=2, padding=((0, 2), (2, 1))),
    problem("last", (1, 4, 5, 4), (5, 4, 3, 3), bias=True, padding=1, **LAST),
    problem("1d", (2, 3, 9), (5, 3, 3), bias=True, padding=2),
)


@pytest.mark.parametrize("case", MINIMAL, ids=str)
def test_winograd(case: Case):
    """Its matrices for two outputs have halves: weights that are multiples of 4 are exact."""
    x, w, b = integer_arrays(case)
    w = 4 * w
    options = case.kwargs | {"backend": "cuda", "precision": "fast"}
    with minimal(2):
        check_equal(nc.conv(x, w, b, **options), x, w, b, **case.kwargs)
        layer = nc.prepare(w, b, **options)
        for _ in range(2):
            check_equal(result_of(layer(OnDevice(x))), x, w, b, **case.kwargs)
        assert len(layer.weights.packed) == 1
        check_equal(nc.prepare(w, b, **options | {"precision": "ieee"})(x), x, w, b, **case.kwargs)
    (conv,) = (
        conv
        for plan in plans._plans.values()
        for (_, precision), conv in plan.on_devices.items()
        if precision == "fast"
    )
    assert conv.at_points is not None


@pytest.mark.parametrize("outputs", [2, 4])
@pytest.mark.parametrize("case", MINIMAL[:1] if SIMULATED else MINIMAL, ids=str)
def test_winograd_under_the_bound(case: Case, outputs: int):
    x, w, b = normal_arrays(case)
    with minimal(outputs):
        y = nc.conv(x, w, b, **case.kwargs, activation="gelu", backend="cuda", precision="fast")
    expected = nc.conv(
        *(a.astype("f8") for a in (x, w, b)), **case.kwargs, activation="gelu", backend="direct"
    )
    sums = reference.conv(x, w, b, **case.kwargs)
    assert 0 < np.abs(y - expected).max() <= 1.2 * UNIT * np.abs(sums).max()


@pytest.mark.skipif(not SIMULATED, reason="the other tests of tests/cuda execute it")
@pytest.mark.parametrize(("dtype", "precision"), [("float16", None), ("float32", "tf32")])
def test_warpgroups(dtype: str, precision: str | None, monkeypatch: pytest.MonkeyPatch):
    """Four warps multiply together, and tf32 is rounded in shared memory."""
    found = cost.Prediction(tiles.Plan(tiles.TINY_GROUPED, 1), 1.0, 1.0)
    monkeypatch.setattr(cost, "choose", lambda *arguments: found)
    case = problem("together", (2, 8, 3, 5), (67, 8, 2, 2), bias=True)
    x, w, b = integer_arrays(case, dtype, 1)
    given, rounded = (x * (1 + 2.0**-11), x * (1 + 2.0**-10)) if precision else (x, x)
    last = np.ascontiguousarray(np.moveaxis(given.astype(dtype), 1, -1))
    options = {"data_format": "channels_last", "precision": precision, "backend": "cuda"}
    y = nc.conv(last, w, b, **options)
    check_equal(np.moveaxis(y, -1, 1), rounded.astype(dtype), w, b)
    (plan,) = plans._plans.values()
    (conv,) = plan.on_devices.values()
    assert conv.kernel.source.threads == tiles.TINY_GROUPED.threads


def shape_of(case: Case) -> Any:
    return nc.explain(*(a for a in integer_arrays(case)[:2]), **case.kwargs).shape


@pytest.mark.parametrize(
    "group", [tiles.SIMT, tiles.SIMT_DOUBLE, tiles.TENSOR, tiles.GROUPED, tiles.TINY]
)
def test_tiles_fit(group: Any):
    """What the kernels take for granted of a tile."""
    for tile in group:
        itemsize = 8 if group is tiles.SIMT_DOUBLE else 4
        words = 16 // itemsize
        assert tile.shared_bytes(itemsize) <= tiles.SHARED_BYTES
        assert tile.threads % tile.bn == 0
        assert tile.threads <= (384 if tile.together > 1 else 256)
        assert tile.bk % words == 0
        assert tile.bk // words * tile.bn % tile.threads == 0
        buffers = 2
        if tile.together > 1:
            assert tile.bm % (4 * tile.m) == tile.m % 16 == tile.n % 8 == tile.bk % 8 == 0
            rows, buffers = 16, Kind(tile, "float16", wide=True).stages
        elif tile.tensor:
            assert tile.m % 16 == tile.n % 16 == tile.bk % 8 == 0
            rows = tile.bm // tile.m * 8
        else:
            assert tile.m % words == tile.n % words == 0
            rows = tile.bm // tile.m
        # A slice of the sums lies where all buffers of both tiles were, which are two at least.
        assert rows * (tile.bn + words) <= buffers * sum(tile.sizes(words))


def test_problems_too_large_are_refused():
    x = np.lib.stride_tricks.as_strided(np.zeros(1, np.int8), (1, 2, 2**31, 1), (0, 0, 0, 0))
    plan = nc.explain(x, np.zeros((1, 2, 1, 1), np.int8))
    reason = convolution.refusal(plan.shape)
    assert reason is not None
    assert str(2**32) in reason
    plan = nc.explain(np.zeros((1, 1, 9)), np.ones((1, 1, 1)), padding=2**30, stride=2**29)
    reason = convolution.refusal(plan.shape)
    assert reason is not None
    assert f"reach over {2**31} elements" in reason


# Arrays on the device.


@pytest.mark.parametrize("dtype", ["float16", "float32", "complex64", "uint8"])
@pytest.mark.parametrize("case", SOME, ids=str)
def test_arrays_on_the_device(case: Case, dtype: str):
    x, w, b = integer_arrays(case, dtype, 2)
    there = [None if a is None else OnDevice(a) for a in (x, w, b)]
    check_equal(result_of(nc.conv(*there, **case.kwargs)), x, w, b, **case.kwargs)
    out = OnDevice(np.full(case.output, 9, dtype))
    assert nc.conv(*there, **case.kwargs, out=out, backend="cuda") is out
    check_equal(np.asarray(out.get()), x, w, b, **case.kwargs)


LAYOUTS = {
    "reversed": lambda a: np.ascontiguousarray(a[..., ::-1])[..., ::-1],
    "fortran": np.asfortranarray,
    "spread": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "channels_inside": lambda a: np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_device_arrays_of_any_strides(layout: str, dtype: str):
    case = problem("strides", (2, 4, 4, 5), (3, 4, 3, 3), padding=1)
    x, w, _ = integer_arrays(case, dtype)
    x, w = LAYOUTS[layout](x), LAYOUTS[layout](w)
    out = OnDevice(LAYOUTS[layout](np.zeros(case.output, dtype)))
    nc.conv(OnDevice(x), OnDevice(w), padding=1, out=out)
    check_equal(np.array(out.get()), x, w, None, padding=1)


def test_device_arrays_promote():
    case = TINY[0]
    for types in (("int8", "float32", "float16"), ("float32", "complex64", "float32")):
        x, w, b = (integer_arrays(case, t, 2)[i] for i, t in enumerate(types))
        y = nc.conv(OnDevice(x), OnDevice(w), OnDevice(b), **case.kwargs)
        check_equal(result_of(y), x, w, b, **case.kwargs)


def test_a_result_is_an_argument():
    x, w, _ = integer_arrays(problem("chain", (1, 3, 5, 5), (3, 3, 3, 3)))
    w_there = OnDevice(w)
    y = nc.conv2d(nc.conv2d(OnDevice(x), w_there), w_there)
    check_equal(result_of(y), reference.conv(x, w).astype("f4"), w, None)


def test_mixed_arrays_are_refused():
    x, w, b = integer_arrays(TINY[0])
    out = np.empty(TINY[0].output, "f4")
    mixed = [
        {"input": OnDevice(x), "weight": w},
        {"input": x, "weight": OnDevice(w)},
        {"input": x, "weight": w, "bias": OnDevice(b)},
        {"input": OnDevice(x), "weight": OnDevice(w), "bias": b},
        {"input": OnDevice(x), "weight": OnDevice(w), "out": out},
        {"input": x, "weight": w, "out": OnDevice(out)},
    ]
    for arrays in mixed:
        with pytest.raises(TypeError) as refusal:
            nc.conv(**arrays, padding=1)
        there = [name for name, array in arrays.items() if isinstance(array, OnDevice)]
        assert all(name in str(refusal.value) for name in there)
        assert "GPU" in str(refusal.value)
        assert "host" in str(refusal.value)


@pytest.mark.parametrize("backend", ["direct", "im2col"])
def test_cpu_backends_refuse_device_arrays(backend: str):
    x, w, _ = integer_arrays(TINY[0])
    for call in (nc.conv2d, nc.explain):
        with pytest.raises(TypeError, match=rf"GPU.*{backend}.*CPU"):
            call(OnDevice(x), OnDevice(w), backend=backend)
    with nc.use_backend(backend), pytest.raises(TypeError, match="use_backend"):
        nc.conv2d(OnDevice(x), OnDevice(w))
    with pytest.raises(TypeError, match=rf"GPU.*{backend}"):
        nc.prepare(w, backend=backend)(OnDevice(x))


def test_auto_takes_the_device_for_its_arrays_alone():
    x, w, _ = integer_arrays(TINY[0])
    assert nc.explain(OnDevice(x), OnDevice(w)).backend == "cuda"
    assert nc.explain(x, w).backend != "cuda"


def test_device_arrays_are_validated_as_any():
    x, w, b = integer_arrays(TINY[0])
    with pytest.raises(ValueError, match="input channels"):
        nc.conv2d(OnDevice(x), OnDevice(w[:, :2].copy()))
    with pytest.raises(TypeError, match="bool"):
        nc.conv2d(OnDevice(x > 0), OnDevice(w > 0))
    with pytest.raises(ValueError, match="bias"):
        nc.conv2d(OnDevice(x), OnDevice(w), OnDevice(b[:2].copy()))
    inside = OnDevice(np.zeros((2, 7, 4, 5), "f4"))
    with pytest.raises(ValueError, match=r"out overlaps input"):
        nc.conv2d(inside, OnDevice(np.ones((7, 7, 1, 1), "f4")), out=inside)
    swapped = OnDevice(x)
    swapped.__cuda_array_interface__ = dict(swapped.__cuda_array_interface__, typestr=">f4")
    with pytest.raises(TypeError, match="byte order"):
        nc.conv2d(swapped, OnDevice(w))


# Prepared layers.


@pytest.mark.parametrize("dtype", ["float16", "float32", "complex64"])
@pytest.mark.parametrize("case", FEW[1:], ids=str)
def test_prepared_layers(case: Case, dtype: str):
    x, w, b = integer_arrays(case, dtype, 2)
    layer = nc.prepare(w, b, **case.kwargs, backend="cuda")
    check_equal(layer(x), x, w, b, **case.kwargs)
    kept = list(layer.weights.packed.values())
    check_equal(result_of(layer(OnDevice(x))), x, w, b, **case.kwargs)
    assert list(layer.weights.packed.values()) == kept  # on the device since the first call
    out = OnDevice(np.zeros(case.output, dtype))
    assert layer(OnDevice(x), out=out) is out
    check_equal(np.asarray(out.get()), x, w, b, **case.kwargs)
    check_equal(pickle.loads(pickle.dumps(layer))(x), x, w, b, **case.kwargs)


def test_prepared_from_device_arrays():
    x, w, b = integer_arrays(TINY[0])
    layer = nc.prepare(OnDevice(w), OnDevice(b), padding=1)
    check_equal(layer(x), x, w, b, padding=1)
    check_equal(result_of(layer(OnDevice(x))), x, w, b, padding=1)
    layer.update(OnDevice(w + 1))
    check_equal(result_of(layer(OnDevice(x))), x, w + 1, None, padding=1)


# Keywords.


def test_precision_by_the_environment(monkeypatch: pytest.MonkeyPatch):
    x, w, _ = normal_arrays(TINY[0])
    monkeypatch.setenv("NUMBACONV_PRECISION", "TF32")
    rounded = nc.conv2d(x, w, backend="cuda")
    exact = nc.conv2d(x, w, backend="cuda", precision="ieee")
    assert np.any(rounded != exact)
    np.testing.assert_array_equal(rounded, nc.conv2d(x, w, backend="cuda", precision="tf32"))
    nc.conv2d(x, w, backend="direct")  # which has better than that
    monkeypatch.setenv("NUMBACONV_PRECISION", "float8")
    with pytest.raises(ValueError, match=r"NUMBACONV_PRECISION.*ieee, tf32, fast"):
        nc.conv2d(x, w, backend="cuda")


@pytest.mark.skipif(SIMULATED, reason="the simulator has no streams")
def test_streams():
    from numba import cuda

    x, w, b = integer_arrays(TINY[0])
    stream = cuda.stream()
    for given in (stream, int(stream), 0, 1, 2):
        check_equal(nc.conv2d(x, w, b, backend="cuda", stream=given), x, w, b)
        y = nc.conv2d(OnDevice(x), OnDevice(w), OnDevice(b), stream=given)
        cuda.synchronize()
        check_equal(result_of(y), x, w, b)
    with pytest.raises(TypeError, match="stream"):
        nc.conv2d(x, w, backend="cuda", stream="fast")


# Failures.


def test_out_of_memory_is_a_memory_error(monkeypatch: pytest.MonkeyPatch):
    x, w, b = integer_arrays(TINY[0])

    def full(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError("[CUresult.CUDA_ERROR_OUT_OF_MEMORY] Call to cuMemAlloc failed")

    with monkeypatch.context() as patch:
        patch.setattr("numba.cuda.device_array", full)
        with pytest.raises(MemoryError, match=r"\d+ bytes"):
            nc.conv2d(x, w, b, backend="cuda")
    check_equal(nc.conv2d(x, w, b, backend="cuda"), x, w, b)


def test_a_launch_that_fails_names_the_kernel_and_the_problem(monkeypatch: pytest.MonkeyPatch):
    x, w, b = integer_arrays(TINY[0])

    def fail(*arguments: Any) -> Any:
        raise RuntimeError("CUDA_ERROR_INVALID_VALUE")

    with monkeypatch.context() as patch:
        patch.setattr(kernels.Kernel, "launch", fail)
        with pytest.raises(RuntimeError) as failure:
            nc.conv2d(x, w, b, backend="cuda")
    for word in ("product", "Tile", "kernel=(1, 3, 3)", "blocks", "INVALID_VALUE"):
        assert word in str(failure.value)


def test_says_what_there_is(capsys: pytest.CaptureFixture[str]):
    nc.show_config()
    text = capsys.readouterr().out
    assert toolkit.package_version() in text
    assert toolkit.device().name in text
    assert os.environ.get("NUMBA_ENABLE_CUDASIM") != "1" or "simulator" in text
